#ifndef DS4_H
#define DS4_H
/* The public engine: open a model, choose a plan, evaluate tokens, observe. */
#include "engine/format/tokenizer.h"
#include "engine/ledger.h"
#include "engine/model/config.h"
#include "engine/plan.h"
#include "engine/tap.h"
#include "engine/variants.h"

#define DS4_VERSION "0.1.0"

typedef struct ds4_engine ds4_engine;
typedef struct ds4_session ds4_session;

typedef struct ds4_engine_options {
    const char *engine;     /* "ref", "ref64" or "vk" */
    uint32_t n_thread;      /* 0: one per online CPU */
    uint64_t noise_seed;    /* of the rows with noise (plans noise-order, noise-round) */
    int32_t device;         /* index of the Vulkan device; -1: the first that is fit */
    bool validation;        /* Vulkan validation layers on, their messages are errors */
    bool allow_unknown_env; /* accept DS4_ variables that nothing here knows */
} ds4_engine_options;

/* Opens a backend alone, by opt->engine. Owns: the caller ends it with ops->close. */
ds4_status ds4_backend_open(ds4_backend **out, const ds4_engine_options *opt, ds4_err *err);

/* Maps the model, binds its weights, opens the backend and reads the variants from the
 * environment. Owns: the caller closes *out. */
ds4_status ds4_engine_open(ds4_engine **out, const char *model_path,
                           const ds4_engine_options *opt, ds4_err *err);
void ds4_engine_close(ds4_engine *e);

const ds4_config *ds4_engine_config(const ds4_engine *e);
const ds4_tokenizer *ds4_engine_tokenizer(const ds4_engine *e); /* NULL: see below */
/* Loads the tokenizer on first use; DS4_ERR_FORMAT when the model carries none. */
ds4_status ds4_engine_load_tokenizer(ds4_engine *e, ds4_err *err);
ds4_backend *ds4_engine_backend(const ds4_engine *e);
const ds4_variant_set *ds4_engine_variants(const ds4_engine *e);
/* Sets a variant for every plan made from now on; origin is static text ("command line"). */
void ds4_engine_set_variant(ds4_engine *e, ds4_variant v, bool on, const char *origin);
const ds4_gguf *ds4_engine_gguf(const ds4_engine *e);
const char *ds4_engine_model_path(const ds4_engine *e);

/* A plan of this engine: all strict with the engine's variants. Owns: the caller frees *out. */
ds4_status ds4_engine_plan(const ds4_engine *e, ds4_plan **out, ds4_err *err);

/* One token timeline. n_ctx: most tokens it can hold; n_chunk: most tokens per batch. The plan
 * is copied. Owns: the caller frees *out before the engine is closed. */
ds4_status ds4_session_new(ds4_session **out, ds4_engine *e, const ds4_plan *plan,
                           uint32_t n_ctx, uint32_t n_chunk, ds4_err *err);
void ds4_session_free(ds4_session *s);
/* Forgets all tokens and clears the ledger. */
ds4_status ds4_session_reset(ds4_session *s, ds4_err *err);
/* Replaces the plan; takes effect with the next token. */
ds4_status ds4_session_set_plan(ds4_session *s, const ds4_plan *plan, ds4_err *err);
void ds4_session_observe(ds4_session *s, const ds4_observer *o); /* NULL: nobody */

/* Evaluates n tokens at the end of the timeline, in batches of at most n_chunk (prefill) or one
 * by one (decode). Logits are computed for every token while an observer wants the logits tap,
 * else for the last one only. */
ds4_status ds4_session_eval(ds4_session *s, const int32_t *token, uint32_t n, ds4_phase phase,
                            ds4_err *err);
uint32_t ds4_session_n_tok(const ds4_session *s);
uint32_t ds4_session_n_vocab(const ds4_session *s);
/* Logits after the last token, [n_vocab]. */
const float *ds4_session_logits(const ds4_session *s);
const ds4_ledger *ds4_session_ledger(const ds4_session *s);

#endif
