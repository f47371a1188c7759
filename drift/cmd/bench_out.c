#include "drift/cmd/bench_out.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/file.h"
#include "engine/base/mem.h"

static const char *const phase_text[DS4_PHASE_COUNT] = {"prefill", "decode"};

double bench_ceiling(const bench_report *r, const char *name) {
    for (uint32_t i = 0; i < r->n_ceiling; i++)
        if (!strcmp(r->ceiling[i].name, name)) return r->ceiling[i].rate;
    return 0.0;
}

/* Name of what a side is a share of. */
static const char *ceiling_of(const bench_report *r, ds4_phase p, uint32_t side) {
    if (p == DS4_DECODE) return "copy";
    return r->prefill_ceiling[side] ? r->prefill_ceiling[side] : "none";
}

/* What a side reads (decode) or computes (prefill) per second, beside the device's best; share
 * is 0 where there is no ceiling. */
typedef struct load {
    double rate, share;
} load;

static load load_of(const bench_report *r, uint32_t i, ds4_phase p, uint32_t side) {
    const bench_cost *c = &r->run->cost[i][p];
    double per_tok = (p == DS4_DECODE ? c->n_byte : 2.0 * c->n_mac) /
                     drift_bench_n_tok(&r->bench->spec, i, p);
    double best = bench_ceiling(r, ceiling_of(r, p, side));
    double rate = per_tok * r->bench->figure[i][p].tps[side];
    return (load){rate, best > 0.0 ? rate / best : 0.0};
}

static bool is_partial(const bench_report *r) {
    return r->bench->n_block < r->bench->spec.n_block && drift_bench_is_comparison(r->bench);
}

/* ---- table ---- */

static const char *fact_of(const bench_report *r, const char *key) {
    const char *v = json_string_value(json_object_get(r->fact, key));
    return v ? v : "not readable";
}

/* Names of the rows of an op in a phase, joined by ",", in order of first execution. */
static void row_names(char dst[256], const ds4_ledger *l, ds4_op op, ds4_phase p) {
    *dst = 0;
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++) {
        const ds4_ledger_entry *e = ds4_ledger_at(l, i);
        char have[260], want[80];
        if (ds4_tap_table[e->tap].op != op || e->phase != p) continue;
        snprintf(have, sizeof have, ",%s,", dst);
        snprintf(want, sizeof want, ",%s,", e->row);
        size_t n = strlen(dst);
        if (!strstr(have, want)) snprintf(dst + n, 256 - n, "%s%s", n ? "," : "", e->row);
    }
}

static void print_rows(FILE *f, const bench_report *r) {
    char a[256], b[256];
    for (int p = 0; p < DS4_PHASE_COUNT; p++) {
        const char *sep = "";
        fprintf(f, "rows that differ in %s: ", phase_text[p]);
        for (int op = 0; op < DS4_OP_COUNT; op++) {
            row_names(a, r->run->rows[0], (ds4_op)op, (ds4_phase)p);
            row_names(b, r->run->rows[1], (ds4_op)op, (ds4_phase)p);
            if (!strcmp(a, b)) continue;
            fprintf(f, "%s%s %s -> %s", sep, ds4_op_table[op].name, a, b), sep = "; ";
        }
        fprintf(f, "%s\n", *sep ? "" : "none by name");
    }
}

static void print_figure(FILE *f, const bench_report *r, uint32_t i, ds4_phase p) {
    const drift_bench *b = r->bench;
    const drift_bench_figure *v = &b->figure[i][p];
    fprintf(f, "%7u  %-7s %6u", b->spec.prefill.at[i], phase_text[p],
            drift_bench_n_tok(&b->spec, i, p));
    if (v->verdict == DRIFT_BENCH_SAME_ROWS || !b->n_block) {
        fprintf(f, "  %s (%u of %u pairs)\n", drift_bench_verdict_text(v->verdict),
                v->n_row_same, 2 * b->n_block + 1);
        return;
    }
    fprintf(f, " %11.2f %11.2f  %6.3f  [%.3f, %.3f]  [%.3f, %.3f] %6.1f %%  ", v->tps[0],
            v->tps[1], v->ab.mid, v->ab.lo, v->ab.hi, v->aa.lo, v->aa.hi, 100.0 * v->floor);
    if (v->verdict == DRIFT_BENCH_FASTER || v->verdict == DRIFT_BENCH_SLOWER)
        fprintf(f, "%s by %+.1f %% [%+.1f, %+.1f]\n", drift_bench_verdict_text(v->verdict),
                100.0 * (v->ab.mid - 1.0), 100.0 * (v->ab.lo - 1.0), 100.0 * (v->ab.hi - 1.0));
    else if (v->verdict == DRIFT_BENCH_TOO_FEW)
        fprintf(f, "%s: the intervals cover %.0f %%\n", drift_bench_verdict_text(v->verdict),
                100.0 * v->ab.coverage);
    else fprintf(f, "%s\n", drift_bench_verdict_text(v->verdict));
}

/* A prefill is held against the matrix unit also where no row of it runs there. */
static const char *unused(const bench_report *r, uint32_t side) {
    bool fma = !strcmp(ceiling_of(r, DS4_PREFILL, side), "fma");
    return fma || r->uses_matrix[side] ? "" : " (its rows use no matrix)";
}

static void print_loads(FILE *f, const bench_report *r) {
    const drift_bench *b = r->bench;
    fprintf(f, "\ncontext  phase      kv bytes  per token             A                B\n");
    for (uint32_t i = 0; i < b->spec.prefill.n; i++)
        for (int p = 0; p < DS4_PHASE_COUNT; p++) {
            const bench_cost *c = &r->run->cost[i][p];
            uint32_t n = drift_bench_n_tok(&b->spec, i, (ds4_phase)p);
            if (!n) continue;
            fprintf(f, "%7u  %-7s %11llu", b->spec.prefill.at[i], phase_text[p],
                    (unsigned long long)r->run->kv_bytes[i]);
            if (p == DS4_DECODE) fprintf(f, " %8.3f MB read   ", c->n_byte / n * 1e-6);
            else fprintf(f, " %8.3f Mflop     ", 2.0 * c->n_mac / n * 1e-6);
            for (uint32_t side = 0; side < 2 && b->n_block; side++) {
                load l = load_of(r, i, (ds4_phase)p, side);
                fprintf(f, " %7.3f %s", l.rate * 1e-9, p == DS4_DECODE ? "GB/s" : "Gflop/s");
                if (l.share > 0.0) fprintf(f, " %4.1f %%", 100.0 * l.share);
            }
            fprintf(f, "\n");
        }
    for (uint32_t i = 0; i < r->n_ceiling; i++) {
        const ds4_vk_ceiling *c = &r->ceiling[i];
        fprintf(f, "the device at best, %s: ", c->name);
        if (c->lacks) fprintf(f, "not measured: %s (%s)\n", c->lacks, c->what);
        else fprintf(f, "%.2f G/s (%s)\n", c->rate * 1e-9, c->what);
    }
    if (r->n_ceiling)
        fprintf(f, "%% of decode: of copy; %% of prefill: A of %s%s, B of %s%s\n",
                ceiling_of(r, DS4_PREFILL, 0), unused(r, 0), ceiling_of(r, DS4_PREFILL, 1),
                unused(r, 1));
    else fprintf(f, "no ceiling measured\n");
}

/* Median, least and greatest of a column of starts. */
static void print_start(FILE *f, const bench_start *at, uint32_t n, size_t off) {
    double v[BENCH_MAX_START];
    for (uint32_t i = 0; i < n; i++) memcpy(&v[i], (const char *)&at[i] + off, sizeof v[i]);
    drift_stats_sort(v, n);
    fprintf(f, "  %7.3f [%.3f, %.3f]", drift_stats_median(v, n), v[0], v[n - 1]);
}

static void print_starts(FILE *f, const bench_report *r) {
    const bench_starts *s = &r->starts;
    bool empty = false;
    if (r->no_starts) {
        fprintf(f, "\nstarts: %s\n", r->no_starts);
        return;
    }
    fprintf(
        f,
        "\nstart of plan B in a fresh process, seconds since its start, median of %u [least, "
        "greatest]\n%-24s  %-23s  %-23s  %-23s  made  pipeline cache\n",
        s->n, "", "engine open", "first token", "making pipelines");
    for (int k = 0; k < BENCH_START_COUNT && s->n; k++) {
        const bench_start *at = s->at[k];
        fprintf(f, "%-24s", bench_start_text((bench_start_kind)k));
        print_start(f, at, s->n, offsetof(bench_start, open_s));
        print_start(f, at, s->n, offsetof(bench_start, first_s));
        print_start(f, at, s->n, offsetof(bench_start, pipelines_s));
        fprintf(f, "  %4u  %s\n", at[0].n_pipeline, at[0].cache);
        empty = empty || strstr(at[0].cache, "keeps nothing");
    }
    if (empty)
        fprintf(
            f,
            "the driver keeps nothing in our cache, so that its second start is no warmer\n");
}

void bench_print(FILE *f, const bench_report *r) {
    const drift_bench *b = r->bench;
    fprintf(f, "%s, engine %s, %s\n", fact_of(r, "model.name"), fact_of(r, "engine"),
            fact_of(r, "device"));
    fprintf(f, "A = %s, B = %s; load average before %s, after %s\n", r->plan[0], r->plan[1],
            fact_of(r, "load.before"), fact_of(r, "load.after"));
    fprintf(
        f, "%u blocks of A B B A or B A A B%s; the first pair was a warm-up and is discarded\n",
        b->n_block, is_partial(r) ? " (partial: stopped before all were run)" : "");
    print_rows(f, r);
    fprintf(
        f,
        "\ncontext  phase   tokens       A t/s       B t/s     B/A  %2.0f %% interval   A/A "
        "interval      floor  verdict\n",
        100.0 * b->spec.level);
    for (uint32_t i = 0; i < b->spec.prefill.n; i++)
        for (int p = 0; p < DS4_PHASE_COUNT; p++)
            if (drift_bench_n_tok(&b->spec, i, (ds4_phase)p))
                print_figure(f, r, i, (ds4_phase)p);
    for (uint32_t i = 0; i < b->spec.prefill.n; i++) {
        const bench_drift *d = &r->run->drift[i];
        fprintf(f, "logits after %u tokens, B against A: nrmse %.2e, top token %s%s\n",
                b->spec.prefill.at[i], d->nrmse, d->same_top1 ? "same" : "differs",
                d->finite ? "" : "; B's are not finite");
    }
    print_loads(f, r);
    print_starts(f, r);
    fprintf(f, "cpu MHz before %s, after %s; package energy %s J\n",
            fact_of(r, "cpu_mhz.before"), fact_of(r, "cpu_mhz.after"), fact_of(r, "energy_j"));
}

/* ---- files ---- */

static ds4_status write_bytes(const char *path, const char *p, size_t n, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_file_writer *w = NULL;
    TRY(ds4_file_writer_open(&w, path, err));
    TRY(ds4_file_writer_put(w, p, n, err));
    st = ds4_file_writer_finish(w, err);
    w = NULL;
out:
    ds4_file_writer_abandon(w);
    return st;
}

/* What put prints, as a file. */
static ds4_status write_with(const char *path, const bench_report *r, uint32_t side,
                             void (*put)(FILE *, const bench_report *, uint32_t),
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    char *text = NULL;
    size_t n = 0;
    FILE *f = open_memstream(&text, &n);
    if (!f) RAISE(DS4_ERR_MEMORY, "%s: out of memory", path);
    put(f, r, side);
    if (fclose(f) != 0) RAISE(DS4_ERR_MEMORY, "%s: out of memory", path);
    TRY(write_bytes(path, text, n, err));
out:
    free(text);
    return st;
}

static void put_published(FILE *f, const bench_report *r, uint32_t side) {
    const drift_bench *b = r->bench;
    fputs("ctx_tokens,prefill_tokens,prefill_tps,gen_tokens,gen_tps,kvcache_bytes\n", f);
    for (uint32_t i = 0; b->n_block && i < b->spec.prefill.n; i++)
        fprintf(f, "%u,%u,%.2f,%u,%.2f,%llu\n", b->spec.prefill.at[i],
                drift_bench_n_tok(&b->spec, i, DS4_PREFILL),
                b->figure[i][DS4_PREFILL].tps[side], b->spec.n_decode,
                b->spec.n_decode ? b->figure[i][DS4_DECODE].tps[side] : 0.0,
                (unsigned long long)r->run->kv_bytes[i]);
}

static void put_table(FILE *f, const bench_report *r, uint32_t side) {
    const drift_bench *b = r->bench;
    (void)side;
    fputs("ctx_tokens,phase,tokens,a_tps,b_tps,a_spread,b_spread,ratio,ratio_lo,ratio_hi,"
          "aa_ratio,aa_lo,aa_hi,coverage,blocks,floor,verdict,kvcache_bytes,bytes_per_token,"
          "flop_per_token\n",
          f);
    for (uint32_t i = 0; b->n_block && i < b->spec.prefill.n; i++)
        for (int p = 0; p < DS4_PHASE_COUNT; p++) {
            const drift_bench_figure *v = &b->figure[i][p];
            const bench_cost *c = &r->run->cost[i][p];
            uint32_t n = drift_bench_n_tok(&b->spec, i, (ds4_phase)p);
            if (!n) continue;
            fprintf(f, "%u,%s,%u,%.9g,%.9g,%.9g,%.9g,", b->spec.prefill.at[i], phase_text[p], n,
                    v->tps[0], v->tps[1], v->spread[0], v->spread[1]);
            fprintf(f, "%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%.9g,%u,%.9g,%s%s,%llu,%.9g,%.9g\n",
                    v->ab.mid, v->ab.lo, v->ab.hi, v->aa.mid, v->aa.lo, v->aa.hi,
                    v->ab.coverage, b->n_block, v->floor, drift_bench_verdict_text(v->verdict),
                    is_partial(r) ? " (partial)" : "", (unsigned long long)r->run->kv_bytes[i],
                    c->n_byte / n, 2.0 * c->n_mac / n);
        }
}

ds4_status bench_write_published(const char *path, const bench_report *r, uint32_t side,
                                 ds4_err *err) {
    return write_with(path, r, side, put_published, err);
}

ds4_status bench_write_table(const char *path, const bench_report *r, ds4_err *err) {
    return write_with(path, r, 0, put_table, err);
}

/* ---- JSON; a NULL anywhere (out of memory) makes the whole NULL ---- */

static json_t *num(double v) { return isfinite(v) ? json_real(v) : json_null(); }

/* A missing element makes the array NULL. */
static void append(json_t **a, json_t *v) {
    if (!json_array_append_new(*a, v)) return;
    json_decref(*a);
    *a = NULL;
}

static json_t *interval(const drift_interval *v) {
    return json_pack("{s:o,s:o,s:o,s:f}", "mid", num(v->mid), "lo", num(v->lo), "hi",
                     num(v->hi), "coverage", v->coverage);
}

static json_t *seconds(const drift_bench *b, uint32_t i, ds4_phase p, uint32_t side) {
    json_t *a = json_array();
    for (uint32_t k = 0; k < 2 * b->n_block; k++)
        append(&a, num(drift_bench_at(b, i, side, k / 2, k % 2)->s[p]));
    return a;
}

static json_t *figure(const bench_report *r, uint32_t i, ds4_phase p) {
    const drift_bench *b = r->bench;
    const drift_bench_figure *v = &b->figure[i][p];
    const bench_cost *c = &r->run->cost[i][p];
    uint32_t n = drift_bench_n_tok(&b->spec, i, p);
    return json_pack(
        "{s:i,s:s,s:i,s:s,s:[o,o],s:[o,o],s:o,s:o,s:o,s:i,s:I,s:f,s:f,s:[o,o],s:[s,s],s:[o,o]}",
        "ctx_tokens", (int)b->spec.prefill.at[i], "phase", phase_text[p], "tokens", (int)n,
        "verdict", drift_bench_verdict_text(v->verdict), "tps", num(v->tps[0]), num(v->tps[1]),
        "spread", num(v->spread[0]), num(v->spread[1]), "ratio", interval(&v->ab), "aa",
        interval(&v->aa), "floor", num(v->floor), "pairs_with_same_rows", (int)v->n_row_same,
        "kvcache_bytes", (json_int_t)r->run->kv_bytes[i], "bytes_per_token", c->n_byte / n,
        "flop_per_token", 2.0 * c->n_mac / n, "share_of_ceiling",
        num(load_of(r, i, p, 0).share), num(load_of(r, i, p, 1).share), "ceiling",
        ceiling_of(r, p, 0), ceiling_of(r, p, 1), "seconds", seconds(b, i, p, 0),
        seconds(b, i, p, 1));
}

static json_t *starts_json(const bench_starts *s) {
    json_t *a = json_array();
    for (int k = 0; k < BENCH_START_COUNT; k++)
        for (uint32_t i = 0; i < s->n; i++) {
            const bench_start *v = &s->at[k][i];
            append(&a, json_pack("{s:s,s:f,s:f,s:f,s:i,s:s}", "kind",
                                 bench_start_text((bench_start_kind)k), "open_s", v->open_s,
                                 "first_token_s", v->first_s, "pipelines_s", v->pipelines_s,
                                 "pipelines", (int)v->n_pipeline, "pipeline_cache", v->cache));
        }
    return a;
}

static json_t *whole(const bench_report *r) {
    const drift_bench *b = r->bench;
    json_t *figures = json_array(), *drift = json_array(), *ceilings = json_array();
    for (uint32_t i = 0; i < b->spec.prefill.n; i++) {
        const bench_drift *d = &r->run->drift[i];
        append(&drift,
               json_pack("{s:i,s:o,s:b,s:b}", "ctx_tokens", (int)b->spec.prefill.at[i], "nrmse",
                         num(d->nrmse), "same_top1", d->same_top1, "finite", d->finite));
        for (int p = 0; p < DS4_PHASE_COUNT; p++)
            if (drift_bench_n_tok(&b->spec, i, (ds4_phase)p))
                append(&figures, figure(r, i, (ds4_phase)p));
    }
    for (uint32_t i = 0; i < r->n_ceiling; i++) {
        const ds4_vk_ceiling *c = &r->ceiling[i];
        append(&ceilings,
               json_pack("{s:s,s:s,s:o,s:s?}", "name", c->name, "what", c->what, "per_s",
                         c->lacks ? json_null() : json_real(c->rate), "lacks", c->lacks));
    }
    return json_pack("{s:s,s:i,s:O,s:s,s:s,s:b,s:i,s:s,s:f,s:o,s:o,s:o,s:o}", "format",
                     "ds4-drift/bench", "version", 1, "facts", r->fact, "a", r->plan[0], "b",
                     r->plan[1], "partial", is_partial(r), "blocks", (int)b->n_block, "order",
                     "A B discarded; then A B B A, B A A B in turn", "min_effect",
                     b->spec.min_effect, "figures", figures, "drift", drift, "ceilings",
                     ceilings, "starts", starts_json(&r->starts));
}

ds4_status bench_write_json(const char *path, const bench_report *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    json_t *j = whole(r);
    char *text = j ? json_dumps(j, JSON_INDENT(1) | JSON_REAL_PRECISION(17)) : NULL;
    if (!text) RAISE(DS4_ERR_MEMORY, "%s: out of memory", path);
    TRY(write_bytes(path, text, strlen(text), err));
out:
    free(text);
    json_decref(j);
    return st;
}
