/* SPDX-License-Identifier: MIT */
/* Kernel images made by the tests: see image.h. */
#include "image.h"

#include <elf.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define SEGMENT_AT 0x1000u
#define NOTES_AT   0x200u

static void put(uint8_t *p, uint64_t v, unsigned size) {
    memcpy(p, &v, size);
}

static struct image make(size_t size) {
    struct image i = {calloc(1, size ? size : 1), size};
    if (!i.data)
        abort();
    return i;
}

void image_free(struct image *i) {
    free(i->data);
    i->data = NULL;
}

uint8_t image_pattern(size_t i) {
    return (uint8_t)(i * 7 + (i >> 8) + 1);
}

static size_t put_note(uint8_t *p, uint32_t type, const void *desc, uint32_t size) {
    put(p, 4, 4);
    put(p + 4, size, 4);
    put(p + 8, type, 4);
    memcpy(p + 12, "Xen", 4);
    memcpy(p + 16, desc, size);
    return 16 + ((size + 3) & ~3u);
}

static size_t put_notes(uint8_t *p, const struct elf_spec *s) {
    size_t n = 0;
    if (s->linux_note)
        n += put_note(p + n, 6, "linux", 6);
    if (s->pvh)
        n += put_note(p + n, 18, &s->pvh_entry, 4);
    return n;
}

static void put_headers64(uint8_t *d, const struct elf_spec *s, size_t notes) {
    Elf64_Ehdr h = {.e_machine = EM_X86_64,
                    .e_type = ET_EXEC,
                    .e_entry = s->entry,
                    .e_phoff = sizeof(h),
                    .e_ehsize = sizeof(h),
                    .e_phentsize = sizeof(Elf64_Phdr),
                    .e_phnum = 2};
    memcpy(h.e_ident, "\177ELF\2\1\1", 7);
    Elf64_Phdr p[2] = {{.p_type = PT_LOAD,
                        .p_offset = SEGMENT_AT,
                        .p_paddr = s->paddr,
                        .p_vaddr = s->vaddr,
                        .p_filesz = s->filesz,
                        .p_memsz = s->memsz},
                       {.p_type = PT_NOTE, .p_offset = NOTES_AT, .p_filesz = notes}};
    memcpy(d, &h, sizeof(h));
    memcpy(d + sizeof(h), p, sizeof(p));
}

static void put_headers32(uint8_t *d, const struct elf_spec *s, size_t notes) {
    Elf32_Ehdr h = {.e_machine = EM_386,
                    .e_type = ET_EXEC,
                    .e_entry = (uint32_t)s->entry,
                    .e_phoff = sizeof(h),
                    .e_ehsize = sizeof(h),
                    .e_phentsize = sizeof(Elf32_Phdr),
                    .e_phnum = 2};
    memcpy(h.e_ident, "\177ELF\1\1\1", 7);
    Elf32_Phdr p[2] = {
        {.p_type = PT_LOAD,
         .p_offset = SEGMENT_AT,
         .p_paddr = (uint32_t)s->paddr,
         .p_vaddr = (uint32_t)s->vaddr,
         .p_filesz = (uint32_t)s->filesz,
         .p_memsz = (uint32_t)s->memsz},
        {.p_type = PT_NOTE, .p_offset = NOTES_AT, .p_filesz = (uint32_t)notes}};
    memcpy(d, &h, sizeof(h));
    memcpy(d + sizeof(h), p, sizeof(p));
}

struct image image_elf(const struct elf_spec *s) {
    struct image i = make(SEGMENT_AT + s->filesz);
    size_t notes = put_notes(i.data + NOTES_AT, s);
    if (s->is64)
        put_headers64(i.data, s, notes);
    else
        put_headers32(i.data, s, notes);
    for (size_t k = 0; k < s->filesz; k++)
        i.data[SEGMENT_AT + k] = image_pattern(k);
    if (s->multiboot) {
        put(i.data + SEGMENT_AT, 0x1badb002u, 4);
        put(i.data + SEGMENT_AT + 4, s->multiboot_flags, 4);
        put(i.data + SEGMENT_AT + 8, -(0x1badb002u + s->multiboot_flags), 4);
    }
    return i;
}

/* ---- Packing ---- */

static size_t pack_gzip(const struct image *in, uint8_t *out, size_t room) {
    z_stream z = {.next_in = in->data,
                  .avail_in = (uInt)in->size,
                  .next_out = out,
                  .avail_out = (uInt)room};
    deflateInit2(&z, 6, Z_DEFLATED, 16 + MAX_WBITS, 8, Z_DEFAULT_STRATEGY);
    deflate(&z, Z_FINISH);
    deflateEnd(&z);
    return z.total_out;
}

static size_t pack_lzma(const struct image *in, uint8_t *out, size_t room, bool xz) {
    lzma_stream z = LZMA_STREAM_INIT;
    lzma_options_lzma opt;
    lzma_lzma_preset(&opt, 6);
    if (xz) {
        lzma_filter filters[] = {
            {LZMA_FILTER_X86, NULL}, {LZMA_FILTER_LZMA2, &opt}, {LZMA_VLI_UNKNOWN, NULL}};
        if (lzma_stream_encoder(&z, filters, LZMA_CHECK_CRC32) != LZMA_OK)
            abort();
    } else if (lzma_alone_encoder(&z, &opt) != LZMA_OK) {
        abort();
    }
    z.next_in = in->data;
    z.avail_in = in->size;
    z.next_out = out;
    z.avail_out = room;
    while (lzma_code(&z, LZMA_FINISH) == LZMA_OK)
        ;
    size_t n = z.total_out;
    lzma_end(&z);
    return n;
}

static size_t pack_lz4(const struct image *in, uint8_t *out, size_t room) {
    const size_t chunk = 8u << 20;
    size_t n = 4;
    put(out, 0x184c2102u, 4);
    for (size_t at = 0; at < in->size; at += chunk) {
        size_t take = in->size - at < chunk ? in->size - at : chunk;
        int m = LZ4_compress_default((const char *)in->data + at, (char *)out + n + 4,
                                     (int)take, (int)(room - n - 4));
        put(out + n, (uint64_t)m, 4);
        n += 4 + (size_t)m;
    }
    return n;
}

struct image image_pack(const struct image *in, enum packer packer) {
    size_t room = in->size * 2 + 65536, n = 0;
    struct image out = make(room + 4);
    switch (packer) {
    case PACK_NONE:
        memcpy(out.data, in->data, n = in->size);
        break;
    case PACK_GZIP:
        n = pack_gzip(in, out.data, room);
        break;
    case PACK_XZ:
    case PACK_LZMA:
        n = pack_lzma(in, out.data, room, packer == PACK_XZ);
        break;
    case PACK_LZ4:
        n = pack_lz4(in, out.data, room);
        break;
    case PACK_ZSTD:
        n = ZSTD_compress(out.data, room, in->data, in->size, 3);
        break;
    }
    if (packer != PACK_NONE && packer != PACK_GZIP) {
        put(out.data + n, in->size, 4);
        n += 4;
    }
    out.size = n;
    return out;
}

/* ---- bzImage ---- */

struct image image_bzimage(const struct image *payload, uint32_t init_size) {
    const unsigned sects = 4, offset = 0x2cc;
    size_t setup = (sects + 1) * 512;
    struct image i = make(setup + offset + payload->size + 64);
    uint8_t *d = i.data;
    d[0x1f1] = sects;
    put(d + 0x1fe, 0xaa55, 2);
    d[0x200] = 0xeb;
    d[0x201] = 0x6a;
    memcpy(d + 0x202, "HdrS", 4);
    put(d + 0x206, 0x20f, 2);
    d[0x211] = 1;
    put(d + 0x22c, 0x7fffffff, 4);
    put(d + 0x230, 0x200000, 4);
    d[0x234] = 1;
    put(d + 0x236, 0x7f, 2);
    put(d + 0x238, 2047, 4);
    put(d + 0x248, offset, 4);
    put(d + 0x24c, payload->size, 4);
    put(d + 0x258, 0x1000000, 8);
    put(d + 0x260, init_size, 4);
    memcpy(d + setup + offset, payload->data, payload->size);
    return i;
}

struct image image_bzimage32(const struct image *payload, uint32_t init_size) {
    struct image i = image_bzimage(payload, init_size);
    put(i.data + 0x236, 0, 2);
    put(i.data + 0x22c, 0x37ffffff, 4);
    return i;
}

struct image image_bzimage_code(size_t size, bool is64) {
    const size_t setup = 3 * 512;
    struct image i = make(setup + size);
    uint8_t *d = i.data;
    d[0x1f1] = 2;
    put(d + 0x1fe, 0xaa55, 2);
    d[0x200] = 0xeb;
    d[0x201] = 0x66;
    memcpy(d + 0x202, "HdrS", 4);
    put(d + 0x206, 0x20c, 2);
    d[0x211] = 1;
    put(d + 0x214, 0x100000, 4);
    put(d + 0x22c, 0xffffffff, 4);
    put(d + 0x230, 0x1000, 4);
    put(d + 0x236, is64 ? 9 : 4, 2);
    put(d + 0x238, 255, 4);
    put(d + 0x258, 0x100000, 8);
    put(d + 0x260, 0x6acf8, 4);
    for (size_t k = 0; k < size; k++)
        d[setup + k] = image_pattern(k);
    return i;
}

struct image image_vmlinux32(size_t size, bool table) {
    const struct elf_spec spec = {.paddr = 0x1000000,
                                  .vaddr = 0xc1000000,
                                  .entry = 0x1000000,
                                  .filesz = size,
                                  .memsz = size + 0x10000};
    struct image elf = image_elf(&spec);
    const uint32_t words[] = {0, 0xc1000000u + VMLINUX_PLACE32};
    struct image all = make(elf.size + sizeof(Elf32_Shdr) + sizeof(words));
    Elf32_Shdr section = {
        .sh_type = SHT_PROGBITS, .sh_offset = SEGMENT_AT, .sh_size = (uint32_t)size};
    put(elf.data + offsetof(Elf32_Ehdr, e_shoff), elf.size, 4);
    put(elf.data + offsetof(Elf32_Ehdr, e_shentsize), sizeof(section), 2);
    put(elf.data + offsetof(Elf32_Ehdr, e_shnum), 1, 2);
    put(elf.data + SEGMENT_AT + VMLINUX_PLACE32, VMLINUX32_VALUE, 4);
    memcpy(all.data, elf.data, elf.size);
    memcpy(all.data + elf.size, &section, sizeof(section));
    memcpy(all.data + elf.size + sizeof(section), words, sizeof(words));
    if (!table)
        all.size -= sizeof(words);
    image_free(&elf);
    return all;
}

struct image image_vmlinux(size_t size, unsigned tables) {
    const struct elf_spec spec = {.is64 = true,
                                  .paddr = 0x1000000,
                                  .vaddr = 0xffffffff81000000ull,
                                  .entry = 0x1000000,
                                  .filesz = size,
                                  .memsz = size + 0x10000};
    struct image elf = image_elf(&spec);
    const uint32_t base = 0x81000000u;
    uint32_t words[8];
    size_t n = 0;
    words[n++] = 0;
    words[n++] = base + VMLINUX_PLACE64;
    words[n++] = 0;
    if (tables == 3) {
        words[n++] = base + VMLINUX_INVERSE;
        words[n++] = 0;
    }
    words[n++] = base + VMLINUX_PLACE32;
    put(elf.data + SEGMENT_AT + VMLINUX_PLACE64, VMLINUX_VALUE64, 8);
    put(elf.data + SEGMENT_AT + VMLINUX_INVERSE, VMLINUX_VALUEINV, 4);
    put(elf.data + SEGMENT_AT + VMLINUX_PLACE32, VMLINUX_VALUE32, 4);
    if (!tables)
        return elf;
    struct image all = make(elf.size + n * 4);
    memcpy(all.data, elf.data, elf.size);
    memcpy(all.data + elf.size, words, n * 4);
    image_free(&elf);
    return all;
}
