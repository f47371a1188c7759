#ifndef DRIFT_BISECT_H
#define DRIFT_BISECT_H
/* Finds the minimal sets of toggles behind a drift: a base plan against a candidate plan on one
 * fixture. A toggle is one difference between the plans: the rows of one op in one layer, or
 * one variant in one layer (or coarser or finer, by `grain`), or an edit that the caller names.
 */
#include "drift/fixture.h"
#include "drift/result.h"
#include "drift/runner.h"

typedef enum drift_grain {
    DRIFT_GRAIN_OP,
    DRIFT_GRAIN_TAP,
    DRIFT_GRAIN_ROUTE,
    DRIFT_GRAIN_LAYER,
    DRIFT_GRAIN_ROW
} drift_grain;

typedef struct drift_bisect_options {
    drift_grain grain; /* how differences of rows are grouped; ROW: an op over all layers */
    const char *const *toggle; /* edits named by the caller, each one toggle; they come first,
                                  and what they change is no difference of the plans any more.
                                  route:NAME without a value: drift_toggles_route */
    size_t n_toggle;
    const ds4_routes *routes; /* settings for such routes; NULL: none */
    const char *metric;       /* drift_score_name */
    double threshold;         /* a trial fails when its score is above it */
    uint32_t n_chunk;
    const char *replay; /* shell command that repeats the search, stored in the result */
    drift_progress progress;
} drift_bisect_options;

/* Scores of a trial against the base, continuous and 0 for equal bits. */
size_t drift_score_n(void);
const char *drift_score_name(size_t i, const char **what);

/* Fills r (fixture, bisect, summary, verdict, sides' facts). Verdicts: same bits or within the
 * floor when the candidate does not exceed the threshold, drift when minimal sets were found,
 * not comparable when no toggle was exercised. */
ds4_status drift_bisect(drift_result *r, ds4_engine *e, const ds4_plan *base,
                        const ds4_plan *candidate, const drift_fixture_input *f,
                        const drift_bisect_options *opt, ds4_err *err);

#endif
