#ifndef DS4_REF_H
#define DS4_REF_H
/* The CPU engines: ops on the CPU, threads over outputs only. */
#include "engine/ops/backend.h"

/* The reference, `ref`. Rows: strict; f16 (matmul, matmul_id: operands rounded to f16); compat
 * (model.md's arithmetic, engine/ref/compat.h); order and sround (the reference with seeded
 * noise, engine/ref/noise.def). n_thread 0: one per online CPU. simd: a path of
 * engine/ref/simd.h, NULL for the widest that this CPU runs; every path has the same bits.
 * Owns: the caller closes through ops->close. */
ds4_status ds4_ref_open(ds4_backend **out, uint32_t n_thread, const char *simd, ds4_err *err);
/* The seed of the rows with noise, 0 until it is set; takes effect with the next call. */
void ds4_ref_set_noise_seed(ds4_backend *b, uint64_t seed);

/* The oracle, `ref64`: every op in float64 on the same weights, activations and caches held in
 * float64; what is read from it is rounded to f32 once. One row per op, f64; storage roundings
 * stay (from the float64 values, one rounding per stored format) unless DS4_STORE_EXACT. */
ds4_status ds4_ref64_open(ds4_backend **out, uint32_t n_thread, ds4_err *err);

/* Threads for a wanted number: 0 is one per online CPU, 256 at most. */
uint32_t ds4_ref_n_thread(uint32_t wanted);

#endif
