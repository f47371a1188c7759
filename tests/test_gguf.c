/* engine/format/gguf and engine/base/file: what is read from well-formed bytes, and the rules
 * that bound a file. Damage at scale is the business of test_hostile. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/format/gguf.h"

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

typedef struct buffer {
    uint8_t p[4096];
    size_t n;
} buffer;

static void put(buffer *b, const void *p, size_t n) {
    assert_true(b->n + n <= sizeof b->p);
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void put_u32(buffer *b, uint32_t v) { put(b, &v, 4); }
static void put_u64(buffer *b, uint64_t v) { put(b, &v, 8); }
static void put_str(buffer *b, const char *s) {
    put_u64(b, strlen(s));
    put(b, s, strlen(s));
}

static void put_head(buffer *b, uint64_t n_tensor, uint64_t n_meta) {
    b->n = 0;
    put(b, "GGUF\3\0\0\0", 8);
    put_u64(b, n_tensor), put_u64(b, n_meta);
}

static void put_key(buffer *b, const char *key, uint32_t type) {
    put_str(b, key);
    put_u32(b, type);
}

static void put_tensor(buffer *b, const char *name, uint32_t type, uint64_t ne0, uint64_t ne1,
                       uint64_t offset) {
    put_str(b, name);
    put_u32(b, 2), put_u64(b, ne0), put_u64(b, ne1), put_u32(b, type), put_u64(b, offset);
}

static void put_data(buffer *b, size_t align, size_t n) {
    while (b->n % align) put(b, "", 1);
    for (size_t i = 0; i < n; i++) put(b, &(uint8_t){(uint8_t)i}, 1);
}

static ds4_gguf *parse(const buffer *b) {
    ds4_gguf *g = NULL;
    ds4_err err = {0};
    if (ds4_gguf_parse(&g, b->p, b->n, "made", &err) != DS4_OK) fail_msg("%s", err.message);
    return g;
}

static void refuse(const buffer *b, const char *word) {
    ds4_gguf *g = NULL;
    ds4_err err = {0};
    assert_int_equal(ds4_gguf_parse(&g, b->p, b->n, "made", &err), DS4_ERR_FORMAT);
    assert_null(g);
    if (!strstr(err.message, word)) fail_msg("'%s' lacks '%s'", err.message, word);
}

static void test_metadata_every_type_is_read_by_its_getter(void **state) {
    buffer b;
    uint32_t u = 7;
    uint64_t v = 7;
    double x = 7;
    bool on = false;
    ds4_str s;
    (void)state;
    put_head(&b, 0, 9);
    put_key(&b, "u32", U32), put_u32(&b, 41);
    put_key(&b, "u64", U64), put_u64(&b, (uint64_t)1 << 40);
    put_key(&b, "i32", I32), put_u32(&b, (uint32_t)-3);
    put_key(&b, "f32", F32), put(&b, &(float){0.5f}, 4);
    put_key(&b, "f64", F64), put(&b, &(double){0.25}, 8);
    put_key(&b, "bool", BOOL), put(&b, "\2", 1);
    put_key(&b, "string", STRING), put_str(&b, "abc");
    put_key(&b, "i8", I8), put(&b, "\1", 1);
    put_key(&b, "u32", U32), put_u32(&b, 99); /* the first wins */
    ds4_gguf *g = parse(&b);
    assert_true(ds4_gguf_u32(g, "u32", &u) && u == 41);
    assert_true(ds4_gguf_u64(g, "u64", &v) && v == (uint64_t)1 << 40);
    assert_true(ds4_gguf_u64(g, "u32", &v) && v == 41);
    assert_true(ds4_gguf_number(g, "i32", &x) && x == -3.0);
    assert_true(ds4_gguf_number(g, "f32", &x) && x == 0.5);
    assert_true(ds4_gguf_number(g, "f64", &x) && x == 0.25);
    assert_true(ds4_gguf_number(g, "u32", &x) && x == 41.0);
    assert_true(ds4_gguf_bool(g, "bool", &on) && on);
    assert_true(ds4_gguf_string(g, "string", &s) && s.n == 3 && !memcmp(s.p, "abc", 3));
    u = 7, x = 7, on = false;
    assert_false(ds4_gguf_u32(g, "u64", &u) || ds4_gguf_u32(g, "none", &u));
    assert_false(ds4_gguf_number(g, "u64", &x) || ds4_gguf_bool(g, "u32", &on));
    assert_true(u == 7 && x == 7 && !on);
    assert_string_equal(ds4_gguf_type_of(g, "i8"), "i8");
    assert_string_equal(ds4_gguf_type_of(g, "none"), "nothing");
    assert_int_equal(ds4_gguf_n_meta(g), 9);
    assert_true(ds4_gguf_meta_at(g, 8, &s, &u) && s.n == 3 && u == U32);
    assert_false(ds4_gguf_meta_at(g, 9, &s, &u));
    ds4_gguf_close(g);
}

static bool join(void *user, uint64_t i, ds4_str s) {
    buffer *b = user;
    put(b, s.p, s.n);
    put(b, "|", 1);
    return i < 1;
}

static void test_arrays_are_read_by_index_and_strings_in_order(void **state) {
    buffer b, seen = {.n = 0};
    uint64_t n = 0;
    uint32_t u = 7;
    double x = 7;
    (void)state;
    put_head(&b, 0, 5);
    put_key(&b, "u32", ARRAY), put_u32(&b, U32), put_u64(&b, 2), put_u32(&b, 5),
        put_u32(&b, ~0u);
    put_key(&b, "i32", ARRAY), put_u32(&b, I32), put_u64(&b, 2), put_u32(&b, 6),
        put_u32(&b, ~0u);
    put_key(&b, "f64", ARRAY), put_u32(&b, F64), put_u64(&b, 1), put(&b, &(double){1.5}, 8);
    put_key(&b, "str", ARRAY), put_u32(&b, STRING), put_u64(&b, 3);
    put_str(&b, "a"), put_str(&b, ""), put_str(&b, "c");
    put_key(&b, "nested", ARRAY), put_u32(&b, ARRAY), put_u64(&b, 2);
    put_u32(&b, U8), put_u64(&b, 3), put(&b, "xyz", 3), put_u32(&b, STRING), put_u64(&b, 0);
    put_data(&b, 32, 0);
    ds4_gguf *g = parse(&b);
    assert_true(ds4_gguf_array_n(g, "nested", &n) && n == 2);
    assert_true(ds4_gguf_array_u32(g, "u32", 1, &u) && u == ~0u);
    assert_true(ds4_gguf_array_u32(g, "i32", 0, &u) && u == 6);
    assert_false(ds4_gguf_array_u32(g, "i32", 1, &u)); /* negative */
    assert_false(ds4_gguf_array_u32(g, "u32", 2, &u) || ds4_gguf_array_u32(g, "f64", 0, &u));
    assert_true(ds4_gguf_array_number(g, "f64", 0, &x) && x == 1.5);
    assert_false(ds4_gguf_array_number(g, "u32", 0, &x) ||
                 ds4_gguf_array_number(g, "f64", 1, &x));
    assert_true(ds4_gguf_array_strings(g, "str", join, &seen));
    assert_int_equal(seen.n, 3);
    assert_memory_equal(seen.p, "a||", 3); /* join stops after the second */
    assert_false(ds4_gguf_array_strings(g, "u32", join, &seen));
    ds4_gguf_close(g);
}

static void test_arrays_eight_levels_are_read_and_nine_refused(void **state) {
    (void)state;
    for (int depth = 8; depth <= 9; depth++) {
        buffer b;
        put_head(&b, 0, 1);
        put_key(&b, "deep", ARRAY);
        for (int i = 1; i < depth; i++) put_u32(&b, ARRAY), put_u64(&b, 1);
        put_u32(&b, U8), put_u64(&b, 1), put(&b, "x", 1);
        if (depth == 9) refuse(&b, "deep");
        else ds4_gguf_close(parse(&b));
    }
}

/* Data ranges may overlap: two names for the same bytes, and a third that straddles them. */
static void test_tensors_overlapping_ranges_are_accepted(void **state) {
    buffer b;
    (void)state;
    put_head(&b, 3, 0);
    put_tensor(&b, "one", 0, 16, 2, 0);
    put_tensor(&b, "same", 0, 16, 2, 0);
    put_tensor(&b, "straddles", 8, 32, 2, 32);
    put_data(&b, 32, 128);
    ds4_gguf *g = parse(&b);
    const ds4_tensor *one = ds4_gguf_find_tensor(g, "one"), *t;
    assert_non_null(one);
    assert_true(one->n_dim == 2 && one->ne[0] == 16 && one->ne[1] == 2 && one->ne[7] == 1);
    assert_true(one->n_elem == 32 && one->n_bytes == 128 && one->data[5] == 5);
    assert_ptr_equal(ds4_gguf_find_tensor(g, "same")->data, one->data);
    t = ds4_gguf_find_tensor(g, "straddles");
    assert_true(t->data == one->data + 32 && t->n_bytes == 68 && t->quant->id == 8);
    assert_null(ds4_gguf_find_tensor(g, "on"));
    assert_null(ds4_gguf_find_tensor(g, "ones"));
    assert_ptr_equal(ds4_gguf_tensor(g, 2), t);
    assert_null(ds4_gguf_tensor(g, 3));
    ds4_gguf_close(g);
}

static void test_tensors_unknown_types_are_listed_without_bytes(void **state) {
    buffer b;
    (void)state;
    put_head(&b, 1, 0);
    put_tensor(&b, "odd", 77, 1u << 20, 1u << 20, 0);
    put_data(&b, 32, 8);
    ds4_gguf *g = parse(&b);
    const ds4_tensor *t = ds4_gguf_tensor(g, 0);
    assert_true(!t->quant && t->type_id == 77 && t->n_bytes == 0);
    ds4_gguf_close(g);
}

static void test_tensors_that_leave_the_file_are_refused(void **state) {
    buffer b;
    (void)state;
    put_head(&b, 1, 0), put_tensor(&b, "long", 0, 16, 3, 0), put_data(&b, 32, 128);
    refuse(&b, "long");
    put_head(&b, 1, 0), put_tensor(&b, "far", 0, 16, 2, UINT64_MAX - 31), put_data(&b, 32, 128);
    refuse(&b, "far");
    put_head(&b, 1, 0), put_tensor(&b, "odd", 0, 16, 1, 4), put_data(&b, 32, 128);
    refuse(&b, "multiple");
    put_head(&b, 1, 0), put_tensor(&b, "empty", 0, 16, 0, 0), put_data(&b, 32, 128);
    refuse(&b, "empty");
    put_head(&b, 1, 0), put_tensor(&b, "huge", 0, 1u << 31, (uint64_t)1 << 33, 0);
    put_data(&b, 32, 128);
    refuse(&b, "huge");
    put_head(&b, 2, 0), put_tensor(&b, "twin", 0, 1, 1, 0), put_tensor(&b, "twin", 0, 1, 1, 0);
    put_data(&b, 32, 128);
    refuse(&b, "twin");
}

static void test_alignment_the_key_rules_where_it_is_a_u32(void **state) {
    static const uint32_t good[] = {8, 16, 64, 256}, bad[] = {1, 4, 24, 33, 0xffffffffu};
    buffer b;
    (void)state;
    for (size_t i = 0; i < 4; i++) {
        put_head(&b, 1, 1), put_key(&b, "general.alignment", U32), put_u32(&b, good[i]);
        put_tensor(&b, "t", 0, 2, 2, good[i]);
        put_data(&b, good[i], good[i] + 16);
        ds4_gguf *g = parse(&b);
        assert_int_equal(ds4_gguf_tensor(g, 0)->data[1], (uint8_t)(good[i] + 1));
        ds4_gguf_close(g);
    }
    for (size_t i = 0; i < 5; i++) {
        put_head(&b, 1, 1), put_key(&b, "general.alignment", U32), put_u32(&b, bad[i]);
        put_tensor(&b, "t", 0, 2, 2, 0);
        put_data(&b, 32, 64);
        refuse(&b, "general.alignment");
    }
    put_head(&b, 1, 1), put_key(&b, "general.alignment", U32), put_u32(&b, 0); /* means 32 */
    put_tensor(&b, "t", 0, 2, 2, 32);
    put_data(&b, 32, 48);
    ds4_gguf_close(parse(&b));
    put_head(&b, 1, 1), put_key(&b, "general.alignment", U64), put_u64(&b, 3); /* not a u32 */
    put_tensor(&b, "t", 0, 2, 2, 32);
    put_data(&b, 32, 48);
    ds4_gguf_close(parse(&b));
}

static void test_open_what_is_no_model_file_is_refused_by_kind(void **state) {
    ds4_gguf *g = NULL;
    ds4_err err = {0};
    char path[] = "/tmp/ds4-test-gguf-XXXXXX";
    int fd = mkstemp(path);
    buffer b;
    (void)state;
    assert_true(fd >= 0);
    assert_int_equal(ds4_gguf_open(&g, "fixtures/tiny/no-such-file", &err), DS4_ERR_IO);
    assert_non_null(strstr(err.message, "no-such-file"));
    assert_int_equal(ds4_gguf_open(&g, "fixtures", &err), DS4_ERR_IO);
    assert_non_null(strstr(err.message, "directory"));
    assert_int_equal(ds4_gguf_open(&g, "/dev/null", &err), DS4_ERR_IO);
    assert_int_equal(ds4_gguf_open(&g, path, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "empty"));
    put_head(&b, 0, 0), put_data(&b, 32, 0);
    assert_int_equal(write(fd, b.p, b.n), b.n);
    assert_int_equal(ds4_gguf_open(&g, path, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "no tensors"));
    assert_null(g);
    close(fd);
    unlink(path);
}

static void test_parse_each_failing_allocation_is_reported(void **state) {
    buffer b;
    ds4_gguf *g = NULL;
    (void)state;
    put_head(&b, 1, 1), put_key(&b, "k", U8), put(&b, "x", 1);
    put_tensor(&b, "t", 0, 2, 2, 0), put_data(&b, 32, 16);
    for (long k = 1; k <= 5; k++) {
        ds4_mem_fail_after(k);
        assert_int_equal(ds4_gguf_parse(&g, b.p, b.n, "made", NULL), DS4_ERR_MEMORY);
        assert_null(g);
    }
    ds4_mem_fail_after(0);
    ds4_gguf_close(parse(&b));
    ds4_gguf_close(NULL);
    ds4_file_close(NULL);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metadata_every_type_is_read_by_its_getter),
        cmocka_unit_test(test_arrays_are_read_by_index_and_strings_in_order),
        cmocka_unit_test(test_arrays_eight_levels_are_read_and_nine_refused),
        cmocka_unit_test(test_tensors_overlapping_ranges_are_accepted),
        cmocka_unit_test(test_tensors_unknown_types_are_listed_without_bytes),
        cmocka_unit_test(test_tensors_that_leave_the_file_are_refused),
        cmocka_unit_test(test_alignment_the_key_rules_where_it_is_a_u32),
        cmocka_unit_test(test_open_what_is_no_model_file_is_refused_by_kind),
        cmocka_unit_test(test_parse_each_failing_allocation_is_reported),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
