/* SPDX-License-Identifier: Apache-2.0
 *
 * threads.h: parallel-for, by threads of one call or by a pool of them.
 */
#ifndef DMSIGN_THREADS_H
#define DMSIGN_THREADS_H

#include <stddef.h>

#define MAX_THREADS 256

/* `worker` is below the number of threads and never the same in two calls at a time. */
typedef int parallel_work(void *context, unsigned worker, size_t i);

/* How many threads parallel_for uses for `count` calls when `threads` are allowed. */
unsigned parallel_threads(unsigned threads, size_t count);

/* Calls work(context, worker, i) for every i below `count` in up to `threads` threads, the
 * caller's among them, in about rising order. The first call that fails stops what has not begun,
 * and its result is returned: of several failures, that of the lowest i. 0: all were done. */
int parallel_for(unsigned threads, size_t count, parallel_work *work, void *context);

/* Threads that wait for work between calls. They start when they are first wanted. A pool is used
 * by one thread at a time; a child of fork() starts threads of its own. */
struct pool;

/* NULL: no memory. */
struct pool *pool_new(void);
/* Stops what was begun. */
void pool_free(struct pool *pool);
/* parallel_for in two steps: between them the pool's threads work, and the caller does something
 * else; at the end it helps. `context` must live until then. */
void pool_begin(struct pool *pool, unsigned threads, size_t count, parallel_work *work,
                void *context);
int pool_end(struct pool *pool);
/* Both at once. */
int pool_run(struct pool *pool, unsigned threads, size_t count, parallel_work *work, void *context);

#endif
