#ifndef DS4_REF_ROWS_H
#define DS4_REF_ROWS_H
/* The rows of the CPU engines as tables: which function computes an op, with what bound. */
#include "engine/ops/ops.h"
#include "engine/ref/pool.h"

typedef void (*ds4_ref_fn)(const ds4_ref_call *c, ds4_box box);

typedef struct ds4_ref_row {
    ds4_op op;
    ds4_ref_fn run; /* NULL: ds4_op_reference */
    ds4_row_info info;
} ds4_ref_row;

/* Tables end with a row without a name. */
extern const ds4_ref_row ds4_compat_rows[]; /* compat.def */
extern const ds4_ref_row ds4_order_rows[];  /* noise.def */
extern const ds4_ref_row ds4_sround_rows[]; /* noise.def */
extern const ds4_ref_row ds4_f64_rows[];    /* f64.def */

/* Rows of `ref`, in the order of a plan's indices: strict, f16, compat, order, sround. */
uint32_t ds4_ref_n_row(ds4_op op);
const ds4_ref_row *ds4_ref_row_at(ds4_op op, uint32_t i);
/* By name; NULL when the op has no such row. */
const ds4_ref_row *ds4_ref_row_find(ds4_op op, const char *name);

/* Runs a call over its whole grid, split over the threads of the pool; run NULL as above. */
void ds4_ref_split(ds4_pool *pool, ds4_op op, ds4_ref_fn run, const ds4_ref_call *c);

#endif
