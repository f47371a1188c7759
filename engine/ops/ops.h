#ifndef DS4_OPS_H
#define DS4_OPS_H
/* The scalar reference of every op (ops.def): the bit contract, one file per op.
 *
 * A reference computes the outputs of the units x0..x1-1 by y0..y1-1 of its grid, whose size
 * (nx, ny, 1) is ds4_op_grid; units are independent, so any split over threads gives the same
 * bits. Bindings stand as in backend.h: inputs, then the output.
 * Every stored f32 result has passed ds4_fz (base/float.h). Sums over an index are taken in 16
 * lanes, lane j holding the terms with i mod 16 = j in increasing i, and the lanes are added as
 * the tree 8, 4, 2, 1 (ds4_dot16), unless the file of the op states another order. */
#include <stdbool.h>

#include "engine/ops/backend.h"
#include "kernels/args.h"

typedef struct ds4_ref_call {
    const void *args;
    void *bind[DS4_MAX_BIND];
    uint32_t wtype, variants;
    bool half; /* rows with f16-staged operands: decoded weights are rounded to f16 */
    /* For rows with noise (engine/ref/noise.h): the key of this call's random bits, and which
     * rows of the text the output holds (backend.h). */
    uint64_t noise_key;
    uint32_t row0, n_col;
} ds4_ref_call;

typedef struct ds4_box {
    uint32_t x0, x1, y0, y1;
} ds4_box;

#define DS4_MAX_ROW 65536  /* longest weight row, elements; checked when a session is opened */
#define DS4_NEG (-1.0e30f) /* the finite stand-in for minus infinity (model.md 0.2) */

#define OP(stem, n_in, scratch, equation)                                                      \
    void ds4_ref_##stem(const ds4_ref_call *c, ds4_box box);                                   \
    void ds4_grid_##stem(const void *args, uint32_t grid[3]);
#include "engine/ops/ops.def"
#undef OP

/* Independent outputs of a call as x, y, z; kernels are dispatched over the same grid. */
void ds4_op_grid(ds4_op op, const void *args, uint32_t grid[3]);
/* sizeof the args struct of an op. */
size_t ds4_op_args_bytes(ds4_op op);

/* Runs one box of units of op. */
void ds4_op_reference(ds4_op op, const ds4_ref_call *c, ds4_box box);

/* Decodes n elements (a multiple of the format's block) of a weight row; F32 and BF16 pass
 * ds4_fz. half: the values are then rounded to f16. */
void ds4_row_decode(float *dst, const void *src, uint32_t wtype, uint32_t n, bool half);
/* Activations as CPU engines quantize them before a projection by weights of type wtype
 * (model.md 1.7.6), as f32: y = ds4_fz(scale * code). n is a multiple of the format's block.
 *
 * Order:  Q8_0, blocks of 32: scale = max|x| / 127, inv = 1 / scale (0 if scale is 0),
 *         code = clip(round to even(x * inv), -128, 127). Other block formats, blocks of 256:
 *         inv = -127 / t, t the first x of the largest magnitude; scale = 1 / inv; 0 if t is 0.
 *         Formats without blocks: y = x. */
void ds4_act_round(float *y, const float *x, uint32_t n, uint32_t wtype);
/* Whether DS4_ACT_Q8 is on and means something for the weights of this call. */
bool ds4_act_is_rounded(const ds4_ref_call *c);
/* Monotone key of an f32 for selections: greater value, greater key; NaN lowest; -0 equals +0.
 */
uint32_t ds4_select_key(float x);

/* sum_i a[i] * b[i] in 16 lanes and a tree; no fma. */
float ds4_dot16(const float *a, const float *b, uint32_t n);
/* The tree over 16 lanes: v[j] += v[j + 8], then + 4, + 2, + 1. */
float ds4_tree16(float v[16]);

#endif
