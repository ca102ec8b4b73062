/* SPDX-License-Identifier: MIT */
/*
 * All that a guest finds of firmware: interrupt vectors and BIOS data below, and in the last
 * 64 KiB before 1 MiB
 *
 *     ACPI_BASE  ACPI tables | MP tables | SMBIOS tables, on 16 bytes each
 *     WAKE_PML4  room for page tables (sleep.c)
 *     ROM_BASE   the ROM that the vectors point to (rom/rom.S)
 */
#include <errno.h>
#include <string.h>

#include "machine/internal.h"

#define ROM_SIZE     0x1000u
#define ROM_SEGMENT  (ACPI_BASE >> 4)
#define ROM_MAP      0xe00u /* in the ROM: the memory map */
#define ROM_MAP_SIZE 20u
/* The ROM's table of vectors: the first 32, all others, and the second PIC's. */
#define VECTORS       256u
#define ROM_OTHER     32u
#define ROM_SLAVE_IRQ 33u
#define SLAVE_VECTOR  0x70u
#define SLAVE_VECTORS 8u

_Static_assert(ROM_BASE - ACPI_BASE + ROM_SIZE == 0x10000, "the ROM ends at 1 MiB");
_Static_assert(ROM_MAP + 2 + ROM_MAP_SIZE * E820_MAX <= 0xff0, "its map ends before");

extern const uint8_t rom_image[ROM_SIZE];

static size_t align16(size_t n) {
    return (n + 15) & ~(size_t)15;
}

static int put_tables(struct load *l, const struct firmware *f) {
    uint8_t buf[WAKE_PML4 - ACPI_BASE] = {0};
    size_t size[3], used = 0;
    size[0] = acpi_build(buf, sizeof(buf), f);
    used = align16(size[0]);
    size[1] = mp_table_build(buf + used, sizeof(buf) - used, ACPI_BASE + used, f);
    used += align16(size[1]);
    size[2] = smbios_build(buf + used, sizeof(buf) - used, ACPI_BASE + used, l->ram, f);
    used += size[2];
    if (!size[0] || !size[1] || !size[2])
        return err_set(l->err, -ENOSPC, "the firmware's tables do not fit");
    l->rsdp = ACPI_BASE;
    memcpy(l->rsdp_bytes, buf, sizeof(l->rsdp_bytes));
    return l->write(l->opaque, ACPI_BASE, buf, used);
}

static int put_rom(struct load *l) {
    uint8_t rom[ROM_SIZE];
    struct e820_entry map[E820_MAX];
    uint16_t n = (uint16_t)load_e820(l, map);
    memcpy(rom, rom_image, sizeof(rom));
    memcpy(rom + ROM_MAP, &n, sizeof(n));
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = rom + ROM_MAP + 2 + i * ROM_MAP_SIZE;
        memcpy(p, &map[i].addr, 8);
        memcpy(p + 8, &map[i].size, 8);
        memcpy(p + 16, &map[i].type, 4);
    }
    return l->write(l->opaque, ROM_BASE, rom, sizeof(rom));
}

static int put_vectors(struct load *l) {
    uint16_t vector[VECTORS][2];
    for (unsigned v = 0; v < VECTORS; v++) {
        bool slave = v >= SLAVE_VECTOR && v < SLAVE_VECTOR + SLAVE_VECTORS;
        unsigned i = v < ROM_OTHER ? v : slave ? ROM_SLAVE_IRQ : ROM_OTHER;
        memcpy(&vector[v][0], rom_image + i * sizeof(uint16_t), sizeof(uint16_t));
        vector[v][1] = ROM_SEGMENT;
    }
    return l->write(l->opaque, 0, vector, sizeof(vector));
}

static int put_data(struct load *l) {
    uint8_t bda[BDA_SIZE], ebda[EBDA_SIZE];
    bios_data_build(bda, ebda);
    int rc = l->write(l->opaque, BDA_BASE, bda, sizeof(bda));
    return rc ? rc : l->write(l->opaque, EBDA_BASE, ebda, sizeof(ebda));
}

int firmware_put(struct load *l, const struct firmware *f) {
    int rc = put_tables(l, f);
    if (rc == 0)
        rc = put_rom(l);
    if (rc == 0)
        rc = put_vectors(l);
    return rc ? rc : put_data(l);
}
