#version 450
#extension GL_GOOGLE_include_directive : require
/* Copies rows into a ring: row i goes to slot (row0 + i) mod cap. Moves bits.
 * Group: lx columns (x) of one row (y).
 * Bindings: 0 x [n_row][n_col]; 1 ring [cap][n_col]. Args: ds4_args_row_store. Sums: none.
 * Shapes: n_row at most cap. */
#include "types.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { uint x[]; };
layout(std430, set = 0, binding = 1) writeonly buffer Ring_ { uint ring[]; };
ARGS(ds4_args_row_store)

void main() {
    uint i = UNIT_X, r = UNIT_Y;
    if (i >= a.n_col || r >= a.n_row) return;
    ring[((a.row0 + r) % a.cap) * a.n_col + i] = x[r * a.n_col + i];
}
