/* SPDX-License-Identifier: Apache-2.0 */
#include "conversion.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "writer.h"

struct layer {
    struct layer_options options;
    struct layer_sink sink;
    struct tar_parser *tar;
    struct tar_error error;
    struct erofs_tree tree;
    struct erofs_space space;
    uint64_t fed;       /* bytes given to sink.data */
    uint64_t file_left; /* of the file whose data is coming in */
    bool done;
};

static const uint8_t zeros[4096];

static int give(struct layer *l, const uint8_t *bytes, size_t len)
{
    const uint64_t base = l->options.layout == LAYER_FULL ? 4096 : 0;
    const int ret = len ? l->sink.data(l->sink.ctx, base + l->fed, bytes, len) : 0;

    l->fed += len;
    return ret;
}

/* The file gets its blocks as soon as its header is read: erofs_allocate_inode_bh_data,
 * tarerofs_write_chunkes. */
static int start_file(struct layer *l, uint32_t node, const struct tar_entry *e)
{
    struct erofs_node *n = &l->tree.nodes[node];

    n->flags |= NODE_DATA;
    if (l->options.layout == LAYER_INDEX) {
        n->data = (uint32_t)(e->data_offset / TAR_BLOCK);
        return 0;
    }
    l->space.held++;
    l->file_left = e->size;
    return erofs_space_data(&l->space, (e->size + 4095) / 4096, &n->start);
}

static int on_entry(void *ctx, const struct tar_entry *e, bool *take)
{
    struct layer *l = ctx;
    const char *reason = NULL;
    uint32_t node;
    int ret = erofs_tree_add(&l->tree, e, &node, &reason);

    *take = node;
    if (!ret && node) {
        ret = start_file(l, node, e);
        reason = "image too large";
    }
    return ret ? tar_fail(&l->error, ret, e->offset, e->path, e->path_len, reason) : 0;
}

static int on_data(void *ctx, const uint8_t *bytes, size_t len)
{
    struct layer *l = ctx;
    int ret;

    if (l->options.layout == LAYER_INDEX)
        return 0;
    ret = give(l, bytes, len);
    l->file_left -= len;
    if (!ret && !l->file_left)
        ret = give(l, zeros, -l->fed & 4095);
    return ret ? tar_fail(&l->error, ret, 0, "", 0, "the sink failed") : 0;
}

struct layer *layer_new(const struct layer_options *options, const struct layer_sink *sink)
{
    const bool index = options->layout == LAYER_INDEX;
    struct layer *l;

    if (!options->group || (!index && options->layout != LAYER_FULL))
        return NULL;
    l = calloc(1, sizeof(*l));
    if (!l)
        return NULL;
    l->options = *options;
    l->sink = *sink;
    if (!l->options.max_entries)
        l->options.max_entries = 1u << 24;
    if (!l->options.max_metadata)
        l->options.max_metadata = UINT64_C(1) << 32;
    const uint32_t max_text =
        l->options.max_metadata < UINT32_MAX ? (uint32_t)l->options.max_metadata : UINT32_MAX;
    const struct tar_handler handler = {l, on_entry, on_data};

    l->tar = tar_new(options->group->traits, options->lossy, &handler, &l->error);
    if (!l->tar || erofs_space_init(&l->space, index ? 9 : 12, index) ||
        erofs_tree_init(&l->tree, options->group->traits, options->lossy, l->options.max_entries,
                        max_text, options->seed)) {
        layer_free(l);
        return NULL;
    }
    l->tree.nodes[NODE_ROOT].uid = options->uid;
    l->tree.nodes[NODE_ROOT].gid = options->gid;
    return l;
}

void layer_free(struct layer *l)
{
    if (!l)
        return;
    tar_free(l->tar);
    erofs_tree_free(&l->tree);
    erofs_space_free(&l->space);
    free(l);
}

const struct tar_error *layer_error(const struct layer *l)
{
    return &l->error;
}

/* What every call returns once there is an error, or the image is complete. */
static int over(const struct layer *l)
{
    return l->error.code ? l->error.code : l->done ? -EINVAL : 0;
}

int layer_update(struct layer *l, const uint8_t *bytes, size_t len)
{
    int ret = over(l);

    if (!ret)
        ret = tar_update(l->tar, bytes, len);
    if (ret || l->options.layout == LAYER_FULL)
        return ret;
    ret = give(l, bytes, len);
    return ret ? tar_fail(&l->error, ret, 0, "", 0, "the sink failed") : 0;
}

static int give_metadata(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len)
{
    struct layer *l = ctx;
    const int ret = l->sink.meta(l->sink.ctx, offset, bytes, len);

    return ret ? tar_fail(&l->error, ret, 0, "", 0, "the sink failed") : 0;
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

int layer_final(struct layer *l, const uint8_t uuid[16], struct layer_info *info)
{
    struct erofs_image im = {
        .tree = &l->tree,
        .space = &l->space,
        .index = l->options.layout == LAYER_INDEX,
        .data_end = 1,
        .uuid = uuid,
        .volume = tar_volume(l->tar),
    };
    int ret = over(l);

    if (!ret)
        ret = tar_final(l->tar);
    if (ret)
        return ret;
    l->done = true;
    if (!im.index)
        im.data_end = l->space.tail;
    im.tar_blocks = (tar_parsed(l->tar) + TAR_BLOCK - 1) / TAR_BLOCK;
    ret = erofs_tree_finish(&l->tree);
    if (!ret)
        ret = erofs_layout(&im);
    if (!ret && (uint64_t)(l->space.tail - im.data_end) << l->space.bits > l->options.max_metadata)
        ret = -EFBIG;
    if (!ret)
        ret = erofs_image_write(&im, give_metadata, l);
    free(im.extents);
    *info = (struct layer_info){
        .image_size = (uint64_t)l->space.tail << l->space.bits,
        .data_offset = im.index ? (uint64_t)l->space.tail << l->space.bits : 4096,
        .data_size = l->fed,
        .parsed = tar_parsed(l->tar),
        .inodes = im.serials,
    };
    return ret ? tar_fail(&l->error, ret, 0, "", 0, final_reason(ret)) : 0;
}
