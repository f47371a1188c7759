#include "engine/format/quant.h"

/* I32: 4 bytes, one element, two's complement. One conversion, round to nearest even: exact
 * below 2^24. Tables of ids are read as integers and never pass through here. */
void ds4_i32_decode(float *dst, const void *src, uint64_t n_block) {
    const uint8_t *p = src;
    for (uint64_t i = 0; i < n_block; i++, p += 4) dst[i] = (float)(int32_t)ds4_le32(p);
}
