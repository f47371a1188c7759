/* The float64 functions against the C library in long double, which has 11 bits more on x86 (64
 * on aarch64), on dense and random inputs; the stored formats against engine/base/float.h. */
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "engine/base/float.h"
#include "engine/base/fmath64.h"
#include "engine/base/rng.h"
#include "tests/support.h"

enum { N = 400000 };
static const long double two_pi = 6.28318530717958647692528676655900577L;

/* Errors in ulp of the exact result, or absolute. */
static double ulps(double got, long double want) {
    int e;
    frexpl(want, &e);
    if (e < -1021) e = -1021;
    return (double)(fabsl((long double)got - want) / ldexpl(1.0L, e - 53));
}
static double absolute(double got, long double want) {
    return (double)fabsl((long double)got - want);
}

static long double true_exp(long double x) { return expl(x); }
static long double true_log1p(long double x) { return log1pl(x); }
static long double true_sigmoid(long double z) { return 1.0L / (1.0L + expl(-z)); }
static long double true_tanh(long double x) { return tanhl(x); }
static long double true_sqrt_softplus(long double z) {
    return sqrtl(z > 0.0L ? z + log1pl(expl(-z)) : log1pl(expl(z)));
}

static const struct {
    const char *name;
    double (*f)(double);
    long double (*want)(long double);
    double (*error)(double, long double);
    double lo, hi, bound;
} functions[] = {
    {"exp", ds4_f64_exp, true_exp, ulps, -708.0, 709.0, 1.0},
    {"exp near 0", ds4_f64_exp, true_exp, ulps, -2.0, 2.0, 1.0},
    {"log1p", ds4_f64_log1p, true_log1p, ulps, 0.0, 1.0, 2.0},
    {"sigmoid", ds4_f64_sigmoid, true_sigmoid, ulps, -40.0, 40.0, 2.3},
    {"tanh", ds4_f64_tanh, true_tanh, absolute, -20.0, 20.0, 1.7e-16},
    {"sqrt_softplus", ds4_f64_sqrt_softplus, true_sqrt_softplus, ulps, -60.0, 60.0, 1.8},
};

static double uniform(uint64_t key, uint64_t i, double lo, double hi) {
    return lo + (hi - lo) * (double)(ds4_rng_u64(key, i) >> 11) * 0x1p-53;
}

static void test_fmath64_functions_keep_their_error(void **state) {
    (void)state;
    if (LDBL_MANT_DIG < 64) {
        print_message("SKIPPED: long double is no wider than double here\n");
        return;
    }
    for (size_t k = 0; k < sizeof functions / sizeof *functions; k++) {
        double worst = 0.0, at = 0.0;
        for (uint64_t i = 0; i < N; i++) {
            double x = uniform(k + 1, i, functions[k].lo, functions[k].hi);
            double e = functions[k].error(functions[k].f(x), functions[k].want((long double)x));
            if (e > worst) worst = e, at = x;
        }
        print_message("  %-14s worst %.3g of %.3g, at %.17g\n", functions[k].name, worst,
                      functions[k].bound, at);
        assert_true(worst <= functions[k].bound && worst > 0.0);
    }
    /* The comparison can fail: one unit in the last place is seen. */
    double x = 0.7, y = ds4_f64_exp(x);
    assert_true(ulps(nextafter(nextafter(y, 9.0), 9.0), expl(0.7)) > 1.0);
}

static void test_fmath64_turns_are_cos_and_sin(void **state) {
    (void)state;
    double worst = 0.0;
    for (uint64_t i = 0; i < N; i++) {
        uint64_t turn = i < 4096 ? (i / 8 << 55) + i % 8 - 4 : ds4_rng_u64(7, i);
        double c, s;
        long double angle = ldexpl((long double)turn, -64) * two_pi;
        ds4_f64_cos_sin_turn(&c, &s, turn);
        worst = fmax(worst, fmax(absolute(c, cosl(angle)), absolute(s, sinl(angle))));
    }
    print_message("  cos and sin: worst %.3g of 2.2e-16\n", worst);
    assert_true(worst <= 2.2e-16);
    double c, s; /* the quarters are exact */
    ds4_f64_cos_sin_turn(&c, &s, 1ull << 62);
    assert_true(c == 0.0 && s == 1.0);
    ds4_f64_cos_sin_turn(&c, &s, 3ull << 62);
    assert_true(c == 0.0 && s == -1.0);
}

static void test_fmath64_ends_are_right(void **state) {
    (void)state;
    assert_true(ds4_f64_exp(0.0) == 1.0 && ds4_f64_exp(-1e30) == 0.0);
    assert_true(ds4_f64_exp(-746.0) == 0.0 && ds4_f64_exp(-745.0) == 0x1p-1074);
    assert_true(isinf(ds4_f64_exp(710.0)) && isfinite(ds4_f64_exp(709.7)));
    assert_true(isnan(ds4_f64_exp(NAN)) && isnan(ds4_f64_sigmoid(NAN)));
    assert_true(ds4_f64_sigmoid(-1e30) == 0.0 && ds4_f64_sigmoid(1e30) == 1.0);
    assert_true(ds4_f64_sqrt_softplus(1e10) == 1e5);
}

/* Every f32 of a wide sample: the same grid values as the f32 conversions of the bit contract.
 */
static void test_fmath64_formats_are_those_of_float_h(void **state) {
    (void)state;
    for (uint64_t i = 0; i < N; i++) {
        float x = ds4_f32_from_bits((uint32_t)ds4_rng_u64(11, i));
        float small = (float)uniform(12, i, -500.0, 500.0) * (i % 3 ? 1.0f : 0x1p-9f);
        if (isfinite(x)) assert_true(ds4_f64_f16((double)x) == (double)ds4_f16_round(x));
        float clip8 = fmaxf(-448.0f, fminf(448.0f, small)),
              clip4 = fmaxf(-6.0f, fminf(6.0f, small));
        assert_true(ds4_f64_grid((double)clip8, 3, -6) == (double)ds4_e4m3_round(clip8));
        assert_true(ds4_f64_grid((double)clip4, 1, 0) == (double)ds4_e2m1_round(clip4));
    }
    for (uint32_t h = 0; h < 0x7c00; h++) { /* ties of f16, and what lies just off them */
        double a = (double)ds4_f16_to_f32((uint16_t)h),
               b = (double)ds4_f16_to_f32((uint16_t)(h + 1));
        if (h == 0x7bff) b = 65536.0;
        double tie = 0.5 * (a + b), even = h & 1 ? b : a;
        if (h == 0x7bff) even = (double)INFINITY, b = even;
        assert_true(ds4_f64_f16(tie) == even && ds4_f64_f16(-tie) == -even);
        assert_true(ds4_f64_f16(nextafter(tie, 0.0)) == a); /* f32 would have rounded twice */
        if (h < 0x7bff) assert_true(ds4_f64_f16(nextafter(tie, 1e9)) == b);
    }
    assert_true(isnan(ds4_f64_f16(NAN)));
}

static void test_fmath64_keys_are_monotone(void **state) {
    (void)state;
    static const double v[] = {-INFINITY, -1e300,    -1.0, -0x1p-1074,
                               0.0,       0x1p-1074, 1.0,  INFINITY};
    for (int i = 0; i < 8; i++)
        for (int j = 0; j < 8; j++)
            assert_int_equal(ds4_f64_select_key(v[i]) > ds4_f64_select_key(v[j]), v[i] > v[j]);
    assert_true(ds4_f64_select_key(-0.0) == ds4_f64_select_key(0.0));
    assert_true(ds4_f64_select_key(NAN) == 0 && ds4_f64_select_key(-INFINITY) > 0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fmath64_functions_keep_their_error),
        cmocka_unit_test(test_fmath64_turns_are_cos_and_sin),
        cmocka_unit_test(test_fmath64_ends_are_right),
        cmocka_unit_test(test_fmath64_formats_are_those_of_float_h),
        cmocka_unit_test(test_fmath64_keys_are_monotone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
