/* SPDX-License-Identifier: MIT */
/*
 * A flat binary: the file's bytes at an address, entered at its first byte in real,
 * protected or long mode. 32 and 64 bits get boot_params in RSI, as ELF guests do.
 */
#include <errno.h>
#include <inttypes.h>

#include "machine/internal.h"

int load_flat(struct load *l) {
    static const struct {
        unsigned bits;
        enum entry_mode mode;
        uint64_t limit; /* the whole image lies below */
    } modes[] = {{16, ENTRY_REAL, 0x100000},
                 {32, ENTRY_PROTECTED, HIGH_RAM_BASE},
                 {64, ENTRY_LONG, HIGH_RAM_BASE}};
    unsigned i = 0;
    while (i < 3 && modes[i].bits != l->flat_bits)
        i++;
    if (i == 3)
        return err_set(l->err, -EINVAL, "flat image: %u bits is none of 16, 32, 64",
                       l->flat_bits);
    if (l->flat_addr >= modes[i].limit || l->image_size > modes[i].limit - l->flat_addr)
        return err_set(l->err, -EINVAL,
                       "%s: a %u-bit flat image must lie below 0x%" PRIx64, l->name,
                       l->flat_bits, modes[i].limit);
    uint8_t bp[BOOT_PARAMS_SIZE] = {0};
    uint64_t initrd;
    int rc = load_put(l, "the image", l->flat_addr, l->image, l->image_size);
    if (rc == 0)
        rc = load_put_initrd(l, LOW_RAM_MAX, l->flat_addr, l->flat_addr + l->image_size,
                             &initrd);
    if (rc == 0)
        rc = linux_put_boot_params(l, bp, initrd, BOOT_CMDLINE_MAX - 1);
    if (rc)
        return rc;
    l->entry = (struct entry){.mode = modes[i].mode, .rip = l->flat_addr};
    if (modes[i].mode != ENTRY_REAL)
        l->entry.rsi = BOOT_INFO;
    entry_put_tables(l);
    return 0;
}
