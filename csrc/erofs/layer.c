/* SPDX-License-Identifier: Apache-2.0
 *
 * layer.c: a layer's tar to the leaf digests of its EROFS image, in one pass (conversion.h).
 *
 * The image's data comes out of the writer in pieces, many of them small files. Whole blocks are
 * noted where they stand, the others put together in a stage, and when there are enough for all
 * lanes and threads, or the memory they stand in is about to go, they are hashed.
 */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include <unistd.h>

#include "../sha256/block_hash.h"
#include "../tar/grow.h"
#include "conversion.h"

/* Blocks at a time: long against the start of a thread, short against the L3 cache. */
#define NOTED 8192
#define STAGE ((size_t)2 << 20)
#define LINE 64
/* Bytes of digests in one piece of memory. */
#define CHUNK ((size_t)4 << 20)

struct bytes {
    uint8_t *at;
    size_t size;
    uint32_t capacity;
};

struct chunk {
    struct chunk *next;
    size_t size;
    uint8_t *digests;
};

struct dmsign_layer {
    struct layer *layer;
    const dmsign_block_hash *hash; /* NULL: no digests are wanted */
    size_t block_size;
    const uint8_t *noted[NOTED];
    size_t count;
    uint8_t *stage_memory, *stage; /* whole blocks that are noted, and the begun one */
    size_t staged;
    struct chunk *first, *last; /* of the leaves */
    struct bytes head_leaves, head;
    int fd; /* where data goes too, -1: nowhere */
    uint64_t offset;
    uint64_t head_end; /* metadata that the writer gives below this is the head */
    unsigned threads;
    int write_error;
    int failed; /* the first error: what is noted then is lost */
    struct layer_info info;
};

/* Makes room for `size` more bytes. */
static int reserve(struct bytes *b, size_t size)
{
    return grow(&b->at, &b->capacity, (uint64_t)b->size + size, 1);
}

static bool all_zero(const uint8_t *bytes, size_t size)
{
    return !bytes[0] && !memcmp(bytes, bytes + 1, size - 1);
}

/* Zeros are left out: the file is new, and what was never written reads as zeros. */
static int write_out(struct dmsign_layer *l, const uint8_t *bytes, size_t size)
{
    const bool hole = all_zero(bytes, size);

    while (size) {
        const ssize_t written = hole ? (ssize_t)size : pwrite(l->fd, bytes, size, (off_t)l->offset);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return l->write_error = written ? -errno : -EIO;
        bytes += written;
        size -= (size_t)written;
        l->offset += (uint64_t)written;
    }
    return 0;
}

/* Writes the noted blocks, those that stand behind one another at once. */
static int write_noted(struct dmsign_layer *l)
{
    int error = 0;

    for (size_t i = 0, run; !error && i < l->count; i += run) {
        const uint8_t *first = l->noted[i];
        const bool hole = all_zero(first, l->block_size);

        for (run = 1; i + run < l->count && l->noted[i + run] == first + run * l->block_size &&
                      all_zero(l->noted[i + run], l->block_size) == hole;)
            run++;
        error = write_out(l, first, run * l->block_size);
    }
    return error;
}

static struct chunk *new_chunk(struct dmsign_layer *l)
{
    struct chunk *chunk = calloc(1, sizeof *chunk);

    if (!chunk || !(chunk->digests = malloc(CHUNK))) {
        free(chunk);
        return NULL;
    }
    if (l->last)
        l->last->next = chunk;
    else
        l->first = chunk;
    return l->last = chunk;
}

static int hash_noted(struct dmsign_layer *l)
{
    for (size_t done = 0, count; done < l->count; done += count) {
        struct chunk *chunk = l->last && l->last->size < CHUNK ? l->last : new_chunk(l);
        size_t room;
        int error;

        if (!chunk)
            return -ENOMEM;
        room = (CHUNK - chunk->size) / DIGEST_SIZE;
        count = l->count - done < room ? l->count - done : room;
        error = block_hash_scattered(l->hash, l->noted + done, count, chunk->digests + chunk->size,
                                     l->threads);
        if (error)
            return error;
        chunk->size += count * DIGEST_SIZE;
    }
    return 0;
}

/* Hashes and writes what is noted. The block that is begun goes to the start of the stage. */
static int flush(struct dmsign_layer *l)
{
    const size_t begun = l->staged % l->block_size;
    int error = l->fd >= 0 ? write_noted(l) : 0;

    if (!error && l->hash)
        error = hash_noted(l);
    memmove(l->stage, l->stage + l->staged - begun, begun);
    l->staged = begun;
    l->count = 0;
    return error;
}

static int note(struct dmsign_layer *l, const uint8_t *block)
{
    l->noted[l->count++] = block;
    return l->count == NOTED || l->staged == STAGE ? flush(l) : 0;
}

/* Data and tail in order and without gaps, in memory that stays until flush(). */
static int on_data(void *ctx, uint64_t offset, const uint8_t *bytes, size_t size)
{
    struct dmsign_layer *l = ctx;
    int error = 0;

    (void)offset;
    while (!error && size) {
        const size_t begun = l->staged % l->block_size, missing = l->block_size - begun;
        const size_t taken = size < missing ? size : missing;

        if (!begun && size >= l->block_size) {
            error = note(l, bytes);
        } else {
            memcpy(l->stage + l->staged, bytes, taken);
            l->staged += taken;
            if (taken == missing)
                error = note(l, l->stage + l->staged - l->block_size);
        }
        bytes += taken;
        size -= taken;
    }
    return error;
}

/* Ends the data of the tar, and in full conversion begins the tail. */
static int on_meta(void *ctx, uint64_t offset, const uint8_t *bytes, size_t size)
{
    struct dmsign_layer *l = ctx;
    const size_t left = offset < l->head_end ? (size_t)(l->head_end - offset) : 0;
    const size_t head = left < size ? left : size;
    const size_t count = head / l->block_size;
    int error = 0;

    if (l->hash && count) {
        error = reserve(&l->head_leaves, count * DIGEST_SIZE);
        if (!error)
            error = dmsign_hash_blocks(l->hash, bytes, count,
                                       l->head_leaves.at + l->head_leaves.size, l->threads);
        l->head_leaves.size += count * DIGEST_SIZE;
    }
    if (!error && l->fd >= 0 && head) {
        error = reserve(&l->head, head);
        if (!error)
            memcpy(l->head.at + l->head.size, bytes, head);
        l->head.size += head;
    }
    if (!error)
        error = on_data(l, 0, bytes + head, size - head);
    return error ? error : flush(l);
}

dmsign_layer *dmsign_layer_new(const char *mkfs_version, int index, int lossy,
                               const dmsign_block_hash *hash, uint64_t seed, int fd)
{
    const struct layer_options options = {
        .layout = index ? LAYER_INDEX : LAYER_FULL,
        .group = mkfs_group_of(mkfs_version),
        .lossy = lossy,
        .seed = seed,
    };
    struct dmsign_layer *l = calloc(1, sizeof *l);
    const struct layer_sink sink = {l, on_data, on_meta};
    const size_t block_size = hash ? block_hash_block_size(hash) : 512;

    errno = ENOMEM;
    if (!l)
        return NULL;
    if (!options.group || block_size > (index ? 512 : 4096)) {
        free(l);
        errno = EINVAL;
        return NULL;
    }
    l->hash = hash;
    l->block_size = block_size;
    l->fd = fd;
    l->offset = index ? 0 : 4096;
    l->head_end = index ? UINT64_MAX : 4096;
    l->stage_memory = malloc(STAGE + 2 * LINE);
    if (l->stage_memory)
        l->layer = layer_new(&options, &sink);
    if (!l->layer) {
        dmsign_layer_free(l);
        errno = ENOMEM;
        return NULL;
    }
    l->stage = l->stage_memory + LINE - (uintptr_t)l->stage_memory % LINE;
    if (hash)
        l->stage += block_hash_skew(hash) % LINE;
    return l;
}

void dmsign_layer_free(dmsign_layer *l)
{
    if (!l)
        return;
    layer_free(l->layer);
    free(l->stage_memory);
    while (l->first)
        dmsign_layer_drain(l);
    free(l->head_leaves.at);
    free(l->head.at);
    free(l);
}

int dmsign_layer_update(dmsign_layer *l, const uint8_t *tar, size_t size, unsigned threads)
{
    l->threads = threads;
    if (!l->failed)
        l->failed = layer_update(l->layer, tar, size);
    if (!l->failed)
        l->failed = flush(l);
    return l->failed;
}

int dmsign_layer_final(dmsign_layer *l, const uint8_t *uuid, unsigned threads)
{
    static const uint8_t zeros[4096];

    l->threads = threads;
    if (!l->failed)
        l->failed = layer_final(l->layer, uuid, &l->info);
    if (!l->failed && l->staged)
        l->failed = on_data(l, 0, zeros, l->block_size - l->staged);
    if (!l->failed)
        l->failed = flush(l);
    return l->failed;
}

const uint8_t *dmsign_layer_leaves(const dmsign_layer *l, size_t *size)
{
    *size = l->first ? l->first->size : 0;
    return l->first ? l->first->digests : NULL;
}

void dmsign_layer_drain(dmsign_layer *l)
{
    struct chunk *chunk = l->first;

    if (!chunk)
        return;
    l->first = chunk->next;
    if (!l->first)
        l->last = NULL;
    free(chunk->digests);
    free(chunk);
}

const uint8_t *dmsign_layer_head(const dmsign_layer *l, size_t *size)
{
    *size = l->head.size;
    return l->head.at;
}

const uint8_t *dmsign_layer_head_leaves(const dmsign_layer *l, size_t *size)
{
    *size = l->head_leaves.size;
    return l->head_leaves.at;
}

void dmsign_layer_about(const dmsign_layer *l, uint64_t *image_size, uint64_t *parsed,
                        uint64_t *inodes)
{
    *image_size = l->info.image_size;
    *parsed = l->info.parsed;
    *inodes = l->info.inodes;
}

int dmsign_layer_error(const dmsign_layer *l, const char **reason, const char **entry,
                       uint64_t *offset)
{
    const struct tar_error *error = layer_error(l->layer);

    *reason = error->reason;
    *entry = error->name;
    *offset = error->offset;
    return -l->write_error;
}

const char *dmsign_mkfs_group(unsigned index, const char **versions)
{
    const struct mkfs_group *group = mkfs_group_at(index);

    *versions = group ? group->versions : NULL;
    return group ? group->name : NULL;
}
