/* SPDX-License-Identifier: MIT */
/* address_of FILE NAME: where a function of a kernel's is linked, by its own kallsyms. */
#include <inttypes.h>
#include <stdio.h>

#include "inspect/symbols.h"

int main(int argc, char **argv) {
    char text[256] = "usage";
    struct err e = {text, sizeof(text)};
    struct symbols *s = NULL;
    uint64_t from, to;
    if (argc != 3 || symbols_load(argv[1], &s, &e)) {
        fprintf(stderr, "address_of: %s\n", text);
        return 1;
    }
    uint32_t n = symbols_named(s, argv[2]);
    if (n != SYMBOLS_NONE) {
        symbols_range(s, n, &from, &to);
        printf("0x%" PRIx64 "\n", from);
    }
    symbols_free(s);
    return n == SYMBOLS_NONE;
}
