/* The oracle engine: its bits against threads and chunks, its logits against the stored float64
 * evaluation that nobody here computed, and how far the reference is from it. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/ops/ops.h"
#include "tests/support.h"

/* ---- evaluations ---- */

enum { V = 2048 }; /* of the tiny models */

static bool wants_logits(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    return tap == DS4_TAP_logits;
}

static bool see_logits(void *user, const ds4_tap_event *e) {
    memcpy((float *)user + (size_t)e->pos0 * e->n_col, e->data,
           (size_t)e->n_row * e->n_col * sizeof(float));
    return true;
}

/* Logits of every position; edit may be "". Owns: the caller frees. */
static float *logits_of(ds4_engine *e, const int32_t *token, uint32_t n, const char *edit,
                        uint32_t n_chunk, ds4_phase phase) {
    float *logits = malloc((size_t)n * ds4_engine_config(e)->n_vocab * sizeof *logits);
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    ds4_err err;
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_plan_edit(plan, edit, &err), &err);
    test_ok(ds4_session_new(&s, e, plan, n, n_chunk, &err), &err);
    ds4_session_observe(
        s, &(ds4_observer){.wants = wants_logits, .see = see_logits, .user = logits});
    test_ok(ds4_session_eval(s, token, n, phase, &err), &err);
    ds4_session_free(s);
    ds4_plan_free(plan);
    return logits;
}

typedef struct input {
    const char *name, *model;
    uint32_t n_tok;  /* positions evaluated, from the start of the file */
    uint32_t n_same; /* positions from the start with the stored logits, see below */
} input;

/* The stored evaluation rounds cached rows to f16 by way of f32, and takes indexer rows with
 * equal scores in the order of its own sort; with the first imitated, only such a tie at the
 * indexer's cut parts us, and up to there logits are the same f32 (one of a million an ulp off,
 * where the f64 value lies between two). */
static const input inputs[] = {{"chat_number", "ds4-tiny-q4k", 17, 17},
                               {"code_64", "ds4-tiny-q4k", 64, 64},
                               {"code_64.q2", "ds4-tiny-q2", 64, 64},
                               {"italian_96", "ds4-tiny-q4k", 96, 68},
                               {"english_520", "ds4-tiny-q4k", 128, 95}};
enum { N_INPUT = sizeof inputs / sizeof *inputs };

static ds4_engine *open_tiny(const char *engine, const input *in, int32_t **token) {
    char path[256];
    snprintf(path, sizeof path, "fixtures/vectors/oracle/%s.tokens", in->name);
    assert_true(test_read_tokens(path, token) >= in->n_tok);
    snprintf(path, sizeof path, "fixtures/tiny/%s.gguf", in->model);
    return test_engine(engine, path);
}

/* Little-endian f32 .npy of version 1.0, as the stored evaluation writes it. */
static float *stored_logits(const input *in) {
    char path[256];
    size_t n, want = (size_t)in->n_tok * V * 4;
    snprintf(path, sizeof path, "fixtures/vectors/oracle/%s.logits.npy", in->name);
    char *bytes = test_read_file(path, &n);
    size_t head = 10 + (size_t)((unsigned char)bytes[8] | (unsigned char)bytes[9] << 8);
    assert_memory_equal(bytes, "\x93NUMPY\x01", 7);
    assert_true(n - head >= want);
    memmove(bytes, bytes + head, want);
    return (float *)(void *)bytes;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* rms of the logit difference of each position, sorted. n_same: positions from the start with
 * every logit within one ulp; n_ulp: logits of those that are one ulp off. */
typedef struct error {
    double median, p90, most;
    uint32_t n_same, n_ulp;
} error;

static error error_of(const float *a, const float *b, uint32_t n) {
    double *rms = malloc(n * sizeof *rms);
    error e = {.n_same = n};
    for (uint32_t t = 0; t < n; t++) {
        double s = 0.0;
        for (size_t i = (size_t)t * V; i < (size_t)(t + 1) * V; i++)
            s += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        rms[t] = sqrt(s / V);
        for (size_t i = (size_t)t * V; t < e.n_same && i < (size_t)(t + 1) * V; i++) {
            uint32_t d = ds4_ulp_distance(a[i], b[i]);
            if (d > 1) e.n_same = t;
            else e.n_ulp += d;
        }
    }
    qsort(rms, n, sizeof *rms, by_value);
    e.median = rms[n / 2], e.p90 = rms[n * 9 / 10], e.most = rms[n - 1];
    free(rms);
    return e;
}

/* ---- the engine's own promises ---- */

static void test_ref64_bits_do_not_depend_on_threads_or_chunks(void **state) {
    (void)state;
    static const uint32_t chunk[] = {1, 7, 96};
    int32_t *token;
    ds4_engine *one = open_tiny("ref64", &inputs[3], &token);
    uint32_t n = inputs[3].n_tok;
    float *want = logits_of(one, token, n, "", 1, DS4_DECODE);
    for (uint32_t n_thread = 1; n_thread <= 3; n_thread++) {
        ds4_engine *e = NULL;
        ds4_err err;
        ds4_engine_options o = {.engine = "ref64", .n_thread = n_thread, .device = -1};
        test_ok(ds4_engine_open(&e, "fixtures/tiny/ds4-tiny-q4k.gguf", &o, &err), &err);
        float *got = logits_of(e, token, n, "", chunk[n_thread - 1], DS4_PREFILL);
        if (memcmp(got, want, (size_t)n * V * 4))
            fail_msg("%u threads, chunks of %u differ from decode", n_thread,
                     chunk[n_thread - 1]);
        free(got);
        ds4_engine_close(e);
    }
    float *other = logits_of(one, token, n, "DS4_ROPE_EXP2_LOG2@0=1", 96, DS4_PREFILL);
    assert_true(memcmp(other, want, (size_t)n * V * 4) != 0); /* planted */
    free(other), free(want), free(token);
    ds4_engine_close(one);
}

static void test_ref64_buffers_hold_f64_and_speak_f32(void **state) {
    (void)state;
    ds4_backend *b = NULL;
    ds4_buf *f = NULL, *i = NULL;
    ds4_err err;
    float x[3] = {1.0f, -0x1.234568p-100f, INFINITY}, y[3] = {0};
    int32_t id[2] = {-7, 1 << 30}, got[2] = {0};
    ds4_engine_options o = {.engine = "ref64", .n_thread = 1};
    test_ok(ds4_backend_open(&b, &o, &err), &err);
    test_ok(b->ops->buf_new(b, &f, 16, DS4_TYPE_F32, &err), &err);
    test_ok(b->ops->buf_new(b, &i, 8, DS4_TYPE_I32, &err), &err);
    test_ok(b->ops->buf_write(b, f, 4, x, 12, &err), &err);
    test_ok(b->ops->buf_read(b, f, 4, y, 12, &err), &err);
    assert_memory_equal(x, y, sizeof x);
    test_ok(b->ops->buf_write(b, i, 0, id, 8, &err), &err);
    test_ok(b->ops->buf_read(b, i, 0, got, 8, &err), &err);
    assert_memory_equal(id, got, sizeof id);
    assert_int_equal(b->ops->buf_read(b, f, 8, y, 12, &err), DS4_ERR_INTERNAL);
    assert_int_equal(b->ops->buf_read(b, f, 2, y, 4, &err), DS4_ERR_INTERNAL);
    b->ops->buf_free(b, f), b->ops->buf_free(b, i);
    b->ops->close(b);
}

static void test_ref64_ledger_names_its_row(void **state) {
    (void)state;
    int32_t *token;
    ds4_err err;
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    ds4_engine *e = open_tiny("ref64", &inputs[0], &token);
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_plan_named(plan, "default", &err), &err);
    assert_int_equal(ds4_plan_named(plan, "compat", &err), DS4_ERR_USAGE);
    test_ok(ds4_plan_edit(plan, "DS4_STORE_EXACT=1; DS4_HC_STABLE=1", &err), &err);
    test_ok(ds4_session_new(&s, e, plan, 17, 17, &err), &err);
    test_ok(ds4_session_eval(s, token, 17, DS4_PREFILL, &err), &err);
    const ds4_ledger *l = ds4_session_ledger(s);
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++) {
        const ds4_ledger_entry *x = ds4_ledger_at(l, i);
        ds4_op op = ds4_tap_table[x->tap].op;
        bool stores = op == DS4_OP_kv_round || op == DS4_OP_index_round;
        assert_string_equal(x->row, "f64");
        /* A formula that is the same number in f64 is not exercised. */
        assert_int_equal(x->changed, stores ? DS4_VARIANT_BIT(STORE_EXACT) : 0);
    }
    assert_true(ds4_ledger_n(l) > 200);
    ds4_session_free(s), ds4_plan_free(plan), ds4_engine_close(e), free(token);
}

/* ---- against the stored evaluation ---- */

/* Stands before the engine's own call: what is about to be stored passes through f32, and
 * positions where equal scores stand on both sides of the indexer's cut are noted. */
static struct {
    const ds4_backend_ops *real;
    bool tie[520];
} spy;

static void note_tie(const struct ds4_args_index_topk *a, const float *score) {
    for (uint32_t t = 0; t < a->n_tok; t++, score += a->n_row) {
        uint32_t n = (a->pos0 + t + 1) / a->ratio;
        for (uint32_t i = 0; i < n;
             i++) { /* is row i the last to be taken, with an equal left? */
            uint32_t above = 0, equal = 0;
            for (uint32_t j = 0; j < n; j++)
                above += score[j] > score[i], equal += score[j] == score[i];
            bool cut = above < a->k && above + equal > a->k;
            if (cut) spy.tie[a->pos0 + t] = true;
        }
    }
}

static ds4_status spy_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_op op = ds4_tap_table[c->tap].op;
    if (op == DS4_OP_kv_round || op == DS4_OP_index_topk) {
        const struct ds4_args_index_topk *a = c->args;
        size_t bytes = (op == DS4_OP_kv_round ? c->n_elem : (uint64_t)a->n_tok * a->n_row) * 4;
        float *x = malloc(bytes);
        test_ok(spy.real->buf_read(b, c->bind[0], 0, x, bytes, err), err);
        if (op == DS4_OP_index_topk) note_tie(a, x);
        else test_ok(spy.real->buf_write(b, c->bind[0], 0, x, bytes, err), err);
        free(x);
    }
    return spy.real->call(b, c, row, err);
}

static void test_ref64_has_the_bits_of_the_stored_evaluation(void **state) {
    (void)state;
    for (int i = 0; i < N_INPUT; i++) {
        const input *in = &inputs[i];
        int32_t *token;
        ds4_engine *e = open_tiny("ref64", in, &token);
        ds4_backend *b = ds4_engine_backend(e);
        ds4_backend_ops ops = *b->ops;
        memset(&spy, 0, sizeof spy);
        spy.real = b->ops, ops.call = spy_call, b->ops = &ops;
        float *want = stored_logits(in),
              *got = logits_of(e, token, in->n_tok, "", 64, DS4_PREFILL);
        b->ops = spy.real;
        error r = error_of(got, want, in->n_tok);
        uint32_t n_tie = 0;
        for (uint32_t t = 0; t < in->n_tok; t++) n_tie += spy.tie[t];
        print_message(
            "  %-12s the first %u of %u positions are the same (%u logits by an ulp); %u "
            "ties; rms median %.3g max %.3g\n",
            in->name, r.n_same, in->n_tok, r.n_ulp, n_tie, r.median, r.most);
        assert_int_equal(r.n_same, in->n_same);
        assert_true(r.n_ulp <= 1);
        if (r.n_same < in->n_tok) assert_true(spy.tie[r.n_same]); /* and why it ends there */
        free(want), free(got), free(token);
        ds4_engine_close(e);
    }
}

/* ---- the reference against it ---- */

/* How far `edit` takes ref from ref64 on an input; both with `both`. */
static error true_error(const input *in, const char *edit, const char *both) {
    int32_t *token, *again;
    char all[128];
    ds4_engine *a = open_tiny("ref", in, &token), *b = open_tiny("ref64", in, &again);
    snprintf(all, sizeof all, "%s; %s", both, edit);
    float *got = logits_of(a, token, in->n_tok, all, 64, DS4_PREFILL),
          *want = logits_of(b, token, in->n_tok, both, 64, DS4_PREFILL);
    error r = error_of(got, want, in->n_tok);
    free(got), free(want), free(token), free(again);
    ds4_engine_close(a), ds4_engine_close(b);
    return r;
}

/* With storage roundings out of the way nothing can jump: pure f32 rounding. */
static void test_ref_is_near_ref64_where_nothing_is_stored_rounded(void **state) {
    (void)state;
    for (int i = 0; i < 4; i++) {
        error r = true_error(&inputs[i], "", "DS4_STORE_EXACT=1");
        print_message("  %-12s logit rms median %.3g (bound 1e-6) p90 %.3g max %.3g\n",
                      inputs[i].name, r.median, r.p90, r.most);
        assert_true(r.median <= 1e-6 && r.most <= 5e-6);
        assert_true(r.n_same < inputs[i].n_tok); /* two engines, not one */
    }
    error rounded = true_error(&inputs[0], "DS4_STORE_EXACT=0", "DS4_STORE_EXACT=1");
    assert_true(rounded.median > 1e-4); /* planted: one side rounds what it stores */
}

/* As stored. Ten times what plain f32 does to the stored evaluation at the median
 * (manifest.json), as in test_oracle.c; and how much coarser activations of 8 bits are, where a
 * variant has them. */
static void test_ref_is_near_ref64(void **state) {
    (void)state;
    static const double f32_median[] = {2.71e-6, 1.93e-6, 3.66e-6, 3.27e-6};
    bool has_q8 = ds4_variant_find("DS4_ACT_Q8") >= 0;
    for (int i = 0; i < 4; i++) {
        error r = true_error(&inputs[i], "", "");
        print_message("  %-12s logit rms median %.3g (bound %.3g) p90 %.3g max %.3g\n",
                      inputs[i].name, r.median, 10.0 * f32_median[i], r.p90, r.most);
        assert_true(r.median <= 10.0 * f32_median[i]);
        if (!has_q8) continue;
        error q = true_error(&inputs[i], "DS4_ACT_Q8=1", "");
        print_message("  %-12s with DS4_ACT_Q8 %.3g: %.0f times as far\n", "", q.median,
                      q.median / r.median);
        assert_true(q.median > r.median);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ref64_bits_do_not_depend_on_threads_or_chunks),
        cmocka_unit_test(test_ref64_buffers_hold_f64_and_speak_f32),
        cmocka_unit_test(test_ref64_ledger_names_its_row),
        cmocka_unit_test(test_ref64_has_the_bits_of_the_stored_evaluation),
        cmocka_unit_test(test_ref_is_near_ref64_where_nothing_is_stored_rounded),
        cmocka_unit_test(test_ref_is_near_ref64),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
