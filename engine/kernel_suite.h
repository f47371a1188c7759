#ifndef DS4_KERNEL_SUITE_H
#define DS4_KERNEL_SUITE_H
/* Every row of a backend against the scalar reference of its op, case by case.
 *
 * Cases come from fixtures/ops/<op>.cases, from its templates (one short of, at and one past
 * each edge of each row's tile) and from calls that a run of a model made (kernel_capture.h).
 * Rows that honour DS4_SAFE_MATH run twice, without it and with it. Bounds are those of the
 * rows, never the suite's. A row that ran nothing is a finding (ds4_suite_problem), never a
 * pass. */
#include "engine/kernel_case.h"

typedef enum ds4_suite_source {
    DS4_SUITE_LISTED,
    DS4_SUITE_EDGE,
    DS4_SUITE_CAPTURED,
    DS4_SUITE_SOURCES
} ds4_suite_source;

enum { DS4_SUITE_TEXT = DS4_CASE_LINE + 96 }; /* "<op>__<row> <line> off=DS4_SAFE_MATH" */

typedef struct ds4_suite_row {
    ds4_op op;
    uint32_t i; /* number of the row in its op */
    const ds4_row_info *info;
    uint32_t n_case[DS4_SUITE_SOURCES]; /* that ran */
    uint32_t n_hard;                    /* of them: with values chosen to be hard */
    uint32_t n_run, n_refused;          /* builds of a case */
    uint32_t n_foreign;                 /* cases of a variant that the row does not have */
    uint32_t n_differ, n_fail;          /* runs with any other bit; beyond the bound */
    uint32_t ulp;                       /* worst of all runs */
    double nrmse;
    char worst[DS4_SUITE_TEXT];  /* the run farthest beyond or nearest to the bound; "": none */
    double badness;              /* of that run, in the measure of the bound */
    char failed[DS4_SUITE_TEXT]; /* the first run beyond the bound; "": none */
    const char *refusal;         /* static text of the last refusal; NULL: none */
} ds4_suite_row;

/* One run of one row. out: its output and guard words; the case holds the reference's. */
typedef struct ds4_suite_run {
    const ds4_case *c;
    const ds4_suite_row *row;
    const char *text;    /* as `ds4-drift kernels --case` takes it */
    const char *refused; /* static text; NULL: it ran, and what follows is set */
    const uint32_t *out;
    ds4_verdict verdict;
    bool pass;
} ds4_suite_run;

typedef struct ds4_suite_options {
    const char *op, *row;  /* only these; NULL: all */
    const char *leave_out; /* a row's name; NULL: none */
    /* Called after every run; may be NULL. Returns false to stop (DS4_ERR_CANCELLED). */
    bool (*see)(void *user, const ds4_suite_run *run);
    void *user;
} ds4_suite_options;

typedef struct ds4_suite ds4_suite;

/* b is borrowed and must outlive the suite. Errors: DS4_ERR_USAGE for an op or row that b has
 * not. Owns: the caller frees *out. */
ds4_status ds4_suite_new(ds4_suite **out, ds4_backend *b, const ds4_suite_options *o,
                         ds4_err *err);
void ds4_suite_free(ds4_suite *s);

/* Rows that were asked for, by op in the order of ops.def. */
uint32_t ds4_suite_n_row(const ds4_suite *s);
const ds4_suite_row *ds4_suite_row_at(const ds4_suite *s, uint32_t i);
/* Whether a row of the op was asked for. */
bool ds4_suite_has_op(const ds4_suite *s, ds4_op op);

/* Calls each for every case of an op, templates expanded for the rows that were asked for. */
typedef ds4_status ds4_suite_each(void *user, ds4_op op, const char *line,
                                  ds4_suite_source source, ds4_err *err);
ds4_status ds4_suite_lines(const ds4_suite *s, ds4_op op, ds4_suite_each *each, void *user,
                           ds4_err *err);

/* Runs the listed cases and edges of an op. */
ds4_status ds4_suite_run_op(ds4_suite *s, ds4_op op, ds4_err *err);
/* Runs one case, whose reference is run here, on the rows of its op. */
ds4_status ds4_suite_run_case(ds4_suite *s, ds4_case *c, ds4_suite_source source, ds4_err *err);
/* Runs the inputs of a case as they are on row i, with more variants. out: output and guard
 * words; *refused: why it did not run, or NULL. */
ds4_status ds4_suite_call(ds4_suite *s, const ds4_case *c, uint32_t i, uint32_t more_variants,
                          void *out, const char **refused, ds4_err *err);

/* What is wrong with a row once its cases have run. `whole`: they were all of them, so that one
 * without edges, or without hard values, is a finding too. */
typedef enum ds4_suite_state {
    DS4_SUITE_CLEAN,
    DS4_SUITE_BREACH, /* a run beyond the bound, a bound without a cause, a strict row refused
                       */
    DS4_SUITE_UNCOVERED, /* no case ran, or none of a kind that has to */
    DS4_SUITE_LACKING /* the device lacks what the row needs: not exercised, and no failure */
} ds4_suite_state;
ds4_suite_state ds4_suite_judge(const ds4_suite_row *row, bool whole, char *why,
                                size_t why_size);

/* Splits "<op>__<row> <line>"; op and row have room for 32. False when it is not of this form.
 */
bool ds4_suite_split(const char *text, char op[32], char row[32], const char **line);

#endif
