#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by the matrix that each slot selects: one output per group, lanes over k.
 * Group: one output row (x) of one slot (y).
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out]. Args: ds4_args_matmul_id.
 * Sums: lane_dot.glsl, then a tree over lanes. HALF: both operands rounded to f16.
 * Shapes: n_in a multiple of the weight's block length; lx a power of two. */
#define W_BINDING 0
#define GROUP_REDUCE
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
layout(push_constant) uniform PC { ds4_args_matmul_id a; };
#include "lane_dot.glsl"

void main() {
    w_begin();
    uint r = gl_WorkGroupID.x, s = gl_WorkGroupID.y;
    uint in_row = a.x_per_slot != 0u ? s : s / a.n_slot;
    float v = group_dot((sel[s] * a.n_out + r) * a.row_bytes, in_row * a.n_in, a.n_in);
    if (gl_LocalInvocationID.x == 0u) y[s * a.n_out + r] = fz(v);
}
