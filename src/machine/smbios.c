/* SPDX-License-Identifier: MIT */
/*
 * SMBIOS 2.8 tables (DMTF DSP0134): the entry point, and behind it the structures that are
 * required of a machine and say something true of this one.
 */
#include <stdarg.h>
#include <string.h>

#include "machine/internal.h"

#define ENTRY_SIZE 32u /* 31 bytes, and one that aligns the table */
#define NO_HANDLE  0xffffu
#define NO_ERROR   0xfffeu /* no structure of errors */

enum {
    TYPE_BIOS = 0,
    TYPE_SYSTEM = 1,
    TYPE_CHASSIS = 3,
    TYPE_PROCESSOR = 4,
    TYPE_ARRAY = 16,
    TYPE_DEVICE = 17,
    TYPE_MAPPED = 19,
    TYPE_BOOT = 32,
    TYPE_END = 127,
};
enum { OTHER = 1, UNKNOWN = 2, SAFE = 3 }; /* of most enumerations */

struct table {
    uint8_t *buf;
    size_t size, used, largest;
    unsigned count;
    bool full;
};

/* A zeroed structure of `size` bytes with its strings, up to a NULL. handle: its type and
 * number. Return: it; scratch when it does not fit. */
static uint8_t *add(struct table *t, uint8_t type, uint8_t size, uint16_t handle, ...) {
    static const size_t longest = 64; /* of all fixed parts */
    size_t at = t->used;
    va_list strings;
    va_start(strings, handle);
    if (t->full || t->size - t->used < longest) {
        t->full = true;
        at = 0;
    }
    uint8_t *p = t->buf + at;
    memset(p, 0, size);
    p[0] = type;
    p[1] = size;
    put_le(p + 2, handle, 2);
    size_t n = size;
    for (const char *s; (s = va_arg(strings, const char *));) {
        size_t len = strlen(s) + 1;
        if (at + n + len + 2 > t->size) {
            t->full = true;
            break;
        }
        memcpy(p + n, s, len);
        n += len;
    }
    va_end(strings);
    if (n == size) /* no strings are two NULs */
        p[n++] = 0;
    p[n++] = 0;
    if (!t->full) {
        t->used = at + n;
        t->count++;
        t->largest = n > t->largest ? n : t->largest;
    }
    return p;
}

static void add_system(struct table *t) {
    uint8_t *p = add(t, TYPE_BIOS, 24, 0, "penumbra", "1", "01/01/2026", NULL);
    p[4] = 1, p[5] = 2;
    put_le(p + 6, 0xf000, 2);
    p[8] = 3;
    p[10] = 1u << 3; /* characteristics are not told */
    p[18] = 1u << 0; /* ACPI */
    p[19] = 1u << 4; /* a virtual machine */
    p[20] = 1;       /* release 1.0 */
    p[22] = p[23] = 0xff;
    p = add(t, TYPE_SYSTEM, 27, 0x100, "penumbra", "virtual machine", NULL);
    p[4] = 1, p[5] = 2;
    p[24] = 6; /* woken by the power switch */
    p = add(t, TYPE_CHASSIS, 21, 0x300, "penumbra", NULL);
    p[4] = 1;
    p[5] = OTHER;
    p[9] = p[10] = p[11] = SAFE;
    p[12] = UNKNOWN;
}

static void add_cpu(struct table *t, unsigned id) {
    uint8_t *p =
        add(t, TYPE_PROCESSOR, 42, (uint16_t)(0x400 + id), "CPU", "penumbra", NULL);
    p[4] = 1;
    p[5] = 3; /* central */
    p[6] = OTHER;
    p[7] = 2;
    p[24] = 0x41; /* populated, enabled */
    p[25] = OTHER;
    put_le(p + 26, NO_HANDLE, 2);
    put_le(p + 28, NO_HANDLE, 2);
    put_le(p + 30, NO_HANDLE, 2);
    p[35] = p[36] = p[37] = 1; /* cores, enabled ones, threads */
    p[38] = 1u << 2;           /* 64 bits */
    p[40] = OTHER;
}

static void add_memory(struct table *t, uint64_t ram) {
    uint64_t low = ram < LOW_RAM_MAX ? ram : LOW_RAM_MAX, mib = ram >> 20;
    uint8_t *p = add(t, TYPE_ARRAY, 23, 0x1000, NULL);
    p[4] = OTHER;
    p[5] = 3; /* system memory */
    p[6] = 3; /* no ECC */
    put_le(p + 7, ram >> 10, 4);
    put_le(p + 11, NO_ERROR, 2);
    p[13] = 1;
    p = add(t, TYPE_DEVICE, 40, 0x1100, "RAM", NULL);
    put_le(p + 4, 0x1000, 2);
    put_le(p + 6, NO_ERROR, 2);
    put_le(p + 8, 0xffff, 2);
    put_le(p + 10, 0xffff, 2);
    /* MiB, or with bit 15 KiB; 0x7fff: as many MiB as the extended size says */
    put_le(p + 12, mib >= 0x7fff ? 0x7fff : mib >= 32 ? mib : (ram >> 10) | 0x8000, 2);
    p[14] = OTHER;
    p[16] = 1;
    p[18] = 7; /* RAM */
    p[19] = 1u << 1;
    put_le(p + 28, mib >= 0x7fff ? mib : 0, 4);
    for (unsigned i = 0; i < (ram > low ? 2u : 1u); i++) {
        uint64_t from = i ? HIGH_RAM_BASE : 0, size = i ? ram - low : low;
        p = add(t, TYPE_MAPPED, 31, (uint16_t)(0x1300 + i), NULL);
        put_le(p + 4, from >> 10, 4);
        put_le(p + 8, ((from + size) >> 10) - 1, 4);
        put_le(p + 12, 0x1000, 2);
        p[14] = 1;
    }
}

size_t smbios_build(uint8_t *buf, size_t size, pn_gpa at, uint64_t ram,
                    const struct firmware *f) {
    if (size < ENTRY_SIZE + 128)
        return 0;
    struct table t = {.buf = buf + ENTRY_SIZE, .size = size - ENTRY_SIZE};
    add_system(&t);
    for (unsigned id = 0; id < f->cpus; id++)
        add_cpu(&t, id);
    add_memory(&t, ram);
    add(&t, TYPE_BOOT, 11, 0x2000, NULL);
    add(&t, TYPE_END, 4, 0x7f00, NULL);
    if (t.full)
        return 0;
    memset(buf, 0, ENTRY_SIZE);
    memcpy(buf, "_SM_", 4);
    buf[5] = 31;
    buf[6] = 2, buf[7] = 8;
    put_le(buf + 8, t.largest, 2);
    memcpy(buf + 16, "_DMI_", 5);
    put_le(buf + 22, t.used, 2);
    put_le(buf + 24, at + ENTRY_SIZE, 4);
    put_le(buf + 28, t.count, 2);
    buf[30] = 0x28;
    put_checksum(buf + 16, 15, 5);
    put_checksum(buf, 31, 4);
    return ENTRY_SIZE + t.used;
}
