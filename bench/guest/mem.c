/* SPDX-License-Identifier: MIT */
/* What a compiler may call in freestanding code, too. GCC from 16 on does; where none is called,
 * none is linked. */
#include <stddef.h>

void *memset(void *to, int byte, size_t n);

void *memset(void *to, int byte, size_t n) {
    for (size_t i = 0; i < n; i++)
        ((unsigned char *)to)[i] = (unsigned char)byte;
    return to;
}
