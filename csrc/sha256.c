/* SPDX-License-Identifier: Apache-2.0
 *
 * sha256.c: the choice of implementation, and salted block digests over any of them.
 *
 * A message is salt | block (hash type 1) or block | salt (type 0), then SHA-256's padding. Seen
 * in 64-byte blocks it is: whole blocks of salt, the same for every message (their state is
 * computed once); a head, the rest of the salt with the first bytes of the data; a body, read in
 * place; a tail, the last bytes of the data with what follows them. Heads and tails are put
 * together beside the data, all but their data bytes once for a whole run.
 */
#include "sha256.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "sha256_impl.h"
#include "threads.h"

/* At most 63 bytes of data, or the salt of type 0; then 0x80 and the length. */
#define MAX_TAIL ((MAX_SALT + 1 + 8 + SHA256_BLOCK - 1) / SHA256_BLOCK * SHA256_BLOCK)
#define BATCH_BYTES ((size_t)256 << 10)

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
    size_t head_salt;          /* bytes of salt in the head; 0: there is no head */
    size_t tail_data;          /* bytes of data in the tail */
    size_t tail_size;          /* a multiple of 64 */
    uint32_t start[8];         /* the state after the whole blocks of salt */
    uint8_t head[SHA256_BLOCK]; /* the salt's bytes at its front */
    uint8_t tail[MAX_TAIL];    /* all but the data, which comes first */
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
        else if (impls[i]->lanes < best.narrow->lanes && best.narrow == best.wide)
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

static void store_be32(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

/* Up to 32 messages, of the blocks at data[i]; their digests go to digests[i]. */
struct lanes {
    uint8_t heads[SHA256_MAX_LANES][SHA256_BLOCK];
    uint8_t tails[SHA256_MAX_LANES][MAX_TAIL];
    const uint8_t *data[SHA256_MAX_LANES];
    uint8_t *digests[SHA256_MAX_LANES];
    unsigned used;
};

static void lanes_init(struct lanes *lanes, const dmsign_block_hash *hash)
{
    for (unsigned i = 0; i < hash->impl.wide->lanes; i++) {
        memcpy(lanes->heads[i], hash->head, SHA256_BLOCK);
        memcpy(lanes->tails[i], hash->tail, hash->tail_size);
    }
    lanes->used = 0;
}

/* Hashes lanes first to first + count - 1; with fewer than the implementation has, the spare ones
 * repeat the first. */
static void lanes_hash(struct lanes *lanes, const dmsign_block_hash *hash,
                       const struct sha256_impl *impl, unsigned first, unsigned count)
{
    _Alignas(64) uint32_t state[8 * SHA256_MAX_LANES];
    const uint8_t *at[SHA256_MAX_LANES];
    const size_t head_data = hash->head_salt ? SHA256_BLOCK - hash->head_salt : 0;
    const size_t body = (hash->block_size - head_data) / SHA256_BLOCK;

    for (unsigned w = 0; w < 8; w++)
        for (unsigned l = 0; l < impl->lanes; l++)
            state[w * impl->word_stride + l * impl->lane_stride] = hash->start[w];
#define EACH_LANE(lane, pointer)                                                                   \
    for (unsigned l = 0, lane; lane = first + (l < count ? l : 0), l < impl->lanes; l++)           \
        at[l] = (pointer)
    if (head_data) {
        for (unsigned lane = first; lane < first + count; lane++)
            memcpy(lanes->heads[lane] + hash->head_salt, lanes->data[lane], head_data);
        EACH_LANE(lane, lanes->heads[lane]);
        impl->compress(state, at, 1);
    }
    EACH_LANE(lane, lanes->data[lane] + head_data);
    impl->compress(state, at, body);
    for (unsigned lane = first; lane < first + count; lane++)
        memcpy(lanes->tails[lane], lanes->data[lane] + hash->block_size - hash->tail_data,
               hash->tail_data);
    EACH_LANE(lane, lanes->tails[lane]);
    impl->compress(state, at, hash->tail_size / SHA256_BLOCK);
#undef EACH_LANE
    for (unsigned l = 0; l < count; l++)
        for (unsigned w = 0; w < 8; w++)
            store_be32(lanes->digests[first + l] + 4 * w,
                       state[w * impl->word_stride + l * impl->lane_stride]);
}

static void lanes_flush(struct lanes *lanes, const dmsign_block_hash *hash)
{
    const struct sha256_impl *wide = hash->impl.wide, *narrow = hash->impl.narrow;
    unsigned first = 0;

    /* Half full, a wide call is faster than several narrow ones. */
    if (wide == narrow || lanes->used > wide->lanes / 2) {
        if (lanes->used)
            lanes_hash(lanes, hash, wide, 0, lanes->used);
        first = lanes->used;
    }
    while (first < lanes->used) {
        unsigned left = lanes->used - first;
        unsigned count = left < narrow->lanes ? left : narrow->lanes;

        lanes_hash(lanes, hash, narrow, first, count);
        first += count;
    }
    lanes->used = 0;
}

static int is_zero(const uint8_t *block, size_t size)
{
    static const uint8_t zeros[16];

    return !memcmp(block, zeros, sizeof zeros) &&
           !memcmp(block, block + sizeof zeros, size - sizeof zeros);
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

        if (!zeros_too && is_zero(block, hash->block_size)) {
            memcpy(digests, hash->zero_digest, DIGEST_SIZE);
            continue;
        }
        lanes.data[lanes.used] = block;
        lanes.digests[lanes.used] = digests;
        if (++lanes.used == hash->impl.wide->lanes)
            lanes_flush(&lanes, hash);
    }
    lanes_flush(&lanes, hash);
}

dmsign_block_hash *dmsign_block_hash_new(unsigned hash_type, const uint8_t *salt, size_t salt_size,
                                         size_t block_size)
{
    static const uint32_t initial[8] = {0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    static const uint8_t no_salt[1];
    const uint64_t bits = 8 * (uint64_t)(salt_size + block_size);
    const struct sha256_impl *one = &sha256_portable;
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
    memcpy(hash->start, initial, sizeof initial);
    if (hash_type == 1) {
        const size_t whole = salt_size / SHA256_BLOCK;
        _Alignas(64) uint32_t state[8];

        memcpy(state, initial, sizeof initial);
        one->compress(state, &salt, whole);
        memcpy(hash->start, state, sizeof state);
        /* A block of data is whole blocks: what the head takes from it, the tail has left. */
        hash->head_salt = hash->tail_data = salt_size % SHA256_BLOCK;
        memcpy(hash->head, salt + whole * SHA256_BLOCK, hash->head_salt);
        used = hash->tail_data;
    } else {
        memcpy(hash->tail, salt, salt_size);
        used = salt_size;
    }
    hash->tail[used] = 0x80;
    hash->tail_size = (used + 1 + 8 + SHA256_BLOCK - 1) / SHA256_BLOCK * SHA256_BLOCK;
    store_be32(hash->tail + hash->tail_size - 4, (uint32_t)bits);
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
