/* SPDX-License-Identifier: MIT */
/* Kernel images made by the tests: small, valid, and easy to damage. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image {
    uint8_t *data;
    size_t size;
};
void image_free(struct image *i);

struct elf_spec {
    bool is64;
    uint64_t paddr, vaddr, entry;
    size_t filesz, memsz; /* the segment's bytes are a pattern: image_pattern */
    bool multiboot;       /* a Multiboot header at the segment's start */
    uint32_t multiboot_flags;
    bool pvh, linux_note;
    uint32_t pvh_entry;
};
struct image image_elf(const struct elf_spec *spec);
uint8_t image_pattern(size_t i);

enum packer { PACK_NONE, PACK_GZIP, PACK_XZ, PACK_LZMA, PACK_LZ4, PACK_ZSTD };
/* Pack as the kernel's build does: the unpacked size behind all but gzip. */
struct image image_pack(const struct image *in, enum packer packer);
/* A bzImage (protocol 2.15, 64-bit, relocatable, pref_address 16 MiB) around a payload.
 */
struct image image_bzimage(const struct image *payload, uint32_t init_size);
/* The same as a 32-bit kernel's build makes it: no 64-bit entry point. */
struct image image_bzimage32(const struct image *payload, uint32_t init_size);
/* A bzImage that is not Linux, as memtest86+ is: protocol 2.12, no payload, for 1 MiB, `size`
 * bytes of image_pattern behind its two setup sectors. */
struct image image_bzimage_code(size_t size, bool is64);
/* A vmlinux for it: one segment at 16 MiB, with relocation tables of 3 or 2 parts. */
struct image image_vmlinux(size_t size, unsigned tables);
/* A 32-bit one: at 16 MiB, linked at 0xc1000000, with a table of 32-bit places or none. It has
 * section headers behind its segment, which are no part of the table. */
struct image image_vmlinux32(size_t size, bool table);

/* In image_vmlinux: offsets in the segment of one place of each kind, 8 bytes apart. */
#define VMLINUX_PLACE64  0x100
#define VMLINUX_INVERSE  0x200
#define VMLINUX_PLACE32  0x300
#define VMLINUX_VALUE64  0xffffffff81001000ull
#define VMLINUX_VALUE32  0x81002000u
#define VMLINUX_VALUEINV 0x00005000u
#define VMLINUX32_VALUE  0xc1002000u
