#include "engine/vk/vk_buffer.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/vk/vk_experts.h"

#define HOST (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT

void ds4_vk_memory_init(ds4_vk_memory *m, ds4_vk_device *d, ds4_vk_graph *g) {
    *m = (ds4_vk_memory){.d = d, .g = g, .budget = d->heap_bytes};
}

uint64_t ds4_vk_memory_used(const ds4_vk_memory *m) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < DS4_VK_USE_COUNT; i++) n += m->used[i];
    return n;
}

void ds4_vk_memory_move(ds4_vk_memory *m, ds4_buf *b, ds4_vk_use use) {
    m->used[b->use] -= b->n_used;
    b->use = use;
    m->used[b->use] += b->n_used;
}

ds4_status ds4_vk_memory_check(const ds4_vk_memory *m, const ds4_need *need, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint64_t expert =
        need->expert > m->experts.slot_bytes ? need->expert : m->experts.slot_bytes;
    const uint64_t weights = m->used[DS4_VK_WEIGHTS] + need->weights,
                   work = m->used[DS4_VK_WORK] + need->activations,
                   staging = m->used[DS4_VK_STAGING],
                   all = weights + expert + need->kv + work + staging;
#define U(n) ((unsigned long long)(n))
    if (all > m->budget)
        RAISE(
            DS4_ERR_ENVIRONMENT,
            "the device is too small: %llu bytes are needed (weights %llu, one expert of many "
            "%llu, cached rows %llu, activations %llu, staging %llu), %llu are there, %llu are "
            "missing",
            U(all), U(weights), U(expert), U(need->kv), U(work), U(staging), U(m->budget),
            U(all - m->budget));
#undef U
out:
    return st;
}

/* Gives the device memory back. */
static void unmake(ds4_vk_memory *m, ds4_buf *b) {
    ds4_vk_graph_forget(m->g, b->buffer);
    vkDestroyBuffer(m->d->device, b->buffer, NULL);
    if (b->memory) m->d->n_memory--;
    vkFreeMemory(m->d->device, b->memory, NULL); /* unmaps */
    m->used[b->use] -= b->n_used;
    b->buffer = VK_NULL_HANDLE, b->memory = VK_NULL_HANDLE, b->map = NULL, b->n_used = 0;
    b->mapped = NULL, b->lead = 0;
}

static void release(ds4_vk_memory *m, ds4_buf *b) {
    unmake(m, b);
    *b = (ds4_buf){0};
}

/* Takes n bytes from the budget; experts give way. */
static ds4_status take(ds4_vk_memory *m, ds4_buf *b, uint64_t n, const char *name,
                       ds4_err *err) {
    ds4_status st = DS4_OK;
    if (ds4_vk_memory_used(m) + n > m->budget && n <= m->budget) ds4_vk_experts_give_way(m, n);
    uint64_t used = ds4_vk_memory_used(m);
    if (used + n > m->budget)
        RAISE(DS4_ERR_ENVIRONMENT,
              "%s: %zu bytes wanted, the device has %llu, of which %llu are in use (weights "
              "%llu, experts %llu, cached rows and activations %llu, staging %llu): %llu are "
              "missing",
              name, b->n_bytes, (unsigned long long)m->budget, (unsigned long long)used,
              (unsigned long long)m->used[DS4_VK_WEIGHTS],
              (unsigned long long)m->used[DS4_VK_EXPERTS],
              (unsigned long long)m->used[DS4_VK_WORK],
              (unsigned long long)m->used[DS4_VK_STAGING],
              (unsigned long long)(used + n - m->budget));
    b->n_used = n;
    m->used[b->use] += n;
out:
    return st;
}

/* Makes b->buffer of b->n_padded bytes. stage: host memory, for staging. */
static ds4_status reserve(ds4_vk_memory *m, ds4_buf *b, bool stage, const char *name,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_device *d = m->d;
    const bool map = stage || d->mapped;
    VkMemoryRequirements need;
    VkBufferCreateInfo info = {.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
                               .size = b->n_padded,
                               .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT |
                                        VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                                        VK_BUFFER_USAGE_TRANSFER_DST_BIT};
    VkMemoryAllocateInfo alloc = {.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO};

    if (d->n_memory >= d->limits.maxMemoryAllocationCount)
        RAISE(DS4_ERR_ENVIRONMENT, "%s: the device allows %u buffers and all are in use", name,
              d->limits.maxMemoryAllocationCount);
    if (b->n_padded > m->budget) TRY(take(m, b, b->n_padded, name, err)); /* it says why not */
    TRYVK(name, vkCreateBuffer(d->device, &info, NULL, &b->buffer));
    vkGetBufferMemoryRequirements(d->device, b->buffer, &need);
    alloc.allocationSize = need.size;
    alloc.memoryTypeIndex =
        ds4_vk_device_memory_type(d, need.memoryTypeBits, map ? HOST : 0,
                                  stage ? VK_MEMORY_PROPERTY_HOST_CACHED_BIT : LOCAL);
    if (alloc.memoryTypeIndex == UINT32_MAX)
        RAISE(DS4_ERR_ENVIRONMENT, "%s: the device has no memory of the needed type", name);
    if (d->memory.memoryTypes[alloc.memoryTypeIndex].heapIndex == d->heap)
        TRY(take(m, b, need.size, name, err));
    VkResult r = ds4_vk_allocate(d, &alloc, &b->memory);
    if (r == VK_ERROR_OUT_OF_DEVICE_MEMORY)
        RAISE(DS4_ERR_ENVIRONMENT, "%s: the device is out of memory, %zu bytes wanted", name,
              b->n_bytes);
    TRYVK(name, r);
    d->n_memory++;
    TRYVK(name, vkBindBufferMemory(d->device, b->buffer, b->memory, 0));
    if (map) {
        void *p = NULL;
        TRYVK(name, vkMapMemory(d->device, b->memory, 0, VK_WHOLE_SIZE, 0, &p));
        b->map = p;
    }
out:
    if (st != DS4_OK) release(m, b);
    return st;
}

void ds4_vk_memory_fini(ds4_vk_memory *m) {
    if (m->d) release(m, &m->stage);
}

/* Makes the staging buffer hold n bytes, or DS4_VK_STAGE_BYTES if that is less; nothing that
 * uses it is running. */
static ds4_status stage_hold(ds4_vk_memory *m, size_t n, ds4_err *err) {
    const size_t most =
        m->d->forced.stage ? (size_t)m->d->forced.stage & ~(size_t)3 : DS4_VK_STAGE_BYTES;
    size_t want = (size_t)1 << 20;
    while (want < n && want < most) want *= 2;
    if (want > most) want = most < 4 ? 4 : most;
    if (m->stage.n_bytes >= want) return DS4_OK;
    release(m, &m->stage);
    m->stage.n_bytes = m->stage.n_padded = want;
    m->stage.use = DS4_VK_STAGING;
    return reserve(m, &m->stage, true, "staging memory", err);
}

ds4_status ds4_vk_memory_stage(ds4_vk_memory *m, size_t n, ds4_err *err) {
    return m->d->mapped ? DS4_OK : stage_hold(m, n, err);
}

static ds4_status upload(ds4_vk_memory *m, ds4_buf *b, size_t off, const void *src, size_t n,
                         ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint8_t *p = src;

    TRY(ds4_vk_graph_sync(m->g, err));
    if (b->map) {
        memcpy(b->map + off, p, n);
        goto out;
    }
    TRY(stage_hold(m, n, err));
    for (size_t at = 0, part; at < n; at += part) {
        part = n - at < m->stage.n_bytes ? n - at : m->stage.n_bytes;
        memcpy(m->stage.map, p + at, part);
        TRY(ds4_vk_graph_copy(m->g, b->buffer, off + at, m->stage.buffer, 0, part, err));
        TRY(ds4_vk_graph_sync(m->g, err));
    }
out:
    return st;
}

/* Imported memory counts as the device's where it is of its heap: drivers pin it. */
static ds4_status import(ds4_vk_memory *m, ds4_buf *b, const void *data, const char *name,
                         ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_place p;

    if (!ds4_vk_import_weight(&m->import, m->d, &p, data, b->n_bytes, b->n_padded)) goto out;
    b->buffer = p.buffer, b->memory = p.memory, b->lead = (size_t)p.lead;
    b->mapped = data;
    if (m->d->memory.memoryTypes[p.type].heapIndex == m->d->heap)
        TRY(take(m, b, p.n_bytes, name, err));
out:
    return st;
}

ds4_status ds4_vk_buffer_new(ds4_vk_memory *m, ds4_buf **out, const void *data, size_t n,
                             const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_buf *b = NULL;
    size_t padded, from;

    if (!ds4_add_size(&padded, n ? n : 1, 15)) RAISE(DS4_ERR_MEMORY, "%s: %zu bytes", name, n);
    padded &= ~(size_t)15;
    TRY(ds4_mem_alloc(&b, 1, sizeof *b, err));
    b->n_bytes = n, b->n_padded = padded;
    b->use = data ? DS4_VK_WEIGHTS : DS4_VK_WORK;
    if (data) TRY(import(m, b, data, name, err));
    if (b->mapped) goto done;
    TRY(reserve(m, b, false, name, err));
    from = data ? n & ~(size_t)3 : 0; /* under data only the padding needs it */
    if (b->map) {
        memset(b->map + from, 0, padded - from);
    } else if (from < padded) {
        TRY(ds4_vk_graph_zero(m->g, b->buffer, from, padded - from, err));
        b->serial = ds4_vk_graph_serial(m->g);
    }
    if (data) TRY(upload(m, b, 0, data, n, err));
done:
    b->weight = data != NULL;
    b->written = ++m->clock;
    *out = b, b = NULL;
out:
    ds4_vk_buffer_free(m, b);
    return st;
}

/* False: a hung device may use it. */
static bool idle(ds4_vk_memory *m, const ds4_buf *b) {
    return b->serial <= ds4_vk_graph_done(m->g) || ds4_vk_graph_sync(m->g, NULL) == DS4_OK ||
           ds4_vk_graph_settle(m->g);
}

void ds4_vk_buffer_leave(ds4_vk_memory *m, ds4_buf *b) {
    if (idle(m, b)) unmake(m, b);
}

void ds4_vk_buffer_free(ds4_vk_memory *m, ds4_buf *b) {
    if (!b) return;
    if (b->host) ds4_vk_experts_drop(m, b);
    if (idle(m, b)) release(m, b);
    ds4_mem_free(b);
}

static ds4_status check_range(const ds4_buf *b, size_t off, size_t n, ds4_err *err) {
    if (off <= b->n_bytes && n <= b->n_bytes - off) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE,
                       "bytes %zu..%zu of a buffer of %zu bytes", off, off + n, b->n_bytes);
}

ds4_status ds4_vk_buffer_write(ds4_vk_memory *m, ds4_buf *b, size_t off, const void *src,
                               size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    TRY(check_range(b, off, n, err));
    if (b->weight) RAISE(DS4_ERR_INTERNAL, "a write of %zu bytes to a read-only buffer", n);
    b->written = ++m->clock;
    TRY(upload(m, b, off, src, n, err));
out:
    return st;
}

ds4_status ds4_vk_buffer_read(ds4_vk_memory *m, ds4_buf *b, size_t off, void *dst, size_t n,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t *p = dst;
    const uint8_t *host = b->map ? b->map : b->mapped ? b->mapped : b->host;

    TRY(check_range(b, off, n, err));
    if (b->map || b->mapped || !b->buffer) {
        TRY(ds4_vk_graph_sync(m->g, err));
        memcpy(p, host + off, n);
        goto out;
    }
    if (n > m->stage.n_bytes) TRY(ds4_vk_graph_sync(m->g, err)); /* stage_hold may free it */
    TRY(stage_hold(m, n, err));
    for (size_t at = 0, part; at < n; at += part) {
        part = n - at < m->stage.n_bytes ? n - at : m->stage.n_bytes;
        TRY(ds4_vk_graph_copy(m->g, m->stage.buffer, 0, b->buffer, off + at, part, err));
        TRY(ds4_vk_graph_sync(m->g, err));
        memcpy(p + at, m->stage.map, part);
    }
    if (n == 0) TRY(ds4_vk_graph_sync(m->g, err));
out:
    return st;
}
