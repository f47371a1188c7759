#include "engine/forward_state.h"

#include "engine/base/mem.h"

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

ds4_status ds4_forward_hold_logits(ds4_forward *f, uint32_t n, ds4_err *err) {
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
    for (uint32_t il = 0; f->n_ctx && il < c->n_layer; il++) TRY(new_layer(f, il, err));
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
    TRY(ds4_mem_alloc(&f->head, n_chunk, sizeof *f->head, err));
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
    ds4_mem_free(f->head);
    ds4_mem_free(f);
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
