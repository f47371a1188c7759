#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by the matrix that each slot selects, the slots of one matrix together: a decoded half
 * block serves 4 of them.
 * Group: 4 lx output rows (x) of the slots of some matrices (y). With n groups along y and fewer
 * matrices, group y has matrix y mod n_mat and every (n / n_mat)-th four of its slots; else the
 * matrices y, y + n, .. It walks the whole list of slots: fours are those of increasing slot, so
 * that no order depends on how groups run.
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out]. Args: ds4_args_matmul_id.
 * Sums: tile_dot.glsl, one share: they do not depend on which slots stand together.
 * Shapes: n_in a multiple of the weight's block length; lx = 32; every id of sel below n_mat. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul_id)
#define ROWS 4
#define MAX_AT 4
#include "tile_dot.glsl"
shared uint chosen[32];
const uint PER_Y = 8u; /* of the manifest */

void store(uint s, uint r, vec4 v) {
    for (uint j = 0u; j < 4u; j++)
        if (r + j < a.n_out) y[s * a.n_out + r + j] = fz(v[j]);
}

/* The outputs of n slots of matrix e. */
void project(uint e, uvec4 slot, uint n) {
    uint r = UNIT_X * 4u;
    if (r >= a.n_out) return;
    uvec4 at = (a.x_per_slot != 0u ? slot : slot / a.n_slot) * a.n_in;
    tile s = tile_dot((e * a.n_out + min(r + uvec4(0, 1, 2, 3), a.n_out - 1u)) * a.row_bytes, at, a.n_in, n, 0u, 1u);
    store(slot.x, r, s.s0);
    if (n > 1u) store(slot.y, r, s.s1);
    if (n > 2u) store(slot.z, r, s.s2);
    if (n > 3u) store(slot.w, r, s.s3);
}

/* Every part-th four of the slots of matrix e, from the one numbered `first` on. */
void matrix(uint e, uint first, uint part) {
    uint total = a.n_tok * a.n_slot, l = gl_LocalInvocationID.x, n = 0u, four = 0u;
    uvec4 slot = uvec4(0u);
    for (uint s0 = 0u; s0 < total; s0 += 32u) {
        chosen[l] = s0 + l < total ? sel[s0 + l] : ~0u;
        barrier();
        for (uint i = 0u; i < 32u && s0 + i < total; i++) {
            if (chosen[i] == e) slot[n++] = s0 + i;
            if (n == 4u || (n > 0u && s0 + i + 1u == total)) {
                if (four % part == first) project(e, slot, n);
                n = 0u;
                four++;
            }
        }
        barrier();
    }
}

void main() {
    w_begin();
    uint g = GROUP_Y, n = (a.n_tok * a.n_slot + PER_Y - 1u) / PER_Y, part = max(n / a.n_mat, 1u);
    if (g >= part * min(n, a.n_mat)) return;
    for (uint e = g % min(n, a.n_mat); e < a.n_mat; e += n) matrix(e, g / min(n, a.n_mat), part);
}
