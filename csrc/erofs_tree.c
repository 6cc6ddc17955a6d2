/* SPDX-License-Identifier: Apache-2.0
 *
 * Names and inodes, and the paths that lead to them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "erofs.h"
#include "grow.h"

#define WHITEOUT ".wh."
#define OPAQUE ".wh..wh..opq"

int erofs_tree_init(struct erofs_tree *t, uint32_t traits, bool lossy, uint32_t max_entries,
                    uint64_t seed)
{
    memset(t, 0, sizeof(*t));
    t->traits = traits;
    t->lossy = lossy;
    t->max_entries = max_entries;
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
    free(t->xattrs);
    free(t->uses);
    free(t->buckets);
    free(t->xattr_buckets);
    memset(t, 0, sizeof(*t));
}

int erofs_text_add(struct erofs_tree *t, const void *bytes, size_t len, uint32_t *at)
{
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
    uint64_t h = seed ^ len * UINT64_C(0x9e3779b97f4a7c15), word;

    for (; len; p += len < 8 ? len : 8, len -= len < 8 ? len : 8) {
        word = 0;
        memcpy(&word, p, len < 8 ? len : 8);
        const unsigned __int128 m = (unsigned __int128)(h ^ word) * (seed | 1);

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

int erofs_tree_resolve(struct erofs_tree *t, const char *path, size_t path_len,
                       struct erofs_path *f)
{
    const char *s = path, *const end = path + path_len;
    uint32_t dir = NODE_ROOT;
    int ret = 0;

    *f = (struct erofs_path){0};
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
