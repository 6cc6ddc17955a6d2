/* SPDX-License-Identifier: Apache-2.0
 *
 * What tells the versions of mkfs.erofs apart: one bit for each behaviour that changed, one row for
 * each group. */
#ifndef DMSIGN_MKFS_GROUP_H
#define DMSIGN_MKFS_GROUP_H

#include <stdint.h>

/* A set bit is the newer behaviour.  In brackets the function of erofs-utils that decides it. */
enum {
    MKFS_SUM_512 = 1u << 0, /* checksums superblocks of 512-byte blocks [erofs_enable_sb_chksum] */
    MKFS_NEGATIVE_256 = 1u << 1, /* base-256 numbers may be negative [tarerofs_parsenum] */
    MKFS_ANY_XATTR = 1u << 2,    /* keeps xattrs of unknown namespaces [get_xattritem] */
    MKFS_BASE64 = 1u << 3,     /* decodes base64 most significant bit first [erofs_base64_decode] */
    MKFS_NO_TRAILER = 1u << 4, /* a tar may end without zero blocks [tarerofs_parse_tar] */
    MKFS_SLASH = 1u << 5,      /* survives an entry named "/" [tarerofs_parse_tar] */
    MKFS_LATE_UNLINK =
        1u << 6, /* a hard link finds its target before it replaces a name [tarerofs_parse_tar] */
    MKFS_COMPACT_NSEC =
        1u << 7, /* compact inodes whatever the nanoseconds [erofs_should_use_inode_extended] */
    MKFS_NSEC_DIGITS = 1u << 8, /* right nanoseconds of PAX mtimes [tarerofs_parse_pax_header] */
    MKFS_PAX_EMPTY = 1u << 9,   /* an empty PAX value unsets a field [tarerofs_parse_pax_header] */
    MKFS_PAX_LONG = 1u << 10,   /* reads headers above 32 KiB whole [erofs_iostream_bread] */
    MKFS_DEV_64 = 1u << 11,     /* device numbers beyond 12 + 20 bits [tarerofs_parse_tar] */
    MKFS_DOTS_LATE = 1u << 13,  /* decides ".." when it writes a directory, not when it meets it
                                   [erofs_init_empty_dir] */
    MKFS_XATTR_SORTED =
        1u << 12, /* an inode's xattrs sorted, not in order of arrival [erofs_inode_xattr_add] */
};

struct mkfs_group {
    const char *name;     /* as shown to users: "1.8.8-1.8.10" */
    const char *versions; /* every version in the group, each followed by a space */
    uint32_t traits;
};

/* The group a version such as "1.9.4" belongs to, or NULL. */
const struct mkfs_group *mkfs_group_of(const char *version);

/* The n-th group, oldest first, or NULL past the last. */
const struct mkfs_group *mkfs_group_at(unsigned n);

#endif
