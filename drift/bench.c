#include "drift/bench.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"

#define MOST_TOK (1u << 20)

/* ---- frontiers ---- */

static ds4_status push(drift_bench_points *p, double v, const char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t last = p->n ? p->at[p->n - 1] : 0;
    if (!(v > (double)last && v <= (double)MOST_TOK))
        RAISE(DS4_ERR_USAGE,
              "frontiers \"%.100s\": found %.0f after %u, wanted ascending numbers up to %u",
              text, v, last, MOST_TOK);
    if (p->n == DRIFT_BENCH_MAX_POINT)
        RAISE(DS4_ERR_USAGE, "frontiers \"%.100s\": more than %d", text, DRIFT_BENCH_MAX_POINT);
    p->at[p->n++] = (uint32_t)v;
out:
    return st;
}

static ds4_status number(double *out, const char **at, bool whole, char end, const char *text,
                         ds4_err *err) {
    ds4_status st = DS4_OK;
    char *stop;
    errno = 0;
    double v = strtod(*at, &stop);
    if (!isdigit((unsigned char)**at) || errno || *stop != end || (whole && v != floor(v)))
        RAISE(DS4_ERR_USAGE,
              "frontiers \"%.100s\": wanted N,N,..., linear:START:STEP:END or "
              "geometric:START:FACTOR:END",
              text);
    *out = v, *at = stop + (end != 0);
out:
    return st;
}

/* START:STEP:END; the step is added or, geometric, multiplied. */
static ds4_status series(drift_bench_points *p, const char *at, bool geometric,
                         const char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    double from, step, to;
    TRY(number(&from, &at, true, ':', text, err));
    TRY(number(&step, &at, !geometric, ':', text, err));
    TRY(number(&to, &at, true, 0, text, err));
    if (step < 1.0 || from > to)
        RAISE(DS4_ERR_USAGE,
              "frontiers \"%.100s\": wanted a step of at least 1 and START up to END", text);
    for (double v = from; v < to; v = geometric ? fmax(ceil(v * step), v + 1.0) : v + step)
        TRY(push(p, v, text, err));
    TRY(push(p, to, text, err));
out:
    return st;
}

ds4_status drift_bench_points_parse(drift_bench_points *out, const char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_bench_points p = {0};
    const char *at = text;
    double v;

    if (!strncmp(text, "linear:", 7)) {
        TRY(series(&p, text + 7, false, text, err));
    } else if (!strncmp(text, "geometric:", 10)) {
        TRY(series(&p, text + 10, true, text, err));
    } else {
        for (bool more = true; more;) {
            more = strchr(at, ',') != NULL;
            TRY(number(&v, &at, true, more ? ',' : 0, text, err));
            TRY(push(&p, v, text, err));
        }
    }
    *out = p;
out:
    return st;
}

/* ---- schedule ---- */

uint32_t drift_bench_first(uint32_t i_pair) { return (i_pair + 1) / 2 % 2; }

ds4_status drift_bench_new(drift_bench **out, const drift_bench_spec *spec, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_bench *b = NULL;

    if (!spec->prefill.n) RAISE(DS4_ERR_USAGE, "bench: no frontier");
    if (!spec->n_block || spec->n_block > DRIFT_BENCH_MAX_BLOCK)
        RAISE(DS4_ERR_USAGE, "bench: %u repeats, wanted 1 to %d", spec->n_block,
              DRIFT_BENCH_MAX_BLOCK);
    TRY(ds4_mem_alloc(&b, 1, sizeof *b, err));
    b->spec = *spec;
    TRY(ds4_mem_alloc(&b->take, (size_t)spec->prefill.n * 4 * spec->n_block, sizeof *b->take,
                      err));
    *out = b, b = NULL;
out:
    drift_bench_free(b);
    return st;
}

void drift_bench_free(drift_bench *b) {
    if (!b) return;
    ds4_mem_free(b->take);
    ds4_mem_free(b);
}

drift_bench_take *drift_bench_at(const drift_bench *b, uint32_t i_point, uint32_t side,
                                 uint32_t i_block, uint32_t run) {
    return &b->take[((size_t)(i_point * 2 + side) * b->spec.n_block + i_block) * 2 + run];
}

uint32_t drift_bench_n_tok(const drift_bench_spec *s, uint32_t i_point, ds4_phase phase) {
    if (phase == DS4_DECODE) return s->n_decode;
    return s->prefill.at[i_point] - (i_point ? s->prefill.at[i_point - 1] : 0);
}

/* One pair; i_pair < 0: the warm-up. */
static ds4_status run_pair(drift_bench *b, const drift_bench_source *src, int64_t i_pair,
                           const drift_progress *progress, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t n = b->spec.prefill.n, last = b->spec.prefill.at[n - 1];
    const double n_pair = 2.0 * b->spec.n_block + 1.0;
    const uint32_t first = i_pair < 0 ? 0 : drift_bench_first((uint32_t)i_pair);

    for (uint32_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < 2; k++) {
            uint32_t side = first ^ k;
            double done =
                ((double)(i_pair + 1) + (double)(i ? b->spec.prefill.at[i - 1] : 0) / last) /
                n_pair;
            if (progress && progress->tell &&
                !progress->tell(progress->user, done, i_pair < 0 ? "bench, warm-up" : "bench"))
                RAISE(DS4_ERR_CANCELLED, "bench: stopped before a block of runs was finished");
            drift_bench_take *t =
                i_pair < 0 ? &b->warm[i][side]
                           : drift_bench_at(b, i, side, (uint32_t)i_pair / 2, i_pair % 2);
            TRY(src->take(src->user, side, i, i_pair < 0, t, err));
        }
out:
    return st;
}

static bool warm_differs(const drift_bench *b) {
    for (uint32_t i = 0; i < b->spec.prefill.n; i++)
        for (int p = 0; p < DS4_PHASE_COUNT; p++)
            if (b->warm[i][0].rows[p] != b->warm[i][1].rows[p]) return true;
    return false;
}

ds4_status drift_bench_run(drift_bench *b, const drift_bench_source *src,
                           const drift_progress *progress, ds4_err *err) {
    ds4_status st = DS4_OK;
    b->n_block = 0;
    TRY(run_pair(b, src, -1, progress, err));
    while (warm_differs(b) && b->n_block < b->spec.n_block) {
        for (uint32_t k = 0; k < 2 && st == DS4_OK; k++)
            st = run_pair(b, src, 2 * (int64_t)b->n_block + k, progress, err);
        if (st == DS4_ERR_CANCELLED && b->n_block) break;
        if (st != DS4_OK) goto out;
        b->n_block++;
    }
    st = drift_bench_judge(b, err);
out:
    return st;
}

/* ---- figures ---- */

static const struct {
    drift_bench_verdict v;
    const char *text;
} verdicts[] = {{DRIFT_BENCH_FASTER, "B faster"},
                {DRIFT_BENCH_SLOWER, "B slower"},
                {DRIFT_BENCH_FLOOR, "inside the floor"},
                {DRIFT_BENCH_TOO_FEW, "too few repeats"},
                {DRIFT_BENCH_SAME_ROWS, "same rows: not a comparison"}};

const char *drift_bench_verdict_text(drift_bench_verdict v) {
    for (size_t i = 0; i < sizeof verdicts / sizeof *verdicts; i++)
        if (verdicts[i].v == v) return verdicts[i].text;
    return "?";
}

static double log_s(const drift_bench *b, uint32_t i, ds4_phase p, uint32_t side, uint32_t k,
                    uint32_t run) {
    return log(drift_bench_at(b, i, side, k, run)->s[p]);
}

static void side_figures(drift_bench_figure *f, const drift_bench *b, uint32_t i, ds4_phase p,
                         uint32_t side) {
    double tps[2 * DRIFT_BENCH_MAX_BLOCK];
    uint32_t n = 2 * b->n_block;
    for (uint32_t r = 0; r < n; r++)
        tps[r] =
            drift_bench_n_tok(&b->spec, i, p) / drift_bench_at(b, i, side, r / 2, r % 2)->s[p];
    drift_stats_sort(tps, n);
    f->tps[side] = drift_stats_median(tps, n);
    f->spread[side] =
        0.5 * (drift_stats_quantile(tps, n, 0.75) - drift_stats_quantile(tps, n, 0.25)) /
        f->tps[side];
}

static uint32_t n_row_same(const drift_bench *b, uint32_t i, ds4_phase p) {
    uint32_t n = b->warm[i][0].rows[p] == b->warm[i][1].rows[p];
    for (uint32_t k = 0; k < 2 * b->n_block; k++)
        n += drift_bench_at(b, i, 0, k / 2, k % 2)->rows[p] ==
             drift_bench_at(b, i, 1, k / 2, k % 2)->rows[p];
    return n;
}

static void to_factors(drift_interval *v) {
    v->mid = exp(v->mid), v->lo = exp(v->lo), v->hi = exp(v->hi);
}

static drift_bench_verdict verdict_of(const drift_bench_figure *f, double level) {
    if (f->n_row_same) return DRIFT_BENCH_SAME_ROWS;
    if (!(f->ab.coverage >= level)) return DRIFT_BENCH_TOO_FEW;
    if (f->ab.lo > 1.0 && f->ab.mid > 1.0 + f->floor) return DRIFT_BENCH_FASTER;
    if (f->ab.hi < 1.0 && f->ab.mid < 1.0 / (1.0 + f->floor)) return DRIFT_BENCH_SLOWER;
    return DRIFT_BENCH_FLOOR;
}

static ds4_status judge(drift_bench *b, uint32_t i, ds4_phase p, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_bench_figure *f = &b->figure[i][p];
    double ab[DRIFT_BENCH_MAX_BLOCK], aa[DRIFT_BENCH_MAX_BLOCK];

    *f = (drift_bench_figure){0};
    for (uint32_t k = 0; k < b->n_block; k++) {
        double a0 = log_s(b, i, p, 0, k, 0), a1 = log_s(b, i, p, 0, k, 1);
        double b0 = log_s(b, i, p, 1, k, 0), b1 = log_s(b, i, p, 1, k, 1);
        ab[k] = 0.5 * (a0 + a1) - 0.5 * (b0 + b1); /* rates: B over A */
        aa[k] = k % 2 ? a1 - a0 : a0 - a1;
    }
    TRY(drift_stats_signed_rank(&f->ab, ab, b->n_block, b->spec.level, err));
    TRY(drift_stats_signed_rank(&f->aa, aa, b->n_block, b->spec.level, err));
    to_factors(&f->ab), to_factors(&f->aa);
    f->floor = fmax(fmax(f->aa.hi, 1.0 / f->aa.lo) - 1.0, b->spec.min_effect);
    for (uint32_t side = 0; side < 2; side++) side_figures(f, b, i, p, side);
    f->n_row_same = n_row_same(b, i, p);
    f->verdict = verdict_of(f, b->spec.level);
out:
    return st;
}

ds4_status drift_bench_judge(drift_bench *b, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t i = 0; i < b->spec.prefill.n; i++)
        for (int p = 0; p < DS4_PHASE_COUNT; p++)
            if (drift_bench_n_tok(&b->spec, i, (ds4_phase)p))
                TRY(judge(b, i, (ds4_phase)p, err));
out:
    return st;
}

bool drift_bench_is_comparison(const drift_bench *b) {
    for (uint32_t i = 0; i < b->spec.prefill.n; i++)
        for (int p = 0; p < DS4_PHASE_COUNT; p++)
            if (drift_bench_n_tok(&b->spec, i, (ds4_phase)p) &&
                b->figure[i][p].verdict != DRIFT_BENCH_SAME_ROWS)
                return true;
    return false;
}
