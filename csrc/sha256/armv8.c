/* SPDX-License-Identifier: Apache-2.0
 *
 * armv8.c: the ARMv8 SHA2 instructions, two messages at once.
 */
#if defined(__aarch64__)

#if defined(__clang__) && !defined(__ARM_FEATURE_SHA2)
#define __ARM_FEATURE_SHA2 1 /* before clang 16 the header hides what a target attribute allows */
#endif
#include <arm_neon.h>
#if defined(__linux__)
#include <sys/auxv.h>
#endif

#include "impl.h"

#if defined(__clang__)
#define TARGET __attribute__((target("sha2")))
#else
#define TARGET __attribute__((target("+crypto")))
#endif

/* One message: its state as (A,B,C,D) and (E,F,G,H), and the last 16 words of its schedule. */
struct stream {
    uint32x4_t abcd, efgh, w[4];
};

TARGET static inline uint32x4_t load_be(const uint8_t *p)
{
    return vreinterpretq_u32_u8(vrev32q_u8(vld1q_u8(p)));
}

TARGET static inline void load_state(struct stream *s, const uint32_t *state)
{
    s->abcd = vld1q_u32(state);
    s->efgh = vld1q_u32(state + 4);
}

TARGET static inline void add_state(struct stream *s, const struct stream *before)
{
    s->abcd = vaddq_u32(s->abcd, before->abcd);
    s->efgh = vaddq_u32(s->efgh, before->efgh);
}

/* Four rounds; from the fifth four on, W is extended first. */
TARGET static inline __attribute__((always_inline)) void rounds(struct stream *s, unsigned four)
{
    uint32x4_t *w = &s->w[four % 4], wk, abcd = s->abcd;

    if (four >= 4)
        *w = vsha256su1q_u32(vsha256su0q_u32(*w, s->w[(four + 1) % 4]), s->w[(four + 2) % 4],
                             s->w[(four + 3) % 4]);
    wk = vaddq_u32(*w, vld1q_u32(&sha256_k[4 * four]));
    s->abcd = vsha256hq_u32(abcd, s->efgh, wk);
    s->efgh = vsha256h2q_u32(s->efgh, abcd, wk);
}

TARGET static inline void store_digest(const struct stream *s, uint8_t *digest)
{
    vst1q_u8(digest, vrev32q_u8(vreinterpretq_u8_u32(s->abcd)));
    vst1q_u8(digest + 16, vrev32q_u8(vreinterpretq_u8_u32(s->efgh)));
}

#include "in_step.h"

static int supported(void)
{
#if defined(__linux__)
    return (getauxval(AT_HWCAP) & HWCAP_SHA2) != 0;
#else
    return 1; /* every other 64-bit ARM system of today has it */
#endif
}

const struct sha256_impl sha256_armv8 = {
    .name = "armv8",
    .lanes = 2,
    .supported = supported,
    .hash = hash_two,
};

#endif
