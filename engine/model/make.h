#ifndef DS4_MODEL_MAKE_H
#define DS4_MODEL_MAKE_H
/* Models of this architecture with weights from a seed, at any shape that the loader accepts.
 *
 * A row of a tensor is a function of (seed, name, row), so equal options give equal bytes and
 * any row can be produced alone. Weights are scaled so that activations stay sane through all
 * layers: rows of projections have a standard deviation of gain / sqrt(row length), norms lie
 * about 1, embeddings have deviation 1 (make.c has the gain of every tensor).
 *
 * With shared layers each tensor name has one pool of rows, and layer il's tensor is a window
 * into it that starts a few rows behind layer il - 1's: all layers differ, and the file is
 * hardly longer than one of a single layer. Source: model.md 1 and 8. */
#include "engine/format/vocab.h"
#include "engine/model/config.h"

/* One row per dimension: option, field of ds4_config, the three shapes, bounds, what it must be
 * a multiple of, meaning. To add one: a row. Guard: tests/test_make.c loads every shape. */
#define DS4_MAKE_DIMS(DIM)                                                                     \
    /*  option         field          tiny small  flash min max      of   meaning */           \
    DIM("layers", n_layer, 6, 8, 43, 1, DS4_MAX_LAYER, 1, "layers")                            \
    DIM("width", n_embd, 256, 1024, 4096, 256, 65536, 256, "embedding width")                  \
    DIM("vocab", n_vocab, 512, 8192, 129280, 279, 1u << 22, 1, "vocabulary")                   \
    DIM("heads", n_head, 4, 16, 64, 1, 1024, 1, "query heads")                                 \
    DIM("head-width", d_head, 192, 256, 512, 66, 4096, 2, "head width")                        \
    DIM("rotary", n_rot, 64, 64, 64, 2, 128, 2, "rotary width of a head")                      \
    DIM("q-rank", q_rank, 128, 512, 1024, 32, 65536, 32, "query rank")                         \
    DIM("o-rank", o_rank, 64, 256, 1024, 1, 65536, 1, "output rank of a group")                \
    DIM("groups", n_group, 2, 4, 8, 1, 1024, 1, "output groups")                               \
    DIM("window", window, 32, 64, 128, 1, 65536, 1, "sliding window")                          \
    DIM("idx-heads", n_idx_head, 4, 16, 64, 1, 1024, 1, "indexer heads")                       \
    DIM("idx-width", d_idx, 128, 128, 128, 128, 128, 1, "indexer head width")                  \
    DIM("top-k", idx_top_k, 8, 64, 512, 1, 1u << 20, 1, "compressed rows that are selected")   \
    DIM("experts", n_expert, 8, 32, 256, 1, 4096, 1, "routed experts")                         \
    DIM("used", n_expert_used, 2, 4, 6, 1, 256, 1, "experts used per token")                   \
    DIM("expert-width", n_ff, 256, 512, 2048, 256, 1u << 18, 256, "hidden width of an expert") \
    DIM("hash-layers", n_hash, 3, 3, 3, 0, DS4_MAX_LAYER, 1, "hash-routed layers")             \
    DIM("streams", n_hc, 4, 4, 4, 4, 4, 1, "hyper-connection streams")                         \
    DIM("sinkhorn", n_sinkhorn, 20, 20, 20, 1, 1000, 1, "Sinkhorn rounds")

/* One row per constant that is no count: option, field of ds4_config, its type, meaning. Any
 * positive number can be written; what the loader takes is in config.c. To add one: a row. */
#define DS4_MAKE_NUMBERS(NUM)                                                                  \
    NUM("rms-eps", eps, float, "epsilon of the RMS norms")                                     \
    NUM("hc-eps", hc_eps, float, "epsilon of the hyper-connections")                           \
    NUM("expert-scale", expert_scale, float, "scale of the routed weights")                    \
    NUM("rope-base", rope_base, double, "rotary base of uncompressed layers")                  \
    NUM("rope-base-compressed", rope_base_comp, double, "rotary base of compressed layers")    \
    NUM("yarn-factor", yarn_factor, double, "YaRN scale factor")                               \
    NUM("yarn-context", yarn_n_ctx, uint64_t, "YaRN original context")                         \
    NUM("yarn-beta-fast", yarn_beta_fast, double, "YaRN turns up to which nothing is scaled")  \
    NUM("yarn-beta-slow", yarn_beta_slow, double, "YaRN turns from which all is scaled")

/* Dimensions and constants of "tiny", "small" or "flash" (the real dimensions). */
ds4_status ds4_make_shape(ds4_config *out, const char *name, ds4_err *err);
/* One dimension by its option's name. DS4_ERR_USAGE names it, what was found and wanted; rules
 * between dimensions are checked by ds4_make_new. */
ds4_status ds4_make_set(ds4_config *c, const char *dim, uint64_t value, ds4_err *err);

/* The same for a constant. */
ds4_status ds4_make_set_number(ds4_config *c, const char *name, double value, ds4_err *err);

typedef struct ds4_make_options {
    ds4_config shape; /* ratio and clamp are filled in from the lists below */
    uint64_t seed;
    const char *quant; /* types of routed experts, a name that ds4_make_quant gives */
    bool share_layers;
    /* Lists of numbers joined by ','. NULL: the rule of model.md 1.6; a clamp of 10; a bias in
     * every layer that is not hash-routed. */
    const char *ratios;  /* one per layer */
    const char *clamps;  /* one for all layers, or one per layer */
    const char *no_bias; /* layers without exp_probs_b.bias, or "all" */
    bool hash_bias;      /* hash-routed layers get a bias too, which nothing may read */
    /* The vocabulary that the model carries, with its token types; NULL: bytes, a few merges
     * and filler. It has as many tokens as the shape: DS4_ERR_USAGE otherwise. Outlives
     * ds4_make. */
    const ds4_vocab *vocab;
} ds4_make_options;

/* Names of the types of routed experts, NULL past the last; in and out (may be NULL) are the
 * type ids of gate and up, and of down. */
const char *ds4_make_quant(uint32_t i, uint32_t *in, uint32_t *out);

/* One tensor of the layout. Rows of a vector (rank 1) are its single elements. */
typedef struct ds4_make_tensor {
    char name[64];
    const ds4_quant *quant;
    uint32_t n_dim;
    uint64_t ne[3]; /* 1 past n_dim */
    uint64_t offset, n_bytes;
} ds4_make_tensor;

typedef struct ds4_make ds4_make;

/* Checks the shape and lays the file out; nothing is written. Owns: the caller frees *out. */
ds4_status ds4_make_new(ds4_make **out, const ds4_make_options *o, ds4_err *err);
void ds4_make_free(ds4_make *m);

const ds4_config *ds4_make_config(const ds4_make *m);
uint32_t ds4_make_n_tensor(const ds4_make *m);
const ds4_make_tensor *ds4_make_tensor_at(const ds4_make *m, uint32_t i);
uint64_t ds4_make_head_bytes(const ds4_make *m); /* before the data section */
uint64_t ds4_make_file_bytes(const ds4_make *m);

/* The bytes of row i_row (over all matrices of the tensor) of tensor i, n_bytes / (ne[1] ne[2])
 * of them; of a vector, all of it. */
ds4_status ds4_make_row(const ds4_make *m, uint32_t i, uint64_t i_row, uint8_t *dst,
                        ds4_err *err);

/* Asked now and then while writing; false stops with DS4_ERR_CANCELLED. */
typedef bool ds4_make_tell(void *user, uint64_t done_bytes, uint64_t all_bytes);
/* Writes the file, complete or not at all. tell may be NULL. Errors: DS4_ERR_IO. */
ds4_status ds4_make_write(ds4_make *m, const char *path, ds4_make_tell *tell, void *user,
                          ds4_err *err);

#endif
