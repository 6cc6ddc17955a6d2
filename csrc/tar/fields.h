/* SPDX-License-Identifier: Apache-2.0
 *
 * What the extension headers of an archive have said. */
#ifndef DMSIGN_TAR_FIELDS_H
#define DMSIGN_TAR_FIELDS_H

#include "parser.h"

/* A string that may be absent; owns its bytes, ends in NUL. */
struct tar_text {
    char *bytes;
    uint32_t len, cap;
    bool set;
};

/* An extended attribute as offsets into its fields' pool. */
struct tar_attr {
    uint32_t name, name_len, value, value_len;
};

/* Of one entry, or of all that follow. Owns its memory; all zero but for the seed is empty. */
struct tar_fields {
    struct tar_text path, link;
    bool has_size, has_mtime, has_uid, has_gid;
    uint64_t size;
    int64_t mtime;
    uint32_t nsec, uid, gid;
    struct tar_attr *attrs;
    uint32_t attr_count, attr_cap;
    uint8_t *pool;
    uint32_t pool_len, pool_cap;
    uint16_t *slots; /* by hash of the name: the attribute's number plus 1, or 0 */
    uint64_t seed;   /* of that hash */
};

int tar_text_set(struct tar_text *text, const char *bytes, size_t len);

/* The first attribute of a name keeps its place, the last one its value: tarerofs_insert_xattr. */
int tar_fields_xattr(struct tar_fields *f, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, const char **reason);

/* The attribute of that name, or NULL. */
const struct tar_attr *tar_fields_find(const struct tar_fields *f, const uint8_t *name,
                                       size_t name_len);

/* Everything but the attributes: what a new entry inherits from the global header. */
int tar_fields_inherit(struct tar_fields *to, const struct tar_fields *from);

void tar_fields_free(struct tar_fields *f);

#endif
