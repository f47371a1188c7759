#include "engine/format/vocab.h"

#include <jansson.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"
#include "engine/format/alphabet.h"

#define MAX_BYTES ((size_t)16 << 20)

typedef struct reader {
    ds4_vocab *v;
    const char *name;
    const json_t *vocab; /* model.vocab */
    bool byte_level;     /* seen in pre_tokenizer */
    ds4_err *err;
} reader;

void ds4_vocab_free(ds4_vocab *v) {
    if (!v) return;
    ds4_mem_free(v->token);
    ds4_mem_free(v->merge);
    json_decref(v->json);
    ds4_mem_free(v);
}

/* ---- small readers ---- */

static const char *kind_of(const json_t *j) {
    static const char *const kind[] = {"an object", "an array", "a string", "a number",
                                       "a number",  "true",     "false",    "null"};
    return j ? kind[json_typeof(j)] : "absent";
}

static ds4_str str_of(const json_t *j) {
    return (ds4_str){json_string_value(j), json_string_length(j)};
}

static int shown(ds4_str s) { return (int)(s.n < 60 ? s.n : 60); }

/* The "type" of a part; "" for null or absence. */
static ds4_status type_of(const char **type, const reader *r, const char *what,
                          const json_t *j) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    *type = "";
    if (!j || json_is_null(j)) goto out;
    *type = json_string_value(json_object_get(j, "type"));
    if (!*type)
        RAISE(DS4_ERR_FORMAT, "%s: %s is %s, wanted an object with a \"type\" or null", r->name,
              what, kind_of(j));
out:
    return st;
}

static ds4_status unsupported(const reader *r, const char *what, const char *type,
                              const char *wanted) {
    return ds4_err_set(r->err, DS4_ERR_FORMAT, DS4_HERE,
                       "%s: %s \"%.60s\" is not supported, wanted %s", r->name, what, type,
                       wanted);
}

/* A flag that must have one value. */
static ds4_status want_flag(const reader *r, const char *what, const json_t *j, const char *key,
                            bool absent, bool wanted) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    const json_t *f = json_object_get(j, key);
    bool is = f ? json_is_true(f) : absent;
    if ((f && !json_is_boolean(f)) || is != wanted)
        RAISE(DS4_ERR_FORMAT, "%s: %s: \"%s\" is %s, wanted %s", r->name, what, key,
              f        ? kind_of(f)
              : absent ? "true by default"
                       : "false by default",
              wanted ? "true" : "false");
out:
    return st;
}

/* A list of parts of a Sequence, visited in order. */
typedef ds4_status visit(reader *r, const json_t *part);
static ds4_status each_of(reader *r, const char *what, const json_t *list, visit *fn) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    if (!json_is_array(list))
        RAISE(DS4_ERR_FORMAT, "%s: the list of %s is %s, wanted an array", r->name, what,
              kind_of(list));
    for (size_t i = 0; i < json_array_size(list); i++) TRY(fn(r, json_array_get(list, i)));
out:
    return st;
}

/* ---- the parts around the model ---- */

static ds4_status read_normalizer(reader *r, const json_t *j) {
    ds4_status st = DS4_OK;
    const char *type;
    TRY(type_of(&type, r, "normalizer", j));
    if (!strcmp(type, "Sequence"))
        TRY(each_of(r, "normalizers", json_object_get(j, "normalizers"), read_normalizer));
    else if (*type) TRY(unsupported(r, "normalizer", type, "none or an empty Sequence"));
out:
    return st;
}

static ds4_status add_split(reader *r, ds4_str text, bool is_literal) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    if (r->v->n_split == DS4_SPLIT_MAX_PATTERN)
        RAISE(DS4_ERR_FORMAT, "%s: more than %d Split patterns", r->name,
              DS4_SPLIT_MAX_PATTERN);
    r->v->split[r->v->n_split++] = (ds4_split_pattern){text, is_literal};
out:
    return st;
}

static ds4_status read_split(reader *r, const json_t *j) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    const json_t *pattern = json_object_get(j, "pattern");
    const json_t *regex = json_object_get(pattern, "Regex");
    const json_t *string = json_object_get(pattern, "String");
    const char *behavior = json_string_value(json_object_get(j, "behavior"));
    if (!behavior || strcmp(behavior, "Isolated"))
        TRY(unsupported(r, "Split behavior", behavior ? behavior : "", "Isolated"));
    TRY(want_flag(r, "Split", j, "invert", false, false));
    if (!json_is_string(regex) == !json_is_string(string))
        RAISE(DS4_ERR_FORMAT, "%s: the pattern of a Split is %s, wanted a Regex or a String",
              r->name, kind_of(pattern));
    TRY(add_split(r, str_of(regex ? regex : string), !regex));
out:
    return st;
}

static ds4_status read_byte_level(reader *r, const json_t *j) {
    /* What ByteLevel splits by unless told not to: a constant of that pre-tokenizer. */
    static const char own[] =
        "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    const json_t *use = json_object_get(j, "use_regex");
    TRY(want_flag(r, "pre_tokenizer ByteLevel", j, "add_prefix_space", true, false));
    if (use && !json_is_boolean(use))
        RAISE(DS4_ERR_FORMAT, "%s: pre_tokenizer ByteLevel: \"use_regex\" is %s, wanted a flag",
              r->name, kind_of(use));
    if (!json_is_false(use)) TRY(add_split(r, (ds4_str){own, sizeof own - 1}, false));
    r->byte_level = true;
out:
    return st;
}

static ds4_status read_pre_tokenizer(reader *r, const json_t *j) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    const char *type;
    TRY(type_of(&type, r, "pre_tokenizer", j));
    if (!*type) goto out;
    if (!strcmp(type, "Sequence")) {
        TRY(each_of(r, "pretokenizers", json_object_get(j, "pretokenizers"),
                    read_pre_tokenizer));
        goto out;
    }
    if (r->byte_level)
        RAISE(DS4_ERR_FORMAT, "%s: pre_tokenizer \"%.60s\" behind ByteLevel, wanted it last",
              r->name, type);
    if (!strcmp(type, "Split")) TRY(read_split(r, j));
    else if (!strcmp(type, "ByteLevel")) TRY(read_byte_level(r, j));
    else TRY(unsupported(r, "pre_tokenizer", type, "Split, ByteLevel or a Sequence of them"));
out:
    return st;
}

static ds4_status want_byte_level(reader *r, const char *what, const json_t *j, bool needed) {
    ds4_status st = DS4_OK;
    const char *type;
    TRY(type_of(&type, r, what, j));
    if (*type ? strcmp(type, "ByteLevel") != 0 : needed)
        TRY(unsupported(r, what, *type ? type : kind_of(j),
                        needed ? "ByteLevel" : "ByteLevel or null"));
out:
    return st;
}

static ds4_status read_parts(reader *r, const json_t *root) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    static const char *const null_key[] = {"truncation", "padding"};
    const char *version = json_string_value(json_object_get(root, "version"));
    if (!version || strcmp(version, "1.0"))
        TRY(unsupported(r, "version", version ? version : "", "1.0"));
    for (int i = 0; i < 2; i++) {
        const json_t *j = json_object_get(root, null_key[i]);
        if (j && !json_is_null(j))
            RAISE(DS4_ERR_FORMAT, "%s: \"%s\" is %s, wanted null", r->name, null_key[i],
                  kind_of(j));
    }
    TRY(read_normalizer(r, json_object_get(root, "normalizer")));
    TRY(read_pre_tokenizer(r, json_object_get(root, "pre_tokenizer")));
    if (!r->byte_level) RAISE(DS4_ERR_FORMAT, "%s: pre_tokenizer has no ByteLevel", r->name);
    TRY(want_byte_level(r, "post_processor", json_object_get(root, "post_processor"), false));
    TRY(want_byte_level(r, "decoder", json_object_get(root, "decoder"), true));
out:
    return st;
}

/* ---- tokens ---- */

static ds4_status put_token(reader *r, ds4_str text, const json_t *id, ds4_token_kind kind) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    ds4_vocab *v = r->v;
    if (!json_is_integer(id))
        RAISE(DS4_ERR_FORMAT, "%s: the id of token \"%.*s\" is %s, wanted a number", r->name,
              shown(text), text.p, kind_of(id));
    json_int_t k = json_integer_value(id);
    if (k < 0 || k >= v->n_token)
        RAISE(DS4_ERR_FORMAT,
              "%s: token \"%.*s\" has id %lld, but the file has %u tokens: wanted 0 to %u, "
              "each once",
              r->name, shown(text), text.p, (long long)k, v->n_token, v->n_token - 1);
    ds4_vocab_token *t = &v->token[k];
    if (t->text.p)
        RAISE(DS4_ERR_FORMAT, "%s: tokens \"%.*s\" and \"%.*s\" both have id %lld", r->name,
              shown(t->text), t->text.p, shown(text), text.p, (long long)k);
    *t = (ds4_vocab_token){text, kind, kind == DS4_TOKEN_NORMAL};
out:
    return st;
}

/* Flags of an added token that would let it swallow text around it. */
static ds4_status read_added(reader *r, const json_t *j) {
    static const char *const flag[] = {"single_word", "lstrip", "rstrip"};
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    const json_t *content = json_object_get(j, "content"), *id = json_object_get(j, "id");
    ds4_token_kind kind =
        json_is_true(json_object_get(j, "special")) ? DS4_TOKEN_SPECIAL : DS4_TOKEN_ADDED;
    if (!json_is_string(content) || !json_string_length(content))
        RAISE(DS4_ERR_FORMAT, "%s: an added token whose \"content\" is %s, wanted a text",
              r->name, json_is_string(content) ? "empty" : kind_of(content));
    for (int i = 0; i < 3; i++)
        TRY(want_flag(r, json_string_value(content), j, flag[i], false, false));
    const json_t *known = json_object_get(r->vocab, json_string_value(content));
    if (!known) {
        TRY(put_token(r, str_of(content), id, kind));
        goto out;
    }
    if (!json_equal(known, id))
        RAISE(DS4_ERR_FORMAT, "%s: added token \"%.60s\" has id %lld, the vocabulary says %lld",
              r->name, json_string_value(content), (long long)json_integer_value(id),
              (long long)json_integer_value(known));
    r->v->token[json_integer_value(known)].kind = kind;
out:
    return st;
}

/* The count of tokens: the vocabulary's and those that are only added. */
static ds4_status count_tokens(reader *r, const json_t *added, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n = json_object_size(r->vocab);
    for (size_t i = 0; i < json_array_size(added); i++) {
        const char *s = json_string_value(json_object_get(json_array_get(added, i), "content"));
        n += s && !json_object_get(r->vocab, s);
    }
    if (!n || n > INT32_MAX / 4)
        RAISE(DS4_ERR_FORMAT, "%s: %zu tokens, wanted 1 to %d", r->name, n, INT32_MAX / 4);
    r->v->n_token = (uint32_t)n;
out:
    return st;
}

/* Every byte is a token of the vocabulary: then no text is without ids. */
static ds4_status check_bytes(const reader *r) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    for (uint32_t b = 0; b < 256; b++) {
        char text[3] = "";
        ds4_alphabet_write((uint8_t *)text, (uint8_t)b);
        if (!json_object_get(r->vocab, text))
            RAISE(DS4_ERR_FORMAT, "%s: the vocabulary has no token for byte 0x%02x, \"%s\"",
                  r->name, b, text);
    }
out:
    return st;
}

static ds4_status read_tokens(reader *r, const json_t *root) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    const json_t *added = json_object_get(root, "added_tokens"), *id;
    const char *key;
    if (added && !json_is_array(added))
        RAISE(DS4_ERR_FORMAT, "%s: \"added_tokens\" is %s, wanted an array", r->name,
              kind_of(added));
    TRY(count_tokens(r, added, err));
    TRY(ds4_mem_alloc(&r->v->token, r->v->n_token, sizeof *r->v->token, err));
    json_object_foreach((json_t *)r->vocab, key, id)
        TRY(put_token(r, (ds4_str){key, strlen(key)}, id, DS4_TOKEN_NORMAL));
    for (size_t i = 0; i < json_array_size(added); i++)
        TRY(read_added(r, json_array_get(added, i)));
    TRY(check_bytes(r));
out:
    return st;
}

/* ---- merges ---- */

/* The two parts of "left right" or ["left", "right"]; both stay in the JSON. */
static bool parts_of(ds4_str part[2], const json_t *j) {
    if (json_is_array(j) && json_array_size(j) == 2) {
        for (size_t k = 0; k < 2; k++) {
            if (!json_is_string(json_array_get(j, k))) return false;
            part[k] = str_of(json_array_get(j, k));
        }
    } else if (json_is_string(j)) {
        ds4_str s = str_of(j);
        const char *space = memchr(s.p, ' ', s.n);
        if (!space) return false;
        part[0] = (ds4_str){s.p, (size_t)(space - s.p)};
        part[1] = (ds4_str){space + 1, s.n - part[0].n - 1};
    } else return false;
    return part[0].n && part[1].n && !memchr(part[1].p, ' ', part[1].n) &&
           !memchr(part[0].p, ' ', part[0].n);
}

static ds4_status check_known(const reader *r, size_t i, const char *text, size_t n) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    char key[1024];
    snprintf(key, sizeof key, "%.*s", (int)n, text);
    if (!json_object_get(r->vocab, key))
        RAISE(DS4_ERR_FORMAT, "%s: merge %zu: \"%.60s\" is not in the vocabulary", r->name, i,
              key);
out:
    return st;
}

static ds4_status read_merge(reader *r, size_t i, const json_t *j) {
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    ds4_str *part = r->v->merge[i];
    char both[1024];
    if (!parts_of(part, j))
        RAISE(DS4_ERR_FORMAT, "%s: merge %zu is %s%.60s, wanted \"left right\" or a pair",
              r->name, i, json_is_string(j) ? "" : kind_of(j),
              json_is_string(j) ? json_string_value(j) : "");
    if (part[0].n + part[1].n >= sizeof both)
        RAISE(DS4_ERR_FORMAT, "%s: merge %zu makes a token of %zu bytes, wanted at most %zu",
              r->name, i, part[0].n + part[1].n, sizeof both - 1);
    memcpy(both, part[0].p, part[0].n);
    memcpy(both + part[0].n, part[1].p, part[1].n);
    for (int k = 0; k < 2; k++) TRY(check_known(r, i, part[k].p, part[k].n));
    TRY(check_known(r, i, both, part[0].n + part[1].n));
out:
    return st;
}

static ds4_status read_model(reader *r, const json_t *root) {
    static const char *const none[] = {"dropout", "continuing_subword_prefix",
                                       "end_of_word_suffix"};
    ds4_status st = DS4_OK;
    ds4_err *err = r->err;
    const json_t *model = json_object_get(root, "model");
    const json_t *merges = json_object_get(model, "merges"), *j;
    const char *type;
    TRY(type_of(&type, r, "model", model));
    if (strcmp(type, "BPE")) TRY(unsupported(r, "model", *type ? type : kind_of(model), "BPE"));
    for (int i = 0; i < 3; i++) {
        j = json_object_get(model, none[i]);
        if (j && !json_is_null(j) && !(json_is_string(j) && !json_string_length(j)))
            RAISE(DS4_ERR_FORMAT, "%s: model: \"%s\" is %s, wanted null", r->name, none[i],
                  kind_of(j));
    }
    j = json_object_get(model, "ignore_merges");
    if (j && !json_is_boolean(j))
        RAISE(DS4_ERR_FORMAT, "%s: model: \"ignore_merges\" is %s, wanted a flag", r->name,
              kind_of(j));
    r->v->ignore_merges = json_is_true(j);
    r->vocab = json_object_get(model, "vocab");
    if (!json_is_object(r->vocab))
        RAISE(DS4_ERR_FORMAT, "%s: model: \"vocab\" is %s, wanted an object", r->name,
              kind_of(r->vocab));
    TRY(read_tokens(r, root));
    if (!json_is_array(merges))
        RAISE(DS4_ERR_FORMAT, "%s: model: \"merges\" is %s, wanted an array", r->name,
              kind_of(merges));
    r->v->n_merge = (uint32_t)json_array_size(merges);
    TRY(ds4_mem_alloc(&r->v->merge, r->v->n_merge, sizeof *r->v->merge, err));
    for (uint32_t i = 0; i < r->v->n_merge; i++)
        TRY(read_merge(r, i, json_array_get(merges, i)));
out:
    return st;
}

ds4_status ds4_vocab_parse(ds4_vocab **out, const void *bytes, size_t n, const char *name,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vocab *v = NULL;
    json_error_t je;
    json_t *root = NULL;
    reader r = {.name = name, .err = err};
    if (n > MAX_BYTES)
        RAISE(DS4_ERR_FORMAT, "%s: %zu bytes, at most %zu are read", name, n, MAX_BYTES);
    root = json_loadb(bytes, n, JSON_REJECT_DUPLICATES, &je);
    if (!root) RAISE(DS4_ERR_FORMAT, "%s: line %d: %s", name, je.line, je.text);
    if (!json_is_object(root))
        RAISE(DS4_ERR_FORMAT, "%s: %s, wanted an object", name, kind_of(root));
    TRY(ds4_mem_alloc(&v, 1, sizeof *v, err));
    v->json = root;
    r.v = v;
    TRY(read_parts(&r, root));
    TRY(read_model(&r, root));
    *out = v, v = NULL, root = NULL;
out:
    if (!v) json_decref(root);
    ds4_vocab_free(v);
    return st;
}

ds4_status ds4_vocab_open(ds4_vocab **out, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file *f = NULL;
    const char *slash = strrchr(path, '/');
    TRY(ds4_file_open(&f, path, err));
    TRY(ds4_vocab_parse(out, ds4_file_data(f), ds4_file_bytes(f), slash ? slash + 1 : path,
                        err));
out:
    ds4_file_close(f);
    return st;
}
