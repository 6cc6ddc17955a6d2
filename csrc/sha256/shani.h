/* SPDX-License-Identifier: Apache-2.0
 *
 * shani.h: rounds of SHA-256 with the x86 SHA extensions, for whoever interleaves several messages.
 */
#ifndef DMSIGN_SHA256_SHANI_H
#define DMSIGN_SHA256_SHANI_H

#include <immintrin.h>

#include "impl.h"

#define TARGET __attribute__((target("sse4.1,sha")))

/* One message in the form that SHA256RNDS2 wants: its state as (A,B,E,F) and (C,D,G,H), and the
 * last 16 words of its schedule. */
struct stream {
    __m128i abef, cdgh, w[4];
};

TARGET static inline __m128i bswap32(__m128i x)
{
    return _mm_shuffle_epi8(x, _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
}

TARGET static inline __m128i load_be(const uint8_t *p)
{
    return bswap32(_mm_loadu_si128((const __m128i *)p));
}

/* Four rounds; from the fifth four on, W is extended first. */
TARGET static inline __attribute__((always_inline)) void rounds(struct stream *s, unsigned four)
{
    __m128i *w = &s->w[four % 4], wk;

    if (four >= 4) {
        const __m128i w1 = s->w[(four + 1) % 4], w2 = s->w[(four + 2) % 4];
        const __m128i w3 = s->w[(four + 3) % 4];

        *w = _mm_add_epi32(_mm_sha256msg1_epu32(*w, w1), _mm_alignr_epi8(w3, w2, 4));
        *w = _mm_sha256msg2_epu32(*w, w3);
    }
    wk = _mm_add_epi32(*w, _mm_loadu_si128((const __m128i *)&sha256_k[4 * four]));
    s->cdgh = _mm_sha256rnds2_epu32(s->cdgh, s->abef, wk);
    s->abef = _mm_sha256rnds2_epu32(s->abef, s->cdgh, _mm_shuffle_epi32(wk, 0x0e));
}

TARGET static inline void load_state(struct stream *s, const uint32_t *state)
{
    const __m128i cdab = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)state), 0xb1);
    const __m128i efgh = _mm_shuffle_epi32(_mm_loadu_si128((const __m128i *)(state + 4)), 0x1b);

    s->abef = _mm_alignr_epi8(cdab, efgh, 8);
    s->cdgh = _mm_blend_epi16(efgh, cdab, 0xf0);
}

TARGET static inline void add_state(struct stream *s, const struct stream *before)
{
    s->abef = _mm_add_epi32(s->abef, before->abef);
    s->cdgh = _mm_add_epi32(s->cdgh, before->cdgh);
}

TARGET static inline void store_digest(const struct stream *s, uint8_t *digest)
{
    const __m128i feba = _mm_shuffle_epi32(s->abef, 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(s->cdgh, 0xb1);

    _mm_storeu_si128((__m128i *)digest, bswap32(_mm_blend_epi16(feba, dchg, 0xf0)));
    _mm_storeu_si128((__m128i *)(digest + 16), bswap32(_mm_alignr_epi8(dchg, feba, 8)));
}

#include "in_step.h"

#endif
