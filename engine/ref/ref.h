#ifndef DS4_REF_H
#define DS4_REF_H
/* The reference engine: ops on the CPU, threads over outputs only. Rows: strict; f16 (matmul,
 * matmul_id: operands rounded to f16); compat (model.md's arithmetic, engine/ref/compat.h). */
#include "engine/ops/backend.h"

/* n_thread 0: one per online CPU. simd: a path of engine/ref/simd.h, NULL for the widest that
 * this CPU runs; every path has the same bits. Owns: the caller closes through ops->close. */
ds4_status ds4_ref_open(ds4_backend **out, uint32_t n_thread, const char *simd, ds4_err *err);

#endif
