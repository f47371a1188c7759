/* The reference engine against evaluations that nobody here computed: the float64 oracle of the
 * trained tiny models, and an existing CPU engine with float activations on a model of noise.
 * Bounds are those stated beside the data (fixtures/vectors/README.md), never widened here. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support.h"

/* The rows of a little-endian f32 .npy file of the version 1.0 that the oracle writes. */
static float *read_npy(const char *path, size_t n_want) {
    size_t n;
    char *bytes = test_read_file(path, &n);
    size_t head = 10 + (size_t)((unsigned char)bytes[8] | (unsigned char)bytes[9] << 8);
    assert_memory_equal(bytes, "\x93NUMPY\x01", 7);
    assert_non_null(strstr(bytes + 10, "'descr': '<f4'"));
    assert_int_equal(n - head, n_want * sizeof(float));
    float *v = malloc(n_want * sizeof *v);
    memcpy(v, bytes + head, n_want * sizeof *v);
    free(bytes);
    return v;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static double row_rms(const float *a, const float *b, size_t n) {
    double s = 0.0;
    for (size_t i = 0; i < n; i++)
        s += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
    return sqrt(s / (double)n);
}

/* Largest, second largest value and the index of the largest. */
static uint32_t top1(const float *v, uint32_t n, double *margin) {
    uint32_t best = 0;
    double second = -INFINITY;
    for (uint32_t i = 1; i < n; i++)
        if (v[i] > v[best]) best = i;
    for (uint32_t i = 0; i < n; i++)
        if (i != best && (double)v[i] > second) second = (double)v[i];
    *margin = (double)v[best] - second;
    return best;
}

typedef struct capture {
    float *logits, *state;
    uint32_t n_layer;
    const float *force; /* states to start every layer but the first from, or NULL */
    bool layer_first;   /* order of force: [layer][n_force] or [n_force][layer] */
    uint32_t n_force;
} capture;

static size_t state_row(const capture *c, uint32_t layer, uint32_t pos) {
    return c->layer_first ? (size_t)layer * c->n_force + pos : (size_t)pos * c->n_layer + layer;
}

static bool inject(void *user, uint32_t layer, uint32_t pos0, uint32_t n_row, uint32_t n_col,
                   float *state) {
    const capture *c = user;
    if (!c->force || !layer) return false;
    for (uint32_t i = 0; i < n_row; i++)
        memcpy(state + (size_t)i * n_col, c->force + state_row(c, layer - 1, pos0 + i) * n_col,
               n_col * sizeof *state);
    return true;
}

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    return tap == DS4_TAP_logits || tap == DS4_TAP_ffn_hc_out;
}

static bool see(void *user, const ds4_tap_event *e) {
    capture *c = user;
    size_t n = (size_t)e->n_row * e->n_col;
    if (e->tap == DS4_TAP_logits)
        memcpy(c->logits + (size_t)e->pos0 * e->n_col, e->data, n * 4);
    else if (c->state)
        for (uint32_t i = 0; i < e->n_row; i++)
            memcpy(c->state +
                       ((size_t)e->layer + (size_t)(e->pos0 + i) * c->n_layer) * e->n_col,
                   (const float *)e->data + (size_t)i * e->n_col, e->n_col * sizeof(float));
    return true;
}

/* Evaluates tokens and keeps all logits [n][V] and states [n][layer][4 D]; with `force` every
 * layer starts from the given states. */
static capture evaluate(ds4_engine *e, const int32_t *token, uint32_t n, const float *force,
                        bool layer_first) {
    const ds4_config *c = ds4_engine_config(e);
    capture cap = {malloc((size_t)n * c->n_vocab * 4),
                   malloc((size_t)n * c->n_layer * 4 * c->n_embd * 4),
                   c->n_layer,
                   force,
                   layer_first,
                   n};
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    ds4_err err;
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_session_new(&s, e, plan, n, 64, &err), &err);
    ds4_session_observe(
        s, &(ds4_observer){.wants = wants, .see = see, .inject = inject, .user = &cap});
    test_ok(ds4_session_eval(s, token, n, DS4_PREFILL, &err), &err);
    ds4_session_free(s);
    ds4_plan_free(plan);
    return cap;
}

typedef struct oracle_case {
    const char *name, *model;
    uint32_t n_tok;
    double median; /* of what plain f32 evaluation does, from manifest.json */
} oracle_case;

static const oracle_case cases[] = {
    {"italian_96", "ds4-tiny-q4k", 96, 3.2619160635786133e-06},
    {"code_64", "ds4-tiny-q4k", 64, 1.9213181742051224e-06},
    {"english_520", "ds4-tiny-q4k", 520, 7.525865489024946e-06},
    {"chat_number", "ds4-tiny-q4k", 17, 2.709298209027645e-06},
    {"code_64.q2", "ds4-tiny-q2", 64, 3.6582810802621963e-06},
};

static void check_oracle(const oracle_case *oc, bool expect_pass) {
    char path[256];
    snprintf(path, sizeof path, "fixtures/tiny/%s.gguf", oc->model);
    ds4_engine *e = test_engine("ref", path);
    const uint32_t V = ds4_engine_config(e)->n_vocab;
    int32_t *token;
    snprintf(path, sizeof path, "fixtures/vectors/oracle/%s.tokens", oc->name);
    assert_int_equal(test_read_tokens(path, &token), oc->n_tok);
    snprintf(path, sizeof path, "fixtures/vectors/oracle/%s.logits.npy", oc->name);
    float *want = read_npy(path, (size_t)oc->n_tok * V);
    capture got = evaluate(e, token, oc->n_tok, NULL, false);
    double *rms = malloc(oc->n_tok * sizeof *rms);
    uint32_t n_flip = 0;
    for (uint32_t t = 0; t < oc->n_tok; t++) {
        double margin, unused;
        rms[t] = row_rms(got.logits + (size_t)t * V, want + (size_t)t * V, V);
        uint32_t a = top1(want + (size_t)t * V, V, &margin),
                 b = top1(got.logits + (size_t)t * V, V, &unused);
        n_flip += a != b && margin > 0.05;
    }
    qsort(rms, oc->n_tok, sizeof *rms, by_value);
    double median = rms[oc->n_tok / 2];
    print_message(
        "%-12s logit rms median %.3g (bound %.3g) p90 %.3g max %.3g, top-1 flips past margin %u\n",
        oc->name, median, 10.0 * oc->median, rms[oc->n_tok * 9 / 10], rms[oc->n_tok - 1],
        n_flip);
    bool pass = median <= 10.0 * oc->median && n_flip == 0;
    assert_true(pass == expect_pass);
    free(rms), free(want), free(got.logits), free(got.state), free(token);
    ds4_engine_close(e);
}

static void test_oracle_logits_within_ten_times_f32(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) check_oracle(&cases[i], true);
}

/* The bound can fail: one variant that the model was not trained with breaks it. */
static void test_oracle_with_planted_variant_fails(void **state) {
    (void)state;
    setenv("DS4_KV_RAW_F32", "1", 1);
    check_oracle(&cases[0], false);
    unsetenv("DS4_KV_RAW_F32");
}

/* Median over positions of the rms of logit differences to the float64 evaluation. */
static double median_error(const oracle_case *oc, const float *want, const int32_t *token) {
    char path[256];
    snprintf(path, sizeof path, "fixtures/tiny/%s.gguf", oc->model);
    ds4_engine *e = test_engine("ref", path);
    const uint32_t V = ds4_engine_config(e)->n_vocab;
    capture got = evaluate(e, token, oc->n_tok, NULL, false);
    double *rms = malloc(oc->n_tok * sizeof *rms), median;
    for (uint32_t t = 0; t < oc->n_tok; t++)
        rms[t] = row_rms(got.logits + (size_t)t * V, want + (size_t)t * V, V);
    qsort(rms, oc->n_tok, sizeof *rms, by_value);
    median = rms[oc->n_tok / 2];
    free(rms), free(got.logits), free(got.state);
    ds4_engine_close(e);
    return median;
}

/* How much closer to the truth f32 activations are than int8 ones: the factors measured are
 * 1456 to 46787 (2837 on the longest text, left out here for its time); a tenth of the least
 * must remain. */
static void test_oracle_strict_is_closer_than_act_q8(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const oracle_case *oc = &cases[i];
        char path[256];
        int32_t *token;
        size_t n_vocab = 2048;
        if (oc->n_tok > 100) continue;
        snprintf(path, sizeof path, "fixtures/vectors/oracle/%s.tokens", oc->name);
        assert_int_equal(test_read_tokens(path, &token), oc->n_tok);
        snprintf(path, sizeof path, "fixtures/vectors/oracle/%s.logits.npy", oc->name);
        float *want = read_npy(path, (size_t)oc->n_tok * n_vocab);
        double strict = median_error(oc, want, token);
        setenv("DS4_ACT_Q8", "1", 1);
        double act = median_error(oc, want, token);
        unsetenv("DS4_ACT_Q8");
        print_message(
            "%-12s logit rms against float64: strict %.3g, DS4_ACT_Q8 %.3g: %.0f times\n",
            oc->name, strict, act, act / strict);
        assert_true(act / strict >= 145.0);
        free(want), free(token);
    }
}

static double layer_error(const float *a, const float *b, size_t n) {
    double d = 0.0, s = 0.0;
    for (size_t i = 0; i < n; i++) {
        d += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        s += (double)b[i] * (double)b[i];
    }
    return sqrt(d / s);
}

/* Each layer fed the given states: correct float32 engines differ by 1e-7 to 6e-7 per layer
 * (fixtures/vectors/README.md). */
static void check_layers(const char *model, const int32_t *token, uint32_t n_tok,
                         const float *want, bool layer_first) {
    ds4_engine *e = test_engine("ref", model);
    const uint32_t L = ds4_engine_config(e)->n_layer, width = 4 * ds4_engine_config(e)->n_embd;
    capture got = evaluate(e, token, n_tok, want, layer_first);
    for (uint32_t il = 0; il < L; il++) {
        double *err = malloc(n_tok * sizeof *err);
        for (uint32_t t = 0; t < n_tok; t++)
            err[t] = layer_error(got.state + ((size_t)t * L + il) * width,
                                 want + state_row(&got, il, t) * width, width);
        qsort(err, n_tok, sizeof *err, by_value);
        print_message("  layer %u: relative error median %.3g (bound 6e-7) p95 %.3g max %.3g\n",
                      il, err[n_tok / 2], err[n_tok * 95 / 100], err[n_tok - 1]);
        assert_true(err[n_tok / 2] <= 6e-7);
        free(err);
    }
    free(got.logits), free(got.state);
    ds4_engine_close(e);
}

static void test_oracle_boundaries_agree_by_layer(void **state) {
    (void)state;
    int32_t *token;
    uint32_t n = test_read_tokens("fixtures/vectors/oracle/italian_96.tokens", &token);
    float *want =
        read_npy("fixtures/vectors/oracle/italian_96.boundaries.npy", (size_t)6 * 96 * 1024);
    check_layers("fixtures/tiny/ds4-tiny-q4k.gguf", token, n, want, true);
    free(want), free(token);
}

static void test_peer_states_agree_by_layer(void **state) {
    (void)state;
    int32_t *token;
    size_t bytes;
    assert_int_equal(test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token), 288);
    float *want =
        (float *)(void *)test_read_file("fixtures/vectors/peer/actf.strict.hidden.f32", &bytes);
    assert_int_equal(bytes, (size_t)144 * 8 * 1024 * 4);
    check_layers("fixtures/vectors/peer/tiny-a-calm.gguf", token, 144, want, false);
    free(want), free(token);
}

/* Discrete choices of the peer at one (position, layer), and what became of them here. */
typedef struct decisions {
    const int32_t *expert; /* [288][8][2] */
    const float *weight;   /* [288][8][3]: two weights, then the gap to the best rejected */
    const int32_t
        *record; /* [759][13]: position, layer, rows, top_k, gap bits, 8 rows ascending */
    const capture *force;
    uint32_t n_expert, n_index, n_excused;
    double weight_err[144 * 8 * 2]; /* relative, where the experts are the same */
    uint32_t n_weight;
    int32_t chosen[64][2]; /* of the current batch */
} decisions;

static bool wants_decisions(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    return tap == DS4_TAP_router_sel || tap == DS4_TAP_router_hash ||
           tap == DS4_TAP_router_weight || tap == DS4_TAP_idx_sel;
}

/* model.md 7.1: sets are identical unless the margin is below 1e-5. */
static void excuse_or_fail(decisions *d, float gap, const char *what, uint32_t pos,
                           uint32_t layer) {
    if (!(gap < 1e-5f))
        fail_msg("%s differ at position %u, layer %u, with a margin of %g", what, pos, layer,
                 (double)gap);
    d->n_excused++;
}

static void check_experts(decisions *d, const int32_t *got, uint32_t i, uint32_t pos,
                          uint32_t layer) {
    const int32_t *want = d->expert + ((size_t)pos * 8 + layer) * 2;
    d->chosen[i][0] = got[0], d->chosen[i][1] = got[1];
    d->n_expert++;
    if (got[0] != want[0] || got[1] != want[1])
        excuse_or_fail(d, d->weight[((size_t)pos * 8 + layer) * 3 + 2], "experts", pos, layer);
}

static void check_weights(decisions *d, const float *got, uint32_t i, uint32_t pos,
                          uint32_t layer) {
    const int32_t *want = d->expert + ((size_t)pos * 8 + layer) * 2;
    const float *w = d->weight + ((size_t)pos * 8 + layer) * 3;
    for (int k = 0; k < 2 && d->chosen[i][0] == want[0] && d->chosen[i][1] == want[1]; k++)
        d->weight_err[d->n_weight++] = fabs((double)got[k] / (double)w[k] - 1.0);
}

static void check_index(decisions *d, const int32_t *got, uint32_t pos, uint32_t layer) {
    for (size_t r = 0; r < 759; r++) {
        const int32_t *rec = d->record + r * 13;
        float gap;
        if (rec[0] != (int32_t)pos || rec[1] != (int32_t)layer) continue;
        d->n_index++;
        memcpy(&gap, rec + 4, sizeof gap);
        if (memcmp(rec + 5, got, 8 * sizeof *got))
            excuse_or_fail(d, gap, "indexer rows", pos, layer);
        return;
    }
    fail_msg("the peer left no rows out at position %u, layer %u", pos, layer);
}

static bool see_decisions(void *user, const ds4_tap_event *e) {
    decisions *d = user;
    for (uint32_t i = 0; i < e->n_row; i++) {
        const int32_t *id = (const int32_t *)e->data + (size_t)i * e->n_col;
        if (e->tap == DS4_TAP_idx_sel) check_index(d, id, e->pos0 + i, e->layer);
        else if (e->tap == DS4_TAP_router_weight)
            check_weights(d, (const float *)e->data + (size_t)i * e->n_col, i, e->pos0 + i,
                          e->layer);
        else check_experts(d, id, i, e->pos0 + i, e->layer);
    }
    return true;
}

static bool inject_decisions(void *user, uint32_t layer, uint32_t pos0, uint32_t n_row,
                             uint32_t n_col, float *state) {
    decisions *d = user;
    capture c = *d->force;
    return inject(&c, layer, pos0, n_row, n_col, state);
}

static void test_peer_decisions_agree(void **state) {
    (void)state;
    int32_t *token;
    size_t n;
    ds4_err err;
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    ds4_engine *e = test_engine("ref", "fixtures/vectors/peer/tiny-a-calm.gguf");
    test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token);
    char *hidden = test_read_file("fixtures/vectors/peer/actf.strict.hidden.f32", &n);
    char *expert = test_read_file("fixtures/vectors/peer/actf.strict.experts.i32", &n);
    char *weight = test_read_file("fixtures/vectors/peer/actf.strict.expertw.f32", &n);
    char *record = test_read_file("fixtures/vectors/peer/actf.strict.index.rec", &n);
    assert_int_equal(n, 759 * 13 * 4);
    capture force = {.n_layer = 8, .force = (const float *)(void *)hidden, .n_force = 144};
    decisions d = {.expert = (const int32_t *)(void *)expert,
                   .weight = (const float *)(void *)weight,
                   .record = (const int32_t *)(void *)record,
                   .force = &force};
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_session_new(&s, e, plan, 144, 64, &err), &err);
    ds4_session_observe(s, &(ds4_observer){.wants = wants_decisions,
                                           .see = see_decisions,
                                           .inject = inject_decisions,
                                           .user = &d});
    test_ok(ds4_session_eval(s, token, 144, DS4_PREFILL, &err), &err);
    qsort(d.weight_err, d.n_weight, sizeof *d.weight_err, by_value);
    print_message(
        "  %u expert choices, %u row choices, %u excused by a margin below 1e-5; expert weights: relative"
        " error median %.3g (bound 6e-7), max %.3g\n",
        d.n_expert, d.n_index, d.n_excused, d.weight_err[d.n_weight / 2],
        d.weight_err[d.n_weight - 1]);
    assert_int_equal(d.n_expert, 144 * 8);
    assert_true(d.n_index > 100 && d.n_excused < 5);
    assert_true(d.weight_err[d.n_weight / 2] <= 6e-7);
    ds4_session_free(s), ds4_plan_free(plan), ds4_engine_close(e);
    free(token), free(hidden), free(expert), free(weight), free(record);
}

static void test_peer_logits_agree(void **state) {
    (void)state;
    ds4_engine *e = test_engine("ref", "fixtures/vectors/peer/tiny-a-calm.gguf");
    int32_t *token;
    size_t bytes;
    uint32_t n = test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token);
    capture got = evaluate(e, token, n, NULL, false);
    float *want =
        (float *)(void *)test_read_file("fixtures/vectors/peer/actf.strict.logits.f32", &bytes);
    assert_int_equal(bytes, (size_t)288 * 1024 * 4);
    double rms[288];
    for (uint32_t t = 0; t < n; t++)
        rms[t] = row_rms(got.logits + (size_t)t * 1024, want + (size_t)t * 1024, 1024);
    qsort(rms, n, sizeof *rms, by_value);
    /* What the peer's own two builds differ by (manifest.json, "actf: default vs strict"). */
    print_message("  peer logits: rms median %.3g (bound 3.8e-4) p95 %.3g max %.3g\n", rms[144],
                  rms[273], rms[287]);
    assert_true(rms[144] <= 3.8e-4);
    free(want), free(got.logits), free(got.state), free(token);
    ds4_engine_close(e);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_oracle_logits_within_ten_times_f32),
        cmocka_unit_test(test_oracle_with_planted_variant_fails),
        cmocka_unit_test(test_oracle_strict_is_closer_than_act_q8),
        cmocka_unit_test(test_oracle_boundaries_agree_by_layer),
        cmocka_unit_test(test_peer_states_agree_by_layer),
        cmocka_unit_test(test_peer_decisions_agree),
        cmocka_unit_test(test_peer_logits_agree),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
