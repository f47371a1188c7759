#ifndef DRIFT_METRIC_H
#define DRIFT_METRIC_H
/* The metrics of drift.md section 1, one row each in metrics.def. The legacy ones (1.1) repeat
 * the script implementation bit for bit: float64 differences, float64 sums in order of
 * increasing id. Nothing here depends on how rows are split into slabs, or on threads. */
#include "drift/result.h"

typedef struct drift_metric {
    const char *name, *equation;
    bool worse_high;                         /* else a lower value is worse */
    double (*logit)(const drift_logit *m);   /* NULL for a tensor metric */
    double (*tensor)(const drift_tensor *m); /* NULL for a logit metric */
} drift_metric;

size_t drift_metric_n(void);
const drift_metric *drift_metric_at(size_t i);
/* "logit.rms", "tensor.nrmse"; NULL when there is none. */
const drift_metric *drift_metric_find(const char *name);
/* The worst value over a result's logits or measured tensors; NaN when nothing was measured. A
 * non-finite disagreement counts as worse than any number (+inf, or -inf where low is worse).
 */
double drift_metric_worst(const drift_metric *m, const drift_result *r);

/* Measures one position: fills all of *out but pos, token, next and the texts; out->next must
 * be set before. a, b [n_vocab]; top_k at least 1. Only memory can fail. */
ds4_status drift_logit_measure(drift_logit *out, const float *a, const float *b,
                               uint32_t n_vocab, uint32_t top_k, ds4_err *err);

/* Measures a tensor slab by slab in row order. The caller sets n_row, n_col, pos0, pos_step,
 * row_rms and row_max of *t, all else zero. Rows of i32 ids are compared as sets: rms, max_abs,
 * nrmse, cosine and mean_err are NaN, row_rms is the share of a's ids that b lacks and row_max
 * their number. */
typedef struct drift_tensor_sum {
    double d2, d, a2, b2, ab; /* float64, elements in index order */
} drift_tensor_sum;
void drift_tensor_begin(drift_tensor *t, drift_tensor_sum *s);
void drift_tensor_add_f32(drift_tensor *t, drift_tensor_sum *s, const float *a, const float *b,
                          uint32_t row0, uint32_t n_row);
/* May sort a and b row by row. */
void drift_tensor_add_i32(drift_tensor *t, int32_t *a, int32_t *b, uint32_t row0,
                          uint32_t n_row);
void drift_tensor_end_f32(drift_tensor *t, const drift_tensor_sum *s);
void drift_tensor_end_i32(drift_tensor *t);

#endif
