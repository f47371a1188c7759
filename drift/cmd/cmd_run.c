#include <stdio.h>
#include <string.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"

enum {
    KEY_DUMP = 1024,
    KEY_BATCH,
    KEY_FRESH,
    KEY_LOAD,
    KEY_SAVE,
    KEY_SAVE_AT,
    KEY_CTX,
    KEY_FIELD
};

typedef struct args {
    cmd_engine engine;
    cmd_fixtures fixtures;
    const char *out;
    drift_level level;
    const char *filter;
    bool fresh;
    uint32_t n_batch;
    drift_session_files session;
} args;

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0, "run file to write (HDF5)", 0},
    {"dump", KEY_DUMP, "LEVEL|TAPS", 0,
     "hash (digests only), logits, boundary (default), full, or a comma-separated list of taps stored beside the logits",
     0},
    {"fresh", KEY_FRESH, 0, 0, "start again even if a partial file of the same run is there",
     0},
    {"batch", KEY_BATCH, "N", 0,
     "evaluate N fixtures at once, prompts and decoded tokens in one pass; strict rows give the same bits",
     0},
    {0, 0, 0, 0, "Session files (the DSV4 payload, as existing engines read and write it):", 3},
    {"save-session", KEY_SAVE, "FILE", 0,
     "write the state after the last token of the one fixture", 3},
    {"save-at", KEY_SAVE_AT, "N", 0, "write it after the first N tokens and go on", 3},
    {"load-session", KEY_LOAD, "FILE", 0,
     "go on from a state: the fixture's first tokens must be those of the file, the others are "
     "evaluated at the positions after them. A file says nothing of model and plan but the shape; "
     "only shape, sizes, token ids and row counts are checked",
     3},
    {"ctx", KEY_CTX, "N", 0,
     "tokens that the session can hold (default: those of the fixture; with session files 2048, "
     "or what the fixture needs). A file goes into a session of at least its own context, and a "
     "smaller one than 2048 into one of exactly that. Tap idx_score has a column per 4 tokens of it",
     3},
    {"payload-chunk", KEY_FIELD, "N", 0,
     "the prefill chunk that session files name (default: the context, at most 2048; nothing is "
     "computed by it)",
     3},
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
    case KEY_BATCH:
        a->n_batch = (uint32_t)cmd_number(s, "--batch", arg, 256);
        if (!a->n_batch) argp_error(s, "--batch: found 0, wanted 1 to 256");
        return 0;
    case KEY_FRESH:
        a->fresh = true;
        return 0;
    case KEY_LOAD:
        a->session.load = arg;
        return 0;
    case KEY_SAVE:
        a->session.save = arg;
        return 0;
    case KEY_SAVE_AT:
        a->session.save_at = (uint32_t)cmd_number(s, "--save-at", arg, 1 << 20);
        if (!a->session.save_at) argp_error(s, "--save-at: found 0, wanted 1 to 1048576");
        return 0;
    case KEY_CTX:
        a->session.n_ctx = (uint32_t)cmd_number(s, "--ctx", arg, 1 << 20);
        if (!a->session.n_ctx) argp_error(s, "--ctx: found 0, wanted 1 to 1048576");
        return 0;
    case KEY_FIELD:
        a->session.payload_chunk = (uint32_t)cmd_number(s, "--payload-chunk", arg, 1 << 20);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(s, "\"%s\": no such argument", arg);
        return 0;
    case ARGP_KEY_END:
        if (a->session.save_at && !a->session.save)
            argp_error(s, "--save-at without --save-session FILE");
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
                            .n_batch = a.n_batch,
                            .key = key,
                            .value = value,
                            .n_fact = a.engine.tokenizer ? 3 : 2,
                            .routes = ds4_engine_routes(engine),
                            .profile = ds4_engine_profile(engine),
                            .resume = !a.fresh,
                            .session = a.session,
                            .progress = cmd_progress()};
    TRY(drift_run_write(a.out, engine, plan, &set, &ro, err));
    cmd_progress_end();
    uint64_t n_tok = 0;
    for (size_t i = 0; i < set.n; i++) n_tok += set.at[i].n_tok;
    const ds4_profile *profile = ds4_engine_profile(engine);
    printf("%s: %zu fixtures, %llu tokens, engine %s, plan %s%s%s%s%s\n", a.out, set.n,
           (unsigned long long)n_tok, a.engine.engine, a.engine.plan,
           profile->text ? ", profile " : "", profile->text ? profile->name : "",
           a.session.load ? ", gone on from " : "", a.session.load ? a.session.load : "");
out:
    drift_fixture_set_free(&set);
    ds4_plan_free(plan);
    ds4_engine_close(engine);
    return st == DS4_OK ? 0 : cmd_fail("run", st, err);
}
