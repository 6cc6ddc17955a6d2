/* SPDX-License-Identifier: Apache-2.0
 *
 * The metadata in the order of its addresses, through a window. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../tar/mkfs_group.h"
#include "writer.h"

/* A multiple of every block size, and room for the largest inode with its tail. */
#define WINDOW (1u << 20)
_Static_assert(WINDOW > 3 * 4096 + EROFS_XATTRS_MAX, "window");

/* ---- super block ---- */

static uint32_t crc32c(const uint8_t *p, size_t len)
{
    uint32_t crc = ~0u;

    while (len--) {
        crc ^= *p++;
        for (int i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
    }
    return crc; /* not inverted: erofs_enable_sb_chksum */
}

static void write_super(const struct erofs_image *image, uint8_t *block_0)
{
    const uint32_t block = 1u << image->allocator->bits,
                   summed = block > EROFS_SUPER_AT ? block - EROFS_SUPER_AT : block;
    const bool sum = block > 512 || image->tree->traits & MKFS_SUM_512;
    uint8_t *p = block_0 + EROFS_SUPER_AT, *device = p + EROFS_SUPER_SIZE;

    put32(p, EROFS_MAGIC);
    put32(p + 8, EROFS_COMPAT_MTIME | (sum ? EROFS_COMPAT_SUM : 0) |
                     (image->filter ? EROFS_COMPAT_FILTER : 0));
    p[12] = (uint8_t)image->allocator->bits;
    put16(p + 14, image->root_nid);
    put64(p + 16, image->serials);
    put32(p + 36, image->allocator->tail);
    put32(p + 40, image->meta_block);
    memcpy(p + 48, image->uuid, 16);
    memcpy(p + 64, image->volume, 16);
    if (image->index) {
        put32(p + 80, EROFS_INCOMPAT_DEVICES);
        put16(p + 86, 1);
        put16(p + 88, (EROFS_SUPER_AT + EROFS_SUPER_SIZE) / EROFS_DEVICE_SIZE);
        put32(device + 64, (uint32_t)image->tar_blocks);
        put32(device + 68, image->allocator->tail);
    }
    if (sum)
        put32(p + 4, crc32c(p, summed));
}

/* ---- window ---- */

/* Offsets are those in the metadata as one run of bytes: the image without the file data. */
struct window {
    const struct erofs_image *image;
    erofs_give *give;
    void *ctx;
    uint8_t *bytes; /* zero where nothing was written */
    uint64_t at;    /* offset of the first */
    size_t used;    /* bytes up to the end of what was written */
};

/* Gives away whole blocks below `to`. */
static int give_until(struct window *w, uint64_t to)
{
    const uint64_t block = UINT64_C(1) << w->image->allocator->bits,
                   gap = (w->image->data_end - 1) * block;
    int ret = 0;

    while (w->at < to && !ret) {
        size_t n = to - w->at < WINDOW ? (size_t)(to - w->at) : WINDOW;

        if (!w->at) {
            write_super(w->image, w->bytes);
            n = gap ? block : n;
        }
        ret = w->give(w->ctx, w->at ? w->at + gap : 0, w->bytes, n);
        const size_t rest = w->used > n ? w->used - n : 0;

        memmove(w->bytes, w->bytes + n, rest);
        memset(w->bytes + rest, 0, w->used - rest);
        w->used = rest;
        w->at += n;
    }
    return ret;
}

/* Memory for `len` bytes at an offset of the image; offsets rise. */
static int window_at(struct window *w, uint64_t offset, uint32_t len, uint8_t **out)
{
    const uint64_t block = UINT64_C(1) << w->image->allocator->bits;
    int ret = 0;

    if (offset >= block)
        offset -= (w->image->data_end - 1) * block;
    if (offset < w->at + w->used)
        return -EPROTO; /* no archive may bring us here, but nothing would be safe behind it */
    if (offset + len > w->at + WINDOW)
        ret = give_until(w, offset & ~(block - 1));
    if (ret)
        return ret;
    w->used = (size_t)(offset - w->at) + len;
    *out = w->bytes + w->used - len;
    return 0;
}

static int write_node(struct window *w, uint32_t node)
{
    const struct erofs_image *image = w->image;
    const struct erofs_node *n = &image->tree->nodes[node];
    const uint32_t size = erofs_inode_size(image, node), mask = (1u << image->allocator->bits) - 1,
                   tail = n->flags & NODE_TAIL ? (uint32_t)n->size & mask : 0;
    uint8_t *out;
    int ret = window_at(w, erofs_at(image, node), size + tail, &out);

    if (!ret)
        ret = erofs_inode_write(image, node, out);
    if (!ret && tail) {
        struct erofs_data data = erofs_data(image, node);

        for (uint64_t i = n->size >> image->allocator->bits; i; i--)
            erofs_data_next(&data, NULL);
        erofs_data_next(&data, out + size);
    }
    return ret;
}

/* The blocks that a directory or symlink has for itself. */
static int write_extent(struct window *w, uint32_t node)
{
    const struct erofs_node *n = &w->image->tree->nodes[node];
    const unsigned bits = w->image->allocator->bits;
    const uint64_t whole = n->size >> bits << bits, end = n->flags & NODE_TAIL ? whole : n->size;
    struct erofs_data data = erofs_data(w->image, node);
    uint8_t *out;
    int ret = 0;

    while (data.done < end && !ret) {
        ret = window_at(w, ((uint64_t)n->start << bits) + data.done, 1u << bits, &out);
        if (!ret)
            erofs_data_next(&data, out);
    }
    return ret;
}

/* ---- order ---- */

/* Chains each block's inodes: in a block serial numbers and offsets rise together. */
static int chain_inodes(struct erofs_image *image)
{
    struct erofs_node *nodes = image->tree->nodes;
    struct erofs_allocator_block *blocks = image->allocator->blocks;
    uint32_t *by_serial = malloc((image->serials + UINT64_C(1)) * sizeof(*by_serial));

    if (!by_serial)
        return -ENOMEM;
    for (uint32_t node = NODE_ROOT; node < image->tree->node_count; node++)
        by_serial[nodes[node].serial] = node;
    for (uint32_t b = 0; b < image->allocator->count; b++)
        blocks[b].next = 0;
    for (uint32_t i = image->serials; i; i--) {
        struct erofs_node *n = &nodes[by_serial[i]];

        n->next = blocks[n->block].next;
        blocks[n->block].next = by_serial[i];
    }
    free(by_serial);
    return 0;
}

static bool has_filter(const struct erofs_tree *tree)
{
    for (uint32_t node = NODE_ROOT; node < tree->node_count; node++) {
        if (tree->nodes[node].serial && tree->nodes[node].xattrs && erofs_xattr_filter(tree, node))
            return true;
    }
    return false;
}

int erofs_image_write(struct erofs_image *image, erofs_give *give, void *ctx)
{
    struct window w = {image, give, ctx, NULL, 0, 0};
    const struct erofs_allocator *s = image->allocator;
    uint32_t extent = 0;
    int ret = chain_inodes(image);

    if (ret)
        return ret;
    w.bytes = calloc(1, WINDOW);
    if (!w.bytes)
        return -ENOMEM;
    image->filter = has_filter(image->tree);
    for (uint32_t b = 0; b <= s->count && !ret; b++) {
        for (; extent < image->extent_count && !ret; extent++) {
            const uint32_t node = image->extents[extent];

            if (b < s->count && image->tree->nodes[node].start > s->blocks[b].addr)
                break;
            ret = write_extent(&w, node);
        }
        for (uint32_t node = b < s->count ? s->blocks[b].next : 0; node && !ret;
             node = image->tree->nodes[node].next)
            ret = write_node(&w, node);
    }
    if (!ret)
        ret = give_until(&w, (uint64_t)(s->tail - (image->data_end - 1)) << s->bits);
    free(w.bytes);
    return ret;
}
