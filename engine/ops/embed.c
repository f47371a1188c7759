/* Embedding rows copied to every hyper-connection stream.
 * Bindings: 0 W raw rows [n_vocab], 1 token i32 [n_tok]; 2 y [n_tok][n_hc][n_embd].
 * Unit: x = element, y = token. Token ids have been checked against n_vocab. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_embed(const void *args, uint32_t grid[3]) {
    const struct ds4_args_embed *a = args;
    grid[0] = a->n_embd, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_embed(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_embed *a = c->args;
    const uint8_t *w = c->bind[0];
    const int32_t *token = c->bind[1];
    float *y = c->bind[2], row[DS4_MAX_ROW];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        ds4_row_decode(row, w + (size_t)token[t] * a->row_bytes, c->wtype, a->n_embd, false);
        for (uint32_t s = 0; s < a->n_hc; s++) {
            float *to = y + ((size_t)t * a->n_hc + s) * a->n_embd;
            for (uint32_t i = box.x0; i < box.x1; i++) to[i] = ds4_fz(row[i]);
        }
    }
}
