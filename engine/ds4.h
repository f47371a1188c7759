#ifndef DS4_H
#define DS4_H
/* The public engine: open a model, choose a plan, evaluate tokens, observe, go back, keep. */
#include "engine/format/tokenizer.h"
#include "engine/kv/snapshot.h"
#include "engine/ledger.h"
#include "engine/model/config.h"
#include "engine/plan.h"
#include "engine/profile.h"
#include "engine/routes.h"
#include "engine/tap.h"
#include "engine/variants.h"

#define DS4_VERSION "0.1.0"

typedef struct ds4_engine ds4_engine;
typedef struct ds4_session ds4_session;

typedef struct ds4_engine_options {
    const char *engine;        /* "ref", "ref64" or "vk" */
    uint32_t n_thread;         /* 0: one per online CPU */
    const char *simd;          /* SIMD path of ref; NULL: DS4_SIMD, or the widest that runs */
    uint64_t noise_seed;       /* of the rows with noise (plans noise-order, noise-round) */
    int32_t device;            /* index of the Vulkan device; -1: the first that is fit */
    const char *device_memory; /* most Vulkan memory to use, "8G"; NULL: what the device has */
    bool validation;           /* Vulkan validation layers on, their messages are errors */
    bool allow_unknown_env;    /* accept DS4_ variables that nothing here knows */
} ds4_engine_options;

/* Opens a backend alone, by opt->engine. Owns: the caller ends it with ops->close. */
ds4_status ds4_backend_open(ds4_backend **out, const ds4_engine_options *opt, ds4_err *err);

/* Maps the model, binds its weights, opens the backend and reads the variants and the settings
 * of routes from the environment. Owns: the caller closes *out. */
ds4_status ds4_engine_open(ds4_engine **out, const char *model_path,
                           const ds4_engine_options *opt, ds4_err *err);
void ds4_engine_close(ds4_engine *e);

const ds4_config *ds4_engine_config(const ds4_engine *e);
const ds4_tokenizer *ds4_engine_tokenizer(const ds4_engine *e); /* NULL: see below */
/* Loads the tokenizer on first use; DS4_ERR_FORMAT when the model carries none. */
ds4_status ds4_engine_load_tokenizer(ds4_engine *e, ds4_err *err);
/* Uses another tokenizer instead. It must have as many tokens as the model's vocabulary or as
 * the model's own tokenizer: DS4_ERR_FORMAT otherwise. Owns: the engine from success on, and *t
 * is then NULL. */
ds4_status ds4_engine_set_tokenizer(ds4_engine *e, ds4_tokenizer **t, ds4_err *err);
ds4_backend *ds4_engine_backend(const ds4_engine *e);
const ds4_variant_set *ds4_engine_variants(const ds4_engine *e);
/* Sets a variant for every plan made from now on; origin is static text ("command line"). */
void ds4_engine_set_variant(ds4_engine *e, ds4_variant v, bool on, const char *origin);
/* Settings of routes, which an engine keeps and no plan sees until ds4_routes_apply: those of
 * the environment, and what the caller adds. */
ds4_routes *ds4_engine_routes(ds4_engine *e);
/* The profile among them; the caller's ds4_profile_choose sets it. */
ds4_profile *ds4_engine_profile(ds4_engine *e);
const ds4_gguf *ds4_engine_gguf(const ds4_engine *e);
const char *ds4_engine_model_path(const ds4_engine *e);

/* A plan of this engine: all strict with the engine's variants. Owns: the caller frees *out. */
ds4_status ds4_engine_plan(const ds4_engine *e, ds4_plan **out, ds4_err *err);

/* One token timeline: the tokens evaluated so far and the cached rows that they left behind.
 * n_ctx: most tokens it can hold; n_chunk: most tokens per batch. The plan is copied.
 * Owns: the caller frees *out before the engine is closed. */
ds4_status ds4_session_new(ds4_session **out, ds4_engine *e, const ds4_plan *plan,
                           uint32_t n_ctx, uint32_t n_chunk, ds4_err *err);
void ds4_session_free(ds4_session *s);
/* Forgets all tokens and all that was kept, and clears the ledger. */
ds4_status ds4_session_reset(ds4_session *s, ds4_err *err);
/* Replaces the plan; takes effect with the next token. */
ds4_status ds4_session_set_plan(ds4_session *s, const ds4_plan *plan, ds4_err *err);
void ds4_session_observe(ds4_session *s, const ds4_observer *o); /* NULL: nobody */

/* Evaluates n tokens at the end of the timeline, in batches of at most n_chunk (prefill) or one
 * by one (decode). The output head runs for every token while an observer wants the logits or
 * another tap of the head, else for the last one only. After an error the timeline ends with
 * the last batch that was evaluated whole. */
ds4_status ds4_session_eval(ds4_session *s, const int32_t *token, uint32_t n, ds4_phase phase,
                            ds4_err *err);

/* ---- several timelines at once ----
 *
 * A group evaluates tokens of several sessions of one engine together, so that a weight is read
 * once for all of them. Sessions join and leave with every call; each keeps its own cached
 * rows, ledger and observer. The plan is the group's. Under rows whose bits do not depend on
 * the number of tokens (strict, compat) a session's bits are those that it has alone, whoever
 * else is in the group; under other rows they depend on that as they depend on the size of a
 * batch.
 *
 * A pass with tokens of both phases runs the rows of prefill for all. */
typedef struct ds4_group ds4_group;

typedef struct ds4_group_item {
    ds4_session *session; /* each at most once */
    const int32_t *token; /* appended to its timeline */
    uint32_t n;
    ds4_phase phase; /* DS4_DECODE: one token per pass */
} ds4_group_item;

/* n_tok: most tokens of one pass. The plan is copied.
 *
 * Errors: DS4_ERR_USAGE for a plan with rows whose result depends on the seed.
 * Owns: the caller frees *out before the engine is closed. */
ds4_status ds4_group_new(ds4_group **out, ds4_engine *e, const ds4_plan *plan, uint32_t n_tok,
                         ds4_err *err);
void ds4_group_free(ds4_group *g);

/* Evaluates all tokens of all items, as ds4_session_eval does for one, in as few passes as fit.
 * After an error each timeline ends with the last pass that was evaluated whole.
 *
 * Errors: DS4_ERR_USAGE for a session of another engine or twice, or tokens past its context;
 *         nothing is evaluated then. */
ds4_status ds4_group_eval(ds4_group *g, const ds4_group_item *item, uint32_t n, ds4_err *err);

/* ---- going back ----
 *
 * Under a plan whose rows give the same bits in every batch and phase (strict, compat) a
 * timeline of n tokens has one state and one set of logits, however it came about: what follows
 * a rewind, a restore or a sync equals the uninterrupted evaluation in every bit. Under another
 * plan what is evaluated again is evaluated as this describes it: the last token alone is
 * decoded, more of them are prefilled.
 *
 * Tokens that are evaluated again are not shown to the observer; the ledger counts them, for
 * they did execute. */

/* Shortens the timeline to its first n tokens; the logits are those after the last of them. As
 * far back as n_chunk tokens before the longest extent since the timeline was empty or restored
 * only that last token is evaluated again; further back, everything from the longest kept
 * snapshot of at most n tokens, or from the start.
 *
 * Errors: DS4_ERR_USAGE when n is past the end. An error of the evaluation leaves a shorter
 *         timeline. */
ds4_status ds4_session_rewind(ds4_session *s, uint32_t n, ds4_err *err);
/* Makes the timeline these n tokens, n > 0: what it has in common with them from the start on
 * is kept, the rest evaluated (prefill). */
ds4_status ds4_session_sync(ds4_session *s, const int32_t *token, uint32_t n, ds4_err *err);
/* Keeps a snapshot of now inside the session, for rewinds past its reach. It goes when the
 * timeline becomes shorter than it. */
ds4_status ds4_session_keep(ds4_session *s, ds4_err *err);

/* ---- snapshots ----
 *
 * The DSV4 payload of model.md 4.5, whatever the engine: engine/kv/snapshot.h. It names no
 * model and no plan. It holds f32: an engine whose state is wider (ref64) writes none,
 * DS4_ERR_USAGE, and starts from another engine's as from any f32. */

/* Bytes of a snapshot of now. */
uint64_t ds4_session_snapshot_bytes(const ds4_session *s);
/* Writes a snapshot of now to dst. After an evaluation that failed, the last token is evaluated
 * again for its logits.
 *
 * Errors: DS4_ERR_USAGE when n_bytes is less than ds4_session_snapshot_bytes. */
ds4_status ds4_session_snapshot(ds4_session *s, void *dst, size_t n_bytes, ds4_err *err);
/* Replaces the timeline by that of a snapshot; what was kept is dropped, the ledger stays.
 *
 * Errors: DS4_ERR_FORMAT (ds4_snapshot_check) leaves the session as it was. */
ds4_status ds4_session_restore(ds4_session *s, const void *src, size_t n_bytes, ds4_err *err);
/* The same to and from a file, which is the payload alone. It is written complete or not at
 * all. */
ds4_status ds4_session_save(ds4_session *s, const char *path, ds4_err *err);
ds4_status ds4_session_load(ds4_session *s, const char *path, ds4_err *err);
/* The prefill chunk that snapshots name and must name (field 3); 0: min(n_ctx, 2048), as
 * engines write it unless told otherwise. Nothing is computed by it. */
void ds4_session_set_payload_chunk(ds4_session *s, uint32_t n);

uint32_t ds4_session_n_tok(const ds4_session *s);
const int32_t *ds4_session_tokens(const ds4_session *s); /* [n_tok] */
uint32_t ds4_session_n_vocab(const ds4_session *s);
/* Logits after the last token, [n_vocab]; zeros while there is none. After an evaluation that
 * failed they are those of an earlier token; ds4_session_rewind to ds4_session_n_tok makes them
 * right. */
const float *ds4_session_logits(const ds4_session *s);
const ds4_ledger *ds4_session_ledger(const ds4_session *s);

#endif
