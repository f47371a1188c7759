#include "drift/bisect.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "drift/search.h"
#include "drift/trial.h"
#include "engine/base/mem.h"

typedef struct bisect {
    drift_result *r;
    drift_bisect_result *b;
    const drift_bisect_options *opt;
    ds4_engine *engine;
    ds4_session *session;
    const ds4_plan *base_plan;
    const drift_fixture_input *f;
    drift_base *base;
    drift_executions *base_ran, *all_ran;
    drift_toggles toggles;
    size_t trial_cap;
    double seconds; /* of all trials so far */
} bisect;

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* The base plan with the toggles of a subset. */
static ds4_status plan_with(const bisect *x, const uint8_t *on, ds4_plan **out, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_plan *p = NULL;

    TRY(ds4_plan_copy(&p, x->base_plan, err));
    for (size_t i = 0; i < x->toggles.n; i++)
        if (on[i]) TRY(ds4_plan_edit(p, x->toggles.text[i], err));
    *out = p, p = NULL;
out:
    ds4_plan_free(p);
    return st;
}

/* "3 of 12: a, b, c"; long lists are cut, the count stays. */
static const char *subset_text(const bisect *x, const uint8_t *on) {
    char text[512];
    size_t n_on = 0, n;
    for (size_t i = 0; i < x->toggles.n; i++) n_on += on[i] != 0;
    n = (size_t)snprintf(text, sizeof text, "%zu of %zu", n_on, x->toggles.n);
    for (size_t i = 0, shown = 0; i < x->toggles.n && n < sizeof text - 8; i++) {
        if (!on[i]) continue;
        if (shown == 6 || n + strlen(x->toggles.text[i]) + 8 > sizeof text) {
            snprintf(text + n, sizeof text - n, ", ...");
            break;
        }
        n += (size_t)snprintf(text + n, sizeof text - n, "%s%s", shown++ ? ", " : ": ",
                              x->toggles.text[i]);
    }
    return drift_result_str(x->r, text);
}

static const char *evidence(const bisect *x, const drift_trial_outcome *o) {
    if (o->same_bits) return drift_result_str(x->r, "same bits at every tap and logit");
    char layer[16];
    if (o->first_layer == DS4_NO_LAYER) snprintf(layer, sizeof layer, "embedding/head");
    else snprintf(layer, sizeof layer, "layer %u", o->first_layer);
    return drift_result_printf(
        x->r,
        "first divergence: %s, tap %s (op %s), positions from %u; logit rms %.3g, KL %.3g, top-1 flips %.3g %%",
        layer, ds4_tap_table[o->first_tap].name,
        ds4_op_table[ds4_tap_table[o->first_tap].op].name, o->first_pos, o->logit_rms,
        o->kl_mean, 100.0 * o->top1_flips);
}

static ds4_status add_trial(bisect *x, const uint8_t *on, const char *purpose,
                            const drift_trial_outcome *o, double seconds, ds4_err *err) {
    drift_bisect_result *b = x->b;
    if (b->n_trial == x->trial_cap) {
        size_t cap = x->trial_cap ? 2 * x->trial_cap : 64;
        drift_trial *grown = drift_result_alloc(x->r, cap, sizeof *grown);
        if (!grown) return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE, "out of memory");
        if (b->n_trial) memcpy(grown, b->trial, b->n_trial * sizeof *grown);
        b->trial = grown, x->trial_cap = cap;
    }
    b->trial[b->n_trial] = (drift_trial){.number = (uint32_t)b->n_trial + 1,
                                         .purpose = drift_result_str(x->r, purpose),
                                         .toggles = subset_text(x, on),
                                         .score = o->score,
                                         .threshold = x->opt->threshold,
                                         .fails = o->score > x->opt->threshold,
                                         .seconds = seconds,
                                         .evidence = evidence(x, o)};
    b->n_trial++;
    return DS4_OK;
}

static ds4_status evaluate(bisect *x, const uint8_t *on, const char *purpose,
                           drift_trial_outcome *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_plan *p = NULL;
    double t0 = now();

    TRY(plan_with(x, on, &p, err));
    TRY(drift_base_compare(x->base, x->session, p, x->f, x->opt->metric, o, &x->opt->progress,
                           err));
    TRY(add_trial(x, on, purpose, o, now() - t0, err));
    x->seconds += now() - t0;
    if (x->opt->progress.tell) {
        char text[128];
        snprintf(text, sizeof text, "trial %zu (%s): score %.3g, %.1f s each", x->b->n_trial,
                 purpose, o->score, x->seconds / (double)x->b->n_trial);
        if (!x->opt->progress.tell(x->opt->progress.user, -1.0, text))
            RAISE(DS4_ERR_CANCELLED, "interrupted");
    }
out:
    ds4_plan_free(p);
    return st;
}

static ds4_status oracle(void *user, const uint8_t *on, size_t n, const char *purpose,
                         bool *fails, ds4_err *err) {
    bisect *x = user;
    drift_trial_outcome o;
    (void)n;
    ds4_status st = evaluate(x, on, purpose, &o, err);
    if (st == DS4_OK) *fails = o.score > x->opt->threshold;
    return st;
}

/* Toggles that the all-on run did not exercise. One whose calls ran by something else there,
 * because of another toggle gets a run of its own before it is called not exercised. */
static ds4_status find_exercised(bisect *x, uint8_t *universe, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t *solo = NULL;
    ds4_plan *p = NULL;
    drift_executions *ran = NULL;
    drift_trial_outcome o;

    TRY(ds4_mem_alloc(&solo, x->toggles.n, 1, err));
    for (size_t i = 0; i < x->toggles.n; i++) {
        drift_toggle *t = &x->b->toggle[i];
        const char *why;
        solo[i] = 1;
        TRY(plan_with(x, solo, &p, err));
        drift_execution ex = drift_exercised(x->base_ran, x->all_ran, x->base_plan, p, &why);
        if (ex == DRIFT_OTHER_RAN) {
            TRY(evaluate(x, solo, "is it exercised alone", &o, err));
            TRY(drift_executions_copy(&ran, ds4_session_ledger(x->session), err));
            ex = drift_exercised(x->base_ran, ran, x->base_plan, p, &why);
            drift_executions_free(ran), ran = NULL;
        }
        universe[i] = ex == DRIFT_EXERCISED;
        t->state = universe[i] ? DRIFT_TOGGLE_CLEARED : DRIFT_TOGGLE_NOT_EXERCISED;
        if (!universe[i]) t->why = drift_result_str(x->r, why);
        ds4_plan_free(p), p = NULL;
        solo[i] = 0;
    }
out:
    drift_executions_free(ran);
    ds4_plan_free(p);
    ds4_mem_free(solo);
    return st;
}

/* Scores of every guilty toggle alone, and of the guilty together without it. */
static ds4_status judge(bisect *x, const uint32_t *group, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint8_t *on = NULL;
    drift_trial_outcome o;
    size_t n = x->toggles.n;

    TRY(ds4_mem_alloc(&on, n, 1, err));
    for (size_t i = 0; i < n; i++) on[i] = group[i] != 0;
    TRY(evaluate(x, on, "all guilty toggles together", &o, err));
    x->b->score_guilty = o.score;
    x->b->one_minimal = true;
    for (size_t i = 0; i < n; i++) {
        if (!group[i]) continue;
        x->b->toggle[i].state = DRIFT_TOGGLE_GUILTY;
        memset(on, 0, n), on[i] = 1;
        TRY(evaluate(x, on, "guilty toggle alone", &o, err));
        x->b->toggle[i].solo_score = o.score;
        /* 1-minimality: the toggle's own set without it passes. */
        for (size_t k = 0; k < n; k++) on[k] = group[k] == group[i] && k != i;
        bool alone = true;
        for (size_t k = 0; k < n; k++) alone = alone && !on[k];
        o.score = 0.0;
        if (!alone) TRY(evaluate(x, on, "1-minimal check: its set without it", &o, err));
        x->b->toggle[i].without_score = o.score;
        if (o.score > x->opt->threshold) x->b->one_minimal = false;
    }
out:
    ds4_mem_free(on);
    return st;
}

static void append_names(char *dst, size_t cap, const bisect *x, const uint32_t *group,
                         uint32_t g) {
    const char *join = "";
    for (size_t i = 0; i < x->toggles.n; i++) {
        if (group[i] != g) continue;
        size_t n = strlen(dst);
        snprintf(dst + n, cap - n, "%s%s", join, x->toggles.text[i]);
        join = " with ";
    }
}

static void conclude(bisect *x, const uint32_t *group, uint32_t n_group, size_t n_exercised) {
    drift_result *r = x->r;
    size_t n = x->toggles.n, n_not = n - n_exercised;
    char names[2048] = "";

    for (uint32_t g = 1; g <= n_group; g++) {
        if (g > 1) strncat(names, "; ", sizeof names - strlen(names) - 1);
        append_names(names, sizeof names, x, group, g);
    }
    if (!n_exercised) {
        r->verdict = DRIFT_NOT_COMPARABLE;
        r->summary = drift_result_printf(
            r, "not comparable: not exercised: none of %zu toggles executed on fixture %s", n,
            x->f->id);
    } else if (!n_group) {
        r->verdict = x->b->score_all == 0.0 ? DRIFT_SAME_BITS : DRIFT_WITHIN_FLOOR;
        r->summary = drift_result_printf(
            r,
            "%s: no culprit: %s %.3g with all toggles on is not above %.3g (%zu of %zu toggles not exercised)",
            drift_verdict_text(r->verdict), x->opt->metric, x->b->score_all, x->opt->threshold,
            n_not, n);
    } else {
        r->verdict = DRIFT_DRIFT;
        r->summary = drift_result_printf(
            r, "drift: culprit%s on %s: %s (%s %.3g of %.3g; %zu of %zu toggles not exercised)",
            n_group > 1 ? "s" : "", x->f->id, names, x->opt->metric, x->b->score_guilty,
            x->b->score_all, n_not, n);
    }
}

/* The candidate without what the named toggles change, which would be toggled twice. Owns: the
 * caller frees *out. */
static ds4_status unnamed(ds4_plan **out, const bisect *x, const ds4_plan *candidate,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_plan *base = x->base_plan;
    ds4_plan *named = NULL, *p = NULL;

    TRY(ds4_plan_copy(&named, base, err));
    TRY(ds4_plan_copy(&p, candidate, err));
    for (size_t i = 0; i < x->toggles.n; i++)
        TRY(ds4_plan_edit(named, x->toggles.text[i], err));
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        for (uint32_t il = 0; il <= ds4_plan_n_layer(base); il++)
            for (int ph = 0; ph < DS4_PHASE_COUNT; ph++) {
                uint32_t layer = il < ds4_plan_n_layer(base) ? il : DS4_NO_LAYER;
                ds4_cell a = ds4_plan_cell(base, (ds4_tap)t, layer, (ds4_phase)ph);
                ds4_cell b = ds4_plan_cell(named, (ds4_tap)t, layer, (ds4_phase)ph);
                ds4_cell c = ds4_plan_cell(p, (ds4_tap)t, layer, (ds4_phase)ph);
                uint32_t flipped = a.variants ^ b.variants;
                a.variants = (c.variants & ~flipped) | (a.variants & flipped);
                c.variants = a.variants;
                ds4_plan_set(p, (ds4_tap)t, layer, (ds4_phase)ph,
                             ds4_cell_same_rows(&a, &b) ? c : a);
            }
    *out = p, p = NULL;
out:
    ds4_plan_free(named);
    ds4_plan_free(p);
    return st;
}

static ds4_status make_toggles(bisect *x, const ds4_plan *candidate, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_plan *rest = NULL;
    drift_bisect_result *b = x->b;

    for (size_t i = 0; i < x->opt->n_toggle; i++) {
        const char *text = x->opt->toggle[i];
        if (!strncmp(text, "route:", 6) && !strchr(text, '='))
            TRY(drift_toggles_route(&x->toggles, x->base_plan, x->opt->routes, text + 6, err));
        else TRY(drift_toggles_add(&x->toggles, text, err));
    }
    TRY(unnamed(&rest, x, candidate, err));
    TRY(drift_toggles_diff(&x->toggles, x->base_plan, rest, x->opt->grain, err));
    if (!x->toggles.n)
        RAISE(DS4_ERR_USAGE,
              "base and candidate are the same plan: there is nothing to toggle");
    b->toggle = drift_result_alloc(x->r, x->toggles.n, sizeof *b->toggle);
    if (!b->toggle) RAISE(DS4_ERR_MEMORY, "out of memory");
    b->n_toggle = x->toggles.n;
    for (size_t i = 0; i < b->n_toggle; i++)
        b->toggle[i] = (drift_toggle){.text = drift_result_str(x->r, x->toggles.text[i]),
                                      .state = DRIFT_TOGGLE_UNTESTED,
                                      .solo_score = (double)NAN,
                                      .without_score = (double)NAN};
out:
    ds4_plan_free(rest);
    return st;
}

static ds4_status search(bisect *x, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n = x->toggles.n, n_exercised = 0;
    uint8_t *universe = NULL;
    uint32_t *group = NULL, n_group = 0;
    drift_search *s = NULL;
    drift_trial_outcome o;

    TRY(ds4_mem_alloc(&universe, n, 1, err));
    TRY(ds4_mem_alloc(&group, n, sizeof *group, err));
    /* All off must repeat the base bit for bit, or nothing that follows means anything. */
    TRY(evaluate(x, universe, "all off", &o, err));
    x->b->score_none = o.score;
    if (!o.same_bits) {
        x->r->verdict = DRIFT_INCONCLUSIVE;
        x->r->summary = drift_result_printf(
            x->r, "inconclusive: the base does not repeat its own bits: %s", evidence(x, &o));
        goto out;
    }
    memset(universe, 1, n);
    TRY(evaluate(x, universe, "all on", &o, err));
    x->b->score_all = o.score;
    TRY(drift_executions_copy(&x->all_ran, ds4_session_ledger(x->session), err));
    TRY(find_exercised(x, universe, err));
    for (size_t i = 0; i < n; i++) n_exercised += universe[i];
    TRY(drift_search_new(&s, n, (drift_oracle){oracle, x}, err));
    if (n_exercised) TRY(drift_search_all(s, universe, group, &n_group, err));
    if (n_group) TRY(judge(x, group, err));
    conclude(x, group, n_group, n_exercised);
out:
    drift_search_free(s);
    ds4_mem_free(group);
    ds4_mem_free(universe);
    return st;
}

ds4_status drift_bisect(drift_result *r, ds4_engine *e, const ds4_plan *base,
                        const ds4_plan *candidate, const drift_fixture_input *f,
                        const drift_bisect_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    bisect x = {.r = r, .opt = opt, .engine = e, .base_plan = base, .f = f};

    r->kind = "bisect", r->title = "bisect";
    r->bisect = x.b = drift_result_alloc(r, 1, sizeof *x.b);
    if (!x.b) RAISE(DS4_ERR_MEMORY, "out of memory");
    x.b->fixture = drift_result_str(r, f->id), x.b->metric = drift_result_str(r, opt->metric);
    x.b->replay = drift_result_str(r, opt->replay ? opt->replay : "");
    x.b->score_all = x.b->score_none = x.b->score_guilty = (double)NAN;
    TRY(make_toggles(&x, candidate, err));
    TRY(ds4_session_new(&x.session, e, base, f->n_tok, opt->n_chunk, err));
    TRY(drift_base_new(&x.base, x.session, base, f, err));
    TRY(drift_executions_copy(&x.base_ran, ds4_session_ledger(x.session), err));
    TRY(search(&x, err));
out:
    drift_toggles_free(&x.toggles);
    drift_executions_free(x.base_ran);
    drift_executions_free(x.all_ran);
    drift_base_free(x.base);
    ds4_session_free(x.session);
    return st;
}
