/* SPDX-License-Identifier: Apache-2.0
 *
 * impl.h: what one instruction set provides to Reed-Solomon codes over GF(2^8), private to the core.
 */
#ifndef DMSIGN_FEC_IMPL_H
#define DMSIGN_FEC_IMPL_H

#include <stddef.h>
#include <stdint.h>

#define FEC_MAX_ROOTS 24
#define FEC_SYMBOLS 255
/* Rows that one call of `add` takes at most, and what the width of a row is a multiple of. */
#define FEC_BATCH 16
#define FEC_UNIT 512

/* The field modulo x^8 + x^4 + x^3 + x^2 + 1 (0x11d), whose generator is 2. */
struct fec_field {
    uint8_t powers[2 * FEC_SYMBOLS]; /* of 2 */
    uint8_t logs[256];
    uint8_t products[256][256];
    uint8_t nibbles[256][32];  /* products with 0x00 to 0x0f, then with 0x00, 0x10 to 0xf0 */
    uint64_t matrices[256];    /* multiplication over GF(2), as gf2p8affineqb takes it */
};

/* Rows of bytes, `stride` apart. */
struct fec_rows {
    uint8_t *bytes;
    size_t stride;
};

typedef const uint8_t (*fec_factors)[FEC_MAX_ROOTS];

struct fec_impl {
    const char *name;
    int (*supported)(void);
    /* Adds factors[i][k] * (row i of data) to row k of sums, for the `rows` rows of data (at most
     * FEC_BATCH) and the `count` rows of sums. `width` is a multiple of FEC_UNIT. */
    void (*add)(const struct fec_field *field, struct fec_rows sums, unsigned count,
                struct fec_rows data, unsigned rows, fec_factors factors, size_t width);
};

extern const struct fec_impl fec_portable;
#if defined(__x86_64__)
extern const struct fec_impl fec_gfni;
extern const struct fec_impl fec_avx2;
#elif defined(__aarch64__)
extern const struct fec_impl fec_neon;
#endif

#endif
