#version 450
#extension GL_GOOGLE_include_directive : require
/* Adds the additive position term of a compressor to its gates.
 * Group: lx columns (x) of one token (y).
 * Bindings: 0 gate [n_tok][n_col], 1 ape raw rows [ratio]; 2 y [n_tok][n_col].
 * Args: ds4_args_gate_bias. Sums: one addition. */
#define W_BINDING 1
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_gate_bias)

void main() {
    w_begin();
    uint i = UNIT_X, t = UNIT_Y;
    if (i >= a.n_col || t >= a.n_tok) return;
    float bias = w_elem(((a.pos0 + t) % a.ratio) * a.row_bytes, i);
    y[t * a.n_col + i] = fz(f_add(x[t * a.n_col + i], bias));
}
