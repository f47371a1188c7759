#include "drift/trial.h"

#include <math.h>
#include <string.h>
#include <xxhash.h>

#include "drift/align.h"
#include "drift/metric.h"
#include "engine/base/mem.h"

/* One observed event of the base: where it stood and what it held. */
typedef struct seen {
    ds4_tap tap;
    uint32_t layer, pos0, n_row;
    XXH128_hash_t hash;
} seen;

struct drift_base {
    seen *at;
    size_t n, cap;
    float *logits; /* [n_tok][n_vocab] */
    uint32_t n_vocab;
};

/* What one evaluation feeds: the base being made, or a trial being compared with it. */
typedef struct watch {
    drift_base *base;
    bool making;
    size_t next; /* event number */
    drift_trial_outcome *out;
    uint32_t first_order;
    const drift_fixture_input *f;
    double sum_sq, max_abs, sum_kl, max_kl;
    uint32_t n_flip, n_pos;
    bool bad; /* a logit is not finite on one side */
    const drift_progress *progress;
    ds4_status st;
    ds4_err err;
} watch;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    return ds4_tap_table[tap].level != DS4_TAP_STATE;
}

static ds4_status remember(watch *w, const ds4_tap_event *e, XXH128_hash_t h, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_base *b = w->base;

    if (b->n == b->cap) {
        size_t cap = b->cap ? 2 * b->cap : 1024;
        TRY(ds4_mem_grow(&b->at, cap, sizeof *b->at, err));
        b->cap = cap;
    }
    b->at[b->n++] = (seen){e->tap, e->layer, e->pos0, e->n_row, h};
    if (e->tap == DS4_TAP_logits)
        memcpy(b->logits + (size_t)e->pos0 * b->n_vocab, e->data,
               (size_t)e->n_row * e->n_col * sizeof(float));
out:
    return st;
}

static ds4_status measure(watch *w, const ds4_tap_event *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t i = 0; i < e->n_row; i++) {
        drift_logit m = {.next = -1};
        TRY(drift_logit_measure(&m, w->base->logits + (size_t)(e->pos0 + i) * e->n_col,
                                (const float *)e->data + (size_t)i * e->n_col, e->n_col, 20,
                                err));
        w->sum_sq += m.rms * m.rms;
        w->max_abs = fmax(w->max_abs, m.max_abs);
        w->sum_kl += m.kl_ab;
        w->max_kl = fmax(w->max_kl, m.kl_ab);
        w->n_flip += !m.same_top1;
        w->bad = w->bad || m.n_nonfinite;
        w->n_pos++;
    }
out:
    return st;
}

static ds4_status compare(watch *w, const ds4_tap_event *e, XXH128_hash_t h, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_base *b = w->base;

    if (w->next >= b->n || b->at[w->next].tap != e->tap || b->at[w->next].layer != e->layer ||
        b->at[w->next].pos0 != e->pos0 || b->at[w->next].n_row != e->n_row)
        RAISE(DS4_ERR_INTERNAL, "trial and base observed different calls at event %zu",
              w->next);
    if (!XXH128_isEqual(h, b->at[w->next].hash)) {
        uint32_t order =
            drift_align_order(e->tap, e->layer == DS4_NO_LAYER ? -1 : (int32_t)e->layer);
        if (w->out->same_bits || order < w->first_order) {
            w->out->first_tap = e->tap, w->out->first_layer = e->layer,
            w->out->first_pos = e->pos0;
            w->first_order = order;
        }
        w->out->same_bits = false;
    }
    w->next++;
    if (e->tap == DS4_TAP_logits) TRY(measure(w, e, err));
out:
    return st;
}

static bool see(void *user, const ds4_tap_event *e) {
    watch *w = user;
    XXH128_hash_t h = XXH3_128bits(e->data, (size_t)e->n_row * e->n_col * 4);
    w->st = w->making ? remember(w, e, h, &w->err) : compare(w, e, h, &w->err);
    if (w->st != DS4_OK) return false;
    return !w->progress || !w->progress->tell ||
           w->progress->tell(w->progress->user, -1.0, NULL);
}

static ds4_status evaluate(watch *w, ds4_session *s, const ds4_plan *plan, ds4_err *err) {
    ds4_observer o = {.wants = wants, .see = see, .user = w};
    ds4_status st = ds4_session_set_plan(s, plan, err);
    if (st != DS4_OK) return st;
    ds4_session_observe(s, &o);
    st = drift_evaluate(s, w->f, err);
    ds4_session_observe(s, NULL);
    if (w->st != DS4_OK) {
        st = w->st;
        if (err) *err = w->err;
    }
    return st;
}

ds4_status drift_base_new(drift_base **out, ds4_session *s, const ds4_plan *plan,
                          const drift_fixture_input *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_base *b = NULL;
    watch w = {.making = true, .f = f};

    TRY(ds4_mem_alloc(&b, 1, sizeof *b, err));
    b->n_vocab = ds4_session_n_vocab(s);
    TRY(ds4_mem_alloc(&b->logits, (size_t)f->n_tok * b->n_vocab, sizeof *b->logits, err));
    w.base = b;
    TRY(evaluate(&w, s, plan, err));
    *out = b, b = NULL;
out:
    drift_base_free(b);
    return st;
}

void drift_base_free(drift_base *b) {
    if (!b) return;
    ds4_mem_free(b->at);
    ds4_mem_free(b->logits);
    ds4_mem_free(b);
}

static double score_rms(const watch *w) { return sqrt(w->sum_sq / w->n_pos); }
static double score_max_abs(const watch *w) { return w->max_abs; }
static double score_kl_mean(const watch *w) { return w->sum_kl / w->n_pos; }
static double score_kl_max(const watch *w) { return w->max_kl; }
static double score_flips(const watch *w) { return (double)w->n_flip / w->n_pos; }

static const struct {
    const char *name, *what;
    double (*of)(const watch *w);
} scores[] = {
    {"logit_rms", "root mean square of the logit differences over all positions", score_rms},
    {"logit_max_abs", "largest absolute logit difference", score_max_abs},
    {"kl_mean", "mean over positions of KL(base || trial), nats", score_kl_mean},
    {"kl_max", "largest KL(base || trial) of a position, nats", score_kl_max},
    {"top1_flips", "share of positions whose best token changes", score_flips},
};

size_t drift_score_n(void) { return sizeof scores / sizeof *scores; }
const char *drift_score_name(size_t i, const char **what) {
    if (what) *what = scores[i].what;
    return scores[i].name;
}

ds4_status drift_base_compare(drift_base *b, ds4_session *s, const ds4_plan *plan,
                              const drift_fixture_input *f, const char *metric,
                              drift_trial_outcome *out, const drift_progress *progress,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    watch w = {.base = b, .out = out, .f = f, .progress = progress};
    size_t i = 0;

    while (i < drift_score_n() && strcmp(scores[i].name, metric)) i++;
    if (i == drift_score_n())
        RAISE(
            DS4_ERR_USAGE,
            "metric: found \"%s\", wanted logit_rms, logit_max_abs, kl_mean, kl_max or top1_flips",
            metric);
    *out = (drift_trial_outcome){.same_bits = true};
    TRY(evaluate(&w, s, plan, err));
    if (w.next != b->n)
        RAISE(DS4_ERR_INTERNAL, "trial observed %zu calls, the base %zu", w.next, b->n);
    out->logit_rms = score_rms(&w), out->kl_mean = score_kl_mean(&w),
    out->top1_flips = score_flips(&w);
    out->score = w.bad ? (double)INFINITY : scores[i].of(&w);
out:
    return st;
}

/* ---- what executed ---- */

struct drift_executions {
    ds4_ledger_entry *at;
    uint32_t n;
};

ds4_status drift_executions_copy(drift_executions **out, const ds4_ledger *l, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_executions *x = NULL;

    TRY(ds4_mem_alloc(&x, 1, sizeof *x, err));
    x->n = ds4_ledger_n(l);
    TRY(ds4_mem_alloc(&x->at, x->n, sizeof *x->at, err));
    for (uint32_t i = 0; i < x->n; i++) x->at[i] = *ds4_ledger_at(l, i);
    *out = x, x = NULL;
out:
    drift_executions_free(x);
    return st;
}

void drift_executions_free(drift_executions *x) {
    if (!x) return;
    ds4_mem_free(x->at);
    ds4_mem_free(x);
}

/* Whether the base ran this row at the entry's call, layer and phase. */
static bool base_ran_row(const drift_executions *base, const ds4_ledger_entry *e) {
    for (uint32_t i = 0; i < base->n; i++) {
        const ds4_ledger_entry *o = &base->at[i];
        if (o->tap == e->tap && o->layer == e->layer && o->phase == e->phase &&
            !strcmp(o->row, e->row))
            return true;
    }
    return false;
}

/* The index of the row that ran, among those of its op. */
static uint32_t row_index(const ds4_plan *p, const ds4_ledger_entry *e) {
    const ds4_backend *b = ds4_plan_backend(p);
    ds4_op op = ds4_tap_table[e->tap].op;
    uint32_t i = 0;
    while (i + 1 < b->ops->n_row(b, op) && strcmp(b->ops->row(b, op, i)->name, e->row)) i++;
    return i;
}

/* Whether a cell wants row i: one of its list, or strict where the list is empty. */
static bool wants_row(ds4_cell c, uint32_t i) {
    if (!c.row[0]) return i == 0;
    for (uint32_t k = 0; k < DS4_MAX_WANTED && c.row[k]; k++)
        if (c.row[k] == i) return true;
    return false;
}

/* Whether one of the flipped variants acted: the row that ran honours it, or it is why the
 * wanted row was refused. */
static bool variant_acted(const ds4_plan *p, const ds4_ledger_entry *e, uint32_t flipped,
                          uint32_t on, uint32_t row) {
    for (uint32_t v = 0; v < DS4_VARIANT_COUNT; v++) {
        if (!(flipped >> v & 1)) continue;
        if (ds4_plan_honours(p, e->tap, e->wtype, row, on, (ds4_variant)v)) return true;
        if (e->refusal && strstr(e->refusal, ds4_variant_table[v].name)) return true;
    }
    return false;
}

drift_execution drift_exercised(const drift_executions *base, const drift_executions *with,
                                const ds4_plan *from, const ds4_plan *to, const char **why) {
    drift_execution found = DRIFT_NO_CALL;
    *why = "no call of it runs in that layer and phase";
    for (uint32_t i = 0; i < with->n; i++) {
        const ds4_ledger_entry *e = &with->at[i];
        ds4_cell a = ds4_plan_cell(from, e->tap, e->layer, e->phase);
        ds4_cell b = ds4_plan_cell(to, e->tap, e->layer, e->phase);
        bool rows = !ds4_cell_same_rows(&a, &b);
        uint32_t flipped = a.variants ^ b.variants, row = row_index(to, e);
        if (!rows && !flipped) continue;
        if (rows && wants_row(b, row) && !base_ran_row(base, e)) return DRIFT_EXERCISED;
        if (variant_acted(to, e, flipped, b.variants, row)) return DRIFT_EXERCISED;
        found = DRIFT_OTHER_RAN;
        *why = rows && e->refusal ? e->refusal : "the row that ran does not honour it";
    }
    return found;
}
