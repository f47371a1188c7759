#ifndef DS4_BASE_FMATH64_H
#define DS4_BASE_FMATH64_H
/* Elementary functions in float64 for the oracle engine and for stochastic rounding, from add,
 * multiply, divide, square root and integer steps: the same bits on every machine. No libm but
 * ldexp, sqrt and floor, which have one right answer. NaN in gives NaN out. Errors are the
 * worst that tests/test_fmath64.c measures against the C library in long double (ulp of the
 * exact result), over 400,000 inputs each. */
#include <stdint.h>

/* e^x, 1.0 ulp; 0 below -745.14 (gradual underflow above), +inf above 709.79. */
double ds4_f64_exp(double x);
/* log(1 + u), 0 <= u <= 1; 2.0 ulp. */
double ds4_f64_log1p(double u);
/* 1/(1 + e^-z), 2.3 ulp. */
double ds4_f64_sigmoid(double z);
/* (1 - e)/(1 + e), e = exp(-2|x|), with the sign of x. Absolute error 1.7e-16. */
double ds4_f64_tanh(double x);
/* sqrt(log(1 + e^z)); 1.8 ulp. */
double ds4_f64_sqrt_softplus(double z);
/* cos and sin of 2*pi*turn/2^64, the turn reduced exactly in integers. Absolute error 2.2e-16.
 */
void ds4_f64_cos_sin_turn(double *c, double *s, uint64_t turn);

/* The nearest value, ties to even, of the binary format with n_bit bits behind the leading one
 * and least normal exponent e_min (below it the step stays 2^(e_min - n_bit)); no largest
 * value. Exact in x: one rounding. f16 is (10, -14), E4M3 (3, -6), E2M1 (1, 0). x is finite. */
double ds4_f64_grid(double x, int n_bit, int e_min);
/* x as an f16 stores it: magnitudes of 65520 and more become infinite. */
double ds4_f64_f16(double x);

/* Monotone key for selections, as ds4_select_key: NaN lowest, -0 equal to +0. */
uint64_t ds4_f64_select_key(double x);

#endif
