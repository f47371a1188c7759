#ifndef DS4_FORMAT_UNICODE_H
#define DS4_FORMAT_UNICODE_H
/* The general category of every code point, its first letter alone, as the classes \p{L} to
 * \p{C} of a split pattern want it. The table is part of the program, so that the same text
 * gives the same ids whatever libraries a machine has. Later versions of Unicode only assign
 * what is unassigned here (C).
 * Source: Unicode Character Database, General_Category; tests/tokenizer_unicode.mjs. */
#include <stdint.h>

typedef enum ds4_category {
    DS4_CATEGORY_L, /* letters */
    DS4_CATEGORY_M, /* marks */
    DS4_CATEGORY_N, /* numbers */
    DS4_CATEGORY_P, /* punctuation */
    DS4_CATEGORY_S, /* symbols */
    DS4_CATEGORY_Z, /* separators */
    DS4_CATEGORY_C, /* controls, formats, surrogates, private use, unassigned */
    DS4_CATEGORY_COUNT
} ds4_category;

#define DS4_MAX_CODE_POINT 0x10ffffu

/* First code point << 3 | category of each range, in order; a range ends where the next begins.
 * The first begins at 0. */
extern const uint32_t ds4_unicode_range[];
extern const uint32_t ds4_unicode_n_range;
extern const char ds4_unicode_version[];

#endif
