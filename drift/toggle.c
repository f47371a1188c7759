#include "drift/toggle.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

void drift_toggles_free(drift_toggles *t) {
    for (size_t i = 0; i < t->n; i++) ds4_mem_free(t->text[i]);
    ds4_mem_free(t->text);
    *t = (drift_toggles){0};
}

ds4_status drift_toggles_add(drift_toggles *t, const char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        TRY(ds4_mem_grow(&t->text, cap, sizeof *t->text, err));
        t->cap = cap;
    }
    TRY(ds4_mem_strdup(&t->text[t->n], text, err));
    t->n++;
out:
    return st;
}

static bool same_rows(ds4_cell a, ds4_cell b) { return ds4_cell_same_rows(&a, &b); }

/* Layer number of index il: the last index is the embedding and the head. */
static uint32_t layer_at(const ds4_plan *p, uint32_t il) {
    return il < ds4_plan_n_layer(p) ? il : DS4_NO_LAYER;
}

static void layer_text(char dst[16], const ds4_plan *p, uint32_t il) {
    if (il < ds4_plan_n_layer(p)) snprintf(dst, 16, "%u", il);
    else snprintf(dst, 16, "out");
}

/* Name of the group that a tap belongs to; taps of one group and layer toggle together. */
static void group_name(char dst[64], ds4_tap tap, drift_grain grain) {
    const ds4_tap_info *t = &ds4_tap_table[tap];
    if (grain == DRIFT_GRAIN_TAP) snprintf(dst, 64, "tap:%s", t->name);
    else if (grain == DRIFT_GRAIN_LAYER) snprintf(dst, 64, "*");
    else if (grain == DRIFT_GRAIN_ROUTE && strcmp(t->route, "NONE"))
        snprintf(dst, 64, "route:%s", t->route);
    else snprintf(dst, 64, "%s", ds4_op_table[t->op].name);
}

typedef struct group {
    char name[64];
    uint32_t il0, il1; /* layer indices, il1 inclusive */
    drift_grain grain;
} group;

static bool is_member(const group *g, ds4_tap tap) {
    char name[64];
    group_name(name, tap, g->grain);
    return !strcmp(name, g->name);
}

/* The first member that differs gives `some` and `any`; true when every member, changed or not,
 * wants the same rows, so that one short edit says it. */
static bool is_uniform(const group *g, const ds4_plan *from, const ds4_plan *to, ds4_phase ph,
                       ds4_tap *some, bool *any) {
    ds4_cell first = {.variants = 0}, cell;
    bool uniform = g->grain != DRIFT_GRAIN_LAYER, have = false;
    *any = false;
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = g->il0; il <= g->il1; il++) {
            if (!is_member(g, (ds4_tap)t)) continue;
            cell = ds4_plan_cell(to, (ds4_tap)t, layer_at(to, il), ph);
            if (!have) first = cell, have = true;
            uniform = uniform && same_rows(cell, first);
            if (same_rows(cell, ds4_plan_cell(from, (ds4_tap)t, layer_at(from, il), ph)))
                continue;
            if (!*any) *some = (ds4_tap)t;
            *any = true;
        }
    return uniform;
}

static void append(char *dst, size_t cap, const char *edit) {
    size_t n = strlen(dst);
    snprintf(dst + n, cap - n, "%s%s", n ? "; " : "", edit);
}

/* The edits of a group in one phase, tap by tap. */
static void append_taps(char *text, size_t cap, const group *g, const ds4_plan *from,
                        const ds4_plan *to, ds4_phase ph) {
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = g->il0; il <= g->il1; il++) {
            char edit[DS4_ROWS_TEXT + 64], rows[DS4_ROWS_TEXT], layer[16];
            ds4_cell b = ds4_plan_cell(to, (ds4_tap)t, layer_at(to, il), ph);
            if (!is_member(g, (ds4_tap)t) ||
                same_rows(b, ds4_plan_cell(from, (ds4_tap)t, layer_at(from, il), ph)))
                continue;
            ds4_plan_rows_text(rows, to, (ds4_tap)t, &b);
            layer_text(layer, to, il);
            snprintf(edit, sizeof edit, "tap:%s@%s/%s=%s", ds4_tap_table[t].name, layer,
                     ph == DS4_PREFILL ? "prefill" : "decode", rows);
            append(text, cap, edit);
        }
}

static ds4_status add_group(drift_toggles *t, const group *g, const ds4_plan *from,
                            const ds4_plan *to, ds4_err *err) {
    char text[16384] = "", rows[2][DS4_ROWS_TEXT], layers[40], layer[16];
    char edit[DS4_ROWS_TEXT + 128];
    bool any[2], uniform[2];
    ds4_tap some = 0;

    for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
        uniform[ph] = is_uniform(g, from, to, (ds4_phase)ph, &some, &any[ph]);
        if (!any[ph]) continue;
        ds4_cell c = ds4_plan_cell(to, some, layer_at(to, g->il0), (ds4_phase)ph);
        ds4_plan_rows_text(rows[ph], to, some, &c);
    }
    if (!any[0] && !any[1]) return DS4_OK;
    layer_text(layer, to, g->il0);
    layers[0] = 0;
    if (g->il0 == g->il1) snprintf(layers, sizeof layers, "@%s", layer);
    if (any[0] && any[1] && uniform[0] && uniform[1] && !strcmp(rows[0], rows[1])) {
        snprintf(text, sizeof text, "%s%s=%s", g->name, layers, rows[0]);
        return drift_toggles_add(t, text, err);
    }
    for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
        if (!any[ph]) continue;
        if (uniform[ph]) {
            snprintf(edit, sizeof edit, "%s%s/%s=%s", g->name, layers,
                     ph == DS4_PREFILL ? "prefill" : "decode", rows[ph]);
            append(text, sizeof text, edit);
        } else {
            append_taps(text, sizeof text, g, from, to, (ds4_phase)ph);
        }
    }
    return drift_toggles_add(t, text, err);
}

/* True when no earlier tap has this tap's group. */
static bool is_first_of_group(ds4_tap tap, drift_grain grain) {
    char name[64], other[64];
    group_name(name, tap, grain);
    for (int t = 0; t < (int)tap; t++) {
        group_name(other, (ds4_tap)t, grain);
        if (!strcmp(name, other)) return false;
    }
    return true;
}

/* How a variant differs in a layer, for each phase: it does, and its value in `to`. */
typedef struct flip {
    bool any[DS4_PHASE_COUNT], on[DS4_PHASE_COUNT];
} flip;

static flip flip_of(const ds4_plan *from, const ds4_plan *to, int v, uint32_t il) {
    flip f = {{false}, {false}};
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
            uint32_t a =
                ds4_plan_cell(from, (ds4_tap)t, layer_at(from, il), (ds4_phase)ph).variants;
            uint32_t b =
                ds4_plan_cell(to, (ds4_tap)t, layer_at(to, il), (ds4_phase)ph).variants;
            if ((a ^ b) >> v & 1) f.any[ph] = true, f.on[ph] = b >> v & 1;
        }
    return f;
}

/* The edits of a flip; layers is "" or "@" and a layer. */
static void flip_text(char *dst, size_t cap, int v, const char *layers, flip f) {
    char edit[128];
    dst[0] = 0;
    if (f.any[0] && f.any[1] && f.on[0] == f.on[1]) {
        snprintf(dst, cap, "%s%s=%d", ds4_variant_table[v].name, layers, f.on[0]);
        return;
    }
    for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
        if (!f.any[ph]) continue;
        snprintf(edit, sizeof edit, "%s%s/%s=%d", ds4_variant_table[v].name, layers,
                 ph == DS4_PREFILL ? "prefill" : "decode", f.on[ph]);
        append(dst, cap, edit);
    }
}

static ds4_status add_variant(drift_toggles *t, const ds4_plan *from, const ds4_plan *to, int v,
                              drift_grain grain, ds4_err *err) {
    ds4_status st = DS4_OK;
    flip first = flip_of(from, to, v, 0);
    bool all = first.any[0] || first.any[1];
    char text[256], layers[20], layer[16];
    uint32_t n = ds4_plan_n_layer(from) + 1;

    for (uint32_t il = 1; all && il < n; il++) {
        flip f = flip_of(from, to, v, il);
        all = !memcmp(&f, &first, sizeof f);
    }
    if (grain == DRIFT_GRAIN_ROW && all) {
        flip_text(text, sizeof text, v, "", first);
        return drift_toggles_add(t, text, err);
    }
    for (uint32_t il = 0; il < n; il++) {
        flip f = flip_of(from, to, v, il);
        if (!f.any[0] && !f.any[1]) continue;
        layer_text(layer, from, il);
        snprintf(layers, sizeof layers, "@%s", layer);
        flip_text(text, sizeof text, v, layers, f);
        TRY(drift_toggles_add(t, text, err));
    }
out:
    return st;
}

ds4_status drift_toggles_diff(drift_toggles *t, const ds4_plan *from, const ds4_plan *to,
                              drift_grain grain, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n = ds4_plan_n_layer(from) + 1;

    for (int v = 0; v < DS4_VARIANT_COUNT; v++) TRY(add_variant(t, from, to, v, grain, err));
    for (uint32_t il = 0; il < n; il++)
        for (int tap = 0; tap < DS4_TAP_COUNT; tap++) {
            group g = {.il0 = il, .il1 = il, .grain = grain};
            if (!is_first_of_group((ds4_tap)tap, grain)) continue;
            if (grain == DRIFT_GRAIN_ROW) {
                if (il) continue;
                g.il1 = n - 1;
            }
            group_name(g.name, (ds4_tap)tap, grain);
            TRY(add_group(t, &g, from, to, err));
        }
out:
    return st;
}

ds4_status drift_toggles_route(drift_toggles *t, const ds4_plan *from, const ds4_routes *routes,
                               const char *target, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_routes one = {0};
    ds4_plan *to = NULL;
    char by[96];
    size_t n = t->n;

    snprintf(by, sizeof by, "--toggle route:%.64s", target);
    TRY(ds4_routes_set(&one, target, "on", DS4_ROUTE_COMMAND, by, err));
    for (int i = 0; routes && i < DS4_ROUTE_COUNT; i++) {
        const char *text = routes->at[i].text;
        if (text && strcmp(text, "off") && ds4_route_is_member((ds4_route)i, target))
            TRY(ds4_routes_set(&one, ds4_route_table[i].name, text, DS4_ROUTE_COMMAND, by,
                               err));
    }
    TRY(ds4_plan_copy(&to, from, err));
    TRY(ds4_routes_apply(to, &one, err));
    TRY(drift_toggles_diff(t, from, to, DRIFT_GRAIN_ROUTE, err));
    if (t->n == n) RAISE(DS4_ERR_USAGE, "%s: the base plan runs it so already", by);
out:
    ds4_routes_fini(&one);
    ds4_plan_free(to);
    return st;
}
