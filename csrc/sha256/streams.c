/* SPDX-License-Identifier: Apache-2.0
 *
 * streams.c: SHA-256 of several streams in step.
 */
#include <errno.h>
#include <stdbool.h>
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

/* What is still to be added to a stream: `left` bytes, and then further pieces. */
struct rest {
    dmsign_stream *stream;
    const uint8_t *at;
    size_t left;
    const uint8_t *const *data;
    const size_t *sizes;
    unsigned pieces;
};

/* Goes on to where whole blocks begin; what is in none goes through the stream's rest. Whether
 * there is such a block. */
static bool at_blocks(struct rest *r)
{
    dmsign_stream *stream = r->stream;
    uint32_t *state = stream->state;
    const uint8_t *block = stream->rest;

    for (;;) {
        const size_t have = stream->size % SHA256_BLOCK, missing = SHA256_BLOCK - have;
        const size_t taken = r->left < missing ? r->left : missing;

        if (!have && r->left >= SHA256_BLOCK)
            return true;
        if (!r->left) {
            if (!r->pieces)
                return false;
            r->pieces--;
            r->at = *r->data++;
            r->left = *r->sizes++;
            continue;
        }
        memcpy(stream->rest + have, r->at, taken);
        r->at += taken;
        r->left -= taken;
        stream->size += taken;
        if (taken == missing) {
            stream->impl->add(&state, &block, 1, 1);
            block = stream->rest;
        }
    }
}

int dmsign_streams_update(dmsign_stream *const *streams, unsigned count,
                          const uint8_t *const *data, const size_t *sizes, const unsigned *pieces)
{
    struct rest rests[SHA256_STREAMS];

    if (count > SHA256_STREAMS)
        return -EINVAL;
    for (unsigned i = 0; i < count; i++) {
        rests[i] = (struct rest){streams[i], NULL, 0, data, sizes, pieces[i]};
        data += pieces[i];
        sizes += pieces[i];
    }
    for (;;) {
        struct rest *which[SHA256_STREAMS];
        unsigned together = 0;
        uint32_t *states[SHA256_STREAMS];
        const uint8_t *from[SHA256_STREAMS];
        size_t blocks = SIZE_MAX;

        for (unsigned i = 0; i < count; i++) {
            if (!at_blocks(&rests[i]))
                continue;
            which[together] = &rests[i];
            states[together] = streams[i]->state;
            from[together++] = rests[i].at;
            if (rests[i].left / SHA256_BLOCK < blocks)
                blocks = rests[i].left / SHA256_BLOCK;
        }
        if (!together)
            return 0;
        streams[0]->impl->add(states, from, blocks, together);
        for (unsigned j = 0; j < together; j++) {
            which[j]->at += blocks * SHA256_BLOCK;
            which[j]->left -= blocks * SHA256_BLOCK;
            which[j]->stream->size += blocks * SHA256_BLOCK;
        }
    }
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
