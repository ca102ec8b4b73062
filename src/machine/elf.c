/* SPDX-License-Identifier: MIT */
/*
 * ELF files of both classes, as one checked list of segments.
 *
 * Invariant: after elf_parse, every segment's [offset, offset + filesz) lies within the
 * file, filesz <= memsz, and no address range wraps.
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "machine/internal.h"

#define XEN_NOTE_GUEST_OS     6
#define XEN_NOTE_PHYS32_ENTRY 18

static bool within(uint64_t offset, uint64_t size, uint64_t total) {
    return offset <= total && size <= total - offset;
}

/* A program header of either class as the 64-bit one. */
static Elf64_Phdr phdr_at(const struct elf *elf, uint64_t offset) {
    Elf64_Phdr p;
    if (elf->is64) {
        memcpy(&p, elf->data + offset, sizeof(p));
        return p;
    }
    Elf32_Phdr q;
    memcpy(&q, elf->data + offset, sizeof(q));
    return (Elf64_Phdr){.p_type = q.p_type,
                        .p_offset = q.p_offset,
                        .p_vaddr = q.p_vaddr,
                        .p_paddr = q.p_paddr,
                        .p_filesz = q.p_filesz,
                        .p_memsz = q.p_memsz,
                        .p_align = q.p_align};
}

/* Of a section header the place in the file: its end, or 0 when it has none there. */
static uint64_t section_end(const struct elf *elf, uint64_t offset) {
    uint64_t type, at, size;
    if (elf->is64) {
        Elf64_Shdr s;
        memcpy(&s, elf->data + offset, sizeof(s));
        type = s.sh_type, at = s.sh_offset, size = s.sh_size;
    } else {
        Elf32_Shdr s;
        memcpy(&s, elf->data + offset, sizeof(s));
        type = s.sh_type, at = s.sh_offset, size = s.sh_size;
    }
    return type != SHT_NOBITS && within(at, size, elf->size) ? at + size : 0;
}

static Elf64_Ehdr ehdr_of(const struct elf *elf) {
    Elf64_Ehdr h;
    if (elf->is64) {
        memcpy(&h, elf->data, sizeof(h));
        return h;
    }
    Elf32_Ehdr q;
    memcpy(&q, elf->data, sizeof(q));
    return (Elf64_Ehdr){.e_machine = q.e_machine,
                        .e_entry = q.e_entry,
                        .e_phoff = q.e_phoff,
                        .e_shoff = q.e_shoff,
                        .e_phentsize = q.e_phentsize,
                        .e_phnum = q.e_phnum,
                        .e_shentsize = q.e_shentsize,
                        .e_shnum = q.e_shnum};
}

static void parse_one_note(struct elf *elf, uint32_t type, const uint8_t *desc,
                           uint32_t size) {
    if (type == XEN_NOTE_PHYS32_ENTRY && (size == 4 || size == 8)) {
        elf->pvh_entry = 0;
        memcpy(&elf->pvh_entry, desc, size);
        elf->has_pvh = true;
    } else if (type == XEN_NOTE_GUEST_OS && size >= 5) {
        elf->guest_linux = memcmp(desc, "linux", 5) == 0;
    }
}

static void parse_notes(struct elf *elf, uint64_t offset, uint64_t size) {
    while (size >= 12) {
        uint32_t word[3]; /* name size, descriptor size, type */
        memcpy(word, elf->data + offset, sizeof(word));
        uint64_t name = ((uint64_t)word[0] + 3) & ~3ull;
        uint64_t desc = ((uint64_t)word[1] + 3) & ~3ull;
        if (name + desc > size - 12)
            return;
        const uint8_t *p = elf->data + offset + 12;
        if (word[0] == 4 && memcmp(p, "Xen", 4) == 0)
            parse_one_note(elf, word[2], p + name, word[1]);
        offset += 12 + name + desc;
        size -= 12 + name + desc;
    }
}

static int add_segment(struct elf *elf, const Elf64_Phdr *p, const char *name,
                       struct err *e) {
    uint64_t end;
    if (!p->p_memsz)
        return 0;
    if (!within(p->p_offset, p->p_filesz, elf->size))
        return err_set(e, -EINVAL, "%s: truncated: a segment lies beyond the file's end",
                       name);
    if (p->p_filesz > p->p_memsz ||
        __builtin_add_overflow(p->p_paddr, p->p_memsz, &end) ||
        __builtin_add_overflow(p->p_vaddr, p->p_memsz - 1, &(uint64_t){0}))
        return err_set(e, -EINVAL, "%s: damaged ELF: a segment's size is impossible",
                       name);
    if (elf->count == ELF_SEGMENTS_MAX)
        return err_set(e, -EINVAL, "%s: more than %u ELF segments", name,
                       ELF_SEGMENTS_MAX);
    elf->seg[elf->count++] = (struct elf_segment){p->p_offset, p->p_vaddr, p->p_paddr,
                                                  p->p_filesz, p->p_memsz};
    if (p->p_paddr < elf->low)
        elf->low = p->p_paddr;
    if (end > elf->high)
        elf->high = end;
    return 0;
}

/* Where the file ends by its headers: what a kernel build appended comes after it. */
static void find_end(struct elf *elf, const Elf64_Ehdr *h) {
    uint64_t end = elf->is64 ? sizeof(Elf64_Ehdr) : sizeof(Elf32_Ehdr);
    uint64_t ph_end = h->e_phoff + (uint64_t)h->e_phentsize * h->e_phnum;
    if (ph_end > end)
        end = ph_end;
    for (unsigned i = 0; i < elf->count; i++)
        if (elf->seg[i].offset + elf->seg[i].filesz > end)
            end = elf->seg[i].offset + elf->seg[i].filesz;
    uint64_t one = elf->is64 ? sizeof(Elf64_Shdr) : sizeof(Elf32_Shdr);
    uint64_t table = one * h->e_shnum;
    if (h->e_shentsize == one && within(h->e_shoff, table, elf->size)) {
        if (h->e_shoff + table > end)
            end = h->e_shoff + table;
        for (unsigned i = 0; i < h->e_shnum; i++) {
            uint64_t section = section_end(elf, h->e_shoff + i * one);
            if (section > end)
                end = section;
        }
    }
    elf->end = end < elf->size ? end : elf->size;
}

int elf_parse(const void *data, size_t size, const char *name, struct elf *out,
              struct err *e) {
    struct elf elf = {.data = data, .size = size, .low = UINT64_MAX};
    if (size < sizeof(Elf32_Ehdr) || memcmp(data, ELFMAG, SELFMAG) != 0)
        return err_set(e, -EINVAL, "%s: not an ELF file", name);
    unsigned class = elf.data[EI_CLASS];
    elf.is64 = class == ELFCLASS64;
    if ((class != ELFCLASS32 && class != ELFCLASS64) ||
        elf.data[EI_DATA] != ELFDATA2LSB || (elf.is64 && size < sizeof(Elf64_Ehdr)))
        return err_set(e, -EINVAL, "%s: not a little-endian ELF file", name);
    Elf64_Ehdr h = ehdr_of(&elf);
    elf.machine = h.e_machine;
    elf.entry = h.e_entry;
    if (h.e_machine != EM_X86_64 && h.e_machine != EM_386)
        return err_set(e, -EINVAL, "%s: an ELF for another processor (machine %u)", name,
                       h.e_machine);
    uint64_t want = elf.is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr);
    if (h.e_phentsize != want || !within(h.e_phoff, want * h.e_phnum, size))
        return err_set(e, -EINVAL, "%s: truncated: no ELF program headers", name);
    for (unsigned i = 0; i < h.e_phnum; i++) {
        Elf64_Phdr p = phdr_at(&elf, h.e_phoff + want * i);
        int rc = p.p_type == PT_LOAD ? add_segment(&elf, &p, name, e) : 0;
        if (!rc && p.p_type == PT_INTERP)
            rc = err_set(e, -EINVAL,
                         "%s: an ELF with an interpreter: a program, no kernel", name);
        if (rc)
            return rc;
        if (p.p_type == PT_NOTE && within(p.p_offset, p.p_filesz, size))
            parse_notes(&elf, p.p_offset, p.p_filesz);
    }
    if (!elf.count)
        return err_set(e, -EINVAL, "%s: an ELF with nothing to load", name);
    find_end(&elf, &h);
    *out = elf;
    return 0;
}

int elf_load(struct load *l, const struct elf *elf, uint64_t shift) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < elf->count; i++) {
        const struct elf_segment *s = &elf->seg[i];
        rc = load_check(l, "the kernel", s->paddr + shift, s->memsz);
        if (rc == 0) /* the rest up to memsz is zero, as all of RAM is */
            rc = load_put(l, "the kernel", s->paddr + shift, elf->data + s->offset,
                          s->filesz);
    }
    return rc;
}

uint64_t elf_entry_phys(const struct elf *elf) {
    for (unsigned i = 0; i < elf->count; i++)
        if (elf->entry - elf->seg[i].paddr < elf->seg[i].memsz)
            return elf->entry;
    for (unsigned i = 0; i < elf->count; i++)
        if (elf->entry - elf->seg[i].vaddr < elf->seg[i].memsz)
            return elf->entry - elf->seg[i].vaddr + elf->seg[i].paddr;
    return elf->entry;
}
