/* Rotation and storage rounding in the arithmetic of model.md 3.0. */
#include "engine/ref/compat.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/model/rope_freq.h"

static float clip(float x, float lo, float hi) { return x > hi ? hi : x < lo ? lo : x; }

/* ---- FP8 and FP4 ---- */

/* 2^ceil(log2(v)), the logarithm by the C library. */
static float scale_over(float v) { return ldexpf(1.0f, (int)ceilf(log2f(v))); }

void ds4_compat_fp8(float y[64], const float x[64]) {
    float m = 0.0f;
    for (int i = 0; i < 64; i++) m = fabsf(x[i]) > m ? fabsf(x[i]) : m;
    float s = scale_over((m > 1e-4f ? m : 1e-4f) / 448.0f);
    for (int i = 0; i < 64; i++) y[i] = ds4_e4m3_round(clip(x[i] / s, -448.0f, 448.0f)) * s;
}

void ds4_compat_kv_round(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_kv_round *a = c->args;

    for (uint32_t r = box.y0; r < box.y1; r++)
        for (uint32_t b = box.x0; b < box.x1; b++) {
            size_t off = (size_t)r * a->d_head + 64 * b;
            const float *x = (const float *)c->bind[0] + off;
            float *y = (float *)c->bind[1] + off, v[64];
            uint32_t n = a->d_head - 64 * b < 64 ? a->d_head - 64 * b : 64;
            if (64 * b < a->n_fp8) ds4_compat_fp8(v, x);
            else memcpy(v, x, n * sizeof *v);
            for (uint32_t i = 0; i < n; i++) y[i] = ds4_f16_round(v[i]);
        }
}

void ds4_compat_index_round(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_index_round *a = c->args;

    for (uint32_t r = box.x0; r < box.x1; r++) {
        float v[128], *y = (float *)c->bind[1] + (size_t)r * 128;
        memcpy(v, (const float *)c->bind[0] + (size_t)r * 128, sizeof v);
        for (uint32_t step = 1; step < 128; step *= 2)
            for (uint32_t i = 0; i < 128; i++) {
                if (i & step) continue;
                float p = v[i], q = v[i + step];
                v[i] = p + q, v[i + step] = p - q;
            }
        for (uint32_t i = 0; i < 128; i++) v[i] = v[i] * 0.08838834764831845f;
        for (uint32_t b = 0; b < 128; b += 32) {
            float m = 6.0f * 0x1p-126f;
            for (uint32_t i = b; i < b + 32; i++) m = fabsf(v[i]) > m ? fabsf(v[i]) : m;
            float s = scale_over(m / 6.0f);
            for (uint32_t i = b; i < b + 32; i++) {
                float q = ds4_e2m1_round(clip(v[i] / s, -6.0f, 6.0f)) * s;
                y[i] = a->half_out ? ds4_f16_round(q) : q;
            }
        }
    }
}

/* ---- rotation ---- */

enum { MAX_PAIR = DS4_MAX_ROW / 2 };

/* What every position shares. */
typedef struct rotation {
    float step, interp; /* base^(-2/r); 1/s_y */
    float lo, span;     /* the YaRN ramp, in pairs */
    bool yarn;
} rotation;

/* The pair whose wavelength makes `beta` turns over the original context. */
static float ramp_edge(const float *k, uint32_t n_rot, float beta) {
    return (float)n_rot * logf(k[DS4_ROPE_N_CTX] / (beta * 2.0f * 0x1.921fb6p+1f)) /
           (2.0f * logf(k[DS4_ROPE_BASE]));
}

static rotation rotation_of(const uint32_t *freq, uint32_t n_rot) {
    float k[DS4_ROPE_N_CONSTANT];
    memcpy(k, freq + n_rot, sizeof k);
    rotation r = {.step = powf(k[DS4_ROPE_BASE], -2.0f / (float)n_rot),
                  .yarn = k[DS4_ROPE_YARN] > 0.0f};
    if (!r.yarn) return r;
    r.interp = 1.0f / k[DS4_ROPE_FACTOR];
    r.lo = fmaxf(0.0f, floorf(ramp_edge(k, n_rot, k[DS4_ROPE_BETA_FAST])));
    float hi = fminf((float)n_rot - 1.0f, ceilf(ramp_edge(k, n_rot, k[DS4_ROPE_BETA_SLOW])));
    r.span = fmaxf(0.001f, hi - r.lo);
    return r;
}

/* Angle of pair k, theta = the running product pos * step^k. */
static float angle(const rotation *r, uint32_t k, float theta) {
    if (!r->yarn) return theta;
    float share = 1.0f - fminf(1.0f, fmaxf(0.0f, ((float)k - r->lo) / r->span));
    float u = r->interp * theta;
    return u * (1.0f - share) + theta * share;
}

/* Binding 1 goes on past the turns, which are not read, with DS4_ROPE_N_CONSTANT words. */
void ds4_compat_rope(const ds4_ref_call *c, ds4_box box) {
    const struct ds4_args_rope *a = c->args;
    rotation rot = rotation_of(c->bind[1], a->n_rot);
    uint32_t n_pass = a->d_head - a->n_rot;
    float cs[MAX_PAIR], sn[MAX_PAIR];

    for (uint32_t r = box.y0; r < box.y1; r++) {
        float theta = (float)(a->pos0 + r * a->pos_step);
        for (uint32_t k = 0; k < a->n_rot / 2; k++, theta = theta * rot.step) {
            float alpha = angle(&rot, k, theta);
            cs[k] = cosf(alpha), sn[k] = a->inverse ? -sinf(alpha) : sinf(alpha);
        }
        for (uint32_t h = box.x0; h < box.x1; h++) {
            size_t off = ((size_t)r * a->n_head + h) * a->d_head;
            const float *x = (const float *)c->bind[0] + off;
            float *y = (float *)c->bind[2] + off;
            memcpy(y, x, n_pass * sizeof *y);
            for (uint32_t k = 0; k < a->n_rot / 2; k++) {
                float p = x[n_pass + 2 * k], q = x[n_pass + 2 * k + 1];
                y[n_pass + 2 * k] = p * cs[k] - q * sn[k];
                y[n_pass + 2 * k + 1] = p * sn[k] + q * cs[k];
            }
        }
    }
}
