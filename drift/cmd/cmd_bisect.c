#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "drift/bisect.h"
#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"
#include "drift/compare.h"

enum { KEY_BASE = 1024, KEY_TOGGLE, KEY_GRAIN, KEY_METRIC, KEY_THRESHOLD, KEY_EVIDENCE };

typedef struct args {
    cmd_engine engine;
    cmd_fixtures fixtures;
    cmd_outputs outputs;
    cmd_list toggle;
    const char *base;
    drift_bisect_options bisect;
    drift_level evidence;
    bool no_evidence;
} args;

static const struct argp_option options[] = {
    {"base", KEY_BASE, "NAME|FILE", 0, "the plan that is right (default strict)", 0},
    {"toggle", KEY_TOGGLE, "EDIT", 0,
     "one toggle by name, as a plan edit, or route:NAME for one toggle per layer of a route (its setting, else on); repeatable; comes before the differences of the plans",
     0},
    {"grain", KEY_GRAIN, "GRAIN", 0,
     "how differences of the plans are grouped: op (default; an op in a layer), tap, route, layer, or row (an op over all layers)",
     0},
    {"metric", KEY_METRIC, "NAME", 0,
     "logit_rms (default), logit_max_abs, kl_mean, kl_max or top1_flips", 0},
    {"threshold", KEY_THRESHOLD, "X", 0,
     "a trial above it fails (default 0: any difference in bits of the logits)", 0},
    {"evidence", KEY_EVIDENCE, "LEVEL", 0,
     "taps of base and candidate to compare in the report: none, boundary (default) or full",
     0},
    {0}};

static drift_grain parse_grain(struct argp_state *s, const char *text) {
    static const char *const grain[] = {"op", "tap", "route", "layer", "row"};
    for (size_t i = 0; i < sizeof grain / sizeof *grain; i++)
        if (!strcmp(text, grain[i])) return (drift_grain)i;
    argp_error(s, "--grain: found \"%s\", wanted op, tap, route, layer or row", text);
    return DRIFT_GRAIN_OP;
}

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    switch (key) {
    case ARGP_KEY_INIT:
        s->child_inputs[0] = &a->engine, s->child_inputs[1] = &a->fixtures,
        s->child_inputs[2] = &a->outputs;
        return 0;
    case KEY_BASE:
        a->base = arg;
        return 0;
    case KEY_TOGGLE:
        if (!cmd_list_add(&a->toggle, arg)) argp_error(s, "--toggle: too many");
        return 0;
    case KEY_GRAIN:
        a->bisect.grain = parse_grain(s, arg);
        return 0;
    case KEY_METRIC:
        a->bisect.metric = arg;
        return 0;
    case KEY_THRESHOLD:
        a->bisect.threshold = cmd_real(s, "--threshold", arg);
        return 0;
    case KEY_EVIDENCE:
        a->no_evidence = !strcmp(arg, "none");
        a->evidence = !strcmp(arg, "full") ? DRIFT_LEVEL_FULL : DRIFT_LEVEL_BOUNDARY;
        if (!a->no_evidence && strcmp(arg, "full") && strcmp(arg, "boundary"))
            argp_error(s, "--evidence: found \"%s\", wanted none, boundary or full", arg);
        return 0;
    case ARGP_KEY_ARG:
        argp_error(s, "\"%s\": no such argument", arg);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {
    {&cmd_engine_argp, 0, "Engine (--plan and --set make the candidate):", 1},
    {&cmd_fixtures_argp, 0, "Fixture (one):", 2},
    {&cmd_outputs_argp, 0, "Reports:", 3},
    {0}};
static const struct argp argp = {
    options,
    parse,
    "-m MODEL [--engine vk] --plan CANDIDATE --fixtures ID",
    "Finds the 1-minimal sets of toggles (variants, rows and routes by layer) that make a "
    "candidate plan drift from the base plan on a fixture, with the evidence of every step. "
    "What never executed is reported as not exercised, never as clean.",
    children,
    NULL,
    NULL};

/* The base plan: its own rows, with default variants and those of the environment. */
static ds4_status open_both(const args *a, ds4_engine **e, ds4_plan **base,
                            ds4_plan **candidate, ds4_err *err) {
    ds4_status st = DS4_OK;
    cmd_engine bare = a->engine;

    bare.plan = a->base, bare.bare = true, bare.set.n = 0;
    TRY(cmd_engine_open(e, base, &bare, err));
    TRY(cmd_plan(candidate, *e, a->engine.plan, err));
    TRY(cmd_edit(*candidate, *e, &a->engine, err));
out:
    return st;
}

/* Compares run files of both plans, so that the report shows where they part tap by tap. The
 * files live in a folder of their own and go with it. */
static ds4_status gather_evidence(drift_result *r, const args *a, ds4_engine *e,
                                  const ds4_plan *const plan[2], const drift_fixture_set *set,
                                  ds4_err *err) {
    static const char *const label[2] = {"base", "candidate"};
    ds4_status st = DS4_OK;
    char dir[512], path[2][600] = {"", ""};
    drift_run *run[2] = {NULL, NULL};
    const char *key[] = {"argv", "plan.name"}, *value[] = {cmd_replay(), a->base};
    const ds4_routes no_routes = {0}; /* the base is its plan alone */
    const ds4_profile no_profile = {.name = "none"};
    drift_run_options ro = {.level = a->evidence,
                            .n_chunk = a->engine.n_chunk,
                            .key = key,
                            .value = value,
                            .n_fact = 2,
                            .routes = &no_routes,
                            .profile = &no_profile,
                            .progress = a->bisect.progress};
    drift_compare_options co = {.top_k = 20, .n_thread = 1, .allow_same_rows = true};

    snprintf(dir, sizeof dir, P_tmpdir "/ds4-drift-XXXXXX");
    if (!mkdtemp(dir)) RAISE(DS4_ERR_IO, "%s: cannot make a temporary folder", dir);
    for (int i = 0; i < 2; i++) {
        snprintf(path[i], sizeof path[i], "%s/%s.h5", dir, label[i]);
        if (i == 1) {
            value[1] = a->engine.plan;
            ro.routes = ds4_engine_routes(e), ro.profile = ds4_engine_profile(e);
        }
        TRY(drift_run_write(path[i], e, plan[i], set, &ro, err));
        TRY(drift_run_open(&run[i], path[i], err));
    }
    TRY(drift_compare(r, run[0], run[1], &co, err));
    for (int i = 0; i < 2; i++) r->side[i].label = label[i], r->side[i].path = label[i];
out:
    for (int i = 0; i < 2; i++) {
        drift_run_close(run[i]);
        unlink(path[i]);
    }
    rmdir(dir);
    return st;
}

static void print_toggles(const drift_bisect_result *b) {
    for (size_t i = 0; i < b->n_toggle; i++)
        if (b->toggle[i].state == DRIFT_TOGGLE_NOT_EXERCISED)
            printf("not exercised: %s (%s)\n", b->toggle[i].text, b->toggle[i].why);
}

int cmd_bisect(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {
        .base = "strict", .bisect = {.metric = "logit_rms"}, .evidence = DRIFT_LEVEL_BOUNDARY};
    ds4_engine *engine = NULL;
    ds4_plan *base = NULL, *candidate = NULL;
    drift_fixture_set set = {0};
    drift_result *r = NULL;
    char created[32];
    time_t t = time(NULL);
    int code = 0;

    cmd_engine_init(&a.engine);
    a.engine.plan = "strict";
    cmd_fixtures_init(&a.fixtures);
    cmd_parse(&argp, argc, argv, &a);
    TRY(open_both(&a, &engine, &base, &candidate, err));
    TRY(cmd_fixtures_read(&set, &a.fixtures, engine, err));
    if (set.n != 1)
        RAISE(DS4_ERR_USAGE,
              "a search runs on one fixture, %zu were given: name it with --fixtures", set.n);
    TRY(drift_result_new(&r, err));
    strftime(created, sizeof created, "%Y-%m-%dT%H:%M:%SZ", gmtime(&t));
    r->created = drift_result_str(r, created);
    r->tool = "ds4-drift " DS4_VERSION;
    r->command = drift_result_str(r, cmd_replay());
    a.bisect.toggle = a.toggle.at, a.bisect.n_toggle = a.toggle.n;
    a.bisect.routes = ds4_engine_routes(engine);
    a.bisect.n_chunk = a.engine.n_chunk, a.bisect.replay = r->command;
    a.bisect.progress = cmd_progress();
    if (!a.no_evidence)
        TRY(gather_evidence(r, &a, engine, (const ds4_plan *const[]){base, candidate}, &set,
                            err));
    TRY(drift_bisect(r, engine, base, candidate, &set.at[0], &a.bisect, err));
    cmd_progress_end();
    TRY(cmd_outputs_write(r, &a.outputs, "", err));
    if (!a.outputs.quiet) print_toggles(r->bisect);
    code = drift_verdict_exit_code(r->verdict);
out:
    drift_result_free(r);
    drift_fixture_set_free(&set);
    ds4_plan_free(base);
    ds4_plan_free(candidate);
    ds4_engine_close(engine);
    return st == DS4_OK ? code : cmd_fail("bisect", st, err);
}
