/* Sessions: what follows a restore, a rewind or a sync equals the uninterrupted evaluation in
 * every bit of every tap and in the logits; a snapshot holds the same bytes however its tokens
 * were evaluated; and the payload's rows are those that the taps showed. Payloads as bytes are
 * the business of test_snapshot. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/mem.h"
#include "tests/support.h"

enum { MAX_LAYER = 8, CTX = 160, N_TOK = 140 };

/* One hash per tap, layer (the last: none) and token position; 0 where nothing was seen. */
typedef struct trace {
    uint64_t row[DS4_TAP_COUNT][MAX_LAYER + 1][CTX];
    uint64_t logits; /* of the last token, as the session gives them */
    uint32_t n_seen;
} trace;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

static bool see(void *user, const ds4_tap_event *e) {
    trace *t = user;
    uint32_t il = e->layer == DS4_NO_LAYER ? MAX_LAYER : e->layer;
    size_t bytes = (size_t)e->n_col * 4;
    for (uint32_t i = 0; i < e->n_row; i++, t->n_seen++) {
        uint32_t pos = e->pos0 + i * e->pos_step;
        assert_true(il <= MAX_LAYER && pos < CTX);
        t->row[e->tap][il][pos] = XXH3_64bits((const char *)e->data + i * bytes, bytes);
    }
    return true;
}

/* The first difference at positions from .. end - 1; false: equal. */
static bool differ(const trace *a, const trace *b, uint32_t from, uint32_t end, char *what,
                   size_t n) {
    for (uint32_t il = 0; il <= MAX_LAYER; il++)
        for (int t = 0; t < DS4_TAP_COUNT; t++)
            for (uint32_t p = from; p < end; p++)
                if (a->row[t][il][p] != b->row[t][il][p]) {
                    snprintf(what, n, "%s layer %u position %u", ds4_tap_table[t].name, il, p);
                    return true;
                }
    return false;
}

static void assert_same(const trace *a, const trace *b, uint32_t from, uint32_t end,
                        const char *how) {
    char what[96];
    if (differ(a, b, from, end, what, sizeof what)) fail_msg("%s: other bits at %s", how, what);
}

static uint64_t hash_logits(const ds4_session *s) {
    return XXH3_64bits(ds4_session_logits(s), (size_t)ds4_session_n_vocab(s) * 4);
}

/* ---- models ---- */

typedef struct config {
    const char *engine, *model, *tokens, *plan;
    uint32_t n_tok;
    /* Cuts: remainders of 4 and 128, the window's length, the start of selection. 0 ends. */
    uint32_t cut[24];
} config;

/* tiny-a: window 16, selection from 35. ds4-tiny: window 32, selection from 67. */
static const config configs[] = {
    {"ref",
     "fixtures/vectors/peer/tiny-a-calm.gguf",
     "fixtures/vectors/peer/tiny-a.tokens",
     "strict",
     N_TOK,
     {1, 3, 4, 16, 17, 35, 38, 64, 127, 128, 129}},
    {"ref",
     "fixtures/vectors/peer/tiny-a-calm.gguf",
     "fixtures/vectors/peer/tiny-a.tokens",
     "compat",
     N_TOK,
     {34, 64, 127, 129}},
    {"ref",
     "fixtures/tiny/ds4-tiny-q4k.gguf",
     "fixtures/vectors/oracle/english_520.tokens",
     "strict",
     76,
     {31, 33, 66}},
    {"ref",
     "fixtures/tiny/ds4-tiny-q2.gguf",
     "fixtures/vectors/oracle/english_520.tokens",
     "compat",
     76,
     {67}},
};

/* Of the config that is under test. */
static ds4_engine *engine;
static ds4_plan *plan;
static int32_t *text;
static trace base, other; /* too large for the stack */

static void open_config(const config *c) {
    ds4_err err;
    engine = test_engine(c->engine, c->model);
    test_ok(ds4_engine_plan(engine, &plan, &err), &err);
    test_ok(ds4_plan_named(plan, c->plan, &err), &err);
    assert_true(test_read_tokens(c->tokens, &text) > N_TOK);
    assert_true(ds4_engine_config(engine)->n_layer <= MAX_LAYER);
}

static void close_config(void) {
    ds4_plan_free(plan);
    ds4_engine_close(engine);
    free(text);
}

static ds4_session *new_session(uint32_t n_chunk) {
    ds4_session *s = NULL;
    ds4_err err;
    test_ok(ds4_session_new(&s, engine, plan, CTX, n_chunk, &err), &err);
    return s;
}

static void eval(ds4_session *s, const int32_t *token, uint32_t n, ds4_phase phase) {
    ds4_err err;
    test_ok(ds4_session_eval(s, token, n, phase, &err), &err);
}

static void watch(ds4_session *s, trace *t) {
    memset(t, 0, sizeof *t);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = t});
}

typedef struct snapshot {
    uint8_t *p;
    size_t n;
} snapshot;

/* In memory of exactly the promised size. */
static snapshot take(ds4_session *s) {
    ds4_err err;
    snapshot x = {NULL, ds4_session_snapshot_bytes(s)};
    x.p = malloc(x.n);
    test_ok(ds4_session_snapshot(s, x.p, x.n, &err), &err);
    return x;
}

/* ---- resume ---- */

static void check_resume(const config *c, uint32_t cut, uint32_t n, snapshot x,
                         uint64_t logits_at_cut, size_t way) {
    static const struct {
        uint32_t n_chunk;
        ds4_phase phase;
    } ways[] = {{64, DS4_PREFILL}, {5, DS4_PREFILL}, {64, DS4_DECODE}, {1, DS4_PREFILL}};
    char how[128];
    ds4_err err;
    ds4_session *s = new_session(ways[way % 4].n_chunk);

    snprintf(how, sizeof how, "%s, %s, resumed at %u by way %zu", c->model, c->plan, cut,
             way % 4);
    /* Over the remains of another text. */
    if (way % 4 == 0) eval(s, text + 40, 21, DS4_PREFILL);
    test_ok(ds4_session_restore(s, x.p, x.n, &err), &err);
    assert_int_equal(ds4_session_n_tok(s), cut);
    assert_memory_equal(ds4_session_tokens(s), text, cut * sizeof *text);
    assert_true(hash_logits(s) == logits_at_cut);
    snapshot again = take(s);
    assert_int_equal(again.n, x.n);
    assert_memory_equal(again.p, x.p, x.n);
    free(again.p);
    watch(s, &other);
    eval(s, text + cut, n - cut, ways[way % 4].phase);
    assert_same(&base, &other, cut, n, how);
    assert_true(hash_logits(s) == base.row[DS4_TAP_logits][MAX_LAYER][n - 1]);
    ds4_session_free(s);
}

/* One session walks from cut to cut, in uneven batches; each snapshot is continued by another.
 */
static void check_config(const config *c) {
    open_config(c);
    ds4_session *whole = new_session(c->n_tok), *walker = new_session(7);
    watch(whole, &base);
    eval(whole, text, c->n_tok, DS4_PREFILL);
    ds4_session_free(whole);
    for (size_t i = 0; c->cut[i]; i++) {
        uint32_t at = ds4_session_n_tok(walker), cut = c->cut[i];
        eval(walker, text + at, cut - at, i % 2 ? DS4_DECODE : DS4_PREFILL);
        uint64_t logits = hash_logits(walker);
        assert_true(logits == base.row[DS4_TAP_logits][MAX_LAYER][cut - 1]);
        snapshot x = take(walker);
        /* 7 tokens complete every window of ratio 4 that has one from the snapshot. 64 goes on
         * to the end: half a window of ratio 128 comes from there. */
        uint32_t n = cut == 64 || cut + 7 > c->n_tok ? c->n_tok : cut + 7;
        check_resume(c, cut, n, x, logits, i);
        free(x.p);
    }
    ds4_session_free(walker);
    close_config();
}

static void test_session_resume_equals_the_uninterrupted_run(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof configs / sizeof *configs; i++) check_config(&configs[i]);
}

/* Cleared dead rows make snapshots equal in every byte, not only in live rows. */
static void test_session_snapshot_is_the_same_however_it_came_about(void **state) {
    (void)state;
    static const uint32_t chunk[] = {CTX, 6, 1, 9};
    for (size_t k = 0; k < 2; k++) { /* strict, compat */
        snapshot first = {0};
        uint32_t n = k ? 38 : 129;
        open_config(&configs[k]);
        for (size_t way = 0; way < (k ? 4 : 2); way++) {
            ds4_session *s = new_session(chunk[way]);
            eval(s, text, n / 2, way == 3 ? DS4_DECODE : DS4_PREFILL);
            eval(s, text + n / 2, n - n / 2, way == 2 ? DS4_DECODE : DS4_PREFILL);
            snapshot x = take(s);
            if (way) {
                assert_int_equal(x.n, first.n);
                assert_memory_equal(x.p, first.p, x.n);
                free(x.p);
            } else {
                first = x;
            }
            ds4_session_free(s);
        }
        free(first.p);
        close_config();
    }
}

/* ---- what a payload holds ---- */

/* Rows of seven taps, by layer and row. */
static const ds4_tap kept_tap[] = {DS4_TAP_kv_row,        DS4_TAP_comp_row, DS4_TAP_comp_kv,
                                   DS4_TAP_comp_gate_ape, DS4_TAP_idx_row,  DS4_TAP_idx_kv,
                                   DS4_TAP_idx_gate_ape};
enum { N_KEPT = sizeof kept_tap / sizeof *kept_tap };
typedef struct shown {
    float *row[N_KEPT][MAX_LAYER][CTX];
    uint32_t n_row[N_KEPT][MAX_LAYER], n_col[N_KEPT][MAX_LAYER];
} shown;

static bool wants_rows(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    for (size_t i = 0; i < N_KEPT; i++)
        if (kept_tap[i] == tap) return true;
    return false;
}

static bool see_rows(void *user, const ds4_tap_event *e) {
    shown *r = user;
    size_t k = 0;
    while (kept_tap[k] != e->tap) k++;
    r->n_col[k][e->layer] = e->n_col;
    for (uint32_t i = 0; i < e->n_row; i++) {
        float *row = malloc(e->n_col * sizeof *row);
        memcpy(row, (const float *)e->data + (size_t)i * e->n_col, e->n_col * sizeof *row);
        r->row[k][e->layer][r->n_row[k][e->layer]++] = row;
    }
    return true;
}

typedef struct cursor {
    const uint8_t *p, *end;
    const char *what;
} cursor;

static void expect_row(cursor *c, const float *row, uint32_t n) {
    assert_true(c->p + 4 * (size_t)n <= c->end);
    if (memcmp(c->p, row, 4 * (size_t)n) != 0)
        fail_msg("%s: other bits in the payload", c->what);
    c->p += 4 * (size_t)n;
}

/* KS or GS: the rows of a stream of tokens through the compressor of model.md 3.8. */
static void expect_state(cursor *c, float *const *row, uint32_t n_col, uint32_t ratio,
                         uint32_t n_tok, float cleared) {
    const float *at[256];
    float *none = malloc(n_col * sizeof *none);
    uint32_t n_row = ratio == 4 ? 8 : ratio, current = ratio == 4 ? 4 : 0;
    for (uint32_t i = 0; i < n_col; i++) none[i] = cleared;
    for (uint32_t i = 0; i < n_row; i++) at[i] = none;
    for (uint32_t p = 0; p < n_tok; p++) {
        at[current + p % ratio] = row[p];
        if (ratio == 4 && (p + 1) % 4 == 0)
            for (uint32_t i = 0; i < 4; i++) at[i] = at[4 + i];
    }
    for (uint32_t i = current + n_tok % ratio; i < n_row; i++) at[i] = none;
    for (uint32_t i = 0; i < n_row; i++) expect_row(c, at[i], n_col);
    free(none);
}

static void expect_payload(const shown *r, snapshot x, uint32_t n_tok) {
    const ds4_config *m = ds4_engine_config(engine);
    cursor c = {x.p + 52 + 4 * ((size_t)n_tok + m->n_vocab) + 8 * m->n_layer, x.p + x.n, ""};
    char what[64];
    c.what = what;
    for (uint32_t il = 0; il < m->n_layer; il++) {
        uint32_t k = m->ratio[il], from = n_tok > m->window ? n_tok - m->window : 0;
        for (size_t part = 0; part < N_KEPT; part++) {
            if ((part && !k) || (part > 3 && k != 4)) continue;
            snprintf(what, sizeof what, "%u tokens, layer %u, %s", n_tok, il,
                     ds4_tap_table[kept_tap[part]].name);
            uint32_t w = r->n_col[part][il];
            float *const *row = r->row[part][il];
            if (part % 3 == 2) expect_state(&c, row, w, k, n_tok, 0.0f);
            else if (part && part % 3 == 0) expect_state(&c, row, w, k, n_tok, -1.0e30f);
            else
                for (uint32_t i = part ? 0 : from; i < (part ? n_tok / k : n_tok); i++)
                    expect_row(&c, row[i], w);
        }
    }
    assert_true(c.p == c.end);
}

static void test_session_payload_holds_what_the_taps_showed(void **state) {
    (void)state;
    static const uint32_t at[] = {1, 3, 4, 6, 16, 17, 35, 127, 128, 130};
    static shown r;
    open_config(&configs[0]);
    ds4_session *s = new_session(16);
    ds4_session_observe(s, &(ds4_observer){.wants = wants_rows, .see = see_rows, .user = &r});
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        uint32_t n = ds4_session_n_tok(s);
        eval(s, text + n, at[i] - n, DS4_PREFILL);
        snapshot x = take(s);
        expect_payload(&r, x, at[i]);
        const uint8_t *logits = x.p + 52 + 4 * (size_t)at[i];
        assert_memory_equal(logits, ds4_session_logits(s), ds4_session_n_vocab(s) * 4);
        assert_memory_equal(x.p + 52, text, 4 * at[i]);
        free(x.p);
    }
    ds4_session_free(s);
    for (size_t k = 0; k < N_KEPT; k++)
        for (uint32_t il = 0; il < MAX_LAYER; il++)
            for (uint32_t i = 0; i < r.n_row[k][il]; i++) free(r.row[k][il][i]);
    close_config();
}

/* ---- rewind, sync ---- */

static int open_first(void **state) {
    (void)state;
    open_config(&configs[0]);
    ds4_session *s = new_session(N_TOK);
    watch(s, &base);
    eval(s, text, N_TOK, DS4_PREFILL);
    ds4_session_free(s);
    return 0;
}

static int close_first(void **state) {
    (void)state;
    close_config();
    return 0;
}

static uint64_t n_calls(const ds4_session *s, ds4_tap tap) {
    const ds4_ledger *l = ds4_session_ledger(s);
    uint64_t n = 0;
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++)
        if (ds4_ledger_at(l, i)->tap == tap) n += ds4_ledger_at(l, i)->n_call;
    return n;
}

static uint64_t n_elems(const ds4_session *s, ds4_tap tap) {
    const ds4_ledger *l = ds4_session_ledger(s);
    uint64_t n = 0;
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++)
        if (ds4_ledger_at(l, i)->tap == tap) n += ds4_ledger_at(l, i)->n_elem;
    return n;
}

static uint64_t n_evaluated(const ds4_session *s) {
    return n_elems(s, DS4_TAP_embed) / (4ull * ds4_engine_config(engine)->n_embd);
}

/* Rewinds to n, checks the logits and how many tokens were evaluated again, then goes on. */
static void rewind_to(ds4_session *s, uint32_t n, uint64_t n_again, const char *how) {
    ds4_err err;
    uint64_t before = n_evaluated(s);
    uint32_t seen = other.n_seen;
    test_ok(ds4_session_rewind(s, n, &err), &err);
    assert_int_equal(ds4_session_n_tok(s), n);
    if (hash_logits(s) != base.row[DS4_TAP_logits][MAX_LAYER][n - 1])
        fail_msg("%s: other logits after the rewind to %u", how, n);
    if (n_evaluated(s) - before != n_again)
        fail_msg("%s: %u tokens evaluated again for %u, wanted %u", how,
                 (unsigned)(n_evaluated(s) - before), n, (unsigned)n_again);
    assert_int_equal(other.n_seen, seen); /* nothing of it is shown */
}

static void go_on(ds4_session *s, uint32_t n_more, const char *how) {
    uint32_t n = ds4_session_n_tok(s);
    watch(s, &other);
    eval(s, text + n, n_more, DS4_PREFILL);
    assert_same(&base, &other, n, n + n_more, how);
}

/* As far back as the rings reach, and one token further. */
static void test_session_rewind_is_exact(void **state) {
    (void)state;
    for (uint32_t chunk = 4; chunk <= 11; chunk += 7) {
        ds4_session *s = new_session(chunk);
        char how[64];
        eval(s, text, 44, DS4_PREFILL);
        for (uint32_t back = 1; back <= chunk; back += 3) {
            snprintf(how, sizeof how, "chunk %u, %u back", chunk, back);
            rewind_to(s, 44 - back, 1, how);
            go_on(s, back, how);
        }
        /* The reach is counted from the longest extent, whatever came between. */
        rewind_to(s, 44 - 2, 1, "short");
        rewind_to(s, 44 - chunk, 1, "as far as possible");
        go_on(s, chunk + 3, "past the old end");
        rewind_to(s, 47 - chunk, 1, "again");
        rewind_to(s, 47 - chunk - 1, 47 - chunk - 1, "one further: from the start");
        go_on(s, 5, "after a replay");
        rewind_to(s, 2, 2, "near the start");
        go_on(s, 38, "all over");
        rewind_to(s, 40, 0, "the same length");
        ds4_session_free(s);
    }
}

/* Other tokens in between leave nothing behind. */
static void test_session_rewind_forgets_the_other_future(void **state) {
    (void)state;
    ds4_err err;
    ds4_session *s = new_session(8);
    eval(s, text, 66, DS4_PREFILL);
    test_ok(ds4_session_rewind(s, 62, &err), &err);
    eval(s, text + 100, 5, DS4_PREFILL);
    test_ok(ds4_session_rewind(s, 62, &err), &err);
    go_on(s, 12, "after another future");
    test_ok(ds4_session_rewind(s, 0, &err), &err);
    assert_int_equal(ds4_session_n_tok(s), 0);
    for (uint32_t i = 0; i < ds4_session_n_vocab(s); i++)
        assert_true(ds4_session_logits(s)[i] == 0.0f);
    assert_true(n_calls(s, DS4_TAP_embed) > 0); /* the ledger stays */
    go_on(s, 20, "from the start");
    assert_int_equal(ds4_session_rewind(s, 21, &err), DS4_ERR_USAGE);
    assert_string_equal(err.message, "rewind to 21 tokens, the timeline has 20");
    assert_int_equal(ds4_session_n_tok(s), 20);
    ds4_session_free(s);
}

/* What was kept of a future that is gone is not gone back to. */
static void test_session_rewind_leaves_a_kept_other_future(void **state) {
    (void)state;
    ds4_err err;
    int32_t mixed[40];
    ds4_session *s = new_session(4), *fresh = new_session(16);
    memcpy(mixed, text, sizeof mixed);
    for (uint32_t i = 18; i < 40; i++) mixed[i] = text[100 - i];
    eval(s, text, 20, DS4_PREFILL);
    test_ok(ds4_session_keep(s, &err), &err);
    test_ok(ds4_session_rewind(s, 18, &err), &err); /* within the reach */
    eval(s, mixed + 18, 22, DS4_PREFILL);
    test_ok(ds4_session_rewind(s, 24, &err), &err); /* past it */
    eval(fresh, mixed, 24, DS4_PREFILL);
    assert_true(hash_logits(s) == hash_logits(fresh));
    assert_memory_equal(ds4_session_tokens(s), mixed, 24 * sizeof *mixed);
    ds4_session_free(s), ds4_session_free(fresh);
}

static void test_session_rewind_uses_the_nearest_kept_snapshot(void **state) {
    (void)state;
    ds4_err err;
    ds4_session *s = new_session(4);
    for (uint32_t n = 20; n <= 80; n += 30) { /* 20, 50, 80 */
        eval(s, text + ds4_session_n_tok(s), n - ds4_session_n_tok(s), DS4_PREFILL);
        test_ok(ds4_session_keep(s, &err), &err);
        test_ok(ds4_session_keep(s, &err), &err); /* twice is once */
    }
    eval(s, text + 80, 20, DS4_PREFILL);
    rewind_to(s, 90, 10, "from 80");
    go_on(s, 3, "from 80");
    rewind_to(s, 80, 0, "80 itself");
    rewind_to(s, 70, 20, "from 50: 80 is gone or too long");
    go_on(s, 20, "from 50");
    rewind_to(s, 50, 0, "50 itself");
    rewind_to(s, 30, 10, "from 20");
    rewind_to(s, 10, 10, "from the start");
    go_on(s, 40, "from the start");
    rewind_to(s, 21, 21, "nothing is kept any more");
    ds4_session_free(s);
}

/* A restored session has no rows to go back on; what it evaluates itself it can rewind. */
static void test_session_rewind_after_a_restore(void **state) {
    (void)state;
    ds4_err err;
    ds4_session *s = new_session(8);
    eval(s, text, 38, DS4_PREFILL);
    snapshot x = take(s);
    ds4_session_free(s);
    s = new_session(8);
    test_ok(ds4_session_restore(s, x.p, x.n, &err), &err);
    rewind_to(s, 38, 0, "where it was restored");
    test_ok(ds4_session_keep(s, &err), &err);
    go_on(s, 6, "restored");
    rewind_to(s, 39, 1, "the first token after");
    go_on(s, 4, "restored, rewound");
    rewind_to(s, 38, 0, "kept");
    go_on(s, 4, "kept");
    rewind_to(s, 37, 37, "before it: from the start");
    go_on(s, 10, "from the start");
    ds4_session_free(s);
    free(x.p);
}

static void test_session_sync_keeps_the_common_prefix(void **state) {
    (void)state;
    ds4_err err;
    int32_t mixed[60];
    ds4_session *s = new_session(8);
    watch(s, &other);
    test_ok(ds4_session_sync(s, text, 40, &err), &err); /* from nothing */
    assert_int_equal(n_evaluated(s), 40);
    test_ok(ds4_session_sync(s, text, 60, &err), &err); /* an extension */
    assert_int_equal(n_evaluated(s), 60);
    assert_same(&base, &other, 0, 60, "extended");
    test_ok(ds4_session_sync(s, text, 60, &err), &err); /* nothing to do */
    assert_int_equal(n_evaluated(s), 60);
    memcpy(mixed, text, sizeof mixed);
    mixed[57] = text[57] == 5 ? 6 : 5;
    test_ok(ds4_session_sync(s, mixed, 60, &err), &err); /* near the end */
    assert_int_equal(n_evaluated(s), 63);
    assert_memory_equal(ds4_session_tokens(s), mixed, sizeof mixed);
    assert_true(hash_logits(s) != base.row[DS4_TAP_logits][MAX_LAYER][59]);
    watch(s, &other);
    test_ok(ds4_session_sync(s, text, 60, &err), &err); /* and back */
    assert_same(&base, &other, 57, 60, "back");
    assert_int_equal(n_evaluated(s), 66);
    mixed[9] = text[9] == 5 ? 6 : 5;
    test_ok(ds4_session_sync(s, mixed, 60, &err), &err); /* past the reach: replayed */
    assert_int_equal(n_evaluated(s), 66 + 60);
    watch(s, &other);
    test_ok(ds4_session_sync(s, text, 30, &err), &err);
    assert_same(&base, &other, 9, 30, "replayed");      /* positions below 9 are not shown */
    test_ok(ds4_session_sync(s, text, 29, &err), &err); /* a prefix: a rewind */
    assert_int_equal(ds4_session_n_tok(s), 29);
    assert_true(hash_logits(s) == base.row[DS4_TAP_logits][MAX_LAYER][28]);
    int32_t wrong[] = {1, -1};
    assert_int_equal(ds4_session_sync(s, wrong, 2, &err), DS4_ERR_FORMAT);
    assert_int_equal(ds4_session_sync(s, text, 0, &err), DS4_ERR_USAGE);
    assert_int_equal(ds4_session_sync(s, text, CTX + 1, &err), DS4_ERR_USAGE);
    assert_int_equal(ds4_session_n_tok(s), 29);
    ds4_session_free(s);
}

/* ---- Vulkan ---- */

/* Strict rows have the reference's bits, so each engine continues the other's snapshot. Base is
 * the reference's. */
static void test_session_of_vulkan_is_the_references(void **state) {
    (void)state;
    ds4_err err;
    if (!test_has_device()) skip();
    ds4_session *s = new_session(8);
    eval(s, text, 38, DS4_PREFILL);
    snapshot at38 = take(s);
    eval(s, text + 38, 5, DS4_PREFILL);
    snapshot at43 = take(s);
    ds4_session_free(s);

    config c = configs[0];
    c.engine = "vk";
    ds4_engine *ref_engine = engine;
    ds4_plan *ref_plan = plan;
    free(text);
    open_config(&c);
    s = new_session(4);
    test_ok(ds4_session_restore(s, at38.p, at38.n, &err), &err);
    snapshot x = take(s);
    assert_memory_equal(x.p, at38.p, x.n);
    free(x.p);
    go_on(s, 3, "vk: restored");
    ds4_session_observe(s, NULL);
    eval(s, text + 41, 3, DS4_PREFILL);
    rewind_to(s, 42, 1, "vk");
    eval(s, text + 42, 1, DS4_DECODE);
    x = take(s);
    assert_int_equal(x.n, at43.n);
    assert_memory_equal(x.p, at43.p, x.n);
    free(x.p), free(at38.p), free(at43.p);
    ds4_session_free(s);
    ds4_plan_free(plan);
    ds4_engine_close(engine);
    engine = ref_engine, plan = ref_plan;
}

/* ---- after failures ---- */

static bool stop(void *user, const ds4_tap_event *e) {
    return !(e->tap == DS4_TAP_q_rot && e->layer == 2 && e->pos0 >= *(uint32_t *)user);
}

static void test_session_goes_on_after_an_interruption(void **state) {
    (void)state;
    uint32_t at = 50;
    ds4_err err;
    ds4_session *s = new_session(8);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = stop, .user = &at});
    assert_int_equal(ds4_session_eval(s, text, 90, DS4_PREFILL, &err), DS4_ERR_CANCELLED);
    uint32_t n = ds4_session_n_tok(s);
    assert_true(n > 40 && n < 60);
    ds4_session_observe(s, NULL);
    /* The logits are settled by a snapshot, and by a rewind to where it stands. */
    snapshot x = take(s);
    assert_true(hash_logits(s) == base.row[DS4_TAP_logits][MAX_LAYER][n - 1]);
    ds4_session *whole = new_session(64);
    eval(whole, text, n, DS4_PREFILL);
    snapshot y = take(whole);
    assert_memory_equal(x.p, y.p, y.n);
    free(x.p), free(y.p);
    ds4_session_free(whole);
    go_on(s, 30, "after an interruption");
    ds4_session_free(s);
}

static void test_session_a_refused_payload_changes_nothing(void **state) {
    (void)state;
    ds4_err err;
    ds4_session *s = new_session(8);
    eval(s, text, 40, DS4_PREFILL);
    snapshot x = take(s);
    uint8_t small[64];
    assert_int_equal(ds4_session_snapshot(s, small, sizeof small, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "snapshot into 64 bytes, wanted at least "));
    for (size_t cut = 0; cut < x.n; cut += x.n / 9)
        assert_int_equal(ds4_session_restore(s, x.p, cut, &err), DS4_ERR_FORMAT);
    x.p[52 + 4 * 39 + 3] = 0x40; /* the last token */
    assert_int_equal(ds4_session_restore(s, x.p, x.n, &err), DS4_ERR_FORMAT);
    assert_int_equal(ds4_session_n_tok(s), 40);
    go_on(s, 20, "after refusals");
    free(x.p);
    /* A snapshot that fills a context cannot be continued in it. */
    eval(s, text, CTX - 60, DS4_PREFILL);
    x = take(s);
    assert_int_equal(ds4_session_restore(s, x.p, x.n, &err), DS4_ERR_FORMAT);
    assert_string_equal(err.message, "session: token count is 160, wanted at most 159");
    ds4_session_free(s);
    free(x.p);
}

static void test_session_survives_a_lack_of_memory(void **state) {
    (void)state;
    ds4_err err;
    ds4_session *s = new_session(8);
    eval(s, text, 40, DS4_PREFILL);
    snapshot x = take(s);
    ds4_mem_fail_after(1);
    assert_int_equal(ds4_session_snapshot(s, x.p, x.n, &err), DS4_ERR_MEMORY);
    /* The list, which then stays; the payload; the slab that fills it. */
    static const long allocation[] = {1, 2, 2};
    for (size_t i = 0; i < 3; i++) {
        ds4_mem_fail_after(allocation[i]);
        assert_int_equal(ds4_session_keep(s, &err), DS4_ERR_MEMORY);
    }
    ds4_mem_fail_after(0);
    go_on(s, 5, "after a lack of memory");
    test_ok(ds4_session_restore(s, x.p, x.n, &err), &err);
    ds4_mem_fail_after(1); /* after the check: nothing is left, and nothing half done */
    assert_int_equal(ds4_session_restore(s, x.p, x.n, &err), DS4_ERR_MEMORY);
    ds4_mem_fail_after(0);
    assert_int_equal(ds4_session_n_tok(s), 0);
    go_on(s, 20, "from nothing");
    ds4_session_free(s);
    free(x.p);
}

/* ---- files ---- */

static void test_session_file_is_the_payload(void **state) {
    (void)state;
    char dir[] = "/tmp/test_session.XXXXXX", path[64], partial[80];
    ds4_err err;
    size_t n;
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/a.dsv4", dir);
    snprintf(partial, sizeof partial, "%s.partial", path);
    ds4_session *s = new_session(8);
    eval(s, text, 37, DS4_PREFILL);
    snapshot x = take(s);
    test_ok(ds4_session_save(s, path, &err), &err);
    assert_int_equal(access(partial, F_OK), -1);
    char *file = test_read_file(path, &n);
    assert_int_equal(n, x.n);
    assert_memory_equal(file, x.p, n);
    free(file), free(x.p);
    /* A failed write leaves the old file. */
    eval(s, text + 37, 3, DS4_PREFILL);
    for (long k = 1; k <= 4; k++) {
        ds4_mem_fail_after(k);
        assert_int_equal(ds4_session_save(s, path, &err), DS4_ERR_MEMORY);
        ds4_mem_fail_after(0);
        assert_int_equal(access(partial, F_OK), -1);
    }
    assert_int_equal(ds4_session_save(s, "/nowhere/a.dsv4", &err), DS4_ERR_IO);
    ds4_session_free(s);
    s = new_session(3);
    test_ok(ds4_session_load(s, path, &err), &err);
    assert_int_equal(ds4_session_n_tok(s), 37);
    go_on(s, 9, "from a file");
    assert_int_equal(ds4_session_load(s, dir, &err), DS4_ERR_IO);
    assert_int_equal(ds4_session_n_tok(s), 46);
    ds4_session_free(s);
    unlink(path), rmdir(dir);
}

/* ---- the output head ---- */

/* Without an observer of the head it runs for the last token alone, and the ledger says so. */
static void test_session_head_runs_for_what_is_wanted(void **state) {
    (void)state;
    ds4_err err;
    ds4_session *s = new_session(16);
    uint64_t n_vocab = ds4_session_n_vocab(s);
    eval(s, text, 40, DS4_PREFILL); /* batches of 16, 16, 3 and 5: selection starts at 35 */
    assert_int_equal(n_elems(s, DS4_TAP_logits), n_vocab);
    assert_int_equal(n_calls(s, DS4_TAP_logits), 1);
    assert_int_equal(n_calls(s, DS4_TAP_out_last), 1);
    assert_true(hash_logits(s) == base.row[DS4_TAP_logits][MAX_LAYER][39]);
    eval(s, text + 40, 2, DS4_DECODE);
    assert_int_equal(n_elems(s, DS4_TAP_logits), 2 * n_vocab);
    assert_int_equal(n_calls(s, DS4_TAP_out_last), 1); /* one token is at the front already */
    test_ok(ds4_session_reset(s, &err), &err);
    watch(s, &other); /* wants all: the row of logits becomes a batch of them */
    eval(s, text, 40, DS4_PREFILL);
    assert_int_equal(n_elems(s, DS4_TAP_logits), 40 * n_vocab);
    assert_int_equal(n_calls(s, DS4_TAP_out_last), 0);
    assert_same(&base, &other, 0, 40, "observed");
    ds4_session_observe(s, NULL); /* and back */
    eval(s, text + 40, 7, DS4_PREFILL);
    assert_int_equal(n_elems(s, DS4_TAP_logits), 41 * n_vocab);
    assert_true(hash_logits(s) == base.row[DS4_TAP_logits][MAX_LAYER][46]);
    ds4_session_free(s);
}

/* ---- the comparison can fail ---- */

/* One bit of one row of a payload moves the continuation. */
static void test_session_a_flipped_bit_is_seen(void **state) {
    (void)state;
    char what[96];
    ds4_err err;
    ds4_session *s = new_session(64);
    const ds4_config *m = ds4_engine_config(engine);
    eval(s, text, 38, DS4_PREFILL);
    snapshot x = take(s);
    size_t rows = 52 + 4 * ((size_t)38 + m->n_vocab) + 8 * m->n_layer;
    x.p[rows + 4 * (size_t)m->window * m->d_head - 2] ^= 0x40; /* layer 0, the newest row */
    test_ok(ds4_session_restore(s, x.p, x.n, &err), &err);
    watch(s, &other);
    eval(s, text + 38, 2, DS4_PREFILL);
    assert_true(differ(&base, &other, 38, 40, what, sizeof what));
    assert_string_equal(what, "attn_heads layer 0 position 38");
    ds4_session_free(s);
    free(x.p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_session_resume_equals_the_uninterrupted_run),
        cmocka_unit_test(test_session_snapshot_is_the_same_however_it_came_about),
        cmocka_unit_test(test_session_payload_holds_what_the_taps_showed),
    };
    const struct CMUnitTest first[] = {
        cmocka_unit_test(test_session_rewind_is_exact),
        cmocka_unit_test(test_session_rewind_forgets_the_other_future),
        cmocka_unit_test(test_session_rewind_leaves_a_kept_other_future),
        cmocka_unit_test(test_session_rewind_uses_the_nearest_kept_snapshot),
        cmocka_unit_test(test_session_rewind_after_a_restore),
        cmocka_unit_test(test_session_sync_keeps_the_common_prefix),
        cmocka_unit_test(test_session_of_vulkan_is_the_references),
        cmocka_unit_test(test_session_goes_on_after_an_interruption),
        cmocka_unit_test(test_session_a_refused_payload_changes_nothing),
        cmocka_unit_test(test_session_survives_a_lack_of_memory),
        cmocka_unit_test(test_session_file_is_the_payload),
        cmocka_unit_test(test_session_head_runs_for_what_is_wanted),
        cmocka_unit_test(test_session_a_flipped_bit_is_seen),
    };
    int n = cmocka_run_group_tests(tests, NULL, NULL);
    return n + cmocka_run_group_tests(first, open_first, close_first);
}
