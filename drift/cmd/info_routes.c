#include "drift/cmd/info_routes.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Layers that were met; the last is that of the embedding and the head. */
typedef struct layer_set {
    bool at[DS4_MAX_LAYER + 1];
} layer_set;

static void add_layer(layer_set *s, uint32_t layer) {
    s->at[layer < DS4_MAX_LAYER ? layer : DS4_MAX_LAYER] = true;
}

/* "0-2+4+out", "none". */
static void put_layers(const layer_set *s) {
    const char *join = "";
    for (uint32_t il = 0, end; il < DS4_MAX_LAYER; il = end) {
        for (end = il + 1; s->at[il] && end < DS4_MAX_LAYER && s->at[end];) end++;
        if (!s->at[il]) continue;
        printf(end - il > 1 ? "%s%u-%u" : "%s%u", join, il, end - 1);
        join = "+";
    }
    if (s->at[DS4_MAX_LAYER]) printf("%sout", join);
    else if (!*join) printf("none");
}

static bool is_of(int route, int tap) {
    return !strcmp(ds4_tap_table[tap].route, ds4_route_table[route].name);
}

static bool is_route_row(const char *row) {
    for (uint32_t i = 0; ds4_route_row(i); i++)
        if (!strcmp(row, ds4_route_row(i))) return true;
    return false;
}

/* ---- this build, a model ---- */

static void put_route(int route, const ds4_routes *set) {
    const ds4_route_info *r = &ds4_route_table[route];
    const ds4_route_setting *s = &set->at[route];
    bool group = strcmp(r->group, "NONE");

    printf("%s%s%s\n  taps      ", r->name, group ? ", group " : "", group ? r->group : "");
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        if (is_of(route, t)) printf(" %s", ds4_tap_table[t].name);
    printf("\n  on         %s/%s\n  variable   DS4_ROUTE_", r->rows, r->when);
    for (const char *c = r->name; *c; c++) putchar(toupper((unsigned char)*c));
    const char *alias;
    for (uint32_t i = 0; (alias = ds4_route_alias((ds4_route)route, i)); i++)
        printf("%s%s", i ? " " : "\n  also      ", alias);
    printf("\n  setting    %s", s->text ? s->text : "none: the plan says");
    if (s->text) printf(" (%s, %s)", ds4_route_origin_text(s->origin), s->by);
    puts("");
}

/* Where the plan wants a row of the route. */
static layer_set wanted(const ds4_plan *p, int route) {
    layer_set s = {{false}};
    const ds4_backend *b = ds4_plan_backend(p);
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = 0; is_of(route, t) && il <= ds4_plan_n_layer(p); il++)
            for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
                uint32_t layer = il < ds4_plan_n_layer(p) ? il : DS4_NO_LAYER;
                ds4_cell c = ds4_plan_cell(p, (ds4_tap)t, layer, (ds4_phase)ph);
                for (int w = 0; w < DS4_MAX_WANTED && c.row[w]; w++)
                    if (is_route_row(b->ops->row(b, ds4_tap_table[t].op, c.row[w])->name))
                        add_layer(&s, layer);
            }
    return s;
}

static layer_set executed(const ds4_ledger *l, int route) {
    layer_set s = {{false}};
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++)
        if (is_of(route, ds4_ledger_at(l, i)->tap)) add_layer(&s, ds4_ledger_at(l, i)->layer);
    return s;
}

static ds4_status of_model(const cmd_engine *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_engine *e = NULL;
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    const int32_t token = 0;

    TRY(cmd_engine_open(&e, &plan, o, err));
    TRY(ds4_session_new(&s, e, plan, 1, 1, err));
    TRY(ds4_session_eval(s, &token, 1, DS4_DECODE, err));
    const ds4_profile *p = ds4_engine_profile(e);
    printf("engine %s, plan %s, profile %s%s%s\n", o->engine, o->plan, p->name,
           p->file ? " of " : "", p->file ? p->file : "");
    for (int r = 0; r < DS4_ROUTE_COUNT; r++) {
        put_route(r, ds4_engine_routes(e));
        layer_set ran = executed(ds4_session_ledger(s), r), may = wanted(plan, r);
        printf("  calls in   "), put_layers(&ran);
        printf("\n  may run in "), put_layers(&may), puts("");
    }
out:
    ds4_session_free(s);
    ds4_plan_free(plan);
    ds4_engine_close(e);
    return st;
}

ds4_status info_routes(const cmd_engine *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_routes set = {0};
    char by[128];

    puts(
        "A setting: off, or ROWS[@LAYERS][/prefill|/decode][/tok=N-M][/by=N][/pos=N+N-M][/tap=T+T],\n"
        "several joined by ; with ROWS on or names of rows joined by , and LAYERS 3, 0-2, 4- or out\n"
        "joined by +. Given by --route NAME=SETTING, DS4_ROUTE_<NAME>=SETTING or a profile, of a\n"
        "route, a group or all.");
    if (o->model) {
        TRY(of_model(o, err));
        goto out;
    }
    TRY(ds4_routes_from_env(&set, false, err));
    for (size_t i = 0; i < o->route.n; i++) {
        snprintf(by, sizeof by, "--route %.100s", o->route.at[i]);
        TRY(ds4_routes_set_text(&set, o->route.at[i], DS4_ROUTE_COMMAND, by, err));
    }
    for (int r = 0; r < DS4_ROUTE_COUNT; r++) put_route(r, &set);
out:
    ds4_routes_fini(&set);
    return st;
}

/* ---- a run ---- */

static bool is_call_of(int route, const drift_run_ledger *l) {
    int tap = ds4_tap_find(l->tap);
    return tap >= 0 && is_of(route, tap);
}

static void put_matrix(const drift_run *r) {
    printf("%-16s", "route \\ fixture");
    for (size_t i = 0; i < drift_run_n_fixture(r); i++)
        printf(" %22s", drift_run_fixture_at(r, i)->id);
    printf("\n%-16s", "tokens");
    for (size_t i = 0; i < drift_run_n_fixture(r); i++)
        printf(" %22u", drift_run_fixture_at(r, i)->n_tok);
    puts("");
    for (int route = 0; route < DS4_ROUTE_COUNT; route++) {
        printf("%-16s", ds4_route_table[route].name);
        for (size_t i = 0; i < drift_run_n_fixture(r); i++) {
            const drift_run_fixture *f = drift_run_fixture_at(r, i);
            uint64_t n_fast = 0, n_all = 0;
            char text[48] = "not exercised";
            for (size_t k = 0; k < f->n_ledger; k++) {
                const drift_run_ledger *l = &f->ledger[k];
                if (!is_call_of(route, l)) continue;
                n_all += l->n_call;
                if (is_route_row(l->row)) n_fast += l->n_call;
            }
            if (n_fast) snprintf(text, sizeof text, "%" PRIu64 " of %" PRIu64, n_fast, n_all);
            printf(" %22s", text);
        }
        puts("");
    }
}

/* An executed or refused row of a route, over all fixtures of a run. */
typedef struct use {
    const char *row, *wanted, *refusal;
    layer_set layers;
    bool tap[DS4_TAP_COUNT];
    uint64_t n_call;
} use;

enum { MAX_USE = 32 };

static void put_uses(const drift_run *r, int route) {
    use at[MAX_USE];
    size_t n = 0;

    for (size_t i = 0; i < drift_run_n_fixture(r); i++) {
        const drift_run_fixture *f = drift_run_fixture_at(r, i);
        for (size_t k = 0; k < f->n_ledger; k++) {
            const drift_run_ledger *l = &f->ledger[k];
            size_t u = 0;
            if (!is_call_of(route, l)) continue;
            while (u < n && (strcmp(at[u].row, l->row) || strcmp(at[u].refusal, l->refusal)))
                u++;
            if (u == MAX_USE) continue;
            if (u == n)
                at[n++] = (use){.row = l->row, .wanted = l->wanted, .refusal = l->refusal};
            add_layer(&at[u].layers, l->layer < 0 ? DS4_NO_LAYER : (uint32_t)l->layer);
            at[u].tap[ds4_tap_find(l->tap)] = true;
            at[u].n_call += l->n_call;
        }
    }
    printf("%s%s\n", ds4_route_table[route].name, n ? "" : ": no call of it");
    for (size_t u = 0; u < n; u++) {
        printf("  %-12s %6" PRIu64 " calls, layers ", at[u].row, at[u].n_call);
        put_layers(&at[u].layers);
        printf(", taps");
        for (int t = 0; t < DS4_TAP_COUNT; t++)
            if (at[u].tap[t]) printf(" %s", ds4_tap_table[t].name);
        if (*at[u].refusal) printf(", %s refused: %s", at[u].wanted, at[u].refusal);
        puts("");
    }
}

void info_routes_run(const drift_run *r) {
    put_matrix(r);
    for (int route = 0; route < DS4_ROUTE_COUNT; route++) put_uses(r, route);
}
