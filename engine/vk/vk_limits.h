#ifndef DS4_VK_LIMITS_H
#define DS4_VK_LIMITS_H
/* A device made smaller than it is, or made to fail, so that every answer to that can be tested
 * on any device. Plain data; no Vulkan. */
#include <stdint.h>

#include "engine/base/err.h"

/* Zero everywhere: the device as it is. Sizes are in bytes; a limit that is wider than the
 * device's has no effect. Failures count from 1 from the opening of the device on. */
typedef struct ds4_vk_limits {
    uint64_t range;       /* most bytes that a kernel may bind at once */
    uint64_t heap;        /* device memory to use */
    uint64_t stage;       /* staging memory to use; nothing is mapped then (4 bytes at least) */
    uint64_t timeout;     /* seconds that a wait may take; default DS4_VK_TIMEOUT_S */
    uint64_t fail_alloc;  /* this allocation of device memory finds none left */
    uint64_t fail_submit; /* this submit finds the device lost */
    uint64_t fail_wait;   /* this wait finds the device lost */
    uint64_t hang_wait;   /* this wait and all later ones find the device hung */
} ds4_vk_limits;

/* "range=1M,heap=64M,fail_submit=17": names of the fields, each once, separated by commas.
 * Sizes may end in K, M or G (powers of 1024). NULL or "": all zero.
 *
 * Errors: DS4_ERR_USAGE for a name that is none, a name twice, no number, or a number out of
 * range. */
ds4_status ds4_vk_limits_parse(ds4_vk_limits *out, const char *text, ds4_err *err);

/* "64M": digits, then nothing, K, M or G; from 1 to 2^60. `name` is used in messages. */
ds4_status ds4_vk_size_parse(uint64_t *out, const char *name, const char *text, ds4_err *err);

#endif
