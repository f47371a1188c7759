#include "engine/kernel_suite.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/variants.h"

enum { MAX_EDGE = 64 };

struct ds4_suite {
    ds4_backend *b;
    ds4_suite_options o;
    ds4_suite_row *row;
    uint32_t n_row;
    /* Buffers of finished calls, freed with the suite: Mesa 22.3's software driver keeps the
     * last bindings of a queue and reads them after their memory was freed. */
    ds4_buf **kept;
    size_t n_kept, cap_kept;
};

static bool wanted(const char *only, const char *name) { return !only || !strcmp(only, name); }

static ds4_status add_rows(ds4_suite *s, ds4_op op, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t i = 0; i < s->b->ops->n_row(s->b, op); i++) {
        const ds4_row_info *info = s->b->ops->row(s->b, op, i);
        if (!wanted(s->o.row, info->name)) continue;
        if (s->o.leave_out && !strcmp(s->o.leave_out, info->name)) continue;
        TRY(ds4_mem_grow(&s->row, s->n_row + 1, sizeof *s->row, err));
        s->row[s->n_row++] = (ds4_suite_row){.op = op, .i = i, .info = info};
    }
out:
    return st;
}

ds4_status ds4_suite_new(ds4_suite **out, ds4_backend *b, const ds4_suite_options *o,
                         ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_suite *s = NULL;

    TRY(ds4_mem_alloc(&s, 1, sizeof *s, err));
    s->b = b, s->o = *o;
    if (o->op && ds4_op_find(o->op) < 0)
        RAISE(DS4_ERR_USAGE, "no op is called \"%s\"; `ds4-drift info --rows` lists them",
              o->op);
    for (int op = 0; op < DS4_OP_COUNT; op++)
        if (wanted(o->op, ds4_op_table[op].name)) TRY(add_rows(s, (ds4_op)op, err));
    if (!s->n_row)
        RAISE(DS4_ERR_USAGE, "%s has no row \"%s\"", o->op ? o->op : "no op: the manifest",
              o->row ? o->row : "");
    *out = s, s = NULL;
out:
    ds4_suite_free(s);
    return st;
}

void ds4_suite_free(ds4_suite *s) {
    if (!s) return;
    for (size_t i = 0; i < s->n_kept; i++) s->b->ops->buf_free(s->b, s->kept[i]);
    ds4_mem_free(s->kept);
    ds4_mem_free(s->row);
    ds4_mem_free(s);
}

uint32_t ds4_suite_n_row(const ds4_suite *s) { return s->n_row; }
const ds4_suite_row *ds4_suite_row_at(const ds4_suite *s, uint32_t i) { return &s->row[i]; }

bool ds4_suite_has_op(const ds4_suite *s, ds4_op op) {
    for (uint32_t i = 0; i < s->n_row; i++)
        if (s->row[i].op == op) return true;
    return false;
}

/* --- lines and edges --- */

/* The edge of a row's tile in a template's unit; 0: the row has no tile. Rows that take many
 * tokens only have their edge at the first multiple of the tile where one short of it runs too.
 */
static uint32_t edge_of(const ds4_row_info *info, char unit) {
    uint32_t per = unit == 'x' ? info->per[0] : unit == 'y' ? info->per[1] : info->lanes;
    uint32_t least = unit == 'l' || !info->min_tok ? 1 : info->min_tok + 1;
    return per ? (least + per - 1) / per * per : 0;
}

/* Adds one short of, at and one past an edge to a sorted list without doubles. */
static void add_edges(uint32_t at[MAX_EDGE], uint32_t *n, uint32_t edge) {
    for (uint32_t v = edge > 1 ? edge - 1 : 1; edge && v <= edge + 1; v++) {
        uint32_t i = 0;
        while (i < *n && at[i] < v) i++;
        if ((i < *n && at[i] == v) || *n == MAX_EDGE) continue;
        memmove(at + i + 1, at + i, (*n - i) * sizeof *at);
        at[i] = v, ++*n;
    }
}

ds4_status ds4_suite_lines(const ds4_suite *s, ds4_op op, ds4_suite_each *each, void *user,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    char line[DS4_CASE_LINE], text[DS4_CASE_LINE], unit;
    for (const char *at = NULL; ds4_case_next(op, &at, line);) {
        uint32_t edge[MAX_EDGE], n = 0;
        if (!ds4_case_edge(text, line, 1, &unit)) {
            TRY(each(user, op, line, DS4_SUITE_LISTED, err));
            continue;
        }
        if (!strchr("xyl", unit))
            RAISE(DS4_ERR_USAGE,
                  "fixtures/ops/%s.cases: \"%s\": found ?%c, wanted ?x, ?y or ?l",
                  ds4_op_table[op].name, line, unit);
        for (uint32_t r = 0; r < s->n_row; r++)
            if (s->row[r].op == op) add_edges(edge, &n, edge_of(s->row[r].info, unit));
        for (uint32_t i = 0; i < n; i++) {
            ds4_case_edge(text, line, edge[i], &unit);
            TRY(each(user, op, text, DS4_SUITE_EDGE, err));
        }
    }
out:
    return st;
}

/* --- running --- */

static ds4_status keep(ds4_suite *s, ds4_buf *buf, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (!buf) return st;
    if (strcmp(s->b->ops->name, "vk")) {
        s->b->ops->buf_free(s->b, buf);
        return st;
    }
    if (s->n_kept == s->cap_kept) {
        TRY(ds4_mem_grow(&s->kept, 2 * s->cap_kept + 256, sizeof *s->kept, err));
        s->cap_kept = 2 * s->cap_kept + 256;
    }
    s->kept[s->n_kept++] = buf;
out:
    return st;
}

/* A case on the device; unload keeps or frees what is in call. */
static ds4_status load(ds4_suite *s, ds4_call *call, const ds4_case *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t last = c->n_bind - 1;

    *call = (ds4_call){.tap = c->tap,
                       .phase = DS4_PREFILL,
                       .wtype = c->wtype,
                       .args = c->args,
                       .args_bytes = ds4_op_args_bytes(c->op),
                       .n_col = 1, /* every element a row of its own: of its own random bits */
                       .n_bind = c->n_bind};
    for (uint32_t b = 0; b < c->n_bind; b++) {
        size_t n = c->bytes[b] + (b == last ? 4 * DS4_CASE_GUARD : 0);
        bool is_f = strchr("fox", c->kind[b]) != NULL;
        if (!n) continue;
        if (c->kind[b] == 'w') {
            TRY(s->b->ops->buf_weight(s->b, &call->bind[b], c->bind[b], n, "case", err));
            continue;
        }
        TRY(s->b->ops->buf_new(s->b, &call->bind[b], n, is_f ? DS4_TYPE_F32 : DS4_TYPE_I32,
                               err));
        if (b != last) TRY(s->b->ops->buf_write(s->b, call->bind[b], 0, c->bind[b], n, err));
    }
out:
    return st;
}

static ds4_status unload(ds4_suite *s, ds4_call *call, ds4_status st, ds4_err *err) {
    for (uint32_t b = 0; b < call->n_bind; b++) {
        ds4_status kept = keep(s, call->bind[b], st ? NULL : err);
        if (st == DS4_OK) st = kept;
    }
    return st;
}

static ds4_status run_loaded(ds4_suite *s, ds4_call *call, const ds4_case *c, uint32_t i,
                             uint32_t variants, void *out, const char **refused, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_buf *y = call->bind[c->n_bind - 1];
    size_t bytes = c->bytes[c->n_bind - 1], n = bytes + 4 * DS4_CASE_GUARD;

    call->variants = variants;
    *refused = s->b->ops->refuses(s->b, call, i);
    if (*refused) goto out;
    ds4_case_pattern(out, bytes);
    TRY(s->b->ops->buf_write(s->b, y, 0, out, n, err));
    TRY(s->b->ops->call(s->b, call, i, err));
    TRY(s->b->ops->buf_read(s->b, y, 0, out, n, err));
out:
    return st;
}

ds4_status ds4_suite_call(ds4_suite *s, const ds4_case *c, uint32_t i, uint32_t more_variants,
                          void *out, const char **refused, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_call call;
    TRY(load(s, &call, c, err));
    TRY(run_loaded(s, &call, c, i, c->variants | more_variants, out, refused, err));
out:
    return unload(s, &call, st, err);
}

/* How near to its bound a run is, for "worst": the bound's own measure; a breach above all. */
static double badness(const ds4_verdict *v, const ds4_row_info *info, bool pass) {
    double d = !strncmp(info->bound, "NRMSE", 5) ? v->nrmse
               : !strncmp(info->bound, "ULP", 3) ? (double)v->ulp
                                                 : (double)v->n_bad;
    return pass ? d : d + 1e300;
}

/* One build of one row; safe: -1 when the row has one build or the case chose one. */
static ds4_status run_build(ds4_suite *s, ds4_call *call, const ds4_case *c, ds4_suite_row *row,
                            int safe, void *out, ds4_err *err) {
    static const char *const suffix[] = {"", " off=DS4_SAFE_MATH", " on=DS4_SAFE_MATH"};
    ds4_status st = DS4_OK;
    char text[DS4_SUITE_TEXT];
    ds4_suite_run run = {.c = c, .row = row, .text = text, .out = out};
    uint32_t variants = c->variants | (safe > 0 ? DS4_VARIANT_BIT(SAFE_MATH) : 0);

    snprintf(text, sizeof text, "%s__%s %s%s", ds4_op_table[c->op].name, row->info->name,
             c->line, suffix[safe + 1]);
    TRY(run_loaded(s, call, c, row->i, variants, out, &run.refused, err));
    if (run.refused) {
        row->n_refused++, row->refusal = run.refused;
    } else {
        run.verdict = ds4_case_judge(c, out);
        run.pass = ds4_case_within(&run.verdict, row->info->bound);
        double bad = badness(&run.verdict, row->info, run.pass);
        row->n_run++, row->n_differ += run.verdict.n_bad != 0, row->n_fail += !run.pass;
        if (run.verdict.ulp > row->ulp) row->ulp = run.verdict.ulp;
        if (run.verdict.nrmse > row->nrmse) row->nrmse = run.verdict.nrmse;
        if (!row->worst[0] || bad > row->badness) {
            row->badness = bad;
            snprintf(row->worst, sizeof row->worst, "%s", text);
        }
        if (!run.pass && !row->failed[0]) snprintf(row->failed, sizeof row->failed, "%s", text);
    }
    if (s->o.see && !s->o.see(s->o.user, &run))
        RAISE(DS4_ERR_CANCELLED, "interrupted at %s", text);
out:
    return st;
}

/* The reference computes the case's variant; a row that does not honour it does not. A strict
 * one must. */
static bool is_foreign(const ds4_case *c, const ds4_row_info *info) {
    return strcmp(info->name, "strict") != 0 &&
           ((c->variants ^ ds4_case_default_variants()) & ~info->variants) != 0;
}

static bool chooses_build(const ds4_case *c) {
    for (uint32_t i = 0; i < c->n_key; i++)
        if ((!strcmp(c->key[i], "on") || !strcmp(c->key[i], "off")) &&
            ds4_variant_find(c->value[i]) == DS4_VARIANT_SAFE_MATH)
            return true;
    return false;
}

/* A case without random floats has no harder values than others. */
static bool is_hard(const ds4_case *c) {
    const char *fill = ds4_case_value(c, "fill");
    if (!memchr(c->kind, 'f', c->n_bind) && !memchr(c->kind, 'w', c->n_bind)) return true;
    return fill && strcmp(fill, "normal") != 0 && strcmp(fill, "unit") != 0;
}

ds4_status ds4_suite_run_case(ds4_suite *s, ds4_case *c, ds4_suite_source source,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_call call = {.n_bind = 0};
    void *out = NULL;

    ds4_case_reference(c);
    TRY(ds4_mem_alloc(&out, c->bytes[c->n_bind - 1] + 4 * DS4_CASE_GUARD, 1, err));
    TRY(load(s, &call, c, err));
    for (uint32_t r = 0; r < s->n_row; r++) {
        ds4_suite_row *row = &s->row[r];
        if (row->op != c->op) continue;
        if (is_foreign(c, row->info)) {
            row->n_foreign++;
            continue;
        }
        uint32_t n_before = row->n_run;
        bool two = (row->info->variants & DS4_VARIANT_BIT(SAFE_MATH)) && !chooses_build(c);
        for (int safe = two ? 0 : -1; safe <= (two ? 1 : -1); safe++)
            TRY(run_build(s, &call, c, row, safe, out, err));
        row->n_case[source] += row->n_run != n_before;
        row->n_hard += row->n_run != n_before && is_hard(c);
    }
out:
    ds4_mem_free(out);
    return unload(s, &call, st, err);
}

static ds4_status run_line(void *user, ds4_op op, const char *line, ds4_suite_source source,
                           ds4_err *err) {
    ds4_case c;
    ds4_status st = ds4_case_init(&c, op, line, err);
    if (st != DS4_OK) return st;
    st = ds4_suite_run_case(user, &c, source, err);
    ds4_case_fini(&c);
    return st;
}

ds4_status ds4_suite_run_op(ds4_suite *s, ds4_op op, ds4_err *err) {
    return ds4_suite_lines(s, op, run_line, s, err);
}

/* --- judging a row --- */

ds4_suite_state ds4_suite_judge(const ds4_suite_row *row, bool whole, char *why,
                                size_t why_size) {
    const ds4_row_info *info = row->info;
    const uint32_t *n = row->n_case;

    snprintf(why, why_size, "%s", "");
    if (strcmp(info->bound, "exact") && !strcmp(info->cause, "NONE")) {
        snprintf(why, why_size, "bound %s without a cause", info->bound);
        return DS4_SUITE_BREACH;
    }
    if (row->n_fail) {
        snprintf(why, why_size, "%u of %u runs beyond %s", row->n_fail, row->n_run,
                 info->bound);
        return DS4_SUITE_BREACH;
    }
    if (!row->n_run && info->lacks) {
        snprintf(why, why_size, "not exercised: %s", info->lacks);
        return DS4_SUITE_LACKING;
    }
    if (!row->n_run) {
        snprintf(why, why_size, "not exercised: %s",
                 row->refusal     ? row->refusal
                 : row->n_foreign ? "every case sets a variant that the row does not have"
                                  : "no case");
        return DS4_SUITE_UNCOVERED;
    }
    if (!strcmp(info->name, "strict") && row->n_refused) {
        snprintf(why, why_size, "a strict row refused: %s", row->refusal);
        return DS4_SUITE_BREACH;
    }
    if (whole && info->lanes && !n[DS4_SUITE_EDGE]) {
        snprintf(why, why_size, "no case at an edge of its tile");
        return DS4_SUITE_UNCOVERED;
    }
    if (whole && info->lanes && !row->n_hard) {
        snprintf(why, why_size, "no case with hard values");
        return DS4_SUITE_UNCOVERED;
    }
    return DS4_SUITE_CLEAN;
}

bool ds4_suite_split(const char *text, char op[32], char row[32], const char **line) {
    const char *cut = strstr(text, "__");
    size_t n_op = cut ? (size_t)(cut - text) : 0, n_row = cut ? strcspn(cut + 2, " ") : 0;
    if (!n_op || !n_row || n_op > 31 || n_row > 31) return false;
    snprintf(op, 32, "%.*s", (int)n_op, text);
    snprintf(row, 32, "%.*s", (int)n_row, cut + 2);
    *line = cut + 2 + n_row;
    *line += strspn(*line, " ");
    return true;
}
