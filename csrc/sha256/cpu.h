/* SPDX-License-Identifier: Apache-2.0
 *
 * cpu.h: what an x86-64 processor can do, asked of itself: the runtime libraries of compilers differ
 * in what they know (that of gcc 12 not SHA and GFNI, that of zig 0.17 nothing at all).
 */
#ifndef DMSIGN_SHA256_CPU_H
#define DMSIGN_SHA256_CPU_H

enum {
    CPU_SSE41 = 1,
    CPU_SHA = 2,
    CPU_AVX2 = 4,
    CPU_AVX512 = 8, /* F and BW */
    CPU_GFNI = 16,
};

/* Whether the processor has all of them, and the operating system keeps the registers. */
int cpu_has(unsigned features);

#endif
