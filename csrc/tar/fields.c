/* SPDX-License-Identifier: Apache-2.0 */
#include "fields.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "grow.h"

#define POOL_MAX (4 * TAR_MAX_HEADER)

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
    to->attr_count = to->pool_len = 0;
    return ret;
}

void tar_fields_free(struct tar_fields *f)
{
    free(f->path.bytes);
    free(f->link.bytes);
    free(f->attrs);
    free(f->pool);
    memset(f, 0, sizeof(*f));
}

static int put_pool(struct tar_fields *f, const uint8_t *bytes, size_t len, uint32_t *at)
{
    int ret;

    if (len > POOL_MAX - f->pool_len)
        return -E2BIG;
    ret = grow(&f->pool, &f->pool_cap, (uint64_t)f->pool_len + len, 1);
    if (ret)
        return ret;
    if (len)
        memcpy(f->pool + f->pool_len, bytes, len);
    *at = f->pool_len;
    f->pool_len += (uint32_t)len;
    return 0;
}

int tar_fields_xattr(struct tar_fields *f, const uint8_t *name, size_t name_len,
                     const uint8_t *value, size_t value_len, const char **reason)
{
    struct tar_attr *a = NULL;
    int ret;

    if (memchr(name, '\0', name_len) || memchr(name, '=', name_len)) {
        *reason = "extended attribute name with NUL or '='";
        return -EINVAL;
    }
    for (uint32_t i = 0; i < f->attr_count && !a; i++) {
        if (f->attrs[i].name_len == name_len && !memcmp(f->pool + f->attrs[i].name, name, name_len))
            a = &f->attrs[i];
    }
    if (!a) {
        if (f->attr_count == TAR_MAX_XATTRS)
            return -E2BIG;
        ret = grow(&f->attrs, &f->attr_cap, (uint64_t)f->attr_count + 1, sizeof(*f->attrs));
        if (ret)
            return ret;
        a = &f->attrs[f->attr_count];
        ret = put_pool(f, name, name_len, &a->name);
        if (ret)
            return ret;
        a->name_len = (uint32_t)name_len;
        f->attr_count++;
    }
    a->value_len = (uint32_t)value_len;
    return put_pool(f, value, value_len, &a->value);
}
