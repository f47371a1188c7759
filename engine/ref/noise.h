#ifndef DS4_REF_NOISE_H
#define DS4_REF_NOISE_H
/* Random bits for the noise rows, and what they are spent on.
 *
 * Counter-based: the stream of an output element is a function of the seed, the call (tap,
 * layer), the row of the text and the column, so that a layer replays alone and no bit depends
 * on threads, chunks or on prefill against decode. */
#include <string.h>

#include "engine/base/rng.h"
#include "engine/ops/ops.h"

/* The stream of output element e of a call. */
typedef struct ds4_noise {
    uint64_t key, step;
    uint64_t spare; /* bits drawn and not yet spent */
    uint32_t n_spare;
} ds4_noise;

static inline ds4_noise ds4_noise_begin(const ds4_ref_call *c, uint64_t e) {
    uint64_t row = c->row0 + e / c->n_col, col = e % c->n_col;
    return (ds4_noise){.key = ds4_rng_mix(c->noise_key + ds4_rng_mix(row << 32 | col))};
}

static inline uint64_t ds4_noise_u64(ds4_noise *k) { return ds4_rng_u64(k->key, k->step++); }

/* 29 uniform bits: what an f64 has below the last bit of an f32. */
static inline uint64_t ds4_noise_29(ds4_noise *k) {
    if (!k->n_spare) k->spare = ds4_noise_u64(k), k->n_spare = 2;
    uint64_t v = k->spare & 0x1fffffff;
    k->spare >>= 29, k->n_spare--;
    return v;
}

/* One of the two f32 around x, its mean x: bits of an f64 of a normal f32's range are stepped
 * over by 29 random ones, then cut. Exact values stay. Zero, infinity, NaN and what lies below
 * the normal f32 are converted as usual; the bit contract flushes the latter. */
static inline float ds4_noise_round_by(uint64_t random, double x) {
    uint64_t u;
    memcpy(&u, &x, sizeof u);
    if ((u >> 52 & 0x7ff) - (1023 - 126) > 126 + 127) return (float)x;
    u = (u + (random & 0x1fffffff)) & ~0x1fffffffull;
    memcpy(&x, &u, sizeof u);
    return (float)x;
}
static inline float ds4_noise_round(ds4_noise *k, double x) {
    return ds4_noise_round_by(ds4_noise_29(k), x);
}

/* An order of n terms: i -> (first + i * stride) mod n, stride prime to n. */
typedef struct ds4_noise_perm {
    uint32_t n, first, stride;
} ds4_noise_perm;

ds4_noise_perm ds4_noise_perm_of(ds4_noise *k, uint32_t n);
static inline uint32_t ds4_noise_perm_at(const ds4_noise_perm *p, uint32_t i) {
    return (uint32_t)((p->first + (uint64_t)i * p->stride) % p->n);
}

/* sum of a[i] * b[i]: 1 to 64 lanes take the terms in such an order, round robin, in f32
 * without fma; then random pairs of lanes are added until one is left. */
float ds4_noise_dot(ds4_noise *k, const float *a, const float *b, uint32_t n);

#endif
