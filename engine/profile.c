#include "engine/profile.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/base/near.h"

static const char builtin[] =
#include "engine/profiles.def"
    ;

const char *ds4_profile_builtin(void) { return builtin; }

void ds4_profile_fini(ds4_profile *p) {
    ds4_mem_free(p->file);
    ds4_mem_free(p->text);
    *p = (ds4_profile){.name = "none"};
}

/* Facts that a profile may ask for; every Vulkan device tells them, other engines some. */
static const char *const facts[] = {"engine",
                                    "device",
                                    "device_type",
                                    "vendor_id",
                                    "device_id",
                                    "api_version",
                                    "driver",
                                    "driver_info",
                                    "driver_version",
                                    "subgroup_size",
                                    "cooperative_matrix"};

static const char *fact_of(const ds4_backend *b, const char *name) {
    const char *key, *value;
    if (!strcmp(name, "engine")) return b->ops->name;
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, name)) return value;
    return "";
}

/* Where a reader of the table is. */
typedef struct reader {
    const ds4_backend *b;
    const char *name;  /* the profile asked for; NULL: the first that matches */
    const char *where; /* the path or "built-in profiles" */
    uint32_t line;
    ds4_profile *out;
    ds4_routes *r;     /* the lines of the profile in force */
    ds4_routes unused; /* and of all others, which are checked as well */
    char section[sizeof((ds4_profile *)0)->name]; /* "" before the first */
    bool matches, settled; /* this section fits so far; its lines are in force or not */
    bool found;            /* a profile is in force, this one or one before */
    bool in_force;
    ds4_near near;
    char nearest[sizeof((ds4_profile *)0)->name];
} reader;

/* Decides on the section before its first setting. */
static void settle(reader *rd) {
    if (rd->settled) return;
    bool wanted = rd->name ? !strcmp(rd->name, rd->section) : rd->matches;
    rd->settled = true;
    rd->in_force = wanted && !rd->found;
    if (!rd->in_force) return;
    rd->found = true;
    snprintf(rd->out->name, sizeof rd->out->name, "%s", rd->section);
}

static ds4_status begin(reader *rd, char *line, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n = strlen(line);
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-";

    if (rd->section[0]) settle(rd);
    if (line[n - 1] != ']' || n < 3 || n - 1 > sizeof rd->section ||
        strspn(line + 1, letters) != n - 2)
        RAISE(DS4_ERR_USAGE,
              "%.200s:%u: found \"%.80s\", wanted [NAME] of letters, digits, - and _",
              rd->where, rd->line, line);
    snprintf(rd->section, sizeof rd->section, "%.*s", (int)n - 2, line + 1);
    if (!strcmp(rd->section, "none") || !strcmp(rd->section, "auto"))
        RAISE(DS4_ERR_USAGE, "%.200s:%u: %s is no name for a profile", rd->where, rd->line,
              line);
    ds4_near_try(&rd->near, rd->section);
    if (rd->near.best == rd->section) { /* which the next section overwrites */
        snprintf(rd->nearest, sizeof rd->nearest, "%s", rd->section);
        rd->near.best = rd->nearest;
    }
    rd->matches = true, rd->settled = rd->in_force = false;
out:
    return st;
}

static ds4_status match(reader *rd, char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *pattern = text, *name;
    ds4_near near;

    text += strspn(text, " \t");
    pattern = text, name = strsep(&pattern, "=");
    near = (ds4_near){.word = name};
    bool known = false;
    for (size_t i = 0; i < sizeof facts / sizeof *facts; i++) {
        known = known || !strcmp(name, facts[i]);
        ds4_near_try(&near, facts[i]);
    }
    if (!known || !pattern || !*pattern)
        RAISE(DS4_ERR_USAGE,
              "%.200s:%u: found match \"%.80s\", wanted FACT=PATTERN, a fact of the "
              "device%s",
              rd->where, rd->line, name, ds4_near_hint(&near));
    if (rd->settled)
        RAISE(DS4_ERR_USAGE, "%.200s:%u: match after settings, wanted it before them",
              rd->where, rd->line);
    rd->matches = rd->matches && !fnmatch(pattern, fact_of(rd->b, name), 0);
out:
    return st;
}

static ds4_status keep(ds4_profile *p, const char *line, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n = p->text ? strlen(p->text) : 0, more = strlen(line) + 2;
    TRY(ds4_mem_grow(&p->text, n + more, 1, err));
    snprintf(p->text + n, more, "%s\n", line);
out:
    return st;
}

static ds4_status read_line(reader *rd, char *line, ds4_err *err) {
    ds4_status st = DS4_OK;
    char by[320];

    line[strcspn(line, "#\r")] = 0;
    line += strspn(line, " \t");
    for (size_t n = strlen(line); n && strchr(" \t", line[n - 1]);) line[--n] = 0;
    if (!*line) goto out;
    if (*line == '[') {
        TRY(begin(rd, line, err));
        goto out;
    }
    if (!rd->section[0])
        RAISE(DS4_ERR_USAGE, "%.200s:%u: found \"%.80s\", wanted [NAME] first", rd->where,
              rd->line, line);
    if (!strncmp(line, "match", 5) && strchr(" \t", line[5])) {
        TRY(match(rd, line + 5, err));
        goto out;
    }
    settle(rd);
    snprintf(by, sizeof by, "%.200s:%u", rd->where, rd->line);
    TRY(ds4_routes_set_text(rd->in_force ? rd->r : &rd->unused, line, DS4_ROUTE_PROFILE, by,
                            err));
    if (rd->in_force) TRY(keep(rd->out, line, err));
out:
    return st;
}

static ds4_status read_table(reader *rd, const char *text, const char *by, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *copy = NULL;

    TRY(ds4_mem_strdup(&copy, text, err));
    for (char *rest = copy, *line; (line = strsep(&rest, "\n"));) {
        rd->line++;
        TRY(read_line(rd, line, err));
    }
    if (rd->section[0]) settle(rd);
    if (!rd->found && rd->name)
        RAISE(DS4_ERR_USAGE,
              "%s: no built-in profile is called \"%.80s\"%s; a file is given with a "
              "/ or a . in its name",
              by, rd->name, ds4_near_hint(&rd->near));
    if (!rd->found)
        RAISE(DS4_ERR_USAGE, "%s: %.200s: no profile matches this device (%.80s)", by,
              rd->where,
              *fact_of(rd->b, "device") ? fact_of(rd->b, "device") : rd->b->ops->name);
    if (!rd->out->text) TRY(keep(rd->out, "", err));
out:
    ds4_mem_free(copy);
    return st;
}

static ds4_status read_file(char **out, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file *f = NULL;
    char *text = NULL;

    TRY(ds4_file_open(&f, path, err));
    size_t n = ds4_file_bytes(f);
    if (n > 1u << 20) RAISE(DS4_ERR_FORMAT, "%s: a profile file has at most 1 MiB", path);
    if (memchr(ds4_file_data(f), 0, n))
        RAISE(DS4_ERR_FORMAT, "%s: a NUL byte in a profile file", path);
    TRY(ds4_mem_alloc(&text, n + 1, 1, err));
    memcpy(text, ds4_file_data(f), n);
    *out = text;
out:
    ds4_file_close(f);
    return st;
}

ds4_status ds4_profile_choose(ds4_profile *out, ds4_routes *r, const ds4_backend *b,
                              const char *which, const char *by, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_profile p = {.name = "none"};
    char *text = NULL;
    bool file = strchr(which, '/') || strchr(which, '.');
    reader rd = {.b = b, .out = &p, .r = r, .where = "built-in profiles"};

    ds4_routes_forget(r, DS4_ROUTE_PROFILE);
    if (!strcmp(which, "none")) goto done;
    if (file) {
        TRY(ds4_mem_strdup(&p.file, which, err));
        TRY(read_file(&text, which, err));
        rd.where = which;
    } else if (strcmp(which, "auto")) {
        rd.name = which, rd.near.word = which;
    }
    if (!rd.near.word) rd.near.word = "";
    TRY(read_table(&rd, file ? text : builtin, by, err));
done:
    ds4_profile_fini(out);
    *out = p, p = (ds4_profile){.name = "none"};
out:
    ds4_routes_fini(&rd.unused);
    ds4_profile_fini(&p);
    ds4_mem_free(text);
    return st;
}
