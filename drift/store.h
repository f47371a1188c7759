#ifndef DRIFT_STORE_H
#define DRIFT_STORE_H
/* Run files in HDF5 by the schema of design.md section 5: streamed out, read by slab. The one
 * doorway to HDF5.
 *
 * A run is written to PATH.partial and renamed to PATH when complete, so that PATH is either
 * the old file or a complete new one. A partial file whose identity (model digest, plan,
 * fixture tokens, level, tool version) equals the new run's can be resumed: finished fixtures
 * are kept. Chunks are shuffled, compressed and checksummed. Damaged files give DS4_ERR_FORMAT
 * and one line; HDF5's own error printing is off. A checksum over the whole file stands before
 * it (seal.h) and is verified before HDF5 parses a byte.
 *
 * Memory: one chunk (64 KiB, or one row) per kept tap while a fixture is written.
 * Threads: HDF5 is not thread-safe; at most one thread of the process is inside this module. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"
#include "engine/ds4.h"

typedef enum drift_level {
    DRIFT_LEVEL_HASH,
    DRIFT_LEVEL_LOGITS,
    DRIFT_LEVEL_BOUNDARY,
    DRIFT_LEVEL_FULL
} drift_level;

typedef struct drift_store drift_store; /* being written */
typedef struct drift_run drift_run;     /* being read */

/* ---- writing ---- */

typedef struct drift_store_options {
    const char *const *key,
        *const *value; /* provenance, written as string attributes of /provenance;
                          values of more than 60,000 bytes become datasets */
    size_t n_fact;
    const char *identity; /* text that must be equal for a partial file to be resumed */
    bool resume;          /* false: an existing partial file is replaced */
} drift_store_options;

/* Owns: finish or abandon releases *out. */
ds4_status drift_store_create(drift_store **out, const char *path,
                              const drift_store_options *opt, ds4_err *err);
/* True when the resumed partial file holds this fixture complete. */
bool drift_store_has_fixture(const drift_store *s, const char *id);

typedef struct drift_store_fixture {
    const char *id;
    const int32_t *token;
    uint32_t n_tok, n_decode; /* the last n_decode tokens were evaluated one by one */
    const char *const *text;  /* bytes of each token, not terminated */
    const uint32_t *text_bytes;
    uint32_t n_vocab;
} drift_store_fixture;
ds4_status drift_store_begin_fixture(drift_store *s, const drift_store_fixture *f,
                                     ds4_err *err);
/* Appends rows to /fixtures/<id>/taps/<layer>/<tap> (layer "L03" or "out"), or to
 * /fixtures/<id>/logits for the logits tap, when `keep`; always adds to the tap's digest:
 * count, non-finite, min, max, sum of squares, 128-bit hash (XXH3 over the bytes of all rows in
 * position order, so that any split into events gives the same hash). Events of one tap arrive
 * in position order, without gaps and with one number of columns; DS4_ERR_INTERNAL otherwise.
 * Events without rows are ignored. */
ds4_status drift_store_rows(drift_store *s, const ds4_tap_event *e, bool keep, ds4_err *err);
/* Writes digests and ledger; the fixture then counts as finished in the partial file. */
ds4_status drift_store_end_fixture(drift_store *s, const ds4_ledger *l, ds4_err *err);
/* Adds provenance that is known only after the evaluation (digests of the kernels that ran, how
 * often something happened); keys that are there already get the new value. Between fixtures
 * only. */
ds4_status drift_store_add_facts(drift_store *s, const char *const *key,
                                 const char *const *value, size_t n, ds4_err *err);
/* Marks the file complete and renames it. Releases s in every case. */
ds4_status drift_store_finish(drift_store *s, ds4_err *err);
/* Leaves the partial file as it is. Releases s. NULL is legal. */
void drift_store_abandon(drift_store *s);

/* ---- reading ---- */

/* DS4_ERR_IO when the path cannot be opened; DS4_ERR_FORMAT when it is no complete run file of
 * a known version, or damaged. Owns: the caller closes *out. */
ds4_status drift_run_open(drift_run **out, const char *path, ds4_err *err);
void drift_run_close(drift_run *r);
const char *drift_run_path(const drift_run *r);
size_t drift_run_n_fact(const drift_run *r);
const char *drift_run_fact_at(const drift_run *r, size_t i, const char **value);
const char *drift_run_fact(const drift_run *r, const char *key); /* NULL: absent */

typedef struct drift_digest {
    uint64_t n, n_nonfinite;
    double min, max, sum_sq;
    uint64_t hash[2];
} drift_digest;

typedef struct drift_run_tap {
    ds4_tap tap;
    int32_t layer; /* -1: embedding and head */
    uint32_t n_row, n_col, pos0, pos_step;
    bool stored; /* the rows are in the file; else only the digest is */
    drift_digest digest;
} drift_run_tap;

typedef struct drift_run_ledger {
    const char *tap, *op, *phase, *wtype, *row, *wanted, *refusal,
        *variants; /* refusal "" : none */
    int32_t layer;
    uint64_t n_call, n_elem;
} drift_run_ledger;

typedef struct drift_run_fixture {
    const char *id;
    uint32_t n_tok, n_decode, n_vocab;
    const int32_t *token;
    drift_run_tap *tap; /* execution order: (layer, tap); embedding first, head last */
    size_t n_tap;
    drift_run_ledger *ledger;
    size_t n_ledger;
} drift_run_fixture;

size_t drift_run_n_fixture(const drift_run *r);
const drift_run_fixture *drift_run_fixture_at(const drift_run *r, size_t i);
const drift_run_fixture *drift_run_find_fixture(const drift_run *r, const char *id);
/* The text of a fixture's token i: writes up to cap bytes, returns the full length. */
size_t drift_run_token_text(const drift_run *r, const drift_run_fixture *f, uint32_t i,
                            char *dst, size_t cap);
/* Reads rows row0 .. row0 + n - 1 of a stored tap into dst [n][n_col] (f32 or i32). */
ds4_status drift_run_rows(const drift_run *r, const drift_run_fixture *f,
                          const drift_run_tap *t, uint32_t row0, uint32_t n, void *dst,
                          ds4_err *err);

#endif
