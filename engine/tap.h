#ifndef DS4_TAP_H
#define DS4_TAP_H
/* Named observation points: one per op call of the forward pass, in execution order (taps.def).
 */
#include <stdbool.h>
#include <stdint.h>

typedef enum ds4_op {
#define OP(stem, n_in, scratch, equation) DS4_OP_##stem,
#include "engine/ops/ops.def"
#undef OP
    DS4_OP_COUNT
} ds4_op;

typedef enum ds4_tap {
#define TAP(name, op, route, level, type) DS4_TAP_##name,
#include "engine/taps.def"
#undef TAP
    DS4_TAP_COUNT
} ds4_tap;

typedef enum ds4_tap_level {
    DS4_TAP_STATE, /* never observed */
    DS4_TAP_FULL,
    DS4_TAP_BOUNDARY,
    DS4_TAP_LOGITS
} ds4_tap_level;

typedef enum ds4_type { DS4_TYPE_F32, DS4_TYPE_I32 } ds4_type;

#define DS4_NO_LAYER 0xffffu /* embedding and output head */

typedef struct ds4_op_info {
    const char *name, *equation;
    uint32_t n_in;   /* input bindings; the output is binding n_in */
    int32_t scratch; /* binding used as scratch memory, or -1 */
} ds4_op_info;

typedef struct ds4_tap_info {
    const char *name;
    ds4_op op;
    const char *route; /* "NONE": no route */
    ds4_tap_level level;
    ds4_type type;
} ds4_tap_info;

extern const ds4_op_info ds4_op_table[DS4_OP_COUNT];
extern const ds4_tap_info ds4_tap_table[DS4_TAP_COUNT];

/* A group of consecutive calls that a fused row may run at once (fusions.def). */
#define DS4_MAX_FUSED 4
typedef struct ds4_fusion {
    const char *name; /* the row's, in every op of the group */
    ds4_tap first;
    uint32_t n; /* calls: first, first + 1, .. */
} ds4_fusion;

/* The group that starts with this call, or NULL. */
const ds4_fusion *ds4_fusion_at(ds4_tap first);

/* -1 when there is no such name. */
int ds4_op_find(const char *name);
int ds4_tap_find(const char *name);

/* What an observer sees: rows of one tap, read only during the call. Row i stands at token
 * position pos0 + i * pos_step. */
typedef struct ds4_tap_event {
    ds4_tap tap;
    uint32_t layer; /* or DS4_NO_LAYER */
    uint32_t pos0, pos_step, n_row, n_col;
    const void *data; /* f32 or i32 by the tap's type, [n_row][n_col] */
} ds4_tap_event;

struct ds4_call; /* engine/ops/backend.h */

/* Which taps to observe; asked once per call, so that nothing unwanted is read back. */
typedef struct ds4_observer {
    bool (*wants)(void *user, ds4_tap tap, uint32_t layer);
    /* Returns false to stop the evaluation (DS4_ERR_CANCELLED). */
    bool (*see)(void *user, const ds4_tap_event *event);
    /* May be NULL. Asked at the entry of every layer: fills state [n_row][n_col] (the boundary
     * state of the tokens at pos0 ..) and returns true to have the layer start from it. */
    bool (*inject)(void *user, uint32_t layer, uint32_t pos0, uint32_t n_row, uint32_t n_col,
                   float *state);
    /* May be NULL. Asked before every call runs, while its inputs can still be read (of a group
     * that a fused row runs, before the first of its calls: outputs that later ones take are
     * not there yet); returns false to stop the evaluation. */
    bool (*call)(void *user, const struct ds4_call *call);
    void *user;
} ds4_observer;

#endif
