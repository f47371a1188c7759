#include "drift/cmd/bench_start.h"

#include <errno.h>
#include <ftw.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "drift/cmd/bench_run.h"
#include "engine/base/mem.h"

extern char **environ;

enum { MAX_WORD = 512, MAX_ENV = 4096, MAX_PATH = 128 };

const char *bench_start_text(bench_start_kind k) {
    static const char *const text[] = {"cold", "warm, our cache", "warm, the driver's cache"};
    return text[k];
}

static int remove_one(const char *path, const struct stat *sb, int type, struct FTW *at) {
    (void)sb, (void)type, (void)at;
    return remove(path);
}

static void remove_tree(const char *path) {
    (void)nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* Settings of the caches; the process gets them in place of its parent's. */
typedef struct setting {
    const char *name;
    char value[MAX_PATH];
} setting;

enum { N_SETTING = 7 };

static void settings(setting out[N_SETTING], const char *ours, const char *driver) {
    const char *off = driver ? "false" : "true";
    const struct {
        const char *name, *value;
    } all[N_SETTING] = {
        {"DS4_PIPELINE_CACHE", ours},           {"MESA_SHADER_CACHE_DISABLE", off},
        {"MESA_GLSL_CACHE_DISABLE", off},       {"MESA_SHADER_CACHE_DIR", driver},
        {"MESA_GLSL_CACHE_DIR", driver},        {"__GL_SHADER_DISK_CACHE", driver ? "1" : "0"},
        {"__GL_SHADER_DISK_CACHE_PATH", driver}};
    for (int i = 0; i < N_SETTING; i++) {
        out[i].name = all[i].name;
        snprintf(out[i].value, sizeof out[i].value, "%s", all[i].value ? all[i].value : "");
    }
}

static bool is_set(const char *entry, const setting s[N_SETTING]) {
    for (int i = 0; i < N_SETTING; i++) {
        size_t n = strlen(s[i].name);
        if (!strncmp(entry, s[i].name, n) && entry[n] == '=') return true;
    }
    return false;
}

/* The environment with the settings; empty ones are absent. text holds the new entries. */
static ds4_status environment(char *out[MAX_ENV], char text[N_SETTING][MAX_PATH + 64],
                              const setting s[N_SETTING], ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n = 0;
    for (char **e = environ; *e; e++) {
        if (is_set(*e, s)) continue;
        if (n + N_SETTING + 1 >= MAX_ENV)
            RAISE(DS4_ERR_USAGE, "environment of more than %d variables", MAX_ENV);
        out[n++] = *e;
    }
    for (int i = 0; i < N_SETTING; i++) {
        if (!*s[i].value) continue;
        snprintf(text[i], MAX_PATH + 64, "%.60s=%.127s", s[i].name, s[i].value);
        out[n++] = text[i];
    }
    out[n] = NULL;
out:
    return st;
}

static ds4_status words(char *out[MAX_WORD], char *const *argv, char *since, ds4_err *err) {
    ds4_status st = DS4_OK;
    size_t n = 0;
    static char program[] = "ds4-drift", command[] = "bench", child[] = "--start-child";
    out[n++] = program, out[n++] = command;
    for (; *argv; argv++) {
        if (n + 4 > MAX_WORD) RAISE(DS4_ERR_USAGE, "more than %d words", MAX_WORD);
        out[n++] = *argv;
    }
    out[n++] = child, out[n++] = since, out[n] = NULL;
out:
    return st;
}

void bench_start_tell(const bench_start *s) {
    printf("start %.9f %.9f %.9f %u %s\n", s->open_s, s->first_s, s->pipelines_s, s->n_pipeline,
           s->cache);
}

static ds4_status listen(bench_start *out, int fd, ds4_err *err) {
    ds4_status st = DS4_OK;
    char line[512];
    FILE *f = fdopen(fd, "r");
    bool told = false;
    if (!f) {
        close(fd);
        RAISE(DS4_ERR_IO, "bench: a pipe: %s", strerror(errno));
    }
    while (fgets(line, sizeof line, f))
        told = sscanf(line, "start %lf %lf %lf %u %255[^\n]", &out->open_s, &out->first_s,
                      &out->pipelines_s, &out->n_pipeline, out->cache) == 5 ||
               told;
    if (!told) RAISE(DS4_ERR_IO, "bench: a process for the start time said nothing");
out:
    if (f) fclose(f);
    return st;
}

/* One process; ours, driver: folders of the caches, NULL for none. */
static ds4_status start(bench_start *out, char *const *argv, const char *ours,
                        const char *driver, ds4_err *err) {
    ds4_status st = DS4_OK;
    setting set[N_SETTING];
    char text[N_SETTING][MAX_PATH + 64], since[64];
    char *word[MAX_WORD], **env = NULL;
    posix_spawn_file_actions_t act;
    int fd[2], code = 0, r;
    pid_t pid;

    settings(set, ours, driver);
    TRY(ds4_mem_alloc(&env, MAX_ENV, sizeof *env, err));
    TRY(environment(env, text, set, err));
    snprintf(since, sizeof since, "%.9f", bench_now_s());
    TRY(words(word, argv, since, err));
    if (pipe(fd) != 0) RAISE(DS4_ERR_IO, "bench: a pipe: %s", strerror(errno));
    posix_spawn_file_actions_init(&act);
    posix_spawn_file_actions_adddup2(&act, fd[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&act, fd[0]);
    posix_spawn_file_actions_addclose(&act, fd[1]);
    r = posix_spawn(&pid, "/proc/self/exe", &act, NULL, word, env);
    posix_spawn_file_actions_destroy(&act);
    close(fd[1]);
    if (r != 0) {
        close(fd[0]);
        RAISE(DS4_ERR_IO, "bench: this program again: %s", strerror(r));
    }
    st = listen(out, fd[0], err);
    while (waitpid(pid, &code, 0) < 0 && errno == EINTR) {}
    if (st == DS4_OK && code != 0)
        RAISE(DS4_ERR_IO, "bench: a process for the start time ended with status %d",
              WIFEXITED(code) ? WEXITSTATUS(code) : 128);
out:
    ds4_mem_free(env);
    return st;
}

/* All kinds once, in a folder that was not there before. */
static ds4_status run_round(bench_starts *s, char *const *argv, ds4_err *err) {
    ds4_status st = DS4_OK;
    char dir[] = P_tmpdir "/ds4-bench-XXXXXX", ours[MAX_PATH], driver[MAX_PATH];
    bench_start fill;
    bool made = mkdtemp(dir) != NULL;

    if (!made) RAISE(DS4_ERR_IO, "bench: a folder in %s: %s", P_tmpdir, strerror(errno));
    snprintf(ours, sizeof ours, "%s/ours", dir);
    snprintf(driver, sizeof driver, "%s/driver", dir);
    if (mkdir(driver, 0700) != 0) RAISE(DS4_ERR_IO, "%s: %s", driver, strerror(errno));
    TRY(start(&s->at[BENCH_START_COLD][s->n], argv, ours, NULL, err));
    TRY(start(&s->at[BENCH_START_WARM][s->n], argv, ours, NULL, err));
    TRY(start(&fill, argv, NULL, driver, err));
    TRY(start(&s->at[BENCH_START_DRIVER][s->n], argv, NULL, driver, err));
    s->n++;
out:
    if (made) remove_tree(dir);
    return st;
}

ds4_status bench_start_run(bench_starts *out, uint32_t n_round, char *const *argv,
                           const drift_progress *progress, ds4_err *err) {
    ds4_status st = DS4_OK;
    *out = (bench_starts){0};
    for (uint32_t r = 0; r < n_round && r < BENCH_MAX_START; r++) {
        if (!progress->tell(progress->user, (double)r / n_round, "bench, starts")) break;
        st = run_round(out, argv, err);
        if (st == DS4_OK) continue;
        if (!progress->tell(progress->user, 0.0, NULL)) st = DS4_OK; /* it was stopped too */
        break;
    }
    return st;
}
