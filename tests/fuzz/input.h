/* SPDX-License-Identifier: MIT */
/* A fuzzer's bytes, taken from the front; zeros come after the last one. And what must hold. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define REQUIRE(x)                                                                       \
    do {                                                                                 \
        if (!(x)) {                                                                      \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x);                      \
            abort();                                                                     \
        }                                                                                \
    } while (0)

struct input {
    const uint8_t *data;
    size_t size;
};

/* Return: the next `bytes` bytes, at most 8, little endian. */
static inline uint64_t take(struct input *in, size_t bytes) {
    uint64_t v = 0;
    if (bytes > in->size)
        bytes = in->size;
    memcpy(&v, in->data, bytes);
    in->data += bytes;
    in->size -= bytes;
    return v;
}
