/* SPDX-License-Identifier: Apache-2.0
 *
 * many_cores.c: the tree of a file by more threads than this machine has cores. All is the core's
 * own code, but pread, which does nothing, and the implementation of SHA-256, which waits as long as
 * it would take.
 *
 * usage: many_cores THREADS BLOCK_SIZE NANOSECONDS_PER_KIB SPANS
 * Prints the seconds of the fastest span, and of one on a machine that loses nothing: neighbours only
 * ever add.
 */
#define _GNU_SOURCE
#define _FILE_OFFSET_BITS 64 /* the pread that the core calls */
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "../csrc/dmsign.h"
#include "../csrc/sha256/impl.h"
#include "../csrc/sha256/threads.h"

#define LANES 32
#define SPAN ((size_t)256 << 20) /* of a thread: the longest of verity/reading.py */

static uint64_t per_kib;
static atomic_uint jobs; /* that a pool was given */

void __real_pool_begin(struct pool *, unsigned, size_t, parallel_work *, void *);
int __real_pool_run(struct pool *, unsigned, size_t, parallel_work *, void *);

void __wrap_pool_begin(struct pool *pool, unsigned threads, size_t count, parallel_work *work,
                       void *context)
{
    jobs++;
    __real_pool_begin(pool, threads, count, work, context);
}

int __wrap_pool_run(struct pool *pool, unsigned threads, size_t count, parallel_work *work,
                    void *context)
{
    jobs++;
    return __real_pool_run(pool, threads, count, work, context);
}

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

/* Waits to a point in time: a thread that is woken late loses nothing of a job but its end. */
static void hash(const uint32_t *start, const size_t *counts, const struct sha256_message *messages)
{
    static _Thread_local uint64_t due;
    static _Thread_local unsigned job;
    const uint64_t size = (counts[0] + counts[1] + counts[2]) * SHA256_BLOCK * LANES;
    struct timespec until;

    (void)start;
    for (unsigned i = 0; i < LANES; i++)
        messages[i].digest[0] = 1; /* no block of zeros */
    if (job != jobs) {
        job = jobs;
        prctl(PR_SET_TIMERSLACK, 1);
        due = now();
    }
    due += size * per_kib / 1024;
    until = (struct timespec){(time_t)(due / 1000000000), (long)(due % 1000000000)};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL))
        ;
}

static const struct sha256_impl wait = {.name = "wait", .lanes = LANES, .hash = hash};

struct sha256_choice sha256_chosen(void)
{
    return (struct sha256_choice){&wait, &wait};
}

ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    (void)fd;
    (void)offset;
    for (size_t i = 0; i < size; i += 512)
        *((uint8_t *)buffer + i) = 1; /* here neither */
    return (ssize_t)size;
}

int main(int argc, char **argv)
{
    const unsigned threads = argc == 5 ? (unsigned)atoi(argv[1]) : 0;
    const size_t block_size = threads ? strtoul(argv[2], NULL, 10) : 0;
    const unsigned spans = threads ? (unsigned)atoi(argv[4]) : 0;
    const size_t count = block_size ? SPAN / block_size * threads : 0;
    static const uint8_t salt[32];
    uint64_t failed_at, best = UINT64_MAX, bytes = 0;
    dmsign_tree *tree;
    int error = 0;

    per_kib = threads ? strtoul(argv[3], NULL, 10) : 0;
    tree = count ? dmsign_tree_new(1, salt, sizeof salt, block_size, block_size) : NULL;
    if (!tree)
        return 2;
    for (unsigned i = 0; i < spans && !error; i++) {
        const uint64_t began = now();

        error = dmsign_tree_begin_file(tree, 0, (uint64_t)i * count * block_size, count, threads);
        if (!error)
            error = dmsign_tree_end_file(tree, threads, &failed_at);
        if (now() - began < best)
            best = now() - began;
    }
    dmsign_tree_free(tree);
    /* What was hashed: blocks of data and of levels, with salt and padding. */
    for (uint64_t blocks = count; blocks; blocks = blocks * 32 / block_size)
        bytes += blocks * (block_size + SHA256_BLOCK);
    printf("%.6f %.6f\n", (double)best / 1e9, (double)bytes * (double)per_kib / 1024e9 / threads);
    return error != 0;
}
