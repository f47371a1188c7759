/* Every fused row (kernels/fused.def) on every case of fixtures/fused.cases: the output of each
 * call against the scalar references run one after the other on the same inputs, within the
 * bound of the row's member; plain and with DS4_SAFE_MATH. Then in the forward pass: fused rows
 * change nothing that they promise not to, every call is in the ledger under its row, and a
 * group of which a part is wanted runs call by call, with the reason. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/float.h"
#include "engine/base/mem.h"
#include "engine/format/quant.h"
#include "engine/ops/ops.h"
#include "engine/variants.h"
#include "engine/vk/vk_fused.h"
#include "tests/support.h"

enum { GUARD = 16 };
static const uint32_t PATTERN = 0x7fc5a5a5u;
static ds4_backend *vk;

/* Args of each call, fields in order: products of keys and numbers by '*', '.' before a float.
 * Bindings of the kernel: kind and size; w weight rows of n_in, f floats, i ids below n_mat, q
 * any words, o output, - none. */
static const struct {
    const char *row, *args[DS4_MAX_FUSED], *binds;
} shapes[] = {
    {"hc_norm",
     {"n_tok n_embd n_hc w_stride", "n_tok n_embd has_w .eps"},
     "f:n_tok*n_hc*n_embd f:n_tok*w_stride o:n_tok*n_embd f:n_embd o:n_tok*n_embd"},
    {"norm_rope",
     {"n_row*n_head d_head has_w .eps", "n_row n_head d_head n_rot pos0 pos_step inverse"},
     "f:n_row*n_head*d_head f:d_head o:n_row*n_head*d_head q:n_rot o:n_row*n_head*d_head"},
    {"kv",
     {"n_row d_head has_w .eps", "n_row 1 d_head n_rot pos0 pos_step inverse",
      "n_row d_head n_fp8"},
     "f:n_row*d_head f:d_head o:n_row*d_head q:n_rot o:n_row*d_head o:n_row*d_head"},
    {"moe",
     {"n_tok n_slot n_in n_out row_bytes n_mat 0", "n_tok n_slot n_in n_out row_bytes n_mat 0",
      "n_tok*n_slot n_out 1 .clamp"},
     "w:n_mat*n_out f:n_tok*n_in i:n_tok*n_slot o:n_tok*n_slot*n_out w:n_mat*n_out "
     "o:n_tok*n_slot*n_out f:n_tok*n_slot o:n_tok*n_slot*n_out"},
    {"moe_sum",
     {"n_tok n_slot n_in n_out row_bytes n_mat 1", "n_tok n_slot n_out"},
     "w:n_mat*n_out f:n_tok*n_slot*n_in i:n_tok*n_slot o:n_tok*n_slot*n_out o:n_tok*n_out"},
    {"glu",
     {"n_tok n_in n_out row_bytes x_stride group_rows",
      "n_tok n_in n_out row_bytes x_stride group_rows", "n_tok n_out 0 .clamp"},
     "w:n_out f:n_tok*x_stride o:n_tok*n_out w:n_out o:n_tok*n_out o:n_tok*n_out"},
};

/* --- a case --- */

typedef struct kase {
    char line[256];
    uint32_t fused, n_call, n_bind, wtype, variants;
    const char *row;
    ds4_tap first;
    uint32_t args[DS4_MAX_FUSED][32];
    void *bind[DS4_MAX_BIND]; /* inputs and the references' outputs */
    size_t bytes[DS4_MAX_BIND];
    char kind[DS4_MAX_BIND];
} kase;

static uint64_t rng;
static uint32_t rnd(void) {
    rng += 0x9e3779b97f4a7c15u;
    uint64_t z = rng;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (uint32_t)(z >> 32);
}

/* The value of ` key=` in the line; NULL: it has none. */
static const char *text_of(const kase *c, const char *key, size_t n) {
    for (const char *p = strchr(c->line, ' '); p; p = strchr(p + 1, ' '))
        if (!strncmp(p + 1, key, n) && p[n + 1] == '=') return p + n + 2;
    return NULL;
}

static size_t row_bytes(const kase *c) {
    const ds4_quant *q = ds4_quant_by_id(c->wtype);
    return strtoul(text_of(c, "n_in", 4), NULL, 0) / q->n_elem * q->n_bytes;
}

static size_t value_of(const kase *c, const char *key, size_t n) {
    const char *v = text_of(c, key, n);
    if (v) return strtoul(v, NULL, 0);
    if (!strncmp(key, "row_bytes", n)) return row_bytes(c);
    if (!strncmp(key, "pos_step", n)) return 1;
    if (!strncmp(key, "x_stride", n)) return value_of(c, "n_in", 4);
    if (!strncmp(key, "group_rows", n)) return value_of(c, "n_out", 5);
    return strtoul(key, NULL, 0);
}

static size_t product(const kase *c, const char *s) {
    for (size_t total = 1;; s++) {
        size_t n = strcspn(s, "* ");
        total *= value_of(c, s, n);
        s += n;
        if (*s != '*') return total;
    }
}

static float fill_one(const char *fill) {
    static const float hard[] = {0.0f,  -0.0f,  0x1p-51f, -0x1p-51f, 1e-10f, 1.0f,
                                 -1.0f, 448.0f, -460.0f,  1e-4f,     0.5f,   -3.5f};
    float s = 0.0f;
    if (fill && !strncmp(fill, "tie", 3)) return 0.25f * (float)(rnd() % 9) - 1.0f;
    if (fill && !strncmp(fill, "hard", 4)) return hard[rnd() % 12];
    if (fill && !strncmp(fill, "wide", 4))
        return ds4_f32_from_bits((rnd() & 0x807fffffu) | (97 + rnd() % 40) << 23);
    for (int i = 0; i < 6; i++) s += (float)(rnd() >> 8) * 0x1p-24f - 0.5f;
    return s * 1.414f;
}

/* Random blocks whose half scales are around 2^-6. */
static void fill_weight(const kase *c, uint8_t *p, size_t n, const char *fill) {
    const ds4_quant *q = ds4_quant_by_id(c->wtype);
    const size_t at = c->wtype == DS4_QUANT_Q2_K ? 80 : 0;
    for (size_t b = 0; b + q->n_bytes <= n; b += q->n_bytes) {
        for (uint32_t i = 0; i < q->n_bytes; i++) p[b + i] = (uint8_t)rnd();
        float v = fill_one(fill);
        uint16_t bf = ds4_f32_to_bf16(v);
        if (c->wtype == DS4_QUANT_F32) memcpy(p + b, &v, 4);
        else if (c->wtype == DS4_QUANT_BF16) memcpy(p + b, &bf, 2);
        else
            for (size_t k = at; k < at + 4 && k < q->n_bytes; k += 2) {
                bool is_scale =
                    k == at || c->wtype == DS4_QUANT_Q2_K || c->wtype == DS4_QUANT_Q4_K;
                if (is_scale) p[b + k + 1] = (uint8_t)((p[b + k + 1] & 0x83) | 0x24);
            }
    }
}

static void kase_free(kase *c) {
    for (uint32_t b = 0; b < c->n_bind; b++) ds4_mem_free(c->bind[b]);
}

static void set_variants(kase *c) {
    for (int v = 0; v < DS4_VARIANT_COUNT; v++) {
        const char *on = text_of(c, "on", 2), *off = text_of(c, "off", 3);
        const char *name = ds4_variant_table[v].name;
        bool bit = ds4_variant_table[v].def;
        if (on && !strcmp(on, name)) bit = true;
        if (off && !strcmp(off, name)) bit = false;
        c->variants |= (uint32_t)bit << v;
    }
}

static void fill_bind(kase *c, uint32_t b, const char *spec, const char *fill) {
    size_t n = product(c, spec + 2);
    c->kind[b] = *spec;
    c->bytes[b] = *spec == 'w' ? n * row_bytes(c) : 4 * n;
    assert_int_equal(ds4_mem_alloc(&c->bind[b], c->bytes[b] + 4 * GUARD, 1, NULL), DS4_OK);
    uint32_t *p = c->bind[b];
    if (*spec == 'w') fill_weight(c, c->bind[b], c->bytes[b], fill);
    for (size_t i = 0; i < n && *spec != 'w'; i++)
        p[i] = *spec == 'f'   ? ds4_f32_bits(fill_one(fill))
               : *spec == 'i' ? rnd() % (uint32_t)value_of(c, "n_mat", 5)
               : *spec == 'q' ? rnd()
                              : PATTERN;
    for (size_t i = n; i < n + GUARD && *spec == 'o'; i++) p[i] = PATTERN;
}

static void build_args(kase *c, uint32_t i, const char *p) {
    for (uint32_t at = 0; *p; at++) {
        const char *f = *p == '.' ? text_of(c, p + 1, strcspn(p + 1, " ")) : NULL;
        float def = !strncmp(p, ".eps", 4) ? 1e-6f : 10.0f;
        if (*p == '.') c->args[i][at] = ds4_f32_bits(f ? strtof(f, NULL) : def);
        else c->args[i][at] = (uint32_t)product(c, p);
        p += strcspn(p, " ");
        p += *p == ' ';
    }
}

static void kase_build(kase *c, const char *line) {
    size_t n = strcspn(line, " "), s = 0;
    memset(c, 0, sizeof *c);
    snprintf(c->line, sizeof c->line, "%s", line);
    while (strncmp(shapes[s].row, line, n) || shapes[s].row[n]) s++;
    c->row = shapes[s].row, c->fused = ds4_vk_fused_find(c->row);
    c->n_bind = ds4_vk_fused_n_bind(c->fused);
    for (int t = 0; t < DS4_TAP_COUNT && !c->n_call; t++) {
        const ds4_fusion *f = ds4_fusion_at((ds4_tap)t);
        if (f && !strcmp(f->name, c->row)) c->first = (ds4_tap)t, c->n_call = f->n;
    }
    const char *w = text_of(c, "wtype", 5), *fill = text_of(c, "fill", 4);
    char name[16];
    snprintf(name, sizeof name, "%.*s", w ? (int)strcspn(w, " ") : 3, w ? w : "F32");
    c->wtype = ds4_quant_by_name(name)->id;
    set_variants(c);
    rng = value_of(c, "seed", 4);
    for (uint32_t i = 0; i < c->n_call; i++) build_args(c, i, shapes[s].args[i]);
    const char *p = shapes[s].binds;
    for (uint32_t b = 0; b < c->n_bind; b++, p += strcspn(p, " "), p += *p == ' ')
        fill_bind(c, b, p, fill);
}

static ds4_op op_of(const kase *c, uint32_t i) { return ds4_vk_fused_op(c->fused, i); }

static void run_reference(kase *c) {
    for (uint32_t i = 0; i < c->n_call; i++) {
        ds4_ref_call call = {.args = c->args[i], .wtype = c->wtype, .variants = c->variants};
        uint32_t grid[3];
        for (uint32_t b = 0; b <= ds4_op_table[op_of(c, i)].n_in; b++) {
            int k = ds4_vk_fused_wire(c->fused, i, b);
            call.bind[b] = k < 0 ? NULL : c->bind[k];
        }
        ds4_op_grid(op_of(c, i), c->args[i], grid);
        ds4_op_reference(op_of(c, i), &call, (ds4_box){0, grid[0], 0, grid[1]});
    }
}

/* --- on the device --- */

typedef struct device_case {
    ds4_buf *buf[DS4_MAX_BIND];
    ds4_call call[DS4_MAX_FUSED];
    const ds4_call *list[DS4_MAX_FUSED];
} device_case;

static ds4_buf *kept[4096]; /* freed at the end, as in test_kernels */
static size_t n_kept;

static void upload(const kase *c, uint32_t more, device_case *d) {
    ds4_err err = {0};
    memset(d, 0, sizeof *d);
    for (uint32_t b = 0; b < c->n_bind; b++) {
        size_t n = c->bytes[b] + (c->kind[b] == 'o' ? 4 * GUARD : 0);
        if (c->kind[b] == 'w') {
            test_ok(vk->ops->buf_weight(vk, &d->buf[b], c->bind[b], n, "case", &err), &err);
        } else {
            test_ok(vk->ops->buf_new(vk, &d->buf[b], n, DS4_TYPE_F32, &err), &err);
            uint32_t *fresh = malloc(n);
            for (size_t i = 0; i < n / 4; i++) fresh[i] = PATTERN;
            test_ok(vk->ops->buf_write(vk, d->buf[b], 0, c->kind[b] == 'o' ? fresh : c->bind[b],
                                       n, &err),
                    &err);
            free(fresh);
        }
        assert_true(n_kept < sizeof kept / sizeof *kept);
        kept[n_kept++] = d->buf[b];
    }
    for (uint32_t i = 0; i < c->n_call; i++) {
        d->call[i] = (ds4_call){.tap = (ds4_tap)(c->first + i),
                                .wtype = c->wtype,
                                .variants = c->variants | more,
                                .args = c->args[i],
                                .args_bytes = ds4_op_args_bytes(op_of(c, i)),
                                .n_bind = ds4_op_table[op_of(c, i)].n_in + 1};
        for (uint32_t b = 0; b < d->call[i].n_bind; b++) {
            int k = ds4_vk_fused_wire(c->fused, i, b);
            d->call[i].bind[b] = k < 0 ? NULL : d->buf[k];
        }
        d->list[i] = &d->call[i];
    }
}

typedef struct verdict {
    uint32_t n_bad, ulp, n_class, n_guard;
    double nrmse;
} verdict;

static verdict compare(const uint32_t *got, const uint32_t *want, size_t n) {
    verdict v = {0};
    double diff = 0.0, ref = 0.0;
    for (size_t i = 0; i < n; i++) {
        float g = ds4_f32_from_bits(got[i]), w = ds4_f32_from_bits(want[i]);
        v.n_bad += got[i] != want[i];
        if (!isfinite(g) || !isfinite(w)) {
            v.n_class += got[i] != want[i];
            continue;
        }
        uint32_t u = ds4_ulp_distance(g, w);
        v.ulp = u > v.ulp ? u : v.ulp;
        diff += ((double)g - (double)w) * ((double)g - (double)w), ref += (double)w * (double)w;
    }
    v.nrmse = diff == 0.0 ? 0.0 : ref > 0.0 ? sqrt(diff / ref) : (double)INFINITY;
    for (size_t i = n; i < n + GUARD; i++) v.n_guard += got[i] != PATTERN;
    return v;
}

static bool within(const verdict *v, const char *bound) {
    if (v->n_guard || v->n_class) return false;
    if (!strcmp(bound, "exact")) return v->n_bad == 0;
    if (!strncmp(bound, "ULP(", 4)) return v->ulp <= strtoul(bound + 4, NULL, 0);
    return !strncmp(bound, "NRMSE(", 6) && v->nrmse <= strtod(bound + 6, NULL);
}

static const ds4_row_info *member(const kase *c, uint32_t i) {
    for (uint32_t r = 0; r < vk->ops->n_row(vk, op_of(c, i)); r++)
        if (!strcmp(vk->ops->row(vk, op_of(c, i), r)->name, c->row))
            return vk->ops->row(vk, op_of(c, i), r);
    fail_msg("%s has no row %s", ds4_op_table[op_of(c, i)].name, c->row);
    return NULL;
}

/* Worst of each call of each row. */
static verdict worst[DS4_VK_FUSED_COUNT][DS4_MAX_FUSED];
static uint32_t n_run[DS4_VK_FUSED_COUNT];

/* Runs the case; how many outputs are out of bound, said if `say`. */
static uint32_t judge(const kase *c, uint32_t more, bool say) {
    device_case d;
    ds4_err err = {0};
    uint32_t n_fail = 0;
    upload(c, more, &d);
    const char *why = vk->ops->refuses_group(vk, c->row, d.list, c->n_call);
    if (why) fail_msg("%s: %s", c->line, why);
    test_ok(vk->ops->call_group(vk, c->row, d.list, c->n_call, &err), &err);
    for (uint32_t i = 0; i < c->n_call; i++) {
        int k = ds4_vk_fused_wire(c->fused, i, d.call[i].n_bind - 1);
        size_t n = c->bytes[k] + 4 * GUARD;
        uint32_t *got = malloc(n);
        test_ok(vk->ops->buf_read(vk, d.buf[k], 0, got, n, &err), &err);
        verdict v = compare(got, c->bind[k], c->bytes[k] / 4), *w = &worst[c->fused][i];
        free(got);
        if (!within(&v, member(c, i)->bound)) {
            n_fail++;
            if (say)
                print_error("%s: call %u (%s) beyond %s: %u differ, %u ulp, nrmse %.3g, %u "
                            "class, %u guard words\n",
                            c->line, i, ds4_op_table[op_of(c, i)].name, member(c, i)->bound,
                            v.n_bad, v.ulp, v.nrmse, v.n_class, v.n_guard);
        }
        if (!say) continue;
        w->n_bad += v.n_bad, w->ulp = v.ulp > w->ulp ? v.ulp : w->ulp;
        w->nrmse = v.nrmse > w->nrmse ? v.nrmse : w->nrmse;
    }
    n_run[c->fused] += say;
    return n_fail;
}

static bool next_case(FILE *f, kase *c) {
    char line[256];
    while (fgets(line, sizeof line, f)) {
        line[strcspn(line, "\n")] = 0;
        if (!line[0] || line[0] == '#') continue;
        kase_build(c, line);
        run_reference(c);
        return true;
    }
    return false;
}

static FILE *open_cases(void) {
    FILE *f = fopen("fixtures/fused.cases", "r");
    if (!f) fail_msg("fixtures/fused.cases: not found; run from the top of the tree");
    return f;
}

#define NEED_DEVICE                                                                            \
    if (!vk) skip()

static void test_fused_rows_every_case_within_bound(void **state) {
    uint32_t n_fail = 0;
    (void)state;
    NEED_DEVICE;
    FILE *f = open_cases();
    for (kase c; next_case(f, &c); kase_free(&c))
        for (uint32_t safe = 0; safe < 2; safe++)
            n_fail += judge(&c, safe ? DS4_VARIANT_BIT(SAFE_MATH) : 0, true);
    fclose(f);
    for (uint32_t r = 0; r < DS4_VK_FUSED_COUNT; r++)
        for (uint32_t i = 0; ds4_vk_fused_op(r, i) != DS4_OP_COUNT; i++) {
            print_message("fused %u call %u %-10s: worst %u ulp, nrmse %.2e, %u differ in %u "
                          "runs\n",
                          r, i, ds4_op_table[ds4_vk_fused_op(r, i)].name, worst[r][i].ulp,
                          worst[r][i].nrmse, worst[r][i].n_bad, n_run[r]);
            assert_true(n_run[r] >= 6);
        }
    assert_int_equal(n_fail, 0);
}

/* --- that the check can fail, and what a group refuses --- */

/* The last bit of one input changed after the references ran: the exact rows no longer pass;
 * and an output of the references changed: no row does. */
static void test_fused_planted_faults_are_found(void **state) {
    bool found[DS4_VK_FUSED_COUNT] = {false};
    (void)state;
    NEED_DEVICE;
    FILE *f = open_cases();
    for (kase c; next_case(f, &c); kase_free(&c)) {
        uint32_t *in = c.bind[c.kind[0] == 'f' ? 0 : 1], *out = NULL;
        for (uint32_t b = 0; b < c.n_bind; b++)
            if (c.kind[b] == 'o') out = c.bind[b];
        if (found[c.fused]) continue;
        assert_int_equal(judge(&c, 0, false), 0);
        if (!strcmp(member(&c, 0)->bound, "exact")) {
            in[0] ^= 1u;
            assert_true(judge(&c, 0, false) > 0);
            in[0] ^= 1u;
        }
        out[0] ^= 0x400000u;
        assert_int_equal(judge(&c, 0, false), 1);
        found[c.fused] = true;
    }
    fclose(f);
    for (uint32_t r = 0; r < DS4_VK_FUSED_COUNT; r++) assert_true(found[r]);
}

static void test_group_of_other_calls_is_refused(void **state) {
    kase c;
    device_case d;
    (void)state;
    NEED_DEVICE;
    kase_build(&c, "moe n_tok=1 n_slot=2 n_in=256 n_out=8 n_mat=4 wtype=Q4_K seed=1");
    upload(&c, 0, &d);
    assert_null(vk->ops->refuses_group(vk, "moe", d.list, 3));
    assert_non_null(vk->ops->refuses_group(vk, "moe", d.list, 2));
    assert_non_null(vk->ops->refuses_group(vk, "moe_sum", d.list, 3));
    assert_non_null(vk->ops->refuses_group(vk, "nothing", d.list, 3));
    d.call[2].bind[0] = d.call[1].bind[3]; /* up for gate */
    assert_non_null(strstr(vk->ops->refuses_group(vk, "moe", d.list, 3), "feed"));
    d.call[2].bind[0] = d.call[0].bind[3];
    d.call[1].wtype = DS4_QUANT_Q2_K;
    assert_non_null(strstr(vk->ops->refuses_group(vk, "moe", d.list, 3), "formats"));
    d.call[1].wtype = c.wtype, d.call[1].variants ^= DS4_VARIANT_BIT(SAFE_MATH);
    assert_non_null(strstr(vk->ops->refuses_group(vk, "moe", d.list, 3), "SAFE_MATH"));
    for (uint32_t r = 0; r < vk->ops->n_row(vk, DS4_OP_swiglu); r++)
        if (!strcmp(vk->ops->row(vk, DS4_OP_swiglu, r)->name, "moe"))
            assert_non_null(strstr(vk->ops->refuses(vk, &d.call[2], r), "group"));
    kase_free(&c);
}

/* --- in the forward pass --- */

enum { N_TOK = 40, MAX_LAYER = 8 };
#define MODEL "fixtures/tiny/ds4-tiny-q4k.gguf"

/* One hash per tap, layer and position. */
typedef struct trace {
    uint64_t row[DS4_TAP_COUNT][MAX_LAYER + 1][N_TOK];
    uint32_t n_event;
} trace;

static bool wants(void *user, ds4_tap tap, uint32_t layer) {
    (void)user, (void)tap, (void)layer;
    return true;
}

static bool see(void *user, const ds4_tap_event *e) {
    trace *t = user;
    uint32_t il = e->layer == DS4_NO_LAYER ? MAX_LAYER : e->layer;
    for (uint32_t i = 0; i < e->n_row; i++) {
        uint64_t h = 1469598103934665603u;
        const uint32_t *p = (const uint32_t *)e->data + (size_t)i * e->n_col;
        for (uint32_t k = 0; k < e->n_col; k++) h = (h ^ p[k]) * 1099511628211u;
        t->row[e->tap][il][e->pos0 + i * e->pos_step] = h;
    }
    t->n_event++;
    return true;
}

/* The prompt as prefill but for its last 12 tokens. */
static ds4_session *evaluate(ds4_engine *e, const char *edits, trace *t) {
    ds4_session *s = NULL;
    ds4_plan *p = NULL;
    ds4_err err = {0};
    int32_t token[N_TOK];
    for (int i = 0; i < N_TOK; i++) token[i] = (int32_t)(rnd() % 200);
    memset(t, 0, sizeof *t);
    test_ok(ds4_engine_plan(e, &p, &err), &err);
    test_ok(ds4_plan_edit(p, edits, &err), &err);
    test_ok(ds4_session_new(&s, e, p, N_TOK, 16, &err), &err);
    ds4_session_observe(s, &(ds4_observer){.wants = wants, .see = see, .user = t});
    test_ok(ds4_session_eval(s, token, N_TOK - 12, DS4_PREFILL, &err), &err);
    test_ok(ds4_session_eval(s, token + N_TOK - 12, 12, DS4_DECODE, &err), &err);
    ds4_plan_free(p);
    return s;
}

/* Calls of a tap by a row, in all layers and phases; and the last reason that another ran. */
static uint64_t count(const ds4_session *s, ds4_tap tap, const char *row, const char **why) {
    const ds4_ledger *l = ds4_session_ledger(s);
    uint64_t n = 0;
    for (uint32_t i = 0; i < ds4_ledger_n(l); i++) {
        const ds4_ledger_entry *e = ds4_ledger_at(l, i);
        if (e->tap == tap && !strcmp(e->row, row)) n += e->n_call;
        if (e->tap == tap && e->refusal && why) *why = e->refusal;
    }
    return n;
}

#define EXACT_ROWS                                                                              \
    "tap:q_norm=norm_rope; tap:q_rot=norm_rope; tap:idx_norm=norm_rope; tap:idx_rot=norm_rope;" \
    "tap:kv_norm=kv; tap:kv_rot=kv; tap:kv_row=kv; tap:comp_norm=kv; tap:comp_rot=kv;"          \
    "tap:comp_row=kv;"

static void test_forward_fused_rows_keep_their_promise(void **state) {
    static trace strict, exact, broken;
    ds4_err err = {0};
    const char *why = NULL;
    (void)state;
    NEED_DEVICE;
    ds4_engine *e = test_engine("vk", MODEL);
    rng = 3;
    ds4_session *s = evaluate(e, "*=strict", &strict);
    uint64_t n_norm = count(s, DS4_TAP_q_norm, "strict", NULL);
    ds4_session_free(s);
    rng = 3;
    s = evaluate(e, EXACT_ROWS, &exact);
    assert_int_equal(count(s, DS4_TAP_q_norm, "norm_rope", &why), n_norm);
    assert_int_equal(count(s, DS4_TAP_q_rot, "norm_rope", &why), n_norm);
    assert_int_equal(count(s, DS4_TAP_kv_row, "kv", &why), n_norm);
    assert_true(count(s, DS4_TAP_comp_row, "kv", &why) > 0);
    assert_true(count(s, DS4_TAP_idx_rot, "norm_rope", &why) > 0);
    assert_null(why);
    ds4_session_free(s);
    assert_int_equal(exact.n_event, strict.n_event);
    assert_memory_equal(exact.row, strict.row, sizeof exact.row);

    /* A part of a group, in one layer: its calls run alone there and say why. */
    rng = 3;
    s = evaluate(e, EXACT_ROWS "tap:kv_rot@1=strict", &broken);
    assert_int_equal(count(s, DS4_TAP_kv_rot, "strict", &why),
                     n_norm / ds4_engine_config(e)->n_layer);
    assert_null(why);
    assert_int_equal(count(s, DS4_TAP_kv_norm, "strict", &why),
                     n_norm / ds4_engine_config(e)->n_layer);
    assert_non_null(why);
    assert_non_null(strstr(why, "group"));
    ds4_session_free(s);
    assert_memory_equal(broken.row, strict.row, sizeof broken.row);
    (void)err;
    ds4_engine_close(e);
}

/* Every fused row at once: near strict, and in the ledger. */
static void test_forward_all_fused_rows_run(void **state) {
    static const struct {
        ds4_tap tap;
        const char *row;
    } want[] = {{DS4_TAP_attn_in, "hc_norm"},  {DS4_TAP_ffn_norm, "hc_norm"},
                {DS4_TAP_out_norm, "hc_norm"}, {DS4_TAP_moe_gate, "moe"},
                {DS4_TAP_moe_up, "moe"},       {DS4_TAP_moe_mid, "moe"},
                {DS4_TAP_moe_down, "moe_sum"}, {DS4_TAP_moe_out, "moe_sum"},
                {DS4_TAP_shared_gate, "glu"},  {DS4_TAP_shared_mid, "glu"}};
    static trace t;
    const char *why = NULL;
    (void)state;
    NEED_DEVICE;
    ds4_engine *e = test_engine("vk", MODEL);
    rng = 3;
    ds4_session *s = evaluate(e, "*=strict", &t);
    uint32_t n_event = t.n_event, n = ds4_session_n_vocab(s);
    float *logits = malloc(n * sizeof *logits);
    double diff = 0.0, ref = 0.0;
    memcpy(logits, ds4_session_logits(s), n * sizeof *logits);
    ds4_session_free(s);
    rng = 3;
    s = evaluate(
        e,
        EXACT_ROWS
        "tap:attn_in=hc_norm; tap:attn_norm=hc_norm; tap:ffn_in=hc_norm;"
        "tap:ffn_norm=hc_norm; tap:out_in=hc_norm; tap:out_norm=hc_norm;"
        "tap:moe_gate=moe; tap:moe_up=moe; tap:moe_mid=moe; tap:moe_down=moe_sum;"
        "tap:moe_out=moe_sum; tap:shared_gate=glu; tap:shared_up=glu; tap:shared_mid=glu",
        &t);
    assert_int_equal(t.n_event, n_event);
    for (size_t i = 0; i < sizeof want / sizeof *want; i++) {
        assert_true(count(s, want[i].tap, want[i].row, &why) > 0);
        assert_int_equal(count(s, want[i].tap, "strict", &why), 0);
    }
    assert_null(why);
    for (uint32_t i = 0; i < n; i++) {
        double d = (double)ds4_session_logits(s)[i] - (double)logits[i];
        diff += d * d, ref += (double)logits[i] * (double)logits[i];
    }
    print_message("all fused rows against strict: logits nrmse %.2e\n", sqrt(diff / ref));
    assert_true(diff > 0.0 && sqrt(diff / ref) < 0.01);
    free(logits);
    ds4_session_free(s);
    ds4_engine_close(e);
}

int main(void) {
    ds4_err err = {0};
    ds4_vk_options options = test_vk_options();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fused_rows_every_case_within_bound),
        cmocka_unit_test(test_fused_planted_faults_are_found),
        cmocka_unit_test(test_group_of_other_calls_is_refused),
        cmocka_unit_test(test_forward_fused_rows_keep_their_promise),
        cmocka_unit_test(test_forward_all_fused_rows_run),
    };
    if (ds4_vk_open(&vk, &options, &err)) {
        fprintf(stderr, "SKIP: no usable Vulkan device: %s\n", err.message);
        if ((test_needs_device()) || err.status == DS4_ERR_INTERNAL) return 1;
    }
    int st = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < n_kept; i++) vk->ops->buf_free(vk, kept[i]);
    if (vk) vk->ops->close(vk);
    return st;
}
