/* SPDX-License-Identifier: Apache-2.0
 *
 * cpu.c: cpuid, once: in a virtual machine it is slow.
 */
#if defined(__x86_64__)

#include <cpuid.h>
#include <stdatomic.h>

#include "cpu.h"

#define ASKED (1u << 31)
/* bits of XCR0 */
#define YMM_KEPT 0x06u
#define ZMM_KEPT 0xe6u

static unsigned ask(void)
{
    unsigned eax, ebx, ecx, edx, kept = 0, features = ASKED;

    if (!__get_cpuid(1, &eax, &ebx, &ecx, &edx))
        return features;
    if (ecx & bit_SSE4_1)
        features |= CPU_SSE41;
    if (ecx & bit_OSXSAVE)
        __asm__("xgetbv" : "=a"(kept), "=d"(edx) : "c"(0));
    if (!__get_cpuid_count(7, 0, &eax, &ebx, &ecx, &edx))
        return features;
    if (ebx & bit_SHA)
        features |= CPU_SHA;
    if ((ebx & bit_AVX2) && (kept & YMM_KEPT) == YMM_KEPT)
        features |= CPU_AVX2;
    if ((ebx & bit_AVX512F) && (ebx & bit_AVX512BW) && (kept & ZMM_KEPT) == ZMM_KEPT)
        features |= CPU_AVX512;
    if (ecx & bit_GFNI)
        features |= CPU_GFNI;
    return features;
}

int cpu_has(unsigned features)
{
    static atomic_uint known;
    unsigned has = atomic_load_explicit(&known, memory_order_relaxed);

    if (!has) /* threads that ask at once get the same answer */
        atomic_store_explicit(&known, has = ask(), memory_order_relaxed);
    return (has & features) == features;
}

#endif
