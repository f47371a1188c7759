#include "engine/vk/vk_limits.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

static const struct {
    const char *name;
    size_t at;
    uint64_t most;
} fields[] = {
#define FIELD(name, most)                                                                      \
    { #name, offsetof(ds4_vk_limits, name), most }
    FIELD(range, UINT32_MAX),   FIELD(heap, 1ull << 60),     FIELD(stage, 1u << 30),
    FIELD(timeout, 1000000),    FIELD(fail_alloc, 1u << 30), FIELD(fail_submit, 1u << 30),
    FIELD(fail_wait, 1u << 30), FIELD(hang_wait, 1u << 30),
#undef FIELD
};
#define N_FIELD (sizeof fields / sizeof *fields)

/* Digits and a suffix, all n bytes of them; 0 when they are no number or pass `most`. */
static uint64_t number(const char *p, size_t n, uint64_t most) {
    static const char suffix[] = "KMG";
    uint64_t v = 0;
    const char *unit = n ? memchr(suffix, p[n - 1], 3) : NULL;

    if (unit) n--;
    if (n == 0) return 0;
    for (size_t i = 0; i < n; i++) {
        if (p[i] < '0' || p[i] > '9' || v > most) return 0;
        v = 10 * v + (uint64_t)(p[i] - '0');
    }
    for (; unit && unit >= suffix && v <= most; unit--) v *= 1024;
    return v <= most ? v : 0;
}

ds4_status ds4_vk_size_parse(uint64_t *out, const char *name, const char *text, ds4_err *err) {
    uint64_t v = number(text, strlen(text), 1ull << 60);
    if (v == 0)
        return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                           "%s: found \"%.80s\", wanted bytes, or a number and K, M or G", name,
                           text);
    *out = v;
    return DS4_OK;
}

static ds4_status parse_one(ds4_vk_limits *l, const char *p, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *eq = memchr(p, '=', n);
    size_t n_name = eq ? (size_t)(eq - p) : n, i = 0;
    char known[256] = "";

    while (i < N_FIELD &&
           (strlen(fields[i].name) != n_name || memcmp(fields[i].name, p, n_name) != 0))
        i++;
    for (size_t k = 0, at = 0; k < N_FIELD && i == N_FIELD; k++)
        at += (size_t)snprintf(known + at, sizeof known - at, " %s", fields[k].name);
    if (i == N_FIELD)
        RAISE(DS4_ERR_USAGE, "DS4_VK_LIMITS: no limit is called \"%.*s\", there are%s",
              n_name > 80 ? 80 : (int)n_name, p, known);
    uint64_t v = eq ? number(eq + 1, n - n_name - 1, fields[i].most) : 0;
    uint64_t *to = (uint64_t *)(void *)((char *)l + fields[i].at);
    if (v == 0)
        RAISE(DS4_ERR_USAGE, "DS4_VK_LIMITS: found \"%.*s\", wanted %s=N, N from 1 to %llu",
              n > 80 ? 80 : (int)n, p, fields[i].name, (unsigned long long)fields[i].most);
    if (*to) RAISE(DS4_ERR_USAGE, "DS4_VK_LIMITS: %s is given twice", fields[i].name);
    *to = v;
out:
    return st;
}

ds4_status ds4_vk_limits_parse(ds4_vk_limits *out, const char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_limits l = {0};

    for (const char *p = text; p && *p;) {
        size_t n = strcspn(p, ",");
        TRY(parse_one(&l, p, n, err));
        p += n;
        if (*p == ',' && *++p == 0) RAISE(DS4_ERR_USAGE, "DS4_VK_LIMITS: ends in a comma");
    }
    *out = l;
out:
    return st;
}
