#ifndef DS4_FORMAT_SPLIT_PARSE_H
#define DS4_FORMAT_SPLIT_PARSE_H
/* A split pattern read into alternatives, items and sets of characters. Internal to split.c. */
#include "engine/format/split.h"
#include "engine/format/unicode.h"

typedef struct ds4_split_range {
    uint32_t lo, hi; /* both in it */
} ds4_split_range;

/* A set of characters: what any of its parts holds, or the rest of all characters. */
typedef struct ds4_split_set {
    uint32_t i_range, n_range; /* in the pool of ranges */
    uint32_t categories;       /* bit of each ds4_category */
    bool space, not_space, negated;
} ds4_split_set;

typedef enum ds4_split_kind {
    DS4_SPLIT_TAKE, /* min to max characters of the set */
    DS4_SPLIT_NEXT, /* the next character is there and of the set */
    DS4_SPLIT_NOT   /* it is not */
} ds4_split_kind;

#define DS4_SPLIT_NO_MAX UINT32_MAX

typedef struct ds4_split_item {
    ds4_split_kind kind;
    uint32_t set, min, max;
    uint64_t mask; /* filled in by split.c: the character classes of the set */
} ds4_split_item;

typedef struct ds4_split_alt {
    uint32_t i_item, n_item;
    uint64_t first; /* filled in by split.c: the classes that can begin it */
} ds4_split_alt;

enum { DS4_SPLIT_MAX_SET = 64, DS4_SPLIT_MAX_ITEM = 128 }; /* items of one alternative */

/* Everything parsed so far, of all patterns. Zero-initialise, end with fini. */
typedef struct ds4_split_parsed {
    ds4_split_range *range;
    ds4_split_set set[DS4_SPLIT_MAX_SET];
    ds4_split_item *item;
    ds4_split_alt *alt;
    size_t n_range, cap_range, n_set, n_item, cap_item, n_alt, cap_alt;
} ds4_split_parsed;
void ds4_split_parsed_fini(ds4_split_parsed *p);

/* Appends the alternatives of one pattern. */
ds4_status ds4_split_parse(ds4_split_parsed *p, const ds4_split_pattern *pattern,
                           const char *name, ds4_err *err);

bool ds4_split_is_space(uint32_t c);
/* Whether a character of this category is in set i. */
bool ds4_split_in_set(const ds4_split_parsed *p, size_t i, uint32_t c, ds4_category category);

#endif
