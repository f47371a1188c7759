#include "engine/base/mem.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static long fail_after;

void ds4_mem_fail_after(long k) { fail_after = k; }

bool ds4_mul_size(size_t *out, size_t a, size_t b) {
    return !__builtin_mul_overflow(a, b, out);
}
bool ds4_add_size(size_t *out, size_t a, size_t b) {
    return !__builtin_add_overflow(a, b, out);
}

static bool injected(void) { return fail_after > 0 && --fail_after == 0; }

ds4_status ds4_mem_alloc(void *out, size_t n, size_t size, ds4_err *err) {
    size_t bytes;
    if (!ds4_mul_size(&bytes, n, size) || bytes > (size_t)PTRDIFF_MAX)
        return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE, "out of memory: %zu x %zu bytes", n,
                           size);
    void *p = injected() ? NULL : calloc(1, bytes ? bytes : 1);
    if (!p)
        return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE, "out of memory: %zu bytes", bytes);
    memcpy(out, &p, sizeof p);
    return DS4_OK;
}

ds4_status ds4_mem_grow(void *ptr, size_t n, size_t size, ds4_err *err) {
    void *old, *p;
    size_t bytes;
    if (!ds4_mul_size(&bytes, n, size) || bytes > (size_t)PTRDIFF_MAX)
        return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE, "out of memory: %zu x %zu bytes", n,
                           size);
    memcpy(&old, ptr, sizeof old);
    p = injected() ? NULL : realloc(old, bytes ? bytes : 1);
    if (!p)
        return ds4_err_set(err, DS4_ERR_MEMORY, DS4_HERE, "out of memory: %zu bytes", bytes);
    memcpy(ptr, &p, sizeof p);
    return DS4_OK;
}

ds4_status ds4_mem_strdup(char **out, const char *s, ds4_err *err) {
    size_t n = strlen(s) + 1;
    ds4_status st = ds4_mem_alloc(out, n, 1, err);
    if (st == DS4_OK) memcpy(*out, s, n);
    return st;
}

void ds4_mem_free(void *p) { free(p); }
