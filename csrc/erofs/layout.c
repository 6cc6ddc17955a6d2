/* SPDX-License-Identifier: Apache-2.0
 *
 * Every inode's form and place, in the order of erofs_mkfs_dump_tree: each directory's names, then
 * its data. */
#include <errno.h>

#include "../tar/grow.h"
#include "../tar/mkfs_group.h"
#include "writer.h"

#define ROOT_NID_MAX 0xffffu

static unsigned chunk_count(const struct erofs_node *n)
{
    return (unsigned)((n->size + (UINT64_C(1) << EROFS_CHUNK_BITS_MAX) - 1) >>
                      EROFS_CHUNK_BITS_MAX);
}

uint32_t erofs_inode_size(const struct erofs_image *image, uint32_t node)
{
    const struct erofs_node *n = &image->tree->nodes[node];
    const uint32_t size = (n->flags & NODE_EXTENDED ? EROFS_EXTENDED_SIZE : EROFS_COMPACT_SIZE) +
                          (uint32_t)erofs_xattr_size(image->tree, node);

    if (!image->index || !(n->flags & NODE_DATA))
        return size;
    return ((size + 7) & ~7u) + EROFS_CHUNK_SIZE * chunk_count(n);
}

/* erofs_should_use_inode_extended */
static bool needs_extended(const struct erofs_node *n, uint32_t traits)
{
    return n->size > UINT32_MAX || n->uid > UINT16_MAX || n->gid > UINT16_MAX ||
           n->nlink > UINT16_MAX || n->mtime || (n->nsec && !(traits & MKFS_COMPACT_NSEC));
}

/* Gives an inode its serial number, and its place with `tail` bytes behind it. When no block can
 * hold both, *lone_tail is set and the inode has no place yet: erofs_prepare_inode_buffer. */
static int place(struct erofs_image *image, uint32_t node, uint32_t tail, bool *lone_tail)
{
    struct erofs_node *n = &image->tree->nodes[node];
    const uint32_t size = erofs_inode_size(image, node);
    int ret = erofs_allocate_inode(image->allocator, size, tail, &n->block, &n->offset);

    *lone_tail = ret == -ENOSPC;
    if (!ret && tail)
        n->flags |= NODE_TAIL;
    n->serial = ++image->serials;
    return ret;
}

/* Remembers that a node has its first block. */
static int add_extent(struct erofs_image *image, uint32_t node)
{
    const int ret = grow(&image->extents, &image->extent_cap, image->extent_count + UINT64_C(1),
                         sizeof(*image->extents));

    if (!ret)
        image->extents[image->extent_count++] = node;
    return ret;
}

static int place_symlink(struct erofs_image *image, uint32_t node)
{
    struct erofs_allocator *s = image->allocator;
    struct erofs_node *n = &image->tree->nodes[node];
    const uint32_t tail = (uint32_t)n->size & ((1u << s->bits) - 1);
    const uint64_t whole = n->size >> s->bits;
    uint32_t more;
    bool lone = false;
    int ret = 0;

    n->start = EROFS_NO_BLOCK;
    if (whole)
        ret = erofs_allocate_data(s, whole, &n->start);
    s->busy = whole;
    if (!ret)
        ret = place(image, node, tail, &lone);
    if (lone) {
        /* data that is already there grows before the inode is placed, a lone tail comes after it
         */
        ret = whole ? erofs_allocate_data(s, 1, &more) : 0;
        if (!ret)
            ret = erofs_allocate_inode(s, erofs_inode_size(image, node), 0, &n->block, &n->offset);
        if (!ret && !whole)
            ret = erofs_allocate_data(s, 1, &n->start);
    }
    s->busy = false;
    return !ret && (whole || lone) ? add_extent(image, node) : ret;
}

/* Size and link count of a directory: erofs_prepare_dir_file. */
static void measure_directory(struct erofs_image *image, uint32_t dir)
{
    const uint32_t block = 1u << image->allocator->bits;
    struct erofs_node *d = &image->tree->nodes[dir];
    struct erofs_dir_iter it = erofs_dir(image->tree, dir);
    struct erofs_dir_entry e;
    uint64_t size = 0;

    d->nlink = 0;
    while (erofs_dir_next(&it, &e)) {
        if (size % block + EROFS_DIRENT_SIZE + e.len > block)
            size = (size + block - 1) & ~(uint64_t)(block - 1);
        size += EROFS_DIRENT_SIZE + e.len;
        d->nlink += e.type == EROFS_DIR;
    }
    d->size = size;
    if (d->nlink > UINT16_MAX && !(d->flags & NODE_EXTENDED))
        d->nlink = 1;
}

static int place_directory(struct erofs_image *image, uint32_t dir)
{
    struct erofs_node *d = &image->tree->nodes[dir];
    const uint32_t mask = (1u << image->allocator->bits) - 1;
    bool lone;
    int ret;

    measure_directory(image, dir);
    d->start = EROFS_NO_BLOCK;
    ret = place(image, dir, (uint32_t)d->size & mask, &lone);
    return lone ? erofs_allocate_inode(image->allocator, erofs_inode_size(image, dir), 0, &d->block,
                                       &d->offset)
                : ret;
}

/* The data of a directory whose children have their places: erofs_write_dir_file,
 * erofs_write_tail_end. */
static int place_dir_data(struct erofs_image *image, uint32_t dir)
{
    struct erofs_allocator *s = image->allocator;
    struct erofs_node *d = &image->tree->nodes[dir];
    const uint32_t mask = (1u << s->bits) - 1;
    const bool lone = d->size & mask && !(d->flags & NODE_TAIL);
    const uint64_t whole = d->size >> s->bits;
    uint32_t more;
    int ret = 0;

    if (whole)
        ret = erofs_allocate_directory(s, whole, &d->start);
    for (uint32_t i = d->child; i && !ret; i = image->tree->names[i].sibling)
        ret = erofs_allocator_map(s, image->tree->nodes[image->tree->names[i].node].block);
    /* where ".." was decided early it may lead to a directory elsewhere, with its place or without
     */
    if (!ret && image->tree->nodes[d->parent].serial)
        ret = erofs_allocator_map(s, image->tree->nodes[d->parent].block);
    else
        d->flags |= NODE_NO_PARENT;
    if (!ret && lone)
        ret = whole ? erofs_allocate_data(s, 1, &more) : erofs_allocate_directory(s, 1, &d->start);
    return !ret && (whole || lone) ? add_extent(image, dir) : ret;
}

static int place_node(struct erofs_image *image, uint32_t node)
{
    struct erofs_tree *tree = image->tree;
    struct erofs_node *n = &tree->nodes[node];
    bool lone;
    int ret;

    n->flags |= NODE_VISITED | (needs_extended(n, tree->traits) ? NODE_EXTENDED : 0);
    if (n->flags & NODE_WHITEOUTS) {
        ret = erofs_xattr_add(tree, node, "trusted.overlay.origin", 22, "", 0);
        if (ret)
            return ret;
    }
    if (erofs_xattr_size(tree, node) > EROFS_XATTRS_MAX)
        return -ERANGE;
    if ((n->mode & TAR_FORMAT) == TAR_DIR)
        return place_directory(image, node);
    if ((n->mode & TAR_FORMAT) == TAR_LNK)
        return place_symlink(image, node);
    ret = place(image, node, 0, &lone);
    if (n->flags & NODE_DATA && !image->index)
        image->allocator->held--;
    return ret;
}

/* The root's number must fit 16 bits: erofs_fixup_meta_blkaddr. */
static int place_root(struct erofs_image *image)
{
    const struct erofs_node *root = &image->tree->nodes[NODE_ROOT];
    const uint32_t block = 1u << image->allocator->bits;
    int ret = place_node(image, NODE_ROOT);

    if (!ret)
        ret = erofs_allocator_map(image->allocator, root->block);
    if (ret)
        return ret;
    const uint64_t at = erofs_at(image, NODE_ROOT);

    if (at > ROOT_NID_MAX * EROFS_SLOT_SIZE)
        image->meta_block =
            (uint32_t)((at - ROOT_NID_MAX * EROFS_SLOT_SIZE + block - 1) >> image->allocator->bits);
    image->root_nid = (uint32_t)erofs_nid(image, NODE_ROOT);
    return 0;
}

int erofs_layout(struct erofs_image *image)
{
    struct erofs_tree *tree = image->tree;
    int ret = place_root(image);

    for (uint32_t dir = NODE_ROOT; dir && !ret;) {
        uint32_t rest = tree->nodes[dir].next, *last = &tree->nodes[dir].next;

        for (uint32_t i = tree->nodes[dir].child; i && !ret; i = tree->names[i].sibling) {
            struct erofs_node *n = &tree->nodes[tree->names[i].node];

            if (n->flags & NODE_VISITED)
                continue;
            if ((n->mode & TAR_FORMAT) == TAR_DIR && tree->traits & MKFS_DOTS_LATE)
                n->parent = dir;
            ret = place_node(image, tree->names[i].node);
            if ((n->mode & TAR_FORMAT) != TAR_DIR)
                continue;
            *last = tree->names[i].node;
            last = &n->next;
        }
        *last = rest;
        if (!ret)
            ret = place_dir_data(image, dir);
        dir = tree->nodes[dir].next;
    }
    return ret ? ret : erofs_allocator_map(image->allocator, EROFS_NO_BLOCK);
}
