/* SPDX-License-Identifier: Apache-2.0
 *
 * shani.c: x86 SHA extensions, two messages at once.
 *
 * SHA256RNDS2 has a latency of 4 cycles and a message is one chain of 32 of them a block: a second
 * message fills the gaps of the first.
 */
#if defined(__x86_64__)

#include "cpu.h"
#include "shani.h"

static int supported(void)
{
    return cpu_has(CPU_SHA | CPU_SSE41);
}

const struct sha256_impl sha256_shani = {
    .name = "shani",
    .lanes = 2,
    .supported = supported,
    .hash = hash_two,
};

#endif
