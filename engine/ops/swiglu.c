/* Clamped SwiGLU, with the router weight applied before the down projection.
 * Bindings: 0 gate [n_row][n_col], 1 up [n_row][n_col], 2 w [n_row] (unused without has_w);
 * 3 y [n_row][n_col]. Unit: x = column, y = row.
 * Order: g = min(g, clamp), u = clip(u, -clamp, clamp); ((g * sigmoid(g)) * u) * w, each
 * product passing ds4_fz. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"
#include "engine/base/fmath.h"

void ds4_grid_swiglu(const void *args, uint32_t grid[3]) {
    const struct ds4_args_swiglu *a = args;
    grid[0] = a->n_col, grid[1] = a->n_row, grid[2] = 1;
}

void ds4_ref_swiglu(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_swiglu *a = c->args;
    const float *w = c->bind[2];
    bool clamped = a->clamp > 1e-6f;

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t i = box.x0; i < box.x1; i++) {
            size_t at = (size_t)r * a->n_col + i;
            float g = ((const float *)c->bind[0])[at], u = ((const float *)c->bind[1])[at];
            if (clamped) {
                g = g > a->clamp ? a->clamp : g;
                u = u > a->clamp ? a->clamp : u < -a->clamp ? -a->clamp : u;
            }
            float y = ds4_fz(g * ds4_sigmoid(g));
            y = ds4_fz(y * u);
            ((float *)c->bind[3])[at] = a->has_w ? ds4_fz(y * w[r]) : y;
        }
}
