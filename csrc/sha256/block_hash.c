/* SPDX-License-Identifier: Apache-2.0
 *
 * block_hash.c: salted block digests over any implementation.
 *
 * A message is salt | block (hash type 1) or block | salt (type 0), then SHA-256's padding. Cut
 * into 64 bytes each, it is: whole pieces of salt, the same for every message (their state is
 * computed once); a head, the rest of the salt with the first bytes of the block; a body, read in
 * place; a tail, the last bytes of the block with what follows them. Heads and tails are put
 * together beside the block, all but their data once for a whole run.
 *
 * With 32 bytes of salt, or 96 ..., the body would straddle cache lines. An implementation that
 * can begin in the middle of a line reads the whole block in place instead, between a line that
 * ends with the salt and one that begins with the padding.
 */
#include "block_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "impl.h"

/* At most 63 bytes of data, or the salt of type 0; then 0x80 and the length. */
#define MAX_TAIL ((MAX_SALT + 1 + 8 + SHA256_BLOCK - 1) / SHA256_BLOCK * SHA256_BLOCK)
#define BATCH_BYTES ((size_t)256 << 10)

/* The edges of a message: the head, 64 bytes for what is copied too much, the tail. */
#define TAIL (2 * SHA256_BLOCK)
#define EDGES (TAIL + MAX_TAIL)

struct dmsign_block_hash {
    struct sha256_choice impl;
    size_t block_size;
    size_t head_salt;                 /* bytes of salt in the head; 0: there is no head */
    size_t tail_data;                 /* bytes of the block in the tail */
    size_t counts[SHA256_PARTS];      /* of 64 bytes, in head, body and tail */
    uint32_t start[8];                /* the state after the whole pieces of salt */
    uint8_t edges[EDGES];             /* all but the data */
    size_t late_counts[SHA256_PARTS]; /* of the lines around and of the block */
    uint8_t before[SHA256_BLOCK], after[SHA256_BLOCK]; /* those around */
    uint8_t zero_digest[DIGEST_SIZE];
};

/* Whether the salt takes half a line and the padding fits in the other half. */
static int is_late(const dmsign_block_hash *hash)
{
    return hash->head_salt == SHA256_BLOCK / 2;
}

/* Blocks that wait for as many as the implementation hashes together. */
struct lanes {
    const dmsign_block_hash *hash;
    const uint8_t *blocks[SHA256_MAX_LANES];
    uint8_t *digests[SHA256_MAX_LANES];
    unsigned used;
    unsigned ready; /* edges that hold all but the data */
    _Alignas(SHA256_BLOCK) uint8_t edges[SHA256_MAX_LANES][EDGES];
};

static void hash_late(const struct lanes *lanes, const struct sha256_impl *impl, unsigned first)
{
    const dmsign_block_hash *hash = lanes->hash;
    struct sha256_message messages[SHA256_MAX_LANES];

    for (unsigned i = 0; i < impl->lanes; i++) {
        /* Spare lanes repeat a message. */
        const unsigned lane = first + i < lanes->used ? first + i : first;

        messages[i] = (struct sha256_message){{hash->before, lanes->blocks[lane], hash->after},
                                              lanes->digests[lane]};
    }
    impl->hash_late(hash->start, hash->late_counts, messages);
}

static void hash_in_place(struct lanes *lanes, const struct sha256_impl *impl, unsigned first)
{
    const dmsign_block_hash *hash = lanes->hash;
    struct sha256_message messages[SHA256_MAX_LANES];

    for (; lanes->ready < impl->lanes; lanes->ready++)
        memcpy(lanes->edges[lanes->ready], hash->edges, TAIL + hash->counts[2] * SHA256_BLOCK);
    for (unsigned i = 0; i < impl->lanes; i++) {
        const unsigned lane = first + i < lanes->used ? first + i : first;
        const uint8_t *block = lanes->blocks[lane];
        uint8_t *edges = lanes->edges[i];

        /* Always 64 bytes, which takes no call: what is too much is overwritten or never read. */
        memcpy(edges + hash->head_salt, block, SHA256_BLOCK);
        memcpy(edges + TAIL + hash->tail_data - SHA256_BLOCK,
               block + hash->block_size - SHA256_BLOCK, SHA256_BLOCK);
        messages[i] = (struct sha256_message){
            {edges, block + hash->counts[0] * SHA256_BLOCK - hash->head_salt, edges + TAIL},
            lanes->digests[lane]};
    }
    impl->hash(hash->start, hash->counts, messages);
}

static void lanes_hash(struct lanes *lanes)
{
    const struct sha256_choice *choice = &lanes->hash->impl;
    /* Half full, a wide call is faster than several narrow ones. */
    const struct sha256_impl *impl =
        lanes->used > choice->wide->lanes / 2 ? choice->wide : choice->narrow;

    for (unsigned first = 0; first < lanes->used; first += impl->lanes) {
        if (impl->hash_late && is_late(lanes->hash))
            hash_late(lanes, impl, first);
        else
            hash_in_place(lanes, impl, first);
    }
    lanes->used = 0;
}

static void lanes_add(struct lanes *lanes, const uint8_t *block, uint8_t *digest)
{
    lanes->blocks[lanes->used] = block;
    lanes->digests[lanes->used] = digest;
    if (++lanes->used == lanes->hash->impl.wide->lanes)
        lanes_hash(lanes);
}

static int is_zero(const uint8_t *block, size_t size)
{
    uint64_t first;

    memcpy(&first, block, sizeof first);
    return !first && !memcmp(block, block + sizeof first, size - sizeof first);
}

/* Where the blocks are: one behind another from `first`, or each on its own. */
struct places {
    const uint8_t *first;
    const uint8_t *const *each;
};

static void hash_all(const dmsign_block_hash *hash, struct places places, size_t start,
                     size_t count, uint8_t *digests, int zeros_too)
{
    struct lanes lanes;

    lanes.hash = hash;
    lanes.used = lanes.ready = 0;
    for (size_t i = start; i < start + count; i++, digests += DIGEST_SIZE) {
        const uint8_t *block = places.each ? places.each[i] : places.first + i * hash->block_size;

        if (!zeros_too && is_zero(block, hash->block_size))
            memcpy(digests, hash->zero_digest, DIGEST_SIZE);
        else
            lanes_add(&lanes, block, digests);
    }
    lanes_hash(&lanes);
}

dmsign_block_hash *dmsign_block_hash_new(unsigned hash_type, const uint8_t *salt, size_t salt_size,
                                         size_t block_size)
{
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    static const uint8_t no_salt[1];
    const uint64_t bits = 8 * (uint64_t)(salt_size + block_size);
    dmsign_block_hash *hash;
    uint8_t *zeros;
    size_t used;

    if (hash_type > 1 || salt_size > MAX_SALT || block_size < MIN_BLOCK_SIZE ||
        block_size > MAX_BLOCK_SIZE || block_size & (block_size - 1)) {
        errno = EINVAL;
        return NULL;
    }
    if (!salt_size)
        salt = no_salt;
    hash = calloc(1, sizeof *hash);
    zeros = calloc(1, block_size);
    if (!hash || !zeros) {
        free(hash);
        free(zeros);
        return NULL;
    }
    hash->impl = sha256_chosen();
    hash->block_size = block_size;
    if (hash_type == 1) {
        const size_t whole = salt_size / SHA256_BLOCK;
        uint8_t state[DIGEST_SIZE];

        sha256_portable.hash(initial, (size_t[SHA256_PARTS]){whole},
                             &(struct sha256_message){{salt}, state});
        for (unsigned i = 0; i < 8; i++)
            hash->start[i] = load_be32(state + 4 * i);
        /* A block is a multiple of 64 bytes: what the head takes from it, the tail has left. */
        hash->head_salt = hash->tail_data = salt_size % SHA256_BLOCK;
        memcpy(hash->edges, salt + whole * SHA256_BLOCK, hash->head_salt);
        used = hash->tail_data;
    } else {
        memcpy(hash->start, initial, sizeof initial);
        memcpy(hash->edges + TAIL, salt, salt_size);
        used = salt_size;
    }
    hash->counts[0] = hash->head_salt != 0;
    hash->counts[1] = block_size / SHA256_BLOCK - hash->counts[0];
    hash->counts[2] = (used + 1 + 8 + SHA256_BLOCK - 1) / SHA256_BLOCK;
    hash->edges[TAIL + used] = 0x80;
    store_be32(hash->edges + TAIL + hash->counts[2] * SHA256_BLOCK - 4, (uint32_t)bits);
    if (is_late(hash)) {
        hash->late_counts[0] = hash->late_counts[2] = 1;
        hash->late_counts[1] = block_size / SHA256_BLOCK;
        memcpy(hash->before + SHA256_BLOCK / 2, hash->edges, SHA256_BLOCK / 2);
        memcpy(hash->after, hash->edges + TAIL + SHA256_BLOCK / 2, SHA256_BLOCK / 2);
    }
    hash_all(hash, (struct places){zeros, NULL}, 0, 1, hash->zero_digest, 1);
    free(zeros);
    return hash;
}

void dmsign_block_hash_free(dmsign_block_hash *hash)
{
    free(hash);
}

size_t block_hash_block_size(const dmsign_block_hash *hash)
{
    return hash->block_size;
}

const uint8_t *block_hash_zero_digest(const dmsign_block_hash *hash)
{
    return hash->zero_digest;
}

size_t block_hash_batch(const dmsign_block_hash *hash)
{
    const size_t lanes = hash->impl.wide->lanes, cached = BATCH_BYTES / hash->block_size;

    return cached > lanes ? cached : lanes;
}

void block_hash_run(const dmsign_block_hash *hash, const uint8_t *blocks, size_t count,
                    uint8_t *digests)
{
    hash_all(hash, (struct places){blocks, NULL}, 0, count, digests, 0);
}

struct job {
    const dmsign_block_hash *hash;
    struct places places;
    size_t count, batch;
    uint8_t *digests;
};

static int hash_batch(void *context, unsigned worker, size_t i)
{
    const struct job *job = context;
    const size_t first = i * job->batch, left = job->count - first;

    (void)worker;
    hash_all(job->hash, job->places, first, left < job->batch ? left : job->batch,
             job->digests + first * DIGEST_SIZE, 0);
    return 0;
}

/* pool: NULL for threads of this call. */
static int hash_parallel(const dmsign_block_hash *hash, struct pool *pool, struct places places,
                         size_t count, uint8_t *digests, unsigned threads)
{
    const size_t lanes = hash->impl.wide->lanes, most = block_hash_batch(hash);
    /* Few blocks are dealt out to all threads, in whole lanes. */
    const size_t share = (count / parallel_threads(threads, count) + lanes) / lanes * lanes;
    const size_t batch = share < most ? share : most, batches = (count + batch - 1) / batch;
    struct job job = {hash, places, count, batch, digests};

    return pool ? pool_run(pool, threads, batches, hash_batch, &job)
                : parallel_for(threads, batches, hash_batch, &job);
}

int dmsign_hash_blocks(const dmsign_block_hash *hash, const uint8_t *blocks, size_t count,
                       uint8_t *digests, unsigned threads)
{
    return hash_parallel(hash, NULL, (struct places){blocks, NULL}, count, digests, threads);
}

int block_hash_pooled(const dmsign_block_hash *hash, struct pool *pool, const uint8_t *blocks,
                      size_t count, uint8_t *digests, unsigned threads)
{
    return hash_parallel(hash, pool, (struct places){blocks, NULL}, count, digests, threads);
}

int block_hash_scattered(const dmsign_block_hash *hash, struct pool *pool,
                         const uint8_t *const *blocks, size_t count, uint8_t *digests,
                         unsigned threads)
{
    return hash_parallel(hash, pool, (struct places){NULL, blocks}, count, digests, threads);
}
