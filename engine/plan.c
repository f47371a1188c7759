#include "engine/plan.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/format/quant.h"
#include "engine/model/config.h"

struct ds4_plan {
    const ds4_backend *backend;
    uint32_t n_layer;
    ds4_cell *cell; /* [DS4_TAP_COUNT][n_layer + 1][DS4_PHASE_COUNT]; the last layer is
                       DS4_NO_LAYER */
};

static const struct {
    const char *name, *text;
} builtin[] = {
#define PLAN(name, text) {name, text},
#include "engine/plans.def"
#undef PLAN
};

uint32_t ds4_plan_n_builtin(void) { return sizeof builtin / sizeof *builtin; }
const char *ds4_plan_builtin(uint32_t i, const char **text) {
    if (text) *text = builtin[i].text;
    return builtin[i].name;
}

uint32_t ds4_plan_n_layer(const ds4_plan *p) { return p->n_layer; }
const ds4_backend *ds4_plan_backend(const ds4_plan *p) { return p->backend; }

static size_t n_cell(const ds4_plan *p) {
    return (size_t)DS4_TAP_COUNT * (p->n_layer + 1) * DS4_PHASE_COUNT;
}

static ds4_tap tap_at(const ds4_plan *p, size_t cell) {
    return (ds4_tap)(cell / ((p->n_layer + 1) * (size_t)DS4_PHASE_COUNT));
}

static ds4_cell *cell_at(const ds4_plan *p, ds4_tap tap, uint32_t layer, ds4_phase phase) {
    uint32_t il = layer < p->n_layer ? layer : p->n_layer;
    return &p->cell[((size_t)tap * (p->n_layer + 1) + il) * DS4_PHASE_COUNT + phase];
}

ds4_cell ds4_plan_cell(const ds4_plan *p, ds4_tap tap, uint32_t layer, ds4_phase phase) {
    return *cell_at(p, tap, layer, phase);
}

void ds4_plan_set(ds4_plan *p, ds4_tap tap, uint32_t layer, ds4_phase phase, ds4_cell cell) {
    *cell_at(p, tap, layer, phase) = cell;
}

const char *ds4_when_refuses(const ds4_when *w, uint32_t n_tok, uint32_t pos) {
    if (n_tok < w->tok0) return "fewer tokens than the plan wants for the row";
    if (w->tok_end && n_tok >= w->tok_end) return "more tokens than the plan wants for the row";
    if (w->by && n_tok % w->by)
        return "no multiple of the tokens that the plan wants for the row";
    if (pos < w->pos0 || (w->pos_end && pos >= w->pos_end))
        return "outside the positions that the plan wants for the row";
    return NULL;
}

static bool same_when(const ds4_when *a, const ds4_when *b) {
    return a->tok0 == b->tok0 && a->tok_end == b->tok_end && a->by == b->by &&
           a->pos0 == b->pos0 && a->pos_end == b->pos_end;
}

bool ds4_cell_same_rows(const ds4_cell *a, const ds4_cell *b) {
    for (uint32_t i = 0; i < DS4_MAX_WANTED; i++) {
        if (a->row[i] != b->row[i]) return false;
        if (!a->row[i]) break;
        if (!same_when(&a->when[i], &b->when[i])) return false;
    }
    return true;
}

static const char blocks[] = "weights:blocks";

static bool is_projection(ds4_tap tap) {
    ds4_op op = ds4_tap_table[tap].op;
    return op == DS4_OP_matmul || op == DS4_OP_matmul_id;
}

/* Whether a variant can matter to any row of this call. */
static bool touches(ds4_variant v, ds4_tap tap) {
    const char *what = ds4_variant_table[v].touches,
               *op = ds4_op_table[ds4_tap_table[tap].op].name;
    if (!strcmp(what, blocks)) return is_projection(tap);
    if (!strncmp(what, "rows:", 5)) return true; /* fast and tensor: the row decides */
    for (size_t n; *what; what += n + (what[n] == '|')) {
        bool by_op = !strncmp(what, "op:", 3);
        const char *name = by_op ? op : ds4_tap_table[tap].name;
        size_t head = by_op ? 3 : 4; /* "op:", "tap:" */
        n = strcspn(what, "|");
        if (strlen(name) == n - head && !memcmp(what + head, name, n - head)) return true;
    }
    return false;
}

bool ds4_plan_honours(const ds4_plan *p, ds4_tap tap, uint32_t wtype, uint32_t row, uint32_t on,
                      ds4_variant v) {
    const ds4_row_info *info = p->backend->ops->row(p->backend, ds4_tap_table[tap].op, row);
    if (!strcmp(ds4_variant_table[v].touches, blocks) && ds4_quant_by_id(wtype)->n_elem == 1)
        return false;
    if (v == DS4_VARIANT_KV_RAW_F32 && on & info->variants & DS4_VARIANT_BIT(STORE_EXACT))
        return false; /* nothing is rounded, so there is no rounding to leave out */
    return touches(v, tap) && (info->variants >> v & 1);
}

bool ds4_plan_is_seeded(const ds4_plan *p) {
    for (size_t i = 0; i < n_cell(p); i++) {
        ds4_op op = ds4_tap_table[tap_at(p, i)].op;
        for (int w = 0; w < DS4_MAX_WANTED && p->cell[i].row[w]; w++)
            if (p->backend->ops->row(p->backend, op, p->cell[i].row[w])->seeded) return true;
    }
    return false;
}

ds4_status ds4_plan_new(ds4_plan **out, const ds4_backend *b, uint32_t n_layer,
                        uint32_t variants, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_plan *p = NULL;

    TRY(ds4_mem_alloc(&p, 1, sizeof *p, err));
    p->backend = b, p->n_layer = n_layer;
    TRY(ds4_mem_alloc(&p->cell, n_cell(p), sizeof *p->cell, err));
    /* A variant stands off its default where it touches the call, and nowhere else. */
    for (size_t i = 0; i < n_cell(p); i++)
        for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
            bool on = touches((ds4_variant)v, tap_at(p, i)) ? variants >> v & 1
                                                            : ds4_variant_table[v].def;
            p->cell[i].variants |= (uint32_t)on << v;
        }
    *out = p, p = NULL;
out:
    ds4_plan_free(p);
    return st;
}

ds4_status ds4_plan_copy(ds4_plan **out, const ds4_plan *from, ds4_err *err) {
    ds4_plan *p;
    ds4_status st = ds4_plan_new(&p, from->backend, from->n_layer, 0, err);
    if (st != DS4_OK) return st;
    memcpy(p->cell, from->cell, n_cell(p) * sizeof *p->cell);
    *out = p;
    return DS4_OK;
}

void ds4_plan_free(ds4_plan *p) {
    if (!p) return;
    ds4_mem_free(p->cell);
    ds4_mem_free(p);
}

/* ---- the text form ---- */

/* One parsed edit: which cells, and the words of its value. */
typedef struct edit {
    char target[64], value[DS4_ROWS_TEXT];
    bool layer[DS4_MAX_LAYER + 1]; /* element n_layer is the output head */
    bool phase[DS4_PHASE_COUNT];
    const char *text; /* the whole edit, for messages */
    bool found;       /* some edit of this text set a cell */
} edit;

static char *trim(char *s) {
    while (isspace((unsigned char)*s)) s++;
    char *end = s + strlen(s);
    while (end > s && isspace((unsigned char)end[-1])) *--end = 0;
    return s;
}

/* "3", "0-2", "4-", "out", joined by '+'. */
static ds4_status parse_layers(edit *e, const ds4_plan *p, char *s, ds4_err *err) {
    ds4_status st = DS4_OK;

    memset(e->layer, 0, sizeof e->layer);
    if (!*s) RAISE(DS4_ERR_USAGE, "plan: \"%s\": no layers after @", e->text);
    for (char *word; (word = strsep(&s, "+"));) {
        if (!strcmp(word, "out")) {
            e->layer[p->n_layer] = true;
            continue;
        }
        char *end;
        if (!isdigit((unsigned char)*word))
            RAISE(DS4_ERR_USAGE, "plan: \"%s\": layers \"%s\", wanted N, N-M, N- or out",
                  e->text, word);
        unsigned long a = strtoul(word, &end, 10), b = a;
        if (*end == '-' && !end[1]) b = p->n_layer - 1, end++;
        else if (*end == '-' && isdigit((unsigned char)end[1])) b = strtoul(end + 1, &end, 10);
        if (*end || a > b || b >= p->n_layer)
            RAISE(DS4_ERR_USAGE,
                  "plan: \"%s\": layers \"%s\", wanted N, N-M or N- within 0-%u, or out",
                  e->text, word, p->n_layer - 1);
        for (unsigned long il = a; il <= b; il++) e->layer[il] = true;
    }
out:
    return st;
}

static ds4_status parse_edit(edit *e, const ds4_plan *p, char *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *eq = strchr(s, '='), *at, *slash;

    if (!eq || eq == s || !eq[1])
        RAISE(DS4_ERR_USAGE, "plan: \"%s\": wanted TARGET[@LAYERS][/PHASE]=VALUE", e->text);
    *eq = 0;
    for (uint32_t il = 0; il <= p->n_layer; il++) e->layer[il] = true;
    e->phase[DS4_PREFILL] = e->phase[DS4_DECODE] = true;
    if ((slash = strchr(s, '/'))) {
        *slash = 0;
        char *ph = trim(slash + 1);
        e->phase[DS4_PREFILL] = !strcmp(ph, "prefill"),
        e->phase[DS4_DECODE] = !strcmp(ph, "decode");
        if (!e->phase[0] && !e->phase[1])
            RAISE(DS4_ERR_USAGE, "plan: \"%s\": phase \"%s\", wanted prefill or decode",
                  e->text, ph);
    }
    if ((at = strchr(s, '@'))) {
        *at = 0;
        TRY(parse_layers(e, p, trim(at + 1), err));
    }
    char *target = trim(s), *value = trim(eq + 1);
    if (strlen(target) >= sizeof e->target || strlen(value) >= sizeof e->value)
        RAISE(DS4_ERR_USAGE, "plan: \"%s\": longer than any name", e->text);
    strcpy(e->target, target);
    strcpy(e->value, value);
out:
    return st;
}

/* Whether a target names this call: `*`, an op, a tap or a route. */
static bool is_target(const char *target, ds4_tap tap) {
    const ds4_tap_info *t = &ds4_tap_table[tap];
    if (!strcmp(target, "*")) return true;
    if (!strncmp(target, "op:", 3)) return !strcmp(target + 3, ds4_op_table[t->op].name);
    if (!strncmp(target, "tap:", 4)) return !strcmp(target + 4, t->name);
    if (!strncmp(target, "route:", 6))
        return strcmp(t->route, "NONE") && !strcmp(target + 6, t->route);
    if (ds4_op_find(target) >= 0) return !strcmp(target, ds4_op_table[t->op].name);
    return !strcmp(target, t->name);
}

/* "strict" is row 0 of any engine: its only row in ref64, where the ledger calls it f64. */
static int find_row(const ds4_backend *b, ds4_op op, const char *name) {
    if (!strcmp(name, "strict")) return 0;
    for (uint32_t i = 0; i < b->ops->n_row(b, op); i++)
        if (!strcmp(b->ops->row(b, op, i)->name, name)) return (int)i;
    return -1;
}

/* "8", "9-" or "9-64", or with `one` a number alone; false: anything else. *end is exclusive.
 */
static bool parse_range(uint32_t *from, uint32_t *end, const char *s, bool one) {
    char *at;
    if (!isdigit((unsigned char)*s)) return false;
    errno = 0;
    unsigned long a = strtoul(s, &at, 10), b = a;
    bool open = !one && at[0] == '-' && !at[1];
    if (!one && !open && at[0] == '-' && isdigit((unsigned char)at[1]))
        b = strtoul(at + 1, &at, 10);
    if ((*at && !open) || errno || a > b || b >= UINT32_MAX) return false;
    *from = (uint32_t)a, *end = open ? 0 : (uint32_t)b + 1;
    return true;
}

/* One condition of a row, "tok=9-"; a condition is said once. */
static ds4_status parse_condition(ds4_when *w, const edit *e, char *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t from = 0, end = 0;
    bool again = false, ok = false;

    if (!strncmp(s, "tok=", 4)) {
        again = w->tok0 || w->tok_end, ok = parse_range(&from, &end, s + 4, false);
        w->tok0 = from, w->tok_end = end;
    } else if (!strncmp(s, "pos=", 4)) {
        again = w->pos0 || w->pos_end, ok = parse_range(&from, &end, s + 4, false);
        w->pos0 = from, w->pos_end = end;
    } else if (!strncmp(s, "by=", 3)) {
        again = w->by, ok = parse_range(&from, &end, s + 3, true) && from > 1;
        w->by = from;
    }
    if (!ok)
        RAISE(DS4_ERR_USAGE,
              "plan: \"%s\": condition \"%s\", wanted tok=N, tok=N-, tok=N-M, the same of pos, "
              "or by=N (N of at least 2)",
              e->text, s);
    if (again)
        RAISE(DS4_ERR_USAGE, "plan: \"%s\": \"%s\" is a second such condition", e->text, s);
out:
    return st;
}

/* The rows of an edit for one op. */
typedef struct row_list {
    uint32_t n;
    uint8_t row[DS4_MAX_WANTED];
    ds4_when when[DS4_MAX_WANTED];
    bool fits;   /* the op has the rows: one of them when lenient, else all */
    bool strict; /* strict stands in the list, at its end */
} row_list;

/* Rows that the op lacks are left out when `lenient`; else they make the value unfit. Strict
 * accepts every call: what follows it never runs. */
static ds4_status parse_rows(row_list *l, const ds4_plan *p, ds4_op op, const edit *e,
                             const char *value, bool lenient, ds4_err *err) {
    ds4_status st = DS4_OK;
    char copy[DS4_ROWS_TEXT], *rest = copy;

    *l = (row_list){.fits = false};
    snprintf(copy, sizeof copy, "%s", value);
    for (char *word; (word = strsep(&rest, ","));) {
        char *name = trim(strsep(&word, "/"));
        ds4_when when = {0};
        int i = find_row(p->backend, op, name);
        if (i < 0 && !lenient) {
            l->fits = false;
            goto out;
        }
        if (i >= 0) l->fits = true;
        for (char *condition; (condition = strsep(&word, "/"));) {
            if (!i)
                RAISE(DS4_ERR_USAGE,
                      "plan: \"%s\": strict runs whatever the batch, wanted no "
                      "condition \"%s\"",
                      e->text, condition);
            TRY(parse_condition(&when, e, trim(condition), err));
        }
        if (i == 0) l->strict = true;
        if (i <= 0 || l->strict) continue;
        if (l->n == DS4_MAX_WANTED)
            RAISE(DS4_ERR_USAGE, "plan: \"%s\": more than %d rows", e->text, DS4_MAX_WANTED);
        l->row[l->n] = (uint8_t)i, l->when[l->n++] = when;
    }
out:
    return st;
}

static bool holds(const row_list *l, uint8_t row, const ds4_when *when) {
    for (uint32_t i = 0; i < l->n; i++)
        if (l->row[i] == row && (!when || same_when(&l->when[i], when))) return true;
    return false;
}

/* Replaces the rows of a cell, puts rows before them ('+') or takes rows away ('-'). */
static ds4_status change_rows(ds4_cell *c, const row_list *l, char how, const edit *e,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    row_list to = {0};

    if (how != '-') to = *l;
    for (uint32_t i = 0; how && !to.strict && i < DS4_MAX_WANTED && c->row[i]; i++) {
        if (holds(l, c->row[i], how == '+' ? &c->when[i] : NULL)) continue;
        if (to.n == DS4_MAX_WANTED)
            RAISE(DS4_ERR_USAGE, "plan: \"%s\": more than %d rows with those that are there",
                  e->text, DS4_MAX_WANTED);
        to.row[to.n] = c->row[i], to.when[to.n++] = c->when[i];
    }
    memcpy(c->row, to.row, sizeof c->row);
    memcpy(c->when, to.when, sizeof c->when);
out:
    return st;
}

/* rows NULL: a variant. */
static ds4_status apply_cells(ds4_plan *p, const edit *e, ds4_tap tap, const row_list *rows,
                              char how, int variant, bool on, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t il = 0; il <= p->n_layer; il++)
        for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
            if (!e->layer[il] || !e->phase[ph]) continue;
            ds4_cell *c = cell_at(p, tap, il == p->n_layer ? DS4_NO_LAYER : il, (ds4_phase)ph);
            if (rows) TRY(change_rows(c, rows, how, e, err));
            else c->variants = (c->variants & ~(1u << variant)) | (uint32_t)on << variant;
        }
out:
    return st;
}

static ds4_status apply_edit(ds4_plan *p, edit *e, bool lenient, ds4_err *err) {
    ds4_status st = DS4_OK;
    int v = ds4_variant_find(e->target);
    bool on = false, any_target = false, any_row = false;
    char how = *e->value == '+' || *e->value == '-' ? *e->value : 0;
    const char *value = how ? e->value + 1 : e->value;

    if (v >= 0) {
        TRY(ds4_bool_parse(&on, e->target, e->value, err));
        for (int t = 0; t < DS4_TAP_COUNT; t++)
            if (touches((ds4_variant)v, (ds4_tap)t))
                TRY(apply_cells(p, e, (ds4_tap)t, NULL, 0, v, on, err));
        goto out;
    }
    for (int t = 0; t < DS4_TAP_COUNT; t++) {
        row_list rows;
        if (!is_target(e->target, (ds4_tap)t)) continue;
        any_target = true;
        TRY(parse_rows(&rows, p, ds4_tap_table[t].op, e, value, lenient, err));
        if (!rows.fits) continue;
        if (how == '-' && (rows.strict || strchr(value, '/')))
            RAISE(DS4_ERR_USAGE, "plan: \"%s\": %s, wanted names of rows alone", e->text,
                  rows.strict ? "strict cannot be taken away" : "a condition after -");
        any_row = e->found = true;
        TRY(apply_cells(p, e, (ds4_tap)t, &rows, how, 0, false, err));
    }
    if (!any_target)
        RAISE(DS4_ERR_USAGE, "plan: \"%s\": no op, tap, route or variant is called \"%s\"",
              e->text, e->target);
    if (!any_row && !lenient)
        RAISE(DS4_ERR_USAGE, "plan: \"%s\": engine %s has no row \"%s\" for %s", e->text,
              p->backend->ops->name, e->value, e->target);
out:
    return st;
}

/* named: the built-in plan that the text is, whose edits may name rows that this engine lacks,
 * as long as it has one of them; NULL for a user's text. */
static ds4_status apply_text(ds4_plan *p, const char *text, const char *named, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *copy = NULL, *save = NULL, whole[192];
    edit *e = NULL;

    TRY(ds4_mem_strdup(&copy, text, err));
    TRY(ds4_mem_alloc(&e, 1, sizeof *e, err));
    for (char *line = strtok_r(copy, ";\n", &save); line; line = strtok_r(NULL, ";\n", &save)) {
        char *hash = strchr(line, '#');
        if (hash) *hash = 0;
        line = trim(line);
        if (!*line) continue;
        snprintf(whole, sizeof whole, "%s", line);
        e->text = whole;
        TRY(parse_edit(e, p, line, err));
        TRY(apply_edit(p, e, named != NULL, err));
    }
    if (named && !e->found)
        RAISE(DS4_ERR_USAGE, "plan: engine %s has none of the rows of plan \"%s\"",
              p->backend->ops->name, named);
out:
    ds4_mem_free(e);
    ds4_mem_free(copy);
    return st;
}

ds4_status ds4_plan_edit(ds4_plan *p, const char *text, ds4_err *err) {
    return apply_text(p, text, NULL, err);
}

const char *ds4_plan_default(const ds4_backend *b) {
    return strcmp(b->ops->name, "vk") ? "strict" : "fast";
}

ds4_status ds4_plan_named(ds4_plan *p, const char *name, ds4_err *err) {
    if (!strcmp(name, "default")) name = ds4_plan_default(p->backend);
    for (uint32_t i = 0; i < ds4_plan_n_builtin(); i++)
        if (!strcmp(builtin[i].name, name)) return apply_text(p, builtin[i].text, name, err);
    return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE, "plan: no built-in plan is called \"%s\"",
                       name);
}

ds4_status ds4_plan_load(ds4_plan *p, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    char text[1 << 16];
    FILE *f = fopen(path, "rb");

    if (!f) RAISE(DS4_ERR_IO, "%s: %s", path, strerror(errno));
    size_t n = fread(text, 1, sizeof text - 1, f);
    if (ferror(f)) RAISE(DS4_ERR_IO, "%s: %s", path, strerror(errno));
    if (n == sizeof text - 1)
        RAISE(DS4_ERR_FORMAT, "%s: a plan file has at most 65534 bytes", path);
    text[n] = 0;
    if (strlen(text) != n) RAISE(DS4_ERR_FORMAT, "%s: a NUL byte in a plan file", path);
    TRY(ds4_plan_edit(p, text, err));
out:
    if (f) fclose(f);
    return st;
}

/* ---- writing ---- */

typedef struct text_out {
    char *p;
    size_t n, cap;
} text_out;

static ds4_status put(text_out *o, ds4_err *err, const char *s) {
    ds4_status st = DS4_OK;
    size_t n = strlen(s);
    if (o->n + n + 1 > o->cap) {
        size_t cap = 2 * (o->n + n + 1);
        TRY(ds4_mem_grow(&o->p, cap, 1, err));
        o->cap = cap;
    }
    memcpy(o->p + o->n, s, n + 1);
    o->n += n;
out:
    return st;
}

/* What an edit sets in a cell: its rows (v < 0) or variant v. */
static bool same_part(const ds4_cell *a, const ds4_cell *b, int v) {
    if (v < 0) return ds4_cell_same_rows(a, b);
    return (a->variants >> v & 1) == (b->variants >> v & 1);
}

/* Appends to a text that holds cap bytes at most. */
__attribute__((format(printf, 3, 4))) static void append(char *dst, size_t cap, const char *fmt,
                                                         ...) {
    size_t n = strlen(dst);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(dst + n, cap - n, fmt, ap);
    va_end(ap);
}

static void append_range(char *dst, size_t cap, const char *name, uint32_t from, uint32_t end) {
    if (!from && !end) return;
    append(dst, cap, "/%s=%u", name, from);
    if (!end) append(dst, cap, "-");
    else if (end - from > 1) append(dst, cap, "-%u", end - 1);
}

void ds4_plan_rows_text(char dst[DS4_ROWS_TEXT], const ds4_plan *p, ds4_tap tap,
                        const ds4_cell *c) {
    ds4_op op = ds4_tap_table[tap].op;
    snprintf(dst, DS4_ROWS_TEXT, "%s", c->row[0] ? "" : "strict");
    for (uint32_t i = 0; i < DS4_MAX_WANTED && c->row[i]; i++) {
        const ds4_when *w = &c->when[i];
        append(dst, DS4_ROWS_TEXT, "%s%s", i ? "," : "",
               p->backend->ops->row(p->backend, op, c->row[i])->name);
        append_range(dst, DS4_ROWS_TEXT, "tok", w->tok0, w->tok_end);
        if (w->by) append(dst, DS4_ROWS_TEXT, "/by=%u", w->by);
        append_range(dst, DS4_ROWS_TEXT, "pos", w->pos0, w->pos_end);
    }
}

static const ds4_cell *cell_il(const ds4_plan *p, ds4_tap tap, uint32_t il, int ph) {
    return cell_at(p, tap, il == p->n_layer ? DS4_NO_LAYER : il, (ds4_phase)ph);
}

/* One edit for layers il..end-1 (all of them: no layers named); ph < 0: both phases. */
static ds4_status put_edit(text_out *o, const ds4_plan *p, const char *target, ds4_tap tap,
                           int v, uint32_t il, uint32_t end, int ph, ds4_err *err) {
    const ds4_cell *c = cell_il(p, tap, il, ph < 0 ? 0 : ph);
    char line[DS4_ROWS_TEXT + 128], layers[40] = "", value[DS4_ROWS_TEXT];

    if (il == p->n_layer) snprintf(layers, sizeof layers, "@out");
    else if (end <= p->n_layer && end - il == 1) snprintf(layers, sizeof layers, "@%u", il);
    else if (end <= p->n_layer) snprintf(layers, sizeof layers, "@%u-%u", il, end - 1);
    if (v >= 0) snprintf(value, sizeof value, "%u", c->variants >> v & 1);
    else ds4_plan_rows_text(value, p, tap, c);
    snprintf(line, sizeof line, "%s%s%s=%s\n", target, layers,
             ph < 0              ? ""
             : ph == DS4_PREFILL ? "/prefill"
                                 : "/decode",
             value);
    return put(o, err, line);
}

/* The edits that bring one call (or all calls like it) from the base, strict with default
 * variants, to this plan; runs of equal layers and equal phases are said once. */
static ds4_status put_target(text_out *o, const ds4_plan *p, const char *target, ds4_tap tap,
                             int v, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_cell base = {.variants = 0};
    bool both = true;
    uint32_t n = p->n_layer + 1;

    if (v >= 0) base.variants = (uint32_t)ds4_variant_table[v].def << v;
    for (uint32_t il = 0; il < n; il++)
        both = both && same_part(cell_il(p, tap, il, 0), cell_il(p, tap, il, 1), v);
    for (int ph = both ? -1 : 0; ph < (both ? 0 : DS4_PHASE_COUNT); ph++) {
        int at = ph < 0 ? 0 : ph;
        for (uint32_t il = 0, end; il < n; il = end) {
            const ds4_cell *c = cell_il(p, tap, il, at);
            for (end = il + 1; end < n && same_part(c, cell_il(p, tap, end, at), v);) end++;
            if (il && end == n && il < p->n_layer)
                end = p->n_layer; /* "@3-" and "@out" are two edits */
            if (!same_part(c, &base, v)) TRY(put_edit(o, p, target, tap, v, il, end, ph, err));
        }
    }
out:
    return st;
}

/* True when every call of the op wants the same as its first call, `first`. */
static bool op_is_uniform(const ds4_plan *p, ds4_tap first) {
    for (int t = (int)first + 1; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = 0;
             ds4_tap_table[t].op == ds4_tap_table[first].op && il <= p->n_layer; il++)
            for (int ph = 0; ph < DS4_PHASE_COUNT; ph++)
                if (!same_part(cell_il(p, (ds4_tap)t, il, ph), cell_il(p, first, il, ph), -1))
                    return false;
    return true;
}

static ds4_tap first_of_op(ds4_tap tap) {
    int t = 0;
    while (ds4_tap_table[t].op != ds4_tap_table[tap].op) t++;
    return (ds4_tap)t;
}

ds4_status ds4_plan_text(const ds4_plan *p, char **out, ds4_err *err) {
    ds4_status st = DS4_OK;
    text_out o = {0};
    char target[64];

    TRY(put(&o, err, ""));
    for (int t = 0; t < DS4_TAP_COUNT; t++) {
        ds4_tap first = first_of_op((ds4_tap)t);
        bool whole = op_is_uniform(p, first);
        if (whole && first != (ds4_tap)t) continue;
        snprintf(target, sizeof target, "%s:%s", whole ? "op" : "tap",
                 whole ? ds4_op_table[ds4_tap_table[t].op].name : ds4_tap_table[t].name);
        TRY(put_target(&o, p, target, (ds4_tap)t, -1, err));
    }
    /* An edit of a variant reaches every call that it touches: one of them shows it. */
    for (int v = 0; v < DS4_VARIANT_COUNT; v++)
        for (int t = 0; t < DS4_TAP_COUNT; t++)
            if (touches((ds4_variant)v, (ds4_tap)t)) {
                TRY(put_target(&o, p, ds4_variant_table[v].name, (ds4_tap)t, v, err));
                break;
            }
    *out = o.p, o.p = NULL;
out:
    ds4_mem_free(o.p);
    return st;
}
