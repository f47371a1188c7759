/* Weights of the selected experts from their unbiased scores.
 * Bindings: 0 p [n_tok][n_expert], 1 sel i32 [n_tok][k]; 2 w [n_tok][k].
 * Unit: x = token. Order: z = sum of p[sel] from 0 in slot order, max(z, 2^-14); (p / z) *
 * scale. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_router_weight(const void *args, uint32_t grid[3]) {
    const struct ds4_args_router_weight *a = args;
    grid[0] = a->n_tok, grid[1] = 1, grid[2] = 1;
}

void ds4_ref_router_weight(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_router_weight *a = c->args;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const float *p = (const float *)c->bind[0] + (size_t)t * a->n_expert;
        const int32_t *sel = (const int32_t *)c->bind[1] + (size_t)t * a->k;
        float *w = (float *)c->bind[2] + (size_t)t * a->k, z = 0.0f;
        for (uint32_t s = 0; s < a->k; s++) z = z + p[sel[s]];
        if (!(z > 0x1p-14f)) z = 0x1p-14f;
        for (uint32_t s = 0; s < a->k; s++) w[s] = ds4_fz(p[sel[s]] / z * a->scale);
    }
}
