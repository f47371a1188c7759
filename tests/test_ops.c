/* The references of the ops: the known answers of model.md C.4, C.5 and C.10; a result that no
 * split of the grid into boxes changes, with nothing written outside a box; ties and NaN in the
 * selections. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"
#include "engine/ops/ops.h"
#include "engine/variants.h"
#include "tests/support.h"

static const uint32_t PATTERN = 0x7fc5a5a5u; /* a NaN that no op produces */
enum { GUARD = 16 };

static uint64_t rng = 3;
static uint32_t below(uint32_t n) {
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}
static float in_range(float lo, float hi) {
    return lo + (hi - lo) * (float)below(1u << 20) / (float)(1u << 20);
}

/* ---- known answers ---- */

/* X_i of model.md appendix C. */
static float appendix_x(int i) { return (float)((7919 * i) % 257 - 128) / 64.0f; }

static void run_whole(ds4_op op, const ds4_ref_call *c) {
    uint32_t g[3];
    ds4_op_grid(op, c->args, g);
    ds4_op_reference(op, c, (ds4_box){0, g[0], 0, g[1]});
}

static void kv_round(float *y, float *x, uint32_t n, uint32_t n_fp8, bool raw) {
    struct ds4_args_kv_round a = {1, n, n_fp8};
    run_whole(DS4_OP_kv_round,
              &(ds4_ref_call){.args = &a,
                              .bind = {x, y},
                              .variants = raw ? DS4_VARIANT_BIT(KV_RAW_F32) : 0});
}

static void near(float got, double want, double tolerance) {
    if (!(fabs((double)got - want) <= tolerance))
        fail_msg("%.9g, wanted %.9g", (double)got, want);
}

static void test_ops_kv_round_gives_appendix_c4(void **state) {
    (void)state;
    static const float want[] = {-2, 1.25f, 0.5f, -0.234375f, -1, -1.75f, 1.5f, 0.75f};
    static const double small[] = {-1.93715096e-07, 1.1920929e-07, 5.21540642e-08};
    float x[64], y[64], raw[64];
    double sum = 0.0;
    for (int i = 0; i < 64; i++) x[i] = appendix_x(i);
    kv_round(y, x, 64, 64, false);
    kv_round(raw, x, 64, 64, true);
    assert_memory_equal(y, raw, sizeof y); /* these values are halves already */
    assert_memory_equal(y, want, sizeof want);
    for (int i = 0; i < 64; i++) sum += (double)y[i];
    assert_true(sum == -1.9375);
    kv_round(y, x, 64, 0, false); /* the rotary tail: f16 alone, exact here */
    assert_memory_equal(y, x, sizeof y);
    for (int i = 0; i < 64; i++) x[i] = 1e-7f * x[i]; /* the floor of 1e-4 gives the scale */
    kv_round(raw, x, 64, 64, true);
    kv_round(y, x, 64, 64, false);
    for (int i = 0; i < 3; i++) near(raw[i], small[i], 5e-16);
    for (int i = 0; i < 64; i++) assert_true(y[i] == ds4_fz(ds4_f16_round(raw[i])));
    assert_true(memcmp(y, raw, sizeof y) != 0);
}

static void test_ops_index_round_gives_appendix_c5(void **state) {
    (void)state;
    static const float first[] = {0, 0, -2, -1, -1, -4, 1, -1}, at64[] = {0, -1, -1, 1};
    for (uint32_t half = 0; half < 2; half++) {
        struct ds4_args_index_round a = {1, half};
        float x[128], y[128];
        double sum = 0.0, squares = 0.0;
        for (int i = 0; i < 128; i++) x[i] = appendix_x(i);
        run_whole(DS4_OP_index_round, &(ds4_ref_call){.args = &a, .bind = {x, y}});
        for (int i = 0; i < 8; i++) assert_true(y[i] == first[i]);
        for (int i = 0; i < 4; i++) assert_true(y[64 + i] == at64[i]);
        for (int i = 0; i < 128; i++)
            sum += (double)y[i], squares += (double)y[i] * (double)y[i];
        assert_true(sum == -19.5625 && squares == 138.14453125);
    }
}

static void test_ops_store_exact_leaves_the_rounding_out(void **state) {
    (void)state;
    struct ds4_args_kv_round k = {1, 192, 128};
    struct ds4_args_index_round r = {1, 1};
    float x[192], y[192], back[128];
    for (int i = 0; i < 192; i++) x[i] = in_range(-3.0f, 3.0f);
    ds4_ref_call c = {.args = &k, .bind = {x, y}, .variants = DS4_VARIANT_BIT(STORE_EXACT)};
    run_whole(DS4_OP_kv_round, &c);
    assert_memory_equal(y, x, sizeof y);
    c.args = &r;
    run_whole(DS4_OP_index_round, &c);
    c.bind[0] = y, c.bind[1] = back; /* the Hadamard rotation is its own inverse */
    run_whole(DS4_OP_index_round, &c);
    for (int i = 0; i < 128; i++) near(back[i], (double)x[i], 2e-6);
    c.variants = 0; /* planted: rounding moves them further */
    run_whole(DS4_OP_index_round, &c);
    assert_true(fabs((double)back[0] - (double)x[0]) > 1e-3);
}

static void test_ops_hc_split_gives_appendix_c10(void **state) {
    (void)state;
    static const double want[24] = {
        0.0521546, 0.2058714, 0.5498350, 0.8519537, 0.7240126, 0.4689067, 1.2913126, 0.2349282,
        0.2356626, 0.3154349, 0.4069439, 0.0419576, 0.3037247, 0.4065364, 0.2356625, 0.0540754,
        0.1969688, 0.2636428, 0.1528299, 0.3865574, 0.2636429, 0.0143848, 0.2045626, 0.5174086};
    struct ds4_args_hc_split a = {1, 20, 1e-6f};
    float mix[24], base[24], scale[3] = {0.9f, 1.1f, 0.8f}, y[24], stable[24];
    for (int k = 0; k < 24; k++) {
        mix[k] = (float)((7 * k) % 24 - 12) / 6.0f;
        base[k] = (float)((5 * k) % 24 - 11) / 10.0f;
    }
    ds4_ref_call c = {.args = &a, .bind = {mix, scale, base, y}};
    run_whole(DS4_OP_hc_split, &c);
    for (int k = 0; k < 24; k++) near(y[k], want[k], 2e-7);
    for (int b = 0; b < 4; b++) {
        double column = 0.0;
        for (int r = 0; r < 4; r++) column += (double)y[8 + 4 * r + b];
        assert_true(fabs(column - 1.0) <= 1e-5);
    }
    assert_true(fabs((double)y[9] - want[12]) > 1e-3); /* planted: rows for columns */
    c.bind[3] = stable, c.variants = DS4_VARIANT_BIT(HC_STABLE);
    run_whole(DS4_OP_hc_split, &c);
    for (int k = 0; k < 8; k++) near(stable[k], want[k], 4e-7);
    assert_memory_equal(stable + 8, y + 8, 16 * sizeof *y);
}

/* ---- boxes ---- */

/* A binding: kind and elements. f floats, h halves of weight rows, i indices under `below`, q
 * any words, x scratch. */
typedef struct input {
    char kind;
    uint32_t n, below;
} input;

typedef struct call {
    ds4_op op;
    const void *args;
    uint32_t n_out;
    input in[6];
} call;

#define ARGS(op, ...)                                                                          \
    DS4_OP_##op, &(const struct ds4_args_##op) { __VA_ARGS__ }
static const call calls[] = {
    {ARGS(embed, 5, 32, 4, 64), 5 * 4 * 32, {{'h', 10 * 32, 0}, {'i', 5, 10}}},
    {ARGS(rms_norm, 7, 37, 1, 1e-6f), 7 * 37, {{'f', 7 * 37, 0}, {'f', 37, 0}}},
    {ARGS(matmul, 6, 48, 20, 96, 96, 10), 6 * 20, {{'h', 20 * 48, 0}, {'f', 6 * 96, 0}}},
    {ARGS(matmul_id, 5, 2, 48, 9, 96, 3, 1),
     90,
     {{'h', 27 * 48, 0}, {'f', 480, 0}, {'i', 10, 3}}},
    {ARGS(matmul_id, 5, 2, 48, 9, 96, 3, 0),
     90,
     {{'h', 27 * 48, 0}, {'f', 240, 0}, {'i', 10, 3}}},
    {ARGS(hc_split, 6, 20, 1e-6f), 6 * 24, {{'f', 6 * 24, 0}, {'f', 3, 0}, {'f', 24, 0}}},
    {ARGS(hc_gate, 6, 4, 1e-6f), 24, {{'f', 24, 0}, {'f', 1, 0}, {'f', 4, 0}}},
    {ARGS(hc_read, 3, 33, 4, 24), 99, {{'f', 3 * 4 * 33, 0}, {'f', 72, 0}}},
    {ARGS(hc_write, 3, 33), 396, {{'f', 396, 0}, {'f', 99, 0}, {'f', 72, 0}}},
    {ARGS(rope, 5, 3, 20, 8, 1000000, 4, 1), 300, {{'f', 300, 0}, {'q', 8, 0}}},
    {ARGS(kv_round, 4, 192, 128), 4 * 192, {{'f', 4 * 192, 0}}},
    {ARGS(index_round, 5, 1), 640, {{'f', 640, 0}}},
    {ARGS(row_store, 4, 9, 6, 7), 63, {{'f', 36, 0}}},
    {ARGS(gate_bias, 5, 32, 3, 4, 64), 160, {{'f', 160, 0}, {'h', 4 * 32, 0}}},
    {ARGS(softmax_pool, 3, 10, 4, 2, 0, 19), 30, {{'f', 380, 0}, {'f', 380, 0}}},
    {ARGS(softmax_pool, 2, 10, 8, 1, 3, 17), 20, {{'f', 170, 0}, {'f', 170, 0}}},
    {ARGS(index_score, 4, 2, 9, 29, 4, 0.1f),
     36,
     {{'f', 1024, 0}, {'f', 8, 0}, {'f', 1152, 0}}},
    {ARGS(index_topk, 4, 12, 5, 40, 4), 20, {{'f', 48, 0}}},
    {ARGS(attention, 3, 2, 16, 8, 12, 30, 4, 3, 1, 16, 0.25f),
     96,
     {{'f', 96, 0}, {'f', 192, 0}, {'f', 128, 0}, {'i', 6, 7}, {'f', 2, 0}, {'x', 96, 0}}},
    {ARGS(router_prob, 61), 61, {{'f', 61, 0}}},
    {ARGS(router_topk, 5, 8, 3, 1), 15, {{'f', 40, 0}, {'f', 8, 0}}},
    {ARGS(router_hash, 5, 3), 15, {{'q', 30, 0}, {'i', 5, 10}}},
    {ARGS(router_weight, 5, 8, 2, 1.5f), 10, {{'f', 40, 0}, {'i', 10, 8}}},
    {ARGS(swiglu, 5, 13, 1, 2.0f), 65, {{'f', 65, 0}, {'f', 65, 0}, {'f', 5, 0}}},
    {ARGS(slot_sum, 5, 3, 11), 55, {{'f', 165, 0}}},
    {ARGS(add, 61), 61, {{'f', 61, 0}, {'f', 61, 0}}},
};

static void *make_input(const input *in) {
    float *f = malloc((size_t)in->n * 4);
    for (uint32_t i = 0; i < in->n; i++) {
        uint32_t word = below(1u << 30);
        uint16_t half = ds4_f32_to_f16(in_range(-1.0f, 1.0f));
        int32_t index = in->below ? (int32_t)below(in->below) : 0;
        switch (in->kind) {
        case 'h':
            memcpy((char *)f + (size_t)i * 2, &half, 2);
            break;
        case 'i':
            memcpy(&f[i], &index, 4);
            break;
        case 'q':
            memcpy(&f[i], &word, 4);
            break;
        default:
            f[i] = in_range(-4.0f, 4.0f);
            break;
        }
    }
    return f;
}

/* Runs one box into a patterned output; the words behind it must stay. */
static void run_box(const call *k, ds4_ref_call *c, uint32_t *out, ds4_box box) {
    for (uint32_t i = 0; i < k->n_out + GUARD; i++) out[i] = PATTERN;
    c->bind[ds4_op_table[k->op].n_in] = out;
    ds4_op_reference(k->op, c, box);
    for (uint32_t i = k->n_out; i < k->n_out + GUARD; i++) assert_int_equal(out[i], PATTERN);
}

/* Splits box at random; each leaf adds its outputs to `sum` and counts who wrote what. */
static void split(const call *k, ds4_ref_call *c, ds4_box box, uint32_t *sum,
                  uint8_t *n_write) {
    uint32_t w = box.x1 - box.x0, h = box.y1 - box.y0;
    ds4_box a = box, b = box;
    if (below(4) && (w > 1 || h > 1)) {
        if (w > 1 && (h <= 1 || below(2))) a.x1 = b.x0 = box.x0 + 1 + below(w - 1);
        else a.y1 = b.y0 = box.y0 + 1 + below(h - 1);
        split(k, c, b, sum, n_write); /* the later half first: order is no matter */
        split(k, c, a, sum, n_write);
        return;
    }
    uint32_t *out = malloc((k->n_out + GUARD) * 4);
    run_box(k, c, out, box);
    for (uint32_t i = 0; i < k->n_out; i++)
        if (out[i] != PATTERN) sum[i] = out[i], n_write[i]++;
    free(out);
}

/* Whether the parts make the whole, each element written by one box. */
static bool is_whole(const call *k, const uint32_t *whole, const uint32_t *sum,
                     const uint8_t *n_write) {
    for (uint32_t i = 0; i < k->n_out; i++)
        if (n_write[i] != (whole[i] != PATTERN) || (n_write[i] && sum[i] != whole[i]))
            return false;
    return true;
}

static void check_call(const call *k) {
    const char *name = ds4_op_table[k->op].name;
    uint32_t n_in = ds4_op_table[k->op].n_in, g[3], n_done = 0;
    uint32_t *whole = malloc((k->n_out + GUARD) * 4), *sum = calloc(k->n_out, 4);
    uint8_t *n_write = malloc(k->n_out);
    ds4_ref_call c = {.args = k->args, .wtype = DS4_QUANT_F16};
    for (uint32_t i = 0; i < n_in; i++) {
        if (!k->in[i].n) fail_msg("%s: no input %u", name, i);
        c.bind[i] = make_input(&k->in[i]);
    }
    ds4_op_grid(k->op, k->args, g);
    assert_int_equal(g[2], 1);
    ds4_box all = {0, g[0], 0, g[1]};
    run_box(k, &c, whole, all);
    for (uint32_t i = 0; i < k->n_out; i++) n_done += whole[i] != PATTERN;
    assert_true(k->op == DS4_OP_row_store ? n_done == 36 : n_done == k->n_out);
    for (int trial = 0; trial < 30; trial++) {
        memset(n_write, 0, k->n_out);
        split(k, &c, all, sum, n_write);
        if (!is_whole(k, whole, sum, n_write))
            fail_msg("%s: boxes differ from the whole", name);
    }
    ds4_box none[] = {{0, 0, 0, g[1]}, {0, g[0], 0, 0}};
    for (int i = 0; i < 2; i++) {     /* an empty box writes nothing */
        if (i && g[1] == 1) continue; /* ops of one dimension leave y out */
        uint32_t *out = malloc((k->n_out + GUARD) * 4);
        run_box(k, &c, out, none[i]);
        for (uint32_t e = 0; e < k->n_out; e++) assert_int_equal(out[e], PATTERN);
        free(out);
    }
    uint32_t at = 0; /* planted: one bit, and one element written twice */
    while (whole[at] == PATTERN) at++;
    sum[at] ^= 1u;
    assert_false(is_whole(k, whole, sum, n_write));
    sum[at] ^= 1u, n_write[at]++;
    assert_false(is_whole(k, whole, sum, n_write));
    for (uint32_t i = 0; i < n_in; i++) free(c.bind[i]);
    free(whole), free(sum), free(n_write);
}

static void test_ops_boxes_make_the_whole(void **state) {
    (void)state;
    bool seen[DS4_OP_COUNT] = {false};
    for (size_t i = 0; i < sizeof calls / sizeof *calls; i++) {
        check_call(&calls[i]);
        seen[calls[i].op] = true;
    }
    for (int o = 0; o < DS4_OP_COUNT; o++)
        if (!seen[o]) fail_msg("op %s is not in the table", ds4_op_table[o].name);
}

/* ---- selections ---- */

/* a before b: greater first, NaN last, the lower index on ties; -0 equals +0. */
static bool before(const float *v, uint32_t a, uint32_t b) {
    bool na = isnan(v[a]), nb = isnan(v[b]);
    if (na != nb) return nb;
    if (!na && (v[a] > v[b] || v[a] < v[b])) return v[a] > v[b];
    return a < b;
}

static const float values[] = {0.0f,      -0.0f, 1.0f, -1.0f, 2.5f,  INFINITY,
                               -INFINITY, NAN,   -NAN, 1.0f,  1e-40f};
enum { N_VALUE = sizeof values / sizeof *values };

/* The best k of v by counting who is before whom, best first. */
static void best_of(int32_t *dst, const float *v, uint32_t n, uint32_t k) {
    for (uint32_t i = 0; i < n; i++) {
        uint32_t rank = 0;
        for (uint32_t j = 0; j < n; j++) rank += j != i && before(v, j, i);
        if (rank < k) dst[rank] = (int32_t)i;
    }
}

static int by_index(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

static void test_ops_selections_break_ties_to_the_lower_index(void **state) {
    (void)state;
    uint32_t n_moved = 0;
    for (int trial = 0; trial < 3000; trial++) {
        uint32_t n = 2 + below(30), k = 1 + below(n - 1);
        float v[32], zero[32] = {0.0f};
        int32_t want[32], got[32];
        for (uint32_t i = 0; i < n; i++) v[i] = values[below(N_VALUE)];
        best_of(want, v, n, k);
        struct ds4_args_router_topk r = {1, n, k, trial & 1};
        run_whole(DS4_OP_router_topk, &(ds4_ref_call){.args = &r, .bind = {v, zero, got}});
        assert_memory_equal(got, want, k * sizeof *want);
        struct ds4_args_index_topk t = {1, n, k, 4 * n - 1, 4};
        run_whole(DS4_OP_index_topk, &(ds4_ref_call){.args = &t, .bind = {v, got}});
        n_moved += memcmp(got, want, k * sizeof *want) != 0; /* ascending, not best first */
        qsort(want, k, sizeof *want, by_index);
        assert_memory_equal(got, want, k * sizeof *want);
    }
    assert_true(n_moved > 1000); /* the comparison tells orders apart */
}

static void test_ops_select_key_is_monotone(void **state) {
    (void)state;
    for (uint32_t i = 0; i < N_VALUE; i++)
        for (uint32_t j = 0; j < N_VALUE; j++) {
            uint32_t a = ds4_select_key(values[i]), b = ds4_select_key(values[j]);
            if (isnan(values[i])) assert_true(a == 0 && (isnan(values[j]) || b > 0));
            else if (!isnan(values[j])) {
                assert_int_equal(a > b, values[i] > values[j]);
                assert_int_equal(a < b, values[i] < values[j]);
            }
        }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ops_kv_round_gives_appendix_c4),
        cmocka_unit_test(test_ops_index_round_gives_appendix_c5),
        cmocka_unit_test(test_ops_store_exact_leaves_the_rounding_out),
        cmocka_unit_test(test_ops_hc_split_gives_appendix_c10),
        cmocka_unit_test(test_ops_boxes_make_the_whole),
        cmocka_unit_test(test_ops_selections_break_ties_to_the_lower_index),
        cmocka_unit_test(test_ops_select_key_is_monotone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
