#ifndef DRIFT_STORE_HDF5_H
#define DRIFT_STORE_HDF5_H
/* Internal to drift/store*.c, the doorway to HDF5: the schema and what writer and reader share.
 */
#include <hdf5.h>
#include <stddef.h>

#include "drift/store.h"

#define STORE_FORMAT "ds4-drift/run"
#define STORE_VERSION 1u
#define STORE_ATTR_BYTES                                                                       \
    60000 /* longer facts are datasets: an attribute must fit an object header */
/* Bounds of what a file may ask a reader to hold in memory. */
#define STORE_MAX_TOK ((hsize_t)1 << 26)
#define STORE_MAX_TEXT ((hsize_t)1 << 30)
#define STORE_MAX_RECORD ((hsize_t)1 << 20)
#define STORE_MAX_COL ((hsize_t)1 << 28)
#define STORE_MAX_NAME 256

typedef enum store_kind { STORE_TEXT, STORE_I32, STORE_U32, STORE_U64, STORE_F64 } store_kind;

/* One member of a compound table. */
typedef struct store_column {
    const char *name;
    store_kind kind;
    size_t offset, bytes;
} store_column;

typedef struct store_digest {
    char tap[32];
    int32_t layer; /* -1: embedding and head */
    uint32_t pos0, pos_step, n_row, n_col, stored;
    uint64_t n, n_nonfinite;
    double min, max, sum_sq;
    uint64_t hash_lo, hash_hi;
} store_digest;

typedef struct store_ledger {
    char tap[32], op[32], phase[8], wtype[16], row[64], wanted[64], refusal[256], variants[256];
    int32_t layer;
    uint64_t n_call, n_elem;
} store_ledger;

#define STORE_N_DIGEST 14
#define STORE_N_LEDGER 11
extern const store_column store_digest_column[STORE_N_DIGEST];
extern const store_column store_ledger_column[STORE_N_LEDGER];

/* Every entry passes here: no error printing, no filters loaded from elsewhere, no link that
 * leads into another file. */
void store_enter(void);
/* Releases an id of any class; negative ids are none. */
void store_drop(hid_t id);
/* Types. Owns: the caller drops them. */
hid_t store_text_type(size_t bytes);
hid_t store_record_type(const store_column *c, size_t n, size_t bytes);
/* Element type of a tap's rows; nobody drops it. */
hid_t store_element_type(ds4_tap tap);
/* "L03", or "out" for embedding and head. */
void store_layer_text(char dst[16], int32_t layer);
/* Where a tap's rows lie inside its fixture: "taps/L03/attn_out", "taps/out/embed", "logits".
 */
void store_tap_path(char dst[96], ds4_tap tap, int32_t layer);

/* A text attribute, or dataset. Owns: the caller frees *out. */
ds4_status store_get_text(char **out, hid_t at, const char *name, bool set, const char *path,
                          ds4_err *err);

#endif
