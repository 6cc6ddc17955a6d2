/* SPDX-License-Identifier: Apache-2.0
 *
 * impl.h: what an instruction set provides and which of them are chosen, private to the core.
 */
#ifndef DMSIGN_SHA256_IMPL_H
#define DMSIGN_SHA256_IMPL_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK 64
#define SHA256_MAX_LANES 32
#define SHA256_PARTS 3

/* One of the messages that are hashed together; they differ in nothing but these addresses. */
struct sha256_message {
    const uint8_t *parts[SHA256_PARTS]; /* of any alignment */
    uint8_t *digest;
};

struct sha256_impl {
    const char *name;
    unsigned lanes; /* messages that one call hashes */
    int (*supported)(void);
    /* From the state `start`, over counts[i] blocks of 64 bytes of each part i. The padding is the
     * caller's. Digests may be the same place if the messages are the same. */
    void (*hash)(const uint32_t *start, const size_t *counts,
                 const struct sha256_message *messages);
    /* The same for messages that begin in the middle of the first 64 bytes of their parts and end
     * in the middle of the last: what is aligned stays so behind 32 bytes of salt. NULL: cannot. */
    void (*hash_late)(const uint32_t *start, const size_t *counts,
                      const struct sha256_message *messages);
};

/* `wide` takes what fills its lanes, `narrow` the few messages that are left at the end of a run.
 * An implementation chosen by name does both. */
struct sha256_choice {
    const struct sha256_impl *wide, *narrow;
};

struct sha256_choice sha256_chosen(void);

static inline uint32_t load_be32(const uint8_t *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void store_be32(uint8_t *p, uint32_t x)
{
    p[0] = (uint8_t)(x >> 24);
    p[1] = (uint8_t)(x >> 16);
    p[2] = (uint8_t)(x >> 8);
    p[3] = (uint8_t)x;
}

extern const uint32_t sha256_k[64];

extern const struct sha256_impl sha256_portable;
#if defined(__x86_64__)
extern const struct sha256_impl sha256_shani;
extern const struct sha256_impl sha256_avx2;
extern const struct sha256_impl sha256_avx512;
#elif defined(__aarch64__)
extern const struct sha256_impl sha256_armv8;
#endif

#endif
