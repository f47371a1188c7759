#include "drift/align.h"

#include <inttypes.h>
#include <string.h>

_Static_assert(DS4_TAP_COUNT <= 256, "order keeps the tap in 8 bits");

uint32_t drift_align_order(ds4_tap tap, int32_t layer) {
    uint32_t part = layer >= 0 ? (uint32_t)layer + 1 : tap == DS4_TAP_embed ? 0 : 0x10000;
    return part << 8 | (uint32_t)tap;
}

/* Every text of why passes here; NULL means that memory is out. */
#define WHY(dst, r, ...)                                                                       \
    do {                                                                                       \
        (dst) = drift_result_printf((r), __VA_ARGS__);                                         \
        if (!(dst)) RAISE(DS4_ERR_MEMORY, "out of memory: a reason");                          \
    } while (0)

/* The digest decides where both have one; name and size only stand in for it. */
static ds4_status check_model(drift_align *out, drift_result *r, const drift_run *a,
                              const drift_run *b, ds4_err *err) {
    static const char *const key[] = {"model.digest", "model.bytes", "model.name"};
    ds4_status st = DS4_OK;

    for (size_t i = 0; i < 3; i++) {
        const char *va = drift_run_fact(a, key[i]), *vb = drift_run_fact(b, key[i]);
        if (!va || !vb) continue;
        if (strcmp(va, vb) != 0) WHY(out->why, r, "%s differs: %s against %s", key[i], va, vb);
        if (i == 0 || out->why) break;
    }
out:
    return st;
}

static ds4_status check_tokens(drift_align_fixture *f, drift_result *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_run_fixture *a = f->a, *b = f->b;

    if (a->n_vocab != b->n_vocab)
        WHY(f->why, r, "fixture %s: vocabulary of %u against %u", a->id, a->n_vocab,
            b->n_vocab);
    for (uint32_t i = 0; !f->why && i < a->n_tok && i < b->n_tok; i++)
        if (a->token[i] != b->token[i])
            WHY(f->why, r,
                "fixture %s: tokens differ at position %u: %" PRId32 " against %" PRId32, a->id,
                i, a->token[i], b->token[i]);
    if (!f->why && a->n_tok != b->n_tok)
        WHY(f->why, r, "fixture %s: %u tokens against %u", a->id, a->n_tok, b->n_tok);
out:
    return st;
}

/* A run that goes on from a session has the later positions alone: what both have is compared.
 * A lone row does not know its step. */
static bool share_rows(drift_align_tap *t) {
    const drift_run_tap *a = t->a, *b = t->b;
    uint64_t step = a->n_row > 1 ? a->pos_step : b->n_row > 1 ? b->pos_step : 1;
    uint64_t end_a = a->pos0 + step * a->n_row, end_b = b->pos0 + step * b->n_row;
    uint64_t first = a->pos0 > b->pos0 ? a->pos0 : b->pos0, end = end_a < end_b ? end_a : end_b;

    if (a->n_row > 1 && b->n_row > 1 && a->pos_step != b->pos_step) return false;
    if (first >= end || (first - a->pos0) % step || (first - b->pos0) % step) return false;
    t->row0[0] = (uint32_t)((first - a->pos0) / step);
    t->row0[1] = (uint32_t)((first - b->pos0) / step);
    t->n_row = (uint32_t)((end - first) / step);
    t->whole = t->n_row == a->n_row && t->n_row == b->n_row;
    return true;
}

static ds4_status check_shape(drift_align_tap *t, drift_result *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_run_tap *a = t->a, *b = t->b;

    if (a->n_col != b->n_col)
        WHY(t->why, r, "shapes differ: [%u][%u] against [%u][%u]", a->n_row, a->n_col, b->n_row,
            b->n_col);
    else if (!share_rows(t))
        WHY(t->why, r,
            "no position in common: %u rows from %u step %u against %u from %u step %u",
            a->n_row, a->pos0, a->pos_step, b->n_row, b->pos0, b->pos_step);
    else if (!t->whole && (!a->stored || !b->stored))
        WHY(t->why, r,
            "%u rows from position %u against %u from %u, and only digests of them are stored",
            a->n_row, a->pos0, b->n_row, b->pos0);
out:
    return st;
}

/* Both lists are in execution order: a merge. */
static ds4_status pair_taps(drift_align_fixture *f, drift_result *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_run_fixture *a = f->a, *b = f->b;

    f->tap = drift_result_alloc(r, a->n_tap + b->n_tap, sizeof *f->tap);
    if (!f->tap) RAISE(DS4_ERR_MEMORY, "out of memory: pairs of taps");
    for (size_t i = 0, j = 0; i < a->n_tap || j < b->n_tap;) {
        drift_align_tap *t = &f->tap[f->n_tap++];
        uint32_t oa =
            i < a->n_tap ? drift_align_order(a->tap[i].tap, a->tap[i].layer) : UINT32_MAX;
        uint32_t ob =
            j < b->n_tap ? drift_align_order(b->tap[j].tap, b->tap[j].layer) : UINT32_MAX;
        t->order = oa < ob ? oa : ob;
        if (oa == t->order) t->a = &a->tap[i++];
        if (ob == t->order) t->b = &b->tap[j++];
        if (t->a && t->b) TRY(check_shape(t, r, err));
    }
out:
    return st;
}

ds4_status drift_align_runs(drift_align *out, drift_result *r, const drift_run *a,
                            const drift_run *b, const char *fixture, ds4_err *err) {
    ds4_status st = DS4_OK;

    *out = (drift_align){0};
    TRY(check_model(out, r, a, b, err));
    if (out->why) goto out;
    out->fixture = drift_result_alloc(r, drift_run_n_fixture(a), sizeof *out->fixture);
    if (!out->fixture) RAISE(DS4_ERR_MEMORY, "out of memory: fixtures");
    for (size_t i = 0; i < drift_run_n_fixture(a); i++) {
        drift_align_fixture *f = &out->fixture[out->n_fixture];
        f->a = drift_run_fixture_at(a, i);
        if (fixture && strcmp(f->a->id, fixture) != 0) continue;
        f->b = drift_run_find_fixture(b, f->a->id);
        if (!f->b) {
            out->n_only_a++;
            continue;
        }
        out->n_fixture++;
        TRY(check_tokens(f, r, err));
        if (!f->why) TRY(pair_taps(f, r, err));
    }
    for (size_t i = 0; i < drift_run_n_fixture(b); i++) {
        const char *id = drift_run_fixture_at(b, i)->id;
        out->n_only_b += !drift_run_find_fixture(a, id) && (!fixture || !strcmp(id, fixture));
    }
    if (out->n_fixture == 0) {
        if (fixture) WHY(out->why, r, "fixture %s is not in both files", fixture);
        else WHY(out->why, r, "no fixture is in both files");
    }
out:
    return st;
}
