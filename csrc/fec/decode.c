/* SPDX-License-Identifier: Apache-2.0
 *
 * decode.c: the syndromes of a message and its parity, and what they tell.
 *
 * Erasures are known to be wrong, and the same in all columns: they are not read, and a matrix
 * turns syndromes into their bytes, many columns at once. Where that does not explain all
 * syndromes, and without erasures, each column that has errors is decoded on its own.
 */
#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "../sha256/threads.h"
#include "code.h"

struct decoding {
    const dmsign_fec *fec;
    uint64_t first;
    size_t columns;
    int parity_fd;
    uint64_t parity_offset;
    const uint8_t *rows; /* that are wanted */
    unsigned count, erasures;
    uint8_t *out;
    uint8_t skip[FEC_SYMBOLS];
    uint8_t inverse[FEC_MAX_ROOTS][FEC_MAX_ROOTS]; /* from syndromes to erased bytes */
    uint8_t residual[FEC_MAX_ROOTS][FEC_MAX_ROOTS];
    struct fec_tiles tiles;
    struct fec_failure failure;
    _Atomic uint64_t errors, failed;
};

/* Inverts the matrix that has the syndrome factors of erased rows as its columns, by Gauss-Jordan:
 * a Vandermonde matrix, which has an inverse, and whose pivots need no choice. */
static void invert(struct decoding *job)
{
    const struct fec_field *field = &job->fec->field;
    uint8_t a[FEC_MAX_ROOTS][2 * FEC_MAX_ROOTS] = {{0}};
    const unsigned n = job->erasures;

    for (unsigned r = 0; r < n; r++) {
        for (unsigned k = 0; k < n; k++)
            a[r][k] = job->fec->syndrome_factors[job->rows[k]][r];
        a[r][n + r] = 1;
    }
    for (unsigned pivot = 0; pivot < n; pivot++) {
        const uint8_t scale = fec_inverse(field, a[pivot][pivot]);

        for (unsigned k = 0; k < 2 * n; k++)
            a[pivot][k] = fec_multiply(field, a[pivot][k], scale);
        for (unsigned r = 0; r < n; r++) {
            const uint8_t factor = a[r][pivot];

            for (unsigned k = 0; k < 2 * n && r != pivot; k++)
                a[r][k] ^= fec_multiply(field, a[pivot][k], factor);
        }
    }
    for (unsigned r = 0; r < n; r++)
        for (unsigned k = 0; k < n; k++)
            job->inverse[r][k] = a[k][n + r];
    for (unsigned k = 0; k < n; k++)
        for (unsigned r = n; r < job->fec->roots; r++)
            job->residual[k][r - n] = job->fec->syndrome_factors[job->rows[k]][r];
}

/* `add` of any number of rows. */
static void add_rows(const dmsign_fec *fec, struct fec_rows sums, unsigned count,
                     struct fec_rows data, unsigned rows, fec_factors factors, size_t width)
{
    for (unsigned first = 0; count && first < rows; first += FEC_BATCH)
        fec->impl->add(&fec->field, sums, count,
                       (struct fec_rows){data.bytes + first * data.stride, data.stride},
                       rows - first < FEC_BATCH ? rows - first : FEC_BATCH, factors + first, width);
}

/* Adds the parity, which is the last rows of the codewords. */
static int add_parity(struct decoding *job, unsigned worker, uint64_t column, size_t width)
{
    const dmsign_fec *fec = job->fec;
    const struct fec_rows sums = fec_tile_sums(&job->tiles, worker);
    const struct fec_rows data = fec_tile_data(&job->tiles, worker);
    uint8_t *stored = sums.bytes + fec->roots * sums.stride;
    int error = fec_read(job->parity_fd, job->parity_offset + column * fec->roots, stored,
                         width * fec->roots, fec->rows * fec->row_size + column * fec->roots,
                         &job->failure);

    if (error)
        return error;
    for (unsigned first = 0; first < fec->roots; first += job->tiles.batch) {
        const unsigned left = fec->roots - first;
        const unsigned count = left < job->tiles.batch ? left : job->tiles.batch;

        for (unsigned k = 0; k < count; k++)
            for (size_t i = 0; i < width; i++)
                data.bytes[k * data.stride + i] = stored[i * fec->roots + first + k];
        fec->impl->add(&fec->field, sums, fec->roots, data, count,
                       fec->syndrome_factors + fec->rows + first, width);
    }
    return 0;
}

static void decode_column(struct decoding *job, struct fec_rows sums, struct fec_rows rows,
                          size_t column)
{
    const dmsign_fec *fec = job->fec;
    uint8_t syndromes[FEC_MAX_ROOTS], places[FEC_MAX_ROOTS], values[FEC_MAX_ROOTS];
    int found;

    for (unsigned r = 0; r < fec->roots; r++) {
        syndromes[r] = sums.bytes[r * sums.stride + column];
        for (unsigned k = 0; r >= job->erasures && k < job->erasures; k++)
            syndromes[r] ^= fec_multiply(&fec->field, rows.bytes[k * rows.stride + column],
                                         fec->syndrome_factors[job->rows[k]][r]);
    }
    if (job->erasures)
        memcpy(places, job->rows, job->erasures);
    found = fec_errors(fec, syndromes, job->erasures, places, values);
    if (found < 0) {
        atomic_fetch_add(&job->failed, 1);
        return;
    }
    atomic_fetch_add(&job->errors, (uint64_t)found - job->erasures);
    for (unsigned i = 0; i < job->erasures; i++)
        rows.bytes[i * rows.stride + column] = values[i];
    for (unsigned i = job->erasures; i < (unsigned)found; i++)
        for (unsigned k = 0; k < job->count; k++)
            if (job->rows[k] == places[i])
                rows.bytes[k * rows.stride + column] ^= values[i];
}

static int decode_tile(void *context, unsigned worker, size_t i)
{
    struct decoding *job = context;
    const dmsign_fec *fec = job->fec;
    const size_t at = i * job->tiles.width, left = job->columns - at;
    const size_t width = left < job->tiles.width ? left : job->tiles.width;
    const struct fec_rows sums = fec_tile_sums(&job->tiles, worker);
    const struct fec_rows out = {job->count ? job->out + at : NULL, job->columns};
    const unsigned erasures = job->erasures;
    int error;

    for (unsigned k = 0; k < fec->roots; k++)
        memset(sums.bytes + k * sums.stride, 0, width);
    error = fec_sum_rows(fec, job->first + at, width, fec->syndrome_factors, job->skip, &job->tiles,
                         worker, NULL, &job->failure);
    if (!error)
        error = add_parity(job, worker, job->first + at, width);
    for (unsigned k = 0; k < job->count && !error; k++) {
        int zeros = 1;

        if (!erasures)
            error = fec_read_message(fec, job->rows[k] * fec->row_size + job->first + at,
                                     out.bytes + k * out.stride, width, &zeros, &job->failure);
        if (zeros)
            memset(out.bytes + k * out.stride, 0, width);
    }
    if (error)
        return error;
    if (erasures) {
        add_rows(fec, out, erasures, sums, erasures, job->inverse, width);
        add_rows(fec, (struct fec_rows){sums.bytes + erasures * sums.stride, sums.stride},
                 fec->roots - erasures, out, erasures, job->residual, width);
    }
    for (size_t column = 0; column < width; column += sizeof(uint64_t)) {
        uint64_t any = 0;

        for (unsigned r = erasures; r < fec->roots; r++) {
            uint64_t word;

            memcpy(&word, sums.bytes + r * sums.stride + column, sizeof word);
            any |= word;
        }
        for (unsigned j = 0; any && j < sizeof any; j++) {
            uint8_t wrong = 0;

            for (unsigned r = erasures; r < fec->roots; r++)
                wrong |= sums.bytes[r * sums.stride + column + j];
            if (wrong)
                decode_column(job, sums, out, column + j);
        }
    }
    return 0;
}

int dmsign_fec_decode(const dmsign_fec *fec, uint64_t first, size_t columns, int parity_fd,
                      uint64_t parity_offset, const uint8_t *rows, unsigned count, int erased,
                      uint8_t *out, uint64_t *errors, uint64_t *failed, unsigned threads,
                      uint64_t *failed_at)
{
    struct decoding job = {
        .fec = fec,
        .first = first,
        .columns = columns,
        .parity_fd = parity_fd,
        .parity_offset = parity_offset,
        .rows = rows,
        .count = count,
        .erasures = erased ? count : 0,
        .out = out,
        .failure = {UINT64_MAX},
    };
    uint8_t seen[FEC_SYMBOLS] = {0};
    size_t tiles;
    int error;

    if (first % FEC_UNIT || columns % FEC_UNIT || columns > fec->row_size ||
        first > fec->row_size - columns || job.erasures > fec->roots ||
        parity_offset > INT64_MAX - fec->row_size * fec->roots)
        return -EINVAL;
    for (unsigned k = 0; k < count; k++) {
        if (rows[k] >= fec->rows || seen[rows[k]]++)
            return -EINVAL;
        job.skip[rows[k]] = erased != 0;
    }
    *errors = *failed = 0;
    if (!columns)
        return 0;
    if (job.erasures)
        invert(&job);
    error = fec_tiles_new(&job.tiles, columns, FEC_UNIT, 2 * fec->roots,
                          threads = parallel_threads(threads, columns / FEC_UNIT));
    if (error)
        return error;
    tiles = (columns + job.tiles.width - 1) / job.tiles.width;
    error = parallel_for(threads, tiles, decode_tile, &job);
    fec_tiles_free(&job.tiles);
    *errors = atomic_load(&job.errors);
    *failed = atomic_load(&job.failed);
    *failed_at = atomic_load(&job.failure.at);
    return error;
}
