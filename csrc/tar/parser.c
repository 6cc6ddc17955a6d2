/* SPDX-License-Identifier: Apache-2.0 */
#include "parser.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grow.h"
#include "header.h"
#include "mkfs_group.h"
#include "pax.h"

#define GNU_NAME_MAX 4096   /* PATH_MAX */
#define STREAM_BUFFER 32768 /* of erofs_iostream */

enum state { HEADER, EXTENSION, DATA, SKIP, PAD, END };

struct tar_parser {
    struct tar_handler handler;
    struct tar_error *error;
    uint32_t traits;
    bool lossy;
    enum state state;
    bool zero_block; /* one seen since the last entry */
    uint64_t offset; /* what mkfs.erofs believes to have parsed */
    uint64_t fed;    /* bytes really seen */
    uint64_t named;  /* bytes of paths and link targets given to the handler */
    uint64_t entry;  /* offset of the current header */
    uint64_t left;   /* of the current state's bytes */
    size_t have;     /* bytes in `header` or `extension` */
    uint8_t type;    /* of the extension being read */
    uint8_t header[TAR_BLOCK];
    char *extension;
    uint32_t extension_cap;
    struct tar_fields local, global;
    struct tar_xattr *view; /* of local and global attributes, for the handler */
    uint8_t volume[VOLUME_LEN];
};

int tar_fail(struct tar_error *error, int code, uint64_t offset, const char *name, size_t len,
             const char *reason)
{
    if (error->code)
        return error->code;
    if (len >= sizeof(error->name))
        len = sizeof(error->name) - 1;
    error->code = code;
    error->offset = offset;
    error->reason = reason;
    if (len)
        memcpy(error->name, name, len);
    error->name[len] = '\0';
    return code;
}

static int fail(struct tar_parser *parser, int code, const char *reason)
{
    const char *name =
        parser->local.path.set ? parser->local.path.bytes : (const char *)parser->header;
    const size_t max = parser->local.path.set ? parser->local.path.len : NAME_LEN;

    return tar_fail(parser->error, code, parser->entry, name, tar_text_len(name, max), reason);
}

struct tar_parser *tar_new(uint32_t traits, bool lossy, uint64_t seed,
                           const struct tar_handler *handler, struct tar_error *error)
{
    struct tar_parser *parser = calloc(1, sizeof(*parser));

    if (!parser)
        return NULL;
    parser->view = calloc(2 * TAR_MAX_XATTRS, sizeof(*parser->view));
    if (!parser->view) {
        free(parser);
        return NULL;
    }
    parser->traits = traits;
    parser->lossy = lossy;
    parser->local.seed = parser->global.seed = seed;
    parser->handler = *handler;
    parser->error = error;
    parser->state = PAD;
    return parser;
}

void tar_free(struct tar_parser *parser)
{
    if (!parser)
        return;
    tar_fields_free(&parser->local);
    tar_fields_free(&parser->global);
    free(parser->extension);
    free(parser->view);
    free(parser);
}

uint64_t tar_parsed(const struct tar_parser *parser)
{
    return parser->offset;
}

const uint8_t *tar_volume(const struct tar_parser *parser)
{
    return parser->volume;
}

/* Prefix and name of the header, trailing slashes cut. */
static int header_path(struct tar_parser *parser)
{
    char path[PREFIX_LEN + 1 + NAME_LEN];
    size_t len = tar_text_len(parser->header + PREFIX, PREFIX_LEN);

    memcpy(path, parser->header + PREFIX, len);
    if (len && path[len - 1] != '/')
        path[len++] = '/';
    const size_t name = tar_text_len(parser->header + NAME, NAME_LEN);

    memcpy(path + len, parser->header + NAME, name);
    len += name;
    if (!len)
        return tar_text_set(&parser->local.path, ".", 1);
    while (len && path[len - 1] == '/')
        len--;
    if (!len && !(parser->traits & MKFS_SLASH))
        return fail(parser, -EINVAL, "entry \"/\": mkfs.erofs of this version crashes");
    return tar_text_set(&parser->local.path, path, len);
}

/* The entry's own attributes, then the global ones it does not override. */
static uint32_t view_xattrs(struct tar_parser *parser)
{
    uint32_t count = 0;

    for (int global = 0; global < 2; global++) {
        const struct tar_fields *f = global ? &parser->global : &parser->local;

        for (uint32_t i = 0; i < f->attr_count; i++) {
            const struct tar_attr *a = &f->attrs[i];
            const struct tar_xattr x = {f->pool + a->name, f->pool + a->value, a->name_len,
                                        a->value_len};

            if (!global || !tar_fields_find(&parser->local, x.name, x.name_len))
                parser->view[count++] = x;
        }
    }
    return count;
}

static void next_header(struct tar_parser *parser)
{
    /* mkfs.erofs aligns by its own count, which skips data it never read */
    parser->left = -parser->offset & (TAR_BLOCK - 1);
    parser->offset += parser->left;
    parser->state = PAD;
}

static int next_entry(struct tar_parser *parser)
{
    parser->zero_block = false;
    next_header(parser);
    const int ret = tar_fields_inherit(&parser->local, &parser->global);

    return ret ? fail(parser, ret, "out of memory") : 0;
}

static const uint16_t types[] = {
    ['0'] = TAR_REG, ['1'] = TAR_REG, ['2'] = TAR_LNK,  ['3'] = TAR_CHR,
    ['4'] = TAR_BLK, ['5'] = TAR_DIR, ['6'] = TAR_FIFO, ['7'] = TAR_REG,
};

/* Everything of an entry that is in its header; hands the entry over. */
static int give_entry(struct tar_parser *parser, uint64_t size)
{
    const uint8_t *header = parser->header;
    struct tar_entry e = {
        .offset = parser->entry, .data_offset = parser->entry + TAR_BLOCK, .size = size};
    int64_t mode, uid = parser->local.uid, gid = parser->local.gid, major, minor;
    bool take = false;
    int ret = 0;

    e.mtime = parser->local.mtime;
    e.nsec = parser->local.has_mtime ? parser->local.nsec : 0;
    if (!tar_octal(header + MODE, 8, &mode) ||
        (!parser->local.has_uid && !tar_number(header + UID, 8, parser->traits, &uid)) ||
        (!parser->local.has_gid && !tar_number(header + GID, 8, parser->traits, &gid)) ||
        (!parser->local.has_mtime && !tar_number(header + MTIME, 12, parser->traits, &e.mtime)))
        return fail(parser, -EINVAL, "invalid number in a tar header");
    e.uid = (uint32_t)uid;
    e.gid = (uint32_t)gid;
    e.mode = types[parser->type] | (uint16_t)(mode & ~TAR_FORMAT);
    if (parser->type == '3' || parser->type == '4') {
        if (!tar_number(header + MAJOR, 8, parser->traits, &major) ||
            !tar_number(header + MINOR, 8, parser->traits, &minor)) {
            if (!parser->lossy)
                return fail(parser, -EINVAL,
                            "invalid device number: mkfs.erofs drops the rest of the archive");
            parser->state = END;
            return 0;
        }
        e.rdev = tar_device((uint32_t)major, (uint32_t)minor, parser->traits);
    }
    if ((parser->type == '1' || parser->type == '2') && !parser->local.link.set)
        ret = tar_text_set(&parser->local.link, (const char *)header + LINK,
                           tar_text_len(header + LINK, NAME_LEN));
    if (ret)
        return fail(parser, ret, "out of memory");
    e.hard_link = parser->type == '1';
    e.path = parser->local.path.bytes;
    e.path_len = parser->local.path.len;
    e.link = parser->local.link.set ? parser->local.link.bytes : "";
    e.link_len = parser->local.link.set ? parser->local.link.len : 0;
    parser->named += e.path_len + e.link_len;
    if (parser->named > parser->fed + TAR_MAX_INHERITED)
        return fail(parser, -E2BIG, "too many entries with a long path of a global PAX header");
    e.xattrs = parser->view;
    e.xattr_count = view_xattrs(parser);
    ret = parser->handler.entry(parser->handler.ctx, &e, &take);
    if (ret)
        return fail(parser, ret, "refused");
    if (take && size) {
        parser->left = size;
        parser->state = DATA;
        return 0;
    }
    return next_entry(parser);
}

static int start_extension(struct tar_parser *parser, uint64_t size)
{
    const bool pax = parser->type == 'x' || parser->type == 'g';

    if (size > TAR_MAX_HEADER)
        return fail(parser, -E2BIG, "extension header too large");
    if (!pax && size > GNU_NAME_MAX && (parser->type == 'K' || parser->traits & MKFS_PAX_LONG))
        return fail(parser, -ENAMETOOLONG, "GNU long name above 4096 bytes");
    if (size > STREAM_BUFFER && !(parser->traits & MKFS_PAX_LONG))
        return fail(parser, -E2BIG,
                    "extension header above 32 KiB: mkfs.erofs of this version garbles it");
    const int ret = grow(&parser->extension, &parser->extension_cap, size + 1, 1);

    if (ret)
        return fail(parser, ret, "out of memory");
    parser->left = size;
    parser->have = 0;
    parser->state = EXTENSION;
    return 0;
}

static int end_extension(struct tar_parser *parser)
{
    const char *reason = "path too long";
    char *bytes = parser->extension;
    int ret;

    bytes[parser->have] = '\0';
    if (parser->type == 'L' || parser->type == 'K') {
        const size_t len = strlen(bytes);

        ret = len > TAR_MAX_PATH
                  ? -ENAMETOOLONG
                  : tar_text_set(parser->type == 'L' ? &parser->local.path : &parser->local.link,
                                 bytes, len);
    } else {
        struct tar_fields *f = parser->type == 'g' ? &parser->global : &parser->local;

        ret = tar_pax_parse(f, parser->traits, parser->lossy, bytes, parser->have, &reason);
        /* of a global header only paths reach the entry that follows at once: tarerofs_parse_tar */
        if (!ret && parser->type == 'g' && !parser->lossy &&
            (f->has_uid || f->has_gid || f->has_mtime || f->has_size)) {
            ret = -ENOTSUP;
            reason = "uid, gid, mtime or size in a global PAX header: mkfs.erofs ignores it for "
                     "the next entry";
        }
        if (!ret && parser->type == 'g' && f->path.set)
            ret = tar_text_set(&parser->local.path, f->path.bytes, f->path.len);
        if (!ret && parser->type == 'g' && f->link.set)
            ret = tar_text_set(&parser->local.link, f->link.bytes, f->link.len);
    }
    if (ret)
        return fail(parser, ret, ret == -ENOMEM ? "out of memory" : reason);
    next_header(parser);
    return 0;
}

static int parse_header(struct tar_parser *parser)
{
    const uint8_t *header = parser->header;
    int64_t size;
    int ret;

    parser->entry = parser->offset;
    parser->offset += TAR_BLOCK;
    if (!tar_checksum_ok(header)) {
        if (*header)
            return fail(parser, -EBADMSG, "bad header checksum");
        if (parser->zero_block) {
            parser->state = END;
            return 0;
        }
        parser->zero_block = true;
        next_header(parser);
        return 0;
    }
    parser->type = header[TYPE];
    if (parser->type == 'V') {
        memcpy(parser->volume, header, VOLUME_LEN);
        next_header(parser);
        return 0;
    }
    if (memcmp(header + MAGIC, "ustar", 5))
        return fail(parser, -EINVAL, "not a ustar header");
    size = (int64_t)parser->local.size;
    if (!parser->local.has_size && !tar_number(header + SIZE, 12, parser->traits, &size))
        return fail(parser, -EINVAL, "invalid size in a tar header");
    if (size < 0 || parser->offset > TAR_MAX_SIZE || (uint64_t)size > TAR_MAX_SIZE - parser->offset)
        return fail(parser, -EFBIG, "impossible size");
    parser->offset += (uint64_t)size;
    if (parser->type == 'x' || parser->type == 'g' || parser->type == 'L' || parser->type == 'K')
        return start_extension(parser, (uint64_t)size);
    if (!parser->local.path.set && (int8_t)parser->type <= '7') {
        ret = header_path(parser);
        if (ret)
            return fail(parser, ret, "out of memory");
    }
    if (parser->type >= '0' && parser->type <= '7')
        return give_entry(parser, (uint64_t)size);
    if (!parser->lossy)
        return fail(parser, -ENOTSUP,
                    parser->type == 'S' ? "GNU sparse file: mkfs.erofs drops it"
                                        : "unknown entry type: mkfs.erofs drops it");
    parser->left = (uint64_t)size;
    parser->state = SKIP;
    return 0;
}

/* The bytes of the current state are complete. */
static int advance(struct tar_parser *parser)
{
    switch (parser->state) {
    case PAD:
        parser->state = HEADER;
        parser->left = TAR_BLOCK;
        parser->have = 0;
        return 0;
    case HEADER:
        return parse_header(parser);
    case EXTENSION:
        return end_extension(parser);
    case DATA:
    case SKIP:
        return next_entry(parser);
    case END:
        break;
    }
    return 0;
}

int tar_update(struct tar_parser *parser, const uint8_t *bytes, size_t len)
{
    if (parser->error->code)
        return parser->error->code;
    while (parser->state != END) {
        const size_t n = len < parser->left ? len : (size_t)parser->left;
        int ret = 0;

        if (n) {
            if (parser->state == HEADER)
                memcpy(parser->header + parser->have, bytes, n);
            else if (parser->state == EXTENSION)
                memcpy(parser->extension + parser->have, bytes, n);
            else if (parser->state == DATA)
                ret = parser->handler.data(parser->handler.ctx, bytes, n);
            if (ret)
                return fail(parser, ret, "refused");
            parser->have += n;
            parser->left -= n;
            parser->fed += n;
            bytes += n;
            len -= n;
        }
        if (parser->left)
            return 0;
        ret = advance(parser);
        if (ret)
            return ret;
    }
    return 0;
}

int tar_final(struct tar_parser *parser)
{
    const bool between = parser->state == HEADER || (parser->state == PAD && !parser->left);

    if (parser->error->code || parser->state == END)
        return parser->error->code;
    if (between && (!parser->have || parser->lossy) && parser->traits & MKFS_NO_TRAILER) {
        parser->state = END;
        return 0;
    }
    if (between && !parser->have)
        return tar_fail(parser->error, -EINVAL, parser->fed, "", 0, "no end-of-archive blocks");
    if (parser->state == DATA || parser->state == SKIP || parser->state == EXTENSION)
        return fail(parser, -EINVAL, "truncated archive");
    return tar_fail(parser->error, -EINVAL, parser->fed, "", 0, "truncated archive");
}
