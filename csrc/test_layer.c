/* SPDX-License-Identifier: Apache-2.0
 *
 * What a comparison with mkfs.erofs cannot reach: memory and sinks that fail, bounds, depth. Needs
 * -Wl,--wrap= for malloc, calloc, realloc and free. */
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "erofs/conversion.h"
#include "test_archive.h"

/* ---- conversions ---- */

struct run {
    struct conversion_options options;
    size_t piece;        /* 0: all at once */
    uint8_t uuid;        /* its first byte */
    unsigned sink_fails; /* at this call */
    /* results */
    unsigned sink_calls;
    uint64_t data, meta, super; /* digests; super: of the first call of meta */
    uint64_t data_end, meta_end;
    struct tar_error error;
    struct conversion_info info;
};

static uint64_t digest(uint64_t hash, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static int on_data(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len)
{
    struct run *r = ctx;

    if (++r->sink_calls == r->sink_fails)
        return -EIO;
    CHECK(len && offset == r->data_end);
    r->data_end += len;
    r->data = digest(r->data, bytes, len);
    return 0;
}

static int on_meta(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len)
{
    struct run *r = ctx;
    const bool full = r->options.layout == LAYOUT_FULL;
    const uint64_t behind = full && r->meta_end == 4096 ? r->data_end : r->meta_end;

    if (++r->sink_calls == r->sink_fails)
        return -EIO;
    CHECK(len && len % (full ? 4096 : 512) == 0 && offset == behind);
    *(offset ? &r->meta : &r->super) = digest(offset ? r->meta : 0, bytes, len);
    r->meta_end = offset + len;
    return 0;
}

static int convert(struct run *r)
{
    const struct conversion_sink sink = {r, on_data, on_meta};
    const uint8_t uuid[16] = {r->uuid};
    struct conversion *l;
    int ret = 0;

    r->sink_calls = 0;
    r->data = r->meta = r->super = r->meta_end = 0;
    r->data_end = r->options.layout == LAYOUT_FULL ? 4096 : 0;
    l = conversion_new(&r->options, &sink);
    if (!l)
        return -ENOMEM;
    for (size_t at = 0, n; at < tar.len && !ret; at += n) {
        n = r->piece && r->piece < tar.len - at ? r->piece : tar.len - at;
        ret = conversion_update(l, tar.bytes + at, n);
    }
    if (!ret)
        ret = conversion_final(l, uuid, &r->info);
    r->error = *conversion_error(l);
    CHECK(r->error.code == ret && !r->error.reason == !ret);
    CHECK(conversion_update(l, tar.bytes, 0) == (ret ? ret : -EINVAL));
    CHECK(conversion_final(l, uuid, &r->info) == (ret ? ret : -EINVAL));
    conversion_free(l);
    if (!ret) {
        const uint64_t end = r->meta_end > r->data_end ? r->meta_end : r->data_end;

        CHECK(r->options.layout == LAYOUT_INDEX || r->info.image_size == end);
        CHECK(r->options.layout == LAYOUT_FULL || r->info.image_size == r->meta_end);
        CHECK(r->options.layout == LAYOUT_FULL || r->data_end == tar.len);
    }
    return ret;
}

static struct run run_of(enum image_layout layout)
{
    return (struct run){.options = {.layout = layout, .group = mkfs_group_of("1.9.4")}};
}

/* ---- tests ---- */

static void test_options(void)
{
    struct run r = run_of(LAYOUT_FULL);

    CHECK(!mkfs_group_of("1.9") && !mkfs_group_of("") && !mkfs_group_of("1.9.4 "));
    CHECK(!strcmp(mkfs_group_of("1.8.10")->name, "1.8.8-1.8.10") && !mkfs_group_at(5));
    r.options.layout = (enum image_layout)2;
    CHECK(convert(&r) == -ENOMEM);
    r.options.layout = LAYOUT_FULL;
    r.options.group = NULL;
    CHECK(convert(&r) == -ENOMEM);
    conversion_free(NULL);
}

static void test_memory(enum image_layout layout)
{
    struct run r = run_of(layout);

    make_mixed();
    for (unsigned long at = 1;; at++) {
        const long before = live;

        allocations = 0;
        fail_at = at;
        const int ret = convert(&r);

        fail_at = 0;
        CHECK(live == before);
        if (!ret) {
            CHECK(allocations < at && at > 50);
            break;
        }
        CHECK(ret == -ENOMEM);
        CHECK(!r.error.code || !strcmp(r.error.reason, "out of memory"));
        r.error.code = 0; /* conversion_new leaves it */
    }
}

static void test_sinks(enum image_layout layout)
{
    struct run r = run_of(layout);
    const long before = live;

    make_mixed();
    r.piece = 10000;
    for (r.sink_fails = 1; convert(&r); r.sink_fails++)
        CHECK(r.error.code == -EIO && !strcmp(r.error.reason, "the sink failed") && live == before);
    CHECK(r.sink_fails > 10 && r.sink_calls == r.sink_fails - 1);
}

static void test_same(enum image_layout layout, const struct mkfs_group *group)
{
    static const size_t pieces[] = {1, 511, 512, 513, 4097};
    static const uint64_t seeds[] = {1, UINT64_C(0x123456789abcdef1), UINT64_MAX};
    struct run want = run_of(layout);

    want.options.group = group;
    make_mixed();
    want.options.lossy = true;
    CHECK(!convert(&want));
    for (unsigned i = 0; i < 5; i++) {
        struct run r = want;

        r.piece = pieces[i];
        r.options.seed = seeds[i % 3];
        CHECK(!convert(&r));
        CHECK(r.data == want.data && r.meta == want.meta && r.super == want.super);
        CHECK(!memcmp(&r.info, &want.info, sizeof(r.info)));
        r.uuid = 1;
        CHECK(!convert(&r));
        CHECK(r.data == want.data && r.meta == want.meta && r.super != want.super);
    }
}

/* More metadata than the writer holds at once: a directory's blocks, then inodes. */
static void test_window(enum image_layout layout)
{
    struct run r = run_of(layout);
    char name[100];

    tar.len = 0;
    for (unsigned i = 0; i < 40000; i++) {
        snprintf(name, sizeof(name), "a directory with many files/%08x.file", i * 2654435761u);
        add_entry(i % 100 ? '0' : '2', name, filled('t', 90));
    }
    add(2 * TAR_BLOCK);
    most_held = 0;
    CHECK(!convert(&r) && r.info.inodes == 40002);
    CHECK(most_held < (2 << 20) + 40002 * 200); /* arrays half empty included */
    CHECK(r.sink_calls > 3 && r.meta_end > 3 << 20);
}

static void test_depth(enum image_layout layout)
{
    struct run r = run_of(layout);

    tar.len = 0;
    for (unsigned i = 0; i < 3; i++) {
        add_deep('0', 16000);
        add_deep('2', 15999);
    }
    add(2 * TAR_BLOCK);
    CHECK(!convert(&r) && r.info.inodes == 16001 + 2);
    tar.len -= 2 * TAR_BLOCK;
    add_entry('0', "d", "");
    add(2 * TAR_BLOCK);
    CHECK(!convert(&r) && r.info.inodes == 2);
}

static void refuses(struct run *r, int code, const char *reason, const char *name)
{
    int ret;

    add(2 * TAR_BLOCK);
    ret = convert(r);
    tar.len = 0;
    if (ret == code && strstr(r->error.reason, reason) && !strcmp(r->error.name, name)) {
        checks++;
        return;
    }
    fprintf(stderr, "wanted %d %s '%s', got %d %s '%s'\n", code, reason, name, ret,
            r->error.reason ? r->error.reason : "", r->error.name);
    exit(1);
}

/* So many bytes of which only the first two come before a NUL. */
static const char *nul_behind(size_t len)
{
    static char text[2 * TAR_MAX_NUL_PATH];

    memset(text, 'n', len);
    text[2] = '\0';
    return text;
}

static void test_entry_bounds(enum image_layout layout)
{
    struct run r = run_of(layout);

    r.options.max_entries = 4;
    for (int type = '0'; type <= '1'; type++) { /* inodes; names */
        for (int i = 0; i < 5 + (type == '1'); i++) {
            tar.len = 0;
            add_entry('0', "first", "");
            for (int j = 1; j < i; j++)
                add_entry((char)type, (char[]){'f', (char)('0' + j), 0}, "first");
            if (i < 4 + (type == '1')) {
                add(2 * TAR_BLOCK);
                CHECK(!convert(&r));
            }
        }
        refuses(&r, -E2BIG, "too many entries", type == '1' ? "f4" : "f3");
    }
    for (int i = 0; i < 5; i++) {
        add_pax('x', "SCHILY.xattr.user.a=", "b", 1);
        add_entry('5', "dir", "");
    }
    refuses(&r, -E2BIG, "too many extended attributes", "dir");
    r.options.max_entries = 0;
    r.options.max_metadata = 20000;
    for (int i = 0; i < 300; i++) {
        char name[64];

        snprintf(name, sizeof(name), "%060d", i);
        add_entry('0', name, "");
    }
    refuses(&r, -EFBIG, "too much metadata", "");
    for (int i = 0; i < 5; i++) {
        add_pax('x', "linkpath=", filled('l', 5000), 5000);
        add_entry('2', (char[]){'s', (char)('0' + i), 0}, "");
    }
    refuses(&r, -EFBIG, "too much metadata", "s3");
    add_pax('g', "SCHILY.xattr.user.a=", filled('v', 6000), 6000);
    for (int i = 0; i < 5; i++)
        add_entry('0', "file", "");
    add_entry('0', "last", "");
    refuses(&r, -EFBIG, "too much metadata", "file");
}

static void test_name_bounds(enum image_layout layout)
{
    struct run r = run_of(layout);
    const size_t sum = 4 * (UINT16_MAX - 1); /* 16 bits count an inode's xattrs in words of 4 */

    add_pax('x', "path=", filled('n', 255), 255);
    add_entry('0', "short", "");
    add_pax('x', "path=", filled('n', 256), 256);
    add_entry('0', "short", "");
    refuses(&r, -ENAMETOOLONG, "name above 255 bytes", filled('n', 255));
    add_pax('x', "path=", filled('/', TAR_MAX_PATH + 1), TAR_MAX_PATH + 1);
    add_entry('5', "fine: slashes at the end", "");
    add_pax('x', "path=", deep(16382), 32768);
    refuses(&r, -ENAMETOOLONG, "path too long", "extension");
    add_pax('x', "SCHILY.xattr.user.v=", filled('v', UINT16_MAX + 1), UINT16_MAX + 1);
    add_entry('0', "value", "");
    refuses(&r, -ERANGE, "too large for EROFS", "value");
    for (size_t i = 0; i < 5; i++) {
        char key[] = "SCHILY.xattr.user.0=";

        key[18] = (char)('0' + i);
        /* each has 4 bytes of its own, 1 of its name, and fills whole words */
        add_pax('g', key, filled('v', 60000), i < 4 ? 60000 : sum - 4 * 60008 - 5);
    }
    add_entry('0', "full", "");
    add_pax('x', "SCHILY.xattr.user.5=", "", 0);
    add_entry('0', "overfull", "");
    refuses(&r, -ERANGE, "too large for EROFS", "overfull");
    add_pax('x', "comment=", filled('c', TAR_MAX_HEADER), TAR_MAX_HEADER);
    refuses(&r, -E2BIG, "extension header too large", "extension");
    for (unsigned i = 0; i <= TAR_MAX_XATTRS; i++) {
        char key[64];

        snprintf(key, sizeof(key), "SCHILY.xattr.user.%u=", i);
        add_pax('g', key, "", 0);
    }
    refuses(&r, -E2BIG, "too many or too large extended attributes", "extension");
    add_pax('x', "SCHILY.xattr.user.v=", filled('v', TAR_MAX_HEADER - 64), TAR_MAX_HEADER - 64);
    for (unsigned i = 0; i < 4; i++) /* each value replaces the one before, and all are kept */
        add_pax('x', "SCHILY.xattr.user.v=", filled('v', TAR_MAX_HEADER - 64), TAR_MAX_HEADER - 64);
    refuses(&r, -E2BIG, "too many or too large extended attributes", "extension");
    add_pax('x', "SCHILY.xattr.=", "", 0); /* nothing at all: no arithmetic on NULL */
    add_entry('0', "nameless", "");
    refuses(&r, -ENODATA, "attribute without a name", "nameless");
    add_pax('x', "path=", "a\0b", 3);
    add_entry('0', "cut", "");
    add_pax('x', "path=", nul_behind(TAR_MAX_NUL_PATH), TAR_MAX_NUL_PATH);
    add_entry('0', "cut", "");
    add_pax('x', "path=", nul_behind(TAR_MAX_NUL_PATH + 1), TAR_MAX_NUL_PATH + 1);
    refuses(&r, -EINVAL, "NUL in a long PAX path", "extension");
}

/* Each entry walks the path of a global header again: much more than the tar has bytes is refused.
 */
static void test_global_path(enum image_layout layout)
{
    struct run r = run_of(layout);
    const size_t len = 32000, most = TAR_MAX_INHERITED / (len - TAR_BLOCK);
    char name[256] = "same";

    for (int link = 0; link < 2; link++) {
        for (size_t entries = most; entries <= 2 * most; entries += most) {
            add_pax('g', link ? "linkpath=" : "path=", deep(len / 2), len);
            for (size_t i = 0; i < entries; i++)
                add_entry(link ? '2' : '5', "same", "");
            if (entries > most)
                break;
            add(2 * TAR_BLOCK);
            CHECK(!convert(&r));
            tar.len = 0;
        }
        if (!link)
            snprintf(name, sizeof(name), "%s", deep(len / 2));
        refuses(&r, -E2BIG, "long path of a global PAX header", link ? "same" : name);
    }
    /* as long as the headers of its entries, of which there may be any number */
    add_pax('g', "path=", filled('p', 200), 200);
    for (size_t i = 0; i < 100000; i++)
        add_entry('5', "same", "");
    add(2 * TAR_BLOCK);
    CHECK(!convert(&r));
    tar.len = 0;
}

static void test_size_bounds(enum image_layout layout)
{
    struct run r = run_of(layout);

    add_sized('0', "huge", "", TAR_MAX_SIZE);
    refuses(&r, -EFBIG, "impossible size", "huge");
    add_sized('0', "negative", "", UINT64_MAX);
    refuses(&r, -EFBIG, "impossible size", "negative");
    add_pax('x', "size=", "9999999999999", 13);
    add_entry('0', "huge", "");
    refuses(&r, -EFBIG, "impossible size in a PAX header", "extension");
    r.options.lossy = true;
    for (int i = 0; i < 3; i++) /* data that nobody reads still counts */
        add_sized('5', (char[]){'d', (char)('0' + i), 0}, "",
                  i < 2 ? TAR_MAX_SIZE / 2 - 4096 : 9000);
    add_entry('0', "behind", "");
    refuses(&r, -EFBIG, "impossible size", "d2");
    for (int i = 0; i < 40; i++)
        add_sized('5', "d", "", i ? 0 : TAR_MAX_SIZE - 10240);
    refuses(&r, -EFBIG, "impossible size", "d");
    r.options.lossy = false;
    add_sized('0', "cut", "", 1 << 20);
    refuses(&r, -EINVAL, "truncated archive", "cut");
}

static void *test_all(void *unused)
{
    test_options();
    for (int layout = LAYOUT_FULL; layout <= LAYOUT_INDEX; layout++) {
        test_memory((enum image_layout)layout);
        test_sinks((enum image_layout)layout);
        for (unsigned i = 0; mkfs_group_at(i); i++)
            test_same((enum image_layout)layout, mkfs_group_at(i));
        test_window((enum image_layout)layout);
        test_depth((enum image_layout)layout);
        test_entry_bounds((enum image_layout)layout);
        test_name_bounds((enum image_layout)layout);
        test_global_path((enum image_layout)layout);
        test_size_bounds((enum image_layout)layout);
    }
    return unused;
}

int main(void)
{
    pthread_attr_t small; /* a stack on which depth must not count */
    pthread_t thread;

    CHECK(!pthread_attr_init(&small) && !pthread_attr_setstacksize(&small, 128 << 10));
    CHECK(!pthread_create(&thread, &small, test_all, NULL) && !pthread_join(thread, NULL));
    pthread_attr_destroy(&small);
    __real_free(tar.bytes);
    printf("layer: %lu checks\n", checks);
    return 0;
}
