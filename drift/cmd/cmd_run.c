#include <stdio.h>
#include <string.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"

enum { KEY_DUMP = 1024, KEY_FRESH };

typedef struct args {
    cmd_engine engine;
    cmd_fixtures fixtures;
    const char *out;
    drift_level level;
    const char *filter;
    bool fresh;
} args;

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "run file to write (HDF5)", 0},
    {"dump", KEY_DUMP, "LEVEL|TAPS", 0,
     "hash (digests only), logits, boundary (default), full, or a comma-separated list of taps stored beside the logits",
     0},
    {"fresh", KEY_FRESH, 0, 0, "start again even if a partial file of the same run is there",
     0},
    {0}};

static void parse_dump(args *a, const char *text) {
    static const char *const level[] = {"hash", "logits", "boundary", "full"};
    for (size_t i = 0; i < sizeof level / sizeof *level; i++)
        if (!strcmp(text, level[i])) {
            a->level = (drift_level)i, a->filter = NULL;
            return;
        }
    a->level = DRIFT_LEVEL_LOGITS, a->filter = text; /* names are checked against the taps */
}

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    switch (key) {
    case ARGP_KEY_INIT:
        s->child_inputs[0] = &a->engine, s->child_inputs[1] = &a->fixtures;
        return 0;
    case 'o':
        a->out = arg;
        return 0;
    case KEY_DUMP:
        parse_dump(a, arg);
        return 0;
    case KEY_FRESH:
        a->fresh = true;
        return 0;
    case ARGP_KEY_ARG:
        argp_error(s, "\"%s\": no such argument", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->out) argp_error(s, "no output: give -o RUN.h5");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {
    {&cmd_engine_argp, 0, "Engine:", 1}, {&cmd_fixtures_argp, 0, "Fixtures:", 2}, {0}};
static const struct argp argp = {
    options,
    parse,
    "-m MODEL -o RUN.h5",
    "Evaluates fixtures with one plan and writes a run file: token ids, taps, logits, "
    "digests, the ledger of what executed, and where everything came from.",
    children,
    NULL,
    NULL};

int cmd_run(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {.level = DRIFT_LEVEL_BOUNDARY};
    ds4_engine *engine = NULL;
    ds4_plan *plan = NULL;
    drift_fixture_set set = {0};

    cmd_engine_init(&a.engine);
    cmd_fixtures_init(&a.fixtures);
    cmd_parse(&argp, argc, argv, &a);
    TRY(cmd_engine_open(&engine, &plan, &a.engine, err));
    TRY(cmd_fixtures_read(&set, &a.fixtures, engine, err));
    const char *key[] = {"argv", "plan.name", "tokenizer"};
    const char *value[] = {cmd_replay(), a.engine.plan, a.engine.tokenizer};
    drift_run_options ro = {.level = a.level,
                            .filter = a.filter,
                            .n_chunk = a.engine.n_chunk,
                            .key = key,
                            .value = value,
                            .n_fact = a.engine.tokenizer ? 3 : 2,
                            .resume = !a.fresh,
                            .progress = cmd_progress()};
    TRY(drift_run_write(a.out, engine, plan, &set, &ro, err));
    cmd_progress_end();
    uint64_t n_tok = 0;
    for (size_t i = 0; i < set.n; i++) n_tok += set.at[i].n_tok;
    printf("%s: %zu fixtures, %llu tokens, engine %s, plan %s\n", a.out, set.n,
           (unsigned long long)n_tok, a.engine.engine, a.engine.plan);
out:
    drift_fixture_set_free(&set);
    ds4_plan_free(plan);
    ds4_engine_close(engine);
    return st == DS4_OK ? 0 : cmd_fail("run", st, err);
}
