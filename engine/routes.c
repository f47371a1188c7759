#include "engine/routes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/near.h"

const ds4_route_info ds4_route_table[DS4_ROUTE_COUNT] = {
#define ROUTE(id, group, rows, when) {#id, #group, rows, when},
#include "engine/routes.def"
};

static const char *const route_rows[] = {
#define ROUTE_ROW(name) #name,
#include "engine/routes.def"
    NULL};

const char *ds4_route_row(uint32_t i) {
    return i < sizeof route_rows / sizeof *route_rows ? route_rows[i] : NULL;
}

int ds4_route_find(const char *name) {
    for (int r = 0; r < DS4_ROUTE_COUNT; r++)
        if (!strcmp(name, ds4_route_table[r].name)) return r;
    return -1;
}

bool ds4_route_is_member(ds4_route route, const char *target) {
    const ds4_route_info *i = &ds4_route_table[route];
    return !strcmp(target, "all") || !strcmp(target, i->name) ||
           (strcmp(i->group, "NONE") && !strcmp(target, i->group));
}

const char *ds4_route_origin_text(ds4_route_origin o) {
    static const char *const text[] = {"plan", "profile", "environment", "command line"};
    return text[o];
}

static void forget(ds4_route_setting *s) {
    ds4_mem_free(s->text);
    ds4_mem_free(s->by);
    *s = (ds4_route_setting){.text = NULL};
}

void ds4_routes_fini(ds4_routes *r) {
    for (int i = 0; i < DS4_ROUTE_COUNT; i++) forget(&r->at[i]);
}

void ds4_routes_forget(ds4_routes *r, ds4_route_origin origin) {
    for (int i = 0; i < DS4_ROUTE_COUNT; i++)
        if (r->at[i].origin == origin) forget(&r->at[i]);
}

static bool is_of_route(ds4_tap tap, int route) {
    return !strcmp(ds4_tap_table[tap].route, ds4_route_table[route].name);
}

/* A route's taps share their op. */
static ds4_op op_of(int route) {
    int t = 0;
    while (!is_of_route((ds4_tap)t, route)) t++;
    return ds4_tap_table[t].op;
}

/* ---- a setting as text ---- */

/* One window, cut out of a copy of the text; NULL: not said. */
typedef struct window {
    char *rows, *layers, *phase, *tok, *by, *pos, *tap;
} window;

static ds4_status check_rows(const char *rows, const char *who, ds4_err *err) {
    ds4_status st = DS4_OK;
    char copy[DS4_ROWS_TEXT], *rest = copy;

    if (!strcmp(rows, "on")) goto out;
    if (strlen(rows) >= sizeof copy)
        RAISE(DS4_ERR_USAGE, "%s: \"%.80s...\": longer than all names of rows", who, rows);
    strcpy(copy, rows);
    for (char *word; (word = strsep(&rest, ","));) {
        ds4_near near = {.word = word};
        bool known = false;
        ds4_near_try(&near, "on"), ds4_near_try(&near, "off");
        for (uint32_t i = 0; route_rows[i]; i++) {
            known = known || !strcmp(word, route_rows[i]);
            ds4_near_try(&near, route_rows[i]);
        }
        if (!known)
            RAISE(DS4_ERR_USAGE,
                  "%s: found \"%.80s\", wanted on, off, or rows of routes (f16, "
                  "coop_staged, ...)%s",
                  who, word, ds4_near_hint(&near));
    }
out:
    return st;
}

static ds4_status check_taps(const char *taps, int route, const char *who, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *copy = NULL;

    TRY(ds4_mem_strdup(&copy, taps, err));
    for (char *rest = copy, *word; (word = strsep(&rest, "+"));) {
        ds4_near near = {.word = word};
        bool known = false;
        for (int t = 0; t < DS4_TAP_COUNT; t++) {
            if (!is_of_route((ds4_tap)t, route)) continue;
            known = known || !strcmp(word, ds4_tap_table[t].name);
            ds4_near_try(&near, ds4_tap_table[t].name);
        }
        if (!known)
            RAISE(DS4_ERR_USAGE, "%s: \"%.80s\" is no tap of route %s%s", who, word,
                  ds4_route_table[route].name, ds4_near_hint(&near));
    }
out:
    ds4_mem_free(copy);
    return st;
}

/* Cuts one window apart; numbers are read where the plan reads them. */
static ds4_status cut_window(window *w, char *text, int route, const char *who, ds4_err *err) {
    ds4_status st = DS4_OK;
    static const char *const form =
        "prefill, decode, tok=N-M, by=N, pos=N+N-M or tap=NAME+NAME";
    char *rest = text, *head = strsep(&rest, "/");

    *w = (window){.rows = strsep(&head, "@")};
    w->layers = head;
    TRY(check_rows(w->rows, who, err));
    if (w->layers && (!*w->layers || w->layers[strspn(w->layers, "0123456789-+out")]))
        RAISE(DS4_ERR_USAGE, "%s: layers \"%.80s\", wanted N, N-M, N- or out, joined by +", who,
              w->layers);
    for (char *part; (part = strsep(&rest, "/"));) {
        struct {
            const char *name;
            char **to;
            const char *letters; /* of its value; NULL: it has none */
        } parts[] = {{"prefill", &w->phase, NULL},
                     {"decode", &w->phase, NULL},
                     {"tok=", &w->tok, "0123456789-"},
                     {"by=", &w->by, "0123456789"},
                     {"pos=", &w->pos, "0123456789-+"},
                     {"tap=", &w->tap, "abcdefghijklmnopqrstuvwxyz0123456789_+"}};
        char **to = NULL;
        ds4_near near = {.word = part};
        for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
            size_t n = strlen(parts[i].name);
            ds4_near_try(&near, parts[i].name);
            const char *letters = parts[i].letters ? parts[i].letters : "";
            if (!strncmp(part, parts[i].name, n) && !part[n] == !*letters &&
                !part[n + strspn(part + n, letters)])
                to = parts[i].to;
        }
        if (!to)
            RAISE(DS4_ERR_USAGE, "%s: found \"%.80s\", wanted %s%s", who, part, form,
                  ds4_near_hint(&near));
        if (*to) RAISE(DS4_ERR_USAGE, "%s: \"%.80s\" is a second such part", who, part);
        *to = part;
    }
    if (w->tap) TRY(check_taps(w->tap + 4, route, who, err));
out:
    return st;
}

enum { MAX_WINDOW = 32 };

/* The windows of a setting; none: off. */
typedef struct windows {
    char *copy;
    window at[MAX_WINDOW];
    uint32_t n;
} windows;

static ds4_status cut(windows *ws, int route, const char *text, const char *who, ds4_err *err) {
    ds4_status st = DS4_OK;

    ws->n = 0;
    TRY(ds4_mem_strdup(&ws->copy, text, err));
    if (!strcmp(text, "off")) goto out;
    for (char *rest = ws->copy, *one; (one = strsep(&rest, ";"));) {
        if (ws->n == MAX_WINDOW)
            RAISE(DS4_ERR_USAGE, "%s: more than %d windows", who, MAX_WINDOW);
        TRY(cut_window(&ws->at[ws->n++], one, route, who, err));
    }
out:
    return st;
}

/* ---- settings by name ---- */

ds4_status ds4_routes_set(ds4_routes *r, const char *target, const char *setting,
                          ds4_route_origin origin, const char *by, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_near near = {.word = target};
    char *text = NULL, *name = NULL;
    windows ws = {0};
    bool any = false;

    if (strlen(setting) > DS4_ROUTE_LONGEST)
        RAISE(DS4_ERR_USAGE, "%s: a setting of %zu bytes, wanted at most %d", by,
              strlen(setting), DS4_ROUTE_LONGEST);
    ds4_near_try(&near, "all");
    for (int i = 0; i < DS4_ROUTE_COUNT; i++) {
        ds4_near_try(&near, ds4_route_table[i].name);
        if (strcmp(ds4_route_table[i].group, "NONE"))
            ds4_near_try(&near, ds4_route_table[i].group);
        if (!ds4_route_is_member((ds4_route)i, target)) continue;
        any = true;
        ds4_mem_free(ws.copy), ws.copy = NULL;
        TRY(cut(&ws, i, setting, by, err));
        if (r->at[i].origin > origin) continue;
        TRY(ds4_mem_strdup(&text, setting, err));
        TRY(ds4_mem_strdup(&name, by, err));
        forget(&r->at[i]);
        r->at[i] = (ds4_route_setting){origin, text, name};
        text = name = NULL;
    }
    if (!any)
        RAISE(DS4_ERR_USAGE, "%s: no route or group is called \"%.80s\"%s", by, target,
              ds4_near_hint(&near));
out:
    ds4_mem_free(ws.copy);
    ds4_mem_free(text);
    ds4_mem_free(name);
    return st;
}

ds4_status ds4_routes_set_text(ds4_routes *r, const char *text, ds4_route_origin origin,
                               const char *by, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *eq = strchr(text, '=');
    char target[64];
    size_t n = eq ? (size_t)(eq - text) : 0;

    if (!n || n >= sizeof target)
        RAISE(DS4_ERR_USAGE, "%s: found \"%.200s\", wanted ROUTE=SETTING", by, text);
    memcpy(target, text, n), target[n] = 0;
    TRY(ds4_routes_set(r, target, eq + 1, origin, by, err));
out:
    return st;
}

/* ---- a setting as edits of a plan ---- */

static bool has_row(const ds4_plan *p, ds4_op op, const char *name) {
    const ds4_backend *b = ds4_plan_backend(p);
    for (uint32_t i = 1; i < b->ops->n_row(b, op); i++)
        if (!strcmp(b->ops->row(b, op, i)->name, name)) return true;
    return false;
}

/* A growing text; n counts without the end. */
typedef struct text {
    char *p;
    size_t n, cap;
} text;

__attribute__((format(printf, 3, 4))) static ds4_status put(text *o, ds4_err *err,
                                                            const char *fmt, ...) {
    ds4_status st = DS4_OK;
    va_list ap, again;

    va_start(ap, fmt);
    va_copy(again, ap);
    size_t n = (size_t)vsnprintf(NULL, 0, fmt, ap);
    if (o->n + n + 1 > o->cap) {
        TRY(ds4_mem_grow(&o->p, 2 * (o->n + n + 1), 1, err));
        o->cap = 2 * (o->n + n + 1);
    }
    vsnprintf(o->p + o->n, n + 1, fmt, again);
    o->n += n;
out:
    va_end(again);
    va_end(ap);
    return st;
}

/* "f16/tok=9-/pos=512,f16/tok=9-/pos=1024": the rows of a window that the engine has, once per
 * range of positions. A route's own rows are those that there are; rows by name must all be
 * there, unless a profile names them. */
static ds4_status put_rows(text *o, const ds4_plan *p, int route, const window *w, bool lenient,
                           const char *who, ds4_err *err) {
    ds4_status st = DS4_OK;
    bool own = !strcmp(w->rows, "on");
    char *rows = NULL, *pos = NULL;
    size_t n0 = o->n;

    TRY(ds4_mem_strdup(&rows, own ? ds4_route_table[route].rows : w->rows, err));
    for (char *rest = rows, *row; (row = strsep(&rest, ","));) {
        if (!has_row(p, op_of(route), row)) {
            if (own || lenient) continue;
            RAISE(DS4_ERR_USAGE, "%s: engine %s has no row \"%s\" for route %s", who,
                  ds4_plan_backend(p)->ops->name, row, ds4_route_table[route].name);
        }
        ds4_mem_free(pos), pos = NULL;
        TRY(ds4_mem_strdup(&pos, w->pos ? w->pos + 4 : "", err));
        for (char *more = pos, *range; (range = strsep(&more, "+"));) {
            TRY(put(o, err, "%s%s/%s", o->n == n0 ? "" : ",", row,
                    w->tok ? w->tok : ds4_route_table[route].when));
            if (w->by) TRY(put(o, err, "/%s", w->by));
            if (w->pos) TRY(put(o, err, "/pos=%s", range));
        }
    }
    if (o->n == n0 && !lenient)
        RAISE(DS4_ERR_USAGE, "%s: engine %s has none of the rows of route %s (%s)", who,
              ds4_plan_backend(p)->ops->name, ds4_route_table[route].name,
              ds4_route_table[route].rows);
out:
    ds4_mem_free(rows);
    ds4_mem_free(pos);
    return st;
}

/* The edits of one window, a line per target. */
static ds4_status put_window(text *o, const ds4_plan *p, int route, const window *w,
                             bool lenient, const char *who, ds4_err *err) {
    ds4_status st = DS4_OK;
    text rows = {0};
    char *taps = NULL;

    TRY(put_rows(&rows, p, route, w, lenient, who, err));
    if (!rows.n) goto out;
    TRY(ds4_mem_strdup(&taps, w->tap ? w->tap + 4 : ds4_route_table[route].name, err));
    for (char *rest = taps, *name; (name = strsep(&rest, "+"));)
        TRY(put(o, err, "%s:%s%s%s%s%s=+%s\n", w->tap ? "tap" : "route", name,
                w->layers ? "@" : "", w->layers ? w->layers : "", w->phase ? "/" : "",
                w->phase ? w->phase : "", rows.p));
out:
    ds4_mem_free(rows.p);
    ds4_mem_free(taps);
    return st;
}

/* `off`: the rows of routes that the op has are taken away. */
static ds4_status put_off(text *o, const ds4_plan *p, int route, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *before = "=-";
    for (uint32_t i = 0; route_rows[i]; i++) {
        if (!has_row(p, op_of(route), route_rows[i])) continue;
        if (*before == '=') TRY(put(o, err, "route:%s", ds4_route_table[route].name));
        TRY(put(o, err, "%s%s", before, route_rows[i]));
        before = ",";
    }
    if (*before == ',') TRY(put(o, err, "\n"));
out:
    return st;
}

static ds4_status apply_one(ds4_plan *p, int route, const ds4_route_setting *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    text edits = {0};
    windows ws = {0};

    TRY(put(&edits, err, "%s", ""));
    TRY(put_off(&edits, p, route, err));
    TRY(cut(&ws, route, s->text, s->by, err));
    for (uint32_t i = ws.n; i--;) /* the first window's rows come first */
        TRY(put_window(&edits, p, route, &ws.at[i], s->origin == DS4_ROUTE_PROFILE, s->by,
                       err));
    st = ds4_plan_edit(p, edits.p, err);
    if (st != DS4_OK && err) {
        ds4_err e = *err;
        ds4_err_set(err, st, e.origin, "%.100s: %.400s", s->by, e.message);
    }
out:
    ds4_mem_free(edits.p);
    ds4_mem_free(ws.copy);
    return st;
}

ds4_status ds4_routes_apply(ds4_plan *p, const ds4_routes *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (int i = 0; i < DS4_ROUTE_COUNT; i++)
        if (r->at[i].origin != DS4_ROUTE_PLAN) TRY(apply_one(p, i, &r->at[i], err));
out:
    return st;
}
