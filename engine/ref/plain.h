#ifndef DS4_REF_PLAIN_H
#define DS4_REF_PLAIN_H
/* The steps and functions of the bit contract as an arithmetic of formula.h, all but its sums.
 * The including file has defined `arith`, which no step here looks at. */
#include "engine/base/float.h"
#include "engine/base/fmath.h"
#include "engine/ref/noise.h"

#include <math.h>

static inline float add(arith *k, float a, float b) { return (void)k, a + b; }
static inline float sub(arith *k, float a, float b) { return (void)k, a - b; }
static inline float mul(arith *k, float a, float b) { return (void)k, a * b; }
static inline float quo(arith *k, float a, float b) { return (void)k, a / b; }
static inline float root(arith *k, float x) { return (void)k, sqrtf(x); }
static inline float exp_(arith *k, float x) { return (void)k, ds4_exp(x); }
static inline float tanh_(arith *k, float x) { return (void)k, ds4_tanh(x); }
static inline float sigmoid_(arith *k, float z) { return (void)k, ds4_sigmoid(z); }
static inline float rsqrt_(arith *k, float x) { return (void)k, ds4_rsqrt(x); }
static inline float sqrt_softplus_(arith *k, float z) { return (void)k, ds4_sqrt_softplus(z); }
static inline void cos_sin(arith *k, float *c, float *s, uint64_t turn) {
    (void)k, ds4_cos_sin_turn(c, s, turn);
}
static inline float half(arith *k, float x) { return (void)k, ds4_f16_round(x); }
static inline float keep(float x) { return ds4_fz(x); }
#define attention_scale(a) ((a)->scale)

#endif
