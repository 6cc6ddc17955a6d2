/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target of erofs/layer.c, with the inputs of fuzz_layer.c. The digests must be those of
 * the bytes that go to files, and the same whole and in pieces, drained or not. A version that
 * follows another has the digests that it has alone, unless it says that its data differs. */
#define _GNU_SOURCE
#include <errno.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "dmsign.h"
#include "fuzz.h"

struct bytes {
    uint8_t *at;
    size_t len;
};

struct options {
    const char *version, *leader; /* NULL: none */
    int index, lossy;
    size_t block_size, piece;
    unsigned threads;
    uint64_t seed;
    int drain, files; /* drain while the tar comes in; write files */
};

struct result {
    int code, differs;
    struct bytes leaves, head_leaves, head, data;
};

static const uint8_t salt[32] = {7};

static void append(struct bytes *b, const uint8_t *bytes, size_t len)
{
    b->at = realloc(b->at, b->len + len + 1);
    EXPECT(b->at);
    if (len)
        memcpy(b->at + b->len, bytes, len);
    b->len += len;
}

static void drain(dmsign_layer *layer, struct bytes *leaves)
{
    const uint8_t *digests;
    size_t size;

    while ((digests = dmsign_layer_leaves(layer, &size)) && size) {
        append(leaves, digests, size);
        dmsign_layer_drain(layer);
    }
}

static struct bytes contents(int fd)
{
    struct stat about;
    struct bytes b;

    EXPECT(!fstat(fd, &about));
    b.len = (size_t)about.st_size;
    b.at = malloc(b.len + 1);
    EXPECT(b.at && pread(fd, b.at, b.len, 0) == (ssize_t)b.len);
    return b;
}

static void check_error(dmsign_layer *layer)
{
    const char *reason, *entry;
    uint64_t offset;

    EXPECT(!dmsign_layer_error(layer, &reason, &entry, &offset));
    EXPECT(reason && entry && strlen(entry) <= 255);
    EXPECT(dmsign_layer_update(layer, (const uint8_t *)"x", 1, 1));
}

static struct result run(const struct options *o, const uint8_t *tar, size_t len)
{
    static const uint8_t uuid[16] = {3};
    dmsign_block_hash *const hash = dmsign_block_hash_new(1, salt, sizeof(salt), o->block_size);
    const int fd = o->files ? memfd_create("data", 0) : -1,
              head_fd = o->files ? memfd_create("head", 0) : -1;
    dmsign_layer *const leader =
        o->leader ? dmsign_layer_new(o->leader, o->index, o->lossy, hash, 5, -1, -1, NULL) : NULL;
    dmsign_layer *const layer =
        dmsign_layer_new(o->version, o->index, o->lossy, hash, o->seed, fd, head_fd, leader);
    struct result r = {0};
    size_t size;

    EXPECT(layer);
    for (size_t n; len && !r.code; tar += n, len -= n) {
        n = len < o->piece ? len : o->piece;
        uint8_t *const piece = copy_of(tar, n); /* gone as soon as the call is over */

        if (leader)
            dmsign_layer_update(leader, piece, n, o->threads);
        r.code = dmsign_layer_update(layer, piece, n, o->threads);
        free(piece);
        if (o->drain && !r.code)
            drain(layer, &r.leaves);
    }
    if (!r.code && leader)
        dmsign_layer_final(leader, uuid, o->threads);
    if (!r.code)
        r.code = dmsign_layer_final(layer, uuid, o->threads);
    r.differs = dmsign_layer_differs(layer);
    if (r.code) {
        check_error(layer);
    } else {
        drain(leader && !r.differs ? leader : layer, &r.leaves);
        const uint8_t *const digests = dmsign_layer_head_leaves(layer, &size);

        append(&r.head_leaves, digests, size);
        if (o->files) {
            r.head = contents(head_fd);
            r.data = contents(fd);
        }
    }
    dmsign_layer_free(layer);
    dmsign_layer_free(leader);
    dmsign_block_hash_free(hash);
    if (o->files) {
        close(fd);
        close(head_fd);
    }
    return r;
}

/* Zeros fill the last block. */
static void check_digests(const struct bytes *leaves, const uint8_t *data, size_t len, size_t block)
{
    dmsign_block_hash *const hash = dmsign_block_hash_new(1, salt, sizeof(salt), block);
    const size_t count = leaves->len / 32;
    uint8_t *const filled = calloc(count + 1, block), *const digests = malloc(leaves->len + 1);

    EXPECT(filled && digests && len <= count * block);
    if (len)
        memcpy(filled, data, len);
    EXPECT(!dmsign_hash_blocks(hash, filled, count, digests, 1));
    EXPECT(!leaves->len || !memcmp(digests, leaves->at, leaves->len));
    free(filled);
    free(digests);
    dmsign_block_hash_free(hash);
}

static void check_same(const struct bytes *a, const struct bytes *b)
{
    EXPECT(a->len == b->len && (!a->len || !memcmp(a->at, b->at, a->len)));
}

/* What a follower has for its head is that of the version alone, and the end of its leaves; what
 * stands before that end are the leader's leaves. */
static void check_follower(const struct result *alone, const struct result *follower)
{
    const size_t head = alone->head_leaves.len, tail = follower->head_leaves.len - head,
                 shared = alone->leaves.len - tail;

    EXPECT(follower->head_leaves.len >= head && tail <= alone->leaves.len);
    EXPECT(!memcmp(follower->head_leaves.at, alone->head_leaves.at, head));
    EXPECT(!tail || !memcmp(follower->head_leaves.at + head, alone->leaves.at + shared, tail));
    EXPECT(follower->leaves.len >= shared);
    EXPECT(!shared || !memcmp(follower->leaves.at, alone->leaves.at, shared));
}

static void release(struct result *r)
{
    free(r->leaves.at);
    free(r->head_leaves.at);
    free(r->head.at);
    free(r->data.at);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    static const char *const versions[] = {"1.8.6", "1.8.10", "1.9.1", "1.9.2", "1.9.4"};

    if (len < 3)
        return 0;
    struct options o = {
        .version = versions[input[1] % 5],
        .index = input[0] & 1,
        .lossy = input[0] >> 1 & 1,
        .block_size = input[0] & 1 ? 512 : (size_t)512 << (input[0] >> 5 & 3),
        .piece = len,
        .threads = 1 + (input[0] >> 2 & 1),
        .files = 1,
    };
    uint8_t *const tar = copy_of(input + 3, len - 3);

    mend_checksums(tar, len - 3);
    struct result whole = run(&o, tar, len - 3);

    o.piece = 1 + input[2] * (size_t)97;
    o.threads = 1;
    o.seed = 99;
    o.drain = input[0] >> 4 & 1;
    o.files = 0;
    struct result pieces = run(&o, tar, len - 3);

    EXPECT(whole.code == pieces.code);
    if (!whole.code) {
        const size_t start = o.index || whole.data.len < 4096 ? 0 : 4096;

        check_same(&whole.leaves, &pieces.leaves);
        check_same(&whole.head_leaves, &pieces.head_leaves);
        check_digests(&whole.leaves, whole.data.at + start, whole.data.len - start, o.block_size);
        check_digests(&whole.head_leaves, whole.head.at, whole.head.len, o.block_size);
        EXPECT(whole.head.len == whole.head_leaves.len / 32 * o.block_size);
    }
    o.drain = 0;
    o.leader = versions[input[1] / 5 % 5];
    struct result follower = run(&o, tar, len - 3);

    EXPECT(whole.code == follower.code);
    EXPECT(!follower.differs || strcmp(o.leader, o.version) || whole.code);
    if (!whole.code && !follower.differs)
        check_follower(&whole, &follower);
    release(&whole);
    release(&pieces);
    release(&follower);
    free(tar);
    return 0;
}
