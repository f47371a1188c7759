#include "engine/kv/snapshot.h"

#include <inttypes.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "numbers lie in files as in memory");
_Static_assert(sizeof(ds4_snapshot_head) + 8 == DS4_SNAPSHOT_HEAD, "the header has no padding");

#define NEG (-1.0e30f)                /* gate of a row without a token */
#define SLAB_BYTES ((size_t)64 << 10) /* or one row, when a row is longer */

/* ---- layout ---- */

/* Consecutive payload rows of one part: n_lead cleared ones, rows first .. first + n_live - 1
 * of the part, n_tail cleared ones. */
typedef struct section {
    ds4_kv_part part;
    uint32_t n_col, n_lead, first, n_live, n_tail;
    float clear;
} section;

enum { MAX_SECTION = 7 };

static uint32_t n_raw_rows(const ds4_snapshot_shape *s, uint32_t n_tok) {
    uint32_t w = s->window < s->n_ctx ? s->window : s->n_ctx;
    return n_tok < w ? n_tok : w;
}

/* The state of one compressor after n_tok tokens. Ratio 4: rows 0..3 are the window before,
 * rows 4..7 the current one; else there is only the current one. Since the emission at the end
 * of a window moves it to the front, row i of what is live is token (window before) + i. */
static section state_of(ds4_kv_part part, uint32_t ratio, uint32_t d, uint32_t n_tok,
                        float clear) {
    uint32_t n_lane = ratio == 4 ? 2 : 1, window = n_tok / ratio, done = n_tok % ratio;
    bool before = n_lane == 2 && window > 0;
    return (section){.part = part,
                     .n_col = n_lane * d,
                     .n_lead = n_lane == 2 && !before ? ratio : 0,
                     .first = (window - before) * ratio,
                     .n_live = before * ratio + done,
                     .n_tail = ratio - done,
                     .clear = clear};
}

/* Field 17 of one layer, in file order. */
static uint32_t sections_of(section out[MAX_SECTION], const ds4_snapshot_shape *s,
                            uint32_t n_tok, uint32_t il) {
    uint32_t n = 0, ratio = s->ratio[il], n_raw = n_raw_rows(s, n_tok), d = s->d_head;
    out[n++] = (section){DS4_KV_RAW, d, 0, n_tok - n_raw, n_raw, 0, 0.0f};
    if (!ratio) return n;
    out[n++] = (section){DS4_KV_COMP, d, 0, 0, n_tok / ratio, 0, 0.0f};
    out[n++] = state_of(DS4_KV_COMP_KV, ratio, d, n_tok, 0.0f);
    out[n++] = state_of(DS4_KV_COMP_GATE, ratio, d, n_tok, NEG);
    if (ratio != 4) return n;
    out[n++] = (section){DS4_KV_IDX, s->d_idx, 0, 0, n_tok / ratio, 0, 0.0f};
    out[n++] = state_of(DS4_KV_IDX_KV, ratio, s->d_idx, n_tok, 0.0f);
    out[n++] = state_of(DS4_KV_IDX_GATE, ratio, s->d_idx, n_tok, NEG);
    return n;
}

static uint64_t section_bytes(const section *x) {
    return ((uint64_t)x->n_lead + x->n_live + x->n_tail) * x->n_col * 4;
}

static uint64_t layer_bytes(const ds4_snapshot_shape *s, uint32_t n_tok, uint32_t il) {
    section x[MAX_SECTION];
    uint64_t bytes = 0;
    for (uint32_t i = 0, n = sections_of(x, s, n_tok, il); i < n; i++)
        bytes += section_bytes(&x[i]);
    return bytes;
}

/* Fields 0 to 16: all before the rows. */
static uint64_t lists_bytes(uint64_t n_tok, uint64_t n_vocab, uint64_t n_layer) {
    return DS4_SNAPSHOT_HEAD + 4 * n_tok + 4 * n_vocab + 8 * n_layer;
}

uint64_t ds4_snapshot_bytes(const ds4_snapshot_shape *s, uint32_t n_tok) {
    uint64_t bytes = lists_bytes(n_tok, s->n_vocab, s->n_layer);
    for (uint32_t il = 0; il < s->n_layer; il++) bytes += layer_bytes(s, n_tok, il);
    return bytes;
}

/* What this session writes, and wants to find. The capacities are those of a CPU engine: how
 * large our rings are is nobody's business. */
static ds4_snapshot_head head_of(const ds4_snapshot_shape *s, uint32_t n_tok) {
    uint32_t window = s->window < s->n_ctx ? s->window : s->n_ctx;
    uint32_t chunk = s->n_ctx < 2048 ? s->n_ctx : 2048;
    return (ds4_snapshot_head){.n_ctx = s->n_ctx,
                               .n_chunk = s->n_chunk ? s->n_chunk : chunk,
                               .raw_cap = window,
                               .window = window,
                               .comp_cap = s->n_ctx / 4 + 2,
                               .n_tok = n_tok,
                               .n_layer = s->n_layer,
                               .d_head = s->d_head,
                               .d_idx = s->d_idx,
                               .n_vocab = s->n_vocab,
                               .n_raw = n_raw_rows(s, n_tok)};
}

/* Compressed rows of a layer, and of its indexer. */
static uint32_t n_comp_rows(const ds4_snapshot_shape *s, uint32_t n_tok, uint32_t il) {
    return s->ratio[il] ? n_tok / s->ratio[il] : 0;
}
static uint32_t n_idx_rows(const ds4_snapshot_shape *s, uint32_t n_tok, uint32_t il) {
    return s->ratio[il] == 4 ? n_tok / 4 : 0;
}

/* ---- writing ---- */

typedef struct writer {
    const ds4_snapshot_sink *to;
    const ds4_kv_rows *rows;
    float *slab;
    size_t n_slab; /* elements */
} writer;

static ds4_status put_cleared(writer *w, const section *x, uint32_t n_row, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (!n_row) goto out;
    for (uint32_t i = 0; i < x->n_col; i++) w->slab[i] = x->clear;
    for (uint32_t r = 0; r < n_row; r++)
        TRY(w->to->put(w->to->user, w->slab, (size_t)x->n_col * 4, err));
out:
    return st;
}

static ds4_status put_section(writer *w, uint32_t il, const section *x, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t step = (uint32_t)(w->n_slab / x->n_col);

    TRY(put_cleared(w, x, x->n_lead, err));
    for (uint32_t r = 0, n; r < x->n_live; r += n) {
        n = x->n_live - r < step ? x->n_live - r : step;
        TRY(w->rows->read(w->rows->user, il, x->part, x->first + r, n, w->slab, err));
        TRY(w->to->put(w->to->user, w->slab, (size_t)n * x->n_col * 4, err));
    }
    TRY(put_cleared(w, x, x->n_tail, err));
out:
    return st;
}

static ds4_status put_u32(writer *w, uint32_t v, ds4_err *err) {
    return w->to->put(w->to->user, &v, 4, err);
}

static ds4_status put_head(writer *w, const ds4_snapshot_head *h, ds4_err *err) {
    ds4_status st = DS4_OK;
    TRY(put_u32(w, DS4_SNAPSHOT_MAGIC, err));
    TRY(put_u32(w, DS4_SNAPSHOT_VERSION, err));
    TRY(w->to->put(w->to->user, h, sizeof *h, err));
out:
    return st;
}

/* A slab holds at least one row of any part. */
static ds4_status new_slab(writer *w, const ds4_snapshot_shape *s, ds4_err *err) {
    size_t row = 2 * (size_t)(s->d_head > s->d_idx ? s->d_head : s->d_idx);
    w->n_slab = row > SLAB_BYTES / 4 ? row : SLAB_BYTES / 4;
    return ds4_mem_alloc(&w->slab, w->n_slab, sizeof *w->slab, err);
}

ds4_status ds4_snapshot_write(const ds4_snapshot_sink *to, const ds4_snapshot_shape *s,
                              const int32_t *token, uint32_t n_tok, const float *logits,
                              const ds4_kv_rows *rows, ds4_err *err) {
    ds4_status st = DS4_OK;
    writer w = {.to = to, .rows = rows};
    const ds4_snapshot_head head = head_of(s, n_tok);
    section x[MAX_SECTION];

    TRY(new_slab(&w, s, err));
    TRY(put_head(&w, &head, err));
    TRY(to->put(to->user, token, (size_t)n_tok * 4, err));
    TRY(to->put(to->user, logits, (size_t)s->n_vocab * 4, err));
    for (uint32_t il = 0; il < s->n_layer; il++)
        TRY(put_u32(&w, n_comp_rows(s, n_tok, il), err));
    for (uint32_t il = 0; il < s->n_layer; il++)
        TRY(put_u32(&w, n_idx_rows(s, n_tok, il), err));
    for (uint32_t il = 0; il < s->n_layer; il++)
        for (uint32_t i = 0, n = sections_of(x, s, n_tok, il); i < n; i++)
            TRY(put_section(&w, il, &x[i], err));
out:
    ds4_mem_free(w.slab);
    return st;
}

/* ---- checking ---- */

/* Bytes may stand anywhere: nothing is read through a pointer to a wider type. */
static uint32_t u32_at(const uint8_t *p, uint64_t i) {
    uint32_t v;
    memcpy(&v, p + 4 * i, 4);
    return v;
}

ds4_status ds4_snapshot_peek(ds4_snapshot_head *out, const void *data, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint8_t *p = data;

    if (n < DS4_SNAPSHOT_HEAD)
        RAISE(DS4_ERR_FORMAT, "session: %zu bytes, wanted at least the %d of a DSV4 header", n,
              DS4_SNAPSHOT_HEAD);
    if (u32_at(p, 0) != DS4_SNAPSHOT_MAGIC)
        RAISE(DS4_ERR_FORMAT, "session: magic is 0x%08" PRIx32 ", wanted 0x%08x (DSV4)",
              u32_at(p, 0), DS4_SNAPSHOT_MAGIC);
    if (u32_at(p, 1) != DS4_SNAPSHOT_VERSION)
        RAISE(DS4_ERR_FORMAT, "session: version is %" PRIu32 ", wanted %d", u32_at(p, 1),
              DS4_SNAPSHOT_VERSION);
    memcpy(out, p + 8, sizeof *out);
out:
    return st;
}

/* A field that must have one value. */
#define EQUAL(field, name)                                                                     \
    if (h->field != want.field)                                                                \
    RAISE(DS4_ERR_FORMAT, "session: " name " is %" PRIu32 ", wanted %" PRIu32, h->field,       \
          want.field)
/* A field that has a largest one. */
#define AT_MOST(field, name, most)                                                             \
    if (h->field > (most))                                                                     \
    RAISE(DS4_ERR_FORMAT, "session: " name " is %" PRIu32 ", wanted at most %" PRIu32,         \
          h->field, (uint32_t)(most))

static ds4_status check_head(const ds4_snapshot_head *h, const ds4_snapshot_shape *s,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_snapshot_head want = head_of(s, h->n_tok);

    EQUAL(n_layer, "layer count");
    EQUAL(d_head, "head width");
    EQUAL(d_idx, "indexer width");
    EQUAL(n_vocab, "vocabulary size");
    AT_MOST(n_ctx, "context size", want.n_ctx);
    AT_MOST(n_tok, "token count", want.n_ctx - 1);
    EQUAL(n_chunk, "prefill chunk");
    EQUAL(window, "raw window");
    EQUAL(n_raw, "live raw rows");
    if (h->raw_cap < h->n_raw)
        RAISE(DS4_ERR_FORMAT,
              "session: raw capacity is %" PRIu32 ", wanted at least the %" PRIu32
              " live raw rows",
              h->raw_cap, h->n_raw);
    AT_MOST(comp_cap, "compressed capacity", want.comp_cap);
out:
    return st;
}

/* Every field ends within the n bytes, and the last one with them. */
static ds4_status check_length(const ds4_snapshot_head *h, const ds4_snapshot_shape *s,
                               uint64_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint64_t end = DS4_SNAPSHOT_HEAD, all = ds4_snapshot_bytes(s, h->n_tok);
    const struct {
        const char *name;
        uint64_t n;
    } list[] = {{"token ids", h->n_tok},
                {"logits", s->n_vocab},
                {"compressed row counts", s->n_layer},
                {"indexer row counts", s->n_layer}};

    for (size_t i = 0; i < sizeof list / sizeof *list; i++)
        if (n < (end += 4 * list[i].n))
            RAISE(DS4_ERR_FORMAT,
                  "session: %" PRIu64 " bytes end within the %s, wanted %" PRIu64, n,
                  list[i].name, all);
    for (uint32_t il = 0; il < s->n_layer; il++)
        if (n < (end += layer_bytes(s, h->n_tok, il)))
            RAISE(DS4_ERR_FORMAT,
                  "session: %" PRIu64 " bytes end within the rows of layer %" PRIu32
                  ", wanted %" PRIu64,
                  n, il, all);
    if (n > end)
        RAISE(DS4_ERR_FORMAT, "session: %" PRIu64 " bytes after the last field, wanted none",
              n - end);
out:
    return st;
}

static ds4_status check_count(const char *what, uint32_t il, uint32_t found, uint32_t want,
                              uint32_t cap, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (found > cap)
        RAISE(DS4_ERR_FORMAT,
              "session: %s of layer %" PRIu32 " is %" PRIu32 ", its writer's capacity %" PRIu32,
              what, il, found, cap);
    if (found != want)
        RAISE(DS4_ERR_FORMAT,
              "session: %s of layer %" PRIu32 " is %" PRIu32 ", wanted %" PRIu32, what, il,
              found, want);
out:
    return st;
}

static ds4_status check_lists(const ds4_snapshot_head *h, const ds4_snapshot_shape *s,
                              const uint8_t *p, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint8_t *token = p + DS4_SNAPSHOT_HEAD;
    const uint8_t *n_comp = token + 4 * ((uint64_t)h->n_tok + s->n_vocab);
    const uint8_t *n_idx = n_comp + 4 * (uint64_t)s->n_layer;

    for (uint32_t i = 0; i < h->n_tok; i++)
        if (u32_at(token, i) >= s->n_vocab)
            RAISE(DS4_ERR_FORMAT,
                  "session: token %" PRIu32 " is %" PRIu32 ", wanted 0 to %" PRIu32, i,
                  u32_at(token, i), s->n_vocab - 1);
    for (uint32_t il = 0; il < s->n_layer; il++) {
        TRY(check_count("compressed row count", il, u32_at(n_comp, il),
                        n_comp_rows(s, h->n_tok, il), h->comp_cap, err));
        TRY(check_count("indexer row count", il, u32_at(n_idx, il), n_idx_rows(s, h->n_tok, il),
                        h->comp_cap, err));
    }
out:
    return st;
}

/* Before the first window is complete nothing may stand in the place of the one before it: the
 * owner keeps nothing there, and other engines would read it. */
static ds4_status check_gates(const ds4_snapshot_shape *s, uint32_t n_tok, const uint8_t *p,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    section x[MAX_SECTION];

    p += lists_bytes(n_tok, s->n_vocab, s->n_layer);
    for (uint32_t il = 0; il < s->n_layer; il++)
        for (uint32_t i = 0, n = sections_of(x, s, n_tok, il); i < n; i++) {
            bool gate = x[i].part == DS4_KV_COMP_GATE || x[i].part == DS4_KV_IDX_GATE;
            for (uint64_t k = 0; gate && k < (uint64_t)x[i].n_lead * x[i].n_col; k++) {
                float g = ds4_f32_from_bits(u32_at(p, k));
                if (!(g <= NEG))
                    RAISE(DS4_ERR_FORMAT,
                          "session: layer %" PRIu32
                          ": a gate before the first window is %g, wanted %g or -inf",
                          il, (double)g, (double)NEG);
            }
            p += section_bytes(&x[i]);
        }
out:
    return st;
}

ds4_status ds4_snapshot_check(ds4_snapshot_head *out, const ds4_snapshot_shape *s,
                              const void *data, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_snapshot_head h;

    TRY(ds4_snapshot_peek(&h, data, n, err));
    TRY(check_head(&h, s, err));
    TRY(check_length(&h, s, n, err));
    TRY(check_lists(&h, s, data, err));
    TRY(check_gates(s, h.n_tok, data, err));
    *out = h;
out:
    return st;
}

/* ---- reading ---- */

/* Through a slab, because rows in a file need not stand where a float may. */
static ds4_status take_section(writer *w, uint32_t il, const section *x, const uint8_t *p,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t row_bytes = (size_t)x->n_col * 4;
    uint32_t step = (uint32_t)(w->n_slab / x->n_col);

    p += x->n_lead * row_bytes;
    for (uint32_t r = 0, n; r < x->n_live; r += n, p += n * row_bytes) {
        n = x->n_live - r < step ? x->n_live - r : step;
        memcpy(w->slab, p, n * row_bytes);
        TRY(w->rows->write(w->rows->user, il, x->part, x->first + r, n, w->slab, err));
    }
out:
    return st;
}

ds4_status ds4_snapshot_read(const ds4_snapshot_shape *s, const void *data, int32_t *token,
                             float *logits, const ds4_kv_rows *rows, ds4_err *err) {
    ds4_status st = DS4_OK;
    writer w = {.rows = rows};
    ds4_snapshot_head h;
    const uint8_t *p = (const uint8_t *)data + DS4_SNAPSHOT_HEAD;
    section x[MAX_SECTION];

    memcpy(&h, (const uint8_t *)data + 8, sizeof h);
    TRY(new_slab(&w, s, err));
    memcpy(token, p, (size_t)h.n_tok * 4);
    memcpy(logits, p + (size_t)h.n_tok * 4, (size_t)s->n_vocab * 4);
    p = (const uint8_t *)data + lists_bytes(h.n_tok, s->n_vocab, s->n_layer);
    for (uint32_t il = 0; il < s->n_layer; il++)
        for (uint32_t i = 0, n = sections_of(x, s, h.n_tok, il); i < n; i++) {
            TRY(take_section(&w, il, &x[i], p, err));
            p += section_bytes(&x[i]);
        }
out:
    ds4_mem_free(w.slab);
    return st;
}
