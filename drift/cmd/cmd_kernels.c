/* kernels: every row of the manifest against the scalar reference of its op, on the device. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/kernel_report.h"
#include "drift/cmd/options.h"
#include "engine/base/file.h"
#include "engine/base/float.h"
#include "engine/kernel_capture.h"

enum {
    KEY_OP = 1024,
    KEY_ROW,
    KEY_CASE,
    KEY_INPUTS,
    KEY_LIST,
    KEY_PROMPT,
    KEY_DEVICE,
    KEY_CSV,
    KEY_JSON,
    KEY_JUNIT
};

static const char bundled_model[] = "fixtures/tiny/ds4-tiny-q2.gguf";

/* Text whose calls are captured; repeated to DS4_CAPTURE_TOK tokens. */
static const char default_prompt[] =
    "The archive keeps one note per measurement: where the drift began, which kernel ran, and "
    "how many bits moved. int main(void) { return 0x7f - 3 * 17; } Il ramo del lago volge a "
    "mezzogiorno; 2^10 = 1024, and 19 of 40 rounds were ties.";

typedef struct args {
    const char *op, *row, *one; /* one: a pasted case */
    const char *model, *prompt;
    bool input[DS4_SUITE_SOURCES];
    bool list, quiet, validation;
    int32_t device;
    const char *path[4]; /* by kernel_format */
} args;

static const struct argp_option options[] = {
    {"op", KEY_OP, "OP", 0, "only rows of this op", 0},
    {"row", KEY_ROW, "ROW", 0, "only rows of this name", 0},
    {"case", KEY_CASE, "'OP__ROW KEY=VALUE...'", 0,
     "run one case again, as a failure or the table prints it, and show the first elements that "
     "differ",
     0},
    {"inputs", KEY_INPUTS, "KIND,KIND", 0,
     "listed (random and hard values of fixtures/ops), edges (one short of, at and one past each "
     "tile), captured (calls of a run of the model); default: all",
     0},
    {"list", KEY_LIST, 0, 0, "print the cases instead of running them", 0},
    {"model", 'm', "FILE", 0,
     "model whose calls are captured (default: the bundled one, fixtures/tiny/ds4-tiny-q2.gguf, "
     "where it is found)",
     1},
    {"prompt", KEY_PROMPT, "TEXT", 0, "text that the captured run evaluates", 1},
    {"device", KEY_DEVICE, "N", 0,
     "Vulkan device number (default: the first fit one, or DS4_DEVICE)", 1},
    {"csv", KEY_CSV, "FILE", 0, "a line per row of the manifest", 2},
    {"json", KEY_JSON, "FILE", 0, "the same with counts by kind of input", 2},
    {"junit", KEY_JUNIT, "FILE", 0, "JUnit XML for CI: a test case per row", 2},
    {"quiet", 'q', 0, 0, "no table on standard output", 2},
    {0}};

static void parse_inputs(struct argp_state *s, bool input[DS4_SUITE_SOURCES], const char *arg) {
    memset(input, 0, DS4_SUITE_SOURCES * sizeof *input);
    for (const char *p = arg;; p++) {
        size_t n = strcspn(p, ","), k = 0;
        while (k < DS4_SUITE_SOURCES && (strlen(kernel_source_name[k]) != n ||
                                         strncmp(kernel_source_name[k], p, n) != 0))
            k++;
        if (k == DS4_SUITE_SOURCES)
            argp_error(s, "--inputs: found \"%.*s\", wanted listed, edges or captured", (int)n,
                       p);
        else input[k] = true;
        p += n;
        if (!*p) return;
    }
}

static void parse_environment(struct argp_state *s, args *a) {
    const char *env;
    ds4_err err;
    if ((env = ds4_setting("DS4_DEVICE")))
        a->device = (int32_t)cmd_number(s, "DS4_DEVICE", env, 255);
    if ((env = ds4_setting("DS4_VALIDATION")) &&
        ds4_bool_parse(&a->validation, "DS4_VALIDATION", env, &err))
        argp_error(s, "%s", err.message);
}

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    switch (key) {
    case ARGP_KEY_INIT:
        parse_environment(s, a);
        return 0;
    case KEY_OP:
        a->op = arg;
        return 0;
    case KEY_ROW:
        a->row = arg;
        return 0;
    case KEY_CASE:
        a->one = arg;
        return 0;
    case KEY_INPUTS:
        parse_inputs(s, a->input, arg);
        return 0;
    case KEY_LIST:
        a->list = true;
        return 0;
    case 'm':
        a->model = arg;
        return 0;
    case KEY_PROMPT:
        a->prompt = arg;
        return 0;
    case KEY_DEVICE:
        a->device = (int32_t)cmd_number(s, "--device", arg, 255);
        return 0;
    case KEY_CSV:
    case KEY_JSON:
    case KEY_JUNIT:
        a->path[key - KEY_CSV + KERNEL_CSV] = arg;
        return 0;
    case 'q':
        a->quiet = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(s, "found \"%s\", wanted options alone", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->one && (a->op || a->row || a->list))
            argp_error(s, "--case names its op and row: give it alone");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    options,
    parse,
    NULL,
    "Runs every row of the manifest on the device against the scalar reference of its op: shapes "
    "one short of, at and past each tile, hard values, and the calls that a run of a model "
    "makes. Prints the worst error of each row beside its bound and the cause of any difference. "
    "Exit code 1: a row beyond its bound, or one that no case exercised; 3: nothing ran.",
    NULL,
    NULL,
    NULL};

typedef struct work {
    const args *a;
    ds4_backend *b;
    ds4_suite *suite;
    drift_progress progress;
    double done;
    char captured[400];
} work;

/* ---- captured calls ---- */

static bool wants_op(void *user, ds4_op op) {
    return ds4_suite_has_op(((const work *)user)->suite, op);
}

static ds4_status run_captured(void *user, ds4_case *c, ds4_err *err) {
    return ds4_suite_run_case(((work *)user)->suite, c, DS4_SUITE_CAPTURED, err);
}

static ds4_status list_captured(void *user, ds4_case *c, ds4_err *err) {
    const ds4_suite *s = ((const work *)user)->suite;
    (void)err;
    for (uint32_t i = 0; i < ds4_suite_n_row(s); i++)
        if (ds4_suite_row_at(s, i)->op == c->op)
            printf("%s__%s %s\n", ds4_op_table[c->op].name, ds4_suite_row_at(s, i)->info->name,
                   c->line);
    return DS4_OK;
}

/* The model asked for, or the bundled one where it is; NULL: neither. */
static const char *model_of(const args *a) {
    return a->model ? a->model : !access(bundled_model, R_OK) ? bundled_model : NULL;
}

/* only: one captured line; NULL: all of them. */
static ds4_status capture(work *w, const char *only, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *model = model_of(w->a);
    ds4_engine *e = NULL;
    drift_fixture_set set = {0};
    uint32_t n_seen = 0;
    const char *prompt = w->a->prompt ? w->a->prompt : default_prompt;

    if (!model)
        RAISE(DS4_ERR_USAGE, "captured inputs: %s is not here; give -m MODEL", bundled_model);
    TRY(ds4_engine_open(&e, model, &(ds4_engine_options){.engine = "ref", .device = -1}, err));
    TRY(ds4_engine_load_tokenizer(e, err));
    TRY(drift_fixtures_add_text(&set, "prompt", prompt, strlen(prompt), false, 0, e, err));
    TRY(ds4_capture_run(e,
                        &(ds4_capture_options){.token = set.at[0].token,
                                               .n_tok = set.at[0].n_tok,
                                               .only = only,
                                               .wants = wants_op,
                                               .see = w->a->list ? list_captured : run_captured,
                                               .user = w},
                        &n_seen, err));
    snprintf(w->captured, sizeof w->captured,
             "%u calls of %s: a prefill of 24 tokens after 112, and token 256 decoded", n_seen,
             model);
out:
    drift_fixture_set_free(&set);
    ds4_engine_close(e);
    return st;
}

/* ---- all cases ---- */

static ds4_status each_line(void *user, ds4_op op, const char *line, ds4_suite_source source,
                            ds4_err *err) {
    work *w = user;
    ds4_status st = DS4_OK;
    ds4_case c;

    if (!w->a->input[source]) return st;
    TRY(ds4_case_init(&c, op, line, err));
    if (w->a->list) st = list_captured(w, &c, err);
    else st = ds4_suite_run_case(w->suite, &c, source, err);
    ds4_case_fini(&c);
out:
    return st;
}

static bool see_progress(void *user, const ds4_suite_run *run) {
    const work *w = user;
    return w->progress.tell(w->progress.user, w->done, ds4_op_table[run->c->op].name);
}

static ds4_status run_all(work *w, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        w->done = (double)op / DS4_OP_COUNT / 2;
        if (ds4_suite_has_op(w->suite, (ds4_op)op))
            TRY(ds4_suite_lines(w->suite, (ds4_op)op, each_line, w, err));
    }
    snprintf(w->captured, sizeof w->captured, "none: not asked for");
    if (w->a->input[DS4_SUITE_CAPTURED] && model_of(w->a)) {
        w->done = 0.5;
        TRY(capture(w, NULL, err));
    } else if (w->a->input[DS4_SUITE_CAPTURED]) {
        snprintf(w->captured, sizeof w->captured,
                 "none: %s is not here, and no model was given with -m", bundled_model);
    }
out:
    return st;
}

static const char *fact(const ds4_backend *b, const char *name) {
    const char *key, *value;
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, name)) return value;
    return "unknown";
}

static ds4_status report(const work *w, int *code, ds4_err *err) {
    ds4_status st = DS4_OK;
    const args *a = w->a;
    kernel_report r = {.suite = w->suite,
                       .whole = a->input[DS4_SUITE_LISTED] && a->input[DS4_SUITE_EDGE],
                       .device = fact(w->b, "device"),
                       .driver = fact(w->b, "driver"),
                       .command = cmd_replay(),
                       .captured = w->captured};
    uint32_t n_lacking = kernel_report_count(&r, DS4_SUITE_LACKING);
    uint32_t n_good = kernel_report_count(&r, DS4_SUITE_CLEAN);

    for (int f = KERNEL_CSV; f <= KERNEL_JUNIT; f++)
        if (a->path[f]) TRY(kernel_report_write(&r, (kernel_format)f, a->path[f], err));
    if (!a->quiet) TRY(kernel_report_write(&r, KERNEL_TEXT, "-", err));
    *code = n_good + n_lacking < ds4_suite_n_row(w->suite) ? 1 : n_good ? 0 : 3;
out:
    return st;
}

/* ---- one case ---- */

enum { MAX_SHOWN = 8 };

static void show_elements(const ds4_suite_run *run) {
    const ds4_case *c = run->c;
    const uint32_t last = c->n_bind - 1, *want = c->bind[last];
    const bool is_f = c->kind[last] == 'o';
    uint32_t n = 0;

    if (run->verdict.n_bad)
        printf("  %10s  %-14s %-8s  %-14s %s\n", "element", "reference", "bits", "got", "bits");
    for (size_t i = 0; i < run->verdict.n && n < MAX_SHOWN; i++) {
        uint32_t g = run->out[i], x = want[i];
        if (ds4_case_same(g, x, is_f)) continue;
        n++;
        if (is_f)
            printf("  %10zu  %-14.9g %08x  %-14.9g %08x\n", i, (double)ds4_f32_from_bits(x), x,
                   (double)ds4_f32_from_bits(g), g);
        else printf("  %10zu  %-14d %08x  %-14d %08x\n", i, (int32_t)x, x, (int32_t)g, g);
    }
    if (run->verdict.n_bad > n) printf("  %10s  %zu more\n", "", run->verdict.n_bad - n);
}

static bool show_run(void *user, const ds4_suite_run *run) {
    const ds4_verdict *v = &run->verdict;
    (void)user;
    printf("%s\n", run->text);
    if (run->refused) {
        printf("  refused: %s\n", run->refused);
        return true;
    }
    printf(
        "  %s: bound %s; worst %u ulp, nrmse %.3g; %zu of %zu elements differ, %zu non-finite or "
        "missing on one side, %zu guard words changed\n",
        run->pass ? "ok" : "FAIL", run->row->info->bound, v->ulp, v->nrmse, v->n_bad, v->n,
        v->n_class, v->n_guard);
    show_elements(run);
    return true;
}

static ds4_status run_one(work *w, const char *op, const char *line, int *code, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_case c;

    if (ds4_capture_is_line(line)) {
        TRY(capture(w, line, err));
    } else {
        TRY(ds4_case_init(&c, (ds4_op)ds4_op_find(op), line, err));
        st = ds4_suite_run_case(w->suite, &c, DS4_SUITE_LISTED, err);
        ds4_case_fini(&c);
        if (st != DS4_OK) goto out;
    }
    const ds4_suite_row *row = ds4_suite_row_at(w->suite, 0);
    char text[200];
    ds4_suite_judge(row, false, text, sizeof text);
    if (!row->n_run) printf("%s\n", text);
    *code = row->n_fail ? 1 : row->n_run ? 0 : 3;
out:
    return st;
}

/* Before anything runs. */
static ds4_status check_outputs(const args *a, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (int f = KERNEL_CSV; f <= KERNEL_JUNIT; f++)
        if (a->path[f] && strcmp(a->path[f], "-")) TRY(ds4_file_writer_check(a->path[f], err));
out:
    return st;
}

int cmd_kernels(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {.device = -1, .input = {true, true, true}};
    work w = {.a = &a};
    char op[32], row[32];
    const char *line = NULL;
    int code = 0;

    cmd_parse(&argp, argc, argv, &a);
    if (a.one && !ds4_suite_split(a.one, op, row, &line))
        RAISE(DS4_ERR_USAGE, "--case: found \"%s\", wanted 'OP__ROW KEY=VALUE...'", a.one);
    TRY(ds4_backend_open(
        &w.b,
        &(ds4_engine_options){.engine = "vk", .device = a.device, .validation = a.validation},
        err));
    TRY(check_outputs(&a, err));
    w.progress = cmd_progress();
    ds4_suite_options o = {.op = a.op, .row = a.row, .see = see_progress, .user = &w};
    if (a.one) o = (ds4_suite_options){.op = op, .row = row, .see = show_run, .user = &w};
    TRY(ds4_suite_new(&w.suite, w.b, &o, err));
    if (a.one) {
        TRY(run_one(&w, op, line, &code, err));
        goto out;
    }
    TRY(run_all(&w, err));
    cmd_progress_end();
    if (!a.list) TRY(report(&w, &code, err));
out:
    ds4_suite_free(w.suite);
    if (w.b) w.b->ops->close(w.b);
    return st == DS4_OK ? code : cmd_fail("kernels", st, err);
}
