#ifndef DS4_VK_EXPERTS_H
#define DS4_VK_EXPERTS_H
/* Matrices of experts that do not all find room on the device stay on the host. Those that a
 * call selects are brought into slots of device memory; the one unused for longest makes place.
 */
#include "engine/vk/vk_buffer.h"

/* Bytes of other weights and of experts that will follow: what cannot all be held is streamed
 * from the first on. */
void ds4_vk_experts_expect(ds4_vk_memory *m, uint64_t n_others, uint64_t n_experts);
/* Like ds4_vk_buffer_new for n_mat matrices of one size, of which a call uses a few; data
 * outlives the buffer. They are uploaded where they fit, and give way later. */
ds4_status ds4_vk_experts_new(ds4_vk_memory *m, ds4_buf **out, const void *data, size_t n,
                              uint32_t n_mat, const char *name, ds4_err *err);

/* Makes the slots, as many as there is room for, unless they are there; *n: how many. */
ds4_status ds4_vk_experts_slots(ds4_vk_memory *m, uint32_t *n, ds4_err *err);
/* Brings matrices mat[n] of b in, n at most the number of slots; waits for everything recorded
 * where one was missing. at[i]: where mat[i] begins in m->experts.slots, aligned. They stay
 * until the next call of this function. */
ds4_status ds4_vk_experts_load(ds4_vk_memory *m, ds4_buf *b, const uint32_t *mat, uint32_t n,
                               uint64_t *at, ds4_err *err);

/* Frees n bytes of device memory for other uses, if that can be done: the slots first, then the
 * uploaded tensors, which are streamed from then on. */
void ds4_vk_experts_give_way(ds4_vk_memory *m, uint64_t n);
/* Forgets a buffer that is being freed. */
void ds4_vk_experts_drop(ds4_vk_memory *m, ds4_buf *b);
void ds4_vk_experts_fini(ds4_vk_memory *m);

#endif
