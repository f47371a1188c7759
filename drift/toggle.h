#ifndef DRIFT_TOGGLE_H
#define DRIFT_TOGGLE_H
/* Toggles: binary edits of a plan, made from the difference of two plans. */
#include "drift/bisect.h"

/* Edits in plan.h's text form. zero-initialise; free with drift_toggles_free. */
typedef struct drift_toggles {
    char **text;
    size_t n, cap;
} drift_toggles;

void drift_toggles_free(drift_toggles *t);
ds4_status drift_toggles_add(drift_toggles *t, const char *text, ds4_err *err);
/* One toggle per group of cells in which `to` differs from `from`. Variants: one per variant
 * and layer (one per variant with DRIFT_GRAIN_ROW). Applying all of them to `from` gives `to`.
 */
ds4_status drift_toggles_diff(drift_toggles *t, const ds4_plan *from, const ds4_plan *to,
                              drift_grain grain, ds4_err *err);
/* One toggle per layer for what turns a route on (or each route of a group, or of `all`): its
 * setting in `routes` where there is one that is not off, else `on`. routes may be NULL. A name
 * that is none, or a route that `from` runs so already, is DS4_ERR_USAGE. */
ds4_status drift_toggles_route(drift_toggles *t, const ds4_plan *from, const ds4_routes *routes,
                               const char *target, ds4_err *err);

#endif
