/* SIMD paths of the reference: every path that this CPU runs gives the scalar reference's bits,
 * for every weight format, at shapes short of, at and past each tile, in any split. */
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/ds4.h"
#include "engine/format/quant.h"
#include "engine/ref/ref.h"
#include "engine/ref/simd_paths.h"
#include "tests/support.h"

/* The template at sixteen floats a vector, without the instructions: what the path avx512 is
 * but for its eight one-line primitives, so that its tiles and planes are tested on every
 * machine. The compiler splits such vectors. */
typedef float v16f __attribute__((vector_size(64)));
typedef int32_t v16i __attribute__((vector_size(64)));
#define W 16
#define V v16f
#define VI v16i
#define PATH emulated16
#define PATH_NAME "emulated16"
static inline V v_set1(float x) {
    V v;
    for (int i = 0; i < W; i++) v[i] = x;
    return v;
}
static inline V v_ld(const float *p) { return *(const V *)p; }
static inline void v_st(float *p, V v) { *(V *)p = v; }
static inline VI v_i8(const uint8_t *p) {
    VI v;
    for (int i = 0; i < W; i++) v[i] = (int8_t)p[i];
    return v;
}
static inline VI v_u8(const uint8_t *p) {
    VI v;
    for (int i = 0; i < W; i++) v[i] = p[i];
    return v;
}
static inline VI v_and(VI v, int mask) { return v & mask; }
static inline VI v_shr(VI v, uint32_t n) { return v >> (int)n; }
static inline V v_float(VI v) { return __builtin_convertvector(v, V); }
static inline V v_f16(const uint8_t *p) {
    V v;
    for (int i = 0; i < W; i++) v[i] = ds4_f16_to_f32(ds4_le16(p + 2 * i));
    return v;
}
static inline float f_half(const uint8_t *p) { return ds4_f16_to_f32(ds4_le16(p)); }
static bool path_runs(void) { return true; }
extern const ds4_simd emulated16;
#include "engine/ref/simd_kernel.h"

#define MAX_OUT 40
#define MAX_TOK 100
#define MAX_IN 2560
#define GUARD 16

static const ds4_simd *path[8];
static uint32_t n_path;

/* Weights of one call: any bytes, but scales are finite halves, subnormal ones among them. */
static void fill_weights(uint8_t *w, size_t n, uint32_t wtype, uint64_t key) {
    static const struct {
        uint32_t wtype, block, at[2];
    } scales[] = {{DS4_QUANT_F16, 2, {0, 0}},
                  {DS4_QUANT_Q8_0, 34, {0, 0}},
                  {DS4_QUANT_Q2_K, 84, {80, 82}},
                  {DS4_QUANT_Q4_K, 144, {0, 2}},
                  {DS4_QUANT_IQ2_XXS, 66, {0, 0}}};

    for (size_t i = 0; i < n; i++) w[i] = (uint8_t)ds4_rng_u64(key, i);
    for (size_t s = 0; s < sizeof scales / sizeof *scales; s++)
        for (size_t b = 0; scales[s].wtype == wtype && b < n; b += scales[s].block)
            for (int k = 0; k < 2; k++) {
                uint8_t *top = w + b + scales[s].at[k] + 1;
                if ((*top & 0x7c) == 0x7c)
                    *top ^= 0x40; /* an infinity or NaN becomes a number */
                if (ds4_rng_below(key + 1, b, 8) == 0) *top &= 0x83; /* a subnormal or zero */
            }
}

/* F32 and BF16 have no scale: magnitudes of ordinary numbers, and some below the flush. */
static void fill_plain(uint8_t *w, size_t n_elem, uint32_t wtype, uint64_t key) {
    for (size_t i = 0; i < n_elem; i++) {
        float v =
            (float)ds4_rng_bell(key, i) * (ds4_rng_below(key + 1, i, 9) ? 0x1p-9f : 0x1p-70f);
        uint32_t u = ds4_f32_bits(v);
        if (wtype == DS4_QUANT_F32) memcpy(w + 4 * i, &u, 4);
        else w[2 * i] = (uint8_t)(u >> 16), w[2 * i + 1] = (uint8_t)(u >> 24);
    }
}

/* Inputs as ops store them: nothing between 0 and 2^-51. */
static void fill_input(float *x, size_t n, uint64_t key) {
    for (size_t i = 0; i < n; i++) {
        float v = (float)ds4_rng_bell(key, i) * 0x1p-8f;
        uint32_t kind = ds4_rng_below(key + 1, i, 16);
        x[i] = ds4_fz(kind == 0   ? 0.0f
                      : kind == 1 ? v * 0x1p-40f
                      : kind == 2 ? v * 0x1p20f
                                  : v);
    }
}

typedef struct shape {
    uint32_t wtype, n_tok, n_in, n_out, group_rows;
    bool half;
} shape;

static uint8_t weights[4 * MAX_IN * MAX_OUT];
static float input[MAX_TOK * MAX_IN * 2], want[MAX_TOK * MAX_OUT],
    packed_mem[MAX_TOK * 3 * MAX_IN];
static float got[MAX_TOK * MAX_OUT + 2 * GUARD];

static void check_bits(const shape *s, const char *name, const float *y, size_t n) {
    for (size_t i = 0; i < n; i++)
        if (ds4_f32_bits(y[i]) != ds4_f32_bits(want[i]))
            fail_msg(
                "%s: wtype %u n_tok %u n_in %u n_out %u group_rows %u half %d: element %zu is "
                "%a, scalar %a",
                name, s->wtype, s->n_tok, s->n_in, s->n_out, s->group_rows, s->half, i,
                (double)y[i], (double)want[i]);
}

static float *packed_at(void) {
    return (float *)(((uintptr_t)packed_mem + 63) & ~(uintptr_t)63);
}

/* The call by every path, in one box and in four, between guards. */
static void check_call(const shape *s, ds4_op op, ds4_ref_call *c, int out, uint32_t nx,
                       uint32_t ny) {
    const ds4_simd_op *run = ds4_simd_find_op(op);
    size_t n = (size_t)nx * ny;

    c->bind[out] = want;
    ds4_op_reference(op, c, (ds4_box){0, nx, 0, ny});
    for (uint32_t p = 0; p < n_path; p++)
        for (int split = 0; split < 2; split++) {
            uint32_t xs[] = {0, split ? nx / 3 : nx, nx},
                     ys[] = {0, split ? (ny + 1) / 2 : ny, ny};
            for (size_t i = 0; i < n + 2 * GUARD; i++) got[i] = 777.0f;
            c->bind[out] = got + GUARD;
            assert_true(run->n_packed(c->args) + 16 <= sizeof packed_mem / sizeof *packed_mem);
            run->pack(path[p], c, packed_at());
            for (int i = 0; i < 2; i++)
                for (int k = 0; k < 2; k++)
                    if (xs[i] < xs[i + 1] && ys[k] < ys[k + 1])
                        run->run(path[p], c, packed_at(),
                                 (ds4_box){xs[i], xs[i + 1], ys[k], ys[k + 1]});
            check_bits(s, path[p]->name, got + GUARD, n);
            for (int g = 0; g < GUARD; g++) {
                assert_true(got[g] == 777.0f);
                assert_true(got[GUARD + n + (size_t)g] == 777.0f);
            }
        }
}

static void fill(const shape *s, size_t n_row, size_t row_bytes, size_t n_x, uint64_t key) {
    assert_true(n_row * row_bytes <= sizeof weights);
    assert_true(n_x <= sizeof input / sizeof *input);
    if (s->wtype == DS4_QUANT_F32 || s->wtype == DS4_QUANT_BF16)
        fill_plain(weights, n_row * s->n_in, s->wtype, key);
    else fill_weights(weights, n_row * row_bytes, s->wtype, key);
    fill_input(input, n_x, key + 7);
}

static void check_matmul(const shape *s) {
    const ds4_quant *q = ds4_quant_by_id(s->wtype);
    uint32_t n_group = (s->n_out + s->group_rows - 1) / s->group_rows;
    uint32_t row_bytes = s->n_in / q->n_elem * q->n_bytes;
    struct ds4_args_matmul a = {
        s->n_tok, s->n_in, s->n_out, row_bytes, n_group * s->n_in + 3, s->group_rows};
    ds4_ref_call c = {.args = &a, .bind = {weights, input}, .wtype = s->wtype, .half = s->half};

    fill(s, s->n_out, row_bytes, (size_t)s->n_tok * a.x_stride, s->n_in + 31 * s->n_tok);
    check_call(s, DS4_OP_matmul, &c, 2, s->n_out, s->n_tok);
}

/* Lengths that are no multiple of 16 where the format allows it, and one past each chunk. */
static const struct {
    uint32_t wtype, n_in[6];
} lengths[] = {
    {DS4_QUANT_F32, {1, 15, 16, 511, 513, 1030}},
    {DS4_QUANT_BF16, {1, 17, 512, 528, 1024, 1041}},
    {DS4_QUANT_F16, {1, 15, 33, 512, 528, 1037}},
    {DS4_QUANT_Q8_0, {32, 64, 480, 512, 544, 1056}},
    {DS4_QUANT_Q2_K, {256, 512, 768, 1024, 1280, 2560}},
    {DS4_QUANT_Q4_K, {256, 512, 768, 1024, 1280, 2560}},
    {DS4_QUANT_IQ2_XXS, {256, 512, 768, 1024, 1280, 2560}},
};
enum { N_FORMAT = sizeof lengths / sizeof *lengths };

static void test_matmul_every_path_equals_scalar(void **state) {
    static const uint32_t n_tok[] = {1, 2, 3, 4, 5, 6, 7, 13}, n_out[] = {1, 2, 7, 8, 9, 17};
    (void)state;
    for (int f = 0; f < N_FORMAT; f++)
        for (int i = 0; i < 6; i++)
            for (int t = 0; t < 8; t++)
                check_matmul(&(shape){lengths[f].wtype, n_tok[t], lengths[f].n_in[i],
                                      n_out[(t + i) % 6], n_out[(t + i) % 6], i % 3 == 2});
}

static void test_matmul_past_the_block_of_inputs_equals_scalar(void **state) {
    static const uint32_t n_tok[] = {47, 48, 49, 97};
    (void)state;
    for (int f = 0; f < N_FORMAT; f++)
        for (int t = 0; t < 4; t++)
            check_matmul(
                &(shape){lengths[f].wtype, n_tok[t], lengths[f].n_in[4], 11, 11, t == 1});
}

static void test_matmul_groups_equal_scalar(void **state) {
    (void)state;
    for (int f = 0; f < N_FORMAT; f++)
        for (uint32_t t = 1; t < 8; t += 3) {
            check_matmul(&(shape){lengths[f].wtype, t, lengths[f].n_in[2], 24, 8, false});
            check_matmul(&(shape){lengths[f].wtype, t, lengths[f].n_in[2], 21, 7, false});
        }
}

static void test_matmul_id_every_path_equals_scalar(void **state) {
    enum { MAT = 5, SLOT = 3, OUT = 9 };
    (void)state;
    for (int f = 0; f < N_FORMAT; f++)
        for (uint32_t n_tok = 1; n_tok < 12; n_tok += 5)
            for (uint32_t per_slot = 0; per_slot < 2; per_slot++) {
                shape s = {lengths[f].wtype, n_tok, lengths[f].n_in[1], OUT, OUT, false};
                const ds4_quant *q = ds4_quant_by_id(s.wtype);
                uint32_t row_bytes = s.n_in / q->n_elem * q->n_bytes;
                struct ds4_args_matmul_id a = {n_tok,     SLOT, s.n_in,  OUT,
                                               row_bytes, MAT,  per_slot};
                int32_t sel[12 * SLOT];
                ds4_ref_call c = {.args = &a, .bind = {weights, input, sel}, .wtype = s.wtype};
                for (uint32_t i = 0; i < n_tok * SLOT; i++)
                    sel[i] =
                        (int32_t)ds4_rng_below(n_tok, i, MAT - 1); /* one is never selected */
                fill(&s, MAT * OUT, row_bytes, (size_t)n_tok * SLOT * s.n_in, n_tok + per_slot);
                check_call(&s, DS4_OP_matmul_id, &c, 3, OUT, n_tok * SLOT);
            }
}

/* ---- the check can fail ---- */

static void reversed_rows(float *const *y, const float *const *x, uint32_t n_tok,
                          const uint8_t *w, size_t row_bytes, uint32_t wtype, bool half,
                          uint32_t n_row, uint32_t n) {
    float row[MAX_IN];
    for (uint32_t r = 0; r < n_row; r++) {
        ds4_row_decode(row, w + r * row_bytes, wtype, n, half);
        for (uint32_t t = 0; t < n_tok; t++) {
            float lane[16] = {0.0f};
            for (uint32_t i = n; i-- > 0;) lane[i % 16] = lane[i % 16] + row[i] * x[t][i];
            y[t][r] = ds4_fz(ds4_tree16(lane));
        }
    }
}

static void plain_pack(float *dst, const float *x, uint32_t n) {
    memcpy(dst, x, n * sizeof *x);
}
static bool always(void) { return true; }

/* Lanes that add in decreasing i give other bits at these shapes: what check_bits would find.
 */
static void test_another_order_of_sums_is_seen(void **state) {
    static const ds4_simd planted = {"planted", always, plain_pack, reversed_rows};
    shape s = {DS4_QUANT_Q8_0, 3, 512, 9, 9, false};
    struct ds4_args_matmul a = {3, 512, 9, 544, 512, 9};
    ds4_ref_call c = {.args = &a, .bind = {weights, input, want}, .wtype = s.wtype};
    uint32_t n_other = 0;
    (void)state;

    fill(&s, 9, 544, 3 * 512, 5);
    ds4_op_reference(DS4_OP_matmul, &c, (ds4_box){0, 9, 0, 3});
    c.bind[2] = got;
    const ds4_simd_op *run = ds4_simd_find_op(DS4_OP_matmul);
    run->pack(&planted, &c, packed_at());
    run->run(&planted, &c, packed_at(), (ds4_box){0, 9, 0, 3});
    for (int i = 0; i < 27; i++) n_other += ds4_f32_bits(got[i]) != ds4_f32_bits(want[i]);
    assert_true(n_other > 13);
}

/* ---- choosing ---- */

static void test_choice_of_path(void **state) {
    const ds4_simd *s = (const ds4_simd *)1;
    ds4_err err;
    (void)state;
    assert_int_equal(ds4_simd_find(&s, "scalar", &err), DS4_OK);
    assert_null(s);
    assert_int_equal(ds4_simd_find(&s, "sse9", &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "found \"sse9\", wanted one of auto, scalar"));
    for (uint32_t i = 1; i < ds4_simd_n_path(); i++) {
        ds4_status want_st = ds4_simd_path_runs(i) ? DS4_OK : DS4_ERR_ENVIRONMENT;
        assert_int_equal(ds4_simd_find(&s, ds4_simd_path_name(i), &err), want_st);
        if (want_st == DS4_OK) assert_string_equal(s->name, ds4_simd_path_name(i));
    }
    assert_int_equal(ds4_simd_find(&s, NULL, &err), DS4_OK);
}

/* Logits of a tiny model by every path, by one and by three threads. */
static void test_model_every_path_equals_scalar(void **state) {
    float *first = NULL;
    (void)state;
    for (uint32_t i = 0; i < ds4_simd_n_path(); i++)
        for (uint32_t n_thread = 1; n_thread <= 3 && ds4_simd_path_runs(i); n_thread += 2) {
            ds4_engine *e = NULL;
            ds4_plan *plan = NULL;
            ds4_session *s = NULL;
            ds4_err err = {0};
            ds4_engine_options opt = {
                .engine = "ref", .n_thread = n_thread, .simd = ds4_simd_path_name(i)};
            int32_t token[24];
            for (int t = 0; t < 24; t++) token[t] = 5 * t + 11;
            assert_int_equal(ds4_engine_open(&e, "fixtures/tiny/ds4-tiny-q2.gguf", &opt, &err),
                             DS4_OK);
            assert_int_equal(ds4_engine_plan(e, &plan, &err), DS4_OK);
            assert_int_equal(ds4_session_new(&s, e, plan, 64, 16, &err), DS4_OK);
            assert_int_equal(ds4_session_eval(s, token, 24, DS4_PREFILL, &err), DS4_OK);
            size_t n = ds4_session_n_vocab(s) * sizeof(float);
            if (!first) {
                assert_int_equal(ds4_mem_alloc(&first, n, 1, &err), DS4_OK);
                memcpy(first, ds4_session_logits(s), n);
            }
            assert_memory_equal(first, ds4_session_logits(s), n);
            ds4_session_free(s);
            ds4_plan_free(plan);
            ds4_engine_close(e);
        }
    ds4_mem_free(first);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_choice_of_path),
        cmocka_unit_test(test_another_order_of_sums_is_seen),
        cmocka_unit_test(test_matmul_every_path_equals_scalar),
        cmocka_unit_test(test_matmul_past_the_block_of_inputs_equals_scalar),
        cmocka_unit_test(test_matmul_groups_equal_scalar),
        cmocka_unit_test(test_matmul_id_every_path_equals_scalar),
        cmocka_unit_test(test_model_every_path_equals_scalar),
    };
    for (uint32_t i = 1; i < ds4_simd_n_path(); i++) {
        ds4_err err;
        if (ds4_simd_find(&path[n_path], ds4_simd_path_name(i), &err) == DS4_OK) n_path++;
        else print_message("NOT RUN: %s\n", err.message);
    }
    if (!n_path) print_message("SKIPPED: this CPU runs no SIMD path\n");
    path[n_path++] = &emulated16;
    return cmocka_run_group_tests(tests, NULL, NULL);
}
