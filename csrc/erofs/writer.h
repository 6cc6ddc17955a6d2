/* SPDX-License-Identifier: Apache-2.0
 *
 * EROFS: the on-disk format, and the parts of the writer: tree -> allocator -> image. */
#ifndef DMSIGN_EROFS_WRITER_H
#define DMSIGN_EROFS_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../tar/parser.h"

/* ---- on disk, little endian; offsets into each structure ---- */

enum {
    EROFS_SUPER_AT = 1024,
    EROFS_SUPER_SIZE = 128,
    EROFS_SLOT_SIZE = 32, /* unit of inode numbers */
    EROFS_COMPACT_SIZE = 32,
    EROFS_EXTENDED_SIZE = 64,
    EROFS_DIRENT_SIZE = 12,
    EROFS_CHUNK_SIZE = 8,
    EROFS_DEVICE_SIZE = 128,
    EROFS_XATTR_HEADER = 12,
    EROFS_XATTR_ENTRY = 4,
    EROFS_NAME_MAX = 255,
};

#define EROFS_XATTRS_MAX                                                                           \
    (EROFS_XATTR_HEADER + 4u * (UINT16_MAX - 1)) /* i_xattr_icount has 16 bits */
#define EROFS_MAGIC 0xe0f5e1e2u
#define EROFS_NO_BLOCK 0xffffffffu
#define EROFS_FILTER_SEED 0x25bbe08fu

enum { EROFS_COMPAT_SUM = 1, EROFS_COMPAT_MTIME = 2, EROFS_COMPAT_FILTER = 4 };
enum { EROFS_INCOMPAT_DEVICES = 8 };
enum { EROFS_PLAIN = 0, EROFS_INLINE = 2, EROFS_CHUNKS = 4 };
enum { EROFS_CHUNK_INDEXES = 0x20, EROFS_CHUNK_BITS_MAX = 40 };
enum {
    EROFS_UNKNOWN,
    EROFS_REG,
    EROFS_DIR,
    EROFS_CHR,
    EROFS_BLK,
    EROFS_FIFO,
    EROFS_SOCK,
    EROFS_LNK
};

static inline void put16(uint8_t *p, uint32_t v)
{
    p[0] = (uint8_t)v;
    p[1] = (uint8_t)(v >> 8);
}

static inline void put32(uint8_t *p, uint32_t v)
{
    put16(p, v);
    put16(p + 2, v >> 16);
}

static inline void put64(uint8_t *p, uint64_t v)
{
    put32(p, (uint32_t)v);
    put32(p + 4, (uint32_t)(v >> 32));
}

/* ---- xattrs: each distinct name and value once ---- */

struct erofs_xattr {
    uint32_t chain; /* next of the same hash */
    uint32_t kv;    /* name, NUL, value in the tree's text */
    uint32_t name_len, value_len;
};

/* One inode's use of one xattr; `older` leads to the one set before. */
struct erofs_xattr_use {
    uint32_t xattr, older;
};

/* ---- tree: names and inodes, by index; index 0 is none ---- */

enum {
    NODE_ROOT = 1,
    NODE_WHITEOUTS = 1, /* flags: a directory with whiteouts in it */
    NODE_DATA = 2,      /* data blocks in the image or the tar */
    NODE_EXTENDED = 4,
    NODE_TAIL = 8, /* tail of the data behind the inode */
    NODE_VISITED = 16,
    NODE_NO_PARENT = 32, /* ".." had no number when the directory was written */
    NODE_GONE = 64,      /* taken off the tree */
};

struct erofs_node {
    uint64_t size;
    int64_t mtime;
    uint32_t nsec, uid, gid, nlink;
    uint32_t parent;
    uint32_t start;  /* union of mkfs.erofs: first block of the data, or device, or chunk format */
    uint32_t data;   /* chunk data: first 512-byte block in the tar */
    uint32_t child;  /* directory: first name; symlink: target in the text */
    uint32_t xattrs; /* latest use */
    uint32_t block, offset; /* metadata block and place in it */
    uint32_t serial;        /* 0 until the inode has its place */
    uint32_t next;          /* of a work list */
    uint16_t mode;
    uint8_t flags;
};

struct erofs_name {
    uint32_t dir, node;
    uint32_t sibling, chain;
    uint32_t text;
    uint8_t len, type; /* type EROFS_*: mostly the type of the node */
};

/* The directories of the path resolved last, up to its last slash. */
struct erofs_walk {
    char *bytes;
    uint32_t len, cap, name;
};

struct erofs_tree {
    uint32_t traits;
    bool lossy;
    struct erofs_node *nodes;
    struct erofs_name *names;
    uint8_t *text;
    struct erofs_xattr *xattrs;
    struct erofs_xattr_use *uses;
    uint32_t node_count, node_cap, name_count, name_cap, text_len, text_cap, xattr_count, xattr_cap,
        use_count, use_cap;
    uint32_t *buckets, *xattr_buckets; /* heads of hash chains */
    uint32_t bucket_mask, xattr_mask;
    uint32_t max_entries; /* inodes, names, and uses of xattrs */
    uint32_t max_text;    /* bytes of text, and of xattrs as often as they are used */
    uint64_t xattr_bytes;
    struct erofs_walk path, link;
    uint64_t seed; /* of the hashes: hostile names must not collide at will */
};

int erofs_tree_init(struct erofs_tree *tree, uint32_t traits, bool lossy, uint32_t max_entries,
                    uint32_t max_text, uint64_t seed);
void erofs_tree_free(struct erofs_tree *tree);

/* A new inode, all zero but for its parent. */
int erofs_tree_node(struct erofs_tree *tree, uint32_t parent, uint32_t *node);

/* What a path leads to: a name, made if it was missing, or the mark of an overlay. */
struct erofs_path {
    uint32_t name; /* 0: the root, or nothing named */
    bool whiteout, opaque;
};

/* Walks a path, makes what is missing on the way: erofs_rebuild_get_dentry, whose `d` is the name
 * seen last. */
int erofs_tree_resolve(struct erofs_tree *tree, const char *path, size_t len,
                       struct erofs_walk *walk, struct erofs_path *found);

/* Puts an entry into the tree. *node is its inode if it brings data, else 0. On failure *reason
 * says why. */
int erofs_tree_add(struct erofs_tree *tree, const struct tar_entry *e, uint32_t *node,
                   const char **reason);

/* Frees what only adding needs, sorts each directory's names bytewise. */
int erofs_tree_finish(struct erofs_tree *tree);

/* Adds bytes to the text; *at is their place. -EFBIG beyond max_text. */
int erofs_text_add(struct erofs_tree *tree, const void *bytes, size_t len, uint32_t *at);

/* `name` ends in NUL. -ENODATA: the version drops this namespace or name. */
int erofs_xattr_add(struct erofs_tree *tree, uint32_t node, const void *name, size_t name_len,
                    const void *value, size_t value_len);

/* Bytes of one xattr in an inode. */
uint64_t erofs_xattr_entry_size(const void *name, size_t name_len, size_t value_len);

/* Bytes of an inode's xattr area; 0 if none. */
uint64_t erofs_xattr_size(const struct erofs_tree *tree, uint32_t node);

/* The bits of names that an inode with xattrs does not have. */
uint32_t erofs_xattr_filter(const struct erofs_tree *tree, uint32_t node);

/* Writes that area to zeroed memory. */
int erofs_xattr_write(const struct erofs_tree *tree, uint32_t node, uint8_t *out);

/* The names of a sorted directory in order, with "." and "..". */
struct erofs_dir_iter {
    const struct erofs_tree *tree;
    uint32_t dir, name;
    unsigned dots;
};

struct erofs_dir_entry {
    const uint8_t *name;
    uint32_t len, node, type;
};

struct erofs_dir_iter erofs_dir(const struct erofs_tree *tree, uint32_t dir);
bool erofs_dir_next(struct erofs_dir_iter *it, struct erofs_dir_entry *e);

/* ---- allocator: where metadata goes (cache.c of erofs-utils) ---- */

struct erofs_allocator_block {
    uint32_t addr, used; /* used may exceed a block: the piece then spans several */
    uint32_t prev, next; /* of its bucket; when all is placed next is the first inode in it */
    uint32_t bucket;
};

struct erofs_allocator {
    unsigned bits; /* of the block size */
    uint32_t tail; /* first block not taken */
    uint64_t held; /* pieces of file data not yet released */
    bool busy;     /* the block mapped last holds data */
    struct erofs_allocator_block
        *blocks; /* metadata, in list order: those below `mapped` have addresses */
    uint32_t count, cap, mapped;
    uint32_t heads[2][4096],
        tails[2][4096]; /* by bytes used in the last block, unmapped and mapped */
    uint64_t bitmap[2][64];
};

/* With the super block in place, and `devices` slots behind it. */
int erofs_allocator_init(struct erofs_allocator *allocator, unsigned bits, unsigned devices);
void erofs_allocator_free(struct erofs_allocator *allocator);

/* Takes `n` blocks for data, at once at the tail. -EFBIG when addresses run out. */
int erofs_allocate_data(struct erofs_allocator *allocator, uint64_t n, uint32_t *addr);

/* Gives every metadata block so far its address, then takes `n` blocks: directory data. */
int erofs_allocate_directory(struct erofs_allocator *allocator, uint64_t n, uint32_t *addr);

/* A place for `size` bytes with `tail` more in the same block. -ENOSPC if no block can hold both.
 */
int erofs_allocate_inode(struct erofs_allocator *allocator, uint32_t size, uint32_t tail,
                         uint32_t *block, uint32_t *offset);

/* Gives addresses up to this block; EROFS_NO_BLOCK: to all. */
int erofs_allocator_map(struct erofs_allocator *allocator, uint32_t block);

/* ---- image ---- */

struct erofs_image {
    struct erofs_tree *tree;
    struct erofs_allocator *allocator;
    bool index;          /* layout D: data stays in the tar */
    uint32_t data_end;   /* first block behind the file data; 1 in layout D */
    uint64_t tar_blocks; /* layout D */
    const uint8_t *uuid, *volume;
    uint32_t root_nid, meta_block, serials;
    bool filter;
    uint32_t
        *extents; /* nodes with metadata blocks of their own, by address; the caller's to free */
    uint32_t extent_count, extent_cap;
};

/* Decides every inode's form and place: the order of erofs_mkfs_dump_tree. */
int erofs_layout(struct erofs_image *image);

typedef int erofs_give(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len);

/* Gives block 0, then all from data_end on, as whole blocks in rising order. */
int erofs_image_write(struct erofs_image *image, erofs_give *give, void *ctx);

/* Writes an inode's own area to zeroed memory. */
int erofs_inode_write(const struct erofs_image *image, uint32_t node, uint8_t *out);

/* The data of a directory or symlink, block by block. */
struct erofs_data {
    const struct erofs_image *image;
    uint32_t node;
    uint64_t done;
    struct erofs_dir_iter names;
};

struct erofs_data erofs_data(const struct erofs_image *image, uint32_t node);

/* Writes the next block to zeroed memory, or leaves it out when `out` is NULL. */
void erofs_data_next(struct erofs_data *d, uint8_t *out);

/* Bytes of an inode's own area: inode, xattrs, chunk indexes. */
uint32_t erofs_inode_size(const struct erofs_image *image, uint32_t node);

/* Where an inode is in the image. */
static inline uint64_t erofs_at(const struct erofs_image *image, uint32_t node)
{
    const struct erofs_node *n = &image->tree->nodes[node];

    return ((uint64_t)image->allocator->blocks[n->block].addr << image->allocator->bits) +
           n->offset;
}

static inline uint64_t erofs_nid(const struct erofs_image *image, uint32_t node)
{
    /* unsigned on purpose: below meta_block it wraps, and the kernel wraps it back */
    return (erofs_at(image, node) - ((uint64_t)image->meta_block << image->allocator->bits)) /
           EROFS_SLOT_SIZE;
}

#endif
