#ifndef DS4_BASE_MEM_H
#define DS4_BASE_MEM_H
/* The only heap: overflow-checked, zeroed, and able to fail on demand for tests. */
#include <stdbool.h>
#include <stddef.h>

#include "engine/base/err.h"

/* Allocates n * size zeroed bytes; *out is untouched on failure. n or size 0 gives one byte.
 * Owns: the caller frees *out with ds4_mem_free. */
ds4_status ds4_mem_alloc(void *out, size_t n, size_t size, ds4_err *err);

/* Grows *ptr to n * size bytes; the new tail is not cleared. On failure *ptr stays valid. */
ds4_status ds4_mem_grow(void *ptr, size_t n, size_t size, ds4_err *err);

/* A copy of a C string. Owns: the caller frees it. */
ds4_status ds4_mem_strdup(char **out, const char *s, ds4_err *err);

void ds4_mem_free(void *p);

/* a * b and a + b, false on overflow. */
bool ds4_mul_size(size_t *out, size_t a, size_t b);
bool ds4_add_size(size_t *out, size_t a, size_t b);

/* Tests: the k-th allocation from now fails (k >= 1); 0 switches injection off. */
void ds4_mem_fail_after(long k);

#endif
