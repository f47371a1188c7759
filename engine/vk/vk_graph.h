#ifndef DS4_VK_GRAPH_H
#define DS4_VK_GRAPH_H
/* Record, dispatch, barrier, submit, wait.
 *
 * Commands run in the order of recording, each after all writes of those before. They are
 * gathered in batches; a full batch is submitted without waiting, and the next one is recorded
 * while it runs. A wait that outlasts DS4_VK_TIMEOUT_S or a lost device leaves the graph
 * broken: every later use fails with DS4_ERR_ENVIRONMENT. */
#include "engine/vk/vk_device.h"

#define DS4_VK_BATCH_CALLS 128 /* dispatches of one batch */
#define DS4_VK_BATCHES 3       /* recorded or running at once */
#define DS4_VK_TIMEOUT_S 600

typedef struct ds4_vk_graph ds4_vk_graph;

/* Owns: the caller frees *out, before the device and after everything recorded is not needed.
 */
ds4_status ds4_vk_graph_new(ds4_vk_graph **out, ds4_vk_device *d, ds4_err *err);
void ds4_vk_graph_free(ds4_vk_graph *g);

/* The layout that every kernel is built with: DS4_MAX_BIND storage buffers in set 0 and 128
 * bytes of push constants, of which a kernel uses the first few. */
VkPipelineLayout ds4_vk_graph_layout(const ds4_vk_graph *g);

typedef struct ds4_vk_dispatch {
    VkPipeline pipeline;
    VkBuffer bind[DS4_MAX_BIND]; /* whole buffers */
    uint32_t n_bind;
    const void *args;
    uint32_t args_bytes;
    uint32_t group[3]; /* all > 0 */
    bool split;        /* pipeline takes a base, groups may pass the device's limit */
} ds4_vk_dispatch;

/* Whether group[] passes the device's limit, so that the pipeline has to take a base. */
bool ds4_vk_graph_must_split(const ds4_vk_graph *g, const uint32_t group[3]);

ds4_status ds4_vk_graph_dispatch(ds4_vk_graph *g, const ds4_vk_dispatch *c, ds4_err *err);
/* off and n_bytes: multiples of 4. */
ds4_status ds4_vk_graph_zero(ds4_vk_graph *g, VkBuffer dst, uint64_t off, uint64_t n_bytes,
                             ds4_err *err);
ds4_status ds4_vk_graph_copy(ds4_vk_graph *g, VkBuffer dst, uint64_t dst_off, VkBuffer src,
                             uint64_t src_off, uint64_t n_bytes, ds4_err *err);

/* Number of the batch of the last command; a buffer that it uses is idle once
 * ds4_vk_graph_done() has reached that number. */
uint64_t ds4_vk_graph_serial(const ds4_vk_graph *g);
uint64_t ds4_vk_graph_done(const ds4_vk_graph *g);

/* Submits and waits for everything recorded; what it wrote is then visible to the host. Fails
 * with DS4_ERR_INTERNAL when the validation layers have said anything since the device was
 * opened. */
ds4_status ds4_vk_graph_sync(ds4_vk_graph *g, ds4_err *err);

#endif
