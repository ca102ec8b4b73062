/* SPDX-License-Identifier: MIT */
/*
 * Multiboot 1 (GNU Multiboot Specification 0.6.96): a header in the first 8 KiB, the
 * image an ELF or placed by the header's addresses; entered in protected mode with EAX =
 * 0x2BADB002, EBX = the information structure.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "machine/internal.h"

#define HEADER_MAGIC     0x1badb002u
#define LOADER_MAGIC     0x2badb002u
#define FLAG_ALIGN       0x1u
#define FLAG_MEMORY      0x2u
#define FLAG_VIDEO       0x4u /* a wish: text mode is what there is */
#define FLAG_ADDRESSES   0x10000u
#define FLAGS_MANDATORY  0xffffu
#define FLAGS_UNDERSTOOD (FLAG_ALIGN | FLAG_MEMORY | FLAG_VIDEO)

#define INFO_MEMORY  0x1u
#define INFO_CMDLINE 0x4u
#define INFO_MODULES 0x8u
#define INFO_MMAP    0x40u
#define INFO_LOADER  0x200u

struct header {
    uint32_t magic, flags, checksum;
    uint32_t header_addr, load_addr, load_end, bss_end, entry; /* with FLAG_ADDRESSES */
};

struct info {
    uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr;
    uint32_t syms[4], mmap_length, mmap_addr, drives_length, drives_addr, config_table;
    uint32_t loader_name, apm_table;
};

struct mmap_entry {
    uint32_t size; /* of what follows */
    uint64_t addr, length;
    uint32_t type;
} __attribute__((packed));

struct module {
    uint32_t start, end, string, reserved;
};

/* In BOOT_MAP's page: the map, then the module, then the names. */
#define MODULE_AT (BOOT_MAP + 0x400)
#define NAME_AT   (BOOT_MAP + 0x500)
#define STRING_AT (BOOT_MAP + 0x600)

static int find_header(struct load *l, struct header *h, size_t *offset) {
    const uint8_t *p = l->image;
    size_t end = l->image_size < 8192 ? l->image_size : 8192;
    for (size_t i = 0; i + 12 <= end; i += 4) {
        memset(h, 0, sizeof(*h));
        size_t n = end - i < sizeof(*h) ? end - i : sizeof(*h);
        memcpy(h, p + i, n);
        if (h->magic != HEADER_MAGIC || h->magic + h->flags + h->checksum != 0)
            continue;
        if (h->flags & FLAGS_MANDATORY & ~FLAGS_UNDERSTOOD)
            return err_set(l->err, -EINVAL,
                           "%s: Multiboot features 0x%" PRIx32 " are not known here",
                           l->name, h->flags & FLAGS_MANDATORY & ~FLAGS_UNDERSTOOD);
        if (h->flags & FLAG_ADDRESSES && n < sizeof(*h))
            return err_set(l->err, -EINVAL, "%s: truncated: half a Multiboot header",
                           l->name);
        *offset = i;
        return 0;
    }
    return err_set(l->err, -EINVAL, "%s: no Multiboot header", l->name);
}

/* Placed by the header's own addresses (the a.out kludge). */
static int load_by_addresses(struct load *l, const struct header *h, size_t at,
                             uint64_t *low, uint64_t *high) {
    uint64_t before = (uint64_t)h->header_addr - h->load_addr;
    if (h->load_addr > h->header_addr || before > at)
        return err_set(l->err, -EINVAL, "%s: Multiboot header with impossible addresses",
                       l->name);
    uint64_t offset = at - before, size = l->image_size - offset;
    if (h->load_end) {
        if (h->load_end < h->load_addr || h->load_end - h->load_addr > size)
            return err_set(l->err, -EINVAL,
                           "%s: truncated: shorter than its Multiboot header says",
                           l->name);
        size = h->load_end - h->load_addr;
    }
    *low = h->load_addr;
    *high = h->load_addr + size;
    if (h->bss_end > *high)
        *high = h->bss_end;
    int rc = load_check(l, "the kernel", *low, *high - *low);
    return rc ? rc
              : load_put(l, "the kernel", *low, (const uint8_t *)l->image + offset, size);
}

static void put_info(struct load *l, uint64_t initrd) {
    static const char loader[] = "penumbra";
    struct e820_entry map[E820_MAX];
    unsigned n = load_e820(l, map);
    for (unsigned i = 0; i < n; i++) {
        struct mmap_entry m = {sizeof(m) - sizeof(m.size), map[i].addr, map[i].size,
                               map[i].type};
        load_put_boot(l, BOOT_MAP + i * sizeof(m), &m, sizeof(m));
    }
    struct info info = {
        .flags = INFO_MEMORY | INFO_CMDLINE | INFO_MMAP | INFO_LOADER,
        .mem_lower = EBDA_BASE >> 10,
        .mem_upper = (uint32_t)((load_low_ram(l) - 0x100000) >> 10),
        .cmdline = BOOT_CMDLINE,
        .mmap_addr = BOOT_MAP,
        .mmap_length = n * (uint32_t)sizeof(struct mmap_entry),
        .loader_name = NAME_AT,
    };
    load_put_boot(l, NAME_AT, loader, sizeof(loader));
    if (initrd) {
        struct module mod = {(uint32_t)initrd, (uint32_t)(initrd + l->initrd_size),
                             STRING_AT, 0};
        char name[512] = {0};
        strncpy(name, l->initrd_name, sizeof(name) - 1);
        info.flags |= INFO_MODULES;
        info.mods_count = 1;
        info.mods_addr = MODULE_AT;
        load_put_boot(l, STRING_AT, name, sizeof(name));
        load_put_boot(l, MODULE_AT, &mod, sizeof(mod));
    }
    load_put_boot(l, BOOT_INFO, &info, sizeof(info));
}

/* "path arguments", as boot loaders give it: argv[0] is the program. */
static int put_cmdline(struct load *l) {
    char prefix[4096];
    snprintf(prefix, sizeof(prefix), "%s%s", l->name, l->append && *l->append ? " " : "");
    return load_put_cmdline(l, prefix, BOOT_CMDLINE_MAX - 1);
}

int load_multiboot(struct load *l) {
    struct header h = {0};
    struct elf elf;
    size_t at = 0;
    uint64_t low = 0, high = 0, initrd = 0, entry;
    int rc = find_header(l, &h, &at);
    if (rc)
        return rc;
    if (h.flags & FLAG_ADDRESSES) {
        rc = load_by_addresses(l, &h, at, &low, &high);
        entry = h.entry;
    } else {
        rc = elf_parse(l->image, l->image_size, l->name, &elf, l->err);
        if (rc == 0)
            rc = elf_load(l, &elf, 0);
        if (rc)
            return rc;
        low = elf.low, high = elf.high, entry = elf_entry_phys(&elf);
    }
    if (rc == 0)
        rc = load_put_initrd(l, LOW_RAM_MAX, low, high, &initrd);
    if (rc == 0)
        rc = put_cmdline(l);
    if (rc)
        return rc;
    if (entry > UINT32_MAX)
        return err_set(l->err, -EINVAL, "%s: its entry point lies beyond 4 GiB", l->name);
    put_info(l, initrd);
    l->entry = (struct entry){
        .mode = ENTRY_PROTECTED, .rip = entry, .rax = LOADER_MAGIC, .rbx = BOOT_INFO};
    entry_put_tables(l);
    return 0;
}
