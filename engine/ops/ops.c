#include "engine/ops/ops.h"

#include <math.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"
#include "engine/variants.h"

static const struct {
    void (*run)(const ds4_ref_call *, ds4_box);
    void (*grid)(const void *, uint32_t[3]);
    size_t args_bytes;
} table[DS4_OP_COUNT] = {
#define OP(stem, n_in, scratch, equation)                                                      \
    {ds4_ref_##stem, ds4_grid_##stem, sizeof(struct ds4_args_##stem)},
#include "engine/ops/ops.def"
#undef OP
};

#define OP(stem, n_in, scratch, equation)                                                      \
    _Static_assert(sizeof(struct ds4_args_##stem) <= 128, #stem);
#include "engine/ops/ops.def"
#undef OP

void ds4_op_grid(ds4_op op, const void *args, uint32_t grid[3]) { table[op].grid(args, grid); }

size_t ds4_op_args_bytes(ds4_op op) { return table[op].args_bytes; }

void ds4_op_reference(ds4_op op, const ds4_ref_call *c, ds4_box box) { table[op].run(c, box); }

float ds4_tree16(float v[16]) {
    for (int n = 8; n; n /= 2)
        for (int j = 0; j < n; j++) v[j] = v[j] + v[j + n];
    return v[0];
}

float ds4_dot16(const float *a, const float *b, uint32_t n) {
    float v[16] = {0.0f};
    uint32_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (uint32_t j = 0; j < 16; j++) v[j] = v[j] + a[i + j] * b[i + j];
    for (uint32_t j = 0; i + j < n; j++) v[j] = v[j] + a[i + j] * b[i + j];
    return ds4_tree16(v);
}

void ds4_row_decode(float *dst, const void *src, uint32_t wtype, uint32_t n, bool half) {
    const ds4_quant *q = ds4_quant_by_id(wtype);
    q->decode(dst, src, n / q->n_elem);
    if (wtype == DS4_QUANT_F32 || wtype == DS4_QUANT_BF16)
        for (uint32_t i = 0; i < n; i++) dst[i] = ds4_fz(dst[i]);
    for (uint32_t i = 0; half && i < n; i++) dst[i] = ds4_f16_round(dst[i]);
}

void ds4_act_round(float *y, const float *x, uint32_t n, uint32_t wtype) {
    uint32_t block = ds4_quant_by_id(wtype)->n_elem;
    if (block == 1) {
        memmove(y, x, n * sizeof *y);
        return;
    }
    for (uint32_t b = 0; b < n; b += block) {
        float top = 0.0f, scale = 0.0f, inv = 0.0f;
        for (uint32_t i = b; i < b + block; i++) top = fabsf(x[i]) > fabsf(top) ? x[i] : top;
        if (top != 0.0f && wtype == DS4_QUANT_Q8_0)
            scale = fabsf(top) / 127.0f, inv = 1.0f / scale;
        else if (top != 0.0f) inv = -127.0f / top, scale = 1.0f / inv;
        for (uint32_t i = b; i < b + block; i++) {
            float code = ds4_round_even(x[i] * inv);
            code = code > 127.0f ? 127.0f : code < -128.0f ? -128.0f : code;
            y[i] = ds4_fz(scale * code);
        }
    }
}

bool ds4_act_is_rounded(const ds4_ref_call *c) {
    return (c->variants & DS4_VARIANT_BIT(ACT_Q8)) && ds4_quant_by_id(c->wtype)->n_elem > 1;
}

uint32_t ds4_select_key(float x) {
    if (x != x) return 0;
    uint32_t u = ds4_f32_bits(x + 0.0f); /* -0 becomes +0 */
    return u >> 31 ? ~u : u | 0x80000000u;
}
