#include "engine/variants.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "engine/base/near.h"
#include "engine/routes.h"

extern char **environ;

const ds4_variant_info ds4_variant_table[DS4_VARIANT_COUNT] = {
#define VARIANT(id, name, alias, touches, def, off, on, cause)                                 \
    {name, alias, touches, def, off, on, #cause},
#include "engine/variants.def"
#undef VARIANT
};

/* Settings of the program that are no numeric variants. */
static const char *const settings[] = {
    "DS4_THREADS",        /* worker threads of the reference engine */
    "DS4_SIMD",           /* SIMD path of the reference engine, engine/ref/simd.h */
    "DS4_NOISE_SEED",     /* seed of the rows with noise */
    "DS4_PROFILE",        /* profile of routes, engine/profile.h */
    "DS4_DEVICE",         /* index of the Vulkan device */
    "DS4_VALIDATION",     /* boolean: Vulkan validation layers */
    "DS4_VK_REPLAY",      /* boolean, on by default: command buffers are submitted again */
    "DS4_VK_IMPORT",      /* auto, on or off: the device reads weights where they are mapped */
    "DS4_VK_WRONG",       /* a measured property of the device to falsify, vk_float.h */
    "DS4_PIPELINE_CACHE", /* folder of compiled Vulkan pipelines; unset: none is kept */
    "DS4_VK_LIMITS",      /* a smaller or failing Vulkan device, engine/vk/vk_limits.h */
};

int ds4_variant_find(const char *name) {
    for (int v = 0; v < DS4_VARIANT_COUNT; v++)
        if (!strcmp(name, ds4_variant_table[v].name) ||
            !strcmp(name, ds4_variant_table[v].alias))
            return v;
    return -1;
}

ds4_status ds4_bool_parse(bool *out, const char *name, const char *text, ds4_err *err) {
    static const struct {
        const char *text;
        bool value;
    } words[] = {{"1", true},  {"on", true},   {"true", true},   {"yes", true},
                 {"0", false}, {"off", false}, {"false", false}, {"no", false}};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (!strcasecmp(text, words[i].text)) {
            *out = words[i].value;
            return DS4_OK;
        }
    return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                       "%s: found \"%s\", wanted 1/0, on/off, true/false or yes/no", name,
                       text);
}

static bool is_setting(const char *name, size_t n) {
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        if (strlen(settings[i]) == n && !strncmp(settings[i], name, n)) return true;
    return false;
}

static ds4_status unknown(const char *name, ds4_err *err) {
    ds4_near near = {.word = name};

    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        ds4_near_try(&near, ds4_variant_table[v].name);
        ds4_near_try(&near, ds4_variant_table[v].alias);
    }
    for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
        ds4_near_try(&near, settings[i]);
    ds4_route_near_env(&near);
    return ds4_err_set(
        err, DS4_ERR_USAGE, DS4_HERE,
        "%s: no such variable%s; `ds4-drift info --variants` and `--routes` list "
        "them (--allow-unknown-env accepts it)",
        name, ds4_near_hint(&near));
}

/* One DS4_ variable of the environment, "NAME=VALUE". */
static ds4_status apply(ds4_variant_set *set, const char *entry, bool allow_unknown,
                        ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *eq = strchr(entry, '=');
    char name[128];
    bool value = false;
    size_t n = (size_t)(eq - entry);

    if (is_setting(entry, n)) goto out;
    if (n >= sizeof name && allow_unknown) goto out;
    if (n >= sizeof name)
        RAISE(DS4_ERR_USAGE, "%.100s...: no variable has so long a name", entry);
    memcpy(name, entry, n), name[n] = 0;
    int v = ds4_variant_find(name);
    if (v < 0) {
        if (!allow_unknown && !ds4_route_is_env(name)) TRY(unknown(name, err));
        goto out;
    }
    TRY(ds4_bool_parse(&value, name, eq + 1, err));
    if (!strcmp(set->origin[v], "environment") && value != (bool)(set->bits >> v & 1))
        RAISE(DS4_ERR_USAGE, "%s and %s disagree", ds4_variant_table[v].name,
              ds4_variant_table[v].alias);
    set->bits = (set->bits & ~(1u << v)) | (uint32_t)value << v;
    set->origin[v] = "environment";
out:
    return st;
}

ds4_status ds4_variants_from_env(ds4_variant_set *out, bool allow_unknown, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_variant_set set = {0};

    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        set.bits |= (uint32_t)ds4_variant_table[v].def << v;
        set.origin[v] = "default";
    }
    const char *entry;
    for (uint32_t i = 0; (entry = ds4_env_at(i)); i++)
        TRY(apply(&set, entry, allow_unknown, err));
    *out = set;
out:
    return st;
}

const char *ds4_env_at(uint32_t i) {
    for (char **e = environ; e && *e; e++)
        if (!strncmp(*e, "DS4_", 4) && strchr(*e, '=') && !i--) return *e;
    return NULL;
}

const char *ds4_setting(const char *name) {
    return is_setting(name, strlen(name)) ? getenv(name) : NULL;
}
