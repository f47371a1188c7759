#include "engine/forward_state.h"

#include <math.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/ops/ops.h"

/* ---- one call ---- */

typedef ds4_span span;

/* Those of a part, or all: the position of the first is then that of the first part. */
static span tokens(const ds4_forward *f) {
    const ds4_part *p = f->part ? f->part : f->batch->part;
    return (span){f->part ? p->n_tok : f->n_tok, p->pos0, 1};
}

/* Shows n rows of y from byte `off` on to a part's observer, if it wants them. */
static ds4_status show(ds4_forward *f, const ds4_part *p, ds4_tap tap, uint32_t layer,
                       ds4_buf *y, size_t off, span s, uint32_t n_col, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_observer *o = p->observer;
    size_t n = (size_t)s.n_row * n_col * 4;

    if (!o || ds4_tap_table[tap].level == DS4_TAP_STATE || !o->wants(o->user, tap, layer))
        return st;
    if (n > f->n_readback) {
        TRY(ds4_mem_grow(&f->readback, n, 1, err));
        f->n_readback = n;
    }
    TRY(f->b->ops->buf_read(f->b, y, off, f->readback, n, err));
    ds4_tap_event e = {tap, layer, s.pos0, s.pos_step, s.n_row, n_col, f->readback};
    if (!o->see(o->user, &e))
        RAISE(DS4_ERR_CANCELLED, "interrupted at layer %u, %s", layer, ds4_tap_table[tap].name);
out:
    return st;
}

/* What a part keeps of a call that was run: the ledger's entry, and what its observer sees of
 * the rows of the output. */
static ds4_status note(ds4_forward *f, const ds4_part *p, const ds4_call *c, ds4_ledger_entry e,
                       size_t off, span s, ds4_err *err) {
    ds4_status st = DS4_OK;
    e.n_elem = (uint64_t)s.n_row * c->n_col;
    TRY(ds4_ledger_add(p->ledger, &e, err));
    TRY(show(f, p, c->tap, c->layer, c->bind[c->n_bind - 1], off, s, c->n_col, err));
out:
    return st;
}

static ds4_cell cell_of(const ds4_forward *f, const ds4_call *c) {
    return ds4_plan_cell(f->batch->plan, c->tap, c->layer, f->batch->phase);
}

static const ds4_row_info *row_info(const ds4_forward *f, const ds4_call *c, uint32_t row) {
    return f->b->ops->row(f->b, ds4_tap_table[c->tap].op, row);
}

/* Enters a call that a row has run in the ledgers and shows its output, which is the last of
 * n_bind bindings; a call for all parts has one row of it per token. */
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
    const ds4_ledger_entry e = {.tap = c->tap,
                                .layer = c->layer,
                                .phase = c->phase,
                                .wtype = c->wtype,
                                .row = row_info(f, c, row)->name,
                                .changed = changed,
                                .wanted = row_info(f, c, cell.row[0])->name,
                                .refusal = c->refused,
                                .n_call = 1};
    if (f->part) {
        TRY(note(f, f->part, c, e, c->view[c->n_bind - 1].off, s, err));
        goto out;
    }
    for (uint32_t i = 0; i < batch->n_part; i++) {
        const ds4_part *p = &batch->part[i];
        const span rows = batch->n_part == 1 ? s : (span){p->n_tok, p->pos0, 1};
        TRY(note(f, p, c, e, (size_t)p->row0 * c->n_col * 4, rows, err));
    }
out:
    return st;
}

/* Tells the observers of a call that is about to run. */
static ds4_status announce(ds4_forward *f, const ds4_call *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t i = 0; i < f->batch->n_part; i++) {
        const ds4_part *p = &f->batch->part[i];
        const ds4_observer *o = p->observer;
        if ((!f->part || f->part == p) && o && o->call && !o->call(o->user, c))
            RAISE(DS4_ERR_CANCELLED, "interrupted at layer %u, %s", c->layer,
                  ds4_tap_table[c->tap].name);
    }
out:
    return st;
}

/* Runs a call by the first of the plan's rows that accepts it. */
static ds4_status run_alone(ds4_forward *f, ds4_call *c, span s, ds4_err *err) {
    ds4_status st = DS4_OK;
    const span all = tokens(f);
    ds4_cell cell = cell_of(f, c);
    uint32_t row = 0;

    for (uint32_t i = 0; i < DS4_MAX_WANTED && cell.row[i]; i++) {
        const char *why = ds4_when_refuses(&cell.when[i], all.n_row, all.pos0);
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

/* Makes a binding of a part's call the part's rows of an activation of all tokens. */
static void view_rows(const ds4_forward *f, ds4_call *c, uint32_t i, uint32_t n_per_tok) {
    c->view[i].off = (size_t)f->part->row0 * n_per_tok * 4;
    c->view[i].n = (size_t)f->part->n_tok * n_per_tok * 4;
}

/* Calls of one part after the other. */
#define EACH_PART(f, call)                                                                     \
    for (uint32_t i_part = 0; i_part < (f)->batch->n_part; i_part++) {                         \
        (f)->part = &(f)->batch->part[i_part];                                                 \
        TRY(call);                                                                             \
        (f)->part = NULL;                                                                      \
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
    struct ds4_args_matmul a = {tokens(f).n_row,        n_in,     w->n_out,
                                (uint32_t)w->row_bytes, x_stride, group_rows};
    ds4_call c = {.tap = tap,
                  .layer = il,
                  .wtype = w->tensor->type_id,
                  .args = &a,
                  .args_bytes = sizeof a,
                  .bind = {wb, x, y}};
    if (f->part) view_rows(f, &c, 1, x_stride);
    return run(f, &c, tokens(f), w->n_out, err);
}

/* y = W x with one input row per token. Of a part: from its rows of x, which is of all tokens,
 * to its own y. */
#define PROJECT(t, il, y, W, x) PROJECT_TO(t, il, f->y, W, x)
#define PROJECT_TO(t, il, y, W, x)                                                             \
    matmul(f, DS4_TAP_##t, il, y, &w->W, m->W, f->x, w->W.n_in, w->W.n_in, w->W.n_out, err)

/* n_row rows per token of n_col; wb NULL: no weight. */
static ds4_status norm(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *y, ds4_buf *x,
                       ds4_buf *wb, span s, uint32_t n_per, uint32_t n_col, ds4_err *err) {
    struct ds4_args_rms_norm a = {s.n_row * n_per, n_col, wb != NULL, f->c->eps};
    ds4_call c = {
        .tap = tap, .layer = il, .args = &a, .args_bytes = sizeof a, .bind = {x, wb, y}};
    return run(f, &c, s, n_per * n_col, err);
}

/* Rotates rows of a part: those of x and y that are its tokens' where these are activations of
 * all tokens (x_all, y_all), else from the first row on. */
static ds4_status rope(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *y, bool y_all,
                       ds4_buf *x, bool x_all, span s, span shown, uint32_t n_head,
                       uint32_t d_head, bool inverse, ds4_err *err) {
    struct ds4_args_rope a = {s.n_row, n_head,     d_head, f->c->n_rot,
                              s.pos0,  s.pos_step, inverse};
    uint32_t variants = ds4_plan_cell(f->batch->plan, tap, il, f->batch->phase).variants;
    bool exp2_log2 = variants & DS4_VARIANT_BIT(ROPE_EXP2_LOG2);
    ds4_buf *freq = f->m->freq[f->c->ratio[il] != 0][exp2_log2];
    ds4_call c = {
        .tap = tap, .layer = il, .args = &a, .args_bytes = sizeof a, .bind = {x, freq, y}};
    if (x_all) view_rows(f, &c, 0, n_head * d_head);
    if (y_all) view_rows(f, &c, 2, n_head * d_head);
    return run(f, &c, shown, n_head * d_head, err);
}

/* Rows of x, a part's own from the first on or (x_all) its tokens' rows of all, into a ring. */
static ds4_status store(ds4_forward *f, ds4_tap tap, uint32_t il, ds4_buf *ring, ds4_buf *x,
                        bool x_all, uint32_t n_row, uint32_t n_col, uint32_t row0, uint32_t cap,
                        ds4_err *err) {
    struct ds4_args_row_store a = {n_row, n_col, row0, cap};
    ds4_call c = {
        .tap = tap, .layer = il, .args = &a, .args_bytes = sizeof a, .bind = {x, ring}};
    if (x_all) view_rows(f, &c, 0, n_col);
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
        uint32_t n_tok = f->n_tok;                                                             \
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
    struct ds4_args_hc_write a = {f->n_tok, f->c->n_embd};
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
    EACH_PART(f, rope(f, DS4_TAP_q_rot, il, f->q_rot, true, f->q_norm, true, tokens(f),
                      tokens(f), c->n_head, c->d_head, false, err))
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
    struct ds4_args_kv_round round = {f->n_tok, d, d - c->n_rot};

    TRY(PROJECT(kv_lin, il, kv, attn_kv, xn));
    TRY(norm(f, DS4_TAP_kv_norm, il, f->kv_norm, f->kv, m->attn_kv_a_norm, tokens(f), 1, d,
             err));
    EACH_PART(f, rope(f, DS4_TAP_kv_rot, il, f->kv_rot, true, f->kv_norm, true, tokens(f),
                      tokens(f), 1, d, false, err))
    TRY(CALL(f, kv_row, il, tokens(f), d, round, f->kv_rot, f->kv_row));
    EACH_PART(f, store(f, DS4_TAP_kv_store, il, f->part->own->cache[il].raw, f->kv_row, true,
                       f->part->n_tok, d, f->part->pos0, f->part->own->raw_cap, err))
out:
    return st;
}

/* Compressed rows that this part completes: [first, first + n). */
typedef struct emitted {
    uint32_t first, n;
    span row;   /* rotary positions: first token of each window */
    span shown; /* position of the token that completes each window */
} emitted;

static emitted emitted_rows(const ds4_forward *f, uint32_t ratio) {
    const ds4_part *p = f->part;
    uint32_t first = p->pos0 / ratio, last = (p->pos0 + p->n_tok) / ratio;
    return (emitted){first,
                     last - first,
                     {last - first, first * ratio, ratio},
                     {last - first, first * ratio + ratio - 1, ratio}};
}

/* Projections of a compressor, of all tokens. Both compressors are this with other tensors and
 * widths. */
#define COMPRESS(name, pre, dim)                                                               \
    static ds4_status name##_project(ds4_forward *f, uint32_t il, ds4_err *err) {              \
        ds4_status st = DS4_OK;                                                                \
        const ds4_layer_weights *w = &f->w->layer[il];                                         \
        const ds4_layer_bufs *m = &f->m->layer[il];                                            \
                                                                                               \
        TRY(PROJECT(pre##_kv, il, pre##_kv, pre##_kv, xn));                                    \
        TRY(PROJECT(pre##_gate, il, pre##_gate, pre##_gate, xn));                              \
    out:                                                                                       \
        return st;                                                                             \
    }                                                                                          \
                                                                                               \
    /* A part's projections into its state, and the rows that become complete pooled and       \
     * normed. */                                                                              \
    static ds4_status name(ds4_forward *f, uint32_t il, emitted e, ds4_err *err) {             \
        ds4_status st = DS4_OK;                                                                \
        const ds4_config *c = f->c;                                                            \
        const ds4_layer_weights *w = &f->w->layer[il];                                         \
        const ds4_layer_bufs *m = &f->m->layer[il];                                            \
        const ds4_forward *own = f->part->own;                                                 \
        const ds4_layer_kv *kv = &own->cache[il];                                              \
        uint32_t n_tok = f->part->n_tok, pos0 = f->part->pos0, ratio = c->ratio[il];           \
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
                        .bind = {f->pre##_gate, m->pre##_ape, own->comp_gate_ape}};            \
                                                                                               \
        view_rows(f, &ape, 0, n_col);                                                          \
        TRY(run(f, &ape, tokens(f), n_col, err));                                              \
        TRY(store(f, DS4_TAP_##pre##_kv_state, il, kv->pre##_kv, f->pre##_kv, true, n_tok,     \
                  n_col, pos0, kv->state_cap, err));                                           \
        TRY(store(f, DS4_TAP_##pre##_gate_state, il, kv->pre##_gate, own->comp_gate_ape,       \
                  false, n_tok, n_col, pos0, kv->state_cap, err));                             \
        if (!e.n) goto out;                                                                    \
        TRY(CALL(f, pre##_pool, il, e.shown, c->dim, pool, kv->pre##_kv, kv->pre##_gate,       \
                 own->pool));                                                                  \
        TRY(norm(f, DS4_TAP_##pre##_norm, il, own->pool_norm, own->pool, m->pre##_norm,        \
                 e.shown, 1, c->dim, err));                                                    \
        TRY(rope(f, DS4_TAP_##pre##_rot, il, own->pool_rot, false, own->pool_norm, false,      \
                 e.row, e.shown, 1, c->dim, false, err));                                      \
    out:                                                                                       \
        return st;                                                                             \
    }
COMPRESS(compress_attention, comp, d_head)
COMPRESS(compress_indexer, idx, d_idx)

/* A part's compressed attention rows: FP8 by role, into the cache. */
static ds4_status compressor(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_forward *own = f->part->own;
    uint32_t ratio = f->c->ratio[il], d = f->c->d_head;
    emitted e = emitted_rows(f, ratio);
    struct ds4_args_kv_round round = {e.n, d, d - f->c->n_rot};

    TRY(compress_attention(f, il, e, err));
    if (!e.n) goto out;
    TRY(CALL(f, comp_row, il, e.shown, d, round, own->pool_rot, own->pool_row));
    TRY(store(f, DS4_TAP_comp_store, il, own->cache[il].comp, own->pool_row, false, e.n, d,
              e.first, own->n_ctx / ratio + 1, err));
out:
    return st;
}

/* Position of the first token that sees more compressed rows than the indexer's top-k. */
static uint64_t select_from(const ds4_config *c) {
    return 4ull * ((uint64_t)c->idx_top_k + 1) - 1;
}

static bool selects(const ds4_forward *f, uint32_t il) {
    return f->c->ratio[il] == 4 && f->part->pos0 >= select_from(f->c);
}

/* A part's indexer rows: Hadamard and FP4 by role; then, past the top-k limit, the choice of
 * each token. */
static ds4_status indexer(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    const ds4_forward *own = f->part->own;
    uint32_t n_tok = f->part->n_tok, pos0 = f->part->pos0, n_q = c->n_idx_head * c->d_idx;
    emitted e = emitted_rows(f, 4);
    struct ds4_args_index_round row = {e.n, 1}, query_row = {n_tok * c->n_idx_head, 0};
    struct ds4_args_index_score score = {n_tok, c->n_idx_head,           own->n_idx_row, pos0,
                                         4,     1.0f / sqrtf((float)n_q)};
    struct ds4_args_index_topk topk = {n_tok, own->n_idx_row, c->idx_top_k, pos0, 4};

    TRY(compress_indexer(f, il, e, err));
    if (e.n) {
        TRY(CALL(f, idx_row, il, e.shown, c->d_idx, row, own->pool_rot, own->pool_row));
        TRY(store(f, DS4_TAP_idx_store, il, own->cache[il].idx, own->pool_row, false, e.n,
                  c->d_idx, e.first, own->n_ctx / 4 + 1, err));
    }
    if (!selects(f, il)) goto out;
    TRY(PROJECT_TO(idx_q_lin, il, own->idx_q, idx_q_b, q_low_norm));
    TRY(rope(f, DS4_TAP_idx_q_rot, il, own->idx_q_rot, false, own->idx_q, false, tokens(f),
             tokens(f), c->n_idx_head, c->d_idx, false, err));
    TRY(CALL(f, idx_q, il, tokens(f), n_q, query_row, own->idx_q_rot, own->idx_q_qat));
    TRY(PROJECT_TO(idx_w, il, own->idx_w, idx_proj, xn));
    TRY(CALL(f, idx_score, il, tokens(f), own->n_idx_row, score, own->idx_q_qat, own->idx_w,
             own->cache[il].idx, own->idx_score));
    TRY(CALL(f, idx_sel, il, tokens(f), c->idx_top_k, topk, own->idx_score, own->idx_sel));
out:
    return st;
}

/* A part's heads over its own cached rows, rotated back. */
static ds4_status attend(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_part *p = f->part;
    const ds4_forward *own = p->own;
    const ds4_layer_kv *kv = &own->cache[il];
    struct ds4_args_attention a = {p->n_tok,
                                   c->n_head,
                                   c->d_head,
                                   c->window,
                                   own->raw_cap,
                                   p->pos0,
                                   c->ratio[il],
                                   selects(f, il) ? c->idx_top_k : 0,
                                   0,
                                   own->n_score,
                                   1.0f / sqrtf((float)c->d_head)};
    ds4_call heads = {.tap = DS4_TAP_attn_heads,
                      .layer = il,
                      .args = &a,
                      .args_bytes = sizeof a,
                      .bind = {f->q_rot, kv->raw, kv->comp, own->idx_sel,
                               f->m->layer[il].attn_sinks, own->attn_score, f->heads}};

    view_rows(f, &heads, 0, c->n_head * c->d_head);
    view_rows(f, &heads, 6, c->n_head * c->d_head);
    TRY(run(f, &heads, tokens(f), c->n_head * c->d_head, err));
    TRY(rope(f, DS4_TAP_attn_unrot, il, f->heads_unrot, true, f->heads, true, tokens(f),
             tokens(f), c->n_head, c->d_head, true, err));
out:
    return st;
}

static ds4_status attention_half(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_layer_weights *w = &f->w->layer[il];
    const ds4_layer_bufs *m = &f->m->layer[il];
    uint32_t ratio = c->ratio[il];

    TRY(hc_read_attn(f, il, err));
    TRY(norm(f, DS4_TAP_attn_norm, il, f->xn, f->x, m->attn_norm, tokens(f), 1, c->n_embd,
             err));
    TRY(query(f, il, err));
    TRY(key_value(f, il, err));
    if (ratio) {
        TRY(compress_attention_project(f, il, err));
        EACH_PART(f, compressor(f, il, err))
    }
    if (ratio == 4) {
        TRY(compress_indexer_project(f, il, err));
        EACH_PART(f, indexer(f, il, err))
    }
    EACH_PART(f, attend(f, il, err))
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
    uint32_t n_tok = f->n_tok, k = c->n_expert_used;
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
    uint32_t n_tok = f->n_tok, k = f->c->n_expert_used;
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
    uint32_t n_tok = f->n_tok, k = c->n_expert_used;
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
    uint32_t n_tok = f->n_tok;
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
    struct ds4_args_embed a = {f->n_tok, f->c->n_embd, 4, (uint32_t)w->row_bytes};
    ds4_call c = {.tap = DS4_TAP_embed,
                  .layer = DS4_NO_LAYER,
                  .wtype = w->tensor->type_id,
                  .args = &a,
                  .args_bytes = sizeof a,
                  .bind = {f->m->token_embd, f->token, f->state}};
    return run(f, &c, tokens(f), 4 * f->c->n_embd, err);
}

/* Moves the states that the head is for to the front, where it finds them: the last n_logits of
 * each part. */
static ds4_status take_last(ds4_forward *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t n_col = 4 * f->c->n_embd;

    for (uint32_t i = 0; i < f->batch->n_part; i++) {
        const ds4_part *p = f->part = &f->batch->part[i];
        struct ds4_args_row_store a = {p->n_logits, n_col, p->logits0, f->n_chunk};
        ds4_call c = {.tap = DS4_TAP_out_last,
                      .layer = DS4_NO_LAYER,
                      .args = &a,
                      .args_bytes = sizeof a,
                      .bind = {f->state, f->state_next}};
        c.view[0].off = (size_t)(p->row0 + p->n_tok - p->n_logits) * n_col * 4;
        if (p->n_logits) TRY(run(f, &c, (span){p->n_logits, 0, 1}, n_col, err));
    }
    ds4_buf *old = f->state;
    f->state = f->state_next, f->state_next = old;
out:
    f->part = NULL;
    return st;
}

/* Of the tokens of f->batch, whose states stand at the front of f->state. */
static ds4_status output_head(ds4_forward *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = f->c;
    const ds4_weights *w = f->w;
    const ds4_model_bufs *m = f->m;
    const uint32_t il = DS4_NO_LAYER, n_tok = f->n_tok;
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

/* Lets the observer of a part replace its state at the entry of a layer (teacher forcing,
 * patching). */
static ds4_status inject(ds4_forward *f, uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_part *p = f->part;
    const ds4_observer *o = p->observer;
    uint32_t n_col = 4 * f->c->n_embd;
    size_t row = n_col * sizeof(float), n = p->n_tok * row;

    if (!o || !o->inject) return st;
    if (n > f->n_readback) {
        TRY(ds4_mem_grow(&f->readback, n, 1, err));
        f->n_readback = n;
    }
    if (o->inject(o->user, il, p->pos0, p->n_tok, n_col, f->readback))
        TRY(f->b->ops->buf_write(f->b, f->state, p->row0 * row, f->readback, n, err));
out:
    return st;
}

/* The head for the last n_logits tokens of each part, as a batch of these tokens. */
static ds4_status logits_of_last(ds4_forward *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_batch *all = f->batch;
    const uint32_t n_all = f->n_tok;
    ds4_batch head = *all;
    uint32_t n = 0;

    head.part = f->head, head.n_part = 0;
    for (uint32_t i = 0; i < all->n_part; i++) {
        ds4_part *p = &all->part[i];
        p->logits0 = n;
        if (!p->n_logits) continue;
        ds4_part *h = &head.part[head.n_part++];
        *h = *p;
        h->pos0 += p->n_tok - p->n_logits, h->n_tok = p->n_logits, h->row0 = n;
        n += p->n_logits;
    }
    if (!n) goto out;
    TRY(ds4_forward_hold_logits(f, n, err));
    if (n < n_all) TRY(take_last(f, err));
    f->batch = &head, f->n_tok = n;
    TRY(output_head(f, err));
out:
    f->batch = all, f->n_tok = n_all;
    return st;
}

static ds4_status begin(ds4_forward *f, const ds4_batch *batch, ds4_err *err) {
    ds4_status st = DS4_OK;

    f->batch = batch, f->n_tok = 0, f->part = NULL;
    for (uint32_t i = 0; i < batch->n_part; i++) {
        ds4_part *p = &batch->part[i];
        p->row0 = f->n_tok;
        if (p->n_tok > f->n_chunk - f->n_tok)
            RAISE(DS4_ERR_INTERNAL, "a batch of more than %u tokens", f->n_chunk);
        f->n_tok += p->n_tok;
        TRY(f->b->ops->buf_write(f->b, f->token, (size_t)p->row0 * 4, p->token,
                                 (size_t)p->n_tok * 4, err));
    }
out:
    return st;
}

ds4_status ds4_forward_eval(ds4_forward *f, const ds4_batch *batch, ds4_err *err) {
    ds4_status st = DS4_OK;

    TRY(begin(f, batch, err));
    ds4_gather_reset(&f->gather);
    TRY(embed(f, err));
    for (uint32_t il = 0; il < f->c->n_layer; il++) {
        EACH_PART(f, inject(f, il, err))
        TRY(attention_half(f, il, err));
        TRY(ffn_half(f, il, err));
    }
    TRY(logits_of_last(f, err));
    TRY(f->b->ops->sync(f->b, err));
out:
    f->batch = NULL, f->part = NULL;
    return st;
}

uint32_t ds4_forward_limit(const ds4_forward *f, uint32_t pos0, uint32_t n) {
    uint64_t edge = select_from(f->c);
    if (n > f->n_chunk) n = f->n_chunk;
    if (pos0 < edge && pos0 + (uint64_t)n > edge) n = (uint32_t)(edge - pos0);
    return n;
}

ds4_status ds4_forward_logits(ds4_forward *f, uint32_t row, float *dst, ds4_err *err) {
    size_t n = (size_t)f->c->n_vocab * sizeof *dst;
    return f->b->ops->buf_read(f->b, f->logits, row * n, dst, n, err);
}
