#include "drift/search.h"

#include <string.h>

#include "engine/base/mem.h"

struct drift_search {
    size_t n;
    drift_oracle oracle;
    uint8_t *seen; /* [n_seen][n + 1]: the subset, then its answer */
    size_t n_seen, cap, n_trial, n_remembered;
};

ds4_status drift_search_new(drift_search **out, size_t n, drift_oracle oracle, ds4_err *err) {
    drift_search *s;
    ds4_status st = ds4_mem_alloc(&s, 1, sizeof *s, err);
    if (st != DS4_OK) return st;
    s->n = n, s->oracle = oracle;
    *out = s;
    return DS4_OK;
}

void drift_search_free(drift_search *s) {
    if (!s) return;
    ds4_mem_free(s->seen);
    ds4_mem_free(s);
}

size_t drift_search_n_trial(const drift_search *s) { return s->n_trial; }
size_t drift_search_n_remembered(const drift_search *s) { return s->n_remembered; }

ds4_status drift_search_test(drift_search *s, const uint8_t *on, const char *purpose,
                             bool *fails, ds4_err *err) {
    ds4_status st = DS4_OK;

    for (size_t i = 0; i < s->n_seen; i++) {
        const uint8_t *row = s->seen + i * (s->n + 1);
        if (memcmp(row, on, s->n)) continue;
        *fails = row[s->n];
        s->n_remembered++;
        return DS4_OK;
    }
    TRY(s->oracle.test(s->oracle.user, on, s->n, purpose, fails, err));
    s->n_trial++;
    if (s->n_seen == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 64;
        TRY(ds4_mem_grow(&s->seen, cap, s->n + 1, err));
        s->cap = cap;
    }
    memcpy(s->seen + s->n_seen * (s->n + 1), on, s->n);
    s->seen[s->n_seen++ * (s->n + 1) + s->n] = *fails;
out:
    return st;
}

static size_t count(const uint8_t *set, size_t n) {
    size_t c = 0;
    for (size_t i = 0; i < n; i++) c += set[i] != 0;
    return c;
}

/* Part k of `parts` equal parts of the members of set; inverted: all members but those. */
static void take_part(uint8_t *dst, const uint8_t *set, size_t n, size_t k, size_t parts,
                      bool inverted) {
    size_t size = count(set, n), from = size * k / parts, to = size * (k + 1) / parts;
    for (size_t i = 0, m = 0; i < n; i++) {
        dst[i] = set[i] && ((m >= from && m < to) != inverted);
        m += set[i] != 0;
    }
}

/* Tries the parts, then the complements; shrinks `set` to the first that fails. */
static ds4_status reduce(drift_search *s, uint8_t *set, uint8_t *trial, size_t *parts,
                         bool *reduced, ds4_err *err) {
    ds4_status st = DS4_OK;
    *reduced = false;
    for (int inverted = 0; inverted < 2; inverted++)
        for (size_t k = 0; k < *parts; k++) {
            bool fails;
            if (inverted && *parts == 2)
                continue; /* the complements of halves are the halves */
            take_part(trial, set, s->n, k, *parts, inverted);
            TRY(drift_search_test(s, trial, inverted ? "complement" : "part", &fails, err));
            if (!fails) continue;
            memcpy(set, trial, s->n);
            *parts = inverted ? (*parts > 3 ? *parts - 1 : 2) : 2;
            *reduced = true;
            goto out;
        }
out:
    return st;
}

ds4_status drift_search_minimal(drift_search *s, uint8_t *set, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t *trial = NULL;
    size_t parts = 2;

    TRY(ds4_mem_alloc(&trial, s->n, 1, err));
    for (size_t size; (size = count(set, s->n)) > 1;) {
        bool reduced;
        if (parts > size) parts = size;
        TRY(reduce(s, set, trial, &parts, &reduced, err));
        if (reduced) continue;
        if (parts >= size) break; /* every single removal passes: 1-minimal */
        parts = 2 * parts < size ? 2 * parts : size;
    }
out:
    ds4_mem_free(trial);
    return st;
}

ds4_status drift_search_all(drift_search *s, const uint8_t *universe, uint32_t *group,
                            uint32_t *n_group, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t *rest = NULL, *set = NULL;

    TRY(ds4_mem_alloc(&rest, s->n, 1, err));
    TRY(ds4_mem_alloc(&set, s->n, 1, err));
    memcpy(rest, universe, s->n);
    memset(group, 0, s->n * sizeof *group);
    for (*n_group = 0; count(rest, s->n);) {
        bool fails;
        TRY(drift_search_test(s, rest, *n_group ? "what is left" : "all on", &fails, err));
        if (!fails) break;
        memcpy(set, rest, s->n);
        TRY(drift_search_minimal(s, set, err));
        ++*n_group;
        for (size_t i = 0; i < s->n; i++)
            if (set[i]) group[i] = *n_group, rest[i] = 0;
    }
out:
    ds4_mem_free(rest);
    ds4_mem_free(set);
    return st;
}
