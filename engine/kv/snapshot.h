#ifndef DS4_KV_SNAPSHOT_H
#define DS4_KV_SNAPSHOT_H
/* The state of a session as bytes: the DSV4 payload, version 1 (model.md 4.5). Token ids, the
 * logits after the last token and every cached row that can still matter; nothing of the model
 * but its shape, so that a payload of another model of the same shape cannot be told apart.
 *
 * The payload keeps a compressor's projections as the window before and the current one (KS and
 * GS), their owner by token position. Both hold the same numbers; this module knows which
 * position stands in which row. Rows that nothing reads any more (those of the current window
 * that have no token yet; the window before the first) are written cleared, KS = 0 and GS =
 * NEG, and are not read back: what stands there depends on who wrote it.
 *
 * Little endian, as every machine this runs on. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"

enum { DS4_SNAPSHOT_MAGIC = 0x34565344, DS4_SNAPSHOT_VERSION = 1, DS4_SNAPSHOT_HEAD = 52 };

/* Fields 2 to 12 in file order: member, name in messages. */
#define DS4_SNAPSHOT_FIELDS(F)                                                                 \
    F(n_ctx, "context size")                                                                   \
    F(n_chunk, "prefill chunk")                                                                \
    F(raw_cap, "raw capacity")                                                                 \
    F(window, "raw window")                                                                    \
    F(comp_cap, "compressed capacity")                                                         \
    F(n_tok, "token count")                                                                    \
    F(n_layer, "layer count")                                                                  \
    F(d_head, "head width")                                                                    \
    F(d_idx, "indexer width")                                                                  \
    F(n_vocab, "vocabulary size")                                                              \
    F(n_raw, "live raw rows")

typedef struct ds4_snapshot_head {
#define F(member, name) uint32_t member;
    DS4_SNAPSHOT_FIELDS(F)
#undef F
} ds4_snapshot_head;

/* The session that writes or reads. */
typedef struct ds4_snapshot_shape {
    uint32_t n_ctx, window; /* of the session, of the model */
    uint32_t n_chunk;       /* field 3; 0: what model.md 4.4 makes of n_ctx, min(n_ctx, 2048) */
    uint32_t n_layer, d_head, d_idx, n_vocab;
    const uint32_t *ratio; /* [n_layer] */
} ds4_snapshot_shape;

/* What is cached, and how its rows are counted. */
typedef enum ds4_kv_part {
    DS4_KV_RAW,       /* by token position, [d_head] */
    DS4_KV_COMP,      /* by compressed row, [d_head] */
    DS4_KV_COMP_KV,   /* by token position, [lanes * d_head] */
    DS4_KV_COMP_GATE, /* the same, the position's bias added (gate_ape) */
    DS4_KV_IDX,       /* as COMP and its projections, for the indexer: d_idx */
    DS4_KV_IDX_KV,
    DS4_KV_IDX_GATE,
    DS4_KV_PART_COUNT
} ds4_kv_part;

/* Rows first .. first + n - 1 of a part of a layer, from and to their owner. */
typedef struct ds4_kv_rows {
    ds4_status (*read)(void *user, uint32_t layer, ds4_kv_part part, uint32_t first, uint32_t n,
                       float *dst, ds4_err *err);
    ds4_status (*write)(void *user, uint32_t layer, ds4_kv_part part, uint32_t first,
                        uint32_t n, const float *src, ds4_err *err);
    void *user;
} ds4_kv_rows;

/* Takes the payload piece by piece, in order. */
typedef struct ds4_snapshot_sink {
    ds4_status (*put)(void *user, const void *p, size_t n, ds4_err *err);
    void *user;
} ds4_snapshot_sink;

/* Exact size of the payload after n_tok tokens. */
uint64_t ds4_snapshot_bytes(const ds4_snapshot_shape *s, uint32_t n_tok);

/* Shapes: token [n_tok]; logits [n_vocab]. */
ds4_status ds4_snapshot_write(const ds4_snapshot_sink *to, const ds4_snapshot_shape *s,
                              const int32_t *token, uint32_t n_tok, const float *logits,
                              const ds4_kv_rows *rows, ds4_err *err);

/* Reads the header of n bytes of anything; no more than magic, version and length is checked.
 *
 * Errors: DS4_ERR_FORMAT. */
ds4_status ds4_snapshot_peek(ds4_snapshot_head *out, const void *data, size_t n, ds4_err *err);

/* Checks n bytes in full against the session that is to take them; allocates nothing.
 *
 * Errors: DS4_ERR_FORMAT names the field, what was found and what was wanted. The rules are
 *         those of model.md 4.5, and four that follow from what a payload means: token ids are
 *         of the vocabulary; a layer of ratio r holds floor(N / r) compressed rows; as many
 *         indexer rows; the window before the first one is cleared (its gates NEG or -inf). */
ds4_status ds4_snapshot_check(ds4_snapshot_head *out, const ds4_snapshot_shape *s,
                              const void *data, size_t n, ds4_err *err);

/* Reads a payload that ds4_snapshot_check accepted for this shape.
 *
 * Shapes: token [n_tok]; logits [n_vocab]. */
ds4_status ds4_snapshot_read(const ds4_snapshot_shape *s, const void *data, int32_t *token,
                             float *logits, const ds4_kv_rows *rows, ds4_err *err);

#endif
