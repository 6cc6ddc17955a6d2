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
/* Bytes that are worth a thread: fewer are hashed sooner than it wakes. */
#define WORTH_A_THREAD ((size_t)1 << 20)
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

/* Bytes of data as the conversion gave them; compared, never read. */
struct run {
    const uint8_t *at;
    size_t size;
};

struct dmsign_layer {
    struct conversion *conversion;
    dmsign_layer *leader; /* NULL, or who hashes the same data */
    struct run *runs;     /* of a leader: what the last call gave */
    uint32_t run_count, runs_capacity;
    uint32_t compared; /* of a follower: how many of the leader's runs it has compared */
    bool leads, differs;
    const dmsign_block_hash *hash; /* NULL: no digests are wanted */
    struct pool *pool;
    size_t block_size;
    const uint8_t *noted[NOTED];
    size_t count;
    uint8_t *stage_memory, *stage; /* whole blocks that are noted, and the begun one */
    size_t staged;
    struct chunk *first, *last; /* of the leaves */
    struct bytes head_leaves, head;
    int fd, head_fd; /* where data and head go too, -1: nowhere */
    uint64_t offset, head_offset;
    uint64_t head_end; /* metadata that the writer gives below this is the head */
    unsigned threads;
    int write_error;
    int failed; /* the first error: what is noted then is lost */
    struct conversion_info info;
};

/* Bytes of the head that are kept without a file: the superblock is in them. */
#define HEAD_KEPT 4096

static size_t min_size(size_t a, size_t b)
{
    return a < b ? a : b;
}

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
static int write_out(struct dmsign_layer *layer, int fd, uint64_t *offset, const uint8_t *bytes,
                     size_t size)
{
    const bool hole = all_zero(bytes, size);

    while (size) {
        const ssize_t written = hole ? (ssize_t)size : pwrite(fd, bytes, size, (off_t)*offset);

        if (written < 0 && errno == EINTR)
            continue;
        if (written <= 0)
            return layer->write_error = written ? -errno : -EIO;
        bytes += written;
        size -= (size_t)written;
        *offset += (uint64_t)written;
    }
    return 0;
}

/* Writes the noted blocks, those that stand behind one another at once. */
static int write_noted(struct dmsign_layer *layer)
{
    int error = 0;

    for (size_t i = 0, run; !error && i < layer->count; i += run) {
        const uint8_t *first = layer->noted[i];
        const bool hole = all_zero(first, layer->block_size);

        for (run = 1; i + run < layer->count &&
                      layer->noted[i + run] == first + run * layer->block_size &&
                      all_zero(layer->noted[i + run], layer->block_size) == hole;)
            run++;
        error = write_out(layer, layer->fd, &layer->offset, first, run * layer->block_size);
    }
    return error;
}

static struct chunk *new_chunk(struct dmsign_layer *layer)
{
    struct chunk *chunk = calloc(1, sizeof *chunk);

    if (!chunk || !(chunk->digests = malloc(CHUNK))) {
        free(chunk);
        return NULL;
    }
    if (layer->last)
        layer->last->next = chunk;
    else
        layer->first = chunk;
    return layer->last = chunk;
}

static int hash_noted(struct dmsign_layer *layer)
{
    const size_t worth = layer->count * layer->block_size / WORTH_A_THREAD;
    const unsigned threads = worth < layer->threads ? (unsigned)worth : layer->threads;

    for (size_t done = 0, count; done < layer->count; done += count) {
        struct chunk *chunk =
            layer->last && layer->last->size < CHUNK ? layer->last : new_chunk(layer);
        size_t room;
        int error;

        if (!chunk)
            return -ENOMEM;
        room = (CHUNK - chunk->size) / DIGEST_SIZE;
        count = layer->count - done < room ? layer->count - done : room;
        error = block_hash_scattered(layer->hash, layer->pool, layer->noted + done, count,
                                     chunk->digests + chunk->size, threads);
        if (error)
            return error;
        chunk->size += count * DIGEST_SIZE;
    }
    return 0;
}

/* Hashes and writes what is noted. The block that is begun goes to the start of the stage. */
static int flush(struct dmsign_layer *layer)
{
    const size_t begun = layer->staged % layer->block_size;
    int error = layer->fd >= 0 ? write_noted(layer) : 0;

    if (!error && layer->hash)
        error = hash_noted(layer);
    memmove(layer->stage, layer->stage + layer->staged - begun, begun);
    layer->staged = begun;
    layer->count = 0;
    return error;
}

static int note(struct dmsign_layer *layer, const uint8_t *block)
{
    layer->noted[layer->count++] = block;
    return layer->count == NOTED || layer->staged == STAGE ? flush(layer) : 0;
}

/* Data and tail in order and without gaps, in memory that stays until flush(). */
static int on_data(void *ctx, uint64_t offset, const uint8_t *bytes, size_t size)
{
    struct dmsign_layer *layer = ctx;
    int error = 0;

    (void)offset;
    while (!error && size) {
        const size_t begun = layer->staged % layer->block_size, missing = layer->block_size - begun;
        const size_t taken = size < missing ? size : missing;

        if (!begun && size >= layer->block_size) {
            error = note(layer, bytes);
        } else {
            memcpy(layer->stage + layer->staged, bytes, taken);
            layer->staged += taken;
            if (taken == missing)
                error = note(layer, layer->stage + layer->staged - layer->block_size);
        }
        bytes += taken;
        size -= taken;
    }
    return error;
}

/* Data of files, or of the tar. */
static int on_file_data(void *ctx, uint64_t offset, const uint8_t *bytes, size_t size)
{
    struct dmsign_layer *layer = ctx;
    const struct dmsign_layer *leader = layer->leader;

    if (leader) {
        const struct run *run =
            layer->compared < leader->run_count ? &leader->runs[layer->compared++] : NULL;

        if (!run || run->at != bytes || run->size != size)
            layer->differs = true;
        return 0;
    }
    if (layer->leads) {
        const int error = grow(&layer->runs, &layer->runs_capacity, layer->run_count + UINT64_C(1),
                               sizeof *layer->runs);

        if (error)
            return error;
        layer->runs[layer->run_count++] = (struct run){bytes, size};
    }
    return on_data(layer, offset, bytes, size);
}

/* Ends the data of the tar, and in full conversion begins the tail. */
static int on_meta(void *ctx, uint64_t offset, const uint8_t *bytes, size_t size)
{
    struct dmsign_layer *layer = ctx;
    const size_t left = offset < layer->head_end ? (size_t)(layer->head_end - offset) : 0;
    const size_t head = left < size ? left : size;
    const size_t count = head / layer->block_size;
    const size_t room = layer->fd >= 0 ? head : HEAD_KEPT - min_size(layer->head.size, HEAD_KEPT);
    const size_t kept = min_size(head, room);
    int error = 0;

    if (layer->hash && count) {
        error = reserve(&layer->head_leaves, count * DIGEST_SIZE);
        if (!error)
            error =
                dmsign_hash_blocks(layer->hash, bytes, count,
                                   layer->head_leaves.at + layer->head_leaves.size, layer->threads);
        layer->head_leaves.size += count * DIGEST_SIZE;
    }
    if (!error && kept) {
        error = reserve(&layer->head, kept);
        if (!error)
            memcpy(layer->head.at + layer->head.size, bytes, kept);
        layer->head.size += kept;
    }
    if (!error && layer->head_fd >= 0 && head)
        error = write_out(layer, layer->head_fd, &layer->head_offset, bytes, head);
    if (!error)
        error = on_data(layer, 0, bytes + head, size - head);
    return error ? error : flush(layer);
}

dmsign_layer *dmsign_layer_new(const char *mkfs_version, int index, int lossy,
                               const dmsign_block_hash *hash, uint64_t seed, int fd, int head_fd,
                               dmsign_layer *leader)
{
    const struct conversion_options options = {
        .layout = index ? LAYOUT_INDEX : LAYOUT_FULL,
        .group = mkfs_group_of(mkfs_version),
        .lossy = lossy,
        .seed = seed,
    };
    struct dmsign_layer *layer = calloc(1, sizeof *layer);
    const struct conversion_sink sink = {layer, on_file_data, on_meta};
    const size_t block_size = hash ? block_hash_block_size(hash) : 512;

    errno = ENOMEM;
    if (!layer)
        return NULL;
    if (!options.group || block_size > (index ? 512 : 4096)) {
        free(layer);
        errno = EINVAL;
        return NULL;
    }
    layer->hash = hash;
    layer->block_size = block_size;
    layer->fd = fd;
    layer->head_fd = head_fd;
    layer->offset = index ? 0 : 4096;
    layer->head_end = index || leader ? UINT64_MAX : 4096;
    layer->leader = leader;
    if (leader)
        leader->leads = true;
    layer->stage_memory = malloc(STAGE + LINE);
    layer->pool = pool_new();
    if (layer->stage_memory && layer->pool)
        layer->conversion = conversion_new(&options, &sink);
    if (!layer->conversion) {
        dmsign_layer_free(layer);
        errno = ENOMEM;
        return NULL;
    }
    layer->stage = layer->stage_memory + LINE - (uintptr_t)layer->stage_memory % LINE;
    return layer;
}

void dmsign_layer_free(dmsign_layer *layer)
{
    if (!layer)
        return;
    conversion_free(layer->conversion);
    pool_free(layer->pool);
    free(layer->stage_memory);
    while (layer->first)
        dmsign_layer_drain(layer);
    free(layer->head_leaves.at);
    free(layer->head.at);
    free(layer->runs);
    free(layer);
}

/* A follower compares what a call gives with what the leader's call gave. */
static void begin_runs(struct dmsign_layer *layer)
{
    layer->run_count = layer->compared = 0;
}

static void end_runs(struct dmsign_layer *layer)
{
    if (layer->leader && (layer->leader->failed || layer->compared != layer->leader->run_count))
        layer->differs = true;
}

int dmsign_layer_update(dmsign_layer *layer, const uint8_t *tar, size_t size, unsigned threads)
{
    layer->threads = threads;
    begin_runs(layer);
    if (!layer->failed)
        layer->failed = conversion_update(layer->conversion, tar, size);
    end_runs(layer);
    if (!layer->failed)
        layer->failed = flush(layer);
    return layer->failed;
}

int dmsign_layer_final(dmsign_layer *layer, const uint8_t *uuid, unsigned threads)
{
    static const uint8_t zeros[4096];

    layer->threads = threads;
    begin_runs(layer);
    if (!layer->failed)
        layer->failed = conversion_final(layer->conversion, uuid, &layer->info);
    end_runs(layer);
    if (!layer->failed && layer->staged)
        layer->failed = on_data(layer, 0, zeros, layer->block_size - layer->staged);
    if (!layer->failed)
        layer->failed = flush(layer);
    return layer->failed;
}

int dmsign_layer_differs(const dmsign_layer *layer)
{
    return layer->differs;
}

const uint8_t *dmsign_layer_leaves(const dmsign_layer *layer, size_t *size)
{
    *size = layer->first ? layer->first->size : 0;
    return layer->first ? layer->first->digests : NULL;
}

void dmsign_layer_drain(dmsign_layer *layer)
{
    struct chunk *chunk = layer->first;

    if (!chunk)
        return;
    layer->first = chunk->next;
    if (!layer->first)
        layer->last = NULL;
    free(chunk->digests);
    free(chunk);
}

const uint8_t *dmsign_layer_head(const dmsign_layer *layer, size_t *size)
{
    *size = layer->head.size;
    return layer->head.at;
}

const uint8_t *dmsign_layer_head_leaves(const dmsign_layer *layer, size_t *size)
{
    *size = layer->head_leaves.size;
    return layer->head_leaves.at;
}

void dmsign_layer_about(const dmsign_layer *layer, uint64_t *image_size, uint64_t *parsed,
                        uint64_t *inodes)
{
    *image_size = layer->info.image_size;
    *parsed = layer->info.parsed;
    *inodes = layer->info.inodes;
}

int dmsign_layer_error(const dmsign_layer *layer, const char **reason, const char **entry,
                       uint64_t *offset)
{
    const struct tar_error *error = conversion_error(layer->conversion);

    *reason = error->reason;
    *entry = error->name;
    *offset = error->offset;
    return -layer->write_error;
}

const char *dmsign_mkfs_group(unsigned index, const char **versions)
{
    const struct mkfs_group *group = mkfs_group_at(index);

    *versions = group ? group->versions : NULL;
    return group ? group->name : NULL;
}
