/* SPDX-License-Identifier: MIT */
/* AML encoders: see aml.h. Opcodes by their names in the ACPI specification. */
#include <string.h>

#include "machine/aml.h"

enum {
    ZERO_OP = 0x00,
    ONE_OP = 0x01,
    NAME_OP = 0x08,
    BYTE_PREFIX = 0x0a,
    WORD_PREFIX = 0x0b,
    DWORD_PREFIX = 0x0c,
    STRING_PREFIX = 0x0d,
    QWORD_PREFIX = 0x0e,
    SCOPE_OP = 0x10,
    BUFFER_OP = 0x11,
    PACKAGE_OP = 0x12,
    EXT_PREFIX = 0x5b,
    DEVICE_OP = 0x82,
};

void aml_bytes(struct aml *a, const void *data, size_t size) {
    if (a->full || size > a->size - a->used) {
        a->full = true;
        return;
    }
    memcpy(a->buf + a->used, data, size);
    a->used += size;
}

static void byte(struct aml *a, uint8_t value) {
    aml_bytes(a, &value, 1);
}

static void name_string(struct aml *a, const char *name) {
    aml_bytes(a, name, strlen(name));
}

size_t aml_scope(struct aml *a, const char *name) {
    byte(a, SCOPE_OP);
    size_t begin = a->used;
    name_string(a, name);
    return begin;
}

size_t aml_device(struct aml *a, const char *name) {
    byte(a, EXT_PREFIX);
    byte(a, DEVICE_OP);
    size_t begin = a->used;
    name_string(a, name);
    return begin;
}

size_t aml_package(struct aml *a, unsigned elements) {
    byte(a, PACKAGE_OP);
    size_t begin = a->used;
    byte(a, (uint8_t)elements);
    return begin;
}

/* PkgLength counts itself: one byte up to 63, else 4 bits in the lead byte and more. */
void aml_end(struct aml *a, size_t begin) {
    if (a->full)
        return;
    size_t body = a->used - begin;
    unsigned extra = body + 1 <= 0x3f ? 0 : body + 2 <= 0xfff ? 1 : 2;
    size_t total = body + 1 + extra;
    uint8_t head[3] = {(uint8_t)total, 0, 0};
    if (extra) {
        head[0] = (uint8_t)(extra << 6 | (total & 0xf));
        head[1] = (uint8_t)(total >> 4);
        head[2] = (uint8_t)(total >> 12);
    }
    aml_bytes(a, head, 1 + extra); /* for the room */
    if (a->full)
        return;
    memmove(a->buf + begin + 1 + extra, a->buf + begin, body);
    memcpy(a->buf + begin, head, 1 + extra);
}

void aml_name(struct aml *a, const char *name) {
    byte(a, NAME_OP);
    name_string(a, name);
}

void aml_integer(struct aml *a, uint64_t value) {
    static const struct {
        uint64_t max;
        uint8_t prefix, size;
    } forms[] = {{0xff, BYTE_PREFIX, 1},
                 {0xffff, WORD_PREFIX, 2},
                 {0xffffffff, DWORD_PREFIX, 4},
                 {UINT64_MAX, QWORD_PREFIX, 8}};
    if (value <= 1) {
        byte(a, value ? ONE_OP : ZERO_OP);
        return;
    }
    unsigned i = 0;
    while (value > forms[i].max)
        i++;
    byte(a, forms[i].prefix);
    aml_bytes(a, &value, forms[i].size);
}

static unsigned hex_digit(char c) {
    return (unsigned)(c <= '9' ? c - '0' : c - 'A' + 10);
}

void aml_string(struct aml *a, const char *text) {
    byte(a, STRING_PREFIX);
    aml_bytes(a, text, strlen(text) + 1);
}

/* Three letters of five bits and four hex digits, most significant byte first. */
void aml_eisaid(struct aml *a, const char *id) {
    uint32_t v = (uint32_t)(id[0] - 0x40) << 26 | (uint32_t)(id[1] - 0x40) << 21 |
                 (uint32_t)(id[2] - 0x40) << 16;
    for (unsigned i = 0; i < 4; i++)
        v |= hex_digit(id[3 + i]) << (12 - 4 * i);
    v = __builtin_bswap32(v);
    byte(a, DWORD_PREFIX);
    aml_bytes(a, &v, 4);
}

void aml_buffer(struct aml *a, const void *data, size_t size) {
    byte(a, BUFFER_OP);
    size_t begin = a->used;
    aml_integer(a, size);
    aml_bytes(a, data, size);
    aml_end(a, begin);
}

void aml_io_irq(struct aml *a, uint16_t port, uint8_t length, int irq) {
    uint8_t res[16];
    unsigned n = 0;
    /* I/O port descriptor: 16-bit decode, min, max, alignment, length. */
    const uint8_t io[] = {0x47,
                          0x01,
                          (uint8_t)port,
                          (uint8_t)(port >> 8),
                          (uint8_t)port,
                          (uint8_t)(port >> 8),
                          1,
                          length};
    memcpy(res, io, sizeof(io));
    n = sizeof(io);
    if (irq >= 0) { /* IRQ descriptor without flags: edge, active high */
        res[n++] = 0x22;
        res[n++] = (uint8_t)(1u << irq);
        res[n++] = (uint8_t)(1u << irq >> 8);
    }
    res[n++] = 0x79; /* end tag, no checksum */
    res[n++] = 0;
    aml_buffer(a, res, n);
}
