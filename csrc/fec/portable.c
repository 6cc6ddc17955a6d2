/* SPDX-License-Identifier: Apache-2.0
 *
 * portable.c: products of bytes from a table.
 */
#include "impl.h"

static void add(const struct fec_field *field, struct fec_rows sums, unsigned count,
                struct fec_rows data, unsigned rows, fec_factors factors, size_t width)
{
    for (unsigned i = 0; i < rows; i++) {
        const uint8_t *from = data.bytes + i * data.stride;

        for (unsigned k = 0; k < count; k++) {
            const uint8_t *products = field->products[factors[i][k]];
            uint8_t *to = sums.bytes + k * sums.stride;

            for (size_t at = 0; at < width; at++)
                to[at] ^= products[from[at]];
        }
    }
}

static int supported(void)
{
    return 1;
}

const struct fec_impl fec_portable = {
    .name = "portable",
    .supported = supported,
    .add = add,
};
