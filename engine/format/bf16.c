#include "engine/base/float.h"
#include "engine/format/quant.h"

/* BF16: 2 bytes, one element. The 16 bits are the upper half of an f32; exact. */
void ds4_bf16_decode(float *dst, const void *src, uint64_t n_block) {
    const uint8_t *p = src;
    for (uint64_t i = 0; i < n_block; i++, p += 2) dst[i] = ds4_bf16_to_f32(ds4_le16(p));
}
