#include "engine/model/make_vocab.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

/* A text of the vocabulary with a NUL behind it. */
static ds4_status put_str(ds4_gguf_writer *w, ds4_str s, const char *between, ds4_str t,
                          ds4_err *err) {
    char *text;
    size_t n = s.n + strlen(between) + t.n + 1;
    ds4_status st = ds4_mem_alloc(&text, n, 1, err);
    if (st != DS4_OK) return st;
    snprintf(text, n, "%.*s%s%.*s", (int)s.n, s.p, between, (int)t.n, t.p);
    ds4_gguf_put_item(w, text);
    ds4_mem_free(text);
    return DS4_OK;
}

/* A GGUF has no mark for text that is meant plainly but the fullwidth bar (model.md 5.4): any
 * other added token must read the same in the alphabet. */
static ds4_status check_plain(const ds4_vocab_token *t, ds4_err *err) {
    ds4_status st = DS4_OK;
    bool plain = t->kind == DS4_TOKEN_NORMAL || memmem(t->text.p, t->text.n, "\xef\xbd\x9c", 3);
    for (size_t i = 0; i < t->text.n && !plain; i++)
        if (t->text.p[i] < '!' || t->text.p[i] > '~')
            RAISE(DS4_ERR_USAGE, "added token \"%.*s\": a GGUF cannot carry it", (int)t->text.n,
                  t->text.p);
out:
    return st;
}

ds4_status ds4_make_put_vocab(ds4_gguf_writer *w, const ds4_vocab *v, uint32_t n_vocab,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t *type = NULL;
    if (v->n_token != n_vocab)
        RAISE(DS4_ERR_USAGE, "the tokenizer has %u tokens, dimension vocab is %u", v->n_token,
              n_vocab);
    if (!v->n_merge) RAISE(DS4_ERR_USAGE, "the tokenizer has no merges, a GGUF must have some");
    TRY(ds4_mem_alloc(&type, n_vocab, sizeof *type, err));
    ds4_gguf_put_strings(w, "tokenizer.ggml.tokens", n_vocab);
    for (uint32_t i = 0; i < n_vocab; i++) {
        TRY(check_plain(&v->token[i], err));
        TRY(put_str(w, v->token[i].text, "", (ds4_str){"", 0}, err));
        type[i] = v->token[i].kind;
    }
    ds4_gguf_put_array_u32(w, "tokenizer.ggml.token_type", type, n_vocab);
    ds4_gguf_put_strings(w, "tokenizer.ggml.merges", v->n_merge);
    for (uint32_t i = 0; i < v->n_merge; i++)
        TRY(put_str(w, v->merge[i][0], " ", v->merge[i][1], err));
out:
    ds4_mem_free(type);
    return st;
}
