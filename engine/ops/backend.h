#ifndef DS4_OPS_BACKEND_H
#define DS4_OPS_BACKEND_H
/* What forward.c asks of an engine: memory, and the execution of one op call by one row.
 *
 * Row 0 of every op is `strict`: it equals the scalar reference bit for bit and accepts every
 * call (in ref64 it is `f64`, its only row). Other rows may refuse a call with a reason; the
 * caller then takes row 0 and the ledger keeps the reason. */
#include <stddef.h>

#include "engine/base/err.h"
#include "engine/tap.h"

#define DS4_MAX_BIND 8

typedef struct ds4_buf ds4_buf; /* owned by its backend; read-only when made from weights */

typedef enum ds4_phase { DS4_PREFILL, DS4_DECODE, DS4_PHASE_COUNT } ds4_phase;

typedef struct ds4_call {
    ds4_tap tap; /* names the op too: ds4_tap_table[tap].op */
    uint32_t layer;
    ds4_phase phase;
    uint32_t wtype;    /* GGUF type id of a weight at binding 0 (embed, matmul, matmul_id) or of
                          binding 1 (gate_bias); DS4_QUANT_F32 for every other op */
    uint32_t variants; /* bits (1 << ds4_variant) set for this call */
    const void *args;  /* struct ds4_args_<op> */
    size_t args_bytes;
    ds4_buf *bind[DS4_MAX_BIND]; /* inputs, then the output */
    /* The part of a buffer that a binding is: bytes as buf_read counts them. n 0: all from off
     * on. Engines on a device may need off to be a multiple of up to 256. */
    struct {
        size_t off, n;
    } view[DS4_MAX_BIND];
    uint32_t n_bind;
    uint64_t n_elem; /* elements of the output, for the ledger */
    uint32_t row0;   /* number in the whole text of the output's first row: a token's position
                        or a compressed row's index, whatever the batch */
    uint32_t n_col;  /* elements of a row of the output */
    const char *refused; /* set by the backend: why the wanted row did not run */
} ds4_call;

/* Bytes that an engine will be asked for. */
typedef struct ds4_need {
    uint64_t weights;         /* without those of buf_experts */
    uint64_t experts, expert; /* all of those; the largest matrix of them */
    uint64_t kv, activations;
} ds4_need;

typedef struct ds4_row_info {
    const char *name;  /* "strict" at index 0; "f64" in ref64 */
    const char *cause; /* "NONE" or REASSOC FMA NARROW APPROX FLUSH SELECT, joined by "|" */
    const char *bound; /* "exact", or the text of the manifest */
    uint32_t variants; /* variant bits that this row honours */
    bool tensor;       /* f16-staged operands: refused under DS4_TENSOR_MATMUL_DISABLE */
    uint32_t per[2];   /* units of the grid's x and y that one group covers; 0: no groups */
    uint32_t lanes;    /* invocations of a group, which split a sum; 0: no groups */
    uint32_t min_tok;  /* fewest units along the op's token dimension */
    const char *lacks; /* static text: what the device lacks for this row, or that it runs
                          groups of calls (fusions.def), none alone; NULL: nothing */
    bool seeded;       /* its result depends on the seed of the run */
} ds4_row_info;

typedef struct ds4_backend ds4_backend;
typedef struct ds4_backend_ops {
    const char *name; /* "ref", "ref64", "vk" */
    /* False: a device hangs and may still read what its weights were made from, which has to
     * stay until the process ends. */
    bool (*close)(ds4_backend *b);
    /* Rows of an op. row(b, op, i) for i < n_row(b, op). */
    uint32_t (*n_row)(const ds4_backend *b, ds4_op op);
    const ds4_row_info *(*row)(const ds4_backend *b, ds4_op op, uint32_t i);
    /* Zero-filled memory of n / 4 elements of a type, n a multiple of 4; an engine may hold f32
     * elements wider, but reads and writes are in f32. Owns: freed by buf_free; free(NULL) is
     * legal. */
    ds4_status (*buf_new)(ds4_backend *b, ds4_buf **out, size_t n, ds4_type type, ds4_err *err);
    void (*buf_free)(ds4_backend *b, ds4_buf *buf);
    /* Bytes of f32 and i32 as buf_read gives them. */
    size_t (*buf_bytes)(const ds4_backend *b, const ds4_buf *buf);
    /* Told before the weights of a file are made: they lie in data[n], which is all of it,
     * mapped. NULL: no use for it. */
    void (*weights_in)(ds4_backend *b, const void *data, size_t n);
    /* A read-only buffer over n bytes that outlive it: used in place by ref, by vk imported
     * or uploaded once.
     * `name` is used in messages. */
    ds4_status (*buf_weight)(ds4_backend *b, ds4_buf **out, const void *data, size_t n,
                             const char *name, ds4_err *err);
    /* The same for n_mat matrices of one size, of which a call uses a few: the engine need not
     * hold all of them at once. NULL: buf_weight. */
    ds4_status (*buf_experts)(ds4_backend *b, ds4_buf **out, const void *data, size_t n,
                              uint32_t n_mat, const char *name, ds4_err *err);
    /* DS4_ERR_ENVIRONMENT, saying how much of what is missing, when memory of these sizes could
     * not be had beside what is in use. NULL: never. */
    ds4_status (*room)(ds4_backend *b, const ds4_need *need, ds4_err *err);
    /* Offsets and sizes in bytes of 4-byte elements. Both wait for every call recorded before.
     */
    ds4_status (*buf_write)(ds4_backend *b, ds4_buf *buf, size_t off, const void *src, size_t n,
                            ds4_err *err);
    ds4_status (*buf_read)(ds4_backend *b, ds4_buf *buf, size_t off, void *dst, size_t n,
                           ds4_err *err);
    /* NULL when row i can execute this call, else a static text that says why not. */
    const char *(*refuses)(const ds4_backend *b, const ds4_call *c, uint32_t row);
    /* Executes or records; later calls see its results. */
    ds4_status (*call)(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err);
    /* Fused rows: a row of that name in each op of a group (fusions.def), which refuses a call
     * alone and runs the calls of a group, in order, as one. NULL: the engine has none.
     * refuses_group: NULL when the n calls can run so, else a static text that says why not. */
    const char *(*refuses_group)(const ds4_backend *b, const char *row,
                                 const ds4_call *const *c, uint32_t n);
    ds4_status (*call_group)(ds4_backend *b, const char *row, const ds4_call *const *c,
                             uint32_t n, ds4_err *err);
    /* Waits for everything recorded. */
    ds4_status (*sync)(ds4_backend *b, ds4_err *err);
    /* Provenance as key and value, e.g. "device", "driver", "float_controls", "spirv.<row>".
     * false past the last one. */
    bool (*fact)(const ds4_backend *b, uint32_t i, const char **key, const char **value);
    /* Its state holds more than the f32 that buf_read gives and buf_write takes. */
    bool wide;
} ds4_backend_ops;

struct ds4_backend {
    const ds4_backend_ops *ops; /* first member of every backend */
};

#endif
