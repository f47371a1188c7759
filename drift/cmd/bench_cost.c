#include "drift/cmd/bench_cost.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/ops/ops.h"

static const ds4_backend_ops *real_ops;
static ds4_backend_ops counting_ops;
static bench_cost *total;

static double lesser(double a, double b) { return a < b ? a : b; }

static ds4_status of_embed(ds4_backend *b, const ds4_call *c, bench_cost *n, ds4_err *err) {
    const struct ds4_args_embed *a = c->args;
    (void)b, (void)err;
    n->n_byte = (double)a->n_tok * a->row_bytes;
    return DS4_OK;
}

static ds4_status of_matmul(ds4_backend *b, const ds4_call *c, bench_cost *n, ds4_err *err) {
    const struct ds4_args_matmul *a = c->args;
    (void)b, (void)err;
    n->n_byte = (double)a->n_out * a->row_bytes;
    n->n_mac = (double)a->n_tok * a->n_in * a->n_out;
    return DS4_OK;
}

/* Reads the selection: each matrix that is in it is read once per call. */
static ds4_status of_matmul_id(ds4_backend *b, const ds4_call *c, bench_cost *n, ds4_err *err) {
    ds4_status st = DS4_OK;
    const struct ds4_args_matmul_id *a = c->args;
    uint32_t n_sel = a->n_tok * a->n_slot, n_distinct = 0;
    int32_t *sel = NULL;
    bool *seen = NULL;

    TRY(ds4_mem_alloc(&sel, n_sel, sizeof *sel, err));
    TRY(ds4_mem_alloc(&seen, a->n_mat, sizeof *seen, err));
    TRY(b->ops->buf_read(b, c->bind[2], c->view[2].off, sel, n_sel * sizeof *sel, err));
    for (uint32_t i = 0; i < n_sel; i++) {
        if (sel[i] < 0 || (uint32_t)sel[i] >= a->n_mat || seen[sel[i]]) continue;
        seen[sel[i]] = true, n_distinct++;
    }
    n->n_byte = (double)n_distinct * a->n_out * a->row_bytes;
    n->n_mac = (double)n_sel * a->n_in * a->n_out;
out:
    ds4_mem_free(seen);
    ds4_mem_free(sel);
    return st;
}

/* A row serves every head and every token of a call, so the longest token's rows are read. */
static ds4_status of_attention(ds4_backend *b, const ds4_call *c, bench_cost *n, ds4_err *err) {
    const struct ds4_args_attention *a = c->args;
    (void)b, (void)err;
    for (uint32_t t = 0; t < a->n_tok; t++) {
        double p = (double)a->pos0 + t + 1.0,
               comp = a->ratio ? (double)(uint32_t)p / a->ratio : 0.0;
        if (a->n_sel && t >= a->sel_tok0) comp = lesser(comp, a->n_sel);
        double rows = lesser(p, a->window) + (double)(uint32_t)comp;
        n->n_mac += 2.0 * rows * a->n_head * a->d_head;
        if (n->n_byte < rows * a->d_head * 4.0) n->n_byte = rows * a->d_head * 4.0;
    }
    return DS4_OK;
}

static ds4_status of_index_score(ds4_backend *b, const ds4_call *c, bench_cost *n,
                                 ds4_err *err) {
    const struct ds4_args_index_score *a = c->args;
    const double width = 128.0; /* of an indexer row (config.h) */
    (void)b, (void)err;
    for (uint32_t t = 0; t < a->n_tok; t++) {
        double rows = (double)((a->pos0 + t + 1) / a->ratio);
        n->n_mac += rows * a->n_head * width;
        if (n->n_byte < rows * width * 4.0) n->n_byte = rows * width * 4.0;
    }
    return DS4_OK;
}

static const struct {
    ds4_op op;
    ds4_status (*cost)(ds4_backend *, const ds4_call *, bench_cost *, ds4_err *);
} costs[] = {{DS4_OP_embed, of_embed},
             {DS4_OP_matmul, of_matmul},
             {DS4_OP_matmul_id, of_matmul_id},
             {DS4_OP_attention, of_attention},
             {DS4_OP_index_score, of_index_score}};

static ds4_status count(ds4_backend *b, const ds4_call *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < sizeof costs / sizeof *costs; i++) {
        bench_cost n = {0};
        if (costs[i].op != ds4_tap_table[c->tap].op) continue;
        TRY(costs[i].cost(b, c, &n, err));
        total->n_byte += n.n_byte, total->n_mac += n.n_mac;
    }
out:
    return st;
}

static ds4_status counting_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_status st = count(b, c, err);
    return st ? st : real_ops->call(b, c, row, err);
}

static ds4_status counting_group(ds4_backend *b, const char *row, const ds4_call *const *c,
                                 uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t i = 0; !st && i < n; i++) st = count(b, c[i], err);
    return st ? st : real_ops->call_group(b, row, c, n, err);
}

void bench_cost_begin(ds4_backend *b, bench_cost *out) {
    *out = (bench_cost){0}, total = out;
    real_ops = b->ops, counting_ops = *b->ops;
    counting_ops.call = counting_call;
    if (real_ops->call_group) counting_ops.call_group = counting_group;
    b->ops = &counting_ops;
}

void bench_cost_end(ds4_backend *b) { b->ops = real_ops; }
