/* The k compressed rows with the largest scores, lower row on ties, in ascending order.
 * Bindings: 0 score [n_tok][n_row]; 1 sel i32 [n_tok][k]. Unit: x = token. The token at
 * pos0 + t chooses among rows below (pos + 1) / ratio, which are more than k. */
#include "engine/ops/ops.h"

void ds4_grid_index_topk(const void *args, uint32_t grid[3]) {
    const struct ds4_args_index_topk *a = args;
    grid[0] = a->n_tok, grid[1] = 1, grid[2] = 1;
}

/* The k-th largest key among n, by bisection over the key bits. */
static uint32_t kth_key(const float *score, uint32_t n, uint32_t k) {
    uint32_t key = 0;
    for (int bit = 31; bit >= 0; bit--) {
        uint32_t trial = key | 1u << bit, count = 0;
        for (uint32_t i = 0; i < n; i++) count += ds4_select_key(score[i]) >= trial;
        if (count >= k) key = trial;
    }
    return key;
}

void ds4_ref_index_topk(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_index_topk *a = c->args;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const float *score = (const float *)c->bind[0] + (size_t)t * a->n_row;
        int32_t *sel = (int32_t *)c->bind[1] + (size_t)t * a->k;
        uint32_t n = (a->pos0 + t + 1) / a->ratio, n_above = 0, n_out = 0;
        if (n > a->n_row) n = a->n_row;
        uint32_t key = kth_key(score, n, a->k);
        for (uint32_t i = 0; i < n; i++) n_above += ds4_select_key(score[i]) > key;
        uint32_t n_tie = a->k - n_above; /* rows equal to the k-th that still fit */
        for (uint32_t i = 0; i < n && n_out < a->k; i++) {
            uint32_t v = ds4_select_key(score[i]);
            if (v > key) sel[n_out++] = (int32_t)i;
            else if (v == key && n_tie) sel[n_out++] = (int32_t)i, n_tie--;
        }
    }
}
