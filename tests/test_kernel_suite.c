/* The suite of kernel cases (engine/kernel_suite.h): what it must find. Backends with one
 * planted fault stand in for the device, so that all but the last test run without one. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/kernel_capture.h"
#include "engine/kernel_suite.h"
#include "engine/vk/vk.h"
#include "tests/support.h"

static const char model[] = "fixtures/tiny/ds4-tiny-q2.gguf";

/* ---- a backend with a fault ---- */

/* The scalar reference whose only row of every op claims `row`, refuses with `refusal`, and
 * whose calls are followed by `spoil` on the output of n bytes and the guard words behind it.
 */
typedef struct fault {
    ds4_row_info row;
    const char *refusal;
    void (*spoil)(uint32_t *out, size_t n_word);
} fault;

static ds4_backend *ref;
static const ds4_backend_ops *ref_ops;
static ds4_backend_ops faulty_ops;
static fault planted;

static uint32_t fault_n_row(const ds4_backend *b, ds4_op op) {
    (void)b, (void)op;
    return 1;
}
static const ds4_row_info *fault_row(const ds4_backend *b, ds4_op op, uint32_t i) {
    (void)b, (void)op, (void)i;
    return &planted.row;
}
static const char *fault_refuses(const ds4_backend *b, const ds4_call *c, uint32_t row) {
    (void)b, (void)c, (void)row;
    return planted.refusal;
}
static ds4_status fault_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_buf *y = c->bind[c->n_bind - 1];
    size_t n = ref_ops->buf_bytes(b, y);
    uint32_t *out = NULL;

    TRY(ref_ops->call(b, c, row, err));
    if (!planted.spoil) goto out;
    TRY(ds4_mem_alloc(&out, n, 1, err));
    TRY(ref_ops->buf_read(b, y, 0, out, n, err));
    planted.spoil(out, n / 4 - DS4_CASE_GUARD);
    TRY(ref_ops->buf_write(b, y, 0, out, n, err));
out:
    ds4_mem_free(out);
    return st;
}

static int open_ref(void **state) {
    ds4_err err;
    (void)state;
    if (ds4_backend_open(&ref, &(ds4_engine_options){.engine = "ref", .n_thread = 1}, &err))
        return -1;
    ref_ops = ref->ops;
    faulty_ops = *ref_ops;
    faulty_ops.n_row = fault_n_row, faulty_ops.row = fault_row;
    faulty_ops.refuses = fault_refuses, faulty_ops.call = fault_call;
    ref->ops = &faulty_ops;
    return 0;
}

static int close_ref(void **state) {
    (void)state;
    ref->ops = ref_ops;
    ref->ops->close(ref);
    return 0;
}

static const ds4_row_info fine = {.name = "strict",
                                  .cause = "NONE",
                                  .bound = "exact",
                                  .variants = UINT32_MAX & ~DS4_VARIANT_BIT(SAFE_MATH),
                                  .per = {4, 2},
                                  .lanes = 16};

/* Runs the cases of one op with a fault; text gets why. */
static ds4_suite_state state_of(const char *op, fault f, ds4_suite_row *row, char text[200]) {
    ds4_suite *s;
    ds4_err err;
    planted = f;
    test_ok(ds4_suite_new(&s, ref, &(ds4_suite_options){.op = op}, &err), &err);
    test_ok(ds4_suite_run_op(s, (ds4_op)ds4_op_find(op), &err), &err);
    *row = *ds4_suite_row_at(s, 0);
    ds4_suite_state state = ds4_suite_judge(row, true, text, 200);
    ds4_suite_free(s);
    return state;
}

static void flip_last(uint32_t *out, size_t n_word) { out[n_word - 1] ^= 1u; }
static void leave_out(uint32_t *out, size_t n_word) { out[n_word / 2] = DS4_CASE_PATTERN; }
static void write_past(uint32_t *out, size_t n_word) { out[n_word] = 0; }
static void make_nan(uint32_t *out, size_t n_word) { out[n_word / 2] = 0x7f800001u; }

/* ---- rows ---- */

static void test_suite_output_spoiled_is_a_breach(void **state) {
    static void (*const spoil[])(uint32_t *, size_t) = {flip_last, leave_out, write_past,
                                                        make_nan};
    ds4_suite_row row;
    char text[200];
    (void)state;
    for (int op = 0; op < DS4_OP_COUNT; op++)
        assert_int_equal(state_of(ds4_op_table[op].name, (fault){.row = fine}, &row, text),
                         DS4_SUITE_CLEAN);
    for (size_t i = 0; i < sizeof spoil / sizeof *spoil; i++)
        for (int op = 0; op < DS4_OP_COUNT; op++) {
            const char *name = ds4_op_table[op].name;
            fault f = {.row = fine, .spoil = spoil[i]};
            assert_int_equal(state_of(name, f, &row, text), DS4_SUITE_BREACH);
            /* A ring's slots may be left as they were. */
            if (op != DS4_OP_row_store) assert_int_equal(row.n_fail, row.n_run);
            assert_true(!strncmp(row.failed, name, strlen(name)));
        }
}

/* A case that the suite prints gives the same run. */
static void test_suite_failed_case_runs_again(void **state) {
    ds4_suite_row row, again;
    char text[200], op[32], name[32];
    const char *line;
    ds4_suite *s;
    ds4_case c;
    ds4_err err;
    (void)state;
    fault f = {.row = fine, .spoil = flip_last};
    f.row.name = "loose", f.row.bound = "NRMSE(1e-9)", f.row.cause = "REASSOC";
    assert_int_equal(state_of("hc_gate", f, &row, text), DS4_SUITE_BREACH);
    assert_true(ds4_suite_split(row.worst, op, name, &line));
    assert_string_equal(op, "hc_gate");
    assert_string_equal(name, "loose");
    test_ok(ds4_suite_new(&s, ref, &(ds4_suite_options){.op = op, .row = name}, &err), &err);
    test_ok(ds4_case_init(&c, DS4_OP_hc_gate, line, &err), &err);
    test_ok(ds4_suite_run_case(s, &c, DS4_SUITE_LISTED, &err), &err);
    again = *ds4_suite_row_at(s, 0);
    assert_int_equal(again.n_fail, 1);
    assert_true(again.nrmse == row.nrmse);
    assert_string_equal(again.failed, row.worst);
    ds4_case_fini(&c);
    ds4_suite_free(s);
}

static void test_suite_bound_wrong_is_a_breach(void **state) {
    ds4_suite_row row;
    char text[200];
    fault f = {.row = fine, .spoil = flip_last};
    (void)state;
    f.row.name = "loose", f.row.bound = "ULP(1)", f.row.cause = "FMA";
    assert_int_equal(state_of("add", f, &row, text), DS4_SUITE_CLEAN);
    assert_int_equal(row.n_differ, row.n_run);
    f.row.bound = "ULP(0)"; /* too tight */
    assert_int_equal(state_of("add", f, &row, text), DS4_SUITE_BREACH);
    f.row.bound = "ULP(1)", f.row.cause = "NONE"; /* wider than exact, and nobody says why */
    assert_int_equal(state_of("add", f, &row, text), DS4_SUITE_BREACH);
    assert_non_null(strstr(text, "without a cause"));
    f.row.bound = "ULP 1", f.row.cause = "FMA"; /* no bound at all */
    assert_int_equal(state_of("add", f, &row, text), DS4_SUITE_BREACH);
}

static void test_suite_row_that_runs_nothing_is_no_pass(void **state) {
    ds4_suite_row row;
    char text[200];
    fault f = {.row = fine, .refusal = "too shy"};
    (void)state;
    assert_int_equal(state_of("add", f, &row, text), DS4_SUITE_UNCOVERED);
    assert_string_equal(text, "not exercised: too shy");
    assert_int_equal(row.n_run, 0);
    f.row.lacks = "the device lacks a heart"; /* named by the device: told, and no failure */
    assert_int_equal(state_of("add", f, &row, text), DS4_SUITE_LACKING);
    assert_string_equal(text, "not exercised: the device lacks a heart");
}

/* Runs the cases of one source alone. */
typedef struct part {
    ds4_suite *s;
    ds4_suite_source source;
    bool hard;
    uint32_t n;
} part;

static ds4_status run_part(void *user, ds4_op op, const char *line, ds4_suite_source source,
                           ds4_err *err) {
    part *p = user;
    ds4_case c;
    if (source != p->source || (strstr(line, "fill=") && !p->hard)) return DS4_OK;
    p->n++;
    test_ok(ds4_case_init(&c, op, line, err), err);
    test_ok(ds4_suite_run_case(p->s, &c, source, err), err);
    ds4_case_fini(&c);
    return DS4_OK;
}

static void test_suite_kind_of_case_missing_is_no_pass(void **state) {
    ds4_err err;
    char text[200];
    (void)state;
    planted = (fault){.row = fine};
    for (int edges = 0; edges < 2; edges++) {
        part p = {.source = edges ? DS4_SUITE_EDGE : DS4_SUITE_LISTED, .hard = !edges};
        test_ok(ds4_suite_new(&p.s, ref, &(ds4_suite_options){.op = "swiglu"}, &err), &err);
        test_ok(ds4_suite_lines(p.s, DS4_OP_swiglu, run_part, &p, &err), &err);
        assert_true(p.n > 0);
        assert_int_equal(ds4_suite_judge(ds4_suite_row_at(p.s, 0), true, text, sizeof text),
                         DS4_SUITE_UNCOVERED);
        assert_non_null(strstr(text, edges ? "hard values" : "edge of its tile"));
        /* Where only some cases were asked for it is none. */
        assert_int_equal(ds4_suite_judge(ds4_suite_row_at(p.s, 0), false, text, sizeof text),
                         DS4_SUITE_CLEAN);
        ds4_suite_free(p.s);
    }
}

/* ---- lines ---- */

static ds4_status collect(void *user, ds4_op op, const char *line, ds4_suite_source source,
                          ds4_err *err) {
    char *all = user;
    (void)op, (void)err;
    if (source != DS4_SUITE_EDGE) return DS4_OK;
    snprintf(all + strlen(all), 4096 - strlen(all), "%s;", line);
    return DS4_OK;
}

/* Templates of slot_sum: n_col=?x and n_tok=?y, for a tile of 4 by 2. */
static void test_suite_edges_are_those_of_the_tile(void **state) {
    ds4_suite *s;
    ds4_err err;
    char all[4096] = "";
    (void)state;
    planted = (fault){.row = fine};
    test_ok(ds4_suite_new(&s, ref, &(ds4_suite_options){.op = "slot_sum"}, &err), &err);
    test_ok(ds4_suite_lines(s, DS4_OP_slot_sum, collect, all, &err), &err);
    assert_string_equal(
        all, "n_tok=2 n_slot=6 n_col=3 seed=101;n_tok=2 n_slot=6 n_col=4 seed=101;"
             "n_tok=2 n_slot=6 n_col=5 seed=101;n_tok=1 n_slot=6 n_col=65 seed=102;"
             "n_tok=2 n_slot=6 n_col=65 seed=102;n_tok=3 n_slot=6 n_col=65 seed=102;");
    ds4_suite_free(s);
    /* A row that wants 5 tokens at least has its edge where one short of it still runs. */
    planted.row.min_tok = 5;
    all[0] = 0;
    test_ok(ds4_suite_new(&s, ref, &(ds4_suite_options){.op = "slot_sum"}, &err), &err);
    test_ok(ds4_suite_lines(s, DS4_OP_slot_sum, collect, all, &err), &err);
    assert_non_null(strstr(all, "n_tok=5 n_slot=6 n_col=65"));
    assert_non_null(strstr(all, "n_tok=6 n_slot=6 n_col=65"));
    assert_non_null(strstr(all, "n_tok=7 n_slot=6 n_col=65"));
    assert_null(strstr(all, "n_tok=4 n_slot=6 n_col=65"));
    ds4_suite_free(s);
}

static void test_case_text_wrong_is_refused(void **state) {
    static const char *const wrong[][2] = {
        {"n_elem", "wanted key=value"},
        {"n_elem=3 n_elm=4", "no size or argument \"n_elm\""},
        {"n_elem=", "wanted a number"},
        {"n_elem=3x", "wanted a number"},
        {"n_elem=3 fill=odd", "no kind is called odd"},
        {"n_elem=3 wtype=Q9", "no format is called Q9"},
        {"n_elem=3 on=DS4_FROB", "no variant is called DS4_FROB"},
        {"n_elem=4000000000", "more than 1 GiB"},
    };
    ds4_case c;
    ds4_err err;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ds4_case_init(&c, DS4_OP_add, wrong[i][0], &err), DS4_ERR_USAGE);
        if (!strstr(err.message, wrong[i][1])) fail_msg("%s: %s", wrong[i][0], err.message);
    }
    assert_int_equal(ds4_case_init(&c, DS4_OP_matmul, "n_tok=1 n_in=65537 n_out=1", &err),
                     DS4_ERR_USAGE);
    assert_int_equal(ds4_case_init(&c, DS4_OP_router_hash, "n_tok=1 k=2", &err), DS4_ERR_USAGE);
    assert_int_equal(
        ds4_case_init(&c, DS4_OP_matmul, "n_tok=1 n_in=33 n_out=1 wtype=Q8_0", &err),
        DS4_ERR_USAGE);
}

/* Sizes that contradict one another would lead the reference out of its bindings, or leave
 * nothing to compare. */
static void test_case_sizes_are_held_against_one_another(void **state) {
    static const struct {
        ds4_op op;
        const char *line, *says;
    } wrong[] = {
        {DS4_OP_add, "n_elem=0", "n_elem: found 0, wanted at least 1"},
        {DS4_OP_add, "n_elem=-3", "n_elem: found \"-3\", wanted a number of 32 bits"},
        {DS4_OP_add, "n_elem=1e3", "n_elem: found \"1e3\", wanted a number of 32 bits"},
        {DS4_OP_add, "n_elem=4294967297", "wanted a number of 32 bits"},
        {DS4_OP_add, "n_elem=3 n_elem=4", "n_elem: found twice"},
        {DS4_OP_add, "n_elem=100000000", "more than 1 GiB"},
        {DS4_OP_embed, "n_tok=1 n_embd=8 n_hc=1 n_vocab=2 row_bytes=9", "row_bytes: found 9"},
        {DS4_OP_hc_split, "n_tok=4 24=1", "no size or argument \"24\""},
        {DS4_OP_rms_norm, "n_row=1 n_col=4 eps=x", "eps: found \"x\", wanted a number"},
        {DS4_OP_rms_norm, "n_row=1 n_col=4 e-6=1", "no size or argument \"e-6\""},
        {DS4_OP_row_store, "n_row=1 n_col=4 cap=2 row=1", "no size or argument \"row\""},
        {DS4_OP_matmul, "n_tok=1 n_in=8 n_out=4 group_rows=0",
         "group_rows: found 0, wanted at least 1"},
        {DS4_OP_matmul, "n_tok=1 n_in=8 n_out=5 group_rows=2",
         "x_stride: found 8, wanted at least 24 (n_slice*n_in)"},
        {DS4_OP_hc_split, "n_tok=1 n_sinkhorn=4000000000", "n_sinkhorn: found 4000000000"},
        {DS4_OP_hc_read, "n_tok=1 n_embd=4 n_hc=25", "n_hc: found 25, wanted at most 24"},
        {DS4_OP_rope, "n_row=1 n_head=1 d_head=4 n_rot=6", "n_rot: found 6, wanted at most 4"},
        {DS4_OP_rope, "n_row=1 n_head=1 d_head=4 n_rot=3", "wanted a multiple of 2"},
        {DS4_OP_kv_round, "n_row=1 d_head=65 n_fp8=65", "n_fp8: found 65, wanted a multiple"},
        {DS4_OP_kv_round, "n_row=1 d_head=65 n_fp8=128", "n_fp8: found 128, wanted at most 65"},
        {DS4_OP_row_store, "n_row=3 n_col=4 cap=2", "n_row: found 3, wanted at most 2 (cap)"},
        {DS4_OP_gate_bias, "n_tok=1 n_col=4", "ratio: found 0, wanted at least 1"},
        {DS4_OP_softmax_pool, "n_row=1 d_head=4 ratio=4 n_lane=3 cap=8", "n_lane: found 3"},
        {DS4_OP_softmax_pool, "n_row=1 d_head=4 ratio=4 n_lane=1", "ratio: found 4, wanted at"},
        {DS4_OP_index_score, "n_tok=1 n_head=1 n_row=4 ratio=0", "ratio: found 0"},
        {DS4_OP_index_topk, "n_tok=1 n_row=4 k=5 pos0=99", "k: found 5, wanted at most 4"},
        {DS4_OP_index_topk, "n_tok=1 n_row=9 k=5 pos0=18", "k: found 5, wanted at most 4"},
        {DS4_OP_router_topk, "n_tok=1 n_expert=4 k=5", "k: found 5, wanted at most 4"},
        {DS4_OP_attention,
         "n_tok=2 n_head=1 d_head=4 window=8 raw_cap=10 pos0=9 n_comp=1 n_score=7",
         "n_score: found 7, wanted at least 8"},
        {DS4_OP_attention, "n_tok=1 n_head=1 d_head=4 window=8 n_score=8", "raw_cap: found 0"},
        {DS4_OP_attention,
         "n_tok=2 n_head=1 d_head=4 window=8 raw_cap=10 pos0=22 ratio=4 n_comp=5 n_score=14",
         "n_comp: found 5, wanted at least 6"},
        {DS4_OP_attention,
         "n_tok=2 n_head=1 d_head=4 window=8 raw_cap=10 pos0=22 ratio=4 n_comp=6 n_sel=2 "
         "sel_tok0=2 n_score=13",
         "n_score: found 13, wanted at least 14"},
    };
    ds4_case c;
    ds4_err err;
    (void)state;
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        assert_int_equal(ds4_case_init(&c, wrong[i].op, wrong[i].line, &err), DS4_ERR_USAGE);
        if (!strstr(err.message, wrong[i].says)) fail_msg("%s: %s", wrong[i].line, err.message);
    }
    static const char least[] = "n_tok=2 n_head=1 d_head=4 window=8 raw_cap=10 pos0=22 ratio=4 "
                                "n_comp=6 n_sel=2 sel_tok0=2 n_score=14";
    test_ok(ds4_case_init(&c, DS4_OP_attention, least, &err), &err);
    ds4_case_reference(&c);
    ds4_case_fini(&c);
}

/* ---- captured calls ---- */

/* The reference on what was captured gives what the run itself shows at that tap. */
typedef struct shown {
    ds4_backend *b;
    ds4_case c;
    bool held, spoil;
    uint32_t n_same, n_other;
} shown;

static bool wants_all(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

static bool hold_call(void *user, const ds4_call *call) {
    shown *s = user;
    ds4_err err;
    if (s->held) ds4_case_fini(&s->c);
    test_ok(ds4_case_capture(&s->c, s->b, call, "tap=x", &err), &err);
    s->held = true;
    for (uint32_t b = 0; s->spoil && b + 1 < s->c.n_bind; b++)
        for (size_t i = 0; s->c.kind[b] == 'f' && i < s->c.bytes[b] / 4; i++)
            ((float *)s->c.bind[b])[i] *= 1.25f;
    ds4_case_reference(&s->c);
    return true;
}

static bool compare_tap(void *user, const ds4_tap_event *e) {
    shown *s = user;
    bool same = e->tap == s->c.tap &&
                !memcmp(e->data, s->c.bind[s->c.n_bind - 1], 4 * (size_t)e->n_row * e->n_col);
    *(same ? &s->n_same : &s->n_other) += 1;
    return true;
}

static shown show_run(bool spoil) {
    ds4_engine *e = test_engine("ref", model);
    shown s = {.b = ds4_engine_backend(e), .spoil = spoil};
    ds4_observer o = {.wants = wants_all, .see = compare_tap, .call = hold_call, .user = &s};
    ds4_session *session;
    ds4_plan *plan;
    int32_t token[136];
    ds4_err err;
    for (int i = 0; i < 136; i++) token[i] = (i * 37 + 11) % 2048;
    test_ok(ds4_engine_plan(e, &plan, &err), &err);
    test_ok(ds4_session_new(&session, e, plan, 136, 96, &err), &err);
    ds4_session_observe(session, &o);
    test_ok(ds4_session_eval(session, token, 135, DS4_PREFILL, &err), &err);
    test_ok(ds4_session_eval(session, token + 135, 1, DS4_DECODE, &err), &err);
    ds4_session_free(session);
    ds4_plan_free(plan);
    if (s.held) ds4_case_fini(&s.c);
    ds4_engine_close(e);
    return s;
}

static void test_capture_inputs_are_those_of_the_call(void **state) {
    (void)state;
    shown s = show_run(false);
    print_message("%u calls\n", s.n_same);
    assert_true(s.n_same > 500);
    assert_int_equal(s.n_other, 0);
    s = show_run(true); /* other inputs would have shown */
    assert_true(s.n_other > 200);
}

typedef struct tally {
    uint32_t n_op[DS4_OP_COUNT], n_phase[2];
} tally;

static ds4_status count_case(void *user, ds4_case *c, ds4_err *err) {
    tally *t = user;
    (void)err;
    t->n_op[c->op]++, t->n_phase[strstr(c->line, "phase=decode") != NULL]++;
    return DS4_OK;
}

static void test_capture_every_op_in_both_phases(void **state) {
    ds4_engine *e = test_engine("ref", model);
    int32_t token[] = {3, 1, 4, 1, 5, 926};
    tally t = {{0}, {0}};
    uint32_t n;
    ds4_err err;
    (void)state;
    ds4_capture_options o = {.token = token, .n_tok = 6, .see = count_case, .user = &t};
    test_ok(ds4_capture_run(e, &o, &n, &err), &err);
    for (int op = 0; op < DS4_OP_COUNT; op++)
        if (t.n_op[op] < 2)
            fail_msg("%s: %u captured calls", ds4_op_table[op].name, t.n_op[op]);
    assert_true(t.n_phase[0] > 200 && t.n_phase[1] > 200);
    assert_int_equal(t.n_phase[0] + t.n_phase[1], n);
    o.only = "tap=kv_rot layer=2 phase=decode call=0";
    test_ok(ds4_capture_run(e, &o, &n, &err), &err);
    assert_int_equal(n, 1);
    o.only = "tap=kv_rot layer=2 phase=decode call=1";
    assert_int_equal(ds4_capture_run(e, &o, &n, &err), DS4_ERR_USAGE);
    ds4_engine_close(e);
}

/* ---- the bounds of the manifest ---- */

/* What a kernel with a slip in its tile gives: two neighbours exchanged, the last element of
 * the output dropped, the first half of it stored in f16 although the row's cause does not say
 * so. */
static bool swap_pair(uint32_t *out, size_t n) {
    size_t at = 0; /* the two that are furthest apart: near ones may be within any bound */
    float most = 0.0f;
    for (size_t i = 0; i + 1 < n; i++) {
        float d = fabsf(ds4_f32_from_bits(out[i]) - ds4_f32_from_bits(out[i + 1]));
        if (d > most) most = d, at = i;
    }
    if (n < 2 || out[at] == out[at + 1]) return false;
    uint32_t was = out[at];
    out[at] = out[at + 1], out[at + 1] = was;
    return true;
}
static bool drop_last(uint32_t *out, size_t n) {
    if (!n || !out[n - 1]) return false;
    out[n - 1] = 0;
    return true;
}
static bool round_half(uint32_t *out, size_t n) {
    bool moved = false;
    for (size_t i = 0; i < n; i++) {
        float x = ds4_f32_from_bits(out[i]), y = ds4_f16_round(x);
        moved |= x != y;
        out[i] = ds4_f32_bits(y);
    }
    return moved;
}

typedef struct slip {
    ds4_suite *s;
    uint32_t row;
    const char *bound;
    bool (*make)(uint32_t *out, size_t n);
    uint32_t n_made, n_found;
} slip;

static ds4_status try_slip(void *user, ds4_op op, const char *line, ds4_suite_source source,
                           ds4_err *err) {
    slip *f = user;
    ds4_case c;
    uint32_t *out = NULL;
    const char *refused;
    if (f->n_made >= 3 || source != DS4_SUITE_EDGE) return DS4_OK;
    test_ok(ds4_case_init(&c, op, line, err), err);
    size_t n = c.bytes[c.n_bind - 1] / 4;
    ds4_case_reference(&c);
    test_ok(ds4_mem_alloc(&out, n + DS4_CASE_GUARD, 4, err), err);
    test_ok(ds4_suite_call(f->s, &c, f->row, 0, out, &refused, err), err);
    if (!refused && f->make(out, n)) {
        ds4_verdict v = ds4_case_judge(&c, out);
        f->n_made++, f->n_found += !ds4_case_within(&v, f->bound);
    }
    ds4_mem_free(out);
    ds4_case_fini(&c);
    return DS4_OK;
}

static void test_bounds_of_rows_find_slips(void **state) {
    static const struct {
        const char *what;
        bool (*make)(uint32_t *, size_t);
    } slips[] = {{"neighbours exchanged", swap_pair},
                 {"last element dropped", drop_last},
                 {"output rounded to f16", round_half}};
    ds4_backend *vk;
    ds4_suite *s;
    ds4_err err;
    (void)state;
    if (!test_has_device()) skip();
    ds4_vk_options options = test_vk_options();
    test_ok(ds4_vk_open(&vk, &options, &err), &err);
    test_ok(ds4_suite_new(&s, vk, &(ds4_suite_options){0}, &err), &err);
    for (uint32_t i = 0; i < ds4_suite_n_row(s); i++)
        for (size_t k = 0; k < sizeof slips / sizeof *slips; k++) {
            const ds4_suite_row *r = ds4_suite_row_at(s, i);
            slip f = {.s = s, .row = r->i, .bound = r->info->bound, .make = slips[k].make};
            bool half = slips[k].make == round_half;
            if (half && strstr(r->info->cause, "NARROW")) continue;
            test_ok(ds4_suite_lines(s, r->op, try_slip, &f, &err), &err);
            if (!r->info->lacks && !f.n_made && !half)
                fail_msg("%s__%s: no case to plant in", ds4_op_table[r->op].name,
                         r->info->name);
            if (f.n_found != f.n_made)
                fail_msg("%s__%s: %s: found in %u of %u cases", ds4_op_table[r->op].name,
                         r->info->name, slips[k].what, f.n_found, f.n_made);
        }
    ds4_suite_free(s);
    vk->ops->close(vk);
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_suite_output_spoiled_is_a_breach, open_ref,
                                        close_ref),
        cmocka_unit_test_setup_teardown(test_suite_failed_case_runs_again, open_ref, close_ref),
        cmocka_unit_test_setup_teardown(test_suite_bound_wrong_is_a_breach, open_ref,
                                        close_ref),
        cmocka_unit_test_setup_teardown(test_suite_row_that_runs_nothing_is_no_pass, open_ref,
                                        close_ref),
        cmocka_unit_test_setup_teardown(test_suite_kind_of_case_missing_is_no_pass, open_ref,
                                        close_ref),
        cmocka_unit_test_setup_teardown(test_suite_edges_are_those_of_the_tile, open_ref,
                                        close_ref),
        cmocka_unit_test(test_case_text_wrong_is_refused),
        cmocka_unit_test(test_case_sizes_are_held_against_one_another),
        cmocka_unit_test(test_capture_inputs_are_those_of_the_call),
        cmocka_unit_test(test_capture_every_op_in_both_phases),
        cmocka_unit_test(test_bounds_of_rows_find_slips),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
