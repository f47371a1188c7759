/* Logits by position: two charts and the worst positions of each fixture. A chart has at most
 * MAX_POINT points, each the largest value of a bucket of positions, so that no peak is lost.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "engine/base/mem.h"
#include "reports/html.h"

enum { MAX_POINT = 400, MAX_CHART = 40, MAX_POS = 24, MAX_DELTA = 3 };

static double kl_of(const drift_logit *l) { return isnan(l->kl_ab) ? -1 : l->kl_ab; }

static int by_kl(const void *pa, const void *pb) {
    const drift_logit *a = *(const drift_logit *const *)pa,
                      *b = *(const drift_logit *const *)pb;
    double x = kl_of(a), y = kl_of(b);
    if (x != y) return x > y ? -1 : 1;
    if (a->rms != b->rms) return a->rms > b->rms ? -1 : 1;
    return a < b ? -1 : a > b;
}

static void put_token(report_out *o, int32_t token) {
    if (token < 0) report_put(o, "<td class=n>");
    else report_putf(o, "<td class=n>%" PRId32, token);
}

static void put_position(report_out *o, const drift_logit *l) {
    report_putf(o, "<tr><th scope=row class=n>%" PRIu32 "</th>", l->pos);
    put_token(o, l->token), put_token(o, l->next);
    report_html_cell_num(o, l->kl_ab), report_html_cell_num(o, l->kl_ba);
    report_html_cell_num(o, l->js), report_html_cell_num(o, l->tv);
    report_html_cell_num(o, l->rms), report_html_cell_num(o, l->max_abs);
    put_token(o, l->top1_a);
    report_putf(o, l->same_top1 ? "<td class=n>%" PRId32 : "<td class=\"n chg\">%" PRId32,
                l->top1_b);
    report_html_cell_num(o, l->margin_a), report_html_cell_num(o, l->margin_b);
    report_html_cell_num(o, l->logp_next_a), report_html_cell_num(o, l->logp_next_b);
    report_putf(o, "<td class=n>%" PRIu32 "/5<td class=n>%" PRIu32 "/20", l->top5_overlap,
                l->top20_overlap);
    report_html_cell_count(o, l->max_rank_delta);
    report_html_cell_count(o, l->rank_displacement);
    report_html_cell_count(o, l->n_nonfinite);
    report_put(o, "<td class=deltas>");
    for (uint32_t i = 0; i < l->n_largest && i < MAX_DELTA; i++) {
        const drift_delta *d = &l->largest[i];
        report_put(o, i ? "; " : "");
        report_putf(o, "%" PRId32, d->token);
        if (d->text && *d->text)
            report_put(o, " <q>"), report_put_xml(o, d->text), report_put(o, "</q>");
        report_put(o, " "), report_put_num(o, d->a, 5);
        report_put(o, " → "), report_put_num(o, d->b, 5);
    }
    report_put(o, "\n");
}

static ds4_status put_positions(report_out *o, const drift_logits *l, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_logit **list = NULL;
    size_t n_show = l->n < MAX_POS ? l->n : MAX_POS;
    TRY(ds4_mem_alloc(&list, l->n, sizeof *list, err));
    for (size_t i = 0; i < l->n; i++) list[i] = &l->at[i];
    qsort(list, l->n, sizeof *list, by_kl);
    report_put(o, "<div class=\"scroll tall\" tabindex=0><table class=sort><caption>");
    if (n_show < l->n)
        report_putf(o,
                    "The %zu of %zu positions with the largest KL, then RMS; the CSV and JSON "
                    "reports have all. ",
                    n_show, l->n);
    else report_putf(o, "All %zu positions by KL, then RMS. ", l->n);
    report_put(o, "Token ids; KL in nats; a marked top-1 differs.</caption><thead><tr>");
    static const char *const head[] = {
        "Position",     "Token",        "Next",
        "KL a‖b",       "KL b‖a",       "JS",
        "TV",           "RMS",          "Max abs",
        "Top-1 a",      "Top-1 b",      "Margin a",
        "Margin b",     "log p next a", "log p next b",
        "Top-5",        "Top-20",       "Rank delta",
        "Displacement", "Non-finite",   "Largest differences (a → b)"};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        report_put(o, "<th scope=col>"), report_put(o, head[i]), report_put(o, "</th>");
    report_put(o, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < n_show; i++) put_position(o, list[i]);
    report_put(o, "</tbody></table></div>\n");
out:
    ds4_mem_free(list);
    return st;
}

static void put_stat(report_out *o, const char *name, double v, double scale,
                     const char *unit) {
    if (isnan(v)) return;
    report_put(o, "<div><dt>"), report_put(o, name), report_put(o, "</dt><dd>");
    report_put_num(o, v * scale, 4), report_put(o, unit), report_put(o, "</dd></div>");
}

static void put_stats(report_out *o, const drift_logits *l) {
    report_put(o, "<dl class=meta>");
    put_stat(o, "Same top-1", l->same_top1, 100, " %");
    put_stat(o, "RMS median", l->rms_median, 1, ""),
        put_stat(o, "RMS mean", l->rms_mean, 1, "");
    put_stat(o, "RMS max", l->rms_max, 1, ""), put_stat(o, "Max abs", l->max_abs, 1, "");
    put_stat(o, "KL median", l->kl_median, 1, ""), put_stat(o, "KL mean", l->kl_mean, 1, "");
    put_stat(o, "KL max", l->kl_max, 1, "");
    put_stat(o, "Least top-5 overlap", (double)l->min_top5, 1, "");
    put_stat(o, "Least top-20 overlap", (double)l->min_top20, 1, "");
    put_stat(o, "Largest rank delta", (double)l->max_rank, 1, "");
    report_put(o, "</dl>\n");
}

static bool any_positive(const drift_logits *l) {
    for (size_t i = 0; i < l->n; i++)
        if (l->at[i].rms > 0 || l->at[i].kl_ab > 0) return true;
    return false;
}

ds4_status report_html_logits(report_out *o, const drift_result *r, ds4_err *err) {
    if (!r->n_logits) return DS4_OK;
    size_t i_open = 0;
    for (size_t i = r->n_logits; i-- > 0;)
        if (any_positive(&r->logits[i])) i_open = i;
    report_put(o, "<section id=logits><h2>Logits by position</h2>\n");
    for (size_t i = 0; i < r->n_logits; i++) {
        const drift_logits *l = &r->logits[i];
        report_put(o, i == i_open ? "<details class=fx open><summary><h3>"
                                  : "<details class=fx><summary><h3>");
        report_put_xml(o, l->fixture);
        report_putf(o, "</h3> <span class=hint>%zu positions</span></summary>\n", l->n);
        put_stats(o, l);
        if (!any_positive(l)) {
            report_put(o, "<p>The logits of all positions are equal.</p>\n");
        } else if (i >= MAX_CHART) {
            report_put(o, "<p class=hint>No chart: the page has its fill of them.</p>\n");
        } else {
            char note[160];
            size_t bucket = (l->n + MAX_POINT - 1) / MAX_POINT;
            if (bucket > 1)
                snprintf(note, sizeof note,
                         "By position, logarithmic; each point is the largest "
                         "of %zu positions. Zero and infinity have no point.",
                         bucket);
            else
                snprintf(note, sizeof note,
                         "By position, logarithmic. Zero and infinity have "
                         "no point.");
            report_put(o, "<div class=pair>\n");
            report_html_figure(o, "rms", i, "RMS of the logit difference by position", note);
            report_html_figure(o, "kl", i, "KL divergence by position", note);
            report_put(o, "</div>\n");
        }
        ds4_status st = put_positions(o, l, err);
        report_put(o, "</details>\n");
        if (st != DS4_OK) return st;
    }
    report_put(o, "</section>\n");
    return DS4_OK;
}

static void put_series(report_out *o, const drift_logits *l, bool kl) {
    size_t bucket = (l->n + MAX_POINT - 1) / MAX_POINT;
    report_put(o, "{\"x\":\"position\",\"y\":");
    report_put(o, kl ? "\"KL (nats)\",\"series\":[{\"name\":\"KL a‖b\",\"p\":["
                     : "\"RMS\",\"series\":[{\"name\":\"RMS\",\"p\":[");
    for (size_t i = 0; i < l->n; i += bucket) {
        size_t best = i;
        for (size_t k = i; k < l->n && k < i + bucket; k++) {
            double v = kl ? l->at[k].kl_ab : l->at[k].rms;
            double w = kl ? l->at[best].kl_ab : l->at[best].rms;
            if (v > w || isnan(w)) best = k;
        }
        report_putf(o, "%s%" PRIu32 ",", i ? "," : "", l->at[best].pos);
        report_html_json_num(o, kl ? l->at[best].kl_ab : l->at[best].rms);
    }
    report_put(o, "]}]}");
}

void report_html_logits_data(report_out *o, const drift_result *r) {
    size_t n = r->n_logits < MAX_CHART ? r->n_logits : MAX_CHART;
    for (int kl = 0; kl < 2; kl++) {
        report_put(o, kl ? ",\n\"kl\":[" : ",\n\"rms\":[");
        for (size_t i = 0; i < n; i++) {
            report_put(o, i ? ",\n" : "\n");
            put_series(o, &r->logits[i], kl);
        }
        report_put(o, "]");
    }
}
