/* SPDX-License-Identifier: Apache-2.0
 *
 * nibbles.h: products of many bytes at once, of the lower and the upper four bits, each from a
 * table of 16, for an instruction set that looks up in such tables.
 *
 * The file that includes it has defined
 *   TARGET, a function attribute, maybe empty;
 *   vec, a vector of bytes, and ACROSS, how many of them are added side by side;
 *   vec load(const uint8_t *) and void store(uint8_t *, vec);
 *   vec table(const uint8_t *), 16 bytes for look_up; vec look_up(vec table, vec indices).
 */
#define INLINE TARGET static inline __attribute__((always_inline))

#define GROUP 4

/* `count` sums stay in registers while all rows pass by. */
INLINE void add_group(const struct fec_field *field, struct fec_rows sums, const unsigned count,
                      struct fec_rows data, unsigned rows, fec_factors factors, unsigned first,
                      size_t width)
{
    const size_t size = sizeof(vec);

    for (size_t at = 0; at < width; at += ACROSS * size) {
        vec sum[GROUP][ACROSS], low[ACROSS], high[ACROSS];

#pragma GCC unroll 4
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 4
            for (unsigned a = 0; a < ACROSS; a++)
                sum[k][a] = load(sums.bytes + k * sums.stride + at + a * size);
        for (unsigned i = 0; i < rows; i++) {
#pragma GCC unroll 4
            for (unsigned a = 0; a < ACROSS; a++) {
                const vec x = load(data.bytes + i * data.stride + at + a * size);

                low[a] = x & 15;
                high[a] = x >> 4;
            }
#pragma GCC unroll 4
            for (unsigned k = 0; k < count; k++) {
                const uint8_t *nibbles = field->nibbles[factors[i][first + k]];
                const vec lows = table(nibbles), highs = table(nibbles + 16);

#pragma GCC unroll 4
                for (unsigned a = 0; a < ACROSS; a++)
                    sum[k][a] ^= look_up(lows, low[a]) ^ look_up(highs, high[a]);
            }
        }
#pragma GCC unroll 4
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 4
            for (unsigned a = 0; a < ACROSS; a++)
                store(sums.bytes + k * sums.stride + at + a * size, sum[k][a]);
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
