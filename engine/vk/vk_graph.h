#ifndef DS4_VK_GRAPH_H
#define DS4_VK_GRAPH_H
/* Collect, order, record or replay, submit, wait.
 *
 * Commands take effect as if they ran one after another in the order of the calls; those that
 * share no buffer that one of them writes may overlap. They are gathered in lists; a full list
 * is submitted without waiting, and the next one is collected while it runs.
 *
 * A submitted list stays as a recorded command buffer. A later list of the same shape
 * (vk_list.h: pipelines, buffers, copies; not the arguments and group counts) is run by it
 * again, after its arguments and group counts have been rewritten in memory. A recorded buffer
 * is neither rewritten nor submitted while it runs: a second one of its shape is recorded then.
 *
 * A wait that outlasts ds4_vk_timeout_s or a lost device leaves the graph broken: every later
 * use fails with DS4_ERR_ENVIRONMENT. */
#include "engine/vk/vk_device.h"
#include "engine/vk/vk_list.h"

#define DS4_VK_BATCHES 3 /* lists that run at once */
#define DS4_VK_RECORDS                                                                         \
    128 /* recorded command buffers; the one longest unused is recorded anew */
#define DS4_VK_ARGS_BYTES 128

typedef struct ds4_vk_graph ds4_vk_graph;

/* replay: false records every list. Owns: the caller frees *out, before the device and after
 * everything recorded is not needed. */
ds4_status ds4_vk_graph_new(ds4_vk_graph **out, ds4_vk_device *d, bool replay, ds4_err *err);
void ds4_vk_graph_free(ds4_vk_graph *g);

/* The layout that every kernel is built with: DS4_MAX_BIND storage buffers in set 0; the
 * arguments, a uniform buffer of DS4_VK_ARGS_BYTES of which a kernel uses the first few, in
 * set 1. */
VkPipelineLayout ds4_vk_graph_layout(const ds4_vk_graph *g);

typedef struct ds4_vk_dispatch {
    VkPipeline pipeline;
    VkBuffer bind[DS4_MAX_BIND];
    uint64_t off[DS4_MAX_BIND], n[DS4_MAX_BIND]; /* the bytes used; n 0: all from off on */
    uint32_t n_bind;
    uint32_t writes; /* bit i: bind[i] is written */
    const void *args;
    uint32_t args_bytes;
    uint32_t group[3]; /* all > 0, within the device's limit */
} ds4_vk_dispatch;

ds4_status ds4_vk_graph_dispatch(ds4_vk_graph *g, const ds4_vk_dispatch *c, ds4_err *err);
/* off and n_bytes: multiples of 4. */
ds4_status ds4_vk_graph_zero(ds4_vk_graph *g, VkBuffer dst, uint64_t off, uint64_t n_bytes,
                             ds4_err *err);
ds4_status ds4_vk_graph_copy(ds4_vk_graph *g, VkBuffer dst, uint64_t dst_off, VkBuffer src,
                             uint64_t src_off, uint64_t n_bytes, ds4_err *err);

/* Number of the list of the last command; a buffer that it uses is idle once
 * ds4_vk_graph_done() has reached that number. */
uint64_t ds4_vk_graph_serial(const ds4_vk_graph *g);
uint64_t ds4_vk_graph_done(const ds4_vk_graph *g);

/* Waits for everything that was submitted. False: the device hangs, and whatever it may still
 * use has to be left alone; nothing waits for it again. */
bool ds4_vk_graph_settle(ds4_vk_graph *g);

/* Submits and waits for everything collected; what it wrote is then visible to the host. Fails
 * with DS4_ERR_INTERNAL when the validation layers have said anything since the device was
 * opened. */
ds4_status ds4_vk_graph_sync(ds4_vk_graph *g, ds4_err *err);

/* Drops what was recorded with an idle buffer; called before the buffer is destroyed, for the
 * driver may give its handle to the next one. */
void ds4_vk_graph_forget(ds4_vk_graph *g, VkBuffer buffer);
/* The same for an idle pipeline that is destroyed while the graph lives on. */
void ds4_vk_graph_forget_pipeline(ds4_vk_graph *g, VkPipeline pipeline);

typedef struct ds4_vk_graph_stats {
    uint64_t n_recorded, n_replayed; /* submissions of the two kinds */
    uint64_t n_forgotten;            /* recorded buffers dropped with what they used */
    uint64_t n_call, n_barrier;      /* commands, and barriers between them, as recorded */
} ds4_vk_graph_stats;

ds4_vk_graph_stats ds4_vk_graph_count(const ds4_vk_graph *g);
/* The graph of a backend that ds4_vk_open opened, for checks. */
ds4_vk_graph *ds4_vk_graph_of(ds4_backend *b);
/* The i-th recorded list, for checks; NULL past the last, n is 0 where none is recorded. */
const ds4_vk_list *ds4_vk_graph_recorded(const ds4_vk_graph *g, uint32_t i);

#endif
