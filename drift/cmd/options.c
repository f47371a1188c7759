#include "drift/cmd/options.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "reports/report.h"

extern char **environ;

const char *argp_program_version = "ds4-drift " DS4_VERSION;

bool cmd_list_add(cmd_list *l, const char *s) {
    if (l->n == CMD_MAX_LIST) return false;
    l->at[l->n++] = s;
    return true;
}

static void add(struct argp_state *s, cmd_list *l, const char *what, const char *arg) {
    if (!cmd_list_add(l, arg))
        argp_error(s, "%s: given more than %d times", what, CMD_MAX_LIST);
}

uint64_t cmd_number(struct argp_state *s, const char *option, const char *text, uint64_t most) {
    char *end;
    errno = 0;
    unsigned long long v = strtoull(text, &end, 10);
    if (!isdigit((unsigned char)*text) || *end || errno || v > most)
        argp_error(s, "%s: found \"%s\", wanted a number from 0 to %llu", option, text,
                   (unsigned long long)most);
    return v;
}

double cmd_real(struct argp_state *s, const char *option, const char *text) {
    char *end;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= 0.0))
        argp_error(s, "%s: found \"%s\", wanted a number of at least 0", option, text);
    return v;
}

ds4_pre cmd_pre(struct argp_state *s, const char *text) {
    if (!strcmp(text, "model")) return DS4_PRE_MODEL;
    if (strcmp(text, "hf")) argp_error(s, "--pre: found \"%s\", wanted model or hf", text);
    return DS4_PRE_HF;
}

/* ---- engine ---- */

enum {
    KEY_ENGINE = 256,
    KEY_PLAN,
    KEY_SET,
    KEY_ROUTE,
    KEY_PROFILE,
    KEY_THREADS,
    KEY_SIMD,
    KEY_SEED,
    KEY_CHUNK,
    KEY_DEVICE,
    KEY_MEMORY,
    KEY_VALIDATION,
    KEY_UNKNOWN,
    KEY_TOKENIZER,
    KEY_PRE,
    KEY_FIXTURES,
    KEY_LIST,
    KEY_PROMPT,
    KEY_PROMPT_FILE,
    KEY_TOKENS,
    KEY_CHAT,
    KEY_DECODE,
    KEY_WRITER
};

static const struct argp_option engine_options[] = {
    {"model", 'm', "FILE", 0, "GGUF model", 1},
    {"tokenizer", KEY_TOKENIZER, "FILE", 0,
     "a tokenizer.json instead of the model's own vocabulary; it must have as many tokens", 1},
    {"pre", KEY_PRE, "model|hf", 0,
     "how text is cut before merging: the rules of existing engines (default of a GGUF) or the patterns of the published tokenizer.json (default of --tokenizer: its own)",
     1},
    {"engine", KEY_ENGINE, "ref|ref64|vk", 0,
     "scalar reference (default), the same in float64 (the oracle), or Vulkan", 1},
    {"plan", KEY_PLAN, "NAME|FILE", 0,
     "default, strict, fast, compat, noise-order, noise-round (these three: ref only), or a file of plan edits",
     1},
    {"set", KEY_SET, "NAME=VALUE", 0,
     "a numeric variant or a plan edit TARGET[@LAYERS][/PHASE]=VALUE; repeatable, wins", 1},
    {"route", KEY_ROUTE, "NAME=SETTING", 0,
     "a matmul route, a group (moe, f16) or all: off, or ROWS[@LAYERS][/PART]... with ROWS on or names of rows; repeatable, wins over DS4_ROUTE_<NAME> and the profile; `info --routes` explains",
     1},
    {"profile", KEY_PROFILE, "NAME|FILE", 0,
     "settings of routes for a device: auto (default of the default plan on vk), none (default of any other), a built-in one, or a file (`info --profiles`); else DS4_PROFILE",
     1},
    {"simd", KEY_SIMD, "PATH", 0,
     "instructions of the reference's products: auto (default, or DS4_SIMD), scalar, avx2, avx512 or neon; all give the same bits",
     1},
    {"threads", KEY_THREADS, "N", 0,
     "threads of the CPU engines (default: all CPUs, or DS4_THREADS)", 1},
    {"noise-seed", KEY_SEED, "N", 0,
     "seed of the plans noise-order and noise-round (default 0, or DS4_NOISE_SEED)", 1},
    {"chunk", KEY_CHUNK, "N", 0, "most tokens per prefill batch (default 64)", 1},
    {"device", KEY_DEVICE, "N", 0,
     "Vulkan device number (default: the first fit one, or DS4_DEVICE)", 1},
    {"device-memory", KEY_MEMORY, "SIZE", 0,
     "most Vulkan device memory to use, such as 8G (default: what the device has); experts that "
     "find no room are brought in when they are selected",
     1},
    {"validation", KEY_VALIDATION, 0, 0,
     "Vulkan validation layers on; their messages are errors", 1},
    {"allow-unknown-env", KEY_UNKNOWN, 0, 0, "accept DS4_ variables that nothing here knows",
     1},
    {0}};

void cmd_engine_init(cmd_engine *o) {
    *o = (cmd_engine){.engine = "ref", .plan = "default", .n_chunk = 64, .device = -1};
}

static error_t parse_engine(int key, char *arg, struct argp_state *s) {
    cmd_engine *o = s->input;
    const char *env;
    ds4_err err;

    switch (key) {
    case ARGP_KEY_INIT:
        if ((env = ds4_setting("DS4_THREADS")))
            o->n_thread = (uint32_t)cmd_number(s, "DS4_THREADS", env, 256);
        if ((env = ds4_setting("DS4_NOISE_SEED")))
            o->noise_seed = cmd_number(s, "DS4_NOISE_SEED", env, UINT64_MAX);
        if ((env = ds4_setting("DS4_DEVICE")))
            o->device = (int32_t)cmd_number(s, "DS4_DEVICE", env, 255);
        if ((env = ds4_setting("DS4_VALIDATION")) &&
            ds4_bool_parse(&o->validation, "DS4_VALIDATION", env, &err))
            argp_error(s, "%s", err.message);
        return 0;
    case 'm':
        o->model = arg;
        return 0;
    case KEY_TOKENIZER:
        o->tokenizer = arg;
        return 0;
    case KEY_PRE:
        o->pre = cmd_pre(s, arg);
        return 0;
    case KEY_ENGINE:
        o->engine = arg;
        return 0;
    case KEY_PLAN:
        o->plan = arg;
        return 0;
    case KEY_SET:
        add(s, &o->set, "--set", arg);
        return 0;
    case KEY_ROUTE:
        add(s, &o->route, "--route", arg);
        return 0;
    case KEY_PROFILE:
        o->profile = arg;
        return 0;
    case KEY_SIMD:
        o->simd = arg;
        return 0;
    case KEY_THREADS:
        o->n_thread = (uint32_t)cmd_number(s, "--threads", arg, 256);
        return 0;
    case KEY_SEED:
        o->noise_seed = cmd_number(s, "--noise-seed", arg, UINT64_MAX);
        return 0;
    case KEY_CHUNK:
        o->n_chunk = (uint32_t)cmd_number(s, "--chunk", arg, 4096);
        return 0;
    case KEY_DEVICE:
        o->device = (int32_t)cmd_number(s, "--device", arg, 255);
        return 0;
    case KEY_MEMORY:
        o->device_memory = arg;
        return 0;
    case KEY_VALIDATION:
        o->validation = true;
        return 0;
    case KEY_UNKNOWN:
        o->allow_unknown_env = true;
        return 0;
    case ARGP_KEY_END:
        if (!o->model) argp_error(s, "no model: give -m FILE");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp cmd_engine_argp = {.options = engine_options, .parser = parse_engine};

ds4_status cmd_plan(ds4_plan **plan, const ds4_engine *e, const char *name_or_path,
                    ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_plan *p = NULL;

    TRY(ds4_engine_plan(e, &p, err));
    if (strchr(name_or_path, '/') || strchr(name_or_path, '.'))
        TRY(ds4_plan_load(p, name_or_path, err));
    else TRY(ds4_plan_named(p, name_or_path, err));
    *plan = p, p = NULL;
out:
    ds4_plan_free(p);
    return st;
}

/* Variants of --set for all layers become the engine's, so that every plan starts from them. */
static ds4_status set_variants(ds4_engine *e, const cmd_list *set, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < set->n; i++) {
        const char *eq = strchr(set->at[i], '=');
        char name[64];
        bool on;
        if (!eq || (size_t)(eq - set->at[i]) >= sizeof name) continue;
        snprintf(name, sizeof name, "%.*s", (int)(eq - set->at[i]), set->at[i]);
        int v = ds4_variant_find(name);
        if (v < 0) continue;
        TRY(ds4_bool_parse(&on, name, eq + 1, err));
        ds4_engine_set_variant(e, (ds4_variant)v, on, "command line");
    }
out:
    return st;
}

/* --tokenizer and --pre; without them the model's own is loaded when it is wanted. */
static ds4_status set_tokenizer(ds4_engine *e, const cmd_engine *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_tokenizer *t = NULL;
    if (!o->tokenizer && o->pre == DS4_PRE_OWN) goto out;
    if (o->tokenizer) TRY(ds4_tokenizer_open(&t, o->tokenizer, err));
    else TRY(ds4_tokenizer_new(&t, ds4_engine_gguf(e), err));
    TRY(ds4_tokenizer_split_by(t, o->pre, err));
    TRY(ds4_engine_set_tokenizer(e, &t, err));
out:
    ds4_tokenizer_free(t);
    return st;
}

/* The profile that was named; else the device's where the plan is the engine's own. */
static ds4_status set_profile(ds4_engine *e, const cmd_engine *o, ds4_err *err) {
    const ds4_backend *b = ds4_engine_backend(e);
    bool own = !strcmp(o->plan, "default") && strcmp(ds4_plan_default(b), "strict");
    const char *which = o->profile ? o->profile : ds4_setting("DS4_PROFILE");
    const char *by = o->profile ? "--profile" : "DS4_PROFILE";
    if (!which) which = own ? "auto" : "none";
    return ds4_profile_choose(ds4_engine_profile(e), ds4_engine_routes(e), b, which, by, err);
}

ds4_status cmd_edit(ds4_plan *plan, ds4_engine *e, const cmd_engine *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_routes *r = ds4_engine_routes(e);
    char by[128];

    TRY(set_profile(e, o, err));
    for (size_t i = 0; i < o->route.n; i++) {
        snprintf(by, sizeof by, "--route %.100s", o->route.at[i]);
        TRY(ds4_routes_set_text(r, o->route.at[i], DS4_ROUTE_COMMAND, by, err));
    }
    TRY(ds4_routes_apply(plan, r, err));
    for (size_t i = 0; i < o->set.n; i++) TRY(ds4_plan_edit(plan, o->set.at[i], err));
out:
    return st;
}

void cmd_warn_device(const ds4_backend *b) {
    static const char claim[] = "float_claim.", broken[] = "broken: ";
    const char *key, *value;
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strncmp(key, claim, sizeof claim - 1) &&
            !strncmp(value, broken, sizeof broken - 1))
            fprintf(stderr, "ds4-drift: warning: the driver claims %s, but %s\n",
                    key + sizeof claim - 1, value + sizeof broken - 1);
}

ds4_status cmd_engine_open(ds4_engine **e, ds4_plan **plan, const cmd_engine *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_engine_options eo = {.engine = o->engine,
                             .n_thread = o->n_thread,
                             .simd = o->simd,
                             .noise_seed = o->noise_seed,
                             .device = o->device,
                             .device_memory = o->device_memory,
                             .validation = o->validation,
                             .allow_unknown_env = o->allow_unknown_env};

    TRY(ds4_engine_open(e, o->model, &eo, err));
    cmd_warn_device(ds4_engine_backend(*e));
    TRY(set_tokenizer(*e, o, err));
    TRY(set_variants(*e, &o->set, err));
    TRY(cmd_plan(plan, *e, o->plan, err));
    if (!o->bare) TRY(cmd_edit(*plan, *e, o, err));
out:
    return st;
}

/* ---- fixtures ---- */

static const struct argp_option fixture_options[] = {
    {"fixtures", KEY_FIXTURES, "ID,ID", 0, "fixtures of the list (default: all)", 2},
    {"fixture-list", KEY_LIST, "FILE", 0, "list of fixtures (default: fixtures/fixtures.json)",
     2},
    {"prompt", KEY_PROMPT, "TEXT", 0, "a prompt instead; its fixture is called prompt", 2},
    {"prompt-file", KEY_PROMPT_FILE, "FILE", 0, "the same from a file", 2},
    {"tokens", KEY_TOKENS, "FILE", 0, "token ids as text instead; its fixture is called tokens",
     2},
    {"chat", KEY_CHAT, 0, 0, "frame --prompt or --prompt-file as a chat turn without thinking",
     2},
    {"decode", KEY_DECODE, "N", 0,
     "evaluate the last N tokens one by one (default: what the list says, else 0)", 2},
    {0}};

void cmd_fixtures_init(cmd_fixtures *o) {
    *o = (cmd_fixtures){.list = "fixtures/fixtures.json", .n_decode = -1};
}

static error_t parse_fixtures(int key, char *arg, struct argp_state *s) {
    cmd_fixtures *o = s->input;
    switch (key) {
    case KEY_FIXTURES:
        o->ids = arg;
        return 0;
    case KEY_LIST:
        o->list = arg;
        return 0;
    case KEY_PROMPT:
        o->prompt = arg;
        return 0;
    case KEY_PROMPT_FILE:
        o->prompt_file = arg;
        return 0;
    case KEY_TOKENS:
        o->tokens = arg;
        return 0;
    case KEY_CHAT:
        o->chat = true;
        return 0;
    case KEY_DECODE:
        o->n_decode = (int64_t)cmd_number(s, "--decode", arg, 1 << 20);
        return 0;
    case ARGP_KEY_END:
        if ((o->prompt != NULL) + (o->prompt_file != NULL) + (o->tokens != NULL) +
                (o->ids != NULL) >
            1)
            argp_error(s, "give one of --fixtures, --prompt, --prompt-file and --tokens");
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

const struct argp cmd_fixtures_argp = {.options = fixture_options, .parser = parse_fixtures};

ds4_status cmd_fixtures_read(drift_fixture_set *s, const cmd_fixtures *o, ds4_engine *e,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n_decode = o->n_decode < 0 ? 0 : (uint32_t)o->n_decode;
    char *text = NULL;
    size_t n;

    if (o->tokens) {
        /* A model without a tokenizer can still be given ids; token texts are then left out. */
        if (ds4_gguf_has(ds4_engine_gguf(e), "tokenizer.ggml.tokens"))
            (void)ds4_engine_load_tokenizer(e, NULL);
        TRY(drift_fixtures_add_ids(s, "tokens", o->tokens, n_decode, err));
        goto out;
    }
    TRY(ds4_engine_load_tokenizer(e, err));
    if (o->prompt) {
        TRY(drift_fixtures_add_text(s, "prompt", o->prompt, strlen(o->prompt), o->chat,
                                    n_decode, e, err));
    } else if (o->prompt_file) {
        TRY(drift_read_file(&text, &n, o->prompt_file, 64u << 20, err));
        TRY(drift_fixtures_add_text(s, "prompt", text, n, o->chat, n_decode, e, err));
    } else {
        TRY(drift_fixtures_load(s, o->list, o->ids, e, err));
    }
    for (size_t i = 0; o->n_decode >= 0 && i < s->n; i++)
        s->at[i].n_decode = n_decode < s->at[i].n_tok ? n_decode : s->at[i].n_tok;
out:
    free(text);
    return st;
}

/* ---- outputs ---- */

static const struct argp_option output_options[] = {
    {"html", KEY_WRITER + 0, "FILE", 0, "self-contained page", 3},
    {"csv", KEY_WRITER + 1, "FILE", 0, "every number in long form", 3},
    {"json", KEY_WRITER + 2, "FILE", 0, "the whole result; `report` reads it back", 3},
    {"junit", KEY_WRITER + 3, "FILE", 0, "JUnit XML for CI", 3},
    {"markdown", KEY_WRITER + 4, "FILE", 0, "summary tables", 3},
    {"quiet", 'q', 0, 0, "no summary on standard output", 3},
    {0}};

static error_t parse_outputs(int key, char *arg, struct argp_state *s) {
    cmd_outputs *o = s->input;
    if (key == 'q') {
        o->quiet = true;
        return 0;
    }
    if (key < KEY_WRITER || key >= KEY_WRITER + 5) return ARGP_ERR_UNKNOWN;
    add(s, &o->writer, "reports", output_options[key - KEY_WRITER].name);
    add(s, &o->path, "reports", arg);
    return 0;
}

const struct argp cmd_outputs_argp = {.options = output_options, .parser = parse_outputs};

ds4_status cmd_outputs_write(const drift_result *r, const cmd_outputs *o, const char *suffix,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    char path[4096];

    for (size_t i = 0; i < o->path.n; i++) {
        const char *p = o->path.at[i], *slash = strrchr(p, '/'), *dot = strrchr(p, '.');
        size_t stem = dot && (!slash || dot > slash) ? (size_t)(dot - p) : strlen(p);
        if (!strcmp(p, "-")) suffix = "";
        snprintf(path, sizeof path, "%.*s%s%s", (int)stem, p, suffix, p + stem);
        TRY(report_write_file(r, report_writer_find(o->writer.at[i]), path, err));
    }
    if (!o->quiet) TRY(report_write_file(r, report_writer_find("text"), "-", err));
out:
    return st;
}

/* ---- process ---- */

static char replay[16384];

static void quote(char *dst, size_t cap, const char *word) {
    size_t n = strlen(dst);
    bool plain =
        *word &&
        strspn(word,
               "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./=:,@+-") ==
            strlen(word);
    n += (size_t)snprintf(dst + n, cap - n, "%s%s", n ? " " : "", plain ? "" : "'");
    for (const char *p = word; *p && n + 8 < cap; p++)
        n += (size_t)snprintf(dst + n, cap - n, *p == '\'' && !plain ? "'\\''" : "%c", *p);
    if (!plain && n + 2 < cap) snprintf(dst + n, cap - n, "'");
}

void cmd_remember(int argc, char **argv) {
    for (char **e = environ; *e; e++)
        if (!strncmp(*e, "DS4_", 4)) quote(replay, sizeof replay, *e);
    for (int i = 0; i < argc; i++) quote(replay, sizeof replay, argv[i]);
}

void cmd_parse(const struct argp *a, int argc, char **argv, void *input) {
    argp_err_exit_status = 64;
    argp_parse(a, argc, argv, 0, NULL, input);
}

const char *cmd_replay(void) { return replay; }

int cmd_fail(const char *name, ds4_status st, const ds4_err *err) {
    cmd_progress_end();
    fprintf(stderr, "ds4-drift %s: %s\n", name, err->message);
    return ds4_err_exit_code(st);
}

static volatile sig_atomic_t stopped;
static double started, shown_at;
static bool shown;

static void on_signal(int sig) {
    (void)sig;
    stopped = 1;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static bool tell(void *user, double done, const char *what) {
    (void)user;
    double t = now();
    if (what && isatty(STDERR_FILENO) && t - shown_at > 0.2) {
        if (done > 0.0)
            fprintf(stderr, "\r\033[K%s: %.0f %%, %.0f s left", what, 100.0 * done,
                    (t - started) * (1.0 - done) / done);
        else if (done < 0.0) fprintf(stderr, "\r\033[K%s", what);
        shown_at = t, shown = true;
    }
    return !stopped;
}

drift_progress cmd_progress(void) {
    struct sigaction sa = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    sigaction(SIGINT, &sa, NULL);
    sigaction(SIGTERM, &sa, NULL);
    started = now();
    return (drift_progress){tell, NULL};
}

void cmd_progress_end(void) {
    if (shown) fputs("\r\033[K", stderr);
    shown = false;
}
