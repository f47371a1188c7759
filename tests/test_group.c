/* Several timelines in one pass: under strict rows every tap, every logit and every ledger of a
 * session is what it is alone, whoever is in the group, in whatever order, on both engines.
 * Under fast rows the difference is measured and printed. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "tests/support.h"

static const char MODEL[] = "fixtures/tiny/ds4-tiny-q4k.gguf";

enum { N_SEQ = 3, MAX_LAYER = 8, CTX = 132, CHUNK = 24 };

/* How the sequences run: prefill tokens, then decode. Selection begins at 67, a compressed
 * window of 128 ends in one of them. */
static const struct {
    uint32_t n_prefill, n_decode;
} shape[N_SEQ] = {{63, 6}, {9, 5}, {126, 3}};

static int32_t *text[N_SEQ];

static int setup(void **state) {
    int32_t *all;
    uint32_t n = test_read_tokens("fixtures/vectors/oracle/italian_96.tokens", &all);
    (void)state;
    for (uint32_t i = 0; i < N_SEQ; i++) {
        text[i] = calloc(CTX, sizeof *text[i]);
        for (uint32_t k = 0; k < CTX; k++) text[i][k] = all[(k * (i + 1) + 7 * i) % n];
    }
    free(all);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    for (uint32_t i = 0; i < N_SEQ; i++) free(text[i]);
    return 0;
}

/* ---- what a timeline showed ---- */

typedef struct trace {
    uint64_t row[DS4_TAP_COUNT][MAX_LAYER + 1][CTX];
    float *logits;   /* after the prefill, then after each decoded token */
    uint32_t n_step; /* of them */
    bool watched;
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
        assert_true(il <= MAX_LAYER && pos < CTX);
        t->row[e->tap][il][pos] = XXH3_64bits((const char *)e->data + i * bytes, bytes);
    }
    return true;
}

static void assert_same(const trace *a, const trace *b, uint32_t n_vocab, const char *how,
                        uint32_t i) {
    for (uint32_t il = 0; a->watched && b->watched && il <= MAX_LAYER; il++)
        for (int t = 0; t < DS4_TAP_COUNT; t++)
            for (uint32_t p = 0; p < CTX; p++)
                if (a->row[t][il][p] != b->row[t][il][p])
                    fail_msg("%s: sequence %u: other bits at %s, layer %u, position %u", how, i,
                             ds4_tap_table[t].name, il, p);
    assert_int_equal(a->n_step, b->n_step);
    if (memcmp(a->logits, b->logits, (size_t)a->n_step * n_vocab * sizeof *a->logits))
        fail_msg("%s: sequence %u: other logits", how, i);
}

/* ---- runs ---- */

typedef struct bench {
    ds4_engine *e;
    ds4_plan *plan;
    uint32_t n_vocab;
    ds4_session *s[N_SEQ];
    trace *t[N_SEQ];
} bench;

static void bench_open(bench *b, const char *engine, const char *plan) {
    ds4_err err;
    memset(b, 0, sizeof *b);
    b->e = test_engine(engine, MODEL);
    b->n_vocab = ds4_engine_config(b->e)->n_vocab;
    test_ok(ds4_engine_plan(b->e, &b->plan, &err), &err);
    test_ok(ds4_plan_named(b->plan, plan, &err), &err);
}

/* New sessions; those of the bits of `watch` are observed at every tap. */
static void bench_begin(bench *b, uint32_t watch) {
    ds4_err err;
    for (uint32_t i = 0; i < N_SEQ; i++) {
        b->t[i] = calloc(1, sizeof *b->t[i]);
        b->t[i]->logits = calloc((size_t)CTX * b->n_vocab, sizeof(float));
        assert_non_null(b->t[i]->logits);
        test_ok(ds4_session_new(&b->s[i], b->e, b->plan, CTX, CHUNK, &err), &err);
        b->t[i]->watched = watch >> i & 1u;
        if (b->t[i]->watched)
            ds4_session_observe(b->s[i], &(ds4_observer){wants, see, NULL, NULL, b->t[i]});
    }
}

static void bench_end(bench *b) {
    for (uint32_t i = 0; i < N_SEQ; i++) ds4_session_free(b->s[i]), b->s[i] = NULL;
}

static void drop(trace *t[N_SEQ]) {
    for (uint32_t i = 0; i < N_SEQ; i++) free(t[i]->logits), free(t[i]), t[i] = NULL;
}

static void bench_close(bench *b) {
    ds4_plan_free(b->plan);
    ds4_engine_close(b->e);
}

static void keep_logits(bench *b, uint32_t i) {
    memcpy(b->t[i]->logits + (size_t)b->t[i]->n_step++ * b->n_vocab,
           ds4_session_logits(b->s[i]), b->n_vocab * sizeof(float));
}

static void run_alone(bench *b, uint32_t watch) {
    ds4_err err;
    bench_begin(b, watch);
    for (uint32_t i = 0; i < N_SEQ; i++) {
        test_ok(ds4_session_eval(b->s[i], text[i], shape[i].n_prefill, DS4_PREFILL, &err),
                &err);
        keep_logits(b, i);
        for (uint32_t k = 0; k < shape[i].n_decode; k++) {
            test_ok(ds4_session_eval(b->s[i], text[i] + shape[i].n_prefill + k, 1, DS4_DECODE,
                                     &err),
                    &err);
            keep_logits(b, i);
        }
    }
}

/* Sequence order[k] joins at step k * gap and leaves when it is done: prefills and decodes of
 * different sequences are in one pass. n_tok: room of a pass. */
static void run_together(bench *b, uint32_t watch, const uint32_t order[N_SEQ], uint32_t gap,
                         uint32_t n_tok) {
    ds4_group *g = NULL;
    ds4_err err;
    uint32_t n_done = 0;

    bench_begin(b, watch);
    test_ok(ds4_group_new(&g, b->e, b->plan, n_tok, &err), &err);
    for (uint32_t step = 0; n_done < N_SEQ; step++) {
        ds4_group_item item[N_SEQ];
        uint32_t who[N_SEQ], n = 0;
        for (uint32_t k = 0; k < N_SEQ; k++) {
            uint32_t i = order[k], at = ds4_session_n_tok(b->s[i]);
            if (step < k * gap || at == shape[i].n_prefill + shape[i].n_decode) continue;
            who[n] = i;
            item[n++] = (ds4_group_item){b->s[i], text[i] + at, at ? 1 : shape[i].n_prefill,
                                         at ? DS4_DECODE : DS4_PREFILL};
        }
        test_ok(ds4_group_eval(g, item, n, &err), &err);
        for (uint32_t k = 0; k < n; k++) {
            keep_logits(b, who[k]);
            n_done += b->t[who[k]]->n_step == shape[who[k]].n_decode + 1;
        }
    }
    ds4_group_free(g);
}

static void check_strict(const char *engine) {
    /* In the first run sequence 1 ends its prefill in a pass in which sequence 0 decodes: two
     * parts then want logits of some of the tokens. */
    static const uint32_t order[2][N_SEQ] = {{2, 0, 1}, {1, 2, 0}};
    static const struct {
        uint32_t watch, order, gap, n_tok;
        const char *how;
    } run[] = {{1, 0, 2, 200, "joining, one watched"},
               {0, 1, 0, 7, "at once, nobody watched, passes of 7"}};
    trace *alone[N_SEQ];
    bench b;

    bench_open(&b, engine, "strict");
    run_alone(&b, 1);
    bench_end(&b);
    memcpy(alone, b.t, sizeof alone);
    for (size_t k = 0; k < sizeof run / sizeof *run; k++) {
        run_together(&b, run[k].watch, order[run[k].order], run[k].gap, run[k].n_tok);
        for (uint32_t i = 0; i < N_SEQ; i++)
            assert_same(alone[i], b.t[i], b.n_vocab, run[k].how, i);
        bench_end(&b);
        drop(b.t);
    }
    drop(alone);
    bench_close(&b);
}

static void test_group_strict_bits_are_those_alone_on_ref(void **state) {
    (void)state;
    check_strict("ref");
}

static void test_group_strict_bits_are_those_alone_on_vulkan(void **state) {
    (void)state;
    if (!test_has_device()) skip();
    check_strict("vk");
}

static void test_group_bits_are_those_alone_on_ref64(void **state) {
    (void)state;
    static const uint32_t order[N_SEQ] = {1, 0, 2};
    trace *alone[N_SEQ];
    bench b;
    bench_open(&b, "ref64", "strict");
    run_alone(&b, 0);
    bench_end(&b);
    memcpy(alone, b.t, sizeof alone);
    run_together(&b, 0, order, 1, 48);
    for (uint32_t i = 0; i < N_SEQ; i++) assert_same(alone[i], b.t[i], b.n_vocab, "ref64", i);
    bench_end(&b);
    drop(b.t), drop(alone);
    bench_close(&b);
}

/* A statement, not a bound: which rows run depends on how many tokens a pass holds. */
static void test_group_fast_difference_is_measured(void **state) {
    (void)state;
    static const uint32_t order[N_SEQ] = {0, 1, 2};
    trace *alone[N_SEQ];
    bench b;
    double worst = 0.0, sum = 0.0, ref = 0.0;
    uint64_t n_differ = 0, n = 0;

    if (!test_has_device()) skip();
    bench_open(&b, "vk", "fast");
    run_alone(&b, 0);
    bench_end(&b);
    memcpy(alone, b.t, sizeof alone);
    run_together(&b, 0, order, 0, 64);
    for (uint32_t i = 0; i < N_SEQ; i++) {
        assert_int_equal(alone[i]->n_step, b.t[i]->n_step);
        for (uint32_t k = 0; k < alone[i]->n_step * b.n_vocab; k++, n++) {
            double x = (double)alone[i]->logits[k], d = (double)b.t[i]->logits[k] - x;
            assert_true(isfinite(d));
            n_differ += d != 0.0;
            if (fabs(d) > worst) worst = fabs(d);
            sum += d * d, ref += x * x;
        }
    }
    print_message(
        "fast rows, logits in a group against alone: max-abs %.3g, NRMSE %.3g, %llu of "
        "%llu differ\n",
        worst, sqrt(sum / ref), (unsigned long long)n_differ, (unsigned long long)n);
    bench_end(&b);
    drop(b.t), drop(alone);
    bench_close(&b);
}

static void test_group_refuses_what_it_cannot_evaluate(void **state) {
    (void)state;
    bench b, c;
    ds4_group *g = NULL;
    ds4_err err;
    int32_t wrong = -1;

    bench_open(&b, "ref", "strict"), bench_open(&c, "ref", "strict");
    bench_begin(&b, 0), bench_begin(&c, 0);
    assert_int_equal(ds4_group_new(&g, b.e, b.plan, 0, &err), DS4_ERR_USAGE);
    test_ok(ds4_plan_named(c.plan, "noise-order", &err), &err);
    assert_int_equal(ds4_group_new(&g, c.e, c.plan, 8, &err), DS4_ERR_USAGE);
    test_ok(ds4_group_new(&g, b.e, b.plan, 8, &err), &err);
    ds4_group_item twice[] = {{b.s[0], text[0], 2, DS4_PREFILL},
                              {b.s[0], text[0], 2, DS4_PREFILL}};
    assert_int_equal(ds4_group_eval(g, twice, 2, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "items 0 and 1"));
    ds4_group_item other[] = {{b.s[0], text[0], 2, DS4_PREFILL},
                              {c.s[1], text[0], 2, DS4_PREFILL}};
    assert_int_equal(ds4_group_eval(g, other, 2, &err), DS4_ERR_USAGE);
    ds4_group_item bad[] = {{b.s[0], text[0], 2, DS4_PREFILL}, {b.s[1], &wrong, 1, DS4_DECODE}};
    assert_int_equal(ds4_group_eval(g, bad, 2, &err), DS4_ERR_FORMAT);
    assert_int_equal(ds4_session_n_tok(b.s[0]), 0);
    ds4_group_item more = {b.s[0], text[0], CTX + 1, DS4_PREFILL};
    assert_int_equal(ds4_group_eval(g, &more, 1, &err), DS4_ERR_USAGE);
    test_ok(ds4_group_eval(g, NULL, 0, &err), &err);
    ds4_group_free(g);
    bench_end(&b), bench_end(&c);
    drop(b.t), drop(c.t);
    bench_close(&b), bench_close(&c);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_group_strict_bits_are_those_alone_on_ref),
        cmocka_unit_test(test_group_strict_bits_are_those_alone_on_vulkan),
        cmocka_unit_test(test_group_bits_are_those_alone_on_ref64),
        cmocka_unit_test(test_group_fast_difference_is_measured),
        cmocka_unit_test(test_group_refuses_what_it_cannot_evaluate),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
