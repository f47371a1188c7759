#version 450
#extension GL_GOOGLE_include_directive : require
/* Attention of each head over the raw window and the visible compressed rows, with a sink.
 * Group: one head (x) of one token (y); lanes over participants for scores, over channels for the
 * mix. Rows are keys and values at once.
 * Bindings: 0 q [n_tok][n_head][d_head], 1 raw ring [raw_cap][d_head], 2 comp [n][d_head], 3 sel
 * i32 [n_tok - sel_tok0][n_sel], 4 sinks [n_head], 5 scratch [n_tok][n_head][n_score]; 6 out
 * [n_tok][n_head][d_head]. Args: ds4_args_attention.
 * Sums: a_j in 16 lanes and a tree, times scale; den = exp(sink - m), then weights in participant
 * order; channel sums in participant order; times 1 / den. STRICT: exact.glsl and the maximum of
 * all. SOFTMAX: the device's exp, den over lanes (group_sum). The maximum is exact either way.
 * Shapes: n_score at least the number of participants. */
#define GROUP_REDUCE
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
#include "participants.glsl"
layout(std430, set = 0, binding = 5) coherent buffer Score_ { float score[]; };
layout(std430, set = 0, binding = 6) writeonly buffer Out_ { float outp[]; };

void main() {
    uint l = gl_LocalInvocationID.x, h = GROUP_X, t = GROUP_Y, lx = gl_WorkGroupSize.x;
    uint head = t * a.n_head + h, qh = head * a.d_head, at = head * a.n_score;
    participants p = participants_of(t);
    float m = sinks[h];

    for (uint j = l; j < p.n; j += lx) {
        uint row = row_of(p, j);
        float s;
        if (j < p.n_raw) DOT16(s, q, qh, raw, row, a.d_head)
        else DOT16(s, q, qh, comp, row, a.d_head)
        s = f_mul(s, a.scale);
        score[at + j] = s;
        m = s > m ? s : m;
    }
    m = group_max(m);
#ifdef STRICT
    float den = f_exp(f_sub(sinks[h], m));
    for (uint j = l; j < p.n; j += lx) score[at + j] = f_exp(f_sub(score[at + j], m));
#else
    PRECISE float den = l == 0u ? exp(sinks[h] - m) : 0.0;
    for (uint j = l; j < p.n; j += lx) {
        PRECISE float w = exp(score[at + j] - m);
        score[at + j] = w;
        den += w;
    }
    den = group_sum(den);
#endif
    memoryBarrierBuffer();
    barrier();
#ifdef STRICT
    for (uint j = 0u; j < p.n; j++) den = f_add(den, score[at + j]);
    float inv = f_div(1.0, den);
#else
    PRECISE float inv = 1.0 / den;
#endif
    for (uint i = l; i < a.d_head; i += lx) {
        float v = 0.0;
        for (uint j = 0u; j < p.n; j++) {
            uint row = row_of(p, j);
            v = f_add(v, f_mul(score[at + j], j < p.n_raw ? raw[row + i] : comp[row + i]));
        }
        outp[qh + i] = fz(f_mul(v, inv));
    }
}
