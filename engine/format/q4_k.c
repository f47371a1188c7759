#include "engine/base/float.h"
#include "engine/format/quant.h"

enum { ELEMS = 256, BYTES = 144, SCALE = 0, SCALE_MIN = 2, PACKED = 4, CODES = 16 };

/* The 6-bit scale and minimum of sub-block j (0..7) out of the 12 packed bytes. The first four
 * lie in the low six bits; of the last four, the low nibbles share bytes 8..11 and the upper
 * two bits fill what the first four left free. */
static void unpack(const uint8_t *p, uint32_t j, uint32_t *sc, uint32_t *mn) {
    if (j < 4) {
        *sc = p[j] & 63u;
        *mn = p[j + 4] & 63u;
    } else {
        *sc = (p[j + 4] & 15u) | (uint32_t)(p[j - 4] >> 6) << 4;
        *mn = (uint32_t)(p[j + 4] >> 4) | (uint32_t)(p[j] >> 6) << 4;
    }
}

/* Q4_K: 144 bytes, 256 elements: half scale, half scale of the minima, 12 bytes of eight 6-bit
 * scales and minima of 32 elements each, 128 bytes of 4-bit codes.
 *
 * Order:  a = scale * (float)sc        11 + 6 bits, exact
 *         m = scale_min * (float)mn    11 + 6 bits, exact
 *         t = a * (float)code          17 + 4 bits, exact
 *         y = t - m                    the only step that rounds; never fused.
 * Source: model.md 1.7.4. */
void ds4_q4_k_decode(float *dst, const void *src, uint64_t n_block) {
    const uint8_t *p = src;
    for (uint64_t b = 0; b < n_block; b++, p += BYTES, dst += ELEMS) {
        float scale = ds4_f16_to_f32(ds4_le16(p + SCALE));
        float scale_min = ds4_f16_to_f32(ds4_le16(p + SCALE_MIN));
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t sc, mn;
            unpack(p + PACKED, j, &sc, &mn);
            float a = scale * (float)sc;
            float m = scale_min * (float)mn;
            for (uint32_t k = 0; k < 32; k++) {
                uint32_t code = p[CODES + 32 * (j / 2) + k] >> 4 * (j % 2) & 15u;
                float t = a * (float)code;
                dst[32 * j + k] = t - m;
            }
        }
    }
}
