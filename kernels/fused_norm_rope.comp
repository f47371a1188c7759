#version 450
#extension GL_GOOGLE_include_directive : require
/* rms_norm, then rope of what it gives; KV: then the storage rounding of an attention row (kv_round).
 * Group: one head (x) of one row (y); KV: one row. Bindings: 0 x [n_row][n_head][d_head], 1 w [d_head]
 * (unused without has_w), 2 normed as x, 3 freq (rope.comp), 4 rotated as x; KV: 5 y [n_row][d_head].
 * Args: ds4_args_rms_norm, ds4_args_rope; KV: ds4_args_kv_round. Sums: STRICT, those of the single
 * ops: rms.glsl, rope.glsl. Shapes: a row of the norm is a head; KV: one head; lx = 64. */
#define GROUP_REDUCE
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 2) coherent buffer Normed_ { float normed[]; };
layout(std430, set = 0, binding = 3) readonly buffer Freq_ { uint freq[]; };
#ifdef KV
layout(std430, set = 0, binding = 4) coherent buffer Rotated_ { float rotated[]; };
layout(std430, set = 0, binding = 5) writeonly buffer Y_ { float y[]; };
ARGS3(ds4_args_rms_norm, ds4_args_rope, 16, ds4_args_kv_round, 48)
#include "kv_stored.glsl"
#else
layout(std430, set = 0, binding = 4) writeonly buffer Rotated_ { float rotated[]; };
ARGS2(ds4_args_rms_norm, ds4_args_rope, 16)
#endif
#include "rms.glsl"
#include "rope.glsl"

void settle() {
    memoryBarrierBuffer();
    barrier();
}

void main() {
#ifdef KV
    uint h = 0u, r = GROUP_Y;
#else
    uint h = GROUP_X, r = GROUP_Y;
#endif
    uint l = gl_LocalInvocationID.x, lx = gl_WorkGroupSize.x, n_pass = b.d_head - b.n_rot;
    uint at = (r * b.n_head + h) * b.d_head;
    float s = row_scale(square_sum(at, a.n_col), a.n_col, a.eps);
    for (uint i = l; i < a.n_col; i += lx) {
        float q = f_mul(x[at + i], s);
        if (a.has_w != 0u) q = f_mul(q, w[i]);
        normed[at + i] = fz(q);
    }
    settle();
    for (uint i = l; i < n_pass; i += lx) rotated[at + i] = normed[at + i];
    for (uint k = l; k < b.n_rot / 2u; k += lx) {
        uint i = at + n_pass + 2u * k;
        vec2 v = rope_turned(vec2(normed[i], normed[i + 1u]), rope_cos_sin(k, b.pos0 + r * b.pos_step), b.inverse != 0u);
        rotated[i] = v.x;
        rotated[i + 1u] = v.y;
    }
#ifdef KV
    settle();
    for (uint i0 = 0u; i0 < c.d_head; i0 += 64u) {
        uint i = i0 + l;
        float v = i < c.d_head ? rotated[at + i] : 0.0;
        float top = group_max(kv_magnitude(v));
        if (i < c.d_head) y[at + i] = kv_stored(v, top, i0 < c.n_fp8);
        barrier();
    }
#endif
}
