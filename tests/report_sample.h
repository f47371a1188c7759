#ifndef TESTS_REPORT_SAMPLE_H
#define TESTS_REPORT_SAMPLE_H
/* Hand-made results for the tests of reports: hostile strings, NaN, infinities, empty arrays.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "reports/report.h"

#define HOSTILE "</script><script>alert(\"x\")</script>,'&\n]]>\x01\xff|`"
/* As a writer of UTF-8 shows it: a byte that is none becomes U+FFFD. */
#define HOSTILE_UTF8 "</script><script>alert(\"x\")</script>,'&\n]]>\x01\xef\xbf\xbd|`"
#define NOT_MEASURED ((double)NAN)

typedef struct bytes {
    char *p;
    size_t n;
} bytes;

static inline bool collect(void *user, const char *p, size_t n) {
    bytes *b = user;
    b->p = realloc(b->p, b->n + n + 1);
    assert_non_null(b->p);
    memcpy(b->p + b->n, p, n);
    b->n += n, b->p[b->n] = 0;
    return true;
}

static inline bytes render(const drift_result *r, const char *format) {
    const report_writer *w = report_writer_find(format);
    ds4_err err = {0};
    bytes b = {0};
    assert_non_null(w);
    if (w->write(r, collect, &b, &err)) fail_msg("%s: %s", format, err.message);
    assert_non_null(b.p);
    return b;
}

static inline void fill_tensor(drift_result *r) {
    r->n_tensor = 4;
    r->tensor = drift_result_alloc(r, r->n_tensor, sizeof *r->tensor);
    double *row = drift_result_alloc(r, 3, sizeof *row);
    row[0] = 0, row[1] = 0.1, row[2] = NOT_MEASURED;
    for (size_t i = 0; i < r->n_tensor; i++)
        r->tensor[i] = (drift_tensor){.fixture = HOSTILE,
                                      .tap = i ? "ffn_hc_out" : "embed",
                                      .op = HOSTILE,
                                      .layer = (int32_t)i - 1,
                                      .order = (uint32_t)i,
                                      .first_pos = -1,
                                      .cosine = 1};
    drift_tensor *t = &r->tensor[1];
    t->state = DRIFT_TENSOR_DIFFERENT, t->row_a = "strict", t->row_b = HOSTILE;
    t->n_elem = 12, t->n_diff = 5, t->rms = 0.1, t->max_abs = (double)INFINITY;
    t->nrmse = 0.25, t->cosine = NOT_MEASURED, t->first_pos = 7, t->ulp[0] = 7, t->ulp[9] = 5;
    t->n_row = 3, t->pos0 = 10, t->pos_step = 2, t->row_rms = row;
    t->bad_b.n_nan = 1, t->bad_b.first = 4, t->n_bad_differs = 1, t->max_ulp = UINT32_MAX;
    r->tensor[2].state = DRIFT_TENSOR_UNMEASURED, r->tensor[2].why = HOSTILE;
    r->tensor[3].state = DRIFT_TENSOR_MISSING_A;
}

static inline void fill_logits(drift_result *r) {
    r->n_logits = 1, r->logits = drift_result_alloc(r, 1, sizeof *r->logits);
    drift_logits *l = r->logits;
    l->fixture = HOSTILE, l->n = 900;
    l->at = drift_result_alloc(r, l->n, sizeof *l->at);
    for (size_t i = 0; i < l->n; i++)
        l->at[i] = (drift_logit){.pos = (uint32_t)i,
                                 .next = -1,
                                 .rms = 1e-3,
                                 .kl_ab = 1e-6,
                                 .logp_next_a = NOT_MEASURED,
                                 .n_largest = 1,
                                 .largest = {{3, 1, -(double)INFINITY, 1, HOSTILE}}};
    l->at[5].kl_ab = (double)INFINITY, l->rms_max = 1e-3, l->kl_max = (double)INFINITY;
}

static inline drift_result *sample_compare(void) {
    drift_result *r = NULL;
    assert_int_equal(drift_result_new(&r, NULL), DS4_OK);
    r->title = HOSTILE, r->kind = "compare", r->verdict = DRIFT_DRIFT,
    r->summary = "drift: " HOSTILE;
    r->created = "2000-01-01T00:00:00Z", r->tool = "ds4-drift", r->command = HOSTILE;
    r->same_rows = true;
    for (int i = 0; i < 2; i++) {
        drift_side *s = &r->side[i];
        s->label = HOSTILE, s->path = HOSTILE, s->n_fact = 2;
        s->fact = drift_result_alloc(r, 2, sizeof *s->fact);
        s->fact[0] = (drift_pair){"plan", i ? "a=b " HOSTILE : HOSTILE};
        s->fact[1] = (drift_pair){HOSTILE, i ? NULL : ""};
    }
    r->n_fixture = 1, r->fixture = drift_result_alloc(r, 1, sizeof *r->fixture);
    r->fixture[0] = (drift_fixture){HOSTILE, 900, 0, DRIFT_DRIFT, 1};
    fill_tensor(r);
    fill_logits(r);
    r->n_executed = 1, r->executed = drift_result_alloc(r, 1, sizeof *r->executed);
    r->executed[0] = (drift_executed){.fixture = HOSTILE,
                                      .tap = HOSTILE,
                                      .op = HOSTILE,
                                      .phase = "prefill",
                                      .row_a = HOSTILE,
                                      .refusal_b = HOSTILE,
                                      .n_call_a = 3};
    r->n_coverage = 1, r->coverage = drift_result_alloc(r, 1, sizeof *r->coverage);
    r->coverage[0] = (drift_coverage){HOSTILE, HOSTILE, 0, 0, HOSTILE};
    return r;
}

static inline drift_result *sample_bisect(void) {
    drift_result *r = NULL;
    assert_int_equal(drift_result_new(&r, NULL), DS4_OK);
    r->title = "search", r->kind = "bisect", r->verdict = DRIFT_DRIFT,
    r->summary = "drift: " HOSTILE;
    drift_bisect_result *b = r->bisect = drift_result_alloc(r, 1, sizeof *b);
    b->fixture = b->metric = b->replay = HOSTILE, b->score_all = (double)INFINITY;
    b->n_toggle = 4, b->toggle = drift_result_alloc(r, 4, sizeof *b->toggle);
    for (int i = 0; i < 4; i++)
        b->toggle[i] = (drift_toggle){i ? "matmul@2=tile" : HOSTILE, i == 2 ? HOSTILE : NULL,
                                      (drift_toggle_state)i, NOT_MEASURED, 0.5};
    b->n_trial = 2, b->trial = drift_result_alloc(r, 2, sizeof *b->trial);
    b->trial[0] = (drift_trial){1, "all off", "", 0, 1e-5, false, 0.1, NULL};
    b->trial[1] = (drift_trial){2, HOSTILE, HOSTILE, (double)INFINITY, 1e-5, true, 1, HOSTILE};
    return r;
}

static inline drift_result *sample_empty(void) {
    drift_result *r = NULL;
    assert_int_equal(drift_result_new(&r, NULL), DS4_OK);
    r->verdict = DRIFT_NOT_COMPARABLE;
    return r;
}

static drift_result *(*const sample[])(void) = {sample_compare, sample_bisect, sample_empty};
enum { N_SAMPLE = sizeof sample / sizeof *sample };

#endif
