#include "engine/ref/ref.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/ops/ops.h"
#include "engine/ref/rows.h"
#include "engine/ref/simd.h"
#include "engine/variants.h"

struct ds4_buf {
    void *p;
    size_t n_bytes;
    bool owned;
};

typedef struct ref {
    ds4_backend base;
    ds4_pool *pool;
    char n_thread[16];
    uint64_t seed; /* of the noise rows */
    char seed_text[24];
    float *half_x; /* rounded inputs: f16, or by DS4_ACT_Q8 */
    size_t n_half_x;
    const ds4_simd *simd; /* NULL: scalar */
    float *packed;        /* inputs as the path wants them, 64-byte aligned */
    void *packed_mem;
    size_t n_packed;
} ref;

static uint32_t ref_n_row(const ds4_backend *b, ds4_op op) {
    (void)b;
    return ds4_ref_n_row(op);
}

static const ds4_row_info *ref_row(const ds4_backend *b, ds4_op op, uint32_t i) {
    (void)b;
    return &ds4_ref_row_at(op, i)->info;
}

static ds4_status ref_buf_make(ds4_buf **out, void *p, size_t n, ds4_err *err) {
    ds4_buf *buf = NULL;
    ds4_status st = ds4_mem_alloc(&buf, 1, sizeof *buf, err);
    if (st != DS4_OK) return st;
    buf->owned = !p;
    buf->n_bytes = n;
    buf->p = p;
    if (!p) st = ds4_mem_alloc(&buf->p, n, 1, err);
    if (st == DS4_OK) *out = buf;
    else ds4_mem_free(buf);
    return st;
}

static ds4_status ref_buf_new(ds4_backend *b, ds4_buf **out, size_t n, ds4_type type,
                              ds4_err *err) {
    (void)b, (void)type;
    return ref_buf_make(out, NULL, n, err);
}

static ds4_status ref_buf_weight(ds4_backend *b, ds4_buf **out, const void *data, size_t n,
                                 const char *name, ds4_err *err) {
    (void)b, (void)name;
    void *p;
    memcpy(&p, &data, sizeof p); /* read-only by contract: no op writes to its inputs */
    return ref_buf_make(out, p, n, err);
}

static void ref_buf_free(ds4_backend *b, ds4_buf *buf) {
    (void)b;
    if (!buf) return;
    if (buf->owned) ds4_mem_free(buf->p);
    ds4_mem_free(buf);
}

static size_t ref_buf_bytes(const ds4_backend *b, const ds4_buf *buf) {
    (void)b;
    return buf->n_bytes;
}

static ds4_status check_range(const ds4_buf *buf, size_t off, size_t n, ds4_err *err) {
    if (off <= buf->n_bytes && n <= buf->n_bytes - off) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE, "buffer access %zu + %zu of %zu bytes",
                       off, n, buf->n_bytes);
}

static ds4_status ref_buf_write(ds4_backend *b, ds4_buf *buf, size_t off, const void *src,
                                size_t n, ds4_err *err) {
    (void)b;
    ds4_status st = check_range(buf, off, n, err);
    if (st == DS4_OK) memcpy((char *)buf->p + off, src, n);
    return st;
}

static ds4_status ref_buf_read(ds4_backend *b, ds4_buf *buf, size_t off, void *dst, size_t n,
                               ds4_err *err) {
    (void)b;
    ds4_status st = check_range(buf, off, n, err);
    if (st == DS4_OK) memcpy(dst, (char *)buf->p + off, n);
    return st;
}

static const char *ref_refuses(const ds4_backend *b, const ds4_call *c, uint32_t row) {
    ds4_op op = ds4_tap_table[c->tap].op;
    uint32_t grid[3];
    if (!ref_row(b, op, row)->tensor) return NULL;
    if (c->variants & DS4_VARIANT_BIT(TENSOR_MATMUL_DISABLE))
        return "DS4_TENSOR_MATMUL_DISABLE is on";
    ds4_op_grid(op, c->args, grid);
    if (op == DS4_OP_matmul && grid[1] < 9) return "fewer than 9 tokens";
    if (op == DS4_OP_matmul_id && grid[1] < 32) return "fewer than 32 token slots";
    return NULL;
}

/* One call split into boxes along its longer side. */
typedef struct job {
    ds4_op op;
    ds4_ref_fn run;          /* NULL: the reference */
    const ds4_simd_op *simd; /* NULL: scalar */
    const ds4_simd *path;
    const float *packed;
    const ds4_ref_call *call;
    uint32_t grid[3], n_part;
    bool by_x; /* parts are ranges of x, else of y */
} job;

static void run_part(void *user, uint32_t part) {
    const job *j = user;
    ds4_box box = {0, j->grid[0], 0, j->grid[1]};
    uint64_t n = j->by_x ? j->grid[0] : j->grid[1];
    uint32_t from = (uint32_t)(n * part / j->n_part),
             to = (uint32_t)(n * (part + 1) / j->n_part);
    if (j->by_x) box.x0 = from, box.x1 = to;
    else box.y0 = from, box.y1 = to;
    if (j->simd) j->simd->run(j->path, j->call, j->packed, box);
    else if (j->run) j->run(j->call, box);
    else ds4_op_reference(j->op, j->call, box);
}

/* Rough cost of one unit in multiply-adds: only decides whether threads are worth waking. */
static uint64_t unit_cost(ds4_op op) {
    static const uint16_t cost[DS4_OP_COUNT] = {
        [DS4_OP_matmul] = 256,       [DS4_OP_matmul_id] = 256,   [DS4_OP_attention] = 16384,
        [DS4_OP_index_score] = 512,  [DS4_OP_rms_norm] = 256,    [DS4_OP_rope] = 1024,
        [DS4_OP_softmax_pool] = 256, [DS4_OP_index_topk] = 4096, [DS4_OP_hc_split] = 1024,
        [DS4_OP_index_round] = 1024, [DS4_OP_kv_round] = 512,    [DS4_OP_swiglu] = 32,
    };
    return cost[op] ? cost[op] : 4;
}

static ds4_status round_inputs(ref *r, const ds4_call *c, ds4_ref_call *rc, ds4_err *err) {
    ds4_status st = DS4_OK;
    const float *x = rc->bind[1];
    size_t n = (c->bind[1]->n_bytes - c->view[1].off) / sizeof(float);
    if (n > r->n_half_x) {
        TRY(ds4_mem_grow(&r->half_x, n, sizeof(float), err));
        r->n_half_x = n;
    }
    for (size_t i = 0; i < n; i++) r->half_x[i] = ds4_f16_round(x[i]);
    rc->bind[1] = r->half_x;
    rc->half = true;
out:
    return st;
}

/* Parts along the longer side; products along the rows of the weight, so that a row is decoded
 * by one part alone. */
static void run_job(ds4_pool *pool, job *j) {
    uint32_t n_thread = ds4_pool_n_thread(pool);
    ds4_op_grid(j->op, j->call->args, j->grid);
    uint64_t work = (uint64_t)j->grid[0] * j->grid[1] * unit_cost(j->op);
    j->by_x = j->grid[0] >= j->grid[1] || (j->simd && j->grid[0] >= 16 * n_thread);
    uint32_t longer = j->by_x ? j->grid[0] : j->grid[1];
    j->n_part = work < 65536 || n_thread == 1 ? 1 : n_thread * 4;
    if (j->n_part > longer) j->n_part = longer;
    ds4_pool_run(pool, run_part, j, j->n_part);
}

void ds4_ref_split(ds4_pool *pool, ds4_op op, ds4_ref_fn run, const ds4_ref_call *c) {
    run_job(pool, &(job){.op = op, .run = run, .call = c});
}

/* Rearranges the inputs of a product for the SIMD path. */
static ds4_status pack_inputs(ref *r, job *j, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_simd_op *op = ds4_simd_find_op(j->op);
    size_t n = op->n_packed(j->call->args);

    if (n > r->n_packed) {
        TRY(ds4_mem_grow(&r->packed_mem, n * sizeof(float) + 64, 1, err));
        r->packed = (float *)(((uintptr_t)r->packed_mem + 63) & ~(uintptr_t)63);
        r->n_packed = n;
    }
    op->pack(r->simd, j->call, r->packed);
    j->simd = op, j->path = r->simd, j->packed = r->packed;
out:
    return st;
}

/* DS4_ACT_Q8 once for all units and threads; what follows meets rounded inputs. */
static ds4_status round_act(ref *r, ds4_op op, ds4_ref_call *rc, ds4_err *err) {
    ds4_status st = DS4_OK;
    const struct ds4_args_matmul *a = rc->args;
    const struct ds4_args_matmul_id *b = rc->args;
    bool id = op == DS4_OP_matmul_id;
    uint32_t n_row = id ? b->n_tok * (b->x_per_slot ? b->n_slot : 1) : a->n_tok;
    uint32_t stride = id ? b->n_in : a->x_stride, n_in = id ? b->n_in : a->n_in;
    size_t n = (size_t)n_row * stride;
    const float *x = rc->bind[1];

    if (n > r->n_half_x) {
        TRY(ds4_mem_grow(&r->half_x, n, sizeof(float), err));
        r->n_half_x = n;
    }
    for (uint32_t t = 0; t < n_row; t++) /* slices of n_in, whose blocks never cross */
        for (uint32_t at = 0; at + n_in <= stride; at += n_in)
            ds4_act_round(r->half_x + (size_t)t * stride + at, x + (size_t)t * stride + at,
                          n_in, rc->wtype);
    rc->bind[1] = r->half_x;
    rc->variants &= ~DS4_VARIANT_BIT(ACT_Q8);
out:
    return st;
}

static ds4_status ref_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_status st = DS4_OK;
    ref *r = (ref *)b;
    ds4_op op = ds4_tap_table[c->tap].op;
    const ds4_ref_row *how = ds4_ref_row_at(op, row);
    ds4_ref_call rc = {.args = c->args,
                       .wtype = c->wtype,
                       .variants = c->variants & how->info.variants,
                       .noise_key = ds4_rng_key(r->seed, ds4_tap_table[c->tap].name, c->layer),
                       .row0 = c->row0,
                       .n_col = c->n_col};

    for (uint32_t i = 0; i < c->n_bind; i++)
        rc.bind[i] = c->bind[i] ? (char *)c->bind[i]->p + c->view[i].off : NULL;
    job j = {.op = op, .run = how->run, .call = &rc};
    if (how->info.tensor) TRY(round_inputs(r, c, &rc, err));
    else if (!row && ds4_simd_find_op(op) && ds4_act_is_rounded(&rc))
        TRY(round_act(r, op, &rc, err));
    if (r->simd && !how->run && ds4_simd_find_op(op)) TRY(pack_inputs(r, &j, err));
    run_job(r->pool, &j);
out:
    return st;
}

static ds4_status ref_sync(ds4_backend *b, ds4_err *err) {
    (void)b, (void)err;
    return DS4_OK;
}

static bool ref_fact(const ds4_backend *b, uint32_t i, const char **key, const char **value) {
    const ref *r = (const ref *)b;
    const char *const facts[][2] = {
        {"device", "CPU"},
        {"driver", "C, contraction off"},
        {"threads", r->n_thread},
        {"simd", r->simd ? r->simd->name : "scalar"},
        {"noise_seed", r->seed_text},
    };
    if (i >= sizeof facts / sizeof *facts) return false;
    *key = facts[i][0], *value = facts[i][1];
    return true;
}

static bool ref_close(ds4_backend *b) {
    ref *r = (ref *)b;
    if (!r) return true;
    ds4_pool_free(r->pool);
    ds4_mem_free(r->half_x);
    ds4_mem_free(r->packed_mem);
    ds4_mem_free(r);
    return true;
}

static const ds4_backend_ops ref_ops = {.name = "ref",
                                        .close = ref_close,
                                        .n_row = ref_n_row,
                                        .row = ref_row,
                                        .buf_new = ref_buf_new,
                                        .buf_free = ref_buf_free,
                                        .buf_bytes = ref_buf_bytes,
                                        .buf_weight = ref_buf_weight,
                                        .buf_write = ref_buf_write,
                                        .buf_read = ref_buf_read,
                                        .refuses = ref_refuses,
                                        .call = ref_call,
                                        .sync = ref_sync,
                                        .fact = ref_fact};

uint32_t ds4_ref_n_thread(uint32_t wanted) {
    long n = wanted ? (long)wanted : sysconf(_SC_NPROCESSORS_ONLN);
    return n < 1 ? 1 : n > 256 ? 256 : (uint32_t)n;
}

void ds4_ref_set_noise_seed(ds4_backend *b, uint64_t seed) {
    ref *r = (ref *)b;
    r->seed = seed;
    snprintf(r->seed_text, sizeof r->seed_text, "%llu", (unsigned long long)seed);
}

ds4_status ds4_ref_open(ds4_backend **out, uint32_t n_thread, const char *simd, ds4_err *err) {
    ds4_status st = DS4_OK;
    ref *r = NULL;

    n_thread = ds4_ref_n_thread(n_thread);
    TRY(ds4_mem_alloc(&r, 1, sizeof *r, err));
    r->base.ops = &ref_ops;
    TRY(ds4_simd_find(&r->simd, simd, err));
    ds4_ref_set_noise_seed(&r->base, 0);
    snprintf(r->n_thread, sizeof r->n_thread, "%u", n_thread);
    TRY(ds4_pool_new(&r->pool, n_thread, err));
    *out = &r->base, r = NULL;
out:
    if (r) ref_close(&r->base);
    return st;
}
