#include "engine/vk/vk_kernel.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "engine/base/mem.h"
#include "engine/ops/ops.h"
#include "engine/variants.h"
#include "engine/vk/vk_cache.h"
#include "engine/vk/vk_fused.h"

/* The symbols are defined by the assembly file that kernels.mk writes. */
#define KERNEL(op, row, ...)                                                                   \
    extern const uint32_t ds4_spv_##op##__##row[], ds4_spv_##op##__##row##_end[];              \
    extern const uint32_t ds4_spv_safe_##op##__##row[], ds4_spv_safe_##op##__##row##_end[];
#include "kernels/kernels.def"
#undef KERNEL
#define FUSED(row, ...)                                                                        \
    extern const uint32_t ds4_spv_fused__##row[], ds4_spv_fused__##row##_end[];                \
    extern const uint32_t ds4_spv_safe_fused__##row[], ds4_spv_safe_fused__##row##_end[];
#define MEMBER(...)
#include "kernels/fused.def"
#undef FUSED
#undef MEMBER

#define NEED_SUBGROUP DS4_VK_NEED_SUBGROUP
#define NEED_TENSOR DS4_VK_NEED_TENSOR
#define NEED_COOPMAT DS4_VK_NEED_COOPMAT
#define NEED_F16_SUM DS4_VK_NEED_F16_SUM
#define NEED_DOT DS4_VK_NEED_DOT
#define V(id) DS4_VARIANT_BIT(id)
#define BOUND_EXACT "exact"
#define BOUND_ULP(n) "ULP(" #n ")"
#define BOUND_NRMSE(x) "NRMSE(" #x ")"

static const ds4_vk_row row_table[] = {
#define KERNEL(stem, row, source, flags, x, y, px, py, need, tok, bnd, why, vars)              \
    {.op = DS4_OP_##stem,                                                                      \
     .name = #stem "__" #row,                                                                  \
     .info = {.name = #row,                                                                    \
              .cause = #why,                                                                   \
              .bound = BOUND_##bnd,                                                            \
              .per = {(px), (py)},                                                             \
              .lanes = (x) * (y),                                                              \
              .min_tok = (tok)},                                                               \
     .code = {ds4_spv_##stem##__##row, ds4_spv_safe_##stem##__##row},                          \
     .code_end = {ds4_spv_##stem##__##row##_end, ds4_spv_safe_##stem##__##row##_end},          \
     .lx = (x),                                                                                \
     .ly = (y),                                                                                \
     .per_x = (px),                                                                            \
     .per_y = (py),                                                                            \
     .needs = (need),                                                                          \
     .variants = (vars),                                                                       \
     .min_tok = (tok),                                                                         \
     .min_tok_text = "fewer tokens than the row needs (" #tok ")"},
#include "kernels/kernels.def"
#undef KERNEL
#define FUSED(row, source, flags, x, y, px, py, need, wiring)                                  \
    {.op = (ds4_op)(DS4_OP_COUNT + DS4_VK_FUSED_##row),                                        \
     .name = "fused__" #row,                                                                   \
     .info = {.name = #row},                                                                   \
     .code = {ds4_spv_fused__##row, ds4_spv_safe_fused__##row},                                \
     .code_end = {ds4_spv_fused__##row##_end, ds4_spv_safe_fused__##row##_end},                \
     .lx = (x),                                                                                \
     .ly = (y),                                                                                \
     .per_x = (px),                                                                            \
     .per_y = (py),                                                                            \
     .needs = (need)},
#define MEMBER(row, stem, n, bnd, why, vars)                                                   \
    {.op = DS4_OP_##stem,                                                                      \
     .name = #stem "__" #row,                                                                  \
     .info = {.name = #row, .cause = #why, .bound = BOUND_##bnd},                              \
     .variants = (vars)},
#include "kernels/fused.def"
#undef FUSED
#undef MEMBER
};

const ds4_vk_row *ds4_vk_row_table(size_t *n) {
    *n = sizeof row_table / sizeof *row_table;
    return row_table;
}

const char *ds4_vk_row_left_out(const ds4_vk_row *row) {
    const bool coop = (row->needs & DS4_VK_NEED_COOPMAT) != 0;
    if (row->code[0] && row->code[0] == row->code_end[0])
        return coop ? "left out of this build: glslc lacks cooperative matrices"
                    : "left out of this build: glslc lacks integer dot products";
#ifndef VK_KHR_cooperative_matrix
    if (coop) return "left out of this build: the Vulkan headers lack cooperative matrices";
#endif
    return NULL;
}

const char *ds4_vk_left_out(uint32_t i, const char **reason) {
    for (size_t j = 0; j < sizeof row_table / sizeof *row_table; j++)
        if ((*reason = ds4_vk_row_left_out(&row_table[j])) && i-- == 0)
            return row_table[j].name;
    return NULL;
}

/* Numbers of the SPIR-V specification that reflection meets. */
enum {
    SPV_MAGIC = 0x07230203,
    SPV_ENTRY_POINT = 15,
    SPV_EXECUTION_MODE = 16,
    SPV_CAPABILITY = 17,
    SPV_TYPE_BOOL = 20,
    SPV_TYPE_INT = 21,
    SPV_TYPE_FLOAT = 22,
    SPV_TYPE_VECTOR = 23,
    SPV_TYPE_MATRIX = 24,
    SPV_TYPE_ARRAY = 28,
    SPV_TYPE_STRUCT = 30,
    SPV_TYPE_POINTER = 32,
    SPV_CONSTANT = 43,
    SPV_CONSTANT_COMPOSITE = 44,
    SPV_SPEC_CONSTANT_TRUE = 48,
    SPV_SPEC_CONSTANT_FALSE = 49,
    SPV_SPEC_CONSTANT = 50,
    SPV_SPEC_CONSTANT_COMPOSITE = 51,
    SPV_FUNCTION = 54,
    SPV_VARIABLE = 59,
    SPV_DECORATE = 71,
    SPV_MEMBER_DECORATE = 72,
    SPV_MODEL_GLCOMPUTE = 5,
    SPV_MODE_LOCAL_SIZE = 17,
    SPV_DECO_SPEC_ID = 1,
    SPV_DECO_ARRAY_STRIDE = 6,
    SPV_DECO_BUILTIN = 11,
    SPV_DECO_BINDING = 33,
    SPV_DECO_SET = 34,
    SPV_DECO_OFFSET = 35,
    SPV_BUILTIN_WORKGROUP_SIZE = 25,
    SPV_CLASS_UNIFORM_CONSTANT = 0,
    SPV_CLASS_UNIFORM = 2,
    SPV_CLASS_WORKGROUP = 4,
    SPV_CLASS_PUSH_CONSTANT = 9,
    SPV_CLASS_STORAGE_BUFFER = 12
};

#define NONE_U32 UINT32_MAX

struct id {
    uint32_t at; /* word of the instruction that defines it; 0: not yet */
    uint32_t set, binding, spec_id, stride; /* NONE_U32: not decorated */
    bool workgroup_size;
};

struct module {
    const char *name;
    const uint32_t *word;
    uint32_t n_word, n_id;
    const uint32_t *local;
    struct id *id;
};

static uint32_t op_at(const struct module *m, uint32_t at) { return m->word[at] & 0xffffu; }
static uint32_t len_at(const struct module *m, uint32_t at) { return m->word[at] >> 16; }

/* Operand k of the instruction that defines an id; 0 when there is none. */
static uint32_t operand(const struct module *m, uint32_t id, uint32_t k) {
    uint32_t at = id < m->n_id ? m->id[id].at : 0;
    return at && k < len_at(m, at) ? m->word[at + k] : 0;
}

static uint32_t opcode(const struct module *m, uint32_t id) {
    return id < m->n_id && m->id[id].at ? op_at(m, m->id[id].at) : 0;
}

/* The value of an integer constant, 0 when it takes arithmetic to know. */
static uint32_t constant(const struct module *m, uint32_t id) {
    uint32_t op = opcode(m, id);
    if (op == SPV_SPEC_CONSTANT && m->id[id].spec_id < 3) return m->local[m->id[id].spec_id];
    return op == SPV_CONSTANT || op == SPV_SPEC_CONSTANT ? operand(m, id, 3) : 0;
}

/* Offset of a struct member, or NONE_U32 when the layout is the compiler's. */
static uint32_t member_offset(const struct module *m, uint32_t id, uint32_t member) {
    for (uint32_t at = 5; at < m->n_word && op_at(m, at) != SPV_FUNCTION; at += len_at(m, at))
        if (op_at(m, at) == SPV_MEMBER_DECORATE && len_at(m, at) == 5 &&
            m->word[at + 1] == id && m->word[at + 2] == member &&
            m->word[at + 3] == SPV_DECO_OFFSET)
            return m->word[at + 4];
    return NONE_U32;
}

/* Bytes of a type; 0 for what has no known size. depth bounds a module that refers to itself.
 */
static uint32_t type_bytes(const struct module *m, uint32_t id, uint32_t depth) {
    uint32_t sum = 0;
    if (depth == 8) return 0;
    switch (opcode(m, id)) {
    case SPV_TYPE_BOOL:
        return 4;
    case SPV_TYPE_INT:
    case SPV_TYPE_FLOAT:
        return operand(m, id, 2) / 8;
    case SPV_TYPE_VECTOR:
    case SPV_TYPE_MATRIX:
        return operand(m, id, 3) * type_bytes(m, operand(m, id, 2), depth + 1);
    case SPV_TYPE_ARRAY: {
        uint32_t each = m->id[id].stride;
        if (each == NONE_U32) each = type_bytes(m, operand(m, id, 2), depth + 1);
        return each * constant(m, operand(m, id, 3));
    }
    case SPV_TYPE_STRUCT:
        for (uint32_t i = 0; i + 2 < len_at(m, m->id[id].at); i++) {
            uint32_t offset = member_offset(m, id, i);
            sum = (offset == NONE_U32 ? sum : offset) +
                  type_bytes(m, operand(m, id, i + 2), depth + 1);
        }
        return sum;
    default:
        return 0;
    }
}

static void decorate(struct module *m, uint32_t at) {
    uint32_t len = len_at(m, at), target = len > 2 ? m->word[at + 1] : NONE_U32;
    uint32_t value = len > 3 ? m->word[at + 3] : 0;
    if (target >= m->n_id) return;
    switch (m->word[at + 2]) {
    case SPV_DECO_SPEC_ID:
        m->id[target].spec_id = value;
        break;
    case SPV_DECO_ARRAY_STRIDE:
        m->id[target].stride = value;
        break;
    case SPV_DECO_BINDING:
        m->id[target].binding = value;
        break;
    case SPV_DECO_SET:
        m->id[target].set = value;
        break;
    case SPV_DECO_BUILTIN:
        m->id[target].workgroup_size |= value == SPV_BUILTIN_WORKGROUP_SIZE;
        break;
    default:
        break;
    }
}

static ds4_status add_capability(const struct module *m, ds4_vk_reflection *r, uint32_t number,
                                 ds4_err *err) {
    static const uint32_t known[] = {
#define CAP(id, n, text) n,
        DS4_VK_CAPS(CAP)
#undef CAP
    };
    for (uint32_t i = 0; i < DS4_VK_CAP_COUNT; i++)
        if (known[i] == number) return r->caps |= 1u << i, DS4_OK;
    return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE,
                       "%s: SPIR-V capability %u is not in vk_device.h", m->name, number);
}

/* Where ids are defined, what decorates them, the fixed local size and the capabilities. */
static ds4_status scan(struct module *m, ds4_vk_reflection *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    bool compute = false;

    for (uint32_t at = 5, len; at < m->n_word && op_at(m, at) != SPV_FUNCTION; at += len) {
        const uint32_t *w = m->word + at;
        uint32_t op = op_at(m, at), id = 0;
        len = len_at(m, at);
        if (len == 0 || len > m->n_word - at)
            RAISE(DS4_ERR_INTERNAL, "%s: SPIR-V broken at word %u", m->name, at);
        if (op == SPV_CAPABILITY && len == 2) TRY(add_capability(m, r, w[1], err));
        if (op == SPV_ENTRY_POINT && len > 3) compute |= w[1] == SPV_MODEL_GLCOMPUTE;
        if (op == SPV_EXECUTION_MODE && len == 6 && w[2] == SPV_MODE_LOCAL_SIZE)
            memcpy(r->local, w + 3, sizeof r->local);
        if (op == SPV_DECORATE) decorate(m, at);
        if (op >= SPV_TYPE_BOOL && op <= SPV_TYPE_POINTER && len > 1) id = w[1];
        if (op > SPV_TYPE_POINTER && op <= SPV_VARIABLE && len > 2) id = w[2];
        if (id && id < m->n_id) m->id[id].at = at;
    }
    if (!compute) RAISE(DS4_ERR_INTERNAL, "%s: no compute entry point", m->name);
out:
    return st;
}

static ds4_status reflect_variable(const struct module *m, uint32_t id, ds4_vk_reflection *r,
                                   ds4_err *err) {
    uint32_t pointee = operand(m, operand(m, id, 1), 3);
    const struct id *v = &m->id[id];
    switch (operand(m, id, 3)) {
    case SPV_CLASS_STORAGE_BUFFER:
        if (v->set != 0 || v->binding >= 32)
            return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE,
                               "%s: a buffer at set %d, binding %d; wanted set 0", m->name,
                               (int)v->set, (int)v->binding);
        r->bindings |= 1u << v->binding;
        return DS4_OK;
    case SPV_CLASS_UNIFORM:
        if (v->set != 1 || v->binding != 0)
            return ds4_err_set(
                err, DS4_ERR_INTERNAL, DS4_HERE,
                "%s: a uniform block at set %d, binding %d; wanted the arguments "
                "at set 1, binding 0",
                m->name, (int)v->set, (int)v->binding);
        r->args_bytes = type_bytes(m, pointee, 0);
        return DS4_OK;
    case SPV_CLASS_UNIFORM_CONSTANT:
    case SPV_CLASS_PUSH_CONSTANT:
        return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE,
                           "%s: neither a buffer nor the arguments", m->name);
    case SPV_CLASS_WORKGROUP:
        r->shared_bytes += type_bytes(m, pointee, 0);
        return DS4_OK;
    default:
        return DS4_OK;
    }
}

/* Dimension d is free when constant id d sets it, else fixed. */
static void reflect_local(const struct module *m, uint32_t composite, ds4_vk_reflection *r) {
    for (uint32_t d = 0; d < 3; d++) {
        uint32_t id = operand(m, composite, 3 + d);
        bool is_free = opcode(m, id) == SPV_SPEC_CONSTANT && m->id[id].spec_id == d;
        r->local[d] = is_free ? 0 : operand(m, id, 3);
    }
}

ds4_status ds4_vk_reflect(ds4_vk_reflection *out, const uint32_t *word, size_t n_word,
                          const uint32_t local[3], const char *name, ds4_err *err) {
    ds4_status st = DS4_OK;
    struct module m = {.name = name, .word = word, .n_word = (uint32_t)n_word, .local = local};
    ds4_vk_reflection r = {0};

    if (n_word < 5 || n_word > UINT32_MAX / 4 || word[0] != SPV_MAGIC || word[3] > n_word)
        RAISE(DS4_ERR_INTERNAL, "%s: %zu words that are no SPIR-V module", name, n_word);
    m.n_id = word[3];
    TRY(ds4_mem_alloc(&m.id, m.n_id, sizeof *m.id, err));
    for (uint32_t i = 0; i < m.n_id; i++)
        m.id[i].set = m.id[i].binding = m.id[i].spec_id = m.id[i].stride = NONE_U32;
    TRY(scan(&m, &r, err));
    for (uint32_t i = 0; i < m.n_id; i++) {
        uint32_t op = opcode(&m, i);
        if (op == SPV_VARIABLE) TRY(reflect_variable(&m, i, &r, err));
        if (m.id[i].workgroup_size &&
            (op == SPV_CONSTANT_COMPOSITE || op == SPV_SPEC_CONSTANT_COMPOSITE))
            reflect_local(&m, i, &r);
        if (op >= SPV_SPEC_CONSTANT_TRUE && op <= SPV_SPEC_CONSTANT && m.id[i].spec_id < 32)
            r.spec_ids |= 1u << m.id[i].spec_id;
    }
    *out = r;
out:
    ds4_mem_free(m.id);
    return st;
}

ds4_status ds4_vk_row_check(const ds4_vk_row *row, const ds4_vk_reflection *r, ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t fused = (uint32_t)row->op - DS4_OP_COUNT; /* of a fused row */
    const bool alone = row->op < DS4_OP_COUNT;
    const ds4_op_info *op = alone ? &ds4_op_table[row->op] : NULL;
    const uint32_t n_bind = op ? op->n_in + 1 : ds4_vk_fused_n_bind(fused);
    const uint32_t want = (1u << n_bind) - 1u;
    const uint32_t may_miss = op && op->scratch >= 0 ? 1u << op->scratch : 0;
    const size_t args_bytes =
        op ? ds4_op_args_bytes(row->op) : ds4_vk_fused_args_at(fused, DS4_MAX_FUSED);
    const uint32_t local[3] = {row->lx, row->ly, 1};

    if ((r->bindings & ~want) || (want & ~r->bindings & ~may_miss))
        RAISE(DS4_ERR_INTERNAL, "%s: the module binds buffers 0x%x, ops.def wants 0x%x",
              row->name, r->bindings, want);
    if (r->args_bytes != args_bytes)
        RAISE(DS4_ERR_INTERNAL, "%s: the module takes %u bytes of arguments, args.h has %zu",
              row->name, r->args_bytes, args_bytes);
    for (uint32_t d = 0; d < 3; d++)
        if (r->local[d] && r->local[d] != local[d])
            RAISE(DS4_ERR_INTERNAL, "%s: local size %u in dimension %u, the manifest has %u",
                  row->name, r->local[d], d, local[d]);
    if (row->lx == 0 || row->ly == 0 || row->per_x == 0 || row->per_y == 0)
        RAISE(DS4_ERR_INTERNAL, "%s: a size of zero in the manifest", row->name);
    if ((r->caps & DS4_VK_CAP_SUBGROUP) && !(row->needs & DS4_VK_NEED_SUBGROUP))
        RAISE(DS4_ERR_INTERNAL, "%s: the module uses subgroups, the manifest does not say so",
              row->name);
out:
    return st;
}

/* ---- Pipelines ---- */

struct pipeline {
    uint32_t wtype, variants, base[2];
    VkPipeline handle;
};

struct build {
    VkShaderModule module; /* made with the first pipeline */
    char key[64], digest[33];
};

struct kernel {
    ds4_vk_row row; /* info.variants completed */
    ds4_vk_reflection reflection;
    const char *unfit; /* static text, NULL when the device can run it */
    struct build build[2];
    struct pipeline *pipeline;
    uint32_t n_pipeline;
};

/* Ops, then fused rows. */
enum { N_KIND = DS4_OP_COUNT + DS4_VK_FUSED_COUNT };

struct ds4_vk_kernels {
    ds4_vk_device *d;
    ds4_vk_graph *g;
    ds4_vk_cache cache;
    struct kernel *kernel; /* those of one op together, in manifest order */
    uint32_t n_kernel, op_begin[N_KIND + 1];
    bool one_dimension[DS4_OP_COUNT]; /* the op's grid is x alone */
    ds4_vk_built built;
};

static size_t code_words(const ds4_vk_row *row, uint32_t safe) {
    return ((uintptr_t)row->code_end[safe] - (uintptr_t)row->code[safe]) / sizeof(uint32_t);
}

const ds4_vk_shape *ds4_vk_row_shape(const ds4_vk_device *d, const ds4_vk_row *row) {
    bool f16 = (row->needs & DS4_VK_NEED_F16_SUM) != 0;
    if (!(row->needs & DS4_VK_NEED_COOPMAT)) return NULL;
    return ds4_vk_coop_find(&d->coop, f16 ? DS4_VK_COOP_F16 : DS4_VK_COOP_F32);
}

const char *ds4_vk_row_unfit(const ds4_vk_device *d, const ds4_vk_row *row,
                             const ds4_vk_reflection *r) {
    static const char *const text[] = {
#define CAP(id, number, lack) "the device lacks " lack,
        DS4_VK_CAPS(CAP)
#undef CAP
    };
    const uint32_t sg = DS4_VK_CAP_BIT(SG_BASIC) | DS4_VK_CAP_BIT(SG_ARITHMETIC);
    uint32_t want = r->caps | (row->needs & DS4_VK_NEED_SUBGROUP ? sg : 0);
    for (uint32_t i = 0; i < DS4_VK_CAP_COUNT; i++)
        if (want & ~d->caps & 1u << i) return text[i];
    if ((row->needs & DS4_VK_NEED_COOPMAT) && !ds4_vk_row_shape(d, row))
        return row->needs & DS4_VK_NEED_F16_SUM
                   ? "the device has no cooperative matrix of f16 operands and f16 sums that "
                     "divides the tile of 64 x 32 x 32"
                   : "the device has no cooperative matrix of f16 operands and f32 sums that "
                     "divides the tile of 64 x 32 x 32";
    if ((row->needs & DS4_VK_NEED_COOPMAT) && (!d->subgroup || row->lx % d->subgroup))
        return "the workgroup is no multiple of the device's subgroup";
    if ((uint64_t)row->lx * row->ly > d->limits.maxComputeWorkGroupInvocations ||
        row->lx > d->limits.maxComputeWorkGroupSize[0] ||
        row->ly > d->limits.maxComputeWorkGroupSize[1])
        return "the workgroup is larger than the device allows";
    if (r->shared_bytes > d->limits.maxComputeSharedMemorySize)
        return "the device has less shared memory than the row needs";
    return NULL;
}

static void build_init(struct build *b, const ds4_vk_row *row, uint32_t safe) {
    XXH128_hash_t h = XXH3_128bits(row->code[safe], code_words(row, safe) * sizeof(uint32_t));
    snprintf(b->key, sizeof b->key, "spirv.%s%s", row->name, safe ? ".safe" : "");
    snprintf(b->digest, sizeof b->digest, "%016llx%016llx", (unsigned long long)h.high64,
             (unsigned long long)h.low64);
}

/* Both builds are checked; what they need is joined. */
static ds4_status kernel_init(const ds4_vk_kernels *k, struct kernel *n, const ds4_vk_row *row,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t local[3] = {row->lx, row->ly, 1};
    const bool strict = !strcmp(row->info.name, "strict");

    n->row = *row;
    n->row.info.tensor = (row->needs & DS4_VK_NEED_TENSOR) != 0;
    n->row.info.variants = row->variants | (strict ? 0 : DS4_VARIANT_BIT(SAFE_MATH)) |
                           (n->row.info.tensor ? DS4_VARIANT_BIT(TENSOR_MATMUL_DISABLE) : 0);
    if (!row->code[0]) { /* its kernel is that of the fused row */
        n->row.info.lacks = n->unfit =
            "a fused row runs with all calls of its group, not alone";
        goto out;
    }
    n->unfit = ds4_vk_row_left_out(row);
    for (uint32_t safe = 0; safe < 2 && code_words(row, safe); safe++) {
        ds4_vk_reflection r;
        TRY(ds4_vk_reflect(&r, row->code[safe], code_words(row, safe), local, row->name, err));
        TRY(ds4_vk_row_check(row, &r, err));
        if (!n->unfit) n->unfit = ds4_vk_row_unfit(k->d, row, &r);
        n->reflection.spec_ids |= r.spec_ids;
        build_init(&n->build[safe], row, safe);
    }
    n->row.info.lacks = n->unfit;
    if (strict && n->unfit)
        RAISE(DS4_ERR_ENVIRONMENT, "%s cannot run %s: %s", k->d->info.fact[0].value, row->name,
              n->unfit);
out:
    return st;
}

/* Asks the op for the grid of arguments that are 2 throughout: an op whose grid is then flat
 * has one dimension whatever its arguments are. */
static bool has_one_dimension(ds4_op op) {
    uint32_t args[32], grid[3] = {0, 0, 0};
    for (uint32_t i = 0; i < 32; i++) args[i] = 2;
    ds4_op_grid(op, args, grid);
    return grid[1] <= 1 && grid[2] <= 1;
}

/* Of the digests of every module. */
static void digest_modules(uint64_t out[2], const ds4_vk_kernels *k) {
    XXH3_state_t s;
    XXH3_128bits_reset(&s);
    for (uint32_t i = 0; i < k->n_kernel; i++)
        for (uint32_t safe = 0; safe < 2; safe++) {
            const char *digest = k->kernel[i].build[safe].digest;
            XXH3_128bits_update(&s, digest, strlen(digest));
        }
    XXH128_hash_t h = XXH3_128bits_digest(&s);
    out[0] = h.high64, out[1] = h.low64;
}

ds4_status ds4_vk_kernels_new(ds4_vk_kernels **out, ds4_vk_device *d, ds4_vk_graph *g,
                              const char *cache_dir, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_vk_kernels *k = NULL;
    size_t n_row;
    const ds4_vk_row *row = ds4_vk_row_table(&n_row);
    uint64_t modules[2];

    TRY(ds4_mem_alloc(&k, 1, sizeof *k, err));
    k->d = d, k->g = g;
    TRY(ds4_mem_alloc(&k->kernel, n_row, sizeof *k->kernel, err));
    for (uint32_t op = 0; op < N_KIND; op++) {
        if (op < DS4_OP_COUNT) k->one_dimension[op] = has_one_dimension((ds4_op)op);
        k->op_begin[op] = k->n_kernel;
        for (size_t i = 0; i < n_row; i++) {
            if ((uint32_t)row[i].op != op) continue;
            bool first = k->n_kernel == k->op_begin[op];
            if (op < DS4_OP_COUNT && first != !strcmp(row[i].info.name, "strict"))
                RAISE(DS4_ERR_INTERNAL, "kernels.def: %s: strict stands first and once",
                      row[i].name);
            TRY(kernel_init(k, &k->kernel[k->n_kernel], &row[i], err));
            k->n_kernel++;
        }
    }
    k->op_begin[N_KIND] = k->n_kernel;
    digest_modules(modules, k);
    TRY(ds4_vk_cache_init(&k->cache, d, cache_dir, modules, err));
    *out = k, k = NULL;
out:
    ds4_vk_kernels_free(k);
    return st;
}

void ds4_vk_kernels_free(ds4_vk_kernels *k) {
    if (!k) return;
    for (uint32_t i = 0; i < k->n_kernel; i++) {
        struct kernel *n = &k->kernel[i];
        for (uint32_t j = 0; j < n->n_pipeline; j++)
            vkDestroyPipeline(k->d->device, n->pipeline[j].handle, NULL);
        for (uint32_t j = 0; j < 2; j++)
            vkDestroyShaderModule(k->d->device, n->build[j].module, NULL);
        ds4_mem_free(n->pipeline);
    }
    ds4_vk_cache_fini(&k->cache);
    ds4_mem_free(k->kernel);
    ds4_mem_free(k);
}

uint32_t ds4_vk_kernels_n_row(const ds4_vk_kernels *k, ds4_op op) {
    return (uint32_t)op < N_KIND ? k->op_begin[op + 1] - k->op_begin[op] : 0;
}

static struct kernel *find(const ds4_vk_kernels *k, ds4_op op, uint32_t i) {
    return i < ds4_vk_kernels_n_row(k, op) ? &k->kernel[k->op_begin[op] + i] : NULL;
}

const ds4_vk_row *ds4_vk_kernels_row(const ds4_vk_kernels *k, ds4_op op, uint32_t i) {
    const struct kernel *n = find(k, op, i);
    return n ? &n->row : NULL;
}

static const char split_text[] = "more workgroups than one dispatch of the device takes";

/* Whether the grid needs several dispatches, and the module cannot begin but at group 0. */
static bool must_split(const ds4_vk_kernels *k, const struct kernel *n,
                       const uint32_t grid[3]) {
    const uint32_t *most = k->d->limits.maxComputeWorkGroupCount;
    const uint32_t fixed[2] = {~n->reflection.spec_ids >> DS4_VK_SPEC_BASE_X & 1u,
                               ~n->reflection.spec_ids >> DS4_VK_SPEC_BASE_Y & 1u};
    return (fixed[0] && grid[0] > (uint64_t)most[0] * n->row.per_x) ||
           (fixed[1] && grid[1] > (uint64_t)most[1] * n->row.per_y) || grid[2] > most[2];
}

const char *ds4_vk_kernels_refuses(const ds4_vk_kernels *k, const ds4_call *c, uint32_t i) {
    const ds4_op op = ds4_tap_table[c->tap].op;
    const struct kernel *n = find(k, op, i);
    uint32_t grid[3];

    if (!n) return "no such row";
    if (n->unfit) return n->unfit;
    if (n->row.info.tensor && (c->variants & DS4_VARIANT_BIT(TENSOR_MATMUL_DISABLE)))
        return "DS4_TENSOR_MATMUL_DISABLE is on";
    ds4_op_grid(op, c->args, grid);
    if (must_split(k, n, grid)) return split_text;
    if (n->row.min_tok == 0) return NULL;
    return grid[k->one_dimension[op] ? 0 : 1] < n->row.min_tok ? n->row.min_tok_text : NULL;
}

const ds4_vk_shape *ds4_vk_kernels_shape(const ds4_vk_kernels *k, ds4_op op, uint32_t i) {
    const struct kernel *n = find(k, op, i);
    return n && !n->unfit ? ds4_vk_row_shape(k->d, &n->row) : NULL;
}

bool ds4_vk_kernels_has_used(const ds4_vk_kernels *k, const ds4_vk_shape *shape) {
    for (uint32_t i = 0; i < k->n_kernel; i++)
        if (k->kernel[i].n_pipeline && ds4_vk_row_shape(k->d, &k->kernel[i].row) == shape)
            return true;
    return false;
}

static ds4_status module_new(const ds4_vk_kernels *k, struct kernel *n, uint32_t safe,
                             ds4_err *err) {
    ds4_status st = DS4_OK;
    VkShaderModuleCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
                                     .codeSize = code_words(&n->row, safe) * sizeof(uint32_t),
                                     .pCode = n->row.code[safe]};
    if (!n->build[safe].module)
        TRYVK(n->row.name,
              vkCreateShaderModule(k->d->device, &info, NULL, &n->build[safe].module));
out:
    return st;
}

/* p: the key, whose handle is filled in. */
static ds4_status pipeline_new(const ds4_vk_kernels *k, struct kernel *n, struct pipeline *p,
                               ds4_err *err) {
    ds4_status st = DS4_OK;
    const uint32_t safe = p->variants & DS4_VARIANT_BIT(SAFE_MATH) ? 1 : 0;
    const ds4_vk_shape *shape = ds4_vk_row_shape(k->d, &n->row);
    const uint32_t value[DS4_VK_SPEC_COUNT] = {
        [DS4_VK_SPEC_X] = n->row.lx,
        [DS4_VK_SPEC_Y] = n->row.ly,
        [DS4_VK_SPEC_Z] = 1,
        [DS4_VK_SPEC_WTYPE] = p->wtype,
        [DS4_VK_SPEC_VARIANTS] = p->variants,
        [DS4_VK_SPEC_BASE_X] = p->base[0],
        [DS4_VK_SPEC_BASE_Y] = p->base[1],
        [DS4_VK_SPEC_M] = shape ? shape->m : 0,
        [DS4_VK_SPEC_N] = shape ? shape->n : 0,
        [DS4_VK_SPEC_K] = shape ? shape->k : 0,
        [DS4_VK_SPEC_SUBGROUP] = k->d->subgroup,
    };
    VkSpecializationMapEntry entry[DS4_VK_SPEC_COUNT];
    VkSpecializationInfo special = {DS4_VK_SPEC_COUNT, entry, sizeof value, value};
    VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .pName = "main",
                  .pSpecializationInfo = &special},
        .layout = ds4_vk_graph_layout(k->g)};

    /* Also those that the module lacks: validation layers (1.4.309) take the id of a matrix's
     * size for its place among the entries. */
    for (uint32_t i = 0; i < DS4_VK_SPEC_COUNT; i++)
        entry[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof *value, sizeof *value};
    TRY(module_new(k, n, safe, err));
    info.stage.module = n->build[safe].module;
    TRYVK(n->row.name,
          vkCreateComputePipelines(k->d->device, k->cache.handle, 1, &info, NULL, &p->handle));
out:
    return st;
}

static double now_s(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* variants: those that the row honours. */
static ds4_status pipeline_of(ds4_vk_kernels *k, struct kernel *n, uint32_t wtype,
                              uint32_t variants, const uint32_t base[2], VkPipeline *out,
                              ds4_err *err) {
    ds4_status st = DS4_OK;
    struct pipeline p = {.base = {base[0], base[1]}, .variants = variants};

    /* What the module does not read makes no pipeline of its own. */
    if (n->reflection.spec_ids >> DS4_VK_SPEC_WTYPE & 1u) p.wtype = wtype;
    if (!(n->reflection.spec_ids >> DS4_VK_SPEC_VARIANTS & 1u))
        p.variants &= DS4_VARIANT_BIT(SAFE_MATH);
    for (uint32_t j = 0; j < n->n_pipeline; j++) {
        const struct pipeline *have = &n->pipeline[j];
        if (have->wtype != p.wtype || have->variants != p.variants ||
            memcmp(have->base, p.base, sizeof p.base))
            continue;
        *out = have->handle;
        goto out;
    }
    TRY(ds4_mem_grow(&n->pipeline, n->n_pipeline + 1, sizeof *n->pipeline, err));
    double t0 = now_s();
    TRY(pipeline_new(k, n, &p, err));
    k->built.n++, k->built.s += now_s() - t0;
    n->pipeline[n->n_pipeline++] = p;
    *out = p.handle;
out:
    return st;
}

ds4_status ds4_vk_kernels_pipeline(ds4_vk_kernels *k, const ds4_call *c, uint32_t i,
                                   const uint32_t base[2], VkPipeline *out, ds4_err *err) {
    struct kernel *n = find(k, ds4_tap_table[c->tap].op, i);
    if (!n)
        return ds4_err_set(err, DS4_ERR_INTERNAL, DS4_HERE, "%s: no kernel row %u",
                           ds4_tap_table[c->tap].name, i);
    return pipeline_of(k, n, c->wtype, c->variants & n->row.info.variants, base, out, err);
}

static struct kernel *find_fused(const ds4_vk_kernels *k, uint32_t fused) {
    return find(k, (ds4_op)(DS4_OP_COUNT + fused), 0);
}

const ds4_vk_row *ds4_vk_kernels_fused(const ds4_vk_kernels *k, uint32_t fused) {
    const struct kernel *n = find_fused(k, fused);
    return n ? &n->row : NULL;
}

const char *ds4_vk_kernels_refuses_fused(const ds4_vk_kernels *k, uint32_t fused,
                                         const ds4_call *const *c, uint32_t n) {
    const struct kernel *kernel = find_fused(k, fused);
    const char *why;
    uint32_t grid[3];

    if (!kernel) return "no such row";
    if (kernel->unfit) return kernel->unfit;
    if ((why = ds4_vk_fused_refuses(fused, c, n))) return why;
    ds4_op_grid(ds4_tap_table[c[n - 1]->tap].op, c[n - 1]->args, grid);
    return must_split(k, kernel, grid) ? split_text : NULL;
}

/* The variants that the fused row's member of this call's op honours. */
static uint32_t member_variants(const ds4_vk_kernels *k, const char *name, const ds4_call *c) {
    ds4_op op = ds4_tap_table[c->tap].op;
    for (uint32_t i = 0; i < ds4_vk_kernels_n_row(k, op); i++) {
        const ds4_row_info *info = &find(k, op, i)->row.info;
        if (!strcmp(info->name, name)) return c->variants & info->variants;
    }
    return 0;
}

ds4_status ds4_vk_kernels_fused_pipeline(ds4_vk_kernels *k, uint32_t fused,
                                         const ds4_call *const *c, uint32_t n,
                                         const uint32_t base[2], VkPipeline *out,
                                         ds4_err *err) {
    struct kernel *kernel = find_fused(k, fused);
    uint32_t variants = 0;
    for (uint32_t i = 0; i < n; i++)
        variants |= member_variants(k, kernel->row.info.name, c[i]);
    return pipeline_of(k, kernel, c[0]->wtype, variants, base, out, err);
}

ds4_vk_built ds4_vk_kernels_built(const ds4_vk_kernels *k) { return k->built; }

const char *ds4_vk_kernels_cache(ds4_vk_kernels *k) { return ds4_vk_cache_text(&k->cache); }

bool ds4_vk_kernels_fact(const ds4_vk_kernels *k, uint32_t i, bool all, const char **key,
                         const char **value) {
    for (uint32_t j = 0; j < k->n_kernel; j++)
        for (uint32_t safe = 0; safe < 2; safe++) {
            const struct build *b = &k->kernel[j].build[safe];
            const ds4_vk_row *r = &k->kernel[j].row;
            bool own = code_words(r, safe) && !(safe && r->code[0] == r->code[1]);
            if (!(b->module || (all && own)) || i-- > 0) continue;
            *key = b->key, *value = b->digest;
            return true;
        }
    return false;
}
