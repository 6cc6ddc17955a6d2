/* SPDX-License-Identifier: Apache-2.0
 *
 * A layer's tar to the EROFS image that mkfs.erofs of a named version makes of it, in one pass,
 * without files.
 *
 * Nothing is printed, nothing is global; one layer is used by one thread at a time, different
 * layers by any. Memory: at most 64 MiB and, for each entry, 125 bytes and its name; symlink
 * targets and distinct xattrs come on top. With a hash tree over 4096-byte blocks (LAYOUT_FULL) or
 * 512-byte blocks (LAYOUT_INDEX) all leaves of `data` can be hashed as they come. With LAYOUT_FULL
 * they are leaves 1, 2, …; leaf 0 and the last leaves come with conversion_final. With LAYOUT_INDEX
 * they are consecutive from leaf data_offset / 512 on; conversion_final tells data_offset. */
#ifndef DMSIGN_CONVERSION_H
#define DMSIGN_CONVERSION_H

#include "../tar/mkfs_group.h"
#include "../tar/parser.h"

enum image_layout {
    LAYOUT_FULL,  /* --tar=f --aufs -Enoinline_data -b4096 --sort=none: block 0, file data, metadata
                   */
    LAYOUT_INDEX, /* --tar=i --aufs: metadata, then the tar; 512-byte blocks */
};

struct conversion_options {
    enum image_layout layout;
    const struct mkfs_group *group;
    bool lossy; /* do what mkfs.erofs does where it silently drops something, instead of failing */
    uint32_t uid, gid; /* of a root directory the tar does not mention: those mkfs.erofs runs as */
    uint32_t max_entries;  /* inodes, names, and uses of xattrs, each; 0: EROFS_MAX_ENTRIES */
    uint64_t max_metadata; /* bytes of the image that are not file data, those of replaced entries
                              included; 0: EROFS_MAX_METADATA */
    uint64_t seed; /* of hash tables; random where tars may be hostile. The image does not depend on
                      it */
};

/* Where the image goes. Both return 0 or a negative errno, which stops the conversion; `bytes` live
 * for the call.
 *
 * LAYOUT_FULL: `data` gets the image from offset 4096 to the end of the file data, without gaps,
 * while the tar is being read; conversion_final hands block 0 and then all behind the data to
 * `meta`. LAYOUT_INDEX: `data` gets every byte of the tar, `offset` counted from the tar's start;
 * conversion_final hands the metadata to `meta`. The image is the metadata followed by the tar.
 * `meta` is called as often as needed: whole blocks, offsets rising, nothing left out but the file
 * data. */
struct conversion_sink {
    void *ctx;
    int (*data)(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len);
    int (*meta)(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len);
};

struct conversion_info {
    uint64_t image_size;  /* LAYOUT_INDEX: without the tar */
    uint64_t data_offset; /* of `data`'s bytes in the image: 4096, or image_size */
    uint64_t data_size;   /* bytes given to `data` */
    uint64_t parsed; /* bytes of the tar up to the end of the archive, its zero blocks included */
    uint64_t inodes;
};

struct conversion;

/* NULL when out of memory or an option is invalid. The options are copied, the sink's ctx must
 * outlive the layer. */
struct conversion *conversion_new(const struct conversion_options *options,
                                  const struct conversion_sink *sink);

/* More of the tar, in pieces of any size. 0 or a negative errno, which every further call repeats.
 */
int conversion_update(struct conversion *conversion, const uint8_t *bytes, size_t len);

/* No more bytes: gives the rest to the sink; after it every call is -EINVAL. Only the superblock,
 * in the first call of `meta`, depends on `uuid`. */
int conversion_final(struct conversion *conversion, const uint8_t uuid[16],
                     struct conversion_info *info);

/* What went wrong; valid as long as the layer. */
const struct tar_error *conversion_error(const struct conversion *conversion);

void conversion_free(struct conversion *conversion);

#endif
