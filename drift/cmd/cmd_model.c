#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "drift/cmd/cmds.h"
#include "drift/cmd/options.h"
#include "engine/base/mem.h"
#include "engine/model/weights.h"

typedef struct args {
    const char *verb, *path;
} args;

static error_t parse(int key, char *arg, struct argp_state *s) {
    args *a = s->input;
    switch (key) {
    case ARGP_KEY_ARG:
        if (s->arg_num == 0) a->verb = arg;
        else if (s->arg_num == 1) a->path = arg;
        else argp_error(s, "\"%s\": no such argument", arg);
        return 0;
    case ARGP_KEY_END:
        if (!a->path) argp_error(s, "give a verb (info or verify) and a file");
        if (strcmp(a->verb, "info") && strcmp(a->verb, "verify"))
            argp_error(s, "\"%s\": wanted info or verify", a->verb);
        return 0;
    default:
        return ARGP_ERR_UNKNOWN;
    }
}

static const struct argp argp = {
    NULL,
    parse,
    "info|verify FILE.gguf",
    "info prints the shape, and the types and sizes of the tensors. verify reads the "
    "configuration, binds every tensor, loads the tokenizer and looks at every value.",
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

/* Every element of every known tensor decodes to a finite value. */
static ds4_status check_values(const ds4_gguf *g, ds4_err *err) {
    ds4_status st = DS4_OK;
    float block[256];

    for (uint64_t i = 0; i < ds4_gguf_n_tensor(g); i++) {
        const ds4_tensor *t = ds4_gguf_tensor(g, i);
        if (!t->quant || t->type_id == DS4_QUANT_I32) continue;
        for (uint64_t b = 0; b < t->n_elem / t->quant->n_elem; b++) {
            t->quant->decode(block, t->data + b * t->quant->n_bytes, 1);
            for (uint32_t k = 0; k < t->quant->n_elem; k++)
                if (!isfinite(block[k]))
                    RAISE(DS4_ERR_FORMAT, "tensor %.*s: element %" PRIu64 " is not finite",
                          (int)t->name.n, t->name.p, b * t->quant->n_elem + k);
        }
    }
out:
    return st;
}

int cmd_model(int argc, char **argv) {
    ds4_status st = DS4_OK;
    ds4_err e = {0}, *err = &e;
    args a = {0};
    ds4_gguf *g = NULL;
    ds4_tokenizer *t = NULL;
    ds4_config c;
    ds4_weights *w = NULL;

    cmd_parse(&argp, argc, argv, &a);
    TRY(ds4_gguf_open(&g, a.path, err));
    TRY(ds4_config_read(&c, g, err));
    if (!strcmp(a.verb, "info")) {
        print_shape(&c);
        print_types(g);
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
