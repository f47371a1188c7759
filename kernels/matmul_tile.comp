#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by a weight in any block format, tiled in registers.
 * Group: 4 lx output rows (x) by 4 tokens (y); an invocation owns 4 adjacent rows and up to 4
 * tokens, so a decoded half block serves 4 tokens and a loaded input 4 rows.
 * Bindings: 0 W raw rows [n_out], 1 x [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Args: ds4_args_matmul. Sums: tile_dot.glsl, one share.
 * HALF: both operands rounded to f16, f32 accumulation.
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
#define ROWS 4
#define MAX_AT 4
#include "tile_dot.glsl"

void store(uint t, uint r, uint m, vec4 v) {
    for (uint j = 0u; j < 4u; j++)
        if (j < m) y[t * a.n_out + r + j] = fz(v[j]);
}

void main() {
    w_begin();
    uint r = UNIT_X * 4u, end = min(r + 4u, a.n_out), t = GROUP_Y * 4u;
    uint n = min(a.n_tok - t, 4u);
    while (r < end) {
        uint slice = r / a.group_rows, m = min(end, (slice + 1u) * a.group_rows) - r;
        uvec4 at = (t + uvec4(0, 1, 2, 3)) * a.x_stride + slice * a.n_in;
        tile s = tile_dot((r + min(uvec4(0, 1, 2, 3), m - 1u)) * a.row_bytes, at, a.n_in, n, 0u, 1u);
        store(t, r, m, s.s0);
        if (n > 1u) store(t + 1u, r, m, s.s1);
        if (n > 2u) store(t + 2u, r, m, s.s2);
        if (n > 3u) store(t + 3u, r, m, s.s3);
        r += m;
    }
}
