#ifndef DS4_VK_KERNEL_H
#define DS4_VK_KERNEL_H
/* Rows of kernels/kernels.def become pipelines: reflected, checked, cached.
 *
 * The SPIR-V of every row is part of the program. Opening reflects each module and refuses a
 * row that disagrees with ops.def, args.h or its own line in the manifest; pipelines are made
 * when a call first needs them, one per (row, weight type, honoured variant bits). */
#include "engine/vk/vk_graph.h"

/* Flags of the `needs` column. */
#define DS4_VK_NEED_SUBGROUP 1u /* basic and arithmetic subgroup operations */
#define DS4_VK_NEED_TENSOR 2u   /* stages f16 operands: ds4_row_info.tensor */
#define DS4_VK_NEED_COOPMAT 4u  /* a cooperative matrix of f16 operands, with f32 sums or, */
#define DS4_VK_NEED_F16_SUM 8u  /* with this flag too, f16 sums */
#define DS4_VK_NEED_DOT 16u     /* packed integer dot products */

/* Specialization constants. */
enum {
    DS4_VK_SPEC_X, /* local size, from the manifest */
    DS4_VK_SPEC_Y,
    DS4_VK_SPEC_Z,        /* 1 */
    DS4_VK_SPEC_WTYPE,    /* GGUF type id of ds4_call.wtype */
    DS4_VK_SPEC_VARIANTS, /* ds4_call.variants & ds4_row_info.variants */
    DS4_VK_SPEC_BASE_X,   /* first group of a dispatch */
    DS4_VK_SPEC_BASE_Y,
    DS4_VK_SPEC_M, /* shape of the cooperative matrix that the device offers */
    DS4_VK_SPEC_N,
    DS4_VK_SPEC_K,
    DS4_VK_SPEC_SUBGROUP, /* invocations of a subgroup */
    DS4_VK_SPEC_COUNT
};

/* A line of kernels.def, or of fused.def: a FUSED row has the op DS4_OP_COUNT + its number
 * (vk_fused.h), a MEMBER row no code. */
typedef struct ds4_vk_row {
    ds4_op op;
    const char *name; /* "<op>__<row>", the SPIR-V's name */
    ds4_row_info info;
    const uint32_t *code[2],
        *code_end[2]; /* plain; built with -DSAFE (the same for strict);
                         of no words where the build could not compile it */
    uint32_t lx, ly, per_x, per_y, needs;
    uint32_t variants;        /* the column; info.variants adds those of the row's kind */
    uint32_t min_tok;         /* fewest units along the op's token dimension: y of the grid, or
                                 x when the grid of the op has one dimension */
    const char *min_tok_text; /* the refusal below that */
} ds4_vk_row;

/* The manifest in its order; strict rows stand first among those of their op. */
const ds4_vk_row *ds4_vk_row_table(size_t *n);

/* Why this build has no module of a row, static text; NULL: it has. */
const char *ds4_vk_row_left_out(const ds4_vk_row *row);

/* What a SPIR-V module declares. */
typedef struct ds4_vk_reflection {
    uint32_t bindings;     /* bit k: set 0, binding k is a storage buffer */
    uint32_t args_bytes;   /* of the uniform block at set 1, binding 0; 0: none */
    uint32_t spec_ids;     /* bit k: constant id k exists */
    uint32_t local[3];     /* fixed local size; 0 where constant id d sets dimension d */
    uint32_t caps;         /* DS4_VK_CAP_BIT */
    uint32_t shared_bytes; /* of arrays whose length is known here; a lower bound */
} ds4_vk_reflection;

/* Reads a module. local: values of constants 0-2 for the sizes of shared arrays. Errors:
 * DS4_ERR_INTERNAL for what is no SPIR-V compute module or declares an unknown capability. */
ds4_status ds4_vk_reflect(ds4_vk_reflection *out, const uint32_t *word, size_t n_word,
                          const uint32_t local[3], const char *name, ds4_err *err);

/* DS4_ERR_INTERNAL when the module disagrees with ops.def (bindings; the scratch input may be
 * missing), args.h (arguments) or the row (local size, subgroup use). */
ds4_status ds4_vk_row_check(const ds4_vk_row *row, const ds4_vk_reflection *r, ds4_err *err);

/* Why the device cannot run a row with this module, static text; NULL: it can. */
const char *ds4_vk_row_unfit(const ds4_vk_device *d, const ds4_vk_row *row,
                             const ds4_vk_reflection *r);

/* The device's cooperative matrix for a row that needs one; NULL: it has none, or needs none.
 */
const ds4_vk_shape *ds4_vk_row_shape(const ds4_vk_device *d, const ds4_vk_row *row);

typedef struct ds4_vk_kernels ds4_vk_kernels;

/* Reflects and checks the whole manifest. cache_dir: see ds4_vk_options. Owns: the caller frees
 * *out, before the device. */
ds4_status ds4_vk_kernels_new(ds4_vk_kernels **out, ds4_vk_device *d, ds4_vk_graph *g,
                              const char *cache_dir, ds4_err *err);
void ds4_vk_kernels_free(ds4_vk_kernels *k);

uint32_t ds4_vk_kernels_n_row(const ds4_vk_kernels *k, ds4_op op);
const ds4_vk_row *ds4_vk_kernels_row(const ds4_vk_kernels *k, ds4_op op, uint32_t i);

/* Static text that says why row i of an op cannot execute the call, or NULL. */
const char *ds4_vk_kernels_refuses(const ds4_vk_kernels *k, const ds4_call *c, uint32_t i);

/* The cooperative matrix of row i of an op; NULL: it has none. */
const ds4_vk_shape *ds4_vk_kernels_shape(const ds4_vk_kernels *k, ds4_op op, uint32_t i);

/* Has a pipeline been made of any row with this cooperative matrix? */
bool ds4_vk_kernels_has_used(const ds4_vk_kernels *k, const ds4_vk_shape *shape);

/* The pipeline of a call, or of the dispatch of it whose first group is base (x, y); made on
 * first use. */
ds4_status ds4_vk_kernels_pipeline(ds4_vk_kernels *k, const ds4_call *c, uint32_t i,
                                   const uint32_t base[2], VkPipeline *out, ds4_err *err);

/* What making pipelines has taken so far. */
ds4_vk_built ds4_vk_kernels_built(const ds4_vk_kernels *k);

/* Fused rows by their number (vk_fused.h): the row of the kernel, NULL if there is none; a
 * static text that says why the calls cannot run by it, or NULL; its pipeline for calls that it
 * accepts. */
const ds4_vk_row *ds4_vk_kernels_fused(const ds4_vk_kernels *k, uint32_t fused);
const char *ds4_vk_kernels_refuses_fused(const ds4_vk_kernels *k, uint32_t fused,
                                         const ds4_call *const *c, uint32_t n);
ds4_status ds4_vk_kernels_fused_pipeline(ds4_vk_kernels *k, uint32_t fused,
                                         const ds4_call *const *c, uint32_t n,
                                         const uint32_t base[2], VkPipeline *out, ds4_err *err);

/* What ds4_vk_cache_text says of the file. */
const char *ds4_vk_kernels_cache(ds4_vk_kernels *k);

/* "spirv.<op>__<row>" (with ".safe" appended for the SAFE build) and the 128-bit xxh3 of its
 * bytes, for the i-th module that a pipeline was made of, or of all. */
bool ds4_vk_kernels_fact(const ds4_vk_kernels *k, uint32_t i, bool all, const char **key,
                         const char **value);

#endif
