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

#include "../sha256/block_hash.h"
#include "../sha256/threads.h"

#define PAGE 4096

struct file {
    const dmsign_block_hash *hash;
    int fd;
    uint64_t offset;
    size_t count, batch;
    uint8_t *digests;
    uint8_t *buffers;
    size_t buffer_size;
    _Atomic uint64_t failed_at;
};

static int fail_at(struct file *file, uint64_t offset, int error)
{
    uint64_t known = atomic_load(&file->failed_at);

    while (offset < known && !atomic_compare_exchange_weak(&file->failed_at, &known, offset))
        ;
    return error;
}

static int hash_piece(void *context, unsigned worker, size_t i)
{
    struct file *file = context;
    const size_t block_size = block_hash_block_size(file->hash);
    const size_t first = i * file->batch, left = file->count - first;
    const size_t blocks = left < file->batch ? left : file->batch, size = blocks * block_size;
    const uint64_t offset = file->offset + (uint64_t)first * block_size;
    uint8_t *buffer = file->buffers + worker * file->buffer_size;

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

int dmsign_hash_file(const dmsign_block_hash *hash, int fd, uint64_t offset, size_t count,
                     uint8_t *digests, unsigned threads, uint64_t *failed_at)
{
    const size_t block_size = block_hash_block_size(hash), batch = block_hash_batch(hash);
    const size_t pieces = (count + batch - 1) / batch;
    struct file file = {
        .hash = hash,
        .fd = fd,
        .offset = offset,
        .count = count,
        .batch = batch,
        .digests = digests,
        .failed_at = UINT64_MAX,
    };
    void *memory;
    int result;

    if (!count)
        return 0;
    if (count > (INT64_MAX - offset) / block_size || offset > INT64_MAX)
        return -EOVERFLOW;
    threads = parallel_threads(threads, pieces);
    file.buffer_size = batch * block_size + PAGE;
    if (posix_memalign(&memory, PAGE, threads * file.buffer_size))
        return -ENOMEM;
    file.buffers = memory;
    result = parallel_for(threads, pieces, hash_piece, &file);
    free(memory);
    if (result)
        *failed_at = atomic_load(&file.failed_at);
    return result;
}
