/* SPDX-License-Identifier: Apache-2.0
 *
 * code.h: the Reed-Solomon code of a message, and how its rows are read and summed.
 */
#ifndef DMSIGN_FEC_CODE_H
#define DMSIGN_FEC_CODE_H

#include "../dmsign.h"
#include "impl.h"

#define FEC_MAX_PARTS 4

struct dmsign_fec {
    const struct fec_impl *impl;
    unsigned roots, rows; /* roots + rows = FEC_SYMBOLS */
    uint64_t row_size;
    unsigned parts;
    struct dmsign_fec_part part[FEC_MAX_PARTS];
    int sparse[FEC_MAX_PARTS];
    struct fec_field field;
    /* What the symbol of a row adds to each parity byte, and to each syndrome. */
    uint8_t parity_factors[FEC_SYMBOLS][FEC_MAX_ROOTS];
    uint8_t syndrome_factors[FEC_SYMBOLS][FEC_MAX_ROOTS];
};

/* Columns are worked on in tiles whose sums, and the rows that are added to them, fit the cache. */
struct fec_tiles {
    size_t width;   /* of a tile, in columns */
    unsigned batch; /* rows that are added at once */
    unsigned threads;
    uint8_t *memory;
    size_t data_at, worker_size;
};

/* Where reading failed: the lowest position in the padded message, or behind it in the parity. */
struct fec_failure {
    _Atomic uint64_t at;
};

/* What is hashed on the way: the blocks of part 0, `blocks` of them in each row. */
struct fec_digests {
    const dmsign_block_hash *hash;
    uint8_t *digests;
    size_t blocks;
};

static inline uint8_t fec_multiply(const struct fec_field *field, uint8_t a, uint8_t b)
{
    return field->products[a][b];
}

/* Of what is not zero. */
static inline uint8_t fec_inverse(const struct fec_field *field, uint8_t a)
{
    return field->powers[FEC_SYMBOLS - field->logs[a]];
}

/* Tiles of at least `unit` columns with `sums` rows of sums. -ENOMEM. */
int fec_tiles_new(struct fec_tiles *tiles, size_t columns, size_t unit, unsigned sums,
                  unsigned threads);
void fec_tiles_free(struct fec_tiles *tiles);
struct fec_rows fec_tile_sums(const struct fec_tiles *tiles, unsigned worker);
struct fec_rows fec_tile_data(const struct fec_tiles *tiles, unsigned worker);

/* pread of all of it, or -ENODATA, or a negative errno value, with the position in *failure. */
int fec_read(int fd, uint64_t offset, uint8_t *to, size_t size, uint64_t position,
             struct fec_failure *failure);

/* Reads from byte `at` of the message on. *zeros: nothing but holes is there, and `to` untouched. */
int fec_read_message(const dmsign_fec *fec, uint64_t at, uint8_t *to, size_t size, int *zeros,
                     struct fec_failure *failure);

/* Adds factors[row][k] * row to sum k for the columns from `column` on, but for rows in `skip`
 * (NULL: none). `digests` may be NULL; its places are for these columns. */
int fec_sum_rows(const dmsign_fec *fec, uint64_t column, size_t width, fec_factors factors,
                 const uint8_t *skip, const struct fec_tiles *tiles, unsigned worker,
                 const struct fec_digests *digests, struct fec_failure *failure);

/* Finds the errors of one codeword from its syndromes: up to (roots - erasures) / 2 besides the
 * erasures, which come first in `places` (numbers of symbols). How many places there are then, with
 * what is to be added to each in `values`; -1: there are too many errors. */
int fec_errors(const dmsign_fec *fec, const uint8_t *syndromes, unsigned erasures, uint8_t *places,
               uint8_t *values);

#endif
