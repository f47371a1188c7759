/* One self-contained page: nothing is fetched, tables are plain HTML that works without
 * scripts, and charts are drawn by the embedded Chart.js from one block of JSON. Every string
 * of a result goes through report_put_xml or report_put_json. The page order is that of the
 * questions: verdict, what differed in the configuration, where, how much, what ran. */
#include "reports/html.h"

#include <inttypes.h>
#include <math.h>
#include <string.h>

void report_html_cell(report_out *o, const char *s) {
    report_put(o, "<td>"), report_put_xml(o, s);
}

void report_html_cell_num(report_out *o, double v) {
    report_put(o, "<td class=n>"), report_put_num(o, v, 4);
}

void report_html_cell_count(report_out *o, uint64_t v) {
    report_putf(o, "<td class=n>%" PRIu64, v);
}

void report_html_badge(report_out *o, drift_verdict v) {
    static const char *const look[][2] = {
        [DRIFT_SAME_BITS] = {"good", "="},    [DRIFT_WITHIN_FLOOR] = {"good", "≈"},
        [DRIFT_DRIFT] = {"bad", "≠"},         [DRIFT_NOT_COMPARABLE] = {"warn", "⊘"},
        [DRIFT_INCONCLUSIVE] = {"warn", "?"},
    };
    report_put(o, "<span class=\"badge "), report_put(o, look[v][0]);
    report_put(o, "\"><span aria-hidden=true>"), report_put(o, look[v][1]);
    report_put(o, "</span> "), report_put_xml(o, drift_verdict_text(v));
    report_put(o, "</span>");
}

void report_html_figure(report_out *o, const char *key, size_t index, const char *label,
                        const char *caption) {
    report_putf(o,
                "<figure class=chart data-key=%s data-i=%zu><div class=canvas>"
                "<canvas role=img aria-label=\"",
                key, index);
    report_put_xml(o, label);
    report_put(o, "\"></canvas></div><figcaption>");
    report_put_xml(o, caption), report_put(o, "</figcaption></figure>\n");
}

void report_html_json_num(report_out *o, double v) {
    if (isfinite(v)) report_put_num(o, v, 5);
    else report_put(o, "null");
}

static void put_code(report_out *o, const char *label, const char *code) {
    if (!code || !*code) return;
    report_put(o, "<div class=code><h2 class=label>"), report_put(o, label);
    report_put(o, "</h2><pre tabindex=0>"), report_put_xml(o, code);
    report_put(o, "</pre></div>\n");
}

static void put_meta(report_out *o, const char *name, const char *value) {
    if (!value || !*value) return;
    report_put(o, "<div><dt>"), report_put(o, name), report_put(o, "</dt><dd>");
    report_put_xml(o, value), report_put(o, "</dd></div>");
}

static void put_header(report_out *o, const drift_result *r) {
    report_put(o, "<header class=top><p class=verdict>");
    report_html_badge(o, r->verdict);
    report_put(o, "</p><h1>"), report_put_xml(o, r->title),
        report_put(o, "</h1><p class=lead>");
    report_put_xml(o, r->summary), report_put(o, "</p>\n<dl class=meta>");
    put_meta(o, "Kind", r->kind), put_meta(o, "Created", r->created);
    put_meta(o, "Tool", r->tool), report_put(o, "</dl>\n");
    put_code(o, "Command", r->command);
    if (r->bisect) put_code(o, "Replay the search", r->bisect->replay);
    if (r->same_rows)
        report_put(
            o, "<p class=notice role=note><strong>No evidence.</strong> Both sides executed "
               "the same rows everywhere: whatever this comparison shows says nothing "
               "about the change that it was meant to test.</p>\n");
    report_put(o, "</header>\n");
}

/* ---- provenance ---- */

static bool is_separator(char c) { return strchr(" \t\r\n,;", c) != NULL; }

static bool has_word(const char *s, const char *w, size_t n) {
    for (const char *p = s ? s : ""; *p;) {
        size_t k = 0;
        while (p[k] && !is_separator(p[k])) k++;
        if (k == n && !memcmp(p, w, n)) return true;
        p += k;
        while (*p && is_separator(*p)) p++;
    }
    return false;
}

/* Prints s and marks its words that other lacks. Cut after max bytes at a word's end. */
static void put_marked(report_out *o, const char *s, const char *other, size_t max) {
    char word[1024];
    const char *start = s;
    while (s && *s) {
        size_t k = 0;
        while (s[k] && !is_separator(s[k]) && k < sizeof word - 1) k++;
        if (k) {
            bool mark = other && !has_word(other, s, k);
            memcpy(word, s, k), word[k] = 0;
            report_put(o, mark ? "<mark>" : ""), report_put_xml(o, word);
            report_put(o, mark ? "</mark>" : "");
            s += k;
        }
        char sep[2] = {*s && is_separator(*s) ? *s : 0, 0};
        report_put_xml(o, sep);
        if (sep[0]) s++;
        if (*s && (size_t)(s - start) > max) {
            report_put(o, " … (the JSON report has the rest)");
            return;
        }
    }
}

/* The k-th fact of that key, because keys such as a variant's may repeat. */
static const drift_pair *fact_of(const drift_side *s, const char *key, size_t k) {
    for (size_t i = 0; i < s->n_fact; i++)
        if (report_str_eq(s->fact[i].key, key) && k-- == 0) return &s->fact[i];
    return NULL;
}

static size_t nth_of_key(const drift_side *s, size_t i) {
    size_t k = 0;
    for (size_t j = 0; j < i; j++) k += report_str_eq(s->fact[j].key, s->fact[i].key);
    return k;
}

static bool is_config(const char *key) {
    static const char *const word[] = {"plan",  "variant", "set",   "env",
                                       "route", "profile", "engine"};
    for (size_t i = 0; key && i < sizeof word / sizeof *word; i++)
        if (strstr(key, word[i])) return true;
    return false;
}

static void put_fact(report_out *o, const drift_pair *a, const drift_pair *b, bool differs) {
    const char *none = "<i class=none>absent</i>";
    report_put(o, differs ? "<tr class=diff>" : "<tr>");
    report_put(o, "<th scope=row>"), report_put_xml(o, a ? a->key : b->key);
    if (differs) report_put(o, " <span class=tag>differs</span>");
    report_put(o, "</th><td class=fact>");
    if (a) put_marked(o, a->value, differs && b ? b->value : NULL, 4000);
    else report_put(o, none);
    report_put(o, "</td><td class=fact>");
    if (b) put_marked(o, b->value, differs && a ? a->value : NULL, 4000);
    else report_put(o, none);
    report_put(o, "</td></tr>\n");
}

enum { DIFFERS_CONFIG, DIFFERS, ALONE, EQUAL };

/* ALONE: on one side only, and no answer to what ran where: most of what a device tells of
 * itself when the other side has none. */
static int class_of(const drift_pair *x, const drift_pair *y) {
    if (y && report_str_eq(x->value, y->value)) return EQUAL;
    if (is_config(x->key)) return DIFFERS_CONFIG;
    return y || report_str_eq(x->key, "device") || report_str_eq(x->key, "driver") ? DIFFERS
                                                                                   : ALONE;
}

/* Prints, or with o NULL counts, the facts of one class. */
static size_t facts_of_class(report_out *o, const drift_result *r, int wanted) {
    size_t n = 0;
    for (int side = 0; side < 2; side++) {
        const drift_side *s = &r->side[side], *t = &r->side[!side];
        for (size_t i = 0; i < s->n_fact; i++) {
            const drift_pair *x = &s->fact[i], *y = fact_of(t, x->key, nth_of_key(s, i));
            if (side && y) continue; /* printed with side a */
            int class = class_of(x, y);
            if (class != wanted) continue;
            if (o) put_fact(o, side ? y : x, side ? x : y, class < ALONE);
            n++;
        }
    }
    return n;
}

static void open_facts(report_out *o, const drift_result *r, const char *caption) {
    report_put(o, "<div class=scroll tabindex=0><table class=facts><caption>");
    report_put(o, caption), report_put(o, "</caption><thead><tr><th scope=col>Fact</th>");
    for (int i = 0; i < 2; i++) {
        report_putf(o, "<th scope=col>%c: ", "ab"[i]);
        report_put_xml(o, r->side[i].label);
        if (r->side[i].path)
            report_put(o, "<br><small>"), report_put_xml(o, r->side[i].path),
                report_put(o, "</small>");
        report_put(o, "</th>");
    }
    report_put(o, "</tr></thead><tbody>\n");
}

static void put_folded(report_out *o, const drift_result *r, int class, const char *which,
                       const char *caption) {
    size_t n = facts_of_class(NULL, r, class);
    if (!n) return;
    report_putf(o, "<details><summary>%zu facts %s</summary>", n, which);
    open_facts(o, r, caption), facts_of_class(o, r, class);
    report_put(o, "</tbody></table></div></details>\n");
}

static void put_provenance(report_out *o, const drift_result *r) {
    if (!r->side[0].n_fact && !r->side[1].n_fact && !r->side[0].path) return;
    size_t n_config = facts_of_class(NULL, r, DIFFERS_CONFIG);
    size_t n_diff = n_config + facts_of_class(NULL, r, DIFFERS);
    report_put(o, "<section id=provenance><h2>What was compared</h2>\n");
    open_facts(o, r,
               n_diff ? "Differences, effective configuration first; words that only one "
                        "side has are marked"
                      : "The recorded configuration of both sides is the same");
    facts_of_class(o, r, DIFFERS_CONFIG), facts_of_class(o, r, DIFFERS);
    report_put(o, "</tbody></table></div>\n");
    put_folded(o, r, ALONE, "that one side alone has", "Facts of one side");
    put_folded(o, r, EQUAL, "equal on both sides", "Equal facts");
    report_put(o, "</section>\n");
}

/* ---- fixtures ---- */

static void put_first(report_out *o, const drift_tensor *t) {
    if (!t) {
        report_put(o, "<td><td><td class=n><td class=n><td>");
        return;
    }
    report_put(o, "<td><code>"), report_put_xml(o, t->tap), report_put(o, "</code>");
    report_html_cell(o, t->op);
    if (t->layer < 0) report_put(o, "<td class=n>io");
    else report_putf(o, "<td class=n>%" PRId32, t->layer);
    if (t->first_pos < 0) report_put(o, "<td class=n>");
    else report_putf(o, "<td class=n>%" PRId64, t->first_pos);
    report_put(o, "<td>"), report_put_xml(o, t->row_a), report_put(o, " → ");
    report_put_xml(o, t->row_b);
}

static void put_fixture_logits(report_out *o, const drift_logits *l) {
    if (!l) {
        report_put(o, "<td class=n><td class=n><td class=n><td class=n><td class=n>");
        return;
    }
    report_put(o, "<td class=n>");
    if (!isnan(l->same_top1)) report_putf(o, "%.2f %%", 100 * l->same_top1);
    report_html_cell_num(o, l->rms_mean), report_html_cell_num(o, l->rms_max);
    report_html_cell_num(o, l->kl_mean), report_html_cell_num(o, l->kl_max);
}

static void put_fixtures(report_out *o, const drift_result *r) {
    if (!r->n_fixture) return;
    report_put(o, "<section id=fixtures><h2>Fixtures</h2>\n<div class=scroll tabindex=0>"
                  "<table class=sort><caption>Verdict, first divergence in execution order and "
                  "logits of each fixture. Layer io: embedding or output head; KL in nats."
                  "</caption><thead><tr>");
    static const char *const head[] = {
        "Fixture",  "Verdict", "Tokens",   "Decoded", "First divergence",
        "Op",       "Layer",   "Position", "Rows",    "Same top-1",
        "RMS mean", "RMS max", "KL mean",  "KL max"};
    for (size_t i = 0; i < sizeof head / sizeof *head; i++)
        report_put(o, "<th scope=col>"), report_put(o, head[i]), report_put(o, "</th>");
    report_put(o, "</tr></thead><tbody>\n");
    for (size_t i = 0; i < r->n_fixture; i++) {
        const drift_fixture *f = &r->fixture[i];
        report_put(o, "<tr><th scope=row>"), report_put_xml(o, f->id),
            report_put(o, "</th><td>");
        report_html_badge(o, f->verdict);
        report_html_cell_count(o, f->n_tok), report_html_cell_count(o, f->n_decode);
        put_first(o, report_first_of(r, f));
        put_fixture_logits(o, report_logits_of(r, f->id));
        report_put(o, "</tr>\n");
    }
    report_put(o, "</tbody></table></div></section>\n");
}

/* ---- the page ---- */

static void put_head(report_out *o, const drift_result *r) {
    report_put(o, "<!DOCTYPE html>\n<html lang=en class=plain>\n<head>\n<meta charset=utf-8>\n"
                  "<meta name=viewport content=\"width=device-width, initial-scale=1\">\n"
                  "<meta name=color-scheme content=\"light dark\">\n"
                  "<meta name=generator content=ds4-drift>\n"
                  /* The page promises to fetch nothing; here the browser holds it to that. */
                  "<meta http-equiv=Content-Security-Policy content=\"default-src 'none'; "
                  "style-src 'unsafe-inline'; script-src 'unsafe-inline'; base-uri 'none'; "
                  "form-action 'none'\">\n<title>");
    report_put_xml(o, drift_verdict_text(r->verdict)), report_put(o, ": ");
    report_put_xml(o, r->title), report_put(o, "</title>\n<style>\n");
    report_html_css(o);
    report_put(o,
               "</style>\n<script>document.documentElement.className='js'</script>\n</head>\n");
}

static void put_nav(report_out *o, const drift_result *r) {
    const struct {
        bool show;
        const char *id, *name;
    } entry[] = {
        {r->bisect, "search", "Search"},
        {r->side[0].n_fact || r->side[1].n_fact, "provenance", "What was compared"},
        {r->n_fixture, "fixtures", "Fixtures"},
        {r->n_tensor, "drift", "Drift by layer and tap"},
        {r->n_logits, "logits", "Logits"},
        {r->n_executed || r->n_coverage, "rows", "Executed rows"},
    };
    report_put(o, "<nav aria-label=Sections><ul>");
    for (size_t i = 0; i < sizeof entry / sizeof *entry; i++)
        if (entry[i].show)
            report_putf(o, "<li><a href=\"#%s\">%s</a></li>", entry[i].id, entry[i].name);
    report_put(o, "</ul></nav>\n");
}

static void put_data(report_out *o, const drift_result *r) {
    report_put(o, "<script type=application/json id=data>{\"v\":1");
    report_html_boundary_data(o, r);
    report_html_logits_data(o, r);
    if (r->bisect) report_html_bisect_data(o, r->bisect);
    report_put(o, "}</script>\n");
}

/* The terms under which Chart.js and the colour library inside it may be passed on. */
static const char chart_licence[] =
    "Chart.js: Copyright (c) 2014-2022 Chart.js Contributors. @kurkle/color: Copyright (c) "
    "2018-2021 Jukka Kurkela.</p><p>Permission is hereby granted, free of charge, to any person "
    "obtaining a copy of this software and associated documentation files (the \"Software\"), to "
    "deal in the Software without restriction, including without limitation the rights to use, "
    "copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, "
    "and to permit persons to whom the Software is furnished to do so, subject to the following "
    "conditions:</p><p>The above copyright notice and this permission notice shall be included in "
    "all copies or substantial portions of the Software.</p><p>THE SOFTWARE IS PROVIDED \"AS IS\", "
    "WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE "
    "WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO "
    "EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER "
    "LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN "
    "CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.";

ds4_status report_write_html(const drift_result *r,
                             bool (*emit)(void *user, const char *p, size_t n), void *user,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    report_out o;
    report_out_init(&o, emit, user);
    put_head(&o, r);
    report_put(&o,
               "<body>\n<a class=skip href=\"#main\">Skip to the report</a>\n<main id=main>\n");
    put_header(&o, r);
    put_nav(&o, r);
    if (r->bisect) report_html_bisect(&o, r->bisect);
    put_provenance(&o, r);
    put_fixtures(&o, r);
    if (r->n_tensor) {
        report_put(&o, "<section id=drift><h2>Drift by layer and tap</h2>\n");
        report_html_boundary(&o, r);
        TRY(report_html_drift(&o, r, err));
        report_put(&o, "</section>\n");
    }
    TRY(report_html_logits(&o, r, err));
    TRY(report_html_rows(&o, r, err));
    report_put(&o,
               "</main>\n<footer><p>One self-contained file; it fetches nothing. NRMSE is the "
               "RMS of the difference over the RMS of side a. Empty cells were not measured."
               "</p><details><summary>Licence of the chart library</summary><p>");
    report_put(&o, chart_licence), report_put(&o, "</p></details></footer>\n");
    report_put(&o, "<div id=tip role=tooltip hidden></div>\n");
    put_data(&o, r);
    report_put(&o, "<script>"), report_html_chart(&o), report_put(&o, "</script>\n<script>");
    report_html_js(&o), report_put(&o, "</script>\n</body>\n</html>\n");
    st = report_out_fini(&o, "html", err);
out:
    return st;
}
