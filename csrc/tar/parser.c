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

static int fail(struct tar_parser *p, int code, const char *reason)
{
    const char *name = p->local.path.set ? p->local.path.bytes : (const char *)p->header;
    const size_t max = p->local.path.set ? p->local.path.len : NAME_LEN;

    return tar_fail(p->error, code, p->entry, name, tar_text_len(name, max), reason);
}

struct tar_parser *tar_new(uint32_t traits, bool lossy, const struct tar_handler *handler,
                           struct tar_error *error)
{
    struct tar_parser *p = calloc(1, sizeof(*p));

    if (!p)
        return NULL;
    p->view = calloc(2 * TAR_MAX_XATTRS, sizeof(*p->view));
    if (!p->view) {
        free(p);
        return NULL;
    }
    p->traits = traits;
    p->lossy = lossy;
    p->handler = *handler;
    p->error = error;
    p->state = PAD;
    return p;
}

void tar_free(struct tar_parser *p)
{
    if (!p)
        return;
    tar_fields_free(&p->local);
    tar_fields_free(&p->global);
    free(p->extension);
    free(p->view);
    free(p);
}

uint64_t tar_parsed(const struct tar_parser *p)
{
    return p->offset;
}

const uint8_t *tar_volume(const struct tar_parser *p)
{
    return p->volume;
}

/* Prefix and name of the header, trailing slashes cut. */
static int header_path(struct tar_parser *p)
{
    char path[PREFIX_LEN + 1 + NAME_LEN];
    size_t len = tar_text_len(p->header + PREFIX, PREFIX_LEN);

    memcpy(path, p->header + PREFIX, len);
    if (len && path[len - 1] != '/')
        path[len++] = '/';
    const size_t name = tar_text_len(p->header + NAME, NAME_LEN);

    memcpy(path + len, p->header + NAME, name);
    len += name;
    if (!len)
        return tar_text_set(&p->local.path, ".", 1);
    while (len && path[len - 1] == '/')
        len--;
    if (!len && !(p->traits & MKFS_SLASH))
        return fail(p, -EINVAL, "entry \"/\": mkfs.erofs of this version crashes");
    return tar_text_set(&p->local.path, path, len);
}

/* The entry's own attributes, then the global ones it does not override. */
static uint32_t view_xattrs(struct tar_parser *p)
{
    uint32_t count = 0;

    for (int global = 0; global < 2; global++) {
        const struct tar_fields *f = global ? &p->global : &p->local;

        for (uint32_t i = 0; i < f->attr_count; i++) {
            const struct tar_attr *a = &f->attrs[i];
            const struct tar_xattr x = {f->pool + a->name, f->pool + a->value, a->name_len,
                                        a->value_len};
            bool seen = false;

            for (uint32_t j = 0; global && j < p->local.attr_count && !seen; j++)
                seen = p->view[j].name_len == x.name_len &&
                       !memcmp(p->view[j].name, x.name, x.name_len);
            if (!seen)
                p->view[count++] = x;
        }
    }
    return count;
}

static void next_header(struct tar_parser *p)
{
    /* mkfs.erofs aligns by its own count, which skips data it never read */
    p->left = -p->offset & (TAR_BLOCK - 1);
    p->offset += p->left;
    p->state = PAD;
}

static int next_entry(struct tar_parser *p)
{
    p->zero_block = false;
    next_header(p);
    const int ret = tar_fields_inherit(&p->local, &p->global);

    return ret ? fail(p, ret, "out of memory") : 0;
}

static const uint16_t types[] = {
    ['0'] = TAR_REG, ['1'] = TAR_REG, ['2'] = TAR_LNK,  ['3'] = TAR_CHR,
    ['4'] = TAR_BLK, ['5'] = TAR_DIR, ['6'] = TAR_FIFO, ['7'] = TAR_REG,
};

/* Everything of an entry that is in its header; hands the entry over. */
static int give_entry(struct tar_parser *p, uint64_t size)
{
    const uint8_t *h = p->header;
    struct tar_entry e = {.offset = p->entry, .data_offset = p->entry + TAR_BLOCK, .size = size};
    int64_t mode, uid = p->local.uid, gid = p->local.gid, major, minor;
    bool take = false;
    int ret = 0;

    e.mtime = p->local.mtime;
    e.nsec = p->local.has_mtime ? p->local.nsec : 0;
    if (!tar_octal(h + MODE, 8, &mode) ||
        (!p->local.has_uid && !tar_number(h + UID, 8, p->traits, &uid)) ||
        (!p->local.has_gid && !tar_number(h + GID, 8, p->traits, &gid)) ||
        (!p->local.has_mtime && !tar_number(h + MTIME, 12, p->traits, &e.mtime)))
        return fail(p, -EINVAL, "invalid number in a tar header");
    e.uid = (uint32_t)uid;
    e.gid = (uint32_t)gid;
    e.mode = types[p->type] | (uint16_t)(mode & ~TAR_FORMAT);
    if (p->type == '3' || p->type == '4') {
        if (!tar_number(h + MAJOR, 8, p->traits, &major) ||
            !tar_number(h + MINOR, 8, p->traits, &minor)) {
            if (!p->lossy)
                return fail(p, -EINVAL,
                            "invalid device number: mkfs.erofs drops the rest of the archive");
            p->state = END;
            return 0;
        }
        e.rdev = tar_device((uint32_t)major, (uint32_t)minor, p->traits);
    }
    if ((p->type == '1' || p->type == '2') && !p->local.link.set)
        ret =
            tar_text_set(&p->local.link, (const char *)h + LINK, tar_text_len(h + LINK, NAME_LEN));
    if (ret)
        return fail(p, ret, "out of memory");
    e.hard_link = p->type == '1';
    e.path = p->local.path.bytes;
    e.path_len = p->local.path.len;
    e.link = p->local.link.set ? p->local.link.bytes : "";
    e.link_len = p->local.link.set ? p->local.link.len : 0;
    e.xattrs = p->view;
    e.xattr_count = view_xattrs(p);
    ret = p->handler.entry(p->handler.ctx, &e, &take);
    if (ret)
        return fail(p, ret, "refused");
    if (take && size) {
        p->left = size;
        p->state = DATA;
        return 0;
    }
    return next_entry(p);
}

static int start_extension(struct tar_parser *p, uint64_t size)
{
    const bool pax = p->type == 'x' || p->type == 'g';

    if (size > TAR_MAX_HEADER)
        return fail(p, -E2BIG, "extension header too large");
    if (!pax && size > GNU_NAME_MAX && (p->type == 'K' || p->traits & MKFS_PAX_LONG))
        return fail(p, -ENAMETOOLONG, "GNU long name above 4096 bytes");
    if (size > STREAM_BUFFER && !(p->traits & MKFS_PAX_LONG))
        return fail(p, -E2BIG,
                    "extension header above 32 KiB: mkfs.erofs of this version garbles it");
    const int ret = grow(&p->extension, &p->extension_cap, size + 1, 1);

    if (ret)
        return fail(p, ret, "out of memory");
    p->left = size;
    p->have = 0;
    p->state = EXTENSION;
    return 0;
}

static int end_extension(struct tar_parser *p)
{
    const char *reason = "path too long";
    char *bytes = p->extension;
    int ret;

    bytes[p->have] = '\0';
    if (p->type == 'L' || p->type == 'K') {
        const size_t len = strlen(bytes);

        ret = len > TAR_MAX_PATH
                  ? -ENAMETOOLONG
                  : tar_text_set(p->type == 'L' ? &p->local.path : &p->local.link, bytes, len);
    } else {
        struct tar_fields *f = p->type == 'g' ? &p->global : &p->local;

        ret = tar_pax_parse(f, p->traits, p->lossy, bytes, p->have, &reason);
        /* of a global header only paths reach the entry that follows at once: tarerofs_parse_tar */
        if (!ret && p->type == 'g' && f->path.set)
            ret = tar_text_set(&p->local.path, f->path.bytes, f->path.len);
        if (!ret && p->type == 'g' && f->link.set)
            ret = tar_text_set(&p->local.link, f->link.bytes, f->link.len);
    }
    if (ret)
        return fail(p, ret, ret == -ENOMEM ? "out of memory" : reason);
    next_header(p);
    return 0;
}

static int parse_header(struct tar_parser *p)
{
    const uint8_t *h = p->header;
    int64_t size;
    int ret;

    p->entry = p->offset;
    p->offset += TAR_BLOCK;
    if (!tar_checksum_ok(h)) {
        if (*h)
            return fail(p, -EBADMSG, "bad header checksum");
        if (p->zero_block) {
            p->state = END;
            return 0;
        }
        p->zero_block = true;
        next_header(p);
        return 0;
    }
    p->type = h[TYPE];
    if (p->type == 'V') {
        memcpy(p->volume, h, VOLUME_LEN);
        next_header(p);
        return 0;
    }
    if (memcmp(h + MAGIC, "ustar", 5))
        return fail(p, -EINVAL, "not a ustar header");
    size = (int64_t)p->local.size;
    if (!p->local.has_size && !tar_number(h + SIZE, 12, p->traits, &size))
        return fail(p, -EINVAL, "invalid size in a tar header");
    if (size < 0 || p->offset > TAR_MAX_SIZE || (uint64_t)size > TAR_MAX_SIZE - p->offset)
        return fail(p, -EFBIG, "impossible size");
    p->offset += (uint64_t)size;
    if (p->type == 'x' || p->type == 'g' || p->type == 'L' || p->type == 'K')
        return start_extension(p, (uint64_t)size);
    if (!p->local.path.set && (int8_t)p->type <= '7') {
        ret = header_path(p);
        if (ret)
            return fail(p, ret, "out of memory");
    }
    if (p->type >= '0' && p->type <= '7')
        return give_entry(p, (uint64_t)size);
    if (!p->lossy)
        return fail(p, -ENOTSUP,
                    p->type == 'S' ? "GNU sparse file: mkfs.erofs drops it"
                                   : "unknown entry type: mkfs.erofs drops it");
    p->left = (uint64_t)size;
    p->state = SKIP;
    return 0;
}

/* The bytes of the current state are complete. */
static int advance(struct tar_parser *p)
{
    switch (p->state) {
    case PAD:
        p->state = HEADER;
        p->left = TAR_BLOCK;
        p->have = 0;
        return 0;
    case HEADER:
        return parse_header(p);
    case EXTENSION:
        return end_extension(p);
    case DATA:
    case SKIP:
        return next_entry(p);
    case END:
        break;
    }
    return 0;
}

int tar_update(struct tar_parser *p, const uint8_t *bytes, size_t len)
{
    if (p->error->code)
        return p->error->code;
    while (p->state != END) {
        const size_t n = len < p->left ? len : (size_t)p->left;
        int ret = 0;

        if (n) {
            if (p->state == HEADER)
                memcpy(p->header + p->have, bytes, n);
            else if (p->state == EXTENSION)
                memcpy(p->extension + p->have, bytes, n);
            else if (p->state == DATA)
                ret = p->handler.data(p->handler.ctx, bytes, n);
            if (ret)
                return fail(p, ret, "refused");
            p->have += n;
            p->left -= n;
            p->fed += n;
            bytes += n;
            len -= n;
        }
        if (p->left)
            return 0;
        ret = advance(p);
        if (ret)
            return ret;
    }
    return 0;
}

int tar_final(struct tar_parser *p)
{
    const bool between = p->state == HEADER || (p->state == PAD && !p->left);

    if (p->error->code || p->state == END)
        return p->error->code;
    if (between && (!p->have || p->lossy) && p->traits & MKFS_NO_TRAILER) {
        p->state = END;
        return 0;
    }
    if (between && !p->have)
        return tar_fail(p->error, -EINVAL, p->fed, "", 0, "no end-of-archive blocks");
    return tar_fail(p->error, -EINVAL, p->fed, "", 0, "truncated archive");
}
