/* SPDX-License-Identifier: MIT */
/* An ELF's .symtab and sections, of both classes (System V ABI, "Symbol Table", "Sections"). */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "inspect/symbols_internal.h"

struct image {
    const uint8_t *data;
    size_t size;
    bool is64;
    uint64_t sections, section_size; /* of the section headers */
    unsigned count, names;           /* names: of the section that holds theirs */
};

static bool within(uint64_t offset, uint64_t size, uint64_t total) {
    return offset <= total && size <= total - offset;
}

/* Return: whether it is an ELF with section headers. */
static bool parse(struct image *m) {
    if (m->size < sizeof(Elf64_Ehdr) || memcmp(m->data, ELFMAG, SELFMAG) != 0 ||
        m->data[EI_DATA] != ELFDATA2LSB)
        return false;
    m->is64 = m->data[EI_CLASS] == ELFCLASS64;
    if (m->is64) {
        Elf64_Ehdr h;
        memcpy(&h, m->data, sizeof(h));
        m->sections = h.e_shoff;
        m->section_size = sizeof(Elf64_Shdr);
        m->count = h.e_shentsize == sizeof(Elf64_Shdr) ? h.e_shnum : 0;
        m->names = h.e_shstrndx;
    } else {
        Elf32_Ehdr h;
        memcpy(&h, m->data, sizeof(h));
        m->sections = h.e_shoff;
        m->section_size = sizeof(Elf32_Shdr);
        m->count = h.e_shentsize == sizeof(Elf32_Shdr) ? h.e_shnum : 0;
        m->names = h.e_shstrndx;
    }
    return within(m->sections, m->section_size * m->count, m->size);
}

/* Section i, of which there are more. Its content lies in the file, or it has size 0. */
static Elf64_Shdr section(const struct image *m, unsigned i) {
    const uint8_t *at = m->data + m->sections + i * m->section_size;
    Elf64_Shdr s;
    if (m->is64) {
        memcpy(&s, at, sizeof(s));
    } else {
        Elf32_Shdr h;
        memcpy(&h, at, sizeof(h));
        s = (Elf64_Shdr){.sh_name = h.sh_name,
                         .sh_type = h.sh_type,
                         .sh_flags = h.sh_flags,
                         .sh_offset = h.sh_offset,
                         .sh_size = h.sh_size,
                         .sh_link = h.sh_link};
    }
    if (!within(s.sh_offset, s.sh_size, m->size))
        s.sh_size = 0;
    return s;
}

static Elf64_Sym symbol_at(const struct image *m, uint64_t offset) {
    Elf64_Sym s;
    if (m->is64) {
        memcpy(&s, m->data + offset, sizeof(s));
        return s;
    }
    Elf32_Sym h;
    memcpy(&h, m->data + offset, sizeof(h));
    return (Elf64_Sym){.st_name = h.st_name,
                       .st_info = h.st_info,
                       .st_shndx = h.st_shndx,
                       .st_value = h.st_value,
                       .st_size = h.st_size};
}

/* A symbol that stands for an address in memory. */
static int add(struct symbols *s, const struct image *m, const Elf64_Sym *y,
               const Elf64_Shdr *strings) {
    unsigned type = ELF64_ST_TYPE(y->st_info);
    uint64_t end;
    if (y->st_shndx == SHN_UNDEF || y->st_shndx >= m->count ||
        (type != STT_FUNC && type != STT_NOTYPE && type != STT_OBJECT) ||
        y->st_name >= strings->sh_size)
        return 0;
    const char *name = (const char *)m->data + strings->sh_offset + y->st_name;
    size_t length = strnlen(name, strings->sh_size - y->st_name);
    bool code = section(m, y->st_shndx).sh_flags & SHF_EXECINSTR;
    if (__builtin_add_overflow(y->st_value, y->st_size, &end))
        end = 0;
    return symbols_add(s,
                       &(struct symbol){.from = y->st_value,
                                        .to = y->st_size ? end : 0,
                                        .function = code && type != STT_OBJECT,
                                        .weak = ELF64_ST_BIND(y->st_info) == STB_WEAK},
                       name, length);
}

int symbols_add_elf(struct symbols *s, const uint8_t *data, size_t size) {
    struct image m = {.data = data, .size = size};
    if (!parse(&m))
        return 0;
    uint64_t step = m.is64 ? sizeof(Elf64_Sym) : sizeof(Elf32_Sym);
    int rc = 0;
    for (unsigned i = 0; i < m.count; i++) {
        Elf64_Shdr table = section(&m, i);
        if (table.sh_type != SHT_SYMTAB || table.sh_link >= m.count)
            continue;
        Elf64_Shdr strings = section(&m, table.sh_link);
        for (uint64_t at = 0; !rc && table.sh_size - at >= step; at += step) {
            Elf64_Sym y = symbol_at(&m, table.sh_offset + at);
            rc = add(s, &m, &y, &strings);
        }
    }
    return rc;
}

bool symbols_elf_section(const uint8_t *data, size_t size, const char *name,
                         const uint8_t **content, size_t *content_size) {
    struct image m = {.data = data, .size = size};
    size_t length = strlen(name) + 1;
    if (!parse(&m) || m.names >= m.count)
        return false;
    Elf64_Shdr names = section(&m, m.names);
    for (unsigned i = 0; i < m.count; i++) {
        Elf64_Shdr s = section(&m, i);
        if (s.sh_type != SHT_NOBITS && within(s.sh_name, length, names.sh_size) &&
            !memcmp(data + names.sh_offset + s.sh_name, name, length)) {
            *content = data + s.sh_offset;
            *content_size = s.sh_size;
            return true;
        }
    }
    return false;
}
