/* JSON, schema "ds4-drift/result" version 1: the fields of drift/result.h under their own
 * names, as json_field.c lists them; report_read_json reads them back. Doubles keep 17 digits;
 * NaN (not measured) is null, infinities are the strings "inf" and "-inf", because JSON has no
 * numbers for them. Enums are words, missing strings null, bytes that are not UTF-8 U+FFFD.
 * Records are dumped one by one, so memory stays that of the largest tensor. */
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "reports/json_field.h"
#include "reports/out.h"

typedef struct writer {
    report_out o;
    bool oom;
} writer;

/* jansson refuses text that is not UTF-8; ours may come from a hostile file. */
static json_t *str(const char *s) {
    if (!s) return json_null();
    json_t *j = json_string(s);
    if (j) return j;
    report_out o;
    size_t n = 0;
    char *clean = NULL;
    for (const char *p = s; report_utf8_next(&p);) n++;
    if (ds4_mem_alloc(&clean, n * 4 + 1, 1, NULL)) return NULL;
    n = 0;
    report_out_init(&o, NULL, NULL);
    for (uint32_t c; (c = report_utf8_next(&s)) != 0;) {
        o.n = 0;
        report_put_utf8(&o, c);
        for (size_t i = 0; i < o.n; i++) clean[n++] = o.buf[i];
    }
    j = json_stringn(clean, n);
    ds4_mem_free(clean);
    return j;
}

static json_t *num(double v) {
    if (isnan(v)) return json_null();
    if (isinf(v)) return json_string(v < 0 ? "-inf" : "inf");
    return json_real(v);
}

static json_t *integer(uint64_t v) {
    char digits[24];
    if (v <= INT64_MAX) return json_integer((json_int_t)v);
    snprintf(digits, sizeof digits, "%" PRIu64, v);
    return json_string(digits);
}

/* json_array_append_new frees the value and reports when it or the array is NULL. */
static void add(json_t *arr, json_t *v, bool *oom) {
    if (json_array_append_new(arr, v)) *oom = true;
}

static json_t *record(const report_record *rec, const void *p, bool *oom);

static json_t *records(const report_record *rec, const char *p, size_t n, bool *oom) {
    json_t *j = json_array();
    for (size_t i = 0; i < n; i++) add(j, record(rec, p + i * rec->size, oom), oom);
    return j;
}

static json_t *doubles(const double *v, size_t n, bool *oom) {
    if (!v) return json_null();
    json_t *j = json_array();
    for (size_t i = 0; i < n; i++) add(j, num(v[i]), oom);
    return j;
}

static json_t *counts(const uint64_t *v, size_t n, bool *oom) {
    json_t *j = json_array();
    for (size_t i = 0; i < n; i++) add(j, integer(v[i]), oom);
    return j;
}

static const void *pointer(const void *member) {
    const void *p;
    return memcpy(&p, member, sizeof p), p;
}

static json_t *value(const report_field *f, const void *rec, bool *oom) {
    const void *p = (const char *)rec + f->at;
    size_t n = f->n_size ? report_field_n(f, rec) : 0;
    uint64_t bits;
    int word;
    switch (f->kind) {
    case REPORT_STR:
        return str(pointer(p));
    case REPORT_NUM:
        return num(*(const double *)p);
    case REPORT_BOOL:
        return json_boolean(*(const bool *)p);
    case REPORT_I32:
        return json_integer(*(const int32_t *)p);
    case REPORT_I64:
        return json_integer(*(const int64_t *)p);
    case REPORT_U32:
        return json_integer(*(const uint32_t *)p);
    case REPORT_U64:
        return integer(*(const uint64_t *)p);
    case REPORT_INDEX:
        memcpy(&bits, p, sizeof bits);
        return bits == UINT64_MAX ? json_null() : integer(bits);
    case REPORT_WORD:
        memcpy(&word, p, sizeof word);
        return str(f->word(word));
    case REPORT_RECORD:
        return record(f->record, p, oom);
    case REPORT_MAYBE:
        return pointer(p) ? record(f->record, pointer(p), oom) : json_null();
    case REPORT_LIST:
        return records(f->record, pointer(p), n, oom);
    case REPORT_FEW:
        return records(f->record, p, n < f->max ? n : f->max, oom);
    case REPORT_ROWS:
        return doubles(pointer(p), n, oom);
    case REPORT_COUNTS:
        return counts(p, f->max, oom);
    }
    return NULL;
}

static json_t *record(const report_record *rec, const void *p, bool *oom) {
    json_t *j = json_object();
    for (size_t i = 0; i < rec->n_field; i++)
        if (json_object_set_new(j, rec->field[i].name, value(&rec->field[i], p, oom)))
            *oom = true;
    return j;
}

static int chunk(const char *p, size_t n, void *user) {
    writer *w = user;
    report_put_mem(&w->o, p, n);
    return w->o.failed ? -1 : 0;
}

static void put_value(writer *w, json_t *j) {
    size_t flags = JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17);
    if (!j || (json_dump_callback(j, chunk, w, flags) && !w->o.failed)) w->oom = true;
    json_decref(j);
}

/* The lists of a result are long; each record has a line. */
static void put_list(writer *w, const report_field *f, const drift_result *r) {
    const char *p = pointer((const char *)r + f->at);
    size_t n = report_field_n(f, r);
    report_put(&w->o, "[");
    for (size_t i = 0; i < n && !w->oom && !w->o.failed; i++) {
        report_put(&w->o, i ? ",\n" : "\n");
        put_value(w, record(f->record, p + i * f->record->size, &w->oom));
    }
    report_put(&w->o, "]");
}

ds4_status report_write_json(const drift_result *r,
                             bool (*emit)(void *user, const char *p, size_t n), void *user,
                             ds4_err *err) {
    writer w = {.oom = false};
    report_out_init(&w.o, emit, user);
    report_putf(&w.o, "{\"schema\":\"%s\",\n\"version\":%d,\n\"exit_code\":%d", REPORT_SCHEMA,
                REPORT_VERSION, drift_verdict_exit_code(r->verdict));
    for (size_t i = 0; i < report_result_record.n_field; i++) {
        const report_field *f = &report_result_record.field[i];
        report_putf(&w.o, ",\n\"%s\":", f->name);
        if (f->kind == REPORT_LIST) put_list(&w, f, r);
        else put_value(&w, value(f, r, &w.oom));
    }
    report_put(&w.o, "}\n");
    if (w.oom) return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE, "json report: out of memory");
    return report_out_fini(&w.o, "json", err);
}
