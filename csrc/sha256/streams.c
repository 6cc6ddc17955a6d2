/* SPDX-License-Identifier: Apache-2.0
 *
 * streams.c: SHA-256 of several streams in step.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../dmsign.h"
#include "streams.h"

struct dmsign_stream {
    const struct sha256_streams_impl *impl; /* asking the processor is slow in a virtual machine */
    uint64_t size;
    uint32_t state[8];
    uint8_t rest[SHA256_BLOCK]; /* size % 64 bytes that are in no block yet */
};

static const struct sha256_streams_impl *const impls[] = {
#if defined(__x86_64__)
    &sha256_streams_shani,
#endif
    NULL,
};

static const struct sha256_streams_impl *chosen(void)
{
    for (unsigned i = 0; impls[i]; i++)
        if (impls[i]->supported())
            return impls[i];
    return NULL;
}

unsigned dmsign_streams_in_step(void)
{
    return chosen() ? SHA256_STREAMS : 0;
}

dmsign_stream *dmsign_stream_new(void)
{
    static const uint32_t start[8] = {
        0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
    };
    const struct sha256_streams_impl *impl = chosen();
    dmsign_stream *stream;

    if (!impl) {
        errno = ENOTSUP;
        return NULL;
    }
    stream = calloc(1, sizeof *stream);
    if (!stream)
        return NULL;
    stream->impl = impl;
    memcpy(stream->state, start, sizeof start);
    return stream;
}

void dmsign_stream_free(dmsign_stream *stream)
{
    free(stream);
}

/* What fills up the last block that is not whole; how many bytes that took. */
static size_t complete(dmsign_stream *stream, const uint8_t *data, size_t size)
{
    const size_t have = stream->size % SHA256_BLOCK;
    const size_t taken = size < SHA256_BLOCK - have ? size : SHA256_BLOCK - have;
    uint32_t *state = stream->state;
    const uint8_t *rest = stream->rest;

    if (!have || !taken)
        return 0;
    memcpy(stream->rest + have, data, taken);
    if (have + taken == SHA256_BLOCK)
        stream->impl->add(&state, &rest, 1, 1);
    stream->size += taken;
    return taken;
}

int dmsign_streams_update(dmsign_stream *const *streams, const uint8_t *const *data,
                          const size_t *sizes, unsigned count)
{
    const uint8_t *at[SHA256_STREAMS];
    size_t left[SHA256_STREAMS];

    if (count > SHA256_STREAMS)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++) {
        const size_t taken = complete(streams[i], data[i], sizes[i]);

        at[i] = data[i] + taken;
        left[i] = sizes[i] - taken;
    }
    for (;;) {
        unsigned which[SHA256_STREAMS], together = 0;
        uint32_t *states[SHA256_STREAMS];
        const uint8_t *from[SHA256_STREAMS];
        size_t blocks = SIZE_MAX;

        for (unsigned i = 0; i < count; i++) {
            if (left[i] < SHA256_BLOCK)
                continue;
            which[together] = i;
            states[together] = streams[i]->state;
            from[together++] = at[i];
            blocks = left[i] / SHA256_BLOCK < blocks ? left[i] / SHA256_BLOCK : blocks;
        }
        if (!together)
            break;
        streams[0]->impl->add(states, from, blocks, together);
        for (unsigned j = 0; j < together; j++) {
            at[which[j]] += blocks * SHA256_BLOCK;
            left[which[j]] -= blocks * SHA256_BLOCK;
            streams[which[j]]->size += blocks * SHA256_BLOCK;
        }
    }
    for (unsigned i = 0; i < count; i++) {
        if (left[i])
            memcpy(streams[i]->rest, at[i], left[i]);
        streams[i]->size += left[i];
    }
    return 0;
}

void dmsign_stream_digest(const dmsign_stream *stream, uint8_t *digest)
{
    const size_t have = stream->size % SHA256_BLOCK;
    const size_t blocks = have < SHA256_BLOCK - 8 ? 1 : 2;
    uint8_t last[2 * SHA256_BLOCK] = {0};
    uint32_t state[8], *states = state;
    const uint8_t *at = last;

    memcpy(state, stream->state, sizeof state);
    memcpy(last, stream->rest, have);
    last[have] = 0x80;
    for (unsigned i = 0; i < 8; i++)
        last[blocks * SHA256_BLOCK - 1 - i] = (uint8_t)(stream->size * 8 >> 8 * i);
    stream->impl->add(&states, &at, blocks, 1);
    for (unsigned i = 0; i < 8; i++)
        store_be32(digest + 4 * i, state[i]);
}
