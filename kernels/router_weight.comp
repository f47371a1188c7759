#version 450
#extension GL_GOOGLE_include_directive : require
/* Weights of the selected experts from their unbiased scores.
 * Group: lx tokens; one invocation per token.
 * Bindings: 0 p [n_tok][n_expert], 1 sel i32 [n_tok][k]; 2 w [n_tok][k].
 * Args: ds4_args_router_weight. Sums: z = p[sel] from 0 in slot order; max(z, 2^-14). */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer P_ { float p[]; };
layout(std430, set = 0, binding = 1) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 2) writeonly buffer W_ { float w[]; };
ARGS(ds4_args_router_weight)

void main() {
    uint t = UNIT_X;
    if (t >= a.n_tok) return;
    float z = 0.0;
    for (uint s = 0u; s < a.k; s++) z = f_add(z, p[t * a.n_expert + sel[t * a.k + s]]);
    if (!(z > 6.103515625e-05)) z = 6.103515625e-05;
    for (uint s = 0u; s < a.k; s++)
        w[t * a.k + s] = fz(f_mul(f_div(p[t * a.n_expert + sel[t * a.k + s]], z), a.scale));
}
