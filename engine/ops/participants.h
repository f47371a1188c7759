#ifndef DS4_OPS_PARTICIPANTS_H
#define DS4_OPS_PARTICIPANTS_H
/* The cached rows that a token's attention sees, in the order of its sums: raw positions
 * max(0, p - window + 1) .. p, then the compressed rows in ascending order, all (p + 1) / ratio
 * of them or those of the indexer's choice. Bindings as in attention.c; elements of any type.
 */
#include "engine/ops/ops.h"

typedef struct ds4_participants {
    const struct ds4_args_attention *a;
    const char *raw, *comp;
    const int32_t *sel; /* NULL: every compressed row */
    uint32_t first, n_raw, n;
} ds4_participants;

static inline ds4_participants ds4_participants_of(const ds4_ref_call *c, uint32_t t) {
    const struct ds4_args_attention *a = c->args;
    uint32_t pos = a->pos0 + t, first = pos + 1 > a->window ? pos + 1 - a->window : 0;
    ds4_participants p = {a, c->bind[1], c->bind[2], NULL, first, pos + 1 - first, 0};
    if (a->n_sel && t >= a->sel_tok0)
        p.sel = (const int32_t *)c->bind[3] + (size_t)(t - a->sel_tok0) * a->n_sel;
    p.n = p.n_raw + (p.sel ? a->n_sel : a->ratio ? (pos + 1) / a->ratio : 0);
    return p;
}

/* Row j < n, [d_head] elements of `size` bytes. */
static inline const void *ds4_participant(const ds4_participants *p, uint32_t j, size_t size) {
    size_t row_bytes = p->a->d_head * size;
    if (j < p->n_raw) return p->raw + (size_t)((p->first + j) % p->a->raw_cap) * row_bytes;
    uint32_t k = j - p->n_raw;
    return p->comp + (size_t)(p->sel ? (uint32_t)p->sel[k] : k) * row_bytes;
}

#endif
