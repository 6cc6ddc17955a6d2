/* SPDX-License-Identifier: Apache-2.0
 *
 * tree.c: the Merkle tree of dm-verity (kernel: drivers/md/dm-verity-target.c), built as
 * data arrives.
 *
 * A SHA-256 digest is a power of two and fills hash blocks without gaps, so a level is one run of
 * digests, and only its last block can need padding. Each level hashes its complete blocks, many
 * at a time, into the level above. Which level is the top is known at the end: the level of a
 * single digest, which is the root hash and not part of the hash area.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "file.h"

/* 2^64 digests in blocks of 16: each level has a sixteenth of the one below. */
#define MAX_LEVELS 17
/* Below this many waiting bytes a level is not hashed yet: lanes would stay empty. */
#define ENOUGH ((size_t)64 << 10)

struct level {
    uint8_t *digests; /* from byte `start` of the level on */
    size_t size, capacity;
    size_t hashed; /* so many of `size` are complete blocks whose digests the next level has */
    uint64_t start;
};

struct dmsign_tree {
    dmsign_block_hash *data_hash, *level_hash;
    struct pool *pool; /* of all calls */
    struct file_hash file;
    struct level begun; /* what becomes level 0 when the blocks of a file that are begun end */
    size_t data_block_size, hash_block_size;
    uint8_t *carry; /* data that waits for a whole batch */
    size_t carried, carry_size;
    unsigned levels;
    struct level level[MAX_LEVELS];
};

dmsign_tree *dmsign_tree_new(unsigned hash_type, const uint8_t *salt, size_t salt_size,
                             size_t data_block_size, size_t hash_block_size)
{
    dmsign_tree *tree = calloc(1, sizeof *tree);

    if (!tree)
        return NULL;
    tree->data_hash = dmsign_block_hash_new(hash_type, salt, salt_size, data_block_size);
    tree->level_hash =
        tree->data_hash ? dmsign_block_hash_new(hash_type, salt, salt_size, hash_block_size) : NULL;
    tree->pool = tree->level_hash ? pool_new() : NULL;
    if (tree->pool) {
        tree->data_block_size = data_block_size;
        tree->hash_block_size = hash_block_size;
        tree->carry_size = block_hash_batch(tree->data_hash) * data_block_size;
        return tree;
    }
    dmsign_tree_free(tree);
    return NULL;
}

void dmsign_tree_free(dmsign_tree *tree)
{
    if (!tree)
        return;
    pool_free(tree->pool);
    file_hash_free(&tree->file);
    free(tree->begun.digests);
    dmsign_block_hash_free(tree->data_hash);
    dmsign_block_hash_free(tree->level_hash);
    free(tree->carry);
    for (unsigned height = 0; height < MAX_LEVELS; height++)
        free(tree->level[height].digests);
    free(tree);
}

/* Makes room for `size` more bytes; NULL: no memory. */
static uint8_t *make_room(struct level *level, size_t size)
{
    size_t capacity = level->capacity;

    if (size > SIZE_MAX / 2 - level->size)
        return NULL;
    if (level->size + size > capacity) {
        uint8_t *digests;

        capacity += capacity / 2;
        if (capacity < level->size + size)
            capacity = level->size + size;
        digests = realloc(level->digests, capacity);
        if (!digests)
            return NULL;
        level->digests = digests;
        level->capacity = capacity;
    }
    return level->digests + level->size;
}

/* The same in the level at `height`, which the tree then has. */
static uint8_t *reserve(dmsign_tree *tree, unsigned height, size_t size)
{
    if (tree->levels <= height)
        tree->levels = height + 1;
    return make_room(&tree->level[height], size);
}

/* Hashes the complete blocks that wait at `height` and, with what they add, on those above. */
static int hash_up(dmsign_tree *tree, unsigned height, size_t enough, unsigned threads)
{
    for (; height < tree->levels; height++) {
        struct level *level = &tree->level[height];
        const size_t waiting = level->size - level->hashed, count = waiting / tree->hash_block_size;
        uint8_t *above;
        int error;

        if (!count || waiting < enough)
            continue;
        if (height + 1 == MAX_LEVELS || !(above = reserve(tree, height + 1, count * DIGEST_SIZE)))
            return -ENOMEM;
        error = block_hash_pooled(tree->level_hash, tree->pool, level->digests + level->hashed,
                                  count, above, threads);
        if (error)
            return error;
        tree->level[height + 1].size += count * DIGEST_SIZE;
        level->hashed += count * tree->hash_block_size;
    }
    return 0;
}

static int add_blocks(dmsign_tree *tree, const uint8_t *blocks, size_t count, unsigned threads)
{
    uint8_t *digests;
    int error;

    if (!count)
        return 0;
    digests = reserve(tree, 0, count * DIGEST_SIZE);
    if (!digests)
        return -ENOMEM;
    error = block_hash_pooled(tree->data_hash, tree->pool, blocks, count, digests, threads);
    if (error)
        return error;
    tree->level[0].size += count * DIGEST_SIZE;
    return hash_up(tree, 0, ENOUGH, threads);
}

/* Hashes the whole blocks that are carried; -EINVAL if a partial one is left. */
static int flush_carry(dmsign_tree *tree, unsigned threads)
{
    const size_t blocks = tree->carried / tree->data_block_size;

    if (tree->carried % tree->data_block_size)
        return -EINVAL;
    tree->carried = 0;
    return add_blocks(tree, tree->carry, blocks, threads);
}

int dmsign_tree_update(dmsign_tree *tree, const uint8_t *data, size_t size, unsigned threads)
{
    while (size) {
        size_t taken;
        int error;

        if (!tree->carried && size >= tree->carry_size) {
            taken = size - size % tree->data_block_size;
            error = add_blocks(tree, data, taken / tree->data_block_size, threads);
        } else {
            if (!tree->carry && !(tree->carry = malloc(tree->carry_size)))
                return -ENOMEM;
            taken = tree->carry_size - tree->carried;
            if (taken > size)
                taken = size;
            memcpy(tree->carry + tree->carried, data, taken);
            tree->carried += taken;
            error = tree->carried == tree->carry_size ? flush_carry(tree, threads) : 0;
        }
        if (error)
            return error;
        data += taken;
        size -= taken;
    }
    return 0;
}

int dmsign_tree_update_file(dmsign_tree *tree, int fd, uint64_t offset, size_t count,
                            unsigned threads, uint64_t *failed_at)
{
    int error = flush_carry(tree, threads);
    uint8_t *digests;

    *failed_at = offset;
    if (error || !count)
        return error;
    if (count > SIZE_MAX / 2 / DIGEST_SIZE || !(digests = reserve(tree, 0, count * DIGEST_SIZE)))
        return -ENOMEM;
    error = file_hash_begin(&tree->file, tree->pool, tree->data_hash, fd, offset, count, digests,
                            threads);
    if (!error)
        error = file_hash_end(&tree->file, tree->pool, failed_at);
    if (error)
        return error;
    tree->level[0].size += count * DIGEST_SIZE;
    return hash_up(tree, 0, ENOUGH, threads);
}

int dmsign_tree_begin_file(dmsign_tree *tree, int fd, uint64_t offset, size_t count,
                           unsigned threads)
{
    const struct level *level = &tree->level[0];
    const size_t left = level->size - level->hashed;
    int error = flush_carry(tree, threads);

    if (error)
        return error;
    /* Memory of its own: what is finished can be read meanwhile. */
    tree->begun.size = 0;
    if (count > SIZE_MAX / 4 / DIGEST_SIZE || !make_room(&tree->begun, left + count * DIGEST_SIZE))
        return -ENOMEM;
    if (left)
        memcpy(tree->begun.digests, level->digests + level->hashed, left);
    error = file_hash_begin(&tree->file, tree->pool, tree->data_hash, fd, offset, count,
                            tree->begun.digests + left, threads);
    if (!error)
        tree->begun.size = left + count * DIGEST_SIZE;
    return error;
}

int dmsign_tree_end_file(dmsign_tree *tree, unsigned threads, uint64_t *failed_at)
{
    const struct level shown = tree->level[0];
    int error;

    if (!tree->begun.size)
        return 0;
    error = file_hash_end(&tree->file, tree->pool, failed_at);
    if (!error) {
        tree->level[0] = tree->begun;
        tree->level[0].start = shown.start + shown.hashed;
        tree->begun = shown;
        tree->level[0].hashed = 0;
        if (!tree->levels)
            tree->levels = 1;
        dmsign_tree_drain(tree);
        error = hash_up(tree, 0, ENOUGH, threads);
    }
    tree->begun.size = 0;
    return error;
}

static void fill(uint8_t *to, const uint8_t *digest, size_t count)
{
    for (size_t i = 0; i < count; i++)
        memcpy(to + i * DIGEST_SIZE, digest, DIGEST_SIZE);
}

int dmsign_tree_update_zeros(dmsign_tree *tree, size_t count)
{
    const size_t per_block = tree->hash_block_size / DIGEST_SIZE;
    uint8_t digest[DIGEST_SIZE];
    int error = flush_carry(tree, 1);

    memcpy(digest, block_hash_zero_digest(tree->data_hash), DIGEST_SIZE);
    /* The same digest many times makes the same hash block many times: it is hashed once. */
    for (unsigned height = 0; !error && count; height++) {
        struct level *level = &tree->level[height];
        size_t used, full;
        uint8_t *to;

        if (height == MAX_LEVELS || count > SIZE_MAX / 2 / DIGEST_SIZE ||
            !(to = reserve(tree, height, count * DIGEST_SIZE)))
            return -ENOMEM;
        fill(to, digest, count);
        used = level->size / DIGEST_SIZE % per_block; /* in the block that is begun */
        if (used && count >= per_block - used) {
            level->size += (per_block - used) * DIGEST_SIZE;
            count -= per_block - used;
            used = 0;
        }
        if (!used) {
            /* What waits goes up before what is added after it. */
            error = hash_up(tree, height, 0, 1);
            full = count / per_block;
            level->size += count * DIGEST_SIZE;
            if (full)
                block_hash_run(tree->level_hash, level->digests + level->hashed, 1, digest);
            level->hashed += full * tree->hash_block_size;
            count = full;
        } else {
            level->size += count * DIGEST_SIZE;
            count = 0;
        }
    }
    return error;
}

int dmsign_tree_update_digests(dmsign_tree *tree, const uint8_t *digests, size_t count,
                               unsigned threads)
{
    int error = flush_carry(tree, threads);
    uint8_t *to;

    if (error || !count)
        return error;
    if (count > SIZE_MAX / 2 / DIGEST_SIZE || !(to = reserve(tree, 0, count * DIGEST_SIZE)))
        return -ENOMEM;
    memcpy(to, digests, count * DIGEST_SIZE);
    tree->level[0].size += count * DIGEST_SIZE;
    return hash_up(tree, 0, ENOUGH, threads);
}

int dmsign_tree_final(dmsign_tree *tree, uint8_t *root_hash, unsigned threads)
{
    int error = flush_carry(tree, threads);

    if (error)
        return error;
    if (!tree->levels)
        return -ENODATA;
    for (unsigned height = 0; height < tree->levels; height++) {
        struct level *level = &tree->level[height];
        size_t partial = level->size % tree->hash_block_size;
        uint8_t *end;

        if (level->start + level->size == DIGEST_SIZE) {
            memcpy(root_hash, level->digests, DIGEST_SIZE);
            tree->levels = height;
            return 0;
        }
        if (partial) {
            size_t padding = tree->hash_block_size - partial;

            if (!(end = reserve(tree, height, padding)))
                return -ENOMEM;
            memset(end, 0, padding);
            level->size += padding;
        }
        error = hash_up(tree, height, 0, threads);
        if (error)
            return error;
    }
    return -EINVAL; /* final was called twice */
}

unsigned dmsign_tree_levels(const dmsign_tree *tree)
{
    return tree->levels;
}

const uint8_t *dmsign_tree_level(const dmsign_tree *tree, unsigned height, uint64_t *start,
                                 size_t *size)
{
    const struct level *level = &tree->level[height];

    *start = level->start;
    *size = level->hashed;
    return level->digests;
}

void dmsign_tree_drain(dmsign_tree *tree)
{
    for (unsigned height = 0; height < tree->levels; height++) {
        struct level *level = &tree->level[height];

        if (!level->hashed)
            continue;
        level->size -= level->hashed;
        level->start += level->hashed;
        memmove(level->digests, level->digests + level->hashed, level->size);
        level->hashed = 0;
    }
}
