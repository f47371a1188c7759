/* The search: toggles with the evidence for their state, the score by trial, and every trial.
 */
#include <inttypes.h>
#include <math.h>

#include "reports/html.h"

enum { MAX_TRIAL = 1000 };

static void put_state(report_out *o, drift_toggle_state s) {
    static const char *const look[] = {[DRIFT_TOGGLE_GUILTY] = "bad",
                                       [DRIFT_TOGGLE_CLEARED] = "good",
                                       [DRIFT_TOGGLE_NOT_EXERCISED] = "warn",
                                       [DRIFT_TOGGLE_UNTESTED] = "none"};
    report_put(o, "<td><span class=\"badge "), report_put(o, look[s]), report_put(o, "\">");
    report_put(o, report_toggle_text(s)), report_put(o, "</span>");
}

static void put_toggles(report_out *o, const drift_bisect_result *b) {
    static const drift_toggle_state order[] = {DRIFT_TOGGLE_GUILTY, DRIFT_TOGGLE_NOT_EXERCISED,
                                               DRIFT_TOGGLE_UNTESTED, DRIFT_TOGGLE_CLEARED};
    report_put(
        o, "<h3>Toggles</h3>\n<div class=\"scroll tall\" tabindex=0><table class=sort><caption>"
           "Alone: the toggle on top of the reference. Without it: the guilty set less this "
           "toggle. A toggle that was not exercised is not cleared.</caption><thead><tr>"
           "<th scope=col>Toggle</th><th scope=col>State</th><th scope=col>Score alone</th>"
           "<th scope=col>Score without it</th><th scope=col>Why</th></tr></thead><tbody>\n");
    for (size_t k = 0; k < sizeof order / sizeof *order; k++)
        for (size_t i = 0; i < b->n_toggle; i++) {
            const drift_toggle *t = &b->toggle[i];
            if (t->state != order[k]) continue;
            report_put(o, "<tr><th scope=row><code>"), report_put_xml(o, t->text);
            report_put(o, "</code></th>");
            put_state(o, t->state);
            report_html_cell_num(o, t->solo_score), report_html_cell_num(o, t->without_score);
            report_html_cell(o, t->why), report_put(o, "\n");
        }
    report_put(o, "</tbody></table></div>\n");
}

static void put_trials(report_out *o, const drift_bisect_result *b) {
    size_t n = b->n_trial < MAX_TRIAL ? b->n_trial : MAX_TRIAL;
    report_put(o, "<h3>Trials</h3>\n");
    if (n)
        report_html_figure(o, "trial", 0, "Score of each trial against the threshold",
                           "Score by trial; dashed: the threshold. A triangle fails; on a "
                           "logarithmic axis a score of zero has no point.");
    report_put(o, "<div class=\"scroll tall\" tabindex=0><table class=sort><caption>");
    if (n < b->n_trial) report_putf(o, "The first %zu of %zu trials. ", n, b->n_trial);
    report_put(o,
               "A trial fails when its score is above the threshold.</caption><thead><tr>"
               "<th scope=col>#</th><th scope=col>Purpose</th><th scope=col>Toggles on</th>"
               "<th scope=col>Score</th><th scope=col>Threshold</th><th scope=col>Outcome</th>"
               "<th scope=col>Seconds</th><th scope=col>Evidence</th></tr></thead><tbody>\n");
    for (size_t i = 0; i < n; i++) {
        const drift_trial *t = &b->trial[i];
        report_putf(o, "<tr><td class=n>%" PRIu32, t->number);
        report_put(o, "<th scope=row>"), report_put_xml(o, t->purpose), report_put(o, "</th>");
        report_put(o, "<td class=wrap>"), report_put_xml(o, t->toggles);
        report_html_cell_num(o, t->score), report_html_cell_num(o, t->threshold);
        report_put(o, t->fails ? "<td><span class=\"badge bad\">fails</span>"
                               : "<td><span class=\"badge good\">passes</span>");
        report_html_cell_num(o, t->seconds);
        report_put(o, "<td class=wrap>"), report_put_xml(o, t->evidence), report_put(o, "\n");
    }
    report_put(o, "</tbody></table></div>\n");
}

static void put_score(report_out *o, const char *name, double v) {
    if (isnan(v)) return;
    report_put(o, "<div><dt>"), report_put(o, name), report_put(o, "</dt><dd>");
    report_put_num(o, v, 4), report_put(o, "</dd></div>");
}

void report_html_bisect(report_out *o, const drift_bisect_result *b) {
    size_t n_of[4] = {0};
    for (size_t i = 0; i < b->n_toggle; i++) n_of[b->toggle[i].state]++;
    report_put(o, "<section id=search><h2>Search</h2>\n<p>Fixture <code>");
    report_put_xml(o, b->fixture), report_put(o, "</code>, metric <code>");
    report_put_xml(o, b->metric);
    report_putf(o, "</code>: %zu guilty, %zu cleared, %zu not exercised, %zu untested. ",
                n_of[0], n_of[1], n_of[2], n_of[3]);
    report_put(o, b->one_minimal
                      ? "The guilty set is 1-minimal: without any one of its toggles "
                        "the drift stays below the threshold.</p>\n<dl class=meta>"
                      : "The guilty set is not known to be 1-minimal.</p>\n<dl "
                        "class=meta>");
    put_score(o, "Score, all off", b->score_none), put_score(o, "Score, all on", b->score_all);
    put_score(o, "Score, guilty set", b->score_guilty);
    report_put(o, "</dl>\n");
    put_toggles(o, b);
    put_trials(o, b);
    report_put(o, "</section>\n");
}

void report_html_bisect_data(report_out *o, const drift_bisect_result *b) {
    size_t n = b->n_trial < MAX_TRIAL ? b->n_trial : MAX_TRIAL;
    report_put(o,
               ",\n\"trial\":[{\"x\":\"trial\",\"y\":\"score\",\"series\":[{\"name\":\"score\","
               "\"p\":[");
    for (size_t i = 0; i < n; i++) {
        report_putf(o, "%s%" PRIu32 ",", i ? "," : "", b->trial[i].number);
        report_html_json_num(o, b->trial[i].score);
    }
    report_put(o, "],\"fail\":[");
    for (size_t i = 0; i < n; i++) report_putf(o, "%s%d", i ? "," : "", b->trial[i].fails);
    report_put(o, "]},{\"name\":\"threshold\",\"dash\":1,\"p\":[");
    for (size_t i = 0; i < n; i++) {
        report_putf(o, "%s%" PRIu32 ",", i ? "," : "", b->trial[i].number);
        report_html_json_num(o, b->trial[i].threshold);
    }
    report_put(o, "]}]}]");
}
