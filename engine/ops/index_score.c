/* Indexer scores of the compressed rows that a token may see.
 * Bindings: 0 q [n_tok][n_head][128], 1 w [n_tok][n_head], 2 K [>= n_row][128]; 3 score
 * [n_tok][n_row]. Unit: x = row c, y = token. Rows with c >= (pos + 1) / ratio get DS4_NEG.
 * Order: ds4_dot16 per head, max with 0, times (w * scale), heads added from 0 in increasing h.
 */
#include "engine/ops/ops.h"

#include "engine/base/float.h"

void ds4_grid_index_score(const void *args, uint32_t grid[3]) {
    const struct ds4_args_index_score *a = args;
    grid[0] = a->n_row, grid[1] = a->n_tok, grid[2] = 1;
}

void ds4_ref_index_score(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_index_score *a = c->args;
    const float *k = c->bind[2];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *q = (const float *)c->bind[0] + (size_t)t * a->n_head * 128;
        const float *w = (const float *)c->bind[1] + (size_t)t * a->n_head;
        float *y = (float *)c->bind[3] + (size_t)t * a->n_row;
        uint32_t n_visible = (a->pos0 + t + 1) / a->ratio;
        for (uint32_t r = box.x0; r < box.x1; r++) {
            float sum = 0.0f;
            for (uint32_t h = 0; r < n_visible && h < a->n_head; h++) {
                float s = ds4_dot16(k + (size_t)r * 128, q + (size_t)h * 128, 128);
                sum = sum + (s > 0.0f ? s : 0.0f) * (w[h] * a->scale);
            }
            y[r] = r < n_visible ? ds4_fz(sum) : DS4_NEG;
        }
    }
}
