/* SPDX-License-Identifier: Apache-2.0
 *
 * choice.c: which implementation of SHA-256 is used.
 */
#include <errno.h>
#include <stddef.h>
#include <string.h>

#include "../dmsign.h"
#include "impl.h"

/* Best first: measured on Zen 3 (shani before avx2), Zen 4 and Zen 5. */
static const struct sha256_impl *const impls[] = {
#if defined(__x86_64__)
    &sha256_avx512,
    &sha256_shani,
    &sha256_avx2,
#elif defined(__aarch64__)
    &sha256_armv8,
#endif
    &sha256_portable,
};
#define IMPLS (sizeof impls / sizeof *impls)

static struct sha256_choice chosen;

const char *dmsign_impl_name(unsigned index)
{
    return index < IMPLS ? impls[index]->name : NULL;
}

int dmsign_impl_supported(unsigned index)
{
    return index < IMPLS && impls[index]->supported();
}

int dmsign_impl_select(const char *name)
{
    struct sha256_choice best = {0};

    for (unsigned i = 0; i < IMPLS; i++) {
        if (name && strcmp(name, impls[i]->name))
            continue;
        if (!impls[i]->supported()) {
            if (name)
                return -ENOTSUP;
            continue;
        }
        if (!best.wide)
            best.wide = best.narrow = impls[i];
        else if (best.narrow == best.wide && impls[i]->lanes < best.wide->lanes &&
                 impls[i] != &sha256_portable) /* its calls cost more than spare lanes */
            best.narrow = impls[i];
    }
    if (!best.wide)
        return -EINVAL;
    chosen = best;
    return 0;
}

struct sha256_choice sha256_chosen(void)
{
    if (!chosen.wide)
        dmsign_impl_select(NULL);
    return chosen;
}

const char *dmsign_impl(void)
{
    return sha256_chosen().wide->name;
}

