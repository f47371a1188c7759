#version 450
#extension GL_GOOGLE_include_directive : require
/* Hyper-connection mixer outputs to read weights, write weights and the mixing matrix.
 * Group: lx tokens; one invocation per token.
 * Bindings: 0 mix [n_tok][24], 1 scale [3], 2 base [24]; 3 y [n_tok][24] = pre[4], post[4],
 * comb[4][4] (row: source stream, column: destination). Args: ds4_args_hc_split.
 * Sums: over 0..3 from the left, eps last. STRICT: exact.glsl; NATIVE: the device's exp, tanh
 * and division. Variant HC_STABLE: the tanh forms. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Mix_ { float mix_in[]; };
layout(std430, set = 0, binding = 1) readonly buffer Scale_ { float scale[]; };
layout(std430, set = 0, binding = 2) readonly buffer Base_ { float base[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_hc_split)

#ifdef STRICT
float op_exp(float z) { return f_exp(z); }
float op_tanh(float z) { return f_tanh(z); }
float op_div(float p, float q) { return f_div(p, q); }
float op_plain_logistic(float z) {
    precise float d = 1.0 + f_exp(-z);
    return fz(f_div(1.0, d));
}
#else
float op_exp(float z) { return exp(z); }
float op_tanh(float z) { return tanh(z); }
float op_plain_logistic(float z) {
    PRECISE float s = 1.0 / (1.0 + exp(-z));
    return s;
}
float op_div(float p, float q) {
    PRECISE float d = p / q;
    return d;
}
#endif

float inverse_sum(vec4 v) {
    PRECISE float s01 = v.x + v.y;
    PRECISE float s012 = s01 + v.z;
    PRECISE float s = s012 + v.w;
    PRECISE float e = s + a.eps;
    return op_div(1.0, e);
}
vec4 scaled(vec4 v, float f) {
    PRECISE vec4 p = v * f;
    return p;
}

void main() {
    uint t = UNIT_X;
    if (t >= a.n_tok) return;
    uint at = 24u * t;
    bool stable = (VARIANTS & V_HC_STABLE) != 0u;
    for (uint i = 0u; i < 8u; i++) {
        float z = MAD(mix_in[at + i], scale[i / 4u], base[i]);
        PRECISE float hz = 0.5 * z;
        PRECISE float h = stable ? op_tanh(hz) : op_plain_logistic(z);
        PRECISE float half_h = 0.5 * h;
        PRECISE float mid = half_h + 0.5;
        PRECISE float pre = (stable ? mid : h) + a.eps;
        PRECISE float up = 1.0 + h;
        PRECISE float twice = 2.0 * h;
        y[at + i] = fz(i < 4u ? pre : stable ? up : twice);
    }
    vec4 m[4];
    for (uint r = 0u; r < 4u; r++) {
        for (uint k = 0u; k < 4u; k++)
            m[r][k] = MAD(mix_in[at + 8u + 4u * r + k], scale[2], base[8u + 4u * r + k]);
        float top = m[r][0];
        for (uint k = 1u; k < 4u; k++) top = m[r][k] > top ? m[r][k] : top;
        PRECISE float sum = 0.0;
        for (uint k = 0u; k < 4u; k++) {
            PRECISE float d = m[r][k] - top;
            m[r][k] = op_exp(d);
            sum = sum + m[r][k];
        }
        float inv = op_div(1.0, sum);
        PRECISE vec4 n = scaled(m[r], inv) + vec4(a.eps);
        m[r] = n;
    }
    for (uint round_i = 0u; round_i < max(a.n_sinkhorn, 1u); round_i++) {
        if (round_i > 0u)
            for (uint r = 0u; r < 4u; r++) m[r] = scaled(m[r], inverse_sum(m[r]));
        vec4 inv;
        for (uint k = 0u; k < 4u; k++) inv[k] = inverse_sum(vec4(m[0][k], m[1][k], m[2][k], m[3][k]));
        for (uint r = 0u; r < 4u; r++) {
            PRECISE vec4 p = m[r] * inv;
            m[r] = p;
        }
    }
    for (uint i = 0u; i < 16u; i++) y[at + 8u + i] = fz(m[i / 4u][i % 4u]);
}
