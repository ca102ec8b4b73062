/* SPDX-License-Identifier: MIT */
/* Sizes as text: see size.h. */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "base/size.h"

static const char suffixes[] = "KMGT";

int size_parse(const char *text, uint64_t *out) {
    uint64_t n = 0;
    const char *p = text;
    for (; *p >= '0' && *p <= '9'; p++)
        if (__builtin_mul_overflow(n, 10u, &n) ||
            __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
            return -ERANGE;
    if (p == text)
        return -EINVAL;
    unsigned shift = 0;
    if (*p) {
        for (unsigned i = 0; suffixes[i]; i++)
            if ((*p & ~0x20) == suffixes[i])
                shift = 10 * (i + 1);
        if (!shift || p[1])
            return -EINVAL;
    }
    if (n > UINT64_MAX >> shift)
        return -ERANGE;
    *out = n << shift;
    return 0;
}

const char *size_text(uint64_t size, char buf[SIZE_TEXT_MAX]) {
    unsigned i = 0;
    while (size && size % 1024 == 0 && i < 4)
        size /= 1024, i++;
    char suffix[2] = {i ? suffixes[i - 1] : '\0', '\0'};
    snprintf(buf, SIZE_TEXT_MAX, "%" PRIu64 "%s", size, suffix);
    return buf;
}
