#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"
#include "reports/report.h"

typedef struct args {
    cmd_outputs outputs;
    const char *result;
} args;

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    switch (key) {
    case ARGP_KEY_INIT:
        s->child_inputs[0] = &a->outputs;
        return 0;
    case ARGP_KEY_ARG:
        if (a->result) argp_error(s, "found a second result file, wanted one: %s", arg);
        a->result = arg;
        return 0;
    case ARGP_KEY_END:
        if (!a->result) argp_error(s, "give a result file, as --json of compare writes it");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&cmd_outputs_argp, 0, "Reports:", 3}, {0}};
static const struct argp argp = {
    NULL,
    parse,
    "RESULT.json",
    "Writes reports from a result that compare or bisect stored with --json: the same bytes that "
    "they would have written themselves. The exit code tells whether they were written, not "
    "what the result says.",
    children,
    NULL,
    NULL};

int cmd_report(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {0};
    drift_result *r = NULL;

    cmd_parse(&argp, argc, argv, &a);
    TRY(report_read_json(&r, a.result, err));
    TRY(cmd_outputs_write(r, &a.outputs, "", err));
out:
    drift_result_free(r);
    return st == DS4_OK ? 0 : cmd_fail("report", st, err);
}
