#version 450
#extension GL_GOOGLE_include_directive : require
/* The device's arithmetic, step by step, on operands that no compiler knows (engine/vk/vk_float.def).
 * Work: one invocation per case, groups of 64.
 * Bindings: 0 cases, uvec4 (step of probe_ops.h, a, b, c); 1 the same bytes as floats; 2 out, one word a
 * case; 3 the same bytes as floats. MODE, CAPABILITY: a float control. */
#include "probe_ops.h"
#ifdef MODE
#extension GL_EXT_spirv_intrinsics : require
spirv_execution_mode(extensions = ["SPV_KHR_float_controls"], capabilities = [CAPABILITY], MODE, 32);
#endif

layout(local_size_x = 64) in;
layout(binding = 0) readonly buffer Cases { uvec4 at[]; } cases;
layout(binding = 1) readonly buffer Floats { float at[]; } floats;
layout(binding = 2) writeonly buffer Words { uint at[]; } words;
layout(binding = 3) writeonly buffer Results { float at[]; } results;

/* What `precise` promises, as the strict kernels use it. */
float add(float a, float b) { precise float r = a + b; return r; }
float sub(float a, float b) { precise float r = a - b; return r; }
float mul(float a, float b) { precise float r = a * b; return r; }

void main() {
    uint i = gl_GlobalInvocationID.x;
    if (i >= uint(cases.at.length())) return;
    uvec4 v = cases.at[i];
    float a = uintBitsToFloat(v.y), b = uintBitsToFloat(v.z), c = uintBitsToFloat(v.w), r = 0.0;
    uint u = 0u, hi, lo;
    if (v.x == PROBE_MOVE) {
        results.at[i] = floats.at[4u * i + 1u];
        return;
    }
    bool is_float = true;
    switch (v.x) {
    case PROBE_ADD: r = add(a, b); break;
    case PROBE_SUB: r = sub(a, b); break;
    case PROBE_MUL: r = mul(a, b); break;
    case PROBE_MUL_ADD: {
        precise float p = a * b;
        precise float s = p + c;
        r = s;
        break;
    }
    case PROBE_SUB_MUL: {
        precise float p = a * b;
        precise float s = c - p;
        r = s;
        break;
    }
    case PROBE_ADD_ADD: {
        precise float p = a + b;
        precise float s = p + c;
        r = s;
        break;
    }
    case PROBE_ADD_SUB: {
        precise float p = a + b;
        precise float s = p - b;
        r = s;
        break;
    }
    case PROBE_MUL_SUM: {
        precise float p = a * b;
        precise float q = a * c;
        precise float s = p + q;
        r = s;
        break;
    }
    case PROBE_NEG: r = -a; break;
    case PROBE_OF_UINT: r = float(v.y); break;
    case PROBE_OF_INT: r = float(int(v.y)); break;
    case PROBE_DIV: {
        precise float q = a / b;
        r = q;
        break;
    }
    case PROBE_SQRT: r = sqrt(a); break;
    case PROBE_FMA: r = fma(a, b, c); break;
    case PROBE_UNPACK16: r = unpackHalf2x16(v.y).x; break;
    default: is_float = false;
    }
    switch (v.x) {
    case PROBE_LESS: u = a < b ? 1u : 0u; break;
    case PROBE_EQUAL: u = a == b ? 1u : 0u; break;
    case PROBE_TO_UINT: u = uint(a); break;
    case PROBE_TO_INT: u = uint(int(a)); break;
    case PROBE_UMUL_HI:
        umulExtended(v.y, v.z, hi, lo);
        u = hi;
        break;
    case PROBE_UMUL_LO:
        umulExtended(v.y, v.z, hi, lo);
        u = lo;
        break;
    case PROBE_CARRY:
        lo = uaddCarry(v.y, v.z, hi);
        u = hi;
        break;
    case PROBE_SHL: u = v.y << v.z; break;
    case PROBE_SHR: u = v.y >> v.z; break;
    case PROBE_SAR: u = uint(int(v.y) >> v.z); break;
    case PROBE_SIGNED: u = uint(bitfieldExtract(int(v.y), int(v.z), 8)); break;
    case PROBE_PACK16: u = packHalf2x16(vec2(a, 0.0)); break;
    }
    words.at[i] = is_float ? floatBitsToUint(r) : u;
}
