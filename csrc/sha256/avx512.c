/* SPDX-License-Identifier: Apache-2.0
 *
 * avx512.c: 32 messages at once, two groups of 16 lanes of AVX-512.
 *
 * One group alone is bound by the latency of its rounds: the second fills the gaps. Two states of
 * eight vectors leave no registers for two schedules, so the schedules live in memory. The last 16
 * rounds of a block extend no schedule and leave gaps again: the next block is transposed in them.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "cpu.h"
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

/* A compiler must not keep what w points to in registers: it would push the states out of them. */
#define IN_MEMORY(w) __asm__ volatile("" : : "r"(w) : "memory")
/* Nor reorder a sum: what is known first has to be added first. */
#ifdef SIMDE_ENABLE_NATIVE_ALIASES
#define IN_ORDER(sum) (void)0 /* emulated: there are no vector registers */
#else
#define IN_ORDER(sum) __asm__("" : "+v"(sum))
#endif

/* The 16 words of a block of 16 messages are transposed in eight steps. First the four of four
 * messages each: half[4 * q + c] has, of messages 4q to 4q + 3, word c in its first 128 bits, word
 * 4 + c in the next ... */
INLINE void transpose_messages(__m512i *half, const uint8_t *const *data, size_t at, unsigned q)
{
    const __m512i r0 = _mm512_loadu_si512(data[4 * q] + at);
    const __m512i r1 = _mm512_loadu_si512(data[4 * q + 1] + at);
    const __m512i r2 = _mm512_loadu_si512(data[4 * q + 2] + at);
    const __m512i r3 = _mm512_loadu_si512(data[4 * q + 3] + at);
    const __m512i p0 = _mm512_unpacklo_epi32(r0, r1), p1 = _mm512_unpackhi_epi32(r0, r1);
    const __m512i p2 = _mm512_unpacklo_epi32(r2, r3), p3 = _mm512_unpackhi_epi32(r2, r3);

    half[4 * q] = _mm512_unpacklo_epi64(p0, p2);
    half[4 * q + 1] = _mm512_unpackhi_epi64(p0, p2);
    half[4 * q + 2] = _mm512_unpacklo_epi64(p1, p3);
    half[4 * q + 3] = _mm512_unpackhi_epi64(p1, p3);
    IN_MEMORY(half);
}

/* Then four words each: line[i] is word i of each of the 16 messages, here for i = c, 4 + c ... */
INLINE void transpose_words(__m512i *line, const __m512i *half, unsigned c)
{
    const __m512i bswap32 = _mm512_set_epi64(
        0x0c0d0e0f08090a0b, 0x0405060700010203, 0x0c0d0e0f08090a0b, 0x0405060700010203,
        0x0c0d0e0f08090a0b, 0x0405060700010203, 0x0c0d0e0f08090a0b, 0x0405060700010203);
    const __m512i even_lo = _mm512_shuffle_i32x4(half[c], half[c + 4], 0x88);
    const __m512i odd_lo = _mm512_shuffle_i32x4(half[c], half[c + 4], 0xdd);
    const __m512i even_hi = _mm512_shuffle_i32x4(half[c + 8], half[c + 12], 0x88);
    const __m512i odd_hi = _mm512_shuffle_i32x4(half[c + 8], half[c + 12], 0xdd);

    line[c] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(even_lo, even_hi, 0x88), bswap32);
    line[c + 4] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd_lo, odd_hi, 0x88), bswap32);
    line[c + 8] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(even_lo, even_hi, 0xdd), bswap32);
    line[c + 12] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd_lo, odd_hi, 0xdd), bswap32);
    IN_MEMORY(line);
}

/* Words c, 4 + c ... of the next block: those that are left of the line before, which the line
 * overwrites unless it begins a half later. */
INLINE void next_words(__m512i *w, const __m512i *half, unsigned late, unsigned c)
{
    w[c] = w[16 + c];
    w[c + 4] = w[20 + c];
    transpose_words(w + late, half, c);
}

/* Extends the schedule in its ring of 16: W[t + 16] in the place of W[t]. */
INLINE void extend(__m512i *w, unsigned t)
{
    const __m512i w1 = w[(t + 1) % 16], w14 = w[(t + 14) % 16];

    w[t % 16] =
        ADD(ADD(w[t % 16], w[(t + 9) % 16]), ADD(XOR3(ROR(w1, 7), ROR(w1, 18), SHR(w1, 3)),
                                                 XOR3(ROR(w14, 17), ROR(w14, 19), SHR(w14, 10))));
    IN_MEMORY(w);
}

/* A round of the group s, whose words are sa to sh: variables and macros, because gcc 12 leaves an
 * array in memory whose loops it unrolls late, and gcc 14 a struct whose address is taken. */
#define ROUND(s, a, b, c, d, e, f, g, h, w, k)                                                     \
    do {                                                                                           \
        __m512i t1 = ADD(ADD(s##h, w), k), t2;                                                     \
        IN_ORDER(t1);                                                                              \
        t1 = ADD(t1, CH(s##e, s##f, s##g));                                                        \
        IN_ORDER(t1);                                                                              \
        t1 = ADD(t1, XOR3(ROR(s##e, 6), ROR(s##e, 11), ROR(s##e, 25)));                            \
        t2 = ADD(MAJ(s##a, s##b, s##c), XOR3(ROR(s##a, 2), ROR(s##a, 13), ROR(s##a, 22)));         \
        s##d = ADD(s##d, t1);                                                                      \
        s##h = ADD(t1, t2);                                                                        \
    } while (0)

/* Round first + t of both. */
#define EXTENDING(a, b, c, d, e, f, g, h, t)                                                       \
    do {                                                                                           \
        const __m512i k = _mm512_set1_epi32((int)sha256_k[first + (t)]);                           \
        ROUND(x, a, b, c, d, e, f, g, h, wx[t], k);                                                \
        extend(wx, t);                                                                             \
        ROUND(y, a, b, c, d, e, f, g, h, wy[t], k);                                                \
        extend(wy, t);                                                                             \
    } while (0)

/* Round 48 + t of both. After the twelfth, words are free for those of the next block. */
#define LOADING(a, b, c, d, e, f, g, h, t)                                                         \
    do {                                                                                           \
        const __m512i k = _mm512_set1_epi32((int)sha256_k[48 + (t)]);                              \
        ROUND(x, a, b, c, d, e, f, g, h, wx[t], k);                                                \
        if ((t) < 8)                                                                               \
            transpose_messages(half, lines.at, lines.number *SHA256_BLOCK, (t) % 8);               \
        if ((t) >= 12)                                                                             \
            next_words(wx, half, late, (t) % 4);                                                   \
        ROUND(y, a, b, c, d, e, f, g, h, wy[t], k);                                                \
        if ((t) >= 12)                                                                             \
            next_words(wy, half + 16, late, (t) % 4);                                              \
    } while (0)

/* The state's words stay, their names rotate. */
#define EIGHT(ROUNDS, t)                                                                           \
    do {                                                                                           \
        ROUNDS(a, b, c, d, e, f, g, h, (t));                                                       \
        ROUNDS(h, a, b, c, d, e, f, g, (t) + 1);                                                   \
        ROUNDS(g, h, a, b, c, d, e, f, (t) + 2);                                                   \
        ROUNDS(f, g, h, a, b, c, d, e, (t) + 3);                                                   \
        ROUNDS(e, f, g, h, a, b, c, d, (t) + 4);                                                   \
        ROUNDS(d, e, f, g, h, a, b, c, (t) + 5);                                                   \
        ROUNDS(c, d, e, f, g, h, a, b, (t) + 6);                                                   \
        ROUNDS(b, c, d, e, f, g, h, a, (t) + 7);                                                   \
    } while (0)

#define FEED_FORWARD(s, saved)                                                                     \
    do {                                                                                           \
        (saved)[0] = s##a = ADD(s##a, (saved)[0]);                                                 \
        (saved)[1] = s##b = ADD(s##b, (saved)[1]);                                                 \
        (saved)[2] = s##c = ADD(s##c, (saved)[2]);                                                 \
        (saved)[3] = s##d = ADD(s##d, (saved)[3]);                                                 \
        (saved)[4] = s##e = ADD(s##e, (saved)[4]);                                                 \
        (saved)[5] = s##f = ADD(s##f, (saved)[5]);                                                 \
        (saved)[6] = s##g = ADD(s##g, (saved)[6]);                                                 \
        (saved)[7] = s##h = ADD(s##h, (saved)[7]);                                                 \
    } while (0)

/* Where the messages' lines, of 64 bytes, are. */
struct lines {
    const uint8_t *at[LANES];
    const size_t *counts;
    const struct sha256_message *messages;
    unsigned part;
    size_t number; /* in the part */
};

static void begin_part(struct lines *lines)
{
    while (lines->part < SHA256_PARTS && !lines->counts[lines->part])
        lines->part++;
    if (lines->part < SHA256_PARTS)
        for (unsigned l = 0; l < LANES; l++)
            lines->at[l] = lines->messages[l].parts[lines->part];
    lines->number = 0;
}

/* Goes to the next line; after the last it stays there. 0: there is none. */
static inline int next_line(struct lines *lines)
{
    if (++lines->number < lines->counts[lines->part])
        return 1;
    lines->part++;
    begin_part(lines);
    return lines->part < SHA256_PARTS;
}

INLINE void load_line(__m512i *wx, __m512i *wy, __m512i *half, const struct lines *lines,
                      unsigned late)
{
    for (unsigned q = 0; q < 8; q++)
        transpose_messages(half, lines->at, lines->number * SHA256_BLOCK, q);
    for (unsigned c = 0; c < 4; c++) {
        next_words(wx, half, late, c);
        next_words(wy, half + 16, late, c);
    }
}

/* late: 0, or 8 if the messages begin and end with the words behind the first 8 of a line. */
TARGET static void hash_from(const uint32_t *start, const size_t *counts,
                             const struct sha256_message *messages, unsigned late)
{
    struct lines lines = {.counts = counts, .messages = messages};
    __m512i saved[16], wx[24], wy[24], half[32];
    __m512i xa, xb, xc, xd, xe, xf, xg, xh, ya, yb, yc, yd, ye, yf, yg, yh;
    int more;

    for (unsigned j = 0; j < 8; j++) {
        saved[j] = saved[8 + j] = _mm512_set1_epi32((int)start[j]);
        wx[16 + j] = wy[16 + j] = _mm512_setzero_si512();
    }
    xa = ya = saved[0], xb = yb = saved[1], xc = yc = saved[2], xd = yd = saved[3];
    xe = ye = saved[4], xf = yf = saved[5], xg = yg = saved[6], xh = yh = saved[7];
    begin_part(&lines);
    load_line(wx, wy, half, &lines, late);
    if (late) {
        next_line(&lines);
        load_line(wx, wy, half, &lines, late);
    }
    do {
        /* After the last, a line is loaded once more, in vain. */
        more = next_line(&lines);
        for (unsigned first = 0; first < 48; first += 16) {
            EIGHT(EXTENDING, 0);
            EIGHT(EXTENDING, 8);
        }
        EIGHT(LOADING, 0);
        EIGHT(LOADING, 8);
        FEED_FORWARD(x, saved);
        FEED_FORWARD(y, saved + 8);
    } while (more);
    /* Transposed back, wx[l] is the digest of lane l of x, then that of lane l of y. */
    for (unsigned j = 0; j < 16; j++)
        lines.at[j] = (const uint8_t *)&saved[j];
    for (unsigned q = 0; q < 4; q++)
        transpose_messages(half, lines.at, 0, q);
    for (unsigned c = 0; c < 4; c++)
        transpose_words(wx, half, c);
    for (unsigned l = 0; l < GROUP; l++) {
        _mm256_storeu_si256((__m256i *)messages[l].digest, _mm512_castsi512_si256(wx[l]));
        _mm256_storeu_si256((__m256i *)messages[GROUP + l].digest,
                            _mm512_extracti64x4_epi64(wx[l], 1));
    }
}

TARGET static void hash(const uint32_t *start, const size_t *counts,
                        const struct sha256_message *messages)
{
    hash_from(start, counts, messages, 0);
}

TARGET static void hash_late(const uint32_t *start, const size_t *counts,
                             const struct sha256_message *messages)
{
    hash_from(start, counts, messages, 8);
}

static int supported(void)
{
    return cpu_has(CPU_AVX512);
}

const struct sha256_impl sha256_avx512 = {
    .name = "avx512",
    .lanes = LANES,
    .supported = supported,
    .hash = hash,
    .hash_late = hash_late,
};

#endif
