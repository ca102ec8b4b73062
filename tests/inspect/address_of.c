/* SPDX-License-Identifier: MIT */
/* address_of FILE NAME: where a function or variable of a kernel's is linked, by its own
 * kallsyms. */
#include <inttypes.h>
#include <stdio.h>

#include "inspect/symbols.h"

int main(int argc, char **argv) {
    char text[256] = "usage";
    struct err e = {text, sizeof(text)};
    struct symbols *s = NULL;
    uint64_t at;
    if (argc != 3 || symbols_load(argv[1], &s, &e)) {
        fprintf(stderr, "address_of: %s\n", text);
        return 1;
    }
    bool known = symbols_value(s, argv[2], &at);
    if (known)
        printf("0x%" PRIx64 "\n", at);
    symbols_free(s);
    return !known;
}
