/* SPDX-License-Identifier: Apache-2.0
 *
 * What a tar may cost, since strangers write tars; docs/security.md lists these rows. Beyond them
 * the conversion fails with -E2BIG, -EFBIG or -ENAMETOOLONG and a reason. */
#ifndef DMSIGN_TAR_BOUNDS_H
#define DMSIGN_TAR_BOUNDS_H

#include <stdint.h>

/* Bytes of one PAX or GNU extension header. */
#define TAR_MAX_HEADER (1u << 20)
/* Bytes of a path or link target. */
#define TAR_MAX_PATH 32767u
/* Bytes of a PAX path with a NUL in it. */
#define TAR_MAX_NUL_PATH 4096u
/* Extended attributes of one entry, and of the global header. */
#define TAR_MAX_XATTRS 1024u
/* Bytes of their names and values, replaced values included. */
#define TAR_MAX_XATTR_BYTES (4u << 20)
/* Bytes by which all paths and link targets may exceed the tar itself: each entry repeats the path
 * and link target of a global header. */
#define TAR_MAX_INHERITED (1u << 20)
/* Bytes of one archive and of one file. */
#define TAR_MAX_SIZE ((UINT64_C(1) << 41) - (1 << 20))
/* Inodes, names, and uses of extended attributes, each. */
#define EROFS_MAX_ENTRIES (1u << 24)
/* Bytes of the image that are no file data. */
#define EROFS_MAX_METADATA (UINT64_C(1) << 32)

#endif
