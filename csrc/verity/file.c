/* SPDX-License-Identifier: Apache-2.0
 *
 * file.c: block digests of a file, read by several threads in pieces that fit the cache.
 *
 * pread of such pieces is faster than mmap, and a file that shrinks is an error and no SIGBUS.
 */
#define _GNU_SOURCE /* preadv2 */
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

#include "file.h"

#define PAGE 4096
/* How far ahead of the readers a disk is asked, and for how much at a time: Linux takes no more of
 * one call than the longest request to the disk has. */
#define AHEAD ((uint64_t)32 << 20)
#define ASKED ((uint64_t)512 << 10)

static int fail_at(struct file_hash *file, uint64_t offset, int error)
{
    uint64_t known = atomic_load(&file->failed_at);

    while (offset < known && !atomic_compare_exchange_weak(&file->failed_at, &known, offset))
        ;
    return error;
}

/* The hole that follows, or the end of the file: the next run of blocks is there already when this
 * one ends. */
static uint64_t end_of_data(int fd, uint64_t end)
{
    const off_t hole = end ? lseek(fd, (off_t)end - 1, SEEK_HOLE) : -1;

    return hole > (off_t)end ? (uint64_t)hole : end;
}

#ifdef RWF_NOWAIT
/* Asks the disk for what comes from here on. Threads that wait for one piece each do not keep it
 * busy, and neither does the kernel, which sees them read here and there. */
static void ask_ahead(struct file_hash *file, uint64_t offset)
{
    const uint64_t end = offset + AHEAD < file->end ? offset + AHEAD : file->end;
    uint64_t asked = atomic_load(&file->asked);

    while (asked < end) {
        const uint64_t from = asked > offset ? asked : offset;

        if (!atomic_compare_exchange_weak(&file->asked, &asked, from + ASKED))
            continue;
        posix_fadvise(file->fd, (off_t)from, (off_t)ASKED, POSIX_FADV_WILLNEED);
        asked = from + ASKED;
    }
}
#endif

/* As pread. What is in the page cache is taken at once; where something is not, the rest of the
 * file is taken to be on the disk: to ask for what is there would cost each page a look. */
static ssize_t read_some(struct file_hash *file, uint8_t *to, size_t size, uint64_t offset)
{
#ifdef RWF_NOWAIT
    const struct iovec whole = {to, size};
    ssize_t got;

    if (!atomic_load(&file->cold)) {
        got = preadv2(file->fd, &whole, 1, (off_t)offset, RWF_NOWAIT);
        if (got > 0)
            return got;
        atomic_store(&file->cold, 1);
    }
    ask_ahead(file, offset);
#endif
    return pread(file->fd, to, size, (off_t)offset);
}

static int hash_piece(void *context, unsigned worker, size_t i)
{
    struct file_hash *file = context;
    const size_t block_size = block_hash_block_size(file->hash);
    const size_t first = i * file->batch, left = file->count - first;
    const size_t blocks = left < file->batch ? left : file->batch, size = blocks * block_size;
    const uint64_t offset = file->offset + (uint64_t)first * block_size;
    uint8_t *buffer = file->buffers[worker];
    void *memory;

    if (!buffer) {
        if (posix_memalign(&memory, PAGE, file->batch * block_size))
            return -ENOMEM;
        buffer = file->buffers[worker] = memory;
    }
    for (size_t have = 0; have < size;) {
        ssize_t got = read_some(file, buffer + have, size - have, offset + have);

        if (got > 0)
            have += (size_t)got;
        else if (!got)
            return fail_at(file, offset + have, -ENODATA);
        else if (errno != EINTR)
            return fail_at(file, offset + have, -errno);
    }
    block_hash_run(file->hash, buffer, blocks, file->digests + first * DIGEST_SIZE);
    return 0;
}

int file_hash_begin(struct file_hash *file, struct pool *pool, const dmsign_block_hash *hash,
                    int fd, uint64_t offset, size_t count, uint8_t *digests, unsigned threads)
{
    const size_t block_size = block_hash_block_size(hash);
    const uint64_t end = offset + (uint64_t)count * block_size;

    if (offset > INT64_MAX || count > (INT64_MAX - offset) / block_size)
        return -EOVERFLOW;
    if (fd != file->fd || offset < file->offset) {
        atomic_store(&file->asked, 0);
        file->end = 0;
    }
    if (end > file->end)
        file->end = atomic_load(&file->cold) ? end_of_data(fd, end) : end;
    file->hash = hash;
    file->fd = fd;
    file->offset = offset;
    file->count = count;
    file->batch = block_hash_batch(hash);
    file->digests = digests;
    atomic_store(&file->failed_at, UINT64_MAX);
    pool_begin(pool, threads, (count + file->batch - 1) / file->batch, hash_piece, file);
    return 0;
}

int file_hash_end(struct file_hash *file, struct pool *pool, uint64_t *failed_at)
{
    const int result = pool_end(pool);

    if (result && atomic_load(&file->failed_at) != UINT64_MAX)
        *failed_at = atomic_load(&file->failed_at);
    return result;
}

void file_hash_free(struct file_hash *file)
{
    for (unsigned i = 0; i < MAX_THREADS; i++)
        free(file->buffers[i]);
}

int dmsign_hash_file(const dmsign_block_hash *hash, int fd, uint64_t offset, size_t count,
                     uint8_t *digests, unsigned threads, uint64_t *failed_at)
{
    struct file_hash file = {0};
    struct pool *pool;
    int result;

    if (!count)
        return 0;
    pool = pool_new();
    if (!pool)
        return -ENOMEM;
    result = file_hash_begin(&file, pool, hash, fd, offset, count, digests, threads);
    if (!result)
        result = file_hash_end(&file, pool, failed_at);
    pool_free(pool);
    file_hash_free(&file);
    return result;
}
