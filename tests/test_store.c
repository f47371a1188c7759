/* Run files: what is written is read back; chunking into events does not matter; a killed or
 * failing writer never leaves a damaged file under the final name; partial files resume. */
#include "tests/make_run.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <math.h>
#include <sys/stat.h>
#include <sys/wait.h>

static bool exists(const char *path) {
    struct stat sb;
    return stat(path, &sb) == 0;
}

static drift_run *open_run(const char *path) {
    drift_run *r = NULL;
    ds4_err err;
    make_ok(drift_run_open(&r, path, &err), &err);
    return r;
}

static const drift_run_tap *find(const drift_run_fixture *f, ds4_tap tap, int32_t layer) {
    for (size_t i = 0; i < f->n_tap; i++)
        if (f->tap[i].tap == tap && f->tap[i].layer == layer) return &f->tap[i];
    fail();
    return NULL;
}

static void check_values(const char *path, const char *id, uint32_t n_tok) {
    drift_run *r = open_run(path);
    const drift_run_fixture *f = drift_run_find_fixture(r, id);
    ds4_err err;
    assert_non_null(f);
    assert_int_equal(f->n_tok, n_tok);
    assert_int_equal(f->n_tap, MAKE_N_TAP);
    for (size_t i = 0; i < MAKE_N_TAP; i++) { /* make_tap is in execution order */
        const drift_run_tap *t = &f->tap[i];
        assert_int_equal(t->tap, make_tap[i].tap);
        assert_int_equal(t->pos_step, make_tap[i].step);
        assert_int_equal(t->n_row, (n_tok + t->pos_step - 1) / t->pos_step);
        if (t->tap == DS4_TAP_router_sel) continue;
        float *x = calloc((size_t)t->n_row * t->n_col, sizeof *x);
        uint32_t half = t->n_row / 2;
        make_ok(
            drift_run_rows(r, f, t, half, t->n_row - half, x + (size_t)half * t->n_col, &err),
            &err);
        make_ok(drift_run_rows(r, f, t, 0, half, x, &err), &err);
        double sum_sq = 0.0;
        for (uint32_t row = 0; row < t->n_row; row++)
            for (uint32_t c = 0; c < t->n_col; c++) {
                float v = x[(size_t)row * t->n_col + c];
                assert_true(v == make_value(t->tap, make_tap[i].layer, row * t->pos_step, c));
                sum_sq += (double)v * (double)v;
            }
        assert_true(sum_sq == t->digest.sum_sq);
        assert_int_equal(t->digest.n, (uint64_t)t->n_row * t->n_col);
        assert_int_equal(t->digest.n_nonfinite, 0);
        free(x);
    }
    drift_run_close(r);
}

static void test_store_run_reads_back(void **state) {
    (void)state;
    char path[96];
    make_run m = {.n_tok = 9, .variants = DS4_VARIANT_BIT(HC_STABLE), .refusal = "K is odd"};
    make_file(make_path(path, "a.h5"), &m);
    check_values(path, "short", 9);

    drift_run *r = open_run(path);
    const char *value;
    assert_string_equal(drift_run_fact(r, "model.digest"), "d0");
    assert_string_equal(drift_run_fact_at(r, 1, &value), "engine"); /* 0: identity */
    assert_string_equal(value, "ref");
    assert_null(drift_run_fact(r, "none"));
    const drift_run_fixture *f = drift_run_fixture_at(r, 0);
    assert_int_equal(f->n_decode, 2);
    assert_int_equal(f->n_vocab, MAKE_VOCAB);
    assert_int_equal(f->token[1], 10);
    char text[8];
    assert_int_equal(drift_run_token_text(r, f, 3, text, sizeof text), 6);
    assert_memory_equal(text, "\xc3\xa9 tok", 6);
    assert_int_equal(drift_run_token_text(r, f, 2, text, sizeof text), 0);
    assert_int_equal(f->n_ledger, 2 * MAKE_N_TAP);
    assert_string_equal(f->ledger[2].tap, "attn_hc_norm");
    assert_string_equal(f->ledger[2].op, "rms_norm");
    assert_string_equal(f->ledger[2].variants, "DS4_HC_STABLE=1");
    assert_string_equal(f->ledger[3].phase, "decode");
    assert_string_equal(f->ledger[8].wanted, "tree");
    assert_string_equal(f->ledger[8].refusal, "K is odd");
    assert_int_equal(f->ledger[8].n_elem, 72);
    assert_int_equal(f->ledger[0].layer, -1);
    drift_run_close(r);
}

static void test_store_any_batch_gives_the_same_digests(void **state) {
    (void)state;
    char path[96];
    uint64_t hash[MAKE_N_TAP][2];
    static const uint32_t batch[] = {700, 1, 3, 64, 350, 699};
    for (size_t b = 0; b < sizeof batch / sizeof *batch; b++) {
        make_run m = {.n_tok = 700,
                      .batch = batch[b]}; /* 700 rows of 300: over a dozen chunks */
        make_file(make_path(path, "batch.h5"), &m);
        check_values(path, "short", 700);
        drift_run *r = open_run(path);
        const drift_run_fixture *f = drift_run_fixture_at(r, 0);
        for (size_t i = 0; i < MAKE_N_TAP; i++) {
            if (b == 0) memcpy(hash[i], f->tap[i].digest.hash, sizeof hash[i]);
            assert_memory_equal(hash[i], f->tap[i].digest.hash, sizeof hash[i]);
            assert_int_equal(f->tap[i].pos_step, make_tap[i].step);
        }
        drift_run_close(r);
    }
}

static void spoil(void *user, ds4_tap tap, uint32_t layer, uint32_t pos, uint32_t col,
                  float *x) {
    (void)user, (void)layer;
    if (tap == DS4_TAP_embed && pos == 3 && col < 3)
        *x = col == 0 ? NAN : col == 1 ? INFINITY : -9.5f;
}

static void test_store_hash_level_keeps_digests_alone(void **state) {
    (void)state;
    char path[96];
    make_run m = {.hash_only = true, .alter = spoil};
    make_file(make_path(path, "hash.h5"), &m);
    drift_run *r = open_run(path);
    const drift_run_fixture *f = drift_run_fixture_at(r, 0);
    const drift_run_tap *t = find(f, DS4_TAP_embed, -1);
    ds4_err err;
    float x[8];
    assert_false(t->stored);
    assert_int_equal(t->digest.n_nonfinite, 2);
    assert_true(t->digest.min == -9.5);
    assert_true(t->digest.max < 2.0);
    assert_int_equal(drift_run_rows(r, f, t, 0, 1, x, &err), DS4_ERR_INTERNAL);
    drift_run_close(r);
}

static void test_store_long_fact_becomes_a_dataset(void **state) {
    (void)state;
    char path[96], *big = malloc(200001);
    memset(big, 'x', 200000), big[200000] = 0;
    const char *key[] = {"argv", "table", "empty"}, *value[] = {"a b", big, ""};
    drift_store_options opt = {key, value, 3, NULL, false};
    drift_store *s = NULL;
    ds4_err err;
    make_ok(drift_store_create(&s, make_path(path, "fact.h5"), &opt, &err), &err);
    make_ok(drift_store_finish(s, &err), &err);
    drift_run *r = open_run(path);
    assert_int_equal(drift_run_n_fixture(r), 0);
    assert_string_equal(drift_run_fact(r, "table"), big);
    assert_string_equal(drift_run_fact(r, "empty"), "");
    drift_run_close(r);
    free(big);
}

static void test_store_misuse_is_refused(void **state) {
    (void)state;
    char path[96];
    make_run m = {0};
    drift_store *s = make_open(make_path(path, "misuse.h5"), &m, false);
    ds4_err err;
    int32_t token[2] = {1, 2};
    float x[16] = {0};
    drift_store_fixture bad = {"a/b", token, 2, 0, NULL, NULL, 4},
                        good = {"ab", token, 2, 0, NULL, NULL, 4};
    ds4_tap_event e = {DS4_TAP_embed, DS4_NO_LAYER, 0, 1, 1, 8, x};
    assert_int_equal(drift_store_rows(s, &e, true, &err), DS4_ERR_INTERNAL);
    drift_store_abandon(s);
    s = make_open(path, &m, false);
    assert_int_equal(drift_store_begin_fixture(s, &bad, &err), DS4_ERR_USAGE);
    make_ok(drift_store_begin_fixture(s, &good, &err), &err);
    make_ok(drift_store_rows(s, &e, true, &err), &err);
    assert_int_equal(drift_store_rows(s, &e, true, &err),
                     DS4_ERR_INTERNAL);                              /* position 0 again */
    assert_int_equal(drift_store_finish(s, &err), DS4_ERR_INTERNAL); /* has no end */
    assert_false(exists(path));
    s = make_open(path, &m, false);
    make_ok(drift_store_begin_fixture(s, &good, &err), &err);
    e.n_row = 2, e.pos0 = 1;
    assert_int_equal(drift_store_rows(s, &e, true, &err),
                     DS4_ERR_INTERNAL); /* position 2 of 2 */
    drift_store_abandon(s);
    drift_store_abandon(NULL);
    drift_store_options opt = {0};
    assert_int_equal(drift_store_create(&s, "/nonexistent/dir/x.h5", &opt, &err), DS4_ERR_IO);
}

/* Runs body in a child that dies without a word. */
static void killed(void (*body)(const char *path), const char *path) {
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        body(path);
        _exit(7);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static const make_run killed_run = {.n_tok = 500, .batch = 100};

/* One fixture whole, a second one half. */
static void write_half(const char *path) {
    drift_store *s = make_open(path, &killed_run, false);
    make_fixture(s, &killed_run, "one");
    make_begin(s, &killed_run, "two");
    for (size_t i = 0; i < MAKE_N_TAP; i++) make_rows(s, &killed_run, i, 0, 400);
}

static void test_store_kill_in_the_middle_keeps_the_old_file(void **state) {
    (void)state;
    char path[96], partial[110];
    make_run old = {.n_tok = 9};
    ds4_err err;
    drift_run *r = NULL;

    make_path(path, "kill.h5"), snprintf(partial, sizeof partial, "%s.partial", path);
    killed(write_half, path);
    assert_false(exists(path));
    assert_true(exists(partial));
    assert_int_equal(drift_run_open(&r, partial, &err), DS4_ERR_FORMAT);
    assert_int_equal(drift_run_open(&r, path, &err), DS4_ERR_IO);
    unlink(partial);

    make_file(path, &old);
    killed(write_half, path);
    check_values(path, "short", 9);
}

static void test_store_partial_file_resumes(void **state) {
    (void)state;
    char path[96];
    ds4_err err;

    killed(write_half, make_path(path, "resume.h5"));
    drift_store *s = make_open(path, &killed_run, true);
    assert_true(drift_store_has_fixture(s, "one"));
    assert_false(drift_store_has_fixture(s, "two"));
    make_fixture(s, &killed_run, "two");
    drift_store_abandon(s); /* a clean stop between two fixtures */
    s = make_open(path, &killed_run, true);
    assert_true(drift_store_has_fixture(s, "two"));
    make_begin(s, &killed_run, "three");
    make_rows(s, &killed_run, 0, 0, 100);
    drift_store_abandon(s); /* and one in the middle */
    s = make_open(path, &killed_run, true);
    assert_true(drift_store_has_fixture(s, "two"));
    assert_false(drift_store_has_fixture(s, "three"));
    make_fixture(s, &killed_run, "three");
    make_ok(drift_store_finish(s, &err), &err);
    check_values(path, "one", 500);
    check_values(path, "two", 500);
    check_values(path, "three", 500);
    drift_run *r = open_run(path);
    assert_int_equal(drift_run_n_fixture(r), 3);
    assert_string_equal(drift_run_fixture_at(r, 1)->id, "two"); /* order of writing */
    drift_run_close(r);
}

static void test_store_other_identity_or_damage_starts_afresh(void **state) {
    (void)state;
    char path[96], partial[110];
    drift_store_options opt = {.identity = "identity 2", .resume = true};
    drift_store *s = NULL;
    ds4_err err;

    killed(write_half, make_path(path, "fresh.h5"));
    make_ok(drift_store_create(&s, path, &opt, &err), &err);
    assert_false(drift_store_has_fixture(s, "one"));
    drift_store_abandon(s);

    snprintf(partial, sizeof partial, "%s.partial", path);
    for (int i = 0; i < 3; i++) {
        killed(write_half, path);
        FILE *f = fopen(partial, "r+b");
        assert_non_null(f);
        fseek(f, i == 0 ? 3 : i == 1 ? 700 : 5000, SEEK_SET);
        fputc(0xa5, f);
        fclose(f);
        s = make_open(path, &killed_run, true);
        assert_false(drift_store_has_fixture(s, "one"));
        drift_store_abandon(s);
    }
    s = make_open(path, &killed_run, false); /* resume not asked for */
    assert_false(drift_store_has_fixture(s, "one"));
    drift_store_abandon(s);
}

/* The file is plain HDF5: read here through the library alone. */
static void test_store_file_is_plain_hdf5(void **state) {
    (void)state;
    char path[96], text[64] = {0};
    make_run m = {.n_tok = 9};
    make_file(make_path(path, "plain.h5"), &m);
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT);
    assert_true(f >= 0);
    assert_true(H5LTget_attribute_string(f, "/", "format", text) >= 0);
    assert_string_equal(text, "ds4-drift/run");
    int32_t pos[9], scale[9];
    assert_true(H5LTread_dataset_int(f, "/fixtures/short/positions", pos) >= 0);
    assert_int_equal(pos[8], 8);
    hid_t set = H5Dopen2(f, "/fixtures/short/taps/L01/comp_row", H5P_DEFAULT);
    assert_true(set >= 0);
    assert_int_equal(H5DSget_num_scales(set, 0), 1);
    assert_true(H5LTread_dataset_int(f, "/fixtures/short/scales/L01_0_4_3", scale) >= 0);
    assert_int_equal(scale[2], 8);
    hid_t plist = H5Dget_create_plist(set);
    assert_int_equal(H5Pget_nfilters(plist), 3);
    H5Pclose(plist), H5Dclose(set);
    assert_true(H5Lexists(f, "/fixtures/short/digests", H5P_DEFAULT) > 0);
    assert_true(H5Lexists(f, "/fixtures/short/ledger", H5P_DEFAULT) > 0);
    H5Fclose(f);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_run_reads_back),
        cmocka_unit_test(test_store_any_batch_gives_the_same_digests),
        cmocka_unit_test(test_store_hash_level_keeps_digests_alone),
        cmocka_unit_test(test_store_long_fact_becomes_a_dataset),
        cmocka_unit_test(test_store_misuse_is_refused),
        cmocka_unit_test(test_store_kill_in_the_middle_keeps_the_old_file),
        cmocka_unit_test(test_store_partial_file_resumes),
        cmocka_unit_test(test_store_other_identity_or_damage_starts_afresh),
        cmocka_unit_test(test_store_file_is_plain_hdf5),
    };
    return cmocka_run_group_tests(tests, make_setup, make_clean);
}
