#include "engine/format/gguf_write.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/float.h"
#include "engine/base/mem.h"

/* Value types of model.md 1.2. */
enum { U32 = 4, F32 = 6, BOOL = 7, STRING = 8, ARRAY = 9, U64 = 10 };
enum { N_TENSOR_AT = 8, N_META_AT = 16 }; /* counts in the head */

struct ds4_gguf_writer {
    uint8_t *head;
    size_t n_head, cap;
    uint64_t n_tensor, n_meta;
    ds4_status st; /* of the first put that failed */
    ds4_err err;
    ds4_file_writer *file; /* NULL: not begun, or ended */
    bool begun;
    uint64_t at, n_data; /* in the data section */
};

/* ---- bytes ---- */

static void put(ds4_gguf_writer *w, const void *p, size_t n) {
    size_t end = 0;
    if (w->st != DS4_OK) return;
    if (!ds4_add_size(&end, w->n_head, n)) end = SIZE_MAX; /* which no allocation gives */
    if (end > w->cap) {
        size_t cap = end > SIZE_MAX / 2 ? end : 2 * end;
        w->st = ds4_mem_grow(&w->head, cap, 1, &w->err);
        if (w->st != DS4_OK) return;
        w->cap = cap;
    }
    if (n) memcpy(w->head + w->n_head, p, n);
    w->n_head = end;
}

static void store_le(uint8_t *p, uint64_t v, size_t n) {
    for (size_t i = 0; i < n; i++) p[i] = (uint8_t)(v >> 8 * i);
}

static void put_le(ds4_gguf_writer *w, uint64_t v, size_t n) {
    uint8_t b[8];
    store_le(b, v, n);
    put(w, b, n);
}

static void put_text(ds4_gguf_writer *w, const char *s) {
    put_le(w, strlen(s), 8);
    put(w, s, strlen(s));
}

static void put_key(ds4_gguf_writer *w, const char *key, uint32_t type) {
    put_text(w, key);
    put_le(w, type, 4);
    w->n_meta++;
}

static void put_array(ds4_gguf_writer *w, const char *key, uint32_t type, uint64_t n) {
    put_key(w, key, ARRAY);
    put_le(w, type, 4);
    put_le(w, n, 8);
}

ds4_status ds4_gguf_writer_new(ds4_gguf_writer **out, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_gguf_writer *w = NULL;
    TRY(ds4_mem_alloc(&w, 1, sizeof *w, err));
    put(w, "GGUF\3\0\0\0", 8);
    put(w, (const uint8_t[16]){0}, 16); /* the two counts, known at the end */
    *out = w;
out:
    return st;
}

void ds4_gguf_writer_free(ds4_gguf_writer *w) {
    if (!w) return;
    ds4_file_writer_abandon(w->file);
    ds4_mem_free(w->head);
    ds4_mem_free(w);
}

/* ---- the head ---- */

void ds4_gguf_put_u32(ds4_gguf_writer *w, const char *key, uint32_t v) {
    put_key(w, key, U32);
    put_le(w, v, 4);
}
void ds4_gguf_put_u64(ds4_gguf_writer *w, const char *key, uint64_t v) {
    put_key(w, key, U64);
    put_le(w, v, 8);
}
void ds4_gguf_put_f32(ds4_gguf_writer *w, const char *key, float v) {
    put_key(w, key, F32);
    put_le(w, ds4_f32_bits(v), 4);
}
void ds4_gguf_put_bool(ds4_gguf_writer *w, const char *key, bool v) {
    put_key(w, key, BOOL);
    put_le(w, v, 1);
}
void ds4_gguf_put_string(ds4_gguf_writer *w, const char *key, const char *v) {
    put_key(w, key, STRING);
    put_text(w, v);
}

void ds4_gguf_put_array_u32(ds4_gguf_writer *w, const char *key, const uint32_t *v,
                            uint64_t n) {
    put_array(w, key, U32, n);
    for (uint64_t i = 0; i < n; i++) put_le(w, v[i], 4);
}
void ds4_gguf_put_array_f32(ds4_gguf_writer *w, const char *key, const float *v, uint64_t n) {
    put_array(w, key, F32, n);
    for (uint64_t i = 0; i < n; i++) put_le(w, ds4_f32_bits(v[i]), 4);
}
void ds4_gguf_put_strings(ds4_gguf_writer *w, const char *key, uint64_t n) {
    put_array(w, key, STRING, n);
}
void ds4_gguf_put_item(ds4_gguf_writer *w, const char *s) { put_text(w, s); }

void ds4_gguf_put_tensor(ds4_gguf_writer *w, const char *name, const ds4_quant *q,
                         const uint64_t *ne, uint32_t n_dim, uint64_t offset) {
    if (offset % DS4_GGUF_ALIGN && w->st == DS4_OK)
        w->st = ds4_err_set(&w->err, DS4_ERR_INTERNAL, DS4_HERE,
                            "tensor %s at offset %llu, wanted a multiple of %d", name,
                            (unsigned long long)offset, DS4_GGUF_ALIGN);
    put_text(w, name);
    put_le(w, n_dim, 4);
    for (uint32_t i = 0; i < n_dim; i++) put_le(w, ne[i], 8);
    put_le(w, q->id, 4);
    put_le(w, offset, 8);
    w->n_tensor++;
}

ds4_status ds4_gguf_writer_head(const ds4_gguf_writer *w, uint64_t *bytes, ds4_err *err) {
    if (w->st != DS4_OK) {
        if (err) *err = w->err;
        return w->st;
    }
    *bytes = (w->n_head + DS4_GGUF_ALIGN - 1) / DS4_GGUF_ALIGN * DS4_GGUF_ALIGN;
    return DS4_OK;
}

/* ---- the file ---- */

static ds4_status write_zeros(ds4_gguf_writer *w, uint64_t n, ds4_err *err) {
    static const uint8_t zero[4096];
    ds4_status st = DS4_OK;
    for (uint64_t k; n; n -= k) {
        k = n < sizeof zero ? n : sizeof zero;
        TRY(ds4_file_writer_put(w->file, zero, (size_t)k, err));
    }
out:
    return st;
}

ds4_status ds4_gguf_writer_begin(ds4_gguf_writer *w, const char *path, uint64_t data_bytes,
                                 ds4_err *err) {
    ds4_status st = DS4_OK;
    uint64_t head = 0;
    if (w->begun) RAISE(DS4_ERR_INTERNAL, "gguf_write: %.200s is not the first file", path);
    TRY(ds4_gguf_writer_head(w, &head, err));
    if (head > INT64_MAX || data_bytes > INT64_MAX - head)
        RAISE(DS4_ERR_IO, "%.200s: %llu bytes, wanted less than 2^63", path,
              (unsigned long long)data_bytes);
    w->begun = true;
    store_le(w->head + N_TENSOR_AT, w->n_tensor, 8);
    store_le(w->head + N_META_AT, w->n_meta, 8);
    w->n_data = data_bytes;
    TRY(ds4_file_writer_open(&w->file, path, err));
    TRY(ds4_file_writer_reserve(w->file, head + data_bytes, err));
    TRY(ds4_file_writer_put(w->file, w->head, w->n_head, err));
    TRY(write_zeros(w, head - w->n_head, err));
out:
    return st;
}

ds4_status ds4_gguf_writer_data(ds4_gguf_writer *w, uint64_t offset, const void *p, size_t n,
                                ds4_err *err) {
    ds4_status st = DS4_OK;
    if (!w->file) RAISE(DS4_ERR_INTERNAL, "gguf_write: data before begin or after end");
    if (offset < w->at || offset > w->n_data || n > w->n_data - offset)
        RAISE(DS4_ERR_INTERNAL, "gguf_write: %zu bytes at %llu, wanted within %llu to %llu", n,
              (unsigned long long)offset, (unsigned long long)w->at,
              (unsigned long long)w->n_data);
    TRY(write_zeros(w, offset - w->at, err));
    TRY(ds4_file_writer_put(w->file, p, n, err));
    w->at = offset + n;
out:
    return st;
}

ds4_status ds4_gguf_writer_end(ds4_gguf_writer *w, ds4_err *err) {
    ds4_status st = DS4_OK;
    TRY(ds4_gguf_writer_data(w, w->n_data, "", 0, err));
    st = ds4_file_writer_finish(w->file, err);
    w->file = NULL;
out:
    return st;
}
