#version 450
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
/* Projection by a weight in any block format with cooperative matrices.
 * Group: a tile of 64 output rows (x) by 32 tokens (y). Bindings: 0 W raw rows [n_out],
 * 1 x [n_tok][x_stride]; 2 y [n_tok][n_out]. Args: ds4_args_matmul. Operands, forms and sums:
 * coop.glsl. Shapes: n_in a multiple of the weight's block length. Rows of different input slices
 * are done in turns. */
#define W_BINDING 0
#include "types.glsl"
#include "exact.glsl"
#include "quant.glsl"
layout(std430, set = 0, binding = 1) readonly buffer X_ { float x[]; };
layout(std430, set = 0, binding = 2) writeonly buffer Y_ { float y[]; };
ARGS(ds4_args_matmul)

uint row0, col0;

void coop_put(uint row, uint col, float v) { y[(col0 + col) * a.n_out + row0 + row] = v; }
#include "coop.glsl"

void main() {
    w_begin();
    row0 = GROUP_X * TILE_ROWS;
    col0 = GROUP_Y * TILE_COLS;
    uint lane = gl_LocalInvocationIndex, end = min(row0 + TILE_ROWS, a.n_out);
    for (uint r = row0; r < end;) {
        uint slice = r / a.group_rows, m = min(end, (slice + 1u) * a.group_rows);
        uint row = row0 + lane, t = col0 + lane;
        barrier(); /* the turn before has been read */
        if (lane < TILE_ROWS) coop_w[lane] = row >= r && row < m ? row * a.row_bytes : COOP_NONE;
        if (lane < TILE_COLS) coop_x[lane] = t < a.n_tok ? t * a.x_stride + slice * a.n_in : COOP_NONE;
        barrier();
        coop_tile(a.n_in);
        r = m;
    }
}
