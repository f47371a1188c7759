#ifndef DRIFT_FIXTURE_H
#define DRIFT_FIXTURE_H
/* Fixtures: prompts as token ids, with how many of the last tokens are decoded one by one. */
#include "engine/ds4.h"

typedef struct drift_fixture_input {
    char *id;
    int32_t *token;
    uint32_t n_tok, n_decode;
} drift_fixture_input;

typedef struct drift_fixture_set {
    drift_fixture_input *at;
    size_t n, cap;
} drift_fixture_set;

void drift_fixture_set_free(drift_fixture_set *s);

/* Adds the fixtures of a JSON list (schema "ds4-drift/fixtures"); ids: comma-separated names,
 * NULL or "all" for every one. Prompt paths are relative to the list. The tokenizer must be
 * loaded. */
ds4_status drift_fixtures_load(drift_fixture_set *s, const char *path, const char *ids,
                               const ds4_engine *e, ds4_err *err);
/* Adds one fixture of text: BOS and the text, or the chat framing without thinking. */
ds4_status drift_fixtures_add_text(drift_fixture_set *s, const char *id, const char *text,
                                   size_t n, bool chat, uint32_t n_decode, const ds4_engine *e,
                                   ds4_err *err);
/* Appends ids written as text, any white space between them; a NUL ends the text at p[n]. name
 * is for messages. Errors: DS4_ERR_FORMAT. */
ds4_status drift_parse_ids(ds4_tokens *ids, const char *p, size_t n, const char *name,
                           ds4_err *err);
/* Adds one fixture from a file of ids as text, any white space between them. */
ds4_status drift_fixtures_add_ids(drift_fixture_set *s, const char *id, const char *path,
                                  uint32_t n_decode, ds4_err *err);

/* Reads a whole file of at most `most` bytes, a NUL behind it. Owns: the caller frees *out. */
ds4_status drift_read_file(char **out, size_t *n, const char *path, size_t most, ds4_err *err);

#endif
