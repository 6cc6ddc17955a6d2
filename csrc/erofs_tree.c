/* SPDX-License-Identifier: Apache-2.0
 *
 * Names to inodes, with every turn that tar.c and rebuild.c of erofs-utils take. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "erofs.h"
#include "mkfs_group.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

int erofs_grow(void *array, uint32_t *cap, uint64_t need, size_t size)
{
    void **p = array;

    if (need <= *cap)
        return 0;
    if (need > UINT32_MAX - 1)
        return -E2BIG;
    uint64_t to = (uint64_t)*cap + *cap / 2 + 64;

    if (to < need)
        to = need;
    if (to > UINT32_MAX - 1)
        to = UINT32_MAX - 1;
    void *grown = realloc(*p, to * size);

    if (!grown)
        return -ENOMEM;
    *p = grown;
    *cap = (uint32_t)to;
    return 0;
}

int erofs_text_add(struct erofs_tree *t, const void *bytes, size_t len, uint32_t *at)
{
    const int ret = erofs_grow(&t->text, &t->text_cap, (uint64_t)t->text_len + len, 1);

    if (ret)
        return ret;
    if (len)
        memcpy(t->text + t->text_len, bytes, len);
    *at = t->text_len;
    t->text_len += (uint32_t)len;
    return 0;
}

uint64_t erofs_hash(uint64_t seed, const void *bytes, size_t len)
{
    const uint8_t *p = bytes;
    uint64_t h = seed ^ len * UINT64_C(0x9e3779b97f4a7c15), word;

    for (; len; p += len < 8 ? len : 8, len -= len < 8 ? len : 8) {
        word = 0;
        memcpy(&word, p, len < 8 ? len : 8);
        const unsigned __int128 m = (unsigned __int128)(h ^ word) * (seed | 1);

        h = (uint64_t)m ^ (uint64_t)(m >> 64) ^ UINT64_C(0xa0761d6478bd642f);
    }
    return h ^ h >> 32;
}

static int new_node(struct erofs_tree *t, uint32_t parent, uint32_t *node)
{
    if (t->node_count >= t->max_nodes)
        return -E2BIG;
    const int ret =
        erofs_grow(&t->nodes, &t->node_cap, (uint64_t)t->node_count + 1, sizeof(*t->nodes));

    if (ret)
        return ret;
    *node = t->node_count++;
    memset(&t->nodes[*node], 0, sizeof(*t->nodes));
    t->nodes[*node].parent = parent;
    return 0;
}

/* ---- names ---- */

static uint32_t *bucket_of(const struct erofs_tree *t, uint32_t dir, const char *name, size_t len)
{
    return &t->buckets[erofs_hash(t->seed ^ (uint64_t)dir << 17, name, len) & t->bucket_mask];
}

static int rehash(struct erofs_tree *t)
{
    const uint32_t count = (t->bucket_mask + 1) * 2;
    uint32_t *grown = calloc(count, sizeof(*grown));

    if (!grown)
        return -ENOMEM;
    free(t->buckets);
    t->buckets = grown;
    t->bucket_mask = count - 1;
    for (uint32_t i = 1; i < t->name_count; i++) {
        struct erofs_name *n = &t->names[i];
        uint32_t *head = bucket_of(t, n->dir, (const char *)t->text + n->text, n->len);

        n->chain = *head;
        *head = i;
    }
    return 0;
}

static uint32_t look_up(const struct erofs_tree *t, uint32_t dir, const char *name, size_t len)
{
    uint32_t i = *bucket_of(t, dir, name, len);

    for (; i; i = t->names[i].chain) {
        const struct erofs_name *n = &t->names[i];

        if (n->dir == dir && n->len == len && !memcmp(t->text + n->text, name, len))
            break;
    }
    return i;
}

static int new_name(struct erofs_tree *t, uint32_t dir, const char *name, size_t len,
                    uint32_t *made)
{
    uint32_t text;
    int ret;

    if (len > EROFS_NAME_MAX)
        return -ENAMETOOLONG;
    ret = erofs_grow(&t->names, &t->name_cap, (uint64_t)t->name_count + 1, sizeof(*t->names));
    if (!ret && t->name_count > t->bucket_mask && t->bucket_mask < UINT32_MAX / 4)
        ret = rehash(t);
    if (!ret)
        ret = erofs_text_add(t, name, len, &text);
    if (ret)
        return ret;
    uint32_t *head = bucket_of(t, dir, name, len);

    *made = t->name_count++;
    t->names[*made] = (struct erofs_name){
        .dir = dir,
        .sibling = t->nodes[dir].child,
        .chain = *head,
        .text = text,
        .len = (uint8_t)len,
    };
    *head = *made;
    t->nodes[dir].child = *made;
    return 0;
}

/* A directory nobody has described yet: erofs_rebuild_mkdir. */
static int make_parent(struct erofs_tree *t, uint32_t dir, const char *name, size_t len,
                       uint32_t *made)
{
    uint32_t node;
    int ret = new_node(t, dir, &node);

    if (!ret)
        ret = new_name(t, dir, name, len, made);
    if (ret)
        return ret;
    const struct erofs_node *d = &t->nodes[dir];
    struct erofs_node *n = &t->nodes[node];

    n->mode = TAR_DIR | 0755 | (d->mode & 0022);
    n->uid = d->uid;
    n->gid = d->gid;
    n->mtime = d->mtime;
    n->nsec = d->nsec;
    n->nlink = 2;
    t->names[*made].node = node;
    t->names[*made].type = EROFS_DIR;
    return 0;
}

struct found {
    uint32_t name; /* 0: the root, or nothing named */
    bool whiteout, opaque;
};

/* Walks a path, makes what is missing: erofs_rebuild_get_dentry, whose `d` is the name seen last.
 */
static int resolve(struct erofs_tree *t, const char *path, size_t path_len, struct found *f)
{
    const char *s = path, *const end = path + path_len;
    uint32_t dir = NODE_ROOT;
    int ret = 0;

    *f = (struct found){0};
    while (s < end) {
        const char *slash = memchr(s, '/', (size_t)(end - s));
        size_t len = (size_t)((slash ? slash : end) - s);

        if (!len) {
            s++;
            continue;
        }
        if (len == 2 && s[0] == '.' && s[1] == '.') {
            dir = t->nodes[dir].parent;
            if (t->nodes[dir].flags & NODE_GONE)
                return -ESTALE;
        } else if (len != 1 || s[0] != '.') {
            if (!slash && len == sizeof(OPAQUE) - 1 && !memcmp(s, OPAQUE, len)) {
                f->opaque = true;
                return 0;
            }
            if (!slash && len >= sizeof(WHITEOUT) - 1 &&
                !memcmp(s, WHITEOUT, sizeof(WHITEOUT) - 1)) {
                s += sizeof(WHITEOUT) - 1;
                len -= sizeof(WHITEOUT) - 1;
                f->whiteout = true;
                if (len <= 2 && !memcmp(s, "..", len) && (len || !t->lossy))
                    return -EINVAL;
            }
            f->name = look_up(t, dir, s, len);
            if (f->name) {
                if (slash && t->names[f->name].type != EROFS_DIR)
                    return -ENOTDIR;
            } else {
                ret = slash ? make_parent(t, dir, s, len, &f->name)
                            : new_name(t, dir, s, len, &f->name);
            }
            dir = t->names[f->name].node;
            if (ret || !dir) /* a new name, or one being replaced: the last component in any case */
                return ret ? ret : slash ? -ENOENT : 0;
        }
        if (!slash)
            break;
        s = slash + 1;
    }
    return 0;
}

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

/* ---- entries ---- */

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
    struct found target;

    int ret = 0;

    if (old && !late) {
        ret = unlink_node(t, old);
        t->names[name].node = 0;
    }
    if (!ret)
        ret = resolve(t, e->link, e->link_len, &target);
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

static int set_xattrs(struct erofs_tree *t, uint32_t node, const struct tar_entry *e,
                      const char **reason)
{
    for (uint32_t i = 0; i < e->xattr_count; i++) {
        const struct tar_xattr *x = &e->xattrs[i];
        const int ret = erofs_xattr_add(t, node, x->name, x->name_len, x->value, x->value_len);

        if (ret == -ENODATA && t->lossy)
            continue;
        if (ret == -ENODATA)
            *reason = "extended attribute of a namespace that mkfs.erofs of this version drops";
        if (ret == -ERANGE)
            *reason = "extended attribute too large for EROFS";
        if (ret == -E2BIG)
            *reason = "too many extended attributes";
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
        ret = new_node(t, parent, node);
    if (ret)
        return ret;
    t->names[name].node = *node;
    t->names[name].type = type_of(e->mode);
    return 0;
}

/* mkfs.erofs reads data by an entry's form after whiteouts are made, or leaves it unread and loses
 * its place. */
static int refuse_stray_data(const struct erofs_tree *t, const struct found *f,
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
    struct found f;
    uint32_t id = NODE_ROOT;
    int ret = resolve(t, e->path, e->path_len, &f);

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
        return erofs_xattr_add(t, t->names[f.name].node, "trusted.overlay.opaque", 22, "y", 1);
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
        } else if (n->size) {
            *node = id;
        }
    }
    *reason = "out of memory";
    return ret ? ret : set_xattrs(t, id, e, reason);
}
