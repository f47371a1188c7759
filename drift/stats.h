#ifndef DRIFT_STATS_H
#define DRIFT_STATS_H
/* Statistics over positions, fixtures and repeats. The one doorway to GSL, whose aborting error
 * handler is switched off on entry. All take values without NaN; infinities are legal and give
 * infinite results where they take part. n = 0 gives NaN ("not measured"). */
#include <stddef.h>

/* Drops NaN in place, keeps the order; returns how many are left. */
size_t drift_stats_measured(double *x, size_t n);

double drift_stats_mean(const double *x, size_t n);
/* Sample standard deviation (divisor n - 1); 0 for n = 1. */
double drift_stats_sd(const double *x, size_t n);
double drift_stats_max(const double *x, size_t n);

/* Ascending, in place. */
void drift_stats_sort(double *x, size_t n);
/* Of sorted values: linear interpolation at f (n - 1). f is 0..1. */
double drift_stats_quantile(const double *sorted, size_t n, double f);
double drift_stats_median(const double *sorted, size_t n);

#endif
