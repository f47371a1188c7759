#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/utsname.h>
#include <xxhash.h>

#include "drift/cmd/bench_compare.h"
#include "drift/cmd/bench_host.h"
#include "drift/cmd/bench_out.h"
#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"
#include "drift/runner.h"
#include "engine/base/file.h"
#include "engine/base/mem.h"

enum {
    KEY_A = 2048,
    KEY_B,
    KEY_FRONTIERS,
    KEY_DECODE,
    KEY_REPEATS,
    KEY_EFFECT,
    KEY_PROMPT,
    KEY_STARTS,
    KEY_NO_CEILINGS,
    KEY_CSV,
    KEY_CSV_A,
    KEY_TABLE,
    KEY_JSON,
    KEY_COMPARE,
    KEY_CHILD
};

typedef struct args {
    cmd_engine engine; /* its plan is A */
    const char *b, *frontiers, *prompt;
    drift_bench_spec spec;
    uint32_t n_start;
    bool no_ceilings;
    const char *csv, *csv_a, *table, *json;
    bool compare;
    const char *file[2]; /* to compare */
    double child;        /* this is a process for the start time, begun then; 0: it is not */
} args;

static const struct argp_option options[] = {
    {"a", KEY_A, "PLAN", 0, "plan of side A, a name or a file (default strict)", 2},
    {"b", KEY_B, "PLAN", 0, "plan of side B (default fast)", 2},
    {"frontiers", KEY_FRONTIERS, "LIST", 0,
     "context sizes to measure at: N,N,..., linear:START:STEP:END or geometric:START:FACTOR:END "
     "(default 64); each prefill adds what the one before lacks",
     2},
    {"prefill", KEY_FRONTIERS, "LIST", 0, "the same", 2},
    {"decode", KEY_DECODE, "N", 0,
     "tokens to decode at each frontier, the same on both sides: A chooses them greedily, never "
     "the end of the text (default 16; at most --chunk; 0: none)",
     2},
    {"repeats", KEY_REPEATS, "N", 0,
     "blocks of four runs, A B B A or B A A B (default 8; an interval of 95 % needs 6)", 2},
    {"min-effect", KEY_EFFECT, "PERCENT", 0,
     "differences below this are inside the floor whatever the noise (default 1)", 2},
    {"prompt-file", KEY_PROMPT, "FILE", 0,
     "text to evaluate, repeated as often as needed (default: made-up token ids)", 2},
    {"starts", KEY_STARTS, "N", 0,
     "rounds of fresh processes for the start times of plan B, cold and warm (default 3; 0: "
     "none; vk only)",
     2},
    {"no-ceilings", KEY_NO_CEILINGS, 0, 0, "do not measure what the device can do at best", 2},
    {"csv", KEY_CSV, "FILE", 0,
     "side B in the published columns: ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,"
     "kvcache_bytes",
     3},
    {"csv-a", KEY_CSV_A, "FILE", 0, "side A in the same columns", 3},
    {"table", KEY_TABLE, "FILE", 0, "both sides, ratios, intervals and floors as CSV", 3},
    {"json", KEY_JSON, "FILE", 0, "everything: facts, every run, figures, starts, ceilings", 3},
    {"compare", KEY_COMPARE, 0, 0,
     "compare two files of --table or --csv instead of measuring: bench --compare OLD NEW", 4},
    {"start-child", KEY_CHILD, "SECONDS", OPTION_HIDDEN, 0, 3},
    {0}};

static void set_plan(args *a, char side, const char *plan) {
    if (side == 'a') a->engine.plan = plan;
    else a->b = plan;
}

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    switch (key) {
    case ARGP_KEY_INIT:
        s->child_inputs[0] = &a->engine;
        return 0;
    case KEY_A:
    case KEY_B:
        set_plan(a, key == KEY_A ? 'a' : 'b', arg);
        return 0;
    case KEY_FRONTIERS:
        a->frontiers = arg;
        return 0;
    case KEY_DECODE:
        a->spec.n_decode = (uint32_t)cmd_number(s, "--decode", arg, 4096);
        return 0;
    case KEY_REPEATS:
        a->spec.n_block = (uint32_t)cmd_number(s, "--repeats", arg, DRIFT_BENCH_MAX_BLOCK);
        return 0;
    case KEY_EFFECT:
        a->spec.min_effect = 0.01 * cmd_real(s, "--min-effect", arg);
        return 0;
    case KEY_PROMPT:
        a->prompt = arg;
        return 0;
    case KEY_STARTS:
        a->n_start = (uint32_t)cmd_number(s, "--starts", arg, BENCH_MAX_START);
        return 0;
    case KEY_NO_CEILINGS:
        a->no_ceilings = true;
        return 0;
    case KEY_CSV:
        a->csv = arg;
        return 0;
    case KEY_CSV_A:
        a->csv_a = arg;
        return 0;
    case KEY_TABLE:
        a->table = arg;
        return 0;
    case KEY_JSON:
        a->json = arg;
        return 0;
    case KEY_CHILD:
        a->child = cmd_real(s, "--start-child", arg);
        return 0;
    case KEY_COMPARE:
        a->compare = true;
        a->engine.model = ""; /* none is wanted */
        return 0;
    case ARGP_KEY_ARG:
        if (s->arg_num > 1) argp_error(s, "\"%s\": no such argument", arg);
        else a->file[s->arg_num] = arg;
        return 0;
    case ARGP_KEY_END:
        if (a->compare && !a->file[1]) argp_error(s, "--compare: give two files, OLD NEW");
        if (!a->compare && a->file[0]) argp_error(s, "\"%s\": no such argument", a->file[0]);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp_child children[] = {{&cmd_engine_argp, 0, "Engine:", 1}, {0}};
static const struct argp argp = {
    options,
    parse,
    "-m MODEL\n--compare OLD.csv NEW.csv",
    "Measures the speed of two plans on one engine, prefill and decode, interleaved. The engine is "
    "vk unless --engine says otherwise; --plan is another name of --a."
    "\vThe first pair of runs is a warm-up and is discarded. Then come blocks A B B A and B A A B "
    "in turn; a block gives one ratio, in which the place in a pair and a steady change of the "
    "machine cancel. Estimate and interval of the ratios by Wilcoxon's signed ranks, exact, no "
    "seed. The floor is what A shows against itself in the same run. A ratio inside the floor is "
    "not ranked. The ledger proves for every timing that the two sides executed different rows.\n"
    "Exit codes: 0 measured, 2 the same rows on both sides, 3 stopped or too few repeats for an "
    "interval.",
    children,
    NULL,
    NULL};

/* ---- facts ---- */

static void fact(json_t *o, const char *key, const char *value) {
    json_t *v = json_string(value);
    if (v) json_object_set_new(o, key, v); /* text that is not UTF-8 is left out */
}

static ds4_status fact_plan(json_t *o, const char *key, const ds4_plan *p, ds4_err *err) {
    char *text = NULL;
    ds4_status st = ds4_plan_text(p, &text, err);
    if (st == DS4_OK) fact(o, key, *text ? text : "*=strict\n");
    ds4_mem_free(text);
    return st;
}

/* Facts of one side: their keys end in its letter. */
typedef struct side_facts {
    json_t *o;
    char side;
} side_facts;

static void see_fact(void *user, const char *key, const char *value) {
    const side_facts *s = user;
    char name[64];
    snprintf(name, sizeof name, "%s.%c", key, s->side);
    fact(s->o, name, value);
}

/* What made the plan that was edited last. */
static ds4_status fact_settings(json_t *o, char side, ds4_engine *e, ds4_err *err) {
    side_facts s = {o, side};
    return drift_settings_facts(e, ds4_engine_profile(e), ds4_engine_routes(e), see_fact, &s,
                                err);
}

static ds4_status facts(json_t *o, const args *a, const ds4_engine *e,
                        const ds4_plan *const plan[2], ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_backend *b = ds4_engine_backend(e);
    const char *key, *value, *slash = strrchr(a->engine.model, '/');
    char text[256];
    size_t n;
    const void *bytes = ds4_gguf_bytes(ds4_engine_gguf(e), &n);
    XXH128_hash_t h = XXH3_128bits(bytes, n);
    struct utsname host;

    fact(o, "tool", "ds4-drift " DS4_VERSION);
    fact(o, "build", "compiler " __VERSION__);
    fact(o, "argv", cmd_replay());
    fact(o, "engine", b->ops->name);
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++) fact(o, key, value);
    if (!json_object_get(o, "device")) fact(o, "device", "CPU");
    fact(o, "model.name", slash ? slash + 1 : a->engine.model);
    snprintf(text, sizeof text, "%zu", n);
    fact(o, "model.bytes", text);
    snprintf(text, sizeof text, "xxh3-128:%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
    fact(o, "model.digest", text);
    snprintf(text, sizeof text, "%u", a->engine.n_chunk);
    fact(o, "chunk", text);
    if (!uname(&host)) {
        snprintf(text, sizeof text, "%.64s %.64s %.64s", host.sysname, host.release,
                 host.machine);
        fact(o, "host", text);
    }
    TRY(fact_plan(o, "plan.a", plan[0], err));
    TRY(fact_plan(o, "plan.b", plan[1], err));
out:
    return st;
}

/* ---- the work ---- */

/* The plan of side B: as cmd_engine_open makes that of A. */
static ds4_status plan_b(ds4_plan **out, const args *a, ds4_engine *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    cmd_engine o = a->engine;

    o.plan = a->b;
    TRY(cmd_plan(out, e, o.plan, err));
    TRY(cmd_edit(*out, e, &o, err));
out:
    return st;
}

/* A process for the start time: plan B, up to the first token. */
static ds4_status child(args *a, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_engine *e = NULL;
    ds4_plan *p = NULL;
    ds4_session *s = NULL;
    bench_start told = {0};
    const char *key, *value;
    const uint32_t n = a->spec.prefill.at[0];
    int32_t *token = NULL;

    a->engine.plan = a->b;
    TRY(cmd_engine_open(&e, &p, &a->engine, err));
    told.open_s = bench_now_s() - a->child;
    TRY(ds4_mem_alloc(&token, n, sizeof *token, err));
    for (uint32_t i = 0; i < n; i++)
        token[i] = (int32_t)((1000 + 37 * i) % ds4_engine_config(e)->n_vocab);
    TRY(ds4_session_new(&s, e, p, n + 1, a->engine.n_chunk, err));
    TRY(ds4_session_eval(s, token, n, DS4_PREFILL, err));
    told.first_s = bench_now_s() - a->child;
    const ds4_backend *b = ds4_engine_backend(e);
    ds4_vk_built built = ds4_vk_pipelines_built(b);
    told.n_pipeline = built.n, told.pipelines_s = built.s;
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, "pipeline_cache"))
            snprintf(told.cache, sizeof told.cache, "%s", value);
    bench_start_tell(&told);
out:
    ds4_mem_free(token);
    ds4_session_free(s);
    ds4_plan_free(p);
    ds4_engine_close(e);
    return st;
}

/* Ids of the text to evaluate; none without --prompt-file. */
static ds4_status prompt(drift_fixture_set *set, const args *a, ds4_engine *e, ds4_err *err) {
    cmd_fixtures f;
    if (!a->prompt) return DS4_OK;
    cmd_fixtures_init(&f);
    f.prompt_file = a->prompt;
    return cmd_fixtures_read(set, &f, e, err);
}

/* What each side's prefill is held against: the greatest rate of the matrices that its rows
 * use; where they use none, that of f32 sums or of fma, the greater. */
static void prefill_ceilings(bench_report *r, const bench_run *run, const ds4_backend *b) {
    for (int side = 0; side < 2; side++) {
        const char *best = NULL;
        for (uint32_t i = 0; i < ds4_ledger_n(run->rows[side]); i++) {
            const ds4_ledger_entry *e = ds4_ledger_at(run->rows[side], i);
            if (e->phase != DS4_PREFILL) continue;
            const char *c = ds4_vk_row_ceiling(b, ds4_tap_table[e->tap].op, e->row);
            if (!strcmp(c, "fma")) continue;
            if (!best || bench_ceiling(r, c) > bench_ceiling(r, best)) best = c;
        }
        r->uses_matrix[side] = best != NULL;
        if (!best)
            best = bench_ceiling(r, "matrix") > bench_ceiling(r, "fma") ? "matrix" : "fma";
        r->prefill_ceiling[side] = best;
    }
}

static ds4_status measure(drift_bench *b, bench_run *run, bench_report *r, const args *a,
                          const drift_progress *progress, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_engine *e = NULL;
    ds4_plan *plan[2] = {NULL, NULL};
    drift_fixture_set set = {0};
    bench_host before, after;

    TRY(cmd_engine_open(&e, &plan[0], &a->engine, err));
    TRY(fact_settings(r->fact, 'a', e, err));
    TRY(plan_b(&plan[1], a, e, err));
    TRY(fact_settings(r->fact, 'b', e, err));
    if (ds4_gguf_has(ds4_engine_gguf(e), "tokenizer.ggml.tokens"))
        (void)ds4_engine_load_tokenizer(e, NULL);
    TRY(prompt(&set, a, e, err));
    const ds4_plan *const both[2] = {plan[0], plan[1]};
    TRY(bench_run_init(run, e, both, &a->spec, a->engine.n_chunk,
                       set.n ? set.at[0].token : NULL, set.n ? set.at[0].n_tok : 0, err));
    bench_host_read(&before);
    drift_bench_source src = {bench_run_take, run};
    TRY(drift_bench_run(b, &src, progress, err));
    bench_host_read(&after);
    TRY(facts(r->fact, a, e, both, err));
    bench_host_facts(r->fact, &before, &after);
    if (!a->no_ceilings && b->n_block == b->spec.n_block && !strcmp(a->engine.engine, "vk"))
        TRY(ds4_vk_ceilings(r->ceiling, &r->n_ceiling, ds4_engine_backend(e), err));
    if (r->n_ceiling) prefill_ceilings(r, run, ds4_engine_backend(e));
out:
    bench_run_close(run); /* before the engine; the report reads what it counted */
    drift_fixture_set_free(&set);
    for (int i = 0; i < 2; i++) ds4_plan_free(plan[i]);
    ds4_engine_close(e);
    return st;
}

static ds4_status starts(bench_report *r, const args *a, char *const *argv,
                         const drift_progress *progress, ds4_err *err) {
    ds4_status st = DS4_OK;
    r->no_starts = strcmp(a->engine.engine, "vk") ? "this engine makes no pipelines"
                   : !a->n_start                  ? "not asked for (--starts 0)"
                   : r->bench->n_block < r->bench->spec.n_block ? "not reached"
                                                                : NULL;
    if (r->no_starts) goto out;
    TRY(bench_start_run(&r->starts, a->n_start, argv, progress, err));
    if (!r->starts.n) r->no_starts = "stopped";
out:
    return st;
}

static ds4_status write_all(const bench_report *r, const args *a, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (a->csv) TRY(bench_write_published(a->csv, r, 1, err));
    if (a->csv_a) TRY(bench_write_published(a->csv_a, r, 0, err));
    if (a->table) TRY(bench_write_table(a->table, r, err));
    if (a->json) TRY(bench_write_json(a->json, r, err));
out:
    return st;
}

/* Before anything is measured. */
static ds4_status check_outputs(const args *a, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *const path[] = {a->csv, a->csv_a, a->table, a->json};
    for (size_t i = 0; i < sizeof path / sizeof *path; i++)
        if (path[i]) TRY(ds4_file_writer_check(path[i], err));
out:
    return st;
}

static bool has_interval(const drift_bench *b) {
    for (uint32_t i = 0; i < b->spec.prefill.n; i++)
        for (int p = 0; p < DS4_PHASE_COUNT; p++)
            if (drift_bench_n_tok(&b->spec, i, (ds4_phase)p) &&
                b->figure[i][p].verdict == DRIFT_BENCH_TOO_FEW)
                return false;
    return true;
}

int cmd_bench(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {.b = "fast",
              .frontiers = "64",
              .n_start = 3,
              .spec = {.n_decode = 16, .n_block = 8, .level = 0.95, .min_effect = 0.01}};
    char **word = NULL; /* as given: argp sorts argv */
    drift_bench *b = NULL;
    bench_run run = {0};
    bench_report r = {0};

    TRY(ds4_mem_alloc(&word, (size_t)argc, sizeof *word, err));
    memcpy(word, argv + 1, (size_t)(argc - 1) * sizeof *word);
    cmd_engine_init(&a.engine);
    a.engine.engine = "vk", a.engine.plan = "strict";
    cmd_parse(&argp, argc, argv, &a);
    if (a.compare) {
        st = bench_compare(stdout, a.file[0], a.file[1], err);
        goto out;
    }
    TRY(drift_bench_points_parse(&a.spec.prefill, a.frontiers, err));
    if (a.child > 0.0) {
        st = child(&a, err);
        goto out;
    }
    TRY(check_outputs(&a, err));
    drift_progress progress = cmd_progress();
    TRY(drift_bench_new(&b, &a.spec, err));
    r = (bench_report){.bench = b, .run = &run, .plan = {a.engine.plan, a.b}};
    if (!(r.fact = json_object())) RAISE(DS4_ERR_MEMORY, "bench: out of memory");
    TRY(measure(b, &run, &r, &a, &progress, err));
    TRY(starts(&r, &a, word, &progress, err));
    cmd_progress_end();
    bench_print(stdout, &r);
    TRY(write_all(&r, &a, err));
out:;
    int code = st != DS4_OK                                       ? cmd_fail("bench", st, err)
               : !b                                               ? 0
               : !drift_bench_is_comparison(b)                    ? 2
               : b->n_block < b->spec.n_block || !has_interval(b) ? 3
                                                                  : 0;
    json_decref(r.fact);
    bench_run_fini(&run);
    drift_bench_free(b);
    ds4_mem_free(word);
    return code;
}
