#ifndef DS4_FORMAT_BPE_H
#define DS4_FORMAT_BPE_H
/* Byte-pair encoding of one piece: symbols, merges, and the merging itself, in raw bytes.
 *
 * Token and merge texts are written in a printable alphabet (alphabet.h); a text made of its
 * characters alone stands for a byte string, its symbol, and no other text can ever come out of
 * a merge. So symbols are interned once: 0..255 are the single bytes, then vocabulary entries,
 * then parts of merges.
 *
 * Order: the known pair of lowest rank is fused, the leftmost of equals, until none is known.
 * Source: model.md 5.2. Internal to engine/format. */
#include "engine/format/tokenizer.h"

typedef struct ds4_bpe ds4_bpe;

/* Room for n_merge merges. Owns: the caller frees *out. */
ds4_status ds4_bpe_new(ds4_bpe **out, uint64_t n_merge, ds4_err *err);
void ds4_bpe_free(ds4_bpe *b);

/* The token of a byte string; of duplicates the last wins. */
ds4_status ds4_bpe_add_token(ds4_bpe *b, const uint8_t *p, size_t n, int32_t id, ds4_err *err);
/* The token whose text, as written, is this one byte: a symbol without a token goes out by the
 * bytes of its text that have one. */
void ds4_bpe_add_byte(ds4_bpe *b, uint8_t byte, int32_t id);
/* p holds the left part, nl bytes, and then the right one, nr bytes; both at least 1. Of
 * duplicate pairs the last wins. No more than the n_merge of ds4_bpe_new. */
ds4_status ds4_bpe_add_merge(ds4_bpe *b, const uint8_t *p, size_t nl, size_t nr, uint32_t rank,
                             ds4_err *err);

/* The token of exactly these bytes, -1 for none. */
int32_t ds4_bpe_token(const ds4_bpe *b, const uint8_t *p, size_t n);

/* Memory that encodings of long pieces use; zero-initialise, end with fini. */
typedef struct ds4_bpe_scratch {
    struct ds4_bpe_node *node;
    uint64_t *heap;
    size_t n_heap, cap;
} ds4_bpe_scratch;
void ds4_bpe_scratch_fini(ds4_bpe_scratch *s);

/* Appends the ids of one piece. Time grows as n log n. */
ds4_status ds4_bpe_encode(const ds4_bpe *b, ds4_bpe_scratch *s, const uint8_t *p, size_t n,
                          ds4_tokens *out, ds4_err *err);

#endif
