/* Variants: the words of a boolean, the environment, and what each variant changes. Through a
 * session's observer the first call whose bits move must be one that variants.def says it
 * touches; variants that only rows without the strict promise honour must move nothing on
 * strict rows. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "engine/format/quant.h"
#include "tests/support.h"

/* ---- the words of a boolean ---- */

static void test_variants_boolean_words_are_read(void **state) {
    (void)state;
    static const char *const words[2][4] = {{"0", "off", "false", "no"},
                                            {"1", "on", "true", "yes"}};
    for (int value = 0; value < 2; value++)
        for (int i = 0; i < 4; i++)
            for (unsigned mask = 0; mask < 32; mask++) { /* every mix of cases */
                char word[8] = "";
                bool got = !value;
                ds4_err err;
                for (size_t k = 0; words[value][i][k]; k++)
                    word[k] = (char)(mask >> k & 1 ? toupper(words[value][i][k])
                                                   : words[value][i][k]);
                test_ok(ds4_bool_parse(&got, "X", word, &err), &err);
                assert_int_equal(got, value);
            }
}

static void test_variants_other_words_are_refused(void **state) {
    (void)state;
    static const char *const bad[] = {"",   " 1", "1 ",    "2",   "-1", "t",     "y",   "n",
                                      "01", "o",  "true1", "onn", "+1", "off\n", "vrai"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        bool got = true;
        ds4_err err = {0};
        assert_int_equal(ds4_bool_parse(&got, "DS4_SAFE_MATH", bad[i], &err), DS4_ERR_USAGE);
        assert_true(got); /* untouched */
        assert_non_null(strstr(err.message, "DS4_SAFE_MATH: found \""));
        assert_non_null(strstr(err.message, "wanted 1/0, on/off, true/false or yes/no"));
    }
}

/* ---- the environment ---- */

static void clear_environment(void) {
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        unsetenv(ds4_variant_table[v].name);
        unsetenv(ds4_variant_table[v].alias);
    }
    unsetenv("DS4_THREADS"), unsetenv("DS4_DEVICE"), unsetenv("DS4_VALIDATION");
    unsetenv("DS4_PIPELINE_CACHE"), unsetenv("DS4_VK_LIMITS");
    unsetenv("DS4_NO_SUCH"), unsetenv("DS4_");
}

static uint32_t defaults(void) {
    uint32_t bits = 0;
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) bits |= (uint32_t)ds4_variant_table[v].def << v;
    return bits;
}

static void test_variants_defaults_are_the_table(void **state) {
    (void)state;
    ds4_variant_set set;
    ds4_err err;
    clear_environment();
    test_ok(ds4_variants_from_env(&set, false, &err), &err);
    assert_int_equal(set.bits, defaults());
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) assert_string_equal(set.origin[v], "default");
}

/* By the name, by the historical name, and by both when they agree. */
static void test_variants_names_and_aliases_are_read(void **state) {
    (void)state;
    for (int v = 0; v < DS4_VARIANT_COUNT; v++)
        for (int value = 0; value < 2; value++)
            for (int by = 1; by < 4; by++) {
                const ds4_variant_info *info = &ds4_variant_table[v];
                ds4_variant_set set;
                ds4_err err;
                clear_environment();
                if (by & 1) setenv(info->name, value ? "on" : "off", 1);
                if (by & 2) setenv(info->alias, value ? "1" : "0", 1);
                test_ok(ds4_variants_from_env(&set, false, &err), &err);
                uint32_t want = (defaults() & ~(1u << v)) | (uint32_t)value << v;
                assert_int_equal(set.bits, want);
                for (int u = 0; u < DS4_VARIANT_COUNT; u++)
                    assert_string_equal(set.origin[u], u == v ? "environment" : "default");
                assert_int_equal(ds4_variant_find(info->name), v);
                assert_int_equal(ds4_variant_find(info->alias), v);
            }
    clear_environment();
    assert_int_equal(ds4_variant_find("DS4_NO_SUCH"), -1);
    assert_int_equal(ds4_variant_find(""), -1);
}

static void refuse(bool allow_unknown, const char *words) {
    ds4_variant_set set = {.bits = 0x5a};
    ds4_err err = {0};
    assert_int_equal(ds4_variants_from_env(&set, allow_unknown, &err), DS4_ERR_USAGE);
    if (!strstr(err.message, words)) fail_msg("\"%s\" lacks \"%s\"", err.message, words);
    assert_int_equal(set.bits, 0x5a); /* nothing half read */
}

static void test_variants_contradictions_are_refused(void **state) {
    (void)state;
    for (int v = 0; v < DS4_VARIANT_COUNT; v++)
        for (int value = 0; value < 2; value++) {
            const ds4_variant_info *info = &ds4_variant_table[v];
            char words[160];
            snprintf(words, sizeof words, "%s and %s disagree", info->name, info->alias);
            clear_environment();
            setenv(info->name, value ? "yes" : "no", 1);
            setenv(info->alias, value ? "no" : "yes", 1);
            refuse(false, words);
            refuse(true, words);
            clear_environment();
            setenv(info->alias, "maybe", 1);
            snprintf(words, sizeof words, "%s: found \"maybe\"", info->alias);
            refuse(true, words);
        }
    clear_environment();
}

static void test_variants_unknown_variable_is_refused_unless_allowed(void **state) {
    (void)state;
    ds4_variant_set set;
    ds4_err err;
    clear_environment();
    setenv("DS4_NO_SUCH", "1", 1);
    refuse(false, "DS4_NO_SUCH: no such variable");
    test_ok(ds4_variants_from_env(&set, true, &err), &err);
    assert_int_equal(set.bits, defaults());
    unsetenv("DS4_NO_SUCH");
    setenv("DS4_", "", 1);
    refuse(false, "DS4_: no such variable");
    clear_environment();
    setenv("XDS4_NO_SUCH", "1", 1); /* not ours */
    test_ok(ds4_variants_from_env(&set, false, &err), &err);
    unsetenv("XDS4_NO_SUCH");
}

static void test_variants_settings_are_accepted(void **state) {
    (void)state;
    ds4_variant_set set;
    ds4_err err;
    clear_environment();
    assert_null(ds4_setting("DS4_THREADS"));
    setenv("DS4_THREADS", "3", 1), setenv("DS4_DEVICE", "0", 1),
        setenv("DS4_VALIDATION", "no", 1);
    test_ok(ds4_variants_from_env(&set, false, &err), &err);
    assert_int_equal(set.bits, defaults());
    assert_string_equal(ds4_setting("DS4_THREADS"), "3");
    assert_string_equal(ds4_setting("DS4_DEVICE"), "0");
    assert_null(ds4_setting("DS4_SAFE_MATH")); /* a variant is no setting */
    assert_null(ds4_setting("PATH"));
    clear_environment();
}

static void test_variants_open_refuses_a_bad_environment(void **state) {
    (void)state;
    ds4_engine *e = NULL;
    ds4_err err = {0};
    ds4_engine_options o = {.engine = "ref", .n_thread = 1, .device = -1};
    clear_environment();
    setenv("DS4_NO_SUCH", "1", 1);
    assert_int_equal(ds4_engine_open(&e, "fixtures/tiny/ds4-tiny-q4k.gguf", &o, &err),
                     DS4_ERR_USAGE);
    assert_null(e);
    o.allow_unknown_env = true;
    test_ok(ds4_engine_open(&e, "fixtures/tiny/ds4-tiny-q4k.gguf", &o, &err), &err);
    ds4_engine_close(e);
    clear_environment();
}

/* ---- what a variant changes ---- */

enum { N_TOK = 12, MAX_EVENT = 1024 };

typedef struct trace {
    struct {
        ds4_tap tap;
        uint32_t layer;
        uint64_t hash;
    } at[MAX_EVENT];
    uint32_t n;
    ds4_ledger_entry ledger[MAX_EVENT];
    uint32_t n_entry;
} trace;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

static bool see(void *user, const ds4_tap_event *e) {
    trace *t = user;
    assert_true(t->n < MAX_EVENT);
    t->at[t->n].tap = e->tap, t->at[t->n].layer = e->layer;
    t->at[t->n++].hash = XXH3_64bits(e->data, (size_t)e->n_row * e->n_col * 4);
    return true;
}

static int32_t *text;
static trace base, other;

/* One batch on a fresh engine, so that the environment is read. */
static void run(const char *edits, trace *t) {
    ds4_engine *e = test_engine("ref", "fixtures/tiny/ds4-tiny-q4k.gguf");
    ds4_plan *p = NULL;
    ds4_session *s = NULL;
    ds4_err err;
    memset(t, 0, sizeof *t);
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    test_ok(ds4_plan_edit(p, edits, &err), &err);
    test_ok(ds4_session_new(&s, e, p, N_TOK, N_TOK, &err), &err);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = t});
    test_ok(ds4_session_eval(s, text, N_TOK, DS4_PREFILL, &err), &err);
    const ds4_ledger *l = ds4_session_ledger(s);
    t->n_entry = ds4_ledger_n(l);
    assert_true(t->n_entry <= MAX_EVENT);
    for (uint32_t i = 0; i < t->n_entry; i++) t->ledger[i] = *ds4_ledger_at(l, i);
    ds4_session_free(s);
    ds4_plan_free(p);
    ds4_engine_close(e);
}

/* Index of the first event whose bits differ, or n. */
static uint32_t first_difference(const trace *a, const trace *b) {
    uint32_t i = 0;
    assert_int_equal(a->n, b->n);
    while (i < a->n && a->at[i].hash == b->at[i].hash) i++;
    return i;
}

static bool same_text(const char *a, const char *b) {
    return a == b || (a && b && !strcmp(a, b));
}

static bool same_ledger(const trace *a, const trace *b) {
    if (a->n_entry != b->n_entry) return false;
    for (uint32_t i = 0; i < a->n_entry; i++) {
        const ds4_ledger_entry *x = &a->ledger[i], *y = &b->ledger[i];
        if (x->tap != y->tap || x->layer != y->layer || x->phase != y->phase ||
            x->wtype != y->wtype || x->changed != y->changed || x->n_call != y->n_call ||
            x->n_elem != y->n_elem || !same_text(x->row, y->row) ||
            !same_text(x->wanted, y->wanted) || !same_text(x->refusal, y->refusal))
            return false;
    }
    return true;
}

/* Whether variants.def names this call: by its op, by its tap or by its weights. */
static bool is_touched(ds4_variant v, ds4_tap tap, uint32_t wtype) {
    char what[128], *rest = what, op[64], call[64];
    snprintf(what, sizeof what, "%s", ds4_variant_table[v].touches);
    snprintf(op, sizeof op, "op:%s", ds4_op_table[ds4_tap_table[tap].op].name);
    snprintf(call, sizeof call, "tap:%s", ds4_tap_table[tap].name);
    if (!strcmp(what, "weights:blocks"))
        return (!strcmp(op, "op:matmul") || !strcmp(op, "op:matmul_id")) &&
               (wtype == DS4_QUANT_Q8_0 || wtype == DS4_QUANT_Q4_K);
    for (char *word; (word = strsep(&rest, "|"));)
        if (!strcmp(word, op) || !strcmp(word, call)) return true;
    return false;
}

static bool is_numeric(ds4_variant v) {
    return strncmp(ds4_variant_table[v].touches, "rows:", 5) != 0;
}

/* Format of the weights of event i, from the ledger. */
static uint32_t wtype_at(const trace *t, uint32_t i) {
    for (uint32_t k = 0; k < t->n_entry; k++)
        if (t->ledger[k].tap == t->at[i].tap && t->ledger[k].layer == t->at[i].layer)
            return t->ledger[k].wtype;
    fail_msg("%s is not in the ledger", ds4_tap_table[t->at[i].tap].name);
    return 0;
}

static void check_touch(ds4_variant v, const char *how, uint32_t layer) {
    uint32_t at = first_difference(&base, &other);
    if (at == base.n) fail_msg("%s %s changes nothing", ds4_variant_table[v].name, how);
    print_message("  %-24s %-12s first moves %s, layer %u\n", ds4_variant_table[v].name, how,
                  ds4_tap_table[base.at[at].tap].name, base.at[at].layer);
    assert_true(is_touched(v, base.at[at].tap, wtype_at(&base, at)));
    if (layer != DS4_NO_LAYER) assert_int_equal(base.at[at].layer, layer);
    for (uint32_t i = 0; i < other.n_entry; i++) {
        const ds4_ledger_entry *e = &other.ledger[i];
        bool here =
            is_touched(v, e->tap, e->wtype) && (layer == DS4_NO_LAYER || e->layer == layer);
        assert_int_equal(e->changed, here ? 1u << v : 0);
    }
}

static void test_variants_move_first_the_op_they_touch(void **state) {
    (void)state;
    clear_environment();
    run("", &base);
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        const ds4_variant_info *info = &ds4_variant_table[v];
        char edit[96];
        if (!is_numeric((ds4_variant)v)) continue;
        setenv(info->name, info->def ? "0" : "1", 1);
        run("", &other);
        unsetenv(info->name);
        check_touch((ds4_variant)v, "environment", DS4_NO_LAYER);
        trace by_env = other; /* what the environment does everywhere, an edit does too */
        snprintf(edit, sizeof edit, "%s=%d", info->name, !info->def);
        run(edit, &other);
        assert_int_equal(first_difference(&by_env, &other), by_env.n);
        snprintf(edit, sizeof edit, "%s@4=%d", info->name, !info->def);
        run(edit, &other);
        check_touch((ds4_variant)v, "layer 4", 4);
        snprintf(edit, sizeof edit, "%s=%d", info->name, info->def);
        run(edit, &other); /* said aloud, the default changes nothing */
        assert_int_equal(first_difference(&base, &other), base.n);
        assert_true(same_ledger(&base, &other));
    }
}

/* The comparison tells a wrong place: the op that each numeric variant does not touch. */
static void test_variants_planted_change_is_elsewhere(void **state) {
    (void)state;
    run("", &base);
    run("tap:attn_hc_mix@0=f16", &other); /* an F16 weight: DS4_ACT_Q8 leaves it alone too */
    uint32_t at = first_difference(&base, &other);
    assert_true(at < base.n);
    assert_int_equal(base.at[at].tap, DS4_TAP_attn_hc_mix);
    for (int v = 0; v < DS4_VARIANT_COUNT; v++)
        assert_false(is_touched((ds4_variant)v, base.at[at].tap, wtype_at(&base, at)));
    assert_false(same_ledger(&base, &other));
}

static void test_variants_of_fast_rows_leave_strict_alone(void **state) {
    (void)state;
    run("", &base);
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        if (is_numeric((ds4_variant)v)) continue;
        setenv(ds4_variant_table[v].name, "1", 1);
        run("", &other);
        unsetenv(ds4_variant_table[v].name);
        assert_int_equal(first_difference(&base, &other), base.n);
        assert_true(same_ledger(&base, &other));
    }
}

static void test_variants_tensor_disable_refuses_f16(void **state) {
    (void)state;
    run("", &base);
    run("matmul=f16", &other);
    assert_true(first_difference(&base, &other) < base.n);
    setenv("DS4_TENSOR_MATMUL_DISABLE", "1", 1);
    run("matmul=f16", &other);
    unsetenv("DS4_TENSOR_MATMUL_DISABLE");
    assert_int_equal(first_difference(&base, &other), base.n);
    uint32_t n_refused = 0;
    for (uint32_t i = 0; i < other.n_entry; i++) {
        const ds4_ledger_entry *e = &other.ledger[i];
        assert_string_equal(e->row, "strict");
        if (ds4_tap_table[e->tap].op != DS4_OP_matmul) {
            assert_null(e->refusal);
            continue;
        }
        assert_string_equal(e->wanted, "f16");
        assert_string_equal(e->refusal, "DS4_TENSOR_MATMUL_DISABLE is on");
        n_refused++;
    }
    assert_true(n_refused > 20);
}

static int setup(void **state) {
    (void)state;
    clear_environment();
    return test_read_tokens("fixtures/vectors/oracle/italian_96.tokens", &text) == 96 ? 0 : -1;
}

static int teardown(void **state) {
    (void)state;
    free(text);
    return 0;
}

int main(void) {
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_variants_boolean_words_are_read),
        cmocka_unit_test(test_variants_other_words_are_refused),
        cmocka_unit_test(test_variants_defaults_are_the_table),
        cmocka_unit_test(test_variants_names_and_aliases_are_read),
        cmocka_unit_test(test_variants_contradictions_are_refused),
        cmocka_unit_test(test_variants_unknown_variable_is_refused_unless_allowed),
        cmocka_unit_test(test_variants_settings_are_accepted),
        cmocka_unit_test(test_variants_open_refuses_a_bad_environment),
        cmocka_unit_test(test_variants_move_first_the_op_they_touch),
        cmocka_unit_test(test_variants_planted_change_is_elsewhere),
        cmocka_unit_test(test_variants_of_fast_rows_leave_strict_alone),
        cmocka_unit_test(test_variants_tensor_disable_refuses_f16),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
