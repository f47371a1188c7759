#include "engine/vk/vk_experts.h"

#include <string.h>

#include "engine/base/mem.h"

static uint64_t room(const ds4_vk_memory *m) {
    uint64_t used = ds4_vk_memory_used(m);
    return m->budget > used ? m->budget - used : 0;
}

/* Slots begin where a binding may begin. */
static uint64_t slot_bytes(const ds4_vk_memory *m, uint64_t n) {
    uint64_t align = m->d->limits.minStorageBufferOffsetAlignment;
    if (align < 16) align = 16;
    return (n + align - 1) / align * align;
}

#define ROUND_UP 4096 /* more than any allocation is rounded up by */

/* All or none: slots that serve every layer hold what is selected most, whole tensors of some
 * layers do not. */
static void stream_all(ds4_vk_memory *m) {
    ds4_vk_experts *x = &m->experts;
    x->streaming = true;
    for (uint32_t i = 0; i < x->n_tensor; i++)
        if (x->tensor[i]->buffer) ds4_vk_buffer_leave(m, x->tensor[i]);
}

ds4_status ds4_vk_experts_new(ds4_vk_memory *m, ds4_buf **out, const void *data, size_t n,
                              uint32_t n_mat, const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_experts *x = &m->experts;
    ds4_buf *b = NULL;
    uint64_t slot = slot_bytes(m, n / n_mat);

    TRY(ds4_mem_grow(&x->tensor, x->n_tensor + 1, sizeof(ds4_buf *), err));
    if (n + ROUND_UP > room(m)) stream_all(m);
    if (!x->streaming) {
        TRY(ds4_vk_buffer_new(m, &b, data, n, name, err));
        ds4_vk_memory_move(m, b, DS4_VK_EXPERTS);
    } else {
        TRY(ds4_mem_alloc(&b, 1, sizeof *b, err));
        b->n_bytes = n, b->n_padded = (n + 15) & ~(size_t)15;
        b->weight = true;
    }
    TRY(ds4_mem_alloc(&b->slot, n_mat, sizeof *b->slot, err));
    b->host = data, b->n_mat = n_mat;
    if (slot > x->slot_bytes) {
        ds4_vk_experts_give_way(m, 0); /* slots of the old size */
        x->slot_bytes = slot;
    }
    x->tensor[x->n_tensor++] = b;
    *out = b, b = NULL;
out:
    ds4_vk_buffer_free(m, b);
    return st;
}

/* The slots hold nothing any more. */
static void drop_slots(ds4_vk_memory *m) {
    ds4_vk_experts *x = &m->experts;
    for (uint32_t i = 0; i < x->n_tensor; i++)
        memset(x->tensor[i]->slot, 0, x->tensor[i]->n_mat * sizeof *x->tensor[i]->slot);
    ds4_vk_buffer_free(m, x->slots);
    ds4_mem_free(x->slot);
    x->slots = NULL, x->slot = NULL, x->n_slot = 0;
}

void ds4_vk_experts_give_way(ds4_vk_memory *m, uint64_t n) {
    ds4_vk_experts *x = &m->experts;
    if (x->pinned) return;
    if (x->slots) drop_slots(m);
    if (room(m) < n) stream_all(m);
}

void ds4_vk_experts_drop(ds4_vk_memory *m, ds4_buf *b) {
    ds4_vk_experts *x = &m->experts;
    for (uint32_t i = 0; i < x->n_slot; i++)
        if (x->slot[i].owner == b) x->slot[i].owner = NULL, x->slot[i].used = 0;
    for (uint32_t i = 0; i < x->n_tensor; i++)
        if (x->tensor[i] == b) x->tensor[i] = x->tensor[--x->n_tensor];
    ds4_mem_free(b->slot);
}

void ds4_vk_experts_fini(ds4_vk_memory *m) {
    drop_slots(m);
    ds4_mem_free(m->experts.tensor);
}

static uint64_t n_matrices(const ds4_vk_experts *x) {
    uint64_t n = 0;
    for (uint32_t i = 0; i < x->n_tensor; i++) n += x->tensor[i]->n_mat;
    return n;
}

ds4_status ds4_vk_experts_slots(ds4_vk_memory *m, uint32_t *n, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_experts *x = &m->experts;
    uint64_t want;

    if (x->slots) goto out;
    TRY(ds4_vk_memory_stage(m, (size_t)x->slot_bytes, err));
    if (room(m) < x->slot_bytes + ROUND_UP)
        ds4_vk_experts_give_way(m, x->slot_bytes + ROUND_UP);
    want = room(m) > ROUND_UP ? (room(m) - ROUND_UP) / x->slot_bytes : 0;
    if (want > n_matrices(x)) want = n_matrices(x);
    if (want > UINT32_MAX / 2) want = UINT32_MAX / 2;
    if (want == 0) want = 1;
    /* What is free in all may not be had in one piece. */
    for (;; want /= 2) {
        st = ds4_vk_buffer_new(m, &x->slots, NULL, want * x->slot_bytes, "slots of experts",
                               err);
        if (st != DS4_ERR_ENVIRONMENT || want == 1) break;
    }
    TRY(st);
    ds4_vk_memory_move(m, x->slots, DS4_VK_EXPERTS);
    TRY(ds4_mem_alloc(&x->slot, want, sizeof *x->slot, err));
    x->n_slot = (uint32_t)want;
out:
    if (st != DS4_OK && x->slots) drop_slots(m);
    *n = x->n_slot;
    return st;
}

static uint32_t oldest(const ds4_vk_experts *x) {
    uint32_t at = 0;
    for (uint32_t i = 1; i < x->n_slot; i++)
        if (x->slot[i].used < x->slot[at].used) at = i;
    return at;
}

ds4_status ds4_vk_experts_load(ds4_vk_memory *m, ds4_buf *b, const uint32_t *mat, uint32_t n,
                               uint64_t *at, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_experts *x = &m->experts;
    const size_t bytes = b->n_bytes / b->n_mat;

    /* Those that are there first, so that none of them makes place. */
    for (uint32_t i = 0; i < n; i++)
        if (b->slot[mat[i]]) x->slot[b->slot[mat[i]] - 1].used = ++x->clock, x->n_hit++;
    for (uint32_t i = 0; i < n; i++) {
        if (!b->slot[mat[i]]) {
            uint32_t k = oldest(x);
            struct ds4_vk_slot *s = &x->slot[k];
            if (s->owner) s->owner->slot[s->mat] = 0;
            s->owner = NULL;
            TRY(ds4_vk_buffer_write(m, x->slots, k * x->slot_bytes, b->host + mat[i] * bytes,
                                    bytes, err));
            *s = (struct ds4_vk_slot){b, mat[i], ++x->clock};
            b->slot[mat[i]] = k + 1;
            x->n_miss++, x->n_streamed += bytes;
        }
        at[i] = (b->slot[mat[i]] - 1) * x->slot_bytes;
    }
out:
    return st;
}

void ds4_vk_experts_expect(ds4_vk_memory *m, uint64_t n_others, uint64_t n_experts) {
    if (n_experts && n_others + n_experts + ROUND_UP > room(m)) m->experts.streaming = true;
}
