/* SPDX-License-Identifier: MIT */
/*
 * Relocations of a Linux kernel that moves in virtual memory (KASLR). The kernel's build
 * appends tables of places behind vmlinux, each a 32-bit virtual address, sign-extended in a
 * 64-bit kernel; arch/x86/boot/compressed/misc.c reads them from the end:
 *
 *     64-bit kernel: 0, 64-bit places..., 0, [inverse 32-bit places..., 0,] 32-bit places...
 *     32-bit kernel: 0, 32-bit places...
 *
 * (the inverse table, per-CPU offsets, is gone from newer kernels). A place's value grows
 * by delta, an inverse one shrinks.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "machine/internal.h"

enum reloc_kind { RELOC_64, RELOC_INVERSE, RELOC_32 };

static const uint8_t *words(const struct elf *elf, size_t *count) {
    *count = (elf->size - elf->end) / 4;
    return elf->data + elf->size - *count * 4;
}

static uint32_t word_at(const uint8_t *p, size_t i) {
    uint32_t v;
    memcpy(&v, p + 4 * i, sizeof(v));
    return v;
}

/* Return: how many tables, or 0 when what follows the ELF is none. */
static unsigned count_tables(const struct elf *elf) {
    size_t n;
    const uint8_t *p = words(elf, &n);
    unsigned zeros = 0;
    if (n < 2 || word_at(p, 0) != 0)
        return 0;
    for (size_t i = 0; i < n; i++)
        zeros += word_at(p, i) == 0;
    bool known = elf->is64 ? zeros == 2 || zeros == 3 : zeros == 1;
    return known ? zeros : 0;
}

bool relocs_present(const struct elf *elf) {
    return count_tables(elf) != 0;
}

/* Where a 64-bit Linux maps its image: place names follow from physical addresses by this, even
 * in the per-CPU segment, which is linked at 0 (__START_KERNEL_map). A 32-bit one is linked
 * where it is mapped, for which its configuration has several places. */
#define KERNEL_MAP 0xffffffff80000000ull

/* The place in the file that is loaded at vaddr, or NULL. */
static uint8_t *place(uint8_t *image, const struct elf *elf, uint64_t vaddr,
                      unsigned size) {
    for (unsigned i = 0; i < elf->count; i++) {
        const struct elf_segment *s = &elf->seg[i];
        uint64_t at = vaddr - (elf->is64 ? KERNEL_MAP + s->paddr : s->vaddr);
        if (at < s->filesz && size <= s->filesz - at)
            return image + s->offset + at;
    }
    return NULL;
}

static int relocate_one(uint8_t *image, const struct elf *elf, uint32_t word,
                        enum reloc_kind kind, uint64_t delta) {
    uint64_t vaddr = elf->is64 ? (uint64_t)(int64_t)(int32_t)word : word;
    unsigned size = kind == RELOC_64 ? 8 : 4;
    uint8_t *p = place(image, elf, vaddr, size);
    if (!p)
        return -EINVAL;
    uint64_t value = 0;
    memcpy(&value, p, size);
    value += kind == RELOC_INVERSE ? -delta : delta;
    memcpy(p, &value, size);
    return 0;
}

int relocate_kernel(uint8_t *image, const struct elf *elf, uint64_t delta,
                    struct load *l) {
    size_t n;
    const uint8_t *p = words(elf, &n);
    unsigned tables = count_tables(elf), seen = 0;
    if (!tables)
        return -ENOENT;
    for (size_t i = 1; i < n; i++) {
        uint32_t word = word_at(p, i);
        if (word == 0) {
            seen++;
            continue;
        }
        enum reloc_kind kind = seen == tables - 1 ? RELOC_32
                               : seen == 0        ? RELOC_64
                                                  : RELOC_INVERSE;
        if (relocate_one(image, elf, word, kind, delta) < 0)
            return err_set(l->err, -EINVAL,
                           "%s: damaged: a relocation at 0x%" PRIx32
                           " is outside the kernel",
                           l->name, word);
    }
    return 0;
}
