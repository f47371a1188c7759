#ifndef DRIFT_TRIAL_H
#define DRIFT_TRIAL_H
/* One evaluation of a fixture against a remembered base evaluation: scores of the logits, the
 * first tap whose bits differ, and what executed. */
#include "drift/bisect.h"
#include "drift/toggle.h"

typedef struct drift_base drift_base; /* what the base plan computed */

typedef struct drift_trial_outcome {
    double score; /* by the metric; +inf when a logit is not finite on one side */
    double logit_rms, kl_mean, top1_flips; /* always measured */
    bool same_bits;                        /* every observed tap and logit */
    ds4_tap first_tap; /* first divergence in (layer, tap) order; valid unless same_bits */
    uint32_t first_layer, first_pos;
} drift_trial_outcome;

/* Evaluates `plan` and remembers it. Owns: the caller frees *out; s and f are borrowed. */
ds4_status drift_base_new(drift_base **out, ds4_session *s, const ds4_plan *plan,
                          const drift_fixture_input *f, ds4_err *err);
void drift_base_free(drift_base *b);

/* Evaluates `plan` against the base. The session's ledger holds what it executed. */
ds4_status drift_base_compare(drift_base *b, ds4_session *s, const ds4_plan *plan,
                              const drift_fixture_input *f, const char *metric,
                              drift_trial_outcome *out, const drift_progress *progress,
                              ds4_err *err);

/* True when the two ledgers ran something else at a cell where the plans differ. *why, when it
 * is false: a static or arena text in the words "does not run here" or the refusal. */
typedef struct drift_executions drift_executions; /* a copy of a ledger */
ds4_status drift_executions_copy(drift_executions **out, const ds4_ledger *l, ds4_err *err);
void drift_executions_free(drift_executions *x);
bool drift_exercised(const drift_executions *base, const drift_executions *with,
                     const ds4_plan *from, const ds4_plan *to, const char **why);

#endif
