#ifndef DS4_PROFILE_H
#define DS4_PROFILE_H
/* Profiles: settings of routes per device, from the built-in table (profiles.def) or a file of
 * the same form: # comment [NAME] match FACT=PATTERN     of the backend's facts and `engine`;
 * all must hold ROUTE=SETTING          as in routes.h, of a route, a group or all; later ones
 * win The first profile whose match lines hold is the device's; one without match lines fits
 * any. */
#include "engine/routes.h"

typedef struct ds4_profile {
    char name[64]; /* "none": no profile is in force */
    char *file;    /* the path; NULL: built-in */
    char *text;    /* the lines of the profile in force, NULL with none */
} ds4_profile;

void ds4_profile_fini(ds4_profile *p);

/* The built-in table as the text of a file. */
const char *ds4_profile_builtin(void);

/* Sets the routes of r that have no setting of a higher origin; what another profile had set is
 * forgotten. which: `none`; `auto`, the
 * device's of the built-in table; a name of that table; else the path of a file (a name with
 * '/' or '.'), and the device's in it. `by` names the source in messages. Whole files are
 * checked, the profiles that are not in force too. */
ds4_status ds4_profile_choose(ds4_profile *out, ds4_routes *r, const ds4_backend *b,
                              const char *which, const char *by, ds4_err *err);

#endif
