#include "engine/model/weights.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

/* Every length that occurs in a shape. A layer's table of values is filled once from the
 * configuration; the shapes below are then plain data. */
typedef enum dim {
    NO_DIM,
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
    FF,
    N_DIM
} dim;

typedef enum kind { NO_KIND, MATRIX, VECTOR, IDS } kind;

/* When a tensor must be there. One that a layer does not need stays unbound even when the
 * file has it. */
typedef enum need { ALWAYS, OPTIONAL, COMPRESSED, INDEXED, HASHED } need;

typedef struct shape {
    kind kind;
    dim ne[3]; /* NO_DIM past the rank */
    need need;
} shape;

#define NAME(field, text) [W_##field] = text,
#define INDEX(field, text) W_##field,
#define OFFSET(field, text) [W_##field] = offsetof(STRUCT, field),

enum { DS4_GLOBAL_WEIGHTS(INDEX) N_GLOBAL };
static const char *const global_name[N_GLOBAL] = {DS4_GLOBAL_WEIGHTS(NAME)};
#define STRUCT ds4_weights
static const size_t global_offset[N_GLOBAL] = {DS4_GLOBAL_WEIGHTS(OFFSET)};
#undef STRUCT

static const shape global_shape[N_GLOBAL] = {
    [W_token_embd] = {MATRIX, {EMBD, VOCAB}, ALWAYS},
    [W_output_hc_fn] = {MATRIX, {HC_EMBD, HC}, ALWAYS},
    [W_output_hc_scale] = {VECTOR, {ONE}, ALWAYS},
    [W_output_hc_base] = {VECTOR, {HC}, ALWAYS},
    [W_output_norm] = {VECTOR, {EMBD}, ALWAYS},
    [W_output] = {MATRIX, {EMBD, VOCAB}, ALWAYS},
};

enum { DS4_LAYER_WEIGHTS(INDEX) N_LAYER_WEIGHT };
static const char *const layer_name[N_LAYER_WEIGHT] = {DS4_LAYER_WEIGHTS(NAME)};
#define STRUCT ds4_layer_weights
static const size_t layer_offset[N_LAYER_WEIGHT] = {DS4_LAYER_WEIGHTS(OFFSET)};
#undef STRUCT

static const shape layer_shape[N_LAYER_WEIGHT] = {
    [W_hc_attn_fn] = {MATRIX, {HC_EMBD, HC_MIX}, ALWAYS},
    [W_hc_attn_scale] = {VECTOR, {THREE}, ALWAYS},
    [W_hc_attn_base] = {VECTOR, {HC_MIX}, ALWAYS},
    [W_attn_norm] = {VECTOR, {EMBD}, ALWAYS},
    [W_attn_q_a] = {MATRIX, {EMBD, Q_RANK}, ALWAYS},
    [W_attn_q_a_norm] = {VECTOR, {Q_RANK}, ALWAYS},
    [W_attn_q_b] = {MATRIX, {Q_RANK, HEAD_ALL}, ALWAYS},
    [W_attn_kv] = {MATRIX, {EMBD, HEAD}, ALWAYS},
    [W_attn_kv_a_norm] = {VECTOR, {HEAD}, ALWAYS},
    [W_attn_sinks] = {VECTOR, {HEADS}, ALWAYS},
    [W_attn_output_a] = {MATRIX, {HEAD_GROUP, O_ALL}, ALWAYS},
    [W_attn_output_b] = {MATRIX, {O_ALL, EMBD}, ALWAYS},
    [W_comp_ape] = {VECTOR, {COMP, RHO}, COMPRESSED},
    [W_comp_kv] = {MATRIX, {EMBD, COMP}, COMPRESSED},
    [W_comp_gate] = {MATRIX, {EMBD, COMP}, COMPRESSED},
    [W_comp_norm] = {VECTOR, {HEAD}, COMPRESSED},
    [W_idx_q_b] = {MATRIX, {Q_RANK, IDX_ALL}, INDEXED},
    [W_idx_proj] = {MATRIX, {EMBD, IDX_HEADS}, INDEXED},
    [W_idx_ape] = {VECTOR, {IDX_COMP, RHO}, INDEXED},
    [W_idx_kv] = {MATRIX, {EMBD, IDX_COMP}, INDEXED},
    [W_idx_gate] = {MATRIX, {EMBD, IDX_COMP}, INDEXED},
    [W_idx_norm] = {VECTOR, {IDX}, INDEXED},
    [W_hc_ffn_fn] = {MATRIX, {HC_EMBD, HC_MIX}, ALWAYS},
    [W_hc_ffn_scale] = {VECTOR, {THREE}, ALWAYS},
    [W_hc_ffn_base] = {VECTOR, {HC_MIX}, ALWAYS},
    [W_ffn_norm] = {VECTOR, {EMBD}, ALWAYS},
    [W_router] = {MATRIX, {EMBD, EXPERTS}, ALWAYS},
    [W_router_bias] = {VECTOR, {EXPERTS}, OPTIONAL},
    [W_router_hash] = {IDS, {USED, VOCAB}, HASHED},
    [W_exp_gate] = {MATRIX, {EMBD, FF, EXPERTS}, ALWAYS},
    [W_exp_up] = {MATRIX, {EMBD, FF, EXPERTS}, ALWAYS},
    [W_exp_down] = {MATRIX, {FF, EMBD, EXPERTS}, ALWAYS},
    [W_sh_gate] = {MATRIX, {EMBD, FF}, ALWAYS},
    [W_sh_up] = {MATRIX, {EMBD, FF}, ALWAYS},
    [W_sh_down] = {MATRIX, {FF, EMBD}, ALWAYS},
};

/* Values of all dimensions for a layer of ratio rho (0 for the globals). */
static void fill_dims(uint64_t dims[N_DIM], const ds4_config *c, uint32_t rho) {
    /* The overlapping compressor of ratio 4 keeps two lanes. */
    uint64_t lanes = rho == 4 ? 2 : 1, head_all = (uint64_t)c->n_head * c->d_head;
    uint64_t hc = c->n_hc;
    const uint64_t value[N_DIM] = {
        [NO_DIM] = 1,
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
        [HC] = hc,
        [HC_EMBD] = hc * c->n_embd,
        [HC_MIX] = 2 * hc + hc * hc,
        [COMP] = lanes * c->d_head,
        [IDX] = c->d_idx,
        [IDX_HEADS] = c->n_idx_head,
        [IDX_ALL] = (uint64_t)c->n_idx_head * c->d_idx,
        [IDX_COMP] = lanes * c->d_idx,
        [EXPERTS] = c->n_expert,
        [USED] = c->n_expert_used,
        [FF] = c->n_ff,
    };
    memcpy(dims, value, sizeof value);
}

static bool accepts(kind k, const ds4_quant *q) {
    if (!q) return false;
    switch (q->id) {
    case DS4_QUANT_F32:
    case DS4_QUANT_F16:
    case DS4_QUANT_BF16:
        return k != IDS;
    case DS4_QUANT_I32:
        return k == IDS;
    default:
        return k == MATRIX;
    }
}

static const char *wanted_types(kind k) {
    return k == IDS      ? "I32"
           : k == VECTOR ? "F32, F16 or BF16"
                         : "F32, F16, BF16, Q8_0, Q4_K, Q2_K or IQ2_XXS";
}

/* "[256, 2048]" */
static const char *format_shape(char *s, size_t size, const uint64_t *ne, uint32_t n_dim) {
    size_t at = 0;
    for (uint32_t i = 0; i < n_dim && at < size; i++)
        at += (size_t)snprintf(s + at, size - at, "%s%llu", i ? ", " : "[",
                               (unsigned long long)ne[i]);
    if (at < size) snprintf(s + at, size - at, "]");
    return s;
}

static ds4_status check_tensor(const ds4_tensor *t, const shape *s, const uint64_t dims[N_DIM],
                               const char *file, const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    char found[DS4_GGUF_MAX_DIM * 22 + 8], wanted[3 * 22 + 8];
    uint64_t ne[3];
    uint32_t rank = 0;
    for (; rank < 3 && s->ne[rank] != NO_DIM; rank++) ne[rank] = dims[s->ne[rank]];
    if (!accepts(s->kind, t->quant))
        RAISE(DS4_ERR_FORMAT, "%.200s: tensor %s has type %s (%u), wanted %s", file, name,
              t->quant ? t->quant->name : "unknown", t->type_id, wanted_types(s->kind));
    if (t->n_dim != rank || memcmp(t->ne, ne, rank * sizeof *ne) != 0)
        RAISE(DS4_ERR_FORMAT, "%.150s: tensor %s has shape %s, wanted %s", file, name,
              format_shape(found, sizeof found, t->ne, t->n_dim),
              format_shape(wanted, sizeof wanted, ne, rank));
    if (t->ne[0] % t->quant->n_elem)
        RAISE(DS4_ERR_FORMAT, "%.200s: tensor %s has rows of %llu %s, wanted a multiple of %u",
              file, name, (unsigned long long)t->ne[0], t->quant->name, t->quant->n_elem);
out:
    return st;
}

static bool is_needed(need n, uint32_t rho, bool hashed) {
    switch (n) {
    case COMPRESSED:
        return rho != 0;
    case INDEXED:
        return rho == 4;
    case HASHED:
        return hashed;
    default:
        return true;
    }
}

static ds4_status bind(ds4_weight *w, const ds4_gguf *g, const char *name, const shape *s,
                       const uint64_t dims[N_DIM], ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_tensor *t = ds4_gguf_find_tensor(g, name);
    if (!t && s->need == OPTIONAL) return DS4_OK;
    if (!t) RAISE(DS4_ERR_FORMAT, "%.200s: tensor %s is missing", ds4_gguf_name(g), name);
    if (s->kind == NO_KIND) RAISE(DS4_ERR_INTERNAL, "weights.c: %s has no shape", name);
    TRY(check_tensor(t, s, dims, ds4_gguf_name(g), name, err));
    w->tensor = t;
    w->n_in = (uint32_t)t->ne[0], w->n_out = (uint32_t)t->ne[1], w->n_mat = (uint32_t)t->ne[2];
    w->row_bytes = t->ne[0] / t->quant->n_elem * t->quant->n_bytes;
out:
    return st;
}

static ds4_status check_ids(const ds4_weight *w, const ds4_gguf *g, const char *name,
                            uint32_t n_expert, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint8_t *p = w->tensor->data;
    for (uint64_t i = 0; i < w->tensor->n_elem; i++) {
        uint32_t id = ds4_le32(p + 4 * i);
        if (id >= n_expert) /* negative ones too */
            RAISE(DS4_ERR_FORMAT,
                  "%.200s: tensor %s names expert %d for token %llu, wanted 0 to %u",
                  ds4_gguf_name(g), name, (int32_t)id, (unsigned long long)(i / w->n_in),
                  n_expert - 1);
    }
out:
    return st;
}

static ds4_status bind_layer(ds4_layer_weights *lw, const ds4_gguf *g, const ds4_config *c,
                             uint32_t il, ds4_err *err) {
    ds4_status st = DS4_OK;
    char name[64];
    uint64_t dims[N_DIM];
    fill_dims(dims, c, c->ratio[il]);
    for (int i = 0; i < N_LAYER_WEIGHT; i++) {
        const shape *s = &layer_shape[i];
        ds4_weight *w = (ds4_weight *)(void *)((char *)lw + layer_offset[i]);
        if (!is_needed(s->need, c->ratio[il], il < c->n_hash)) continue;
        snprintf(name, sizeof name, "blk.%u.%s", il, layer_name[i]);
        TRY(bind(w, g, name, s, dims, err));
        if (s->kind == IDS) TRY(check_ids(w, g, name, c->n_expert, err));
    }
out:
    return st;
}

ds4_status ds4_weights_bind(ds4_weights *out, const ds4_gguf *g, const ds4_config *cfg,
                            ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_weights *w = NULL; /* on the heap: 256 layers of views are too large for a stack */
    uint64_t dims[N_DIM];
    TRY(ds4_mem_alloc(&w, 1, sizeof *w, err));
    fill_dims(dims, cfg, 0);
    for (int i = 0; i < N_GLOBAL; i++) {
        ds4_weight *v = (ds4_weight *)(void *)((char *)w + global_offset[i]);
        TRY(bind(v, g, global_name[i], &global_shape[i], dims, err));
    }
    for (uint32_t il = 0; il < cfg->n_layer; il++)
        TRY(bind_layer(&w->layer[il], g, cfg, il, err));
    *out = *w;
out:
    ds4_mem_free(w);
    return st;
}
