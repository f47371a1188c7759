#include "drift/stats.h"

#include <gsl/gsl_errno.h>
#include <gsl/gsl_sort.h>
#include <gsl/gsl_statistics_double.h>
#include <math.h>
#include <stdbool.h>

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
