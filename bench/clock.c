/* SPDX-License-Identifier: Apache-2.0
 *
 * clock.c: the clock of this core in Hz, by additions that wait for each other and take a cycle each.
 * The tenth percentile of many short loops, as for what is measured beside.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define LOOPS 500
#define ROUNDS 20000
#define ADDITIONS 8
/* The empty asm keeps a compiler from adding them up. */
#define ADD sum += sum; __asm__ volatile("" : "+r"(sum));

static uint64_t now(void)
{
    struct timespec time;

    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
    return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static int compare(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

int main(void)
{
    static uint64_t took[LOOPS];
    uint64_t sum = 1;

    for (int i = 0; i < LOOPS; i++) {
        const uint64_t began = now();

        for (int j = 0; j < ROUNDS; j++) {
            ADD ADD ADD ADD ADD ADD ADD ADD
        }
        took[i] = now() - began;
    }
    qsort(took, LOOPS, sizeof *took, compare);
    printf("%.0f\n", 1e9 * ROUNDS * ADDITIONS / (double)took[LOOPS / 10]);
    return 0;
}
