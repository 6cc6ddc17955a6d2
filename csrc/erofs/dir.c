/* SPDX-License-Identifier: Apache-2.0
 *
 * Directories in bytewise order. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../tar/grow.h"
#include "writer.h"

/* A name to sort, and eight of its bytes as a number. */
struct key {
    uint64_t head;
    uint32_t name;
};

/* Bytes from `from` on, zero behind the name's end: names hold no NUL. */
static uint64_t head_of(const struct erofs_tree *tree, uint32_t name, unsigned from)
{
    const struct erofs_name *n = &tree->names[name];
    const uint8_t *text = tree->text + n->text;
    uint64_t head = 0;

    for (unsigned i = from; i < from + 8; i++)
        head = head << 8 | (i < n->len ? text[i] : 0);
    return head;
}

static void swap(struct key *a, struct key *b)
{
    const struct key c = *a;

    *a = *b;
    *b = c;
}

/* Radix quicksort in three ways, in place. Pivots are random: hostile names shall not choose them.
 */
static void sort(const struct erofs_tree *tree, struct key *keys, uint32_t count, unsigned from,
                 uint64_t *random)
{
    while (count > 1) {
        *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        const uint64_t pivot = keys[(*random >> 32) * count >> 32].head;
        uint32_t less = 0, i = 0, more = count;

        while (i < more) {
            if (keys[i].head < pivot)
                swap(&keys[less++], &keys[i++]);
            else if (keys[i].head > pivot)
                swap(&keys[i], &keys[--more]);
            else
                i++;
        }
        if (more - less > 1 && from + 8 <= EROFS_NAME_MAX) {
            for (i = less; i < more; i++)
                keys[i].head = head_of(tree, keys[i].name, from + 8);
            sort(tree, keys + less, more - less, from + 8, random);
        }
        /* the smaller side by recursion: no deeper than 32 levels for each eight bytes */
        if (less < count - more) {
            sort(tree, keys, less, from, random);
            keys += more;
            count -= more;
        } else {
            sort(tree, keys + more, count - more, from, random);
            count = less;
        }
    }
}

int erofs_tree_finish(struct erofs_tree *tree)
{
    struct key *keys = NULL;
    uint64_t random = tree->seed;
    uint32_t cap = 0;

    free(tree->buckets);
    tree->buckets = NULL;
    for (uint32_t dir = NODE_ROOT; dir < tree->node_count; dir++) {
        struct erofs_node *d = &tree->nodes[dir];
        uint32_t count = 0;

        if ((d->mode & TAR_FORMAT) != TAR_DIR)
            continue;
        for (uint32_t i = d->child; i; i = tree->names[i].sibling) {
            if (grow(&keys, &cap, (uint64_t)count + 1, sizeof(*keys))) {
                free(keys);
                return -ENOMEM;
            }
            keys[count++] = (struct key){head_of(tree, i, 0), i};
        }
        sort(tree, keys, count, 0, &random);
        d->child = 0;
        while (count--) {
            tree->names[keys[count].name].sibling = d->child;
            d->child = keys[count].name;
        }
    }
    free(keys);
    return 0;
}

struct erofs_dir_iter erofs_dir(const struct erofs_tree *tree, uint32_t dir)
{
    return (struct erofs_dir_iter){tree, dir, tree->nodes[dir].child, 0};
}

bool erofs_dir_next(struct erofs_dir_iter *it, struct erofs_dir_entry *e)
{
    static const uint8_t dots[] = "..";
    const struct erofs_tree *tree = it->tree;
    const struct erofs_name *n = it->name ? &tree->names[it->name] : NULL;

    if (it->dots < 2) {
        const uint32_t len = it->dots + 1;
        const uint64_t head = (len == 1 ? UINT64_C(0x2e00) : UINT64_C(0x2e2e)) << 48;

        if (!n || head < head_of(tree, it->name, 0)) {
            const struct erofs_node *d = &tree->nodes[it->dir];
            const uint32_t up = d->flags & NODE_NO_PARENT ? 0 : d->parent;

            *e = (struct erofs_dir_entry){dots, len, it->dots ? up : it->dir, EROFS_DIR};
            it->dots++;
            return true;
        }
    }
    if (!n)
        return false;
    *e = (struct erofs_dir_entry){tree->text + n->text, n->len, n->node, n->type};
    it->name = n->sibling;
    return true;
}
