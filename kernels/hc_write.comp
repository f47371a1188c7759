#version 450
#extension GL_GOOGLE_include_directive : require
/* Writes a block's output back into the four streams and mixes them.
 * Group: lx elements (x) of one token (y); an invocation owns one element of all four streams.
 * Bindings: 0 X [n_tok][4][n_embd], 1 y [n_tok][n_embd], 2 split [n_tok][24]; 3 X'.
 * Args: ds4_args_hc_write. Sums: y * post[b], then + comb[a][b] * X[a] for a = 0..3; FMA fuses
 * each of these products with its sum. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer Y_ { float y[]; };
layout(std430, set = 0, binding = 2) readonly buffer Split_ { float split[]; };
layout(std430, set = 0, binding = 3) writeonly buffer To_ { float to[]; };
ARGS(ds4_args_hc_write)

void main() {
    uint i = UNIT_X, t = UNIT_Y, n = a.n_embd;
    if (i >= n || t >= a.n_tok) return;
    float v = y[t * n + i];
    float s[4] = float[4](x[4u * t * n + i], x[(4u * t + 1u) * n + i], x[(4u * t + 2u) * n + i],
                          x[(4u * t + 3u) * n + i]);
    for (uint b = 0u; b < 4u; b++) {
        PRECISE float sum = v * split[24u * t + 4u + b];
        for (uint k = 0u; k < 4u; k++) sum = MAD(split[24u * t + 8u + 4u * k + b], s[k], sum);
        to[(4u * t + b) * n + i] = fz(sum);
    }
}
