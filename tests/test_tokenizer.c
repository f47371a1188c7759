/* engine/format/tokenizer: piece rules, merges against a naive merger, framing, and the bundled
 * vocabulary on real text. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "engine/format/tokenizer.h"

static const char *const specials[DS4_SPECIAL_COUNT] = {
    "<｜begin▁of▁sentence｜>",
    "<｜end▁of▁sentence｜>",
    "<｜User｜>",
    "<｜Assistant｜>",
    "<think>",
    "</think>",
    "｜DSML｜",
};

static uint32_t next_u32(uint64_t *s) {
    *s ^= *s << 13, *s ^= *s >> 7, *s ^= *s << 17;
    return (uint32_t)(*s >> 16);
}

/* ---- a GGUF with a vocabulary, built in memory ---- */

typedef struct bytes {
    uint8_t *p;
    size_t n, cap;
} bytes;

static void put(bytes *b, const void *p, size_t n) {
    while (b->n + n > b->cap) {
        b->cap = 2 * b->cap + 4096;
        b->p = realloc(b->p, b->cap);
        assert_non_null(b->p);
    }
    if (n) memcpy(b->p + b->n, p, n);
    b->n += n;
}
static void put_u32(bytes *b, uint32_t v) { put(b, &v, 4); }
static void put_u64(bytes *b, uint64_t v) { put(b, &v, 8); }
static void put_str(bytes *b, const char *s, size_t n) {
    put_u64(b, n);
    put(b, s, n);
}

/* A list of strings, as the items of an array. */
typedef struct list {
    bytes b;
    uint64_t n;
} list;

static void add(list *l, const char *s, size_t n) {
    put_str(&l->b, s, n);
    l->n++;
}

static void add_text(list *l, const char *s) { add(l, s, strlen(s)); }

typedef struct model {
    bytes file;
    ds4_gguf *g;
    ds4_tokenizer *t;
} model;

static ds4_status make(model *m, const list *tokens, const list *merges, ds4_err *err) {
    *m = (model){0};
    put(&m->file, "GGUF\3\0\0\0", 8);
    put_u64(&m->file, 0);
    put_u64(&m->file, (uint64_t)(tokens != NULL) + (merges != NULL));
    const list *const both[2] = {tokens, merges};
    for (int i = 0; i < 2; i++) {
        if (!both[i]) continue;
        put_str(&m->file, i ? "tokenizer.ggml.merges" : "tokenizer.ggml.tokens", 21);
        put_u32(&m->file, 9), put_u32(&m->file, 8), put_u64(&m->file, both[i]->n);
        put(&m->file, both[i]->b.p, both[i]->b.n);
    }
    put(&m->file, (char[32]){0}, 32);
    assert_int_equal(ds4_gguf_parse(&m->g, m->file.p, m->file.n, "made", NULL), DS4_OK);
    return ds4_tokenizer_new(&m->t, m->g, err);
}

static void unmake(model *m) {
    ds4_tokenizer_free(m->t);
    ds4_gguf_close(m->g);
    free(m->file.p);
}

/* The alphabet, built the way the text of model.md 5.1 says it: in increasing byte order. */
static size_t mapped(char *dst, const uint8_t *p, size_t n) {
    size_t m = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t c = 256, b = p[i];
        int plain = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        for (uint32_t k = 0; k < b && !plain; k++)
            c += !((k >= 33 && k <= 126) || (k >= 161 && k <= 172) || k >= 174);
        if (plain) c = b;
        if (c < 0x80) dst[m++] = (char)c;
        else dst[m++] = (char)(0xc0 | c >> 6), dst[m++] = (char)(0x80 | (c & 63));
    }
    return m;
}

static void add_mapped(list *l, const uint8_t *p, size_t n) {
    char s[512];
    assert_true(n <= 256);
    add(l, s, mapped(s, p, n));
}

static void add_pair(list *l, const uint8_t *p, size_t n, const uint8_t *q, size_t m) {
    char s[512];
    assert_true(n + m <= 250);
    size_t k = mapped(s, p, n);
    s[k++] = ' ';
    add(l, s, k + mapped(s + k, q, m));
}

static void add_basics(list *tokens) {
    for (int s = 0; s < DS4_SPECIAL_COUNT; s++) add_text(tokens, specials[s]);
    for (int c = 0; c < 256; c++) add_mapped(tokens, &(uint8_t){(uint8_t)c}, 1);
}

static size_t decode(const ds4_tokenizer *t, const int32_t *id, size_t n, char *dst,
                     size_t cap) {
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        at += ds4_tokenizer_bytes(t, id[i], dst + at, cap - at);
        assert_true(at < cap);
    }
    dst[at] = 0;
    return at;
}

/* ---- pieces ---- */

/* Every split of every substring is a merge and every substring a token: then each piece, and
 * nothing more, fuses into one token. */
static void check_pieces(const char *text, const char *want) {
    const uint8_t *p = (const uint8_t *)text;
    size_t n = strlen(text), at = 0;
    list tokens = {0}, merges = {0};
    model m;
    ds4_tokens ids = {0};
    char got[512];
    add_basics(&tokens);
    add_text(&merges, "no pair");
    for (size_t len = 2; len <= n; len++)
        for (size_t i = 0; i + len <= n; i++) {
            add_mapped(&tokens, p + i, len);
            for (size_t k = 1; k < len; k++) add_pair(&merges, p + i, k, p + i + k, len - k);
        }
    assert_int_equal(make(&m, &tokens, &merges, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_encode(m.t, text, n, &ids, NULL), DS4_OK);
    for (size_t i = 0; i < ids.n; i++) {
        if (i) got[at++] = '|';
        at += ds4_tokenizer_bytes(m.t, ids.id[i], got + at, sizeof got - at);
        assert_true(at < sizeof got - 1);
    }
    got[at] = 0;
    assert_string_equal(got, want);
    ds4_tokens_free(&ids);
    unmake(&m);
    free(tokens.b.p), free(merges.b.p);
}

static void test_pieces_published_examples_split(void **state) {
    (void)state;
    check_pieces("    int x", "   | int| x");
    check_pieces(");\n\n  y", ");\n\n| | y");
    check_pieces("a_b", "a|_b");
    check_pieces("2024", "202|4");
    check_pieces("abc中文", "abc中文");
    check_pieces("中文abc", "中文|abc");
    check_pieces("x  1", "x|  |1");
}

static void test_pieces_each_rule_splits_as_written(void **state) {
    (void)state;
    check_pieces("1234567a", "123|456|7|a");     /* 1 */
    check_pieces("ひらカタ漢é", "ひらカタ漢|é"); /* 2: the first other character ends it */
    check_pieces(".abcé", ".abc|é");             /* 3: ASCII only */
    check_pieces("..abc", "..|abc");             /* 7 before 3: the second is not first */
    check_pieces("aé中b", "aé中b");              /* 4: does not stop at cjk */
    check_pieces("😀a", "😀a");                    /* 4: any high byte is a letter */
    check_pieces("\tint", "\tint");              /* 5 */
    check_pieces("\x01x", "\x01x");              /* 5: control characters too */
    check_pieces("\nx", "\n|x");                 /* 5 leaves newlines out */
    check_pieces(" 中文", " 中文");              /* 5 */
    check_pieces(" --\n\nx", " --\n\n|x");       /* 6 */
    check_pieces("\t--", "\t|--");               /* 6 is for U+0020 alone */
    check_pieces("--\r\n x", "--\r\n| x");       /* 7 */
    check_pieces(" \n  \n  x", " \n  \n| | x");  /* 8: up to the last newline */
    check_pieces("  (", " | (");                 /* 8: the last space joins */
    check_pieces("   ", "   ");                  /* 8 */
    check_pieces(" 1", " |1");                   /* 8: before a digit, whole */
    check_pieces("a\x01\x02", "a|\x01|\x02");    /* 9 */
    check_pieces("!a1\x7f", "!a|1|\x7f");        /* 9 */
    check_pieces("\xe4\xb8", "\xe4\xb8");        /* a cut character is letters */
    check_pieces("", "");
}

/* ---- merges ---- */

enum { N_SYM = 4 }; /* the letters a..d */

typedef struct rule {
    char l[40], r[40];
} rule;

/* As the text says it: again and again the lowest rank, leftmost on equal rank. */
static void naive(const rule *rules, size_t n_rule, const char *word, list *out) {
    char part[256][40];
    size_t n = strlen(word);
    assert_true(n <= 256);
    for (size_t i = 0; i < n; i++) part[i][0] = word[i], part[i][1] = 0;
    for (;;) {
        size_t at = n;
        for (size_t k = 0; k < n_rule && at == n; k++)
            for (size_t i = 0; i + 1 < n && at == n; i++)
                if (!strcmp(part[i], rules[k].l) && !strcmp(part[i + 1], rules[k].r)) at = i;
        if (at == n) break;
        char right[40];
        strcpy(right, part[at + 1]);
        strcat(part[at], right);
        n--;
        for (size_t i = at + 1; i < n; i++) memcpy(part[i], part[i + 1], sizeof part[i]);
    }
    for (size_t i = 0; i < n; i++) add_text(out, part[i]);
}

static void check_word(const model *m, const rule *rules, size_t n_rule, const char *word) {
    list want = {0}, got = {0};
    ds4_tokens ids = {0};
    char s[64];
    naive(rules, n_rule, word, &want);
    assert_int_equal(ds4_tokenizer_encode(m->t, word, strlen(word), &ids, NULL), DS4_OK);
    for (size_t i = 0; i < ids.n; i++)
        add(&got, s, ds4_tokenizer_bytes(m->t, ids.id[i], s, sizeof s));
    if (want.n != got.n || want.b.n != got.b.n || memcmp(want.b.p, got.b.p, want.b.n))
        fail_msg("another split of %s", word);
    ds4_tokens_free(&ids);
    free(want.b.p), free(got.b.p);
}

/* Random rules over few letters make overlapping, stale and equal-rank candidates common. Words
 * on both sides of the length where the heap takes over. */
static void test_merges_random_rules_agree_with_the_naive_merger(void **state) {
    uint64_t s = 0x2545f4914f6cdd1du;
    (void)state;
    for (int round = 0; round < 30; round++) {
        rule rules[40];
        size_t n_rule = 0;
        char known[44][40] = {"a", "b", "c", "d"};
        size_t n_known = N_SYM;
        list tokens = {0}, merges = {0};
        model m;
        add_basics(&tokens);
        for (int i = 0; i < 40; i++) {
            rule r;
            strcpy(r.l, known[next_u32(&s) % n_known]),
                strcpy(r.r, known[next_u32(&s) % n_known]);
            bool again = strlen(r.l) + strlen(r.r) > 30;
            for (size_t k = 0; k < n_rule; k++)
                again |= !strcmp(r.l, rules[k].l) && !strcmp(r.r, rules[k].r);
            if (again) continue;
            rules[n_rule++] = r;
            strcpy(known[n_known], r.l), strcat(known[n_known], r.r);
            add_text(&tokens, known[n_known++]);
            char text[88];
            snprintf(text, sizeof text, "%s %s", r.l, r.r);
            add_text(&merges, text);
        }
        assert_int_equal(make(&m, &tokens, &merges, NULL), DS4_OK);
        for (int w = 0; w < 60; w++) {
            char word[257];
            size_t n = w < 30 ? 1 + next_u32(&s) % 60 : 40 + next_u32(&s) % 217;
            for (size_t i = 0; i < n; i++)
                word[i] = (char)('a' + next_u32(&s) % (2 + (uint32_t)w % 3));
            word[n] = 0;
            check_word(&m, rules, n_rule, word);
        }
        unmake(&m);
        free(tokens.b.p), free(merges.b.p);
    }
}

static void test_merges_one_piece_of_a_megabyte_stays_fast(void **state) {
    enum { N = 1 << 20 };
    list tokens = {0}, merges = {0};
    model m;
    ds4_tokens ids = {0};
    char text[64] = "a", *big = malloc(N);
    (void)state;
    assert_non_null(big);
    add_basics(&tokens);
    for (int k = 0; k < 5; k++) { /* a a, aa aa, … up to 32 */
        char pair[140];
        snprintf(pair, sizeof pair, "%s %s", text, text);
        add_text(&merges, pair);
        memcpy(text + strlen(text), text, strlen(text));
        add_text(&tokens, text);
    }
    memset(big, 'a', N);
    assert_int_equal(make(&m, &tokens, &merges, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_encode(m.t, big, N, &ids, NULL), DS4_OK);
    assert_int_equal(ids.n, N / 32);
    ds4_tokens_free(&ids);
    unmake(&m);
    free(tokens.b.p), free(merges.b.p), free(big);
}

static void test_duplicates_the_last_occurrence_wins(void **state) {
    list tokens = {0}, merges = {0};
    model m;
    ds4_tokens ids = {0};
    (void)state;
    add_basics(&tokens);
    add_text(&tokens, "ab"), add_text(&tokens, "bc"), add_text(&tokens, "ab");
    add_text(&tokens, "<think>");
    int32_t bc = 7 + 256 + 1, ab = bc + 1;
    add_text(&merges, "a b"), add_text(&merges, "b c"), add_text(&merges, "a b");
    assert_int_equal(make(&m, &tokens, &merges, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_special(m.t, DS4_SPECIAL_THINK_OPEN), ab + 1);
    assert_int_equal(ds4_tokenizer_encode(m.t, "abc", 3, &ids, NULL), DS4_OK);
    assert_int_equal(ids.n, 2); /* b c has the lower rank now */
    assert_int_equal(ids.id[1], bc);
    ids.n = 0;
    assert_int_equal(ds4_tokenizer_encode(m.t, "ab", 2, &ids, NULL), DS4_OK);
    assert_int_equal(ids.n, 1);
    assert_int_equal(ids.id[0], ab);
    ds4_tokens_free(&ids);
    unmake(&m);
    free(tokens.b.p), free(merges.b.p);
}

/* A symbol without a token goes out by those bytes of its text that are tokens. */
static void test_incomplete_vocabulary_spells_symbols_by_bytes(void **state) {
    list tokens = {0}, merges = {0};
    model m;
    ds4_tokens ids = {0};
    (void)state;
    for (int s = 0; s < DS4_SPECIAL_COUNT; s++) add_text(&tokens, specials[s]);
    add_text(&tokens, "a"), add(&tokens, "\xc4", 1); /* 7, 8 */
    add_text(&merges, "a b");
    assert_int_equal(make(&m, &tokens, &merges, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_encode(m.t, "ab", 2, &ids, NULL),
                     DS4_OK); /* fused, no token */
    assert_int_equal(ds4_tokenizer_encode(m.t, " ", 1, &ids, NULL), DS4_OK); /* c4 a0 */
    assert_int_equal(ds4_tokenizer_encode(m.t, "z", 1, &ids, NULL), DS4_OK); /* vanishes */
    assert_int_equal(ids.n, 2);
    assert_int_equal(ids.id[0], 7);
    assert_int_equal(ids.id[1], 8);
    ds4_tokens_free(&ids);
    unmake(&m);
    free(tokens.b.p), free(merges.b.p);
}

static void expect_refused(const list *tokens, const list *merges, const char *word) {
    model m;
    ds4_err err = {0};
    assert_int_equal(make(&m, tokens, merges, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, word));
    assert_null(m.t);
    unmake(&m);
}

static void test_new_without_its_arrays_or_specials_is_refused(void **state) {
    list empty = {0}, tokens = {0}, merges = {0};
    (void)state;
    add_basics(&tokens), add_text(&merges, "a b");
    expect_refused(NULL, &merges, "tokenizer.ggml.tokens");
    expect_refused(&tokens, NULL, "tokenizer.ggml.merges");
    expect_refused(&empty, &merges, "empty");
    expect_refused(&tokens, &empty, "empty");
    for (int skip = 0; skip < DS4_SPECIAL_COUNT; skip++) {
        list some = {0};
        for (int s = 0; s < DS4_SPECIAL_COUNT; s++)
            if (s != skip) add_text(&some, specials[s]);
        expect_refused(&some, &merges, specials[skip]);
        free(some.b.p);
    }
    free(tokens.b.p), free(merges.b.p);
}

/* ---- the bundled vocabulary ---- */

static const int32_t english[] = {
    0,    107,  62,   1339, 107,  328,  317,  47,   1510, 639,  286,  396,  61,   685,  101,
    334,  373,  344,  102,  772,  463,  263,  1846, 314,  283,  380,  286,  396,  427,  1083,
    369,  263,  673,  285,  423,  467,  351,  636,  323,  427,  1083, 369,  932,  321,  1279,
    263,  264,  1586, 285,  359,  120,  572,  318,  284,  1223, 120,  572,  318,  47,   406,
    578,  264,  1586, 604,  740,  464,  1059, 1083, 507,  62,   44,   284,  263,  740,  285,
    263,  1660, 464,  923,  317,  432,  260,  107,  351,  61,   284,  923,  317,  432,  260,
    107,  351,  678,  2031, 308,  323,  1059, 1083, 507,  263,  1279, 285,  427,  1083, 369,
    286,  396,  262,  441,  47,   284,  639,  1151, 373,  740,  1479, 1170, 62,   284,  263,
    740,  285,  373,  1428, 464,  413,  785,  118,  107,  62,   284,  373,  724,  566,  965,
    111,  314,  284,  524,  764,  477,  308,  323,  263,  724,  285,  965,  111,  314,  62,
    520,  298,  291,  49,   624,  335,  566,  263,  724,  285,  423,  467,  351,  47,   263,
    441,  285,  427,  1083, 369,  47,   263,  441,  285,  427,  291,  931,  107,  308,  323,
    373,  264,  1586, 359,  1920, 768,  110,  591,  286,  396,  480,  107,  378,  47,   284,
    755,  1604, 125,  265,  47,   284,  427,  507,  309,  507,  308,  323,  263,  724,  285,
    1578, 112,  312,  507,  566,  47,   375,  658,  291,  47,   284,  1578, 444,  112,  47,
    284,  349,  108,  110,  658,  47,   284,  375,  1010, 314,  308,  323,  263,  724,  285,
    450,  824,  320,  318,  62,   1223, 334,  1932, 507,  47,   284,  520,  265,  298,  373,
    441,  47,   284,  448,  507,  525,  373,  441,  47,   284,  1786, 351,  507,  373,  441,
    47,   284,  448,  507,  525,  373,  441,  748,  323,  923,  544,  351,  373,  441,  47,
    284,  1223, 334,  1932, 507,  373,  441,  47,   284,  450,  125,  265,  47,   284,  450,
    368,  351,  47,   1510, 263,  668,  285,  423,  525,  352,  566,  286,  569,  299,  352,
    629,  1972, 47,   1098, 447,  593,  964,  321,  1141, 1281, 535,  267,  1441, 308,  323,
    450,  824,  320,  318,  535,  673,  281,  666,  113,  298,  504,  124,  1103, 47,   284,
    373,  1517, 593,  321,  384,  105,  822,  422,  308,  323,  610,  327,  687,  299,  321,
    373,  1279, 47,   639,  344,  439,  443,  298,  47,   284,  286,  396,  262,  441,  47,
    284,  327,  1151, 373,  740,  520,  265,  941,  47,   1098, 414,  687,  1785, 337,  373,
    656,  308,  43,   323,  373,  1165, 464,  1578, 1575, 47,   1687, 615,  1603, 2012, 107,
    287,  269,  263,  289,  307,  398,  47,   284,  263,  457,  585,  47,   284,  965,  1438,
    735,  260,  1575, 49,   44,   293,  323,  1495, 824,  507,  464,  373,  441,  47,   898,
    524,  282,  260,  824,  47,   284,  448,  317,  507,  373,  441,  47,   284,  448,  507,
    291,  373,  441,  748,  79,   100,  351,  291,  373,  441,  47,   1039, 1323, 107,  564,
    373,  441,  47,   1786, 996,  314,  100,  373,  441,  748,  81,   269,  373,  441,  47,
    1612, 1319, 120,  507,  373,  441,  748,  323,  535,  1755, 346,  118,  284,  294,  544,
    283,  1247, 566,  47,   520,  307,  1932, 284,  263,  321,  122,  389,  1058, 47,   284,
    300,  541,  1042, 618,  100,  288,  291,  47,   284,  277,
};
static const int32_t italian[] = {
    0,    662, 62,   430,  47,   262,  304, 2024, 1127, 47,  407, 270,  302, 120,  121, 366,
    696,  619, 324,  465,  13,   115,  366, 602,  374,  47,  300, 829,  304, 42,   342, 319,
    265,  120, 1166, 1067, 278,  463,  278, 463,  47,   331, 417, 331,  417, 47,   408, 926,
    309,  408, 926,  560,  1156, 108,  934, 1399, 108,  402, 409, 300,  698, 817,  370, 681,
    1219, 304, 315,  1648, 403,  1515, 117, 1076, 47,   430, 446, 1016, 621, 13,   104, 306,
    100,  105, 473,  62,   300,  387,  290, 355,  104,  528, 267, 271,  115, 1411, 770, 1656,
};
static const int32_t code[] = {
    0,   537, 118, 683,  50,  1485, 1485, 518, 1678, 293,  1490, 36,   929,  1915, 35,   94,
    75,  56,  74,  98,   371, 287,  984,  449, 1296, 1010, 115,  96,   35,   305,  998,  1182,
    295, 448, 124, 1967, 285, 290,  1049, 370, 287,  984,  356,  1364, 118,  13,   683,  758,
    115, 298, 537, 969,  355, 359,  56,   74,  98,   371,  287,  984,  1815, 449,  1802, 437,
};
static const int32_t chat[] = {
    0, 2043, 405, 337, 400, 263, 386, 61, 35, 892, 692, 452, 35, 55, 336, 2044, 2046,
};
#define COUNT(a) (sizeof(a) / sizeof *(a))

typedef struct tiny {
    ds4_gguf *g;
    ds4_tokenizer *t;
} tiny;

static int open_tiny(void **state) {
    static tiny m;
    ds4_err err = {0};
    if (ds4_gguf_open(&m.g, "fixtures/tiny/ds4-tiny-q4k.gguf", &err) ||
        ds4_tokenizer_new(&m.t, m.g, &err)) {
        print_error("%s\n", err.message);
        return -1;
    }
    *state = &m;
    return 0;
}

static int close_tiny(void **state) {
    tiny *m = *state;
    ds4_tokenizer_free(m->t);
    ds4_gguf_close(m->g);
    return 0;
}

static void check_ids(const ds4_tokens *got, const int32_t *want, size_t n) {
    for (size_t i = 0; i < n && i < got->n; i++)
        if (got->id[i] != want[i]) fail_msg("id %zu is %d, wanted %d", i, got->id[i], want[i]);
    assert_int_equal(got->n, n);
}

/* ids[0] is BOS; the rest is plain text whose last word may be cut short. */
static void check_text(const ds4_tokenizer *t, const int32_t *want, size_t n) {
    char text[8192];
    ds4_tokens ids = {0};
    assert_int_equal(want[0], ds4_tokenizer_special(t, DS4_SPECIAL_BOS));
    size_t n_text = decode(t, want + 1, n - 1, text, sizeof text);
    assert_int_equal(ds4_tokenizer_encode(t, text, n_text, &ids, NULL), DS4_OK);
    check_ids(&ids, want + 1, n - 1);
    ids.n = 0;
    n_text = decode(t, want, n, text, sizeof text);
    assert_int_equal(ds4_tokenizer_encode_rendered(t, text, n_text, &ids, NULL), DS4_OK);
    check_ids(&ids, want, n);
    ds4_tokens_free(&ids);
}

static void test_real_text_gives_the_published_ids(void **state) {
    const tiny *m = *state;
    check_text(m->t, english, COUNT(english));
    check_text(m->t, italian, COUNT(italian));
    check_text(m->t, code, COUNT(code));
}

static void test_chat_frames_one_turn(void **state) {
    const tiny *m = *state;
    const ds4_tokenizer *t = m->t;
    char text[512];
    ds4_tokens ids = {0};
    size_t n = COUNT(chat);
    size_t n_text = decode(t, chat + 2, n - 4, text, sizeof text);
    assert_int_equal(text[n_text], 0);
    assert_int_equal(ds4_tokenizer_encode_chat(t, DS4_THINK_OFF, NULL, text, 320, &ids, NULL),
                     DS4_OK);
    check_ids(&ids, chat, n);
    ids.n = 0;
    assert_int_equal(ds4_tokenizer_encode_chat(t, DS4_THINK_HIGH, "", text, 320, &ids, NULL),
                     DS4_OK);
    assert_int_equal(ids.id[n - 1], ds4_tokenizer_special(t, DS4_SPECIAL_THINK_OPEN));
    assert_memory_equal(ids.id, chat, (n - 1) * sizeof *chat);
    ds4_tokens_free(&ids);
}

static void test_chat_max_prefixes_the_published_instruction(void **state) {
    const tiny *m = *state;
    ds4_tokens high = {0}, low = {0}, max = {0};
    char text[2048];
    assert_int_equal(
        ds4_tokenizer_encode_chat(m->t, DS4_THINK_HIGH, "S", "P", 1 << 20, &high, NULL),
        DS4_OK);
    assert_int_equal(
        ds4_tokenizer_encode_chat(m->t, DS4_THINK_MAX, "S", "P", 393215, &low, NULL), DS4_OK);
    assert_int_equal(
        ds4_tokenizer_encode_chat(m->t, DS4_THINK_MAX, "S", "P", 393216, &max, NULL), DS4_OK);
    check_ids(&low, high.id, high.n);
    size_t more = max.n - high.n;
    assert_memory_equal(max.id + 1 + more, high.id + 1, (high.n - 1) * sizeof *high.id);
    assert_int_equal(decode(m->t, max.id + 1, more, text, sizeof text), 476);
    assert_memory_equal(text, "Reasoning Effort: ", 18);
    ds4_tokens_free(&high), ds4_tokens_free(&low), ds4_tokens_free(&max);
}

static void test_rendered_specials_become_ids_and_plain_ones_do_not(void **state) {
    const tiny *m = *state;
    for (int s = 0; s < DS4_SPECIAL_COUNT; s++) {
        ds4_tokens ids = {0};
        char text[128];
        int n = snprintf(text, sizeof text, "a%sb", specials[s]);
        int32_t id = ds4_tokenizer_special(m->t, (ds4_special)s);
        assert_int_equal(ds4_tokenizer_encode_rendered(m->t, text, (size_t)n, &ids, NULL),
                         DS4_OK);
        assert_int_equal(ids.n, 3);
        assert_int_equal(ids.id[1], id);
        assert_int_equal(decode(m->t, ids.id, ids.n, text + 64, 64), n);
        ids.n = 0;
        assert_int_equal(ds4_tokenizer_encode(m->t, text, (size_t)n, &ids, NULL), DS4_OK);
        for (size_t i = 0; i < ids.n; i++) assert_int_not_equal(ids.id[i], id);
        ds4_tokens_free(&ids);
    }
}

/* Any bytes but NUL come back, through the short and the long merger. */
static void test_random_bytes_survive_the_round_trip(void **state) {
    const tiny *m = *state;
    uint64_t s = 0x106689d45497fdb5u;
    for (int round = 0; round < 400; round++) {
        char text[600], back[700];
        size_t n = next_u32(&s) % sizeof text;
        for (size_t i = 0; i < n; i++) {
            uint32_t r = next_u32(&s);
            text[i] = (char)(round % 3 == 0   ? 1 + r % 255
                             : round % 3 == 1 ? 128 + r % 128
                                              : (uint8_t) " etaoin\nhs.,(1中"[r % 18]);
            if (!text[i]) text[i] = 'e';
        }
        ds4_tokens ids = {0};
        assert_int_equal(ds4_tokenizer_encode(m->t, text, n, &ids, NULL), DS4_OK);
        assert_int_equal(decode(m->t, ids.id, ids.n, back, sizeof back), n);
        assert_memory_equal(back, text, n);
        ds4_tokens_free(&ids);
    }
}

static void test_text_ends_at_its_first_nul(void **state) {
    const tiny *m = *state;
    ds4_tokens a = {0}, b = {0};
    assert_int_equal(ds4_tokenizer_encode(m->t, "the\0 end", 8, &a, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_encode(m->t, "the", 3, &b, NULL), DS4_OK);
    check_ids(&a, b.id, b.n);
    ds4_tokens_free(&a), ds4_tokens_free(&b);
}

static void test_bytes_reports_the_length_and_writes_no_more_than_fits(void **state) {
    const tiny *m = *state;
    char dst[4] = "xxxx";
    size_t n = ds4_tokenizer_bytes(m->t, 0, dst, 3);
    assert_int_equal(n, strlen(specials[0]));
    assert_memory_equal(dst, "<\xef\xbdx", 4);
    assert_int_equal(ds4_tokenizer_bytes(m->t, -1, dst, 4), 0);
    assert_int_equal(ds4_tokenizer_bytes(m->t, (int32_t)ds4_tokenizer_n_vocab(m->t), dst, 4),
                     0);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pieces_published_examples_split),
        cmocka_unit_test(test_pieces_each_rule_splits_as_written),
        cmocka_unit_test(test_merges_random_rules_agree_with_the_naive_merger),
        cmocka_unit_test(test_merges_one_piece_of_a_megabyte_stays_fast),
        cmocka_unit_test(test_duplicates_the_last_occurrence_wins),
        cmocka_unit_test(test_incomplete_vocabulary_spells_symbols_by_bytes),
        cmocka_unit_test(test_new_without_its_arrays_or_specials_is_refused),
        cmocka_unit_test(test_real_text_gives_the_published_ids),
        cmocka_unit_test(test_chat_frames_one_turn),
        cmocka_unit_test(test_chat_max_prefixes_the_published_instruction),
        cmocka_unit_test(test_rendered_specials_become_ids_and_plain_ones_do_not),
        cmocka_unit_test(test_random_bytes_survive_the_round_trip),
        cmocka_unit_test(test_text_ends_at_its_first_nul),
        cmocka_unit_test(test_bytes_reports_the_length_and_writes_no_more_than_fits),
    };
    return cmocka_run_group_tests(tests, open_tiny, close_tiny);
}
