#include "engine/format/pieces.h"

#include <stdbool.h>

#include "engine/format/alphabet.h"

enum { DIGIT = 1, ALPHA = 2, NEWLINE = 4, SPACE = 8, PUNCT = 16, HIGH = 32 };
enum { LETTER = ALPHA | HIGH };

static inline unsigned class_of(uint8_t c) {
    if (c >= 0x80) return HIGH;
    if (c >= '0' && c <= '9') return DIGIT;
    if ((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z')) return ALPHA;
    if (c == '\n' || c == '\r') return NEWLINE | SPACE;
    if (c == ' ' || (c >= '\t' && c <= '\f')) return SPACE;
    return c > ' ' && c < 0x7f ? PUNCT : 0;
}

/* The first index from i on whose byte is not of the class. */
static size_t run(const uint8_t *p, size_t i, size_t n, unsigned of) {
    while (i < n && class_of(p[i]) & of) i++;
    return i;
}

/* Bytes of the cjk character at p, or 0. */
static size_t cjk(const uint8_t *p, size_t left) {
    if (*p < 0xe0 || ds4_char_bytes(p, left) < 3) return 0;
    uint32_t c = *p < 0xf0
                     ? (*p & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u)
                     : (*p & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    if (!((c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff))) return 0;
    return ds4_char_bytes(p, left);
}

static size_t piece_of_space(const uint8_t *p, size_t i, size_t n) {
    size_t end = run(p, i, n, SPACE), last = end;
    while (last > i && !(class_of(p[last - 1]) & NEWLINE)) last--;
    if (last > i) return last;
    bool joins = end - i > 1 && end < n && class_of(p[end]) & (LETTER | PUNCT);
    return joins ? end - 1 : end;
}

/* The numbers are the rules'. */
size_t ds4_piece_end(const uint8_t *p, size_t i, size_t n) {
    unsigned c = class_of(p[i]), next = i + 1 < n ? class_of(p[i + 1]) : 0;
    size_t end, k;
    if (c & DIGIT) { /* 1 */
        end = run(p, i, n, DIGIT);
        return end < i + 3 ? end : i + 3;
    }
    for (end = i; end < n && (k = cjk(p + end, n - end)) > 0;) end += k;
    if (end > i) return end;                                                             /* 2 */
    if (c & PUNCT && next & ALPHA) return run(p, i + 1, n, ALPHA);                       /* 3 */
    if (c & LETTER) return run(p, i, n, LETTER);                                         /* 4 */
    if (!(c & (NEWLINE | PUNCT)) && next & LETTER) return run(p, i + 1, n, LETTER);      /* 5 */
    if (p[i] == ' ' && next & PUNCT) return run(p, run(p, i + 1, n, PUNCT), n, NEWLINE); /* 6 */
    if (c & PUNCT) return run(p, run(p, i, n, PUNCT), n, NEWLINE);                       /* 7 */
    if (c & SPACE) return piece_of_space(p, i, n);                                       /* 8 */
    return i + 1; /* 9: all else is ASCII */
}
