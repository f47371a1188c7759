/* The SIMD path neon: four floats; every 64-bit ARM has it. */
#if defined(__aarch64__)
#include <arm_neon.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define W 4
#define V float32x4_t
#define VI int32x4_t
#define PATH ds4_simd_neon
#define PATH_NAME "neon"

static inline float32x4_t v_set1(float x) { return vdupq_n_f32(x); }
static inline float32x4_t v_ld(const float *p) { return vld1q_f32(p); }
static inline void v_st(float *p, float32x4_t v) { vst1q_f32(p, v); }
static inline uint8x8_t four_bytes(const uint8_t *p) {
    uint32_t u;
    memcpy(&u, p, 4);
    return vreinterpret_u8_u32(vdup_n_u32(u));
}
static inline int32x4_t v_i8(const uint8_t *p) {
    return vmovl_s16(vget_low_s16(vmovl_s8(vreinterpret_s8_u8(four_bytes(p)))));
}
static inline int32x4_t v_u8(const uint8_t *p) {
    return vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(four_bytes(p)))));
}
static inline int32x4_t v_and(int32x4_t v, int mask) { return vandq_s32(v, vdupq_n_s32(mask)); }
static inline int32x4_t v_shr(int32x4_t v, uint32_t n) {
    return vshlq_s32(v, vdupq_n_s32(-(int)n)); /* the values are not negative */
}
static inline float32x4_t v_float(int32x4_t v) { return vcvtq_f32_s32(v); }
static inline float32x4_t v_f16(const uint8_t *p) {
    uint16_t h[4];
    memcpy(h, p, sizeof h);
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(h)));
}
static inline float f_half(const uint8_t *p) {
    float16_t h;
    memcpy(&h, p, sizeof h);
    return (float)h;
}
static bool path_runs(void) { return true; }

#include "engine/ref/simd_kernel.h"
#else
typedef int ds4_no_neon; /* a translation unit holds something */
#endif
