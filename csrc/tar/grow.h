/* SPDX-License-Identifier: Apache-2.0
 *
 * Growing arrays. */
#ifndef DMSIGN_GROW_H
#define DMSIGN_GROW_H

#include <errno.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Makes room for `need` elements of `size` bytes in the array whose pointer is at `array`, and for
 * half as many more when it has to move. -E2BIG beyond 2^32 - 2 elements. */
static inline int grow(void *array, uint32_t *cap, uint64_t need, size_t size)
{
    uint64_t to = (uint64_t)*cap + *cap / 2 + 64;
    void *p;

    if (need <= *cap)
        return 0;
    if (need > UINT32_MAX - 1)
        return -E2BIG;
    if (to < need)
        to = need;
    if (to > UINT32_MAX - 1)
        to = UINT32_MAX - 1;
    if (to > SIZE_MAX / size)
        return -ENOMEM;
    memcpy(&p, array, sizeof(p));
    p = realloc(p, (size_t)to * size);
    if (!p)
        return -ENOMEM;
    memcpy(array, &p, sizeof(p));
    *cap = (uint32_t)to;
    return 0;
}

#endif
