#include "engine/format/split_parse.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/format/alphabet.h"

enum { MAX_COUNT = 65535 }; /* of a quantifier */

void ds4_split_parsed_fini(ds4_split_parsed *p) {
    ds4_mem_free(p->range);
    ds4_mem_free(p->item);
    ds4_mem_free(p->alt);
}

bool ds4_split_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000 || c == 0xfeff;
}

bool ds4_split_in_set(const ds4_split_parsed *p, size_t i, uint32_t c, ds4_category category) {
    const ds4_split_set *s = &p->set[i];
    bool in = (s->categories >> category & 1) ||
              ((s->space || s->not_space) && (ds4_split_is_space(c) ? s->space : s->not_space));
    for (uint32_t k = 0; k < s->n_range && !in; k++) {
        const ds4_split_range *r = &p->range[s->i_range + k];
        in = c >= r->lo && c <= r->hi;
    }
    return in != s->negated;
}

/* ---- reading ---- */

typedef struct reader {
    ds4_split_parsed *to;
    const ds4_split_pattern *pattern;
    const uint8_t *p;
    size_t i, n;
    const char *name;
    ds4_err *err;
} reader;

/* Names the place and the thing. */
static ds4_status refuse(const reader *r, size_t at, const char *what) {
    return ds4_err_set(r->err, DS4_ERR_FORMAT, DS4_HERE, "%s: pattern \"%.*s\": byte %zu: %s",
                       r->name, (int)(r->n < 120 ? r->n : 120), (const char *)r->p, at, what);
}

static bool at(const reader *r, const char *text) {
    size_t n = strlen(text);
    return n <= r->n - r->i && !memcmp(r->p + r->i, text, n);
}

/* The character at the place; its text is known to be valid UTF-8. */
static uint32_t take_char(reader *r) {
    const uint8_t *p = r->p + r->i;
    size_t n = ds4_char_bytes(p, r->n - r->i);
    r->i += n;
    uint32_t c = n == 1 ? p[0] : n == 2 ? p[0] & 31u : n == 3 ? p[0] & 15u : p[0] & 7u;
    for (size_t k = 1; k < n; k++) c = c << 6 | (p[k] & 63u);
    return c;
}

static ds4_status add_range(reader *r, ds4_split_set *s, uint32_t lo, uint32_t hi) {
    ds4_status st = DS4_OK;
    ds4_split_parsed *to = r->to;
    if (to->n_range == to->cap_range) {
        size_t cap = 2 * to->cap_range + 64;
        TRY(ds4_mem_grow(&to->range, cap, sizeof *to->range, r->err));
        to->cap_range = cap;
    }
    to->range[to->n_range++] = (ds4_split_range){lo, hi};
    s->n_range++;
out:
    return st;
}

static bool same_set(const ds4_split_parsed *p, const ds4_split_set *a,
                     const ds4_split_set *b) {
    return a->n_range == b->n_range && a->categories == b->categories && a->space == b->space &&
           a->not_space == b->not_space && a->negated == b->negated &&
           (!a->n_range || !memcmp(p->range + a->i_range, p->range + b->i_range,
                                   a->n_range * sizeof *p->range));
}

/* Finds or keeps the set whose ranges end the pool. */
static ds4_status keep_set(reader *r, const ds4_split_set *s, uint32_t *index) {
    ds4_split_parsed *to = r->to;
    for (uint32_t i = 0; i < to->n_set; i++)
        if (same_set(to, &to->set[i], s)) {
            to->n_range = s->i_range;
            *index = i;
            return DS4_OK;
        }
    if (to->n_set == DS4_SPLIT_MAX_SET)
        return refuse(r, r->i, "more than 64 different sets of characters");
    *index = (uint32_t)to->n_set;
    to->set[to->n_set++] = *s;
    return DS4_OK;
}

static int hex(uint8_t c) {
    if (c >= '0' && c <= '9') return c - '0';
    c |= 32;
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static ds4_status take_hex(reader *r, size_t n_digit, uint32_t *c) {
    size_t start = r->i;
    *c = 0;
    for (size_t k = 0; k < n_digit; k++, r->i++) {
        int d = r->i < r->n ? hex(r->p[r->i]) : -1;
        if (d < 0) return refuse(r, start, "too few hexadecimal digits");
        *c = *c << 4 | (uint32_t)d;
    }
    return DS4_OK;
}

/* {X} after \p or \P. */
static ds4_status take_property(reader *r, uint32_t *categories) {
    static const char letter[] = "LMNPSZC";
    const char *k;
    if (r->n - r->i < 3 || r->p[r->i] != '{' || r->p[r->i + 2] != '}' ||
        !(k = memchr(letter, r->p[r->i + 1], DS4_CATEGORY_COUNT)))
        return refuse(r, r->i, "wanted {L}, {M}, {N}, {P}, {S}, {Z} or {C}");
    *categories = 1u << (k - letter);
    r->i += 3;
    return DS4_OK;
}

/* An escape, behind its backslash: adds a property to the set, or gives a character in *c. */
static ds4_status take_escape(reader *r, ds4_split_set *s, bool *is_char, uint32_t *c) {
    static const char from[] = "rntfv", to[] = "\r\n\t\f\v";
    enum { ALL = (1u << DS4_CATEGORY_COUNT) - 1 };
    size_t start = r->i;
    uint32_t categories = 0;
    const char *k;
    ds4_status st = DS4_OK;
    *is_char = false;
    if (r->i == r->n) return refuse(r, start, "a backslash with nothing behind it");
    uint8_t e = r->p[r->i++];
    if (e == 's') s->space = true;
    else if (e == 'S') s->not_space = true;
    else if (e == 'p' || e == 'P') {
        TRY(take_property(r, &categories));
        s->categories |= e == 'p' ? categories : ALL & ~categories;
    } else {
        *is_char = true, *c = e;
        if ((k = memchr(from, e, sizeof from - 1))) *c = (uint8_t)to[k - from];
        else if (e == 'x') TRY(take_hex(r, 2, c));
        else if (e == 'u') TRY(take_hex(r, 4, c));
        else if (e <= ' ' || e >= 0x7f || hex(e) >= 0 || (e >= 'A' && e <= 'Z') ||
                 (e >= 'a' && e <= 'z'))
            return refuse(r, start - 1, "this escape is not supported");
    }
out:
    return st;
}

/* One member of a class that can begin or end a range. */
static ds4_status take_member(reader *r, ds4_split_set *s, bool *is_char, uint32_t *c) {
    if (at(r, "[")) return refuse(r, r->i, "a class in a class is not supported");
    if (at(r, "&&") || at(r, "--") || at(r, "~~"))
        return refuse(r, r->i, "an operation on classes is not supported");
    if (at(r, "\\")) {
        r->i++;
        return take_escape(r, s, is_char, c);
    }
    *is_char = true, *c = take_char(r);
    return DS4_OK;
}

/* A class, behind its bracket. */
static ds4_status take_class(reader *r, ds4_split_set *s) {
    ds4_status st = DS4_OK;
    size_t start = r->i;
    bool is_char;
    uint32_t lo, hi;
    if (at(r, "^")) s->negated = true, r->i++;
    if (at(r, "]")) return refuse(r, start, "an empty class");
    while (!at(r, "]")) {
        if (r->i == r->n) return refuse(r, start, "a class without its end");
        size_t member = r->i;
        TRY(take_member(r, s, &is_char, &lo));
        if (!is_char) continue;
        hi = lo;
        if (at(r, "-") && r->n - r->i > 1 && r->p[r->i + 1] != ']') {
            r->i++;
            TRY(take_member(r, s, &is_char, &hi));
            if (!is_char || hi < lo) return refuse(r, member, "a range that is none");
        }
        TRY(add_range(r, s, lo, hi));
    }
    r->i++;
out:
    return st;
}

/* A character, an escape or a class. */
static ds4_status take_atom(reader *r, uint32_t *set) {
    ds4_status st = DS4_OK;
    ds4_split_set s = {.i_range = (uint32_t)r->to->n_range};
    bool is_char = false;
    uint32_t c = 0;
    uint8_t b = r->p[r->i];
    if (b && strchr("*+?{", b)) return refuse(r, r->i, "nothing to repeat");
    if (b && strchr("^$.", b)) return refuse(r, r->i, "anchors and . are not supported");
    if (b && strchr(")]}", b)) return refuse(r, r->i, "nothing to close");
    if (b == '(') return refuse(r, r->i, "groups are not supported");
    if (b == '[') {
        r->i++;
        TRY(take_class(r, &s));
    } else if (b == '\\') {
        r->i++;
        TRY(take_escape(r, &s, &is_char, &c));
    } else is_char = true, c = take_char(r);
    if (is_char) TRY(add_range(r, &s, c, c));
    TRY(keep_set(r, &s, set));
out:
    return st;
}

static bool take_count(reader *r, uint32_t *n) {
    size_t start = r->i;
    for (*n = 0; r->i < r->n && r->p[r->i] >= '0' && r->p[r->i] <= '9'; r->i++)
        if ((*n = *n * 10 + (r->p[r->i] - '0')) > MAX_COUNT) return false;
    return r->i > start;
}

static ds4_status take_quantifier(reader *r, ds4_split_item *item) {
    size_t start = r->i;
    uint8_t q = r->i < r->n ? r->p[r->i] : 0;
    item->min = item->max = 1;
    if (q != '?' && q != '*' && q != '+' && q != '{') return DS4_OK;
    r->i++;
    if (q != '{') item->min = q == '+', item->max = q == '?' ? 1 : DS4_SPLIT_NO_MAX;
    else {
        bool fine = take_count(r, &item->min);
        item->max = item->min;
        if (fine && at(r, ",")) {
            r->i++;
            if (at(r, "}")) item->max = DS4_SPLIT_NO_MAX;
            else fine = take_count(r, &item->max);
        }
        if (!fine || !at(r, "}") || item->max < item->min || !item->max)
            return refuse(r, start, "wanted {m}, {m,} or {m,n}, counts up to 65535");
        r->i++;
    }
    if (r->i < r->n && strchr("?*+{", r->p[r->i]) && r->p[r->i])
        return refuse(r, r->i, "lazy, possessive and doubled quantifiers are not supported");
    return DS4_OK;
}

static ds4_status add_item(reader *r, const ds4_split_item *item) {
    ds4_status st = DS4_OK;
    ds4_split_parsed *to = r->to;
    if (to->n_item == to->cap_item) {
        size_t cap = 2 * to->cap_item + 64;
        TRY(ds4_mem_grow(&to->item, cap, sizeof *to->item, r->err));
        to->cap_item = cap;
    }
    to->item[to->n_item++] = *item;
out:
    return st;
}

static ds4_status take_item(reader *r) {
    ds4_status st = DS4_OK;
    ds4_split_item item = {.kind = DS4_SPLIT_TAKE, .min = 1, .max = 1};
    if (r->pattern->is_literal) {
        ds4_split_set s = {.i_range = (uint32_t)r->to->n_range};
        uint32_t c = take_char(r);
        TRY(add_range(r, &s, c, c));
        TRY(keep_set(r, &s, &item.set));
    } else if (at(r, "(?!") || at(r, "(?=")) {
        size_t start = r->i;
        item.kind = at(r, "(?!") ? DS4_SPLIT_NOT : DS4_SPLIT_NEXT;
        r->i += 3;
        if (r->i == r->n) return refuse(r, start, "a look-ahead without its end");
        TRY(take_atom(r, &item.set));
        if (!at(r, ")")) return refuse(r, start, "a look-ahead sees one atom, nothing else");
        r->i++;
    } else {
        TRY(take_atom(r, &item.set));
        TRY(take_quantifier(r, &item));
    }
    TRY(add_item(r, &item));
out:
    return st;
}

static ds4_status take_alternative(reader *r) {
    ds4_status st = DS4_OK;
    ds4_split_parsed *to = r->to;
    ds4_split_alt alt = {.i_item = (uint32_t)to->n_item};
    size_t start = r->i;
    bool takes = false;
    while (r->i < r->n && (r->pattern->is_literal || r->p[r->i] != '|')) {
        if (to->n_item - alt.i_item == DS4_SPLIT_MAX_ITEM)
            return refuse(r, r->i, "an alternative of more than 128 items");
        TRY(take_item(r));
        const ds4_split_item *last = &to->item[to->n_item - 1];
        takes |= last->kind == DS4_SPLIT_TAKE && last->min;
    }
    if (!takes) return refuse(r, start, "an alternative that can match nothing");
    alt.n_item = (uint32_t)to->n_item - alt.i_item;
    if (to->n_alt == to->cap_alt) {
        size_t cap = 2 * to->cap_alt + 16;
        TRY(ds4_mem_grow(&to->alt, cap, sizeof *to->alt, r->err));
        to->cap_alt = cap;
    }
    to->alt[to->n_alt++] = alt;
out:
    return st;
}

ds4_status ds4_split_parse(ds4_split_parsed *p, const ds4_split_pattern *pattern,
                           const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    reader r = {p, pattern, (const uint8_t *)pattern->text.p, 0, pattern->text.n, name, err};
    if (r.n > DS4_SPLIT_MAX_BYTES)
        RAISE(DS4_ERR_FORMAT, "%s: a split pattern of %zu bytes, wanted at most %d", name, r.n,
              DS4_SPLIT_MAX_BYTES);
    do { TRY(take_alternative(&r)); /* ends at a bar or at the end */ } while (r.i++ < r.n);
out:
    return st;
}
