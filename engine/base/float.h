#ifndef DS4_BASE_FLOAT_H
#define DS4_BASE_FLOAT_H
/* Bit casts, ulp distance and the small formats. All conversions are integer or exact f32
 * arithmetic, round to nearest even, and the same on every machine. */
#include <stdint.h>
#include <string.h>

_Static_assert(sizeof(float) == 4, "f32");

static inline uint32_t ds4_f32_bits(float x) {
    uint32_t u;
    memcpy(&u, &x, 4);
    return u;
}
static inline float ds4_f32_from_bits(uint32_t u) {
    float x;
    memcpy(&x, &u, 4);
    return x;
}

/* Exact widening; NaN keeps its payload. */
static inline float ds4_f16_to_f32(uint16_t h) {
    uint32_t s = (uint32_t)(h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;
    if (e == 31) return ds4_f32_from_bits(s | 0x7f800000u | m << 13);
    if (e) return ds4_f32_from_bits(s | (e + 112u) << 23 | m << 13);
    float v = (float)m * 0x1p-24f; /* exact */
    return s ? -v : v;
}
static inline float ds4_bf16_to_f32(uint16_t h) { return ds4_f32_from_bits((uint32_t)h << 16); }

/* Round to nearest even; gradual underflow; magnitudes of 65520 and more become infinity;
 * NaN becomes a quiet NaN. */
uint16_t ds4_f32_to_f16(float x);
uint16_t ds4_f32_to_bf16(float x);
/* f32 -> f16 -> f32 */
static inline float ds4_f16_round(float x) { return ds4_f16_to_f32(ds4_f32_to_f16(x)); }

/* Nearest integer, ties to even, of |x| < 2^22; NaN stays. */
float ds4_round_even(float x);

/* e4(x) and e2(x) of model.md 3.0: nearest value of the FP8 E4M3 (448 largest) and FP4 E2M1
 * (6 largest) grids, ties to the even code, saturating. x is finite. */
float ds4_e4m3_round(float x);
float ds4_e2m1_round(float x);

/* Distance in units of the last place on the monotone integer line; -0 equals +0.
 * Two NaN give 0; a NaN against a number gives UINT32_MAX. */
uint32_t ds4_ulp_distance(float a, float b);

/* The flush rule of the bit contract (engine/CONTRACT.md): magnitudes below 2^-51 become +0. */
static inline float ds4_fz(float x) {
    return (ds4_f32_bits(x) & 0x7fffffffu) < 0x26000000u ? 0.0f : x;
}

#endif
