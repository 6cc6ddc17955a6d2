/* SPDX-License-Identifier: Apache-2.0
 *
 * block_hash.h: the salted block hash, for the other files of the core.
 */
#ifndef DMSIGN_BLOCK_HASH_H
#define DMSIGN_BLOCK_HASH_H

#include "../dmsign.h"
#include "threads.h"

#define DIGEST_SIZE 32
#define MAX_SALT 256
#define MIN_BLOCK_SIZE 512
#define MAX_BLOCK_SIZE ((size_t)512 << 10)

size_t block_hash_block_size(const dmsign_block_hash *hash);
/* The digest of a block of zeros, known from the start. */
const uint8_t *block_hash_zero_digest(const dmsign_block_hash *hash);
/* dmsign_hash_blocks in the calling thread; cannot fail. */
void block_hash_run(const dmsign_block_hash *hash, const uint8_t *blocks, size_t count,
                    uint8_t *digests);
/* dmsign_hash_blocks by the threads of a pool. */
int block_hash_pooled(const dmsign_block_hash *hash, struct pool *pool, const uint8_t *blocks,
                      size_t count, uint8_t *digests, unsigned threads);
/* The same for blocks that do not stand one behind another; without a pool, threads of the call. */
int block_hash_scattered(const dmsign_block_hash *hash, struct pool *pool,
                         const uint8_t *const *blocks, size_t count, uint8_t *digests,
                         unsigned threads);
/* Blocks that one thread should be given at a time: enough for every lane, and in the L2 cache. */
size_t block_hash_batch(const dmsign_block_hash *hash);

#endif
