/* engine/vk/vk_probe.c: sums of known order, simulated here, are told by name; then the rows of
 * matmul on the device, of which strict has the order that ops.h states. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/float.h"
#include "engine/ops/ops.h"
#include "engine/vk/vk_kernel.h"
#include "engine/vk/vk_probe.h"
#include "tests/support.h"

enum { N = DS4_VK_PROBE_N };

/* ---- Known orders; p: N products ---- */

static float in_f16(float v) { return ds4_f16_to_f32(ds4_f32_to_f16(v)); }

static float sequence(const float *p, uint32_t n) {
    float s = p[0];
    for (uint32_t i = 1; i < n; i++) s += p[i];
    return s;
}
static float in_sequence(const float *p) { return sequence(p, N); }
static float from_the_last(const float *p) {
    float s = p[N - 1];
    for (uint32_t i = N - 1; i-- > 0;) s += p[i];
    return s;
}
static float pairs(const float *p, uint32_t n) {
    return n == 1 ? p[0] : pairs(p, n / 2) + pairs(p + n / 2, n / 2);
}
static float in_pairs(const float *p) { return pairs(p, N); }
static float by_four(const float *p) {
    float s = 0.0f;
    for (uint32_t i = 0; i < N; i += 4) s += pairs(p + i, 4);
    return s;
}
static float by_eight_sequences(const float *p) {
    float s[4];
    for (uint32_t i = 0; i < 4; i++) s[i] = sequence(p + 8 * i, 8);
    return pairs(s, 4);
}
static float lanes(const float *p) {
    float l[8];
    for (uint32_t j = 0; j < 8; j++) {
        l[j] = p[j];
        for (uint32_t i = j + 8; i < N; i += 8) l[j] += p[i];
    }
    return ((l[0] + l[4]) + (l[2] + l[6])) + ((l[1] + l[5]) + (l[3] + l[7]));
}
static float in_f16_sequence(const float *p) {
    float s = 0.0f;
    for (uint32_t i = 0; i < N; i++) s = in_f16(s + p[i]);
    return s;
}
/* `step` terms and the sum before, cut off `bits` below the largest, added exactly. */
static float fused(const float *p, uint32_t step, int bits) {
    float s = 0.0f;
    for (uint32_t i = 0; i < N; i += step) {
        int top = -1000, e;
        double sum = 0.0;
        for (uint32_t k = 0; k <= step; k++) {
            float v = k < step ? p[i + k] : s;
            if (v != 0.0f) frexpf(v, &e), top = e > top ? e : top;
        }
        double unit = ldexp(1.0, top - bits);
        for (uint32_t k = 0; k <= step; k++)
            sum += trunc((double)(k < step ? p[i + k] : s) / unit) * unit;
        s = (float)sum;
    }
    return s;
}
static float fused_eight(const float *p) { return fused(p, 8, 24); }
static float fused_four(const float *p) { return fused(p, 4, 26); }
static float in_f64(const float *p) {
    double s = 0.0;
    for (uint32_t i = 0; i < N; i++) s += (double)p[i];
    return (float)s;
}
/* As wide as it takes: large and small terms apart. */
static float exact(const float *p) {
    double large = 0.0, small = 0.0;
    for (uint32_t i = 0; i < N; i++) {
        if (fabsf(p[i]) >= 1.0f) large += (double)p[i];
        else small += (double)p[i];
    }
    return (float)(large + small);
}
/* An order that depends on the values. */
static float by_value(const float *p) {
    uint32_t i = 0;
    while (i < N && p[i] <= 1.0f) i++;
    return i % 2 ? in_sequence(p) : from_the_last(p);
}

static ds4_status simulate(void *user, float *y, const float *w, uint32_t n_out, const float *x,
                           uint32_t n_tok, ds4_err *err) {
    float (*sum)(const float *) = *(float (**)(const float *))user;
    (void)err;
    for (uint32_t t = 0; t < n_tok; t++)
        for (uint32_t o = 0; o < n_out; o++) {
            float p[N];
            for (uint32_t k = 0; k < N; k++) p[k] = w[o * N + k] * x[t * N + k];
            y[t * n_out + o] = sum(p);
        }
    return DS4_OK;
}

static void test_probe_known_orders_are_named(void **state) {
    static const struct {
        float (*sum)(const float *);
        const char *want;
    } table[] = {
        {in_sequence, "sequential; 24 bits, to nearest"},
        {from_the_last, "sequential from the last; 24 bits, to nearest"},
        {in_pairs, "pairwise, neighbours first; 24 bits, to nearest"},
        {by_four,
         "blocks of 4 (pairwise, neighbours first), then sequential; 24 bits, to nearest"},
        {by_eight_sequences,
         "blocks of 8 (sequential), then pairwise, neighbours first; 24 bits, to nearest"},
        {lanes, "8 lanes (sequential), then pairwise, halves first; 24 bits, to nearest"},
        {in_f16_sequence, "sequential; 11 bits, to nearest"},
        {fused_eight,
         "8 at once with the sum before, sequential; 24 bits, cut off; at once 24 bits, cut "
         "off"},
        {fused_four,
         "4 at once with the sum before, sequential; 24 bits, to nearest; at once 26 bits, "
         "cut off"},
        {in_f64, "sequential; at least 29 bits"},
        {exact,
         "no order shows: the sums are too wide; at least 29 bits; at once at least 29 bits"},
    };
    (void)state;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        char text[256];
        float (*sum)(const float *) = table[i].sum;
        assert_int_equal(ds4_vk_probe(text, sizeof text, simulate, &sum, NULL), DS4_OK);
        if (strcmp(text, table[i].want))
            fail_msg("order %zu: found '%s', planted '%s'", i, text, table[i].want);
    }
}

static void test_probe_order_by_value_is_no_tree(void **state) {
    char text[256];
    float (*sum)(const float *) = by_value;
    (void)state;
    assert_int_equal(ds4_vk_probe(text, sizeof text, simulate, &sum, NULL), DS4_OK);
    if (!strstr(text, "no fixed tree")) fail_msg("'%s'", text);
}

static void test_probe_rows_of_the_device(void **state) {
    ds4_vk_options options = test_vk_options();
    ds4_backend *b = NULL;
    ds4_err err = {0};
    (void)state;
    if (ds4_vk_open(&b, &options, &err)) {
        print_message("SKIPPED: no usable Vulkan device: %s\n", err.message);
        if (test_needs_device()) fail();
        skip();
    }
    for (uint32_t i = 0; i < b->ops->n_row(b, DS4_OP_matmul); i++) {
        const ds4_row_info *info = b->ops->row(b, DS4_OP_matmul, i);
        char text[256];
        if (info->lacks) {
            print_message("SKIPPED: matmul %s: %s\n", info->name, info->lacks);
            continue;
        }
        test_ok(ds4_vk_probe_row(text, sizeof text, b, i, &err), &err);
        print_message("matmul %s: %s\n", info->name, text);
        if (i == 0) /* 16 lanes of two, then the tree 8, 4, 2, 1 */
            assert_string_equal(text, "pairwise, halves first; 24 bits, to nearest");
        if (strstr(info->name, "coop")) {
            assert_null(strstr(text, "no fixed tree"));
            assert_null(strstr(text, "without a name"));
        }
    }
    b->ops->close(b);
}

/* The direct rows: an input beyond the range of f16 gives an infinite output, never NaN. */
static void test_inputs_beyond_f16_become_infinite(void **state) {
    enum { TOK = 32 };
    static const uint32_t n_byte = TOK * N * sizeof(float);
    struct ds4_args_matmul args = {TOK, N, TOK, N * (uint32_t)sizeof(float), N, TOK};
    ds4_call c = {.tap = DS4_TAP_logits,
                  .phase = DS4_PREFILL,
                  .wtype = DS4_QUANT_F32,
                  .args = &args,
                  .args_bytes = sizeof args,
                  .n_col = TOK,
                  .n_bind = 3};
    ds4_vk_options options = test_vk_options();
    float w[TOK * N], x[TOK * N], y[TOK * TOK];
    ds4_backend *b = NULL;
    ds4_err err = {0};
    uint32_t n = 0;
    (void)state;
    if (!test_has_device()) skip();
    test_ok(ds4_vk_open(&b, &options, &err), &err);
    for (uint32_t i = 0; i < TOK * N; i++) w[i] = x[i] = 1.0f;
    x[3] = 70000.0f, x[N + 5] = -1e30f;
    test_ok(b->ops->buf_weight(b, &c.bind[0], w, n_byte, "w", &err), &err);
    test_ok(b->ops->buf_new(b, &c.bind[1], n_byte, DS4_TYPE_F32, &err), &err);
    test_ok(b->ops->buf_new(b, &c.bind[2], sizeof y, DS4_TYPE_F32, &err), &err);
    test_ok(b->ops->buf_write(b, c.bind[1], 0, x, n_byte, &err), &err);
    for (uint32_t i = 0; i < b->ops->n_row(b, DS4_OP_matmul); i++) {
        const ds4_row_info *info = b->ops->row(b, DS4_OP_matmul, i);
        if (info->lacks || !strstr(info->name, "coop_direct")) continue;
        print_message("matmul %s\n", info->name), n++;
        test_ok(b->ops->call(b, &c, i, &err), &err);
        test_ok(b->ops->buf_read(b, c.bind[2], 0, y, sizeof y, &err), &err);
        for (uint32_t o = 0; o < TOK; o++) {
            assert_true(y[o] == INFINITY && y[TOK + o] == -INFINITY);
            assert_true(y[2 * TOK + o] == (float)N);
        }
    }
    for (uint32_t i = 0; i < 3; i++) b->ops->buf_free(b, c.bind[i]);
    b->ops->close(b);
    if (n) return;
    print_message("SKIPPED: no direct row of cooperative matrices here\n");
    skip();
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_probe_known_orders_are_named),
        cmocka_unit_test(test_probe_order_by_value_is_no_tree),
        cmocka_unit_test(test_probe_rows_of_the_device),
        cmocka_unit_test(test_inputs_beyond_f16_become_infinite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
