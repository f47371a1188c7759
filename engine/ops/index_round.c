/* Storage rounding of indexer rows: Hadamard transform of 128, then FP4 E2M1 with one
 * power-of-two scale per 32 elements, then f16 when half_out is 1.
 * Bindings: 0 x [n_row][128]; 1 y [n_row][128]. Unit: x = row.
 * Order: butterflies (a + b, a - b) for stride 1, 2, .. 64; times 1/sqrt(128) and ds4_fz; scale
 * 2^ceil(log2 v) from the bits of v = m / 6, m = max |x|; a block of zeros stays zero.
 * DS4_STORE_EXACT leaves out FP4 and f16. */
#include "engine/ops/ops.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/variants.h"

void ds4_grid_index_round(const void *args, uint32_t grid[3]) {
    const struct ds4_args_index_round *a = args;
    grid[0] = a->n_row, grid[1] = 1, grid[2] = 1;
}

static void hadamard(float v[128]) {
    for (uint32_t s = 1; s < 128; s *= 2)
        for (uint32_t i = 0; i < 128; i++) {
            if (i & s) continue;
            float p = v[i], q = v[i + s];
            v[i] = p + q, v[i + s] = p - q;
        }
    for (uint32_t i = 0; i < 128; i++) v[i] = ds4_fz(v[i] * 0x1.6a09e6p-4f);
}

void ds4_ref_index_round(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_index_round *a = c->args;

    for (uint32_t r = box.x0; r < box.x1; r++) {
        float v[128], *y = (float *)c->bind[1] + (size_t)r * 128;
        memcpy(v, (const float *)c->bind[0] + (size_t)r * 128, sizeof v);
        hadamard(v);
        if (c->variants & DS4_VARIANT_BIT(STORE_EXACT)) {
            memcpy(y, v, sizeof v);
            continue;
        }
        for (uint32_t b = 0; b < 128; b += 32) {
            float m = 0.0f;
            for (uint32_t i = 0; i < 32; i++) m = fabsf(v[b + i]) > m ? fabsf(v[b + i]) : m;
            uint32_t u = ds4_f32_bits(m / 6.0f);
            int32_t e = m > 0.0f ? (int32_t)(u >> 23) - 127 + ((u & 0x7fffffu) != 0) : 0;
            float s = ds4_f32_from_bits((uint32_t)(127 + e) << 23);
            float inv = ds4_f32_from_bits((uint32_t)(127 - e) << 23);
            for (uint32_t i = 0; i < 32; i++) {
                float q = ds4_e2m1_round(v[b + i] * inv) * s;
                y[b + i] = ds4_fz(a->half_out ? ds4_f16_round(q) : q);
            }
        }
    }
}
