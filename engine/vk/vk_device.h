#ifndef DS4_VK_DEVICE_H
#define DS4_VK_DEVICE_H
/* Instance, device, queue, and what the device says of its float rules. */
#include <pthread.h>
#include <vulkan/vulkan.h>

#include "engine/vk/vk.h"
#include "engine/vk/vk_coop.h"
#include "engine/vk/vk_limits.h"

/* SPIR-V capabilities that a kernel may declare: name, number, what a device without it lacks.
 * A module that declares any other is refused. Those of subgroups stand first. */
#define DS4_VK_CAPS(X)                                                                         \
    X(SG_BASIC, 61, "basic subgroup operations in compute")                                    \
    X(SG_VOTE, 62, "subgroup votes in compute")                                                \
    X(SG_ARITHMETIC, 63, "subgroup arithmetic in compute")                                     \
    X(SG_BALLOT, 64, "subgroup ballots in compute")                                            \
    X(SG_SHUFFLE, 65, "subgroup shuffles in compute")                                          \
    X(SG_RELATIVE, 66, "relative subgroup shuffles in compute")                                \
    X(SG_CLUSTERED, 67, "clustered subgroup operations in compute")                            \
    X(SG_QUAD, 68, "subgroup quads in compute")                                                \
    X(FLOAT16, 9, "shaderFloat16")                                                             \
    X(FLOAT64, 10, "shaderFloat64")                                                            \
    X(INT64, 11, "shaderInt64")                                                                \
    X(INT16, 22, "shaderInt16")                                                                \
    X(INT8, 39, "shaderInt8")                                                                  \
    X(STORE16, 4433, "storageBuffer16BitAccess")                                               \
    X(UNIFORM16, 4434, "uniformAndStorageBuffer16BitAccess")                                   \
    X(STORE8, 4448, "storageBuffer8BitAccess")                                                 \
    X(UNIFORM8, 4449, "uniformAndStorageBuffer8BitAccess")                                     \
    X(DENORM_PRESERVE, 4464, "shaderDenormPreserveFloat32")                                    \
    X(DENORM_FLUSH, 4465, "shaderDenormFlushToZeroFloat32")                                    \
    X(SZ_INF_NAN, 4466, "shaderSignedZeroInfNanPreserveFloat32")                               \
    X(RTE, 4467, "shaderRoundingModeRTEFloat32")                                               \
    X(COOPMAT, 6022, "cooperativeMatrix")                                                      \
    X(MEMORY_MODEL, 5345, "vulkanMemoryModel")                                                 \
    X(DOT, 6019, "shaderIntegerDotProduct")                                                    \
    X(DOT_PACKED, 6018, "shaderIntegerDotProduct")                                             \
    X(SHADER, 1, "shaders")

typedef enum ds4_vk_cap {
#define CAP(id, number, text) DS4_VK_CAP_##id,
    DS4_VK_CAPS(CAP)
#undef CAP
        DS4_VK_CAP_COUNT
} ds4_vk_cap;

#define DS4_VK_CAP_BIT(id) (1u << DS4_VK_CAP_##id)
#define DS4_VK_CAP_SUBGROUP ((1u << DS4_VK_CAP_FLOAT16) - 1u)

#define DS4_VK_TIMEOUT_S 600 /* of a wait, unless forced */

typedef struct ds4_vk_device {
    VkInstance instance;
    VkDebugUtilsMessengerEXT messenger;
    VkPhysicalDevice physical;
    VkDevice device;
    VkQueue queue;
    uint32_t queue_family;
    VkPhysicalDeviceLimits limits; /* maxStorageBufferRange: not past forced.range */
    ds4_vk_limits forced;
    uint64_t n_alloc, n_submit, n_wait; /* so far, for forced failures */
    VkPhysicalDeviceMemoryProperties memory;
    VkPhysicalDeviceFloatControlsProperties controls; /* zeros where the driver says nothing */
    uint32_t caps;         /* DS4_VK_CAP_BIT of everything that kernels may use */
    uint32_t subgroup;     /* invocations of a subgroup */
    ds4_vk_coop coop;      /* its cooperative matrices */
    uint32_t n_memory;     /* live allocations; the device limits their number */
    bool mapped;           /* buffers live in memory that is mapped, else they are staged */
    uint32_t heap;         /* where buffers live */
    uint64_t heap_bytes;   /* how much of it to use */
    const char *no_import; /* why memory of the host is not imported; NULL: it is */
    uint64_t import_align, import_most; /* of the range to import; of any allocation */
    PFN_vkGetMemoryHostPointerPropertiesEXT host_pointer;
    ds4_vk_device_info info;
    pthread_mutex_t lock; /* the messenger may be called from any thread */
    uint32_t n_message;
    char message[256]; /* the first, shortened */
} ds4_vk_device;

/* See ds4_vk_open. Owns: the caller closes *out. */
ds4_status ds4_vk_device_open(ds4_vk_device **out, const ds4_vk_options *opt, ds4_err *err);
void ds4_vk_device_close(ds4_vk_device *d);

/* Number of validation messages so far; the first one is copied to text (may be NULL). */
uint32_t ds4_vk_device_messages(const ds4_vk_device *d, char *text, size_t n);

/* The first allowed type (a bit per type) with `want` and, if there is one, `like` too;
 * UINT32_MAX: none. */
uint32_t ds4_vk_device_memory_type(const ds4_vk_device *d, uint32_t allowed,
                                   VkMemoryPropertyFlags want, VkMemoryPropertyFlags like);

/* The calls that can fail for want of a working device; forced failures happen here. */
VkResult ds4_vk_allocate(ds4_vk_device *d, const VkMemoryAllocateInfo *info,
                         VkDeviceMemory *out);
VkResult ds4_vk_submit(ds4_vk_device *d, const VkSubmitInfo *info, VkFence fence);
/* VK_TIMEOUT after ds4_vk_timeout_s. */
VkResult ds4_vk_wait(ds4_vk_device *d, VkFence fence);
uint32_t ds4_vk_timeout_s(const ds4_vk_device *d);

/* Turns a VkResult into a status and a message: memory (the host's), environment (device lost,
 * its memory full, no driver, time out) or internal. */
ds4_status ds4_vk_fail(ds4_err *err, const char *origin, const char *what, VkResult r);

/* Like TRY, for calls that return a VkResult. */
#define TRYVK(what, call)                                                                      \
    do {                                                                                       \
        VkResult tryvk_ = (call);                                                              \
        if (tryvk_ != VK_SUCCESS) {                                                            \
            st = ds4_vk_fail(err, DS4_HERE, (what), tryvk_);                                   \
            goto out;                                                                          \
        }                                                                                      \
    } while (0)

#endif
