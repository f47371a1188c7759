#include "engine/base/fmath.h"

#include <math.h>
#include <stdbool.h>

#include "engine/base/float.h"

/* Integers throughout, so no floating-point mode matters: a factor is a u32 in units of 2^-32
 * (Q32), a number a 64-bit significand with an exponent. Each function ends in one rounding to
 * 24 bits of a number that is within 3 units of 2^-32 of the truth. */

/* m * 2^(e - 63); the top bit of m is set. */
typedef struct fx {
    uint64_t m;
    int32_t e;
} fx;

static const uint32_t f32_inf = 0x7f800000u, f32_nan = 0x7fc00000u, f32_one = 0x3f800000u;

static inline uint32_t high(uint64_t v) { return (uint32_t)(v >> 32); }
static inline uint32_t mul_floor(uint32_t a, uint32_t b) { return high((uint64_t)a * b); }
/* a * b / 2^32, rounded. */
static inline uint32_t mul(uint32_t a, uint32_t b) {
    return high((uint64_t)a * b + 0x80000000u);
}
/* a * b / 2^33, rounded: one step of a polynomial whose coefficient k is in Q(32 + k), so that
 * the rounding of an inner step counts less than that of an outer one. */
static inline uint32_t half_mul(uint32_t a, uint32_t b) {
    return (uint32_t)(((uint64_t)a * b + ((uint64_t)1 << 32)) >> 33);
}
/* 1 - a in Q32, at most 1 - 2^-32. */
static inline uint32_t below_one(uint32_t a) { return 0 - a - (a == 0); }
/* v / 2^s, rounded, s >= 1; 0 past the width. */
static inline uint64_t shift_round(uint64_t v, int32_t s) {
    return s > 63 ? 0 : ((v >> (s - 1)) + 1) >> 1;
}

/* m is not 0. */
static inline fx norm(uint64_t m, int32_t e) {
    int32_t n = __builtin_clzll(m);
    return (fx){m << n, e - n};
}
/* v * f for f in [1/2, 1) of Q32, cut after 64 bits. */
static inline fx times(fx v, uint32_t f) {
    return norm((v.m >> 32) * f + ((v.m & UINT32_MAX) * f >> 32), v.e);
}
/* 1 - v, v at most 1/2 but for a rounding; 2^-64 less, so that 1 - 0 fits. */
static inline fx one_minus(fx v) {
    int32_t s = -1 - v.e;
    return norm(~(s < 64 ? v.m >> s : 0), -1);
}
/* v * 2^k in Q32, at most 1 - 2^-32. */
static inline uint32_t q32(fx v, int32_t k) {
    uint64_t q = shift_round(v.m, 31 - v.e - k);
    return (uint32_t)(q - (q >> 32));
}

/* a: the bits of |x|, x normal. */
static inline uint64_t significand24(uint32_t a) { return (a & 0x7fffffu) | 0x800000u; }
static inline fx from_f32(uint32_t a) {
    return (fx){significand24(a) << 40, (int32_t)(a >> 23) - 127};
}
/* Rounds to f32, half up (no result is a tie: see fmath.h), then flushes as ds4_fz does. */
static inline float to_f32(fx v, bool minus) {
    uint32_t m = high(v.m);
    if (v.e > 127) return ds4_f32_from_bits(f32_inf);
    if (v.e < -52) return 0.0f;
    uint32_t u = ((uint32_t)(v.e + 126) << 23) + (m >> 8) + (m >> 7 & 1u);
    return u < 0x26000000u ? 0.0f : ds4_f32_from_bits(u | (uint32_t)minus << 31);
}

/* ---- shared parts; the polynomials are minimax, their error is stated ---- */

/* 2^t, t in Q32 of two's complement: 1 + f q(f) for the fraction f; 2^-34.4. */
static inline fx exp2_fx(uint64_t t) {
    uint32_t f = (uint32_t)t, q = 0x0059e2f3u;
    q = 0x012d830cu + half_mul(f, q);
    q = 0x057f15f5u + half_mul(f, q);
    q = 0x13b0a73fu + half_mul(f, q);
    q = 0x38d64f0bu + half_mul(f, q);
    q = 0x7afef493u + half_mul(f, q);
    q = 0xb1721808u + half_mul(f, q);
    return (fx){(uint64_t)1 << 63 | (uint64_t)mul(f, q) << 31, (int32_t)high(t)};
}

/* |x| * 2^k * log2 e in Q32, less than 2^8; log2 e in Q39. */
static inline uint64_t log2_of_exp(uint32_t a, int32_t k) {
    return shift_round(significand24(a) * 0xb8aa3b295cu, 157 - (int32_t)(a >> 23) - k);
}

/* 1 / (1 + x) for x in Q32, at most 1 - 2^-32: a line that lies below, then steps of Newton's,
 * which stay below, then what is left of 1, exactly. */
static inline uint32_t recip(uint32_t x) {
    uint32_t y = 0xe38e3800u - mul(x, 0x71c71c72u);
    for (int i = 0; i < 3; i++) y += mul_floor(y, ~(y + mul_floor(x, y)));
    uint64_t rest = 0 - (((uint64_t)y << 32) + (uint64_t)x * y); /* below 2^40 */
    y += (mul_floor(y, (uint32_t)(rest >> 8)) + 0x800000u) >> 24;
    return y - (y == 0);
}

/* 1 / sqrt(m) for m in Q62, 1 <= m < 4, at most 1 - 2^-32: the same way. */
static inline uint32_t rsqrt(uint64_t m) {
    uint32_t mh = high(m), y = (0x887f5869u - mul(mh, 0x4dffa03cu)) << 1;
    for (int i = 0; i < 3; i++) {
        uint32_t v = 0xc0000000u - mul_floor(mh, mul_floor(y, y)); /* 3 - m y^2 in Q30 */
        y = (uint32_t)((uint64_t)y * v >> 31);
    }
    y -= 8; /* below the root, whatever the roundings did */
    uint64_t yy = (uint64_t)y * y;
    uint64_t rest = ((uint64_t)1 << 62) - (uint64_t)mh * high(yy) -
                    mul_floor(mh, (uint32_t)yy) - mul_floor((uint32_t)m, high(yy));
    y += (mul_floor(y, (uint32_t)(rest >> 8)) + 0x400000u) >> 23;
    return y - (y == 0);
}

/* log(1 + v), 0 < v <= 1: 2 atanh(s), s = v / (2 + v), as 2 s (1 + s^2 / 3 + ..), a polynomial
 * of (2 s)^2 with the result in Q35; 2^-36.6. */
static inline fx log1p_fx(fx v) {
    uint32_t r = recip(q32(v, -1)), s = mul(q32(v, 0), r), w = mul(s, s), q = 0x01aa4b49u;
    q = 0x02cb0a9du + half_mul(w, q);
    q = 0x071ffc61u + half_mul(w, q);
    q = 0x1248f43fu + half_mul(w, q);
    q = 0x33333423u + half_mul(w, q);
    q = 0xaaaaaaaau + half_mul(w, q);
    return times(v, r + ((mul(r, mul(w, q)) + 4) >> 3));
}

/* 1 / (1 + e^y), y = |x| 2^k: at most 1/2. */
static inline fx logistic_tail(uint32_t a, int32_t k) {
    fx e = exp2_fx(0 - log2_of_exp(a, k));
    return times(e, recip(q32(e, 0)));
}

static inline fx sqrt_fx(fx v) {
    bool odd = v.e & 1;
    fx s = times(v, rsqrt(odd ? v.m : v.m >> 1));
    return (fx){s.m, s.e - (v.e - odd) / 2};
}

/* ---- the functions. a: the bits of |x|; 0x43000000 is 128. ---- */

float ds4_exp(float x) {
    uint32_t u = ds4_f32_bits(x), a = u & 0x7fffffffu;
    if (a > f32_inf) return ds4_f32_from_bits(f32_nan);
    if (a >= 0x43000000u) return u >> 31 ? 0.0f : ds4_f32_from_bits(f32_inf);
    uint64_t t = log2_of_exp(a, 0);
    return to_f32(exp2_fx(u >> 31 ? 0 - t : t), false);
}

float ds4_exp2(float x) {
    uint32_t u = ds4_f32_bits(x), a = u & 0x7fffffffu;
    if (a > f32_inf) return ds4_f32_from_bits(f32_nan);
    if (a >= 0x43000000u) return u >> 31 ? 0.0f : ds4_f32_from_bits(f32_inf);
    uint64_t t = shift_round(significand24(a) << 32, 150 - (int32_t)(a >> 23));
    return to_f32(exp2_fx(u >> 31 ? 0 - t : t), false);
}

float ds4_log1p(float x) {
    uint32_t u = ds4_f32_bits(x);
    if (u << 1 < 0x4c000000u) return 0.0f; /* below 2^-51, of either sign */
    if (u > f32_one) return ds4_f32_from_bits(f32_nan);
    return to_f32(log1p_fx(from_f32(u)), false);
}

float ds4_sigmoid(float x) {
    uint32_t u = ds4_f32_bits(x), a = u & 0x7fffffffu;
    if (a > f32_inf) return ds4_f32_from_bits(f32_nan);
    if (a >= 0x43000000u) return u >> 31 ? 0.0f : 1.0f;
    fx v = logistic_tail(a, 0);
    return to_f32(u >> 31 ? v : one_minus(v), false);
}

float ds4_tanh(float x) {
    uint32_t u = ds4_f32_bits(x), a = u & 0x7fffffffu;
    bool minus = u >> 31;
    if (a > f32_inf) return ds4_f32_from_bits(f32_nan);
    if (a < 0x26000000u) return 0.0f;
    if (a >= 0x42000000u) return minus ? -1.0f : 1.0f;
    if (a >= 0x3f100000u) { /* 0.5625: 1 - 2 / (1 + e^2a), at least 1/2 */
        fx v = logistic_tail(a, 1);
        return to_f32(one_minus((fx){v.m, v.e + 1}), minus);
    }
    fx v = from_f32(a); /* x - x w t(w), w = x^2; 2^-37.7 */
    uint32_t w = q32(v, 0), t = 0x1f21713cu;
    w = mul(w, w);
    t = 0x3791adffu - half_mul(w, t);
    t = 0x48452994u - half_mul(w, t);
    t = 0x598f2ed5u - half_mul(w, t);
    t = 0x6e86c9d4u - half_mul(w, t);
    t = 0x8888883du - half_mul(w, t);
    t = 0xaaaaaaabu - half_mul(w, t);
    return to_f32(times(v, below_one(half_mul(w, t))), minus);
}

float ds4_sqrt_softplus(float x) {
    uint32_t u = ds4_f32_bits(x), a = u & 0x7fffffffu;
    if (a > f32_inf) return ds4_f32_from_bits(f32_nan);
    if (a == f32_inf) return u >> 31 ? 0.0f : x;
    if (a >= 0x43000000u) return u >> 31 ? 0.0f : to_f32(sqrt_fx(from_f32(a)), false);
    fx v = log1p_fx(exp2_fx(0 - log2_of_exp(a, 0)));
    if (u >> 31 == 0) { /* x + v in Q57 */
        uint64_t sum = shift_round(v.m, 6 - v.e);
        int32_t s = (int32_t)(a >> 23) - 93;
        sum += s >= 0 ? significand24(a) << s : shift_round(significand24(a), -s);
        v = norm(sum, 6);
    }
    return to_f32(sqrt_fx(v), false);
}

float ds4_rsqrt(float x) {
    uint32_t u = ds4_f32_bits(x), a = u & 0x7fffffffu;
    if (a < 0x00800000u) return ds4_f32_from_bits(f32_inf); /* zeros and subnormals */
    if (u > f32_inf) return ds4_f32_from_bits(f32_nan);
    if (u == f32_inf) return 0.0f;
    fx v = from_f32(u);
    bool odd = v.e & 1;
    uint32_t r = rsqrt(odd ? v.m : v.m >> 1);
    return to_f32(norm((uint64_t)r << 32, -1 - (v.e - odd) / 2), false);
}

void ds4_cos_sin_turn(float *c, float *s, uint64_t turn) {
    uint32_t quad = (uint32_t)((turn + ((uint64_t)1 << 61)) >> 62); /* nearest quarter turn */
    uint64_t rest = turn - ((uint64_t)quad << 62); /* at most 2^61 either way */
    bool minus = rest >> 63;
    if (minus) rest = 0 - rest;
    /* x: eighths of a turn, w = x^2. cos = 1 - w p(w), 2^-42; sin = x q(w), 2^-38. */
    uint64_t x = shift_round(rest, 29);
    uint32_t w = (uint32_t)(x - (x >> 32)), p = 0x00000d0fu, q = 0x000052f2u;
    w = mul(w, w);
    p = 0x0003c3d9u - half_mul(w, p);
    p = 0x00aae9e1u - half_mul(w, p);
    p = 0x103c1f08u - half_mul(w, p);
    p = 0x9de9e64eu - half_mul(w, p);
    q = 0x00132caau - half_mul(w, q);
    q = 0x028cd776u - half_mul(w, q);
    q = 0x295779cbu - half_mul(w, q);
    q = 0xc90fdaa2u - half_mul(w, q);
    float cs = to_f32((fx){(uint64_t)below_one(half_mul(w, p)) << 32, -1}, quad >= 2);
    float sn = rest ? to_f32(times(norm(rest, 2), q), minus ^ (quad == 1 || quad == 2)) : 0.0f;
    *c = quad & 1 ? sn : cs;
    *s = quad & 1 ? cs : sn;
}

double ds4_exp_f64(double x) {
    const double ln2_hi = 0x1.62e42fefa0000p-1, ln2_lo = 0x1.cf79abc9e3b3ap-40;
    double n = floor(x * 0x1.71547652b82fep0 + 0.5);
    double r = (x - n * ln2_hi) - n * ln2_lo, term = 1.0, sum = 0.0;
    double terms[20];
    for (int i = 1; i < 20; i++) terms[i] = term = term * r / (double)i;
    for (int i = 19; i >= 1; i--) sum += terms[i];
    return ldexp(1.0 + sum, (int)n);
}

double ds4_log_f64(double x) {
    int e;
    double m = frexp(x, &e); /* [0.5, 1) */
    if (m < 0x1.6a09e667f3bcdp-1) m *= 2.0, e--;
    double s = (m - 1.0) / (m + 1.0), z = s * s, p = 0.0;
    for (int i = 41; i >= 3; i -= 2) p = p * z + 1.0 / (double)i;
    p = s + s * (z * p);
    return (double)e * 0x1.62e42fefa39efp-1 + 2.0 * p;
}
