/* SPDX-License-Identifier: Apache-2.0
 *
 * Extended attributes: always inline, in tar modes mkfs.erofs never shares them. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../tar/grow.h"
#include "../tar/hash.h"
#include "../tar/mkfs_group.h"
#include "writer.h"

static const struct {
    const char *prefix;
    uint8_t len, index;
} namespaces[] = {
    {"user.", 5, 1},
    {"system.posix_acl_access", 23, 2},
    {"system.posix_acl_default", 24, 3},
    {"trusted.", 8, 4},
    {"security.", 9, 6},
    {"", 0, 0},
};

/* The row whose prefix the name has; the last one fits all: erofs_xattr_prefix_matches. */
static unsigned namespace_of(const void *name, size_t len)
{
    unsigned i = 0;

    while (len < namespaces[i].len || memcmp(name, namespaces[i].prefix, namespaces[i].len))
        i++;
    return i;
}

static uint32_t rotate(uint32_t v, unsigned bits)
{
    return v << bits | v >> (32 - bits);
}

static uint32_t load32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static uint32_t xxh32(const uint8_t *p, size_t len, uint32_t seed)
{
    static const uint32_t prime[] = {2654435761u, 2246822519u, 3266489917u, 668265263u, 374761393u};
    uint32_t lane[4] = {seed + prime[0] + prime[1], seed + prime[1], seed, seed - prime[0]}, h;
    size_t left = len;

    for (; left >= 16; left -= 16) {
        for (unsigned i = 0; i < 4; i++, p += 4)
            lane[i] = rotate(lane[i] + load32(p) * prime[1], 13) * prime[0];
    }
    h = len < 16
            ? seed + prime[4]
            : rotate(lane[0], 1) + rotate(lane[1], 7) + rotate(lane[2], 12) + rotate(lane[3], 18);
    h += (uint32_t)len;
    for (; left >= 4; left -= 4, p += 4)
        h = rotate(h + load32(p) * prime[2], 17) * prime[3];
    for (; left; left--, p++)
        h = rotate(h + *p * prime[4], 11) * prime[0];
    h = (h ^ h >> 15) * prime[1];
    h = (h ^ h >> 13) * prime[2];
    return h ^ h >> 16;
}

static uint32_t *bucket_of(const struct erofs_tree *tree, const uint8_t *kv, size_t len)
{
    return &tree->xattr_buckets[seeded_hash(~tree->seed, kv, len) & tree->xattr_mask];
}

static size_t kv_len(const struct erofs_xattr *x)
{
    return (size_t)x->name_len + 1 + x->value_len;
}

static int rehash(struct erofs_tree *tree)
{
    const uint32_t count = (tree->xattr_mask + 1) * 2;
    uint32_t *grown = calloc(count, sizeof(*grown));

    if (!grown)
        return -ENOMEM;
    free(tree->xattr_buckets);
    tree->xattr_buckets = grown;
    tree->xattr_mask = count - 1;
    for (uint32_t i = 1; i < tree->xattr_count; i++) {
        struct erofs_xattr *x = &tree->xattrs[i];
        uint32_t *head = bucket_of(tree, tree->text + x->kv, kv_len(x));

        x->chain = *head;
        *head = i;
    }
    return 0;
}

/* The xattr whose name, NUL and value end the text from `kv` on; the text is cut back if there is
 * one already. */
static int intern(struct erofs_tree *tree, uint32_t kv, uint32_t name_len, uint32_t value_len,
                  uint32_t *found)
{
    struct erofs_xattr made = {0, kv, name_len, value_len};
    int ret;

    for (*found = *bucket_of(tree, tree->text + kv, kv_len(&made)); *found;
         *found = tree->xattrs[*found].chain) {
        const struct erofs_xattr *x = &tree->xattrs[*found];

        if (x->name_len == name_len && x->value_len == value_len &&
            !memcmp(tree->text + x->kv, tree->text + kv, kv_len(x))) {
            tree->text_len = kv;
            return 0;
        }
    }
    ret = grow(&tree->xattrs, &tree->xattr_cap, (uint64_t)tree->xattr_count + 1,
               sizeof(*tree->xattrs));
    if (!ret && tree->xattr_count > tree->xattr_mask && tree->xattr_mask < UINT32_MAX / 4)
        ret = rehash(tree);
    if (ret)
        return ret;
    uint32_t *head = bucket_of(tree, tree->text + kv, kv_len(&made));

    made.chain = *head;
    *found = *head = tree->xattr_count++;
    tree->xattrs[*found] = made;
    return 0;
}

int erofs_xattr_add(struct erofs_tree *tree, uint32_t node, const void *name, size_t name_len,
                    const void *value, size_t value_len)
{
    const unsigned space = namespace_of(name, name_len);
    uint32_t kv, at, xattr;
    int ret;

    /* one without a name: tarerofs_apply_xattrs */
    if (!name_len || (!namespaces[space].len && !(tree->traits & MKFS_ANY_XATTR)))
        return -ENODATA;
    if (name_len - namespaces[space].len > 255 || value_len > UINT16_MAX)
        return -ERANGE;
    if (tree->use_count > tree->max_entries) /* a global header could multiply them at will */
        return -E2BIG;
    tree->xattr_bytes += erofs_xattr_entry_size(name, name_len, value_len);
    if (tree->xattr_bytes > tree->max_text)
        return -EFBIG;
    ret = erofs_text_add(tree, name, name_len, &kv);
    if (!ret)
        ret = erofs_text_add(tree, "", 1, &at);
    if (!ret)
        ret = erofs_text_add(tree, value, value_len, &at);
    if (!ret)
        ret = intern(tree, kv, (uint32_t)name_len, (uint32_t)value_len, &xattr);
    if (!ret)
        ret = grow(&tree->uses, &tree->use_cap, (uint64_t)tree->use_count + 1, sizeof(*tree->uses));
    if (ret)
        return ret;
    tree->uses[tree->use_count] = (struct erofs_xattr_use){xattr, tree->nodes[node].xattrs};
    tree->nodes[node].xattrs = tree->use_count++;
    return 0;
}

uint64_t erofs_xattr_entry_size(const void *name, size_t name_len, size_t value_len)
{
    const unsigned space = namespace_of(name, name_len);

    return (EROFS_XATTR_ENTRY + name_len - namespaces[space].len + value_len + 3) & ~UINT64_C(3);
}

static uint64_t entry_size(const struct erofs_tree *tree, const struct erofs_xattr *x)
{
    return erofs_xattr_entry_size(tree->text + x->kv, x->name_len, x->value_len);
}

uint64_t erofs_xattr_size(const struct erofs_tree *tree, uint32_t node)
{
    uint64_t size = tree->nodes[node].xattrs ? EROFS_XATTR_HEADER : 0;

    for (uint32_t u = tree->nodes[node].xattrs; u; u = tree->uses[u].older)
        size += entry_size(tree, &tree->xattrs[tree->uses[u].xattr]);
    return size;
}

struct ordered {
    const uint8_t *kv;
    const struct erofs_xattr *xattr;
};

/* Name, NUL and value bytewise, then length: erofs_comp_xattritem. */
static int compare(const void *a, const void *b)
{
    const struct ordered *x = a, *y = b;
    const size_t lx = kv_len(x->xattr), ly = kv_len(y->xattr);
    const int order = memcmp(x->kv, y->kv, lx < ly ? lx : ly);

    return order ? order : (lx > ly) - (lx < ly);
}

/* The bit of the name filter that a name clears. */
static uint32_t filter_bit(const uint8_t *name, uint32_t len)
{
    const unsigned space = namespace_of(name, len), skip = namespaces[space].len;

    return 1u << xxh32(name + skip, len - skip, EROFS_FILTER_SEED + namespaces[space].index) % 32;
}

uint32_t erofs_xattr_filter(const struct erofs_tree *tree, uint32_t node)
{
    uint32_t filter = UINT32_MAX;

    for (uint32_t u = tree->nodes[node].xattrs; u; u = tree->uses[u].older) {
        const struct erofs_xattr *x = &tree->xattrs[tree->uses[u].xattr];

        filter &= ~filter_bit(tree->text + x->kv, x->name_len);
    }
    return filter;
}

static void write_entry(uint8_t *out, const struct ordered *o)
{
    const unsigned space = namespace_of(o->kv, o->xattr->name_len);
    const uint8_t *suffix = o->kv + namespaces[space].len;
    const uint32_t len = o->xattr->name_len - namespaces[space].len;

    out[0] = (uint8_t)len;
    out[1] = namespaces[space].index;
    put16(out + 2, o->xattr->value_len);
    memcpy(out + EROFS_XATTR_ENTRY, suffix, len);
    memcpy(out + EROFS_XATTR_ENTRY + len, o->kv + o->xattr->name_len + 1, o->xattr->value_len);
}

int erofs_xattr_write(const struct erofs_tree *tree, uint32_t node, uint8_t *out)
{
    uint32_t count = 0;
    struct ordered *list;

    for (uint32_t u = tree->nodes[node].xattrs; u; u = tree->uses[u].older)
        count++;
    if (!count)
        return 0;
    list = malloc(count * sizeof(*list));
    if (!list)
        return -ENOMEM;
    /* uses lead backwards, the image wants the order of arrival */
    for (uint32_t u = tree->nodes[node].xattrs, i = count; u; u = tree->uses[u].older) {
        const struct erofs_xattr *x = &tree->xattrs[tree->uses[u].xattr];

        list[--i] = (struct ordered){tree->text + x->kv, x};
    }
    if (tree->traits & MKFS_XATTR_SORTED)
        qsort(list, count, sizeof(*list), compare);
    uint8_t *p = out + EROFS_XATTR_HEADER;

    for (uint32_t i = 0; i < count; i++) {
        write_entry(p, &list[i]);
        p += entry_size(tree, list[i].xattr);
    }
    free(list);
    put32(out, erofs_xattr_filter(tree, node));
    return 0;
}
