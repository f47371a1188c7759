/* The SIMD path avx512: sixteen floats. Compiled with -mavx512f -mavx512bw (Makefile). */
#if defined(__x86_64__)
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define W 16
#define V __m512
#define TILE_R 4
#define TILE_T 6
#define TILE_R1 8
#define PATH ds4_simd_avx512
#define PATH_NAME "avx512"

static inline __m512 v_set1(float x) { return _mm512_set1_ps(x); }
static inline __m512 v_ld(const float *p) { return _mm512_load_ps(p); }
static inline void v_st(float *p, __m512 v) { _mm512_store_ps(p, v); }
static inline __m512 v_i8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline __m512 v_u8(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
static inline __m512 v_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static bool path_runs(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

#include "engine/ref/simd_kernel.h"
#else
typedef int ds4_no_avx512; /* a translation unit holds something */
#endif
