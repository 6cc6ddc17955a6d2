/* SPDX-License-Identifier: Apache-2.0
 *
 * sha256_impl.h: what one instruction set provides, private to the core.
 */
#ifndef DMSIGN_SHA256_IMPL_H
#define DMSIGN_SHA256_IMPL_H

#include <stddef.h>
#include <stdint.h>

#define SHA256_BLOCK 64
#define SHA256_MAX_LANES 32

struct sha256_impl {
    const char *name;
    unsigned lanes; /* messages that one call advances together */
    /* Word w of the state of lane l is state[w * word_stride + l * lane_stride]. */
    unsigned word_stride, lane_stride;
    int (*supported)(void);
    /* Advances every lane over `count` blocks of 64 bytes from its own pointer (any alignment).
     * The state is 8 * lanes words, aligned to 64 bytes. */
    void (*compress)(uint32_t *state, const uint8_t *const *data, size_t count);
};

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
