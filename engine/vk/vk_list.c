#include "engine/vk/vk_list.h"

#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

_Static_assert(sizeof(ds4_vk_node) ==
                   sizeof(VkPipeline) + DS4_MAX_BIND * (sizeof(VkBuffer) + 16) + 3 * 8 + 2 * 4,
               "nodes are compared as bytes");

uint64_t ds4_vk_list_hash(const ds4_vk_list *l) {
    return XXH3_64bits(l->node, l->n * sizeof *l->node);
}

bool ds4_vk_list_equal(const ds4_vk_list *a, const ds4_vk_list *b) {
    return a->n == b->n && !memcmp(a->node, b->node, a->n * sizeof *a->node);
}

bool ds4_vk_list_uses(const ds4_vk_list *l, VkBuffer buffer) {
    for (uint32_t i = 0; i < l->n; i++)
        for (uint32_t k = 0; k < l->node[i].n_bind; k++)
            if (l->node[i].bind[k] == buffer) return true;
    return false;
}

static bool overlap(const ds4_vk_node *a, uint32_t i, const ds4_vk_node *b, uint32_t k) {
    const uint64_t na = a->view[i].n, nb = b->view[k].n;
    return a->bind[i] == b->bind[k] && (!na || b->view[k].off < a->view[i].off + na) &&
           (!nb || a->view[i].off < b->view[k].off + nb);
}

bool ds4_vk_list_runs(const ds4_vk_list *l, VkPipeline pipeline) {
    for (uint32_t i = 0; i < l->n; i++)
        if (l->node[i].pipeline == pipeline) return true;
    return false;
}

static bool depends(const ds4_vk_node *a, const ds4_vk_node *b) {
    for (uint32_t i = 0; i < a->n_bind; i++)
        for (uint32_t k = 0; k < b->n_bind; k++)
            if (((a->writes >> i | b->writes >> k) & 1u) && overlap(a, i, b, k)) return true;
    return false;
}

void ds4_vk_list_schedule(ds4_vk_schedule *out, const ds4_vk_list *l) {
    uint32_t level[DS4_VK_BATCH_CALLS], n_level = 0, at = 0;

    for (uint32_t k = 0; k < l->n; k++) {
        level[k] = 0;
        for (uint32_t i = 0; i < k; i++)
            if (level[i] >= level[k] && depends(&l->node[i], &l->node[k]))
                level[k] = level[i] + 1;
        if (level[k] >= n_level) n_level = level[k] + 1;
    }
    for (uint32_t v = 0; v < n_level; v++)
        for (uint32_t i = 0, first = at; i < l->n; i++) {
            if (level[i] != v) continue;
            out->barrier[at] = v > 0 && at == first;
            out->node[at++] = i;
        }
}
