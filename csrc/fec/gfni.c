/* SPDX-License-Identifier: Apache-2.0
 *
 * gfni.c: 64 products at once by GFNI with AVX-512.
 *
 * gf2p8mulb is of another field (0x11b); gf2p8affineqb multiplies by any matrix of bits, and to
 * multiply by a constant is one.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "../sha256/cpu.h"
#include "impl.h"

#define TARGET __attribute__((target("gfni,avx512f,avx512bw")))
#define INLINE TARGET static inline __attribute__((always_inline))

#define GROUP 8

/* `count` sums stay in registers, for `across` registers' width, while all rows pass by. */
INLINE void add_group(struct fec_rows sums, const unsigned count, struct fec_rows data,
                      unsigned rows, const uint64_t (*matrices)[GROUP], size_t width,
                      const unsigned across)
{
    for (size_t at = 0; at < width; at += across * sizeof(__m512i)) {
        __m512i sum[GROUP][4], x[4];

#pragma GCC unroll 8
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 4
            for (unsigned a = 0; a < across; a++)
                sum[k][a] = _mm512_loadu_si512(sums.bytes + k * sums.stride + at + 64 * a);
        for (unsigned i = 0; i < rows; i++) {
#pragma GCC unroll 4
            for (unsigned a = 0; a < across; a++)
                x[a] = _mm512_loadu_si512(data.bytes + i * data.stride + at + 64 * a);
#pragma GCC unroll 8
            for (unsigned k = 0; k < count; k++) {
                const __m512i matrix = _mm512_set1_epi64((long long)matrices[i][k]);

#pragma GCC unroll 4
                for (unsigned a = 0; a < across; a++)
                    sum[k][a] = _mm512_xor_si512(sum[k][a],
                                                 _mm512_gf2p8affine_epi64_epi8(x[a], matrix, 0));
            }
        }
#pragma GCC unroll 8
        for (unsigned k = 0; k < count; k++)
#pragma GCC unroll 4
            for (unsigned a = 0; a < across; a++)
                _mm512_storeu_si512(sums.bytes + k * sums.stride + at + 64 * a, sum[k][a]);
    }
}

TARGET static void add(const struct fec_field *field, struct fec_rows sums, unsigned count,
                       struct fec_rows data, unsigned rows, fec_factors factors, size_t width)
{
    for (unsigned first = 0, taken; first < count; first += taken) {
        uint64_t matrices[FEC_BATCH][GROUP];
        const unsigned left = count - first;
        const struct fec_rows to = {sums.bytes + first * sums.stride, sums.stride};

        taken = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        for (unsigned i = 0; i < rows; i++)
            for (unsigned k = 0; k < taken; k++)
                matrices[i][k] = field->matrices[factors[i][first + k]];
        switch (taken) {
        case 8:
            add_group(to, 8, data, rows, matrices, width, 2);
            break;
        case 4:
            add_group(to, 4, data, rows, matrices, width, 4);
            break;
        case 2:
            add_group(to, 2, data, rows, matrices, width, 4);
            break;
        default:
            add_group(to, 1, data, rows, matrices, width, 4);
        }
    }
}

static int supported(void)
{
    return cpu_has(CPU_GFNI | CPU_AVX512);
}

const struct fec_impl fec_gfni = {
    .name = "gfni",
    .supported = supported,
    .add = add,
};

#endif
