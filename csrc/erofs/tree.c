/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and inodes, and the paths that lead to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../tar/grow.h"
#include "writer.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

int erofs_tree_init(struct erofs_tree *t, uint32_t traits, bool lossy, uint32_t max_entries,
                    uint32_t max_text, uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    t->traits = traits;
    t->lossy = lossy;
    t->max_entries = max_entries;
    t->max_text = max_text;
    t->seed = seed;
    t->bucket_mask = 255;
    t->xattr_mask = 255;
    t->buckets = calloc(t->bucket_mask + 1, sizeof(*t->buckets));
    t->xattr_buckets = calloc(t->xattr_mask + 1, sizeof(*t->xattr_buckets));
    if (!t->buckets || !t->xattr_buckets || grow(&t->nodes, &t->node_cap, 2, sizeof(*t->nodes)) ||
        grow(&t->names, &t->name_cap, 1, sizeof(*t->names)) || grow(&t->text, &t->text_cap, 1, 1) ||
        grow(&t->xattrs, &t->xattr_cap, 1, sizeof(*t->xattrs)) ||
        grow(&t->uses, &t->use_cap, 1, sizeof(*t->uses))) {
        erofs_tree_free(t);
        return -ENOMEM;
    }
    memset(t->nodes, 0, 2 * sizeof(*t->nodes));
    memset(t->names, 0, sizeof(*t->names));
    t->node_count = 2;
    t->name_count = t->xattr_count = t->use_count = 1;
    t->nodes[NODE_ROOT].mode = TAR_DIR | 0777;
    t->nodes[NODE_ROOT].nlink = 2;
    t->nodes[NODE_ROOT].parent = NODE_ROOT;
    return 0;
}

void erofs_tree_free(struct erofs_tree *t)
{
    free(t->nodes);
    free(t->names);
    free(t->text);
    free(t->path.bytes);
    free(t->link.bytes);
    free(t->xattrs);
    free(t->uses);
    free(t->buckets);
    free(t->xattr_buckets);
    memset(t, 0, sizeof(*t));
}

int erofs_text_add(struct erofs_tree *t, const void *bytes, size_t len, uint32_t *at)
{
    if (len > t->max_text - t->text_len)
        return -EFBIG;
    const int ret = grow(&t->text, &t->text_cap, (uint64_t)t->text_len + len, 1);

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
    /* small seeds too must give a factor with bits everywhere: 1 or -1 would mix nothing */
    const uint64_t factor = (seed ^ UINT64_C(0xe7037ed1a0b428db)) | 1;
    uint64_t h = seed ^ len * UINT64_C(0x9e3779b97f4a7c15), word;

    for (; len; p += len < 8 ? len : 8, len -= len < 8 ? len : 8) {
        word = 0;
        memcpy(&word, p, len < 8 ? len : 8);
        const unsigned __int128 m = (unsigned __int128)(h ^ word) * factor;

        h = (uint64_t)m ^ (uint64_t)(m >> 64) ^ UINT64_C(0xa0761d6478bd642f);
    }
    return h ^ h >> 32;
}

int erofs_tree_node(struct erofs_tree *t, uint32_t parent, uint32_t *node)
{
    if (t->node_count > t->max_entries)
        return -E2BIG;
    const int ret = grow(&t->nodes, &t->node_cap, (uint64_t)t->node_count + 1, sizeof(*t->nodes));

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
    if (t->name_count > t->max_entries)
        return -E2BIG;
    ret = grow(&t->names, &t->name_cap, (uint64_t)t->name_count + 1, sizeof(*t->names));
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
    int ret = erofs_tree_node(t, dir, &node);

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

static bool is_dots(const char *s, size_t len)
{
    return len == 2 && s[0] == '.' && s[1] == '.';
}

/* Goes through the directories that `len` bytes of a path name, each with its slash, and remembers
 * them. */
static int enter(struct erofs_tree *t, const char *path, size_t len, struct erofs_walk *walk,
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
            *dir = t->nodes[*dir].parent;
            if (t->nodes[*dir].flags & NODE_GONE)
                return -ESTALE;
            continue;
        }
        *name = look_up(t, *dir, s, n);
        if (*name && t->names[*name].type != EROFS_DIR)
            return -ENOTDIR;
        if (!*name) {
            ret = make_parent(t, *dir, s, n, name);
            if (ret)
                return ret;
        }
        *dir = t->names[*name].node;
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

/* Whether the directories are those of the walk before, and still lead where they did: whoever
 * replaces one marks all below it as gone. */
static bool same_walk(const struct erofs_tree *t, const struct erofs_walk *walk, const char *path,
                      size_t len)
{
    const struct erofs_name *n = &t->names[walk->name];

    return len && walk->len == len && !memcmp(walk->bytes, path, len) && n->node &&
           n->type == EROFS_DIR && !(t->nodes[n->node].flags & NODE_GONE);
}

int erofs_tree_resolve(struct erofs_tree *t, const char *path, size_t len, struct erofs_walk *walk,
                       struct erofs_path *f)
{
    uint32_t dir = NODE_ROOT;
    size_t start = len;
    int ret = 0;

    *f = (struct erofs_path){0};
    while (start && path[start - 1] != '/')
        start--;
    if (same_walk(t, walk, path, start)) {
        f->name = walk->name;
        dir = t->names[f->name].node;
    } else {
        ret = enter(t, path, start, walk, &dir, &f->name);
    }
    path += start;
    len -= start;
    if (ret || !len || (len == 1 && *path == '.'))
        return ret;
    if (is_dots(path, len))
        return t->nodes[t->nodes[dir].parent].flags & NODE_GONE ? -ESTALE : 0;
    f->opaque = len == sizeof(OPAQUE) - 1 && !memcmp(path, OPAQUE, len);
    if (f->opaque)
        return 0;
    f->whiteout = len >= sizeof(WHITEOUT) - 1 && !memcmp(path, WHITEOUT, sizeof(WHITEOUT) - 1);
    if (f->whiteout) {
        path += sizeof(WHITEOUT) - 1;
        len -= sizeof(WHITEOUT) - 1;
        if (len <= 2 && !memcmp(path, "..", len) && (len || !t->lossy))
            return -EINVAL;
    }
    f->name = look_up(t, dir, path, len);
    return f->name ? 0 : new_name(t, dir, path, len, &f->name);
}
