#ifndef DRIFT_CMD_KERNEL_REPORT_H
#define DRIFT_CMD_KERNEL_REPORT_H
/* What `kernels` found, as a table on the terminal, CSV, JSON and JUnit: a line, object or test
 * case per row of the manifest. */
#include "engine/kernel_suite.h"

typedef struct kernel_report {
    const ds4_suite *suite;
    bool whole; /* every listed case and edge was run (ds4_suite_judge) */
    const char *device, *driver, *command;
    const char *captured; /* which calls of which model were run, or why none */
} kernel_report;

/* Names of the sources, "listed", "edges", "captured". */
extern const char *const kernel_source_name[DS4_SUITE_SOURCES];

/* Rows in a state. */
uint32_t kernel_report_count(const kernel_report *r, ds4_suite_state state);

typedef enum kernel_format { KERNEL_TEXT, KERNEL_CSV, KERNEL_JSON, KERNEL_JUNIT } kernel_format;
/* "-" is standard output; a file appears complete or not at all. */
ds4_status kernel_report_write(const kernel_report *r, kernel_format format, const char *path,
                               ds4_err *err);

#endif
