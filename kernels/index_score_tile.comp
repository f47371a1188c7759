#version 450
#extension GL_GOOGLE_include_directive : require
/* Indexer scores in tiles of tokens and compressed rows that share their loads.
 * Group: 32 rows (x) of 8 tokens (y), 64 lanes with 2 rows and 2 tokens each. The rows stay in shared
 * memory while the heads pass through it one by one.
 * Bindings: as index_score.comp. Args: ds4_args_index_score. Rows not visible get -1e30.
 * Sums: dot4 in increasing i, max with 0, times (w * scale), heads from 0 in increasing h.
 * Shapes: lx = 64. */
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Q_ { vec4 q[]; };
layout(std430, set = 0, binding = 1) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 2) readonly buffer K_ { vec4 k[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_index_score)
const uint ROWS = 32u, TOKS = 8u, QUADS = 32u; /* of 128 elements */
shared vec4 k_tile[ROWS * (QUADS + 1u)], q_tile[TOKS * QUADS];

uint visible(uint t) { return (a.pos0 + t + 1u) / a.ratio; }

void store(uint t, uint r, float v) {
    if (r >= a.n_row || t >= a.n_tok) return;
    y[t * a.n_row + r] = r >= visible(t) ? f_bits(0xf149f2cau) : fz(v); /* -1e30 */
}

void main() {
    uint l = gl_LocalInvocationID.x, r0 = GROUP_X * ROWS, t0 = GROUP_Y * TOKS;
    uint rx = l % 16u, ty = l / 16u, last = a.n_tok - 1u;
    PRECISE vec4 sum = vec4(0.0); /* rows rx, rx + 16 of token ty; the same of ty + 4 */
    bool any_seen = r0 < visible(min(t0 + TOKS - 1u, last));

    for (uint i = l; any_seen && i < ROWS * QUADS; i += 64u)
        k_tile[(i / QUADS) * (QUADS + 1u) + i % QUADS] = k[min(r0 + i / QUADS, a.n_row - 1u) * QUADS + i % QUADS];
    for (uint h = 0u; any_seen && h < a.n_head; h++) {
        barrier();
        for (uint i = l; i < TOKS * QUADS; i += 64u)
            q_tile[i] = q[(min(t0 + i / QUADS, last) * a.n_head + h) * QUADS + i % QUADS];
        barrier();
        PRECISE vec4 s = vec4(0.0);
        for (uint i = 0u; i < QUADS; i++) {
            vec4 ka = k_tile[rx * (QUADS + 1u) + i], kb = k_tile[(rx + 16u) * (QUADS + 1u) + i];
            vec4 qa = q_tile[ty * QUADS + i], qb = q_tile[(ty + 4u) * QUADS + i];
            s += vec4(dot4(ka, qa), dot4(kb, qa), dot4(ka, qb), dot4(kb, qb));
        }
        PRECISE float wa = w[min(t0 + ty, last) * a.n_head + h] * a.scale;
        PRECISE float wb = w[min(t0 + ty + 4u, last) * a.n_head + h] * a.scale;
        PRECISE vec4 p = mix(vec4(0.0), s, greaterThan(s, vec4(0.0))) * vec4(wa, wa, wb, wb);
        sum += p;
    }
    store(t0 + ty, r0 + rx, sum.x);
    store(t0 + ty, r0 + rx + 16u, sum.y);
    store(t0 + ty + 4u, r0 + rx, sum.z);
    store(t0 + ty + 4u, r0 + rx + 16u, sum.w);
}
