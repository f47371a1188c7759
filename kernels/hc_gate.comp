#version 450
#extension GL_GOOGLE_include_directive : require
/* Read weights of the output head: the logistic of the mixed state.
 * Group: lx tokens; one invocation per token.
 * Bindings: 0 mix [n_tok][n_hc], 1 scale [1], 2 base [n_hc]; 3 w [n_tok][n_hc].
 * Args: ds4_args_hc_gate. Sums: none. NATIVE: the device's exp and division. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Mix_ { float mix_in[]; };
layout(std430, set = 0, binding = 1) readonly buffer Scale_ { float scale[]; };
layout(std430, set = 0, binding = 2) readonly buffer Base_ { float base[]; };
layout(std430, set = 0, binding = 3) writeonly buffer W_ { float w[]; };
ARGS(ds4_args_hc_gate)

void main() {
    uint t = UNIT_X;
    if (t >= a.n_tok) return;
    for (uint s = 0u; s < a.n_hc; s++) {
        float z = MAD(mix_in[t * a.n_hc + s], scale[0], base[s]);
#ifdef STRICT
        float g = f_sigmoid(z);
#else
        PRECISE float g = 1.0 / (1.0 + exp(-z));
#endif
        PRECISE float v = g + a.eps;
        w[t * a.n_hc + s] = fz(v);
    }
}
