/* Read weights of the output head: the logistic of the mixed state.
 * Bindings: 0 mix [n_tok][n_hc], 1 scale [1], 2 base [n_hc]; 3 w [n_tok][n_hc].
 * Unit: x = token. Order: (mix * scale + base), logistic, + eps. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"
#include "engine/base/fmath.h"

void ds4_grid_hc_gate(const void *args, uint32_t grid[3]) {
    const struct ds4_args_hc_gate *a = args;
    grid[0] = a->n_tok, grid[1] = 1, grid[2] = 1;
}

void ds4_ref_hc_gate(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_gate *a = c->args;
    const float *mix = c->bind[0], *scale = c->bind[1], *base = c->bind[2];
    float *w = c->bind[3];

    for (size_t i = (size_t)box.x0 * a->n_hc; i < (size_t)box.x1 * a->n_hc; i++)
        w[i] = ds4_fz(ds4_sigmoid(mix[i] * scale[0] + base[i % a->n_hc]) + a->eps);
}
