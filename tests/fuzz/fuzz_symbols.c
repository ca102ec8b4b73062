/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the readers of symbols: whatever the file holds, it is refused with a line of
 * text, or every symbol of it has a name and an end, and is found where it begins.
 *
 * Byte 0 chooses: the rest is the file; an ELF with the rest as its sections; or a
 * kernel's image, with good tokens behind the rest, so that random bytes reach the names.
 */
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/symbols.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define HEAD   64u
#define TOKENS 1024u

/* An ELF header whose section headers, up to 16 of them, begin behind it. */
static void put_head(unsigned char *file, unsigned sections) {
    static const unsigned char ident[] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
    memset(file, 0, HEAD);
    memcpy(file, ident, sizeof(ident));
    file[0x28] = HEAD; /* e_shoff */
    file[0x3a] = 64;   /* e_shentsize */
    file[0x3c] = (unsigned char)sections;
}

/* A token table with each printable character, and its index. Return: bytes. */
static size_t put_tokens(unsigned char *file) {
    uint16_t index[256];
    size_t n = 0;
    for (unsigned i = 0; i < 256; i++) {
        index[i] = (uint16_t)n;
        if (i > ' ' && i < 0x7f)
            file[n++] = (unsigned char)i;
        file[n++] = 0;
    }
    while (n % 8)
        file[n++] = 0;
    memcpy(file + n, index, sizeof(index));
    return n + sizeof(index);
}

static void use(const struct symbols *s) {
    for (uint32_t i = 0; i < symbols_count(s); i++) {
        uint64_t from, to;
        symbols_range(s, i, &from, &to);
        if (!symbols_name(s, i)[0] || to < from)
            abort();
        uint32_t at = symbols_at(s, from);
        if (at != SYMBOLS_NONE && at > i)
            abort();
    }
    symbols_named(s, "x");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (!size)
        return 0;
    char line[256] = "";
    struct err e = {line, sizeof(line)};
    unsigned form = data[0] % 3;
    size_t rest = size - 1, total = 0;
    unsigned char *file = calloc(1, HEAD + rest + 8 + 2 * TOKENS);
    if (!file)
        abort();
    if (form)
        put_head(file, form == 1 ? data[0] >> 4 : 0);
    total = form ? HEAD : 0;
    memcpy(file + total, data + 1, rest);
    total += rest;
    if (form == 2) {
        total = (total + 7) & ~(size_t)7;
        total += put_tokens(file + total);
    }
    struct symbols *s = NULL;
    if (symbols_parse(file, total, "F", &s, &e) == 0) {
        use(s);
        symbols_free(s);
    } else if (!line[0] || s) {
        abort();
    }
    free(file);
    return 0;
}
