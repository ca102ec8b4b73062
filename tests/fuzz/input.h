/* SPDX-License-Identifier: MIT */
/* A fuzzer's bytes, taken from the front; zeros come after the last one. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <string.h>

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
