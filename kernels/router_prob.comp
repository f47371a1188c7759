#version 450
#extension GL_GOOGLE_include_directive : require
/* Router scores: the square root of the softplus.
 * Group: 1024 elements; 16 per invocation when lx is 64.
 * Bindings: 0 logit [n_elem]; 1 p [n_elem]. Args: ds4_args_router_prob. Sums: none.
 * NATIVE: sqrt(log(1 + exp(z))), and z above 20. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_router_prob)

void main() {
    uint end = min((GROUP_X + 1u) * 1024u, a.n_elem);
    for (uint i = GROUP_X * 1024u + gl_LocalInvocationID.x; i < end; i += gl_WorkGroupSize.x) {
#ifdef STRICT
        float p = f_sqrt_softplus(x[i]);
#else
        PRECISE float p = sqrt(x[i] > 20.0 ? x[i] : log(1.0 + exp(x[i])));
#endif
        y[i] = fz(p);
    }
}
