/* The k experts with the largest biased scores, best first, lower expert on ties.
 * Bindings: 0 p [n_tok][n_expert], 1 bias [n_expert] (unused without has_bias); 2 sel i32
 * [n_tok][k]. Unit: x = token. Order: p + bias, keys of ds4_select_key. */
#include "engine/ops/ops.h"

void ds4_grid_router_topk(const void *args, uint32_t grid[3]) {
    const struct ds4_args_router_topk *a = args;
    grid[0] = a->n_tok, grid[1] = 1, grid[2] = 1;
}

void ds4_ref_router_topk(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_router_topk *a = c->args;
    const float *bias = c->bind[1];

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const float *p = (const float *)c->bind[0] + (size_t)t * a->n_expert;
        int32_t *sel = (int32_t *)c->bind[2] + (size_t)t * a->k;
        uint32_t last_key = UINT32_MAX, last = 0; /* the expert picked before */
        for (uint32_t s = 0; s < a->k; s++) {
            uint32_t best = UINT32_MAX, best_key = 0;
            for (uint32_t e = 0; e < a->n_expert; e++) {
                uint32_t key = ds4_select_key(a->has_bias ? p[e] + bias[e] : p[e]);
                bool picked = s && (key > last_key || (key == last_key && e <= last));
                if (!picked && (best == UINT32_MAX || key > best_key)) best = e, best_key = key;
            }
            sel[s] = (int32_t)best, last = best, last_key = best_key;
        }
    }
}
