#version 450
#extension GL_GOOGLE_include_directive : require
/* Per-channel softmax pooling of the projections of a compression window.
 * Group: lx channels (x) of one emitted row (y); one invocation per channel.
 * Bindings: 0 kv ring [cap][n_lane * d_head], 1 gate ring as kv; 2 y [n_row][d_head].
 * Args: ds4_args_softmax_pool. Row k = row0 + y covers tokens ratio*k .. ratio*k+ratio-1; token p
 * lives in slot p mod cap. n_lane 2: column i is the previous window's, d_head + i the current's.
 * Sums: STRICT: for t in order den += (w_prev + w_cur), num += w_prev * kv_prev, num += w_cur *
 * kv_cur (n_lane 1: den += w, num += w * kv) with weights exp(gate - max gate).
 * ONLINE: one pass with a running maximum, the device's exp, sums rescaled when it rises. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Kv_ { float kv[]; };
layout(std430, set = 0, binding = 1) readonly buffer Gate_ { float gate[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_softmax_pool)
const float NEG = -1.0e30;

uint at(uint pos, uint col) { return (pos % a.cap) * a.n_lane * a.d_head + col; }

#ifdef STRICT
float pool(uint first, uint i) {
    bool two = a.n_lane == 2u, prev = two && first != 0u;
    uint cur = two ? a.d_head + i : i, before = first - a.ratio;
    float m = NEG, den = 0.0, num = 0.0;
    for (uint t = 0u; t < a.ratio; t++) {
        float g = gate[at(first + t, cur)];
        m = g > m ? g : m;
        if (prev) {
            g = gate[at(before + t, i)];
            m = g > m ? g : m;
        }
    }
    for (uint t = 0u; t < a.ratio; t++) {
        uint c = at(first + t, cur);
        float w = f_exp(f_sub(gate[c], m));
        if (two) {
            uint p = at(before + t, i);
            float wp = prev ? f_exp(f_sub(gate[p], m)) : 0.0;
            den = f_add(den, f_add(wp, w));
            num = f_add(num, prev ? f_mul(wp, kv[p]) : 0.0);
        } else {
            den = f_add(den, w);
        }
        num = f_add(num, f_mul(w, kv[c]));
    }
    return f_div(num, den);
}
#else
float pool(uint first, uint i) {
    uint cur = a.n_lane == 2u ? a.d_head + i : i;
    bool prev = a.n_lane == 2u && first != 0u;
    float m = NEG;
    PRECISE float den = 0.0;
    PRECISE float num = 0.0;
    for (uint t = 0u; t < (prev ? 2u : 1u) * a.ratio; t++) {
        uint c = t < a.ratio ? at(first + t, cur) : at(first + t - 2u * a.ratio, i);
        float g = gate[c], top = max(g, m);
        PRECISE float w = exp(g - top);
        PRECISE float keep = exp(m - top);
        den = MAD(den, keep, w);
        PRECISE float kept = num * keep;
        num = MAD(w, kv[c], kept);
        m = top;
    }
    PRECISE float v = num / den;
    return v;
}
#endif

void main() {
    uint i = UNIT_X, r = UNIT_Y;
    if (i >= a.d_head || r >= a.n_row) return;
    y[r * a.d_head + i] = fz(pool((a.row0 + r) * a.ratio, i));
}
