#ifndef DS4_VK_PROBE_H
#define DS4_VK_PROBE_H
/* The order and the width of the sums of a matmul row, found from its results alone.
 *
 * Order: of n products, i is +3 * 2^14, j is -3 * 2^14, the others are 2^-14. A small one that
 * meets either large one before the two have met is lost, so what is missing in the result
 * counts the leaves under the node where i and j meet. All pairs together give the tree (the
 * idea of FPRev, arXiv 2411.00442). Nodes of more than two leaves are sums of several terms at
 * once. Where that is no tree, both operands are large or small, which sums of 58 bits need.
 * Width: 1 + 2^-r - 1, the sum of the first two rounded before the third comes: the largest r
 * that survives, and whether one and a half of the next lower bit is rounded up. Where a node
 * adds several terms at once, the same of three of them. */
#include "engine/ops/backend.h"

#define DS4_VK_PROBE_N 32 /* products of a probed sum: one step of the widest kernel tile */

/* y[t][o] = sum_k w[o][k] * x[t][k] for k < DS4_VK_PROBE_N, in the order to be found. */
typedef ds4_status (*ds4_vk_sums)(void *user, float *y, const float *w, uint32_t n_out,
                                  const float *x, uint32_t n_tok, ds4_err *err);

/* Writes e.g. "sequential; 24 bits, to nearest". */
ds4_status ds4_vk_probe(char *text, size_t n, ds4_vk_sums sums, void *user, ds4_err *err);

/* The same of row `row` of matmul of an engine, with F32 weights. Errors: of the engine's
 * calls.
 */
ds4_status ds4_vk_probe_row(char *text, size_t n, ds4_backend *b, uint32_t row, ds4_err *err);

#endif
