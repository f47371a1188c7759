#version 450
#extension GL_GOOGLE_include_directive : require
/* Rotates adjacent pairs of the last n_rot elements of each head; copies the others.
 * Group: one head (x) of one row (y), lanes over its elements.
 * Bindings: 0 x [n_row][n_head][d_head], 1 freq [n_rot/2] as two u32 (low, high) of a 64-bit turn
 * per position; 2 y as x. Args: ds4_args_rope.
 * Sums: rope.glsl. */
#include "types.glsl"
#include "exact.glsl"
layout(std430, set = 0, binding = 0) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 1) readonly buffer Freq_ { uint freq[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_rope)
#include "rope.glsl"

void main() {
    uint h = GROUP_X, r = GROUP_Y, n_pass = a.d_head - a.n_rot;
    uint at = (r * a.n_head + h) * a.d_head, pos = a.pos0 + r * a.pos_step;
    for (uint i = gl_LocalInvocationID.x; i < n_pass; i += gl_WorkGroupSize.x) y[at + i] = x[at + i];
    for (uint k = gl_LocalInvocationID.x; k < a.n_rot / 2u; k += gl_WorkGroupSize.x) {
        uint i = at + n_pass + 2u * k;
        vec2 v = rope_turned(vec2(x[i], x[i + 1u]), rope_cos_sin(k, pos), a.inverse != 0u);
        y[i] = v.x;
        y[i + 1u] = v.y;
    }
}
