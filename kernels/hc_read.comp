#version 450
#extension GL_GOOGLE_include_directive : require
/* Weighted sum of the hyper-connection streams.
 * Group: lx elements (x) of one token (y); one invocation per element.
 * Bindings: 0 X [n_tok][n_hc][n_embd], 1 w at stride w_stride; 2 x [n_tok][n_embd].
 * Args: ds4_args_hc_read. Sums: streams added from 0 in increasing s; FMA fuses each
 * product with its sum. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_hc_read)

void main() {
    uint i = UNIT_X, t = UNIT_Y;
    if (i >= a.n_embd || t >= a.n_tok) return;
    PRECISE float sum = 0.0;
    for (uint s = 0u; s < a.n_hc; s++)
        sum = MAD(x[(t * a.n_hc + s) * a.n_embd + i], w[t * a.w_stride + s], sum);
    y[t * a.n_embd + i] = fz(sum);
}
