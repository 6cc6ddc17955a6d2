/* SPDX-License-Identifier: Apache-2.0 */
#define _POSIX_C_SOURCE 200809L
#include "threads.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>

struct job {
    parallel_work *work;
    void *context;
    size_t count;
    atomic_size_t next;
    pthread_mutex_t lock; /* guards the failure */
    size_t failed;
    int result;
};

struct worker {
    struct job *job;
    unsigned number;
    pthread_t thread;
};

static void *run(void *argument)
{
    const struct worker *worker = argument;
    struct job *job = worker->job;
    size_t i;

    while ((i = atomic_fetch_add(&job->next, 1)) < job->count) {
        int result = job->work(job->context, worker->number, i);

        if (!result)
            continue;
        pthread_mutex_lock(&job->lock);
        if (!job->result || i < job->failed) {
            job->failed = i;
            job->result = result;
        }
        pthread_mutex_unlock(&job->lock);
        /* Every lower i has begun already, so the lowest failure will be known. */
        atomic_store(&job->next, job->count);
    }
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

int parallel_for(unsigned threads, size_t count, parallel_work *work, void *context)
{
    struct job job = {.work = work, .context = context, .count = count};
    struct worker workers[MAX_THREADS];
    sigset_t all, before;
    unsigned started = 1;

    threads = parallel_threads(threads, count);
    for (unsigned i = 0; i < threads; i++)
        workers[i] = (struct worker){.job = &job, .number = i};
    pthread_mutex_init(&job.lock, NULL);
    if (threads > 1) {
        /* Signals are for the threads of the caller's program, not for ours. */
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        /* A thread that cannot be had is done without: the others do its work. */
        while (started < threads &&
               !pthread_create(&workers[started].thread, NULL, run, &workers[started]))
            started++;
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    run(&workers[0]);
    while (--started)
        pthread_join(workers[started].thread, NULL);
    pthread_mutex_destroy(&job.lock);
    return job.result;
}
