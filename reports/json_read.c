/* Reads a result back from JSON, by the tables of json_field.h. Nothing is guessed: a field
 * that is missing, unknown, given twice, of another type or out of range is an error that names
 * the file, the field, what was found and what was wanted. */
#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "reports/json_field.h"
#include "reports/out.h"

#define MAX_BYTES ((size_t)1 << 30)

typedef struct reader {
    drift_result *r;
    const char *path;
    ds4_err *err;
} reader;

/* Where a value stands, innermost first; name NULL: element i of the array above. */
typedef struct place {
    const struct place *up;
    const char *name;
    size_t i;
} place;

static size_t put_place(char *dst, size_t cap, const place *at) {
    if (!at) return 0;
    size_t n = put_place(dst, cap, at->up);
    if (n >= cap) return cap;
    int k = at->name ? snprintf(dst + n, cap - n, "%s%s", n ? "." : "", at->name)
                     : snprintf(dst + n, cap - n, "[%zu]", at->i);
    return k < 0 ? cap : n + (size_t)k;
}

static void describe(char *dst, size_t cap, const json_t *j) {
    report_out o;
    if (!j) snprintf(dst, cap, "nothing");
    else if (json_is_object(j)) snprintf(dst, cap, "an object");
    else if (json_is_array(j)) snprintf(dst, cap, "an array of %zu", json_array_size(j));
    else if (json_is_integer(j))
        snprintf(dst, cap, "%" JSON_INTEGER_FORMAT, json_integer_value(j));
    else if (json_is_real(j)) snprintf(dst, cap, "%.9g", json_real_value(j));
    else if (json_is_boolean(j)) snprintf(dst, cap, json_is_true(j) ? "true" : "false");
    else if (json_is_null(j)) snprintf(dst, cap, "null");
    else if (strlen(json_string_value(j)) != json_string_length(j))
        snprintf(dst, cap, "a string with a NUL");
    else {
        report_out_init(&o, NULL, NULL);
        report_put_ascii(&o, json_string_value(j), 40);
        snprintf(dst, cap, "\"%.*s\"", (int)o.n, o.buf);
    }
}

static ds4_status refuse(const reader *rd, const place *at, const json_t *found,
                         const char *wanted) {
    char where[160] = "", what[64];
    put_place(where, sizeof where, at);
    describe(what, sizeof what, found);
    return ds4_err_set(rd->err, DS4_ERR_FORMAT, DS4_HERE, "%.200s: %s: found %s, wanted %s",
                       rd->path, *where ? where : "the whole", what, wanted);
}

static ds4_status out_of_memory(const reader *rd) {
    return ds4_err_set(rd->err, DS4_ERR_MEMORY, DS4_HERE, "%.300s: out of memory", rd->path);
}

/* ---- leaves ---- */

/* jansson was told to let NUL through, so that the message can name the field. */
static bool is_text(const json_t *j) {
    return json_is_string(j) && strlen(json_string_value(j)) == json_string_length(j);
}

static ds4_status read_str(const reader *rd, const place *at, void *p, const json_t *j) {
    const char *s = NULL;
    if (is_text(j)) {
        s = drift_result_str(rd->r, json_string_value(j));
        if (!s) return out_of_memory(rd);
    } else if (!json_is_null(j)) {
        return refuse(rd, at, j, "a string without NUL, or null");
    }
    *(const char **)p = s;
    return DS4_OK;
}

static ds4_status read_num(const reader *rd, const place *at, double *p, const json_t *j) {
    bool text = is_text(j);
    if (json_is_number(j)) *p = json_number_value(j);
    else if (json_is_null(j)) *p = (double)NAN;
    else if (text && !strcmp(json_string_value(j), "inf")) *p = (double)INFINITY;
    else if (text && !strcmp(json_string_value(j), "-inf")) *p = -(double)INFINITY;
    else return refuse(rd, at, j, "a number, null, \"inf\" or \"-inf\"");
    return DS4_OK;
}

static ds4_status read_int(const reader *rd, const place *at, int64_t *v, const json_t *j,
                           int64_t least, int64_t most) {
    char wanted[80];
    if (json_is_integer(j) && json_integer_value(j) >= least && json_integer_value(j) <= most) {
        *v = json_integer_value(j);
        return DS4_OK;
    }
    snprintf(wanted, sizeof wanted, "an integer from %" PRId64 " to %" PRId64, least, most);
    return refuse(rd, at, j, wanted);
}

static ds4_status read_u64(const reader *rd, const place *at, uint64_t *p, const json_t *j) {
    const char *s = is_text(j) ? json_string_value(j) : "";
    if (json_is_integer(j) && json_integer_value(j) >= 0) {
        *p = (uint64_t)json_integer_value(j);
        return DS4_OK;
    }
    errno = 0;
    unsigned long long v = strtoull(s, NULL, 10);
    if (!*s || s[strspn(s, "0123456789")] || errno || v <= INT64_MAX || v > UINT64_MAX)
        return refuse(rd, at, j, "a count, from 2^63 to 2^64-1 as a string of digits");
    *p = v;
    return DS4_OK;
}

static ds4_status read_word(const reader *rd, const place *at, const report_field *f, void *p,
                            const json_t *j) {
    char wanted[120] = "one of";
    size_t n = strlen(wanted);
    for (int v = 0; v < (int)f->max; v++) {
        if (is_text(j) && !strcmp(json_string_value(j), f->word(v))) {
            memcpy(p, &v, sizeof v);
            return DS4_OK;
        }
        int k = snprintf(wanted + n, sizeof wanted - n, "%s \"%s\"", v ? "," : "", f->word(v));
        n = k < 0 || (size_t)k >= sizeof wanted - n ? sizeof wanted - 1 : n + (size_t)k;
    }
    return refuse(rd, at, j, wanted);
}

/* ---- records and arrays ---- */

static ds4_status read_record(const reader *rd, const place *at, const report_record *rec,
                              void *p, json_t *j, size_t n_extra);

static ds4_status read_records(const reader *rd, const place *at, const report_field *f,
                               void *p, json_t *j) {
    for (size_t i = 0; i < json_array_size(j); i++) {
        place here = {at, NULL, i};
        ds4_status st = read_record(rd, &here, f->record, (char *)p + i * f->record->size,
                                    json_array_get(j, i), 0);
        if (st != DS4_OK) return st;
    }
    return DS4_OK;
}

static ds4_status read_maybe(const reader *rd, const place *at, const report_field *f,
                             void *member, json_t *j) {
    if (json_is_null(j)) return DS4_OK;
    void *p = drift_result_alloc(rd->r, 1, f->record->size);
    if (!p) return out_of_memory(rd);
    memcpy(member, &p, sizeof p);
    return read_record(rd, at, f->record, p, j, 0);
}

static ds4_status read_list(const reader *rd, const place *at, const report_field *f, void *rec,
                            json_t *j) {
    size_t n = json_array_size(j);
    if (!json_is_array(j)) return refuse(rd, at, j, "an array");
    void *p = drift_result_alloc(rd->r, n, f->record->size);
    if (!p) return out_of_memory(rd);
    memcpy((char *)rec + f->at, &p, sizeof p);
    memcpy((char *)rec + f->n_at, &n, sizeof n);
    return read_records(rd, at, f, p, j);
}

static ds4_status read_few(const reader *rd, const place *at, const report_field *f, void *rec,
                           json_t *j) {
    uint32_t n = (uint32_t)json_array_size(j);
    char wanted[40];
    if (!json_is_array(j) || json_array_size(j) > f->max) {
        snprintf(wanted, sizeof wanted, "an array of at most %zu", f->max);
        return refuse(rd, at, j, wanted);
    }
    memcpy((char *)rec + f->n_at, &n, sizeof n);
    return read_records(rd, at, f, (char *)rec + f->at, j);
}

static ds4_status read_rows(const reader *rd, const place *at, const report_field *f, void *rec,
                            json_t *j) {
    ds4_status st = DS4_OK;
    size_t n = report_field_n(f, rec); /* its row stands before this one */
    char wanted[60];
    if (json_is_null(j)) return DS4_OK;
    if (!json_is_array(j) || json_array_size(j) != n) {
        snprintf(wanted, sizeof wanted, "an array of n_row = %zu, or null", n);
        return refuse(rd, at, j, wanted);
    }
    double *v = drift_result_alloc(rd->r, n, sizeof *v);
    if (!v) return out_of_memory(rd);
    for (size_t i = 0; i < n && st == DS4_OK; i++) {
        place here = {at, NULL, i};
        st = read_num(rd, &here, &v[i], json_array_get(j, i));
    }
    memcpy((char *)rec + f->at, &v, sizeof v);
    return st;
}

static ds4_status read_counts(const reader *rd, const place *at, const report_field *f,
                              uint64_t *p, json_t *j) {
    ds4_status st = DS4_OK;
    char wanted[40];
    if (!json_is_array(j) || json_array_size(j) != f->max) {
        snprintf(wanted, sizeof wanted, "an array of %zu", f->max);
        return refuse(rd, at, j, wanted);
    }
    for (size_t i = 0; i < f->max && st == DS4_OK; i++) {
        place here = {at, NULL, i};
        st = read_u64(rd, &here, &p[i], json_array_get(j, i));
    }
    return st;
}

static ds4_status read_field(const reader *rd, const place *at, const report_field *f,
                             void *rec, json_t *j) {
    void *p = (char *)rec + f->at;
    ds4_status st = DS4_OK;
    int64_t v = -1;
    switch (f->kind) {
    case REPORT_STR:
        return read_str(rd, at, p, j);
    case REPORT_NUM:
        return read_num(rd, at, p, j);
    case REPORT_BOOL:
        if (!json_is_boolean(j)) return refuse(rd, at, j, "true or false");
        *(bool *)p = json_is_true(j);
        return DS4_OK;
    case REPORT_I32:
        st = read_int(rd, at, &v, j, INT32_MIN, INT32_MAX);
        *(int32_t *)p = (int32_t)v;
        return st;
    case REPORT_I64:
        return read_int(rd, at, p, j, INT64_MIN, INT64_MAX);
    case REPORT_U32:
        st = read_int(rd, at, &v, j, 0, UINT32_MAX);
        *(uint32_t *)p = (uint32_t)v;
        return st;
    case REPORT_U64:
        return read_u64(rd, at, p, j);
    case REPORT_INDEX:
        if (!json_is_null(j)) st = read_int(rd, at, &v, j, 0, INT64_MAX);
        memcpy(p, &v, sizeof v);
        return st;
    case REPORT_WORD:
        return read_word(rd, at, f, p, j);
    case REPORT_RECORD:
        return read_record(rd, at, f->record, p, j, 0);
    case REPORT_MAYBE:
        return read_maybe(rd, at, f, p, j);
    case REPORT_LIST:
        return read_list(rd, at, f, rec, j);
    case REPORT_FEW:
        return read_few(rd, at, f, rec, j);
    case REPORT_ROWS:
        return read_rows(rd, at, f, rec, j);
    case REPORT_COUNTS:
        return read_counts(rd, at, f, p, j);
    }
    return ds4_err_set(rd->err, DS4_ERR_INTERNAL, DS4_HERE, "field %s: no such kind", f->name);
}

/* Names the first member that no row knows; there is one when the object has more members than
 * rows. The first n_extra members of a file's record have no row. */
static ds4_status refuse_unknown(const reader *rd, const place *at, const report_record *rec,
                                 json_t *j) {
    static const char *const extra[] = {"schema", "version", "exit_code"};
    const char *key;
    json_t *v;
    json_object_foreach(j, key, v) {
        bool known = false;
        for (size_t i = 0; !at && i < sizeof extra / sizeof *extra; i++)
            known |= !strcmp(key, extra[i]);
        for (size_t i = 0; i < rec->n_field; i++) known |= !strcmp(key, rec->field[i].name);
        if (known) continue;
        char clean[44];
        report_out o;
        report_out_init(&o, NULL, NULL);
        report_put_ascii(&o, key, 40);
        snprintf(clean, sizeof clean, "%.*s", (int)o.n, o.buf);
        place here = {at, clean, 0};
        return refuse(rd, &here, v, "no such field");
    }
    return DS4_OK;
}

static ds4_status read_record(const reader *rd, const place *at, const report_record *rec,
                              void *p, json_t *j, size_t n_extra) {
    if (!json_is_object(j)) return refuse(rd, at, j, "an object");
    for (size_t i = 0; i < rec->n_field; i++) {
        const report_field *f = &rec->field[i];
        place here = {at, f->name, 0};
        json_t *v = json_object_get(j, f->name);
        ds4_status st =
            v ? read_field(rd, &here, f, p, v) : refuse(rd, &here, NULL, "this field");
        if (st != DS4_OK) return st;
    }
    const char *lacks = rec->lacks ? rec->lacks(p) : NULL;
    if (lacks) return refuse(rd, at, j, lacks);
    if (json_object_size(j) > rec->n_field + n_extra) return refuse_unknown(rd, at, rec, j);
    return DS4_OK;
}

/* ---- the file ---- */

static ds4_status parse(json_t **out, const ds4_file *file, const reader *rd) {
    json_error_t e;
    if (ds4_file_bytes(file) > MAX_BYTES)
        return ds4_err_set(rd->err, DS4_ERR_FORMAT, DS4_HERE,
                           "%.300s: found %zu bytes, wanted at most %zu", rd->path,
                           ds4_file_bytes(file), MAX_BYTES);
    *out = json_loadb(ds4_file_data(file), ds4_file_bytes(file),
                      JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &e);
    if (*out) return DS4_OK;
    if (json_error_code(&e) == json_error_out_of_memory) return out_of_memory(rd);
    return ds4_err_set(rd->err, DS4_ERR_FORMAT, DS4_HERE,
                       "%.200s: found no JSON at line %d, column %d (%s), wanted a result",
                       rd->path, e.line, e.column, e.text);
}

static ds4_status read_root(const reader *rd, json_t *j) {
    static const place schema = {NULL, "schema", 0}, version = {NULL, "version", 0},
                       exit_code = {NULL, "exit_code", 0};
    const json_t *s = json_object_get(j, "schema"), *v = json_object_get(j, "version"),
                 *x = json_object_get(j, "exit_code");
    char wanted[60];
    if (!json_is_object(j)) return refuse(rd, NULL, j, "an object");
    if (!is_text(s) || strcmp(json_string_value(s), REPORT_SCHEMA))
        return refuse(rd, &schema, s, "\"" REPORT_SCHEMA "\"");
    if (!json_is_integer(v) || json_integer_value(v) != REPORT_VERSION)
        return refuse(rd, &version, v, DS4_STR(REPORT_VERSION));
    ds4_status st = read_record(rd, NULL, &report_result_record, rd->r, j, 3);
    if (st != DS4_OK) return st;
    int code = drift_verdict_exit_code(rd->r->verdict);
    if (json_is_integer(x) && json_integer_value(x) == code) return DS4_OK;
    snprintf(wanted, sizeof wanted, "%d, the code of \"%s\"", code,
             drift_verdict_text(rd->r->verdict));
    return refuse(rd, &exit_code, x, wanted);
}

ds4_status report_read_json(drift_result **out, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file *file = NULL;
    json_t *root = NULL;
    reader rd = {NULL, path, err};

    TRY(ds4_file_open(&file, path, err));
    TRY(parse(&root, file, &rd));
    TRY(drift_result_new(&rd.r, err));
    TRY(read_root(&rd, root));
    *out = rd.r, rd.r = NULL;
out:
    drift_result_free(rd.r);
    json_decref(root);
    ds4_file_close(file);
    return st;
}
