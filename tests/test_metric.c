/* Metrics against hand-computed values, an independent long double computation, and the rules
 * for ties and non-finite values of drift.md section 1.1. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "drift/metric.h"
#include "drift/stats.h"
#include "engine/base/float.h"

static const float inf = INFINITY, nan_f = NAN;

static drift_logit measure(const float *a, const float *b, uint32_t n, uint32_t k,
                           int32_t next) {
    drift_logit m = {.next = next};
    assert_int_equal(drift_logit_measure(&m, a, b, n, k, NULL), DS4_OK);
    return m;
}

static void test_logit_small_vector_matches_hand_values(void **state) {
    (void)state;
    const float a[] = {1.0f, 5.0f, 3.0f, 4.0f, 0.0f, -1.0f, 2.0f, 5.0f};
    const float b[] = {1.0f, 5.0f, 3.5f, 3.0f, 0.0f, -1.0f, 2.0f, 5.5f};
    drift_logit m = measure(a, b, 8, 20, 2);
    assert_true(m.rms == sqrt(1.5 / 8)); /* 0.25 + 1 + 0.25 */
    assert_true(m.max_abs == 1.0);
    assert_true(m.top20_max_abs == 1.0);
    assert_int_equal(m.n_nonfinite, 0);
    assert_int_equal(m.top1_a, 1); /* 5 and 5: the lower id */
    assert_int_equal(m.top1_b, 7);
    assert_false(m.same_top1);
    assert_int_equal(m.top_k, 20);
    assert_int_equal(m.top5_overlap, 5); /* 1 7 3 2 6 and 7 1 2 3 6 */
    assert_int_equal(m.top20_overlap, 8);
    assert_int_equal(m.max_rank_delta, 1);
    assert_int_equal(m.rank_displacement, 1);
    assert_true(m.margin_a == 0.0);
    assert_true(m.margin_b == 0.5);
    assert_true(m.rms_gauge == sqrt(1.5 / 8)); /* the mean difference is 0 */
    assert_int_equal(m.n_largest, 5);
    assert_int_equal(m.largest[0].token, 3);
    assert_int_equal(m.largest[1].token, 7); /* 0.5 twice: the higher id first */
    assert_int_equal(m.largest[2].token, 2);
    assert_true(m.largest[1].a == 5.0 && m.largest[1].b == 5.5 && m.largest[1].abs == 0.5);
}

static void check_largest(const float *b, uint32_t n, const int32_t *want) {
    float zero[16] = {0};
    drift_logit m = measure(zero, b, n, 20, -1);
    for (int i = 0; i < 5; i++) assert_int_equal(m.largest[i].token, want[i]);
}

static void test_logit_largest_ties_follow_the_script(void **state) {
    (void)state;
    check_largest((const float[]){1, 1, 1, 1, 1, 1, 1}, 7, (const int32_t[]){4, 3, 2, 1, 0});
    check_largest((const float[]){1, 1, 1, 1, 1, 2, 1}, 7, (const int32_t[]){5, 4, 3, 2, 1});
    check_largest((const float[]){1, 1, 1, 1, 1, 2, -2}, 7, (const int32_t[]){6, 5, 4, 3, 2});
    check_largest((const float[]){3, -2, 3, 1, 2, 2, 9}, 7, (const int32_t[]){6, 2, 0, 5, 4});
}

static float noise(uint32_t *seed) {
    *seed = *seed * 1664525u + 1013904223u;
    return (float)(int32_t)*seed * 0x1p-28f;
}

/* Independent: plain definitions in long double, no max-subtraction, other loop structure. */
static void check_against_long_double(const float *a, const float *b, uint32_t n,
                                      uint32_t next) {
    long double za = 0, zb = 0, ab = 0, ba = 0, js = 0, tv = 0, ha = 0, sq = 0, mean = 0,
                gauge = 0;
    drift_logit m = measure(a, b, n, 20, (int32_t)next);
    for (uint32_t i = n; i-- > 0;) {
        za += expl((long double)a[i]), zb += expl((long double)b[i]);
        mean += ((long double)b[i] - (long double)a[i]) / n;
    }
    for (uint32_t i = n; i-- > 0;) {
        long double p = expl((long double)a[i]) / za, q = expl((long double)b[i]) / zb,
                    h = (p + q) / 2;
        long double d = (long double)b[i] - (long double)a[i];
        ab += p * logl(p / q), ba += q * logl(q / p);
        js += p * logl(p / h) / 2 + q * logl(q / h) / 2;
        tv += fabsl(p - q) / 2, ha -= p * logl(p), sq += d * d,
            gauge += (d - mean) * (d - mean);
    }
    assert_true(fabsl((long double)m.kl_ab - ab) < 1e-13L);
    assert_true(fabsl((long double)m.kl_ba - ba) < 1e-13L);
    assert_true(fabsl((long double)m.js - js) < 1e-13L);
    assert_true(fabsl((long double)m.tv - tv) < 1e-13L);
    assert_true(fabsl((long double)m.entropy_a - ha) < 1e-12L);
    assert_true(fabsl((long double)m.rms - sqrtl(sq / n)) < 1e-13L);
    assert_true(fabsl((long double)m.rms_gauge - sqrtl(gauge / n)) < 1e-13L);
    assert_true(fabsl((long double)m.logp_next_b - ((long double)b[next] - logl(zb))) < 1e-12L);
}

static void test_logit_distribution_metrics_match_long_double(void **state) {
    (void)state;
    static float a[5000], b[5000];
    static const float scale[] = {1e-6f, 1e-3f, 0.1f, 1.0f};
    uint32_t seed = 7;
    for (size_t s = 0; s < 4; s++) {
        for (uint32_t i = 0; i < 5000; i++)
            a[i] = noise(&seed), b[i] = a[i] + scale[s] * noise(&seed);
        check_against_long_double(a, b, 5000, 4321);
    }
}

/* The legacy sums once more, as the script writes them: bits must be equal. */
static void test_logit_legacy_metrics_match_bit_for_bit(void **state) {
    (void)state;
    static float a[3000], b[3000];
    uint32_t seed = 99;
    for (uint32_t i = 0; i < 3000; i++) a[i] = noise(&seed), b[i] = a[i] + 0.01f * noise(&seed);
    a[17] = nan_f, b[40] = inf, b[2999] = -inf;
    double sum = 0.0, top = 0.0;
    uint64_t bad = 0;
    for (uint32_t i = 0; i < 3000; i++) {
        if (!isfinite(a[i]) || !isfinite(b[i])) {
            bad++;
            continue;
        }
        double d = (double)b[i] - (double)a[i];
        sum += d * d;
        if (fabs(d) > top) top = fabs(d);
    }
    drift_logit m = measure(a, b, 3000, 20, -1);
    assert_true(m.rms == sqrt(sum / 3000.0));
    assert_true(m.max_abs == top);
    assert_int_equal(m.n_nonfinite, bad);
    assert_int_equal(bad, 3);
    assert_true(isnan(m.logp_next_a));
}

static void test_logit_equal_sides_give_exact_zeros(void **state) {
    (void)state;
    float a[300];
    uint32_t seed = 3;
    for (int i = 0; i < 300; i++) a[i] = noise(&seed);
    a[5] = -inf;
    drift_logit m = measure(a, a, 300, 20, 1);
    assert_true(m.kl_ab == 0.0 && m.kl_ba == 0.0 && m.js == 0.0 && m.tv == 0.0 && m.rms == 0.0);
    assert_true(m.rms_gauge == 0.0 && m.same_top1 && m.top20_overlap == 20 &&
                m.rank_displacement == 0);
}

static void test_logit_lost_probability_is_infinite_kl(void **state) {
    (void)state;
    const float a[] = {0, 1, 2}, b[] = {0, -inf, 2};
    drift_logit m = measure(a, b, 3, 20, 1);
    assert_true(isinf(m.kl_ab) && m.kl_ab > 0);
    assert_true(isfinite(m.kl_ba) && m.kl_ba > 0);
    assert_true(m.js > 0 && m.js < log(2.0) && m.tv > 0 && m.tv < 1);
    assert_true(isinf(m.logp_next_b) && m.logp_next_b < 0);
    assert_int_equal(m.n_nonfinite, 1);
}

/* drift.md 1.1: the legacy numbers of an all-NaN candidate look perfect; ours say so by count.
 */
static void test_logit_nan_candidate_keeps_legacy_zeros_and_counts(void **state) {
    (void)state;
    float a[100], b[100];
    for (int i = 0; i < 100; i++) a[i] = (float)i, b[i] = nan_f;
    drift_logit m = measure(a, b, 100, 20, 1);
    assert_true(m.rms == 0.0 && m.max_abs == 0.0 && m.top20_max_abs == 0.0 && !m.same_top1);
    assert_int_equal(m.n_nonfinite, 100);
    assert_int_equal(m.top1_b, -1);
    assert_true(isnan(m.kl_ab) && isnan(m.js) && isnan(m.entropy_b) && isnan(m.margin_b));
    assert_true(m.rank_displacement > 0 || a[0] > a[1]);
}

static void test_logit_fallen_token_shows_in_rank_displacement(void **state) {
    (void)state;
    static float a[60000], b[60000];
    for (int i = 0; i < 60000; i++) a[i] = b[i] = -(float)i * 0x1p-10f;
    b[2] = -1000.0f;
    drift_logit m = measure(a, b, 60000, 20, -1);
    assert_int_equal(m.max_rank_delta,
                     1); /* those behind move up by one: the fall is invisible */
    assert_int_equal(m.rank_displacement, 59997);
}

static void test_logit_constant_shift_vanishes_in_the_gauge(void **state) {
    (void)state;
    float a[64], b[64];
    for (int i = 0; i < 64; i++) a[i] = (float)(i % 13), b[i] = a[i] + 0.5f;
    drift_logit m = measure(a, b, 64, 20, -1);
    assert_true(m.rms == 0.5 && m.rms_gauge == 0.0);
    assert_true(fabs(m.kl_ab) < 1e-15);
}

static void test_logit_positive_infinity_is_excluded_from_lists(void **state) {
    (void)state;
    const float a[] = {1, inf, 3, 2}, b[] = {1, 2, 3, 2};
    drift_logit m = measure(a, b, 4, 20, -1);
    assert_int_equal(m.top1_a, 2);
    assert_int_equal(m.n_nonfinite, 1);
    assert_true(m.top20_max_abs == 0.0);
    assert_true(m.kl_ab == 0.0); /* id 1 takes no part */
}

static drift_tensor tensor(uint32_t n_row, uint32_t n_col, double *rms, double *max) {
    return (drift_tensor){.n_row = n_row,
                          .n_col = n_col,
                          .pos0 = 8,
                          .pos_step = 4,
                          .row_rms = rms,
                          .row_max = max};
}

static void test_tensor_matches_hand_values(void **state) {
    (void)state;
    const float a[] = {1, 2, 3, 4, 0.0f, 6}, b[] = {1, 2, 3, 4, -0.0f, 5};
    double rms[3], max[3];
    drift_tensor t = tensor(3, 2, rms, max);
    drift_tensor_sum s;
    drift_tensor_begin(&t, &s);
    drift_tensor_add_f32(&t, &s, a, b, 0, 1);
    drift_tensor_add_f32(&t, &s, a + 2, b + 2, 1, 2);
    drift_tensor_end_f32(&t, &s);
    assert_int_equal(t.n_elem, 6);
    assert_int_equal(t.n_diff, 2); /* the sign of zero is a bit */
    assert_true(t.rms == sqrt(1.0 / 6.0) && t.ref_rms == sqrt(66.0 / 6.0));
    assert_true(t.nrmse == t.rms / t.ref_rms && t.max_abs == 1.0 && t.mean_err == -1.0 / 6.0);
    assert_true(t.max_row == 2 && t.max_col == 1);
    assert_true(fabs(t.cosine - 60.0 / sqrt(66.0 * 55.0)) < 1e-15);
    assert_int_equal(t.first_pos, 16);
    assert_true(rms[0] == 0.0 && rms[2] == sqrt(0.5) && max[2] == 1.0);
    assert_int_equal(t.ulp[0], 5); /* -0 equals +0 on the line */
    assert_int_equal(t.max_ulp, 1u << 21);
    assert_int_equal(t.ulp[9], 1);
}

static void test_tensor_ulp_buckets_have_their_edges(void **state) {
    (void)state;
    static const uint32_t ulp[] = {0,  1,  2,  3,  4,    5,    8,        9,
                                   16, 17, 64, 65, 1024, 1025, 1u << 20, (1u << 20) + 1};
    static const uint64_t want[DRIFT_N_ULP] = {1, 1, 1, 2, 2, 2, 2, 2, 2, 1};
    float a[16], b[16];
    double rms[1], max[1];
    for (int i = 0; i < 16; i++)
        a[i] = 1.5f, b[i] = ds4_f32_from_bits(ds4_f32_bits(1.5f) + ulp[i]);
    drift_tensor t = tensor(1, 16, rms, max);
    drift_tensor_sum s;
    drift_tensor_begin(&t, &s);
    drift_tensor_add_f32(&t, &s, a, b, 0, 1);
    drift_tensor_end_f32(&t, &s);
    assert_memory_equal(t.ulp, want, sizeof want);
    assert_int_equal(t.max_ulp, (1u << 20) + 1);
}

static void test_tensor_nonfinite_is_counted_by_side(void **state) {
    (void)state;
    const float a[] = {1, nan_f, inf, -inf, 1e-40f, inf},
                b[] = {nan_f, nan_f, -inf, -inf, 0, inf};
    double rms[1], max[1];
    drift_tensor t = tensor(1, 6, rms, max);
    drift_tensor_sum s;
    drift_tensor_begin(&t, &s);
    drift_tensor_add_f32(&t, &s, a, b, 0, 1);
    drift_tensor_end_f32(&t, &s);
    assert_true(t.bad_a.n_nan == 1 && t.bad_a.n_pos_inf == 2 && t.bad_a.n_neg_inf == 1);
    assert_true(t.bad_b.n_nan == 2 && t.bad_b.n_pos_inf == 1 && t.bad_b.n_neg_inf == 2);
    assert_true(t.bad_a.first == 1 && t.bad_b.first == 0);
    assert_true(t.bad_a.n_subnormal == 1 && t.bad_b.n_subnormal == 0);
    assert_int_equal(t.n_bad_differs, 2);
    assert_int_equal(t.n_elem, 1);
    assert_int_equal(t.n_diff, 3);
}

static void test_tensor_zero_reference_and_no_elements(void **state) {
    (void)state;
    const float zero[] = {0, 0}, one[] = {1, 1}, bad[] = {nan_f, nan_f};
    double rms[1], max[1];
    drift_tensor_sum s;
    drift_tensor t = tensor(1, 2, rms, max);
    drift_tensor_begin(&t, &s);
    drift_tensor_add_f32(&t, &s, zero, one, 0, 1);
    drift_tensor_end_f32(&t, &s);
    assert_true(isinf(t.nrmse) && isnan(t.cosine));
    t = tensor(1, 2, rms, max);
    drift_tensor_begin(&t, &s);
    drift_tensor_add_f32(&t, &s, zero, bad, 0, 1);
    drift_tensor_end_f32(&t, &s);
    assert_true(isnan(t.rms) && isnan(t.nrmse) && isnan(rms[0]) && t.n_elem == 0 &&
                t.n_bad_differs == 2);
}

static void test_tensor_ids_compare_as_sets(void **state) {
    (void)state;
    int32_t a[] = {1, 2, 3, 4, 5, 6, 7, 7, 8}, b[] = {3, 2, 1, 4, 9, 6, 7, 8, 8};
    double rms[3], max[3];
    drift_tensor t = tensor(3, 3, rms, max);
    drift_tensor_sum s;
    drift_tensor_begin(&t, &s);
    drift_tensor_add_i32(&t, a, b, 0, 3);
    drift_tensor_end_i32(&t);
    assert_int_equal(t.n_diff, 4);
    assert_int_equal(t.n_set_differs, 2); /* the first row only changed its order */
    assert_true(max[0] == 0.0 && max[1] == 1.0 && max[2] == 1.0 && rms[1] == 1.0 / 3.0);
    assert_int_equal(t.first_pos, 8);
    assert_true(isnan(t.rms));
}

static void test_stats_match_hand_values(void **state) {
    (void)state;
    double x[] = {4, 1, (double)NAN, 3, 2}, with_inf[] = {1, 2, (double)INFINITY};
    size_t n = drift_stats_measured(x, 5);
    assert_int_equal(n, 4);
    assert_true(drift_stats_mean(x, n) == 2.5);
    assert_true(fabs(drift_stats_sd(x, n) - sqrt(5.0 / 3.0)) < 1e-15);
    drift_stats_sort(x, n);
    assert_true(drift_stats_median(x, n) == 2.5 && drift_stats_max(x, n) == 4.0);
    assert_true(drift_stats_quantile(x, n, 0.0) == 1.0 &&
                drift_stats_quantile(x, n, 1.0) == 4.0);
    assert_true(fabs(drift_stats_quantile(x, n, 0.9) - 3.7) < 1e-15);
    assert_true(isinf(drift_stats_mean(with_inf, 3)) && drift_stats_median(with_inf, 3) == 2.0);
    assert_true(isinf(drift_stats_quantile(with_inf, 3, 0.75)) &&
                isinf(drift_stats_max(with_inf, 3)));
    assert_true(isnan(drift_stats_mean(x, 0)) && isnan(drift_stats_median(x, 0)) &&
                isnan(drift_stats_max(x, 0)));
}

/* A plain maximum over rows depends on where the NaN row stands; this one must not. */
static void test_metric_worst_ignores_order_and_fails_on_nonfinite(void **state) {
    (void)state;
    drift_logit row[3] = {{.kl_ab = 0.25}, {.kl_ab = (double)NAN}, {.kl_ab = 0.5}};
    drift_logits l = {.at = row, .n = 3};
    drift_tensor t = {.nrmse = 0.125};
    drift_result r = {.logits = &l, .n_logits = 1, .tensor = &t, .n_tensor = 1};
    const drift_metric *kl = drift_metric_find("logit.kl"),
                       *nrmse = drift_metric_find("tensor.nrmse");
    assert_true(drift_metric_worst(kl, &r) == 0.5);
    drift_logit swap = row[0];
    row[0] = row[1], row[1] = swap;
    assert_true(drift_metric_worst(kl, &r) == 0.5);
    assert_true(drift_metric_worst(nrmse, &r) == 0.125);
    t.n_bad_differs = 1;
    assert_true(isinf(drift_metric_worst(kl, &r)) && isinf(drift_metric_worst(nrmse, &r)));
    assert_true(drift_metric_worst(drift_metric_find("tensor.cosine"), &r) < 0);
    assert_null(drift_metric_find("rms"));
    for (size_t i = 0; i < drift_metric_n(); i++) {
        const drift_metric *m = drift_metric_at(i);
        assert_ptr_equal(drift_metric_find(m->name), m);
        assert_true(!m->logit != !m->tensor && *m->equation);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_logit_small_vector_matches_hand_values),
        cmocka_unit_test(test_logit_largest_ties_follow_the_script),
        cmocka_unit_test(test_logit_distribution_metrics_match_long_double),
        cmocka_unit_test(test_logit_legacy_metrics_match_bit_for_bit),
        cmocka_unit_test(test_logit_equal_sides_give_exact_zeros),
        cmocka_unit_test(test_logit_lost_probability_is_infinite_kl),
        cmocka_unit_test(test_logit_nan_candidate_keeps_legacy_zeros_and_counts),
        cmocka_unit_test(test_logit_fallen_token_shows_in_rank_displacement),
        cmocka_unit_test(test_logit_constant_shift_vanishes_in_the_gauge),
        cmocka_unit_test(test_logit_positive_infinity_is_excluded_from_lists),
        cmocka_unit_test(test_tensor_matches_hand_values),
        cmocka_unit_test(test_tensor_ulp_buckets_have_their_edges),
        cmocka_unit_test(test_tensor_nonfinite_is_counted_by_side),
        cmocka_unit_test(test_tensor_zero_reference_and_no_elements),
        cmocka_unit_test(test_tensor_ids_compare_as_sets),
        cmocka_unit_test(test_stats_match_hand_values),
        cmocka_unit_test(test_metric_worst_ignores_order_and_fails_on_nonfinite),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
