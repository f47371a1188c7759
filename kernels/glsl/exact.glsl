/* Strict arithmetic: the functions of engine/base/float.c and fmath.c, step by step.
 *
 * The API promises correct rounding for add, subtract, multiply and conversions alone, so
 * division and square root take a guess from Newton steps and correct it in integers; no divide,
 * square root or exponential instruction is used. Every float result is `precise`. Comparisons,
 * negation and bit casts are exact; minima and maxima are written as comparisons because their
 * instructions leave NaN open. Guards: tests/test_kernels.c, tests/check_strict.sh. */
#ifndef DS4_EXACT_GLSL
#define DS4_EXACT_GLSL

const uint F_INF = 0x7f800000u, F_SIGN = 0x80000000u, F_ABS = 0x7fffffffu;

float f_bits(uint u) { return uintBitsToFloat(u); }
uint f_abs_bits(float x) { return floatBitsToUint(x) & F_ABS; }
bool f_is_nan(float x) { return f_abs_bits(x) > F_INF; }
float f_abs(float x) { return uintBitsToFloat(f_abs_bits(x)); }

/* The flush rule: magnitudes below 2^-51 become +0. */
float fz(float x) { return f_abs_bits(x) < 0x26000000u ? 0.0 : x; }

/* a / b, rounded to nearest even, for normal operands and a normal quotient; a subnormal quotient
 * becomes a signed zero, a subnormal operand counts as zero. Zeros, infinities and NaN as in C. */
float f_div(float a, float b) {
    uint ua = floatBitsToUint(a), ub = floatBitsToUint(b);
    uint s = (ua ^ ub) & F_SIGN;
    uint ea = (ua >> 23) & 255u, eb = (ub >> 23) & 255u;
    if (f_is_nan(a) || f_is_nan(b)) return f_bits(0x7fc00000u);
    if (ea == 255u) return f_bits(eb == 255u ? 0x7fc00000u : s | F_INF);
    if (eb == 255u) return f_bits(s);
    if (eb == 0u) return f_bits(ea == 0u ? 0x7fc00000u : s | F_INF);
    if (ea == 0u) return f_bits(s);
    uint ma = (ua & 0x7fffffu) | 0x800000u, mb = (ub & 0x7fffffu) | 0x800000u;
    int e = int(ea) - int(eb) + 127;
    if (ma < mb) {
        ma <<= 1;
        e--;
    }
    /* Guess floor(ma * 2^23 / mb), which lies in [2^23, 2^24): 1/d by three Newton steps. */
    float d = f_bits((ub & 0x7fffffu) | 0x3f800000u);
    float y = f_bits(0x7ef311c7u - floatBitsToUint(d));
    for (int i = 0; i < 3; i++) {
        precise float t = d * y;
        precise float v = 2.0 - t;
        precise float w = y * v;
        y = w;
    }
    precise float g = float(ma) * y;
    uint q = uint(g);
    /* The remainder is small, so its low 32 bits are all of it. */
    int r = int((ma << 23) - q * mb), m = int(mb);
    for (int i = 0; i < 16 && r < 0; i++) {
        q--;
        r += m;
    }
    for (int i = 0; i < 16 && r >= m; i++) {
        q++;
        r -= m;
    }
    if (2 * r > m || (2 * r == m && (q & 1u) == 1u)) q++;
    if (q == 0x1000000u) {
        q = 0x800000u;
        e++;
    }
    if (e >= 255) return f_bits(s | F_INF);
    if (e <= 0) return f_bits(s);
    return f_bits(s | (uint(e) << 23) | (q & 0x7fffffu));
}

/* sqrt(x), rounded to nearest even; a subnormal counts as zero. */
float f_sqrt(float x) {
    uint u = floatBitsToUint(x), e = (u >> 23) & 255u;
    if (f_is_nan(x)) return x;
    if (e == 0u) return f_bits(u & F_SIGN);
    if ((u & F_SIGN) != 0u) return f_bits(0x7fc00000u);
    if (e == 255u) return x;
    uint odd = (e + 1u) & 1u;
    uint m = ((u & 0x7fffffu) | 0x800000u) << odd; /* root of m * 2^23 lies in [2^23, 2^24) */
    float f = float(m);                            /* 25 bits with a zero at the end: exact */
    float y = f_bits(0x5f3759dfu - (floatBitsToUint(f) >> 1));
    precise float h = 0.5 * f;
    for (int i = 0; i < 3; i++) {
        precise float t = h * y;
        precise float v = t * y;
        precise float w = 1.5 - v;
        precise float z = y * w;
        y = z;
    }
    precise float g = f * y; /* sqrt(m) */
    g *= 2896.309375740099;  /* sqrt(2^23): a guess may be rounded */
    uint q = uint(g);
    int r = int((m << 23) - q * q);
    for (int i = 0; i < 16 && r < 0; i++) {
        q--;
        r += int(2u * q + 1u);
    }
    for (int i = 0; i < 16 && r > int(2u * q); i++) {
        r -= int(2u * q + 1u);
        q++;
    }
    if (r > int(q)) q++;
    uint er = uint((int(e) - 173 - int(odd)) / 2 + 150);
    if (q == 0x1000000u) {
        q = 0x800000u;
        er++;
    }
    return f_bits((er << 23) | (q & 0x7fffffu));
}

/* --- small formats (float.c) --- */

float f16_widen(uint h) {
    uint s = (h & 0x8000u) << 16, e = (h >> 10) & 31u, m = h & 0x3ffu;
    precise float small = float(m) * 5.96046448e-08; /* 2^-24: exact */
    uint v = e == 0u ? floatBitsToUint(small) : e == 31u ? F_INF | (m << 13) : ((e + 112u) << 23) | (m << 13);
    return f_bits(s | v);
}

uint f16_bits(float x) {
    uint u = floatBitsToUint(x), s = (u >> 16) & 0x8000u, a = u & F_ABS;
    if (a > F_INF) return s | 0x7e00u;
    if (a >= 0x477ff000u) return s | 0x7c00u;
    if (a < 0x33000000u) return s;
    uint e = a >> 23, m = (a & 0x7fffffu) | 0x800000u;
    uint drop = e >= 113u ? 13u : 126u - e;
    uint q = m >> drop, rest = m & ((1u << drop) - 1u), half_step = 1u << (drop - 1u);
    if (rest > half_step || (rest == half_step && (q & 1u) == 1u)) q++;
    if (e >= 113u) q += (e - 113u) << 10;
    return s | q;
}

float f16_round(float x) { return f16_widen(f16_bits(x)); }
float bf16_widen(uint h) { return f_bits(h << 16); }

/* Nearest even integer of 0 <= x < 2^22, by adding and subtracting 2^23. */
float round_even(float x) {
    precise float t = x + 8388608.0;
    precise float r = t - 8388608.0;
    return r;
}

float e4m3_round(float x) {
    float a = f_abs(x);
    if (a > 448.0) a = 448.0;
    uint e = floatBitsToUint(a) >> 23;
    if (e < 121u) e = 121u;
    float scale = f_bits((e - 3u) << 23), inv = f_bits((257u - e) << 23);
    precise float t = a * inv;
    precise float y = round_even(t) * scale;
    return x < 0.0 ? -y : y;
}

float e2m1_round(float x) {
    float a = f_abs(x);
    float y = a <= 0.25  ? 0.0
              : a < 0.75 ? 0.5
              : a <= 1.25 ? 1.0
              : a < 1.75  ? 1.5
              : a <= 2.5  ? 2.0
              : a < 3.5   ? 3.0
              : a <= 5.0  ? 4.0
                          : 6.0;
    return x < 0.0 ? -y : y;
}

/* --- elementary functions (fmath.c) --- */

float rint_magic(float x) {
    precise float t = x + 12582912.0;
    precise float r = t - 12582912.0;
    return r;
}

/* q * r + c, two roundings. */
float step2(float q, float r, float c) {
    precise float t = q * r;
    precise float s = t + c;
    return s;
}

float exp_poly(float r) {
    float q = 0.000198412701;
    q = step2(q, r, 0.00138888892);
    q = step2(q, r, 0.00833333377);
    q = step2(q, r, 0.0416666679);
    q = step2(q, r, 0.166666672);
    q = step2(q, r, 0.5);
    precise float rr = r * r;
    precise float p = rr * q;
    precise float s = r + p;
    precise float y = 1.0 + s;
    return y;
}

float scale2(float y, float n) { return f_bits(floatBitsToUint(y) + (uint(int(n)) << 23)); }

float f_exp(float x) {
    if (f_is_nan(x)) return x;
    if (x > 88.7228317) return f_bits(F_INF);
    if (x < -36.0) return 0.0;
    precise float t = x * 1.44269502;
    float n = rint_magic(t);
    precise float a = n * 0.693145752;
    precise float r = x - a;
    precise float b = n * 1.42860677e-06;
    precise float r2 = r - b;
    return fz(scale2(exp_poly(r2), n));
}

float f_log1p(float u) {
    precise float d = 2.0 + u;
    float s = f_div(u, d);
    precise float z = s * s;
    float p = 0.0666666701;
    p = step2(p, z, 0.0769230798);
    p = step2(p, z, 0.0909090936);
    p = step2(p, z, 0.111111112);
    p = step2(p, z, 0.142857149);
    p = step2(p, z, 0.200000003);
    p = step2(p, z, 0.333333343);
    precise float t = s + s;
    precise float tz = t * z;
    precise float m = tz * p;
    precise float y = t + m;
    return fz(y);
}

float f_sigmoid_plain(float z) {
    precise float d = 1.0 + f_exp(-z);
    return fz(f_div(1.0, d));
}

float f_sigmoid(float z) {
    if (z >= 0.0) {
        precise float d = 1.0 + f_exp(-z);
        return f_div(1.0, d);
    }
    float e = f_exp(z);
    precise float d = 1.0 + e;
    return fz(f_div(e, d));
}

float f_tanh(float x) {
    float a = x < 0.0 ? -x : x;
    precise float aa = a + a;
    float e = f_exp(-aa);
    precise float num = 1.0 - e;
    precise float den = 1.0 + e;
    float t = fz(f_div(num, den));
    precise float minus = 0.0 - t;
    return x < 0.0 ? minus : t;
}

float f_sqrt_softplus(float z) {
    if (z < -20.0) {
        precise float half_z = 0.5 * z;
        return f_exp(half_z);
    }
    precise float minus = 0.0 - z;
    float l = f_log1p(f_exp(z < 0.0 ? z : minus));
    float m = z > 0.0 ? z : 0.0;
    precise float s = m + l;
    return f_sqrt(s);
}

float f_rsqrt(float x) {
    float y = f_bits(0x5f3759dfu - (floatBitsToUint(x) >> 1));
    precise float h = 0.5 * x;
    for (int i = 0; i < 3; i++) {
        precise float t = h * y;
        precise float t2 = t * y;
        precise float v = 1.5 - t2;
        precise float w = y * v;
        y = w;
    }
    return y;
}

/* cos in x, sin in y, of 2 pi hi / 2^32 (hi: the upper word of the turn; the lower is unused). */
vec2 f_cos_sin_turn(uint hi) {
    uint quad = (hi + 0x20000000u) >> 30;
    int rest = int(hi - (quad << 30));
    /* 30 bits in two exact halves: the API leaves the rounding of a wide conversion open. */
    precise float high = float(rest >> 12) * 4096.0;
    precise float wide = high + float(rest & 4095);
    precise float x = wide * 1.46291812e-09;
    precise float z = x * x;
    float ps = 2.75573188e-06;
    ps = step2(ps, z, -0.000198412701); /* a - c is a + (-c), bit for bit */
    ps = step2(ps, z, 0.00833333377);
    ps = step2(ps, z, -0.166666672);
    precise float xz = x * z;
    precise float xzp = xz * ps;
    precise float sn = x + xzp;
    float pc = -2.755732e-07;
    pc = step2(pc, z, 2.48015876e-05);
    pc = step2(pc, z, -0.00138888892);
    pc = step2(pc, z, 0.0416666679);
    precise float zz = z * z;
    precise float zp = zz * pc;
    precise float hz = 0.5 * z;
    precise float one = 1.0 - hz;
    precise float cs = one + zp;
    bool odd = (quad & 1u) == 1u;
    float a = odd ? sn : cs, b = odd ? cs : sn;
    precise float ma = 0.0 - a;
    precise float mb = 0.0 - b;
    return vec2(fz(quad == 1u || quad == 2u ? ma : a), fz(quad >= 2u ? mb : b));
}

/* --- sums of stated order (ops.h) --- */

/* The tree over 16 lanes: v[j] += v[j + 8], then + 4, + 2, + 1; lanes 4k..4k+3 are v_k. */
float tree16(vec4 v0, vec4 v1, vec4 v2, vec4 v3) {
    precise vec4 a = v0 + v2;
    precise vec4 b = v1 + v3;
    precise vec4 c = a + b;
    precise vec2 d = c.xy + c.zw;
    precise float e = d.x + d.y;
    return e;
}

vec4 mul_add4(vec4 acc, vec4 a, vec4 b) {
    precise vec4 p = a * b;
    precise vec4 s = acc + p;
    return s;
}

float f_add(float a, float b) {
    precise float s = a + b;
    return s;
}
float f_sub(float a, float b) {
    precise float s = a - b;
    return s;
}
float f_mul(float a, float b) {
    precise float p = a * b;
    return p;
}

#endif
