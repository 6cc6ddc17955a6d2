/* SPDX-License-Identifier: Apache-2.0 */
#include "mkfs_group.h"

#include <stddef.h>
#include <string.h>

#define SINCE_188 (MKFS_SUM_512 | MKFS_NEGATIVE_256 | MKFS_ANY_XATTR)
#define SINCE_191                                                                                  \
    (SINCE_188 | MKFS_BASE64 | MKFS_NO_TRAILER | MKFS_SLASH | MKFS_LATE_UNLINK |                   \
     MKFS_COMPACT_NSEC | MKFS_DOTS_LATE)
#define SINCE_192 (SINCE_191 | MKFS_NSEC_DIGITS | MKFS_PAX_EMPTY | MKFS_PAX_LONG | MKFS_DEV_64)
#define SINCE_193 (SINCE_192 | MKFS_XATTR_SORTED)

static const struct mkfs_group groups[] = {
    {"1.8.6", "1.8.6 ", 0},
    {"1.8.8-1.8.10", "1.8.8 1.8.9 1.8.10 ", SINCE_188},
    {"1.9.1", "1.9.1 ", SINCE_191},
    {"1.9.2", "1.9.2 ", SINCE_192},
    {"1.9.3-1.9.4", "1.9.3 1.9.4 ", SINCE_193},
};

const struct mkfs_group *mkfs_group_at(unsigned n)
{
    return n < sizeof(groups) / sizeof(groups[0]) ? &groups[n] : NULL;
}

const struct mkfs_group *mkfs_group_of(const char *version)
{
    const size_t len = strlen(version);

    for (size_t i = 0; i < sizeof(groups) / sizeof(groups[0]); i++) {
        for (const char *v = groups[i].versions; *v; v = strchr(v, ' ') + 1) {
            if (len && !strncmp(v, version, len) && v[len] == ' ')
                return &groups[i];
        }
    }
    return NULL;
}
