/* The rows `f64`: every op in float64, nothing flushed. Sums run in 16 lanes and a tree, as in
 * the bit contract, so that their own error stays near 1e-16 and bits do not depend on the
 * machine. */
#include <math.h>

#include "engine/base/fmath64.h"
#include "engine/ops/ops.h"

typedef int arith;
#define NUM double
#define ROW(op) f64_##op
#define begin(c, e) ((void)(e), 0)

static inline double add(int *k, double a, double b) { return (void)k, a + b; }
static inline double sub(int *k, double a, double b) { return (void)k, a - b; }
static inline double mul(int *k, double a, double b) { return (void)k, a * b; }
static inline double quo(int *k, double a, double b) { return (void)k, a / b; }
static inline double root(int *k, double x) { return (void)k, sqrt(x); }
static inline double rsqrt_(int *k, double x) { return (void)k, 1.0 / sqrt(x); }
static inline double exp_(int *k, double x) { return (void)k, ds4_f64_exp(x); }
static inline double tanh_(int *k, double x) { return (void)k, ds4_f64_tanh(x); }
static inline double sigmoid_(int *k, double z) { return (void)k, ds4_f64_sigmoid(z); }
static inline double sqrt_softplus_(int *k, double z) {
    return (void)k, ds4_f64_sqrt_softplus(z);
}
static inline void cos_sin(int *k, double *c, double *s, uint64_t turn) {
    (void)k, ds4_f64_cos_sin_turn(c, s, turn);
}
static inline double half(int *k, double x) { return (void)k, ds4_f64_f16(x); }
static inline double keep(double x) { return x; }

/* The args hold the f32 nearest to 1 / sqrt(d): that number is meant, not its rounding. */
static inline double attention_scale(const struct ds4_args_attention *a) {
    bool is_root = a->scale == 1.0f / sqrtf((float)a->d_head);
    return is_root ? 1.0 / sqrt((double)a->d_head) : (double)a->scale;
}

typedef struct perm {
    char none;
} perm;
static inline perm perm_of(int *k, uint32_t n) { return (void)k, (void)n, (perm){0}; }
static inline uint32_t perm_at(const perm *p, uint32_t i) { return (void)p, i; }

static inline double dot(int *k, const double *a, const double *b, uint32_t n) {
    double v[16] = {0.0};
    uint32_t i = 0;
    (void)k;
    for (; i + 16 <= n; i += 16)
        for (uint32_t j = 0; j < 16; j++) v[j] = v[j] + a[i + j] * b[i + j];
    for (uint32_t j = 0; i + j < n; j++) v[j] = v[j] + a[i + j] * b[i + j];
    for (int m = 8; m; m /= 2)
        for (int j = 0; j < m; j++) v[j] = v[j] + v[j + m];
    return v[0];
}

#include "engine/ref/formula.h"

const ds4_ref_row ds4_f64_rows[] = {
#define F64(op, bound_, cause_)                                                                \
    {DS4_OP_##op,                                                                              \
     f64_##op,                                                                                 \
     {.name = "f64",                                                                           \
      .cause = cause_,                                                                         \
      .bound = bound_,                                                                         \
      .variants = DS4_VARIANT_BIT(ROPE_EXP2_LOG2) | DS4_VARIANT_BIT(KV_RAW_F32) |              \
                  DS4_VARIANT_BIT(STORE_EXACT)}},
#include "engine/ref/f64.def"
#undef F64
    {0}};
