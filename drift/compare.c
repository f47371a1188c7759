#include "drift/compare.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drift/align.h"
#include "drift/metric.h"
#include "drift/stats.h"
#include "engine/base/mem.h"

#define SLAB_BYTES ((size_t)1 << 20) /* of one side; or one row, when a row is longer */
#define MAX_ROW_NAMES 16             /* of one call: rows times variants; more are not listed */

static const double not_measured = (double)NAN;

/* One executed call site, sorted by execution order, phase, row, variants. */
typedef struct entry {
    uint32_t order;
    const drift_run_ledger *e;
} entry;

typedef struct entries {
    entry *at;
    size_t n;
} entries;

typedef struct work {
    drift_result *r;
    const drift_run *run[2];
    const drift_compare_options *opt;
    const char *prefix[2]; /* "ref:" and "vk:" when the engines differ, else "" */
    void *slab[2];
    size_t cap_bytes;
    double n_bytes, done_bytes; /* for progress */
    size_t n_missing, n_compared, n_logit_row;
    size_t n_partial; /* taps compared at the positions that both sides have */
    bool same_rows;   /* so far */
    bool any_ledger;
    const char *refused; /* why of the first fixture that is not comparable */
} work;

#define NEED(p)                                                                                \
    do {                                                                                       \
        if (!(p)) RAISE(DS4_ERR_MEMORY, "out of memory: the result");                          \
    } while (0)

/* ---- what executed ---- */

static int by_call(const void *x, const void *y) {
    const entry *a = x, *b = y;
    int c = (a->order > b->order) - (a->order < b->order);
    if (!c) c = -strcmp(a->e->phase, b->e->phase); /* prefill before decode */
    if (!c) c = strcmp(a->e->row, b->e->row);
    return c ? c : strcmp(a->e->variants, b->e->variants);
}

static ds4_status index_ledger(entries *out, work *w, const drift_run_fixture *f,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    out->at = drift_result_alloc(w->r, f->n_ledger, sizeof *out->at);
    NEED(out->at);
    out->n = f->n_ledger;
    for (size_t i = 0; i < f->n_ledger; i++) {
        const drift_run_ledger *e = &f->ledger[i];
        out->at[i] = (entry){drift_align_order((ds4_tap)ds4_tap_find(e->tap), e->layer), e};
    }
    qsort(out->at, out->n, sizeof *out->at, by_call);
out:
    return st;
}

/* Entries of one call (and one phase, unless NULL) inside a sorted list. */
static entries entries_of(entries all, uint32_t order, const char *phase) {
    size_t lo = 0, hi = all.n;
    while (lo < hi) {
        size_t mid = lo + (hi - lo) / 2;
        if (all.at[mid].order < order) lo = mid + 1;
        else hi = mid;
    }
    while (phase && lo < all.n && all.at[lo].order == order &&
           strcmp(all.at[lo].e->phase, phase) != 0)
        lo++;
    for (hi = lo; hi < all.n && all.at[hi].order == order; hi++)
        if (phase && strcmp(all.at[hi].e->phase, phase) != 0) break;
    return (entries){all.at + lo, hi - lo};
}

static int by_text(const void *x, const void *y) {
    return strcmp(*(const char *const *)x, *(const char *const *)y);
}

/* "tile+vec", "strict[DS4_HC_STABLE]", "vk:strict"; NULL in *out when nothing executed. */
static ds4_status rows_text(const char **out, drift_result *r, const char *prefix, entries call,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *name[MAX_ROW_NAMES], *text = prefix;
    size_t n = 0;

    *out = NULL;
    for (size_t i = 0; i < call.n && n < MAX_ROW_NAMES; i++) {
        const drift_run_ledger *e = call.at[i].e;
        const char *s =
            *e->variants ? drift_result_printf(r, "%s[%s]", e->row, e->variants) : e->row;
        NEED(s);
        bool known = false;
        for (size_t j = 0; j < n; j++) known |= !strcmp(name[j], s);
        if (!known) name[n++] = s;
    }
    if (n == 0) goto out;
    qsort(name, n, sizeof *name, by_text);
    for (size_t i = 0; i < n; i++) {
        text = drift_result_printf(r, "%s%s%s", text, i ? "+" : "", name[i]);
        NEED(text);
    }
    *out = text;
out:
    return st;
}

static bool same_call(const entry *a, const entry *b) { return by_call(a, b) == 0; }

/* Equal sets of (call, phase, row, variants); weight formats and counts do not matter. */
static bool same_sets(entries a, entries b) {
    size_t i = 0, j = 0;
    while (i < a.n && j < b.n) {
        if (!same_call(&a.at[i], &b.at[j])) return false;
        const entry *e = &a.at[i];
        while (i < a.n && same_call(&a.at[i], e)) i++;
        while (j < b.n && same_call(&b.at[j], e)) j++;
    }
    return i == a.n && j == b.n;
}

static ds4_status sum_calls(uint64_t *n_call, const char **refusal, work *w, entries call,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < call.n; i++) {
        const drift_run_ledger *e = call.at[i].e;
        *n_call += e->n_call;
        if (*e->refusal && !*refusal) {
            *refusal = drift_result_printf(w->r, "%s: %s", e->wanted, e->refusal);
            NEED(*refusal);
        }
    }
out:
    return st;
}

static ds4_status add_executed(work *w, const drift_run_fixture *f, entries all[2],
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t at[2] = {0, 0};

    while (at[0] < all[0].n || at[1] < all[1].n) {
        const entry *head[2] = {at[0] < all[0].n ? &all[0].at[at[0]] : NULL,
                                at[1] < all[1].n ? &all[1].at[at[1]] : NULL};
        const entry *e = head[0] ? head[0] : head[1];
        if (head[0] && head[1]) {
            int c = (head[0]->order > head[1]->order) - (head[0]->order < head[1]->order);
            if (!c) c = -strcmp(head[0]->e->phase, head[1]->e->phase);
            e = c <= 0 ? head[0] : head[1];
        }
        drift_executed *x = &w->r->executed[w->r->n_executed++];
        x->layer = e->e->layer;
        NEED(x->fixture = drift_result_str(w->r, f->id));
        NEED(x->tap = drift_result_str(w->r, e->e->tap));
        NEED(x->op = drift_result_str(w->r, e->e->op));
        NEED(x->phase = drift_result_str(w->r, e->e->phase));
        entries call[2];
        for (int s = 0; s < 2; s++) {
            call[s] = entries_of(all[s], e->order, e->e->phase);
            at[s] += call[s].n;
        }
        TRY(rows_text(&x->row_a, w->r, w->prefix[0], call[0], err));
        TRY(rows_text(&x->row_b, w->r, w->prefix[1], call[1], err));
        TRY(sum_calls(&x->n_call_a, &x->refusal_a, w, call[0], err));
        TRY(sum_calls(&x->n_call_b, &x->refusal_b, w, call[1], err));
    }
out:
    return st;
}

/* op x fixture, from the reference's ledger. */
static ds4_status add_coverage(work *w, const drift_run_fixture *f, entries all, ds4_err *err) {
    ds4_status st = DS4_OK;
    entry *of_op = drift_result_alloc(w->r, all.n, sizeof *of_op);

    NEED(of_op);
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        size_t n = 0;
        for (size_t i = 0; i < all.n; i++)
            if (!strcmp(all.at[i].e->op, ds4_op_table[op].name)) of_op[n++] = all.at[i];
        if (n == 0) continue;
        drift_coverage *c = &w->r->coverage[w->r->n_coverage++];
        c->op = ds4_op_table[op].name;
        NEED(c->fixture = drift_result_str(w->r, f->id));
        for (size_t i = 0; i < n; i++)
            c->n_call += of_op[i].e->n_call, c->n_elem += of_op[i].e->n_elem;
        TRY(rows_text(&c->rows, w->r, w->prefix[0], (entries){of_op, n}, err));
    }
out:
    return st;
}

/* ---- tensors and logits ---- */

static bool is_i32(const drift_align_tap *p) {
    return ds4_tap_table[(p->a ? p->a : p->b)->tap].type == DS4_TYPE_I32;
}

static double rows_bytes(const drift_align_tap *p) {
    if (!p->a || !p->b || p->why || !p->a->stored || !p->b->stored) return 0.0;
    return (double)p->n_row * (double)p->a->n_col * 4.0;
}

static ds4_status tell(work *w, const char *what, ds4_err *err) {
    double done = w->n_bytes > 0.0 ? w->done_bytes / w->n_bytes : 1.0;
    if (!w->opt->progress || w->opt->progress(w->opt->user, done, what)) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_CANCELLED, DS4_HERE, "interrupted while comparing %s",
                       what);
}

/* The five largest deltas keep the token's text where the fixture happens to hold that token.
 */
static ds4_status add_delta_text(work *w, const drift_run_fixture *f, drift_logit *m,
                                 ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t k = 0; k < m->n_largest; k++)
        for (uint32_t i = 0; i < f->n_tok; i++) {
            if (f->token[i] != m->largest[k].token) continue;
            size_t n = drift_run_token_text(w->run[0], f, i, NULL, 0);
            char *text = drift_result_alloc(w->r, n + 1, 1);
            NEED(text);
            drift_run_token_text(w->run[0], f, i, text, n);
            m->largest[k].text = text;
            break;
        }
out:
    return st;
}

static ds4_status measure_logits(work *w, const drift_run_fixture *f, const drift_tensor *t,
                                 drift_logits *l, uint32_t row0, uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    const float *a = w->slab[0], *b = w->slab[1];

    for (uint32_t i = 0; i < n; i++, a += t->n_col, b += t->n_col) {
        drift_logit *m = &l->at[row0 + i];
        m->pos = t->pos0 + (row0 + i) * t->pos_step;
        m->token = f->token[m->pos];
        m->next = m->pos + 1 < f->n_tok ? f->token[m->pos + 1] : -1;
        TRY(drift_logit_measure(m, a, b, t->n_col, w->opt->top_k, err));
        TRY(add_delta_text(w, f, m, err));
        l->n = row0 + i + 1;
    }
out:
    return st;
}

/* Streams the rows of both sides, a slab at a time. */
static ds4_status measure(work *w, const drift_align_fixture *f, const drift_align_tap *p,
                          drift_tensor *t, drift_logits *l, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t row_bytes = (size_t)t->n_col * 4, fit = SLAB_BYTES / row_bytes;
    uint32_t step = fit < 1 ? 1 : fit > t->n_row ? t->n_row : (uint32_t)fit;
    drift_tensor_sum sum;
    bool ids = is_i32(p);

    for (int s = 0; s < 2 && step * row_bytes > w->cap_bytes; s++)
        TRY(ds4_mem_grow(&w->slab[s], step, row_bytes, err));
    if (step * row_bytes > w->cap_bytes) w->cap_bytes = step * row_bytes;
    drift_tensor_begin(t, &sum);
    for (uint32_t row = 0; row < t->n_row; row += step) {
        uint32_t n = t->n_row - row < step ? t->n_row - row : step;
        TRY(drift_run_rows(w->run[0], f->a, p->a, p->row0[0] + row, n, w->slab[0], err));
        TRY(drift_run_rows(w->run[1], f->b, p->b, p->row0[1] + row, n, w->slab[1], err));
        if (l) TRY(measure_logits(w, f->a, t, l, row, n, err));
        if (ids) drift_tensor_add_i32(t, w->slab[0], w->slab[1], row, n);
        else drift_tensor_add_f32(t, &sum, w->slab[0], w->slab[1], row, n);
        w->done_bytes += (double)n * (double)row_bytes;
        TRY(tell(w, f->a->id, err));
    }
    if (ids) drift_tensor_end_i32(t);
    else drift_tensor_end_f32(t, &sum);
    t->state = t->n_diff ? DRIFT_TENSOR_DIFFERENT : DRIFT_TENSOR_SAME;
    if (p->whole && !memcmp(p->a->digest.hash, p->b->digest.hash, sizeof p->a->digest.hash) !=
                        (t->n_diff == 0))
        RAISE(DS4_ERR_FORMAT, "fixture %s, tap %s, layer %d: rows do not fit their digests",
              f->a->id, t->tap, t->layer);
out:
    return st;
}

static void fill_rows(drift_tensor *t, double value) {
    for (uint32_t i = 0; i < t->n_row; i++) t->row_rms[i] = t->row_max[i] = value;
}

static void leave_unmeasured(drift_tensor *t, drift_tensor_state state) {
    t->state = state;
    t->rms = t->max_abs = t->nrmse = t->cosine = t->mean_err = t->ref_rms = not_measured;
    fill_rows(t, not_measured);
}

static void compare_digests(drift_tensor *t, const drift_align_tap *p) {
    const drift_digest *a = &p->a->digest, *b = &p->b->digest;
    if (memcmp(a->hash, b->hash, sizeof a->hash) != 0) {
        leave_unmeasured(t, DRIFT_TENSOR_UNMEASURED);
        t->why = "only digests stored: bits differ";
        return;
    }
    t->state = DRIFT_TENSOR_SAME;
    t->n_elem = a->n - a->n_nonfinite;
    fill_rows(t, 0.0);
    if (is_i32(p)) {
        t->rms = t->max_abs = t->nrmse = t->cosine = t->mean_err = t->ref_rms = not_measured;
        return;
    }
    t->ulp[0] = t->n_elem;
    t->cosine = 1.0;
    t->ref_rms = t->n_elem ? sqrt(a->sum_sq / (double)t->n_elem) : not_measured;
}

static ds4_status compare_tap(work *w, const drift_align_fixture *f, const drift_align_tap *p,
                              entries all[2], ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_run_tap *any = p->a ? p->a : p->b;
    const ds4_tap_info *info = &ds4_tap_table[any->tap];
    drift_tensor *t = &w->r->tensor[w->r->n_tensor++];
    drift_logits *l = NULL;

    *t = (drift_tensor){.tap = info->name,
                        .op = ds4_op_table[info->op].name,
                        .layer = any->layer,
                        .order = p->order,
                        .n_row = any->n_row,
                        .n_col = any->n_col,
                        .pos0 = any->pos0,
                        .pos_step = any->pos_step,
                        .first_pos = -1,
                        .bad_a = {.first = UINT64_MAX},
                        .bad_b = {.first = UINT64_MAX}};
    if (p->n_row && !p->why) {
        t->n_row = p->n_row, t->pos0 += p->row0[0] * t->pos_step;
        w->n_partial += !p->whole;
    }
    NEED(t->fixture = drift_result_str(w->r, f->a->id));
    NEED(t->row_rms = drift_result_alloc(w->r, t->n_row, sizeof *t->row_rms));
    NEED(t->row_max = drift_result_alloc(w->r, t->n_row, sizeof *t->row_max));
    TRY(rows_text(&t->row_a, w->r, w->prefix[0], entries_of(all[0], p->order, NULL), err));
    TRY(rows_text(&t->row_b, w->r, w->prefix[1], entries_of(all[1], p->order, NULL), err));
    if (!p->a || !p->b) {
        leave_unmeasured(t, p->a ? DRIFT_TENSOR_MISSING_B : DRIFT_TENSOR_MISSING_A);
        w->n_missing++;
        goto out;
    }
    if (p->why) {
        leave_unmeasured(t, DRIFT_TENSOR_UNMEASURED);
        t->why = p->why;
        goto out;
    }
    w->n_compared++;
    if (!p->a->stored || !p->b->stored) {
        compare_digests(t, p);
        goto out;
    }
    if (any->tap == DS4_TAP_logits) {
        l = &w->r->logits[w->r->n_logits++];
        l->fixture = t->fixture;
        NEED(l->at = drift_result_alloc(w->r, t->n_row, sizeof *l->at));
        w->n_logit_row += t->n_row;
    }
    TRY(measure(w, f, p, t, l, err));
out:
    return st;
}

static void mean_max_median(double *mean, double *max, double *median, double *x, size_t n) {
    n = drift_stats_measured(x, n);
    *mean = drift_stats_mean(x, n), *max = drift_stats_max(x, n);
    drift_stats_sort(x, n);
    *median = drift_stats_median(x, n);
}

static ds4_status sum_logits(drift_logits *l, ds4_err *err) {
    ds4_status st = DS4_OK;
    double *rms = NULL, *kl = NULL;

    TRY(ds4_mem_alloc(&rms, l->n, sizeof *rms, err));
    TRY(ds4_mem_alloc(&kl, l->n, sizeof *kl, err));
    l->min_top5 = l->min_top20 = UINT32_MAX;
    for (size_t i = 0; i < l->n; i++) {
        const drift_logit *m = &l->at[i];
        rms[i] = m->rms, kl[i] = m->kl_ab;
        if (m->max_abs > l->max_abs) l->max_abs = m->max_abs;
        if (m->top5_overlap < l->min_top5) l->min_top5 = m->top5_overlap;
        if (m->top20_overlap < l->min_top20) l->min_top20 = m->top20_overlap;
        if (m->max_rank_delta > l->max_rank) l->max_rank = m->max_rank_delta;
        l->same_top1 += m->same_top1 ? 1.0 : 0.0;
    }
    if (l->n == 0) l->min_top5 = l->min_top20 = 0;
    l->same_top1 = l->n ? l->same_top1 / (double)l->n : not_measured;
    mean_max_median(&l->rms_mean, &l->rms_max, &l->rms_median, rms, l->n);
    mean_max_median(&l->kl_mean, &l->kl_max, &l->kl_median, kl, l->n);
out:
    ds4_mem_free(rms);
    ds4_mem_free(kl);
    return st;
}

/* ---- verdicts ---- */

static bool is_difference(const drift_tensor *t, const drift_align_tap *p) {
    return t->state == DRIFT_TENSOR_DIFFERENT ||
           (t->state == DRIFT_TENSOR_UNMEASURED && !p->why);
}

/* A non-finite disagreement, other sets of ids, or a difference that only digests show are
 * never within a floor. */
static bool is_within(const work *w, const drift_tensor *t, const drift_align_tap *p,
                      const drift_logits *l) {
    if (t->state == DRIFT_TENSOR_UNMEASURED || t->n_bad_differs || t->n_set_differs)
        return false;
    if (is_i32(p)) return w->opt->max_nrmse > 0.0;
    if (p->a->tap != DS4_TAP_logits)
        return w->opt->max_nrmse > 0.0 && t->nrmse <= w->opt->max_nrmse;
    return l && w->opt->max_logit_rms > 0.0 && l->rms_max <= w->opt->max_logit_rms;
}

static void judge_fixture(work *w, const drift_align_fixture *f, drift_fixture *out,
                          size_t tensor0, const drift_logits *l) {
    size_t n_compared = 0, n_refused = 0, n_beyond = 0;

    out->first = -1;
    for (size_t i = 0; i < f->n_tap; i++) {
        const drift_tensor *t = &w->r->tensor[tensor0 + i];
        const drift_align_tap *p = &f->tap[i];
        if (!p->a || !p->b) continue;
        n_refused += p->why != NULL, n_compared += !p->why;
        if (p->why && !w->refused) w->refused = p->why;
        if (!is_difference(t, p)) continue;
        if (out->first < 0)
            out->first = (int64_t)(tensor0 + i); /* taps are in execution order */
        n_beyond += !is_within(w, t, p, l);
    }
    if (n_compared == 0 && !w->refused) w->refused = "no tap is in both files";
    out->verdict = n_beyond                       ? DRIFT_DRIFT
                   : n_refused || n_compared == 0 ? DRIFT_NOT_COMPARABLE
                   : out->first >= 0              ? DRIFT_WITHIN_FLOOR
                                                  : DRIFT_SAME_BITS;
}

static ds4_status compare_fixture(work *w, const drift_align_fixture *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_fixture *out = &w->r->fixture[w->r->n_fixture++];
    size_t tensor0 = w->r->n_tensor, logits0 = w->r->n_logits;
    entries all[2];

    *out = (drift_fixture){.n_tok = f->a->n_tok,
                           .n_decode = f->a->n_decode,
                           .first = -1,
                           .verdict = DRIFT_NOT_COMPARABLE};
    NEED(out->id = drift_result_str(w->r, f->a->id));
    TRY(index_ledger(&all[0], w, f->a, err));
    TRY(index_ledger(&all[1], w, f->b, err));
    TRY(add_executed(w, f->a, all, err));
    TRY(add_coverage(w, f->a, all[0], err));
    if (f->why) {
        if (!w->refused) w->refused = f->why;
        goto out;
    }
    w->any_ledger |= all[0].n > 0 || all[1].n > 0;
    w->same_rows &= same_sets(all[0], all[1]);
    for (size_t i = 0; i < f->n_tap; i++) TRY(compare_tap(w, f, &f->tap[i], all, err));
    drift_logits *l = w->r->n_logits > logits0 ? &w->r->logits[logits0] : NULL;
    if (l) TRY(sum_logits(l, err));
    judge_fixture(w, f, out, tensor0, l);
out:
    return st;
}

static bool same_fact(const work *w, const char *key) {
    const char *a = drift_run_fact(w->run[0], key), *b = drift_run_fact(w->run[1], key);
    return a && b ? !strcmp(a, b) : a == b;
}

/* ---- the whole ---- */

static ds4_status fill_side(drift_result *r, int i, const drift_run *run, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_side *side = &r->side[i];
    const char *path = drift_run_path(run), *slash = strrchr(path, '/'), *value;

    NEED(side->path = drift_result_str(r, path));
    if (!side->label || !*side->label)
        NEED(side->label = drift_result_str(r, slash ? slash + 1 : path));
    NEED(side->fact = drift_result_alloc(r, drift_run_n_fact(run), sizeof *side->fact));
    for (size_t k = 0; k < drift_run_n_fact(run); k++) {
        NEED(side->fact[k].key = drift_result_str(r, drift_run_fact_at(run, k, &value)));
        NEED(side->fact[k].value = drift_result_str(r, value));
        side->n_fact = k + 1;
    }
out:
    return st;
}

static ds4_status reserve(work *w, const drift_align *al, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_result *r = w->r;
    size_t n_tap = 0, n_ledger = 0;

    for (size_t i = 0; i < al->n_fixture; i++) {
        const drift_align_fixture *f = &al->fixture[i];
        n_tap += f->n_tap, n_ledger += f->a->n_ledger + f->b->n_ledger;
        for (size_t k = 0; k < f->n_tap; k++) w->n_bytes += rows_bytes(&f->tap[k]);
    }
    NEED(r->fixture = drift_result_alloc(r, al->n_fixture, sizeof *r->fixture));
    NEED(r->logits = drift_result_alloc(r, al->n_fixture, sizeof *r->logits));
    NEED(r->tensor = drift_result_alloc(r, n_tap, sizeof *r->tensor));
    NEED(r->executed = drift_result_alloc(r, n_ledger, sizeof *r->executed));
    NEED(r->coverage =
             drift_result_alloc(r, al->n_fixture * DS4_OP_COUNT, sizeof *r->coverage));
out:
    return st;
}

/* "layer 0, tap attn_hc_norm (op rms_norm, strict against tree), position 0, fixture x" */
static const char *place_text(drift_result *r, const drift_tensor *t) {
    char layer[24] = "", pos[40] = "";
    if (t->layer >= 0) snprintf(layer, sizeof layer, "layer %d, ", t->layer);
    if (t->first_pos >= 0)
        snprintf(pos, sizeof pos, "position %lld, ", (long long)t->first_pos);
    return drift_result_printf(r, "%stap %s (op %s, %s against %s), %sfixture %s", layer,
                               t->tap, t->op, t->row_a ? t->row_a : "no ledger",
                               t->row_b ? t->row_b : "no ledger", pos, t->fixture);
}

static drift_verdict worst_verdict(const drift_result *r) {
    static const int rank[] = {[DRIFT_SAME_BITS] = 0,
                               [DRIFT_WITHIN_FLOOR] = 1,
                               [DRIFT_INCONCLUSIVE] = 2,
                               [DRIFT_NOT_COMPARABLE] = 3,
                               [DRIFT_DRIFT] = 4};
    drift_verdict v = DRIFT_SAME_BITS;
    for (size_t i = 0; i < r->n_fixture; i++)
        if (rank[r->fixture[i].verdict] > rank[v]) v = r->fixture[i].verdict;
    return v;
}

/* The first divergence of the first fixture that has the result's verdict. */
static const drift_tensor *find_first(const drift_result *r, drift_verdict v) {
    for (size_t i = 0; i < r->n_fixture; i++)
        if (r->fixture[i].verdict == v && r->fixture[i].first >= 0)
            return &r->tensor[r->fixture[i].first];
    return NULL;
}

static const char *rms_text(drift_result *r) {
    double worst = not_measured; /* NaN never wins, whatever the order */
    for (size_t i = 0; i < r->n_logits; i++)
        if (!(r->logits[i].rms_max <= worst))
            worst = isnan(r->logits[i].rms_max) ? worst : r->logits[i].rms_max;
    return isnan(worst) ? "" : drift_result_printf(r, "; worst logit rms %.3g", worst);
}

static ds4_status summarise(work *w, const drift_align *al, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_result *r = w->r;
    drift_verdict v = worst_verdict(r);
    const drift_tensor *first = find_first(r, v);
    const char *place = first ? place_text(r, first) : "", *rms = rms_text(r), *text,
               *tail = "";

    NEED(place);
    NEED(rms);
    r->verdict = v;
    if (r->same_rows && !w->opt->allow_same_rows) {
        r->verdict = DRIFT_NOT_COMPARABLE;
        text = first ? drift_result_printf(
                           r,
                           "not comparable: both sides executed the same rows, yet bits"
                           " differ: first at %s",
                           place)
                     : "not comparable: both sides executed the same rows";
    } else if (v == DRIFT_DRIFT || v == DRIFT_WITHIN_FLOOR) {
        text = drift_result_printf(r, "%s: first at %s%s", drift_verdict_text(v), place, rms);
    } else if (v == DRIFT_NOT_COMPARABLE) {
        text = drift_result_printf(r, "not comparable: %s",
                                   w->refused ? w->refused : "nothing in common");
    } else {
        text = drift_result_printf(r, "same bits: %zu taps and %zu logit rows of %zu fixture%s",
                                   w->n_compared, w->n_logit_row, r->n_fixture,
                                   r->n_fixture == 1 ? "" : "s");
    }
    if (w->n_missing)
        NEED(tail = drift_result_printf(r, "; %zu tap%s on one side only", w->n_missing,
                                        w->n_missing == 1 ? "" : "s"));
    if (w->n_partial)
        NEED(tail = drift_result_printf(r, "%s; %zu tap%s at the positions of both sides alone",
                                        tail, w->n_partial, w->n_partial == 1 ? "" : "s"));
    if (al->n_only_a + al->n_only_b)
        NEED(tail = drift_result_printf(r, "%s; %zu fixture%s on one side only", tail,
                                        al->n_only_a + al->n_only_b,
                                        al->n_only_a + al->n_only_b == 1 ? "" : "s"));
    if (v == DRIFT_DRIFT && w->refused)
        NEED(tail = drift_result_printf(r, "%s; not comparable: %s", tail, w->refused));
    if (r->same_rows && w->opt->allow_same_rows)
        NEED(tail = drift_result_printf(r, "%s; both sides executed the same rows", tail));
    NEED(text);
    NEED(r->summary = drift_result_printf(r, "%s%s", text, tail));
out:
    return st;
}

static ds4_status start(work *w, ds4_err *err) {
    ds4_status st = DS4_OK;
    char now_text[32];
    time_t now = time(NULL);
    struct tm tm;

    w->r->kind = "compare";
    w->r->tool = "ds4-drift " DS4_VERSION;
    gmtime_r(&now, &tm);
    strftime(now_text, sizeof now_text, "%Y-%m-%dT%H:%M:%SZ", &tm);
    NEED(w->r->created = drift_result_str(w->r, now_text));
    for (int i = 0; i < 2; i++) TRY(fill_side(w->r, i, w->run[i], err));
    w->prefix[0] = w->prefix[1] = "";
    for (int i = 0; i < 2 && !same_fact(w, "engine"); i++) {
        const char *engine = drift_run_fact(w->run[i], "engine");
        NEED(w->prefix[i] = drift_result_printf(w->r, "%s:", engine ? engine : "unknown"));
    }
out:
    return st;
}

ds4_status drift_compare(drift_result *r, const drift_run *a, const drift_run *b,
                         const drift_compare_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    work w = {.r = r, .run = {a, b}, .opt = opt, .same_rows = true};
    drift_align al;

    if (opt->top_k < 20) RAISE(DS4_ERR_USAGE, "top-k %u, wanted at least 20", opt->top_k);
    TRY(start(&w, err));
    TRY(drift_align_runs(&al, r, a, b, opt->fixture, err));
    if (al.why) {
        r->verdict = DRIFT_NOT_COMPARABLE;
        NEED(r->summary = drift_result_printf(r, "not comparable: %s", al.why));
        goto out;
    }
    TRY(reserve(&w, &al, err));
    for (size_t i = 0; i < al.n_fixture; i++) TRY(compare_fixture(&w, &al.fixture[i], err));
    /* The same row of another device, driver, SIMD path or seed is other code. */
    r->same_rows = w.same_rows && w.any_ledger && same_fact(&w, "engine") &&
                   same_fact(&w, "device") && same_fact(&w, "driver") &&
                   same_fact(&w, "simd") && same_fact(&w, "noise_seed");
    TRY(summarise(&w, &al, err));
out:
    ds4_mem_free(w.slab[0]);
    ds4_mem_free(w.slab[1]);
    return st;
}
