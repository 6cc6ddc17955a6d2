/* SPDX-License-Identifier: Apache-2.0
 *
 * block_hash.c: the choice of implementation, and salted block digests over any of them.
 *
 * A message is salt | block (hash type 1) or block | salt (type 0), then SHA-256's padding. Seen
 * in 64-byte blocks it is: whole blocks of salt, the same for every message (their state is
 * computed once); a head, the rest of the salt with the first bytes of the data; a body, read in
 * place; a tail, the last bytes of the data with what follows them. Heads and tails are put
 * together beside the data, all but their data bytes once for a whole run.
 */
#include "block_hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "impl.h"
#include "threads.h"

/* At most 63 bytes of data, or the salt of type 0; then 0x80 and the length. */
#define MAX_TAIL ((MAX_SALT + 1 + 8 + SHA256_BLOCK - 1) / SHA256_BLOCK * SHA256_BLOCK)
#define BATCH_BYTES ((size_t)256 << 10)

/* The edges of a message: the head, a block for what is copied too much, the tail. */
#define TAIL (2 * SHA256_BLOCK)
#define EDGES (TAIL + MAX_TAIL)

/* Best first: measured on Zen 3 (shani before avx2), Zen 4 and Zen 5. */
static const struct sha256_impl *const impls[] = {
#if defined(__x86_64__)
    &sha256_avx512,
    &sha256_shani,
    &sha256_avx2,
#elif defined(__aarch64__)
    &sha256_armv8,
#endif
    &sha256_portable,
};
#define IMPLS (sizeof impls / sizeof *impls)

/* `wide` takes what fills its lanes, `narrow` the few messages that are left at the end of a run.
 * An implementation chosen by name does both. */
static struct choice {
    const struct sha256_impl *wide, *narrow;
} chosen;

struct dmsign_block_hash {
    struct choice impl;
    size_t block_size;
    size_t head_salt;            /* bytes of salt in the head; 0: there is no head */
    size_t tail_data;            /* bytes of data in the tail */
    size_t counts[SHA256_PARTS]; /* of 64-byte blocks in head, body and tail */
    uint32_t start[8];           /* the state after the whole blocks of salt */
    uint8_t edges[EDGES];        /* all but the data */
    uint8_t zero_digest[DIGEST_SIZE];
};

const char *dmsign_impl_name(unsigned index)
{
    return index < IMPLS ? impls[index]->name : NULL;
}

int dmsign_impl_supported(unsigned index)
{
    return index < IMPLS && impls[index]->supported();
}

int dmsign_impl_select(const char *name)
{
    struct choice best = {0};

    for (unsigned i = 0; i < IMPLS; i++) {
        if (name && strcmp(name, impls[i]->name))
            continue;
        if (!impls[i]->supported()) {
            if (name)
                return -ENOTSUP;
            continue;
        }
        if (!best.wide)
            best.wide = best.narrow = impls[i];
        else if (best.narrow == best.wide && impls[i]->lanes < best.wide->lanes &&
                 impls[i] != &sha256_portable) /* its calls cost more than spare lanes */
            best.narrow = impls[i];
    }
    if (!best.wide)
        return -EINVAL;
    chosen = best;
    return 0;
}

const char *dmsign_impl(void)
{
    if (!chosen.wide)
        dmsign_impl_select(NULL);
    return chosen.wide->name;
}

/* Messages that wait for as many as the implementation hashes together. */
struct lanes {
    _Alignas(SHA256_BLOCK) uint8_t edges[SHA256_MAX_LANES][EDGES];
    struct sha256_message messages[SHA256_MAX_LANES];
    unsigned used;
};

static void lanes_init(struct lanes *lanes, const dmsign_block_hash *hash)
{
    for (unsigned i = 0; i < hash->impl.wide->lanes; i++)
        memcpy(lanes->edges[i], hash->edges, TAIL + hash->counts[2] * SHA256_BLOCK);
    lanes->used = 0;
}

static void lanes_hash(struct lanes *lanes, const dmsign_block_hash *hash)
{
    /* Half full, a wide call is faster than several narrow ones. */
    const struct sha256_impl *impl =
        lanes->used > hash->impl.wide->lanes / 2 ? hash->impl.wide : hash->impl.narrow;

    for (unsigned first = 0; first < lanes->used; first += impl->lanes) {
        /* Spare lanes repeat a message. */
        for (unsigned i = lanes->used; i < first + impl->lanes; i++)
            lanes->messages[i] = lanes->messages[first];
        impl->hash(hash->start, hash->counts, lanes->messages + first);
    }
    lanes->used = 0;
}

static void lanes_add(struct lanes *lanes, const dmsign_block_hash *hash, const uint8_t *block,
                      uint8_t *digest)
{
    uint8_t *edges = lanes->edges[lanes->used];

    /* Always a whole block, which takes no call: the rest is overwritten or never read. */
    memcpy(edges + hash->head_salt, block, SHA256_BLOCK);
    memcpy(edges + TAIL + hash->tail_data - SHA256_BLOCK, block + hash->block_size - SHA256_BLOCK,
           SHA256_BLOCK);
    lanes->messages[lanes->used] = (struct sha256_message){
        {edges, block + hash->counts[0] * SHA256_BLOCK - hash->head_salt, edges + TAIL}, digest};
    if (++lanes->used == hash->impl.wide->lanes)
        lanes_hash(lanes, hash);
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

    lanes_init(&lanes, hash);
    for (size_t i = start; i < start + count; i++, digests += DIGEST_SIZE) {
        const uint8_t *block = places.each ? places.each[i] : places.first + i * hash->block_size;

        if (!zeros_too && is_zero(block, hash->block_size))
            memcpy(digests, hash->zero_digest, DIGEST_SIZE);
        else
            lanes_add(&lanes, hash, block, digests);
    }
    lanes_hash(&lanes, hash);
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
    dmsign_impl();
    hash->impl = chosen;
    hash->block_size = block_size;
    if (hash_type == 1) {
        const size_t whole = salt_size / SHA256_BLOCK;
        uint8_t state[DIGEST_SIZE];

        sha256_portable.hash(initial, (size_t[SHA256_PARTS]){whole},
                             &(struct sha256_message){{salt}, state});
        for (unsigned i = 0; i < 8; i++)
            hash->start[i] = load_be32(state + 4 * i);
        /* A block of data is whole blocks: what the head takes from it, the tail has left. */
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

size_t block_hash_skew(const dmsign_block_hash *hash)
{
    return hash->head_salt;
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

static int hash_parallel(const dmsign_block_hash *hash, struct places places, size_t count,
                         uint8_t *digests, unsigned threads)
{
    const size_t batch = block_hash_batch(hash);
    struct job job = {hash, places, count, batch, digests};

    return parallel_for(threads, (count + batch - 1) / batch, hash_batch, &job);
}

int dmsign_hash_blocks(const dmsign_block_hash *hash, const uint8_t *blocks, size_t count,
                       uint8_t *digests, unsigned threads)
{
    return hash_parallel(hash, (struct places){blocks, NULL}, count, digests, threads);
}

int block_hash_scattered(const dmsign_block_hash *hash, const uint8_t *const *blocks, size_t count,
                         uint8_t *digests, unsigned threads)
{
    return hash_parallel(hash, (struct places){NULL, blocks}, count, digests, threads);
}
