/* SPDX-License-Identifier: MIT */
/*
 * PVH: an ELF with the note XEN_ELFNOTE_PHYS32_ENTRY is entered there in 32-bit protected
 * mode, EBX = hvm_start_info (Xen's public header arch-x86/hvm/start_info.h).
 */
#include <errno.h>
#include <string.h>

#include "machine/internal.h"

#define START_MAGIC 0x336ec578u

struct start_info {
    uint32_t magic, version, flags, modules;
    uint64_t modules_gpa, cmdline_gpa, rsdp_gpa, memmap_gpa;
    uint32_t memmap_entries, reserved;
};
_Static_assert(sizeof(struct start_info) == 56, "hvm_start_info of version 1");

struct module {
    uint64_t gpa, size, cmdline_gpa, reserved;
};

struct memmap {
    uint64_t addr, size;
    uint32_t type, reserved;
};

static void put_start_info(struct load *l, uint64_t initrd) {
    struct e820_entry map[E820_MAX];
    struct start_info info = {.magic = START_MAGIC,
                              .version = 1,
                              .cmdline_gpa = BOOT_CMDLINE,
                              .rsdp_gpa = l->rsdp,
                              .memmap_gpa = BOOT_MAP};
    info.memmap_entries = load_e820(l, map);
    for (unsigned i = 0; i < info.memmap_entries; i++) {
        struct memmap m = {map[i].addr, map[i].size, map[i].type, 0};
        load_put_boot(l, BOOT_MAP + i * sizeof(m), &m, sizeof(m));
    }
    if (initrd) {
        struct module mod = {.gpa = initrd, .size = l->initrd_size};
        info.modules = 1;
        info.modules_gpa = BOOT_MAP + E820_MAX * sizeof(struct memmap);
        load_put_boot(l, info.modules_gpa, &mod, sizeof(mod));
    }
    load_put_boot(l, BOOT_INFO, &info, sizeof(info));
}

int load_pvh(struct load *l) {
    struct elf elf;
    uint64_t initrd;
    int rc = elf_parse(l->image, l->image_size, l->name, &elf, l->err);
    if (rc)
        return rc;
    if (!elf.has_pvh || elf.pvh_entry > UINT32_MAX)
        return err_set(l->err, -EINVAL, "%s: no PVH entry point (Xen note 18)", l->name);
    rc = elf_load(l, &elf, 0);
    if (rc == 0)
        rc = load_put_initrd(l, LOW_RAM_MAX, elf.low, elf.high, &initrd);
    if (rc == 0)
        rc = load_put_cmdline(l, "", BOOT_CMDLINE_MAX - 1);
    if (rc)
        return rc;
    put_start_info(l, initrd);
    l->entry =
        (struct entry){.mode = ENTRY_PROTECTED, .rip = elf.pvh_entry, .rbx = BOOT_INFO};
    entry_put_tables(l);
    return 0;
}
