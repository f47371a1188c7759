/* Experts of a token by table.
 * Bindings: 0 table i32 [n_vocab][k], 1 token i32 [n_tok]; 2 sel i32 [n_tok][k].
 * Unit: x = slot, y = token. Token ids and table entries have been checked. */
#include "engine/ops/ops.h"

#include <string.h>

void ds4_grid_router_hash(const void *args, uint32_t grid[3]) {
    const struct ds4_args_router_hash *a = args;
    grid[0] = a->k, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_router_hash(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_router_hash *a = c->args;
    const uint8_t *table = c->bind[0]; /* a mapped tensor: any alignment */
    const int32_t *token = c->bind[1];
    int32_t *sel = c->bind[2];

    for (uint32_t t = box.y0; t < box.y1; t++)
        for (uint32_t s = box.x0; s < box.x1; s++)
            memcpy(&sel[(size_t)t * a->k + s], table + 4 * ((size_t)token[t] * a->k + s), 4);
}
