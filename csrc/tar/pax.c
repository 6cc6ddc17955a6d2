/* SPDX-License-Identifier: Apache-2.0 */
#include "pax.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "mkfs_group.h"

static bool is_space(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* sscanf("%lld %n") on a NUL-terminated string: characters used, 0 if there is no number. */
static size_t scan_number(const char *s, long long *value)
{
    const char *p = s;
    bool negative = false, any = false;
    unsigned long long v = 0;

    while (is_space(*p))
        p++;
    if (*p == '-' || *p == '+')
        negative = *p++ == '-';
    for (; *p >= '0' && *p <= '9'; p++) {
        any = true;
        const unsigned digit = (unsigned)(*p - '0');

        v = v > (LLONG_MAX - digit) / 10ull ? (unsigned long long)LLONG_MAX + negative
                                            : v * 10 + digit;
    }
    if (!any)
        return 0;
    while (is_space(*p))
        p++;
    *value = negative ? (long long)(0 - v) : (long long)v;
    return (size_t)(p - s);
}

static int hex(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'A' && c <= 'F')
        return c - 'A' + 10;
    if (c >= 'a' && c <= 'f')
        return c - 'a' + 10;
    return -1;
}

/* In place; the new length. */
static size_t percent_decode(char *s, size_t len)
{
    size_t out = 0;

    for (size_t i = 0; i < len && s[i]; out++) {
        const bool escape = s[i] == '%' && len - i > 2 && hex(s[i + 1]) >= 0 && hex(s[i + 2]) >= 0;

        s[out] = escape ? (char)(hex(s[i + 1]) << 4 | hex(s[i + 2])) : s[i];
        i += escape ? 3 : 1;
    }
    return out;
}

static int base64_digit(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *p = c ? strchr(digits, c) : NULL;

    return p ? (int)(p - digits) : -1;
}

/* In place; the new length or -EINVAL. Before MKFS_BASE64 the bits came out in another order:
 * base64_decode, kept as it was since nodes of that version build their images with it. */
static long base64_decode(char *s, size_t len, uint32_t traits)
{
    const bool padded = len && len % 4 == 0;
    unsigned bits = 0;
    uint32_t acc = 0;
    size_t out = 0;

    if (padded && s[len - 1] == '=')
        len -= 1 + (s[len - 2] == '=');
    for (size_t i = 0; i < len; i++) {
        const int digit = base64_digit(s[i]);

        if (digit < 0)
            return -EINVAL;
        acc = traits & MKFS_BASE64 ? acc << 6 | (uint32_t)digit : acc + ((uint32_t)digit << bits);
        bits += 6;
        if (bits < 8)
            continue;
        bits -= 8;
        if (traits & MKFS_BASE64) {
            s[out++] = (char)(acc >> bits);
        } else {
            s[out++] = (char)acc;
            acc >>= 8;
        }
    }
    if (traits & MKFS_BASE64)
        acc &= (1u << bits) - 1;
    if (acc) {
        if (padded || acc > 0xff)
            return -EINVAL;
        s[out++] = (char)acc;
    }
    return (long)out;
}

static int parse_mtime(struct tar_fields *fields, uint32_t traits, const char *value)
{
    long long seconds, digits;
    size_t n = scan_number(value, &seconds);

    if (!n)
        return -EINVAL;
    fields->nsec = 0;
    if (!(traits & MKFS_NSEC_DIGITS)) {
        if (value[n] == '.') {
            if (!scan_number(value + n + 1, &digits))
                return -EINVAL;
            fields->nsec = (uint32_t)digits; /* ".5" is 5 ns in these versions */
        }
    } else if (value[n] == '.') {
        unsigned place = 0;

        for (n++; value[n] >= '0' && value[n] <= '9'; n++, place++) {
            if (place < 9)
                fields->nsec = fields->nsec * 10 + (uint32_t)(value[n] - '0');
        }
        if (!place || value[n])
            return -EINVAL;
        for (; place < 9; place++)
            fields->nsec *= 10;
        if (fields->nsec && value[0] == '-') {
            if (seconds == LLONG_MIN)
                return -EINVAL;
            seconds--;
            fields->nsec = 1000000000 - fields->nsec;
        }
    } else if (value[n]) {
        return -EINVAL;
    }
    fields->mtime = seconds;
    fields->has_mtime = true;
    return 0;
}

/* A whole number that fills its value; an empty value unsets where the version knows that. */
static int parse_whole(uint32_t traits, const char *value, bool *has, long long *number)
{
    if (!*value && traits & MKFS_PAX_EMPTY) {
        *has = false;
        return 0;
    }
    const size_t n = scan_number(value, number);

    if (!n || value[n])
        return -EINVAL;
    *has = true;
    return 0;
}

static int parse_string(struct tar_text *text, uint32_t traits, const char *value, size_t len,
                        bool path, const char **reason)
{
    const char *const nul = memchr(value, '\0', len);

    if (nul && len > TAR_MAX_NUL_PATH) {
        *reason = "NUL in a long PAX path: mkfs.erofs reads memory that it does not own";
        return -EINVAL;
    }
    /* mkfs.erofs takes what is before a NUL, and looks for slashes to cut at the record's end */
    if (nul)
        len = (size_t)(nul - value);
    if (!len && traits & MKFS_PAX_EMPTY) {
        text->set = false;
        return 0;
    }
    while (path && !nul && len && value[len - 1] == '/')
        len--;
    if (len > TAR_MAX_PATH) {
        *reason = "path too long";
        return -ENAMETOOLONG;
    }
    return tar_text_set(text, value, len);
}

/* One record: `value` runs to `end`, where a NUL stands in for the newline. */
static int parse_record(struct tar_fields *fields, uint32_t traits, bool lossy, char *key,
                        char *value, char *end, const char **reason)
{
    static const char schily[] = "SCHILY.xattr.", libarchive[] = "LIBARCHIVE.xattr.",
                      sparse[] = "GNU.sparse.";
    const size_t key_len = (size_t)(value - key) - 1, len = (size_t)(end - value);
    long long number = 0;
    int ret;

#define IS(word) (key_len == sizeof(word) - 1 && !memcmp(key, word, sizeof(word) - 1))
#define STARTS(word) (key_len >= sizeof(word) - 1 && !memcmp(key, word, sizeof(word) - 1))
    if (IS("path"))
        return parse_string(&fields->path, traits, value, len, true, reason);
    if (IS("linkpath"))
        return parse_string(&fields->link, traits, value, len, false, reason);
    if (IS("mtime")) {
        if (*value || !(traits & MKFS_PAX_EMPTY))
            return parse_mtime(fields, traits, value);
        fields->has_mtime = false;
        return 0;
    }
    if (IS("size")) {
        ret = parse_whole(traits, value, &fields->has_size, &number);
        if (!ret && (number < 0 || (uint64_t)number > TAR_MAX_SIZE)) {
            *reason = "impossible size in a PAX header";
            return -EFBIG;
        }
        fields->size = (uint64_t)number;
        return ret;
    }
    if (IS("uid")) {
        ret = parse_whole(traits, value, &fields->has_uid, &number);
        fields->uid = (uint32_t)number;
        return ret;
    }
    if (IS("gid")) {
        ret = parse_whole(traits, value, &fields->has_gid, &number);
        fields->gid = (uint32_t)number;
        return ret;
    }
    if (STARTS(schily)) {
        key += sizeof(schily) - 1;
        return tar_fields_xattr(fields, (uint8_t *)key, key_len - (sizeof(schily) - 1),
                                (uint8_t *)value, len, reason);
    }
    if (STARTS(libarchive)) {
        key += sizeof(libarchive) - 1;
        const size_t name_len = percent_decode(key, key_len - (sizeof(libarchive) - 1));
        const long value_len = base64_decode(value, len, traits);

        if (value_len < 0) {
            *reason = "bad base64 in a LIBARCHIVE.xattr record";
            return -EINVAL;
        }
        return tar_fields_xattr(fields, (uint8_t *)key, name_len, (uint8_t *)value,
                                (size_t)value_len, reason);
    }
    if (STARTS(sparse) && !lossy) {
        *reason = "sparse file: mkfs.erofs stores its map and fragments instead of the file";
        return -ENOTSUP;
    }
    return 0;
#undef IS
#undef STARTS
}

int tar_pax_parse(struct tar_fields *fields, uint32_t traits, bool lossy, char *bytes, size_t len,
                  const char **reason)
{
    char *p = bytes, *const end = bytes + len;

    *reason = "malformed PAX record";
    while (p < end) {
        long long number;
        const size_t n = scan_number(p, &number);
        const long record = (int)number; /* mkfs.erofs reads it with %d */

        if (!n || record <= (long)n || record > end - p || p[record - 1] != '\n')
            return -EINVAL;
        char *const key = p + n;

        p += record;
        p[-1] = '\0';
        char *const value = memchr(key, '=', (size_t)(p - key));

        if (!value)
            return -EINVAL;
        const int ret = parse_record(fields, traits, lossy, key, value + 1, p - 1, reason);

        if (ret) {
            if (ret == -E2BIG)
                *reason = "too many or too large extended attributes";
            return ret;
        }
    }
    *reason = NULL;
    return 0;
}
