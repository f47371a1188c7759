#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
/* Projection by the matrix that each slot selects, then the sum over the slots of a token.
 * Group: 4 output rows (x) of one token (y), lx lanes over half blocks, slots in turns.
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot], 3 down [n_tok][n_slot][n_out]; 4 y [n_tok][n_out]. Args: ds4_args_matmul_id,
 * ds4_args_slot_sum. Sums: mv_dot.glsl; slots added from 0 in increasing slot. */
#define W_BINDING 0
#define W_WIDE
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer X4_ { vec4 x4[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Down_ { float down[]; };
layout(std430, set = 0, binding = 4) writeonly buffer Y_ { float y[]; };
ARGS2(ds4_args_matmul_id, ds4_args_slot_sum, 32)
#define MAX_AT 1
#include "mv_dot.glsl"

void main() {
    w_begin();
    uint t = GROUP_Y, r = GROUP_X * 4u, m = min(a.n_out - r, 4u);
    bool stores = gl_LocalInvocationID.x == 0u;
    vec4 sum = vec4(0.0);
    for (uint k = 0u; k < a.n_slot; k++) {
        uint s = t * a.n_slot + k, at = (a.x_per_slot != 0u ? s : t) * a.n_in;
        mv_share((sel[s] * a.n_out + r + min(uvec4(0, 1, 2, 3), m - 1u)) * a.row_bytes, at, 0u, a.n_in, 1u);
        vec4 v = fz4(mv_sum(1u));
        for (uint j = 0u; stores && j < m; j++) down[s * a.n_out + r + j] = v[j];
        precise vec4 next = sum + v;
        sum = next;
    }
    for (uint j = 0u; stores && j < m; j++) y[t * a.n_out + r + j] = fz(sum[j]);
}
