/* SPDX-License-Identifier: Apache-2.0
 *
 * Where metadata goes. mkfs.erofs keeps an ordered list of buffer blocks; the front part has
 * addresses
 * ("mapped"), the rest gets them when someone asks. A new inode goes to the block it fills best. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../tar/grow.h"
#include "writer.h"

#define NONE UINT32_MAX

static uint32_t size_of(const struct erofs_allocator *s)
{
    return 1u << s->bits;
}

static uint32_t mask_of(const struct erofs_allocator *s)
{
    return size_of(s) - 1;
}

static uint32_t blocks_of(const struct erofs_allocator *s, const struct erofs_allocator_block *b)
{
    return (uint32_t)(((uint64_t)b->used + mask_of(s)) >> s->bits);
}

/* File data lies right behind block 0 in the list and hides it as long as no other metadata is
 * mapped. */
static bool data_is_last(const struct erofs_allocator *s)
{
    return s->busy || (s->held && s->mapped == 1);
}

static bool is_last_mapped(const struct erofs_allocator *s, uint32_t block)
{
    return block + 1 == s->mapped && !data_is_last(s);
}

/* Moves a block to the end of the bucket for what it holds now: erofs_update_bwatermeter. */
static void rebucket(struct erofs_allocator *s, uint32_t block)
{
    struct erofs_allocator_block *b = &s->blocks[block];
    const bool mapped = block < s->mapped;
    const uint32_t slot = b->used & mask_of(s);

    if (b->bucket != NONE) {
        const unsigned m = b->bucket >> 12;
        const uint32_t from = b->bucket & 0xfff;

        *(b->prev == NONE ? &s->heads[m][from] : &s->blocks[b->prev].next) = b->next;
        *(b->next == NONE ? &s->tails[m][from] : &s->blocks[b->next].prev) = b->prev;
        if (s->heads[m][from] == NONE)
            s->bitmap[m][from / 64] &= ~(UINT64_C(1) << from % 64);
    }
    b->bucket = (uint32_t)mapped << 12 | slot;
    b->prev = s->tails[mapped][slot];
    b->next = NONE;
    *(b->prev == NONE ? &s->heads[mapped][slot] : &s->blocks[b->prev].next) = block;
    s->tails[mapped][slot] = block;
    s->bitmap[mapped][slot / 64] |= UINT64_C(1) << slot % 64;
}

/* Whether `size` aligned bytes and `tail` more fit behind what the block holds: bytes then used of
 * its last block, or a negative errno; does it unless `dry`: __erofs_battach. */
static int attach(struct erofs_allocator *s, uint32_t block, uint32_t size, uint32_t align,
                  uint32_t tail, bool dry, uint32_t *offset)
{
    struct erofs_allocator_block *b = &s->blocks[block];
    const uint64_t mask = mask_of(s), at = ((uint64_t)b->used + align - 1) & ~(uint64_t)(align - 1);
    const uint64_t end = at + size, room = (uint64_t)blocks_of(s, b) << s->bits;
    bool at_tail = false;

    if (((end + mask) & mask) + tail > mask)
        return -ENOSPC;
    if (end + tail >= room && block < s->mapped) {
        at_tail = s->tail == b->addr + blocks_of(s, b);
        if (end + tail > room && !(at_tail && is_last_mapped(s, block)))
            return -EINVAL;
    }
    if (!dry) {
        if (end > UINT32_MAX - 4096)
            return -EFBIG;
        *offset = (uint32_t)at;
        b->used = (uint32_t)end;
        if (at_tail)
            s->tail = b->addr + blocks_of(s, b);
        rebucket(s, block);
    }
    return (int)((end + mask) & mask) + 1;
}

/* The fullest bucket not above position *index and above `end`, both counted around the ring of
 * buckets. */
static uint32_t next_bucket(const struct erofs_allocator *s, bool mapped, uint32_t *index,
                            uint32_t end)
{
    while (*index > end) {
        const uint32_t top = *index & mask_of(s);
        const uint32_t word = top / 64,
                       low = *index - end - 1 < top % 64 ? top - (*index - end - 1) : word * 64;
        const uint64_t bits = s->bitmap[mapped][word] & (~UINT64_C(0) >> (63 - top % 64)) &
                              (~UINT64_C(0) << low % 64);

        if (bits) {
            const uint32_t found = word * 64 + 63 - (uint32_t)__builtin_clzll(bits);

            *index -= top - found;
            return found;
        }
        *index -= top - low + 1;
    }
    return NONE;
}

/* The block that `size` + `tail` bytes fill best, or NONE: erofs_bfind_for_attach. */
static uint32_t find(struct erofs_allocator *s, uint32_t size, uint32_t tail, uint32_t align)
{
    const uint64_t all = (uint64_t)size + tail;
    const uint32_t fit = size_of(s) - (uint32_t)(all & mask_of(s)), used0 = fit - fit % align;
    uint32_t index = used0 + size_of(s), end = size_of(s), best = NONE, unused;
    int best_used = 0;

    for (int mapped = all < size_of(s); mapped >= 0; mapped--) {
        for (;; index--) {
            const uint32_t bucket = next_bucket(s, mapped, &index, end);

            if (bucket == NONE)
                break;
            uint32_t b = s->heads[mapped][bucket];

            if (mapped && is_last_mapped(s, b)) /* tried on its own below */
                b = s->blocks[b].next;
            if (b == NONE)
                continue;
            const int used = attach(s, b, size, align, tail, true, &unused);

            if (used < 0)
                continue;
            if (used + (int)tail > best_used) {
                best_used = used + (int)tail;
                best = b;
            }
            break;
        }
        end = used0 + align - 1;
        index = used0 + size_of(s);
        if (mapped && s->mapped && !data_is_last(s)) {
            const int used = attach(s, s->mapped - 1, size, align, tail, true, &unused);

            if (used >= 0 && used + (int)tail > best_used) {
                best_used = used + (int)tail;
                best = s->mapped - 1;
            }
        }
    }
    return best;
}

static int allocate(struct erofs_allocator *s, uint32_t size, uint32_t align, uint32_t tail,
                    uint32_t *block, uint32_t *offset)
{
    *block = find(s, size, tail, align);
    if (*block == NONE) {
        const int ret = grow(&s->blocks, &s->cap, (uint64_t)s->count + 1, sizeof(*s->blocks));

        if (ret)
            return ret;
        *block = s->count++;
        s->blocks[*block] = (struct erofs_allocator_block){NONE, 0, NONE, NONE, NONE};
    }
    /* if this fails the new, empty block stays in the list: erofs_balloc */
    const int used = attach(s, *block, size, align, tail, false, offset);

    return used < 0 ? used : 0;
}

int erofs_allocate_inode(struct erofs_allocator *s, uint32_t size, uint32_t tail, uint32_t *block,
                         uint32_t *offset)
{
    uint32_t behind;
    const int ret = allocate(s, size, EROFS_COMPACT_SIZE, tail, block, offset);

    if (ret || !tail)
        return ret;
    const int used = attach(s, *block, tail, 1, 0, false, &behind);

    return used < 0 ? used : 0;
}

int erofs_allocator_map(struct erofs_allocator *s, uint32_t block)
{
    const uint32_t to = block == EROFS_NO_BLOCK ? s->count : block + 1;

    while (s->mapped < to) {
        struct erofs_allocator_block *b = &s->blocks[s->mapped++];

        b->addr = s->tail;
        rebucket(s, s->mapped - 1);
        if (blocks_of(s, b) > NONE - 1 - s->tail)
            return -EFBIG;
        s->tail += blocks_of(s, b);
    }
    return 0;
}

int erofs_allocate_data(struct erofs_allocator *s, uint64_t n, uint32_t *addr)
{
    if (n > (uint64_t)NONE - 1 - s->tail)
        return -EFBIG;
    *addr = s->tail;
    s->tail += (uint32_t)n;
    return 0;
}

int erofs_allocate_directory(struct erofs_allocator *s, uint64_t n, uint32_t *addr)
{
    const int ret = erofs_allocator_map(s, EROFS_NO_BLOCK);

    return ret ? ret : erofs_allocate_data(s, n, addr);
}

int erofs_allocator_init(struct erofs_allocator *s, unsigned bits, unsigned devices)
{
    uint32_t block, offset;
    int ret;

    memset(s, 0, sizeof(*s));
    memset(s->heads, 0xff, sizeof(s->heads));
    memset(s->tails, 0xff, sizeof(s->tails));
    s->bits = bits;
    ret = allocate(s, EROFS_SUPER_AT + EROFS_SUPER_SIZE, 1, 0, &block, &offset);
    if (!ret)
        ret = erofs_allocator_map(s, 0);
    if (!ret && devices)
        ret = allocate(s, devices * EROFS_DEVICE_SIZE, EROFS_DEVICE_SIZE, 0, &block, &offset);
    return ret;
}

void erofs_allocator_free(struct erofs_allocator *s)
{
    free(s->blocks);
}
