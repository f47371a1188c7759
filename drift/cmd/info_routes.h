#ifndef DRIFT_CMD_INFO_ROUTES_H
#define DRIFT_CMD_INFO_ROUTES_H
/* What `info --routes` prints: of this build, of a model with a plan, of run files. */
#include "drift/cmd/options.h"
#include "drift/store.h"

/* Every route with its taps, its `on`, its variables, and what the environment sets. With a
 * model (o->model) besides: the layers where its calls execute, from the ledger of one token
 * that is evaluated for it, and the layers where the plan lets its rows run. */
ds4_status info_routes(const cmd_engine *o, ds4_err *err);

/* Route x fixture of a run: calls that a row of the route took, of all its calls; then per
 * route which rows ran in which layers and why wanted ones did not. From the ledger alone. */
void info_routes_run(const drift_run *r);

#endif
