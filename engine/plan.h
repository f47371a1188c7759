#ifndef DS4_PLAN_H
#define DS4_PLAN_H
/* A plan says which row runs for every (call, layer, phase), and which variants are on there.
 *
 * Text form, one edit per line or separated by ';', applied in order, later ones win:
 *     TARGET[@LAYERS][/PHASE]=VALUE
 * TARGET: `*`, an op, a tap, a route (`route:moe_gate`) or a variant; `op:NAME` and `tap:NAME`
 * where a word is both. LAYERS: `3`, `0-2`, `4-`, `out` (embedding and output head), joined by
 * `+`. PHASE: `prefill` or `decode`. VALUE: a boolean for a variant, else row names in order of
 * preference joined by `,` (the first that accepts a call runs it; strict, the engine's row 0,
 * is always last); `+ROWS` puts rows before those that are there, `-ROWS` takes rows away. A
 * row may carry conditions on the batch that it runs in, ROW[/tok=A-B][/by=N][/pos=A-B]: number
 * of tokens
 * (`8`, `9-`, `9-64`), a multiple of N of them, position of the batch's first token. '#' starts
 * a comment. Anything else is an error that names the text. */
#include "engine/ops/backend.h"
#include "engine/variants.h"

typedef struct ds4_plan ds4_plan;

#define DS4_MAX_WANTED 8

/* Which batches a row may run in; all zero: every one. An end is the first number that is no
 * longer meant, 0: none. */
typedef struct ds4_when {
    uint32_t tok0, tok_end; /* tokens of the batch */
    uint32_t by;            /* the tokens are a multiple of it; 0: any number */
    uint32_t pos0, pos_end; /* position of the batch's first token */
} ds4_when;

typedef struct ds4_cell {
    uint8_t row[DS4_MAX_WANTED]; /* indices among the backend's rows of the op, best first; 0
                                    (strict) ends */
    ds4_when when[DS4_MAX_WANTED];
    uint32_t variants; /* bits */
} ds4_cell;

/* NULL when a batch of n_tok tokens from position pos on is meant, else a static text that says
 * why it is not. */
const char *ds4_when_refuses(const ds4_when *w, uint32_t n_tok, uint32_t pos);
/* The same rows under the same conditions. */
bool ds4_cell_same_rows(const ds4_cell *a, const ds4_cell *b);

/* All strict; variants as given everywhere. Owns: the caller frees *out. */
ds4_status ds4_plan_new(ds4_plan **out, const ds4_backend *b, uint32_t n_layer,
                        uint32_t variants, ds4_err *err);
ds4_status ds4_plan_copy(ds4_plan **out, const ds4_plan *p, ds4_err *err);
void ds4_plan_free(ds4_plan *p);

/* Applies a built-in plan by name (plans.def), e.g. "strict", "fast"; "default" is the
 * backend's. */
ds4_status ds4_plan_named(ds4_plan *p, const char *name, ds4_err *err);
/* The name of what "default" is on an engine. */
const char *ds4_plan_default(const ds4_backend *b);
/* Applies edits in text form. A row that no target op has on this backend is DS4_ERR_USAGE. */
ds4_status ds4_plan_edit(ds4_plan *p, const char *text, ds4_err *err);
ds4_status ds4_plan_load(ds4_plan *p, const char *path, ds4_err *err);

/* layer may be DS4_NO_LAYER. */
ds4_cell ds4_plan_cell(const ds4_plan *p, ds4_tap tap, uint32_t layer, ds4_phase phase);
void ds4_plan_set(ds4_plan *p, ds4_tap tap, uint32_t layer, ds4_phase phase, ds4_cell cell);
/* Whether variant v changes what this row of a call computes on weights of that type, while the
 * variants `on` are set: the row honours it, the variant touches the op or tap and the weights,
 * and no other variant leaves it nothing to do. */
bool ds4_plan_honours(const ds4_plan *p, ds4_tap tap, uint32_t wtype, uint32_t row, uint32_t on,
                      ds4_variant v);
/* Whether some call of the plan names a row whose result depends on the seed. */
bool ds4_plan_is_seeded(const ds4_plan *p);
uint32_t ds4_plan_n_layer(const ds4_plan *p);
const ds4_backend *ds4_plan_backend(const ds4_plan *p);

/* The plan as edits against all-strict with default variants; parses back to the same plan.
 * Owns: the caller frees *out. */
ds4_status ds4_plan_text(const ds4_plan *p, char **out, ds4_err *err);

/* The rows of a cell as a VALUE, e.g. "f16/tok=9-,tile"; at most DS4_ROWS_TEXT bytes. */
#define DS4_ROWS_TEXT 512
void ds4_plan_rows_text(char dst[DS4_ROWS_TEXT], const ds4_plan *p, ds4_tap tap,
                        const ds4_cell *c);

/* Number of built-in plans and their names and texts. */
uint32_t ds4_plan_n_builtin(void);
const char *ds4_plan_builtin(uint32_t i, const char **text);

#endif
