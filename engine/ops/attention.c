/* Attention of each head over the raw window and the visible compressed rows, with a sink.
 * Bindings: 0 q [n_tok][n_head][d_head], 1 raw ring [raw_cap][d_head], 2 comp [n][d_head],
 * 3 sel i32 [n_tok - sel_tok0][n_sel], 4 sinks [n_head], 5 scratch [n_tok][n_head][n_score];
 * 6 out [n_tok][n_head][d_head]. Rows are keys and values at once.
 * Unit: x = head, y = token. Participants: raw positions max(0, p - window + 1) .. p, then the
 * compressed rows: with n_sel = 0 or t < sel_tok0 all (p + 1) / ratio of them, else sel's.
 * Order: a_j = ds4_dot16(q, R_j) * scale; m = max(sink, a_j); den = exp(sink - m), then +
 * exp(a_j - m) in participant order; out_i adds w_j * R_j[i] in participant order; out_i * (1 /
 * den). */
#include "engine/ops/participants.h"

#include "engine/base/float.h"
#include "engine/base/fmath.h"

void ds4_grid_attention(const void *args, uint32_t grid[3]) {
    const struct ds4_args_attention *a = args;
    grid[0] = a->n_head, grid[1] = a->n_tok, grid[2] = 1;
}

static void attend(const ds4_ref_call *c, const ds4_participants *p, uint32_t t, uint32_t h) {
    const struct ds4_args_attention *a = p->a;
    size_t head = (size_t)t * a->n_head + h;
    const float *q = (const float *)c->bind[0] + head * a->d_head;
    float sink = ((const float *)c->bind[4])[h], m = sink;
    float *score = (float *)c->bind[5] + head * a->n_score;
    float *out = (float *)c->bind[6] + head * a->d_head;

    for (uint32_t j = 0; j < p->n; j++) {
        score[j] = ds4_dot16(q, ds4_participant(p, j, sizeof(float)), a->d_head) * a->scale;
        m = score[j] > m ? score[j] : m;
    }
    float den = ds4_exp(sink - m);
    for (uint32_t i = 0; i < a->d_head; i++) out[i] = 0.0f;
    for (uint32_t j = 0; j < p->n; j++) {
        const float *row = ds4_participant(p, j, sizeof(float));
        float w = ds4_exp(score[j] - m);
        den = den + w;
        for (uint32_t i = 0; i < a->d_head; i++) out[i] = out[i] + w * row[i];
    }
    float inv = 1.0f / den;
    for (uint32_t i = 0; i < a->d_head; i++) out[i] = ds4_fz(out[i] * inv);
}

void ds4_ref_attention(const ds4_ref_call *c, ds4_box box) {
    for (uint32_t t = box.y0; t < box.y1; t++) {
        ds4_participants p = ds4_participants_of(c, t);
        for (uint32_t h = box.x0; h < box.x1; h++) attend(c, &p, t, h);
    }
}
