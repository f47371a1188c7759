#include "engine/base/float.h"

#include <float.h>
#include <math.h>

_Static_assert(FLT_EVAL_METHOD == 0, "f32 expressions must be evaluated in f32");

uint16_t ds4_f32_to_f16(float x) {
    uint32_t u = ds4_f32_bits(x), s = u >> 16 & 0x8000u, a = u & 0x7fffffffu;
    if (a > 0x7f800000u) return (uint16_t)(s | 0x7e00u);
    if (a >= 0x477ff000u) return (uint16_t)(s | 0x7c00u); /* 65520 and more */
    if (a < 0x33000000u) return (uint16_t)s;              /* below 2^-25 */
    uint32_t e = a >> 23, m = (a & 0x7fffffu) | 0x800000u;
    /* Bits dropped: 13 for normal halves, more below 2^-14. */
    uint32_t drop = e >= 113 ? 13 : 126 - e;
    uint32_t q = m >> drop, rest = m & ((1u << drop) - 1), half = 1u << (drop - 1);
    q += rest > half || (rest == half && (q & 1));
    if (e >= 113) q += (e - 113) << 10; /* the hidden bit carries into the exponent */
    return (uint16_t)(s | q);
}

uint16_t ds4_f32_to_bf16(float x) {
    uint32_t u = ds4_f32_bits(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u >> 16 | 0x40u);
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

float ds4_round_even(float x) {
    volatile float t = x + 0x1.8p23f; /* volatile: no compiler may fold the pair away */
    return t - 0x1.8p23f;
}

float ds4_e4m3_round(float x) {
    float a = fabsf(x), y;
    if (a > 448.0f) a = 448.0f;
    uint32_t e = ds4_f32_bits(a) >> 23;
    if (e < 121) e = 121; /* below 2^-6 the step stays 2^-9 */
    float step = ds4_f32_from_bits((e - 3) << 23);
    float inv = ds4_f32_from_bits((257 - e) << 23); /* 1/step, exact power of two */
    y = ds4_round_even(a * inv) * step;
    return x < 0.0f ? -y : y;
}

float ds4_e2m1_round(float x) {
    float a = fabsf(x), y;
    if (a <= 0.25f) y = 0.0f;
    else if (a < 0.75f) y = 0.5f;
    else if (a <= 1.25f) y = 1.0f;
    else if (a < 1.75f) y = 1.5f;
    else if (a <= 2.5f) y = 2.0f;
    else if (a < 3.5f) y = 3.0f;
    else if (a <= 5.0f) y = 4.0f;
    else y = 6.0f;
    return x < 0.0f ? -y : y;
}

uint32_t ds4_ulp_distance(float a, float b) {
    uint32_t ua = ds4_f32_bits(a), ub = ds4_f32_bits(b);
    int na = (ua & 0x7fffffffu) > 0x7f800000u, nb = (ub & 0x7fffffffu) > 0x7f800000u;
    if (na || nb) return na && nb ? 0 : UINT32_MAX;
    int64_t ia = ua >> 31 ? -(int64_t)(ua & 0x7fffffffu) : (int64_t)ua;
    int64_t ib = ub >> 31 ? -(int64_t)(ub & 0x7fffffffu) : (int64_t)ub;
    int64_t d = ia > ib ? ia - ib : ib - ia;
    return (uint32_t)d;
}
