#include "engine/model/config.h"

#include <math.h>
#include <stddef.h>

/* Bounds are wide enough for any model of this architecture that a machine can hold and narrow
 * enough that no product of sizes overflows: rows of weights stay below 2^26 elements, tensors
 * below 2^46, and whatever a session derives from a shape fits 64 bits. */

typedef struct count_rule {
    const char *key;
    size_t field; /* of a uint32_t in ds4_config; NOT_STORED when only checked */
    uint32_t min, max;
} count_rule;
#define NOT_STORED SIZE_MAX
#define P "deepseek4."
#define F(field) offsetof(ds4_config, field)

static const count_rule count_rules[] = {
    {P "block_count", F(n_layer), 1, DS4_MAX_LAYER},
    {P "embedding_length", F(n_embd), 32, 1u << 16},
    {P "vocab_size", F(n_vocab), 1, 1u << 22},
    {P "attention.head_count", F(n_head), 1, 1024},
    {P "attention.head_count_kv", NOT_STORED, 1, 1},
    {P "attention.key_length", F(d_head), 66, 4096},
    {P "rope.dimension_count", F(n_rot), 2, 128},
    {P "attention.q_lora_rank", F(q_rank), 1, 1u << 16},
    {P "attention.output_lora_rank", F(o_rank), 1, 1u << 16},
    {P "attention.output_group_count", F(n_group), 1, 1024},
    {P "attention.sliding_window", F(window), 1, 1u << 16},
    {P "attention.indexer.head_count", F(n_idx_head), 1, 1024},
    {P "attention.indexer.key_length", F(d_idx), 128, 128},
    {P "attention.indexer.top_k", F(idx_top_k), 1, 1u << 20},
    {P "expert_count", F(n_expert), 1, 4096},
    {P "expert_used_count", F(n_expert_used), 1, 256},
    {P "expert_shared_count", NOT_STORED, 1, 1},
    {P "expert_feed_forward_length", F(n_ff), 1, 1u << 18},
    {P "hash_layer_count", F(n_hash), 0, DS4_MAX_LAYER},
    {P "hyper_connection.count", F(n_hc), 4, 4},
    {P "hyper_connection.sinkhorn_iterations", F(n_sinkhorn), 1, 1000},
};

typedef struct number_rule {
    const char *key;
    size_t field; /* of a float or a double */
    bool is_f64;
    double min, max;
} number_rule;

static const number_rule number_rules[] = {
    {P "attention.layer_norm_rms_epsilon", F(eps), false, 1e-30, 1.0},
    {P "hyper_connection.epsilon", F(hc_eps), false, 1e-30, 1.0},
    {P "expert_weights_scale", F(expert_scale), false, 1e-6, 1e6},
    {P "rope.freq_base", F(rope_base), true, 2.0, 1e12},
    {P "attention.compress_rope_freq_base", F(rope_base_comp), true, 2.0, 1e12},
    {P "rope.scaling.factor", F(yarn_factor), true, 1.0, 1e6},
    {P "rope.scaling.yarn_beta_fast", F(yarn_beta_fast), true, 1e-3, 1e6},
    {P "rope.scaling.yarn_beta_slow", F(yarn_beta_slow), true, 1e-3, 1e6},
};

enum { MAX_RATIO = 4096 };
#define MAX_CLAMP 1e9
#define MAX_YARN_CTX ((uint64_t)1 << 40)

static ds4_status read_u32(const ds4_gguf *g, const char *key, uint32_t min, uint32_t max,
                           uint32_t *v, ds4_err *err) {
    ds4_status st = DS4_OK;
    *v = 0;
    if (!ds4_gguf_u32(g, key, v))
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %s, wanted u32", ds4_gguf_name(g), key,
              ds4_gguf_type_of(g, key));
    if (*v >= min && *v <= max) return DS4_OK;
    if (min == max)
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %u, wanted %u", ds4_gguf_name(g), key, *v,
              min);
    RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %u, wanted %u to %u", ds4_gguf_name(g), key,
          *v, min, max);
out:
    return st;
}

static ds4_status read_counts(ds4_config *c, const ds4_gguf *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t v;
    for (size_t i = 0; i < sizeof count_rules / sizeof *count_rules; i++) {
        const count_rule *r = &count_rules[i];
        TRY(read_u32(g, r->key, r->min, r->max, &v, err));
        if (r->field != NOT_STORED) *(uint32_t *)(void *)((char *)c + r->field) = v;
    }
out:
    return st;
}

static ds4_status read_numbers(ds4_config *c, const ds4_gguf *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < sizeof number_rules / sizeof *number_rules; i++) {
        const number_rule *r = &number_rules[i];
        double x = 0.0;
        if (!ds4_gguf_number(g, r->key, &x))
            RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %s, wanted f32, f64, u32 or i32",
                  ds4_gguf_name(g), r->key, ds4_gguf_type_of(g, r->key));
        if (!(x >= r->min && x <= r->max)) /* a NaN fails too */
            RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %g, wanted %g to %g",
                  ds4_gguf_name(g), r->key, x, r->min, r->max);
        void *at = (char *)c + r->field;
        if (r->is_f64) *(double *)at = x;
        else *(float *)at = (float)x;
    }
    if (!ds4_gguf_u64(g, P "rope.scaling.original_context_length", &c->yarn_n_ctx))
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %s, wanted u64 or u32", ds4_gguf_name(g),
              P "rope.scaling.original_context_length",
              ds4_gguf_type_of(g, P "rope.scaling.original_context_length"));
    if (c->yarn_n_ctx < 1 || c->yarn_n_ctx > MAX_YARN_CTX)
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %llu, wanted 1 to 2^40", ds4_gguf_name(g),
              P "rope.scaling.original_context_length", (unsigned long long)c->yarn_n_ctx);
out:
    return st;
}

static ds4_status read_layers(ds4_config *c, const ds4_gguf *g, ds4_err *err) {
    static const char ratios[] = P "attention.compress_ratios", clamps[] = P "swiglu_clamp_exp";
    ds4_status st = DS4_OK;
    for (uint32_t il = 0; il < c->n_layer; il++) {
        double x = 0.0;
        if (!ds4_gguf_array_u32(g, ratios, il, &c->ratio[il]))
            RAISE(DS4_ERR_FORMAT,
                  "%.200s: metadata %s (%s) has no u32 or i32 from 0 at %u, wanted %u",
                  ds4_gguf_name(g), ratios, ds4_gguf_type_of(g, ratios), il, c->n_layer);
        if (c->ratio[il] > MAX_RATIO)
            RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s[%u] is %u, wanted 0 to %d",
                  ds4_gguf_name(g), ratios, il, c->ratio[il], MAX_RATIO);
        if (!ds4_gguf_array_number(g, clamps, il, &x))
            RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s (%s) has no f32 or f64 at %u, wanted %u",
                  ds4_gguf_name(g), clamps, ds4_gguf_type_of(g, clamps), il, c->n_layer);
        if (!(x >= 0.0 && x <= MAX_CLAMP))
            RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s[%u] is %g, wanted 0 to %g",
                  ds4_gguf_name(g), clamps, il, x, MAX_CLAMP);
        c->clamp[il] = (float)x;
    }
out:
    return st;
}

/* What this engine does not do must not be asked for. */
static ds4_status check_routing(const ds4_gguf *g, ds4_err *err) {
    static const char *const groups[] = {P "expert_group_count", P "expert_group_used_count"};
    static const char norm[] = P "expert_weights_norm";
    ds4_status st = DS4_OK;
    bool on = false;
    if (!ds4_gguf_bool(g, norm, &on))
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %s, wanted bool", ds4_gguf_name(g), norm,
              ds4_gguf_type_of(g, norm));
    if (!on)
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is false, wanted true", ds4_gguf_name(g),
              norm);
    for (size_t i = 0; i < 2; i++) {
        uint32_t v = 0;
        if (ds4_gguf_u32(g, groups[i], &v) && v != 0)
            RAISE(DS4_ERR_FORMAT, "%.200s: metadata %s is %u, wanted 0 or none",
                  ds4_gguf_name(g), groups[i], v);
    }
out:
    return st;
}

/* Rules between counts (model.md section 8). Row lengths against block lengths are the business
 * of ds4_weights_bind, which knows the types. */
static ds4_status check_shape(const ds4_config *c, const ds4_gguf *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *name = ds4_gguf_name(g);
    uint32_t value_length;
    uint64_t n_token = 0;
    if (c->n_embd % 32)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: metadata " P "embedding_length is %u, wanted a multiple of 32", name,
              c->n_embd);
    if (c->n_rot % 2)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: metadata " P "rope.dimension_count is %u, wanted an even count", name,
              c->n_rot);
    if (c->d_head < c->n_rot + 64 || (c->d_head - c->n_rot) % 64)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: metadata " P
              "attention.key_length is %u, wanted rope.dimension_count, %u, "
              "and a positive multiple of 64",
              name, c->d_head, c->n_rot);
    TRY(read_u32(g, P "attention.value_length", c->d_head, c->d_head, &value_length, err));
    if (c->n_head % c->n_group)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: metadata " P "attention.output_group_count is %u, wanted a divisor of "
              "head_count, %u",
              name, c->n_group, c->n_head);
    if (c->n_expert_used > c->n_expert)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: metadata " P "expert_used_count is %u, wanted at most %u", name,
              c->n_expert_used, c->n_expert);
    if (c->n_hash > c->n_layer)
        RAISE(DS4_ERR_FORMAT, "%.200s: metadata " P "hash_layer_count is %u, wanted at most %u",
              name, c->n_hash, c->n_layer);
    /* A tokenizer may leave rows of the embedding unused; it must not name rows past its end.
     */
    if (ds4_gguf_array_n(g, "tokenizer.ggml.tokens", &n_token) && n_token > c->n_vocab)
        RAISE(DS4_ERR_FORMAT,
              "%.200s: tokenizer.ggml.tokens has %llu entries, vocab_size is %u", name,
              (unsigned long long)n_token, c->n_vocab);
out:
    return st;
}

/* A readable answer to the commonest mistake: a model of another architecture. */
static ds4_status check_architecture(const ds4_gguf *g, ds4_err *err) {
    ds4_str arch;
    if (ds4_gguf_has(g, P "block_count") || !ds4_gguf_string(g, "general.architecture", &arch))
        return DS4_OK;
    return ds4_err_set(
        err, DS4_ERR_FORMAT, DS4_HERE,
        "%.200s: general.architecture is %.*s and deepseek4.block_count is absent, "
        "wanted a deepseek4 model",
        ds4_gguf_name(g), arch.n < 80 ? (int)arch.n : 80, arch.p);
}

ds4_status ds4_config_read(ds4_config *out, const ds4_gguf *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_config c = {0};
    TRY(check_architecture(g, err));
    TRY(read_counts(&c, g, err));
    TRY(read_numbers(&c, g, err));
    TRY(check_shape(&c, g, err));
    TRY(check_routing(g, err));
    TRY(read_layers(&c, g, err));
    *out = c;
out:
    return st;
}
