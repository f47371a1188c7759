/* What ran: rows per op, tap and phase from the ledgers, with layers of the same rows folded
 * into ranges and refusals first; and the op by fixture matrix, where zero is marked, because
 * an op that never ran was not tested. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "reports/html.h"

enum { MAX_LINE = 1500, MAX_OP = 200, MAX_FIXTURE = 100 };

static int cmp(const char *a, const char *b) { return strcmp(a ? a : "", b ? b : ""); }

/* Everything but layer and calls; refusals first. */
static int by_group(const drift_executed *a, const drift_executed *b) {
    int ra = a->refusal_a || a->refusal_b, rb = b->refusal_a || b->refusal_b, c = rb - ra;
    if (!c) c = cmp(a->fixture, b->fixture);
    if (!c) c = cmp(a->op, b->op);
    if (!c) c = cmp(a->tap, b->tap);
    if (!c) c = cmp(a->phase, b->phase);
    if (!c) c = cmp(a->row_a, b->row_a);
    if (!c) c = cmp(a->row_b, b->row_b);
    if (!c) c = cmp(a->refusal_a, b->refusal_a);
    if (!c) c = cmp(a->refusal_b, b->refusal_b);
    return c;
}

static int by_group_layer(const void *pa, const void *pb) {
    const drift_executed *a = *(const drift_executed *const *)pa;
    const drift_executed *b = *(const drift_executed *const *)pb;
    int c = by_group(a, b);
    return c ? c : a->layer < b->layer ? -1 : a->layer > b->layer;
}

/* "0-3, 7" of n entries of one group, ascending; -1 prints as io. */
static void put_layers(report_out *o, const drift_executed *const *list, size_t n) {
    for (size_t i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && list[k]->layer <= list[k - 1]->layer + 1; k++) {}
        int32_t first = list[i]->layer, last = list[k - 1]->layer;
        report_put(o, i ? ", " : "");
        if (first < 0) report_put(o, last < 0 ? "io" : "io, "), first = 0;
        if (last < 0) continue;
        if (first == last) report_putf(o, "%" PRId32, first);
        else report_putf(o, "%" PRId32 "–%" PRId32, first, last);
    }
}

static void put_side(report_out *o, const char *row, const char *refusal, bool changed) {
    report_put(o, changed ? "<td class=chg>" : "<td>");
    if (row) report_put_xml(o, row);
    else report_put(o, "<i class=none>did not execute</i>");
    if (refusal)
        report_put(o, "<br><span class=refused>refused: "), report_put_xml(o, refusal),
            report_put(o, "</span>");
}

static void put_group(report_out *o, const drift_executed *const *list, size_t n) {
    const drift_executed *e = list[0];
    uint64_t n_call_a = 0, n_call_b = 0;
    for (size_t i = 0; i < n; i++) n_call_a += list[i]->n_call_a, n_call_b += list[i]->n_call_b;
    report_put(o, e->refusal_a || e->refusal_b ? "<tr class=refusal><th scope=row>"
                                               : "<tr><th scope=row>");
    report_put_xml(o, e->tap), report_put(o, "</th>");
    report_html_cell(o, e->op), report_html_cell(o, e->phase),
        report_put(o, "<td class=layers>");
    put_layers(o, list, n);
    report_html_cell(o, e->fixture);
    put_side(o, e->row_a, e->refusal_a, false);
    put_side(o, e->row_b, e->refusal_b, !report_str_eq(e->row_a, e->row_b));
    report_html_cell_count(o, n_call_a), report_html_cell_count(o, n_call_b);
    report_put(o, "\n");
}

static ds4_status put_executed(report_out *o, const drift_result *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_executed **list = NULL;
    size_t n_refused = 0, n_group = 0;
    if (!r->n_executed) return DS4_OK;
    TRY(ds4_mem_alloc(&list, r->n_executed, sizeof *list, err));
    for (size_t i = 0; i < r->n_executed; i++) list[i] = &r->executed[i];
    qsort(list, r->n_executed, sizeof *list, by_group_layer);
    for (size_t i = 0, k; i < r->n_executed; i = k, n_group++) {
        for (k = i + 1; k < r->n_executed && !by_group(list[i], list[k]); k++) {}
        n_refused += list[i]->refusal_a || list[i]->refusal_b;
    }
    report_put(o, n_refused ? "<details open><summary>" : "<details><summary>");
    report_putf(o, "Rows by call: %zu lines, ", n_group);
    if (n_refused)
        report_putf(o, "<strong class=refused>%zu with a refused row</strong>", n_refused);
    else report_put(o, "no refusals");
    report_put(
        o,
        "</summary>\n<div class=\"scroll tall\" tabindex=0><table class=sort><caption>Layers "
        "with the same rows share a line; refusals come first.");
    if (n_group > MAX_LINE) report_putf(o, " The first %d of %zu lines.", MAX_LINE, n_group);
    report_put(o, "</caption><thead><tr>");
    static const char *const head[] = {"Tap",   "Op",    "Phase",   "Layers", "Fixture",
                                       "Row a", "Row b", "Calls a", "Calls b"};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        report_put(o, "<th scope=col>"), report_put(o, head[i]), report_put(o, "</th>");
    report_put(o, "</tr></thead><tbody>\n");
    size_t n_line = 0;
    for (size_t i = 0, k; i < r->n_executed && n_line < MAX_LINE; i = k, n_line++) {
        for (k = i + 1; k < r->n_executed && !by_group(list[i], list[k]); k++) {}
        put_group(o, list + i, k - i);
    }
    report_put(o, "</tbody></table></div></details>\n");
out:
    ds4_mem_free(list);
    return st;
}

/* ---- op x fixture ---- */

static size_t add_name(const char **list, size_t n, size_t max, const char *s) {
    for (size_t i = 0; i < n; i++)
        if (report_str_eq(list[i], s)) return n;
    if (n < max) list[n++] = s;
    return n;
}

static void put_coverage_cell(report_out *o, const drift_result *r, const char *op,
                              const char *fixture) {
    uint64_t n_call = 0, n_elem = 0;
    const char *rows = NULL;
    for (size_t i = 0; i < r->n_coverage; i++) {
        const drift_coverage *c = &r->coverage[i];
        if (!report_str_eq(c->op, op) || !report_str_eq(c->fixture, fixture)) continue;
        n_call += c->n_call, n_elem += c->n_elem, rows = c->rows;
    }
    if (!n_call) {
        report_put(o, "<td class=zero><strong>0</strong> not exercised");
        return;
    }
    report_putf(o, "<td class=n title=\"%" PRIu64 " elements; rows: ", n_elem);
    report_put_xml(o, rows);
    report_putf(o, "\">%" PRIu64, n_call);
}

static void put_coverage(report_out *o, const drift_result *r) {
    const char *op[MAX_OP], *fixture[MAX_FIXTURE];
    size_t n_op = 0, n_fixture = 0;
    for (size_t i = 0; i < r->n_coverage; i++) {
        n_op = add_name(op, n_op, MAX_OP, r->coverage[i].op);
        n_fixture = add_name(fixture, n_fixture, MAX_FIXTURE, r->coverage[i].fixture);
    }
    if (!n_op) return;
    report_put(
        o, "<h3>Coverage</h3>\n<div class=\"scroll tall\" tabindex=0><table class=cover>"
           "<caption>Calls of each op in each fixture. An op that was not exercised was not "
           "compared.");
    if (n_op == MAX_OP || n_fixture == MAX_FIXTURE)
        report_putf(o, " At most %d ops and %d fixtures are shown.", MAX_OP, MAX_FIXTURE);
    report_put(o, "</caption><thead><tr><th scope=col>Op</th>");
    for (size_t i = 0; i < n_fixture; i++)
        report_put(o, "<th scope=col>"), report_put_xml(o, fixture[i]), report_put(o, "</th>");
    report_put(o, "</tr></thead><tbody>\n");
    for (size_t k = 0; k < n_op; k++) {
        report_put(o, "<tr><th scope=row>"), report_put_xml(o, op[k]), report_put(o, "</th>");
        for (size_t i = 0; i < n_fixture; i++) put_coverage_cell(o, r, op[k], fixture[i]);
        report_put(o, "\n");
    }
    report_put(o, "</tbody></table></div>\n");
}

ds4_status report_html_rows(report_out *o, const drift_result *r, ds4_err *err) {
    if (!r->n_executed && !r->n_coverage) return DS4_OK;
    report_put(o, "<section id=rows><h2>Executed rows</h2>\n");
    ds4_status st = put_executed(o, r, err);
    put_coverage(o, r);
    report_put(o, "</section>\n");
    return st;
}
