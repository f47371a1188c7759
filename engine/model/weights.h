#ifndef DS4_MODEL_WEIGHTS_H
#define DS4_MODEL_WEIGHTS_H
/* Tensor names bound to typed views. Types are polymorphic: any projection may be F32, F16,
 * BF16, Q8_0, Q4_K, Q2_K or IQ2_XXS as long as its row length is a multiple of the block;
 * vectors (norms, sinks, scales, biases) may be F32, F16 or BF16; the hash table is I32.
 * Data stays in the mapping. */
#include "engine/model/config.h"

/* One weight: n_out rows of n_in elements, n_mat of them (experts), row after row. */
typedef struct ds4_weight {
    const ds4_tensor *tensor; /* NULL: absent (optional tensors only) */
    uint32_t n_in, n_out, n_mat;
    uint64_t row_bytes; /* bytes of one row of n_in elements */
} ds4_weight;

/* WEIGHT(field, gguf name, kind): the tables expand in forward order. */
#define DS4_GLOBAL_WEIGHTS(W)                                                                  \
    W(token_embd, "token_embd.weight")                                                         \
    W(output_hc_fn, "output_hc_fn.weight")                                                     \
    W(output_hc_scale, "output_hc_scale.weight")                                               \
    W(output_hc_base, "output_hc_base.weight")                                                 \
    W(output_norm, "output_norm.weight")                                                       \
    W(output, "output.weight")

#define DS4_LAYER_WEIGHTS(W)                                                                   \
    W(hc_attn_fn, "hc_attn_fn.weight")                                                         \
    W(hc_attn_scale, "hc_attn_scale.weight")                                                   \
    W(hc_attn_base, "hc_attn_base.weight")                                                     \
    W(attn_norm, "attn_norm.weight")                                                           \
    W(attn_q_a, "attn_q_a.weight")                                                             \
    W(attn_q_a_norm, "attn_q_a_norm.weight")                                                   \
    W(attn_q_b, "attn_q_b.weight")                                                             \
    W(attn_kv, "attn_kv.weight")                                                               \
    W(attn_kv_a_norm, "attn_kv_a_norm.weight")                                                 \
    W(attn_sinks, "attn_sinks.weight")                                                         \
    W(attn_output_a, "attn_output_a.weight")                                                   \
    W(attn_output_b, "attn_output_b.weight")                                                   \
    W(comp_ape, "attn_compressor_ape.weight")                                                  \
    W(comp_kv, "attn_compressor_kv.weight")                                                    \
    W(comp_gate, "attn_compressor_gate.weight")                                                \
    W(comp_norm, "attn_compressor_norm.weight")                                                \
    W(idx_q_b, "indexer.attn_q_b.weight")                                                      \
    W(idx_proj, "indexer.proj.weight")                                                         \
    W(idx_ape, "indexer_compressor_ape.weight")                                                \
    W(idx_kv, "indexer_compressor_kv.weight")                                                  \
    W(idx_gate, "indexer_compressor_gate.weight")                                              \
    W(idx_norm, "indexer_compressor_norm.weight")                                              \
    W(hc_ffn_fn, "hc_ffn_fn.weight")                                                           \
    W(hc_ffn_scale, "hc_ffn_scale.weight")                                                     \
    W(hc_ffn_base, "hc_ffn_base.weight")                                                       \
    W(ffn_norm, "ffn_norm.weight")                                                             \
    W(router, "ffn_gate_inp.weight")                                                           \
    W(router_bias, "exp_probs_b.bias")                                                         \
    W(router_hash, "ffn_gate_tid2eid.weight")                                                  \
    W(exp_gate, "ffn_gate_exps.weight")                                                        \
    W(exp_up, "ffn_up_exps.weight")                                                            \
    W(exp_down, "ffn_down_exps.weight")                                                        \
    W(sh_gate, "ffn_gate_shexp.weight")                                                        \
    W(sh_up, "ffn_up_shexp.weight")                                                            \
    W(sh_down, "ffn_down_shexp.weight")

#define DS4_WEIGHT_FIELD(field, name) ds4_weight field;
typedef struct ds4_layer_weights {
    DS4_LAYER_WEIGHTS(DS4_WEIGHT_FIELD)
} ds4_layer_weights;

typedef struct ds4_weights {
    DS4_GLOBAL_WEIGHTS(DS4_WEIGHT_FIELD)
    ds4_layer_weights layer[DS4_MAX_LAYER];
} ds4_weights;
#undef DS4_WEIGHT_FIELD

/* Binds every required tensor and checks its shape against cfg; DS4_ERR_FORMAT names the
 * tensor, what was found and what was wanted. Optional and absent: router_bias anywhere; comp_*
 * where the ratio is 0; idx_* where it is not 4; router_hash in layers from n_hash on. Every id
 * of a hash table is checked to lie in [0, n_expert). */
ds4_status ds4_weights_bind(ds4_weights *out, const ds4_gguf *g, const ds4_config *cfg,
                            ds4_err *err);

#endif
