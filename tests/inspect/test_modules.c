/* SPDX-License-Identifier: MIT */
/* Modules of a Linux guest: their list, their text and their functions, in the structures of 6.1 and of
 * 6.4 on; what is damaged, goes in circles or changes is refused or unknown. */
#include <elf.h>
#include <errno.h>
#include <stdio.h>

#include "inspect/linux_internal.h"
#include "tests/inspect/linux_image.h"
#include "tests/suite.h"

#define MOVED 0x1000000ull
#define HEAD  (IMAGE_MODULES + MOVED)
#define AREA  0xffffffffc0000000ull
#define ROOM  0x8000u

static uint8_t data[ROOM], head[8]; /* at AREA, and at HEAD */
static struct linux_guest guest;
static struct linux_image *image;
static struct linux_functions *functions;
static bool old; /* 6.1's structures */
static unsigned reads;

/* Where things are in data. */
enum {
    ONE = 0x100,
    TWO = 0x400,
    TABLES = 0x700,
    SYMBOLS = 0x800,
    STRINGS = 0x1000,
    TEXT1 = 0x2000,
    INIT1 = 0x3000,
    TEXT2 = 0x4000
};

static size_t read_guest(void *opaque, uint64_t gva, void *buf, size_t size) {
    const uint8_t *from = NULL;
    if (gva >= AREA && gva - AREA < ROOM && size <= ROOM - (gva - AREA))
        from = data + (gva - AREA);
    else if (gva == HEAD && size == sizeof(head))
        from = head;
    if (from)
        memcpy(buf, from, size);
    reads++;
    return from ? size : 0;
}

static bool where(void *opaque, uint64_t gva, uint64_t *gpa) {
    *gpa = gva - AREA;
    return gva >= AREA;
}

static void put(unsigned place, uint64_t value, size_t size) {
    memcpy(data + place, &value, size);
}

static void put_text(unsigned module, bool init, uint64_t base, uint32_t size) {
    unsigned at = module + (old ? (init ? MODULE_INIT : MODULE_CORE)
                                : MODULE_MEM + (init ? 4 : 0) * MEMORY_SIZE_OF);
    put(at, base, 8);
    put(at + (old ? LAYOUT_TEXT : MEMORY_SIZE), size, 4);
}

static void put_module(unsigned module, uint64_t next, const char *name, unsigned table) {
    put(module + MODULE_LIST, next, 8);
    strcpy((char *)data + module + MODULE_NAME, name);
    put(module + MODULE_KALLSYMS, AREA + table, 8);
}

static void put_symbol(unsigned i, const char *name, unsigned type, uint64_t value,
                       uint64_t size) {
    Elf64_Sym y = {.st_name = 16 * i,
                   .st_info = ELF64_ST_INFO(STB_LOCAL, type),
                   .st_shndx = 1,
                   .st_value = value,
                   .st_size = size};
    memcpy(data + SYMBOLS + i * sizeof(y), &y, sizeof(y));
    strcpy((char *)data + STRINGS + 16 * i, name);
}

static void put_table(unsigned table, uint32_t count) {
    put(table + KALLSYMS_SYMTAB, AREA + SYMBOLS, 8);
    put(table + KALLSYMS_COUNT, count, 4);
    put(table + KALLSYMS_STRTAB, AREA + STRINGS, 8);
}

static void fill(void) {
    uint64_t first = AREA + ONE + MODULE_LIST;
    memset(data, 0, sizeof(data));
    memcpy(head, &first, sizeof(first));
    put_module(ONE, AREA + TWO + MODULE_LIST, "one", TABLES);
    put_module(TWO, HEAD, "two", TABLES + 0x40);
    put_text(ONE, false, AREA + TEXT1, 0x1000);
    put_text(ONE, true, AREA + INIT1, 0x100);
    put_text(TWO, false, AREA + TEXT2, 0x1000);
    put_table(TABLES, 7);
    put_table(TABLES + 0x40, 7);
    put_symbol(1, "first", STT_FUNC, AREA + TEXT1 + 0x100, 0x40);
    put_symbol(2, "second", STT_NOTYPE, AREA + TEXT1 + 0x200, 0);
    put_symbol(3, "begin", STT_FUNC, AREA + INIT1, 0x20);
    put_symbol(4, "datum", STT_OBJECT, AREA + TEXT1 + 0x300, 8);
    put_symbol(5, ".Lmark", STT_NOTYPE, AREA + TEXT1 + 0x210, 0);
    put_symbol(6, "other", STT_FUNC, AREA + TEXT2, 0x40);
}

static void begin(bool is_old) {
    old = is_old;
    image = image_create_of(old);
    guest = (struct linux_guest){
        .image = image, .moved = MOVED, .cpus = 1, .read = read_guest, .where = where};
    functions = linux_functions_create();
    fill();
}

static void end(void) {
    linux_functions_destroy(functions);
    linux_image_free(image);
}

/* "name [module] from-to", or "-". */
static const char *name_at(uint64_t address) {
    static char text[256];
    struct linux_function f;
    if (!linux_function_at(functions, &guest, address, &f))
        return "-";
    snprintf(text, sizeof(text), "%s [%s] %lx-%lx", f.name, f.module,
             (unsigned long)(f.of.from - AREA), (unsigned long)(f.of.to - AREA));
    ck_assert(address >= f.of.from && address < f.of.to);
    ck_assert(address >= f.text.from && address < f.text.to);
    return text;
}

static bool list(void *opaque, const struct linux_module *m) {
    char *text = opaque;
    size_t n = strlen(text);
    snprintf(text + n, 256 - n, "%s %lx-%lx; ", m->name,
             (unsigned long)(m->text[0].from - AREA),
             (unsigned long)(m->text[0].to - AREA));
    return n < 200;
}

START_TEST(modules_and_their_functions_are_found_in_both_structures) {
    for (unsigned i = 0; i < 2; i++) {
        char text[256] = "";
        begin(i);
        ck_assert(linux_has_modules(image));
        ck_assert(linux_modules(&guest, list, text));
        ck_assert_str_eq(text, "one 2000-3000; two 4000-5000; ");
        ck_assert_str_eq(name_at(AREA + TEXT1 + 0x13f), "first [one] 2100-2140");
        ck_assert_str_eq(name_at(AREA + TEXT1 + 0x140), "? [one] 2140-2141");
        ck_assert_str_eq(name_at(AREA + TEXT1 + 0xfff), "second [one] 2200-3000");
        ck_assert_str_eq(name_at(AREA + INIT1 + 8), "begin [one] 3000-3020");
        ck_assert_str_eq(name_at(AREA + TEXT2 + 8), "other [two] 4000-4040");
        ck_assert_str_eq(name_at(AREA + 0x5000), "-");
        ck_assert_str_eq(name_at(0x1000), "-");
        end();
    }
}
END_TEST

START_TEST(a_name_from_the_cache_is_one_that_the_guest_still_has) {
    begin(false);
    ck_assert_str_eq(name_at(AREA + TEXT1 + 0x100), "first [one] 2100-2140");
    reads = 0;
    ck_assert_str_eq(name_at(AREA + TEXT1 + 0x200), "second [one] 2200-3000");
    ck_assert_uint_lt(reads, 10);               /* no list, no symbols */
    uint64_t second = AREA + TWO + MODULE_LIST; /* the first one goes */
    memcpy(head, &second, sizeof(second));
    strcpy((char *)data + ONE + MODULE_NAME, "gone");
    ck_assert_str_eq(name_at(AREA + TEXT1 + 0x100), "-");
    /* init's symbols go with its text */
    fill();
    ck_assert_str_eq(name_at(AREA + INIT1 + 8), "begin [one] 3000-3020");
    put_text(ONE, true, 0, 0);
    ck_assert_str_eq(name_at(AREA + INIT1 + 8), "-");
    end();
}
END_TEST

START_TEST(a_list_that_is_a_circle_ends) {
    char text[256] = "";
    begin(true);
    put(TWO + MODULE_LIST, AREA + ONE + MODULE_LIST, 8);
    ck_assert(!linux_modules(&guest, list, text));
    reads = 0;
    ck_assert_str_eq(name_at(AREA + 0x6000), "-");
    ck_assert_uint_lt(reads, 100000);
    end();
}
END_TEST

START_TEST(what_cannot_be_a_module_has_no_names) {
    begin(false);
    put_table(TABLES, 1u << 20); /* more symbols than a module has */
    ck_assert_str_eq(name_at(AREA + TEXT1 + 0x100), "? [one] 2100-2101");
    end();
    begin(false);
    put_table(TABLES, 600); /* beyond what is mapped */
    put(TABLES + KALLSYMS_SYMTAB, AREA + ROOM - 0x100, 8);
    ck_assert_str_eq(name_at(AREA + TEXT1 + 0x100), "? [one] 2100-2101");
    end();
    begin(false);
    put_text(ONE, false, UINT64_MAX - 0xfff, 0x2000); /* wraps */
    ck_assert_str_eq(name_at(UINT64_MAX - 8), "-");
    end();
    begin(false);
    put_text(ONE, false, 0x1000, 0x1000); /* user space */
    ck_assert_str_eq(name_at(0x1100), "-");
    end();
}
END_TEST

START_TEST(a_guest_that_changes_its_modules_all_the_time_is_read_no_more) {
    begin(false);
    put_table(TABLES, 256); /* rubbish, and zeros, which are no symbols */
    unsigned named = 0;
    for (unsigned i = 0; i < 20000; i++) {
        put_text(ONE, true, AREA + INIT1, 0x100 + i % 64);
        named += *name_at(AREA + TEXT1 + 0x100) == 'f';
    }
    ck_assert_uint_gt(named, 16000);
    ck_assert_uint_lt(named, 17000);
    end();
}
END_TEST

START_TEST(a_kernel_whose_image_tells_nothing_of_modules_has_none) {
    struct linux_function f;
    begin(false);
    image->symbol[LINUX_modules] = LINUX_ABSENT;
    ck_assert(!linux_has_modules(image));
    ck_assert(!linux_modules(&guest, list, (char[256]){""}));
    ck_assert(!linux_function_at(functions, &guest, AREA + TEXT1, &f));
    end();
}
END_TEST

SUITE("inspect.modules",
      .tests = {modules_and_their_functions_are_found_in_both_structures,
                a_name_from_the_cache_is_one_that_the_guest_still_has,
                a_list_that_is_a_circle_ends, what_cannot_be_a_module_has_no_names,
                a_guest_that_changes_its_modules_all_the_time_is_read_no_more,
                a_kernel_whose_image_tells_nothing_of_modules_has_none})
