#include "engine/vk/vk_device.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

#define LAYER "VK_LAYER_KHRONOS_validation"

ds4_status ds4_vk_fail(ds4_err *err, const char *origin, const char *what, VkResult r) {
    switch (r) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return ds4_err_set(err, DS4_ERR_MEMORY, origin, "%s: the host is out of memory", what);
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return ds4_err_set(err, DS4_ERR_ENVIRONMENT, origin, "%s: the device is out of memory",
                           what);
    case VK_ERROR_DEVICE_LOST:
        return ds4_err_set(err, DS4_ERR_ENVIRONMENT, origin,
                           "%s: the device was lost (reset, crash or watchdog)", what);
    case VK_ERROR_INCOMPATIBLE_DRIVER:
    case VK_ERROR_INITIALIZATION_FAILED:
        return ds4_err_set(err, DS4_ERR_ENVIRONMENT, origin, "%s: no working Vulkan driver",
                           what);
    case VK_ERROR_LAYER_NOT_PRESENT:
    case VK_ERROR_EXTENSION_NOT_PRESENT:
    case VK_ERROR_FEATURE_NOT_PRESENT:
        return ds4_err_set(err, DS4_ERR_ENVIRONMENT, origin,
                           "%s: layer, extension or feature missing (VkResult %d)", what,
                           (int)r);
    case VK_TIMEOUT:
        return ds4_err_set(err, DS4_ERR_ENVIRONMENT, origin, "%s: the device does not answer",
                           what);
    default:
        return ds4_err_set(err, DS4_ERR_INTERNAL, origin, "%s: VkResult %d", what, (int)r);
    }
}

VkResult ds4_vk_allocate(ds4_vk_device *d, const VkMemoryAllocateInfo *info,
                         VkDeviceMemory *out) {
    if (++d->n_alloc == d->forced.fail_alloc) return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    return vkAllocateMemory(d->device, info, NULL, out);
}

VkResult ds4_vk_submit(ds4_vk_device *d, const VkSubmitInfo *info, VkFence fence) {
    if (++d->n_submit == d->forced.fail_submit) return VK_ERROR_DEVICE_LOST;
    return vkQueueSubmit(d->queue, 1, info, fence);
}

uint32_t ds4_vk_timeout_s(const ds4_vk_device *d) {
    return d->forced.timeout ? (uint32_t)d->forced.timeout : DS4_VK_TIMEOUT_S;
}

VkResult ds4_vk_wait(ds4_vk_device *d, VkFence fence) {
    d->n_wait++;
    if (d->n_wait == d->forced.fail_wait) return VK_ERROR_DEVICE_LOST;
    if (d->forced.hang_wait && d->n_wait >= d->forced.hang_wait) return VK_TIMEOUT;
    return vkWaitForFences(d->device, 1, &fence, VK_TRUE,
                           (uint64_t)ds4_vk_timeout_s(d) * 1000000000u);
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(
    VkDebugUtilsMessageSeverityFlagBitsEXT severity, VkDebugUtilsMessageTypeFlagsEXT type,
    const VkDebugUtilsMessengerCallbackDataEXT *data, void *user) {
    ds4_vk_device *d = user;
    (void)severity, (void)type;
    pthread_mutex_lock(&d->lock);
    if (d->n_message++ == 0)
        snprintf(d->message, sizeof d->message, "%s", data->pMessage ? data->pMessage : "");
    pthread_mutex_unlock(&d->lock);
    return VK_FALSE;
}

uint32_t ds4_vk_device_messages(const ds4_vk_device *d, char *text, size_t n) {
    ds4_vk_device *w = (ds4_vk_device *)d; /* for the lock alone */
    pthread_mutex_lock(&w->lock);
    uint32_t count = d->n_message;
    if (text) snprintf(text, n, "%s", d->message);
    pthread_mutex_unlock(&w->lock);
    return count;
}

static bool has_layer(void) {
    VkLayerProperties *p = NULL;
    uint32_t n = 0;
    bool found = false;
    if (vkEnumerateInstanceLayerProperties(&n, NULL) != VK_SUCCESS) return false;
    if (ds4_mem_alloc(&p, n, sizeof *p, NULL) != DS4_OK) return false;
    if (vkEnumerateInstanceLayerProperties(&n, p) == VK_SUCCESS)
        for (uint32_t i = 0; i < n; i++) found |= !strcmp(p[i].layerName, LAYER);
    ds4_mem_free(p);
    return found;
}

static VkDebugUtilsMessengerCreateInfoEXT messenger_info(ds4_vk_device *d) {
    return (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                           VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        /* GENERAL is the loader talking about other drivers: no fault of this program. */
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = on_message,
        .pUserData = d};
}

/* d: receives validation messages; NULL for an instance without layers. */
static ds4_status instance_new(VkInstance *out, ds4_vk_device *d, ds4_err *err) {
    ds4_status st = DS4_OK;
    static const char *const layers[] = {LAYER};
    static const char *const extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME,
                                             VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME};
    static const VkValidationFeatureEnableEXT enabled[] = {
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    uint32_t version = VK_API_VERSION_1_0;
    VkApplicationInfo app = {.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
                             .pApplicationName = "ds4-drift",
                             .apiVersion = VK_API_VERSION_1_2};
    VkInstanceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
                                 .pApplicationInfo = &app};
    VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info(d);
    VkValidationFeaturesEXT features = {.sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
                                        .pNext = &messenger,
                                        .enabledValidationFeatureCount = 1,
                                        .pEnabledValidationFeatures = enabled};

    TRYVK("Vulkan version", vkEnumerateInstanceVersion(&version));
    if (version < VK_API_VERSION_1_1)
        RAISE(DS4_ERR_ENVIRONMENT, "the Vulkan loader offers 1.0, wanted 1.1");
    if (d) {
        if (!has_layer())
            RAISE(DS4_ERR_ENVIRONMENT, "validation wanted, but " LAYER " is not installed");
        info.pNext = &features;
        info.enabledLayerCount = 1, info.ppEnabledLayerNames = layers;
        info.enabledExtensionCount = 2, info.ppEnabledExtensionNames = extensions;
    }
    TRYVK("Vulkan instance", vkCreateInstance(&info, NULL, out));
out:
    return st;
}

static ds4_status messenger_new(ds4_vk_device *d, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkDebugUtilsMessengerCreateInfoEXT info = messenger_info(d);
    PFN_vkCreateDebugUtilsMessengerEXT create = (PFN_vkCreateDebugUtilsMessengerEXT)(void (*)(
        void))vkGetInstanceProcAddr(d->instance, "vkCreateDebugUtilsMessengerEXT");
    if (!create)
        RAISE(DS4_ERR_ENVIRONMENT, "validation wanted, but VK_EXT_debug_utils is missing");
    TRYVK("validation messenger", create(d->instance, &info, NULL, &d->messenger));
out:
    return st;
}

/* VkPhysicalDeviceShaderFloatControls2Features, which Debian 12's headers lack. */
struct controls2 {
    VkStructureType sType;
    void *pNext;
    VkBool32 on;
};
#define CONTROLS2_TYPE ((VkStructureType)1000528000)
#define CONTROLS2_NAME "VK_KHR_shader_float_controls2"

/* Everything asked of a physical device. Chained structs must stay where they are. */
struct query {
    VkExtensionProperties *extension;
    uint32_t n_extension, api;
    bool has_driver, has_controls, has_16, has_8, has_f16i8, has_model, has_dot, has_coop,
        has_sizes, has_controls2, has_host;
    VkPhysicalDeviceProperties2 properties;
    VkPhysicalDeviceSubgroupProperties subgroup;
    VkPhysicalDeviceDriverProperties driver;
    VkPhysicalDeviceFloatControlsProperties controls;
    VkPhysicalDeviceSubgroupSizeControlProperties sizes;
    VkPhysicalDeviceMaintenance3Properties most;
    VkPhysicalDeviceExternalMemoryHostPropertiesEXT host;
    VkPhysicalDeviceMemoryProperties memory;
    VkPhysicalDeviceFeatures2 features;
    VkPhysicalDevice16BitStorageFeatures store16;
    VkPhysicalDevice8BitStorageFeatures store8;
    VkPhysicalDeviceShaderFloat16Int8Features f16i8;
    VkPhysicalDeviceVulkanMemoryModelFeatures model;
    VkPhysicalDeviceShaderIntegerDotProductFeatures dot;
#ifdef VK_KHR_cooperative_matrix
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coop;
#endif
    ds4_vk_coop shapes;
    struct controls2 controls2;
    uint32_t queue_family; /* UINT32_MAX: none computes */
};

static bool has_extension(const struct query *q, const char *name) {
    for (uint32_t i = 0; i < q->n_extension; i++)
        if (!strcmp(q->extension[i].extensionName, name)) return true;
    return false;
}

/* In the core since `core`, or by extension before. */
static bool has_feature(const struct query *q, uint32_t core, const char *name) {
    return q->api >= core || has_extension(q, name);
}

static void query_chain(struct query *q, VkPhysicalDevice p) {
    void **next = &q->properties.pNext;
#define CHAIN(member, type)                                                                    \
    (q->member.sType = (type), q->member.pNext = NULL, *next = &q->member,                     \
     next = (void **)&q->member.pNext)
    q->properties.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
    CHAIN(subgroup, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES);
    if (q->has_driver) CHAIN(driver, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_DRIVER_PROPERTIES);
    if (q->has_controls)
        CHAIN(controls, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FLOAT_CONTROLS_PROPERTIES);
    if (q->has_sizes)
        CHAIN(sizes, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES);
    CHAIN(most, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES);
    if (q->has_host)
        CHAIN(host, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_EXTERNAL_MEMORY_HOST_PROPERTIES_EXT);
    vkGetPhysicalDeviceProperties2(p, &q->properties);

    next = &q->features.pNext;
    q->features.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2;
    if (q->has_16) CHAIN(store16, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_16BIT_STORAGE_FEATURES);
    if (q->has_8) CHAIN(store8, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_8BIT_STORAGE_FEATURES);
    if (q->has_f16i8)
        CHAIN(f16i8, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_FLOAT16_INT8_FEATURES);
    if (q->has_model)
        CHAIN(model, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_MEMORY_MODEL_FEATURES);
    if (q->has_dot)
        CHAIN(dot, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_INTEGER_DOT_PRODUCT_FEATURES);
#ifdef VK_KHR_cooperative_matrix
    if (q->has_coop)
        CHAIN(coop, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR);
#endif
#undef CHAIN
    vkGetPhysicalDeviceFeatures2(p, &q->features);
}

/* Asked apart: what is chained to q->features is enabled. */
static void query_controls2(struct query *q, VkPhysicalDevice p) {
    VkPhysicalDeviceFeatures2 f = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
                                   .pNext = &q->controls2};
    q->has_controls2 = has_extension(q, CONTROLS2_NAME);
    q->controls2 = (struct controls2){.sType = CONTROLS2_TYPE};
    if (q->has_controls2) vkGetPhysicalDeviceFeatures2(p, &f);
}

/* The first family that computes. A family without graphics is not preferred: families differ
 * in scheduling alone, and one queue is all that is used. */
static ds4_status query_queue(struct query *q, VkPhysicalDevice p, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkQueueFamilyProperties *f = NULL;
    uint32_t n = 0;

    q->queue_family = UINT32_MAX;
    vkGetPhysicalDeviceQueueFamilyProperties(p, &n, NULL);
    TRY(ds4_mem_alloc(&f, n, sizeof *f, err));
    vkGetPhysicalDeviceQueueFamilyProperties(p, &n, f);
    for (uint32_t i = n; i-- > 0;)
        if (f[i].queueCount && (f[i].queueFlags & VK_QUEUE_COMPUTE_BIT)) q->queue_family = i;
out:
    ds4_mem_free(f);
    return st;
}

static bool coop_on(const struct query *q) {
#ifdef VK_KHR_cooperative_matrix
    return q->coop.cooperativeMatrix == VK_TRUE;
#else
    (void)q;
    return false;
#endif
}

/* Owns: the caller frees q->extension. */
static ds4_status query_init(struct query *q, VkInstance instance, VkPhysicalDevice p,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    VkPhysicalDeviceProperties first;

    memset(q, 0, sizeof *q);
    vkGetPhysicalDeviceProperties(p, &first);
    q->api = first.apiVersion;
    q->queue_family = UINT32_MAX;
    TRYVK("device extensions",
          vkEnumerateDeviceExtensionProperties(p, NULL, &q->n_extension, NULL));
    TRY(ds4_mem_alloc(&q->extension, q->n_extension, sizeof *q->extension, err));
    TRYVK("device extensions",
          vkEnumerateDeviceExtensionProperties(p, NULL, &q->n_extension, q->extension));
    if (q->api < VK_API_VERSION_1_1) {
        q->properties.properties = first;
        goto out;
    }
    q->has_driver = has_feature(q, VK_API_VERSION_1_2, VK_KHR_DRIVER_PROPERTIES_EXTENSION_NAME);
    q->has_controls =
        has_feature(q, VK_API_VERSION_1_2, VK_KHR_SHADER_FLOAT_CONTROLS_EXTENSION_NAME);
    q->has_8 = has_feature(q, VK_API_VERSION_1_2, VK_KHR_8BIT_STORAGE_EXTENSION_NAME);
    q->has_f16i8 =
        has_feature(q, VK_API_VERSION_1_2, VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME);
    q->has_16 = true; /* core since 1.1 */
    q->has_model =
        has_feature(q, VK_API_VERSION_1_2, VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME);
    q->has_dot = has_extension(q, VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME);
    q->has_coop = has_extension(q, "VK_KHR_cooperative_matrix");
    q->has_sizes = has_extension(q, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
    q->has_host = has_extension(q, VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME);
    vkGetPhysicalDeviceMemoryProperties(p, &q->memory);
    query_chain(q, p);
    query_controls2(q, p);
    if (coop_on(q)) TRY(ds4_vk_coop_read(&q->shapes, instance, p, err));
    TRY(query_queue(q, p, err));
out:
    return st;
}

static uint32_t query_caps(const struct query *q) {
    const VkPhysicalDeviceFeatures *f = &q->features.features;
    VkSubgroupFeatureFlags sg = q->subgroup.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT
                                    ? q->subgroup.supportedOperations
                                    : 0;
    const struct {
        ds4_vk_cap cap;
        VkBool32 on;
    } row[] = {
        {DS4_VK_CAP_SHADER, VK_TRUE},
        {DS4_VK_CAP_SG_BASIC, sg & VK_SUBGROUP_FEATURE_BASIC_BIT},
        {DS4_VK_CAP_SG_VOTE, sg & VK_SUBGROUP_FEATURE_VOTE_BIT},
        {DS4_VK_CAP_SG_ARITHMETIC, sg & VK_SUBGROUP_FEATURE_ARITHMETIC_BIT},
        {DS4_VK_CAP_SG_BALLOT, sg & VK_SUBGROUP_FEATURE_BALLOT_BIT},
        {DS4_VK_CAP_SG_SHUFFLE, sg & VK_SUBGROUP_FEATURE_SHUFFLE_BIT},
        {DS4_VK_CAP_SG_RELATIVE, sg & VK_SUBGROUP_FEATURE_SHUFFLE_RELATIVE_BIT},
        {DS4_VK_CAP_SG_CLUSTERED, sg & VK_SUBGROUP_FEATURE_CLUSTERED_BIT},
        {DS4_VK_CAP_SG_QUAD, sg & VK_SUBGROUP_FEATURE_QUAD_BIT},
        {DS4_VK_CAP_FLOAT16, q->f16i8.shaderFloat16},
        {DS4_VK_CAP_FLOAT64, f->shaderFloat64},
        {DS4_VK_CAP_INT64, f->shaderInt64},
        {DS4_VK_CAP_INT16, f->shaderInt16},
        {DS4_VK_CAP_INT8, q->f16i8.shaderInt8},
        {DS4_VK_CAP_STORE16, q->store16.storageBuffer16BitAccess},
        {DS4_VK_CAP_UNIFORM16, q->store16.uniformAndStorageBuffer16BitAccess},
        {DS4_VK_CAP_STORE8, q->store8.storageBuffer8BitAccess},
        {DS4_VK_CAP_UNIFORM8, q->store8.uniformAndStorageBuffer8BitAccess},
        {DS4_VK_CAP_DENORM_PRESERVE, q->controls.shaderDenormPreserveFloat32},
        {DS4_VK_CAP_DENORM_FLUSH, q->controls.shaderDenormFlushToZeroFloat32},
        {DS4_VK_CAP_SZ_INF_NAN, q->controls.shaderSignedZeroInfNanPreserveFloat32},
        {DS4_VK_CAP_RTE, q->controls.shaderRoundingModeRTEFloat32},
        {DS4_VK_CAP_COOPMAT, coop_on(q)},
        {DS4_VK_CAP_MEMORY_MODEL,
         q->model.vulkanMemoryModel && q->model.vulkanMemoryModelDeviceScope},
        {DS4_VK_CAP_DOT, q->dot.shaderIntegerDotProduct},
        {DS4_VK_CAP_DOT_PACKED, q->dot.shaderIntegerDotProduct},
    };
    uint32_t caps = 0;
    for (size_t i = 0; i < sizeof row / sizeof *row; i++)
        if (row[i].on) caps |= 1u << row[i].cap;
    return caps;
}

/* Why a device cannot be opened, or NULL. */
static const char *query_unfit(const struct query *q) {
    if (q->api < VK_API_VERSION_1_1) return "it offers Vulkan 1.0, wanted 1.1";
    if (q->queue_family == UINT32_MAX) return "it has no compute queue";
    if (q->properties.properties.limits.maxPerStageDescriptorStorageBuffers < DS4_MAX_BIND)
        return "it binds fewer than 8 storage buffers to a kernel";
    return NULL;
}

static void fact_add(ds4_vk_device_info *info, const char *key, const char *fmt, ...)
    __attribute__((format(printf, 3, 4)));
static void fact_add(ds4_vk_device_info *info, const char *key, const char *fmt, ...) {
    if (info->n_fact == DS4_VK_MAX_FACT) return;
    ds4_vk_fact *f = &info->fact[info->n_fact++];
    va_list ap;
    va_start(ap, fmt);
    snprintf(f->key, sizeof f->key, "%s", key);
    vsnprintf(f->value, sizeof f->value, fmt, ap);
    va_end(ap);
}

static const char *independence(VkShaderFloatControlsIndependence i) {
    return i == VK_SHADER_FLOAT_CONTROLS_INDEPENDENCE_32_BIT_ONLY ? "32 bit only"
           : i == VK_SHADER_FLOAT_CONTROLS_INDEPENDENCE_ALL       ? "all"
                                                                  : "none";
}

/* Each property under its own name, and the float32 ones joined as "float_controls". */
static void facts_controls(ds4_vk_device_info *info, const struct query *q) {
    const VkPhysicalDeviceFloatControlsProperties *c = &q->controls;
    if (!q->has_controls) {
        fact_add(info, "float_controls", "unknown: VK_KHR_shader_float_controls is missing");
        return;
    }
    fact_add(info, "float_controls", "f32:%s%s%s%s%s",
             c->shaderSignedZeroInfNanPreserveFloat32 ? " zero_inf_nan_preserve" : "",
             c->shaderDenormPreserveFloat32 ? " denorm_preserve" : "",
             c->shaderDenormFlushToZeroFloat32 ? " denorm_flush" : "",
             c->shaderRoundingModeRTEFloat32 ? " rte" : "",
             c->shaderRoundingModeRTZFloat32 ? " rtz" : "");
    fact_add(info, "float_controls.shaderFloatControls2", "%s",
             !q->has_controls2 ? "unknown: " CONTROLS2_NAME " is missing"
             : q->controls2.on ? "1"
                               : "0");
    fact_add(info, "float_controls.denormBehaviorIndependence", "%s",
             independence(c->denormBehaviorIndependence));
    fact_add(info, "float_controls.roundingModeIndependence", "%s",
             independence(c->roundingModeIndependence));
#define CONTROL(name)                                                                          \
    fact_add(info, "float_controls." #name "16", "%d", c->name##16 != 0);                      \
    fact_add(info, "float_controls." #name "32", "%d", c->name##32 != 0);                      \
    fact_add(info, "float_controls." #name "64", "%d", c->name##64 != 0)
    CONTROL(shaderSignedZeroInfNanPreserveFloat);
    CONTROL(shaderDenormPreserveFloat);
    CONTROL(shaderDenormFlushToZeroFloat);
    CONTROL(shaderRoundingModeRTEFloat);
    CONTROL(shaderRoundingModeRTZFloat);
#undef CONTROL
}

static void facts_limits(ds4_vk_device_info *info, const struct query *q) {
    const VkPhysicalDeviceLimits *l = &q->properties.properties.limits;
    fact_add(info, "max_storage_buffer_range_bytes", "%u", l->maxStorageBufferRange);
    fact_add(info, "max_shared_memory_bytes", "%u", l->maxComputeSharedMemorySize);
    fact_add(info, "max_workgroup_invocations", "%u", l->maxComputeWorkGroupInvocations);
    fact_add(info, "max_workgroup_size", "%u,%u,%u", l->maxComputeWorkGroupSize[0],
             l->maxComputeWorkGroupSize[1], l->maxComputeWorkGroupSize[2]);
    fact_add(info, "max_workgroup_count", "%u,%u,%u", l->maxComputeWorkGroupCount[0],
             l->maxComputeWorkGroupCount[1], l->maxComputeWorkGroupCount[2]);
    fact_add(info, "max_memory_allocations", "%u", l->maxMemoryAllocationCount);
    fact_add(info, "max_bound_storage_buffers", "%u", l->maxPerStageDescriptorStorageBuffers);
    fact_add(info, "max_push_constants_bytes", "%u", l->maxPushConstantsSize);
    fact_add(info, "min_storage_buffer_alignment_bytes", "%llu",
             (unsigned long long)l->minStorageBufferOffsetAlignment);
    fact_add(info, "non_coherent_atom_bytes", "%llu",
             (unsigned long long)l->nonCoherentAtomSize);
    fact_add(info, "timestamp_period_ns", "%g", (double)l->timestampPeriod);
}

static void facts_heaps(ds4_vk_device_info *info, const struct query *q) {
    for (uint32_t i = 0; i < q->memory.memoryHeapCount; i++) {
        char key[32], types[128] = "";
        for (uint32_t t = 0; t < q->memory.memoryTypeCount; t++) {
            const VkMemoryType *m = &q->memory.memoryTypes[t];
            size_t n = strlen(types);
            if (m->heapIndex == i && n + 8 < sizeof types)
                snprintf(types + n, sizeof types - n, " 0x%x", m->propertyFlags);
        }
        snprintf(key, sizeof key, "heap.%u", i);
        fact_add(info, key, "%llu bytes%s, types%s",
                 (unsigned long long)q->memory.memoryHeaps[i].size,
                 q->memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT
                     ? ", device local"
                     : "",
                 types);
    }
}

static void facts_subgroups(ds4_vk_device_info *info, const struct query *q) {
    fact_add(info, "subgroup_size", "%u", q->subgroup.subgroupSize);
    fact_add(info, "subgroup_operations", "0x%x", q->subgroup.supportedOperations);
    fact_add(info, "subgroup_stages", "0x%x", q->subgroup.supportedStages);
    if (!q->has_sizes) {
        fact_add(info, "subgroup_size_control", "unknown: the extension is missing");
        return;
    }
    fact_add(info, "subgroup_size_min", "%u", q->sizes.minSubgroupSize);
    fact_add(info, "subgroup_size_max", "%u", q->sizes.maxSubgroupSize);
    fact_add(info, "subgroup_size_stages", "0x%x", q->sizes.requiredSubgroupSizeStages);
}

static void facts_caps(ds4_vk_device_info *info, uint32_t caps) {
    static const char *const name[] = {
#define CAP(id, number, text) #id,
        DS4_VK_CAPS(CAP)
#undef CAP
    };
    char text[256] = "";
    size_t at = 0;
    for (uint32_t i = 0; i < DS4_VK_CAP_COUNT; i++)
        if ((caps >> i & 1u) && at + strlen(name[i]) + 2 < sizeof text)
            at += (size_t)snprintf(text + at, sizeof text - at, "%s%s", at ? " " : "", name[i]);
    fact_add(info, "kernel_features", "%s", text);
}

/* One fact per line of the device's table: "coopmat 16x16x16 f16xf16+f32->f32". */
static void facts_shapes(ds4_vk_device_info *info, const ds4_vk_coop *c) {
    for (uint32_t i = 0; i < c->n; i++) {
        char name[64], key[64];
        ds4_vk_coop_name(name, sizeof name, &c->shape[i]);
        snprintf(key, sizeof key, "coopmat %.54s", name);
        fact_add(info, key, "%s%s", c->shape[i].subgroup ? "subgroup" : "other scope",
                 c->shape[i].saturating ? ", saturating" : "");
    }
}

static void info_fill(ds4_vk_device_info *info, const struct query *q) {
    static const char *const type[] = {"other", "integrated", "discrete", "virtual", "cpu"};
    const VkPhysicalDeviceProperties *p = &q->properties.properties;
    uint32_t t = (uint32_t)p->deviceType;
    memset(info, 0, sizeof *info);
    info->unfit = query_unfit(q);
    fact_add(info, "device", "%s", p->deviceName);
    fact_add(info, "device_type", "%s", t < 5 ? type[t] : "other");
    fact_add(info, "vendor_id", "0x%04x", p->vendorID);
    fact_add(info, "device_id", "0x%04x", p->deviceID);
    fact_add(info, "api_version", "%u.%u.%u", VK_API_VERSION_MAJOR(q->api),
             VK_API_VERSION_MINOR(q->api), VK_API_VERSION_PATCH(q->api));
    fact_add(info, "driver", "%s", q->has_driver ? q->driver.driverName : "unknown");
    fact_add(info, "driver_info", "%s", q->has_driver ? q->driver.driverInfo : "unknown");
    fact_add(info, "driver_version", "0x%08x", p->driverVersion);
    if (q->has_driver)
        fact_add(info, "conformance", "%u.%u.%u.%u", q->driver.conformanceVersion.major,
                 q->driver.conformanceVersion.minor, q->driver.conformanceVersion.subminor,
                 q->driver.conformanceVersion.patch);
    facts_subgroups(info, q);
    fact_add(info, "cooperative_matrix", "%s",
             has_extension(q, "VK_KHR_cooperative_matrix")  ? "VK_KHR_cooperative_matrix"
             : has_extension(q, "VK_NV_cooperative_matrix") ? "VK_NV_cooperative_matrix"
                                                            : "none");
    facts_shapes(info, &q->shapes);
    facts_caps(info, query_caps(q));
    facts_limits(info, q);
    facts_heaps(info, q);
    facts_controls(info, q);
}

/* Owns: the caller frees *out. */
static ds4_status physical_list(VkInstance instance, VkPhysicalDevice **out, uint32_t *n,
                                ds4_err *err) {
    ds4_status st = DS4_OK;
    VkPhysicalDevice *list = NULL;
    uint32_t count = 0;
    VkResult r = vkEnumeratePhysicalDevices(instance, &count, NULL);

    if (r == VK_ERROR_INITIALIZATION_FAILED) r = VK_SUCCESS, count = 0; /* no driver at all */
    TRYVK("device list", r);
    TRY(ds4_mem_alloc(&list, count, sizeof *list, err));
    if (count) TRYVK("device list", vkEnumeratePhysicalDevices(instance, &count, list));
    *out = list, *n = count, list = NULL;
out:
    ds4_mem_free(list);
    return st;
}

/* The device to open; q describes it on success. Owns: as query_init. */
static ds4_status choose(ds4_vk_device *d, int32_t wanted, struct query *q, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkPhysicalDevice *list = NULL;
    uint32_t n = 0;
    const char *unfit = NULL;

    TRY(physical_list(d->instance, &list, &n, err));
    if (n == 0) RAISE(DS4_ERR_ENVIRONMENT, "no Vulkan device");
    if (wanted < -1 || (wanted >= 0 && (uint32_t)wanted >= n))
        RAISE(DS4_ERR_USAGE, "Vulkan device %d: there are %u, counted from 0", wanted, n);
    for (uint32_t pass = 0; pass < 2 && !d->physical; pass++)
        for (uint32_t i = 0; i < n && !d->physical; i++) {
            if (wanted >= 0 && i != (uint32_t)wanted) continue;
            ds4_mem_free(q->extension), q->extension = NULL;
            TRY(query_init(q, d->instance, list[i], err));
            bool cpu = q->properties.properties.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
            if (cpu && pass == 0 && wanted < 0) continue;
            unfit = query_unfit(q);
            if (!unfit) d->physical = list[i];
        }
    if (!d->physical)
        RAISE(DS4_ERR_ENVIRONMENT, "Vulkan device %s is not fit: %s",
              q->properties.properties.deviceName, unfit ? unfit : "unknown reason");
out:
    ds4_mem_free(list);
    return st;
}

/* Enables the features that kernels may declare, and nothing else. */
static ds4_status logical_new(ds4_vk_device *d, struct query *q, ds4_err *err) {
    static const char *const wish[] = {VK_KHR_SHADER_FLOAT_CONTROLS_EXTENSION_NAME,
                                       VK_KHR_8BIT_STORAGE_EXTENSION_NAME,
                                       VK_KHR_SHADER_FLOAT16_INT8_EXTENSION_NAME};
    ds4_status st = DS4_OK;
    const char *extension[sizeof wish / sizeof *wish + 4];
    const float priority = 1.0f;
    VkPhysicalDeviceFeatures all = q->features.features;
    VkDeviceQueueCreateInfo queue = {.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
                                     .queueFamilyIndex = q->queue_family,
                                     .queueCount = 1,
                                     .pQueuePriorities = &priority};
    VkDeviceCreateInfo info = {.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
                               .pNext = &q->features,
                               .queueCreateInfoCount = 1,
                               .pQueueCreateInfos = &queue,
                               .ppEnabledExtensionNames = extension};

    memset(&q->features.features, 0, sizeof q->features.features);
    q->features.features.shaderFloat64 = all.shaderFloat64;
    q->features.features.shaderInt64 = all.shaderInt64;
    q->features.features.shaderInt16 = all.shaderInt16;
    q->store16.storagePushConstant16 = q->store16.storageInputOutput16 = VK_FALSE;
    q->store8.storagePushConstant8 = VK_FALSE;
    for (size_t i = 0; i < sizeof wish / sizeof *wish; i++)
        if (q->api < VK_API_VERSION_1_2 && has_extension(q, wish[i]))
            extension[info.enabledExtensionCount++] = wish[i];
    /* With the memory model on, kernels may use device scope only where that is on as well;
     * those without cooperative matrices have always used it. */
    if (!q->model.vulkanMemoryModelDeviceScope) q->model.vulkanMemoryModel = VK_FALSE;
    q->model.vulkanMemoryModelAvailabilityVisibilityChains = VK_FALSE;
    if (q->has_model && q->api < VK_API_VERSION_1_2)
        extension[info.enabledExtensionCount++] = VK_KHR_VULKAN_MEMORY_MODEL_EXTENSION_NAME;
    if (q->has_dot)
        extension[info.enabledExtensionCount++] =
            VK_KHR_SHADER_INTEGER_DOT_PRODUCT_EXTENSION_NAME;
#ifdef VK_KHR_cooperative_matrix
    q->coop.cooperativeMatrixRobustBufferAccess = VK_FALSE;
    if (q->has_coop)
        extension[info.enabledExtensionCount++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
#endif
    if (!d->no_import)
        extension[info.enabledExtensionCount++] = VK_EXT_EXTERNAL_MEMORY_HOST_EXTENSION_NAME;
    TRYVK("Vulkan device", vkCreateDevice(d->physical, &info, NULL, &d->device));
    vkGetDeviceQueue(d->device, q->queue_family, 0, &d->queue);
    d->queue_family = q->queue_family;
    if (!d->no_import)
        d->host_pointer = (PFN_vkGetMemoryHostPointerPropertiesEXT)(void (*)(
            void))vkGetDeviceProcAddr(d->device, "vkGetMemoryHostPointerPropertiesEXT");
    if (!d->no_import && !d->host_pointer)
        d->no_import = "the driver lacks vkGetMemoryHostPointerPropertiesEXT";
out:
    return st;
}

/* Mapping pays where the host and the device share their memory. */
static bool can_map(const ds4_vk_device *d, VkPhysicalDeviceType type) {
    const VkMemoryPropertyFlags want = VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT |
                                       VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                       VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    if (type != VK_PHYSICAL_DEVICE_TYPE_CPU && type != VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU)
        return false;
    for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++)
        if ((d->memory.memoryTypes[i].propertyFlags & want) == want) return true;
    return false;
}

/* How much device memory to use: what the driver says is free, else the heap; less where that
 * is wanted. */
static ds4_status choose_heap(ds4_vk_device *d, const struct query *q,
                              const ds4_vk_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 p = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2, .pNext = &budget};
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    uint32_t type = ds4_vk_device_memory_type(d, UINT32_MAX, d->mapped ? host : 0,
                                              VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    const char *by = "heap";
    uint64_t wanted = d->forced.heap;

    if (type == UINT32_MAX)
        RAISE(DS4_ERR_ENVIRONMENT, "the device has no memory of the needed type");
    if (opt->memory) TRY(ds4_vk_size_parse(&wanted, "--device-memory", opt->memory, err));
    d->heap = d->memory.memoryTypes[type].heapIndex;
    d->heap_bytes = d->memory.memoryHeaps[d->heap].size;
    if (has_extension(q, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME)) {
        vkGetPhysicalDeviceMemoryProperties2(d->physical, &p);
        d->heap_bytes = budget.heapBudget[d->heap], by = "free";
    }
    if (wanted && wanted < d->heap_bytes) d->heap_bytes = wanted, by = "limited";
    fact_add(&d->info, "device_memory_bytes", "%llu (%s)", (unsigned long long)d->heap_bytes,
             by);
out:
    return st;
}

/* A device with memory of its own would read what is imported over the bus, at every use. */
static ds4_status choose_import(ds4_vk_device *d, const struct query *q, const char *wanted,
                                ds4_err *err) {
    ds4_status st = DS4_OK;
    const bool is_on = wanted && !strcmp(wanted, "on"), off = wanted && !strcmp(wanted, "off");
    if (wanted && !is_on && !off && strcmp(wanted, "auto") != 0)
        RAISE(DS4_ERR_USAGE, "DS4_VK_IMPORT: found \"%.80s\", wanted auto, on or off", wanted);
    if (off) d->no_import = "DS4_VK_IMPORT=off";
    else if (!q->has_host) d->no_import = "the driver lacks VK_EXT_external_memory_host";
    else if (!is_on && !d->mapped) d->no_import = "memory is staged";
    d->import_align = q->host.minImportedHostPointerAlignment;
    d->import_most = q->most.maxMemoryAllocationSize;
out:
    return st;
}

ds4_status ds4_vk_device_open(ds4_vk_device **out, const ds4_vk_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_device *d = NULL;
    struct query q = {0};

    TRY(ds4_mem_alloc(&d, 1, sizeof *d, err));
    pthread_mutex_init(&d->lock, NULL);
    TRY(ds4_vk_limits_parse(&d->forced, opt->limits, err));
    TRY(instance_new(&d->instance, opt->validation ? d : NULL, err));
    if (opt->validation) TRY(messenger_new(d, err));
    TRY(choose(d, opt->device, &q, err));
    d->limits = q.properties.properties.limits;
    for (uint32_t i = 0; i < 3 && opt->max_group; i++)
        d->limits.maxComputeWorkGroupCount[i] = opt->max_group;
    d->controls = q.controls;
    if (d->forced.range && d->forced.range < d->limits.maxStorageBufferRange)
        d->limits.maxStorageBufferRange = (uint32_t)d->forced.range;
    d->caps = query_caps(&q);
    d->subgroup = q.subgroup.subgroupSize, d->coop = q.shapes;
    vkGetPhysicalDeviceMemoryProperties(d->physical, &d->memory);
    d->mapped =
        !opt->staged && !d->forced.stage && can_map(d, q.properties.properties.deviceType);
    info_fill(&d->info, &q);
    fact_add(&d->info, "memory", "%s", d->mapped ? "mapped" : "staged");
    if (opt->wrong) fact_add(&d->info, "falsified", "%s", opt->wrong);
    fact_add(&d->info, "validation", "%s", opt->validation ? "on" : "off");
    if (opt->limits && *opt->limits) fact_add(&d->info, "vk_limits", "%s", opt->limits);
    TRY(choose_heap(d, &q, opt, err));
    TRY(choose_import(d, &q, opt->import, err));
    TRY(logical_new(d, &q, err));
    *out = d, d = NULL;
out:
    ds4_mem_free(q.extension);
    ds4_vk_device_close(d);
    return st;
}

void ds4_vk_device_close(ds4_vk_device *d) {
    if (!d) return;
    if (d->device) vkDestroyDevice(d->device, NULL);
    if (d->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy =
            (PFN_vkDestroyDebugUtilsMessengerEXT)(void (*)(void))vkGetInstanceProcAddr(
                d->instance, "vkDestroyDebugUtilsMessengerEXT");
        if (destroy) destroy(d->instance, d->messenger, NULL);
    }
    if (d->instance) vkDestroyInstance(d->instance, NULL);
    pthread_mutex_destroy(&d->lock);
    ds4_mem_free(d);
}

ds4_status ds4_vk_device_list(ds4_vk_device_info **out, uint32_t *n, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkInstance instance = NULL;
    VkPhysicalDevice *list = NULL;
    ds4_vk_device_info *info = NULL;
    struct query q = {0};
    ds4_err first = {0};
    uint32_t count = 0;

    st = instance_new(&instance, NULL, &first);
    if (st == DS4_ERR_ENVIRONMENT) {
        st = DS4_OK; /* a loader without drivers: an empty list */
    } else if (st != DS4_OK) {
        RAISE(st, "%s", first.message);
    } else {
        TRY(physical_list(instance, &list, &count, err));
    }
    TRY(ds4_mem_alloc(&info, count, sizeof *info, err));
    for (uint32_t i = 0; i < count; i++) {
        ds4_mem_free(q.extension), q.extension = NULL;
        TRY(query_init(&q, instance, list[i], err));
        info_fill(&info[i], &q);
    }
    *out = info, *n = count, info = NULL;
out:
    ds4_mem_free(q.extension);
    ds4_mem_free(info);
    ds4_mem_free(list);
    if (instance) vkDestroyInstance(instance, NULL);
    return st;
}

uint32_t ds4_vk_device_memory_type(const ds4_vk_device *d, uint32_t allowed,
                                   VkMemoryPropertyFlags want, VkMemoryPropertyFlags like) {
    for (uint32_t pass = 0; pass < 2; pass++) {
        VkMemoryPropertyFlags all = pass == 0 ? want | like : want;
        for (uint32_t i = 0; i < d->memory.memoryTypeCount; i++)
            if ((allowed >> i & 1u) && (d->memory.memoryTypes[i].propertyFlags & all) == all)
                return i;
    }
    return UINT32_MAX;
}
