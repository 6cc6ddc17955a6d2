/* SPDX-License-Identifier: Apache-2.0
 *
 * fuzz_fec.c: a codeword with any errors. What is within reach is mended; what is not may be taken
 * for something else, which then is a codeword too; nothing else may happen.
 */
#include <stdlib.h>
#include <string.h>

#include "dmsign.h"
#include "fec/code.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int is_codeword(const dmsign_fec *fec, const uint8_t *symbols, uint8_t *syndromes)
{
    int wrong = 0;

    memset(syndromes, 0, FEC_MAX_ROOTS);
    for (unsigned i = 0; i < FEC_SYMBOLS; i++)
        for (unsigned r = 0; r < fec->roots; r++)
            syndromes[r] ^= fec_multiply(&fec->field, symbols[i], fec->syndrome_factors[i][r]);
    for (unsigned r = 0; r < fec->roots; r++)
        wrong |= syndromes[r];
    return !wrong;
}

/* Bytes: roots, how many places are said to be wrong, then pairs of a place and its change. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static dmsign_fec *fecs[FEC_MAX_ROOTS + 1];
    uint8_t right[FEC_SYMBOLS] = {0}, wrong[FEC_SYMBOLS], syndromes[FEC_MAX_ROOTS];
    uint8_t places[FEC_MAX_ROOTS], values[FEC_MAX_ROOTS], seen[FEC_SYMBOLS] = {0};
    unsigned roots, erasures = 0, errors = 0;
    const dmsign_fec *fec;
    int found;

    if (size < 2)
        return 0;
    roots = 2 + data[0] % (FEC_MAX_ROOTS - 1);
    if (!fecs[roots] && !(fecs[roots] = dmsign_fec_new(roots, FEC_UNIT, NULL, 0)))
        abort();
    fec = fecs[roots];
    for (unsigned i = 0; i < fec->rows; i++) {
        right[i] = data[i % size];
        for (unsigned k = 0; k < roots; k++)
            right[fec->rows + k] ^=
                fec_multiply(&fec->field, right[i], fec->parity_factors[i][k]);
    }
    if (!is_codeword(fec, right, syndromes))
        abort();
    memcpy(wrong, right, sizeof wrong);
    for (size_t i = 2; i + 1 < size; i += 2) {
        const unsigned place = data[i] % FEC_SYMBOLS;

        if (seen[place])
            continue;
        seen[place] = 1;
        wrong[place] ^= data[i + 1];
        if (erasures < data[1] % (roots + 1))
            places[erasures++] = (uint8_t)place;
        else
            errors += data[i + 1] != 0;
    }
    is_codeword(fec, wrong, syndromes);
    found = fec_errors(fec, syndromes, erasures, places, values);
    if (2 * errors + erasures > roots && found < 0)
        return 0;
    if (found < (int)erasures || 2 * (unsigned)found > roots + erasures)
        abort(); /* within reach and not found, or more than can be found */
    for (int i = 0; i < found; i++)
        wrong[places[i]] ^= values[i];
    if (!is_codeword(fec, wrong, syndromes))
        abort();
    if (2 * errors + erasures <= roots && memcmp(wrong, right, sizeof wrong))
        abort();
    return 0;
}
