/* Where the drift is: a heat map per fixture (rows are taps in execution order, columns layers)
 * and the table of the tensors that differ most. A cell shows the power of ten of its NRMSE, so
 * colour is never the only carrier. Budgets keep a page of any model near a megabyte; what they
 * cut is said on the page. */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>

#include "engine/base/mem.h"
#include "reports/html.h"

#define BOUNDARY_TAP "ffn_hc_out"
enum {
    MAX_TAP = 256, /* heat map rows and columns */
    MAX_LAYER = 256,
    MAX_MAP_CELL = 40000, /* of all heat maps of a page */
    MAX_ROW = 3000,       /* of all tensor tables of a page */
    MIN_ROW = 20,         /* of one */
    MAX_SERIES = 12       /* fixtures in the layer chart */
};

typedef struct map {
    const drift_tensor *t; /* one fixture's */
    size_t n;
    const char **tap; /* [n_tap] in execution order */
    int32_t *layer;   /* [n_layer] ascending */
    size_t n_tap, n_layer;
    const drift_tensor **at; /* [n_tap][n_layer] */
    bool cut;
} map;

/* The run of tensors of the same fixture that starts at i. */
static size_t run_length(const drift_result *r, size_t i) {
    size_t n = 1;
    while (i + n < r->n_tensor && report_str_eq(r->tensor[i].fixture, r->tensor[i + n].fixture))
        n++;
    return n;
}

static size_t find_tap(const map *m, const char *tap) {
    size_t i = 0;
    while (i < m->n_tap && !report_str_eq(m->tap[i], tap)) i++;
    return i;
}

/* A tap seen first in a later layer goes behind the tap that ran before it. */
static void collect_taps(map *m) {
    size_t prev = 0;
    for (size_t i = 0; i < m->n; i++) {
        size_t k = find_tap(m, m->t[i].tap);
        if (k == m->n_tap) {
            if (m->n_tap == MAX_TAP) {
                m->cut = true;
                continue;
            }
            k = m->n_tap ? prev + 1 : 0;
            for (size_t j = m->n_tap++; j > k; j--) m->tap[j] = m->tap[j - 1];
            m->tap[k] = m->t[i].tap;
        }
        prev = k;
    }
}

static void collect_layers(map *m) {
    for (size_t i = 0; i < m->n; i++) {
        int32_t il = m->t[i].layer;
        size_t k = m->n_layer;
        while (k > 0 && m->layer[k - 1] > il) k--;
        if (k > 0 && m->layer[k - 1] == il) continue;
        if (m->n_layer == MAX_LAYER) {
            m->cut = true;
            continue;
        }
        for (size_t j = m->n_layer++; j > k; j--) m->layer[j] = m->layer[j - 1];
        m->layer[k] = il;
    }
}

static ds4_status map_init(map *m, const drift_tensor *t, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    *m = (map){.t = t, .n = n};
    TRY(ds4_mem_alloc(&m->tap, MAX_TAP, sizeof *m->tap, err));
    TRY(ds4_mem_alloc(&m->layer, MAX_LAYER, sizeof *m->layer, err));
    collect_taps(m);
    collect_layers(m);
    TRY(ds4_mem_alloc(&m->at, m->n_tap * m->n_layer, sizeof *m->at, err));
    for (size_t i = 0; i < n; i++) {
        size_t k = find_tap(m, t[i].tap), il = 0;
        while (il < m->n_layer && m->layer[il] != t[i].layer) il++;
        if (k < m->n_tap && il < m->n_layer) m->at[k * m->n_layer + il] = &t[i];
    }
out:
    return st;
}

static void map_fini(map *m) {
    ds4_mem_free(m->tap);
    ds4_mem_free(m->layer);
    ds4_mem_free(m->at);
}

/* Classes q0 .. q8: below 1e-8, then a decade each, the last from 0.1 up. */
static int heat_class(double nrmse) {
    double d = floor(log10(nrmse)) + 9;
    return d < 0 ? 0 : d > 8 ? 8 : (int)d;
}

static void put_cell(report_out *o, const drift_tensor *t) {
    if (!t) {
        report_put(o, "<td>");
        return;
    }
    bool measured = !isnan(t->nrmse) && !isinf(t->nrmse);
    if (t->state == DRIFT_TENSOR_SAME) report_put(o, "<td class=eq>=");
    else if (t->state == DRIFT_TENSOR_MISSING_A) report_put(o, "<td class=mi>b");
    else if (t->state == DRIFT_TENSOR_MISSING_B) report_put(o, "<td class=mi>a");
    else if (t->state == DRIFT_TENSOR_UNMEASURED) report_put(o, "<td class=un>?");
    else {
        /* rms, max abs, nrmse, max ulp, first position, rows: report.js shows them */
        int q = measured && t->nrmse > 0 ? heat_class(t->nrmse) : -1;
        if (t->n_bad_differs) report_put(o, "<td class=nf");
        else if (q < 0) report_put(o, "<td class=ne");
        else report_putf(o, "<td class=q%d", q);
        report_put(o, " data-d=\"");
        report_put_num(o, t->rms, 3), report_put(o, "|"), report_put_num(o, t->max_abs, 3);
        report_put(o, "|"), report_put_num(o, t->nrmse, 3);
        report_putf(o, "|%" PRIu32 "|%" PRId64 "\">", t->max_ulp, t->first_pos);
        if (t->n_bad_differs) report_put(o, "!");
        else if (q < 0) report_put(o, "≠");
        else report_putf(o, "%.0f", floor(log10(t->nrmse)));
    }
}

static void put_map(report_out *o, const map *m) {
    report_put(
        o, "<div class=\"scroll tall\" tabindex=0><table class=heat><caption>Power of ten of "
           "the NRMSE of each tap and layer</caption><thead><tr><th scope=col>tap \\ layer"
           "</th>");
    for (size_t il = 0; il < m->n_layer; il++) {
        if (m->layer[il] < 0)
            report_put(o, "<th scope=col><abbr title=\"embedding or output "
                          "head\">io</abbr></th>");
        else report_putf(o, "<th scope=col>%" PRId32 "</th>", m->layer[il]);
    }
    report_put(o, "</tr></thead><tbody>\n");
    for (size_t k = 0; k < m->n_tap; k++) {
        report_put(o, "<tr><th scope=row>"), report_put_xml(o, m->tap[k]),
            report_put(o, "</th>");
        for (size_t il = 0; il < m->n_layer; il++) put_cell(o, m->at[k * m->n_layer + il]);
        report_put(o, "\n");
    }
    report_put(o, "</tbody></table></div>\n");
    if (m->cut)
        report_putf(o, "<p class=hint>Cut at %d taps and %d layers.</p>\n", MAX_TAP, MAX_LAYER);
}

static void put_legend(report_out *o) {
    static const char *const name[] = {"&lt;1e-8", "1e-8", "1e-7", "1e-6", "1e-5",
                                       "1e-4",     "1e-3", "1e-2", "≥0.1"};
    report_put(
        o, "<div class=legend role=group aria-label=\"Legend of the heat maps\"><span>NRMSE "
           "</span>");
    for (int i = 0; i < 9; i++) report_putf(o, "<span class=\"key q%d\">%s</span>", i, name[i]);
    report_put(o,
               "<span class=\"key eq\">= same bits</span><span class=\"key ne\">≠ differs, no "
               "NRMSE</span><span class=\"key nf\">! non-finite differs</span>"
               "<span class=\"key mi\">a / b only that side has it</span>"
               "<span class=\"key un\">? not measured</span>"
               "<span class=\"key\">blank: no such tap</span></div>\n");
}

/* ---- the table ---- */

static int by_badness(const void *pa, const void *pb) {
    const drift_tensor *a = *(const drift_tensor *const *)pa,
                       *b = *(const drift_tensor *const *)pb;
    double x = report_badness(a), y = report_badness(b);
    return x > y ? -1 : x < y ? 1 : a < b ? -1 : a > b;
}

static int by_place(const void *pa, const void *pb) {
    const drift_tensor *a = *(const drift_tensor *const *)pa,
                       *b = *(const drift_tensor *const *)pb;
    return a < b ? -1 : a > b;
}

static void put_bad(report_out *o, const drift_nonfinite *b) {
    report_put(o, "<td class=n>");
    if (b->n_nan) report_putf(o, "%" PRIu64 " nan ", b->n_nan);
    if (b->n_pos_inf) report_putf(o, "%" PRIu64 " +inf ", b->n_pos_inf);
    if (b->n_neg_inf) report_putf(o, "%" PRIu64 " -inf", b->n_neg_inf);
    if (!b->n_nan && !b->n_pos_inf && !b->n_neg_inf) report_put(o, "0");
}

static void put_row(report_out *o, const drift_tensor *t, size_t order) {
    report_putf(o, "<tr><td class=n>%zu<th scope=row>", order);
    report_put_xml(o, t->tap), report_put(o, "</th>");
    if (t->layer < 0) report_put(o, "<td class=n data-v=-1>io");
    else report_putf(o, "<td class=n>%" PRId32, t->layer);
    report_html_cell(o, t->op), report_html_cell(o, t->row_a);
    report_put(o, report_str_eq(t->row_a, t->row_b) ? "<td>" : "<td class=chg>");
    report_put_xml(o, t->row_b);
    if (t->state != DRIFT_TENSOR_SAME && t->state != DRIFT_TENSOR_DIFFERENT) {
        report_put(o, "<td colspan=11 class=why>");
        report_put(o, t->state == DRIFT_TENSOR_MISSING_A   ? "only side b has it"
                      : t->state == DRIFT_TENSOR_MISSING_B ? "only side a has it"
                                                           : "not measured: ");
        if (t->state == DRIFT_TENSOR_UNMEASURED) report_put_xml(o, t->why);
        report_put(o, "\n");
        return;
    }
    report_html_cell_num(o, t->rms), report_html_cell_num(o, t->max_abs);
    report_html_cell_num(o, t->nrmse);
    report_put(o, "<td class=n>"), report_put_num(o, t->cosine, 9);
    report_html_cell_count(o, t->max_ulp);
    report_put(o, "<td class=u>");
    for (size_t i = 0; i < DRIFT_N_ULP; i++)
        report_putf(o, i ? " %" PRIu64 : "%" PRIu64, t->ulp[i]);
    report_html_cell_count(o, t->n_diff), report_html_cell_count(o, t->n_elem);
    put_bad(o, &t->bad_a), put_bad(o, &t->bad_b);
    if (t->first_pos < 0) report_put(o, "<td class=n>\n");
    else report_putf(o, "<td class=n>%" PRId64 "\n", t->first_pos);
}

static ds4_status put_table(report_out *o, const drift_tensor *t, size_t n, size_t max,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_tensor **list = NULL;
    TRY(ds4_mem_alloc(&list, n, sizeof *list, err));
    for (size_t i = 0; i < n; i++) list[i] = &t[i];
    size_t n_show = n < max ? n : max;
    if (n_show < n) {
        qsort(list, n, sizeof *list, by_badness);
        qsort(list, n_show, sizeof *list, by_place);
    }
    report_put(o,
               "<div class=\"scroll tall\" tabindex=0><table class=\"sort tensors\"><caption>");
    if (n_show < n)
        report_putf(o,
                    "The %zu of %zu tensors that differ most; the CSV and JSON reports have "
                    "all. ",
                    n_show, n);
    else report_putf(o, "All %zu tensors. ", n);
    report_put(o,
               "Bars: elements by distance in ulp, on a square-root scale: 0, 1, 2, 3–4, 5–8, "
               "9–16, 17–64, 65–1024, 1025–2<sup>20</sup>, more.</caption><thead><tr>");
    static const char *const head[] = {
        "#",      "Tap",      "Layer",        "Op",           "Row a",         "Row b",
        "RMS",    "Max abs",  "NRMSE",        "Cosine",       "Max ulp",       "Ulp",
        "Differ", "Elements", "Non-finite a", "Non-finite b", "First position"};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        report_put(o, "<th scope=col>"), report_put(o, head[i]), report_put(o, "</th>");
    report_put(o, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < n_show; i++) put_row(o, list[i], (size_t)(list[i] - t));
    report_put(o, "</tbody></table></div>\n");
out:
    ds4_mem_free(list);
    return st;
}

static void put_summary(report_out *o, const drift_result *r, const drift_tensor *t, size_t n,
                        bool open) {
    size_t n_same = 0;
    for (size_t i = 0; i < n; i++) n_same += t[i].state == DRIFT_TENSOR_SAME;
    report_put(o, open ? "<details class=fx open><summary>" : "<details class=fx><summary>");
    report_put(o, "<h3>"), report_put_xml(o, t->fixture), report_put(o, "</h3> ");
    for (size_t i = 0; i < r->n_fixture; i++)
        if (report_str_eq(r->fixture[i].id, t->fixture)) {
            report_html_badge(o, r->fixture[i].verdict);
            break;
        }
    report_putf(o, " <span class=hint>%zu of %zu tensors differ</span></summary>\n", n - n_same,
                n);
}

ds4_status report_html_drift(report_out *o, const drift_result *r, ds4_err *err) {
    size_t n_run = 0, n_cell = 0, i_open = 0;
    bool found = false;
    for (size_t i = 0; i < r->n_tensor; i += run_length(r, i), n_run++)
        for (size_t k = 0, n = run_length(r, i); k < n && !found; k++)
            if (r->tensor[i + k].state == DRIFT_TENSOR_DIFFERENT) found = true, i_open = i;
    size_t max = n_run ? MAX_ROW / n_run : 0;
    put_legend(o);
    for (size_t i = 0, n; i < r->n_tensor; i += n) {
        n = run_length(r, i);
        map m;
        ds4_status st = map_init(&m, &r->tensor[i], n, err);
        if (st == DS4_OK) {
            put_summary(o, r, m.t, n, i == i_open);
            n_cell += m.n_tap * m.n_layer;
            if (n_cell <= MAX_MAP_CELL) put_map(o, &m);
            else
                report_put(o,
                           "<p class=hint>No heat map: the page has its fill of them.</p>\n");
            report_put(o, "<h4>Tensors</h4>\n");
            st = put_table(o, m.t, n, max < MIN_ROW ? MIN_ROW : max, err);
            report_put(o, "</details>\n");
        }
        map_fini(&m);
        if (st != DS4_OK) return st;
    }
    return DS4_OK;
}

/* ---- the layer boundaries ---- */

static bool is_boundary(const drift_tensor *t) {
    return report_str_eq(t->tap, BOUNDARY_TAP) && t->layer >= 0;
}

void report_html_boundary(report_out *o, const drift_result *r) {
    bool any = false, same = false;
    for (size_t i = 0; i < r->n_tensor; i++) {
        if (!is_boundary(&r->tensor[i])) continue;
        any |= r->tensor[i].state == DRIFT_TENSOR_DIFFERENT && r->tensor[i].nrmse > 0;
        same |= r->tensor[i].state == DRIFT_TENSOR_SAME;
    }
    if (any)
        report_html_figure(o, "boundary", 0,
                           "NRMSE of the layer boundary " BOUNDARY_TAP
                           " by layer, one line per fixture; the tables below have the numbers",
                           "NRMSE of " BOUNDARY_TAP
                           " after each layer, logarithmic. Layers with "
                           "equal bits have no point. At most 12 fixtures are drawn.");
    else if (same)
        report_put(o,
                   "<p>The state after every layer (" BOUNDARY_TAP ") has equal bits.</p>\n");
}

void report_html_boundary_data(report_out *o, const drift_result *r) {
    report_put(o, ",\n\"boundary\":[{\"x\":\"layer\",\"y\":\"NRMSE\",\"series\":[");
    size_t n_series = 0;
    for (size_t i = 0, n; i < r->n_tensor && n_series < MAX_SERIES; i += n) {
        n = run_length(r, i);
        report_put(o, n_series++ ? ",\n{\"name\":" : "\n{\"name\":");
        report_put_json(o, r->tensor[i].fixture), report_put(o, ",\"p\":[");
        const char *comma = "";
        for (size_t k = i; k < i + n; k++) {
            const drift_tensor *t = &r->tensor[k];
            if (!is_boundary(t)) continue;
            report_putf(o, "%s%" PRId32 ",", comma, t->layer), comma = ",";
            report_html_json_num(o, t->state == DRIFT_TENSOR_SAME ? 0 : t->nrmse);
        }
        report_put(o, "]}");
    }
    report_put(o, "]}]");
}
