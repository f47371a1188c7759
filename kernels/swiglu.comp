#version 450
#extension GL_GOOGLE_include_directive : require
/* Clamped SwiGLU, with the router weight applied before the down projection.
 * Group: lx columns (x) of one row (y).
 * Bindings: 0 gate [n_row][n_col], 1 up [n_row][n_col], 2 w [n_row] (unused without has_w); 3 y.
 * Args: ds4_args_swiglu. Sums: none; ((g * sigmoid(g)) * u) * w, each product flushed.
 * NATIVE: g / (1 + exp(-g)) with the device's exp and division. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer Gate_ { float gate[]; };
layout(std430, set = 0, binding = 1) readonly buffer Up_ { float up[]; };
layout(std430, set = 0, binding = 2) readonly buffer W_ { float w[]; };
layout(std430, set = 0, binding = 3) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_swiglu)

void main() {
    uint i = UNIT_X, r = UNIT_Y, at = r * a.n_col + i;
    if (i >= a.n_col || r >= a.n_row) return;
    float g = gate[at], u = up[at];
    if (a.clamp > 1.0e-6) {
        g = g > a.clamp ? a.clamp : g;
        u = u > a.clamp ? a.clamp : u < -a.clamp ? -a.clamp : u;
    }
#ifdef STRICT
    float v = fz(f_mul(g, f_sigmoid(g)));
#else
    PRECISE float s = g / (1.0 + exp(-g));
    float v = fz(s);
#endif
    v = fz(f_mul(v, u));
    if (a.has_w != 0u) v = fz(f_mul(v, w[r]));
    y[at] = v;
}
