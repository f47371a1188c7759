#include "engine/model/make_shape.h"

#include <stddef.h>
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
