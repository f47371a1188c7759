/* Writes a block's output back into the four streams and mixes them.
 * Bindings: 0 X [n_tok][4][n_embd] (state at entry of the half), 1 y [n_tok][n_embd],
 * 2 split [n_tok][24] (hc_split); 3 X' [n_tok][4][n_embd].
 * Unit: x = element, y = token. Order: y * post[b], then + comb[a][b] * X[a] for a = 0..3. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_hc_write(const void *args, uint32_t grid[3]) {
    const struct ds4_args_hc_write *a = args;
    grid[0] = a->n_embd, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_hc_write(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_write *a = c->args;
    size_t n = a->n_embd;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * 4 * n;
        const float *y = (const float *)c->bind[1] + (size_t)t * n;
        const float *post = (const float *)c->bind[2] + (size_t)t * 24 + 4, *comb = post + 4;
        float *to = (float *)c->bind[3] + (size_t)t * 4 * n;
        for (uint32_t b = 0; b < 4; b++)
            for (uint32_t i = box.x0; i < box.x1; i++) {
                float sum = y[i] * post[b];
                for (uint32_t s = 0; s < 4; s++) sum = sum + comb[4 * s + b] * x[s * n + i];
                to[b * n + i] = ds4_fz(sum);
            }
    }
}
