#version 450
#extension GL_GOOGLE_include_directive : require
/* Scales each row of x to unit root mean square, then by w.
 * Group: one row. STRICT: 16 invocations sum, all scale. TREE, SUBGROUP: all sum.
 * Bindings: 0 x [n_row][n_col], 1 w [n_col] (unused without has_w); 2 y [n_row][n_col].
 * Args: ds4_args_rms_norm.
 * Sums: rms.glsl.
 * Shapes: lx is a multiple of 16, 256 at most. */
#define GROUP_REDUCE
#ifdef SUBGROUP
#extension GL_KHR_shader_subgroup_arithmetic : require
#endif
#include "types.glsl"
#include "exact.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_rms_norm)

#include "rms.glsl"

void main() {
    uint base = GROUP_X * a.n_col;
    float s = row_scale(square_sum(base, a.n_col), a.n_col, a.eps);
    for (uint c = gl_LocalInvocationID.x; c < a.n_col; c += gl_WorkGroupSize.x) {
        precise float p = x[base + c] * s;
        precise float q = p;
        if (a.has_w != 0u) q = p * w[c];
        y[base + c] = fz(q);
    }
}
