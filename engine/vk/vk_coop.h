#ifndef DS4_VK_COOP_H
#define DS4_VK_COOP_H
/* Cooperative matrices: the device's table of shapes and component types, and the choice of the
 * one that a kernel row is specialised for. In a build whose Vulkan headers lack
 * VK_KHR_cooperative_matrix the table is empty. */
#include <stdbool.h>
#include <vulkan/vulkan.h>

#include "engine/base/err.h"

/* R = A * B + C; A is m x k, B k x n. Component types as VkComponentTypeKHR numbers them. */
typedef struct ds4_vk_shape {
    uint32_t m, n, k, a, b, c, r;
    bool saturating, subgroup; /* of subgroup scope */
} ds4_vk_shape;

enum { DS4_VK_COOP_F16 = 0, DS4_VK_COOP_F32 = 1 }; /* of those numbers */

#define DS4_VK_MAX_SHAPE 64 /* what a device lists beyond that is not seen */

typedef struct ds4_vk_coop {
    uint32_t n;
    ds4_vk_shape shape[DS4_VK_MAX_SHAPE];
} ds4_vk_coop;

/* The group's tile of the kernels (glsl/coop.glsl): rows, columns, depth. A shape has to divide
 * it. */
enum { DS4_VK_TILE_ROWS = 64, DS4_VK_TILE_COLS = 32, DS4_VK_TILE_DEPTH = 32 };

/* The device must offer the extension. Errors: of the query. */
ds4_status ds4_vk_coop_read(ds4_vk_coop *out, VkInstance instance, VkPhysicalDevice device,
                            ds4_err *err);

/* The shape of f16 operands whose sums are of type `sum` on both sides that divides the tile:
 * the one of most products, the first of those; NULL: none. */
const ds4_vk_shape *ds4_vk_coop_find(const ds4_vk_coop *c, uint32_t sum);

/* "16x16x16 f16xf16+f32->f32". */
void ds4_vk_coop_name(char *text, size_t n, const ds4_vk_shape *s);

#endif
