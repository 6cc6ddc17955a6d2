/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

struct worker {
    struct pool *pool;
    unsigned number; /* 0 is the caller */
    pthread_t thread;
};

struct pool {
    parallel_work *work;
    void *context;
    size_t count;
    atomic_size_t next;
    pthread_mutex_t lock; /* guards all below */
    pthread_cond_t begun, ended;
    unsigned job;     /* counts them */
    unsigned threads; /* that may work on it, the caller included */
    unsigned inside;  /* workers that do, without the caller */
    bool open;        /* workers may still begin with it */
    bool leaving;
    size_t failed;
    int result;
    pid_t process;
    unsigned started; /* workers, the caller included */
    struct worker workers[MAX_THREADS];
};

static void work_on(struct pool *pool, unsigned worker)
{
    size_t i;

    while ((i = atomic_fetch_add(&pool->next, 1)) < pool->count) {
        int result = pool->work(pool->context, worker, i);

        if (!result)
            continue;
        pthread_mutex_lock(&pool->lock);
        if (!pool->result || i < pool->failed) {
            pool->failed = i;
            pool->result = result;
        }
        pthread_mutex_unlock(&pool->lock);
        /* Every lower i has begun already, so the lowest failure will be known. */
        atomic_store(&pool->next, pool->count);
    }
}

static void *serve(void *argument)
{
    const struct worker *worker = argument;
    struct pool *pool = worker->pool;
    unsigned done = 0;

    pthread_mutex_lock(&pool->lock);
    while (!pool->leaving) {
        if (!pool->open || pool->job == done || worker->number >= pool->threads) {
            pthread_cond_wait(&pool->begun, &pool->lock);
            continue;
        }
        done = pool->job;
        pool->inside++;
        pthread_mutex_unlock(&pool->lock);
        work_on(pool, worker->number);
        pthread_mutex_lock(&pool->lock);
        if (!--pool->inside)
            pthread_cond_signal(&pool->ended);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

unsigned parallel_threads(unsigned threads, size_t count)
{
    if (threads > MAX_THREADS)
        threads = MAX_THREADS;
    if (threads > count)
        threads = (unsigned)count;
    return threads ? threads : 1;
}

static void pool_init(struct pool *pool)
{
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->begun, NULL);
    pthread_cond_init(&pool->ended, NULL);
    atomic_init(&pool->next, 0);
    pool->count = 0;
    pool->job = pool->inside = 0;
    pool->open = pool->leaving = false;
    pool->process = getpid();
    pool->started = 1;
}

/* Starts the workers that are missing. One that cannot be had is done without: others do its work.
 */
static void pool_start(struct pool *pool, unsigned threads)
{
    sigset_t all, before;

    if (pool->started >= threads)
        return;
    /* Signals are for the threads of the caller's program, not for ours. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    while (pool->started < threads) {
        struct worker *worker = &pool->workers[pool->started];

        *worker = (struct worker){.pool = pool, .number = pool->started};
        if (pthread_create(&worker->thread, NULL, serve, worker))
            break;
        pool->started++;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Waits until nobody works on the job. */
static void pool_close(struct pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    pool->open = false;
    while (pool->inside)
        pthread_cond_wait(&pool->ended, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
}

static void pool_leave(struct pool *pool)
{
    /* The threads of a parent are not here, and its lock may be held for ever. */
    if (pool->process != getpid())
        return;
    atomic_store(&pool->next, pool->count);
    pool_close(pool);
    pthread_mutex_lock(&pool->lock);
    pool->leaving = true;
    pthread_cond_broadcast(&pool->begun);
    pthread_mutex_unlock(&pool->lock);
    while (--pool->started)
        pthread_join(pool->workers[pool->started].thread, NULL);
    pthread_cond_destroy(&pool->ended);
    pthread_cond_destroy(&pool->begun);
    pthread_mutex_destroy(&pool->lock);
}

struct pool *pool_new(void)
{
    struct pool *pool = malloc(sizeof *pool);

    if (pool)
        pool_init(pool);
    return pool;
}

void pool_free(struct pool *pool)
{
    if (pool)
        pool_leave(pool);
    free(pool);
}

void pool_begin(struct pool *pool, unsigned threads, size_t count, parallel_work *work,
                void *context)
{
    if (pool->process != getpid())
        pool_init(pool);
    threads = parallel_threads(threads, count);
    pthread_mutex_lock(&pool->lock);
    pool->work = work;
    pool->context = context;
    pool->count = count;
    atomic_store(&pool->next, 0);
    pool->result = 0;
    pool->threads = threads;
    pool->job++;
    pool->open = true;
    if (threads > 1)
        pthread_cond_broadcast(&pool->begun);
    pthread_mutex_unlock(&pool->lock);
    pool_start(pool, threads);
}

int pool_end(struct pool *pool)
{
    work_on(pool, 0);
    pool_close(pool);
    return pool->result;
}

int pool_run(struct pool *pool, unsigned threads, size_t count, parallel_work *work, void *context)
{
    pool_begin(pool, threads, count, work, context);
    return pool_end(pool);
}

int parallel_for(unsigned threads, size_t count, parallel_work *work, void *context)
{
    struct pool pool;
    int result;

    pool_init(&pool);
    result = pool_run(&pool, threads, count, work, context);
    pool_leave(&pool);
    return result;
}
