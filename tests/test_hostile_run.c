/* Damaged and foreign files under the name of a run file: one line, exit 65, nothing else.
 * Bytes that were damaged after writing never reach the HDF5 parser (drift/seal.h); files whose
 * HDF5 content is wrong but sealed anew are refused by the reader's own checks. */
#include "tests/make_run.h"

#include <hdf5.h>
#include <hdf5_hl.h>
#include <sys/stat.h>

#include "drift/seal.h"

static unsigned char *good;
static size_t n_good;
static int n_case;

static void write_bytes(const char *path, const void *p, size_t n) {
    FILE *f = fopen(path, "wb");
    assert_non_null(f);
    assert_int_equal(fwrite(p, 1, n, f), n);
    assert_int_equal(fclose(f), 0);
}

static void refused(const char *path, ds4_status want, const char *part) {
    drift_run *r = NULL;
    ds4_err err = {0};
    ds4_status st = drift_run_open(&r, path, &err);
    if (st != want || (part && !strstr(err.message, part)))
        fail_msg("status %d '%s', wanted %d '%s'", (int)st, err.message, (int)want,
                 part ? part : "");
    assert_null(r);
    assert_true(*err.message && !strchr(err.message, '\n'));
    n_case++;
}

/* A run file whose only fixture is a link into another file. Made before the first call of
 * drift, which switches such links off. */
static void make_elsewhere(const char *path) {
    hid_t create = H5Pcreate(H5P_FILE_CREATE);
    unsigned version = 1;
    H5Pset_userblock(create, DRIFT_SEAL_BYTES);
    hid_t f = H5Fcreate(path, H5F_ACC_TRUNC, create, H5P_DEFAULT);
    H5LTset_attribute_string(f, "/", "format", "ds4-drift/run");
    H5LTset_attribute_uint(f, "/", "version", &version, 1);
    H5Gclose(H5Gcreate2(f, "provenance", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Gclose(H5Gcreate2(f, "fixtures", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
    H5Lcreate_external("good.h5", "/fixtures/short", f, "fixtures/x", H5P_DEFAULT, H5P_DEFAULT);
    H5Fclose(f), H5Pclose(create);
}

static int setup(void **state) {
    char path[96];
    make_run m = {.n_tok = 300, .batch = 100};
    if (make_setup(state) != 0) return -1;
    make_elsewhere(make_path(path, "elsewhere.h5"));
    make_file(make_path(path, "good.h5"), &m);
    FILE *f = fopen(path, "rb");
    if (!f) return -1;
    fseek(f, 0, SEEK_END);
    n_good = (size_t)ftell(f);
    rewind(f);
    good = malloc(n_good);
    if (fread(good, 1, n_good, f) != n_good) return -1;
    return fclose(f);
}

static int clean(void **state) {
    printf("test_hostile_run: %d damaged files refused\n", n_case);
    free(good);
    return make_clean(state);
}

static void test_open_truncated_is_refused(void **state) {
    (void)state;
    char path[96];
    make_path(path, "cut.h5");
    const size_t at[] = {1,
                         8,
                         15,
                         16,
                         47,
                         48,
                         511,
                         512,
                         513,
                         559,
                         560,
                         600,
                         2048,
                         4096,
                         n_good / 4,
                         n_good / 2,
                         n_good - 4096,
                         n_good - 512,
                         n_good - 2,
                         n_good - 1};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        write_bytes(path, good, at[i]);
        refused(path, DS4_ERR_FORMAT, "truncated: has ");
    }
    unsigned char *longer = calloc(1, n_good + 1);
    memcpy(longer, good, n_good);
    write_bytes(path, longer, n_good + 1);
    refused(path, DS4_ERR_FORMAT, "expected");
    free(longer);
}

/* Every bit of the seal, and bits all over the file. */
static void test_open_flipped_bit_is_refused(void **state) {
    (void)state;
    char path[96];
    make_path(path, "flip.h5");
    for (size_t i = 0; i < 48 + 300; i++) {
        size_t at = i < 48 ? i : i < 96 ? 512 + (i - 48) : (i * 2654435761u) % n_good;
        unsigned char bit = (unsigned char)(1u << i % 8);
        good[at] ^= bit;
        write_bytes(path, good, n_good);
        good[at] ^= bit;
        refused(path, DS4_ERR_FORMAT, NULL);
    }
}

static void test_open_foreign_file_is_refused(void **state) {
    (void)state;
    char path[96], dir[96];
    drift_run *r = NULL;
    ds4_err err;
    refused(make_path(path, "none.h5"), DS4_ERR_IO, "No such file");
    write_bytes(path, "", 0);
    refused(path, DS4_ERR_FORMAT, "empty");
    write_bytes(path, "hello\n", 6);
    refused(path, DS4_ERR_FORMAT, "truncated");
    char text[2000];
    memset(text, 'x', sizeof text);
    write_bytes(path, text, sizeof text);
    refused(path, DS4_ERR_FORMAT, "not a ds4-drift run file");
    assert_int_equal(mkdir(make_path(dir, "dir.h5"), 0700), 0);
    refused(dir, DS4_ERR_FORMAT, "directory");
    make_ok(drift_seal_write(make_path(dir, "elsewhere.h5"), true, &err), &err);
    refused(dir, DS4_ERR_FORMAT, "x is no group");
    refused("/dev/null", DS4_ERR_FORMAT, "not a regular file");

    hid_t f =
        H5Fcreate(path, H5F_ACC_TRUNC, H5P_DEFAULT, H5P_DEFAULT); /* HDF5 of something else */
    hsize_t dim = 4;
    const int x[4] = {1, 2, 3, 4};
    H5LTmake_dataset_int(f, "x", 1, &dim, x);
    H5Fclose(f);
    refused(path, DS4_ERR_FORMAT, "not a ds4-drift run file");
    memset(text, 0, sizeof text); /* sealed, but no HDF5 inside */
    write_bytes(path, text, sizeof text);
    make_ok(drift_seal_write(path, true, &err), &err);
    refused(path, DS4_ERR_FORMAT, "HDF5");
    write_bytes(path, good, n_good); /* not finished */
    make_ok(drift_seal_write(path, false, &err), &err);
    refused(path, DS4_ERR_FORMAT, "partial");
    make_ok(drift_seal_write(path, true, &err), &err);
    make_ok(drift_run_open(&r, path, &err), &err); /* the seal is all that was wrong */
    drift_run_close(r);
}

/* ---- schema damage: edited through HDF5, then sealed anew ---- */

#define FX "/fixtures/short/"

static void drop_link(hid_t f, const char *name) {
    assert_true(H5Ldelete(f, name, H5P_DEFAULT) >= 0);
}

static void set_u32(hid_t f, const char *at, const char *name, unsigned v) {
    assert_true(H5LTset_attribute_uint(f, at, name, &v, 1) >= 0);
}

static void put(hid_t f, const char *name, hid_t type, int rank, const hsize_t *dim,
                const void *data) {
    if (H5Lexists(f, name, H5P_DEFAULT) > 0) drop_link(f, name);
    assert_true(H5LTmake_dataset(f, name, rank, dim, type, data) >= 0);
}

/* Chunked, nothing allocated: a small file that claims much. */
static void put_huge(hid_t f, const char *name, hid_t type, int rank, const hsize_t *dim) {
    hsize_t chunk[2] = {4, 4};
    if (H5Lexists(f, name, H5P_DEFAULT) > 0) drop_link(f, name);
    hid_t p = H5Pcreate(H5P_DATASET_CREATE), s = H5Screate_simple(rank, dim, NULL);
    H5Pset_chunk(p, rank, chunk);
    hid_t d = H5Dcreate2(f, name, type, s, H5P_DEFAULT, p, H5P_DEFAULT);
    assert_true(d >= 0);
    H5Dclose(d), H5Sclose(s), H5Pclose(p);
}

static void bad_format(hid_t f) { H5LTset_attribute_string(f, "/", "format", "other/run"); }
static void bad_version(hid_t f) { set_u32(f, "/", "version", 2); }
static void text_version(hid_t f) { H5LTset_attribute_string(f, "/", "version", "1"); }
static void no_format(hid_t f) { H5Adelete(f, "format"); }
static void number_format(hid_t f) { set_u32(f, "/", "format", 1); }
static void no_version(hid_t f) { H5Adelete(f, "version"); }
static void no_provenance(hid_t f) { drop_link(f, "provenance"); }
static void number_fact(hid_t f) { set_u32(f, "/provenance", "engine", 3); }
static void no_fixtures(hid_t f) { drop_link(f, "fixtures"); }
static void set_fixtures(hid_t f) {
    put(f, "fixtures", H5T_NATIVE_INT, 1, (hsize_t[]){1}, (int[]){1});
}
static void set_fixture(hid_t f) {
    put(f, "fixtures/x", H5T_NATIVE_INT, 1, (hsize_t[]){1}, (int[]){1});
}
static void empty_fixture(hid_t f) {
    H5Gclose(H5Gcreate2(f, "fixtures/x", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void incomplete(hid_t f) { H5Adelete_by_name(f, FX, "complete", H5P_DEFAULT); }
static void no_n_vocab(hid_t f) { H5Adelete_by_name(f, FX, "n_vocab", H5P_DEFAULT); }
static void long_decode(hid_t f) { set_u32(f, FX, "n_decode", 301); }
static void long_name(hid_t f) {
    char name[400] = "fixtures/";
    memset(name + 9, 'n', 300);
    H5Gclose(H5Gcreate2(f, name, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
static void dangling(hid_t f) {
    H5Lcreate_soft("/nowhere", f, "fixtures/x", H5P_DEFAULT, H5P_DEFAULT);
}

static void no_tokens(hid_t f) { drop_link(f, FX "tokens"); }
static void float_tokens(hid_t f) {
    put(f, FX "tokens", H5T_NATIVE_FLOAT, 1, (hsize_t[]){2}, (float[]){1, 2});
}
static void flat_tokens(hid_t f) {
    put(f, FX "tokens", H5T_NATIVE_INT, 2, (hsize_t[]){1, 2}, (int[]){1, 2});
}
static void few_tokens(hid_t f) {
    put(f, FX "tokens", H5T_NATIVE_INT, 1, (hsize_t[]){2}, (int[]){1, 2});
}
static void short_tokens(hid_t f) {
    put(f, FX "tokens", H5T_NATIVE_SHORT, 1, (hsize_t[]){2}, (short[]){1, 2});
}
static void unsigned_tokens(hid_t f) {
    put(f, FX "tokens", H5T_NATIVE_UINT, 1, (hsize_t[]){1}, (int[]){1});
}
static void huge_tokens(hid_t f) {
    put_huge(f, FX "tokens", H5T_NATIVE_INT, 1, (hsize_t[]){1ull << 40});
}
static void scalar_tokens(hid_t f) { put(f, FX "tokens", H5T_NATIVE_INT, 0, NULL, (int[]){1}); }
static void group_tokens(hid_t f) {
    drop_link(f, FX "tokens");
    H5Gclose(H5Gcreate2(f, FX "tokens", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
}
/* Bytes of another file must not be read as tokens. */
static void outside_tokens(hid_t f) {
    hsize_t n = 300;
    drop_link(f, FX "tokens");
    hid_t p = H5Pcreate(H5P_DATASET_CREATE), s = H5Screate_simple(1, &n, NULL);
    H5Pset_external(p, "/etc/passwd", 0, 1200);
    H5Dclose(H5Dcreate2(f, FX "tokens", H5T_NATIVE_INT, s, H5P_DEFAULT, p, H5P_DEFAULT));
    H5Sclose(s), H5Pclose(p);
}
static void virtual_tokens(hid_t f) {
    hsize_t n = 300;
    drop_link(f, FX "tokens");
    hid_t p = H5Pcreate(H5P_DATASET_CREATE), s = H5Screate_simple(1, &n, NULL);
    H5Pset_virtual(p, s, "/tmp/other.h5", "x", s);
    H5Dclose(H5Dcreate2(f, FX "tokens", H5T_NATIVE_INT, s, H5P_DEFAULT, p, H5P_DEFAULT));
    H5Sclose(s), H5Pclose(p);
}
static void no_text(hid_t f) { drop_link(f, FX "token_bytes"); }
static void less_text(hid_t f) {
    put(f, FX "token_bytes", H5T_NATIVE_UCHAR, 1, (hsize_t[]){1}, "a");
}
static void huge_text(hid_t f) {
    put_huge(f, FX "token_bytes", H5T_NATIVE_UCHAR, 1, (hsize_t[]){1ull << 50});
}
static void few_offsets(hid_t f) {
    put(f, FX "token_offsets", H5T_STD_U64LE, 1, (hsize_t[]){2}, (uint64_t[]){0, 1});
}
static void falling_offsets(hid_t f) {
    uint64_t x[301];
    assert_true(H5LTread_dataset(f, FX "token_offsets", H5T_STD_U64LE, x) >= 0);
    x[100] = UINT64_MAX;
    put(f, FX "token_offsets", H5T_STD_U64LE, 1, (hsize_t[]){301}, x);
}

static void no_digests(hid_t f) { drop_link(f, FX "digests"); }
static void number_digests(hid_t f) {
    put(f, FX "digests", H5T_NATIVE_INT, 1, (hsize_t[]){1}, (int[]){1});
}
static void huge_digests(hid_t f) {
    hid_t d = H5Dopen2(f, FX "digests", H5P_DEFAULT), t = H5Dget_type(d);
    put_huge(f, FX "digests", t, 1, (hsize_t[]){1ull << 40});
    H5Tclose(t), H5Dclose(d);
}

/* Reads a table as it lies in the file, edits one member of one row, writes it back. */
static void edit(hid_t f, const char *table, size_t row, const char *member, const void *v,
                 size_t n) {
    hid_t d = H5Dopen2(f, table, H5P_DEFAULT), t = H5Dget_type(d), s = H5Dget_space(d);
    size_t size = H5Tget_size(t);
    unsigned char *p = malloc((size_t)H5Sget_simple_extent_npoints(s) * size);
    assert_true(H5Dread(d, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, p) >= 0);
    memcpy(p + row * size + H5Tget_member_offset(t, (unsigned)H5Tget_member_index(t, member)),
           v, n);
    assert_true(H5Dwrite(d, t, H5S_ALL, H5S_ALL, H5P_DEFAULT, p) >= 0);
    free(p), H5Sclose(s), H5Tclose(t), H5Dclose(d);
}
#define EDIT_DIGEST(name, row, member, type, value)                                            \
    static void name(hid_t f) {                                                                \
        edit(f, FX "digests", row, member, &(type){value}, sizeof(type));                      \
    }
EDIT_DIGEST(zero_rows, 1, "n_row", uint32_t, 0)
EDIT_DIGEST(many_rows, 1, "n_row", uint32_t, UINT32_MAX)
EDIT_DIGEST(fewer_rows, 1, "n_row", uint32_t, 299)
EDIT_DIGEST(zero_cols, 1, "n_col", uint32_t, 0)
EDIT_DIGEST(many_cols, 1, "n_col", uint32_t, UINT32_MAX)
EDIT_DIGEST(late_rows, 1, "pos0", uint32_t, 1)
EDIT_DIGEST(zero_step, 1, "pos_step", uint32_t, 0)
EDIT_DIGEST(wide_step, 1, "pos_step", uint32_t, UINT32_MAX)
EDIT_DIGEST(low_layer, 1, "layer", int32_t, -2)
EDIT_DIGEST(high_layer, 1, "layer", int32_t, 65535)
EDIT_DIGEST(moved_layer, 1, "layer", int32_t, 7)
EDIT_DIGEST(twice, 4, "layer", int32_t, 0)
EDIT_DIGEST(odd_stored, 1, "stored", uint32_t, 2)
EDIT_DIGEST(odd_count, 1, "count", uint64_t, 5)
EDIT_DIGEST(odd_nonfinite, 1, "nonfinite", uint64_t, UINT64_MAX)
static void unknown_tap(hid_t f) { edit(f, FX "digests", 1, "tap", "no_such_tap", 12); }
static void endless_tap(hid_t f) {
    char x[32];
    memset(x, 'a', sizeof x);
    edit(f, FX "digests", 1, "tap", x, sizeof x);
}

static void no_rows(hid_t f) { drop_link(f, FX "taps/L00/attn_hc_norm"); }
static void no_layer(hid_t f) { drop_link(f, FX "taps/L01"); }
static void no_logits(hid_t f) { drop_link(f, FX "logits"); }
static void int_rows(hid_t f) {
    put_huge(f, FX "logits", H5T_STD_I32LE, 2, (hsize_t[]){300, 64});
}
static void double_rows(hid_t f) {
    put_huge(f, FX "logits", H5T_IEEE_F64LE, 2, (hsize_t[]){300, 64});
}
static void big_endian_rows(hid_t f) {
    put_huge(f, FX "logits", H5T_IEEE_F32BE, 2, (hsize_t[]){300, 64});
}
static void flat_rows(hid_t f) {
    put_huge(f, FX "logits", H5T_IEEE_F32LE, 1, (hsize_t[]){300 * 64});
}
static void huge_rows(hid_t f) {
    put_huge(f, FX "logits", H5T_IEEE_F32LE, 2, (hsize_t[]){1ull << 40, 1ull << 20});
}
static void shape_rows(hid_t f) {
    put_huge(f, FX "logits", H5T_IEEE_F32LE, 2, (hsize_t[]){300, 65});
}

static void no_ledger(hid_t f) { drop_link(f, FX "ledger"); }
static void float_ledger(hid_t f) {
    put(f, FX "ledger", H5T_NATIVE_FLOAT, 1, (hsize_t[]){1}, (float[]){1});
}
static void digest_ledger(hid_t f) {
    drop_link(f, FX "ledger");
    H5Lcreate_hard(f, FX "digests", f, FX "ledger", H5P_DEFAULT, H5P_DEFAULT);
}
/* All members there, one of them a text of variable length. */
static void vlen_ledger(hid_t f) {
    hid_t d = H5Dopen2(f, FX "ledger", H5P_DEFAULT), t = H5Dget_type(d), v = H5Tcopy(H5T_C_S1);
    H5Tset_size(v, H5T_VARIABLE);
    hid_t x = H5Tcreate(H5T_COMPOUND, 4096);
    size_t at = 0;
    for (int i = 0; i < H5Tget_nmembers(t); i++) {
        char *name = H5Tget_member_name(t, (unsigned)i);
        hid_t m = !strcmp(name, "row") ? H5Tcopy(v) : H5Tget_member_type(t, (unsigned)i);
        H5Tinsert(x, name, at, m);
        at += H5Tget_size(m);
        H5free_memory(name), H5Tclose(m);
    }
    put_huge(f, FX "ledger", x, 1, (hsize_t[]){4});
    H5Tclose(x), H5Tclose(v), H5Tclose(t), H5Dclose(d);
}
static void ledger_tap(hid_t f) { edit(f, FX "ledger", 0, "tap", "zzz", 4); }
static void ledger_row(hid_t f) { edit(f, FX "ledger", 0, "row", "", 1); }
static void ledger_layer(hid_t f) { edit(f, FX "ledger", 0, "layer", &(int32_t){-9}, 4); }

static const struct damage {
    void (*apply)(hid_t f);
    const char *part;
} damage[] = {
    {bad_format, "format 'other/run', wanted 'ds4-drift/run'"},
    {bad_version, "version 2, wanted 1"},
    {text_version, "'version'"},
    {no_format, "'format'"},
    {number_format, "'format'"},
    {no_version, "'version'"},
    {no_provenance, "'provenance'"},
    {number_fact, "'engine'"},
    {no_fixtures, "'fixtures'"},
    {set_fixtures, "'fixtures'"},
    {set_fixture, "x is no group"},
    {empty_fixture, "'complete'"},
    {incomplete, "'complete'"},
    {no_n_vocab, "'n_vocab'"},
    {long_decode, "301 of them decoded"},
    {long_name, "no proper name"},
    {dangling, "x is no group"},
    {no_tokens, "'tokens'"},
    {float_tokens, "'tokens'"},
    {flat_tokens, "'tokens'"},
    {few_tokens, "token_offsets"},
    {short_tokens, "'tokens'"},
    {unsigned_tokens, "'tokens'"},
    {huge_tokens, "'tokens'"},
    {scalar_tokens, "'tokens'"},
    {group_tokens, "'tokens'"},
    {outside_tokens, "outside the file"},
    {virtual_tokens, "outside the file"},
    {no_text, "'token_bytes'"},
    {less_text, "token_bytes"},
    {huge_text, "'token_bytes'"},
    {few_offsets, "token_offsets"},
    {falling_offsets, "token_offsets fall at 100"},
    {no_digests, "'digests'"},
    {number_digests, "'digests'"},
    {huge_digests, "'digests'"},
    {zero_rows, "attn_hc_norm"},
    {many_rows, "attn_hc_norm"},
    {fewer_rows, "attn_hc_norm"},
    {zero_cols, "attn_hc_norm"},
    {many_cols, "attn_hc_norm"},
    {late_rows, "attn_hc_norm"},
    {zero_step, "attn_hc_norm"},
    {wide_step, "attn_hc_norm"},
    {low_layer, "layer -2"},
    {high_layer, "layer 65535"},
    {moved_layer, "taps/L07/attn_hc_norm"},
    {twice, "two digests of tap attn_hc_norm, layer 0"},
    {odd_stored, "attn_hc_norm"},
    {odd_count, "5 elements"},
    {odd_nonfinite, "attn_hc_norm"},
    {unknown_tap, "unknown tap 'no_such_tap'"},
    {endless_tap, "unknown tap"},
    {no_rows, "attn_hc_norm"},
    {no_layer, "taps/L01"},
    {no_logits, "'logits'"},
    {int_rows, "'logits'"},
    {double_rows, "'logits'"},
    {big_endian_rows, "'logits'"},
    {flat_rows, "'logits'"},
    {huge_rows, "'logits'"},
    {shape_rows, "'logits' is [300][65], its digest says [300][64]"},
    {no_ledger, "'ledger'"},
    {float_ledger, "'ledger'"},
    {digest_ledger, "'ledger'"},
    {vlen_ledger, "'row'"},
    {ledger_tap, "'zzz'"},
    {ledger_row, "row ''"},
    {ledger_layer, "layer -9"},
};

static void test_open_damaged_schema_is_refused(void **state) {
    (void)state;
    char path[96];
    ds4_err err;
    make_path(path, "schema.h5");
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        write_bytes(path, good, n_good);
        hid_t f = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
        assert_true(f >= 0);
        damage[i].apply(f);
        assert_true(H5Fclose(f) >= 0);
        make_ok(drift_seal_write(path, true, &err), &err);
        refused(path, DS4_ERR_FORMAT, damage[i].part);
    }
}

/* A strange member, attribute or link that a later version may add is no damage. */
static void test_open_unknown_additions_are_accepted(void **state) {
    (void)state;
    char path[96];
    ds4_err err;
    drift_run *r = NULL;
    write_bytes(make_path(path, "more.h5"), good, n_good);
    hid_t f = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    set_u32(f, "/", "future", 9);
    set_u32(f, FX, "future", 9);
    put(f, FX "expected", H5T_NATIVE_INT, 1, (hsize_t[]){1}, (int[]){1});
    H5Fclose(f);
    make_ok(drift_seal_write(path, true, &err), &err);
    make_ok(drift_run_open(&r, path, &err), &err);
    drift_run_close(r);
}

/* Sealed over damaged rows: the chunk's own checksum tells when they are read. */
static void test_rows_of_damaged_chunk_are_refused(void **state) {
    (void)state;
    char path[96];
    ds4_err err;
    drift_run *r = NULL;
    hsize_t offset[2], n_bytes;
    unsigned mask;
    haddr_t at;
    float row[MAKE_VOCAB];

    write_bytes(make_path(path, "chunk.h5"), good, n_good);
    hid_t f = H5Fopen(path, H5F_ACC_RDONLY, H5P_DEFAULT),
          d = H5Dopen2(f, FX "logits", H5P_DEFAULT);
    hid_t s = H5Dget_space(d);
    assert_true(H5Dget_chunk_info(d, s, 0, offset, &mask, &at, &n_bytes) >= 0);
    H5Sclose(s), H5Dclose(d), H5Fclose(f);
    /* The library gives the offset behind the user block or from the start, by version: damage
     * the middle of the chunk, found by its bytes being no metadata. */
    for (size_t k = 0; k < 8; k++) {
        size_t byte = DRIFT_SEAL_BYTES + (size_t)at + 40 + k * (size_t)(n_bytes - 80) / 8;
        good[byte] ^= 0x10;
        write_bytes(path, good, n_good);
        good[byte] ^= 0x10;
        make_ok(drift_seal_write(path, true, &err), &err);
        make_ok(drift_run_open(&r, path, &err), &err);
        const drift_run_fixture *fx = drift_run_fixture_at(r, 0);
        const drift_run_tap *t = &fx->tap[fx->n_tap - 1];
        assert_int_equal(t->tap, DS4_TAP_logits);
        assert_int_equal(drift_run_rows(r, fx, t, 0, 1, row, &err), DS4_ERR_FORMAT);
        assert_non_null(strstr(err.message, "damaged"));
        drift_run_close(r), r = NULL;
        n_case++;
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open_truncated_is_refused),
        cmocka_unit_test(test_open_flipped_bit_is_refused),
        cmocka_unit_test(test_open_foreign_file_is_refused),
        cmocka_unit_test(test_open_damaged_schema_is_refused),
        cmocka_unit_test(test_open_unknown_additions_are_accepted),
        cmocka_unit_test(test_rows_of_damaged_chunk_are_refused),
    };
    return cmocka_run_group_tests(tests, setup, clean);
}
