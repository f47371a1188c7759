#ifndef DS4_FORMAT_TOKENIZER_H
#define DS4_FORMAT_TOKENIZER_H
/* Text to token ids and back, byte exact: byte-level BPE.
 *
 * A vocabulary comes from a GGUF or from a Hugging Face tokenizer.json (vocab.h). What cuts a
 * text into pieces belongs to the source: a GGUF is cut by the rules that existing engines
 * apply to this family (model.md 5.3, ASCII and "everything else"), a tokenizer.json by the
 * patterns that it states (split.h, Unicode classes). The two part on text with non-ASCII
 * punctuation, symbols, digits or spaces, so ids of the published tokenizer want the patterns;
 * ds4_tokenizer_split_by changes the rule of either.
 *
 * Bytes: tokens are byte strings and every byte is a token, so ids give back the very bytes of
 * the text, valid UTF-8 or not (a GGUF whose vocabulary lacks bytes loses those). With patterns
 * a byte that begins no valid UTF-8 character is a character without properties. */
#include "engine/format/vocab.h"

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
/* Builds from a tokenizer.json, by path or already read (name is for messages).
 * Errors: DS4_ERR_IO; DS4_ERR_FORMAT for what vocab.h and split.h refuse, for an added token
 * with two ids, and when a special token is missing. Owns: the caller frees *out. */
ds4_status ds4_tokenizer_open(ds4_tokenizer **out, const char *path, ds4_err *err);
ds4_status ds4_tokenizer_new_vocab(ds4_tokenizer **out, const ds4_vocab *v, const char *name,
                                   ds4_err *err);
void ds4_tokenizer_free(ds4_tokenizer *t);

/* What cuts texts into pieces: the rule of the source (the default); the rules of model.md 5.3;
 * or patterns, those of a tokenizer.json or, for a GGUF, those that the published model's
 * tokenizer.json has. */
typedef enum ds4_pre { DS4_PRE_OWN, DS4_PRE_MODEL, DS4_PRE_HF } ds4_pre;
ds4_status ds4_tokenizer_split_by(ds4_tokenizer *t, ds4_pre pre, ds4_err *err);
/* Whether a NUL is a byte of a text; by the rules of model.md it ends the text. */
bool ds4_tokenizer_reads_nul(const ds4_tokenizer *t);

uint32_t ds4_tokenizer_n_vocab(const ds4_tokenizer *t);
int32_t ds4_tokenizer_special(const ds4_tokenizer *t, ds4_special s);

/* Appends the ids of plain text (special spellings are ordinary text). By the rules of model.md
 * the text ends at its first NUL byte, or after n bytes; patterns read all n. Any bytes are
 * legal. Time grows as n log n even when the whole text is one piece. On failure ids may have
 * been appended; the list stays valid. */
ds4_status ds4_tokenizer_encode(const ds4_tokenizer *t, const char *text, size_t n,
                                ds4_tokens *out, ds4_err *err);
/* Appends the ids of a rendered transcript (special spellings become their ids). */
ds4_status ds4_tokenizer_encode_rendered(const ds4_tokenizer *t, const char *text, size_t n,
                                         ds4_tokens *out, ds4_err *err);
/* Appends the ids of text in which every added token's spelling becomes its id, the leftmost
 * first, the longest of those; what lies between is encoded as plain text of its own. Added
 * tokens: those of a tokenizer.json; of a GGUF the specials and what tokenizer.ggml.token_type
 * calls control (3) or user defined (4). */
ds4_status ds4_tokenizer_encode_added(const ds4_tokenizer *t, const char *text, size_t n,
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
/* The bytes of all of a list, one after the other. DS4_ERR_FORMAT names an id that the
 * vocabulary lacks. Owns: the caller frees *out with ds4_mem_free. */
ds4_status ds4_tokenizer_detokenize(const ds4_tokenizer *t, const int32_t *id, size_t n,
                                    char **out, size_t *n_out, ds4_err *err);

#endif
