/* SPDX-License-Identifier: Apache-2.0
 *
 * rows.c: the rows of a message from its files, and weighted sums of them.
 */
#define _GNU_SOURCE /* SEEK_DATA */
#define _FILE_OFFSET_BITS 64
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../sha256/block_hash.h"
#include "code.h"

#define CACHED ((size_t)256 << 10)
#define LINE 64
/* Keeps rows that are added together out of each other's sets of the L1 cache. */
#define PADDING (2 * LINE)
#define MAX_BLOCKS (CACHED / MIN_BLOCK_SIZE) /* of all rows that are added at once */

int fec_tiles_new(struct fec_tiles *tiles, size_t columns, size_t unit, unsigned sums,
                  unsigned threads)
{
    size_t width = sums <= 4 ? CACHED / 2 : sums <= 12 ? CACHED / 8 : CACHED / 16;
    void *memory;

    if (width < unit)
        width = unit;
    if (width > columns)
        width = columns;
    tiles->width = width;
    tiles->batch = (unsigned)(CACHED / width);
    if (!tiles->batch)
        tiles->batch = 1;
    if (tiles->batch > FEC_BATCH)
        tiles->batch = FEC_BATCH;
    tiles->data_at = sums * (width + PADDING);
    tiles->worker_size = (sums + tiles->batch) * (width + PADDING);
    tiles->threads = threads;
    if (posix_memalign(&memory, LINE, threads * tiles->worker_size))
        return -ENOMEM;
    tiles->memory = memory;
    return 0;
}

void fec_tiles_free(struct fec_tiles *tiles)
{
    free(tiles->memory);
}

struct fec_rows fec_tile_sums(const struct fec_tiles *tiles, unsigned worker)
{
    return (struct fec_rows){tiles->memory + worker * tiles->worker_size, tiles->width + PADDING};
}

struct fec_rows fec_tile_data(const struct fec_tiles *tiles, unsigned worker)
{
    return (struct fec_rows){tiles->memory + worker * tiles->worker_size + tiles->data_at,
                             tiles->width + PADDING};
}

static int fail_at(struct fec_failure *failure, uint64_t position, int error)
{
    uint64_t known = atomic_load(&failure->at);

    while (position < known && !atomic_compare_exchange_weak(&failure->at, &known, position))
        ;
    return error;
}

int fec_read(int fd, uint64_t offset, uint8_t *to, size_t size, uint64_t position,
             struct fec_failure *failure)
{
    for (size_t have = 0; have < size;) {
        ssize_t got = pread(fd, to + have, size - have, (off_t)(offset + have));

        if (got > 0)
            have += (size_t)got;
        else if (!got)
            return fail_at(failure, position + have, -ENODATA);
        else if (errno != EINTR)
            return fail_at(failure, position + have, -errno);
    }
    return 0;
}

static int is_hole(int fd, uint64_t offset, size_t size)
{
    const off_t data = lseek(fd, (off_t)offset, SEEK_DATA);

    return data < 0 ? errno == ENXIO : (uint64_t)data >= offset + size;
}

int fec_read_message(const dmsign_fec *fec, uint64_t at, uint8_t *to, size_t size, int *zeros,
                     struct fec_failure *failure)
{
    *zeros = 1;
    for (unsigned i = 0; i < fec->parts; i++) {
        const struct dmsign_fec_part *part = &fec->part[i];
        const uint64_t part_end = part->start + part->size;
        const uint64_t from = at > part->start ? at : part->start;
        const uint64_t end = at + size < part_end ? at + size : part_end;
        const uint64_t offset = part->offset + (from - part->start);
        int error;

        if (from >= end || (fec->sparse[i] && is_hole(part->fd, offset, (size_t)(end - from))))
            continue;
        if (*zeros && end - from < size)
            memset(to, 0, size);
        *zeros = 0;
        error = fec_read(part->fd, offset, to + (from - at), (size_t)(end - from), from, failure);
        if (error)
            return error;
    }
    return 0;
}

/* The blocks of part 0 from byte `at` of the message on, of at most `width` bytes. */
static size_t blocks_at(const dmsign_fec *fec, uint64_t at, size_t width, size_t block_size)
{
    const uint64_t size = fec->part[0].size, left = at < size ? size - at : 0;

    return (size_t)(left < width ? left : width) / block_size;
}

/* Hashes what stands in the rows from `first` on, and puts the digests of each into its place. */
static int hash_rows(const dmsign_fec *fec, uint64_t column, size_t width, unsigned first,
                     unsigned count, struct fec_rows data, const int *zeros,
                     const struct fec_digests *digests)
{
    const size_t block_size = block_hash_block_size(digests->hash);
    const uint8_t *blocks[MAX_BLOCKS];
    uint8_t found[MAX_BLOCKS * DIGEST_SIZE];
    size_t used = 0, at = 0;
    int error;

    for (unsigned i = 0; i < count; i++) {
        const size_t here =
            blocks_at(fec, (first + i) * fec->row_size + column, width, block_size);

        for (size_t j = 0; j < here && !zeros[i]; j++)
            blocks[used++] = data.bytes + i * data.stride + j * block_size;
    }
    error = block_hash_scattered(digests->hash, NULL, blocks, used, found, 1);
    if (error)
        return error;
    for (unsigned i = 0; i < count; i++) {
        const size_t here =
            blocks_at(fec, (first + i) * fec->row_size + column, width, block_size);
        uint8_t *to = digests->digests + (first + i) * digests->blocks * DIGEST_SIZE;

        if (!zeros[i]) {
            memcpy(to, found + at * DIGEST_SIZE, here * DIGEST_SIZE);
            at += here;
            continue;
        }
        for (size_t j = 0; j < here; j++)
            memcpy(to + j * DIGEST_SIZE, block_hash_zero_digest(digests->hash), DIGEST_SIZE);
    }
    return 0;
}

int fec_sum_rows(const dmsign_fec *fec, uint64_t column, size_t width, fec_factors factors,
                 const uint8_t *skip, const struct fec_tiles *tiles, unsigned worker,
                 const struct fec_digests *digests, struct fec_failure *failure)
{
    const struct fec_rows sums = fec_tile_sums(tiles, worker), data = fec_tile_data(tiles, worker);

    for (unsigned first = 0; first < fec->rows; first += tiles->batch) {
        const unsigned left = fec->rows - first, count = left < tiles->batch ? left : tiles->batch;
        int zeros[FEC_BATCH];

        for (unsigned i = 0; i < count; i++) {
            int error = 0;

            if (skip && skip[first + i])
                zeros[i] = 1;
            else
                error = fec_read_message(fec, (first + i) * fec->row_size + column,
                                         data.bytes + i * data.stride, width, &zeros[i], failure);
            if (error)
                return error;
        }
        if (digests) {
            int error = hash_rows(fec, column, width, first, count, data, zeros, digests);

            if (error)
                return error;
        }
        for (unsigned i = 0, end; i < count; i = end + 1) {
            for (end = i; end < count && !zeros[end]; end++)
                ;
            if (end > i)
                fec->impl->add(&fec->field, sums, fec->roots,
                               (struct fec_rows){data.bytes + i * data.stride, data.stride},
                               end - i, factors + first + i, width);
        }
    }
    return 0;
}
