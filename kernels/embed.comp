#version 450
#extension GL_GOOGLE_include_directive : require
/* Embedding rows copied to every hyper-connection stream.
 * Group: one token (y), lx elements (x); one invocation per element.
 * Bindings: 0 W raw rows [n_vocab], 1 token i32 [n_tok]; 2 y [n_tok][n_hc][n_embd].
 * Args: ds4_args_embed. Sums: none. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
layout(std430, set = 0, binding = 1) readonly buffer Token_ { uint token[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_embed)

void main() {
    w_begin();
    uint i = UNIT_X, t = UNIT_Y;
    if (i >= a.n_embd || t >= a.n_tok) return;
    float v = fz(w_elem(token[t] * a.row_bytes, i));
    for (uint s = 0u; s < a.n_hc; s++) y[(t * a.n_hc + s) * a.n_embd + i] = v;
}
