/* The arguments of each op in one struct, included by C and by GLSL: 32-bit scalars, 128 bytes at
 * most. A kernel declares them by `ARGS(ds4_args_<op>)`. Shapes are written slowest dimension
 * first. Positions are token positions; row k of a compressed cache covers the
 * tokens up to ratio * (k + 1) - 1. */
#ifndef DS4_KERNELS_ARGS_H
#define DS4_KERNELS_ARGS_H
#ifdef VULKAN
#define DS4_U32 uint
#else
#include <stdint.h>
#define DS4_U32 uint32_t
#endif

struct ds4_args_embed {
    DS4_U32 n_tok, n_embd, n_hc, row_bytes;
};
struct ds4_args_rms_norm {
    DS4_U32 n_row, n_col, has_w;
    float eps;
};
struct ds4_args_matmul {
    DS4_U32 n_tok, n_in, n_out, row_bytes;
    DS4_U32 x_stride;   /* elements from one token's input to the next */
    DS4_U32 group_rows; /* output rows that share an input slice; n_out when there is one group */
};
struct ds4_args_matmul_id {
    DS4_U32 n_tok, n_slot, n_in, n_out, row_bytes, n_mat;
    DS4_U32 x_per_slot; /* 0: x [n_tok][n_in], 1: x [n_tok][n_slot][n_in] */
};
struct ds4_args_hc_split {
    DS4_U32 n_tok, n_sinkhorn;
    float eps;
};
struct ds4_args_hc_gate {
    DS4_U32 n_tok, n_hc;
    float eps;
};
struct ds4_args_hc_read {
    DS4_U32 n_tok, n_embd, n_hc;
    DS4_U32 w_stride; /* elements from one token's weights to the next */
};
struct ds4_args_hc_write {
    DS4_U32 n_tok, n_embd;
};
struct ds4_args_rope {
    DS4_U32 n_row, n_head, d_head, n_rot;
    DS4_U32 pos0, pos_step; /* row i stands at position pos0 + i * pos_step */
    DS4_U32 inverse;
};
struct ds4_args_kv_round {
    DS4_U32 n_row, d_head, n_fp8;
};
struct ds4_args_index_round {
    DS4_U32 n_row;
    DS4_U32 half_out; /* 1: round the result to f16, as cached rows are */
};
struct ds4_args_row_store {
    DS4_U32 n_row, n_col;
    DS4_U32 row0, cap; /* row i goes to slot (row0 + i) mod cap */
};
struct ds4_args_gate_bias {
    DS4_U32 n_tok, n_col, pos0, ratio, row_bytes;
};
struct ds4_args_softmax_pool {
    DS4_U32 n_row, d_head, ratio;
    DS4_U32 n_lane;    /* 2: overlapping windows (ratio 4), 1: plain */
    DS4_U32 row0, cap; /* first emitted row; token p lives in ring slot p mod cap */
};
struct ds4_args_index_score {
    DS4_U32 n_tok, n_head, n_row; /* n_row: columns of the score matrix */
    DS4_U32 pos0, ratio;
    float scale;
};
struct ds4_args_index_topk {
    DS4_U32 n_tok, n_row, k, pos0, ratio;
};
struct ds4_args_attention {
    DS4_U32 n_tok, n_head, d_head, window, raw_cap, pos0;
    DS4_U32 ratio;   /* 0: no compressed rows */
    DS4_U32 n_sel;   /* columns of sel; 0: every compressed row is visible */
    DS4_U32 sel_tok0; /* tokens before this one see every compressed row */
    DS4_U32 n_score; /* columns of scratch */
    float scale;
};
struct ds4_args_router_prob {
    DS4_U32 n_elem;
};
struct ds4_args_router_topk {
    DS4_U32 n_tok, n_expert, k, has_bias;
};
struct ds4_args_router_hash {
    DS4_U32 n_tok, k;
};
struct ds4_args_router_weight {
    DS4_U32 n_tok, n_expert, k;
    float scale;
};
struct ds4_args_swiglu {
    DS4_U32 n_row, n_col, has_w;
    float clamp; /* inactive at or below 1e-6 */
};
struct ds4_args_slot_sum {
    DS4_U32 n_tok, n_slot, n_col;
};
struct ds4_args_add {
    DS4_U32 n_elem;
};
#endif
