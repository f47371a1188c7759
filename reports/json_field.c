#include "reports/json_field.h"

#include <string.h>

#include "reports/out.h"

/* T is the record whose rows follow; the kind of a plain member is that of its type. */
#define TYPE(m) (((T *)0)->m)
#define AT(label, m, k) .name = label, .kind = (k), .at = offsetof(T, m), .size = sizeof TYPE(m)
#define COUNT(n) .n_at = offsetof(T, n), .n_size = sizeof TYPE(n)
#define MAX(m) .max = sizeof TYPE(m) / sizeof *TYPE(m)
#define KIND(m)                                                                                \
    _Generic(TYPE(m), const char * : REPORT_STR, double : REPORT_NUM, bool : REPORT_BOOL,      \
             int32_t : REPORT_I32, int64_t : REPORT_I64, uint32_t : REPORT_U32,                \
             uint64_t : REPORT_U64)

/* clang-format off: tables, aligned by hand, in the order of the file */
#define FIELD(m)                                                                               \
    { AT(#m, m, KIND(m)) }
#define INDEX(m)                                                                               \
    { AT(#m, m, REPORT_INDEX) }
#define WORD(m, words, n)                                                                      \
    { AT(#m, m, REPORT_WORD), .word = words, .max = n }
#define RECORD(label, m, type)                                                                 \
    { AT(label, m, REPORT_RECORD), .record = &type##_record }
#define MAYBE(m, type)                                                                         \
    { AT(#m, m, REPORT_MAYBE), .record = &type##_record }
#define LIST(m, n, type)                                                                       \
    { AT(#m, m, REPORT_LIST), COUNT(n), .record = &type##_record }
#define FEW(m, n, type)                                                                        \
    { AT(#m, m, REPORT_FEW), COUNT(n), MAX(m), .record = &type##_record }
#define ROWS(m, n)                                                                             \
    { AT(#m, m, REPORT_ROWS), COUNT(n) }
#define COUNTS(m)                                                                              \
    { AT(#m, m, REPORT_COUNTS), MAX(m) }

#define END_CHECKED(type, check)                                                               \
    static const report_record type##_record = {                                               \
        sizeof(T), type##_field, sizeof type##_field / sizeof *type##_field, check};
#define END(type) END_CHECKED(type, NULL)

static const char *verdict_word(int v) { return drift_verdict_text((drift_verdict)v); }
static const char *state_word(int v) { return report_state_text((drift_tensor_state)v); }
static const char *toggle_word(int v) { return report_toggle_text((drift_toggle_state)v); }
enum {
    N_VERDICT = DRIFT_INCONCLUSIVE + 1,
    N_STATE = DRIFT_TENSOR_UNMEASURED + 1,
    N_TOGGLE_STATE = DRIFT_TOGGLE_UNTESTED + 1
};

#define T drift_pair
static const report_field pair_field[] = {FIELD(key), FIELD(value)};
END(pair)
#undef T

#define T drift_side
static const report_field side_field[] = {FIELD(label), FIELD(path), LIST(fact, n_fact, pair)};
END(side)
#undef T

#define T drift_fixture
static const report_field fixture_field[] = {FIELD(id), FIELD(n_tok), FIELD(n_decode),
                                             WORD(verdict, verdict_word, N_VERDICT),
                                             INDEX(first)};
END(fixture)
#undef T

#define T drift_nonfinite
static const report_field nonfinite_field[] = {FIELD(n_nan), FIELD(n_pos_inf), FIELD(n_neg_inf),
                                               FIELD(n_subnormal), INDEX(first)};
END(nonfinite)
#undef T

/* Writers walk n_row rows when they print; without values that is a long walk for nothing. */
static const char *tensor_lacks(const void *p) {
    const drift_tensor *t = p;
    return t->n_row && !t->row_rms && !t->row_max ? "row_rms or row_max where n_row is above 0"
                                                  : NULL;
}

#define T drift_tensor
static const report_field tensor_field[] = {FIELD(fixture),
                                            FIELD(tap),
                                            FIELD(op),
                                            FIELD(layer),
                                            FIELD(order),
                                            WORD(state, state_word, N_STATE),
                                            FIELD(why),
                                            FIELD(row_a),
                                            FIELD(row_b),
                                            FIELD(n_elem),
                                            FIELD(n_diff),
                                            FIELD(rms),
                                            FIELD(max_abs),
                                            FIELD(nrmse),
                                            FIELD(cosine),
                                            FIELD(mean_err),
                                            FIELD(ref_rms),
                                            FIELD(max_row),
                                            FIELD(max_col),
                                            FIELD(max_ulp),
                                            COUNTS(ulp),
                                            RECORD("bad_a", bad_a, nonfinite),
                                            RECORD("bad_b", bad_b, nonfinite),
                                            FIELD(n_bad_differs),
                                            FIELD(first_pos),
                                            FIELD(n_row),
                                            FIELD(n_col),
                                            FIELD(pos0),
                                            FIELD(pos_step),
                                            ROWS(row_rms, n_row),
                                            ROWS(row_max, n_row),
                                            FIELD(n_set_differs)};
END_CHECKED(tensor, tensor_lacks)
#undef T

#define T drift_delta
static const report_field delta_field[] = {FIELD(token), FIELD(a), FIELD(b), FIELD(abs),
                                           FIELD(text)};
END(delta)
#undef T

#define T drift_logit
static const report_field logit_field[] = {FIELD(pos),
                                           FIELD(token),
                                           FIELD(next),
                                           FIELD(rms),
                                           FIELD(max_abs),
                                           FIELD(top20_max_abs),
                                           FIELD(n_nonfinite),
                                           FIELD(same_top1),
                                           FIELD(top_k),
                                           FIELD(top5_overlap),
                                           FIELD(top20_overlap),
                                           FIELD(max_rank_delta),
                                           FIELD(top1_a),
                                           FIELD(top1_b),
                                           FIELD(kl_ab),
                                           FIELD(kl_ba),
                                           FIELD(js),
                                           FIELD(tv),
                                           FIELD(margin_a),
                                           FIELD(margin_b),
                                           FIELD(entropy_a),
                                           FIELD(entropy_b),
                                           FIELD(logp_next_a),
                                           FIELD(logp_next_b),
                                           FIELD(rank_displacement),
                                           FIELD(rms_gauge),
                                           FEW(largest, n_largest, delta)};
END(logit)
#undef T

#define T drift_logits
static const report_field logits_field[] = {
    FIELD(fixture),   FIELD(rms_mean), FIELD(rms_max),    FIELD(rms_median), FIELD(max_abs),
    FIELD(kl_mean),   FIELD(kl_max),   FIELD(kl_median),  FIELD(same_top1),  FIELD(min_top5),
    FIELD(min_top20), FIELD(max_rank), LIST(at, n, logit)};
END(logits)
#undef T

#define T drift_executed
static const report_field executed_field[] = {
    FIELD(fixture),   FIELD(tap),      FIELD(op),      FIELD(phase),
    FIELD(layer),     FIELD(row_a),    FIELD(row_b),   FIELD(refusal_a),
    FIELD(refusal_b), FIELD(n_call_a), FIELD(n_call_b)};
END(executed)
#undef T

#define T drift_coverage
static const report_field coverage_field[] = {FIELD(op), FIELD(fixture), FIELD(n_call),
                                              FIELD(n_elem), FIELD(rows)};
END(coverage)
#undef T

#define T drift_toggle
static const report_field toggle_field[] = {FIELD(text), FIELD(why), FIELD(solo_score),
                                            FIELD(without_score),
                                            WORD(state, toggle_word, N_TOGGLE_STATE)};
END(toggle)
#undef T

#define T drift_trial
static const report_field trial_field[] = {FIELD(number),  FIELD(purpose),   FIELD(toggles),
                                           FIELD(score),   FIELD(threshold), FIELD(fails),
                                           FIELD(seconds), FIELD(evidence)};
END(trial)
#undef T

#define T drift_bisect_result
static const report_field bisect_field[] = {FIELD(fixture),
                                            FIELD(metric),
                                            FIELD(replay),
                                            FIELD(one_minimal),
                                            FIELD(score_all),
                                            FIELD(score_none),
                                            FIELD(score_guilty),
                                            LIST(toggle, n_toggle, toggle),
                                            LIST(trial, n_trial, trial)};
END(bisect)
#undef T

#define T drift_result
static const report_field result_field[] = {FIELD(title),
                                            FIELD(kind),
                                            WORD(verdict, verdict_word, N_VERDICT),
                                            FIELD(summary),
                                            FIELD(created),
                                            FIELD(tool),
                                            FIELD(command),
                                            FIELD(same_rows),
                                            RECORD("side_a", side[0], side),
                                            RECORD("side_b", side[1], side),
                                            LIST(fixture, n_fixture, fixture),
                                            LIST(tensor, n_tensor, tensor),
                                            LIST(logits, n_logits, logits),
                                            LIST(executed, n_executed, executed),
                                            LIST(coverage, n_coverage, coverage),
                                            MAYBE(bisect, bisect)};
const report_record report_result_record = {sizeof(T), result_field,
                                            sizeof result_field / sizeof *result_field, NULL};
#undef T
/* clang-format on */

size_t report_field_n(const report_field *f, const void *p) {
    const char *n = (const char *)p + f->n_at;
    uint32_t n32;
    size_t n64;
    if (f->n_size == sizeof n32) return memcpy(&n32, n, sizeof n32), n32;
    return memcpy(&n64, n, sizeof n64), n64;
}
