/* SPDX-License-Identifier: MIT */
/*
 * ACPI tables (ACPI specification 5.1, chapter "ACPI Software Programming Model"): RSDP,
 * RSDT, XSDT, FADT, FACS, MADT, HPET and MCFG where there is one, SRAT and SLIT where there are
 * NUMA nodes, and a DSDT with _S3, _S5, the serial port, the RTC and the PCI bridge.
 *
 *     ACPI_BASE  RSDP | RSDT | XSDT | FACS (64-byte aligned) | DSDT | FADT | MADT | HPET | MCFG | SRAT | SLIT
 *
 * ACPI mode is always on (no SMI command port); the fixed power button is there.
 */
#include <string.h>

#include "dev/pci.h"
#include "machine/aml.h"
#include "machine/internal.h"

#define OEM_ID       "PENUMB"
#define OEM_TABLE_ID "PENUMBRA"

#define FADT_SIZE       268u /* revision 5 */
#define FADT_WBINVD     (1u << 0)
#define FADT_PROC_C1    (1u << 2)
#define FADT_SLP_BUTTON (1u << 5) /* none */
#define FADT_RESET_REG  (1u << 10)
#define BOOT_LEGACY     (1u << 0)
#define BOOT_NO_VGA     (1u << 2)

#define FACS_WAKE_64     2u /* 64BIT_WAKE_SUPPORTED_F */
#define MADT_PCAT_COMPAT 1u
#define HPET_MIN_TICKS   100u
#define AFFINITY_ENABLED 1u
#define ROOTS            6u /* tables that RSDT and XSDT name, at most */

struct tables {
    uint8_t *buf;
    size_t size, used;
    bool full;
};

/* Signatures and ids: letters without a NUL. */
static void put_text(uint8_t *p, const char *text) {
    while (*text)
        *p++ = (uint8_t)*text++;
}

/* Zeroed room. Return: offset, or 0 when full (the RSDP alone stands at 0). */
static size_t reserve(struct tables *t, size_t size, size_t align) {
    size_t at = (t->used + align - 1) & ~(align - 1);
    if (t->full || at > t->size || size > t->size - at) {
        t->full = true;
        return 0;
    }
    memset(t->buf + at, 0, size);
    t->used = at + size;
    return at;
}

/* Fill a table's common header; its length is what has been used since `at`. */
static void finish(struct tables *t, size_t at, const char *signature, uint8_t revision) {
    if (t->full)
        return;
    uint8_t *p = t->buf + at;
    size_t size = t->used - at;
    put_text(p, signature);
    put_le(p + 4, size, 4);
    p[8] = revision;
    put_text(p + 10, OEM_ID);
    put_text(p + 16, OEM_TABLE_ID);
    put_le(p + 24, 1, 4);
    put_text(p + 28, "PNMB");
    put_le(p + 32, 1, 4);
    put_checksum(p, size, 9);
}

/* Generic address structure: system I/O. */
static void put_gas(uint8_t *p, unsigned bits, unsigned access, uint16_t port) {
    p[0] = 1;
    p[1] = (uint8_t)bits;
    p[3] = (uint8_t)access;
    put_le(p + 4, port, 8);
}

static void device(struct aml *a, const char *name, const char *id, uint16_t port,
                   uint8_t length, int irq) {
    size_t dev = aml_device(a, name);
    aml_name(a, "_HID");
    if (!strncmp(id, "PNP", 3))
        aml_eisaid(a, id);
    else
        aml_string(a, id);
    aml_name(a, "_UID");
    aml_integer(a, 0);
    aml_name(a, "_STA");
    aml_integer(a, 0xf);
    aml_name(a, "_CRS");
    aml_io_irq(a, port, length, irq);
    aml_end(a, dev);
}

/* Where each pin of each slot is wired: INTA is 0 (ACPI specification, "_PRT"). */
static void pci_routes(struct aml *a, unsigned slots) {
    aml_name(a, "_PRT");
    size_t all = aml_package(a, slots * PCI_GSIS);
    for (unsigned i = 0; i < slots * PCI_GSIS; i++) {
        unsigned slot = i / PCI_GSIS, pin = i % PCI_GSIS;
        size_t one = aml_package(a, 4);
        aml_integer(a, slot << 16 | 0xffff); /* any function */
        aml_integer(a, pin);
        aml_integer(a, 0); /* no link: a gsi */
        aml_integer(a, PCI_GSI + (slot + pin) % PCI_GSIS);
        aml_end(a, one);
    }
    aml_end(a, all);
}

/* The bridge of bus 0, and the memory that ECAM takes ("Resource Data Types for ACPI"). */
static void pci_bridge(struct aml *a, unsigned slots) {
    uint8_t crs[] = {0x88, 13, 0,    2,    0x0c, 0,    0, 0, 0, 0, 0,    0,
                     0,    0,  1,    0,                      /* bus 0 */
                     0x47, 1,  0xf8, 0x0c, 0xf8, 0x0c, 1, 8, /* configuration ports */
                     0x87, 23, 0,    0,    0x0c, 1,    0, 0, 0, 0, 0,    0,
                     0,    0,  0,    0, /* memory: window */
                     0,    0,  0,    0,    0,    0,    0, 0, 0, 0, 0x79, 0};
    uint8_t ecam[] = {0x86, 9, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0x79, 0};
    put_le(crs + 34, PCI_WINDOW_BASE, 4);
    put_le(crs + 38, PCI_WINDOW_BASE + PCI_WINDOW_SIZE - 1, 4);
    put_le(crs + 46, PCI_WINDOW_SIZE, 4);
    put_le(ecam + 4, PCI_ECAM_BASE, 4);
    put_le(ecam + 8, PCI_ECAM_SIZE, 4);
    size_t dev = aml_device(a, "PCI0");
    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0A08");
    aml_name(a, "_CID");
    aml_eisaid(a, "PNP0A03");
    aml_name(a, "_UID");
    aml_integer(a, 0);
    aml_name(a, "_CRS");
    aml_buffer(a, crs, sizeof(crs));
    pci_routes(a, slots);
    aml_end(a, dev);
    dev = aml_device(a, "ECAM");
    aml_name(a, "_HID");
    aml_eisaid(a, "PNP0C02");
    aml_name(a, "_UID");
    aml_integer(a, 0);
    aml_name(a, "_CRS");
    aml_buffer(a, ecam, sizeof(ecam));
    aml_end(a, dev);
}

/* The four values of a sleeping state's package; the last two are reserved. */
static void sleep_state(struct aml *a, const char *name, unsigned typ) {
    aml_name(a, name);
    size_t pkg = aml_package(a, 4);
    aml_integer(a, typ);
    aml_integer(a, typ);
    aml_integer(a, 0);
    aml_integer(a, 0);
    aml_end(a, pkg);
}

static size_t build_dsdt(struct tables *t, const struct firmware *f) {
    size_t at = reserve(t, 36, 16);
    if (t->full)
        return 0;
    struct aml a = {.buf = t->buf + t->used, .size = t->size - t->used};
    sleep_state(&a, "_S3_", ACPI_PM_S3_TYP);
    sleep_state(&a, "_S5_", ACPI_PM_S5_TYP);
    size_t sb = aml_scope(&a, "\\_SB_");
    device(&a, "COM1", "PNP0501", 0x3f8, 8, 4);
    device(&a, "RTC0", "PNP0B00", 0x70, 2, 8);
    device(&a, "PEVT", "QEMU0001", PVPANIC_PORT, 1, -1); /* as Linux's pvpanic finds it */
    if (f->pci_slots)
        pci_bridge(&a, f->pci_slots);
    aml_end(&a, sb);
    t->used += a.used;
    t->full |= a.full;
    finish(t, at, "DSDT", 2);
    return at;
}

static size_t build_facs(struct tables *t) {
    size_t at = reserve(t, 64, 64);
    if (t->full)
        return 0;
    put_text(t->buf + at, "FACS");
    put_le(t->buf + at + 4, 64, 4);
    t->buf[at + 32] = 2;
    t->buf[at + 36] = FACS_WAKE_64;
    return at;
}

static size_t build_fadt(struct tables *t, uint64_t facs, uint64_t dsdt) {
    size_t at = reserve(t, FADT_SIZE, 16);
    if (t->full)
        return 0;
    uint8_t *p = t->buf + at;
    put_le(p + 36, facs, 4);
    put_le(p + 40, dsdt, 4);
    put_le(p + 46, ACPI_SCI_GSI, 2);
    put_le(p + 56, ACPI_PM_BASE, 4);               /* PM1a event: status, enable */
    put_le(p + 64, ACPI_PM_BASE + ACPI_PM_CNT, 4); /* PM1a control */
    put_le(p + 76, ACPI_PM_BASE + ACPI_PM_TMR, 4); /* PM timer */
    p[88] = 4;
    p[89] = 2;
    p[91] = 4;
    put_le(p + 96, 0xffff, 2); /* no C2 */
    put_le(p + 98, 0xffff, 2); /* no C3 */
    p[108] = 0x32;             /* century in CMOS */
    put_le(p + 109, BOOT_LEGACY | BOOT_NO_VGA, 2);
    put_le(p + 112, FADT_WBINVD | FADT_PROC_C1 | FADT_SLP_BUTTON | FADT_RESET_REG, 4);
    put_gas(p + 116, 8, 1, 0xcf9);
    p[128] = 0x06; /* hard reset */
    p[131] = 1;    /* minor version: 5.1 */
    put_le(p + 132, facs, 8);
    put_le(p + 140, dsdt, 8);
    put_gas(p + 148, 32, 2, ACPI_PM_BASE);
    put_gas(p + 172, 16, 2, ACPI_PM_BASE + ACPI_PM_CNT);
    put_gas(p + 208, 32, 3, ACPI_PM_BASE + ACPI_PM_TMR);
    finish(t, at, "FACP", 5);
    return at;
}

/* One interrupt source override: ISA line to GSI. flags: polarity, trigger mode. */
static void madt_override(struct tables *t, uint8_t line, uint32_t gsi, uint16_t flags) {
    size_t at = reserve(t, 10, 1);
    if (t->full)
        return;
    uint8_t *p = t->buf + at;
    p[0] = 2, p[1] = 10, p[3] = line;
    put_le(p + 4, gsi, 4);
    put_le(p + 8, flags, 2);
}

static void madt_cpu(struct tables *t, uint32_t id) {
    bool x2apic = id >= 255;
    size_t at = reserve(t, x2apic ? 16 : 8, 1);
    if (t->full)
        return;
    uint8_t *p = t->buf + at;
    p[0] = x2apic ? 9 : 0;
    p[1] = x2apic ? 16 : 8;
    if (x2apic) {
        put_le(p + 4, id, 4);
        put_le(p + 8, 1, 4);
        put_le(p + 12, id, 4);
    } else {
        p[2] = p[3] = (uint8_t)id;
        put_le(p + 4, 1, 4);
    }
}

static size_t build_madt(struct tables *t, unsigned cpus) {
    size_t at = reserve(t, 44, 16);
    if (t->full)
        return 0;
    put_le(t->buf + at + 36, LAPIC_BASE, 4);
    put_le(t->buf + at + 40, MADT_PCAT_COMPAT, 4);
    for (unsigned i = 0; i < cpus; i++)
        madt_cpu(t, i);
    size_t io = reserve(t, 12, 1);
    if (t->full)
        return 0;
    t->buf[io] = 1, t->buf[io + 1] = 12;
    put_le(t->buf + io + 4, IOAPIC_BASE, 4);
    madt_override(t, 0, 2, 0);
    madt_override(t, ACPI_SCI_GSI, ACPI_SCI_GSI, 0xd); /* active high, level */
    size_t nmi = reserve(t, 6, 1);
    if (t->full)
        return 0;
    static const uint8_t lint1[6] = {4, 6, 0xff, 0, 0, 1}; /* NMI: every CPU's LINT1 */
    memcpy(t->buf + nmi, lint1, sizeof(lint1));
    finish(t, at, "APIC", 3);
    return at;
}

/* IA-PC HPET Specification 1.0a, "ACPI 2.0 HPET Description Table". */
static size_t build_hpet(struct tables *t) {
    size_t at = reserve(t, 56, 16);
    if (t->full)
        return 0;
    uint8_t *p = t->buf + at;
    put_le(p + 36, HPET_BLOCK_ID, 4);
    p[41] = 64; /* bits wide, in memory */
    put_le(p + 44, HPET_BASE, 8);
    put_le(p + 53, HPET_MIN_TICKS, 2);
    finish(t, at, "HPET", 1);
    return at;
}

/* PCI Firmware Specification, "MCFG Table Description": segment 0, bus 0. */
static size_t build_mcfg(struct tables *t) {
    size_t at = reserve(t, 60, 16);
    if (t->full)
        return 0;
    put_le(t->buf + at + 44, PCI_ECAM_BASE, 8);
    finish(t, at, "MCFG", 1);
    return at;
}

/* "System Resource Affinity Table": whose a vCPU is; and a range of memory. */
static void srat_cpu(struct tables *t, unsigned node, uint32_t id) {
    size_t at = reserve(t, 16, 1);
    if (t->full)
        return;
    uint8_t *p = t->buf + at;
    p[1] = 16;
    p[2] = (uint8_t)node;
    p[3] = (uint8_t)id;
    put_le(p + 4, AFFINITY_ENABLED, 4);
}

static void srat_memory(struct tables *t, unsigned node, pn_gpa gpa, uint64_t size) {
    size_t at = reserve(t, 40, 1);
    if (t->full)
        return;
    uint8_t *p = t->buf + at;
    p[0] = 1, p[1] = 40, p[2] = (uint8_t)node;
    put_le(p + 8, gpa, 8);
    put_le(p + 16, size, 8);
    put_le(p + 28, AFFINITY_ENABLED, 4);
}

static size_t build_srat(struct tables *t, const struct machine_nodes *nodes) {
    size_t at = reserve(t, 48, 16);
    if (t->full)
        return 0;
    put_le(t->buf + at + 36, 1, 4); /* as the specification has it */
    for (unsigned i = 0; i < nodes->count; i++) {
        const struct machine_node *n = &nodes->node[i];
        for (unsigned cpu = n->first_cpu; cpu < n->first_cpu + n->cpus; cpu++)
            srat_cpu(t, i, cpu);
        struct node_piece piece[2];
        unsigned pieces = node_pieces(n, piece);
        for (unsigned k = 0; k < pieces; k++)
            srat_memory(t, i, piece[k].gpa, piece[k].size);
    }
    finish(t, at, "SRAT", 3);
    return at;
}

/* "System Locality Information Table": every other node is equally far. */
static size_t build_slit(struct tables *t, const struct machine_nodes *nodes) {
    size_t n = nodes->count, at = reserve(t, 44 + n * n, 16);
    if (t->full)
        return 0;
    uint8_t *p = t->buf + at;
    put_le(p + 36, n, 8);
    for (size_t i = 0; i < n * n; i++)
        p[44 + i] = (uint8_t)(i / n == i % n ? NODE_DISTANCE_SELF : nodes->distance);
    finish(t, at, "SLIT", 1);
    return at;
}

static size_t build_root(struct tables *t, const char *signature, unsigned entry_size,
                         const uint64_t *tables, unsigned count, size_t at) {
    uint8_t *p = t->buf + at;
    for (unsigned i = 0; i < count; i++)
        put_le(p + 36 + i * entry_size, tables[i], entry_size);
    /* Written last, in room reserved first: its length is not `used`. */
    size_t used = t->used;
    t->used = at + 36 + count * entry_size;
    finish(t, at, signature, 1);
    t->used = used;
    return at;
}

size_t acpi_build(uint8_t *buf, size_t size, const struct firmware *f) {
    struct tables t = {.buf = buf, .size = size};
    reserve(&t, 36, 16); /* RSDP, at 0 */
    bool nodes = f->nodes && f->nodes->count;
    unsigned count = 2 + f->hpet + (f->pci_slots != 0) + 2 * nodes, n = 2;
    size_t rsdt = reserve(&t, 36 + count * 4, 8); /* all of ROOTS end before ACPI_FACS */
    size_t xsdt = reserve(&t, 36 + count * 8, 8);
    uint64_t facs = ACPI_BASE + build_facs(&t);
    uint64_t dsdt = ACPI_BASE + build_dsdt(&t, f);
    uint64_t roots[ROOTS] = {ACPI_BASE + build_fadt(&t, facs, dsdt),
                             ACPI_BASE + build_madt(&t, f->cpus)};
    if (f->hpet)
        roots[n++] = ACPI_BASE + build_hpet(&t);
    if (f->pci_slots)
        roots[n++] = ACPI_BASE + build_mcfg(&t);
    if (nodes) {
        roots[n++] = ACPI_BASE + build_srat(&t, f->nodes);
        roots[n++] = ACPI_BASE + build_slit(&t, f->nodes);
    }
    if (t.full || facs != ACPI_FACS)
        return 0;
    build_root(&t, "RSDT", 4, roots, count, rsdt);
    build_root(&t, "XSDT", 8, roots, count, xsdt);
    put_text(buf, "RSD PTR ");
    put_text(buf + 9, OEM_ID);
    buf[15] = 2;
    put_le(buf + 16, ACPI_BASE + rsdt, 4);
    put_le(buf + 20, 36, 4);
    put_le(buf + 24, ACPI_BASE + xsdt, 8);
    put_checksum(buf, 20, 8);
    put_checksum(buf, 36, 32);
    return t.used;
}
