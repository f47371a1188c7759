#include "drift/fixture.h"

#include <ctype.h>
#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/base/mem.h"

#define MAX_PROMPT_BYTES (64u << 20)

void drift_fixture_set_free(drift_fixture_set *s) {
    for (size_t i = 0; i < s->n; i++) {
        ds4_mem_free(s->at[i].id);
        ds4_mem_free(s->at[i].token);
    }
    ds4_mem_free(s->at);
    *s = (drift_fixture_set){0};
}

ds4_status drift_read_file(char **out, size_t *n, const char *path, size_t most, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct stat info;
    char *p = NULL;
    FILE *f = fopen(path, "rb");

    if (!f || fstat(fileno(f), &info)) RAISE(DS4_ERR_IO, "%s: %s", path, strerror(errno));
    if (!S_ISREG(info.st_mode)) RAISE(DS4_ERR_IO, "%s: not a file", path);
    if ((uint64_t)info.st_size > most)
        RAISE(DS4_ERR_FORMAT, "%s: %lld bytes, at most %zu are read", path,
              (long long)info.st_size, most);
    TRY(ds4_mem_alloc(&p, (size_t)info.st_size + 1, 1, err));
    *n = fread(p, 1, (size_t)info.st_size, f);
    if (ferror(f)) RAISE(DS4_ERR_IO, "%s: %s", path, strerror(errno));
    p[*n] = 0;
    *out = p, p = NULL;
out:
    ds4_mem_free(p);
    if (f) fclose(f);
    return st;
}

/* Takes the token list over. */
static ds4_status add(drift_fixture_set *s, const char *id, int32_t **token, size_t n_tok,
                      uint32_t n_decode, ds4_err *err) {
    ds4_status st = DS4_OK;

    if (!n_tok) RAISE(DS4_ERR_FORMAT, "fixture %s: no tokens", id);
    if (n_tok > 1u << 20)
        RAISE(DS4_ERR_FORMAT, "fixture %s: %zu tokens, at most 1048576", id, n_tok);
    for (size_t i = 0; i < s->n; i++)
        if (!strcmp(s->at[i].id, id)) RAISE(DS4_ERR_USAGE, "fixture %s is named twice", id);
    if (s->n == s->cap) {
        size_t cap = s->cap ? 2 * s->cap : 8;
        TRY(ds4_mem_grow(&s->at, cap, sizeof *s->at, err));
        s->cap = cap;
    }
    drift_fixture_input *f = &s->at[s->n];
    *f = (drift_fixture_input){.n_tok = (uint32_t)n_tok};
    f->n_decode = n_decode < f->n_tok ? n_decode : f->n_tok;
    TRY(ds4_mem_strdup(&f->id, id, err));
    f->token = *token, *token = NULL;
    s->n++;
out:
    return st;
}

ds4_status drift_fixtures_add_text(drift_fixture_set *s, const char *id, const char *text,
                                   size_t n, bool chat, uint32_t n_decode, const ds4_engine *e,
                                   ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_tokenizer *t = ds4_engine_tokenizer(e);
    ds4_tokens ids = {0};

    if (strlen(text) != n) RAISE(DS4_ERR_FORMAT, "fixture %s: a NUL byte in the prompt", id);
    if (chat) {
        TRY(ds4_tokenizer_encode_chat(t, DS4_THINK_OFF, NULL, text, 0, &ids, err));
    } else {
        TRY(ds4_tokens_push(&ids, ds4_tokenizer_special(t, DS4_SPECIAL_BOS), err));
        TRY(ds4_tokenizer_encode(t, text, n, &ids, err));
    }
    TRY(add(s, id, &ids.id, ids.n, n_decode, err));
out:
    ds4_tokens_free(&ids);
    return st;
}

ds4_status drift_parse_ids(ds4_tokens *ids, const char *text, size_t n, const char *name,
                           ds4_err *err) {
    ds4_status st = DS4_OK;

    if (strlen(text) != n) RAISE(DS4_ERR_FORMAT, "%s: a NUL byte in a list of ids", name);
    for (const char *p = text; *p;) {
        char *end;
        if (isspace((unsigned char)*p)) {
            p++;
            continue;
        }
        errno = 0;
        long v = strtol(p, &end, 10);
        if (end == p || errno || v < 0 || v > INT32_MAX ||
            (*end && !isspace((unsigned char)*end)))
            RAISE(DS4_ERR_FORMAT, "%s: byte %td: \"%.20s\", wanted a token id", name, p - text,
                  p);
        TRY(ds4_tokens_push(ids, (int32_t)v, err));
        p = end;
    }
out:
    return st;
}

ds4_status drift_fixtures_add_ids(drift_fixture_set *s, const char *id, const char *path,
                                  uint32_t n_decode, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_tokens ids = {0};
    char *text = NULL;
    size_t n;

    TRY(drift_read_file(&text, &n, path, MAX_PROMPT_BYTES, err));
    TRY(drift_parse_ids(&ids, text, n, path, err));
    TRY(add(s, id, &ids.id, ids.n, n_decode, err));
out:
    ds4_mem_free(text);
    ds4_tokens_free(&ids);
    return st;
}

static bool is_listed(const char *ids, const char *id) {
    size_t n = strlen(id);
    if (!ids || !strcmp(ids, "all")) return true;
    for (const char *p = ids; p; p = strchr(p, ','), p = p ? p + 1 : NULL)
        if (!strncmp(p, id, n) && (!p[n] || p[n] == ',')) return true;
    return false;
}

/* One entry of the list, if it is asked for. */
static ds4_status load_one(drift_fixture_set *s, const char *list, const json_t *j,
                           const char *ids, const ds4_engine *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *id = json_string_value(json_object_get(j, "id"));
    const char *prompt = json_string_value(json_object_get(j, "prompt"));
    const json_t *decode = json_object_get(j, "decode");
    char path[4096], *text = NULL;
    const char *slash = strrchr(list, '/');
    size_t n;

    if (!id || !*id || strchr(id, '/'))
        RAISE(DS4_ERR_FORMAT, "%s: a fixture without a usable \"id\"", list);
    if (!is_listed(ids, id)) goto out;
    if (!prompt) RAISE(DS4_ERR_FORMAT, "%s: fixture %s has no \"prompt\"", list, id);
    if (decode && (!json_is_integer(decode) || json_integer_value(decode) < 0 ||
                   json_integer_value(decode) > 1 << 20))
        RAISE(DS4_ERR_FORMAT, "%s: fixture %s: \"decode\" is no count", list, id);
    int length = snprintf(path, sizeof path, "%.*s%s", slash ? (int)(slash + 1 - list) : 0,
                          list, prompt);
    if (length < 0 || (size_t)length >= sizeof path)
        RAISE(DS4_ERR_FORMAT, "%s: fixture %s: the path of its prompt is too long", list, id);
    TRY(drift_read_file(&text, &n, path, MAX_PROMPT_BYTES, err));
    TRY(drift_fixtures_add_text(s, id, text, n, json_is_true(json_object_get(j, "chat")),
                                (uint32_t)json_integer_value(decode), e, err));
out:
    ds4_mem_free(text);
    return st;
}

/* Names of ids that the set does not hold are an error. */
static ds4_status check_listed(const drift_fixture_set *s, const char *list, const char *ids,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    if (!ids || !strcmp(ids, "all")) goto out;
    for (const char *p = ids; p; p = strchr(p, ','), p = p ? p + 1 : NULL) {
        size_t n = strcspn(p, ","), i = 0;
        while (i < s->n && (strncmp(s->at[i].id, p, n) || s->at[i].id[n])) i++;
        if (i == s->n) RAISE(DS4_ERR_USAGE, "%s: no fixture \"%.*s\"", list, (int)n, p);
    }
out:
    return st;
}

ds4_status drift_fixtures_load(drift_fixture_set *s, const char *path, const char *ids,
                               const ds4_engine *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    json_error_t je;
    json_t *root = NULL;
    char *text = NULL;
    size_t n;

    TRY(drift_read_file(&text, &n, path, 16u << 20, err));
    root = json_loadb(text, n, 0, &je);
    if (!root) RAISE(DS4_ERR_FORMAT, "%s: line %d: %s", path, je.line, je.text);
    const char *schema = json_string_value(json_object_get(root, "schema"));
    if (!schema || strcmp(schema, "ds4-drift/fixtures"))
        RAISE(DS4_ERR_FORMAT, "%s: schema \"%s\", wanted \"ds4-drift/fixtures\"", path,
              schema ? schema : "");
    const json_t *list = json_object_get(root, "fixtures");
    if (!json_is_array(list)) RAISE(DS4_ERR_FORMAT, "%s: no array \"fixtures\"", path);
    for (size_t i = 0; i < json_array_size(list); i++)
        TRY(load_one(s, path, json_array_get(list, i), ids, e, err));
    TRY(check_listed(s, path, ids, err));
out:
    json_decref(root);
    ds4_mem_free(text);
    return st;
}
