/* Router scores: the square root of the softplus.
 * Bindings: 0 logit [n_elem]; 1 p [n_elem]. Unit: x = element. Order: ds4_sqrt_softplus. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"
#include "engine/base/fmath.h"

void ds4_grid_router_prob(const void *args, uint32_t grid[3]) {
    const struct ds4_args_router_prob *a = args;
    grid[0] = a->n_elem, grid[1] = 1, grid[2] = 1;
}

void ds4_ref_router_prob(const ds4_ref_call *c, ds4_box box) {
    const float *x = c->bind[0];
    float *y = c->bind[1];
    for (uint32_t i = box.x0; i < box.x1; i++) y[i] = ds4_fz(ds4_sqrt_softplus(x[i]));
}
