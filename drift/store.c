#include "drift/store.h"

#include <errno.h>
#include <hdf5_hl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#include "drift/seal.h"
#include "drift/store_hdf5.h"
#include "engine/base/mem.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__,
               "rows are hashed as they lie in memory");

#define CHUNK_BYTES ((size_t)64 << 10) /* or one row, when a row is longer */
#define GZIP_LEVEL 1

static int32_t layer_number(uint32_t layer) {
    return layer == DS4_NO_LAYER ? -1 : (int32_t)layer;
}

typedef struct out_tap {
    ds4_tap tap;
    uint32_t layer, n_row, n_col, pos0, pos_step;
    bool kept;
    drift_digest digest;
    XXH3_state_t *hash;
    hid_t set;           /* its dataset, or -1 */
    unsigned char *tail; /* rows that do not fill a chunk yet: each chunk is written once */
    uint32_t n_tail, chunk_rows, n_written;
} out_tap;

struct drift_store {
    char *path, *partial;
    hid_t file, fixture; /* fixture: the one being written, or -1 */
    char id[STORE_MAX_NAME];
    uint32_t n_tok;
    out_tap *tap;
    size_t n_tap, cap_tap, hint; /* hint: events come in the same order for every batch */
    bool broken;                 /* a write failed: the partial file is not to be trusted */
};

#define PUT(call, what)                                                                        \
    do {                                                                                       \
        if ((call) < 0)                                                                        \
            RAISE(DS4_ERR_IO, "%.300s: HDF5 cannot write %.60s", s->partial, what);            \
    } while (0)

static int put_text(hid_t at, const char *name, const char *value) {
    size_t n = strlen(value) + 1;
    hid_t type = store_text_type(n), space = H5Screate(H5S_SCALAR), id;
    int rc;
    if (n <= STORE_ATTR_BYTES) {
        id = H5Acreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT);
        rc = id < 0 ? -1 : H5Awrite(id, type, value);
    } else {
        id = H5Dcreate2(at, name, type, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        rc = id < 0 ? -1 : H5Dwrite(id, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, value);
    }
    store_drop(id), store_drop(space), store_drop(type);
    return rc;
}

static int put_u32(hid_t at, const char *name, uint32_t value) {
    hid_t space = H5Screate(H5S_SCALAR);
    hid_t id = H5Acreate2(at, name, H5T_STD_U32LE, space, H5P_DEFAULT, H5P_DEFAULT);
    int rc = id < 0 ? -1 : H5Awrite(id, H5T_NATIVE_UINT32, &value);
    store_drop(id), store_drop(space);
    return rc;
}

/* Chunked, shuffled, compressed, checksummed. */
static hid_t chunk_plist(int rank, const hsize_t *chunk) {
    hid_t p = H5Pcreate(H5P_DATASET_CREATE);
    H5Pset_chunk(p, rank, chunk);
    H5Pset_shuffle(p);
    H5Pset_deflate(p, GZIP_LEVEL);
    H5Pset_fletcher32(p);
    return p;
}

static int put_array(hid_t at, const char *name, hid_t type, size_t n, const void *data) {
    hsize_t dim = n, chunk = CHUNK_BYTES / H5Tget_size(type);
    if (chunk > dim) chunk = dim;
    hid_t space = H5Screate_simple(1, &dim, NULL);
    hid_t plist = n ? chunk_plist(1, &chunk) : H5Pcreate(H5P_DATASET_CREATE);
    hid_t set = H5Dcreate2(at, name, type, space, H5P_DEFAULT, plist, H5P_DEFAULT);
    int rc = set < 0 ? -1 : n ? H5Dwrite(set, type, H5S_ALL, H5S_ALL, H5P_DEFAULT, data) : 0;
    store_drop(set), store_drop(plist), store_drop(space);
    return rc;
}

static hid_t ordered_group(hid_t at, const char *name) {
    hid_t p = H5Pcreate(H5P_GROUP_CREATE);
    H5Pset_link_creation_order(p, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    H5Pset_attr_creation_order(p, H5P_CRT_ORDER_TRACKED | H5P_CRT_ORDER_INDEXED);
    hid_t g = H5Gcreate2(at, name, H5P_DEFAULT, p, H5P_DEFAULT);
    store_drop(p);
    return g;
}

/* So that a killed writer leaves the sealed part of the file untouched: metadata stays in
 * memory until the file is closed, and space is only ever taken at the end of the file. */
static hid_t file_access(void) {
    H5AC_cache_config_t c = {.version = H5AC__CURR_CACHE_CONFIG_VERSION};
    hid_t p = H5Pcreate(H5P_FILE_ACCESS);
    H5Pget_mdc_config(p, &c);
    c.evictions_enabled = false;
    c.incr_mode = H5C_incr__off;
    c.flash_incr_mode = H5C_flash_incr__off;
    c.decr_mode = H5C_decr__off;
    H5Pset_mdc_config(p, &c);
    H5Pset_meta_block_size(p, 0);
    H5Pset_small_data_block_size(p, 0);
    H5Pset_fclose_degree(p, H5F_CLOSE_STRONG);
    return p;
}

static ds4_status open_partial(drift_store *s, ds4_err *err) {
    if (s->file >= 0) return DS4_OK;
    hid_t access = file_access();
    s->file = H5Fopen(s->partial, H5F_ACC_RDWR, access);
    store_drop(access);
    if (s->file >= 0) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_IO, DS4_HERE, "%.300s: HDF5 cannot open it", s->partial);
}

/* Closes the HDF5 file and seals it: what it holds now survives a kill. */
static ds4_status seal_partial(drift_store *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t file = s->file;

    s->file = -1;
    if (file < 0) return DS4_OK;
    PUT(H5Fclose(file), "the end of the file");
    TRY(drift_seal_write(s->partial, false, err));
out:
    if (st != DS4_OK) s->broken = true;
    return st;
}

static void created_text(char dst[32]) {
    time_t now = time(NULL);
    struct tm tm;
    gmtime_r(&now, &tm);
    strftime(dst, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static ds4_status start_file(drift_store *s, const drift_store_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t access = file_access(), create = H5Pcreate(H5P_FILE_CREATE), prov = -1, fix = -1;
    char created[32];

    created_text(created);
    H5Pset_userblock(create, DRIFT_SEAL_BYTES);
    H5Pset_file_space_strategy(create, H5F_FSPACE_STRATEGY_NONE, false, 1);
    if (unlink(s->partial) != 0 && errno != ENOENT)
        RAISE(DS4_ERR_IO, "%.300s: %s", s->partial, strerror(errno));
    errno = 0;
    s->file = H5Fcreate(s->partial, H5F_ACC_EXCL, create, access);
    if (s->file < 0)
        RAISE(DS4_ERR_IO, "%.300s: cannot create: %s", s->partial,
              errno ? strerror(errno) : "HDF5 refuses");
    PUT(put_text(s->file, "format", STORE_FORMAT), "format");
    PUT(put_u32(s->file, "version", STORE_VERSION), "version");
    PUT(put_text(s->file, "created", created), "created");
    PUT(put_text(s->file, "tool", "ds4-drift " DS4_VERSION), "tool");
    PUT(put_text(s->file, "build", "C11, compiler " __VERSION__), "build");
    prov = ordered_group(s->file, "provenance");
    PUT(prov, "provenance");
    PUT(put_text(prov, "identity", opt->identity ? opt->identity : ""), "identity");
    for (size_t i = 0; i < opt->n_fact; i++)
        PUT(put_text(prov, opt->key[i], opt->value[i]), opt->key[i]);
    fix = ordered_group(s->file, "fixtures");
    PUT(fix, "fixtures");
out:
    store_drop(fix), store_drop(prov), store_drop(access), store_drop(create);
    return st == DS4_OK ? seal_partial(s, err) : st;
}

/* True when the partial file is intact and of the same run; it is open then. */
static bool resume_file(drift_store *s, const drift_store_options *opt) {
    char *identity = NULL;
    hid_t prov = -1;
    bool same = false;

    if (drift_seal_recover(s->partial, NULL) != DS4_OK) return false;
    if (open_partial(s, NULL) != DS4_OK) return false;
    prov = H5Gopen2(s->file, "provenance", H5P_DEFAULT);
    if (prov >= 0 &&
        store_get_text(&identity, prov, "identity", H5Aexists(prov, "identity") <= 0,
                       s->partial, NULL) == DS4_OK)
        same = !strcmp(identity, opt->identity ? opt->identity : "");
    store_drop(prov);
    ds4_mem_free(identity);
    if (same) return true;
    H5Fclose(s->file);
    s->file = -1;
    return false;
}

ds4_status drift_store_create(drift_store **out, const char *path,
                              const drift_store_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_store *s = NULL;
    size_t n = strlen(path);

    store_enter();
    TRY(ds4_mem_alloc(&s, 1, sizeof *s, err));
    s->file = s->fixture = -1;
    TRY(ds4_mem_strdup(&s->path, path, err));
    TRY(ds4_mem_alloc(&s->partial, n + sizeof ".partial", 1, err));
    memcpy(s->partial, path, n);
    memcpy(s->partial + n, ".partial", sizeof ".partial");
    if (!opt->resume || !resume_file(s, opt)) TRY(start_file(s, opt, err));
    *out = s, s = NULL;
out:
    drift_store_abandon(s);
    return st;
}

bool drift_store_has_fixture(const drift_store *s, const char *id) {
    drift_store *self = (drift_store *)s; /* opens the file on demand; nothing else changes */
    char path[STORE_MAX_NAME + 16];
    if (strlen(id) >= STORE_MAX_NAME || open_partial(self, NULL) != DS4_OK) return false;
    snprintf(path, sizeof path, "fixtures/%s", id);
    hid_t g =
        H5Lexists(s->file, path, H5P_DEFAULT) > 0 ? H5Gopen2(s->file, path, H5P_DEFAULT) : -1;
    bool has = g >= 0 && H5Aexists(g, "complete") > 0;
    store_drop(g);
    return has;
}

static ds4_status put_tokens(drift_store *s, const drift_store_fixture *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint64_t *offset = NULL;
    unsigned char *text = NULL;
    int32_t *pos = NULL;

    TRY(ds4_mem_alloc(&offset, (size_t)f->n_tok + 1, sizeof *offset, err));
    TRY(ds4_mem_alloc(&pos, f->n_tok, sizeof *pos, err));
    for (uint32_t i = 0; i < f->n_tok; i++) {
        pos[i] = (int32_t)i;
        offset[i + 1] = offset[i] + (f->text && f->text_bytes ? f->text_bytes[i] : 0);
    }
    TRY(ds4_mem_alloc(&text, offset[f->n_tok], 1, err));
    for (uint32_t i = 0; i < f->n_tok; i++)
        if (offset[i + 1] > offset[i]) memcpy(text + offset[i], f->text[i], f->text_bytes[i]);
    PUT(put_array(s->fixture, "tokens", H5T_STD_I32LE, f->n_tok, f->token), "tokens");
    PUT(put_array(s->fixture, "positions", H5T_STD_I32LE, f->n_tok, pos), "positions");
    PUT(put_array(s->fixture, "token_bytes", H5T_STD_U8LE, offset[f->n_tok], text),
        "token_bytes");
    PUT(put_array(s->fixture, "token_offsets", H5T_STD_U64LE, (size_t)f->n_tok + 1, offset),
        "token_offsets");
out:
    ds4_mem_free(offset);
    ds4_mem_free(text);
    ds4_mem_free(pos);
    return st;
}

ds4_status drift_store_begin_fixture(drift_store *s, const drift_store_fixture *f,
                                     ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t group = -1;

    store_enter();
    if (s->fixture >= 0) RAISE(DS4_ERR_INTERNAL, "fixture %.60s is still being written", s->id);
    if (!*f->id || strlen(f->id) >= STORE_MAX_NAME || strchr(f->id, '/') || f->id[0] == '.')
        RAISE(DS4_ERR_USAGE, "fixture id '%.60s': wanted 1 to %d bytes, no '/', no leading '.'",
              f->id, STORE_MAX_NAME - 1);
    if (f->n_tok == 0 || f->n_tok > STORE_MAX_TOK || f->n_decode > f->n_tok)
        RAISE(DS4_ERR_USAGE, "fixture %.60s: %u tokens, %u of them decoded", f->id, f->n_tok,
              f->n_decode);
    TRY(open_partial(s, err));
    group = H5Gopen2(s->file, "fixtures", H5P_DEFAULT);
    PUT(group, "fixtures");
    if (H5Lexists(group, f->id, H5P_DEFAULT) > 0)
        RAISE(DS4_ERR_USAGE, "fixture %.60s is twice in one run", f->id);
    snprintf(s->id, sizeof s->id, "%s", f->id);
    s->n_tok = f->n_tok;
    s->fixture = ordered_group(group, f->id);
    PUT(s->fixture, f->id);
    PUT(put_u32(s->fixture, "n_decode", f->n_decode), "n_decode");
    PUT(put_u32(s->fixture, "n_vocab", f->n_vocab), "n_vocab");
    TRY(put_tokens(s, f, err));
out:
    if (st != DS4_OK && s->fixture >= 0) s->broken = true;
    store_drop(group);
    return st;
}

/* One scale per layer and set of positions, so that no list of references grows past what an
 * object header holds. */
static ds4_status attach_positions(drift_store *s, const out_tap *t, ds4_err *err) {
    ds4_status st = DS4_OK;
    char name[64], layer[16];
    int32_t *pos = NULL;
    hid_t links = -1, scale = -1;

    store_layer_text(layer, layer_number(t->layer));
    snprintf(name, sizeof name, "scales/%s_%u_%u_%u", layer, t->pos0, t->pos_step, t->n_row);
    if (H5Lexists(s->fixture, "scales", H5P_DEFAULT) <= 0) {
        links = H5Gcreate2(s->fixture, "scales", H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
        PUT(links, "scales");
    }
    if (H5Lexists(s->fixture, name, H5P_DEFAULT) <= 0) {
        TRY(ds4_mem_alloc(&pos, t->n_row, sizeof *pos, err));
        for (uint32_t i = 0; i < t->n_row; i++) pos[i] = (int32_t)(t->pos0 + i * t->pos_step);
        PUT(put_array(s->fixture, name, H5T_STD_I32LE, t->n_row, pos), name);
        scale = H5Dopen2(s->fixture, name, H5P_DEFAULT);
        PUT(scale, name);
        PUT(H5DSset_scale(scale, "position"), name);
    } else {
        scale = H5Dopen2(s->fixture, name, H5P_DEFAULT);
        PUT(scale, name);
    }
    PUT(H5DSattach_scale(t->set, scale, 0), name);
    PUT(H5DSset_label(t->set, 0, "position"), name);
out:
    store_drop(scale), store_drop(links);
    ds4_mem_free(pos);
    return st;
}

static ds4_status create_set(drift_store *s, out_tap *t, ds4_err *err) {
    ds4_status st = DS4_OK;
    char name[96];
    size_t row_bytes = (size_t)t->n_col * 4, n = CHUNK_BYTES / row_bytes;

    t->chunk_rows = n < 1 ? 1 : n > s->n_tok ? s->n_tok : (uint32_t)n;
    hsize_t dim[2] = {0, t->n_col}, max[2] = {H5S_UNLIMITED, t->n_col};
    hsize_t chunk[2] = {t->chunk_rows, t->n_col};
    hid_t space = H5Screate_simple(2, dim, max), plist = chunk_plist(2, chunk);
    hid_t links = H5Pcreate(H5P_LINK_CREATE), access = H5Pcreate(H5P_DATASET_ACCESS);

    H5Pset_create_intermediate_group(links, 1);
    H5Pset_chunk_cache(access, 1, 0, 1.0); /* whole chunks are written: nothing to cache */
    store_tap_path(name, t->tap, layer_number(t->layer));
    TRY(ds4_mem_alloc(&t->tail, t->chunk_rows, row_bytes, err));
    t->set =
        H5Dcreate2(s->fixture, name, store_element_type(t->tap), space, links, plist, access);
    PUT(t->set, name);
out:
    store_drop(access), store_drop(links), store_drop(plist), store_drop(space);
    return st;
}

static ds4_status write_rows(drift_store *s, out_tap *t, const void *data, uint32_t n,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    hsize_t dim[2] = {(hsize_t)t->n_written + n, t->n_col};
    hsize_t start[2] = {t->n_written, 0}, count[2] = {n, t->n_col};
    hid_t mem = H5Screate_simple(2, count, NULL), space = -1;

    PUT(H5Dset_extent(t->set, dim), "rows");
    space = H5Dget_space(t->set);
    PUT(H5Sselect_hyperslab(space, H5S_SELECT_SET, start, NULL, count, NULL), "rows");
    PUT(H5Dwrite(t->set, store_element_type(t->tap), mem, space, H5P_DEFAULT, data), "rows");
    t->n_written += n;
out:
    store_drop(space), store_drop(mem);
    return st;
}

static ds4_status append_rows(drift_store *s, out_tap *t, const void *data, uint32_t n,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    const unsigned char *src = data;
    size_t row_bytes = (size_t)t->n_col * 4;

    while (n) {
        if (t->n_tail == 0 && n >= t->chunk_rows) {
            uint32_t whole = n - n % t->chunk_rows;
            TRY(write_rows(s, t, src, whole, err));
            src += whole * row_bytes, n -= whole;
            continue;
        }
        uint32_t take = t->chunk_rows - t->n_tail < n ? t->chunk_rows - t->n_tail : n;
        memcpy(t->tail + t->n_tail * row_bytes, src, take * row_bytes);
        src += take * row_bytes, n -= take, t->n_tail += take;
        if (t->n_tail == t->chunk_rows) {
            t->n_tail = 0;
            TRY(write_rows(s, t, t->tail, t->chunk_rows, err));
        }
    }
out:
    return st;
}

/* Sum of squares in float64, index order; min and max over finite elements. */
static void digest_rows(out_tap *t, const ds4_tap_event *e) {
    drift_digest *d = &t->digest;
    uint64_t n = (uint64_t)e->n_row * e->n_col;
    const unsigned char *p = e->data;
    bool whole = ds4_tap_table[e->tap].type == DS4_TYPE_I32;

    XXH3_128bits_update(t->hash, p, n * 4);
    for (uint64_t i = 0; i < n; i++, p += 4) {
        float f;
        int32_t w;
        memcpy(&f, p, 4), memcpy(&w, p, 4);
        double x = whole ? (double)w : (double)f;
        if (!isfinite(x)) {
            d->n_nonfinite++;
            continue;
        }
        if (!(x >= d->min)) d->min = x; /* min and max start as NaN */
        if (!(x <= d->max)) d->max = x;
        d->sum_sq += x * x;
    }
    d->n += n;
}

static ds4_status find_tap(out_tap **out, drift_store *s, const ds4_tap_event *e, bool keep,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < s->n_tap; i++) {
        size_t at = (s->hint + i) % s->n_tap;
        if (s->tap[at].tap != e->tap || s->tap[at].layer != e->layer) continue;
        s->hint = at + 1;
        *out = &s->tap[at];
        return DS4_OK;
    }
    if (s->n_tap == s->cap_tap) {
        size_t cap = s->cap_tap ? 2 * s->cap_tap : 128;
        TRY(ds4_mem_grow(&s->tap, cap, sizeof *s->tap, err));
        s->cap_tap = cap;
    }
    out_tap *t = &s->tap[s->n_tap];
    *t = (out_tap){.tap = e->tap,
                   .layer = e->layer,
                   .n_col = e->n_col,
                   .pos0 = e->pos0,
                   .pos_step = e->pos_step ? e->pos_step : 1,
                   .kept = keep,
                   .set = -1};
    t->digest.min = t->digest.max = (double)NAN;
    t->hash = XXH3_createState();
    if (!t->hash) RAISE(DS4_ERR_MEMORY, "out of memory: hash state");
    XXH3_128bits_reset(t->hash);
    s->hint = ++s->n_tap;
    *out = t;
    if (keep) TRY(create_set(s, t, err));
out:
    return st;
}

ds4_status drift_store_rows(drift_store *s, const ds4_tap_event *e, bool keep, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *name = ds4_tap_table[e->tap].name;
    out_tap *t = NULL;

    if (s->fixture < 0) RAISE(DS4_ERR_INTERNAL, "rows of %s outside a fixture", name);
    if (e->n_row == 0) goto out;
    if (e->n_col == 0 || e->n_col > STORE_MAX_COL)
        RAISE(DS4_ERR_INTERNAL, "tap %s: rows of %u columns", name, e->n_col);
    TRY(find_tap(&t, s, e, keep, err));
    if (t->n_row == 1) t->pos_step = e->pos0 - t->pos0; /* a lone row does not know its step */
    if (t->n_row > 0 && t->pos_step == 0)
        RAISE(DS4_ERR_INTERNAL, "tap %s: position %u twice", name, e->pos0);
    uint64_t want = (uint64_t)t->pos0 + (uint64_t)t->n_row * t->pos_step;
    if (e->n_col != t->n_col || keep != t->kept || e->pos0 != want ||
        (e->n_row > 1 && t->n_row > 0 && e->pos_step != t->pos_step))
        RAISE(DS4_ERR_INTERNAL,
              "tap %s: [%u][%u] at position %u step %u after [%u][%u] from %u step %u", name,
              e->n_row, e->n_col, e->pos0, e->pos_step, t->n_row, t->n_col, t->pos0,
              t->pos_step);
    if ((uint64_t)e->pos0 + (uint64_t)(e->n_row - 1) * e->pos_step >= s->n_tok)
        RAISE(DS4_ERR_INTERNAL, "tap %s: position %u of %u tokens", name,
              e->pos0 + (e->n_row - 1) * e->pos_step, s->n_tok);
    digest_rows(t, e);
    t->n_row += e->n_row;
    if (keep) TRY(append_rows(s, t, e->data, e->n_row, err));
out:
    if (st != DS4_OK) s->broken = true;
    return st;
}

static ds4_status put_digests(drift_store *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t type = store_record_type(store_digest_column, STORE_N_DIGEST, sizeof(store_digest));
    store_digest *rec = NULL;

    TRY(ds4_mem_alloc(&rec, s->n_tap, sizeof *rec, err));
    for (size_t i = 0; i < s->n_tap; i++) {
        const out_tap *t = &s->tap[i];
        XXH128_hash_t h = XXH3_128bits_digest(t->hash);
        rec[i] = (store_digest){.layer = layer_number(t->layer),
                                .pos0 = t->pos0,
                                .pos_step = t->pos_step,
                                .n_row = t->n_row,
                                .n_col = t->n_col,
                                .stored = t->kept,
                                .n = t->digest.n,
                                .n_nonfinite = t->digest.n_nonfinite,
                                .min = t->digest.min,
                                .max = t->digest.max,
                                .sum_sq = t->digest.sum_sq,
                                .hash_lo = h.low64,
                                .hash_hi = h.high64};
        snprintf(rec[i].tap, sizeof rec[i].tap, "%s", ds4_tap_table[t->tap].name);
    }
    PUT(put_array(s->fixture, "digests", type, s->n_tap, rec), "digests");
out:
    store_drop(type);
    ds4_mem_free(rec);
    return st;
}

/* Those that differ from their default: "DS4_A=1,DS4_B=0". */
static void variants_text(char *dst, size_t cap, uint32_t changed) {
    size_t n = 0;
    *dst = 0;
    for (uint32_t v = 0; v < DS4_VARIANT_COUNT && n < cap; v++)
        if (changed >> v & 1)
            n += (size_t)snprintf(dst + n, cap - n, "%s%s=%d", n ? "," : "",
                                  ds4_variant_table[v].name, !ds4_variant_table[v].def);
}

static ds4_status put_ledger(drift_store *s, const ds4_ledger *l, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t type = store_record_type(store_ledger_column, STORE_N_LEDGER, sizeof(store_ledger));
    store_ledger *rec = NULL;
    uint32_t n = l ? ds4_ledger_n(l) : 0;

    TRY(ds4_mem_alloc(&rec, n, sizeof *rec, err));
    for (uint32_t i = 0; i < n; i++) {
        const ds4_ledger_entry *e = ds4_ledger_at(l, i);
        const ds4_quant *q = ds4_quant_by_id(e->wtype);
        store_ledger *o = &rec[i];
        o->layer = layer_number(e->layer), o->n_call = e->n_call, o->n_elem = e->n_elem;
        snprintf(o->tap, sizeof o->tap, "%s", ds4_tap_table[e->tap].name);
        snprintf(o->op, sizeof o->op, "%s", ds4_op_table[ds4_tap_table[e->tap].op].name);
        snprintf(o->phase, sizeof o->phase, "%s",
                 e->phase == DS4_DECODE ? "decode" : "prefill");
        if (q) snprintf(o->wtype, sizeof o->wtype, "%s", q->name);
        else snprintf(o->wtype, sizeof o->wtype, "type %u", e->wtype);
        snprintf(o->row, sizeof o->row, "%s", e->row);
        snprintf(o->wanted, sizeof o->wanted, "%s", e->wanted ? e->wanted : e->row);
        snprintf(o->refusal, sizeof o->refusal, "%s", e->refusal ? e->refusal : "");
        variants_text(o->variants, sizeof o->variants, e->changed);
    }
    PUT(put_array(s->fixture, "ledger", type, n, rec), "ledger");
out:
    store_drop(type);
    ds4_mem_free(rec);
    return st;
}

static void clear_taps(drift_store *s) {
    for (size_t i = 0; i < s->n_tap; i++) {
        store_drop(s->tap[i].set);
        XXH3_freeState(s->tap[i].hash);
        ds4_mem_free(s->tap[i].tail);
    }
    s->n_tap = s->hint = 0;
    store_drop(s->fixture);
    s->fixture = -1;
}

ds4_status drift_store_end_fixture(drift_store *s, const ds4_ledger *l, ds4_err *err) {
    ds4_status st = DS4_OK;

    if (s->fixture < 0) RAISE(DS4_ERR_INTERNAL, "the end of no fixture");
    for (size_t i = 0; i < s->n_tap; i++) {
        out_tap *t = &s->tap[i];
        if (!t->kept) continue;
        if (t->n_tail) TRY(write_rows(s, t, t->tail, t->n_tail, err));
        t->n_tail = 0;
        TRY(attach_positions(s, t, err));
    }
    TRY(put_digests(s, err));
    TRY(put_ledger(s, l, err));
    PUT(put_u32(s->fixture, "complete", 1), "complete");
    clear_taps(s);
    TRY(seal_partial(s, err));
out:
    if (st != DS4_OK) s->broken = true;
    return st;
}

ds4_status drift_store_add_facts(drift_store *s, const char *const *key,
                                 const char *const *value, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t prov = -1;

    if (s->file < 0) TRY(open_partial(s, err));
    prov = H5Gopen2(s->file, "provenance", H5P_DEFAULT);
    PUT(prov, "provenance");
    for (size_t i = 0; i < n; i++) {
        if (H5Aexists(prov, key[i]) > 0) PUT(H5Adelete(prov, key[i]), key[i]);
        PUT(put_text(prov, key[i], value[i]), key[i]);
    }
out:
    store_drop(prov);
    return st;
}

ds4_status drift_store_finish(drift_store *s, ds4_err *err) {
    ds4_status st = DS4_OK;

    if (s->fixture >= 0) RAISE(DS4_ERR_INTERNAL, "fixture %.60s has no end", s->id);
    if (s->broken) RAISE(DS4_ERR_IO, "%.300s: a write failed before", s->partial);
    TRY(seal_partial(s, err));
    TRY(drift_seal_complete(s->partial, err));
    if (rename(s->partial, s->path) != 0)
        RAISE(DS4_ERR_IO, "%.300s: %s", s->path, strerror(errno));
    TRY(drift_seal_sync_dir(s->path, err));
out:
    drift_store_abandon(s);
    return st;
}

/* A fixture in the middle is taken out again, so that the finished ones stay resumable. */
void drift_store_abandon(drift_store *s) {
    if (!s) return;
    bool half = s->fixture >= 0;
    clear_taps(s);
    if (s->file >= 0 && half && !s->broken) {
        hid_t group = H5Gopen2(s->file, "fixtures", H5P_DEFAULT);
        if (group >= 0) H5Ldelete(group, s->id, H5P_DEFAULT);
        store_drop(group);
    }
    if (s->file >= 0 && !s->broken) seal_partial(s, NULL);
    else if (s->file >= 0) H5Fclose(s->file);
    ds4_mem_free(s->tap);
    ds4_mem_free(s->path);
    ds4_mem_free(s->partial);
    ds4_mem_free(s);
}
