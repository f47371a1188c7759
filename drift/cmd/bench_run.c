#include "drift/cmd/bench_run.h"

#include <math.h>
#include <string.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "drift/cmd/bench_cost.h"
#include "engine/base/mem.h"

double bench_now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

ds4_status bench_run_init(bench_run *r, ds4_engine *e, const ds4_plan *const plan[2],
                          const drift_bench_spec *spec, uint32_t n_chunk, const int32_t *prompt,
                          uint32_t n_prompt, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t n_vocab = ds4_engine_config(e)->n_vocab;
    const uint32_t n_last = spec->prefill.at[spec->prefill.n - 1];

    *r = (bench_run){.engine = e, .spec = *spec, .eos = -1};
    if (spec->n_decode > n_chunk)
        RAISE(DS4_ERR_USAGE,
              "--decode: found %u, wanted at most the chunk, %u: further back no "
              "session can go without evaluating all again",
              spec->n_decode, n_chunk);
    if (ds4_engine_tokenizer(e))
        r->eos = ds4_tokenizer_special(ds4_engine_tokenizer(e), DS4_SPECIAL_EOS);
    for (int side = 0; side < 2; side++) {
        TRY(ds4_session_new(&r->session[side], e, plan[side], n_last + spec->n_decode + 1,
                            n_chunk, err));
        TRY(ds4_ledger_new(&r->rows[side], err));
    }
    TRY(ds4_mem_alloc(&r->prompt, n_last, sizeof *r->prompt, err));
    TRY(ds4_mem_alloc(&r->decode, (size_t)spec->prefill.n * spec->n_decode, sizeof *r->decode,
                      err));
    TRY(ds4_mem_alloc(&r->logits, n_vocab, sizeof *r->logits, err));
    for (uint32_t i = 0; i < n_last; i++)
        r->prompt[i] = n_prompt ? prompt[i % n_prompt] : (int32_t)((1000 + 37 * i) % n_vocab);
out:
    return st;
}

void bench_run_close(bench_run *r) {
    for (int side = 0; side < 2; side++) {
        ds4_session_free(r->session[side]);
        r->session[side] = NULL;
    }
    r->engine = NULL;
}

void bench_run_fini(bench_run *r) {
    bench_run_close(r);
    for (int side = 0; side < 2; side++) ds4_ledger_free(r->rows[side]);
    ds4_mem_free(r->mark);
    ds4_mem_free(r->prompt);
    ds4_mem_free(r->decode);
    ds4_mem_free(r->logits);
    *r = (bench_run){0};
}

/* ---- what executed ---- */

static ds4_status mark(bench_run *r, const ds4_ledger *l, ds4_err *err) {
    ds4_status st = DS4_OK;
    r->n_mark = ds4_ledger_n(l);
    if (r->n_mark > r->cap_mark) {
        TRY(ds4_mem_grow(&r->mark, 2 * r->n_mark, sizeof *r->mark, err));
        r->cap_mark = 2 * r->n_mark;
    }
    for (uint32_t i = 0; i < r->n_mark; i++) r->mark[i] = ds4_ledger_at(l, i)->n_call;
out:
    return st;
}

/* Of the rows that ran since the mark, in any order: a sum of one hash per entry. keep: they
 * are added to it as well; may be NULL. */
static ds4_status since_mark(const bench_run *r, const ds4_ledger *l, uint64_t *out,
                             ds4_ledger *keep, ds4_err *err) {
    ds4_status st = DS4_OK;
    *out = 0;
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++) {
        const ds4_ledger_entry *e = ds4_ledger_at(l, i);
        if (i < r->n_mark && e->n_call == r->mark[i]) continue;
        const uint32_t where[] = {(uint32_t)e->tap, e->layer, (uint32_t)e->phase, e->wtype,
                                  e->changed};
        *out += XXH3_64bits_withSeed(e->row, strlen(e->row), XXH3_64bits(where, sizeof where));
        if (keep) TRY(ds4_ledger_add(keep, e, err));
    }
out:
    return st;
}

/* ---- the discarded pair ---- */

static int32_t greedy(const bench_run *r, const float *logits) {
    int32_t best = -1;
    for (uint32_t i = 0; i < ds4_engine_config(r->engine)->n_vocab; i++)
        if ((int32_t)i != r->eos && (best < 0 || logits[i] > logits[best])) best = (int32_t)i;
    return best;
}

/* After the prefill of a frontier. */
static void look(bench_run *r, uint32_t side, uint32_t i) {
    const uint32_t n = ds4_engine_config(r->engine)->n_vocab;
    const float *b = ds4_session_logits(r->session[side]);
    double diff = 0.0, sum = 0.0;
    bool finite = true;

    if (side == 0) {
        memcpy(r->logits, b, n * sizeof *b);
        r->kv_bytes[i] = ds4_session_snapshot_bytes(r->session[0]) - DS4_SNAPSHOT_HEAD -
                         4 * ((uint64_t)ds4_session_n_tok(r->session[0]) + n);
        return;
    }
    for (uint32_t k = 0; k < n; k++) { /* float64, index order */
        double d = (double)b[k] - (double)r->logits[k];
        diff += d * d, sum += (double)r->logits[k] * (double)r->logits[k];
        finite = finite && isfinite(b[k]);
    }
    r->drift[i] = (bench_drift){sqrt(diff / sum), greedy(r, b) == greedy(r, r->logits), finite};
}

static ds4_status decode(bench_run *r, uint32_t side, uint32_t i, bool choose, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_session *s = r->session[side];
    int32_t *token = r->decode + (size_t)i * r->spec.n_decode;
    for (uint32_t k = 0; k < r->spec.n_decode; k++) { /* one at a time: each has its logits */
        if (choose) token[k] = greedy(r, ds4_session_logits(s));
        TRY(ds4_session_eval(s, token + k, 1, DS4_DECODE, err));
    }
out:
    return st;
}

static ds4_status prefill(bench_run *r, uint32_t side, uint32_t i, ds4_err *err) {
    uint32_t from = i ? r->spec.prefill.at[i - 1] : 0;
    return ds4_session_eval(r->session[side], r->prompt + from, r->spec.prefill.at[i] - from,
                            DS4_PREFILL, err);
}

/* One phase, timed and with its rows; in the discarded pair A's calls are counted. */
static ds4_status timed(bench_run *r, uint32_t side, uint32_t i, ds4_phase phase, bool warm,
                        drift_bench_take *out, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_ledger *l = ds4_session_ledger(r->session[side]);
    ds4_backend *b = ds4_engine_backend(r->engine);
    const bool count = warm && side == 0;

    TRY(mark(r, l, err));
    if (count) bench_cost_begin(b, &r->cost[i][phase]);
    double t0 = bench_now_s();
    st = phase == DS4_PREFILL ? prefill(r, side, i, err) : decode(r, side, i, count, err);
    out->s[phase] = bench_now_s() - t0;
    if (count) bench_cost_end(b);
    if (st == DS4_OK)
        TRY(since_mark(r, l, &out->rows[phase], warm ? r->rows[side] : NULL, err));
out:
    return st;
}

ds4_status bench_run_take(void *user, uint32_t side, uint32_t i, bool warm,
                          drift_bench_take *out, ds4_err *err) {
    ds4_status st = DS4_OK;
    bench_run *r = user;
    const uint32_t at = r->spec.prefill.at[i];

    *out = (drift_bench_take){0};
    if (i == 0) TRY(ds4_session_reset(r->session[side], err));
    TRY(timed(r, side, i, DS4_PREFILL, warm, out, err));
    if (warm) look(r, side, i);
    if (r->spec.n_decode) TRY(timed(r, side, i, DS4_DECODE, warm, out, err));
    if (i + 1 < r->spec.prefill.n) TRY(ds4_session_rewind(r->session[side], at, err));
out:
    return st;
}
