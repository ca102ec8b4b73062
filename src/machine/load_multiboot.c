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

/* In BOOT_MAP's page: the map, then the modules, then the loader's name. */
#define MODULE_AT (BOOT_MAP + 0x400)
#define NAME_AT   (BOOT_MAP + 0x800)

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

int load_by_addresses(struct load *l, const char *format, size_t at, uint32_t header_addr,
                      uint32_t load_addr, uint32_t load_end, uint32_t bss_end,
                      uint64_t *low, uint64_t *high) {
    uint64_t before = (uint64_t)header_addr - load_addr;
    if (load_addr > header_addr || before > at)
        return err_set(l->err, -EINVAL, "%s: %s header with impossible addresses",
                       l->name, format);
    uint64_t offset = at - before, size = l->image_size - offset;
    if (load_end) {
        if (load_end < load_addr || load_end - load_addr > size)
            return err_set(l->err, -EINVAL,
                           "%s: truncated: shorter than its %s header says", l->name,
                           format);
        size = load_end - load_addr;
    }
    *low = load_addr;
    *high = load_addr + size;
    if (bss_end > *high)
        *high = bss_end;
    int rc = load_check(l, "the kernel", *low, *high - *low);
    return rc ? rc
              : load_put(l, "the kernel", *low, (const uint8_t *)l->image + offset, size);
}

static void put_modules(struct load *l, const struct load_module *m, unsigned count) {
    for (unsigned i = 0; i < count; i++) {
        struct module mod = {(uint32_t)m[i].gpa, (uint32_t)(m[i].gpa + m[i].size),
                             m[i].text, 0};
        load_put_boot(l, MODULE_AT + i * sizeof(mod), &mod, sizeof(mod));
    }
}

static void put_info(struct load *l, const struct load_module *modules, unsigned count) {
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
    if (count) {
        info.flags |= INFO_MODULES;
        info.mods_count = count;
        info.mods_addr = MODULE_AT;
        put_modules(l, modules, count);
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
    struct load_module modules[LOAD_MODULES_MAX];
    unsigned count = 0;
    size_t at = 0;
    uint64_t low = 0, high = 0, entry;
    int rc = find_header(l, &h, &at);
    if (rc)
        return rc;
    if (h.flags & FLAG_ADDRESSES) {
        rc = load_by_addresses(l, "Multiboot", at, h.header_addr, h.load_addr, h.load_end,
                               h.bss_end, &low, &high);
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
        rc = load_put_modules(l, true, low, high, modules, &count);
    if (rc == 0)
        rc = put_cmdline(l);
    if (rc)
        return rc;
    if (entry > UINT32_MAX)
        return err_set(l->err, -EINVAL, "%s: its entry point lies beyond 4 GiB", l->name);
    put_info(l, modules, count);
    l->entry = (struct entry){
        .mode = ENTRY_PROTECTED, .rip = entry, .rax = LOADER_MAGIC, .rbx = BOOT_INFO};
    entry_put_tables(l);
    return 0;
}
