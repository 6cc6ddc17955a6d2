/* SPDX-License-Identifier: Apache-2.0
 *
 * in_step.h: SHA-256 of several messages in step, for instructions that do a few rounds of one: the
 * rounds of a message wait for each other, and those of others fill the gaps.
 *
 * The file that includes it has defined
 *   TARGET, a function attribute;
 *   struct stream, one message: its state, and w[4], the last 16 words of its schedule;
 *   load_be(p), four words; rounds(s, four), four rounds; load_state(s, state);
 *   add_state(s, before); store_digest(s, digest).
 */
#include "streams.h"

#define INLINE TARGET static inline __attribute__((always_inline))

/* Hashes 64 bytes of each of `count` messages, and moves data[i] behind them. */
INLINE void step(struct stream *s, const uint8_t **data, const unsigned count)
{
    struct stream before[SHA256_STREAMS];

#pragma GCC unroll 4
    for (unsigned i = 0; i < count; i++) {
        before[i] = s[i];
#pragma GCC unroll 4
        for (unsigned four = 0; four < 4; four++)
            s[i].w[four] = load_be(data[i] + 16 * four);
        data[i] += SHA256_BLOCK;
    }
#pragma GCC unroll 16
    for (unsigned four = 0; four < 16; four++)
#pragma GCC unroll 4
        for (unsigned i = 0; i < count; i++)
            rounds(&s[i], four);
#pragma GCC unroll 4
    for (unsigned i = 0; i < count; i++)
        add_state(&s[i], &before[i]);
}

/* As struct sha256_impl wants it, of two messages. */
TARGET static inline void hash_two(const uint32_t *start, const size_t *counts,
                                   const struct sha256_message *messages)
{
    struct stream s[2];

    load_state(&s[0], start);
    s[1] = s[0];
    for (unsigned part = 0; part < SHA256_PARTS; part++) {
        const uint8_t *data[] = {messages[0].parts[part], messages[1].parts[part]};

        for (size_t left = counts[part]; left--;)
            step(s, data, 2);
    }
    store_digest(&s[0], messages[0].digest);
    store_digest(&s[1], messages[1].digest);
}
