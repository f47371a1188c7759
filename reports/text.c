/* The terminal summary: at most 25 lines of plain ASCII; the first is the verdict sentence. The
 * replay command is whole, to be copied; other fields are cut so that lines fit a terminal. */
#include <inttypes.h>
#include <math.h>

#include "reports/out.h"

enum { N_COL = 100, N_FIXTURE = 10, N_TOGGLE = 12 };

static void put(report_out *o, const char *s, size_t max) { report_put_ascii(o, s, max); }

static void put_first(report_out *o, const drift_tensor *t) {
    report_put(o, ", first at "), put(o, t->tap, 20);
    if (t->layer >= 0) report_putf(o, " L%" PRId32, t->layer);
    if (t->first_pos >= 0) report_putf(o, " pos %" PRId64, t->first_pos);
    if (!isnan(t->nrmse)) report_put(o, ", NRMSE "), report_put_num(o, t->nrmse, 3);
}

static void put_fixture(report_out *o, const drift_result *r, const drift_fixture *f) {
    const drift_tensor *t = report_first_of(r, f);
    const drift_logits *l = report_logits_of(r, f->id);
    report_put(o, "  "), put(o, f->id, 24), report_put(o, ": ");
    report_put(o, drift_verdict_text(f->verdict));
    if (t) put_first(o, t);
    if (l) {
        report_put(o, ", logits rms "), report_put_num(o, l->rms_max, 3);
        report_put(o, " KL "), report_put_num(o, l->kl_max, 3);
    }
    report_put(o, "\n");
}

static void put_bisect(report_out *o, const drift_bisect_result *b) {
    size_t n = 0, n_of[4] = {0};
    for (size_t i = 0; i < b->n_toggle; i++) n_of[b->toggle[i].state]++;
    report_putf(o, "toggles: %zu guilty, %zu cleared, %zu not exercised, %zu untested\n",
                n_of[0], n_of[1], n_of[2], n_of[3]);
    for (size_t i = 0; i < b->n_toggle; i++) {
        const drift_toggle *t = &b->toggle[i];
        if (t->state != DRIFT_TOGGLE_GUILTY || n++ >= N_TOGGLE) continue;
        report_put(o, "  guilty "), put(o, t->text, 50);
        if (!isnan(t->solo_score))
            report_put(o, ", alone "), report_put_num(o, t->solo_score, 4);
        if (!isnan(t->without_score))
            report_put(o, ", set without it "), report_put_num(o, t->without_score, 4);
        report_put(o, "\n");
    }
    if (n > N_TOGGLE) report_putf(o, "  and %zu more guilty\n", n - N_TOGGLE);
    report_putf(o, "trials: %zu, guilty set is %s1-minimal\n", b->n_trial,
                b->one_minimal ? "" : "not known to be ");
    if (b->replay) report_put(o, "replay: "), put(o, b->replay, SIZE_MAX), report_put(o, "\n");
}

ds4_status report_write_text(const drift_result *r,
                             bool (*emit)(void *user, const char *p, size_t n), void *user,
                             ds4_err *err) {
    report_out o;
    report_out_init(&o, emit, user);
    if (r->summary && *r->summary) put(&o, r->summary, 3 * N_COL);
    else report_put(&o, drift_verdict_text(r->verdict)), report_put(&o, ": no summary");
    report_put(&o, "\n");
    if (r->same_rows)
        report_put(&o, "both sides executed the same rows: this comparison is no evidence\n");
    for (int i = 0; i < 2; i++) {
        if (!r->side[i].label && !r->side[i].path) continue;
        report_putf(&o, "%c: ", "ab"[i]), put(&o, r->side[i].label, 40);
        report_put(&o, " "), put(&o, r->side[i].path, 55), report_put(&o, "\n");
    }
    /* A search names few fixtures; a comparison has the room of the toggles as well. */
    size_t max = r->bisect ? 2 : N_FIXTURE, n = r->n_fixture < max ? r->n_fixture : max;
    for (size_t i = 0; i < n; i++) put_fixture(&o, r, &r->fixture[i]);
    if (r->n_fixture > n) report_putf(&o, "  and %zu more fixtures\n", r->n_fixture - n);
    size_t n_diff = 0, n_same = 0;
    for (size_t i = 0; i < r->n_tensor; i++) {
        n_same += r->tensor[i].state == DRIFT_TENSOR_SAME;
        n_diff += r->tensor[i].state == DRIFT_TENSOR_DIFFERENT;
    }
    if (r->n_tensor)
        report_putf(&o, "tensors: %zu same bits, %zu different, %zu missing or not measured\n",
                    n_same, n_diff, r->n_tensor - n_same - n_diff);
    if (r->bisect) put_bisect(&o, r->bisect);
    return report_out_fini(&o, "text", err);
}
