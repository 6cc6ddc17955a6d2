/* SPDX-License-Identifier: Apache-2.0
 *
 * Tar, PAX and GNU headers to entries, as mkfs.erofs reads them; push parser, no files, bounded
 * memory. */
#ifndef DMSIGN_TAR_PARSER_H
#define DMSIGN_TAR_PARSER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bounds.h"

#define TAR_BLOCK 512

/* The file types of `mode`, the same numbers in every tar and in EROFS. */
enum {
    TAR_FORMAT = 0170000,
    TAR_FIFO = 0010000,
    TAR_CHR = 0020000,
    TAR_DIR = 0040000,
    TAR_BLK = 0060000,
    TAR_REG = 0100000,
    TAR_LNK = 0120000,
};

/* Why and where a conversion stopped. `reason` is a static string; `name` is cut to fit and ends in
 * NUL. */
struct tar_error {
    int code;        /* negative errno, 0 if none */
    uint64_t offset; /* of the entry's first header block in the tar */
    const char *reason;
    char name[256];
};

struct tar_xattr {
    const uint8_t *name, *value;
    uint32_t name_len, value_len;
};

/* One entry. Everything pointed to lives until the callback returns. `path` and `link` hold no NUL
 * but end in one. */
struct tar_entry {
    const char *path, *link;
    size_t path_len, link_len;
    uint64_t offset;      /* of its header block */
    uint64_t data_offset; /* of its data, as mkfs.erofs counts */
    uint64_t size;
    int64_t mtime;
    uint32_t nsec, uid, gid;
    uint32_t rdev; /* Linux "new" encoding */
    uint16_t mode; /* with the file type */
    bool hard_link;
    const struct tar_xattr *xattrs;
    uint32_t xattr_count;
};

struct tar_parser;

struct tar_handler {
    void *ctx;
    /* Sets *take when the entry's `size` bytes follow as data; otherwise mkfs.erofs leaves them
     * unread. */
    int (*entry)(void *ctx, const struct tar_entry *entry, bool *take);
    /* The data of the entry taken last, in order, `len` > 0. */
    int (*data)(void *ctx, const uint8_t *bytes, size_t len);
};

/* `traits`: MKFS_* bits. `lossy`: go on where mkfs.erofs silently drops something. `seed`: of hash
 * tables. The error belongs to the caller and outlives the parser. NULL when out of memory. */
struct tar_parser *tar_new(uint32_t traits, bool lossy, uint64_t seed,
                           const struct tar_handler *handler, struct tar_error *error);

/* Any number of bytes, in any pieces. 0 or negative errno; after an error the parser only repeats
 * it. */
int tar_update(struct tar_parser *p, const uint8_t *bytes, size_t len);

/* No more bytes. Fails when the archive ends where mkfs.erofs would not accept it. */
int tar_final(struct tar_parser *p);

/* Bytes mkfs.erofs counts up to the end of the archive, its zero blocks included. */
uint64_t tar_parsed(const struct tar_parser *p);

/* The 16 bytes of the last GNU volume header, zero if none. */
const uint8_t *tar_volume(const struct tar_parser *p);

void tar_free(struct tar_parser *p);

/* Records an error, first one wins; returns `code`. */
int tar_fail(struct tar_error *error, int code, uint64_t offset, const char *name, size_t len,
             const char *reason);

#endif
