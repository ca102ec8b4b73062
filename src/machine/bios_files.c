/* SPDX-License-Identifier: MIT */
/*
 * What firmware is told of the machine, as files of QEMU's fw_cfg: where RAM is, SMBIOS tables, the ACPI
 * tables and how to put them into memory, and that the console is the serial port.
 *
 * The tables are those of a guest without firmware (acpi.c), with offsets into their file in the place
 * of addresses. A list of commands has firmware find room, add the room's address to each pointer, and
 * sum up anew. Sources: QEMU's docs/specs/fw_cfg, hw/acpi/bios-linker-loader (the commands' layout);
 * SeaBIOS's docs, "Runtime config" (the files' names).
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "machine/bios.h"

#define COM1_PORT   0x3f8u
#define FILE_TABLES "etc/acpi/tables"
#define FILE_RSDP   "etc/acpi/rsdp"
#define TABLES_MAX  (WAKE_PML4 - ACPI_BASE)

/* Commands of 128 bytes. */
#define COMMAND_SIZE 128u
#define COMMANDS_MAX 64u
#define FILE_NAME    56u
enum { ALLOCATE = 1, ADD_POINTER, ADD_CHECKSUM };
enum { ZONE_HIGH = 1, ZONE_F_SEGMENT };

struct loader {
    uint8_t *tables, rsdp[RSDP_SIZE];
    size_t used;
    unsigned count;
    uint8_t command[COMMANDS_MAX][COMMAND_SIZE];
};

static uint64_t get_le(const uint8_t *p, unsigned size) {
    uint64_t value = 0;
    memcpy(&value, p, size);
    return value;
}

/* COMMANDS_MAX is more than ROOTS of acpi.c can lead to. */
static uint8_t *add(struct loader *l, uint32_t what, const char *file) {
    uint8_t *p = l->command[l->count++];
    put_le(p, what, 4);
    strcpy((char *)p + 4, file);
    return p + 4 + FILE_NAME;
}

static void allocate(struct loader *l, const char *file, uint32_t align, uint8_t zone) {
    uint8_t *p = add(l, ALLOCATE, file);
    put_le(p, align, 4);
    p[4] = zone;
}

/* A pointer into the tables; 0 stays. */
static void pointer(struct loader *l, const char *file, uint8_t *bytes, size_t at,
                    uint8_t size) {
    uint64_t value = get_le(bytes + at, size);
    if (!value)
        return;
    put_le(bytes + at, value - ACPI_BASE, size);
    uint8_t *p = add(l, ADD_POINTER, file);
    strcpy((char *)p, FILE_TABLES);
    put_le(p + FILE_NAME, at, 4);
    p[FILE_NAME + 4] = size;
}

static void checksum(struct loader *l, const char *file, uint8_t *bytes, size_t at,
                     size_t start, size_t size) {
    uint8_t *p = add(l, ADD_CHECKSUM, file);
    bytes[at] = 0; /* it is part of the sum */
    put_le(p, at, 4);
    put_le(p + 4, start, 4);
    put_le(p + 8, size, 4);
}

static void table_checksum(struct loader *l, size_t at) {
    checksum(l, FILE_TABLES, l->tables, at + 9, at, get_le(l->tables + at + 4, 4));
}

/* FACS and DSDT ("FADT"): addresses of 4 bytes and of 8. */
static void fadt(struct loader *l, size_t at) {
    static const struct {
        uint8_t at, size;
    } pointers[] = {{36, 4}, {40, 4}, {132, 8}, {140, 8}};
    for (size_t i = 0; i < sizeof(pointers) / sizeof(pointers[0]); i++)
        pointer(l, FILE_TABLES, l->tables, at + pointers[i].at, pointers[i].size);
    table_checksum(l, at);
}

/* RSDT or XSDT, and with the former the tables that it names. */
static void root(struct loader *l, size_t at, uint8_t size) {
    for (size_t i = 36; i < get_le(l->tables + at + 4, 4); i += size) {
        size_t table = get_le(l->tables + at + i, size) - ACPI_BASE;
        pointer(l, FILE_TABLES, l->tables, at + i, size);
        if (size == 4 && !memcmp(l->tables + table, "FACP", 4))
            fadt(l, table);
    }
    table_checksum(l, at);
}

static void make_commands(struct loader *l) {
    memcpy(l->rsdp, l->tables, RSDP_SIZE);
    memset(l->tables, 0, RSDP_SIZE); /* a root is in its own file alone */
    allocate(l, FILE_RSDP, 16, ZONE_F_SEGMENT);
    allocate(l, FILE_TABLES, 64, ZONE_HIGH);
    root(l, get_le(l->rsdp + 16, 4) - ACPI_BASE, 4);
    root(l, get_le(l->rsdp + 24, 8) - ACPI_BASE, 8);
    pointer(l, FILE_RSDP, l->rsdp, 16, 4);
    pointer(l, FILE_RSDP, l->rsdp, 24, 8);
    checksum(l, FILE_RSDP, l->rsdp, 8, 0, 20);
    checksum(l, FILE_RSDP, l->rsdp, 32, 0, RSDP_SIZE);
}

static int add_tables(struct machine *m, const struct firmware *f) {
    struct loader *l = calloc(1, sizeof(*l));
    uint8_t *tables = calloc(1, TABLES_MAX);
    int rc = l && tables ? 0 : -ENOMEM;
    if (rc == 0) {
        l->tables = tables;
        l->used = acpi_build(tables, TABLES_MAX, f);
        rc = l->used ? 0 : -ENOSPC;
    }
    if (rc == 0) {
        make_commands(l);
        rc = fw_cfg_add_file(m->fw_cfg, FILE_TABLES, tables, l->used);
    }
    if (rc == 0)
        rc = fw_cfg_add_file(m->fw_cfg, FILE_RSDP, l->rsdp, RSDP_SIZE);
    if (rc == 0)
        rc = fw_cfg_add_file(m->fw_cfg, "etc/table-loader", l->command,
                             l->count * COMMAND_SIZE);
    free(tables);
    free(l);
    return rc;
}

/* "Structure Table" and its entry point, which firmware completes (DMTF DSP0134, SMBIOS 2.1). */
static int add_smbios(struct machine *m, const struct firmware *f) {
    const size_t anchor = 31, tables = 32;
    uint8_t *p = calloc(1, TABLES_MAX);
    size_t size = p ? smbios_build(p, TABLES_MAX, 0, m->cfg.ram, f) : 0;
    int rc = size ? fw_cfg_add_file(m->fw_cfg, "etc/smbios/smbios-anchor", p, anchor)
                  : -ENOMEM;
    if (rc == 0)
        rc = fw_cfg_add_file(m->fw_cfg, "etc/smbios/smbios-tables", p + tables,
                             size - tables);
    free(p);
    return rc;
}

/* RAM alone: what firmware itself takes it reserves. */
static int add_e820(struct machine *m) {
    uint64_t low = m->cfg.ram < LOW_RAM_MAX ? m->cfg.ram : LOW_RAM_MAX;
    uint8_t map[2][20] = {{0}};
    put_le(map[0] + 8, low, 8);
    put_le(map[0] + 16, E820_RAM, 4);
    put_le(map[1], HIGH_RAM_BASE, 8);
    put_le(map[1] + 8, m->cfg.ram - low, 8);
    put_le(map[1] + 16, E820_RAM, 4);
    return fw_cfg_add_file(m->fw_cfg, "etc/e820", map, m->cfg.ram > low ? 40 : 20);
}

int bios_tell(struct machine *m, const struct firmware *f, struct err *e) {
    const uint64_t console = COM1_PORT;
    if (!m->bios)
        return 0;
    const struct debugcon_config con = {m->cfg.firmware_out, m->cfg.opaque};
    rtc_put(m->rtc, RTC_BOOT_ORDER, RTC_BOOT_DISK);
    int rc = debugcon_create(&m->env, &con) ? add_e820(m) : -ENOMEM;
    if (rc == 0)
        rc = add_tables(m, f);
    if (rc == 0)
        rc = add_smbios(m, f);
    if (rc == 0)
        rc = fw_cfg_add_file(m->fw_cfg, "etc/sercon-port", &console, sizeof(console));
    return rc ? err_sys(e, rc, "what firmware is told") : 0;
}
