#version 450
#extension GL_GOOGLE_include_directive : require
/* Storage rounding of indexer rows: Hadamard transform of 128, FP4 E2M1 with a power-of-two scale
 * per 32 elements, then f16 when half_out is 1 (FP4 and f16 left out under STORE_EXACT).
 * Group: one row; 64 invocations, one butterfly each per stage.
 * Bindings: 0 x [n_row][128]; 1 y [n_row][128]. Args: ds4_args_index_round.
 * Sums: butterflies (a + b, a - b) for stride 1, 2, .. 64. Shapes: lx = 64. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_index_round)
shared float v[128];

void main() {
    uint l = gl_LocalInvocationID.x, at = GROUP_X * 128u;
    v[l] = x[at + l];
    v[l + 64u] = x[at + l + 64u];
    barrier();
    for (uint s = 1u; s < 128u; s *= 2u) {
        uint i = ((l & ~(s - 1u)) << 1) | (l & (s - 1u));
        float p = v[i], q = v[i + s];
        v[i] = f_add(p, q);
        v[i + s] = f_sub(p, q);
        barrier();
    }
    v[l] = fz(f_mul(v[l], 0.0883883461));
    v[l + 64u] = fz(f_mul(v[l + 64u], 0.0883883461));
    barrier();
    for (uint i = l; i < 128u; i += 64u) {
        float m = 0.0;
        for (uint k = 0u; k < 32u; k++) {
            float b = f_abs(v[(i & ~31u) + k]);
            m = b > m ? b : m;
        }
        uint u = floatBitsToUint(f_div(m, 6.0));
        int e = m > 0.0 ? int(u >> 23) - 127 + ((u & 0x7fffffu) != 0u ? 1 : 0) : 0;
        float s = f_bits(uint(127 + e) << 23), inv = f_bits(uint(127 - e) << 23);
        float q = f_mul(e2m1_round(f_mul(v[i], inv)), s);
        q = a.half_out != 0u ? f16_round(q) : q;
        y[at + i] = fz((VARIANTS & V_STORE_EXACT) != 0u ? v[i] : q);
    }
}
