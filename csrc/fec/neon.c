/* SPDX-License-Identifier: Apache-2.0
 *
 * neon.c: 16 products at once: of the lower and the upper four bits, each from a table of 16.
 */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "impl.h"

#define INLINE static inline __attribute__((always_inline))

#define GROUP 4
#define ACROSS 4

/* `count` sums stay in registers while all rows pass by. */
INLINE void add_group(const struct fec_field *field, struct fec_rows sums, const unsigned count,
                      struct fec_rows data, unsigned rows, fec_factors factors, unsigned first,
                      size_t width)
{
    for (size_t at = 0; at < width; at += ACROSS * sizeof(uint8x16_t)) {
        uint8x16_t sum[GROUP][ACROSS], low[ACROSS], high[ACROSS];

#pragma GCC unroll 4
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 4
            for (unsigned a = 0; a < ACROSS; a++)
                sum[k][a] = vld1q_u8(sums.bytes + k * sums.stride + at + 16 * a);
        for (unsigned i = 0; i < rows; i++) {
#pragma GCC unroll 4
            for (unsigned a = 0; a < ACROSS; a++) {
                const uint8x16_t x = vld1q_u8(data.bytes + i * data.stride + at + 16 * a);

                low[a] = vandq_u8(x, vdupq_n_u8(15));
                high[a] = vshrq_n_u8(x, 4);
            }
#pragma GCC unroll 4
            for (unsigned k = 0; k < count; k++) {
                const uint8_t *nibbles = field->nibbles[factors[i][first + k]];
                const uint8x16_t lows = vld1q_u8(nibbles), highs = vld1q_u8(nibbles + 16);

#pragma GCC unroll 4
                for (unsigned a = 0; a < ACROSS; a++)
                    sum[k][a] = veorq_u8(sum[k][a], veorq_u8(vqtbl1q_u8(lows, low[a]),
                                                             vqtbl1q_u8(highs, high[a])));
            }
        }
#pragma GCC unroll 4
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 4
            for (unsigned a = 0; a < ACROSS; a++)
                vst1q_u8(sums.bytes + k * sums.stride + at + 16 * a, sum[k][a]);
    }
}

static void add(const struct fec_field *field, struct fec_rows sums, unsigned count,
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
    return 1; /* part of every 64-bit ARM processor that runs a general system */
}

const struct fec_impl fec_neon = {
    .name = "neon",
    .supported = supported,
    .add = add,
};

#endif
