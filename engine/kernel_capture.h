#ifndef DS4_KERNEL_CAPTURE_H
#define DS4_KERNEL_CAPTURE_H
/* Calls as a run of a model makes them, shown one by one with the inputs that they had.
 *
 * The reference engine, with its default plan, evaluates DS4_CAPTURE_TOK tokens: the ids given,
 * over and over. Two batches are captured whole: the prefill of tokens 112 .. 135, with rows
 * cached before it and the end of a window of 128 inside, and the last token alone (decode),
 * which ends a window of 4 and one of 128. A captured call is named by a line such as
 * "tap=kv_rot layer=1 phase=prefill call=0": call counts those of this tap and layer in the
 * batch, and the embedding and the head have no layer. Words on=VARIANT and off=VARIANT may
 * follow it. */
#include "engine/ds4.h"
#include "engine/kernel_case.h"

enum { DS4_CAPTURE_TOK = 256 };

typedef struct ds4_capture_options {
    const int32_t *token; /* n_tok > 0 ids */
    uint32_t n_tok;
    const char *only; /* one captured line; NULL: all */
    /* Whether calls of an op are wanted, asked before anything is copied; NULL: all. */
    bool (*wants)(void *user, ds4_op op);
    /* c holds the inputs of the call; its reference has not run. It ends with this call. */
    ds4_status (*see)(void *user, ds4_case *c, ds4_err *err);
    void *user;
} ds4_capture_options;

/* e: an engine "ref". n_seen: calls that were shown. Errors: those of see and of the
 * evaluation; DS4_ERR_USAGE when `only` names no call of this run. */
ds4_status ds4_capture_run(ds4_engine *e, const ds4_capture_options *o, uint32_t *n_seen,
                           ds4_err *err);

/* Whether a case's line is that of a captured call. */
bool ds4_capture_is_line(const char *line);

#endif
