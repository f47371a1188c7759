#ifndef DS4_FORMAT_VOCAB_H
#define DS4_FORMAT_VOCAB_H
/* A Hugging Face tokenizer.json of the byte-level BPE family, read and checked: token texts by
 * id, merges in the order of their ranks, added tokens, the patterns that split a text.
 *
 * Read: version "1.0"; model BPE with vocab, merges (as "left right" or as pairs) and
 * ignore_merges; pre_tokenizer Split (behavior Isolated, invert false) in any number and one
 * ByteLevel behind them, in a Sequence or alone; decoder ByteLevel; post_processor ByteLevel or
 * null; a normalizer that does nothing; added_tokens. A part that would change ids or bytes and
 * is not in this list is refused by its name, never passed over.
 *
 * Checked: ids are 0 to n_token - 1, each given once; both parts of a merge and their join are
 * in the vocabulary; each of the 256 bytes is a token, so that every text has ids and ids give
 * the text back.
 *
 * Limits: 16 MiB of JSON; a hostile file gives DS4_ERR_FORMAT and one line, never more memory
 * than a multiple of its bytes. */
#include "engine/format/split.h"

typedef enum ds4_token_kind { /* the numbers of tokenizer.ggml.token_type */
                              DS4_TOKEN_NORMAL = 1,
                              DS4_TOKEN_SPECIAL = 3, /* an added token that is special */
                              DS4_TOKEN_ADDED = 4    /* an added token that is not */
} ds4_token_kind;

typedef struct ds4_vocab_token {
    ds4_str text; /* as written in the file: added tokens plainly, others in the alphabet */
    ds4_token_kind kind;
    bool in_model; /* in model.vocab; an added token may be in both */
} ds4_vocab_token;

typedef struct ds4_vocab {
    uint32_t n_token, n_merge, n_split;
    ds4_vocab_token *token; /* by id */
    ds4_str (*merge)[2];    /* by rank: left and right */
    ds4_split_pattern split[DS4_SPLIT_MAX_PATTERN];
    bool ignore_merges; /* a piece that is a token is that token, merges or not */
    void *json;         /* what the texts point into */
} ds4_vocab;

/* Reads a file, or bytes under a name for messages. Errors: DS4_ERR_IO, DS4_ERR_FORMAT.
 * Owns: the caller frees *out. */
ds4_status ds4_vocab_open(ds4_vocab **out, const char *path, ds4_err *err);
ds4_status ds4_vocab_parse(ds4_vocab **out, const void *bytes, size_t n, const char *name,
                           ds4_err *err);
void ds4_vocab_free(ds4_vocab *v);

#endif
