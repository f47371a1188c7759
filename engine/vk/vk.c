#include "engine/vk/vk.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/ops/ops.h"
#include "engine/vk/vk_buffer.h"
#include "engine/vk/vk_ceiling.h"
#include "engine/vk/vk_experts.h"
#include "engine/vk/vk_float.h"
#include "engine/vk/vk_fused.h"
#include "engine/vk/vk_kernel.h"
#include "engine/vk/vk_probe.h"
#include "engine/vk/vk_split.h"

enum { MAX_ORDER = 4 };

typedef struct ds4_vk {
    ds4_backend base;
    ds4_vk_device *d;
    ds4_vk_graph *g;
    ds4_vk_kernels *k;
    ds4_vk_memory memory;
    ds4_vk_split split;
    ds4_buf *dummy; /* stands in for inputs that a call leaves out */
    /* Facts that change while it is open. */
    char messages[320], replay[96], parts[96], experts[160], weights[256];
    struct {
        const ds4_vk_shape *shape;
        char key[64], text[256];
    } order[MAX_ORDER]; /* of the sums of each cooperative matrix that has run */
    uint32_t n_order;
    ds4_vk_float measured;
    bool describe;       /* facts name every module */
    ds4_err unfit;       /* with describe: why strict rows cannot run, or status DS4_OK */
    struct ds4_vk *left; /* next of left_behind */
} ds4_vk;

/* Devices that hung: closing them would wait for ever, or pull away what they may still write
 * to. They end with the process; this keeps them reachable. One thread at a time, as all of a
 * backend is. */
static ds4_vk *left_behind;

static bool vk_close(ds4_backend *b) {
    ds4_vk *v = (ds4_vk *)b;
    if (!v) return true;
    if (v->g && !ds4_vk_graph_settle(v->g)) {
        v->left = left_behind, left_behind = v;
        return false;
    }
    if (v->g) {
        ds4_vk_split_fini(&v->split);
        ds4_vk_buffer_free(&v->memory, v->dummy);
        ds4_vk_memory_fini(&v->memory);
    }
    ds4_vk_kernels_free(v->k);
    ds4_vk_graph_free(v->g);
    ds4_vk_device_close(v->d);
    ds4_mem_free(v);
    return true;
}

static uint32_t vk_n_row(const ds4_backend *b, ds4_op op) {
    return ds4_vk_kernels_n_row(((const ds4_vk *)b)->k, op);
}

static const ds4_row_info *vk_row(const ds4_backend *b, ds4_op op, uint32_t i) {
    const ds4_vk_row *row = ds4_vk_kernels_row(((const ds4_vk *)b)->k, op, i);
    return row ? &row->info : NULL;
}

static ds4_status vk_buf_new(ds4_backend *b, ds4_buf **out, size_t n, ds4_type type,
                             ds4_err *err) {
    (void)type;
    return ds4_vk_buffer_new(&((ds4_vk *)b)->memory, out, NULL, n, "a work buffer", err);
}

static void vk_buf_free(ds4_backend *b, ds4_buf *buf) {
    ds4_vk_buffer_free(&((ds4_vk *)b)->memory, buf);
}

static size_t vk_buf_bytes(const ds4_backend *b, const ds4_buf *buf) {
    (void)b;
    return buf->n_bytes;
}

static void vk_weights_in(ds4_backend *b, const void *data, size_t n) {
    ds4_vk *v = (ds4_vk *)b;
    ds4_vk_import_file(&v->memory.import, v->d, data, n);
}

static ds4_status vk_buf_weight(ds4_backend *b, ds4_buf **out, const void *data, size_t n,
                                const char *name, ds4_err *err) {
    return ds4_vk_buffer_new(&((ds4_vk *)b)->memory, out, data, n, name, err);
}

static ds4_status vk_buf_experts(ds4_backend *b, ds4_buf **out, const void *data, size_t n,
                                 uint32_t n_mat, const char *name, ds4_err *err) {
    return ds4_vk_experts_new(&((ds4_vk *)b)->memory, out, data, n, n_mat, name, err);
}

static ds4_status vk_room(ds4_backend *b, const ds4_need *need, ds4_err *err) {
    ds4_vk_memory *m = &((ds4_vk *)b)->memory;
    ds4_vk_experts_expect(m, need->weights + need->kv + need->activations, need->experts);
    return ds4_vk_memory_check(m, need, err);
}

static ds4_status vk_buf_write(ds4_backend *b, ds4_buf *buf, size_t off, const void *src,
                               size_t n, ds4_err *err) {
    return ds4_vk_buffer_write(&((ds4_vk *)b)->memory, buf, off, src, n, err);
}

static ds4_status vk_buf_read(ds4_backend *b, ds4_buf *buf, size_t off, void *dst, size_t n,
                              ds4_err *err) {
    return ds4_vk_buffer_read(&((ds4_vk *)b)->memory, buf, off, dst, n, err);
}

static const char *vk_refuses(const ds4_backend *b, const ds4_call *c, uint32_t row) {
    return ds4_vk_kernels_refuses(((const ds4_vk *)b)->k, c, row);
}

static uint32_t div_up(uint32_t a, uint32_t b) { return a / b + (a % b != 0); }

static ds4_status check_call(const ds4_call *c, ds4_op op, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *name = ds4_tap_table[c->tap].name;
    const uint32_t n_bind = ds4_op_table[op].n_in + 1;

    if (c->n_bind != n_bind)
        RAISE(DS4_ERR_INTERNAL, "%s: %u bindings, wanted %u", name, c->n_bind, n_bind);
    if (c->args_bytes != ds4_op_args_bytes(op))
        RAISE(DS4_ERR_INTERNAL, "%s: %zu bytes of arguments, wanted %zu", name, c->args_bytes,
              ds4_op_args_bytes(op));
    if (!c->bind[n_bind - 1] || c->bind[n_bind - 1]->weight)
        RAISE(DS4_ERR_INTERNAL, "%s: the output is missing or read only", name);
out:
    return st;
}

static uint32_t min_u32(uint32_t a, uint32_t b) { return a < b ? a : b; }

/* What a dispatch runs: one call by a row of its op, or a group by fused row `row`. */
typedef struct work {
    const ds4_call *const *call;
    uint32_t n_call, row;
} work;

static ds4_status pipeline_of(ds4_vk *v, const work *w, const uint32_t base[2], VkPipeline *out,
                              ds4_err *err) {
    if (w->n_call == 1)
        return ds4_vk_kernels_pipeline(v->k, w->call[0], w->row, base, out, err);
    return ds4_vk_kernels_fused_pipeline(v->k, w->row, w->call, w->n_call, base, out, err);
}

/* Dispatches of at most the device's limit, each by a pipeline that knows where it begins: the
 * base of vkCmdDispatchBase is bound by the same limit. */
static ds4_status dispatch_all(ds4_vk *v, const work *w, ds4_vk_dispatch *d, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t *most = v->d->limits.maxComputeWorkGroupCount;
    const uint32_t all[2] = {d->group[0], d->group[1]};

    for (uint64_t y = 0; y < all[1]; y += most[1])
        for (uint64_t x = 0; x < all[0]; x += most[0]) {
            const uint32_t base[2] = {(uint32_t)x, (uint32_t)y};
            d->group[0] = min_u32(all[0] - base[0], most[0]);
            d->group[1] = min_u32(all[1] - base[1], most[1]);
            TRY(pipeline_of(v, w, base, &d->pipeline, err));
            TRY(ds4_vk_graph_dispatch(v->g, d, err));
        }
out:
    return st;
}

/* A ds4_vk_run; user: the ds4_vk. */
static ds4_status run(void *user, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk *v = user;
    const ds4_op op = ds4_tap_table[c->tap].op;
    const ds4_vk_row *r = ds4_vk_kernels_row(v->k, op, row);
    const uint32_t most = v->d->limits.maxStorageBufferRange;
    ds4_vk_dispatch d = {.n_bind = c->n_bind,
                         .writes = 1u << ds4_op_table[op].n_in,
                         .args = c->args,
                         .args_bytes = (uint32_t)c->args_bytes};

    ds4_op_grid(op, c->args, d.group);
    if (d.group[0] == 0 || d.group[1] == 0 || d.group[2] == 0) goto out;
    d.group[0] = div_up(d.group[0], r->per_x), d.group[1] = div_up(d.group[1], r->per_y);
    for (uint32_t i = 0; i < c->n_bind; i++) {
        const ds4_buf *buf = c->bind[i] ? c->bind[i] : v->dummy;
        d.bind[i] = buf->buffer;
        d.off[i] = buf->lead + c->view[i].off, d.n[i] = c->view[i].n;
        if (d.off[i] % v->d->limits.minStorageBufferOffsetAlignment)
            RAISE(
                DS4_ERR_ENVIRONMENT,
                "%s: rows that begin at byte %zu of a buffer, the device binds at multiples of "
                "%u",
                ds4_tap_table[c->tap].name, c->view[i].off,
                (uint32_t)v->d->limits.minStorageBufferOffsetAlignment);
        if (!d.n[i] && buf->n_padded - c->view[i].off > most) d.n[i] = most;
    }
    if (ds4_op_table[op].scratch >= 0) d.writes |= 1u << ds4_op_table[op].scratch;
    st = dispatch_all(v, &(work){&c, 1, row}, &d, err); /* may fail after some of it */
    for (uint32_t i = 0; i < c->n_bind; i++)
        if (c->bind[i]) c->bind[i]->serial = ds4_vk_graph_serial(v->g);
    c->bind[c->n_bind - 1]->written = ++v->memory.clock;
out:
    return st;
}

static ds4_status vk_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk *v = (ds4_vk *)b;
    const ds4_op op = ds4_tap_table[c->tap].op;
    const char *refused = ds4_vk_kernels_refuses(v->k, c, row);

    TRY(check_call(c, op, err));
    if (refused)
        RAISE(DS4_ERR_INTERNAL, "%s: row %u was called although it refuses: %s",
              ds4_tap_table[c->tap].name, row, refused);
    TRY(ds4_vk_split_needed(&v->split, c) ? ds4_vk_split_call(&v->split, c, row, err)
                                          : run(v, c, row, err));
out:
    return st;
}

static const char *vk_refuses_group(const ds4_backend *b, const char *row,
                                    const ds4_call *const *c, uint32_t n) {
    const ds4_vk *v = (const ds4_vk *)b;
    for (uint32_t i = 0; i < n; i++)
        if (ds4_vk_split_needed(&v->split, c[i])) return "its operands are bound in parts";
    return ds4_vk_kernels_refuses_fused(v->k, ds4_vk_fused_find(row), c, n);
}

static ds4_status vk_call_group(ds4_backend *b, const char *row, const ds4_call *const *c,
                                uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk *v = (ds4_vk *)b;
    const uint32_t fused = ds4_vk_fused_find(row);
    const ds4_vk_row *r = ds4_vk_kernels_fused(v->k, fused);
    const char *refused = vk_refuses_group(b, row, c, n);
    uint8_t args[128] = {0};
    ds4_vk_dispatch d = {.args = args};

    if (!r || refused) RAISE(DS4_ERR_INTERNAL, "fused row %s was called: %s", row, refused);
    d.n_bind = ds4_vk_fused_n_bind(fused);
    d.args_bytes = ds4_vk_fused_args_at(fused, n);
    for (uint32_t i = 0; i < n; i++) {
        TRY(check_call(c[i], ds4_vk_fused_op(fused, i), err));
        memcpy(args + ds4_vk_fused_args_at(fused, i), c[i]->args, c[i]->args_bytes);
        for (uint32_t j = 0; j < c[i]->n_bind; j++) {
            int k = ds4_vk_fused_wire(fused, i, j);
            if (k < 0) continue;
            const ds4_buf *buf = c[i]->bind[j] ? c[i]->bind[j] : v->dummy;
            d.bind[k] = buf->buffer, d.off[k] = buf->lead;
            if (j + 1 == c[i]->n_bind) d.writes |= 1u << k;
        }
    }
    ds4_op_grid(ds4_vk_fused_op(fused, n - 1), c[n - 1]->args, d.group);
    if (d.group[0] == 0 || d.group[1] == 0 || d.group[2] == 0) goto out;
    d.group[0] = div_up(d.group[0], r->per_x), d.group[1] = div_up(d.group[1], r->per_y);
    st = dispatch_all(v, &(work){c, n, fused}, &d, err);
    for (uint32_t i = 0; i < n; i++) {
        for (uint32_t j = 0; j < c[i]->n_bind; j++)
            if (c[i]->bind[j]) c[i]->bind[j]->serial = ds4_vk_graph_serial(v->g);
        c[i]->bind[c[i]->n_bind - 1]->written = ++v->memory.clock;
    }
out:
    return st;
}

static ds4_status vk_sync(ds4_backend *b, ds4_err *err) {
    return ds4_vk_graph_sync(((ds4_vk *)b)->g, err);
}

ds4_vk_graph *ds4_vk_graph_of(ds4_backend *b) { return ((ds4_vk *)b)->g; }

static const char *messages_text(ds4_vk *v) {
    char text[256];
    uint32_t n = ds4_vk_device_messages(v->d, text, sizeof text);
    snprintf(v->messages, sizeof v->messages, n ? "%u, first: %s" : "%u", n, text);
    return v->messages;
}

static const char *replay_text(ds4_vk *v) {
    const ds4_vk_graph_stats s = ds4_vk_graph_count(v->g);
    snprintf(v->replay, sizeof v->replay, "%llu recorded, %llu replayed",
             (unsigned long long)s.n_recorded, (unsigned long long)s.n_replayed);
    return v->replay;
}

static const char *cache_text(ds4_vk *v) { return ds4_vk_kernels_cache(v->k); }

static const char *parts_text(ds4_vk *v) {
    if (!v->split.n_call) return NULL;
    snprintf(v->parts, sizeof v->parts, "%llu, in %llu parts",
             (unsigned long long)v->split.n_call, (unsigned long long)v->split.n_part);
    return v->parts;
}

static const char *experts_text(ds4_vk *v) {
    const ds4_vk_experts *x = &v->memory.experts;
    if (!x->n_miss) return NULL;
    snprintf(v->experts, sizeof v->experts,
             "%llu bytes, %llu misses, %llu hits, %u slots of %llu bytes",
             (unsigned long long)x->n_streamed, (unsigned long long)x->n_miss,
             (unsigned long long)x->n_hit, x->n_slot, (unsigned long long)x->slot_bytes);
    return v->experts;
}

static const char *weights_text(ds4_vk *v) {
    const ds4_vk_import *im = &v->memory.import;
    if (!im->file) return NULL;
    snprintf(v->weights, sizeof v->weights, "imported %llu bytes, copied %llu bytes%s%s",
             (unsigned long long)im->n_imported, (unsigned long long)im->n_copied,
             *im->why ? ": " : "", im->why);
    return v->weights;
}

/* Probes the sums of each cooperative matrix that has run since the last time (with describe:
 * of each that some row would use), by the first row of matmul that has it. */
static void find_orders(ds4_vk *v) {
    for (uint32_t i = 0; i < vk_n_row(&v->base, DS4_OP_matmul); i++) {
        const ds4_vk_shape *shape = ds4_vk_kernels_shape(v->k, DS4_OP_matmul, i);
        ds4_err err = {0};
        char name[48];
        uint32_t j = 0;

        while (j < v->n_order && v->order[j].shape != shape) j++;
        if (!shape || j < v->n_order || j == MAX_ORDER) continue;
        if (!v->describe && !ds4_vk_kernels_has_used(v->k, shape)) continue;
        ds4_vk_coop_name(name, sizeof name, shape);
        snprintf(v->order[j].key, sizeof v->order[j].key, "coopmat %s order", name);
        if (ds4_vk_probe_row(v->order[j].text, sizeof v->order[j].text, &v->base, i, &err))
            snprintf(v->order[j].text, sizeof v->order[j].text, "unknown: %.200s", err.message);
        v->order[j].shape = shape, v->n_order++;
    }
}

/* Facts of the device, those of its use, its measured arithmetic, the orders of cooperative
 * matrices, the SPIR-V that has run. */
static bool vk_fact(const ds4_backend *b, uint32_t i, const char **key, const char **value) {
    static const struct {
        const char *key;
        const char *(*text)(ds4_vk *v); /* NULL: nothing to say yet */
    } use[] = {{"pipeline_cache", cache_text},     {"validation_messages", messages_text},
               {"submissions", replay_text},       {"calls_in_parts", parts_text},
               {"experts_streamed", experts_text}, {"weights", weights_text}};
    const ds4_vk *v = (const ds4_vk *)b;
    const ds4_vk_device_info *info = &v->d->info;
    if (i < info->n_fact) {
        *key = info->fact[i].key, *value = info->fact[i].value;
        return true;
    }
    i -= info->n_fact;
    for (size_t k = 0; k < sizeof use / sizeof *use; k++) {
        const char *text = use[k].text((ds4_vk *)b); /* it stands in the backend */
        if (!text || i-- > 0) continue;
        *key = use[k].key, *value = text;
        return true;
    }
    if (ds4_vk_float_fact(&v->measured, i, key, value)) return true;
    i -= DS4_VK_FLOAT_N_FACT;
    find_orders((ds4_vk *)b);
    if (i >= v->n_order)
        return ds4_vk_kernels_fact(v->k, i - v->n_order, v->describe, key, value);
    *key = v->order[i].key, *value = v->order[i].text;
    return true;
}

const char *ds4_vk_unfit(const ds4_backend *b) {
    const ds4_vk *v = (const ds4_vk *)b;
    return v->unfit.status == DS4_OK ? NULL : v->unfit.message;
}

static const ds4_backend_ops vk_ops = {.name = "vk",
                                       .close = vk_close,
                                       .n_row = vk_n_row,
                                       .row = vk_row,
                                       .buf_new = vk_buf_new,
                                       .buf_free = vk_buf_free,
                                       .buf_bytes = vk_buf_bytes,
                                       .weights_in = vk_weights_in,
                                       .buf_weight = vk_buf_weight,
                                       .buf_experts = vk_buf_experts,
                                       .room = vk_room,
                                       .buf_write = vk_buf_write,
                                       .buf_read = vk_buf_read,
                                       .refuses = vk_refuses,
                                       .call = vk_call,
                                       .refuses_group = vk_refuses_group,
                                       .call_group = vk_call_group,
                                       .sync = vk_sync,
                                       .fact = vk_fact};

ds4_status ds4_vk_open(ds4_backend **out, const ds4_vk_options *opt, ds4_err *err) {
    static const ds4_vk_options plain = {.device = -1};
    ds4_status st = DS4_OK;
    ds4_vk *v = NULL;

    if (!opt) opt = &plain;
    TRY(ds4_mem_alloc(&v, 1, sizeof *v, err));
    v->base.ops = &vk_ops;
    TRY(ds4_vk_device_open(&v->d, opt, err));
    TRY(ds4_vk_graph_new(&v->g, v->d, !opt->no_replay, err));
    ds4_vk_memory_init(&v->memory, v->d, v->g);
    v->split = (ds4_vk_split){.m = &v->memory, .run = run, .user = v};
    TRY(ds4_vk_float_measure(&v->measured, v->d, v->g, opt->wrong, err));
    v->describe = opt->describe;
    st = ds4_vk_float_check(&v->measured, v->d->info.fact[0].value,
                            v->describe ? &v->unfit : err);
    if (st != DS4_OK && !v->describe) goto out;
    TRY(ds4_vk_kernels_new(&v->k, v->d, v->g, opt->cache_dir, err));
    TRY(ds4_vk_buffer_new(&v->memory, &v->dummy, NULL, 256, "the dummy buffer", err));
    *out = &v->base, v = NULL;
out:
    vk_close((ds4_backend *)v);
    return st;
}

ds4_status ds4_vk_ceilings(ds4_vk_ceiling out[DS4_VK_MAX_CEILING], uint32_t *n, ds4_backend *b,
                           ds4_err *err) {
    ds4_vk *v = (ds4_vk *)b;
    if (strcmp(b->ops->name, vk_ops.name))
        return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE, "ceilings: engine %s, wanted vk",
                           b->ops->name);
    return ds4_vk_measure_ceilings(out, n, v->d, v->g, &v->memory, err);
}

const char *ds4_vk_row_ceiling(const ds4_backend *b, ds4_op op, const char *row) {
    const ds4_vk *v = (const ds4_vk *)b;
    if (strcmp(b->ops->name, vk_ops.name)) return "fma";
    for (uint32_t i = 0; i < vk_n_row(b, op); i++) {
        const ds4_vk_shape *s = ds4_vk_kernels_shape(v->k, op, i);
        if (s && !strcmp(vk_row(b, op, i)->name, row))
            return s->r == DS4_VK_COOP_F16 ? "matrix_f16acc" : "matrix";
    }
    return "fma";
}

ds4_vk_built ds4_vk_pipelines_built(const ds4_backend *b) {
    if (strcmp(b->ops->name, vk_ops.name)) return (ds4_vk_built){0};
    return ds4_vk_kernels_built(((const ds4_vk *)b)->k);
}
