/* SPDX-License-Identifier: Apache-2.0
 *
 * avx2.c: eight messages at once, one to each 32-bit lane of AVX2.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "cpu.h"
#include "impl.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))

#define LANES 8

#define ADD(x, y) _mm256_add_epi32(x, y)
#define XOR3(x, y, z) _mm256_xor_si256(x, _mm256_xor_si256(y, z))
#define SHR(x, n) _mm256_srli_epi32(x, n)
/* The halves share no bit, so XOR joins them and may be reordered with the XORs around. */
#define ROR(x, n) _mm256_xor_si256(SHR(x, n), _mm256_slli_epi32(x, 32 - (n)))

/* Words 8 * half to 8 * half + 7 of the eight messages, transposed: w[i] holds word i of each. */
INLINE void load_words(__m256i *w, const uint8_t *const *data, size_t at)
{
    const __m256i bswap32 = _mm256_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203,
                                              0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m256i r[8], p[8];

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        r[i] = _mm256_loadu_si256((const __m256i *)(data[i] + at));
#pragma GCC unroll 4
    for (unsigned i = 0; i < 8; i += 2) {
        p[i] = _mm256_unpacklo_epi32(r[i], r[i + 1]);
        p[i + 1] = _mm256_unpackhi_epi32(r[i], r[i + 1]);
    }
#pragma GCC unroll 2
    for (unsigned i = 0; i < 8; i += 4) {
        r[i] = _mm256_unpacklo_epi64(p[i], p[i + 2]);
        r[i + 1] = _mm256_unpackhi_epi64(p[i], p[i + 2]);
        r[i + 2] = _mm256_unpacklo_epi64(p[i + 1], p[i + 3]);
        r[i + 3] = _mm256_unpackhi_epi64(p[i + 1], p[i + 3]);
    }
#pragma GCC unroll 4
    for (unsigned i = 0; i < 4; i++) {
        w[i] = _mm256_shuffle_epi8(_mm256_permute2x128_si256(r[i], r[i + 4], 0x20), bswap32);
        w[i + 4] = _mm256_shuffle_epi8(_mm256_permute2x128_si256(r[i], r[i + 4], 0x31), bswap32);
    }
}

/* Extends the schedule in its ring of 16: W[t + 16] in the place of W[t]. */
INLINE void extend(__m256i *w, unsigned t)
{
    const __m256i w1 = w[(t + 1) % 16], w14 = w[(t + 14) % 16];

    w[t % 16] = ADD(ADD(w[t % 16], w[(t + 9) % 16]),
                    ADD(XOR3(ROR(w1, 7), ROR(w1, 18), SHR(w1, 3)),
                        XOR3(ROR(w14, 17), ROR(w14, 19), SHR(w14, 10))));
    /* A compiler must not keep it in registers: it would push the state out of them. */
    __asm__ volatile("" : : "r"(w) : "memory");
}

/* Round t: the state's words stay, their names rotate: s[(j - t) % 8] is word j. */
INLINE void round1(__m256i *s, const __m256i *w, const uint32_t *k, unsigned t)
{
    const __m256i a = s[(0 - t) % 8], b = s[(1 - t) % 8], c = s[(2 - t) % 8];
    const __m256i e = s[(4 - t) % 8], f = s[(5 - t) % 8], g = s[(6 - t) % 8];
    __m256i *d = &s[(3 - t) % 8], *h = &s[(7 - t) % 8];
    const __m256i ch = _mm256_xor_si256(g, _mm256_and_si256(e, _mm256_xor_si256(f, g)));
    const __m256i maj = _mm256_xor_si256(
        b, _mm256_and_si256(_mm256_xor_si256(a, b), _mm256_xor_si256(b, c)));
    const __m256i t1 = ADD(ADD(ADD(*h, ADD(_mm256_set1_epi32((int)k[t]), w[t % 16])), ch),
                           XOR3(ROR(e, 6), ROR(e, 11), ROR(e, 25)));

    *d = ADD(*d, t1);
    *h = ADD(t1, ADD(maj, XOR3(ROR(a, 2), ROR(a, 13), ROR(a, 22))));
}

TARGET static void hash(const uint32_t *start, const size_t *counts,
                        const struct sha256_message *messages)
{
    const uint8_t *at[LANES];
    __m256i state[8], s[8], w[16];

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        state[i] = s[i] = _mm256_set1_epi32((int)start[i]);
    for (unsigned part = 0; part < SHA256_PARTS; part++) {
        for (unsigned l = 0; l < LANES; l++)
            at[l] = messages[l].parts[part];
        for (size_t i = 0; i < counts[part]; i++) {
            load_words(w, at, i * SHA256_BLOCK);
            load_words(w + 8, at, i * SHA256_BLOCK + 32);
            for (unsigned group = 0; group < 48; group += 16) {
#pragma GCC unroll 16
                for (unsigned t = 0; t < 16; t++) {
                    round1(s, w, sha256_k + group, t);
                    extend(w, t);
                }
            }
#pragma GCC unroll 16
            for (unsigned t = 0; t < 16; t++)
                round1(s, w, sha256_k + 48, t);
#pragma GCC unroll 8
            for (unsigned j = 0; j < 8; j++)
                state[j] = s[j] = ADD(s[j], state[j]);
        }
    }
    /* Transposed back, word i of every lane becomes the digest of lane i. */
    for (unsigned i = 0; i < 8; i++)
        at[i] = (const uint8_t *)&state[i];
    load_words(w, at, 0);
#pragma GCC unroll 8
    for (unsigned l = 0; l < LANES; l++)
        _mm256_storeu_si256((__m256i *)messages[l].digest, w[l]);
}

static int supported(void)
{
    return cpu_has(CPU_AVX2);
}

const struct sha256_impl sha256_avx2 = {
    .name = "avx2",
    .lanes = LANES,
    .supported = supported,
    .hash = hash,
};

#endif
