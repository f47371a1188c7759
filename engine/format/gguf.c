#include "engine/format/gguf.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/float.h"
#include "engine/base/mem.h"

enum type {
    T_U8,
    T_I8,
    T_U16,
    T_I16,
    T_U32,
    T_I32,
    T_F32,
    T_BOOL,
    T_STRING,
    T_ARRAY,
    T_U64,
    T_I64,
    T_F64,
    N_TYPE
};

/* Bytes of a value; 0 where the value itself says. */
static const struct {
    const char *name;
    uint32_t bytes;
} types[N_TYPE] = {
    [T_U8] = {"u8", 1},   [T_I8] = {"i8", 1},       [T_U16] = {"u16", 2},
    [T_I16] = {"i16", 2}, [T_U32] = {"u32", 4},     [T_I32] = {"i32", 4},
    [T_F32] = {"f32", 4}, [T_BOOL] = {"bool", 1},   [T_STRING] = {"string", 0},
    [T_U64] = {"u64", 8}, [T_ARRAY] = {"array", 0}, [T_I64] = {"i64", 8},
    [T_F64] = {"f64", 8},
};

enum {
    MIN_FILE = 32,   /* model.md 1.1 */
    MIN_META = 13,   /* key length, type, one byte */
    MIN_TENSOR = 32, /* name length, rank, one dimension, type, offset */
    MAX_DEPTH = 8,   /* of nested arrays */
    NAME_SHOWN = 80  /* bytes of a name in a message */
};

typedef struct meta {
    ds4_str key;
    uint32_t type, item_type; /* item_type and n_item: arrays */
    uint64_t n_item;
    const uint8_t *value; /* of an array: its first item */
} meta;

struct ds4_gguf {
    ds4_file *file; /* NULL when the bytes are the caller's */
    const uint8_t *p;
    size_t n;
    char *name;
    meta *meta;
    uint64_t n_meta;
    ds4_tensor *tensor;
    const ds4_tensor **by_name; /* sorted: no input makes a lookup slow */
    uint64_t n_tensor;
};

/* ---- reading with bounds ---- */

typedef struct cursor {
    const uint8_t *base, *p, *end;
    const char *name; /* of the file */
    ds4_err *err;
} cursor;

static size_t left(const cursor *c) { return (size_t)(c->end - c->p); }

static ds4_status take(cursor *c, const uint8_t **at, uint64_t n, const char *what) {
    if (n > left(c))
        return ds4_err_set(c->err, DS4_ERR_FORMAT, DS4_HERE,
                           "%.200s: %s at byte %zu needs %llu bytes, the file has %zu more",
                           c->name, what, (size_t)(c->p - c->base), (unsigned long long)n,
                           left(c));
    *at = c->p, c->p += n;
    return DS4_OK;
}

static ds4_status take_u32(cursor *c, uint32_t *v, const char *what) {
    const uint8_t *at = NULL;
    ds4_status st = take(c, &at, 4, what);
    if (st == DS4_OK) *v = ds4_le32(at);
    return st;
}

static ds4_status take_u64(cursor *c, uint64_t *v, const char *what) {
    const uint8_t *at = NULL;
    ds4_status st = take(c, &at, 8, what);
    if (st == DS4_OK) *v = ds4_le64(at);
    return st;
}

static ds4_status take_str(cursor *c, ds4_str *s, const char *what) {
    const uint8_t *at = NULL;
    uint64_t n = 0;
    ds4_status st = take_u64(c, &n, what);
    if (st == DS4_OK) st = take(c, &at, n, what);
    if (st == DS4_OK) s->p = (const char *)at, s->n = (size_t)n;
    return st;
}

static int shown(ds4_str s) { return s.n < NAME_SHOWN ? (int)s.n : NAME_SHOWN; }

/* ---- metadata ---- */

static ds4_status skip_items(cursor *c, uint32_t type, uint64_t n, int depth, ds4_str key);

/* Reads an array's head and moves past its items. */
static ds4_status take_array(cursor *c, meta *m, int depth, ds4_str key) {
    ds4_status st = DS4_OK;
    ds4_err *err = c->err;
    if (depth > MAX_DEPTH)
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %.*s nests arrays deeper than %d", c->name,
              shown(key), key.p, MAX_DEPTH);
    TRY(take_u32(c, &m->item_type, "an array's item type"));
    TRY(take_u64(c, &m->n_item, "an array's count"));
    m->value = c->p;
    TRY(skip_items(c, m->item_type, m->n_item, depth, key));
out:
    return st;
}

/* Moves past n values of one type. Every item has at least one byte, so that the work done here
 * never exceeds the bytes that are there. */
static ds4_status skip_items(cursor *c, uint32_t type, uint64_t n, int depth, ds4_str key) {
    ds4_status st = DS4_OK;
    ds4_err *err = c->err;
    const uint8_t *at = NULL;
    meta inner;
    ds4_str s;
    if (type >= N_TYPE)
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %.*s has unknown type %u, wanted 0 to %d",
              c->name, shown(key), key.p, type, N_TYPE - 1);
    if (n > left(c))
        RAISE(DS4_ERR_FORMAT,
              "%.200s: metadata %.*s counts %llu items, the file has %zu bytes more", c->name,
              shown(key), key.p, (unsigned long long)n, left(c));
    if (types[type].bytes) {
        TRY(take(c, &at, n * types[type].bytes, "a metadata value"));
    } else if (type == T_STRING) {
        for (uint64_t i = 0; i < n; i++) TRY(take_str(c, &s, "a metadata string"));
    } else {
        for (uint64_t i = 0; i < n; i++) TRY(take_array(c, &inner, depth + 1, key));
    }
out:
    return st;
}

static ds4_status take_meta(cursor *c, meta *m) {
    ds4_status st = DS4_OK;
    TRY(take_str(c, &m->key, "a metadata key"));
    TRY(take_u32(c, &m->type, "a metadata type"));
    m->value = c->p;
    if (m->type == T_ARRAY) TRY(take_array(c, m, 1, m->key));
    else TRY(skip_items(c, m->type, 1, 0, m->key));
out:
    return st;
}

/* ---- tensors ---- */

/* Elements and bytes of a tensor; false where they overflow 64 bits or a dimension is 0. */
static bool tensor_size(ds4_tensor *t) {
    t->n_elem = 1;
    for (uint32_t i = 0; i < t->n_dim; i++)
        if (t->ne[i] == 0 || __builtin_mul_overflow(t->n_elem, t->ne[i], &t->n_elem))
            return false;
    t->n_bytes = 0;
    if (!t->quant) return true;
    uint64_t n_block = t->n_elem / t->quant->n_elem + (t->n_elem % t->quant->n_elem != 0);
    return !__builtin_mul_overflow(n_block, (uint64_t)t->quant->n_bytes, &t->n_bytes);
}

static ds4_status take_tensor(cursor *c, ds4_tensor *t) {
    ds4_status st = DS4_OK;
    ds4_err *err = c->err;
    TRY(take_str(c, &t->name, "a tensor name"));
    TRY(take_u32(c, &t->n_dim, "a tensor rank"));
    if (t->n_dim < 1 || t->n_dim > DS4_GGUF_MAX_DIM)
        RAISE(DS4_ERR_FORMAT, "%.200s: tensor %.*s has rank %u, wanted 1 to %d", c->name,
              shown(t->name), t->name.p, t->n_dim, DS4_GGUF_MAX_DIM);
    for (uint32_t i = 0; i < DS4_GGUF_MAX_DIM; i++) t->ne[i] = 1;
    for (uint32_t i = 0; i < t->n_dim; i++) TRY(take_u64(c, &t->ne[i], "a tensor dimension"));
    TRY(take_u32(c, &t->type_id, "a tensor type"));
    TRY(take_u64(c, &t->offset, "a tensor offset"));
    t->quant = ds4_quant_by_id(t->type_id);
    if (!tensor_size(t))
        RAISE(DS4_ERR_FORMAT,
              "%.200s: tensor %.*s has a zero dimension or more elements than 64 bits count",
              c->name, shown(t->name), t->name.p);
out:
    return st;
}

/* Fixes each tensor's data. Ranges may overlap; each must lie in the file. */
static ds4_status place_tensors(ds4_gguf *g, uint64_t dir_end, uint32_t align, ds4_err *err) {
    ds4_status st = DS4_OK;
    /* dir_end is at most PTRDIFF_MAX and align at most 2^31: no overflow. */
    uint64_t start = (dir_end + align - 1) / align * align;
    uint64_t room = start < g->n ? g->n - start : 0;
    for (uint64_t i = 0; i < g->n_tensor; i++) {
        ds4_tensor *t = &g->tensor[i];
        if (t->offset > room || t->n_bytes > room - t->offset)
            RAISE(
                DS4_ERR_FORMAT,
                "%.200s: tensor %.*s at offset %llu has %llu bytes, the data section only %llu",
                g->name, shown(t->name), t->name.p, (unsigned long long)t->offset,
                (unsigned long long)t->n_bytes, (unsigned long long)room);
        if (t->offset % align)
            RAISE(DS4_ERR_FORMAT, "%.200s: tensor %.*s at offset %llu, wanted a multiple of %u",
                  g->name, shown(t->name), t->name.p, (unsigned long long)t->offset, align);
        t->data = room ? g->p + start + t->offset : g->p + g->n;
    }
out:
    return st;
}

static int compare_str(ds4_str a, ds4_str b) {
    size_t n = a.n < b.n ? a.n : b.n;
    int d = n ? memcmp(a.p, b.p, n) : 0;
    return d ? d : (a.n > b.n) - (a.n < b.n);
}

static int compare_tensors(const void *a, const void *b) {
    const ds4_tensor *const *x = a, *const *y = b;
    return compare_str((*x)->name, (*y)->name);
}

static ds4_status index_tensors(ds4_gguf *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    TRY(ds4_mem_alloc(&g->by_name, g->n_tensor, sizeof *g->by_name, err));
    for (uint64_t i = 0; i < g->n_tensor; i++) g->by_name[i] = &g->tensor[i];
    qsort(g->by_name, g->n_tensor, sizeof *g->by_name, compare_tensors);
    for (uint64_t i = 1; i < g->n_tensor; i++) {
        ds4_str s = g->by_name[i]->name;
        if (compare_str(g->by_name[i - 1]->name, s) == 0)
            RAISE(DS4_ERR_FORMAT, "%.200s: two tensors are named %.*s", g->name, shown(s), s.p);
    }
out:
    return st;
}

/* ---- the whole file ---- */

static ds4_status read_head(ds4_gguf *g, cursor *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t magic = 0, version = 0;
    if (g->n < MIN_FILE)
        RAISE(DS4_ERR_FORMAT, "%.200s: %zu bytes are no GGUF file, wanted at least %d", g->name,
              g->n, MIN_FILE);
    TRY(take_u32(c, &magic, "the magic"));
    if (magic != 0x46554747u)
        RAISE(DS4_ERR_FORMAT, "%.200s: not a GGUF file: magic 0x%08x, wanted 0x46554747",
              g->name, magic);
    TRY(take_u32(c, &version, "the version"));
    if (version != 3)
        RAISE(DS4_ERR_FORMAT, "%.200s: GGUF version %u, wanted 3", g->name, version);
    TRY(take_u64(c, &g->n_tensor, "the tensor count"));
    TRY(take_u64(c, &g->n_meta, "the metadata count"));
    /* Checked before anything is allocated: a count cannot exceed what the bytes can hold. */
    if (g->n_meta > left(c) / MIN_META)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: counts %llu metadata entries, %zu bytes hold at most %zu", g->name,
              (unsigned long long)g->n_meta, left(c), left(c) / MIN_META);
    if (g->n_tensor > (left(c) - g->n_meta * MIN_META) / MIN_TENSOR)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: counts %llu tensors, %zu bytes cannot hold their directory", g->name,
              (unsigned long long)g->n_tensor, left(c));
out:
    return st;
}

/* 32, or general.alignment where it is a u32 and not 0. Eight and powers of two are what the
 * format allows; they keep every f32 of a mapped file aligned. */
static ds4_status read_alignment(const ds4_gguf *g, uint32_t *align, ds4_err *err) {
    uint32_t v = 0;
    *align = 32;
    if (!ds4_gguf_u32(g, "general.alignment", &v) || v == 0) return DS4_OK;
    if (v < 8 || (v & (v - 1)))
        return ds4_err_set(err, DS4_ERR_FORMAT, DS4_HERE,
                           "%.200s: general.alignment is %u, wanted a power of two from 8",
                           g->name, v);
    *align = v;
    return DS4_OK;
}

ds4_status ds4_gguf_parse(ds4_gguf **out, const void *bytes, size_t n, const char *name,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_gguf *g = NULL;
    cursor c = {bytes, bytes, (const uint8_t *)bytes + n, name, err};
    uint32_t align;

    TRY(ds4_mem_alloc(&g, 1, sizeof *g, err));
    g->p = bytes, g->n = n;
    TRY(ds4_mem_strdup(&g->name, name, err));
    TRY(read_head(g, &c, err));
    TRY(ds4_mem_alloc(&g->meta, g->n_meta, sizeof *g->meta, err));
    for (uint64_t i = 0; i < g->n_meta; i++) TRY(take_meta(&c, &g->meta[i]));
    TRY(read_alignment(g, &align, err));
    /* Read before it is allocated for: now the metadata's real size is known. */
    if (g->n_tensor > left(&c) / MIN_TENSOR)
        RAISE(DS4_ERR_FORMAT, "%.200s: counts %llu tensors, %zu bytes hold at most %zu", name,
              (unsigned long long)g->n_tensor, left(&c), left(&c) / MIN_TENSOR);
    TRY(ds4_mem_alloc(&g->tensor, g->n_tensor, sizeof *g->tensor, err));
    for (uint64_t i = 0; i < g->n_tensor; i++) TRY(take_tensor(&c, &g->tensor[i]));
    TRY(place_tensors(g, (uint64_t)(c.p - c.base), align, err));
    TRY(index_tensors(g, err));
    *out = g, g = NULL;
out:
    ds4_gguf_close(g);
    return st;
}

ds4_status ds4_gguf_open(ds4_gguf **out, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file *file = NULL;
    ds4_gguf *g = NULL;

    TRY(ds4_file_open(&file, path, err));
    TRY(ds4_gguf_parse(&g, ds4_file_data(file), ds4_file_bytes(file), path, err));
    if (g->n_tensor == 0) RAISE(DS4_ERR_FORMAT, "%.300s: no tensors", path);
    g->file = file, file = NULL;
    *out = g, g = NULL;
out:
    ds4_gguf_close(g);
    ds4_file_close(file);
    return st;
}

void ds4_gguf_close(ds4_gguf *g) {
    if (!g) return;
    ds4_mem_free(g->by_name);
    ds4_mem_free(g->tensor);
    ds4_mem_free(g->meta);
    ds4_mem_free(g->name);
    ds4_file_close(g->file);
    ds4_mem_free(g);
}

void ds4_gguf_leave(ds4_gguf *g) {
    if (!g) return;
    ds4_file_leave(g->file);
    g->file = NULL;
    ds4_gguf_close(g);
}

const char *ds4_gguf_name(const ds4_gguf *g) { return g->name; }

const void *ds4_gguf_bytes(const ds4_gguf *g, size_t *n) {
    *n = g->n;
    return g->p;
}

uint64_t ds4_gguf_n_tensor(const ds4_gguf *g) { return g->n_tensor; }

const ds4_tensor *ds4_gguf_tensor(const ds4_gguf *g, uint64_t i) {
    return i < g->n_tensor ? &g->tensor[i] : NULL;
}

const ds4_tensor *ds4_gguf_find_tensor(const ds4_gguf *g, const char *name) {
    ds4_str want = {name, strlen(name)};
    uint64_t lo = 0, hi = g->n_tensor;
    while (lo < hi) {
        uint64_t mid = lo + (hi - lo) / 2;
        int d = compare_str(g->by_name[mid]->name, want);
        if (d == 0) return g->by_name[mid];
        if (d < 0) lo = mid + 1;
        else hi = mid;
    }
    return NULL;
}

/* ---- metadata by key ---- */

uint64_t ds4_gguf_n_meta(const ds4_gguf *g) { return g->n_meta; }

bool ds4_gguf_meta_at(const ds4_gguf *g, uint64_t i, ds4_str *key, uint32_t *type) {
    if (i >= g->n_meta) return false;
    *key = g->meta[i].key, *type = g->meta[i].type;
    return true;
}

static const meta *find(const ds4_gguf *g, const char *key) {
    ds4_str want = {key, strlen(key)};
    for (uint64_t i = 0; i < g->n_meta; i++)
        if (compare_str(g->meta[i].key, want) == 0) return &g->meta[i];
    return NULL;
}

static const meta *find_type(const ds4_gguf *g, const char *key, uint32_t type) {
    const meta *m = find(g, key);
    return m && m->type == type ? m : NULL;
}

bool ds4_gguf_has(const ds4_gguf *g, const char *key) { return find(g, key) != NULL; }

const char *ds4_gguf_type_name(uint32_t type) {
    return type < N_TYPE ? types[type].name : "unknown";
}

const char *ds4_gguf_type_of(const ds4_gguf *g, const char *key) {
    const meta *m = find(g, key);
    return m ? ds4_gguf_type_name(m->type) : "nothing";
}

bool ds4_gguf_u32(const ds4_gguf *g, const char *key, uint32_t *out) {
    const meta *m = find_type(g, key, T_U32);
    if (m) *out = ds4_le32(m->value);
    return m != NULL;
}

bool ds4_gguf_u64(const ds4_gguf *g, const char *key, uint64_t *out) {
    const meta *m = find(g, key);
    if (!m || (m->type != T_U32 && m->type != T_U64)) return false;
    *out = m->type == T_U64 ? ds4_le64(m->value) : ds4_le32(m->value);
    return true;
}

static double f64_at(const uint8_t *p) {
    uint64_t u = ds4_le64(p);
    double x;
    memcpy(&x, &u, 8);
    return x;
}

static bool number_at(const uint8_t *p, uint32_t type, double *out) {
    switch (type) {
    case T_F32:
        *out = (double)ds4_f32_from_bits(ds4_le32(p));
        return true;
    case T_F64:
        *out = f64_at(p);
        return true;
    case T_U32:
        *out = (double)ds4_le32(p);
        return true;
    case T_I32:
        *out = (double)(int32_t)ds4_le32(p);
        return true;
    default:
        return false;
    }
}

bool ds4_gguf_number(const ds4_gguf *g, const char *key, double *out) {
    const meta *m = find(g, key);
    return m && number_at(m->value, m->type, out);
}

bool ds4_gguf_bool(const ds4_gguf *g, const char *key, bool *out) {
    const meta *m = find_type(g, key, T_BOOL);
    if (m) *out = *m->value != 0;
    return m != NULL;
}

bool ds4_gguf_string(const ds4_gguf *g, const char *key, ds4_str *out) {
    const meta *m = find_type(g, key, T_STRING);
    if (m) out->p = (const char *)m->value + 8, out->n = (size_t)ds4_le64(m->value);
    return m != NULL;
}

bool ds4_gguf_array_n(const ds4_gguf *g, const char *key, uint64_t *n) {
    const meta *m = find_type(g, key, T_ARRAY);
    if (m) *n = m->n_item;
    return m != NULL;
}

bool ds4_gguf_array_u32(const ds4_gguf *g, const char *key, uint64_t i, uint32_t *out) {
    const meta *m = find_type(g, key, T_ARRAY);
    if (!m || i >= m->n_item || (m->item_type != T_U32 && m->item_type != T_I32)) return false;
    uint32_t v = ds4_le32(m->value + 4 * i);
    if (m->item_type == T_I32 && v > INT32_MAX) return false;
    *out = v;
    return true;
}

bool ds4_gguf_array_number(const ds4_gguf *g, const char *key, uint64_t i, double *out) {
    const meta *m = find_type(g, key, T_ARRAY);
    if (!m || i >= m->n_item || (m->item_type != T_F32 && m->item_type != T_F64)) return false;
    return number_at(m->value + types[m->item_type].bytes * i, m->item_type, out);
}

bool ds4_gguf_array_strings(const ds4_gguf *g, const char *key,
                            bool (*fn)(void *user, uint64_t i, ds4_str s), void *user) {
    const meta *m = find_type(g, key, T_ARRAY);
    if (!m || m->item_type != T_STRING) return false;
    const uint8_t *p = m->value; /* the parser has walked these lengths */
    for (uint64_t i = 0; i < m->n_item; i++) {
        ds4_str s = {(const char *)p + 8, (size_t)ds4_le64(p)};
        if (!fn(user, i, s)) break;
        p += 8 + s.n;
    }
    return true;
}
