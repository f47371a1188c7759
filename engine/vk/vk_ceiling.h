#ifndef DS4_VK_CEILING_H
#define DS4_VK_CEILING_H
/* What a device can do at best, measured with the probes of kernels/probes.def and with copies.
 */
#include "engine/vk/vk_buffer.h"
#include "engine/vk/vk_kernel.h"

/* See ds4_vk_ceilings. Nothing else may be running on the device. */
ds4_status ds4_vk_measure_ceilings(ds4_vk_ceiling out[DS4_VK_MAX_CEILING], uint32_t *n,
                                   ds4_vk_device *d, ds4_vk_graph *g, ds4_vk_memory *m,
                                   ds4_err *err);

#endif
