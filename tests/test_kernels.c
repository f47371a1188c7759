/* Every row of kernels/kernels.def on every case of its op (engine/kernel_suite.h), through the
 * backend, against the scalar reference: EXACT rows in every bit, the others within the bound
 * of the manifest. Guard words stand after every output; outputs start as a pattern, so that an
 * element left out shows. The library does the work; here stands what its results must be, and
 * that each of its checks can fail.
 *
 * Run the rows of one op with `test_kernels OP`; one case is `ds4-drift kernels --case '..'`,
 * as failure lines print it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/kernel_capture.h"
#include "engine/kernel_suite.h"
#include "engine/variants.h"
#include "engine/vk/vk.h"
#include "tests/support.h"

enum { GUARD = DS4_CASE_GUARD };

static ds4_backend *vk; /* NULL: no device, `why` says why */
static char why[600];
static const char *only; /* one op's name; NULL: all */

static bool skipped(int op) { return only && strcmp(only, ds4_op_table[op].name) != 0; }

#define NEED_DEVICE                                                                            \
    do {                                                                                       \
        if (!vk) {                                                                             \
            print_message("SKIP: %s\n", why);                                                  \
            skip();                                                                            \
        }                                                                                      \
    } while (0)

static bool print_breach(void *user, const ds4_suite_run *r) {
    const ds4_verdict *v = &r->verdict;
    (void)user;
    if (r->refused || r->pass) return true;
    print_error("beyond %s: %zu differ, first [%zu]; max %u ulp, nrmse %.3g, %zu class, %zu "
                "guard words\n  ds4-drift kernels --case '%s'\n",
                r->row->info->bound, v->n_bad, v->first, v->ulp, v->nrmse, v->n_class,
                v->n_guard, r->text);
    return true;
}

static ds4_suite *suite_new(ds4_backend *b, const ds4_suite_options *o) {
    ds4_suite *s = NULL;
    ds4_err err;
    test_ok(ds4_suite_new(&s, b, o, &err), &err);
    return s;
}

/* Prints a line per row and gives the number of rows that are not clean. */
static uint32_t n_problem(const ds4_suite *s) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < ds4_suite_n_row(s); i++) {
        const ds4_suite_row *r = ds4_suite_row_at(s, i);
        char text[200];
        ds4_suite_state state = ds4_suite_judge(r, true, text, sizeof text);
        print_message("%-14s %-8s bound %-12s worst %u ulp, nrmse %.2e; %u cases, %u at edges, "
                      "%u runs, %u differ, %u refused %s\n",
                      ds4_op_table[r->op].name, r->info->name, r->info->bound, r->ulp, r->nrmse,
                      r->n_case[DS4_SUITE_LISTED], r->n_case[DS4_SUITE_EDGE], r->n_run,
                      r->n_differ, r->n_refused, text);
        n += state != DS4_SUITE_CLEAN && state != DS4_SUITE_LACKING;
    }
    return n;
}

typedef struct lines {
    ds4_suite *s;
    const char *but; /* cases with this text are left out; NULL: none */
} lines;

static ds4_status run_line(void *user, ds4_op op, const char *line, ds4_suite_source source,
                           ds4_err *err) {
    const lines *l = user;
    ds4_case c;
    if (l->but && strstr(line, l->but)) return DS4_OK;
    test_ok(ds4_case_init(&c, op, line, err), err);
    test_ok(ds4_suite_run_case(l->s, &c, source, err), err);
    ds4_case_fini(&c);
    return DS4_OK;
}

static void check_rows(ds4_backend *b, const char *but, const char *but_case) {
    ds4_suite *s =
        suite_new(b, &(ds4_suite_options){.op = only, .leave_out = but, .see = print_breach});
    ds4_err err;
    for (int op = 0; op < DS4_OP_COUNT; op++)
        if (!skipped(op))
            test_ok(ds4_suite_lines(s, (ds4_op)op, run_line, &(lines){s, but_case}, &err),
                    &err);
    assert_int_equal(n_problem(s), 0);
    ds4_suite_free(s);
}

static void test_rows_every_case_within_bound(void **state) {
    (void)state;
    NEED_DEVICE;
    check_rows(vk, NULL, NULL);
}

/* The rows of the CPU engines, but for compat, whose bounds are those of an evaluation
 * (tests/test_compat.c): blocks of int8 lose what stands beside a far larger value. The
 * rows of ref64 store no zero for what is below 2^-51: they do not run the cases made of it. */
static void test_cpu_rows_every_case_within_bound(void **state) {
    (void)state;
    static const char *const engine[] = {"ref", "ref64"};
    ds4_err err;
    for (int i = 0; i < 2; i++) {
        ds4_engine_options o = {.engine = engine[i], .n_thread = 2, .noise_seed = 5};
        ds4_backend *cpu;
        test_ok(ds4_backend_open(&cpu, &o, &err), &err);
        check_rows(cpu, "compat", i ? "fill=tiny" : NULL);
        cpu->ops->close(cpu);
    }
}

/* --- that the checks can fail --- */

static void test_compare_planted_fault_is_found(void **state) {
    uint32_t want[8 + GUARD], got[8 + GUARD];
    (void)state;
    for (int i = 0; i < 8; i++) want[i] = ds4_f32_bits(1.0f + (float)i);
    ds4_case_pattern(want + 8, 0);
    memcpy(got, want, sizeof got);
    ds4_verdict v = ds4_case_compare(got, want, 8, true);
    assert_true(ds4_case_within(&v, "exact"));

    got[5]++; /* one ulp */
    v = ds4_case_compare(got, want, 8, true);
    assert_int_equal(v.first, 5);
    assert_false(ds4_case_within(&v, "exact"));
    assert_false(ds4_case_within(&v, "ULP(0)"));
    assert_true(ds4_case_within(&v, "ULP(1)") && ds4_case_within(&v, "NRMSE(1e-6)"));
    assert_false(ds4_case_within(&v, "ULP") || ds4_case_within(&v, "anything"));

    got[5] = want[5] ^ 0x80000000u;
    v = ds4_case_compare(got, want, 8, true);
    assert_false(ds4_case_within(&v, "NRMSE(0.5)"));

    got[5] = want[5], got[8] = 0; /* a guard word */
    v = ds4_case_compare(got, want, 8, true);
    assert_false(ds4_case_within(&v, "NRMSE(1)"));

    got[8] = DS4_CASE_PATTERN, got[2] = DS4_CASE_PATTERN; /* an element left out */
    v = ds4_case_compare(got, want, 8, true);
    assert_int_equal(v.n_class, 1);
    assert_false(ds4_case_within(&v, "NRMSE(1)"));

    want[2] = 0x80000000u, got[2] = 0; /* signs of zero are bits */
    v = ds4_case_compare(got, want, 8, true);
    assert_false(ds4_case_within(&v, "exact"));
}

/* Whether a row gives other bits than the reference of c once one of the first words of a float
 * input has another last bit. */
static bool change_is_caught(ds4_suite *s, ds4_case *c) {
    uint32_t in = 0;
    bool caught = false;
    void *out = NULL;
    ds4_err err;
    while (in + 1 < c->n_bind && c->kind[in] != 'f') in++;
    ds4_case_reference(c);
    test_ok(ds4_mem_alloc(&out, c->bytes[c->n_bind - 1] + 4 * GUARD, 1, &err), &err);
    for (size_t i = 0; c->kind[in] == 'f' && i < 4 && i < c->bytes[in] / 4 && !caught; i++) {
        uint32_t *word = (uint32_t *)c->bind[in] + i, was = *word;
        const char *refused;
        *word ^= 1u;
        test_ok(ds4_suite_call(s, c, 0, 0, out, &refused, &err), &err);
        if (!refused) {
            ds4_verdict v = ds4_case_judge(c, out);
            caught = !ds4_case_within(&v, "exact");
        }
        *word = was;
    }
    ds4_mem_free(out);
    return caught;
}

/* Every op whose outputs can show it. */
static void test_strict_changed_input_is_caught(void **state) {
    uint32_t n_caught = 0;
    ds4_err err;
    (void)state;
    NEED_DEVICE;
    ds4_suite *s = suite_new(vk, &(ds4_suite_options){.op = only});
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        char line[DS4_CASE_LINE], text[DS4_CASE_LINE], unit;
        bool caught = skipped(op);
        for (const char *at = NULL; !caught && ds4_case_next((ds4_op)op, &at, line);) {
            ds4_case c;
            ds4_case_edge(text, line, 2, &unit);
            if (unit) continue;
            test_ok(ds4_case_init(&c, (ds4_op)op, line, &err), &err);
            caught = change_is_caught(s, &c);
            ds4_case_fini(&c);
        }
        n_caught += caught && !skipped(op);
    }
    ds4_suite_free(s);
    assert_true(only || n_caught >= 14);
}

/* What a fast row does on the cases of its op. */
typedef struct fast {
    ds4_suite *s;
    uint32_t row;
    bool differ, ran, effect;
} fast;

static ds4_status see_fast(void *user, ds4_op op, const char *line, ds4_suite_source source,
                           ds4_err *err) {
    fast *f = user;
    ds4_status st = DS4_OK;
    ds4_case c;
    void *out = NULL, *safe = NULL;
    const char *refused, *refused_safe;
    if (source != DS4_SUITE_LISTED || (f->differ && f->effect)) return st;
    test_ok(ds4_case_init(&c, op, line, err), err);
    ds4_case_reference(&c);
    size_t n = c.bytes[c.n_bind - 1];
    TRY(ds4_mem_alloc(&out, n + 4 * GUARD, 1, err));
    TRY(ds4_mem_alloc(&safe, n + 4 * GUARD, 1, err));
    TRY(ds4_suite_call(f->s, &c, f->row, 0, out, &refused, err));
    if (refused) goto out;
    TRY(ds4_suite_call(f->s, &c, f->row, DS4_VARIANT_BIT(SAFE_MATH), safe, &refused_safe, err));
    ds4_verdict v = ds4_case_judge(&c, out);
    f->ran = true, f->differ |= !ds4_case_within(&v, "exact");
    f->effect |= !refused_safe && memcmp(out, safe, n) != 0;
out:
    ds4_mem_free(out);
    ds4_mem_free(safe);
    ds4_case_fini(&c);
    return st;
}

static void test_fast_rows_judged_exact_fail(void **state) {
    uint32_t n_fast = 0, n_differ = 0, n_effect = 0;
    ds4_err err;
    (void)state;
    NEED_DEVICE;
    ds4_suite *s = suite_new(vk, &(ds4_suite_options){.op = only});
    for (int op = 0; op < DS4_OP_COUNT; op++)
        for (uint32_t r = 1; !skipped(op) && r < vk->ops->n_row(vk, (ds4_op)op); r++) {
            const char *name = vk->ops->row(vk, (ds4_op)op, r)->name;
            fast f = {.s = s, .row = r};
            test_ok(ds4_suite_lines(s, (ds4_op)op, see_fast, &f, &err), &err);
            n_fast += f.ran, n_differ += f.differ, n_effect += f.effect;
            if (f.ran && !f.effect)
                print_message("%s__%s: SAFE_MATH changes no bit on this device\n",
                              ds4_op_table[op].name, name);
            if (f.ran && !f.differ)
                print_message("%s__%s equals the reference in every case on this device\n",
                              ds4_op_table[op].name, name);
        }
    ds4_suite_free(s);
    print_message("%u of %u fast rows differ from the reference, SAFE_MATH changes %u\n",
                  n_differ, n_fast, n_effect);
    assert_true(n_differ >= n_fast / 2);
    assert_true(only || n_effect > 0);
}

int main(int argc, char **argv) {
    ds4_err err = {0};
    ds4_vk_options options = test_vk_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare_planted_fault_is_found),
        cmocka_unit_test(test_rows_every_case_within_bound),
        cmocka_unit_test(test_cpu_rows_every_case_within_bound),
        cmocka_unit_test(test_strict_changed_input_is_caught),
        cmocka_unit_test(test_fast_rows_judged_exact_fail),
    };

    if (ds4_vk_open(&vk, &options, &err)) {
        snprintf(why, sizeof why, "no usable Vulkan device: %s", err.message);
        fprintf(stderr, "%s\n", why);
        if ((test_needs_device()) || err.status == DS4_ERR_INTERNAL) return 1;
    }
    if (argc > 1) only = argv[1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    int st = cmocka_run_group_tests(tests, NULL, NULL);
    if (vk) vk->ops->close(vk);
    return st;
}
