/* SPDX-License-Identifier: Apache-2.0
 *
 * avx2.c: 32 products at once: of the lower and the upper four bits, each from a table of 16.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "impl.h"

#define TARGET __attribute__((target("avx2")))
#define INLINE TARGET static inline __attribute__((always_inline))

#define GROUP 4
#define ACROSS 2

INLINE __m256i table(const uint8_t *bytes)
{
    return _mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)bytes));
}

/* `count` sums stay in registers while all rows pass by. */
INLINE void add_group(const struct fec_field *field, struct fec_rows sums, const unsigned count,
                      struct fec_rows data, unsigned rows, fec_factors factors, unsigned first,
                      size_t width)
{
    const __m256i mask = _mm256_set1_epi8(15);

    for (size_t at = 0; at < width; at += ACROSS * sizeof(__m256i)) {
        __m256i sum[GROUP][ACROSS], low[ACROSS], high[ACROSS];

#pragma GCC unroll 4
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 2
            for (unsigned a = 0; a < ACROSS; a++)
                sum[k][a] = _mm256_loadu_si256(
                    (const __m256i *)(sums.bytes + k * sums.stride + at + 32 * a));
        for (unsigned i = 0; i < rows; i++) {
#pragma GCC unroll 2
            for (unsigned a = 0; a < ACROSS; a++) {
                const __m256i x = _mm256_loadu_si256(
                    (const __m256i *)(data.bytes + i * data.stride + at + 32 * a));

                low[a] = _mm256_and_si256(x, mask);
                high[a] = _mm256_and_si256(_mm256_srli_epi64(x, 4), mask);
            }
#pragma GCC unroll 4
            for (unsigned k = 0; k < count; k++) {
                const uint8_t *nibbles = field->nibbles[factors[i][first + k]];
                const __m256i lows = table(nibbles), highs = table(nibbles + 16);

#pragma GCC unroll 2
                for (unsigned a = 0; a < ACROSS; a++)
                    sum[k][a] = _mm256_xor_si256(
                        sum[k][a], _mm256_xor_si256(_mm256_shuffle_epi8(lows, low[a]),
                                                    _mm256_shuffle_epi8(highs, high[a])));
            }
        }
#pragma GCC unroll 4
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 2
            for (unsigned a = 0; a < ACROSS; a++)
                _mm256_storeu_si256((__m256i *)(sums.bytes + k * sums.stride + at + 32 * a),
                                    sum[k][a]);
    }
}

TARGET static void add(const struct fec_field *field, struct fec_rows sums, unsigned count,
                       struct fec_rows data, unsigned rows, fec_factors factors, size_t width)
{
    for (unsigned first = 0, taken; first < count; first += taken) {
        const unsigned left = count - first;
        const struct fec_rows to = {sums.bytes + first * sums.stride, sums.stride};

        taken = left >= 4 ? 4 : left >= 2 ? 2 : 1;
        switch (taken) {
        case 4:
            add_group(field, to, 4, data, rows, factors, first, width);
            break;
        case 2:
            add_group(field, to, 2, data, rows, factors, first, width);
            break;
        default:
            add_group(field, to, 1, data, rows, factors, first, width);
        }
    }
}

static int supported(void)
{
    return __builtin_cpu_supports("avx2");
}

const struct fec_impl fec_avx2 = {
    .name = "avx2",
    .supported = supported,
    .add = add,
};

#endif
