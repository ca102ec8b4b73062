/* SPDX-License-Identifier: MIT */
/*
 * Files beside the kernel, and Multiboot 2 (GNU Multiboot2 Specification 2.0: "The layout of
 * Multiboot2 header", "Boot information format").
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fixture.h"
#include "image.h"
#include "tests/suite.h"

#define MIB        (1ull << 20)
#define SEGMENT_AT 0x1000 /* in the file of image_elf */

static const struct elf_spec kernel = {
    .paddr = MIB, .vaddr = MIB, .entry = MIB + 0x800, .filesz = 4096, .memsz = 8192};
static const char first[] = "the first", second[5000] = "the second";

static void with_modules(struct fixture *f) {
    fixture_init(f, 8 * MIB);
    f->l.append = "one two";
    f->l.initrd_name = "ird";
    f->l.initrd = "initrd!";
    f->l.initrd_size = 7;
    f->l.module[0] = (struct load_module){
        .name = "m1", .args = "a=1,b", .data = first, .size = sizeof(first)};
    f->l.module[1] = (struct load_module){
        .name = "m2", .args = "", .data = second, .size = sizeof(second)};
    f->l.modules = 2;
}

/* Each whole, page aligned, and over nothing else. */
static void expect_files(struct fixture *f, const uint64_t at[3]) {
    const void *data[3] = {f->l.initrd, first, second};
    const size_t size[3] = {7, sizeof(first), sizeof(second)};
    for (unsigned i = 0; i < 3; i++) {
        ck_assert_uint_eq(at[i] % 4096, 0);
        ck_assert_uint_ge(at[i], MIB + 8192);
        ck_assert_int_eq(memcmp(fixture_at(f, at[i]), data[i], size[i]), 0);
        for (unsigned k = 0; k < i; k++)
            ck_assert(at[k] >= at[i] + size[i] || at[i] >= at[k] + size[k]);
    }
}

START_TEST(multiboot_has_the_initrd_and_then_the_modules) {
    struct elf_spec s = kernel;
    struct fixture f;
    s.multiboot = true;
    struct image i = image_elf(&s);
    with_modules(&f);
    ck_assert_int_eq(fixture_load(&f, i.data, i.size), 0);
    uint64_t info = f.l.entry.rbx, mods = fixture_u32(&f, info + 24), at[3];
    static const char *const text[3] = {"ird", "m1 a=1,b", "m2"};
    ck_assert_uint_eq(fixture_u32(&f, info + 20), 3);
    for (unsigned k = 0; k < 3; k++) {
        at[k] = fixture_u32(&f, mods + 16 * k);
        ck_assert_str_eq((char *)fixture_at(&f, fixture_u32(&f, mods + 16 * k + 8)),
                         text[k]);
    }
    ck_assert_uint_eq(fixture_u32(&f, mods + 16 * 2 + 4) - at[2], sizeof(second));
    expect_files(&f, at);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

START_TEST(pvh_has_the_modules_and_their_arguments) {
    struct elf_spec s = kernel;
    struct fixture f;
    s.is64 = s.pvh = true;
    s.pvh_entry = MIB + 0x40;
    struct image i = image_elf(&s);
    with_modules(&f);
    f.l.format = FMT_PVH;
    ck_assert_int_eq(fixture_load(&f, i.data, i.size), 0);
    ck_assert_uint_eq(fixture_u32(&f, BOOT_INFO + 12), 3);
    uint64_t mods = fixture_u64(&f, BOOT_INFO + 16), at[3];
    for (unsigned k = 0; k < 3; k++)
        at[k] = fixture_u64(&f, mods + 32 * k);
    ck_assert_uint_eq(fixture_u64(&f, mods + 32 + 8), sizeof(first));
    ck_assert_uint_eq(fixture_u64(&f, mods + 16), 0);
    ck_assert_str_eq((char *)fixture_at(&f, fixture_u64(&f, mods + 32 + 16)), "a=1,b");
    expect_files(&f, at);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

START_TEST(other_protocols_refuse_modules) {
    static const enum machine_format formats[] = {FMT_ELF, FMT_FLAT};
    struct image i = image_elf(&kernel);
    for (unsigned k = 0; k < 2; k++) {
        struct fixture f;
        with_modules(&f);
        f.l.format = formats[k];
        f.l.flat_addr = MIB;
        f.l.flat_bits = 32;
        ck_assert_int_eq(fixture_load(&f, i.data, i.size), -EINVAL);
        ck_assert_ptr_nonnull(strstr(f.text, "--module"));
        fixture_free(&f);
    }
    image_free(&i);
}
END_TEST

START_TEST(modules_that_do_not_fit_are_refused) {
    struct elf_spec s = kernel;
    struct fixture f;
    char *args = malloc(BOOT_STRINGS_MAX);
    s.multiboot = true;
    struct image i = image_elf(&s);
    memset(args, 'x', BOOT_STRINGS_MAX);
    for (unsigned k = 0; k < 2; k++) {
        with_modules(&f);
        /* "ird", "m1 " and the arguments, "m2", each with its NUL */
        args[BOOT_STRINGS_MAX - 4 - 3 - 1 - 3 + k] = 0;
        f.l.module[0].args = args;
        ck_assert_int_eq(fixture_load(&f, i.data, i.size), k ? -EINVAL : 0);
        if (k)
            ck_assert_ptr_nonnull(strstr(f.text, "--module"));
        args[BOOT_STRINGS_MAX - 4 - 3 - 1 - 3 + k] = 'x';
        fixture_free(&f);
    }
    with_modules(&f);
    f.l.module[1].size = 7 * MIB;
    ck_assert_int_eq(fixture_load(&f, i.data, i.size), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "m2"));
    fixture_free(&f);
    free(args);
    image_free(&i);
}
END_TEST

/* ---- Multiboot 2 ---- */

/* A header of these tags, with an end tag. Return: its size. */
static size_t put_header(uint8_t *at, const uint32_t *tags, size_t size) {
    const uint32_t end[2] = {0, 8};
    uint32_t head[4] = {0xe85250d6u, 0, (uint32_t)(16 + size + sizeof(end)), 0};
    head[3] = -(head[0] + head[1] + head[2]);
    memcpy(at, head, sizeof(head));
    memcpy(at + 16, tags, size);
    memcpy(at + 16 + size, end, sizeof(end));
    return head[2];
}

/* Tag `type` of the information, at or behind `from`; 0: none. */
static uint64_t find_tag(struct fixture *f, uint32_t type, uint64_t from) {
    uint64_t end = BOOT_INFO + fixture_u32(f, BOOT_INFO);
    for (uint64_t at = BOOT_INFO + 8; at < end;
         at += (fixture_u32(f, at + 4) + 7) & ~7ull) {
        ck_assert_uint_ge(fixture_u32(f, at + 4), 8);
        if (fixture_u32(f, at) == type && at >= from)
            return at;
        if (fixture_u32(f, at) == 0)
            ck_assert_uint_eq(at + 8, end);
    }
    return 0;
}

static const uint32_t request[] = {1, 8 + 4 * 4, 3, 4, 6, 15};

START_TEST(multiboot_2_gives_what_is_asked_for) {
    struct image i = image_elf(&kernel);
    struct fixture f;
    put_header(i.data + SEGMENT_AT, request, sizeof(request));
    with_modules(&f);
    memcpy(f.l.rsdp_bytes, "RSD PTR and so on", 17);
    ck_assert_int_eq(fixture_load(&f, i.data, i.size), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_PROTECTED);
    ck_assert_uint_eq(f.l.entry.rax, 0x36d76289u);
    ck_assert_uint_eq(f.l.entry.rip, MIB + 0x800);
    ck_assert_uint_eq(f.l.entry.rbx, BOOT_INFO);
    ck_assert_str_eq((char *)fixture_at(&f, find_tag(&f, 1, 0) + 8), "kernel one two");
    ck_assert_uint_ne(find_tag(&f, 2, 0), 0);
    uint64_t at[3], mod = 0;
    static const char *const text[3] = {"ird", "m1 a=1,b", "m2"};
    for (unsigned k = 0; k < 3; k++) {
        mod = find_tag(&f, 3, mod + 1);
        at[k] = fixture_u32(&f, mod + 8);
        ck_assert_str_eq((char *)fixture_at(&f, mod + 16), text[k]);
    }
    expect_files(&f, at);
    uint64_t map = find_tag(&f, 6, 0), memory = find_tag(&f, 4, 0);
    ck_assert_uint_eq(fixture_u32(&f, map + 8), 24);
    ck_assert_uint_eq(fixture_u32(&f, map + 4), 16 + 4 * 24);
    ck_assert_uint_eq(fixture_u64(&f, map + 16 + 3 * 24 + 8), 7 * MIB);
    ck_assert_uint_eq(fixture_u32(&f, memory + 8), 639);
    ck_assert_uint_eq(fixture_u32(&f, memory + 12), 7 * 1024);
    ck_assert_int_eq(memcmp(fixture_at(&f, find_tag(&f, 15, 0) + 8), "RSD PTR ", 8), 0);
    ck_assert_uint_ne(find_tag(&f, 14, 0), 0);
    ck_assert_uint_ne(find_tag(&f, 0, 0), 0);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

START_TEST(multiboot_2_by_addresses) {
    uint8_t file[1024];
    uint32_t tags[] = {2, 24, 0x200010, 0x200000, 0, 0x201000, 3, 12, 0x200100, 0};
    struct fixture f;
    for (size_t i = 0; i < sizeof(file); i++)
        file[i] = image_pattern(i);
    for (unsigned k = 0; k < 3; k++) {
        tags[3] = k == 1 ? UINT32_MAX : k == 2 ? 0x1f0000 : 0x200000;
        put_header(file + 0x10, tags, sizeof(tags));
        fixture_init(&f, 4 * MIB);
        ck_assert_int_eq(fixture_load(&f, file, sizeof(file)), k == 2 ? -EINVAL : 0);
        if (k < 2) {
            ck_assert_uint_eq(f.l.entry.rip, 0x200100);
            ck_assert_int_eq(memcmp(fixture_at(&f, 0x200000), file, sizeof(file)), 0);
        }
        fixture_free(&f);
    }
}
END_TEST

START_TEST(multiboot_2_headers_that_do_not_do_are_refused) {
    static const struct {
        uint32_t tag[4];
        const char *why; /* NULL: it does */
    } t[] = {
        {{1, 12, 9, 0}, "type 9"},
        {{1 | 1u << 16, 12, 9, 0}, NULL}, /* optional */
        {{1, 12, 22, 0}, "type 22"},
        {{7, 8, 0, 8}, "tag 7"}, /* EFI boot services */
        {{7 | 1u << 16, 8, 0, 8}, NULL},
        {{200, 8, 0, 8}, "tag 200"},
        {{6, 4, 0, 8}, "truncated"}, /* a tag smaller than its head */
        {{6, 4096, 0, 8}, "truncated"},
        {{2, 24, MIB, MIB}, "truncated"}, /* beyond the end tag */
    };
    for (unsigned k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
        struct image i = image_elf(&kernel);
        struct fixture f;
        put_header(i.data + SEGMENT_AT, t[k].tag, sizeof(t[k].tag));
        fixture_init(&f, 8 * MIB);
        ck_assert_int_eq(fixture_load(&f, i.data, i.size), t[k].why ? -EINVAL : 0);
        if (t[k].why)
            ck_assert_msg(strstr(f.text, t[k].why) != NULL, "%s: %s", t[k].why, f.text);
        fixture_free(&f);
        image_free(&i);
    }
}
END_TEST

START_TEST(multiboot_2_texts_have_room_or_are_refused) {
    struct image i = image_elf(&kernel);
    char *append = malloc(0x20000);
    memset(append, 'x', 0x20000);
    put_header(i.data + SEGMENT_AT, request, sizeof(request));
    for (unsigned k = 0; k < 2; k++) {
        struct fixture f;
        fixture_init(&f, 8 * MIB);
        f.l.append = append;
        append[k ? 0x1ffff : 0x10000] = 0;
        ck_assert_int_eq(fixture_load(&f, i.data, i.size), k ? -EINVAL : 0);
        append[0x10000] = 'x';
        fixture_free(&f);
    }
    free(append);
    image_free(&i);
}
END_TEST

SUITE("modules",
      .tests = {multiboot_has_the_initrd_and_then_the_modules,
                pvh_has_the_modules_and_their_arguments, other_protocols_refuse_modules,
                modules_that_do_not_fit_are_refused, multiboot_2_gives_what_is_asked_for,
                multiboot_2_by_addresses, multiboot_2_headers_that_do_not_do_are_refused,
                multiboot_2_texts_have_room_or_are_refused})
