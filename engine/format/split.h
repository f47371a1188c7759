#ifndef DS4_FORMAT_SPLIT_H
#define DS4_FORMAT_SPLIT_H
/* Text cut into pieces by the Split patterns of a tokenizer.json.
 *
 * Patterns are applied one after the other: each piece that one leaves, match or gap between
 * matches, is cut by the next alone, so nothing looks past the ends of a piece.
 *
 * A pattern is a list of alternatives, `a|b`; an alternative a row of atoms, each with a greedy
 * quantifier `? * + {m} {m,} {m,n}`, and look-aheads `(?!X)` `(?=X)` at one atom. An atom is a
 * character, an escape (`\r \n \t \f \v \s \S \xHH \uHHHH \p{X} \P{X}` with X one of L M N P S
 * Z C, a backslash before punctuation) or a class `[...]` `[^...]` of these and of ranges. The
 * leftmost match counts, of its alternatives the first, of its lengths the greediest: what
 * ECMAScript (with flag u) and Oniguruma agree on. `\s` is ECMAScript's: the controls from
 * U+0009 to U+000D, category Zs, U+2028, U+2029 and U+FEFF (Oniguruma has U+0085 in it and
 * U+FEFF not). All else (groups, anchors, `.`, `\d`, `\w`, lazy quantifiers, nested classes) is
 * refused by name, as is a pattern that can match nothing.
 *
 * A byte that begins no valid UTF-8 character is a character of its own, of category C.
 *
 * Hostile patterns: matching is bounded by a number of steps that grows with the text; a text
 * on which a pattern needs more gives DS4_ERR_FORMAT. */
#include "engine/format/gguf.h"

typedef struct ds4_split ds4_split;

typedef struct ds4_split_pattern {
    ds4_str text;    /* UTF-8 */
    bool is_literal; /* the text itself, no pattern */
} ds4_split_pattern;

#define DS4_SPLIT_MAX_PATTERN 16
#define DS4_SPLIT_MAX_BYTES 4096 /* of one pattern */

/* Compiles. Errors: DS4_ERR_FORMAT, with the byte of the pattern; `name` begins the message.
 * Owns: the caller frees *out. */
ds4_status ds4_split_new(ds4_split **out, const ds4_split_pattern *pattern, size_t n,
                         const char *name, ds4_err *err);
void ds4_split_free(ds4_split *s);

/* The three patterns of the published model's tokenizer.json. Owns: static. */
extern const ds4_split_pattern ds4_split_published[3];

/* Gives every piece, in order; together they are the text. Stops at the first status that is
 * not DS4_OK and returns it. n bytes are allocated beside. */
typedef ds4_status ds4_split_piece(void *user, const uint8_t *p, size_t n);
ds4_status ds4_split_text(const ds4_split *s, const uint8_t *p, size_t n, ds4_split_piece *fn,
                          void *user, ds4_err *err);

#endif
