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

static uint32_t size_of(const struct erofs_allocator *allocator)
{
    return 1u << allocator->bits;
}

static uint32_t mask_of(const struct erofs_allocator *allocator)
{
    return size_of(allocator) - 1;
}

static uint32_t blocks_of(const struct erofs_allocator *allocator,
                          const struct erofs_allocator_block *b)
{
    return (uint32_t)(((uint64_t)b->used + mask_of(allocator)) >> allocator->bits);
}

/* File data lies right behind block 0 in the list and hides it as long as no other metadata is
 * mapped. */
static bool data_is_last(const struct erofs_allocator *allocator)
{
    return allocator->busy || (allocator->held && allocator->mapped == 1);
}

static bool is_last_mapped(const struct erofs_allocator *allocator, uint32_t block)
{
    return block + 1 == allocator->mapped && !data_is_last(allocator);
}

/* Moves a block to the end of the bucket for what it holds now: erofs_update_bwatermeter. */
static void rebucket(struct erofs_allocator *allocator, uint32_t block)
{
    struct erofs_allocator_block *b = &allocator->blocks[block];
    const bool mapped = block < allocator->mapped;
    const uint32_t slot = b->used & mask_of(allocator);

    if (b->bucket != NONE) {
        const unsigned m = b->bucket >> 12;
        const uint32_t from = b->bucket & 0xfff;

        *(b->prev == NONE ? &allocator->heads[m][from] : &allocator->blocks[b->prev].next) =
            b->next;
        *(b->next == NONE ? &allocator->tails[m][from] : &allocator->blocks[b->next].prev) =
            b->prev;
        if (allocator->heads[m][from] == NONE)
            allocator->bitmap[m][from / 64] &= ~(UINT64_C(1) << from % 64);
    }
    b->bucket = (uint32_t)mapped << 12 | slot;
    b->prev = allocator->tails[mapped][slot];
    b->next = NONE;
    *(b->prev == NONE ? &allocator->heads[mapped][slot] : &allocator->blocks[b->prev].next) = block;
    allocator->tails[mapped][slot] = block;
    allocator->bitmap[mapped][slot / 64] |= UINT64_C(1) << slot % 64;
}

/* Whether `size` aligned bytes and `tail` more fit behind what the block holds: bytes then used of
 * its last block, or a negative errno; does it unless `dry`: __erofs_battach. */
static int attach(struct erofs_allocator *allocator, uint32_t block, uint32_t size, uint32_t align,
                  uint32_t tail, bool dry, uint32_t *offset)
{
    struct erofs_allocator_block *b = &allocator->blocks[block];
    const uint64_t mask = mask_of(allocator),
                   at = ((uint64_t)b->used + align - 1) & ~(uint64_t)(align - 1);
    const uint64_t end = at + size, room = (uint64_t)blocks_of(allocator, b) << allocator->bits;
    bool at_tail = false;

    if (((end + mask) & mask) + tail > mask)
        return -ENOSPC;
    if (end + tail >= room && block < allocator->mapped) {
        at_tail = allocator->tail == b->addr + blocks_of(allocator, b);
        if (end + tail > room && !(at_tail && is_last_mapped(allocator, block)))
            return -EINVAL;
    }
    if (!dry) {
        if (end > UINT32_MAX - 4096)
            return -EFBIG;
        *offset = (uint32_t)at;
        b->used = (uint32_t)end;
        if (at_tail)
            allocator->tail = b->addr + blocks_of(allocator, b);
        rebucket(allocator, block);
    }
    return (int)((end + mask) & mask) + 1;
}

/* The fullest bucket not above position *index and above `end`, both counted around the ring of
 * buckets. */
static uint32_t next_bucket(const struct erofs_allocator *allocator, bool mapped, uint32_t *index,
                            uint32_t end)
{
    while (*index > end) {
        const uint32_t top = *index & mask_of(allocator);
        const uint32_t word = top / 64,
                       low = *index - end - 1 < top % 64 ? top - (*index - end - 1) : word * 64;
        const uint64_t bits = allocator->bitmap[mapped][word] & (~UINT64_C(0) >> (63 - top % 64)) &
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
static uint32_t find(struct erofs_allocator *allocator, uint32_t size, uint32_t tail,
                     uint32_t align)
{
    const uint64_t all = (uint64_t)size + tail;
    const uint32_t fit = size_of(allocator) - (uint32_t)(all & mask_of(allocator)),
                   used0 = fit - fit % align;
    uint32_t index = used0 + size_of(allocator), end = size_of(allocator), best = NONE, unused;
    int best_used = 0;

    for (int mapped = all < size_of(allocator); mapped >= 0; mapped--) {
        for (;; index--) {
            const uint32_t bucket = next_bucket(allocator, mapped, &index, end);

            if (bucket == NONE)
                break;
            uint32_t b = allocator->heads[mapped][bucket];

            if (mapped && is_last_mapped(allocator, b)) /* tried on its own below */
                b = allocator->blocks[b].next;
            if (b == NONE)
                continue;
            const int used = attach(allocator, b, size, align, tail, true, &unused);

            if (used < 0)
                continue;
            if (used + (int)tail > best_used) {
                best_used = used + (int)tail;
                best = b;
            }
            break;
        }
        end = used0 + align - 1;
        index = used0 + size_of(allocator);
        if (mapped && allocator->mapped && !data_is_last(allocator)) {
            const int used =
                attach(allocator, allocator->mapped - 1, size, align, tail, true, &unused);

            if (used >= 0 && used + (int)tail > best_used) {
                best_used = used + (int)tail;
                best = allocator->mapped - 1;
            }
        }
    }
    return best;
}

static int allocate(struct erofs_allocator *allocator, uint32_t size, uint32_t align, uint32_t tail,
                    uint32_t *block, uint32_t *offset)
{
    *block = find(allocator, size, tail, align);
    if (*block == NONE) {
        const int ret = grow(&allocator->blocks, &allocator->cap, (uint64_t)allocator->count + 1,
                             sizeof(*allocator->blocks));

        if (ret)
            return ret;
        *block = allocator->count++;
        allocator->blocks[*block] = (struct erofs_allocator_block){NONE, 0, NONE, NONE, NONE};
    }
    /* if this fails the new, empty block stays in the list: erofs_balloc */
    const int used = attach(allocator, *block, size, align, tail, false, offset);

    return used < 0 ? used : 0;
}

int erofs_allocate_inode(struct erofs_allocator *allocator, uint32_t size, uint32_t tail,
                         uint32_t *block, uint32_t *offset)
{
    uint32_t behind;
    const int ret = allocate(allocator, size, EROFS_COMPACT_SIZE, tail, block, offset);

    if (ret || !tail)
        return ret;
    const int used = attach(allocator, *block, tail, 1, 0, false, &behind);

    return used < 0 ? used : 0;
}

int erofs_allocator_map(struct erofs_allocator *allocator, uint32_t block)
{
    const uint32_t to = block == EROFS_NO_BLOCK ? allocator->count : block + 1;

    while (allocator->mapped < to) {
        struct erofs_allocator_block *b = &allocator->blocks[allocator->mapped++];

        b->addr = allocator->tail;
        rebucket(allocator, allocator->mapped - 1);
        if (blocks_of(allocator, b) > NONE - 1 - allocator->tail)
            return -EFBIG;
        allocator->tail += blocks_of(allocator, b);
    }
    return 0;
}

int erofs_allocate_data(struct erofs_allocator *allocator, uint64_t n, uint32_t *addr)
{
    if (n > (uint64_t)NONE - 1 - allocator->tail)
        return -EFBIG;
    *addr = allocator->tail;
    allocator->tail += (uint32_t)n;
    return 0;
}

int erofs_allocate_directory(struct erofs_allocator *allocator, uint64_t n, uint32_t *addr)
{
    const int ret = erofs_allocator_map(allocator, EROFS_NO_BLOCK);

    return ret ? ret : erofs_allocate_data(allocator, n, addr);
}

int erofs_allocator_init(struct erofs_allocator *allocator, unsigned bits, unsigned devices)
{
    uint32_t block, offset;
    int ret;

    memset(allocator, 0, sizeof(*allocator));
    memset(allocator->heads, 0xff, sizeof(allocator->heads));
    memset(allocator->tails, 0xff, sizeof(allocator->tails));
    allocator->bits = bits;
    ret = allocate(allocator, EROFS_SUPER_AT + EROFS_SUPER_SIZE, 1, 0, &block, &offset);
    if (!ret)
        ret = erofs_allocator_map(allocator, 0);
    if (!ret && devices)
        ret =
            allocate(allocator, devices * EROFS_DEVICE_SIZE, EROFS_DEVICE_SIZE, 0, &block, &offset);
    return ret;
}

void erofs_allocator_free(struct erofs_allocator *allocator)
{
    free(allocator->blocks);
}
