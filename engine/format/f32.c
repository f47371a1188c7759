#include "engine/base/float.h"
#include "engine/format/quant.h"

/* F32: 4 bytes, one element. The stored bits, unchanged (NaN payloads included). */
void ds4_f32_decode(float *dst, const void *src, uint64_t n_block) {
    const uint8_t *p = src;
    for (uint64_t i = 0; i < n_block; i++, p += 4) dst[i] = ds4_f32_from_bits(ds4_le32(p));
}
