/* Strict arithmetic: the functions of engine/base/float.c and fmath.c, step by step.
 *
 * The API promises correct rounding for add, subtract, multiply and conversions alone, so
 * division and square root take a guess from Newton steps and correct it in integers, and the
 * elementary functions are integers throughout; no divide, square root or exponential instruction
 * is used. Every float result is `precise`. Comparisons,
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

/* Nearest even integer of |x| < 2^22, by adding and subtracting 1.5 * 2^23. */
float round_even(float x) {
    precise float t = x + 12582912.0;
    precise float r = t - 12582912.0;
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

/* --- elementary functions (fmath.c, in 32-bit words: a u64 is a uvec2 of high and low) --- */

const uint F_NAN = 0x7fc00000u, F_ONE = 0x3f800000u;

uvec2 u_mul(uint a, uint b) {
    uint hi, lo;
    umulExtended(a, b, hi, lo);
    return uvec2(hi, lo);
}
uvec2 u_add(uvec2 a, uvec2 b) {
    uint carry, lo = uaddCarry(a.y, b.y, carry);
    return uvec2(a.x + b.x + carry, lo);
}
uvec2 u_neg(uvec2 a) { return u_add(~a, uvec2(0u, 1u)); }
/* 0 <= s <= 63 */
uvec2 u_shr(uvec2 a, int s) {
    if (s >= 32) return uvec2(0u, a.x >> uint(s - 32));
    return s == 0 ? a : uvec2(a.x >> uint(s), (a.x << uint(32 - s)) | (a.y >> uint(s)));
}
uvec2 u_shl(uvec2 a, int s) {
    if (s >= 32) return uvec2(a.y << uint(s - 32), 0u);
    return s == 0 ? a : uvec2((a.x << uint(s)) | (a.y >> uint(32 - s)), a.y << uint(s));
}

uint mul_floor(uint a, uint b) { return u_mul(a, b).x; }
uint mul_round(uint a, uint b) {
    uvec2 p = u_mul(a, b);
    return p.x + (p.y >> 31);
}
uint half_mul(uint a, uint b) {
    uint hi = u_mul(a, b).x;
    return (hi >> 1) + (hi & 1u);
}
uint below_one(uint a) { return a == 0u ? 0xffffffffu : 0u - a; }
uvec2 shift_round(uvec2 v, int s) {
    if (s > 63) return uvec2(0u);
    return u_shr(u_add(u_shr(v, s - 1), uvec2(0u, 1u)), 1);
}

/* m * 2^(e - 63); the top bit of m is set. */
struct fx {
    uvec2 m;
    int e;
};

fx fx_norm(uvec2 m, int e) {
    for (int s = 32; s >= 1; s /= 2)
        if (u_shr(m, 64 - s) == uvec2(0u)) {
            m = u_shl(m, s);
            e -= s;
        }
    return fx(m, e);
}
fx fx_times(fx v, uint f) {
    return fx_norm(u_add(u_mul(v.m.x, f), uvec2(0u, mul_floor(v.m.y, f))), v.e);
}
fx fx_one_minus(fx v) {
    int s = -1 - v.e;
    return fx_norm(s < 64 ? ~u_shr(v.m, s) : uvec2(0xffffffffu), -1);
}
uint fx_q32(fx v, int k) {
    uvec2 q = shift_round(v.m, 31 - v.e - k);
    return q.y - q.x;
}

uint significand24(uint a) { return (a & 0x7fffffu) | 0x800000u; }
fx fx_from_f32(uint a) { return fx(uvec2(significand24(a) << 8, 0u), int(a >> 23) - 127); }
float fx_to_f32(fx v, bool minus) {
    uint m = v.m.x;
    if (v.e > 127) return f_bits(F_INF);
    if (v.e < -52) return 0.0;
    uint u = (uint(v.e + 126) << 23) + (m >> 8) + ((m >> 7) & 1u);
    return u < 0x26000000u ? 0.0 : f_bits(minus ? u | F_SIGN : u);
}

fx exp2_fx(uvec2 t) {
    uint f = t.y, q = 0x0059e2f3u;
    q = 0x012d830cu + half_mul(f, q);
    q = 0x057f15f5u + half_mul(f, q);
    q = 0x13b0a73fu + half_mul(f, q);
    q = 0x38d64f0bu + half_mul(f, q);
    q = 0x7afef493u + half_mul(f, q);
    q = 0xb1721808u + half_mul(f, q);
    uint p = mul_round(f, q);
    return fx(uvec2(0x80000000u | (p >> 1), p << 31), int(t.x));
}

uvec2 log2_of_exp(uint a, int k) {
    uint m = significand24(a);
    uvec2 t = u_mul(m, 0xaa3b295cu);
    t.x += m * 0xb8u;
    return shift_round(t, 157 - int(a >> 23) - k);
}

uint fx_recip(uint x) {
    uint y = 0xe38e3800u - mul_round(x, 0x71c71c72u);
    for (int i = 0; i < 3; i++) y += mul_floor(y, ~(y + mul_floor(x, y)));
    uvec2 rest = u_neg(u_add(uvec2(y, 0u), u_mul(x, y)));
    y += (mul_floor(y, u_shr(rest, 8).y) + 0x800000u) >> 24;
    return y == 0u ? 0xffffffffu : y;
}

uint fx_rsqrt(uvec2 m) {
    uint y = (0x887f5869u - mul_round(m.x, 0x4dffa03cu)) << 1;
    for (int i = 0; i < 3; i++) {
        uint v = 0xc0000000u - mul_floor(m.x, mul_floor(y, y));
        y = u_shr(u_mul(y, v), 31).y;
    }
    y -= 8u;
    uvec2 yy = u_mul(y, y);
    uvec2 got = u_add(u_mul(m.x, yy.x), uvec2(0u, mul_floor(m.x, yy.y)));
    got = u_add(got, uvec2(0u, mul_floor(m.y, yy.x)));
    uvec2 rest = u_add(uvec2(0x40000000u, 0u), u_neg(got));
    y += (mul_floor(y, u_shr(rest, 8).y) + 0x400000u) >> 23;
    return y == 0u ? 0xffffffffu : y;
}

fx log1p_fx(fx v) {
    uint r = fx_recip(fx_q32(v, -1)), s = mul_round(fx_q32(v, 0), r), w = mul_round(s, s);
    uint q = 0x01aa4b49u;
    q = 0x02cb0a9du + half_mul(w, q);
    q = 0x071ffc61u + half_mul(w, q);
    q = 0x1248f43fu + half_mul(w, q);
    q = 0x33333423u + half_mul(w, q);
    q = 0xaaaaaaaau + half_mul(w, q);
    return fx_times(v, r + ((mul_round(r, mul_round(w, q)) + 4u) >> 3));
}

fx logistic_tail(uint a, int k) {
    fx e = exp2_fx(u_neg(log2_of_exp(a, k)));
    return fx_times(e, fx_recip(fx_q32(e, 0)));
}

fx sqrt_fx(fx v) {
    int odd = v.e & 1;
    fx s = fx_times(v, fx_rsqrt(odd == 1 ? v.m : u_shr(v.m, 1)));
    return fx(s.m, s.e - (v.e >> 1));
}

float f_exp(float x) {
    uint u = floatBitsToUint(x), a = u & F_ABS;
    bool minus = (u & F_SIGN) != 0u;
    if (a > F_INF) return f_bits(F_NAN);
    if (a >= 0x43000000u) return minus ? 0.0 : f_bits(F_INF);
    uvec2 t = log2_of_exp(a, 0);
    return fx_to_f32(exp2_fx(minus ? u_neg(t) : t), false);
}

float f_sigmoid(float x) {
    uint u = floatBitsToUint(x), a = u & F_ABS;
    bool minus = (u & F_SIGN) != 0u;
    if (a > F_INF) return f_bits(F_NAN);
    if (a >= 0x43000000u) return minus ? 0.0 : 1.0;
    fx v = logistic_tail(a, 0);
    if (!minus) v = fx_one_minus(v);
    return fx_to_f32(v, false);
}

float f_tanh(float x) {
    uint u = floatBitsToUint(x), a = u & F_ABS;
    bool minus = (u & F_SIGN) != 0u;
    if (a > F_INF) return f_bits(F_NAN);
    if (a < 0x26000000u) return 0.0;
    if (a >= 0x42000000u) return minus ? -1.0 : 1.0;
    if (a >= 0x3f100000u) {
        fx v = logistic_tail(a, 1);
        return fx_to_f32(fx_one_minus(fx(v.m, v.e + 1)), minus);
    }
    fx v = fx_from_f32(a);
    uint w = fx_q32(v, 0), t = 0x1f21713cu;
    w = mul_round(w, w);
    t = 0x3791adffu - half_mul(w, t);
    t = 0x48452994u - half_mul(w, t);
    t = 0x598f2ed5u - half_mul(w, t);
    t = 0x6e86c9d4u - half_mul(w, t);
    t = 0x8888883du - half_mul(w, t);
    t = 0xaaaaaaabu - half_mul(w, t);
    return fx_to_f32(fx_times(v, below_one(half_mul(w, t))), minus);
}

float f_sqrt_softplus(float x) {
    uint u = floatBitsToUint(x), a = u & F_ABS;
    bool minus = (u & F_SIGN) != 0u;
    if (a > F_INF) return f_bits(F_NAN);
    if (a == F_INF) return minus ? 0.0 : x;
    if (a >= 0x43000000u) return minus ? 0.0 : fx_to_f32(sqrt_fx(fx_from_f32(a)), false);
    fx v = log1p_fx(exp2_fx(u_neg(log2_of_exp(a, 0))));
    if (!minus) {
        int s = int(a >> 23) - 93;
        uvec2 m = uvec2(0u, significand24(a));
        v = fx_norm(u_add(shift_round(v.m, 6 - v.e), s >= 0 ? u_shl(m, s) : shift_round(m, -s)), 6);
    }
    return fx_to_f32(sqrt_fx(v), false);
}

float f_rsqrt(float x) {
    uint u = floatBitsToUint(x), a = u & F_ABS;
    if (a < 0x00800000u) return f_bits(F_INF);
    if (u > F_INF) return f_bits(F_NAN);
    if (u == F_INF) return 0.0;
    fx v = fx_from_f32(u);
    int odd = v.e & 1;
    uint r = fx_rsqrt(odd == 1 ? v.m : u_shr(v.m, 1));
    return fx_to_f32(fx_norm(uvec2(r, 0u), -1 - (v.e >> 1)), false);
}

/* cos in x, sin in y. */
vec2 f_cos_sin_turn(uvec2 turn) {
    uint quad = (turn.x + 0x20000000u) >> 30;
    uvec2 rest = uvec2(turn.x - (quad << 30), turn.y);
    bool minus = (rest.x & F_SIGN) != 0u;
    if (minus) rest = u_neg(rest);
    uvec2 x = shift_round(rest, 29);
    uint w = x.y - x.x, p = 0x00000d0fu, q = 0x000052f2u;
    w = mul_round(w, w);
    p = 0x0003c3d9u - half_mul(w, p);
    p = 0x00aae9e1u - half_mul(w, p);
    p = 0x103c1f08u - half_mul(w, p);
    p = 0x9de9e64eu - half_mul(w, p);
    q = 0x00132caau - half_mul(w, q);
    q = 0x028cd776u - half_mul(w, q);
    q = 0x295779cbu - half_mul(w, q);
    q = 0xc90fdaa2u - half_mul(w, q);
    float cs = fx_to_f32(fx(uvec2(below_one(half_mul(w, p)), 0u), -1), quad >= 2u);
    bool turned = quad == 1u || quad == 2u;
    float sn = rest == uvec2(0u) ? 0.0 : fx_to_f32(fx_times(fx_norm(rest, 2), q), minus != turned);
    return (quad & 1u) == 1u ? vec2(sn, cs) : vec2(cs, sn);
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
