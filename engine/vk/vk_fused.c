#include "engine/vk/vk_fused.h"

#include <string.h>

#include "engine/ops/ops.h"
#include "engine/variants.h"

static const struct {
    const char *name, *wiring;
} fused_table[] = {
#define FUSED(row, source, flags, lx, ly, px, py, needs, wiring) {#row, wiring},
#define MEMBER(...)
#include "kernels/fused.def"
#undef FUSED
#undef MEMBER
};

/* n calls of an op. */
static const struct {
    uint32_t fused, n;
    ds4_op op;
} member_table[] = {
#define FUSED(...)
#define MEMBER(row, op, n, ...) {DS4_VK_FUSED_##row, n, DS4_OP_##op},
#include "kernels/fused.def"
#undef FUSED
#undef MEMBER
};

uint32_t ds4_vk_fused_find(const char *name) {
    uint32_t i = 0;
    while (i < DS4_VK_FUSED_COUNT && strcmp(fused_table[i].name, name)) i++;
    return i;
}

ds4_op ds4_vk_fused_op(uint32_t fused, uint32_t i) {
    for (size_t m = 0; m < sizeof member_table / sizeof *member_table; m++) {
        if (member_table[m].fused != fused) continue;
        if (i < member_table[m].n) return member_table[m].op;
        i -= member_table[m].n;
    }
    return DS4_OP_COUNT;
}

int ds4_vk_fused_wire(uint32_t fused, uint32_t i, uint32_t b) {
    const char *word = fused_table[fused].wiring;
    for (; i > 0; i--) word = strchr(word, ' ') + 1;
    return word[b] == '-' ? -1 : word[b] - '0';
}

uint32_t ds4_vk_fused_n_bind(uint32_t fused) {
    uint32_t n = 0;
    for (const char *p = fused_table[fused].wiring; *p; p++)
        if (*p >= '0' && (uint32_t)(*p - '0') >= n) n = (uint32_t)(*p - '0') + 1;
    return n;
}

uint32_t ds4_vk_fused_args_at(uint32_t fused, uint32_t i) {
    uint32_t at = 0, end = 0;
    for (uint32_t k = 0; ds4_vk_fused_op(fused, k) != DS4_OP_COUNT; k++) {
        if (k == i) return at;
        end = at + (uint32_t)ds4_op_args_bytes(ds4_vk_fused_op(fused, k));
        at = (end + 15) & ~15u;
    }
    return end;
}

/* Whether bindings that share one of the kernel's are one buffer. */
static bool is_wired(uint32_t fused, const ds4_call *const *c, uint32_t n) {
    ds4_buf *buf[DS4_MAX_BIND];
    bool known[DS4_MAX_BIND] = {false};
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t b = 0; b < c[i]->n_bind; b++) {
            int k = ds4_vk_fused_wire(fused, i, b);
            if (k < 0) continue;
            if (known[k] && buf[k] != c[i]->bind[b]) return false;
            known[k] = true, buf[k] = c[i]->bind[b];
        }
    return true;
}

const char *ds4_vk_fused_refuses(uint32_t fused, const ds4_call *const *c, uint32_t n) {
    const uint32_t safe = DS4_VARIANT_BIT(SAFE_MATH);
    for (uint32_t i = 0; i < n; i++) {
        ds4_op op = ds4_tap_table[c[i]->tap].op;
        if (op != ds4_vk_fused_op(fused, i)) return "not the calls of the fused row";
        if (op == ds4_tap_table[c[0]->tap].op && c[i]->wtype != c[0]->wtype)
            return "the weights of the fused calls have different formats";
        if ((c[i]->variants ^ c[0]->variants) & safe)
            return "DS4_SAFE_MATH is not alike for the fused calls";
    }
    if (ds4_vk_fused_op(fused, n) != DS4_OP_COUNT) return "not all calls of the fused row";
    if (!is_wired(fused, c, n)) return "the fused calls do not feed each other";
    return NULL;
}
