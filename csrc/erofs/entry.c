/* SPDX-License-Identifier: Apache-2.0
 *
 * What an entry does to the tree, with every turn that tar.c and rebuild.c of erofs-utils take. */
#include <errno.h>

#include "../tar/mkfs_group.h"
#include "writer.h"

/* Takes an inode, and all below it, off a name: tarerofs_remove_inode. Only link counts matter
 * afterwards. -ESTALE where mkfs.erofs would count in memory it has freed. */
static int unlink_node(struct erofs_tree *t, uint32_t node)
{
    uint32_t work = node, gone = 0;

    t->nodes[node].next = 0;
    while (work) {
        const uint32_t id = work;
        struct erofs_node *n = &t->nodes[id];

        work = n->next;
        n->nlink--;
        if ((n->mode & TAR_FORMAT) != TAR_DIR)
            continue;
        for (uint32_t i = n->child; i; i = t->names[i].sibling) {
            struct erofs_node *child = &t->nodes[t->names[i].node];

            if ((child->mode & TAR_FORMAT) == TAR_DIR) {
                child->next = work;
                work = t->names[i].node;
            } else {
                child->nlink--;
            }
        }
        if (t->nodes[n->parent].flags & NODE_GONE)
            return -ESTALE;
        t->nodes[n->parent].nlink--;
        n->next = gone;
        gone = id;
    }
    for (; gone; gone = t->nodes[gone].next)
        t->nodes[gone].flags |= NODE_GONE;
    return 0;
}

static const char *path_reason(int code)
{
    switch (code) {
    case -ENOTDIR:
        return "path through something that is not a directory";
    case -ENAMETOOLONG:
        return "name above 255 bytes";
    case -EINVAL:
        return "whiteout of nothing, '.' or '..'";
    case -ESTALE:
        return "replaces a hard link whose first directory was replaced: mkfs.erofs uses freed "
               "memory";
    case -E2BIG:
        return "too many entries";
    case -EFBIG:
        return "too much metadata";
    default:
        return "out of memory";
    }
}

static uint8_t type_of(uint16_t mode)
{
    static const uint8_t types[16] = {
        [1] = EROFS_FIFO, [2] = EROFS_CHR, [4] = EROFS_DIR,
        [6] = EROFS_BLK,  [8] = EROFS_REG, [10] = EROFS_LNK,
    };

    return types[mode >> 12];
}

static int hard_link(struct erofs_tree *t, uint32_t name, const struct tar_entry *e,
                     const char **reason)
{
    const bool late = t->traits & MKFS_LATE_UNLINK;
    const uint32_t old = t->names[name].node;
    struct erofs_path target;

    int ret = 0;

    if (old && !late) {
        ret = unlink_node(t, old);
        t->names[name].node = 0;
    }
    if (!ret)
        ret = erofs_tree_resolve(t, e->link, e->link_len, &t->link, &target);
    if (ret) {
        *reason = path_reason(ret);
        return ret;
    }
    if (late && old && target.name == name)
        return 0;
    const uint32_t node = t->names[target.name].node;

    if (!target.name || !node) {
        *reason = "hard link to a file that is not in this layer, or only later";
        return -ENOENT;
    }
    if ((t->nodes[node].mode & TAR_FORMAT) == TAR_DIR) {
        *reason = "hard link to a directory";
        return -EISDIR;
    }
    t->nodes[node].nlink++;
    if (old && late)
        ret = unlink_node(t, old);
    *reason = path_reason(ret);
    t->names[name].node = node;
    t->names[name].type = t->names[target.name].type;
    return ret;
}

static int set_xattrs(struct erofs_tree *t, uint32_t node, const struct tar_xattr *xattrs,
                      uint32_t count, const char **reason)
{
    uint64_t size = EROFS_XATTR_HEADER;

    for (uint32_t i = 0; i < count; i++) {
        const struct tar_xattr *x = &xattrs[i];

        size += erofs_xattr_entry_size(x->name, x->name_len, x->value_len);
        if (size > EROFS_XATTRS_MAX) { /* early: each entry may repeat those of a global header */
            *reason = "extended attributes too large for EROFS";
            return -ERANGE;
        }
        const int ret = erofs_xattr_add(t, node, x->name, x->name_len, x->value, x->value_len);

        if (ret == -ENODATA && t->lossy)
            continue;
        if (ret == -ENODATA)
            *reason = "extended attribute of a namespace that mkfs.erofs of this version drops";
        if (ret == -ERANGE)
            *reason = "extended attribute too large for EROFS";
        if (ret == -E2BIG)
            *reason = "too many extended attributes";
        if (ret == -EFBIG)
            *reason = "too much metadata";
        if (ret)
            return ret;
    }
    return 0;
}

/* The inode an entry describes: that of a repeated directory, or a new one. */
static int entry_node(struct erofs_tree *t, uint32_t name, const struct tar_entry *e, bool whiteout,
                      uint32_t *node)
{
    const bool dir = (e->mode & TAR_FORMAT) == TAR_DIR;
    const uint32_t old = t->names[name].node;

    if (old && t->names[name].type == EROFS_DIR && dir) {
        *node = old;
        return 0;
    }
    int ret = old ? unlink_node(t, old) : 0;
    /* the parent of a replaced hard link is that of its first name: tarerofs_parse_tar */
    const uint32_t parent = old ? t->nodes[old].parent : t->names[name].dir;

    if (!ret && t->nodes[parent].flags & NODE_GONE &&
        (whiteout || (dir && !(t->traits & MKFS_DOTS_LATE))))
        ret = -ESTALE;
    if (!ret)
        ret = erofs_tree_node(t, parent, node);
    if (ret)
        return ret;
    t->names[name].node = *node;
    t->names[name].type = type_of(e->mode);
    return 0;
}

/* mkfs.erofs reads data by an entry's form after whiteouts are made, or leaves it unread and loses
 * its place. */
static int refuse_stray_data(const struct erofs_tree *t, const struct erofs_path *f,
                             const struct tar_entry *e, const char **reason)
{
    const uint8_t type = type_of(e->mode);

    if (!e->size || (type == EROFS_REG && !e->hard_link && !f->whiteout && !f->opaque))
        return 0;
    *reason = "data on a device";
    if (!f->whiteout && (type == EROFS_CHR || type == EROFS_BLK))
        return -EINVAL;
    *reason = "data on an entry that is not a regular file: mkfs.erofs misplaces it";
    return t->lossy ? 0 : -EINVAL;
}

int erofs_tree_add(struct erofs_tree *t, const struct tar_entry *e, uint32_t *node,
                   const char **reason)
{
    static const struct tar_xattr opaque = {(const uint8_t *)"trusted.overlay.opaque",
                                            (const uint8_t *)"y", 22, 1};
    struct erofs_path f;
    uint32_t id = NODE_ROOT;
    int ret = erofs_tree_resolve(t, e->path, e->path_len, &t->path, &f);

    *node = 0;
    *reason = path_reason(ret);
    if (!ret)
        ret = refuse_stray_data(t, &f, e, reason);
    if (ret)
        return ret;
    if (!f.name && (e->mode & TAR_FORMAT) != TAR_DIR) {
        *reason = f.opaque ? "opaque mark on the root directory: mkfs.erofs fails"
                           : "not a directory at the root";
        return -ENOTDIR;
    }
    if (f.name && f.opaque)
        return set_xattrs(t, t->names[f.name].node, &opaque, 1, reason);
    if (f.name && e->hard_link)
        return hard_link(t, f.name, e, reason);
    if (f.name)
        ret = entry_node(t, f.name, e, f.whiteout, &id);
    if (ret) {
        *reason = path_reason(ret);
        return ret;
    }
    struct erofs_node *n = &t->nodes[id];
    const bool again = n->mode;

    if (f.whiteout) {
        if (again) /* a directory that mkfs.erofs does not unlink */
            t->path.len = t->link.len = 0;
        n->mode = TAR_CHR |
                  (n->mode & (uint16_t)~TAR_FORMAT); /* none, or those of the directory it was */
        n->start = 0;
        t->names[f.name].type = EROFS_CHR;
        t->nodes[n->parent].flags |= NODE_WHITEOUTS;
    } else {
        n->mode = e->mode;
        if (type_of(e->mode) == EROFS_CHR || type_of(e->mode) == EROFS_BLK)
            n->start = e->rdev;
    }
    n->uid = e->uid;
    n->gid = e->gid;
    n->mtime = e->mtime;
    n->nsec = e->nsec;
    n->size = e->size;
    if ((n->mode & TAR_FORMAT) == TAR_DIR) {
        /* directories that replaced entries took away are still counted: twice such, and it looks
         * new */
        if (!n->nlink && again && !(t->traits & MKFS_LATE_UNLINK)) {
            *reason = "repeated directory: mkfs.erofs of this version gives it two '.'";
            return -EINVAL;
        }
        if (!n->nlink)
            n->nlink = 2;
    } else {
        n->nlink++;
        if ((n->mode & TAR_FORMAT) == TAR_LNK) {
            n->size = e->link_len;
            ret = erofs_text_add(t, e->link, e->link_len, &n->child);
            if (ret) {
                *reason = path_reason(ret);
                return ret;
            }
        } else if (n->size) {
            *node = id;
        }
    }
    *reason = "out of memory";
    return set_xattrs(t, id, e->xattrs, e->xattr_count, reason);
}
