#version 450
#extension GL_GOOGLE_include_directive : require
/* Clamped SwiGLU, with the router weight applied before the down projection.
 * Group: lx columns (x) of one row (y).
 * Bindings: 0 gate [n_row][n_col], 1 up [n_row][n_col], 2 w [n_row] (unused without has_w); 3 y.
 * Args: ds4_args_swiglu. Sums: none; gated.glsl. */
#include "types.glsl"
#include "exact.glsl"
#include "gated.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Gate_ { float gate[]; };
layout(std430, set = 0, binding = 1) readonly buffer Up_ { float up[]; };
layout(std430, set = 0, binding = 2) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_swiglu)

void main() {
    uint i = UNIT_X, r = UNIT_Y, at = r * a.n_col + i;
    if (i >= a.n_col || r >= a.n_row) return;
    y[at] = gated(gate[at], up[at], a.clamp, a.has_w != 0u, a.has_w != 0u ? w[r] : 1.0);
}
