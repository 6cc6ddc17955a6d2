/* SPDX-License-Identifier: Apache-2.0
 *
 * file.c: block digests of a file, read by several threads in pieces that fit the cache.
 *
 * pread of such pieces is faster than mmap, and a file that shrinks is an error and no SIGBUS.
 */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "file.h"

#define PAGE 4096

static int fail_at(struct file_hash *file, uint64_t offset, int error)
{
    uint64_t known = atomic_load(&file->failed_at);

    while (offset < known && !atomic_compare_exchange_weak(&file->failed_at, &known, offset))
        ;
    return error;
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
        ssize_t got = pread(file->fd, buffer + have, size - have, (off_t)(offset + have));

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

    if (offset > INT64_MAX || count > (INT64_MAX - offset) / block_size)
        return -EOVERFLOW;
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
