/* SPDX-License-Identifier: Apache-2.0
 *
 * avx2.c: 32 products at once.
 */
#if defined(__x86_64__)

#include <immintrin.h>

#include "../sha256/cpu.h"
#include "impl.h"

#define TARGET __attribute__((target("avx2")))
#define ACROSS 2

typedef uint8_t vec __attribute__((vector_size(32)));

TARGET static inline vec load(const uint8_t *bytes)
{
    return (vec)_mm256_loadu_si256((const __m256i *)bytes);
}

TARGET static inline void store(uint8_t *bytes, vec x)
{
    _mm256_storeu_si256((__m256i *)bytes, (__m256i)x);
}

TARGET static inline vec table(const uint8_t *bytes)
{
    return (vec)_mm256_broadcastsi128_si256(_mm_loadu_si128((const __m128i *)bytes));
}

TARGET static inline vec look_up(vec table, vec indices)
{
    return (vec)_mm256_shuffle_epi8((__m256i)table, (__m256i)indices);
}

#include "nibbles.h"

static int supported(void)
{
    return cpu_has(CPU_AVX2);
}

const struct fec_impl fec_avx2 = {
    .name = "avx2",
    .supported = supported,
    .add = add,
};

#endif
