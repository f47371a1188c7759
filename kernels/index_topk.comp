#version 450
#extension GL_GOOGLE_include_directive : require
/* The k compressed rows with the largest scores, lower row on ties, in ascending order.
 * Group: one token; lane l owns the l-th contiguous run of rows.
 * Bindings: 0 score [n_tok][n_row]; 1 sel i32 [n_tok][k]. Args: ds4_args_index_topk.
 * Sums: integer counts only. Bisection over the bits of the keys finds the k-th largest; rows
 * above it and the first rows equal to it are written in row order. Shapes: lx at most 64. */
#include "types.glsl"
#include "select.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Score_ { float score[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Sel_ { uint sel[]; };
ARGS(ds4_args_index_topk)
shared uint above[64], ties[64];

uint sum_all() {
    uint n = 0u;
    for (uint j = 0u; j < gl_WorkGroupSize.x; j++) n += above[j];
    return n;
}

void main() {
    uint l = gl_LocalInvocationID.x, t = GROUP_X;
    uint n = min((a.pos0 + t + 1u) / a.ratio, a.n_row), at = t * a.n_row;
    uint run = (n + gl_WorkGroupSize.x - 1u) / gl_WorkGroupSize.x;
    uint i0 = min(l * run, n), i1 = min(i0 + run, n), key = 0u;
    for (int bit = 31; bit >= 0; bit--) {
        uint trial = key | (1u << uint(bit)), count = 0u;
        for (uint i = i0; i < i1; i++) count += select_key(score[at + i]) >= trial ? 1u : 0u;
        above[l] = count;
        barrier();
        uint total = sum_all();
        barrier();
        if (total >= a.k) key = trial;
    }
    uint n_above = 0u, n_tie = 0u;
    for (uint i = i0; i < i1; i++) {
        uint v = select_key(score[at + i]);
        n_above += v > key ? 1u : 0u;
        n_tie += v == key ? 1u : 0u;
    }
    above[l] = n_above;
    ties[l] = n_tie;
    barrier();
    uint room = a.k - sum_all(), before = 0u, tied = 0u;
    for (uint j = 0u; j < l; j++) {
        before += above[j];
        tied += ties[j];
    }
    for (uint i = i0; i < i1; i++) {
        uint v = select_key(score[at + i]);
        bool take = v > key || (v == key && tied < room);
        uint to = before + min(tied, room);
        if (take && to < a.k) sel[t * a.k + to] = i;
        before += v > key ? 1u : 0u;
        tied += v == key ? 1u : 0u;
    }
}
