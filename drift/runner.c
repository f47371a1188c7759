#include "drift/runner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>
#include <xxhash.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"

/* Up to n_end tokens of the fixture, of which the session has some. */
static ds4_status evaluate_to(ds4_session *s, const drift_fixture_input *f, uint32_t n_end,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n_prefill = f->n_tok - f->n_decode, at = ds4_session_n_tok(s);
    uint32_t edge = n_end < n_prefill ? n_end : n_prefill;

    if (at < edge) TRY(ds4_session_eval(s, f->token + at, edge - at, DS4_PREFILL, err));
    at = ds4_session_n_tok(s);
    if (at < n_end) TRY(ds4_session_eval(s, f->token + at, n_end - at, DS4_DECODE, err));
out:
    return st;
}

ds4_status drift_evaluate(ds4_session *s, const drift_fixture_input *f, ds4_err *err) {
    ds4_status st = ds4_session_reset(s, err);
    return st == DS4_OK ? evaluate_to(s, f, f->n_tok, err) : st;
}

/* ---- provenance ---- */

#define MAX_FACT 512

typedef struct facts {
    const char *key[MAX_FACT], *value[MAX_FACT];
    size_t n;
    char text[1 << 16]; /* storage of values made here */
    size_t n_text;
} facts;

static void fact(facts *f, const char *key, const char *value) {
    if (f->n < MAX_FACT) f->key[f->n] = key, f->value[f->n] = value, f->n++;
}

static void fact_printf(facts *f, const char *key, const char *fmt, ...) {
    va_list ap;
    char *to = f->text + f->n_text;
    va_start(ap, fmt);
    int n = vsnprintf(to, sizeof f->text - f->n_text, fmt, ap);
    va_end(ap);
    if (n < 0 || f->n_text + (size_t)n + 1 > sizeof f->text) return;
    f->n_text += (size_t)n + 1;
    fact(f, key, to);
}

static void fact_variants(facts *f, const ds4_engine *e) {
    const ds4_variant_set *set = ds4_engine_variants(e);
    char on[512] = "", origin[512] = "";
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        size_t n = strlen(on), m = strlen(origin);
        snprintf(on + n, sizeof on - n, "%s%s=%u", v ? " " : "", ds4_variant_table[v].name,
                 set->bits >> v & 1);
        snprintf(origin + m, sizeof origin - m, "%s%s:%s", v ? " " : "",
                 ds4_variant_table[v].name, set->origin[v]);
    }
    fact_printf(f, "variants", "%s", on);
    fact_printf(f, "variants.origin", "%s", origin);
}

/* What every route was set to, as text that reads back, and where from. "(plan)": by nothing
 * but the plan. */
static void fact_routes(facts *f, const ds4_routes *r) {
    char set[DS4_ROUTE_COUNT * (DS4_ROUTE_LONGEST + 64)] = "", origin[1024] = "";
    for (int i = 0; i < DS4_ROUTE_COUNT; i++) {
        size_t n = strlen(set), m = strlen(origin);
        const char *name = ds4_route_table[i].name;
        snprintf(set + n, sizeof set - n, "%s%s=%s", i ? " " : "", name,
                 r->at[i].text ? r->at[i].text : "(plan)");
        snprintf(origin + m, sizeof origin - m, "%s%s:%s", i ? " " : "", name,
                 ds4_route_origin_text(r->at[i].origin));
    }
    fact_printf(f, "routes", "%s", set);
    fact_printf(f, "routes.origin", "%s", origin);
}

/* Its digest is over the lines that were in force. */
static void fact_profile(facts *f, const ds4_profile *p) {
    if (!p->text) {
        fact(f, "profile", "none");
        return;
    }
    XXH128_hash_t h = XXH3_128bits(p->text, strlen(p->text));
    fact_printf(f, "profile", "%s, %s, xxh3-128:%016llx%016llx", p->name,
                p->file ? p->file : "built-in", (unsigned long long)h.high64,
                (unsigned long long)h.low64);
    fact(f, "profile.text", p->text);
}

ds4_status drift_settings_facts(const ds4_engine *e, const ds4_profile *p, const ds4_routes *r,
                                drift_see_fact *see, void *user, ds4_err *err) {
    facts *f = NULL;
    ds4_status st = ds4_mem_alloc(&f, 1, sizeof *f, err);
    if (st != DS4_OK) return st;
    fact_variants(f, e);
    fact_profile(f, p);
    fact_routes(f, r);
    for (size_t i = 0; i < f->n; i++) see(user, f->key[i], f->value[i]);
    ds4_mem_free(f);
    return DS4_OK;
}

static void fact_model(facts *f, const ds4_engine *e) {
    size_t n;
    const void *bytes = ds4_gguf_bytes(ds4_engine_gguf(e), &n);
    XXH128_hash_t h = XXH3_128bits(bytes, n);
    const char *path = ds4_engine_model_path(e), *slash = strrchr(path, '/');
    fact(f, "model.name", slash ? slash + 1 : path);
    fact_printf(f, "model.bytes", "%zu", n);
    fact_printf(f, "model.digest", "xxh3-128:%016llx%016llx", (unsigned long long)h.high64,
                (unsigned long long)h.low64);
}

static const char *const level_text[] = {"hash", "logits", "boundary", "full"};

/* What is known of a session file: "a.dsv4, 100 tokens, xxh3-128:..."; "" while nothing is. */
typedef struct session_facts {
    char load[512], save[512];
} session_facts;

static void describe(char dst[512], const char *path, uint32_t n_tok, const ds4_file *f) {
    XXH128_hash_t h = XXH3_128bits(ds4_file_data(f), ds4_file_bytes(f));
    const char *slash = strrchr(path, '/');
    snprintf(dst, 512, "%.255s, %u tokens, xxh3-128:%016llx%016llx", slash ? slash + 1 : path,
             n_tok, (unsigned long long)h.high64, (unsigned long long)h.low64);
}

/* The seed is part of what ran only where a row looked at it. */
static void collect(facts *f, const ds4_engine *e, const char *plan, bool seeded,
                    const drift_run_options *opt, const session_facts *files) {
    const ds4_backend *b = ds4_engine_backend(e);
    const char *key, *value;
    struct utsname host;

    fact(f, "tool", "ds4-drift " DS4_VERSION);
    fact(f, "build", "compiler " __VERSION__);
    fact(f, "engine", b->ops->name);
    for (uint32_t i = 0; b->ops->fact(b, i, &key, &value); i++)
        if (seeded || strcmp(key, "noise_seed")) fact(f, key, value);
    fact(f, "plan", *plan ? plan : "*=strict\n");
    fact_variants(f, e);
    if (opt->profile) fact_profile(f, opt->profile);
    if (opt->routes) fact_routes(f, opt->routes);
    fact_model(f, e);
    fact(f, "level", level_text[opt->level]);
    fact(f, "taps", opt->filter ? opt->filter : "");
    fact_printf(f, "chunk", "%u", opt->n_chunk);
    if (opt->n_batch > 1) fact_printf(f, "batch", "%u", opt->n_batch);
    if (opt->session.n_ctx) fact_printf(f, "ctx", "%u", opt->session.n_ctx);
    else if (opt->session.load || opt->session.save) fact(f, "ctx", "of its session files");
    if (*files->load) fact(f, "session.loaded", files->load);
    if (*files->save) fact(f, "session.saved", files->save);
    if (!uname(&host))
        fact_printf(f, "host", "%s %s %s", host.sysname, host.release, host.machine);
    for (size_t i = 0; i < opt->n_fact; i++) fact(f, opt->key[i], opt->value[i]);
}

/* What must be equal for a partial file to be gone on with. */
static void identity(char *dst, size_t cap, const facts *f, const drift_fixture_set *set) {
    static const char *const keys[] = {
        "tool",  "build", "engine", "device", "plan",           "variants",   "model.digest",
        "level", "taps",  "chunk",  "ctx",    "session.loaded", "noise_seed", "batch"};
    XXH3_state_t *h = XXH3_createState();

    dst[0] = 0;
    if (!h) return;
    XXH3_128bits_reset(h);
    for (size_t k = 0; k < sizeof keys / sizeof *keys; k++)
        for (size_t i = 0; i < f->n; i++)
            if (!strcmp(f->key[i], keys[k]))
                XXH3_128bits_update(h, f->value[i], strlen(f->value[i]) + 1);
    for (size_t i = 0; i < set->n; i++) {
        const drift_fixture_input *x = &set->at[i];
        XXH3_128bits_update(h, x->id, strlen(x->id) + 1);
        XXH3_128bits_update(h, x->token, (size_t)x->n_tok * sizeof *x->token);
        XXH3_128bits_update(h, &x->n_decode, sizeof x->n_decode);
    }
    XXH128_hash_t d = XXH3_128bits_digest(h);
    XXH3_freeState(h);
    snprintf(dst, cap, "%016llx%016llx", (unsigned long long)d.high64,
             (unsigned long long)d.low64);
}

/* ---- one run ---- */

typedef struct recorder {
    drift_store *store;
    const drift_run_options *opt;
    bool listed[DS4_TAP_COUNT]; /* taps of the filter */
    uint32_t n_done, n_total;   /* tokens */
    uint32_t fixture_tok;       /* tokens of fixtures before this one */
    const char *id;
    ds4_file *payload; /* of the session to go on from, or NULL */
    ds4_snapshot_head head;
    session_facts files;
    ds4_status st;
    ds4_err err;
} recorder;

static bool keeps(const recorder *r, ds4_tap tap) {
    if (r->listed[tap]) return true;
    switch (r->opt->level) {
    case DRIFT_LEVEL_HASH:
        return false;
    case DRIFT_LEVEL_LOGITS:
        return tap == DS4_TAP_logits;
    case DRIFT_LEVEL_BOUNDARY:
        return ds4_tap_table[tap].level >= DS4_TAP_BOUNDARY;
    case DRIFT_LEVEL_FULL:
        return true;
    }
    return false;
}

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    const recorder *r = user;
    (void)layer;
    return r->opt->level == DRIFT_LEVEL_HASH || keeps(r, tap);
}

static bool see(void *user, const ds4_tap_event *e) {
    recorder *r = user;
    r->st = drift_store_rows(r->store, e, keeps(r, e->tap), &r->err);
    if (r->st != DS4_OK) return false;
    if (e->tap == DS4_TAP_logits || e->tap == DS4_TAP_ffn_hc_out)
        r->n_done = r->fixture_tok + e->pos0 + (e->tap == DS4_TAP_logits ? e->n_row : 0);
    const drift_progress *p = &r->opt->progress;
    return !p->tell || p->tell(p->user, (double)r->n_done / (double)r->n_total, r->id);
}

static ds4_status parse_filter(recorder *r, const char *filter, ds4_err *err) {
    ds4_status st = DS4_OK;
    char *copy = NULL, *save = NULL;

    if (!filter) goto out;
    TRY(ds4_mem_strdup(&copy, filter, err));
    for (char *w = strtok_r(copy, ",", &save); w; w = strtok_r(NULL, ",", &save)) {
        int t = ds4_tap_find(w);
        if (t < 0) RAISE(DS4_ERR_USAGE, "--dump: no tap is called \"%s\"", w);
        r->listed[t] = true;
    }
out:
    ds4_mem_free(copy);
    return st;
}

/* The bytes of a fixture's tokens; empty where the model has no tokenizer. */
typedef struct token_text {
    const char **text;
    uint32_t *bytes;
    char *pool;
} token_text;

static ds4_status read_text(token_text *t, const ds4_engine *e, const drift_fixture_input *f,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_tokenizer *tok = ds4_engine_tokenizer(e);
    size_t total = 0;

    TRY(ds4_mem_alloc(&t->text, f->n_tok, sizeof *t->text, err));
    TRY(ds4_mem_alloc(&t->bytes, f->n_tok, sizeof *t->bytes, err));
    for (uint32_t i = 0; i < f->n_tok; i++) {
        t->bytes[i] = tok ? (uint32_t)ds4_tokenizer_bytes(tok, f->token[i], NULL, 0) : 0;
        total += t->bytes[i];
    }
    TRY(ds4_mem_alloc(&t->pool, total, 1, err));
    char *p = t->pool;
    for (uint32_t i = 0; i < f->n_tok; p += t->bytes[i], i++) {
        t->text[i] = p;
        if (tok) ds4_tokenizer_bytes(tok, f->token[i], p, t->bytes[i]);
    }
out:
    return st;
}

/* ---- session files ---- */

static ds4_status choose_ctx(uint32_t *out, const recorder *r, uint32_t n_tok, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_session_files *f = &r->opt->session;
    uint32_t loaded = r->payload ? r->head.n_ctx : 0;

    *out = n_tok < 2048 ? 2048 : n_tok + 1;
    if (loaded && loaded < 2048 && n_tok + (f->save != NULL) <= loaded) *out = loaded;
    if (!f->load && !f->save) *out = n_tok;
    if (f->n_ctx) *out = f->n_ctx;
    if (loaded > *out)
        RAISE(DS4_ERR_USAGE, "%.200s is of a context of %u tokens, wanted at most %u (--ctx)",
              f->load, loaded, *out);
out:
    return st;
}

/* Prefixes what an error says with the file that it is about. */
static ds4_status about(ds4_status st, const char *path, ds4_err *err) {
    ds4_err e;
    if (st != DS4_OK && err) {
        e = *err;
        ds4_err_set(err, st, e.origin, "%.200s: %.300s", path, e.message);
    }
    return st;
}

/* What can be known of a file to write before anything is evaluated. */
static ds4_status check_save(const recorder *r, const ds4_engine *e, const char *out,
                             const drift_fixture_input *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_session_files *files = &r->opt->session;
    const ds4_backend_ops *ops = ds4_engine_backend(e)->ops;
    uint32_t n = files->save_at ? files->save_at : f->n_tok, n_ctx;
    ds4_file_writer *w = NULL;

    if (!strcmp(files->save, out))
        RAISE(DS4_ERR_USAGE, "%.200s: the run file and the session file are one", out);
    if (ops->wide)
        RAISE(DS4_ERR_USAGE, "engine %s: its state is wider than the f32 of a session file",
              ops->name);
    TRY(choose_ctx(&n_ctx, r, f->n_tok, err));
    if (n >= n_ctx)
        RAISE(DS4_ERR_USAGE,
              "a session of %u tokens fills its context of %u: no session could load it, give "
              "--ctx of at least %u",
              n, n_ctx, n + 1);
    TRY(ds4_file_writer_open(&w, files->save, err));
out:
    ds4_file_writer_abandon(w);
    return st;
}

static ds4_status open_payload(recorder *r, const drift_fixture_set *set, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_session_files *f = &r->opt->session;

    if ((f->load || f->save) && set->n != 1)
        RAISE(DS4_ERR_USAGE, "a session file with %zu fixtures, wanted one fixture", set->n);
    if (f->save && f->save_at > set->at[0].n_tok)
        RAISE(DS4_ERR_USAGE, "a session saved at %u tokens, fixture %s has %u", f->save_at,
              set->at[0].id, set->at[0].n_tok);
    if (!f->load) goto out;
    TRY(ds4_file_open(&r->payload, f->load, err));
    st = about(
        ds4_snapshot_peek(&r->head, ds4_file_data(r->payload), ds4_file_bytes(r->payload), err),
        f->load, err);
    if (st == DS4_OK) describe(r->files.load, f->load, r->head.n_tok, r->payload);
out:
    return st;
}

/* Takes the payload over, if there is one; the fixture must go on from it. */
static ds4_status begin_session(recorder *r, ds4_session *s, const drift_fixture_input *f,
                                ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *path = r->opt->session.load;

    if (!r->payload) goto out;
    TRY(about(
        ds4_session_restore(s, ds4_file_data(r->payload), ds4_file_bytes(r->payload), err),
        path, err));
    const int32_t *token = ds4_session_tokens(s);
    uint32_t n = ds4_session_n_tok(s);
    for (uint32_t i = 0; i < n && i < f->n_tok; i++)
        if (token[i] != f->token[i])
            RAISE(DS4_ERR_FORMAT,
                  "%.200s: token %u is %d, fixture %s has %d: it does not go on from it", path,
                  i, token[i], f->id, f->token[i]);
    if (n >= f->n_tok)
        RAISE(DS4_ERR_USAGE,
              "%.200s: %u tokens, fixture %s has %u: nothing is left to evaluate", path, n,
              f->id, f->n_tok);
    if (r->opt->session.save && r->opt->session.save_at && r->opt->session.save_at < n)
        RAISE(DS4_ERR_USAGE, "a session saved at %u tokens, %.200s has %u already",
              r->opt->session.save_at, path, n);
out:
    return st;
}

static ds4_status save_session(recorder *r, ds4_session *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *path = r->opt->session.save;
    ds4_file *f = NULL;

    TRY(ds4_session_save(s, path, err));
    TRY(ds4_file_open(&f, path, err));
    describe(r->files.save, path, ds4_session_n_tok(s), f);
out:
    ds4_file_close(f);
    return st;
}

static ds4_status evaluate(recorder *r, ds4_session *s, const drift_fixture_input *f,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_session_files *files = &r->opt->session;

    if (files->save) {
        TRY(evaluate_to(s, f, files->save_at ? files->save_at : f->n_tok, err));
        TRY(save_session(r, s, err));
    }
    TRY(evaluate_to(s, f, f->n_tok, err));
out:
    return st;
}

static ds4_status begin_fixture(recorder *r, const ds4_engine *e, const drift_fixture_input *f,
                                ds4_err *err) {
    ds4_status st = DS4_OK;
    token_text text = {0};

    TRY(read_text(&text, e, f, err));
    const drift_store_fixture head = {f->id,
                                      f->token,
                                      f->n_tok,
                                      f->n_decode,
                                      text.text,
                                      text.bytes,
                                      ds4_engine_config(e)->n_vocab};
    TRY(drift_store_begin_fixture(r->store, &head, err));
out:
    ds4_mem_free(text.text);
    ds4_mem_free(text.bytes);
    ds4_mem_free(text.pool);
    return st;
}

static ds4_status run_fixture(recorder *r, ds4_engine *e, const ds4_plan *plan,
                              const drift_fixture_input *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_session *s = NULL;
    uint32_t n_ctx;
    ds4_observer o = {.wants = wants, .see = see, .user = r};

    TRY(choose_ctx(&n_ctx, r, f->n_tok, err));
    TRY(ds4_session_new(&s, e, plan, n_ctx, r->opt->n_chunk, err));
    ds4_session_set_payload_chunk(s, r->opt->session.payload_chunk);
    TRY(begin_session(r, s, f, err));
    ds4_session_observe(s, &o);
    TRY(begin_fixture(r, e, f, err));
    st = evaluate(r, s, f, err);
    if (r->st != DS4_OK) { /* the store's own fault stopped the evaluation */
        st = r->st;
        if (err) *err = r->err;
    }
    if (st != DS4_OK) goto out;
    TRY(drift_store_end_fixture(r->store, ds4_session_ledger(s), err));
out:
    ds4_session_free(s);
    return st;
}

/* ---- several fixtures at once ---- */

/* A fixture that is being evaluated in a group. */
typedef struct lane {
    recorder *r;
    const drift_fixture_input *f;
    ds4_session *s;
    FILE *spool; /* its events, each followed by its rows: the store takes one fixture at a time
                  */
} lane;

static bool lane_wants(void *user, ds4_tap tap, uint32_t layer) {
    return wants(((lane *)user)->r, tap, layer);
}

static size_t event_bytes(const ds4_tap_event *e) { return (size_t)e->n_row * e->n_col * 4; }

static bool lane_see(void *user, const ds4_tap_event *e) {
    lane *l = user;
    size_t n = event_bytes(e);
    if (fwrite(e, sizeof *e, 1, l->spool) == 1 && fwrite(e->data, 1, n, l->spool) == n)
        return true;
    l->r->st = ds4_err_set(&l->r->err, DS4_ERR_IO, DS4_HERE, "%s: a temporary file: %s",
                           l->f->id, strerror(errno));
    return false;
}

static void lane_end(lane *l) {
    ds4_session_free(l->s);
    if (l->spool) fclose(l->spool);
    *l = (lane){.r = l->r};
}

static ds4_status lane_begin(lane *l, ds4_engine *e, const ds4_plan *plan,
                             const drift_fixture_input *f, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n_ctx;

    l->f = f;
    l->spool = tmpfile();
    if (!l->spool) RAISE(DS4_ERR_IO, "%s: a temporary file: %s", f->id, strerror(errno));
    TRY(choose_ctx(&n_ctx, l->r, f->n_tok, err));
    TRY(ds4_session_new(&l->s, e, plan, n_ctx, l->r->opt->n_chunk, err));
    ds4_session_observe(l->s, &(ds4_observer){.wants = lane_wants, .see = lane_see, .user = l});
out:
    return st;
}

/* Moves a whole fixture from its temporary file to the store. */
static ds4_status lane_store(lane *l, const ds4_engine *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_tap_event event;
    void *row = NULL;
    size_t cap = 0;

    TRY(begin_fixture(l->r, e, l->f, err));
    rewind(l->spool);
    while (fread(&event, sizeof event, 1, l->spool) == 1) {
        size_t n = event_bytes(&event);
        if (n > cap) {
            TRY(ds4_mem_grow(&row, n, 1, err));
            cap = n;
        }
        if (fread(row, 1, n, l->spool) != n) break;
        event.data = row;
        TRY(drift_store_rows(l->r->store, &event, keeps(l->r, event.tap), err));
    }
    if (!feof(l->spool)) RAISE(DS4_ERR_IO, "%s: a temporary file cannot be read", l->f->id);
    TRY(drift_store_end_fixture(l->r->store, ds4_session_ledger(l->s), err));
out:
    ds4_mem_free(row);
    return st;
}

/* The next chunk of the prompt, or the next token after it. */
static ds4_group_item lane_next(const lane *l) {
    uint32_t n_prefill = l->f->n_tok - l->f->n_decode, at = ds4_session_n_tok(l->s);
    uint32_t left = at < n_prefill ? n_prefill - at : 1, most = l->r->opt->n_chunk;
    return (ds4_group_item){l->s, l->f->token + at, left < most ? left : most,
                            at < n_prefill ? DS4_PREFILL : DS4_DECODE};
}

/* One pass of all lanes that hold a fixture; those that are done go to the store. */
static ds4_status step(recorder *r, const ds4_engine *e, ds4_group *g, lane *l,
                       ds4_group_item *item, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_progress *p = &r->opt->progress;
    uint32_t n = 0;

    for (uint32_t i = 0; i < r->opt->n_batch; i++)
        if (l[i].f) {
            r->id = l[i].f->id;
            item[n] = lane_next(&l[i]);
            r->n_done += item[n++].n;
        }
    st = ds4_group_eval(g, item, n, err);
    if (r->st != DS4_OK) {
        st = r->st;
        if (err) *err = r->err;
    }
    if (st != DS4_OK) goto out;
    for (uint32_t i = 0; i < r->opt->n_batch; i++) {
        if (!l[i].f || ds4_session_n_tok(l[i].s) < l[i].f->n_tok) continue;
        TRY(lane_store(&l[i], e, err));
        lane_end(&l[i]);
    }
    if (p->tell && !p->tell(p->user, (double)r->n_done / (double)r->n_total, r->id))
        RAISE(DS4_ERR_CANCELLED, "interrupted at fixture %s", r->id);
out:
    return st;
}

static ds4_status run_together(recorder *r, ds4_engine *e, const ds4_plan *plan,
                               const drift_fixture_set *set, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t n_lane = r->opt->n_batch;
    const uint64_t room = (uint64_t)n_lane * r->opt->n_chunk;
    lane *l = NULL;
    ds4_group_item *item = NULL;
    ds4_group *g = NULL;
    size_t at = 0;

    TRY(ds4_mem_alloc(&l, n_lane, sizeof *l, err));
    TRY(ds4_mem_alloc(&item, n_lane, sizeof *item, err));
    TRY(ds4_group_new(&g, e, plan, room < 4096 ? (uint32_t)room : 4096, err));
    for (bool busy = true; busy;) {
        busy = false;
        for (uint32_t i = 0; i < n_lane; i++) {
            l[i].r = r;
            for (; !l[i].f && at < set->n; at++) {
                if (!drift_store_has_fixture(r->store, set->at[at].id))
                    TRY(lane_begin(&l[i], e, plan, &set->at[at], err));
                else r->n_done += set->at[at].n_tok;
            }
            busy |= l[i].f != NULL;
        }
        if (busy) TRY(step(r, e, g, l, item, err));
    }
out:
    for (uint32_t i = 0; l && i < n_lane; i++) lane_end(&l[i]);
    ds4_group_free(g);
    ds4_mem_free(item);
    ds4_mem_free(l);
    return st;
}

ds4_status drift_run_write(const char *path, ds4_engine *e, const ds4_plan *plan,
                           const drift_fixture_set *set, const drift_run_options *opt,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    recorder r = {.opt = opt};
    facts *f = NULL;
    char *plan_text = NULL, id[64];

    if (opt->n_batch > 1 && (opt->session.load || opt->session.save))
        RAISE(DS4_ERR_USAGE, "a session file with %u fixtures at once, wanted one fixture",
              opt->n_batch);
    TRY(parse_filter(&r, opt->filter, err));
    TRY(open_payload(&r, set, err));
    if (opt->session.save) TRY(check_save(&r, e, path, &set->at[0], err));
    TRY(ds4_plan_text(plan, &plan_text, err));
    TRY(ds4_mem_alloc(&f, 1, sizeof *f, err));
    collect(f, e, plan_text, ds4_plan_is_seeded(plan), opt, &r.files);
    identity(id, sizeof id, f, set);
    bool whole = opt->session.load || opt->session.save; /* a kept fixture writes no session */
    drift_store_options so = {f->key, f->value, f->n, id, opt->resume && !whole};
    TRY(drift_store_create(&r.store, path, &so, err));
    for (size_t i = 0; i < set->n; i++) r.n_total += set->at[i].n_tok;
    if (opt->n_batch > 1) TRY(run_together(&r, e, plan, set, err));
    for (size_t i = 0; i < set->n; r.fixture_tok += set->at[i].n_tok, i++) {
        r.id = set->at[i].id;
        r.n_done = r.fixture_tok;
        if (drift_store_has_fixture(r.store, r.id)) continue;
        TRY(run_fixture(&r, e, plan, &set->at[i], err));
    }
    f->n = 0; /* what only the evaluation could tell, such as the kernels that ran */
    collect(f, e, plan_text, ds4_plan_is_seeded(plan), opt, &r.files);
    TRY(drift_store_add_facts(r.store, f->key, f->value, f->n, err));
    st = drift_store_finish(r.store, err);
    r.store = NULL;
out:
    drift_store_abandon(r.store);
    ds4_file_close(r.payload);
    ds4_mem_free(plan_text);
    ds4_mem_free(f);
    return st;
}
