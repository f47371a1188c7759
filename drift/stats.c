#include "drift/stats.h"

#include <gsl/gsl_errno.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdbool.h>

#include "engine/base/mem.h"

static void enter(void) { gsl_set_error_handler_off(); }

size_t drift_stats_measured(double *x, size_t n) {
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (!isnan(x[i])) x[kept++] = x[i];
    return kept;
}

static bool all_finite(const double *x, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (!isfinite(x[i])) return false;
    return true;
}

double drift_stats_mean(const double *x, size_t n) {
    enter();
    if (n == 0) return (double)NAN;
    if (all_finite(x, n)) return gsl_stats_mean(x, 1, n);
    double sum =
        0.0; /* float64, index order; the running mean of GSL would make a NaN of inf */
    for (size_t i = 0; i < n; i++) sum += x[i];
    return sum / (double)n;
}

double drift_stats_sd(const double *x, size_t n) {
    enter();
    if (n == 0) return (double)NAN;
    if (n == 1) return 0.0;
    return all_finite(x, n) ? gsl_stats_sd(x, 1, n) : (double)INFINITY;
}

double drift_stats_max(const double *x, size_t n) {
    enter();
    return n ? gsl_stats_max(x, 1, n) : (double)NAN;
}

void drift_stats_sort(double *x, size_t n) {
    enter();
    gsl_sort(x, 1, n);
}

double drift_stats_quantile(const double *sorted, size_t n, double f) {
    enter();
    if (n == 0) return (double)NAN;
    if (isfinite(sorted[0]) && isfinite(sorted[n - 1]))
        return gsl_stats_quantile_from_sorted_data(sorted, 1, n, f);
    double at = f * (double)(n - 1);
    size_t lo = (size_t)at;
    double share = at - (double)lo;
    if (share <= 0.0 || lo + 1 >= n) return sorted[lo];
    return (1.0 - share) * sorted[lo] + share * sorted[lo + 1];
}

double drift_stats_median(const double *sorted, size_t n) {
    return drift_stats_quantile(sorted, n, 0.5);
}

/* How many averages to cut off at either end: the largest k with P(W < k) <= tail, at least 1;
 * *cut is P(W < k). p [n (n + 1) / 2 + 1] becomes the distribution of W, the sum of those of
 * 1..n that a fair coin chooses. */
static size_t rank_cut(double *p, size_t n, double tail, double *cut) {
    size_t most = 0, k = 1;
    double sum;
    p[0] = 1.0;
    for (size_t r = 1; r <= n; r++) {
        for (size_t w = most + 1; w <= most + r; w++) p[w] = 0.0;
        most += r;
        for (size_t w = most + 1; w-- > 0;) p[w] = 0.5 * (p[w] + (w >= r ? p[w - r] : 0.0));
    }
    *cut = sum = p[0];
    while (k < most && (sum += p[k]) <= tail) *cut = sum, k++;
    return k;
}

ds4_status drift_stats_signed_rank(drift_interval *out, const double *x, size_t n, double level,
                                   ds4_err *err) {
    ds4_status st = DS4_OK;
    double *walsh = NULL, *p = NULL, cut;
    size_t m = n * (n + 1) / 2, i = 0;

    enter();
    if (n > DRIFT_STATS_MAX_RANK)
        RAISE(DS4_ERR_USAGE, "%zu values for a signed-rank interval, at most %d are supported",
              n, DRIFT_STATS_MAX_RANK);
    *out = (drift_interval){(double)NAN, (double)NAN, (double)NAN, 0.0};
    if (n == 0) goto out;
    TRY(ds4_mem_alloc(&walsh, m, sizeof *walsh, err));
    TRY(ds4_mem_alloc(&p, m + 1, sizeof *p, err));
    for (size_t a = 0; a < n; a++)
        for (size_t b = a; b < n; b++) walsh[i++] = 0.5 * x[a] + 0.5 * x[b];
    drift_stats_sort(walsh, m);
    size_t k = rank_cut(p, n, 0.5 * (1.0 - level), &cut);
    *out = (drift_interval){drift_stats_median(walsh, m), walsh[k - 1], walsh[m - k],
                            1.0 - 2.0 * cut};
out:
    ds4_mem_free(p);
    ds4_mem_free(walsh);
    return st;
}
