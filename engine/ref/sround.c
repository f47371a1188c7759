/* The rows `sround`: every f32 step rounded at random between its two neighbours, the exact
 * value being the mean; sums in the canonical order.
 *
 * A step is computed in f64 (sums and products of two f32 exactly or to 2^-29 of an f32's last
 * bit, functions by fmath64.h) and rounded once, so a function counts as one step. An f16 store
 * is rounded so too. The codes of FP8 and FP4 blocks stay nearest: they are the model's own
 * quantization, a thousand times coarser than what an engine's rounding can do. */
#include <math.h>

#include "engine/base/float.h"
#include "engine/base/fmath64.h"
#include "engine/ref/noise.h"

typedef ds4_noise arith;
#define NUM float
#define ROW(op) sround_##op
#define begin ds4_noise_begin

#define STEP(name, value)                                                                      \
    static inline float name(ds4_noise *k, float x) { return ds4_noise_round(k, value); }
#define STEP2(name, operator)                                                                  \
    static inline float name(ds4_noise *k, float a, float b) {                                 \
        return ds4_noise_round(k, (double)a operator(double) b);                               \
    }
STEP2(add, +)
STEP2(sub, -)
STEP2(mul, *)
STEP2(quo, /)
STEP(root, sqrt((double)x))
STEP(rsqrt_, 1.0 / sqrt((double)x))
STEP(exp_, ds4_f64_exp((double)x))
STEP(tanh_, ds4_f64_tanh((double)x))
STEP(sigmoid_, ds4_f64_sigmoid((double)x))
STEP(sqrt_softplus_, ds4_f64_sqrt_softplus((double)x))

static inline void cos_sin(ds4_noise *k, float *c, float *s, uint64_t turn) {
    double cs, sn;
    ds4_f64_cos_sin_turn(&cs, &sn, turn);
    *c = ds4_noise_round(k, cs), *s = ds4_noise_round(k, sn);
}

/* The f16 below or above in magnitude, the odds by the distance; an exact half stays. */
static inline float half(ds4_noise *k, float x) {
    int e;
    double a = fabs((double)x);
    if (!(a < 65520.0)) return ds4_f16_round(x);
    frexp(a, &e);
    double step = ldexp(1.0, (e - 1 < -14 ? -14 : e - 1) - 10), q = a / step, low = floor(q);
    if (q > low && (double)ds4_noise_29(k) * 0x1p-29 < q - low) low = low + 1.0;
    float y = (float)(low * step);
    return x < 0.0f ? -y : y;
}

static inline float keep(float x) { return ds4_fz(x); }
#define attention_scale(a) ((a)->scale)

typedef struct perm {
    char none;
} perm;
static inline perm perm_of(ds4_noise *k, uint32_t n) { return (void)k, (void)n, (perm){0}; }
static inline uint32_t perm_at(const perm *p, uint32_t i) { return (void)p, i; }

/* ds4_dot16, step by step. */
static inline float dot(ds4_noise *k, const float *a, const float *b, uint32_t n) {
    float v[16] = {0.0f};
    for (uint32_t i = 0; i < n; i++) { /* one draw has the bits for both steps of a term */
        uint64_t random = ds4_noise_u64(k);
        float p = ds4_noise_round_by(random, (double)a[i] * (double)b[i]);
        v[i % 16] = ds4_noise_round_by(random >> 29, (double)v[i % 16] + (double)p);
    }
    for (int m = 8; m; m /= 2)
        for (int j = 0; j < m; j++) v[j] = add(k, v[j], v[j + m]);
    return v[0];
}

#include "engine/ref/formula.h"

const ds4_ref_row ds4_sround_rows[] = {
#define ORDER(op, bound, cause)
#define SROUND(op, bound_, cause_)                                                             \
    {DS4_OP_##op,                                                                              \
     sround_##op,                                                                              \
     {.name = "sround",                                                                        \
      .cause = cause_,                                                                         \
      .bound = bound_,                                                                         \
      .variants = DS4_VARIANT_BIT(HC_STABLE) | DS4_VARIANT_BIT(NORM_RSQRT_DISABLE) |           \
                  DS4_VARIANT_BIT(ROPE_EXP2_LOG2) | DS4_VARIANT_BIT(KV_RAW_F32) |              \
                  DS4_VARIANT_BIT(STORE_EXACT),                                                \
      .seeded = true}},
#include "engine/ref/noise.def"
#undef ORDER
#undef SROUND
    {0}};
