#include "engine/vk/vk_import.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define HANDLE VK_EXTERNAL_MEMORY_HANDLE_TYPE_HOST_ALLOCATION_BIT_EXT
#define USAGE (VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT)

static uint64_t down(uint64_t n, uint64_t align) { return n - n % align; }
static uint64_t up(uint64_t n, uint64_t align) { return down(n + align - 1, align); }

static void explain(ds4_vk_import *im, const char *why) {
    if (!*im->why) snprintf(im->why, sizeof im->why, "%s", why);
}

static VkResult buffer_new(VkBuffer *out, VkMemoryRequirements *need, ds4_vk_device *d,
                           uint64_t n) {
    const VkExternalMemoryBufferCreateInfo from = {
        .sType = VK_STRUCTURE_TYPE_EXTERNAL_MEMORY_BUFFER_CREATE_INFO, .handleTypes = HANDLE};
    const VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                                     .pNext = &from,
                                     .size = n,
                                     .usage = USAGE};
    VkResult r = vkCreateBuffer(d->device, &info, NULL, out);
    if (r == VK_SUCCESS) vkGetBufferMemoryRequirements(d->device, *out, need);
    return r;
}

/* Whether the driver can bind a buffer to memory of the host without allocating all of it for
 * that buffer alone. */
static bool importable(const ds4_vk_device *d) {
    const VkPhysicalDeviceExternalBufferInfo info = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_BUFFER_INFO,
        .usage = USAGE,
        .handleType = HANDLE};
    VkExternalBufferProperties p = {.sType = VK_STRUCTURE_TYPE_EXTERNAL_BUFFER_PROPERTIES};
    vkGetPhysicalDeviceExternalBufferProperties(d->physical, &info, &p);
    const VkExternalMemoryFeatureFlags f = p.externalMemoryProperties.externalMemoryFeatures;
    return (f & VK_EXTERNAL_MEMORY_FEATURE_IMPORTABLE_BIT) &&
           !(f & VK_EXTERNAL_MEMORY_FEATURE_DEDICATED_ONLY_BIT);
}

void ds4_vk_import_file(ds4_vk_import *im, ds4_vk_device *d, const void *data, size_t n) {
    VkBuffer probe = VK_NULL_HANDLE;
    VkMemoryRequirements need = {.alignment = 1};

    *im = (ds4_vk_import){
        .file = data, .n_file = (size_t)up(n, (uint64_t)sysconf(_SC_PAGESIZE)), .align = 1};
    if (d->no_import) explain(im, d->no_import);
    else if (!importable(d))
        explain(im, "the driver imports no memory of the host for buffers");
    else if (buffer_new(&probe, &need, d, 16) != VK_SUCCESS)
        explain(im, "the driver makes no buffer for memory of the host");
    im->align = need.alignment;
    im->stopped = *im->why != 0;
    vkDestroyBuffer(d->device, probe, NULL);
}

/* The range of the host to import, and where in it the buffer begins. */
struct range {
    uintptr_t begin;
    uint64_t n_bytes, off;
};

static struct range range_of(const ds4_vk_import *im, const ds4_vk_device *d, uintptr_t at,
                             size_t n_padded, uint64_t *lead) {
    struct range r = {.begin = (uintptr_t)down(at, d->import_align)};
    r.off = down(at - r.begin, im->align);
    *lead = at - r.begin - r.off;
    r.n_bytes = up(r.off + up(*lead + n_padded, im->align), d->import_align);
    return r;
}

/* Why this weight cannot be bound where it stands, or NULL. */
static const char *misfit(const ds4_vk_import *im, const ds4_vk_device *d,
                          const struct range *r, const uint8_t *data, size_t n,
                          size_t n_padded) {
    const uint64_t align = d->limits.minStorageBufferOffsetAlignment;
    if ((uintptr_t)data % (align > 16 ? align : 16))
        return "a weight does not begin where the device can bind";
    if (r->begin < (uintptr_t)im->file || r->begin - (uintptr_t)im->file > im->n_file ||
        r->n_bytes > im->n_file - (r->begin - (uintptr_t)im->file))
        return "a weight is too near an end of the file";
    if (r->n_bytes > d->import_most) return "a weight passes what the device allocates at once";
    for (; n < n_padded; n++)
        if (data[n]) return "a weight is not followed by zeros up to a multiple of 16 bytes";
    return NULL;
}

/* Memory for p->buffer over r. */
static VkResult memory_new(ds4_vk_place *p, ds4_vk_device *d, const struct range *r,
                           uint32_t allowed) {
    VkMemoryHostPointerPropertiesEXT host = {
        .sType = VK_STRUCTURE_TYPE_MEMORY_HOST_POINTER_PROPERTIES_EXT};
    const VkImportMemoryHostPointerInfoEXT from = {
        .sType = VK_STRUCTURE_TYPE_IMPORT_MEMORY_HOST_POINTER_INFO_EXT,
        .handleType = HANDLE,
        .pHostPointer = (void *)r->begin};
    VkMemoryAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
                                 .pNext = &from,
                                 .allocationSize = r->n_bytes};
    VkResult result = d->host_pointer(d->device, HANDLE, (void *)r->begin, &host);
    if (result != VK_SUCCESS) return result;
    info.memoryTypeIndex = ds4_vk_device_memory_type(d, allowed & host.memoryTypeBits, 0,
                                                     VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
                                                         VK_MEMORY_PROPERTY_HOST_CACHED_BIT);
    if (info.memoryTypeIndex == UINT32_MAX) return VK_ERROR_INVALID_EXTERNAL_HANDLE;
    p->type = info.memoryTypeIndex;
    result = ds4_vk_allocate(d, &info, &p->memory);
    if (result != VK_SUCCESS) return result;
    d->n_memory++;
    return vkBindBufferMemory(d->device, p->buffer, p->memory, r->off);
}

bool ds4_vk_import_weight(ds4_vk_import *im, ds4_vk_device *d, ds4_vk_place *out,
                          const void *data, size_t n, size_t n_padded) {
    const uintptr_t at = (uintptr_t)data, file = (uintptr_t)im->file;
    ds4_vk_place p = {0};
    VkMemoryRequirements need;
    const char *why = NULL;
    VkResult result = VK_SUCCESS;

    if (!im->file || at < file || at - file > im->n_file || n > im->n_file - (at - file))
        return false;
    if (im->stopped) goto copy;
    const struct range r = range_of(im, d, at, n_padded, &p.lead);
    p.n_bytes = p.lead + n_padded;
    why = misfit(im, d, &r, data, n, n_padded);
    if (!why && d->n_memory >= d->limits.maxMemoryAllocationCount)
        why = "the device allows no more allocations";
    if (why) goto copy;
    result = buffer_new(&p.buffer, &need, d, p.n_bytes);
    if (result == VK_SUCCESS && (r.off % need.alignment || r.off + need.size > r.n_bytes))
        why = "a weight needs more memory than is mapped around it";
    else if (result == VK_SUCCESS) result = memory_new(&p, d, &r, need.memoryTypeBits);
    if (why || result != VK_SUCCESS) goto copy;
    im->n_imported += n;
    *out = p;
    return true;
copy:
    if (result != VK_SUCCESS) { /* the next would fare no better */
        char text[64];
        snprintf(text, sizeof text, "the driver refused the mapped file (VkResult %d)",
                 (int)result);
        explain(im, text);
        im->stopped = true;
    } else if (why) {
        explain(im, why);
    }
    if (p.memory) d->n_memory--;
    vkDestroyBuffer(d->device, p.buffer, NULL);
    vkFreeMemory(d->device, p.memory, NULL);
    im->n_copied += n;
    return false;
}
