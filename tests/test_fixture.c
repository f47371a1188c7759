/* drift/fixture.h: the list of fixtures, prompts and files of ids; every malformed form is
 * refused with its status and a message that names the file or the fixture. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drift/fixture.h"
#include "tests/support.h"

static ds4_engine *engine;
static char dir[256];

/* Writes n bytes (0: as text) to a file of the scratch directory; the path is static. */
static const char *file(const char *name, const char *bytes, size_t n) {
    static char path[4][512];
    static int at;
    char *p = path[at = (at + 1) % 4];
    snprintf(p, sizeof path[0], "%s/%s", dir, name);
    FILE *f = fopen(p, "wb");
    assert_non_null(f);
    if (!n) n = strlen(bytes);
    assert_int_equal(fwrite(bytes, 1, n, f), n);
    fclose(f);
    return p;
}

static int setup(void **state) {
    (void)state;
    const char *tmp = getenv("TMPDIR");
    ds4_err err;
    snprintf(dir, sizeof dir, "%s/test_fixture.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    if (!mkdtemp(dir)) return -1;
    engine = test_engine("ref", "fixtures/tiny/ds4-tiny-q4k.gguf");
    test_ok(ds4_engine_load_tokenizer(engine, &err), &err);
    return 0;
}

static int teardown(void **state) {
    (void)state;
    static const char *const names[] = {"list.json", "text.txt", "ids.tokens", "nul.txt"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char path[512];
        snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        unlink(path);
    }
    ds4_engine_close(engine);
    return rmdir(dir);
}

/* ---- the list that is shipped ---- */

static void test_fixture_list_loads_all(void **state) {
    (void)state;
    /* Lengths as fixtures.json states them. */
    static const struct {
        const char *id;
        uint32_t n_tok, n_decode;
    } want[] = {{"short_italian_fact", 21, 4},
                {"short_code_completion", 27, 4},
                {"short_reasoning_plain", 18, 4},
                {"long_memory_archive", 301, 6},
                {"long_code_audit", 259, 6}};
    const char *all[] = {NULL, "all"};
    for (int k = 0; k < 2; k++) {
        drift_fixture_set s = {0};
        ds4_err err;
        test_ok(drift_fixtures_load(&s, "fixtures/fixtures.json", all[k], engine, &err), &err);
        assert_int_equal(s.n, 5);
        for (size_t i = 0; i < s.n; i++) {
            assert_string_equal(s.at[i].id, want[i].id);
            assert_int_equal(s.at[i].n_tok, want[i].n_tok);
            assert_int_equal(s.at[i].n_decode, want[i].n_decode);
            assert_int_equal(
                s.at[i].token[0],
                ds4_tokenizer_special(ds4_engine_tokenizer(engine), DS4_SPECIAL_BOS));
        }
        drift_fixture_set_free(&s);
        assert_int_equal(s.n, 0);
        assert_null(s.at);
    }
}

static void test_fixture_ids_choose_in_list_order(void **state) {
    (void)state;
    drift_fixture_set s = {0};
    ds4_err err;
    test_ok(drift_fixtures_load(&s, "fixtures/fixtures.json",
                                "long_code_audit,short_italian_fact", engine, &err),
            &err);
    assert_int_equal(s.n, 2);
    assert_string_equal(s.at[0].id, "short_italian_fact");
    assert_string_equal(s.at[1].id, "long_code_audit");
    drift_fixture_set_free(&s);
}

/* ---- refusals ---- */

/* Loading the list must fail with this status and these words. */
static void refuse_list(const char *json, size_t n, const char *ids, ds4_status want,
                        const char *words) {
    drift_fixture_set s = {0};
    ds4_err err = {0};
    const char *path = file("list.json", json, n);
    ds4_status st = drift_fixtures_load(&s, path, ids, engine, &err);
    if (st != want || !strstr(err.message, words))
        fail_msg("%s\ngave %d \"%s\", wanted %d with \"%s\"", json, (int)st, err.message,
                 (int)want, words);
    drift_fixture_set_free(&s);
}

#define HEAD "{\"schema\": \"ds4-drift/fixtures\", \"fixtures\": ["

static void test_fixture_malformed_list_is_refused(void **state) {
    (void)state;
    file("text.txt", "abc", 0);
    file("nul.txt", "ab\0cd", 5);
    const ds4_status F = DS4_ERR_FORMAT, U = DS4_ERR_USAGE;
    refuse_list(" ", 0, NULL, F, "line 1");
    refuse_list("{\n\"schema\": }", 0, NULL, F, "line 2");
    refuse_list("{} trailing", 0, NULL, F, "line 1");
    refuse_list("{\"schema\": \"ds4-drift/fixtures\"\0}", 34, NULL, F, "line 1");
    refuse_list("[]", 0, NULL, F, "wanted \"ds4-drift/fixtures\"");
    refuse_list("{\"schema\": 1}", 0, NULL, F, "schema \"\"");
    refuse_list("{\"schema\": \"ds4-drift/run\"}", 0, NULL, F, "schema \"ds4-drift/run\"");
    refuse_list("{\"schema\": \"ds4-drift/fixtures\"}", 0, NULL, F, "no array");
    refuse_list("{\"schema\": \"ds4-drift/fixtures\", \"fixtures\": {}}", 0, NULL, F,
                "no array");
    refuse_list(HEAD "1]}", 0, NULL, F, "usable \"id\"");
    refuse_list(HEAD "{\"id\": \"\", \"prompt\": \"text.txt\"}]}", 0, NULL, F, "usable \"id\"");
    refuse_list(HEAD "{\"id\": \"a/b\", \"prompt\": \"text.txt\"}]}", 0, NULL, F,
                "usable \"id\"");
    refuse_list(HEAD "{\"id\": \"a\"}]}", 0, NULL, F, "fixture a has no \"prompt\"");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": 3}]}", 0, NULL, F, "no \"prompt\"");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"absent.txt\"}]}", 0, NULL, DS4_ERR_IO,
                "absent.txt");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \".\"}]}", 0, NULL, DS4_ERR_IO, "not a file");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"nul.txt\"}]}", 0, NULL, F,
                "fixture a: a NUL byte");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"text.txt\", \"decode\": -1}]}", 0, NULL, F,
                "\"decode\"");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"text.txt\", \"decode\": \"2\"}]}", 0, NULL,
                F, "\"decode\"");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"text.txt\", \"decode\": 1048577}]}", 0,
                NULL, F, "\"decode\"");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"text.txt\"},"
                     "{\"id\": \"a\", \"prompt\": \"text.txt\"}]}",
                0, NULL, U, "fixture a is named twice");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"text.txt\"}]}", 0, "a,b", U,
                "no fixture \"b\"");
    refuse_list(HEAD "{\"id\": \"ab\", \"prompt\": \"text.txt\"}]}", 0, "a", U,
                "no fixture \"a\"");
    refuse_list(HEAD "{\"id\": \"a\", \"prompt\": \"text.txt\"}]}", 0, "ab", U,
                "no fixture \"ab\"");
    refuse_list(HEAD "]}", 0, "", U, "no fixture \"\"");
}

/* The refusals above are of what is wrong: the same list without it loads. */
static void test_fixture_wellformed_list_loads(void **state) {
    (void)state;
    drift_fixture_set s = {0};
    ds4_err err;
    file("text.txt", "abc", 0);
    const char *path = file("list.json",
                            HEAD "{\"id\": \"a\", \"prompt\": \"text.txt\", \"decode\": 99},"
                                 "{\"id\": \"b\", \"prompt\": 3}]}",
                            0);
    test_ok(drift_fixtures_load(&s, path, "a", engine, &err), &err); /* b is not asked for */
    assert_int_equal(s.n, 1);
    assert_true(s.at[0].n_tok >= 2);
    assert_int_equal(s.at[0].n_decode, s.at[0].n_tok); /* no more than there are */
    drift_fixture_set_free(&s);
}

static void test_fixture_missing_list_is_refused(void **state) {
    (void)state;
    drift_fixture_set s = {0};
    ds4_err err;
    assert_int_equal(drift_fixtures_load(&s, "fixtures/absent.json", NULL, engine, &err),
                     DS4_ERR_IO);
    assert_non_null(strstr(err.message, "fixtures/absent.json"));
    assert_int_equal(drift_fixtures_load(&s, "fixtures", NULL, engine, &err), DS4_ERR_IO);
    assert_non_null(strstr(err.message, "not a file"));
}

/* ---- files of ids ---- */

static void test_fixture_ids_are_read_with_any_space(void **state) {
    (void)state;
    drift_fixture_set s = {0};
    ds4_err err;
    const char *path = file("ids.tokens", "\n 0\t7 \r\n2147483647\v12", 0);
    test_ok(drift_fixtures_add_ids(&s, "x", path, 2, &err), &err);
    const int32_t want[] = {0, 7, 2147483647, 12};
    assert_int_equal(s.n, 1);
    assert_int_equal(s.at[0].n_tok, 4);
    assert_int_equal(s.at[0].n_decode, 2);
    assert_memory_equal(s.at[0].token, want, sizeof want);
    assert_int_equal(drift_fixtures_add_ids(&s, "x", path, 2, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "fixture x is named twice"));
    assert_int_equal(s.n, 1);
    drift_fixture_set_free(&s);
}

static void refuse_ids(const char *bytes, size_t n, const char *words) {
    drift_fixture_set s = {0};
    ds4_err err = {0};
    const char *path = file("ids.tokens", bytes, n);
    ds4_status st = drift_fixtures_add_ids(&s, "x", path, 0, &err);
    if (st != DS4_ERR_FORMAT || !strstr(err.message, words))
        fail_msg("\"%s\" (%zu bytes) gave %d \"%s\", wanted \"%s\"", bytes, n, (int)st,
                 st == DS4_OK ? "" : err.message, words);
    drift_fixture_set_free(&s);
}

static void test_fixture_garbage_ids_are_refused(void **state) {
    (void)state;
    refuse_ids("12 x", 0, "byte 3: \"x\"");
    refuse_ids("12x", 0, "byte 0: \"12x\"");
    refuse_ids("1,2", 0, "byte 0");
    refuse_ids("1.5", 0, "byte 0");
    refuse_ids("3 -1", 0, "byte 2: \"-1\"");
    refuse_ids("2147483648", 0, "wanted a token id");
    refuse_ids("99999999999999999999", 0, "wanted a token id");
    refuse_ids("0x10", 0, "byte 0");
    refuse_ids("\xff\xfe", 0, "byte 0");
    refuse_ids("5\n\x1b[2J", 0, "byte 2: \"?[2J\""); /* no control byte in a message */
    refuse_ids(" \n", 0, "fixture x: no tokens");
    refuse_ids("", 0, "fixture x: no tokens");
}

/* A NUL byte does not end the list silently. */
static void test_fixture_nul_in_ids_is_refused(void **state) {
    (void)state;
    refuse_ids("1 2\0 garbage", 12, "ids.tokens");
    refuse_ids("1 2 \0", 5, "ids.tokens");
    refuse_ids("\0", 1, "ids.tokens");
}

/* ---- text and files ---- */

static void test_fixture_text_is_framed(void **state) {
    (void)state;
    const ds4_tokenizer *t = ds4_engine_tokenizer(engine);
    drift_fixture_set s = {0};
    ds4_err err;
    test_ok(drift_fixtures_add_text(&s, "plain", "uno due", 7, false, 0, engine, &err), &err);
    test_ok(drift_fixtures_add_text(&s, "chat", "uno due", 7, true, 0, engine, &err), &err);
    test_ok(drift_fixtures_add_text(&s, "empty", "", 0, false, 3, engine, &err), &err);
    assert_int_equal(s.n, 3);
    assert_int_equal(s.at[1].token[1], ds4_tokenizer_special(t, DS4_SPECIAL_USER));
    assert_int_equal(s.at[1].token[s.at[1].n_tok - 1],
                     ds4_tokenizer_special(t, DS4_SPECIAL_THINK_CLOSE));
    assert_true(s.at[1].n_tok > s.at[0].n_tok);
    assert_int_equal(s.at[2].n_tok, 1); /* BOS alone */
    assert_int_equal(s.at[2].n_decode, 1);
    assert_int_equal(drift_fixtures_add_text(&s, "nul", "a\0b", 3, true, 0, engine, &err),
                     DS4_ERR_FORMAT);
    assert_int_equal(drift_fixtures_add_text(&s, "chat", "x", 1, true, 0, engine, &err),
                     DS4_ERR_USAGE);
    assert_int_equal(s.n, 3);
    drift_fixture_set_free(&s);
}

static void test_fixture_read_file_keeps_its_limit(void **state) {
    (void)state;
    char *p = NULL;
    size_t n = 0;
    ds4_err err;
    const char *path = file("text.txt", "12345", 0);
    test_ok(drift_read_file(&p, &n, path, 5, &err), &err);
    assert_int_equal(n, 5);
    assert_string_equal(p, "12345");
    free(p), p = NULL;
    assert_int_equal(drift_read_file(&p, &n, path, 4, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "at most 4"));
    assert_null(p);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fixture_list_loads_all),
        cmocka_unit_test(test_fixture_ids_choose_in_list_order),
        cmocka_unit_test(test_fixture_malformed_list_is_refused),
        cmocka_unit_test(test_fixture_wellformed_list_loads),
        cmocka_unit_test(test_fixture_missing_list_is_refused),
        cmocka_unit_test(test_fixture_ids_are_read_with_any_space),
        cmocka_unit_test(test_fixture_garbage_ids_are_refused),
        cmocka_unit_test(test_fixture_nul_in_ids_is_refused),
        cmocka_unit_test(test_fixture_text_is_framed),
        cmocka_unit_test(test_fixture_read_file_keeps_its_limit),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
