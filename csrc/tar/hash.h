/* SPDX-License-Identifier: Apache-2.0
 *
 * The hash of all tables. Its seed is a secret, so that hostile names cannot collide at will. */
#ifndef DMSIGN_TAR_HASH_H
#define DMSIGN_TAR_HASH_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint64_t seeded_hash(uint64_t seed, const void *bytes, size_t len)
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

#endif
