#ifndef DRIFT_CMD_OPTIONS_H
#define DRIFT_CMD_OPTIONS_H
/* What several subcommands share: option groups (glibc argp), messages, progress and Ctrl-C. */
#include <argp.h>

#include "drift/fixture.h"
#include "drift/result.h"
#include "drift/runner.h"

#define CMD_MAX_LIST 256

/* A repeatable option. */
typedef struct cmd_list {
    const char *at[CMD_MAX_LIST];
    size_t n;
} cmd_list;
/* False when the list is full. */
bool cmd_list_add(cmd_list *l, const char *s);

/* -m, --tokenizer, --pre, --engine, --plan, --set, --route, --profile, --simd, --threads,
 * --noise-seed, --chunk, --device, --device-memory, --validation, --allow-unknown-env */
typedef struct cmd_engine {
    const char *model, *tokenizer, *engine, *plan;
    ds4_pre pre;
    cmd_list set, route;
    const char *profile; /* NULL: DS4_PROFILE, else the device's with plan default, else none */
    bool bare; /* the plan by name alone: no profile, no settings of routes, no --set */
    const char *simd;
    uint32_t n_thread, n_chunk;
    uint64_t noise_seed;
    int32_t device;
    const char *device_memory; /* text; NULL: what the device has */
    bool validation, allow_unknown_env;
} cmd_engine;
extern const struct argp cmd_engine_argp; /* input: cmd_engine */

/* --fixtures, --fixture-list, --prompt, --prompt-file, --tokens, --chat, --decode */
typedef struct cmd_fixtures {
    const char *ids, *list, *prompt, *prompt_file, *tokens;
    bool chat;
    int64_t n_decode; /* -1: what the fixture says */
} cmd_fixtures;
extern const struct argp cmd_fixtures_argp; /* input: cmd_fixtures */

/* --html, --csv, --json, --junit, --markdown, --quiet */
typedef struct cmd_outputs {
    cmd_list path, writer; /* the same index */
    bool quiet;
} cmd_outputs;
extern const struct argp cmd_outputs_argp; /* input: cmd_outputs */

/* Defaults of the groups; to be called before argp_parse. */
void cmd_engine_init(cmd_engine *o);
void cmd_fixtures_init(cmd_fixtures *o);

/* Parses; wrong usage prints one line and ends the process with exit code 64. */
void cmd_parse(const struct argp *a, int argc, char **argv, void *input);

/* Opens the engine, and a plan: the variants of environment and --set, the named or loaded
 * plan, then cmd_edit unless bare. Owns: the caller closes and frees both. */
ds4_status cmd_engine_open(ds4_engine **e, ds4_plan **plan, const cmd_engine *o, ds4_err *err);
/* Edits a plan by the settings of routes (profile, environment, --route), then by those of
 * --set in order. */
ds4_status cmd_edit(ds4_plan *plan, ds4_engine *e, const cmd_engine *o, ds4_err *err);
/* A line on standard error for every float control that the driver claims and does not keep. */
void cmd_warn_device(const ds4_backend *b);
/* A plan by name or path on top of the engine's variants. Owns: the caller frees *plan. */
ds4_status cmd_plan(ds4_plan **plan, const ds4_engine *e, const char *name_or_path,
                    ds4_err *err);
/* The fixtures asked for; all of the list when nothing is. */
ds4_status cmd_fixtures_read(drift_fixture_set *s, const cmd_fixtures *o, ds4_engine *e,
                             ds4_err *err);

/* Writes every asked-for report, and the terminal summary unless quiet. suffix is put before
 * the extension of each path ("" for none). */
ds4_status cmd_outputs_write(const drift_result *r, const cmd_outputs *o, const char *suffix,
                             ds4_err *err);

/* model or hf; wrong text is reported through argp_error. */
ds4_pre cmd_pre(struct argp_state *s, const char *text);

/* Non-negative integer up to most; wrong text is reported through argp_error. */
uint64_t cmd_number(struct argp_state *s, const char *option, const char *text, uint64_t most);
double cmd_real(struct argp_state *s, const char *option, const char *text);

/* Prints "ds4-drift NAME: message" to standard error and gives the exit code of the status. */
int cmd_fail(const char *name, ds4_status st, const ds4_err *err);

/* Progress on a terminal with time left, quiet in a pipe; stops on Ctrl-C (SIGINT, SIGTERM). */
drift_progress cmd_progress(void);
void cmd_progress_end(void);

/* Keeps the command line before argp reorders its words; once, at start. */
void cmd_remember(int argc, char **argv);
/* That line as a shell would read it, with the DS4_ variables in front. Owns: static. */
const char *cmd_replay(void);

#endif
