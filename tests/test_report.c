/* Writers on hand-made results with hostile strings, NaN, infinities and empty arrays: what is
 * written parses back, nothing foreign gets through unescaped, and a file is complete or not
 * there. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <dirent.h>
#include <unistd.h>

#include "tests/report_sample.h"

static bool refuse(void *user, const char *p, size_t n) {
    (void)user, (void)p, (void)n;
    return false;
}

/* ---- CSV ---- */

/* Parses one RFC 4180 record in place; returns the number of fields, 0 at the end, -1 if
 * broken. */
static int csv_record(char **p, char *field[], int max) {
    int n = 0;
    char *s = *p;
    if (!*s) return 0;
    for (;;) {
        char *w = s;
        if (n == max) return -1;
        field[n++] = w;
        if (*s == '"') {
            for (s++; *s != '"' || s[1] == '"'; s++) {
                if (!*s) return -1;
                s += *s == '"';
                *w++ = *s;
            }
            s++;
        } else {
            while (*s && *s != ',' && *s != '\r') {
                if (*s == '"' || *s == '\n') return -1;
                *w++ = *s++;
            }
        }
        char end = *s;
        if (end == ',') {
            *w = 0, s++;
        } else if (end == '\r' && s[1] == '\n') {
            *w = 0, *p = s + 2;
            return n;
        } else {
            return -1;
        }
    }
}

static void test_csv_hostile_parses_back(void **state) {
    (void)state;
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        bytes b = render(r, "csv");
        char *p = b.p, *f[16];
        int n, n_hit = 0;
        assert_int_equal(csv_record(&p, f, 16), 10);
        assert_string_equal(f[9], "value");
        while ((n = csv_record(&p, f, 16)) > 0) {
            assert_int_equal(n, 10);
            if (strcmp(f[0], "tensor") || strcmp(f[4], "0")) continue;
            assert_string_equal(f[1], HOSTILE_UTF8);
            assert_string_equal(f[7], HOSTILE_UTF8);
            if (!strcmp(f[8], "rms")) assert_true(strtod(f[9], NULL) == 0.1), n_hit++;
            if (!strcmp(f[8], "max_abs")) assert_string_equal(f[9], "inf"), n_hit++;
            if (!strcmp(f[8], "cosine")) assert_string_equal(f[9], ""), n_hit++;
            if (!strcmp(f[8], "row_rms") && !strcmp(f[5], "12"))
                assert_true(strtod(f[9], NULL) == 0.1), n_hit++;
        }
        assert_int_equal(n, 0);
        assert_int_equal(n_hit, i ? 0 : 4);
        free(b.p);
        drift_result_free(r);
    }
}

static void test_csv_reader_of_this_test_rejects_broken(void **state) {
    (void)state;
    char open[] = "a,\"b\r\n", bare[] = "a,b\"c\r\n", *f[4], *p = open;
    assert_int_equal(csv_record(&p, f, 4), -1);
    p = bare;
    assert_int_equal(csv_record(&p, f, 4), -1);
}

/* ---- JSON ---- */

static void test_json_hostile_parses_back(void **state) {
    (void)state;
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        bytes b = render(r, "json");
        json_error_t e;
        json_t *j = json_loadb(b.p, b.n, 0, &e);
        if (!j) fail_msg("line %d: %s", e.line, e.text);
        assert_string_equal(json_string_value(json_object_get(j, "schema")),
                            "ds4-drift/result");
        json_t *tensors = json_object_get(j, "tensor");
        assert_int_equal(json_array_size(tensors), r->n_tensor);
        if (r->n_tensor) {
            json_t *t = json_array_get(tensors, 1);
            assert_true(json_real_value(json_object_get(t, "rms")) == 0.1);
            assert_string_equal(json_string_value(json_object_get(t, "max_abs")), "inf");
            assert_true(json_is_null(json_object_get(t, "cosine")));
            assert_int_equal(json_integer_value(json_object_get(t, "max_ulp")), UINT32_MAX);
            assert_non_null(strstr(json_string_value(json_object_get(t, "op")), "</script>"));
        }
        if (r->bisect) {
            json_t *s = json_object_get(j, "bisect");
            assert_int_equal(json_array_size(json_object_get(s, "toggle")), 4);
            assert_int_equal(json_array_size(json_object_get(s, "trial")), 2);
        }
        json_decref(j);
        free(b.p);
        drift_result_free(r);
    }
}

/* ---- XML: tags nest, attributes are quoted, no bare < or &, no forbidden control ---- */

static const char *xml_entity(const char *p) {
    static const char *const name[] = {"&amp;", "&lt;", "&gt;", "&quot;", "&#39;"};
    for (size_t i = 0; i < 5; i++)
        if (!strncmp(p, name[i], strlen(name[i]))) return p + strlen(name[i]);
    return NULL;
}

static bool xml_is_well_formed(const char *p) {
    char stack[16][32];
    int depth = 0;
    while (*p) {
        if ((unsigned char)*p < 0x20 && *p != '\n') return false;
        if (*p == '&') {
            if (!(p = xml_entity(p))) return false;
            continue;
        }
        if (*p++ != '<') continue;
        bool decl = *p == '?', end = *p == '/';
        p += decl || end;
        size_t n = strspn(p, "abcdefghijklmnopqrstuvwxyz");
        if (!n || n > 31) return false;
        if (end) {
            if (!depth-- || strncmp(stack[depth], p, n) || stack[depth][n]) return false;
        } else if (!decl) {
            if (depth == 16) return false;
            memcpy(stack[depth], p, n), stack[depth++][n] = 0;
        }
        for (p += n; *p && *p != '>'; p++) {
            if (*p == '<') return false;
            if (*p == '/' && p[1] == '>' && !depth--) return false;
            if (*p != '"') continue;
            for (p++; *p != '"';) {
                if (!*p || *p == '<' || ((unsigned char)*p < 0x20 && *p != '\n')) return false;
                if (*p != '&') p++;
                else if (!(p = xml_entity(p))) return false;
            }
        }
        if (!*p) return false;
        p++;
    }
    return depth == 0;
}

static void test_junit_hostile_is_well_formed(void **state) {
    (void)state;
    assert_false(xml_is_well_formed("<a b=\"<\"/>"));
    assert_false(xml_is_well_formed("<a><b></a></b>"));
    assert_false(xml_is_well_formed("<a>&</a>"));
    assert_false(xml_is_well_formed("<a>"));
    assert_true(xml_is_well_formed("<?xml v=\"1\"?><a b=\"&lt;\"><c/>x&amp;</a>\n"));
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        bytes b = render(r, "junit");
        if (!xml_is_well_formed(b.p)) fail_msg("sample %d: %s", i, b.p);
        free(b.p);
        drift_result_free(r);
    }
}

static void test_junit_counts_failures_and_skips(void **state) {
    (void)state;
    drift_result *r = sample_bisect();
    bytes b = render(r, "junit");
    assert_non_null(strstr(b.p, "tests=\"4\" failures=\"1\" skipped=\"2\""));
    free(b.p);
    drift_result_free(r);
    r = sample_empty();
    b = render(r, "junit"); /* a refusal without fixtures is still a case */
    assert_non_null(strstr(b.p, "tests=\"1\" failures=\"0\" skipped=\"1\""));
    free(b.p);
    drift_result_free(r);
}

/* ---- HTML ---- */

static size_t count(const char *s, const char *what) {
    size_t n = 0;
    for (; (s = strstr(s, what)) != NULL; s++) n++;
    return n;
}

static void test_html_hostile_is_escaped(void **state) {
    (void)state;
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        bytes b = render(r, "html");
        assert_int_equal(strlen(b.p), b.n);
        assert_null(strstr(b.p, "<script>alert"));
        assert_null(strstr(b.p, "alert(\"x\")"));
        assert_null(strchr(b.p, 1));
        assert_null(strchr(b.p, 0xff));
        /* class switch, data, library, page script: a hostile name adds none */
        assert_int_equal(count(b.p, "<script"), 4);
        assert_int_equal(count(b.p, "</script"), 4);
        assert_int_equal(count(b.p, "<table"), count(b.p, "</table"));
        assert_int_equal(count(b.p, "<details"), count(b.p, "</details"));
        assert_int_equal(count(b.p, "<section"), count(b.p, "</section"));
        free(b.p);
        drift_result_free(r);
    }
}

/* The library names its home in its licence comments; nothing else may name a host. */
static void test_html_refers_to_nothing_outside(void **state) {
    (void)state;
    drift_result *r = sample_compare();
    bytes b = render(r, "html");
    for (char *p = b.p; (p = strstr(p, "://")) != NULL; p++) {
        char before[8] = {0};
        memcpy(before, p - 5, 5);
        if (!strstr(before, "http")) continue;
        char *open = NULL, *q = b.p;
        while ((q = strstr(q, "/*!")) != NULL && q < p) open = q++;
        assert_non_null(open);
        assert_true(strstr(open, "*/") > p);
    }
    assert_null(strstr(b.p, " src="));
    assert_null(strstr(b.p, "<link"));
    assert_null(strstr(b.p, "@import"));
    free(b.p);
    drift_result_free(r);
}

static void test_html_data_block_parses(void **state) {
    (void)state;
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        bytes b = render(r, "html");
        char *p = strstr(b.p, "id=data>");
        assert_non_null(p);
        p += strlen("id=data>");
        json_error_t e;
        json_t *j = json_loadb(p, (size_t)(strstr(p, "</script>") - p), 0, &e);
        if (!j) fail_msg("line %d: %s", e.line, e.text);
        json_decref(j);
        free(b.p);
        drift_result_free(r);
    }
}

/* ---- text and Markdown ---- */

static void test_text_is_short_ascii_and_starts_with_the_verdict(void **state) {
    (void)state;
    static const char *const first[] = {"drift: ", "drift: ", "not comparable: "};
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        bytes b = render(r, "text");
        assert_int_equal(strncmp(b.p, first[i], strlen(first[i])), 0);
        assert_true(count(b.p, "\n") <= 25);
        for (char *p = b.p; *p; p++) assert_true(*p == '\n' || (*p >= 0x20 && *p < 0x7f));
        free(b.p);
        drift_result_free(r);
    }
}

static void test_markdown_hostile_is_escaped(void **state) {
    (void)state;
    for (int i = 0; i < N_SAMPLE; i++) {
        drift_result *r = sample[i]();
        bytes b = render(r, "markdown");
        assert_null(strstr(b.p, "<script"));
        free(b.p);
        drift_result_free(r);
    }
}

/* ---- files ---- */

static int n_entry(const char *dir) {
    int n = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    while (readdir(d)) n++;
    closedir(d);
    return n - 2;
}

static ds4_status fail_midway(const drift_result *r,
                              bool (*emit)(void *user, const char *p, size_t n), void *user,
                              ds4_err *err) {
    (void)r;
    emit(user, "half", 4);
    return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE, "planted");
}

static void test_file_is_complete_or_untouched(void **state) {
    (void)state;
    char dir[] = "test_report.XXXXXX", path[64], text[64] = "";
    const report_writer bad = {"bad", "bad", "fails midway", fail_midway};
    drift_result *r = sample_compare();
    ds4_err err = {0};
    assert_non_null(mkdtemp(dir));
    snprintf(path, sizeof path, "%s/out", dir);

    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs("old", f), fclose(f);
    assert_int_equal(report_write_file(r, &bad, path, &err), DS4_ERR_MEMORY);
    assert_int_equal(n_entry(dir), 1);
    f = fopen(path, "r");
    assert_non_null(fgets(text, sizeof text, f));
    fclose(f);
    assert_string_equal(text, "old");

    for (size_t i = 0; i < report_n_writer(); i++) {
        const report_writer *w = report_writer_at(i);
        bytes b = render(r, w->name);
        struct stat s;
        if (report_write_file(r, w, path, &err)) fail_msg("%s", err.message);
        assert_int_equal(stat(path, &s), 0);
        assert_int_equal(s.st_size, b.n);
        assert_int_equal(n_entry(dir), 1);
        free(b.p);
    }
    unlink(path), rmdir(dir);
    drift_result_free(r);
}

static void test_file_failure_names_path_and_reason(void **state) {
    (void)state;
    drift_result *r = sample_empty();
    ds4_err err = {0};
    const report_writer *w = report_writer_find("csv");
    assert_int_equal(report_write_file(r, w, "no-such-dir/x.csv", &err), DS4_ERR_IO);
    assert_non_null(strstr(err.message, "no-such-dir/x.csv"));
    assert_non_null(strstr(err.message, "No such file"));
    if (access("/dev/full", W_OK) == 0) {
        assert_int_equal(report_write_file(r, w, "/dev/full", &err), DS4_ERR_IO);
        assert_non_null(strstr(err.message, "/dev/full"));
        assert_non_null(strstr(err.message, "No space"));
    }
    drift_result_free(r);
}

static void test_every_writer_reports_a_refused_write(void **state) {
    (void)state;
    assert_null(report_writer_find("nothing"));
    assert_null(report_writer_at(report_n_writer()));
    for (int k = 0; k < N_SAMPLE; k++) {
        drift_result *r = sample[k]();
        for (size_t i = 0; i < report_n_writer(); i++) {
            ds4_err err = {0};
            assert_int_equal(report_writer_at(i)->write(r, refuse, NULL, &err), DS4_ERR_IO);
        }
        drift_result_free(r);
    }
}

/* tests/report_browser.sh wants a page to look at: test_report DIR writes one per sample. */
static int write_samples(const char *dir) {
    for (int i = 0; i < N_SAMPLE; i++) {
        char path[4096];
        ds4_err err = {0};
        drift_result *r = sample[i]();
        snprintf(path, sizeof path, "%s/sample%d.html", dir, i);
        ds4_status st = report_write_file(r, report_writer_find("html"), path, &err);
        drift_result_free(r);
        if (st) return fprintf(stderr, "%s\n", err.message), ds4_err_exit_code(st);
    }
    return 0;
}

int main(int argc, char **argv) {
    const struct CMUnitTest test[] = {
        cmocka_unit_test(test_csv_reader_of_this_test_rejects_broken),
        cmocka_unit_test(test_csv_hostile_parses_back),
        cmocka_unit_test(test_json_hostile_parses_back),
        cmocka_unit_test(test_junit_hostile_is_well_formed),
        cmocka_unit_test(test_junit_counts_failures_and_skips),
        cmocka_unit_test(test_html_hostile_is_escaped),
        cmocka_unit_test(test_html_refers_to_nothing_outside),
        cmocka_unit_test(test_html_data_block_parses),
        cmocka_unit_test(test_text_is_short_ascii_and_starts_with_the_verdict),
        cmocka_unit_test(test_markdown_hostile_is_escaped),
        cmocka_unit_test(test_file_is_complete_or_untouched),
        cmocka_unit_test(test_file_failure_names_path_and_reason),
        cmocka_unit_test(test_every_writer_reports_a_refused_write),
    };
    if (argc == 2) return write_samples(argv[1]);
    return cmocka_run_group_tests(test, NULL, NULL);
}
