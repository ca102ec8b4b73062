/* SPDX-License-Identifier: MIT */
/* Symbols: text, ELF and kallsyms give the names that they hold; what is damaged is refused
 * in a line, and never read beyond its end. */
#include <elf.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/symbols.h"
#include "tests/suite.h"

static char line[256];
static struct err e = {line, sizeof(line)};

/* In memory that ends where the data ends, for the sanitizers. Return: symbols_parse's. */
static int parse(const void *data, size_t size, struct symbols **s) {
    void *copy = malloc(size ? size : 1);
    memcpy(copy, data, size);
    line[0] = 0;
    *s = NULL;
    int rc = symbols_parse(copy, size, "F", s, &e);
    free(copy);
    return rc;
}

static struct symbols *good(const void *data, size_t size) {
    struct symbols *s;
    ck_assert_msg(parse(data, size, &s) == 0, "%s", line);
    return s;
}

static const char *name_at(const struct symbols *s, uint64_t address) {
    uint32_t n = symbols_at(s, address);
    return n == SYMBOLS_NONE ? "" : symbols_name(s, n);
}

/* ---- Text ---- */

static const char map[] = "0000000000000040 D per_cpu_data\n"
                          "ffffffff81000000 T _stext\n"
                          "ffffffff81000000 T first\n"
                          "ffffffff81000000 W a_weak_one\n"
                          "ffffffff81000100 t second\n"
                          "ffffffff81000200 R data_behind\n"
                          "                 U undefined\n"
                          "\n"
                          "ffffffffc0000000 t in_module\t[module]\n";

START_TEST(an_address_belongs_to_the_function_that_begins_before_it) {
    struct symbols *s = good(map, strlen(map));
    ck_assert_str_eq(name_at(s, 0xffffffff81000000), "first");
    ck_assert_str_eq(name_at(s, 0xffffffff810000ff), "first");
    ck_assert_str_eq(name_at(s, 0xffffffff81000100), "second");
    ck_assert_str_eq(name_at(s, 0xffffffff810001ff), "second");
    ck_assert_str_eq(name_at(s, 0xffffffffc0000010), "in_module");
    symbols_free(s);
}
END_TEST

START_TEST(an_address_in_data_or_before_all_symbols_has_no_function) {
    struct symbols *s = good(map, strlen(map));
    ck_assert_str_eq(name_at(s, 0xffffffff81000200), "");
    ck_assert_str_eq(name_at(s, 0x3f), "");
    ck_assert_str_eq(name_at(s, 0x40), "");
    symbols_free(s);
}
END_TEST

START_TEST(a_function_is_found_by_any_of_its_names) {
    struct symbols *s = good(map, strlen(map));
    uint64_t from, to;
    symbols_range(s, symbols_named(s, "a_weak_one"), &from, &to);
    ck_assert_uint_eq(from, 0xffffffff81000000);
    ck_assert_uint_eq(to, 0xffffffff81000100);
    ck_assert_uint_eq(symbols_named(s, "data_behind"), SYMBOLS_NONE);
    ck_assert_uint_eq(symbols_named(s, "undefined"), SYMBOLS_NONE);
    symbols_free(s);
}
END_TEST

START_TEST(text_that_is_no_map_is_refused_by_its_line) {
    static const struct {
        const char *text, *says;
    } bad[] = {
        {"", "F: no addresses of functions in it"},
        {"0000000000000000 T hidden\n", "F: no addresses of functions in it"},
        /* what Debian ships as System.map */
        {"ffffffffffffffff B The real System.map is in the -dbg package\n",
         "F: no addresses of functions in it"},
        {"ffffffff81000000 T a\nhello world\n",
         "F: no symbols: line 2 is not ADDRESS TYPE NAME, and it is neither an ELF nor a "
         "bzImage"},
        {"ffffffff81000000\n",
         "F: no symbols: line 1 is not ADDRESS TYPE NAME, and it is "
         "neither an ELF nor a bzImage"},
        {"11112222333344445 T a\n", "F: no symbols: line 1 is not ADDRESS TYPE NAME, and "
                                    "it is neither an ELF nor a bzImage"},
    };
    struct symbols *s;
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        ck_assert_int_eq(parse(bad[i].text, strlen(bad[i].text), &s), -EINVAL);
        ck_assert_str_eq(line, bad[i].says);
    }
}
END_TEST

/* ---- ELF ---- */

struct elf_file {
    Elf64_Ehdr head;
    Elf64_Shdr section[5]; /* none, text, data, symbols, strings */
    Elf64_Sym symbol[6];
    char strings[64];
};

static struct elf_file elf_file(void) {
    struct elf_file f = {
        .head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
                 .e_shoff = offsetof(struct elf_file, section),
                 .e_shentsize = sizeof(Elf64_Shdr),
                 .e_shnum = 5},
        .section = {{0},
                    {.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC | SHF_EXECINSTR},
                    {.sh_type = SHT_PROGBITS, .sh_flags = SHF_ALLOC},
                    {.sh_type = SHT_SYMTAB,
                     .sh_offset = offsetof(struct elf_file, symbol),
                     .sh_size = sizeof(f.symbol),
                     .sh_link = 4},
                    {.sh_type = SHT_STRTAB,
                     .sh_offset = offsetof(struct elf_file, strings),
                     .sh_size = sizeof(f.strings)}},
        .symbol = {{0},
                   {1, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, 1, 0x1000, 0x10},
                   {6, ELF64_ST_INFO(STB_LOCAL, STT_NOTYPE), 0, 1, 0x1040, 0},
                   {12, ELF64_ST_INFO(STB_GLOBAL, STT_OBJECT), 0, 2, 0x1080, 8},
                   {17, ELF64_ST_INFO(STB_GLOBAL, STT_FUNC), 0, SHN_UNDEF, 0x1020, 8},
                   {23, ELF64_ST_INFO(STB_GLOBAL, STT_NOTYPE), 0, SHN_ABS, 0x1030, 0}},
        .strings = "\0main\0label\0data\0other\0absolute",
    };
    return f;
}

START_TEST(an_elf_gives_the_symbols_of_its_code_with_their_sizes) {
    struct elf_file f = elf_file();
    struct symbols *s = good(&f, sizeof(f));
    ck_assert_uint_eq(symbols_count(s), 3);
    ck_assert_str_eq(name_at(s, 0x100f), "main");
    ck_assert_str_eq(name_at(s, 0x1010), ""); /* behind its end */
    ck_assert_str_eq(name_at(s, 0x107f), "label");
    ck_assert_str_eq(name_at(s, 0x1080), "");
    symbols_free(s);
}
END_TEST

START_TEST(an_elf_whose_offsets_lie_is_not_read_beyond_its_end) {
    struct symbols *s;
    const struct elf_file f = elf_file();
    for (size_t size = 0; size < sizeof(f); size++)
        if (!parse(&f, size, &s))
            symbols_free(s);
    for (size_t at = 0; at < offsetof(struct elf_file, strings); at++) {
        struct elf_file g = f;
        ((unsigned char *)&g)[at] ^= 0xff;
        if (!parse(&g, sizeof(g), &s))
            symbols_free(s);
        else
            ck_assert(line[0]);
    }
}
END_TEST

/* ---- kallsyms ---- */

#define COUNT 700u
#define BASE  0xffffffff81000000ull
static unsigned char image[1u << 16];
static size_t used, alignment; /* alignment: of tables */

static size_t aligned(size_t n) {
    return (n + alignment - 1) & ~(alignment - 1);
}

static size_t put(const void *data, size_t size) {
    used = aligned(used);
    size_t at = used;
    memcpy(image + used, data, size);
    used += size;
    return at;
}

/* What a kernel's image may be like. */
enum form {
    OLD,         /* up to 6.3 */
    OLD_PER_CPU, /* the same with absolute per-CPU symbols, as Debian's 6.1 */
    NEW,         /* from 6.4 on */
    NEW_PER_CPU,
    PLACES,   /* from 7.0 on */
    PLACES_4, /* the same with tables aligned to 4, as Debian's 7.2 and 7.3 */
    FORMS
};

/* Symbol i is at BASE + 16 i; symbol 0 is a per-CPU address, where there are these. Those
 * that a multiple of 100 numbers are data. */
static void put_offsets(enum form form) {
    static int32_t offset[COUNT];
    const uint64_t base = BASE;
    int place = (int)aligned(used);
    for (int i = 0; i < (int)COUNT; i++)
        switch (form) {
        case OLD_PER_CPU:
        case NEW_PER_CPU:
            offset[i] = i ? -1 - 16 * i : 0x1000;
            break;
        case PLACES: /* the image is at BASE */
        case PLACES_4:
            offset[i] = 16 * i - place - 4 * i;
            break;
        default:
            offset[i] = 16 * i;
        }
    put(offset, sizeof(offset));
    if (form < PLACES)
        put(&base, sizeof(base));
}

/* Names of 9 characters, 5 of them one token; one name is longer than 127 bytes. */
static void put_names(void) {
    static unsigned char names[COUNT * 8 + 256];
    static uint32_t marker[(COUNT + 255) / 256];
    const uint32_t count = COUNT;
    size_t n = 0;
    for (unsigned i = 0; i < COUNT; i++) {
        unsigned longer = i == 300 ? 150 : 0, length = 5 + longer;
        char digits[8];
        if (i % 256 == 0)
            marker[i / 256] = (uint32_t)n;
        names[n++] = (unsigned char)(length > 127 ? (length & 127) | 128 : length);
        if (length > 127)
            names[n++] = (unsigned char)(length >> 7);
        names[n++] = i % 100 == 0 ? 'd' : 't';
        names[n++] = 0x80; /* "func_" */
        snprintf(digits, sizeof(digits), "%03u", i);
        memcpy(names + n, digits, 3);
        n += 3;
        memset(names + n, 'x', longer);
        n += longer;
    }
    put(&count, sizeof(count));
    put(names, n);
    put(marker, sizeof(marker));
}

static void put_tokens(void) {
    static char table[1024];
    uint16_t index[256];
    size_t n = 0;
    for (unsigned i = 0; i < 256; i++) {
        index[i] = (uint16_t)n;
        if (i == 0x80)
            n += (size_t)sprintf(table + n, "func_") + 1;
        else if (i > ' ' && i < 0x7f)
            n += (size_t)sprintf(table + n, "%c", i) + 1;
        else
            table[n++] = 0;
    }
    put(table, n);
    put(index, sizeof(index));
}

static void make_image(enum form form) {
    const Elf64_Ehdr head = {.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB},
                             .e_phoff = sizeof(head),
                             .e_phentsize = sizeof(Elf64_Phdr),
                             .e_phnum = 1};
    const Elf64_Phdr load = {
        .p_type = PT_LOAD, .p_vaddr = BASE, .p_filesz = sizeof(image)};
    used = 0;
    alignment = form == PLACES_4 ? 4 : 8;
    memset(image, 0, sizeof(image));
    put(&head, sizeof(head));
    put(&load, sizeof(load));
    put("0\0001\0002\0003\0004\0005\0006\0007\0008\0009", 20); /* looks like tokens */
    if (form < NEW)
        put_offsets(form);
    put_names();
    put_tokens();
    if (form >= NEW)
        put_offsets(form);
    put("behind", 6);
}

START_TEST(kallsyms_are_found_in_a_kernel_of_any_layout) {
    make_image((enum form)_i);
    struct symbols *s = good(image, used);
    ck_assert_uint_eq(symbols_count(s), COUNT);
    ck_assert_str_eq(name_at(s, BASE + 16), "func_001");
    ck_assert_str_eq(name_at(s, BASE + 16 * 255 + 15), "func_255");
    ck_assert_str_eq(name_at(s, BASE + 16 * 699), "func_699");
    ck_assert_str_eq(name_at(s, BASE + 16 * 200), ""); /* data */
    ck_assert_uint_eq(strlen(name_at(s, BASE + 16 * 300 - 1)), 8);
    ck_assert_uint_eq(symbols_named(s, "func_200"), SYMBOLS_NONE);
    ck_assert_uint_eq(symbols_named(s, "func_000"), SYMBOLS_NONE);
    ck_assert_uint_ne(symbols_named(s, "func_301"), SYMBOLS_NONE);
    symbols_free(s);
}
END_TEST

START_TEST(kallsyms_that_are_cut_or_changed_are_not_read_beyond_their_end) {
    struct symbols *s;
    for (enum form form = OLD; form < FORMS; form++) {
        make_image(form);
        for (size_t size = 0; size < used; size += 61)
            if (!parse(image, size, &s))
                symbols_free(s);
        for (size_t at = 16; at < used; at += 13) {
            image[at] ^= 0xff;
            if (!parse(image, used, &s))
                symbols_free(s);
            else
                ck_assert(line[0]);
            image[at] ^= 0xff;
        }
    }
}
END_TEST

START_TEST(a_kernel_whose_addresses_are_out_of_order_gives_no_names) {
    static const uint32_t wrong = 0xffffff; /* in the middle of the offsets */
    struct symbols *s;
    make_image(OLD);
    size_t offsets = sizeof(Elf64_Ehdr) + sizeof(Elf64_Phdr) + 24;
    memcpy(image + offsets + 4 * 350, &wrong, sizeof(wrong));
    ck_assert_int_eq(parse(image, used, &s), -EINVAL);
    ck_assert_str_eq(line, "F: no addresses of functions in it");
}
END_TEST

SUITE("inspect.symbols", .timeout = 120,
      .tests = {an_address_belongs_to_the_function_that_begins_before_it,
                an_address_in_data_or_before_all_symbols_has_no_function,
                a_function_is_found_by_any_of_its_names,
                text_that_is_no_map_is_refused_by_its_line,
                an_elf_gives_the_symbols_of_its_code_with_their_sizes,
                an_elf_whose_offsets_lie_is_not_read_beyond_its_end,
                kallsyms_that_are_cut_or_changed_are_not_read_beyond_their_end,
                a_kernel_whose_addresses_are_out_of_order_gives_no_names},
      .loops = {{kallsyms_are_found_in_a_kernel_of_any_layout, FORMS}})
