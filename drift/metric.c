#include "drift/metric.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"

static const double not_measured = (double)NAN;

/* ---- logits of one position ---- */

typedef struct pair {
    const float *x[2]; /* reference, candidate */
    uint32_t n, k;
    int32_t
        *top[2]; /* ids of the k largest finite values, best first, lower id first on ties */
    uint32_t n_top[2];
    double max[2], log_sum[2];       /* over each side's own finite values */
    double max_both[2], log_both[2]; /* over ids that are neither NaN nor +inf on either side */
} pair;

/* Rank order of ids i and j on one side. */
static bool before(const float *x, uint32_t i, uint32_t j) {
    return x[i] > x[j] || (x[i] == x[j] && i < j);
}

static uint32_t list_top(int32_t *top, const float *x, uint32_t n, uint32_t k) {
    uint32_t have = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!isfinite(x[i])) continue;
        if (have == k && !before(x, i, (uint32_t)top[k - 1])) continue;
        uint32_t at = have < k ? have++ : k - 1;
        for (; at > 0 && before(x, i, (uint32_t)top[at - 1]); at--) top[at] = top[at - 1];
        top[at] = (int32_t)i;
    }
    return have;
}

/* An id takes part in p and q when both values are finite or -inf (probability 0). */
static bool shared(const pair *p, uint32_t i) {
    return (isfinite(p->x[0][i]) || p->x[0][i] == -INFINITY) &&
           (isfinite(p->x[1][i]) || p->x[1][i] == -INFINITY);
}

/* Largest finite value and ln of the sum of exp(x - largest), float64, increasing id; -inf and
 * NaN when there is none. */
static void log_sum(double *max, double *log_of_sum, const pair *p, int side, bool both) {
    const float *x = p->x[side];
    double top = -(double)INFINITY, sum = 0.0;
    for (uint32_t i = 0; i < p->n; i++)
        if (isfinite(x[i]) && (double)x[i] > top && (!both || shared(p, i))) top = (double)x[i];
    for (uint32_t i = 0; i < p->n; i++)
        if (isfinite(x[i]) && (!both || shared(p, i))) sum += exp((double)x[i] - top);
    *max = top;
    *log_of_sum = sum > 0.0 ? log(sum) : not_measured;
}

static bool finite_pair(const pair *p, uint32_t i) {
    return isfinite(p->x[0][i]) && isfinite(p->x[1][i]);
}

static double delta(const pair *p, uint32_t i) {
    return (double)p->x[1][i] - (double)p->x[0][i];
}

/* The divisor is the whole vocabulary, not the number of finite pairs. */
static void logit_rms(drift_logit *m, const pair *p) {
    double sum = 0.0;
    for (uint32_t i = 0; i < p->n; i++)
        if (finite_pair(p, i)) sum += delta(p, i) * delta(p, i);
    m->rms = sqrt(sum / (double)p->n);
}

static void logit_max_abs(drift_logit *m, const pair *p) {
    m->max_abs = 0.0;
    for (uint32_t i = 0; i < p->n; i++)
        if (finite_pair(p, i) && fabs(delta(p, i)) > m->max_abs) m->max_abs = fabs(delta(p, i));
}

static void logit_nonfinite(drift_logit *m, const pair *p) {
    m->n_nonfinite = 0;
    for (uint32_t i = 0; i < p->n; i++) m->n_nonfinite += !finite_pair(p, i);
}

static uint32_t least(uint32_t a, uint32_t b) { return a < b ? a : b; }

static void logit_top20_max_abs(drift_logit *m, const pair *p) {
    m->top20_max_abs = 0.0;
    for (int s = 0; s < 2; s++)
        for (uint32_t j = 0; j < least(20, p->n_top[s]); j++) {
            uint32_t i = (uint32_t)p->top[s][j];
            if (finite_pair(p, i) && fabs(delta(p, i)) > m->top20_max_abs)
                m->top20_max_abs = fabs(delta(p, i));
        }
}

static void logit_same_top1(drift_logit *m, const pair *p) {
    m->top_k = p->k;
    m->top1_a = p->n_top[0] ? p->top[0][0] : -1;
    m->top1_b = p->n_top[1] ? p->top[1][0] : -1;
    m->same_top1 = p->n_top[0] && p->n_top[1] && m->top1_a == m->top1_b;
}

/* Position of id in the first n of a list, or -1. */
static int64_t list_find(const int32_t *list, uint32_t n, int32_t id) {
    for (uint32_t i = 0; i < n; i++)
        if (list[i] == id) return i;
    return -1;
}

static uint32_t overlap(const pair *p, uint32_t n) {
    uint32_t both = 0;
    for (uint32_t i = 0; i < least(n, p->n_top[0]); i++)
        both += list_find(p->top[1], least(n, p->n_top[1]), p->top[0][i]) >= 0;
    return both;
}

static void logit_top5_overlap(drift_logit *m, const pair *p) {
    m->top5_overlap = overlap(p, 5);
}
static void logit_top20_overlap(drift_logit *m, const pair *p) {
    m->top20_overlap = overlap(p, 20);
}

static void logit_rank_delta(drift_logit *m, const pair *p) {
    m->max_rank_delta = 0;
    for (uint32_t i = 0; i < p->n_top[0]; i++) {
        int64_t j = list_find(p->top[1], p->n_top[1], p->top[0][i]);
        if (j < 0) continue;
        uint32_t d = (uint32_t)(j > (int64_t)i ? j - (int64_t)i : (int64_t)i - j);
        if (d > m->max_rank_delta) m->max_rank_delta = d;
    }
}

/* Kept sorted by (abs, token) descending; once five are held, only a strictly larger value
 * enters, in place of the last. */
static void logit_largest(drift_logit *m, const pair *p) {
    drift_delta *list = m->largest;
    m->n_largest = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!finite_pair(p, i)) continue;
        double abs = fabs(delta(p, i));
        if (m->n_largest == 5 && !(abs > list[4].abs)) continue;
        uint32_t at = m->n_largest < 5 ? m->n_largest++ : 4;
        for (; at > 0 && abs >= list[at - 1].abs; at--)
            list[at] = list[at - 1]; /* i is the largest id */
        list[at] = (drift_delta){(int32_t)i, (double)p->x[0][i], (double)p->x[1][i], abs, NULL};
    }
}

/* ln of the probability of id i among the shared ids; -inf for -inf. */
static double log_p(const pair *p, int side, uint32_t i) {
    return (double)p->x[side][i] - p->max_both[side] - p->log_both[side];
}

static double divergence(const pair *p, int from) {
    double sum = 0.0;
    if (isnan(p->log_both[0]) || isnan(p->log_both[1])) return not_measured;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!shared(p, i) || !isfinite(p->x[from][i])) continue;
        if (!isfinite(p->x[1 - from][i])) return (double)INFINITY;
        double lp = log_p(p, from, i);
        sum += exp(lp) * (lp - log_p(p, 1 - from, i));
    }
    return sum;
}

static void logit_kl(drift_logit *m, const pair *p) { m->kl_ab = divergence(p, 0); }
static void logit_kl_reverse(drift_logit *m, const pair *p) { m->kl_ba = divergence(p, 1); }

/* ln((p + q)/2) from the two logs; exactly ln p when they are equal. */
static double log_mean(double lp, double lq) {
    double hi = lp > lq ? lp : lq, lo = lp > lq ? lq : lp;
    return hi + log(0.5 * (1.0 + exp(lo - hi)));
}

static void logit_js(drift_logit *m, const pair *p) {
    double sum = 0.0;
    m->js = not_measured;
    if (isnan(p->log_both[0]) || isnan(p->log_both[1])) return;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!shared(p, i)) continue;
        bool has[2] = {isfinite(p->x[0][i]), isfinite(p->x[1][i])};
        if (!has[0] && !has[1]) continue;
        double l[2] = {log_p(p, 0, i), log_p(p, 1, i)}, mean = log_mean(l[0], l[1]);
        for (int s = 0; s < 2; s++)
            if (has[s]) sum += 0.5 * exp(l[s]) * (l[s] - mean);
    }
    m->js = sum;
}

static void logit_tv(drift_logit *m, const pair *p) {
    double sum = 0.0;
    m->tv = not_measured;
    if (isnan(p->log_both[0]) || isnan(p->log_both[1])) return;
    for (uint32_t i = 0; i < p->n; i++)
        if (shared(p, i)) sum += fabs(exp(log_p(p, 0, i)) - exp(log_p(p, 1, i)));
    m->tv = 0.5 * sum;
}

static double margin(const pair *p, int side) {
    const int32_t *top = p->top[side];
    if (p->n_top[side] < 2) return not_measured;
    return (double)p->x[side][top[0]] - (double)p->x[side][top[1]];
}

static void logit_margin(drift_logit *m, const pair *p) {
    m->margin_a = margin(p, 0);
    m->margin_b = margin(p, 1);
}

static double entropy(const pair *p, int side) {
    double sum = 0.0;
    if (isnan(p->log_sum[side])) return not_measured;
    for (uint32_t i = 0; i < p->n; i++) {
        if (!isfinite(p->x[side][i])) continue;
        double l = (double)p->x[side][i] - p->max[side] - p->log_sum[side];
        sum -= exp(l) * l;
    }
    return sum;
}

static void logit_entropy(drift_logit *m, const pair *p) {
    m->entropy_a = entropy(p, 0);
    m->entropy_b = entropy(p, 1);
}

static double logp_next(const pair *p, int side, int32_t next) {
    if (next < 0 || (uint32_t)next >= p->n) return not_measured;
    double x = (double)p->x[side][next];
    return isnan(x) || x == (double)INFINITY ? not_measured
                                             : x - (p->max[side] + p->log_sum[side]);
}

static void logit_logp_next(drift_logit *m, const pair *p) {
    m->logp_next_a = logp_next(p, 0, m->next);
    m->logp_next_b = logp_next(p, 1, m->next);
}

/* Zero-based rank among all finite values; an id that is not finite stands behind them all. */
static uint32_t full_rank(const float *x, uint32_t n, uint32_t id) {
    uint32_t rank = 0;
    for (uint32_t i = 0; i < n; i++)
        if (isfinite(x[i])) rank += !isfinite(x[id]) || before(x, i, id);
    return rank;
}

static void logit_rank_displacement(drift_logit *m, const pair *p) {
    m->rank_displacement = 0;
    for (uint32_t i = 0; i < p->n_top[0]; i++) {
        uint32_t j = full_rank(p->x[1], p->n, (uint32_t)p->top[0][i]),
                 d = j > i ? j - i : i - j;
        if (d > m->rank_displacement) m->rank_displacement = d;
    }
}

static void logit_rms_gauge(drift_logit *m, const pair *p) {
    double sum = 0.0, sq = 0.0;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->n; i++)
        if (finite_pair(p, i)) sum += delta(p, i), n++;
    for (uint32_t i = 0; i < p->n; i++) {
        double d = delta(p, i) - sum / (double)n;
        if (finite_pair(p, i)) sq += d * d;
    }
    m->rms_gauge = n ? sqrt(sq / (double)n) : not_measured;
}

static void (*const fill[])(drift_logit *m, const pair *p) = {
#define LOGIT(stem, value, worse, equation) logit_##stem,
#define TENSOR(stem, value, worse, equation)
#include "drift/metrics.def"
#undef LOGIT
#undef TENSOR
};

ds4_status drift_logit_measure(drift_logit *out, const float *a, const float *b,
                               uint32_t n_vocab, uint32_t top_k, ds4_err *err) {
    ds4_status st = DS4_OK;
    pair p = {.x = {a, b}, .n = n_vocab, .k = least(top_k, n_vocab)};

    for (int s = 0; s < 2; s++) {
        TRY(ds4_mem_alloc(&p.top[s], p.k, sizeof *p.top[s], err));
        p.n_top[s] = list_top(p.top[s], p.x[s], p.n, p.k);
        log_sum(&p.max[s], &p.log_sum[s], &p, s, false);
        log_sum(&p.max_both[s], &p.log_both[s], &p, s, true);
    }
    for (size_t i = 0; i < sizeof fill / sizeof *fill; i++) fill[i](out, &p);
    out->top_k = top_k;
out:
    ds4_mem_free(p.top[0]);
    ds4_mem_free(p.top[1]);
    return st;
}

/* ---- tensors ---- */

void drift_tensor_begin(drift_tensor *t, drift_tensor_sum *s) {
    *s = (drift_tensor_sum){0};
    t->first_pos = -1;
    t->bad_a.first = t->bad_b.first = UINT64_MAX;
}

typedef enum class { FINITE, IS_NAN, POS_INF, NEG_INF } class;

static class count_class(drift_nonfinite *bad, float x, uint64_t at) {
    uint32_t u = ds4_f32_bits(x), mag = u & 0x7fffffffu;
    if (mag < 0x7f800000u) {
        bad->n_subnormal += mag != 0 && mag < 0x00800000u;
        return FINITE;
    }
    if (bad->first == UINT64_MAX) bad->first = at;
    if (mag > 0x7f800000u) return bad->n_nan++, IS_NAN;
    return u >> 31 ? (bad->n_neg_inf++, NEG_INF) : (bad->n_pos_inf++, POS_INF);
}

static int ulp_bucket(uint32_t ulp) {
    static const uint32_t last[DRIFT_N_ULP] = {0,  1,  2,    4,        8,
                                               16, 64, 1024, 1u << 20, UINT32_MAX};
    int i = 0;
    while (ulp > last[i]) i++;
    return i;
}

static void note_position(drift_tensor *t, uint32_t row) {
    if (t->first_pos < 0) t->first_pos = (int64_t)t->pos0 + (int64_t)row * t->pos_step;
}

void drift_tensor_add_f32(drift_tensor *t, drift_tensor_sum *s, const float *a, const float *b,
                          uint32_t row0, uint32_t n_row) {
    for (uint32_t r = row0; r < row0 + n_row; r++) {
        double row_sq = 0.0, row_max = 0.0; /* float64, columns in order */
        uint64_t n_row_elem = 0;
        for (uint32_t c = 0; c < t->n_col; c++, a++, b++) {
            uint64_t at = (uint64_t)r * t->n_col + c;
            class ca = count_class(&t->bad_a, *a, at), cb = count_class(&t->bad_b, *b, at);
            if (ds4_f32_bits(*a) != ds4_f32_bits(*b)) t->n_diff++, note_position(t, r);
            t->n_bad_differs += ca != cb;
            if (ca != FINITE || cb != FINITE) continue;
            double x = (double)*a, y = (double)*b, d = y - x;
            uint32_t ulp = ds4_ulp_distance(*a, *b);
            t->ulp[ulp_bucket(ulp)]++;
            if (ulp > t->max_ulp) t->max_ulp = ulp;
            if (fabs(d) > t->max_abs) t->max_abs = fabs(d), t->max_row = r, t->max_col = c;
            if (fabs(d) > row_max) row_max = fabs(d);
            s->d2 += d * d, s->d += d, s->a2 += x * x, s->b2 += y * y, s->ab += x * y;
            row_sq += d * d;
            n_row_elem++;
        }
        t->n_elem += n_row_elem;
        t->row_rms[r] = n_row_elem ? sqrt(row_sq / (double)n_row_elem) : not_measured;
        t->row_max[r] = n_row_elem ? row_max : not_measured;
    }
}

void drift_tensor_end_f32(drift_tensor *t, const drift_tensor_sum *s) {
    double n = (double)t->n_elem;
    if (t->n_elem == 0) {
        t->rms = t->max_abs = t->nrmse = t->cosine = t->mean_err = t->ref_rms = not_measured;
        return;
    }
    t->rms = sqrt(s->d2 / n);
    t->ref_rms = sqrt(s->a2 / n);
    t->mean_err = s->d / n;
    t->nrmse = s->d2 > 0.0 ? t->rms / t->ref_rms : 0.0; /* +inf against a reference of zeros */
    double norm = sqrt(s->a2) * sqrt(s->b2);
    t->cosine = s->d2 > 0.0 ? (norm > 0.0 ? s->ab / norm : not_measured) : 1.0;
}

static int by_id(const void *x, const void *y) {
    int32_t a = *(const int32_t *)x, b = *(const int32_t *)y;
    return a < b ? -1 : a > b;
}

/* Members of sorted a that sorted b lacks, with multiplicity. */
static uint32_t n_lacking(const int32_t *a, const int32_t *b, uint32_t n) {
    uint32_t lacking = 0;
    for (uint32_t i = 0, j = 0; i < n; i++) {
        while (j < n && b[j] < a[i]) j++;
        if (j < n && b[j] == a[i]) j++;
        else lacking++;
    }
    return lacking;
}

void drift_tensor_add_i32(drift_tensor *t, int32_t *a, int32_t *b, uint32_t row0,
                          uint32_t n_row) {
    for (uint32_t r = row0; r < row0 + n_row; r++, a += t->n_col, b += t->n_col) {
        uint32_t lacking = 0;
        t->n_elem += t->n_col;
        if (memcmp(a, b, (size_t)t->n_col * sizeof *a) != 0) {
            for (uint32_t c = 0; c < t->n_col; c++) t->n_diff += a[c] != b[c];
            note_position(t, r);
            qsort(a, t->n_col, sizeof *a, by_id);
            qsort(b, t->n_col, sizeof *b, by_id);
            lacking = n_lacking(a, b, t->n_col);
            t->n_set_differs += lacking != 0;
        }
        t->row_rms[r] = (double)lacking / (double)t->n_col;
        t->row_max[r] = (double)lacking;
    }
}

void drift_tensor_end_i32(drift_tensor *t) {
    t->rms = t->max_abs = t->nrmse = t->cosine = t->mean_err = t->ref_rms = not_measured;
}

/* ---- the table ---- */

#define LOGIT(stem, value, worse, equation)                                                    \
    static double value_logit_##stem(const drift_logit *m) { return value; }
#define TENSOR(stem, value, worse, equation)                                                   \
    static double value_tensor_##stem(const drift_tensor *m) { return value; }
#include "drift/metrics.def"
#undef LOGIT
#undef TENSOR

enum { WORSE_LOW, WORSE_HIGH };

static const drift_metric table[] = {
#define LOGIT(stem, value, worse, equation)                                                    \
    {"logit." #stem, equation, WORSE_##worse, value_logit_##stem, NULL},
#define TENSOR(stem, value, worse, equation)                                                   \
    {"tensor." #stem, equation, WORSE_##worse, NULL, value_tensor_##stem},
#include "drift/metrics.def"
#undef LOGIT
#undef TENSOR
};

size_t drift_metric_n(void) { return sizeof table / sizeof *table; }
const drift_metric *drift_metric_at(size_t i) { return &table[i]; }

const drift_metric *drift_metric_find(const char *name) {
    for (size_t i = 0; i < drift_metric_n(); i++)
        if (!strcmp(table[i].name, name)) return &table[i];
    return NULL;
}

/* NaN is "no value": it never wins, whatever the order. */
static double worse(const drift_metric *m, double a, double b) {
    if (isnan(a) || isnan(b)) return isnan(a) ? b : a;
    return (m->worse_high ? b > a : b < a) ? b : a;
}

double drift_metric_worst(const drift_metric *m, const drift_result *r) {
    double value = not_measured, beyond = (double)(m->worse_high ? INFINITY : -INFINITY);
    for (size_t i = 0; i < r->n_tensor; i++) {
        const drift_tensor *t = &r->tensor[i];
        if (t->n_bad_differs) return beyond;
        bool measured = t->state == DRIFT_TENSOR_SAME || t->state == DRIFT_TENSOR_DIFFERENT;
        if (m->tensor && measured) value = worse(m, value, m->tensor(t));
    }
    if (!m->logit) return value;
    for (size_t i = 0; i < r->n_logits; i++)
        for (size_t j = 0; j < r->logits[i].n; j++)
            value = worse(m, value, m->logit(&r->logits[i].at[j]));
    return value;
}
