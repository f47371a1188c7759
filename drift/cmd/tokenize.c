#include "drift/cmd/tokenize.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "drift/fixture.h"
#include "engine/base/file.h"
#include "engine/base/mem.h"

#define MAX_BYTES ((size_t)1 << 30)

/* ---- files ---- */

static bool is_stream(const char *path) { return !path || !strcmp(path, "-"); }

/* All of a file or a pipe, a NUL behind it. Owns: the caller frees *out. */
static ds4_status read_all(char **out, size_t *n, const char *path, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *name = is_stream(path) ? "standard input" : path;
    FILE *f = is_stream(path) ? stdin : fopen(path, "rb");
    char *p = NULL;
    size_t cap = 0, k = 1;
    *n = 0;
    if (!f) RAISE(DS4_ERR_IO, "%s: %s", name, strerror(errno));
    while (k) {
        if (*n + 1 >= cap) {
            cap = 2 * cap + (1 << 16);
            TRY(ds4_mem_grow(&p, cap, 1, err));
        }
        k = fread(p + *n, 1, cap - *n - 1, f);
        *n += k;
        if (*n > MAX_BYTES) RAISE(DS4_ERR_FORMAT, "%s: more than %zu bytes", name, MAX_BYTES);
    }
    if (ferror(f)) RAISE(DS4_ERR_IO, "%s: %s", name, strerror(errno));
    p[*n] = 0;
    *out = p, p = NULL;
out:
    ds4_mem_free(p);
    if (f && f != stdin) fclose(f);
    return st;
}

/* Ids as text, one a line. Owns: the caller frees *out. */
static ds4_status ids_text(char **out, size_t *n, const ds4_tokens *ids, ds4_err *err) {
    ds4_status st = DS4_OK;
    enum { LINE = 12 }; /* the longest int32 and a line feed */
    char *p = NULL;
    TRY(ds4_mem_alloc(&p, ids->n + 1, LINE, err));
    *n = 0;
    for (size_t i = 0; i < ids->n; i++)
        *n += (size_t)snprintf(p + *n, LINE + 1, "%" PRId32 "\n", ids->id[i]);
    *out = p;
out:
    return st;
}

static ds4_status write_all(const char *path, const char *text, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file_writer *w = NULL;
    if (is_stream(path)) {
        if (fwrite(text, 1, n, stdout) != n || fflush(stdout))
            RAISE(DS4_ERR_IO, "standard output: %s", strerror(errno));
        goto out;
    }
    TRY(ds4_file_writer_open(&w, path, err));
    TRY(ds4_file_writer_put(w, text, n, err));
    st = ds4_file_writer_finish(w, err);
    w = NULL;
out:
    ds4_file_writer_abandon(w);
    return st;
}

/* ---- the work ---- */

static ds4_status encode(const cmd_tokenize_options *o, const ds4_tokenizer *t,
                         const char *text, size_t n, ds4_tokens *ids, ds4_err *err) {
    static ds4_status (*const fn[])(const ds4_tokenizer *, const char *, size_t, ds4_tokens *,
                                    ds4_err *) = {
        [CMD_SPECIALS_PLAIN] = ds4_tokenizer_encode,
        [CMD_SPECIALS_RENDERED] = ds4_tokenizer_encode_rendered,
        [CMD_SPECIALS_ADDED] = ds4_tokenizer_encode_added};
    ids->n = 0;
    return fn[o->specials](t, text, n, ids, err);
}

static double cpu_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Rates of both directions; the best of five rounds in processor time, which a busy machine
 * disturbs least. One thread does the work. */
static ds4_status measure(const cmd_tokenize_options *o, const ds4_tokenizer *t,
                          const char *text, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    double best[2] = {1e30, 1e30};
    ds4_tokens ids = {0};
    char *back = NULL;
    size_t n_back = 0;
    for (int round = 0; round < 5; round++) {
        double at = cpu_s();
        TRY(encode(o, t, text, n, &ids, err));
        double mid = cpu_s();
        ds4_mem_free(back), back = NULL;
        TRY(ds4_tokenizer_detokenize(t, ids.id, ids.n, &back, &n_back, err));
        double end = cpu_s();
        if (mid - at < best[0]) best[0] = mid - at;
        if (end - mid < best[1]) best[1] = end - mid;
    }
    fprintf(stderr,
            "%zu bytes, %zu ids: encoded at %.1f MB/s, decoded at %.1f MB/s of processor time, "
            "%s\n",
            n, ids.n, (double)n / (best[0] + 1e-9) / 1e6, (double)n / (best[1] + 1e-9) / 1e6,
            n_back == n && !memcmp(back, text, n) ? "to the same bytes" : "to other bytes");
out:
    ds4_mem_free(back);
    ds4_tokens_free(&ids);
    return st;
}

static ds4_status convert(const cmd_tokenize_options *o, const ds4_tokenizer *t, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_tokens ids = {0};
    char *in = NULL, *text = NULL;
    size_t n, n_text;
    TRY(read_all(&in, &n, o->input, err));
    if (o->decode) {
        TRY(drift_parse_ids(&ids, in, n, is_stream(o->input) ? "standard input" : o->input,
                            err));
        TRY(ds4_tokenizer_detokenize(t, ids.id, ids.n, &text, &n_text, err));
    } else {
        if (memchr(in, 0, n) && !ds4_tokenizer_reads_nul(t))
            RAISE(
                DS4_ERR_FORMAT,
                "%s: a NUL at byte %zu, where the rules of existing engines end a text (--pre hf "
                "does not)",
                is_stream(o->input) ? "standard input" : o->input, strlen(in));
        TRY(encode(o, t, in, n, &ids, err));
        TRY(ids_text(&text, &n_text, &ids, err));
    }
    TRY(write_all(o->output, text, n_text, err));
    if (o->time) TRY(measure(o, t, o->decode ? text : in, o->decode ? n_text : n, err));
out:
    ds4_tokens_free(&ids);
    ds4_mem_free(in);
    ds4_mem_free(text);
    return st;
}

ds4_status cmd_tokenize(const cmd_tokenize_options *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_gguf *g = NULL;
    ds4_tokenizer *t = NULL;
    if (o->tokenizer) TRY(ds4_tokenizer_open(&t, o->tokenizer, err));
    else {
        TRY(ds4_gguf_open(&g, o->model, err));
        TRY(ds4_tokenizer_new(&t, g, err));
    }
    TRY(ds4_tokenizer_split_by(t, o->pre, err));
    TRY(convert(o, t, err));
out:
    ds4_tokenizer_free(t);
    ds4_gguf_close(g);
    return st;
}
