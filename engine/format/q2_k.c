#include "engine/base/float.h"
#include "engine/format/quant.h"

enum { ELEMS = 256, BYTES = 84, CODES = 16, SCALE = 80, SCALE_MIN = 82 };

/* Q2_K: 84 bytes, 256 elements: 16 bytes of 4-bit scale (low) and minimum (high) of 16 elements
 * each, 64 bytes of 2-bit codes, half scale, half scale of the minima.
 *
 * Order:  a = scale * (float)(sc & 15)        11 + 4 bits, exact
 *         m = scale_min * (float)(sc >> 4)    11 + 4 bits, exact
 *         t = a * (float)code                 15 + 2 bits, exact
 *         y = t - m                           the only step that rounds; never fused.
 * Source: model.md 1.7.3. */
void ds4_q2_k_decode(float *dst, const void *src, uint64_t n_block) {
    const uint8_t *p = src;
    for (uint64_t b = 0; b < n_block; b++, p += BYTES, dst += ELEMS) {
        float scale = ds4_f16_to_f32(ds4_le16(p + SCALE));
        float scale_min = ds4_f16_to_f32(ds4_le16(p + SCALE_MIN));
        for (uint32_t e = 0; e < ELEMS; e++) {
            uint32_t sc = p[e / 16];
            uint32_t code = p[CODES + 32 * (e / 128) + e % 32] >> 2 * (e % 128 / 32) & 3u;
            float a = scale * (float)(sc & 15u);
            float m = scale_min * (float)(sc >> 4);
            float t = a * (float)code;
            dst[e] = t - m;
        }
    }
}
