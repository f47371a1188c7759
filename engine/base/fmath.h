#ifndef DS4_BASE_FMATH_H
#define DS4_BASE_FMATH_H
/* Elementary functions of the bit contract, built from correctly rounded add, subtract,
 * multiply, divide, square root and integer steps: the same bits on every machine, and repeated
 * step by step by kernels/glsl/exact.glsl. No libm. Inputs are finite unless stated; NaN in
 * gives NaN out. Errors are measured by tests/test_fmath.c against the C library in double. */
#include <stdint.h>

/* e^x. Below -35.35 the result is flushed to 0 (ds4_fz), above 88.7228 it is +inf. */
float ds4_exp(float x);
/* log(1 + u), 0 <= u <= 1. */
float ds4_log1p(float u);
/* The two logistic forms of model.md 3.0: plain 1/(1+e^-z), and the sign-split form. */
float ds4_sigmoid_plain(float z);
float ds4_sigmoid(float z);
/* (1 - e)/(1 + e), e = exp(-2|x|), with the sign of x. Absolute error below 1.2e-7. */
float ds4_tanh(float x);
/* log(1 + e^z) = max(z, 0) + log1p(exp(-|z|)); sqrt of it below -20 is exp(z/2). */
float ds4_sqrt_softplus(float z);
/* 1/sqrt(x) by integer seed and three Newton steps, at most 2 ulp; x > 0 and normal. */
float ds4_rsqrt(float x);
/* cos and sin of 2*pi*turn/2^64: exact range reduction in integers. */
void ds4_cos_sin_turn(float *c, float *s, uint64_t turn);

/* Host-side constants only, relative error below 4e-16. x > 0 for log. */
double ds4_exp_f64(double x);
double ds4_log_f64(double x);
/* 2^t in f32 steps, |t| <= 126. */
float ds4_exp2(float t);

#endif
