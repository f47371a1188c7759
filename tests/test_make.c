/* Models from a seed: they load, their bytes depend on the options alone, any row can be had by
 * itself, their weights have the stated distribution, and they compute sane numbers. The writer
 * leaves a whole file or none. */
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/format/gguf_write.h"
#include "engine/model/make.h"
#include "engine/model/weights.h"
#include "tests/support.h"

enum { N_TOK = 132, N_TOK_DEEP = 40 };
static char dir[] = "/tmp/ds4-test-make-XXXXXX";

static const char *file_in_dir(const char *name) {
    static char path[2][128];
    static int turn;
    turn = !turn;
    snprintf(path[turn], sizeof path[turn], "%s/%s", dir, name);
    return path[turn];
}

static ds4_make_options options(const char *shape, const char *quant, uint64_t seed,
                                bool share) {
    ds4_make_options o = {.seed = seed, .quant = quant, .share_layers = share};
    ds4_err err;
    test_ok(ds4_make_shape(&o.shape, shape, &err), &err);
    return o;
}

static ds4_make *layout(const ds4_make_options *o) {
    ds4_make *m = NULL;
    ds4_err err;
    test_ok(ds4_make_new(&m, o, &err), &err);
    return m;
}

static void write_model(const ds4_make_options *o, const char *path) {
    ds4_make *m = layout(o);
    ds4_err err;
    struct stat s;
    test_ok(ds4_make_write(m, path, NULL, NULL, &err), &err);
    assert_int_equal(stat(path, &s), 0);
    assert_int_equal(s.st_size, ds4_make_file_bytes(m));
    ds4_make_free(m);
}

static ds4_gguf *open_model(const char *path) {
    ds4_gguf *g = NULL;
    ds4_err err;
    test_ok(ds4_gguf_open(&g, path, &err), &err);
    return g;
}

static const ds4_make_tensor *find(const ds4_make *m, const char *name) {
    for (uint32_t i = 0; i < ds4_make_n_tensor(m); i++)
        if (!strcmp(ds4_make_tensor_at(m, i)->name, name)) return ds4_make_tensor_at(m, i);
    fail_msg("no tensor %s", name);
    return NULL;
}

/* ---- the generator ---- */

static void test_rng_bell_has_the_stated_moments(void **state) {
    (void)state;
    enum { N = 1 << 20 };
    uint64_t key = ds4_rng_key(7, "bell", 3);
    double sum = 0.0, square = 0.0, fourth = 0.0;
    int32_t least = 0, most = 0;
    for (uint64_t i = 0; i < N; i++) {
        int32_t v = ds4_rng_bell(key, i);
        double x = (double)v;
        least = v < least ? v : least, most = v > most ? v : most;
        sum += x, square += x * x, fourth += x * x * x * x;
    }
    double variance = square / N, kurtosis = fourth / N / (variance * variance) - 3.0;
    print_message("bell: mean %.3f variance %.1f excess kurtosis %.3f from %d to %d\n", sum / N,
                  variance, kurtosis, least, most);
    assert_true(fabs(sum / N) < 1.0 && fabs(variance / 43690.0 - 1.0) < 0.01);
    assert_true(fabs(kurtosis + 0.15) < 0.02 && least >= -1020 && most <= 1020);
}

static void test_rng_streams_differ_by_seed_name_and_row(void **state) {
    (void)state;
    uint64_t a = ds4_rng_key(1, "a", 0);
    assert_int_equal(a, ds4_rng_key(1, "a", 0));
    assert_int_not_equal(a, ds4_rng_key(2, "a", 0));
    assert_int_not_equal(a, ds4_rng_key(1, "b", 0));
    assert_int_not_equal(a, ds4_rng_key(1, "a", 1));
    assert_int_not_equal(ds4_rng_key(1, "ab", 0), ds4_rng_key(1, "ba", 0));
    for (uint32_t n = 1; n < 40; n++)
        for (uint64_t i = 0; i < 100; i++) assert_true(ds4_rng_below(a, i, n) < n);
}

/* ---- bytes ---- */

static uint64_t digest_of(const char *path) {
    size_t n;
    char *p = test_read_file(path, &n);
    uint64_t h = XXH3_64bits(p, n);
    free(p);
    return h;
}

static void test_make_same_seed_gives_same_bytes(void **state) {
    (void)state;
    static const char *const quants[] = {"q2", "q4k"};
    for (int share = 0; share < 2; share++)
        for (int q = 0; q < 2; q++) {
            ds4_make_options o = options("tiny", quants[q], 42, share);
            const char *a = file_in_dir("a.gguf"), *b = file_in_dir("b.gguf");
            write_model(&o, a);
            write_model(&o, b);
            uint64_t digest = digest_of(a);
            assert_int_equal(digest, digest_of(b));
            o.seed = 43;
            write_model(&o, b);
            assert_int_not_equal(digest, digest_of(b));
        }
}

/* Pinned: the bytes are the same on every machine and compiler. A change of the generator
 * changes them on purpose, and this line with them. */
static void test_make_tiny_has_the_pinned_digest(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 1, false);
    write_model(&o, file_in_dir("a.gguf"));
    assert_int_equal(digest_of(file_in_dir("a.gguf")), 0x929a4c9ad8e87b1eull);
}

static void check_rows(const ds4_make_options *o) {
    ds4_make *m = layout(o);
    ds4_err err;
    write_model(o, file_in_dir("a.gguf"));
    ds4_gguf *g = open_model(file_in_dir("a.gguf"));
    assert_int_equal(ds4_gguf_n_tensor(g), ds4_make_n_tensor(m));
    for (uint32_t i = 0; i < ds4_make_n_tensor(m); i++) {
        const ds4_make_tensor *t = ds4_make_tensor_at(m, i);
        const ds4_tensor *f = ds4_gguf_find_tensor(g, t->name);
        assert_non_null(f);
        assert_int_equal(f->offset, t->offset);
        assert_int_equal(f->n_bytes, t->n_bytes);
        uint64_t n_row = t->n_dim == 1 ? 1 : t->ne[1] * t->ne[2], bytes = t->n_bytes / n_row;
        uint8_t *row = malloc(bytes);
        /* Backwards: no row may need the one before it. */
        for (uint64_t r = n_row; r-- > 0;) {
            test_ok(ds4_make_row(m, i, r, row, &err), &err);
            if (memcmp(row, f->data + r * bytes, bytes))
                fail_msg("%s row %llu differs from the file", t->name, (unsigned long long)r);
        }
        assert_int_equal(ds4_make_row(m, i, n_row, row, &err), DS4_ERR_INTERNAL);
        free(row);
    }
    ds4_gguf_close(g);
    ds4_make_free(m);
}

static void test_make_rows_alone_equal_the_file(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 5, false);
    check_rows(&o);
    o = options("tiny", "q4k", 5, true);
    check_rows(&o);
}

static void test_make_shared_layers_all_differ(void **state) {
    (void)state;
    char name[64];
    ds4_make_options o = options("tiny", "q2", 9, true);
    write_model(&o, file_in_dir("a.gguf"));
    ds4_gguf *g = open_model(file_in_dir("a.gguf"));
    for (uint64_t i = 0; i < ds4_gguf_n_tensor(g); i++) {
        const ds4_tensor *t = ds4_gguf_tensor(g, i);
        uint32_t il;
        int at;
        if (sscanf(t->name.p, "blk.%u.%n", &il, &at) != 1) continue;
        for (uint32_t k = 0; k < il; k++) {
            snprintf(name, sizeof name, "blk.%u.%.*s", k, (int)t->name.n - at, t->name.p + at);
            const ds4_tensor *u = ds4_gguf_find_tensor(g, name);
            if (!u || u->n_bytes != t->n_bytes) continue;
            if (!memcmp(u->data, t->data, t->n_bytes))
                fail_msg("%s equals layer %u's", name, il);
        }
    }
    ds4_gguf_close(g);
}

/* ---- layout ---- */

static void test_make_flash_fits_and_keeps_the_alignment(void **state) {
    (void)state;
    static const char *const quants[] = {"q2", "q4k"};
    for (int q = 0; q < 2; q++) {
        ds4_make_options o = options("flash", quants[q], 1, true);
        ds4_make *m = layout(&o);
        uint64_t file = ds4_make_file_bytes(m), head = ds4_make_head_bytes(m), end = 0;
        assert_int_equal(ds4_make_n_tensor(m), 1288 + 40);
        assert_true(file < 6000000000u);
        assert_int_equal(head % DS4_GGUF_ALIGN, 0);
        for (uint32_t i = 0; i < ds4_make_n_tensor(m); i++) {
            const ds4_make_tensor *t = ds4_make_tensor_at(m, i);
            assert_int_equal(t->offset % DS4_GGUF_ALIGN, 0);
            assert_true(head + t->offset + t->n_bytes <= file);
            end = t->offset + t->n_bytes > end ? t->offset + t->n_bytes : end;
        }
        assert_true(file - head - end < DS4_GGUF_ALIGN);
        /* By hand: rows of 16 blocks keep the alignment, so layer 1 starts 3 rows further. */
        const ds4_make_tensor *a = find(m, "blk.0.ffn_gate_exps.weight");
        const ds4_make_tensor *b = find(m, "blk.1.ffn_gate_exps.weight");
        assert_int_equal(a->n_bytes, q ? 2147483648u / 256 * 144 : 2147483648u / 256 * 66);
        assert_int_equal(b->offset - a->offset, 3 * 16 * (q ? 144 : 66));
        print_message("flash %s: %llu bytes\n", quants[q], (unsigned long long)file);
        ds4_make_free(m);
    }
}

static void test_make_every_shape_loads(void **state) {
    (void)state;
    static const char *const shapes[] = {"tiny", "small"};
    for (int k = 0; k < 4; k++) {
        ds4_err err;
        ds4_config c;
        ds4_tokenizer *t = NULL;
        ds4_tokens ids = {0};
        ds4_make_options o = options(shapes[k / 2], k % 2 ? "q4k" : "q2", 3, k / 2 || k % 2);
        ds4_weights *w = malloc(sizeof *w);
        write_model(&o, file_in_dir("a.gguf"));
        ds4_gguf *g = open_model(file_in_dir("a.gguf"));
        test_ok(ds4_config_read(&c, g, &err), &err);
        test_ok(ds4_weights_bind(w, g, &c, &err), &err);
        test_ok(ds4_tokenizer_new(&t, g, &err), &err);
        assert_int_equal(ds4_tokenizer_n_vocab(t), o.shape.n_vocab);
        test_ok(ds4_tokenizer_encode(t, "the \xc3\xa8", 6, &ids, &err), &err);
        assert_true(ids.n == 4 || ids.n == 5); /* "t" "he" or "the", space, two bytes */
        for (uint32_t il = 0; il < c.n_layer; il++)
            assert_int_equal(w->layer[il].router_bias.tensor != NULL, il >= c.n_hash);
        ds4_tokens_free(&ids);
        ds4_tokenizer_free(t);
        ds4_gguf_close(g);
        free(w);
    }
}

/* ---- distributions ---- */

static const struct {
    const char *tail;
    double mean, std; /* std below 0: times sqrt(row length) */
} laws[] = {
    {"token_embd.weight", 0, 1},        {"output.weight", 0, -2},
    {"attn_norm.weight", 1, 0.1},       {"attn_q_a.weight", 0, -1},
    {"attn_output_b.weight", 0, -1},    {"hc_attn_fn.weight", 0, -1.6},
    {"ffn_gate_exps.weight", 0, -3},    {"ffn_up_exps.weight", 0, -3},
    {"ffn_down_exps.weight", 0, -0.25}, {"ffn_down_shexp.weight", 0, -0.25},
};

static void check_law(const ds4_gguf *g, const char *name, double mean, double std) {
    const ds4_tensor *t = ds4_gguf_find_tensor(g, name);
    assert_non_null(t);
    float block[256];
    double sum = 0.0, square = 0.0, n = (double)t->n_elem;
    for (uint64_t b = 0; b < t->n_elem / t->quant->n_elem; b++) {
        t->quant->decode(block, t->data + b * t->quant->n_bytes, 1);
        for (uint32_t i = 0; i < t->quant->n_elem; i++) {
            double x = (double)block[i];
            sum += x, square += x * x;
        }
    }
    if (std < 0.0) std = -std / sqrt((double)t->ne[0]);
    double found = sqrt(square / n - sum / n * (sum / n));
    double slack = 0.02 + 4.0 / sqrt(n); /* the block scales' 0.6 %, and chance */
    if (fabs(found / std - 1.0) > slack || fabs(sum / n - mean) > slack * std)
        fail_msg("%s (%s): mean %g deviation %g, wanted %g and %g", name, t->quant->name,
                 sum / n, found, mean, std);
}

static void test_make_weights_have_the_stated_distribution(void **state) {
    (void)state;
    char name[64];
    for (int q = 0; q < 2; q++) {
        ds4_make_options o = options("tiny", q ? "q4k" : "q2", 11, false);
        write_model(&o, file_in_dir("a.gguf"));
        ds4_gguf *g = open_model(file_in_dir("a.gguf"));
        for (size_t i = 0; i < sizeof laws / sizeof *laws; i++) {
            snprintf(name, sizeof name, "%s%s", i < 2 ? "" : "blk.4.", laws[i].tail);
            check_law(g, name, laws[i].mean, laws[i].std);
        }
        ds4_gguf_close(g);
    }
}

static void test_make_hash_rows_hold_distinct_experts(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 2, false);
    o.shape.n_expert_used = 8; /* all of them: a permutation in every row */
    write_model(&o, file_in_dir("a.gguf"));
    ds4_gguf *g = open_model(file_in_dir("a.gguf"));
    const ds4_tensor *t = ds4_gguf_find_tensor(g, "blk.2.ffn_gate_tid2eid.weight");
    for (uint32_t token = 0; token < 512; token++) {
        uint32_t seen = 0;
        for (uint32_t k = 0; k < 8; k++) seen |= 1u << ds4_le32(t->data + 4 * (8 * token + k));
        assert_int_equal(seen, 0xff);
    }
    ds4_gguf_close(g);
}

/* ---- alive ---- */

typedef struct life {
    double least_rms[DS4_MAX_LAYER], most_rms[DS4_MAX_LAYER];
    uint32_t n_layer;
    uint64_t n_bad;
} life;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    return tap == DS4_TAP_ffn_hc_out;
}

static bool see(void *user, const ds4_tap_event *e) {
    life *l = user;
    for (uint32_t i = 0; i < e->n_row; i++) {
        double square = 0.0;
        for (uint32_t k = 0; k < e->n_col; k++) {
            float x = ((const float *)e->data)[(size_t)i * e->n_col + k];
            l->n_bad += !isfinite(x);
            square += (double)x * (double)x;
        }
        double rms = sqrt(square / (double)e->n_col);
        if (rms < l->least_rms[e->layer]) l->least_rms[e->layer] = rms;
        if (rms > l->most_rms[e->layer]) l->most_rms[e->layer] = rms;
    }
    return true;
}

static void run_tokens(ds4_engine *e, uint32_t n_prefill, uint32_t n, float *logits, life *l) {
    ds4_err err;
    ds4_plan *p = NULL;
    ds4_session *s = NULL;
    int32_t token[N_TOK];
    uint32_t n_vocab = ds4_engine_config(e)->n_vocab;
    uint64_t key = ds4_rng_key(1, "tokens", 0);
    for (uint32_t i = 0; i < n; i++) token[i] = (int32_t)ds4_rng_below(key, i, n_vocab);
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    test_ok(ds4_session_new(&s, e, p, n, 64, &err), &err);
    if (l) ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = l});
    test_ok(ds4_session_eval(s, token, n_prefill, DS4_PREFILL, &err), &err);
    test_ok(ds4_session_eval(s, token + n_prefill, n - n_prefill, DS4_DECODE, &err), &err);
    memcpy(logits, ds4_session_logits(s), n_vocab * sizeof *logits);
    ds4_session_free(s);
    ds4_plan_free(p);
}

static void check_life(const ds4_make_options *o, uint32_t n_tok) {
    static float base[512], other[512];
    life l = {.n_layer = o->shape.n_layer};
    double sum = 0.0, square = 0.0;
    for (uint32_t il = 0; il < DS4_MAX_LAYER; il++) l.least_rms[il] = (double)INFINITY;
    write_model(o, file_in_dir("a.gguf"));
    ds4_engine *e = test_engine("ref", file_in_dir("a.gguf"));
    run_tokens(e, n_tok, n_tok, base, &l);
    run_tokens(e, n_tok / 2, n_tok, other, NULL);
    assert_memory_equal(base, other, sizeof base);
    for (uint32_t i = 0; i < 512; i++) {
        double x = (double)base[i];
        assert_true(isfinite(x));
        sum += x / 512, square += x * x / 512;
    }
    double std = sqrt(square - sum * sum);
    print_message("%s, %u layers%s: logits std %.3f; state rms", o->quant, l.n_layer,
                  o->share_layers ? ", shared" : "", std);
    for (uint32_t il = 0; il < l.n_layer; il++)
        print_message(" %.2f-%.2f", l.least_rms[il], l.most_rms[il]);
    print_message("\n");
    assert_int_equal(l.n_bad, 0);
    assert_true(std > 0.1 && std < 30.0);
    assert_true(l.least_rms[l.n_layer - 1] > 1e-3 && l.most_rms[l.n_layer - 1] < 1e3);
    ds4_engine_close(e);
}

static void test_make_tiny_computes_sane_numbers(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 1, false);
    check_life(&o, N_TOK);
    o = options("tiny", "q4k", 2, false);
    check_life(&o, N_TOK);
    o = options("tiny", "q4k", 3, true);
    check_life(&o, N_TOK);
}

/* As deep as the real model. */
static void test_make_deep_model_stays_sane(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 4, true);
    o.shape.n_layer = 43;
    check_life(&o, N_TOK_DEEP);
}

/* ---- refusals ---- */

static const struct {
    const char *dim;
    uint64_t value;
    const char *message;
} refused[] = {
    {"width", 100, "dimension width is 100, wanted a multiple of 256 from 256 to 65536"},
    {"width", 0, "dimension width is 0"},
    {"width", UINT64_MAX, "dimension width is 18446744073709551615"},
    {"width", (1ull << 32) + 256, "dimension width is 4294967552"},
    {"layers", 257, "dimension layers is 257, wanted 1 to 256"},
    {"vocab", 278, "dimension vocab is 278, wanted 279 to 4194304"},
    {"idx-width", 64, "dimension idx-width is 64, wanted 128"},
    {"streams", 2, "dimension streams is 2, wanted 4"},
    {"frob", 1, "\"frob\" is no dimension"},
    {"head-width", 100, "dimension head-width is 100, wanted rotary, 64, and a positive"},
    {"rotary", 126, "dimension head-width is 192, wanted rotary, 126, and"},
    {"groups", 3, "dimension groups is 3, wanted a divisor of heads, 4"},
    {"o-rank", 7, "dimension o-rank is 7, wanted one that times groups, 2, is"},
    {"used", 9, "dimension used is 9, wanted at most experts, 8"},
    {"hash-layers", 7, "dimension hash-layers is 7, wanted at most layers, 6"},
};

static void test_make_refuses_shapes_that_do_not_load(void **state) {
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        ds4_err err = {0};
        ds4_make *m = NULL;
        ds4_make_options o = options("tiny", "q2", 1, false);
        uint32_t width = o.shape.n_embd;
        ds4_status st = ds4_make_set(&o.shape, refused[i].dim, refused[i].value, &err);
        if (st == DS4_OK) st = ds4_make_new(&m, &o, &err);
        else assert_int_equal(o.shape.n_embd, width);
        assert_null(m);
        assert_int_equal(st, DS4_ERR_USAGE);
        if (!strstr(err.message, refused[i].message))
            fail_msg("'%s' lacks '%s'", err.message, refused[i].message);
    }
}

static void test_make_refuses_unknown_names(void **state) {
    (void)state;
    ds4_err err = {0};
    ds4_config c;
    ds4_make *m = NULL;
    ds4_make_options o = options("tiny", "q3", 1, false);
    assert_int_equal(ds4_make_shape(&c, "huge", &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "shape is \"huge\", wanted tiny, small or flash"));
    assert_int_equal(ds4_make_new(&m, &o, &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "quant is \"q3\", wanted q2 or q4k"));
}

/* ---- the writer ---- */

static void assert_no_file(const char *name) {
    char partial[160];
    snprintf(partial, sizeof partial, "%s.partial", name);
    assert_int_not_equal(access(name, F_OK), 0);
    assert_int_not_equal(access(partial, F_OK), 0);
}

static void test_write_without_place_leaves_nothing(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 1, false);
    ds4_err err;
    ds4_make *m = layout(&o);
    assert_int_equal(ds4_make_write(m, file_in_dir("none/x.gguf"), NULL, NULL, &err),
                     DS4_ERR_IO);
    assert_non_null(strstr(err.message, "cannot create"));
    ds4_make_free(m);

    /* A disk that ends: the limit on the size of a file acts like one. */
    const char *path = file_in_dir("full.gguf");
    struct rlimit old, few;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
    few = old, few.rlim_cur = 100000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &few), 0);
    m = layout(&o);
    ds4_status st = ds4_make_write(m, path, NULL, NULL, &err);
    ds4_make_free(m);
    setrlimit(RLIMIT_FSIZE, &old);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(st, DS4_ERR_IO);
    assert_no_file(path);
}

static bool stop_half_way(void *user, uint64_t done, uint64_t all) {
    (void)user;
    return done < all / 2;
}

static void test_write_stopped_leaves_nothing(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 1, false);
    ds4_err err;
    const char *path = file_in_dir("stopped.gguf");
    ds4_make *m = layout(&o);
    assert_int_equal(ds4_make_write(m, path, stop_half_way, NULL, &err), DS4_ERR_CANCELLED);
    ds4_make_free(m);
    assert_no_file(path);
}

static void test_writer_tensors_overlap_and_gaps_are_zero(void **state) {
    (void)state;
    ds4_err err;
    ds4_gguf_writer *w = NULL;
    const ds4_quant *q = ds4_quant_by_id(DS4_QUANT_F32);
    const uint64_t ne[] = {16};
    uint8_t data[128];
    for (int i = 0; i < 128; i++) data[i] = (uint8_t)i;
    test_ok(ds4_gguf_writer_new(&w, &err), &err);
    ds4_gguf_put_tensor(w, "a", q, ne, 1, 0);
    ds4_gguf_put_tensor(w, "b", q, ne, 1, 32);
    ds4_gguf_put_tensor(w, "c", q, ne, 1, 192);
    assert_int_equal(ds4_gguf_writer_data(w, 0, data, 1, &err), DS4_ERR_INTERNAL);
    test_ok(ds4_gguf_writer_begin(w, file_in_dir("w.gguf"), 256, &err), &err);
    test_ok(ds4_gguf_writer_data(w, 0, data, 96, &err), &err);
    assert_int_equal(ds4_gguf_writer_data(w, 95, data, 1, &err), DS4_ERR_INTERNAL);
    assert_int_equal(ds4_gguf_writer_data(w, 255, data, 2, &err), DS4_ERR_INTERNAL);
    assert_int_not_equal(access(file_in_dir("w.gguf"), F_OK), 0);
    test_ok(ds4_gguf_writer_data(w, 200, data, 8, &err), &err);
    test_ok(ds4_gguf_writer_end(w, &err), &err);
    ds4_gguf_writer_free(w);

    ds4_gguf *g = open_model(file_in_dir("w.gguf"));
    assert_memory_equal(ds4_gguf_find_tensor(g, "a")->data, data, 64);
    assert_memory_equal(ds4_gguf_find_tensor(g, "b")->data, data + 32, 64);
    const uint8_t *c = ds4_gguf_find_tensor(g, "c")->data;
    for (int i = 0; i < 64; i++) assert_int_equal(c[i], i < 8 || i >= 16 ? 0 : i - 8);
    ds4_gguf_close(g);

    test_ok(ds4_gguf_writer_new(&w, &err), &err);
    ds4_gguf_put_tensor(w, "a", q, ne, 1, 8);
    assert_int_equal(ds4_gguf_writer_begin(w, file_in_dir("x.gguf"), 256, &err),
                     DS4_ERR_INTERNAL);
    ds4_gguf_writer_free(w);
    assert_no_file(file_in_dir("x.gguf"));
}

static void test_make_survives_failing_allocations(void **state) {
    (void)state;
    ds4_make_options o = options("tiny", "q2", 1, false);
    ds4_status st = DS4_ERR_MEMORY;
    for (long k = 1; st != DS4_OK; k++) {
        ds4_err err;
        ds4_make *m = NULL;
        ds4_mem_fail_after(k);
        st = ds4_make_new(&m, &o, &err);
        if (st == DS4_OK) st = ds4_make_write(m, file_in_dir("m.gguf"), NULL, NULL, &err);
        ds4_mem_fail_after(0);
        ds4_make_free(m);
        if (st != DS4_OK) {
            assert_int_equal(st, DS4_ERR_MEMORY);
            assert_no_file(file_in_dir("m.gguf"));
        }
        assert_true(k < 1000);
    }
}

/* ---- set-up ---- */

static int set_up(void **state) {
    (void)state;
    return mkdtemp(dir) ? 0 : -1;
}

static int tear_down(void **state) {
    (void)state;
    static const char *const names[] = {"a.gguf", "b.gguf", "w.gguf", "m.gguf"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) unlink(file_in_dir(names[i]));
    return rmdir(dir);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rng_bell_has_the_stated_moments),
        cmocka_unit_test(test_rng_streams_differ_by_seed_name_and_row),
        cmocka_unit_test(test_make_same_seed_gives_same_bytes),
        cmocka_unit_test(test_make_tiny_has_the_pinned_digest),
        cmocka_unit_test(test_make_rows_alone_equal_the_file),
        cmocka_unit_test(test_make_shared_layers_all_differ),
        cmocka_unit_test(test_make_flash_fits_and_keeps_the_alignment),
        cmocka_unit_test(test_make_every_shape_loads),
        cmocka_unit_test(test_make_weights_have_the_stated_distribution),
        cmocka_unit_test(test_make_hash_rows_hold_distinct_experts),
        cmocka_unit_test(test_make_tiny_computes_sane_numbers),
        cmocka_unit_test(test_make_deep_model_stays_sane),
        cmocka_unit_test(test_make_refuses_shapes_that_do_not_load),
        cmocka_unit_test(test_make_refuses_unknown_names),
        cmocka_unit_test(test_write_without_place_leaves_nothing),
        cmocka_unit_test(test_write_stopped_leaves_nothing),
        cmocka_unit_test(test_writer_tensors_overlap_and_gaps_are_zero),
        cmocka_unit_test(test_make_survives_failing_allocations),
    };
    return cmocka_run_group_tests_name("make", tests, set_up, tear_down);
}
