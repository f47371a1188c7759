#ifndef DS4_MODEL_MAKE_VOCAB_H
#define DS4_MODEL_MAKE_VOCAB_H
/* A vocabulary from a tokenizer.json, written as the tokenizer keys of a GGUF: tokens, token
 * types (1 normal, 3 special, 4 added) and merges. Source: model.md 1.4 and 5. */
#include "engine/format/gguf_write.h"
#include "engine/format/vocab.h"

/* Errors: DS4_ERR_USAGE when it has not n_vocab tokens, has no merges (a loader refuses such a
 * file), or has an added token that a GGUF cannot carry. */
ds4_status ds4_make_put_vocab(ds4_gguf_writer *w, const ds4_vocab *v, uint32_t n_vocab,
                              ds4_err *err);

#endif
