#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/info_device.h"
#include "drift/cmd/info_routes.h"
#include "drift/cmd/options.h"
#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/vk/vk.h"
#include "engine/vk/vk_probe.h"

enum {
    KEY_DEVICE = 1024,
    KEY_VARIANTS,
    KEY_TAPS,
    KEY_OPS,
    KEY_PLANS,
    KEY_ROWS,
    KEY_PROFILES,
    KEY_ORDERS,
    KEY_DIGEST,
    KEY_COVERAGE,
    KEY_FACTS,
    KEY_LEDGER,
    KEY_SESSION,
    KEY_ROUTES, /* with or without run files */
    KEY_LAST = KEY_ROUTES,
    KEY_ENGINE,
    KEY_PLAN,
    KEY_ROUTE,
    KEY_PROFILE,
    KEY_JSON /* how, not what */
};

typedef struct args {
    bool json;
    int what; /* the last of the options, 0: a summary of the run file or of the build */
    const char *engine;
    cmd_list run;     /* or session files */
    cmd_engine model; /* of --routes */
} args;

static const struct argp_option options[] = {
    {"device", KEY_DEVICE, 0, 0,
     "Vulkan devices: what they say of themselves, and their arithmetic as measured", 0},
    {"json", KEY_JSON, 0, 0, "with --device: as JSON", 0},
    {"variants", KEY_VARIANTS, 0, 0, "numeric variants: names, formulas, defaults, causes", 0},
    {"ops", KEY_OPS, 0, 0, "ops and their equations", 0},
    {"taps", KEY_TAPS, 0, 0, "taps in execution order, with op and route", 0},
    {"plans", KEY_PLANS, 0, 0, "built-in plans", 0},
    {"rows", KEY_ROWS, "ref|ref64|vk", 0, "rows of every op of an engine, with bound and cause",
     0},
    {"profiles", KEY_PROFILES, 0, 0,
     "the built-in profiles of routes, as a file that --profile takes back", 0},
    {"routes", KEY_ROUTES, 0, 0,
     "matmul routes and how they are set; with -m where they execute and may run; of run files route x fixture, what ran and what was refused",
     0},
    {"model", 'm', "FILE", 0, "of --routes: a model; one token is evaluated", 2},
    {"engine", KEY_ENGINE, "ref|ref64|vk", 0,
     "of --routes -m: as in `run`, with the three below", 2},
    {"plan", KEY_PLAN, "NAME|FILE", 0, 0, 2},
    {"route", KEY_ROUTE, "NAME=SETTING", 0, 0, 2},
    {"profile", KEY_PROFILE, "NAME|FILE", 0, 0, 2},
    {"orders", KEY_ORDERS, "ref|ref64|vk", 0,
     "order and width of the sums of every row of matmul, found by probing", 0},
    {"digest", KEY_DIGEST, 0, 0,
     "one hash per fixture of the run files, over all observed taps", 1},
    {"coverage", KEY_COVERAGE, 0, 0,
     "op x fixture: executed calls, from the ledgers of the run files", 1},
    {"facts", KEY_FACTS, 0, 0, "provenance of the run files", 1},
    {"ledger", KEY_LEDGER, 0, 0, "what executed in the run files, call by call", 1},
    {"session", KEY_SESSION, 0, 0, "the header of session files (DSV4) instead of run files",
     1},
    {0}};

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    if (key == ARGP_KEY_ARG) {
        if (!cmd_list_add(&a->run, arg)) argp_error(s, "too many run files");
        return 0;
    }
    if (key == KEY_JSON) {
        a->json = true;
        return 0;
    }
    if (key == 'm') a->model.model = arg;
    else if (key == KEY_ENGINE) a->model.engine = arg;
    else if (key == KEY_PLAN) a->model.plan = arg;
    else if (key == KEY_PROFILE) a->model.profile = arg;
    else if (key == KEY_ROUTE && !cmd_list_add(&a->model.route, arg))
        argp_error(s, "--route: too many");
    if (key == 'm' || (key >= KEY_ENGINE && key <= KEY_PROFILE)) return 0;
    if (key == ARGP_KEY_END) {
        const cmd_engine *m = &a->model;
        bool other = strcmp(m->engine, "ref") || strcmp(m->plan, "default") || m->profile;
        if (a->what != KEY_ROUTES && (m->model || other || m->route.n))
            argp_error(s, "-m, --engine, --plan, --route and --profile belong to --routes");
        if (other && !m->model) argp_error(s, "--engine, --plan and --profile want -m MODEL");
        return 0;
    }
    if (key < KEY_DEVICE || key > KEY_LAST) return ARGP_ERR_UNKNOWN;
    a->what = key;
    if (key == KEY_ROWS || key == KEY_ORDERS) a->engine = arg;
    return 0;
}

static const struct argp argp = {
    options, parse, "[RUN.h5...]", "Tells what this build, its devices or a run file holds.",
    NULL,    NULL,  NULL};

static void list_variants(void) {
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        const ds4_variant_info *i = &ds4_variant_table[v];
        printf("%s (alias %s)\n  touches %s, default %s, cause %s\n  off: %s\n  on:  %s\n",
               i->name, i->alias, i->touches, i->def ? "on" : "off", i->cause, i->off, i->on);
    }
}

static void list_taps(void) {
    static const char *const level[] = {"state", "full", "boundary", "logits"};
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        printf("%-16s op %-14s route %-15s level %s\n", ds4_tap_table[t].name,
               ds4_op_table[ds4_tap_table[t].op].name, ds4_tap_table[t].route,
               level[ds4_tap_table[t].level]);
}

static void list_left_out(void) {
    const char *name, *reason;
    for (uint32_t i = 0; (name = ds4_vk_left_out(i, &reason)); i++)
        printf("row %s: %s\n", name, reason);
}

static ds4_status list_rows(const char *engine, ds4_err *err) {
    ds4_backend *b = NULL;
    ds4_status st =
        ds4_backend_open(&b, &(ds4_engine_options){.engine = engine, .device = -1}, err);
    if (st != DS4_OK) return st;
    for (int op = 0; op < DS4_OP_COUNT; op++)
        for (uint32_t i = 0; i < b->ops->n_row(b, (ds4_op)op); i++) {
            const ds4_row_info *r = b->ops->row(b, (ds4_op)op, i);
            printf("%-14s %-8s bound %-14s cause %s%s%s%s\n", ds4_op_table[op].name, r->name,
                   r->bound, r->cause, r->tensor ? ", f16-staged operands" : "",
                   r->lacks ? "; " : "", r->lacks ? r->lacks : "");
        }
    b->ops->close(b);
    return DS4_OK;
}

static ds4_status list_orders(const char *engine, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_backend *b = NULL;
    char text[256];

    TRY(ds4_backend_open(&b, &(ds4_engine_options){.engine = engine, .device = -1}, err));
    for (uint32_t i = 0; i < b->ops->n_row(b, DS4_OP_matmul); i++) {
        const ds4_row_info *r = b->ops->row(b, DS4_OP_matmul, i);
        if (!r->lacks) TRY(ds4_vk_probe_row(text, sizeof text, b, i, err));
        printf("matmul %-18s %s\n", r->name, r->lacks ? r->lacks : text);
    }
out:
    if (b) b->ops->close(b);
    return st;
}

/* One hash over what was observed: tap, layer, rows and the tap's own hash, in execution order.
 */
static void print_digest(const drift_run_fixture *f) {
    XXH3_state_t *h = XXH3_createState();
    if (!h || XXH3_128bits_reset(h) != XXH_OK) return;
    for (size_t i = 0; i < f->n_tap; i++) {
        const drift_run_tap *t = &f->tap[i];
        const char *name = ds4_tap_table[t->tap].name;
        XXH3_128bits_update(h, name, strlen(name) + 1);
        XXH3_128bits_update(h, &t->layer, sizeof t->layer);
        XXH3_128bits_update(h, &t->n_row, sizeof t->n_row);
        XXH3_128bits_update(h, t->digest.hash, sizeof t->digest.hash);
    }
    XXH128_hash_t d = XXH3_128bits_digest(h);
    XXH3_freeState(h);
    printf("%-24s %016" PRIx64 "%016" PRIx64 "\n", f->id, d.high64, d.low64);
}

static uint64_t n_calls(const drift_run_fixture *f, const char *op) {
    uint64_t n = 0;
    for (size_t i = 0; i < f->n_ledger; i++)
        if (!strcmp(f->ledger[i].op, op)) n += f->ledger[i].n_call;
    return n;
}

/* Calls of every op on every fixture; 0 is printed as "-": not exercised. */
static void print_coverage(const drift_run *r) {
    printf("%-16s", "op \\ fixture");
    for (size_t i = 0; i < drift_run_n_fixture(r); i++)
        printf(" %22s", drift_run_fixture_at(r, i)->id);
    puts("");
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        printf("%-16s", ds4_op_table[op].name);
        for (size_t i = 0; i < drift_run_n_fixture(r); i++) {
            uint64_t n = n_calls(drift_run_fixture_at(r, i), ds4_op_table[op].name);
            if (n) printf(" %22" PRIu64, n);
            else printf(" %22s", "-");
        }
        puts("");
    }
}

static void print_ledger(const drift_run_fixture *f) {
    printf("%s\n", f->id);
    for (size_t i = 0; i < f->n_ledger; i++) {
        const drift_run_ledger *l = &f->ledger[i];
        char layer[16] = "out";
        if (l->layer >= 0) snprintf(layer, sizeof layer, "%d", l->layer);
        printf("  %-3s %-16s %-14s %-8s %-8s %-10s %8" PRIu64 " calls %12" PRIu64
               " elements%s%s%s%s\n",
               layer, l->tap, l->op, l->phase, l->row, l->wtype, l->n_call, l->n_elem,
               *l->variants ? "  " : "", l->variants, *l->refusal ? "  refused: " : "",
               l->refusal);
    }
}

/* Where a run that goes on from a session begins. */
static const char *start_text(const drift_run_fixture *f) {
    static char text[48];
    if (!f->n_tap || !f->tap[0].pos0) return "";
    snprintf(text, sizeof text, ", evaluated from position %u on", f->tap[0].pos0);
    return text;
}

/* No model is at hand: what can be told from the bytes alone. */
static ds4_status print_session(const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file *f = NULL;
    ds4_snapshot_head h;

    TRY(ds4_file_open(&f, path, err));
    const void *p = ds4_file_data(f);
    size_t n = ds4_file_bytes(f);
    st = ds4_snapshot_peek(&h, p, n, err);
    if (st != DS4_OK) {
        char what[300];
        snprintf(what, sizeof what, "%.280s", err->message);
        RAISE(st, "%.200s: %s", path, what);
    }
    XXH128_hash_t d = XXH3_128bits(p, n);
    printf("%s: DSV4 version %d, %zu bytes, xxh3-128:%016" PRIx64 "%016" PRIx64 "\n", path,
           DS4_SNAPSHOT_VERSION, n, d.high64, d.low64);
#define F(member, name) printf("  %-20s %" PRIu32 "\n", name, h.member);
    DS4_SNAPSHOT_FIELDS(F)
#undef F
out:
    ds4_file_close(f);
    return st;
}

static void print_run(const drift_run *r, int what) {
    const char *value;
    size_t n = drift_run_n_fixture(r);

    if (what == KEY_ROUTES) {
        info_routes_run(r);
        return;
    }
    if (what == KEY_COVERAGE) {
        print_coverage(r);
        return;
    }
    for (size_t i = 0; what == KEY_FACTS && i < drift_run_n_fact(r); i++) {
        const char *key = drift_run_fact_at(r, i, &value);
        printf("%-20s %s\n", key, value);
    }
    for (size_t i = 0; i < n; i++) {
        const drift_run_fixture *f = drift_run_fixture_at(r, i);
        if (what == KEY_DIGEST) print_digest(f);
        else if (what == KEY_LEDGER) print_ledger(f);
        else if (!what)
            printf("%-24s %u tokens, %u decoded, %zu taps%s\n", f->id, f->n_tok, f->n_decode,
                   f->n_tap, start_text(f));
    }
}

int cmd_info(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {0};

    cmd_engine_init(&a.model);
    cmd_parse(&argp, argc, argv, &a);
    if (a.json && a.what != KEY_DEVICE) RAISE(DS4_ERR_USAGE, "--json goes with --device");
    if (a.what >= KEY_DIGEST && a.what <= KEY_SESSION && !a.run.n)
        RAISE(DS4_ERR_USAGE, "give a %s file", a.what == KEY_SESSION ? "session" : "run");
    for (size_t i = 0; a.what == KEY_SESSION && i < a.run.n; i++)
        TRY(print_session(a.run.at[i], err));
    if (a.what == KEY_SESSION) goto out;
    for (size_t i = 0; i < a.run.n; i++) {
        drift_run *r = NULL;
        TRY(drift_run_open(&r, a.run.at[i], err));
        print_run(r, a.what);
        drift_run_close(r);
    }
    if (a.run.n) goto out;
    switch (a.what) {
    case KEY_DEVICE:
        TRY(info_devices(a.json, err));
        break;
    case KEY_VARIANTS:
        list_variants();
        break;
    case KEY_TAPS:
        list_taps();
        break;
    case KEY_OPS:
        for (int op = 0; op < DS4_OP_COUNT; op++)
            printf("%-14s %s\n", ds4_op_table[op].name, ds4_op_table[op].equation);
        break;
    case KEY_PLANS:
        for (uint32_t i = 0; i < ds4_plan_n_builtin(); i++) {
            const char *text, *name = ds4_plan_builtin(i, &text);
            printf("%-8s %s\n", name, text);
        }
        break;
    case KEY_PROFILES:
        fputs(ds4_profile_builtin(), stdout);
        break;
    case KEY_ROUTES:
        TRY(info_routes(&a.model, err));
        break;
    case KEY_ROWS:
        TRY(list_rows(a.engine, err));
        break;
    case KEY_ORDERS:
        TRY(list_orders(a.engine, err));
        break;
    default:
        printf("ds4-drift %s, compiler %s, %d ops, %d taps, %d variants\n", DS4_VERSION,
               __VERSION__, DS4_OP_COUNT, DS4_TAP_COUNT, DS4_VARIANT_COUNT);
        list_left_out();
    }
out:
    return st == DS4_OK ? 0 : cmd_fail("info", st, err);
}
