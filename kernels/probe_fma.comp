#version 450
/* Multiplies and adds from registers: 16 chains of 8 * n_step fused steps per invocation.
 * Group: 64 invocations. Bindings: 0 x f32 [groups * 64]; 1 y f32 [groups * 64]; argument: n_step. */
layout(local_size_x = 64) in;
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Y_ { float y[]; };
layout(std140, set = 1, binding = 0) uniform Args_ { uint n_step; };

#define STEP                                                                                   \
    a = fma(a, vec4(m), vec4(0.5)), b = fma(b, vec4(m), vec4(0.5)),                            \
    c = fma(c, vec4(m), vec4(0.5)), d = fma(d, vec4(m), vec4(0.5));

void main() {
    float m = x[gl_GlobalInvocationID.x];
    vec4 a = vec4(m, m + 1.0, m + 2.0, m + 3.0), b = a + 4.0, c = a + 8.0, d = a + 12.0;
    for (uint k = 0u; k < n_step; k++) {
        STEP STEP STEP STEP STEP STEP STEP STEP
    }
    a += b + c + d;
    y[gl_GlobalInvocationID.x] = a.x + a.y + a.z + a.w;
}
