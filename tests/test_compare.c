/* Comparisons of synthetic runs with planted faults: the verdict, the place, and every refusal.
 */
#include "tests/make_run.h"

#include "drift/compare.h"
#include "engine/base/mem.h"

typedef struct planted {
    ds4_tap tap;
    uint32_t layer, pos, col; /* pos or col UINT32_MAX: all */
    float value;
    bool ulp; /* one unit in the last place up instead of value */
    bool add; /* value is added */
} planted;

static void plant(void *user, ds4_tap tap, uint32_t layer, uint32_t pos, uint32_t col,
                  float *x) {
    const planted *p = user;
    if (tap != p->tap || layer != p->layer || (p->pos != UINT32_MAX && pos != p->pos) ||
        (p->col != UINT32_MAX && col != p->col))
        return;
    if (p->ulp) *x = ds4_f32_from_bits(ds4_f32_bits(*x) + 1);
    else *x = p->add ? *x + p->value : p->value;
}

static const drift_compare_options strict = {.top_k = 20};

/* Owns: the caller frees the result. */
static drift_result *compare_with(const make_run *a, const make_run *b,
                                  const drift_compare_options *opt) {
    char pa[96], pb[96];
    drift_run *ra = NULL, *rb = NULL;
    drift_result *r = NULL;
    ds4_err err;
    make_file(make_path(pa, "a.h5"), a);
    make_file(make_path(pb, "b.h5"), b);
    make_ok(drift_run_open(&ra, pa, &err), &err);
    make_ok(drift_run_open(&rb, pb, &err), &err);
    make_ok(drift_result_new(&r, &err), &err);
    make_ok(drift_compare(r, ra, rb, opt, &err), &err);
    drift_run_close(ra); /* the result stands alone */
    drift_run_close(rb);
    return r;
}

static drift_result *compare(const make_run *a, const make_run *b) {
    return compare_with(a, b, &strict);
}

static const make_run base = {0}, tree = {.row = "tree"};

static const drift_tensor *first_of(const drift_result *r) {
    assert_true(r->n_fixture > 0 && r->fixture[0].first >= 0);
    return &r->tensor[r->fixture[0].first];
}

static void test_compare_equal_runs_are_same_bits(void **state) {
    (void)state;
    drift_result *r = compare(&base, &tree);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    assert_int_equal(drift_verdict_exit_code(r->verdict), 0);
    assert_string_equal(r->summary, "same bits: 8 taps and 9 logit rows of 1 fixture");
    assert_int_equal(r->n_tensor, MAKE_N_TAP);
    for (size_t i = 0; i < r->n_tensor; i++) {
        assert_int_equal(r->tensor[i].state, DRIFT_TENSOR_SAME);
        if (i) assert_true(r->tensor[i].order > r->tensor[i - 1].order);
    }
    assert_true(r->tensor[0].cosine == 1.0 && r->tensor[0].nrmse == 0.0 &&
                r->tensor[0].ulp[0] == 72);
    assert_string_equal(r->tensor[1].row_a, "strict");
    assert_string_equal(r->tensor[1].row_b, "tree");
    assert_int_equal(r->logits[0].n, 9);
    assert_true(r->logits[0].same_top1 == 1.0 && r->logits[0].rms_max == 0.0);
    assert_int_equal(r->logits[0].at[0].next, 10);
    assert_int_equal(r->logits[0].at[8].next, -1);
    assert_string_equal(r->side[0].label, "a.h5");
    assert_int_equal(r->n_executed, 2 * MAKE_N_TAP);
    assert_string_equal(r->executed[2].phase, "prefill");
    assert_string_equal(r->executed[2].row_b, "tree");
    assert_int_equal(r->executed[2].n_call_a, 3);
    drift_result_free(r);
}

static void test_compare_one_ulp_is_found_in_its_place(void **state) {
    (void)state;
    for (size_t i = 0; i < MAKE_N_TAP; i++) {
        if (ds4_tap_table[make_tap[i].tap].type == DS4_TYPE_I32) continue;
        planted p = {
            make_tap[i].tap, make_tap[i].layer, 4, make_tap[i].n_col - 1, 0, true, false};
        make_run b = tree;
        b.alter = plant, b.user = &p;
        drift_result *r = compare(&base, &b);
        const drift_tensor *t = first_of(r);
        assert_int_equal(r->verdict, DRIFT_DRIFT);
        assert_string_equal(t->tap, ds4_tap_table[p.tap].name);
        assert_int_equal(t->layer, p.layer == DS4_NO_LAYER ? -1 : (int32_t)p.layer);
        assert_int_equal(t->first_pos, 4);
        assert_int_equal(t->n_diff, 1);
        assert_int_equal(t->max_ulp, 1);
        assert_int_equal(t->ulp[1], 1);
        assert_int_equal(t->max_col, p.col);
        for (size_t k = 0; k < r->n_tensor; k++)
            assert_int_equal(r->tensor[k].state,
                             &r->tensor[k] == t ? DRIFT_TENSOR_DIFFERENT : DRIFT_TENSOR_SAME);
        drift_result_free(r);
    }
}

static void everywhere_after(void *user, ds4_tap tap, uint32_t layer, uint32_t pos,
                             uint32_t col, float *x) {
    (void)user;
    bool later = layer == 1 || tap == DS4_TAP_logits || tap == DS4_TAP_ffn_hc_out;
    if (pos >= 2 && ((tap == DS4_TAP_attn_hc_norm && layer == 0 && col == 5) || later))
        *x += 0.25f;
}

static void test_compare_first_divergence_is_in_execution_order(void **state) {
    (void)state;
    make_run b = tree;
    b.alter = everywhere_after;
    drift_result *r = compare(&base, &b);
    assert_string_equal(r->summary,
                        "drift: first at layer 0, tap attn_hc_norm (op rms_norm, strict against"
                        " tree), position 2, fixture short; worst logit rms 0.25");
    assert_int_equal(drift_verdict_exit_code(r->verdict), 1);
    assert_int_equal(r->logits[0].at[1].n_nonfinite, 0);
    assert_true(r->logits[0].at[1].rms == 0.0 && r->logits[0].at[2].rms == 0.25);
    assert_true(r->logits[0].at[2].rms_gauge == 0.0); /* a constant shift */
    drift_result_free(r);
}

static drift_verdict verdict_of(planted p, const drift_compare_options *opt) {
    make_run b = tree;
    b.alter = plant, b.user = &p;
    drift_result *r = compare_with(&base, &b, opt);
    drift_verdict v = r->verdict;
    drift_result_free(r);
    return v;
}

/* drift.md 1.1, "consequences to keep in mind": each passes the legacy gates and must fail
 * here. */
static void test_compare_legacy_blind_spots_fail(void **state) {
    (void)state;
    const uint32_t all = UINT32_MAX, none = DS4_NO_LAYER;
    const drift_compare_options wide = {.top_k = 20, .max_nrmse = 1e9, .max_logit_rms = 1e9};
    planted nan_all = {DS4_TAP_logits, none, all, all, NAN, false, false};
    planted nan_one = {DS4_TAP_logits, none, 8, 40, NAN, false, false};
    planted inf_one = {DS4_TAP_logits, none, 0, 40, -INFINITY, false, false};
    planted nan_tap = {DS4_TAP_ffn_hc_out, 1, 3, 7, NAN, false, false};
    planted fallen = {DS4_TAP_logits, none, 5, 2, -100.0f, false, false};
    planted shift = {DS4_TAP_logits, none, all, all, 0.5f, false, true};
    assert_int_equal(verdict_of(nan_all, &strict), DRIFT_DRIFT);
    assert_int_equal(verdict_of(nan_all, &wide), DRIFT_DRIFT); /* no floor covers NaN */
    assert_int_equal(verdict_of(nan_one, &wide), DRIFT_DRIFT);
    assert_int_equal(verdict_of(inf_one, &wide), DRIFT_DRIFT);
    assert_int_equal(verdict_of(nan_tap, &wide), DRIFT_DRIFT);
    assert_int_equal(verdict_of(fallen, &strict), DRIFT_DRIFT);
    assert_int_equal(verdict_of(shift, &strict), DRIFT_DRIFT);
    for (uint32_t pos = 0; pos < 9; pos += 4) { /* wherever the NaN row stands */
        planted row = {DS4_TAP_logits, none, pos, all, NAN, false, false};
        assert_int_equal(verdict_of(row, &wide), DRIFT_DRIFT);
    }
}

static void test_compare_nan_on_both_sides_is_no_difference(void **state) {
    (void)state;
    planted p = {DS4_TAP_ffn_hc_out, 1, 3, 7, NAN, false, false};
    make_run a = base, b = tree;
    a.alter = b.alter = plant, a.user = b.user = &p;
    drift_result *r = compare(&a, &b);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    assert_int_equal(r->tensor[6].bad_a.n_nan, 1);
    assert_int_equal(r->tensor[6].bad_a.first, 3 * 300 + 7);
    drift_result_free(r);
}

static void test_compare_floor_passes_what_it_covers(void **state) {
    (void)state;
    planted p = {DS4_TAP_ffn_hc_out, 0, 3, 7, 1e-4f, false, true};
    drift_compare_options loose = {.top_k = 20, .max_nrmse = 1e-3},
                          tight = {.top_k = 20, .max_nrmse = 1e-9};
    assert_int_equal(verdict_of(p, &strict), DRIFT_DRIFT);
    assert_int_equal(verdict_of(p, &loose), DRIFT_WITHIN_FLOOR);
    assert_int_equal(verdict_of(p, &tight), DRIFT_DRIFT);
    p.tap = DS4_TAP_logits, p.layer = DS4_NO_LAYER; /* logits have their own bound */
    assert_int_equal(verdict_of(p, &loose), DRIFT_DRIFT);
    loose.max_logit_rms = 1e-3;
    assert_int_equal(verdict_of(p, &loose), DRIFT_WITHIN_FLOOR);
    p = (planted){
        DS4_TAP_router_sel, 0, 3, 1, 63.0f, false, false}; /* another expert: never within */
    assert_int_equal(verdict_of(p, &loose), DRIFT_DRIFT);
}

static void test_compare_router_flip_is_counted_as_a_set(void **state) {
    (void)state;
    planted p = {DS4_TAP_router_sel, 0, 3, 1, 63.0f, false, false};
    make_run b = tree;
    b.alter = plant, b.user = &p;
    drift_result *r = compare(&base, &b);
    const drift_tensor *t = first_of(r);
    assert_string_equal(t->tap, "router_sel");
    assert_int_equal(t->n_set_differs, 1);
    assert_int_equal(t->first_pos, 3);
    assert_true(t->row_max[3] == 1.0 && isnan(t->rms));
    drift_result_free(r);
}

static void check_refused(const make_run *a, const make_run *b, const char *summary) {
    drift_result *r = compare(a, b);
    assert_int_equal(r->verdict, DRIFT_NOT_COMPARABLE);
    assert_int_equal(drift_verdict_exit_code(r->verdict), 2);
    assert_string_equal(r->summary, summary);
    drift_result_free(r);
}

static void test_compare_refusals_name_the_reason(void **state) {
    (void)state;
    make_run other = tree;
    other.token0 = 5;
    check_refused(&base, &other,
                  "not comparable: fixture short: tokens differ at position 0: 3 against 8");
    other = tree, other.n_tok = 12;
    check_refused(&base, &other, "not comparable: fixture short: 9 tokens against 12");
    other = tree, other.digest = "d1";
    check_refused(&base, &other, "not comparable: model.digest differs: d0 against d1");
    other = tree, other.fixture[0] = "long";
    check_refused(&base, &other, "not comparable: no fixture is in both files");
    other = tree, other.wide_norm = true;
    check_refused(&base, &other, "not comparable: shapes differ: [9][24] against [9][25]");
}

static void test_compare_same_rows_are_no_evidence(void **state) {
    (void)state;
    drift_compare_options repeat = strict;
    planted p = {DS4_TAP_ffn_hc_out, 1, 8, 299, 0, true, false};
    make_run differs = base, variant = base, other_device = base;
    check_refused(&base, &base, "not comparable: both sides executed the same rows");
    differs.alter = plant, differs.user = &p;
    check_refused(&base, &differs,
                  "not comparable: both sides executed the same rows, yet bits differ: first"
                  " at layer 1, tap ffn_hc_out (op hc_write, strict against strict),"
                  " position 8, fixture short");
    repeat.allow_same_rows = true;
    drift_result *r = compare_with(&base, &base, &repeat);
    assert_true(r->same_rows);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    drift_result_free(r);
    r = compare_with(&base, &differs, &repeat);
    assert_int_equal(r->verdict, DRIFT_DRIFT);
    drift_result_free(r);

    variant.variants = DS4_VARIANT_BIT(HC_STABLE); /* the same row, another formula */
    r = compare(&base, &variant);
    assert_false(r->same_rows);
    assert_string_equal(r->tensor[1].row_b, "strict[DS4_HC_STABLE=1]");
    drift_result_free(r);
    other_device.device = "another"; /* the same rows, other code */
    r = compare(&base, &other_device);
    assert_false(r->same_rows);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    drift_result_free(r);
}

static void test_compare_other_engine_is_other_code(void **state) {
    (void)state;
    make_run vk = base;
    vk.engine = "vk";
    drift_result *r = compare(&base, &vk);
    assert_false(r->same_rows);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    assert_string_equal(r->tensor[0].row_a, "ref:strict");
    assert_string_equal(r->tensor[0].row_b, "vk:strict");
    assert_string_equal(r->executed[0].row_b, "vk:strict");
    drift_result_free(r);
}

static void test_compare_missing_taps_are_listed(void **state) {
    (void)state;
    make_run b = tree;
    b.no_router = true;
    drift_result *r = compare(&base, &b);
    assert_int_equal(r->tensor[2].state, DRIFT_TENSOR_MISSING_B);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    assert_string_equal(
        r->summary, "same bits: 7 taps and 9 logit rows of 1 fixture; 1 tap on one side only");
    assert_null(r->executed[4].row_b);
    assert_string_equal(r->executed[4].tap, "router_sel");
    drift_result_free(r);
    r = compare(&b, &base);
    assert_int_equal(r->tensor[2].state, DRIFT_TENSOR_MISSING_A);
    drift_result_free(r);
}

static void test_compare_hash_level_still_sees_drift(void **state) {
    (void)state;
    planted p = {DS4_TAP_attn_hc_norm, 1, 3, 7, 0, true, false};
    make_run a = base, b = tree;
    a.hash_only = true, b.batch = 2; /* rows on one side only: digests decide */
    drift_result *r = compare(&a, &b);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    assert_int_equal(r->n_logits, 0);
    drift_result_free(r);
    b.alter = plant, b.user = &p;
    r = compare(&a, &b);
    assert_int_equal(r->verdict, DRIFT_DRIFT);
    assert_int_equal(first_of(r)->state, DRIFT_TENSOR_UNMEASURED);
    assert_string_equal(first_of(r)->why, "only digests stored: bits differ");
    assert_string_equal(r->summary,
                        "drift: first at layer 1, tap attn_hc_norm (op rms_norm, strict against"
                        " strict), fixture short");
    drift_result_free(r);
}

/* A run that goes on from a session has the later positions alone. */
static void test_compare_shared_positions_are_compared(void **state) {
    (void)state;
    planted p = {DS4_TAP_ffn_hc_out, 1, 6, 7, 0.5f, false, true};
    make_run b = tree;
    b.from = 4, b.batch = 2;
    for (int swap = 0; swap < 2; swap++) {
        drift_result *r = swap ? compare(&b, &base) : compare(&base, &b);
        assert_int_equal(r->verdict, DRIFT_SAME_BITS);
        assert_string_equal(r->summary,
                            "same bits: 8 taps and 5 logit rows of 1 fixture; 8 taps"
                            " at the positions of both sides alone");
        for (size_t i = 0; i < r->n_tensor; i++) {
            const drift_tensor *t = &r->tensor[i];
            assert_int_equal(t->pos0, 4); /* comp_row, every 4th position, has 4 and 8 */
            assert_int_equal(t->n_row, make_tap[i].step == 4 ? 2 : 5);
        }
        assert_int_equal(r->logits[0].n, 5);
        assert_int_equal(r->logits[0].at[0].pos, 4);
        assert_int_equal(r->logits[0].at[4].next, -1);
        drift_result_free(r);
    }
    b.alter = plant, b.user = &p;
    drift_result *r = compare(&base, &b);
    assert_int_equal(r->verdict, DRIFT_DRIFT);
    assert_int_equal(first_of(r)->first_pos, 6);
    assert_int_equal(first_of(r)->max_row, 2);
    drift_result_free(r);
    p.pos = 3; /* before what b has */
    r = compare(&b, &base);
    assert_int_equal(r->verdict, DRIFT_SAME_BITS);
    drift_result_free(r);

    make_run a = base;
    a.hash_only = true;
    r = compare(&a, &b); /* digests are of all positions */
    assert_int_equal(r->verdict, DRIFT_NOT_COMPARABLE);
    assert_non_null(strstr(r->summary,
                           "9 rows from position 0 against 5 from 4, and only digests"
                           " of them are stored"));
    drift_result_free(r);
}

static void test_compare_many_fixtures_and_a_filter(void **state) {
    (void)state;
    make_run a = base, b = tree;
    a.fixture[0] = "x", a.fixture[1] = "y", b.fixture[0] = "y", b.fixture[1] = "x",
    b.fixture[2] = "z";
    drift_result *r = compare(&a, &b);
    assert_int_equal(r->n_fixture, 2);
    assert_string_equal(r->summary,
                        "same bits: 16 taps and 18 logit rows of 2 fixtures; 1 fixture on one"
                        " side only");
    assert_true(r->n_coverage >= 6);
    assert_string_equal(r->coverage[0].op, "embed");
    drift_result_free(r);
    drift_compare_options one = strict;
    one.fixture = "y";
    r = compare_with(&a, &b, &one);
    assert_int_equal(r->n_fixture, 1);
    assert_string_equal(r->fixture[0].id, "y");
    drift_result_free(r);
    one.fixture = "z";
    r = compare_with(&a, &b, &one);
    assert_string_equal(r->summary, "not comparable: fixture z is not in both files");
    drift_result_free(r);
}

static void test_compare_refused_rows_are_told(void **state) {
    (void)state;
    make_run b = tree;
    b.refusal = "K is odd";
    drift_result *r = compare(&base, &b);
    for (size_t i = 0; i < r->n_executed; i++) {
        bool here = r->executed[i].layer == 1 && !strcmp(r->executed[i].tap, "attn_hc_norm");
        if (here) assert_string_equal(r->executed[i].refusal_b, "tree: K is odd");
        else assert_null(r->executed[i].refusal_b);
    }
    drift_result_free(r);
}

static bool stop_at_once(void *user, double done, const char *what) {
    (void)done, (void)what;
    ++*(int *)user;
    return false;
}

static void test_compare_small_top_k_and_interrupts(void **state) {
    (void)state;
    char pa[96];
    int n = 0;
    drift_compare_options opt = {.top_k = 19};
    drift_run *ra = NULL;
    drift_result *r = NULL;
    ds4_err err;
    make_file(make_path(pa, "a.h5"), &base);
    make_ok(drift_run_open(&ra, pa, &err), &err);
    make_ok(drift_result_new(&r, &err), &err);
    assert_int_equal(drift_compare(r, ra, ra, &opt, &err), DS4_ERR_USAGE);
    drift_result_free(r);
    make_ok(drift_result_new(&r, &err), &err);
    opt.top_k = 20, opt.progress = stop_at_once, opt.user = &n;
    assert_int_equal(drift_compare(r, ra, ra, &opt, &err), DS4_ERR_CANCELLED);
    assert_int_equal(n, 1);
    drift_result_free(r);
    drift_run_close(ra);
}

/* More than a slab of rows, a batch that is no divisor: the numbers are those of one pass. */
static void test_compare_long_runs_stream(void **state) {
    (void)state;
    planted p = {DS4_TAP_ffn_hc_out, 1, 1999, 299, 0.5f, false, true};
    make_run a = {.n_tok = 2000, .batch = 512}, b = {.n_tok = 2000, .batch = 77, .row = "tree"};
    b.alter = plant, b.user = &p;
    drift_result *r = compare(&a, &b);
    const drift_tensor *t = first_of(r);
    assert_int_equal(t->first_pos, 1999);
    assert_int_equal(t->max_row, 1999);
    assert_int_equal(t->n_elem, 600000);
    assert_true(fabs(t->max_abs - 0.5) < 1e-6);
    assert_true(fabs(t->row_rms[1999] - 0.5 / sqrt(300.0)) < 1e-6);
    drift_result_free(r);
}

static void test_compare_out_of_memory_is_an_error(void **state) {
    (void)state;
    char pa[96], pb[96];
    ds4_status st = DS4_ERR_MEMORY;
    long k = 0;
    make_file(make_path(pa, "a.h5"), &base);
    make_file(make_path(pb, "b.h5"), &tree);
    while (st != DS4_OK) {
        drift_run *ra = NULL, *rb = NULL;
        drift_result *r = NULL;
        ds4_err err = {0};
        ds4_mem_fail_after(++k);
        st = drift_run_open(&ra, pa, &err);
        if (st == DS4_OK) st = drift_run_open(&rb, pb, &err);
        if (st == DS4_OK) st = drift_result_new(&r, &err);
        if (st == DS4_OK) st = drift_compare(r, ra, rb, &strict, &err);
        ds4_mem_fail_after(0);
        assert_true(st == DS4_OK || (st == DS4_ERR_MEMORY && *err.message));
        drift_result_free(r);
        drift_run_close(ra);
        drift_run_close(rb);
    }
    assert_true(k > 50);
}

static void test_result_arena_keeps_everything_apart(void **state) {
    (void)state;
    drift_result *r = NULL;
    unsigned char *p[200];
    assert_int_equal(drift_result_new(&r, NULL), DS4_OK);
    for (size_t i = 0; i < 200; i++) {
        size_t n = i % 7 == 0 ? 40000 : i * 13 + 1;
        p[i] = drift_result_alloc(r, n, 1);
        for (size_t k = 0; k < n; k++) assert_int_equal(p[i][k], 0);
        memset(p[i], (int)i, n);
    }
    for (size_t i = 0; i < 200; i++) assert_int_equal(p[i][i * 13], i);
    assert_string_equal(drift_result_printf(r, "%d-%s", 7, "x"), "7-x");
    assert_null(drift_result_alloc(r, SIZE_MAX, 2));
    drift_result_free(r);
    drift_result_free(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare_equal_runs_are_same_bits),
        cmocka_unit_test(test_compare_one_ulp_is_found_in_its_place),
        cmocka_unit_test(test_compare_first_divergence_is_in_execution_order),
        cmocka_unit_test(test_compare_legacy_blind_spots_fail),
        cmocka_unit_test(test_compare_nan_on_both_sides_is_no_difference),
        cmocka_unit_test(test_compare_floor_passes_what_it_covers),
        cmocka_unit_test(test_compare_router_flip_is_counted_as_a_set),
        cmocka_unit_test(test_compare_refusals_name_the_reason),
        cmocka_unit_test(test_compare_same_rows_are_no_evidence),
        cmocka_unit_test(test_compare_other_engine_is_other_code),
        cmocka_unit_test(test_compare_missing_taps_are_listed),
        cmocka_unit_test(test_compare_hash_level_still_sees_drift),
        cmocka_unit_test(test_compare_shared_positions_are_compared),
        cmocka_unit_test(test_compare_many_fixtures_and_a_filter),
        cmocka_unit_test(test_compare_refused_rows_are_told),
        cmocka_unit_test(test_compare_small_top_k_and_interrupts),
        cmocka_unit_test(test_compare_long_runs_stream),
        cmocka_unit_test(test_compare_out_of_memory_is_an_error),
        cmocka_unit_test(test_result_arena_keeps_everything_apart),
    };
    return cmocka_run_group_tests(tests, make_setup, make_clean);
}
