#version 450
/* Reads memory and little else.
 * Group: 64 invocations, 64 KiB; an invocation takes every 64th vector of 16 bytes.
 * Bindings: 0 x u32x4 [groups * 4096]; 1 y u32 [groups * 64]. Order: exclusive or, any. */
layout(local_size_x = 64) in;
layout(std430, set = 0, binding = 0) readonly buffer X_ { uvec4 x[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Y_ { uint y[]; };

void main() {
    uint at = gl_WorkGroupID.x * 4096u + gl_LocalInvocationID.x;
    uvec4 v = uvec4(0u);
    for (uint k = 0u; k < 4096u; k += 512u)
        v ^= x[at + k] ^ x[at + k + 64u] ^ x[at + k + 128u] ^ x[at + k + 192u] ^
             x[at + k + 256u] ^ x[at + k + 320u] ^ x[at + k + 384u] ^ x[at + k + 448u];
    y[gl_GlobalInvocationID.x] = v.x ^ v.y ^ v.z ^ v.w;
}
