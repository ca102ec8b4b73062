/* SPDX-License-Identifier: MIT */
/*
 * The symbols that a Linux kernel of 64 bits carries for itself, found in its image
 * without any symbol that leads to them. As the kernel's build writes them (its program
 * kallsyms, write_src()), each table aligned to 8 bytes, or to 4 in some from 7.0 on:
 *
 *     up to 6.3: offsets, relative_base, num_syms, names, markers, [sequence numbers,]
 *                token_table, token_index
 *     from 6.4:  num_syms, names, markers, token_table, token_index, offsets,
 *                relative_base, ...
 *     from 7.0:  the same without relative_base: an offset is one from its own place
 *
 * The token table comes first here: its 256 strings hold the digits, each as a string of
 * its own, and token_index confirms it. num_syms and names lie before it, and the markers
 * confirm them: every 256th name begins where a marker says. The offsets are in one of
 * the two places, and are right when they make addresses in ascending order in the
 * kernel's half.
 *
 * Invariants
 * 1. Nothing is read outside the image; every length, index and count is checked.
 * 2. The search ends soon: each place of the image is tried once, the first few names of
 *    all tries have WORK_MAX tokens at most, and TRIES_MAX tries look at all names.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "inspect/symbols_internal.h"

#define TOKENS     256u
#define TRIES_MAX  8u
#define WORK_MAX   (1u << 28)
#define NAME_ROOM  2048u       /* KSYM_NAME_LEN is 512 at most */
#define COUNT_MIN  64u         /* a kernel has more */
#define COUNT_MAX  (1u << 22)  /* and less */
#define NAMES_SPAN (64u << 20) /* the names lie so near before the token table */
#define KERNEL_MAP 0xffffffff80000000ull

struct kallsyms {
    const uint8_t *data;
    size_t size;
    size_t align;         /* of tables */
    size_t tokens, index; /* where token_table and token_index are */
    size_t names;
    size_t count_at; /* num_syms */
    size_t work;     /* tokens of first names so far */
    uint32_t count;
    size_t offsets;
    uint64_t base;
    /* How an offset is read: from base; from base downwards, or absolute when it is not
     * negative (CONFIG_KALLSYMS_ABSOLUTE_PERCPU); from its own place, base being that of
     * the first one. */
    enum { FROM_BASE, PER_CPU, FROM_PLACE } form;
};

static size_t aligned(const struct kallsyms *k, size_t n) {
    return (n + k->align - 1) & ~(size_t)(k->align - 1);
}

static uint16_t u16_at(const struct kallsyms *k, size_t at) {
    uint16_t v;
    memcpy(&v, k->data + at, sizeof(v));
    return v;
}

static uint32_t u32_at(const struct kallsyms *k, size_t at) {
    uint32_t v;
    memcpy(&v, k->data + at, sizeof(v));
    return v;
}

/* Is [at, at+n) in the image? */
static bool has(const struct kallsyms *k, size_t at, uint64_t n) {
    return at <= k->size && n <= k->size - at;
}

/* ---- The tokens ---- */

/* Tokens from number `first`, which is at `at`, to the last; then the index, which says
 * where the first one is. Return: whether index and tokens agree. */
static bool tokens_at(struct kallsyms *k, size_t at, unsigned first) {
    size_t p = at;
    for (unsigned i = first; i < TOKENS; i++) {
        const uint8_t *end = p < k->size ? memchr(k->data + p, 0, k->size - p) : NULL;
        if (!end || (size_t)(end - (k->data + p)) > NAME_ROOM)
            return false;
        p = (size_t)(end - k->data) + 1;
    }
    k->index = aligned(k, p);
    if (!has(k, k->index, 2 * TOKENS) || u16_at(k, k->index) ||
        u16_at(k, k->index + 2 * first) > at)
        return false;
    k->tokens = at - u16_at(k, k->index + 2 * first);
    p = 0;
    for (unsigned i = 0; i < TOKENS; i++) {
        if (u16_at(k, k->index + 2 * i) != p)
            return false;
        p += strnlen((const char *)k->data + k->tokens + p, k->size - k->tokens - p) +
             1; /* ends before the index, see above */
        if (k->tokens + p > k->index)
            return false;
    }
    return true;
}

static bool find_tokens(struct kallsyms *k) {
    static const char digits[] = "0\0001\0002\0003\0004\0005\0006\0007\0008\0009";
    for (size_t at = 0; at < k->size;) {
        const uint8_t *p = memmem(k->data + at, k->size - at, digits, sizeof(digits));
        if (!p)
            return false;
        at = (size_t)(p - k->data);
        if (tokens_at(k, at, '0'))
            return true;
        at++;
    }
    return false;
}

/* ---- The names ---- */

/* The compressed name at *at: its length, at which *at then is not yet. Return: 0: it
 * does not end before the token table. */
static size_t name_length(const struct kallsyms *k, size_t *at) {
    if (*at + 2 > k->tokens)
        return 0;
    size_t n = k->data[(*at)++];
    if (n & 0x80) /* from 6.1 on; before, no name was as long */
        n = (n & 0x7f) | (size_t)k->data[(*at)++] << 7;
    return n <= k->tokens - *at ? n : 0;
}

/* The name of n bytes at `at` into buf of NAME_ROOM. Return: its length; 0: too long. */
static size_t expand(const struct kallsyms *k, size_t at, size_t n, char *buf) {
    size_t used = 0;
    for (size_t i = 0; i < n; i++) {
        const char *token = (const char *)k->data + k->tokens +
                            u16_at(k, k->index + 2u * k->data[at + i]);
        size_t length = strlen(token); /* tokens_at has seen its end */
        if (length > NAME_ROOM - 1 - used)
            return 0;
        memcpy(buf + used, token, length);
        used += length;
    }
    buf[used] = 0;
    return used;
}

/* Do the first names at `at` look like a type and a name? */
static bool begins_names(struct kallsyms *k, size_t at) {
    char buf[NAME_ROOM];
    for (unsigned i = 0; i < 16; i++) {
        size_t n = name_length(k, &at), length = n ? expand(k, at, n, buf) : 0;
        k->work += n;
        if (length < 2 || !strchr("aAbBdDrRtTvVwWnN", buf[0]))
            return false;
        for (size_t j = 1; j < length; j++)
            if (buf[j] <= ' ' || buf[j] > '~')
                return false;
        at += n;
    }
    return true;
}

/* Names from k->names on, and whether the markers behind them agree. */
static bool check_names(struct kallsyms *k) {
    size_t at = k->names;
    for (uint32_t i = 0; i < k->count; i++) {
        size_t n = name_length(k, &at);
        if (!n)
            return false;
        at += n;
    }
    size_t markers = aligned(k, at);
    uint32_t blocks = (k->count + 255) / 256;
    if (markers > k->tokens || 4ull * blocks > k->tokens - markers)
        return false;
    at = k->names;
    for (uint32_t i = 0; i < k->count; i++) {
        if (i % 256 == 0 && u32_at(k, markers + 4 * (i / 256)) != at - k->names)
            return false;
        size_t n = name_length(k, &at);
        at += n;
    }
    return true;
}

static bool find_names(struct kallsyms *k) {
    unsigned tries = 0;
    size_t low = k->tokens > NAMES_SPAN ? k->tokens - NAMES_SPAN : 0;
    for (size_t at = k->tokens & ~(size_t)(k->align - 1);
         at >= low + 16 && tries < TRIES_MAX && k->work < WORK_MAX;) {
        at -= k->align;
        k->count = u32_at(k, at);
        k->count_at = at;
        k->names = at + k->align;
        if (k->count < COUNT_MIN || k->count > COUNT_MAX ||
            (k->align == 8 && u32_at(k, at + 4)) || k->count > k->tokens - at ||
            !begins_names(k, k->names))
            continue;
        tries++;
        if (check_names(k))
            return true;
    }
    return false;
}

/* ---- The addresses ---- */

static uint64_t address(const struct kallsyms *k, uint32_t i) {
    uint32_t offset = u32_at(k, k->offsets + 4 * (size_t)i);
    uint64_t extended = (uint64_t)(int64_t)(int32_t)offset;
    switch (k->form) {
    case PER_CPU:
        return offset >> 31 ? k->base - 1 - extended : offset;
    case FROM_PLACE:
        return k->base + 4 * (uint64_t)i + extended;
    default:
        return k->base + offset;
    }
}

/* Addresses ascend, and end in the kernel's half. */
static bool check_addresses(const struct kallsyms *k) {
    for (uint32_t i = 1; i < k->count; i++)
        if (address(k, i) < address(k, i - 1))
            return false;
    return address(k, k->count - 1) >= KERNEL_MAP;
}

/* Offsets at `at`, and their base behind them. */
static bool offsets_at(struct kallsyms *k, size_t at) {
    size_t base = aligned(k, at + 4 * (size_t)k->count);
    if (!has(k, base, sizeof(k->base)))
        return false;
    k->offsets = at;
    memcpy(&k->base, k->data + base, sizeof(k->base));
    k->form = u32_at(k, at + 4 * ((size_t)k->count - 1)) >> 31 ? PER_CPU : FROM_BASE;
    return k->base >= KERNEL_MAP && check_addresses(k);
}

/* Where the image's file offset is in memory, as its program headers say; 0: nowhere. */
static uint64_t address_of(const struct kallsyms *k, size_t at) {
    Elf64_Ehdr h;
    if (!has(k, 0, sizeof(h)))
        return 0;
    memcpy(&h, k->data, sizeof(h));
    for (unsigned i = 0; i < h.e_phnum && h.e_phentsize == sizeof(Elf64_Phdr); i++) {
        Elf64_Phdr p;
        uint64_t header;
        if (__builtin_add_overflow(h.e_phoff, i * sizeof(p), &header) ||
            !has(k, header, sizeof(p)))
            return 0;
        memcpy(&p, k->data + header, sizeof(p));
        if (p.p_type == PT_LOAD && at >= p.p_offset && at - p.p_offset < p.p_filesz)
            return p.p_vaddr + (at - p.p_offset);
    }
    return 0;
}

/* Offsets at `at`, each from its own place. */
static bool places_at(struct kallsyms *k, size_t at) {
    if (!has(k, at, 4ull * k->count))
        return false;
    k->offsets = at;
    k->base = address_of(k, at);
    k->form = FROM_PLACE;
    return k->base && check_addresses(k);
}

static bool find_offsets(struct kallsyms *k) {
    size_t room = aligned(k, 4 * (size_t)k->count) + sizeof(k->base);
    size_t behind = aligned(k, k->index + 2 * TOKENS);
    return (k->count_at >= room && offsets_at(k, k->count_at - room)) ||
           offsets_at(k, behind) || places_at(k, behind);
}

static bool find(struct kallsyms *k, const uint8_t *data, size_t size, size_t align) {
    *k = (struct kallsyms){.data = data, .size = size, .align = align};
    return find_tokens(k) && find_names(k) && find_offsets(k);
}

int symbols_add_kallsyms(struct symbols *s, const uint8_t *data, size_t size) {
    struct kallsyms k;
    char name[NAME_ROOM];
    int rc = 0;
    if (!find(&k, data, size, 8) && !find(&k, data, size, 4))
        return 0;
    size_t at = k.names;
    for (uint32_t i = 0; i < k.count && !rc; i++) {
        size_t n = name_length(&k, &at), length = expand(&k, at, n, name);
        char type = name[0];
        at += n;
        if (length > 1)
            rc = symbols_add(s,
                             &(struct symbol){.from = address(&k, i),
                                              .function = strchr("tTwW", type) != NULL,
                                              .weak = type == 'w' || type == 'W'},
                             name + 1, length - 1);
    }
    return rc;
}
