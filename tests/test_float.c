/* engine/base/float: every half, every code of the small formats, and their roundings against
 * computations that share nothing with the code under test. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "engine/base/float.h"

static uint32_t next_u32(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return (uint32_t)(*s >> 16);
}

/* The value of a half from its fields, in f64. */
static double half_value(uint16_t h) {
    int e = h >> 10 & 31, m = h & 1023;
    double v = e == 31 ? (m ? (double)NAN : (double)INFINITY)
               : e     ? ldexp(1024 + m, e - 25)
                       : ldexp(m, -24);
    return h >> 15 ? -v : v;
}

/* Rounds to the grid of halves with f64's own nearest-even; all steps but the last are exact.
 */
static double half_rounded(float x) {
    double a = fabs((double)x), step, r;
    int e;
    if (a >= 65520.0) return copysign((double)INFINITY, (double)x);
    if (a == 0.0) return (double)x;
    frexp(a, &e);
    step = ldexp(1.0, (e < -13 ? -13 : e) - 11);
    r = nearbyint(a / step) * step;
    return copysign(r, (double)x);
}

static void check_half(float x) {
    uint16_t h = ds4_f32_to_f16(x);
    double want = half_rounded(x), got = half_value(h);
    if (got != want || !signbit(got) != !signbit(want))
        fail_msg("f32_to_f16(%a) gives %a, wanted %a", (double)x, got, want);
}

static void test_f16_every_half_widens_exactly(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = ds4_f16_to_f32((uint16_t)h);
        double want = half_value((uint16_t)h);
        if (isnan(want)) assert_true(isnan(x));
        else if ((double)x != want || !signbit(x) != !signbit(want)) fail_msg("half %04x", h);
    }
}

static void test_f16_every_half_survives_the_round_trip(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        uint16_t back = ds4_f32_to_f16(ds4_f16_to_f32((uint16_t)h));
        int is_nan = (h & 0x7fff) > 0x7c00;
        if (is_nan ? (back & 0x7fff) <= 0x7c00 : back != h)
            fail_msg("half %04x gives %04x", h, back);
    }
}

/* Around every half and every midpoint between two: the float itself, one below, one above. */
static void test_f16_neighbours_of_every_boundary_round_to_nearest_even(void **state) {
    (void)state;
    for (uint32_t h = 0; h < 0x7c00; h++) {
        float x = ds4_f16_to_f32((uint16_t)h);
        float next = h == 0x7bff ? 65536.0f : ds4_f16_to_f32((uint16_t)(h + 1));
        float mid = 0.5f * (x + next); /* exact */
        const float at[2] = {x, mid};
        for (int i = 0; i < 2; i++) {
            check_half(at[i]), check_half(-at[i]);
            check_half(nextafterf(at[i], INFINITY)), check_half(nextafterf(at[i], -INFINITY));
        }
    }
}

static void test_f16_random_floats_round_to_nearest_even(void **state) {
    uint64_t s = 0x853c49e6748fea9bu;
    (void)state;
    for (uint32_t i = 0; i < 2000000; i++) {
        uint32_t u = next_u32(&s);
        if (i & 1) u = (u & 0x807fffffu) | (100 + (u >> 23 & 63)) << 23; /* near the halves */
        float x = ds4_f32_from_bits(u);
        if (!isnan(x)) check_half(x);
    }
    assert_int_equal(ds4_f32_to_f16(INFINITY), 0x7c00);
    assert_int_equal(ds4_f32_to_f16(-INFINITY), 0xfc00);
    assert_int_equal(ds4_f32_to_f16(-0.0f), 0x8000);
    assert_true((ds4_f32_to_f16(ds4_f32_from_bits(0x7f800001u)) & 0x7fff) > 0x7c00);
}

/* model.md C.1 */
static void test_f16_known_answers_hold(void **state) {
    (void)state;
    assert_true(ds4_f16_round(1.00146484375f) == 1.001953125f);
    assert_true(ds4_f16_round(65519.0f) == 65504.0f);
    assert_true(isinf(ds4_f16_round(65520.0f)));
    assert_true(ds4_f16_round(6e-8f) == 5.9604645e-8f);
    assert_true(ds4_f16_round(0x1p-25f) == 0.0f);
    assert_true(ds4_f16_round(nextafterf(0x1p-25f, 1.0f)) == 0x1p-24f);
}

static void test_bf16_rounds_to_nearest_even(void **state) {
    uint64_t s = 0x9e3779b97f4a7c15u;
    (void)state;
    for (uint32_t h = 0; h < 65536; h++) {
        float x = ds4_bf16_to_f32((uint16_t)h);
        if (isnan(x)) assert_true(isnan(ds4_bf16_to_f32(ds4_f32_to_bf16(x))));
        else assert_int_equal(ds4_f32_to_bf16(x), h);
    }
    for (uint32_t i = 0; i < 200000; i++) {
        uint32_t u = next_u32(&s), low = u & 0xffff, up = u >> 16;
        if (isnan(ds4_f32_from_bits(u))) continue;
        uint32_t want = low > 0x8000 || (low == 0x8000 && (up & 1)) ? up + 1 : up;
        assert_int_equal(ds4_f32_to_bf16(ds4_f32_from_bits(u)), want);
    }
}

/* model.md C.2 */
static void test_e4m3_known_answers_hold(void **state) {
    static const float in[] = {17, 19, 27, 15.5f, 0.015f, 0x1p-10f, 0x3p-10f, 447.9f, 460};
    static const float out[] = {16, 20, 28, 16, 0.015625f, 0, 0.00390625f, 448, 448};
    (void)state;
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
        assert_true(ds4_e4m3_round(in[i]) == out[i]);
        assert_true(ds4_e4m3_round(-in[i]) == -out[i]);
    }
}

/* model.md C.3 */
static void test_e2m1_known_answers_hold(void **state) {
    static const float in[] = {0.24f, 0.25f, 0.75f, 1.25f, 1.75f, 2.5f, 3.5f, 5, 7};
    static const float out[] = {0, 0, 1, 1, 2, 2, 4, 4, 6};
    (void)state;
    for (size_t i = 0; i < sizeof in / sizeof *in; i++) {
        assert_true(ds4_e2m1_round(in[i]) == out[i]);
        assert_true(ds4_e2m1_round(-in[i]) == -out[i]);
    }
}

/* The nearest of the grid's values by exhaustive search, ties to the even code. */
static double nearest(const double *grid, int n, double a) {
    int best = 0;
    for (int i = 1; i < n; i++) {
        double d = fabs(grid[i] - a), e = fabs(grid[best] - a);
        if (d < e || (d == e && i % 2 == 0)) best = i;
    }
    return grid[best];
}

static void check_grid(const double *grid, int n, float (*round)(float)) {
    for (int i = 0; i < n; i++) {
        float x = (float)grid[i],
              mid = i + 1 < n ? (float)(0.5 * (grid[i] + grid[i + 1])) : x + 1;
        const float at[] = {x,   nextafterf(x, 1e9f),   nextafterf(x, -1),
                            mid, nextafterf(mid, 1e9f), nextafterf(mid, 0)};
        for (size_t k = 0; k < sizeof at / sizeof *at; k++) {
            double want = nearest(grid, n, fabs((double)at[k]));
            assert_true(fabs((double)round(at[k])) == want);
            assert_true(fabs((double)round(-at[k])) == want);
        }
    }
}

static void test_small_formats_every_boundary_rounds_to_the_nearest_code(void **state) {
    static const double e2m1[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
    double e4m3[127];
    (void)state;
    for (int c = 0; c < 127; c++)
        e4m3[c] = c >> 3 ? ldexp(8 + (c & 7), (c >> 3) - 10) : ldexp(c & 7, -9);
    assert_true(e4m3[126] == 448.0);
    check_grid(e4m3, 127, ds4_e4m3_round);
    check_grid(e2m1, 8, ds4_e2m1_round);
}

static void test_ulp_distance_counts_steps_across_zero(void **state) {
    (void)state;
    assert_int_equal(ds4_ulp_distance(1.0f, 1.0f), 0);
    assert_int_equal(ds4_ulp_distance(-0.0f, 0.0f), 0);
    assert_int_equal(ds4_ulp_distance(1.0f, nextafterf(1.0f, 2.0f)), 1);
    assert_int_equal(ds4_ulp_distance(-0x1p-149f, 0x1p-149f), 2);
    assert_int_equal(ds4_ulp_distance(NAN, NAN), 0);
    assert_int_equal(ds4_ulp_distance(NAN, 1.0f), UINT32_MAX);
}

static void test_fz_below_the_threshold_gives_plus_zero(void **state) {
    (void)state;
    assert_int_equal(ds4_f32_bits(ds4_fz(nextafterf(-0x1p-51f, 0.0f))), 0);
    assert_true(ds4_fz(0x1p-51f) == 0x1p-51f);
    assert_true(ds4_fz(-0x1p-51f) == -0x1p-51f);
    assert_true(isnan(ds4_fz(NAN)));
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_f16_every_half_widens_exactly),
        cmocka_unit_test(test_f16_every_half_survives_the_round_trip),
        cmocka_unit_test(test_f16_neighbours_of_every_boundary_round_to_nearest_even),
        cmocka_unit_test(test_f16_random_floats_round_to_nearest_even),
        cmocka_unit_test(test_f16_known_answers_hold),
        cmocka_unit_test(test_bf16_rounds_to_nearest_even),
        cmocka_unit_test(test_e4m3_known_answers_hold),
        cmocka_unit_test(test_e2m1_known_answers_hold),
        cmocka_unit_test(test_small_formats_every_boundary_rounds_to_the_nearest_code),
        cmocka_unit_test(test_ulp_distance_counts_steps_across_zero),
        cmocka_unit_test(test_fz_below_the_threshold_gives_plus_zero),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
