/* The json writer and its reader: what is read back gives the bytes of the original in every
 * format, every member of a result has a row in the tables, and a damaged file is refused by
 * name: each value of a good file is replaced by each of a list of bad ones. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "reports/json_field.h"
#include "tests/report_sample.h"

static char path[64];

static void put_file(const char *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static int make_dir(void **state) {
    static char dir[] = P_tmpdir "/test_report_read.XXXXXX";
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/result.json", dir);
    *state = dir;
    return 0;
}

static int drop_dir(void **state) {
    unlink(path);
    return rmdir(*state);
}

/* ---- round trips ---- */

static drift_result *reread(const drift_result *r) {
    drift_result *again = NULL;
    ds4_err err = {0};
    bytes b = render(r, "json");
    put_file(b.p, b.n);
    free(b.p);
    if (report_read_json(&again, path, &err)) fail_msg("%s", err.message);
    return again;
}

/* JSON is UTF-8: the byte 0xff of the samples comes back as U+FFFD. */
static void replace_bad_utf8(bytes *b) {
    bytes out = {.p = malloc(3 * b->n + 1)};
    assert_non_null(out.p);
    for (size_t i = 0; i < b->n; i++) {
        bool bad = (unsigned char)b->p[i] == 0xff;
        memcpy(out.p + out.n, bad ? "\xef\xbf\xbd" : b->p + i, bad ? 3 : 1);
        out.n += bad ? 3 : 1;
    }
    free(b->p);
    *b = out;
}

static void check_same_reports(const drift_result *r) {
    drift_result *again = reread(r);
    for (size_t i = 0; i < report_n_writer(); i++) {
        const char *name = report_writer_at(i)->name;
        bytes a = render(r, name), b = render(again, name);
        replace_bad_utf8(&a);
        if (a.n != b.n || memcmp(a.p, b.p, a.n)) fail_msg("%s: other bytes", name);
        free(a.p), free(b.p);
    }
    drift_result_free(again);
}

static void test_read_gives_the_reports_of_the_original(void **state) {
    (void)state;
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        check_same_reports(r);
        drift_result_free(r);
    }
}

static void test_read_keeps_extreme_numbers(void **state) {
    (void)state;
    static const double value[] = {
        -0.0,      0x1p-1074, -0x1.fffffffffffffp-1023, 0x1.fffffffffffffp+1023, 0.1,
        1.0 / 3.0, 1e22,      9007199254740993.0,       -(double)INFINITY,       (double)NAN};
    enum { N = sizeof value / sizeof *value };
    drift_result *r = sample_compare();
    drift_tensor *t = &r->tensor[1];
    t->n_row = N, t->row_rms = drift_result_alloc(r, N, sizeof *t->row_rms);
    t->row_max = drift_result_alloc(r, N, sizeof *t->row_max);
    for (int i = 0; i < N; i++) t->row_rms[i] = value[i], t->row_max[i] = value[N - 1 - i];
    t->n_elem = UINT64_MAX, t->n_diff = (uint64_t)1 << 63, t->max_row = INT64_MAX;
    t->layer = INT32_MIN, t->first_pos = INT64_MIN, t->ulp[3] = UINT64_MAX - 1;
    t->bad_a.first = UINT64_MAX, t->n_col = UINT32_MAX;
    r->fixture[0].first = -1;
    check_same_reports(r);

    drift_result *again = reread(r);
    const drift_tensor *u = &again->tensor[1];
    for (int i = 0; i < N - 1; i++)
        assert_memory_equal(&u->row_rms[i], &value[i], sizeof *value);
    assert_true(isnan(u->row_rms[N - 1]));
    assert_true(u->n_elem == UINT64_MAX && u->n_diff == (uint64_t)1 << 63);
    assert_true(u->first_pos == INT64_MIN && u->layer == INT32_MIN);
    assert_true(u->bad_a.first == UINT64_MAX && again->fixture[0].first == -1);
    drift_result_free(again);
    drift_result_free(r);
}

/* ---- completeness of the tables ---- */

static void mark(unsigned char *seen, size_t size, size_t at, size_t n) {
    assert_true(at + n <= size);
    for (size_t i = at; i < at + n; i++) seen[i] = 1;
}

/* True when some member of the record has no row: a hole that padding cannot explain. Padding
 * is shorter than the 4 or 8 bytes at a multiple of which it ends. */
static bool has_hole(const report_record *rec, size_t n_field, size_t tail) {
    unsigned char seen[1024] = {0};
    assert_true(rec->size < sizeof seen);
    for (size_t i = 0; i < n_field; i++) {
        const report_field *f = &rec->field[i];
        mark(seen, rec->size, f->at, f->size), mark(seen, rec->size, f->n_at, f->n_size);
    }
    mark(seen, rec->size, rec->size - tail, tail);
    for (size_t i = 0, n; i < rec->size; i += n) {
        for (n = 0; i + n < rec->size && !seen[i + n];) n++;
        if (n && !(n < 4 && (i + n) % 4 == 0) && !(n < 8 && (i + n) % 8 == 0)) return true;
        n += !n;
    }
    return false;
}

static void check_records(const report_record *rec, size_t tail) {
    for (size_t i = 0; i < rec->n_field; i++) {
        const report_field *f = &rec->field[i];
        if (f->record) check_records(f->record, 0);
        if (f->kind == REPORT_WORD) assert_int_equal(f->size, sizeof(int));
        if (f->kind == REPORT_INDEX) assert_int_equal(f->size, 8);
    }
    if (has_hole(rec, rec->n_field, tail))
        fail_msg("the record of %s misses a row", rec->field[0].name);
}

static void test_every_member_of_a_result_has_a_row(void **state) {
    (void)state;
    /* the arena is the reader's own */
    check_records(&report_result_record, sizeof(struct drift_arena *));
    assert_true(has_hole(&report_result_record, report_result_record.n_field, 0));
    assert_true(has_hole(&report_result_record, report_result_record.n_field - 1, 8));
}

/* ---- damage ---- */

static size_t n_read, n_refused;

static bool drop(void *user, const char *p, size_t n) {
    (void)user, (void)p, (void)n;
    return true;
}

/* Either refused in one line that names the file, or a result that every writer can print. */
static void check_text(const char *p, size_t n, const char *name) {
    drift_result *r = NULL;
    ds4_err err = {0};
    put_file(p, n);
    ds4_status st = report_read_json(&r, path, &err);
    if (st != DS4_OK) {
        n_refused++;
        assert_null(r);
        assert_int_equal(st, DS4_ERR_FORMAT);
        if (strncmp(err.message, path, strlen(path)) || !strstr(err.message, "found ") ||
            !strstr(err.message, "wanted ") || strchr(err.message, '\n') ||
            (name && !strstr(err.message, name)))
            fail_msg("%s: message: %s", name ? name : "-", err.message);
        return;
    }
    n_read++;
    for (size_t i = 0; i < report_n_writer(); i++)
        if (report_writer_at(i)->write(r, drop, NULL, &err)) fail_msg("%s", err.message);
    drift_result_free(r);
}

static void check_doc(const json_t *root, const char *name) {
    char *s = json_dumps(root, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(17));
    assert_non_null(s);
    check_text(s, strlen(s), name);
    free(s);
}

static const char *const bad_value[] = {"null",
                                        "true",
                                        "-1",
                                        "0",
                                        "1",
                                        "4294967295",
                                        "4294967296",
                                        "9223372036854775807",
                                        "1.5",
                                        "-1e308",
                                        "\"\"",
                                        "\"inf\"",
                                        "\"drift\"",
                                        "\"a\\u0000b\"",
                                        "\"99999999999999999999\"",
                                        "[]",
                                        "[[]]",
                                        "{}"};
enum { N_BAD = sizeof bad_value / sizeof *bad_value };

/* Replaces the child by each bad value; the parent keeps its other children. */
static void damage(json_t *root, json_t *parent, const char *key, size_t i, json_t *child) {
    json_incref(child);
    for (size_t k = 0; k < N_BAD; k++) {
        json_t *bad = json_loads(bad_value[k], JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
        assert_non_null(bad);
        assert_int_equal(key ? json_object_set_new(parent, key, bad)
                             : json_array_set_new(parent, i, bad),
                         0);
        check_doc(root, NULL);
    }
    if (key) {
        json_object_del(parent, key);
        check_doc(root, key); /* a missing field is named */
        json_object_set(parent, key, child);
    } else {
        json_array_set(parent, i, child);
    }
    json_decref(child);
}

static void damage_below(json_t *root, json_t *j) {
    if (json_is_object(j)) {
        const char *key[64];
        size_t n = 0;
        for (void *it = json_object_iter(j); it; it = json_object_iter_next(j, it)) {
            assert_true(n < 64);
            key[n++] = json_object_iter_key(it);
        }
        for (size_t i = 0; i < n; i++) {
            char name[32];
            snprintf(name, sizeof name, "%s", key[i]); /* the key dies with its member */
            damage_below(root, json_object_get(j, name));
            damage(root, j, name, 0, json_object_get(j, name));
        }
        json_object_set_new(j, "unheard_of", json_true());
        check_doc(root, "unheard_of");
        json_object_del(j, "unheard_of");
    }
    /* Elements are alike; of tensors the second is the one with values. */
    for (size_t i = 0; i < json_array_size(j) && i < 2; i++) {
        json_t *child = json_array_get(j, i);
        bool is_last = i == 1 || json_array_size(j) == 1;
        if (is_last) damage_below(root, child), damage(root, j, NULL, i, child);
    }
}

static void test_read_any_damaged_value_is_refused_or_harmless(void **state) {
    (void)state;
    n_read = n_refused = 0;
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        if (r->n_logits) r->logits->n = 2;
        bytes b = render(r, "json");
        json_t *root = json_loadb(b.p, b.n, 0, NULL);
        assert_non_null(root);
        damage_below(root, root);
        size_t before = n_read; /* all of the damage is undone: the file is good again */
        check_doc(root, NULL);
        assert_int_equal(n_read, before + 1);
        json_decref(root);
        free(b.p);
        drift_result_free(r);
    }
    assert_true(n_read > 100 && n_refused > 1000);
}

static void test_read_truncated_file_is_refused(void **state) {
    (void)state;
    drift_result *r = sample_bisect();
    bytes b = render(r, "json");
    for (size_t n = 1; n + 2 < b.n; n++) { /* the last two bytes are } and a line's end */
        n_refused = 0;
        check_text(b.p, n, NULL);
        assert_int_equal(n_refused, 1);
    }
    free(b.p);
    drift_result_free(r);
}

static void check_refused(const char *text, const char *message) {
    n_refused = 0;
    check_text(text, strlen(text), message);
    assert_int_equal(n_refused, 1);
}

static void test_read_foreign_files_are_refused(void **state) {
    (void)state;
    check_refused("[]", "the whole: found an array of 0, wanted an object");
    check_refused("{}", "schema: found nothing, wanted \"ds4-drift/result\"");
    check_refused("{\"schema\":\"other\"}", "schema: found \"other\", wanted");
    check_refused("{\"schema\":\"ds4-drift/result\\u0000\"}", "found a string with a NUL");
    check_refused("{\"schema\":\"ds4-drift/result\"}", "version: found nothing, wanted 1");
    check_refused("{\"schema\":\"ds4-drift/result\",\"version\":2}", "found 2, wanted 1");
    check_refused("{\"schema\":\"ds4-drift/result\",\"version\":1}", "title: found nothing");
    check_refused("{\"version\":1,\"version\":1}", "duplicate");
    check_refused("{\"a\\u0000b\":1}", "found no JSON");
    check_refused("{\"a\":\"\xff\"}", "found no JSON");
    check_refused("{\"a\":1e999}", "found no JSON");
    check_refused("{\"a\":99999999999999999999}", "found no JSON");
    check_refused("\x89HDF\r\n\x1a\n", "found no JSON");
    check_refused("{} {}", "found no JSON");
}

static void test_read_names_the_place_of_a_fault(void **state) {
    (void)state;
    drift_result *r = sample_compare();
    bytes b = render(r, "json");
    json_t *root = json_loadb(b.p, b.n, 0, NULL);
    json_t *t = json_array_get(json_object_get(root, "tensor"), 1);
    json_array_set_new(json_object_get(t, "row_rms"), 2, json_string("nan"));
    check_doc(root, "tensor[1].row_rms[2]: found \"nan\", wanted a number, null");
    json_array_set_new(json_object_get(t, "row_rms"), 2, json_null());
    json_object_set_new(t, "n_row", json_integer(4000000000));
    check_doc(root, "tensor[1].row_rms: found an array of 3, wanted an array of n_row");
    json_object_set_new(t, "row_rms", json_null());
    check_doc(root, "tensor[1]: found an object, wanted row_rms or row_max where");
    json_decref(root);
    free(b.p);
    drift_result_free(r);
}

static void test_read_deep_or_huge_file_is_refused(void **state) {
    (void)state;
    enum { DEEP = 1 << 20 };
    char *deep = malloc(DEEP);
    assert_non_null(deep);
    memset(deep, '[', DEEP);
    n_refused = 0;
    check_text(deep, DEEP, "depth");
    free(deep);
    put_file("{}", 2);
    assert_int_equal(truncate(path, ((off_t)1 << 30) + 1), 0); /* sparse */
    drift_result *r = NULL;
    ds4_err err = {0};
    assert_int_equal(report_read_json(&r, path, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "found 1073741825 bytes, wanted at most 1073741824"));
    assert_int_equal(report_read_json(&r, "no-such-dir/x.json", &err), DS4_ERR_IO);
    assert_non_null(strstr(err.message, "no-such-dir/x.json"));
    assert_null(r);
}

static void test_read_survives_every_failed_allocation(void **state) {
    (void)state;
    drift_result *r = sample_compare(), *again = NULL;
    bytes b = render(r, "json");
    ds4_status st = DS4_ERR_MEMORY;
    put_file(b.p, b.n);
    long k = 0;
    for (; st != DS4_OK; k++) {
        ds4_err err = {0};
        ds4_mem_fail_after(k + 1);
        st = report_read_json(&again, path, &err);
        ds4_mem_fail_after(0);
        if (st != DS4_OK) assert_int_equal(st, DS4_ERR_MEMORY);
        assert_true(k < 10000);
    }
    assert_true(k > 3);
    drift_result_free(again);
    free(b.p);
    drift_result_free(r);
}

int main(void) {
    const struct CMUnitTest test[] = {
        cmocka_unit_test(test_read_gives_the_reports_of_the_original),
        cmocka_unit_test(test_read_keeps_extreme_numbers),
        cmocka_unit_test(test_every_member_of_a_result_has_a_row),
        cmocka_unit_test(test_read_any_damaged_value_is_refused_or_harmless),
        cmocka_unit_test(test_read_truncated_file_is_refused),
        cmocka_unit_test(test_read_foreign_files_are_refused),
        cmocka_unit_test(test_read_names_the_place_of_a_fault),
        cmocka_unit_test(test_read_deep_or_huge_file_is_refused),
        cmocka_unit_test(test_read_survives_every_failed_allocation),
    };
    return cmocka_run_group_tests(test, make_dir, drop_dir);
}
