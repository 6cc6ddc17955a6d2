/* SPDX-License-Identifier: Apache-2.0
 *
 * The fields of one 512-byte header block, read as mkfs.erofs reads them. */
#ifndef DMSIGN_TAR_HEADER_H
#define DMSIGN_TAR_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* struct posix_header: offset and width of the fields that matter */
enum {
    NAME = 0,
    MODE = 100,
    UID = 108,
    GID = 116,
    SIZE = 124,
    MTIME = 136,
    CHECKSUM = 148,
    TYPE = 156,
    LINK = 157,
    MAGIC = 257,
    MAJOR = 329,
    MINOR = 337,
    PREFIX = 345,
    SUMMED = 500,
    NAME_LEN = 100,
    PREFIX_LEN = 155,
    VOLUME_LEN = 16,
};

/* Length of a text that a NUL or its field's end ends. */
size_t tar_text_len(const void *text, size_t max);

/* strtoll in base 8 over a field; false where mkfs.erofs sees no number: tarerofs_otoi. */
bool tar_octal(const uint8_t *field, size_t len, int64_t *value);

/* Octal, or base 256 after a byte 0x80 (0xff: negative): tarerofs_parsenum. */
bool tar_number(const uint8_t *field, size_t len, uint32_t traits, int64_t *value);

/* Whether the checksum field fits the sum of unsigned or of signed bytes, over the first 500 bytes.
 */
bool tar_checksum_ok(const uint8_t *header);

/* A device number in Linux's "new" encoding: makedev and erofs_new_encode_dev. */
uint32_t tar_device(uint32_t major, uint32_t minor, uint32_t traits);

#endif
