#include "engine/base/rng.h"

uint64_t ds4_rng_key(uint64_t seed, const char *name, uint64_t row) {
    uint64_t h = ds4_rng_mix(seed + 0x9e3779b97f4a7c15u);
    for (; *name; name++) h = ds4_rng_mix(h * 257 + (unsigned char)*name);
    return ds4_rng_mix(h + ds4_rng_mix(row + 1));
}
