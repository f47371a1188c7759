/* CSV (RFC 4180, CRLF, one header): a long table, one number or word per line, that pandas and
 * R read as it is. Columns:
 *
 *   kind      tensor, logit, logits, fixture, executed, coverage, toggle, trial, bisect
 *   fixture   of the record; empty for a result as a whole
 *   op, tap   of tensors and executed rows; for toggles and trials `tap` is the plan edit or
 * the trial's toggles and `op` the trial's purpose layer     -1: embedding or output head
 *   position  of a token (kind logit), a row of a tensor (metrics row_rms, row_max), the number
 * of a trial row_a, row_b   rows that executed on each side metric    what the value is: rms,
 * nrmse, kl_ab, ulp_0 ... ulp_more, first_pos, state, ... value     empty: not measured; inf
 * and -inf; %.9g for what was f32, %.17g for f64, else text
 *
 * Tidy because one file is one table while the records have different columns; a pivot on
 * `metric` gives the wide form of a kind. */
#include <inttypes.h>
#include <stdio.h>

#include "reports/out.h"

typedef struct key {
    const char *kind, *fixture, *op, *tap, *row_a, *row_b;
    bool has_layer, has_pos;
    int32_t layer;
    uint64_t pos;
} key;

static void line(report_out *o, const key *k, const char *metric) {
    report_put(o, k->kind), report_put(o, ",");
    report_put_csv(o, k->fixture), report_put(o, ",");
    report_put_csv(o, k->op), report_put(o, ",");
    report_put_csv(o, k->tap), report_put(o, ",");
    if (k->has_layer) report_putf(o, "%" PRId32, k->layer);
    report_put(o, ",");
    if (k->has_pos) report_putf(o, "%" PRIu64, k->pos);
    report_put(o, ",");
    report_put_csv(o, k->row_a), report_put(o, ",");
    report_put_csv(o, k->row_b), report_put(o, ",");
    report_put(o, metric), report_put(o, ",");
}

static void text(report_out *o, const key *k, const char *metric, const char *value) {
    line(o, k, metric);
    report_put_csv(o, value), report_put(o, "\r\n");
}

static void num(report_out *o, const key *k, const char *metric, double v, int digits) {
    line(o, k, metric);
    report_put_num(o, v, digits), report_put(o, "\r\n");
}

static void f64(report_out *o, const key *k, const char *m, double v) { num(o, k, m, v, 17); }
static void f32(report_out *o, const key *k, const char *m, double v) { num(o, k, m, v, 9); }

static void u64(report_out *o, const key *k, const char *metric, uint64_t v) {
    line(o, k, metric);
    report_putf(o, "%" PRIu64 "\r\n", v);
}

static void i64(report_out *o, const key *k, const char *metric, int64_t v) {
    line(o, k, metric);
    report_putf(o, "%" PRId64 "\r\n", v);
}

static void put_fixture(report_out *o, const drift_fixture *f) {
    key k = {.kind = "fixture", .fixture = f->id};
    text(o, &k, "verdict", drift_verdict_text(f->verdict));
    u64(o, &k, "n_tok", f->n_tok);
    u64(o, &k, "n_decode", f->n_decode);
}

static void put_tensor(report_out *o, const drift_tensor *t) {
    static const char *const ulp[DRIFT_N_ULP] = {
        "ulp_0",    "ulp_1",     "ulp_2",       "ulp_3_4",       "ulp_5_8",
        "ulp_9_16", "ulp_17_64", "ulp_65_1024", "ulp_1025_2p20", "ulp_more"};
    key k = {.kind = "tensor",
             .fixture = t->fixture,
             .op = t->op,
             .tap = t->tap,
             .row_a = t->row_a,
             .row_b = t->row_b,
             .has_layer = true,
             .layer = t->layer};
    u64(o, &k, "order", t->order);
    text(o, &k, "state", report_state_text(t->state));
    if (t->state == DRIFT_TENSOR_UNMEASURED) text(o, &k, "why", t->why);
    if (t->state != DRIFT_TENSOR_SAME && t->state != DRIFT_TENSOR_DIFFERENT) return;
    u64(o, &k, "n_elem", t->n_elem);
    u64(o, &k, "n_diff", t->n_diff);
    f64(o, &k, "rms", t->rms);
    f32(o, &k, "max_abs", t->max_abs);
    u64(o, &k, "max_row", t->max_row);
    u64(o, &k, "max_col", t->max_col);
    f64(o, &k, "nrmse", t->nrmse);
    f64(o, &k, "cosine", t->cosine);
    f64(o, &k, "mean_err", t->mean_err);
    f64(o, &k, "ref_rms", t->ref_rms);
    u64(o, &k, "max_ulp", t->max_ulp);
    for (size_t i = 0; i < DRIFT_N_ULP; i++) u64(o, &k, ulp[i], t->ulp[i]);
    u64(o, &k, "nan_a", t->bad_a.n_nan);
    u64(o, &k, "nan_b", t->bad_b.n_nan);
    u64(o, &k, "pos_inf_a", t->bad_a.n_pos_inf);
    u64(o, &k, "pos_inf_b", t->bad_b.n_pos_inf);
    u64(o, &k, "neg_inf_a", t->bad_a.n_neg_inf);
    u64(o, &k, "neg_inf_b", t->bad_b.n_neg_inf);
    u64(o, &k, "subnormal_a", t->bad_a.n_subnormal);
    u64(o, &k, "subnormal_b", t->bad_b.n_subnormal);
    u64(o, &k, "n_bad_differs", t->n_bad_differs);
    u64(o, &k, "n_set_differs", t->n_set_differs);
    i64(o, &k, "first_pos", t->first_pos);
    if (t->state == DRIFT_TENSOR_SAME) return; /* its rows are all zero */
    k.has_pos = true;
    for (uint32_t i = 0; i < t->n_row; i++) {
        k.pos = t->pos0 + (uint64_t)i * t->pos_step;
        if (t->row_rms) f64(o, &k, "row_rms", t->row_rms[i]);
        if (t->row_max) f32(o, &k, "row_max", t->row_max[i]);
    }
}

static void put_logit(report_out *o, const char *fixture, const drift_logit *l) {
    key k = {
        .kind = "logit", .fixture = fixture, .tap = "logits", .has_pos = true, .pos = l->pos};
    i64(o, &k, "token", l->token);
    i64(o, &k, "next", l->next);
    f64(o, &k, "rms", l->rms);
    f32(o, &k, "max_abs", l->max_abs);
    f32(o, &k, "top20_max_abs", l->top20_max_abs);
    u64(o, &k, "n_nonfinite", l->n_nonfinite);
    u64(o, &k, "same_top1", l->same_top1);
    i64(o, &k, "top1_a", l->top1_a);
    i64(o, &k, "top1_b", l->top1_b);
    u64(o, &k, "top_k", l->top_k);
    u64(o, &k, "top5_overlap", l->top5_overlap);
    u64(o, &k, "top20_overlap", l->top20_overlap);
    u64(o, &k, "max_rank_delta", l->max_rank_delta);
    u64(o, &k, "rank_displacement", l->rank_displacement);
    f64(o, &k, "kl_ab", l->kl_ab);
    f64(o, &k, "kl_ba", l->kl_ba);
    f64(o, &k, "js", l->js);
    f64(o, &k, "tv", l->tv);
    f32(o, &k, "margin_a", l->margin_a);
    f32(o, &k, "margin_b", l->margin_b);
    f64(o, &k, "entropy_a", l->entropy_a);
    f64(o, &k, "entropy_b", l->entropy_b);
    f64(o, &k, "logp_next_a", l->logp_next_a);
    f64(o, &k, "logp_next_b", l->logp_next_b);
    f64(o, &k, "rms_gauge", l->rms_gauge);
}

static void put_logits(report_out *o, const drift_logits *l) {
    key k = {.kind = "logits", .fixture = l->fixture, .tap = "logits"};
    f64(o, &k, "rms_mean", l->rms_mean);
    f64(o, &k, "rms_max", l->rms_max);
    f64(o, &k, "rms_median", l->rms_median);
    f32(o, &k, "max_abs", l->max_abs);
    f64(o, &k, "kl_mean", l->kl_mean);
    f64(o, &k, "kl_max", l->kl_max);
    f64(o, &k, "kl_median", l->kl_median);
    f64(o, &k, "same_top1", l->same_top1);
    u64(o, &k, "min_top5", l->min_top5);
    u64(o, &k, "min_top20", l->min_top20);
    u64(o, &k, "max_rank", l->max_rank);
    for (size_t i = 0; i < l->n; i++) put_logit(o, l->fixture, &l->at[i]);
}

static void put_executed(report_out *o, const drift_executed *e) {
    key k = {.kind = "executed",
             .fixture = e->fixture,
             .op = e->op,
             .tap = e->tap,
             .row_a = e->row_a,
             .row_b = e->row_b,
             .has_layer = true,
             .layer = e->layer};
    bool prefill = report_str_eq(e->phase, "prefill"),
         decode = report_str_eq(e->phase, "decode");
    const char *p = prefill ? "prefill_" : decode ? "decode_" : "";
    char m[40];
    if (!prefill && !decode) text(o, &k, "phase", e->phase);
    for (int side = 0; side < 2; side++) {
        const char *refusal = side ? e->refusal_b : e->refusal_a;
        snprintf(m, sizeof m, "%sn_call_%c", p, "ab"[side]);
        u64(o, &k, m, side ? e->n_call_b : e->n_call_a);
        snprintf(m, sizeof m, "%srefusal_%c", p, "ab"[side]);
        if (refusal) text(o, &k, m, refusal);
    }
}

static void put_bisect(report_out *o, const drift_bisect_result *b) {
    key k = {.kind = "bisect", .fixture = b->fixture};
    text(o, &k, "metric", b->metric);
    f64(o, &k, "score_none", b->score_none);
    f64(o, &k, "score_all", b->score_all);
    f64(o, &k, "score_guilty", b->score_guilty);
    u64(o, &k, "one_minimal", b->one_minimal);
    for (size_t i = 0; i < b->n_toggle; i++) {
        const drift_toggle *t = &b->toggle[i];
        key kt = {.kind = "toggle", .fixture = b->fixture, .tap = t->text};
        text(o, &kt, "state", report_toggle_text(t->state));
        if (t->why) text(o, &kt, "why", t->why);
        f64(o, &kt, "solo_score", t->solo_score);
        f64(o, &kt, "without_score", t->without_score);
    }
    for (size_t i = 0; i < b->n_trial; i++) {
        const drift_trial *t = &b->trial[i];
        key kt = {.kind = "trial",
                  .fixture = b->fixture,
                  .op = t->purpose,
                  .tap = t->toggles,
                  .has_pos = true,
                  .pos = t->number};
        f64(o, &kt, "score", t->score);
        f64(o, &kt, "threshold", t->threshold);
        u64(o, &kt, "fails", t->fails);
        f64(o, &kt, "seconds", t->seconds);
        text(o, &kt, "evidence", t->evidence);
    }
}

ds4_status report_write_csv(const drift_result *r,
                            bool (*emit)(void *user, const char *p, size_t n), void *user,
                            ds4_err *err) {
    report_out o;
    report_out_init(&o, emit, user);
    report_put(&o, "kind,fixture,op,tap,layer,position,row_a,row_b,metric,value\r\n");
    for (size_t i = 0; i < r->n_fixture; i++) put_fixture(&o, &r->fixture[i]);
    for (size_t i = 0; i < r->n_tensor; i++) put_tensor(&o, &r->tensor[i]);
    for (size_t i = 0; i < r->n_logits; i++) put_logits(&o, &r->logits[i]);
    for (size_t i = 0; i < r->n_executed; i++) put_executed(&o, &r->executed[i]);
    for (size_t i = 0; i < r->n_coverage; i++) {
        const drift_coverage *c = &r->coverage[i];
        key k = {.kind = "coverage", .fixture = c->fixture, .op = c->op, .row_a = c->rows};
        u64(&o, &k, "n_call", c->n_call);
        u64(&o, &k, "n_elem", c->n_elem);
    }
    if (r->bisect) put_bisect(&o, r->bisect);
    return report_out_fini(&o, "csv", err);
}
