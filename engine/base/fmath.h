#ifndef DS4_BASE_FMATH_H
#define DS4_BASE_FMATH_H
/* Elementary functions of the bit contract, in integer arithmetic alone: the same bits on every
 * machine and in every floating-point mode, repeated step by step by kernels/glsl/exact.glsl.
 * No libm.
 *
 * Error: at most DS4_FMATH_ULP units in the last place of the exact result, over every f32
 * input (every upper word of a turn, with several lower ones); `make check-math` shows it.
 * Ties:  none occur: a result is either exact in f32 or no multiple of half an ulp.
 * Flush: results below 2^-51 in magnitude are +0 (ds4_fz); no function returns -0 or a
 * subnormal. Input: a subnormal counts as 0; NaN gives the NaN 7fc00000; infinities as stated.
 */
#include <stdint.h>

#define DS4_FMATH_ULP 0.508

/* e^x; +inf above 88.7228, 0 below -35.35. */
float ds4_exp(float x);
/* 2^x; +inf from 128, 0 below -51. */
float ds4_exp2(float x);
/* log(1 + x), x at most 1; NaN above 1, and from -2^-51 down. */
float ds4_log1p(float x);
/* The logistic 1 / (1 + e^-x): 0 at -inf, 1 at inf. */
float ds4_sigmoid(float x);
/* -1 and 1 at the infinities. */
float ds4_tanh(float x);
/* sqrt(log(1 + e^x)): 0 at -inf, inf at inf. */
float ds4_sqrt_softplus(float x);
/* 1 / sqrt(x): +inf for zeros of both signs, 0 at inf, NaN below zero. */
float ds4_rsqrt(float x);
/* cos and sin of 2 pi turn / 2^64. All 64 bits count: the error is relative to the result
 * beside the zeros too. */
void ds4_cos_sin_turn(float *c, float *s, uint64_t turn);

/* Host-side constants only, relative error 1.5e-16 and 3.1e-16. x > 0 for log. */
double ds4_exp_f64(double x);
double ds4_log_f64(double x);

#endif
