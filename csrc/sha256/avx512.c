/* SPDX-License-Identifier: Apache-2.0
 *
 * avx512.c: 32 messages at once, two groups of 16 lanes of AVX-512.
 *
 * One group alone is bound by the latency of its rounds: the second fills the gaps. Two states of
 * eight vectors leave no registers for two schedules, so the schedules live in memory.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "impl.h"

#define TARGET __attribute__((target("avx512f,avx512bw")))
#define INLINE TARGET static inline __attribute__((always_inline))

#define GROUP 16
#define LANES (2 * GROUP)

#define ADD(x, y) _mm512_add_epi32(x, y)
/* The truth tables are those of x ^ y ^ z, of x ? y : z, and of the majority. */
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CH(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define MAJ(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define SHR(x, n) _mm512_srli_epi32(x, n)
#define ROR(x, n) _mm512_ror_epi32(x, n)

/* The 16 words of a block of 16 messages, transposed: w[i] holds word i of each message. */
INLINE void load_words(__m512i *w, const uint8_t *const *data, size_t at)
{
    const __m512i bswap32 = _mm512_set_epi64(
        0x0c0d0e0f08090a0b, 0x0405060700010203, 0x0c0d0e0f08090a0b, 0x0405060700010203,
        0x0c0d0e0f08090a0b, 0x0405060700010203, 0x0c0d0e0f08090a0b, 0x0405060700010203);
    __m512i r[16], p[16];

#pragma GCC unroll 16
    for (unsigned i = 0; i < 16; i++)
        r[i] = _mm512_loadu_si512(data[i] + at);
#pragma GCC unroll 8
    for (unsigned i = 0; i < 16; i += 2) {
        p[i] = _mm512_unpacklo_epi32(r[i], r[i + 1]);
        p[i + 1] = _mm512_unpackhi_epi32(r[i], r[i + 1]);
    }
    /* r[4 * q + c]: of messages 4q to 4q + 3, word c in the first 128 bits, 4 + c in the next ... */
#pragma GCC unroll 4
    for (unsigned i = 0; i < 16; i += 4) {
        r[i] = _mm512_unpacklo_epi64(p[i], p[i + 2]);
        r[i + 1] = _mm512_unpackhi_epi64(p[i], p[i + 2]);
        r[i + 2] = _mm512_unpacklo_epi64(p[i + 1], p[i + 3]);
        r[i + 3] = _mm512_unpackhi_epi64(p[i + 1], p[i + 3]);
    }
#pragma GCC unroll 4
    for (unsigned c = 0; c < 4; c++) {
        const __m512i even_lo = _mm512_shuffle_i32x4(r[c], r[c + 4], 0x88);
        const __m512i odd_lo = _mm512_shuffle_i32x4(r[c], r[c + 4], 0xdd);
        const __m512i even_hi = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0x88);
        const __m512i odd_hi = _mm512_shuffle_i32x4(r[c + 8], r[c + 12], 0xdd);

        w[c] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(even_lo, even_hi, 0x88), bswap32);
        w[c + 4] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd_lo, odd_hi, 0x88), bswap32);
        w[c + 8] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(even_lo, even_hi, 0xdd), bswap32);
        w[c + 12] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd_lo, odd_hi, 0xdd), bswap32);
    }
}

/* Extends the schedule in its ring of 16: W[t + 16] in the place of W[t]. */
INLINE void extend(__m512i *w, unsigned t)
{
    const __m512i w1 = w[(t + 1) % 16], w14 = w[(t + 14) % 16];

    w[t % 16] = ADD(ADD(w[t % 16], w[(t + 9) % 16]),
                    ADD(XOR3(ROR(w1, 7), ROR(w1, 18), SHR(w1, 3)),
                        XOR3(ROR(w14, 17), ROR(w14, 19), SHR(w14, 10))));
    /* A compiler must not keep it in registers: it would push the states out of them. */
    __asm__ volatile("" : : "r"(w) : "memory");
}

/* Round t: the state's words stay, their names rotate: s[(j - t) % 8] is word j. */
INLINE void round1(__m512i *s, const __m512i *w, __m512i k, unsigned t)
{
    const __m512i a = s[(0 - t) % 8], b = s[(1 - t) % 8], c = s[(2 - t) % 8];
    const __m512i e = s[(4 - t) % 8], f = s[(5 - t) % 8], g = s[(6 - t) % 8];
    __m512i *d = &s[(3 - t) % 8], *h = &s[(7 - t) % 8];
    const __m512i t1 = ADD(ADD(ADD(*h, ADD(k, w[t % 16])), CH(e, f, g)),
                           XOR3(ROR(e, 6), ROR(e, 11), ROR(e, 25)));

    *d = ADD(*d, t1);
    *h = ADD(t1, ADD(MAJ(a, b, c), XOR3(ROR(a, 2), ROR(a, 13), ROR(a, 22))));
}

TARGET static void hash(const uint32_t *start, const size_t *counts,
                        const struct sha256_message *messages)
{
    const uint8_t *at[LANES];
    __m512i state[16], x[8], y[8], wx[16], wy[16];

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        state[i] = state[8 + i] = x[i] = y[i] = _mm512_set1_epi32((int)start[i]);
    for (unsigned part = 0; part < SHA256_PARTS; part++) {
        for (unsigned l = 0; l < LANES; l++)
            at[l] = messages[l].parts[part];
        for (size_t i = 0; i < counts[part]; i++) {
            load_words(wx, at, i * SHA256_BLOCK);
            load_words(wy, at + GROUP, i * SHA256_BLOCK);
            for (unsigned group = 0; group < 48; group += 16) {
#pragma GCC unroll 16
                for (unsigned t = 0; t < 16; t++) {
                    const __m512i k = _mm512_set1_epi32((int)sha256_k[group + t]);

                    round1(x, wx, k, t);
                    extend(wx, t);
                    round1(y, wy, k, t);
                    extend(wy, t);
                }
            }
#pragma GCC unroll 16
            for (unsigned t = 0; t < 16; t++) {
                const __m512i k = _mm512_set1_epi32((int)sha256_k[48 + t]);

                round1(x, wx, k, t);
                round1(y, wy, k, t);
            }
#pragma GCC unroll 8
            for (unsigned j = 0; j < 8; j++) {
                state[j] = x[j] = ADD(x[j], state[j]);
                state[8 + j] = y[j] = ADD(y[j], state[8 + j]);
            }
        }
    }
    /* Transposed back, wx[l] is the digest of lane l of x, then that of lane l of y. */
    for (unsigned i = 0; i < 16; i++)
        at[i] = (const uint8_t *)&state[i];
    load_words(wx, at, 0);
#pragma GCC unroll 16
    for (unsigned l = 0; l < GROUP; l++) {
        _mm256_storeu_si256((__m256i *)messages[l].digest, _mm512_castsi512_si256(wx[l]));
        _mm256_storeu_si256((__m256i *)messages[GROUP + l].digest,
                            _mm512_extracti64x4_epi64(wx[l], 1));
    }
}

static int supported(void)
{
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

const struct sha256_impl sha256_avx512 = {
    .name = "avx512",
    .lanes = LANES,
    .supported = supported,
    .hash = hash,
};

#endif
