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

static void write_super(const struct erofs_image *im, uint8_t *image)
{
    const uint32_t block = 1u << im->allocator->bits,
                   summed = block > EROFS_SUPER_AT ? block - EROFS_SUPER_AT : block;
    const bool sum = block > 512 || im->tree->traits & MKFS_SUM_512;
    uint8_t *p = image + EROFS_SUPER_AT, *device = p + EROFS_SUPER_SIZE;

    put32(p, EROFS_MAGIC);
    put32(p + 8, EROFS_COMPAT_MTIME | (sum ? EROFS_COMPAT_SUM : 0) |
                     (im->filter ? EROFS_COMPAT_FILTER : 0));
    p[12] = (uint8_t)im->allocator->bits;
    put16(p + 14, im->root_nid);
    put64(p + 16, im->serials);
    put32(p + 36, im->allocator->tail);
    put32(p + 40, im->meta_block);
    memcpy(p + 48, im->uuid, 16);
    memcpy(p + 64, im->volume, 16);
    if (im->index) {
        put32(p + 80, EROFS_INCOMPAT_DEVICES);
        put16(p + 86, 1);
        put16(p + 88, (EROFS_SUPER_AT + EROFS_SUPER_SIZE) / EROFS_DEVICE_SIZE);
        put32(device + 64, (uint32_t)im->tar_blocks);
        put32(device + 68, im->allocator->tail);
    }
    if (sum)
        put32(p + 4, crc32c(p, summed));
}

/* ---- window ---- */

/* Offsets are those in the metadata as one run of bytes: the image without the file data. */
struct window {
    const struct erofs_image *im;
    erofs_give *give;
    void *ctx;
    uint8_t *bytes; /* zero where nothing was written */
    uint64_t at;    /* offset of the first */
    size_t used;    /* bytes up to the end of what was written */
};

/* Gives away whole blocks below `to`. */
static int give_until(struct window *w, uint64_t to)
{
    const uint64_t block = UINT64_C(1) << w->im->allocator->bits,
                   gap = (w->im->data_end - 1) * block;
    int ret = 0;

    while (w->at < to && !ret) {
        size_t n = to - w->at < WINDOW ? (size_t)(to - w->at) : WINDOW;

        if (!w->at) {
            write_super(w->im, w->bytes);
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
    const uint64_t block = UINT64_C(1) << w->im->allocator->bits;
    int ret = 0;

    if (offset >= block)
        offset -= (w->im->data_end - 1) * block;
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
    const struct erofs_image *im = w->im;
    const struct erofs_node *n = &im->tree->nodes[node];
    const uint32_t size = erofs_inode_size(im, node), mask = (1u << im->allocator->bits) - 1,
                   tail = n->flags & NODE_TAIL ? (uint32_t)n->size & mask : 0;
    uint8_t *out;
    int ret = window_at(w, erofs_at(im, node), size + tail, &out);

    if (!ret)
        ret = erofs_inode_write(im, node, out);
    if (!ret && tail) {
        struct erofs_data data = erofs_data(im, node);

        for (uint64_t i = n->size >> im->allocator->bits; i; i--)
            erofs_data_next(&data, NULL);
        erofs_data_next(&data, out + size);
    }
    return ret;
}

/* The blocks that a directory or symlink has for itself. */
static int write_extent(struct window *w, uint32_t node)
{
    const struct erofs_node *n = &w->im->tree->nodes[node];
    const unsigned bits = w->im->allocator->bits;
    const uint64_t whole = n->size >> bits << bits, end = n->flags & NODE_TAIL ? whole : n->size;
    struct erofs_data data = erofs_data(w->im, node);
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
static int chain_inodes(struct erofs_image *im)
{
    struct erofs_node *nodes = im->tree->nodes;
    struct erofs_allocator_block *blocks = im->allocator->blocks;
    uint32_t *by_serial = malloc((im->serials + UINT64_C(1)) * sizeof(*by_serial));

    if (!by_serial)
        return -ENOMEM;
    for (uint32_t node = NODE_ROOT; node < im->tree->node_count; node++)
        by_serial[nodes[node].serial] = node;
    for (uint32_t b = 0; b < im->allocator->count; b++)
        blocks[b].next = 0;
    for (uint32_t i = im->serials; i; i--) {
        struct erofs_node *n = &nodes[by_serial[i]];

        n->next = blocks[n->block].next;
        blocks[n->block].next = by_serial[i];
    }
    free(by_serial);
    return 0;
}

static bool has_filter(const struct erofs_tree *t)
{
    for (uint32_t node = NODE_ROOT; node < t->node_count; node++) {
        if (t->nodes[node].serial && t->nodes[node].xattrs && erofs_xattr_filter(t, node))
            return true;
    }
    return false;
}

int erofs_image_write(struct erofs_image *im, erofs_give *give, void *ctx)
{
    struct window w = {im, give, ctx, NULL, 0, 0};
    const struct erofs_allocator *s = im->allocator;
    uint32_t extent = 0;
    int ret = chain_inodes(im);

    if (ret)
        return ret;
    w.bytes = calloc(1, WINDOW);
    if (!w.bytes)
        return -ENOMEM;
    im->filter = has_filter(im->tree);
    for (uint32_t b = 0; b <= s->count && !ret; b++) {
        for (; extent < im->extent_count && !ret; extent++) {
            const uint32_t node = im->extents[extent];

            if (b < s->count && im->tree->nodes[node].start > s->blocks[b].addr)
                break;
            ret = write_extent(&w, node);
        }
        for (uint32_t node = b < s->count ? s->blocks[b].next : 0; node && !ret;
             node = im->tree->nodes[node].next)
            ret = write_node(&w, node);
    }
    if (!ret)
        ret = give_until(&w, (uint64_t)(s->tail - (im->data_end - 1)) << s->bits);
    free(w.bytes);
    return ret;
}
