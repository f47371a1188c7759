#include <stdio.h>
#include <string.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"
#include "drift/compare.h"

enum { KEY_FIXTURE = 1024, KEY_TOP_K, KEY_NRMSE, KEY_RMS, KEY_SAME };

typedef struct args {
    cmd_outputs outputs;
    cmd_list run;
    drift_compare_options compare;
} args;

static const struct argp_option options[] = {
    {"fixture", KEY_FIXTURE, "ID", 0, "only this fixture", 0},
    {"top-k", KEY_TOP_K, "K", 0, "length of the top lists, at least 20 (default)", 0},
    {"max-nrmse", KEY_NRMSE, "X", 0,
     "taps at or below it are within the floor (default 0: equal bits)", 0},
    {"max-logit-rms", KEY_RMS, "X", 0, "the same for the rms of logits", 0},
    {"allow-same-rows", KEY_SAME, 0, 0,
     "do not refuse when both sides executed the same rows (repeat runs)", 0},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    switch (key) {
    case ARGP_KEY_INIT:
        s->child_inputs[0] = &a->outputs;
        return 0;
    case KEY_FIXTURE:
        a->compare.fixture = arg;
        return 0;
    case KEY_TOP_K:
        a->compare.top_k = (uint32_t)cmd_number(s, "--top-k", arg, 1 << 20);
        if (a->compare.top_k < 20) argp_error(s, "--top-k: found %s, wanted at least 20", arg);
        return 0;
    case KEY_NRMSE:
        a->compare.max_nrmse = cmd_real(s, "--max-nrmse", arg);
        return 0;
    case KEY_RMS:
        a->compare.max_logit_rms = cmd_real(s, "--max-logit-rms", arg);
        return 0;
    case KEY_SAME:
        a->compare.allow_same_rows = true;
        return 0;
    case ARGP_KEY_ARG:
        if (!cmd_list_add(&a->run, arg)) argp_error(s, "too many run files");
        return 0;
    case ARGP_KEY_END:
        if (a->run.n < 2) argp_error(s, "give two or more run files, the reference first");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&cmd_outputs_argp, 0, "Reports:", 3}, {0}};
static const struct argp argp = {
    options,
    parse,
    "REFERENCE.h5 CANDIDATE.h5...",
    "Compares each candidate with the reference, tap by tap in execution order, and gives a "
    "verdict: same bits, within the floor, drift, inconclusive, not comparable.",
    children,
    NULL,
    NULL};

static ds4_status compare_one(const args *a, const drift_run *reference, size_t i,
                              const char *command, int *code, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_run *candidate = NULL;
    drift_result *r = NULL;
    char suffix[24] = "";

    TRY(drift_run_open(&candidate, a->run.at[i], err));
    TRY(drift_result_new(&r, err));
    r->command = drift_result_str(r, command);
    TRY(drift_compare(r, reference, candidate, &a->compare, err));
    if (a->run.n > 2) snprintf(suffix, sizeof suffix, "-%zu", i);
    cmd_progress_end();
    TRY(cmd_outputs_write(r, &a->outputs, suffix, err));
    int c = drift_verdict_exit_code(r->verdict);
    if (c && (!*code || c == 1)) *code = c;
out:
    drift_result_free(r);
    drift_run_close(candidate);
    return st;
}

int cmd_compare(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {.compare = {.top_k = 20, .n_thread = 1}};
    drift_run *reference = NULL;
    int code = 0;

    cmd_parse(&argp, argc, argv, &a);
    drift_progress p = cmd_progress();
    a.compare.progress = p.tell, a.compare.user = p.user;
    TRY(drift_run_open(&reference, a.run.at[0], err));
    for (size_t i = 1; i < a.run.n; i++)
        TRY(compare_one(&a, reference, i, cmd_replay(), &code, err));
out:
    drift_run_close(reference);
    return st == DS4_OK ? code : cmd_fail("compare", st, err);
}
