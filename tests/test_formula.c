/* engine/ref/formula.h with the plain arithmetic of the bit contract gives the bits of
 * engine/ops/<op>.c, for every call of whole evaluations: then what order, sround and f64
 * compute differs from the contract by their arithmetic alone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/ops/ops.h"

typedef int arith;
typedef uint32_t perm;
static int planted; /* 1: dots from the left; 2: other sums backwards */

#define NUM float
#define ROW(op) plain_##op
#define begin(c, e) ((void)(e), 0)
#define perm_of(k, n) ((void)(k), (n))
static inline uint32_t perm_at(const perm *n, uint32_t i) {
    return planted == 2 ? *n - 1 - i : i;
}
static inline float dot(int *k, const float *a, const float *b, uint32_t n) {
    float sum = 0.0f;
    (void)k;
    if (planted != 1) return ds4_dot16(a, b, n);
    for (uint32_t i = 0; i < n; i++) sum = sum + a[i] * b[i];
    return sum;
}
#include "engine/ref/plain.h"

#include "engine/ref/formula.h"

#include "tests/support.h"

static const ds4_ref_fn plain[DS4_OP_COUNT] = {
#define OP(stem, n_in, scratch, equation) [DS4_OP_##stem] = plain_##stem,
#include "engine/ops/ops.def"
#undef OP
};

/* Stands before the engine's own call: repeats each call by the formula, on the same memory,
 * and compares what both leave in the output. */
static struct {
    const ds4_backend_ops *real;
    uint64_t n_call[DS4_OP_COUNT], n_differ[DS4_OP_COUNT];
} spy;

/* The memory of a buffer of ref: what its first member points to. */
static void *memory(const ds4_buf *b) {
    void *p = NULL;
    if (b) memcpy(&p, b, sizeof p);
    return p;
}

static ds4_status spy_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_op op = ds4_tap_table[c->tap].op;
    uint32_t grid[3], out = c->n_bind - 1;
    ds4_ref_call rc = {.args = c->args, .wtype = c->wtype, .variants = c->variants};
    size_t bytes = c->n_elem * 4;

    test_ok(spy.real->call(b, c, row, err), err);
    for (uint32_t i = 0; i < c->n_bind; i++)
        if (c->bind[i]) rc.bind[i] = (char *)memory(c->bind[i]) + c->view[i].off;
    if (op == DS4_OP_row_store) { /* its output is a ring */
        const struct ds4_args_row_store *a = c->args;
        bytes = (size_t)a->cap * a->n_col * 4;
    }
    /* What the formula does not write must not pass: it starts from the bits of a NaN. */
    void *want = rc.bind[out];
    uint32_t *got = malloc(bytes);
    for (size_t i = 0; i < bytes / 4; i++) got[i] = 0x7fc5a5a5u;
    if (op == DS4_OP_row_store) memcpy(got, want, bytes);
    rc.bind[out] = got;
    ds4_op_grid(op, c->args, grid);
    plain[op](&rc, (ds4_box){0, grid[0], 0, grid[1]});
    spy.n_call[op]++;
    spy.n_differ[op] += memcmp(got, want, bytes) != 0;
    free(got);
    return DS4_OK;
}

/* One evaluation: the first n_tok ids of a file, in chunks, then three by decode. */
static void evaluate(const char *model, const char *tokens, uint32_t n_tok, const char *edit) {
    int32_t *token;
    ds4_err err;
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    ds4_engine *e = test_engine("ref", model);
    ds4_backend *b = ds4_engine_backend(e);
    ds4_backend_ops ops = *b->ops;
    spy.real = b->ops, ops.call = spy_call, b->ops = &ops;
    assert_true(test_read_tokens(tokens, &token) >= n_tok);
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_plan_edit(plan, edit, &err), &err);
    test_ok(ds4_session_new(&s, e, plan, n_tok, 48, &err), &err);
    test_ok(ds4_session_eval(s, token, n_tok - 3, DS4_PREFILL, &err), &err);
    test_ok(ds4_session_eval(s, token + n_tok - 3, 3, DS4_DECODE, &err), &err);
    ds4_session_free(s);
    ds4_plan_free(plan);
    b->ops = spy.real;
    ds4_engine_close(e);
    free(token);
}

/* Hash routing, bias and none, the indexer past its top-k, evicted windows, both compressors.
 */
static void evaluate_peer(uint32_t n_tok, const char *edit) {
    evaluate("fixtures/vectors/peer/tiny-a-calm.gguf", "fixtures/vectors/peer/tiny-a.tokens",
             n_tok, edit);
}

static void test_formula_gives_the_bits_of_the_contract(void **state) {
    (void)state;
    static const char *const edits[] = {"", "DS4_HC_STABLE=1; DS4_NORM_RSQRT_DISABLE=0",
                                        "DS4_KV_RAW_F32=1; DS4_ROPE_EXP2_LOG2=1",
                                        "DS4_STORE_EXACT=1"};
    memset(&spy, 0, sizeof spy);
    planted = 0;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++)
        evaluate_peer(i ? 40 : 100, edits[i]);
    evaluate("fixtures/tiny/ds4-tiny-q4k.gguf", "fixtures/vectors/oracle/italian_96.tokens", 96,
             "");
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        if (spy.n_differ[op])
            print_error("%s: %llu of %llu calls differ\n", ds4_op_table[op].name,
                        (unsigned long long)spy.n_differ[op],
                        (unsigned long long)spy.n_call[op]);
        assert_true(spy.n_call[op] > 0);
        assert_int_equal(spy.n_differ[op], 0);
    }
}

/* The comparison can fail: sums in another order are seen, in the ops that have such sums (not
 * in the indexer's scores: dots of FP4 rows are exact, and this model has two heads). */
static void test_formula_with_other_orders_differs(void **state) {
    (void)state;
    for (planted = 1; planted <= 2; planted++) {
        memset(&spy, 0, sizeof spy);
        evaluate_peer(60, "");
        for (int op = 0; op < DS4_OP_COUNT; op++) {
            bool dots = op == DS4_OP_matmul || op == DS4_OP_matmul_id ||
                        op == DS4_OP_rms_norm || op == DS4_OP_attention,
                 sums = op == DS4_OP_hc_split || op == DS4_OP_hc_read ||
                        op == DS4_OP_hc_write || op == DS4_OP_attention ||
                        op == DS4_OP_softmax_pool;
            if ((planted == 1 ? dots : sums) && !spy.n_differ[op])
                fail_msg("planted %d: %s does not differ", planted, ds4_op_table[op].name);
        }
    }
    planted = 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_formula_gives_the_bits_of_the_contract),
        cmocka_unit_test(test_formula_with_other_orders_differs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
