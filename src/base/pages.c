/* SPDX-License-Identifier: MIT */
/* Pages of our own memory: see pages.h. */
#include "base/pages.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>

#define PAGE ((uintptr_t)4096)
#define HUGE ((size_t)2 << 20)

static void advise(void *at, size_t bytes, int what) {
    uintptr_t from = ((uintptr_t)at + PAGE - 1) & ~(PAGE - 1);
    uintptr_t to = ((uintptr_t)at + bytes) & ~(PAGE - 1);
    if (from < to)
        (void)madvise((uint8_t *)at + (from - (uintptr_t)at), to - from, what);
}

void *pages_alloc(size_t bytes) {
    if (bytes < HUGE)
        return malloc(bytes ? bytes : 1);
    size_t whole = (bytes + HUGE - 1) & ~(HUGE - 1);
    void *p = whole < bytes ? NULL : aligned_alloc(HUGE, whole);
    if (p)
        pages_huge(p, whole);
    return p;
}

void pages_want(void *at, size_t bytes) {
    advise(at, bytes, MADV_POPULATE_WRITE); /* Linux 5.14 */
}

void pages_huge(void *at, size_t bytes) {
    advise(at, bytes, MADV_HUGEPAGE);
}
