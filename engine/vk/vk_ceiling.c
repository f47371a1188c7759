#include "engine/vk/vk_ceiling.h"

#include <time.h>

enum { N_BEST = 5 };
#define LEAST_S 0.02 /* of one timing: work is repeated until it takes so long */
#define MOST_REPEAT 4096u

/* Of a probe that does operations: bytes that it writes, steps. The next one is tried while a
 * dispatch takes less than LEAST_S. */
static const struct {
    size_t n_byte;
    uint32_t n_step;
} loads[] = {{(size_t)4 << 10, 32}, {(size_t)1 << 20, 32}, {(size_t)1 << 20, 1024}};

/* The symbols are defined by the assembly file that kernels.mk writes. */
#define PROBE(name, ...)                                                                       \
    extern const uint32_t ds4_spv_probe__##name[], ds4_spv_probe__##name##_end[];
#include "kernels/probes.def"
#undef PROBE

typedef struct probe {
    ds4_vk_row row; /* name, code, lx, needs */
    const char *name, *what;
    uint32_t n_byte, n_op; /* the columns */
} probe;

#define NEED_SUBGROUP DS4_VK_NEED_SUBGROUP
#define NEED_COOPMAT DS4_VK_NEED_COOPMAT
#define NEED_F16_SUM DS4_VK_NEED_F16_SUM
static const probe probes[] = {
#define PROBE(id, source, flags, need, local, byte, op, text)                                  \
    {.row = {.name = "probe " #id,                                                             \
             .code = {ds4_spv_probe__##id},                                                    \
             .code_end = {ds4_spv_probe__##id##_end},                                          \
             .lx = (local),                                                                    \
             .ly = 1,                                                                          \
             .needs = (need)},                                                                 \
     .name = #id,                                                                              \
     .what = (text),                                                                           \
     .n_byte = (byte),                                                                         \
     .n_op = (op)},
#include "kernels/probes.def"
#undef PROBE
};
enum { N_PROBE = sizeof probes / sizeof *probes };
_Static_assert(N_PROBE + 1 <= DS4_VK_MAX_CEILING, "a copy and the probes");

typedef struct bed {
    ds4_vk_device *d;
    ds4_vk_graph *g;
    ds4_buf *from, *to; /* n bytes each */
    size_t n;
    VkPipeline pipeline; /* VK_NULL_HANDLE: a copy */
    uint32_t group, n_step;
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
                         .args = &b->n_step,
                         .args_bytes = sizeof b->n_step,
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

static ds4_status pipeline_new(VkPipeline *out, const bed *b, const ds4_vk_row *row,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_vk_shape *shape = ds4_vk_row_shape(b->d, row);
    const uint32_t value[DS4_VK_SPEC_COUNT] = {[DS4_VK_SPEC_X] = row->lx,
                                               [DS4_VK_SPEC_M] = shape ? shape->m : 0,
                                               [DS4_VK_SPEC_N] = shape ? shape->n : 0,
                                               [DS4_VK_SPEC_K] = shape ? shape->k : 0};
    VkSpecializationMapEntry entry[DS4_VK_SPEC_COUNT];
    const VkSpecializationInfo special = {DS4_VK_SPEC_COUNT, entry, sizeof value, value};
    VkShaderModule module = VK_NULL_HANDLE;
    VkShaderModuleCreateInfo code = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = (size_t)((uintptr_t)row->code_end[0] - (uintptr_t)row->code[0]),
        .pCode = row->code[0]};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .pName = "main",
                  .pSpecializationInfo = shape ? &special : NULL},
        .layout = ds4_vk_graph_layout(b->g)};

    /* Every constant, also those that no probe has: validation layers (1.4.309) take an id for
     * the place among the entries. */
    for (uint32_t i = 0; i < DS4_VK_SPEC_COUNT; i++)
        entry[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof *value, sizeof *value};
    TRYVK(row->name, vkCreateShaderModule(b->d->device, &code, NULL, &module));
    info.stage.module = module;
    TRYVK(row->name,
          vkCreateComputePipelines(b->d->device, VK_NULL_HANDLE, 1, &info, NULL, out));
out:
    vkDestroyShaderModule(b->d->device, module, NULL);
    return st;
}

static void keep_best(ds4_vk_ceiling *c, double rate) {
    if (rate > c->rate) c->rate = rate;
}

/* What an invocation does in a step. */
static double each_of(const bed *b, const probe *p) {
    const ds4_vk_shape *s = ds4_vk_row_shape(b->d, &p->row);
    if (!p->n_op) return p->n_byte;
    return s ? 2.0 * s->m * s->n * s->k * p->n_op / b->d->subgroup : p->n_op;
}

/* A probe over buffers of b->n bytes, b->n_step steps; seconds of a dispatch to *s. */
static ds4_status run_probe(ds4_vk_ceiling *c, double *s, bed *b, const probe *p,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    b->group = (uint32_t)(b->n / ((size_t)p->row.lx * p->n_byte));
    if (b->group > b->d->limits.maxComputeWorkGroupCount[0])
        b->group = b->d->limits.maxComputeWorkGroupCount[0];
    TRY(pipeline_new(&b->pipeline, b, &p->row, err));
    TRY(best_of(s, b, err));
    keep_best(c, each_of(b, p) * b->n_step * p->row.lx * b->group / *s);
out:
    ds4_vk_graph_forget_pipeline(b->g, b->pipeline);
    vkDestroyPipeline(b->d->device, b->pipeline, NULL);
    b->pipeline = VK_NULL_HANDLE;
    return st;
}

/* Buffers of n bytes on a bed without any. */
static ds4_status bed_make(bed *b, size_t n, uint32_t n_step, ds4_vk_memory *m, ds4_err *err) {
    ds4_status st = DS4_OK;
    b->n = n, b->n_step = n_step;
    TRY(ds4_vk_buffer_new(m, &b->from, NULL, n, "a probe's input", err));
    TRY(ds4_vk_buffer_new(m, &b->to, NULL, n, "a probe's output", err));
out:
    return st;
}

static void bed_clear(bed *b, ds4_vk_memory *m) {
    ds4_vk_buffer_free(m, b->from), b->from = NULL;
    ds4_vk_buffer_free(m, b->to), b->to = NULL;
}

/* A copy, and every probe that does no operation. */
static ds4_status run_memory(ds4_vk_ceiling out[N_PROBE + 1], bed *b, size_t n,
                             ds4_vk_memory *m, ds4_err *err) {
    ds4_status st = DS4_OK;
    double s;
    TRY(bed_make(b, n, 1, m, err));
    TRY(best_of(&s, b, err));
    keep_best(&out[0], 2.0 * (double)n / s);
    for (uint32_t i = 0; i < N_PROBE; i++)
        if (!probes[i].n_op) TRY(run_probe(&out[1 + i], &s, b, &probes[i], err));
out:
    bed_clear(b, m);
    return st;
}

static ds4_status run_loads(ds4_vk_ceiling *c, bed *b, const probe *p, ds4_vk_memory *m,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    double s = 0.0;
    for (size_t i = 0; i < sizeof loads / sizeof *loads && s < LEAST_S; i++) {
        TRY(bed_make(b, loads[i].n_byte, loads[i].n_step, m, err));
        TRY(run_probe(c, &s, b, p, err));
        bed_clear(b, m);
    }
out:
    bed_clear(b, m);
    return st;
}

/* Why this build or the device has no such probe, static text; NULL: it has. */
static ds4_status find_unfit(const char **why, const ds4_vk_device *d, const ds4_vk_row *row,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t local[3] = {row->lx, 1, 1};
    ds4_vk_reflection r;
    if ((*why = ds4_vk_row_left_out(row))) goto out;
    TRY(ds4_vk_reflect(&r, row->code[0], (size_t)(row->code_end[0] - row->code[0]), local,
                       row->name, err));
    *why = ds4_vk_row_unfit(d, row, &r);
out:
    return st;
}

ds4_status ds4_vk_measure_ceilings(ds4_vk_ceiling out[DS4_VK_MAX_CEILING], uint32_t *n,
                                   ds4_vk_device *d, ds4_vk_graph *g, ds4_vk_memory *m,
                                   ds4_err *err) {
    static const size_t mib[] = {4, 32, 128};
    ds4_status st = DS4_OK;
    bed b = {.d = d, .g = g};

    out[0] = (ds4_vk_ceiling){.name = "copy",
                              .what = "buffer to buffer, bytes read plus bytes written"};
    for (uint32_t i = 0; i < N_PROBE; i++) {
        out[1 + i] = (ds4_vk_ceiling){.name = probes[i].name, .what = probes[i].what};
        TRY(find_unfit(&out[1 + i].lacks, d, &probes[i].row, err));
    }
    for (size_t i = 0; i < sizeof mib / sizeof *mib; i++) {
        if (mib[i] << 20 > d->limits.maxStorageBufferRange) break;
        TRY(run_memory(out, &b, mib[i] << 20, m, err));
    }
    for (uint32_t i = 0; i < N_PROBE; i++)
        if (probes[i].n_op && !out[1 + i].lacks)
            TRY(run_loads(&out[1 + i], &b, &probes[i], m, err));
    *n = N_PROBE + 1;
out:
    return st;
}
