#include "engine/ref/rows.h"

#include <string.h>

#include "engine/variants.h"

#define STRICT_VARIANTS                                                                        \
    (DS4_VARIANT_BIT(HC_STABLE) | DS4_VARIANT_BIT(NORM_RSQRT_DISABLE) |                        \
     DS4_VARIANT_BIT(ROPE_EXP2_LOG2) | DS4_VARIANT_BIT(KV_RAW_F32) |                           \
     DS4_VARIANT_BIT(STORE_EXACT) | DS4_VARIANT_BIT(ACT_Q8))

static const ds4_ref_row strict[] = {
#define OP(stem, n_in, scratch, equation)                                                      \
    {DS4_OP_##stem,                                                                            \
     NULL,                                                                                     \
     {.name = "strict", .cause = "NONE", .bound = "exact", .variants = STRICT_VARIANTS}},
#include "engine/ops/ops.def"
#undef OP
    {0}};

/* The arithmetic of f16-staged matmul rows in the canonical order: both operands rounded to
 * f16, f32 products and sums. */
#define HALF                                                                                   \
    {                                                                                          \
        .name = "f16", .cause = "NARROW", .bound = "NRMSE(1e-3)",                              \
        .variants = DS4_VARIANT_BIT(TENSOR_MATMUL_DISABLE), .tensor = true                     \
    }
static const ds4_ref_row half[] = {
    {DS4_OP_matmul, NULL, HALF}, {DS4_OP_matmul_id, NULL, HALF}, {0}};

static const ds4_ref_row *const tables[] = {strict, half, ds4_compat_rows, ds4_order_rows,
                                            ds4_sround_rows};
enum { N_TABLE = sizeof tables / sizeof *tables };

uint32_t ds4_ref_n_row(ds4_op op) {
    uint32_t n = 0;
    for (int t = 0; t < N_TABLE; t++)
        for (const ds4_ref_row *r = tables[t]; r->info.name; r++) n += r->op == op;
    return n;
}

const ds4_ref_row *ds4_ref_row_at(ds4_op op, uint32_t i) {
    for (int t = 0; t < N_TABLE; t++)
        for (const ds4_ref_row *r = tables[t]; r->info.name; r++)
            if (r->op == op && !i--) return r;
    return NULL;
}

const ds4_ref_row *ds4_ref_row_find(ds4_op op, const char *name) {
    for (uint32_t i = 0; i < ds4_ref_n_row(op); i++) {
        const ds4_ref_row *r = ds4_ref_row_at(op, i);
        if (!strcmp(r->info.name, name)) return r;
    }
    return NULL;
}
