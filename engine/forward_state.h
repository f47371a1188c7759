#ifndef DS4_FORWARD_STATE_H
#define DS4_FORWARD_STATE_H
/* Inside of a forward pass: its memory, shared by forward.c and forward_state.c alone. */
#include "engine/gather.h"

struct ds4_forward {
    ds4_backend *b;
    const ds4_config *c;
    const ds4_weights *w;
    const ds4_model_bufs *m;
    uint32_t n_ctx, n_chunk, raw_cap;
    uint32_t n_score;   /* most participants of one attention head */
    uint32_t n_idx_row; /* columns of the indexer's score matrix */
#define F32(name, n) ds4_buf *name;
#define I32 F32
#include "engine/activations.def"
#undef F32
#undef I32
    ds4_layer_kv cache[DS4_MAX_LAYER];
    ds4_buf *logits; /* [cap_logits][n_vocab] */
    uint32_t cap_logits;
    uint64_t *count; /* not NULL: buffers are counted, none is made */
    void *readback;  /* one tap of one batch */
    size_t n_readback;
    /* The batch being evaluated, its tokens, and the part that calls are of (NULL: all). */
    const ds4_batch *batch;
    uint32_t n_tok;
    const ds4_part *part;
    ds4_gather gather;
    ds4_part *head; /* [n_chunk], room for the parts that want logits */
};

/* Makes room for n rows of logits: of one, until somebody wants those of whole batches. */
ds4_status ds4_forward_hold_logits(ds4_forward *f, uint32_t n, ds4_err *err);

#endif
