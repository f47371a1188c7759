#ifndef DS4_FORMAT_TOKENIZER_H
#define DS4_FORMAT_TOKENIZER_H
/* Text to token ids and back, byte exact: byte-level BPE with the piece rules of model.md 5. */
#include "engine/format/gguf.h"

typedef struct ds4_tokenizer ds4_tokenizer;

typedef enum ds4_special {
    DS4_SPECIAL_BOS,
    DS4_SPECIAL_EOS,
    DS4_SPECIAL_USER,
    DS4_SPECIAL_ASSISTANT,
    DS4_SPECIAL_THINK_OPEN,
    DS4_SPECIAL_THINK_CLOSE,
    DS4_SPECIAL_DSML,
    DS4_SPECIAL_COUNT
} ds4_special;

/* A growing list of ids; zero-initialise, free with ds4_tokens_free. */
typedef struct ds4_tokens {
    int32_t *id;
    size_t n, cap;
} ds4_tokens;
void ds4_tokens_free(ds4_tokens *t);
ds4_status ds4_tokens_push(ds4_tokens *t, int32_t id, ds4_err *err);

/* Builds from tokenizer.ggml.tokens and .merges. DS4_ERR_FORMAT when they are absent, empty,
 * of another type, or lack a special token. The GGUF must outlive the tokenizer.
 * Owns: the caller frees *out. */
ds4_status ds4_tokenizer_new(ds4_tokenizer **out, const ds4_gguf *g, ds4_err *err);
void ds4_tokenizer_free(ds4_tokenizer *t);

uint32_t ds4_tokenizer_n_vocab(const ds4_tokenizer *t);
int32_t ds4_tokenizer_special(const ds4_tokenizer *t, ds4_special s);

/* Appends the ids of plain text (special spellings are ordinary text). As in the published
 * tokenizer's rules the text ends at its first NUL byte, or after n bytes. Any bytes are legal.
 * Time grows as n log n even when the whole text is one piece. On failure ids may have been
 * appended; the list stays valid. */
ds4_status ds4_tokenizer_encode(const ds4_tokenizer *t, const char *text, size_t n,
                                ds4_tokens *out, ds4_err *err);
/* Appends the ids of a rendered transcript (special spellings become their ids). */
ds4_status ds4_tokenizer_encode_rendered(const ds4_tokenizer *t, const char *text, size_t n,
                                         ds4_tokens *out, ds4_err *err);
/* Chat framing of one turn (model.md 5.6). system may be NULL. DS4_THINK_MAX acts as
 * DS4_THINK_HIGH where n_ctx is below 393216. */
typedef enum ds4_think { DS4_THINK_OFF, DS4_THINK_HIGH, DS4_THINK_MAX } ds4_think;
ds4_status ds4_tokenizer_encode_chat(const ds4_tokenizer *t, ds4_think think,
                                     const char *system, const char *prompt, uint32_t n_ctx,
                                     ds4_tokens *out, ds4_err *err);

/* The bytes of one token: writes up to cap bytes, returns the full length; 0 for an id that the
 * vocabulary lacks. */
size_t ds4_tokenizer_bytes(const ds4_tokenizer *t, int32_t id, char *dst, size_t cap);

#endif
