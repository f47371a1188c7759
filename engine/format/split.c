#include "engine/format/split.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/format/split_parse.h"

/* All code points fall into a few classes, within which the sets of all patterns do not tell
 * one from another. The text becomes a byte per byte: the class at the first byte of a
 * character, INSIDE at its others. A set is then a mask of classes, and with INSIDE in the mask
 * a run of its characters is a run of bytes. */

enum { INSIDE = 63, MAX_CLASS = INSIDE, N_PAGE = (DS4_MAX_CODE_POINT + 1) / 256 };
#define INSIDE_BIT (1ull << INSIDE)

typedef struct pattern {
    uint32_t i_alt, n_alt;
    uint64_t first; /* classes that can begin a match */
} pattern;

struct ds4_split {
    ds4_split_parsed parsed;
    pattern pattern[DS4_SPLIT_MAX_PATTERN];
    size_t n_pattern;
    uint64_t signature[MAX_CLASS]; /* bit of each set that holds the class */
    uint32_t n_class;
    uint16_t page_of[N_PAGE]; /* of each 256 code points: a page of their classes */
    uint8_t (*page)[256];
    size_t n_page, cap_page;
    uint8_t ascii[128], invalid; /* invalid: the class of bytes that are no character */
};

#define PUBLISHED(s)                                                                           \
    { {s, sizeof s - 1}, false }
const ds4_split_pattern ds4_split_published[3] = {
    PUBLISHED("\\p{N}{1,3}"),
    /* U+4E00 to U+9FA5, U+3040 to U+309F, U+30A0 to U+30FF */
    PUBLISHED("[\xe4\xb8\x80-\xe9\xbe\xa5\xe3\x81\x80-\xe3\x82\x9f\xe3\x82\xa0-\xe3\x83\xbf]+"),
    PUBLISHED("[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+"
              "|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+"
              "| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+")};

/* ---- classes ---- */

static ds4_status class_of_signature(ds4_split *s, uint64_t signature, uint8_t *class,
                                     const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t k = 0; k < s->n_class; k++)
        if (s->signature[k] == signature) {
            *class = (uint8_t)k;
            goto out;
        }
    if (s->n_class == MAX_CLASS)
        RAISE(DS4_ERR_FORMAT, "%s: the split patterns tell more than %d classes of characters",
              name, MAX_CLASS);
    *class = (uint8_t)s->n_class;
    s->signature[s->n_class++] = signature;
out:
    return st;
}

static ds4_status new_page(ds4_split *s, uint16_t *index, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (s->n_page == s->cap_page) {
        size_t cap = 2 * s->cap_page + 64;
        TRY(ds4_mem_grow(&s->page, cap, sizeof *s->page, err));
        s->cap_page = cap;
    }
    *index = (uint16_t)s->n_page++;
out:
    return st;
}

/* Gives code points [lo, hi) their class; intervals come in order. A page of one class is the
 * page of that number, made first. */
static ds4_status fill(ds4_split *s, uint32_t lo, uint32_t hi, uint8_t class, ds4_err *err) {
    ds4_status st = DS4_OK;
    while (lo < hi) {
        uint32_t k = lo / 256, end = (k + 1) * 256 < hi ? (k + 1) * 256 : hi;
        if (lo % 256 == 0 && end - lo == 256) s->page_of[k] = class;
        else {
            if (lo % 256 == 0) TRY(new_page(s, &s->page_of[k], err));
            memset(s->page[s->page_of[k]] + lo % 256, class, end - lo);
        }
        lo = end;
    }
out:
    return st;
}

static int by_value(const void *a, const void *b) {
    uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
    return (x > y) - (x < y);
}

/* The code points where a category, a space or a range of a set begins or ends, sorted. */
static ds4_status list_bounds(uint32_t **out, size_t *n, const ds4_split_parsed *p,
                              ds4_err *err) {
    static const uint32_t space[] = {9,      14,     0x20,   0x21,   0xa0,   0xa1,   0x1680,
                                     0x1681, 0x2000, 0x200b, 0x2028, 0x202a, 0x202f, 0x2030,
                                     0x205f, 0x2060, 0x3000, 0x3001, 0xfeff, 0xff00};
    enum { N_SPACE = sizeof space / sizeof *space };
    uint32_t *b;
    ds4_status st =
        ds4_mem_alloc(&b, ds4_unicode_n_range + N_SPACE + 2 * p->n_range + 1, sizeof *b, err);
    if (st != DS4_OK) return st;
    *n = 0;
    for (uint32_t i = 0; i < ds4_unicode_n_range; i++) b[(*n)++] = ds4_unicode_range[i] >> 3;
    for (size_t i = 0; i < N_SPACE; i++) b[(*n)++] = space[i];
    for (size_t i = 0; i < p->n_range; i++)
        b[(*n)++] = p->range[i].lo, b[(*n)++] = p->range[i].hi + 1;
    b[(*n)++] = DS4_MAX_CODE_POINT + 1;
    qsort(b, *n, sizeof *b, by_value);
    *out = b;
    return DS4_OK;
}

static uint64_t signature_of(const ds4_split_parsed *p, uint32_t c, ds4_category category) {
    uint64_t signature = 0;
    for (size_t k = 0; k < p->n_set; k++)
        if (ds4_split_in_set(p, k, c, category)) signature |= 1ull << k;
    return signature;
}

static ds4_status build_classes(ds4_split *s, const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t *bound = NULL, i_range = 0;
    size_t n;
    uint16_t unused;
    uint8_t class;
    TRY(list_bounds(&bound, &n, &s->parsed, err));
    for (uint32_t k = 0; k < MAX_CLASS; k++) {
        TRY(new_page(s, &unused, err));
        memset(s->page[k], (int)k, 256);
    }
    for (size_t i = 0; i + 1 < n; i++) {
        uint32_t c = bound[i];
        if (c == bound[i + 1] || c > DS4_MAX_CODE_POINT) continue;
        while (i_range + 1 < ds4_unicode_n_range && ds4_unicode_range[i_range + 1] >> 3 <= c)
            i_range++;
        ds4_category category = (ds4_category)(ds4_unicode_range[i_range] & 7);
        TRY(class_of_signature(s, signature_of(&s->parsed, c, category), &class, name, err));
        TRY(fill(s, c, bound[i + 1], class, err));
    }
    for (uint32_t c = 0; c < 128; c++) s->ascii[c] = s->page[s->page_of[0]][c];
    s->invalid = s->page[s->page_of[0xffff / 256]][0xff]; /* never assigned */
out:
    ds4_mem_free(bound);
    return st;
}

static uint64_t mask_of(const ds4_split *s, uint32_t set) {
    uint64_t mask = 0;
    for (uint32_t k = 0; k < s->n_class; k++) mask |= (s->signature[k] >> set & 1) << k;
    return mask;
}

/* What can begin an alternative: its items up to the first that takes a character. */
static void finish_alternative(ds4_split *s, ds4_split_alt *a) {
    bool open = true;
    for (uint32_t k = 0; k < a->n_item; k++) {
        ds4_split_item *item = &s->parsed.item[a->i_item + k];
        item->mask = mask_of(s, item->set);
        if (open && item->kind == DS4_SPLIT_TAKE) {
            a->first |= item->mask;
            open = item->min == 0;
        }
    }
}

ds4_status ds4_split_new(ds4_split **out, const ds4_split_pattern *pattern_text, size_t n,
                         const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_split *s = NULL;
    if (n > DS4_SPLIT_MAX_PATTERN)
        RAISE(DS4_ERR_FORMAT, "%s: %zu split patterns, wanted at most %d", name, n,
              DS4_SPLIT_MAX_PATTERN);
    TRY(ds4_mem_alloc(&s, 1, sizeof *s, err));
    for (s->n_pattern = 0; s->n_pattern < n; s->n_pattern++) {
        pattern *p = &s->pattern[s->n_pattern];
        p->i_alt = (uint32_t)s->parsed.n_alt;
        TRY(ds4_split_parse(&s->parsed, &pattern_text[s->n_pattern], name, err));
        p->n_alt = (uint32_t)s->parsed.n_alt - p->i_alt;
    }
    TRY(build_classes(s, name, err));
    for (size_t i = 0; i < n; i++)
        for (uint32_t k = 0; k < s->pattern[i].n_alt; k++) {
            ds4_split_alt *a = &s->parsed.alt[s->pattern[i].i_alt + k];
            finish_alternative(s, a);
            s->pattern[i].first |= a->first;
        }
    *out = s, s = NULL;
out:
    ds4_split_free(s);
    return st;
}

void ds4_split_free(ds4_split *s) {
    if (!s) return;
    ds4_split_parsed_fini(&s->parsed);
    ds4_mem_free(s->page);
    ds4_mem_free(s);
}

/* ---- the text as classes ---- */

/* Bytes of the valid UTF-8 character at p and its code point; 0 for none. */
static size_t valid_char(const uint8_t *p, size_t left, uint32_t *c) {
    static const uint32_t least[5] = {0, 0, 0x80, 0x800, 0x10000};
    size_t n = *p >= 0xf0 ? 4 : *p >= 0xe0 ? 3 : 2;
    if (*p < 0xc2 || *p > 0xf4 || n > left) return 0;
    *c = *p & (0x7fu >> n);
    for (size_t k = 1; k < n; k++) {
        if ((p[k] & 0xc0) != 0x80) return 0;
        *c = *c << 6 | (p[k] & 63u);
    }
    bool surrogate = *c >= 0xd800 && *c < 0xe000;
    return *c < least[n] || *c > DS4_MAX_CODE_POINT || surrogate ? 0 : n;
}

static void classify(const ds4_split *s, uint8_t *class, const uint8_t *p, size_t n) {
    for (size_t i = 0; i < n;) {
        uint32_t c;
        if (p[i] < 0x80) {
            class[i] = s->ascii[p[i]];
            i++;
            continue;
        }
        size_t k = valid_char(p + i, n - i, &c);
        class[i] = k ? s->page[s->page_of[c / 256]][c % 256] : s->invalid;
        for (size_t m = 1; m < k; m++) class[i + m] = INSIDE;
        i += k ? k : 1;
    }
}

/* ---- matching ---- */

typedef struct cutter {
    const ds4_split *s;
    const uint8_t *text, *class;
    uint64_t steps; /* left */
    ds4_split_piece *fn;
    void *user;
    ds4_err *err;
} cutter;

static inline bool in(uint64_t mask, uint8_t class) { return mask >> class & 1; }

static inline size_t next_char(const uint8_t *class, size_t i, size_t end) {
    do i++;
    while (i < end && class[i] == INSIDE);
    return i;
}

/* The end of up to max characters of the mask from i on. */
static size_t take(const uint8_t *class, uint64_t mask, uint32_t max, size_t i, size_t end) {
    if (max == DS4_SPLIT_NO_MAX) {
        if (i < end && in(mask, class[i]))
            while (i < end && in(mask | INSIDE_BIT, class[i])) i++;
        return i;
    }
    while (max-- && i < end && in(mask, class[i])) i = next_char(class, i, end);
    return i;
}

/* The end of the alternative's match at i, or i for none. Each item first takes all it can;
 * what follows fails: the last item that can gives one character back. */
static size_t match(cutter *c, const ds4_split_alt *a, size_t i, size_t end) {
    const ds4_split_item *item = c->s->parsed.item + a->i_item;
    const uint8_t *class = c->class;
    size_t at[DS4_SPLIT_MAX_ITEM + 1],
        least[DS4_SPLIT_MAX_ITEM]; /* at[k + 1]: where item k ends */
    uint32_t k = 0;
    at[0] = i;
    while (k < a->n_item) {
        size_t from = at[k], to = from, low = from;
        bool fine;
        if (item[k].kind == DS4_SPLIT_TAKE) {
            if (item[k].min) low = take(class, item[k].mask, item[k].min, from, end);
            to = take(class, item[k].mask, item[k].max, from, end);
            fine = !item[k].min || low > from;
            if (fine && item[k].min > 1) { /* low is short of min where characters ran out */
                uint32_t n = 0;
                for (size_t j = from; j < low; j = next_char(class, j, end)) n++;
                fine = n == item[k].min;
            }
        } else
            fine = (from < end && in(item[k].mask, class[from])) ==
                   (item[k].kind == DS4_SPLIT_NEXT);
        uint64_t cost = 1 + (to - from);
        c->steps -= cost < c->steps ? cost : c->steps;
        least[k] = low, at[k + 1] = to;
        if (fine) {
            k++;
            continue;
        }
        while (k > 0 && at[k] == least[k - 1]) k--;
        if (!k || !c->steps) return i;
        do at[k]--;
        while (class[at[k]] == INSIDE);
    }
    return at[k];
}

static ds4_status cut(cutter *c, size_t i_pattern, size_t begin, size_t end) {
    ds4_status st = DS4_OK;
    ds4_err *err = c->err;
    if (begin == end) return DS4_OK;
    if (i_pattern == c->s->n_pattern) return c->fn(c->user, c->text + begin, end - begin);
    const pattern *p = &c->s->pattern[i_pattern];
    const ds4_split_alt *alt = c->s->parsed.alt + p->i_alt;
    size_t from = begin, i = begin;
    while (i < end) {
        size_t to = i;
        if (in(p->first, c->class[i]))
            for (uint32_t k = 0; k < p->n_alt && to == i; k++)
                if (in(alt[k].first, c->class[i])) to = match(c, &alt[k], i, end);
        if (!c->steps)
            RAISE(DS4_ERR_FORMAT,
                  "byte %zu of the text: split pattern %zu tries too many ways to match it", i,
                  i_pattern + 1);
        if (to == i) {
            i++;
            continue;
        }
        TRY(cut(c, i_pattern + 1, from, i));
        TRY(cut(c, i_pattern + 1, i, to));
        from = i = to;
    }
    TRY(cut(c, i_pattern + 1, from, end));
out:
    return st;
}

ds4_status ds4_split_text(const ds4_split *s, const uint8_t *p, size_t n, ds4_split_piece *fn,
                          void *user, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t *class = NULL;
    TRY(ds4_mem_alloc(&class, n, 1, err));
    classify(s, class, p, n);
    cutter c = {s, p, class, 1024 * (uint64_t)n + (1u << 20), fn, user, err};
    TRY(cut(&c, 0, 0, n));
out:
    ds4_mem_free(class);
    return st;
}
