/* drift/bench.h fed by a fake timer: true speeds, noise and every bias are planted, so that the
 * verdict is known beforehand and no clock takes part. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drift/bench.h"
#include "tests/support.h"

typedef struct planted {
    double s[2];       /* seconds of a token of A, of B */
    double noise;      /* relative, uniform in +- noise */
    double first_slow; /* the first run of a pair takes so much longer */
    double warm_slow;  /* the discarded pair takes so much longer */
    double creep;      /* every run takes so much longer than the one before */
    bool same_rows[2]; /* of prefill, of decode */
    uint32_t stop_at;  /* this run is not begun; 0: none */
    uint32_t n_run, n_warm;
    uint64_t rng;
    char order[256]; /* letter of the side of every run at the first frontier */
    const drift_bench_spec *spec;
} planted;

static double uniform(planted *p) { /* -1 .. 1 */
    p->rng = p->rng * 6364136223846793005u + 1442695040888963407u;
    return (double)(p->rng >> 11) * 0x1p-52 - 1.0;
}

static ds4_status take(void *user, uint32_t side, uint32_t i, bool warm, drift_bench_take *out,
                       ds4_err *err) {
    planted *p = user;
    (void)err;
    if (i == 0 && p->n_run < sizeof p->order - 1) p->order[p->n_run] = "AB"[side];
    for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
        double n = drift_bench_n_tok(p->spec, i, (ds4_phase)ph);
        double slow = (1.0 + p->noise * uniform(p)) * pow(1.0 + p->creep, p->n_run);
        if (p->n_run % 2 == 0) slow *= 1.0 + p->first_slow;
        if (warm) slow *= 1.0 + p->warm_slow;
        out->s[ph] = n * p->s[side] * slow;
        out->rows[ph] = p->same_rows[ph] ? 7 : 7 + side;
    }
    p->n_warm += warm;
    p->n_run++;
    return DS4_OK;
}

static bool go_on(void *user, double done, const char *what) {
    planted *p = user;
    assert_non_null(what);
    assert_true(done >= 0.0 && done < 1.0);
    return !p->stop_at || p->n_run < p->stop_at;
}

static drift_bench *run(planted *p, uint32_t n_block, ds4_status want) {
    static drift_bench_spec spec;
    drift_bench *b = NULL;
    ds4_err err = {0};
    spec = (drift_bench_spec){
        .n_decode = 4, .n_block = n_block, .level = 0.95, .min_effect = 0.01};
    test_ok(drift_bench_points_parse(&spec.prefill, "16", &err), &err);
    p->spec = &spec;
    p->n_run = p->n_warm = 0;
    test_ok(drift_bench_new(&b, &spec, &err), &err);
    drift_bench_source src = {take, p};
    drift_progress pr = {go_on, p};
    assert_int_equal(drift_bench_run(b, &src, &pr, &err), want);
    return b;
}

/* Values and probabilities of Wilcoxon's signed-rank sum are those of printed tables: for n =
 * 10 P(W <= 8) = 25 / 1024, for n = 6 P(W <= 0) = 1 / 64. */
static void test_signed_rank_known_values(void **state) {
    (void)state;
    double x[10], y[6] = {3, -1, 4, 1, -5, 9}, one = 2.0;
    drift_interval v;
    ds4_err err = {0};
    for (int i = 0; i < 10; i++) x[i] = i; /* the 9th least of the averages is 2.0 */
    test_ok(drift_stats_signed_rank(&v, x, 10, 0.95, &err), &err);
    assert_true(v.coverage == 1.0 - 50.0 / 1024.0);
    assert_true(v.mid == 4.5 && v.lo == 2.0 && v.hi == 7.0);
    test_ok(drift_stats_signed_rank(&v, y, 6, 0.95, &err), &err);
    assert_true(v.coverage == 1.0 - 2.0 / 64.0 && v.lo == -5.0 && v.hi == 9.0);
    test_ok(drift_stats_signed_rank(&v, y, 5, 0.95, &err), &err); /* too few for the level */
    assert_true(v.coverage == 1.0 - 2.0 / 32.0 && v.lo == -5.0 && v.hi == 4.0);
    test_ok(drift_stats_signed_rank(&v, &one, 1, 0.95, &err), &err);
    assert_true(v.mid == 2.0 && v.lo == 2.0 && v.hi == 2.0 && v.coverage == 0.0);
    test_ok(drift_stats_signed_rank(&v, NULL, 0, 0.95, &err), &err);
    assert_true(isnan(v.mid) && v.coverage == 0.0);
}

/* The stated coverage is the real one: samples of a known centre. */
static void test_signed_rank_covers(void **state) {
    (void)state;
    planted p = {.rng = 5};
    double x[12];
    drift_interval v;
    ds4_err err = {0};
    uint32_t n_in = 0, n = 2000;
    for (uint32_t r = 0; r < n; r++) {
        for (int i = 0; i < 12; i++) x[i] = 1.0 + uniform(&p) + uniform(&p);
        test_ok(drift_stats_signed_rank(&v, x, 12, 0.95, &err), &err);
        n_in += v.lo <= 1.0 && 1.0 <= v.hi;
    }
    /* four standard errors of a binomial share of 0.95 */
    assert_true(fabs((double)n_in / n - v.coverage) < 4.0 * sqrt(0.95 * 0.05 / n));
}

static void test_schedule_swaps_the_order(void **state) {
    (void)state;
    planted p = {.s = {1, 1}};
    drift_bench *b = run(&p, 4, DS4_OK);
    assert_memory_equal(p.order,
                        "AB"
                        "ABBA"
                        "BAAB"
                        "ABBA"
                        "BAAB",
                        18);
    assert_int_equal(p.n_run, 18);
    assert_int_equal(p.n_warm, 2);
    drift_bench_free(b);
}

/* A against a B that is A: over many benches the interval holds 1 as often as it says, and no
 * more of them are ranked. */
static void test_same_speed_is_inside_the_floor(void **state) {
    (void)state;
    uint32_t n = 200, n_hold = 0, n_hold_aa = 0, n_ranked = 0;
    for (uint32_t r = 0; r < n; r++) {
        planted p = {.s = {1e-3, 1e-3}, .noise = 0.05, .rng = 77 + r};
        drift_bench *b = run(&p, 8, DS4_OK);
        const drift_bench_figure *f = &b->figure[0][DS4_PREFILL];
        n_hold += f->ab.lo <= 1.0 && 1.0 <= f->ab.hi;
        n_hold_aa += f->aa.lo <= 1.0 && 1.0 <= f->aa.hi;
        n_ranked += f->verdict != DRIFT_BENCH_FLOOR;
        drift_bench_free(b);
    }
    assert_true(n_hold >= 0.9 * n && n_hold_aa >= 0.9 * n);
    assert_true(n_ranked <= 0.05 * n);
}

static void test_planted_slowdown_is_found(void **state) {
    (void)state;
    planted p = {.s = {1.0e-3, 1.1e-3}, .noise = 0.02, .rng = 3};
    drift_bench *b = run(&p, 8, DS4_OK);
    for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
        const drift_bench_figure *f = &b->figure[0][ph];
        assert_int_equal(f->verdict, DRIFT_BENCH_SLOWER);
        assert_true(f->ab.lo < 1 / 1.1 && 1 / 1.1 < f->ab.hi);
        assert_true(fabs(f->tps[1] / f->tps[0] * 1.1 - 1.0) < 0.03);
    }
    drift_bench_free(b);
    p.s[1] = 0.9e-3;
    b = run(&p, 8, DS4_OK);
    assert_int_equal(b->figure[0][DS4_DECODE].verdict, DRIFT_BENCH_FASTER);
    drift_bench_free(b);
}

/* The same slowdown where the machine itself moves more is not ranked. */
static void test_inside_the_floor_is_not_ranked(void **state) {
    (void)state;
    planted p = {.s = {1.0e-3, 1.1e-3}, .noise = 0.5, .rng = 12};
    drift_bench *b = run(&p, 8, DS4_OK);
    const drift_bench_figure *f = &b->figure[0][DS4_PREFILL];
    assert_int_equal(f->verdict, DRIFT_BENCH_FLOOR);
    assert_true(f->floor > 0.1);
    drift_bench_free(b);
    /* An effect below the least one that counts is not ranked, however sure it is. */
    p = (planted){.s = {1.000e-3, 1.005e-3}, .noise = 0.0001, .rng = 12};
    b = run(&p, 8, DS4_OK);
    f = &b->figure[0][DS4_PREFILL];
    assert_true(f->ab.hi < 1.0 && f->floor == 0.01);
    assert_int_equal(f->verdict, DRIFT_BENCH_FLOOR);
    drift_bench_free(b);
}

/* Warm-up, place in the pair and steady change move nothing; the same times recorded in a fixed
 * order would have shown a difference that is not there. */
static void test_planted_bias_cancels(void **state) {
    (void)state;
    const planted bias[] = {{.s = {1e-3, 1e-3}, .first_slow = 0.2},
                            {.s = {1e-3, 1e-3}, .warm_slow = 5.0},
                            {.s = {1e-3, 1e-3}, .creep = 0.01}};
    for (size_t i = 0; i < 3; i++) {
        planted p = bias[i];
        p.noise = 0.002, p.rng = 9 + i;
        drift_bench *b = run(&p, 8, DS4_OK);
        const drift_bench_figure *f = &b->figure[0][DS4_PREFILL];
        assert_int_equal(f->verdict, DRIFT_BENCH_FLOOR);
        assert_true(fabs(f->ab.mid - 1.0) < 0.002);
        assert_true(f->ab.hi - f->ab.lo < 0.01); /* it cancels in every block, not on average */
        drift_bench_free(b);
    }
    planted p = {.s = {1e-3, 1e-3}, .noise = 0.002, .rng = 9, .first_slow = 0.2};
    drift_bench *b = run(&p, 8, DS4_OK);
    for (uint32_t k = 0; k < 8; k++) /* A B, A B: A is always first */
        for (uint32_t r = 0; r < 2; r++) {
            p.n_run = 0;
            for (uint32_t side = 0; side < 2; side++)
                (void)take(&p, side, 0, false, drift_bench_at(b, 0, side, k, r), NULL);
        }
    assert_int_equal(drift_bench_judge(b, NULL), DS4_OK);
    assert_int_equal(b->figure[0][DS4_PREFILL].verdict, DRIFT_BENCH_FASTER);
    drift_bench_free(b);
}

static void test_same_rows_is_no_comparison(void **state) {
    (void)state;
    planted p = {.s = {1.0e-3, 2.0e-3}, .same_rows = {false, true}};
    drift_bench *b = run(&p, 8, DS4_OK);
    assert_int_equal(b->figure[0][DS4_PREFILL].verdict, DRIFT_BENCH_SLOWER);
    assert_int_equal(b->figure[0][DS4_DECODE].verdict, DRIFT_BENCH_SAME_ROWS);
    assert_true(drift_bench_is_comparison(b));
    /* One pair of many is enough. */
    drift_bench_at(b, 0, 1, 5, 1)->rows[DS4_PREFILL] =
        drift_bench_at(b, 0, 0, 5, 1)->rows[DS4_PREFILL];
    assert_int_equal(drift_bench_judge(b, NULL), DS4_OK);
    assert_int_equal(b->figure[0][DS4_PREFILL].verdict, DRIFT_BENCH_SAME_ROWS);
    drift_bench_free(b);
    p.same_rows[0] = true;
    b = run(&p, 8, DS4_OK);
    assert_false(drift_bench_is_comparison(b));
    assert_int_equal(p.n_run, 2); /* the warm-up tells; nothing else ran */
    drift_bench_free(b);
}

static void test_stop_keeps_finished_blocks(void **state) {
    (void)state;
    planted p = {.s = {1.0e-3, 2.0e-3}, .stop_at = 2 + 4 * 6 + 3};
    drift_bench *b = run(&p, 8, DS4_OK);
    assert_int_equal(b->n_block, 6);
    assert_int_equal(b->figure[0][DS4_PREFILL].verdict, DRIFT_BENCH_SLOWER);
    drift_bench_free(b);
    p.stop_at = 2 + 4 * 3; /* three blocks give no interval of 95 % */
    b = run(&p, 8, DS4_OK);
    assert_int_equal(b->n_block, 3);
    assert_int_equal(b->figure[0][DS4_PREFILL].verdict, DRIFT_BENCH_TOO_FEW);
    drift_bench_free(b);
    p.stop_at = 5;
    drift_bench_free(run(&p, 8, DS4_ERR_CANCELLED));
}

static void points(const char *text, const char *want) {
    drift_bench_points p = {0};
    ds4_err err = {0};
    char got[256] = "";
    if (drift_bench_points_parse(&p, text, &err) != DS4_OK) {
        assert_int_equal(err.status, DS4_ERR_USAGE);
        assert_non_null(strstr(err.message, text));
        snprintf(got, sizeof got, "refused");
    }
    for (uint32_t i = 0; i < p.n; i++)
        snprintf(got + strlen(got), sizeof got - strlen(got), "%s%u", i ? "," : "", p.at[i]);
    assert_string_equal(got, want);
}

static void test_frontiers(void **state) {
    (void)state;
    points("64", "64");
    points("1,2,30", "1,2,30");
    points("linear:512:512:2048", "512,1024,1536,2048");
    points("linear:10:7:20", "10,17,20"); /* capped at the end */
    points("geometric:512:2:4096", "512,1024,2048,4096");
    points("geometric:3:1.5:20", "3,5,8,12,18,20"); /* ceil */
    points("geometric:1:1:4", "1,2,3,4");           /* by 1 at least */
    const char *bad[] = {"",
                         "0",
                         "5,5",
                         "7,3",
                         "1,",
                         ",1",
                         "1;2",
                         "linear:1:2",
                         "1.5",
                         "linear:1:0:9",
                         "linear:9:1:3",
                         "geometric:1:0.5:9",
                         "linear:1:1.5:9",
                         "-1",
                         "1048577",
                         "linear:1:1:1000"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) points(bad[i], "refused");
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_signed_rank_known_values),
        cmocka_unit_test(test_signed_rank_covers),
        cmocka_unit_test(test_schedule_swaps_the_order),
        cmocka_unit_test(test_same_speed_is_inside_the_floor),
        cmocka_unit_test(test_planted_slowdown_is_found),
        cmocka_unit_test(test_inside_the_floor_is_not_ranked),
        cmocka_unit_test(test_planted_bias_cancels),
        cmocka_unit_test(test_same_rows_is_no_comparison),
        cmocka_unit_test(test_stop_keeps_finished_blocks),
        cmocka_unit_test(test_frontiers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
