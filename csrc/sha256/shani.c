/* SPDX-License-Identifier: Apache-2.0
 *
 * shani.c: x86 SHA extensions, two messages at once.
 *
 * SHA256RNDS2 has a latency of 4 cycles and a message is one chain of 32 of them a block: a second
 * message fills the gaps of the first.
 */
#if defined(__x86_64__)

#include <cpuid.h>

#include "shani.h"

TARGET static inline void store_digest(const struct stream *s, uint8_t *digest)
{
    const __m128i feba = _mm_shuffle_epi32(s->abef, 0x1b);
    const __m128i dchg = _mm_shuffle_epi32(s->cdgh, 0xb1);

    _mm_storeu_si128((__m128i *)digest, bswap32(_mm_blend_epi16(feba, dchg, 0xf0)));
    _mm_storeu_si128((__m128i *)(digest + 16), bswap32(_mm_alignr_epi8(dchg, feba, 8)));
}

TARGET static void hash(const uint32_t *start, const size_t *counts,
                        const struct sha256_message *messages)
{
    struct stream a, b;

    load_state(&a, start);
    b = a;
    for (unsigned part = 0; part < SHA256_PARTS; part++) {
        const uint8_t *pa = messages[0].parts[part], *pb = messages[1].parts[part];

        for (size_t left = counts[part]; left--; pa += SHA256_BLOCK, pb += SHA256_BLOCK) {
            const struct stream a0 = a, b0 = b;

#pragma GCC unroll 4
            for (unsigned i = 0; i < 4; i++) {
                a.w[i] = load_be(pa + 16 * i);
                b.w[i] = load_be(pb + 16 * i);
            }
#pragma GCC unroll 16
            for (unsigned four = 0; four < 16; four++) {
                rounds(&a, four);
                rounds(&b, four);
            }
            a.abef = _mm_add_epi32(a.abef, a0.abef);
            a.cdgh = _mm_add_epi32(a.cdgh, a0.cdgh);
            b.abef = _mm_add_epi32(b.abef, b0.abef);
            b.cdgh = _mm_add_epi32(b.cdgh, b0.cdgh);
        }
    }
    store_digest(&a, messages[0].digest);
    store_digest(&b, messages[1].digest);
}

static int supported(void)
{
    unsigned eax, ebx, ecx, edx;

    /* __builtin_cpu_supports("sha") needs gcc 14 */
    return __get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx) && (ebx & bit_SHA) &&
           __builtin_cpu_supports("sse4.1");
}

const struct sha256_impl sha256_shani = {
    .name = "shani",
    .lanes = 2,
    .supported = supported,
    .hash = hash,
};

#endif
