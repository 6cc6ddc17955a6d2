/* SPDX-License-Identifier: Apache-2.0
 *
 * portable.c: FIPS 180-4, section 6.2.2, in plain C.
 */
#include "impl.h"

#define INLINE static inline __attribute__((always_inline))

const uint32_t sha256_k[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

INLINE uint32_t ror(uint32_t x, unsigned n)
{
    return x >> n | x << (32 - n);
}

/* Extends the schedule in its ring of 16: W[t] in the place of W[t - 16]. */
INLINE void extend(uint32_t *w, unsigned t)
{
    const uint32_t w15 = w[(t + 1) % 16], w2 = w[(t + 14) % 16];

    w[t % 16] += w[(t + 9) % 16] + (ror(w15, 7) ^ ror(w15, 18) ^ w15 >> 3) +
                 (ror(w2, 17) ^ ror(w2, 19) ^ w2 >> 10);
}

/* Round t: the state's words stay, their names rotate: s[(j - t) % 8] is word j. The majority is a
 * sum of two parts that share no bit. */
INLINE void round1(uint32_t *s, const uint32_t *w, const uint32_t *k, unsigned t)
{
    const uint32_t a = s[(0 - t) % 8], b = s[(1 - t) % 8], c = s[(2 - t) % 8];
    const uint32_t e = s[(4 - t) % 8], f = s[(5 - t) % 8], g = s[(6 - t) % 8];
    uint32_t *d = &s[(3 - t) % 8], *h = &s[(7 - t) % 8];
    const uint32_t t1 = *h + k[t] + w[t % 16] + (g ^ (e & (f ^ g))) +
                        (ror(e, 6) ^ ror(e, 11) ^ ror(e, 25));

    *d += t1;
    *h = t1 + (a & b) + (c & (a ^ b)) + (ror(a, 2) ^ ror(a, 13) ^ ror(a, 22));
}

INLINE void compress(uint32_t *state, const uint8_t *p)
{
    uint32_t s[8], w[16];

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        s[i] = state[i];
#pragma GCC unroll 16
    for (unsigned t = 0; t < 16; t++) {
        w[t] = load_be32(p + 4 * t);
        round1(s, w, sha256_k, t);
    }
    for (unsigned group = 16; group < 64; group += 16) {
#pragma GCC unroll 16
        for (unsigned t = 0; t < 16; t++) {
            extend(w, t);
            round1(s, w, sha256_k + group, t);
        }
    }
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        state[i] += s[i];
}

static void hash(const uint32_t *start, const size_t *counts, const struct sha256_message *messages)
{
    uint32_t state[8];

#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        state[i] = start[i];
    for (unsigned part = 0; part < SHA256_PARTS; part++)
        for (size_t i = 0; i < counts[part]; i++)
            compress(state, messages->parts[part] + i * SHA256_BLOCK);
#pragma GCC unroll 8
    for (unsigned i = 0; i < 8; i++)
        store_be32(messages->digest + 4 * i, state[i]);
}

static int supported(void)
{
    return 1;
}

const struct sha256_impl sha256_portable = {
    .name = "portable",
    .lanes = 1,
    .supported = supported,
    .hash = hash,
};
