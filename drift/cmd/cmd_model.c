#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"
#include "drift/cmd/tokenize.h"
#include "engine/base/mem.h"
#include "engine/model/make.h"
#include "engine/model/weights.h"

/* --layers, --width, ...: one option per row of the table of shapes. */
enum {
    KEY_SHAPE = 512,
    KEY_SEED,
    KEY_QUANT,
    KEY_SHARE,
    KEY_DRY,
    KEY_RATIOS,
    KEY_CLAMP,
    KEY_NO_BIAS,
    KEY_HASH_BIAS
};
enum { KEY_TOKENIZER = 640, KEY_PRE, KEY_SPECIALS, KEY_DECODE, KEY_TIME };
enum {
    KEY_DIM = 1024,
#define DIM(name, field, tiny, small, flash, min, max, of, what) KEY_##field,
    DS4_MAKE_DIMS(DIM)
#undef DIM
        KEY_DIM_END
};
enum { N_DIM = KEY_DIM_END - KEY_DIM - 1 };
/* --rms-eps, --rope-base, ...: one option per constant. */
enum {
    KEY_NUM = 2048,
#define NUM(name, field, type, what) KEY_##field,
    DS4_MAKE_NUMBERS(NUM)
#undef NUM
        KEY_NUM_END
};
enum { N_NUM = KEY_NUM_END - KEY_NUM - 1 };

static const char *const dim_name[N_DIM] = {
#define DIM(name, field, tiny, small, flash, min, max, of, what) name,
    DS4_MAKE_DIMS(DIM)
#undef DIM
};

static const char *const num_name[N_NUM] = {
#define NUM(name, field, type, what) name,
    DS4_MAKE_NUMBERS(NUM)
#undef NUM
};

static const struct argp_option options[] = {
    {"output", 'o', "FILE", 0,
     "make: the file to write; tokenize: the same (default: standard output)", 1},
    {"tokenizer", KEY_TOKENIZER, "FILE", 0,
     "tokenize: a tokenizer.json; make: one whose vocabulary the model shall carry, with as many tokens as --vocab",
     1},
    {"shape", KEY_SHAPE, "NAME", 0,
     "make: tiny (default), small, or flash, the real dimensions", 1},
    {"seed", KEY_SEED, "N", 0, "make: what the weights come from (default 1)", 1},
    {"quant", KEY_QUANT, "q2|q4k", 0,
     "make: routed experts as IQ2_XXS and down Q2_K (default) or Q4_K; q2k, iq2: all of that "
     "type; q4k-iq2: Q4_K and down IQ2_XXS",
     1},
    {"share-layers", KEY_SHARE, 0, 0,
     "make: every layer is a window into one pool of rows per tensor, a few rows further", 1},
    {"dry-run", KEY_DRY, 0, 0, "make: print the layout, write nothing", 1},
    {"ratios", KEY_RATIOS, "N,...", 0,
     "make: compression ratio of each layer (default 0,0,4,128,4,128,...)", 1},
    {"clamp", KEY_CLAMP, "X[,...]", 0,
     "make: SwiGLU clamp of all layers, or of each (default 10; 0: none)", 1},
    {"no-bias", KEY_NO_BIAS, "all|N,...", 0, "make: layers without exp_probs_b.bias", 1},
    {"hash-bias", KEY_HASH_BIAS, 0, 0,
     "make: exp_probs_b.bias in hash-routed layers too, where it means nothing", 1},
    {"model", 'm', "FILE", 0, "tokenize: a GGUF whose vocabulary is used", 3},
    {"pre", KEY_PRE, "model|hf", 0,
     "tokenize: how text is cut before merging: the rules of existing engines (default of a GGUF) or the patterns of the published tokenizer.json (default of --tokenizer: its own)",
     3},
    {"specials", KEY_SPECIALS, "plain|rendered|added", 0,
     "tokenize: spellings of special tokens stay text (default), or those of the seven of a transcript become ids, or those of every added token",
     3},
    {"decode", KEY_DECODE, 0, 0, "tokenize: ids in, text out", 3},
    {"time", KEY_TIME, 0, 0, "tokenize: bytes per second of both directions, on standard error",
     3},
#define DIM(name, field, tiny, small, flash, min, max, of, what)                               \
    {name, KEY_##field, "N", 0, "make: " what, 2},
    DS4_MAKE_DIMS(DIM)
#undef DIM
#define NUM(name, field, type, what) {name, KEY_##field, "X", 0, "make: " what, 3},
        DS4_MAKE_NUMBERS(NUM)
#undef NUM
            {0}};

typedef struct args {
    const char *verb, *path, *shape, *quant, *ratios, *clamps, *no_bias;
    cmd_tokenize_options t; /* output and tokenizer are make's too */
    uint64_t seed, dim[N_DIM];
    double num[N_NUM];
    bool is_set[N_DIM], is_num[N_NUM], share, hash_bias, dry;
    bool for_make, for_tokenize; /* an option was given that only this verb has */
} args;

static void check_args(const args *a, struct argp_state *s) {
    bool make = a->verb && !strcmp(a->verb, "make");
    bool tokenize = a->verb && !strcmp(a->verb, "tokenize");
    bool either = make || tokenize;
    if (!a->verb) argp_error(s, "give a verb: info, verify, make or tokenize");
    if (!either && strcmp(a->verb, "info") && strcmp(a->verb, "verify"))
        argp_error(s, "\"%s\": wanted info, verify, make or tokenize", a->verb);
    if (make && a->path) argp_error(s, "\"%s\": make takes its file as -o FILE", a->path);
    if (make && !a->t.output && !a->dry) argp_error(s, "no output: give -o FILE");
    if (!either && !a->path) argp_error(s, "%s: no file", a->verb);
    if (!either && (a->for_make || a->for_tokenize || a->t.output || a->t.tokenizer))
        argp_error(s, "%s takes no options", a->verb);
    if (make && a->for_tokenize) argp_error(s, "make takes no options of tokenize");
    if (tokenize && a->for_make) argp_error(s, "tokenize takes no options of make");
    if (tokenize && !a->t.model == !a->t.tokenizer)
        argp_error(s, "tokenize: give one of -m GGUF and --tokenizer FILE");
}

static cmd_specials parse_specials(struct argp_state *s, const char *text) {
    static const char *const name[] = {"plain", "rendered", "added"};
    for (int i = 0; i < 3; i++)
        if (!strcmp(text, name[i])) return (cmd_specials)i;
    argp_error(s, "--specials: found \"%s\", wanted plain, rendered or added", text);
    return CMD_SPECIALS_PLAIN;
}

/* The options of tokenize; false for any other key. */
static bool parse_tokenize(args *a, int key, char *arg, struct argp_state *s) {
    switch (key) {
    case 'm':
        a->t.model = arg;
        break;
    case KEY_PRE:
        a->t.pre = cmd_pre(s, arg);
        break;
    case KEY_SPECIALS:
        a->t.specials = parse_specials(s, arg);
        break;
    case KEY_DECODE:
        a->t.decode = true;
        break;
    case KEY_TIME:
        a->t.time = true;
        break;
    default:
        return false;
    }
    return a->for_tokenize = true;
}

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    if (parse_tokenize(a, key, arg, s)) return 0;
    a->for_make |= key >= KEY_SHAPE && key < KEY_NUM_END && key != KEY_TOKENIZER;
    if (key > KEY_DIM && key < KEY_DIM_END) {
        int i = key - KEY_DIM - 1;
        a->is_set[i] = true;
        a->dim[i] = cmd_number(s, dim_name[i], arg, UINT64_MAX);
        return 0;
    }
    if (key > KEY_NUM && key < KEY_NUM_END) {
        int i = key - KEY_NUM - 1;
        a->is_num[i] = true;
        a->num[i] = cmd_real(s, num_name[i], arg);
        return 0;
    }
    switch (key) {
    case 'o':
        a->t.output = arg;
        return 0;
    case KEY_TOKENIZER:
        a->t.tokenizer = arg;
        return 0;
    case KEY_SHAPE:
        a->shape = arg;
        return 0;
    case KEY_SEED:
        a->seed = cmd_number(s, "--seed", arg, UINT64_MAX);
        return 0;
    case KEY_QUANT:
        a->quant = arg;
        return 0;
    case KEY_SHARE:
        a->share = true;
        return 0;
    case KEY_DRY:
        a->dry = true;
        return 0;
    case KEY_RATIOS:
        a->ratios = arg;
        return 0;
    case KEY_CLAMP:
        a->clamps = arg;
        return 0;
    case KEY_NO_BIAS:
        a->no_bias = arg;
        return 0;
    case KEY_HASH_BIAS:
        a->hash_bias = true;
        return 0;
    case ARGP_KEY_ARG:
        if (s->arg_num == 0) a->verb = arg;
        else if (s->arg_num == 1) a->path = arg;
        else argp_error(s, "\"%s\": no such argument", arg);
        return 0;
    case ARGP_KEY_END:
        check_args(a, s);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    options,
    parse,
    "info FILE.gguf\nverify FILE.gguf\nmake -o FILE.gguf\n"
    "tokenize -m FILE.gguf [FILE]\ntokenize --tokenizer tokenizer.json [FILE]",
    "info prints the shape, the types and sizes of the tensors, and what running it costs. "
    "verify reads the configuration, binds every tensor, loads the tokenizer and looks at every "
    "value. make writes a model with weights from a seed; equal options give equal bytes. "
    "tokenize turns a text (FILE or standard input) into ids, one a line, or with --decode ids "
    "into the text; a byte of text that begins no UTF-8 character is kept like any other.",
    NULL,
    NULL,
    NULL};

static void print_shape(const ds4_config *c) {
    printf("layers %u, width %u, vocabulary %u\n", c->n_layer, c->n_embd, c->n_vocab);
    printf(
        "heads %u of %u (%u rotary), window %u, query rank %u, output groups %u of rank %u\n",
        c->n_head, c->d_head, c->n_rot, c->window, c->q_rank, c->n_group, c->o_rank);
    printf("indexer heads %u of %u, top-k %u\n", c->n_idx_head, c->d_idx, c->idx_top_k);
    printf("experts %u of width %u, %u used, %u hash-routed layers, %u streams\n", c->n_expert,
           c->n_ff, c->n_expert_used, c->n_hash, c->n_hc);
    printf("compression ratios");
    for (uint32_t il = 0; il < c->n_layer; il++) printf(" %u", c->ratio[il]);
    puts("");
}

static void print_types(const ds4_gguf *g) {
    for (uint32_t id = 0; id < 64; id++) {
        uint64_t n = 0, elems = 0, bytes = 0;
        const char *name = NULL;
        for (uint64_t i = 0; i < ds4_gguf_n_tensor(g); i++) {
            const ds4_tensor *t = ds4_gguf_tensor(g, i);
            if (t->type_id != id) continue;
            name = t->quant ? t->quant->name : "unknown";
            n++, elems += t->n_elem, bytes += t->n_bytes;
        }
        if (n)
            printf("%-8s %5" PRIu64 " tensors %14" PRIu64 " elements %14" PRIu64 " bytes\n",
                   name, n, elems, bytes);
    }
}

/* ---- cost ---- */

/* Tensors of which a token reads one row, and those of which it reads only the experts used;
 * matched at the end of the name. All others are read whole. */
static bool ends(const char *name, size_t n, const char *tail) {
    size_t k = strlen(tail);
    return n >= k && !memcmp(name + n - k, tail, k);
}

/* Rows are looked up in these, not multiplied. */
static bool is_lookup(const char *name, size_t n) {
    return ends(name, n, "token_embd.weight") || ends(name, n, "ffn_gate_tid2eid.weight") ||
           ends(name, n, "_compressor_ape.weight");
}

/* What one decoded token costs: bytes of weights read and multiply-adds. */
typedef struct cost {
    uint64_t n_byte, n_mac;
} cost;

static void add_cost(cost *sum, const ds4_config *c, const char *name, size_t n,
                     const uint64_t *ne, uint32_t n_dim, uint64_t n_byte) {
    uint64_t n_elem = 1, share = 1, of = 1; /* share / of: the part of a tensor that is used */
    for (uint32_t k = 0; k < n_dim; k++) n_elem *= ne[k];
    if (is_lookup(name, n)) of = ne[1];
    else if (ends(name, n, "_exps.weight")) share = c->n_expert_used, of = ne[2];
    if (!of) return;
    sum->n_byte += n_byte / of * share;
    if (n_dim > 1 && !is_lookup(name, n)) sum->n_mac += n_elem / of * share;
}

/* The cache of model.md section 6, in f32: raw windows, compressed rows and indexer rows. */
static uint64_t cache_bytes(const ds4_config *c, uint64_t n_ctx) {
    uint64_t window = c->window < n_ctx ? c->window : n_ctx;
    uint64_t bytes = 4 * c->n_layer * window * c->d_head;
    for (uint32_t il = 0; il < c->n_layer; il++) {
        uint64_t rho = c->ratio[il];
        if (rho) bytes += 4 * (n_ctx / rho + 2) * (c->d_head + (rho == 4 ? c->d_idx : 0));
    }
    return bytes;
}

static void print_cost(const ds4_config *c, const cost *token) {
    static const uint64_t contexts[] = {4096, 131072, 1048576};
    double per_token = 0.0;
    for (uint32_t il = 0; il < c->n_layer; il++)
        if (c->ratio[il])
            per_token += 4.0 * (c->d_head + (c->ratio[il] == 4 ? c->d_idx : 0)) / c->ratio[il];
    printf("weights read per decoded token, selection included: %" PRIu64 " bytes\n",
           token->n_byte);
    printf("multiply-adds with weights per token: %" PRIu64 "\n", token->n_mac);
    printf("cache: windows %" PRIu64 " bytes, then %.1f bytes per token of context\n",
           4 * (uint64_t)c->n_layer * c->window * c->d_head, per_token);
    for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++)
        printf("cache at context %" PRIu64 ": %" PRIu64 " bytes\n", contexts[i],
               cache_bytes(c, contexts[i]));
}

static void print_file(const ds4_gguf *g, const ds4_config *c) {
    uint64_t all = 0;
    cost token = {0};
    size_t n_file;
    for (uint64_t i = 0; i < ds4_gguf_n_tensor(g); i++) {
        const ds4_tensor *t = ds4_gguf_tensor(g, i);
        all += t->n_bytes;
        add_cost(&token, c, t->name.p, t->name.n, t->ne, t->n_dim, t->n_bytes);
    }
    (void)ds4_gguf_bytes(g, &n_file);
    printf("file %zu bytes, tensors %" PRIu64 " bytes%s\n", n_file, all,
           all > n_file ? " (overlapping)" : "");
    print_cost(c, &token);
}

/* ---- make ---- */

static void print_layout(const ds4_make *m) {
    const ds4_config *c = ds4_make_config(m);
    uint64_t all = 0;
    cost token = {0};
    print_shape(c);
    for (uint32_t i = 0; i < ds4_make_n_tensor(m); i++) {
        const ds4_make_tensor *t = ds4_make_tensor_at(m, i);
        printf("%-36s %-8s [%" PRIu64, t->name, t->quant->name, t->ne[0]);
        for (uint32_t k = 1; k < t->n_dim; k++) printf(", %" PRIu64, t->ne[k]);
        printf("] at %" PRIu64 ", %" PRIu64 " bytes\n", t->offset, t->n_bytes);
        all += t->n_bytes;
        add_cost(&token, c, t->name, strlen(t->name), t->ne, t->n_dim, t->n_bytes);
    }
    printf("file %" PRIu64 " bytes, data from byte %" PRIu64 ", tensors %" PRIu64 " bytes\n",
           ds4_make_file_bytes(m), ds4_make_head_bytes(m), all);
    print_cost(c, &token);
}

static bool tell(void *user, uint64_t done, uint64_t all) {
    const drift_progress *p = user;
    return !p->tell || p->tell(p->user, (double)done / (double)all, "writing");
}

static ds4_status make(const args *a, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_make_options o = {.seed = a->seed,
                          .quant = a->quant,
                          .share_layers = a->share,
                          .ratios = a->ratios,
                          .clamps = a->clamps,
                          .no_bias = a->no_bias,
                          .hash_bias = a->hash_bias};
    ds4_make *m = NULL;
    ds4_vocab *v = NULL;
    drift_progress p;

    if (a->t.tokenizer) TRY(ds4_vocab_open(&v, a->t.tokenizer, err));
    o.vocab = v;
    TRY(ds4_make_shape(&o.shape, a->shape, err));
    for (int i = 0; i < N_DIM; i++)
        if (a->is_set[i]) TRY(ds4_make_set(&o.shape, dim_name[i], a->dim[i], err));
    for (int i = 0; i < N_NUM; i++)
        if (a->is_num[i]) TRY(ds4_make_set_number(&o.shape, num_name[i], a->num[i], err));
    TRY(ds4_make_new(&m, &o, err));
    if (a->dry) {
        print_layout(m);
        goto out;
    }
    p = cmd_progress();
    st = ds4_make_write(m, a->t.output, tell, &p, err);
    cmd_progress_end();
    if (st == DS4_OK)
        printf("%s: %u tensors, %" PRIu64 " bytes\n", a->t.output, ds4_make_n_tensor(m),
               ds4_make_file_bytes(m));
out:
    ds4_make_free(m);
    ds4_vocab_free(v);
    return st;
}

/* ---- verify ---- */

static ds4_status check_blocks(const ds4_tensor *t, uint64_t first, ds4_err *err) {
    ds4_status st = DS4_OK;
    float block[256];
    for (uint64_t b = first; b < t->n_elem / t->quant->n_elem; b++) {
        t->quant->decode(block, t->data + b * t->quant->n_bytes, 1);
        for (uint32_t k = 0; k < t->quant->n_elem; k++)
            if (!isfinite(block[k]))
                RAISE(DS4_ERR_FORMAT, "tensor %.*s: element %" PRIu64 " is not finite",
                      (int)t->name.n, t->name.p, b * t->quant->n_elem + k);
    }
out:
    return st;
}

static int by_type_and_place(const void *a, const void *b) {
    const ds4_tensor *s = *(const ds4_tensor *const *)a, *t = *(const ds4_tensor *const *)b;
    if (s->type_id != t->type_id) return s->type_id < t->type_id ? -1 : 1;
    return (s->offset > t->offset) - (s->offset < t->offset);
}

/* Every element of every known tensor decodes to a finite value. Layers may share their bytes:
 * what an earlier tensor of the same type showed sound, on the same block boundaries, is not
 * looked at again. Sorted by place, the tensor with the furthest end covers all up to it. */
static ds4_status check_values(const ds4_gguf *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    const ds4_tensor **sorted = NULL, *far = NULL;
    uint64_t n = ds4_gguf_n_tensor(g);

    TRY(ds4_mem_alloc(&sorted, n, sizeof *sorted, err));
    for (uint64_t i = 0; i < n; i++) sorted[i] = ds4_gguf_tensor(g, i);
    qsort(sorted, n, sizeof *sorted, by_type_and_place);
    for (uint64_t i = 0; i < n; i++) {
        const ds4_tensor *t = sorted[i];
        uint64_t end = t->offset + t->n_bytes, first = 0;
        if (!t->quant || t->type_id == DS4_QUANT_I32) continue;
        if (far && far->type_id != t->type_id) far = NULL;
        uint64_t far_end = far ? far->offset + far->n_bytes : 0;
        if (far_end > t->offset && (far_end - t->offset) % t->quant->n_bytes == 0)
            first = (far_end - t->offset) / t->quant->n_bytes;
        TRY(check_blocks(t, first, err));
        if (end > far_end) far = t;
    }
out:
    ds4_mem_free(sorted);
    return st;
}

int cmd_model(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {.shape = "tiny", .quant = "q2", .seed = 1};
    ds4_gguf *g = NULL;
    ds4_tokenizer *t = NULL;
    ds4_config c;
    ds4_weights *w = NULL;

    cmd_parse(&argp, argc, argv, &a);
    if (!strcmp(a.verb, "make")) {
        TRY(make(&a, err));
        goto out;
    }
    if (!strcmp(a.verb, "tokenize")) {
        a.t.input = a.path;
        TRY(cmd_tokenize(&a.t, err));
        goto out;
    }
    TRY(ds4_gguf_open(&g, a.path, err));
    TRY(ds4_config_read(&c, g, err));
    if (!strcmp(a.verb, "info")) {
        print_shape(&c);
        print_types(g);
        print_file(g, &c);
        goto out;
    }
    TRY(ds4_mem_alloc(&w, 1, sizeof *w, err));
    TRY(ds4_weights_bind(w, g, &c, err));
    TRY(ds4_tokenizer_new(&t, g, err));
    TRY(check_values(g, err));
    printf("%s: %" PRIu64 " tensors, configuration, tokenizer and values are sound\n", a.path,
           ds4_gguf_n_tensor(g));
out:
    ds4_tokenizer_free(t);
    ds4_mem_free(w);
    ds4_gguf_close(g);
    return st == DS4_OK ? 0 : cmd_fail("model", st, err);
}
