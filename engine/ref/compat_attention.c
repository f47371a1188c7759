/* Attention, pooling and indexer scores in the arithmetic of model.md 3.8, 3.10 and 3.11. */
#include "engine/ops/participants.h"
#include "engine/ref/compat.h"

#include <math.h>

/* sum_i a[i] * b[i] from 0 in increasing i, in one f32; no fma. */
static float dot(const float *a, const float *b, uint32_t n) {
    float sum = 0.0f;
    for (uint32_t i = 0; i < n; i++) sum = sum + a[i] * b[i];
    return sum;
}

/* ---- attention ---- */

/* Dots in increasing i; den and out in the order of the rows, den from the sink's share. */
static void attend(float *out, float *score, const ds4_participants *v, const float *q,
                   float sink) {
    uint32_t d = v->a->d_head;
    float m = sink;

    for (uint32_t j = 0; j < v->n; j++) {
        score[j] = dot(q, ds4_participant(v, j, sizeof(float)), d) * v->a->scale;
        m = score[j] > m ? score[j] : m;
    }
    float den = expf(sink - m);
    for (uint32_t i = 0; i < d; i++) out[i] = 0.0f;
    for (uint32_t j = 0; j < v->n; j++) {
        const float *row = ds4_participant(v, j, sizeof(float));
        float w = expf(score[j] - m);
        den = den + w;
        for (uint32_t i = 0; i < d; i++) out[i] = out[i] + w * row[i];
    }
    float inv = 1.0f / den;
    for (uint32_t i = 0; i < d; i++) out[i] = out[i] * inv;
}

void ds4_compat_attention(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_attention *a = c->args;
    const float *sink = (const float *)c->bind[4] + a->n_head;

    for (uint32_t t = box.y0; t < box.y1; t++) {
        ds4_participants v = ds4_participants_of(c, t);
        for (uint32_t h = box.x0; h < box.x1; h++) {
            size_t head = (size_t)t * a->n_head + h;
            attend((float *)c->bind[6] + head * a->d_head,
                   (float *)c->bind[5] + head * a->n_score, &v,
                   (const float *)c->bind[0] + head * a->d_head, sink[h]);
        }
    }
}

/* ---- compressor pooling ---- */

/* Gate and value of token `pos` (negative: before the text) in one column. */
typedef struct cell {
    float gate, kv;
} cell;

static cell cell_at(const ds4_ref_call *c, int64_t pos, uint32_t col) {
    const struct ds4_args_softmax_pool *a = c->args;
    if (pos < 0) return (cell){DS4_NEG, 0.0f};
    size_t i = (size_t)((uint64_t)pos % a->cap) * a->n_lane * a->d_head + col;
    return (cell){((const float *)c->bind[1])[i], ((const float *)c->bind[0])[i]};
}

/* Two lanes: den += (w_prev + w_cur), num += w_prev * k_prev, num += w_cur * k_cur, for each
 * token of the window; one lane: den += w, num += w * k. */
static float pool(const ds4_ref_call *c, uint32_t k, uint32_t i) {
    const struct ds4_args_softmax_pool *a = c->args;
    int64_t first = (int64_t)k * a->ratio, previous = first - a->ratio;
    uint32_t cur = a->n_lane == 2 ? a->d_head + i : i;
    float m = DS4_NEG, den = 0.0f, num = 0.0f;

    for (uint32_t t = 0; t < a->ratio; t++) {
        float p = a->n_lane == 2 ? cell_at(c, previous + t, i).gate : DS4_NEG;
        float g = cell_at(c, first + t, cur).gate;
        m = p > m ? p : m;
        m = g > m ? g : m;
    }
    if (m <= 0.5f * DS4_NEG) return 0.0f;
    for (uint32_t t = 0; t < a->ratio; t++) {
        cell v = cell_at(c, first + t, cur);
        float w = expf(v.gate - m);
        if (a->n_lane == 2) {
            cell p = cell_at(c, previous + t, i);
            float wp = expf(p.gate - m);
            den = den + (wp + w);
            num = num + wp * p.kv;
        } else {
            den = den + w;
        }
        num = num + w * v.kv;
    }
    return den > 0.0f ? num / den : 0.0f;
}

void ds4_compat_softmax_pool(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_softmax_pool *a = c->args;
    float *y = c->bind[2];

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t i = box.x0; i < box.x1; i++)
            y[(size_t)r * a->d_head + i] = pool(c, a->row0 + r, i);
}

/* ---- indexer ---- */

/* Heads added from 0 in increasing h: max(0, K . q) * (w * scale). */
void ds4_compat_index_score(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_index_score *a = c->args;
    const float *k = c->bind[2];

    for (uint32_t t = box.y0; t < box.y1; t++) {
        const float *q = (const float *)c->bind[0] + (size_t)t * a->n_head * 128;
        const float *w = (const float *)c->bind[1] + (size_t)t * a->n_head;
        float *y = (float *)c->bind[3] + (size_t)t * a->n_row;
        uint32_t n_visible = (a->pos0 + t + 1) / a->ratio;
        for (uint32_t r = box.x0; r < box.x1; r++) {
            float sum = 0.0f;
            for (uint32_t h = 0; r < n_visible && h < a->n_head; h++) {
                float s = dot(k + (size_t)r * 128, q + (size_t)h * 128, 128);
                sum = sum + (s > 0.0f ? s : 0.0f) * (w[h] * a->scale);
            }
            y[r] = r < n_visible ? sum : DS4_NEG;
        }
    }
}
