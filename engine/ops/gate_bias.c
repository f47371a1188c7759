/* Adds the additive position term of a compressor to its gates.
 * Bindings: 0 gate [n_tok][n_col], 1 ape raw rows [ratio]; 2 y [n_tok][n_col].
 * Unit: x = column, y = token. Token t stands at pos0 + t and takes row (pos mod ratio). */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_gate_bias(const void *args, uint32_t grid[3]) {
    const struct ds4_args_gate_bias *a = args;
    grid[0] = a->n_col, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_gate_bias(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_gate_bias *a = c->args;
    const uint8_t *ape = c->bind[1];
    float row[DS4_MAX_ROW];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * a->n_col;
        float *y = (float *)c->bind[2] + (size_t)t * a->n_col;
        ds4_row_decode(row, ape + (size_t)((a->pos0 + t) % a->ratio) * a->row_bytes, c->wtype,
                       a->n_col, false);
        for (uint32_t i = box.x0; i < box.x1; i++) y[i] = ds4_fz(x[i] + row[i]);
    }
}
