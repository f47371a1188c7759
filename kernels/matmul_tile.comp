#version 450
#extension GL_GOOGLE_include_directive : require
/* Projection by a weight in any block format, tiled.
 * Group: 16 output rows (x) by 16 tokens (y), one output per invocation. Tiles of 64 inputs are
 * decoded once into shared memory and serve 16 tokens.
 * Bindings: 0 W raw rows [n_out], 1 x [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Args: ds4_args_matmul. Sums: products added in increasing i, contraction allowed.
 * HALF: both operands rounded to f16 in the tile, f32 accumulation.
 * Shapes: n_in a multiple of the weight's block length; lx = ly = 16. A tile that straddles two
 * input slices reads x from memory. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
#include "reduce.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
layout(push_constant) uniform PC { ds4_args_matmul a; };

const uint K = 64u;
shared float w_tile[16][K + 1u], x_tile[16][K + 1u];

#ifdef HALF
float stage(float v) { return unpackHalf2x16(packHalf2x16(vec2(v, 0.0))).x; }
#else
float stage(float v) { return v; }
#endif

/* Inputs k0 .. k0 + 63 of the group's rows; zeros past n_in and n_out. */
void load_w(uint r0, uint k0) {
    uint i = gl_LocalInvocationIndex;
    if (i >= 64u) return;
    uint r = i / 4u, part = i % 4u, k = k0 + 16u * part, row = (r0 + r) * a.row_bytes;
    vec4 v[4] = vec4[4](vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
    if (r0 + r < a.n_out && k + 16u <= a.n_in) w_load16(row, k / 16u, v[0], v[1], v[2], v[3]);
    else if (r0 + r < a.n_out)
        for (uint j = 0u; k + j < a.n_in && j < 16u; j++) v[j / 4u][j % 4u] = w_elem(row, k + j);
    for (uint j = 0u; j < 16u; j++) w_tile[r][16u * part + j] = stage(v[j / 4u][j % 4u]);
}

void load_x(uint t0, uint k0, uint slice) {
    for (uint i = gl_LocalInvocationIndex; i < 16u * K; i += 256u) {
        uint t = i / K, k = i % K;
        bool have = t0 + t < a.n_tok && k0 + k < a.n_in;
        x_tile[t][k] = have ? stage(x[(t0 + t) * a.x_stride + slice + k0 + k]) : 0.0;
    }
}

void main() {
    w_begin();
    uint lr = gl_LocalInvocationID.x, lt = gl_LocalInvocationID.y;
    uint r0 = gl_WorkGroupID.x * 16u, t0 = gl_WorkGroupID.y * 16u;
    uint r = min(r0 + lr, a.n_out - 1u), t = min(t0 + lt, a.n_tok - 1u);
    uint first = r0 / a.group_rows, last = min(r0 + 15u, a.n_out - 1u) / a.group_rows;
    uint own = t * a.x_stride + (r / a.group_rows) * a.n_in;
    PRECISE float sum = 0.0;
    for (uint k0 = 0u; k0 < a.n_in; k0 += K) {
        load_w(r0, k0);
        load_x(t0, k0, first * a.n_in);
        barrier();
        if (first == last) {
            for (uint k = 0u; k < K; k++) MUL_ADD(sum, w_tile[lr][k], x_tile[lt][k]);
        } else {
            for (uint k = 0u; k < min(K, a.n_in - k0); k++) MUL_ADD(sum, w_tile[lr][k], stage(x[own + k0 + k]));
        }
        barrier();
    }
    if (r0 + lr < a.n_out && t0 + lt < a.n_tok) y[t * a.n_out + r] = fz(sum);
}
