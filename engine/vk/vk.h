#ifndef DS4_VK_H
#define DS4_VK_H
/* The Vulkan engine: rows of kernels/kernels.def as a ds4_backend, and the list of devices.
 *
 * A backend belongs to one thread at a time. Calls are recorded and run as if in order; sync,
 * buf_read and buf_write wait for them. Vulkan 1.1 is required of the loader and of the device.
 */
#include <stdbool.h>
#include <stdint.h>

#include "engine/ops/backend.h"

typedef struct ds4_vk_options {
    int32_t device;  /* index in ds4_vk_device_list; -1: the first fit one that is not a CPU,
                        else the first fit one */
    bool validation; /* validation layers on; a warning or an error fails the next sync */
    bool staged;     /* never map device memory, even where the device could (tests) */
    uint32_t
        max_group;  /* most groups of a dispatch in each direction (tests); 0: the device's */
    bool no_replay; /* record every submission (vk_graph.h) */
    const char *cache_dir; /* folder of compiled pipelines (vk_cache.h); NULL: none */
    bool describe;         /* open also what cannot run strict rows; facts name every module */
    const char *wrong;     /* vk_float.h: a measured property to falsify (tests); NULL: none */
    const char *memory;    /* device memory to use, "64M"; NULL: what there is */
    const char *import;    /* "on", "off": whether the device reads mapped weights where they
                              are; NULL or "auto": where it shares the host's memory */
    const char *limits;    /* the grammar of vk_limits.h; NULL: the device as it is */
} ds4_vk_options;

/* Opens a device, reflects and checks every row of the manifest. opt may be NULL: first fit
 * device, no validation.
 *
 * Errors: DS4_ERR_ENVIRONMENT without a loader, driver or fit device, where a strict row needs
 * a feature that the device lacks or arithmetic that it was measured not to have, and always in
 * a build with VULKAN=0 (vk_none.c); DS4_ERR_USAGE for a device index past the last,
 * for another word in import and for limits that break their grammar; DS4_ERR_IO
 * for a cache_dir that cannot be written; DS4_ERR_INTERNAL when a row disagrees with its
 * SPIR-V. Owns: the caller ends *out with out->ops->close. */
ds4_status ds4_vk_open(ds4_backend **out, const ds4_vk_options *opt, ds4_err *err);

/* Pipelines that a backend of this engine has made so far, and the seconds that the driver
 * took.
 */
typedef struct ds4_vk_built {
    uint32_t n;
    double s;
} ds4_vk_built;
/* Zeros for a backend of another engine. */
ds4_vk_built ds4_vk_pipelines_built(const ds4_backend *b);

/* What a device was measured to do at best, here and now. */
typedef struct ds4_vk_ceiling {
    const char *name;  /* "copy", "read": bytes per second; "fma", "matrix", "matrix_f16acc":
                          operations per second, two per multiply-add (kernels/probes.def) */
    const char *what;  /* one line */
    const char *lacks; /* why this build or the device has none, static text; NULL: it has */
    double rate;       /* 0: not measured */
} ds4_vk_ceiling;
#define DS4_VK_MAX_CEILING 8

/* Runs each probe over its sizes and keeps the best. b: a backend of this engine that is idle.
 *
 * Errors: DS4_ERR_USAGE for a backend of another engine; as a kernel otherwise. */
ds4_status ds4_vk_ceilings(ds4_vk_ceiling out[DS4_VK_MAX_CEILING], uint32_t *n, ds4_backend *b,
                           ds4_err *err);

/* The ceiling of a row's products: "matrix" or "matrix_f16acc" when it runs on the device's
 * cooperative matrices, by the type of their sums, else "fma". */
const char *ds4_vk_row_ceiling(const ds4_backend *b, ds4_op op, const char *row);

/* Why a device opened with describe cannot run strict rows; NULL when it can. Owns: b. */
const char *ds4_vk_unfit(const ds4_backend *b);

#define DS4_VK_MAX_FACT 256

typedef struct ds4_vk_fact {
    char key[64], value[256];
} ds4_vk_fact;

/* What a device says of itself; fact[0] is its name. */
typedef struct ds4_vk_device_info {
    uint32_t n_fact;
    const char *unfit; /* static text: why it cannot be opened; NULL when it can */
    ds4_vk_fact fact[DS4_VK_MAX_FACT];
} ds4_vk_device_info;

/* All devices in the loader's order; none is DS4_OK with *n = 0, and so is a loader without any
 * driver. A build with VULKAN=0 gives DS4_ERR_ENVIRONMENT.
 * Owns: the caller frees *out with ds4_mem_free. */
ds4_status ds4_vk_device_list(ds4_vk_device_info **out, uint32_t *n, ds4_err *err);

/* The i-th row of the manifest that this build could not compile: its name, and why in *reason.
 * NULL past the last. */
const char *ds4_vk_left_out(uint32_t i, const char **reason);

#endif
