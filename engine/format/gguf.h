#ifndef DS4_FORMAT_GGUF_H
#define DS4_FORMAT_GGUF_H
/* GGUF version 3: bytes in, a directory of metadata and tensors out.
 *
 * Every count, length, offset and type is checked against the bytes that are there before it is
 * used; a hostile file gives DS4_ERR_FORMAT and one line, never a crash, a hang or an
 * allocation larger than a small multiple of the file. Two tensors of one name are refused.
 * Data ranges of tensors may overlap (files share ranges on purpose). Nothing is copied: names
 * and data point into the mapping.
 * Source: model.md 1.1 to 1.3; general.alignment as the format's own rules want it (a power of
 * two from 8, 0 read as 32), offsets a multiple of it. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/format/quant.h"

#define DS4_GGUF_MAX_DIM 8

typedef struct ds4_gguf ds4_gguf;

typedef struct ds4_str { /* not terminated */
    const char *p;
    size_t n;
} ds4_str;

typedef struct ds4_tensor {
    ds4_str name;
    uint32_t n_dim;
    uint64_t ne[DS4_GGUF_MAX_DIM]; /* fastest first; 1 past n_dim */
    const ds4_quant *quant;        /* NULL when the type id is unknown */
    uint32_t type_id;
    uint64_t offset; /* in the data section */
    const uint8_t *data;
    uint64_t n_elem, n_bytes; /* n_bytes 0 when the type id is unknown */
} ds4_tensor;

/* Maps and parses a file. Owns: the caller closes *out. */
ds4_status ds4_gguf_open(ds4_gguf **out, const char *path, ds4_err *err);
/* Parses bytes that outlive *out. `name` is used in messages. */
ds4_status ds4_gguf_parse(ds4_gguf **out, const void *bytes, size_t n, const char *name,
                          ds4_err *err);
void ds4_gguf_close(ds4_gguf *g);
/* The same, but a file that was opened stays mapped until the process ends. */
void ds4_gguf_leave(ds4_gguf *g);

const char *ds4_gguf_name(const ds4_gguf *g);
const void *ds4_gguf_bytes(const ds4_gguf *g, size_t *n);
uint64_t ds4_gguf_n_tensor(const ds4_gguf *g);
const ds4_tensor *ds4_gguf_tensor(const ds4_gguf *g, uint64_t i);
const ds4_tensor *ds4_gguf_find_tensor(const ds4_gguf *g, const char *name); /* NULL: absent */

/* Metadata by key; the first of duplicate keys wins. A getter returns false when the key is
 * absent or its value has another type than those named; *out is then untouched. */
uint64_t ds4_gguf_n_meta(const ds4_gguf *g);
bool ds4_gguf_meta_at(const ds4_gguf *g, uint64_t i, ds4_str *key, uint32_t *type);
bool ds4_gguf_has(const ds4_gguf *g, const char *key);
/* The name of a metadata value type ("u32", "array"), "unknown" for any other number; and of
 * the value of a key, "nothing" when the key is absent. For messages. */
const char *ds4_gguf_type_name(uint32_t type);
const char *ds4_gguf_type_of(const ds4_gguf *g, const char *key);
bool ds4_gguf_u32(const ds4_gguf *g, const char *key, uint32_t *out);
bool ds4_gguf_u64(const ds4_gguf *g, const char *key, uint64_t *out);  /* u64 or u32 */
bool ds4_gguf_number(const ds4_gguf *g, const char *key, double *out); /* f32 f64 u32 i32 */
bool ds4_gguf_bool(const ds4_gguf *g, const char *key, bool *out);
bool ds4_gguf_string(const ds4_gguf *g, const char *key, ds4_str *out);
/* Arrays of u32 or non-negative i32; of f32 or f64; of strings. n: count; items by index. */
bool ds4_gguf_array_n(const ds4_gguf *g, const char *key, uint64_t *n);
bool ds4_gguf_array_u32(const ds4_gguf *g, const char *key, uint64_t i, uint32_t *out);
bool ds4_gguf_array_number(const ds4_gguf *g, const char *key, uint64_t i, double *out);
/* Visits the strings of an array in order (strings have no random access); stops early when fn
 * returns false. Returns false when the key is absent or not an array of strings. */
bool ds4_gguf_array_strings(const ds4_gguf *g, const char *key,
                            bool (*fn)(void *user, uint64_t i, ds4_str s), void *user);

#endif
