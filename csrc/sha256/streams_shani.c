/* SPDX-License-Identifier: Apache-2.0
 *
 * streams_shani.c: x86 SHA extensions, one to four streams at once.
 *
 * Four streams have more state than there are registers. They are faster than two all the same: the
 * chain of one message leaves most of the unit idle (docs/performance.md).
 */
#if defined(__x86_64__)

#include "shani.h"
#include "streams.h"

TARGET static inline void store_state(const struct stream *s, uint32_t *state)
{
    const __m128i feba = _mm_shuffle_epi32(s->abef, 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(s->cdgh, 0xb1);

    _mm_storeu_si128((__m128i *)state, _mm_blend_epi16(feba, dchg, 0xf0));
    _mm_storeu_si128((__m128i *)(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

INLINE void add_to(uint32_t *const *states, const uint8_t **data, size_t blocks,
                   const unsigned count)
{
    struct stream s[SHA256_STREAMS];

#pragma GCC unroll 4
    for (unsigned i = 0; i < count; i++)
        load_state(&s[i], states[i]);
    while (blocks--)
        step(s, data, count);
#pragma GCC unroll 4
    for (unsigned i = 0; i < count; i++)
        store_state(&s[i], states[i]);
}

TARGET static void add(uint32_t *const *states, const uint8_t **data, size_t blocks,
                       unsigned count)
{
    switch (count) {
    case 1:
        add_to(states, data, blocks, 1);
        return;
    case 2:
        add_to(states, data, blocks, 2);
        return;
    case 3:
        add_to(states, data, blocks, 3);
        return;
    default:
        add_to(states, data, blocks, 4);
    }
}

static int supported(void)
{
    return sha256_shani.supported();
}

const struct sha256_streams_impl sha256_streams_shani = {
    .supported = supported,
    .add = add,
};

#endif
