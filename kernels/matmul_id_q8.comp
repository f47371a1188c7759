#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef PACKED
#extension GL_EXT_integer_dot_product : require
#endif
/* Projection by the matrix that each slot selects, of inputs rounded to 8 bits.
 * Group: lx output rows (x) of one slot (y); an invocation owns one row.
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out]. Args: ds4_args_matmul_id.
 * Rounding and sums: q8_dot.glsl. Shapes: n_in a multiple of the weight's block length. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul_id)
#define AT 1
#include "q8_dot.glsl"

void main() {
    w_begin();
    uint r = UNIT_X, s = GROUP_Y;
    uint row = (sel[s] * a.n_out + r) * a.row_bytes, at = (a.x_per_slot != 0u ? s : s / a.n_slot) * a.n_in;
    float v = q8_dot(row, r < a.n_out, uvec4(at), 1u, a.n_in).x;
    if (r < a.n_out) y[s * a.n_out + r] = fz(v);
}
