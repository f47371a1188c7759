/* Markdown for a pull request: verdict, fixtures, the worst taps, the toggles. Tables are cut
 * at N_WORST rows and say so; CSV and JSON carry everything. */
#include <inttypes.h>
#include <math.h>

#include "reports/out.h"

enum { N_WORST = 20 };

static void cell(report_out *o, const char *s) { report_put_md(o, s), report_put(o, " | "); }
static void cell_num(report_out *o, double v) { report_put_num(o, v, 4), report_put(o, " | "); }

static void put_fixtures(report_out *o, const drift_result *r) {
    if (!r->n_fixture) return;
    report_put(o, "\n## Fixtures\n\n| fixture | verdict | tokens | first divergence | "
                  "max logit rms | max KL | same top-1 |\n|---|---|---:|---|---:|---:|---:|\n");
    for (size_t i = 0; i < r->n_fixture; i++) {
        const drift_fixture *f = &r->fixture[i];
        const drift_tensor *t = report_first_of(r, f);
        const drift_logits *l = report_logits_of(r, f->id);
        report_put(o, "| "), cell(o, f->id), cell(o, drift_verdict_text(f->verdict));
        report_putf(o, "%" PRIu32 " | ", f->n_tok);
        if (t) {
            report_put_md(o, t->tap), report_put(o, " ("), report_put_md(o, t->op);
            report_put(o, ")");
            if (t->layer >= 0) report_putf(o, " layer %" PRId32, t->layer);
            if (t->first_pos >= 0) report_putf(o, " position %" PRId64, t->first_pos);
        }
        report_put(o, " | ");
        cell_num(o, l ? l->rms_max : (double)NAN), cell_num(o, l ? l->kl_max : (double)NAN);
        cell_num(o, l ? l->same_top1 : (double)NAN);
        report_put(o, "\n");
    }
}

static bool worse(const drift_tensor *a, const drift_tensor *b) {
    double x = report_badness(a), y = report_badness(b);
    return x > y || (x == y && a < b);
}

static void put_tensors(report_out *o, const drift_result *r) {
    const drift_tensor *top[N_WORST];
    size_t n = 0, n_diff = 0;
    for (size_t i = 0; i < r->n_tensor; i++) {
        const drift_tensor *t = &r->tensor[i];
        if (t->state == DRIFT_TENSOR_SAME) continue;
        n_diff++;
        if (n == N_WORST && !worse(t, top[n - 1])) continue;
        size_t k = n < N_WORST ? n++ : n - 1;
        for (; k > 0 && worse(t, top[k - 1]); k--) top[k] = top[k - 1];
        top[k] = t;
    }
    if (!r->n_tensor) return;
    report_putf(o, "\n## Taps\n\n%zu of %zu tensors differ", n_diff, r->n_tensor);
    report_put(o, n < n_diff ? "; the worst:\n\n" : ".\n\n");
    if (!n) return;
    report_put(o, "| fixture | tap | layer | op | a | b | rms | max abs | NRMSE | max ulp | "
                  "first position |\n|---|---|---:|---|---|---|---:|---:|---:|---:|---:|\n");
    for (size_t i = 0; i < n; i++) {
        const drift_tensor *t = top[i];
        report_put(o, "| "), cell(o, t->fixture), cell(o, t->tap);
        if (t->layer >= 0) report_putf(o, "%" PRId32, t->layer);
        report_put(o, " | "), cell(o, t->op), cell(o, t->row_a), cell(o, t->row_b);
        if (t->state == DRIFT_TENSOR_DIFFERENT) {
            cell_num(o, t->rms), cell_num(o, t->max_abs), cell_num(o, t->nrmse);
            report_putf(o, "%" PRIu32 " | %" PRId64 " |\n", t->max_ulp, t->first_pos);
        } else {
            report_putf(o, "%s", report_state_text(t->state));
            if (t->why) report_put(o, ": "), report_put_md(o, t->why);
            report_put(o, " | | | | |\n");
        }
    }
}

static void put_bisect(report_out *o, const drift_bisect_result *b) {
    report_put(o, "\n## Search\n\nFixture "), report_put_md(o, b->fixture);
    report_put(o, ", metric "), report_put_md(o, b->metric);
    report_putf(o, ", %zu trials; ", b->n_trial);
    report_put(o, b->one_minimal ? "the guilty set is 1-minimal.\n\n"
                                 : "the guilty set is not known to be 1-minimal.\n\n");
    report_put(o, "| toggle | state | alone | guilty set without it |\n|---|---|---:|---:|\n");
    for (size_t i = 0; i < b->n_toggle; i++) {
        const drift_toggle *t = &b->toggle[i];
        report_put(o, "| "), cell(o, t->text), report_put(o, report_toggle_text(t->state));
        if (t->why) report_put(o, ": "), report_put_md(o, t->why);
        report_put(o, " | ");
        cell_num(o, t->solo_score), cell_num(o, t->without_score);
        report_put(o, "\n");
    }
    if (b->replay)
        report_put(o, "\nReplay: "), report_put_md(o, b->replay), report_put(o, "\n");
}

ds4_status report_write_markdown(const drift_result *r,
                                 bool (*emit)(void *user, const char *p, size_t n), void *user,
                                 ds4_err *err) {
    report_out o;
    report_out_init(&o, emit, user);
    report_put(&o, "# "), report_put_md(&o, r->title), report_put(&o, "\n\n**");
    report_put(&o, drift_verdict_text(r->verdict)), report_put(&o, "**: ");
    report_put_md(&o, r->summary), report_put(&o, "\n");
    if (r->same_rows)
        report_put(&o, "\n> Both sides executed the same rows: "
                       "this comparison is no evidence.\n");
    if (r->bisect) put_bisect(&o, r->bisect);
    put_fixtures(&o, r);
    put_tensors(&o, r);
    if (r->command)
        report_put(&o, "\nCommand: "), report_put_md(&o, r->command), report_put(&o, "\n");
    return report_out_fini(&o, "markdown", err);
}
