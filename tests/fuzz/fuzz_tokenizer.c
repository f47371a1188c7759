/* libFuzzer: texts, split patterns and tokenizer.json files. Run from the repository root. The
 * first byte says what the rest is:
 *
 *   j  a tokenizer.json; one that loads must encode a fixed text and give it back
 *   p  a split pattern up to the first NUL, and a text that it cuts: the pieces are the text
 *   o  a text through a small tokenizer.json; all else: a text through the bundled GGUF
 *
 * Ids must lie in the vocabulary and give the text back (from a GGUF up to its first NUL). */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/format/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ds4_tokenizer *from_gguf(void) {
    static ds4_gguf *g;
    static ds4_tokenizer *t;
    if (!t && (ds4_gguf_open(&g, "fixtures/tiny/ds4-tiny-q2.gguf", NULL) != DS4_OK ||
               ds4_tokenizer_new(&t, g, NULL) != DS4_OK))
        abort();
    return t;
}

static const ds4_tokenizer *from_json(void) {
    static ds4_tokenizer *t;
    if (!t &&
        ds4_tokenizer_open(&t, "fixtures/vectors/tokenizer/published.json", NULL) != DS4_OK)
        abort();
    return t;
}

static void check(const ds4_tokenizer *t, const ds4_tokens *ids, const char *text, size_t n) {
    char *back;
    size_t n_back;
    if (ds4_tokenizer_detokenize(t, ids->id, ids->n, &back, &n_back, NULL) != DS4_OK) abort();
    if (n_back != n || memcmp(back, text, n)) abort();
    ds4_mem_free(back);
}

typedef ds4_status encode_fn(const ds4_tokenizer *, const char *, size_t, ds4_tokens *,
                             ds4_err *);

static void check_text(const ds4_tokenizer *t, const char *text, size_t size, size_t n) {
    static encode_fn *const encode[] = {ds4_tokenizer_encode, ds4_tokenizer_encode_rendered,
                                        ds4_tokenizer_encode_added};
    for (int i = 0; i < 3; i++) {
        ds4_tokens ids = {0};
        if (encode[i](t, text, size, &ids, NULL) != DS4_OK) abort();
        check(t, &ids, text, n);
        ds4_tokens_free(&ids);
    }
}

/* A pattern of the file may give up on a text; nothing else may go wrong. */
static void check_json(const char *p, size_t n) {
    static const char text[] = "Il 12 maggio: 中文ひらがな\n\n  x = y_2; <think>\xff\0 fine";
    ds4_vocab *v = NULL;
    ds4_tokenizer *t = NULL;
    ds4_tokens ids = {0};
    if (ds4_vocab_parse(&v, p, n, "fuzz", NULL) == DS4_OK &&
        ds4_tokenizer_new_vocab(&t, v, "fuzz", NULL) == DS4_OK &&
        ds4_tokenizer_encode_added(t, text, sizeof text - 1, &ids, NULL) == DS4_OK)
        check(t, &ids, text, sizeof text - 1);
    ds4_tokens_free(&ids);
    ds4_tokenizer_free(t);
    ds4_vocab_free(v);
}

static ds4_status walk(void *user, const uint8_t *p, size_t n) {
    const uint8_t **at = user;
    if (p != *at || !n) abort();
    *at = p + n;
    return DS4_OK;
}

static void check_pattern(const uint8_t *p, size_t n) {
    const uint8_t *end = memchr(p, 0, n), *at;
    ds4_split *s = NULL;
    size_t k = end ? (size_t)(end - p) : n;
    ds4_split_pattern pattern = {{(const char *)p, k}, false};
    if (ds4_split_new(&s, &pattern, 1, "fuzz", NULL) != DS4_OK) return;
    at = end ? end + 1 : p + n;
    if (ds4_split_text(s, at, (size_t)(p + n - at), walk, &at, NULL) == DS4_OK && at != p + n)
        abort();
    ds4_split_free(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *text = (const char *)data + 1;
    if (!size) return 0;
    if (*data == 'j') check_json(text, size - 1);
    else if (*data == 'p') check_pattern(data + 1, size - 1);
    else if (*data == 'o') check_text(from_json(), text, size - 1, size - 1);
    else check_text(from_gguf(), text, size - 1, size > 1 ? strnlen(text, size - 1) : 0);
    return 0;
}
