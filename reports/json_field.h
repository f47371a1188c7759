#ifndef REPORTS_JSON_FIELD_H
#define REPORTS_JSON_FIELD_H
/* The members of drift/result.h as JSON has them, one row each: the writer and the reader walk
 * the same tables, so neither can know a field that the other does not. The JSON name of a
 * member is its own. To add a member: one row in json_field.c; tests/test_report_read.c fails
 * while a member lacks one. */
#include <stddef.h>

#include "reports/report.h"

typedef enum report_kind {
    REPORT_STR,    /* const char *: a string, null for NULL */
    REPORT_NUM,    /* double: a number; null for NaN; "inf", "-inf" */
    REPORT_BOOL,   /* bool */
    REPORT_I32,    /* int32_t, int64_t, uint32_t: a number */
    REPORT_I64,    /* */
    REPORT_U32,    /* */
    REPORT_U64,    /* uint64_t: a number; from 2^63 a string of digits */
    REPORT_INDEX,  /* 64 bits: a number; null for "none", which is all bits set */
    REPORT_WORD,   /* an enum: one of its words */
    REPORT_RECORD, /* a record in place */
    REPORT_MAYBE,  /* a pointer to a record, null for NULL */
    REPORT_LIST,   /* a pointer to n records */
    REPORT_FEW,    /* n of at most max records, in place */
    REPORT_ROWS,   /* a pointer to n doubles, each as REPORT_NUM; null for NULL */
    REPORT_COUNTS  /* max uint64_t in place */
} report_kind;

typedef struct report_field report_field;

typedef struct report_record {
    size_t size;
    const report_field *field;
    size_t n_field;
    /* NULL, or what a record just read should have had though each field of it is right. */
    const char *(*lacks)(const void *record);
} report_record;

struct report_field {
    const char *name;
    report_kind kind;
    size_t at, size;     /* the member: offset and bytes */
    size_t n_at, n_size; /* the member with its count, where it has one */
    size_t max;
    const char *(*word)(int value); /* of 0 .. max - 1 */
    const report_record *record;
};

#define REPORT_SCHEMA "ds4-drift/result"
#define REPORT_VERSION 1

/* drift_result; "schema", "version" and "exit_code" stand in front of its fields. */
extern const report_record report_result_record;

/* The count of a field in the record at p. */
size_t report_field_n(const report_field *f, const void *p);

#endif
