#include "engine/vk/vk_graph.h"

#include "engine/base/mem.h"

#define PUSH_BYTES 128u

/* A batch is free, then recording, then running, then free again. */
struct batch {
    VkCommandBuffer cmd;
    VkFence fence;
    VkDescriptorSet set[DS4_VK_BATCH_CALLS]; /* rewritten by each use of the batch */
    uint32_t n_call, n_command;
    uint64_t serial;
    bool recording, running;
};

struct ds4_vk_graph {
    ds4_vk_device *d;
    VkDescriptorSetLayout set_layout;
    VkPipelineLayout layout;
    VkDescriptorPool pool;
    VkCommandPool commands;
    struct batch batch[DS4_VK_BATCHES];
    uint32_t i_batch;      /* the one to record into; serial of its next submit below */
    uint64_t serial, done; /* batches are numbered from 1 */
    bool dirty;            /* something was recorded since the last full wait */
    VkPipeline bound;      /* in the batch being recorded */
    bool broken;
};

static ds4_status layout_new(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkDescriptorSetLayoutBinding bind[DS4_MAX_BIND];
    VkPushConstantRange push = {VK_SHADER_STAGE_COMPUTE_BIT, 0, PUSH_BYTES};
    VkDescriptorSetLayoutCreateInfo set = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = DS4_MAX_BIND,
        .pBindings = bind};
    VkPipelineLayoutCreateInfo info = {.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
                                       .setLayoutCount = 1,
                                       .pSetLayouts = &g->set_layout,
                                       .pushConstantRangeCount = 1,
                                       .pPushConstantRanges = &push};

    for (uint32_t i = 0; i < DS4_MAX_BIND; i++)
        bind[i] = (VkDescriptorSetLayoutBinding){i, VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1,
                                                 VK_SHADER_STAGE_COMPUTE_BIT, NULL};
    TRYVK("descriptor layout",
          vkCreateDescriptorSetLayout(g->d->device, &set, NULL, &g->set_layout));
    TRYVK("pipeline layout", vkCreatePipelineLayout(g->d->device, &info, NULL, &g->layout));
out:
    return st;
}

static ds4_status pools_new(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t n_set = DS4_VK_BATCHES * DS4_VK_BATCH_CALLS;
    VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, n_set * DS4_MAX_BIND};
    VkDescriptorPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
                                       .maxSets = n_set,
                                       .poolSizeCount = 1,
                                       .pPoolSizes = &size};
    VkCommandPoolCreateInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                        .flags =
                                            VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                        .queueFamilyIndex = g->d->queue_family};

    TRYVK("descriptor pool", vkCreateDescriptorPool(g->d->device, &pool, NULL, &g->pool));
    TRYVK("command pool", vkCreateCommandPool(g->d->device, &commands, NULL, &g->commands));
out:
    return st;
}

static ds4_status batch_init(ds4_vk_graph *g, struct batch *b, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkDescriptorSetLayout layout[DS4_VK_BATCH_CALLS];
    VkDescriptorSetAllocateInfo sets = {.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
                                        .descriptorPool = g->pool,
                                        .descriptorSetCount = DS4_VK_BATCH_CALLS,
                                        .pSetLayouts = layout};
    VkCommandBufferAllocateInfo cmd = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
                                       .commandPool = g->commands,
                                       .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
                                       .commandBufferCount = 1};
    VkFenceCreateInfo fence = {.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO};

    for (uint32_t i = 0; i < DS4_VK_BATCH_CALLS; i++) layout[i] = g->set_layout;
    TRYVK("descriptor sets", vkAllocateDescriptorSets(g->d->device, &sets, b->set));
    TRYVK("command buffer", vkAllocateCommandBuffers(g->d->device, &cmd, &b->cmd));
    TRYVK("fence", vkCreateFence(g->d->device, &fence, NULL, &b->fence));
out:
    return st;
}

ds4_status ds4_vk_graph_new(ds4_vk_graph **out, ds4_vk_device *d, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_graph *g = NULL;

    TRY(ds4_mem_alloc(&g, 1, sizeof *g, err));
    g->d = d;
    g->serial = 1;
    TRY(layout_new(g, err));
    TRY(pools_new(g, err));
    for (uint32_t i = 0; i < DS4_VK_BATCHES; i++) TRY(batch_init(g, &g->batch[i], err));
    *out = g, g = NULL;
out:
    ds4_vk_graph_free(g);
    return st;
}

void ds4_vk_graph_free(ds4_vk_graph *g) {
    if (!g) return;
    VkDevice dev = g->d->device;
    (void)vkDeviceWaitIdle(dev); /* a lost device is as idle as it gets */
    for (uint32_t i = 0; i < DS4_VK_BATCHES; i++) vkDestroyFence(dev, g->batch[i].fence, NULL);
    vkDestroyCommandPool(dev, g->commands, NULL);
    vkDestroyDescriptorPool(dev, g->pool, NULL);
    vkDestroyPipelineLayout(dev, g->layout, NULL);
    vkDestroyDescriptorSetLayout(dev, g->set_layout, NULL);
    ds4_mem_free(g);
}

VkPipelineLayout ds4_vk_graph_layout(const ds4_vk_graph *g) { return g->layout; }
uint64_t ds4_vk_graph_serial(const ds4_vk_graph *g) { return g->serial; }
uint64_t ds4_vk_graph_done(const ds4_vk_graph *g) { return g->done; }

/* All earlier writes are visible to all later reads of `stage`, across batches too: a barrier
 * covers everything before it on the queue. */
static void barrier(VkCommandBuffer cmd, VkPipelineStageFlags stage, VkAccessFlags access) {
    const VkPipelineStageFlags src =
        VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT;
    VkMemoryBarrier all = {.sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER,
                           .srcAccessMask =
                               VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                           .dstAccessMask = access};
    vkCmdPipelineBarrier(cmd, src, stage, 0, 1, &all, 0, NULL, 0, NULL);
}

static ds4_status batch_wait(ds4_vk_graph *g, struct batch *b, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (!b->running) return DS4_OK;
    VkResult r = vkWaitForFences(g->d->device, 1, &b->fence, VK_TRUE,
                                 (uint64_t)DS4_VK_TIMEOUT_S * 1000000000u);
    if (r == VK_TIMEOUT) {
        g->broken = true;
        RAISE(DS4_ERR_ENVIRONMENT, "the device has not finished %u kernels within %d s",
              b->n_call, DS4_VK_TIMEOUT_S);
    }
    if (r != VK_SUCCESS) g->broken = true;
    TRYVK("waiting for the device", r);
    b->running = false;
    g->done = b->serial;
    TRYVK("fence", vkResetFences(g->d->device, 1, &b->fence));
out:
    return st;
}

static ds4_status batch_submit(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct batch *b = &g->batch[g->i_batch];
    VkSubmitInfo submit = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO,
                           .commandBufferCount = 1,
                           .pCommandBuffers = &b->cmd};

    if (!b->recording) return DS4_OK;
    barrier(b->cmd, VK_PIPELINE_STAGE_HOST_BIT,
            VK_ACCESS_HOST_READ_BIT | VK_ACCESS_HOST_WRITE_BIT);
    g->broken = true; /* until the submit has worked */
    TRYVK("command buffer", vkEndCommandBuffer(b->cmd));
    b->recording = false;
    TRYVK("submit", vkQueueSubmit(g->d->queue, 1, &submit, b->fence));
    g->broken = false;
    b->running = true;
    b->serial = g->serial++;
    g->i_batch = (g->i_batch + 1) % DS4_VK_BATCHES;
out:
    return st;
}

/* The batch to record the next command into; submits a full one. A barrier stands between any
 * two commands. */
static ds4_status begin(ds4_vk_graph *g, struct batch **out, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct batch *b = &g->batch[g->i_batch];
    VkCommandBufferBeginInfo info = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
                                     .flags = VK_COMMAND_BUFFER_USAGE_ONE_TIME_SUBMIT_BIT};

    if (g->broken)
        RAISE(DS4_ERR_ENVIRONMENT, "the device stopped working earlier; open the engine again");
    if (b->recording &&
        (b->n_call == DS4_VK_BATCH_CALLS || b->n_command == 4 * DS4_VK_BATCH_CALLS)) {
        TRY(batch_submit(g, err));
        b = &g->batch[g->i_batch];
    }
    if (!b->recording) {
        TRY(batch_wait(g, b, err));
        TRYVK("command buffer", vkBeginCommandBuffer(b->cmd, &info));
        b->recording = true;
        b->n_call = b->n_command = 0;
        g->bound = VK_NULL_HANDLE;
    }
    if (g->dirty)
        barrier(b->cmd, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT |
                    VK_ACCESS_TRANSFER_READ_BIT | VK_ACCESS_TRANSFER_WRITE_BIT);
    g->dirty = true;
    b->n_command++;
    *out = b;
out:
    return st;
}

bool ds4_vk_graph_must_split(const ds4_vk_graph *g, const uint32_t group[3]) {
    const uint32_t *most = g->d->limits.maxComputeWorkGroupCount;
    return group[0] > most[0] || group[1] > most[1] || group[2] > most[2];
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* Blocks of at most the device's limit; groups are independent, so no barrier between them. */
static void dispatch_split(VkCommandBuffer cmd, const uint32_t group[3],
                           const uint32_t most[3]) {
    for (uint64_t z = 0; z < group[2]; z += most[2])
        for (uint64_t y = 0; y < group[1]; y += most[1])
            for (uint64_t x = 0; x < group[0]; x += most[0])
                vkCmdDispatchBase(cmd, (uint32_t)x, (uint32_t)y, (uint32_t)z,
                                  min_u32(group[0] - (uint32_t)x, most[0]),
                                  min_u32(group[1] - (uint32_t)y, most[1]),
                                  min_u32(group[2] - (uint32_t)z, most[2]));
}

ds4_status ds4_vk_graph_dispatch(ds4_vk_graph *g, const ds4_vk_dispatch *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct batch *b = NULL;
    VkDescriptorBufferInfo buffer[DS4_MAX_BIND];
    VkWriteDescriptorSet write = {.sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
                                  .descriptorCount =
                                      DS4_MAX_BIND, /* runs on over the bindings */
                                  .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
                                  .pBufferInfo = buffer};

    TRY(begin(g, &b, err));
    /* Unused bindings get the first buffer: a set is used again, and Mesa 22.3's llvmpipe looks
     * at every binding of a set, also at one whose buffer was freed since. */
    for (uint32_t i = 0; i < DS4_MAX_BIND; i++)
        buffer[i] = (VkDescriptorBufferInfo){c->bind[i < c->n_bind ? i : 0], 0, VK_WHOLE_SIZE};
    write.dstSet = b->set[b->n_call++];
    vkUpdateDescriptorSets(g->d->device, 1, &write, 0, NULL);
    if (g->bound != c->pipeline)
        vkCmdBindPipeline(b->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, g->bound = c->pipeline);
    vkCmdBindDescriptorSets(b->cmd, VK_PIPELINE_BIND_POINT_COMPUTE, g->layout, 0, 1,
                            &write.dstSet, 0, NULL);
    vkCmdPushConstants(b->cmd, g->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0, c->args_bytes,
                       c->args);
    if (c->split) dispatch_split(b->cmd, c->group, g->d->limits.maxComputeWorkGroupCount);
    else vkCmdDispatch(b->cmd, c->group[0], c->group[1], c->group[2]);
out:
    return st;
}

ds4_status ds4_vk_graph_zero(ds4_vk_graph *g, VkBuffer dst, uint64_t off, uint64_t n_bytes,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    struct batch *b = NULL;
    TRY(begin(g, &b, err));
    vkCmdFillBuffer(b->cmd, dst, off, n_bytes, 0);
out:
    return st;
}

ds4_status ds4_vk_graph_copy(ds4_vk_graph *g, VkBuffer dst, uint64_t dst_off, VkBuffer src,
                             uint64_t src_off, uint64_t n_bytes, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct batch *b = NULL;
    VkBufferCopy region = {src_off, dst_off, n_bytes};
    TRY(begin(g, &b, err));
    vkCmdCopyBuffer(b->cmd, src, dst, 1, &region);
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

ds4_status ds4_vk_graph_sync(ds4_vk_graph *g, ds4_err *err) {
    ds4_status st = DS4_OK;

    if (g->broken)
        RAISE(DS4_ERR_ENVIRONMENT, "the device stopped working earlier; open the engine again");
    TRY(batch_submit(g, err));
    /* From the oldest on, so that done only grows. */
    for (uint32_t i = 0; i < DS4_VK_BATCHES; i++)
        TRY(batch_wait(g, &g->batch[(g->i_batch + i) % DS4_VK_BATCHES], err));
    g->dirty = false;
    if (g->d->messenger) TRY(check_messages(g->d, err));
out:
    return st;
}
