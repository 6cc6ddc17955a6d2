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
    .hash = hash_two,
};

#endif
