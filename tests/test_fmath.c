/* engine/base/fmath.h against the C library in double (or long double): a strided sweep of
 * every exponent of the domain, dense linear ranges and the worst inputs of all (`make
 * check-math` finds them, over every input); special values; the known answers of model.md C.11
 * and C.12. What holds here holds on every machine, because the functions have the same bits
 * everywhere. */
#include <math.h>
#include <stdlib.h>

#include "engine/base/float.h"
#include "engine/base/fmath.h"
#include "engine/model/rope_freq.h"
#include "tests/support.h"

/* ---- the worst case of one function ---- */

typedef struct worst {
    double ulp, abs, at_ulp, at_abs;
    uint64_t n;
} worst;

/* One unit in the last place of an f32 of this magnitude. */
static double ulp_of(double x) {
    int e;
    frexp(x, &e);
    return ldexp(1.0, (e < -125 ? -125 : e) - 24);
}

/* Results below 2^-51 are flushed; at the edge itself either answer is right. */
static void judge(worst *w, double x, float got, double want) {
    bool flushed = got == 0.0f && fabs(want) < 0x1p-51 * (1.0 + 1e-6);
    double e = flushed ? 0.0 : fabs((double)got - want), u = e / ulp_of(want);
    w->n++;
    if (!(u <= w->ulp)) w->ulp = u, w->at_ulp = x;
    if (!(e <= w->abs)) w->abs = e, w->at_abs = x;
}

typedef float (*f32_fn)(float);
typedef double (*f64_fn)(double);

/* Every exponent and both signs: bit patterns at a stride that is no multiple of a power of
 * two, then n points from lo to hi. */
static worst sweep(f32_fn f, f64_fn ref, float lo, float hi, uint32_t n) {
    worst w = {0};
    for (uint64_t u = 0; u <= UINT32_MAX; u += 1987) {
        float x = ds4_f32_from_bits((uint32_t)u);
        if (x >= lo && x <= hi) judge(&w, (double)x, f(x), ref((double)x));
    }
    for (uint32_t i = 0; i <= n; i++) {
        float x = (float)((double)lo + ((double)hi - (double)lo) * (double)i / (double)n);
        judge(&w, (double)x, f(x), ref((double)x));
    }
    return w;
}

static void print_worst(const char *name, const worst *w) {
    print_message("  %-18s %8llu inputs: %.5g ulp at %.9g, %.4g absolute at %.9g\n", name,
                  (unsigned long long)w->n, w->ulp, w->at_ulp, w->abs, w->at_abs);
}

/* ---- references ---- */

static double ref_sigmoid(double z) { return 1.0 / (1.0 + exp(-z)); }
static double ref_sqrt_softplus(double z) { return sqrt(fmax(z, 0.0) + log1p(exp(-fabs(z)))); }
static double ref_rsqrt(double x) { return 1.0 / sqrt(x); }

static const struct function {
    const char *name;
    f32_fn f;
    f64_fn ref;
    float lo, hi;  /* domain */
    uint32_t hard; /* bits of the input with the largest error of all */
} functions[] = {
    {"exp", ds4_exp, exp, -36.0f, 88.7228f, 0xbcb4bdc2},
    {"exp2", ds4_exp2, exp2, -52.0f, 127.99f, 0xbd39e334},
    {"log1p", ds4_log1p, log1p, 0.0f, 1.0f, 0x39fecdd7},
    {"sigmoid", ds4_sigmoid, ref_sigmoid, -40.0f, 40.0f, 0xc02da168},
    {"tanh", ds4_tanh, tanh, -12.0f, 12.0f, 0x3f11480b},
    {"sqrt_softplus", ds4_sqrt_softplus, ref_sqrt_softplus, -72.0f, 100.0f, 0xc1d3651b},
    {"rsqrt", ds4_rsqrt, ref_rsqrt, 0x1p-126f, 0x1.fffffep127f, 0x00ce2712},
};

static bool within(const worst *w) { return w->ulp <= DS4_FMATH_ULP; }

static worst check_function(const struct function *p, uint32_t n) {
    worst w = sweep(p->f, p->ref, p->lo, p->hi, n);
    float x = ds4_f32_from_bits(p->hard);
    judge(&w, (double)x, p->f(x), p->ref((double)x));
    return w;
}

static void test_fmath_sweep_stays_within_bounds(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        worst w = check_function(&functions[i], 2000000);
        print_worst(functions[i].name, &w);
        assert_true(within(&w));
    }
}

/* ---- the check can fail ---- */

static float exp_two_ulp_off(float x) {
    return ds4_f32_from_bits(ds4_f32_bits(ds4_exp(x)) + (x > 1.0f && x < 1.001f ? 2 : 0));
}
/* Two ulp, at the hard input alone. */
static float exp_off_once(float x) {
    return ds4_f32_from_bits(ds4_f32_bits(ds4_exp(x)) -
                             (ds4_f32_bits(x) == functions[0].hard ? 2 : 0));
}
static float tanh_not_flushed(float x) { return ds4_tanh(x) + (x > 3.0f ? 0x1p-22f : 0.0f); }

static void test_fmath_planted_error_breaks_bound(void **state) {
    (void)state;
    struct function p = functions[0];
    p.f = exp_two_ulp_off;
    worst w = check_function(&p, 2000000);
    assert_false(within(&w));
    assert_true(w.at_ulp > 1.0 && w.at_ulp < 1.001);
    p.f = exp_off_once;
    w = check_function(&p, 20000);
    assert_false(within(&w));
    assert_true(ds4_f32_bits((float)w.at_ulp) == p.hard);
    p = functions[4];
    assert_string_equal(p.name, "tanh");
    p.f = tanh_not_flushed;
    w = check_function(&p, 20000);
    assert_false(within(&w));
    assert_true(w.at_ulp > 3.0);
}

/* ---- special values ---- */

static void same(float got, float want) {
    if (ds4_f32_bits(got) != ds4_f32_bits(want))
        fail_msg("%.9g (%08x), wanted %.9g (%08x)", (double)got, ds4_f32_bits(got),
                 (double)want, ds4_f32_bits(want));
}

static void test_fmath_special_values_are_exact(void **state) {
    (void)state;
    const float inf = INFINITY, top = 0x1.62e42ep6f; /* the largest finite exponent */
    same(ds4_exp(0.0f), 1.0f), same(ds4_exp(-0.0f), 1.0f);
    same(ds4_exp(inf), inf), same(ds4_exp(-inf), 0.0f), same(ds4_exp(-1e30f), 0.0f);
    same(ds4_exp(nextafterf(top, inf)), inf), same(ds4_exp(1e30f), inf);
    assert_true(isfinite(ds4_exp(top)) && ds4_exp(top) > 3.4e38f);
    same(ds4_exp(-35.36f), 0.0f); /* below 2^-51 */
    assert_true(ds4_exp(-35.34f) >= 0x1p-51f);
    for (int n = -60; n < 140; n++)
        same(ds4_exp2((float)n), n < -51 ? 0.0f : n > 127 ? inf : ldexpf(1.0f, n));
    same(ds4_exp2(-inf), 0.0f), same(ds4_exp2(inf), inf), same(ds4_exp2(-0.0f), 1.0f);
    same(ds4_log1p(0.0f), 0.0f), same(ds4_log1p(-0.0f), 0.0f);
    same(ds4_log1p(0x1p-60f), 0.0f), same(ds4_log1p(-0x1p-60f), 0.0f);
    same(ds4_log1p(0x1p-51f), 0x1p-51f);
    same(ds4_sigmoid(0.0f), 0.5f), same(ds4_sigmoid(-0.0f), 0.5f);
    same(ds4_sigmoid(100.0f), 1.0f), same(ds4_sigmoid(-100.0f), 0.0f);
    same(ds4_sigmoid(inf), 1.0f), same(ds4_sigmoid(-inf), 0.0f);
    same(ds4_tanh(0.0f), 0.0f), same(ds4_tanh(20.0f), 1.0f), same(ds4_tanh(-20.0f), -1.0f);
    same(ds4_tanh(-0.0f), 0.0f), same(ds4_tanh(-0x1p-52f), 0.0f);
    same(ds4_tanh(-0x1p-51f), -0x1p-51f);
    same(ds4_tanh(inf), 1.0f), same(ds4_tanh(-inf), -1.0f);
    same(ds4_sqrt_softplus(-100.0f), 0.0f), same(ds4_sqrt_softplus(25.0f), 5.0f);
    same(ds4_sqrt_softplus(0x1p100f), 0x1p50f);
    same(ds4_sqrt_softplus(inf), inf), same(ds4_sqrt_softplus(-inf), 0.0f);
    for (int n = -63; n <= 63; n++)
        same(ds4_rsqrt(ldexpf(1.0f, 2 * n)), n > 51 ? 0.0f : ldexpf(1.0f, -n));
    same(ds4_rsqrt(0.0f), inf), same(ds4_rsqrt(-0.0f), inf), same(ds4_rsqrt(inf), 0.0f);
    float c, s;
    static const float quarter[4][2] = {{1, 0}, {0, 1}, {-1, 0}, {0, -1}};
    for (uint64_t q = 0; q < 4; q++) {
        ds4_cos_sin_turn(&c, &s, q << 62);
        same(c, quarter[q][0]), same(s, quarter[q][1]);
        ds4_cos_sin_turn(&c, &s, (q << 62) + 1); /* 2^-64 of a turn is flushed */
        same(c, quarter[q][0]), same(s, quarter[q][1]);
    }
}

static const f32_fn all[] = {ds4_exp,  ds4_exp2,          ds4_log1p, ds4_sigmoid,
                             ds4_tanh, ds4_sqrt_softplus, ds4_rsqrt};

static void test_fmath_nan_gives_nan(void **state) {
    (void)state;
    static const uint32_t in[] = {0x7fc00000u, 0xffc00001u, 0x7f800001u, 0xffffffffu};
    const float nan = ds4_f32_from_bits(0x7fc00000u);
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t k = 0; k < sizeof in / sizeof *in; k++)
            same(all[i](ds4_f32_from_bits(in[k])), nan);
    same(ds4_log1p(1.0000001f), nan), same(ds4_log1p(-0x1p-51f), nan);
    same(ds4_log1p(INFINITY), nan), same(ds4_log1p(-INFINITY), nan);
    same(ds4_rsqrt(-0x1p-126f), nan), same(ds4_rsqrt(-INFINITY), nan);
}

static void test_fmath_subnormal_counts_as_zero(void **state) {
    (void)state;
    static const uint32_t in[] = {1u, 0x007fffffu, 0x80000001u, 0x807fffffu};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        for (size_t k = 0; k < sizeof in / sizeof *in; k++)
            same(all[i](ds4_f32_from_bits(in[k])), all[i](0.0f));
}

/* ---- cos and sin of turns ---- */

static uint64_t next(uint64_t *s) {
    *s += 0x9e3779b97f4a7c15u;
    uint64_t z = (*s ^ *s >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

static const long double two_pi_l = 6.283185307179586476925286766559005768L;

/* The nearest quarter turn is taken off in integers. */
static void judge_turn(worst *wc, worst *ws, uint64_t turn, float c, float s) {
    uint64_t quarter = (turn + ((uint64_t)1 << 61)) >> 62;
    long double x = (long double)(int64_t)(turn - (quarter << 62)) * (two_pi_l / 0x1p64L);
    double cx = (double)cosl(x), sx = (double)sinl(x);
    const double want[5] = {cx, -sx, -cx, sx,
                            cx}; /* cos a quarter turn further on, and so on */
    judge(wc, (double)turn * 0x1p-64, c, want[quarter & 3]);
    judge(ws, (double)turn * 0x1p-64, s, -want[(quarter & 3) + 1]);
}

static void test_fmath_cos_sin_of_turns_stay_within_bound(void **state) {
    (void)state;
    worst wc = {0}, ws = {0};
    uint64_t seed = 1;
    for (uint64_t i = 0; i < 2000000; i++) {
        /* Even steps around the circle, and random turns. */
        uint64_t turn = i & 1 ? next(&seed) : i * 0x8637bd05af7u;
        float c, s;
        ds4_cos_sin_turn(&c, &s, turn);
        judge_turn(&wc, &ws, turn, c, s);
    }
    print_worst("cos of turns", &wc);
    print_worst("sin of turns", &ws);
    assert_true(within(&wc) && within(&ws));
}

/* Both sides of each quarter turn, from the smallest part of a turn up: one of the two is
 * small, and its error is relative. */
static worst near_quarters(bool upper_word_only) {
    worst w = {0};
    uint64_t seed = 2;
    for (uint32_t i = 0; i < 400000; i++) {
        uint64_t d = (next(&seed) | (uint64_t)1 << 63) >> (3 + i / 8 % 61);
        uint64_t turn = ((uint64_t)(i & 3) << 62) + (i & 4 ? 0 - d : d);
        float c, s;
        ds4_cos_sin_turn(&c, &s, upper_word_only ? turn >> 32 << 32 : turn);
        judge_turn(&w, &w, turn, c, s);
    }
    return w;
}

static void test_fmath_cos_sin_keep_bits_beside_zeros(void **state) {
    (void)state;
    worst w = near_quarters(false);
    print_worst("beside the zeros", &w);
    assert_true(within(&w));
    w = near_quarters(true); /* planted: the lower word of the turn is lost */
    assert_false(within(&w));
}

static ds4_config full_size(void) {
    return (ds4_config){.n_rot = 64,
                        .rope_base = 10000.0,
                        .rope_base_comp = 160000.0,
                        .yarn_factor = 16.0,
                        .yarn_beta_fast = 32.0,
                        .yarn_beta_slow = 1.0,
                        .yarn_n_ctx = 65536};
}

/* Pair k at a position, from the table of turns. */
static void at_position(float *c, float *s, const uint32_t *freq, uint32_t k, uint32_t pos) {
    ds4_cos_sin_turn(c, s, ((uint64_t)freq[2 * k + 1] << 32 | freq[2 * k]) * pos);
}

/* Frequency of pair k by the formulas of model.md 3.0, in long double. */
static long double exact_frequency(const ds4_config *c, uint32_t k, bool comp) {
    long double base = comp ? (long double)c->rope_base_comp : (long double)c->rope_base;
    long double f = powl(base, -2.0L * k / c->n_rot), edge[2], ramp;
    if (!comp) return f;
    for (int i = 0; i < 2; i++) {
        long double beta = (long double)(i ? c->yarn_beta_slow : c->yarn_beta_fast);
        edge[i] = c->n_rot * logl((long double)c->yarn_n_ctx / (beta * two_pi_l)) /
                  (2.0L * logl(base));
    }
    edge[0] = fmaxl(0.0L, floorl(edge[0])), edge[1] = fminl(c->n_rot - 1.0L, ceill(edge[1]));
    ramp = 1.0L - fminl(1.0L, fmaxl(0.0L, (k - edge[0]) / fmaxl(0.001L, edge[1] - edge[0])));
    return f * (ramp + (1.0L - ramp) / (long double)c->yarn_factor);
}

static worst rope_error(const uint32_t *freq, const ds4_config *cfg, bool comp, uint32_t most) {
    worst w = {0};
    uint64_t seed = most;
    for (uint32_t k = 0; k < cfg->n_rot / 2; k++) {
        long double f = exact_frequency(cfg, k, comp);
        for (uint32_t i = 0; i < 5000; i++) {
            uint32_t pos = i ? (uint32_t)(next(&seed) % most) : most - 1;
            long double x = fmodl(f * pos, two_pi_l);
            float c, s;
            at_position(&c, &s, freq, k, pos);
            judge(&w, (double)pos, c, (double)cosl(x));
            judge(&w, (double)pos, s, (double)sinl(x));
        }
    }
    return w;
}

static void test_fmath_rope_holds_at_huge_positions(void **state) {
    (void)state;
    ds4_config cfg = full_size();
    uint32_t freq[64];
    for (int comp = 0; comp < 2; comp++) {
        ds4_rope_freq(freq, &cfg, comp, false);
        worst near = rope_error(freq, &cfg, comp, 1u << 20),
              far = rope_error(freq, &cfg, comp, UINT32_MAX);
        print_worst(comp ? "rope, compressed" : "rope", &near);
        print_worst("  to 2^32", &far);
        assert_true(near.abs <=
                    3.1e-8);          /* half an ulp of 1, no more than the turns themselves */
        assert_true(far.abs <= 4e-7); /* the frequency's 2^-53 times the position */
        freq[2] += 1, freq[3] += 1;   /* planted: pair 1 turns 2^-32 too fast */
        worst off = rope_error(freq, &cfg, comp, 1u << 20);
        assert_true(off.abs > 1e-4);
    }
}

/* ---- known answers ---- */

/* Angle of pair k by f32 running products, as the table of C.11 was made. */
static double running_angle(const ds4_config *cfg, uint32_t k, float pos, bool comp) {
    double base = comp ? cfg->rope_base_comp : cfg->rope_base;
    float step = (float)pow(base, -2.0 / cfg->n_rot), x = pos;
    for (uint32_t i = 0; i < k; i++) x = x * step;
    if (!comp) return (double)x;
    long double f = exact_frequency(cfg, k, true) / exact_frequency(cfg, k, false);
    f *= powl((long double)cfg->rope_base_comp / (long double)cfg->rope_base,
              2.0L * k / cfg->n_rot);
    return (double)x * (double)f; /* f: what the YaRN ramp leaves of this pair */
}

static void test_fmath_rope_gives_appendix_c11(void **state) {
    (void)state;
    static const struct {
        uint32_t k;
        float raw[2], comp[2];
    } want[] = {
        {0, {0.562379f, 0.826880f}, {0.562379f, 0.826880f}},
        {1, {-0.584593f, 0.811327f}, {-0.938435f, 0.345456f}},
        {2, {-0.999993f, 0.003776f}, {-0.061117f, 0.998131f}},
        {15, {0.718718f, 0.695302f}, {-0.880468f, -0.474106f}},
        {16, {-0.839073f, -0.544019f}, {-0.640255f, 0.768163f}},
        {20, {-0.999786f, -0.020683f}, {0.956225f, 0.292632f}},
        {24, {0.540303f, 0.841471f}, {0.999809f, 0.019530f}},
        {25, {0.731761f, 0.681561f}, {0.999986f, 0.005372f}},
        {31, {0.991122f, 0.132957f}, {1.000000f, 0.000568f}},
    };
    /* The table was made with f32 running products, pos * step * step ..: done that way, every
     * printed digit comes back. What they lose at position 1000, 4.5e-5, is all that the exact
     * frequencies differ by. */
    ds4_config cfg = full_size();
    double most[2] = {0.0, 0.0}, by_running = 0.0;
    for (int comp = 0; comp < 2; comp++) {
        uint32_t freq[2][64];
        for (int exp2_log2 = 0; exp2_log2 < 2; exp2_log2++)
            ds4_rope_freq(freq[exp2_log2], &cfg, comp, exp2_log2);
        for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
            const float *w = comp ? want[i].comp : want[i].raw;
            double x = running_angle(&cfg, want[i].k, 1000.0f, comp);
            by_running = fmax(by_running, fabs(cos(x) - (double)w[0]));
            by_running = fmax(by_running, fabs(sin(x) - (double)w[1]));
            for (int v = 0; v < 2; v++) {
                float c, s;
                at_position(&c, &s, freq[v], want[i].k, 1000);
                most[v] = fmax(most[v], fabs((double)c - (double)w[0]));
                most[v] = fmax(most[v], fabs((double)s - (double)w[1]));
            }
        }
    }
    print_message("  C.11: %.3g absolute; by exp2 and log2 %.3g; by running products %.3g\n",
                  most[0], most[1], by_running);
    assert_true(by_running <= 1.1e-6);
    assert_true(most[0] <= 4.6e-5);
    assert_true(most[1] <= 1e-4); /* f32 frequencies, times position 1000 */
}

static void test_fmath_sqrt_softplus_gives_appendix_c12(void **state) {
    (void)state;
    static const float want[][2] = {
        {-25.0f, 3.7266532e-06f}, {-20.0f, 4.5399931e-05f}, {-5.0f, 0.08194723f},
        {-1.0f, 0.55969787f},     {0.0f, 0.83255464f},      {0.5f, 0.98695338f},
        {3.0f, 1.7460204f},       {19.9f, 4.4609418f},      {25.0f, 5.0f},
    };
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        uint32_t d = ds4_ulp_distance(ds4_sqrt_softplus(want[i][0]), want[i][1]);
        if (d > 2) fail_msg("z = %g: %u ulp apart", (double)want[i][0], d);
    }
}

/* ---- host constants ---- */

static void test_fmath_f64_stays_within_bound(void **state) {
    (void)state;
    double worst_exp = 0.0, worst_log = 0.0;
    for (int i = 0; i <= 2000000; i++) {
        double x = -700.0 + 1400.0 * i / 2000000.0;
        long double want = expl((long double)x);
        double e = (double)fabsl(((long double)ds4_exp_f64(x) - want) / want);
        if (!(e <= worst_exp)) worst_exp = e;
        double y = ldexp(0.5 + i / 2000000.0, i % 120 - 60);
        want = logl((long double)y);
        if (want == 0.0L) {
            assert_true(ds4_log_f64(y) == 0.0);
            continue;
        }
        e = (double)fabsl(((long double)ds4_log_f64(y) - want) / want);
        if (!(e <= worst_log)) worst_log = e;
    }
    print_message("  exp_f64 %.3g relative, log_f64 %.3g relative\n", worst_exp, worst_log);
    assert_true(worst_exp <= 1.5e-16 && worst_log <= 3.1e-16);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fmath_sweep_stays_within_bounds),
        cmocka_unit_test(test_fmath_planted_error_breaks_bound),
        cmocka_unit_test(test_fmath_special_values_are_exact),
        cmocka_unit_test(test_fmath_nan_gives_nan),
        cmocka_unit_test(test_fmath_subnormal_counts_as_zero),
        cmocka_unit_test(test_fmath_cos_sin_of_turns_stay_within_bound),
        cmocka_unit_test(test_fmath_cos_sin_keep_bits_beside_zeros),
        cmocka_unit_test(test_fmath_rope_holds_at_huge_positions),
        cmocka_unit_test(test_fmath_rope_gives_appendix_c11),
        cmocka_unit_test(test_fmath_sqrt_softplus_gives_appendix_c12),
        cmocka_unit_test(test_fmath_f64_stays_within_bound),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
