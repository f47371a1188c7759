#include "engine/vk/vk_ceiling.h"

#include <time.h>

enum { N_BEST = 5 };
#define LEAST_S 0.02 /* of one timing: work is repeated until it takes so long */
#define MOST_REPEAT 4096u

/* The symbols are defined by the assembly file that kernels.mk writes. */
#define PROBE(name, local, n_byte, n_flop)                                                     \
    extern const uint32_t ds4_spv_probe__##name[], ds4_spv_probe__##name##_end[];
#include "kernels/probes.def"
#undef PROBE

typedef struct probe {
    const char *name;
    const uint32_t *code, *code_end;
    uint32_t local, n_byte, n_flop; /* of a group; read, done by an invocation */
} probe;

enum {
#define PROBE(name, local, n_byte, n_flop) PROBE_##name,
#include "kernels/probes.def"
#undef PROBE
};

static const probe probes[] = {
#define PROBE(name, local, n_byte, n_flop)                                                     \
    {"probe " #name, ds4_spv_probe__##name, ds4_spv_probe__##name##_end, local, n_byte, n_flop},
#include "kernels/probes.def"
#undef PROBE
};

typedef struct bed {
    ds4_vk_device *d;
    ds4_vk_graph *g;
    ds4_buf *from, *to; /* n bytes each */
    size_t n;
    VkPipeline pipeline; /* VK_NULL_HANDLE: a copy */
    uint32_t group;
} bed;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static ds4_status once(const bed *b, ds4_err *err) {
    if (!b->pipeline)
        return ds4_vk_graph_copy(b->g, b->to->buffer, 0, b->from->buffer, 0, b->n, err);
    ds4_vk_dispatch c = {.pipeline = b->pipeline,
                         .bind = {b->from->buffer, b->to->buffer},
                         .n_bind = 2,
                         .args = &b->group, /* the probes read none */
                         .args_bytes = sizeof b->group,
                         .group = {b->group, 1, 1}};
    return ds4_vk_graph_dispatch(b->g, &c, err);
}

static ds4_status repeat(double *s, const bed *b, uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    double t0 = now_s();
    for (uint32_t i = 0; i < n; i++) TRY(once(b, err));
    TRY(ds4_vk_graph_sync(b->g, err));
    *s = now_s() - t0;
out:
    return st;
}

/* Least seconds of one. */
static ds4_status best_of(double *s, const bed *b, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n = 1;
    double t;
    TRY(repeat(&t, b, 1, err)); /* the first of all is not counted */
    for (;; n *= 2) {
        TRY(repeat(&t, b, n, err));
        if (t >= LEAST_S || n >= MOST_REPEAT) break;
    }
    *s = t / n;
    for (int i = 1; i < N_BEST; i++) {
        TRY(repeat(&t, b, n, err));
        if (t / n < *s) *s = t / n;
    }
out:
    return st;
}

static ds4_status pipeline_new(VkPipeline *out, const bed *b, const probe *p, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkShaderModule module = VK_NULL_HANDLE;
    VkShaderModuleCreateInfo code = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize =
                                         (size_t)((uintptr_t)p->code_end - (uintptr_t)p->code),
                                     .pCode = p->code};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .pName = "main"},
        .layout = ds4_vk_graph_layout(b->g)};

    TRYVK(p->name, vkCreateShaderModule(b->d->device, &code, NULL, &module));
    info.stage.module = module;
    TRYVK(p->name, vkCreateComputePipelines(b->d->device, VK_NULL_HANDLE, 1, &info, NULL, out));
out:
    vkDestroyShaderModule(b->d->device, module, NULL);
    return st;
}

static void keep_best(ds4_vk_ceiling *c, double rate) {
    if (rate > c->rate) c->rate = rate;
}

/* A probe over buffers of b->n bytes; its rate per second in bytes or operations. */
static ds4_status run_probe(ds4_vk_ceiling *c, bed *b, const probe *p, ds4_err *err) {
    ds4_status st = DS4_OK;
    double s, each = p->n_flop ? p->n_flop : p->n_byte;
    b->group = (uint32_t)(b->n / ((size_t)p->local * p->n_byte));
    if (b->group > b->d->limits.maxComputeWorkGroupCount[0])
        b->group = b->d->limits.maxComputeWorkGroupCount[0];
    TRY(pipeline_new(&b->pipeline, b, p, err));
    TRY(best_of(&s, b, err));
    keep_best(c, each * p->local * b->group / s);
out:
    vkDestroyPipeline(b->d->device, b->pipeline, NULL);
    b->pipeline = VK_NULL_HANDLE;
    return st;
}

static ds4_status run_size(ds4_vk_ceiling out[DS4_VK_MAX_CEILING], bed *b, ds4_vk_memory *m,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    double s;
    TRY(ds4_vk_buffer_new(m, &b->from, NULL, b->n, "a probe's input", err));
    TRY(ds4_vk_buffer_new(m, &b->to, NULL, b->n, "a probe's output", err));
    TRY(best_of(&s, b, err));
    keep_best(&out[0], 2.0 * (double)b->n / s);
    TRY(run_probe(&out[1], b, &probes[PROBE_read], err));
out:
    ds4_vk_buffer_free(m, b->from), b->from = NULL;
    ds4_vk_buffer_free(m, b->to), b->to = NULL;
    return st;
}

ds4_status ds4_vk_measure_ceilings(ds4_vk_ceiling out[DS4_VK_MAX_CEILING], uint32_t *n,
                                   ds4_vk_device *d, ds4_vk_graph *g, ds4_vk_memory *m,
                                   ds4_err *err) {
    static const size_t mib[] = {4, 32, 128};
    ds4_status st = DS4_OK;
    bed b = {.d = d, .g = g};

    out[0] = (ds4_vk_ceiling){"copy", "buffer to buffer, bytes read plus bytes written", 0.0};
    out[1] = (ds4_vk_ceiling){"read", "a kernel that reads a buffer, bytes", 0.0};
    out[2] =
        (ds4_vk_ceiling){"fma", "f32 multiply-adds from registers, two operations each", 0.0};
    for (size_t i = 0; i < sizeof mib / sizeof *mib; i++) {
        b.n = mib[i] << 20;
        if (b.n > d->limits.maxStorageBufferRange) break;
        TRY(run_size(out, &b, m, err));
    }
    b.n = (size_t)1 << 16;
    TRY(ds4_vk_buffer_new(m, &b.from, NULL, b.n, "a probe's input", err));
    TRY(ds4_vk_buffer_new(m, &b.to, NULL, b.n, "a probe's output", err));
    TRY(run_probe(&out[2], &b, &probes[PROBE_fma], err));
    *n = 3;
out:
    ds4_vk_buffer_free(m, b.from);
    ds4_vk_buffer_free(m, b.to);
    return st;
}
