/* SPDX-License-Identifier: MIT */
/* Sizes and numbers as text: see size.h. */
#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define FRACTION_MAX 6u /* digits: shifted by 40 they are below 2^64 */
#define PAGE         4096u

static const char suffixes[] = "KMGT";

/* Decimal digits at *p, which moves behind them. Return: 0 or -ERANGE. */
static int digits(const char **p, uint64_t *n) {
    for (*n = 0; **p >= '0' && **p <= '9'; ++*p)
        if (__builtin_mul_overflow(*n, 10u, n) ||
            __builtin_add_overflow(*n, (uint64_t)(**p - '0'), n))
            return -ERANGE;
    return 0;
}

/* "M" or "MiB". Return: the power of 2, 0 for "", or -EINVAL. */
static int suffix(const char *p) {
    for (int i = 0; suffixes[i]; i++)
        if ((*p & ~0x20) == suffixes[i])
            return !p[1] || !strcmp(p + 1, "iB") ? 10 * (i + 1) : -EINVAL;
    return *p ? -EINVAL : 0;
}

int size_parse(const char *text, uint64_t *out) {
    uint64_t n, part = 0, whole = 1;
    const char *p = text, *point;
    int rc = digits(&p, &n);
    if (rc || p == text)
        return rc ? rc : -EINVAL;
    if (*p == '.') {
        point = p++;
        rc = digits(&p, &part);
        if (rc || p == point + 1 || p - point > (int)FRACTION_MAX + 1)
            return -EINVAL;
        for (; ++point < p;)
            whole *= 10;
    }
    int shift = suffix(p);
    if (shift < 0 || (part << shift) % (whole * (part ? PAGE : 1)))
        return -EINVAL;
    if (n > UINT64_MAX >> shift)
        return -ERANGE;
    *out = (n << shift) + (part << shift) / whole;
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

/* "1e6", "5.8e9": *value has the digits before the point. Return: behind the number, or NULL:
 * it is no whole one, or too large (*large). */
static const char *with_exponent(const char *at, uint64_t *value, bool *large) {
    unsigned long digits = 0, zeros;
    char *end;
    if (*at == '.')
        for (at++; isdigit((unsigned char)*at); at++, digits++)
            *large |= __builtin_mul_overflow(*value, 10u, value) ||
                      __builtin_add_overflow(*value, (uint64_t)(*at - '0'), value);
    if (*at != 'e' || !isdigit((unsigned char)at[1]))
        return digits || at[-1] == '.' ? NULL : at;
    zeros = strtoul(at + 1, &end, 10);
    if (zeros < digits)
        return NULL;
    for (zeros -= digits; zeros && *value && !*large; zeros--)
        *large = __builtin_mul_overflow(*value, 10u, value);
    return *large ? NULL : end;
}

int number_parse(const char *text, uint64_t min, uint64_t max, uint64_t *value) {
    if (!isdigit((unsigned char)text[0])) /* no sign, no blanks */
        return -EINVAL;
    bool hex = text[0] == '0' && (text[1] == 'x' || text[1] == 'X'), large = false;
    char *digits;
    errno = 0;
    *value = strtoull(text, &digits, hex ? 16 : 10);
    if (errno)
        return -ERANGE;
    const char *end = hex ? digits : with_exponent(digits, value, &large);
    if (large)
        return -ERANGE;
    if (!end || *end)
        return -EINVAL;
    return *value < min || *value > max ? -ERANGE : 0;
}
