#include "engine/ref/pool.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "engine/base/mem.h"

struct ds4_pool {
    pthread_mutex_t lock;
    pthread_cond_t start, done;
    pthread_t *thread;
    uint32_t n_worker; /* threads beside the caller's */
    uint64_t job;      /* number of the current job */
    uint32_t n_busy;   /* workers that have not finished it */
    bool quit;
    void (*fn)(void *, uint32_t);
    void *user;
    uint32_t n_part;
    atomic_uint next;
};

static void take_parts(ds4_pool *p) {
    uint32_t i;
    while ((i = atomic_fetch_add(&p->next, 1)) < p->n_part) p->fn(p->user, i);
}

static void *worker(void *arg) {
    ds4_pool *p = arg;
    uint64_t seen = 0;

    pthread_mutex_lock(&p->lock);
    for (;;) {
        while (p->job == seen && !p->quit) pthread_cond_wait(&p->start, &p->lock);
        if (p->quit) break;
        seen = p->job;
        pthread_mutex_unlock(&p->lock);
        take_parts(p);
        pthread_mutex_lock(&p->lock);
        if (--p->n_busy == 0) pthread_cond_signal(&p->done);
    }
    pthread_mutex_unlock(&p->lock);
    return NULL;
}

ds4_status ds4_pool_new(ds4_pool **out, uint32_t n_thread, ds4_err *err) {
    ds4_status st = DS4_OK;
    ds4_pool *p = NULL;

    TRY(ds4_mem_alloc(&p, 1, sizeof *p, err));
    pthread_mutex_init(&p->lock, NULL);
    pthread_cond_init(&p->start, NULL);
    pthread_cond_init(&p->done, NULL);
    TRY(ds4_mem_alloc(&p->thread, n_thread, sizeof *p->thread, err));
    for (uint32_t i = 1; i < n_thread; i++) {
        if (pthread_create(&p->thread[p->n_worker], NULL, worker, p))
            RAISE(DS4_ERR_MEMORY, "cannot start thread %u of %u", i + 1, n_thread);
        p->n_worker++;
    }
    *out = p, p = NULL;
out:
    ds4_pool_free(p);
    return st;
}

void ds4_pool_free(ds4_pool *p) {
    if (!p) return;
    pthread_mutex_lock(&p->lock);
    p->quit = true;
    pthread_cond_broadcast(&p->start);
    pthread_mutex_unlock(&p->lock);
    for (uint32_t i = 0; i < p->n_worker; i++) pthread_join(p->thread[i], NULL);
    pthread_cond_destroy(&p->done);
    pthread_cond_destroy(&p->start);
    pthread_mutex_destroy(&p->lock);
    ds4_mem_free(p->thread);
    ds4_mem_free(p);
}

uint32_t ds4_pool_n_thread(const ds4_pool *p) { return p->n_worker + 1; }

void ds4_pool_run(ds4_pool *p, void (*fn)(void *user, uint32_t part), void *user,
                  uint32_t n_part) {
    if (n_part <= 1 || !p->n_worker) {
        for (uint32_t i = 0; i < n_part; i++) fn(user, i);
        return;
    }
    pthread_mutex_lock(&p->lock);
    p->fn = fn, p->user = user, p->n_part = n_part;
    atomic_store(&p->next, 0);
    p->n_busy = p->n_worker;
    p->job++;
    pthread_cond_broadcast(&p->start);
    pthread_mutex_unlock(&p->lock);
    take_parts(p);
    pthread_mutex_lock(&p->lock);
    while (p->n_busy) pthread_cond_wait(&p->done, &p->lock);
    pthread_mutex_unlock(&p->lock);
}
