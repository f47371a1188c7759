#version 450
#extension GL_GOOGLE_include_directive : require
/* Sum of two tensors.
 * Group: 1024 elements; 16 per invocation when lx is 64.
 * Bindings: 0 a [n_elem], 1 b [n_elem]; 2 y [n_elem]. Args: ds4_args_add. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer A_ { float p[]; };
layout(std430, set = 0, binding = 1) readonly buffer B_ { float q[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_add)

void main() {
    uint end = min((GROUP_X + 1u) * 1024u, a.n_elem);
    for (uint i = GROUP_X * 1024u + gl_LocalInvocationID.x; i < end; i += gl_WorkGroupSize.x)
        y[i] = fz(f_add(p[i], q[i]));
}
