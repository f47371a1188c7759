/* The cases of every op as text: fixtures/ops/<op>.cases, taken in by the assembler when this
 * file is built, so that an installed program has them. Paths are relative to the repository
 * root, where make runs; the Makefile names the files as needs of the object. */
#include <string.h>

#include "engine/kernel_case.h"

#define OP(stem, n_in, scratch, equation)                                                      \
    __asm__(".pushsection .rodata\n"                                                           \
            ".global ds4_cases_" #stem "\nds4_cases_" #stem ":\n"                              \
            ".incbin \"fixtures/ops/" #stem ".cases\"\n"                                       \
            ".byte 0\n"                                                                        \
            ".popsection\n");                                                                  \
    extern const char ds4_cases_##stem[];
#include "engine/ops/ops.def"
#undef OP

static const char *const cases[DS4_OP_COUNT] = {
#define OP(stem, n_in, scratch, equation) ds4_cases_##stem,
#include "engine/ops/ops.def"
#undef OP
};

bool ds4_case_next(ds4_op op, const char **at, char line[DS4_CASE_LINE]) {
    const char *p = *at ? *at : cases[op];
    while (*p) {
        size_t n = strcspn(p, "\n"), n_kept = n < DS4_CASE_LINE ? n : DS4_CASE_LINE - 1;
        memcpy(line, p, n_kept), line[n_kept] = 0;
        p += n + (p[n] == '\n');
        if (line[strspn(line, " ")] && line[0] != '#') return *at = p, true;
    }
    return false;
}
