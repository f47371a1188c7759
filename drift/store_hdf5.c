#include "drift/store_hdf5.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

#define COLUMN(type, field, kind, name)                                                        \
    { name, kind, offsetof(type, field), sizeof(((type *)0)->field) }
const store_column store_digest_column[STORE_N_DIGEST] = {
    COLUMN(store_digest, tap, STORE_TEXT, "tap"),
    COLUMN(store_digest, layer, STORE_I32, "layer"),
    COLUMN(store_digest, pos0, STORE_U32, "pos0"),
    COLUMN(store_digest, pos_step, STORE_U32, "pos_step"),
    COLUMN(store_digest, n_row, STORE_U32, "n_row"),
    COLUMN(store_digest, n_col, STORE_U32, "n_col"),
    COLUMN(store_digest, stored, STORE_U32, "stored"),
    COLUMN(store_digest, n, STORE_U64, "count"),
    COLUMN(store_digest, n_nonfinite, STORE_U64, "nonfinite"),
    COLUMN(store_digest, min, STORE_F64, "min"),
    COLUMN(store_digest, max, STORE_F64, "max"),
    COLUMN(store_digest, sum_sq, STORE_F64, "sum_sq"),
    COLUMN(store_digest, hash_lo, STORE_U64, "hash_lo"),
    COLUMN(store_digest, hash_hi, STORE_U64, "hash_hi"),
};
const store_column store_ledger_column[STORE_N_LEDGER] = {
    COLUMN(store_ledger, tap, STORE_TEXT, "tap"),
    COLUMN(store_ledger, op, STORE_TEXT, "op"),
    COLUMN(store_ledger, layer, STORE_I32, "layer"),
    COLUMN(store_ledger, phase, STORE_TEXT, "phase"),
    COLUMN(store_ledger, wtype, STORE_TEXT, "weight"),
    COLUMN(store_ledger, row, STORE_TEXT, "row"),
    COLUMN(store_ledger, wanted, STORE_TEXT, "wanted"),
    COLUMN(store_ledger, refusal, STORE_TEXT, "refusal"),
    COLUMN(store_ledger, variants, STORE_TEXT, "variants"),
    COLUMN(store_ledger, n_call, STORE_U64, "calls"),
    COLUMN(store_ledger, n_elem, STORE_U64, "elements"),
};

void store_enter(void) {
    H5Eset_auto2(H5E_DEFAULT, NULL, NULL);
    H5PLset_loading_state(0);
    H5Lunregister(H5L_TYPE_EXTERNAL);
}

void store_drop(hid_t id) {
    if (id >= 0) H5Idec_ref(id);
}

hid_t store_text_type(size_t bytes) {
    hid_t t = H5Tcopy(H5T_C_S1);
    H5Tset_size(t, bytes);
    H5Tset_cset(t, H5T_CSET_UTF8);
    H5Tset_strpad(t, H5T_STR_NULLTERM);
    return t;
}

hid_t store_record_type(const store_column *c, size_t n, size_t bytes) {
    hid_t t = H5Tcreate(H5T_COMPOUND, bytes);
    for (size_t i = 0; i < n; i++) {
        hid_t f = c[i].kind == STORE_TEXT  ? store_text_type(c[i].bytes)
                  : c[i].kind == STORE_I32 ? H5Tcopy(H5T_STD_I32LE)
                  : c[i].kind == STORE_U32 ? H5Tcopy(H5T_STD_U32LE)
                  : c[i].kind == STORE_U64 ? H5Tcopy(H5T_STD_U64LE)
                                           : H5Tcopy(H5T_IEEE_F64LE);
        H5Tinsert(t, c[i].name, c[i].offset, f);
        store_drop(f);
    }
    return t;
}

hid_t store_element_type(ds4_tap tap) {
    return ds4_tap_table[tap].type == DS4_TYPE_I32 ? H5T_STD_I32LE : H5T_IEEE_F32LE;
}

void store_layer_text(char dst[16], int32_t layer) {
    if (layer < 0) snprintf(dst, 16, "out");
    else snprintf(dst, 16, "L%02d", layer);
}

void store_tap_path(char dst[96], ds4_tap tap, int32_t layer) {
    char part[16];
    store_layer_text(part, layer);
    if (tap == DS4_TAP_logits) snprintf(dst, 96, "logits");
    else snprintf(dst, 96, "taps/%s/%s", part, ds4_tap_table[tap].name);
}

ds4_status store_get_text(char **out, hid_t at, const char *name, bool set, const char *path,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    hid_t id = -1, type = -1, space = -1, mem = -1;
    char *text = NULL;
    size_t n;

    id = set ? H5Dopen2(at, name, H5P_DEFAULT) : H5Aopen(at, name, H5P_DEFAULT);
    if (id < 0) RAISE(DS4_ERR_FORMAT, "%.300s: no text '%.60s'", path, name);
    type = set ? H5Dget_type(id) : H5Aget_type(id);
    space = set ? H5Dget_space(id) : H5Aget_space(id);
    n = H5Tget_size(type);
    if (H5Tget_class(type) != H5T_STRING || H5Tis_variable_str(type) != 0 ||
        H5Sget_simple_extent_npoints(space) != 1 || n > STORE_MAX_TEXT)
        RAISE(DS4_ERR_FORMAT, "%.300s: '%.60s' is no text of fixed length", path, name);
    TRY(ds4_mem_alloc(&text, n + 1, 1, err));
    mem = store_text_type(n + 1);
    H5Tset_cset(mem, H5Tget_cset(type)); /* ASCII is not converted to UTF-8, but is it */
    if ((set ? H5Dread(id, mem, H5S_ALL, H5S_ALL, H5P_DEFAULT, text) : H5Aread(id, mem, text)) <
        0)
        RAISE(DS4_ERR_FORMAT, "%.300s: cannot read '%.60s'", path, name);
    *out = text, text = NULL;
out:
    store_drop(mem), store_drop(space), store_drop(type), store_drop(id);
    ds4_mem_free(text);
    return st;
}
