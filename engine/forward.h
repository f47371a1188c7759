#ifndef DS4_FORWARD_H
#define DS4_FORWARD_H
/* The forward pass of the network, stated once as calls of named ops on tensors. */
#include "engine/kv/snapshot.h"
#include "engine/ledger.h"
#include "engine/model/weights.h"
#include "engine/plan.h"

/* Weights on the backend: raw bytes of matrices, f32 of vectors. */
#define DS4_BUF_FIELD(field, name) ds4_buf *field;
typedef struct ds4_layer_bufs {
    DS4_LAYER_WEIGHTS(DS4_BUF_FIELD)
} ds4_layer_bufs;
typedef struct ds4_model_bufs {
    DS4_GLOBAL_WEIGHTS(DS4_BUF_FIELD)
    ds4_layer_bufs layer[DS4_MAX_LAYER];
    ds4_buf *freq[2][2]; /* rotary turns per position: [compressed][exp2_log2] */
} ds4_model_bufs;
#undef DS4_BUF_FIELD

/* Cached rows of one layer. comp* where the ratio is not 0, idx* where it is 4. */
typedef struct ds4_layer_kv {
    ds4_buf *raw;                 /* [raw_cap][d], ring */
    ds4_buf *comp;                /* [n_ctx / ratio + 1][d] */
    ds4_buf *comp_kv, *comp_gate; /* [state_cap][lanes * d], ring of projections */
    ds4_buf *idx;                 /* [n_ctx / 4 + 1][128] */
    ds4_buf *idx_kv, *idx_gate;   /* [state_cap][2 * 128] */
    uint32_t state_cap;
} ds4_layer_kv;

/* Everything one batch needs. act: activations, named in forward.c. */
typedef struct ds4_forward ds4_forward;

/* n_chunk: most tokens of one batch. n_ctx: most positions of the cached rows; 0: none are
 * held, and batches are those of others' parts. Owns: the caller frees *out; engine, plan
 * pointers are borrowed. */
ds4_status ds4_forward_new(ds4_forward **out, ds4_backend *b, const ds4_config *cfg,
                           const ds4_weights *w, const ds4_model_bufs *m, uint32_t n_ctx,
                           uint32_t n_chunk, ds4_err *err);
void ds4_forward_free(ds4_forward *f);

/* Tokens of one sequence in a batch. */
typedef struct ds4_part {
    ds4_forward *own; /* whose cached rows and small work buffers it uses */
    const int32_t *token;
    uint32_t pos0, n_tok;
    uint32_t n_logits; /* of the last n_logits tokens, at most n_tok */
    ds4_ledger *ledger;
    const ds4_observer *observer; /* NULL: nobody */
    /* Set by ds4_forward_eval: its first row among the tokens of the batch, and among the
     * logits. */
    uint32_t row0, logits0;
} ds4_part;

typedef struct ds4_batch {
    ds4_part *part;
    uint32_t n_part;
    ds4_phase phase;
    const ds4_plan *plan;
} ds4_batch;

/* Evaluates a batch, whose parts follow each what was evaluated before in their own caches. No
 * part straddles a position of ds4_forward_limit, no two have the same `own`; their tokens
 * together are at most f's n_chunk. With one part, `own` may be f.
 *
 * What does not look at positions is one call for all tokens; the rest is called part by part.
 * Rows whose bits do not depend on the number of tokens (strict) so give every part the bits
 * that it has alone. Conditions of the plan see all tokens and, where a call is for all, the
 * position of the first part. Each ledger counts each call that its part was in. */
ds4_status ds4_forward_eval(ds4_forward *f, const ds4_batch *batch, ds4_err *err);
/* Most tokens that a part starting at pos0 may hold, at most n. */
uint32_t ds4_forward_limit(const ds4_forward *f, uint32_t pos0, uint32_t n);
/* Reads a row of the logits of the last batch: [n_vocab]. The last of a part that asked for any
 * is logits0 + n_logits - 1. */
ds4_status ds4_forward_logits(ds4_forward *f, uint32_t row, float *dst, ds4_err *err);

/* Where cached rows stand: row or position i in slot i mod cap. */
typedef struct ds4_ring {
    ds4_buf *buf; /* NULL: the layer has no such part */
    uint32_t n_col, cap;
} ds4_ring;
ds4_ring ds4_forward_ring(const ds4_forward *f, uint32_t il, ds4_kv_part part);

#endif
