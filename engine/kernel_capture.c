#include "engine/kernel_capture.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

/* How the tokens are cut: n of them, each batch in one phase, its calls captured or not. */
static const struct {
    uint32_t n;
    ds4_phase phase;
    bool captured;
} batches[] = {{112, DS4_PREFILL, false},
               {24, DS4_PREFILL, true},
               {119, DS4_PREFILL, false},
               {1, DS4_DECODE, true}};

typedef struct capture {
    const ds4_capture_options *o;
    ds4_backend *b;
    bool on;
    uint32_t n_seen, last_layer;
    uint8_t n_call[DS4_TAP_COUNT]; /* of this batch and layer */
    ds4_status st;
    ds4_err err; /* that of see; the evaluation then only says that it was interrupted */
} capture;

static void name_call(char line[128], const ds4_call *call, uint32_t i) {
    char layer[32] = "";
    if (call->layer != DS4_NO_LAYER) snprintf(layer, sizeof layer, " layer=%u", call->layer);
    snprintf(line, 128, "tap=%s%s phase=%s call=%u", ds4_tap_table[call->tap].name, layer,
             call->phase == DS4_DECODE ? "decode" : "prefill", i);
}

/* Whether `only` is a call's line, with or without variants behind it. */
static bool is_call(const char *only, const char *line) {
    size_t n = strlen(line);
    return !strncmp(only, line, n) && (!only[n] || only[n] == ' ');
}

static bool see_call(void *user, const ds4_call *call) {
    capture *k = user;
    char line[128];
    ds4_case c;

    if (!k->on) return true;
    if (call->layer != k->last_layer) memset(k->n_call, 0, sizeof k->n_call);
    k->last_layer = call->layer;
    name_call(line, call, k->n_call[call->tap]++);
    if (k->o->only && !is_call(k->o->only, line)) return true;
    if (k->o->wants && !k->o->wants(k->o->user, ds4_tap_table[call->tap].op)) return true;
    k->st = ds4_case_capture(&c, k->b, call, k->o->only ? k->o->only : line, &k->err);
    if (k->st != DS4_OK) return false;
    k->n_seen++;
    k->st = k->o->see(k->o->user, &c, &k->err);
    ds4_case_fini(&c);
    return k->st == DS4_OK;
}

static bool wants_tap(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)layer;
    return tap == DS4_TAP_logits; /* so that the head runs in every batch */
}

static bool see_tap(void *user, const ds4_tap_event *event) {
    (void)user, (void)event;
    return true;
}

ds4_status ds4_capture_run(ds4_engine *e, const ds4_capture_options *o, uint32_t *n_seen,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    capture k = {.o = o, .b = ds4_engine_backend(e)};
    ds4_observer observer = {.wants = wants_tap, .see = see_tap, .call = see_call, .user = &k};
    ds4_plan *plan = NULL;
    ds4_session *s = NULL;
    int32_t *token = NULL;
    uint32_t at = 0;

    TRY(ds4_mem_alloc(&token, DS4_CAPTURE_TOK, sizeof *token, err));
    for (uint32_t i = 0; i < DS4_CAPTURE_TOK; i++) token[i] = o->token[i % o->n_tok];
    TRY(ds4_engine_plan(e, &plan, err));
    TRY(ds4_session_new(&s, e, plan, DS4_CAPTURE_TOK, 128, err));
    ds4_session_observe(s, &observer);
    for (size_t i = 0; i < sizeof batches / sizeof *batches; at += batches[i++].n) {
        k.on = batches[i].captured, k.last_layer = DS4_NO_LAYER;
        memset(k.n_call, 0, sizeof k.n_call);
        st = ds4_session_eval(s, token + at, batches[i].n, batches[i].phase, err);
        if (k.st != DS4_OK) {
            st = k.st;
            if (err) *err = k.err;
        }
        if (st != DS4_OK) goto out;
    }
    if (o->only && !k.n_seen)
        RAISE(DS4_ERR_USAGE, "case \"%s\": a run of this model makes no such call", o->only);
    *n_seen = k.n_seen;
out:
    ds4_session_free(s);
    ds4_plan_free(plan);
    ds4_mem_free(token);
    return st;
}

bool ds4_capture_is_line(const char *line) { return !strncmp(line, "tap=", 4); }
