#include "engine/ledger.h"

#include <string.h>

#include "engine/base/mem.h"

struct ds4_ledger {
    ds4_ledger_entry *at;
    uint32_t n, cap;
    uint32_t last; /* the entry found last; calls repeat in order, so the next one is near */
};

ds4_status ds4_ledger_new(ds4_ledger **out, ds4_err *err) {
    return ds4_mem_alloc(out, 1, sizeof **out, err);
}

void ds4_ledger_free(ds4_ledger *l) {
    if (!l) return;
    ds4_mem_free(l->at);
    ds4_mem_free(l);
}

void ds4_ledger_clear(ds4_ledger *l) { l->n = l->last = 0; }

/* Rows and refusals are static texts of one backend, so pointers tell them apart. */
static bool is_same(const ds4_ledger_entry *a, const ds4_ledger_entry *b) {
    return a->tap == b->tap && a->layer == b->layer && a->phase == b->phase &&
           a->wtype == b->wtype && a->row == b->row && a->changed == b->changed &&
           a->wanted == b->wanted && a->refusal == b->refusal;
}

ds4_status ds4_ledger_add(ds4_ledger *l, const ds4_ledger_entry *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t k = 0; k < l->n; k++) {
        uint32_t i = (l->last + 1 + k) % l->n;
        if (!is_same(&l->at[i], e)) continue;
        l->at[i].n_call += e->n_call, l->at[i].n_elem += e->n_elem;
        l->last = i;
        return DS4_OK;
    }
    if (l->n == l->cap) {
        uint32_t cap = l->cap ? 2 * l->cap : 256;
        TRY(ds4_mem_grow(&l->at, cap, sizeof *l->at, err));
        l->cap = cap;
    }
    l->last = l->n;
    l->at[l->n++] = *e;
out:
    return st;
}

uint32_t ds4_ledger_n(const ds4_ledger *l) { return l->n; }
const ds4_ledger_entry *ds4_ledger_at(const ds4_ledger *l, uint32_t i) { return &l->at[i]; }
