/* The plan `compat` against a second implementation of model.md (tests/spec_model.h), in
 * every bit of every tap, on models of every shape class of its section 8; prefill in any
 * chunking against decode, for `compat` and `strict`; metadata in every form that it allows;
 * and the mistakes of its appendix D, each of which must be found.
 *
 * Checklist of appendix D: 1 tests/test_quant.c, test_weights_* of test_model.c, test_compat.c
 * (C.1 to C.9); 2 test_compat.c (C.10), test_mistakes_are_found (swapped C); 3 to 5 test_marks;
 * 6 and 7 test_marks, test_classes_*; 8 test_classes_*, test_compat.c; 9 sessions, with the
 * snapshot's own tests; 10 test_mistakes_are_found. */
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/rng.h"
#include "engine/model/make.h"
#include "tests/spec_model.h"
#include "tests/support.h"

static char dir[] = "/tmp/ds4-test-spec-XXXXXX";
static char path[128], other_path[128];

/* ---- models ---- */

typedef struct spec_class {
    const char *name, *quant;
    const char *dims; /* "layers=4 window=8 rms-eps=1e-5": dimensions and constants */
    const char *ratios, *clamps, *no_bias;
    bool hash_bias;
    uint32_t n_tok;
    void (*patch)(spec_file *f); /* changes bytes of the file, or NULL */
    const char *met;             /* counters that must not be 0 */
} spec_class;

/* Small, so that a second implementation in plain C is quick. */
#define SMALL "layers=4 vocab=288 heads=2 q-rank=64 o-rank=32 idx-heads=2 experts=6 used=2 "

static spec_tensor *tensor_of(spec_file *f, uint32_t il, const char *name) {
    const spec_tensor *t = spec_tensor_of(f, (int)il, name);
    if (!t) fail_msg("no %s in layer %u", name, il);
    return &f->tensor[t - f->tensor];
}

static uint8_t *bytes_of(spec_file *f, uint32_t il, const char *name) {
    return f->bytes + (tensor_of(f, il, name)->data - f->bytes);
}

/* Experts 0 to 3 get one router row: their scores tie in every bit. No head of the indexer has
 * a weight: all rows tie. */
static void patch_ties(spec_file *f) {
    for (uint32_t il = 0; il < 4; il++) {
        uint8_t *w = bytes_of(f, il, "ffn_gate_inp.weight");
        for (int e = 1; e < 4; e++) memcpy(w + 512 * e, w, 512);
    }
    const spec_tensor *p = tensor_of(f, 2, "indexer.proj.weight");
    memset(bytes_of(f, 2, "indexer.proj.weight"), 0, 2 * p->ne[0] * p->ne[1]);
}

/* Router weights times 16: logits on all three branches of softplus. */
static void patch_wide_router(spec_file *f) {
    for (uint32_t il = 0; il < 4; il++) {
        const spec_tensor *t = tensor_of(f, il, "ffn_gate_inp.weight");
        uint8_t *w = bytes_of(f, il, "ffn_gate_inp.weight");
        for (uint64_t i = 0; i < t->ne[0] * t->ne[1]; i++)
            if (w[2 * i + 1] & 0x7c) w[2 * i + 1] = (uint8_t)(w[2 * i + 1] + (4 << 2));
    }
}

/* Vectors with values that the bit contract would flush: tiny ones, a subnormal, -0. */
static void patch_tiny_vectors(spec_file *f) {
    static const char *const names[] = {
        "attn_norm.weight",  "attn_q_a_norm.weight", "attn_kv_a_norm.weight", "ffn_norm.weight",
        "attn_sinks.weight", "hc_attn_base.weight",  "hc_ffn_scale.weight"};
    static const float tiny[] = {1e-16f, -1e-20f, -0.0f, 1e-40f};
    for (uint32_t il = 0; il < 4; il++)
        for (size_t k = 0; k < sizeof names / sizeof *names; k++) {
            const spec_tensor *t = tensor_of(f, il, names[k]);
            for (uint64_t i = 0; i < t->ne[0]; i += 2)
                memcpy(bytes_of(f, il, names[k]) + 4 * i, &tiny[(i / 2 + k) % 4], 4);
        }
}

/* An expert of zeros, and one hash row that names an expert twice. */
static void patch_zeros(spec_file *f) {
    for (uint32_t il = 0; il < 4; il++) {
        uint8_t *w = bytes_of(f, il, "ffn_gate_exps.weight");
        memset(w, 0, 256 * 66); /* IQ2_XXS, rows of one block */
        memset(bytes_of(f, il, "attn_q_a.weight"), 0, 8 * 34 * 32);
    }
    for (uint32_t il = 0; il < 2; il++) {
        uint8_t *t = bytes_of(f, il, "ffn_gate_tid2eid.weight");
        for (int i = 0; i < 288; i += 3) memcpy(t + 8 * i + 4, t + 8 * i, 4);
    }
}

static const spec_class classes[] = {
    {"every rule", "q2",
     "layers=5 vocab=300 heads=2 q-rank=64 o-rank=32 window=32 top-k=8 hash-layers=2", NULL,
     "1.5,2,10,3,0.75", "4", true, 260, NULL,
     "evicted selected emitted4 emitted biased hashed clamped"},
    {"one row, one choice", "q2", SMALL "window=1 top-k=1 hash-layers=0", "0,0,4,8", NULL, NULL,
     false, 24, NULL, "evicted selected emitted4 emitted biased"},
    {"narrow rotary", "q2",
     "layers=4 vocab=288 heads=16 groups=1 head-width=66 rotary=2 "
     "window=5 top-k=3 q-rank=32 o-rank=32 experts=5 used=5 hash-layers=1",
     "0,0,4,8", "2", NULL, false, 30, NULL, "evicted selected hashed clamped"},
    {"wide rotary", "q4k",
     "layers=4 vocab=288 heads=3 groups=3 head-width=192 rotary=128 "
     "window=9 top-k=5 q-rank=96 o-rank=32 idx-heads=3 experts=7 used=3",
     "0,0,4,16", "1", "3", false, 36, NULL, "evicted selected emitted clamped hashed"},
    {"448 without rotation", "q2", SMALL "head-width=512 window=8 top-k=4", "0,0,4,8", NULL,
     NULL, false, 26, NULL, "evicted selected"},
    {"no bias, no hash", "q2k", SMALL "window=16 top-k=6 hash-layers=0", "0,0,4,8", NULL, "all",
     false, 36, NULL, "evicted selected"},
    {"all hash, biased", "q4k", SMALL "window=16 top-k=6 hash-layers=4", "0,0,4,8", NULL, NULL,
     true, 36, NULL, "evicted selected hashed"},
    {"down IQ2_XXS", "iq2", SMALL "window=8 top-k=4", "0,0,4,8", "0.5", NULL, false, 26, NULL,
     "clamped selected"},
    {"Q4_K, down IQ2_XXS", "q4k-iq2", SMALL "window=8 top-k=4", "0,0,4,8", "0,1,0.25,0", NULL,
     false, 26, NULL, "clamped selected"},
    {"odd constants", "q2",
     SMALL "window=12 top-k=5 sinkhorn=3 rope-base=777.5 "
           "rope-base-compressed=54321 yarn-factor=3.7 yarn-context=1000 yarn-beta-fast=20.5 "
           "yarn-beta-slow=2.25 rms-eps=1e-5 hc-eps=1e-3 expert-scale=2.3",
     "0,0,4,16", NULL, NULL, false, 40, NULL, "evicted selected"},
    {"YaRN of no width", "q2",
     SMALL "window=12 top-k=5 sinkhorn=1 yarn-factor=1 "
           "yarn-beta-fast=4 yarn-beta-slow=4",
     "0,0,4,16", NULL, NULL, false, 36, NULL, "selected"},
    {"wide", "q4k",
     "layers=4 width=512 vocab=288 heads=4 groups=4 expert-width=512 window=8 "
     "top-k=4 q-rank=64 o-rank=8 idx-heads=1 used=8",
     "0,0,4,8", NULL, NULL, false, 26, NULL, "selected"},
    {"ratios of any kind", "q2", SMALL "window=8 top-k=4", "3,4,1,4", NULL, NULL, false, 28,
     NULL, "selected emitted"},
    {"ties", "q2", SMALL "window=8 top-k=4 hash-layers=0", "0,0,4,8", NULL, "all", false, 26,
     patch_ties, "ties selected"},
    {"wide router", "q2", SMALL "window=8 top-k=4 hash-layers=1", "0,0,4,8", NULL, NULL, false,
     24, patch_wide_router, "plain"},
    {"tiny vectors", "q2", SMALL "window=8 top-k=4", "0,0,4,8", NULL, NULL, false, 24,
     patch_tiny_vectors, "selected"},
    {"zeros", "q2", SMALL "window=8 top-k=4", "0,0,4,8", NULL, NULL, false, 24, patch_zeros,
     "selected hashed"},
};
enum { N_CLASS = sizeof classes / sizeof *classes };

/* "name=value name=value" */
static void set_dims(ds4_config *c, const char *text) {
    char copy[512], *save = NULL;
    ds4_err err = {0};
    snprintf(copy, sizeof copy, "%s", text);
    for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save)) {
        char *eq = strchr(w, '=');
        *eq = 0;
        if (ds4_make_set(c, w, strtoull(eq + 1, NULL, 10), &err) != DS4_OK)
            test_ok(ds4_make_set_number(c, w, strtod(eq + 1, NULL), &err), &err);
    }
}

static void save(const spec_file *f, const char *to) {
    FILE *out = fopen(to, "wb");
    assert_non_null(out);
    assert_int_equal(fwrite(f->bytes, 1, f->n, out), f->n);
    assert_int_equal(fclose(out), 0);
}

/* Writes the model of a class at `path`. Owns: the caller closes. */
static spec_file *make_model(const spec_class *c, uint64_t seed) {
    ds4_make_options o = {.seed = seed,
                          .quant = c->quant,
                          .ratios = c->ratios,
                          .clamps = c->clamps,
                          .no_bias = c->no_bias,
                          .hash_bias = c->hash_bias};
    ds4_make *m = NULL;
    ds4_err err = {0};
    test_ok(ds4_make_shape(&o.shape, "tiny", &err), &err);
    set_dims(&o.shape, c->dims);
    test_ok(ds4_make_new(&m, &o, &err), &err);
    test_ok(ds4_make_write(m, path, NULL, NULL, &err), &err);
    ds4_make_free(m);
    spec_file *f = spec_open(path);
    if (c->patch) c->patch(f), save(f, path);
    return f;
}

static int32_t *make_tokens(const spec_file *f, uint32_t n) {
    int32_t *token = malloc(n * sizeof *token);
    uint64_t key = ds4_rng_key(3, "tokens", 0);
    for (uint32_t i = 0; i < n; i++)
        token[i] = (int32_t)ds4_rng_below(key, i, spec_count(f, "vocab_size"));
    return token;
}

/* ---- what an evaluation showed ---- */

/* A digest of every tap's bits at every (layer, position); 0: not shown. */
typedef struct trace {
    uint32_t n_layer, n_tok;
    uint64_t *hash;          /* [DS4_TAP_COUNT][n_layer + 1][n_tok] */
    uint64_t n_shown, n_bad; /* n_bad: non-finite values */
    uint32_t top_k;
} trace;

static trace trace_new(const spec_file *f, uint32_t n_tok) {
    trace t = {spec_count(f, "block_count"),
               n_tok,
               NULL,
               0,
               0,
               spec_count(f, "attention.indexer.top_k")};
    t.hash = calloc((size_t)DS4_TAP_COUNT * (t.n_layer + 1) * n_tok, sizeof *t.hash);
    return t;
}

static uint64_t *trace_at(const trace *t, ds4_tap tap, uint32_t layer, uint32_t pos) {
    uint32_t il = layer < t->n_layer ? layer : t->n_layer;
    return &t->hash[((size_t)tap * (t->n_layer + 1) + il) * t->n_tok + pos];
}

static void trace_add(trace *t, ds4_tap tap, uint32_t layer, uint32_t pos, const void *p,
                      uint32_t n) {
    uint64_t h = XXH3_64bits(p, (size_t)n * 4);
    *trace_at(t, tap, layer, pos) = h ? h : 1;
    t->n_shown++;
    for (uint32_t i = 0; ds4_tap_table[tap].type == DS4_TYPE_F32 && i < n; i++)
        t->n_bad += !isfinite(((const float *)p)[i]);
}

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

/* Of the score matrix only the rows that the token can see count. */
static bool see(void *user, const ds4_tap_event *e) {
    for (uint32_t i = 0; i < e->n_row; i++) {
        uint32_t pos = e->pos0 + i * e->pos_step;
        uint32_t n = e->tap == DS4_TAP_idx_score ? (pos + 1) / 4 : e->n_col;
        trace_add(user, e->tap, e->layer, pos, (const float *)e->data + (size_t)i * e->n_col,
                  n);
    }
    return true;
}

/* edit: of the plan, or NULL. chunk 0: decode. */
static trace engine_trace(ds4_engine *e, const spec_file *f, const char *plan_name,
                          const char *edit, const int32_t *token, uint32_t n_tok,
                          uint32_t chunk) {
    trace t = trace_new(f, n_tok);
    ds4_plan *p = NULL;
    ds4_session *s = NULL;
    ds4_err err = {0};
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    test_ok(ds4_plan_named(p, plan_name, &err), &err);
    if (edit) test_ok(ds4_plan_edit(p, edit, &err), &err);
    test_ok(ds4_session_new(&s, e, p, n_tok, chunk ? chunk : 1, &err), &err);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = &t});
    test_ok(ds4_session_eval(s, token, n_tok, chunk ? DS4_PREFILL : DS4_DECODE, &err), &err);
    ds4_session_free(s);
    ds4_plan_free(p);
    return t;
}

static void same_trace(const trace *a, const trace *b, const char *what) {
    for (uint32_t p = 0; p < a->n_tok; p++)
        for (uint32_t il = 0; il <= a->n_layer; il++)
            for (int tap = 0; tap < DS4_TAP_COUNT; tap++)
                if (*trace_at(a, (ds4_tap)tap, il, p) != *trace_at(b, (ds4_tap)tap, il, p))
                    fail_msg("%s: %s differs at position %u, layer %u", what,
                             ds4_tap_table[tap].name, p, il);
}

/* The other implementation against the engine's trace: the first step that differs. */
typedef struct judge {
    trace own;
    const trace *engine;
    bool differs;
    ds4_tap tap;
    uint32_t layer, pos;
} judge;

static void judge_step(void *user, ds4_tap tap, uint32_t layer, uint32_t pos, const void *p,
                       uint32_t n) {
    judge *j = user;
    trace_add(&j->own, tap, layer, pos, p, n);
    if (j->differs ||
        *trace_at(&j->own, tap, layer, pos) == *trace_at(j->engine, tap, layer, pos))
        return;
    j->differs = true, j->tap = tap, j->layer = layer, j->pos = pos;
}

static judge judge_model(const spec_file *f, const trace *engine, const int32_t *token,
                         spec_mistake mistake, spec_counts *count) {
    judge j = {.own = trace_new(f, engine->n_tok), .engine = engine};
    spec_counts c = spec_eval(f, token, engine->n_tok, mistake, judge_step, &j);
    if (count) *count = c;
    return j;
}

/* ---- classes ---- */

static void check_met(const spec_class *c, const spec_counts *n) {
    const struct {
        const char *word;
        bool met;
    } words[] = {{"evicted", n->evicted},
                 {"selected", n->selected && n->left_out >= n->selected},
                 {"emitted4", n->emitted4},
                 {"emitted ", n->emitted},
                 {"biased", n->biased_choice},
                 {"hashed", n->hashed},
                 {"clamped", n->gate_clamped && n->up_clamped_high && n->up_clamped_low},
                 {"plain", n->plain_high && n->plain_low},
                 {"ties", n->ties}};
    char met[160];
    snprintf(met, sizeof met, "%s ", c->met);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        if (strstr(met, words[i].word) && !words[i].met)
            fail_msg("%s: %s not exercised", c->name, words[i].word);
    print_message(
        "  %-22s evicted %llu selected %llu emitted %llu+%llu biased %llu hashed %llu "
        "clamped %llu/%llu/%llu ties %llu\n",
        c->name, (unsigned long long)n->evicted, (unsigned long long)n->selected,
        (unsigned long long)n->emitted4, (unsigned long long)n->emitted,
        (unsigned long long)n->biased_choice, (unsigned long long)n->hashed,
        (unsigned long long)n->gate_clamped, (unsigned long long)n->up_clamped_high,
        (unsigned long long)n->up_clamped_low, (unsigned long long)n->ties);
}

static void check_class(const spec_class *c) {
    spec_file *f = make_model(c, 1);
    int32_t *token = make_tokens(f, c->n_tok);
    ds4_engine *e = test_engine("ref", path);
    spec_counts count;
    char what[96];

    trace decode = engine_trace(e, f, "compat", NULL, token, c->n_tok, 0);
    judge j = judge_model(f, &decode, token, SPEC_RIGHT, &count);
    if (j.differs)
        fail_msg("%s: %s differs from model.md at position %u, layer %u", c->name,
                 ds4_tap_table[j.tap].name, j.pos, j.layer);
    assert_int_equal(j.own.n_shown, decode.n_shown);
    assert_int_equal(decode.n_bad, 0);
    same_trace(&decode, &j.own, c->name);
    check_met(c, &count);
    uint32_t n_strict = c->n_tok < 132 ? c->n_tok : 132;
    trace strict = engine_trace(e, f, "strict", NULL, token, n_strict, 0);
    assert_int_equal(strict.n_bad, 0);
    trace t = engine_trace(e, f, "strict", NULL, token, n_strict, n_strict);
    snprintf(what, sizeof what, "%s, strict, one batch", c->name);
    same_trace(&strict, &t, what);
    free(t.hash);
    for (uint32_t chunk = 7; chunk; chunk = chunk == 7 && c == classes ? c->n_tok : 0) {
        t = engine_trace(e, f, "compat", NULL, token, c->n_tok, chunk);
        snprintf(what, sizeof what, "%s, compat, chunks of %u", c->name, chunk);
        same_trace(&decode, &t, what);
        free(t.hash);
    }
    free(decode.hash), free(strict.hash), free(j.own.hash), free(token);
    ds4_engine_close(e);
    spec_close(f);
}

static void test_classes_have_the_bits_of_the_text(void **state) {
    (void)state;
    for (int i = 0; i < N_CLASS; i++) check_class(&classes[i]);
}

/* ---- mistakes: appendix D.2, D.10 and two of 7.2 ---- */

/* Where each is seen first. At the entry of the network all streams are equal, so that a norm
 * per stream is right there. */
static const struct {
    const char *name;
    ds4_tap tap;
} mistakes[SPEC_N_MISTAKE] = {
    [SPEC_APE_ON_KV] = {"position term on kv too", DS4_TAP_comp_pool},
    [SPEC_ROPE_FIRST] = {"first r values rotated", DS4_TAP_q_rot},
    [SPEC_ROPE_HALVES] = {"halves paired", DS4_TAP_q_rot},
    [SPEC_NO_UNROT] = {"no inverse rotation", DS4_TAP_attn_unrot},
    [SPEC_NO_HEAD_NORM] = {"no norm per head", DS4_TAP_q_norm},
    [SPEC_BIASED_WEIGHTS] = {"biased scores as weights", DS4_TAP_router_weight},
    [SPEC_GATE_FROM_BELOW] = {"gate clamped from below", DS4_TAP_moe_mid},
    [SPEC_WEIGHT_AFTER_DOWN] = {"expert weight after down", DS4_TAP_moe_mid},
    [SPEC_EPS_ON_POST] = {"epsilon on post", DS4_TAP_attn_hc_split},
    [SPEC_NORM_PER_STREAM] = {"norm per stream", DS4_TAP_ffn_hc_norm},
    [SPEC_ROUND_F16_INPUT] = {"int8 input of F16 rows", DS4_TAP_attn_hc_mix},
    [SPEC_HALF_SCALE] = {"scale of A8 as half", DS4_TAP_q_low},
    [SPEC_FP8_TAIL] = {"FP8 on the rotary tail", DS4_TAP_kv_row},
    [SPEC_EMIT_POSITION] = {"rotated where emitted", DS4_TAP_comp_rot},
    [SPEC_NO_SINK] = {"no sink", DS4_TAP_attn_heads},
    [SPEC_ONE_STATE] = {"one state for both halves", DS4_TAP_ffn_hc_norm},
    [SPEC_SWAP_COMB] = {"comb transposed", DS4_TAP_attn_hc_out},
    [SPEC_BIAS_ON_HASH] = {"bias in a hash layer", DS4_TAP_router_hash},
    [SPEC_EXPERTS_BY_ID] = {"experts summed by id", DS4_TAP_moe_out},
    [SPEC_TIE_HIGH] = {"ties to the highest", DS4_TAP_router_sel},
};

static const spec_class mistaken = {
    "mistakes", "q2", SMALL "used=3 window=8 top-k=4 hash-layers=1",
    "0,0,4,8",  "1",  NULL,
    true,       24,   NULL,
    ""};
static const spec_class mistaken_tie = {
    "ties",    "q2", SMALL "used=3 window=8 top-k=4 hash-layers=0",
    "0,0,4,8", "1",  "all",
    false,     8,    patch_ties,
    ""};

static void check_mistake(const spec_class *c, spec_mistake from, spec_mistake to) {
    spec_file *f = make_model(c, 5);
    int32_t *token = make_tokens(f, c->n_tok);
    ds4_engine *e = test_engine("ref", path);
    trace t = engine_trace(e, f, "compat", NULL, token, c->n_tok, 0);
    for (spec_mistake k = from; k < to; k++) {
        judge j = judge_model(f, &t, token, k, NULL);
        uint32_t last = c->n_tok - 1;
        bool moved = *trace_at(&j.own, DS4_TAP_logits, DS4_NO_LAYER, last) !=
                     *trace_at(&t, DS4_TAP_logits, DS4_NO_LAYER, last);
        if (k == SPEC_RIGHT) {
            assert_false(j.differs);
        } else if (!j.differs || !moved) {
            fail_msg("%s: not found", mistakes[k].name);
        } else {
            print_message("  %-26s first at %s, layer %u, position %u\n", mistakes[k].name,
                          ds4_tap_table[j.tap].name, j.layer, j.pos);
            assert_string_equal(ds4_tap_table[j.tap].name, ds4_tap_table[mistakes[k].tap].name);
        }
        free(j.own.hash);
    }
    free(t.hash), free(token);
    ds4_engine_close(e);
    spec_close(f);
}

static void test_mistakes_are_found(void **state) {
    (void)state;
    check_mistake(&mistaken, SPEC_RIGHT, SPEC_TIE_HIGH);
    check_mistake(&mistaken_tie, SPEC_TIE_HIGH, SPEC_N_MISTAKE);
}

/* A fault of the engine's: one call by another row. */
static void test_another_row_is_found(void **state) {
    (void)state;
    enum { N = 12 };
    spec_file *f = make_model(&mistaken, 5);
    int32_t *token = make_tokens(f, N);
    ds4_engine *e = test_engine("ref", path);
    trace t = engine_trace(e, f, "compat", "tap:attn_low@2=strict", token, N, N);
    judge j = judge_model(f, &t, token, SPEC_RIGHT, NULL);
    assert_true(j.differs && j.tap == DS4_TAP_attn_low && j.layer == 2 && j.pos == 0);
    free(t.hash), free(j.own.hash), free(token);
    ds4_engine_close(e);
    spec_close(f);
}

/* ---- marks: appendix D.3 to D.7 ---- */

/* Rows of all taps of one layer by position. */
typedef struct rows {
    uint32_t layer, n_tok;
    float *at[DS4_TAP_COUNT]; /* [n_tok][n_col] */
    bool *shown[DS4_TAP_COUNT];
    uint32_t n_col[DS4_TAP_COUNT];
} rows;

static bool wants_layer(void *user, ds4_tap tap, uint32_t layer) {
    (void)tap;
    return layer == ((rows *)user)->layer;
}

static bool see_rows(void *user, const ds4_tap_event *e) {
    rows *r = user;
    if (!r->at[e->tap]) {
        r->at[e->tap] = calloc((size_t)r->n_tok * e->n_col, sizeof(float));
        r->shown[e->tap] = calloc(r->n_tok, sizeof(bool));
        r->n_col[e->tap] = e->n_col;
    }
    for (uint32_t i = 0; i < e->n_row; i++) {
        uint32_t pos = e->pos0 + i * e->pos_step;
        r->shown[e->tap][pos] = true;
        memcpy(r->at[e->tap] + (size_t)pos * e->n_col,
               (const float *)e->data + (size_t)i * e->n_col, e->n_col * sizeof(float));
    }
    return true;
}

static rows layer_rows(ds4_engine *e, const int32_t *token, uint32_t n, uint32_t layer) {
    rows r = {.layer = layer, .n_tok = n};
    ds4_plan *p = NULL;
    ds4_session *s = NULL;
    ds4_err err = {0};
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    test_ok(ds4_plan_named(p, "compat", &err), &err);
    test_ok(ds4_session_new(&s, e, p, n, 50, &err), &err);
    ds4_session_observe(s, &(ds4_observer){.wants = wants_layer, .see = see_rows, .user = &r});
    test_ok(ds4_session_eval(s, token, n, DS4_PREFILL, &err), &err);
    ds4_session_free(s);
    ds4_plan_free(p);
    return r;
}

static void rows_free(rows *r) {
    for (int t = 0; t < DS4_TAP_COUNT; t++) free(r->at[t]), free(r->shown[t]);
}

static float *row_of(const rows *r, ds4_tap tap, uint32_t pos) {
    assert_true(r->at[tap] && r->shown[tap][pos]);
    return r->at[tap] + (size_t)pos * r->n_col[tap];
}

/* Whether head 0 of a position is attention over raw rows first..last, and compressed rows that
 * were emitted at `comp` (0: none). */
static bool attends_to(const rows *r, const spec_model *m, const float *sink, uint32_t pos,
                       uint32_t first, uint32_t last, uint32_t comp) {
    const float *part[512];
    float out[1024];
    uint32_t n = 0;
    for (uint32_t t = first; t <= last; t++) part[n++] = row_of(r, DS4_TAP_kv_row, t);
    if (comp) part[n++] = row_of(r, DS4_TAP_comp_row, comp);
    spec_attend(m, out, row_of(r, DS4_TAP_q_rot, pos), sink[0], part, n);
    return !memcmp(out, row_of(r, DS4_TAP_attn_heads, pos), m->d * sizeof *out);
}

/* D.3, D.6: layer 0, whose window of 32 rows is all it sees. */
static void check_window(ds4_engine *e, const spec_model *m, const int32_t *token) {
    rows r = layer_rows(e, token, 130, 0);
    const float *sink =
        (const float *)(const void *)spec_tensor_of(m->f, 0, "attn_sinks.weight")->data;
    const float *q = row_of(&r, DS4_TAP_q_rot, 0), *R = row_of(&r, DS4_TAP_kv_row, 0),
                *kv_n = row_of(&r, DS4_TAP_kv_norm, 0),
                *tail = row_of(&r, DS4_TAP_attn_unrot, 0);
    double a = 0.0, w;
    for (uint32_t i = 0; i < m->d; i++) a += (double)q[i] * (double)R[i];
    a /= sqrt((double)m->d);
    w = 1.0 / (1.0 + exp((double)sink[0] - a));
    for (uint32_t i = m->n; i < m->d; i++)
        assert_true(fabs((double)tail[i] - w * (double)kv_n[i]) <=
                    1e-3 * fabs((double)kv_n[i]) + 1e-6);
    assert_true(attends_to(&r, m, sink, 0, 0, 0, 0));
    assert_true(attends_to(&r, m, sink, 31, 0, 31, 0)); /* the window is just full */
    assert_true(attends_to(&r, m, sink, 32, 1, 32, 0)); /* position 0 is out */
    assert_false(attends_to(&r, m, sink, 32, 0, 32, 0));
    assert_null(r.at[DS4_TAP_comp_kv]);
    rows_free(&r);
}

/* D.4, D.7: layer 2, ratio 4, with the indexer. */
static void check_four(ds4_engine *e, const spec_model *m, const int32_t *token) {
    rows r = layer_rows(e, token, 130, 2);
    uint32_t d = m->d, first = 4 * (m->Ki + 1) - 1;
    float x[1024];
    for (uint32_t p = 0; p < 130; p++) {
        assert_int_equal(r.shown[DS4_TAP_comp_row][p], p % 4 == 3);
        assert_int_equal(r.shown[DS4_TAP_idx_row][p], p % 4 == 3);
        assert_int_equal(r.shown[DS4_TAP_idx_q_lin][p], p >= first);
        assert_int_equal(r.shown[DS4_TAP_idx_sel][p], p >= first);
    }
    assert_int_equal(r.n_col[DS4_TAP_idx_sel], m->Ki);
    for (uint32_t p = 3; p < 12; p += 4) {
        memcpy(x, row_of(&r, DS4_TAP_comp_norm, p), d * sizeof *x);
        spec_rope(m, x, 1, d, p - 3, 4, false);
        assert_memory_equal(x, row_of(&r, DS4_TAP_comp_rot, p), d * sizeof *x);
        spec_rope(m, x, 1, d, 1, 4, false); /* one further would be seen */
        assert_memory_not_equal(x, row_of(&r, DS4_TAP_comp_rot, p), d * sizeof *x);
    }
    for (uint32_t i = 0; i < d; i++) { /* row 0: the lane of the current window alone */
        float top = SPEC_NEG, den = 0.0f, num = 0.0f;
        for (uint32_t t = 0; t < 4; t++)
            top = fmaxf(top, row_of(&r, DS4_TAP_comp_gate_ape, t)[d + i]);
        for (uint32_t t = 0; t < 4; t++) {
            float w = expf(row_of(&r, DS4_TAP_comp_gate_ape, t)[d + i] - top);
            den += w, num += w * row_of(&r, DS4_TAP_comp_kv, t)[d + i];
        }
        assert_true(row_of(&r, DS4_TAP_comp_pool, 3)[i] == num / den);
    }
    rows_free(&r);
}

/* D.5: layer 3, ratio 128. */
static void check_128(ds4_engine *e, const spec_model *m, const int32_t *token) {
    rows r = layer_rows(e, token, 130, 3);
    const float *sink =
        (const float *)(const void *)spec_tensor_of(m->f, 3, "attn_sinks.weight")->data;
    float x[1024];
    for (uint32_t p = 0; p < 130; p++) assert_int_equal(r.shown[DS4_TAP_comp_row][p], p == 127);
    memcpy(x, row_of(&r, DS4_TAP_comp_norm, 127), m->d * sizeof *x);
    spec_rope(m, x, 1, m->d, 0, 128, false);
    assert_memory_equal(x, row_of(&r, DS4_TAP_comp_rot, 127), m->d * sizeof *x);
    assert_true(attends_to(&r, m, sink, 126, 95, 126, 0));
    assert_true(attends_to(&r, m, sink, 127, 96, 127, 127)); /* it sees the row that it ends */
    assert_false(attends_to(&r, m, sink, 127, 96, 127, 0));
    rows_free(&r);
}

static void test_marks(void **state) {
    (void)state;
    spec_file *f = make_model(&classes[0], 1);
    int32_t *token = make_tokens(f, 130);
    ds4_engine *e = test_engine("ref", path);
    spec_model m = {0};
    spec_configure(&m, f);
    assert_true(m.W == 32 && m.Ki == 8);
    check_window(e, &m, token);
    check_four(e, &m, token);
    check_128(e, &m, token);
    free(token);
    ds4_engine_close(e);
    spec_close(f);
}

/* ---- metadata in every form: 1.1, 1.2, 1.4 ---- */

typedef struct form {
    uint32_t number; /* 12: numbers as f64; 4, 5: whole ones as u32, i32; 0: as they are */
    bool long_arrays, twice;
    uint32_t align, align_type; /* 0: no key */
} form;

static void put(FILE *out, uint64_t v, int n) {
    for (int i = 0; i < n; i++) fputc((int)(v >> 8 * i & 255), out);
}

static void put_f64(FILE *out, double x) {
    uint64_t u;
    memcpy(&u, &x, 8);
    put(out, u, 8);
}

static void put_number(FILE *out, double x, uint32_t type) {
    if (type == 12) put_f64(out, x);
    else put(out, (uint64_t)(int64_t)x, 4);
}

/* One entry in the form. Items past the layers are those that nothing may read. */
static void put_entry(FILE *out, const spec_value *v, const form *f) {
    fwrite(v->entry, 1, 8 + v->n_key, out);
    bool whole =
        v->type == 6 && spec_number_at(v->value, 6) == rint(spec_number_at(v->value, 6));
    if (v->type == 6 && (f->number == 12 || (f->number && whole))) {
        put(out, f->number, 4);
        put_number(out, spec_number_at(v->value, 6), f->number);
    } else if (v->type == 10 && f->number && memmem(v->key, v->n_key, "original_context", 16)) {
        put(out, 4, 4), fwrite(v->value, 1, 4, out); /* u64 as u32 */
    } else if (v->type == 9 && v->item_type != 8 && f->long_arrays) {
        uint32_t type = v->item_type == 6 ? 12 : 5;
        put(out, 9, 4), put(out, type, 4), put(out, v->n_item + 3, 8);
        for (uint64_t i = 0; i < v->n_item; i++)
            put_number(out, spec_number_at(v->value + 4 * i, v->item_type), type);
        for (int i = 0; i < 3; i++) put_number(out, -7.0, type);
    } else {
        fwrite(v->entry + 8 + v->n_key, 1, (size_t)(v->end - v->entry) - 8 - v->n_key, out);
    }
}

/* The same key again with another value, for those that are counts or numbers. */
static bool put_twin(FILE *out, const spec_value *v) {
    if (v->type != 4 && v->type != 6) return false;
    if (!out) return true;
    fwrite(v->entry, 1, 8 + v->n_key, out);
    put(out, v->type, 4);
    put(out, spec_le(v->value, 4) + 1, 4);
    return true;
}

static void pad(FILE *out, uint64_t align) {
    while ((uint64_t)ftell(out) % align) fputc(0, out);
}

static uint64_t tensor_bytes(const spec_tensor *t) {
    const ds4_quant *q = ds4_quant_by_id(t->type);
    uint64_t n = 1;
    for (uint32_t k = 0; k < t->rank; k++) n *= t->ne[k];
    return n / q->n_elem * q->n_bytes;
}

static void write_form(const spec_file *f, const form *how, const char *to) {
    FILE *out = fopen(to, "wb");
    uint64_t n = f->n_value + (how->align != 0), at = 0;
    uint64_t align = how->align && how->align_type == 4 ? how->align : 32;
    assert_non_null(out);
    for (uint64_t i = 0; i < f->n_value; i++) n += how->twice && put_twin(NULL, &f->value[i]);
    put(out, 0x46554747, 4), put(out, 3, 4), put(out, f->n_tensor, 8), put(out, n, 8);
    for (uint64_t i = 0; i < f->n_value; i++) put_entry(out, &f->value[i], how);
    for (uint64_t i = 0; how->twice && i < f->n_value; i++) (void)put_twin(out, &f->value[i]);
    if (how->align) {
        put(out, 17, 8), fputs("general.alignment", out), put(out, how->align_type, 4);
        put(out, how->align, how->align_type == 4 ? 4 : 8);
    }
    for (uint64_t i = 0; i < f->n_tensor; i++) {
        const spec_tensor *t = &f->tensor[i];
        put(out, t->n_name, 8), fwrite(t->name, 1, t->n_name, out), put(out, t->rank, 4);
        for (uint32_t k = 0; k < t->rank; k++) put(out, t->ne[k], 8);
        put(out, t->type, 4), put(out, at, 8);
        at += (tensor_bytes(t) + align - 1) / align * align;
    }
    pad(out, align);
    for (uint64_t i = 0; i < f->n_tensor; i++) {
        fwrite(f->tensor[i].data, 1, tensor_bytes(&f->tensor[i]), out);
        pad(out, align);
    }
    assert_int_equal(fclose(out), 0);
}

static void test_metadata_in_every_form_is_read(void **state) {
    (void)state;
    static const form forms[] = {{12, true, false, 0, 0},
                                 {4, true, true, 64, 4},
                                 {5, false, true, 1024, 4},
                                 {0, false, false, 64, 10}}; /* not a u32: no alignment */
    enum { N = 10 };
    spec_file *f = make_model(&classes[0], 7);
    int32_t *token = make_tokens(f, N);
    ds4_engine *e = test_engine("ref", path);
    trace want = engine_trace(e, f, "compat", NULL, token, N, 0);
    ds4_engine_close(e);
    for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
        write_form(f, &forms[i], other_path);
        spec_file *g = spec_open(other_path);
        e = test_engine("ref", other_path);
        trace got = engine_trace(e, g, "compat", NULL, token, N, N);
        same_trace(&want, &got, "another form");
        judge j = judge_model(g, &want, token, SPEC_RIGHT, NULL);
        assert_false(j.differs);
        free(got.hash), free(j.own.hash);
        ds4_engine_close(e);
        spec_close(g);
    }
    free(want.hash), free(token);
    spec_close(f);
}

static int set_up(void **state) {
    (void)state;
    if (!mkdtemp(dir)) return -1;
    snprintf(path, sizeof path, "%s/a.gguf", dir);
    snprintf(other_path, sizeof other_path, "%s/b.gguf", dir);
    return 0;
}

static int tear_down(void **state) {
    (void)state;
    unlink(path), unlink(other_path);
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_classes_have_the_bits_of_the_text),
        cmocka_unit_test(test_mistakes_are_found),
        cmocka_unit_test(test_another_row_is_found),
        cmocka_unit_test(test_marks),
        cmocka_unit_test(test_metadata_in_every_form_is_read),
    };
    return cmocka_run_group_tests_name("spec", tests, set_up, tear_down);
}
