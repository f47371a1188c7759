/* engine/vk/vk_float: the table against C, what its cases tell apart, and what a device with
 * wrong arithmetic is answered. */
#include <fenv.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if defined(__SSE2__)
#include <xmmintrin.h>
#endif

#include "engine/base/float.h"
#include "engine/vk/vk_float.h"
#include "kernels/probe_ops.h"
#include "tests/support.h"

/* Arithmetic of another kind, which a device might have. */
typedef enum flaw { NO_FLAW, FUSED, REORDERED } flaw;

static float from(uint32_t u) { return ds4_f32_from_bits(u); }

static float float_step(const ds4_vk_float_case *k, flaw f) {
    volatile float a = from(k->a), b = from(k->b), c = from(k->c), p, q;
    switch (k->step) {
    case PROBE_ADD:
        return a + b;
    case PROBE_SUB:
        return a - b;
    case PROBE_MUL:
        return a * b;
    case PROBE_MUL_ADD:
        p = a * b;
        return f == FUSED ? fmaf(a, b, c) : p + c;
    case PROBE_SUB_MUL:
        p = a * b;
        return f == FUSED ? fmaf(-a, b, c) : c - p;
    case PROBE_ADD_ADD:
        p = a + b, q = b + c;
        return f == REORDERED ? a + q : p + c;
    case PROBE_ADD_SUB:
        p = a + b;
        return f == REORDERED ? a : p - b;
    case PROBE_MUL_SUM:
        p = a * b, q = a * c;
        if (f == REORDERED) return q = b + c, a * q;
        return f == FUSED ? fmaf(a, b, q) : p + q;
    case PROBE_NEG:
        return -a;
    case PROBE_MOVE:
        return a;
    case PROBE_OF_UINT:
        return (float)*(const volatile uint32_t *)&k->a;
    case PROBE_OF_INT:
        return (float)(int32_t) * (const volatile uint32_t *)&k->a;
    case PROBE_DIV:
        return a / b;
    case PROBE_SQRT:
        return sqrtf(a);
    case PROBE_FMA:
        return fmaf(a, b, c);
    default:
        return ds4_f16_to_f32((uint16_t)k->a);
    }
}

/* False: the step gives a float. */
static bool word_step(uint32_t *out, const ds4_vk_float_case *k) {
    volatile float a = from(k->a), b = from(k->b);
    const uint64_t product = (uint64_t)k->a * k->b;
    switch (k->step) {
    case PROBE_LESS:
        return *out = a < b, true;
    case PROBE_EQUAL:
        return *out = a == b, true;
    case PROBE_TO_UINT:
        return *out = (uint32_t)a, true;
    case PROBE_TO_INT:
        return *out = (uint32_t)(int32_t)a, true;
    case PROBE_UMUL_HI:
        return *out = (uint32_t)(product >> 32), true;
    case PROBE_UMUL_LO:
        return *out = (uint32_t)product, true;
    case PROBE_CARRY:
        return *out = k->a + k->b < k->a, true;
    case PROBE_SHL:
        return *out = k->a << k->b, true;
    case PROBE_SHR:
        return *out = k->a >> k->b, true;
    case PROBE_SAR:
        return *out = (uint32_t)((int32_t)k->a >> k->b), true;
    case PROBE_SIGNED:
        return *out = (uint32_t)(int32_t)(int8_t)(k->a >> k->b), true;
    case PROBE_PACK16:
        return *out = ds4_f32_to_f16(a), true;
    default:
        return false;
    }
}

static bool is_nan(uint32_t u) { return (u & 0x7fffffffu) > 0x7f800000u; }

static bool agrees(const ds4_vk_float_case *k, flaw f) {
    uint32_t got;
    if (k->step == PROBE_MOVE) got = k->a; /* x87 and the like aside: C moves bits */
    else if (!word_step(&got, k)) got = ds4_f32_bits(float_step(k, f));
    return k->any_nan ? is_nan(got) : got == k->want;
}

static uint32_t n_wrong(uint32_t property, flaw f) {
    uint32_t n, bad = 0;
    const ds4_vk_float_case *k = ds4_vk_float_cases(&n);
    for (uint32_t i = 0; i < n; i++) bad += k[i].property == property && !agrees(&k[i], f);
    return bad;
}

static void test_table_agrees_with_c(void **state) {
    uint32_t n, seen[DS4_VK_FLOAT_COUNT] = {0};
    const ds4_vk_float_case *k = ds4_vk_float_cases(&n);
    (void)state;
    for (uint32_t i = 0; i < n; i++) {
        seen[k[i].property]++;
        if (!agrees(&k[i], NO_FLAW))
            fail_msg("%s: %s %08x %08x %08x does not give %08x in C",
                     ds4_vk_float_table[k[i].property].name, k[i].step_name, k[i].a, k[i].b,
                     k[i].c, k[i].want);
    }
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++) assert_true(seen[p] > 0);
}

/* The cases of a property see the arithmetic that lacks it. */
static void test_cases_tell_flaws_apart(void **state) {
    static const int mode[] = {FE_UPWARD, FE_DOWNWARD, FE_TOWARDZERO};
    (void)state;
    assert_true(n_wrong(FLOAT_no_contraction, FUSED) > 0);
    assert_true(n_wrong(FLOAT_no_reassociation, REORDERED) > 0);
    for (size_t i = 0; i < sizeof mode / sizeof *mode; i++) {
        uint32_t add, mul, divide, root;
        assert_int_equal(fesetround(mode[i]), 0);
        add = n_wrong(FLOAT_add_nearest, NO_FLAW), mul = n_wrong(FLOAT_mul_nearest, NO_FLAW);
        divide = n_wrong(FLOAT_divide_nearest, NO_FLAW);
        root = n_wrong(FLOAT_sqrt_nearest, NO_FLAW);
        fesetround(FE_TONEAREST);
        assert_true(add > 0 && mul > 0 && divide > 0 && root > 0);
    }
}

/* A processor that flushes subnormals: what strict rows rely on stays, what is recorded of
 * subnormals changes. */
static void test_flushing_changes_no_strict_property(void **state) {
    (void)state;
#if defined(__SSE2__)
    uint32_t bad[DS4_VK_FLOAT_COUNT];
    const unsigned old = _mm_getcsr();
    _mm_setcsr(old | 0x8040u); /* flush results, take operands for zero */
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++) bad[p] = n_wrong(p, NO_FLAW);
    _mm_setcsr(old);
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++)
        if (ds4_vk_float_table[p].strict) assert_int_equal(bad[p], 0);
    assert_true(bad[FLOAT_denorm_input] > 0);
    assert_true(bad[FLOAT_denorm_add] > 0 && bad[FLOAT_denorm_mul] > 0);
#else
    print_message("no way to flush subnormals here\n");
    skip();
#endif
}

static const char *fact_of(const ds4_backend *b, const char *prefix, const char *name) {
    char want[128];
    const char *key, *value;
    snprintf(want, sizeof want, "%s%s", prefix, name);
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, want)) return value;
    fail_msg("no fact %s", want);
    return "";
}

static void test_device_has_what_strict_rows_rely_on(void **state) {
    ds4_vk_options opt = test_vk_options();
    ds4_backend *b = NULL;
    ds4_err err = {0};
    (void)state;
    if (!test_has_device()) skip();
    test_ok(ds4_vk_open(&b, &opt, &err), &err);
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++) {
        const char *text = fact_of(b, "float_measured.", ds4_vk_float_table[p].name);
        print_message("%-18s %s\n", ds4_vk_float_table[p].name, text);
        if (ds4_vk_float_table[p].strict) assert_string_equal(text, "yes");
        else assert_true(!strcmp(text, "yes") || !strncmp(text, "no: ", 4));
    }
    b->ops->close(b);
}

/* Every property in turn: strict rows are refused by its name, a mere fact is recorded. */
static void test_wrong_answer_of_each_property_is_named(void **state) {
    (void)state;
    if (!test_has_device()) skip();
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++) {
        const ds4_vk_float_property *t = &ds4_vk_float_table[p];
        ds4_vk_options opt = test_vk_options();
        ds4_backend *b = NULL;
        ds4_err err = {0};
        char begin[64];
        opt.wrong = t->name;
        ds4_status st = ds4_vk_open(&b, &opt, &err);
        snprintf(begin, sizeof begin, "cannot run strict rows: %s (", t->name);
        assert_int_equal(st, t->strict ? DS4_ERR_ENVIRONMENT : DS4_OK);
        if (t->strict) {
            assert_null(b);
            assert_non_null(strstr(err.message, begin));
            assert_non_null(strstr(err.message, t->why));
            opt.describe = true;
            test_ok(ds4_vk_open(&b, &opt, &err), &err);
            assert_non_null(strstr(ds4_vk_unfit(b), begin));
        } else {
            assert_null(ds4_vk_unfit(b));
        }
        assert_int_equal(strncmp(fact_of(b, "float_measured.", t->name), "no: ", 4), 0);
        assert_string_equal(fact_of(b, "falsified", ""), t->name);
        b->ops->close(b);
    }
}

static void test_claim_that_is_not_kept_is_named(void **state) {
    static const char *const says[] = {
#define PROPERTY(...)
#define CASE(...)
#define MODE(id, probe, property, wanted) #property,
#include "engine/vk/vk_float.def"
    };
    (void)state;
    if (!test_has_device()) skip();
    for (size_t i = 0; i < sizeof says / sizeof *says; i++) {
        ds4_vk_options opt = test_vk_options();
        ds4_backend *b = NULL;
        ds4_err err = {0};
        opt.wrong = says[i];
        test_ok(ds4_vk_open(&b, &opt, &err), &err);
        const char *text = fact_of(b, "float_claim.", says[i]);
        if (!strcmp(fact_of(b, "float_controls.", says[i]), "1"))
            assert_int_equal(strncmp(text, "broken: ", 8), 0);
        else assert_string_equal(text, "not claimed");
        b->ops->close(b);
    }
}

static void test_unknown_property_is_usage(void **state) {
    ds4_vk_options opt = test_vk_options();
    ds4_backend *b = NULL;
    ds4_err err = {0};
    (void)state;
    if (!test_has_device()) skip();
    opt.wrong = "add_neatest";
    assert_int_equal(ds4_vk_open(&b, &opt, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "add_neatest"));
    assert_null(b);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_table_agrees_with_c),
        cmocka_unit_test(test_cases_tell_flaws_apart),
        cmocka_unit_test(test_flushing_changes_no_strict_property),
        cmocka_unit_test(test_device_has_what_strict_rows_rely_on),
        cmocka_unit_test(test_wrong_answer_of_each_property_is_named),
        cmocka_unit_test(test_claim_that_is_not_kept_is_named),
        cmocka_unit_test(test_unknown_property_is_usage),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
