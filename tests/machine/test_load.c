/* SPDX-License-Identifier: MIT */
/* Every loader on images made here: where things lie, how the guest is entered, and one
 * clear line for everything that is wrong. */
#include "fixture.h"
#include "image.h"
#include "tests/suite.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define MIB (1ull << 20)

static int load(struct fixture *f, const struct image *i) {
    int rc = fixture_load(f, i->data, i->size);
    ck_assert(!f->strayed);
    if (rc) {
        ck_assert_int_gt((int)strlen(f->text), 8);
        ck_assert_ptr_null(strchr(f->text, '\n'));
    }
    return rc;
}

static void expect_pattern(struct fixture *f, pn_gpa gpa, size_t from, size_t size) {
    for (size_t i = from; i < size; i++)
        ck_assert_uint_eq(*fixture_at(f, gpa + i), image_pattern(i));
}

static const struct elf_spec elf64 = {.is64 = true,
                                      .paddr = 4 * MIB,
                                      .vaddr = 0xffff800000400000ull,
                                      .entry = 0xffff800000400010ull,
                                      .filesz = 5000,
                                      .memsz = 9000};

START_TEST(elf64_enters_long_mode_at_the_physical_entry) {
    struct image i = image_elf(&elf64);
    struct fixture f;
    fixture_init(&f, 16 * MIB);
    f.l.append = "a=b c";
    ck_assert_int_eq(load(&f, &i), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_LONG);
    ck_assert_uint_eq(f.l.entry.rip, 4 * MIB + 0x10);
    expect_pattern(&f, 4 * MIB, 0, 5000);
    ck_assert_int_eq(memcmp(fixture_at(&f, BOOT_INFO + 0x202), "HdrS", 4), 0);
    ck_assert_str_eq((char *)fixture_at(&f, fixture_u32(&f, BOOT_INFO + 0x228)), "a=b c");
    ck_assert_uint_eq(fixture_u64(&f, BOOT_INFO + 0x70), ACPI_BASE);
    /* The identity map covers 4 GiB. */
    ck_assert_uint_eq(fixture_u64(&f, BOOT_PML4), (BOOT_PML4 + 0x1000) | 3);
    ck_assert_uint_eq(fixture_u64(&f, (BOOT_PML4 + 0x1000) + 24),
                      (BOOT_PML4 + 0x5000) | 3);
    ck_assert_uint_eq(fixture_u64(&f, BOOT_PML4 + 0x5ff8), 0xffe00083u);
    ck_assert_uint_eq(fixture_u64(&f, BOOT_GDT + 0x10), 0x00af9b000000ffffull);
    ck_assert_uint_eq(fixture_u64(&f, BOOT_GDT + 0x18), 0x00cf93000000ffffull);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

START_TEST(e820_tells_all_ram_and_no_hole) {
    const uint64_t sizes[] = {2 * MIB, 512 * MIB, 3072 * MIB, 3073 * MIB, 8192 * MIB};
    for (unsigned k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
        struct load l = {.ram = sizes[k]};
        struct e820_entry map[E820_MAX];
        unsigned n = load_e820(&l, map);
        uint64_t end = 0, ram = 0;
        for (unsigned i = 0; i < n; i++) {
            ck_assert_uint_ge(map[i].addr, end);
            end = map[i].addr + map[i].size;
            ram += map[i].type == E820_RAM ? map[i].size : 0;
            ck_assert(end <= LOW_RAM_MAX || map[i].addr >= HIGH_RAM_BASE);
        }
        ck_assert_uint_eq(ram, sizes[k] - (0x100000 - EBDA_BASE));
    }
}
END_TEST

START_TEST(elf32_enters_protected_mode) {
    struct elf_spec s = {.paddr = 0x100000,
                         .vaddr = 0x100000,
                         .entry = 0x100020,
                         .filesz = 300,
                         .memsz = 300};
    struct image i = image_elf(&s);
    struct fixture f;
    fixture_init(&f, 4 * MIB);
    ck_assert_int_eq(load(&f, &i), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_PROTECTED);
    ck_assert_uint_eq(f.l.entry.rip, 0x100020);
    ck_assert_uint_eq(fixture_u64(&f, BOOT_GDT + 0x10), 0x00cf9b000000ffffull);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

START_TEST(pvh_by_note_or_by_format) {
    struct elf_spec s = elf64;
    s.pvh = true;
    s.pvh_entry = 0x400040;
    static const struct {
        bool linux_note;
        enum machine_format format;
        enum entry_mode want;
    } t[] = {{true, FMT_AUTO, ENTRY_PROTECTED},
             {false, FMT_AUTO, ENTRY_LONG},
             {false, FMT_PVH, ENTRY_PROTECTED},
             {true, FMT_ELF, ENTRY_LONG}};
    for (unsigned k = 0; k < 4; k++) {
        s.linux_note = t[k].linux_note;
        struct image i = image_elf(&s);
        struct fixture f;
        fixture_init(&f, 16 * MIB);
        f.l.format = t[k].format;
        f.l.initrd = "initrd!";
        f.l.initrd_size = 7;
        ck_assert_int_eq(load(&f, &i), 0);
        ck_assert_int_eq(f.l.entry.mode, t[k].want);
        if (t[k].want == ENTRY_PROTECTED) {
            ck_assert_uint_eq(f.l.entry.rip, 0x400040);
            ck_assert_uint_eq(f.l.entry.rbx, BOOT_INFO);
            ck_assert_uint_eq(fixture_u32(&f, BOOT_INFO), 0x336ec578u);
            ck_assert_uint_eq(fixture_u32(&f, BOOT_INFO + 12), 1);
            uint64_t mod = fixture_u64(&f, BOOT_INFO + 16);
            ck_assert_int_eq(memcmp(fixture_at(&f, fixture_u64(&f, mod)), "initrd!", 7),
                             0);
            ck_assert_uint_eq(fixture_u32(&f, BOOT_INFO + 48), 4);
        }
        fixture_free(&f);
        image_free(&i);
    }
    s.pvh = false;
    struct image i = image_elf(&s);
    struct fixture f;
    fixture_init(&f, 16 * MIB);
    f.l.format = FMT_PVH;
    ck_assert_int_eq(load(&f, &i), -EINVAL);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

START_TEST(multiboot_elf_with_module_and_map) {
    struct elf_spec s = {.paddr = MIB,
                         .vaddr = MIB,
                         .entry = MIB + 12,
                         .filesz = 4096,
                         .memsz = 8192,
                         .multiboot = true,
                         .multiboot_flags = 3};
    struct image i = image_elf(&s);
    struct fixture f;
    fixture_init(&f, 8 * MIB);
    f.l.append = "one two";
    f.l.initrd = "ENV=1\n";
    f.l.initrd_size = 6;
    ck_assert_int_eq(load(&f, &i), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_PROTECTED);
    ck_assert_uint_eq(f.l.entry.rax, 0x2badb002u);
    ck_assert_uint_eq(f.l.entry.rip, MIB + 12);
    uint64_t info = f.l.entry.rbx;
    ck_assert_uint_eq(fixture_u32(&f, info) & 0x4d, 0x4d);
    ck_assert_str_eq((char *)fixture_at(&f, fixture_u32(&f, info + 16)),
                     "kernel one two");
    ck_assert_uint_eq(fixture_u32(&f, info + 20), 1);
    uint64_t mod = fixture_u32(&f, info + 24);
    ck_assert_uint_eq(fixture_u32(&f, mod + 4) - fixture_u32(&f, mod), 6);
    ck_assert_int_eq(memcmp(fixture_at(&f, fixture_u32(&f, mod)), "ENV=1\n", 6), 0);
    ck_assert_uint_eq(fixture_u32(&f, info + 44), 4 * 24);
    ck_assert_uint_eq(fixture_u32(&f, fixture_u32(&f, info + 48)), 20);
    expect_pattern(&f, MIB, 12, 4096);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

/* As boot loaders do: an ELF64 with the header is no guest of the 64-bit convention (GNU Mach). */
START_TEST(a_multiboot_elf64_is_entered_in_protected_mode) {
    struct elf_spec s = elf64;
    s.multiboot = true;
    s.multiboot_flags = 3;
    struct image i = image_elf(&s);
    struct fixture f;
    fixture_init(&f, 16 * MIB);
    ck_assert_int_eq(load(&f, &i), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_PROTECTED);
    ck_assert_uint_eq(f.l.entry.rax, 0x2badb002u);
    ck_assert_uint_eq(f.l.entry.rip, 4 * MIB + 0x10);
    f.l.format = FMT_ELF;
    ck_assert_int_eq(load(&f, &i), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_LONG);
    fixture_free(&f);
    image_free(&i);
}
END_TEST

START_TEST(a_gzipped_kernel_is_unpacked) {
    struct elf_spec s = elf64;
    s.multiboot = true;
    s.multiboot_flags = 3;
    struct image i = image_elf(&s), gz = image_pack(&i, PACK_GZIP);
    struct fixture f;
    fixture_init(&f, 16 * MIB);
    ck_assert_int_eq(load(&f, &gz), 0);
    ck_assert_int_eq(f.l.entry.mode, ENTRY_PROTECTED);
    expect_pattern(&f, 4 * MIB, 12, 5000);
    gz.data[gz.size / 2] ^= 0x55;
    ck_assert_int_eq(load(&f, &gz), -EINVAL);
    memset(gz.data + gz.size - 4, 0xff, 4); /* its unpacked size: beyond memory */
    ck_assert_int_eq(load(&f, &gz), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "does not fit"));
    fixture_free(&f);
    image_free(&gz);
    image_free(&i);
}
END_TEST

START_TEST(firmware_data_says_what_there_is) {
    uint8_t bda[BDA_SIZE], ebda[EBDA_SIZE];
    uint16_t com1, segment, kib;
    bios_data_build(bda, ebda);
    memcpy(&com1, bda, 2);
    memcpy(&segment, bda + 0x0e, 2);
    memcpy(&kib, bda + 0x13, 2);
    ck_assert_uint_eq(com1, 0x3f8);
    ck_assert_uint_eq((uint32_t)segment << 4, 0x9fc00);
    ck_assert_uint_eq(kib, 639);
    ck_assert_uint_eq(bda[0x10] | bda[0x11] << 8, 0x0202); /* x87, one serial port */
    ck_assert_uint_eq(ebda[0], 1);                         /* KiB: up to 640 KiB */
}
END_TEST

START_TEST(multiboot_by_addresses) {
    uint32_t h[8] = {0x1badb002u, 0x10003, 0, 0x200010, 0x200000, 0, 0x201000, 0x200030};
    uint8_t file[1024];
    h[2] = -(h[0] + h[1]);
    for (size_t i = 0; i < sizeof(file); i++)
        file[i] = image_pattern(i);
    memcpy(file + 0x10, h, sizeof(h));
    struct image i = {file, sizeof(file)};
    struct fixture f;
    fixture_init(&f, 4 * MIB);
    ck_assert_int_eq(load(&f, &i), 0);
    ck_assert_uint_eq(f.l.entry.rip, 0x200030);
    expect_pattern(&f, 0x200000, 0x30, sizeof(file));
    h[4] = 0x200020; /* the header before the image */
    memcpy(file + 0x10, h, sizeof(h));
    ck_assert_int_eq(load(&f, &i), -EINVAL);
    h[4] = 0x1f0000; /* the image before the file */
    memcpy(file + 0x10, h, sizeof(h));
    ck_assert_int_eq(load(&f, &i), -EINVAL);
    fixture_free(&f);
}
END_TEST

START_TEST(flat_in_three_modes) {
    uint8_t code[64];
    for (size_t i = 0; i < sizeof(code); i++)
        code[i] = image_pattern(i);
    struct image i = {code, sizeof(code)};
    static const struct {
        unsigned bits;
        uint64_t addr;
        int rc;
    } t[] = {{16, 0x7c00, 0},         {32, 0x100000, 0},    {64, 0x200000, 0},
             {16, 0xfffff, -EINVAL},  {24, 0, -EINVAL},     {64, 16 * MIB - 8, -EINVAL},
             {64, BOOT_GDT, -EINVAL}, {32, ~0ull, -EINVAL}, {64, 0x100000000, -EINVAL}};
    for (unsigned k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
        struct fixture f;
        fixture_init(&f, 16 * MIB);
        f.l.format = FMT_FLAT;
        f.l.flat_bits = t[k].bits;
        f.l.flat_addr = t[k].addr;
        ck_assert_int_eq(load(&f, &i), t[k].rc);
        if (!t[k].rc) {
            ck_assert_uint_eq(f.l.entry.rip, t[k].addr);
            expect_pattern(&f, t[k].addr, 0, sizeof(code));
        }
        fixture_free(&f);
    }
}
END_TEST

START_TEST(bzimage_with_every_packing) {
    struct image kernel = image_vmlinux(300000, 3);
    for (enum packer p = PACK_NONE; p <= PACK_ZSTD; p++) {
        struct image payload = image_pack(&kernel, p);
        struct image bz = image_bzimage(&payload, 0x100000);
        struct fixture f;
        fixture_init(&f, 64 * MIB);
        f.l.append = "nokaslr";
        ck_assert_int_eq(load(&f, &bz), 0);
        ck_assert_uint_eq(f.l.entry.rip, 16 * MIB);
        expect_pattern(&f, 16 * MIB, 0x400, 300000);
        fixture_free(&f);
        /* Damage in the middle never passes as whole and never reaches outside. */
        for (size_t at = 0; p != PACK_NONE && at < payload.size; at += payload.size / 7) {
            struct image bad = image_bzimage(&payload, 0x100000);
            bad.data[5 * 512 + 0x2cc + at] ^= 0x55;
            fixture_init(&f, 64 * MIB);
            (void)load(&f, &bad);
            fixture_free(&f);
            image_free(&bad);
        }
        image_free(&bz);
        image_free(&payload);
    }
    image_free(&kernel);
}
END_TEST

/* Memory, and where it is entered, are those of a kernel that is unpacked in memory of its own:
 * where the header tells its size, where it does not, and where it cannot move. */
START_TEST(a_kernel_unpacked_in_guest_memory_lies_where_it_would) {
    static const uint8_t initrd[3 * PN_PAGE_SIZE] = {1, 2, 3};
    unsigned borrowed = 0;
    for (unsigned k = 0; k < 48; k++) {
        struct image kernel = image_vmlinux(6 * MIB, k % 3 ? 3 : 0);
        struct image payload = image_pack(&kernel, PACK_LZ4);
        struct image bz = image_bzimage(&payload, k & 1 ? 0x1000 : 8 * MIB);
        struct fixture f[2];
        for (unsigned lend = 0; lend < 2; lend++) {
            fixture_init(&f[lend], (k & 4 ? 30 : 48) * MIB);
            f[lend].l.seed = k;
            f[lend].l.initrd = k & 8 ? initrd : NULL;
            f[lend].l.initrd_size = k & 8 ? sizeof(initrd) : 0;
            if (lend)
                fixture_lend(&f[lend]);
            ck_assert_int_eq(load(&f[lend], &bz), 0);
        }
        ck_assert_uint_eq(f[0].l.entry.rip, f[1].l.entry.rip);
        ck_assert_uint_eq(f[0].l.moved, f[1].l.moved);
        ck_assert_int_eq(memcmp(f[0].low, f[1].low, f[0].low_size), 0);
        ck_assert_uint_eq(f[1].lent, 0);
        borrowed += f[1].borrowed;
        fixture_free(&f[0]);
        fixture_free(&f[1]);
        image_free(&bz);
        image_free(&payload);
        image_free(&kernel);
    }
    ck_assert_uint_gt(borrowed, 40);
}
END_TEST

START_TEST(kaslr_applies_every_table) {
    for (unsigned tables = 2; tables <= 3; tables++) {
        struct image kernel = image_vmlinux(4096, tables);
        struct image payload = image_pack(&kernel, PACK_LZ4);
        struct image bz = image_bzimage(&payload, 0x100000);
        struct fixture f;
        fixture_init(&f, 256 * MIB);
        f.l.seed = 5;
        ck_assert_int_eq(load(&f, &bz), 0);
        uint64_t at = f.l.entry.rip;
        uint64_t delta = fixture_u64(&f, at + VMLINUX_PLACE64) - VMLINUX_VALUE64;
        ck_assert_uint_ne(delta, 0);
        ck_assert_uint_lt(delta, 1u << 30);
        ck_assert_uint_eq(fixture_u32(&f, at + VMLINUX_PLACE32), VMLINUX_VALUE32 + delta);
        ck_assert_uint_eq(fixture_u32(&f, at + VMLINUX_INVERSE),
                          tables == 3 ? VMLINUX_VALUEINV - (uint32_t)delta
                                      : VMLINUX_VALUEINV);
        fixture_free(&f);
        image_free(&bz);
        image_free(&payload);
        image_free(&kernel);
    }
    /* No tables: it cannot move, and the kernel is told so. */
    struct image kernel = image_vmlinux(4096, 0);
    struct image bz = image_bzimage(&kernel, 0x100000);
    struct fixture f;
    fixture_init(&f, 256 * MIB);
    ck_assert_int_eq(load(&f, &bz), 0);
    ck_assert_uint_eq(f.l.entry.rip, 16 * MIB);
    ck_assert_uint_eq(*fixture_at(&f, BOOT_INFO + 0x211) & 2, 0);
    fixture_free(&f);
    image_free(&bz);
    image_free(&kernel);
}
END_TEST

/* Documentation/arch/x86/boot.rst, "32-bit Boot Protocol"; misc.c of a 32-bit Linux that moves adds
 * one distance to its physical and its virtual addresses. */
START_TEST(a_32_bit_kernel_is_entered_in_protected_mode) {
    uint64_t moved = 0;
    for (unsigned k = 0; k < 12; k++) {
        struct image kernel = image_vmlinux32(4096, k != 0);
        struct image payload = image_pack(&kernel, PACK_XZ);
        struct image bz = image_bzimage32(&payload, 0x100000);
        struct fixture f;
        fixture_init(&f, 1024 * MIB);
        f.l.seed = k;
        f.l.append = k == 1 ? "nokaslr" : "";
        f.l.initrd = "initrd!";
        f.l.initrd_size = 7;
        ck_assert_int_eq(load(&f, &bz), 0);
        uint64_t at = f.l.entry.rip;
        ck_assert_int_eq(f.l.entry.mode, ENTRY_PROTECTED);
        ck_assert_uint_eq(f.l.entry.rsi, BOOT_INFO);
        ck_assert_uint_eq(f.l.entry.rbx, 0);
        ck_assert_uint_eq(fixture_u32(&f, at + VMLINUX_PLACE32),
                          VMLINUX32_VALUE + (at - 16 * MIB));
        expect_pattern(&f, at, VMLINUX_PLACE32 + 4, 4096);
        ck_assert(k >= 2 || at == 16 * MIB);
        ck_assert_uint_eq(*fixture_at(&f, BOOT_INFO + 0x211) & 2, k >= 2 ? 2 : 0);
        ck_assert_uint_le(at + 0x100000, 512 * MIB); /* its KERNEL_IMAGE_SIZE */
        ck_assert_uint_le(fixture_u32(&f, BOOT_INFO + 0x218) + 7, 0x38000000);
        moved += at != 16 * MIB;
        fixture_free(&f);
        image_free(&bz);
        image_free(&payload);
        image_free(&kernel);
    }
    ck_assert_uint_gt(moved, 5);
}
END_TEST

START_TEST(a_bzimage_without_payload_is_entered_where_its_header_says) {
    for (unsigned is64 = 0; is64 < 2; is64++) {
        struct image bz = image_bzimage_code(20000, is64);
        struct fixture f;
        fixture_init(&f, 16 * MIB);
        ck_assert_int_eq(load(&f, &bz), 0);
        ck_assert_int_eq(f.l.entry.mode, is64 ? ENTRY_LONG : ENTRY_PROTECTED);
        ck_assert_uint_eq(f.l.entry.rip, is64 ? 0x100200 : 0x100000);
        ck_assert_uint_eq(f.l.entry.rsi, BOOT_INFO);
        ck_assert_uint_eq(fixture_u32(&f, BOOT_INFO + 0x214), 0x100000);
        ck_assert_uint_eq(*fixture_at(&f, BOOT_INFO + 0x211) & 2, 0);
        ck_assert(!f.l.is_linux);
        expect_pattern(&f, MIB, 0, 20000);
        fixture_free(&f);
        /* It needs its init_size, and setup sectors alone are no program. */
        fixture_init(&f, MIB + 0x6a000);
        ck_assert_int_eq(load(&f, &bz), -EINVAL);
        ck_assert_ptr_nonnull(strstr(f.text, "does not fit"));
        bz.size = 3 * 512;
        ck_assert_int_eq(load(&f, &bz), -EINVAL);
        ck_assert_ptr_nonnull(strstr(f.text, "truncated"));
        fixture_free(&f);
        image_free(&bz);
    }
}
END_TEST

/* One byte or field of a good bzImage made wrong: what the line must say. */
START_TEST(bzimage_refusals_say_why) {
    static const struct {
        unsigned offset, size;
        uint32_t value;
        const char *want;
    } t[] = {{0x236, 2, 0, "odd addresses"}, /* says 32 bits, holds 64 */
             {0x211, 1, 0, "zImage"},
             {0x206, 2, 0x209, "too old"},
             {0x24c, 4, 0xffffffff, "truncated"},
             {0x248, 4, 0xfffffff0, "truncated"},
             {0x258, 4, 0x1000001, "address"},
             {0x230, 4, 0, "address"},
             {0x260, 4, 0xfffff000, "does not fit"},
             {5 * 512 + 0x2cc, 3, 0x685a42, "bzip2"},
             {5 * 512 + 0x2cc, 4, 0x4f5a4c89, "lzo"},
             {5 * 512 + 0x2cc, 4, 0x12345678, "magic"}};
    struct image kernel = image_vmlinux(8192, 3);
    struct image payload = image_pack(&kernel, PACK_ZSTD);
    for (unsigned k = 0; k < sizeof(t) / sizeof(t[0]); k++) {
        struct image bz = image_bzimage(&payload, 0x100000);
        memcpy(bz.data + t[k].offset, &t[k].value, t[k].size);
        struct fixture f;
        fixture_init(&f, 64 * MIB);
        ck_assert_int_lt(load(&f, &bz), 0);
        ck_assert_msg(strstr(f.text, t[k].want) != NULL, "%s: %s", t[k].want, f.text);
        fixture_free(&f);
        image_free(&bz);
    }
    image_free(&payload);
    image_free(&kernel);
}
END_TEST

START_TEST(other_refusals_say_why) {
    struct fixture f;
    fixture_init(&f, 16 * MIB);
    struct image text = {(uint8_t *)"#!/bin/sh\necho this is not a kernel\n", 36};
    ck_assert_int_eq(load(&f, &text), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "not a kernel image"));
    struct image empty = {(uint8_t *)"", 0};
    ck_assert_int_eq(load(&f, &empty), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "empty"));

    struct image elf = image_elf(&elf64);
    elf.size -= 1;
    ck_assert_int_eq(load(&f, &elf), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "truncated"));
    elf.size += 1;
    f.l.initrd = elf.data;
    f.l.initrd_size = 12 * MIB; /* never read: it does not fit */
    ck_assert_int_eq(load(&f, &elf), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "initrd"));
    f.l.initrd = NULL;
    char *line = malloc(3000);
    memset(line, 'x', 2999);
    line[2999] = 0;
    f.l.append = line;
    ck_assert_int_eq(load(&f, &elf), -EINVAL);
    ck_assert_ptr_nonnull(strstr(f.text, "--append"));
    free(line);
    image_free(&elf);

    static const struct {
        uint64_t paddr, memsz;
    } outside[] = {{16 * MIB - 4096, 8192}, {0xc0000000, 4096}, {~0ull - 8191, 8192},
                   {0x9f000, 4096},         {0xf8000, 0x10000}, {0x100000000, 4096}};
    f.l.append = "";
    for (unsigned k = 0; k < sizeof(outside) / sizeof(outside[0]); k++) {
        struct elf_spec s = elf64;
        s.paddr = outside[k].paddr;
        s.filesz = 16;
        s.memsz = outside[k].memsz;
        struct image i = image_elf(&s);
        ck_assert_int_eq(load(&f, &i), -EINVAL);
        image_free(&i);
    }
    fixture_free(&f);
}
END_TEST

START_TEST(entry_states_are_what_a_cpu_can_be_in) {
    struct pn_cpu_state *s = calloc(1, sizeof(*s));
    struct entry e = {
        .mode = ENTRY_LONG, .rip = 0x1000000, .rsi = BOOT_INFO, .la57 = true};
    entry_state(&e, s);
    ck_assert_uint_eq(s->cr3, BOOT_PML5);
    ck_assert_uint_eq(s->cr4, 0x1020);
    ck_assert_uint_eq(s->efer, 0x500);
    ck_assert_uint_eq(s->seg[PN_CS].attr & 0x6080, 0x2080); /* L, not D */
    ck_assert_uint_eq(s->rflags, 2);
    e = (struct entry){.mode = ENTRY_REAL, .rip = 0x7c00};
    memset(s, 0, sizeof(*s));
    memset(s->xsave, 0x55, FX_MXCSR); /* a reset leaves no register empty */
    entry_state(&e, s);
    ck_assert_mem_eq(s->xsave, ((uint8_t[]){0x7f, 3, 0, 0, 0, 0}), 6);
    ck_assert_uint_eq(s->seg[PN_CS].base + s->rip, 0x7c00);
    ck_assert_uint_eq(s->cr0 & 1, 0);
    free(s);
}
END_TEST

SUITE("load", .timeout = 60,
      .tests = {elf64_enters_long_mode_at_the_physical_entry,
                e820_tells_all_ram_and_no_hole, elf32_enters_protected_mode,
                pvh_by_note_or_by_format, multiboot_elf_with_module_and_map,
                a_multiboot_elf64_is_entered_in_protected_mode,
                a_gzipped_kernel_is_unpacked, firmware_data_says_what_there_is,
                multiboot_by_addresses, flat_in_three_modes,
                a_kernel_unpacked_in_guest_memory_lies_where_it_would,
                bzimage_with_every_packing, kaslr_applies_every_table,
                a_32_bit_kernel_is_entered_in_protected_mode,
                a_bzimage_without_payload_is_entered_where_its_header_says,
                bzimage_refusals_say_why, other_refusals_say_why,
                entry_states_are_what_a_cpu_can_be_in})
