#include "engine/vk/vk_probe.h"

#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/format/quant.h"
#include "engine/ops/ops.h"

enum { N = DS4_VK_PROBE_N, N_PAIR = N * (N - 1) / 2 };

/* size[i][j]: leaves under the node where i and j meet. */
typedef struct meet {
    uint32_t size[N][N];
} meet;

/* ---- The tree in words ---- */

/* Orders of m items: leaves under the node where items i < j meet. */
static uint32_t meet_sequence(uint32_t i, uint32_t j, uint32_t m) {
    (void)i, (void)m;
    return j + 1;
}
static uint32_t meet_reversed(uint32_t i, uint32_t j, uint32_t m) {
    (void)j;
    return m - i;
}
static uint32_t meet_pairs(uint32_t i, uint32_t j, uint32_t m) {
    uint32_t size = 1;
    for (uint32_t d = i ^ j; d; d >>= 1) size <<= 1;
    return m & (m - 1) ? 0 : size;
}
static uint32_t meet_halves(uint32_t i, uint32_t j, uint32_t m) {
    uint32_t size = m;
    for (uint32_t d = i ^ j; !(d & 1u); d >>= 1) size >>= 1;
    return m & (m - 1) ? 0 : size;
}
static uint32_t meet_fused(uint32_t i, uint32_t j, uint32_t m) {
    (void)i, (void)j;
    return m;
}

static const struct order {
    const char *name;
    uint32_t (*meet)(uint32_t i, uint32_t j, uint32_t m);
} orders[] = {{"sequential", meet_sequence},
              {"sequential from the last", meet_reversed},
              {"pairwise, neighbours first", meet_pairs},
              {"pairwise, halves first", meet_halves},
              {"all at once", meet_fused}};

/* Items of `block` leaves: neighbours, or (lanes) every m-th leaf. */
typedef struct split {
    uint32_t block, m;
    bool lanes;
} split;

static uint32_t item_of(const split *s, uint32_t leaf) {
    return s->lanes ? leaf % s->m : leaf / s->block;
}
static uint32_t leaf_of(const split *s, uint32_t item, uint32_t at) {
    return s->lanes ? at * s->m + item : item * s->block + at;
}

/* Do leaves of different items meet as the order says? */
static bool items_meet(const meet *t, uint32_t n, const split *s, const struct order *o) {
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < n; j++) {
            uint32_t p = item_of(s, i), q = item_of(s, j);
            if (p < q && t->size[i][j] != s->block * o->meet(p, q, s->m)) return false;
        }
    return true;
}

/* The tree inside every item, which has to be the same. */
static bool inside(meet *out, const meet *t, const split *s) {
    for (uint32_t item = 0; item < s->m; item++)
        for (uint32_t i = 0; i < s->block; i++)
            for (uint32_t j = 0; j < s->block; j++) {
                uint32_t size = t->size[leaf_of(s, item, i)][leaf_of(s, item, j)];
                if (item == 0) out->size[i][j] = size;
                else if (out->size[i][j] != size) return false;
            }
    return true;
}

/* Steps that add `step` terms at once to the sum before. */
static bool is_stepwise(const meet *t, uint32_t n, uint32_t step) {
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i + 1; j < n; j++)
            if (t->size[i][j] != (j / step + 1) * step) return false;
    return true;
}

static bool describe_split(char *text, size_t size, const meet *t, uint32_t n, split s);

static bool describe(char *text, size_t size, const meet *t, uint32_t n) {
    const split whole = {1, n, false};
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++)
        if (items_meet(t, n, &whole, &orders[o]))
            return snprintf(text, size, "%s", orders[o].name), true;
    for (uint32_t step = 2; step < n; step++)
        if (n % step == 0 && is_stepwise(t, n, step))
            return snprintf(text, size, "%u at once with the sum before, sequential", step),
                   true;
    for (uint32_t block = 2; block < n; block++)
        for (int lanes = 0; n % block == 0 && lanes < 2; lanes++)
            if (describe_split(text, size, t, n, (split){block, n / block, lanes})) return true;
    return false;
}

static bool describe_split(char *text, size_t size, const meet *t, uint32_t n, split s) {
    meet in;
    char inner[160];
    if (!inside(&in, t, &s)) return false;
    for (size_t o = 0; o < sizeof orders / sizeof *orders; o++) {
        if (!items_meet(t, n, &s, &orders[o])) continue;
        if (!describe(inner, sizeof inner, &in, s.block)) return false;
        if (s.lanes) snprintf(text, size, "%u lanes (%s), then %s", s.m, inner, orders[o].name);
        else snprintf(text, size, "blocks of %u (%s), then %s", s.block, inner, orders[o].name);
        return true;
    }
    return false;
}

/* Does "i and j meet within fewer than n leaves" part the leaves, and do all others meet in n?
 */
static bool is_tree(const meet *t, const uint32_t *leaf, uint32_t n) {
    uint32_t group[N], n_group = 0, member[N];
    if (n == 1) return true;
    memset(group, 0xff, sizeof group);
    for (uint32_t i = 0; i < n; i++) {
        if (group[i] != UINT32_MAX) continue;
        group[i] = n_group++;
        for (uint32_t j = i + 1; j < n; j++)
            if (t->size[leaf[i]][leaf[j]] < n) group[j] = group[i];
    }
    if (n_group == 1) return false;
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = i + 1; j < n; j++)
            if ((t->size[leaf[i]][leaf[j]] < n) != (group[i] == group[j]) ||
                t->size[leaf[i]][leaf[j]] > n)
                return false;
    for (uint32_t g = 0; g < n_group; g++) {
        uint32_t m = 0;
        for (uint32_t i = 0; i < n; i++)
            if (group[i] == g) member[m++] = leaf[i];
        if (!is_tree(t, member, m)) return false;
    }
    return true;
}

/* Nothing is ever lost. */
static bool is_free(const meet *t) {
    uint32_t n = 0;
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t j = i + 1; j < N; j++) n += t->size[i][j] == 2;
    return n == N_PAIR;
}

static bool is_fixed(const meet *t) {
    uint32_t leaf[N];
    for (uint32_t i = 0; i < N; i++) leaf[i] = i;
    return is_tree(t, leaf, N);
}

static void order_text(char *text, size_t size, const meet *t) {
    if (is_free(t)) snprintf(text, size, "no order shows: the sums are too wide");
    else if (!is_fixed(t))
        snprintf(text, size, "no fixed tree: terms are lost that never meet a large one");
    else if (!describe(text, size, t, N)) snprintf(text, size, "a tree without a name");
}

/* ---- What is asked of the sums ---- */

/* Of f16, as the operands of some rows are. Up to N small ones together stay below half a step
 * of f32 at LARGE, on both of its sides. */
static const float LARGE = 0x1.8p15f, SMALL = 0x1p-14f;

/* Row p of w is pair p; x is all ones. far: input p belongs to pair p too, and both operands
 * are large or small, which hides small ones from sums of more than 24 bits, and is more than
 * sums in f16 can hold. */
static void pairs_fill(float *w, float *x, bool far) {
    for (uint32_t k = 0; k < N_PAIR * N; k++) w[k] = SMALL;
    for (uint32_t k = 0; k < (far ? N_PAIR : 1) * N; k++) x[k] = far ? SMALL : 1.0f;
    for (uint32_t i = 0, p = 0; i < N; i++)
        for (uint32_t j = i + 1; j < N; j++, p++) {
            w[p * N + i] = LARGE, w[p * N + j] = -LARGE;
            if (far) x[p * N + i] = x[p * N + j] = 0x1p15f;
        }
}

static ds4_status find_tree(meet *t, bool far, ds4_vk_sums sums, void *user, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t n_tok = far ? N_PAIR : 1;
    float *w = NULL, *x = NULL, *y = NULL;

    TRY(ds4_mem_alloc(&w, (size_t)N_PAIR * N, sizeof *w, err));
    TRY(ds4_mem_alloc(&x, (size_t)n_tok * N, sizeof *x, err));
    TRY(ds4_mem_alloc(&y, (size_t)n_tok * N_PAIR, sizeof *y, err));
    pairs_fill(w, x, far);
    TRY(sums(user, y, w, N_PAIR, x, n_tok, err));
    for (uint32_t i = 0, p = 0; i < N; i++) {
        t->size[i][i] = 1;
        for (uint32_t j = i + 1; j < N; j++, p++) {
            float left = y[far ? p * N_PAIR + p : p] / (far ? SMALL * SMALL : SMALL);
            bool counts = left >= 0.0f && left <= (float)(N - 2);
            t->size[i][j] = t->size[j][i] = counts ? N - (uint32_t)left : 0;
        }
    }
out:
    ds4_mem_free(w);
    ds4_mem_free(x);
    ds4_mem_free(y);
    return st;
}

enum { N_SHIFT = 15, R_MAX = 2 * (N_SHIFT - 1) };

/* Three leaves: the first two meet early; the third comes later, or at once with them. */
typedef struct trio {
    uint32_t first, near, far;
} trio;

/* false: no node of the tree adds three leaves. */
static bool find_trio(trio *out, const meet *t, bool at_once) {
    trio l = {0, 1, 2};
    for (uint32_t i = 0; i < N; i++)
        for (uint32_t j = i + 1; j < N; j++)
            if (t->size[i][j] < t->size[l.first][l.near]) l.first = i, l.near = j;
    l.far = UINT32_MAX;
    for (uint32_t k = 0; k < N; k++) {
        uint32_t size = t->size[l.first][k];
        if (k == l.first || k == l.near) continue;
        if (at_once ? size == t->size[l.first][l.near] && size == t->size[l.near][k]
                    : l.far == UINT32_MAX || size > t->size[l.first][l.far])
            l.far = k;
    }
    *out = l;
    return l.far != UINT32_MAX;
}

/* y[r]: 1 + scale * 2^-r - 1 at the three leaves, r = 0 .. R_MAX. */
static ds4_status small_parts(float *y, const trio *l, float scale, ds4_vk_sums sums,
                              void *user, ds4_err *err) {
    ds4_status st = DS4_OK;
    float w[2 * N] = {0}, x[N_SHIFT * N], both[N_SHIFT * 2];

    for (uint32_t o = 0; o < 2; o++) {
        w[o * N + l->first] = 1.0f, w[o * N + l->far] = -1.0f;
        w[o * N + l->near] = o ? scale * 0x1p-14f : scale;
    }
    for (uint32_t s = 0; s < N_SHIFT; s++) {
        for (uint32_t k = 0; k < N; k++) x[s * N + k] = 1.0f;
        x[s * N + l->near] = 1.0f / (float)(1u << s);
    }
    TRY(sums(user, both, w, 2, x, N_SHIFT, err));
    for (uint32_t r = 0; r <= R_MAX; r++)
        y[r] = r < N_SHIFT ? both[2 * r] : both[2 * (r - N_SHIFT + 1) + 1];
out:
    return st;
}

static ds4_status width_text(char *text, size_t size, const trio *l, ds4_vk_sums sums,
                             void *user, ds4_err *err) {
    ds4_status st = DS4_OK;
    float one[R_MAX + 1], half[R_MAX + 1];
    uint32_t r = 0;

    TRY(small_parts(one, l, 1.0f, sums, user, err));
    TRY(small_parts(half, l, 1.5f, sums, user, err));
    while (r < R_MAX && one[r + 1] != 0.0f) r++;
    if (r == R_MAX) snprintf(text, size, "at least %d bits", R_MAX + 1);
    else
        snprintf(text, size, "%u bits, %s", r + 1,
                 half[r + 1] != 0.0f ? "to nearest" : "cut off");
out:
    return st;
}

ds4_status ds4_vk_probe(char *text, size_t n, ds4_vk_sums sums, void *user, ds4_err *err) {
    ds4_status st = DS4_OK;
    meet t, far;
    char order[200], width[40], inner[40] = "";
    trio l;

    TRY(find_tree(&t, false, sums, user, err));
    if (!is_fixed(&t)) {
        TRY(find_tree(&far, true, sums, user, err));
        if (is_fixed(&far)) t = far;
    }
    order_text(order, sizeof order, &t);
    find_trio(&l, &t, false);
    TRY(width_text(width, sizeof width, &l, sums, user, err));
    if (find_trio(&l, &t, true)) TRY(width_text(inner, sizeof inner, &l, sums, user, err));
    snprintf(text, n, "%s; %s%s%s", order, width, *inner ? "; at once " : "", inner);
out:
    return st;
}

/* ---- The sums of a row ---- */

struct row_of {
    ds4_backend *b;
    uint32_t row;
};

enum { MIN_TOK = 32 }; /* rows of tiles want some columns; the last ones repeat the first */

static ds4_status row_sums(void *user, float *y, const float *w, uint32_t n_out, const float *x,
                           uint32_t n_tok, ds4_err *err) {
    ds4_status st = DS4_OK;
    const struct row_of *r = user;
    const ds4_backend_ops *ops = r->b->ops;
    const uint32_t n = n_tok < MIN_TOK ? MIN_TOK : n_tok;
    struct ds4_args_matmul args = {n, N, n_out, N * (uint32_t)sizeof *w, N, n_out};
    ds4_call c = {.tap = DS4_TAP_logits,
                  .phase = DS4_PREFILL,
                  .wtype = DS4_QUANT_F32,
                  .args = &args,
                  .args_bytes = sizeof args,
                  .n_col = n_out,
                  .n_bind = 3};
    float *in = NULL;

    TRY(ds4_mem_alloc(&in, (size_t)n * N, sizeof *in, err));
    for (uint32_t t = 0; t < n; t++) memcpy(in + t * N, x + t % n_tok * N, N * sizeof *in);
    TRY(ops->buf_weight(r->b, &c.bind[0], w, (size_t)n_out * N * sizeof *w, "probe", err));
    TRY(ops->buf_new(r->b, &c.bind[1], (size_t)n * N * sizeof *in, DS4_TYPE_F32, err));
    TRY(ops->buf_new(r->b, &c.bind[2], (size_t)n * n_out * sizeof *y, DS4_TYPE_F32, err));
    TRY(ops->buf_write(r->b, c.bind[1], 0, in, (size_t)n * N * sizeof *in, err));
    TRY(ops->call(r->b, &c, r->row, err));
    TRY(ops->buf_read(r->b, c.bind[2], 0, y, (size_t)n_tok * n_out * sizeof *y, err));
out:
    for (uint32_t i = 0; i < 3; i++) ops->buf_free(r->b, c.bind[i]);
    ds4_mem_free(in);
    return st;
}

ds4_status ds4_vk_probe_row(char *text, size_t n, ds4_backend *b, uint32_t row, ds4_err *err) {
    struct row_of r = {b, row};
    return ds4_vk_probe(text, n, row_sums, &r, err);
}
