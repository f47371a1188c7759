#ifndef DRIFT_CMD_BENCH_OUT_H
#define DRIFT_CMD_BENCH_OUT_H
/* A finished bench as a table, as CSV and as JSON. */
#include <jansson.h>
#include <stdio.h>

#include "drift/cmd/bench_run.h"
#include "drift/cmd/bench_start.h"
#include "engine/vk/vk.h"

typedef struct bench_report {
    const drift_bench *bench;
    const bench_run *run;
    const char *plan[2];
    json_t *fact; /* object of strings */
    bench_starts starts;
    const char *no_starts; /* why there are none; NULL: there are */
    ds4_vk_ceiling ceiling[DS4_VK_MAX_CEILING];
    uint32_t n_ceiling;
    const char
        *prefill_ceiling[2]; /* by name, what a side's prefill is a share of; NULL: nothing */
    bool uses_matrix[2];     /* rows of its prefill ran on cooperative matrices */
} bench_report;

/* The rate of a ceiling, 0 when there is none. */
double bench_ceiling(const bench_report *r, const char *name);

void bench_print(FILE *f, const bench_report *r);

/* Files appear complete or not at all. */

/* The published columns, one line per frontier, for one side. */
ds4_status bench_write_published(const char *path, const bench_report *r, uint32_t side,
                                 ds4_err *err);
/* Our columns, one line per frontier and phase; what bench_compare reads. */
ds4_status bench_write_table(const char *path, const bench_report *r, ds4_err *err);
/* Everything: facts, runs, figures, starts, ceilings. */
ds4_status bench_write_json(const char *path, const bench_report *r, ds4_err *err);

#endif
