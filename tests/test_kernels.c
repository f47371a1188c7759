/* Every row of kernels/kernels.def on every case of its op (fixtures/ops/<op>.cases), through
 * the backend, against the scalar reference: EXACT rows in every bit, the others within the
 * bound of the manifest. Guard words stand after every output; outputs start as a pattern, so
 * that an element left out shows.
 *
 * A case is a line `key=value ..`: the fields of the op's args by name (row_bytes is computed),
 * the sizes that `shapes` names besides, and
 *   wtype=Q4_K         format of the weight (F32)
 *   seed=N             of every input
 *   fill=KIND          of f32 inputs: normal, unit (0..1), tie (multiples of 1/4), hard (zeros
 * of both signs, 2^-51, large, ties), wide (2^-50 .. 2^20), zero, grid (all signs of small
 * magnitudes, for formats), sign (-40 .. 40) on=NAME, off=NAME  a variant against its default
 * Run one alone with `test_kernels 'OP__ROW key=value ..'`, as failure lines print it, or the
 * rows of one op with `test_kernels OP`. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/format/quant.h"
#include "engine/ops/ops.h"
#include "engine/variants.h"
#include "engine/vk/vk.h"
#include "tests/support.h"

enum { GUARD = 16, MAX_KEY = 32, LINE = 512 };
static const uint32_t PATTERN = 0x7fc5a5a5u; /* a NaN that no op produces */

/* --- shapes: what the args and bindings of an op are made of --- */

/* args: the fields of ds4_args_<op> in order; a default follows '='; a leading '.' marks a
 * float. binds: one spec per binding, KIND:PRODUCT, products of keys and numbers by '*'. Kinds:
 * f f32; w raw weight rows (product of rows; row_elem names the key of the row length); i i32
 * below the key before '/'; s ascending distinct i32 rows below it, row length k; q any words;
 * x scratch; o output f32; n output i32. */
typedef struct shape {
    const char *args, *row_elem, *binds;
} shape;

static const struct {
    ds4_op op;
    shape s;
} shapes[] = {
    {DS4_OP_embed,
     {"n_tok n_embd n_hc row_bytes", "n_embd",
      "w:n_vocab i:n_vocab/n_tok o:n_tok*n_hc*n_embd"}},
    {DS4_OP_rms_norm,
     {"n_row n_col has_w .eps=1e-6", NULL, "f:n_row*n_col f:n_col o:n_row*n_col"}},
    {DS4_OP_matmul,
     {"n_tok n_in n_out row_bytes x_stride=n_in group_rows=n_out", "n_in",
      "w:n_out f:n_tok*x_stride o:n_tok*n_out"}},
    {DS4_OP_matmul_id,
     {"n_tok n_slot n_in n_out row_bytes n_mat x_per_slot", "n_in",
      "w:n_mat*n_out f:n_tok*n_slot*n_in i:n_mat/n_tok*n_slot o:n_tok*n_slot*n_out"}},
    {DS4_OP_hc_split,
     {"n_tok n_sinkhorn=20 .eps=1e-6", NULL, "f:n_tok*24 f:3 f:24 o:n_tok*24"}},
    {DS4_OP_hc_gate, {"n_tok n_hc=4 .eps=1e-6", NULL, "f:n_tok*n_hc f:1 f:n_hc o:n_tok*n_hc"}},
    {DS4_OP_hc_read,
     {"n_tok n_embd n_hc=4 w_stride=24", NULL,
      "f:n_tok*n_hc*n_embd f:n_tok*w_stride o:n_tok*n_embd"}},
    {DS4_OP_hc_write,
     {"n_tok n_embd", NULL, "f:n_tok*4*n_embd f:n_tok*n_embd f:n_tok*24 o:n_tok*4*n_embd"}},
    {DS4_OP_rope,
     {"n_row n_head d_head n_rot pos0 pos_step=1 inverse", NULL,
      "f:n_row*n_head*d_head q:n_rot o:n_row*n_head*d_head"}},
    {DS4_OP_kv_round, {"n_row d_head n_fp8", NULL, "f:n_row*d_head o:n_row*d_head"}},
    {DS4_OP_index_round, {"n_row half_out", NULL, "f:n_row*128 o:n_row*128"}},
    {DS4_OP_row_store, {"n_row n_col row0 cap", NULL, "f:n_row*n_col o:cap*n_col"}},
    {DS4_OP_gate_bias,
     {"n_tok n_col pos0 ratio row_bytes", "n_col", "f:n_tok*n_col w:ratio o:n_tok*n_col"}},
    {DS4_OP_softmax_pool,
     {"n_row d_head ratio n_lane row0 cap", NULL,
      "f:cap*n_lane*d_head f:cap*n_lane*d_head o:n_row*d_head"}},
    {DS4_OP_index_score,
     {"n_tok n_head n_row pos0 ratio=4 .scale=0.04419417", NULL,
      "f:n_tok*n_head*128 f:n_tok*n_head f:n_row*128 o:n_tok*n_row"}},
    {DS4_OP_index_topk, {"n_tok n_row k pos0 ratio=4", NULL, "f:n_tok*n_row n:n_tok*k"}},
    {DS4_OP_attention,
     {"n_tok n_head d_head window raw_cap pos0 ratio n_sel sel_tok0 n_score .scale=0.125", NULL,
      "f:n_tok*n_head*d_head f:raw_cap*d_head f:n_comp*d_head s:n_comp/n_tok*n_sel f:n_head "
      "x:n_tok*n_head*n_score o:n_tok*n_head*d_head"}},
    {DS4_OP_router_prob, {"n_elem", NULL, "f:n_elem o:n_elem"}},
    {DS4_OP_router_topk,
     {"n_tok n_expert k has_bias", NULL, "f:n_tok*n_expert f:n_expert n:n_tok*k"}},
    {DS4_OP_router_hash, {"n_tok k", NULL, "q:n_vocab*k i:n_vocab/n_tok n:n_tok*k"}},
    {DS4_OP_router_weight,
     {"n_tok n_expert k .scale=1.5", NULL, "f:n_tok*n_expert i:n_expert/n_tok*k o:n_tok*k"}},
    {DS4_OP_swiglu,
     {"n_row n_col has_w .clamp=10", NULL,
      "f:n_row*n_col f:n_row*n_col f:n_row o:n_row*n_col"}},
    {DS4_OP_slot_sum, {"n_tok n_slot n_col", NULL, "f:n_tok*n_slot*n_col o:n_tok*n_col"}},
    {DS4_OP_add, {"n_elem", NULL, "f:n_elem f:n_elem o:n_elem"}},
};

static const shape *shape_of(ds4_op op) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].op == op) return &shapes[i].s;
    return NULL;
}

/* --- a case in memory --- */

typedef struct kase {
    ds4_op op;
    char line[LINE];
    char key[MAX_KEY][24], value[MAX_KEY][24];
    uint32_t n_key;
    uint32_t args[32];
    uint32_t n_bind, wtype, variants;
    void *bind[DS4_MAX_BIND];
    size_t bytes[DS4_MAX_BIND]; /* without the guard */
    char kind[DS4_MAX_BIND];
} kase;

static uint64_t rng;

static uint32_t rnd(void) {
    rng += 0x9e3779b97f4a7c15u;
    uint64_t z = rng;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}
static float unit(void) { return (float)(rnd() >> 8) * 0x1p-24f; }
static float normal(void) {
    float s = 0.0f;
    for (int i = 0; i < 6; i++) s += unit() - 0.5f;
    return s * 1.414f;
}

static const char *text_of(const kase *c, const char *key, size_t n) {
    for (uint32_t i = 0; i < c->n_key; i++)
        if (strlen(c->key[i]) == n && !memcmp(c->key[i], key, n)) return c->value[i];
    return NULL;
}

static void set_key(kase *c, const char *key, size_t n, const char *value) {
    assert_true(c->n_key < MAX_KEY);
    snprintf(c->key[c->n_key], sizeof c->key[0], "%.*s", (int)n, key);
    snprintf(c->value[c->n_key++], sizeof c->value[0], "%s", value);
}

/* A product of keys and numbers by '*'; ends at a blank or the end. */
static size_t product(const kase *c, const char *s) {
    size_t total = 1;
    for (;;) {
        size_t n = strcspn(s, "* ");
        const char *v = text_of(c, s, n);
        total *= strtoull(v ? v : s, NULL, 0);
        if (s[n] != '*') return total;
        s += n + 1;
    }
}

/* Fields of the args struct; a key that is missing takes its default, or 0. */
static void build_args(kase *c, const shape *s) {
    uint32_t at = 0;
    for (const char *p = s->args; *p; at++) {
        size_t n = strcspn(p, " "), is_f = *p == '.', name = strcspn(p + is_f, "= ");
        const char *field = p + is_f, *v = text_of(c, field, name);
        char other[24];
        if (!v && name == 9 && !memcmp(field, "row_bytes", 9)) {
            const ds4_quant *q = ds4_quant_by_id(c->wtype);
            size_t elem = product(c, s->row_elem);
            snprintf(other, sizeof other, "%zu", elem / q->n_elem * q->n_bytes);
            set_key(c, field, name, v = other);
        } else if (!v) {
            const char *def = field[name] == '=' ? field + name + 1 : "0";
            if (is_f) snprintf(other, sizeof other, "%.*s", (int)strcspn(def, " "), def);
            else snprintf(other, sizeof other, "%zu", product(c, def));
            set_key(c, field, name, v = other);
        }
        float f = strtof(v, NULL);
        uint32_t u = (uint32_t)strtoul(v, NULL, 0);
        c->args[at] = is_f ? ds4_f32_bits(f) : u;
        p += n + (p[n] == ' ');
    }
    assert_int_equal(at * 4, ds4_op_args_bytes(c->op));
}

static float fill_one(const char *fill) {
    static const float hard[] = {0.0f,  -0.0f,   0x1p-51f, -0x1p-51f, 0x1.8p-50f, 1e-10f,
                                 1.0f,  -1.0f,   448.0f,   -460.0f,   65504.0f,   -65520.0f,
                                 1e-4f, 0.5f,    0x1p-7f,  0x1p-25f,  0x1.8p-24f, 6e-8f,
                                 -1e4f, 2.0625f, 17.0f,    19.0f,     -3.5f,      0.25f};
    if (!strcmp(fill, "unit")) return unit();
    if (!strcmp(fill, "zero")) return 0.0f;
    if (!strcmp(fill, "tie")) return 0.25f * (float)(rnd() % 9) - 1.0f;
    if (!strcmp(fill, "hard")) return hard[rnd() % (sizeof hard / sizeof *hard)];
    if (!strcmp(fill, "sign")) return 80.0f * unit() - 40.0f;
    if (!strcmp(fill, "grid")) return (float)((int)(rnd() % 4096) - 2048) * 0x1p-9f;
    if (!strcmp(fill, "wide"))
        return ds4_f32_from_bits((rnd() & 0x807fffffu) | (77 + rnd() % 71) << 23);
    return normal();
}

/* Offsets of the half scales of a block; SIZE_MAX ends the list. */
static const size_t *half_scales(uint32_t wtype) {
    static const size_t first[] = {0, SIZE_MAX}, two[] = {0, 2, SIZE_MAX},
                        end[] = {80, 82, SIZE_MAX};
    return wtype == DS4_QUANT_Q4_K ? two : wtype == DS4_QUANT_Q2_K ? end : first;
}

static void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }

/* Rows of random blocks: any code, half scales around 2^-6 and now and then subnormal or zero.
 */
static void fill_weight(const kase *c, uint8_t *p, size_t n, const char *fill) {
    const ds4_quant *q = ds4_quant_by_id(c->wtype);
    for (size_t b = 0; b + q->n_bytes <= n; b += q->n_bytes) {
        for (uint32_t i = 0; i < q->n_bytes; i++) p[b + i] = (uint8_t)rnd();
        if (c->wtype == DS4_QUANT_F32) {
            float v = rnd() % 64 ? fill_one(fill) : 1e-20f; /* flushed on load */
            memcpy(p + b, &v, 4);
        } else if (c->wtype == DS4_QUANT_BF16) {
            put16(p + b,
                  rnd() % 64 ? ds4_f32_to_bf16(fill_one(fill)) : ds4_f32_to_bf16(1e-20f));
        } else {
            bool plain = c->wtype == DS4_QUANT_F16;
            for (const size_t *s = half_scales(c->wtype); *s != SIZE_MAX; s++) {
                uint32_t h = (rnd() & 0x83ffu) | (plain ? 6 + rnd() % 10 : 8 + rnd() % 2) << 10;
                if (rnd() % 32 == 0) h = rnd() & 0x83ffu;
                put16(p + b + *s, h);
            }
        }
    }
}

/* Ascending distinct rows below n for each token; k <= n. */
static void fill_sorted(int32_t *p, size_t n_elem, size_t k, size_t n) {
    for (size_t i = 0; i < n_elem; i++) {
        size_t slot = i % k, low = slot ? (size_t)p[i - 1] + 1 : 0, high = n - (k - slot);
        p[i] = (int32_t)(low + rnd() % (high - low + 1));
    }
}

static void fill_bind(kase *c, uint32_t b, const char *spec, const char *fill) {
    const char *expr = spec + 2, *slash = memchr(expr, '/', strcspn(expr, " "));
    size_t limit = slash ? product(c, "") : 0;
    if (slash) {
        char name[24];
        snprintf(name, sizeof name, "%.*s", (int)(slash - expr), expr);
        limit = product(c, name);
        expr = slash + 1;
    }
    size_t n = product(c, expr),
           bytes = c->kind[b] == 'w' ? n * product(c, "row_bytes") : 4 * n;
    void *mem = NULL;
    assert_int_equal(ds4_mem_alloc(&mem, (bytes + 3) / 4 + GUARD, 4, NULL), DS4_OK);
    c->bind[b] = mem, c->bytes[b] = bytes;
    for (size_t i = 0; i < n && c->kind[b] == 'f'; i++) ((float *)mem)[i] = fill_one(fill);
    for (size_t i = 0; i < n && c->kind[b] == 'i'; i++)
        ((int32_t *)mem)[i] = (int32_t)(rnd() % limit);
    for (size_t i = 0; i < n && c->kind[b] == 'q'; i++) ((uint32_t *)mem)[i] = rnd();
    if (c->kind[b] == 's' && n) fill_sorted(mem, n, product(c, "n_sel"), limit);
    if (c->kind[b] == 'w') fill_weight(c, mem, bytes, fill);
}

static void pattern(uint32_t *p, size_t bytes) {
    for (size_t i = 0; i < bytes / 4 + GUARD; i++) p[i] = PATTERN;
}

static uint32_t default_bits(void) {
    uint32_t bits = 0;
    for (int i = 0; i < DS4_VARIANT_COUNT; i++) bits |= (uint32_t)ds4_variant_table[i].def << i;
    return bits;
}

static uint32_t variant_bits(const kase *c) {
    uint32_t bits = default_bits();
    for (uint32_t i = 0; i < c->n_key; i++) {
        bool on = !strcmp(c->key[i], "on");
        if (!on && strcmp(c->key[i], "off")) continue;
        int v = ds4_variant_find(c->value[i]);
        assert_true(v >= 0);
        bits = on ? bits | 1u << v : bits & ~(1u << v);
    }
    return bits;
}

static void kase_free(kase *c) {
    for (uint32_t b = 0; b < c->n_bind; b++) ds4_mem_free(c->bind[b]);
    memset(c, 0, sizeof *c);
}

static void kase_build(kase *c, ds4_op op, const char *line) {
    const shape *s = shape_of(op);
    assert_non_null(s);
    memset(c, 0, sizeof *c);
    c->op = op;
    snprintf(c->line, sizeof c->line, "%s", line);
    for (const char *p = line + strspn(line, " "); *p && *p != '\n'; p += strspn(p, " ")) {
        size_t n = strcspn(p, "= \n");
        char value[24];
        assert_int_equal(p[n], '=');
        snprintf(value, sizeof value, "%.*s", (int)strcspn(p + n + 1, " \n"), p + n + 1);
        set_key(c, p, n, value);
        p += strcspn(p, " \n");
    }
    const char *wtype = text_of(c, "wtype", 5), *fill = text_of(c, "fill", 4);
    const ds4_quant *q = ds4_quant_by_name(wtype ? wtype : "F32");
    assert_non_null(q);
    c->wtype = q->id;
    c->variants = variant_bits(c);
    rng = product(c, "seed");
    build_args(c, s);
    for (const char *p = s->binds; *p; p += strspn(p, " ")) {
        c->kind[c->n_bind] = *p;
        fill_bind(c, c->n_bind++, p, fill ? fill : "normal");
        p += strcspn(p, " ");
    }
    pattern(c->bind[c->n_bind - 1], c->bytes[c->n_bind - 1]);
}

static void run_reference(kase *c) {
    ds4_ref_call call = {.args = c->args, .wtype = c->wtype, .variants = c->variants};
    uint32_t grid[3];
    memcpy(call.bind, c->bind, sizeof call.bind);
    ds4_op_grid(c->op, c->args, grid);
    ds4_op_reference(c->op, &call, (ds4_box){0, grid[0], 0, grid[1]});
}

/* --- one row on the device --- */

static ds4_backend *vk; /* NULL: no device, `why` says why; a CPU engine while on_cpu */
static bool on_cpu;
static char why[600];
static const char *only; /* one op's name; NULL: all */

static bool skipped(int op) { return only && strcmp(only, ds4_op_table[op].name) != 0; }

static ds4_tap tap_of(ds4_op op) {
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        if (ds4_tap_table[t].op == op) return (ds4_tap)t;
    fail_msg("no tap calls %s", ds4_op_table[op].name);
    return DS4_TAP_COUNT;
}

/* Buffers of finished calls, freed when the tests are over: Mesa 22.3's software driver keeps
 * the last bindings of a queue and reads them after their memory was freed. */
static ds4_buf **kept;
static size_t n_kept;

static void keep(ds4_buf *buf) {
    if (!buf) return;
    if (n_kept % 1024 == 0)
        assert_int_equal(ds4_mem_grow(&kept, n_kept + 1024, sizeof(ds4_buf *), NULL), DS4_OK);
    kept[n_kept++] = buf;
}

/* Runs row on c's inputs; out gets the output and its guard. The refusal, or NULL. */
static const char *run_row(const kase *c, uint32_t row, uint32_t more_variants, void *out) {
    ds4_err err = {0};
    ds4_call call = {.tap = tap_of(c->op),
                     .phase = DS4_PREFILL,
                     .wtype = c->wtype,
                     .variants = c->variants | more_variants,
                     .args = c->args,
                     .args_bytes = ds4_op_args_bytes(c->op),
                     .n_col = 1, /* every element a row of its own: of its own random bits */
                     .n_bind = c->n_bind};
    uint32_t last = c->n_bind - 1;
    const char *refused;
    ds4_status st = DS4_OK;

    for (uint32_t b = 0; b < c->n_bind && !st; b++) {
        size_t n = c->bytes[b] + (b == last ? 4 * GUARD : 0);
        if (!n) continue;
        if (c->kind[b] == 'w') {
            st = vk->ops->buf_weight(vk, &call.bind[b], c->bind[b], n, "case", &err);
            continue;
        }
        bool is_f = strchr("fox", c->kind[b]) != NULL;
        st = vk->ops->buf_new(vk, &call.bind[b], n, is_f ? DS4_TYPE_F32 : DS4_TYPE_I32, &err);
        if (!st && b == last) pattern(out, c->bytes[b]);
        if (!st)
            st = vk->ops->buf_write(vk, call.bind[b], 0, b == last ? out : c->bind[b], n, &err);
    }
    refused = st ? NULL : vk->ops->refuses(vk, &call, row);
    if (!st && !refused) st = vk->ops->call(vk, &call, row, &err);
    if (!st && !refused)
        st = vk->ops->buf_read(vk, call.bind[last], 0, out, c->bytes[last] + 4 * GUARD, &err);
    for (uint32_t b = 0; b < c->n_bind; b++)
        if (on_cpu) vk->ops->buf_free(vk, call.bind[b]);
        else keep(call.bind[b]);
    if (st) fail_msg("%s: %s", c->line, err.message);
    return refused;
}

/* --- comparison --- */

typedef struct verdict {
    size_t n_bad, first; /* elements that differ in any bit (two NaN are equal) */
    size_t n_class;      /* of them: a non-finite or missing value on one side only */
    uint32_t ulp;
    double nrmse; /* rms of the difference over rms of the reference; equal DS4_NEG left out */
    size_t n, n_guard;
} verdict;

static bool is_nan(uint32_t u) { return (u & 0x7fffffffu) > 0x7f800000u; }

/* n elements and GUARD words of each. is_f: f32, else only equality of bits counts. */
static verdict compare(const uint32_t *got, const uint32_t *want, size_t n, bool is_f) {
    verdict v = {.first = SIZE_MAX, .n = n};
    double diff = 0.0, ref = 0.0;
    for (size_t i = 0; i < n; i++) {
        bool missing = (got[i] == PATTERN) != (want[i] == PATTERN);
        bool same =
            got[i] == want[i] || (is_f && is_nan(got[i]) && is_nan(want[i]) && !missing);
        float g = ds4_f32_from_bits(got[i]), w = ds4_f32_from_bits(want[i]);
        if (!same && v.n_bad++ == 0) v.first = i;
        if (!same && (missing || !is_f || !isfinite(g) || !isfinite(w))) v.n_class++;
        else if (is_f && isfinite(g) && isfinite(w)) {
            uint32_t d = ds4_ulp_distance(g, w);
            v.ulp = d > v.ulp ? d : v.ulp;
            diff += ((double)g - (double)w) * ((double)g - (double)w);
            /* The stand-in for minus infinity, equal on both sides, would hide all others. */
            if (!same || w != DS4_NEG) ref += (double)w * (double)w;
        }
    }
    v.nrmse = diff == 0.0 ? 0.0 : ref > 0.0 ? sqrt(diff / ref) : (double)INFINITY;
    for (size_t i = n; i < n + GUARD; i++) v.n_guard += got[i] != PATTERN;
    return v;
}

static bool within(const verdict *v, const char *bound) {
    if (v->n_guard) return false;
    if (!strncmp(bound, "IDS(", 4)) /* share of chosen ids that differ */
        return (double)v->n_bad <= strtod(bound + 4, NULL) * (double)v->n;
    if (v->n_class) return false;
    if (!strcmp(bound, "exact")) return v->n_bad == 0;
    if (!strncmp(bound, "ULP(", 4)) return v->ulp <= strtoul(bound + 4, NULL, 0);
    if (!strncmp(bound, "NRMSE(", 6)) return v->nrmse <= strtod(bound + 6, NULL);
    return false;
}

static verdict judge(const kase *c, const void *out) {
    uint32_t last = c->n_bind - 1;
    return compare(out, c->bind[last], c->bytes[last] / 4, c->kind[last] == 'o');
}

/* --- the loops --- */

typedef struct tally {
    uint32_t n_run, n_refused, n_differ, n_fail;
    uint32_t ulp;
    double nrmse;
} tally;

static void run_case(const kase *c, uint32_t row, tally *t) {
    const ds4_row_info *info = vk->ops->row(vk, c->op, row);
    uint32_t n_build = row && !on_cpu ? 2 : 1; /* fast rows: plain, then SAFE_MATH */
    void *out = NULL;
    size_t bytes = c->bytes[c->n_bind - 1] + 4 * GUARD;

    /* The reference computes the case's variant; a row that does not honour it does not. A
     * strict one must. */
    if (strcmp(info->name, "strict") && ((c->variants ^ default_bits()) & ~info->variants))
        return;
    assert_int_equal(ds4_mem_alloc(&out, bytes, 1, NULL), DS4_OK);
    for (uint32_t k = 0; k < n_build; k++) {
        if (run_row(c, row, k ? DS4_VARIANT_BIT(SAFE_MATH) : 0, out)) {
            t->n_refused++;
            continue;
        }
        verdict v = judge(c, out);
        t->n_run++, t->n_differ += v.n_bad != 0;
        t->ulp = v.ulp > t->ulp ? v.ulp : t->ulp;
        t->nrmse = v.nrmse > t->nrmse ? v.nrmse : t->nrmse;
        if (within(&v, info->bound)) continue;
        t->n_fail++;
        uint32_t g = 0, w = 0;
        if (v.first != SIZE_MAX)
            g = ((uint32_t *)out)[v.first], w = ((uint32_t *)c->bind[c->n_bind - 1])[v.first];
        print_error(
            "%s: beyond %s: %zu differ, first [%zu] %08x (%.9g), wanted %08x (%.9g); max "
            "%u ulp, nrmse %.3g, %zu class, %zu guard words\n  test_kernels '%s__%s %s'\n",
            k ? "SAFE_MATH" : "plain", info->bound, v.n_bad, v.first, g,
            (double)ds4_f32_from_bits(g), w, (double)ds4_f32_from_bits(w), v.ulp, v.nrmse,
            v.n_class, v.n_guard, ds4_op_table[c->op].name, info->name, c->line);
    }
    ds4_mem_free(out);
}

/* Reads the next case of an op; false at the end. */
static bool next_line(FILE *f, char line[LINE]) {
    while (fgets(line, LINE, f)) {
        line[strcspn(line, "\n")] = 0;
        if (line[0] && line[0] != '#') return true;
    }
    return false;
}

static FILE *open_cases(ds4_op op) {
    char path[128];
    snprintf(path, sizeof path, "fixtures/ops/%s.cases", ds4_op_table[op].name);
    FILE *f = fopen(path, "r");
    if (!f) fail_msg("%s: not found; run from the top of the tree", path);
    return f;
}

#define NEED_DEVICE                                                                            \
    do {                                                                                       \
        if (!vk) {                                                                             \
            print_message("SKIP: %s\n", why);                                                  \
            skip();                                                                            \
        }                                                                                      \
    } while (0)

/* Every row but that called `but`. */
static void check_rows(const char *but) {
    uint32_t n_fail = 0;
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        if (skipped(op)) continue;
        tally t[16] = {{0}};
        uint32_t n_row = vk->ops->n_row(vk, (ds4_op)op), n_case = 0;
        FILE *f = open_cases((ds4_op)op);
        char line[LINE];
        assert_in_range(n_row, 1, 16);
        for (kase c; next_line(f, line); n_case++) {
            kase_build(&c, (ds4_op)op, line);
            run_reference(&c);
            for (uint32_t r = 0; r < n_row; r++)
                if (!but || strcmp(vk->ops->row(vk, c.op, r)->name, but))
                    run_case(&c, r, &t[r]);
            kase_free(&c);
        }
        fclose(f);
        for (uint32_t r = 0; r < n_row; r++) {
            const ds4_row_info *info = vk->ops->row(vk, (ds4_op)op, r);
            print_message(
                "%-14s %-8s bound %-12s worst %u ulp, nrmse %.2e; %u runs, %u differ, "
                "%u refused of %u cases\n",
                ds4_op_table[op].name, info->name, info->bound, t[r].ulp, t[r].nrmse,
                t[r].n_run, t[r].n_differ, t[r].n_refused, n_case);
            n_fail += t[r].n_fail;
            if (r == 0 && t[r].n_refused) fail_msg("a strict row refused a case");
        }
        if (n_case < 3) fail_msg("%s: %u cases are too few", ds4_op_table[op].name, n_case);
    }
    assert_int_equal(n_fail, 0);
}

static void test_rows_every_case_within_bound(void **state) {
    (void)state;
    NEED_DEVICE;
    check_rows(NULL);
}

/* The rows of the CPU engines, but for compat, whose bounds are those of an evaluation
 * (tests/test_compat.c): blocks of int8 lose what stands beside a far larger value. */
static void test_cpu_rows_every_case_within_bound(void **state) {
    (void)state;
    static const char *const engine[] = {"ref", "ref64"};
    ds4_backend *device = vk;
    ds4_err err;
    for (int i = 0; i < 2; i++) {
        ds4_engine_options o = {.engine = engine[i], .n_thread = 2, .noise_seed = 5};
        test_ok(ds4_backend_open(&vk, &o, &err), &err);
        on_cpu = true;
        check_rows("compat");
        on_cpu = false;
        vk->ops->close(vk);
    }
    vk = device;
}

/* --- that the checks can fail --- */

static void test_compare_planted_fault_is_found(void **state) {
    uint32_t want[8 + GUARD], got[8 + GUARD];
    (void)state;
    for (int i = 0; i < 8; i++) want[i] = ds4_f32_bits(1.0f + (float)i);
    pattern(want + 8, 0);
    memcpy(got, want, sizeof got);
    verdict v = compare(got, want, 8, true);
    assert_true(within(&v, "exact"));

    got[5]++; /* one ulp */
    v = compare(got, want, 8, true);
    assert_int_equal(v.first, 5);
    assert_false(within(&v, "exact"));
    assert_false(within(&v, "ULP(0)"));
    assert_true(within(&v, "ULP(1)") && within(&v, "NRMSE(1e-6)"));
    assert_false(within(&v, "ULP") || within(&v, "anything"));

    got[5] = want[5] ^ 0x80000000u;
    v = compare(got, want, 8, true);
    assert_false(within(&v, "NRMSE(0.5)"));

    got[5] = want[5], got[8] = 0; /* a guard word */
    v = compare(got, want, 8, true);
    assert_false(within(&v, "NRMSE(1)"));

    got[8] = PATTERN, got[2] = PATTERN; /* an element left out */
    v = compare(got, want, 8, true);
    assert_int_equal(v.n_class, 1);
    assert_false(within(&v, "NRMSE(1)"));

    want[2] = 0x80000000u, got[2] = 0; /* signs of zero are bits */
    v = compare(got, want, 8, true);
    assert_false(within(&v, "exact"));
}

/* A strict row given one input word that differs in its last bit no longer passes, for every op
 * whose outputs can show it; and a row that is not strict fails EXACT somewhere. */
static void test_strict_changed_input_is_caught(void **state) {
    uint32_t n_caught = 0;
    (void)state;
    NEED_DEVICE;
    for (int op = 0; op < DS4_OP_COUNT; op++) {
        if (skipped(op)) continue;
        char line[LINE];
        FILE *f = open_cases((ds4_op)op);
        bool caught = false;
        for (kase c; !caught && next_line(f, line); kase_free(&c)) {
            kase_build(&c, (ds4_op)op, line);
            run_reference(&c);
            void *out = NULL;
            uint32_t in = 0;
            while (in + 1 < c.n_bind && c.kind[in] != 'f') in++;
            assert_int_equal(ds4_mem_alloc(&out, c.bytes[c.n_bind - 1] + 4 * GUARD, 1, NULL),
                             DS4_OK);
            for (size_t i = 0; c.kind[in] == 'f' && i < 4 && i < c.bytes[in] / 4 && !caught;
                 i++) {
                uint32_t *word = (uint32_t *)c.bind[in] + i, was = *word;
                *word ^= 1u;
                if (!run_row(&c, 0, 0, out)) {
                    verdict v = judge(&c, out);
                    caught = !within(&v, "exact");
                }
                *word = was;
            }
            ds4_mem_free(out);
        }
        fclose(f);
        n_caught += caught;
    }
    assert_true(only || n_caught >= 14);
}

static void test_fast_rows_judged_exact_fail(void **state) {
    uint32_t n_fast = 0, n_differ = 0, n_effect = 0;
    (void)state;
    NEED_DEVICE;
    for (int op = 0; op < DS4_OP_COUNT; op++)
        for (uint32_t r = 1; !skipped(op) && r < vk->ops->n_row(vk, (ds4_op)op); r++) {
            char line[LINE];
            FILE *f = open_cases((ds4_op)op);
            bool differ = false, ran = false, effect = false;
            for (kase c; !(differ && effect) && next_line(f, line); kase_free(&c)) {
                void *out = NULL, *safe = NULL;
                kase_build(&c, (ds4_op)op, line);
                run_reference(&c);
                assert_int_equal(
                    ds4_mem_alloc(&out, c.bytes[c.n_bind - 1] + 4 * GUARD, 1, NULL), DS4_OK);
                assert_int_equal(
                    ds4_mem_alloc(&safe, c.bytes[c.n_bind - 1] + 4 * GUARD, 1, NULL), DS4_OK);
                if (!run_row(&c, r, 0, out)) {
                    verdict v = judge(&c, out);
                    ran = true, differ |= !within(&v, "exact");
                    effect |= !run_row(&c, r, DS4_VARIANT_BIT(SAFE_MATH), safe) &&
                              memcmp(out, safe, c.bytes[c.n_bind - 1]) != 0;
                }
                ds4_mem_free(out);
                ds4_mem_free(safe);
            }
            fclose(f);
            n_fast += ran, n_differ += differ, n_effect += effect;
            if (ran && !effect)
                print_message("%s__%s: SAFE_MATH changes no bit on this device\n",
                              ds4_op_table[op].name, vk->ops->row(vk, (ds4_op)op, r)->name);
            if (ran && !differ)
                print_message("%s__%s equals the reference in every case on this device\n",
                              ds4_op_table[op].name, vk->ops->row(vk, (ds4_op)op, r)->name);
        }
    print_message("%u of %u fast rows differ from the reference, SAFE_MATH changes %u\n",
                  n_differ, n_fast, n_effect);
    assert_true(n_differ >= n_fast / 2);
    assert_true(only || n_effect > 0);
}

/* One case from the command line. */
static int run_one(const char *text) {
    char op[32], row[32];
    int at = 0;
    if (!vk || sscanf(text, "%31[a-z0-9_] %n", op, &at) != 1) return 1;
    char *cut = strstr(op, "__");
    if (!cut) return 1;
    snprintf(row, sizeof row, "%s", cut + 2);
    *cut = 0;
    int id = ds4_op_find(op);
    for (uint32_t r = 0; id >= 0 && r < vk->ops->n_row(vk, (ds4_op)id); r++) {
        if (strcmp(vk->ops->row(vk, (ds4_op)id, r)->name, row)) continue;
        kase c;
        tally t = {0};
        kase_build(&c, (ds4_op)id, text + at);
        run_reference(&c);
        run_case(&c, r, &t);
        printf("%s: %u runs, %u refused, worst %u ulp, nrmse %.3g\n", t.n_fail ? "FAIL" : "ok",
               t.n_run, t.n_refused, t.ulp, t.nrmse);
        kase_free(&c);
        return t.n_fail != 0;
    }
    fprintf(stderr, "no row %s__%s\n", op, row);
    return 1;
}

int main(int argc, char **argv) {
    ds4_err err = {0};
    const char *require = getenv("REQUIRE_GPU");
    ds4_vk_options options = test_vk_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_compare_planted_fault_is_found),
        cmocka_unit_test(test_rows_every_case_within_bound),
        cmocka_unit_test(test_cpu_rows_every_case_within_bound),
        cmocka_unit_test(test_strict_changed_input_is_caught),
        cmocka_unit_test(test_fast_rows_judged_exact_fail),
    };

    if (ds4_vk_open(&vk, &options, &err)) {
        snprintf(why, sizeof why, "no usable Vulkan device: %s", err.message);
        fprintf(stderr, "%s\n", why);
        if ((require && !strcmp(require, "1")) || err.status == DS4_ERR_INTERNAL) return 1;
    }
    bool one = argc > 1 && strstr(argv[1], "__");
    if (argc > 1 && !one) only = argv[1];
    setvbuf(stdout, NULL, _IOLBF, 0);
    int st = one ? run_one(argv[1]) : cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < n_kept; i++) vk->ops->buf_free(vk, kept[i]);
    ds4_mem_free(kept);
    if (vk) vk->ops->close(vk);
    return st;
}
