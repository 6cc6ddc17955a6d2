/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and inodes, and the paths that lead to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../tar/grow.h"
#include "../tar/hash.h"
#include "writer.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

int erofs_tree_init(struct erofs_tree *tree, uint32_t traits, bool lossy, uint32_t max_entries,
                    uint32_t max_text, uint64_t seed)
{
    memset(tree, 0, sizeof(*tree));
    tree->traits = traits;
    tree->lossy = lossy;
    tree->max_entries = max_entries;
    tree->max_text = max_text;
    tree->seed = seed;
    tree->bucket_mask = 255;
    tree->xattr_mask = 255;
    tree->buckets = calloc(tree->bucket_mask + 1, sizeof(*tree->buckets));
    tree->xattr_buckets = calloc(tree->xattr_mask + 1, sizeof(*tree->xattr_buckets));
    if (!tree->buckets || !tree->xattr_buckets ||
        grow(&tree->nodes, &tree->node_cap, 2, sizeof(*tree->nodes)) ||
        grow(&tree->names, &tree->name_cap, 1, sizeof(*tree->names)) ||
        grow(&tree->text, &tree->text_cap, 1, 1) ||
        grow(&tree->xattrs, &tree->xattr_cap, 1, sizeof(*tree->xattrs)) ||
        grow(&tree->uses, &tree->use_cap, 1, sizeof(*tree->uses))) {
        erofs_tree_free(tree);
        return -ENOMEM;
    }
    memset(tree->nodes, 0, 2 * sizeof(*tree->nodes));
    memset(tree->names, 0, sizeof(*tree->names));
    tree->node_count = 2;
    tree->name_count = tree->xattr_count = tree->use_count = 1;
    tree->nodes[NODE_ROOT].mode = TAR_DIR | 0777;
    tree->nodes[NODE_ROOT].nlink = 2;
    tree->nodes[NODE_ROOT].parent = NODE_ROOT;
    return 0;
}

void erofs_tree_free(struct erofs_tree *tree)
{
    free(tree->nodes);
    free(tree->names);
    free(tree->text);
    free(tree->path.bytes);
    free(tree->link.bytes);
    free(tree->xattrs);
    free(tree->uses);
    free(tree->buckets);
    free(tree->xattr_buckets);
    memset(tree, 0, sizeof(*tree));
}

int erofs_text_add(struct erofs_tree *tree, const void *bytes, size_t len, uint32_t *at)
{
    if (len > tree->max_text - tree->text_len)
        return -EFBIG;
    const int ret = grow(&tree->text, &tree->text_cap, (uint64_t)tree->text_len + len, 1);

    if (ret)
        return ret;
    if (len)
        memcpy(tree->text + tree->text_len, bytes, len);
    *at = tree->text_len;
    tree->text_len += (uint32_t)len;
    return 0;
}

int erofs_tree_node(struct erofs_tree *tree, uint32_t parent, uint32_t *node)
{
    if (tree->node_count > tree->max_entries)
        return -E2BIG;
    const int ret =
        grow(&tree->nodes, &tree->node_cap, (uint64_t)tree->node_count + 1, sizeof(*tree->nodes));

    if (ret)
        return ret;
    *node = tree->node_count++;
    memset(&tree->nodes[*node], 0, sizeof(*tree->nodes));
    tree->nodes[*node].parent = parent;
    return 0;
}

/* ---- names ---- */

static uint32_t *bucket_of(const struct erofs_tree *tree, uint32_t dir, const char *name,
                           size_t len)
{
    return &tree->buckets[seeded_hash(tree->seed ^ (uint64_t)dir << 17, name, len) &
                          tree->bucket_mask];
}

static int rehash(struct erofs_tree *tree)
{
    const uint32_t count = (tree->bucket_mask + 1) * 2;
    uint32_t *grown = calloc(count, sizeof(*grown));

    if (!grown)
        return -ENOMEM;
    free(tree->buckets);
    tree->buckets = grown;
    tree->bucket_mask = count - 1;
    for (uint32_t i = 1; i < tree->name_count; i++) {
        struct erofs_name *n = &tree->names[i];
        uint32_t *head = bucket_of(tree, n->dir, (const char *)tree->text + n->text, n->len);

        n->chain = *head;
        *head = i;
    }
    return 0;
}

static uint32_t look_up(const struct erofs_tree *tree, uint32_t dir, const char *name, size_t len)
{
    uint32_t i = *bucket_of(tree, dir, name, len);

    for (; i; i = tree->names[i].chain) {
        const struct erofs_name *n = &tree->names[i];

        if (n->dir == dir && n->len == len && !memcmp(tree->text + n->text, name, len))
            break;
    }
    return i;
}

static int new_name(struct erofs_tree *tree, uint32_t dir, const char *name, size_t len,
                    uint32_t *made)
{
    uint32_t text;
    int ret;

    if (len > EROFS_NAME_MAX)
        return -ENAMETOOLONG;
    if (tree->name_count > tree->max_entries)
        return -E2BIG;
    ret = grow(&tree->names, &tree->name_cap, (uint64_t)tree->name_count + 1, sizeof(*tree->names));
    if (!ret && tree->name_count > tree->bucket_mask && tree->bucket_mask < UINT32_MAX / 4)
        ret = rehash(tree);
    if (!ret)
        ret = erofs_text_add(tree, name, len, &text);
    if (ret)
        return ret;
    uint32_t *head = bucket_of(tree, dir, name, len);

    *made = tree->name_count++;
    tree->names[*made] = (struct erofs_name){
        .dir = dir,
        .sibling = tree->nodes[dir].child,
        .chain = *head,
        .text = text,
        .len = (uint8_t)len,
    };
    *head = *made;
    tree->nodes[dir].child = *made;
    return 0;
}

/* A directory nobody has described yet: erofs_rebuild_mkdir. */
static int make_parent(struct erofs_tree *tree, uint32_t dir, const char *name, size_t len,
                       uint32_t *made)
{
    uint32_t node;
    int ret = erofs_tree_node(tree, dir, &node);

    if (!ret)
        ret = new_name(tree, dir, name, len, made);
    if (ret)
        return ret;
    const struct erofs_node *d = &tree->nodes[dir];
    struct erofs_node *n = &tree->nodes[node];

    n->mode = TAR_DIR | 0755 | (d->mode & 0022);
    n->uid = d->uid;
    n->gid = d->gid;
    n->mtime = d->mtime;
    n->nsec = d->nsec;
    n->nlink = 2;
    tree->names[*made].node = node;
    tree->names[*made].type = EROFS_DIR;
    return 0;
}

static bool is_dots(const char *s, size_t len)
{
    return len == 2 && s[0] == '.' && s[1] == '.';
}

/* Goes through the directories that `len` bytes of a path name, each with its slash, and remembers
 * them. */
static int enter(struct erofs_tree *tree, const char *path, size_t len, struct erofs_walk *walk,
                 uint32_t *dir, uint32_t *name)
{
    const char *s = path, *const end = path + len;
    bool plain = true;
    int ret;

    walk->len = 0;
    for (const char *slash; s < end; s = slash + 1) {
        slash = memchr(s, '/', (size_t)(end - s));
        const size_t n = (size_t)(slash - s);

        if (!n || (n == 1 && *s == '.'))
            continue;
        if (is_dots(s, n)) {
            plain = false;
            *dir = tree->nodes[*dir].parent;
            if (tree->nodes[*dir].flags & NODE_GONE)
                return -ESTALE;
            continue;
        }
        *name = look_up(tree, *dir, s, n);
        if (*name && tree->names[*name].type != EROFS_DIR)
            return -ENOTDIR;
        if (!*name) {
            ret = make_parent(tree, *dir, s, n, name);
            if (ret)
                return ret;
        }
        *dir = tree->names[*name].node;
        if (!*dir) /* being replaced */
            return -ENOENT;
    }
    if (!plain || !*name)
        return 0;
    ret = grow(&walk->bytes, &walk->cap, len, 1);
    if (ret)
        return ret;
    memcpy(walk->bytes, path, len);
    walk->len = (uint32_t)len;
    walk->name = *name;
    return 0;
}

/* Whether the path begins with the directories of the last walk, and they still lead where they
 * did: whoever replaces a directory marks all below it as gone. */
static bool same_walk(const struct erofs_tree *tree, const struct erofs_walk *walk,
                      const char *path, size_t len)
{
    const struct erofs_name *n = &tree->names[walk->name];

    return len && walk->len == len && !memcmp(walk->bytes, path, len) && n->node &&
           n->type == EROFS_DIR && !(tree->nodes[n->node].flags & NODE_GONE);
}

int erofs_tree_resolve(struct erofs_tree *tree, const char *path, size_t len,
                       struct erofs_walk *walk, struct erofs_path *f)
{
    uint32_t dir = NODE_ROOT;
    size_t start = len;
    int ret = 0;

    *f = (struct erofs_path){0};
    while (start && path[start - 1] != '/')
        start--;
    if (same_walk(tree, walk, path, start)) {
        f->name = walk->name;
        dir = tree->names[f->name].node;
    } else {
        ret = enter(tree, path, start, walk, &dir, &f->name);
    }
    path += start;
    len -= start;
    if (ret || !len || (len == 1 && *path == '.'))
        return ret;
    if (is_dots(path, len))
        return tree->nodes[tree->nodes[dir].parent].flags & NODE_GONE ? -ESTALE : 0;
    f->opaque = len == sizeof(OPAQUE) - 1 && !memcmp(path, OPAQUE, len);
    if (f->opaque)
        return 0;
    f->whiteout = len >= sizeof(WHITEOUT) - 1 && !memcmp(path, WHITEOUT, sizeof(WHITEOUT) - 1);
    if (f->whiteout) {
        path += sizeof(WHITEOUT) - 1;
        len -= sizeof(WHITEOUT) - 1;
        if (len <= 2 && !memcmp(path, "..", len) && (len || !tree->lossy))
            return -EINVAL;
    }
    f->name = look_up(tree, dir, path, len);
    return f->name ? 0 : new_name(tree, dir, path, len, &f->name);
}
