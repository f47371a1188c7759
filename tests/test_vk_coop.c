/* What tells the forms of a projection apart: the local NRMSE of every row of matmul and
 * matmul_id on the device against "both operands rounded to f16, sums in f64", and the cause
 * that its range stands for; and that both forms of the integer dot product have the same bits.
 *
 * Operands: bell-shaped activations and f16 weights, 256 and 1024 products a sum. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/format/quant.h"
#include "engine/ops/ops.h"
#include "tests/support.h"

enum { N_TOK = 40, N_OUT = 70, N_MAT = 3, FEW = 256, MANY = 1024 };

static ds4_backend *vk;

/* ---- One projection: a token's matrix is t mod N_MAT for matmul_id, 0 for matmul ---- */

typedef struct problem {
    ds4_op op;
    uint32_t wtype, n_in;
    size_t row_bytes;
    uint8_t *w; /* [N_MAT][N_OUT] raw rows */
    float *x;   /* [N_TOK][n_in] */
    float *y;   /* [N_TOK][N_OUT] */
} problem;

static uint32_t mat_of(const problem *p, uint32_t t) {
    return p->op == DS4_OP_matmul_id ? t % N_MAT : 0;
}

static float bell(uint64_t key, uint64_t i) {
    return (float)ds4_rng_bell(key, i) / sqrtf(DS4_RNG_BELL_VARIANCE);
}

/* Random codes; f16 scales near 2^-6. F16 weights are bell-shaped. */
static void fill_weights(const problem *p) {
    static const struct {
        uint32_t wtype, scale[2];
    } halves[] = {{DS4_QUANT_Q8_0, {0, 0}},
                  {DS4_QUANT_Q4_K, {0, 2}},
                  {DS4_QUANT_Q2_K, {80, 82}},
                  {DS4_QUANT_IQ2_XXS, {0, 0}}};
    const uint64_t key = ds4_rng_key(1, "weights", p->wtype);
    const ds4_quant *q = ds4_quant_by_id(p->wtype);
    const size_t n = p->row_bytes * N_OUT * N_MAT;

    for (size_t i = 0; i < n; i++) p->w[i] = (uint8_t)ds4_rng_u64(key, i);
    for (size_t i = 0; i < n / 2 && p->wtype == DS4_QUANT_F16; i++) {
        uint16_t h = ds4_f32_to_f16(bell(key, i));
        memcpy(p->w + 2 * i, &h, 2);
    }
    for (size_t k = 0; k < sizeof halves / sizeof *halves; k++)
        for (size_t at = 0; halves[k].wtype == p->wtype && at < n; at += q->n_bytes)
            for (uint32_t s = 0; s < 2; s++)
                p->w[at + halves[k].scale[s] + 1] = (uint8_t)(0x20 + at % 8);
}

static void problem_init(problem *p, ds4_op op, uint32_t wtype, uint32_t n_in) {
    const ds4_quant *q = ds4_quant_by_id(wtype);
    const uint64_t key = ds4_rng_key(1, "inputs", 0);
    *p = (problem){
        .op = op, .wtype = wtype, .n_in = n_in, .row_bytes = n_in / q->n_elem * q->n_bytes};
    assert_int_equal(ds4_mem_alloc(&p->w, p->row_bytes * N_OUT * N_MAT, 1, NULL), DS4_OK);
    assert_int_equal(ds4_mem_alloc(&p->x, N_TOK * n_in, sizeof *p->x, NULL), DS4_OK);
    assert_int_equal(ds4_mem_alloc(&p->y, N_TOK * N_OUT, sizeof *p->y, NULL), DS4_OK);
    for (uint32_t i = 0; i < N_TOK * n_in; i++) p->x[i] = bell(key, i);
    fill_weights(p);
}

static void problem_fini(problem *p) {
    ds4_mem_free(p->w);
    ds4_mem_free(p->x);
    ds4_mem_free(p->y);
}

static void run_row(const problem *p, uint32_t row) {
    const bool by_id = p->op == DS4_OP_matmul_id;
    const uint32_t bytes = (uint32_t)p->row_bytes;
    struct ds4_args_matmul plain = {N_TOK, p->n_in, N_OUT, bytes, p->n_in, N_OUT};
    struct ds4_args_matmul_id id = {N_TOK, 1, p->n_in, N_OUT, bytes, N_MAT, 0};
    const uint32_t last = by_id ? 3 : 2;
    ds4_call c = {.tap = DS4_TAP_logits,
                  .phase = DS4_PREFILL,
                  .wtype = p->wtype,
                  .args = by_id ? (void *)&id : (void *)&plain,
                  .args_bytes = by_id ? sizeof id : sizeof plain,
                  .n_col = N_OUT,
                  .n_bind = last + 1};
    uint32_t sel[N_TOK];
    ds4_err err = {0};

    for (int t = 0; by_id && t < DS4_TAP_COUNT; t++)
        if (ds4_tap_table[t].op == DS4_OP_matmul_id) c.tap = (ds4_tap)t;
    for (uint32_t t = 0; t < N_TOK; t++) sel[t] = mat_of(p, t);
    test_ok(vk->ops->buf_weight(vk, &c.bind[0], p->w, p->row_bytes * N_OUT * N_MAT, "w", &err),
            &err);
    test_ok(vk->ops->buf_new(vk, &c.bind[1], N_TOK * p->n_in * 4, DS4_TYPE_F32, &err), &err);
    test_ok(vk->ops->buf_write(vk, c.bind[1], 0, p->x, N_TOK * p->n_in * 4, &err), &err);
    if (by_id) {
        test_ok(vk->ops->buf_new(vk, &c.bind[2], sizeof sel, DS4_TYPE_I32, &err), &err);
        test_ok(vk->ops->buf_write(vk, c.bind[2], 0, sel, sizeof sel, &err), &err);
    }
    test_ok(vk->ops->buf_new(vk, &c.bind[last], N_TOK * N_OUT * 4, DS4_TYPE_F32, &err), &err);
    test_ok(vk->ops->call(vk, &c, row, &err), &err);
    test_ok(vk->ops->buf_read(vk, c.bind[last], 0, p->y, N_TOK * N_OUT * 4, &err), &err);
    for (uint32_t i = 0; i <= last; i++) vk->ops->buf_free(vk, c.bind[i]);
}

/* ---- Fingerprints ---- */

/* Rounds an operand; the identity for one that is not rounded. */
typedef float (*rounding)(float v);
static float to_f16(float v) { return ds4_f16_round(v); }
static float to_bf16(float v) { return ds4_bf16_to_f32(ds4_f32_to_bf16(v)); }
static float as_is(float v) { return v; }

/* Sums in f64, or in f16 from one addition to the next. */
static float dot(const problem *p, uint32_t t, uint32_t r, rounding of_w, rounding of_x,
                 bool in_f16) {
    const uint8_t *row = p->w + (mat_of(p, t) * N_OUT + r) * p->row_bytes;
    double sum = 0.0;
    for (uint32_t k = 0; k < p->n_in; k++) {
        float w = of_w(ds4_f16_to_f32(ds4_le16(row + 2 * k))), x = of_x(p->x[t * p->n_in + k]);
        sum += (double)w * (double)x;
        if (in_f16) sum = (double)ds4_f16_round((float)sum);
    }
    return (float)sum;
}

static void run_cpu(const problem *p, rounding of_w, rounding of_x, bool in_f16) {
    for (uint32_t t = 0; t < N_TOK; t++)
        for (uint32_t r = 0; r < N_OUT; r++)
            p->y[t * N_OUT + r] = dot(p, t, r, of_w, of_x, in_f16);
}

static double nrmse(const problem *p) {
    double diff = 0.0, ref = 0.0;
    for (uint32_t t = 0; t < N_TOK; t++)
        for (uint32_t r = 0; r < N_OUT; r++) {
            double want = (double)dot(p, t, r, to_f16, to_f16, false);
            double d = (double)p->y[t * N_OUT + r] - want;
            diff += d * d, ref += want * want;
        }
    return sqrt(diff / ref);
}

/* Of drift.md 1.8, for sums of MANY products, and how they have grown from FEW on. Sums in f16
 * are there as of one product at a time; a matrix that adds m at once rounds an m-th as often.
 */
static const char *cause_of(double e, double before) {
    const double growth = before > 0.0 ? e / before : 1.0;
    static const struct {
        double low, high, grow_low, grow_high;
        const char *cause;
    } range[] = {{0.0, 5e-6, 0.0, 1e9, "order of f32 sums"},
                 {1.4e-4, 3e-4, 0.8, 1.25, "one operand not rounded to f16"},
                 {1.8e-3, 2.9e-3, 0.8, 1.25, "bf16 operands"},
                 {4e-4, 2e-2, 1.4, 2.8, "sums in f16"}};
    for (size_t i = 0; i < sizeof range / sizeof *range; i++)
        if (e >= range[i].low && e < range[i].high && growth >= range[i].grow_low &&
            growth < range[i].grow_high)
            return range[i].cause;
    return "none of drift.md";
}

/* Each cause made here, on the CPU, is told by its range. */
static void test_fingerprint_planted_causes_are_told(void **state) {
    static const struct {
        rounding of_w, of_x;
        bool in_f16;
        const char *want;
    } plant[] = {{to_f16, to_f16, false, "order of f32 sums"},
                 {to_f16, as_is, false, "one operand not rounded to f16"},
                 {to_bf16, to_bf16, false, "bf16 operands"},
                 {to_f16, to_f16, true, "sums in f16"}};
    problem few, many;
    (void)state;
    problem_init(&few, DS4_OP_matmul, DS4_QUANT_F16, FEW);
    problem_init(&many, DS4_OP_matmul, DS4_QUANT_F16, MANY);
    for (size_t i = 0; i < sizeof plant / sizeof *plant; i++) {
        run_cpu(&few, plant[i].of_w, plant[i].of_x, plant[i].in_f16);
        run_cpu(&many, plant[i].of_w, plant[i].of_x, plant[i].in_f16);
        double e = nrmse(&many), before = nrmse(&few);
        print_message("planted, %s: nrmse %.2e of %d, %.2e of %d\n", plant[i].want, before, FEW,
                      e, MANY);
        assert_string_equal(cause_of(e, before), plant[i].want);
    }
    problem_fini(&few);
    problem_fini(&many);
}

static int find_row(ds4_op op, const char *name) {
    for (uint32_t i = 0; i < vk->ops->n_row(vk, op); i++)
        if (!strcmp(vk->ops->row(vk, op, i)->name, name)) return (int)i;
    return -1;
}

static void test_fingerprint_forms_are_told_apart(void **state) {
    static const struct {
        const char *row, *want;
    } form[] = {{"f16", "order of f32 sums"},
                {"vec", "one operand not rounded to f16"},
                {"coop_staged", "order of f32 sums"},
                {"coop_direct", "one operand not rounded to f16"},
                {"coop_staged_f16acc", "sums in f16"},
                {"coop_direct_f16acc", "sums in f16"}};
    static const ds4_op ops[] = {DS4_OP_matmul, DS4_OP_matmul_id};
    (void)state;
    if (!vk) skip();
    for (int o = 0; o < 2; o++) {
        problem few, many;
        problem_init(&few, ops[o], DS4_QUANT_F16, FEW);
        problem_init(&many, ops[o], DS4_QUANT_F16, MANY);
        for (size_t i = 0; i < sizeof form / sizeof *form; i++) {
            const char *op = ds4_op_table[ops[o]].name;
            int row = find_row(ops[o], form[i].row);
            assert_true(row > 0);
            const ds4_row_info *info = vk->ops->row(vk, ops[o], (uint32_t)row);
            if (info->lacks) {
                print_message("SKIPPED: %s %s: %s\n", op, form[i].row, info->lacks);
                continue;
            }
            run_row(&few, (uint32_t)row);
            run_row(&many, (uint32_t)row);
            double e = nrmse(&many), before = nrmse(&few);
            const char *cause = cause_of(e, before);
            print_message("%s %s: nrmse %.2e of %d, %.2e of %d: %s\n", op, form[i].row, before,
                          FEW, e, MANY, cause);
            assert_string_equal(cause, form[i].want);
        }
        problem_fini(&few);
        problem_fini(&many);
    }
}

/* ---- Integer dot products ---- */

static void test_q8dot_forms_have_the_same_bits(void **state) {
    static const uint32_t wtype[] = {DS4_QUANT_Q8_0, DS4_QUANT_Q4_K, DS4_QUANT_Q2_K,
                                     DS4_QUANT_IQ2_XXS, DS4_QUANT_F16};
    static const ds4_op ops[] = {DS4_OP_matmul, DS4_OP_matmul_id};
    (void)state;
    if (!vk) skip();
    for (int o = 0; o < 2; o++) {
        int plain = find_row(ops[o], "q8dot"), packed = find_row(ops[o], "q8dot_packed");
        assert_true(plain > 0 && packed > 0);
        const char *absent = vk->ops->row(vk, ops[o], (uint32_t)packed)->lacks;
        if (absent) {
            print_message("SKIPPED: %s q8dot_packed: %s\n", ds4_op_table[ops[o]].name, absent);
            continue;
        }
        for (size_t i = 0; i < sizeof wtype / sizeof *wtype; i++) {
            problem p;
            float kept[N_TOK * N_OUT];
            problem_init(&p, ops[o], wtype[i], FEW);
            run_row(&p, (uint32_t)plain);
            memcpy(kept, p.y, sizeof kept);
            run_row(&p, (uint32_t)packed);
            for (uint32_t k = 0; k < N_TOK * N_OUT; k++) assert_true(isfinite(kept[k]));
            assert_memory_equal(kept, p.y, sizeof kept);
            p.w[200] ^= 1, p.w[201] ^= 2; /* codes of the first row in every format */
            run_row(&p, (uint32_t)packed);
            assert_memory_not_equal(kept, p.y, sizeof kept);
            problem_fini(&p);
        }
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fingerprint_planted_causes_are_told),
        cmocka_unit_test(test_fingerprint_forms_are_told_apart),
        cmocka_unit_test(test_q8dot_forms_have_the_same_bits),
    };
    const ds4_vk_options options = test_vk_options();
    ds4_err err = {0};

    if (ds4_vk_open(&vk, &options, &err)) {
        printf("SKIPPED: no usable Vulkan device: %s\n", err.message);
        if (test_needs_device()) return 1;
    }
    int st = cmocka_run_group_tests(tests, NULL, NULL);
    if (vk) vk->ops->close(vk);
    return st;
}
