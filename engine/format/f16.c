#include "engine/base/float.h"
#include "engine/format/quant.h"

/* F16: 2 bytes, one element. Exact widening. */
void ds4_f16_decode(float *dst, const void *src, uint64_t n_block) {
    const uint8_t *p = src;
    for (uint64_t i = 0; i < n_block; i++, p += 2) dst[i] = ds4_f16_to_f32(ds4_le16(p));
}
