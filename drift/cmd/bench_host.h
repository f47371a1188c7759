#ifndef DRIFT_CMD_BENCH_HOST_H
#define DRIFT_CMD_BENCH_HOST_H
/* The state of the machine around a bench: load, clocks, energy, where the system lets us read
 * them. */
#include <jansson.h>
#include <stdint.h>

typedef struct bench_host {
    char load[32];        /* average of one minute; "not readable" */
    char mhz[32];         /* of the first CPU now, with its governor */
    double energy_j;      /* of all packages since some start; negative: not readable */
    double energy_wrap_j; /* where the counter starts again */
} bench_host;

void bench_host_read(bench_host *h);
/* Adds load.before, load.after, cpu_mhz.before, cpu_mhz.after and energy_j. */
void bench_host_facts(json_t *fact, const bench_host *before, const bench_host *after);

#endif
