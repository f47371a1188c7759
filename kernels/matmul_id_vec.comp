#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by the matrix that each slot selects, the inputs of a row spread over lanes.
 * Group: ROWS ly output rows (x) of one slot (y): lx lanes over half blocks, ly sets of rows.
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out]. Args: ds4_args_matmul_id.
 * Sums: tile_dot.glsl, a share per lane, then lane_dot.glsl. HALF: both operands rounded to f16.
 * Shapes: n_in a multiple of the weight's block length. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul_id)
#define ROWS 4
#define MAX_AT 1
#include "tile_dot.glsl"
#include "lane_dot.glsl"

void main() {
    w_begin();
    uint s = GROUP_Y, r0 = GROUP_X * lane_rows();
    uint r = r0 + ROWS * gl_LocalInvocationID.y;
    uint in_row = a.x_per_slot != 0u ? s : s / a.n_slot;
    if (r < a.n_out) {
        uvec4 row = (sel[s] * a.n_out + min(r + uvec4(0, 1, 2, 3), a.n_out - 1u)) * a.row_bytes;
        tile v = tile_dot(row, uvec4(in_row * a.n_in), a.n_in, 1u, gl_LocalInvocationID.x, gl_WorkGroupSize.x);
        lane_put(0u, r - r0, ROWS, v.s0);
    }
    barrier();
    uint j = gl_LocalInvocationIndex;
    if (j < lane_rows() && r0 + j < a.n_out) y[s * a.n_out + r0 + j] = fz(lane_sum(0u, j));
}
