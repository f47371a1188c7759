#ifndef DRIFT_RUNNER_H
#define DRIFT_RUNNER_H
/* Evaluates fixtures with one plan and writes a run file. */
#include "drift/fixture.h"
#include "drift/store.h"

/* Long work tells how far it is and asks whether to go on; false stops it. May be NULL. */
typedef struct drift_progress {
    bool (*tell)(void *user, double done, const char *what); /* done: 0..1 */
    void *user;
} drift_progress;

/* Evaluates one fixture from an empty timeline: all but the last n_decode tokens as prefill in
 * batches of n_chunk, then those one by one. The session is reset first; its observer sees all.
 */
ds4_status drift_evaluate(ds4_session *s, const drift_fixture_input *f, ds4_err *err);

/* Session files (DSV4 payloads) before and after the one fixture of a run. */
typedef struct drift_session_files {
    const char *load; /* NULL: from nothing. Else its tokens must begin the fixture, whose other
                         tokens are evaluated at the positions after them. */
    const char *save; /* NULL: none */
    uint32_t save_at; /* written after so many tokens of the fixture; 0: after the last */
    uint32_t n_ctx;   /* tokens that the session can hold; 0: the fixture's; with session files
                         2048 and at least one more than the fixture has, but what the loaded
                         file names where that is less and enough */
    uint32_t payload_chunk; /* ds4_session_set_payload_chunk */
} drift_session_files;

/* Shows what made a plan: the variants of the engine, then profile and routes with their
 * origins. */
typedef void drift_see_fact(void *user, const char *key, const char *value);
ds4_status drift_settings_facts(const ds4_engine *e, const ds4_profile *p, const ds4_routes *r,
                                drift_see_fact *see, void *user, ds4_err *err);

typedef struct drift_run_options {
    drift_level level;
    const char *filter; /* comma-separated taps to store besides (NULL: none) */
    uint32_t n_chunk;
    uint32_t n_batch; /* fixtures evaluated at once; 0, 1: one after the other */
    const char *const *key, *const *value; /* provenance besides what the engine says */
    size_t n_fact;
    const ds4_routes *routes; /* the settings that made the plan, for provenance; NULL: none */
    const ds4_profile *profile; /* the profile among them, likewise */
    bool resume;
    drift_session_files session;
    drift_progress progress;
} drift_run_options;

/* Evaluates every fixture and writes `path`. With n_batch, each pass holds a chunk of every
 * fixture that is at its prompt and a token of every one that decodes, and the next fixture
 * joins when one is done: under strict rows the file holds the same bits. Rows of a fixture
 * wait in a temporary file until it is done; DS4_ERR_USAGE with session files. The file appears
 * complete or not at all; finished fixtures survive an interruption in path.partial, unless
 * there are session files, which are for runs of one fixture. Rows of a run that goes on from a
 * session stand at their positions in the whole text; provenance names the session files with
 * their digests. */
ds4_status drift_run_write(const char *path, ds4_engine *e, const ds4_plan *plan,
                           const drift_fixture_set *set, const drift_run_options *opt,
                           ds4_err *err);

#endif
