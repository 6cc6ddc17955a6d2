/* SPDX-License-Identifier: Apache-2.0 */
#include "header.h"

#include <string.h>

#include "mkfs_group.h"

size_t tar_text_len(const void *text, size_t max)
{
    const uint8_t *nul = memchr(text, '\0', max);

    return nul ? (size_t)(nul - (const uint8_t *)text) : max;
}

bool tar_octal(const uint8_t *field, size_t len, int64_t *value)
{
    const uint8_t *s = field, *const end = field + len;
    bool negative = false, any = false;
    uint64_t v = 0;

    while (s < end && (*s == ' ' || (*s >= '\t' && *s <= '\r')))
        s++;
    if (s < end && (*s == '-' || *s == '+'))
        negative = *s++ == '-';
    for (; s < end && *s >= '0' && *s <= '7'; s++, any = true)
        v = v << 3 | (uint64_t)(*s - '0');
    *value = (int64_t)(negative ? 0 - v : v);
    if (!any)
        return *field == ' ';
    return s == end || !*s || *s == ' ';
}

bool tar_number(const uint8_t *field, size_t len, uint32_t traits, int64_t *value)
{
    uint64_t v = 0;

    if (*field != 0x80 && !(*field == 0xff && traits & MKFS_NEGATIVE_256))
        return tar_octal(field, len, value);
    for (size_t i = 1; i < len; i++)
        v = v << 8 | field[i];
    *value = (int64_t)v;
    return true;
}

/* Sum of the first SUMMED bytes, eight at a time: every 16-bit lane stays below 62 * 510. */
static uint32_t byte_sum(const uint8_t *header)
{
    const uint64_t even = UINT64_C(0x00ff00ff00ff00ff);
    uint64_t lanes = 0, word;
    uint32_t sum = 0;
    size_t i = 0;

    for (; i + 8 <= SUMMED; i += 8) {
        memcpy(&word, header + i, 8);
        lanes += (word & even) + (word >> 8 & even);
    }
    for (; i < SUMMED; i++)
        sum += header[i];
    for (; lanes; lanes >>= 16)
        sum += lanes & 0xffff;
    return sum;
}

bool tar_checksum_ok(const uint8_t *header)
{
    int64_t said;
    uint32_t sum = byte_sum(header) + 8 * ' ';

    if (!tar_octal(header + CHECKSUM, TYPE - CHECKSUM, &said))
        return false;
    for (size_t i = CHECKSUM; i < TYPE; i++)
        sum -= header[i];
    if ((uint32_t)said == sum)
        return true;
    for (size_t i = 0; i < SUMMED; i++)
        sum -= header[i] & 0x80 && (i < CHECKSUM || i >= TYPE) ? 256 : 0;
    return (uint32_t)said == sum;
}

uint32_t tar_device(uint32_t major, uint32_t minor, uint32_t traits)
{
    if (!(traits & MKFS_DEV_64)) {
        /* an int holds all of it, sign-extended to 64 bits */
        const int32_t packed = (int32_t)(major << 8 | (minor & 0xff) | (minor & ~0xffu) << 12);
        const uint64_t dev = (uint64_t)(int64_t)packed;

        major = (uint32_t)((dev >> 8 & 0xfff) | (dev >> 32 & ~UINT64_C(0xfff)));
        minor = (uint32_t)((dev & 0xff) | (dev >> 12 & ~UINT64_C(0xff)));
    }
    return (minor & 0xff) | major << 8 | (minor & ~0xffu) << 12;
}
