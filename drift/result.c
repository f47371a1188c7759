#include "drift/result.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"

const char *const drift_ulp_label[DRIFT_N_ULP] = {
    "0", "1", "2", "3-4", "5-8", "9-16", "17-64", "65-1024", "1025-2^20", "more",
};

static const struct {
    const char *text;
    int exit_code;
} verdict[] = {
    [DRIFT_SAME_BITS] = {"same bits", 0},
    [DRIFT_WITHIN_FLOOR] = {"within the floor", 0},
    [DRIFT_DRIFT] = {"drift", 1},
    [DRIFT_NOT_COMPARABLE] = {"not comparable", 2},
    [DRIFT_INCONCLUSIVE] = {"inconclusive", 3},
};

const char *drift_verdict_text(drift_verdict v) { return verdict[v].text; }
int drift_verdict_exit_code(drift_verdict v) { return verdict[v].exit_code; }

/* Blocks of a growing list; small requests share one, a large one has its own. */
#define BLOCK_BYTES ((size_t)64 << 10)

typedef struct block {
    struct block *next;
    size_t used, cap;
    _Alignas(16) unsigned char data[];
} block;

struct drift_arena {
    block *head; /* the block that small requests are cut from */
};

ds4_status drift_result_new(drift_result **out, ds4_err *err) {
    ds4_status st = DS4_OK;
    drift_result *r = NULL;

    TRY(ds4_mem_alloc(&r, 1, sizeof *r, err));
    TRY(ds4_mem_alloc(&r->arena, 1, sizeof *r->arena, err));
    r->verdict = DRIFT_INCONCLUSIVE;
    r->title = r->kind = r->summary = r->created = r->tool = r->command = "";
    for (int i = 0; i < 2; i++) r->side[i].label = r->side[i].path = "";
    *out = r, r = NULL;
out:
    drift_result_free(r);
    return st;
}

void drift_result_free(drift_result *r) {
    if (!r) return;
    for (block *b = r->arena ? r->arena->head : NULL, *next; b; b = next) {
        next = b->next;
        ds4_mem_free(b);
    }
    ds4_mem_free(r->arena);
    ds4_mem_free(r);
}

void *drift_result_alloc(drift_result *r, size_t n, size_t size) {
    size_t bytes, total;
    if (!ds4_mul_size(&bytes, n, size) || !ds4_add_size(&bytes, bytes, 15)) return NULL;
    bytes &= ~(size_t)15;
    if (bytes == 0) bytes = 16;
    block *b = r->arena->head;
    if (!b || b->cap - b->used < bytes) {
        size_t cap = bytes > BLOCK_BYTES / 4 ? bytes : BLOCK_BYTES;
        if (!ds4_add_size(&total, sizeof *b, cap)) return NULL;
        block *fresh;
        if (ds4_mem_alloc(&fresh, 1, total, NULL) != DS4_OK) return NULL;
        fresh->cap = cap;
        if (b && cap == bytes) { /* full at once: keep cutting from the old head */
            fresh->next = b->next, b->next = fresh;
        } else {
            fresh->next = b, r->arena->head = fresh;
        }
        b = fresh;
    }
    void *p = b->data + b->used;
    b->used += bytes;
    return p;
}

const char *drift_result_str(drift_result *r, const char *s) {
    size_t n = strlen(s) + 1;
    char *p = drift_result_alloc(r, n, 1);
    if (p) memcpy(p, s, n);
    return p;
}

const char *drift_result_printf(drift_result *r, const char *fmt, ...) {
    va_list ap, again;
    char *p = NULL;

    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    if (n >= 0) p = drift_result_alloc(r, (size_t)n + 1, 1);
    if (p) vsnprintf(p, (size_t)n + 1, fmt, again);
    va_end(again);
    va_end(ap);
    return p;
}
