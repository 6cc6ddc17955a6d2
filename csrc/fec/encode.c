/* SPDX-License-Identifier: Apache-2.0
 *
 * encode.c: the parity of a message, and the digests of its blocks in the same reading.
 */
#include <errno.h>
#include <stdatomic.h>
#include <string.h>

#include "../sha256/block_hash.h"
#include "../sha256/threads.h"
#include "code.h"

struct encoding {
    const dmsign_fec *fec;
    uint64_t first;
    size_t columns;
    uint8_t *parity;
    const struct fec_digests *digests;
    struct fec_tiles tiles;
    struct fec_failure failure;
};

static int encode_tile(void *context, unsigned worker, size_t i)
{
    struct encoding *job = context;
    const dmsign_fec *fec = job->fec;
    const size_t at = i * job->tiles.width, left = job->columns - at;
    const size_t width = left < job->tiles.width ? left : job->tiles.width;
    const struct fec_rows sums = fec_tile_sums(&job->tiles, worker);
    uint8_t *parity = job->parity + at * fec->roots;
    struct fec_digests digests;
    int error;

    if (job->digests) {
        digests = *job->digests;
        digests.digests += at / block_hash_block_size(digests.hash) * DIGEST_SIZE;
    }
    for (unsigned k = 0; k < fec->roots; k++)
        memset(sums.bytes + k * sums.stride, 0, width);
    error = fec_sum_rows(fec, job->first + at, width, fec->parity_factors, NULL, &job->tiles,
                         worker, job->digests ? &digests : NULL, &job->failure);
    if (error)
        return error;
    for (size_t column = 0; column < width; column++)
        for (unsigned k = 0; k < fec->roots; k++)
            *parity++ ^= sums.bytes[k * sums.stride + column];
    return 0;
}

int dmsign_fec_encode(const dmsign_fec *fec, uint64_t first, size_t columns, uint8_t *parity,
                      const dmsign_block_hash *hash, uint8_t *digests, unsigned threads,
                      uint64_t *failed_at)
{
    const size_t unit = hash ? block_hash_block_size(hash) : FEC_UNIT;
    struct fec_digests hashed = {hash, digests, columns / unit};
    struct encoding job = {
        .fec = fec,
        .first = first,
        .columns = columns,
        .parity = parity,
        .digests = hash ? &hashed : NULL,
        .failure = {UINT64_MAX},
    };
    size_t tiles;
    int error;

    if (first % unit || columns % unit || columns > fec->row_size ||
        first > fec->row_size - columns || (hash && (!fec->parts || fec->part[0].start)))
        return -EINVAL;
    if (!columns)
        return 0;
    error = fec_tiles_new(&job.tiles, columns, unit, fec->roots,
                          threads = parallel_threads(threads, columns / unit));
    if (error)
        return error;
    tiles = (columns + job.tiles.width - 1) / job.tiles.width;
    error = parallel_for(threads, tiles, encode_tile, &job);
    fec_tiles_free(&job.tiles);
    *failed_at = atomic_load(&job.failure.at);
    return error;
}
