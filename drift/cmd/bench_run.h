#ifndef DRIFT_CMD_BENCH_RUN_H
#define DRIFT_CMD_BENCH_RUN_H
/* The source of drift/bench.h on an engine: one session per plan, the clock, and for each run
 * the ledger's word on which rows executed. The discarded pair also counts what the network
 * reads and multiplies, chooses the tokens to decode and compares the two sides' logits. */
#include "drift/bench.h"
#include "engine/ds4.h"

/* What one timing has to do, whatever rows do it; counted over the calls of a run of A. Bytes
 * of weight matrices (of the experts that were selected: each once per call), of cached rows
 * that attention and the indexer read, and of embedding rows. Multiply-adds of products,
 * attention and indexer scores. Vectors and work buffers are not counted. */
typedef struct bench_cost {
    double n_byte, n_mac;
} bench_cost;

/* Logits of B against A after the prefill of a frontier. */
typedef struct bench_drift {
    double nrmse;
    bool same_top1, finite;
} bench_drift;

typedef struct bench_run {
    ds4_engine *engine;
    ds4_session *session[2];
    ds4_ledger *rows[2]; /* what executed in the discarded pair's timings */
    uint64_t *mark;      /* calls of each entry of a ledger before a timing */
    uint32_t n_mark, cap_mark;
    drift_bench_spec spec;
    int32_t *prompt; /* [last frontier] */
    int32_t *decode; /* [frontier][n_decode], chosen greedily by A, never EOS */
    int32_t eos;     /* -1: the model names none */
    float *logits;   /* [n_vocab], A's */
    bench_cost cost[DRIFT_BENCH_MAX_POINT][DS4_PHASE_COUNT];
    bench_drift drift[DRIFT_BENCH_MAX_POINT];
    uint64_t kv_bytes[DRIFT_BENCH_MAX_POINT]; /* cached rows that can still matter, as f32 */
} bench_run;

/* prompt: ids to take the text from, repeated as often as it needs; n_prompt 0: made-up ids.
 * Owns: the caller ends r with bench_run_fini, also after an error. */
ds4_status bench_run_init(bench_run *r, ds4_engine *e, const ds4_plan *const plan[2],
                          const drift_bench_spec *spec, uint32_t n_chunk, const int32_t *prompt,
                          uint32_t n_prompt, ds4_err *err);
/* Ends what needs the engine; what was counted stays. */
void bench_run_close(bench_run *r);
void bench_run_fini(bench_run *r);

/* drift_bench_source.take; user: bench_run. */
ds4_status bench_run_take(void *user, uint32_t side, uint32_t i, bool warm,
                          drift_bench_take *out, ds4_err *err);

/* Seconds of a clock that every process of this machine shares. */
double bench_now_s(void);

#endif
