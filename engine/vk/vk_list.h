#ifndef DS4_VK_LIST_H
#define DS4_VK_LIST_H
/* The commands of one submission: their shape, and an order for them with barriers only between
 * levels. Nothing here talks to the device. */
#include <vulkan/vulkan.h>

#include "engine/ops/backend.h"

#define DS4_VK_BATCH_CALLS 128 /* commands of one list */

/* What a recorded command buffer holds of a command. Arguments and group counts are read from
 * memory when it runs. Nodes are
 * compared as bytes: every field is set and there is no padding. */
typedef struct ds4_vk_node {
    VkPipeline pipeline;         /* NULL: a copy of bind[0] to bind[1], or with n_bind 1 a fill
                                    of bind[0] with zeros */
    VkBuffer bind[DS4_MAX_BIND]; /* n_bind of them */
    struct {
        uint64_t off, n; /* the bytes of bind[i] that a call uses; n 0: all from off on */
    } view[DS4_MAX_BIND];
    uint64_t off[2], n_bytes; /* of a copy or a fill */
    uint32_t n_bind;
    uint32_t writes; /* bit i: bind[i] is written, and maybe read; the others are read */
} ds4_vk_node;

typedef struct ds4_vk_list {
    uint32_t n;
    ds4_vk_node node[DS4_VK_BATCH_CALLS];
} ds4_vk_list;

uint64_t ds4_vk_list_hash(const ds4_vk_list *l);
bool ds4_vk_list_equal(const ds4_vk_list *a, const ds4_vk_list *b);
bool ds4_vk_list_uses(const ds4_vk_list *l, VkBuffer buffer);
bool ds4_vk_list_runs(const ds4_vk_list *l, VkPipeline pipeline);

/* The order to record a list in: nodes of one level do not depend on each other and stand
 * together; a barrier belongs in front of each level but the first. */
typedef struct ds4_vk_schedule {
    uint32_t node[DS4_VK_BATCH_CALLS]; /* by rising level, within one as listed */
    bool barrier[DS4_VK_BATCH_CALLS];  /* in front of node[i] */
} ds4_vk_schedule;

/* Two nodes depend on each other when they have bytes in common that one of them writes; the
 * later one then stands at a higher level. Copies and fills count as using whole buffers. */
void ds4_vk_list_schedule(ds4_vk_schedule *out, const ds4_vk_list *l);

#endif
