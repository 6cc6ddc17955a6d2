/* SPDX-License-Identifier: Apache-2.0
 *
 * test_core.c: the C core against itself, made to run under sanitizers and emulators.
 *
 * Every implementation must agree with the portable one (and that one with known digests), every
 * way to feed a tree with every other. Input stands right before a page that cannot be touched.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "dmsign.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s: %s\n", __FILE__, __LINE__, dmsign_impl(), #condition);     \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static unsigned long checks;
static uint8_t salt[256];

static uint32_t next_random(void)
{
    static uint32_t x = 2463534242;

    x ^= x << 13;
    x ^= x >> 17;
    return x ^= x << 5;
}

/* `size` bytes that end where an unreadable page begins; a third of the 512-byte pieces zero. */
static uint8_t *guarded(size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;
    uint8_t *memory = mmap(NULL, whole + page, PROT_READ | PROT_WRITE,
                           MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    uint8_t *bytes = memory + whole - size;

    CHECK(memory != MAP_FAILED && !mprotect(memory + whole, page, PROT_NONE));
    for (size_t i = 0, zero = 0; i < size; i++) {
        if (i % 512 == 0)
            zero = next_random() % 3 == 0;
        bytes[i] = zero ? 0 : (uint8_t)next_random();
    }
    return bytes;
}

static void guarded_free(uint8_t *bytes, size_t size)
{
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), whole = (size + page - 1) / page * page;

    munmap(bytes + size - whole, whole + page);
}

static void test_known(void)
{
    /* sha256sum of 4096 zero bytes; of "a" * 512 */
    static const uint8_t zeros[32] = {
        0xad, 0x7f, 0xac, 0xb2, 0x58, 0x6f, 0xc6, 0xe9, 0x66, 0xc0, 0x04, 0xd7, 0xd1, 0xd1, 0x6b, 0x02,
        0x4f, 0x58, 0x05, 0xff, 0x7c, 0xb4, 0x7c, 0x7a, 0x85, 0xda, 0xbd, 0x8b, 0x48, 0x89, 0x2c, 0xa7};
    static const uint8_t letters[32] = {
        0x47, 0x1b, 0xe6, 0x55, 0x8b, 0x66, 0x5e, 0x4f, 0x6d, 0xd4, 0x9f, 0x11, 0x84, 0x81, 0x4d, 0x14,
        0x91, 0xb0, 0x31, 0x5d, 0x46, 0x6b, 0xee, 0xa7, 0x68, 0xc1, 0x53, 0xcc, 0x55, 0x00, 0xc8, 0x36};
    uint8_t block[4096] = {0}, digest[32];
    dmsign_block_hash *hash = dmsign_block_hash_new(1, NULL, 0, 4096);

    CHECK(hash && !dmsign_hash_blocks(hash, block, 1, digest, 1) && !memcmp(digest, zeros, 32));
    dmsign_block_hash_free(hash);
    memset(block, 'a', 512);
    hash = dmsign_block_hash_new(0, NULL, 0, 512);
    CHECK(hash && !dmsign_hash_blocks(hash, block, 1, digest, 1) && !memcmp(digest, letters, 32));
    dmsign_block_hash_free(hash);
}

static void test_limits(void)
{
    CHECK(!dmsign_block_hash_new(2, NULL, 0, 4096) && errno == EINVAL);
    CHECK(!dmsign_block_hash_new(1, salt, 257, 4096) && errno == EINVAL);
    CHECK(!dmsign_block_hash_new(1, salt, 32, 256) && errno == EINVAL);
    CHECK(!dmsign_block_hash_new(1, salt, 32, 1000) && errno == EINVAL);
    CHECK(!dmsign_block_hash_new(1, salt, 32, (size_t)1 << 20) && errno == EINVAL);
    CHECK(!dmsign_tree_new(1, salt, 32, 4096, 0) && errno == EINVAL);
    CHECK(dmsign_impl_select("no such") == -EINVAL && dmsign_impl_select("") == -EINVAL);
}

/* Digests of `count` blocks by the implementation in use and by the portable one. */
static void test_blocks(unsigned type, size_t salt_size, size_t block_size, size_t count)
{
    const char *name = dmsign_impl();
    const size_t size = count * block_size;
    uint8_t *blocks = guarded(size), *digests = guarded(count * 32), *expected = malloc(count * 32 + 1);
    dmsign_block_hash *hash = dmsign_block_hash_new(type, salt, salt_size, block_size);
    dmsign_block_hash *portable;

    CHECK(!dmsign_impl_select("portable"));
    portable = dmsign_block_hash_new(type, salt, salt_size, block_size);
    CHECK(!dmsign_impl_select(name));
    CHECK(hash && portable && expected);
    CHECK(!dmsign_hash_blocks(portable, blocks, count, expected, 1));
    for (unsigned threads = 0; threads < 4; threads++) {
        memset(digests, 0xaa, count * 32);
        CHECK(!dmsign_hash_blocks(hash, blocks, count, digests, threads));
        CHECK(!memcmp(digests, expected, count * 32));
    }
    dmsign_block_hash_free(hash);
    dmsign_block_hash_free(portable);
    guarded_free(blocks, size);
    guarded_free(digests, count * 32);
    free(expected);
}

/* The hash area of a tree, root level first, in memory; `drain` takes it out as it grows. */
enum { KEEP, DRAIN, FORGOTTEN /* by dmsign_tree_end_file */ };

struct area {
    uint8_t *level[17];
    size_t size[17];
    unsigned levels;
    uint8_t root[32];
};

static void collect(struct area *area, dmsign_tree *tree, int drain)
{
    for (unsigned l = 0; l < dmsign_tree_levels(tree); l++) {
        uint64_t start;
        size_t size;
        const uint8_t *digests = dmsign_tree_level(tree, l, &start, &size);

        CHECK(start == (drain ? area->size[l] : 0));
        area->level[l] = realloc(area->level[l], start + size + 1);
        if (size)
            memcpy(area->level[l] + start, digests, size);
        area->size[l] = start + size;
    }
    if (drain == DRAIN)
        dmsign_tree_drain(tree);
}

static void finish(struct area *area, dmsign_tree *tree, int drain)
{
    CHECK(!dmsign_tree_final(tree, area->root, 2));
    collect(area, tree, drain);
    area->levels = dmsign_tree_levels(tree);
    dmsign_tree_free(tree);
}

static void same(const struct area *a, const struct area *b)
{
    CHECK(a->levels == b->levels && !memcmp(a->root, b->root, 32));
    for (unsigned l = 0; l < a->levels; l++)
        CHECK(a->size[l] == b->size[l] && !memcmp(a->level[l], b->level[l], a->size[l]));
}

static void area_free(struct area *area)
{
    for (unsigned l = 0; l < 17; l++)
        free(area->level[l]);
}

static void test_tree(unsigned type, size_t salt_size, size_t data_block, size_t hash_block,
                      size_t count)
{
    const size_t size = count * data_block;
    uint8_t *data = guarded(size);
    struct area whole = {0}, pieces = {0}, file = {0}, beside = {0};
    uint64_t failed_at;
    dmsign_tree *tree = dmsign_tree_new(type, salt, salt_size, data_block, hash_block);
    int fd = memfd_create("data", 0);

    CHECK(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    CHECK(tree && !dmsign_tree_update(tree, data, size, 2));
    finish(&whole, tree, KEEP);

    tree = dmsign_tree_new(type, salt, salt_size, data_block, hash_block);
    for (size_t at = 0, piece; at < size; at += piece) {
        piece = next_random() % (next_random() % 2 ? 1000 : 2000000);
        if (piece > size - at)
            piece = size - at;
        CHECK(!dmsign_tree_update(tree, data + at, piece, next_random() % 3));
        if (next_random() % 4 == 0)
            collect(&pieces, tree, DRAIN);
    }
    finish(&pieces, tree, DRAIN);
    same(&whole, &pieces);

    tree = dmsign_tree_new(type, salt, salt_size, data_block, hash_block);
    CHECK(!dmsign_tree_update_file(tree, fd, 0, count / 2, 3, &failed_at));
    CHECK(!dmsign_tree_update_file(tree, fd, count / 2 * data_block, count - count / 2, 2,
                                   &failed_at));
    finish(&file, tree, KEEP);
    same(&whole, &file);

    tree = dmsign_tree_new(type, salt, salt_size, data_block, hash_block);
    for (size_t at = 0, blocks; at < count; at += blocks) {
        blocks = next_random() % (next_random() % 2 ? 40 : 1000) + 1;
        if (blocks > count - at)
            blocks = count - at;
        CHECK(!dmsign_tree_begin_file(tree, fd, at * data_block, blocks, next_random() % 5));
        collect(&beside, tree, FORGOTTEN);
        CHECK(!dmsign_tree_end_file(tree, next_random() % 5, &failed_at));
    }
    finish(&beside, tree, DRAIN);
    same(&whole, &beside);

    tree = dmsign_tree_new(type, salt, salt_size, data_block, hash_block);
    CHECK(!dmsign_tree_begin_file(tree, fd, 0, count + 1, 2));
    CHECK(dmsign_tree_end_file(tree, 2, &failed_at) == -ENODATA && failed_at == size);
    dmsign_tree_free(tree);
    tree = dmsign_tree_new(type, salt, salt_size, data_block, hash_block);
    CHECK(!dmsign_tree_begin_file(tree, fd, 0, count, 4));
    dmsign_tree_free(tree); /* in the middle of it */

    tree = dmsign_tree_new(type, salt, salt_size, data_block, hash_block);
    CHECK(dmsign_tree_update_file(tree, fd, 0, count + 1, 2, &failed_at) == -ENODATA);
    CHECK(failed_at == size);
    dmsign_tree_free(tree);
    close(fd);
    guarded_free(data, size);
    area_free(&whole);
    area_free(&pieces);
    area_free(&file);
    area_free(&beside);
}

/* A child of fork() has the tree, and not the threads that the tree started. */
static void test_fork(void)
{
    enum { SIZE = 1 << 20 };
    uint8_t *data = guarded(SIZE), expected[32], root[32];
    dmsign_tree *tree = dmsign_tree_new(1, salt, 32, 4096, 4096);
    int status;
    pid_t child;

    CHECK(!dmsign_tree_update(tree, data, SIZE, 4) && !dmsign_tree_update(tree, data, SIZE, 4));
    child = fork();
    CHECK(child >= 0);
    if (!child) {
        alarm(60);
        status = dmsign_tree_update(tree, data, SIZE, 4) || dmsign_tree_final(tree, root, 4);
        dmsign_tree_free(tree);
        tree = dmsign_tree_new(1, salt, 32, 4096, 4096);
        for (unsigned i = 0; i < 3; i++)
            status |= dmsign_tree_update(tree, data, SIZE, 1);
        status |= dmsign_tree_final(tree, expected, 1);
        _exit(status || memcmp(root, expected, 32));
    }
    CHECK(waitpid(child, &status, 0) == child && !status);
    CHECK(!dmsign_tree_update(tree, data, SIZE, 4) && !dmsign_tree_final(tree, root, 4));
    dmsign_tree_free(tree);
    guarded_free(data, SIZE);
}

static void test_zeros(size_t data_block, size_t hash_block)
{
    for (unsigned round = 0; round < 12; round++) {
        dmsign_tree *known = dmsign_tree_new(1, salt, 32, data_block, hash_block);
        dmsign_tree *read = dmsign_tree_new(1, salt, 32, data_block, hash_block);
        struct area a = {0}, b = {0};

        for (unsigned part = 0; part < 3; part++) {
            const size_t holes = next_random() % (round % 2 ? 5 : 5000);
            const size_t blocks = next_random() % 40;
            uint8_t *zeros = calloc(holes + 1, data_block), *data = guarded(blocks * data_block);

            CHECK(!dmsign_tree_update(known, data, blocks * data_block, 1));
            CHECK(!dmsign_tree_update_zeros(known, holes));
            CHECK(!dmsign_tree_update(read, data, blocks * data_block, 1));
            CHECK(!dmsign_tree_update(read, zeros, holes * data_block, 1));
            if (round % 3 == 0)
                collect(&a, known, 1);
            free(zeros);
            guarded_free(data, blocks * data_block);
        }
        CHECK(!dmsign_tree_update_zeros(known, 1) && !dmsign_tree_update_zeros(read, 1));
        finish(&a, known, round % 3 == 0);
        finish(&b, read, 0);
        same(&a, &b);
        area_free(&a);
        area_free(&b);
    }
}

/* Streams in step against the portable block digest of the same bytes without a salt. */
static void test_streams(void)
{
    enum { STREAMS = 4, SIZE = 4096, PIECES = 3 };
    const unsigned in_step = dmsign_streams_in_step();
    uint8_t *data[STREAMS], wanted[STREAMS][32], found[32];
    dmsign_stream *streams[STREAMS];

    if (!in_step) {
        CHECK(!dmsign_stream_new() && errno == ENOTSUP);
        puts("streams: not on this processor");
        return;
    }
    for (unsigned i = 0; i < STREAMS; i++) {
        dmsign_block_hash *hash = dmsign_block_hash_new(1, NULL, 0, SIZE);

        data[i] = guarded(SIZE);
        CHECK(hash && !dmsign_hash_blocks(hash, data[i], 1, wanted[i], 1));
        dmsign_block_hash_free(hash);
    }
    for (unsigned round = 0; round < 200; round++) {
        size_t done[STREAMS] = {0};
        int more = 1;

        for (unsigned i = 0; i < in_step; i++)
            CHECK((streams[i] = dmsign_stream_new()) != NULL);
        while (more) {
            const uint8_t *at[STREAMS * PIECES];
            size_t sizes[STREAMS * PIECES];
            unsigned pieces[STREAMS], all = 0;

            more = 0;
            for (unsigned i = 0; i < in_step; i++) {
                pieces[i] = next_random() % (PIECES + 1);
                for (unsigned piece = 0; piece < pieces[i]; piece++, all++) {
                    const size_t left = SIZE - done[i], most = 1 + next_random() % 1000;

                    at[all] = data[i] + done[i];
                    sizes[all] = next_random() % most;
                    sizes[all] = sizes[all] < left ? sizes[all] : left;
                    done[i] += sizes[all];
                }
                more |= done[i] < SIZE;
            }
            CHECK(!dmsign_streams_update(streams, in_step, at, sizes, pieces));
        }
        for (unsigned i = 0; i < in_step; i++) {
            dmsign_stream_digest(streams[i], found);
            CHECK(!memcmp(found, wanted[i], sizeof found));
            dmsign_stream_free(streams[i]);
        }
    }
    for (unsigned i = 0; i < STREAMS; i++)
        guarded_free(data[i], SIZE);
    CHECK(dmsign_streams_update(NULL, in_step + 1, NULL, NULL, NULL) == -EINVAL);
    puts("streams: agree");
}

static void test_misuse(void)
{
    uint8_t root[32], byte = 1;
    uint64_t failed_at;
    dmsign_tree *tree = dmsign_tree_new(1, salt, 32, 4096, 4096);

    CHECK(dmsign_tree_final(tree, root, 1) == -ENODATA);
    CHECK(!dmsign_tree_update(tree, &byte, 1, 1));
    CHECK(dmsign_tree_final(tree, root, 1) == -EINVAL);
    CHECK(dmsign_tree_update_zeros(tree, 1) == -EINVAL);
    CHECK(dmsign_tree_update_file(tree, -1, 0, 1, 1, &failed_at) == -EINVAL);
    dmsign_tree_free(tree);
    tree = dmsign_tree_new(1, salt, 32, 4096, 4096);
    CHECK(dmsign_tree_update_file(tree, -1, 8192, 1, 1, &failed_at) == -EBADF && failed_at == 8192);
    CHECK(dmsign_tree_update_file(tree, -1, UINT64_MAX, 1, 1, &failed_at) == -EOVERFLOW);
    dmsign_tree_free(tree);
}

int main(void)
{
    static const size_t salts[] = {0, 1, 16, 31, 32, 33, 55, 63, 64, 65, 96, 128, 160, 255, 256};
    static const size_t counts[] = {0, 1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 100};
    static const size_t trees[] = {1, 2, 15, 16, 17, 127, 128, 129, 255, 256, 257, 2100, 16385};

    const int quick = getenv("DMSIGN_TEST_QUICK") != NULL; /* an emulator runs it */

    for (size_t i = 0; i < sizeof salt; i++)
        salt[i] = (uint8_t)next_random();
    test_limits();
    for (unsigned impl = 0; dmsign_impl_name(impl); impl++) {
        if (!dmsign_impl_supported(impl)) {
            CHECK(dmsign_impl_select(dmsign_impl_name(impl)) == -ENOTSUP);
            printf("%s: not on this processor\n", dmsign_impl_name(impl));
            continue;
        }
        CHECK(!dmsign_impl_select(dmsign_impl_name(impl)));
        test_known();
        for (unsigned type = 0; type < 2; type++)
            for (size_t s = 0; s < sizeof salts / sizeof *salts; s += quick ? 4 : 1)
                for (size_t c = 0; c < sizeof counts / sizeof *counts; c += quick ? 3 : 1)
                    test_blocks(type, salts[s], (size_t)512 << (s + c) % 6, counts[c]);
        printf("%s: agrees\n", dmsign_impl());
    }
    CHECK(!dmsign_impl_select(NULL));
    for (size_t c = 0; c < sizeof trees / sizeof *trees && !(quick && trees[c] > 17); c++) {
        test_tree(1, 32, 512, 512, trees[c]);
        test_tree(0, 256, 512, 4096, trees[c]);
        if (trees[c] < 3000) {
            test_tree(1, 32, 4096, 512, trees[c]);
            test_tree(1, 0, 1024, 65536, trees[c]);
        }
    }
    if (!quick) {
        test_zeros(512, 512);
        test_zeros(512, 4096);
    }
    test_streams();
    test_misuse();
    if (!quick)
        test_fork();
    printf("%s: trees agree, %lu checks\n", dmsign_impl(), checks);
    return 0;
}
