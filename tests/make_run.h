#ifndef TESTS_MAKE_RUN_H
#define TESTS_MAKE_RUN_H
/* Writes small synthetic run files for the tests of drift: two layers, a few taps of every
 * kind, values that depend on nothing but (tap, layer, position, column), and a hook that
 * plants faults. */
#include <stdarg.h>
#include <setjmp.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "drift/store.h"
#include "engine/base/float.h"

#define MAKE_VOCAB 64u

typedef struct make_run {
    const char *engine, *digest, *device; /* device NULL: no such fact */
    const char *row; /* row of attn_hc_norm in layer 0; all else is strict */
    const char *refusal;
    uint32_t variants, n_tok, batch;
    uint32_t from;  /* first position with rows, as in a run that goes on from a session */
    int32_t token0; /* added to every token id */
    bool hash_only, no_router, wide_norm;
    const char *fixture[3]; /* NULL ends; none: "short" */
    /* Planted faults: changes a value in place. */
    void (*alter)(void *user, ds4_tap tap, uint32_t layer, uint32_t pos, uint32_t col,
                  float *x);
    void *user;
} make_run;

static const struct {
    ds4_tap tap;
    uint32_t layer, n_col, step;
} make_tap[] = {
    {DS4_TAP_embed, DS4_NO_LAYER, 8, 1}, {DS4_TAP_attn_hc_norm, 0, 24, 1},
    {DS4_TAP_router_sel, 0, 6, 1},       {DS4_TAP_ffn_hc_out, 0, 300, 1},
    {DS4_TAP_attn_hc_norm, 1, 24, 1},    {DS4_TAP_comp_row, 1, 16, 4},
    {DS4_TAP_ffn_hc_out, 1, 300, 1},     {DS4_TAP_logits, DS4_NO_LAYER, MAKE_VOCAB, 1},
};
#define MAKE_N_TAP (sizeof make_tap / sizeof *make_tap)

static inline float make_value(ds4_tap tap, uint32_t layer, uint32_t pos, uint32_t col) {
    uint32_t h = (uint32_t)tap * 2654435761u ^ (layer + 1) * 40503u ^ (pos + 7) * 2246822519u ^
                 (col + 3) * 3266489917u;
    h ^= h >> 15, h *= 2246822519u, h ^= h >> 13;
    return (float)(int32_t)(h >> 8) * 0x1p-22f - 2.0f;
}

static inline void make_ok(ds4_status st, const ds4_err *err) {
    if (st != DS4_OK) fail_msg("%s", err->message);
}

static inline drift_store *make_open(const char *path, const make_run *m, bool resume) {
    const char *key[8] = {"engine", "model.digest", "plan"};
    const char *value[8] = {m->engine ? m->engine : "ref", m->digest ? m->digest : "d0",
                            "strict"};
    size_t n = 3;
    if (m->device) key[n] = "device", value[n++] = m->device;
    drift_store_options opt = {key, value, n, "identity 1", resume};
    drift_store *s = NULL;
    ds4_err err;
    make_ok(drift_store_create(&s, path, &opt, &err), &err);
    return s;
}

static inline void make_begin(drift_store *s, const make_run *m, const char *id) {
    uint32_t n = m->n_tok ? m->n_tok : 9;
    int32_t *token = calloc(n, sizeof *token);
    const char **text = calloc(n, sizeof *text);
    uint32_t *bytes = calloc(n, sizeof *bytes);
    for (uint32_t i = 0; i < n; i++) {
        token[i] = (int32_t)((i * 7 + 3) % MAKE_VOCAB) + m->token0;
        text[i] = i % 3 == 2 ? "" : "\xc3\xa9 tok", bytes[i] = (uint32_t)strlen(text[i]);
    }
    drift_store_fixture f = {id, token, n, 2, text, bytes, MAKE_VOCAB};
    ds4_err err;
    make_ok(drift_store_begin_fixture(s, &f, &err), &err);
    free(token), free(text), free(bytes);
}

static inline void make_rows(drift_store *s, const make_run *m, size_t i, uint32_t pos,
                             uint32_t n) {
    uint32_t step = make_tap[i].step, n_col = make_tap[i].n_col + (m->wide_norm && i == 1);
    float *x = calloc((size_t)n * n_col, sizeof *x);
    uint32_t n_row = 0, first = 0;
    for (uint32_t p = pos; p < pos + n; p++) {
        if (p % step) continue;
        if (n_row == 0) first = p;
        for (uint32_t c = 0; c < n_col; c++) {
            float v = make_value(make_tap[i].tap, make_tap[i].layer, p, c);
            if (ds4_tap_table[make_tap[i].tap].type == DS4_TYPE_I32) v = (float)(c * 8 + p % 8);
            if (m->alter) m->alter(m->user, make_tap[i].tap, make_tap[i].layer, p, c, &v);
            if (ds4_tap_table[make_tap[i].tap].type == DS4_TYPE_I32) {
                int32_t w = (int32_t)v;
                memcpy(&v, &w, 4);
            }
            x[(size_t)n_row * n_col + c] = v;
        }
        n_row++;
    }
    ds4_tap_event e = {make_tap[i].tap, make_tap[i].layer, first, step, n_row, n_col, x};
    ds4_err err;
    make_ok(drift_store_rows(s, &e, !m->hash_only, &err), &err);
    free(x);
}

static inline ds4_ledger *make_ledger(const make_run *m) {
    ds4_ledger *l = NULL;
    ds4_err err;
    make_ok(ds4_ledger_new(&l, &err), &err);
    for (size_t i = 0; i < MAKE_N_TAP; i++) {
        if (m->no_router && i == 2) continue;
        for (int phase = 0; phase < DS4_PHASE_COUNT; phase++) {
            bool other = i == 1 && m->row;
            ds4_ledger_entry e = {.tap = make_tap[i].tap,
                                  .layer = make_tap[i].layer,
                                  .phase = (ds4_phase)phase,
                                  .row = other ? m->row : "strict",
                                  .wanted = other ? m->row : "strict",
                                  .changed = i == 1 ? m->variants : 0,
                                  .n_call = 3,
                                  .n_elem = 3 * make_tap[i].n_col};
            if (i == 4 && m->refusal) e.wanted = "tree", e.refusal = m->refusal;
            make_ok(ds4_ledger_add(l, &e, &err), &err);
        }
    }
    return l;
}

static inline void make_fixture(drift_store *s, const make_run *m, const char *id) {
    uint32_t n = m->n_tok ? m->n_tok : 9, batch = m->batch ? m->batch : n;
    make_begin(s, m, id);
    for (uint32_t pos = m->from; pos < n; pos += batch)
        for (size_t i = 0; i < MAKE_N_TAP; i++)
            if (!(m->no_router && i == 2))
                make_rows(s, m, i, pos, n - pos < batch ? n - pos : batch);
    ds4_ledger *l = make_ledger(m);
    ds4_err err;
    make_ok(drift_store_end_fixture(s, l, &err), &err);
    ds4_ledger_free(l);
}

static inline void make_file(const char *path, const make_run *m) {
    drift_store *s = make_open(path, m, false);
    ds4_err err;
    if (!m->fixture[0]) make_fixture(s, m, "short");
    for (size_t i = 0; i < 3 && m->fixture[i]; i++) make_fixture(s, m, m->fixture[i]);
    make_ok(drift_store_finish(s, &err), &err);
}

/* A scratch directory of this process, removed at exit by make_clean. */
static char make_dir[] = "/tmp/ds4-drift-test-XXXXXX";

static inline const char *make_path(char dst[96], const char *name) {
    snprintf(dst, 96, "%s/%s", make_dir, name);
    return dst;
}

static inline int make_setup(void **state) {
    (void)state;
    return mkdtemp(make_dir) ? 0 : -1;
}

static inline int make_clean(void **state) {
    (void)state;
    char cmd[64];
    snprintf(cmd, sizeof cmd, "rm -rf '%s'", make_dir);
    return system(cmd);
}

#endif
