/* SPDX-License-Identifier: Apache-2.0
 *
 * What an entry does to the tree, with every turn that tar.c and rebuild.c of erofs-utils take. */
#include <errno.h>

#include "../tar/mkfs_group.h"
#include "writer.h"

/* Takes an inode, and all below it, off a name: tarerofs_remove_inode. Only link counts matter
 * afterwards. -ESTALE where mkfs.erofs would count in memory it has freed. */
static int unlink_node(struct erofs_tree *tree, uint32_t node)
{
    uint32_t work = node, gone = 0;

    tree->nodes[node].next = 0;
    while (work) {
        const uint32_t id = work;
        struct erofs_node *inode = &tree->nodes[id];

        work = inode->next;
        inode->nlink--;
        if ((inode->mode & TAR_FORMAT) != TAR_DIR)
            continue;
        for (uint32_t i = inode->child; i; i = tree->names[i].sibling) {
            struct erofs_node *child = &tree->nodes[tree->names[i].node];

            if ((child->mode & TAR_FORMAT) == TAR_DIR) {
                child->next = work;
                work = tree->names[i].node;
            } else {
                child->nlink--;
            }
        }
        if (tree->nodes[inode->parent].flags & NODE_GONE)
            return -ESTALE;
        tree->nodes[inode->parent].nlink--;
        inode->next = gone;
        gone = id;
    }
    for (; gone; gone = tree->nodes[gone].next)
        tree->nodes[gone].flags |= NODE_GONE;
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

static int hard_link(struct erofs_tree *tree, uint32_t name, const struct tar_entry *entry,
                     const char **reason)
{
    const bool late = tree->traits & MKFS_LATE_UNLINK;
    const uint32_t old = tree->names[name].node;
    struct erofs_path target;

    int ret = 0;

    if (old && !late) {
        ret = unlink_node(tree, old);
        tree->names[name].node = 0;
    }
    if (!ret)
        ret = erofs_tree_resolve(tree, entry->link, entry->link_len, &tree->link, &target);
    if (ret) {
        *reason = path_reason(ret);
        return ret;
    }
    if (late && old && target.name == name)
        return 0;
    const uint32_t node = tree->names[target.name].node;

    if (!target.name || !node) {
        *reason = "hard link to a file that is not in this layer, or only later";
        return -ENOENT;
    }
    if ((tree->nodes[node].mode & TAR_FORMAT) == TAR_DIR) {
        *reason = "hard link to a directory";
        return -EISDIR;
    }
    tree->nodes[node].nlink++;
    if (old && late)
        ret = unlink_node(tree, old);
    *reason = path_reason(ret);
    tree->names[name].node = node;
    tree->names[name].type = tree->names[target.name].type;
    return ret;
}

static int set_xattrs(struct erofs_tree *tree, uint32_t node, const struct tar_xattr *xattrs,
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
        const int ret = erofs_xattr_add(tree, node, x->name, x->name_len, x->value, x->value_len);

        if (ret == -ENODATA && tree->lossy)
            continue;
        if (ret == -ENODATA)
            *reason = "extended attribute of a namespace that mkfs.erofs of this version drops";
        if (ret == -ENODATA && !x->name_len)
            *reason = "extended attribute without a name: mkfs.erofs drops it";
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

/* The inode an entry describes: a repeated directory keeps its inode, all else gets a new inode. */
static int entry_node(struct erofs_tree *tree, uint32_t name, const struct tar_entry *entry,
                      bool whiteout, uint32_t *node)
{
    const bool dir = (entry->mode & TAR_FORMAT) == TAR_DIR;
    const uint32_t old = tree->names[name].node;

    if (old && tree->names[name].type == EROFS_DIR && dir) {
        *node = old;
        return 0;
    }
    int ret = old ? unlink_node(tree, old) : 0;
    /* the parent of a replaced hard link is that of its first name: tarerofs_parse_tar */
    const uint32_t parent = old ? tree->nodes[old].parent : tree->names[name].dir;

    if (!ret && tree->nodes[parent].flags & NODE_GONE &&
        (whiteout || (dir && !(tree->traits & MKFS_DOTS_LATE))))
        ret = -ESTALE;
    if (!ret)
        ret = erofs_tree_node(tree, parent, node);
    if (ret)
        return ret;
    tree->names[name].node = *node;
    tree->names[name].type = type_of(entry->mode);
    return 0;
}

/* mkfs.erofs reads data by an entry's form after whiteouts are made, or leaves it unread and loses
 * its place. */
static int refuse_stray_data(const struct erofs_tree *tree, const struct erofs_path *found,
                             const struct tar_entry *entry, const char **reason)
{
    const uint8_t type = type_of(entry->mode);

    if (!entry->size ||
        (type == EROFS_REG && !entry->hard_link && !found->whiteout && !found->opaque))
        return 0;
    *reason = "data on a device";
    if (!found->whiteout && (type == EROFS_CHR || type == EROFS_BLK))
        return -EINVAL;
    *reason = "data on an entry that is not a regular file: mkfs.erofs misplaces it";
    return tree->lossy ? 0 : -EINVAL;
}

int erofs_tree_add(struct erofs_tree *tree, const struct tar_entry *entry, uint32_t *node,
                   const char **reason)
{
    static const struct tar_xattr opaque = {(const uint8_t *)"trusted.overlay.opaque",
                                            (const uint8_t *)"y", 22, 1};
    struct erofs_path found;
    uint32_t id = NODE_ROOT;
    int ret = erofs_tree_resolve(tree, entry->path, entry->path_len, &tree->path, &found);

    *node = 0;
    *reason = path_reason(ret);
    if (!ret)
        ret = refuse_stray_data(tree, &found, entry, reason);
    if (ret)
        return ret;
    if (!found.name && (entry->mode & TAR_FORMAT) != TAR_DIR) {
        *reason = found.opaque ? "opaque mark on the root directory: mkfs.erofs fails"
                               : "not a directory at the root";
        return -ENOTDIR;
    }
    if (found.name && found.opaque)
        return set_xattrs(tree, tree->names[found.name].node, &opaque, 1, reason);
    if (found.name && entry->hard_link)
        return hard_link(tree, found.name, entry, reason);
    if (found.name)
        ret = entry_node(tree, found.name, entry, found.whiteout, &id);
    if (ret) {
        *reason = path_reason(ret);
        return ret;
    }
    struct erofs_node *inode = &tree->nodes[id];
    const bool again = inode->mode;

    if (found.whiteout) {
        if (again) /* a directory that mkfs.erofs does not unlink */
            tree->path.len = tree->link.len = 0;
        inode->mode =
            TAR_CHR |
            (inode->mode & (uint16_t)~TAR_FORMAT); /* none, or those of the directory it was */
        inode->start = 0;
        tree->names[found.name].type = EROFS_CHR;
        tree->nodes[inode->parent].flags |= NODE_WHITEOUTS;
    } else {
        inode->mode = entry->mode;
        if (type_of(entry->mode) == EROFS_CHR || type_of(entry->mode) == EROFS_BLK)
            inode->start = entry->rdev;
    }
    inode->uid = entry->uid;
    inode->gid = entry->gid;
    inode->mtime = entry->mtime;
    inode->nsec = entry->nsec;
    inode->size = entry->size;
    if ((inode->mode & TAR_FORMAT) == TAR_DIR) {
        /* directories that replaced entries took away are still counted: twice such, and it looks
         * new */
        if (!inode->nlink && again && !(tree->traits & MKFS_LATE_UNLINK)) {
            *reason = "repeated directory: mkfs.erofs of this version gives it two '.'";
            return -EINVAL;
        }
        if (!inode->nlink)
            inode->nlink = 2;
    } else {
        inode->nlink++;
        if ((inode->mode & TAR_FORMAT) == TAR_LNK) {
            inode->size = entry->link_len;
            ret = erofs_text_add(tree, entry->link, entry->link_len, &inode->child);
            if (ret) {
                *reason = path_reason(ret);
                return ret;
            }
        } else if (inode->size) {
            *node = id;
        }
    }
    *reason = "out of memory";
    return set_xattrs(tree, id, entry->xattrs, entry->xattr_count, reason);
}
