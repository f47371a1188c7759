#ifndef DS4_MODEL_CONFIG_H
#define DS4_MODEL_CONFIG_H
/* Shapes and constants of one model, read from GGUF metadata and checked once. */
#include <stdbool.h>

#include "engine/format/gguf.h"

#define DS4_MAX_LAYER 256

typedef struct ds4_config {
    uint32_t n_layer;                 /* L */
    uint32_t n_embd;                  /* D, multiple of 32 */
    uint32_t n_vocab;                 /* V */
    uint32_t n_head;                  /* H */
    uint32_t d_head;                  /* d */
    uint32_t n_rot;                   /* r */
    uint32_t q_rank;                  /* q */
    uint32_t o_rank;                  /* o, per group */
    uint32_t n_group;                 /* G */
    uint32_t window;                  /* W */
    uint32_t n_idx_head;              /* Hi */
    uint32_t d_idx;                   /* di, exactly 128 */
    uint32_t idx_top_k;               /* Ki */
    uint32_t n_expert, n_expert_used; /* Ne, Ke */
    uint32_t n_ff;                    /* F, routed and shared */
    uint32_t n_hash;                  /* Lh */
    uint32_t n_hc;                    /* S, exactly 4 */
    uint32_t n_sinkhorn;              /* T */
    float eps, hc_eps;                /* epsilon of the RMS norms, of the hyper-connections */
    float expert_scale;               /* lambda */
    double rope_base, rope_base_comp; /* b_d, b_c */
    double yarn_factor, yarn_beta_fast, yarn_beta_slow; /* s_y, beta_f, beta_s */
    uint64_t yarn_n_ctx;                                /* N_o */
    uint32_t ratio[DS4_MAX_LAYER]; /* compression ratio: 0, 4 or another (128) */
    float clamp[DS4_MAX_LAYER];    /* kappa; inactive at or below 1e-6 */
} ds4_config;

/* Reads and checks; DS4_ERR_FORMAT names the key, the value found and the value wanted. */
ds4_status ds4_config_read(ds4_config *out, const ds4_gguf *g, ds4_err *err);

#endif
