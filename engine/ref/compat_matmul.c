/* Projections in the arithmetic of model.md 1.7.6 and 1.7.7: int8 activations against the block
 * formats, exact int32 sums inside a block, f32 over blocks in increasing order. F16, F32 and
 * BF16 rows meet f32 activations, from 0 in increasing i; I32 is no weight. */
#include "engine/ref/compat.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"

/* ---- activations ---- */

static int8_t code(float v) {
    float r = rintf(v);
    return (int8_t)(r > 127.0f ? 127.0f : r > -128.0f ? r : -128.0f);
}

float ds4_compat_a8(int8_t q[DS4_A8_BLOCK], const float *x) {
    float m = 0.0f;
    for (int i = 0; i < DS4_A8_BLOCK; i++) m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    float scale = m / 127.0f, inv = scale > 0.0f ? 1.0f / scale : 0.0f;
    for (int i = 0; i < DS4_A8_BLOCK; i++) q[i] = code(x[i] * inv);
    return scale;
}

float ds4_compat_q8k(int8_t q[DS4_Q8K_BLOCK], int16_t sum[DS4_Q8K_BLOCK / 16], const float *x) {
    float top = 0.0f; /* the first element of the largest magnitude, with its sign */
    for (int i = 0; i < DS4_Q8K_BLOCK; i++) top = fabsf(x[i]) > fabsf(top) ? x[i] : top;
    float inv = fabsf(top) > 0.0f ? -127.0f / top : 0.0f;
    for (int i = 0; i < DS4_Q8K_BLOCK; i++) q[i] = code(inv * x[i]);
    for (int j = 0; j < DS4_Q8K_BLOCK / 16; j++) {
        int s = 0;
        for (int i = 0; i < 16; i++) s += q[16 * j + i];
        sum[j] = (int16_t)s;
    }
    return fabsf(top) > 0.0f ? 1.0f / inv : 0.0f;
}

/* One input row as int8. */
typedef struct operand {
    int8_t q[DS4_MAX_ROW];
    float scale[DS4_MAX_ROW / DS4_A8_BLOCK];
    int16_t sum[DS4_MAX_ROW / 16];
} operand;

static void as_a8(operand *o, const float *x, uint32_t n) {
    for (uint32_t b = 0; b < n / DS4_A8_BLOCK; b++)
        o->scale[b] = ds4_compat_a8(o->q + b * DS4_A8_BLOCK, x + b * DS4_A8_BLOCK);
}

static void as_q8k(operand *o, const float *x, uint32_t n) {
    for (uint32_t b = 0; b < n / DS4_Q8K_BLOCK; b++)
        o->scale[b] = ds4_compat_q8k(o->q + b * DS4_Q8K_BLOCK, o->sum + b * DS4_Q8K_BLOCK / 16,
                                     x + b * DS4_Q8K_BLOCK);
}

/* ---- rows against one operand ---- */

/* sum_b (scale_w * scale_x) * I. */
static float dot_q8_0(const uint8_t *w, const operand *o, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 32; b++, w += 34) {
        const int8_t *q = o->q + 32 * b;
        int32_t sum = 0;
        for (uint32_t e = 0; e < 32; e++) sum += (int8_t)w[2 + e] * q[e];
        y = y + ds4_f16_to_f32(ds4_le16(w)) * o->scale[b] * (float)sum;
    }
    return y;
}

/* Signed magnitudes of one octet: bit 7 of the sign byte makes the count of minus signs even.
 */
static int32_t octet_dot(uint64_t magnitudes, uint32_t s, const int8_t *q) {
    uint32_t minus = s | (uint32_t)__builtin_parity(s) << 7;
    int32_t sum = 0;
    for (uint32_t j = 0; j < 8; j++) {
        int32_t v = (int32_t)(magnitudes >> 8 * j & 255u) * q[j];
        sum += minus >> j & 1u ? -v : v;
    }
    return sum;
}

/* 0.125 * sum_b (scale_w * scale_x) * I. */
static float dot_iq2_xxs(const uint8_t *w, const operand *o, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 256; b++, w += 66) {
        const int8_t *q = o->q + 256 * b;
        int32_t sum = 0;
        for (uint32_t g = 0; g < 8; g++) {
            const uint8_t *index = w + 2 + 8 * g;
            uint32_t signs = ds4_le32(index + 4);
            int32_t group = 0;
            for (uint32_t k = 0; k < 4; k++)
                group += octet_dot(ds4_iq2xxs_grid[index[k]], signs >> 7 * k & 127u,
                                   q + 32 * g + 8 * k);
            sum += (int32_t)(2 * (signs >> 28) + 1) * group;
        }
        y = y + ds4_f16_to_f32(ds4_le16(w)) * o->scale[b] * (float)sum;
    }
    return 0.125f * y;
}

/* sum_b (scale_x * scale_w) * I - (scale_x * scale_min) * N. */
static float add_k(float y, float x, const uint8_t *scale, const uint8_t *scale_min, int32_t i,
                   int32_t n) {
    float p = x * ds4_f16_to_f32(ds4_le16(scale)) * (float)i;
    float m = x * ds4_f16_to_f32(ds4_le16(scale_min)) * (float)n;
    return y + (p - m);
}

static float dot_q2_k(const uint8_t *w, const operand *o, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 256; b++, w += 84) {
        int32_t sum = 0, low = 0;
        for (uint32_t j = 0; j < 16; j++) {
            const int8_t *q = o->q + 256 * b + 16 * j;
            const uint8_t *from = w + 16 + 32 * (j / 8) + 16 * (j % 2);
            uint32_t shift = 2 * (j % 8 / 2);
            int32_t part = 0;
            for (uint32_t e = 0; e < 16; e++) part += (int32_t)(from[e] >> shift & 3u) * q[e];
            sum += (w[j] & 15) * part;
            low += (w[j] >> 4) * o->sum[16 * b + j];
        }
        y = add_k(y, o->scale[b], w + 80, w + 82, sum, low);
    }
    return y;
}

static float dot_q4_k(const uint8_t *w, const operand *o, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 256; b++, w += 144) {
        const uint8_t *p = w + 4; /* eight 6-bit scales and minima */
        int32_t sum = 0, low = 0;
        for (uint32_t j = 0; j < 8; j++) {
            const int8_t *q = o->q + 256 * b + 32 * j;
            const uint8_t *from = w + 16 + 32 * (j / 2);
            int32_t sc = j < 4 ? p[j] & 63 : (p[j + 4] & 15) | p[j - 4] >> 6 << 4;
            int32_t mn = j < 4 ? p[j + 4] & 63 : p[j + 4] >> 4 | p[j] >> 6 << 4;
            int32_t part = 0;
            for (uint32_t e = 0; e < 32; e++) part += (from[e] >> 4 * (j % 2) & 15) * q[e];
            sum += sc * part;
            low += mn * (o->sum[16 * b + 2 * j] + o->sum[16 * b + 2 * j + 1]);
        }
        y = add_k(y, o->scale[b], w, w + 2, sum, low);
    }
    return y;
}

/* The block formats; the others are decoded. */
typedef struct kernel {
    uint32_t wtype;
    void (*load)(operand *o, const float *x, uint32_t n);
    float (*dot)(const uint8_t *w, const operand *o, uint32_t n);
} kernel;

static const kernel kernels[] = {
    {DS4_QUANT_Q8_0, as_a8, dot_q8_0},
    {DS4_QUANT_IQ2_XXS, as_q8k, dot_iq2_xxs},
    {DS4_QUANT_Q2_K, as_q8k, dot_q2_k},
    {DS4_QUANT_Q4_K, as_q8k, dot_q4_k},
};

static const kernel *kernel_of(uint32_t wtype) {
    for (size_t i = 0; i < sizeof kernels / sizeof *kernels; i++)
        if (kernels[i].wtype == wtype) return &kernels[i];
    return NULL;
}

/* sum_i w[i] * x[i] from 0 in increasing i, in one f32; no fma. */
static float dot_f32(const float *w, const float *x, uint32_t n) {
    float y = 0.0f;
    for (uint32_t i = 0; i < n; i++) y = y + w[i] * x[i];
    return y;
}

/* ---- ops ---- */

static void matmul_f32(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_matmul *a = c->args;
    const ds4_quant *q = ds4_quant_by_id(c->wtype);
    float row[DS4_MAX_ROW];

    for (uint32_t r = box.x0; r < box.x1; r++) {
        const float *x = (const float *)c->bind[1] + (size_t)(r / a->group_rows) * a->n_in;
        q->decode(row, (const uint8_t *)c->bind[0] + (size_t)r * a->row_bytes, a->n_in);
        for (uint32_t t = box.y0; t < box.y1; t++)
            ((float *)c->bind[2])[(size_t)t * a->n_out + r] =
                dot_f32(row, x + (size_t)t * a->x_stride, a->n_in);
    }
}

/* Each input slice is rounded on its own: block boundaries never cross groups. */
void ds4_compat_matmul(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_matmul *a = c->args;
    const kernel *k = kernel_of(c->wtype);
    const uint8_t *w = c->bind[0];
    operand o;

    if (!k) {
        matmul_f32(c, box);
        return;
    }
    for (uint32_t t = box.y0; t < box.y1; t++)
        for (uint32_t r = box.x0; r < box.x1; r++) {
            if (r == box.x0 || r % a->group_rows == 0)
                k->load(&o,
                        (const float *)c->bind[1] + (size_t)t * a->x_stride +
                            (size_t)(r / a->group_rows) * a->n_in,
                        a->n_in);
            ((float *)c->bind[2])[(size_t)t * a->n_out + r] =
                k->dot(w + (size_t)r * a->row_bytes, &o, a->n_in);
        }
}

void ds4_compat_matmul_id(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_matmul_id *a = c->args;
    const kernel *k = kernel_of(c->wtype);
    const ds4_quant *q = ds4_quant_by_id(c->wtype);
    const int32_t *sel = c->bind[2];
    operand o;
    float row[DS4_MAX_ROW];

    for (uint32_t s = box.y0; s < box.y1; s++) {
        const uint8_t *w =
            (const uint8_t *)c->bind[0] + (size_t)sel[s] * a->n_out * a->row_bytes;
        const float *x =
            (const float *)c->bind[1] + (size_t)(a->x_per_slot ? s : s / a->n_slot) * a->n_in;
        float *y = (float *)c->bind[3] + (size_t)s * a->n_out;
        if (k && (s == box.y0 || a->x_per_slot || s % a->n_slot == 0)) k->load(&o, x, a->n_in);
        for (uint32_t r = box.x0; r < box.x1; r++) {
            const uint8_t *from = w + (size_t)r * a->row_bytes;
            if (!k) q->decode(row, from, a->n_in);
            y[r] = k ? k->dot(from, &o, a->n_in) : dot_f32(row, x, a->n_in);
        }
    }
}
