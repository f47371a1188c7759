#include "engine/format/bpe.h"

#include <string.h>
#include <sys/random.h>
#include <xxhash.h>

#include "engine/base/mem.h"
#include "engine/format/alphabet.h"

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
    uint64_t key;   /* of the hash */
} strings;

/* One merge: the pair of symbols, its rank, the symbol it makes. */
typedef struct merge {
    uint32_t l, r, rank, result;
} merge;

typedef struct merges {
    merge *slot; /* open addressing; rank NO_RANK is free */
    size_t n_slot;
    uint64_t key; /* of the hash */
} merges;

struct ds4_bpe {
    strings sym;
    int32_t *sym_token; /* token id of a symbol, NONE */
    size_t sym_cap;     /* of sym_token */
    merges merge;
    int32_t one_byte[256]; /* the token whose text is this one raw byte, NONE */
};

/* Keyed, with a key that no file can know: chosen texts and pairs that fall into one slot would
 * make the tables slow. Results do not depend on it. */
static uint64_t fold(uint64_t a, uint64_t b) {
    __extension__ typedef unsigned __int128 wide;
    wide p = (wide)a * b;
    return (uint64_t)p ^ (uint64_t)(p >> 64);
}

static uint64_t new_key(const void *salt) {
    uint64_t key = 0;
    if (getrandom(&key, sizeof key, GRND_NONBLOCK) != sizeof key)
        key = fold((uint64_t)(uintptr_t)salt ^ 0x9e3779b97f4a7c15u, 0xff51afd7ed558ccdu);
    return key;
}

static const uint8_t *string_at(const strings *s, uint32_t id, size_t *n) {
    size_t start = id ? s->end[id - 1] : 0;
    *n = s->end[id] - start;
    return s->blob + start;
}

/* The slot that holds these bytes, or the free one where they belong. */
static size_t string_slot(const strings *s, const uint8_t *p, size_t n) {
    size_t mask = s->n_slot - 1, i = (size_t)XXH3_64bits_withSeed(p, n, s->key) & mask;
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
    size_t mask = m->n_slot - 1,
           i = (size_t)fold(((uint64_t)l << 32 | r) ^ m->key, 0x9e3779b97f4a7c15u) & mask;
    while (m->slot[i].rank != NO_RANK && (m->slot[i].l != l || m->slot[i].r != r))
        i = (i + 1) & mask;
    return i;
}

/* The pair's entry; rank NO_RANK when it is no merge. */
static inline const merge *find_merge(const merges *m, uint32_t l, uint32_t r) {
    return &m->slot[merge_slot(m, l, r)];
}

/* ---- building ---- */

/* A symbol with its place in sym_token. */
static ds4_status add_symbol(ds4_bpe *b, const uint8_t *p, size_t n, uint32_t *id,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t known = b->sym.n;
    TRY(intern(&b->sym, p, n, id, err));
    if (b->sym.cap > b->sym_cap) {
        TRY(ds4_mem_grow(&b->sym_token, b->sym.cap, sizeof *b->sym_token, err));
        b->sym_cap = b->sym.cap;
    }
    if (b->sym.n > known) b->sym_token[*id] = NONE;
out:
    return st;
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

ds4_status ds4_bpe_new(ds4_bpe **out, uint64_t n_merge, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_bpe *b = NULL;
    TRY(ds4_mem_alloc(&b, 1, sizeof *b, err));
    b->sym.key = new_key(b);
    b->merge.key = new_key(&b->merge);
    TRY(alloc_merges(&b->merge, n_merge, err));
    for (uint32_t c = 0; c < 256; c++) {
        uint8_t byte = (uint8_t)c;
        uint32_t id;
        TRY(add_symbol(b, &byte, 1, &id, err));
        b->one_byte[c] = NONE;
    }
    *out = b, b = NULL;
out:
    ds4_bpe_free(b);
    return st;
}

void ds4_bpe_free(ds4_bpe *b) {
    if (!b) return;
    ds4_mem_free(b->sym.blob);
    ds4_mem_free(b->sym.end);
    ds4_mem_free(b->sym.slot);
    ds4_mem_free(b->sym_token);
    ds4_mem_free(b->merge.slot);
    ds4_mem_free(b);
}

ds4_status ds4_bpe_add_token(ds4_bpe *b, const uint8_t *p, size_t n, int32_t id, ds4_err *err) {
    uint32_t sym;
    ds4_status st = add_symbol(b, p, n, &sym, err);
    if (st == DS4_OK) b->sym_token[sym] = id;
    return st;
}

void ds4_bpe_add_byte(ds4_bpe *b, uint8_t byte, int32_t id) { b->one_byte[byte] = id; }

ds4_status ds4_bpe_add_merge(ds4_bpe *b, const uint8_t *p, size_t nl, size_t nr, uint32_t rank,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    merge m = {.rank = rank};
    TRY(add_symbol(b, p, nl, &m.l, err));
    TRY(add_symbol(b, p + nl, nr, &m.r, err));
    TRY(add_symbol(b, p, nl + nr, &m.result, err));
    b->merge.slot[merge_slot(&b->merge, m.l, m.r)] = m;
out:
    return st;
}

int32_t ds4_bpe_token(const ds4_bpe *b, const uint8_t *p, size_t n) {
    uint32_t id = b->sym.slot[string_slot(&b->sym, p, n)];
    return id ? b->sym_token[id - 1] : NONE;
}

/* ---- merging ---- */

/* One symbol of a long piece; rank is that of the pair it opens, NO_RANK for none or when fused
 * away. */
typedef struct ds4_bpe_node {
    uint32_t sym, rank, prev, next;
} node;

/* What one encoding works with. A piece of up to SHORT bytes is merged by scanning, in an array
 * on the stack; longer ones use a heap of (rank, position), so that time stays n log n. */
typedef struct merger {
    const ds4_bpe *b;
    ds4_bpe_scratch *s;
    ds4_tokens *out;
    ds4_err *err;
} merger;

enum { SHORT = 48 };

/* A symbol that is no token goes out by the bytes of its text that are tokens by themselves. */
static ds4_status emit_spelled(merger *m, uint32_t sym) {
    ds4_status st = DS4_OK;
    size_t n;
    const uint8_t *p = string_at(&m->b->sym, sym, &n);
    for (size_t i = 0; i < n; i++) {
        uint8_t utf8[2];
        size_t n_utf8 = ds4_alphabet_write(utf8, p[i]);
        for (size_t k = 0; k < n_utf8; k++) {
            int32_t id = m->b->one_byte[utf8[k]];
            if (id != NONE) TRY(ds4_tokens_push(m->out, id, m->err));
        }
    }
out:
    return st;
}

static inline ds4_status emit(merger *m, uint32_t sym) {
    int32_t id = m->b->sym_token[sym];
    return id != NONE ? ds4_tokens_push(m->out, id, m->err) : emit_spelled(m, sym);
}

/* Lowest rank first, leftmost of equals: a strict comparison while scanning from the left. */
static ds4_status merge_short(merger *m, const uint8_t *p, size_t n) {
    ds4_status st = DS4_OK;
    uint32_t sym[SHORT];
    const merge *pair[SHORT]; /* of sym[i] and sym[i + 1] */
    for (size_t i = 0; i < n; i++) sym[i] = p[i];
    for (size_t i = 0; i + 1 < n; i++) pair[i] = find_merge(&m->b->merge, sym[i], sym[i + 1]);
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
        if (best) pair[best - 1] = find_merge(&m->b->merge, sym[best - 1], sym[best]);
        if (best + 1 < n) pair[best] = find_merge(&m->b->merge, sym[best], sym[best + 1]);
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
    size_t i = m->s->n_heap++;
    for (; i && m->s->heap[(i - 1) / 2] > v; i = (i - 1) / 2)
        m->s->heap[i] = m->s->heap[(i - 1) / 2];
    m->s->heap[i] = v;
}

static uint64_t heap_pop(merger *m) {
    uint64_t top = m->s->heap[0];
    m->s->heap[0] = m->s->heap[--m->s->n_heap];
    if (m->s->n_heap) sift_down(m->s->heap, m->s->n_heap, 0);
    return top;
}

/* Looks up the pair that node i opens; pushed when it is a merge. */
static void open_pair(merger *m, uint32_t i, uint32_t n) {
    node *a = &m->s->node[i];
    a->rank =
        a->next < n ? find_merge(&m->b->merge, a->sym, m->s->node[a->next].sym)->rank : NO_RANK;
    if (a->rank != NO_RANK) heap_push(m, (uint64_t)a->rank << 32 | i);
}

static ds4_status merge_long(merger *m, const uint8_t *p, size_t size) {
    ds4_status st = DS4_OK;
    ds4_err *err = m->err;
    if (size > INT32_MAX)
        RAISE(DS4_ERR_USAGE, "a word of %zu bytes, wanted at most %d", size, INT32_MAX);
    uint32_t n = (uint32_t)size;
    if (size > m->s->cap) {
        /* Each fusion takes one entry and adds at most two: 2n entries never overflow. */
        TRY(ds4_mem_grow(&m->s->node, size, sizeof *m->s->node, m->err));
        TRY(ds4_mem_grow(&m->s->heap, 2 * size, sizeof *m->s->heap, m->err));
        m->s->cap = size;
    }
    for (uint32_t i = 0; i < n; i++) m->s->node[i] = (node){p[i], NO_RANK, i - 1, i + 1};
    m->s->n_heap = 0;
    for (uint32_t i = 0; i < n; i++) open_pair(m, i, n);
    while (m->s->n_heap) {
        uint64_t top = heap_pop(m);
        uint32_t i = (uint32_t)top, rank = (uint32_t)(top >> 32);
        node *a = &m->s->node[i];
        if (a->rank != rank) continue; /* the pair has changed since */
        node *b = &m->s->node[a->next];
        a->sym = find_merge(&m->b->merge, a->sym, b->sym)->result;
        b->rank = NO_RANK;
        a->next = b->next;
        if (a->next < n) m->s->node[a->next].prev = i;
        open_pair(m, i, n);
        if (i) open_pair(m, a->prev, n);
    }
    for (uint32_t i = 0; i < n; i = m->s->node[i].next) TRY(emit(m, m->s->node[i].sym));
out:
    return st;
}

ds4_status ds4_bpe_encode(const ds4_bpe *b, ds4_bpe_scratch *s, const uint8_t *p, size_t n,
                          ds4_tokens *out, ds4_err *err) {
    merger m = {b, s, out, err};
    return n <= SHORT ? merge_short(&m, p, n) : merge_long(&m, p, n);
}

void ds4_bpe_scratch_fini(ds4_bpe_scratch *s) {
    ds4_mem_free(s->node);
    ds4_mem_free(s->heap);
}
