#ifndef DRIFT_COMPARE_H
#define DRIFT_COMPARE_H
/* Walks the aligned taps of two run files, applies the metrics, names the first divergence in
 * execution order and gives a verdict. Side 0 (a) is the reference. */
#include "drift/result.h"
#include "drift/store.h"

typedef struct drift_compare_options {
    const char *fixture; /* only this one; NULL: all that both files have */
    uint32_t top_k;      /* at least 20 */
    double
        max_nrmse; /* taps at or below it count as within the floor; 0: only equal bits pass */
    double max_logit_rms; /* the same for logits */
    bool allow_same_rows; /* equal rows on both sides are not refused (repeat runs) */
    uint32_t n_thread;    /* unused: rows are read and measured in one stream; results would not
                             depend on it */
    bool (*progress)(void *user, double done, const char *what); /* false: stop; may be NULL */
    void *user;
} drift_compare_options;

/* Rows count as the same only when the facts engine, device and driver are equal too. Bounded
 * memory: one slab of 1 MiB (or one row) per side. DS4_ERR_FORMAT when stored rows do not fit
 * their digests.
 *
 * Fills r (made by drift_result_new). Refusals (unequal tokens, models, shapes, no shared
 * fixture; both sides executed the same rows while `allow_same_rows` is false, where the
 * verdict is NOT_COMPARABLE with the reason in r->summary) are verdicts, not errors. */
ds4_status drift_compare(drift_result *r, const drift_run *a, const drift_run *b,
                         const drift_compare_options *opt, ds4_err *err);

#endif
