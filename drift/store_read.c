#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drift/seal.h"
#include "drift/store_hdf5.h"
#include "engine/base/mem.h"

/* What a fixture's public record points into. */
typedef struct held {
    char id[STORE_MAX_NAME];
    int32_t *token;
    unsigned char *text;
    uint64_t *offset;
    store_ledger *rec;
} held;

struct drift_run {
    char *path;
    hid_t file;
    char **key, **value;
    size_t n_fact, cap_fact;
    drift_run_fixture *fixture;
    held *held;
    size_t n_fixture;
};

/* A dataset that lies in this file and has the wanted rank. Owns: the caller drops *out. */
static ds4_status open_set(hid_t *out, const drift_run *r, hid_t at, const char *name, int rank,
                           hsize_t dim[2], ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t set = H5Dopen2(at, name, H5P_DEFAULT), plist = -1, space = -1;

    if (set < 0) RAISE(DS4_ERR_FORMAT, "%.300s: no dataset '%.60s'", r->path, name);
    plist = H5Dget_create_plist(set);
    if (plist < 0 || H5Pget_layout(plist) < 0 || H5Pget_layout(plist) == H5D_VIRTUAL ||
        H5Pget_external_count(plist) != 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: '%.60s' is stored outside the file", r->path, name);
    space = H5Dget_space(set);
    if (space < 0 || H5Sget_simple_extent_ndims(space) != rank ||
        H5Sget_simple_extent_dims(space, dim, NULL) != rank)
        RAISE(DS4_ERR_FORMAT, "%.300s: '%.60s' has not %d dimensions", r->path, name, rank);
    *out = set, set = -1;
out:
    store_drop(space), store_drop(plist), store_drop(set);
    return st;
}

static bool is_class(hid_t type, H5T_class_t class, size_t bytes) {
    return H5Tget_class(type) == class && (bytes == 0 || H5Tget_size(type) == bytes);
}

/* A whole list of numbers. Owns: the caller frees *out. */
static ds4_status get_numbers(void *out, hsize_t *n, const drift_run *r, hid_t at,
                              const char *name, hid_t type, hsize_t most, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t set = -1, has = -1;
    hsize_t dim[2];
    void *p = NULL;

    TRY(open_set(&set, r, at, name, 1, dim, err));
    has = H5Dget_type(set);
    if (!is_class(has, H5T_INTEGER, H5Tget_size(type)) || H5Tget_sign(has) != H5Tget_sign(type))
        RAISE(DS4_ERR_FORMAT, "%.300s: '%.60s' has elements of a wrong type", r->path, name);
    if (dim[0] > most)
        RAISE(DS4_ERR_FORMAT, "%.300s: '%.60s' has %ju elements, at most %ju are allowed",
              r->path, name, (uintmax_t)dim[0], (uintmax_t)most);
    TRY(ds4_mem_alloc(&p, (size_t)dim[0], H5Tget_size(type), err));
    if (dim[0] && H5Dread(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, p) < 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: cannot read '%.60s': damaged", r->path, name);
    *n = dim[0];
    memcpy(out, &p, sizeof p), p = NULL;
out:
    store_drop(has), store_drop(set);
    ds4_mem_free(p);
    return st;
}

/* A whole compound table; members are found by name, strange ones are ignored. */
static ds4_status get_table(void *out, hsize_t *n, const drift_run *r, hid_t at,
                            const char *name, const store_column *c, size_t n_column,
                            size_t bytes, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t set = -1, has = -1, member = -1, mem = -1;
    hsize_t dim[2];
    void *p = NULL;

    TRY(open_set(&set, r, at, name, 1, dim, err));
    has = H5Dget_type(set);
    if (!is_class(has, H5T_COMPOUND, 0))
        RAISE(DS4_ERR_FORMAT, "%.300s: '%.60s' is no table", r->path, name);
    for (size_t i = 0; i < n_column; i++) {
        int at_member = H5Tget_member_index(has, c[i].name);
        H5T_class_t want = c[i].kind == STORE_TEXT  ? H5T_STRING
                           : c[i].kind == STORE_F64 ? H5T_FLOAT
                                                    : H5T_INTEGER;
        if (at_member >= 0) member = H5Tget_member_type(has, (unsigned)at_member);
        if (member < 0 || !is_class(member, want, want == H5T_STRING ? 0 : c[i].bytes) ||
            (want == H5T_STRING && H5Tis_variable_str(member) != 0))
            RAISE(DS4_ERR_FORMAT,
                  "%.300s: table '%.30s' lacks '%.30s' or has it in a wrong type", r->path,
                  name, c[i].name);
        store_drop(member), member = -1;
    }
    if (dim[0] > STORE_MAX_RECORD || H5Tget_size(has) > 65536)
        RAISE(DS4_ERR_FORMAT, "%.300s: table '%.60s' has %ju rows of %zu bytes", r->path, name,
              (uintmax_t)dim[0], H5Tget_size(has));
    TRY(ds4_mem_alloc(&p, (size_t)dim[0], bytes, err));
    mem = store_record_type(c, n_column, bytes);
    if (dim[0] && H5Dread(set, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, p) < 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: cannot read table '%.60s': damaged", r->path, name);
    *n = dim[0];
    memcpy(out, &p, sizeof p), p = NULL;
out:
    store_drop(mem), store_drop(member), store_drop(has), store_drop(set);
    ds4_mem_free(p);
    return st;
}

static ds4_status get_u32(uint32_t *out, const drift_run *r, hid_t at, const char *name,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t id = H5Aexists(at, name) > 0 ? H5Aopen(at, name, H5P_DEFAULT) : -1, type = -1,
          space = -1;

    if (id < 0) RAISE(DS4_ERR_FORMAT, "%.300s: no attribute '%s'", r->path, name);
    type = H5Aget_type(id), space = H5Aget_space(id);
    if (!is_class(type, H5T_INTEGER, 4) || H5Sget_simple_extent_npoints(space) != 1 ||
        H5Aread(id, H5T_NATIVE_UINT32, out) < 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: attribute '%s' is no 32-bit integer", r->path, name);
out:
    store_drop(space), store_drop(type), store_drop(id);
    return st;
}

static ds4_status check_format(const drift_run *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *text = NULL;
    uint32_t version = 0;

    TRY(store_get_text(&text, r->file, "format", false, r->path, err));
    if (strcmp(text, STORE_FORMAT) != 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: format '%.60s', wanted '%s'", r->path, text,
              STORE_FORMAT);
    TRY(get_u32(&version, r, r->file, "version", err));
    if (version != STORE_VERSION)
        RAISE(DS4_ERR_FORMAT, "%.300s: version %u, wanted %u", r->path, version, STORE_VERSION);
out:
    ds4_mem_free(text);
    return st;
}

static ds4_status add_fact(drift_run *r, hid_t at, const char *key, bool set, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (r->n_fact == r->cap_fact) {
        size_t cap = r->cap_fact ? 2 * r->cap_fact : 32;
        TRY(ds4_mem_grow(&r->key, cap, sizeof *r->key, err));
        TRY(ds4_mem_grow(&r->value, cap, sizeof *r->value, err));
        r->cap_fact = cap;
    }
    r->key[r->n_fact] = r->value[r->n_fact] = NULL;
    r->n_fact++; /* from here drift_run_close releases both */
    TRY(ds4_mem_strdup(&r->key[r->n_fact - 1], key, err));
    TRY(store_get_text(&r->value[r->n_fact - 1], at, key, set, r->path, err));
out:
    return st;
}

/* In the order of creation where the file tracks it, else by name. */
static bool link_name(char *dst, size_t cap, hid_t at, bool attribute, hsize_t i) {
    static const H5_index_t by[2] = {H5_INDEX_CRT_ORDER, H5_INDEX_NAME};
    for (int k = 0; k < 2; k++) {
        ssize_t n =
            attribute
                ? H5Aget_name_by_idx(at, ".", by[k], H5_ITER_INC, i, dst, cap, H5P_DEFAULT)
                : H5Lget_name_by_idx(at, ".", by[k], H5_ITER_INC, i, dst, cap, H5P_DEFAULT);
        if (n >= 0) return (size_t)n < cap;
    }
    return false;
}

static ds4_status read_facts(drift_run *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t at = H5Gopen2(r->file, "provenance", H5P_DEFAULT);
    H5G_info_t group;
    char key[STORE_MAX_NAME];
    /* H5Oget_info takes a struct that differs between HDF5 1.10 and 1.14; this does not. */
    const int n_attr = at < 0 ? -1 : H5Aget_num_attrs(at);

    if (n_attr < 0 || H5Gget_info(at, &group) < 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: no group 'provenance'", r->path);
    for (hsize_t i = 0; i < (hsize_t)n_attr; i++) {
        if (!link_name(key, sizeof key, at, true, i))
            RAISE(DS4_ERR_FORMAT, "%.300s: provenance %ju has no proper name", r->path,
                  (uintmax_t)i);
        TRY(add_fact(r, at, key, false, err));
    }
    for (hsize_t i = 0; i < group.nlinks; i++) {
        if (!link_name(key, sizeof key, at, false, i))
            RAISE(DS4_ERR_FORMAT, "%.300s: provenance %ju has no proper name", r->path,
                  (uintmax_t)i);
        TRY(add_fact(r, at, key, true, err));
    }
out:
    store_drop(at);
    return st;
}

static ds4_status read_tokens(const drift_run *r, hid_t at, drift_run_fixture *f, held *h,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    hsize_t n, n_text, n_offset;

    TRY(get_u32(&f->n_decode, r, at, "n_decode", err));
    TRY(get_u32(&f->n_vocab, r, at, "n_vocab", err));
    TRY(get_numbers(&h->token, &n, r, at, "tokens", H5T_STD_I32LE, STORE_MAX_TOK, err));
    if (n == 0 || f->n_decode > n)
        RAISE(DS4_ERR_FORMAT, "%.300s: fixture %.60s has %ju tokens, %u of them decoded",
              r->path, h->id, (uintmax_t)n, f->n_decode);
    f->n_tok = (uint32_t)n, f->token = h->token;
    TRY(get_numbers(&h->text, &n_text, r, at, "token_bytes", H5T_STD_U8LE, STORE_MAX_TEXT,
                    err));
    TRY(get_numbers(&h->offset, &n_offset, r, at, "token_offsets", H5T_STD_U64LE,
                    STORE_MAX_TOK + 1, err));
    if (n_offset != n + 1 || h->offset[0] != 0 || h->offset[n] != n_text)
        RAISE(DS4_ERR_FORMAT, "%.300s: fixture %.60s: token_offsets do not fit token_bytes",
              r->path, h->id);
    for (hsize_t i = 0; i < n; i++)
        if (h->offset[i + 1] < h->offset[i])
            RAISE(DS4_ERR_FORMAT, "%.300s: fixture %.60s: token_offsets fall at %ju", r->path,
                  h->id, (uintmax_t)i);
out:
    return st;
}

/* Embedding first, layers, then the head. */
static uint64_t forward_order(const drift_run_tap *t) {
    uint64_t part = t->layer >= 0             ? (uint64_t)t->layer + 1
                    : t->tap == DS4_TAP_embed ? 0
                                              : 0x10000;
    return part << 16 | (uint64_t)t->tap;
}

static int by_order(const void *x, const void *y) {
    uint64_t a = forward_order(x), b = forward_order(y);
    return a < b ? -1 : a > b;
}

/* The rows of a stored tap are there, of the type and shape that the digests say. */
static ds4_status check_rows(const drift_run *r, hid_t at, const drift_run_tap *t,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    char path[96];
    hsize_t dim[2];
    hid_t set = -1, type = -1;

    store_tap_path(path, t->tap, t->layer);
    TRY(open_set(&set, r, at, path, 2, dim, err));
    type = H5Dget_type(set);
    if (H5Tequal(type, store_element_type(t->tap)) <= 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: '%s' has elements of a wrong type", r->path, path);
    if (dim[0] != t->n_row || dim[1] != t->n_col)
        RAISE(DS4_ERR_FORMAT, "%.300s: '%s' is [%ju][%ju], its digest says [%u][%u]", r->path,
              path, (uintmax_t)dim[0], (uintmax_t)dim[1], t->n_row, t->n_col);
out:
    store_drop(type), store_drop(set);
    return st;
}

static ds4_status check_tap(const drift_run *r, const drift_run_fixture *f,
                            const store_digest *d, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (ds4_tap_find(d->tap) < 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: unknown tap '%.32s'", r->path, d->tap);
    if (d->layer < -1 || d->layer >= (int32_t)DS4_NO_LAYER || d->n_row == 0 || d->n_col == 0 ||
        d->n_col > STORE_MAX_COL || d->pos_step == 0 || d->stored > 1 ||
        d->pos0 + (uint64_t)(d->n_row - 1) * (d->n_row > 1 ? d->pos_step : 1) >= f->n_tok ||
        d->n != (uint64_t)d->n_row * d->n_col || d->n_nonfinite > d->n)
        RAISE(DS4_ERR_FORMAT,
              "%.300s: digest of %.32s: layer %" PRId32
              ", [%u][%u] from %u step %u of %u tokens, %ju"
              " elements",
              r->path, d->tap, d->layer, d->n_row, d->n_col, d->pos0, d->pos_step, f->n_tok,
              (uintmax_t)d->n);
out:
    return st;
}

static ds4_status read_taps(const drift_run *r, hid_t at, drift_run_fixture *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    store_digest *rec = NULL;
    hsize_t n = 0;

    TRY(get_table(&rec, &n, r, at, "digests", store_digest_column, STORE_N_DIGEST, sizeof *rec,
                  err));
    TRY(ds4_mem_alloc(&f->tap, n, sizeof *f->tap, err));
    for (hsize_t i = 0; i < n; i++) {
        const store_digest *d = &rec[i];
        TRY(check_tap(r, f, d, err));
        f->tap[i] = (drift_run_tap){.tap = (ds4_tap)ds4_tap_find(d->tap),
                                    .layer = d->layer,
                                    .n_row = d->n_row,
                                    .n_col = d->n_col,
                                    .pos0 = d->pos0,
                                    .pos_step = d->pos_step,
                                    .stored = d->stored != 0,
                                    .digest = {.n = d->n,
                                               .n_nonfinite = d->n_nonfinite,
                                               .min = d->min,
                                               .max = d->max,
                                               .sum_sq = d->sum_sq,
                                               .hash = {d->hash_lo, d->hash_hi}}};
        if (f->tap[i].stored) TRY(check_rows(r, at, &f->tap[i], err));
    }
    f->n_tap = n;
    qsort(f->tap, f->n_tap, sizeof *f->tap, by_order);
    for (size_t i = 1; i < f->n_tap; i++)
        if (by_order(&f->tap[i - 1], &f->tap[i]) == 0)
            RAISE(DS4_ERR_FORMAT, "%.300s: two digests of tap %s, layer %" PRId32, r->path,
                  ds4_tap_table[f->tap[i].tap].name, f->tap[i].layer);
out:
    ds4_mem_free(rec);
    return st;
}

static ds4_status read_ledger(const drift_run *r, hid_t at, drift_run_fixture *f, held *h,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    hsize_t n;

    TRY(get_table(&h->rec, &n, r, at, "ledger", store_ledger_column, STORE_N_LEDGER,
                  sizeof *h->rec, err));
    TRY(ds4_mem_alloc(&f->ledger, n, sizeof *f->ledger, err));
    for (hsize_t i = 0; i < n; i++) {
        const store_ledger *e = &h->rec[i];
        if (ds4_tap_find(e->tap) < 0 || e->layer < -1 || e->layer >= (int32_t)DS4_NO_LAYER ||
            !*e->row)
            RAISE(DS4_ERR_FORMAT,
                  "%.300s: ledger entry %ju: tap '%.32s', layer %" PRId32 ", row '%.64s'",
                  r->path, (uintmax_t)i, e->tap, e->layer, e->row);
        f->ledger[i] = (drift_run_ledger){.tap = e->tap,
                                          .op = e->op,
                                          .phase = e->phase,
                                          .wtype = e->wtype,
                                          .row = e->row,
                                          .wanted = e->wanted,
                                          .refusal = e->refusal,
                                          .variants = e->variants,
                                          .layer = e->layer,
                                          .n_call = e->n_call,
                                          .n_elem = e->n_elem};
    }
    f->n_ledger = n;
out:
    return st;
}

static ds4_status read_fixtures(drift_run *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t all = H5Gopen2(r->file, "fixtures", H5P_DEFAULT), at = -1;
    H5G_info_t group;

    if (all < 0 || H5Gget_info(all, &group) < 0 || group.nlinks > STORE_MAX_RECORD)
        RAISE(DS4_ERR_FORMAT, "%.300s: no group 'fixtures'", r->path);
    TRY(ds4_mem_alloc(&r->fixture, group.nlinks, sizeof *r->fixture, err));
    TRY(ds4_mem_alloc(&r->held, group.nlinks, sizeof *r->held, err));
    r->n_fixture = group.nlinks;
    for (size_t i = 0; i < r->n_fixture; i++) {
        drift_run_fixture *f = &r->fixture[i];
        held *h = &r->held[i];
        uint32_t complete = 0;
        if (!link_name(h->id, sizeof h->id, all, false, i))
            RAISE(DS4_ERR_FORMAT, "%.300s: fixture %zu has no proper name", r->path, i);
        f->id = h->id;
        at = H5Gopen2(all, h->id, H5P_DEFAULT);
        if (at < 0) RAISE(DS4_ERR_FORMAT, "%.300s: fixture %.60s is no group", r->path, h->id);
        TRY(get_u32(&complete, r, at, "complete", err));
        TRY(read_tokens(r, at, f, h, err));
        TRY(read_taps(r, at, f, err));
        TRY(read_ledger(r, at, f, h, err));
        store_drop(at), at = -1;
    }
out:
    store_drop(at), store_drop(all);
    return st;
}

ds4_status drift_run_open(drift_run **out, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_run *r = NULL;
    hid_t access = -1;

    store_enter();
    TRY(drift_seal_check(path, err));
    TRY(ds4_mem_alloc(&r, 1, sizeof *r, err));
    r->file = -1;
    TRY(ds4_mem_strdup(&r->path, path, err));
    access = H5Pcreate(H5P_FILE_ACCESS);
    H5Pset_fclose_degree(access, H5F_CLOSE_STRONG);
    r->file = H5Fopen(path, H5F_ACC_RDONLY, access);
    if (r->file < 0) RAISE(DS4_ERR_FORMAT, "%.300s: HDF5 cannot read it", path);
    TRY(check_format(r, err));
    TRY(read_facts(r, err));
    TRY(read_fixtures(r, err));
    *out = r, r = NULL;
out:
    store_drop(access);
    drift_run_close(r);
    return st;
}

void drift_run_close(drift_run *r) {
    if (!r) return;
    for (size_t i = 0; i < r->n_fixture; i++) {
        ds4_mem_free(r->fixture[i].tap);
        ds4_mem_free(r->fixture[i].ledger);
        ds4_mem_free(r->held[i].token);
        ds4_mem_free(r->held[i].text);
        ds4_mem_free(r->held[i].offset);
        ds4_mem_free(r->held[i].rec);
    }
    for (size_t i = 0; i < r->n_fact; i++) {
        ds4_mem_free(r->key[i]);
        ds4_mem_free(r->value[i]);
    }
    ds4_mem_free(r->fixture);
    ds4_mem_free(r->held);
    ds4_mem_free(r->key);
    ds4_mem_free(r->value);
    ds4_mem_free(r->path);
    if (r->file >= 0) H5Fclose(r->file);
    ds4_mem_free(r);
}

const char *drift_run_path(const drift_run *r) { return r->path; }
size_t drift_run_n_fact(const drift_run *r) { return r->n_fact; }

const char *drift_run_fact_at(const drift_run *r, size_t i, const char **value) {
    *value = r->value[i];
    return r->key[i];
}

const char *drift_run_fact(const drift_run *r, const char *key) {
    for (size_t i = 0; i < r->n_fact; i++)
        if (!strcmp(r->key[i], key)) return r->value[i];
    return NULL;
}

size_t drift_run_n_fixture(const drift_run *r) { return r->n_fixture; }
const drift_run_fixture *drift_run_fixture_at(const drift_run *r, size_t i) {
    return &r->fixture[i];
}

const drift_run_fixture *drift_run_find_fixture(const drift_run *r, const char *id) {
    for (size_t i = 0; i < r->n_fixture; i++)
        if (!strcmp(r->fixture[i].id, id)) return &r->fixture[i];
    return NULL;
}

size_t drift_run_token_text(const drift_run *r, const drift_run_fixture *f, uint32_t i,
                            char *dst, size_t cap) {
    const held *h = &r->held[f - r->fixture];
    size_t n = (size_t)(h->offset[i + 1] - h->offset[i]), part = n < cap ? n : cap;
    if (part) memcpy(dst, h->text + h->offset[i], part);
    return n;
}

ds4_status drift_run_rows(const drift_run *r, const drift_run_fixture *f,
                          const drift_run_tap *t, uint32_t row0, uint32_t n, void *dst,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    char part[96], path[STORE_MAX_NAME + 128];
    hsize_t start[2] = {row0, 0}, count[2] = {n, t->n_col}, dim[2];
    hid_t set = -1, space = -1, mem = -1;

    store_enter();
    if (!t->stored || row0 > t->n_row || n > t->n_row - row0)
        RAISE(DS4_ERR_INTERNAL, "tap %s: rows %u + %u of %u are not stored",
              ds4_tap_table[t->tap].name, row0, n, t->stored ? t->n_row : 0);
    if (n == 0) goto out;
    store_tap_path(part, t->tap, t->layer);
    snprintf(path, sizeof path, "/fixtures/%s/%s", f->id, part);
    TRY(open_set(&set, r, r->file, path, 2, dim, err));
    space = H5Dget_space(set), mem = H5Screate_simple(2, count, NULL);
    if (H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL) < 0 ||
        H5Dread(set, store_element_type(t->tap), mem, space, H5P_DEFAULT, dst) < 0)
        RAISE(DS4_ERR_FORMAT, "%.300s: cannot read '%.120s' rows %u to %u: damaged", r->path,
              path, row0, row0 + n - 1);
out:
    store_drop(mem), store_drop(space), store_drop(set);
    return st;
}
