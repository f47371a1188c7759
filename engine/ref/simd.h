#ifndef DS4_REF_SIMD_H
#define DS4_REF_SIMD_H
/* SIMD paths of the reference's matrix products: the bits of ds4_dot16 over decoded rows
 * (engine/ops/ops.h), quicker. One template (simd_kernel.h) is compiled for each instruction
 * set; the path is chosen at run time.
 *
 * Why the bits are the scalar ones. The 16 lanes of the canonical sum are 16 / W vectors of W
 * floats; a lane adds its products in the same increasing order, one rounded product and one
 * rounded sum at a time (no fused multiply-add), and ds4_tree16 adds the lanes. Weights are
 * decoded to the same exact values. Rows and inputs are padded with zeros to a multiple of 16:
 * a lane starts at +0 and is never -0, so adding 0 * 0 changes nothing. */
#include "engine/ops/ops.h"

typedef struct ds4_simd {
    const char *name;   /* "avx2" */
    bool (*runs)(void); /* whether this CPU has the instructions */
    /* Rearranges one input of n elements for `rows`: dst [ds4_simd_packed(n)]. */
    void (*pack)(float *dst, const float *x, uint32_t n);
    /* y[t][r] = ds4_fz(ds4_dot16(row r, x[t])) for n_row consecutive rows of n decoded
     * elements and n_tok packed inputs; y[t] points at the output of row 0 for input t.
     * half: the decoded weights are rounded to f16. */
    void (*rows)(float *const *y, const float *const *x, uint32_t n_tok, const uint8_t *w,
                 size_t row_bytes, uint32_t wtype, bool half, uint32_t n_row, uint32_t n);
} ds4_simd;

/* Floats of a packed input of n elements. */
static inline size_t ds4_simd_packed(uint32_t n) { return ((size_t)n + 15) / 16 * 16; }

/* The paths compiled in for this architecture; "scalar" is number 0 and runs everywhere. */
uint32_t ds4_simd_n_path(void);
const char *ds4_simd_path_name(uint32_t i);
bool ds4_simd_path_runs(uint32_t i);

/* The path called `name`, or for NULL or "auto" the widest that runs here; *out is NULL for
 * scalar. DS4_ERR_USAGE: no such path in this build; DS4_ERR_ENVIRONMENT: this CPU lacks it. */
ds4_status ds4_simd_find(const ds4_simd **out, const char *name, ds4_err *err);

/* matmul and matmul_id by a path, as ds4_op_reference does them. The inputs of a call are
 * packed once, into n_packed(args) floats at a multiple of 64 bytes; then any boxes are run
 * from them. */
typedef struct ds4_simd_op {
    size_t (*n_packed)(const void *args);
    void (*pack)(const ds4_simd *s, const ds4_ref_call *c, float *packed);
    void (*run)(const ds4_simd *s, const ds4_ref_call *c, const float *packed, ds4_box box);
} ds4_simd_op;
/* NULL for every other op. */
const ds4_simd_op *ds4_simd_find_op(ds4_op op);

#endif
