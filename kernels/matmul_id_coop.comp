#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
/* Projection by the matrix that each slot selects, with cooperative matrices.
 * The slots are taken in the order of (matrix, slot); group y does the 32 from 32 y on of that
 * order, for 64 output rows (x), the slots of one matrix after those of another. Every group finds
 * its slots itself: it counts the slots of 256 matrices at a time, then ranks those of each matrix
 * that reaches into its 32. A column's value does not depend on its place in the tile.
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x [n_tok][n_in] or [n_tok][n_slot][n_in], 2 sel i32
 * [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out]. Args: ds4_args_matmul_id. Operands, forms and sums:
 * coop.glsl. Shapes: n_in a multiple of the weight's block length. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) readonly buffer Sel_ { uint sel[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul_id)

const uint BINS = 256u;
uint row0;
shared uint bin[BINS], found[128], slot_of[32];

void coop_put(uint row, uint col, float v) { y[slot_of[col] * a.n_out + row0 + row] = v; }
#include "coop.glsl"

/* How many slots select each of the matrices base .. base + BINS - 1. */
void count_slots(uint base, uint n) {
    uint lane = gl_LocalInvocationIndex;
    barrier();
    for (uint i = lane; i < BINS; i += LANES) bin[i] = 0u;
    barrier();
    for (uint s = lane; s < n; s += LANES) {
        uint i = sel[s] - base;
        if (i < BINS) atomicAdd(bin[i], 1u);
    }
    barrier();
}

/* Columns of the tile that belong to matrix m, whose slots stand at before .. in the order; the
 * tile begins at `first`. An invocation ranks the matches of its own share of the slots. */
void find_slots(uint m, uint n, uint before, uint first) {
    uint lane = gl_LocalInvocationIndex, share = (n + LANES - 1u) / LANES;
    uint s0 = min(lane * share, n), s1 = min(s0 + share, n), mine = 0u, at = before;
    for (uint s = s0; s < s1; s++) mine += sel[s] == m ? 1u : 0u;
    barrier(); /* the turn before has been read */
    found[lane] = mine;
    if (lane < TILE_COLS) slot_of[lane] = COOP_NONE;
    barrier();
    for (uint l = 0u; l < lane; l++) at += found[l];
    for (uint s = s0; s < s1; s++) {
        if (sel[s] != m) continue;
        if (at >= first && at < first + TILE_COLS) slot_of[at - first] = s;
        at++;
    }
    barrier();
    if (lane < TILE_ROWS)
        coop_w[lane] = row0 + lane < a.n_out ? (m * a.n_out + row0 + lane) * a.row_bytes : COOP_NONE;
    if (lane < TILE_COLS) {
        uint s = slot_of[lane];
        coop_x[lane] = s == COOP_NONE ? COOP_NONE : (a.x_per_slot != 0u ? s : s / a.n_slot) * a.n_in;
    }
    barrier();
}

void main() {
    w_begin();
    row0 = GROUP_X * TILE_ROWS;
    uint n = a.n_tok * a.n_slot, first = GROUP_Y * TILE_COLS, before = 0u;
    for (uint base = 0u; base < a.n_mat && before < first + TILE_COLS; base += BINS) {
        count_slots(base, n);
        for (uint i = 0u; i < BINS && before < first + TILE_COLS; i++) {
            uint count = bin[i];
            if (count != 0u && before + count > first) {
                find_slots(base + i, n, before, first);
                coop_tile(a.n_in);
            }
            before += count;
        }
    }
}
