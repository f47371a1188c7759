/* Every f32 input of each function of engine/base/fmath.h, in ulp of the exact result, and the
 * cosine and sine of every upper word of a turn. `make check-math` runs it on all CPUs; fails
 * when an error is above DS4_FMATH_ULP or a value that the header promises in bits is another
 * one.
 *
 *   check_math [--step N] [--threads N] [NAME...]     every Nth input; only these functions
 *
 * The exact result comes from the C library in double, whose error (some 2^-27 ulp of an f32)
 * is held below LIBRARY against MPFR on one input of 2^16. MPFR itself decides what lies within
 * LIBRARY of the bound, and gives the worst case that is printed. A planted fault of each kind
 * is looked for first. */
#include <gmp.h>
#include <inttypes.h>
#include <math.h>
#include <mpfr.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/float.h"
#include "engine/base/fmath.h"

#define LIBRARY 1e-6 /* ulp of an f32 */
enum { BITS = 160 }; /* of MPFR's numbers: a sine of 2^-64 turns and a 1 - 2^-64 fit */

/* ---- what is checked ---- */

/* An input: the bits of an f32, or a turn. */
typedef float (*float_fn)(uint64_t in);
typedef double (*double_fn)(uint64_t in);
typedef void (*mpfr_fn)(mpfr_t y, uint64_t in);

/* Subnormals count as 0. */
static float f32_of(uint64_t in) { return ds4_f32_from_bits((uint32_t)in); }
static double f64_of(uint64_t in) {
    float x = f32_of(in);
    return isnan(x) || fabsf(x) >= 0x1p-126f ? (double)x : 0.0;
}
static void mpfr_of(mpfr_t y, uint64_t in) { mpfr_set_d(y, f64_of(in), MPFR_RNDN); }

static float run_exp(uint64_t in) { return ds4_exp(f32_of(in)); }
static double want_exp(uint64_t in) { return exp(f64_of(in)); }
static void exact_exp(mpfr_t y, uint64_t in) {
    mpfr_of(y, in);
    mpfr_exp(y, y, MPFR_RNDN);
}

static float run_exp2(uint64_t in) { return ds4_exp2(f32_of(in)); }
static double want_exp2(uint64_t in) { return exp2(f64_of(in)); }
static void exact_exp2(mpfr_t y, uint64_t in) {
    mpfr_of(y, in);
    mpfr_exp2(y, y, MPFR_RNDN);
}

static float run_log1p(uint64_t in) { return ds4_log1p(f32_of(in)); }
static double want_log1p(uint64_t in) {
    double x = f64_of(in);
    return x <= -0x1p-51 || x > 1.0 ? (double)NAN
                                    : log1p(x); /* the domain, and what is flushed */
}
static void exact_log1p(mpfr_t y, uint64_t in) {
    mpfr_of(y, in);
    mpfr_log1p(y, y, MPFR_RNDN);
}

static float run_sigmoid(uint64_t in) { return ds4_sigmoid(f32_of(in)); }
static double want_sigmoid(uint64_t in) { return 1.0 / (1.0 + exp(-f64_of(in))); }
static void exact_sigmoid(mpfr_t y, uint64_t in) {
    mpfr_of(y, in);
    mpfr_neg(y, y, MPFR_RNDN);
    mpfr_exp(y, y, MPFR_RNDN);
    mpfr_add_ui(y, y, 1, MPFR_RNDN);
    mpfr_ui_div(y, 1, y, MPFR_RNDN);
}

static float run_tanh(uint64_t in) { return ds4_tanh(f32_of(in)); }
static double want_tanh(uint64_t in) { return tanh(f64_of(in)); }
static void exact_tanh(mpfr_t y, uint64_t in) {
    mpfr_of(y, in);
    mpfr_tanh(y, y, MPFR_RNDN);
}

static float run_sqrt_softplus(uint64_t in) { return ds4_sqrt_softplus(f32_of(in)); }
static double want_sqrt_softplus(uint64_t in) {
    double x = f64_of(in);
    return sqrt(x > 0.0 ? x + log1p(exp(-x)) : log1p(exp(x)));
}
static void exact_sqrt_softplus(mpfr_t y, uint64_t in) {
    mpfr_of(y, in);
    if (mpfr_cmp_ui(y, 100) > 0) {
        mpfr_sqrt(y, y, MPFR_RNDN); /* what is left out is below 2^-144 */
        return;
    }
    mpfr_exp(y, y, MPFR_RNDN);
    mpfr_log1p(y, y, MPFR_RNDN);
    mpfr_sqrt(y, y, MPFR_RNDN);
}

static float run_rsqrt(uint64_t in) { return ds4_rsqrt(f32_of(in)); }
static double want_rsqrt(uint64_t in) {
    double x = f64_of(in);
    return 1.0 / sqrt(x == 0.0 ? 0.0 : x); /* both zeros give +inf */
}
static void exact_rsqrt(mpfr_t y, uint64_t in) {
    mpfr_of(y, in);
    mpfr_rec_sqrt(y, y, MPFR_RNDN);
}

/* The turn, less the nearest quarter turn, in radians, and which quarter. */
static double radians(uint64_t turn, uint32_t *quarter) {
    uint64_t q = (turn >> 62) + (turn >> 61 & 1);
    *quarter = (uint32_t)q & 3;
    return (double)(int64_t)(turn - (q << 62)) * 0x1.921fb54442d18p-62;
}
static float run_cos(uint64_t turn) {
    float c, s;
    ds4_cos_sin_turn(&c, &s, turn);
    return c;
}
static float run_sin(uint64_t turn) {
    float c, s;
    ds4_cos_sin_turn(&c, &s, turn);
    return s;
}
static double want_sin(uint64_t turn) {
    uint32_t q;
    double x = radians(turn, &q), y = q & 1 ? cos(x) : sin(x);
    return q & 2 ? -y : y;
}
static double want_cos(uint64_t turn) { return want_sin(turn + ((uint64_t)1 << 62)); }
/* The reduction is exact in integers here too: MPFR's own of 2 pi loses the low bits near a
 * zero. */
static void exact_sin(mpfr_t y, uint64_t turn) {
    uint32_t q;
    mpfr_t pi;
    radians(turn, &q);
    int64_t rest = (int64_t)(turn - ((uint64_t)q << 62));
    mpfr_init2(pi, BITS);
    mpfr_const_pi(pi, MPFR_RNDN);
    mpfr_set_sj(y, rest, MPFR_RNDN);
    mpfr_mul(y, y, pi, MPFR_RNDN);
    mpfr_div_2ui(y, y, 63, MPFR_RNDN);
    if (q & 1) mpfr_cos(y, y, MPFR_RNDN);
    else mpfr_sin(y, y, MPFR_RNDN);
    if (q & 2) mpfr_neg(y, y, MPFR_RNDN);
    mpfr_clear(pi);
}
static void exact_cos(mpfr_t y, uint64_t turn) { exact_sin(y, turn + ((uint64_t)1 << 62)); }

static uint64_t mixed(uint64_t z) {
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

/* Input i. */
static uint64_t as_is(uint64_t i) { return i; }
static uint64_t low_zero(uint64_t i) { return i << 32; }
static uint64_t low_ones(uint64_t i) { return i << 32 | UINT32_MAX; }
static uint64_t low_random(uint64_t i) { return i << 32 | (uint32_t)mixed(i + 1); }
/* A quarter turn and either sign of something of every size. */
static uint64_t near_quarter(uint64_t i) {
    uint64_t r = mixed(i + 1), size = r >> 3 & 63;
    uint64_t d = (mixed(r) | (uint64_t)1 << 63) >> size;
    return (i << 62) + (r >> 1 & 1 ? d : 0 - d);
}

typedef struct function {
    const char *name;
    uint64_t (*input)(uint64_t i);
    float_fn run;
    double_fn want;
    mpfr_fn exact;
    uint32_t log2_n; /* inputs: 2^32, all of them, or fewer random ones */
} function;

static const function functions[] = {
    {"exp", as_is, run_exp, want_exp, exact_exp, 32},
    {"exp2", as_is, run_exp2, want_exp2, exact_exp2, 32},
    {"log1p", as_is, run_log1p, want_log1p, exact_log1p, 32},
    {"sigmoid", as_is, run_sigmoid, want_sigmoid, exact_sigmoid, 32},
    {"tanh", as_is, run_tanh, want_tanh, exact_tanh, 32},
    {"sqrt_softplus", as_is, run_sqrt_softplus, want_sqrt_softplus, exact_sqrt_softplus, 32},
    {"rsqrt", as_is, run_rsqrt, want_rsqrt, exact_rsqrt, 32},
    {"sin, low word 0", low_zero, run_sin, want_sin, exact_sin, 32},
    {"sin, low word -1", low_ones, run_sin, want_sin, exact_sin, 32},
    {"sin, low word random", low_random, run_sin, want_sin, exact_sin, 32},
    {"cos, low word 0", low_zero, run_cos, want_cos, exact_cos, 32},
    {"cos, low word random", low_random, run_cos, want_cos, exact_cos, 32},
    {"sin near quarters", near_quarter, run_sin, want_sin, exact_sin, 28},
    {"cos near quarters", near_quarter, run_cos, want_cos, exact_cos, 28},
};
enum { N_FUNCTION = sizeof functions / sizeof *functions };

/* ---- one input ---- */

/* log2 of the ulp of an f32 of this magnitude, between 2^-52 and 2^127 (inf is 2^128). */
static int ulp_exponent(double want) {
    uint64_t u;
    memcpy(&u, &want, 8);
    int e = (int)(u >> 52 & 2047) - 1023;
    return (e < -52 ? -52 : e > 127 ? 127 : e) - 23;
}

static double power2(int e) {
    uint64_t u = (uint64_t)(e + 1023) << 52;
    double d;
    memcpy(&d, &u, 8);
    return d;
}

/* Bits that the header promises beside the error: one NaN, no -0, nothing below 2^-51, and no
 * number for a NaN or the other way round. */
static bool well_formed(float got, double want) {
    uint32_t u = ds4_f32_bits(got);
    if (isnan(want) || isnan(got)) return isnan(want) && u == 0x7fc00000u;
    return u == 0 || (u & 0x7fffffffu) >= 0x26000000u;
}

/* +inf stands for 2^128, so that rounding up to it counts as any rounding; a flushed result is
 * exact. */
static double error_ulp(float got, double want) {
    if (isnan(want) || (got == 0.0f && fabs(want) < 0x1p-51)) return 0.0;
    double g = isinf(got) ? copysign(0x1p128, (double)got) : (double)got;
    if (isinf(got) && fabs(want) >= 0x1p128 && signbit(want) == signbit(g)) return 0.0;
    return fabs(g - want) * power2(-ulp_exponent(want));
}

/* The same from MPFR. Far outside f32 the double decides as well. */
static double exact_error_ulp(const function *f, uint64_t in, double *want) {
    mpfr_t y;
    mpfr_init2(y, BITS);
    f->exact(y, in);
    *want = mpfr_get_d(y, MPFR_RNDZ);
    float got = f->run(in);
    double u = error_ulp(got, *want);
    if (u != 0.0 && isfinite(*want) && isfinite(got)) {
        mpfr_sub_d(y, y, (double)got, MPFR_RNDN);
        u = fabs(mpfr_get_d(y, MPFR_RNDN)) * power2(-ulp_exponent(*want));
    }
    mpfr_clear(y);
    return u;
}

typedef struct tally {
    uint64_t n, n_decided, n_bad, at, bad_at;
    double ulp, library; /* largest error; largest of the C library's doubles, where sampled */
} tally;

static void bad(tally *t, uint64_t in) {
    if (!t->n_bad++ || in < t->bad_at) t->bad_at = in;
}

static void look(const function *f, uint64_t in, bool sample, tally *t) {
    float got = f->run(in);
    double want = f->want(in), u, exact;
    t->n++;
    if (!well_formed(got, want)) {
        bad(t, in);
        return;
    }
    u = error_ulp(got, want);
    if (u > t->ulp || (u == t->ulp && in < t->at)) t->ulp = u, t->at = in;
    if (u > DS4_FMATH_ULP - LIBRARY) {
        t->n_decided++;
        if (!(exact_error_ulp(f, in, &exact) <= DS4_FMATH_ULP)) bad(t, in);
    }
    if (sample && fabs(want) <= 0x1p128) {
        exact_error_ulp(f, in, &exact);
        double l = fabs(exact - want) * power2(-ulp_exponent(exact));
        if (!(l <= t->library)) t->library = l;
    }
}

static void add(tally *to, const tally *t) {
    if (t->n_bad && (!to->n_bad || t->bad_at < to->bad_at)) to->bad_at = t->bad_at;
    if (t->ulp > to->ulp || (t->ulp == to->ulp && t->at < to->at))
        to->ulp = t->ulp, to->at = t->at;
    if (t->library > to->library) to->library = t->library;
    to->n += t->n, to->n_decided += t->n_decided, to->n_bad += t->n_bad;
}

/* ---- all inputs ---- */

enum { BLOCK = 1 << 20 };

typedef struct work {
    const function *f;
    uint64_t next, step;
    tally sum;
    bool show;
    struct timespec begin;
    pthread_mutex_t lock;
} work;

static void progress(const work *w, uint64_t done) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    double s = (double)(now.tv_sec - w->begin.tv_sec),
           share = (double)done / ldexp(1.0, (int)w->f->log2_n);
    fprintf(stderr, "\r%-22s %3.0f %%, %.0f s left   ", w->f->name, 100.0 * share,
            s / share * (1.0 - share));
}

static void *worker(void *arg) {
    work *w = arg;
    tally mine = {.at = UINT64_MAX};
    for (;;) {
        pthread_mutex_lock(&w->lock);
        uint64_t first = w->next;
        w->next += (uint64_t)BLOCK * w->step;
        if (w->show && first && first >> w->f->log2_n == 0) progress(w, first);
        pthread_mutex_unlock(&w->lock);
        if (first >> w->f->log2_n) break;
        for (uint64_t k = 0; k < BLOCK; k++) {
            uint64_t i = first + k * w->step;
            if (i >> w->f->log2_n) break;
            look(w->f, w->f->input(i), k % 65536 == first / BLOCK % 65536, &mine);
        }
        mpfr_free_cache();
    }
    pthread_mutex_lock(&w->lock);
    add(&w->sum, &mine);
    pthread_mutex_unlock(&w->lock);
    return NULL;
}

static tally run_all(const function *f, uint64_t step, int n_thread, bool show) {
    work w = {.f = f, .step = step, .show = show, .sum = {.at = UINT64_MAX}};
    pthread_t id[256];
    int n = 0;
    pthread_mutex_init(&w.lock, NULL);
    clock_gettime(CLOCK_MONOTONIC, &w.begin);
    while (n < n_thread - 1 && pthread_create(&id[n], NULL, worker, &w) == 0) n++;
    worker(&w);
    while (n > 0) pthread_join(id[--n], NULL);
    pthread_mutex_destroy(&w.lock);
    if (show) fprintf(stderr, "\r%60s\r", "");
    return w.sum;
}

static void print_input(const function *f, uint64_t in) {
    if (f->input == as_is) printf("%.9g (%08" PRIx64 ")", (double)f32_of(in), in);
    else printf("turn %016" PRIx64, in);
}

/* Prints a line; false when the bound or a promise is broken. */
static bool report(const function *f, const tally *t) {
    double want, worst = t->n ? exact_error_ulp(f, t->at, &want) : 0.0;
    bool pass = t->n_bad == 0 && worst <= DS4_FMATH_ULP && t->library <= LIBRARY && t->n;
    printf("%-4s %-21s %10" PRIu64 " inputs, worst %.5f ulp at ", pass ? "ok" : "FAIL", f->name,
           t->n, worst);
    print_input(f, t->at);
    printf(", bound %.4g; %" PRIu64 " decided by MPFR, C library within %.1g\n", DS4_FMATH_ULP,
           t->n_decided, t->library);
    if (t->n_bad) {
        printf("     %" PRIu64 " broken, first at ", t->n_bad);
        print_input(f, t->bad_at);
        printf(": %a, wanted %a\n", (double)f->run(t->bad_at), f->want(t->bad_at));
    }
    if (t->library > LIBRARY)
        printf("     the C library's double is off by %g ulp of an f32, wanted %g: no judge\n",
               t->library, LIBRARY);
    fflush(stdout);
    return pass;
}

/* ---- the check can fail ---- */

static float up(float y, uint32_t n) { return ds4_f32_from_bits(ds4_f32_bits(y) + n); }
static float one_ulp_off(uint64_t in) { return up(run_exp(in), in == 0x3f8ccccdu); }
static float flush_lost(uint64_t in) { return in == 0xc2480000u ? 0x1p-72f : run_exp(in); }
static float minus_zero(uint64_t in) { return in == 0x80000000u ? -0.0f : run_tanh(in); }
static float other_nan(uint64_t in) { return in == 0x7fc00001u ? f32_of(in) : run_exp(in); }
static float number_for_nan(uint64_t in) { return in == 0xbf800000u ? 0.0f : run_rsqrt(in); }
static float finite_for_inf(uint64_t in) {
    return in == 0x42b17219u ? 0x1.fffffep127f : run_exp(in);
}
static float flushed_early(uint64_t in) { return in == 0xc20d0000u ? 0.0f : run_exp(in); }
static float upper_word_only(uint64_t turn) { return run_sin(turn >> 32 << 32); }
static double rough_exp(uint64_t in) { return want_exp(in) * (1.0 + 0x1p-40); }

static const struct plant {
    const char *what;
    uint64_t in;
    function f;
} plants[] = {
    {"one ulp", 0x3f8ccccd, {"exp", as_is, one_ulp_off, want_exp, exact_exp, 32}},
    {"no flush", 0xc2480000, {"exp", as_is, flush_lost, want_exp, exact_exp, 32}},
    {"-0", 0x80000000, {"tanh", as_is, minus_zero, want_tanh, exact_tanh, 32}},
    {"another NaN", 0x7fc00001, {"exp", as_is, other_nan, want_exp, exact_exp, 32}},
    {"a number", 0xbf800000, {"rsqrt", as_is, number_for_nan, want_rsqrt, exact_rsqrt, 32}},
    {"no infinity", 0x42b17219, {"exp", as_is, finite_for_inf, want_exp, exact_exp, 32}},
    {"flushed early", 0xc20d0000, {"exp", as_is, flushed_early, want_exp, exact_exp, 32}},
    {"low word lost",
     0x0000000180000000,
     {"sin", as_is, upper_word_only, want_sin, exact_sin, 32}},
};

/* Each plant fails at its input, and the function without it does not. */
static bool self_test(void) {
    bool pass = true;
    for (size_t i = 0; i < sizeof plants / sizeof *plants; i++) {
        const struct plant *p = &plants[i];
        function clean = p->f;
        for (size_t k = 0; k < N_FUNCTION; k++)
            if (functions[k].want == p->f.want) clean = functions[k];
        tally planted = {0}, without = {0};
        look(&p->f, p->in, true, &planted);
        look(&clean, p->in, true, &without);
        if (planted.n_bad != 1 || without.n_bad != 0) {
            printf("FAIL self-test: %s, %s at %" PRIx64 ": planted %" PRIu64
                   ", without %" PRIu64 " found\n",
                   p->f.name, p->what, p->in, planted.n_bad, without.n_bad);
            pass = false;
        }
    }
    function rough = {"exp", as_is, run_exp, rough_exp, exact_exp, 32};
    tally t = {0};
    look(&rough, 0x3f8ccccd, true, &t);
    if (t.library <= LIBRARY)
        printf("FAIL self-test: a rough reference passed\n"), pass = false;
    if (pass)
        printf("ok   self-test: %zu planted faults found\n",
               sizeof plants / sizeof *plants + 1);
    return pass;
}

/* ---- the command line ---- */

static bool wanted(const char *name, char **list, int n) {
    for (int i = 0; i < n; i++)
        if (!strncmp(name, list[i], strlen(list[i]))) return true;
    return n == 0;
}

int main(int argc, char **argv) {
    uint64_t step = 1;
    long n_cpu = sysconf(_SC_NPROCESSORS_ONLN);
    int first = 1, n_thread = n_cpu < 1 ? 1 : n_cpu > 256 ? 256 : (int)n_cpu, n_run = 0;
    bool pass;
    for (; first + 1 < argc && !strncmp(argv[first], "--", 2); first += 2) {
        long n = strtol(argv[first + 1], NULL, 10);
        if (!strcmp(argv[first], "--step") && n > 0) step = (uint64_t)n;
        else if (!strcmp(argv[first], "--threads") && n > 0 && n <= 256) n_thread = (int)n;
        else break;
    }
    if (first < argc && argv[first][0] == '-') {
        fprintf(stderr, "usage: check_math [--step N] [--threads N] [NAME...]\n");
        return 64;
    }
    pass = self_test();
    for (size_t i = 0; i < N_FUNCTION; i++) {
        if (!wanted(functions[i].name, argv + first, argc - first)) continue;
        tally t = run_all(&functions[i], step, n_thread, isatty(STDERR_FILENO));
        pass &= report(&functions[i], &t), n_run++;
    }
    if (!n_run) fprintf(stderr, "check_math: %s: no such function\n", argv[first]);
    return !n_run ? 64 : pass ? 0 : 1;
}
