/* Strict dot products of one decoded weight row with n_at (1 to 4) input slices x[at .. at + n).
 * Order as ds4_dot16 (ops.h): lane j of 16 adds products i mod 16 = j in increasing i, then the
 * tree 8, 4, 2, 1. In the tail of a row (unblocked formats only) every other lane adds +0, which
 * changes no bit: a lane that starts at +0 never becomes -0.
 * Under ACT_Q8 and against a block format x is first rounded as ds4_act_round (ops.h) does.
 * Before including: quant.glsl, reduce.glsl and a buffer float x[]. MAX_AT: 1 or 4. */
const bool UNBLOCKED = WTYPE == Q_F32 || WTYPE == Q_F16 || WTYPE == Q_BF16;
const bool ACT = (VARIANTS & V_ACT_Q8) != 0u && !UNBLOCKED;
const uint ACT_HALVES = WTYPE == Q_Q8_0 ? 2u : 16u; /* half blocks of 16 in a block of x */

/* Scale and its inverse of the block of x that starts at `at`. */
vec2 act_scale(uint at) {
    float top = 0.0;
    for (uint i = 0u; i < 16u * ACT_HALVES; i++)
        if (f_abs(x[at + i]) > f_abs(top)) top = x[at + i];
    if (f_abs_bits(top) == 0u) return vec2(0.0);
    if (WTYPE == Q_Q8_0) {
        float s = f_div(f_abs(top), 127.0);
        return vec2(s, f_div(1.0, s));
    }
    float inv = f_div(-127.0, top);
    return vec2(f_div(1.0, inv), inv);
}

float act_round(vec2 s, float v) {
    float code = round_even(f_mul(v, s.y));
    code = code > 127.0 ? 127.0 : code < -128.0 ? -128.0 : code;
    return fz(f_mul(s.x, code));
}

vec4 act_load4(vec2 s, uint at) {
    vec4 v = LOAD4(x, at);
    if (!ACT) return v;
    return vec4(act_round(s, v.x), act_round(s, v.y), act_round(s, v.z), act_round(s, v.w));
}

#define LANES(L)                                                                                 \
    vec4 L##0 = vec4(0.0), L##1 = L##0, L##2 = L##0, L##3 = L##0;                                \
    vec2 L##s = vec2(0.0)
#define LANES_ADD(L, at_)                                                                        \
    if (ACT && k % ACT_HALVES == 0u) L##s = act_scale(at_);                                      \
    L##0 = mul_add4(L##0, v0, act_load4(L##s, (at_)));                                           \
    L##1 = mul_add4(L##1, v1, act_load4(L##s, (at_) + 4u));                                      \
    L##2 = mul_add4(L##2, v2, act_load4(L##s, (at_) + 8u));                                      \
    L##3 = mul_add4(L##3, v3, act_load4(L##s, (at_) + 12u))

vec4 add4(vec4 p, vec4 q) {
    precise vec4 s = p + q;
    return s;
}
vec4 in_lane(uint j, uint j0, float v) {
    return vec4(j == j0 ? v : 0.0, j == j0 + 1u ? v : 0.0, j == j0 + 2u ? v : 0.0, j == j0 + 3u ? v : 0.0);
}
#define LANE_ADD(L, j, w, at_)                                                                   \
    {                                                                                            \
        float p_ = f_mul(w, x[at_]);                                                             \
        L##0 = add4(L##0, in_lane(j, 0u, p_));                                                   \
        L##1 = add4(L##1, in_lane(j, 4u, p_));                                                   \
        L##2 = add4(L##2, in_lane(j, 8u, p_));                                                   \
        L##3 = add4(L##3, in_lane(j, 12u, p_));                                                  \
    }

vec4 strict_dot(uint row, uvec4 at, uint n, uint n_at) {
    LANES(a);
    LANES(b);
    LANES(c);
    LANES(d);
    uint k = 0u;
    for (; 16u * k + 16u <= n; k++) {
        vec4 v0, v1, v2, v3;
        uvec4 p = at + 16u * k;
        w_load16(row, k, v0, v1, v2, v3);
        LANES_ADD(a, p.x);
#if MAX_AT > 1
        if (n_at > 1u) {
            LANES_ADD(b, p.y);
            if (n_at > 2u) {
                LANES_ADD(c, p.z);
                if (n_at > 3u) {
                    LANES_ADD(d, p.w);
                }
            }
        }
#endif
    }
    if (UNBLOCKED)
        for (uint i = 16u * k; i < n; i++) {
            float w = w_elem(row, i);
            LANE_ADD(a, i & 15u, w, at.x + i)
#if MAX_AT > 1
            if (n_at > 1u) LANE_ADD(b, i & 15u, w, at.y + i)
            if (n_at > 2u) LANE_ADD(c, i & 15u, w, at.z + i)
            if (n_at > 3u) LANE_ADD(d, i & 15u, w, at.w + i)
#endif
        }
    return vec4(tree16(a0, a1, a2, a3), tree16(b0, b1, b2, b3), tree16(c0, c1, c2, c3), tree16(d0, d1, d2, d3));
}
