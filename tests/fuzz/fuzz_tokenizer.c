/* libFuzzer: any text through the bundled vocabulary. Run from the repository root. The ids
 * must lie in the vocabulary and give the text back up to its first NUL. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format/tokenizer.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const ds4_tokenizer *tokenizer(void) {
    static ds4_gguf *g;
    static ds4_tokenizer *t;
    if (!t && (ds4_gguf_open(&g, "fixtures/tiny/ds4-tiny-q2.gguf", NULL) != DS4_OK ||
               ds4_tokenizer_new(&t, g, NULL) != DS4_OK))
        abort();
    return t;
}

static void check(const ds4_tokenizer *t, const ds4_tokens *ids, const char *text, size_t n) {
    size_t at = 0;
    char dst[512];
    for (size_t i = 0; i < ids->n; i++) {
        if (ids->id[i] < 0 || (uint32_t)ids->id[i] >= ds4_tokenizer_n_vocab(t)) abort();
        size_t k = ds4_tokenizer_bytes(t, ids->id[i], dst, sizeof dst);
        if (k > sizeof dst || k > n - at || memcmp(dst, text + at, k)) abort();
        at += k;
    }
    if (at != n) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const ds4_tokenizer *t = tokenizer();
    const char *text = (const char *)data;
    ds4_tokens ids = {0};
    size_t n = size ? strnlen(text, size) : 0;
    if (ds4_tokenizer_encode(t, text, size, &ids, NULL) != DS4_OK) abort();
    check(t, &ids, text, n);
    ids.n = 0;
    if (ds4_tokenizer_encode_rendered(t, text, size, &ids, NULL) != DS4_OK) abort();
    check(t, &ids, text, n);
    ds4_tokens_free(&ids);
    return 0;
}
