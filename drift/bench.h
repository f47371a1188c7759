#ifndef DRIFT_BENCH_H
#define DRIFT_BENCH_H
/* Speed of two plans, A and B, against each other: the schedule of the runs and what their
 * times are worth. No clock and no engine in here: whoever asks gives a source that runs and
 * times.
 *
 * Schedule: a pair is one run of either side. The first pair (A B) warms up and is discarded.
 * Then come blocks of two pairs in opposite order, turn by turn A B B A and B A A B; within a
 * pair the sides take turns at every frontier, so that what is compared ran seconds apart.
 *
 * Figures, per frontier and phase: a block gives one ratio, the geometric mean of B's two rates
 * over that of A's two. A bias of the place in a pair and a steady change of the machine cancel
 * in it. Estimate and interval of the ratios: drift_stats_signed_rank on their logarithms.
 * Floor: the same of A against itself, its first run of a block over its second (turn by turn
 * upside down), in the same run; the wider end of that interval, and never less than
 * `min_effect`. B is ranked only where its interval does not hold 1 and its estimate is outside
 * the floor.
 *
 * Evidence: each run comes with a fingerprint of the rows that executed, per phase. Where both
 * sides show the same one there is no comparison. */
#include "drift/runner.h"
#include "drift/stats.h"

#define DRIFT_BENCH_MAX_POINT 64
#define DRIFT_BENCH_MAX_BLOCK 200

/* Context frontiers, ascending: token counts at which the timeline is measured. */
typedef struct drift_bench_points {
    uint32_t at[DRIFT_BENCH_MAX_POINT];
    uint32_t n;
} drift_bench_points;

/* "N,N,..." (ascending), "linear:START:STEP:END" or "geometric:START:FACTOR:END"; the geometric
 * one grows to ceil(n * FACTOR), by 1 at least; END is always the last. Errors: DS4_ERR_USAGE.
 */
ds4_status drift_bench_points_parse(drift_bench_points *out, const char *text, ds4_err *err);

/* The side (0: A) that runs first in pair i, counted after the warm-up: A, B, B, A and again.
 */
uint32_t drift_bench_first(uint32_t i_pair);

/* One run at one frontier. */
typedef struct drift_bench_take {
    double s[DS4_PHASE_COUNT];      /* seconds */
    uint64_t rows[DS4_PHASE_COUNT]; /* fingerprint of the rows that executed */
} drift_bench_take;

typedef struct drift_bench_source {
    /* Brings a side from the frontier before (from nothing at the first) to frontier i, timed
     * as prefill, and decodes from there, timed; then goes back to the frontier, untimed. warm:
     * the pair that is discarded. */
    ds4_status (*take)(void *user, uint32_t side, uint32_t i, bool warm, drift_bench_take *out,
                       ds4_err *err);
    void *user;
} drift_bench_source;

typedef enum drift_bench_verdict {
    DRIFT_BENCH_FASTER,   /* B */
    DRIFT_BENCH_SLOWER,   /* B */
    DRIFT_BENCH_FLOOR,    /* inside the floor, or an interval that holds 1: not ranked */
    DRIFT_BENCH_TOO_FEW,  /* fewer blocks than an interval of the level needs */
    DRIFT_BENCH_SAME_ROWS /* not a comparison */
} drift_bench_verdict;
const char *drift_bench_verdict_text(drift_bench_verdict v);

/* One frontier and phase. Rates are tokens per second; ratios are B over A. */
typedef struct drift_bench_figure {
    double tps[2];       /* median over the runs of A, of B */
    double spread[2];    /* half the interquartile range over the median */
    drift_interval ab;   /* ratio B / A */
    drift_interval aa;   /* the same of A against itself */
    double floor;        /* how far from 1 a ratio must be, as a factor minus 1 */
    uint32_t n_row_same; /* pairs whose sides executed the same rows */
    drift_bench_verdict verdict;
} drift_bench_figure;

typedef struct drift_bench_spec {
    drift_bench_points prefill; /* frontiers */
    uint32_t n_decode;          /* tokens after each; 0: none */
    uint32_t n_block;           /* of four runs */
    double level;               /* of the intervals, e.g. 0.95 */
    double min_effect;          /* e.g. 0.01 */
} drift_bench_spec;

typedef struct drift_bench {
    drift_bench_spec spec;
    uint32_t n_block;       /* finished; fewer than asked for: partial */
    drift_bench_take *take; /* drift_bench_at */
    drift_bench_take warm[DRIFT_BENCH_MAX_POINT][2];
    drift_bench_figure figure[DRIFT_BENCH_MAX_POINT][DS4_PHASE_COUNT];
} drift_bench;

/* An empty bench. Errors: DS4_ERR_USAGE for no frontier or more blocks than are supported.
 * Owns: the caller frees *out. */
ds4_status drift_bench_new(drift_bench **out, const drift_bench_spec *spec, ds4_err *err);
void drift_bench_free(drift_bench *b);

/* Runs the schedule and fills the figures. A stop by `progress` keeps the finished blocks; an
 * error of the source is returned as it is. Where the warm-up shows the same rows everywhere,
 * nothing else runs.
 *
 * Errors: DS4_ERR_CANCELLED when it was stopped before a block was finished. */
ds4_status drift_bench_run(drift_bench *b, const drift_bench_source *src,
                           const drift_progress *progress, ds4_err *err);

/* The run of a side in the first b->n_block blocks; run: 0 or 1. Writable, for tests. */
drift_bench_take *drift_bench_at(const drift_bench *b, uint32_t i_point, uint32_t side,
                                 uint32_t i_block, uint32_t run);
/* Fills the figures from the takes of b->n_block blocks; drift_bench_run ends with it. */
ds4_status drift_bench_judge(drift_bench *b, ds4_err *err);

/* Tokens that a timing covers: what prefill adds at frontier i, or the decoded ones. */
uint32_t drift_bench_n_tok(const drift_bench_spec *s, uint32_t i_point, ds4_phase phase);
/* Whether any figure compares something. */
bool drift_bench_is_comparison(const drift_bench *b);

#endif
