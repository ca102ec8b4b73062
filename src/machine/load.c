/* SPDX-License-Identifier: MIT */
/*
 * What every loader needs: which format an image is, where guest memory is, the command
 * line, the e820 map, the initrd.
 *
 * Invariant: nothing is written outside RAM, and nothing of an image over the boot area
 * or the ACPI tables; load_check is the one place for the rule.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "machine/internal.h"

static bool in_ram(const struct load *l, pn_gpa gpa, uint64_t size) {
    uint64_t low = load_low_ram(l);
    if (gpa <= low && size <= low - gpa)
        return true;
    uint64_t high = l->ram - low;
    return gpa >= HIGH_RAM_BASE && gpa - HIGH_RAM_BASE <= high &&
           size <= high - (gpa - HIGH_RAM_BASE);
}

static bool overlaps(uint64_t a, uint64_t a_end, uint64_t b, uint64_t b_end) {
    return a < b_end && b < a_end;
}

int load_check(struct load *l, const char *what, pn_gpa gpa, uint64_t size) {
    char text[SIZE_TEXT_MAX];
    if (!in_ram(l, gpa, size))
        return err_set(l->err, -EINVAL,
                       "%s: %s does not fit in -m %s (0x%" PRIx64 " bytes at 0x%" PRIx64
                       ")",
                       l->name, what, size_text(l->ram, text), size, gpa);
    if (overlaps(gpa, gpa + size, BOOT_BASE, BOOT_END) ||
        overlaps(gpa, gpa + size, ACPI_BASE, 0x100000))
        return err_set(l->err, -EINVAL,
                       "%s: %s at 0x%" PRIx64 " lies over the boot area (0x%x..0xfffff)",
                       l->name, what, gpa, BOOT_BASE);
    return 0;
}

int load_put(struct load *l, const char *what, pn_gpa gpa, const void *data,
             size_t size) {
    int rc = load_check(l, what, gpa, size);
    if (rc || !size)
        return rc;
    rc = l->write(l->opaque, gpa, data, size);
    return rc ? err_sys(l->err, rc, "%s: %s", l->name, what) : 0;
}

void load_put_boot(struct load *l, pn_gpa gpa, const void *data, size_t size) {
    (void)l->write(l->opaque, gpa, data, size);
}

int load_put_cmdline(struct load *l, const char *prefix, size_t max) {
    const char *append = l->append ? l->append : "";
    size_t a = strlen(prefix), b = strlen(append);
    if (max > BOOT_CMDLINE_MAX - 1)
        max = BOOT_CMDLINE_MAX - 1;
    if (a > max || b > max - a)
        return err_set(l->err, -EINVAL, "--append: %zu bytes, %s takes at most %zu",
                       a + b, l->name, max);
    load_put_boot(l, BOOT_CMDLINE, prefix, a);
    load_put_boot(l, BOOT_CMDLINE + a, append, b + 1);
    return 0;
}

unsigned load_e820(const struct load *l, struct e820_entry map[E820_MAX]) {
    uint64_t low = load_low_ram(l);
    unsigned n = 0;
    map[n++] = (struct e820_entry){0, EBDA_BASE, E820_RAM};
    map[n++] = (struct e820_entry){EBDA_BASE, 0xa0000 - EBDA_BASE, E820_RESERVED};
    map[n++] = (struct e820_entry){ACPI_BASE, 0x100000 - ACPI_BASE, E820_RESERVED};
    map[n++] = (struct e820_entry){0x100000, low - 0x100000, E820_RAM};
    if (l->ram > low)
        map[n++] = (struct e820_entry){HIGH_RAM_BASE, l->ram - low, E820_RAM};
    return n;
}

static struct load_module initrd_of(const struct load *l) {
    return (struct load_module){
        .name = l->initrd_name, .args = "", .data = l->initrd, .size = l->initrd_size};
}

/* Where a file of that size goes, as load_put_initrd says; 0: nowhere. */
static uint64_t file_place(const struct load *l, uint64_t size, uint64_t limit,
                           uint64_t avoid, uint64_t avoid_end) {
    uint64_t top = load_low_ram(l);
    if (limit < top)
        top = limit;
    uint64_t at = size <= top ? (top - size) & PN_PAGE_MASK : 0;
    if (at && overlaps(at, at + size, avoid, avoid_end))
        at = size <= avoid ? (avoid - size) & PN_PAGE_MASK : 0;
    return at < 0x100000 ? 0 : at;
}

uint64_t load_initrd_place(const struct load *l, uint64_t limit, uint64_t avoid,
                           uint64_t avoid_end) {
    return l->initrd ? file_place(l, l->initrd_size, limit, avoid, avoid_end) : 0;
}

/* One file, as load_put_initrd says. what: "the initrd". */
static int put_file(struct load *l, const char *what, const struct load_module *f,
                    uint64_t limit, uint64_t avoid, uint64_t avoid_end, uint64_t *gpa) {
    char file[SIZE_TEXT_MAX], ram[SIZE_TEXT_MAX];
    uint64_t size = f->size, at = file_place(l, size, limit, avoid, avoid_end);
    if (!at)
        return err_set(l->err, -EINVAL,
                       "%s: %s of %s does not fit beside the kernel in -m %s", f->name,
                       what, size_text(size, file), size_text(l->ram, ram));
    *gpa = at;
    return load_put(l, what, at, f->data, size);
}

int load_put_initrd(struct load *l, uint64_t limit, uint64_t avoid, uint64_t avoid_end,
                    uint64_t *gpa) {
    struct load_module initrd = initrd_of(l);
    *gpa = 0;
    if (l->modules)
        return err_set(l->err, -EINVAL,
                       "--module: %s is entered neither by Multiboot nor by PVH, and "
                       "takes none",
                       l->name);
    return initrd.data ? put_file(l, "an initrd", &initrd, limit, avoid, avoid_end, gpa)
                       : 0;
}

/* The texts of all modules, one behind the other. */
static int put_texts(struct load *l, bool named, struct load_module *m, unsigned count) {
    size_t used = 0;
    for (unsigned i = 0; i < count; i++) {
        const char *name = named ? m[i].name : "";
        size_t n = strlen(name), args = strlen(m[i].args), space = n && args;
        if (n + space + args + 1 > BOOT_STRINGS_MAX - used)
            return err_set(l->err, -EINVAL,
                           "--module: names and arguments take more than %u bytes",
                           BOOT_STRINGS_MAX);
        uint32_t at = BOOT_STRINGS + (uint32_t)used;
        m[i].text = n + args ? at : 0;
        load_put_boot(l, at, name, n);
        load_put_boot(l, at + n, " ", space);
        load_put_boot(l, at + n + space, m[i].args, args + 1);
        used += n + space + args + 1;
    }
    return 0;
}

int load_put_modules(struct load *l, bool named, uint64_t avoid, uint64_t avoid_end,
                     struct load_module out[LOAD_MODULES_MAX], unsigned *count) {
    unsigned n = 0;
    uint64_t limit = load_low_ram(l);
    if (l->initrd)
        out[n++] = initrd_of(l);
    for (unsigned i = 0; i < l->modules; i++)
        out[n++] = l->module[i];
    for (unsigned i = 0; i < n; i++) {
        int rc = put_file(l, "a module", &out[i], limit, avoid, avoid_end, &out[i].gpa);
        if (rc)
            return rc;
        limit = out[i].gpa;
    }
    *count = n;
    return put_texts(l, named, out, n);
}

/* ---- Formats ---- */

static uint32_t le32(const uint8_t *p) {
    return (uint32_t)(p[0] | p[1] << 8 | p[2] << 16) | (uint32_t)p[3] << 24;
}

/* Multiboot 1: a checked magic within the first 8 KiB, 4-byte aligned. */
static bool is_multiboot(const uint8_t *image, size_t size, uint32_t *flags) {
    size_t end = size < 8192 ? size : 8192;
    for (size_t i = 0; i + 12 <= end; i += 4) {
        if (le32(image + i) == 0x1badb002u &&
            le32(image + i) + le32(image + i + 4) + le32(image + i + 8) == 0) {
            *flags = le32(image + i + 4);
            return true;
        }
    }
    return false;
}

size_t load_find_multiboot2(const uint8_t *image, size_t size) {
    size_t end = size < 32768 ? size : 32768;
    for (size_t i = 0; i + 16 <= end; i += 8)
        if (le32(image + i) == 0xe85250d6u && le32(image + i) + le32(image + i + 4) +
                                                      le32(image + i + 8) +
                                                      le32(image + i + 12) ==
                                                  0)
            return i;
    return SIZE_MAX;
}

enum machine_format load_detect(const uint8_t *image, size_t size) {
    uint32_t flags = 0;
    if (size >= 0x250 && image[0x1fe] == 0x55 && image[0x1ff] == 0xaa &&
        memcmp(image + 0x202, "HdrS", 4) == 0)
        return FMT_BZIMAGE;
    bool is_elf = size >= 20 && memcmp(image, "\177ELF", 4) == 0;
    if (is_multiboot(image, size, &flags) && (is_elf || flags & 1u << 16))
        return FMT_MULTIBOOT;
    if (load_find_multiboot2(image, size) != SIZE_MAX)
        return FMT_MULTIBOOT2;
    return is_elf ? FMT_ELF : FMT_AUTO;
}

/* An ELF can be entered in three ways. Unless the format says which: a Linux vmlinux has
 * the note and names itself, and any other ELF64 is entered in long mode. */
static int load_any_elf(struct load *l) {
    struct elf elf;
    int rc = elf_parse(l->image, l->image_size, l->name, &elf, l->err);
    if (rc)
        return rc;
    l->is_linux = elf.guest_linux;
    if (l->format == FMT_PVH || (l->format == FMT_AUTO && elf.has_pvh && elf.guest_linux))
        return load_pvh(l);
    return elf.is64 ? load_elf64(l) : load_elf32(l);
}

/* A kernel that is packed as a whole, as boot loaders take it (xen.gz, gnumach.gz). */
static int unpack_image(struct load *l) {
    const uint8_t *p = l->image;
    uint64_t low = load_low_ram(l), max = low < UNPACKED_MAX ? low : UNPACKED_MAX;
    struct payload packed = {.in = p, .in_size = l->image_size, .name = l->name};
    uint8_t *out;
    if (l->format == FMT_FLAT || l->image_size < 18 || p[0] != 0x1f || p[1] != 0x8b)
        return 0;
    int rc = unpack_payload(&packed, max, &out, l->err);
    if (rc)
        return rc;
    free(l->image);
    l->image = out;
    l->image_size = packed.size;
    return 0;
}

int load_image(struct load *l) {
    enum machine_format fmt = l->format;
    int rc = unpack_image(l);
    if (rc)
        return rc;
    if (!l->image_size)
        return err_set(l->err, -EINVAL, "%s: empty file", l->name);
    if (fmt == FMT_AUTO)
        fmt = load_detect(l->image, l->image_size);
    switch (fmt) {
    case FMT_BZIMAGE:
        return load_bzimage(l);
    case FMT_ELF:
    case FMT_PVH:
        return load_any_elf(l);
    case FMT_MULTIBOOT:
        return load_multiboot(l);
    case FMT_MULTIBOOT2:
        return load_multiboot2(l);
    case FMT_FLAT:
        return load_flat(l);
    default:
        return err_set(l->err, -EINVAL,
                       "%s: not a kernel image (no bzImage, ELF or Multiboot header)",
                       l->name);
    }
}
