#ifndef DS4_ROUTES_H
#define DS4_ROUTES_H
/* Matmul routes (routes.def): settings by name, from a profile, the environment and the command
 * line, that become edits of a plan. What they leave in the plan is all that an evaluation
 * sees.
 *
 * A setting: `off`, or windows joined by ';', in any of which the route runs:
 *     ROWS[@LAYERS][/PART]...
 * ROWS: `on` (the route's own rows) or names of ROUTE_ROWs joined by ',', best first. LAYERS as
 * in plan.h; without them all, the output head too. PART, each once: `prefill`, `decode`,
 * `tok=N`, `tok=N-` or `tok=N-M` (tokens of the batch; without it the route's own condition),
 * `by=N` (a multiple of N tokens), `pos=` numbers or ranges joined by '+' (position of the
 * batch's first token), `tap=` names of the route's taps joined by '+'. Outside its windows a
 * route is off. A setting replaces the whole setting of a lower origin; what it leaves out has
 * the default of routes.def, never what a profile said. Anything else is an error that names
 * the text. */
#include "engine/base/near.h"
#include "engine/plan.h"

typedef enum ds4_route {
#define ROUTE(id, group, rows, when) DS4_ROUTE_##id,
#include "engine/routes.def"
    DS4_ROUTE_COUNT
} ds4_route;

typedef struct ds4_route_info {
    const char *name, *group; /* group "NONE": of no group */
    const char *rows, *when;
} ds4_route_info;
extern const ds4_route_info ds4_route_table[DS4_ROUTE_COUNT];

/* Later ones win. */
typedef enum ds4_route_origin {
    DS4_ROUTE_PLAN, /* no setting: the plan alone says */
    DS4_ROUTE_PROFILE,
    DS4_ROUTE_ENVIRONMENT,
    DS4_ROUTE_COMMAND
} ds4_route_origin;

#define DS4_ROUTE_LONGEST 2000 /* bytes of a setting; a longer one is an error */

typedef struct ds4_route_setting {
    ds4_route_origin origin;
    char *text; /* NULL with DS4_ROUTE_PLAN */
    char *by;   /* what gave it: a variable, an option, a profile */
} ds4_route_setting;

/* Zero-initialise: no setting. Owns: the caller ends it with ds4_routes_fini. */
typedef struct ds4_routes {
    ds4_route_setting at[DS4_ROUTE_COUNT];
} ds4_routes;

void ds4_routes_fini(ds4_routes *r);
/* Takes away the settings of an origin. */
void ds4_routes_forget(ds4_routes *r, ds4_route_origin origin);

/* By name; -1 when there is none. */
int ds4_route_find(const char *name);
/* Whether a target (a route, a group or `all`) means this route. */
bool ds4_route_is_member(ds4_route route, const char *target);
/* Sets a route, a group or `all`; `by` names the source in messages. A setting of a higher
 * origin stays. */
ds4_status ds4_routes_set(ds4_routes *r, const char *target, const char *setting,
                          ds4_route_origin origin, const char *by, ds4_err *err);
/* "TARGET=SETTING". */
ds4_status ds4_routes_set_text(ds4_routes *r, const char *text, ds4_route_origin origin,
                               const char *by, ds4_err *err);

/* Environment: DS4_ROUTE_<NAME>, of a route, a group or ALL, the narrower name wins; and the
 * variables of existing engines (LEGACY). Those without a counterpart are DS4_ERR_USAGE unless
 * allow_unknown. */
ds4_status ds4_routes_from_env(ds4_routes *r, bool allow_unknown, ds4_err *err);
/* Whether it is a variable of routes: one that is read, or one that is refused with a reason.
 */
bool ds4_route_is_env(const char *name);
/* The i-th variable of existing engines that sets the route; NULL past the last one. */
const char *ds4_route_alias(ds4_route route, uint32_t i);
/* Tries every variable of routes. */
void ds4_route_near_env(ds4_near *near);

/* Applies the settings, route by route: its rows are taken away everywhere, then put before the
 * others in its windows. Rows that a profile names and the engine lacks are left out; from
 * elsewhere they are DS4_ERR_USAGE. */
ds4_status ds4_routes_apply(ds4_plan *p, const ds4_routes *r, ds4_err *err);

const char *ds4_route_origin_text(ds4_route_origin o); /* "plan", "profile", ... */

/* The row names of ROUTE_ROW; NULL past the last one. */
const char *ds4_route_row(uint32_t i);

#endif
