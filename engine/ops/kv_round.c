/* Storage rounding of attention rows: FP8 E4M3 with one power-of-two scale per 64 elements
 * on the first n_fp8, then f16 on all d_head.
 * Bindings: 0 x [n_row][d_head]; 1 y [n_row][d_head]. Unit: x = block of 64, y = row.
 * Scale: m = max(max |x|, 1e-4), v = m / 448, 2^ceil(log2 v) from the bits of v (exact).
 * DS4_KV_RAW_F32 leaves out the f16 step, DS4_STORE_EXACT both. n_fp8 is a multiple of 64. */
#include "engine/ops/ops.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/variants.h"

void ds4_grid_kv_round(const void *args, uint32_t grid[3]) {
    const struct ds4_args_kv_round *a = args;
    grid[0] = (a->d_head + 63) / 64, grid[1] = a->n_row, grid[2] = 1;
}

static int32_t fp8_scale_exponent(const float *x) {
    float m = 1e-4f;
    for (int i = 0; i < 64; i++) m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    uint32_t u = ds4_f32_bits(m / 448.0f);
    return (int32_t)(u >> 23) - 127 + ((u & 0x7fffffu) != 0);
}

void ds4_ref_kv_round(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_kv_round *a = c->args;
    bool exact = c->variants & DS4_VARIANT_BIT(STORE_EXACT),
         raw = exact || c->variants & DS4_VARIANT_BIT(KV_RAW_F32);

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t b = box.x0; b < box.x1; b++) {
            size_t off = (size_t)r * a->d_head + 64 * b;
            const float *x = (const float *)c->bind[0] + off;
            float *y = (float *)c->bind[1] + off, s = 1.0f, inv = 1.0f;
            uint32_t n = a->d_head - 64 * b < 64 ? a->d_head - 64 * b : 64;
            bool fp8 = 64 * b < a->n_fp8 && !exact;
            if (fp8) {
                int32_t e = fp8_scale_exponent(x);
                s = ds4_f32_from_bits((uint32_t)(127 + e) << 23);
                inv = ds4_f32_from_bits((uint32_t)(127 - e) << 23);
            }
            for (uint32_t i = 0; i < n; i++) {
                float v = fp8 ? ds4_e4m3_round(x[i] * inv) * s : x[i];
                y[i] = ds4_fz(raw ? v : ds4_f16_round(v));
            }
        }
}
