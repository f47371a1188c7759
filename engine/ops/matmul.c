/* Projection by a weight in any block format, with optional grouped inputs.
 * Bindings: 0 W raw rows [n_out], 1 x f32 [n_tok][x_stride]; 2 y [n_tok][n_out].
 * Unit: x = output row r, y = token t. Row r reads x[t][(r / group_rows) * n_in ...].
 * Order: ds4_dot16 over the decoded row. Under DS4_ACT_Q8 each input slice has first passed
 * ds4_act_round. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_matmul(const void *args, uint32_t grid[3]) {
    const struct ds4_args_matmul *a = args;
    grid[0] = a->n_out, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_matmul(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_matmul *a = c->args;
    const uint8_t *w = c->bind[0];
    const float *x = c->bind[1];
    float *y = c->bind[2], row[DS4_MAX_ROW], rounded[DS4_MAX_ROW];
    bool is_rounded = ds4_act_is_rounded(c);

    for (uint32_t r = box.x0; r < box.x1; r++) {
        size_t slice = (size_t)(r / a->group_rows) * a->n_in;
        ds4_row_decode(row, w + (size_t)r * a->row_bytes, c->wtype, a->n_in, c->half);
        for (uint32_t t = box.y0; t < box.y1; t++) {
            const float *in = x + (size_t)t * a->x_stride + slice;
            if (is_rounded) ds4_act_round(rounded, in, a->n_in, c->wtype), in = rounded;
            y[(size_t)t * a->n_out + r] = ds4_fz(ds4_dot16(row, in, a->n_in));
        }
    }
}
