/* SPDX-License-Identifier: Apache-2.0
 *
 * Directories in bytewise order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "erofs.h"
#include "grow.h"

/* A name to sort: its first bytes as a number decide nearly always. */
struct key {
    uint64_t head;
    const uint8_t *text;
    uint32_t len, name;
};

static int compare(const void *a, const void *b)
{
    const struct key *x = a, *y = b;

    if (x->head != y->head)
        return x->head < y->head ? -1 : 1;
    const int order = memcmp(x->text, y->text, x->len < y->len ? x->len : y->len);

    return order ? order : (x->len > y->len) - (x->len < y->len);
}

static struct key key_of(const struct erofs_tree *t, uint32_t name)
{
    const struct erofs_name *n = &t->names[name];
    struct key k = {0, t->text + n->text, n->len, name};

    for (unsigned i = 0; i < 8; i++)
        k.head = k.head << 8 | (i < n->len ? k.text[i] : 0);
    return k;
}

int erofs_tree_finish(struct erofs_tree *t)
{
    struct key *keys = NULL;
    uint32_t cap = 0;

    free(t->buckets);
    t->buckets = NULL;
    for (uint32_t dir = NODE_ROOT; dir < t->node_count; dir++) {
        struct erofs_node *d = &t->nodes[dir];
        uint32_t count = 0;

        if ((d->mode & TAR_FORMAT) != TAR_DIR)
            continue;
        for (uint32_t i = d->child; i; i = t->names[i].sibling) {
            if (grow(&keys, &cap, (uint64_t)count + 1, sizeof(*keys))) {
                free(keys);
                return -ENOMEM;
            }
            keys[count++] = key_of(t, i);
        }
        if (count)
            qsort(keys, count, sizeof(*keys), compare);
        d->child = 0;
        while (count--) {
            t->names[keys[count].name].sibling = d->child;
            d->child = keys[count].name;
        }
    }
    free(keys);
    return 0;
}

struct erofs_dir_iter erofs_dir(const struct erofs_tree *t, uint32_t dir)
{
    return (struct erofs_dir_iter){t, dir, t->nodes[dir].child, 0};
}

bool erofs_dir_next(struct erofs_dir_iter *it, struct erofs_dir_entry *e)
{
    static const uint8_t dots[] = "..";
    const struct erofs_tree *t = it->tree;
    const struct erofs_name *n = it->name ? &t->names[it->name] : NULL;

    if (it->dots < 2) {
        const struct key dot = {(it->dots ? UINT64_C(0x2e2e) : UINT64_C(0x2e00)) << 48, dots,
                                it->dots + 1, 0};
        const struct key next = n ? key_of(t, it->name) : (struct key){0};

        if (!n || compare(&dot, &next) < 0) {
            const struct erofs_node *d = &t->nodes[it->dir];
            const uint32_t up = d->flags & NODE_NO_PARENT ? 0 : d->parent;

            *e = (struct erofs_dir_entry){dots, dot.len, it->dots ? up : it->dir, EROFS_DIR};
            it->dots++;
            return true;
        }
    }
    if (!n)
        return false;
    *e = (struct erofs_dir_entry){t->text + n->text, n->len, n->node, n->type};
    it->name = n->sibling;
    return true;
}
