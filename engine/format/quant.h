#ifndef DS4_FORMAT_QUANT_H
#define DS4_FORMAT_QUANT_H
/* Block formats of tensor elements: one row each in quants.def. Decoding is exact f32: the
 * value of an element is the product or difference written in model.md 1.7, each step rounded
 * once. */
#include <stdint.h>

/* Little-endian loads from any alignment; files of any machine read the same. */
static inline uint16_t ds4_le16(const uint8_t *p) { return (uint16_t)(p[0] | p[1] << 8); }
static inline uint32_t ds4_le32(const uint8_t *p) {
    return (uint32_t)ds4_le16(p) | (uint32_t)ds4_le16(p + 2) << 16;
}
static inline uint64_t ds4_le64(const uint8_t *p) {
    return (uint64_t)ds4_le32(p) | (uint64_t)ds4_le32(p + 4) << 32;
}

typedef struct ds4_quant {
    uint32_t id; /* GGUF type id; kernels know the format by the same number */
    const char *name;
    uint32_t n_elem, n_bytes; /* of one block */
    /* Decodes n_block blocks: dst[n_block * n_elem] from src[n_block * n_bytes] (any
     * alignment). I32 decodes to (float)value, exact below 2^24. */
    void (*decode)(float *dst, const void *src, uint64_t n_block);
} ds4_quant;

enum {
#define QUANT(NAME, id, text, elems, bytes, file) DS4_QUANT_##NAME = id,
#include "engine/format/quants.def"
#undef QUANT
};

/* The row of a GGUF type id, or NULL. */
const ds4_quant *ds4_quant_by_id(uint32_t id);
const ds4_quant *ds4_quant_by_name(const char *name);

#define QUANT(NAME, id, text, elems, bytes, file)                                              \
    void ds4_##file##_decode(float *dst, const void *src, uint64_t n_block);
#include "engine/format/quants.def"
#undef QUANT

/* The 256 x 8 magnitudes of IQ2_XXS as little-endian u64 (model.md 1.7.5). */
extern const uint64_t ds4_iq2xxs_grid[256];

#endif
