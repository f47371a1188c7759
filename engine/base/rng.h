#ifndef DS4_BASE_RNG_H
#define DS4_BASE_RNG_H
/* The one seeded generator, counter-based: value i of a stream is a function of the stream's
 * key and i alone, so any part of anything made from it can be produced by itself, in any
 * order, by any thread, with the same bits. Integers only; not for secrets.
 *
 * Source: the finaliser of splitmix64 (Steele, Lea, Flood 2014) over key + i * golden ratio. */
#include <stdint.h>

static inline uint64_t ds4_rng_mix(uint64_t x) {
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

/* The key of one stream: of row `row` of the thing called `name` under `seed`. */
uint64_t ds4_rng_key(uint64_t seed, const char *name, uint64_t row);

/* 64 uniform bits. */
static inline uint64_t ds4_rng_u64(uint64_t key, uint64_t i) {
    return ds4_rng_mix(key + (i + 1) * 0x9e3779b97f4a7c15u);
}

/* Uniform in [0, n), n > 0; the bias is below n / 2^32. */
static inline uint32_t ds4_rng_below(uint64_t key, uint64_t i, uint32_t n) {
    return (uint32_t)((ds4_rng_u64(key, i) >> 32) * n >> 32);
}

/* Bell-shaped integer: the sum of eight uniform bytes less its mean, hence -1020 to 1020, mean
 * 0, variance 8 (256^2 - 1) / 12 = 43690 exactly, and an excess kurtosis of -0.15. The extremes
 * lie 4.88 standard deviations out. */
#define DS4_RNG_BELL_VARIANCE 43690.0f
static inline int32_t ds4_rng_bell(uint64_t key, uint64_t i) {
    uint64_t w = ds4_rng_u64(key, i), even = 0x00ff00ff00ff00ffu;
    uint64_t pair = (w & even) + (w >> 8 & even);
    return (int32_t)(pair * 0x0001000100010001u >> 48) - 1020;
}

#endif
