#ifndef DS4_REF_COMPAT_H
#define DS4_REF_COMPAT_H
/* The rows `compat` of the reference engine: the arithmetic of model.md, sections 0.1, 1.7.6,
 * 1.7.7 and 3, step by step, which an existing CPU engine follows too.
 *
 * It differs from the bit contract (engine/CONTRACT.md) in this: sums run in increasing index
 * in one f32 (f64 for squares); activations are rounded to int8 against block formats; the
 * rotation angle is a running product; elementary functions are those of the C library, so
 * bits depend on it; nothing is flushed. Bindings, args, grids and independence of units are
 * those of the ops, but a vector of weights (norm, scale, base, sinks, bias) of n elements is
 * read behind its n flushed ones, where the engine keeps them as stored. Operands of any other
 * kind are as in engine/ops/<op>.c. */
#include "engine/ref/rows.h"

#define COMPAT(op, bound, cause) void ds4_compat_##op(const ds4_ref_call *c, ds4_box box);
#include "engine/ref/compat.def"
#undef COMPAT

#define DS4_A8_BLOCK 32
#define DS4_Q8K_BLOCK 256

/* One block of activations as int8 (model.md 1.7.6): codes out, the f32 scale returned.
 * q8k also gives the sums of 16 codes each. */
float ds4_compat_a8(int8_t q[DS4_A8_BLOCK], const float *x);
float ds4_compat_q8k(int8_t q[DS4_Q8K_BLOCK], int16_t sum[DS4_Q8K_BLOCK / 16], const float *x);

/* FP8 on one block of 64 (model.md 3.0), before any rounding to f16. */
void ds4_compat_fp8(float y[64], const float x[64]);

/* The logistic with two branches, and sigma's argument times sigma (model.md 3.0). */
float ds4_compat_sigmoid(float z);

#endif
