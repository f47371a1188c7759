/* Rotates adjacent pairs of the last n_rot elements of each head; copies the others.
 * Bindings: 0 x [n_row][n_head][d_head], 1 freq [n_rot/2] of 64-bit turns per position as two
 * u32 (low, high); 2 y as x. Unit: x = head, y = row.
 * Order: turn = pos * freq mod 2^64 in integers, ds4_cos_sin_turn; a*c - b*s and a*s + b*c,
 * each product rounded. The inverse direction negates s. Frequencies come from the host
 * (engine/model/rope_freq.c), where DS4_ROPE_EXP2_LOG2 chooses their formula; the words that
 * may follow (DS4_ROPE_N_WORD) are not read here. */
#include "engine/ops/ops.h"

#include "engine/base/float.h"
#include "engine/base/fmath.h"

void ds4_grid_rope(const void *args, uint32_t grid[3]) {
    const struct ds4_args_rope *a = args;
    grid[0] = a->n_head, grid[1] = a->n_row, grid[2] = 1;
}

void ds4_ref_rope(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_rope *a = c->args;
    const uint32_t *freq = c->bind[1];
    uint32_t n_pass = a->d_head - a->n_rot;

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t h = box.x0; h < box.x1; h++) {
            size_t off = ((size_t)r * a->n_head + h) * a->d_head;
            const float *x = (const float *)c->bind[0] + off;
            float *y = (float *)c->bind[2] + off;
            for (uint32_t i = 0; i < n_pass; i++) y[i] = x[i];
            for (uint32_t k = 0; k < a->n_rot / 2; k++) {
                float cs, sn, p = x[n_pass + 2 * k], q = x[n_pass + 2 * k + 1];
                uint64_t f = (uint64_t)freq[2 * k + 1] << 32 | freq[2 * k];
                ds4_cos_sin_turn(&cs, &sn, f * (uint64_t)(uint32_t)(a->pos0 + r * a->pos_step));
                if (a->inverse) sn = 0.0f - sn;
                y[n_pass + 2 * k] = ds4_fz(p * cs - q * sn);
                y[n_pass + 2 * k + 1] = ds4_fz(p * sn + q * cs);
            }
        }
}
