/* Weighted sum of the hyper-connection streams.
 * Bindings: 0 X [n_tok][n_hc][n_embd], 1 w, n_hc weights at stride w_stride; 2 x
 * [n_tok][n_embd]. Unit: x = element, y = token. Order: streams added from 0 in increasing s,
 * each product rounded. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_hc_read(const void *args, uint32_t grid[3]) {
    const struct ds4_args_hc_read *a = args;
    grid[0] = a->n_embd, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_hc_read(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_read *a = c->args;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * a->n_hc * a->n_embd;
        const float *w = (const float *)c->bind[1] + (size_t)t * a->w_stride;
        float *y = (float *)c->bind[2] + (size_t)t * a->n_embd;
        for (uint32_t i = box.x0; i < box.x1; i++) {
            float sum = 0.0f;
            for (uint32_t s = 0; s < a->n_hc; s++)
                sum = sum + x[(size_t)s * a->n_embd + i] * w[s];
            y[i] = ds4_fz(sum);
        }
    }
}
