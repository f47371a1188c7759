#include "engine/model/make_shape.h"

#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const char *const shape_name[] = {"tiny", "small", "flash"};
enum { N_SHAPE = sizeof shape_name / sizeof *shape_name };

typedef struct dim_rule {
    const char *name;
    size_t field; /* of a uint32_t in ds4_config */
    uint32_t value[N_SHAPE];
    uint32_t min, max, of;
} dim_rule;

static const dim_rule dim_rules[] = {
#define DIM(name, field, tiny, small, flash, min, max, of, what)                               \
    {name, offsetof(ds4_config, field), {tiny, small, flash}, min, max, of},
    DS4_MAKE_DIMS(DIM)
#undef DIM
};
enum { N_DIM_RULE = sizeof dim_rules / sizeof *dim_rules };

static uint32_t *dim_of(ds4_config *c, const dim_rule *r) {
    return (uint32_t *)(void *)((char *)c + r->field);
}

ds4_status ds4_make_shape(ds4_config *out, const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    /* The constants of model.md 1.4, the same in every shape. */
    ds4_config c = {.eps = 1e-6f,
                    .hc_eps = 1e-6f,
                    .expert_scale = 1.5f,
                    .rope_base = 10000.0,
                    .rope_base_comp = 160000.0,
                    .yarn_factor = 16.0,
                    .yarn_beta_fast = 32.0,
                    .yarn_beta_slow = 1.0,
                    .yarn_n_ctx = 65536};
    uint32_t s = 0;
    while (s < N_SHAPE && strcmp(shape_name[s], name)) s++;
    if (s == N_SHAPE)
        RAISE(DS4_ERR_USAGE, "shape is \"%.60s\", wanted tiny, small or flash", name);
    for (size_t i = 0; i < N_DIM_RULE; i++) *dim_of(&c, &dim_rules[i]) = dim_rules[i].value[s];
    *out = c;
out:
    return st;
}

static ds4_status check_dim(const dim_rule *r, uint64_t v, ds4_err *err) {
    ds4_status st = DS4_OK;
    unsigned long long found = v;
    if (r->min == r->max && v != r->min)
        RAISE(DS4_ERR_USAGE, "dimension %s is %llu, wanted %u", r->name, found, r->min);
    if (v < r->min || v > r->max || v % r->of) {
        if (r->of > 1)
            RAISE(DS4_ERR_USAGE, "dimension %s is %llu, wanted a multiple of %u from %u to %u",
                  r->name, found, r->of, r->min, r->max);
        RAISE(DS4_ERR_USAGE, "dimension %s is %llu, wanted %u to %u", r->name, found, r->min,
              r->max);
    }
out:
    return st;
}

ds4_status ds4_make_set(ds4_config *c, const char *dim, uint64_t value, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < N_DIM_RULE; i++) {
        if (strcmp(dim_rules[i].name, dim)) continue;
        TRY(check_dim(&dim_rules[i], value, err));
        *dim_of(c, &dim_rules[i]) = (uint32_t)value;
        return DS4_OK;
    }
    RAISE(DS4_ERR_USAGE, "\"%.60s\" is no dimension of a shape", dim);
out:
    return st;
}

/* ---- constants ---- */

typedef struct number_rule {
    const char *name;
    size_t field;
    enum { AS_F32, AS_F64, AS_U64 } type;
} number_rule;

static const number_rule number_rules[] = {
#define NUM(name, field, type, what)                                                           \
    {name, offsetof(ds4_config, field),                                                        \
     _Generic((type)0, float                                                                   \
              : AS_F32, double                                                                 \
              : AS_F64, uint64_t                                                               \
              : AS_U64)},
    DS4_MAKE_NUMBERS(NUM)
#undef NUM
};

ds4_status ds4_make_set_number(ds4_config *c, const char *name, double value, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < sizeof number_rules / sizeof *number_rules; i++) {
        void *at = (char *)c + number_rules[i].field;
        if (strcmp(number_rules[i].name, name)) continue;
        double most = number_rules[i].type == AS_U64 ? 0x1p53 : 1e30;
        if (!(value > 0.0 && value <= most))
            RAISE(DS4_ERR_USAGE, "constant %s is %g, wanted more than 0 up to %g", name, value,
                  most);
        if (number_rules[i].type == AS_F32) *(float *)at = (float)value;
        else if (number_rules[i].type == AS_F64) *(double *)at = value;
        else *(uint64_t *)at = (uint64_t)value;
        return DS4_OK;
    }
    RAISE(DS4_ERR_USAGE, "\"%.60s\" is no constant of a model", name);
out:
    return st;
}

/* ---- rules between them ---- */

ds4_status ds4_make_check_shape(ds4_config *c, ds4_err *err) {
    ds4_status st = DS4_OK;
    for (size_t i = 0; i < N_DIM_RULE; i++)
        TRY(check_dim(&dim_rules[i], *dim_of(c, &dim_rules[i]), err));
    if (c->d_head < c->n_rot + 64 || (c->d_head - c->n_rot) % 64)
        RAISE(DS4_ERR_USAGE,
              "dimension head-width is %u, wanted rotary, %u, and a positive multiple of 64",
              c->d_head, c->n_rot);
    if (c->n_head % c->n_group)
        RAISE(DS4_ERR_USAGE, "dimension groups is %u, wanted a divisor of heads, %u",
              c->n_group, c->n_head);
    if (c->n_head / c->n_group * c->d_head % 32)
        RAISE(DS4_ERR_USAGE,
              "dimension groups is %u, wanted groups of heads of a multiple of 32, not %u",
              c->n_group, c->n_head / c->n_group * c->d_head);
    if ((uint64_t)c->n_group * c->o_rank % 32)
        RAISE(DS4_ERR_USAGE,
              "dimension o-rank is %u, wanted one that times groups, %u, is a multiple of 32",
              c->o_rank, c->n_group);
    if (c->n_expert_used > c->n_expert)
        RAISE(DS4_ERR_USAGE, "dimension used is %u, wanted at most experts, %u",
              c->n_expert_used, c->n_expert);
    if (c->n_hash > c->n_layer)
        RAISE(DS4_ERR_USAGE, "dimension hash-layers is %u, wanted at most layers, %u",
              c->n_hash, c->n_layer);
out:
    return st;
}

/* ---- lists ---- */

/* Finite numbers from min to max joined by ','; *n of them, at most `most`. */
static ds4_status read_list(double *dst, uint32_t *n, uint32_t most, const char *what,
                            const char *text, double min, double max, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *p = text;
    for (*n = 0;; p++) {
        char *end;
        double v = strtod(p, &end);
        if (end == p || (*end && *end != ',') || !(v >= min && v <= max))
            RAISE(DS4_ERR_USAGE, "%s: \"%.80s\": wanted numbers from %g to %g joined by commas",
                  what, text, min, max);
        if (*n == most)
            RAISE(DS4_ERR_USAGE, "%s: \"%.80s\": more than %u numbers", what, text, most);
        dst[(*n)++] = v;
        p = end;
        if (!*p) break;
    }
out:
    return st;
}

static ds4_status read_ratios(ds4_config *c, const char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    double v[DS4_MAX_LAYER];
    uint32_t n = 0;
    for (uint32_t il = 0; il < c->n_layer; il++) c->ratio[il] = il < 2 ? 0 : il % 2 ? 128 : 4;
    if (!text) goto out;
    TRY(read_list(v, &n, DS4_MAX_LAYER, "ratios", text, 0.0, 4096.0, err));
    if (n != c->n_layer)
        RAISE(DS4_ERR_USAGE, "ratios: \"%.80s\" has %u numbers, wanted one per layer, %u", text,
              n, c->n_layer);
    for (uint32_t il = 0; il < n; il++) {
        if (v[il] != floor(v[il]))
            RAISE(DS4_ERR_USAGE, "ratios: \"%.80s\": %g is no whole number", text, v[il]);
        c->ratio[il] = (uint32_t)v[il];
    }
out:
    return st;
}

static ds4_status read_clamps(ds4_config *c, const char *text, ds4_err *err) {
    ds4_status st = DS4_OK;
    double v[DS4_MAX_LAYER] = {10.0};
    uint32_t n = 1;
    if (text) TRY(read_list(v, &n, DS4_MAX_LAYER, "clamp", text, 0.0, 1e9, err));
    if (n != 1 && n != c->n_layer)
        RAISE(DS4_ERR_USAGE,
              "clamp: \"%.80s\" has %u numbers, wanted one, or one per layer, %u", text, n,
              c->n_layer);
    for (uint32_t il = 0; il < c->n_layer; il++) c->clamp[il] = (float)v[n == 1 ? 0 : il];
out:
    return st;
}

ds4_status ds4_make_read_lists(ds4_make_options *o, bool biased[DS4_MAX_LAYER], ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_config *c = &o->shape;
    double without[DS4_MAX_LAYER];
    uint32_t n = 0;
    bool none = o->no_bias && !strcmp(o->no_bias, "all");

    TRY(read_ratios(c, o->ratios, err));
    TRY(read_clamps(c, o->clamps, err));
    for (uint32_t il = 0; il < c->n_layer; il++)
        biased[il] = !none && (il >= c->n_hash || o->hash_bias);
    if (!o->no_bias || none) goto out;
    TRY(read_list(without, &n, DS4_MAX_LAYER, "no-bias", o->no_bias, 0.0,
                  (double)(c->n_layer - 1), err));
    for (uint32_t i = 0; i < n; i++) {
        if (without[i] != floor(without[i]))
            RAISE(DS4_ERR_USAGE, "no-bias: \"%.80s\": %g is no layer", o->no_bias, without[i]);
        biased[(uint32_t)without[i]] = false;
    }
out:
    return st;
}
