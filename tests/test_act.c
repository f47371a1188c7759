/* DS4_ACT_Q8: the rounding against the int8 codes of the plan `compat`, which are checked by
 * the known answers of model.md; projections against a plain computation; where the ledger may
 * claim it; the same bits in any batches and on any number of threads. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/rng.h"
#include "engine/format/quant.h"
#include "engine/ops/ops.h"
#include "engine/ref/compat.h"
#include "engine/ref/simd.h"
#include "tests/support.h"

static const uint32_t blocks[] = {DS4_QUANT_Q8_0, DS4_QUANT_IQ2_XXS, DS4_QUANT_Q2_K,
                                  DS4_QUANT_Q4_K};

/* Scale times code of n elements, by the codes of `compat`. */
static void plain_round(float *y, const float *x, uint32_t n, uint32_t wtype) {
    int8_t q[DS4_Q8K_BLOCK];
    int16_t sum[DS4_Q8K_BLOCK / 16];
    uint32_t block = wtype == DS4_QUANT_Q8_0 ? DS4_A8_BLOCK : DS4_Q8K_BLOCK;
    for (uint32_t b = 0; b < n; b += block) {
        float scale =
            wtype == DS4_QUANT_Q8_0 ? ds4_compat_a8(q, x + b) : ds4_compat_q8k(q, sum, x + b);
        for (uint32_t i = 0; i < block; i++) {
            float v = scale * (float)q[i];
            y[b + i] = fabsf(v) < 0x1p-51f ? 0.0f : v;
        }
    }
}

/* Values of magnitude about 2^e, some 0, and one in four a multiple of 1/8 of it (ties). */
static void fill(float *x, uint32_t n, uint64_t key, int e) {
    for (uint32_t i = 0; i < n; i++) {
        uint64_t r = ds4_rng_u64(key, i);
        float v = (float)ds4_rng_bell(key, n + i) * 0x1p-8f;
        if (r % 4 == 0) v = (float)((int)(r >> 8 & 31) - 16) * 0.125f;
        if (r % 16 == 1) v = 0.0f;
        x[i] = ds4_fz(ldexpf(v, e));
    }
}

static void test_act_rounding_is_scale_times_code(void **state) {
    (void)state;
    enum { N = 1024 };
    float x[N], got[N], want[N];
    for (uint32_t k = 0; k < 4; k++)
        for (int e = -52; e < 58; e++) {
            fill(x, N, ds4_rng_key(1, "act", (uint64_t)(e + 100)), e);
            ds4_act_round(got, x, N, blocks[k]);
            plain_round(want, x, N, blocks[k]);
            assert_memory_equal(got, want, sizeof got);
        }
    memset(x, 0, sizeof x);
    ds4_act_round(got, x, N, DS4_QUANT_Q4_K);
    assert_memory_equal(got, x, sizeof x);
    fill(x, N, 7, 0);
    ds4_act_round(got, x, N, DS4_QUANT_F16); /* no blocks: nothing to round */
    assert_memory_equal(got, x, sizeof x);
    ds4_act_round(got, x, N, DS4_QUANT_Q8_0);
    assert_memory_not_equal(got, x, sizeof x);
    x[40] = NAN; /* travels, and stays in its block */
    ds4_act_round(want, x, N, DS4_QUANT_Q8_0);
    assert_true(isnan(want[40]) && !memcmp(got, want, 32 * sizeof *got) &&
                !memcmp(got + 64, want + 64, (N - 64) * sizeof *got));
}

/* y = W x for 4 rows in 2 groups and 3 tokens, by the reference op and by its definition. */
static void test_act_projection_is_the_plain_computation(void **state) {
    (void)state;
    enum { T = 3, R = 4, N = 512 };
    static uint8_t w[R * N / 32 * 34];
    static float x[T * 2 * N], y[T * R], row[N], in[N];
    for (uint32_t k = 0; k < 4; k++) {
        const ds4_quant *q = ds4_quant_by_id(blocks[k]);
        uint32_t row_bytes = N / q->n_elem * q->n_bytes;
        for (size_t i = 0; i < sizeof w; i++) w[i] = (uint8_t)(ds4_rng_u64(3, i) & 0x37);
        fill(x, T * 2 * N, 11 + k, 1);
        struct ds4_args_matmul a = {T, N, R, row_bytes, 2 * N, R / 2};
        ds4_ref_call c = {.args = &a,
                          .bind = {w, x, y},
                          .wtype = blocks[k],
                          .variants = DS4_VARIANT_BIT(ACT_Q8)};
        ds4_op_reference(DS4_OP_matmul, &c, (ds4_box){0, R, 0, T});
        for (uint32_t t = 0; t < T; t++)
            for (uint32_t r = 0; r < R; r++) {
                q->decode(row, w + r * row_bytes, N / q->n_elem);
                plain_round(in, x + (2 * t + r / 2) * N, N, blocks[k]);
                float want = ds4_dot16(row, in, N);
                if (fabsf(want) < 0x1p-51f) want = 0.0f;
                if (y[t * R + r] != want)
                    fail_msg("%s row %u token %u: %g, wanted %g", q->name, r, t,
                             (double)y[t * R + r], (double)want);
            }
    }
}

/* ---- sessions ---- */

static const char model[] = "fixtures/tiny/ds4-tiny-q2.gguf";
enum { N_TOK = 40 };
static int32_t *token;

static float *logits(ds4_engine *e, const char *edit, uint32_t chunk, ds4_ledger **ledger) {
    ds4_plan *p = NULL;
    ds4_session *s = NULL;
    ds4_err err = {0};
    size_t bytes = ds4_engine_config(e)->n_vocab * sizeof(float);
    float *out = malloc(bytes);
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    if (edit) test_ok(ds4_plan_edit(p, edit, &err), &err);
    test_ok(ds4_session_new(&s, e, p, N_TOK, chunk ? chunk : 1, &err), &err);
    test_ok(ds4_session_eval(s, token, N_TOK, chunk ? DS4_PREFILL : DS4_DECODE, &err), &err);
    memcpy(out, ds4_session_logits(s), bytes);
    if (ledger) {
        const ds4_ledger *l = ds4_session_ledger(s);
        test_ok(ds4_ledger_new(ledger, &err), &err);
        for (uint32_t i = 0; i < ds4_ledger_n(l); i++)
            test_ok(ds4_ledger_add(*ledger, ds4_ledger_at(l, i), &err), &err);
    }
    ds4_session_free(s);
    ds4_plan_free(p);
    return out;
}

static void test_act_bits_do_not_depend_on_batches_or_threads(void **state) {
    (void)state;
    static const uint32_t chunk[] = {1, 7, N_TOK};
    ds4_engine *e = test_engine("ref", model), *three = NULL;
    ds4_err err = {0};
    size_t bytes = ds4_engine_config(e)->n_vocab * sizeof(float);
    test_ok(ds4_engine_open(&three, model,
                            &(ds4_engine_options){.engine = "ref", .device = -1, .n_thread = 3},
                            &err),
            &err);
    float *off = logits(e, NULL, 0, NULL), *on = logits(e, "DS4_ACT_Q8=1", 0, NULL);
    assert_memory_not_equal(off, on, bytes);
    for (size_t i = 0; i < 3; i++) {
        float *got = logits(i % 2 ? e : three, "DS4_ACT_Q8=1", chunk[i], NULL);
        assert_memory_equal(got, on, bytes);
        free(got);
    }
    free(off), free(on);
    ds4_engine_close(three);
    ds4_engine_close(e);
}

/* Claimed by strict projections in block formats alone: not by F16 rows, not by other rows.
 * Where another row was refused (the head has one token: too few for f16), strict ran, and
 * claims it. */
static void test_act_ledger_claims_what_it_changed(void **state) {
    (void)state;
    static const char *const edits[] = {"DS4_ACT_Q8=1", "DS4_ACT_Q8=1;matmul=f16;matmul_id=f16",
                                        "DS4_ACT_Q8=1;matmul=compat;matmul_id=compat"};
    ds4_engine *e = test_engine("ref", model);
    for (int k = 0; k < 3; k++) {
        ds4_ledger *l = NULL;
        uint32_t n_claimed = 0, n_block = 0, n_plain = 0;
        free(logits(e, edits[k], N_TOK, &l));
        for (uint32_t i = 0; i < ds4_ledger_n(l); i++) {
            const ds4_ledger_entry *a = ds4_ledger_at(l, i);
            ds4_op op = ds4_tap_table[a->tap].op;
            bool projection = op == DS4_OP_matmul || op == DS4_OP_matmul_id;
            bool block = projection && ds4_quant_by_id(a->wtype)->n_elem > 1;
            bool honours = block && !strcmp(a->row, "strict");
            assert_int_equal(a->changed, honours ? DS4_VARIANT_BIT(ACT_Q8) : 0);
            n_claimed += honours && !a->refusal, n_block += block,
                n_plain += projection && !block;
        }
        assert_true(n_block > 40 && n_plain > 20);
        assert_true(k ? n_claimed == 0 : n_claimed == n_block);
        ds4_ledger_free(l);
    }
    ds4_engine_close(e);
}

/* A row that does not honour the variant has its own bits while it is on, on every SIMD path.
 * The head has one token, where the row is refused and strict runs: it is left out. */
static void test_act_leaves_rows_alone_that_do_not_honour_it(void **state) {
    (void)state;
    for (uint32_t i = 0; i < ds4_simd_n_path(); i++) {
        if (!ds4_simd_path_runs(i)) continue;
        ds4_engine *e = NULL;
        ds4_err err = {0};
        ds4_engine_options o = {
            .engine = "ref", .device = -1, .n_thread = 2, .simd = ds4_simd_path_name(i)};
        test_ok(ds4_engine_open(&e, model, &o, &err), &err);
        size_t bytes = ds4_engine_config(e)->n_vocab * sizeof(float);
        static const char *const rows[] = {"matmul=f16;matmul_id=f16",
                                           "matmul=compat;matmul_id=compat"};
        for (int k = 0; k < 2; k++) {
            char both[96];
            snprintf(both, sizeof both, "%s;DS4_ACT_Q8@0-=1", rows[k]);
            float *alone = logits(e, rows[k], N_TOK, NULL), *on = logits(e, both, N_TOK, NULL);
            assert_memory_equal(alone, on, bytes);
            free(alone), free(on);
        }
        ds4_engine_close(e);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_act_rounding_is_scale_times_code),
        cmocka_unit_test(test_act_projection_is_the_plain_computation),
        cmocka_unit_test(test_act_bits_do_not_depend_on_batches_or_threads),
        cmocka_unit_test(test_act_ledger_claims_what_it_changed),
        cmocka_unit_test(test_act_leaves_rows_alone_that_do_not_honour_it),
    };
    if (test_read_tokens("fixtures/vectors/oracle/code_64.q2.tokens", &token) < N_TOK) return 1;
    int failed = cmocka_run_group_tests_name("act", tests, NULL, NULL);
    free(token);
    return failed;
}
