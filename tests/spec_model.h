#ifndef DS4_TESTS_SPEC_MODEL_H
#define DS4_TESTS_SPEC_MODEL_H
/* A second implementation of model.md, for tests: token by token, scalar, straight from
 * the text, with its own reading of the file and its own decoding of blocks. It shares nothing
 * with the engine but the names of the taps and the grid of IQ2_XXS, a data table whose digest
 * tests/test_quant.c checks. Section numbers are those of model.md.
 *
 * spec_eval shows every intermediate under the tap's name, and counts what was met, so that a
 * test can prove that a rule was exercised. `mistake` plants one of the mistakes that appendix
 * D warns of; the answer must then differ. */
#include "engine/tap.h"
#include "tests/spec_format.h"

/* ---- the model ---- */

typedef enum spec_mistake {
    SPEC_RIGHT,
    SPEC_APE_ON_KV, /* D.10 in its order */
    SPEC_ROPE_FIRST,
    SPEC_ROPE_HALVES,
    SPEC_NO_UNROT,
    SPEC_NO_HEAD_NORM,
    SPEC_BIASED_WEIGHTS,
    SPEC_GATE_FROM_BELOW,
    SPEC_WEIGHT_AFTER_DOWN,
    SPEC_EPS_ON_POST,
    SPEC_NORM_PER_STREAM,
    SPEC_ROUND_F16_INPUT,
    SPEC_HALF_SCALE,
    SPEC_FP8_TAIL,
    SPEC_EMIT_POSITION,
    SPEC_NO_SINK,
    SPEC_ONE_STATE,
    SPEC_SWAP_COMB,     /* D.2 */
    SPEC_BIAS_ON_HASH,  /* 3.15 step 2 */
    SPEC_EXPERTS_BY_ID, /* 7.2, 16 */
    SPEC_TIE_HIGH,      /* 7.2, 15 */
    SPEC_N_MISTAKE
} spec_mistake;

typedef struct spec_layer {
    uint32_t rho, c; /* c: lanes */
    float kappa;
    float *raw, *comp, *idx;    /* rows by position, by number */
    float *ks, *gs, *iks, *igs; /* compressor states */
    uint32_t n_c;
} spec_layer;

/* What was met. */
typedef struct spec_counts {
    uint64_t evicted, selected, left_out, emitted4, emitted, biased_choice, hashed;
    uint64_t gate_clamped, up_clamped_high, up_clamped_low, plain_high, plain_low, ties;
} spec_counts;

typedef void spec_show(void *user, ds4_tap tap, uint32_t layer, uint32_t pos, const void *p,
                       uint32_t n);

typedef struct spec_model {
    const spec_file *f;
    uint32_t L, D, V, H, d, r, n, q, o, G, W, Hi, Ki, Ne, Ke, F, Lh, T;
    float eps, eps_h, lambda, bd, bc, sy, no, bf, bs;
    spec_layer *layer;
    spec_mistake mistake;
    spec_counts count;
    spec_show *show;
    void *user;
    uint32_t p, il; /* of the current step */
} spec_model;

#define SPEC_NEG (-1.0e30f)

static void spec_see(spec_model *m, ds4_tap tap, const void *p, uint32_t n) {
    if (m->show) m->show(m->user, tap, m->il, m->p, p, n);
}

/* ---- projections: 1.7 ---- */

enum { SPEC_MAX_ROW = 16384 };

/* Rows row0 .. row0 + n_out - 1 of an expert's matrix (or of the only one) against x. */
static void spec_project(const spec_model *m, float *y, const spec_tensor *w, uint32_t expert,
                         uint32_t row0, uint32_t n_out, const float *x) {
    uint32_t n = (uint32_t)w->ne[0];
    int8_t q[SPEC_MAX_ROW];
    float scale[SPEC_MAX_ROW / 32], rounded[SPEC_MAX_ROW];
    uint32_t bytes = w->type == 1    ? 2 * n
                     : w->type == 8  ? n / 32 * 34
                     : w->type == 10 ? n / 256 * 84
                     : w->type == 12 ? n / 256 * 144
                                     : n / 256 * 66;
    const uint8_t *row = w->data + ((uint64_t)expert * w->ne[1] + row0) * bytes;

    if (w->type == 8) spec_a8(q, scale, x, n);
    for (uint32_t b = 0; m->mistake == SPEC_HALF_SCALE && w->type == 8 && b < n / 32; b++)
        scale[b] = spec_h(scale[b]);
    if (w->type != 1 && w->type != 8) spec_q8k(q, scale, x, n);
    if (w->type == 1 && m->mistake == SPEC_ROUND_F16_INPUT) {
        spec_a8(q, scale, x, n);
        for (uint32_t i = 0; i < n; i++) rounded[i] = scale[i / 32] * (float)q[i];
        x = rounded;
    }
    for (uint32_t r = 0; r < n_out; r++, row += bytes) {
        float sum = 0.0f;
        for (uint32_t i = 0; w->type == 1 && i < n; i++) sum += spec_half(row + 2 * i) * x[i];
        y[r] = w->type == 1    ? sum
               : w->type == 8  ? spec_dot_q8_0(row, q, scale, n)
               : w->type == 10 ? spec_dot_q2_k(row, q, scale, n)
               : w->type == 12 ? spec_dot_q4_k(row, q, scale, n)
                               : spec_dot_iq2(row, q, scale, n);
    }
}

/* The whole matrix, shown under its tap. */
static void spec_matrix(spec_model *m, ds4_tap tap, float *y, int il, const char *name,
                        const float *x) {
    const spec_tensor *w = spec_tensor_of(m->f, il, name);
    spec_project(m, y, w, 0, 0, (uint32_t)w->ne[1], x);
    spec_see(m, tap, y, (uint32_t)w->ne[1]);
}

static void spec_vector(const spec_model *m, float *y, int il, const char *name, uint32_t n) {
    memcpy(y, spec_tensor_of(m->f, il, name)->data, n * sizeof *y);
}

/* ---- primitives: 3.0 ---- */

static void spec_rms(const spec_model *m, float *y, const float *x, const float *w,
                     uint32_t N) {
    double ss = 0.0;
    for (uint32_t i = 0; i < N; i++) ss += (double)x[i] * (double)x[i];
    float k = 1.0f / sqrtf((float)(ss / (double)N) + m->eps);
    for (uint32_t i = 0; i < N; i++) y[i] = w ? (x[i] * k) * w[i] : x[i] * k;
}

static void spec_norm(spec_model *m, ds4_tap tap, float *y, const float *x, int il,
                      const char *name, uint32_t N) {
    float *w = malloc(N * sizeof *w);
    spec_vector(m, w, il, name, N);
    spec_rms(m, y, x, w, N);
    spec_see(m, tap, y, N);
    free(w);
}

static float spec_sigma(float z) {
    return z >= 0.0f ? 1.0f / (1.0f + expf(-z)) : expf(z) / (1.0f + expf(z));
}

static float spec_pow2_over(float x) { return ldexpf(1.0f, (int)ceilf(log2f(x))); }

static void spec_fp8(float *x, uint32_t N) {
    for (uint32_t b = 0; b < N; b += 64) {
        float top = 1e-4f;
        for (uint32_t i = b; i < b + 64; i++) top = fmaxf(top, fabsf(x[i]));
        float s = spec_pow2_over(top / 448.0f);
        for (uint32_t i = b; i < b + 64; i++)
            x[i] = spec_e4(spec_clip(x[i] / s, -448.0f, 448.0f)) * s;
    }
}

static void spec_qat128(float *x) {
    for (uint32_t t = 1; t <= 64; t *= 2)
        for (uint32_t i = 0; i < 128; i++)
            if (!(i / t % 2)) {
                float a = x[i], b = x[i + t];
                x[i] = a + b, x[i + t] = a - b;
            }
    for (uint32_t i = 0; i < 128; i++) x[i] *= 0.08838834764831845f;
    for (uint32_t b = 0; b < 128; b += 32) {
        float top = 6.0f * 0x1p-126f;
        for (uint32_t i = b; i < b + 32; i++) top = fmaxf(top, fabsf(x[i]));
        float s = spec_pow2_over(top / 6.0f);
        for (uint32_t i = b; i < b + 32; i++)
            x[i] = spec_e2(spec_clip(x[i] / s, -6.0f, 6.0f)) * s;
    }
}

static float spec_corner(const spec_model *m, float beta, float base) {
    const float two_pi = 6.283185307179586f;
    return (float)m->r * logf(m->no / (beta * two_pi)) / (2.0f * logf(base));
}

static void spec_rope(const spec_model *m, float *x, uint32_t heads, uint32_t width, uint32_t p,
                      uint32_t rho, bool inverse) {
    float base = rho ? m->bc : m->bd, step = powf(base, -2.0f / (float)m->r), theta = (float)p;
    float lo = 0.0f, hi = 0.0f;
    if (rho) {
        lo = fmaxf(0.0f, floorf(spec_corner(m, m->bf, base)));
        hi = fminf((float)(m->r - 1), ceilf(spec_corner(m, m->bs, base)));
    }
    for (uint32_t k = 0; k < m->r / 2; k++, theta *= step) {
        float alpha = theta;
        if (rho) {
            float u = (1.0f / m->sy) * theta;
            float g = 1.0f - fminf(1.0f, fmaxf(0.0f, ((float)k - lo) / fmaxf(0.001f, hi - lo)));
            alpha = u * (1.0f - g) + theta * g;
        }
        float c = cosf(alpha), t = inverse ? -sinf(alpha) : sinf(alpha);
        for (uint32_t h = 0; h < heads; h++) {
            float *tail = x + (size_t)h * width + width - m->r;
            if (m->mistake == SPEC_ROPE_FIRST) tail -= width - m->r;
            bool halves = m->mistake == SPEC_ROPE_HALVES;
            float *pa = tail + (halves ? k : 2 * k);
            float *pb = tail + (halves ? k + m->r / 2 : 2 * k + 1), a = *pa, b = *pb;
            *pa = a * c - b * t, *pb = a * t + b * c;
        }
    }
}

/* Picks in order; lowest index on ties. */
static void spec_topk(spec_model *m, int32_t *sel, const float *v, uint32_t N, uint32_t k) {
    bool *picked = calloc(N, sizeof *picked);
    for (uint32_t s = 0; s < k; s++) {
        uint32_t best = UINT32_MAX, n_best = 0;
        for (uint32_t i = 0; i < N; i++) {
            if (picked[i]) continue;
            bool tie = best != UINT32_MAX && v[i] == v[best];
            if (best == UINT32_MAX || v[i] > v[best]) best = i, n_best = 0;
            else if (tie && m->mistake == SPEC_TIE_HIGH) best = i;
            n_best += tie;
        }
        m->count.ties += n_best;
        picked[best] = true, sel[s] = (int32_t)best;
    }
    free(picked);
}

/* ---- hyper-connections: 3.3, 3.13 ---- */

/* The half's taps and tensors. */
typedef struct spec_half_names {
    ds4_tap norm, mix, split, in;
    const char *fn, *scale, *base;
} spec_half_names;

static void spec_hc_read(spec_model *m, const spec_half_names *h, float *x, float split[24],
                         const float *X, float *u) {
    float mix[24], scale[3], base[24], *pre = split, *post = split + 4, *C = split + 8;
    if (m->mistake == SPEC_NORM_PER_STREAM)
        for (uint32_t s = 0; s < 4; s++) spec_rms(m, u + s * m->D, X + s * m->D, NULL, m->D);
    else spec_rms(m, u, X, NULL, 4 * m->D);
    spec_see(m, h->norm, u, 4 * m->D);
    spec_matrix(m, h->mix, mix, (int)m->il, h->fn, u);
    spec_vector(m, scale, (int)m->il, h->scale, 3);
    spec_vector(m, base, (int)m->il, h->base, 24);
    for (int i = 0; i < 4; i++)
        pre[i] = 1.0f / (1.0f + expf(-(mix[i] * scale[0] + base[i]))) + m->eps_h;
    for (int i = 0; i < 4; i++) {
        post[i] = 2.0f / (1.0f + expf(-(mix[4 + i] * scale[1] + base[4 + i])));
        if (m->mistake == SPEC_EPS_ON_POST) post[i] += m->eps_h;
    }
    for (int a = 0; a < 4; a++) {
        float v[4], top = SPEC_NEG, Z = 0.0f;
        for (int b = 0; b < 4; b++) {
            v[b] = mix[8 + 4 * a + b] * scale[2] + base[8 + 4 * a + b];
            if (v[b] > top) top = v[b];
        }
        for (int b = 0; b < 4; b++) Z += v[b] = expf(v[b] - top);
        float inv = 1.0f / Z;
        for (int b = 0; b < 4; b++) C[4 * a + b] = v[b] * inv + m->eps_h;
    }
    for (uint32_t round = 0; round < m->T; round++) {
        for (int a = 0; round && a < 4; a++) {
            float Z = 0.0f;
            for (int b = 0; b < 4; b++) Z += C[4 * a + b];
            float inv = 1.0f / (Z + m->eps_h);
            for (int b = 0; b < 4; b++) C[4 * a + b] *= inv;
        }
        for (int b = 0; b < 4; b++) {
            float Z = 0.0f;
            for (int a = 0; a < 4; a++) Z += C[4 * a + b];
            float inv = 1.0f / (Z + m->eps_h);
            for (int a = 0; a < 4; a++) C[4 * a + b] *= inv;
        }
    }
    spec_see(m, h->split, split, 24);
    for (uint32_t i = 0; i < m->D; i++) {
        x[i] = 0.0f;
        for (uint32_t s = 0; s < 4; s++) x[i] += X[s * m->D + i] * pre[s];
    }
    spec_see(m, h->in, x, m->D);
}

static void spec_hc_write(spec_model *m, ds4_tap tap, float *X, const float split[24],
                          const float *y) {
    const float *post = split + 4, *C = split + 8;
    for (uint32_t i = 0; i < m->D; i++) {
        float old[4];
        for (uint32_t a = 0; a < 4; a++) old[a] = X[a * m->D + i];
        for (uint32_t b = 0; b < 4; b++) {
            float sum = y[i] * post[b];
            for (uint32_t a = 0; a < 4; a++)
                sum += (m->mistake == SPEC_SWAP_COMB ? C[4 * b + a] : C[4 * a + b]) * old[a];
            X[b * m->D + i] = sum;
        }
    }
    spec_see(m, tap, X, 4 * m->D);
}

/* ---- attention half: 3.4 to 3.12 ---- */

/* Which compressor: 3.8, or 3.9 where it differs. */
typedef struct spec_compressor {
    ds4_tap kv, gate, ape, pool, norm, rot, row;
    const char *w_kv, *w_gate, *w_ape, *w_norm;
    bool indexer;
} spec_compressor;

static const spec_compressor spec_attention_compressor = {DS4_TAP_comp_kv,
                                                          DS4_TAP_comp_gate,
                                                          DS4_TAP_comp_gate_ape,
                                                          DS4_TAP_comp_pool,
                                                          DS4_TAP_comp_norm,
                                                          DS4_TAP_comp_rot,
                                                          DS4_TAP_comp_row,
                                                          "attn_compressor_kv.weight",
                                                          "attn_compressor_gate.weight",
                                                          "attn_compressor_ape.weight",
                                                          "attn_compressor_norm.weight",
                                                          false};
static const spec_compressor spec_index_compressor = {DS4_TAP_idx_kv,
                                                      DS4_TAP_idx_gate,
                                                      DS4_TAP_idx_gate_ape,
                                                      DS4_TAP_idx_pool,
                                                      DS4_TAP_idx_norm,
                                                      DS4_TAP_idx_rot,
                                                      DS4_TAP_idx_row,
                                                      "indexer_compressor_kv.weight",
                                                      "indexer_compressor_gate.weight",
                                                      "indexer_compressor_ape.weight",
                                                      "indexer_compressor_norm.weight",
                                                      true};

/* Step 4 a, one dimension. */
static float spec_pool(const spec_layer *y, const float *ks, const float *gs, uint32_t d,
                       uint32_t i) {
    uint32_t w = y->c * d;
    float top = SPEC_NEG, den = 0.0f, num = 0.0f;
    for (uint32_t t = 0; t < y->rho; t++) {
        float prev = y->c == 2 ? gs[t * w + i] : SPEC_NEG;
        float cur = y->c == 2 ? gs[(4 + t) * w + d + i] : gs[t * w + i];
        top = prev > top ? prev : top, top = cur > top ? cur : top;
    }
    if (top <= SPEC_NEG / 2) return 0.0f;
    for (uint32_t t = 0; t < y->rho; t++)
        if (y->c == 2) {
            float wp = expf(gs[t * w + i] - top), wc = expf(gs[(4 + t) * w + d + i] - top);
            den = den + (wp + wc);
            num = num + wp * ks[t * w + i];
            num = num + wc * ks[(4 + t) * w + d + i];
        } else {
            float wt = expf(gs[t * w + i] - top);
            den = den + wt;
            num = num + wt * ks[t * w + i];
        }
    return den > 0.0f ? num / den : 0.0f;
}

/* The token enters the state; at the end of a window a row is emitted into `to`. */
static bool spec_compress(spec_model *m, const spec_compressor *c, float *ks, float *gs,
                          uint32_t d, const float *xn, float *to) {
    const spec_layer *y = &m->layer[m->il];
    uint32_t w = y->c * d, rho = y->rho, j = m->p % rho, row = rho == 4 ? 4 + j : j;
    float *kv = ks + row * w, *gate = gs + row * w;
    const spec_tensor *ape = spec_tensor_of(m->f, (int)m->il, c->w_ape);

    spec_matrix(m, c->kv, kv, (int)m->il, c->w_kv, xn);
    spec_matrix(m, c->gate, gate, (int)m->il, c->w_gate, xn);
    for (uint32_t i = 0; i < w; i++) {
        float a = spec_half(ape->data + 2 * ((size_t)j * w + i));
        gate[i] += a;
        if (m->mistake == SPEC_APE_ON_KV) kv[i] += a;
    }
    spec_see(m, c->ape, gate, w);
    if ((m->p + 1) % rho) return false;
    for (uint32_t i = 0; i < d; i++) to[i] = spec_pool(y, ks, gs, d, i);
    spec_see(m, c->pool, to, d);
    spec_norm(m, c->norm, to, to, (int)m->il, c->w_norm, d);
    spec_rope(m, to, 1, d, m->mistake == SPEC_EMIT_POSITION ? m->p : m->p + 1 - rho, rho,
              false);
    spec_see(m, c->rot, to, d);
    if (c->indexer) spec_qat128(to);
    else spec_fp8(to, m->mistake == SPEC_FP8_TAIL ? d / 64 * 64 : m->n);
    for (uint32_t i = 0; i < d; i++) to[i] = spec_h(to[i]);
    spec_see(m, c->row, to, d);
    if (rho == 4) memcpy(ks, ks + 4 * w, 4 * w * sizeof *ks);
    if (rho == 4) memcpy(gs, gs + 4 * w, 4 * w * sizeof *gs);
    return true;
}

static int spec_ascending(const void *a, const void *b) {
    return *(const int32_t *)a - *(const int32_t *)b;
}

/* 3.10: ids of the allowed rows, ascending; their number. */
static uint32_t spec_select(spec_model *m, int32_t *sel, const float *q_lown, const float *xn) {
    spec_layer *y = &m->layer[m->il];
    uint32_t n_q = m->Hi * 128;
    if (y->rho != 4 || y->n_c <= m->Ki) {
        for (uint32_t i = 0; i < y->n_c; i++) sel[i] = (int32_t)i;
        return y->n_c;
    }
    float *q = malloc(n_q * sizeof *q), *w = malloc(m->Hi * sizeof *w),
          *score = malloc(y->n_c * sizeof *score), scale = 1.0f / sqrtf((float)n_q);
    spec_matrix(m, DS4_TAP_idx_q_lin, q, (int)m->il, "indexer.attn_q_b.weight", q_lown);
    spec_rope(m, q, m->Hi, 128, m->p, 4, false);
    spec_see(m, DS4_TAP_idx_q_rot, q, n_q);
    for (uint32_t h = 0; h < m->Hi; h++) spec_qat128(q + 128 * h);
    spec_see(m, DS4_TAP_idx_q, q, n_q);
    spec_matrix(m, DS4_TAP_idx_w, w, (int)m->il, "indexer.proj.weight", xn);
    for (uint32_t c = 0; c < y->n_c; c++) {
        score[c] = 0.0f;
        for (uint32_t h = 0; h < m->Hi; h++) {
            float dot = 0.0f;
            for (uint32_t i = 0; i < 128; i++) dot += y->idx[128 * c + i] * q[128 * h + i];
            score[c] += fmaxf(0.0f, dot) * (w[h] * scale);
        }
    }
    spec_see(m, DS4_TAP_idx_score, score, y->n_c);
    spec_topk(m, sel, score, y->n_c, m->Ki);
    qsort(sel, m->Ki, sizeof *sel, spec_ascending);
    spec_see(m, DS4_TAP_idx_sel, sel, m->Ki);
    m->count.selected++, m->count.left_out += y->n_c - m->Ki;
    free(q), free(w), free(score);
    return m->Ki;
}

/* 3.11, steps 1 to 4, one head; rows[n] are the participants. */
static void spec_attend(const spec_model *m, float *out, const float *q, float sink,
                        const float *const *rows, uint32_t n) {
    float *a = malloc(n * sizeof *a), top = sink, scale = 1.0f / sqrtf((float)m->d);
    for (uint32_t j = 0; j < n; j++) {
        float dot = 0.0f;
        for (uint32_t i = 0; i < m->d; i++) dot += q[i] * rows[j][i];
        a[j] = dot * scale;
        top = a[j] > top ? a[j] : top;
    }
    float den = m->mistake == SPEC_NO_SINK ? 0.0f : expf(sink - top);
    for (uint32_t i = 0; i < m->d; i++) out[i] = 0.0f;
    for (uint32_t j = 0; j < n; j++) {
        float wt = expf(a[j] - top);
        den += wt;
        for (uint32_t i = 0; i < m->d; i++) out[i] += wt * rows[j][i];
    }
    float inv = 1.0f / den;
    for (uint32_t i = 0; i < m->d; i++) out[i] *= inv;
    free(a);
}

static void spec_query(spec_model *m, float *q, float *q_lown, const float *xn, int il) {
    float *q_low = malloc(m->q * sizeof *q_low);
    spec_matrix(m, DS4_TAP_q_low, q_low, il, "attn_q_a.weight", xn);
    spec_norm(m, DS4_TAP_q_low_norm, q_lown, q_low, il, "attn_q_a_norm.weight", m->q);
    spec_matrix(m, DS4_TAP_q_lin, q, il, "attn_q_b.weight", q_lown);
    for (uint32_t h = 0; h < m->H && m->mistake != SPEC_NO_HEAD_NORM; h++)
        spec_rms(m, q + h * m->d, q + h * m->d, NULL, m->d);
    spec_see(m, DS4_TAP_q_norm, q, m->H * m->d);
    spec_rope(m, q, m->H, m->d, m->p, m->layer[il].rho, false);
    spec_see(m, DS4_TAP_q_rot, q, m->H * m->d);
    free(q_low);
}

static void spec_key_value(spec_model *m, float *row, const float *xn, int il) {
    spec_matrix(m, DS4_TAP_kv_lin, row, il, "attn_kv.weight", xn);
    spec_norm(m, DS4_TAP_kv_norm, row, row, il, "attn_kv_a_norm.weight", m->d);
    spec_rope(m, row, 1, m->d, m->p, m->layer[il].rho, false);
    spec_see(m, DS4_TAP_kv_rot, row, m->d);
    spec_fp8(row, m->mistake == SPEC_FP8_TAIL ? m->d / 64 * 64 : m->n);
    for (uint32_t i = 0; i < m->d; i++) row[i] = spec_h(row[i]);
    spec_see(m, DS4_TAP_kv_row, row, m->d);
}

/* y of 3.12 from xn; everything between. */
static void spec_attention(spec_model *m, float *out, const float *xn) {
    int il = (int)m->il;
    spec_layer *y = &m->layer[il];
    uint32_t Hd = m->H * m->d, first = m->p + 1 > m->W ? m->p + 1 - m->W : 0, n = 0;
    float *q = malloc(Hd * sizeof *q), *q_lown = malloc(m->q * sizeof *q_lown),
          *heads = malloc(Hd * sizeof *heads), *low = malloc(m->G * m->o * sizeof *low),
          *sink = malloc(m->H * sizeof *sink);
    int32_t *sel = malloc((m->p + 2) * sizeof *sel);
    const float **rows = malloc((m->W + m->p + 2) * sizeof *rows);

    spec_query(m, q, q_lown, xn, il);
    spec_key_value(m, y->raw + (size_t)m->p * m->d, xn, il);
    m->count.evicted += first > 0;
    if (y->rho && spec_compress(m, &spec_attention_compressor, y->ks, y->gs, m->d, xn,
                                y->comp + (size_t)y->n_c * m->d)) {
        if (y->rho == 4) m->count.emitted4++;
        else m->count.emitted++;
    }
    if (y->rho == 4)
        (void)spec_compress(m, &spec_index_compressor, y->iks, y->igs, 128, xn,
                            y->idx + (size_t)y->n_c * 128);
    if (y->rho) y->n_c = (m->p + 1) / y->rho;
    for (uint32_t t = first; t <= m->p; t++) rows[n++] = y->raw + (size_t)t * m->d;
    uint32_t n_sel = spec_select(m, sel, q_lown, xn);
    for (uint32_t k = 0; k < n_sel; k++) rows[n++] = y->comp + (size_t)sel[k] * m->d;
    spec_vector(m, sink, il, "attn_sinks.weight", m->H);
    for (uint32_t h = 0; h < m->H; h++)
        spec_attend(m, heads + h * m->d, q + h * m->d, sink[h], rows, n);
    spec_see(m, DS4_TAP_attn_heads, heads, Hd);
    if (m->mistake != SPEC_NO_UNROT) spec_rope(m, heads, m->H, m->d, m->p, y->rho, true);
    spec_see(m, DS4_TAP_attn_unrot, heads, Hd);
    const spec_tensor *a = spec_tensor_of(m->f, il, "attn_output_a.weight");
    for (uint32_t g = 0; g < m->G; g++)
        spec_project(m, low + g * m->o, a, 0, g * m->o, m->o, heads + (size_t)g * Hd / m->G);
    spec_see(m, DS4_TAP_attn_low, low, m->G * m->o);
    spec_matrix(m, DS4_TAP_attn_out, out, il, "attn_output_b.weight", low);
    free(q), free(q_lown), free(heads), free(low), free(sink), free(sel), free(rows);
}

/* ---- FFN half: 3.15 to 3.18 ---- */

static void spec_router(spec_model *m, int32_t *sel, float *w, const float *xn, int32_t token) {
    int il = (int)m->il;
    const spec_tensor *bias = spec_tensor_of(m->f, il, "exp_probs_b.bias");
    float *prob = malloc(m->Ne * sizeof *prob), *s = malloc(m->Ne * sizeof *s), Z = 0.0f;
    int32_t *plain = malloc(m->Ke * sizeof *plain);

    spec_matrix(m, DS4_TAP_router_logit, prob, il, "ffn_gate_inp.weight", xn);
    for (uint32_t e = 0; e < m->Ne; e++) {
        float z = prob[e];
        m->count.plain_high += z > 20.0f, m->count.plain_low += z < -20.0f;
        prob[e] = sqrtf(z > 20.0f ? z : z < -20.0f ? expf(z) : log1pf(expf(z)));
        s[e] = bias ? prob[e] + spec_f32(bias->data + 4 * e) : prob[e];
    }
    spec_see(m, DS4_TAP_router_prob, prob, m->Ne);
    if (m->il < m->Lh) {
        const spec_tensor *t = spec_tensor_of(m->f, il, "ffn_gate_tid2eid.weight");
        memcpy(sel, t->data + 4 * (size_t)token * m->Ke, 4 * m->Ke);
        if (m->mistake == SPEC_BIAS_ON_HASH && bias) spec_topk(m, sel, s, m->Ne, m->Ke);
        m->count.hashed++;
    } else {
        uint64_t ties = m->count.ties;
        spec_topk(m, plain, prob, m->Ne, m->Ke);
        m->count.ties = ties;
        spec_topk(m, sel, s, m->Ne, m->Ke);
        m->count.biased_choice += memcmp(sel, plain, m->Ke * sizeof *sel) != 0;
    }
    spec_see(m, m->il < m->Lh ? DS4_TAP_router_hash : DS4_TAP_router_sel, sel, m->Ke);
    const float *g = m->mistake == SPEC_BIASED_WEIGHTS ? s : prob;
    for (uint32_t k = 0; k < m->Ke; k++) Z += g[sel[k]];
    Z = Z > 0x1p-14f ? Z : 0x1p-14f;
    for (uint32_t k = 0; k < m->Ke; k++) w[k] = (g[sel[k]] / Z) * m->lambda;
    spec_see(m, DS4_TAP_router_weight, w, m->Ke);
    free(prob), free(s), free(plain);
}

static float spec_swiglu(spec_model *m, float g, float u, float kappa) {
    if (kappa > 1e-6f) {
        m->count.gate_clamped += g > kappa;
        m->count.up_clamped_high += u > kappa, m->count.up_clamped_low += u < -kappa;
        g = g < kappa ? g : kappa;
        if (m->mistake == SPEC_GATE_FROM_BELOW && g < -kappa) g = -kappa;
        u = spec_clip(u, -kappa, kappa);
    }
    return (g * spec_sigma(g)) * u;
}

static void spec_experts(spec_model *m, float *moe, const int32_t *sel, const float *w,
                         const float *xn) {
    int il = (int)m->il;
    const spec_tensor *gate = spec_tensor_of(m->f, il, "ffn_gate_exps.weight"),
                      *up = spec_tensor_of(m->f, il, "ffn_up_exps.weight"),
                      *down = spec_tensor_of(m->f, il, "ffn_down_exps.weight");
    float *g = malloc(m->Ke * m->F * sizeof *g), *u = malloc(m->Ke * m->F * sizeof *u),
          *y = malloc(m->Ke * m->D * sizeof *y);
    bool late = m->mistake == SPEC_WEIGHT_AFTER_DOWN;

    for (uint32_t k = 0; k < m->Ke; k++) {
        spec_project(m, g + k * m->F, gate, (uint32_t)sel[k], 0, m->F, xn);
        spec_project(m, u + k * m->F, up, (uint32_t)sel[k], 0, m->F, xn);
    }
    spec_see(m, DS4_TAP_moe_gate, g, m->Ke * m->F);
    spec_see(m, DS4_TAP_moe_up, u, m->Ke * m->F);
    for (uint32_t i = 0; i < m->Ke * m->F; i++) {
        float mid = spec_swiglu(m, g[i], u[i], m->layer[il].kappa);
        g[i] = late ? mid : mid * w[i / m->F];
    }
    spec_see(m, DS4_TAP_moe_mid, g, m->Ke * m->F);
    for (uint32_t k = 0; k < m->Ke; k++) {
        spec_project(m, y + k * m->D, down, (uint32_t)sel[k], 0, m->D, g + k * m->F);
        for (uint32_t i = 0; late && i < m->D; i++) y[k * m->D + i] *= w[k];
    }
    spec_see(m, DS4_TAP_moe_down, y, m->Ke * m->D);
    for (uint32_t i = 0; i < m->D; i++) moe[i] = 0.0f;
    for (uint32_t e = 0; m->mistake == SPEC_EXPERTS_BY_ID && e < m->Ne; e++)
        for (uint32_t k = 0; k < m->Ke; k++)
            for (uint32_t i = 0; (uint32_t)sel[k] == e && i < m->D; i++)
                moe[i] += y[k * m->D + i];
    for (uint32_t k = 0; m->mistake != SPEC_EXPERTS_BY_ID && k < m->Ke; k++)
        for (uint32_t i = 0; i < m->D; i++) moe[i] += y[k * m->D + i];
    spec_see(m, DS4_TAP_moe_out, moe, m->D);
    free(g), free(u), free(y);
}

static void spec_ffn(spec_model *m, float *y, const float *xn, int32_t token) {
    int il = (int)m->il;
    int32_t *sel = malloc(m->Ke * sizeof *sel);
    float *w = malloc(m->Ke * sizeof *w), *g = malloc(m->F * sizeof *g),
          *u = malloc(m->F * sizeof *u), *sh = malloc(m->D * sizeof *sh);

    spec_router(m, sel, w, xn, token);
    spec_experts(m, y, sel, w, xn);
    spec_matrix(m, DS4_TAP_shared_gate, g, il, "ffn_gate_shexp.weight", xn);
    spec_matrix(m, DS4_TAP_shared_up, u, il, "ffn_up_shexp.weight", xn);
    for (uint32_t i = 0; i < m->F; i++) g[i] = spec_swiglu(m, g[i], u[i], m->layer[il].kappa);
    spec_see(m, DS4_TAP_shared_mid, g, m->F);
    spec_matrix(m, DS4_TAP_shared_out, sh, il, "ffn_down_shexp.weight", g);
    for (uint32_t i = 0; i < m->D; i++) y[i] = y[i] + sh[i];
    spec_see(m, DS4_TAP_ffn_out, y, m->D);
    free(sel), free(w), free(g), free(u), free(sh);
}

/* ---- the network ---- */

static void spec_one_layer(spec_model *m, float *X, int32_t token) {
    static const spec_half_names attn = {
        DS4_TAP_attn_hc_norm, DS4_TAP_attn_hc_mix,    DS4_TAP_attn_hc_split, DS4_TAP_attn_in,
        "hc_attn_fn.weight",  "hc_attn_scale.weight", "hc_attn_base.weight"};
    static const spec_half_names ffn = {
        DS4_TAP_ffn_hc_norm, DS4_TAP_ffn_hc_mix,    DS4_TAP_ffn_hc_split, DS4_TAP_ffn_in,
        "hc_ffn_fn.weight",  "hc_ffn_scale.weight", "hc_ffn_base.weight"};
    float *u = malloc(4 * m->D * sizeof *u), *x = malloc(m->D * sizeof *x), split[24],
          *xn = malloc(m->D * sizeof *xn), *y = malloc(m->D * sizeof *y),
          *entry = malloc(4 * m->D * sizeof *entry);
    int il = (int)m->il;

    memcpy(entry, X, 4 * m->D * sizeof *entry);
    spec_hc_read(m, &attn, x, split, X, u);
    spec_norm(m, DS4_TAP_attn_norm, xn, x, il, "attn_norm.weight", m->D);
    spec_attention(m, y, xn);
    spec_hc_write(m, DS4_TAP_attn_hc_out, X, split, y);
    spec_hc_read(m, &ffn, x, split, m->mistake == SPEC_ONE_STATE ? entry : X, u);
    spec_norm(m, DS4_TAP_ffn_norm, xn, x, il, "ffn_norm.weight", m->D);
    spec_ffn(m, y, xn, token);
    spec_hc_write(m, DS4_TAP_ffn_hc_out, X, split, y);
    free(u), free(x), free(xn), free(y), free(entry);
}

static void spec_head(spec_model *m, const float *X) {
    float *u = malloc(4 * m->D * sizeof *u), *x = malloc(m->D * sizeof *x), w[4], scale[1],
          base[4], *logits = malloc(m->V * sizeof *logits);
    spec_rms(m, u, X, NULL, 4 * m->D);
    spec_see(m, DS4_TAP_out_hc_norm, u, 4 * m->D);
    spec_matrix(m, DS4_TAP_out_hc_mix, w, -1, "output_hc_fn.weight", u);
    spec_vector(m, scale, -1, "output_hc_scale.weight", 1);
    spec_vector(m, base, -1, "output_hc_base.weight", 4);
    for (int s = 0; s < 4; s++) w[s] = spec_sigma(w[s] * scale[0] + base[s]) + m->eps_h;
    spec_see(m, DS4_TAP_out_hc_gate, w, 4);
    for (uint32_t i = 0; i < m->D; i++) {
        x[i] = 0.0f;
        for (uint32_t s = 0; s < 4; s++) x[i] += X[s * m->D + i] * w[s];
    }
    spec_see(m, DS4_TAP_out_in, x, m->D);
    spec_norm(m, DS4_TAP_out_norm, x, x, -1, "output_norm.weight", m->D);
    spec_matrix(m, DS4_TAP_logits, logits, -1, "output.weight", x);
    free(u), free(x), free(logits);
}

static void spec_configure(spec_model *m, const spec_file *f) {
    m->f = f;
    m->L = spec_count(f, "block_count"), m->D = spec_count(f, "embedding_length");
    m->V = spec_count(f, "vocab_size"), m->H = spec_count(f, "attention.head_count");
    m->d = spec_count(f, "attention.key_length"), m->r = spec_count(f, "rope.dimension_count");
    m->n = m->d - m->r, m->q = spec_count(f, "attention.q_lora_rank");
    m->o = spec_count(f, "attention.output_lora_rank");
    m->G = spec_count(f, "attention.output_group_count");
    m->W = spec_count(f, "attention.sliding_window");
    m->Hi = spec_count(f, "attention.indexer.head_count");
    m->Ki = spec_count(f, "attention.indexer.top_k");
    m->Ne = spec_count(f, "expert_count"), m->Ke = spec_count(f, "expert_used_count");
    m->F = spec_count(f, "expert_feed_forward_length");
    m->Lh = spec_count(f, "hash_layer_count");
    m->T = spec_count(f, "hyper_connection.sinkhorn_iterations");
    m->eps = (float)spec_number(f, "attention.layer_norm_rms_epsilon");
    m->eps_h = (float)spec_number(f, "hyper_connection.epsilon");
    m->lambda = (float)spec_number(f, "expert_weights_scale");
    m->bd = (float)spec_number(f, "rope.freq_base");
    m->bc = (float)spec_number(f, "attention.compress_rope_freq_base");
    m->sy = (float)spec_number(f, "rope.scaling.factor");
    m->no = (float)spec_number(f, "rope.scaling.original_context_length");
    m->bf = (float)spec_number(f, "rope.scaling.yarn_beta_fast");
    m->bs = (float)spec_number(f, "rope.scaling.yarn_beta_slow");
}

static void spec_layer_new(spec_layer *y, const spec_model *m, uint32_t il, uint32_t n_tok) {
    y->rho = (uint32_t)spec_item(m->f, "deepseek4.attention.compress_ratios", il);
    y->kappa = (float)spec_item(m->f, "deepseek4.swiglu_clamp_exp", il);
    y->c = y->rho == 4 ? 2 : 1;
    y->raw = calloc((size_t)n_tok * m->d, sizeof *y->raw);
    if (!y->rho) return;
    uint32_t R = y->c * y->rho, n_row = n_tok / y->rho + 1;
    float **state[] = {&y->ks, &y->gs, &y->iks, &y->igs};
    for (int k = 0; k < 4; k++) {
        size_t n = (size_t)R * y->c * (k < 2 ? m->d : 128);
        *state[k] = calloc(n, sizeof(float));
        for (size_t i = 0; k % 2 && i < n; i++) (*state[k])[i] = SPEC_NEG;
    }
    y->comp = calloc((size_t)n_row * m->d, sizeof *y->comp);
    y->idx = calloc((size_t)n_row * 128, sizeof *y->idx);
}

/* Evaluates the tokens in order (4.1), shows every step, and gives what was met. */
static spec_counts spec_eval(const spec_file *f, const int32_t *token, uint32_t n_tok,
                             spec_mistake mistake, spec_show *show, void *user) {
    spec_model m = {.mistake = mistake, .show = show, .user = user};
    spec_configure(&m, f);
    m.layer = calloc(m.L, sizeof *m.layer);
    for (uint32_t il = 0; il < m.L; il++) spec_layer_new(&m.layer[il], &m, il, n_tok);
    float *X = malloc(4 * m.D * sizeof *X);
    const spec_tensor *embd = spec_tensor_of(f, -1, "token_embd.weight");

    for (m.p = 0; m.p < n_tok; m.p++) {
        for (uint32_t i = 0; i < 4 * m.D; i++)
            X[i] = spec_half(embd->data + 2 * ((size_t)token[m.p] * m.D + i % m.D));
        m.il = DS4_NO_LAYER;
        spec_see(&m, DS4_TAP_embed, X, 4 * m.D);
        for (m.il = 0; m.il < m.L; m.il++) spec_one_layer(&m, X, token[m.p]);
        m.il = DS4_NO_LAYER;
        spec_head(&m, X);
    }
    free(X);
    for (uint32_t il = 0; il < m.L; il++) {
        spec_layer *y = &m.layer[il];
        free(y->raw), free(y->comp), free(y->idx), free(y->ks), free(y->gs), free(y->iks),
            free(y->igs);
    }
    free(m.layer);
    return m.count;
}

#endif
