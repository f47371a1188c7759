#include "engine/ref/simd.h"

#include <stdio.h>
#include <string.h>

#include "engine/ref/simd_paths.h"

/* Widest last. */
static const ds4_simd *const paths[] = {
    NULL, /* scalar */
#if defined(__x86_64__)
    &ds4_simd_avx2,
    &ds4_simd_avx512,
#elif defined(__aarch64__)
    &ds4_simd_neon,
#endif
};
enum { N_PATH = sizeof paths / sizeof *paths };

uint32_t ds4_simd_n_path(void) { return N_PATH; }
const char *ds4_simd_path_name(uint32_t i) { return paths[i] ? paths[i]->name : "scalar"; }
bool ds4_simd_path_runs(uint32_t i) { return !paths[i] || paths[i]->runs(); }

ds4_status ds4_simd_find(const ds4_simd **out, const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    char known[128] = "auto";

    if (!name || !strcmp(name, "auto")) {
        uint32_t i = N_PATH - 1;
        while (!ds4_simd_path_runs(i)) i--;
        *out = paths[i];
        goto out;
    }
    for (uint32_t i = 0; i < N_PATH; i++) {
        size_t n = strlen(known);
        if (strcmp(ds4_simd_path_name(i), name)) {
            snprintf(known + n, sizeof known - n, ", %s", ds4_simd_path_name(i));
            continue;
        }
        if (!ds4_simd_path_runs(i))
            RAISE(DS4_ERR_ENVIRONMENT, "SIMD path %s: this CPU lacks its instructions", name);
        *out = paths[i];
        goto out;
    }
    RAISE(DS4_ERR_USAGE, "SIMD path: found \"%s\", wanted one of %s", name, known);
out:
    return st;
}

/* Seven sign bits and the eighth that makes the number of minus signs even, as bytes of all
 * ones (model.md 1.7.5). Rows of eight: entry s has sign j in byte j. */
#define BYTE(s, j) ((uint64_t)((s) >> (j)&1 ? 255 : 0) << 8 * (j))
#define PARITY(s) (((s) ^ (s) >> 1 ^ (s) >> 2 ^ (s) >> 3 ^ (s) >> 4 ^ (s) >> 5 ^ (s) >> 6) & 1)
#define M1(s)                                                                                  \
    BYTE(s, 0) | BYTE(s, 1) | BYTE(s, 2) | BYTE(s, 3) | BYTE(s, 4) | BYTE(s, 5) | BYTE(s, 6) | \
        (uint64_t)(PARITY(s) ? 255 : 0) << 56
#define M4(s) M1(s), M1((s) + 1), M1((s) + 2), M1((s) + 3)
#define M16(s) M4(s), M4((s) + 4), M4((s) + 8), M4((s) + 12)
const uint64_t ds4_simd_minus[128] = {M16(0),  M16(16), M16(32), M16(48),
                                      M16(64), M16(80), M16(96), M16(112)};

/* ---- ops ---- */

enum { MAX_TOK = 512 }; /* inputs handed to a path at a time */

static uint32_t n_group(const struct ds4_args_matmul *a) {
    return (a->n_out + a->group_rows - 1) / a->group_rows;
}

static size_t matmul_n_packed(const void *args) {
    const struct ds4_args_matmul *a = args;
    return (size_t)a->n_tok * n_group(a) * ds4_simd_packed(a->n_in);
}

static void matmul_pack(const ds4_simd *s, const ds4_ref_call *c, float *packed) {
    const struct ds4_args_matmul *a = c->args;
    for (uint32_t t = 0; t < a->n_tok; t++)
        for (uint32_t g = 0; g < n_group(a); g++, packed += ds4_simd_packed(a->n_in))
            s->pack(packed,
                    (const float *)c->bind[1] + (size_t)t * a->x_stride + (size_t)g * a->n_in,
                    a->n_in);
}

static void matmul(const ds4_simd *s, const ds4_ref_call *c, const float *packed, ds4_box box) {
    const struct ds4_args_matmul *a = c->args;
    float *y[MAX_TOK];
    const float *x[MAX_TOK];

    for (uint32_t r = box.x0, end; r < box.x1; r = end) {
        uint32_t g = r / a->group_rows;
        end = box.x1 < (g + 1) * a->group_rows ? box.x1 : (g + 1) * a->group_rows;
        for (uint32_t t = box.y0; t < box.y1; t += MAX_TOK) {
            uint32_t n = box.y1 - t < MAX_TOK ? box.y1 - t : MAX_TOK;
            for (uint32_t i = 0; i < n; i++) {
                y[i] = (float *)c->bind[2] + (size_t)(t + i) * a->n_out + r;
                x[i] = packed + ((size_t)(t + i) * n_group(a) + g) * ds4_simd_packed(a->n_in);
            }
            s->rows(y, x, n, (const uint8_t *)c->bind[0] + (size_t)r * a->row_bytes,
                    a->row_bytes, c->wtype, c->half, end - r, a->n_in);
        }
    }
}

static size_t matmul_id_n_packed(const void *args) {
    const struct ds4_args_matmul_id *a = args;
    return (size_t)a->n_tok * (a->x_per_slot ? a->n_slot : 1) * ds4_simd_packed(a->n_in);
}

static void matmul_id_pack(const ds4_simd *s, const ds4_ref_call *c, float *packed) {
    const struct ds4_args_matmul_id *a = c->args;
    size_t n = (size_t)a->n_tok * (a->x_per_slot ? a->n_slot : 1);
    for (size_t i = 0; i < n; i++)
        s->pack(packed + i * ds4_simd_packed(a->n_in), (const float *)c->bind[1] + i * a->n_in,
                a->n_in);
}

/* Slots of one matrix are evaluated together, so that a decoded row serves them all. */
static void matmul_id(const ds4_simd *s, const ds4_ref_call *c, const float *packed,
                      ds4_box box) {
    const struct ds4_args_matmul_id *a = c->args;
    const int32_t *sel = c->bind[2];
    float *y[MAX_TOK];
    const float *x[MAX_TOK];

    for (uint32_t m = 0; m < a->n_mat; m++) {
        const uint8_t *w =
            (const uint8_t *)c->bind[0] + ((size_t)m * a->n_out + box.x0) * a->row_bytes;
        uint32_t n = 0;
        for (uint32_t k = box.y0; k < box.y1; k++) {
            if ((uint32_t)sel[k] == m) {
                y[n] = (float *)c->bind[3] + (size_t)k * a->n_out + box.x0;
                x[n++] = packed +
                         (size_t)(a->x_per_slot ? k : k / a->n_slot) * ds4_simd_packed(a->n_in);
            }
            if (n == MAX_TOK || (n && k + 1 == box.y1)) {
                s->rows(y, x, n, w, a->row_bytes, c->wtype, c->half, box.x1 - box.x0, a->n_in);
                n = 0;
            }
        }
    }
}

static const struct {
    ds4_op op;
    ds4_simd_op is;
} table[] = {
    {DS4_OP_matmul, {matmul_n_packed, matmul_pack, matmul}},
    {DS4_OP_matmul_id, {matmul_id_n_packed, matmul_id_pack, matmul_id}},
};

const ds4_simd_op *ds4_simd_find_op(ds4_op op) {
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].op == op) return &table[i].is;
    return NULL;
}
