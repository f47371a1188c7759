/* bits: digests of the reference engine, one per cell of (fixture, SIMD path, threads, chunk).
 *
 * The digest is the one of `ds4-drift info --digest` over a strict run (tests/cli/bits.sh holds
 * the two together): every row of every tap, logits of every position among them. This program
 * needs nothing but the engine, so that it is built in seconds by any compiler and runs where
 * the libraries of the program are not (tests/check_bits.sh). What is hashed is put in
 * little-endian order first, whatever the machine's own is. */
/* The library compiled in, for this file and for the tokenizer, whatever the machine. */
#define XXH_STATIC_LINKING_ONLY
#define XXH_IMPLEMENTATION
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/base/mem.h"
#include "engine/ds4.h"
#include "engine/ref/simd.h"

static const char usage[] =
    "usage: bits [--paths all|NAME,...] [--threads N,...] [--chunks N,...] [--taps] MODEL\n"
    "            ID:DECODE:plain|chat:PROMPT_FILE...\n"
    "       bits --list\n"
    "Prints \"model fixture path threads chunk digest\" for every cell of the lists.\n"
    "  --paths    SIMD paths; all (default): every one that this CPU runs\n"
    "  --threads  worker threads, default 1\n"
    "  --chunks   most tokens per prefill batch, default 4096\n"
    "  --taps     one hash per tap, \"layer tap rows hash\", before the digest of each cell\n"
    "  --list     the paths of this build: name, and \"runs\" or \"lacks\" on this CPU\n";

#define MAX_LIST 16
#define MAX_PROMPT (1u << 20)

typedef struct numbers {
    uint32_t at[MAX_LIST], n;
} numbers;

typedef struct options {
    const char *paths;
    numbers threads, chunks;
    bool taps;
} options;

typedef struct fixture {
    char *id, *prompt; /* cut out of the argument */
    bool chat;
    uint32_t n_decode;
    ds4_tokens tok;
} fixture;

/* One hash per (layer, tap), laid out in forward order: the embedding, the layers, the head. */
typedef struct tap_hash {
    XXH3_state_t *state; /* NULL: not seen */
    uint32_t n_row;
} tap_hash;
typedef struct hashes {
    tap_hash *at; /* [n_layer + 2][DS4_TAP_COUNT] */
    uint32_t n_layer;
} hashes;

/* ---- hashing ---- */

static void put32(uint8_t *dst, uint32_t v) {
    for (int i = 0; i < 4; i++) dst[i] = (uint8_t)(v >> 8 * i);
}
static void put64(uint8_t *dst, uint64_t v) {
    put32(dst, (uint32_t)v), put32(dst + 4, (uint32_t)(v >> 32));
}

/* Not inlined: gcc would warn of branches of the library that short constant lengths never
 * take. */
__attribute__((noinline)) static void update(XXH3_state_t *h, const void *p, size_t n) {
    XXH3_128bits_update(h, p, n);
}

static void update32(XXH3_state_t *h, const void *src, size_t n) {
    const unsigned char *p = src;
    uint8_t block[4096];
    for (size_t i = 0; i < n;) {
        size_t m = n - i < sizeof block / 4 ? n - i : sizeof block / 4;
        for (size_t j = 0; j < m; j++) {
            uint32_t v;
            memcpy(&v, p + 4 * (i + j), 4);
            put32(block + 4 * j, v);
        }
        update(h, block, 4 * m);
        i += m;
    }
}

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

static bool see(void *user, const ds4_tap_event *e) {
    hashes *h = user;
    uint32_t part = e->layer != DS4_NO_LAYER  ? e->layer + 1
                    : e->tap == DS4_TAP_embed ? 0
                                              : h->n_layer + 1;
    tap_hash *t = &h->at[(size_t)part * DS4_TAP_COUNT + e->tap];
    if (!e->n_row) return true;
    if (!t->state) {
        t->state = XXH3_createState();
        if (!t->state) return false;
        XXH3_128bits_reset(t->state);
    }
    update32(t->state, e->data, (size_t)e->n_row * e->n_col);
    t->n_row += e->n_row;
    return true;
}

static void hashes_clear(hashes *h) {
    for (size_t i = 0; h->at && i < (size_t)(h->n_layer + 2) * DS4_TAP_COUNT; i++) {
        XXH3_freeState(h->at[i].state);
        h->at[i] = (tap_hash){0};
    }
}

/* The hash over all taps, as drift/cmd/cmd_info.c prints it. */
static XXH128_hash_t fold(const hashes *h, bool taps) {
    XXH3_state_t *all = XXH3_createState();
    XXH128_hash_t d = {0, 0};
    if (!all) return d;
    XXH3_128bits_reset(all);
    for (uint32_t part = 0; part < h->n_layer + 2; part++)
        for (uint32_t tap = 0; tap < DS4_TAP_COUNT; tap++) {
            const tap_hash *t = &h->at[(size_t)part * DS4_TAP_COUNT + tap];
            const char *name = ds4_tap_table[tap].name;
            int32_t layer = part && part <= h->n_layer ? (int32_t)part - 1 : -1;
            uint8_t record[24]; /* layer, rows, hash: low half, high half */
            if (!t->state) continue;
            d = XXH3_128bits_digest(t->state);
            if (taps)
                printf("%" PRId32 " %s %" PRIu32 " %016" PRIx64 "%016" PRIx64 "\n", layer, name,
                       t->n_row, (uint64_t)d.high64, (uint64_t)d.low64);
            update(all, name, strlen(name) + 1);
            put32(record, (uint32_t)layer), put32(record + 4, t->n_row);
            put64(record + 8, d.low64), put64(record + 16, d.high64);
            update(all, record, sizeof record);
        }
    d = XXH3_128bits_digest(all);
    XXH3_freeState(all);
    return d;
}

/* ---- cells ---- */

static ds4_status evaluate(ds4_session *s, const fixture *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n_tok = (uint32_t)f->tok.n, n_decode = f->n_decode < n_tok ? f->n_decode : n_tok;

    if (n_tok > n_decode)
        TRY(ds4_session_eval(s, f->tok.id, n_tok - n_decode, DS4_PREFILL, err));
    if (n_decode)
        TRY(ds4_session_eval(s, f->tok.id + n_tok - n_decode, n_decode, DS4_DECODE, err));
out:
    return st;
}

typedef struct cell {
    const char *model, *path;
    uint32_t n_thread, n_chunk;
    bool taps;
} cell;

/* A session that holds just this fixture, as in a run: the rows of idx_score are as wide as the
 * context has compressed rows. */
static ds4_status run_fixture(ds4_engine *e, const ds4_plan *plan, const cell *c,
                              const fixture *f, hashes *h, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_session *s = NULL;

    TRY(ds4_session_new(&s, e, plan, (uint32_t)f->tok.n, c->n_chunk, err));
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = h});
    TRY(evaluate(s, f, err));
    XXH128_hash_t d = fold(h, c->taps);
    printf("%s %s %s %u %u %016" PRIx64 "%016" PRIx64 "\n", c->model, f->id, c->path,
           c->n_thread, c->n_chunk, (uint64_t)d.high64, (uint64_t)d.low64);
out:
    ds4_session_free(s);
    return st;
}

/* All fixtures with one chunking. */
static ds4_status run_chunk(ds4_engine *e, const ds4_plan *plan, const cell *c,
                            const fixture *f, size_t n_fixture, ds4_err *err) {
    ds4_status st = DS4_OK;
    hashes h = {.n_layer = ds4_engine_config(e)->n_layer};

    TRY(ds4_mem_alloc(&h.at, (size_t)(h.n_layer + 2) * DS4_TAP_COUNT, sizeof *h.at, err));
    for (size_t i = 0; i < n_fixture; i++) {
        hashes_clear(&h);
        TRY(run_fixture(e, plan, c, &f[i], &h, err));
    }
out:
    hashes_clear(&h);
    ds4_mem_free(h.at);
    return st;
}

/* The engine must run the path that was asked for: else a cell speaks of another one. */
static ds4_status check_path(const ds4_engine *e, const char *path, ds4_err *err) {
    const ds4_backend *b = ds4_engine_backend(e);
    const char *key, *value, *found = "none";
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (!strcmp(key, "simd")) found = value;
    if (!strcmp(found, path)) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE, "fact simd: found %s, wanted %s", found,
                       path);
}

static ds4_status encode(fixture *f, const ds4_tokenizer *t, ds4_err *err) {
    ds4_status st = DS4_OK;
    static char text[MAX_PROMPT + 1];
    FILE *file = fopen(f->prompt, "rb");

    if (!file) RAISE(DS4_ERR_IO, "%s: cannot be opened", f->prompt);
    size_t n = fread(text, 1, sizeof text, file);
    if (ferror(file)) RAISE(DS4_ERR_IO, "%s: cannot be read", f->prompt);
    if (!n || n > MAX_PROMPT)
        RAISE(DS4_ERR_FORMAT, "%s: %zu bytes, wanted 1 to %u", f->prompt, n, MAX_PROMPT);
    text[n] = 0;
    if (f->chat) {
        TRY(ds4_tokenizer_encode_chat(t, DS4_THINK_OFF, NULL, text, 0, &f->tok, err));
    } else {
        TRY(ds4_tokens_push(&f->tok, ds4_tokenizer_special(t, DS4_SPECIAL_BOS), err));
        TRY(ds4_tokenizer_encode(t, text, n, &f->tok, err));
    }
out:
    if (file) fclose(file);
    return st;
}

/* One path and thread count: an engine of its own, the path being chosen when it opens. */
static ds4_status run_engine(const options *o, const char *model, cell *c, fixture *f,
                             size_t n_fixture, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_engine *e = NULL;
    ds4_plan *plan = NULL;
    ds4_engine_options opt = {.engine = "ref", .n_thread = c->n_thread, .device = -1};

    if (setenv("DS4_SIMD", c->path, 1)) RAISE(DS4_ERR_MEMORY, "out of memory: environment");
    TRY(ds4_engine_open(&e, model, &opt, err));
    TRY(check_path(e, c->path, err));
    for (size_t i = 0; i < n_fixture; i++) {
        if (f[i].tok.n) continue;
        TRY(ds4_engine_load_tokenizer(e, err));
        TRY(encode(&f[i], ds4_engine_tokenizer(e), err));
    }
    TRY(ds4_engine_plan(e, &plan, err));
    for (uint32_t i = 0; i < o->chunks.n; i++) {
        c->n_chunk = o->chunks.at[i];
        TRY(run_chunk(e, plan, c, f, n_fixture, err));
    }
out:
    ds4_plan_free(plan);
    ds4_engine_close(e);
    return st;
}

static ds4_status run_path(const options *o, const char *model, const char *path, fixture *f,
                           size_t n_fixture, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *slash = strrchr(model, '/');
    const char *stem = slash ? slash + 1 : model;
    char name[128];

    snprintf(name, sizeof name, "%.*s", (int)strcspn(stem, "."), stem);
    for (uint32_t i = 0; i < o->threads.n; i++) {
        cell c = {.model = name, .path = path, .n_thread = o->threads.at[i], .taps = o->taps};
        TRY(run_engine(o, model, &c, f, n_fixture, err));
    }
out:
    return st;
}

/* ---- command line ---- */

static ds4_status parse_numbers(numbers *out, const char *what, const char *text, uint32_t most,
                                ds4_err *err) {
    ds4_status st = DS4_OK;
    numbers v = {0};
    for (const char *p = text;; p++) {
        char *end;
        unsigned long x = *p >= '0' && *p <= '9' ? strtoul(p, &end, 10) : 0;
        if (!x || x > most || (*end && *end != ',') || v.n == MAX_LIST)
            RAISE(DS4_ERR_USAGE, "%s: found \"%s\", wanted 1 to %d numbers of 1 to %u", what,
                  text, MAX_LIST, most);
        v.at[v.n++] = (uint32_t)x;
        if (!*end) break;
        p = end;
    }
    *out = v;
out:
    return st;
}

/* ID:DECODE:plain|chat:PROMPT_FILE; the argument is cut in place. */
static ds4_status parse_fixture(fixture *f, char *arg, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *part[4] = {arg}, *end;
    int n = 1;

    for (char *p = arg; n < 4 && (p = strchr(p, ':')); n++) *p++ = 0, part[n] = p;
    if (n < 4 || !*part[0] || !*part[3])
        RAISE(DS4_ERR_USAGE, "fixture \"%s\": wanted ID:DECODE:plain|chat:PROMPT_FILE", arg);
    unsigned long decode = strtoul(part[1], &end, 10);
    if (end == part[1] || *end || decode > 1u << 20)
        RAISE(DS4_ERR_USAGE, "fixture %s: found \"%s\", wanted a count", arg, part[1]);
    f->chat = !strcmp(part[2], "chat");
    if (!f->chat && strcmp(part[2], "plain"))
        RAISE(DS4_ERR_USAGE, "fixture %s: found \"%s\", wanted plain or chat", arg, part[2]);
    f->id = part[0], f->n_decode = (uint32_t)decode, f->prompt = part[3];
out:
    return st;
}

static void list_paths(void) {
    for (uint32_t i = 0; i < ds4_simd_n_path(); i++)
        printf("%s %s\n", ds4_simd_path_name(i), ds4_simd_path_runs(i) ? "runs" : "lacks");
}

static ds4_status run(const options *o, char **arg, size_t n_arg, ds4_err *err) {
    ds4_status st = DS4_OK;
    fixture *f = NULL;
    size_t n = n_arg - 1;
    char *paths = NULL;

    TRY(ds4_mem_alloc(&f, n, sizeof *f, err));
    for (size_t i = 0; i < n; i++) TRY(parse_fixture(&f[i], arg[i + 1], err));
    if (!strcmp(o->paths, "all")) {
        for (uint32_t i = 0; i < ds4_simd_n_path(); i++)
            if (ds4_simd_path_runs(i))
                TRY(run_path(o, arg[0], ds4_simd_path_name(i), f, n, err));
        goto out;
    }
    TRY(ds4_mem_strdup(&paths, o->paths, err));
    for (char *p = strtok(paths, ","); p; p = strtok(NULL, ","))
        TRY(run_path(o, arg[0], p, f, n, err));
out:
    for (size_t i = 0; f && i < n; i++) ds4_tokens_free(&f[i].tok);
    ds4_mem_free(f);
    ds4_mem_free(paths);
    return st;
}

int main(int argc, char **argv) {
    static const struct option known[] = {{"paths", required_argument, NULL, 'p'},
                                          {"threads", required_argument, NULL, 't'},
                                          {"chunks", required_argument, NULL, 'c'},
                                          {"taps", no_argument, NULL, 'T'},
                                          {"list", no_argument, NULL, 'l'},
                                          {"help", no_argument, NULL, 'h'},
                                          {NULL, 0, NULL, 0}};
    options o = {.paths = "all", .threads = {{1}, 1}, .chunks = {{4096}, 1}};
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;

    for (int key; (key = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (key == 'p') o.paths = optarg;
        else if (key == 't') TRY(parse_numbers(&o.threads, "--threads", optarg, 256, err));
        else if (key == 'c') TRY(parse_numbers(&o.chunks, "--chunks", optarg, 4096, err));
        else if (key == 'T') o.taps = true;
        else if (key == 'l') return list_paths(), 0;
        else return fputs(usage, key == 'h' ? stdout : stderr), key == 'h' ? 0 : 64;
    }
    if (argc - optind < 2) return fputs(usage, stderr), 64;
    TRY(run(&o, argv + optind, (size_t)(argc - optind), err));
    if (fflush(stdout)) RAISE(DS4_ERR_IO, "standard output cannot be written");
out:
    if (st != DS4_OK) fprintf(stderr, "bits: %s\n", e.message);
    return ds4_err_exit_code(st);
}
