/* Noise in the reference: rounding is unbiased, orders are orders, and both replay: a seed
 * gives its bits whatever the threads and chunks, and any layer alone. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"
#include "engine/ref/noise.h"
#include "engine/ref/ref.h"
#include "engine/ref/rows.h"
#include "tests/support.h"

/* ---- statistics ---- */

/* Distance of the mean of n values from `want` in standard errors of the mean, or of what a
 * single rounding of 1e-3 of `ulp` would leave, whichever is larger. */
static double standard_errors(const float *v, size_t n, size_t stride, double want,
                              double ulp) {
    double sum = 0.0, square = 0.0;
    for (size_t i = 0; i < n; i++) {
        double d = ((double)v[i * stride] - want) / ulp;
        sum += d, square += d * d;
    }
    double mean = sum / (double)n, var = square / (double)n - mean * mean;
    double se = sqrt((var > 0.0 ? var : 0.0) / (double)n);
    return fabs(mean) / (se > 1e-3 ? se : 1e-3);
}

/* Of that many means of fair roundings one in 10^5 would stand further out. */
#define MOST_SE 5.0

static double ulp_of(double x) { return ldexp(1.0, ilogb(x) - 23); }

enum { N_DRAW = 100000 };

static void test_noise_round_is_unbiased(void **state) {
    (void)state;
    static const double values[] = {1.0 + 0x1p-25, 1.0 + 0x1.8p-24, 2.0 - 0x1p-26,
                                    -1.0 / 3.0,    0x1.fffffffp9,   1e-20 / 7.0,
                                    -12345.678901, 0x1.000001p-100, -0x1.23456789abcp60};
    float *v = malloc(N_DRAW * sizeof *v), *bad = malloc(N_DRAW * sizeof *bad);
    double worst = 0.0;
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        double x = values[i], ulp = ulp_of(x), slip = fabs(x) + ldexp(ulp, -6);
        ds4_noise k = {.key = i + 1}, l = k;
        for (size_t d = 0; d < N_DRAW; d++) {
            v[d] = ds4_noise_round(&k, x);
            bad[d] = ds4_noise_round(&l, copysign(slip, x)); /* planted: up by 1/64 ulp */
            double off = (double)v[d] - x;
            assert_true(fabs(off) < ulp && v[d] != 0.0f);
        }
        double se = standard_errors(v, N_DRAW, 1, x, ulp);
        worst = se > worst ? se : worst;
        assert_true(se < MOST_SE);
        assert_true(standard_errors(bad, N_DRAW, 1, x, ulp) > MOST_SE);
        for (size_t d = 0; d < N_DRAW; d++) bad[d] = (float)x; /* planted: to nearest */
        assert_true(standard_errors(bad, N_DRAW, 1, x, ulp) > MOST_SE);
    }
    print_message("  worst mean %.2f standard errors out (limit %.0f)\n", worst, MOST_SE);
    free(v), free(bad);
}

static void test_noise_round_keeps_what_is_exact(void **state) {
    (void)state;
    static const float exact[] = {0.0f, 1.0f, -1.5f, 0x1.fffffep127f, 0x1p-126f, INFINITY};
    ds4_noise k = {.key = 1};
    for (size_t i = 0; i < sizeof exact / sizeof *exact; i++)
        assert_true(ds4_noise_round(&k, (double)exact[i]) == exact[i]);
    assert_true(isnan(ds4_noise_round(&k, NAN)));
    uint32_t n_up = 0;
    for (int i = 0; i < 1000; i++) n_up += isinf(ds4_noise_round(&k, 0x1.ffffffp127));
    assert_true(n_up > 400 && n_up < 600); /* past the largest f32 */
}

/* One row's outputs over n_row equal rows of input: each row of the text draws anew. */
static void run_row(const char *row, ds4_op op, ds4_ref_call *c, uint32_t n_col) {
    uint32_t grid[3];
    c->n_col = n_col;
    c->noise_key = ds4_rng_key(7, "test", 0);
    ds4_op_grid(op, c->args, grid);
    ds4_ref_row_find(op, row)->run(c, (ds4_box){0, grid[0], 0, grid[1]});
}

enum { N_ROW = 4000, N_IN = 96, N_OUT = 8 };

/* Products and sums of a whole dot product, and the halves that are stored. */
static void test_noise_rows_are_unbiased(void **state) {
    (void)state;
    static float w[N_OUT * N_IN], x[N_ROW * N_IN], y[N_ROW * N_OUT], half[N_ROW * 64];
    for (int i = 0; i < N_OUT * N_IN; i++) w[i] = (float)(ds4_rng_bell(1, (uint64_t)i)) / 97.0f;
    for (int i = 0; i < N_ROW * N_IN; i++)
        x[i] = (float)(ds4_rng_bell(2, (uint64_t)(i % N_IN))) / 103.0f;
    struct ds4_args_matmul a = {N_ROW, N_IN, N_OUT, N_IN * 4, N_IN, N_OUT};
    ds4_ref_call c = {.args = &a, .bind = {w, x, y}, .wtype = DS4_QUANT_F32};
    double worst = 0.0, biased = 0.0;
    run_row("sround", DS4_OP_matmul, &c, N_OUT);
    for (int r = 0; r < N_OUT; r++) {
        double want = 0.0;
        for (int i = 0; i < N_IN; i++) want += (double)w[r * N_IN + i] * (double)x[i];
        double se = standard_errors(y + r, N_ROW, N_OUT, want, ulp_of(want));
        worst = se > worst ? se : worst;
    }
    print_message("  dots: worst mean %.2f standard errors out (limit %.0f)\n", worst, MOST_SE);
    assert_true(worst < MOST_SE);
    ds4_op_reference(DS4_OP_matmul, &c,
                     (ds4_box){0, N_OUT, 0, N_ROW}); /* planted: to nearest */
    for (int r = 0; r < N_OUT; r++) {
        double want = 0.0;
        for (int i = 0; i < N_IN; i++) want += (double)w[r * N_IN + i] * (double)x[i];
        double se = standard_errors(y + r, N_ROW, N_OUT, want, ulp_of(want));
        biased = se > biased ? se : biased;
    }
    assert_true(biased > MOST_SE);

    for (int i = 0; i < N_ROW * 64; i++)
        half[i] = ldexpf((float)ds4_rng_bell(3, (uint64_t)(i % 64)) / 991.0f, i % 64 % 7 - 12);
    struct ds4_args_kv_round k = {N_ROW, 64, 0};
    static float stored[N_ROW * 64];
    ds4_ref_call d = {.args = &k, .bind = {half, stored}};
    run_row("sround", DS4_OP_kv_round, &d, 64);
    worst = biased = 0.0;
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < 64; i++) {
            double step = fmax(ldexp(1.0, ilogb(half[i]) - 10), 0x1p-24);
            double se = standard_errors(stored + i, N_ROW, 64, (double)half[i], step);
            double *to = round ? &biased : &worst;
            *to = se > *to ? se : *to;
        }
        ds4_op_reference(DS4_OP_kv_round, &d, (ds4_box){0, 1, 0, N_ROW}); /* planted */
    }
    print_message("  halves: worst mean %.2f standard errors out\n", worst);
    assert_true(worst < MOST_SE && biased > MOST_SE);
}

/* ---- orders ---- */

static void test_noise_perm_visits_every_term_once(void **state) {
    (void)state;
    uint32_t seen[300] = {0}, n_identity = 0;
    for (uint32_t n = 1; n < 300; n++) {
        ds4_noise k = {.key = n};
        ds4_noise_perm p = ds4_noise_perm_of(&k, n);
        for (uint32_t i = 0; i < n; i++) {
            uint32_t at = ds4_noise_perm_at(&p, i);
            assert_true(at < n && seen[at] != n);
            seen[at] = n;
        }
        n_identity += n > 2 && p.first == 0 && p.stride == 1;
    }
    assert_true(n_identity < 5);
}

static void test_noise_dot_is_a_sum_in_many_orders(void **state) {
    (void)state;
    float a[257], b[257], first = 0.0f;
    double want = 0.0, size = 0.0;
    uint32_t n_other = 0;
    for (int i = 0; i < 257; i++) {
        a[i] = (float)ds4_rng_bell(4, (uint64_t)i) / 97.0f;
        b[i] = (float)ds4_rng_bell(5, (uint64_t)i) / 97.0f;
        want += (double)a[i] * (double)b[i], size += fabs((double)a[i] * (double)b[i]);
    }
    for (uint64_t key = 0; key < 500; key++) {
        ds4_noise k = {.key = key}, again = k;
        float y = ds4_noise_dot(&k, a, b, 257);
        assert_true(y == ds4_noise_dot(&again, a, b, 257));
        assert_true(fabs((double)y - want) <= size * 257.0 * 0x1p-24);
        if (!key) first = y;
        n_other += y != first;
        for (uint32_t n = 0; n < 20;
             n++) { /* exact sums: every term once, whatever the order */
            float c[20], one[20], sum = 0.0f;
            for (uint32_t i = 0; i < n; i++)
                c[i] = (float)(1u << i), one[i] = 1.0f, sum += c[i];
            assert_true(ds4_noise_dot(&k, c, one, n) == sum);
        }
    }
    print_message("  %u of 500 orders differ from the first\n", n_other);
    assert_true(n_other > 100);
}

/* ---- evaluations ---- */

static const char model[] = "fixtures/vectors/peer/tiny-a-calm.gguf";
enum { N_TOK = 40, SHORT = 9 }; /* the indexer leaves rows out from position 35 on */

typedef struct trace {
    int only;                                /* layer whose taps are kept, -1: all */
    bool keep_states;                        /* what enters each layer */
    uint32_t n;                              /* events */
    uint64_t hash[DS4_TAP_COUNT][16][N_TOK]; /* per row of the text */
    float *states;                           /* [layer][N_TOK][n_col] */
    float *logits;
    int from; /* layer to start from `states`, -1: none */
} trace;

static int32_t *token;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    const trace *t = user;
    (void)tap;
    return t->only < 0 || layer == (uint32_t)t->only;
}

static bool see(void *user, const ds4_tap_event *e) {
    trace *t = user;
    uint32_t layer = e->layer == DS4_NO_LAYER ? 15 : e->layer;
    for (uint32_t i = 0; i < e->n_row; i++) {
        const float *row = (const float *)e->data + (size_t)i * e->n_col;
        uint32_t pos = e->pos0 + i * e->pos_step;
        t->hash[e->tap][layer][pos] = XXH3_64bits(row, e->n_col * 4);
        if (t->keep_states && e->tap == DS4_TAP_ffn_hc_out)
            memcpy(t->states + ((size_t)layer * N_TOK + pos) * e->n_col, row, e->n_col * 4);
        if (t->logits && e->tap == DS4_TAP_logits)
            memcpy(t->logits + (size_t)pos * e->n_col, row, e->n_col * 4);
    }
    t->n++;
    return true;
}

static bool inject(void *user, uint32_t layer, uint32_t pos0, uint32_t n_row, uint32_t n_col,
                   float *state) {
    const trace *t = user;
    if (t->from < 1 || layer != (uint32_t)t->from) return false;
    memcpy(state, t->states + ((size_t)(layer - 1) * N_TOK + pos0) * n_col,
           (size_t)n_row * n_col * 4);
    return true;
}

static ds4_engine *open_ref(uint32_t n_thread, uint64_t seed) {
    ds4_engine *e = NULL;
    ds4_err err;
    ds4_engine_options o = {
        .engine = "ref", .n_thread = n_thread, .noise_seed = seed, .device = -1};
    test_ok(ds4_engine_open(&e, model, &o, &err), &err);
    return e;
}

/* Evaluates the first n_tok ids under edits of the strict plan; n_chunk 0: by decode. */
static void evaluate(ds4_engine *e, const char *edits, uint32_t n_tok, uint32_t n_chunk,
                     trace *t) {
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    ds4_err err;
    memset(t->hash, 0, sizeof t->hash);
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_plan_edit(plan, edits, &err), &err);
    test_ok(ds4_session_new(&s, e, plan, N_TOK, n_chunk ? n_chunk : 1, &err), &err);
    ds4_session_observe(
        s, &(ds4_observer){.wants = wants, .see = see, .inject = inject, .user = t});
    test_ok(ds4_session_eval(s, token, n_tok, n_chunk ? DS4_PREFILL : DS4_DECODE, &err), &err);
    ds4_session_free(s);
    ds4_plan_free(plan);
}

static trace *new_trace(void) {
    trace *t = calloc(1, sizeof *t);
    t->only = t->from = -1;
    return t;
}

static void free_trace(trace *t) { free(t->states), free(t->logits), free(t); }

/* An edit naming a row that some ops lack is an error for one op, not for `*`. */
static const char *const plans[] = {"*=order", "*=sround"};

static void test_noise_bits_do_not_depend_on_threads_or_chunks(void **state) {
    (void)state;
    static const uint32_t chunk[] = {7, N_TOK};
    trace *want = new_trace(), *got = new_trace();
    for (int p = 0; p < 2; p++) {
        ds4_engine *e = open_ref(1, 9);
        evaluate(e, plans[p], N_TOK, 0, want);
        ds4_engine_close(e);
        for (uint32_t n_thread = 2; n_thread <= 3; n_thread++) {
            e = open_ref(n_thread, 9);
            evaluate(e, plans[p], N_TOK, chunk[n_thread - 2], got);
            if (memcmp(want->hash, got->hash, sizeof want->hash))
                fail_msg("%s: %u threads, chunks of %u differ from decode", plans[p], n_thread,
                         chunk[n_thread - 2]);
            ds4_engine_close(e);
        }
    }
    free_trace(want), free_trace(got);
}

static void test_noise_seeds_differ_and_repeat(void **state) {
    (void)state;
    trace *a = new_trace(), *b = new_trace(), *strict = new_trace();
    ds4_engine *e = open_ref(2, 1), *f = open_ref(2, 2);
    evaluate(e, "", SHORT, 5, strict);
    for (int p = 0; p < 2; p++) {
        evaluate(e, plans[p], SHORT, 5, a);
        evaluate(f, plans[p], SHORT, 5, b);
        assert_true(memcmp(a->hash, b->hash, sizeof a->hash) != 0);
        assert_true(memcmp(a->hash, strict->hash, sizeof a->hash) != 0);
        /* The embedding holds decoded weights: nothing to perturb. */
        assert_memory_equal(a->hash[DS4_TAP_embed], b->hash[DS4_TAP_embed], sizeof a->hash[0]);
        ds4_ref_set_noise_seed(ds4_engine_backend(f), 1);
        evaluate(f, plans[p], SHORT, 5, b);
        assert_memory_equal(a->hash, b->hash, sizeof a->hash);
        ds4_ref_set_noise_seed(ds4_engine_backend(f), 2);
    }
    evaluate(f, "", SHORT, 5, b); /* strict rows do not look at it */
    assert_memory_equal(b->hash, strict->hash, sizeof b->hash);
    ds4_engine_close(e), ds4_engine_close(f);
    free_trace(a), free_trace(b), free_trace(strict);
}

/* The whole run with noise, then one layer alone: the others strict, and its input given. */
static void test_noise_layer_replays_alone(void **state) {
    (void)state;
    trace *whole = new_trace(), *alone = new_trace();
    ds4_engine *e = open_ref(2, 3);
    const ds4_config *c = ds4_engine_config(e);
    size_t states = (size_t)c->n_layer * N_TOK * 4 * c->n_embd * sizeof(float);
    whole->states = malloc(states), alone->states = malloc(states);
    whole->keep_states = true;
    for (int p = 0; p < 2; p++) {
        evaluate(e, plans[p], N_TOK, 30, whole);
        memcpy(alone->states, whole->states, states);
        for (uint32_t layer = 2; layer < 3; layer++) { /* one with an indexer */
            char edit[32];
            snprintf(edit, sizeof edit, "*@%u=%s", layer, plans[p] + 2);
            alone->only = alone->from = (int)layer;
            evaluate(e, edit, N_TOK, N_TOK, alone);
            uint32_t n_row = 0;
            for (int t = 0; t < DS4_TAP_COUNT; t++)
                for (uint32_t pos = 0; pos < N_TOK; pos++) {
                    uint64_t w = whole->hash[t][layer][pos], g = alone->hash[t][layer][pos];
                    if (w != g)
                        fail_msg("%s: layer %u alone differs at %s, position %u", plans[p],
                                 layer, ds4_tap_table[t].name, pos);
                    n_row += w != 0;
                }
            assert_true(n_row > 30 * N_TOK);
            alone->from = -1; /* planted: from the strict layers' own state */
            evaluate(e, edit, N_TOK, N_TOK, alone);
            assert_true(memcmp(whole->hash[DS4_TAP_ffn_hc_out][layer],
                               alone->hash[DS4_TAP_ffn_hc_out][layer],
                               sizeof whole->hash[0][0]) != 0);
        }
    }
    ds4_engine_close(e);
    free_trace(whole), free_trace(alone);
}

/* ---- rows against strict ---- */

static struct {
    const ds4_backend_ops *real;
    const char *row;
    double diff[DS4_OP_COUNT], size[DS4_OP_COUNT]; /* sums of squares */
    uint64_t n_call[DS4_OP_COUNT];
} spy;

static ds4_status spy_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_op op = ds4_tap_table[c->tap].op;
    size_t bytes = (size_t)c->n_elem * sizeof(float);
    ds4_buf *out = c->bind[c->n_bind - 1];
    const char *name = spy.real->row(b, op, row)->name;

    assert_string_equal(name, ds4_ref_row_find(op, spy.row) ? spy.row : "strict");
    spy.n_call[op]++;
    if (!row) return spy.real->call(b, c, row, err);
    float *x = malloc(bytes), *y = malloc(bytes);
    test_ok(spy.real->call(b, c, 0, err), err);
    test_ok(spy.real->buf_read(b, out, 0, x, bytes, err), err);
    test_ok(spy.real->call(b, c, row, err), err);
    test_ok(spy.real->buf_read(b, out, 0, y, bytes, err), err);
    for (uint64_t i = 0; i < c->n_elem; i++) {
        if (x[i] < -1e29f && y[i] < -1e29f) continue; /* rows that a token may not see */
        spy.diff[op] += ((double)x[i] - (double)y[i]) * ((double)x[i] - (double)y[i]);
        spy.size[op] += (double)x[i] * (double)x[i];
    }
    free(x), free(y);
    return DS4_OK;
}

static void test_noise_rows_keep_their_bounds(void **state) {
    (void)state;
    trace *t = new_trace();
    for (int p = 0; p < 2; p++) {
        ds4_engine *e = open_ref(2, 4);
        ds4_backend *b = ds4_engine_backend(e);
        ds4_backend_ops ops = *b->ops;
        memset(&spy, 0, sizeof spy);
        spy.real = b->ops, spy.row = plans[p] + 2, ops.call = spy_call, b->ops = &ops;
        evaluate(e, plans[p], N_TOK, 30, t);
        b->ops = spy.real;
        for (int op = 0; op < DS4_OP_COUNT; op++) {
            const ds4_ref_row *row = ds4_ref_row_find((ds4_op)op, spy.row);
            double bound, nrmse = sqrt(spy.diff[op] / spy.size[op]);
            if (!row) continue;
            assert_int_equal(sscanf(row->info.bound, "NRMSE(%lf)", &bound), 1);
            print_message("  %-14s %-7s nrmse %.2g of %.0e  %s\n", ds4_op_table[op].name,
                          spy.row, nrmse, bound, row->info.cause);
            assert_true(spy.n_call[op] > 0 && nrmse <= bound);
            /* FP4 takes noise in; sums of its values, and of two, are exact or have one order.
             */
            bool exact = op == DS4_OP_index_round ||
                         (!p && (op == DS4_OP_index_score || op == DS4_OP_slot_sum ||
                                 op == DS4_OP_router_weight));
            assert_true(exact || nrmse > 0.0);
        }
        ds4_engine_close(e);
    }
    free_trace(t);
}

static int setup(void **state) {
    (void)state;
    return test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token) >= N_TOK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    free(token);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_noise_round_is_unbiased),
        cmocka_unit_test(test_noise_round_keeps_what_is_exact),
        cmocka_unit_test(test_noise_rows_are_unbiased),
        cmocka_unit_test(test_noise_perm_visits_every_term_once),
        cmocka_unit_test(test_noise_dot_is_a_sum_in_many_orders),
        cmocka_unit_test(test_noise_bits_do_not_depend_on_threads_or_chunks),
        cmocka_unit_test(test_noise_seeds_differ_and_repeat),
        cmocka_unit_test(test_noise_layer_replays_alone),
        cmocka_unit_test(test_noise_rows_keep_their_bounds),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
