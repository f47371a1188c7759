#ifndef DS4_TESTS_SPEC_FORMAT_H
#define DS4_TESTS_SPEC_FORMAT_H
/* The file and the small formats of tests/spec_model.h: a second reading of model.md 1.1
 * to 1.4 and 3.0. Files are those that a test has written, so nothing is checked. */
#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/format/quant.h"

/* ---- the file: 1.1 to 1.4 ---- */

typedef struct spec_value {
    const char *key;
    uint64_t n_key, n_item;
    uint32_t type, item_type;
    const uint8_t *entry, *value, *end; /* entry: from the key's length on; value: its bytes, of
                                           an array its items */
} spec_value;

typedef struct spec_tensor {
    const char *name;
    uint64_t n_name, ne[8], offset;
    uint32_t rank, type;
    const uint8_t *data;
} spec_tensor;

typedef struct spec_file {
    uint8_t *bytes;
    size_t n;
    spec_value value[128];
    spec_tensor tensor[512];
    uint64_t n_value, n_tensor;
    const uint8_t *data; /* the data section */
} spec_file;

static uint64_t spec_le(const uint8_t *p, int n) {
    uint64_t v = 0;
    for (int i = n; i-- > 0;) v = v << 8 | p[i];
    return v;
}

static const uint8_t *spec_skip(const uint8_t *p, uint32_t type) {
    static const uint8_t bytes[13] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) return p + 8 + spec_le(p, 8);
    if (type != 9) return p + bytes[type];
    uint32_t item = (uint32_t)spec_le(p, 4);
    uint64_t n = spec_le(p + 4, 8);
    p += 12;
    for (uint64_t i = 0; i < n; i++) p = spec_skip(p, item);
    return p;
}

/* The first entry of a key. */
static const spec_value *spec_find(const spec_file *f, const char *key) {
    for (uint64_t i = 0; i < f->n_value; i++)
        if (f->value[i].n_key == strlen(key) && !memcmp(f->value[i].key, key, strlen(key)))
            return &f->value[i];
    return NULL;
}

static spec_file *spec_open(const char *path) {
    spec_file *f = calloc(1, sizeof *f);
    FILE *in = fopen(path, "rb");
    fseek(in, 0, SEEK_END);
    f->n = (size_t)ftell(in), rewind(in);
    f->bytes = malloc(f->n);
    f->n = fread(f->bytes, 1, f->n, in);
    fclose(in);
    f->n_tensor = spec_le(f->bytes + 8, 8), f->n_value = spec_le(f->bytes + 16, 8);
    const uint8_t *p = f->bytes + 24;
    for (uint64_t i = 0; i < f->n_value; i++) {
        spec_value *v = &f->value[i];
        v->entry = p, v->n_key = spec_le(p, 8), v->key = (const char *)p + 8;
        p += 8 + v->n_key;
        v->type = (uint32_t)spec_le(p, 4), v->value = p + 4;
        if (v->type == 9) {
            v->item_type = (uint32_t)spec_le(p + 4, 4), v->n_item = spec_le(p + 8, 8);
            v->value = p + 16;
        }
        v->end = p = spec_skip(p + 4, v->type);
    }
    for (uint64_t i = 0; i < f->n_tensor; i++) {
        spec_tensor *t = &f->tensor[i];
        t->n_name = spec_le(p, 8), t->name = (const char *)p + 8;
        p += 8 + t->n_name;
        t->rank = (uint32_t)spec_le(p, 4), p += 4;
        for (uint32_t k = 0; k < t->rank; k++, p += 8) t->ne[k] = spec_le(p, 8);
        t->type = (uint32_t)spec_le(p, 4), t->offset = spec_le(p + 4, 8), p += 12;
    }
    const spec_value *a = spec_find(f, "general.alignment");
    uint64_t align = a && a->type == 4 && spec_le(a->value, 4) ? spec_le(a->value, 4) : 32;
    uint64_t at = (uint64_t)(p - f->bytes);
    f->data = f->bytes + (at + align - 1) / align * align;
    for (uint64_t i = 0; i < f->n_tensor; i++)
        f->tensor[i].data = f->data + f->tensor[i].offset;
    return f;
}

static void spec_close(spec_file *f) {
    free(f->bytes);
    free(f);
}

static double spec_number_at(const uint8_t *p, uint32_t type) {
    float x;
    double y;
    memcpy(&x, p, 4);
    if (type == 6) return (double)x;
    if (type == 4) return (double)(uint32_t)spec_le(p, 4);
    if (type == 5) return (double)(int32_t)(uint32_t)spec_le(p, 4);
    if (type == 10) return (double)spec_le(p, 8);
    memcpy(&y, p, 8);
    return y; /* 12 */
}

static double spec_number(const spec_file *f, const char *key) {
    char full[128];
    snprintf(full, sizeof full, "deepseek4.%s", key);
    const spec_value *v = spec_find(f, full);
    if (!v) fprintf(stderr, "no %s\n", full), abort();
    return spec_number_at(v->value, v->type);
}
static uint32_t spec_count(const spec_file *f, const char *key) {
    return (uint32_t)spec_number(f, key);
}
static double spec_item(const spec_file *f, const char *key, uint32_t i) {
    const spec_value *v = spec_find(f, key);
    return spec_number_at(v->value + (v->item_type == 12 ? 8 : 4) * i, v->item_type);
}

/* layer < 0: a global tensor. NULL: absent. */
static const spec_tensor *spec_tensor_of(const spec_file *f, int layer, const char *name) {
    char full[96];
    if (layer < 0) snprintf(full, sizeof full, "%s", name);
    else snprintf(full, sizeof full, "blk.%d.%s", layer, name);
    for (uint64_t i = 0; i < f->n_tensor; i++)
        if (f->tensor[i].n_name == strlen(full) &&
            !memcmp(f->tensor[i].name, full, strlen(full)))
            return &f->tensor[i];
    return NULL;
}

/* ---- small formats: 0.1, 3.0 ---- */

/* A stored half, widened. A table, filled once, for speed. */
static float spec_half(const uint8_t *p) {
    static float table[65536];
    static bool full;
    for (uint32_t h = 0; !full && h < 65536; h++) {
        uint32_t e = h >> 10 & 31, m = h & 1023;
        double v = e ? ldexp(1024.0 + m, (int)e - 25) : ldexp(m, -24);
        table[h] = (float)(h >> 15 ? -v : v);
    }
    full = true;
    return table[p[0] | p[1] << 8];
}

static float spec_f32(const uint8_t *p) {
    float x;
    memcpy(&x, p, 4);
    return x;
}

/* Nearest multiple of 2^q, ties to even; exact in f64. */
static double spec_near(double a, int q) { return ldexp(rint(ldexp(a, -q)), q); }

static float spec_h(float x) {
    double a = fabs((double)x), y;
    int e;
    if (a >= 65520.0) return x < 0.0f ? -INFINITY : INFINITY;
    frexp(a, &e);
    y = a == 0.0 ? 0.0 : spec_near(a, e - 1 < -14 ? -24 : e - 11);
    return (float)copysign(y, (double)x);
}

static float spec_e4(float x) {
    double a = fmin(fabs((double)x), 448.0), y;
    int e;
    frexp(a, &e);
    y = a == 0.0 ? 0.0 : spec_near(a, e - 1 < -6 ? -9 : e - 4);
    return (float)(x < 0.0f ? -y : y);
}

static float spec_e2(float x) {
    static const float list[8] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6};
    float a = fabsf(x) < 6.0f ? fabsf(x) : 6.0f;
    int best = 0;
    for (int i = 1; i < 8; i++) {
        float d = fabsf(list[i] - a), least = fabsf(list[best] - a);
        if (d < least || (d == least && i % 2 == 0)) best = i;
    }
    return x < 0.0f ? -list[best] : list[best];
}

static float spec_clip(float x, float a, float b) { return x > b ? b : x < a ? a : x; }

/* ---- blocks: 1.7 ---- */

/* A8 codes and scales of n elements. */
static void spec_a8(int8_t *q, float *scale, const float *x, uint32_t n) {
    for (uint32_t b = 0; b < n / 32; b++) {
        float top = 0.0f, inv;
        for (uint32_t i = 0; i < 32; i++) top = fmaxf(top, fabsf(x[32 * b + i]));
        scale[b] = top / 127.0f;
        inv = scale[b] != 0.0f ? 1.0f / scale[b] : 0.0f;
        for (uint32_t i = 0; i < 32; i++)
            q[32 * b + i] = (int8_t)spec_clip(rintf(x[32 * b + i] * inv), -128.0f, 127.0f);
    }
}

static void spec_q8k(int8_t *q, float *scale, const float *x, uint32_t n) {
    for (uint32_t b = 0; b < n / 256; b++, x += 256, q += 256) {
        uint32_t top = 0;
        for (uint32_t i = 1; i < 256; i++)
            if (fabsf(x[i]) > fabsf(x[top])) top = i;
        scale[b] = 0.0f;
        memset(q, 0, 256);
        if (x[top] == 0.0f) continue;
        float inv = -127.0f / x[top];
        for (uint32_t i = 0; i < 256; i++)
            q[i] = (int8_t)spec_clip(rintf(inv * x[i]), -128.0f, 127.0f);
        scale[b] = 1.0f / inv;
    }
}

static float spec_dot_q8_0(const uint8_t *w, const int8_t *q, const float *scale, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 32; b++, w += 34) {
        int32_t sum = 0;
        for (uint32_t e = 0; e < 32; e++) sum += (int8_t)w[2 + e] * q[32 * b + e];
        y += (spec_half(w) * scale[b]) * (float)sum;
    }
    return y;
}

static float spec_dot_iq2(const uint8_t *w, const int8_t *q, const float *scale, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 256; b++, w += 66) {
        int32_t all = 0;
        for (uint32_t g = 0; g < 8; g++) {
            uint32_t A = (uint32_t)spec_le(w + 2 + 8 * g, 4);
            uint32_t B = (uint32_t)spec_le(w + 6 + 8 * g, 4), u = B >> 28;
            int32_t sum = 0;
            for (uint32_t k = 0; k < 4; k++) {
                uint32_t s = B >> 7 * k & 127, parity = 0;
                for (uint32_t t = s; t; t >>= 1) parity ^= t & 1;
                uint32_t sign = s | parity << 7;
                uint64_t word = ds4_iq2xxs_grid[A >> 8 * k & 255];
                for (uint32_t j = 0; j < 8; j++) {
                    int32_t v = (int32_t)(word >> 8 * j & 255);
                    sum += (sign >> j & 1 ? -v : v) * q[256 * b + 32 * g + 8 * k + j];
                }
            }
            all += (int32_t)(2 * u + 1) * sum;
        }
        y += (spec_half(w) * scale[b]) * (float)all;
    }
    return 0.125f * y;
}

static float spec_dot_q2_k(const uint8_t *w, const int8_t *q, const float *scale, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 256; b++, w += 84) {
        int32_t I = 0, N = 0;
        for (uint32_t j = 0; j < 16; j++) {
            int32_t sum = 0, B = 0;
            for (uint32_t e = 16 * j; e < 16 * j + 16; e++) {
                int32_t code = w[16 + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3;
                sum += code * q[256 * b + e], B += q[256 * b + e];
            }
            I += (w[j] & 15) * sum, N += (w[j] >> 4) * B;
        }
        y += (scale[b] * spec_half(w + 80)) * (float)I -
             (scale[b] * spec_half(w + 82)) * (float)N;
    }
    return y;
}

static float spec_dot_q4_k(const uint8_t *w, const int8_t *q, const float *scale, uint32_t n) {
    float y = 0.0f;
    for (uint32_t b = 0; b < n / 256; b++, w += 144) {
        const uint8_t *P = w + 4;
        int32_t I = 0, N = 0;
        for (uint32_t j = 0; j < 8; j++) {
            int32_t sc = j < 4 ? P[j] & 63 : (P[j + 4] & 15) | (P[j - 4] >> 6) << 4;
            int32_t mn = j < 4 ? P[j + 4] & 63 : P[j + 4] >> 4 | (P[j] >> 6) << 4;
            int32_t sum = 0, B = 0;
            for (uint32_t e = 32 * j; e < 32 * j + 32; e++) {
                uint8_t byte = w[16 + 32 * (e / 64) + e % 32];
                sum += (e % 64 < 32 ? byte & 15 : byte >> 4) * q[256 * b + e];
                B += q[256 * b + e];
            }
            I += sc * sum, N += mn * B;
        }
        y += (scale[b] * spec_half(w)) * (float)I - (scale[b] * spec_half(w + 2)) * (float)N;
    }
    return y;
}

#endif
