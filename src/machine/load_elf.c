/* SPDX-License-Identifier: MIT */
/*
 * Plain ELF kernels, at their physical addresses. ELF64 is entered in long mode with
 * Linux's 64-bit convention (RSI = boot_params), ELF32 in protected mode with its 32-bit
 * one (ESI = boot_params). A vmlinux and a freestanding guest are the same here.
 */
#include <errno.h>

#include "machine/internal.h"

/* initrd limit: the boot protocol's field is 32 bits, and old kernels want it below 2
 * GiB.
 */
#define INITRD_LIMIT 0x80000000ull
#define CMDLINE_MAX  2047u

static int load_with_boot_params(struct load *l, enum entry_mode mode) {
    struct elf elf;
    uint8_t bp[BOOT_PARAMS_SIZE] = {0};
    uint64_t initrd;
    int rc = elf_parse(l->image, l->image_size, l->name, &elf, l->err);
    if (rc == 0)
        rc = elf_load(l, &elf, 0);
    if (rc == 0)
        rc = load_put_initrd(l, INITRD_LIMIT, elf.low, elf.high, &initrd);
    if (rc == 0)
        rc = linux_put_boot_params(l, bp, initrd, CMDLINE_MAX);
    if (rc)
        return rc;
    uint64_t entry = elf_entry_phys(&elf);
    if (entry >= HIGH_RAM_BASE)
        return err_set(l->err, -EINVAL, "%s: its entry point lies beyond the first 4 GiB",
                       l->name);
    l->entry = (struct entry){.mode = mode, .rip = entry, .rsi = BOOT_INFO};
    entry_put_tables(l);
    return 0;
}

int load_elf64(struct load *l) {
    return load_with_boot_params(l, ENTRY_LONG);
}

int load_elf32(struct load *l) {
    return load_with_boot_params(l, ENTRY_PROTECTED);
}
