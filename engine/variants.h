#ifndef DS4_VARIANTS_H
#define DS4_VARIANTS_H
/* The numeric variants (variants.def) and the only place that reads the environment. */
#include <stdbool.h>
#include <stdint.h>

#include "engine/base/err.h"

typedef enum ds4_variant {
#define VARIANT(id, name, alias, touches, def, off, on, cause) DS4_VARIANT_##id,
#include "engine/variants.def"
#undef VARIANT
    DS4_VARIANT_COUNT
} ds4_variant;

#define DS4_VARIANT_BIT(id) (1u << DS4_VARIANT_##id)

typedef struct ds4_variant_info {
    const char *name, *alias;
    const char *touches; /* "op:<op>" and "tap:<tap>" joined by "|", or "rows:fast",
                            "rows:tensor", "weights:blocks" */
    bool def;
    const char *off, *on; /* formulas */
    const char *cause;
} ds4_variant_info;

extern const ds4_variant_info ds4_variant_table[DS4_VARIANT_COUNT];

/* By name or historical alias; -1 when there is none. */
int ds4_variant_find(const char *name);

/* 1/0, on/off, true/false, yes/no in any case; anything else is DS4_ERR_USAGE naming `name`. */
ds4_status ds4_bool_parse(bool *out, const char *name, const char *text, ds4_err *err);

typedef struct ds4_variant_set {
    uint32_t bits;
    const char *origin[DS4_VARIANT_COUNT]; /* "default", "environment" or "command line" */
} ds4_variant_set;

/* Defaults, then the environment. A DS4_ variable that is no variant, no setting of this
 * program and none of routes.h is DS4_ERR_USAGE unless allow_unknown; a variant given by two
 * names with two values is an error as well. */
ds4_status ds4_variants_from_env(ds4_variant_set *out, bool allow_unknown, ds4_err *err);

/* A setting of this program from the environment (not a variant), e.g. "DS4_THREADS"; NULL when
 * unset. Known settings are listed in variants.c. */
const char *ds4_setting(const char *name);

/* The variables of the environment that begin with DS4_, "NAME=VALUE"; NULL past the last one.
 * For routes.h, which knows what those of routes mean. */
const char *ds4_env_at(uint32_t i);

#endif
