/* SPDX-License-Identifier: Apache-2.0
 *
 * What the libFuzzer targets share. */
#ifndef DMSIGN_FUZZ_H
#define DMSIGN_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define EXPECT(what)                                                                               \
    do {                                                                                           \
        if (!(what))                                                                               \
            abort();                                                                               \
    } while (0)

/* A copy on the heap, whose bounds AddressSanitizer knows. */
static inline void *copy_of(const void *bytes, size_t len)
{
    void *const copy = malloc(len + !len);

    EXPECT(copy);
    if (len)
        memcpy(copy, bytes, len);
    return copy;
}

static inline void mend_checksum(uint8_t *header)
{
    unsigned sum = 8 * ' ';

    for (unsigned i = 0; i < 500; i++)
        sum += i >= 148 && i < 156 ? 0 : header[i];
    for (unsigned i = 0; i < 6; i++)
        header[148 + i] = (uint8_t)('0' + (sum >> (15 - 3 * i) & 7));
    header[154] = 0;
    header[155] = ' ';
}

/* Gives whatever looks like a header a right checksum, or nothing behind it would be reached. */
static inline void mend_checksums(uint8_t *tar, size_t len)
{
    for (; len >= 512; tar += 512, len -= 512) {
        if (!memcmp(tar + 257, "ustar", 5))
            mend_checksum(tar);
    }
}

#endif
