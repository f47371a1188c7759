#ifndef DRIFT_ALIGN_H
#define DRIFT_ALIGN_H
/* Pairs two runs: what is comparable, what is not, and why. All memory and texts live in the
 * drift_result that is passed. */
#include "drift/result.h"
#include "drift/store.h"

typedef struct drift_align_tap {
    const drift_run_tap *a, *b; /* NULL: that side lacks it */
    uint32_t order;             /* drift_align_order */
    const char *why; /* both sides have it but shapes or positions differ; else NULL */
    /* The rows of positions that both have, when both have it and why is NULL: row i of the
     * n_row is row row0[0] + i of a and row0[1] + i of b. */
    uint32_t row0[2], n_row;
    bool whole; /* they are all rows of both */
} drift_align_tap;

typedef struct drift_align_fixture {
    const drift_run_fixture *a, *b;
    const char *why;      /* not comparable: tokens or vocabulary differ; else NULL */
    drift_align_tap *tap; /* execution order; none when why is set */
    size_t n_tap;
} drift_align_fixture;

typedef struct drift_align {
    const char *why; /* the runs are not comparable at all; else NULL */
    drift_align_fixture *fixture;
    size_t n_fixture, n_only_a, n_only_b;
} drift_align;

/* Execution order in the forward pass: embedding, then layers, then the head; within a layer by
 * the order of taps.def. */
uint32_t drift_align_order(ds4_tap tap, int32_t layer);

/* fixture: only this one; NULL: all that both have. Only memory can fail. */
ds4_status drift_align_runs(drift_align *out, drift_result *r, const drift_run *a,
                            const drift_run *b, const char *fixture, ds4_err *err);

#endif
