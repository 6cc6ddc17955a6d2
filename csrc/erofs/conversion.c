/* SPDX-License-Identifier: Apache-2.0 */
#include "conversion.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "writer.h"

struct conversion {
    struct conversion_options options;
    struct conversion_sink sink;
    struct tar_parser *tar;
    struct tar_error error;
    struct erofs_tree tree;
    struct erofs_allocator allocator;
    uint64_t fed;       /* bytes given to sink.data */
    uint64_t file_left; /* of the file whose data is coming in */
    bool done;
};

static const uint8_t zeros[4096];

static int give(struct conversion *conversion, const uint8_t *bytes, size_t len)
{
    const uint64_t base = conversion->options.layout == LAYOUT_FULL ? 4096 : 0;
    const int ret =
        len ? conversion->sink.data(conversion->sink.ctx, base + conversion->fed, bytes, len) : 0;

    conversion->fed += len;
    return ret;
}

/* The file gets its blocks as soon as its header is read: erofs_allocate_inode_bh_data,
 * tarerofs_write_chunkes. */
static int start_file(struct conversion *conversion, uint32_t node, const struct tar_entry *e)
{
    struct erofs_node *n = &conversion->tree.nodes[node];

    n->flags |= NODE_DATA;
    if (conversion->options.layout == LAYOUT_INDEX) {
        n->data = (uint32_t)(e->data_offset / TAR_BLOCK);
        return 0;
    }
    conversion->allocator.held++;
    conversion->file_left = e->size;
    return erofs_allocate_data(&conversion->allocator, (e->size + 4095) / 4096, &n->start);
}

static int on_entry(void *ctx, const struct tar_entry *e, bool *take)
{
    struct conversion *conversion = ctx;
    const char *reason = NULL;
    uint32_t node;
    int ret = erofs_tree_add(&conversion->tree, e, &node, &reason);

    *take = node;
    if (!ret && node) {
        ret = start_file(conversion, node, e);
        reason = "image too large";
    }
    return ret ? tar_fail(&conversion->error, ret, e->offset, e->path, e->path_len, reason) : 0;
}

static int on_data(void *ctx, const uint8_t *bytes, size_t len)
{
    struct conversion *conversion = ctx;
    int ret;

    if (conversion->options.layout == LAYOUT_INDEX)
        return 0;
    ret = give(conversion, bytes, len);
    conversion->file_left -= len;
    if (!ret && !conversion->file_left)
        ret = give(conversion, zeros, -conversion->fed & 4095);
    return ret ? tar_fail(&conversion->error, ret, 0, "", 0, "the sink failed") : 0;
}

struct conversion *conversion_new(const struct conversion_options *options,
                                  const struct conversion_sink *sink)
{
    const bool index = options->layout == LAYOUT_INDEX;
    struct conversion *conversion;

    if (!options->group || (!index && options->layout != LAYOUT_FULL))
        return NULL;
    conversion = calloc(1, sizeof(*conversion));
    if (!conversion)
        return NULL;
    conversion->options = *options;
    conversion->sink = *sink;
    if (!conversion->options.max_entries)
        conversion->options.max_entries = EROFS_MAX_ENTRIES;
    if (!conversion->options.max_metadata)
        conversion->options.max_metadata = EROFS_MAX_METADATA;
    const uint32_t max_text = conversion->options.max_metadata < UINT32_MAX
                                  ? (uint32_t)conversion->options.max_metadata
                                  : UINT32_MAX;
    const struct tar_handler handler = {conversion, on_entry, on_data};

    conversion->tar = tar_new(options->group->traits, options->lossy, options->seed, &handler,
                              &conversion->error);
    if (!conversion->tar || erofs_allocator_init(&conversion->allocator, index ? 9 : 12, index) ||
        erofs_tree_init(&conversion->tree, options->group->traits, options->lossy,
                        conversion->options.max_entries, max_text, options->seed)) {
        conversion_free(conversion);
        return NULL;
    }
    conversion->tree.nodes[NODE_ROOT].uid = options->uid;
    conversion->tree.nodes[NODE_ROOT].gid = options->gid;
    return conversion;
}

void conversion_free(struct conversion *conversion)
{
    if (!conversion)
        return;
    tar_free(conversion->tar);
    erofs_tree_free(&conversion->tree);
    erofs_allocator_free(&conversion->allocator);
    free(conversion);
}

const struct tar_error *conversion_error(const struct conversion *conversion)
{
    return &conversion->error;
}

/* What every call returns once there is an error, or the image is complete. */
static int over(const struct conversion *conversion)
{
    return conversion->error.code ? conversion->error.code : conversion->done ? -EINVAL : 0;
}

int conversion_update(struct conversion *conversion, const uint8_t *bytes, size_t len)
{
    int ret = over(conversion);

    if (!ret)
        ret = tar_update(conversion->tar, bytes, len);
    if (ret || conversion->options.layout == LAYOUT_FULL)
        return ret;
    ret = give(conversion, bytes, len);
    return ret ? tar_fail(&conversion->error, ret, 0, "", 0, "the sink failed") : 0;
}

static int give_metadata(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len)
{
    struct conversion *conversion = ctx;
    const int ret = conversion->sink.meta(conversion->sink.ctx, offset, bytes, len);

    return ret ? tar_fail(&conversion->error, ret, 0, "", 0, "the sink failed") : 0;
}

static const char *final_reason(int code)
{
    switch (code) {
    case -ERANGE:
        return "extended attributes too large for EROFS";
    case -E2BIG:
        return "too many extended attributes";
    case -EFBIG:
        return "too much metadata";
    case -EPROTO:
        return "internal error";
    default:
        return "out of memory";
    }
}

int conversion_final(struct conversion *conversion, const uint8_t uuid[16],
                     struct conversion_info *info)
{
    struct erofs_image image = {
        .tree = &conversion->tree,
        .allocator = &conversion->allocator,
        .index = conversion->options.layout == LAYOUT_INDEX,
        .data_end = 1,
        .uuid = uuid,
        .volume = tar_volume(conversion->tar),
    };
    int ret = over(conversion);

    if (!ret)
        ret = tar_final(conversion->tar);
    if (ret)
        return ret;
    conversion->done = true;
    if (!image.index)
        image.data_end = conversion->allocator.tail;
    image.tar_blocks = (tar_parsed(conversion->tar) + TAR_BLOCK - 1) / TAR_BLOCK;
    ret = erofs_tree_finish(&conversion->tree);
    if (!ret)
        ret = erofs_layout(&image);
    if (!ret && (uint64_t)(conversion->allocator.tail - image.data_end)
                        << conversion->allocator.bits >
                    conversion->options.max_metadata)
        ret = -EFBIG;
    if (!ret)
        ret = erofs_image_write(&image, give_metadata, conversion);
    free(image.extents);
    *info = (struct conversion_info){
        .image_size = (uint64_t)conversion->allocator.tail << conversion->allocator.bits,
        .data_offset =
            image.index ? (uint64_t)conversion->allocator.tail << conversion->allocator.bits : 4096,
        .data_size = conversion->fed,
        .parsed = tar_parsed(conversion->tar),
        .inodes = image.serials,
    };
    return ret ? tar_fail(&conversion->error, ret, 0, "", 0, final_reason(ret)) : 0;
}
