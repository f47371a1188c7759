/* The reference engine's bits: every row of every tap and the logits are the same for any
 * number of threads, any chunking, prefill or decode, after a reset, and with nobody watching;
 * on every small model. And what a session refuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/support.h"

enum { MAX_LAYER = 8, MAX_TOK = 132 };

/* One hash per tap, layer (the last: none) and token position; 0 where nothing was seen. */
typedef struct trace {
    uint64_t row[DS4_TAP_COUNT][MAX_LAYER + 1][MAX_TOK];
    uint64_t logits; /* of the last token, as the session gives them */
} trace;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

static bool see(void *user, const ds4_tap_event *e) {
    trace *t = user;
    uint32_t il = e->layer == DS4_NO_LAYER ? MAX_LAYER : e->layer;
    size_t bytes = (size_t)e->n_col * 4;
    for (uint32_t i = 0; i < e->n_row; i++) {
        uint32_t pos = e->pos0 + i * e->pos_step;
        assert_true(il <= MAX_LAYER && pos < MAX_TOK);
        t->row[e->tap][il][pos] = XXH3_64bits((const char *)e->data + i * bytes, bytes);
    }
    return true;
}

/* The first difference in execution order within a layer, layers in order; false: equal. */
static bool differ(const trace *a, const trace *b, char *what, size_t n) {
    for (uint32_t il = 0; il <= MAX_LAYER; il++)
        for (int t = 0; t < DS4_TAP_COUNT; t++)
            for (uint32_t p = 0; p < MAX_TOK; p++)
                if (a->row[t][il][p] != b->row[t][il][p]) {
                    snprintf(what, n, "%s layer %u position %u", ds4_tap_table[t].name, il, p);
                    return true;
                }
    snprintf(what, n, "logits of the last token");
    return a->logits != b->logits;
}

static void assert_same(const trace *a, const trace *b, const char *how) {
    char what[96];
    if (differ(a, b, what, sizeof what)) fail_msg("%s: other bits at %s", how, what);
}

/* ---- runs ---- */

static ds4_engine *open_threads(const char *model, uint32_t n_thread) {
    ds4_engine *e = NULL;
    ds4_err err;
    ds4_engine_options o = {.engine = "ref", .n_thread = n_thread, .device = -1};
    test_ok(ds4_engine_open(&e, model, &o, &err), &err);
    return e;
}

static ds4_plan *plan_of(const ds4_engine *e, const char *edits) {
    ds4_plan *p = NULL;
    ds4_err err;
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    test_ok(ds4_plan_edit(p, edits, &err), &err);
    return p;
}

static ds4_session *session_of(ds4_engine *e, const char *edits, uint32_t n_chunk) {
    ds4_session *s = NULL;
    ds4_err err;
    ds4_plan *p = plan_of(e, edits);
    test_ok(ds4_session_new(&s, e, p, MAX_TOK, n_chunk, &err), &err);
    ds4_plan_free(p);
    return s;
}

static void keep_logits(trace *t, const ds4_session *s) {
    t->logits = XXH3_64bits(ds4_session_logits(s), (size_t)ds4_session_n_vocab(s) * 4);
}

/* Tokens [0, n_prefill) as prefill, the rest as decode. */
static void evaluate(ds4_session *s, const int32_t *token, uint32_t n_prefill, uint32_t n,
                     trace *t) {
    ds4_err err;
    memset(t, 0, sizeof *t);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = t});
    test_ok(ds4_session_eval(s, token, n_prefill, DS4_PREFILL, &err), &err);
    test_ok(ds4_session_eval(s, token + n_prefill, n - n_prefill, DS4_DECODE, &err), &err);
    assert_int_equal(ds4_session_n_tok(s), n);
    keep_logits(t, s);
}

static void run(ds4_engine *e, const char *edits, const int32_t *token, uint32_t n_prefill,
                uint32_t n, uint32_t n_chunk, trace *t) {
    ds4_session *s = session_of(e, edits, n_chunk);
    evaluate(s, token, n_prefill, n, t);
    ds4_session_free(s);
}

/* ---- the same bits every way ---- */

static const struct {
    const char *model, *tokens;
    uint32_t n_tok;
    bool every_way; /* else one way of each kind */
} models[] = {
    /* 132 tokens: selection from 67, the first row of ratio 128 at 127, windows of 32. */
    {"fixtures/tiny/ds4-tiny-q4k.gguf", "fixtures/vectors/oracle/english_520.tokens", 132,
     true},
    {"fixtures/tiny/ds4-tiny-q2.gguf", "fixtures/vectors/oracle/code_64.q2.tokens", 64, false},
    {"fixtures/vectors/peer/tiny-a-calm.gguf", "fixtures/vectors/peer/tiny-a.tokens", 72,
     false},
};

static trace base, other; /* too large for the stack */

static void check_model(size_t i) {
    const char *model = models[i].model;
    uint32_t n = models[i].n_tok;
    int32_t *token;
    char how[96];
    assert_true(test_read_tokens(models[i].tokens, &token) >= n);
    ds4_engine *e = open_threads(model, 1);
    assert_true(ds4_engine_config(e)->n_layer <= MAX_LAYER);
    run(e, "", token, n, n, n, &base);

    static const uint32_t chunks[] = {7, 64, 1};
    for (size_t k = 0; k < (models[i].every_way ? 3 : 1); k++) {
        snprintf(how, sizeof how, "%s, chunks of %u", model, chunks[k]);
        run(e, "", token, n, n, chunks[k], &other);
        assert_same(&base, &other, how);
    }
    snprintf(how, sizeof how, "%s, prefill then decode", model);
    run(e, "", token, n / 3, n, 64, &other);
    assert_same(&base, &other, how);
    ds4_engine_close(e);
    for (uint32_t threads = 2; threads <= (models[i].every_way ? 3 : 2); threads++) {
        e = open_threads(model, threads);
        snprintf(how, sizeof how, "%s, %u threads", model, threads);
        run(e, "", token, n, n, n, &other);
        assert_same(&base, &other, how);
        ds4_engine_close(e);
    }
    free(token);
}

static void test_forward_bits_are_the_same_every_way(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof models / sizeof *models; i++) check_model(i);
}

static ds4_engine *engine;
static int32_t *text;
enum { N = 40 };

static void test_forward_decode_alone_equals_prefill(void **state) {
    (void)state;
    run(engine, "", text, N, N, N, &base);
    run(engine, "", text, 0, N, 64, &other);
    assert_same(&base, &other, "all in decode");
}

static void test_forward_reset_and_again_is_the_same(void **state) {
    (void)state;
    ds4_session *s = session_of(engine, "", 16);
    ds4_err err;
    evaluate(s, text, N, N, &base);
    uint32_t n_entry = ds4_ledger_n(ds4_session_ledger(s));
    assert_true(n_entry > 0);
    test_ok(ds4_session_reset(s, &err), &err);
    assert_int_equal(ds4_session_n_tok(s), 0);
    assert_int_equal(ds4_ledger_n(ds4_session_ledger(s)), 0);
    /* Another text in between leaves nothing behind. */
    ds4_session_observe(s, NULL);
    test_ok(ds4_session_eval(s, text + N, 60, DS4_PREFILL, &err), &err);
    test_ok(ds4_session_reset(s, &err), &err);
    evaluate(s, text, N, N, &other);
    assert_same(&base, &other, "after a reset");
    assert_int_equal(ds4_ledger_n(ds4_session_ledger(s)), n_entry);
    ds4_session_free(s);
}

static void test_forward_set_plan_acts_from_the_next_token(void **state) {
    (void)state;
    ds4_session *s = session_of(engine, "", 64);
    ds4_plan *half = plan_of(engine, "matmul=f16"), *strict = plan_of(engine, "");
    ds4_err err;
    bool changed = false;
    run(engine, "", text, N, N, 64, &base);
    memset(&other, 0, sizeof other);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = &other});
    test_ok(ds4_session_eval(s, text, N / 2, DS4_PREFILL, &err), &err);
    test_ok(ds4_session_set_plan(s, half, &err), &err);
    test_ok(ds4_session_eval(s, text + N / 2, N - N / 2, DS4_PREFILL, &err), &err);
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = 0; il <= MAX_LAYER; il++)
            for (uint32_t p = 0; p < N; p++) {
                bool same = base.row[t][il][p] == other.row[t][il][p];
                changed = changed || !same;
                if (p < N / 2 && !same) fail_msg("%s before the plan", ds4_tap_table[t].name);
            }
    assert_true(changed);
    test_ok(ds4_session_reset(s, &err), &err);
    test_ok(ds4_session_set_plan(s, strict, &err), &err);
    evaluate(s, text, N, N, &other);
    assert_same(&base, &other, "strict again");
    ds4_plan_free(half), ds4_plan_free(strict);
    ds4_session_free(s);
}

static void test_forward_unobserved_logits_are_the_same(void **state) {
    (void)state;
    ds4_session *s = session_of(engine, "", 16);
    ds4_err err;
    evaluate(s, text, N, N, &base);
    test_ok(ds4_session_reset(s, &err), &err);
    ds4_session_observe(s, NULL);
    test_ok(ds4_session_eval(s, text, N, DS4_PREFILL, &err), &err);
    keep_logits(&other, s);
    assert_true(base.logits == other.logits);
    uint64_t row = base.row[DS4_TAP_logits][MAX_LAYER][N - 1];
    assert_true(row == base.logits); /* the tap shows what the session gives */
    ds4_session_free(s);
}

/* ---- the comparison can fail ---- */

static void test_forward_planted_row_is_located(void **state) {
    (void)state;
    char what[96];
    run(engine, "", text, N, N, N, &base);
    run(engine, "tap:attn_out@3=f16", text, N, N, N, &other);
    assert_true(differ(&base, &other, what, sizeof what));
    assert_string_equal(what, "attn_out layer 3 position 0");
    run(engine, "tap:logits=f16", text, N, N, N, &other);
    assert_true(differ(&base, &other, what, sizeof what));
    assert_string_equal(what, "logits layer 8 position 0");
    other = base, other.logits ^= 1;
    assert_true(differ(&base, &other, what, sizeof what));
    assert_string_equal(what, "logits of the last token");
}

/* ---- refusals ---- */

static void refuse(ds4_session *s, const int32_t *token, uint32_t n, ds4_status want,
                   const char *words) {
    ds4_err err = {0};
    uint32_t before = ds4_session_n_tok(s);
    assert_int_equal(ds4_session_eval(s, token, n, DS4_PREFILL, &err), want);
    assert_string_equal(err.message, words);
    assert_int_equal(ds4_session_n_tok(s), before);
}

static void test_forward_overflow_and_bad_ids_are_refused(void **state) {
    (void)state;
    ds4_session *s = NULL;
    ds4_plan *p = plan_of(engine, "");
    ds4_err err;
    const int32_t high[] = {1, 2, 2048}, low[] = {-1}, last[] = {2047};
    test_ok(ds4_session_new(&s, engine, p, 8, 64, &err), &err);
    refuse(s, text, 9, DS4_ERR_USAGE, "9 tokens after 0, the context holds 8");
    test_ok(ds4_session_eval(s, text, 5, DS4_PREFILL, &err), &err);
    refuse(s, text, 4, DS4_ERR_USAGE, "4 tokens after 5, the context holds 8");
    refuse(s, text, UINT32_MAX, DS4_ERR_USAGE,
           "4294967295 tokens after 5, the context holds 8");
    refuse(s, high, 3, DS4_ERR_FORMAT, "token 2: id 2048, wanted 0 to 2047");
    refuse(s, low, 1, DS4_ERR_FORMAT, "token 0: id -1, wanted 0 to 2047");
    test_ok(ds4_session_eval(s, last, 1, DS4_DECODE, &err), &err);
    test_ok(ds4_session_eval(s, text, 2, DS4_DECODE, &err), &err);
    refuse(s, text, 1, DS4_ERR_USAGE, "1 tokens after 8, the context holds 8");
    ds4_session_free(s);
    ds4_plan_free(p);
}

static void test_forward_bad_sizes_are_refused(void **state) {
    (void)state;
    static const uint32_t size[][2] = {
        {0, 8}, {(1u << 20) + 1, 8}, {8, 0}, {8, 4097}, {UINT32_MAX, UINT32_MAX}};
    ds4_plan *p = plan_of(engine, "");
    for (size_t i = 0; i < sizeof size / sizeof *size; i++) {
        ds4_session *s = NULL;
        ds4_err err = {0};
        assert_int_equal(ds4_session_new(&s, engine, p, size[i][0], size[i][1], &err),
                         DS4_ERR_USAGE);
        assert_non_null(strstr(err.message, ", wanted 1 to "));
        assert_null(s);
    }
    ds4_plan_free(p);
}

static bool stop(void *user, const ds4_tap_event *e) {
    (void)user;
    return !(e->tap == DS4_TAP_q_rot && e->layer == 2);
}

static void test_forward_observer_can_stop(void **state) {
    (void)state;
    ds4_session *s = session_of(engine, "", 64);
    ds4_err err = {0};
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = stop});
    assert_int_equal(ds4_session_eval(s, text, 9, DS4_PREFILL, &err), DS4_ERR_CANCELLED);
    assert_string_equal(err.message, "interrupted at layer 2, q_rot");
    ds4_session_free(s);
}

static int setup(void **state) {
    (void)state;
    engine = open_threads("fixtures/tiny/ds4-tiny-q4k.gguf", 2);
    assert_int_equal(test_read_tokens("fixtures/vectors/oracle/english_520.tokens", &text),
                     520);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    free(text);
    ds4_engine_close(engine);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_forward_bits_are_the_same_every_way),
        cmocka_unit_test(test_forward_decode_alone_equals_prefill),
        cmocka_unit_test(test_forward_reset_and_again_is_the_same),
        cmocka_unit_test(test_forward_set_plan_acts_from_the_next_token),
        cmocka_unit_test(test_forward_unobserved_logits_are_the_same),
        cmocka_unit_test(test_forward_planted_row_is_located),
        cmocka_unit_test(test_forward_overflow_and_bad_ids_are_refused),
        cmocka_unit_test(test_forward_bad_sizes_are_refused),
        cmocka_unit_test(test_forward_observer_can_stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
