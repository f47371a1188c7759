#include "engine/base/mem.h"
#include "engine/engine.h"

struct ds4_session {
    ds4_engine *engine;
    ds4_plan *plan;
    ds4_forward *forward;
    ds4_ledger *ledger;
    ds4_observer observer;
    bool observed;
    uint32_t n_ctx, n_chunk, n_tok;
    float *logits; /* after the last token */
};

ds4_status ds4_session_new(ds4_session **out, ds4_engine *e, const ds4_plan *plan,
                           uint32_t n_ctx, uint32_t n_chunk, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_session *s = NULL;

    if (!n_ctx || n_ctx > 1u << 20)
        RAISE(DS4_ERR_USAGE, "context of %u tokens, wanted 1 to 1048576", n_ctx);
    if (!n_chunk || n_chunk > 4096)
        RAISE(DS4_ERR_USAGE, "chunk of %u tokens, wanted 1 to 4096", n_chunk);
    if (n_chunk > n_ctx) n_chunk = n_ctx;
    TRY(ds4_mem_alloc(&s, 1, sizeof *s, err));
    s->engine = e, s->n_ctx = n_ctx, s->n_chunk = n_chunk;
    TRY(ds4_plan_copy(&s->plan, plan, err));
    TRY(ds4_ledger_new(&s->ledger, err));
    TRY(ds4_mem_alloc(&s->logits, e->config.n_vocab, sizeof *s->logits, err));
    TRY(ds4_forward_new(&s->forward, e->backend, &e->config, &e->weights, &e->bufs, n_ctx,
                        n_chunk, err));
    *out = s, s = NULL;
out:
    ds4_session_free(s);
    return st;
}

void ds4_session_free(ds4_session *s) {
    if (!s) return;
    ds4_forward_free(s->forward);
    ds4_mem_free(s->logits);
    ds4_ledger_free(s->ledger);
    ds4_plan_free(s->plan);
    ds4_mem_free(s);
}

/* No cached row is read before it is written again, so only the count goes back. */
ds4_status ds4_session_reset(ds4_session *s, ds4_err *err) {
    (void)err;
    s->n_tok = 0;
    ds4_ledger_clear(s->ledger);
    return DS4_OK;
}

ds4_status ds4_session_set_plan(ds4_session *s, const ds4_plan *plan, ds4_err *err) {
    ds4_plan *p = NULL;
    ds4_status st = ds4_plan_copy(&p, plan, err);
    if (st != DS4_OK) return st;
    ds4_plan_free(s->plan);
    s->plan = p;
    return DS4_OK;
}

void ds4_session_observe(ds4_session *s, const ds4_observer *o) {
    s->observed = o != NULL;
    if (o) s->observer = *o;
}

static ds4_status check_tokens(const ds4_session *s, const int32_t *token, uint32_t n,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n_vocab = s->engine->config.n_vocab;

    if (n > s->n_ctx - s->n_tok)
        RAISE(DS4_ERR_USAGE, "%u tokens after %u, the context holds %u", n, s->n_tok, s->n_ctx);
    for (uint32_t i = 0; i < n; i++)
        if (token[i] < 0 || (uint32_t)token[i] >= n_vocab)
            RAISE(DS4_ERR_FORMAT, "token %u: id %d, wanted 0 to %u", i, token[i], n_vocab - 1);
out:
    return st;
}

ds4_status ds4_session_eval(ds4_session *s, const int32_t *token, uint32_t n, ds4_phase phase,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    bool all = s->observed && s->observer.wants(s->observer.user, DS4_TAP_logits, DS4_NO_LAYER);

    TRY(check_tokens(s, token, n, err));
    for (uint32_t i = 0, m; i < n; i += m) {
        m = ds4_forward_limit(s->forward, s->n_tok, phase == DS4_DECODE ? 1 : n - i);
        bool last = i + m == n;
        ds4_batch batch = {token + i,   s->n_tok, m,         phase,
                           all || last, s->plan,  s->ledger, s->observed ? &s->observer : NULL};
        TRY(ds4_forward_eval(s->forward, &batch, err));
        s->n_tok += m;
        if (last) TRY(ds4_forward_logits(s->forward, m - 1, s->logits, err));
    }
out:
    return st;
}

uint32_t ds4_session_n_tok(const ds4_session *s) { return s->n_tok; }
uint32_t ds4_session_n_vocab(const ds4_session *s) { return s->engine->config.n_vocab; }
const float *ds4_session_logits(const ds4_session *s) { return s->logits; }
const ds4_ledger *ds4_session_ledger(const ds4_session *s) { return s->ledger; }
