#ifndef DS4_BASE_FMATH_H
#define DS4_BASE_FMATH_H
/* Elementary functions of the bit contract, built from correctly rounded add, subtract,
 * multiply, divide, square root and integer steps: the same bits on every machine, and repeated
 * step by step by kernels/glsl/exact.glsl. No libm. Inputs are finite unless stated; NaN in
 * gives NaN out. Errors are the worst that tests/test_fmath.c measures against the C library in
 * double over 2 to 3 million inputs per function (ulp of the exact result). */
#include <stdint.h>

/* e^x, 1.0 ulp. Below -35.35 the result is flushed to 0 (ds4_fz), above 88.7228 it is +inf. */
float ds4_exp(float x);
/* log(1 + u), 0 <= u <= 1; 1.95 ulp. */
float ds4_log1p(float u);
/* The two logistic forms of model.md 3.0: plain 1/(1+e^-z), 2.4 ulp, and the sign-split form,
 * 2.3 ulp. */
float ds4_sigmoid_plain(float z);
float ds4_sigmoid(float z);
/* (1 - e)/(1 + e), e = exp(-2|x|), with the sign of x. Absolute error 9e-8. */
float ds4_tanh(float x);
/* sqrt(log(1 + e^z)), the logarithm as max(z, 0) + log1p(exp(-|z|)); below -20 it is exp(z/2).
 * 1.7 ulp. */
float ds4_sqrt_softplus(float z);
/* 1/sqrt(x) by integer seed and three Newton steps; x > 0 and normal. 2.2 ulp, and 3.1 ulp
 * below 2^-125, where x / 2 is rounded. */
float ds4_rsqrt(float x);
/* cos and sin of 2*pi*turn/2^64: exact range reduction in integers. Absolute error 1.2e-7. */
void ds4_cos_sin_turn(float *c, float *s, uint64_t turn);

/* Host-side constants only, relative error 1.5e-16 and 3.1e-16. x > 0 for log. */
double ds4_exp_f64(double x);
double ds4_log_f64(double x);
/* 2^t in f32 steps, |t| <= 126; 1.01 ulp. */
float ds4_exp2(float t);

#endif
