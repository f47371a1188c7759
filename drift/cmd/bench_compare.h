#ifndef DRIFT_CMD_BENCH_COMPARE_H
#define DRIFT_CMD_BENCH_COMPARE_H
/* Two benches of different sessions against each other. Rates of different sessions are shown
 * and never ranked: the machine may have changed between them. What can be ranked is the ratio
 * B / A that each session measured for itself: it moved where the two intervals share nothing.
 */
#include <stdio.h>

#include "engine/base/err.h"

/* Prints the lines that both files have. A file is what bench writes with --table, or the
 * published columns, of which the first, third and fifth are read; these have no ratio.
 *
 * Errors: DS4_ERR_IO; DS4_ERR_FORMAT with the line; DS4_ERR_COMPARE when no line is in both. */
ds4_status bench_compare(FILE *f, const char *old, const char *new, ds4_err *err);

#endif
