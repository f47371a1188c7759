#include "engine/model/make.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/base/rng.h"
#include "engine/format/gguf_write.h"
#include "engine/model/make_shape.h"
#include "engine/model/make_vocab.h"

#define P "deepseek4."

/* ---- tensors ---- */

/* Lengths that depend on the configuration are computed by ne_of; COMP and IDX_COMP are the
 * widths of the compressors, twice as wide where the ratio is 4. */
typedef enum length {
    NONE,
    ONE,
    THREE,
    RHO,
    EMBD,
    VOCAB,
    HEADS,
    HEAD,
    HEAD_ALL,
    HEAD_GROUP,
    Q_RANK,
    O_ALL,
    HC,
    HC_EMBD,
    HC_MIX,
    COMP,
    IDX,
    IDX_HEADS,
    IDX_ALL,
    IDX_COMP,
    EXPERTS,
    USED,
    FF
} length;

/* Routed experts have the type of --quant: EXP_IN for gate and up, EXP_OUT for down. */
enum { EXP_IN = 1000, EXP_OUT };
typedef enum need { ALWAYS, COMPRESSED, INDEXED, HASHED, BIASED } need;

/* Distribution of an element: mean and standard deviation. FAN: 0, gain / sqrt(row length).
 * FLAT: 0, gain. ABOUT_1: 1, gain. IDS: distinct expert ids in each row, uniform. */
typedef enum law { FAN, FLAT, ABOUT_1, IDS } law;

typedef struct spec {
    const char *name;
    uint32_t type;
    length ne[3];
    need need;
    law law;
    float gain;
} spec;

static const spec global_specs[] = {
    {"token_embd.weight", DS4_QUANT_F16, {EMBD, VOCAB}, ALWAYS, FLAT, 1.0f},
    {"output_hc_fn.weight", DS4_QUANT_F16, {HC_EMBD, HC}, ALWAYS, FAN, 1.6f},
    {"output_hc_scale.weight", DS4_QUANT_F32, {ONE}, ALWAYS, ABOUT_1, 0.1f},
    {"output_hc_base.weight", DS4_QUANT_F32, {HC}, ALWAYS, FLAT, 0.6f},
    {"output_norm.weight", DS4_QUANT_F32, {EMBD}, ALWAYS, ABOUT_1, 0.1f},
    {"output.weight", DS4_QUANT_Q8_0, {EMBD, VOCAB}, ALWAYS, FAN, 2.0f},
};

/* The mixers' 1.6 is the deviation of 0.05 that suits a width of 256, carried to others. Gates
 * have a gain above 1 so that pooling and routing are not uniform; gate and up so that the
 * clamp of 10 is met, and down below 1 in return. */
static const spec layer_specs[] = {
    {"hc_attn_fn.weight", DS4_QUANT_F16, {HC_EMBD, HC_MIX}, ALWAYS, FAN, 1.6f},
    {"hc_attn_scale.weight", DS4_QUANT_F32, {THREE}, ALWAYS, ABOUT_1, 0.1f},
    {"hc_attn_base.weight", DS4_QUANT_F32, {HC_MIX}, ALWAYS, FLAT, 0.6f},
    {"attn_norm.weight", DS4_QUANT_F32, {EMBD}, ALWAYS, ABOUT_1, 0.1f},
    {"attn_q_a.weight", DS4_QUANT_Q8_0, {EMBD, Q_RANK}, ALWAYS, FAN, 1.0f},
    {"attn_q_a_norm.weight", DS4_QUANT_F32, {Q_RANK}, ALWAYS, ABOUT_1, 0.1f},
    {"attn_q_b.weight", DS4_QUANT_Q8_0, {Q_RANK, HEAD_ALL}, ALWAYS, FAN, 1.0f},
    {"attn_kv.weight", DS4_QUANT_Q8_0, {EMBD, HEAD}, ALWAYS, FAN, 1.0f},
    {"attn_kv_a_norm.weight", DS4_QUANT_F32, {HEAD}, ALWAYS, ABOUT_1, 0.1f},
    {"attn_sinks.weight", DS4_QUANT_F32, {HEADS}, ALWAYS, FLAT, 1.0f},
    {"attn_output_a.weight", DS4_QUANT_Q8_0, {HEAD_GROUP, O_ALL}, ALWAYS, FAN, 1.0f},
    {"attn_output_b.weight", DS4_QUANT_Q8_0, {O_ALL, EMBD}, ALWAYS, FAN, 1.0f},
    {"attn_compressor_ape.weight", DS4_QUANT_F16, {COMP, RHO}, COMPRESSED, FLAT, 0.5f},
    {"attn_compressor_kv.weight", DS4_QUANT_F16, {EMBD, COMP}, COMPRESSED, FAN, 1.0f},
    {"attn_compressor_gate.weight", DS4_QUANT_F16, {EMBD, COMP}, COMPRESSED, FAN, 2.0f},
    {"attn_compressor_norm.weight", DS4_QUANT_F32, {HEAD}, COMPRESSED, ABOUT_1, 0.1f},
    {"indexer.attn_q_b.weight", DS4_QUANT_F16, {Q_RANK, IDX_ALL}, INDEXED, FAN, 1.0f},
    {"indexer.proj.weight", DS4_QUANT_F16, {EMBD, IDX_HEADS}, INDEXED, FAN, 1.0f},
    {"indexer_compressor_ape.weight", DS4_QUANT_F16, {IDX_COMP, RHO}, INDEXED, FLAT, 0.5f},
    {"indexer_compressor_kv.weight", DS4_QUANT_F16, {EMBD, IDX_COMP}, INDEXED, FAN, 1.0f},
    {"indexer_compressor_gate.weight", DS4_QUANT_F16, {EMBD, IDX_COMP}, INDEXED, FAN, 2.0f},
    {"indexer_compressor_norm.weight", DS4_QUANT_F32, {IDX}, INDEXED, ABOUT_1, 0.1f},
    {"hc_ffn_fn.weight", DS4_QUANT_F16, {HC_EMBD, HC_MIX}, ALWAYS, FAN, 1.6f},
    {"hc_ffn_scale.weight", DS4_QUANT_F32, {THREE}, ALWAYS, ABOUT_1, 0.1f},
    {"hc_ffn_base.weight", DS4_QUANT_F32, {HC_MIX}, ALWAYS, FLAT, 0.6f},
    {"ffn_norm.weight", DS4_QUANT_F32, {EMBD}, ALWAYS, ABOUT_1, 0.1f},
    {"ffn_gate_inp.weight", DS4_QUANT_F16, {EMBD, EXPERTS}, ALWAYS, FAN, 2.0f},
    {"exp_probs_b.bias", DS4_QUANT_F32, {EXPERTS}, BIASED, FLAT, 0.1f},
    {"ffn_gate_tid2eid.weight", DS4_QUANT_I32, {USED, VOCAB}, HASHED, IDS, 0.0f},
    {"ffn_gate_exps.weight", EXP_IN, {EMBD, FF, EXPERTS}, ALWAYS, FAN, 3.0f},
    {"ffn_up_exps.weight", EXP_IN, {EMBD, FF, EXPERTS}, ALWAYS, FAN, 3.0f},
    {"ffn_down_exps.weight", EXP_OUT, {FF, EMBD, EXPERTS}, ALWAYS, FAN, 0.25f},
    {"ffn_gate_shexp.weight", DS4_QUANT_Q8_0, {EMBD, FF}, ALWAYS, FAN, 2.0f},
    {"ffn_up_shexp.weight", DS4_QUANT_Q8_0, {EMBD, FF}, ALWAYS, FAN, 2.0f},
    {"ffn_down_shexp.weight", DS4_QUANT_Q8_0, {FF, EMBD}, ALWAYS, FAN, 0.25f},
};
enum {
    N_GLOBAL = sizeof global_specs / sizeof *global_specs,
    N_LAYER_SPEC = sizeof layer_specs / sizeof *layer_specs
};

static uint64_t length_of(const ds4_config *c, uint32_t rho, length l) {
    uint64_t lanes = rho == 4 ? 2 : 1, head_all = (uint64_t)c->n_head * c->d_head;
    const uint64_t value[] = {
        [NONE] = 1,
        [ONE] = 1,
        [THREE] = 3,
        [RHO] = rho,
        [EMBD] = c->n_embd,
        [VOCAB] = c->n_vocab,
        [HEADS] = c->n_head,
        [HEAD] = c->d_head,
        [HEAD_ALL] = head_all,
        [HEAD_GROUP] = head_all / c->n_group,
        [Q_RANK] = c->q_rank,
        [O_ALL] = (uint64_t)c->n_group * c->o_rank,
        [HC] = c->n_hc,
        [HC_EMBD] = (uint64_t)c->n_hc * c->n_embd,
        [HC_MIX] = 2 * c->n_hc + c->n_hc * c->n_hc,
        [COMP] = lanes * c->d_head,
        [IDX] = c->d_idx,
        [IDX_HEADS] = c->n_idx_head,
        [IDX_ALL] = (uint64_t)c->n_idx_head * c->d_idx,
        [IDX_COMP] = lanes * c->d_idx,
        [EXPERTS] = c->n_expert,
        [USED] = c->n_expert_used,
        [FF] = c->n_ff,
    };
    return value[l];
}

/* ---- elements ---- */

/* What every block of a tensor is filled from: counters of one stream, and the distribution. */
typedef struct source {
    uint64_t key;
    float mean, std;
    uint32_t n_expert; /* IDS */
} source;

static void store16(uint8_t *p, uint16_t v) { p[0] = (uint8_t)v, p[1] = (uint8_t)(v >> 8); }
static void store32(uint8_t *p, uint32_t v) {
    store16(p, (uint16_t)v);
    store16(p + 2, (uint16_t)(v >> 16));
}
static void store64(uint8_t *p, uint64_t v) {
    store32(p, (uint32_t)v);
    store32(p + 4, (uint32_t)(v >> 32));
}

/* Counter i is element i. */
static float element(const source *s, uint64_t i, float unit) {
    float x = (float)ds4_rng_bell(s->key, i) * unit;
    return s->mean + x;
}
static void fill_f32(uint8_t *dst, const source *s, uint64_t first, uint64_t n) {
    float unit = s->std / sqrtf(DS4_RNG_BELL_VARIANCE);
    for (uint64_t i = 0; i < n; i++)
        store32(dst + 4 * i, ds4_f32_bits(element(s, first + i, unit)));
}
static void fill_f16(uint8_t *dst, const source *s, uint64_t first, uint64_t n) {
    float unit = s->std / sqrtf(DS4_RNG_BELL_VARIANCE);
    for (uint64_t i = 0; i < n; i++)
        store16(dst + 2 * i, ds4_f32_to_f16(element(s, first + i, unit)));
}

/* Distinct ids by Floyd's selection: of n ids the last candidate j joins when t is taken. Row
 * by row a stream of its own; n is the length of a row. */
static void fill_i32(uint8_t *dst, const source *s, uint64_t first, uint64_t n) {
    uint32_t j = s->n_expert - (uint32_t)n;
    (void)first; /* 0: a row of ids is produced whole */
    for (uint32_t k = 0; k < n; k++, j++) {
        uint32_t id = ds4_rng_below(s->key, k, j + 1);
        for (uint32_t i = 0; i < k; i++)
            if (ds4_le32(dst + 4 * (size_t)i) == id) {
                id = j;
                break;
            }
        store32(dst + 4 * (size_t)k, id);
    }
}

/* Scale of a block whose codes have deviation `code_std`: std / code_std times a factor of
 * 0.75 to 1.24, uniform, root mean square 1.006, so that blocks of a row differ. */
static float block_scale(const source *s, uint64_t i, float code_std) {
    float factor = (float)(96 + (ds4_rng_u64(s->key, i) >> 58)) * 0x1p-7f;
    float base = s->std / code_std;
    return base * factor;
}

/* Codes: bell-shaped, deviation 209.02 / 8, clipped to -127 to 127 (4.86 deviations). */
static void fill_q8_0(uint8_t *dst, const source *s, uint64_t first, uint64_t n) {
    for (uint64_t b = first / 32; b < (first + n) / 32; b++, dst += 34) {
        uint64_t i = 33 * b;
        store16(dst, ds4_f32_to_f16(block_scale(s, i, sqrtf(DS4_RNG_BELL_VARIANCE) * 0.125f)));
        for (uint32_t e = 0; e < 32; e++) {
            int32_t bell = ds4_rng_bell(s->key, i + 1 + e);
            int32_t code = (bell + (bell < 0 ? -4 : 4)) / 8; /* to nearest, ties outwards */
            code = code > 127 ? 127 : code < -127 ? -127 : code;
            dst[2 + e] = (uint8_t)(int8_t)code;
        }
    }
}

/* Jitter of a minimum against its scale: -1, 0, 0 or 1. */
static uint32_t jitter(uint32_t v, uint32_t two_bits) {
    return two_bits == 0 ? v - 1 : two_bits == 3 ? v + 1 : v;
}

/* Codes uniform in 0 to 3, scales in 7 to 14, minima the scale with jitter, the minima's half
 * scale 1.5 times the other: value = scale (sc (code - 1.5) -+ 1.5), mean 0, variance
 * scale^2 (115.5 * 1.25 + 0.5 * 1.5^2) = 145.5 scale^2. */
static void fill_q2_k(uint8_t *dst, const source *s, uint64_t first, uint64_t n) {
    for (uint64_t b = first / 256; b < (first + n) / 256; b++, dst += 84) {
        uint64_t i = 11 * b;
        uint16_t scale = ds4_f32_to_f16(block_scale(s, i, sqrtf(145.5f)));
        for (uint32_t j = 0; j < 16; j++) {
            uint32_t w = (uint32_t)(ds4_rng_u64(s->key, i + 1 + j / 8) >> 8 * (j % 8));
            uint32_t sc = 7 + (w & 7u);
            dst[j] = (uint8_t)(sc | jitter(sc, w >> 3 & 3u) << 4);
        }
        for (uint32_t k = 0; k < 8; k++)
            store64(dst + 16 + 8 * k, ds4_rng_u64(s->key, i + 3 + k));
        store16(dst + 80, scale);
        store16(dst + 82, ds4_f32_to_f16(1.5f * ds4_f16_to_f32(scale)));
    }
}

/* Codes uniform in 0 to 15, scales in 24 to 55, minima the scale with jitter, the minima's half
 * scale 7.5 times the other: mean 0, variance scale^2 (1645.5 * 21.25 + 0.5 * 7.5^2) =
 * 34995 scale^2. */
static void fill_q4_k(uint8_t *dst, const source *s, uint64_t first, uint64_t n) {
    for (uint64_t b = first / 256; b < (first + n) / 256; b++, dst += 144) {
        uint64_t i = 18 * b, bits = ds4_rng_u64(s->key, i + 1);
        uint16_t scale = ds4_f32_to_f16(block_scale(s, i, sqrtf(34995.0f)));
        uint8_t *p = dst + 4;
        store16(dst, scale);
        store16(dst + 2, ds4_f32_to_f16(7.5f * ds4_f16_to_f32(scale)));
        for (uint32_t j = 0; j < 8; j++) {
            uint32_t w = (uint32_t)(bits >> 8 * j), sc = 24 + (w & 31u);
            uint32_t mn = jitter(sc, w >> 5 & 3u);
            if (j < 4) {
                p[j] = (uint8_t)sc, p[j + 4] = (uint8_t)mn;
            } else {
                p[j + 4] = (uint8_t)((sc & 15u) | (mn & 15u) << 4);
                p[j - 4] |= (uint8_t)(sc >> 4 << 6);
                p[j] |= (uint8_t)(mn >> 4 << 6);
            }
        }
        for (uint32_t k = 0; k < 16; k++)
            store64(dst + 16 + 8 * k, ds4_rng_u64(s->key, i + 2 + k));
    }
}

/* Grid indices, signs and group scales all uniform bits. Mean square of the grid's magnitudes
 * 1094513 / 2048 (digit totals of model.md 1.7.5), of 2u + 1 it is 341; the value is scale / 8
 * times their product, so its variance is 2847.5 scale^2. */
static void fill_iq2_xxs(uint8_t *dst, const source *s, uint64_t first, uint64_t n) {
    const float variance = 1094513.0f / 2048.0f * 341.0f / 64.0f;
    for (uint64_t b = first / 256; b < (first + n) / 256; b++, dst += 66) {
        uint64_t i = 9 * b;
        store16(dst, ds4_f32_to_f16(block_scale(s, i, sqrtf(variance))));
        for (uint32_t k = 0; k < 8; k++)
            store64(dst + 2 + 8 * k, ds4_rng_u64(s->key, i + 1 + k));
    }
}

/* Elements [first, first + n) of a stream, whole blocks. */
typedef void fill_fn(uint8_t *dst, const source *s, uint64_t first, uint64_t n);
static fill_fn *const fill_of[] = {
    [DS4_QUANT_F32] = fill_f32,   [DS4_QUANT_F16] = fill_f16,
    [DS4_QUANT_Q8_0] = fill_q8_0, [DS4_QUANT_Q2_K] = fill_q2_k,
    [DS4_QUANT_Q4_K] = fill_q4_k, [DS4_QUANT_IQ2_XXS] = fill_iq2_xxs,
    [DS4_QUANT_I32] = fill_i32,
};

/* ---- layout ---- */

/* Rows that lie together in the file: one tensor's, or those that all layers' windows share. */
typedef struct pool {
    const spec *spec;
    char name[64]; /* names the stream */
    const ds4_quant *quant;
    uint64_t ne[3];
    uint64_t row_elems, row_bytes; /* a row of a vector is one element */
    uint64_t n_row, step;          /* of all windows; rows from one window to the next */
    uint64_t offset;
} pool;

struct ds4_make {
    ds4_make_options o;
    pool *pools;
    ds4_make_tensor *tensors;
    uint32_t *pool_of;   /* of tensor i */
    uint64_t *first_row; /* of tensor i in its pool */
    uint32_t n_pool, n_tensor;
    uint64_t head_bytes, data_bytes;
    ds4_gguf_writer *writer;
    bool biased[DS4_MAX_LAYER]; /* layers with exp_probs_b.bias */
};

static bool is_needed(const ds4_make *m, uint32_t il, need n) {
    const ds4_config *c = &m->o.shape;
    const bool value[] = {[ALWAYS] = true,
                          [COMPRESSED] = c->ratio[il] != 0,
                          [INDEXED] = c->ratio[il] == 4,
                          [HASHED] = il < c->n_hash,
                          [BIASED] = m->biased[il]};
    return value[n];
}

enum { MIN_STEP = 3 };

/* The least number of rows from MIN_STEP on whose bytes keep the alignment. */
static uint64_t window_step(uint64_t row_bytes) {
    uint64_t unit = 1;
    while (unit * row_bytes % DS4_GGUF_ALIGN) unit *= 2; /* ends: the alignment is 2^5 */
    return (MIN_STEP + unit - 1) / unit * unit;
}

static uint64_t tensor_rows(const pool *p) {
    return p->spec->ne[1] == NONE ? p->ne[0] : p->ne[1] * p->ne[2];
}

static const struct {
    const char *name;
    uint32_t in, out;
} expert_quants[] = {
    {"q2", DS4_QUANT_IQ2_XXS, DS4_QUANT_Q2_K},
    {"q4k", DS4_QUANT_Q4_K, DS4_QUANT_Q4_K},
    {"q2k", DS4_QUANT_Q2_K, DS4_QUANT_Q2_K},
    {"iq2", DS4_QUANT_IQ2_XXS, DS4_QUANT_IQ2_XXS},
    {"q4k-iq2", DS4_QUANT_Q4_K, DS4_QUANT_IQ2_XXS},
};

const char *ds4_make_quant(uint32_t i, uint32_t *in, uint32_t *out) {
    if (i >= sizeof expert_quants / sizeof *expert_quants) return NULL;
    if (in) *in = expert_quants[i].in;
    if (out) *out = expert_quants[i].out;
    return expert_quants[i].name;
}

/* The type ids of a name; false when there is none. */
static bool find_quant(const char *name, uint32_t *in, uint32_t *out) {
    const char *known;
    for (uint32_t i = 0; (known = ds4_make_quant(i, in, out)); i++)
        if (!strcmp(known, name)) return true;
    return false;
}

static uint32_t type_of(const spec *s, const char *quant) {
    uint32_t in = 0, out = 0;
    (void)find_quant(quant, &in, &out); /* ds4_make_new has looked */
    return s->type == EXP_IN ? in : s->type == EXP_OUT ? out : s->type;
}

/* The pool of a tensor: a new one, or with shared layers that of the same spec and shape. */
static pool *pool_for(ds4_make *m, const spec *s, const uint64_t ne[3], const char *tensor) {
    for (uint32_t i = 0; m->o.share_layers && i < m->n_pool; i++)
        if (m->pools[i].spec == s && !memcmp(m->pools[i].ne, ne, sizeof m->pools[i].ne))
            return &m->pools[i];
    pool *p = &m->pools[m->n_pool++];
    *p = (pool){.spec = s, .quant = ds4_quant_by_id(type_of(s, m->o.quant))};
    memcpy(p->ne, ne, sizeof p->ne);
    snprintf(p->name, sizeof p->name, "%s", tensor);
    p->row_elems = s->ne[1] == NONE ? 1 : ne[0];
    p->row_bytes = p->row_elems / p->quant->n_elem * p->quant->n_bytes;
    p->step = window_step(p->row_bytes);
    return p;
}

static void add_tensor(ds4_make *m, const spec *s, uint32_t il, bool in_layer) {
    uint32_t i = m->n_tensor++;
    ds4_make_tensor *t = &m->tensors[i];
    uint32_t rho = in_layer ? m->o.shape.ratio[il] : 0;

    if (in_layer) snprintf(t->name, sizeof t->name, "blk.%u.%s", il, s->name);
    else snprintf(t->name, sizeof t->name, "%s", s->name);
    for (uint32_t k = 0; k < 3; k++) {
        t->ne[k] = length_of(&m->o.shape, rho, s->ne[k]);
        if (s->ne[k] != NONE) t->n_dim = k + 1;
    }
    pool *p = pool_for(m, s, t->ne, t->name);
    t->quant = p->quant;
    t->n_bytes = tensor_rows(p) * p->row_bytes;
    m->pool_of[i] = (uint32_t)(p - m->pools);
    m->first_row[i] = p->n_row ? p->n_row - tensor_rows(p) + p->step : 0;
    p->n_row = m->first_row[i] + tensor_rows(p);
}

static void place(ds4_make *m) {
    for (uint32_t i = 0; i < m->n_pool; i++) {
        pool *p = &m->pools[i];
        uint64_t n = p->n_row * p->row_bytes;
        p->offset = m->data_bytes;
        m->data_bytes += (n + DS4_GGUF_ALIGN - 1) / DS4_GGUF_ALIGN * DS4_GGUF_ALIGN;
    }
    for (uint32_t i = 0; i < m->n_tensor; i++) {
        const pool *p = &m->pools[m->pool_of[i]];
        m->tensors[i].offset = p->offset + m->first_row[i] * p->row_bytes;
    }
}

static ds4_status lay_out(ds4_make *m, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_config *c = &m->o.shape;
    size_t most = N_GLOBAL + (size_t)c->n_layer * N_LAYER_SPEC;

    TRY(ds4_mem_alloc(&m->pools, most, sizeof *m->pools, err));
    TRY(ds4_mem_alloc(&m->tensors, most, sizeof *m->tensors, err));
    TRY(ds4_mem_alloc(&m->pool_of, most, sizeof *m->pool_of, err));
    TRY(ds4_mem_alloc(&m->first_row, most, sizeof *m->first_row, err));
    for (uint32_t k = 0; k < N_GLOBAL; k++) add_tensor(m, &global_specs[k], 0, false);
    for (uint32_t il = 0; il < c->n_layer; il++)
        for (uint32_t k = 0; k < N_LAYER_SPEC; k++)
            if (is_needed(m, il, layer_specs[k].need)) add_tensor(m, &layer_specs[k], il, true);
    place(m);
out:
    return st;
}

/* ---- metadata ---- */

static void put_config(ds4_gguf_writer *w, const ds4_config *c) {
    const struct {
        const char *key;
        uint32_t v;
    } counts[] = {{P "block_count", c->n_layer},
                  {P "embedding_length", c->n_embd},
                  {P "vocab_size", c->n_vocab},
                  {P "attention.head_count", c->n_head},
                  {P "attention.head_count_kv", 1},
                  {P "attention.key_length", c->d_head},
                  {P "attention.value_length", c->d_head},
                  {P "rope.dimension_count", c->n_rot},
                  {P "attention.q_lora_rank", c->q_rank},
                  {P "attention.output_lora_rank", c->o_rank},
                  {P "attention.output_group_count", c->n_group},
                  {P "attention.sliding_window", c->window},
                  {P "attention.indexer.head_count", c->n_idx_head},
                  {P "attention.indexer.key_length", c->d_idx},
                  {P "attention.indexer.top_k", c->idx_top_k},
                  {P "expert_count", c->n_expert},
                  {P "expert_used_count", c->n_expert_used},
                  {P "expert_shared_count", 1},
                  {P "expert_feed_forward_length", c->n_ff},
                  {P "hash_layer_count", c->n_hash},
                  {P "hyper_connection.count", c->n_hc},
                  {P "hyper_connection.sinkhorn_iterations", c->n_sinkhorn}};
    for (size_t i = 0; i < sizeof counts / sizeof *counts; i++)
        ds4_gguf_put_u32(w, counts[i].key, counts[i].v);
    ds4_gguf_put_f32(w, P "attention.layer_norm_rms_epsilon", c->eps);
    ds4_gguf_put_f32(w, P "hyper_connection.epsilon", c->hc_eps);
    ds4_gguf_put_f32(w, P "expert_weights_scale", c->expert_scale);
    ds4_gguf_put_f32(w, P "rope.freq_base", (float)c->rope_base);
    ds4_gguf_put_f32(w, P "attention.compress_rope_freq_base", (float)c->rope_base_comp);
    ds4_gguf_put_f32(w, P "rope.scaling.factor", (float)c->yarn_factor);
    ds4_gguf_put_f32(w, P "rope.scaling.yarn_beta_fast", (float)c->yarn_beta_fast);
    ds4_gguf_put_f32(w, P "rope.scaling.yarn_beta_slow", (float)c->yarn_beta_slow);
    ds4_gguf_put_u64(w, P "rope.scaling.original_context_length", c->yarn_n_ctx);
    ds4_gguf_put_u64(w, P "context_length", 1048576);
    ds4_gguf_put_bool(w, P "expert_weights_norm", true);
    ds4_gguf_put_array_u32(w, P "attention.compress_ratios", c->ratio, c->n_layer);
    ds4_gguf_put_array_f32(w, P "swiglu_clamp_exp", c->clamp, c->n_layer);
}

/* The byte alphabet of model.md 5.1: printable bytes stand for themselves, the others for code
 * points from 256 on. All lie below 0x800: two bytes of UTF-8 at most. */
static void byte_token(char out[3], uint32_t byte) {
    uint32_t code = 256;
    bool self = false;
    for (uint32_t b = 0; b <= byte; b++) {
        self = (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || b >= 174;
        if (!self && b < byte) code++;
    }
    if (self) code = byte;
    memset(out, 0, 3);
    if (code < 0x80) out[0] = (char)code;
    else out[0] = (char)(0xc0 | code >> 6), out[1] = (char)(0x80 | (code & 63));
}

/* "｜" is U+FF5C and "▁" U+2581; split literals end a hexadecimal escape. */
#define BAR "\xef\xbd\x9c"
#define LOW "\xe2\x96\x81"
static const char *const special_tokens[] = {"<" BAR "begin" LOW "of" LOW "sentence" BAR ">",
                                             "<" BAR "end" LOW "of" LOW "sentence" BAR ">",
                                             "<" BAR "User" BAR ">",
                                             "<" BAR "Assistant" BAR ">",
                                             "<think>",
                                             "</think>",
                                             BAR "DSML" BAR};
/* Left and right of a merge; their join is a token. G is the letter that stands for a space. */
#define G "\xc4\xa0"
static const char *const merge_pairs[][2] = {
    {G, "t"},   {"h", "e"},    {"i", "n"}, {"e", "r"}, {"a", "n"},    {"o", "n"},
    {"r", "e"}, {G "t", "he"}, {G, "a"},   {"n", "d"}, {G "a", "nd"}, {"o", "r"},
    {"e", "n"}, {"in", "g"},   {G, "c"},   {"l", "l"}};
enum {
    N_SPECIAL = sizeof special_tokens / sizeof *special_tokens,
    N_MERGE = sizeof merge_pairs / sizeof *merge_pairs
};

/* Every text once: only filler has brackets, save for the specials. */
static void put_tokenizer(ds4_gguf_writer *w, uint32_t n_vocab) {
    char text[32];
    ds4_gguf_put_strings(w, "tokenizer.ggml.tokens", n_vocab);
    for (uint32_t b = 0; b < 256; b++) {
        byte_token(text, b);
        ds4_gguf_put_item(w, text);
    }
    for (uint32_t i = 0; i < N_SPECIAL; i++) ds4_gguf_put_item(w, special_tokens[i]);
    for (uint32_t i = 0; i < N_MERGE; i++) {
        snprintf(text, sizeof text, "%s%s", merge_pairs[i][0], merge_pairs[i][1]);
        ds4_gguf_put_item(w, text);
    }
    for (uint32_t i = 256 + N_SPECIAL + N_MERGE; i < n_vocab; i++) {
        snprintf(text, sizeof text, "<filler_%u>", i);
        ds4_gguf_put_item(w, text);
    }
    ds4_gguf_put_strings(w, "tokenizer.ggml.merges", N_MERGE);
    for (uint32_t i = 0; i < N_MERGE; i++) {
        snprintf(text, sizeof text, "%s %s", merge_pairs[i][0], merge_pairs[i][1]);
        ds4_gguf_put_item(w, text);
    }
}

static ds4_status put_head(ds4_make *m, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_gguf_writer *w;
    TRY(ds4_gguf_writer_new(&m->writer, err));
    w = m->writer;
    ds4_gguf_put_string(w, "general.architecture", "deepseek4");
    ds4_gguf_put_string(w, "general.name", "random weights");
    ds4_gguf_put_u64(w, "ds4_drift.make.seed", m->o.seed);
    ds4_gguf_put_bool(w, "ds4_drift.make.share_layers", m->o.share_layers);
    put_config(w, &m->o.shape);
    if (m->o.vocab) TRY(ds4_make_put_vocab(w, m->o.vocab, m->o.shape.n_vocab, err));
    else put_tokenizer(w, m->o.shape.n_vocab);
    for (uint32_t i = 0; i < m->n_tensor; i++) {
        const ds4_make_tensor *t = &m->tensors[i];
        ds4_gguf_put_tensor(w, t->name, t->quant, t->ne, t->n_dim, t->offset);
    }
    TRY(ds4_gguf_writer_head(w, &m->head_bytes, err));
out:
    return st;
}

ds4_status ds4_make_new(ds4_make **out, const ds4_make_options *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_make *m = NULL;
    uint32_t in, out_type;

    if (!find_quant(o->quant, &in, &out_type))
        RAISE(DS4_ERR_USAGE, "quant is \"%.60s\", wanted q2 or q4k, or q2k, iq2 or q4k-iq2",
              o->quant);
    TRY(ds4_mem_alloc(&m, 1, sizeof *m, err));
    m->o = *o;
    TRY(ds4_make_check_shape(&m->o.shape, err));
    TRY(ds4_make_read_lists(&m->o, m->biased, err));
    TRY(lay_out(m, err));
    TRY(put_head(m, err));
    *out = m, m = NULL;
out:
    ds4_make_free(m);
    return st;
}

void ds4_make_free(ds4_make *m) {
    if (!m) return;
    ds4_gguf_writer_free(m->writer);
    ds4_mem_free(m->pools);
    ds4_mem_free(m->tensors);
    ds4_mem_free(m->pool_of);
    ds4_mem_free(m->first_row);
    ds4_mem_free(m);
}

const ds4_config *ds4_make_config(const ds4_make *m) { return &m->o.shape; }
uint32_t ds4_make_n_tensor(const ds4_make *m) { return m->n_tensor; }
const ds4_make_tensor *ds4_make_tensor_at(const ds4_make *m, uint32_t i) {
    return &m->tensors[i];
}
uint64_t ds4_make_head_bytes(const ds4_make *m) { return m->head_bytes; }
uint64_t ds4_make_file_bytes(const ds4_make *m) { return m->head_bytes + m->data_bytes; }

/* ---- rows and the file ---- */

/* Rows [row, row + n) of a pool. A matrix row is a stream; a vector is one stream, whose
 * counters are its elements. */
static void fill_rows(const ds4_make *m, const pool *p, uint64_t row, uint64_t n,
                      uint8_t *dst) {
    const spec *s = p->spec;
    bool vector = s->ne[1] == NONE;
    source src = {.mean = s->law == ABOUT_1 ? 1.0f : 0.0f,
                  .std = s->law == FAN ? s->gain / sqrtf((float)p->ne[0]) : s->gain,
                  .n_expert = m->o.shape.n_expert};
    fill_fn *fill = fill_of[p->quant->id];
    if (vector) {
        src.key = ds4_rng_key(m->o.seed, p->name, 0);
        fill(dst, &src, row, n);
        return;
    }
    for (uint64_t r = row; r < row + n; r++, dst += p->row_bytes) {
        src.key = ds4_rng_key(m->o.seed, p->name, r);
        fill(dst, &src, 0, p->row_elems);
    }
}

ds4_status ds4_make_row(const ds4_make *m, uint32_t i, uint64_t i_row, uint8_t *dst,
                        ds4_err *err) {
    ds4_status st = DS4_OK;
    if (i >= m->n_tensor)
        RAISE(DS4_ERR_INTERNAL, "make: tensor %u, wanted below %u", i, m->n_tensor);
    const pool *p = &m->pools[m->pool_of[i]];
    bool vector = p->spec->ne[1] == NONE;
    uint64_t n_row = vector ? 1 : tensor_rows(p);
    if (i_row >= n_row)
        RAISE(DS4_ERR_INTERNAL, "make: row %llu of %s, wanted below %llu",
              (unsigned long long)i_row, m->tensors[i].name, (unsigned long long)n_row);
    fill_rows(m, p, m->first_row[i] + i_row, vector ? tensor_rows(p) : 1, dst);
out:
    return st;
}

static ds4_status write_pool(ds4_make *m, const pool *p, uint8_t *room, size_t cap,
                             ds4_make_tell *tell, void *user, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint64_t batch = cap / p->row_bytes;
    for (uint64_t row = 0, n; row < p->n_row; row += n) {
        uint64_t at = p->offset + row * p->row_bytes;
        n = p->n_row - row < batch ? p->n_row - row : batch;
        if (tell && !tell(user, m->head_bytes + at, ds4_make_file_bytes(m)))
            RAISE(DS4_ERR_CANCELLED, "stopped");
        fill_rows(m, p, row, n, room);
        TRY(ds4_gguf_writer_data(m->writer, at, room, (size_t)(n * p->row_bytes), err));
    }
out:
    return st;
}

ds4_status ds4_make_write(ds4_make *m, const char *path, ds4_make_tell *tell, void *user,
                          ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t cap = 1u << 20;
    uint8_t *room = NULL;

    for (uint32_t i = 0; i < m->n_pool; i++) /* one row at least */
        if (m->pools[i].row_bytes > cap) cap = (size_t)m->pools[i].row_bytes;
    TRY(ds4_mem_alloc(&room, cap, 1, err));
    TRY(ds4_gguf_writer_begin(m->writer, path, m->data_bytes, err));
    for (uint32_t i = 0; i < m->n_pool; i++)
        TRY(write_pool(m, &m->pools[i], room, cap, tell, user, err));
    TRY(ds4_gguf_writer_end(m->writer, err));
out:
    ds4_mem_free(room);
    return st;
}
