#include "engine/vk/vk_graph.h"

#include <string.h>

#include "engine/base/mem.h"

enum { SET_BUFFERS, SET_ARGS, N_SET };

/* A recorded command buffer. It holds no list (list.n is 0), is idle or is running. */
struct record {
    VkCommandBuffer cmd;
    VkFence fence;
    VkDescriptorPool pool;
    ds4_vk_list list;
    uint64_t hash; /* of list */
    uint64_t serial;
    bool running;
};

/* What one call of a record reads when it runs. */
struct slot {
    uint8_t args[DS4_VK_ARGS_BYTES];
    VkDispatchIndirectCommand group;
};

struct ds4_vk_graph {
    ds4_vk_device *d;
    bool replay;
    VkDescriptorSetLayout set_layout[N_SET];
    VkPipelineLayout layout;
    VkCommandPool commands;
    /* Slots of all records in one buffer; one set shows them, at an offset per call. */
    VkBuffer slots;
    VkDeviceMemory slots_memory;
    uint8_t *slots_map;
    uint32_t slot_bytes;
    VkDescriptorPool args_pool;
    VkDescriptorSet args_set;

    struct record *record[DS4_VK_RECORDS];
    uint32_t n_record;
    struct record *running[DS4_VK_BATCHES]; /* oldest first */
    uint32_t n_running;

    ds4_vk_list list; /* being collected, with the slots of its calls */
    struct slot slot[DS4_VK_BATCH_CALLS];
    uint64_t serial, done; /* lists are numbered from 1; serial is that of `list` */
    ds4_vk_graph_stats stats;
    bool broken, hung; /* hung: broken by a wait that took too long */
};

static ds4_status layout_new(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkDescriptorSetLayoutBinding bind[DS4_MAX_BIND],
        args = {0, VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER_DYNAMIC, 1, VK_SHADER_STAGE_COMPUTE_BIT,
                NULL};
    VkDescriptorSetLayoutCreateInfo set[N_SET] = {
        {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
         .bindingCount = DS4_MAX_BIND,
         .pBindings = bind},
        {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
         .bindingCount = 1,
         .pBindings = &args}};
    VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                       .setLayoutCount = N_SET,
                                       .pSetLayouts = g->set_layout};

    for (uint32_t i = 0; i < DS4_MAX_BIND; i++)
        bind[i] = (VkDescriptorSetLayoutBinding){i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
                                                 VK_SHADER_STAGE_COMPUTE_BIT, NULL};
    for (uint32_t i = 0; i < N_SET; i++)
        TRYVK("descriptor layout",
              vkCreateDescriptorSetLayout(g->d->device, &set[i], NULL, &g->set_layout[i]));
    TRYVK("pipeline layout", vkCreatePipelineLayout(g->d->device, &info, NULL, &g->layout));
out:
    return st;
}

static ds4_status pools_new(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER_DYNAMIC, 1};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = 1,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    VkCommandPoolCreateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                        .flags =
                                            VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                        .queueFamilyIndex = g->d->queue_family};

    TRYVK("descriptor pool", vkCreateDescriptorPool(g->d->device, &pool, NULL, &g->args_pool));
    TRYVK("command pool", vkCreateCommandPool(g->d->device, &commands, NULL, &g->commands));
out:
    return st;
}

/* Mapped memory for the slots of every record. */
static ds4_status slots_new(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    const VkMemoryPropertyFlags host =
        VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    const uint32_t align = (uint32_t)g->d->limits.minUniformBufferOffsetAlignment;
    VkMemoryRequirements need;
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .usage = VK_BUFFER_USAGE_UNIFORM_BUFFER_BIT |
                                        VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT};
    VkMemoryAllocateInfo alloc = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};
    void *map = NULL;

    g->slot_bytes = (uint32_t)sizeof(struct slot);
    if (align > 1) g->slot_bytes = (g->slot_bytes + align - 1) / align * align;
    info.size = (VkDeviceSize)DS4_VK_RECORDS * DS4_VK_BATCH_CALLS * g->slot_bytes;
    TRYVK("argument memory", vkCreateBuffer(g->d->device, &info, NULL, &g->slots));
    vkGetBufferMemoryRequirements(g->d->device, g->slots, &need);
    alloc.allocationSize = need.size;
    alloc.memoryTypeIndex = ds4_vk_device_memory_type(g->d, need.memoryTypeBits, host,
                                                      VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT);
    TRYVK("argument memory", ds4_vk_allocate(g->d, &alloc, &g->slots_memory));
    g->d->n_memory++;
    TRYVK("argument memory", vkBindBufferMemory(g->d->device, g->slots, g->slots_memory, 0));
    TRYVK("argument memory",
          vkMapMemory(g->d->device, g->slots_memory, 0, VK_WHOLE_SIZE, 0, &map));
    g->slots_map = map;
out:
    return st;
}

static ds4_status args_set_new(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkDescriptorSetAllocateInfo info = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = g->args_pool,
                                        .descriptorSetCount = 1,
                                        .pSetLayouts = &g->set_layout[SET_ARGS]};
    VkDescriptorBufferInfo buffer = {g->slots, 0, DS4_VK_ARGS_BYTES};
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .descriptorCount = 1,
                                  .descriptorType = VK_DESCRIPTOR_TYPE_UNIFORM_BUFFER_DYNAMIC,
                                  .pBufferInfo = &buffer};

    TRYVK("descriptor set", vkAllocateDescriptorSets(g->d->device, &info, &g->args_set));
    write.dstSet = g->args_set;
    vkUpdateDescriptorSets(g->d->device, 1, &write, 0, NULL);
out:
    return st;
}

ds4_status ds4_vk_graph_new(ds4_vk_graph **out, ds4_vk_device *d, bool replay, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_graph *g = NULL;

    TRY(ds4_mem_alloc(&g, 1, sizeof *g, err));
    g->d = d, g->replay = replay;
    g->serial = 1;
    TRY(layout_new(g, err));
    TRY(pools_new(g, err));
    TRY(slots_new(g, err));
    TRY(args_set_new(g, err));
    *out = g, g = NULL;
out:
    ds4_vk_graph_free(g);
    return st;
}

/* Its command buffer goes with the pool. */
static void record_free(ds4_vk_graph *g, struct record *r) {
    if (!r) return;
    vkDestroyFence(g->d->device, r->fence, NULL);
    vkDestroyDescriptorPool(g->d->device, r->pool, NULL);
    ds4_mem_free(r);
}

void ds4_vk_graph_free(ds4_vk_graph *g) {
    if (!g) return;
    VkDevice dev = g->d->device;

    for (uint32_t i = 0; i < g->n_record; i++) record_free(g, g->record[i]);
    vkDestroyCommandPool(dev, g->commands, NULL);
    vkDestroyDescriptorPool(dev, g->args_pool, NULL);
    vkDestroyBuffer(dev, g->slots, NULL);
    if (g->slots_memory) g->d->n_memory--;
    vkFreeMemory(dev, g->slots_memory, NULL); /* unmaps */
    vkDestroyPipelineLayout(dev, g->layout, NULL);
    for (uint32_t i = 0; i < N_SET; i++)
        vkDestroyDescriptorSetLayout(dev, g->set_layout[i], NULL);
    ds4_mem_free(g);
}

VkPipelineLayout ds4_vk_graph_layout(const ds4_vk_graph *g) { return g->layout; }
uint64_t ds4_vk_graph_serial(const ds4_vk_graph *g) { return g->serial; }
uint64_t ds4_vk_graph_done(const ds4_vk_graph *g) { return g->done; }
ds4_vk_graph_stats ds4_vk_graph_count(const ds4_vk_graph *g) { return g->stats; }

const ds4_vk_list *ds4_vk_graph_recorded(const ds4_vk_graph *g, uint32_t i) {
    return i < g->n_record ? &g->record[i]->list : NULL;
}

/* ---- records ---- */

static ds4_status record_new(ds4_vk_graph *g, struct record **out, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct record *r = NULL;
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                 DS4_VK_BATCH_CALLS * DS4_MAX_BIND};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = DS4_VK_BATCH_CALLS,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    VkCommandBufferAllocateInfo cmd = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                       .commandPool = g->commands,
                                       .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                       .commandBufferCount = 1};
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};

    TRY(ds4_mem_alloc(&r, 1, sizeof *r, err));
    TRYVK("descriptor pool", vkCreateDescriptorPool(g->d->device, &pool, NULL, &r->pool));
    TRYVK("command buffer", vkAllocateCommandBuffers(g->d->device, &cmd, &r->cmd));
    TRYVK("fence", vkCreateFence(g->d->device, &fence, NULL, &r->fence));
    g->record[g->n_record++] = r;
    *out = r, r = NULL;
out:
    record_free(g, r);
    return st;
}

/* An idle record of the list's shape, or NULL. */
static struct record *find(const ds4_vk_graph *g, uint64_t hash) {
    for (uint32_t i = 0; g->replay && i < g->n_record; i++) {
        struct record *r = g->record[i];
        if (!r->running && r->hash == hash && ds4_vk_list_equal(&r->list, &g->list)) return r;
    }
    return NULL;
}

/* A record to write: an empty one, a new one while there is room, or the idle one that has not
 * been used for longest. */
static ds4_status vacate(ds4_vk_graph *g, struct record **out, ds4_err *err) {
    struct record *oldest = NULL;
    for (uint32_t i = 0; i < g->n_record; i++) {
        struct record *r = g->record[i];
        if (r->running) continue;
        if (!oldest || (r->list.n ? r->serial : 0) < (oldest->list.n ? oldest->serial : 0))
            oldest = r;
    }
    if (g->n_record < DS4_VK_RECORDS && (!oldest || (oldest->list.n && g->replay)))
        return record_new(g, out, err);
    *out = oldest;
    return DS4_OK;
}

static void barrier(VkCommandBuffer cmd, VkPipelineStageFlags stage, VkAccessFlags access) {
    const VkPipelineStageFlags src =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkMemoryBarrier all = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                           .srcAccessMask =
                               VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                           .dstAccessMask = access};
    vkCmdPipelineBarrier(cmd, src, stage, 0, 1, &all, 0, NULL, 0, NULL);
}

/* Everything before is done and visible to the commands that follow; across submissions too,
 * for a barrier covers all that the queue was given before. */
static void barrier_device(VkCommandBuffer cmd) {
    barrier(cmd, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
            VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
}

/* Where slot i of a record stands in the slot memory. */
static uint32_t slot_at(const ds4_vk_graph *g, const struct record *r, uint32_t i) {
    uint32_t at = 0;
    while (g->record[at] != r) at++;
    return (at * DS4_VK_BATCH_CALLS + i) * g->slot_bytes;
}

/* at: of the call's slot. *bound: the pipeline of the dispatch before. */
static void record_dispatch(const ds4_vk_graph *g, const struct record *r, const ds4_vk_node *n,
                            VkDescriptorSet set, uint32_t at, VkPipeline *bound) {
    const VkDescriptorSet sets[N_SET] = {set, g->args_set};
    VkDescriptorBufferInfo buffer[DS4_MAX_BIND];
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .dstSet = set,
                                  .descriptorCount =
                                      DS4_MAX_BIND, /* runs on over the bindings */
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                  .pBufferInfo = buffer};

    /* Unused bindings get the first buffer: Mesa 22.3's llvmpipe looks at every binding of a
     * set, also at one that no kernel reads. */
    for (uint32_t i = 0, k; i < DS4_MAX_BIND; i++) {
        k = i < n->n_bind ? i : 0;
        buffer[i] = (VkDescriptorBufferInfo){n->bind[k], n->view[k].off,
                                             n->view[k].n ? n->view[k].n : VK_WHOLE_SIZE};
    }
    vkUpdateDescriptorSets(g->d->device, 1, &write, 0, NULL);
    if (*bound != n->pipeline)
        vkCmdBindPipeline(r->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, *bound = n->pipeline);
    vkCmdBindDescriptorSets(r->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, g->layout, 0, N_SET, sets,
                            1, &at);
    vkCmdDispatchIndirect(r->cmd, g->slots, at + offsetof(struct slot, group));
}

static void record_transfer(VkCommandBuffer cmd, const ds4_vk_node *n) {
    VkBufferCopy region = {n->off[0], n->off[1], n->n_bytes};
    if (n->n_bind == 1) vkCmdFillBuffer(cmd, n->bind[0], n->off[0], n->n_bytes, 0);
    else vkCmdCopyBuffer(cmd, n->bind[0], n->bind[1], 1, &region);
}

/* Records the collected list into r. */
static ds4_status record(ds4_vk_graph *g, struct record *r, uint64_t hash, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkDescriptorSetLayout layout[DS4_VK_BATCH_CALLS];
    VkDescriptorSet set[DS4_VK_BATCH_CALLS];
    VkDescriptorSetAllocateInfo sets = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = r->pool,
                                        .descriptorSetCount = g->list.n,
                                        .pSetLayouts = layout};
    VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    VkPipeline bound = VK_NULL_HANDLE;
    ds4_vk_schedule order;

    r->list.n = 0;
    for (uint32_t i = 0; i < g->list.n; i++) layout[i] = g->set_layout[SET_BUFFERS];
    TRYVK("descriptor pool", vkResetDescriptorPool(g->d->device, r->pool, 0));
    TRYVK("descriptor sets", vkAllocateDescriptorSets(g->d->device, &sets, set));
    ds4_vk_list_schedule(&order, &g->list);
    TRYVK("command buffer", vkBeginCommandBuffer(r->cmd, &begin));
    barrier_device(r->cmd); /* lists before may still run */
    for (uint32_t i = 0; i < g->list.n; i++) {
        const ds4_vk_node *n = &g->list.node[order.node[i]];
        if (order.barrier[i]) barrier_device(r->cmd);
        g->stats.n_barrier += order.barrier[i];
        if (!n->pipeline) record_transfer(r->cmd, n);
        else record_dispatch(g, r, n, set[i], slot_at(g, r, order.node[i]), &bound);
    }
    barrier(r->cmd, VK_PIPELINE_STAGE_HOST_BIT,
            VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT);
    TRYVK("command buffer", vkEndCommandBuffer(r->cmd));
    memcpy(r->list.node, g->list.node, g->list.n * sizeof *g->list.node);
    r->list.n = g->list.n, r->hash = hash;
    g->stats.n_call += g->list.n;
out:
    return st;
}

static void record_drop(ds4_vk_graph *g, struct record *r) {
    r->list.n = 0;
    g->stats.n_forgotten++;
    if (!r->running) (void)vkResetCommandBuffer(r->cmd, 0); /* memory at most is lost */
}

void ds4_vk_graph_forget(ds4_vk_graph *g, VkBuffer buffer) {
    for (uint32_t i = 0; buffer && i < g->n_record; i++)
        if (ds4_vk_list_uses(&g->record[i]->list, buffer)) record_drop(g, g->record[i]);
}

void ds4_vk_graph_forget_pipeline(ds4_vk_graph *g, VkPipeline pipeline) {
    for (uint32_t i = 0; pipeline && i < g->n_record; i++)
        if (ds4_vk_list_runs(&g->record[i]->list, pipeline)) record_drop(g, g->record[i]);
}

/* ---- submitting ---- */

/* Waits for the list that has run for longest. */
static ds4_status wait_oldest(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct record *r = g->running[0];
    VkResult result = ds4_vk_wait(g->d, r->fence);
    if (result == VK_TIMEOUT) {
        g->broken = g->hung = true;
        RAISE(DS4_ERR_ENVIRONMENT,
              "the device has not finished %u kernels within %u s: it hangs, or is slow "
              "(DS4_VK_LIMITS=timeout=S waits longer)",
              r->list.n, ds4_vk_timeout_s(g->d));
    }
    if (result != VK_SUCCESS) g->broken = true;
    TRYVK("waiting for the device", result);
    r->running = false;
    g->done = r->serial;
    memmove(g->running, g->running + 1, --g->n_running * sizeof *g->running);
    TRYVK("fence", vkResetFences(g->d->device, 1, &r->fence));
out:
    return st;
}

/* Runs the collected list by a record of its shape, which is made where there is none. */
static ds4_status submit(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint64_t hash = ds4_vk_list_hash(&g->list);
    VkSubmitInfo info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO, .commandBufferCount = 1};

    if (g->list.n == 0) return DS4_OK;
    if (g->n_running == DS4_VK_BATCHES) TRY(wait_oldest(g, err));
    g->broken = true; /* until the submit has worked */
    struct record *r = find(g, hash);
    const bool replay = r != NULL;
    if (!replay) {
        TRY(vacate(g, &r, err));
        TRY(record(g, r, hash, err));
    }
    for (uint32_t i = 0; i < g->list.n; i++)
        memcpy(g->slots_map + slot_at(g, r, i), &g->slot[i], sizeof g->slot[i]);
    info.pCommandBuffers = &r->cmd;
    TRYVK("submit", ds4_vk_submit(g->d, &info, r->fence));
    g->broken = false;
    *(replay ? &g->stats.n_replayed : &g->stats.n_recorded) += 1;
    r->running = true, r->serial = g->serial++;
    g->running[g->n_running++] = r;
    g->list.n = 0;
out:
    return st;
}

/* The node and slot of the next command, cleared; submits a full list. */
static ds4_status next(ds4_vk_graph *g, ds4_vk_node **node, struct slot **slot, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (g->broken)
        RAISE(DS4_ERR_ENVIRONMENT, "the device stopped working earlier; open the engine again");
    if (g->list.n == DS4_VK_BATCH_CALLS) TRY(submit(g, err));
    *node = &g->list.node[g->list.n], *slot = &g->slot[g->list.n];
    memset(*node, 0, sizeof **node), memset(*slot, 0, sizeof **slot);
    g->list.n++;
out:
    return st;
}

ds4_status ds4_vk_graph_dispatch(ds4_vk_graph *g, const ds4_vk_dispatch *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_node *n = NULL;
    struct slot *s = NULL;

    TRY(next(g, &n, &s, err));
    n->pipeline = c->pipeline, n->n_bind = c->n_bind, n->writes = c->writes;
    memcpy(n->bind, c->bind, c->n_bind * sizeof *n->bind);
    for (uint32_t i = 0; i < c->n_bind; i++) n->view[i].off = c->off[i], n->view[i].n = c->n[i];
    memcpy(s->args, c->args, c->args_bytes);
    s->group = (VkDispatchIndirectCommand){c->group[0], c->group[1], c->group[2]};
out:
    return st;
}

ds4_status ds4_vk_graph_zero(ds4_vk_graph *g, VkBuffer dst, uint64_t off, uint64_t n_bytes,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_node *n = NULL;
    struct slot *s = NULL;
    TRY(next(g, &n, &s, err));
    n->bind[0] = dst, n->n_bind = 1, n->writes = 1;
    n->off[0] = off, n->n_bytes = n_bytes;
out:
    return st;
}

ds4_status ds4_vk_graph_copy(ds4_vk_graph *g, VkBuffer dst, uint64_t dst_off, VkBuffer src,
                             uint64_t src_off, uint64_t n_bytes, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_node *n = NULL;
    struct slot *s = NULL;
    TRY(next(g, &n, &s, err));
    n->bind[0] = src, n->bind[1] = dst, n->n_bind = 2, n->writes = 2;
    n->off[0] = src_off, n->off[1] = dst_off, n->n_bytes = n_bytes;
out:
    return st;
}

static ds4_status check_messages(const ds4_vk_device *d, ds4_err *err) {
    char text[256];
    uint32_t n = ds4_vk_device_messages(d, text, sizeof text);
    if (n == 0) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE,
                       "%u Vulkan validation messages, first: %s", n, text);
}

/* A lost device is idle at once. */
bool ds4_vk_graph_settle(ds4_vk_graph *g) {
    if (g->hung) return false;
    (void)vkDeviceWaitIdle(g->d->device);
    return true;
}

ds4_status ds4_vk_graph_sync(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;

    if (g->broken)
        RAISE(DS4_ERR_ENVIRONMENT, "the device stopped working earlier; open the engine again");
    TRY(submit(g, err));
    while (g->n_running) TRY(wait_oldest(g, err));
    if (g->d->messenger) TRY(check_messages(g->d, err));
out:
    return st;
}
