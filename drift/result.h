#ifndef DRIFT_RESULT_H
#define DRIFT_RESULT_H
/* Plain records of a comparison and of a search: all that reports read. Owner of every pointer:
 * the drift_result, through its arena; drift_result_free releases all. Units: positions are
 * token positions; rates and shares are 0..1; KL in nats; logits as stored. NaN in a double
 * means "not measured" and is printed as an empty cell. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"

typedef enum drift_verdict {
    DRIFT_SAME_BITS,      /* exit 0 */
    DRIFT_WITHIN_FLOOR,   /* exit 0 */
    DRIFT_DRIFT,          /* exit 1 */
    DRIFT_NOT_COMPARABLE, /* exit 2 */
    DRIFT_INCONCLUSIVE    /* exit 3 */
} drift_verdict;

/* "same bits", "within the floor", "drift", "not comparable", "inconclusive". */
const char *drift_verdict_text(drift_verdict v);
int drift_verdict_exit_code(drift_verdict v);

typedef struct drift_pair {
    const char *key, *value;
} drift_pair;

/* One side of a comparison. */
typedef struct drift_side {
    const char *label, *path;
    drift_pair *
        fact; /* provenance, in file order: engine, device, driver, plan, variants, model ... */
    size_t n_fact;
} drift_side;

#define DRIFT_N_ULP 10 /* 0, 1, 2, 3-4, 5-8, 9-16, 17-64, 65-1024, 1025-2^20, more */
extern const char *const drift_ulp_label[DRIFT_N_ULP];

typedef enum drift_tensor_state {
    DRIFT_TENSOR_SAME,      /* equal bits */
    DRIFT_TENSOR_DIFFERENT, /* measured and different */
    DRIFT_TENSOR_MISSING_A, /* only side b has it */
    DRIFT_TENSOR_MISSING_B,
    DRIFT_TENSOR_UNMEASURED /* both have it but it cannot be compared: see why */
} drift_tensor_state;

typedef struct drift_nonfinite {
    uint64_t n_nan, n_pos_inf, n_neg_inf, n_subnormal, first;
} drift_nonfinite;

/* One tap of one layer of one fixture, over all positions. */
typedef struct drift_tensor {
    const char *fixture, *tap, *op;
    int32_t layer;  /* -1: embedding or output head */
    uint32_t order; /* execution order in the forward pass: (layer, tap) */
    drift_tensor_state state;
    const char *why; /* for UNMEASURED */
    const char *row_a,
        *row_b;              /* rows that executed, e.g. "strict"; "strict+tile" when several */
    uint64_t n_elem, n_diff; /* compared elements (both finite), elements whose bits differ */
    double rms, max_abs, nrmse, cosine, mean_err, ref_rms;
    uint64_t max_row, max_col; /* where max_abs is */
    uint32_t max_ulp;
    uint64_t ulp[DRIFT_N_ULP];
    drift_nonfinite bad_a, bad_b;
    uint64_t n_bad_differs; /* elements whose non-finite class differs between the sides */
    int64_t first_pos;      /* first position with a difference, or -1 */
    uint32_t n_row, n_col, pos0, pos_step;
    double *row_rms;        /* [n_row] */
    double *row_max;        /* [n_row] */
    uint64_t n_set_differs; /* i32 taps: rows whose sets differ */
} drift_tensor;

typedef struct drift_delta {
    int32_t token;
    double a, b, abs;
    const char *text;
} drift_delta;

/* Logits of one position. The legacy metrics are those of drift.md 1.1, bit for bit. */
typedef struct drift_logit {
    uint32_t pos;
    int32_t token, next; /* token at pos; the next token of the fixture, or -1 */
    double rms, max_abs, top20_max_abs;
    uint64_t n_nonfinite;
    bool same_top1;
    uint32_t top_k, top5_overlap, top20_overlap, max_rank_delta;
    drift_delta largest[5];
    uint32_t n_largest;
    int32_t top1_a, top1_b;
    double kl_ab, kl_ba, js, tv; /* KL(a||b), KL(b||a); +inf possible */
    double margin_a, margin_b;   /* top1 - top2 */
    double entropy_a, entropy_b;
    double logp_next_a, logp_next_b; /* NaN without a next token */
    uint32_t rank_displacement; /* of the reference's top-k ids in the candidate's full ranking,
                                   max */
    double rms_gauge;           /* rms of d - mean(d) */
} drift_logit;

typedef struct drift_logits {
    const char *fixture;
    drift_logit *at;
    size_t n;
    /* over positions */
    double rms_mean, rms_max, rms_median, max_abs, kl_mean, kl_max, kl_median, same_top1;
    uint32_t min_top5, min_top20, max_rank;
} drift_logits;

typedef struct drift_fixture {
    const char *id;
    uint32_t n_tok, n_decode;
    drift_verdict verdict;
    int64_t first; /* index into tensor of the first divergence in execution order, or -1 */
} drift_fixture;

/* Rows that executed on each side for one (tap, layer, phase); from the ledgers. */
typedef struct drift_executed {
    const char *fixture, *tap, *op, *phase;
    int32_t layer;
    const char *row_a, *row_b, *refusal_a, *refusal_b; /* NULL: did not execute / not refused */
    uint64_t n_call_a, n_call_b;
} drift_executed;

/* op x fixture: executed elements on each side. */
typedef struct drift_coverage {
    const char *op, *fixture;
    uint64_t n_call, n_elem;
    const char *rows;
} drift_coverage;

typedef enum drift_toggle_state {
    DRIFT_TOGGLE_GUILTY,
    DRIFT_TOGGLE_CLEARED,
    DRIFT_TOGGLE_NOT_EXERCISED,
    DRIFT_TOGGLE_UNTESTED
} drift_toggle_state;

typedef struct drift_toggle {
    const char *text; /* the plan edit, e.g. "matmul@2=f16" or "DS4_KV_RAW_F32@4=1" */
    const char *why;  /* for NOT_EXERCISED */
    drift_toggle_state state;
    double solo_score;    /* this toggle alone on top of the reference, or NaN */
    double without_score; /* the guilty set without it, or NaN */
} drift_toggle;

typedef struct drift_trial {
    uint32_t number;
    const char *purpose; /* "all off", "all on", "subset 1/2", "1-minimal check ..." */
    const char *toggles; /* "+3 of 12: ..." */
    double score, threshold;
    bool fails;
    double seconds;
    const char *evidence; /* first divergence, executed rows */
} drift_trial;

typedef struct drift_bisect_result {
    const char *fixture, *metric;
    drift_toggle *toggle;
    size_t n_toggle;
    drift_trial *trial;
    size_t n_trial;
    const char *replay; /* shell command that repeats the search */
    double score_all, score_none, score_guilty;
    bool one_minimal;
} drift_bisect_result;

typedef struct drift_result {
    const char *title, *kind; /* kind: "compare" or "bisect" */
    drift_verdict verdict;
    const char *summary; /* one sentence that begins with the verdict */
    const char *created, *tool, *command;
    bool same_rows; /* both sides executed the same rows everywhere: no evidence */
    drift_side side[2];
    drift_fixture *fixture;
    size_t n_fixture;
    drift_tensor *tensor; /* by fixture, then execution order */
    size_t n_tensor;
    drift_logits *logits;
    size_t n_logits;
    drift_executed *executed;
    size_t n_executed;
    drift_coverage *coverage;
    size_t n_coverage;
    drift_bisect_result *bisect; /* NULL when there was no search */
    struct drift_arena *arena;
} drift_result;

/* Owns: the caller frees *out. */
ds4_status drift_result_new(drift_result **out, ds4_err *err);
void drift_result_free(drift_result *r);
/* Memory and strings that live as long as r; zeroed; NULL when memory is out. */
void *drift_result_alloc(drift_result *r, size_t n, size_t size);
const char *drift_result_str(drift_result *r, const char *s);
const char *drift_result_printf(drift_result *r, const char *fmt, ...)
    __attribute__((format(printf, 2, 3)));

#endif
