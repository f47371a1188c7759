#include <string.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/engine.h"

#define UNKNOWN UINT32_MAX /* logits_at: of no token count */

typedef struct kept {
    uint32_t n_tok;
    void *payload;
} kept;

struct ds4_session {
    ds4_engine *engine;
    ds4_plan *plan;
    ds4_forward *forward;
    ds4_ledger *ledger;
    ds4_observer observer;
    bool observed;
    uint32_t n_ctx, n_chunk, n_tok, payload_chunk;
    int32_t *token;     /* [n_ctx], n_tok of them evaluated */
    uint32_t n_high;    /* the rings were written up to this position */
    uint32_t n_low;     /* and still serve a batch at any position from this one on */
    float *logits;      /* after logits_at tokens */
    uint32_t logits_at; /* n_tok unless an evaluation failed */
    kept *kept;         /* ascending, none longer than the timeline */
    size_t n_kept, cap_kept;
};

static void drop_kept(ds4_session *s, uint32_t longest) {
    while (s->n_kept && s->kept[s->n_kept - 1].n_tok > longest)
        ds4_mem_free(s->kept[--s->n_kept].payload);
}

/* No cached row is read before it is written again. */
static void clear(ds4_session *s) {
    s->n_tok = s->n_high = s->n_low = s->logits_at = 0;
    memset(s->logits, 0, s->engine->config.n_vocab * sizeof *s->logits);
    drop_kept(s, 0);
}

ds4_status ds4_session_new(ds4_session **out, ds4_engine *e, const ds4_plan *plan,
                           uint32_t n_ctx, uint32_t n_chunk, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_session *s = NULL;

    if (!n_ctx || n_ctx > 1u << 20)
        RAISE(DS4_ERR_USAGE, "context of %u tokens, wanted 1 to 1048576", n_ctx);
    if (!n_chunk || n_chunk > 4096)
        RAISE(DS4_ERR_USAGE, "chunk of %u tokens, wanted 1 to 4096", n_chunk);
    if (n_chunk > n_ctx) n_chunk = n_ctx;
    TRY(ds4_mem_alloc(&s, 1, sizeof *s, err));
    s->engine = e, s->n_ctx = n_ctx, s->n_chunk = n_chunk;
    TRY(ds4_plan_copy(&s->plan, plan, err));
    TRY(ds4_ledger_new(&s->ledger, err));
    TRY(ds4_mem_alloc(&s->token, n_ctx, sizeof *s->token, err));
    TRY(ds4_mem_alloc(&s->logits, e->config.n_vocab, sizeof *s->logits, err));
    TRY(ds4_forward_new(&s->forward, e->backend, &e->config, &e->weights, &e->bufs, n_ctx,
                        n_chunk, err));
    *out = s, s = NULL;
out:
    ds4_session_free(s);
    return st;
}

void ds4_session_free(ds4_session *s) {
    if (!s) return;
    while (s->n_kept) ds4_mem_free(s->kept[--s->n_kept].payload);
    ds4_mem_free(s->kept);
    ds4_forward_free(s->forward);
    ds4_mem_free(s->logits);
    ds4_mem_free(s->token);
    ds4_ledger_free(s->ledger);
    ds4_plan_free(s->plan);
    ds4_mem_free(s);
}

ds4_status ds4_session_reset(ds4_session *s, ds4_err *err) {
    (void)err;
    clear(s);
    ds4_ledger_clear(s->ledger);
    return DS4_OK;
}

ds4_status ds4_session_set_plan(ds4_session *s, const ds4_plan *plan, ds4_err *err) {
    ds4_plan *p = NULL;
    ds4_status st = ds4_plan_copy(&p, plan, err);
    if (st != DS4_OK) return st;
    ds4_plan_free(s->plan);
    s->plan = p;
    return DS4_OK;
}

void ds4_session_observe(ds4_session *s, const ds4_observer *o) {
    s->observed = o != NULL;
    if (o) s->observer = *o;
}

/* ---- evaluating ---- */

static ds4_status check_tokens(const ds4_session *s, const int32_t *token, uint32_t n,
                               uint32_t n_before, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n_vocab = s->engine->config.n_vocab;

    if (n > s->n_ctx - n_before)
        RAISE(DS4_ERR_USAGE, "%u tokens after %u, the context holds %u", n, n_before, s->n_ctx);
    for (uint32_t i = 0; i < n; i++)
        if (token[i] < 0 || (uint32_t)token[i] >= n_vocab)
            RAISE(DS4_ERR_FORMAT, "token %u: id %d, wanted 0 to %u", i, token[i], n_vocab - 1);
out:
    return st;
}

static bool wants_head(const ds4_observer *o) {
    for (int t = DS4_TAP_out_hc_norm; o && t <= DS4_TAP_logits; t++)
        if (o->wants(o->user, (ds4_tap)t, DS4_NO_LAYER)) return true;
    return false;
}

/* A batch that ends at n_end is about to write the rings. A ring of raw rows holds the window
 * and n_chunk more, one of projections what the next compressed row needs and n_chunk more: the
 * token at position p needs none below p - window + 1, so a batch may start n_chunk + 1 below
 * the highest end. */
static void touch(ds4_session *s, uint32_t n_end) {
    if (n_end > s->n_high) s->n_high = n_end;
    uint32_t reach = s->n_chunk + 1, low = s->n_high > reach ? s->n_high - reach : 0;
    if (low > s->n_low) s->n_low = low;
}

/* The next n tokens of the timeline, which stand in s->token, as a part of a batch; the rings
 * and the logits are taken for written from here on. */
static ds4_part part_of(ds4_session *s, uint32_t n, uint32_t n_logits, const ds4_observer *o) {
    s->logits_at = UNKNOWN;
    touch(s, s->n_tok + n);
    return (ds4_part){.own = s->forward,
                      .token = s->token + s->n_tok,
                      .pos0 = s->n_tok,
                      .n_tok = n,
                      .n_logits = n_logits,
                      .ledger = s->ledger,
                      .observer = o};
}

/* Takes over a part that f has evaluated, with its last logits if they are wanted. */
static ds4_status keep_part(ds4_session *s, ds4_forward *f, const ds4_part *p, bool logits,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    s->n_tok += p->n_tok;
    if (!logits) return DS4_OK;
    TRY(ds4_forward_logits(f, p->logits0 + p->n_logits - 1, s->logits, err));
    s->logits_at = s->n_tok;
out:
    return st;
}

/* Appends n checked tokens, which may be those that stand in s->token already. */
static ds4_status append(ds4_session *s, const int32_t *token, uint32_t n, ds4_phase phase,
                         const ds4_observer *o, bool logits, ds4_err *err) {
    ds4_status st = DS4_OK;
    bool all = wants_head(o);

    memmove(s->token + s->n_tok, token, n * sizeof *token);
    for (uint32_t i = 0, m; i < n; i += m) {
        m = ds4_forward_limit(s->forward, s->n_tok, phase == DS4_DECODE ? 1 : n - i);
        bool last = logits && i + m == n;
        ds4_part part = part_of(s, m, all ? m : last, o);
        TRY(ds4_forward_eval(s->forward, &(ds4_batch){&part, 1, phase, s->plan}, err));
        TRY(keep_part(s, s->forward, &part, last, err));
    }
out:
    return st;
}

ds4_status ds4_session_eval(ds4_session *s, const int32_t *token, uint32_t n, ds4_phase phase,
                            ds4_err *err) {
    ds4_status st = check_tokens(s, token, n, s->n_tok, err);
    if (st != DS4_OK) return st;
    return append(s, token, n, phase, s->observed ? &s->observer : NULL, true, err);
}

/* ---- several at once ---- */

struct ds4_group {
    ds4_engine *engine;
    ds4_plan *plan;
    ds4_forward *forward; /* activations of all; no cached rows */
    uint32_t n_tok;
    ds4_part *part; /* [n_tok] */
};

ds4_status ds4_group_new(ds4_group **out, ds4_engine *e, const ds4_plan *plan, uint32_t n_tok,
                         ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_group *g = NULL;

    if (!n_tok || n_tok > 4096)
        RAISE(DS4_ERR_USAGE, "passes of %u tokens, wanted 1 to 4096", n_tok);
    if (ds4_plan_is_seeded(plan))
        RAISE(DS4_ERR_USAGE,
              "a plan with noise in a group: its random bits are those of one timeline");
    TRY(ds4_mem_alloc(&g, 1, sizeof *g, err));
    g->engine = e, g->n_tok = n_tok;
    TRY(ds4_plan_copy(&g->plan, plan, err));
    TRY(ds4_mem_alloc(&g->part, n_tok, sizeof *g->part, err));
    TRY(ds4_forward_new(&g->forward, e->backend, &e->config, &e->weights, &e->bufs, 0, n_tok,
                        err));
    *out = g, g = NULL;
out:
    ds4_group_free(g);
    return st;
}

void ds4_group_free(ds4_group *g) {
    if (!g) return;
    ds4_forward_free(g->forward);
    ds4_mem_free(g->part);
    ds4_plan_free(g->plan);
    ds4_mem_free(g);
}

static ds4_status check_items(const ds4_group *g, const ds4_group_item *item, uint32_t n,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t i = 0; i < n; i++) {
        const ds4_session *s = item[i].session;
        if (s->engine != g->engine)
            RAISE(DS4_ERR_USAGE, "item %u: a session of another engine", i);
        for (uint32_t k = 0; k < i; k++)
            if (item[k].session == s)
                RAISE(DS4_ERR_USAGE, "items %u and %u: one session twice", k, i);
        TRY(check_tokens(s, item[i].token, item[i].n, s->n_tok, err));
    }
out:
    return st;
}

/* What is left of an item, and whether it is in the pass at hand. */
typedef struct turn {
    uint32_t left;
    bool all, last, in;
} turn;

/* One pass: of each item in order as many tokens as the item's session and the pass have room
 * for. */
static ds4_status pass(ds4_group *g, const ds4_group_item *item, turn *t, uint32_t n,
                       ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_batch batch = {g->part, 0, DS4_DECODE, g->plan};
    uint32_t room = g->n_tok;

    for (uint32_t i = 0; i < n; i++) {
        ds4_session *s = item[i].session;
        const bool decode = item[i].phase == DS4_DECODE;
        uint32_t m = t[i].left && room ? (decode ? 1 : t[i].left) : 0;
        m = ds4_forward_limit(s->forward, s->n_tok, m < room ? m : room);
        t[i].in = m > 0;
        if (!m) continue;
        t[i].left -= m, t[i].last = t[i].left == 0, room -= m;
        if (!decode) batch.phase = DS4_PREFILL;
        g->part[batch.n_part++] =
            part_of(s, m, t[i].all ? m : t[i].last, s->observed ? &s->observer : NULL);
    }
    TRY(ds4_forward_eval(g->forward, &batch, err));
    for (uint32_t i = 0, k = 0; i < n; i++)
        if (t[i].in) TRY(keep_part(item[i].session, g->forward, &g->part[k++], t[i].last, err));
out:
    return st;
}

ds4_status ds4_group_eval(ds4_group *g, const ds4_group_item *item, uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    turn *t = NULL;
    uint64_t left = 0;

    TRY(check_items(g, item, n, err));
    TRY(ds4_mem_alloc(&t, n, sizeof *t, err));
    for (uint32_t i = 0; i < n; i++) {
        ds4_session *s = item[i].session;
        memmove(s->token + s->n_tok, item[i].token, item[i].n * sizeof *s->token);
        t[i].left = item[i].n;
        t[i].all = s->observed && wants_head(&s->observer);
        left += item[i].n;
    }
    while (left) {
        TRY(pass(g, item, t, n, err));
        left = 0;
        for (uint32_t i = 0; i < n; i++) left += t[i].left;
    }
out:
    ds4_mem_free(t);
    return st;
}

/* ---- snapshots ---- */

static ds4_snapshot_shape shape_of(const ds4_session *s) {
    const ds4_config *c = &s->engine->config;
    return (ds4_snapshot_shape){.n_ctx = s->n_ctx,
                                .window = c->window,
                                .n_chunk = s->payload_chunk,
                                .n_layer = c->n_layer,
                                .d_head = c->d_head,
                                .d_idx = c->d_idx,
                                .n_vocab = c->n_vocab,
                                .ratio = c->ratio};
}

/* Rows first .. first + n - 1, in pieces that do not pass the end of the ring. */
static ds4_status read_rows(void *user, uint32_t il, ds4_kv_part part, uint32_t first,
                            uint32_t n, float *dst, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_session *s = user;
    ds4_backend *b = s->engine->backend;
    ds4_ring r = ds4_forward_ring(s->forward, il, part);
    size_t row = (size_t)r.n_col * sizeof *dst;

    for (uint32_t m; n; first += m, n -= m, dst += m * (size_t)r.n_col) {
        uint32_t slot = first % r.cap;
        m = r.cap - slot < n ? r.cap - slot : n;
        TRY(b->ops->buf_read(b, r.buf, slot * row, dst, m * row, err));
    }
out:
    return st;
}

static ds4_status write_rows(void *user, uint32_t il, ds4_kv_part part, uint32_t first,
                             uint32_t n, const float *src, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_session *s = user;
    ds4_backend *b = s->engine->backend;
    ds4_ring r = ds4_forward_ring(s->forward, il, part);
    size_t row = (size_t)r.n_col * sizeof *src;

    for (uint32_t m; n; first += m, n -= m, src += m * (size_t)r.n_col) {
        uint32_t slot = first % r.cap;
        m = r.cap - slot < n ? r.cap - slot : n;
        TRY(b->ops->buf_write(b, r.buf, slot * row, src, m * row, err));
    }
out:
    return st;
}

static ds4_kv_rows rows_of(ds4_session *s) { return (ds4_kv_rows){read_rows, write_rows, s}; }

/* Of a checked payload. When a write fails nothing of the timeline is left. */
static ds4_status take(ds4_session *s, const void *payload, uint32_t n_tok, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_snapshot_shape shape = shape_of(s);
    const ds4_kv_rows rows = rows_of(s);

    TRY(ds4_snapshot_read(&shape, payload, s->token, s->logits, &rows, err));
    s->n_tok = s->n_high = s->n_low = s->logits_at = n_tok;
out:
    if (st != DS4_OK) clear(s);
    return st;
}

/* ---- going back ---- */

/* The longest kept snapshot of at most n tokens, or the start. */
static ds4_status take_nearest(ds4_session *s, uint32_t n, ds4_err *err) {
    drop_kept(s, n);
    if (s->n_kept) {
        const kept *k = &s->kept[s->n_kept - 1];
        return take(s, k->payload, k->n_tok, err);
    }
    clear(s);
    return DS4_OK;
}

/* Makes the timeline its first n tokens; without `logits` those stay unknown. */
static ds4_status go_to(ds4_session *s, uint32_t n, bool logits, ds4_err *err) {
    ds4_status st = DS4_OK;

    drop_kept(s, n);
    if (n == s->n_tok && (!logits || s->logits_at == n)) goto out;
    uint32_t from = n && logits ? n - 1 : n;
    s->logits_at = UNKNOWN;
    if (n && from >= s->n_low) s->n_tok = from;
    else TRY(take_nearest(s, n, err));
    TRY(append(s, s->token + s->n_tok, n - s->n_tok,
               n - s->n_tok == 1 ? DS4_DECODE : DS4_PREFILL, NULL, logits, err));
out:
    return st;
}

ds4_status ds4_session_rewind(ds4_session *s, uint32_t n, ds4_err *err) {
    if (n > s->n_tok)
        return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                           "rewind to %u tokens, the timeline has %u", n, s->n_tok);
    return go_to(s, n, true, err);
}

ds4_status ds4_session_sync(ds4_session *s, const int32_t *token, uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t same = 0;

    if (!n) RAISE(DS4_ERR_USAGE, "a timeline of 0 tokens, wanted 1 to %u", s->n_ctx);
    TRY(check_tokens(s, token, n, 0, err));
    while (same < n && same < s->n_tok && token[same] == s->token[same]) same++;
    TRY(go_to(s, same, same == n, err));
    TRY(append(s, token + same, n - same, DS4_PREFILL, s->observed ? &s->observer : NULL, true,
               err));
out:
    return st;
}

ds4_status ds4_session_keep(ds4_session *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    kept k = {0};
    uint64_t n = ds4_session_snapshot_bytes(s);

    if (s->n_kept == s->cap_kept) {
        size_t cap = s->cap_kept ? 2 * s->cap_kept : 4;
        TRY(ds4_mem_grow(&s->kept, cap, sizeof *s->kept, err));
        s->cap_kept = cap;
    }
    TRY(ds4_mem_alloc(&k.payload, n, 1, err));
    TRY(ds4_session_snapshot(s, k.payload, n, err));
    k.n_tok = s->n_tok;
    if (s->n_kept && s->kept[s->n_kept - 1].n_tok == k.n_tok) goto out;
    s->kept[s->n_kept++] = k;
    k.payload = NULL;
out:
    ds4_mem_free(k.payload);
    return st;
}

/* ---- to memory and to file ---- */

uint64_t ds4_session_snapshot_bytes(const ds4_session *s) {
    const ds4_snapshot_shape shape = shape_of(s);
    return ds4_snapshot_bytes(&shape, s->n_tok);
}

static ds4_status write_to(ds4_session *s, const ds4_snapshot_sink *to, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_snapshot_shape shape = shape_of(s);
    const ds4_kv_rows rows = rows_of(s);
    const ds4_backend_ops *ops = s->engine->backend->ops;

    if (ops->wide)
        RAISE(
            DS4_ERR_USAGE,
            "engine %s: its state is wider than the f32 of a snapshot, which would not resume "
            "it in every bit",
            ops->name);
    TRY(go_to(s, s->n_tok, true, err));
    TRY(ds4_snapshot_write(to, &shape, s->token, s->n_tok, s->logits, &rows, err));
out:
    return st;
}

typedef struct room {
    char *at;
    size_t left;
} room;

static ds4_status put_memory(void *user, const void *p, size_t n, ds4_err *err) {
    room *r = user;
    if (n > r->left)
        return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE,
                           "a snapshot is longer than was promised");
    memcpy(r->at, p, n);
    r->at += n, r->left -= n;
    return DS4_OK;
}

ds4_status ds4_session_snapshot(ds4_session *s, void *dst, size_t n_bytes, ds4_err *err) {
    uint64_t n = ds4_session_snapshot_bytes(s);
    room r = {dst, n_bytes};
    if (n_bytes < n)
        return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                           "snapshot into %zu bytes, wanted at least %llu", n_bytes,
                           (unsigned long long)n);
    return write_to(s, &(ds4_snapshot_sink){put_memory, &r}, err);
}

ds4_status ds4_session_restore(ds4_session *s, const void *src, size_t n_bytes, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_snapshot_shape shape = shape_of(s);
    ds4_snapshot_head head;

    TRY(ds4_snapshot_check(&head, &shape, src, n_bytes, err));
    drop_kept(s, 0);
    TRY(take(s, src, head.n_tok, err));
out:
    return st;
}

static ds4_status put_file(void *user, const void *p, size_t n, ds4_err *err) {
    return ds4_file_writer_put(user, p, n, err);
}

ds4_status ds4_session_save(ds4_session *s, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file_writer *w = NULL;

    TRY(ds4_file_writer_open(&w, path, err));
    TRY(write_to(s, &(ds4_snapshot_sink){put_file, w}, err));
    st = ds4_file_writer_finish(w, err);
    w = NULL;
out:
    ds4_file_writer_abandon(w);
    return st;
}

ds4_status ds4_session_load(ds4_session *s, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file *f = NULL;

    TRY(ds4_file_open(&f, path, err));
    TRY(ds4_session_restore(s, ds4_file_data(f), ds4_file_bytes(f), err));
out:
    ds4_file_close(f);
    return st;
}

void ds4_session_set_payload_chunk(ds4_session *s, uint32_t n) { s->payload_chunk = n; }

uint32_t ds4_session_n_tok(const ds4_session *s) { return s->n_tok; }
const int32_t *ds4_session_tokens(const ds4_session *s) { return s->token; }
uint32_t ds4_session_n_vocab(const ds4_session *s) { return s->engine->config.n_vocab; }
const float *ds4_session_logits(const ds4_session *s) { return s->logits; }
const ds4_ledger *ds4_session_ledger(const ds4_session *s) { return s->ledger; }
