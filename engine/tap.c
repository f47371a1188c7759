#include "engine/tap.h"

#include <stddef.h>
#include <string.h>

const ds4_op_info ds4_op_table[DS4_OP_COUNT] = {
#define OP(stem, n_in, scratch, equation) {#stem, equation, n_in, scratch},
#include "engine/ops/ops.def"
#undef OP
};

const ds4_tap_info ds4_tap_table[DS4_TAP_COUNT] = {
#define TAP(name, op, route, level, type)                                                      \
    {#name, DS4_OP_##op, #route, DS4_TAP_##level, DS4_TYPE_##type},
#include "engine/taps.def"
#undef TAP
};

static const ds4_fusion fusion_table[] = {
#define FUSION(name, first, last)                                                              \
    {#name, DS4_TAP_##first, DS4_TAP_##last - DS4_TAP_##first + 1},
#include "engine/fusions.def"
#undef FUSION
};

#define FUSION(name, first, last)                                                              \
    _Static_assert(DS4_TAP_##first < DS4_TAP_##last &&                                         \
                       DS4_TAP_##last - DS4_TAP_##first < DS4_MAX_FUSED,                       \
                   #first);
#include "engine/fusions.def"
#undef FUSION

const ds4_fusion *ds4_fusion_at(ds4_tap first) {
    for (size_t i = 0; i < sizeof fusion_table / sizeof *fusion_table; i++)
        if (fusion_table[i].first == first) return &fusion_table[i];
    return NULL;
}

int ds4_op_find(const char *name) {
    for (int i = 0; i < DS4_OP_COUNT; i++)
        if (!strcmp(ds4_op_table[i].name, name)) return i;
    return -1;
}

int ds4_tap_find(const char *name) {
    for (int i = 0; i < DS4_TAP_COUNT; i++)
        if (!strcmp(ds4_tap_table[i].name, name)) return i;
    return -1;
}
