/* The rows `order`: f32 steps and functions of the bit contract, sums in a seeded random order.
 */
#include "engine/ref/noise.h"

typedef ds4_noise arith;
typedef ds4_noise_perm perm;
#define NUM float
#define ROW(op) order_##op
#define begin ds4_noise_begin
#define perm_of ds4_noise_perm_of
#define perm_at ds4_noise_perm_at
#define dot ds4_noise_dot

#include "engine/ref/plain.h"

#include "engine/ref/formula.h"

static uint32_t gcd(uint32_t a, uint32_t b) {
    while (b) {
        uint32_t rest = a % b;
        a = b, b = rest;
    }
    return a;
}

ds4_noise_perm ds4_noise_perm_of(ds4_noise *k, uint32_t n) {
    if (n < 2) return (ds4_noise_perm){n ? n : 1, 0, 1};
    uint64_t bits = ds4_noise_u64(k);
    ds4_noise_perm p = {n, (uint32_t)(bits % n), 1 + (uint32_t)((bits >> 32) % (n - 1))};
    while (gcd(p.stride, n) != 1) p.stride = p.stride % (n - 1) + 1; /* 1 is prime to all */
    return p;
}

enum { MAX_LANE = 64 };

float ds4_noise_dot(ds4_noise *k, const float *a, const float *b, uint32_t n) {
    float lane[MAX_LANE] = {0.0f};
    ds4_noise_perm p = ds4_noise_perm_of(k, n);
    uint64_t bits = ds4_noise_u64(k);
    uint32_t most = n < MAX_LANE ? n : MAX_LANE,
             n_lane = most ? 1 + (uint32_t)(bits % most) : 1;

    for (uint32_t i = 0, at = p.first, l = 0; i < n; i++) {
        lane[l] = lane[l] + a[at] * b[at];
        at += p.stride;
        if (at >= n) at -= n;
        if (++l == n_lane) l = 0;
    }
    for (; n_lane > 1; n_lane--) {
        uint64_t pick = ds4_noise_u64(k);
        uint32_t to = (uint32_t)(pick % n_lane), from = (uint32_t)((pick >> 32) % (n_lane - 1));
        if (from >= to) from++;
        float sum = lane[to] + lane[from];
        lane[to] =
            lane[n_lane - 1]; /* the last lane fills the gap, the sum goes where that was */
        lane[from] = sum;
        if (from == n_lane - 1) lane[to] = sum;
    }
    return lane[0];
}

const ds4_ref_row ds4_order_rows[] = {
#define ORDER(op, bound_, cause_)                                                              \
    {DS4_OP_##op,                                                                              \
     order_##op,                                                                               \
     {.name = "order",                                                                         \
      .cause = cause_,                                                                         \
      .bound = bound_,                                                                         \
      .variants = DS4_VARIANT_BIT(HC_STABLE) | DS4_VARIANT_BIT(NORM_RSQRT_DISABLE) |           \
                  DS4_VARIANT_BIT(STORE_EXACT),                                                \
      .seeded = true}},
#define SROUND(op, bound, cause)
#include "engine/ref/noise.def"
#undef ORDER
#undef SROUND
    {0}};
