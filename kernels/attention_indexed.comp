#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
/* Attention over the rows that a token sees, read where they are cached through the list of the
 * chosen ones; for few tokens and many rows.
 * Group: one head (x) of one token (y). A subgroup per 4 rows for the scores, its lanes over channels;
 * then 8 splits of the rows in turns of 32 lanes over channels, whatever the device's subgroups are.
 * Bindings: as attention.comp. Args: ds4_args_attention.
 * Sums: scores: lane i mod size adds its channels in increasing i, then the subgroup in the device's
 * own order; weights over lanes (group_sum), the sink by lane 0; channel sums: split s of 8 adds rows
 * s c .. s c + c - 1, c = ceil(n / 8), in order, then the splits in order. The device's exp.
 * Shapes: lx = 256; n_score at least the number of rows. */
#define GROUP_REDUCE
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
#include "participants.glsl"
layout(std430, set = 0, binding = 5) coherent buffer Score_ { float score[]; };
layout(std430, set = 0, binding = 6) writeonly buffer Out_ { float outp[]; };
const uint SPLITS = 8u, LANES = 32u;
shared vec4 part[SPLITS * LANES];

/* Scores of rows first .. first + n - 1, which all lie in R. */
#define SCORES(R, first, n_)                                                                     \
    for (uint k = 4u * gl_SubgroupID; k < (n_); k += 4u * gl_NumSubgroups) {                     \
        uvec4 j = (first) + min(k + uvec4(0, 1, 2, 3), (n_) - 1u);                               \
        uvec4 r = uvec4(row_of(p, j.x), row_of(p, j.y), row_of(p, j.z), row_of(p, j.w));         \
        vec4 s = vec4(0.0);                                                                      \
        for (uint i = gl_SubgroupInvocationID; i < a.d_head; i += gl_SubgroupSize) {             \
            PRECISE vec4 v = vec4(R[r.x + i], R[r.y + i], R[r.z + i], R[r.w + i]) * q[qh + i];   \
            PRECISE vec4 t_ = s + v;                                                             \
            s = t_;                                                                              \
        }                                                                                        \
        PRECISE vec4 scaled = subgroupAdd(s) * a.scale;                                          \
        if (subgroupElect())                                                                     \
            for (uint c = 0u; c < 4u; c++)                                                       \
                if (k + c < (n_)) score[at + (first) + k + c] = scaled[c];                       \
    }

/* Channels i, i + 32, i + 64, i + 96 of a row; past the last one, that one again. */
#define CHANNELS(R, i)                                                                           \
    vec4(R[row + min(i, last)], R[row + min(i + LANES, last)], R[row + min(i + 2u * LANES, last)], \
         R[row + min(i + 3u * LANES, last)])
#define ADD_ROWS(R, begin, end)                                                                  \
    for (uint j = begin; j < end; j++) {                                                         \
        uint row = row_of(p, j);                                                                 \
        float w = score[at + j];                                                                 \
        ADD_CHANNELS(R, v0, 0u)                                                                  \
        ADD_CHANNELS(R, v1, 1u)                                                                  \
        ADD_CHANNELS(R, v2, 2u)                                                                  \
        ADD_CHANNELS(R, v3, 3u)                                                                  \
    }
#define ADD_CHANNELS(R, v, c)                                                                    \
    if (c0 + 128u * c < a.d_head) {                                                              \
        PRECISE vec4 m_ = w * CHANNELS(R, c0 + 128u * c + lane);                                 \
        PRECISE vec4 s_ = v + m_;                                                                \
        v = s_;                                                                                  \
    }

/* Adds the splits of 128 channels from c on and stores them. Every invocation calls it. */
void combine(vec4 v, uint qh, uint c, float inv) {
    uint l = gl_LocalInvocationID.x;
    if (c >= a.d_head) return;
    barrier();
    part[l] = v;
    barrier();
    if (l >= LANES) return;
    PRECISE vec4 sum = part[l];
    for (uint s = 1u; s < SPLITS; s++) sum += part[s * LANES + l];
    PRECISE vec4 o = sum * inv;
    for (uint e = 0u; e < 4u; e++)
        if (c + e * LANES + l < a.d_head) outp[qh + c + e * LANES + l] = fz(o[e]);
}

void main() {
    uint l = gl_LocalInvocationID.x, h = GROUP_X, t = GROUP_Y, lx = gl_WorkGroupSize.x;
    uint head = t * a.n_head + h, qh = head * a.d_head, at = head * a.n_score, last = a.d_head - 1u;
    participants p = participants_of(t);

    SCORES(raw, 0u, p.n_raw)
    SCORES(comp, p.n_raw, p.n - p.n_raw)
    memoryBarrierBuffer();
    barrier();
    float m = sinks[h];
    for (uint j = l; j < p.n; j += lx) m = score[at + j] > m ? score[at + j] : m;
    m = group_max(m);
    PRECISE float den = l == 0u ? exp(sinks[h] - m) : 0.0;
    for (uint j = l; j < p.n; j += lx) {
        PRECISE float w = exp(score[at + j] - m);
        score[at + j] = w;
        den += w;
    }
    den = group_sum(den);
    memoryBarrierBuffer();
    barrier();
    PRECISE float inv = 1.0 / den;

    uint lane = l % LANES, split = l / LANES, share = (p.n + SPLITS - 1u) / SPLITS;
    uint begin = min(split * share, p.n), end = min(begin + share, p.n);
    uint raw_end = clamp(p.n_raw, begin, end);
    for (uint c0 = 0u; c0 < a.d_head; c0 += 512u) {
        vec4 v0 = vec4(0.0), v1 = v0, v2 = v0, v3 = v0;
        ADD_ROWS(raw, begin, raw_end)
        ADD_ROWS(comp, raw_end, end)
        combine(v0, qh, c0, inv);
        combine(v1, qh, c0 + 128u, inv);
        combine(v2, qh, c0 + 256u, inv);
        combine(v3, qh, c0 + 384u, inv);
    }
}
