#version 450
#extension GL_GOOGLE_include_directive : require
/* Sum of the expert outputs of a token.
 * Group: lx columns (x) of one token (y).
 * Bindings: 0 x [n_tok][n_slot][n_col]; 1 y [n_tok][n_col]. Args: ds4_args_slot_sum.
 * Sums: STRICT: slots added from 0 in increasing slot. PAIR: slots 2k and 2k + 1 first, then the
 * pairs in increasing k. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_slot_sum)

void main() {
    uint i = UNIT_X, t = UNIT_Y;
    if (i >= a.n_col || t >= a.n_tok) return;
    uint at = t * a.n_slot * a.n_col + i;
    PRECISE float sum = 0.0;
#ifdef STRICT
    for (uint s = 0u; s < a.n_slot; s++) sum = sum + x[at + s * a.n_col];
#else
    for (uint s = 0u; s < a.n_slot; s += 2u) {
        PRECISE float two = x[at + s * a.n_col] + (s + 1u < a.n_slot ? x[at + (s + 1u) * a.n_col] : 0.0);
        sum = sum + two;
    }
#endif
    y[t * a.n_col + i] = fz(sum);
}
