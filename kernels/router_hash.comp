#version 450
#extension GL_GOOGLE_include_directive : require
/* Experts of a token by table.
 * Group: lx slots (x) of one token (y).
 * Bindings: 0 table i32 [n_vocab][k], 1 token i32 [n_tok]; 2 sel i32 [n_tok][k].
 * Args: ds4_args_router_hash. Sums: none. */
#include "types.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Table_ { uint table[]; };
layout(std430, set = 0, binding = 1) readonly buffer Token_ { uint token[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Sel_ { uint sel[]; };
ARGS(ds4_args_router_hash)

void main() {
    uint s = UNIT_X, t = UNIT_Y;
    if (s >= a.k || t >= a.n_tok) return;
    sel[t * a.k + s] = table[token[t] * a.k + s];
}
