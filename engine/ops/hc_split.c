/* Hyper-connection mixer outputs to read weights, write weights and the mixing matrix.
 * Four streams. Bindings: 0 mix [n_tok][24], 1 scale [3], 2 base [24]; 3 y [n_tok][24] =
 * pre[4], post[4], comb[4][4] (row: source stream, column: destination).
 * Unit: x = token. Order: model.md 3.3 steps 3 to 5, every sum over 0..3 from the left.
 * DS4_HC_STABLE replaces 1/(1+exp(-z)) by tanh(z/2)/2 + 1/2 and 2/(1+exp(-z)) by 1 + tanh(z/2).
 */
#include "engine/ops/ops.h"

#include "engine/base/float.h"
#include "engine/base/fmath.h"
#include "engine/variants.h"

void ds4_grid_hc_split(const void *args, uint32_t grid[3]) {
    const struct ds4_args_hc_split *a = args;
    grid[0] = a->n_tok, grid[1] = 1, grid[2] = 1;
}

static void row_step(float m[4][4], float eps) {
    for (int r = 0; r < 4; r++) {
        float inv = 1.0f / ((((m[r][0] + m[r][1]) + m[r][2]) + m[r][3]) + eps);
        for (int k = 0; k < 4; k++) m[r][k] = m[r][k] * inv;
    }
}

static void column_step(float m[4][4], float eps) {
    for (int k = 0; k < 4; k++) {
        float inv = 1.0f / ((((m[0][k] + m[1][k]) + m[2][k]) + m[3][k]) + eps);
        for (int r = 0; r < 4; r++) m[r][k] = m[r][k] * inv;
    }
}

static void row_softmax(float m[4][4], float eps) {
    for (int r = 0; r < 4; r++) {
        float top = m[r][0], sum = 0.0f;
        for (int k = 1; k < 4; k++) top = m[r][k] > top ? m[r][k] : top;
        for (int k = 0; k < 4; k++) m[r][k] = ds4_exp(m[r][k] - top), sum = sum + m[r][k];
        float inv = 1.0f / sum;
        for (int k = 0; k < 4; k++) m[r][k] = m[r][k] * inv + eps;
    }
}

/* The formula that DS4_HC_STABLE replaces, each step rounded. */
static float plain_logistic(float z) { return ds4_fz(1.0f / (1.0f + ds4_exp(-z))); }

void ds4_ref_hc_split(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_split *a = c->args;
    const float *scale = c->bind[1], *base = c->bind[2];
    bool stable = c->variants & DS4_VARIANT_BIT(HC_STABLE);

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const float *mix = (const float *)c->bind[0] + (size_t)t * 24;
        float *y = (float *)c->bind[3] + (size_t)t * 24, m[4][4];
        for (int i = 0; i < 8; i++) {
            float z = mix[i] * scale[i / 4] + base[i];
            float h = stable ? ds4_tanh(0.5f * z) : plain_logistic(z);
            if (i < 4) y[i] = ds4_fz((stable ? 0.5f * h + 0.5f : h) + a->eps);
            else y[i] = ds4_fz(stable ? 1.0f + h : 2.0f * h);
        }
        for (int i = 0; i < 16; i++) m[i / 4][i % 4] = mix[8 + i] * scale[2] + base[8 + i];
        row_softmax(m, a->eps);
        column_step(m, a->eps);
        for (uint32_t round = 1; round < a->n_sinkhorn; round++)
            row_step(m, a->eps), column_step(m, a->eps);
        for (int i = 0; i < 16; i++) y[8 + i] = ds4_fz(m[i / 4][i % 4]);
    }
}
