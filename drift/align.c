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

static ds4_status check_shape(drift_align_tap *t, drift_result *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    const drift_run_tap *a = t->a, *b = t->b;

    if (a->n_row != b->n_row || a->n_col != b->n_col)
        WHY(t->why, r, "shapes differ: [%u][%u] against [%u][%u]", a->n_row, a->n_col, b->n_row,
            b->n_col);
    else if (a->pos0 != b->pos0 || (a->n_row > 1 && a->pos_step != b->pos_step))
        WHY(t->why, r, "positions differ: %u step %u against %u step %u", a->pos0, a->pos_step,
            b->pos0, b->pos_step);
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
