#ifndef DRIFT_CMD_BENCH_COST_H
#define DRIFT_CMD_BENCH_COST_H
/* Counts what the calls of a backend read and multiply (bench_cost). One backend at a time. */
#include "drift/cmd/bench_run.h"

/* Between the two every call of b is counted into *out; begin clears it. */
void bench_cost_begin(ds4_backend *b, bench_cost *out);
void bench_cost_end(ds4_backend *b);

#endif
