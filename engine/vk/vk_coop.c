#include "engine/vk/vk_coop.h"

#include <stdio.h>
#include <string.h>

static const char *type_name(uint32_t type) {
    static const struct {
        uint32_t type;
        const char *name;
    } table[] = {{0, "f16"},           {1, "f32"},          {2, "f64"},  {3, "s8"},
                 {4, "s16"},           {5, "s32"},          {6, "s64"},  {7, "u8"},
                 {8, "u16"},           {9, "u32"},          {10, "u64"}, {1000141000, "bf16"},
                 {1000491002, "e4m3"}, {1000491003, "e5m2"}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++)
        if (table[i].type == type) return table[i].name;
    return "other";
}

void ds4_vk_coop_name(char *text, size_t n, const ds4_vk_shape *s) {
    snprintf(text, n, "%ux%ux%u %sx%s+%s->%s", s->m, s->n, s->k, type_name(s->a),
             type_name(s->b), type_name(s->c), type_name(s->r));
}

static bool is_fit(const ds4_vk_shape *s, uint32_t sum) {
    return s->subgroup && !s->saturating && s->a == DS4_VK_COOP_F16 &&
           s->b == DS4_VK_COOP_F16 && s->c == sum && s->r == sum && s->m && s->n && s->k &&
           DS4_VK_TILE_ROWS % s->m == 0 && DS4_VK_TILE_COLS % s->n == 0 &&
           DS4_VK_TILE_DEPTH % s->k == 0;
}

const ds4_vk_shape *ds4_vk_coop_find(const ds4_vk_coop *c, uint32_t sum) {
    const ds4_vk_shape *best = NULL;
    for (uint32_t i = 0; i < c->n; i++) {
        const ds4_vk_shape *s = &c->shape[i];
        if (!is_fit(s, sum)) continue;
        if (!best || s->m * s->n * s->k > best->m * best->n * best->k) best = s;
    }
    return best;
}

#ifdef VK_KHR_cooperative_matrix
ds4_status ds4_vk_coop_read(ds4_vk_coop *out, VkInstance instance, VkPhysicalDevice device,
                            ds4_err *err) {
    VkCooperativeMatrixPropertiesKHR p[DS4_VK_MAX_SHAPE];
    uint32_t n = DS4_VK_MAX_SHAPE;
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR read =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(void (*)(
            void))vkGetInstanceProcAddr(instance,
                                        "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    memset(p, 0, sizeof p);
    for (uint32_t i = 0; i < n; i++)
        p[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    VkResult r = read ? read(device, &n, p) : VK_ERROR_EXTENSION_NOT_PRESENT;
    if (r != VK_SUCCESS && r != VK_INCOMPLETE)
        return ds4_err_set(err, DS4_ERR_ENVIRONMENT, DS4_HERE,
                           "cooperative matrix shapes: VkResult %d", (int)r);
    out->n = n;
    for (uint32_t i = 0; i < n; i++)
        out->shape[i] = (ds4_vk_shape){.m = p[i].MSize,
                                       .n = p[i].NSize,
                                       .k = p[i].KSize,
                                       .a = (uint32_t)p[i].AType,
                                       .b = (uint32_t)p[i].BType,
                                       .c = (uint32_t)p[i].CType,
                                       .r = (uint32_t)p[i].ResultType,
                                       .saturating = p[i].saturatingAccumulation,
                                       .subgroup = p[i].scope == VK_SCOPE_SUBGROUP_KHR};
    return DS4_OK;
}
#else
ds4_status ds4_vk_coop_read(ds4_vk_coop *out, VkInstance instance, VkPhysicalDevice device,
                            ds4_err *err) {
    (void)instance, (void)device, (void)err;
    out->n = 0;
    return DS4_OK;
}
#endif
