/* Projection by the weight matrix that each slot selects (routed experts).
 * Bindings: 0 W raw rows [n_mat][n_out], 1 x f32 [n_tok][n_in] or [n_tok][n_slot][n_in],
 * 2 sel i32 [n_tok][n_slot]; 3 y [n_tok][n_slot][n_out].
 * Unit: x = output row, y = token * n_slot + slot. Order: ds4_dot16 over the decoded row. Under
 * DS4_ACT_Q8 each input row has first passed ds4_act_round. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_matmul_id(const void *args, uint32_t grid[3]) {
    const struct ds4_args_matmul_id *a = args;
    grid[0] = a->n_out, grid[1] = a->n_tok * a->n_slot, grid[2] = 1;
}

void ds4_ref_matmul_id(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_matmul_id *a = c->args;
    const uint8_t *w = c->bind[0];
    const float *x = c->bind[1];
    const int32_t *sel = c->bind[2];
    float *y = c->bind[3], row[DS4_MAX_ROW], rounded[DS4_MAX_ROW];
    bool is_rounded = ds4_act_is_rounded(c);

    for (uint32_t r = box.x0; r < box.x1; r++) {
        /* One decoded row serves every slot that selects its matrix. */
        for (uint32_t m = 0; m < a->n_mat; m++) {
            bool have = false;
            for (uint32_t s = box.y0; s < box.y1; s++) {
                if ((uint32_t)sel[s] != m) continue;
                if (!have)
                    ds4_row_decode(row, w + ((size_t)m * a->n_out + r) * a->row_bytes, c->wtype,
                                   a->n_in, c->half);
                have = true;
                const float *in = x + (size_t)(a->x_per_slot ? s : s / a->n_slot) * a->n_in;
                if (is_rounded) ds4_act_round(rounded, in, a->n_in, c->wtype), in = rounded;
                y[(size_t)s * a->n_out + r] = ds4_fz(ds4_dot16(row, in, a->n_in));
            }
        }
    }
}
