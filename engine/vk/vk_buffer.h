#ifndef DS4_VK_BUFFER_H
#define DS4_VK_BUFFER_H
/* Device memory: mapped where the host shares it, else staged through a bounded buffer. */
#include "engine/vk/vk_graph.h"
#include "engine/vk/vk_import.h"

#define DS4_VK_STAGE_BYTES ((size_t)64 << 20) /* most host-visible memory held for staging */

/* What device memory is used for. */
typedef enum ds4_vk_use {
    DS4_VK_WEIGHTS, /* read only, for good */
    DS4_VK_EXPERTS, /* give way to all others (vk_experts.h) */
    DS4_VK_WORK,    /* cached rows, activations */
    DS4_VK_STAGING,
    DS4_VK_USE_COUNT
} ds4_vk_use;

struct ds4_buf {
    VkBuffer buffer; /* NULL: experts that are on the host */
    VkDeviceMemory memory;
    size_t n_bytes,
        n_padded; /* as asked; rounded up to 16, so that kernels may load whole words */
    uint8_t *map; /* NULL when staged or imported */
    size_t lead;  /* bytes of buffer before its first */
    const uint8_t *mapped; /* imported: its bytes on the host; else NULL */
    uint64_t serial;       /* last batch that uses it */
    uint64_t written;      /* when, by the clock of its memory */
    bool weight;           /* read only */
    ds4_vk_use use;
    uint64_t n_used; /* bytes taken from the budget */
    /* Experts: their bytes on the host, [n_mat] matrices; slot of each, from 1 on, or 0. */
    const uint8_t *host;
    uint32_t n_mat, *slot;
};

struct ds4_vk_slot {
    ds4_buf *owner; /* NULL: empty */
    uint32_t mat;
    uint64_t used; /* when, by the clock of the slots */
};

typedef struct ds4_vk_experts {
    ds4_buf **tensor; /* all buffers of experts */
    uint32_t n_tensor, n_slot;
    uint64_t slot_bytes; /* of the largest matrix */
    ds4_buf *slots;      /* [n_slot][slot_bytes], made when needed */
    struct ds4_vk_slot *slot;
    bool streaming; /* not all fit: none of them is held but in slots */
    bool pinned;    /* a call is using what stands in them */
    uint64_t clock, n_hit, n_miss, n_streamed; /* n_streamed: bytes */
} ds4_vk_experts;

typedef struct ds4_vk_memory {
    ds4_vk_device *d;
    ds4_vk_graph *g;
    ds4_buf stage;   /* made on first use */
    uint64_t clock;  /* counts writes */
    uint64_t budget; /* most bytes of the device's heap to use */
    uint64_t used[DS4_VK_USE_COUNT];
    ds4_vk_experts experts;
    ds4_vk_import import;
} ds4_vk_memory;

void ds4_vk_memory_init(ds4_vk_memory *m, ds4_vk_device *d, ds4_vk_graph *g);
void ds4_vk_memory_fini(ds4_vk_memory *m);
uint64_t ds4_vk_memory_used(const ds4_vk_memory *m);
/* Counts a buffer under another use. */
void ds4_vk_memory_move(ds4_vk_memory *m, ds4_buf *b, ds4_vk_use use);
/* DS4_ERR_ENVIRONMENT, naming all parts, when what is used and what is needed besides cannot
 * fit. */
ds4_status ds4_vk_memory_check(const ds4_vk_memory *m, const ds4_need *need, ds4_err *err);

/* Zero-filled when data is NULL, else data[n], read only: imported where it lies in a file that
 * was named to m->import and that can be, else a copy. `name` is used in
 * messages. Owns: the caller frees *out. */
ds4_status ds4_vk_buffer_new(ds4_vk_memory *m, ds4_buf **out, const void *data, size_t n,
                             const char *name, ds4_err *err);
/* Makes the staging, where there is any, hold n bytes without asking for memory later. */
ds4_status ds4_vk_memory_stage(ds4_vk_memory *m, size_t n, ds4_err *err);
/* Gives the device memory of experts back; they are on the host alone from then on. */
void ds4_vk_buffer_leave(ds4_vk_memory *m, ds4_buf *b);
/* Waits for the batches that use it; what a hung device may use stays. */
void ds4_vk_buffer_free(ds4_vk_memory *m, ds4_buf *b);

/* Both wait for everything recorded. Errors: DS4_ERR_INTERNAL when off + n passes the end, or
 * for a write to weights. */
ds4_status ds4_vk_buffer_write(ds4_vk_memory *m, ds4_buf *b, size_t off, const void *src,
                               size_t n, ds4_err *err);
ds4_status ds4_vk_buffer_read(ds4_vk_memory *m, ds4_buf *b, size_t off, void *dst, size_t n,
                              ds4_err *err);

#endif
