#version 450
#extension GL_GOOGLE_include_directive : require
/* Storage rounding of attention rows: FP8 E4M3 with a power-of-two scale per 64 elements on the
 * first n_fp8, then f16 on all d_head (f16 left out under KV_RAW_F32, both under STORE_EXACT).
 * Group: one block of 64 (x) of one row (y); 64 invocations, one per element.
 * Bindings: 0 x [n_row][d_head]; 1 y [n_row][d_head]. Args: ds4_args_kv_round.
 * Sums: none; the maximum is a tree, and exact. Shapes: n_fp8 a multiple of 64; lx = 64. */
#define GROUP_REDUCE
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
#include "kv_stored.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_kv_round)

void main() {
    uint i = GROUP_X * 64u + gl_LocalInvocationID.x, at = GROUP_Y * a.d_head + i;
    float v = i < a.d_head ? x[at] : 0.0;
    float top = group_max(kv_magnitude(v));
    if (i >= a.d_head) return;
    y[at] = kv_stored(v, top, GROUP_X * 64u < a.n_fp8);
}
