#ifndef DRIFT_CMD_BENCH_START_H
#define DRIFT_CMD_BENCH_START_H
/* How long a start takes: fresh processes of this program, which open the engine and evaluate a
 * prompt, with and without compiled pipelines from before. */
#include "drift/bench.h"

/* What is there of an earlier process. The driver's own cache is in a folder of this run. */
typedef enum bench_start_kind {
    BENCH_START_COLD,   /* nothing: our cache in an empty folder, the driver's switched off */
    BENCH_START_WARM,   /* our cache, the driver's switched off */
    BENCH_START_DRIVER, /* the driver's cache, ours off */
    BENCH_START_COUNT
} bench_start_kind;
const char *bench_start_text(bench_start_kind k);

#define BENCH_MAX_START 16

/* One process. Seconds from its start. */
typedef struct bench_start {
    double open_s;      /* engine open: device, weights */
    double first_s;     /* logits of the first token */
    double pipelines_s; /* of these, in the driver's making of pipelines */
    uint32_t n_pipeline;
    char cache[256]; /* the fact pipeline_cache; the end of it says what the file held */
} bench_start;

typedef struct bench_starts {
    uint32_t n; /* finished rounds */
    bench_start at[BENCH_START_COUNT][BENCH_MAX_START];
} bench_starts;

/* Runs n_round rounds of every kind, turn by turn. argv: words of the command line after the
 * subcommand; the process gets them and `--start-child SECONDS`.
 *
 * Errors: DS4_ERR_IO; what a process said that failed is on standard error. Stopped by
 * `progress`, it keeps the finished rounds. */
ds4_status bench_start_run(bench_starts *out, uint32_t n_round, char *const *argv,
                           const drift_progress *progress, ds4_err *err);

/* The other side: prints one line that bench_start_run reads. */
void bench_start_tell(const bench_start *s);

#endif
