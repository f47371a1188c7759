#ifndef DRIFT_SEARCH_H
#define DRIFT_SEARCH_H
/* Delta debugging over a set of toggles: minimal failing subsets of a yes-or-no oracle.
 *
 * drift_search_minimal (ddmin) returns one subset that fails and is 1-minimal: without any one
 * of its members it passes. It splits into n parts, tries each part, then each complement, then
 * doubles n. drift_search_all (rddmin) repeats that on what is left until the rest passes, so
 * that independent causes are all found; sets that share members are found only once.
 * Trials are memoised by subset, never repeated. Source: methods.md 5.5. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/err.h"

/* A subset of up to n toggles, one byte each. */
typedef struct drift_oracle {
    /* Sets *fails for the toggles with on[i] != 0. `purpose` says why it is asked. */
    ds4_status (*test)(void *user, const uint8_t *on, size_t n, const char *purpose,
                       bool *fails, ds4_err *err);
    void *user;
} drift_oracle;

typedef struct drift_search drift_search;

/* n toggles. Owns: the caller frees *out. */
ds4_status drift_search_new(drift_search **out, size_t n, drift_oracle oracle, ds4_err *err);
void drift_search_free(drift_search *s);

/* One trial, from memory when it was made before. */
ds4_status drift_search_test(drift_search *s, const uint8_t *on, const char *purpose,
                             bool *fails, ds4_err *err);

/* `set` fails on entry (tested by the caller) and holds a 1-minimal failing subset on return.
 */
ds4_status drift_search_minimal(drift_search *s, uint8_t *set, ds4_err *err);

/* Finds disjoint minimal subsets of `universe`, most first; group[i] becomes the number of the
 * subset that toggle i belongs to, from 1, or 0. *n_group is their number. */
ds4_status drift_search_all(drift_search *s, const uint8_t *universe, uint32_t *group,
                            uint32_t *n_group, ds4_err *err);

/* Trials really made, and those answered from memory. */
size_t drift_search_n_trial(const drift_search *s);
size_t drift_search_n_remembered(const drift_search *s);

#endif
