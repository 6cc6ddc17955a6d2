/* SPDX-License-Identifier: Apache-2.0 */
#include "fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grow.h"
#include "hash.h"

/* A power of two; twice as many as attributes, so that a search ends soon. */
#define SLOTS (2 * TAR_MAX_XATTRS)

int tar_text_set(struct tar_text *text, const char *bytes, size_t len)
{
    const int ret = grow(&text->bytes, &text->cap, (uint64_t)len + 1, 1);

    if (ret)
        return ret;
    memcpy(text->bytes, bytes, len);
    text->bytes[len] = '\0';
    text->len = (uint32_t)len;
    text->set = true;
    return 0;
}

int tar_fields_inherit(struct tar_fields *to, const struct tar_fields *from)
{
    int ret = 0;

    to->path.set = to->link.set = false;
    if (from->path.set)
        ret = tar_text_set(&to->path, from->path.bytes, from->path.len);
    if (!ret && from->link.set)
        ret = tar_text_set(&to->link, from->link.bytes, from->link.len);
    to->has_size = from->has_size;
    to->size = from->size;
    to->has_mtime = from->has_mtime;
    to->mtime = from->mtime;
    to->nsec = from->nsec;
    to->has_uid = from->has_uid;
    to->uid = from->uid;
    to->has_gid = from->has_gid;
    to->gid = from->gid;
    if (to->attr_count)
        memset(to->slots, 0, SLOTS * sizeof(*to->slots));
    to->attr_count = to->pool_len = 0;
    return ret;
}

void tar_fields_free(struct tar_fields *f)
{
    free(f->path.bytes);
    free(f->link.bytes);
    free(f->attrs);
    free(f->pool);
    free(f->slots);
    memset(f, 0, sizeof(*f));
}

static int put_pool(struct tar_fields *f, const uint8_t *bytes, size_t len, uint32_t *at)
{
    int ret;

    if (len > TAR_MAX_XATTR_BYTES - f->pool_len)
        return -E2BIG;
    /* a byte more: nothing at all has an address too */
    ret = grow(&f->pool, &f->pool_cap, (uint64_t)f->pool_len + len + 1, 1);
    if (ret)
        return ret;
    if (len)
        memcpy(f->pool + f->pool_len, bytes, len);
    *at = f->pool_len;
    f->pool_len += (uint32_t)len;
    return 0;
}

/* The slot of the attribute with this name, or the free slot where it belongs. */
static uint16_t *slot_of(const struct tar_fields *f, const uint8_t *name, size_t name_len)
{
    uint64_t at = seeded_hash(f->seed, name, name_len);

    for (;; at++) {
        uint16_t *const slot = &f->slots[at % SLOTS];
        const struct tar_attr *const a = *slot ? &f->attrs[*slot - 1] : NULL;

        if (!a || (a->name_len == name_len && !memcmp(f->pool + a->name, name, name_len)))
            return slot;
    }
}

const struct tar_attr *tar_fields_find(const struct tar_fields *f, const uint8_t *name,
                                       size_t name_len)
{
    const uint16_t number = f->attr_count ? *slot_of(f, name, name_len) : 0;

    return number ? &f->attrs[number - 1] : NULL;
}

int tar_fields_xattr(struct tar_fields *f, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, const char **reason)
{
    int ret;

    if (memchr(name, '\0', name_len) || memchr(name, '=', name_len)) {
        *reason = "extended attribute name with NUL or '='";
        return -EINVAL;
    }
    if (!f->slots && !(f->slots = calloc(SLOTS, sizeof(*f->slots))))
        return -ENOMEM;
    uint16_t *const slot = slot_of(f, name, name_len);

    if (!*slot) {
        if (f->attr_count == TAR_MAX_XATTRS)
            return -E2BIG;
        ret = grow(&f->attrs, &f->attr_cap, (uint64_t)f->attr_count + 1, sizeof(*f->attrs));
        if (ret)
            return ret;
        struct tar_attr *const made = &f->attrs[f->attr_count];

        ret = put_pool(f, name, name_len, &made->name);
        if (ret)
            return ret;
        made->name_len = (uint32_t)name_len;
        *slot = (uint16_t)++f->attr_count;
    }
    struct tar_attr *const a = &f->attrs[*slot - 1];

    a->value_len = (uint32_t)value_len;
    return put_pool(f, value, value_len, &a->value);
}
