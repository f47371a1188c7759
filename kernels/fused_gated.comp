#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_shader_subgroup_arithmetic : require
/* Gate and up projections of the same input, then swiglu of both. MOE: by the matrices that each
 * slot selects (matmul_id, matmul_id, swiglu); else matmul, matmul, swiglu.
 * Group: 4 columns (x) of one row (y: a slot; a token), lx lanes over half blocks.
 * Bindings: 0 W of gate, 1 x; MOE: 2 sel, 3 gate, 4 W of up, 5 up, 6 w [n_row]; 7 y. Else: 2 gate, 3 W
 * of up, 4 up; 5 y. Args: those of the three ops in turn.
 * Sums: mv_dot.glsl; gated.glsl. Shapes: both weights have one format and shape, rows of the swiglu
 * are slots or tokens, without a weight of its own unless MOE. */
#define W_BINDING 0
#define W_WIDE
#ifdef MOE
#define W2_BINDING 4
#define GATE 3
#define UP 5
#define OUT 7
#else
#define W2_BINDING 3
#define GATE 2
#define UP 4
#define OUT 5
#endif
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer X4_ { vec4 x4[]; };
layout(std430, set = 0, binding = GATE) writeonly buffer Gate_ { float gate[]; };
layout(std430, set = 0, binding = UP) writeonly buffer Up_ { float up[]; };
layout(std430, set = 0, binding = OUT) writeonly buffer Y_ { float y[]; };
#ifdef MOE
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 6) readonly buffer Weight_ { float weight[]; };
ARGS3(ds4_args_matmul_id, ds4_args_matmul_id, 32, ds4_args_swiglu, 64)
#else
ARGS3(ds4_args_matmul, ds4_args_matmul, 32, ds4_args_swiglu, 64)
#endif
#define MAX_AT 1
#include "mv_dot.glsl"
#include "gated.glsl"

void main() {
    w_begin();
    uint s = GROUP_Y, r = GROUP_X * 4u, end = min(r + 4u, a.n_out);
    while (r < end) {
#ifdef MOE
        uint m = end - r, at = (a.x_per_slot != 0u ? s : s / a.n_slot) * a.n_in, first = sel[s] * a.n_out;
        bool has_w = c.has_w != 0u;
        float w = has_w ? weight[s] : 1.0;
#else
        uint slice = r / a.group_rows, m = min(end, (slice + 1u) * a.group_rows) - r, first = 0u;
        uint at = s * a.x_stride + slice * a.n_in;
        bool has_w = false;
        float w = 1.0;
#endif
        uvec4 row = (first + r + min(uvec4(0, 1, 2, 3), m - 1u)) * a.row_bytes;
        w_second = false;
        mv_share(row, at, 0u, a.n_in, 1u);
        vec4 g = mv_sum(1u);
        w_second = true;
        mv_share(row, at, 0u, a.n_in, 1u);
        vec4 u = mv_sum(1u);
        for (uint j = 0u; gl_LocalInvocationID.x == 0u && j < m; j++) {
            uint o = s * a.n_out + r + j;
            float gj = fz(g[j]), uj = fz(u[j]);
            gate[o] = gj;
            up[o] = uj;
            y[o] = gated(gj, uj, c.clamp, has_w, w);
        }
        r += m;
    }
}
