/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target of tar/pax.c, tar/fields.c and erofs/xattr.c. The input is read as records
 * directly, with any traits; and as steps that put records, many and long, into local and global
 * headers of an archive. Whatever the pieces and the seed, the result must be the same. */
#include <errno.h>
#include <stdio.h>

#include "erofs/conversion.h"
#include "fuzz.h"
#include "tar/pax.h"

#define MAX_ARCHIVE ((size_t)2 << 20)
#define MAX_RECORDS ((size_t)128 << 10)

static const char *const keys[] = {
    "path", "linkpath", "mtime", "size", "uid", "gid", "comment", "path/", "GNU.sparse.",
    "SCHILY.xattr.", "SCHILY.xattr.user.", "SCHILY.xattr.trusted.", "SCHILY.xattr.security.",
    "SCHILY.xattr.system.posix_acl_access", "LIBARCHIVE.xattr.", "LIBARCHIVE.xattr.user."};

struct archive {
    uint8_t *tar;
    char *records; /* of the next header */
    size_t len, records_len;
};

static void add_header(struct archive *a, const char *name, char type, size_t size)
{
    char *const header = (char *)a->tar + a->len;

    snprintf(header, 100, "%s", name);
    memcpy(header + 100, "0000644", 7);
    memcpy(header + 108, "0000000", 7);
    memcpy(header + 116, "0000000", 7);
    snprintf(header + 124, 12, "%011zo", size);
    memcpy(header + 136, "00000000000", 11);
    header[156] = type;
    memcpy(header + 257, "ustar\00000", 8);
    mend_checksum((uint8_t *)header);
    a->len += TAR_BLOCK;
}

/* A record of a key with a suffix, and a value that is repeated. */
static void add_record(struct archive *a, unsigned key, const uint8_t *bytes, size_t suffix,
                       size_t len, unsigned repeat)
{
    const char *const name = keys[key % (sizeof(keys) / sizeof(*keys))];
    const size_t body = strlen(name) + suffix + (len - suffix) * repeat + 3;
    char *const start = a->records + a->records_len, *out;
    size_t total = body;

    for (unsigned i = 0; i < 5; i++)
        total = body + (size_t)snprintf(NULL, 0, "%zu", total);
    if (a->records_len + total + 20 > MAX_RECORDS)
        return;
    out = start + sprintf(start, "%zu %s", total, name);
    memcpy(out, bytes, suffix);
    out += suffix;
    *out++ = '=';
    for (unsigned i = 0; i < repeat; i++, out += len - suffix)
        memcpy(out, bytes + suffix, len - suffix);
    *out++ = '\n';
    a->records_len += (size_t)(out - start);
}

static void add_extension(struct archive *a, char type)
{
    add_header(a, "records", type, a->records_len);
    memcpy(a->tar + a->len, a->records, a->records_len);
    a->len += (a->records_len + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    a->records_len = 0;
}

static void add_entry(struct archive *a, unsigned step, unsigned which)
{
    static const char types[] = "0512";
    char name[8];

    snprintf(name, sizeof(name), "%s%c", step & 8 ? "d/" : "", 'a' + which % 5);
    add_header(a, name, types[step % 4], step & 4 && step % 4 == 0 ? 100 : 0);
    if (step & 4 && step % 4 == 0)
        a->len += TAR_BLOCK;
}

static void make_archive(struct archive *a, const uint8_t *input, size_t len)
{
    a->tar = calloc(1, MAX_ARCHIVE);
    a->records = malloc(MAX_RECORDS);
    EXPECT(a->tar && a->records);
    while (len >= 2 && a->len + 2 * MAX_RECORDS < MAX_ARCHIVE) {
        const unsigned step = input[0];
        const size_t n = input[1] < len - 2 ? input[1] : len - 2;

        if (step < 200)
            add_record(a, step, input + 2, step / 16 % 3 ? n / (1 + step / 64) : 0, n,
                       step < 100 ? 1 : 300);
        else if (step < 232)
            add_extension(a, step & 1 ? 'g' : 'x');
        else
            add_entry(a, step, input[1]);
        input += 2 + n;
        len -= 2 + n;
    }
    add_header(a, "last", '0', 0);
    a->len += 2 * TAR_BLOCK;
}

static int sink(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len)
{
    uint64_t *const hash = ctx;

    (void)offset;
    for (size_t i = 0; i < len; i++)
        *hash = (*hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return 0;
}

static int run(const struct conversion_options *o, const struct archive *a, size_t piece,
               uint64_t *hash)
{
    static const uint8_t uuid[16];
    const struct conversion_sink both = {hash, sink, sink};
    struct conversion *const c = conversion_new(o, &both);
    struct conversion_info info;
    int ret = 0;

    EXPECT(c);
    for (size_t at = 0, n; at < a->len && !ret; at += n) {
        n = piece < a->len - at ? piece : a->len - at;
        ret = conversion_update(c, a->tar + at, n);
    }
    if (!ret)
        ret = conversion_final(c, uuid, &info);
    EXPECT(ret <= 0 && ret != -EPROTO && (!ret || conversion_error(c)->reason));
    conversion_free(c);
    return ret;
}

static void parse_directly(const uint8_t *input, size_t len)
{
    const uint32_t traits = input[0] | (uint32_t)input[1] << 8;
    struct tar_fields fields = {.seed = input[2]};
    const char *reason = NULL;
    char *const records = malloc(len - 2);

    EXPECT(records);
    memcpy(records, input + 3, len - 3);
    records[len - 3] = '\0';
    const int ret = tar_pax_parse(&fields, traits, input[2] & 1, records, len - 3, &reason);

    EXPECT(ret <= 0 && (!ret || reason || ret == -ENOMEM));
    tar_fields_free(&fields);
    free(records);
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct archive a = {0};

    if (len < 4)
        return 0;
    parse_directly(input, len);
    make_archive(&a, input + 3, len - 3);
    for (int layout = LAYOUT_FULL; layout <= LAYOUT_INDEX; layout++) {
        struct conversion_options o = {
            .layout = (enum image_layout)layout,
            .group = mkfs_group_at(input[0] % 5),
            .lossy = input[2] & 1,
            .max_entries = 1 << 16,
            .max_metadata = 1 << 26,
            .seed = input[1],
        };
        uint64_t whole = 1, pieces = 1;
        const int ret = run(&o, &a, a.len, &whole);

        o.seed = 77;
        EXPECT(run(&o, &a, 1000, &pieces) == ret && (ret || whole == pieces));
    }
    free(a.tar);
    free(a.records);
    return 0;
}
