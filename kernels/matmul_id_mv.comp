#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
/* Projection by the matrix that each slot selects, for few tokens: the inputs of a row are spread
 * over the lanes of a group and added within subgroups.
 * Group: 4 output rows (x) of one slot (y), lx lanes over half blocks.
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out]. Args: ds4_args_matmul_id. Sums: mv_dot.glsl.
 * Shapes: n_in a multiple of the weight's block length. */
#define W_BINDING 0
#define W_WIDE
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer X4_ { vec4 x4[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul_id)
#define MAX_AT 1
#include "mv_dot.glsl"

void main() {
    w_begin();
    uint s = GROUP_Y, r = GROUP_X * 4u;
    uint in_row = a.x_per_slot != 0u ? s : s / a.n_slot;
    uvec4 row = (sel[s] * a.n_out + min(r + uvec4(0, 1, 2, 3), a.n_out - 1u)) * a.row_bytes;
    mv_share(row, in_row * a.n_in, 0u, a.n_in, 1u);
    vec4 v = mv_sum(1u);
    for (uint j = 0u; gl_LocalInvocationID.x == 0u && j < 4u; j++)
        if (r + j < a.n_out) y[s * a.n_out + r + j] = fz(v[j]);
}
