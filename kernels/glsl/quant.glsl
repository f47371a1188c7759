/* Weights as raw bytes: decoding of every format of engine/format/quants.def, exact and in the
 * order of operations of engine/format/<quant>.c. Before including: exact.glsl, and W_BINDING.
 * WTYPE is a specialization constant, so only one branch survives. F32 and BF16 weights pass the
 * flush rule; other formats cannot hold anything that small. Rows and blocks may start at any
 * byte; no word is read that holds no byte of the wanted element. */
#ifndef DS4_QUANT_GLSL
#define DS4_QUANT_GLSL

const uint Q_F32 = 0u, Q_F16 = 1u, Q_Q8_0 = 8u, Q_Q2_K = 10u, Q_Q4_K = 12u, Q_IQ2_XXS = 16u, Q_BF16 = 30u;

layout(std430, set = 0, binding = W_BINDING) readonly buffer W_ { uint w_word_[]; };
#ifdef W_WIDE
layout(std430, set = 0, binding = W_BINDING) readonly buffer W4_ { uvec4 w_quad_[]; };
#endif
#ifdef W2_BINDING
/* A second weight of the same format; w_second: the next loads are from it. */
layout(std430, set = 0, binding = W2_BINDING) readonly buffer W2_ { uint w2_word_[]; };
layout(std430, set = 0, binding = W2_BINDING) readonly buffer W24_ { uvec4 w2_quad_[]; };
bool w_second = false;
uint w_word(uint i) {
    if (w_second) return w2_word_[i];
    return w_word_[i];
}
uvec4 w_quad(uint i) {
    if (w_second) return w2_quad_[i];
    return w_quad_[i];
}
#else
#define w_word(i) w_word_[i]
#define w_quad(i) w_quad_[i]
#endif

#include "iq2_grid.glsl"

/* The codebook lies in shared memory, because a constant array that is indexed at run time is
 * copied at every use. Every invocation calls w_begin before its first load and before any
 * return. */
shared uint iq2_codes[128];

void w_begin() {
    if (WTYPE == Q_IQ2_XXS) {
        if (gl_LocalInvocationIndex == 0u) iq2_codes = IQ2_CODES;
        barrier();
    }
}

uint w_u32(uint off) {
    uint sh = (off & 3u) * 8u, lo = w_word(off >> 2);
    return sh == 0u ? lo : (lo >> sh) | (w_word((off + 3u) >> 2) << (32u - sh));
}
uint w_u8(uint off) { return (w_word(off >> 2) >> ((off & 3u) * 8u)) & 255u; }
uint w_u16(uint off) { return (off & 1u) == 0u ? (w_word(off >> 2) >> ((off & 2u) * 8u)) & 0xffffu : w_u8(off) | (w_u8(off + 1u) << 8); }

/* 16 bytes. With W_WIDE by loads of that size: buffers are padded to 16 bytes, and w_u128 wants a
 * multiple of 16, so that unblocked rows given to w_load16 start at one (those of Q4_K always do). */
#ifdef W_WIDE
uvec4 w_u128(uint off) { return w_quad(off >> 4); }
uvec4 w_u128_any(uint off) {
    uvec4 lo = w_quad(off >> 4), hi = w_quad((off + 15u) >> 4);
    uint sh = (off & 3u) * 8u;
    if ((off & 8u) != 0u) {
        lo = uvec4(lo.zw, hi.xy);
        hi.xy = hi.zw;
    }
    if ((off & 4u) != 0u) {
        lo = uvec4(lo.yzw, hi.x);
        hi.x = hi.y;
    }
    if (sh == 0u) return lo;
    return (lo >> sh) | (uvec4(lo.yzw, hi.x) << (32u - sh));
}
#else
uvec4 w_u128(uint off) { return uvec4(w_u32(off), w_u32(off + 4u), w_u32(off + 8u), w_u32(off + 12u)); }
#define w_u128_any w_u128
#endif

vec4 f_bytes(uint w) { return vec4(w & 255u, (w >> 8) & 255u, (w >> 16) & 255u, w >> 24); }
vec4 f_sbytes(uint w) {
    int i = int(w);
    return vec4(bitfieldExtract(i, 0, 8), bitfieldExtract(i, 8, 8), bitfieldExtract(i, 16, 8), i >> 24);
}
vec4 mul4(float a, vec4 b) {
    precise vec4 p = vec4(a) * b;
    return p;
}
vec4 mul_sub4(float a, vec4 b, float m) {
    precise vec4 p = vec4(a) * b;
    precise vec4 d = p - vec4(m);
    return d;
}
vec4 fz4(vec4 v) { return vec4(fz(v.x), fz(v.y), fz(v.z), fz(v.w)); }

/* The eight values of an IQ2_XXS octet: grid index, 7-bit sign index, scale of the group. */
void iq2_octet(uint index, uint s, float b, out vec4 lo, out vec4 hi) {
    uint code = (iq2_codes[index >> 1] >> ((index & 1u) * 16u)) & 0xffffu;
    uint minus = s | ((uint(bitCount(s)) & 1u) << 7);
    uvec4 d0 = (uvec4(code) >> uvec4(0, 2, 4, 6)) & 3u, d1 = (uvec4(code) >> uvec4(8, 10, 12, 14)) & 3u;
    vec4 t0 = mul4(b, vec4(8u + 17u * d0 + (d0 >> 1))), t1 = mul4(b, vec4(8u + 17u * d1 + (d1 >> 1)));
    uvec4 s0 = (uvec4(minus) << uvec4(31, 30, 29, 28)) & F_SIGN, s1 = (uvec4(minus) << uvec4(27, 26, 25, 24)) & F_SIGN;
    lo = uintBitsToFloat(floatBitsToUint(t0) ^ s0);
    hi = uintBitsToFloat(floatBitsToUint(t1) ^ s1);
}

/* The halves of a Q4_K block at p (d low), and scale and minimum of sub-block j of its 12 packed
 * bytes. */
#ifdef W_WIDE
uint q4_k_head(uint p, uint j, out uvec2 sm) {
    uvec4 h = w_u128(p);
    uvec3 b = (h.yzw >> ((j & 3u) * 8u)) & 255u;
    sm = j < 4u ? b.xy & 63u : uvec2((b.z & 15u) | ((b.x >> 6) << 4), (b.z >> 4) | ((b.y >> 6) << 4));
    return h.x;
}
#else
uvec2 q4_k_scale(uint p, uint j) {
    uint a = w_u8(p + j), b = w_u8(p + j + 4u);
    if (j < 4u) return uvec2(a & 63u, b & 63u);
    return uvec2((b & 15u) | ((w_u8(p + j - 4u) >> 6) << 4), (b >> 4) | ((a >> 6) << 4));
}
uint q4_k_head(uint p, uint j, out uvec2 sm) {
    sm = q4_k_scale(p + 4u, j);
    return w_u32(p);
}
#endif

vec4 f16_widen4(uint lo, uint hi) {
    return vec4(f16_widen(lo & 0xffffu), f16_widen(lo >> 16), f16_widen(hi & 0xffffu), f16_widen(hi >> 16));
}
vec4 bf16_widen4(uint lo, uint hi) {
    return fz4(uintBitsToFloat(uvec4(lo << 16, lo & 0xffff0000u, hi << 16, hi & 0xffff0000u)));
}

/* Elements 16 k .. 16 k + 15 of the row that starts at byte `row`; all of them must exist. */
void w_load16(uint row, uint k, out vec4 v0, out vec4 v1, out vec4 v2, out vec4 v3) {
    if (WTYPE == Q_Q8_0) {
        uint p = row + (k >> 1) * 34u, c = p + 2u + (k & 1u) * 16u;
        float d = f16_widen(w_u16(p));
        uvec4 w = w_u128_any(c);
        v0 = mul4(d, f_sbytes(w.x));
        v1 = mul4(d, f_sbytes(w.y));
        v2 = mul4(d, f_sbytes(w.z));
        v3 = mul4(d, f_sbytes(w.w));
    } else if (WTYPE == Q_Q4_K) {
        uint i = k & 15u, p = row + (k >> 4) * 144u, sh = ((i >> 1) & 1u) * 4u;
        uint c = p + 16u + 32u * (i >> 2) + 16u * (i & 1u);
        uvec2 sm;
        uint dd = q4_k_head(p, i >> 1, sm);
        uvec4 w = (w_u128(c) >> sh) & 0x0f0f0f0fu;
        precise float a = f16_widen(dd & 0xffffu) * float(sm.x);
        precise float m = f16_widen(dd >> 16) * float(sm.y);
        v0 = mul_sub4(a, f_bytes(w.x), m);
        v1 = mul_sub4(a, f_bytes(w.y), m);
        v2 = mul_sub4(a, f_bytes(w.z), m);
        v3 = mul_sub4(a, f_bytes(w.w), m);
    } else if (WTYPE == Q_Q2_K) {
        uint i = k & 15u, p = row + (k >> 4) * 84u, sh = ((i >> 1) & 3u) * 2u;
        uint c = p + 16u + 32u * (i >> 3) + 16u * (i & 1u), sc = w_u8(p + i), dd = w_u32(p + 80u);
        uvec4 w = (w_u128_any(c) >> sh) & 0x03030303u;
        precise float a = f16_widen(dd & 0xffffu) * float(sc & 15u);
        precise float m = f16_widen(dd >> 16) * float(sc >> 4);
        v0 = mul_sub4(a, f_bytes(w.x), m);
        v1 = mul_sub4(a, f_bytes(w.y), m);
        v2 = mul_sub4(a, f_bytes(w.z), m);
        v3 = mul_sub4(a, f_bytes(w.w), m);
    } else if (WTYPE == Q_IQ2_XXS) {
        uint i = k & 15u, p = row + (k >> 4) * 66u, c = p + 2u + 8u * (i >> 1), o = 2u * (i & 1u);
        uint index = w_u32(c) >> (8u * o), signs = w_u32(c + 4u);
        precise float a = f16_widen(w_u16(p)) * float(2u * (signs >> 28) + 1u);
        precise float b = a * 0.125;
        iq2_octet(index & 255u, (signs >> (7u * o)) & 127u, b, v0, v1);
        iq2_octet((index >> 8) & 255u, (signs >> (7u * o + 7u)) & 127u, b, v2, v3);
    } else if (WTYPE == Q_F16) {
        uint p = row + k * 32u;
        uvec4 a = w_u128(p), b = w_u128(p + 16u);
        v0 = f16_widen4(a.x, a.y);
        v1 = f16_widen4(a.z, a.w);
        v2 = f16_widen4(b.x, b.y);
        v3 = f16_widen4(b.z, b.w);
    } else if (WTYPE == Q_BF16) {
        uint p = row + k * 32u;
        uvec4 a = w_u128(p), b = w_u128(p + 16u);
        v0 = bf16_widen4(a.x, a.y);
        v1 = bf16_widen4(a.z, a.w);
        v2 = bf16_widen4(b.x, b.y);
        v3 = bf16_widen4(b.z, b.w);
    } else {
        uint p = row + k * 64u;
        v0 = fz4(uintBitsToFloat(w_u128(p)));
        v1 = fz4(uintBitsToFloat(w_u128(p + 16u)));
        v2 = fz4(uintBitsToFloat(w_u128(p + 32u)));
        v3 = fz4(uintBitsToFloat(w_u128(p + 48u)));
    }
}

/* Element i of the row that starts at byte `row`. */
float w_elem(uint row, uint i) {
    if (WTYPE == Q_F32) return fz(uintBitsToFloat(w_u32(row + 4u * i)));
    if (WTYPE == Q_F16) return f16_widen(w_u16(row + 2u * i));
    if (WTYPE == Q_BF16) return fz(bf16_widen(w_u16(row + 2u * i)));
    if (WTYPE == Q_Q8_0) {
        uint p = row + (i >> 5) * 34u;
        precise float y = f16_widen(w_u16(p)) * float(bitfieldExtract(int(w_u8(p + 2u + (i & 31u))), 0, 8));
        return y;
    }
    vec4 v[4];
    w_load16(row, i >> 4, v[0], v[1], v[2], v[3]);
    return v[(i & 15u) >> 2][i & 3u];
}

#endif
