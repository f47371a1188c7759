#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
/* Projection by a weight in any block format for few tokens: the inputs of a row are spread over
 * the lanes of a group and added within subgroups.
 * Group: 4 output rows (x) by 8 tokens (y), lx lanes over half blocks.
 * Bindings: 0 W raw rows [n_out], 1 x [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Args: ds4_args_matmul. Sums: mv_dot.glsl.
 * Shapes: n_in a multiple of the weight's block length. Rows of different input slices are done
 * in turns. */
#define W_BINDING 0
#define W_WIDE
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer X4_ { vec4 x4[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul)
#define MAX_AT 8
#include "mv_dot.glsl"

void main() {
    w_begin();
    uint t0 = GROUP_Y * 8u, n = min(a.n_tok - t0, 8u), l = gl_LocalInvocationID.x;
    uint r = GROUP_X * 4u, end = min(r + 4u, a.n_out);
    while (r < end) {
        uint slice = r / a.group_rows, m = min(end, (slice + 1u) * a.group_rows) - r;
        uvec4 row = (r + min(uvec4(0, 1, 2, 3), m - 1u)) * a.row_bytes;
        mv_share(row, t0 * a.x_stride + slice * a.n_in, a.x_stride, a.n_in, n);
        vec4 s = mv_sum(n);
        for (uint j = 0u; l < n && j < m; j++) y[(t0 + l) * a.n_out + r + j] = fz(s[j]);
        r += m;
    }
}
