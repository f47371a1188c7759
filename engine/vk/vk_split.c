#include "engine/vk/vk_split.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/ops/ops.h"
#include "engine/vk/vk_experts.h"

#define N_ARG 32
#define BLOCK_TOK 64 /* tokens of a part whose output is put together from rows */

/* ---- what a token is to each op ---- */

/* A field of the args struct, from 1 on; 0: none, which counts as 1. */
#define F(op, field) (uint8_t)(1 + offsetof(struct ds4_args_##op, field) / 4)

/* Elements of a binding per unit of an op's token dimension: k * f[0] * f[1], f[1] only where
 * the field `when` is not zero. k 0: every unit needs all of it. */
struct per {
    uint16_t k;
    uint8_t f[2], when;
};
#define WHOLE                                                                                  \
    { 0, {0, 0}, 0 }
#define EACH(n)                                                                                \
    { n, {0, 0}, 0 }
#define ONE(op, a)                                                                             \
    { 1, {F(op, a), 0}, 0 }
#define TWO(op, a, b)                                                                          \
    { 1, {F(op, a), F(op, b)}, 0 }

static const struct axis {
    uint8_t n;         /* field that counts the units */
    uint8_t pos, step; /* field that numbers the first unit, and the field of its step */
    uint8_t less;      /* field that counts units from the first on */
    struct per bind[DS4_MAX_BIND];
} axes[DS4_OP_COUNT] = {
    [DS4_OP_embed] = {F(embed, n_tok), 0, 0, 0, {WHOLE, EACH(1), TWO(embed, n_hc, n_embd)}},
    [DS4_OP_rms_norm] =
        {F(rms_norm, n_row), 0, 0, 0, {ONE(rms_norm, n_col), WHOLE, ONE(rms_norm, n_col)}},
    [DS4_OP_matmul] =
        {F(matmul, n_tok), 0, 0, 0, {WHOLE, ONE(matmul, x_stride), ONE(matmul, n_out)}},
    [DS4_OP_matmul_id] =
        {F(matmul_id, n_tok),
         0,
         0,
         0,
         {WHOLE,
          {1, {F(matmul_id, n_in), F(matmul_id, n_slot)}, F(matmul_id, x_per_slot)},
          ONE(matmul_id, n_slot),
          TWO(matmul_id, n_slot, n_out)}},
    [DS4_OP_hc_split] = {F(hc_split, n_tok), 0, 0, 0, {EACH(24), WHOLE, WHOLE, EACH(24)}},
    [DS4_OP_hc_gate] =
        {F(hc_gate, n_tok), 0, 0, 0, {ONE(hc_gate, n_hc), WHOLE, WHOLE, ONE(hc_gate, n_hc)}},
    [DS4_OP_hc_read] = {F(hc_read, n_tok),
                        0,
                        0,
                        0,
                        {TWO(hc_read, n_hc, n_embd), ONE(hc_read, w_stride),
                         ONE(hc_read, n_embd)}},
    [DS4_OP_hc_write] = {F(hc_write, n_tok),
                         0,
                         0,
                         0,
                         {{4, {F(hc_write, n_embd), 0}, 0},
                          ONE(hc_write, n_embd),
                          EACH(24),
                          {4, {F(hc_write, n_embd), 0}, 0}}},
    [DS4_OP_rope] = {F(rope, n_row),
                     F(rope, pos0),
                     F(rope, pos_step),
                     0,
                     {TWO(rope, n_head, d_head), WHOLE, TWO(rope, n_head, d_head)}},
    [DS4_OP_kv_round] =
        {F(kv_round, n_row), 0, 0, 0, {ONE(kv_round, d_head), ONE(kv_round, d_head)}},
    [DS4_OP_index_round] = {F(index_round, n_row), 0, 0, 0, {EACH(128), EACH(128)}},
    [DS4_OP_row_store] =
        {F(row_store, n_row), F(row_store, row0), 0, 0, {ONE(row_store, n_col), WHOLE}},
    [DS4_OP_gate_bias] = {F(gate_bias, n_tok),
                          F(gate_bias, pos0),
                          0,
                          0,
                          {ONE(gate_bias, n_col), WHOLE, ONE(gate_bias, n_col)}},
    [DS4_OP_softmax_pool] = {F(softmax_pool, n_row),
                             F(softmax_pool, row0),
                             0,
                             0,
                             {WHOLE, WHOLE, ONE(softmax_pool, d_head)}},
    [DS4_OP_index_score] = {F(index_score, n_tok),
                            F(index_score, pos0),
                            0,
                            0,
                            {{128, {F(index_score, n_head), 0}, 0},
                             ONE(index_score, n_head),
                             WHOLE,
                             ONE(index_score, n_row)}},
    [DS4_OP_index_topk] = {F(index_topk, n_tok),
                           F(index_topk, pos0),
                           0,
                           0,
                           {ONE(index_topk, n_row), ONE(index_topk, k)}},
    [DS4_OP_attention] = {F(attention, n_tok),
                          F(attention, pos0),
                          0,
                          F(attention, sel_tok0),
                          {TWO(attention, n_head, d_head), WHOLE, WHOLE, ONE(attention, n_sel),
                           WHOLE, TWO(attention, n_head, n_score),
                           TWO(attention, n_head, d_head)}},
    [DS4_OP_router_prob] = {F(router_prob, n_elem), 0, 0, 0, {EACH(1), EACH(1)}},
    [DS4_OP_router_topk] = {F(router_topk, n_tok),
                            0,
                            0,
                            0,
                            {ONE(router_topk, n_expert), WHOLE, ONE(router_topk, k)}},
    [DS4_OP_router_hash] =
        {F(router_hash, n_tok), 0, 0, 0, {WHOLE, EACH(1), ONE(router_hash, k)}},
    [DS4_OP_router_weight] = {F(router_weight, n_tok),
                              0,
                              0,
                              0,
                              {ONE(router_weight, n_expert), ONE(router_weight, k),
                               ONE(router_weight, k)}},
    [DS4_OP_swiglu] = {F(swiglu, n_row),
                       0,
                       0,
                       0,
                       {ONE(swiglu, n_col), ONE(swiglu, n_col), EACH(1), ONE(swiglu, n_col)}},
    [DS4_OP_slot_sum] =
        {F(slot_sum, n_tok), 0, 0, 0, {TWO(slot_sum, n_slot, n_col), ONE(slot_sum, n_col)}},
    [DS4_OP_add] = {F(add, n_elem), 0, 0, 0, {EACH(1), EACH(1), EACH(1)}},
};

/* ---- what a row of the weight at binding 0 is to those that have one ---- */

static const struct rule {
    uint8_t n_row;     /* field: rows of a matrix; 0: one */
    uint8_t row_bytes; /* field, in bytes, or in words of 4 */
    bool in_words;
    uint8_t sel;         /* binding that chooses a matrix per token or slot; 0: there is one */
    uint8_t n_slot;      /* field: choices per token */
    uint8_t x, per_slot; /* input binding, 0: none; field: it has a row per choice */
} rules[DS4_OP_COUNT] = {
    [DS4_OP_embed] = {0, F(embed, row_bytes), false, 1, 0, 0, 0},
    [DS4_OP_router_hash] = {0, F(router_hash, k), true, 1, 0, 0, 0},
    [DS4_OP_matmul] = {F(matmul, n_out), F(matmul, row_bytes), false, 0, 0, 1, 0},
    [DS4_OP_matmul_id] = {F(matmul_id, n_out), F(matmul_id, row_bytes), false, 2,
                          F(matmul_id, n_slot), 1, F(matmul_id, x_per_slot)},
};

static uint32_t value(const uint32_t *args, uint8_t f) { return f ? args[f - 1] : 1; }

static uint64_t unit_bytes(const struct per *p, const uint32_t *args) {
    uint64_t n = 4ull * p->k * value(args, p->f[0]);
    return p->when && !value(args, p->when) ? n : n * value(args, p->f[1]);
}

static uint64_t row_bytes(const struct rule *r, const uint32_t *args) {
    return (uint64_t)value(args, r->row_bytes) * (r->in_words ? 4 : 1);
}

static uint64_t limit(const ds4_vk_split *s) { return s->m->d->limits.maxStorageBufferRange; }

/* Offsets of bindings are multiples of it, a power of two. */
static uint64_t align_of(const ds4_vk_split *s) {
    uint64_t a = s->m->d->limits.minStorageBufferOffsetAlignment;
    return a < 4 ? 4 : a;
}

/* Units of `bytes` after which an offset is aligned again: a power of two. */
static uint32_t aligned_units(const ds4_vk_split *s, uint64_t bytes) {
    uint64_t n = align_of(s);
    while (n > 1 && (n / 2) * bytes % align_of(s) == 0) n /= 2;
    return (uint32_t)n;
}

static const char *name_of(const ds4_call *c) { return ds4_tap_table[c->tap].name; }

bool ds4_vk_split_needed(const ds4_vk_split *s, const ds4_call *c) {
    const struct axis *a = &axes[ds4_tap_table[c->tap].op];
    for (uint32_t b = 0; b < c->n_bind; b++) {
        if (!c->bind[b]) continue;
        if (!c->bind[b]->buffer) return true;
        uint64_t n = c->bind[b]->n_padded, per = unit_bytes(&a->bind[b], c->args);
        if (a->bind[b].k) n = per * value(c->args, a->n);
        if (n > limit(s)) return true;
    }
    return false;
}

/* ---- parts ---- */

/* A call with arguments of its own, on operands that start where its views say. */
typedef struct part {
    ds4_call call;
    uint32_t args[N_ARG];
} part;

static void part_of(part *to, const part *from) {
    *to = *from;
    to->call.args = to->args;
}

static void put(part *p, uint8_t f, uint32_t v) {
    if (f) p->args[f - 1] = v;
}

static ds4_status run(ds4_vk_split *s, const part *p, uint32_t row, ds4_err *err) {
    s->n_part++;
    return s->run(s->user, &p->call, row, err);
}

/* Makes *b hold n bytes, whatever they are. */
static ds4_status hold(ds4_vk_split *s, ds4_buf **b, uint64_t n, ds4_err *err) {
    uint64_t want = 4096;
    while (want < n) want *= 2;
    if (*b && (*b)->n_bytes >= n) return DS4_OK;
    ds4_vk_buffer_free(s->m, *b);
    *b = NULL;
    return ds4_vk_buffer_new(s->m, b, NULL, want, "parts of a call", err);
}

static ds4_status copy(ds4_vk_split *s, ds4_buf *dst, uint64_t to, ds4_buf *src, uint64_t from,
                       uint64_t n, ds4_err *err) {
    ds4_status st =
        ds4_vk_graph_copy(s->m->g, dst->buffer, to, src->buffer, src->lead + from, n, err);
    dst->serial = src->serial = ds4_vk_graph_serial(s->m->g);
    return st;
}

/* Lets binding b of p start at an aligned offset: where it does not, its n bytes are copied. */
static ds4_status place_input(ds4_vk_split *s, part *p, uint32_t b, uint64_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (p->call.view[b].off % align_of(s) == 0) goto out;
    TRY(hold(s, &s->x, n, err));
    TRY(copy(s, s->x, 0, p->call.bind[b], p->call.view[b].off, n, err));
    p->call.bind[b] = s->x, p->call.view[b].off = 0;
out:
    return st;
}

/* Runs p, whose output of n_tok rows of n_col elements is to become elements lead.. of each row
 * in rows of n_out elements at byte `to` of y. */
static ds4_status run_into(ds4_vk_split *s, part *p, uint32_t row, ds4_buf *y, uint64_t to,
                           uint32_t n_tok, uint64_t n_out, uint64_t n_col, uint64_t lead,
                           ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t last = p->call.n_bind - 1;

    p->call.bind[last] = y, p->call.view[last].off = to;
    if (lead == 0 && n_tok == 1 && to % align_of(s) == 0) return run(s, p, row, err);
    TRY(hold(s, &s->y, 4 * n_tok * n_col, err));
    p->call.bind[last] = s->y, p->call.view[last].off = 0;
    TRY(run(s, p, row, err));
    for (uint32_t t = 0; t < n_tok; t++)
        TRY(copy(s, y, to + 4 * t * n_out, s->y, 4 * (t * n_col + lead), 4 * (n_col - lead),
                 err));
    y->written = ++s->m->clock;
out:
    return st;
}

/* Most rows of a part of a weight, of which the first may stand in front of the wanted ones. */
static ds4_status most_rows(uint32_t *out, const ds4_vk_split *s, const part *p, uint64_t bytes,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    uint64_t n = limit(s) / bytes;
    if (n > limit(s) / 4) n = limit(s) / 4;
    if (n < aligned_units(s, bytes))
        RAISE(DS4_ERR_ENVIRONMENT, "%s: %u rows of %llu bytes, the device binds at most %llu",
              name_of(&p->call), aligned_units(s, bytes), (unsigned long long)bytes,
              (unsigned long long)limit(s));
    *out = n > UINT32_MAX ? UINT32_MAX : (uint32_t)n;
out:
    return st;
}

/* matmul: every row serves every token. A part does not pass the rows of one input slice. */
static ds4_status run_rows(ds4_vk_split *s, const part *p, uint32_t row, ds4_err *err) {
    ds4_status st = DS4_OK;
    const struct ds4_args_matmul *a = (const void *)p->args;
    ds4_buf *y = p->call.bind[2];
    uint32_t most, begin, end, n_tok;
    part sub;

    TRY(most_rows(&most, s, p, a->row_bytes, err));
    for (uint32_t r = 0; r < a->n_out; r = end) {
        uint32_t slice = r / a->group_rows;
        uint64_t edge = (uint64_t)(slice + 1) * a->group_rows;
        begin = r - r % aligned_units(s, a->row_bytes);
        if (edge > a->n_out) edge = a->n_out;
        if (edge > (uint64_t)begin + most) edge = (uint64_t)begin + most;
        end = (uint32_t)edge;
        for (uint32_t t = 0; t < a->n_tok; t += n_tok) {
            uint64_t fit = limit(s) / (4ull * (end - begin));
            n_tok = a->n_tok - t < BLOCK_TOK ? a->n_tok - t : BLOCK_TOK;
            if (n_tok > fit) n_tok = (uint32_t)fit;
            part_of(&sub, p);
            put(&sub, F(matmul, n_tok), n_tok);
            put(&sub, F(matmul, n_out), end - begin);
            put(&sub, F(matmul, group_rows), end - begin);
            sub.call.view[0].off = (uint64_t)begin * a->row_bytes;
            sub.call.view[1].off += 4 * ((uint64_t)t * a->x_stride + (uint64_t)slice * a->n_in);
            TRY(place_input(s, &sub, 1, 4 * ((n_tok - 1ull) * a->x_stride + a->n_in), err));
            TRY(run_into(s, &sub, row, y,
                         p->call.view[2].off + 4 * ((uint64_t)t * a->n_out + r), n_tok,
                         a->n_out, end - begin, r - begin, err));
        }
    }
out:
    return st;
}

/* Reads a buffer of choices, unless that was the last one read and it is unchanged. */
static ds4_status read_choices(ds4_vk_split *s, ds4_buf *sel, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (s->sel == sel && s->sel_written == sel->written) goto out;
    s->sel = NULL;
    if (s->n_chosen < sel->n_bytes / 4) {
        TRY(ds4_mem_grow(&s->chosen, sel->n_bytes / 4, 4, err));
        s->n_chosen = sel->n_bytes / 4;
    }
    TRY(ds4_vk_buffer_read(s->m, sel, 0, s->chosen, sel->n_bytes / 4 * 4, err));
    s->sel = sel, s->sel_written = sel->written;
out:
    return st;
}

static ds4_status make_numbers(ds4_vk_split *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    const size_t step = (size_t)align_of(s);
    uint32_t *word = NULL;
    if (s->number) goto out;
    TRY(ds4_mem_alloc(&word, step, step, err));
    for (size_t i = 0; i < step; i++) word[i * step / 4] = (uint32_t)i;
    TRY(ds4_vk_buffer_new(s->m, &s->number, word, step * step, "numbers", err));
out:
    ds4_mem_free(word);
    return st;
}

/* One choice: rows first .. of the weight, which begins at byte base of w. */
static ds4_status run_choice(ds4_vk_split *s, const part *p, uint32_t row, uint32_t unit,
                             ds4_buf *w, uint64_t base, uint64_t first, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_op op = ds4_tap_table[p->call.tap].op;
    const struct axis *a = &axes[op];
    const struct rule *r = &rules[op];
    const uint32_t last = p->call.n_bind - 1, n_slot = value(p->args, r->n_slot);
    const uint32_t n_row = value(p->args, r->n_row);
    const uint64_t bytes = row_bytes(r, p->args);
    const uint64_t n_out = unit_bytes(&a->bind[last], p->args) / 4 / n_slot; /* of a choice */
    const bool per_slot = r->per_slot && value(p->args, r->per_slot);
    uint32_t most, end;
    part sub;

    TRY(most_rows(&most, s, p, bytes, err));
    for (uint32_t i = 0; i < n_row; i = end) {
        const uint64_t at = first + i, begin = at - at % aligned_units(s, bytes);
        const uint32_t lead = (uint32_t)(at - begin);
        end = n_row - i < most - lead ? n_row : i + most - lead;
        part_of(&sub, p);
        put(&sub, a->n, 1), put(&sub, r->n_slot, 1), put(&sub, r->per_slot, 0);
        put(&sub, r->n_row, lead + end - i);
        sub.call.bind[0] = w, sub.call.view[0].off = base + begin * bytes;
        /* A matrix of many rows begins with those in front; one of a single row is counted. */
        sub.call.bind[r->sel] = s->number;
        sub.call.view[r->sel].off = r->n_row ? 0 : lead * align_of(s);
        if (r->x) {
            uint64_t n = unit_bytes(&a->bind[r->x], p->args) / (per_slot ? n_slot : 1);
            sub.call.view[r->x].off += n * (per_slot ? unit : unit / n_slot);
            TRY(place_input(s, &sub, r->x, n, err));
        }
        uint64_t to = p->call.view[last].off + 4 * (unit * n_out + i * (n_out / n_row));
        TRY(run_into(s, &sub, row, p->call.bind[last], to, 1, n_out,
                     r->n_row ? lead + end - i : n_out, r->n_row ? lead : 0, err));
    }
out:
    return st;
}

enum { UNUSED, WANTED };

/* A call with experts on the host: as many at a time as there are slots. */
static ds4_status run_streamed(ds4_vk_split *s, const part *p, uint32_t row,
                               const int32_t *chosen, uint32_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_op op = ds4_tap_table[p->call.tap].op;
    const struct axis *a = &axes[op];
    const struct rule *r = &rules[op];
    ds4_buf *w = p->call.bind[0];
    const uint64_t bytes = row_bytes(r, p->args);
    uint32_t *mat = NULL, n_slot = 0, first = 0;
    uint64_t *at = NULL;

    /* Memory for parts first, so that none is asked for while the slots are in use. */
    TRY(hold(s, &s->x, unit_bytes(&a->bind[r->x], p->args), err));
    TRY(hold(s, &s->y, 4ull * (value(p->args, r->n_row) + aligned_units(s, bytes)), err));
    TRY(ds4_vk_experts_slots(s->m, &n_slot, err));
    if (n_slot > w->n_mat) n_slot = w->n_mat;
    if (s->n_state < w->n_mat) {
        TRY(ds4_mem_grow(&s->state, w->n_mat, 1, err));
        s->n_state = w->n_mat;
    }
    TRY(ds4_mem_alloc(&mat, w->n_mat, sizeof *mat, err));
    TRY(ds4_mem_alloc(&at, w->n_mat, sizeof *at, err));
    memset(s->state, UNUSED, w->n_mat);
    for (uint32_t u = 0; u < n; u++) s->state[chosen[u]] = WANTED;
    for (;;) {
        uint32_t n_mat = 0;
        for (; first < w->n_mat && n_mat < n_slot; first++)
            if (s->state[first] == WANTED) mat[n_mat++] = first;
        if (n_mat == 0) break;
        s->m->experts.pinned = true;
        TRY(ds4_vk_experts_load(s->m, w, mat, n_mat, at, err));
        for (uint32_t i = 0; i < n_mat; i++)
            for (uint32_t u = 0; u < n; u++)
                if ((uint32_t)chosen[u] == mat[i])
                    TRY(run_choice(s, p, row, u, s->m->experts.slots, at[i], 0, err));
    }
out:
    s->m->experts.pinned = false;
    ds4_mem_free(mat);
    ds4_mem_free(at);
    return st;
}

static ds4_status run_choices(ds4_vk_split *s, const part *p, uint32_t row, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_op op = ds4_tap_table[p->call.tap].op;
    const struct rule *r = &rules[op];
    ds4_buf *w = p->call.bind[0];
    const uint32_t n_row = value(p->args, r->n_row);
    const uint32_t n = value(p->args, axes[op].n) * value(p->args, r->n_slot);
    const uint64_t n_mat = w->n_bytes / (row_bytes(r, p->args) * n_row);

    TRY(make_numbers(s, err));
    TRY(read_choices(s, p->call.bind[r->sel], err));
    const int32_t *chosen = s->chosen + p->call.view[r->sel].off / 4;
    for (uint32_t u = 0; u < n; u++)
        if (chosen[u] < 0 || (uint64_t)chosen[u] >= n_mat)
            RAISE(DS4_ERR_INTERNAL, "%s: choice %u is %d of %llu", name_of(&p->call), u,
                  chosen[u], (unsigned long long)n_mat);
    if (!w->buffer) TRY(run_streamed(s, p, row, chosen, n, err));
    for (uint32_t u = 0; u < n && w->buffer; u++)
        TRY(run_choice(s, p, row, u, w, 0, (uint64_t)chosen[u] * n_row, err));
out:
    return st;
}

static ds4_status run_part(ds4_vk_split *s, const part *p, uint32_t row, ds4_err *err) {
    const struct rule *r = &rules[ds4_tap_table[p->call.tap].op];
    const ds4_buf *w = p->call.bind[0];
    if (!r->row_bytes || (w->buffer && w->n_padded <= limit(s))) return run(s, p, row, err);
    return r->sel ? run_choices(s, p, row, err) : run_rows(s, p, row, err);
}

/* Most tokens of a part: all activations fit, and the next part starts aligned. */
static ds4_status most_units(uint32_t *out, const ds4_vk_split *s, const part *p,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_op op = ds4_tap_table[p->call.tap].op;
    const struct axis *a = &axes[op];
    const uint32_t n = value(p->args, a->n);
    uint64_t most = n, step = 1, widest = 0;

    for (uint32_t b = 0; b < p->call.n_bind; b++) {
        if (!p->call.bind[b]) continue;
        uint64_t bytes = unit_bytes(&a->bind[b], p->args);
        if (bytes == 0 && !(b == 0 && rules[op].row_bytes) &&
            p->call.bind[b]->n_padded > limit(s))
            RAISE(DS4_ERR_ENVIRONMENT,
                  "%s: operand %u has %zu bytes and is wanted whole, the device binds at most "
                  "%llu",
                  name_of(&p->call), b, p->call.bind[b]->n_bytes, (unsigned long long)limit(s));
        if (bytes == 0) continue;
        if (most > limit(s) / bytes) most = limit(s) / bytes;
        if (step < aligned_units(s, bytes)) step = aligned_units(s, bytes);
        if (widest < bytes) widest = bytes;
    }
    if (most < n) most -= most % step;
    if (most == 0 && n)
        RAISE(DS4_ERR_ENVIRONMENT,
              "%s: %llu tokens of %llu bytes each, the device binds at most %llu",
              name_of(&p->call), (unsigned long long)step, (unsigned long long)widest,
              (unsigned long long)limit(s));
    *out = (uint32_t)most;
out:
    return st;
}

ds4_status ds4_vk_split_call(ds4_vk_split *s, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_status st = DS4_OK;
    const struct axis *a = &axes[ds4_tap_table[c->tap].op];
    part whole = {.call = *c}, p;
    uint32_t most = 0, n, m;

    memcpy(whole.args, c->args, c->args_bytes);
    whole.call.args = whole.args;
    TRY(most_units(&most, s, &whole, err));
    n = value(whole.args, a->n);
    s->n_call++;
    for (uint32_t u = 0; u < n; u += m) {
        m = n - u < most ? n - u : most;
        part_of(&p, &whole);
        put(&p, a->n, m);
        if (a->pos) p.args[a->pos - 1] += u * value(p.args, a->step);
        if (a->less)
            put(&p, a->less, value(p.args, a->less) > u ? value(p.args, a->less) - u : 0);
        for (uint32_t b = 0; b < c->n_bind; b++)
            p.call.view[b].off += u * unit_bytes(&a->bind[b], p.args), p.call.view[b].n = 0;
        TRY(run_part(s, &p, row, err));
    }
out:
    return st;
}

void ds4_vk_split_fini(ds4_vk_split *s) {
    if (!s->m) return;
    ds4_vk_buffer_free(s->m, s->x);
    ds4_vk_buffer_free(s->m, s->y);
    ds4_vk_buffer_free(s->m, s->number);
    ds4_mem_free(s->chosen);
    ds4_mem_free(s->state);
}
