/* SPDX-License-Identifier: Apache-2.0
 *
 * streams.h: what an instruction set provides for SHA-256 of several streams in step.
 */
#ifndef DMSIGN_SHA256_STREAMS_H
#define DMSIGN_SHA256_STREAMS_H

#include "impl.h"

#define SHA256_STREAMS 4

struct sha256_streams_impl {
    int (*supported)(void);
    /* Adds `blocks` blocks of 64 bytes to each of `count` states of eight words, 1 to
     * SHA256_STREAMS; data[i] moves on behind them. */
    void (*add)(uint32_t *const *states, const uint8_t **data, size_t blocks, unsigned count);
};

#if defined(__x86_64__)
extern const struct sha256_streams_impl sha256_streams_shani;
#endif

#endif
