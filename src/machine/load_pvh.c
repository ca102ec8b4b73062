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

/* Behind the memory map. */
#define MODULES_AT (BOOT_MAP + E820_MAX * sizeof(struct memmap))

static void put_start_info(struct load *l, const struct load_module *modules,
                           unsigned count) {
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
    for (unsigned i = 0; i < count; i++) {
        struct module mod = {modules[i].gpa, modules[i].size, modules[i].text, 0};
        load_put_boot(l, MODULES_AT + i * sizeof(mod), &mod, sizeof(mod));
    }
    info.modules = count;
    info.modules_gpa = count ? MODULES_AT : 0;
    load_put_boot(l, BOOT_INFO, &info, sizeof(info));
}

int load_pvh(struct load *l) {
    struct elf elf;
    struct load_module modules[LOAD_MODULES_MAX];
    unsigned count = 0;
    int rc = elf_parse(l->image, l->image_size, l->name, &elf, l->err);
    if (rc)
        return rc;
    if (!elf.has_pvh || elf.pvh_entry > UINT32_MAX)
        return err_set(l->err, -EINVAL, "%s: no PVH entry point (Xen note 18)", l->name);
    rc = elf_load(l, &elf, 0);
    if (rc == 0)
        rc = load_put_modules(l, false, elf.low, elf.high, modules, &count);
    if (rc == 0)
        rc = load_put_cmdline(l, "", BOOT_CMDLINE_MAX - 1);
    if (rc)
        return rc;
    put_start_info(l, modules, count);
    l->entry =
        (struct entry){.mode = ENTRY_PROTECTED, .rip = elf.pvh_entry, .rbx = BOOT_INFO};
    entry_put_tables(l);
    return 0;
}
