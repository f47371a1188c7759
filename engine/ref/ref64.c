#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/ref/ref.h"
#include "engine/ref/rows.h"

/* Elements of type f32 are held as f64; integers and raw weights as they are. */
struct ds4_buf {
    void *p;
    size_t n_elem;
    bool wide, owned;
};

typedef struct ref64 {
    ds4_backend base;
    ds4_pool *pool;
    char n_thread[16];
} ref64;

static const ds4_ref_row *row_of(ds4_op op) {
    const ds4_ref_row *r = ds4_f64_rows;
    while (r->op != op) r++;
    return r;
}

static uint32_t n_row(const ds4_backend *b, ds4_op op) {
    (void)b, (void)op;
    return 1;
}

static const ds4_row_info *row(const ds4_backend *b, ds4_op op, uint32_t i) {
    (void)b, (void)i;
    return &row_of(op)->info;
}

static ds4_status buf_new(ds4_backend *b, ds4_buf **out, size_t n, ds4_type type,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_buf *buf = NULL;

    (void)b;
    TRY(ds4_mem_alloc(&buf, 1, sizeof *buf, err));
    buf->owned = true;
    buf->wide = type == DS4_TYPE_F32;
    buf->n_elem = n / 4;
    TRY(ds4_mem_alloc(&buf->p, buf->n_elem, buf->wide ? sizeof(double) : 4, err));
    *out = buf, buf = NULL;
out:
    ds4_mem_free(buf);
    return st;
}

static ds4_status buf_weight(ds4_backend *b, ds4_buf **out, const void *data, size_t n,
                             const char *name, ds4_err *err) {
    (void)b, (void)name;
    ds4_buf *buf = NULL;
    ds4_status st = ds4_mem_alloc(&buf, 1, sizeof *buf, err);
    if (st != DS4_OK) return st;
    buf->n_elem = n / 4;
    memcpy(&buf->p, &data, sizeof data); /* read-only by contract: no op writes to its inputs */
    *out = buf;
    return DS4_OK;
}

static void buf_free(ds4_backend *b, ds4_buf *buf) {
    (void)b;
    if (!buf) return;
    if (buf->owned) ds4_mem_free(buf->p);
    ds4_mem_free(buf);
}

static size_t buf_bytes(const ds4_backend *b, const ds4_buf *buf) {
    (void)b;
    return buf->n_elem * 4;
}

static ds4_status check_range(const ds4_buf *buf, size_t off, size_t n, ds4_err *err) {
    if (!(off % 4) && !(n % 4) && off / 4 <= buf->n_elem && n / 4 <= buf->n_elem - off / 4)
        return DS4_OK;
    return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE,
                       "buffer access %zu + %zu of %zu elements", off, n, buf->n_elem);
}

static ds4_status buf_write(ds4_backend *b, ds4_buf *buf, size_t off, const void *src, size_t n,
                            ds4_err *err) {
    (void)b;
    ds4_status st = check_range(buf, off, n, err);
    if (st != DS4_OK) return st;
    if (!buf->wide) memcpy((char *)buf->p + off, src, n);
    for (size_t i = 0; buf->wide && i < n / 4; i++) {
        float x;
        memcpy(&x, (const char *)src + 4 * i, 4);
        ((double *)buf->p)[off / 4 + i] = (double)x;
    }
    return DS4_OK;
}

static ds4_status buf_read(ds4_backend *b, ds4_buf *buf, size_t off, void *dst, size_t n,
                           ds4_err *err) {
    (void)b;
    ds4_status st = check_range(buf, off, n, err);
    if (st != DS4_OK) return st;
    if (!buf->wide) memcpy(dst, (const char *)buf->p + off, n);
    for (size_t i = 0; buf->wide && i < n / 4; i++) {
        float x = (float)((const double *)buf->p)[off / 4 + i];
        memcpy((char *)dst + 4 * i, &x, 4);
    }
    return DS4_OK;
}

static const char *refuses(const ds4_backend *b, const ds4_call *c, uint32_t i) {
    (void)b, (void)c, (void)i;
    return NULL;
}

static ds4_status call(ds4_backend *b, const ds4_call *c, uint32_t i, ds4_err *err) {
    ref64 *r = (ref64 *)b;
    const ds4_ref_row *how = row_of(ds4_tap_table[c->tap].op);
    ds4_ref_call rc = {
        .args = c->args, .wtype = c->wtype, .variants = c->variants & how->info.variants};

    (void)i, (void)err;
    for (uint32_t k = 0; k < c->n_bind; k++)
        rc.bind[k] = c->bind[k]
                         ? (char *)c->bind[k]->p + c->view[k].off * (c->bind[k]->wide ? 2 : 1)
                         : NULL;
    ds4_ref_split(r->pool, how->op, how->run, &rc);
    return DS4_OK;
}

static ds4_status sync(ds4_backend *b, ds4_err *err) {
    (void)b, (void)err;
    return DS4_OK;
}

static bool fact(const ds4_backend *b, uint32_t i, const char **key, const char **value) {
    const ref64 *r = (const ref64 *)b;
    const char *const facts[][2] = {
        {"device", "CPU"},
        {"driver", "C in float64, contraction off"},
        {"precision", "float64; taps and logits rounded to float32 when they are read"},
        {"threads", r->n_thread},
    };
    if (i >= sizeof facts / sizeof *facts) return false;
    *key = facts[i][0], *value = facts[i][1];
    return true;
}

static bool close(ds4_backend *b) {
    ref64 *r = (ref64 *)b;
    if (!r) return true;
    ds4_pool_free(r->pool);
    ds4_mem_free(r);
    return true;
}

static const ds4_backend_ops ref64_ops = {.name = "ref64",
                                          .close = close,
                                          .n_row = n_row,
                                          .row = row,
                                          .buf_new = buf_new,
                                          .buf_free = buf_free,
                                          .buf_bytes = buf_bytes,
                                          .buf_weight = buf_weight,
                                          .buf_write = buf_write,
                                          .buf_read = buf_read,
                                          .refuses = refuses,
                                          .call = call,
                                          .sync = sync,
                                          .fact = fact,
                                          .wide = true};

ds4_status ds4_ref64_open(ds4_backend **out, uint32_t n_thread, ds4_err *err) {
    ds4_status st = DS4_OK;
    ref64 *r = NULL;

    n_thread = ds4_ref_n_thread(n_thread);
    TRY(ds4_mem_alloc(&r, 1, sizeof *r, err));
    r->base.ops = &ref64_ops;
    snprintf(r->n_thread, sizeof r->n_thread, "%u", n_thread);
    TRY(ds4_pool_new(&r->pool, n_thread, err));
    *out = &r->base, r = NULL;
out:
    if (r) close(&r->base);
    return st;
}
