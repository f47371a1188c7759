#ifndef DS4_LEDGER_H
#define DS4_LEDGER_H
/* What really executed: per call site (tap), layer, phase, row, variants and weight format, how
 * many calls and output elements; and, where a wanted row was refused, which one and why. */
#include "engine/ops/backend.h"

typedef struct ds4_ledger_entry {
    ds4_tap tap;
    uint32_t layer; /* or DS4_NO_LAYER */
    ds4_phase phase;
    uint32_t wtype;
    const char *row;     /* the row that ran */
    uint32_t changed;    /* variants that this row honours and that stood off their default */
    const char *wanted;  /* the row that the plan named; equals row unless refused */
    const char *refusal; /* NULL, or why */
    uint64_t n_call, n_elem;
} ds4_ledger_entry;

typedef struct ds4_ledger ds4_ledger;

ds4_status ds4_ledger_new(ds4_ledger **out, ds4_err *err);
void ds4_ledger_free(ds4_ledger *l);
void ds4_ledger_clear(ds4_ledger *l);
/* Adds one executed call; entries are told apart by all fields but the counts. */
ds4_status ds4_ledger_add(ds4_ledger *l, const ds4_ledger_entry *e, ds4_err *err);
uint32_t ds4_ledger_n(const ds4_ledger *l);
const ds4_ledger_entry *ds4_ledger_at(const ds4_ledger *l, uint32_t i);

#endif
