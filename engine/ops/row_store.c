/* Copies rows into a ring: row i goes to slot (row0 + i) mod cap. Moves bits, computes nothing.
 * Bindings: 0 x [n_row][n_col]; 1 ring [cap][n_col]. Unit: x = column, y = row. n_row <= cap.
 */
#include "engine/ops/ops.h"

#include <string.h>

void ds4_grid_row_store(const void *args, uint32_t grid[3]) {
    const struct ds4_args_row_store *a = args;
    grid[0] = a->n_col, grid[1] = a->n_row, grid[2] = 1;
}

void ds4_ref_row_store(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_row_store *a = c->args;

    for (uint32_t r = box.y0; r < box.y1; r++) {
        const float *x = (const float *)c->bind[0] + (size_t)r * a->n_col;
        float *y = (float *)c->bind[1] + (size_t)((a->row0 + r) % a->cap) * a->n_col;
        memcpy(y + box.x0, x + box.x0, (size_t)(box.x1 - box.x0) * sizeof *y);
    }
}
