#ifndef DS4_GATHER_H
#define DS4_GATHER_H
/* Calls that a fused row may run at once (fusions.def), kept until the last of their group is
 * there. */
#include "engine/forward.h"

/* Where the rows of a call's output stand in the text. */
typedef struct ds4_span {
    uint32_t n_row, pos0, pos_step;
} ds4_span;

typedef struct ds4_held {
    ds4_call call; /* its args point to args */
    uint32_t args[32];
    ds4_span span;
} ds4_held;

typedef struct ds4_gather {
    const ds4_fusion *group; /* NULL: none is begun */
    uint32_t n;              /* calls held */
    ds4_held held[DS4_MAX_FUSED];
} ds4_gather;

void ds4_gather_reset(ds4_gather *g);
/* Whether the call is held: the next one of a group begun, or the first one of a group whose
 * row the plan names first for each of its calls, under conditions that hold. The calls of a
 * group follow each other. */
bool ds4_gather_takes(ds4_gather *g, const ds4_backend *b, const ds4_batch *batch,
                      const ds4_call *c, ds4_span s);
/* Whether every call of the group is held. */
bool ds4_gather_is_complete(const ds4_gather *g);

#endif
