/* The SIMD path avx2: eight floats, F16C conversions. Compiled with -mavx2 -mf16c (Makefile).
 */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define W 8
#define V __m256
#define VI __m256i
#define PATH ds4_simd_avx2
#define PATH_NAME "avx2"

static inline __m256 v_set1(float x) { return _mm256_set1_ps(x); }
static inline __m256 v_ld(const float *p) { return _mm256_load_ps(p); }
static inline void v_st(float *p, __m256 v) { _mm256_store_ps(p, v); }
static inline __m256i v_i8(const uint8_t *p) {
    return _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline __m256i v_u8(const uint8_t *p) {
    return _mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p));
}
static inline __m256i v_and(__m256i v, int mask) {
    return _mm256_and_si256(v, _mm256_set1_epi32(mask));
}
static inline __m256i v_shr(__m256i v, uint32_t n) { return _mm256_srli_epi32(v, (int)n); }
static inline __m256 v_float(__m256i v) { return _mm256_cvtepi32_ps(v); }
static inline __m256 v_f16(const uint8_t *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *)p));
}
static inline float f_half(const uint8_t *p) { return _cvtsh_ss((uint16_t)(p[0] | p[1] << 8)); }
/* Asked of the CPU itself: clang 14 knows no __builtin_cpu_supports("f16c"). */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool path_runs(void) { return __builtin_cpu_supports("avx2") && has_f16c(); }

#include "engine/ref/simd_kernel.h"
#else
typedef int ds4_no_avx2; /* a translation unit holds something */
#endif
