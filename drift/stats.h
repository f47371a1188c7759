#ifndef DRIFT_STATS_H
#define DRIFT_STATS_H
/* Statistics over positions, fixtures and repeats. The one doorway to GSL, whose aborting error
 * handler is switched off on entry. All take values without NaN; infinities are legal and give
 * infinite results where they take part. n = 0 gives NaN ("not measured"). */
#include <stddef.h>

#include "engine/base/err.h"

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

/* An estimate with the interval around it and the coverage that the interval really has. */
typedef struct drift_interval {
    double mid, lo, hi, coverage;
} drift_interval;

#define DRIFT_STATS_MAX_RANK 512 /* most values of a signed-rank interval */

/* Centre of n values, by ranks: mid is the median of all averages of two of them (a value with
 * itself included, Hodges and Lehmann); lo and hi are order statistics of these averages, where
 * the exact distribution of Wilcoxon's signed-rank sum leaves at most (1 - level) / 2 on either
 * side. It asks that the values lie symmetrically about their centre, nothing else; there is no
 * seed. Where n is too small for the level (below 6 for 0.95) lo and hi are the extremes and
 * coverage says what they are worth. n = 0 gives NaN with coverage 0.
 *
 * Errors: DS4_ERR_USAGE for n past DRIFT_STATS_MAX_RANK, DS4_ERR_MEMORY. */
ds4_status drift_stats_signed_rank(drift_interval *out, const double *x, size_t n, double level,
                                   ds4_err *err);

#endif
