/* The environment of routes: our own variables, and those of existing engines (routes.def). */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/routes.h"

typedef enum kind { ENABLE, DISABLE, WIDEN, START_LAYER, FILTER, UNKNOWN } kind;

static const struct {
    const char *name, *target;
    kind kind;
    const char *instead; /* of UNKNOWN */
} legacy[] = {
#define LEGACY(name, target, kind) {name, #target, kind, NULL},
#define LEGACY_NONE(name, instead) {name, NULL, UNKNOWN, instead},
#include "engine/routes.def"
};
enum { N_LEGACY = sizeof legacy / sizeof *legacy };

static const struct {
    const char *module, *tap;
} modules[] = {
#define MODULE(module, tap) {#module, #tap},
#include "engine/routes.def"
};

/* ---- our own ---- */

static const char prefix[] = "DS4_ROUTE_";
enum { NAME = 64 };

/* DS4_ROUTE_ and a target in capitals. */
static const char *env_name(char dst[NAME], const char *target) {
    int n = snprintf(dst, NAME, "%s%s", prefix, target);
    for (int i = 0; i < n; i++) dst[i] = (char)toupper((unsigned char)dst[i]);
    return dst;
}

/* Widest first: `all`, the groups, the routes; NULL past the last one. A group comes once per
 * member, which does no harm. */
static const char *target_at(int i) {
    if (i == 0) return "all";
    i -= 1;
    if (i < DS4_ROUTE_COUNT) return ds4_route_table[i].group;
    i -= DS4_ROUTE_COUNT;
    return i < DS4_ROUTE_COUNT ? ds4_route_table[i].name : NULL;
}

/* The value of a variable; NULL: not set. */
static const char *value_of(const char *name) {
    const char *entry;
    size_t n = strlen(name);
    for (uint32_t i = 0; (entry = ds4_env_at(i)); i++)
        if (!strncmp(entry, name, n) && entry[n] == '=') return entry + n + 1;
    return NULL;
}

bool ds4_route_is_env(const char *name) {
    char own[NAME];
    const char *target;
    for (int i = 0; i < N_LEGACY; i++)
        if (!strcmp(name, legacy[i].name)) return true;
    for (int i = 0; (target = target_at(i)); i++)
        if (strcmp(target, "NONE") && !strcmp(name, env_name(own, target))) return true;
    return false;
}

void ds4_route_near_env(ds4_near *near) {
    static char own[2 * DS4_ROUTE_COUNT + 1][NAME]; /* always the same texts */
    const char *target;
    for (int i = 0; i < N_LEGACY; i++) ds4_near_try(near, legacy[i].name);
    for (int i = 0; (target = target_at(i)); i++)
        if (strcmp(target, "NONE")) ds4_near_try(near, env_name(own[i], target));
}

static ds4_status own_from_env(ds4_routes *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    char name[NAME];
    const char *target, *value;
    for (int i = 0; (target = target_at(i)); i++)
        if (strcmp(target, "NONE") && (value = value_of(env_name(name, target))))
            TRY(ds4_routes_set(r, target, value, DS4_ROUTE_ENVIRONMENT, name, err));
out:
    return st;
}

/* ---- of existing engines ---- */

/* What such variables say of one route: which of them, by index, or -1. Breadth: 0 all, 1 a
 * group, 2 the route itself. */
typedef struct said {
    int on, off, window, on_breadth, off_breadth;
} said;

static bool reaches(const char *target, int route, int *breadth) {
    bool has = false;
    const ds4_route_info *r = &ds4_route_table[route];
    for (int i = 0; i < N_LEGACY; i++)
        has = has || (legacy[i].target && !strcmp(legacy[i].target, r->name));
    *breadth = !strcmp(target, "LEGACY_ALL") ? 0 : !strcmp(target, r->group) ? 1 : 2;
    return *breadth == 0 ? has : *breadth == 1 || !strcmp(target, r->name);
}

const char *ds4_route_alias(ds4_route route, uint32_t i) {
    int breadth;
    for (int k = 0; k < N_LEGACY; k++)
        if (legacy[k].target && reaches(legacy[k].target, (int)route, &breadth) && !i--)
            return legacy[k].name;
    return NULL;
}

static ds4_status disagree(int a, int b, ds4_err *err) {
    return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                       "%s and %s disagree: wanted one setting, DS4_ROUTE_<NAME>",
                       legacy[a].name, legacy[b].name);
}

/* A wider word for on may be taken back by a narrower one for off, and by nothing else. */
static ds4_status hear(said *s, int i, int breadth, const char *value, ds4_err *err) {
    ds4_status st = DS4_OK;
    bool on = true;

    if (legacy[i].kind == FILTER || legacy[i].kind == START_LAYER) {
        if (s->window >= 0)
            RAISE(DS4_ERR_USAGE,
                  "%s and %s: two windows for one route, wanted one setting, DS4_ROUTE_<NAME>",
                  legacy[s->window].name, legacy[i].name);
        s->window = i;
        goto out;
    }
    TRY(ds4_bool_parse(&on, legacy[i].name, value, err));
    if (!on && legacy[i].kind == WIDEN) goto out;
    if (legacy[i].kind == DISABLE) on = !on;
    if (on && (s->on < 0 || breadth > s->on_breadth)) s->on = i, s->on_breadth = breadth;
    if (!on && (s->off < 0 || breadth > s->off_breadth)) s->off = i, s->off_breadth = breadth;
    if (s->on >= 0 && s->off >= 0 && s->on_breadth >= s->off_breadth)
        TRY(disagree(s->on, s->off, err));
out:
    return st;
}

/* One word of a filter as a window: `layer=N`, `layer=A-B`, `layer=A..B`, `pos=N`, a module,
 * or a module and a layer, `MODULE@layer=...`. A module of another route gives no window. */
static ds4_status put_word(char *dst, size_t cap, int route, char *word, const char *who,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    char *at = strstr(word, "@layer"), *layers = NULL, *dots;
    const char *tap = NULL;
    ds4_near near = {.word = word};

    if (at) *at = 0, layers = at + 6;
    else if (!strncmp(word, "layer", 5)) layers = word + 5;
    if (layers) {
        if (*layers != '=' && *layers != ':')
            RAISE(DS4_ERR_USAGE, "%s: found \"layer%s\", wanted layer=N or layer=A-B", who,
                  layers);
        layers++;
        if ((dots = strstr(layers, "..")))
            *dots = '-', memmove(dots + 1, dots + 2, strlen(dots + 2) + 1);
        if (!isdigit((unsigned char)*layers) || layers[strspn(layers, "0123456789-")] ||
            layers[strlen(layers) - 1] == '-')
            RAISE(DS4_ERR_USAGE, "%s: found \"layer=%s\", wanted layer=N or layer=A-B", who,
                  layers);
    }
    if (!strncmp(word, "pos=", 4) && !layers) {
        if (!word[4] || word[4 + strspn(word + 4, "0123456789")])
            RAISE(DS4_ERR_USAGE, "%s: found \"%s\", wanted pos=N", who, word);
        snprintf(dst, cap, "on/%s", word);
        goto out;
    }
    if (at || !layers) {
        for (size_t i = 0; i < sizeof modules / sizeof *modules; i++) {
            ds4_near_try(&near, modules[i].module);
            if (!strcmp(word, modules[i].module)) tap = modules[i].tap;
        }
        if (!tap)
            RAISE(
                DS4_ERR_USAGE,
                "%s: found \"%.80s\", wanted all, none, layer=N, layer=A-B, pos=N, a module or "
                "MODULE@layer=N%s",
                who, word, ds4_near_hint(&near));
        if (strcmp(ds4_tap_table[ds4_tap_find(tap)].route, ds4_route_table[route].name))
            goto out;
    }
    snprintf(dst, cap, "on%s%s%s%s", layers ? "@" : "", layers ? layers : "",
             tap ? "/tap=" : "", tap ? tap : "");
out:
    return st;
}

/* A filter as a setting. */
static ds4_status put_filter(char **out, int route, const char *value, const char *who,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    char *copy = NULL, *text = NULL, *layers = NULL, one[256];
    size_t n = 0, n_layers = 0, cap = 4 * strlen(value) + 64; /* more than any word grows by */

    TRY(ds4_mem_strdup(&copy, value, err));
    TRY(ds4_mem_alloc(&text, cap, 1, err));
    TRY(ds4_mem_alloc(&layers, cap, 1, err));
    bool alone = !strchr(value, ',');
    if (alone && !strcmp(value, "all")) n = (size_t)snprintf(text, cap, "on");
    else if (!alone || strcmp(value, "none"))
        for (char *rest = copy, *word; (word = strsep(&rest, ","));) {
            one[0] = 0;
            if (strlen(word) > 200)
                RAISE(DS4_ERR_USAGE, "%s: \"%.60s...\": no word is so long", who, word);
            TRY(put_word(one, sizeof one, route, word, who, err));
            if (!strncmp(one, "on@", 3) && !strchr(one, '/')) /* layers alone: one window */
                n_layers += (size_t)snprintf(layers + n_layers, cap - n_layers, "%s%s",
                                             n_layers ? "+" : "on@", one + 3);
            else if (*one) n += (size_t)snprintf(text + n, cap - n, "%s%s", n ? ";" : "", one);
        }
    if (n_layers) n += (size_t)snprintf(text + n, cap - n, "%s%s", n ? ";" : "", layers);
    if (!n) snprintf(text, cap, "off");
    *out = text, text = NULL;
out:
    ds4_mem_free(copy);
    ds4_mem_free(text);
    ds4_mem_free(layers);
    return st;
}

/* The setting that such variables amount to, for one route. */
static ds4_status set_legacy(ds4_routes *r, int route, const said *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *text = NULL, own[NAME];
    int by = s->off >= 0 ? s->off : s->window >= 0 ? s->window : s->on;
    const char *value = value_of(legacy[by].name), *mine;

    if (s->off >= 0) TRY(ds4_mem_strdup(&text, "off", err));
    else if (s->window < 0) TRY(ds4_mem_strdup(&text, "on", err));
    else if (legacy[by].kind == FILTER)
        TRY(put_filter(&text, route, value, legacy[by].name, err));
    else {
        TRY(ds4_mem_alloc(&text, 32, 1, err));
        if (!*value || strlen(value) > 3 || value[strspn(value, "0123456789")])
            RAISE(DS4_ERR_USAGE, "%s: found \"%.80s\", wanted a layer number", legacy[by].name,
                  value);
        snprintf(text, 32, "on@%s-", value);
    }
    mine = value_of(env_name(own, ds4_route_table[route].name));
    if (mine && strcmp(mine, text))
        RAISE(DS4_ERR_USAGE, "%s and %s disagree", own, legacy[by].name);
    TRY(ds4_routes_set(r, ds4_route_table[route].name, text, DS4_ROUTE_ENVIRONMENT,
                       legacy[by].name, err));
out:
    ds4_mem_free(text);
    return st;
}

ds4_status ds4_routes_from_env(ds4_routes *r, bool allow_unknown, ds4_err *err) {
    ds4_status st = DS4_OK;

    for (int i = 0; i < N_LEGACY && !allow_unknown; i++)
        if (legacy[i].kind == UNKNOWN && value_of(legacy[i].name))
            RAISE(DS4_ERR_USAGE, "%s: not known here: %s", legacy[i].name, legacy[i].instead);
    for (int route = 0; route < DS4_ROUTE_COUNT; route++) {
        said s = {-1, -1, -1, -1, -1};
        for (int i = 0; i < N_LEGACY; i++) {
            int breadth;
            const char *value = legacy[i].target ? value_of(legacy[i].name) : NULL;
            if (value && reaches(legacy[i].target, route, &breadth))
                TRY(hear(&s, i, breadth, value, err));
        }
        if (s.on >= 0 || s.off >= 0 || s.window >= 0) TRY(set_legacy(r, route, &s, err));
    }
    TRY(own_from_env(r, err));
out:
    return st;
}
