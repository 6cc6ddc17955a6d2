/* SPDX-License-Identifier: Apache-2.0
 *
 * libFuzzer target. The first three bytes choose options and piece size, the rest is a tar. Fed
 * whole and in pieces the result must be the same. */
#include <errno.h>

#include "erofs/conversion.h"
#include "fuzz.h"

struct seen {
    uint64_t next, hash; /* of data */
    uint64_t meta, meta_next;
    bool index;
};

static uint64_t mix(uint64_t hash, const uint8_t *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ bytes[i]) * UINT64_C(0x100000001b3);
    return hash;
}

static int data(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len)
{
    struct seen *s = ctx;

    if (!len || offset != s->next)
        abort();
    s->next += len;
    s->hash = mix(s->hash, bytes, len);
    return 0;
}

static int meta(void *ctx, uint64_t offset, const uint8_t *bytes, size_t len)
{
    struct seen *s = ctx;
    const uint64_t behind = !s->index && s->meta_next == 4096 ? s->next : s->meta_next;

    if (!len || len % (s->index ? 512 : 4096) || offset != behind)
        abort();
    s->meta_next = offset + len;
    s->meta = mix(s->meta ^ offset, bytes, len);
    return 0;
}

static int run(const struct conversion_options *o, const uint8_t *tar, size_t len, size_t piece,
               struct seen *s)
{
    static const uint8_t uuid[16] = {1};
    const struct conversion_sink sink = {s, data, meta};
    struct conversion *l = conversion_new(o, &sink);
    struct conversion_info info;
    int ret = 0;

    if (!l)
        abort();
    s->index = o->layout == LAYOUT_INDEX;
    s->next = s->index ? 0 : 4096;
    for (size_t n; len && !ret; tar += n, len -= n) {
        n = len < piece ? len : piece;
        ret = conversion_update(l, tar, n);
    }
    if (!ret)
        ret = conversion_final(l, uuid, &info);
    if (ret > 0 || ret == -EPROTO || (ret && conversion_error(l)->code != ret) ||
        (ret && !conversion_error(l)->reason))
        abort();
    if (!ret && o->layout == LAYOUT_FULL && info.data_size % 4096)
        abort();
    conversion_free(l);
    return ret;
}

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t len)
{
    struct conversion_options o = {.max_entries = 1 << 16, .max_metadata = 1 << 26};
    struct seen whole = {0}, pieces = {0};

    if (len < 3)
        return 0;
    o.layout = input[0] & 1 ? LAYOUT_INDEX : LAYOUT_FULL;
    o.lossy = input[0] & 2;
    o.seed = input[0];
    if (input[0] & 4) {
        o.max_entries = 16;
        o.max_metadata = 10000;
    }
    o.group = mkfs_group_at(input[1] % 5);
    len -= 3;
    uint8_t *const tar = copy_of(input + 3, len);

    mend_checksums(tar, len);
    const int ret = run(&o, tar, len, len + 1, &whole);

    o.seed++;
    if (run(&o, tar, len, (size_t)input[2] * 3 + 1, &pieces) != ret)
        abort();
    if (!ret &&
        (whole.hash != pieces.hash || whole.meta != pieces.meta || whole.next != pieces.next))
        abort();
    free(tar);
    return 0;
}
