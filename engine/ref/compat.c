/* The table of the rows `compat`, and the ops of few steps. */
#include "engine/ref/compat.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"

const ds4_ref_row ds4_compat_rows[] = {
#define COMPAT(op, bound_, cause_)                                                             \
    {DS4_OP_##op, ds4_compat_##op, {.name = "compat", .cause = cause_, .bound = bound_}},
#include "engine/ref/compat.def"
#undef COMPAT
    {0}};

float ds4_compat_sigmoid(float z) {
    if (z >= 0.0f) return 1.0f / (1.0f + expf(-z));
    float e = expf(z);
    return e / (1.0f + e);
}

/* A weight row as f32; the block's own exact decoding. */
static void decode(float *dst, const uint8_t *src, uint32_t wtype, uint32_t n) {
    const ds4_quant *q = ds4_quant_by_id(wtype);
    q->decode(dst, src, n / q->n_elem);
}

void ds4_compat_embed(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_embed *a = c->args;
    const uint8_t *w = c->bind[0];
    const int32_t *token = c->bind[1];
    float *y = c->bind[2], row[DS4_MAX_ROW];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        decode(row, w + (size_t)token[t] * a->row_bytes, c->wtype, a->n_embd);
        for (uint32_t s = 0; s < a->n_hc; s++)
            memcpy(y + ((size_t)t * a->n_hc + s) * a->n_embd + box.x0, row + box.x0,
                   (box.x1 - box.x0) * sizeof *y);
    }
}

/* Squares in increasing column in one f64; the mean rounded to f32; 1 / sqrt; (x * k) * w. */
void ds4_compat_rms_norm(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_rms_norm *a = c->args;
    const float *w = a->has_w ? (const float *)c->bind[1] + a->n_col : NULL;

    for (uint32_t r = box.x0; r < box.x1; r++) {
        const float *x = (const float *)c->bind[0] + (size_t)r * a->n_col;
        float *y = (float *)c->bind[2] + (size_t)r * a->n_col;
        double ss = 0.0;
        for (uint32_t i = 0; i < a->n_col; i++) ss = ss + (double)x[i] * (double)x[i];
        float k = 1.0f / sqrtf((float)(ss / (double)a->n_col) + a->eps);
        for (uint32_t i = 0; i < a->n_col; i++) {
            float p = x[i] * k;
            y[i] = w ? p * w[i] : p;
        }
    }
}

/* ---- hyper-connections ---- */

static void row_step(float m[16], float eps) {
    for (int r = 0; r < 4; r++) {
        float sum = 0.0f;
        for (int k = 0; k < 4; k++) sum = sum + m[4 * r + k];
        float inv = 1.0f / (sum + eps);
        for (int k = 0; k < 4; k++) m[4 * r + k] = m[4 * r + k] * inv;
    }
}

static void column_step(float m[16], float eps) {
    for (int k = 0; k < 4; k++) {
        float sum = 0.0f;
        for (int r = 0; r < 4; r++) sum = sum + m[4 * r + k];
        float inv = 1.0f / (sum + eps);
        for (int r = 0; r < 4; r++) m[4 * r + k] = m[4 * r + k] * inv;
    }
}

static void row_softmax(float m[16], float eps) {
    for (int r = 0; r < 4; r++) {
        float top = DS4_NEG, sum = 0.0f;
        for (int k = 0; k < 4; k++) top = m[4 * r + k] > top ? m[4 * r + k] : top;
        for (int k = 0; k < 4; k++) {
            m[4 * r + k] = expf(m[4 * r + k] - top);
            sum = sum + m[4 * r + k];
        }
        float inv = 1.0f / sum;
        for (int k = 0; k < 4; k++) m[4 * r + k] = m[4 * r + k] * inv + eps;
    }
}

void ds4_compat_hc_split(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_split *a = c->args;
    const float *scale = (const float *)c->bind[1] + 3, *base = (const float *)c->bind[2] + 24;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const float *mix = (const float *)c->bind[0] + (size_t)t * 24;
        float *y = (float *)c->bind[3] + (size_t)t * 24;
        for (int i = 0; i < 24; i++) y[i] = mix[i] * scale[i < 8 ? i / 4 : 2] + base[i];
        for (int i = 0; i < 4; i++) y[i] = 1.0f / (1.0f + expf(-y[i])) + a->eps;
        for (int i = 4; i < 8; i++) y[i] = 2.0f / (1.0f + expf(-y[i]));
        row_softmax(y + 8, a->eps);
        column_step(y + 8, a->eps);
        for (uint32_t round = 1; round < a->n_sinkhorn; round++)
            row_step(y + 8, a->eps), column_step(y + 8, a->eps);
    }
}

void ds4_compat_hc_gate(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_gate *a = c->args;
    const float *mix = c->bind[0], *scale = (const float *)c->bind[1] + 1;
    const float *base = (const float *)c->bind[2] + a->n_hc;
    float *w = c->bind[3];

    for (size_t i = (size_t)box.x0 * a->n_hc; i < (size_t)box.x1 * a->n_hc; i++)
        w[i] = ds4_compat_sigmoid(mix[i] * scale[0] + base[i % a->n_hc]) + a->eps;
}

void ds4_compat_hc_read(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_read *a = c->args;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * a->n_hc * a->n_embd;
        const float *w = (const float *)c->bind[1] + (size_t)t * a->w_stride;
        float *y = (float *)c->bind[2] + (size_t)t * a->n_embd;
        for (uint32_t i = box.x0; i < box.x1; i++) {
            float sum = 0.0f;
            for (uint32_t s = 0; s < a->n_hc; s++)
                sum = sum + x[(size_t)s * a->n_embd + i] * w[s];
            y[i] = sum;
        }
    }
}

void ds4_compat_hc_write(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_hc_write *a = c->args;
    size_t n = a->n_embd;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * 4 * n;
        const float *y = (const float *)c->bind[1] + (size_t)t * n;
        const float *post = (const float *)c->bind[2] + (size_t)t * 24 + 4, *comb = post + 4;
        float *to = (float *)c->bind[3] + (size_t)t * 4 * n;
        for (uint32_t b = 0; b < 4; b++)
            for (uint32_t i = box.x0; i < box.x1; i++) {
                float sum = y[i] * post[b];
                for (uint32_t s = 0; s < 4; s++) sum = sum + comb[4 * s + b] * x[s * n + i];
                to[b * n + i] = sum;
            }
    }
}

/* ---- router and experts ---- */

/* sqrt(softplus), the softplus in three branches. */
void ds4_compat_router_prob(const ds4_ref_call *c, ds4_box box) {
    const float *x = c->bind[0];
    float *y = c->bind[1];

    for (uint32_t i = box.x0; i < box.x1; i++) {
        float z = x[i];
        y[i] = sqrtf(z > 20.0f ? z : z < -20.0f ? expf(z) : log1pf(expf(z)));
    }
}

/* k times the largest prob + bias that is not picked yet, the lowest expert on ties. */
void ds4_compat_router_topk(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_router_topk *a = c->args;
    const float *bias = a->has_bias ? (const float *)c->bind[1] + a->n_expert : NULL;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const float *p = (const float *)c->bind[0] + (size_t)t * a->n_expert;
        int32_t *sel = (int32_t *)c->bind[2] + (size_t)t * a->k;
        for (uint32_t s = 0; s < a->k; s++) {
            uint32_t best = UINT32_MAX, best_key = 0;
            for (uint32_t e = 0; e < a->n_expert; e++) {
                uint32_t key = ds4_select_key(bias ? p[e] + bias[e] : p[e]), i = 0;
                while (i < s && (uint32_t)sel[i] != e) i++;
                if (i == s && (best == UINT32_MAX || key > best_key)) best = e, best_key = key;
            }
            sel[s] = (int32_t)best;
        }
    }
}

void ds4_compat_router_weight(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_router_weight *a = c->args;

    for (uint32_t t = box.x0; t < box.x1; t++) {
        const float *p = (const float *)c->bind[0] + (size_t)t * a->n_expert;
        const int32_t *sel = (const int32_t *)c->bind[1] + (size_t)t * a->k;
        float *w = (float *)c->bind[2] + (size_t)t * a->k, z = 0.0f;
        for (uint32_t s = 0; s < a->k; s++) z = z + p[sel[s]];
        if (!(z > 0x1p-14f)) z = 0x1p-14f;
        for (uint32_t s = 0; s < a->k; s++) w[s] = p[sel[s]] / z * a->scale;
    }
}

void ds4_compat_swiglu(const ds4_ref_call *c, ds4_box box) {
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
            float y = g * ds4_compat_sigmoid(g) * u;
            ((float *)c->bind[3])[at] = a->has_w ? y * w[r] : y;
        }
}

void ds4_compat_slot_sum(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_slot_sum *a = c->args;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * a->n_slot * a->n_col;
        float *y = (float *)c->bind[1] + (size_t)t * a->n_col;
        for (uint32_t i = box.x0; i < box.x1; i++) {
            float sum = 0.0f;
            for (uint32_t s = 0; s < a->n_slot; s++) sum = sum + x[(size_t)s * a->n_col + i];
            y[i] = sum;
        }
    }
}

void ds4_compat_add(const ds4_ref_call *c, ds4_box box) {
    const float *p = c->bind[0], *q = c->bind[1];
    float *y = c->bind[2];
    for (uint32_t i = box.x0; i < box.x1; i++) y[i] = p[i] + q[i];
}

void ds4_compat_gate_bias(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_gate_bias *a = c->args;
    const uint8_t *ape = c->bind[1];
    float row[DS4_MAX_ROW];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *x = (const float *)c->bind[0] + (size_t)t * a->n_col;
        float *y = (float *)c->bind[2] + (size_t)t * a->n_col;
        decode(row, ape + (size_t)((a->pos0 + t) % a->ratio) * a->row_bytes, c->wtype,
               a->n_col);
        for (uint32_t i = box.x0; i < box.x1; i++) y[i] = x[i] + row[i];
    }
}
