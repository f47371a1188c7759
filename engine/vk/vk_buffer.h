#ifndef DS4_VK_BUFFER_H
#define DS4_VK_BUFFER_H
/* Device memory: mapped where the host shares it, else staged through a bounded buffer. */
#include "engine/vk/vk_graph.h"

#define DS4_VK_STAGE_BYTES ((size_t)64 << 20) /* most host-visible memory held for staging */

struct ds4_buf {
    VkBuffer buffer;
    VkDeviceMemory memory;
    size_t n_bytes,
        n_padded;    /* as asked; rounded up to 16, so that kernels may load whole words */
    uint8_t *map;    /* NULL when staged */
    uint64_t serial; /* last batch that uses it */
    bool weight;     /* read only */
};

typedef struct ds4_vk_memory {
    ds4_vk_device *d;
    ds4_vk_graph *g;
    ds4_buf stage; /* made on first use */
} ds4_vk_memory;

void ds4_vk_memory_init(ds4_vk_memory *m, ds4_vk_device *d, ds4_vk_graph *g);
void ds4_vk_memory_fini(ds4_vk_memory *m);

/* Zero-filled when data is NULL, else a copy of data[n], then read only. `name` is used in
 * messages. Owns: the caller frees *out. */
ds4_status ds4_vk_buffer_new(ds4_vk_memory *m, ds4_buf **out, const void *data, size_t n,
                             const char *name, ds4_err *err);
/* Waits for the batches that use it. */
void ds4_vk_buffer_free(ds4_vk_memory *m, ds4_buf *b);

/* Both wait for everything recorded. Errors: DS4_ERR_INTERNAL when off + n passes the end, or
 * for a write to weights. */
ds4_status ds4_vk_buffer_write(ds4_vk_memory *m, ds4_buf *b, size_t off, const void *src,
                               size_t n, ds4_err *err);
ds4_status ds4_vk_buffer_read(ds4_vk_memory *m, ds4_buf *b, size_t off, void *dst, size_t n,
                              ds4_err *err);

#endif
