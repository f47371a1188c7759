#include "engine/base/float.h"
#include "engine/format/quant.h"

enum { ELEMS = 32, BYTES = 34, CODES = 2 };

/* Q8_0: 34 bytes, 32 elements: half scale, then 32 int8 codes.
 *
 * Order:  y = scale * (float)code, one product; 11 + 7 bits, hence exact.
 * Source: model.md 1.7.2. */
void ds4_q8_0_decode(float *dst, const void *src, uint64_t n_block) {
    const uint8_t *p = src;
    for (uint64_t b = 0; b < n_block; b++, p += BYTES, dst += ELEMS) {
        float scale = ds4_f16_to_f32(ds4_le16(p));
        for (uint32_t e = 0; e < ELEMS; e++) dst[e] = scale * (float)(int8_t)p[CODES + e];
    }
}
