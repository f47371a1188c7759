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

typedef struct drift_executions drift_executions; /* a copy of a ledger */
ds4_status drift_executions_copy(drift_executions **out, const ds4_ledger *l, ds4_err *err);
void drift_executions_free(drift_executions *x);
typedef enum drift_execution {
    DRIFT_EXERCISED,
    DRIFT_OTHER_RAN, /* calls ran where the plans differ, but none by what the toggle wants */
    DRIFT_NO_CALL    /* nothing ran there */
} drift_execution;

/* Whether the toggle that leads from plan `from` to plan `to` really executed in `with`, where
 * other toggles may have been on: a row that it wants ran and had not run in the base, or a
 * variant that it flips was honoured by the row that ran or refused one. *why is static text
 * unless exercised. */
drift_execution drift_exercised(const drift_executions *base, const drift_executions *with,
                                const ds4_plan *from, const ds4_plan *to, const char **why);

#endif
