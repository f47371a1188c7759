#ifndef DS4_REF_POOL_H
#define DS4_REF_POOL_H
/* A fixed set of threads that run the parts of one job. Which thread runs which part never
 * changes a result: parts write disjoint outputs. */
#include "engine/base/err.h"

#include <stdint.h>

typedef struct ds4_pool ds4_pool;

/* n_thread counts the caller's thread. Owns: the caller frees *out. */
ds4_status ds4_pool_new(ds4_pool **out, uint32_t n_thread, ds4_err *err);
void ds4_pool_free(ds4_pool *p);
uint32_t ds4_pool_n_thread(const ds4_pool *p);
/* Runs fn(user, 0) .. fn(user, n_part - 1), the caller taking part, and waits for all. */
void ds4_pool_run(ds4_pool *p, void (*fn)(void *user, uint32_t part), void *user,
                  uint32_t n_part);

#endif
