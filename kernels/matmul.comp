#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by a weight in any block format, with optional grouped inputs.
 * Group: lx output rows (x) by 4 tokens (y); an invocation owns one row and up to 4 tokens, so a
 * half block is decoded once for all of them.
 * Bindings: 0 W raw rows [n_out], 1 x [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Args: ds4_args_matmul. Row r reads x[t][(r / group_rows) * n_in ..].
 * Sums: per output 16 lanes, lane j adds products i mod 16 = j in increasing i, then the tree
 * 8, 4, 2, 1. Shapes: n_in a multiple of the weight's block length. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul)
#define MAX_AT 4
#include "matmul_strict.glsl"

void main() {
    w_begin();
    uint r = UNIT_X, t = GROUP_Y * 4u;
    if (r >= a.n_out) return;
    uint n = min(a.n_tok - t, 4u), at = t * a.x_stride + (r / a.group_rows) * a.n_in;
    vec4 s = strict_dot(r * a.row_bytes, at + uvec4(0, 1, 2, 3) * a.x_stride, a.n_in, n);
    for (uint k = 0u; k < n; k++) y[(t + k) * a.n_out + r] = fz(s[k]);
}
