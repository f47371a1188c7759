#include "engine/gather.h"

#include <string.h>

void ds4_gather_reset(ds4_gather *g) { g->group = NULL, g->n = 0; }

/* The group that starts with this call, if the plan wants its row for all of it. */
static const ds4_fusion *wanted(const ds4_backend *b, const ds4_batch *batch,
                                const ds4_call *c) {
    const ds4_fusion *f = ds4_fusion_at(c->tap);
    if (!f || !b->ops->call_group) return NULL;
    for (uint32_t i = 0; i < f->n; i++) {
        ds4_tap tap = (ds4_tap)(f->first + i);
        ds4_cell cell = ds4_plan_cell(batch->plan, tap, c->layer, c->phase);
        const ds4_row_info *row = b->ops->row(b, ds4_tap_table[tap].op, cell.row[0]);
        if (strcmp(row->name, f->name)) return NULL;
        if (ds4_when_refuses(&cell.when[0], batch->part->n_tok, batch->part->pos0)) return NULL;
    }
    return f;
}

bool ds4_gather_takes(ds4_gather *g, const ds4_backend *b, const ds4_batch *batch,
                      const ds4_call *c, ds4_span s) {
    if (batch->n_part != 1) return false; /* fused rows are for one sequence */
    if (!g->group) g->group = wanted(b, batch, c), g->n = 0;
    if (!g->group) return false;
    ds4_held *h = &g->held[g->n++];
    h->call = *c, h->span = s, h->call.args = h->args;
    memcpy(h->args, c->args, c->args_bytes);
    return true;
}

bool ds4_gather_is_complete(const ds4_gather *g) { return g->group && g->n == g->group->n; }
