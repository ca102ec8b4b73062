/* SPDX-License-Identifier: MIT */
/*
 * What glibc's string functions and some of libm's return, as hashes: one line each. glibc
 * chooses them by CPUID when it starts. Strings end where the next page is absent, so that
 * wide and masked loads reach beyond them.
 */
#define _GNU_SOURCE
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/mman.h>
#include <wchar.h>

#define SIZE   8192u /* of an area, which an absent page follows */
#define ROUNDS 400u

static uint64_t state = 42, hash;
static char *from, *to; /* the ends of the two areas */

static uint32_t below(uint32_t n) {
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)((state >> 32) * n >> 32);
}

static void add(uint64_t v) {
    hash = (hash ^ v) * UINT64_C(0x9e3779b97f4a7c15);
    hash ^= hash >> 29;
}
static void add_bytes(const void *p, size_t n) {
    const unsigned char *b = p;
    for (size_t i = 0; i < n; i++)
        add(b[i]);
}
/* A pointer that a search returned: where it points, or none. */
static void add_place(const void *p, const void *start) {
    add(p ? (uint64_t)((const char *)p - (const char *)start) : UINT64_MAX);
}

static char *area(void) {
    char *p = mmap(NULL, SIZE + 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                   -1, 0);
    if (p == MAP_FAILED || mprotect(p + SIZE, 4096, PROT_NONE)) {
        perror("strings: mmap");
        exit(1);
    }
    return p + SIZE;
}

/* n bytes before the absent page, of few letters; the last one is 0. */
static char *text(char *end, size_t n) {
    char *p = end - n;
    for (size_t i = 0; i + 1 < n; i++)
        p[i] = (char)('a' + below(6) * (below(40) == 0 ? 4 : 1));
    end[-1] = 0;
    return p;
}

static size_t length(void) {
    return 1 + below(below(4) ? 200 : 3000);
}

/* ---- What is called in each round ---- */

static void search(void) {
    size_t n = length();
    char *p = text(from, n);
    int c = 'a' + (int)below(8);
    add(strlen(p)), add(strnlen(p, below(4000)));
    add_place(strchr(p, c), p), add_place(strrchr(p, c), p),
        add_place(strchrnul(p, c), p);
    add_place(memchr(p, c, n), p), add_place(memrchr(p, c, n), p);
    add_place(rawmemchr(p, 0), p);
    add(strspn(p, "abcd")), add(strcspn(p, "fu")), add_place(strpbrk(p, "uq"), p);
    add_place(strstr(p, "abca"), p), add_place(memmem(p, n, "fedc", 4), p);
}

static int sign(int v) {
    return (v > 0) - (v < 0);
}

static void compare(void) {
    size_t n = length(), at;
    char *p = text(from, n), *q = to - n;
    memcpy(q, p, n);
    at = below((uint32_t)n);
    if (below(3) && at + 1 < n)
        q[at] = (char)(q[at] + 1);
    add((uint64_t)sign(strcmp(p, q))), add((uint64_t)sign(memcmp(p, q, n)));
    add((uint64_t)sign(strncmp(p, q, below(4000)))),
        add((uint64_t)sign(strcasecmp(p, q)));
    add((uint64_t)sign(strncasecmp(p, q, at)));
}

static void copy(void) {
    size_t n = length(), shift = below(64);
    char *p = text(from, n);
    memset(to - SIZE, (int)below(256), SIZE);
    add_place(stpcpy(to - n, p), to), add_bytes(to - SIZE, SIZE);
    strncpy(to - 4000, p, 4000), add_bytes(to - 4000, 4000);
    strcpy(to - 8000, "x"), strcat(to - 8000, p), strncat(to - 8000, p, shift);
    memmove(to - n - shift, to - n, n), memmove(to - n, to - n - shift / 2, n);
    add_place(mempcpy(to - SIZE, p, n), to), add_bytes(to - SIZE, SIZE);
}

static void wide(void) {
    size_t n = length() / 4 + 1;
    wchar_t *p = (wchar_t *)(void *)from - n, *q = (wchar_t *)(void *)to - n;
    for (size_t i = 0; i < n; i++)
        p[i] = (wchar_t)(0x400 + below(5));
    p[n - 1] = 0;
    wmemcpy(q, p, n);
    q[below((uint32_t)n)] = 0;
    add(wcslen(p)), add(wcsnlen(p, below(900))), add_place(wcschr(p, 0x402), p);
    add_place(wcsrchr(p, 0x403), p), add_place(wmemchr(p, 0x404, n), p);
    add((uint64_t)sign(wcscmp(p, q))), add((uint64_t)sign(wmemcmp(p, q, n)));
    wmemset(q, 0x12345678, n), add_bytes(q, n * sizeof *q);
}

static void add_double(double v) {
    uint64_t bits;
    memcpy(&bits, &v, 8);
    add(bits);
}

static void mathematics(void) {
    double x = (double)below(1u << 30) / (1 << 26) + 0.001, y = x / 3;
    add_double(sin(x)), add_double(cos(x)), add_double(tan(x)), add_double(atan(x));
    add_double(exp(y)), add_double(log(x)), add_double(pow(x, y)),
        add_double(atan2(y, x));
    add_double(floor(x)), add_double(rint(y)), add_double(fma(x, y, -x));
}

int main(void) {
    static const struct {
        const char *name;
        void (*run)(void);
    } groups[] = {{"search", search},
                  {"compare", compare},
                  {"copy", copy},
                  {"wide", wide},
                  {"libm", mathematics}};
    from = area(), to = area();
    for (unsigned g = 0; g < sizeof groups / sizeof *groups; g++) {
        hash = 0;
        for (unsigned i = 0; i < ROUNDS; i++)
            groups[g].run();
        printf("%s %016llx\n", groups[g].name, (unsigned long long)hash);
    }
    return 0;
}
