#include "engine/format/tokenizer.h"

#include <string.h>

#include "engine/base/mem.h"

/* Everything is matched in raw bytes. Token and merge texts are written in a printable alphabet
 * of 256 characters (model.md 5.1), one for each byte; a text made of these characters alone
 * stands for a byte string, its symbol, and no other text can ever come out of a merge. So
 * symbols are interned once: 0..255 are the single bytes, then vocabulary entries, then parts
 * of merges. */

enum { NONE = -1 };
#define NO_RANK UINT32_MAX

/* ---- byte strings with ids ---- */

typedef struct strings {
    uint8_t *blob;
    size_t blob_n, blob_cap;
    size_t *end; /* of string i in the blob; its start is the end of i - 1 */
    size_t n, cap;
    uint32_t *slot; /* open addressing: id + 1, 0 free */
    size_t n_slot;  /* a power of two, at least twice n */
} strings;

/* One merge: the pair of symbols, its rank, the symbol it makes. */
typedef struct merge {
    uint32_t l, r, rank, result;
} merge;

typedef struct merges {
    merge *slot; /* open addressing; rank NO_RANK is free */
    size_t n, n_slot;
} merges;

struct ds4_tokenizer {
    strings sym;
    int32_t *sym_token; /* token id of a symbol, NONE */
    merges merge;
    int32_t one_byte[256]; /* the token whose text is this one raw byte, NONE */
    uint8_t *text;         /* what each token stands for, one after the other */
    size_t *text_end;
    uint32_t n_vocab;
    int32_t special[DS4_SPECIAL_COUNT];
};

static const char *const special_text[DS4_SPECIAL_COUNT] = {
    [DS4_SPECIAL_BOS] = "<\xef\xbd\x9c"
                        "begin\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
    [DS4_SPECIAL_EOS] = "<\xef\xbd\x9c"
                        "end\xe2\x96\x81of\xe2\x96\x81sentence\xef\xbd\x9c>",
    [DS4_SPECIAL_USER] = "<\xef\xbd\x9cUser\xef\xbd\x9c>",
    [DS4_SPECIAL_ASSISTANT] = "<\xef\xbd\x9c"
                              "Assistant\xef\xbd\x9c>",
    [DS4_SPECIAL_THINK_OPEN] = "<think>",
    [DS4_SPECIAL_THINK_CLOSE] = "</think>",
    [DS4_SPECIAL_DSML] = "\xef\xbd\x9c"
                         "DSML\xef\xbd\x9c",
};

/* The instruction that opens a conversation in the "max" mode: a constant of the published
 * message encoder, 476 bytes, checked against its SHA-256 (model.md 5.6). */
static const char max_prefix[] =
    "Reasoning Effort: Absolute maximum with no shortcuts permitted.\n"
    "You MUST be very thorough in your thinking and comprehensively decompose the problem to "
    "resolve the root cause, rigorously stress-testing your logic against all potential paths, "
    "edge cases, and adversarial scenarios.\n"
    "Explicitly write out your entire deliberation process, documenting every intermediate step, "
    "considered alternative, and rejected hypothesis to ensure absolutely no assumption is left "
    "unchecked.\n\n";
_Static_assert(sizeof max_prefix - 1 == 476, "the published prefix has 476 bytes");
#define MAX_PREFIX_N_CTX 393216u

void ds4_tokens_free(ds4_tokens *t) {
    ds4_mem_free(t->id);
    *t = (ds4_tokens){0};
}

ds4_status ds4_tokens_push(ds4_tokens *t, int32_t id, ds4_err *err) {
    if (t->n == t->cap) {
        size_t cap = t->cap ? 2 * t->cap : 64;
        ds4_status st = ds4_mem_grow(&t->id, cap, sizeof *t->id, err);
        if (st != DS4_OK) return st;
        t->cap = cap;
    }
    t->id[t->n++] = id;
    return DS4_OK;
}

static uint64_t hash_bytes(const uint8_t *p, size_t n) {
    uint64_t h = 0x9e3779b97f4a7c15u ^ n;
    for (; n >= 8; p += 8, n -= 8) h = (h ^ ds4_le64(p)) * 0xff51afd7ed558ccdu, h ^= h >> 32;
    for (; n; p++, n--) h = (h ^ *p) * 0xc4ceb9fe1a85ec53u, h ^= h >> 29;
    return h ^ h >> 31;
}

static uint64_t hash_pair(uint32_t l, uint32_t r) {
    uint64_t h = ((uint64_t)l << 32 | r) * 0x9e3779b97f4a7c15u;
    return h ^ h >> 32;
}

static const uint8_t *string_at(const strings *s, uint32_t id, size_t *n) {
    size_t start = id ? s->end[id - 1] : 0;
    *n = s->end[id] - start;
    return s->blob + start;
}

/* The slot that holds these bytes, or the free one where they belong. */
static size_t string_slot(const strings *s, const uint8_t *p, size_t n) {
    size_t mask = s->n_slot - 1, i = (size_t)hash_bytes(p, n) & mask;
    for (; s->slot[i]; i = (i + 1) & mask) {
        size_t m;
        const uint8_t *q = string_at(s, s->slot[i] - 1, &m);
        if (m == n && memcmp(p, q, n) == 0) break;
    }
    return i;
}

static ds4_status grow_strings(strings *s, size_t more_bytes, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t *old;
    if (more_bytes > s->blob_cap - s->blob_n) {
        size_t cap = 2 * s->blob_cap + more_bytes + 1024;
        TRY(ds4_mem_grow(&s->blob, cap, 1, err));
        s->blob_cap = cap;
    }
    if (s->n == s->cap) {
        size_t cap = 2 * s->cap + 256;
        if (cap > INT32_MAX)
            RAISE(DS4_ERR_FORMAT, "tokenizer: more than %d symbols", INT32_MAX);
        TRY(ds4_mem_grow(&s->end, cap, sizeof *s->end, err));
        s->cap = cap;
    }
    if (2 * (s->n + 1) > s->n_slot) {
        old = s->slot;
        size_t n_slot = s->n_slot ? 2 * s->n_slot : 1024;
        TRY(ds4_mem_alloc(&s->slot, n_slot, sizeof *s->slot, err));
        s->n_slot = n_slot;
        ds4_mem_free(old);
        for (uint32_t id = 0; id < s->n; id++) {
            size_t n;
            const uint8_t *p = string_at(s, id, &n);
            s->slot[string_slot(s, p, n)] = id + 1;
        }
    }
out:
    return st;
}

/* The id of a byte string, new or known. */
static ds4_status intern(strings *s, const uint8_t *p, size_t n, uint32_t *id, ds4_err *err) {
    ds4_status st = DS4_OK;
    TRY(grow_strings(s, n, err));
    size_t i = string_slot(s, p, n);
    if (!s->slot[i]) {
        if (n) memcpy(s->blob + s->blob_n, p, n);
        s->blob_n += n;
        s->end[s->n++] = s->blob_n;
        s->slot[i] = (uint32_t)s->n;
    }
    *id = s->slot[i] - 1;
out:
    return st;
}

static size_t merge_slot(const merges *m, uint32_t l, uint32_t r) {
    size_t mask = m->n_slot - 1, i = (size_t)hash_pair(l, r) & mask;
    while (m->slot[i].rank != NO_RANK && (m->slot[i].l != l || m->slot[i].r != r))
        i = (i + 1) & mask;
    return i;
}

/* The pair's entry; rank NO_RANK when it is no merge. */
static inline const merge *find_merge(const merges *m, uint32_t l, uint32_t r) {
    return &m->slot[merge_slot(m, l, r)];
}

/* ---- the printable alphabet ---- */

static bool is_direct(uint32_t c) {
    return (c >= 33 && c <= 126) || (c >= 161 && c <= 172) || (c >= 174 && c <= 255);
}

/* The byte that a character stands for, or NONE. The 68 bytes without a character of their own
 * number have, in order, 256 to 323. */
static int byte_of(uint32_t c) {
    if (c < 256) return is_direct(c) ? (int)c : NONE;
    c -= 256;
    if (c <= 32) return (int)c;
    if (c <= 66) return (int)(c - 33 + 127);
    return c == 67 ? 173 : NONE;
}

static uint32_t char_of(uint8_t b) {
    if (is_direct(b)) return b;
    if (b <= 32) return 256u + b;
    return b == 173 ? 256u + 67 : 256u + 33 + b - 127;
}

/* Bytes of the character at p: from the lead byte; 1 where that is no lead byte or too few
 * bytes are left. */
static size_t char_bytes(const uint8_t *p, size_t left) {
    size_t n = *p < 0xc0 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : *p < 0xf8 ? 4 : 1;
    return n <= left ? n : 1;
}

/* Decodes a text of the alphabet into at most n bytes; *clean is false when a character outside
 * the alphabet was dropped. All 256 characters have one or two bytes. */
static size_t decode_text(uint8_t *dst, const uint8_t *p, size_t n, bool *clean) {
    size_t m = 0;
    *clean = true;
    for (size_t i = 0, k; i < n; i += k) {
        int b = NONE;
        k = char_bytes(p + i, n - i);
        if (p[i] < 0x80) b = byte_of(p[i]);
        else if (k == 2 && p[i] >= 0xc2 && (p[i + 1] & 0xc0) == 0x80)
            b = byte_of((p[i] & 0x1fu) << 6 | (p[i + 1] & 0x3fu));
        if (b == NONE) *clean = false;
        else dst[m++] = (uint8_t)b;
    }
    return m;
}

/* ---- building ---- */

typedef struct builder {
    ds4_tokenizer *t;
    ds4_err *err;
    ds4_status st;
    uint8_t *buf; /* decoded text of one string */
    size_t cap;
    size_t text_n, text_cap;
    size_t sym_cap; /* of sym_token */
} builder;

static ds4_status reserve(builder *b, size_t n) {
    ds4_status st = DS4_OK;
    ds4_err *err = b->err;
    if (n > b->cap) {
        TRY(ds4_mem_grow(&b->buf, 2 * n, 1, err));
        b->cap = 2 * n;
    }
    if (n > b->text_cap - b->text_n) {
        size_t cap = 2 * b->text_cap + n + 1024;
        TRY(ds4_mem_grow(&b->t->text, cap, 1, err));
        b->text_cap = cap;
    }
out:
    return st;
}

/* A symbol with its place in sym_token. */
static ds4_status add_symbol(builder *b, const uint8_t *p, size_t n, uint32_t *id) {
    ds4_status st = DS4_OK;
    ds4_tokenizer *t = b->t;
    size_t known = t->sym.n;
    TRY(intern(&t->sym, p, n, id, b->err));
    if (t->sym.cap > b->sym_cap) {
        TRY(ds4_mem_grow(&t->sym_token, t->sym.cap, sizeof *t->sym_token, b->err));
        b->sym_cap = t->sym.cap;
    }
    if (t->sym.n > known) t->sym_token[*id] = NONE;
out:
    return st;
}

static ds4_status add_bytes(builder *b) {
    ds4_status st = DS4_OK;
    for (uint32_t c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        uint32_t id;
        TRY(add_symbol(b, &byte, 1, &id));
        b->t->one_byte[c] = NONE;
    }
    for (uint32_t s = 0; s < DS4_SPECIAL_COUNT; s++) b->t->special[s] = NONE;
out:
    return st;
}

/* Of duplicate texts the last wins. */
static ds4_status add_token(builder *b, int32_t id, ds4_str s) {
    ds4_status st = DS4_OK;
    ds4_tokenizer *t = b->t;
    const uint8_t *p = (const uint8_t *)s.p, *text = p;
    size_t n = s.n;
    uint32_t sym;
    bool clean;
    TRY(reserve(b, s.n + 1)); /* never a null buffer, even for an empty text */
    size_t m = decode_text(b->buf, p, s.n, &clean);
    if (clean) {
        TRY(add_symbol(b, b->buf, m, &sym));
        t->sym_token[sym] = id;
    }
    if (s.n == 1) t->one_byte[*p] = id;
    for (uint32_t k = 0; k < DS4_SPECIAL_COUNT; k++)
        if (strlen(special_text[k]) == s.n && memcmp(special_text[k], p, s.n) == 0)
            t->special[k] = id;
    /* A token with a fullwidth bar stands for its own text. */
    if (!s.n || !memmem(p, s.n, "\xef\xbd\x9c", 3)) text = b->buf, n = m;
    if (n) memcpy(t->text + b->text_n, text, n);
    b->text_n += n;
    t->text_end[id] = b->text_n;
out:
    return st;
}

static bool visit_token(void *user, uint64_t i, ds4_str s) {
    builder *b = user;
    b->st = add_token(b, (int32_t)i, s);
    return b->st == DS4_OK;
}

/* A text that is not `left space right` in the alphabet can match no pair and is passed over:
 * the alphabet has no space. Of duplicates the last wins. */
static ds4_status add_merge(builder *b, uint32_t rank, ds4_str s) {
    ds4_status st = DS4_OK;
    ds4_tokenizer *t = b->t;
    const uint8_t *p = (const uint8_t *)s.p;
    const uint8_t *space = s.n ? memchr(p, ' ', s.n) : NULL;
    bool clean_l, clean_r;
    merge m = {.rank = rank};
    if (!space) return DS4_OK;
    TRY(reserve(b, s.n));
    size_t n = (size_t)(space - p);
    size_t nl = decode_text(b->buf, p, n, &clean_l);
    size_t nr = decode_text(b->buf + nl, space + 1, s.n - n - 1, &clean_r);
    if (!clean_l || !clean_r || !nl || !nr) return DS4_OK;
    TRY(add_symbol(b, b->buf, nl, &m.l));
    TRY(add_symbol(b, b->buf + nl, nr, &m.r));
    TRY(add_symbol(b, b->buf, nl + nr, &m.result));
    merge *slot = &t->merge.slot[merge_slot(&t->merge, m.l, m.r)];
    *slot = m;
out:
    return st;
}

static bool visit_merge(void *user, uint64_t i, ds4_str s) {
    builder *b = user;
    b->st = add_merge(b, (uint32_t)i, s);
    return b->st == DS4_OK;
}

/* The count of an array of strings that must not be empty. */
static ds4_status string_count(const ds4_gguf *g, const char *key, uint64_t *n, ds4_err *err) {
    ds4_status st = DS4_OK;
    *n = 0;
    if (!ds4_gguf_array_n(g, key, n))
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %s, wanted an array of strings",
              ds4_gguf_name(g), key, ds4_gguf_type_of(g, key));
    if (*n == 0) RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is empty", ds4_gguf_name(g), key);
    if (*n > INT32_MAX / 4)
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s has %llu strings, wanted at most %d",
              ds4_gguf_name(g), key, (unsigned long long)*n, INT32_MAX / 4);
out:
    return st;
}

static ds4_status visit_strings(const ds4_gguf *g, const char *key,
                                bool (*fn)(void *, uint64_t, ds4_str), builder *b) {
    if (!ds4_gguf_array_strings(g, key, fn, b))
        return ds4_err_set(b->err, DS4_ERR_FORMAT, DS4_HERE,
                           "%.200s: metadata %s holds other items, wanted strings",
                           ds4_gguf_name(g), key);
    return b->st;
}

/* Half full at most. */
static ds4_status alloc_merges(merges *m, uint64_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n_slot = 16;
    while (n_slot < 2 * n) n_slot *= 2;
    TRY(ds4_mem_alloc(&m->slot, n_slot, sizeof *m->slot, err));
    m->n_slot = n_slot;
    for (size_t i = 0; i < n_slot; i++) m->slot[i].rank = NO_RANK;
out:
    return st;
}

ds4_status ds4_tokenizer_new(ds4_tokenizer **out, const ds4_gguf *g, ds4_err *err) {
    static const char token_key[] = "tokenizer.ggml.tokens",
                      merge_key[] = "tokenizer.ggml.merges";
    ds4_status st = DS4_OK;
    ds4_tokenizer *t = NULL;
    builder b = {.err = err};
    uint64_t n_token, n_merge;

    TRY(string_count(g, token_key, &n_token, err));
    TRY(string_count(g, merge_key, &n_merge, err));
    TRY(ds4_mem_alloc(&t, 1, sizeof *t, err));
    b.t = t;
    t->n_vocab = (uint32_t)n_token;
    TRY(ds4_mem_alloc(&t->text_end, n_token, sizeof *t->text_end, err));
    TRY(alloc_merges(&t->merge, n_merge, err));
    TRY(add_bytes(&b));
    TRY(visit_strings(g, token_key, visit_token, &b));
    TRY(visit_strings(g, merge_key, visit_merge, &b));
    for (uint32_t s = 0; s < DS4_SPECIAL_COUNT; s++)
        if (t->special[s] == NONE)
            RAISE(DS4_ERR_FORMAT, "%.200s: the vocabulary of %u tokens lacks %s",
                  ds4_gguf_name(g), t->n_vocab, special_text[s]);
    *out = t, t = NULL;
out:
    ds4_mem_free(b.buf);
    ds4_tokenizer_free(t);
    return st;
}

void ds4_tokenizer_free(ds4_tokenizer *t) {
    if (!t) return;
    ds4_mem_free(t->sym.blob);
    ds4_mem_free(t->sym.end);
    ds4_mem_free(t->sym.slot);
    ds4_mem_free(t->sym_token);
    ds4_mem_free(t->merge.slot);
    ds4_mem_free(t->text);
    ds4_mem_free(t->text_end);
    ds4_mem_free(t);
}

uint32_t ds4_tokenizer_n_vocab(const ds4_tokenizer *t) { return t->n_vocab; }
int32_t ds4_tokenizer_special(const ds4_tokenizer *t, ds4_special s) { return t->special[s]; }

/* ---- pieces (model.md 5.3) ---- */

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
    if (*p < 0xe0 || char_bytes(p, left) < 3) return 0;
    uint32_t c = *p < 0xf0
                     ? (*p & 15u) << 12 | (p[1] & 63u) << 6 | (p[2] & 63u)
                     : (*p & 7u) << 18 | (p[1] & 63u) << 12 | (p[2] & 63u) << 6 | (p[3] & 63u);
    if (!((c >= 0x4e00 && c <= 0x9fa5) || (c >= 0x3040 && c <= 0x30ff))) return 0;
    return char_bytes(p, left);
}

static size_t piece_of_space(const uint8_t *p, size_t i, size_t n) {
    size_t end = run(p, i, n, SPACE), last = end;
    while (last > i && !(class_of(p[last - 1]) & NEWLINE)) last--;
    if (last > i) return last;
    bool joins = end - i > 1 && end < n && class_of(p[end]) & (LETTER | PUNCT);
    return joins ? end - 1 : end;
}

/* The end of the piece that starts at i < n; the numbers are the rules'. */
static size_t piece_end(const uint8_t *p, size_t i, size_t n) {
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

/* ---- merging ---- */

/* One symbol of a piece; rank is that of the pair it opens, NO_RANK for none or when fused
 * away. */
typedef struct node {
    uint32_t sym, rank, prev, next;
} node;

/* Scratch of one encoding. A piece of up to SHORT bytes is merged by scanning, in an array on
 * the stack; longer ones use a heap of (rank, position), so that time stays n log n. */
typedef struct merger {
    const ds4_tokenizer *t;
    ds4_tokens *out;
    ds4_err *err;
    node *node;
    uint64_t *heap;
    size_t n_heap, cap;
} merger;

enum { SHORT = 48 };

/* A symbol that is no token goes out by the bytes of its text that are tokens by themselves. */
static ds4_status emit_spelled(merger *m, uint32_t sym) {
    ds4_status st = DS4_OK;
    size_t n;
    const uint8_t *p = string_at(&m->t->sym, sym, &n);
    for (size_t i = 0; i < n; i++) {
        uint32_t c = char_of(p[i]);
        uint32_t utf8[2] = {c < 0x80 ? c : 0xc0 | c >> 6, 0x80 | (c & 63u)};
        for (uint32_t k = 0; k < (c < 0x80 ? 1u : 2u); k++) {
            int32_t id = m->t->one_byte[utf8[k]];
            if (id != NONE) TRY(ds4_tokens_push(m->out, id, m->err));
        }
    }
out:
    return st;
}

static inline ds4_status emit(merger *m, uint32_t sym) {
    int32_t id = m->t->sym_token[sym];
    return id != NONE ? ds4_tokens_push(m->out, id, m->err) : emit_spelled(m, sym);
}

/* Lowest rank first, leftmost of equals: a strict comparison while scanning from the left. */
static ds4_status merge_short(merger *m, const uint8_t *p, size_t n) {
    ds4_status st = DS4_OK;
    uint32_t sym[SHORT];
    const merge *pair[SHORT]; /* of sym[i] and sym[i + 1] */
    for (size_t i = 0; i < n; i++) sym[i] = p[i];
    for (size_t i = 0; i + 1 < n; i++) pair[i] = find_merge(&m->t->merge, sym[i], sym[i + 1]);
    for (;;) {
        size_t best = 0;
        uint32_t rank = NO_RANK;
        for (size_t i = 0; i + 1 < n; i++)
            if (pair[i]->rank < rank) rank = pair[i]->rank, best = i;
        if (rank == NO_RANK) break;
        sym[best] = pair[best]->result;
        n--;
        for (size_t i = best + 1; i < n; i++) sym[i] = sym[i + 1];
        for (size_t i = best + 1; i + 1 < n; i++) pair[i] = pair[i + 1];
        if (best) pair[best - 1] = find_merge(&m->t->merge, sym[best - 1], sym[best]);
        if (best + 1 < n) pair[best] = find_merge(&m->t->merge, sym[best], sym[best + 1]);
    }
    for (size_t i = 0; i < n; i++) TRY(emit(m, sym[i]));
out:
    return st;
}

static void sift_down(uint64_t *heap, size_t n, size_t i) {
    uint64_t v = heap[i];
    for (size_t c; (c = 2 * i + 1) < n; i = c) {
        if (c + 1 < n && heap[c + 1] < heap[c]) c++;
        if (heap[c] >= v) break;
        heap[i] = heap[c];
    }
    heap[i] = v;
}

static void heap_push(merger *m, uint64_t v) {
    size_t i = m->n_heap++;
    for (; i && m->heap[(i - 1) / 2] > v; i = (i - 1) / 2) m->heap[i] = m->heap[(i - 1) / 2];
    m->heap[i] = v;
}

static uint64_t heap_pop(merger *m) {
    uint64_t top = m->heap[0];
    m->heap[0] = m->heap[--m->n_heap];
    if (m->n_heap) sift_down(m->heap, m->n_heap, 0);
    return top;
}

/* Looks up the pair that node i opens; pushed when it is a merge. */
static void open_pair(merger *m, uint32_t i, uint32_t n) {
    node *a = &m->node[i];
    a->rank =
        a->next < n ? find_merge(&m->t->merge, a->sym, m->node[a->next].sym)->rank : NO_RANK;
    if (a->rank != NO_RANK) heap_push(m, (uint64_t)a->rank << 32 | i);
}

static ds4_status merge_long(merger *m, const uint8_t *p, size_t size) {
    ds4_status st = DS4_OK;
    ds4_err *err = m->err;
    if (size > INT32_MAX)
        RAISE(DS4_ERR_USAGE, "a word of %zu bytes, wanted at most %d", size, INT32_MAX);
    uint32_t n = (uint32_t)size;
    if (size > m->cap) {
        /* Each fusion takes one entry and adds at most two: 2n entries never overflow. */
        TRY(ds4_mem_grow(&m->node, size, sizeof *m->node, m->err));
        TRY(ds4_mem_grow(&m->heap, 2 * size, sizeof *m->heap, m->err));
        m->cap = size;
    }
    for (uint32_t i = 0; i < n; i++) m->node[i] = (node){p[i], NO_RANK, i - 1, i + 1};
    m->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) open_pair(m, i, n);
    while (m->n_heap) {
        uint64_t top = heap_pop(m);
        uint32_t i = (uint32_t)top, rank = (uint32_t)(top >> 32);
        node *a = &m->node[i];
        if (a->rank != rank) continue; /* the pair has changed since */
        node *b = &m->node[a->next];
        a->sym = find_merge(&m->t->merge, a->sym, b->sym)->result;
        b->rank = NO_RANK;
        a->next = b->next;
        if (a->next < n) m->node[a->next].prev = i;
        open_pair(m, i, n);
        if (i) open_pair(m, a->prev, n);
    }
    for (uint32_t i = 0; i < n; i = m->node[i].next) TRY(emit(m, m->node[i].sym));
out:
    return st;
}

static ds4_status encode_span(merger *m, const uint8_t *p, size_t n) {
    ds4_status st = DS4_OK;
    for (size_t i = 0, end; i < n; i = end) {
        end = piece_end(p, i, n);
        if (end - i <= SHORT) TRY(merge_short(m, p + i, end - i));
        else TRY(merge_long(m, p + i, end - i));
    }
out:
    return st;
}

static void merger_fini(merger *m) {
    ds4_mem_free(m->node);
    ds4_mem_free(m->heap);
}

ds4_status ds4_tokenizer_encode(const ds4_tokenizer *t, const char *text, size_t n,
                                ds4_tokens *out, ds4_err *err) {
    merger m = {.t = t, .out = out, .err = err};
    ds4_status st = encode_span(&m, (const uint8_t *)text, n ? strnlen(text, n) : 0);
    merger_fini(&m);
    return st;
}

/* The special whose text starts at p, or DS4_SPECIAL_COUNT; compared in the table's order. */
static uint32_t special_at(const uint8_t *p, size_t left, size_t *n) {
    if (*p != '<' && *p != 0xef) return DS4_SPECIAL_COUNT;
    for (uint32_t s = 0; s < DS4_SPECIAL_COUNT; s++) {
        *n = strlen(special_text[s]);
        if (*n <= left && memcmp(p, special_text[s], *n) == 0) return s;
    }
    return DS4_SPECIAL_COUNT;
}

ds4_status ds4_tokenizer_encode_rendered(const ds4_tokenizer *t, const char *text, size_t n,
                                         ds4_tokens *out, ds4_err *err) {
    ds4_status st = DS4_OK;
    merger m = {.t = t, .out = out, .err = err};
    const uint8_t *p = (const uint8_t *)text;
    size_t start = 0, i = 0, k = 0;
    n = n ? strnlen(text, n) : 0;
    while (i < n) {
        uint32_t s = special_at(p + i, n - i, &k);
        if (s == DS4_SPECIAL_COUNT) {
            i++;
            continue;
        }
        TRY(encode_span(&m, p + start, i - start));
        TRY(ds4_tokens_push(out, t->special[s], err));
        start = i += k;
    }
    TRY(encode_span(&m, p + start, n - start));
out:
    merger_fini(&m);
    return st;
}

ds4_status ds4_tokenizer_encode_chat(const ds4_tokenizer *t, ds4_think think,
                                     const char *system, const char *prompt, uint32_t n_ctx,
                                     ds4_tokens *out, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_special close =
        think == DS4_THINK_OFF ? DS4_SPECIAL_THINK_CLOSE : DS4_SPECIAL_THINK_OPEN;
    TRY(ds4_tokens_push(out, t->special[DS4_SPECIAL_BOS], err));
    if (think == DS4_THINK_MAX && n_ctx >= MAX_PREFIX_N_CTX)
        TRY(ds4_tokenizer_encode(t, max_prefix, sizeof max_prefix - 1, out, err));
    if (system) TRY(ds4_tokenizer_encode(t, system, strlen(system), out, err));
    TRY(ds4_tokens_push(out, t->special[DS4_SPECIAL_USER], err));
    TRY(ds4_tokenizer_encode(t, prompt, strlen(prompt), out, err));
    TRY(ds4_tokens_push(out, t->special[DS4_SPECIAL_ASSISTANT], err));
    TRY(ds4_tokens_push(out, t->special[close], err));
out:
    return st;
}

size_t ds4_tokenizer_bytes(const ds4_tokenizer *t, int32_t id, char *dst, size_t cap) {
    if (id < 0 || (uint32_t)id >= t->n_vocab) return 0;
    size_t start = id ? t->text_end[id - 1] : 0, n = t->text_end[id] - start;
    size_t fit = n < cap ? n : cap;
    if (fit) memcpy(dst, t->text + start, fit);
    return n;
}
