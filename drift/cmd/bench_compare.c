#include "drift/cmd/bench_compare.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "drift/bench.h"
#include "drift/fixture.h"

enum { MAX_COLUMN = 32, MAX_LINE = 1024 };

/* A frontier and phase of one file. */
typedef struct line {
    unsigned long n_ctx;
    char phase[16];
    double a, b;          /* tokens per second; a 0 in the published columns */
    double ratio, lo, hi; /* of B / A; ratio 0: none */
} line;

typedef struct table {
    line at[MAX_LINE];
    size_t n;
} table;

/* Splits a line at its commas, in place. */
static size_t split(char *cell[MAX_COLUMN], char *text) {
    size_t n = 0;
    for (char *p = text; n < MAX_COLUMN; p++) {
        cell[n++] = p;
        if (!(p = strchr(p, ','))) break;
        *p = 0;
    }
    return n;
}

static ds4_status number(double *out, const char *cell, const char *path, size_t i_line,
                         ds4_err *err) {
    ds4_status st = DS4_OK;
    char *end;
    *out = strtod(cell, &end);
    if (end == cell || *end || !(*out >= 0.0))
        RAISE(DS4_ERR_FORMAT, "%s, line %zu: found \"%.40s\", wanted a number", path, i_line,
              cell);
out:
    return st;
}

static ds4_status add(table *t, const line *l, const char *path, ds4_err *err) {
    if (t->n == MAX_LINE)
        return ds4_err_set(err, DS4_ERR_FORMAT, DS4_HERE, "%s: more than %d lines", path,
                           MAX_LINE);
    t->at[t->n++] = *l;
    return DS4_OK;
}

/* Tokens of a context: whole, and of 32 bits. */
static ds4_status context(unsigned long *out, const char *cell, const char *path, size_t i_line,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    double v;
    TRY(number(&v, cell, path, i_line, err));
    if (!(v <= UINT32_MAX) || v != (double)(unsigned long)v)
        RAISE(DS4_ERR_FORMAT, "%s, line %zu: found \"%.40s\", wanted a number of tokens", path,
              i_line, cell);
    *out = (unsigned long)v;
out:
    return st;
}

/* Our columns, in the order of bench_write_table: the ones that are read here. */
enum {
    OUR_CTX = 0,
    OUR_PHASE = 1,
    OUR_A = 3,
    OUR_B = 4,
    OUR_RATIO = 7,
    OUR_LO,
    OUR_HI,
    OUR_COVERAGE = 13,
    OUR_VERDICT = 16
};
static const char our_head[] =
    "ctx_tokens,phase,tokens,a_tps,b_tps,a_spread,b_spread,ratio,ratio_lo,ratio_hi,"
    "aa_ratio,aa_lo,aa_hi,coverage,blocks,floor,verdict,";
/* What an interval must cover to count: that of too few repeats says nothing. No more does a
 * ratio of the same rows. */
static const double least_coverage = 0.95;

static ds4_status read_ours(table *t, char *cell[MAX_COLUMN], const char *path, size_t i_line,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    line l = {0};
    double coverage;
    TRY(context(&l.n_ctx, cell[OUR_CTX], path, i_line, err));
    TRY(number(&l.a, cell[OUR_A], path, i_line, err));
    TRY(number(&l.b, cell[OUR_B], path, i_line, err));
    TRY(number(&l.ratio, cell[OUR_RATIO], path, i_line, err));
    TRY(number(&l.lo, cell[OUR_LO], path, i_line, err));
    TRY(number(&l.hi, cell[OUR_HI], path, i_line, err));
    TRY(number(&coverage, cell[OUR_COVERAGE], path, i_line, err));
    const char *same = drift_bench_verdict_text(DRIFT_BENCH_SAME_ROWS);
    if (coverage < least_coverage || !strncmp(cell[OUR_VERDICT], same, strlen(same)))
        l.ratio = 0.0;
    if (strcmp(cell[OUR_PHASE], "prefill") && strcmp(cell[OUR_PHASE], "decode"))
        RAISE(DS4_ERR_FORMAT, "%s, line %zu: found \"%.40s\", wanted prefill or decode", path,
              i_line, cell[OUR_PHASE]);
    snprintf(l.phase, sizeof l.phase, "%s", cell[OUR_PHASE]);
    TRY(add(t, &l, path, err));
out:
    return st;
}

/* The published columns: first, third and fifth. */
static ds4_status read_published(table *t, char *cell[MAX_COLUMN], const char *path,
                                 size_t i_line, ds4_err *err) {
    ds4_status st = DS4_OK;
    line prefill = {.phase = "prefill"}, decode = {.phase = "decode"};
    TRY(context(&prefill.n_ctx, cell[0], path, i_line, err));
    TRY(number(&prefill.b, cell[2], path, i_line, err));
    TRY(number(&decode.b, cell[4], path, i_line, err));
    decode.n_ctx = prefill.n_ctx;
    TRY(add(t, &prefill, path, err));
    TRY(add(t, &decode, path, err));
out:
    return st;
}

static ds4_status read_table(table *t, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *text = NULL, *save = NULL, *cell[MAX_COLUMN];
    size_t n, i_line = 1;

    t->n = 0;
    TRY(drift_read_file(&text, &n, path, 1u << 24, err));
    bool ours = !strncmp(text, our_head, strlen(our_head));
    if (!ours && strncmp(text, "ctx_tokens,", 11))
        RAISE(DS4_ERR_FORMAT, "%s: wanted the columns that bench writes", path);
    size_t n_column = ours ? OUR_VERDICT + 1 : 5;
    (void)strtok_r(text, "\r\n", &save); /* the head */
    for (char *p; (p = strtok_r(NULL, "\r\n", &save));) {
        i_line++;
        size_t n_cell = split(cell, p);
        if (n_cell < n_column)
            RAISE(DS4_ERR_FORMAT, "%s, line %zu: found %zu columns, wanted at least %zu", path,
                  i_line, n_cell, n_column);
        TRY((ours ? read_ours : read_published)(t, cell, path, i_line, err));
    }
out:
    free(text);
    return st;
}

static const line *find(const table *t, const line *like) {
    for (size_t i = 0; i < t->n; i++)
        if (t->at[i].n_ctx == like->n_ctx && !strcmp(t->at[i].phase, like->phase))
            return &t->at[i];
    return NULL;
}

/* 0 when the baseline is 0 (drift.md 1.6). */
static double gain(double old, double new) {
    return old > 0.0 ? 100.0 * (new / old - 1.0) : 0.0;
}

static const char *verdict(const line *o, const line *n) {
    if (!(o->ratio > 0.0) || !(n->ratio > 0.0))
        return "no ratio with an interval in a file: not ranked";
    if (n->lo > o->hi) return "B faster against A than before";
    if (n->hi < o->lo) return "B slower against A than before";
    return "inside the intervals: not ranked";
}

static void print(FILE *f, const line *o, const line *n) {
    fprintf(f, "%7lu  %-7s %10.2f %10.2f %+7.1f %%", o->n_ctx, o->phase, o->b, n->b,
            gain(o->b, n->b));
    if (o->ratio > 0.0 && n->ratio > 0.0)
        fprintf(f, "  %.3f [%.3f, %.3f]  %.3f [%.3f, %.3f]", o->ratio, o->lo, o->hi, n->ratio,
                n->lo, n->hi);
    fprintf(f, "  %s\n", verdict(o, n));
}

ds4_status bench_compare(FILE *f, const char *old, const char *new, ds4_err *err) {
    ds4_status st = DS4_OK;
    static table o, n;
    size_t n_both = 0;

    TRY(read_table(&o, old, err));
    TRY(read_table(&n, new, err));
    for (size_t i = 0; i < o.n; i++) n_both += find(&n, &o.at[i]) != NULL;
    if (!n_both) RAISE(DS4_ERR_COMPARE, "%s and %s have no frontier in common", old, new);
    fprintf(
        f,
        "rates of different sessions are not ranked; ratios B / A within each are\n"
        "context  phase     old B t/s  new B t/s      gain  old B/A               new B/A\n");
    for (size_t i = 0; i < o.n; i++) {
        const line *other = find(&n, &o.at[i]);
        if (other) print(f, &o.at[i], other);
    }
    if (n_both < o.n || n_both < n.n)
        fprintf(f, "in one file alone: %zu lines of %s, %zu of %s\n", o.n - n_both, old,
                n.n - n_both, new);
out:
    return st;
}
