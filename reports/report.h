#ifndef REPORT_H
#define REPORT_H
/* Result records in, bytes out: one writer per format, one row each in writers.def. The JSON of
 * a result can be read back and written in every other format. */
#include "drift/result.h"
#include "engine/base/err.h"

typedef struct report_writer {
    const char *name, *extension, *what;
    /* Appends the whole report to out through emit; emit returns false when writing failed. */
    ds4_status (*write)(const drift_result *r,
                        bool (*emit)(void *user, const char *p, size_t n), void *user,
                        ds4_err *err);
} report_writer;

size_t report_n_writer(void);
const report_writer *report_writer_at(size_t i);
const report_writer *report_writer_find(const char *name); /* NULL: none */

/* Writes a report to a file that appears complete or not at all; "-" is standard output. */
ds4_status report_write_file(const drift_result *r, const report_writer *w, const char *path,
                             ds4_err *err);

/* Reads what the json writer wrote: every writer then gives the bytes that it gave for the
 * original, but for bytes that were not UTF-8, which became U+FFFD.
 *
 * Errors: DS4_ERR_IO when the file cannot be read, else DS4_ERR_FORMAT with the field, what was
 *         found and what was wanted; unknown fields and files above 1 GiB are refused.
 * Owns:   the caller frees *out with drift_result_free. */
ds4_status report_read_json(drift_result **out, const char *path, ds4_err *err);

#endif
