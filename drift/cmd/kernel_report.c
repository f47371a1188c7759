#include "drift/cmd/kernel_report.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/ds4.h"
#include "reports/out.h"

const char *const kernel_source_name[DS4_SUITE_SOURCES] = {"listed", "edges", "captured"};

static const char tool[] = "ds4-drift " DS4_VERSION;
static const char *const state_name[] = {"ok", "breach", "not covered", "not exercised"};

/* What every format says of a row. */
typedef struct line {
    const ds4_suite_row *row;
    ds4_suite_state state;
    char why[200];
    const char *equal; /* "yes", "no" or "not exercised" */
    const char
        *replay; /* the case to paste: of a breach, else the worst; "": every bit equal */
} line;

static line line_of(const kernel_report *r, uint32_t i) {
    line l = {.row = ds4_suite_row_at(r->suite, i)};
    l.state = ds4_suite_judge(l.row, r->whole, l.why, sizeof l.why);
    l.equal = !l.row->n_run ? "not exercised" : l.row->n_differ ? "no" : "yes";
    l.replay = l.row->n_fail ? l.row->failed : l.row->n_differ ? l.row->worst : "";
    return l;
}

uint32_t kernel_report_count(const kernel_report *r, ds4_suite_state state) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < ds4_suite_n_row(r->suite); i++) n += line_of(r, i).state == state;
    return n;
}

static uint32_t n_bad(const kernel_report *r) {
    return kernel_report_count(r, DS4_SUITE_BREACH) +
           kernel_report_count(r, DS4_SUITE_UNCOVERED);
}

static const char *op_of(const line *l) { return ds4_op_table[l->row->op].name; }

/* ---- text ---- */

static void put_text(report_out *o, const kernel_report *r) {
    report_put(o, "device   "), report_put(o, r->device), report_put(o, "\ndriver   ");
    report_put(o, r->driver), report_put(o, "\ncaptured "), report_put(o, r->captured);
    report_putf(o, "\n\n%-13s %-18s %6s %5s %8s %6s %10s %9s  %-12s %-19s %s\n", "op", "row",
                "listed", "edges", "captured", "runs", "worst ulp", "nrmse", "bound", "cause",
                "equal bits");
    for (uint32_t i = 0; i < ds4_suite_n_row(r->suite); i++) {
        line l = line_of(r, i);
        const ds4_suite_row *w = l.row;
        report_putf(o, "%-13s %-18s %6u %5u %8u %6u ", op_of(&l), w->info->name, w->n_case[0],
                    w->n_case[1], w->n_case[2], w->n_run);
        if (w->n_run) report_putf(o, "%10u %9.2e", w->ulp, w->nrmse);
        else report_putf(o, "%10s %9s", "-", "-");
        report_putf(o, "  %-12s %-19s %s\n", w->info->bound, w->info->cause, l.equal);
        if (l.state == DS4_SUITE_LACKING) report_putf(o, "    %s\n", l.why);
        else if (l.state != DS4_SUITE_CLEAN)
            report_putf(o, "    %s: %s\n", state_name[l.state], l.why);
        if (*l.replay)
            report_put(o, "    --case '"), report_put(o, l.replay), report_put(o, "'\n");
    }
    report_putf(
        o,
        "\n%s: %u rows within their bounds, %u beyond, %u not covered, %u not exercised "
        "(the device or this build lacks what they need)\n",
        n_bad(r) ? "FAIL" : "ok", kernel_report_count(r, DS4_SUITE_CLEAN),
        kernel_report_count(r, DS4_SUITE_BREACH), kernel_report_count(r, DS4_SUITE_UNCOVERED),
        kernel_report_count(r, DS4_SUITE_LACKING));
}

/* ---- CSV ---- */

static void put_csv(report_out *o, const kernel_report *r) {
    report_put(o, "op,row,bound,cause,state,why,listed,edges,captured,hard,runs,refused,differ,"
                  "beyond,worst_ulp,worst_nrmse,equal_bits,case\r\n");
    for (uint32_t i = 0; i < ds4_suite_n_row(r->suite); i++) {
        line l = line_of(r, i);
        const ds4_suite_row *w = l.row;
        const char *const text[] = {op_of(&l),      w->info->name,       w->info->bound,
                                    w->info->cause, state_name[l.state], l.why};
        for (size_t k = 0; k < sizeof text / sizeof *text; k++)
            report_put_csv(o, text[k]), report_put(o, ",");
        report_putf(o, "%u,%u,%u,%u,%u,%u,%u,%u,", w->n_case[0], w->n_case[1], w->n_case[2],
                    w->n_hard, w->n_run, w->n_refused, w->n_differ, w->n_fail);
        if (w->n_run) report_putf(o, "%u,", w->ulp), report_put_num(o, w->nrmse, 9);
        else report_put(o, ",");
        report_put(o, ","), report_put_csv(o, l.equal), report_put(o, ",");
        report_put_csv(o, l.replay), report_put(o, "\r\n");
    }
}

/* ---- JSON ---- */

static void put_field(report_out *o, const char *name, const char *value) {
    report_putf(o, "\"%s\": ", name), report_put_json(o, value), report_put(o, ", ");
}

static void put_json(report_out *o, const kernel_report *r) {
    report_put(o, "{\n\"schema\": \"ds4-drift/kernels\", \"version\": 1,\n");
    put_field(o, "tool", tool), put_field(o, "command", r->command);
    put_field(o, "device", r->device);
    put_field(o, "driver", r->driver), put_field(o, "captured", r->captured);
    report_putf(o, "\"whole\": %s, \"verdict\": \"%s\",\n\"rows\": [",
                r->whole ? "true" : "false", n_bad(r) ? "fail" : "pass");
    for (uint32_t i = 0; i < ds4_suite_n_row(r->suite); i++) {
        line l = line_of(r, i);
        const ds4_suite_row *w = l.row;
        report_put(o, i ? ",\n  {" : "\n  {");
        put_field(o, "op", op_of(&l)), put_field(o, "row", w->info->name);
        put_field(o, "bound", w->info->bound), put_field(o, "cause", w->info->cause);
        put_field(o, "state", state_name[l.state]), put_field(o, "why", l.why);
        report_putf(
            o,
            "\"cases\": {\"listed\": %u, \"edges\": %u, \"captured\": %u, \"hard\": %u}, "
            "\"runs\": %u, \"refused\": %u, \"differ\": %u, \"beyond\": %u, ",
            w->n_case[0], w->n_case[1], w->n_case[2], w->n_hard, w->n_run, w->n_refused,
            w->n_differ, w->n_fail);
        if (!w->n_run) {
            report_put(o, "\"worst_ulp\": null, \"worst_nrmse\": null, \"equal_bits\": null, ");
        } else {
            report_putf(o, "\"worst_ulp\": %u, \"worst_nrmse\": ", w->ulp);
            if (isfinite(w->nrmse)) report_put_num(o, w->nrmse, 9);
            else report_put(o, "\"inf\"");
            report_putf(o, ", \"equal_bits\": %s, ", w->n_differ ? "false" : "true");
        }
        report_put(o, "\"case\": "), report_put_json(o, l.replay), report_put(o, "}");
    }
    report_put(o, "\n]\n}\n");
}

/* ---- JUnit ---- */

static void put_property(report_out *o, const char *name, const char *value) {
    report_putf(o, "    <property name=\"%s\" value=\"", name);
    report_put_xml(o, value), report_put(o, "\"/>\n");
}

static void put_test(report_out *o, const line *l) {
    report_put(o, "  <testcase classname=\"ds4-drift.kernels."), report_put_xml(o, op_of(l));
    report_put(o, "\" name=\""), report_put_xml(o, l->row->info->name);
    report_put(o, "\" time=\"0\">\n");
    if (l->state == DS4_SUITE_LACKING) {
        report_put(o, "    <skipped message=\""), report_put_xml(o, l->why);
        report_put(o, "\"/>\n");
    } else if (l->state != DS4_SUITE_CLEAN) {
        report_putf(o, "    <failure type=\"%s\" message=\"", state_name[l->state]);
        report_put_xml(o, l->why), report_put(o, "\">");
        if (l->row->n_run)
            report_putf(o, "worst %u ulp, nrmse ", l->row->ulp),
                report_put_num(o, l->row->nrmse, 9), report_put(o, ", ");
        report_put(o, "bound "), report_put_xml(o, l->row->info->bound);
        if (*l->replay)
            report_put(o, "\nds4-drift kernels --case '"), report_put_xml(o, l->replay),
                report_put(o, "'");
        report_put(o, "\n</failure>\n");
    }
    report_put(o, "  </testcase>\n");
}

static void put_junit(report_out *o, const kernel_report *r) {
    report_put(o, "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites>\n");
    report_putf(o,
                "<testsuite name=\"ds4-drift kernels\" tests=\"%u\" failures=\"%u\" "
                "skipped=\"%u\" errors=\"0\" time=\"0\">\n  <properties>\n",
                ds4_suite_n_row(r->suite), n_bad(r), kernel_report_count(r, DS4_SUITE_LACKING));
    put_property(o, "tool", tool);
    put_property(o, "device", r->device), put_property(o, "driver", r->driver);
    put_property(o, "captured", r->captured), put_property(o, "command", r->command);
    report_put(o, "  </properties>\n");
    for (uint32_t i = 0; i < ds4_suite_n_row(r->suite); i++) {
        line l = line_of(r, i);
        put_test(o, &l);
    }
    report_put(o, "</testsuite>\n</testsuites>\n");
}

/* ---- files ---- */

typedef struct target {
    ds4_file_writer *w; /* NULL: standard output */
    ds4_err *err;
} target;

static bool emit(void *user, const char *p, size_t n) {
    target *t = user;
    return t->w ? ds4_file_writer_put(t->w, p, n, t->err) == DS4_OK
                : fwrite(p, 1, n, stdout) == n;
}

ds4_status kernel_report_write(const kernel_report *r, kernel_format format, const char *path,
                               ds4_err *err) {
    static void (*const put[])(report_out *, const kernel_report *) = {put_text, put_csv,
                                                                       put_json, put_junit};
    ds4_status st = DS4_OK;
    report_out o;
    target t = {NULL, err};

    if (strcmp(path, "-")) TRY(ds4_file_writer_open(&t.w, path, err));
    report_out_init(&o, emit, &t);
    put[format](&o, r);
    TRY(report_out_fini(&o, path, err));
    if (!t.w && fflush(stdout)) RAISE(DS4_ERR_IO, "standard output: writing failed");
    if (t.w) {
        ds4_file_writer *w = t.w;
        t.w = NULL;
        TRY(ds4_file_writer_finish(w, err));
    }
out:
    ds4_file_writer_abandon(t.w);
    return st;
}
