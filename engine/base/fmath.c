#include "engine/base/fmath.h"

#include <math.h>

#include "engine/base/float.h"

/* x rounded to the nearest integer, ties to even, |x| < 2^22. */
static inline float rint_magic(float x) {
    float t = x + 0x1.8p23f;
    return t - 0x1.8p23f;
}

/* e^r for |r| <= 0.3467: 1 + (r + r^2 q(r)), Taylor coefficients rounded to f32; the truncated
 * term r^8/8! is below 5e-9. */
static inline float exp_poly(float r) {
    float q = 0x1.a01a02p-13f; /* 1/5040 */
    q = q * r + 0x1.6c16c2p-10f;
    q = q * r + 0x1.111112p-7f;
    q = q * r + 0x1.555556p-5f;
    q = q * r + 0x1.555556p-3f;
    q = q * r + 0.5f;
    float p = (r * r) * q;
    p = r + p;
    return 1.0f + p;
}

/* y * 2^n for normal results; n is integral and |n| <= 128. */
static inline float scale2(float y, float n) {
    return ds4_f32_from_bits(ds4_f32_bits(y) + ((uint32_t)(int32_t)n << 23));
}

float ds4_exp(float x) {
    if (x != x) return x;
    if (x > 0x1.62e42ep6f) return ds4_f32_from_bits(0x7f800000u);
    if (x < -36.0f) return 0.0f;
    float n = rint_magic(x * 0x1.715476p0f);
    float r = x - n * 0x1.62e4p-1f; /* 16-bit head of ln 2: the product is exact */
    r = r - n * 0x1.7f7d1cp-20f;
    return ds4_fz(scale2(exp_poly(r), n));
}

float ds4_exp2(float t) {
    float n = rint_magic(t);
    float r = (t - n) * 0x1.62e43p-1f;
    return scale2(exp_poly(r), n);
}

float ds4_log1p(float u) {
    float s = u / (2.0f + u);
    float z = s * s;
    float p = 0x1.111112p-4f; /* 1/15 */
    p = p * z + 0x1.3b13b2p-4f;
    p = p * z + 0x1.745d18p-4f;
    p = p * z + 0x1.c71c72p-4f;
    p = p * z + 0x1.24924ap-3f;
    p = p * z + 0x1.99999ap-3f;
    p = p * z + 0x1.555556p-2f;
    float t = s + s;
    p = (t * z) * p;
    return ds4_fz(t + p);
}

float ds4_sigmoid_plain(float z) { return ds4_fz(1.0f / (1.0f + ds4_exp(-z))); }

float ds4_sigmoid(float z) {
    if (z >= 0.0f) return 1.0f / (1.0f + ds4_exp(-z));
    float e = ds4_exp(z);
    return ds4_fz(e / (1.0f + e));
}

float ds4_tanh(float x) {
    float a = x < 0.0f ? -x : x;
    float e = ds4_exp(-(a + a));
    float t = (1.0f - e) / (1.0f + e);
    t = ds4_fz(t);
    return x < 0.0f ? 0.0f - t : t;
}

float ds4_sqrt_softplus(float z) {
    if (z < -20.0f) return ds4_exp(0.5f * z);
    float l = ds4_log1p(ds4_exp(z < 0.0f ? z : 0.0f - z));
    float m = z > 0.0f ? z : 0.0f;
    return sqrtf(m + l);
}

float ds4_rsqrt(float x) {
    float y = ds4_f32_from_bits(0x5f3759dfu - (ds4_f32_bits(x) >> 1));
    float h = 0.5f * x;
    for (int i = 0; i < 3; i++) {
        float t = (h * y) * y;
        y = y * (1.5f - t);
    }
    return y;
}

void ds4_cos_sin_turn(float *c, float *s, uint64_t turn) {
    uint32_t hi = (uint32_t)(turn >> 32);
    uint32_t quad = (hi + 0x20000000u) >> 30;    /* nearest quarter turn */
    int32_t rest = (int32_t)(hi - (quad << 30)); /* -2^29 .. 2^29 - 1 */
    float x = (float)rest * 0x1.921fb6p-30f;     /* radians, |x| <= pi/4 */
    float z = x * x;
    float ps = 0x1.71de3ap-19f; /* 1/9! */
    ps = ps * z - 0x1.a01a02p-13f;
    ps = ps * z + 0x1.111112p-7f;
    ps = ps * z - 0x1.555556p-3f;
    float sn = x + (x * z) * ps;
    float pc = -0x1.27e4fcp-22f; /* -1/10! */
    pc = pc * z + 0x1.a01a02p-16f;
    pc = pc * z - 0x1.6c16c2p-10f;
    pc = pc * z + 0x1.555556p-5f;
    pc = (z * z) * pc;
    float cs = (1.0f - 0.5f * z) + pc;
    float a = quad & 1 ? sn : cs, b = quad & 1 ? cs : sn;
    *c = ds4_fz(quad == 1 || quad == 2 ? 0.0f - a : a);
    *s = ds4_fz(quad >= 2 ? 0.0f - b : b);
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
