/* SPDX-License-Identifier: Apache-2.0
 *
 * neon.c: 16 products at once.
 */
#if defined(__aarch64__)

#include <arm_neon.h>

#include "impl.h"

#define TARGET
#define ACROSS 4
#define load vld1q_u8
#define store vst1q_u8
#define table vld1q_u8
#define look_up vqtbl1q_u8

typedef uint8x16_t vec;

#include "nibbles.h"

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
