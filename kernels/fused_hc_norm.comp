#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
/* hc_read, then rms_norm of what it gives.
 * Group: one token (x). Bindings: 0 X [n_tok][n_hc][n_embd], 1 its weights at stride w_stride, 2 x
 * [n_tok][n_embd], 3 w [n_embd] (unused without has_w); 4 y [n_tok][n_embd].
 * Args: ds4_args_hc_read, ds4_args_rms_norm. Sums: streams added from 0 in increasing s, without
 * fusing; the norm: rms.glsl. Shapes: a row of the norm is a token's. */
#define GROUP_REDUCE
#define SUBGROUP
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 0) readonly buffer State_ { float state[]; };
layout(std430, set = 0, binding = 1) readonly buffer Mix_ { float mix_w[]; };
layout(std430, set = 0, binding = 2) coherent buffer X_ { float x[]; };
layout(std430, set = 0, binding = 3) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 4) writeonly buffer Y_ { float y[]; };
ARGS2(ds4_args_hc_read, ds4_args_rms_norm, 16)
#include "rms.glsl"

void main() {
    uint t = GROUP_X, l = gl_LocalInvocationID.x, lx = gl_WorkGroupSize.x, base = t * a.n_embd;
    for (uint i = l; i < a.n_embd; i += lx) {
        float sum = 0.0;
        for (uint s = 0u; s < a.n_hc; s++)
            sum = f_add(sum, f_mul(state[(t * a.n_hc + s) * a.n_embd + i], mix_w[t * a.w_stride + s]));
        x[base + i] = fz(sum);
    }
    memoryBarrierBuffer();
    barrier();
    float s = row_scale(square_sum(base, b.n_col), b.n_col, b.eps);
    for (uint c = l; c < b.n_col; c += lx) {
        precise float p = x[base + c] * s;
        precise float q = p;
        if (b.has_w != 0u) q = p * w[c];
        y[base + c] = fz(q);
    }
}
