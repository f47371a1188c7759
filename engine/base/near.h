#ifndef DS4_BASE_NEAR_H
#define DS4_BASE_NEAR_H
/* The known name that is nearest to a word that nothing here knows, for messages. */
#include <stddef.h>

typedef struct ds4_near {
    const char *word, *best; /* best NULL: nothing is near */
    size_t distance;         /* letters to insert, drop or replace, in any case */
} ds4_near;

/* Starts with ds4_near n = {.word = word}; then once per known name. Near is at most a third of
 * the word, and at least two letters. */
void ds4_near_try(ds4_near *n, const char *name);
/* "; the nearest is NAME", or "". Owns: static per thread. */
const char *ds4_near_hint(const ds4_near *n);

#endif
