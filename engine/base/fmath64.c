#include "engine/base/fmath64.h"

#include <float.h>
#include <math.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "f64 expressions must be evaluated in f64");

/* x rounded to the nearest integer, ties to even, |x| < 2^51. */
static double rint_magic(double x) {
    volatile double t = x + 0x1.8p52; /* volatile: no compiler may fold the pair away */
    return t - 0x1.8p52;
}

/* e^r for |r| <= 0.3466: the Taylor sum up to r^13; the next term is below 5e-18. */
static double exp_poly(double r) {
    static const double c[] = {1.0 / 6227020800.0, 1.0 / 479001600.0, 1.0 / 39916800.0,
                               1.0 / 3628800.0,    1.0 / 362880.0,    1.0 / 40320.0,
                               1.0 / 5040.0,       1.0 / 720.0,       1.0 / 120.0,
                               1.0 / 24.0,         1.0 / 6.0,         0.5};
    double q = c[0];
    for (int i = 1; i < 12; i++) q = q * r + c[i];
    return 1.0 + (r + (r * r) * q);
}

double ds4_f64_exp(double x) {
    if (x != x) return x;
    if (x > 0x1.62e42fefa39efp9) return (double)INFINITY;
    if (x < -745.2) return 0.0;
    double n = rint_magic(x * 0x1.71547652b82fep0);
    double r = x - n * 0x1.62e42fefa0000p-1; /* 33-bit head of ln 2: the product is exact */
    r = r - n * 0x1.cf79abc9e3b3ap-40;
    return ldexp(exp_poly(r), (int)n);
}

/* 2 atanh(s), s = u / (2 + u) <= 1/3: odd powers up to s^33; the next term is below 2^-60. */
double ds4_f64_log1p(double u) {
    double s = u / (2.0 + u), z = s * s, p = 0.0;
    for (int i = 33; i >= 3; i -= 2) p = p * z + 1.0 / (double)i;
    double t = s + s;
    return t + (t * z) * p;
}

double ds4_f64_sigmoid(double z) {
    if (z >= 0.0) return 1.0 / (1.0 + ds4_f64_exp(-z));
    double e = ds4_f64_exp(z);
    return e / (1.0 + e);
}

double ds4_f64_tanh(double x) {
    double a = x < 0.0 ? -x : x, e = ds4_f64_exp(-(a + a)), t = (1.0 - e) / (1.0 + e);
    return x < 0.0 ? -t : t;
}

double ds4_f64_sqrt_softplus(double z) {
    if (z < -40.0) return ds4_f64_exp(0.5 * z); /* log(1 + u) is u to 2^-58 */
    double l = ds4_f64_log1p(ds4_f64_exp(z < 0.0 ? z : -z));
    return sqrt((z > 0.0 ? z : 0.0) + l);
}

void ds4_f64_cos_sin_turn(double *c, double *s, uint64_t turn) {
    static const double ps[] = {
        1.0 / 355687428096000.0, -1.0 / 1307674368000.0, 1.0 / 6227020800.0, -1.0 / 39916800.0,
        1.0 / 362880.0,          -1.0 / 5040.0,          1.0 / 120.0,        -1.0 / 6.0};
    static const double pc[] = {
        1.0 / 20922789888000.0, -1.0 / 87178291200.0, 1.0 / 479001600.0, -1.0 / 3628800.0,
        1.0 / 40320.0,          -1.0 / 720.0,         1.0 / 24.0};
    uint64_t quad = (turn + (1ull << 61)) >> 62;     /* nearest quarter turn, 4 is 0 */
    int64_t rest = (int64_t)(turn - (quad << 62));   /* -2^61 .. 2^61 - 1 */
    double x = (double)rest * 0x1.921fb54442d18p-62; /* radians, |x| <= pi/4 */
    double z = x * x, sn = ps[0], cs = pc[0];
    for (int i = 1; i < 8; i++) sn = sn * z + ps[i];
    for (int i = 1; i < 7; i++) cs = cs * z + pc[i];
    sn = x + (x * z) * sn;
    cs = (1.0 - 0.5 * z) + (z * z) * cs;
    double a = quad & 1 ? sn : cs, b = quad & 1 ? cs : sn;
    *c = quad == 1 || quad == 2 ? -a : a;
    *s = quad == 2 || quad == 3 ? -b : b;
}

double ds4_f64_grid(double x, int n_bit, int e_min) {
    int e;
    double a = fabs(x);
    frexp(a, &e); /* a = m 2^e, 1/2 <= m < 1 */
    if (e - 1 < e_min || a == 0.0) e = e_min + 1;
    double step = ldexp(1.0, e - 1 - n_bit), y = rint_magic(a / step) * step;
    return x < 0.0 ? -y : y;
}

double ds4_f64_f16(double x) {
    if (!(fabs(x) < 65520.0))
        return x == x ? (x < 0.0 ? -(double)INFINITY : (double)INFINITY) : x;
    return ds4_f64_grid(x, 10, -14);
}

uint64_t ds4_f64_select_key(double x) {
    uint64_t u;
    if (x != x) return 0;
    x = x + 0.0; /* -0 becomes +0 */
    memcpy(&u, &x, sizeof u);
    return u >> 63 ? ~u : u | 1ull << 63;
}
