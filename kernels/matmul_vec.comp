#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by a weight in any block format, the inputs of a row spread over lanes.
 * Group: ROWS ly output rows (x) by 4 tokens (y): lx lanes over half blocks, ly sets of rows.
 * Bindings: 0 W raw rows [n_out], 1 x [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Args: ds4_args_matmul. Sums: tile_dot.glsl, a share per lane, then lane_dot.glsl.
 * Shapes: n_in a multiple of the weight's block length. Rows of different input slices are done
 * in turns. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul)
#define ROWS 2
#define MAX_AT 4
#include "tile_dot.glsl"
#include "lane_dot.glsl"

void main() {
    w_begin();
    uint t = GROUP_Y * 4u, n = min(a.n_tok - t, 4u), r0 = GROUP_X * lane_rows();
    uint lane = gl_LocalInvocationID.x, lanes = gl_WorkGroupSize.x;
    uint r = r0 + ROWS * gl_LocalInvocationID.y, end = min(r + ROWS, a.n_out);
    while (r < end) {
        uint slice = r / a.group_rows, m = min(end, (slice + 1u) * a.group_rows) - r;
        uvec4 row = (r + min(uvec4(0, 1, 2, 3), m - 1u)) * a.row_bytes;
        uvec4 at = (t + uvec4(0, 1, 2, 3)) * a.x_stride + slice * a.n_in;
        tile s = tile_dot(row, at, a.n_in, n, lane, lanes);
        lane_put(0u, r - r0, m, s.s0);
        if (n > 1u) lane_put(1u, r - r0, m, s.s1);
        if (n > 2u) lane_put(2u, r - r0, m, s.s2);
        if (n > 3u) lane_put(3u, r - r0, m, s.s3);
        r += m;
    }
    barrier();
    uint size = lanes * gl_WorkGroupSize.y;
    for (uint i = gl_LocalInvocationIndex; i < n * lane_rows(); i += size) {
        uint k = i / lane_rows(), j = i % lane_rows();
        if (r0 + j < a.n_out) y[(t + k) * a.n_out + r0 + j] = fz(lane_sum(k, j));
    }
}
