#include "engine/vk/vk_float.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/vk/vk_buffer.h"
#include "kernels/probe_ops.h"

#define FLOAT_PROBE(name, ...)                                                                 \
    extern const uint32_t ds4_spv_float__##name[], ds4_spv_float__##name##_end[];
#include "kernels/float_probes.def"
#undef FLOAT_PROBE

#define STRICT true
#define FACT false
#define PROPERTY(id, kind, text, reason)                                                       \
    {.name = #id, .what = (text), .why = (reason), .strict = (kind)},
#define CASE(...)
#define MODE(...)
const ds4_vk_float_property ds4_vk_float_table[DS4_VK_FLOAT_COUNT] = {
#include "engine/vk/vk_float.def"
};
#undef PROPERTY
#undef CASE

#define ANY_NAN 0x7fc00000u, true
#define WORD(w) (w), false
#define PROPERTY(...)
#define CASE(id, step, x, y, z, want) {FLOAT_##id, PROBE_##step, x, y, z, want, #step},
static const ds4_vk_float_case case_table[] = {
#include "engine/vk/vk_float.def"
};
#undef ANY_NAN
#undef WORD
#undef CASE
#undef MODE

/* A build of the kernel that asks for a float control, and what must then hold. */
struct mode {
    const char *says, *key; /* the driver's property */
    size_t at;              /* of that property in its struct */
    const uint32_t *code, *end;
    uint32_t wanted; /* bits of properties */
};
#define CASE(...)
#define MODE(id, probe, property, want)                                                        \
    {.says = #property,                                                                        \
     .key = "float_claim." #property,                                                          \
     .at = offsetof(VkPhysicalDeviceFloatControlsProperties, property),                        \
     .code = ds4_spv_float__##probe,                                                           \
     .end = ds4_spv_float__##probe##_end,                                                      \
     .wanted = (want)},
static const struct mode mode_table[DS4_VK_FLOAT_N_MODE] = {
#include "engine/vk/vk_float.def"
};

#undef PROPERTY
#undef MODE
#define PROPERTY(name, ...) "float_measured." #name,
#define MODE(...)
static const char *const measured_key[DS4_VK_FLOAT_COUNT] = {
#include "engine/vk/vk_float.def"
};

#define N_CASE ((uint32_t)(sizeof case_table / sizeof *case_table))

const ds4_vk_float_case *ds4_vk_float_cases(uint32_t *n) {
    *n = N_CASE;
    return case_table;
}

static bool is_nan(uint32_t word) { return (word & 0x7fffffffu) > 0x7f800000u; }

static bool agrees(const ds4_vk_float_case *c, uint32_t got) {
    return c->any_nan ? is_nan(got) : got == c->want;
}

/* ---- running ---- */

typedef struct runner {
    ds4_vk_device *d;
    ds4_vk_graph *g;
    ds4_vk_memory memory;
    ds4_buf *in, *out;
    uint32_t word[N_CASE];
} runner;

static ds4_status pipeline_new(VkPipeline *out, VkShaderModule *module, const runner *r,
                               const uint32_t *code, const uint32_t *end, ds4_err *err) {
    ds4_status st = DS4_OK;
    VkShaderModuleCreateInfo words = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                      .codeSize = (uintptr_t)end - (uintptr_t)code,
                                      .pCode = code};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .pName = "main"},
        .layout = ds4_vk_graph_layout(r->g)};

    TRYVK("the float probe", vkCreateShaderModule(r->d->device, &words, NULL, module));
    info.stage.module = *module;
    TRYVK("the float probe",
          vkCreateComputePipelines(r->d->device, VK_NULL_HANDLE, 1, &info, NULL, out));
out:
    return st;
}

/* Every case by one build of the kernel; the words are in r->word. */
static ds4_status run(runner *r, const uint32_t *code, const uint32_t *end, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t n = N_CASE; /* the kernel asks the buffer */
    VkShaderModule module = VK_NULL_HANDLE;
    ds4_vk_dispatch c = {.bind = {r->in->buffer, r->in->buffer, r->out->buffer, r->out->buffer},
                         .n_bind = 4,
                         .writes = 1u << 2 | 1u << 3,
                         .args = &n,
                         .args_bytes = sizeof n,
                         .group = {(n + 63) / 64, 1, 1}};

    TRY(pipeline_new(&c.pipeline, &module, r, code, end, err));
    TRY(ds4_vk_graph_dispatch(r->g, &c, err));
    r->in->serial = r->out->serial = ds4_vk_graph_serial(r->g);
    TRY(ds4_vk_buffer_read(&r->memory, r->out, 0, r->word, sizeof r->word, err));
out:
    ds4_vk_graph_forget_pipeline(r->g, c.pipeline);
    if (ds4_vk_graph_settle(r->g)) /* a hung device may still run it */
        vkDestroyPipeline(r->d->device, c.pipeline, NULL);
    vkDestroyShaderModule(r->d->device, module, NULL);
    return st;
}

static ds4_status runner_init(runner *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t in[N_CASE][4];

    for (uint32_t i = 0; i < N_CASE; i++) {
        const ds4_vk_float_case *c = &case_table[i];
        const uint32_t v[4] = {c->step, c->a, c->b, c->c};
        memcpy(in[i], v, sizeof v);
    }
    ds4_vk_memory_init(&r->memory, r->d, r->g);
    TRY(ds4_vk_buffer_new(&r->memory, &r->in, in, sizeof in, "cases of the float probe", err));
    TRY(ds4_vk_buffer_new(&r->memory, &r->out, NULL, sizeof r->word, "words of the float probe",
                          err));
out:
    return st;
}

static void runner_fini(runner *r) {
    ds4_vk_buffer_free(&r->memory, r->in);
    ds4_vk_buffer_free(&r->memory, r->out);
    ds4_vk_memory_fini(&r->memory);
}

/* ---- judging ---- */

/* The first case of the property that disagrees, or NULL. */
static const ds4_vk_float_case *first_fault(const runner *r, uint32_t property) {
    for (uint32_t i = 0; i < N_CASE; i++)
        if (case_table[i].property == property && !agrees(&case_table[i], r->word[i]))
            return &case_table[i];
    return NULL;
}

static void describe(char *text, size_t n, const runner *r, const ds4_vk_float_case *fault) {
    if (!fault) {
        snprintf(text, n, "yes");
        return;
    }
    snprintf(text, n, "no: %s %08x %08x %08x gave %08x, wanted %08x", fault->step_name,
             fault->a, fault->b, fault->c, r->word[fault - case_table], fault->want);
}

static void plant(runner *r, uint32_t property) {
    for (uint32_t i = 0; i < N_CASE; i++)
        if (case_table[i].property == property) {
            r->word[i] ^= 1u;
            return;
        }
}

static bool claims(const ds4_vk_device *d, const struct mode *m) {
    VkBool32 on;
    memcpy(&on, (const char *)&d->controls + m->at, sizeof on);
    return on == VK_TRUE;
}

static ds4_status measure_mode(ds4_vk_float *out, runner *r, uint32_t i, bool wrong,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    const struct mode *m = &mode_table[i];
    char why[128];

    snprintf(out->claim[i], sizeof out->claim[i], "not claimed");
    if (!claims(r->d, m)) goto out;
    TRY(run(r, m->code, m->end, err));
    snprintf(out->claim[i], sizeof out->claim[i], "kept");
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++) {
        if (!(m->wanted >> p & 1u)) continue;
        if (wrong) plant(r, p);
        const ds4_vk_float_case *fault = first_fault(r, p);
        if (!fault) continue;
        describe(why, sizeof why, r, fault);
        snprintf(out->claim[i], sizeof out->claim[i], "broken: %s: %s",
                 ds4_vk_float_table[p].name, why);
        break;
    }
out:
    return st;
}

ds4_status ds4_vk_float_measure(ds4_vk_float *out, ds4_vk_device *d, ds4_vk_graph *g,
                                const char *wrong, ds4_err *err) {
    ds4_status st = DS4_OK;
    runner r = {.d = d, .g = g};
    bool planted = false;

    TRY(runner_init(&r, err));
    TRY(run(&r, ds4_spv_float__plain, ds4_spv_float__plain_end, err));
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++) {
        if (wrong && !strcmp(wrong, ds4_vk_float_table[p].name)) plant(&r, p), planted = true;
        const ds4_vk_float_case *fault = first_fault(&r, p);
        out->holds[p] = !fault;
        describe(out->text[p], sizeof out->text[p], &r, fault);
    }
    for (uint32_t i = 0; i < DS4_VK_FLOAT_N_MODE; i++) {
        bool hit = wrong && !strcmp(wrong, mode_table[i].says);
        planted |= hit;
        TRY(measure_mode(out, &r, i, hit, err));
    }
    if (wrong && !planted) RAISE(DS4_ERR_USAGE, "no float property is called \"%s\"", wrong);
out:
    runner_fini(&r);
    return st;
}

ds4_status ds4_vk_float_check(const ds4_vk_float *m, const char *device, ds4_err *err) {
    for (uint32_t p = 0; p < DS4_VK_FLOAT_COUNT; p++) {
        const ds4_vk_float_property *t = &ds4_vk_float_table[p];
        if (t->strict && !m->holds[p])
            return ds4_err_set(err, DS4_ERR_ENVIRONMENT, DS4_HERE,
                               "%s cannot run strict rows: %s (%s): %s; needed by %s", device,
                               t->name, t->what, m->text[p], t->why);
    }
    return DS4_OK;
}

bool ds4_vk_float_fact(const ds4_vk_float *m, uint32_t i, const char **key,
                       const char **value) {
    if (i < DS4_VK_FLOAT_COUNT) {
        *key = measured_key[i], *value = m->text[i];
        return true;
    }
    i -= DS4_VK_FLOAT_COUNT;
    if (i >= DS4_VK_FLOAT_N_MODE) return false;
    *key = mode_table[i].key, *value = m->claim[i];
    return true;
}
