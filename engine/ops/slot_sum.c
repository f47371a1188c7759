/* Sum of the expert outputs of a token.
 * Bindings: 0 x [n_tok][n_slot][n_col]; 1 y [n_tok][n_col]. Unit: x = column, y = token.
 * Order: slots added from 0 in increasing slot. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_slot_sum(const void *args, uint32_t grid[3]) {
    const struct ds4_args_slot_sum *a = args;
    grid[0] = a->n_col, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_slot_sum(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_slot_sum *a = c->args;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * a->n_slot * a->n_col;
        float *y = (float *)c->bind[1] + (size_t)t * a->n_col;
        for (uint32_t i = box.x0; i < box.x1; i++) {
            float sum = 0.0f;
            for (uint32_t s = 0; s < a->n_slot; s++) sum = sum + x[(size_t)s * a->n_col + i];
            y[i] = ds4_fz(sum);
        }
    }
}
