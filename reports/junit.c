/* JUnit XML: a test case per fixture (compare) or per toggle (bisect). Drift is a failure; what
 * could not be judged (not comparable, inconclusive, not exercised, untested) is skipped with
 * the reason, and a result without a case of its own gets one, so that no verdict is silently
 * green. */
#include <inttypes.h>
#include <math.h>

#include "reports/out.h"

typedef enum outcome { PASS, FAIL, SKIP } outcome;

static outcome of_verdict(drift_verdict v) {
    return v == DRIFT_DRIFT                                       ? FAIL
           : v == DRIFT_NOT_COMPARABLE || v == DRIFT_INCONCLUSIVE ? SKIP
                                                                  : PASS;
}

static outcome of_toggle(drift_toggle_state s) {
    return s == DRIFT_TOGGLE_GUILTY ? FAIL : s == DRIFT_TOGGLE_CLEARED ? PASS : SKIP;
}

static void open_case(report_out *o, const char *kind, const char *name) {
    report_put(o, "  <testcase classname=\"ds4-drift."), report_put_xml(o, kind);
    report_put(o, "\" name=\""), report_put_xml(o, name), report_put(o, "\" time=\"0\">\n");
}

static void open_outcome(report_out *o, outcome r, const char *message) {
    if (r == PASS) return;
    report_put(o, r == FAIL ? "    <failure type=\"drift\" message=\""
                            : "    <skipped message=\"");
    report_put_xml(o, message);
    report_put(o, r == FAIL ? "\">" : "\"/>\n");
}

static void put_fixture(report_out *o, const drift_result *r, const drift_fixture *f) {
    const drift_tensor *t = report_first_of(r, f);
    const drift_logits *l = report_logits_of(r, f->id);
    outcome out = of_verdict(f->verdict);
    open_case(o, r->kind, f->id);
    open_outcome(o, out, drift_verdict_text(f->verdict));
    if (out == FAIL) {
        if (t) {
            report_put(o, "first divergence: tap "), report_put_xml(o, t->tap);
            report_put(o, ", op "), report_put_xml(o, t->op);
            report_putf(o, ", layer %" PRId32 ", position %" PRId64 ", rows ", t->layer,
                        t->first_pos);
            report_put_xml(o, t->row_a), report_put(o, " and "), report_put_xml(o, t->row_b);
            report_put(o, ", NRMSE "), report_put_num(o, t->nrmse, 9), report_put(o, "\n");
        }
        if (l) {
            report_put(o, "logits: rms up to "), report_put_num(o, l->rms_max, 9);
            report_put(o, ", KL up to "), report_put_num(o, l->kl_max, 9), report_put(o, "\n");
        }
        report_put(o, "</failure>\n");
    }
    report_put(o, "  </testcase>\n");
}

static void put_toggle(report_out *o, const drift_result *r, const drift_toggle *t) {
    outcome out = of_toggle(t->state);
    open_case(o, r->kind, t->text);
    open_outcome(o, out, out == SKIP && t->why ? t->why : report_toggle_text(t->state));
    if (out == FAIL) {
        report_put(o, "score alone: "), report_put_num(o, t->solo_score, 9);
        report_put(o, "; guilty set without it: "), report_put_num(o, t->without_score, 9);
        report_put(o, "\nreplay: "), report_put_xml(o, r->bisect->replay);
        report_put(o, "\n</failure>\n");
    }
    report_put(o, "  </testcase>\n");
}

ds4_status report_write_junit(const drift_result *r,
                              bool (*emit)(void *user, const char *p, size_t n), void *user,
                              ds4_err *err) {
    report_out o;
    size_t n = r->bisect ? r->bisect->n_toggle : r->n_fixture, n_of[3] = {0};
    for (size_t i = 0; i < n; i++)
        n_of[r->bisect ? of_toggle(r->bisect->toggle[i].state)
                       : of_verdict(r->fixture[i].verdict)]++;
    /* A refusal that no case shows: without one, or with cases that all look fine. */
    outcome whole = of_verdict(r->verdict);
    bool extra = !n || (!r->bisect && whole != PASS && !n_of[whole]);
    if (extra) n++, n_of[whole]++;

    report_out_init(&o, emit, user);
    report_put(&o, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    report_put(&o, "<testsuite name=\""), report_put_xml(&o, r->title);
    report_putf(&o,
                "\" tests=\"%zu\" failures=\"%zu\" skipped=\"%zu\" errors=\"0\" time=\"0\">\n",
                n, n_of[FAIL], n_of[SKIP]);
    report_put(&o, "  <properties>\n    <property name=\"verdict\" value=\"");
    report_put_xml(&o, drift_verdict_text(r->verdict));
    report_put(&o, "\"/>\n    <property name=\"summary\" value=\"");
    report_put_xml(&o, r->summary);
    report_put(&o, "\"/>\n    <property name=\"command\" value=\"");
    report_put_xml(&o, r->command);
    report_put(&o, "\"/>\n  </properties>\n");
    if (extra) {
        open_case(&o, r->kind, "result");
        open_outcome(&o, whole, r->summary);
        if (whole == FAIL) report_put(&o, "</failure>\n");
        report_put(&o, "  </testcase>\n");
    }
    if (r->bisect)
        for (size_t i = 0; i < r->bisect->n_toggle; i++)
            put_toggle(&o, r, &r->bisect->toggle[i]);
    else
        for (size_t i = 0; i < r->n_fixture; i++) put_fixture(&o, r, &r->fixture[i]);
    report_put(&o, "</testsuite>\n</testsuites>\n");
    return report_out_fini(&o, "junit", err);
}
