/* Damaged models: every fault below must be refused by one of parse, config, weights or
 * tokenizer with DS4_ERR_FORMAT and one line, in bounded memory. Random flips may also leave a
 * valid model; those are opened, counted apart, and must only not crash. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <cmocka.h>

#include "engine/format/tokenizer.h"
#include "engine/model/weights.h"

#define MODEL "fixtures/tiny/ds4-tiny-q2.gguf"

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif

enum { U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 };

static struct {
    uint8_t *p; /* a copy whose bytes are damaged and restored */
    size_t n;
    size_t head;    /* bytes before the tensor data */
    ds4_gguf *g;    /* of the undamaged bytes; names and offsets only */
    ds4_weights *w; /* scratch */
    int n_refused, n_valid;
} m;

/* A program that asks for what a lying count says runs into this limit and reports MEMORY,
 * which no case accepts. Sanitizers reserve address space of their own. */
static void limit_memory(void) {
#ifndef SANITIZED
    struct rlimit r = {(rlim_t)256 << 20, (rlim_t)256 << 20};
    assert_int_equal(setrlimit(RLIMIT_AS, &r), 0);
#endif
}

static ds4_status open_bytes(const uint8_t *p, size_t n, ds4_err *err) {
    ds4_gguf *g = NULL;
    ds4_tokenizer *t = NULL;
    ds4_config cfg;
    ds4_status st = ds4_gguf_parse(&g, p, n, "damaged", err);
    if (st == DS4_OK) st = ds4_config_read(&cfg, g, err);
    if (st == DS4_OK) st = ds4_weights_bind(m.w, g, &cfg, err);
    if (st == DS4_OK) st = ds4_tokenizer_new(&t, g, err);
    ds4_tokenizer_free(t);
    ds4_gguf_close(g);
    return st;
}

static void check_refusal(ds4_status st, const ds4_err *err, const char *what) {
    size_t n = strlen(err->message);
    if (st != DS4_ERR_FORMAT)
        fail_msg("%s: status %d, wanted DS4_ERR_FORMAT: %s", what, st, err->message);
    assert_int_equal(err->status, st);
    assert_int_equal(ds4_err_exit_code(st), 65);
    assert_true(n > 10 && n < sizeof err->message);
    assert_null(strpbrk(err->message, "\n\r"));
    assert_non_null(err->origin);
    m.n_refused++;
}

static void refuse(const uint8_t *p, size_t n, const char *what) {
    ds4_err err = {0};
    check_refusal(open_bytes(p, n, &err), &err, what);
}

/* In memory of exactly this size, so that a sanitizer sees one byte too many. */
static void refuse_exact(const uint8_t *p, size_t n, const char *what) {
    uint8_t *q = malloc(n ? n : 1);
    assert_non_null(q);
    if (n) memcpy(q, p, n);
    refuse(q, n, what);
    free(q);
}

static void try_any(const char *what) {
    ds4_err err = {0};
    ds4_status st = open_bytes(m.p, m.n, &err);
    if (st == DS4_OK) m.n_valid++;
    else check_refusal(st, &err, what);
}

static void with_bytes(uint8_t *at, const void *v, size_t n, const char *what) {
    uint8_t old[16];
    assert_true(n <= sizeof old && at >= m.p && at + n <= m.p + m.n);
    memcpy(old, at, n);
    memcpy(at, v, n);
    refuse(m.p, m.n, what);
    memcpy(at, old, n);
}
static void with_u32(uint8_t *at, uint32_t v, const char *what) { with_bytes(at, &v, 4, what); }
static void with_u64(uint8_t *at, uint64_t v, const char *what) { with_bytes(at, &v, 8, what); }

/* A pointer of the undamaged model, in the copy that may be written. */
static uint8_t *mine(const void *p) {
    size_t n;
    const uint8_t *base = ds4_gguf_bytes(m.g, &n);
    return m.p + ((const uint8_t *)p - base);
}

static int open_model(void **state) {
    (void)state;
    size_t n;
    if (ds4_gguf_open(&m.g, MODEL, NULL) != DS4_OK) return -1;
    const uint8_t *p = ds4_gguf_bytes(m.g, &n);
    m.n = n;
    m.p = malloc(n), m.w = malloc(sizeof *m.w);
    if (!m.p || !m.w) return -1;
    memcpy(m.p, p, n);
    m.head = n;
    for (uint64_t i = 0; i < ds4_gguf_n_tensor(m.g); i++) {
        size_t at = (size_t)(ds4_gguf_tensor(m.g, i)->data - p);
        if (at < m.head) m.head = at;
    }
    limit_memory();
    return 0;
}

static int close_model(void **state) {
    (void)state;
    ds4_gguf_close(m.g);
    free(m.p), free(m.w);
    return 0;
}

static void test_undamaged_model_is_opened(void **state) {
    ds4_err err = {0};
    (void)state;
    if (open_bytes(m.p, m.n, &err) != DS4_OK) fail_msg("%s", err.message);
}

static void test_truncated_anywhere_is_refused(void **state) {
    (void)state;
    for (size_t n = 0; n < 64; n++) refuse_exact(m.p, n, "first bytes");
    for (size_t i = 0; i < 120; i++) refuse_exact(m.p, 64 + (m.head - 64) * i / 120, "head");
    for (size_t i = 0; i < 12; i++)
        refuse_exact(m.p, m.head + (m.n - 4096 - m.head) * i / 12, "data");
}

static void test_lying_head_is_refused(void **state) {
    static const uint64_t counts[] = {(uint64_t)1 << 20, (uint64_t)1 << 32, (uint64_t)1 << 60,
                                      (uint64_t)1 << 61, (uint64_t)1 << 63, UINT64_MAX};
    (void)state;
    with_u32(m.p, 0x46554748u, "magic");
    with_u32(m.p, 0x47475546u, "magic of the other byte order");
    for (uint32_t v = 0; v < 6; v++)
        if (v != 3) with_u32(m.p + 4, v, "version");
    with_u32(m.p + 4, 0x03000000u, "version of the other byte order");
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++) {
        with_u64(m.p + 8, counts[i], "tensor count");
        with_u64(m.p + 16, counts[i], "metadata count");
    }
    with_u64(m.p + 8, 0, "no tensors");
    with_u64(m.p + 8, ds4_gguf_n_tensor(m.g) - 1, "one tensor fewer");
    with_u64(m.p + 8, ds4_gguf_n_tensor(m.g) + 1, "one tensor more");
    with_u64(m.p + 16, 0, "no metadata");
    with_u64(m.p + 16, ds4_gguf_n_meta(m.g) - 1, "one entry fewer");
    with_u64(m.p + 16, ds4_gguf_n_meta(m.g) + 1, "one entry more");
}

static bool is_required(ds4_str key) {
    static const char *const free_keys[] = {
        "rope.scaling.type", "expert_gating_func", "context_length",
        "token_type",        "padding_token_id",   "bos_token_id",
        "eos_token_id",      "ggml.model",         "ggml.pre"};
    if (key.n > 8 && !memcmp(key.p, "general.", 8)) return false;
    for (size_t i = 0; i < sizeof free_keys / sizeof *free_keys; i++) {
        size_t k = strlen(free_keys[i]);
        if (key.n >= k && !memcmp(key.p + key.n - k, free_keys[i], k) &&
            (key.n == k || key.p[key.n - k - 1] == '.'))
            return memmem(key.p, key.n, "original", 8) != NULL;
    }
    return true;
}

static void test_metadata_each_entry_damaged_is_refused(void **state) {
    ds4_str key;
    uint32_t type;
    (void)state;
    for (uint64_t i = 0; ds4_gguf_meta_at(m.g, i, &key, &type); i++) {
        uint8_t *at = mine(key.p), *value = at + key.n + 4;
        with_u64(at - 8, UINT64_MAX, "key length");
        with_u64(at - 8, (uint64_t)1 << 61, "key length");
        with_u32(value - 4, 13, "value type");
        with_u32(value - 4, 0x80000008u, "value type");
        if (type == STRING || type == ARRAY) {
            uint8_t *count = type == STRING ? value : value + 4;
            with_u64(count, (uint64_t)1 << 61, "length");
            with_u64(count, UINT64_MAX - 7, "length");
            with_u64(count, m.n, "length");
        }
        if (type == ARRAY) with_u32(value, 13, "item type");
        if (!is_required(key)) continue;
        with_bytes(at, "?", 1, "key spelled otherwise");
        if (type != ARRAY && type != BOOL)
            with_u32(value - 4, type == F32 ? STRING : I32 + (type == I32), "other type");
        if (type == F32) {
            with_u32(value, 0x7fc00000u, "NaN");
            with_u32(value, 0x7f800000u, "infinity");
            with_u32(value, 0xff800000u, "minus infinity");
        }
        bool any = memmem(key.p, key.n, "original_context_length", 23) != NULL;
        if (type == U32) with_u32(value, any ? 0 : UINT32_MAX, "absurd count");
    }
}

static void test_alignment_damaged_is_refused(void **state) {
    static const uint32_t bad[] = {1,  2,  3,           7,           24,
                                   33, 48, 0x7fffffffu, 0x80000000u, UINT32_MAX};
    ds4_str key;
    uint32_t type;
    (void)state;
    for (uint64_t i = 0; ds4_gguf_meta_at(m.g, i, &key, &type); i++)
        if (key.n == 17 && !memcmp(key.p, "general.alignment", 17))
            for (size_t k = 0; k < sizeof bad / sizeof *bad; k++)
                with_u32(mine(key.p) + 17 + 4, bad[k], "alignment");
}

/* Bytes after a tensor's name: rank, dimensions, type, offset. */
static void test_directory_each_entry_damaged_is_refused(void **state) {
    (void)state;
    for (uint64_t i = 0; i < ds4_gguf_n_tensor(m.g); i++) {
        const ds4_tensor *t = ds4_gguf_tensor(m.g, i);
        uint8_t *name = mine(t->name.p), *rank = name + t->name.n, *ne = rank + 4;
        uint8_t *type = ne + 8 * t->n_dim, *offset = type + 4;
        bool optional = memmem(t->name.p, t->name.n, "exp_probs_b", 11) != NULL;
        if (!optional) with_bytes(name, "?", 1, "missing tensor");
        with_u64(name - 8, (uint64_t)1 << 60, "name length");
        with_u32(rank, 0, "rank 0");
        with_u32(rank, 9, "rank 9");
        with_u32(rank, UINT32_MAX, "rank");
        with_u64(ne, 0, "zero dimension");
        with_u64(ne, t->ne[0] + 1, "row one longer");
        with_u64(ne, (uint64_t)1 << 62, "huge row");
        with_u64(ne, UINT64_MAX, "elements past 64 bits");
        with_u32(type, 77, "unknown type");
        with_u32(type, t->type_id == 26 ? 0 : 26, "type of another kind");
        with_u64(offset, m.n / 32 * 32, "offset past the end");
        with_u64(offset, UINT64_MAX - 31, "offset that wraps");
        with_u64(offset, t->offset + 4, "offset off the alignment");
    }
}

static void test_hash_table_each_wrong_expert_is_refused(void **state) {
    static const uint32_t bad[] = {8, 255, 0x7fffffffu, 0x80000000u, UINT32_MAX};
    char name[] = "blk.0.ffn_gate_tid2eid.weight";
    (void)state;
    for (; name[4] < '3'; name[4]++) {
        const ds4_tensor *t = ds4_gguf_find_tensor(m.g, name);
        assert_non_null(t);
        for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
            with_u32(mine(t->data), bad[i], "first id");
            with_u32(mine(t->data) + t->n_bytes - 4, bad[i], "last id");
        }
    }
}

static void test_vocabulary_without_a_special_is_refused(void **state) {
    static const char *const text[] = {"<｜begin▁of▁sentence｜>",
                                       "<｜end▁of▁sentence｜>",
                                       "<｜User｜>",
                                       "<｜Assistant｜>",
                                       "<think>",
                                       "</think>",
                                       "｜DSML｜"};
    (void)state;
    for (size_t i = 0; i < sizeof text / sizeof *text; i++) {
        size_t k = strlen(text[i]);
        uint8_t length[8] = {(uint8_t)k}; /* with its length before it: not a part of another */
        uint8_t *at = m.p;
        int n = 0;
        while ((at = memmem(at, m.head - (size_t)(at - m.p), text[i], k)) != NULL) {
            if (!memcmp(at - 8, length, 8))
                with_bytes(at + k - 1, "?", 1, "special token"), n++;
            at++;
        }
        assert_int_equal(n, 1);
    }
}

/* ---- whole files made to deceive ---- */

typedef struct buffer {
    uint8_t p[8192];
    size_t n;
} buffer;

static void put(buffer *b, const void *p, size_t n) {
    assert_true(b->n + n <= sizeof b->p);
    memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void put_u32(buffer *b, uint32_t v) { put(b, &v, 4); }
static void put_u64(buffer *b, uint64_t v) { put(b, &v, 8); }

static void put_head(buffer *b, uint64_t n_tensor, uint64_t n_meta) {
    b->n = 0;
    put(b, "GGUF\3\0\0\0", 8);
    put_u64(b, n_tensor), put_u64(b, n_meta);
}

static void put_key(buffer *b, uint32_t type) {
    put_u64(b, 1), put(b, "k", 1), put_u32(b, type);
}

static void refuse_made(buffer *b, const char *what) {
    put(b, (char[64]){0}, 64);
    refuse_exact(b->p, b->n, what);
}

static void test_made_arrays_that_nest_or_count_absurdly_are_refused(void **state) {
    buffer b;
    (void)state;
    for (int depth = 9; depth < 600; depth += 37) { /* as deep as the bytes go */
        put_head(&b, 0, 1), put_key(&b, ARRAY);
        for (int i = 0; i < depth; i++) put_u32(&b, ARRAY), put_u64(&b, 1);
        refuse_made(&b, "nested");
    }
    for (uint32_t type = 0; type <= F64; type++)
        for (int bit = 59; bit < 64; bit++) {
            put_head(&b, 0, 1), put_key(&b, ARRAY);
            put_u32(&b, type), put_u64(&b, (uint64_t)1 << bit);
            refuse_made(&b, "count");
        }
    for (int depth = 1; depth < 8; depth++) { /* 2^40 at each level */
        put_head(&b, 0, 1), put_key(&b, ARRAY);
        for (int i = 0; i < depth; i++) put_u32(&b, ARRAY), put_u64(&b, (uint64_t)1 << 40);
        refuse_made(&b, "product of counts");
    }
}

static void test_made_sizes_that_overflow_are_refused(void **state) {
    static const uint32_t types[] = {0, 1, 8, 10, 12, 16, 26, 30, 77};
    buffer b;
    (void)state;
    for (size_t k = 0; k < sizeof types / sizeof *types; k++)
        for (uint32_t rank = 1; rank <= 8; rank++) {
            put_head(&b, 1, 0);
            put_u64(&b, 1), put(&b, "t", 1), put_u32(&b, rank);
            /* 2^64 elements in all; of rank 1, 2^64 - 1: its bytes overflow instead. */
            for (uint32_t i = 0; i < rank; i++)
                put_u64(&b, rank == 1 ? UINT64_MAX : (uint64_t)1 << (64 + rank - 1) / rank);
            put_u32(&b, types[k]), put_u64(&b, 0);
            refuse_made(&b, "elements");
        }
}

/* ---- random damage ---- */

static uint32_t next_u32(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return (uint32_t)(*s >> 16);
}

static void test_random_flips_never_crash(void **state) {
    uint64_t s = 0xd1342543de82ef95u;
    (void)state;
    for (int round = 0; round < 1200; round++) {
        size_t at[8];
        uint8_t old[8];
        uint32_t n = 1 + next_u32(&s) % 8;
        /* A third in the header and the metadata's start, a third in the directory. */
        for (uint32_t i = 0; i < n; i++) {
            size_t from = round % 3 == 1 ? m.head - 11000 : 0;
            size_t room = round % 3 == 0 ? 2600 : round % 3 == 1 ? 11000 : m.head;
            at[i] = from + next_u32(&s) % room;
            old[i] = m.p[at[i]];
            m.p[at[i]] =
                (uint8_t)(old[i] ^ (round & 1 ? next_u32(&s) : 1u << next_u32(&s) % 8));
        }
        try_any("flip");
        for (uint32_t i = n; i-- > 0;) m.p[at[i]] = old[i];
    }
}

/* Two tensors on the same bytes are legal: files share ranges on purpose. */
static void test_overlapping_tensors_are_opened(void **state) {
    const ds4_tensor *a = ds4_gguf_find_tensor(m.g, "blk.0.attn_norm.weight");
    const ds4_tensor *b = ds4_gguf_find_tensor(m.g, "blk.1.attn_norm.weight");
    ds4_err err = {0};
    (void)state;
    uint8_t *offset = mine(b->name.p) + b->name.n + 4 + 8 + 4;
    uint64_t old = b->offset;
    memcpy(offset, &a->offset, 8);
    assert_int_equal(open_bytes(m.p, m.n, &err), DS4_OK);
    uint64_t straddle = a->offset + 32;
    memcpy(offset, &straddle, 8);
    assert_int_equal(open_bytes(m.p, m.n, &err), DS4_OK);
    memcpy(offset, &old, 8);
}

static void test_damaged_file_on_disk_is_refused(void **state) {
    char path[] = "/tmp/ds4-test-hostile-XXXXXX";
    int fd = mkstemp(path);
    ds4_gguf *g = NULL;
    ds4_err err = {0};
    (void)state;
    assert_true(fd >= 0);
    check_refusal(ds4_gguf_open(&g, path, &err), &err, "empty file");
    assert_int_equal(write(fd, m.p, m.head / 2), m.head / 2);
    check_refusal(ds4_gguf_open(&g, path, &err), &err, "half a head");
    assert_null(g);
    close(fd);
    unlink(path);
}

static void test_count_at_least_200_files_were_refused(void **state) {
    (void)state;
    print_message("refused %d damaged files; %d damaged files were still valid and opened\n",
                  m.n_refused, m.n_valid);
    assert_true(m.n_refused >= 200);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_undamaged_model_is_opened),
        cmocka_unit_test(test_truncated_anywhere_is_refused),
        cmocka_unit_test(test_lying_head_is_refused),
        cmocka_unit_test(test_metadata_each_entry_damaged_is_refused),
        cmocka_unit_test(test_alignment_damaged_is_refused),
        cmocka_unit_test(test_directory_each_entry_damaged_is_refused),
        cmocka_unit_test(test_hash_table_each_wrong_expert_is_refused),
        cmocka_unit_test(test_vocabulary_without_a_special_is_refused),
        cmocka_unit_test(test_made_arrays_that_nest_or_count_absurdly_are_refused),
        cmocka_unit_test(test_made_sizes_that_overflow_are_refused),
        cmocka_unit_test(test_random_flips_never_crash),
        cmocka_unit_test(test_overlapping_tensors_are_opened),
        cmocka_unit_test(test_damaged_file_on_disk_is_refused),
        cmocka_unit_test(test_count_at_least_200_files_were_refused),
    };
    return cmocka_run_group_tests(tests, open_model, close_model);
}
