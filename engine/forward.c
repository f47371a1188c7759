#include "engine/forward.h"

#include <math.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/gather.h"
#include "engine/ops/ops.h"

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
    ds4_buf *logits;               /* [cap_logits][n_vocab] */
    uint32_t n_logits, cap_logits; /* n_logits: rows that the last head filled */
    uint64_t *count;               /* not NULL: buffers are counted, none is made */
    void *readback;                /* one tap of one batch */
    size_t n_readback;
    const ds4_batch *batch; /* the one being evaluated */
    ds4_gather gather;
};

/* ---- one call ---- */

typedef ds4_span span;

static span tokens(const ds4_forward *f) { return (span){f->batch->n_tok, f->batch->pos0, 1}; }

/* Shows the output of a call to the observer, if it wants it. */
static ds4_status show(ds4_forward *f, ds4_tap tap, uint32_t layer, ds4_buf *y, span s,
                       uint32_t n_col, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_observer *o = f->batch->observer;
    size_t n = (size_t)s.n_row * n_col * 4;

    if (!o || ds4_tap_table[tap].level == DS4_TAP_STATE || !o->wants(o->user, tap, layer))
        return st;
    if (n > f->n_readback) {
        TRY(ds4_mem_grow(&f->readback, n, 1, err));
        f->n_readback = n;
    }
    TRY(f->b->ops->buf_read(f->b, y, 0, f->readback, n, err));
    ds4_tap_event e = {tap, layer, s.pos0, s.pos_step, s.n_row, n_col, f->readback};
    if (!o->see(o->user, &e))
        RAISE(DS4_ERR_CANCELLED, "interrupted at layer %u, %s", layer, ds4_tap_table[tap].name);
out:
    return st;
}

static ds4_cell cell_of(const ds4_forward *f, const ds4_call *c) {
    return ds4_plan_cell(f->batch->plan, c->tap, c->layer, f->batch->phase);
}

static const ds4_row_info *row_info(const ds4_forward *f, const ds4_call *c, uint32_t row) {
    return f->b->ops->row(f->b, ds4_tap_table[c->tap].op, row);
}

/* Enters a call that a row has run in the ledger and shows its output, which is the last of
 * n_bind bindings. */
static ds4_status ran(ds4_forward *f, const ds4_call *c, uint32_t row, span s, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_batch *batch = f->batch;
    ds4_cell cell = cell_of(f, c);
    uint32_t changed = 0;

    for (uint32_t v = 0; v < DS4_VARIANT_COUNT; v++)
        if (ds4_plan_honours(batch->plan, c->tap, c->wtype, row, cell.variants,
                             (ds4_variant)v) &&
            (cell.variants >> v & 1) != ds4_variant_table[v].def)
            changed |= 1u << v;
    ds4_ledger_entry e = {.tap = c->tap,
                          .layer = c->layer,
                          .phase = c->phase,
                          .wtype = c->wtype,
                          .row = row_info(f, c, row)->name,
                          .changed = changed,
                          .wanted = row_info(f, c, cell.row[0])->name,
                          .refusal = c->refused,
                          .n_call = 1,
                          .n_elem = c->n_elem};
    TRY(ds4_ledger_add(batch->ledger, &e, err));
    TRY(show(f, c->tap, c->layer, c->bind[c->n_bind - 1], s, c->n_col, err));
out:
    return st;
}

/* Tells the observer of a call that is about to run. */
static ds4_status announce(ds4_forward *f, const ds4_call *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_observer *o = f->batch->observer;
    if (o && o->call && !o->call(o->user, c))
        RAISE(DS4_ERR_CANCELLED, "interrupted at layer %u, %s", c->layer,
              ds4_tap_table[c->tap].name);
out:
    return st;
}

/* Runs a call by the first of the plan's rows that accepts it. */
static ds4_status run_alone(ds4_forward *f, ds4_call *c, span s, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_cell cell = cell_of(f, c);
    uint32_t row = 0;

    for (uint32_t i = 0; i < DS4_MAX_WANTED && cell.row[i]; i++) {
        const char *why = ds4_when_refuses(&cell.when[i], f->batch->n_tok, f->batch->pos0);
        if (!why) why = f->b->ops->refuses(f->b, c, cell.row[i]);
        if (!why) {
            row = cell.row[i];
            break;
        }
        if (!c->refused) c->refused = why;
    }
    TRY(announce(f, c, err));
    TRY(f->b->ops->call(f->b, c, row, err));
    TRY(ran(f, c, row, s, err));
out:
    return st;
}

/* Runs the calls of a complete group by its fused row, or each alone. */
static ds4_status run_group(ds4_forward *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_gather *g = &f->gather;
    const ds4_call *c[DS4_MAX_FUSED];

    for (uint32_t i = 0; i < g->n; i++) c[i] = &g->held[i].call;
    const char *why = f->b->ops->refuses_group(f->b, g->group->name, c, g->n);
    for (uint32_t i = 0; !why && i < g->n; i++) TRY(announce(f, c[i], err));
    if (!why) TRY(f->b->ops->call_group(f->b, g->group->name, c, g->n, err));
    for (uint32_t i = 0; i < g->n; i++) {
        ds4_held *h = &g->held[i];
        h->call.refused = why;
        if (why) TRY(run_alone(f, &h->call, h->span, err));
        else TRY(ran(f, c[i], cell_of(f, c[i]).row[0], h->span, err));
    }
out:
    ds4_gather_reset(g);
    return st;
}

/* Runs a call as the plan says, enters it in the ledger, shows its output. A call of a group
 * that a fused row may run waits for the last call of that group. */
static ds4_status run(ds4_forward *f, ds4_call *c, span s, uint32_t n_col, ds4_err *err) {
    c->phase = f->batch->phase;
    c->variants = cell_of(f, c).variants;
    c->n_elem = (uint64_t)s.n_row * n_col;
    c->row0 = s.pos0 / s.pos_step, c->n_col = n_col;
    c->n_bind = ds4_op_table[ds4_tap_table[c->tap].op].n_in + 1;
    if (!ds4_gather_takes(&f->gather, f->b, f->batch, c, s)) return run_alone(f, c, s, err);
    return ds4_gather_is_complete(&f->gather) ? run_group(f, err) : DS4_OK;
}

/* Builds a call from its args and bindings. */
#define CALL(f, t, il, span, n_col, arguments, ...)                                            \
    run((f),                                                                                   \
        &(ds4_call){.tap = DS4_TAP_##t,                                                        \
                    .layer = (il),                                                             \
                    .args = &(arguments),                                                      \
                    .args_bytes = sizeof(arguments),                                           \
                    .bind = {__VA_ARGS__}},                                                    \
        (span), (n_col), err)

static ds4_status matmul(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *y,
                         const ds4_weight *w, ds4_buf *wb, ds4_buf *x, uint32_t n_in,
                         uint32_t x_stride, uint32_t group_rows, ds4_err *err) {
    struct ds4_args_matmul a = {f->batch->n_tok,        n_in,     w->n_out,
                                (uint32_t)w->row_bytes, x_stride, group_rows};
    ds4_call c = {.tap = tap,
                  .layer = il,
                  .wtype = w->tensor->type_id,
                  .args = &a,
                  .args_bytes = sizeof a,
                  .bind = {wb, x, y}};
    return run(f, &c, tokens(f), w->n_out, err);
}

/* y = W x with one input row per token. */
#define PROJECT(t, il, y, W, x)                                                                \
    matmul(f, DS4_TAP_##t, il, f->y, &w->W, m->W, f->x, w->W.n_in, w->W.n_in, w->W.n_out, err)

/* n_row rows per token of n_col; wb NULL: no weight. */
static ds4_status norm(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *y, ds4_buf *x,
                       ds4_buf *wb, span s, uint32_t n_per, uint32_t n_col, ds4_err *err) {
    struct ds4_args_rms_norm a = {s.n_row * n_per, n_col, wb != NULL, f->c->eps};
    ds4_call c = {
        .tap = tap, .layer = il, .args = &a, .args_bytes = sizeof a, .bind = {x, wb, y}};
    return run(f, &c, s, n_per * n_col, err);
}

static ds4_status rope(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *y, ds4_buf *x, span s,
                       span shown, uint32_t n_head, uint32_t d_head, bool inverse,
                       ds4_err *err) {
    struct ds4_args_rope a = {s.n_row, n_head,     d_head, f->c->n_rot,
                              s.pos0,  s.pos_step, inverse};
    uint32_t variants = ds4_plan_cell(f->batch->plan, tap, il, f->batch->phase).variants;
    bool exp2_log2 = variants & DS4_VARIANT_BIT(ROPE_EXP2_LOG2);
    ds4_buf *freq = f->m->freq[f->c->ratio[il] != 0][exp2_log2];
    ds4_call c = {
        .tap = tap, .layer = il, .args = &a, .args_bytes = sizeof a, .bind = {x, freq, y}};
    return run(f, &c, shown, n_head * d_head, err);
}

static ds4_status store(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *ring, ds4_buf *x,
                        uint32_t n_row, uint32_t n_col, uint32_t row0, uint32_t cap,
                        ds4_err *err) {
    struct ds4_args_row_store a = {n_row, n_col, row0, cap};
    ds4_call c = {
        .tap = tap, .layer = il, .args = &a, .args_bytes = sizeof a, .bind = {x, ring}};
    return run(f, &c, (span){n_row, 0, 1}, n_col, err);
}

/* ---- blocks ---- */

/* Reads the hyper-connection state: x = weighted streams; hc_split keeps how to write back. */
#define HC_READ(half, t_norm, t_mix, t_split, t_in)                                            \
    static ds4_status hc_read_##half(ds4_forward *f, uint32_t il, ds4_err *err) {              \
        ds4_status st = DS4_OK;                                                                \
        const ds4_config *c = f->c;                                                            \
        const ds4_layer_weights *w = &f->w->layer[il];                                         \
        const ds4_layer_bufs *m = &f->m->layer[il];                                            \
        uint32_t n_tok = f->batch->n_tok;                                                      \
        struct ds4_args_hc_split split = {n_tok, c->n_sinkhorn, c->hc_eps};                    \
        struct ds4_args_hc_read read = {n_tok, c->n_embd, 4, 24};                              \
                                                                                               \
        TRY(norm(f, DS4_TAP_##t_norm, il, f->hc_norm, f->state, NULL, tokens(f), 1,            \
                 4 * c->n_embd, err));                                                         \
        TRY(PROJECT(t_mix, il, hc_mix, hc_##half##_fn, hc_norm));                              \
        TRY(CALL(f, t_split, il, tokens(f), 24, split, f->hc_mix, m->hc_##half##_scale,        \
                 m->hc_##half##_base, f->hc_split));                                           \
        TRY(CALL(f, t_in, il, tokens(f), c->n_embd, read, f->state, f->hc_split, f->x));       \
    out:                                                                                       \
        return st;                                                                             \
    }
HC_READ(attn, attn_hc_norm, attn_hc_mix, attn_hc_split, attn_in)
HC_READ(ffn, ffn_hc_norm, ffn_hc_mix, ffn_hc_split, ffn_in)

/* Writes y back into the streams; the new state replaces the old one. */
static ds4_status hc_write(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_err *err) {
    struct ds4_args_hc_write a = {f->batch->n_tok, f->c->n_embd};
    ds4_call c = {.tap = tap,
                  .layer = il,
                  .args = &a,
                  .args_bytes = sizeof a,
                  .bind = {f->state, f->y, f->hc_split, f->state_next}};
    ds4_status st = run(f, &c, tokens(f), 4 * f->c->n_embd, err);
    ds4_buf *old = f->state;
    f->state = f->state_next, f->state_next = old;
    return st;
}

/* The query heads of every token: low rank, norm, per-head norm, rotation. */
static ds4_status query(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];

    TRY(PROJECT(q_low, il, q_low, attn_q_a, xn));
    TRY(norm(f, DS4_TAP_q_low_norm, il, f->q_low_norm, f->q_low, m->attn_q_a_norm, tokens(f), 1,
             c->q_rank, err));
    TRY(PROJECT(q_lin, il, q, attn_q_b, q_low_norm));
    TRY(norm(f, DS4_TAP_q_norm, il, f->q_norm, f->q, NULL, tokens(f), c->n_head, c->d_head,
             err));
    TRY(rope(f, DS4_TAP_q_rot, il, f->q_rot, f->q_norm, tokens(f), tokens(f), c->n_head,
             c->d_head, false, err));
out:
    return st;
}

/* The raw key-value row of every token, rounded as it is cached, into the ring. */
static ds4_status key_value(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    uint32_t d = c->d_head;
    struct ds4_args_kv_round round = {f->batch->n_tok, d, d - c->n_rot};

    TRY(PROJECT(kv_lin, il, kv, attn_kv, xn));
    TRY(norm(f, DS4_TAP_kv_norm, il, f->kv_norm, f->kv, m->attn_kv_a_norm, tokens(f), 1, d,
             err));
    TRY(rope(f, DS4_TAP_kv_rot, il, f->kv_rot, f->kv_norm, tokens(f), tokens(f), 1, d, false,
             err));
    TRY(CALL(f, kv_row, il, tokens(f), d, round, f->kv_rot, f->kv_row));
    TRY(store(f, DS4_TAP_kv_store, il, f->cache[il].raw, f->kv_row, f->batch->n_tok, d,
              f->batch->pos0, f->raw_cap, err));
out:
    return st;
}

/* Compressed rows that this batch completes: [first, first + n). */
typedef struct emitted {
    uint32_t first, n;
    span row;   /* rotary positions: first token of each window */
    span shown; /* position of the token that completes each window */
} emitted;

static emitted emitted_rows(const ds4_forward *f, uint32_t ratio) {
    uint32_t first = f->batch->pos0 / ratio, last = (f->batch->pos0 + f->batch->n_tok) / ratio;
    return (emitted){first,
                     last - first,
                     {last - first, first * ratio, ratio},
                     {last - first, first * ratio + ratio - 1, ratio}};
}

/* Projections of a compressor into its state, and the rows that become complete pooled and
 * normed. Both compressors are this with other tensors and widths. */
#define COMPRESS(name, pre, dim)                                                               \
    static ds4_status name(ds4_forward *f, uint32_t il, emitted e, ds4_err *err) {             \
        ds4_status st = DS4_OK;                                                                \
        const ds4_config *c = f->c;                                                            \
        const ds4_layer_weights *w = &f->w->layer[il];                                         \
        const ds4_layer_bufs *m = &f->m->layer[il];                                            \
        const ds4_layer_kv *kv = &f->cache[il];                                                \
        uint32_t n_tok = f->batch->n_tok, pos0 = f->batch->pos0, ratio = c->ratio[il];         \
        uint32_t n_lane = ratio == 4 ? 2 : 1, n_col = n_lane * c->dim;                         \
        struct ds4_args_gate_bias bias = {n_tok, n_col, pos0, ratio,                           \
                                          (uint32_t)w->pre##_ape.row_bytes};                   \
        struct ds4_args_softmax_pool pool = {e.n,    c->dim,  ratio,                           \
                                             n_lane, e.first, kv->state_cap};                  \
        ds4_call ape = {.tap = DS4_TAP_##pre##_gate_ape,                                       \
                        .layer = il,                                                           \
                        .args = &bias,                                                         \
                        .args_bytes = sizeof bias,                                             \
                        .wtype = w->pre##_ape.tensor->type_id,                                 \
                        .bind = {f->comp_gate, m->pre##_ape, f->comp_gate_ape}};               \
                                                                                               \
        TRY(PROJECT(pre##_kv, il, comp_kv, pre##_kv, xn));                                     \
        TRY(PROJECT(pre##_gate, il, comp_gate, pre##_gate, xn));                               \
        TRY(run(f, &ape, tokens(f), n_col, err));                                              \
        TRY(store(f, DS4_TAP_##pre##_kv_state, il, kv->pre##_kv, f->comp_kv, n_tok, n_col,     \
                  pos0, kv->state_cap, err));                                                  \
        TRY(store(f, DS4_TAP_##pre##_gate_state, il, kv->pre##_gate, f->comp_gate_ape, n_tok,  \
                  n_col, pos0, kv->state_cap, err));                                           \
        if (!e.n) goto out;                                                                    \
        TRY(CALL(f, pre##_pool, il, e.shown, c->dim, pool, kv->pre##_kv, kv->pre##_gate,       \
                 f->pool));                                                                    \
        TRY(norm(f, DS4_TAP_##pre##_norm, il, f->pool_norm, f->pool, m->pre##_norm, e.shown,   \
                 1, c->dim, err));                                                             \
        TRY(rope(f, DS4_TAP_##pre##_rot, il, f->pool_rot, f->pool_norm, e.row, e.shown, 1,     \
                 c->dim, false, err));                                                         \
    out:                                                                                       \
        return st;                                                                             \
    }
COMPRESS(compress_attention, comp, d_head)
COMPRESS(compress_indexer, idx, d_idx)

/* Compressed attention rows: FP8 by role, into the cache. */
static ds4_status compressor(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t ratio = f->c->ratio[il], d = f->c->d_head;
    emitted e = emitted_rows(f, ratio);
    struct ds4_args_kv_round round = {e.n, d, d - f->c->n_rot};

    TRY(compress_attention(f, il, e, err));
    if (!e.n) goto out;
    TRY(CALL(f, comp_row, il, e.shown, d, round, f->pool_rot, f->pool_row));
    TRY(store(f, DS4_TAP_comp_store, il, f->cache[il].comp, f->pool_row, e.n, d, e.first,
              f->n_ctx / ratio + 1, err));
out:
    return st;
}

/* Indexer rows: Hadamard and FP4 by role; then, past the top-k limit, the choice of each token.
 */
static ds4_status indexer(ds4_forward *f, uint32_t il, bool select, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    uint32_t n_tok = f->batch->n_tok, pos0 = f->batch->pos0, n_q = c->n_idx_head * c->d_idx;
    emitted e = emitted_rows(f, 4);
    struct ds4_args_index_round row = {e.n, 1}, query_row = {n_tok * c->n_idx_head, 0};
    struct ds4_args_index_score score = {n_tok, c->n_idx_head,           f->n_idx_row, pos0,
                                         4,     1.0f / sqrtf((float)n_q)};
    struct ds4_args_index_topk topk = {n_tok, f->n_idx_row, c->idx_top_k, pos0, 4};

    TRY(compress_indexer(f, il, e, err));
    if (e.n) {
        TRY(CALL(f, idx_row, il, e.shown, c->d_idx, row, f->pool_rot, f->pool_row));
        TRY(store(f, DS4_TAP_idx_store, il, f->cache[il].idx, f->pool_row, e.n, c->d_idx,
                  e.first, f->n_ctx / 4 + 1, err));
    }
    if (!select) goto out;
    TRY(PROJECT(idx_q_lin, il, idx_q, idx_q_b, q_low_norm));
    TRY(rope(f, DS4_TAP_idx_q_rot, il, f->idx_q_rot, f->idx_q, tokens(f), tokens(f),
             c->n_idx_head, c->d_idx, false, err));
    TRY(CALL(f, idx_q, il, tokens(f), n_q, query_row, f->idx_q_rot, f->idx_q_qat));
    TRY(PROJECT(idx_w, il, idx_w, idx_proj, xn));
    TRY(CALL(f, idx_score, il, tokens(f), f->n_idx_row, score, f->idx_q_qat, f->idx_w,
             f->cache[il].idx, f->idx_score));
    TRY(CALL(f, idx_sel, il, tokens(f), c->idx_top_k, topk, f->idx_score, f->idx_sel));
out:
    return st;
}

/* Position of the first token that sees more compressed rows than the indexer's top-k. */
static uint64_t select_from(const ds4_config *c) {
    return 4ull * ((uint64_t)c->idx_top_k + 1) - 1;
}

static ds4_status attention_half(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    const ds4_layer_kv *kv = &f->cache[il];
    uint32_t ratio = c->ratio[il], pos0 = f->batch->pos0, n_tok = f->batch->n_tok;
    bool select = ratio == 4 && pos0 >= select_from(c);
    struct ds4_args_attention a = {n_tok,
                                   c->n_head,
                                   c->d_head,
                                   c->window,
                                   f->raw_cap,
                                   pos0,
                                   ratio,
                                   select ? c->idx_top_k : 0,
                                   0,
                                   f->n_score,
                                   1.0f / sqrtf((float)c->d_head)};

    TRY(hc_read_attn(f, il, err));
    TRY(norm(f, DS4_TAP_attn_norm, il, f->xn, f->x, m->attn_norm, tokens(f), 1, c->n_embd,
             err));
    TRY(query(f, il, err));
    TRY(key_value(f, il, err));
    if (ratio) TRY(compressor(f, il, err));
    if (ratio == 4) TRY(indexer(f, il, select, err));
    TRY(CALL(f, attn_heads, il, tokens(f), c->n_head * c->d_head, a, f->q_rot, kv->raw,
             kv->comp, f->idx_sel, m->attn_sinks, f->attn_score, f->heads));
    TRY(rope(f, DS4_TAP_attn_unrot, il, f->heads_unrot, f->heads, tokens(f), tokens(f),
             c->n_head, c->d_head, true, err));
    TRY(matmul(f, DS4_TAP_attn_low, il, f->low, &w->attn_output_a, m->attn_output_a,
               f->heads_unrot, w->attn_output_a.n_in, c->n_head * c->d_head, c->o_rank, err));
    TRY(PROJECT(attn_out, il, y, attn_output_b, low));
    TRY(hc_write(f, DS4_TAP_attn_hc_out, il, err));
out:
    return st;
}

/* Which experts, with which weights. */
static ds4_status router(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    uint32_t n_tok = f->batch->n_tok, k = c->n_expert_used;
    struct ds4_args_router_prob prob = {n_tok * c->n_expert};
    struct ds4_args_router_hash hash = {n_tok, k};
    struct ds4_args_router_topk topk = {n_tok, c->n_expert, k, m->router_bias != NULL};
    struct ds4_args_router_weight weight = {n_tok, c->n_expert, k, c->expert_scale};

    TRY(PROJECT(router_logit, il, router_logit, router, xn));
    TRY(CALL(f, router_prob, il, tokens(f), c->n_expert, prob, f->router_logit,
             f->router_prob));
    if (il < c->n_hash)
        TRY(CALL(f, router_hash, il, tokens(f), k, hash, m->router_hash, f->token,
                 f->router_sel));
    else
        TRY(CALL(f, router_sel, il, tokens(f), k, topk, f->router_prob, m->router_bias,
                 f->router_sel));
    TRY(CALL(f, router_weight, il, tokens(f), k, weight, f->router_prob, f->router_sel,
             f->router_weight));
out:
    return st;
}

static ds4_status expert_matmul(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *y,
                                const ds4_weight *w, ds4_buf *wb, ds4_buf *x, bool x_per_slot,
                                ds4_err *err) {
    uint32_t n_tok = f->batch->n_tok, k = f->c->n_expert_used;
    struct ds4_args_matmul_id a = {
        n_tok, k, w->n_in, w->n_out, (uint32_t)w->row_bytes, w->n_mat, x_per_slot};
    ds4_call c = {.tap = tap,
                  .layer = il,
                  .wtype = w->tensor->type_id,
                  .args = &a,
                  .args_bytes = sizeof a,
                  .bind = {wb, x, f->router_sel, y}};
    return run(f, &c, tokens(f), k * w->n_out, err);
}

static ds4_status routed_experts(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    uint32_t n_tok = f->batch->n_tok, k = c->n_expert_used;
    struct ds4_args_swiglu act = {n_tok * k, c->n_ff, 1, c->clamp[il]};
    struct ds4_args_slot_sum sum = {n_tok, k, c->n_embd};

    TRY(expert_matmul(f, DS4_TAP_moe_gate, il, f->moe_gate, &w->exp_gate, m->exp_gate, f->xn,
                      false, err));
    TRY(expert_matmul(f, DS4_TAP_moe_up, il, f->moe_up, &w->exp_up, m->exp_up, f->xn, false,
                      err));
    TRY(CALL(f, moe_mid, il, tokens(f), k * c->n_ff, act, f->moe_gate, f->moe_up,
             f->router_weight, f->moe_mid));
    TRY(expert_matmul(f, DS4_TAP_moe_down, il, f->moe_down, &w->exp_down, m->exp_down,
                      f->moe_mid, true, err));
    TRY(CALL(f, moe_out, il, tokens(f), c->n_embd, sum, f->moe_down, f->moe));
out:
    return st;
}

static ds4_status ffn_half(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    uint32_t n_tok = f->batch->n_tok;
    struct ds4_args_swiglu act = {n_tok, c->n_ff, 0, c->clamp[il]};
    struct ds4_args_add add = {n_tok * c->n_embd};

    TRY(hc_read_ffn(f, il, err));
    TRY(norm(f, DS4_TAP_ffn_norm, il, f->xn, f->x, m->ffn_norm, tokens(f), 1, c->n_embd, err));
    TRY(router(f, il, err));
    TRY(routed_experts(f, il, err));
    TRY(PROJECT(shared_gate, il, sh_gate, sh_gate, xn));
    TRY(PROJECT(shared_up, il, sh_up, sh_up, xn));
    TRY(CALL(f, shared_mid, il, tokens(f), c->n_ff, act, f->sh_gate, f->sh_up, NULL,
             f->sh_mid));
    TRY(PROJECT(shared_out, il, sh, sh_down, sh_mid));
    TRY(CALL(f, ffn_out, il, tokens(f), c->n_embd, add, f->moe, f->sh, f->y));
    TRY(hc_write(f, DS4_TAP_ffn_hc_out, il, err));
out:
    return st;
}

static ds4_status embed(ds4_forward *f, ds4_err *err) {
    const ds4_weight *w = &f->w->token_embd;
    struct ds4_args_embed a = {f->batch->n_tok, f->c->n_embd, 4, (uint32_t)w->row_bytes};
    ds4_call c = {.tap = DS4_TAP_embed,
                  .layer = DS4_NO_LAYER,
                  .wtype = w->tensor->type_id,
                  .args = &a,
                  .args_bytes = sizeof a,
                  .bind = {f->m->token_embd, f->token, f->state}};
    return run(f, &c, tokens(f), 4 * f->c->n_embd, err);
}

/* Moves the state of the last n tokens to its front, where the head finds them. */
static ds4_status take_last(ds4_forward *f, uint32_t n, ds4_err *err) {
    uint32_t n_tok = f->batch->n_tok, skip = n_tok - n;
    if (!skip) return DS4_OK;
    ds4_status st = store(f, DS4_TAP_out_last, DS4_NO_LAYER, f->state_next, f->state, n_tok,
                          4 * f->c->n_embd, f->n_chunk - skip, f->n_chunk, err);
    ds4_buf *old = f->state;
    f->state = f->state_next, f->state_next = old;
    return st;
}

static ds4_status new_typed(ds4_forward *f, ds4_buf **out, uint64_t n_row, uint64_t n_col,
                            ds4_type type, ds4_err *err) {
    uint64_t bytes = n_row * n_col * 4;
    if (n_row > UINT32_MAX || n_col > UINT32_MAX || bytes > SIZE_MAX / 2)
        return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE,
                           "buffer of %llu x %llu elements is too large",
                           (unsigned long long)n_row, (unsigned long long)n_col);
    if (f->count) {
        *f->count += bytes ? bytes : 4;
        return DS4_OK;
    }
    return f->b->ops->buf_new(f->b, out, bytes ? bytes : 4, type, err);
}

static ds4_status new_rows(ds4_forward *f, ds4_buf **out, uint64_t n_row, uint64_t n_col,
                           ds4_err *err) {
    return new_typed(f, out, n_row, n_col, DS4_TYPE_F32, err);
}

/* Logits of one row, until somebody wants those of whole batches. */
static ds4_status hold_logits(ds4_forward *f, uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_buf *logits = NULL;
    if (n <= f->cap_logits) goto out;
    if (n > 1) n = f->n_chunk;
    TRY(new_rows(f, &logits, n, f->c->n_vocab, err));
    f->b->ops->buf_free(f->b, f->logits);
    f->logits = logits, f->cap_logits = n;
out:
    return st;
}

/* Of the tokens of f->batch, whose states stand at the front of f->state. */
static ds4_status output_head(ds4_forward *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_weights *w = f->w;
    const ds4_model_bufs *m = f->m;
    const uint32_t il = DS4_NO_LAYER, n_tok = f->batch->n_tok;
    struct ds4_args_hc_gate gate = {n_tok, 4, c->hc_eps};
    struct ds4_args_hc_read read = {n_tok, c->n_embd, 4, 4};

    TRY(norm(f, DS4_TAP_out_hc_norm, il, f->hc_norm, f->state, NULL, tokens(f), 1,
             4 * c->n_embd, err));
    TRY(PROJECT(out_hc_mix, il, hc_mix, output_hc_fn, hc_norm));
    TRY(CALL(f, out_hc_gate, il, tokens(f), 4, gate, f->hc_mix, m->output_hc_scale,
             m->output_hc_base, f->out_w));
    TRY(CALL(f, out_in, il, tokens(f), c->n_embd, read, f->state, f->out_w, f->x));
    TRY(norm(f, DS4_TAP_out_norm, il, f->xn, f->x, m->output_norm, tokens(f), 1, c->n_embd,
             err));
    TRY(PROJECT(logits, il, logits, output, xn));
out:
    return st;
}

/* ---- the network ---- */

/* Lets the observer replace the state at the entry of a layer (teacher forcing, patching). */
static ds4_status inject(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_observer *o = f->batch->observer;
    uint32_t n_col = 4 * f->c->n_embd;
    size_t n = (size_t)f->batch->n_tok * n_col * sizeof(float);

    if (!o || !o->inject) return st;
    if (n > f->n_readback) {
        TRY(ds4_mem_grow(&f->readback, n, 1, err));
        f->n_readback = n;
    }
    if (o->inject(o->user, il, f->batch->pos0, f->batch->n_tok, n_col, f->readback))
        TRY(f->b->ops->buf_write(f->b, f->state, 0, f->readback, n, err));
out:
    return st;
}

static ds4_status logits_of_last(ds4_forward *f, uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_batch *all = f->batch;
    ds4_batch last = *all;

    last.pos0 += all->n_tok - n, last.n_tok = n;
    TRY(hold_logits(f, n, err));
    TRY(take_last(f, n, err));
    f->batch = &last;
    TRY(output_head(f, err));
    f->n_logits = n;
out:
    f->batch = all;
    return st;
}

ds4_status ds4_forward_eval(ds4_forward *f, const ds4_batch *batch, ds4_err *err) {
    ds4_status st = DS4_OK;

    f->batch = batch;
    ds4_gather_reset(&f->gather);
    TRY(f->b->ops->buf_write(f->b, f->token, 0, batch->token, (size_t)batch->n_tok * 4, err));
    TRY(embed(f, err));
    for (uint32_t il = 0; il < f->c->n_layer; il++) {
        TRY(inject(f, il, err));
        TRY(attention_half(f, il, err));
        TRY(ffn_half(f, il, err));
    }
    if (batch->n_logits) TRY(logits_of_last(f, batch->n_logits, err));
    TRY(f->b->ops->sync(f->b, err));
out:
    f->batch = NULL;
    return st;
}

uint32_t ds4_forward_limit(const ds4_forward *f, uint32_t pos0, uint32_t n) {
    uint64_t edge = select_from(f->c);
    if (n > f->n_chunk) n = f->n_chunk;
    if (pos0 < edge && pos0 + (uint64_t)n > edge) n = (uint32_t)(edge - pos0);
    return n;
}

ds4_status ds4_forward_logits(ds4_forward *f, float *dst, ds4_err *err) {
    size_t n = (size_t)f->c->n_vocab * sizeof *dst;
    return f->b->ops->buf_read(f->b, f->logits, (f->n_logits - 1) * n, dst, n, err);
}

ds4_ring ds4_forward_ring(const ds4_forward *f, uint32_t il, ds4_kv_part part) {
    const ds4_layer_kv *kv = &f->cache[il];
    uint32_t d = f->c->d_head, di = f->c->d_idx, ratio = f->c->ratio[il];
    uint32_t lanes = ratio == 4 ? 2 : 1, n_comp = ratio ? f->n_ctx / ratio + 1 : 0;
    const ds4_ring all[DS4_KV_PART_COUNT] = {
        [DS4_KV_RAW] = {kv->raw, d, f->raw_cap},
        [DS4_KV_COMP] = {kv->comp, d, n_comp},
        [DS4_KV_COMP_KV] = {kv->comp_kv, lanes * d, kv->state_cap},
        [DS4_KV_COMP_GATE] = {kv->comp_gate, lanes * d, kv->state_cap},
        [DS4_KV_IDX] = {kv->idx, di, n_comp},
        [DS4_KV_IDX_KV] = {kv->idx_kv, lanes * di, kv->state_cap},
        [DS4_KV_IDX_GATE] = {kv->idx_gate, lanes * di, kv->state_cap},
    };
    return all[part];
}

/* ---- memory ---- */

static ds4_status new_layer(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    ds4_layer_kv *kv = &f->cache[il];
    uint32_t ratio = c->ratio[il], n_lane = ratio == 4 ? 2 : 1;

    TRY(new_rows(f, &kv->raw, f->raw_cap, c->d_head, err));
    if (!ratio) goto out;
    kv->state_cap = n_lane * ratio + f->n_chunk;
    TRY(new_rows(f, &kv->comp, f->n_ctx / ratio + 1, c->d_head, err));
    TRY(new_rows(f, &kv->comp_kv, kv->state_cap, n_lane * c->d_head, err));
    TRY(new_rows(f, &kv->comp_gate, kv->state_cap, n_lane * c->d_head, err));
    if (ratio != 4) goto out;
    TRY(new_rows(f, &kv->idx, f->n_ctx / 4 + 1, c->d_idx, err));
    TRY(new_rows(f, &kv->idx_kv, kv->state_cap, 2 * c->d_idx, err));
    TRY(new_rows(f, &kv->idx_gate, kv->state_cap, 2 * c->d_idx, err));
out:
    return st;
}

/* Most compressed rows that one token can attend to. */
static uint32_t most_compressed(const ds4_config *c, uint32_t n_ctx) {
    uint32_t most = 0;
    for (uint32_t il = 0; il < c->n_layer; il++) {
        uint32_t n = c->ratio[il] ? n_ctx / c->ratio[il] : 0;
        if (c->ratio[il] == 4 && n > c->idx_top_k) n = c->idx_top_k;
        most = n > most ? n : most;
    }
    return most;
}

/* Makes every buffer; need not NULL: only counts their bytes. */
static ds4_status new_buffers(ds4_forward *f, ds4_need *need, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const uint64_t D = c->n_embd, S = c->n_hc, M = 2 * S + S * S,
                   Hd = (uint64_t)c->n_head * c->d_head;
    const uint32_t row = c->d_head > c->d_idx ? c->d_head : c->d_idx, lane = 2 * row;

    f->count = need ? &need->activations : NULL;
#define F32(name, n) TRY(new_typed(f, &f->name, f->n_chunk, (n), DS4_TYPE_F32, err));
#define I32(name, n) TRY(new_typed(f, &f->name, f->n_chunk, (n), DS4_TYPE_I32, err));
#include "engine/activations.def"
#undef F32
#undef I32
    TRY(new_rows(f, &f->logits, 1, c->n_vocab, err));
    f->count = need ? &need->kv : NULL;
    for (uint32_t il = 0; il < c->n_layer; il++) TRY(new_layer(f, il, err));
    f->cap_logits = 1;
out:
    f->count = NULL;
    return st;
}

ds4_status ds4_forward_new(ds4_forward **out, ds4_backend *b, const ds4_config *cfg,
                           const ds4_weights *w, const ds4_model_bufs *m, uint32_t n_ctx,
                           uint32_t n_chunk, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_forward *f = NULL;
    ds4_need need = {0};

    TRY(ds4_mem_alloc(&f, 1, sizeof *f, err));
    f->b = b, f->c = cfg, f->w = w, f->m = m, f->n_ctx = n_ctx, f->n_chunk = n_chunk;
    f->raw_cap = cfg->window + n_chunk;
    f->n_score = cfg->window + most_compressed(cfg, n_ctx);
    f->n_idx_row = n_ctx / 4 + 1;
    TRY(new_buffers(f, &need, err));
    if (b->ops->room) TRY(b->ops->room(b, &need, err));
    TRY(new_buffers(f, NULL, err));
    *out = f, f = NULL;
out:
    ds4_forward_free(f);
    return st;
}

void ds4_forward_free(ds4_forward *f) {
    if (!f) return;
    void (*release)(ds4_backend *, ds4_buf *) = f->b->ops->buf_free;
#define F32(name, n) release(f->b, f->name);
#define I32 F32
#include "engine/activations.def"
#undef F32
#undef I32
    release(f->b, f->logits);
    for (uint32_t il = 0; il < f->c->n_layer; il++) {
        ds4_layer_kv *kv = &f->cache[il];
        ds4_buf *all[] = {kv->raw, kv->comp,   kv->comp_kv, kv->comp_gate,
                          kv->idx, kv->idx_kv, kv->idx_gate};
        for (size_t i = 0; i < sizeof all / sizeof *all; i++) release(f->b, all[i]);
    }
    ds4_mem_free(f->readback);
    ds4_mem_free(f);
}
