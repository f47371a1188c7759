/* Scales each row of x to unit root mean square, then by w.
 * Bindings: 0 x [n_row][n_col], 1 w [n_col] f32 (unused without has_w); 2 y [n_row][n_col].
 * Unit: x = row. Order: squares in 16 lanes and a tree; mean = ss / n_col; v = mean + eps;
 * s = 1 / sqrt(v), or ds4_rsqrt(v) while DS4_NORM_RSQRT_DISABLE is off; (x * s) * w. */
#include "engine/ops/ops.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/base/fmath.h"
#include "engine/variants.h"

void ds4_grid_rms_norm(const void *args, uint32_t grid[3]) {
    const struct ds4_args_rms_norm *a = args;
    grid[0] = a->n_row, grid[1] = 1, grid[2] = 1;
}

void ds4_ref_rms_norm(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_rms_norm *a = c->args;
    const float *w = c->bind[1];

    for (uint32_t r = box.x0; r < box.x1; r++) {
        const float *x = (const float *)c->bind[0] + (size_t)r * a->n_col;
        float *y = (float *)c->bind[2] + (size_t)r * a->n_col;
        float v = ds4_dot16(x, x, a->n_col) / (float)a->n_col + a->eps;
        float s =
            c->variants & DS4_VARIANT_BIT(NORM_RSQRT_DISABLE) ? 1.0f / sqrtf(v) : ds4_rsqrt(v);
        for (uint32_t i = 0; i < a->n_col; i++) {
            float p = x[i] * s;
            y[i] = ds4_fz(a->has_w ? p * w[i] : p);
        }
    }
}
