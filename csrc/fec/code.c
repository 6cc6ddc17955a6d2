/* SPDX-License-Identifier: Apache-2.0
 *
 * code.c: the field, the code and the choice of implementation.
 *
 * The code is that of Linux (drivers/md/dm-verity-fec.c, lib/reed_solomon): its generator has the
 * roots 2^0 to 2^(roots - 1), and symbol i of a codeword is the coefficient of x^(254 - i).
 */
#define _POSIX_C_SOURCE 200809L
#define _FILE_OFFSET_BITS 64
#include "code.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MIN_ROOTS 2

/* Best first. */
static const struct fec_impl *const impls[] = {
#if defined(__x86_64__)
    &fec_gfni,
    &fec_avx2,
#elif defined(__aarch64__)
    &fec_neon,
#endif
    &fec_portable,
};
#define IMPLS (sizeof impls / sizeof *impls)

static const struct fec_impl *chosen;

const char *dmsign_fec_impl_name(unsigned index)
{
    return index < IMPLS ? impls[index]->name : NULL;
}

int dmsign_fec_impl_supported(unsigned index)
{
    return index < IMPLS && impls[index]->supported();
}

int dmsign_fec_impl_select(const char *name)
{
    for (unsigned i = 0; i < IMPLS; i++) {
        if (name && strcmp(name, impls[i]->name))
            continue;
        if (impls[i]->supported()) {
            chosen = impls[i];
            return 0;
        }
        if (name)
            return -ENOTSUP;
    }
    return -EINVAL;
}

const char *dmsign_fec_impl(void)
{
    if (!chosen)
        dmsign_fec_impl_select(NULL);
    return chosen->name;
}

static void make_field(struct fec_field *field)
{
    unsigned power = 1;

    for (unsigned i = 0; i < FEC_SYMBOLS; i++) {
        field->powers[i] = field->powers[i + FEC_SYMBOLS] = (uint8_t)power;
        field->logs[power] = (uint8_t)i;
        power = power << 1 ^ (power & 0x80 ? 0x11d : 0);
    }
    for (unsigned a = 1; a < 256; a++)
        for (unsigned b = 1; b < 256; b++)
            field->products[a][b] = field->powers[field->logs[a] + field->logs[b]];
    for (unsigned a = 0; a < 256; a++) {
        for (unsigned i = 0; i < 16; i++) {
            field->nibbles[a][i] = field->products[a][i];
            field->nibbles[a][16 + i] = field->products[a][i << 4];
        }
        /* Row i of the matrix, in byte 7 - i, has the bits of x that make up bit i of a * x. */
        for (unsigned i = 0; i < 8; i++)
            for (unsigned j = 0; j < 8; j++)
                field->matrices[a] |= (uint64_t)(field->products[a][1 << j] >> i & 1)
                                      << (8 * (7 - i) + j);
    }
}

static void make_factors(dmsign_fec *fec)
{
    const struct fec_field *field = &fec->field;
    uint8_t generator[FEC_MAX_ROOTS + 1] = {1}; /* highest power first */
    uint8_t remainder[FEC_MAX_ROOTS] = {0};     /* of x^(254 - row) */

    for (unsigned root = 0; root < fec->roots; root++)
        for (unsigned i = root + 1; i; i--)
            generator[i] ^= fec_multiply(field, generator[i - 1], field->powers[root]);
    remainder[fec->roots - 1] = 1;
    for (unsigned row = FEC_SYMBOLS; row--;) {
        const uint8_t top = remainder[0];

        /* Those of parity rows have no remainder to add, and are never used. */
        memcpy(fec->parity_factors[row], remainder, fec->roots);
        for (unsigned i = 0; i < fec->roots; i++)
            remainder[i] = fec_multiply(field, top, generator[i + 1]) ^
                           (i + 1 < fec->roots ? remainder[i + 1] : 0);
        for (unsigned root = 0; root < fec->roots; root++)
            fec->syndrome_factors[row][root] =
                field->powers[root * (FEC_SYMBOLS - 1 - row) % FEC_SYMBOLS];
    }
}

dmsign_fec *dmsign_fec_new(unsigned roots, uint64_t row_size, const dmsign_fec_part *parts,
                           size_t count)
{
    uint64_t end = 0;
    dmsign_fec *fec;

    errno = EINVAL;
    if (roots < MIN_ROOTS || roots > FEC_MAX_ROOTS || !row_size || row_size % FEC_UNIT ||
        row_size > INT64_MAX / FEC_SYMBOLS || count > FEC_MAX_PARTS)
        return NULL;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].start < end || parts[i].offset > INT64_MAX ||
            parts[i].size > INT64_MAX - parts[i].offset ||
            parts[i].size > row_size * (FEC_SYMBOLS - roots) ||
            parts[i].start > row_size * (FEC_SYMBOLS - roots) - parts[i].size)
            return NULL;
        end = parts[i].start + parts[i].size;
    }
    fec = calloc(1, sizeof *fec);
    if (!fec) {
        errno = ENOMEM;
        return NULL;
    }
    dmsign_fec_impl();
    fec->impl = chosen;
    fec->roots = roots;
    fec->rows = FEC_SYMBOLS - roots;
    fec->row_size = row_size;
    fec->parts = (unsigned)count;
    for (size_t i = 0; i < count; i++) {
        struct stat status;

        fec->part[i] = parts[i];
        fec->sparse[i] = !fstat(parts[i].fd, &status) && S_ISREG(status.st_mode) &&
                         status.st_blocks < status.st_size / 512;
    }
    make_field(&fec->field);
    make_factors(fec);
    return fec;
}

void dmsign_fec_free(dmsign_fec *fec)
{
    free(fec);
}
