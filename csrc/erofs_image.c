/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of block 0 and of the metadata. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "erofs.h"
#include "mkfs_group.h"

/* Where a byte of the image is in `im->bytes`, which leaves the file data out. */
static uint8_t *at(const struct erofs_image *im, uint64_t offset)
{
    const uint64_t block = UINT64_C(1) << im->space->bits;

    return im->bytes +
           (im->data_end > 1 && offset >= block ? offset - (im->data_end - 1) * block : offset);
}

static uint8_t *at_node(const struct erofs_image *im, const struct erofs_node *n)
{
    return at(im, ((uint64_t)im->space->blocks[n->block].addr << im->space->bits) + n->offset);
}

/* ---- inodes ---- */

static unsigned chunk_bits(uint64_t size)
{
    unsigned bits = 9;

    while (bits < EROFS_CHUNK_BITS_MAX && UINT64_C(1) << bits < size)
        bits++;
    return bits;
}

static void write_chunks(uint8_t *out, const struct erofs_node *n)
{
    const unsigned bits = chunk_bits(n->size);
    uint32_t block = n->data;

    for (uint64_t done = 0; done < n->size; done += UINT64_C(1) << bits, out += EROFS_CHUNK_SIZE) {
        put16(out + 2, 1); /* the only extra device: the tar */
        put32(out + 4, block);
        block += 1u << (bits - 9);
    }
}

static int write_inode(struct erofs_image *im, uint32_t node)
{
    const struct erofs_node *n = &im->tree->nodes[node];
    const bool extended = n->flags & NODE_EXTENDED, chunks = im->index && n->flags & NODE_DATA;
    const uint32_t layout = chunks                 ? EROFS_CHUNKS
                            : n->flags & NODE_TAIL ? EROFS_INLINE
                                                   : EROFS_PLAIN;
    const uint32_t xattrs = (uint32_t)erofs_xattr_size(im->tree, node);
    uint32_t size = extended ? EROFS_EXTENDED_SIZE : EROFS_COMPACT_SIZE;
    uint8_t *p = at_node(im, n);

    put16(p, layout << 1 | extended);
    put16(p + 2, xattrs ? (xattrs - EROFS_XATTR_HEADER) / 4 + 1 : 0);
    put16(p + 4, n->mode);
    put32(p + 16, chunks ? n->start | EROFS_CHUNK_INDEXES | (chunk_bits(n->size) - 9) : n->start);
    put32(p + 20, n->serial);
    if (extended) {
        put64(p + 8, n->size);
        put32(p + 24, n->uid);
        put32(p + 28, n->gid);
        put64(p + 32, (uint64_t)n->mtime);
        put32(p + 40, n->nsec);
        put32(p + 44, n->nlink);
    } else {
        put16(p + 6, n->nlink);
        put32(p + 8, (uint32_t)n->size);
        put16(p + 24, n->uid);
        put16(p + 26, n->gid);
    }
    const int ret = erofs_xattr_write(im->tree, node, p + size, &im->filter);

    size += xattrs;
    if (chunks)
        write_chunks(p + ((size + 7) & ~7u), n);
    return ret;
}

/* ---- data of symlinks and directories: whole blocks elsewhere, the tail behind the inode or in a
 * block too ---- */

static uint8_t *data_block(const struct erofs_image *im, uint32_t node, uint64_t index)
{
    const struct erofs_node *n = &im->tree->nodes[node];

    if (n->flags & NODE_TAIL && index == n->size >> im->space->bits)
        return at_node(im, n) + erofs_inode_size(im, node);
    return at(im, (n->start + index) << im->space->bits);
}

static void write_symlink(const struct erofs_image *im, uint32_t node)
{
    const struct erofs_node *n = &im->tree->nodes[node];
    const uint64_t block = UINT64_C(1) << im->space->bits;

    for (uint64_t done = 0; done < n->size; done += block) {
        const uint64_t left = n->size - done;

        memcpy(data_block(im, node, done / block), im->tree->text + n->child + done,
               left < block ? left : block);
    }
}

/* One block's entries from `it` on: all entry heads, then all names. */
static void write_dir_block(const struct erofs_image *im, uint8_t *out, struct erofs_dir_iter *it,
                            uint32_t block)
{
    struct erofs_dir_iter ahead = *it;
    struct erofs_dir_entry e;
    uint32_t used = 0, count = 0;

    while (erofs_dir_next(&ahead, &e) && used + EROFS_DIRENT_SIZE + e.len <= block) {
        used += EROFS_DIRENT_SIZE + e.len;
        count++;
    }
    uint32_t name = count * EROFS_DIRENT_SIZE;

    for (uint32_t i = 0; i < count; i++) {
        uint8_t *head = out + i * EROFS_DIRENT_SIZE;

        erofs_dir_next(it, &e);
        if (e.node)
            put64(head, erofs_nid(im, e.node));
        put16(head + 8, name);
        head[10] = (uint8_t)e.type;
        memcpy(out + name, e.name, e.len);
        name += e.len;
    }
}

static void write_directory(const struct erofs_image *im, uint32_t dir)
{
    const uint64_t block = UINT64_C(1) << im->space->bits, size = im->tree->nodes[dir].size;
    struct erofs_dir_iter it = erofs_dir(im->tree, dir);

    for (uint64_t i = 0; i * block < size; i++)
        write_dir_block(im, data_block(im, dir, i), &it, (uint32_t)block);
}

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

static void write_super(const struct erofs_image *im)
{
    const uint32_t block = 1u << im->space->bits,
                   summed = block > EROFS_SUPER_AT ? block - EROFS_SUPER_AT : block;
    const bool sum = block > 512 || im->tree->traits & MKFS_SUM_512;
    uint8_t *p = im->bytes + EROFS_SUPER_AT, *device = p + EROFS_SUPER_SIZE;

    put32(p, EROFS_MAGIC);
    put32(p + 8, EROFS_COMPAT_MTIME | (sum ? EROFS_COMPAT_SUM : 0) |
                     (im->filter ? EROFS_COMPAT_FILTER : 0));
    p[12] = (uint8_t)im->space->bits;
    put16(p + 14, im->root_nid);
    put64(p + 16, im->serials);
    put32(p + 36, im->space->tail);
    put32(p + 40, im->meta_block);
    memcpy(p + 48, im->uuid, 16);
    memcpy(p + 64, im->volume, 16);
    if (im->index) {
        put32(p + 80, EROFS_INCOMPAT_DEVICES);
        put16(p + 86, 1);
        put16(p + 88, (EROFS_SUPER_AT + EROFS_SUPER_SIZE) / EROFS_DEVICE_SIZE);
        put32(device + 64, (uint32_t)im->tar_blocks);
        put32(device + 68, im->space->tail);
    }
    if (sum)
        put32(p + 4, crc32c(p, summed));
}

int erofs_image_write(struct erofs_image *im)
{
    int ret = 0;

    im->len = (uint64_t)(im->space->tail - (im->data_end - 1)) << im->space->bits;
    im->bytes = calloc(1, im->len);
    if (!im->bytes)
        return -ENOMEM;
    for (uint32_t node = NODE_ROOT; node < im->tree->node_count && !ret; node++) {
        const struct erofs_node *n = &im->tree->nodes[node];

        if (!n->serial)
            continue;
        ret = write_inode(im, node);
        if ((n->mode & TAR_FORMAT) == TAR_DIR)
            write_directory(im, node);
        else if ((n->mode & TAR_FORMAT) == TAR_LNK)
            write_symlink(im, node);
    }
    write_super(im);
    return ret;
}
