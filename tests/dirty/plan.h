/* SPDX-License-Identifier: MIT */
/*
 * Which pages the dirty guest writes in which round. check.py has the same rules; the guest, which
 * says "region BASE END" for each, has the memory.
 *
 * Of a region of n pages, numbered from 0, round r writes page p if
 *
 *     p is 0 or n - 1                              the ends, in every round
 *     p < n - n / 4 and p % 37 == r % 37           scattered; the last quarter stays clean
 *     p / 512 == r and p < n - n / 4               all of one 2 MiB
 *     p == r                                       one page more in each round
 *
 * A page that was written begins with the four 64-bit words MAGIC, its address, the round of
 * the last write, and the sum of the three.
 */
#pragma once

#define MAGIC     0x796472616e746565ull /* any number */
#define LOW_FIRST 0x1000000ull /* below are the guest itself and its loader's things */
#define MAPPED    (8ull << 30)
#define PAGE      4096ull
#define BLOCK     512ull
#define STEP      37ull

static inline int plan_writes(unsigned long long n, unsigned long long p,
                              unsigned long long round) {
    unsigned long long used = n - n / 4;
    return p == 0 || p == n - 1 || p == round ||
           (p < used && (p % STEP == round % STEP || p / BLOCK == round));
}
