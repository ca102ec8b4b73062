/* SPDX-License-Identifier: MIT */
/*
 * The MultiProcessor Specification 1.4 tables, for guests that are older than ACPI or do not
 * read it: the floating pointer structure, and the configuration table behind it. They say
 * what the MADT says (acpi.c).
 */
#include <string.h>

#include "dev/dev.h"
#include "machine/internal.h"

#define FLOATING_SIZE 16u
#define HEADER_SIZE   44u
#define IOAPIC_ID     0u
#define IOAPIC_VER    0x20u /* ioapic.c */
#define LAPIC_VER     0x14u /* lapic.c */

/* The same whatever the CPU, so that memory is the same under every engine. */
#define CPU_FAMILY_6 0x600u
#define CPU_FEATURES 0x381u /* FPU, MCE, CMPXCHG8B, APIC */

#define CPU_ENABLED 1u
#define CPU_BOOT    2u

enum { ENTRY_CPU, ENTRY_BUS, ENTRY_IOAPIC, ENTRY_IO, ENTRY_LOCAL };
enum { INT_VECTORED, INT_NMI, INT_SMI, INT_EXTINT };
#define FLAGS_BUS     0u
#define FLAGS_HIGH_LV 0xdu /* active high, level */

struct table {
    uint8_t *buf; /* the configuration table */
    size_t size, used;
    unsigned entries;
};

/* Return: a zeroed entry, or NULL when it does not fit. */
static uint8_t *add(struct table *t, uint8_t type, size_t size) {
    if (size > t->size - t->used)
        return NULL;
    uint8_t *p = t->buf + t->used;
    memset(p, 0, size);
    p[0] = type;
    t->used += size;
    t->entries++;
    return p;
}

static bool add_cpu(struct table *t, uint8_t id) {
    uint8_t *p = add(t, ENTRY_CPU, 20);
    if (!p)
        return false;
    p[1] = id;
    p[2] = LAPIC_VER;
    p[3] = (uint8_t)(CPU_ENABLED | (id ? 0 : CPU_BOOT));
    put_le(p + 4, CPU_FAMILY_6, 4);
    put_le(p + 8, CPU_FEATURES, 4);
    return true;
}

/* An interrupt of ISA line `line` at a pin of the IO-APIC, or of all local APICs. */
static bool add_interrupt(struct table *t, uint8_t entry, uint8_t type, uint16_t flags,
                          uint8_t line, uint8_t apic, uint8_t pin) {
    uint8_t *p = add(t, entry, 8);
    if (!p)
        return false;
    p[1] = type;
    put_le(p + 2, flags, 2);
    p[5] = line;
    p[6] = apic;
    p[7] = pin;
    return true;
}

static bool add_chips(struct table *t) {
    uint8_t *bus = add(t, ENTRY_BUS, 8), *io = add(t, ENTRY_IOAPIC, 8);
    if (!bus || !io)
        return false;
    memcpy(bus + 2, "ISA   ", 6);
    io[1] = IOAPIC_ID;
    io[2] = IOAPIC_VER;
    io[3] = 1; /* usable */
    put_le(io + 4, IOAPIC_BASE, 4);
    return true;
}

static bool add_interrupts(struct table *t) {
    bool ok = true;
    for (uint8_t line = 0; line < 16; line++)
        if (line != 2) /* the cascade; line 0 is at its pin */
            ok = ok && add_interrupt(t, ENTRY_IO, INT_VECTORED,
                                     line == ACPI_SCI_GSI ? FLAGS_HIGH_LV : FLAGS_BUS,
                                     line, IOAPIC_ID, line ? line : 2);
    return ok && add_interrupt(t, ENTRY_LOCAL, INT_EXTINT, FLAGS_BUS, 0, 0xff, 0) &&
           add_interrupt(t, ENTRY_LOCAL, INT_NMI, FLAGS_BUS, 0, 0xff, 1);
}

size_t mp_table_build(uint8_t *buf, size_t size, pn_gpa at, const struct firmware *f) {
    if (size < FLOATING_SIZE + HEADER_SIZE)
        return 0;
    struct table t = {buf + FLOATING_SIZE, size - FLOATING_SIZE, HEADER_SIZE, 0};
    bool ok = f->cpus < 255; /* ids are bytes, and 255 means all */
    for (unsigned id = 0; id < f->cpus; id++)
        ok = ok && add_cpu(&t, (uint8_t)id);
    if (!ok || !add_chips(&t) || !add_interrupts(&t))
        return 0;
    memset(buf, 0, FLOATING_SIZE + HEADER_SIZE);
    memcpy(t.buf, "PCMP", 4);
    put_le(t.buf + 4, t.used, 2);
    t.buf[6] = 4; /* 1.4 */
    memcpy(t.buf + 8, "PENUMBRA", 8);
    memcpy(t.buf + 16, "PENUMBRA    ", 12);
    put_le(t.buf + 34, t.entries, 2);
    put_le(t.buf + 36, LAPIC_BASE, 4);
    put_checksum(t.buf, t.used, 7);
    memcpy(buf, "_MP_", 4);
    put_le(buf + 4, at + FLOATING_SIZE, 4);
    buf[8] = 1; /* paragraph */
    buf[9] = 4;
    put_checksum(buf, FLOATING_SIZE, 10);
    return FLOATING_SIZE + t.used;
}
