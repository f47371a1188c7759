#include "engine/format/tokenizer.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/format/alphabet.h"
#include "engine/format/bpe.h"
#include "engine/format/pieces.h"

enum { NONE = -1 };
#define BAR "\xef\xbd\x9c" /* U+FF5C */

struct ds4_tokenizer {
    ds4_bpe *bpe;
    ds4_split *own;         /* the file's own patterns; NULL for a GGUF */
    ds4_split *published;   /* made when they are asked for */
    const ds4_split *split; /* what cuts now; NULL: the rules of model.md 5.3 */
    bool ignore_merges;
    uint8_t *text; /* what each token stands for, one after the other */
    size_t *text_end;
    uint32_t n_vocab;
    int32_t special[DS4_SPECIAL_COUNT];
    int32_t *added; /* tokens that a marked text spells, sorted by their bytes, then by id */
    uint32_t n_added, added_from[257]; /* the first that begins with a byte */
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

static const uint8_t *token_bytes(const ds4_tokenizer *t, int32_t id, size_t *n) {
    size_t start = id ? t->text_end[id - 1] : 0;
    *n = t->text_end[id] - start;
    return t->text + start;
}

/* ---- building ---- */

typedef struct builder {
    ds4_tokenizer *t;
    ds4_err *err;
    ds4_status st;
    uint8_t *buf; /* decoded text of one string */
    size_t cap;
    size_t text_n, text_cap;
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

/* An empty tokenizer for n_token tokens and n_merge merges. */
static ds4_status start(builder *b, uint64_t n_token, uint64_t n_merge) {
    ds4_status st = DS4_OK;
    ds4_tokenizer *t;
    TRY(ds4_mem_alloc(&b->t, 1, sizeof *b->t, b->err));
    t = b->t;
    t->n_vocab = (uint32_t)n_token;
    TRY(ds4_mem_alloc(&t->text_end, n_token, sizeof *t->text_end, b->err));
    TRY(ds4_mem_alloc(&t->added, n_token, sizeof *t->added, b->err));
    TRY(ds4_bpe_new(&t->bpe, n_merge, b->err));
    for (uint32_t s = 0; s < DS4_SPECIAL_COUNT; s++) t->special[s] = NONE;
out:
    return st;
}

/* What a token stands for: its own text when that is plain, else the bytes that its characters
 * mean, those outside the alphabet dropped. */
typedef enum text_rule { TEXT_GGUF, TEXT_JSON, TEXT_PLAIN } text_rule;

static bool is_plain(text_rule rule, ds4_str s, bool clean) {
    if (rule == TEXT_PLAIN || (rule == TEXT_JSON && !clean)) return true;
    return rule == TEXT_GGUF && s.n && memmem(s.p, s.n, BAR, 3); /* model.md 5.4 */
}

/* Of duplicate texts the last wins. in_model: a merge can make it. */
static ds4_status add_token(builder *b, int32_t id, ds4_str s, text_rule rule, bool in_model) {
    ds4_status st = DS4_OK;
    ds4_tokenizer *t = b->t;
    const uint8_t *p = (const uint8_t *)s.p, *text = p;
    size_t n = s.n;
    bool clean;
    TRY(reserve(b, s.n + 1)); /* never a null buffer, even for an empty text */
    size_t m = ds4_alphabet_read(b->buf, p, s.n, &clean);
    if (clean && in_model) TRY(ds4_bpe_add_token(t->bpe, b->buf, m, id, b->err));
    if (s.n == 1) ds4_bpe_add_byte(t->bpe, *p, id);
    for (uint32_t k = 0; k < DS4_SPECIAL_COUNT; k++)
        if (strlen(special_text[k]) == s.n && memcmp(special_text[k], p, s.n) == 0)
            t->special[k] = id;
    if (!is_plain(rule, s, clean)) text = b->buf, n = m;
    if (n) memcpy(t->text + b->text_n, text, n);
    b->text_n += n;
    t->text_end[id] = b->text_n;
out:
    return st;
}

static bool visit_token(void *user, uint64_t i, ds4_str s) {
    builder *b = user;
    b->st = add_token(b, (int32_t)i, s, TEXT_GGUF, true);
    return b->st == DS4_OK;
}

/* Parts outside the alphabet can match no pair and are passed over. Of duplicates the last
 * wins. */
static ds4_status add_merge(builder *b, uint32_t rank, ds4_str l, ds4_str r) {
    ds4_status st = DS4_OK;
    bool clean_l, clean_r;
    TRY(reserve(b, l.n + r.n));
    size_t nl = ds4_alphabet_read(b->buf, (const uint8_t *)l.p, l.n, &clean_l);
    size_t nr = ds4_alphabet_read(b->buf + nl, (const uint8_t *)r.p, r.n, &clean_r);
    if (clean_l && clean_r && nl && nr)
        TRY(ds4_bpe_add_merge(b->t->bpe, b->buf, nl, nr, rank, b->err));
out:
    return st;
}

/* A text that is not `left space right` is passed over: the alphabet has no space. */
static bool visit_merge(void *user, uint64_t i, ds4_str s) {
    builder *b = user;
    const char *space = s.n ? memchr(s.p, ' ', s.n) : NULL;
    if (!space) return true;
    ds4_str l = {s.p, (size_t)(space - s.p)}, r = {space + 1, s.n - l.n - 1};
    b->st = add_merge(b, (uint32_t)i, l, r);
    return b->st == DS4_OK;
}

/* ---- added tokens ---- */

static int by_bytes(const void *a, const void *b, void *user) {
    const ds4_tokenizer *t = user;
    int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    size_t n, m;
    const uint8_t *p = token_bytes(t, x, &n), *q = token_bytes(t, y, &m);
    int order = memcmp(p, q, n < m ? n : m);
    if (order) return order;
    return n != m ? (n > m) - (n < m) : (x > y) - (x < y);
}

static void add_added(ds4_tokenizer *t, int32_t id) {
    size_t n;
    (void)token_bytes(t, id, &n);
    if (n) t->added[t->n_added++] = id;
}

static void sort_added(ds4_tokenizer *t) {
    size_t n;
    qsort_r(t->added, t->n_added, sizeof *t->added, by_bytes, t);
    for (uint32_t b = 0, i = 0; b <= 256; b++) {
        while (i < t->n_added && *token_bytes(t, t->added[i], &n) < b) i++;
        t->added_from[b] = i;
    }
}

/* ---- from a GGUF ---- */

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

static ds4_status check_specials(const ds4_tokenizer *t, const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (uint32_t s = 0; s < DS4_SPECIAL_COUNT; s++)
        if (t->special[s] == NONE)
            RAISE(DS4_ERR_FORMAT, "%.200s: the vocabulary of %u tokens lacks %s", name,
                  t->n_vocab, special_text[s]);
out:
    return st;
}

/* The specials, and what the file's token types, if there is one for each token, call so. */
static void list_added(ds4_tokenizer *t, const ds4_gguf *g) {
    static const char key[] = "tokenizer.ggml.token_type";
    uint64_t n = 0;
    bool typed = ds4_gguf_array_n(g, key, &n) && n == t->n_vocab;
    for (uint32_t i = 0; i < t->n_vocab; i++) {
        uint32_t type = DS4_TOKEN_NORMAL;
        bool is = typed && ds4_gguf_array_u32(g, key, i, &type) &&
                  (type == DS4_TOKEN_SPECIAL || type == DS4_TOKEN_ADDED);
        for (uint32_t s = 0; s < DS4_SPECIAL_COUNT; s++) is |= t->special[s] == (int32_t)i;
        if (is) add_added(t, (int32_t)i);
    }
    sort_added(t);
}

ds4_status ds4_tokenizer_new(ds4_tokenizer **out, const ds4_gguf *g, ds4_err *err) {
    static const char token_key[] = "tokenizer.ggml.tokens",
                      merge_key[] = "tokenizer.ggml.merges";
    ds4_status st = DS4_OK;
    builder b = {.err = err};
    uint64_t n_token, n_merge;

    TRY(string_count(g, token_key, &n_token, err));
    TRY(string_count(g, merge_key, &n_merge, err));
    TRY(start(&b, n_token, n_merge));
    TRY(visit_strings(g, token_key, visit_token, &b));
    TRY(visit_strings(g, merge_key, visit_merge, &b));
    TRY(check_specials(b.t, ds4_gguf_name(g), err));
    list_added(b.t, g);
    *out = b.t, b.t = NULL;
out:
    ds4_mem_free(b.buf);
    ds4_tokenizer_free(b.t);
    return st;
}

/* ---- from a tokenizer.json ---- */

static ds4_status check_added(const ds4_tokenizer *t, const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n, m;
    for (uint32_t i = 1; i < t->n_added; i++) {
        const uint8_t *p = token_bytes(t, t->added[i - 1], &n);
        const uint8_t *q = token_bytes(t, t->added[i], &m);
        if (n == m && !memcmp(p, q, n))
            RAISE(DS4_ERR_FORMAT, "%.200s: added token \"%.*s\" has ids %d and %d", name,
                  (int)(n < 60 ? n : 60), (const char *)p, t->added[i - 1], t->added[i]);
    }
out:
    return st;
}

ds4_status ds4_tokenizer_new_vocab(ds4_tokenizer **out, const ds4_vocab *v, const char *name,
                                   ds4_err *err) {
    ds4_status st = DS4_OK;
    builder b = {.err = err};

    TRY(start(&b, v->n_token, v->n_merge));
    for (uint32_t i = 0; i < v->n_token; i++) {
        const ds4_vocab_token *k = &v->token[i];
        text_rule rule = k->kind == DS4_TOKEN_NORMAL ? TEXT_JSON : TEXT_PLAIN;
        TRY(add_token(&b, (int32_t)i, k->text, rule, k->in_model));
        if (k->kind != DS4_TOKEN_NORMAL) add_added(b.t, (int32_t)i);
    }
    for (uint32_t i = 0; i < v->n_merge; i++)
        TRY(add_merge(&b, i, v->merge[i][0], v->merge[i][1]));
    sort_added(b.t);
    TRY(check_added(b.t, name, err));
    TRY(check_specials(b.t, name, err));
    TRY(ds4_split_new(&b.t->own, v->split, v->n_split, name, err));
    b.t->split = b.t->own;
    b.t->ignore_merges = v->ignore_merges;
    *out = b.t, b.t = NULL;
out:
    ds4_mem_free(b.buf);
    ds4_tokenizer_free(b.t);
    return st;
}

ds4_status ds4_tokenizer_open(ds4_tokenizer **out, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vocab *v = NULL;
    TRY(ds4_vocab_open(&v, path, err));
    TRY(ds4_tokenizer_new_vocab(out, v, path, err));
out:
    ds4_vocab_free(v);
    return st;
}

void ds4_tokenizer_free(ds4_tokenizer *t) {
    if (!t) return;
    ds4_bpe_free(t->bpe);
    ds4_split_free(t->own);
    ds4_split_free(t->published);
    ds4_mem_free(t->text);
    ds4_mem_free(t->text_end);
    ds4_mem_free(t->added);
    ds4_mem_free(t);
}

ds4_status ds4_tokenizer_split_by(ds4_tokenizer *t, ds4_pre pre, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (pre == DS4_PRE_HF && !t->own && !t->published)
        TRY(ds4_split_new(&t->published, ds4_split_published, 3, "published", err));
    if (pre == DS4_PRE_OWN) t->split = t->own;
    else if (pre == DS4_PRE_MODEL) t->split = NULL;
    else t->split = t->own ? t->own : t->published;
out:
    return st;
}

uint32_t ds4_tokenizer_n_vocab(const ds4_tokenizer *t) { return t->n_vocab; }
int32_t ds4_tokenizer_special(const ds4_tokenizer *t, ds4_special s) { return t->special[s]; }

/* ---- encoding ---- */

typedef struct encoder {
    const ds4_tokenizer *t;
    ds4_tokens *out;
    ds4_err *err;
    ds4_bpe_scratch scratch;
} encoder;

static ds4_status encode_piece(void *user, const uint8_t *p, size_t n) {
    encoder *e = user;
    int32_t id = e->t->ignore_merges ? ds4_bpe_token(e->t->bpe, p, n) : NONE;
    if (id != NONE) return ds4_tokens_push(e->out, id, e->err);
    return ds4_bpe_encode(e->t->bpe, &e->scratch, p, n, e->out, e->err);
}

static ds4_status encode_span(encoder *e, const uint8_t *p, size_t n) {
    ds4_status st = DS4_OK;
    if (e->t->split) return ds4_split_text(e->t->split, p, n, encode_piece, e, e->err);
    for (size_t i = 0, end; i < n; i = end) {
        end = ds4_piece_end(p, i, n);
        TRY(encode_piece(e, p + i, end - i));
    }
out:
    return st;
}

bool ds4_tokenizer_reads_nul(const ds4_tokenizer *t) { return t->split != NULL; }

/* The rules of model.md read a text up to its first NUL; patterns know no such end. */
static size_t text_bytes(const ds4_tokenizer *t, const char *text, size_t n) {
    return n && !t->split ? strnlen(text, n) : n;
}

ds4_status ds4_tokenizer_encode(const ds4_tokenizer *t, const char *text, size_t n,
                                ds4_tokens *out, ds4_err *err) {
    encoder e = {.t = t, .out = out, .err = err};
    ds4_status st = encode_span(&e, (const uint8_t *)text, text_bytes(t, text, n));
    ds4_bpe_scratch_fini(&e.scratch);
    return st;
}

/* Finds a token that the text at p spells: its id and length, else NONE. */
typedef int32_t find_mark(const ds4_tokenizer *t, const uint8_t *p, size_t left, size_t *n);

/* Compared in the table's order. */
static int32_t special_at(const ds4_tokenizer *t, const uint8_t *p, size_t left, size_t *n) {
    if (*p != '<' && *p != 0xef) return NONE;
    for (uint32_t s = 0; s < DS4_SPECIAL_COUNT; s++) {
        *n = strlen(special_text[s]);
        if (*n <= left && memcmp(p, special_text[s], *n) == 0) return t->special[s];
    }
    return NONE;
}

/* The first of [lo, hi), which agree in d bytes and have more, whose byte d is at least b. */
static uint32_t lower(const ds4_tokenizer *t, uint32_t lo, uint32_t hi, size_t d, uint32_t b) {
    size_t n;
    while (lo < hi) {
        uint32_t mid = lo + (hi - lo) / 2;
        if (token_bytes(t, t->added[mid], &n)[d] < b) lo = mid + 1;
        else hi = mid;
    }
    return lo;
}

/* The longest; of equal texts the last id. */
static int32_t added_at(const ds4_tokenizer *t, const uint8_t *p, size_t left, size_t *n) {
    uint32_t lo = t->added_from[*p], hi = t->added_from[*p + 1];
    int32_t best = NONE;
    size_t m;
    for (size_t d = 1; lo < hi; d++) {
        while (lo < hi && (token_bytes(t, t->added[lo], &m), m == d))
            best = t->added[lo++], *n = d;
        if (d == left) break;
        lo = lower(t, lo, hi, d, p[d]);
        hi = lower(t, lo, hi, d, p[d] + 1u);
    }
    return best;
}

static ds4_status encode_marked(const ds4_tokenizer *t, const char *text, size_t n,
                                find_mark *find, ds4_tokens *out, ds4_err *err) {
    ds4_status st = DS4_OK;
    encoder e = {.t = t, .out = out, .err = err};
    const uint8_t *p = (const uint8_t *)text;
    size_t begin = 0, i = 0, k = 0;
    n = text_bytes(t, text, n);
    while (i < n) {
        int32_t id = find(t, p + i, n - i, &k);
        if (id == NONE) {
            i++;
            continue;
        }
        TRY(encode_span(&e, p + begin, i - begin));
        TRY(ds4_tokens_push(out, id, err));
        begin = i += k;
    }
    TRY(encode_span(&e, p + begin, n - begin));
out:
    ds4_bpe_scratch_fini(&e.scratch);
    return st;
}

ds4_status ds4_tokenizer_encode_rendered(const ds4_tokenizer *t, const char *text, size_t n,
                                         ds4_tokens *out, ds4_err *err) {
    return encode_marked(t, text, n, special_at, out, err);
}

ds4_status ds4_tokenizer_encode_added(const ds4_tokenizer *t, const char *text, size_t n,
                                      ds4_tokens *out, ds4_err *err) {
    return encode_marked(t, text, n, added_at, out, err);
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
    size_t n;
    const uint8_t *text = token_bytes(t, id, &n);
    size_t fit = n < cap ? n : cap;
    if (fit) memcpy(dst, text, fit);
    return n;
}

ds4_status ds4_tokenizer_detokenize(const ds4_tokenizer *t, const int32_t *id, size_t n,
                                    char **out, size_t *n_out, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t all = 0, k;
    char *text = NULL;
    for (size_t i = 0; i < n; i++) {
        if (id[i] < 0 || (uint32_t)id[i] >= t->n_vocab)
            RAISE(DS4_ERR_FORMAT, "id %zu of the list is %d, wanted 0 to %u", i, id[i],
                  t->n_vocab - 1);
        (void)token_bytes(t, id[i], &k);
        if (!ds4_add_size(&all, all, k)) RAISE(DS4_ERR_MEMORY, "%zu ids: text too long", n);
    }
    TRY(ds4_mem_alloc(&text, all, 1, err));
    char *at = text;
    for (size_t i = 0; i < n; at += k, i++) {
        const uint8_t *p = token_bytes(t, id[i], &k);
        if (k) memcpy(at, p, k);
    }
    *out = text, *n_out = all;
out:
    return st;
}
