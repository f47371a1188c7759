#include "engine/ds4.h"

#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/engine.h"
#include "engine/model/rope_freq.h"
#include "engine/ops/ops.h"
#include "engine/ref/ref.h"
#include "engine/ref/simd.h"
#include "engine/vk/vk.h"

static const char *simd_name(const ds4_engine_options *opt) {
    return opt->simd ? opt->simd : ds4_setting("DS4_SIMD");
}

static ds4_status open_ref(ds4_backend **out, const ds4_engine_options *opt, ds4_err *err) {
    ds4_status st = ds4_ref_open(out, opt->n_thread, simd_name(opt), err);
    if (st == DS4_OK) ds4_ref_set_noise_seed(*out, opt->noise_seed);
    return st;
}

static ds4_status open_ref64(ds4_backend **out, const ds4_engine_options *opt, ds4_err *err) {
    return ds4_ref64_open(out, opt->n_thread, err);
}

static ds4_status open_vk(ds4_backend **out, const ds4_engine_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    const char *text = ds4_setting("DS4_VK_REPLAY");
    bool replay = true;

    if (text) TRY(ds4_bool_parse(&replay, "DS4_VK_REPLAY", text, err));
    TRY(ds4_vk_open(out,
                    &(ds4_vk_options){.device = opt->device,
                                      .validation = opt->validation,
                                      .wrong = ds4_setting("DS4_VK_WRONG"),
                                      .no_replay = !replay,
                                      .cache_dir = ds4_setting("DS4_PIPELINE_CACHE"),
                                      .memory = opt->device_memory,
                                      .import = ds4_setting("DS4_VK_IMPORT"),
                                      .limits = ds4_setting("DS4_VK_LIMITS")},
                    err));
out:
    return st;
}

static const struct {
    const char *name;
    ds4_status (*open)(ds4_backend **, const ds4_engine_options *, ds4_err *);
} backends[] = {{"ref", open_ref}, {"ref64", open_ref64}, {"vk", open_vk}};

ds4_status ds4_backend_open(ds4_backend **out, const ds4_engine_options *opt, ds4_err *err) {
    const ds4_simd *path; /* a wrong name is an error of every engine */
    ds4_status st = ds4_simd_find(&path, simd_name(opt), err);
    if (st != DS4_OK) return st;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(backends[i].name, opt->engine)) return backends[i].open(out, opt, err);
    return ds4_err_set(err, DS4_ERR_USAGE, DS4_HERE,
                       "engine: found \"%s\", wanted ref, ref64 or vk", opt->engine);
}

/* Matrices that the engine need not hold all at once. */
static bool is_experts(const ds4_engine *e, const ds4_weight *w) {
    return w->tensor && w->n_mat > 1 && e->backend->ops->buf_experts;
}

/* A vector becomes f32 with every value past ds4_fz, followed by the same values as stored, for
 * the rows that flush nothing; a matrix or table stays as it is stored. */
static ds4_status load_weight(ds4_engine *e, ds4_buf **out, const ds4_weight *w, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_tensor *t = w->tensor;
    float *v = NULL;
    char name[80];

    if (!t) goto out;
    size_t n_name = t->name.n < sizeof name - 1 ? t->name.n : sizeof name - 1;
    memcpy(name, t->name.p, n_name), name[n_name] = 0;
    if (w->n_in > DS4_MAX_ROW)
        RAISE(DS4_ERR_FORMAT, "%s: rows of %u elements, at most %d are supported", name,
              w->n_in, DS4_MAX_ROW);
    if (is_experts(e, w)) {
        TRY(e->backend->ops->buf_experts(e->backend, out, t->data, (size_t)t->n_bytes, w->n_mat,
                                         name, err));
        goto out;
    }
    if (t->n_dim > 1) {
        TRY(e->backend->ops->buf_weight(e->backend, out, t->data, (size_t)t->n_bytes, name,
                                        err));
        goto out;
    }
    TRY(ds4_mem_alloc(&v, 2 * t->n_elem, sizeof *v, err));
    t->quant->decode(v + t->n_elem, t->data, t->n_elem / t->quant->n_elem);
    for (uint64_t i = 0; i < t->n_elem; i++) v[i] = ds4_fz(v[t->n_elem + i]);
    TRY(e->backend->ops->buf_new(e->backend, out, 2 * t->n_elem * sizeof *v, DS4_TYPE_F32,
                                 err));
    TRY(e->backend->ops->buf_write(e->backend, *out, 0, v, 2 * t->n_elem * sizeof *v, err));
out:
    ds4_mem_free(v);
    return st;
}

static ds4_status load_rope(ds4_engine *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t *turns = NULL, n_word = DS4_ROPE_N_WORD(e->config.n_rot);
    size_t bytes = n_word * sizeof *turns;

    TRY(ds4_mem_alloc(&turns, n_word, sizeof *turns, err));
    for (int comp = 0; comp < 2; comp++)
        for (int exp2 = 0; exp2 < 2; exp2++) {
            ds4_rope_freq(turns, &e->config, comp, exp2);
            ds4_rope_constants(turns + e->config.n_rot, &e->config, comp);
            TRY(e->backend->ops->buf_new(e->backend, &e->bufs.freq[comp][exp2], bytes,
                                         DS4_TYPE_I32, err));
            TRY(e->backend->ops->buf_write(e->backend, e->bufs.freq[comp][exp2], 0, turns,
                                           bytes, err));
        }
out:
    ds4_mem_free(turns);
    return st;
}

static void count_weight(const ds4_engine *e, ds4_need *need, const ds4_weight *w) {
    if (!w->tensor) return;
    const uint64_t n = w->tensor->n_dim > 1 ? w->tensor->n_bytes : 8 * w->tensor->n_elem;
    if (!is_experts(e, w)) {
        need->weights += n;
        return;
    }
    need->experts += n;
    if (n / w->n_mat > need->expert) need->expert = n / w->n_mat;
}

/* Whether the weights can be held at all. */
static ds4_status check_room(ds4_engine *e, ds4_err *err) {
    ds4_need need = {0};
    if (!e->backend->ops->room) return DS4_OK;
#define COUNT(field, name) count_weight(e, &need, &e->weights.field);
    DS4_GLOBAL_WEIGHTS(COUNT)
#undef COUNT
    for (uint32_t il = 0; il < e->config.n_layer; il++) {
#define COUNT(field, name) count_weight(e, &need, &e->weights.layer[il].field);
        DS4_LAYER_WEIGHTS(COUNT)
#undef COUNT
    }
    return e->backend->ops->room(e->backend, &need, err);
}

static ds4_status load_bufs(ds4_engine *e, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n_file;
    const void *file = ds4_gguf_bytes(e->gguf, &n_file);
    TRY(check_room(e, err));
    if (e->backend->ops->weights_in) e->backend->ops->weights_in(e->backend, file, n_file);
#define LOAD(field, name) TRY(load_weight(e, &e->bufs.field, &e->weights.field, err));
    DS4_GLOBAL_WEIGHTS(LOAD)
#undef LOAD
    for (uint32_t il = 0; il < e->config.n_layer; il++) {
#define LOAD(field, name)                                                                      \
    TRY(load_weight(e, &e->bufs.layer[il].field, &e->weights.layer[il].field, err));
        DS4_LAYER_WEIGHTS(LOAD)
#undef LOAD
    }
    TRY(load_rope(e, err));
out:
    return st;
}

ds4_status ds4_engine_open(ds4_engine **out, const char *model_path,
                           const ds4_engine_options *opt, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_engine *e = NULL;

    TRY(ds4_mem_alloc(&e, 1, sizeof *e, err));
    TRY(ds4_variants_from_env(&e->variants, opt->allow_unknown_env, err));
    TRY(ds4_routes_from_env(&e->routes, opt->allow_unknown_env, err));
    ds4_profile_fini(&e->profile); /* "none" */
    TRY(ds4_mem_strdup(&e->path, model_path, err));
    TRY(ds4_gguf_open(&e->gguf, model_path, err));
    TRY(ds4_config_read(&e->config, e->gguf, err));
    TRY(ds4_weights_bind(&e->weights, e->gguf, &e->config, err));
    TRY(ds4_backend_open(&e->backend, opt, err));
    TRY(load_bufs(e, err));
    *out = e, e = NULL;
out:
    ds4_engine_close(e);
    return st;
}

static void free_bufs(ds4_engine *e) {
    void (*release)(ds4_backend *, ds4_buf *) = e->backend->ops->buf_free;
#define FREE(field, name) release(e->backend, e->bufs.field);
    DS4_GLOBAL_WEIGHTS(FREE)
#undef FREE
    for (uint32_t il = 0; il < e->config.n_layer; il++) {
#define FREE(field, name) release(e->backend, e->bufs.layer[il].field);
        DS4_LAYER_WEIGHTS(FREE)
#undef FREE
    }
    for (int i = 0; i < 4; i++) release(e->backend, e->bufs.freq[i / 2][i % 2]);
}

void ds4_engine_close(ds4_engine *e) {
    bool idle = true;
    if (!e) return;
    if (e->backend) {
        free_bufs(e);
        idle = e->backend->ops->close(e->backend);
    }
    ds4_routes_fini(&e->routes);
    ds4_profile_fini(&e->profile);
    ds4_tokenizer_free(e->tokenizer);
    (idle ? ds4_gguf_close : ds4_gguf_leave)(e->gguf);
    ds4_mem_free(e->path);
    ds4_mem_free(e);
}

const ds4_config *ds4_engine_config(const ds4_engine *e) { return &e->config; }
const ds4_tokenizer *ds4_engine_tokenizer(const ds4_engine *e) { return e->tokenizer; }
ds4_backend *ds4_engine_backend(const ds4_engine *e) { return e->backend; }
const ds4_variant_set *ds4_engine_variants(const ds4_engine *e) { return &e->variants; }
ds4_routes *ds4_engine_routes(ds4_engine *e) { return &e->routes; }
ds4_profile *ds4_engine_profile(ds4_engine *e) { return &e->profile; }
const ds4_gguf *ds4_engine_gguf(const ds4_engine *e) { return e->gguf; }
const char *ds4_engine_model_path(const ds4_engine *e) { return e->path; }

ds4_status ds4_engine_load_tokenizer(ds4_engine *e, ds4_err *err) {
    return e->tokenizer ? DS4_OK : ds4_tokenizer_new(&e->tokenizer, e->gguf, err);
}

ds4_status ds4_engine_set_tokenizer(ds4_engine *e, ds4_tokenizer **t, ds4_err *err) {
    ds4_status st = DS4_OK;
    uint32_t n = ds4_tokenizer_n_vocab(*t);
    uint64_t n_own = 0;
    bool own = ds4_gguf_array_n(e->gguf, "tokenizer.ggml.tokens", &n_own) && n_own == n;
    if (n != e->config.n_vocab && !own)
        RAISE(DS4_ERR_FORMAT, "%s: vocabulary of %u tokens, the tokenizer given has %u",
              e->path, e->config.n_vocab, n);
    ds4_tokenizer_free(e->tokenizer);
    e->tokenizer = *t, *t = NULL;
out:
    return st;
}

ds4_status ds4_engine_plan(const ds4_engine *e, ds4_plan **out, ds4_err *err) {
    return ds4_plan_new(out, e->backend, e->config.n_layer, e->variants.bits, err);
}

void ds4_engine_set_variant(ds4_engine *e, ds4_variant v, bool on, const char *origin) {
    e->variants.bits = (e->variants.bits & ~(1u << v)) | (uint32_t)on << v;
    e->variants.origin[v] = origin;
}
