#ifndef DS4_REF_SIMD_PATHS_H
#define DS4_REF_SIMD_PATHS_H
/* What simd.c and the paths share: the paths of every architecture, and a table of signs. */
#include "engine/ref/simd.h"

extern const ds4_simd ds4_simd_avx2, ds4_simd_avx512, ds4_simd_neon;

/* Of IQ2_XXS: byte j of entry s is 255 where element j of an octet with sign index s is
 * negative, else 0. */
extern const uint64_t ds4_simd_minus[128];

#endif
