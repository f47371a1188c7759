/* The plan `compat` against an existing CPU engine in every bit, and its parts against the
 * known answers of model.md, appendix C (C.1 to C.3 and the values of C.8 and C.9 are in
 * tests/test_float.c and tests/test_quant.c). Bits depend on the C library: the data come from
 * one built with glibc 2.36 (fixtures/vectors/README.md). */
#include <gnu/libc-version.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/format/quant.h"
#include "engine/model/rope_freq.h"
#include "engine/ref/compat.h"
#include "tests/support.h"

static const char model[] = "fixtures/vectors/peer/tiny-a-calm.gguf";

enum { N_TOK = 288, N_VOCAB = 1024 };

/* ---- whole evaluations ---- */

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    return tap == DS4_TAP_logits;
}

static bool see(void *user, const ds4_tap_event *e) {
    memcpy((float *)user + (size_t)e->pos0 * e->n_col, e->data,
           (size_t)e->n_row * e->n_col * sizeof(float));
    return true;
}

/* Logits of every position under `compat`, then `edit` (or NULL), in batches of n_chunk
 * (0: one token at a time, as decode). Owns: the caller frees. */
static float *evaluate(ds4_engine *e, const int32_t *token, const char *edit,
                       uint32_t n_chunk) {
    float *logits = malloc((size_t)N_TOK * N_VOCAB * sizeof *logits);
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    ds4_err err;
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_plan_named(plan, "compat", &err), &err);
    if (edit) test_ok(ds4_plan_edit(plan, edit, &err), &err);
    test_ok(ds4_session_new(&s, e, plan, N_TOK, n_chunk ? n_chunk : 1, &err), &err);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = logits});
    test_ok(ds4_session_eval(s, token, N_TOK, n_chunk ? DS4_PREFILL : DS4_DECODE, &err), &err);
    ds4_session_free(s);
    ds4_plan_free(plan);
    return logits;
}

static int by_value(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

typedef struct agreement {
    uint32_t n_equal, first; /* positions with the same bits; the first without (N_TOK: none) */
    double median, most;     /* of the positions' rms of logit differences */
} agreement;

static agreement agree(const float *a, const float *b) {
    agreement r = {0, N_TOK, 0.0, 0.0};
    double rms[N_TOK];
    for (uint32_t t = 0; t < N_TOK; t++, a += N_VOCAB, b += N_VOCAB) {
        bool same = !memcmp(a, b, N_VOCAB * sizeof *a);
        double s = 0.0;
        for (uint32_t i = 0; i < N_VOCAB; i++)
            s += ((double)a[i] - (double)b[i]) * ((double)a[i] - (double)b[i]);
        rms[t] = sqrt(s / N_VOCAB);
        r.n_equal += same;
        if (!same && r.first == N_TOK) r.first = t;
    }
    qsort(rms, N_TOK, sizeof *rms, by_value);
    r.median = rms[N_TOK / 2], r.most = rms[N_TOK - 1];
    return r;
}

static float *read_peer(void) {
    size_t n;
    char *p = test_read_file("fixtures/vectors/peer/act8.strict.logits.f32", &n);
    assert_int_equal(n, (size_t)N_TOK * N_VOCAB * sizeof(float));
    return (float *)(void *)p;
}

static void test_peer_logits_have_the_same_bits(void **state) {
    (void)state;
    int32_t *token;
    ds4_engine *e = test_engine("ref", model);
    assert_int_equal(test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token), N_TOK);
    float *want = read_peer(), *got = evaluate(e, token, NULL, 64);
    agreement r = agree(got, want);
    print_message("  %u of %d positions have the peer's bits; rms median %.3g max %.3g",
                  r.n_equal, N_TOK, r.median, r.most);
    if (r.first < N_TOK) print_message("; first difference at position %u", r.first);
    print_message(" (glibc %s)\n", gnu_get_libc_version());
    /* Another C library may round its functions otherwise: then as the peer's own two builds
     * (manifest.json, "act8: default vs strict"). */
    if (strcmp(gnu_get_libc_version(), "2.36")) assert_true(r.median <= 2.8e-2);
    else assert_int_equal(r.n_equal, N_TOK);
    free(want), free(got), free(token);
    ds4_engine_close(e);
}

/* model.md 4.1: any split into batches, any number of threads. */
static void test_chunks_threads_and_decode_give_the_same_bits(void **state) {
    (void)state;
    static const uint32_t chunk[] = {1, 7, 64, N_TOK};
    int32_t *token;
    ds4_engine *e = test_engine("ref", model), *three = NULL;
    ds4_err err;
    ds4_engine_options options = {.engine = "ref", .device = -1, .n_thread = 3};
    test_ok(ds4_engine_open(&three, model, &options, &err), &err);
    test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token);
    float *want = evaluate(e, token, NULL, 0);
    for (size_t i = 0; i < sizeof chunk / sizeof *chunk; i++) {
        float *got = evaluate(i % 2 ? three : e, token, NULL, chunk[i]);
        agreement r = agree(got, want);
        if (r.n_equal != N_TOK)
            fail_msg("chunks of %u differ from decode at position %u", chunk[i], r.first);
        free(got);
    }
    free(want), free(token);
    ds4_engine_close(three);
    ds4_engine_close(e);
}

/* The comparison can fail: one projection of one layer summed in another order, one bit. */
static void test_planted_changes_are_found(void **state) {
    (void)state;
    int32_t *token;
    ds4_engine *e = test_engine("ref", model);
    test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token);
    float *want = read_peer(), *got = evaluate(e, token, "attn_hc_mix@0=strict", 64);
    agreement r = agree(got, want);
    print_message("  one sum of layer 0 in 16 lanes: %u positions equal, rms median %.3g\n",
                  r.n_equal, r.median);
    assert_true(r.n_equal < N_TOK / 2 && r.median > 1e-4);
    memcpy(got, want, (size_t)N_TOK * N_VOCAB * sizeof *got);
    float *one = got + (size_t)100 * N_VOCAB + 17;
    *one = ds4_f32_from_bits(ds4_f32_bits(*one) ^ 1u);
    r = agree(got, want);
    assert_true(r.n_equal == N_TOK - 1 && r.first == 100);
    free(want), free(got), free(token);
    ds4_engine_close(e);
}

/* ---- rows against strict ---- */

/* Stands before the engine's own call: every compat call is also made by strict, on the same
 * inputs, and the outputs are compared. */
static struct {
    const ds4_backend_ops *real;
    double diff[DS4_OP_COUNT], size[DS4_OP_COUNT]; /* sums of squares */
    uint64_t n_call[DS4_OP_COUNT];
    float *a, *b;
} spy;

static ds4_status spy_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_op op = ds4_tap_table[c->tap].op;
    size_t bytes = (size_t)c->n_elem * sizeof(float);
    ds4_buf *out = c->bind[c->n_bind - 1];

    spy.n_call[op]++;
    assert_int_equal(!strcmp(spy.real->row(b, op, row)->name, "compat"),
                     ds4_ref_row_find(op, "compat") != NULL);
    if (!row) return spy.real->call(b, c, row, err);
    spy.a = realloc(spy.a, bytes), spy.b = realloc(spy.b, bytes);
    test_ok(spy.real->call(b, c, 0, err), err);
    test_ok(spy.real->buf_read(b, out, 0, spy.a, bytes, err), err);
    test_ok(spy.real->call(b, c, row, err), err);
    test_ok(spy.real->buf_read(b, out, 0, spy.b, bytes, err), err);
    for (uint64_t i = 0; i < c->n_elem; i++) {
        double x = (double)spy.a[i], y = (double)spy.b[i];
        if (x < -1e29 && y < -1e29) continue; /* scores of rows that a token may not see */
        spy.diff[op] += (x - y) * (x - y), spy.size[op] += x * x;
    }
    return DS4_OK;
}

static void test_rows_keep_their_bounds(void **state) {
    (void)state;
    int32_t *token;
    ds4_engine *e = test_engine("ref", model);
    ds4_backend *b = ds4_engine_backend(e);
    ds4_backend_ops ops = *b->ops;
    spy.real = b->ops, ops.call = spy_call, b->ops = &ops;
    test_read_tokens("fixtures/vectors/peer/tiny-a.tokens", &token);
    free(evaluate(e, token, NULL, 64));
    b->ops = spy.real;
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        const ds4_ref_row *row = ds4_ref_row_find((ds4_op)op, "compat");
        double bound, nrmse = sqrt(spy.diff[op] / spy.size[op]);
        if (!row) continue;
        assert_int_equal(sscanf(row->info.bound, "NRMSE(%lf)", &bound), 1);
        print_message("  %-14s %4llu calls, nrmse %.2g of %.0e  %s\n", ds4_op_table[op].name,
                      (unsigned long long)spy.n_call[op], nrmse, bound, row->info.cause);
        assert_true(spy.n_call[op] > 0 && nrmse <= bound);
    }
    free(spy.a), free(spy.b), free(token);
    ds4_engine_close(e);
}

/* ---- known answers of model.md, appendix C ---- */

static float X(int i) { return (float)((7919 * i) % 257 - 128) / 64.0f; }

static void fill(float *x, int n) {
    for (int i = 0; i < n; i++) x[i] = X(i);
}

/* want as printed there: `step` is one unit of its last digit. */
static void near_print(double got, double want, double step, const char *what, int i) {
    if (!(fabs(got - want) <= 0.51 * step))
        fail_msg("%s %d: found %.9g, wanted %.9g", what, i, got, want);
}

static void test_fp8_matches_c4(void **state) {
    (void)state;
    static const float want[] = {-2.0f, 1.25f, 0.5f, -0.234375f, -1.0f, -1.75f, 1.5f, 0.75f};
    static const double small[] = {-1.93715096e-07, 1.1920929e-07, 5.21540642e-08};
    float x[64], y[64], sum = 0.0f;
    fill(x, 64);
    ds4_compat_fp8(y, x);
    for (int i = 0; i < 8; i++) assert_true(y[i] == want[i]);
    for (int i = 0; i < 64; i++) sum += y[i];
    assert_true(sum == -1.9375f);
    for (int i = 0; i < 64; i++) x[i] = 1e-7f * X(i);
    ds4_compat_fp8(y, x);
    for (int i = 0; i < 3; i++) near_print((double)y[i], small[i], 1e-15, "C.4 small", i);
}

static void test_index_round_matches_c5(void **state) {
    (void)state;
    static const float head[] = {0, 0, -2, -1, -1, -4, 1, -1}, tail[] = {0, -1, -1, 1};
    float x[128], y[128], sum = 0.0f, square = 0.0f;
    struct ds4_args_index_round a = {1, 0};
    ds4_ref_call c = {.args = &a, .bind = {x, y}};
    fill(x, 128);
    ds4_compat_index_round(&c, (ds4_box){0, 1, 0, 1});
    for (int i = 0; i < 8; i++) assert_true(y[i] == head[i]);
    for (int i = 0; i < 4; i++) assert_true(y[64 + i] == tail[i]);
    for (int i = 0; i < 128; i++) sum += y[i], square += y[i] * y[i];
    assert_true(sum == -19.5625f && square == 138.14453125f);
}

static void test_activation_codes_match_c6_c7(void **state) {
    (void)state;
    static const int8_t code[] = {-127, 80,  33,  -15, -63, -110, 97,  50,
                                  2,    -46, -93, 114, 66,  19,   -29, -76};
    static const int16_t sums[] = {-98, -50, -2,  46,  94,  -115, -67, -19,
                                   29,  77,  124, -84, -36, 12,   60,  108};
    float x[256];
    int8_t q[256];
    int16_t sum[16];
    fill(x, 256);
    near_print((double)ds4_compat_a8(q, x), 0.0157480314, 1e-10, "C.6 scale", 0);
    assert_memory_equal(q, code, sizeof code);
    near_print((double)ds4_compat_q8k(q, sum, x), 0.0157480314, 1e-10, "C.7 scale", 0);
    assert_memory_equal(q, code, sizeof code);
    assert_memory_equal(sum, sums, sizeof sums);
    memset(x, 0, sizeof x);
    assert_true(ds4_compat_a8(q, x) == 0.0f && ds4_compat_q8k(q, sum, x) == 0.0f);
    for (int i = 0; i < 256; i++) assert_int_equal(q[i], 0);
}

/* One row of n elements against x. */
static float one_dot(uint32_t wtype, void *row, float *x, uint32_t n) {
    float y = 0.0f;
    struct ds4_args_matmul a = {1, n, 1, 0, n, 1};
    ds4_ref_call c = {.args = &a, .bind = {row, x, &y}, .wtype = wtype};
    ds4_compat_matmul(&c, (ds4_box){0, 1, 0, 1});
    return y;
}

static void test_block_dots_match_c8_c9(void **state) {
    (void)state;
    uint8_t iq2[66] = {0x00, 0x2c}, q2[84] = {0};
    float x[256];
    fill(x, 256);
    for (int k = 0; k < 64; k++) iq2[2 + k] = (uint8_t)(37 * k + 11);
    assert_true(one_dot(DS4_QUANT_IQ2_XXS, iq2, x, 256) == -132.796875f);
    for (int j = 0; j < 16; j++) q2[j] = (uint8_t)(53 * j + 7);
    for (int k = 0; k < 64; k++) q2[16 + k] = (uint8_t)(29 * k + 3);
    q2[81] = 0x24, q2[83] = 0x20;
    near_print((double)one_dot(DS4_QUANT_Q2_K, q2, x, 256), 4.07923222, 1e-8, "C.9", 0);
}

/* Every format: the integer dot is the decoded row times the decoded activations. */
static void test_block_dots_are_those_of_decoded_operands(void **state) {
    (void)state;
    static const uint32_t types[] = {DS4_QUANT_Q8_0, DS4_QUANT_IQ2_XXS, DS4_QUANT_Q2_K,
                                     DS4_QUANT_Q4_K};
    /* Where the half scales of a block stand: their upper bytes are kept small. */
    static const int scale_at[][2] = {{1, 1}, {1, 1}, {81, 83}, {1, 3}};
    enum { N = 512 };
    uint8_t row[N / 32 * 34];
    float x[N], w[N];
    int8_t q[256];
    int16_t sum[16];
    uint32_t seed = 1;
    for (int k = 0; k < 4; k++) {
        const ds4_quant *f = ds4_quant_by_id(types[k]);
        for (size_t i = 0; i < sizeof row; i++)
            row[i] = (uint8_t)((seed = seed * 1664525u + 1013904223u) >> 24);
        for (uint32_t b = 0; b < N / f->n_elem; b++)
            for (int s = 0; s < 2; s++) row[b * f->n_bytes + (uint32_t)scale_at[k][s]] = 0x21;
        for (int i = 0; i < N; i++)
            x[i] = (float)(int32_t)(seed = seed * 1664525u + 1013904223u) * 0x1p-31f;
        f->decode(w, row, N / f->n_elem);
        double want = 0.0, size = 0.0;
        for (int b = 0; b < N; b += (int)f->n_elem) {
            double s = types[k] == DS4_QUANT_Q8_0 ? (double)ds4_compat_a8(q, x + b)
                                                  : (double)ds4_compat_q8k(q, sum, x + b);
            for (int i = 0; i < (int)f->n_elem; i++) {
                double p = (double)w[b + i] * s * q[i];
                want += p, size += fabs(p);
            }
        }
        double got = (double)one_dot(types[k], row, x, N);
        if (!(fabs(got - want) <= 1e-6 * size) || !(size > 0.0))
            fail_msg("%s: found %.9g, wanted %.9g", f->name, got, want);
    }
}

static void test_hc_split_matches_c10(void **state) {
    (void)state;
    static const double want[24] = {
        0.0521546, 0.2058714, 0.5498350, 0.8519537, 0.7240126, 0.4689067, 1.2913126, 0.2349282,
        0.2356626, 0.3154349, 0.4069439, 0.0419576, 0.3037247, 0.4065364, 0.2356625, 0.0540754,
        0.1969688, 0.2636428, 0.1528299, 0.3865574, 0.2636429, 0.0143848, 0.2045626, 0.5174086};
    /* Weights as stored stand behind the flushed ones, which are not read. */
    float mix[24], base[48] = {0}, scale[6] = {0, 0, 0, 0.9f, 1.1f, 0.8f}, y[24];
    struct ds4_args_hc_split a = {1, 20, 1e-6f};
    ds4_ref_call c = {.args = &a, .bind = {mix, scale, base, y}};
    for (int k = 0; k < 24; k++) {
        mix[k] = (float)(7 * k % 24 - 12) / 6.0f;
        base[24 + k] = (float)(5 * k % 24 - 11) / 10.0f;
    }
    ds4_compat_hc_split(&c, (ds4_box){0, 1, 0, 1});
    for (int k = 0; k < 24; k++) near_print((double)y[k], want[k], 1e-7, "C.10", k);
    for (int b = 0; b < 4; b++) { /* D.2 */
        double sum = 0.0;
        for (int r = 0; r < 4; r++) sum += (double)y[8 + 4 * r + b];
        assert_true(fabs(sum - 1.0) <= 1e-5);
    }
}

/* 3.8, step 4 a: gates that are all NEG give 0; one that is not takes all the weight. */
static void test_pool_without_a_gate_is_zero(void **state) {
    (void)state;
    enum { D = 3, RHO = 5 };
    float kv[RHO * D], gate[RHO * D], y[D];
    struct ds4_args_softmax_pool a = {1, D, RHO, 1, 0, RHO};
    ds4_ref_call c = {.args = &a, .bind = {kv, gate, y}};
    for (int i = 0; i < RHO * D; i++) kv[i] = X(i + 1), gate[i] = DS4_NEG;
    gate[2 * D + 1] = 0.5f * DS4_NEG; /* still none */
    gate[3 * D + 2] = -7.0f;
    ds4_compat_softmax_pool(&c, (ds4_box){0, D, 0, 1});
    assert_true(y[0] == 0.0f && y[1] == 0.0f && y[2] == kv[3 * D + 2]);
}

/* cos and sin of every pair of 64 at a position, from the input (1, 0). */
static void rotate(float *y, bool compressed, uint32_t pos) {
    static const ds4_config cfg = {.n_rot = 64,
                                   .rope_base = 10000.0,
                                   .rope_base_comp = 160000.0,
                                   .yarn_factor = 16.0,
                                   .yarn_beta_fast = 32.0,
                                   .yarn_beta_slow = 1.0,
                                   .yarn_n_ctx = 65536};
    uint32_t freq[DS4_ROPE_N_WORD(64)];
    float x[64];
    for (int i = 0; i < 64; i++) x[i] = i % 2 ? 0.0f : 1.0f;
    ds4_rope_freq(freq, &cfg, compressed, false);
    ds4_rope_constants(freq + 64, &cfg, compressed);
    struct ds4_args_rope a = {1, 1, 64, 64, pos, 1, 0};
    ds4_ref_call c = {.args = &a, .bind = {x, freq, y}};
    ds4_compat_rope(&c, (ds4_box){0, 1, 0, 1});
}

static void test_rope_matches_c11(void **state) {
    (void)state;
    static const struct {
        int k;
        double cs[2], sn[2]; /* plain, compressed */
    } want[] = {
        {0, {0.562379, 0.562379}, {0.826880, 0.826880}},
        {1, {-0.584593, -0.938435}, {0.811327, 0.345456}},
        {2, {-0.999993, -0.061117}, {0.003776, 0.998131}},
        {15, {0.718718, -0.880468}, {0.695302, -0.474106}},
        {16, {-0.839073, -0.640255}, {-0.544019, 0.768163}},
        {20, {-0.999786, 0.956225}, {-0.020683, 0.292632}},
        {24, {0.540303, 0.999809}, {0.841471, 0.019530}},
        {25, {0.731761, 0.999986}, {0.681561, 0.005372}},
        {31, {0.991122, 1.000000}, {0.132957, 0.000568}},
    };
    static const float step[] = {0.749894202f, 0.687656045f};
    for (int comp = 0; comp < 2; comp++) {
        float y[64];
        rotate(y, comp, 1000);
        for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
            int k = want[i].k;
            near_print((double)y[2 * k], want[i].cs[comp], 1e-6, "C.11 cos of pair", k);
            near_print((double)y[2 * k + 1], want[i].sn[comp], 1e-6, "C.11 sin of pair", k);
        }
        rotate(y, comp, 1); /* pair 1 turns by the step of the running product */
        assert_true(y[2] == cosf(step[comp]) && y[3] == sinf(step[comp]));
    }
}

static void test_router_prob_matches_c12(void **state) {
    (void)state;
    static const struct {
        float z;
        double p, step;
    } want[] = {
        {-25.0f, 3.7266532e-06, 1e-13},
        {-20.0f, 4.5399931e-05, 1e-12},
        {-5.0f, 0.08194723, 1e-8},
        {-1.0f, 0.55969787, 1e-8},
        {0.0f, 0.83255464, 1e-8},
        {0.5f, 0.98695338, 1e-8},
        {3.0f, 1.7460204, 1e-7},
        {19.9f, 4.4609418, 1e-7},
        {25.0f, 5.0, 1e-9},
    };
    for (int i = 0; i < (int)(sizeof want / sizeof *want); i++) {
        float z = want[i].z, p;
        struct ds4_args_router_prob a = {1};
        ds4_ref_call c = {.args = &a, .bind = {&z, &p}};
        ds4_compat_router_prob(&c, (ds4_box){0, 1, 0, 1});
        near_print((double)p, want[i].p, want[i].step, "C.12", i);
    }
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_peer_logits_have_the_same_bits),
        cmocka_unit_test(test_chunks_threads_and_decode_give_the_same_bits),
        cmocka_unit_test(test_planted_changes_are_found),
        cmocka_unit_test(test_rows_keep_their_bounds),
        cmocka_unit_test(test_fp8_matches_c4),
        cmocka_unit_test(test_index_round_matches_c5),
        cmocka_unit_test(test_activation_codes_match_c6_c7),
        cmocka_unit_test(test_block_dots_match_c8_c9),
        cmocka_unit_test(test_block_dots_are_those_of_decoded_operands),
        cmocka_unit_test(test_hc_split_matches_c10),
        cmocka_unit_test(test_pool_without_a_gate_is_zero),
        cmocka_unit_test(test_rope_matches_c11),
        cmocka_unit_test(test_router_prob_matches_c12),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
