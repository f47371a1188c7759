#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by the weight matrix that each slot selects (routed experts).
 * Group: lx output rows (x) of one slot (y); one invocation per output.
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out]. Args: ds4_args_matmul_id.
 * Sums: as matmul. Shapes: n_in a multiple of the weight's block length. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul_id)
#define MAX_AT 1
#include "matmul_strict.glsl"

void main() {
    w_begin();
    uint r = UNIT_X, s = UNIT_Y;
    if (r >= a.n_out || s >= a.n_tok * a.n_slot) return;
    uint row = (sel[s] * a.n_out + r) * a.row_bytes;
    uint at = (a.x_per_slot != 0u ? s : s / a.n_slot) * a.n_in;
    y[s * a.n_out + r] = fz(strict_dot(row, uvec4(at), a.n_in, 1u).x);
}
