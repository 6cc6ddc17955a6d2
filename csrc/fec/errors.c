/* SPDX-License-Identifier: Apache-2.0
 *
 * errors.c: the errors of one codeword: Berlekamp-Massey with erasures, Chien's search and Forney's
 * formula (R. E. Blahut, Algebraic Codes for Data Transmission, chapter 7).
 *
 * Polynomials stand lowest power first. The locator of symbol i is X = 2^(254 - i), as its factor in
 * the syndromes: syndrome r is the sum of value * X^r over all errors.
 */
#include <string.h>

#include "code.h"

#define TERMS (FEC_MAX_ROOTS + 1)

static uint8_t evaluate(const struct fec_field *field, const uint8_t *polynomial, unsigned terms,
                        uint8_t x)
{
    uint8_t sum = 0;

    while (terms--)
        sum = fec_multiply(field, sum, x) ^ polynomial[terms];
    return sum;
}

static uint8_t locator(const struct fec_field *field, unsigned place)
{
    return field->powers[FEC_SYMBOLS - 1 - place];
}

/* The polynomial whose roots are the inverse locators of all errors, the erasures' among them;
 * returns its degree as the algorithm counts it. */
static unsigned locate(const dmsign_fec *fec, const uint8_t *syndromes, unsigned erasures,
                       const uint8_t *places, uint8_t *errors)
{
    const struct fec_field *field = &fec->field;
    uint8_t last[TERMS + 1]; /* before the length changed, divided by its discrepancy, shifted */
    unsigned length = erasures;

    memset(errors, 0, TERMS);
    errors[0] = 1;
    for (unsigned i = 0; i < erasures; i++)
        for (unsigned j = i + 1; j; j--)
            errors[j] ^= fec_multiply(field, errors[j - 1], locator(field, places[i]));
    memcpy(last + 1, errors, TERMS);
    last[0] = 0;
    for (unsigned step = erasures; step < fec->roots; step++) {
        uint8_t discrepancy = 0, next[TERMS];

        for (unsigned i = 0; i <= step; i++)
            discrepancy ^= fec_multiply(field, errors[i], syndromes[step - i]);
        for (unsigned i = 0; i < TERMS; i++)
            next[i] = errors[i] ^ fec_multiply(field, discrepancy, last[i]);
        if (discrepancy && 2 * length <= step + erasures) {
            const uint8_t inverse = fec_inverse(field, discrepancy);

            length = step + 1 + erasures - length;
            for (unsigned i = 0; i < TERMS; i++)
                last[i] = fec_multiply(field, errors[i], inverse);
        }
        memmove(last + 1, last, TERMS);
        last[0] = 0;
        memcpy(errors, next, TERMS);
    }
    return length;
}

int fec_errors(const dmsign_fec *fec, const uint8_t *syndromes, unsigned erasures, uint8_t *places,
               uint8_t *values)
{
    const struct fec_field *field = &fec->field;
    uint8_t errors[TERMS], derivative[TERMS] = {0}, evaluator[FEC_MAX_ROOTS];
    unsigned length, found = erasures;

    length = locate(fec, syndromes, erasures, places, errors);
    if (2 * length > fec->roots + erasures)
        return -1;
    for (unsigned i = length + 1; i < TERMS; i++)
        if (errors[i])
            return -1;
    for (unsigned i = 0; i < FEC_SYMBOLS && found < length; i++) {
        unsigned known = 0;

        if (evaluate(field, errors, length + 1, fec_inverse(field, locator(field, i))))
            continue;
        while (known < erasures && places[known] != i)
            known++;
        if (known == erasures)
            places[found++] = (uint8_t)i;
    }
    if (found != length)
        return -1;
    for (unsigned i = 0; i < fec->roots; i++) {
        evaluator[i] = 0;
        for (unsigned j = 0; j <= i; j++)
            evaluator[i] ^= fec_multiply(field, errors[j], syndromes[i - j]);
    }
    for (unsigned i = 1; i < TERMS; i += 2)
        derivative[i - 1] = errors[i];
    for (unsigned i = 0; i < found; i++) {
        const uint8_t x = locator(field, places[i]), root = fec_inverse(field, x);
        const uint8_t slope = evaluate(field, derivative, TERMS, root);

        if (!slope)
            return -1;
        values[i] = fec_multiply(
            field, x,
            fec_multiply(field, evaluate(field, evaluator, found, root), fec_inverse(field, slope)));
    }
    /* What was found explains every syndrome, or it is no codeword within reach. */
    for (unsigned r = 0; r < fec->roots; r++) {
        uint8_t left = syndromes[r];

        for (unsigned i = 0; i < found; i++)
            left ^= fec_multiply(field, values[i], fec->syndrome_factors[places[i]][r]);
        if (left)
            return -1;
    }
    return (int)found;
}
