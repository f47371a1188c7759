#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by a weight in any block format: one output per group, lanes over k.
 * Group: one output row (x) of one token (y).
 * Bindings: 0 W raw rows [n_out], 1 x [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Args: ds4_args_matmul. Sums: lane_dot.glsl, then a tree over lanes.
 * Shapes: n_in a multiple of the weight's block length; lx a power of two. */
#define W_BINDING 0
#define GROUP_REDUCE
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
layout(push_constant) uniform PC { ds4_args_matmul a; };
#include "lane_dot.glsl"

void main() {
    w_begin();
    uint r = gl_WorkGroupID.x, t = gl_WorkGroupID.y;
    float s = group_dot(r * a.row_bytes, t * a.x_stride + (r / a.group_rows) * a.n_in, a.n_in);
    if (gl_LocalInvocationID.x == 0u) y[t * a.n_out + r] = fz(s);
}
