/* The SIMD path avx512: sixteen floats. Compiled with -mavx512f -mavx512bw -mf16c
 * (Makefile). */
#if defined(__x86_64__)
#include <cpuid.h>
#include <immintrin.h>
#include <stdbool.h>
#include <stdint.h>

#define W 16
#define V __m512
#define VI __m512i
#define PATH ds4_simd_avx512
#define PATH_NAME "avx512"

static inline __m512 v_set1(float x) { return _mm512_set1_ps(x); }
static inline __m512 v_ld(const float *p) { return _mm512_load_ps(p); }
static inline void v_st(float *p, __m512 v) { _mm512_store_ps(p, v); }
static inline __m512i v_i8(const uint8_t *p) {
    return _mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline __m512i v_u8(const uint8_t *p) {
    return _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p));
}
static inline __m512i v_and(__m512i v, int mask) {
    return _mm512_and_si512(v, _mm512_set1_epi32(mask));
}
static inline __m512i v_shr(__m512i v, uint32_t n) { return _mm512_srli_epi32(v, n); }
static inline __m512 v_float(__m512i v) { return _mm512_cvtepi32_ps(v); }
static inline __m512 v_f16(const uint8_t *p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *)p));
}
static inline float f_half(const uint8_t *p) { return _cvtsh_ss((uint16_t)(p[0] | p[1] << 8)); }
/* Asked of the CPU itself: clang 14 knows no __builtin_cpu_supports("f16c"). */
static bool has_f16c(void) {
    unsigned a, b, c, d;
    return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}
static bool path_runs(void) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           has_f16c();
}

#include "engine/ref/simd_kernel.h"
#else
typedef int ds4_no_avx512; /* a translation unit holds something */
#endif
