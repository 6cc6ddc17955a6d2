/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target of verity/tree.c and verity/file.c: any sequence of appended bytes, files, zeros
 * and digests, with and without drains, against a tree that is made level by level at the end. */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "dmsign.h"
#include "fuzz.h"

#define MAX_DATA ((size_t)1 << 20)
#define MAX_LEVELS 20
#define FILE_OFFSET 4096

enum step { BYTES, MORE_BYTES, OF_FILE, ZEROS, DIGESTS, DRAIN, STEPS };

struct level {
    uint8_t *at;
    size_t len;
};

struct subject {
    size_t block, hash_block;
    unsigned type;
    size_t salt_size;
    uint8_t salt[256];
    dmsign_tree *tree;
    dmsign_block_hash *hash;
    uint8_t *data;
    size_t len;
    struct level drained[MAX_LEVELS];
    int fd;
};

static uint8_t *digests_of(const struct subject *s, const uint8_t *data, size_t size, size_t block)
{
    dmsign_block_hash *const hash = dmsign_block_hash_new(s->type, s->salt, s->salt_size, block);
    uint8_t *const digests = malloc(size / block * 32 + 1);

    EXPECT(hash && digests && !dmsign_hash_blocks(hash, data, size / block, digests, 1));
    dmsign_block_hash_free(hash);
    return digests;
}

/* Takes over what a level shows; it must join what was there. */
static void take_level(struct subject *s, unsigned number)
{
    struct level *const level = &s->drained[number];
    uint64_t start;
    size_t size;
    const uint8_t *const blocks = dmsign_tree_level(s->tree, number, &start, &size);

    EXPECT(size % s->hash_block == 0 && start == level->len);
    level->at = realloc(level->at, level->len + size + 1);
    EXPECT(level->at);
    if (size)
        memcpy(level->at + level->len, blocks, size);
    level->len += size;
}

/* Noise, some of it zero, or zeros alone. */
static uint8_t *more_data(struct subject *s, size_t size, uint32_t seed, int zeros)
{
    s->data = realloc(s->data, s->len + size + 1);
    EXPECT(s->data);
    uint8_t *const data = s->data + s->len;

    for (size_t i = 0; i < size; i++) {
        if (i % 512 == 0)
            seed = seed * 1664525u + 1013904223u;
        data[i] = zeros || seed >> 28 < 5 ? 0 : (uint8_t)(seed >> i % 4 * 8);
    }
    return data;
}

static int append(struct subject *s, enum step step, size_t size, unsigned threads, uint32_t seed)
{
    const uint8_t *const data = more_data(s, size, seed, step == ZEROS);
    const size_t count = size / s->block;
    uint8_t *copy;
    uint64_t failed_at;
    int ret;

    switch (step) {
    case OF_FILE:
        EXPECT(pwrite(s->fd, data, size, FILE_OFFSET) == (ssize_t)size);
        return dmsign_tree_update_file(s->tree, s->fd, FILE_OFFSET, count, threads, &failed_at);
    case ZEROS:
        return dmsign_tree_update_zeros(s->tree, count);
    case DIGESTS:
        copy = digests_of(s, data, size, s->block);
        ret = dmsign_tree_update_digests(s->tree, copy, count, threads);
        break;
    default:
        copy = copy_of(data, size);
        ret = dmsign_tree_update(s->tree, copy, size, threads);
    }
    free(copy);
    return ret;
}

/* False once the tree can only be freed: whole blocks were appended within a block. */
static int take_steps(struct subject *s, const uint8_t *input, size_t len)
{
    for (; len >= 3 && s->len < MAX_DATA; input += 3, len -= 3) {
        const enum step step = input[0] % STEPS;
        const size_t number = input[1] | (size_t)input[2] << 8;
        size_t size = step >= OF_FILE ? number % 600 * s->block
                      : step == BYTES ? number
                                      : number * 7;

        if (step == DRAIN) {
            for (unsigned i = 0; i < dmsign_tree_levels(s->tree); i++)
                take_level(s, i);
            dmsign_tree_drain(s->tree);
            continue;
        }
        if (s->len + size > MAX_DATA)
            size = s->block;
        const int ret = append(s, step, size, 1 + input[0] / 64, (uint32_t)number * 2654435761u);

        if (step >= OF_FILE && s->len % s->block) {
            EXPECT(ret);
            return 0;
        }
        EXPECT(!ret);
        s->len += size;
    }
    return 1;
}

static void check_tree(struct subject *s)
{
    uint8_t root_hash[32];
    const int ret = dmsign_tree_final(s->tree, root_hash, 2);
    size_t size = s->len / s->block * 32;
    unsigned number = 0;

    EXPECT(!ret == (s->len && s->len % s->block == 0));
    if (ret)
        return;
    uint8_t *digests = digests_of(s, s->data, s->len, s->block);

    for (; size > 32; number++) {
        const size_t filled = (size + s->hash_block - 1) / s->hash_block * s->hash_block;
        uint8_t *const blocks = calloc(1, filled);

        EXPECT(blocks && number < dmsign_tree_levels(s->tree));
        memcpy(blocks, digests, size);
        take_level(s, number);
        EXPECT(s->drained[number].len == filled && !memcmp(s->drained[number].at, blocks, filled));
        free(digests);
        digests = digests_of(s, blocks, filled, s->hash_block);
        size = filled / s->hash_block * 32;
        free(blocks);
    }
    EXPECT(number == dmsign_tree_levels(s->tree) && !memcmp(digests, root_hash, 32));
    free(digests);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    if (len < 6)
        return 0;
    struct subject s = {
        .block = (size_t)512 << input[0] % 4,
        .hash_block = (size_t)512 << input[1] % 4,
        .type = input[2] & 1,
        .salt_size = input[3],
        .fd = memfd_create("data", 0),
    };
    const char *const implementation = dmsign_impl_name(input[5] % 8);

    if (!implementation || dmsign_impl_select(implementation))
        dmsign_impl_select(NULL);
    for (unsigned i = 0; i < sizeof(s.salt); i++)
        s.salt[i] = (uint8_t)(i * input[4]);
    s.tree = dmsign_tree_new(s.type, s.salt, s.salt_size, s.block, s.hash_block);
    EXPECT(s.tree && s.fd >= 0);
    if (take_steps(&s, input + 6, len - 6))
        check_tree(&s);
    close(s.fd);
    dmsign_tree_free(s.tree);
    free(s.data);
    for (unsigned i = 0; i < MAX_LEVELS; i++)
        free(s.drained[i].at);
    return 0;
}
