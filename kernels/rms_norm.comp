#version 450
#extension GL_GOOGLE_include_directive : require
/* Scales each row of x to unit root mean square, then by w.
 * Group: one row. STRICT: 16 invocations sum, all scale. TREE, SUBGROUP: all sum.
 * Bindings: 0 x [n_row][n_col], 1 w [n_col] (unused without has_w); 2 y [n_row][n_col].
 * Args: ds4_args_rms_norm.
 * Sums: STRICT: lane j of 16 adds squares c mod 16 = j in increasing c, then the tree 8, 4, 2, 1.
 * TREE: lane j of lx adds squares by fours (dot4), c / 4 mod lx = j, then group_sum. SUBGROUP: the
 * same lanes, each subgroup's sum in the device's own order, then the subgroups in order.
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

float square_sum(uint base) {
    uint i = gl_LocalInvocationID.x;
#ifdef STRICT
    if (i < 16u) {
        float v = 0.0;
        for (uint c = i; c < a.n_col; c += 16u) v = f_add(v, f_mul(x[base + c], x[base + c]));
        group_part[i] = v;
    }
    barrier();
    vec4 v[4];
    for (uint k = 0u; k < 4u; k++) v[k] = LOAD4(group_part, 4u * k);
    return tree16(v[0], v[1], v[2], v[3]);
#else
    PRECISE float v = 0.0;
    for (uint c = 4u * i; c + 4u <= a.n_col; c += 4u * gl_WorkGroupSize.x) {
        vec4 p = LOAD4(x, base + c);
        v += dot4(p, p);
    }
    for (uint c = (a.n_col & ~3u) + i; c < a.n_col; c += gl_WorkGroupSize.x)
        v = MAD(x[base + c], x[base + c], v);
#ifdef SUBGROUP
    float s = subgroupAdd(v);
    if (subgroupElect()) group_part[gl_SubgroupID] = s;
    barrier();
    PRECISE float sum = 0.0;
    for (uint k = 0u; k < gl_NumSubgroups; k++) sum += group_part[k];
    return sum;
#else
    return group_sum(v);
#endif
#endif
}

float row_scale(float ss) {
    bool exact_root = (VARIANTS & V_NORM_RSQRT_DISABLE) != 0u;
#ifdef STRICT
    float v = f_add(f_div(ss, float(a.n_col)), a.eps);
    return exact_root ? f_div(1.0, f_sqrt(v)) : f_rsqrt(v);
#else
    PRECISE float v = ss / float(a.n_col) + a.eps;
    return exact_root ? 1.0 / sqrt(v) : inversesqrt(v);
#endif
}

void main() {
    uint base = GROUP_X * a.n_col;
    float s = row_scale(square_sum(base));
    for (uint c = gl_LocalInvocationID.x; c < a.n_col; c += gl_WorkGroupSize.x) {
        precise float p = x[base + c] * s;
        precise float q = p;
        if (a.has_w != 0u) q = p * w[c];
        y[base + c] = fz(q);
    }
}
