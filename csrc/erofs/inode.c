/* SPDX-License-Identifier: Apache-2.0
 *
 * The bytes of one inode, and of the data that is metadata: directories and symlinks. */
#include <string.h>

#include "writer.h"

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

int erofs_inode_write(const struct erofs_image *image, uint32_t node, uint8_t *out)
{
    const struct erofs_node *n = &image->tree->nodes[node];
    const bool extended = n->flags & NODE_EXTENDED, chunks = image->index && n->flags & NODE_DATA;
    const uint32_t layout = chunks                 ? EROFS_CHUNKS
                            : n->flags & NODE_TAIL ? EROFS_INLINE
                                                   : EROFS_PLAIN;
    const uint32_t xattrs = (uint32_t)erofs_xattr_size(image->tree, node);
    uint32_t size = extended ? EROFS_EXTENDED_SIZE : EROFS_COMPACT_SIZE;

    put16(out, layout << 1 | extended);
    put16(out + 2, xattrs ? (xattrs - EROFS_XATTR_HEADER) / 4 + 1 : 0);
    put16(out + 4, n->mode);
    put32(out + 16, chunks ? n->start | EROFS_CHUNK_INDEXES | (chunk_bits(n->size) - 9) : n->start);
    put32(out + 20, n->serial);
    if (extended) {
        put64(out + 8, n->size);
        put32(out + 24, n->uid);
        put32(out + 28, n->gid);
        put64(out + 32, (uint64_t)n->mtime);
        put32(out + 40, n->nsec);
        put32(out + 44, n->nlink);
    } else {
        put16(out + 6, n->nlink);
        put32(out + 8, (uint32_t)n->size);
        put16(out + 24, n->uid);
        put16(out + 26, n->gid);
    }
    const int ret = erofs_xattr_write(image->tree, node, out + size);

    size += xattrs;
    if (chunks)
        write_chunks(out + ((size + 7) & ~7u), n);
    return ret;
}

/* How many names the next block of a directory holds. */
static uint32_t names_in_block(struct erofs_dir_iter it, uint32_t block)
{
    struct erofs_dir_entry e;
    uint32_t used = 0, count = 0;

    while (erofs_dir_next(&it, &e) && used + EROFS_DIRENT_SIZE + e.len <= block) {
        used += EROFS_DIRENT_SIZE + e.len;
        count++;
    }
    return count;
}

/* All entry heads, then all names. */
static void next_dir_block(const struct erofs_image *image, struct erofs_dir_iter *it, uint8_t *out)
{
    const uint32_t count = names_in_block(*it, 1u << image->allocator->bits);
    uint32_t name = count * EROFS_DIRENT_SIZE;
    struct erofs_dir_entry e;

    for (uint32_t i = 0; i < count && erofs_dir_next(it, &e); i++) {
        if (!out)
            continue;
        if (e.node)
            put64(out + i * EROFS_DIRENT_SIZE, erofs_nid(image, e.node));
        put16(out + i * EROFS_DIRENT_SIZE + 8, name);
        out[i * EROFS_DIRENT_SIZE + 10] = (uint8_t)e.type;
        memcpy(out + name, e.name, e.len);
        name += e.len;
    }
}

struct erofs_data erofs_data(const struct erofs_image *image, uint32_t node)
{
    return (struct erofs_data){image, node, 0, erofs_dir(image->tree, node)};
}

void erofs_data_next(struct erofs_data *d, uint8_t *out)
{
    const struct erofs_node *n = &d->image->tree->nodes[d->node];
    const uint64_t block = UINT64_C(1) << d->image->allocator->bits, left = n->size - d->done;

    if ((n->mode & TAR_FORMAT) == TAR_DIR)
        next_dir_block(d->image, &d->names, out);
    else if (out)
        memcpy(out, d->image->tree->text + n->child + d->done, left < block ? left : block);
    d->done += left < block ? left : block;
}
