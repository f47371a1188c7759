/* engine/format/vocab and split: tokenizer.json files against ids of an independent encoder,
 * split patterns one by one, a GGUF that carries the same vocabulary, and hostile files.
 *
 * test_vocab TOKENIZER CASES...: holds other vocabularies against their cases instead; wanted
 * by tests/check_tokenizer.sh. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <cmocka.h>
#include <jansson.h>

#include "engine/base/mem.h"
#include "engine/format/tokenizer.h"
#include "engine/model/make.h"

#define DIR "fixtures/vectors/tokenizer/"
static const char *const names[] = {"published", "other", "bytelevel"};
enum { N_NAME = sizeof names / sizeof *names };

/* ---- cases ---- */

typedef ds4_status encode_fn(const ds4_tokenizer *, const char *, size_t, ds4_tokens *,
                             ds4_err *);

static bool same_ids(const ds4_tokens *got, const json_t *want) {
    bool same = got->n == json_array_size(want);
    for (size_t i = 0; i < got->n && same; i++)
        same = got->id[i] == json_integer_value(json_array_get(want, i));
    return same;
}

/* Encodes one text, wants the ids and the text back; prints what differs when asked to. */
static bool check_case(const ds4_tokenizer *t, encode_fn *encode, const json_t *text,
                       const json_t *want, bool loud) {
    const char *p = json_string_value(text);
    size_t n = json_string_length(text), n_back = 0;
    ds4_tokens ids = {0};
    char *back = NULL;
    assert_int_equal(encode(t, p, n, &ids, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_detokenize(t, ids.id, ids.n, &back, &n_back, NULL), DS4_OK);
    bool same = same_ids(&ids, want), whole = n_back == n && !memcmp(back, p, n);
    if (!same && loud) {
        char *w = json_dumps(want, JSON_ENCODE_ANY), *s = json_dumps(text, JSON_ENCODE_ANY);
        print_message("%s: wanted %s, got [", s, w);
        for (size_t i = 0; i < ids.n; i++) print_message("%s%d", i ? ", " : "", ids.id[i]);
        print_message("]\n");
        free(w), free(s);
    }
    if (!whole && loud) print_message("%s: other bytes came back\n", p);
    ds4_tokens_free(&ids);
    ds4_mem_free(back);
    return same && whole;
}

/* The number of cases, [text, ids as plain text, ids with added tokens], that differ. */
static size_t count_wrong(const ds4_tokenizer *t, const json_t *cases, bool loud) {
    size_t wrong = 0;
    assert_true(json_array_size(cases) > 0);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *c = json_array_get(cases, i), *text = json_array_get(c, 0);
        wrong += !check_case(t, ds4_tokenizer_encode, text, json_array_get(c, 1), loud);
        wrong += !check_case(t, ds4_tokenizer_encode_added, text, json_array_get(c, 2), loud);
    }
    return wrong;
}

static json_t *load_cases(const char *path) {
    json_error_t e;
    json_t *cases = json_load_file(path, JSON_ALLOW_NUL, &e);
    if (!cases) fail_msg("%s: line %d: %s", path, e.line, e.text);
    return cases;
}

typedef struct pair {
    ds4_tokenizer *t;
    json_t *cases;
    char path[256];
} pair;

static pair load(const char *name) {
    pair p = {0};
    char cases[256];
    ds4_err err = {0};
    snprintf(p.path, sizeof p.path, DIR "%s.json", name);
    snprintf(cases, sizeof cases, DIR "%s.cases.json", name);
    if (ds4_tokenizer_open(&p.t, p.path, &err)) fail_msg("%s", err.message);
    p.cases = load_cases(cases);
    return p;
}

static void unload(pair *p) {
    ds4_tokenizer_free(p->t);
    json_decref(p->cases);
}

static void test_json_gives_the_ids_of_the_other_encoder(void **state) {
    (void)state;
    for (int i = 0; i < N_NAME; i++) {
        pair p = load(names[i]);
        assert_int_equal(count_wrong(p.t, p.cases, true), 0);
        unload(&p);
    }
}

/* The comparison sees one wrong id, one too few, and another rule. */
static void test_json_cases_can_fail(void **state) {
    (void)state;
    pair p = load("published");
    json_t *ids = json_array_get(json_array_get(p.cases, 4), 1);
    json_array_set_new(ids, 0, json_integer(json_integer_value(json_array_get(ids, 0)) + 1));
    assert_int_equal(count_wrong(p.t, p.cases, false), 1);
    json_array_clear(ids);
    assert_int_equal(count_wrong(p.t, p.cases, false), 1);
    assert_int_equal(ds4_tokenizer_split_by(p.t, DS4_PRE_MODEL, NULL), DS4_OK);
    assert_true(count_wrong(p.t, p.cases, false) > 40);
    assert_int_equal(ds4_tokenizer_split_by(p.t, DS4_PRE_OWN, NULL), DS4_OK);
    assert_int_equal(count_wrong(p.t, p.cases, false), 1);
    unload(&p);
}

/* Any bytes come back, also where they are no UTF-8, and NUL is a byte like others. */
static void test_json_random_bytes_come_back(void **state) {
    uint64_t s = 0x9e3779b97f4a7c15u;
    (void)state;
    pair p = load("published");
    for (int round = 0; round < 2000; round++) {
        char text[200], *back;
        size_t n, n_back;
        ds4_tokens ids = {0};
        for (n = 0; n < sizeof text; n++) {
            s ^= s << 13, s ^= s >> 7, s ^= s << 17;
            uint32_t r = (uint32_t)(s >> 20);
            text[n] = (char)(round % 2 ? r % 256
                                       : (uint8_t) "\xe4\xb8\xad\xf0\x9f\x99\x82 \n\xc3"
                                                   "a1.\xed"[r % 15]);
            if (r >> 20 == 0 && n > 3) break;
        }
        assert_int_equal(ds4_tokenizer_encode(p.t, text, n, &ids, NULL), DS4_OK);
        assert_int_equal(ds4_tokenizer_detokenize(p.t, ids.id, ids.n, &back, &n_back, NULL),
                         DS4_OK);
        assert_int_equal(n_back, n);
        assert_memory_equal(back, text, n);
        ds4_mem_free(back);
        ds4_tokens_free(&ids);
    }
    unload(&p);
}

static void test_decode_an_id_past_the_end_is_named(void **state) {
    (void)state;
    pair p = load("bytelevel");
    ds4_err err = {0};
    char *text = NULL;
    size_t n;
    int32_t ids[] = {5, (int32_t)ds4_tokenizer_n_vocab(p.t)};
    assert_int_equal(ds4_tokenizer_detokenize(p.t, ids, 2, &text, &n, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "id 1 of the list is "));
    ids[1] = -1;
    assert_int_equal(ds4_tokenizer_detokenize(p.t, ids, 2, &text, &n, &err), DS4_ERR_FORMAT);
    assert_null(text);
    unload(&p);
}

/* ---- the same vocabulary in a GGUF ---- */

static ds4_status make_model(const char *path, const ds4_vocab *v, uint32_t n_vocab,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_make_options o = {.seed = 1, .quant = "q2", .vocab = v};
    ds4_make *m = NULL;
    TRY(ds4_make_shape(&o.shape, "tiny", err));
    TRY(ds4_make_set(&o.shape, "vocab", n_vocab, err));
    TRY(ds4_make_new(&m, &o, err));
    TRY(ds4_make_write(m, path, NULL, NULL, err));
out:
    ds4_make_free(m);
    return st;
}

static void check_table(const ds4_tokenizer *a, const ds4_tokenizer *b) {
    char x[256], y[256];
    assert_int_equal(ds4_tokenizer_n_vocab(a), ds4_tokenizer_n_vocab(b));
    for (uint32_t i = 0; i < ds4_tokenizer_n_vocab(a); i++) {
        size_t n = ds4_tokenizer_bytes(a, (int32_t)i, x, sizeof x);
        assert_true(n <= sizeof x);
        assert_int_equal(ds4_tokenizer_bytes(b, (int32_t)i, y, sizeof y), n);
        assert_memory_equal(x, y, n);
    }
    for (int s = 0; s < DS4_SPECIAL_COUNT; s++)
        assert_int_equal(ds4_tokenizer_special(a, (ds4_special)s),
                         ds4_tokenizer_special(b, (ds4_special)s));
}

/* Ids of the GGUF by each rule are those of the JSON by that rule. */
static void check_rule(ds4_tokenizer *g, ds4_tokenizer *j, ds4_pre pre, const json_t *cases) {
    assert_int_equal(ds4_tokenizer_split_by(g, pre, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_split_by(j, pre == DS4_PRE_OWN ? DS4_PRE_MODEL : pre, NULL),
                     DS4_OK);
    for (size_t i = 0; i < json_array_size(cases); i++) {
        const json_t *text = json_array_get(json_array_get(cases, i), 0);
        ds4_tokens x = {0}, y = {0};
        assert_int_equal(ds4_tokenizer_encode_added(g, json_string_value(text),
                                                    json_string_length(text), &x, NULL),
                         DS4_OK);
        assert_int_equal(ds4_tokenizer_encode_added(j, json_string_value(text),
                                                    json_string_length(text), &y, NULL),
                         DS4_OK);
        assert_int_equal(x.n, y.n);
        if (x.n) assert_memory_equal(x.id, y.id, x.n * sizeof *x.id);
        ds4_tokens_free(&x), ds4_tokens_free(&y);
    }
}

static void test_gguf_carries_the_same_vocabulary(void **state) {
    char path[] = "/tmp/ds4-vocab-XXXXXX";
    ds4_vocab *v = NULL;
    ds4_gguf *g = NULL;
    ds4_tokenizer *t = NULL;
    ds4_err err = {0};
    (void)state;
    pair p = load("published");
    close(mkstemp(path));
    assert_int_equal(ds4_vocab_open(&v, p.path, NULL), DS4_OK);
    assert_int_equal(make_model(path, v, v->n_token + 1, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "dimension vocab is "));
    if (make_model(path, v, v->n_token, &err)) fail_msg("%s", err.message);
    assert_int_equal(ds4_gguf_open(&g, path, NULL), DS4_OK);
    assert_int_equal(ds4_tokenizer_new(&t, g, NULL), DS4_OK);
    check_table(p.t, t);
    check_rule(t, p.t, DS4_PRE_OWN, p.cases);
    check_rule(t, p.t, DS4_PRE_MODEL, p.cases);
    check_rule(t, p.t, DS4_PRE_HF, p.cases);
    assert_int_equal(count_wrong(t, p.cases, true), 0);
    ds4_tokenizer_free(t);
    ds4_gguf_close(g);
    ds4_vocab_free(v);
    unlink(path);
    unload(&p);
}

static void test_gguf_cannot_carry_every_added_token(void **state) {
    char path[] = "/tmp/ds4-vocab-XXXXXX";
    ds4_vocab *v = NULL;
    ds4_err err = {0};
    (void)state;
    close(mkstemp(path));
    assert_int_equal(ds4_vocab_open(&v, DIR "other.json", NULL), DS4_OK);
    assert_int_equal(make_model(path, v, v->n_token, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "\"a b\": a GGUF cannot carry it"));
    ds4_vocab_free(v);
    unlink(path);
}

/* ---- split patterns ---- */

typedef struct cut {
    char text[1024];
    size_t n;
} cut;

static ds4_status note(void *user, const uint8_t *p, size_t n) {
    cut *c = user;
    c->n += (size_t)snprintf(c->text + c->n, sizeof c->text - c->n, "%s%.*s", c->n ? "|" : "",
                             (int)n, (const char *)p);
    return DS4_OK;
}

static ds4_split_pattern pattern_of(const char *s) {
    return (ds4_split_pattern){{s, strlen(s)}, false};
}

static void check_split(const char *pattern, const char *text, const char *want) {
    ds4_split *s = NULL;
    ds4_err err = {0};
    cut c = {"", 0};
    ds4_split_pattern p = pattern_of(pattern);
    if (ds4_split_new(&s, &p, 1, "test", &err)) fail_msg("%s", err.message);
    assert_int_equal(ds4_split_text(s, (const uint8_t *)text, strlen(text), note, &c, NULL),
                     DS4_OK);
    assert_string_equal(c.text, want);
    ds4_split_free(s);
}

static void test_split_each_construct_cuts_as_written(void **state) {
    (void)state;
    check_split("a", "xay", "x|a|y");
    check_split("a", "", "");
    check_split("a", "xyz", "xyz");
    check_split("ab|a", "aab", "a|ab");           /* the first alternative that matches */
    check_split("a|ab", "aab", "a|a|b");          /* not the longest */
    check_split("ba?", "bab", "ba|b");            /* ? */
    check_split("ba*", "baab", "baa|b");          /* * */
    check_split("a+b", "aab", "aab");             /* + */
    check_split("a+ab", "aaab", "aaab");          /* gives one back */
    check_split("a{2}", "aaaaa", "aa|aa|a");      /* {m} */
    check_split("a{2,}", "aaaba", "aaa|ba");      /* {m,} */
    check_split("a{2,3}", "aaaaaa", "aaa|aaa");   /* {m,n} */
    check_split("a{2,3}a", "aaaa", "aaaa");       /* {m,n} */
    check_split("a{2,3}ab", "aaab", "aaab");      /* gives one back, not below m */
    check_split("a{3}ab", "aaab", "aaab");        /* no match: nothing to give back */
    check_split("é{1,2}", "éééx", "éé|é|x");      /* counts are of characters */
    check_split("[a-c]+", "xabcx", "x|abc|x");    /* range */
    check_split("[^a-c]+", "abxyzc", "ab|xyz|c"); /* negated */
    check_split("[a\\-z]+", "b-a", "b|-a");       /* escape in a class */
    check_split("[a-]+", "b-a", "b|-a");          /* - at the end is itself */
    check_split("[\\]\\[]+", "a[]b", "a|[]|b");   /* brackets */
    check_split("\\p{L}+", "a1é中", "a|1|é中");   /* property */
    check_split("\\P{L}+", "a1.é", "a|1.|é");     /* its complement */
    check_split("[\\P{L}a]+", "ba1b", "b|a1|b");  /* in a class */
    check_split("[^\\P{L}a]+", "bab", "b|a|b");   /* negated twice */
    check_split("\\s+", "a \n\xc2\xa0x", "a| \n\xc2\xa0|x");
    check_split("\\S+", " ab ", " |ab| ");
    check_split("\\x41\\u4e2d", "A中", "A中");
    check_split("\\.\\|", "a.|b", "a|.||b");
    check_split("a(?!b)", "abac", "ab|a|c"); /* not before */
    check_split("a(?=b)", "abac", "a|bac");  /* before */
    check_split("a(?!b)", "a", "a");         /* the end is not b */
    check_split("a(?=b)", "ca", "ca");       /* nor is it */
    check_split("a+(?!b)", "aaab", "aa|ab"); /* gives one back for it */
    check_split("a*b?b?a", "aaab", "aaa|b"); /* two with nothing to give, then one */
    check_split("a*c?b{1,2}b?ab", "aabbab", "aabbab");
    check_split("a{3}b?b?a", "aaax", "aaax"); /* nothing is taken from the first */
    check_split("\\p{N}{1,3}", "1234中5", "123|4|中|5");
    check_split("\xf0\x9f\x99\x82", "a🙂b", "a|🙂|b");
    /* A cut character: bytes of category C that no letter run takes. */
    check_split("\\p{L}+", "a\xe4\xb8z", "a|\xe4\xb8|z");
    check_split("\\p{C}", "\xed\xa0\x80", "\xed|\xa0|\x80");
    check_split("\\p{C}", "\xf4\x90\x80\x80", "\xf4|\x90|\x80|\x80");
    check_split("\\p{C}", "\xc1\xbf", "\xc1|\xbf");
}

static void test_split_patterns_see_only_their_piece(void **state) {
    ds4_split *s = NULL;
    cut c = {"", 0};
    ds4_split_pattern p[2] = {pattern_of("b"), pattern_of("a(?!b)|x")};
    (void)state;
    assert_int_equal(ds4_split_new(&s, p, 2, "test", NULL), DS4_OK);
    assert_int_equal(ds4_split_text(s, (const uint8_t *)"caabx", 5, note, &c, NULL), DS4_OK);
    assert_string_equal(c.text, "c|a|a|b|x");
    ds4_split_free(s);
}

static void test_split_of_the_published_patterns(void **state) {
    ds4_split *s = NULL;
    cut c = {"", 0};
    static const char text[] = "L'età è 1234 anni…  (circa)\n\n  中文abc ok!\n";
    (void)state;
    assert_int_equal(ds4_split_new(&s, ds4_split_published, 3, "test", NULL), DS4_OK);
    assert_int_equal(ds4_split_text(s, (const uint8_t *)text, sizeof text - 1, note, &c, NULL),
                     DS4_OK);
    assert_string_equal(c.text,
                        "L|'et|à| è| |123|4| anni|…| | (|circa|)\n\n|  |中文|abc| ok|!\n");
    ds4_split_free(s);
}

static void refuse_split(const char *pattern, const char *word) {
    ds4_split *s = NULL;
    ds4_err err = {0};
    ds4_split_pattern p = pattern_of(pattern);
    assert_int_equal(ds4_split_new(&s, &p, 1, "test", &err), DS4_ERR_FORMAT);
    if (!strstr(err.message, word)) fail_msg("%s: %s", pattern, err.message);
    assert_null(s);
}

static void test_split_what_is_not_supported_is_named(void **state) {
    char big[DS4_SPLIT_MAX_BYTES + 2], sets[2048] = "";
    (void)state;
    refuse_split("", "match nothing");
    refuse_split("a*", "match nothing");
    refuse_split("a|b*", "match nothing");
    refuse_split("a|", "match nothing");
    refuse_split("|a", "match nothing");
    refuse_split("(?!a)", "match nothing");
    refuse_split("(a)", "byte 0: groups");
    refuse_split("x(?:a)", "byte 1: groups");
    refuse_split("(?<=a)b", "groups");
    refuse_split("(?!ab)c", "one atom");
    refuse_split("(?!", "without its end");
    refuse_split("^a", "anchors");
    refuse_split("a$", "byte 1: anchors");
    refuse_split("a.", "anchors");
    refuse_split("*a", "nothing to repeat");
    refuse_split("a+?", "lazy");
    refuse_split("a++", "possessive");
    refuse_split("a{", "wanted {m}");
    refuse_split("a{2", "wanted {m}");
    refuse_split("a{,2}", "wanted {m}");
    refuse_split("a{3,2}", "wanted {m}");
    refuse_split("a{0}", "wanted {m}");
    refuse_split("a{1000000000}", "wanted {m}");
    refuse_split("a)", "nothing to close");
    refuse_split("a]", "nothing to close");
    refuse_split("[a", "without its end");
    refuse_split("[", "without its end");
    refuse_split("[]", "empty class");
    refuse_split("[^]", "empty class");
    refuse_split("[a[b]]", "class in a class");
    refuse_split("[a&&b]", "operation");
    refuse_split("[z-a]", "a range");
    refuse_split("[a-\\s]", "a range");
    refuse_split("\\d", "escape");
    refuse_split("\\w", "escape");
    refuse_split("\\b", "escape");
    refuse_split("\\1", "escape");
    refuse_split("a\\", "backslash");
    refuse_split("\\p{Lu}", "wanted {L}");
    refuse_split("\\pL", "wanted {L}");
    refuse_split("\\p", "wanted {L}");
    refuse_split("\\x4", "hexadecimal");
    memset(big, 'a', sizeof big - 1), big[sizeof big - 1] = 0;
    refuse_split(big, "4097 bytes");
    big[200] = 0;
    refuse_split(big, "128 items");
    for (int i = 0; i < 70; i++)
        sprintf(sets + strlen(sets), "%s\\u%04x", i ? "|" : "", 256 + i);
    refuse_split(sets, "64 different sets");
    sets[7 * 64 - 1] = 0; /* 64 sets, and with the rest 65 classes */
    refuse_split(sets, "63 classes");
}

/* Nothing that a pattern says makes matching explode. */
static void test_split_backtracking_is_bounded(void **state) {
    ds4_split *s = NULL;
    ds4_err err = {0};
    cut c = {"", 0};
    char text[4000];
    ds4_split_pattern p = pattern_of("a*a*a*a*a*a*a*a*b");
    (void)state;
    memset(text, 'a', sizeof text);
    assert_int_equal(ds4_split_new(&s, &p, 1, "test", NULL), DS4_OK);
    assert_int_equal(ds4_split_text(s, (uint8_t *)text, sizeof text, note, &c, &err),
                     DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "split pattern 1 tries too many ways"));
    text[20] = 'b';
    assert_int_equal(ds4_split_text(s, (uint8_t *)text, 21, note, &c, NULL), DS4_OK);
    ds4_split_free(s);
}

/* ---- hostile files ---- */

static char *read_file(const char *path, size_t *n) {
    FILE *f = fopen(path, "rb");
    char *p = malloc(1 << 20);
    assert_non_null(f);
    assert_non_null(p);
    *n = fread(p, 1, (1 << 20) - 1, f);
    p[*n] = 0;
    fclose(f);
    return p;
}

static ds4_status open_bytes(const char *p, size_t n, ds4_err *err) {
    ds4_vocab *v = NULL;
    ds4_tokenizer *t = NULL;
    ds4_status st = ds4_vocab_parse(&v, p, n, "hostile.json", err);
    if (st == DS4_OK) st = ds4_tokenizer_new_vocab(&t, v, "hostile.json", err);
    ds4_tokenizer_free(t);
    ds4_vocab_free(v);
    return st;
}

static void test_json_cut_anywhere_is_refused(void **state) {
    size_t n;
    char *p = read_file(DIR "bytelevel.json", &n);
    (void)state;
    assert_int_equal(open_bytes(p, n, NULL), DS4_OK);
    while (n && p[n - 1] != '}') n--;
    for (size_t k = 0; k < n; k += k < n - 400 ? 37 : 1) {
        ds4_err err = {0};
        assert_int_equal(open_bytes(p, k, &err), DS4_ERR_FORMAT);
        assert_non_null(strstr(err.message, "hostile.json"));
    }
    free(p);
}

/* The first occurrence of `from` becomes `to`, and the message holds `word`. */
typedef struct edit {
    const char *from, *to, *word;
} edit;

static const edit edits[] = {
    {"\"version\":\"1.0\"", "\"version\":\"2.0\"", "version \"2.0\""},
    {"\"version\":\"1.0\",", "", "version \"\""},
    {"\"truncation\":null", "\"truncation\":{}", "\"truncation\" is an object"},
    {"\"padding\":null", "\"padding\":{}", "\"padding\" is an object"},
    {"\"normalizers\":[]", "\"normalizers\":[{\"type\":\"NFC\"}]", "normalizer \"NFC\""},
    {"\"normalizers\":[]", "\"normalizers\":{}", "normalizers is an object"},
    {"\"pre_tokenizer\":{\"type\":\"ByteLevel\"", "\"pre_tokenizer\":{\"type\":\"Metaspace\"",
     "pre_tokenizer \"Metaspace\" is not supported"},
    {"\"pre_tokenizer\":{\"type\":\"ByteLevel\"", "\"pre_tokenizer\":{\"kind\":\"ByteLevel\"",
     "wanted an object with a \"type\""},
    {"\"pre_tokenizer\":{", "\"pre_tokenizer\":null,\"x\":{", "no ByteLevel"},
    {"\"pre_tokenizer\":{", "\"pre_tokenizer\":7,\"x\":{", "pre_tokenizer is a number"},
    {"\"add_prefix_space\":false", "\"add_prefix_space\":true", "\"add_prefix_space\" is true"},
    {"\"add_prefix_space\":false", "\"x\":false", "true by default"},
    {"\"use_regex\":true", "\"use_regex\":3", "\"use_regex\" is a number"},
    {"\"post_processor\":{\"type\":\"ByteLevel\"", "\"post_processor\":{\"type\":\"Template\"",
     "post_processor \"Template\""},
    {"\"decoder\":{\"type\":\"ByteLevel\"", "\"decoder\":{\"type\":\"WordPiece\"",
     "decoder \"WordPiece\""},
    {"\"decoder\":{", "\"decoder\":null,\"y\":{", "decoder \"null\""},
    {"\"type\":\"BPE\"", "\"type\":\"Unigram\"", "model \"Unigram\""},
    {"\"model\":{", "\"m\":{", "model \"absent\""},
    {"\"dropout\":null", "\"dropout\":0.5", "\"dropout\" is a number"},
    {"\"end_of_word_suffix\":null", "\"end_of_word_suffix\":\"x\"", "\"end_of_word_suffix\""},
    {"\"ignore_merges\":false", "\"ignore_merges\":0", "\"ignore_merges\" is a number"},
    {"\"vocab\":{", "\"words\":{", "\"vocab\" is absent"},
    {"\"merges\":[", "\"merge\":[", "\"merges\" is absent"},
    {"\"!\":36", "\"!\":1000000000", "token \"!\" has id 1000000000, but the file has"},
    {"\"!\":36", "\"!\":-1", "has id -1"},
    {"\"!\":36", "\"!\":37", "both have id 37"},
    {"\"!\":36", "\"!\":1e9", "id of token \"!\" is a number"},
    {"\"!\":36", "\"!\":\"36\"", "id of token \"!\" is a string"},
    {"\"!\":36", "\"!!\":36", "no token for byte 0x21"},
    {"\"!\":36", "\"!\":36,\"!\":36", "duplicate"},
    {"\"!\":36,", "", "wanted 0 to"},
    {"\"id\":0,", "\"id\":5,", "has id 5, the vocabulary says 0"},
    {"\"id\":0,", "", "the vocabulary says 0"},
    {"\"content\":\"<think>\"", "\"content\":\"\"", "\"content\" is empty"},
    {"\"content\":\"<think>\"", "\"content\":4", "\"content\" is a number"},
    {"\"content\":\"<think>\"", "\"content\":\"<thank>\"", "lacks <think>"},
    {"\"content\":\"<dsml:\"", "\"content\":\"<think>\"", "has ids"},
    {"\"lstrip\":false", "\"lstrip\":true", "\"lstrip\" is true"},
    {"\"rstrip\":false", "\"rstrip\":true", "\"rstrip\" is true"},
    {"\"single_word\":false", "\"single_word\":true", "\"single_word\" is true"},
    {"\"added_tokens\":[", "\"added_tokens\":{},\"z\":[", "\"added_tokens\" is an object"},
    {"\"merges\":[", "\"merges\":[\"a zzz\",", "merge 0: \"zzz\" is not in the vocabulary"},
    {"\"merges\":[", "\"merges\":[\"! !\",", "merge 0: \"!!\" is not in the vocabulary"},
    {"\"merges\":[", "\"merges\":[\"a b c\",", "merge 0 is a b c"},
    {"\"merges\":[", "\"merges\":[\"ab\",", "merge 0 is ab"},
    {"\"merges\":[", "\"merges\":[\" ab\",", "merge 0 is "},
    {"\"merges\":[", "\"merges\":[5,", "merge 0 is a number"},
    {"\"merges\":[", "\"merges\":[[\"a\"],", "merge 0 is an array"},
    {"\"merges\":[", "\"merges\":[[\"a\",1],", "merge 0 is an array"},
};

static char *edited(const char *p, size_t n, const edit *e, size_t *m) {
    const char *at = strstr(p, e->from);
    if (!at) fail_msg("nothing to edit: %s", e->from);
    char *q = malloc(n + strlen(e->to) + 1);
    assert_non_null(q);
    size_t before = (size_t)(at - p), from = strlen(e->from);
    *m = (size_t)sprintf(q, "%.*s%s%s", (int)before, p, e->to, at + from);
    return q;
}

static void test_json_each_fault_is_named(void **state) {
    size_t n, m;
    char *p = read_file(DIR "bytelevel.json", &n);
    (void)state;
    for (size_t i = 0; i < sizeof edits / sizeof *edits; i++) {
        ds4_err err = {0};
        char *q = edited(p, n, &edits[i], &m);
        assert_int_equal(open_bytes(q, m, &err), DS4_ERR_FORMAT);
        if (!strstr(err.message, edits[i].word) || !strstr(err.message, "hostile.json"))
            fail_msg("%s -> %s: %s", edits[i].from, edits[i].to, err.message);
        free(q);
    }
    free(p);
}

static void test_json_each_fault_of_a_split_is_named(void **state) {
    static const edit split[] = {
        {"\"behavior\":\"Isolated\"", "\"behavior\":\"Removed\"", "Split behavior \"Removed\""},
        {"\"invert\":false", "\"invert\":true", "\"invert\" is true"},
        {"{\"Regex\":", "{\"Rogex\":", "wanted a Regex or a String"},
        {"\\\\p{N}{1,3}", "(\\\\p{N}){1,3}", "groups are not supported"},
        {"\\\\p{N}{1,3}", "\\\\d{1,3}", "escape is not supported"},
        {"\\\\p{N}{1,3}", "\\\\p{N}*", "match nothing"},
        {"\"pretokenizers\":[", "\"pretokenizers\":[{\"type\":\"Digits\"},",
         "\"Digits\" is not"},
        {"\"pretokenizers\":[",
         "\"pretokenizers\":[{\"type\":\"ByteLevel\",\"add_prefix_space\":false},",
         "behind ByteLevel"},
    };
    size_t n, m;
    char *p = read_file(DIR "published.json", &n);
    (void)state;
    for (size_t i = 0; i < sizeof split / sizeof *split; i++) {
        ds4_err err = {0};
        char *q = edited(p, n, &split[i], &m);
        assert_int_equal(open_bytes(q, m, &err), DS4_ERR_FORMAT);
        if (!strstr(err.message, split[i].word))
            fail_msg("%s -> %s: %s", split[i].from, split[i].to, err.message);
        free(q);
    }
    free(p);
}

static void test_json_deep_or_foreign_bytes_are_refused(void **state) {
    ds4_err err = {0};
    enum { N = 1 << 20 };
    char *p = malloc(N);
    (void)state;
    assert_non_null(p);
    memset(p, '[', N);
    assert_int_equal(open_bytes(p, N, &err), DS4_ERR_FORMAT);
    assert_int_equal(open_bytes("[]", 2, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "an array, wanted an object"));
    assert_int_equal(open_bytes("{\"version\":\"\xff\"}", 15, &err), DS4_ERR_FORMAT);
    assert_int_equal(open_bytes("{", ((size_t)16 << 20) + 1, &err), DS4_ERR_FORMAT);
    assert_non_null(strstr(err.message, "16777217 bytes, at most"));
    assert_int_equal(open_bytes("GGUF\3\0\0\0", 8, &err), DS4_ERR_FORMAT);
    free(p);
}

/* Every allocation of ours fails once; nothing leaks (asan) and the status says so. */
static void test_json_without_memory_is_an_error(void **state) {
    size_t n;
    char *p = read_file(DIR "bytelevel.json", &n);
    ds4_status st = DS4_ERR_MEMORY;
    long k = 1;
    (void)state;
    for (; st != DS4_OK && k < 2000; k++) {
        ds4_mem_fail_after(k);
        st = open_bytes(p, n, NULL);
        ds4_mem_fail_after(0);
        if (st != DS4_OK) assert_int_equal(st, DS4_ERR_MEMORY);
    }
    assert_int_equal(st, DS4_OK);
    assert_true(k > 10);
    free(p);
}

/* ---- the vocabularies of the command line ---- */

static int n_arg;
static char **args;

static void test_cases_of_the_command_line(void **state) {
    ds4_tokenizer *t = NULL;
    ds4_err err = {0};
    (void)state;
    if (ds4_tokenizer_open(&t, args[1], &err)) fail_msg("%s", err.message);
    for (int i = 2; i < n_arg; i++) {
        json_t *cases = load_cases(args[i]);
        print_message("%s: %zu texts\n", args[i], json_array_size(cases));
        assert_int_equal(count_wrong(t, cases, true), 0);
        json_decref(cases);
    }
    ds4_tokenizer_free(t);
}

int main(int argc, char **argv) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_gives_the_ids_of_the_other_encoder),
        cmocka_unit_test(test_json_cases_can_fail),
        cmocka_unit_test(test_json_random_bytes_come_back),
        cmocka_unit_test(test_decode_an_id_past_the_end_is_named),
        cmocka_unit_test(test_gguf_carries_the_same_vocabulary),
        cmocka_unit_test(test_gguf_cannot_carry_every_added_token),
        cmocka_unit_test(test_split_each_construct_cuts_as_written),
        cmocka_unit_test(test_split_patterns_see_only_their_piece),
        cmocka_unit_test(test_split_of_the_published_patterns),
        cmocka_unit_test(test_split_what_is_not_supported_is_named),
        cmocka_unit_test(test_split_backtracking_is_bounded),
        cmocka_unit_test(test_json_cut_anywhere_is_refused),
        cmocka_unit_test(test_json_each_fault_is_named),
        cmocka_unit_test(test_json_each_fault_of_a_split_is_named),
        cmocka_unit_test(test_json_deep_or_foreign_bytes_are_refused),
        cmocka_unit_test(test_json_without_memory_is_an_error),
    };
    const struct CMUnitTest other[] = {cmocka_unit_test(test_cases_of_the_command_line)};
    n_arg = argc, args = argv;
    return argc > 2 ? cmocka_run_group_tests(other, NULL, NULL)
                    : cmocka_run_group_tests(tests, NULL, NULL);
}
