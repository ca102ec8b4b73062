/* SPDX-License-Identifier: MIT */
/*
 * Linux's zero page (struct boot_params). Offsets: Documentation/arch/x86/zero-page.rst
 * and boot.rst.
 */
#include <errno.h>
#include <string.h>

#include "machine/internal.h"

enum {
    BP_ALT_MEM_K = 0x1e0,
    BP_ACPI_RSDP = 0x070,
    BP_EXT_RAMDISK_IMAGE = 0x0c0,
    BP_EXT_RAMDISK_SIZE = 0x0c4,
    BP_E820_ENTRIES = 0x1e8,
    BP_VID_MODE = 0x1fa,
    BP_BOOT_FLAG = 0x1fe,
    BP_HEADER = 0x202,
    BP_VERSION = 0x206,
    BP_TYPE_OF_LOADER = 0x210,
    BP_LOADFLAGS = 0x211,
    BP_RAMDISK_IMAGE = 0x218,
    BP_RAMDISK_SIZE = 0x21c,
    BP_CMD_LINE_PTR = 0x228,
    BP_E820_TABLE = 0x2d0,
};

int linux_put_boot_params(struct load *l, uint8_t bp[BOOT_PARAMS_SIZE],
                          uint64_t initrd_gpa, size_t cmdline_max) {
    struct e820_entry map[E820_MAX];
    unsigned n = load_e820(l, map);
    for (unsigned i = 0; i < n; i++) {
        uint8_t *p = bp + BP_E820_TABLE + 20 * i;
        put_le(p, map[i].addr, 8);
        put_le(p + 8, map[i].size, 8);
        put_le(p + 16, map[i].type, 4);
    }
    bp[BP_E820_ENTRIES] = (uint8_t)n;
    put_le(bp + BP_BOOT_FLAG, 0xaa55, 2);
    put_le(bp + BP_HEADER, 0x53726448, 4); /* "HdrS" */
    uint16_t version;
    memcpy(&version, bp + BP_VERSION, 2);
    if (!version)
        put_le(bp + BP_VERSION, 0x20f, 2); /* no bzImage: an ELF with our own header */
    bp[BP_TYPE_OF_LOADER] = 0xff;          /* no assigned number */
    bp[BP_LOADFLAGS] |= 1;                 /* LOADED_HIGH */
    put_le(bp + BP_VID_MODE, 0xffff, 2);   /* normal */
    put_le(bp + BP_CMD_LINE_PTR, BOOT_CMDLINE, 4);
    put_le(bp + BP_ACPI_RSDP, l->rsdp, 8);
    put_le(bp + BP_ALT_MEM_K, (load_low_ram(l) - 0x100000) >> 10, 4);
    if (initrd_gpa) {
        put_le(bp + BP_RAMDISK_IMAGE, initrd_gpa, 4);
        put_le(bp + BP_EXT_RAMDISK_IMAGE, initrd_gpa >> 32, 4);
        put_le(bp + BP_RAMDISK_SIZE, l->initrd_size, 4);
        put_le(bp + BP_EXT_RAMDISK_SIZE, (uint64_t)l->initrd_size >> 32, 4);
    }
    load_put_boot(l, BOOT_INFO, bp, BOOT_PARAMS_SIZE);
    return load_put_cmdline(l, "", cmdline_max);
}
