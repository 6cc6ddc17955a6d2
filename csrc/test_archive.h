/* SPDX-License-Identifier: Apache-2.0
 *
 * For test_layer.c: memory that is counted and fails at will, and archives. */
#ifndef DMSIGN_TEST_ARCHIVE_H
#define DMSIGN_TEST_ARCHIVE_H

#include <malloc.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tar/parser.h"

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        checks++;                                                                                  \
        if (!(condition)) {                                                                        \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition);                        \
            exit(1);                                                                               \
        }                                                                                          \
    } while (0)

static unsigned long checks;

/* ---- memory: counted, and failing at will ---- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);

static unsigned long fail_at, allocations; /* 0: none fails */
static long live;                          /* pieces not yet freed */
static size_t held, most_held;             /* bytes */

static bool refused(void)
{
    return ++allocations == fail_at;
}

static void *taken(void *p)
{
    live += p != NULL;
    held += malloc_usable_size(p);
    most_held = held > most_held ? held : most_held;
    return p;
}

void *__wrap_malloc(size_t size)
{
    void *p = refused() ? NULL : __real_malloc(size);

    return taken(p);
}

void *__wrap_calloc(size_t count, size_t size)
{
    void *p = refused() ? NULL : __real_calloc(count, size);

    return taken(p);
}

void __wrap_free(void *p)
{
    live -= p != NULL;
    held -= malloc_usable_size(p);
    __real_free(p);
}

void *__wrap_realloc(void *old, size_t size)
{
    const size_t before = malloc_usable_size(old);
    void *p = refused() ? NULL : __real_realloc(old, size);

    if (p && old) {
        live--;
        held -= before;
    }
    return taken(p);
}

/* ---- archives ---- */

static struct archive {
    uint8_t *bytes;
    size_t len, cap;
} tar;

/* Zero bytes at the end, whole blocks. */
static void *add(size_t len)
{
    const size_t at = tar.len;

    tar.len += (len + TAR_BLOCK - 1) / TAR_BLOCK * TAR_BLOCK;
    if (tar.len > tar.cap) {
        tar.cap = 2 * tar.len;
        tar.bytes = __real_realloc(tar.bytes, tar.cap);
        CHECK(tar.bytes);
    }
    memset(tar.bytes + at, 0, tar.len - at);
    return tar.bytes + at;
}

static void put(char *field, const char *text)
{
    memcpy(field, text, strlen(text));
}

static void add_sized(char type, const char *name, const char *link, uint64_t size)
{
    char *h = add(TAR_BLOCK), number[32];
    unsigned sum = 0;

    put(h, name);
    put(h + 100, "0000644");
    put(h + 108, "0000000");
    put(h + 116, "0000000");
    snprintf(number, sizeof(number), "%011llo", (unsigned long long)size);
    if (size >> 33) { /* base 256 */
        memset(number, 0, 12);
        number[0] = (char)0x80;
        for (unsigned i = 0; i < 8; i++)
            number[11 - i] = (char)(size >> 8 * i);
    }
    memcpy(h + 124, number, 12);
    put(h + 136, "14000000000");
    put(h + 148, "        ");
    h[156] = type;
    put(h + 157, link);
    put(h + 257, "ustar");
    put(h + 329, "0000001");
    put(h + 337, "0000003");
    for (unsigned i = 0; i < 500; i++)
        sum += (uint8_t)h[i];
    snprintf(number, sizeof(number), "%06o", sum);
    memcpy(h + 148, number, 7);
}

static void add_entry(char type, const char *name, const char *link)
{
    add_sized(type, name, link, 0);
}

static void add_file(const char *name, size_t size)
{
    add_sized('0', name, "", size);
    memset(add(size), 'f', size);
}

/* An extension header with one record; `key` ends in '='. */
static void add_pax(char type, const char *key, const char *value, size_t len)
{
    const size_t rest = strlen(key) + len + 2;
    char digits[24];
    size_t total = 0, before;

    do {
        before = total;
        total = rest + (size_t)snprintf(digits, sizeof(digits), "%zu", total);
    } while (total != before);
    add_sized(type, "extension", "", total);
    char *p = add(total);

    put(p, digits);
    p[strlen(digits)] = ' ';
    put(p + strlen(digits) + 1, key);
    memcpy(p + total - 1 - len, value, len);
    p[total - 1] = '\n';
}

static const char *filled(char c, size_t len)
{
    static char text[1 << 21];

    memset(text, c, len);
    text[len] = '\0';
    return text;
}

/* `depth` times "d/", then "leaf". */
static const char *deep(unsigned depth)
{
    static char text[2 * 16384 + 8];

    for (unsigned i = 0; i < depth; i++)
        memcpy(text + 2 * i, "d/", 2);
    put(text + 2 * depth, "leaf");
    text[2 * depth + 4] = '\0';
    return text;
}

static void add_deep(char type, unsigned depth)
{
    add_pax('x', "path=", deep(depth), strlen(deep(depth)));
    add_entry(type, "leaf", "target");
}

/* Something of everything. */
static void make_mixed(void)
{
    char name[100];

    tar.len = 0;
    add_pax('g', "comment=", "global", 6);
    add_entry('5', "dir", "");
    for (unsigned i = 0; i < 400; i++) {
        snprintf(name, sizeof(name), "dir/%u-a name of some length", i * 7919 % 1000);
        add_file(name, i % 50 ? 0 : i * 37);
        if (i % 5)
            continue;
        add_pax('x', "SCHILY.xattr.user.one=", name, 1 + i % 30);
        snprintf(name, sizeof(name), "dir/sub%u/file", i);
        add_entry('0', name, "");
    }
    add_pax('x', "linkpath=", filled('l', 5000), 5000);
    add_entry('2', "dir/symlink", "");
    add_entry('1', "dir/link", "dir/0-a name of some length");
    add_sized('L', "long", "", 300);
    memset(add(300), 'L', 200);
    add_entry('3', "device", "");
    add_entry('0', "gone/below/.wh.file", "");
    add_entry('0', "gone/.wh..wh..opq", "");
    add_entry('0', "gone", "");
    add_pax('x', "LIBARCHIVE.xattr.security.x=", "AAAA", 4);
    add_entry('5', "dir", "");
    add_pax('x', "SCHILY.xattr.user.large=", filled('x', 30000), 30000);
    add_entry('0', "fat", "");
    add_deep('0', 300);
    add(2 * TAR_BLOCK);
}

#endif
