#ifndef DS4_VK_IMPORT_H
#define DS4_VK_IMPORT_H
/* Weights that the device reads where their file is mapped: the pages around each are imported
 * (VK_EXT_external_memory_host) and not copied. What does not fit is left to be copied, and the
 * first reason is kept. The device sees the bytes that a copy would have. */
#include "engine/vk/vk_device.h"

typedef struct ds4_vk_import {
    const uint8_t *file;           /* NULL: none */
    size_t n_file;                 /* whole pages; after its end the file reads as zeros */
    uint64_t align;                /* of a buffer in its memory, a power of two */
    bool stopped;                  /* no more is imported */
    uint64_t n_imported, n_copied; /* bytes of weights of the file */
    char why[160];                 /* of the first that was to be copied */
} ds4_vk_import;

/* A weight begins `lead` bytes into buffer, which ends with it, rounded up to 16. */
typedef struct ds4_vk_place {
    VkBuffer buffer;
    VkDeviceMemory memory;
    uint64_t lead, n_bytes; /* n_bytes: of the buffer */
    uint32_t type;          /* of the memory */
} ds4_vk_place;

/* Weights to come lie in data[n], a file mapped as a whole; it outlives the device. */
void ds4_vk_import_file(ds4_vk_import *im, ds4_vk_device *d, const void *data, size_t n);

/* Imports data[n_padded], of which n bytes are the weight. False: it has to be copied; nothing
 * is held then. Owns: the caller destroys buffer and memory, and counts d->n_memory down. */
bool ds4_vk_import_weight(ds4_vk_import *im, ds4_vk_device *d, ds4_vk_place *out,
                          const void *data, size_t n, size_t n_padded);

#endif
