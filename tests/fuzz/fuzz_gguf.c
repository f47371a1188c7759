/* libFuzzer: any bytes as a model file, through parse, config, weights and tokenizer. Seeds:
 * the heads of fixtures/tiny. A refusal must be one line; a success must leave readable views.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format/tokenizer.h"
#include "engine/model/weights.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Reads the first and the last byte of every tensor: the promise of the directory. */
static void touch(const ds4_gguf *g) {
    volatile uint8_t sink = 0;
    for (uint64_t i = 0; i < ds4_gguf_n_tensor(g); i++) {
        const ds4_tensor *t = ds4_gguf_tensor(g, i);
        if (t->n_bytes) sink ^= t->data[0], sink ^= t->data[t->n_bytes - 1];
    }
    (void)sink;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static ds4_weights weights;
    ds4_gguf *g = NULL;
    ds4_tokenizer *t = NULL;
    ds4_config cfg;
    ds4_err err = {0};
    ds4_status st = ds4_gguf_parse(&g, data, size, "fuzz", &err);
    if (st == DS4_OK) {
        touch(g);
        if (ds4_tokenizer_new(&t, g, &err) == DS4_OK) {
            ds4_tokens ids = {0};
            if (ds4_tokenizer_encode(t, (const char *)data, size, &ids, &err) != DS4_OK)
                abort();
            ds4_tokens_free(&ids);
        }
        st = ds4_config_read(&cfg, g, &err);
        if (st == DS4_OK) st = ds4_weights_bind(&weights, g, &cfg, &err);
    }
    if (st != DS4_OK && (st != DS4_ERR_FORMAT || !err.message[0] || strchr(err.message, '\n')))
        abort();
    ds4_tokenizer_free(t);
    ds4_gguf_close(g);
    return 0;
}
