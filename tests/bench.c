/* bench MODEL [--threads N]: how fast the reference engine runs a model, and what bounds it.
 * Opens it, evaluates a prompt of 16 tokens with 4 decode steps and a prompt of 64, and prints
 * tokens per second, memory that is not the file's, and for each kind of call its share of the
 * time with bytes and multiply-adds per second, beside what this machine was measured to do in
 * the same run. Figures are for reading; no test depends on them. */
#include <argp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "engine/base/mem.h"
#include "engine/ds4.h"
#include "engine/format/quant.h"
#include "engine/ops/ops.h"
#include "engine/ref/pool.h"
#include "engine/ref/simd.h"

typedef struct options {
    const char *model, *simd;
    uint32_t n_thread;
} options;

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Anonymous memory of this process in MiB; 0 where the kernel does not say. */
static double anon_mib(void) {
    FILE *f = fopen("/proc/self/status", "r");
    char line[128];
    double kib = 0.0;
    while (f && fgets(line, sizeof line, f))
        if (!strncmp(line, "RssAnon:", 8)) kib = strtod(line + 8, NULL);
    if (f) fclose(f);
    return kib / 1024.0;
}

/* ---- the profile: every call of the backend is timed ---- */

typedef struct kind {
    ds4_op op;
    uint32_t wtype;
    double s, n_byte, n_mac;
} kind;

static kind profile[64];
static uint32_t n_kind;
static ds4_backend_ops timed_ops;
static const ds4_backend_ops *real_ops;
static bool seen[4096]; /* matrices of one call */

static uint32_t n_distinct(const int32_t *sel, uint32_t n) {
    uint32_t count = 0;
    memset(seen, 0, sizeof seen);
    for (uint32_t i = 0; i < n; i++)
        if (sel[i] >= 0 && sel[i] < 4096 && !seen[sel[i]]) seen[sel[i]] = true, count++;
    return count;
}

/* Weight bytes read and multiply-adds of a product; nothing is said of other calls. */
static void cost(ds4_backend *b, const ds4_call *c, double *n_byte, double *n_mac) {
    ds4_op op = ds4_tap_table[c->tap].op;
    *n_byte = *n_mac = 0.0;
    if (op == DS4_OP_matmul) {
        const struct ds4_args_matmul *a = c->args;
        *n_byte = (double)a->n_out * a->row_bytes;
        *n_mac = (double)a->n_tok * a->n_in * a->n_out;
    } else if (op == DS4_OP_matmul_id) {
        const struct ds4_args_matmul_id *a = c->args;
        int32_t sel[4096];
        uint32_t n = a->n_tok * a->n_slot;
        ds4_err err;
        if (n > 4096 ||
            b->ops->buf_read(b, c->bind[2], 0, sel, n * sizeof *sel, &err) != DS4_OK)
            return;
        *n_byte = (double)n_distinct(sel, n) * a->n_out * a->row_bytes;
        *n_mac = (double)n * a->n_in * a->n_out;
    }
}

static ds4_status timed_call(ds4_backend *b, const ds4_call *c, uint32_t row, ds4_err *err) {
    ds4_op op = ds4_tap_table[c->tap].op;
    uint32_t i = 0;
    double n_byte, n_mac, t0 = now_s();
    ds4_status st = real_ops->call(b, c, row, err);
    double t1 = now_s();

    while (i < n_kind && (profile[i].op != op || profile[i].wtype != c->wtype)) i++;
    if (i == n_kind && n_kind < 64) profile[n_kind++] = (kind){op, c->wtype, 0.0, 0.0, 0.0};
    if (i < n_kind) {
        cost(b, c, &n_byte, &n_mac);
        profile[i].s += t1 - t0, profile[i].n_byte += n_byte, profile[i].n_mac += n_mac;
    }
    return st;
}

static void print_profile(double total_s) {
    double n_byte = 0.0, n_mac = 0.0, s = 0.0, rest_s = 0.0;
    for (uint32_t i = 0; i < n_kind; i++) {
        const kind *k = &profile[i];
        const ds4_quant *q = ds4_quant_by_id(k->wtype);
        n_byte += k->n_byte, n_mac += k->n_mac, s += k->s;
        if (k->n_mac > 0.0)
            printf("    %-10s %-8s %5.1f %%  %6.2f GB/s  %6.2f GMAC/s\n",
                   ds4_op_table[k->op].name, q ? q->name : "?", 100.0 * k->s / total_s,
                   k->n_byte / k->s * 1e-9, k->n_mac / k->s * 1e-9);
        else rest_s += k->s;
    }
    printf("    other ops           %5.1f %%; outside ops %.1f %%\n", 100.0 * rest_s / total_s,
           100.0 * (total_s - s) / total_s);
    printf("    in all %.2f GB of weights read, %.2f G multiply-adds: %.2f GB/s, %.2f GMAC/s\n",
           n_byte * 1e-9, n_mac * 1e-9, n_byte / total_s * 1e-9, n_mac / total_s * 1e-9);
    n_kind = 0;
}

/* ---- what the machine can do ---- */

enum { MEM_MIB = 256, N_PART = 64, ROW = 2048, N_ROW = 8, N_TOK = 48 };

typedef struct limits {
    const uint64_t *mem;
    uint64_t sum[N_PART];
    const ds4_simd *simd;
    const float *x;
    const uint8_t *w;
} limits;

static void read_part(void *user, uint32_t part) {
    limits *l = user;
    size_t n = ((size_t)MEM_MIB << 20) / 8 / N_PART;
    uint64_t v[8] = {0};
    for (size_t i = 0; i < n; i += 8)
        for (int k = 0; k < 8; k++) v[k] += l->mem[part * n + i + (size_t)k];
    l->sum[part] = v[0] + v[1] + v[2] + v[3] + v[4] + v[5] + v[6] + v[7];
}

/* Eight rows of halves against 48 inputs, all in the cache: little but products and sums. */
static void multiply_part(void *user, uint32_t part) {
    limits *l = user;
    float out[N_TOK][N_ROW], *y[N_TOK];
    const float *x[N_TOK];
    (void)part;
    for (int t = 0; t < N_TOK; t++) y[t] = out[t], x[t] = l->x + (size_t)t * ROW;
    for (int i = 0; i < 100; i++)
        l->simd->rows(y, x, N_TOK, l->w, ROW * 2, DS4_QUANT_F16, false, N_ROW, ROW);
}

static ds4_status print_limits(const options *o, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_pool *pool = NULL;
    limits l = {0};
    uint64_t *mem = NULL;
    float *v = NULL;

    TRY(ds4_pool_new(&pool, o->n_thread, err));
    TRY(ds4_mem_alloc(&mem, (size_t)MEM_MIB << 20, 1, err));
    TRY(ds4_mem_alloc(&v, (N_TOK + N_ROW) * ROW + 16, sizeof *v, err));
    memset(mem, 1, (size_t)MEM_MIB << 20);
    l.mem = mem;
    float *x = (float *)(((uintptr_t)v + 63) & ~(uintptr_t)63);
    l.x = x, l.w = (const uint8_t *)(x + N_TOK * ROW);
    TRY(ds4_simd_find(&l.simd, o->simd, err));
    double t0 = now_s();
    for (int i = 0; i < 4; i++) ds4_pool_run(pool, read_part, &l, N_PART);
    double t1 = now_s();
    printf("this machine, %u threads: reads memory at %.1f GB/s", o->n_thread,
           4.0 * MEM_MIB * 1048576.0 / (t1 - t0) * 1e-9);
    if (l.simd) {
        ds4_pool_run(pool, multiply_part, &l, 2); /* warm */
        t0 = now_s();
        ds4_pool_run(pool, multiply_part, &l, N_PART);
        t1 = now_s();
        printf(", multiplies and adds from the cache at %.1f GMAC/s",
               100.0 * N_PART * N_TOK * N_ROW * ROW / (t1 - t0) * 1e-9);
    }
    printf("\n");
out:
    ds4_mem_free(v);
    ds4_mem_free(mem);
    ds4_pool_free(pool);
    return st;
}

/* ---- the model ---- */

static ds4_status measure(ds4_engine *e, const ds4_plan *plan, uint32_t n_prompt,
                          uint32_t n_decode, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_session *s = NULL;
    int32_t token[80];
    uint32_t n_vocab = ds4_engine_config(e)->n_vocab;

    for (uint32_t i = 0; i < n_prompt + n_decode; i++)
        token[i] = (int32_t)((1000 + 37 * i) % n_vocab);
    TRY(ds4_session_new(&s, e, plan, n_prompt + n_decode + 1, n_prompt, err));
    n_kind = 0;
    double t0 = now_s();
    TRY(ds4_session_eval(s, token, n_prompt, DS4_PREFILL, err));
    double t1 = now_s();
    printf("prefill of %u tokens: %.2f s, %.3f tokens/s\n", n_prompt, t1 - t0,
           n_prompt / (t1 - t0));
    print_profile(t1 - t0);
    if (n_decode) {
        t0 = now_s();
        for (uint32_t i = 0; i < n_decode; i++) /* one at a time: each has its logits */
            TRY(ds4_session_eval(s, token + n_prompt + i, 1, DS4_DECODE, err));
        t1 = now_s();
        printf("%u decode steps: %.2f s, %.3f tokens/s\n", n_decode, t1 - t0,
               n_decode / (t1 - t0));
        print_profile(t1 - t0);
    }
    printf("anonymous memory: %.1f MiB\n", anon_mib());
out:
    ds4_session_free(s);
    return st;
}

static error_t parse(int key, char *arg, struct argp_state *s) {
    options *o = s->input;
    switch (key) {
    case 't':
        o->n_thread = (uint32_t)strtoul(arg, NULL, 10);
        return 0;
    case 's':
        o->simd = arg;
        return 0;
    case ARGP_KEY_ARG:
        if (o->model) argp_usage(s);
        o->model = arg;
        return 0;
    case ARGP_KEY_END:
        if (!o->model || !o->n_thread || o->n_thread > 256) argp_usage(s);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

int main(int argc, char **argv) {
    static const struct argp_option list[] = {
        {"threads", 't', "N", 0, "threads (default 2)", 0},
        {"simd", 's', "PATH", 0, "SIMD path (default: the widest that runs)", 0},
        {0}};
    static const struct argp argp = {list, parse, "MODEL", "Speed of the reference engine.",
                                     0,    0,     0};
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    options o = {.n_thread = 2};
    ds4_engine *engine = NULL;
    ds4_plan *plan = NULL;

    argp_parse(&argp, argc, argv, 0, NULL, &o);
    ds4_engine_options opt = {.engine = "ref", .n_thread = o.n_thread, .simd = o.simd};
    double t0 = now_s();
    TRY(ds4_engine_open(&engine, o.model, &opt, err));
    printf("opened in %.3f s, anonymous memory %.1f MiB\n", now_s() - t0, anon_mib());
    TRY(ds4_engine_plan(engine, &plan, err));
    ds4_backend *b = ds4_engine_backend(engine);
    real_ops = b->ops, timed_ops = *b->ops, timed_ops.call = timed_call;
    b->ops = &timed_ops;
    TRY(measure(engine, plan, 16, 4, err));
    TRY(measure(engine, plan, 64, 0, err));
    TRY(print_limits(&o, err));
out:
    if (st != DS4_OK) fprintf(stderr, "bench: %s\n", e.message);
    ds4_plan_free(plan);
    ds4_engine_close(engine);
    return ds4_err_exit_code(st);
}
