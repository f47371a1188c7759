#version 450
#extension GL_GOOGLE_include_directive : require
/* Attention with an online softmax: one pass over the participants, no scratch.
 * Group: one head (x) of one token (y). Blocks of lx participants: a score per lane, the running
 * maximum raised and the sums rescaled, then lanes over channels add the block's rows.
 * Bindings: as attention.comp without the scratch (binding 5). Args: ds4_args_attention.
 * Sums: dot products by fours (dot4); a block's weights over lanes (group_sum); channel sums
 * in participant order within and across blocks; the device's exp; the sink first.
 * Shapes: lx a power of two, 64 at most; wide heads are done in passes of 16 lx channels. */
#define GROUP_REDUCE
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
#include "participants.glsl"
layout(std430, set = 0, binding = 6) writeonly buffer Out_ { float outp[]; };
shared float wt[64];
shared uint row_at[64];

#define BY_FOUR(sum, R, row)                                                                  \
    for (uint i_ = 0u; i_ + 4u <= a.d_head; i_ += 4u) sum += dot4(LOAD4(q, qh + i_), LOAD4(R, row + i_)); \
    for (uint i_ = a.d_head & ~3u; i_ < a.d_head; i_++) sum = MAD(q[qh + i_], R[row + i_], sum);

float score_of(uint qh, uint row, bool is_raw) {
    PRECISE float v = 0.0;
    if (is_raw) { BY_FOUR(v, raw, row) } else { BY_FOUR(v, comp, row) }
    PRECISE float s = v * a.scale;
    return s;
}

void main() {
    uint l = gl_LocalInvocationID.x, h = GROUP_X, t = GROUP_Y, lx = gl_WorkGroupSize.x;
    uint qh = (t * a.n_head + h) * a.d_head;
    participants p = participants_of(t);
    for (uint c0 = 0u; c0 < a.d_head; c0 += 16u * lx) {
        float m = sinks[h];
        PRECISE float den = 1.0;
        float acc[16];
        uint n_acc = min((a.d_head - c0 + lx - 1u) / lx, 16u);
        for (uint c = 0u; c < 16u; c++) acc[c] = 0.0;
        for (uint j0 = 0u; j0 < p.n; j0 += lx) {
            uint j = j0 + l, n = min(lx, p.n - j0);
            row_at[l] = j < p.n ? row_of(p, j) : 0u;
            float s = j < p.n ? score_of(qh, row_at[l], j < p.n_raw) : m;
            float top = max(m, group_max(s));
            PRECISE float keep = exp(m - top);
            PRECISE float w = j < p.n ? exp(s - top) : 0.0;
            wt[l] = w;
            den = MAD(den, keep, group_sum(w));
            for (uint c = 0u; c < n_acc; c++) {
                uint i = min(c0 + c * lx + l, a.d_head - 1u);
                PRECISE float v = acc[c] * keep;
                for (uint b = 0u; b < n; b++)
                    v = MAD(wt[b], j0 + b < p.n_raw ? raw[row_at[b] + i] : comp[row_at[b] + i], v);
                acc[c] = v;
            }
            m = top;
            barrier();
        }
        PRECISE float inv = 1.0 / den;
        for (uint c = 0u; c < n_acc; c++) {
            PRECISE float v = acc[c] * inv;
            if (c0 + c * lx + l < a.d_head) outp[qh + c0 + c * lx + l] = fz(v);
        }
    }
}
