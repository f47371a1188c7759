/* engine/kv/snapshot: the DSV4 payload against model.md 4.5 written out anew (a stream of
 * tokens through KS and GS), and damaged payloads: truncated at every length, every bit of
 * header and lists flipped, every rule of acceptance broken once. No engine; cached rows are
 * made up. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/kv/snapshot.h"
#include "tests/support.h"

enum { L = 5, D = 6, DI = 5, V = 11, W = 16, CTX = 300, MAX_POS = 300 };
static const uint32_t ratio[L] = {0, 4, 128, 4, 8};
static const ds4_snapshot_shape shape = {.n_ctx = CTX,
                                         .window = W,
                                         .n_layer = L,
                                         .d_head = D,
                                         .d_idx = DI,
                                         .n_vocab = V,
                                         .ratio = ratio};

#define NEG (-1.0e30f)

static uint32_t n_col(uint32_t il, ds4_kv_part part) {
    uint32_t lanes = ratio[il] == 4 ? 2 : 1;
    uint32_t d = part >= DS4_KV_IDX ? DI : D;
    bool plain = part == DS4_KV_RAW || part == DS4_KV_COMP || part == DS4_KV_IDX;
    return plain ? d : lanes * d;
}

/* Any bits, NaN among them: what is kept is moved, not computed with. */
static float element(uint32_t il, ds4_kv_part part, uint32_t row, uint32_t col) {
    uint64_t key = ((il * 8ull + (uint32_t)part) * 1024 + row) * 64 + col;
    return ds4_f32_from_bits((uint32_t)ds4_rng_u64(key, 0));
}

static int32_t token_at(uint32_t pos) { return (int32_t)(ds4_rng_u64(7, pos) % V); }

/* ---- an owner of made-up rows ---- */

typedef struct owner {
    uint8_t seen[L][DS4_KV_PART_COUNT][MAX_POS];
    long fail_in; /* the call that fails; 0: none */
} owner;

static ds4_status count_down(owner *o, ds4_err *err) {
    if (!o->fail_in || --o->fail_in) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_ENVIRONMENT, DS4_HERE, "planted");
}

static ds4_status read_rows(void *user, uint32_t il, ds4_kv_part part, uint32_t first,
                            uint32_t n, float *dst, ds4_err *err) {
    uint32_t w = n_col(il, part);
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t c = 0; c < w; c++) *dst++ = element(il, part, first + r, c);
    return count_down(user, err);
}

static ds4_status write_rows(void *user, uint32_t il, ds4_kv_part part, uint32_t first,
                             uint32_t n, const float *src, ds4_err *err) {
    owner *o = user;
    uint32_t w = n_col(il, part);
    for (uint32_t r = 0; r < n; r++) {
        o->seen[il][part][first + r]++;
        for (uint32_t c = 0; c < w; c++, src++)
            if (ds4_f32_bits(*src) != ds4_f32_bits(element(il, part, first + r, c)))
                fail_msg("layer %u part %d row %u column %u: other bits", il, part, first + r,
                         c);
    }
    return count_down(o, err);
}

/* ---- bytes ---- */

typedef struct bytes {
    uint8_t *p;
    size_t n, cap;
} bytes;

static ds4_status put(void *user, const void *p, size_t n, ds4_err *err) {
    bytes *b = user;
    if (b->cap && b->n + n > b->cap) return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "full");
    b->p = realloc(b->p, b->n + n + 1);
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
    return DS4_OK;
}

static void put32(bytes *b, uint32_t v) { put(b, &v, 4, NULL); }
static void put_f32(bytes *b, float v) { put(b, &v, 4, NULL); }

static float logit_at(uint32_t i) { return (float)i * 0.5f - 1.0f; }

static bytes write_payload(uint32_t n_tok) {
    int32_t token[MAX_POS];
    float logits[V];
    bytes b = {0};
    owner o = {0};
    ds4_err err;
    for (uint32_t i = 0; i < n_tok; i++) token[i] = token_at(i);
    for (uint32_t i = 0; i < V; i++) logits[i] = logit_at(i);
    test_ok(ds4_snapshot_write(&(ds4_snapshot_sink){put, &b}, &shape, token, n_tok, logits,
                               &(ds4_kv_rows){read_rows, write_rows, &o}, &err),
            &err);
    return b;
}

/* ---- the payload, as model.md says ---- */

/* The compressor of 3.8, token by token, then the rows that 4.2 calls dead are cleared. */
static void put_state(bytes *b, uint32_t il, ds4_kv_part part, uint32_t n_tok, float initial) {
    uint32_t r = ratio[il], c = r == 4 ? 2 : 1, n_row = c * r, w = n_col(il, part);
    float *s = malloc((size_t)n_row * w * sizeof *s);
    for (uint32_t i = 0; i < n_row * w; i++) s[i] = initial;
    for (uint32_t p = 0; p < n_tok; p++) {
        uint32_t row = r == 4 ? 4 + p % 4 : p % r;
        for (uint32_t i = 0; i < w; i++) s[row * w + i] = element(il, part, p, i);
        if ((p + 1) % r == 0 && r == 4) memcpy(s, s + 4 * w, 4 * w * sizeof *s);
    }
    for (uint32_t row = (r == 4 ? 4 : 0) + n_tok % r; row < n_row; row++)
        for (uint32_t i = 0; i < w; i++) s[row * w + i] = initial;
    put(b, s, (size_t)n_row * w * sizeof *s, NULL);
    free(s);
}

static void put_rows(bytes *b, uint32_t il, ds4_kv_part part, uint32_t first, uint32_t end) {
    for (uint32_t r = first; r < end; r++)
        for (uint32_t i = 0; i < n_col(il, part); i++) put_f32(b, element(il, part, r, i));
}

static bytes spell_payload(uint32_t n_tok) {
    bytes b = {0};
    uint32_t n_raw = n_tok < W ? n_tok : W;
    const uint32_t head[] = {CTX, CTX, W, W, CTX / 4 + 2, n_tok, L, D, DI, V, n_raw};
    put(&b, "DSV4\1\0\0\0", 8, NULL);
    put(&b, head, sizeof head, NULL);
    for (uint32_t i = 0; i < n_tok; i++) put32(&b, (uint32_t)token_at(i));
    for (uint32_t i = 0; i < V; i++) put_f32(&b, logit_at(i));
    for (uint32_t il = 0; il < L; il++) put32(&b, ratio[il] ? n_tok / ratio[il] : 0);
    for (uint32_t il = 0; il < L; il++) put32(&b, ratio[il] == 4 ? n_tok / 4 : 0);
    for (uint32_t il = 0; il < L; il++) {
        put_rows(&b, il, DS4_KV_RAW, n_tok - n_raw, n_tok);
        if (!ratio[il]) continue;
        put_rows(&b, il, DS4_KV_COMP, 0, n_tok / ratio[il]);
        put_state(&b, il, DS4_KV_COMP_KV, n_tok, 0.0f);
        put_state(&b, il, DS4_KV_COMP_GATE, n_tok, NEG);
        if (ratio[il] != 4) continue;
        put_rows(&b, il, DS4_KV_IDX, 0, n_tok / 4);
        put_state(&b, il, DS4_KV_IDX_KV, n_tok, 0.0f);
        put_state(&b, il, DS4_KV_IDX_GATE, n_tok, NEG);
    }
    return b;
}

/* 52 + 4N + 4V + 8L + sum over layers, the formula at the end of 4.5. */
static uint64_t formula(uint64_t n) {
    uint64_t sum = 52 + 4 * n + 4 * V + 8 * L, n_raw = n < W ? n : W;
    for (uint32_t il = 0; il < L; il++) {
        uint64_t r = ratio[il], c = r == 4 ? 2 : 1;
        sum += 4 * n_raw * D;
        if (r) sum += 4 * (n / r) * D + 8 * c * c * r * D;
        if (r == 4) sum += 4 * (n / 4) * DI + 128 * DI;
    }
    return sum;
}

static void test_snapshot_every_length_is_as_specified(void **state) {
    (void)state;
    for (uint32_t n = 0; n < CTX; n++) {
        bytes a = write_payload(n), b = spell_payload(n);
        assert_int_equal(a.n, formula(n));
        assert_int_equal(ds4_snapshot_bytes(&shape, n), formula(n));
        assert_int_equal(b.n, formula(n));
        for (size_t i = 0; i < a.n; i++)
            if (a.p[i] != b.p[i]) fail_msg("%u tokens: byte %zu differs", n, i);
        free(a.p), free(b.p);
    }
}

static void test_snapshot_a_context_past_the_cap_names_chunk_2048(void **state) {
    (void)state;
    ds4_snapshot_shape s = shape;
    ds4_snapshot_head h;
    ds4_err err;
    bytes b = {0};
    float logits[V] = {0};
    owner o = {0};
    const struct {
        uint32_t n_ctx, n_chunk, want;
    } at[] = {{2047, 0, 2047}, {2048, 0, 2048}, {5000, 0, 2048}, {5000, 64, 64}, {20, 0, 20}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++, b.n = 0) {
        s.n_ctx = at[i].n_ctx, s.n_chunk = at[i].n_chunk;
        test_ok(ds4_snapshot_write(&(ds4_snapshot_sink){put, &b}, &s, NULL, 0, logits,
                                   &(ds4_kv_rows){read_rows, write_rows, &o}, &err),
                &err);
        test_ok(ds4_snapshot_check(&h, &s, b.p, b.n, &err), &err);
        assert_int_equal(h.n_chunk, at[i].want);
        assert_int_equal(h.n_ctx, at[i].n_ctx);
        assert_int_equal(h.comp_cap, at[i].n_ctx / 4 + 2);
    }
    free(b.p);
}

/* ---- reading back ---- */

/* Every row that the next token may need comes back once, with its bits; no other row does. */
static void test_snapshot_read_gives_live_rows_alone(void **state) {
    (void)state;
    for (uint32_t n = 0; n < CTX; n++) {
        bytes b = write_payload(n);
        ds4_snapshot_head h;
        ds4_err err;
        int32_t token[MAX_POS];
        float logits[V];
        static owner o;
        memset(&o, 0, sizeof o);
        test_ok(ds4_snapshot_check(&h, &shape, b.p, b.n, &err), &err);
        assert_int_equal(h.n_tok, n);
        test_ok(ds4_snapshot_read(&shape, b.p, token, logits,
                                  &(ds4_kv_rows){read_rows, write_rows, &o}, &err),
                &err);
        for (uint32_t i = 0; i < n; i++) assert_int_equal(token[i], token_at(i));
        for (uint32_t i = 0; i < V; i++) assert_true(logits[i] == logit_at(i));
        for (uint32_t il = 0; il < L; il++)
            for (int part = 0; part < DS4_KV_PART_COUNT; part++)
                for (uint32_t r = 0; r < MAX_POS; r++) {
                    uint32_t k = ratio[il], from, end = n;
                    if (part == DS4_KV_RAW) from = n < W ? 0 : n - W;
                    else if (!k || (part >= DS4_KV_IDX && k != 4)) from = end = 0;
                    else if (part == DS4_KV_COMP || part == DS4_KV_IDX) from = 0, end = n / k;
                    else from = n / k * k - (k == 4 && n >= 4 ? 4 : 0);
                    assert_int_equal(o.seen[il][part][r], r >= from && r < end);
                }
        free(b.p);
    }
}

/* Rows longer than the slab, and more rows than it holds. */
static const uint32_t wide_ratio[] = {4, 8};
static const ds4_snapshot_shape wide[] = {{.n_ctx = 40,
                                           .window = 3,
                                           .n_layer = 2,
                                           .d_head = 20000,
                                           .d_idx = 3,
                                           .n_vocab = 1,
                                           .ratio = wide_ratio},
                                          {.n_ctx = 2000,
                                           .window = 1000,
                                           .n_layer = 2,
                                           .d_head = 65,
                                           .d_idx = 129,
                                           .n_vocab = 1,
                                           .ratio = wide_ratio}};

typedef struct wide_owner {
    const ds4_snapshot_shape *s;
    uint64_t n_read, n_written; /* rows */
} wide_owner;

static uint32_t wide_col(const wide_owner *o, uint32_t il, ds4_kv_part part) {
    uint32_t d = part >= DS4_KV_IDX ? o->s->d_idx : o->s->d_head;
    bool plain = part == DS4_KV_RAW || part == DS4_KV_COMP || part == DS4_KV_IDX;
    return plain || wide_ratio[il] != 4 ? d : 2 * d;
}

static ds4_status read_wide(void *user, uint32_t il, ds4_kv_part part, uint32_t first,
                            uint32_t n, float *dst, ds4_err *err) {
    wide_owner *o = user;
    (void)err;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t c = 0; c < wide_col(o, il, part); c++)
            *dst++ = (float)((first + r) * 31 + c % 8191 + (uint32_t)part);
    o->n_read += n;
    return DS4_OK;
}

static ds4_status write_wide(void *user, uint32_t il, ds4_kv_part part, uint32_t first,
                             uint32_t n, const float *src, ds4_err *err) {
    wide_owner *o = user;
    (void)err;
    for (uint32_t r = 0; r < n; r++)
        for (uint32_t c = 0; c < wide_col(o, il, part); c++)
            assert_true(*src++ == (float)((first + r) * 31 + c % 8191 + (uint32_t)part));
    o->n_written += n;
    return DS4_OK;
}

static void test_snapshot_rows_of_any_size_come_back(void **state) {
    (void)state;
    for (size_t i = 0; i < 2; i++) {
        wide_owner o = {.s = &wide[i]};
        ds4_kv_rows rows = {read_wide, write_wide, &o};
        ds4_snapshot_head h;
        ds4_err err;
        bytes b = {0};
        uint32_t n = wide[i].n_ctx - 1;
        int32_t *token = calloc(n, sizeof *token);
        float logits[1] = {2.0f};
        test_ok(ds4_snapshot_write(&(ds4_snapshot_sink){put, &b}, &wide[i], token, n, logits,
                                   &rows, &err),
                &err);
        test_ok(ds4_snapshot_check(&h, &wide[i], b.p, b.n, &err), &err);
        test_ok(ds4_snapshot_read(&wide[i], b.p, token, logits, &rows, &err), &err);
        assert_true(o.n_read > 0 && o.n_read == o.n_written);
        free(token), free(b.p);
    }
}

/* ---- damaged payloads ---- */

static int n_refused;

static void refuse(const uint8_t *p, size_t n, const char *words) {
    ds4_err err = {0};
    ds4_snapshot_head h;
    ds4_status st = ds4_snapshot_check(&h, &shape, p, n, &err);
    if (st != DS4_ERR_FORMAT) fail_msg("%s: status %d, wanted DS4_ERR_FORMAT", words, st);
    if (!strstr(err.message, words)) fail_msg("\"%s\", wanted \"%s\"", err.message, words);
    assert_null(strpbrk(err.message, "\n\r"));
    n_refused++;
}

/* In memory of exactly this size, so that a sanitizer sees one byte too many. */
static void refuse_exact(const uint8_t *p, size_t n, const char *words) {
    uint8_t *q = malloc(n ? n : 1);
    memcpy(q, p, n);
    refuse(q, n, words);
    free(q);
}

static void test_snapshot_truncated_at_every_length_is_refused(void **state) {
    (void)state;
    static const uint32_t count[] = {0, 1, 3, 4, 7, 16, 130};
    for (size_t i = 0; i < sizeof count / sizeof *count; i++) {
        bytes b = write_payload(count[i]);
        size_t lists = 52 + 4 * count[i];
        for (size_t n = 0; n < b.n; n++)
            refuse_exact(b.p, n,
                         n < 52                   ? "wanted at least the 52 of a DSV4 header"
                         : n < lists              ? "bytes end within the token ids, wanted "
                         : n < lists + 4 * V      ? "bytes end within the logits, wanted "
                         : n < lists + 4 * V + 20 ? "bytes end within the compressed row counts"
                         : n < lists + 4 * V + 40 ? "bytes end within the indexer row counts"
                                                  : "bytes end within the rows of layer ");
        put(&b, "", 1, NULL);
        refuse_exact(b.p, b.n, "session: 1 bytes after the last field, wanted none");
        free(b.p);
    }
}

/* Field numbers of model.md 4.5; 130 tokens. */
static void test_snapshot_every_field_is_checked(void **state) {
    (void)state;
    static const struct {
        uint32_t field, value;
        const char *words;
    } at[] = {
        {0, 0x34565345, "session: magic is 0x34565345, wanted 0x34565344 (DSV4)"},
        {0, 0x44535634, "session: magic is 0x44535634"},
        {1, 0, "session: version is 0, wanted 1"},
        {1, 2, "session: version is 2, wanted 1"},
        {1, 0x01000000, "session: version is 16777216, wanted 1"},
        {2, CTX + 1, "session: context size is 301, wanted at most 300"},
        {2, UINT32_MAX, "session: context size is 4294967295, wanted at most 300"},
        {3, 64, "session: prefill chunk is 64, wanted 300"},
        {4, W - 1, "session: raw capacity is 15, wanted at least the 16 live raw rows"},
        {4, 0, "session: raw capacity is 0, wanted at least the 16 live raw rows"},
        {5, W + 1, "session: raw window is 17, wanted 16"},
        {6, CTX / 4 + 3, "session: compressed capacity is 78, wanted at most 77"},
        {6, 16, "session: compressed row count of layer 1 is 32, its writer's capacity 16"},
        {7, CTX, "session: token count is 300, wanted at most 299"},
        {7, UINT32_MAX, "session: token count is 4294967295, wanted at most 299"},
        {7, 131, "bytes end within the rows of layer 4"},
        {7, 129, "bytes after the last field"},
        {7, 8, "session: live raw rows is 16, wanted 8"},
        {8, L + 1, "session: layer count is 6, wanted 5"},
        {8, 0, "session: layer count is 0, wanted 5"},
        {9, D + 1, "session: head width is 7, wanted 6"},
        {10, DI + 1, "session: indexer width is 6, wanted 5"},
        {11, V - 1, "session: vocabulary size is 10, wanted 11"},
        {11, UINT32_MAX, "session: vocabulary size is 4294967295, wanted 11"},
        {12, W - 1, "session: live raw rows is 15, wanted 16"},
        {12, W + 1, "session: live raw rows is 17, wanted 16"},
        {13, V, "session: token 0 is 11, wanted 0 to 10"},
        {13 + 129, UINT32_MAX, "session: token 129 is 4294967295, wanted 0 to 10"},
        {13 + 130 + V + 0, 1, "session: compressed row count of layer 0 is 1, wanted 0"},
        {13 + 130 + V + 1, 31, "session: compressed row count of layer 1 is 31, wanted 32"},
        {13 + 130 + V + 2, 2, "session: compressed row count of layer 2 is 2, wanted 1"},
        {13 + 130 + V + 4, UINT32_MAX,
         "session: compressed row count of layer 4 is 4294967295, its writer's capacity 77"},
        {13 + 130 + V + L + 1, 33, "session: indexer row count of layer 1 is 33, wanted 32"},
        {13 + 130 + V + L + 2, 1, "session: indexer row count of layer 2 is 1, wanted 0"},
    };
    bytes b = write_payload(130);
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        uint32_t old;
        memcpy(&old, b.p + 4 * at[i].field, 4);
        memcpy(b.p + 4 * at[i].field, &at[i].value, 4);
        refuse(b.p, b.n, at[i].words);
        memcpy(b.p + 4 * at[i].field, &old, 4);
    }
    /* What another writer may have otherwise: a smaller context, larger or tighter capacities.
     */
    static const uint32_t fine[][2] = {
        {2, 131}, {2, 1}, {4, W + 256}, {4, UINT32_MAX}, {6, 32}};
    for (size_t i = 0; i < sizeof fine / sizeof *fine; i++) {
        uint32_t old;
        ds4_snapshot_head h;
        ds4_err err;
        memcpy(&old, b.p + 4 * fine[i][0], 4);
        memcpy(b.p + 4 * fine[i][0], &fine[i][1], 4);
        test_ok(ds4_snapshot_check(&h, &shape, b.p, b.n, &err), &err);
        memcpy(b.p + 4 * fine[i][0], &old, 4);
    }
    free(b.p);
}

/* Either refused with one line, or taken: then reading it writes no row that is not its own. */
static void try_any(const bytes *b, int *n_taken) {
    ds4_err err = {0};
    ds4_snapshot_head h;
    ds4_status st = ds4_snapshot_check(&h, &shape, b->p, b->n, &err);
    if (st != DS4_OK) {
        assert_int_equal(st, DS4_ERR_FORMAT);
        assert_true(strlen(err.message) > 10 && !strpbrk(err.message, "\n\r"));
        return;
    }
    assert_int_equal(ds4_snapshot_bytes(&shape, h.n_tok), b->n);
    ++*n_taken;
}

static void test_snapshot_flipped_bits_are_refused_or_harmless(void **state) {
    (void)state;
    static const uint32_t count[] = {2, 5, 130};
    for (size_t k = 0; k < sizeof count / sizeof *count; k++) {
        bytes b = write_payload(count[k]);
        size_t lists = 52 + 4 * (size_t)count[k] + 4 * V + 8 * L;
        int n_taken = 0;
        for (size_t i = 0; i < lists * 8; i++) {
            b.p[i / 8] ^= (uint8_t)(1u << i % 8);
            try_any(&b, &n_taken);
            b.p[i / 8] ^= (uint8_t)(1u << i % 8);
        }
        /* Logits (all bits), context sizes and capacities that stay in bounds, ids that stay in
         * the vocabulary: the greater part of what is left is refused. */
        assert_true(n_taken > (int)(32 * V) && n_taken < (int)(lists * 4));
        for (uint64_t i = 0; i < 3000; i++) {
            uint8_t *at = b.p + ds4_rng_below(11, 3 * i, (uint32_t)b.n), old = *at;
            uint8_t *at2 = b.p + ds4_rng_below(11, 3 * i + 1, (uint32_t)b.n), old2 = *at2;
            *at = (uint8_t)ds4_rng_u64(11, 3 * i + 2);
            *at2 ^= 0x80;
            try_any(&b, &n_taken);
            *at2 = old2, *at = old;
        }
        free(b.p);
    }
}

/* ---- cleared rows ---- */

/* Byte offset of the gates of layer 1 with n tokens (layer 0 holds raw rows alone). */
static size_t gates_at(uint32_t n) {
    uint32_t n_raw = n < W ? n : W;
    return 52 + 4 * (size_t)n + 4 * V + 8 * L + 8 * (size_t)n_raw * D +
           4 * (size_t)(n / 4) * D + 64 * D;
}

static void set_floats(bytes *b, size_t at, size_t n, float v) {
    for (size_t i = 0; i < n; i++) memcpy(b->p + at + 4 * i, &v, 4);
}

static void test_snapshot_cleared_gates_may_be_neg_or_infinite(void **state) {
    (void)state;
    ds4_snapshot_head h;
    ds4_err err;
    bytes b = write_payload(3);
    float old;
    memcpy(&old, b.p + gates_at(3), 4);
    assert_true(old == NEG);
    set_floats(&b, gates_at(3), 4 * 2 * D, -INFINITY);
    test_ok(ds4_snapshot_check(&h, &shape, b.p, b.n, &err), &err);
    static const float wrong[] = {0.0f, 1.5f, -1.0e29f, INFINITY, NAN};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        set_floats(&b, gates_at(3) + 4 * (4 * 2 * D - 1), 1, wrong[i]);
        refuse(b.p, b.n, "session: layer 1: a gate before the first window is ");
    }
    free(b.p);
    /* Stale values where no token is yet, as a decoding engine leaves them. */
    b = write_payload(6);
    set_floats(&b, gates_at(6) + 4 * (4 + 2) * 2 * D, 2 * 2 * D, 3.5f);
    test_ok(ds4_snapshot_check(&h, &shape, b.p, b.n, &err), &err);
    int32_t token[6];
    float logits[V];
    owner *o = calloc(1, sizeof *o);
    test_ok(ds4_snapshot_read(&shape, b.p, token, logits,
                              &(ds4_kv_rows){read_rows, write_rows, o}, &err),
            &err);
    free(o), free(b.p);
}

/* ---- failures of others ---- */

static void test_snapshot_failures_are_passed_on(void **state) {
    (void)state;
    int32_t token[130];
    float logits[V] = {0};
    bytes b = write_payload(130);
    static owner o;
    ds4_kv_rows rows = {read_rows, write_rows, &o};
    ds4_err err = {0};
    for (uint32_t i = 0; i < 130; i++) token[i] = token_at(i);
    for (long k = 1; k <= 5; k++) {
        bytes to = {0};
        o.fail_in = k;
        assert_int_equal(ds4_snapshot_write(&(ds4_snapshot_sink){put, &to}, &shape, token, 130,
                                            logits, &rows, &err),
                         DS4_ERR_ENVIRONMENT);
        free(to.p);
        o.fail_in = k;
        assert_int_equal(ds4_snapshot_read(&shape, b.p, token, logits, &rows, &err),
                         DS4_ERR_ENVIRONMENT);
        assert_string_equal(err.message, "planted");
    }
    o.fail_in = 0;
    for (size_t cap = 1; cap < b.n; cap += 97) {
        bytes to = {.cap = cap};
        assert_int_equal(ds4_snapshot_write(&(ds4_snapshot_sink){put, &to}, &shape, token, 130,
                                            logits, &rows, &err),
                         DS4_ERR_IO);
        free(to.p);
    }
    ds4_mem_fail_after(1);
    assert_int_equal(ds4_snapshot_read(&shape, b.p, token, logits, &rows, &err),
                     DS4_ERR_MEMORY);
    ds4_mem_fail_after(0);
    /* Checking asks for no memory at all. */
    ds4_snapshot_head h;
    ds4_mem_fail_after(1);
    test_ok(ds4_snapshot_check(&h, &shape, b.p, b.n, &err), &err);
    ds4_mem_fail_after(0);
    free(b.p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshot_every_length_is_as_specified),
        cmocka_unit_test(test_snapshot_a_context_past_the_cap_names_chunk_2048),
        cmocka_unit_test(test_snapshot_read_gives_live_rows_alone),
        cmocka_unit_test(test_snapshot_rows_of_any_size_come_back),
        cmocka_unit_test(test_snapshot_truncated_at_every_length_is_refused),
        cmocka_unit_test(test_snapshot_every_field_is_checked),
        cmocka_unit_test(test_snapshot_flipped_bits_are_refused_or_harmless),
        cmocka_unit_test(test_snapshot_cleared_gates_may_be_neg_or_infinite),
        cmocka_unit_test(test_snapshot_failures_are_passed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
