#ifndef REPORTS_OUT_H
#define REPORTS_OUT_H
/* What the writers share: a buffer in front of emit, and the escapes of each text format.
 *
 * A failed emit is remembered and everything after it is dropped, so writers print without
 * looking; report_out_fini tells. NULL strings print as nothing. Bytes that are not UTF-8 and
 * control characters that a format forbids print as U+FFFD. Numbers use a decimal point: the
 * program never changes LC_NUMERIC. */
#include "reports/report.h"

typedef struct report_out {
    bool (*emit)(void *user, const char *p, size_t n);
    void *user;
    bool failed;
    size_t n;
    char buf[1 << 14];
} report_out;

void report_out_init(report_out *o, bool (*emit)(void *user, const char *p, size_t n),
                     void *user);
/* Flushes; DS4_ERR_IO when any emit failed. */
ds4_status report_out_fini(report_out *o, const char *name, ds4_err *err);

void report_put_mem(report_out *o, const char *p, size_t n);
void report_put(report_out *o, const char *s);
void report_putf(report_out *o, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Next code point of *s, U+FFFD for a byte that starts none; 0 at the end, without moving. */
uint32_t report_utf8_next(const char **s);
void report_put_utf8(report_out *o, uint32_t c);

void report_put_xml(report_out *o,
                    const char *s); /* text and quoted attributes, XML and HTML */
void report_put_json(report_out *o, const char *s); /* quoted; safe inside a script element */
void report_put_csv(report_out *o, const char *s);  /* RFC 4180; quoted where needed */
void report_put_md(report_out *o, const char *s);   /* a table cell */
void report_put_ascii(report_out *o, const char *s, size_t max); /* at most max columns */

/* %.<digits>g; nothing for NaN, "inf" and "-inf". */
void report_put_num(report_out *o, double v, int digits);
/* The same as a string in buf. */
const char *report_num(char buf[32], double v, int digits);

const char *report_state_text(drift_tensor_state s);
const char *report_toggle_text(drift_toggle_state s);
bool report_str_eq(const char *a, const char *b); /* NULL equals "" */
/* The logits of a fixture, or NULL. */
const drift_logits *report_logits_of(const drift_result *r, const char *fixture);
/* The first divergence of a fixture, or NULL. */
const drift_tensor *report_first_of(const drift_result *r, const drift_fixture *f);
/* How bad a tensor is, for sorting: 0 same bits, NRMSE, above all NRMSE what cannot be
 * measured. */
double report_badness(const drift_tensor *t);

#define WRITER(name, extension, what)                                                          \
    ds4_status report_write_##name(const drift_result *r,                                      \
                                   bool (*emit)(void *user, const char *p, size_t n),          \
                                   void *user, ds4_err *err);
#include "reports/writers.def"
#undef WRITER

#endif
