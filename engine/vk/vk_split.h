#ifndef DS4_VK_SPLIT_H
#define DS4_VK_SPLIT_H
/* Calls whose operands pass what a kernel may bind at once (maxStorageBufferRange) become calls
 * of the same row on parts of them: of fewer tokens where activations are too large, of fewer
 * rows of the weight where that is. Every output element is computed by one kernel from the
 * operands and in the order of the whole call, so its bits are the same.
 *
 * A weight that is chosen from by token or expert (embed, router_hash, matmul_id) is called
 * once per choice, which has to be read back: such a call waits for everything before it. So is
 * one whose experts are on the host (vk_experts.h); they are brought in group by group. */
#include "engine/vk/vk_buffer.h"

/* Executes a call whose operands a kernel can bind at once. */
typedef ds4_status (*ds4_vk_run)(void *user, const ds4_call *c, uint32_t row, ds4_err *err);

typedef struct ds4_vk_split {
    ds4_vk_memory *m;
    ds4_vk_run run;
    void *user;
    ds4_buf *x, *y;  /* parts that cannot be bound where they stand; made when needed */
    ds4_buf *number; /* word i of [align][align / 4] words, at i * align bytes, is i */
    ds4_buf *sel;    /* the buffer that `chosen` was read from, and when it was written */
    uint64_t sel_written;
    int32_t *chosen;
    size_t n_chosen;
    uint8_t *state; /* of each matrix of a call that streams */
    size_t n_state;
    uint64_t n_call, n_part; /* calls that were split, and into how many */
} ds4_vk_split;

void ds4_vk_split_fini(ds4_vk_split *s);

/* Whether a call cannot run as it is. */
bool ds4_vk_split_needed(const ds4_vk_split *s, const ds4_call *c);

/* Runs it in parts.
 *
 * Errors: DS4_ERR_ENVIRONMENT naming the call and the sizes, where an operand that every part
 *         needs whole, or one row or token, passes the limit. */
ds4_status ds4_vk_split_call(ds4_vk_split *s, const ds4_call *c, uint32_t row, ds4_err *err);

#endif
