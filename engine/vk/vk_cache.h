#ifndef DS4_VK_CACHE_H
#define DS4_VK_CACHE_H
/* Compiled pipelines kept between processes: one file per device, driver and set of SPIR-V
 * modules.
 *
 * The name of the file is the 128-bit xxh3 of everything that a compiled pipeline depends on:
 * ids and name of the device, version and cache UUID of the driver, every module of the
 * manifest. Its first 32 bytes are magic, length and digest of what follows. A file that is
 * damaged, cut or of another build is a miss and is replaced: a driver is never handed bytes
 * that it did not write. */
#include "engine/vk/vk_device.h"

typedef struct ds4_vk_cache {
    VkDevice device;
    VkPipelineCache handle;
    char *path;         /* NULL: kept by nobody */
    uint64_t digest[2]; /* of what the file holds; zeros for a miss */
    const char
        *outcome;   /* static: "off", "cold", "cold: the file was damaged", "cold: the driver
                       keeps nothing" (the file holds the driver's header alone), "warm" */
    char text[256]; /* of ds4_vk_cache_text */
} ds4_vk_cache;

/* dir: where the file lives, made if it is missing; NULL: no file. spirv: digest of the
 * modules.
 *
 * Errors: DS4_ERR_IO when dir is no folder that can be written.
 * Owns: the caller ends c with ds4_vk_cache_fini, also after an error. */
ds4_status ds4_vk_cache_init(ds4_vk_cache *c, const ds4_vk_device *d, const char *dir,
                             const uint64_t spirv[2], ds4_err *err);
/* Writes the file as the end would, and says what came of it: the outcome and, when the file
 * could not be written, "; could not be kept: REASON". Owns: c. */
const char *ds4_vk_cache_text(ds4_vk_cache *c);
/* Writes the file when pipelines were compiled that it lacks, whole or not at all, and frees
 * the cache. A write that fails costs the next process its warm start and nothing else. */
void ds4_vk_cache_fini(ds4_vk_cache *c);

#endif
