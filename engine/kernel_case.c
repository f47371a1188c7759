#include "engine/kernel_case.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/format/quant.h"
#include "engine/variants.h"

/* --- shapes: what the args and bindings of an op are made of --- */

/* args: the fields of ds4_args_<op> in order; a default follows '='; a leading '.' marks a
 * float. binds: one spec per binding, KIND:PRODUCT, products of keys and numbers by '*'. Kinds:
 * f f32; w raw weight rows (product of rows; row_elem names the key of the row length); i i32
 * below the key before '/'; s ascending distinct i32 rows below it, row length k; q any words;
 * x scratch; o output f32; n output i32.
 * limits: what the reference relies on so that it stays inside its bindings, as words
 * KEY<=PRODUCT, KEY>=PRODUCT and KEY%PRODUCT (a multiple), in which a product may also name a
 * size of `derived`. Beside them the first argument and all sizes of the output are at least 1.
 */
typedef struct shape {
    const char *args, *row_elem, *binds, *limits;
} shape;

static const struct {
    ds4_op op;
    shape s;
} shapes[] = {
    {DS4_OP_embed,
     {"n_tok n_embd n_hc row_bytes", "n_embd", "w:n_vocab i:n_vocab/n_tok o:n_tok*n_hc*n_embd",
      NULL}},
    {DS4_OP_rms_norm,
     {"n_row n_col has_w .eps=1e-6", NULL, "f:n_row*n_col f:n_col o:n_row*n_col", NULL}},
    {DS4_OP_matmul,
     {"n_tok n_in n_out row_bytes x_stride=n_in group_rows=n_out", "n_in",
      "w:n_out f:n_tok*x_stride o:n_tok*n_out", "group_rows>=1 x_stride>=n_slice*n_in"}},
    {DS4_OP_matmul_id,
     {"n_tok n_slot n_in n_out row_bytes n_mat x_per_slot", "n_in",
      "w:n_mat*n_out f:n_tok*n_slot*n_in i:n_mat/n_tok*n_slot o:n_tok*n_slot*n_out", NULL}},
    {DS4_OP_hc_split,
     {"n_tok n_sinkhorn=20 .eps=1e-6", NULL, "f:n_tok*24 f:3 f:24 o:n_tok*24",
      "n_sinkhorn<=1024"}},
    {DS4_OP_hc_gate,
     {"n_tok n_hc=4 .eps=1e-6", NULL, "f:n_tok*n_hc f:1 f:n_hc o:n_tok*n_hc", NULL}},
    {DS4_OP_hc_read,
     {"n_tok n_embd n_hc=4 w_stride=24", NULL,
      "f:n_tok*n_hc*n_embd f:n_tok*w_stride o:n_tok*n_embd", "n_hc<=w_stride"}},
    {DS4_OP_hc_write,
     {"n_tok n_embd", NULL, "f:n_tok*4*n_embd f:n_tok*n_embd f:n_tok*24 o:n_tok*4*n_embd",
      NULL}},
    {DS4_OP_rope,
     {"n_row n_head d_head n_rot pos0 pos_step=1 inverse", NULL,
      "f:n_row*n_head*d_head q:n_rot o:n_row*n_head*d_head", "n_rot<=d_head n_rot%2"}},
    {DS4_OP_kv_round,
     {"n_row d_head n_fp8", NULL, "f:n_row*d_head o:n_row*d_head", "n_fp8<=d_head n_fp8%64"}},
    {DS4_OP_index_round, {"n_row half_out", NULL, "f:n_row*128 o:n_row*128", NULL}},
    {DS4_OP_row_store,
     {"n_row n_col row0 cap", NULL, "f:n_row*n_col o:cap*n_col", "n_row<=cap"}},
    {DS4_OP_gate_bias,
     {"n_tok n_col pos0 ratio row_bytes", "n_col", "f:n_tok*n_col w:ratio o:n_tok*n_col",
      "ratio>=1"}},
    {DS4_OP_softmax_pool,
     {"n_row d_head ratio n_lane row0 cap", NULL,
      "f:cap*n_lane*d_head f:cap*n_lane*d_head o:n_row*d_head",
      "n_lane>=1 n_lane<=2 ratio>=1 ratio<=cap"}},
    {DS4_OP_index_score,
     {"n_tok n_head n_row pos0 ratio=4 .scale=0.04419417", NULL,
      "f:n_tok*n_head*128 f:n_tok*n_head f:n_row*128 o:n_tok*n_row", "ratio>=1"}},
    {DS4_OP_index_topk,
     {"n_tok n_row k pos0 ratio=4", NULL, "f:n_tok*n_row n:n_tok*k",
      "ratio>=1 k<=n_row k<=n_visible"}},
    {DS4_OP_attention,
     {"n_tok n_head d_head window raw_cap pos0 ratio n_sel sel_tok0 n_score .scale=0.125", NULL,
      "f:n_tok*n_head*d_head f:raw_cap*d_head f:n_comp*d_head s:n_comp/n_tok*n_sel f:n_head "
      "x:n_tok*n_head*n_score o:n_tok*n_head*d_head",
      "raw_cap>=1 n_comp>=n_seen n_score>=n_participant"}},
    {DS4_OP_router_prob, {"n_elem", NULL, "f:n_elem o:n_elem", NULL}},
    {DS4_OP_router_topk,
     {"n_tok n_expert k has_bias", NULL, "f:n_tok*n_expert f:n_expert n:n_tok*k",
      "k<=n_expert"}},
    {DS4_OP_router_hash, {"n_tok k", NULL, "q:n_vocab*k i:n_vocab/n_tok n:n_tok*k", NULL}},
    {DS4_OP_router_weight,
     {"n_tok n_expert k .scale=1.5", NULL, "f:n_tok*n_expert i:n_expert/n_tok*k o:n_tok*k",
      NULL}},
    {DS4_OP_swiglu,
     {"n_row n_col has_w .clamp=10", NULL, "f:n_row*n_col f:n_row*n_col f:n_row o:n_row*n_col",
      NULL}},
    {DS4_OP_slot_sum, {"n_tok n_slot n_col", NULL, "f:n_tok*n_slot*n_col o:n_tok*n_col", NULL}},
    {DS4_OP_add, {"n_elem", NULL, "f:n_elem f:n_elem o:n_elem", NULL}},
};

static const shape *shape_of(ds4_op op) {
    for (size_t i = 0; i < sizeof shapes / sizeof *shapes; i++)
        if (shapes[i].op == op) return &shapes[i].s;
    return NULL;
}

/* --- random values --- */

static uint32_t rnd(ds4_case *c) {
    c->rng += 0x9e3779b97f4a7c15u;
    uint64_t z = c->rng;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

typedef float fill_fn(ds4_case *c, size_t i);

static float fill_unit(ds4_case *c, size_t i) {
    (void)i;
    return (float)(rnd(c) >> 8) * 0x1p-24f;
}
static float fill_normal(ds4_case *c, size_t i) {
    float s = 0.0f;
    for (int k = 0; k < 6; k++) s += fill_unit(c, i) - 0.5f;
    return s * 1.414f;
}
static float fill_zero(ds4_case *c, size_t i) {
    (void)c, (void)i;
    return 0.0f;
}
static float fill_same(ds4_case *c, size_t i) {
    (void)c, (void)i;
    return 0.75f;
}
static float fill_tie(ds4_case *c, size_t i) {
    (void)i;
    return 0.25f * (float)(rnd(c) % 9) - 1.0f;
}
static float fill_hard(ds4_case *c, size_t i) {
    static const float hard[] = {0.0f,  -0.0f,   0x1p-51f, -0x1p-51f, 0x1.8p-50f, 1e-10f,
                                 1.0f,  -1.0f,   448.0f,   -460.0f,   65504.0f,   -65520.0f,
                                 1e-4f, 0.5f,    0x1p-7f,  0x1p-25f,  0x1.8p-24f, 6e-8f,
                                 -1e4f, 2.0625f, 17.0f,    19.0f,     -3.5f,      0.25f};
    (void)i;
    return hard[rnd(c) % (sizeof hard / sizeof *hard)];
}
static float fill_sign(ds4_case *c, size_t i) { return 80.0f * fill_unit(c, i) - 40.0f; }
static float fill_grid(ds4_case *c, size_t i) {
    (void)i;
    return (float)((int)(rnd(c) % 4096) - 2048) * 0x1p-9f;
}
/* Random sign and mantissa, n exponents from `low` on (biased). */
static float fill_bits(ds4_case *c, uint32_t low, uint32_t n) {
    return ds4_f32_from_bits((rnd(c) & 0x807fffffu) | (low + rnd(c) % n) << 23);
}
static float fill_wide(ds4_case *c, size_t i) {
    (void)i;
    return fill_bits(c, 77, 71);
}
static float fill_tiny(ds4_case *c, size_t i) {
    (void)i;
    return fill_bits(c, 127 - 51, 7);
}
static float fill_cancel(ds4_case *c, size_t i) {
    uint64_t was = c->rng;
    float v = (float)(1 + rnd(c) % 6);
    if (i % 2 == 0) c->rng = was; /* the second of a pair draws the same */
    return i % 2 ? -v : v;
}
static float fill_special(ds4_case *c, size_t i) {
    static const uint32_t special[] = {0x7fc00000u, 0x7f800000u, 0xff800000u, 0u, 0x80000000u};
    uint32_t k = rnd(c) % 16;
    return k < 5 ? ds4_f32_from_bits(special[k]) : fill_normal(c, i);
}

static const struct {
    const char *name;
    fill_fn *fill;
} fills[] = {
    {"normal", fill_normal}, {"unit", fill_unit},     {"zero", fill_zero},
    {"same", fill_same},     {"tie", fill_tie},       {"hard", fill_hard},
    {"sign", fill_sign},     {"grid", fill_grid},     {"wide", fill_wide},
    {"tiny", fill_tiny},     {"cancel", fill_cancel}, {"special", fill_special},
};

static fill_fn *fill_find(const char *name) {
    for (size_t i = 0; i < sizeof fills / sizeof *fills; i++)
        if (!strcmp(fills[i].name, name)) return fills[i].fill;
    return NULL;
}

/* --- the line --- */

static const char *text_of(const ds4_case *c, const char *key, size_t n) {
    for (uint32_t i = 0; i < c->n_key; i++)
        if (strlen(c->key[i]) == n && !memcmp(c->key[i], key, n)) return c->value[i];
    return NULL;
}

const char *ds4_case_value(const ds4_case *c, const char *key) {
    return text_of(c, key, strlen(key));
}

static ds4_status set_key(ds4_case *c, const char *key, size_t n, const char *value,
                          size_t n_value, ds4_err *err) {
    ds4_status st = DS4_OK;
    if (c->n_key == DS4_CASE_MAX_KEY)
        RAISE(DS4_ERR_USAGE, "case \"%s\": found more than %d keys", c->line, DS4_CASE_MAX_KEY);
    if (n >= sizeof c->key[0] || n_value >= sizeof c->value[0])
        RAISE(DS4_ERR_USAGE,
              "case \"%s\": %.*s: found %zu and %zu characters, wanted at most %zu each",
              c->line, (int)n, key, n, n_value, sizeof c->key[0] - 1);
    snprintf(c->key[c->n_key], sizeof c->key[0], "%.*s", (int)n, key);
    snprintf(c->value[c->n_key++], sizeof c->value[0], "%.*s", (int)n_value, value);
out:
    return st;
}

/* Whether a name in `list` is key: names stand behind a blank or a mark, kinds of bindings end
 * at ':' and numbers are none. */
static bool has_word(const char *list, const char *key) {
    size_t n = strlen(key);
    for (const char *p = list; isalpha((unsigned char)*key) && (p = strstr(p, key)); p += n)
        if ((p == list || strchr(" =.*/:", p[-1])) && (!p[n] || strchr(" =*/", p[n])))
            return true;
    return false;
}

/* Whether an argument is a float. */
static bool is_real(const shape *s, const char *key) {
    size_t n = strlen(key);
    for (const char *p = s->args; (p = strchr(p, '.')); p++)
        if (!strncmp(p + 1, key, n) && strchr(" =", p[1 + n])) return true;
    return false;
}

/* Whether text is a whole number of any base, without a sign, of at most `most`. */
static bool is_whole(const char *text, uint64_t most) {
    char *end;
    errno = 0;
    uint64_t v = strtoull(text, &end, 0);
    return isdigit((unsigned char)*text) && !*end && !errno && v <= most;
}

#define MAX_BYTES ((size_t)1 << 30) /* of all bindings of a case */

/* --- sizes that follow from several arguments; c->args are set --- */

static uint64_t n_slice(const ds4_case *c) {
    const struct ds4_args_matmul *a = (const void *)c->args;
    return a->group_rows ? ((uint64_t)a->n_out + a->group_rows - 1) / a->group_rows : 0;
}

/* Compressed rows that the first token of a selection sees. */
static uint64_t n_visible(const ds4_case *c) {
    const struct ds4_args_index_topk *a = (const void *)c->args;
    return a->ratio ? ((uint64_t)a->pos0 + 1) / a->ratio : 0;
}

/* Compressed rows that some token of an attention sees without a selection: the most. */
static uint64_t n_seen(const ds4_case *c) {
    const struct ds4_args_attention *a = (const void *)c->args;
    uint32_t n = !a->n_sel || a->sel_tok0 > a->n_tok ? a->n_tok : a->sel_tok0;
    return a->ratio && n ? ((uint64_t)a->pos0 + n) / a->ratio : 0;
}

static uint64_t n_participant(const ds4_case *c) {
    const struct ds4_args_attention *a = (const void *)c->args;
    uint64_t end = (uint64_t)a->pos0 + a->n_tok, seen = n_seen(c);
    return (end < a->window ? end : a->window) + (seen > a->n_sel ? seen : a->n_sel);
}

static const struct {
    const char *name;
    uint64_t (*of)(const ds4_case *c);
} derived[] = {
    {"n_slice", n_slice},
    {"n_visible", n_visible},
    {"n_seen", n_seen},
    {"n_participant", n_participant},
};

/* A key, a derived size or a number; n characters of s. A key that the line lacks is 0. */
static size_t factor(const ds4_case *c, const char *s, size_t n) {
    const char *v = text_of(c, s, n);
    for (size_t i = 0; !v && i < sizeof derived / sizeof *derived; i++)
        if (strlen(derived[i].name) == n && !memcmp(derived[i].name, s, n))
            return derived[i].of(c);
    return strtoull(v ? v : s, NULL, 0);
}

/* A product of factors by '*'; ends at a blank or the end. At most MAX_BYTES. */
static size_t product(const ds4_case *c, const char *s) {
    size_t total = 1;
    for (;;) {
        size_t n = strcspn(s, "* "), f = factor(c, s, n);
        total = f && total > MAX_BYTES / f ? MAX_BYTES : total * f;
        if (s[n] != '*') return total;
        s += n + 1;
    }
}

/* A word: a number (of any base), the name of a format, a fill or a variant. */
static ds4_status check_key(const ds4_case *c, const shape *s, uint32_t i, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *key = c->key[i], *value = c->value[i];
    char *end;
    bool toggle = !strcmp(key, "on") || !strcmp(key, "off"), seed = !strcmp(key, "seed");

    if (!toggle && ds4_case_value(c, key) != value)
        RAISE(DS4_ERR_USAGE, "case \"%s\": %s: found twice, wanted once", c->line, key);
    if (!strcmp(key, "row_bytes"))
        RAISE(DS4_ERR_USAGE, "case \"%s\": row_bytes: found %s, wanted none: it is computed",
              c->line, value);
    if (!strcmp(key, "wtype")) {
        if (!ds4_quant_by_name(value))
            RAISE(DS4_ERR_USAGE, "case \"%s\": wtype: no format is called %s", c->line, value);
    } else if (!strcmp(key, "fill")) {
        if (!fill_find(value))
            RAISE(DS4_ERR_USAGE, "case \"%s\": fill: no kind is called %s", c->line, value);
    } else if (toggle) {
        if (ds4_variant_find(value) < 0)
            RAISE(DS4_ERR_USAGE, "case \"%s\": %s: no variant is called %s", c->line, key,
                  value);
    } else {
        if (!seed && !has_word(s->args, key) && !has_word(s->binds, key))
            RAISE(DS4_ERR_USAGE, "case \"%s\": %s has no size or argument \"%s\"", c->line,
                  ds4_op_table[c->op].name, key);
        strtod(value, &end);
        if (is_real(s, key) && (!*value || *end))
            RAISE(DS4_ERR_USAGE, "case \"%s\": %s: found \"%s\", wanted a number", c->line, key,
                  value);
        if (!is_real(s, key) && !is_whole(value, seed ? UINT64_MAX : UINT32_MAX))
            RAISE(DS4_ERR_USAGE, "case \"%s\": %s: found \"%s\", wanted a number of %s bits",
                  c->line, key, value, seed ? "64" : "32");
    }
out:
    return st;
}

/* Words of the line. captured: only those that change a variant, the others name the call. */
static ds4_status parse(ds4_case *c, const shape *s, bool captured, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (const char *p = c->line + strspn(c->line, " "); *p; p += strspn(p, " ")) {
        size_t n = strcspn(p, "= "), n_word = strcspn(p, " ");
        bool toggle = !strncmp(p, "on=", 3) || !strncmp(p, "off=", 4);
        if (p[n] != '=' || !n)
            RAISE(DS4_ERR_USAGE, "case \"%s\": found \"%.*s\", wanted key=value", c->line,
                  (int)n_word, p);
        if (toggle || !captured) {
            TRY(set_key(c, p, n, p + n + 1, n_word - n - 1, err));
            TRY(check_key(c, s, c->n_key - 1, err));
        }
        p += n_word;
    }
out:
    return st;
}

/* Fields of the args struct; a key that is missing takes its default, or 0. */
static ds4_status build_args(ds4_case *c, const shape *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t at = 0;
    for (const char *p = s->args; *p; at++) {
        size_t n = strcspn(p, " "), is_f = *p == '.', name = strcspn(p + is_f, "= ");
        const char *field = p + is_f, *v = text_of(c, field, name);
        char other[24];
        if (!v && name == 9 && !memcmp(field, "row_bytes", 9)) {
            const ds4_quant *q = ds4_quant_by_id(c->wtype);
            size_t elem = product(c, s->row_elem);
            if (elem > DS4_MAX_ROW)
                RAISE(DS4_ERR_USAGE, "case \"%s\": %s: found %zu, wanted at most %d", c->line,
                      s->row_elem, elem, DS4_MAX_ROW);
            if (elem % q->n_elem)
                RAISE(DS4_ERR_USAGE, "case \"%s\": %s: found %zu, wanted a multiple of %u",
                      c->line, s->row_elem, elem, (unsigned)q->n_elem);
            snprintf(other, sizeof other, "%zu", elem / q->n_elem * q->n_bytes);
        } else if (!v) {
            const char *def = field[name] == '=' ? field + name + 1 : "0";
            if (is_f) snprintf(other, sizeof other, "%.*s", (int)strcspn(def, " "), def);
            else snprintf(other, sizeof other, "%zu", product(c, def));
        }
        if (!v) {
            TRY(set_key(c, field, name, other, strlen(other), err));
            v = other;
        }
        float f = strtof(v, NULL);
        uint32_t u = (uint32_t)strtoul(v, NULL, 0);
        c->args[at] = is_f ? ds4_f32_bits(f) : u;
        p += n + (p[n] == ' ');
    }
    if (at * 4 != ds4_op_args_bytes(c->op))
        RAISE(DS4_ERR_INTERNAL, "%s: the shape has %u arguments, args.h %zu bytes",
              ds4_op_table[c->op].name, at, ds4_op_args_bytes(c->op));
out:
    return st;
}

/* One limit of a shape, as KEY<=PRODUCT. */
static ds4_status check_limit(const ds4_case *c, const char *limit, ds4_err *err) {
    size_t n = strcspn(limit, "<>%");
    const char *want = limit + n + 1 + (limit[n] != '%');
    size_t found = factor(c, limit, n), wanted = product(c, want);
    bool holds = limit[n] == '<'   ? found <= wanted
                 : limit[n] == '>' ? found >= wanted
                                   : found % wanted == 0;
    if (holds) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                       "case \"%s\": %.*s: found %zu, wanted %s %zu (%.*s)", c->line, (int)n,
                       limit, found,
                       limit[n] == '<'   ? "at most"
                       : limit[n] == '>' ? "at least"
                                         : "a multiple of",
                       wanted, (int)strcspn(want, " "), want);
}

static ds4_status check_some(const ds4_case *c, const char *key, size_t n, ds4_err *err) {
    if (factor(c, key, n)) return DS4_OK;
    return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                       "case \"%s\": %.*s: found 0, wanted at least 1", c->line, (int)n, key);
}

/* Sizes against one another. */
static ds4_status check_sizes(const ds4_case *c, const shape *s, ds4_err *err) {
    ds4_status st = DS4_OK;
    TRY(check_some(c, s->args, strcspn(s->args, " ="), err));
    for (const char *p = strrchr(s->binds, ':'); *p; p += strcspn(p, "*")) {
        p++;
        TRY(check_some(c, p, strcspn(p, "*"), err));
    }
    for (const char *p = s->limits ? s->limits : ""; *p; p += strspn(p, " ")) {
        TRY(check_limit(c, p, err));
        p += strcspn(p, " ");
    }
out:
    return st;
}

/* --- inputs --- */

/* Offsets of the half scales of a block; SIZE_MAX ends the list. */
static const size_t *half_scales(uint32_t wtype) {
    static const size_t first[] = {0, SIZE_MAX}, two[] = {0, 2, SIZE_MAX},
                        end[] = {80, 82, SIZE_MAX};
    return wtype == DS4_QUANT_Q4_K ? two : wtype == DS4_QUANT_Q2_K ? end : first;
}

static void put16(uint8_t *p, uint32_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }

/* The weight of a plain format: of cancelling inputs both of a pair meet the same weight. */
static float plain_weight(ds4_case *c, fill_fn *fill, size_t i) {
    if (fill == fill_cancel) return fabsf(fill(c, i));
    if (fill == fill_special) return fill_normal(c, i);
    return rnd(c) % 64 ? fill(c, i) : 1e-20f; /* flushed on load */
}

/* Rows of random blocks: any code, half scales around 2^-6 and now and then subnormal or zero.
 */
static void fill_weight(ds4_case *c, uint8_t *p, size_t n, fill_fn *fill) {
    const ds4_quant *q = ds4_quant_by_id(c->wtype);
    for (size_t b = 0; b + q->n_bytes <= n; b += q->n_bytes) {
        size_t i = b / q->n_bytes;
        for (uint32_t k = 0; k < q->n_bytes; k++) p[b + k] = (uint8_t)rnd(c);
        if (c->wtype == DS4_QUANT_F32) {
            float v = plain_weight(c, fill, i);
            memcpy(p + b, &v, 4);
        } else if (c->wtype == DS4_QUANT_BF16) {
            put16(p + b, ds4_f32_to_bf16(plain_weight(c, fill, i)));
        } else if (c->wtype == DS4_QUANT_F16 && fill == fill_cancel) {
            put16(p + b, ds4_f32_to_f16(plain_weight(c, fill, i)));
        } else {
            bool plain = c->wtype == DS4_QUANT_F16;
            for (const size_t *s = half_scales(c->wtype); *s != SIZE_MAX; s++) {
                uint32_t h = (rnd(c) & 0x83ffu) | (plain ? 6 + rnd(c) % 10 : 8 + rnd(c) % 2)
                                                      << 10;
                if (rnd(c) % 32 == 0) h = rnd(c) & 0x83ffu;
                put16(p + b + *s, h);
            }
        }
    }
}

/* Ascending distinct rows below n for each token; k <= n. */
static void fill_sorted(ds4_case *c, int32_t *p, size_t n_elem, size_t k, size_t n) {
    for (size_t i = 0; i < n_elem; i++) {
        size_t slot = i % k, low = slot ? (size_t)p[i - 1] + 1 : 0, high = n - (k - slot);
        p[i] = (int32_t)(low + rnd(c) % (high - low + 1));
    }
}

static ds4_status new_bind(ds4_case *c, uint32_t b, size_t bytes, ds4_err *err) {
    c->bytes[b] = bytes;
    return ds4_mem_alloc(&c->bind[b], (bytes + 3) / 4 + DS4_CASE_GUARD, 4, err);
}

static ds4_status fill_bind(ds4_case *c, uint32_t b, const char *spec, fill_fn *fill,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *expr = spec + 2, *slash = memchr(expr, '/', strcspn(expr, " "));
    size_t limit = 0;
    if (slash) {
        char name[24];
        snprintf(name, sizeof name, "%.*s", (int)(slash - expr), expr);
        limit = product(c, name);
        expr = slash + 1;
    }
    size_t n = product(c, expr), per = c->kind[b] == 'w' ? product(c, "row_bytes") : 4;
    size_t used = 0;
    for (uint32_t i = 0; i < b; i++) used += c->bytes[i];
    if (per && n > (MAX_BYTES - used) / per)
        RAISE(DS4_ERR_USAGE, "case \"%s\": binding %u (%.*s) would take more than 1 GiB",
              c->line, b, (int)strcspn(spec, " "), spec);
    if (slash && n && !limit)
        RAISE(DS4_ERR_USAGE, "case \"%s\": %.*s: found 0, wanted more", c->line,
              (int)(slash - spec - 2), spec + 2);
    TRY(new_bind(c, b, n * per, err));
    void *mem = c->bind[b];
    for (size_t i = 0; i < n && c->kind[b] == 'f'; i++) ((float *)mem)[i] = fill(c, i);
    for (size_t i = 0; i < n && c->kind[b] == 'i'; i++)
        ((int32_t *)mem)[i] = (int32_t)(rnd(c) % limit);
    for (size_t i = 0; i < n && c->kind[b] == 'q'; i++) ((uint32_t *)mem)[i] = rnd(c);
    if (c->kind[b] == 's' && n) {
        if (product(c, "n_sel") > limit)
            RAISE(DS4_ERR_USAGE, "case \"%s\": n_sel: found %zu, wanted at most %zu", c->line,
                  product(c, "n_sel"), limit);
        fill_sorted(c, mem, n, product(c, "n_sel"), limit);
    }
    if (c->kind[b] == 'w') fill_weight(c, mem, n * per, fill);
out:
    return st;
}

uint32_t ds4_case_default_variants(void) {
    uint32_t bits = 0;
    for (int i = 0; i < DS4_VARIANT_COUNT; i++) bits |= (uint32_t)ds4_variant_table[i].def << i;
    return bits;
}

static uint32_t variant_bits(const ds4_case *c, uint32_t bits) {
    for (uint32_t i = 0; i < c->n_key; i++) {
        bool on = !strcmp(c->key[i], "on");
        if (!on && strcmp(c->key[i], "off")) continue;
        uint32_t bit = 1u << ds4_variant_find(c->value[i]);
        bits = on ? bits | bit : bits & ~bit;
    }
    return bits;
}

void ds4_case_pattern(void *out, size_t n_bytes) {
    uint32_t *p = out;
    for (size_t i = 0; i < n_bytes / 4 + DS4_CASE_GUARD; i++) p[i] = DS4_CASE_PATTERN;
}

/* The first call of the forward pass that is of this op. */
static ds4_status find_tap(ds4_case *c, ds4_err *err) {
    for (int t = 0; t < DS4_TAP_COUNT; t++)
        if (ds4_tap_table[t].op == c->op) return c->tap = (ds4_tap)t, DS4_OK;
    return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE, "no tap calls %s",
                       ds4_op_table[c->op].name);
}

static ds4_status begin(ds4_case *c, const shape **s, ds4_op op, const char *line,
                        ds4_err *err) {
    memset(c, 0, sizeof *c);
    c->op = op;
    *s = shape_of(op);
    if (!*s)
        return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE, "%s has no shape in kernel_case.c",
                           ds4_op_table[op].name);
    if (strlen(line) >= sizeof c->line)
        return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                           "a case: found %zu characters, wanted at most %zu", strlen(line),
                           sizeof c->line - 1);
    snprintf(c->line, sizeof c->line, "%s", line);
    for (const char *p = (*s)->binds; *p; p += strcspn(p, " "))
        if (*(p += strspn(p, " "))) c->kind[c->n_bind++] = *p;
    return DS4_OK;
}

ds4_status ds4_case_init(ds4_case *c, ds4_op op, const char *line, ds4_err *err) {
    ds4_status st = DS4_OK;
    const shape *s;
    uint32_t b = 0;

    TRY(begin(c, &s, op, line, err));
    TRY(find_tap(c, err));
    TRY(parse(c, s, false, err));
    const char *wtype = ds4_case_value(c, "wtype"), *fill = ds4_case_value(c, "fill");
    c->wtype = ds4_quant_by_name(wtype ? wtype : "F32")->id;
    c->variants = variant_bits(c, ds4_case_default_variants());
    c->rng = ds4_case_value(c, "seed") ? strtoull(ds4_case_value(c, "seed"), NULL, 0) : 0;
    TRY(build_args(c, s, err));
    TRY(check_sizes(c, s, err));
    for (const char *p = s->binds; *p; p += strspn(p, " ")) {
        TRY(fill_bind(c, b++, p, fill_find(fill ? fill : "normal"), err));
        p += strcspn(p, " ");
    }
    ds4_case_pattern(c->bind[b - 1], c->bytes[b - 1]);
out:
    if (st != DS4_OK) ds4_case_fini(c);
    return st;
}

ds4_status ds4_case_capture(ds4_case *c, ds4_backend *b, const ds4_call *call, const char *line,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    const shape *s;

    TRY(begin(c, &s, ds4_tap_table[call->tap].op, line, err));
    TRY(parse(c, s, true, err));
    c->tap = call->tap, c->wtype = call->wtype;
    c->variants = variant_bits(c, call->variants);
    memcpy(c->args, call->args, call->args_bytes);
    for (uint32_t i = 0; i < c->n_bind; i++) {
        size_t n = call->bind[i] ? b->ops->buf_bytes(b, call->bind[i]) : 0;
        if (n <= call->view[i].off) continue;
        n -= call->view[i].off;
        TRY(new_bind(c, i, n, err));
        TRY(b->ops->buf_read(b, call->bind[i], call->view[i].off, c->bind[i], n, err));
    }
    ds4_case_pattern(c->bind[c->n_bind - 1], c->bytes[c->n_bind - 1]);
out:
    if (st != DS4_OK) ds4_case_fini(c);
    return st;
}

void ds4_case_fini(ds4_case *c) {
    for (uint32_t b = 0; b < DS4_MAX_BIND; b++) ds4_mem_free(c->bind[b]);
    memset(c->bind, 0, sizeof c->bind);
}

void ds4_case_reference(ds4_case *c) {
    ds4_ref_call call = {.args = c->args, .wtype = c->wtype, .variants = c->variants};
    uint32_t grid[3];
    memcpy(call.bind, c->bind, sizeof call.bind);
    ds4_op_grid(c->op, c->args, grid);
    ds4_op_reference(c->op, &call, (ds4_box){0, grid[0], 0, grid[1]});
}

/* --- lines of the files --- */

bool ds4_case_edge(char out[DS4_CASE_LINE], const char *line, uint32_t edge, char *unit) {
    size_t n = 0;
    *unit = 0;
    for (const char *p = line; *p && n + 24 < DS4_CASE_LINE;) {
        if (*p != '?') {
            out[n++] = *p++;
            continue;
        }
        unsigned long times = 1;
        *unit = p[1];
        p += p[1] ? 2 : 1;
        if (*p == '*') {
            char *end;
            times = strtoul(p + 1, &end, 10);
            p = end;
        }
        n += (size_t)snprintf(out + n, DS4_CASE_LINE - n, "%lu", times * edge);
    }
    out[n] = 0;
    return *unit != 0;
}

/* --- comparison --- */

static bool is_nan(uint32_t u) { return (u & 0x7fffffffu) > 0x7f800000u; }

bool ds4_case_same(uint32_t got, uint32_t want, bool is_f) {
    bool missing = (got == DS4_CASE_PATTERN) != (want == DS4_CASE_PATTERN);
    return got == want || (is_f && is_nan(got) && is_nan(want) && !missing);
}

ds4_verdict ds4_case_compare(const uint32_t *got, const uint32_t *want, size_t n, bool is_f) {
    ds4_verdict v = {.first = SIZE_MAX, .n = n};
    double diff = 0.0, ref = 0.0;
    for (size_t i = 0; i < n; i++) {
        bool missing = (got[i] == DS4_CASE_PATTERN) != (want[i] == DS4_CASE_PATTERN);
        bool same = ds4_case_same(got[i], want[i], is_f);
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
    for (size_t i = n; i < n + DS4_CASE_GUARD; i++) v.n_guard += got[i] != DS4_CASE_PATTERN;
    return v;
}

ds4_verdict ds4_case_judge(const ds4_case *c, const void *out) {
    uint32_t last = c->n_bind - 1;
    return ds4_case_compare(out, c->bind[last], c->bytes[last] / 4, c->kind[last] == 'o');
}

bool ds4_case_within(const ds4_verdict *v, const char *bound) {
    if (v->n_guard) return false;
    if (!strncmp(bound, "IDS(", 4))
        return (double)v->n_bad <= strtod(bound + 4, NULL) * (double)v->n;
    if (v->n_class) return false;
    if (!strcmp(bound, "exact")) return v->n_bad == 0;
    if (!strncmp(bound, "ULP(", 4)) return v->ulp <= strtoul(bound + 4, NULL, 0);
    if (!strncmp(bound, "NRMSE(", 6)) return v->nrmse <= strtod(bound + 6, NULL);
    return false;
}
