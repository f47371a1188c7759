#ifndef DS4_VK_FUSED_H
#define DS4_VK_FUSED_H
/* What kernels/fused.def says of the calls that each fused row covers. */
#include "engine/ops/backend.h"

/* A fused row is numbered by its place in the manifest; as an op of its own it is
 * DS4_OP_COUNT + number. */
enum {
#define FUSED(row, ...) DS4_VK_FUSED_##row,
#define MEMBER(...)
#include "kernels/fused.def"
#undef FUSED
#undef MEMBER
    DS4_VK_FUSED_COUNT
};

/* The number of the fused row of that name; DS4_VK_FUSED_COUNT: there is none. */
uint32_t ds4_vk_fused_find(const char *name);
/* The op of call i; DS4_OP_COUNT past the last. */
ds4_op ds4_vk_fused_op(uint32_t fused, uint32_t i);
/* Which binding of the kernel is binding b of call i; -1: none. */
int ds4_vk_fused_wire(uint32_t fused, uint32_t i, uint32_t b);
uint32_t ds4_vk_fused_n_bind(uint32_t fused);
/* Where the args of call i start, at a multiple of 16; past the last call: their end, unpadded.
 */
uint32_t ds4_vk_fused_args_at(uint32_t fused, uint32_t i);

/* Static text that says why these calls are not those of the row, or NULL: their ops in order,
 * one weight format, DS4_SAFE_MATH alike, bindings that are wired together one buffer. */
const char *ds4_vk_fused_refuses(uint32_t fused, const ds4_call *const *c, uint32_t n);

#endif
