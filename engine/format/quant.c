#include "engine/format/quant.h"

#include <stddef.h>
#include <string.h>

static const ds4_quant quants[] = {
#define QUANT(NAME, id, text, elems, bytes, file) {id, text, elems, bytes, ds4_##file##_decode},
#include "engine/format/quants.def"
#undef QUANT
};
enum { N_QUANT = sizeof quants / sizeof *quants };

const ds4_quant *ds4_quant_by_id(uint32_t id) {
    for (size_t i = 0; i < N_QUANT; i++)
        if (quants[i].id == id) return &quants[i];
    return NULL;
}

const ds4_quant *ds4_quant_by_name(const char *name) {
    for (size_t i = 0; i < N_QUANT; i++)
        if (strcmp(quants[i].name, name) == 0) return &quants[i];
    return NULL;
}
