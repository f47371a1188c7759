#version 450
#extension GL_GOOGLE_include_directive : require
/* Indexer scores of the compressed rows that a token may see.
 * Group: STRICT: lx rows (x) of one token (y), one invocation per score. TREE, HALF: the same
 * work, the dot product by fours.
 * Bindings: 0 q [n_tok][n_head][128], 1 w [n_tok][n_head], 2 K [>= n_row][128]; 3 score
 * [n_tok][n_row]. Args: ds4_args_index_score. Rows not visible get -1e30.
 * Sums: STRICT: 16 lanes and a tree per head, max with 0, times (w * scale), heads from 0 in
 * increasing h. TREE: dot4, lane j of 4 adds i / 4 mod 4 = j, then (0 + 2) + (1 + 3). HALF: TREE
 * on operands rounded to f16. */
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Q_ { float q[]; };
layout(std430, set = 0, binding = 1) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 2) readonly buffer K_ { float k[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_index_score)

#ifdef HALF
vec4 stage(vec4 v) { return vec4(unpackHalf2x16(packHalf2x16(v.xy)), unpackHalf2x16(packHalf2x16(v.zw))); }
#else
vec4 stage(vec4 v) { return v; }
#endif

float head_dot(uint kr, uint qh) {
#ifdef STRICT
    float s;
    DOT16(s, k, kr, q, qh, 128u)
    return s;
#else
    PRECISE vec4 v = vec4(0.0);
    for (uint i = 0u; i < 128u; i += 16u) {
        v.x += dot4(stage(LOAD4(k, kr + i)), stage(LOAD4(q, qh + i)));
        v.y += dot4(stage(LOAD4(k, kr + i + 4u)), stage(LOAD4(q, qh + i + 4u)));
        v.z += dot4(stage(LOAD4(k, kr + i + 8u)), stage(LOAD4(q, qh + i + 8u)));
        v.w += dot4(stage(LOAD4(k, kr + i + 12u)), stage(LOAD4(q, qh + i + 12u)));
    }
    PRECISE float s = (v.x + v.z) + (v.y + v.w);
    return s;
#endif
}

void main() {
    uint r = UNIT_X, t = UNIT_Y;
    if (r >= a.n_row || t >= a.n_tok) return;
    if (r >= (a.pos0 + t + 1u) / a.ratio) {
        y[t * a.n_row + r] = f_bits(0xf149f2cau); /* -1e30 */
        return;
    }
    PRECISE float sum = 0.0;
    for (uint h = 0u; h < a.n_head; h++) {
        float s = head_dot(128u * r, (t * a.n_head + h) * 128u);
        PRECISE float ws = w[t * a.n_head + h] * a.scale;
        sum = MAD(s > 0.0 ? s : 0.0, ws, sum);
    }
    y[t * a.n_row + r] = fz(sum);
}
