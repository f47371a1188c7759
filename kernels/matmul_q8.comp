#version 450
#extension GL_GOOGLE_include_directive : require
#ifdef PACKED
#extension GL_EXT_integer_dot_product : require
#endif
/* Projection of inputs rounded to 8 bits, by integer dot products.
 * Group: lx output rows (x) by 4 tokens (y); an invocation owns one row and up to 4 tokens.
 * Bindings: 0 W raw rows [n_out], 1 x [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Args: ds4_args_matmul. Rounding and sums: q8_dot.glsl. Shapes: n_in a multiple of the weight's
 * block length. Rows of different input slices are done in turns. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul)
#define AT 4
#include "q8_dot.glsl"

void main() {
    w_begin();
    uint row = UNIT_X, r0 = GROUP_X * gl_WorkGroupSize.x, end = min(r0 + gl_WorkGroupSize.x, a.n_out);
    uint t = GROUP_Y * 4u, n = min(a.n_tok - t, 4u);
    for (uint r = r0; r < end;) {
        uint slice = r / a.group_rows, m = min(end, (slice + 1u) * a.group_rows);
        uvec4 at = (t + min(uvec4(0, 1, 2, 3), n - 1u)) * a.x_stride + slice * a.n_in;
        bool mine = row >= r && row < m;
        vec4 s = q8_dot(row * a.row_bytes, mine, at, n, a.n_in);
        for (uint k = 0u; mine && k < n; k++) y[(t + k) * a.n_out + row] = fz(s[k]);
        r = m;
    }
}
