/* engine/plan.h: the text grammar and its refusals, text that reads back as the same plan, the
 * built-in plans on every engine, the table of taps, and what the ledger keeps of a refused
 * row. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/ops/ops.h"
#include "engine/ref/ref.h"
#include "engine/vk/vk.h"
#include "tests/support.h"

enum { N_LAYER = 6 };
static ds4_backend *ref;
static const uint32_t f16 = 1; /* index of the row on ref */

static ds4_plan *new_plan(const ds4_backend *b) {
    ds4_plan *p = NULL;
    ds4_err err;
    uint32_t bits = 0;
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) bits |= (uint32_t)ds4_variant_table[v].def << v;
    test_ok(ds4_plan_new(&p, b, N_LAYER, bits, &err), &err);
    return p;
}

static ds4_plan *edited(const char *text) {
    ds4_plan *p = new_plan(ref);
    ds4_err err;
    test_ok(ds4_plan_edit(p, text, &err), &err);
    return p;
}

/* Layers in order, then DS4_NO_LAYER. */
static uint32_t layer_of(uint32_t i) { return i == N_LAYER ? DS4_NO_LAYER : i; }

/* The first cell that differs, as text; false: none. */
static bool differ(const ds4_plan *a, const ds4_plan *b, char *what, size_t n) {
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = 0; il <= N_LAYER; il++)
            for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
                ds4_cell x = ds4_plan_cell(a, (ds4_tap)t, layer_of(il), (ds4_phase)ph);
                ds4_cell y = ds4_plan_cell(b, (ds4_tap)t, layer_of(il), (ds4_phase)ph);
                if (!memcmp(x.row, y.row, sizeof x.row) &&
                    !memcmp(x.when, y.when, sizeof x.when) && x.variants == y.variants)
                    continue;
                snprintf(what, n, "%s layer %u phase %d", ds4_tap_table[t].name, il, ph);
                return true;
            }
    return false;
}

/* Two texts must make the same plan; the third must make another one. */
static void same(const char *a, const char *b, const char *not_c) {
    ds4_plan *p = edited(a), *q = edited(b), *r = edited(not_c);
    char what[96];
    if (differ(p, q, what, sizeof what)) fail_msg("\"%s\" and \"%s\" at %s", a, b, what);
    assert_true(differ(p, r, what, sizeof what));
    ds4_plan_free(p), ds4_plan_free(q), ds4_plan_free(r);
}

/* ---- the grammar ---- */

/* Whether exactly the cells that `want` accepts ask for f16. */
static void only(const char *text, bool (*want)(ds4_tap, uint32_t il, ds4_phase)) {
    ds4_plan *p = edited(text);
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = 0; il <= N_LAYER; il++)
            for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
                ds4_cell c = ds4_plan_cell(p, (ds4_tap)t, layer_of(il), (ds4_phase)ph);
                bool on = want((ds4_tap)t, il, (ds4_phase)ph);
                if (c.row[0] != (on ? f16 : 0) || c.row[1])
                    fail_msg("\"%s\": %s layer %u phase %d", text, ds4_tap_table[t].name, il,
                             ph);
            }
    ds4_plan_free(p);
}

static bool is_matmul(ds4_tap t) { return ds4_tap_table[t].op == DS4_OP_matmul; }
static bool any_matmul(ds4_tap t, uint32_t il, ds4_phase ph) {
    (void)il, (void)ph;
    return is_matmul(t);
}
static bool any_f16(ds4_tap t, uint32_t il, ds4_phase ph) {
    (void)il, (void)ph;
    return is_matmul(t) || ds4_tap_table[t].op == DS4_OP_matmul_id;
}
static bool q_low(ds4_tap t, uint32_t il, ds4_phase ph) {
    (void)il, (void)ph;
    return t == DS4_TAP_q_low;
}
static bool moe_gate(ds4_tap t, uint32_t il, ds4_phase ph) {
    (void)il, (void)ph;
    return t == DS4_TAP_moe_gate;
}
static bool dense(ds4_tap t, uint32_t il, ds4_phase ph) {
    (void)il, (void)ph;
    return !strcmp(ds4_tap_table[t].route, "dense");
}
static bool some_layers(ds4_tap t, uint32_t il, ds4_phase ph) {
    (void)ph;
    return is_matmul(t) && (il == 0 || il == 2 || il == 3 || il >= 5);
}
static bool q_low_3_decode(ds4_tap t, uint32_t il, ds4_phase ph) {
    return t == DS4_TAP_q_low && il == 3 && ph == DS4_DECODE;
}

static void test_plan_targets_reach_their_cells(void **state) {
    (void)state;
    only("*=f16", any_f16);
    only("matmul=f16", any_matmul);
    only("op:matmul=f16", any_matmul);
    only("q_low=f16", q_low);
    only("tap:q_low=f16", q_low);
    only("route:dense=f16", dense);
    only("route:moe_gate=f16", moe_gate);
    only("moe_gate=f16", moe_gate);
    only("matmul@0+2-3+5-+out=f16", some_layers);
    only("q_low@3/decode=f16", q_low_3_decode);
    only("  q_low @ 3 / decode = f16  # why\n# all of it a comment\n\n;;", q_low_3_decode);
    only("*=f16; *=strict; q_low=f16", q_low);
    only("matmul=f16\nmatmul@1=strict\nmatmul@4=strict", some_layers);
}

static void test_plan_forms_that_say_the_same_are_equal(void **state) {
    (void)state;
    same("matmul@0-5=f16", "matmul@0-=f16", "matmul=f16");
    same("matmul=f16", "matmul@0-+out=f16", "matmul@out=f16");
    same("matmul=f16", "matmul/prefill=f16;matmul/decode=f16", "matmul/decode=f16");
    same("DS4_HC_STABLE=1", "DS4_METAL_HC_STABLE=YES", "DS4_HC_STABLE=off");
    same("DS4_HC_STABLE@2=1", "DS4_HC_STABLE@0-3=1\nDS4_HC_STABLE@0-1+3=0",
         "DS4_HC_STABLE@2/decode=1");
    same("q_low=f16 # q_low=strict", "q_low=f16", "q_low=strict");
}

/* A name that is op and tap means the op; the prefix says which. */
static void test_plan_prefix_tells_op_from_tap(void **state) {
    (void)state;
    assert_true(ds4_op_find("router_prob") >= 0 && ds4_tap_find("router_prob") >= 0);
    same("router_prob=strict;DS4_HC_STABLE=1", "op:router_prob=strict;DS4_HC_STABLE=1",
         "tap:router_prob=strict");
}

static void test_plan_preferences_are_kept_in_order(void **state) {
    (void)state;
    ds4_plan *p = edited("matmul=f16,strict");
    ds4_cell c = ds4_plan_cell(p, DS4_TAP_q_low, 0, DS4_PREFILL);
    assert_int_equal(c.row[0], f16);
    assert_int_equal(c.row[1], 0);
    ds4_plan_free(p);
}

/* The first that accepts a call runs it, and strict accepts every call. */
static void test_plan_strict_first_runs_strict(void **state) {
    (void)state;
    ds4_plan *p = edited("matmul=strict,f16");
    ds4_cell c = ds4_plan_cell(p, DS4_TAP_q_low, 0, DS4_PREFILL);
    assert_int_equal(c.row[0], 0);
    ds4_plan_free(p);
}

static void refuse(const char *text, const char *words);

/* `+` puts rows first and moves what is there already, `-` takes rows away. */
static void test_plan_rows_are_put_before_and_taken_away(void **state) {
    (void)state;
    same("q_low=+f16", "q_low=f16", "q_low=strict");
    same("q_low=order;q_low=+f16", "q_low=f16,order", "q_low=order,f16");
    same("q_low=f16,order;q_low=+order", "q_low=order,f16", "q_low=f16,order");
    same("q_low=f16,order;q_low=+f16/tok=9-", "q_low=f16/tok=9-,f16,order", "q_low=f16,order");
    same("q_low=f16/tok=9-,order;q_low=+f16/tok=9-", "q_low=f16/tok=9-,order",
         "q_low=f16/tok=9-,f16/tok=9-,order");
    same("q_low=f16/tok=9-,order,f16;q_low=-f16", "q_low=order", "q_low=strict");
    same("q_low@1-2=+f16", "q_low@1-2=f16", "q_low@1-3=f16");
    same("q_low=f16;q_low@2=-f16", "q_low@0-1+3-+out=f16", "q_low=f16");
    same("q_low=f16;q_low=+strict", "q_low=strict", "q_low=f16");
    refuse("q_low=-strict", "strict cannot be taken away");
    refuse("q_low=-f16/tok=9-", "a condition after -, wanted names of rows alone");
    refuse("q_low=-f17", "has no row \"-f17\"");
    refuse("q_low=+", "has no row \"+\"");
    refuse("q_low=+-f16", "has no row \"+-f16\"");
    refuse("DS4_HC_STABLE=+1", "DS4_HC_STABLE: found \"+1\"");
    refuse("q_low=f16/tok=1,f16/tok=2,f16/tok=3,f16/tok=4,f16/tok=5,f16/tok=6,f16/tok=7,"
           "f16/tok=8,f16",
           "more than 8 rows");
    refuse("q_low=f16/tok=1,f16/tok=2,f16/tok=3,f16/tok=4,f16/tok=5,f16/tok=6,f16/tok=7,"
           "f16/tok=8; q_low=+order",
           "more than 8 rows with those that are there");
}

static void test_plan_conditions_are_read_whole(void **state) {
    (void)state;
    ds4_plan *p = edited("q_low=f16/tok=9-64/by=4/pos=512-,order/pos=7");
    ds4_cell c = ds4_plan_cell(p, DS4_TAP_q_low, 0, DS4_PREFILL);
    assert_int_equal(c.when[0].tok0, 9), assert_int_equal(c.when[0].tok_end, 65);
    assert_int_equal(c.when[0].by, 4);
    assert_int_equal(c.when[0].pos0, 512), assert_int_equal(c.when[0].pos_end, 0);
    assert_int_equal(c.when[1].pos0, 7), assert_int_equal(c.when[1].pos_end, 8);
    ds4_plan_free(p);
    same("q_low=f16/pos=512", "q_low = f16 / pos=512-512", "q_low=f16/pos=5120");
    same("q_low=f16/tok=0-", "q_low=f16", "q_low=f16/tok=1-");
    refuse("q_low=f16/tok=", "condition \"tok=\", wanted tok=N");
    refuse("q_low=f16/tok=x", "\"tok=x\""), refuse("q_low=f16/tok=9-8", "\"tok=9-8\"");
    refuse("q_low=f16/tok=-9", "\"tok=-9\""), refuse("q_low=f16/tok=9--", "\"tok=9--\"");
    refuse("q_low=f16/tok=4294967295", "\"tok=4294967295\"");
    refuse("q_low=f16/pos=1+2", "\"pos=1+2\""), refuse("q_low=f16/by=0", "\"by=0\"");
    refuse("q_low=f16/by=1", "\"by=1\""), refuse("q_low=f16/by=2-", "\"by=2-\"");
    refuse("q_low=f16/row=2", "\"row=2\""), refuse("q_low=f16/", "condition \"\"");
    refuse("q_low=f16/tok=1/tok=2", "\"tok=2\" is a second such condition");
    refuse("q_low=strict/tok=2", "strict runs whatever the batch");
}

/* What a condition lets through, at its edges. */
static void test_plan_condition_holds_at_its_edges(void **state) {
    (void)state;
    ds4_when any = {0}, tok = {.tok0 = 9, .tok_end = 65}, by = {.by = 32},
             pos = {.pos0 = 512, .pos_end = 513}, from = {.pos0 = 512};
    assert_null(ds4_when_refuses(&any, 0, 0)), assert_null(ds4_when_refuses(&any, 1, 1u << 31));
    assert_non_null(strstr(ds4_when_refuses(&tok, 8, 0), "fewer tokens"));
    assert_null(ds4_when_refuses(&tok, 9, 0)), assert_null(ds4_when_refuses(&tok, 64, 0));
    assert_non_null(strstr(ds4_when_refuses(&tok, 65, 0), "more tokens"));
    assert_null(ds4_when_refuses(&by, 64, 0));
    assert_non_null(strstr(ds4_when_refuses(&by, 65, 0), "no multiple"));
    assert_null(ds4_when_refuses(&pos, 1, 512));
    assert_non_null(strstr(ds4_when_refuses(&pos, 1, 511), "outside the positions"));
    assert_non_null(strstr(ds4_when_refuses(&pos, 1, 513), "outside the positions"));
    assert_non_null(strstr(ds4_when_refuses(&pos, 1, 5120), "outside the positions"));
    assert_null(ds4_when_refuses(&from, 1, 5120));
}

/* ---- refusals ---- */

static void refuse(const char *text, const char *words) {
    ds4_plan *p = new_plan(ref);
    ds4_err err = {0};
    ds4_status st = ds4_plan_edit(p, text, &err);
    if (st != DS4_ERR_USAGE || !strstr(err.message, words))
        fail_msg("\"%s\" gave %d \"%s\", wanted \"%s\"", text, (int)st,
                 st == DS4_OK ? "" : err.message, words);
    ds4_plan_free(p);
}

static void test_plan_malformed_text_is_refused(void **state) {
    (void)state;
    static const char *const form = "wanted TARGET[@LAYERS][/PHASE]=VALUE";
    refuse("matmul", form), refuse("=f16", form), refuse("matmul=", form), refuse("=", form);
    refuse("matmul@=f16", "\"matmul@=f16\": no layers after @");
    refuse("matmul@x=f16", "layers \"x\"");
    refuse("matmul@-1=f16", "layers \"-1\"");
    refuse("matmul@1-x=f16", "layers \"1-x\"");
    refuse("matmul@3-2=f16", "layers \"3-2\"");
    refuse("matmul@1-2-3=f16", "layers \"1-2-3\"");
    refuse("matmul@Out=f16", "layers \"Out\"");
    refuse("matmul@6=f16", "layers \"6\", wanted N, N-M or N- within 0-5, or out");
    refuse("matmul@6-=f16", "layers \"6-\"");
    refuse("matmul@0-6=f16", "layers \"0-6\"");
    refuse("matmul@99999999999999999999=f16", "within 0-5");
    refuse("matmul@4294967296=f16", "within 0-5");
    refuse("matmul@0@1=f16", "layers \"0@1\"");
    refuse("matmul/=f16", "phase \"\", wanted prefill or decode");
    refuse("matmul/both=f16", "phase \"both\"");
    refuse("matmul/prefill@0=f16", "phase \"prefill@0\"");
    refuse("matmul/prefill/decode=f16", "phase \"prefill/decode\"");
    refuse("nothing=f16", "no op, tap, route or variant is called \"nothing\"");
    refuse("op:q_low=f16", "\"op:q_low\""), refuse("tap:matmul=f16", "\"tap:matmul\"");
    refuse("route:NONE=f16", "\"route:NONE\""), refuse("route:=f16", "\"route:\"");
    refuse(" =f16", form);
    refuse("matmul=f17", "engine ref has no row \"f17\" for matmul");
    refuse("matmul=f16,f17", "has no row \"f16,f17\"");
    refuse("matmul=f16=f16", "has no row \"f16=f16\"");
    refuse("rms_norm=f16", "has no row \"f16\" for rms_norm");
    refuse("matmul=,", "has no row");
    refuse("DS4_HC_STABLE=maybe", "DS4_HC_STABLE: found \"maybe\"");
    refuse("DS4_NO_SUCH=1", "is called \"DS4_NO_SUCH\"");
    refuse("q_low=f16; matmul@9=f16", "\"matmul@9=f16\"");
}

/* Empty members of a list are no form of the grammar. */
static void test_plan_empty_members_are_refused(void **state) {
    (void)state;
    refuse("matmul@+=f16", "matmul@+=f16");
    refuse("matmul@0+=f16", "matmul@0+=f16");
    refuse("matmul@0++1=f16", "matmul@0++1=f16");
    refuse("matmul=f16,,strict", "matmul=f16,,strict");
    refuse("matmul=f16,", "matmul=f16,");
}

/* A long value is read to its end. */
static void test_plan_long_value_is_not_cut(void **state) {
    (void)state;
    char text[256] = "matmul=";
    for (int i = 0; i < 23; i++) strcat(text, "f16,");
    strcat(text, "f16garbage");
    refuse(text, "matmul=");
}

static void test_plan_file_is_read(void **state) {
    (void)state;
    char path[256];
    const char *tmp = getenv("TMPDIR");
    ds4_err err = {0};
    snprintf(path, sizeof path, "%s/test_plan.XXXXXX", tmp && *tmp ? tmp : "/tmp");
    int fd = mkstemp(path);
    FILE *f = fdopen(fd, "wb");
    fputs("# two edits\nq_low=f16\nDS4_HC_STABLE=1\n", f);
    fclose(f);
    ds4_plan *p = new_plan(ref), *q = edited("q_low=f16;DS4_HC_STABLE=1");
    char what[96];
    test_ok(ds4_plan_load(p, path, &err), &err);
    assert_false(differ(p, q, what, sizeof what));
    f = fopen(path, "wb");
    fwrite("q_low=f16\0", 1, 10, f);
    fclose(f);
    assert_int_equal(ds4_plan_load(p, path, &err), DS4_ERR_FORMAT);
    remove(path);
    assert_int_equal(ds4_plan_load(p, path, &err), DS4_ERR_IO);
    assert_non_null(strstr(err.message, path));
    ds4_plan_free(p), ds4_plan_free(q);
}

/* ---- text that reads back ---- */

static uint64_t rng = 11;
static uint32_t below(uint32_t n) {
    rng = rng * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(rng >> 33) % n;
}

/* A random edit that this backend accepts. */
static void random_edit(char *dst, size_t n, const ds4_backend *b) {
    const ds4_tap_info *t = &ds4_tap_table[below(DS4_TAP_COUNT)];
    char target[64], layers[32] = "", value[64] = "";
    uint32_t a = below(N_LAYER), z = a + below(N_LAYER - a);
    switch (below(3)) {
    case 0:
        snprintf(layers, sizeof layers, "@%u-%u", a, z);
        break;
    case 1:
        snprintf(layers, sizeof layers, "@%u+out", a);
        break;
    default:
        break;
    }
    if (below(3) == 0) {
        snprintf(target, sizeof target, "%s", ds4_variant_table[below(DS4_VARIANT_COUNT)].name);
        snprintf(value, sizeof value, "%u", below(2));
    } else {
        bool tap = below(2);
        snprintf(target, sizeof target, "%s:%s", tap ? "tap" : "op",
                 tap ? t->name : ds4_op_table[t->op].name);
        uint32_t n_row = b->ops->n_row(b, t->op), first = below(n_row), second = below(n_row);
        bool one = first == 0 || second == first;
        static const char *const when[] = {
            "", "", "/tok=9-", "/tok=0-4/by=2", "/pos=0", "/tok=8/pos=64-127"};
        snprintf(value, sizeof value, "%s%s%s%s%s", first && below(4) == 0 ? "+" : "",
                 b->ops->row(b, t->op, first)->name, first ? when[below(6)] : "",
                 one ? "" : ",", one ? "" : b->ops->row(b, t->op, second)->name);
    }
    static const char *const phase[] = {"", "/prefill", "/decode"};
    snprintf(dst, n, "%s%s%s=%s", target, layers, phase[below(3)], value);
}

static void check_round_trips(const ds4_backend *b) {
    for (int trial = 0; trial < 400; trial++) {
        ds4_plan *p = new_plan(b), *q = new_plan(b);
        ds4_err err;
        char *text = NULL, what[96], edit[192];
        uint32_t n = below(12);
        for (uint32_t i = 0; i < n; i++) {
            random_edit(edit, sizeof edit, b);
            test_ok(ds4_plan_edit(p, edit, &err), &err);
        }
        test_ok(ds4_plan_text(p, &text, &err), &err);
        if (!n) assert_string_equal(text, ""); /* all strict says nothing */
        test_ok(ds4_plan_edit(q, text, &err), &err);
        if (differ(p, q, what, sizeof what)) fail_msg("%s after\n%s", what, text);
        /* Planted: one cell more. */
        ds4_cell c = ds4_plan_cell(q, DS4_TAP_q_low, 2, DS4_DECODE);
        c.variants ^= DS4_VARIANT_BIT(SAFE_MATH);
        ds4_plan_set(q, DS4_TAP_q_low, 2, DS4_DECODE, c);
        assert_true(differ(p, q, what, sizeof what));
        assert_string_equal(what, "q_low layer 2 phase 1");
        ds4_mem_free(text);
        ds4_plan_free(p), ds4_plan_free(q);
    }
}

static void test_plan_text_reads_back_on_ref(void **state) {
    (void)state;
    check_round_trips(ref);
}

/* ---- built-in plans ---- */

/* The arithmetic of CPU engines, and noise. */
static bool is_of_ref_alone(const char *plan) {
    return !strcmp(plan, "compat") || !strncmp(plan, "noise-", 6);
}

static void check_builtin(const ds4_backend *b, const char *default_name) {
    char what[96];
    ds4_err err = {0};
    for (uint32_t i = 0; i < ds4_plan_n_builtin(); i++) {
        const char *text = NULL, *name = ds4_plan_builtin(i, &text);
        ds4_plan *p = new_plan(b), *none = new_plan(b);
        assert_true(*text != 0);
        /* The arithmetic of CPU engines and the noise exist on ref alone, and elsewhere they
         * are not strict by another name. */
        if (b != ref && is_of_ref_alone(name)) {
            char words[64];
            snprintf(words, sizeof words, "none of the rows of plan \"%s\"", name);
            assert_int_equal(ds4_plan_named(p, name, &err), DS4_ERR_USAGE);
            assert_non_null(strstr(err.message, words));
        } else {
            test_ok(ds4_plan_named(p, name, &err), &err);
            bool strict = !differ(p, none, what, sizeof what);
            assert_int_equal(strict, !strcmp(name, "strict"));
        }
        ds4_plan_free(p), ds4_plan_free(none);
    }
    ds4_plan *p = new_plan(b), *q = new_plan(b);
    test_ok(ds4_plan_named(p, "default", &err), &err);
    test_ok(ds4_plan_named(q, default_name, &err), &err);
    assert_false(differ(p, q, what, sizeof what));
    assert_int_equal(ds4_plan_named(p, "fastest", &err), DS4_ERR_USAGE);
    assert_non_null(strstr(err.message, "no built-in plan is called \"fastest\""));
    ds4_plan_free(p), ds4_plan_free(q);
}

static void test_plan_builtin_apply_on_ref(void **state) {
    (void)state;
    check_builtin(ref, "strict");
}

static void test_plan_works_on_vk(void **state) {
    (void)state;
    ds4_backend *vk = NULL;
    ds4_vk_options options = test_vk_options();
    ds4_err err;
    if (!test_has_device()) skip();
    test_ok(ds4_vk_open(&vk, &options, &err), &err);
    check_builtin(vk, "fast");
    check_round_trips(vk);
    /* Every edit of its built-in plans names rows that this engine has: none is left out. */
    for (uint32_t i = 0; i < ds4_plan_n_builtin(); i++) {
        const char *text = NULL, *name = ds4_plan_builtin(i, &text);
        if (is_of_ref_alone(name)) continue;
        ds4_plan *p = new_plan(vk);
        test_ok(ds4_plan_edit(p, text, &err), &err);
        ds4_plan_free(p);
    }
    vk->ops->close(vk);
}

/* ---- the table of taps ---- */

static void test_plan_taps_are_sane(void **state) {
    (void)state;
    bool used[DS4_OP_COUNT] = {false};
    for (int t = 0; t < DS4_TAP_COUNT; t++) {
        const ds4_tap_info *i = &ds4_tap_table[t];
        assert_true((int)i->op >= 0 && i->op < DS4_OP_COUNT);
        assert_int_equal(ds4_tap_find(i->name), t); /* unique: the first of its name */
        used[i->op] = true;
        bool selects = i->op == DS4_OP_index_topk || i->op == DS4_OP_router_topk ||
                       i->op == DS4_OP_router_hash;
        assert_int_equal(i->type, selects ? DS4_TYPE_I32 : DS4_TYPE_F32);
        assert_int_equal(i->level == DS4_TAP_STATE, i->op == DS4_OP_row_store);
        bool routed = i->op == DS4_OP_matmul || i->op == DS4_OP_matmul_id;
        assert_int_equal(strcmp(i->route, "NONE") != 0, routed);
    }
    for (int o = 0; o < DS4_OP_COUNT; o++) {
        if (!used[o]) fail_msg("no call of op %s", ds4_op_table[o].name);
        assert_int_equal(ds4_op_find(ds4_op_table[o].name), o);
        assert_true(ds4_op_table[o].n_in + 1 <= DS4_MAX_BIND);
    }
    assert_int_equal(ds4_tap_find("nothing"), -1);
    assert_int_equal(ds4_op_find("nothing"), -1);
    assert_int_equal(ds4_tap_table[0].op, DS4_OP_embed);
    assert_int_equal(DS4_TAP_logits, DS4_TAP_COUNT - 1);
}

/* ---- execution: order and refusals in the ledger ---- */

typedef struct order {
    ds4_tap last;
    uint32_t layer, n, n_bad;
} order;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

/* Taps come in the table's order: within a layer, then the next layer's, the head last. */
static bool see(void *user, const ds4_tap_event *e) {
    order *o = user;
    bool next_layer = e->layer != o->layer;
    if (o->n++ &&
        (next_layer ? e->layer < o->layer && o->last != DS4_TAP_embed : e->tap <= o->last))
        o->n_bad++;
    o->last = e->tap, o->layer = e->layer;
    return true;
}

/* A plan's rows for n tokens of prefill; the observer may be NULL. */
static ds4_session *evaluate(ds4_engine *e, const char *edits, uint32_t n, order *o) {
    static const int32_t token[80] = {0, 5, 9, 300, 2, 2, 7, 1000, 64, 65, 66, 67, 1999};
    ds4_plan *p = NULL;
    ds4_session *s = NULL;
    ds4_err err;
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    test_ok(ds4_plan_edit(p, edits, &err), &err);
    test_ok(ds4_session_new(&s, e, p, n, n, &err), &err);
    if (o) ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = o});
    test_ok(ds4_session_eval(s, token, n, DS4_PREFILL, &err), &err);
    ds4_plan_free(p);
    return s;
}

/* Observed, so that the output head runs for all n tokens too. */
static void check_ledger(ds4_engine *e, uint32_t n, const char *want, const char *refusal) {
    order o = {0};
    ds4_session *s = evaluate(e, "matmul=f16", n, &o);
    const ds4_ledger *l = ds4_session_ledger(s);
    uint32_t n_matmul = 0;
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++) {
        const ds4_ledger_entry *x = ds4_ledger_at(l, i);
        if (!is_matmul(x->tap)) {
            assert_string_equal(x->row, "strict");
            assert_string_equal(x->wanted, "strict");
            assert_null(x->refusal);
            continue;
        }
        n_matmul++;
        assert_string_equal(x->row, want);
        assert_string_equal(x->wanted, "f16");
        if (refusal) assert_string_equal(x->refusal, refusal);
        else assert_null(x->refusal);
        assert_int_equal(x->n_call, 1);
    }
    assert_true(n_matmul > 6 * 10);
    ds4_session_free(s);
}

static void test_plan_refused_row_is_in_the_ledger(void **state) {
    (void)state;
    ds4_engine *e = test_engine("ref", "fixtures/tiny/ds4-tiny-q4k.gguf");
    check_ledger(e, 8, "strict", "fewer than 9 tokens");
    check_ledger(e, 9, "f16", NULL);
    /* Unobserved, the head has one token, whatever the batch. */
    ds4_session *s = evaluate(e, "matmul=f16", 9, NULL);
    const ds4_ledger *l = ds4_session_ledger(s);
    uint32_t n_head = 0;
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++) {
        const ds4_ledger_entry *x = ds4_ledger_at(l, i);
        bool head = x->tap == DS4_TAP_logits || x->tap == DS4_TAP_out_hc_mix;
        if (!is_matmul(x->tap)) continue;
        n_head += head;
        assert_string_equal(x->row, head ? "strict" : "f16");
        if (head) assert_string_equal(x->refusal, "fewer than 9 tokens");
    }
    assert_int_equal(n_head, 2);
    ds4_session_free(s);
    ds4_engine_close(e);
}

static void test_plan_taps_run_in_table_order(void **state) {
    (void)state;
    ds4_engine *e = test_engine("ref", "fixtures/tiny/ds4-tiny-q4k.gguf");
    order o = {0};
    ds4_session_free(evaluate(e, "", 16, &o));
    assert_int_equal(o.n_bad, 0);
    assert_true(o.n > 6 * 40);
    assert_int_equal(o.last, DS4_TAP_logits);
    ds4_tap_event back = {.tap = DS4_TAP_out_norm, .layer = DS4_NO_LAYER};
    see(&o, &back); /* planted: a step back */
    assert_int_equal(o.n_bad, 1);
    ds4_engine_close(e);
}

static int setup(void **state) {
    (void)state;
    return ds4_ref_open(&ref, 1, NULL, NULL) == DS4_OK ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    ref->ops->close(ref);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_plan_targets_reach_their_cells),
        cmocka_unit_test(test_plan_forms_that_say_the_same_are_equal),
        cmocka_unit_test(test_plan_prefix_tells_op_from_tap),
        cmocka_unit_test(test_plan_preferences_are_kept_in_order),
        cmocka_unit_test(test_plan_rows_are_put_before_and_taken_away),
        cmocka_unit_test(test_plan_conditions_are_read_whole),
        cmocka_unit_test(test_plan_condition_holds_at_its_edges),
        cmocka_unit_test(test_plan_strict_first_runs_strict),
        cmocka_unit_test(test_plan_malformed_text_is_refused),
        cmocka_unit_test(test_plan_empty_members_are_refused),
        cmocka_unit_test(test_plan_long_value_is_not_cut),
        cmocka_unit_test(test_plan_file_is_read),
        cmocka_unit_test(test_plan_text_reads_back_on_ref),
        cmocka_unit_test(test_plan_builtin_apply_on_ref),
        cmocka_unit_test(test_plan_works_on_vk),
        cmocka_unit_test(test_plan_taps_are_sane),
        cmocka_unit_test(test_plan_refused_row_is_in_the_ledger),
        cmocka_unit_test(test_plan_taps_run_in_table_order),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
