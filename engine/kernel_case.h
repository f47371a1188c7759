#ifndef DS4_KERNEL_CASE_H
#define DS4_KERNEL_CASE_H
/* A case of an op: its inputs in memory, made from one line of text, and how an output is
 * judged against the scalar reference.
 *
 * A line is `key=value ..`: the fields of the op's args by name (row_bytes is computed), the
 * sizes that the op's shape (kernel_case.c) names besides, and
 *   wtype=Q4_K   format of the weight (F32)
 *   seed=N       of every input
 *   fill=KIND    of f32 inputs: normal; unit (0..1); tie (multiples of 1/4); hard (zeros of
 * both signs, 2^-51, large, ties); tiny (2^-51 .. 2^-45, below which an op stores zero); wide
 * (2^-50 .. 2^20); zero; same (one value throughout); grid (all signs of small magnitudes, for
 * formats); sign (-40 .. 40); cancel (pairs of whole numbers that cancel: every sum is exact in
 * any order); special (NaN, infinities, zeros of both signs) on=NAME, off=NAME   a variant
 * against its default A value `?x`, `?y` or `?l`, with `*N` behind it or not, makes a template:
 * see ds4_case_edge. A line that begins with tap= is a captured call: engine/kernel_capture.h.
 */
#include "engine/ops/ops.h"

enum { DS4_CASE_GUARD = 16, DS4_CASE_MAX_KEY = 32, DS4_CASE_LINE = 512 };
#define DS4_CASE_PATTERN 0x7fc5a5a5u /* what outputs hold before: a NaN that no op produces */

typedef struct ds4_case {
    ds4_op op;
    ds4_tap tap; /* a call of this op */
    char line[DS4_CASE_LINE];
    char key[DS4_CASE_MAX_KEY][24], value[DS4_CASE_MAX_KEY][24];
    uint32_t n_key;
    uint32_t args[32]; /* struct ds4_args_<op> */
    uint32_t n_bind, wtype, variants;
    void *bind[DS4_MAX_BIND];   /* inputs, then the output; NULL: left out */
    size_t bytes[DS4_MAX_BIND]; /* without the guard words that stand behind each */
    char kind[DS4_MAX_BIND]; /* f f32, w weight, i s q words, x scratch, o f32 out, n i32 out */
    uint64_t rng;
} ds4_case;

/* Errors: DS4_ERR_USAGE for a key that the op has not or that stands twice, a value that is
 *         none, sizes above 1 GiB in all, that contradict one another or leave no output, or
 *         that do not fit the format of the weight.
 * Owns:   the caller ends *c with ds4_case_fini. */
ds4_status ds4_case_init(ds4_case *c, ds4_op op, const char *line, ds4_err *err);
/* The case of a call that is about to run on b: a copy of what its buffers hold, whole; the
 * output is the pattern. line names it, and may change variants with on= and off=. Owns: as
 * ds4_case_init. */
ds4_status ds4_case_capture(ds4_case *c, ds4_backend *b, const ds4_call *call, const char *line,
                            ds4_err *err);
void ds4_case_fini(ds4_case *c);
/* Runs the scalar reference into the output. */
void ds4_case_reference(ds4_case *c);
/* Fills an output of n_bytes and its guard words with the pattern. */
void ds4_case_pattern(void *out, size_t n_bytes);
/* Bits of variants that are on when nobody says anything. */
uint32_t ds4_case_default_variants(void);
/* The value of a key; NULL when the line has none. */
const char *ds4_case_value(const ds4_case *c, const char *key);

/* Cases of an op as they stand in fixtures/ops/<op>.cases, whose text is part of the program.
 * *at starts at NULL; false past the last line. */
bool ds4_case_next(ds4_op op, const char **at, char line[DS4_CASE_LINE]);
/* Writes the line of a template for one edge: ?x, ?y and ?l become `edge`, ?x*N edge * N. unit
 * gets the letter; false when the line is no template (out is then the line itself). */
bool ds4_case_edge(char out[DS4_CASE_LINE], const char *line, uint32_t edge, char *unit);

/* ---- judging ---- */

typedef struct ds4_verdict {
    size_t n_bad,
        first;      /* elements that differ in any bit (two NaN are equal); SIZE_MAX: none */
    size_t n_class; /* of them: a non-finite or missing value on one side only */
    uint32_t ulp;
    double nrmse; /* rms of the difference over rms of the reference; equal DS4_NEG left out */
    size_t n, n_guard; /* elements; guard words that changed */
} ds4_verdict;

/* n elements and the guard words of each. is_f: f32, else only equality of bits counts. */
ds4_verdict ds4_case_compare(const uint32_t *got, const uint32_t *want, size_t n, bool is_f);
/* A case whose reference has run against another output of it, with its guard words. */
ds4_verdict ds4_case_judge(const ds4_case *c, const void *out);
/* Whether two elements are the same: equal bits, or two NaN of f32 that are not the pattern. */
bool ds4_case_same(uint32_t got, uint32_t want, bool is_f);
/* bound: "exact", "ULP(n)", "NRMSE(x)" or "IDS(x)", the share of chosen ids that differ. Any
 * other text is no bound and nothing is within it. */
bool ds4_case_within(const ds4_verdict *v, const char *bound);

#endif
