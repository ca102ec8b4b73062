/* SPDX-License-Identifier: MIT */
/*
 * What the files of src/machine share: the memory map, the boot area, the loaders' common
 * ground and the machine itself.
 */
#pragma once

#include <string.h>

#include "base/err.h"
#include "machine/machine.h"
#include "machine/nodes.h"
#include "penumbra/x86.h"

/* ---- Memory map ---- */

#define LOW_RAM_MAX   0xc0000000ull /* RAM from 0 ends here at the latest */
#define HIGH_RAM_BASE 0x100000000ull
#define EBDA_BASE     0x9fc00u /* 640 KiB less the EBDA: where conventional RAM ends */
#define EBDA_SIZE     0x400u
#define BDA_BASE      0x400u
#define BDA_SIZE      0x100u
#define ACPI_BASE     0xf0000u /* tables: reserved in the e820 up to 1 MiB */
#define ACPI_FACS     0xf00c0u /* one of them, which says where S3 wakes up */
#define WAKE_PML4     0xf7000u /* page tables for a 64-bit waking vector: entry_identity */
#define ROM_BASE      0xff000u /* and the ROM at their end */
#define RSDP_SIZE     36u
#define LAPIC_BASE    0xfee00000u

/* The boot area: what a loader leaves for the guest's first instructions. Below the EBDA,
 * so that 0x7c00, 0x8000 and everything from 1 MiB is the guest's. */
#define BOOT_BASE        0x80000u
#define BOOT_GDT         0x80000u
#define BOOT_PML5        0x81000u
#define BOOT_PML4        0x82000u /* and five pages behind it: entry_identity */
#define BOOT_INFO        0x88000u /* boot_params, hvm_start_info or Multiboot info */
#define BOOT_MAP         0x89000u /* memory map and module list of PVH and Multiboot */
#define BOOT_CMDLINE     0x8a000u
#define BOOT_CMDLINE_MAX 0x10000u
#define BOOT_STRINGS     0x9a000u /* modules' names and arguments */
#define BOOT_STRINGS_MAX 0x4000u
#define BOOT_STACK       0x9f000u /* a first stack grows down from here */
#define BOOT_END         0xa0000u

enum { E820_RAM = 1, E820_RESERVED = 2 };
struct e820_entry {
    uint64_t addr, size;
    uint32_t type;
};
#define E820_MAX 8

/* ---- Loading ---- */

enum entry_mode { ENTRY_REAL, ENTRY_PROTECTED, ENTRY_LONG };

/* How the boot vCPU starts. */
struct entry {
    enum entry_mode mode;
    bool la57; /* ENTRY_LONG with five levels */
    uint64_t rip;
    uint64_t rax, rbx, rsi;
};

/* A file beside the kernel, for protocols that take several. */
struct load_module {
    const char *name, *args; /* args: not NULL */
    const void *data;
    size_t size;
    uint64_t gpa;
    uint32_t text; /* gpa of "name args", or of "args" alone; 0: none */
};
#define LOAD_MODULES_MAX (MACHINE_MODULES_MAX + 1)

/*
 * One load: what goes in, and the entry that comes out. Loaders see guest memory only
 * through load_put, so that they can be tested, and fuzzed, without a machine.
 */
struct load {
    uint64_t ram; /* bytes; low RAM is min(ram, LOW_RAM_MAX) */
    int (*write)(void *opaque, pn_gpa gpa, const void *data, size_t size);
    /* Low RAM to unpack into, in the host's memory; NULL: not here. Nobody is told of what is
     * written there. return_ram makes it zero again, and the host's. May be NULL. */
    uint8_t *(*borrow_ram)(void *opaque, pn_gpa gpa, size_t size);
    void (*return_ram)(void *opaque, pn_gpa gpa, size_t size);
    void *opaque;
    const char *name; /* of the kernel, for errors and Multiboot's command line */
    const char *append;
    const char *initrd_name;
    const void *initrd; /* NULL: none */
    size_t initrd_size;
    struct load_module module[MACHINE_MODULES_MAX]; /* gpa and text are out */
    unsigned modules;
    enum machine_format format;
    uint64_t flat_addr;
    unsigned flat_bits;
    uint64_t seed;
    bool cpu_la57; /* the CPU model has five-level paging */
    uint64_t rsdp; /* gpa of the RSDP, 0: none */
    uint8_t rsdp_bytes[RSDP_SIZE];
    struct err *err;
    /* The kernel file; a loader may free and NULL it as soon as it is done with it. */
    void *image;
    size_t image_size;
    /* Out: */
    struct entry entry;
    bool is_linux;  /* by its header or its note */
    uint64_t moved; /* how far from where it is linked, in virtual memory: KASLR */
};

/* Load l->image by l->format (or by what it looks like), and the initrd. Any bytes are
 * safe. Return: 0 and l->entry, or -errno with a line in l->err. */
int load_image(struct load *l);

/* Copy to guest memory. `what` names the part. Return: 0, or -EINVAL when it is not all
 * RAM (does not fit in -m) or when it would touch the boot area or the ACPI tables. */
int load_put(struct load *l, const char *what, pn_gpa gpa, const void *data, size_t size);
/* Is [gpa, gpa+size) free RAM for a guest image? Same rules, same line. */
int load_check(struct load *l, const char *what, pn_gpa gpa, uint64_t size);
/* Into the boot area; cannot fail but by our own bug. */
void load_put_boot(struct load *l, pn_gpa gpa, const void *data, size_t size);
/* The command line with its NUL, at BOOT_CMDLINE. max: without the NUL. */
int load_put_cmdline(struct load *l, const char *prefix, size_t max);
/* Return: number of entries. */
unsigned load_e820(const struct load *l, struct e820_entry map[E820_MAX]);
/* Place the initrd as high as it goes, page aligned, below `limit` and low RAM's end and
 * not over [avoid, avoid_end). Return: 0 and *gpa, or -EINVAL. */
/* Where that is, without putting it there; 0: there is none, or no room. */
uint64_t load_initrd_place(const struct load *l, uint64_t limit, uint64_t avoid,
                           uint64_t avoid_end);
int load_put_initrd(struct load *l, uint64_t limit, uint64_t avoid, uint64_t avoid_end,
                    uint64_t *gpa);
/* Place the initrd, as the first one, and the modules; each as load_put_initrd does, one
 * below the other. named: their texts begin with their names. Return: 0, *count and the
 * gpa and text of each, or -EINVAL. */
int load_put_modules(struct load *l, bool named, uint64_t avoid, uint64_t avoid_end,
                     struct load_module out[LOAD_MODULES_MAX], unsigned *count);
static inline uint64_t load_low_ram(const struct load *l) {
    return l->ram < LOW_RAM_MAX ? l->ram : LOW_RAM_MAX;
}

/* Each loader: Return as load_image. */
int load_bzimage(struct load *l);
int load_elf64(struct load *l);     /* long mode, Linux 64-bit boot protocol */
int load_elf32(struct load *l);     /* protected mode at e_entry, ESI = boot_params */
int load_pvh(struct load *l);       /* the ELF note's 32-bit entry */
int load_multiboot(struct load *l); /* Multiboot 1 */
int load_multiboot2(struct load *l);
int load_flat(struct load *l);
/* Return: where the Multiboot 2 header is (in the first 32 KiB, with 16 bytes at least),
 * or SIZE_MAX. */
size_t load_find_multiboot2(const uint8_t *image, size_t size);
/* Put an image at load_addr that says so itself: its byte `at` belongs at header_addr;
 * load_end 0: all of it; bss_end 0: no more than that. format: for the line. Return: 0
 * and its span, or -EINVAL. */
int load_by_addresses(struct load *l, const char *format, size_t at, uint32_t header_addr,
                      uint32_t load_addr, uint32_t load_end, uint32_t bss_end,
                      uint64_t *low, uint64_t *high);
/* What an image is, by its bytes; FMT_AUTO when none of those known. */
enum machine_format load_detect(const uint8_t *image, size_t size);

/* ---- Linux's zero page (load_linux.c) ---- */

#define BOOT_PARAMS_SIZE 4096
#define SETUP_HEADER     0x1f1 /* offset of the setup header, in image and zero page */

/* Complete a zero page (zeros, or a setup header already in it) and write it: e820,
 * command line (at most cmdline_max bytes), initrd at initrd_gpa, RSDP. */
int linux_put_boot_params(struct load *l, uint8_t bp[BOOT_PARAMS_SIZE],
                          uint64_t initrd_gpa, size_t cmdline_max);

/* ---- ELF (elf.c) ---- */

#define ELF_SEGMENTS_MAX 64
struct elf_segment {
    uint64_t offset, vaddr, paddr, filesz, memsz;
};
struct elf {
    const uint8_t *data;
    size_t size;
    bool is64;
    uint16_t machine;
    uint64_t entry;
    uint64_t end; /* where the file ends by its own headers: appended data starts there */
    unsigned count;
    struct elf_segment seg[ELF_SEGMENTS_MAX]; /* PT_LOAD with memsz > 0 */
    uint64_t low, high;                       /* physical span of the segments */
    bool has_pvh, guest_linux;                /* Xen notes: PHYS32_ENTRY, GUEST_OS */
    uint64_t pvh_entry;
};
/* Parse and check every offset. name: for the line. Return: 0 or -EINVAL. */
int elf_parse(const void *data, size_t size, const char *name, struct elf *out,
              struct err *e);
/* Put the segments at paddr + shift. Return as load_put. */
int elf_load(struct load *l, const struct elf *elf, uint64_t shift);
/* e_entry as a physical address: given as one, or virtual within a segment. */
uint64_t elf_entry_phys(const struct elf *elf);

/* ---- Payloads and relocations ---- */

#define UNPACKED_MAX (512ull << 20) /* of any kernel */

/*
 * A bzImage payload (gzip, xz, lzma, lz4, zstd, or an ELF as it is), whose last four bytes are
 * its unpacked size.
 */
struct payload {
    const uint8_t *in;
    size_t in_size;
    const char *name; /* of the file, for errors */
    size_t size;      /* unpacked; of unpack_look */
};
/* How large it is. Return: 0; -EINVAL: bigger than max, packed with bzip2, lzo or who knows
 * what. */
int unpack_look(struct payload *p, uint64_t max, struct err *e);
/* Unpack it to out, p->size bytes. Return: 0; -EINVAL: damaged; -ENOMEM. */
int unpack_to(const struct payload *p, uint8_t *out, struct err *e);
/* Both. *out, of p->size bytes, is the caller's to free. */
int unpack_payload(struct payload *p, uint64_t max, uint8_t **out, struct err *e);

/* Add delta to every place that the table behind the ELF names (KASLR). image is the
 * payload that elf was parsed from. Return: 0, or -EINVAL for a table that names places
 * outside the image; -ENOENT when there is none. */
int relocate_kernel(uint8_t *image, const struct elf *elf, uint64_t delta,
                    struct load *l);
bool relocs_present(const struct elf *elf);

/* ---- CPU entry (entry.c) ---- */

/* Page tables and GDT for l->entry. */
void entry_put_tables(struct load *l);
/* Tables of four levels from base on: the first 4 GiB one to one in 2 MiB pages, and the GiB of
 * target, which is below 512 GiB. Six pages, or seven where target is beyond 4 GiB. */
typedef void entry_put(void *opaque, uint64_t gpa, const uint64_t table[512]);
void entry_identity(uint64_t base, uint64_t target, entry_put *put, void *opaque);
/* Reset state in, state at the guest's first instruction out. */
void entry_state(const struct entry *entry, struct pn_cpu_state *s);

/* ---- Bytes of tables ---- */

static inline void put_le(uint8_t *p, uint64_t value, unsigned size) {
    memcpy(p, &value, size); /* little-endian host */
}
/* Let the bytes of a table add up to 0, by the one at `at`. */
static inline void put_checksum(uint8_t *table, size_t size, size_t at) {
    uint8_t sum = 0;
    table[at] = 0;
    for (size_t i = 0; i < size; i++)
        sum = (uint8_t)(sum + table[i]);
    table[at] = (uint8_t)-sum;
}

/* ---- Firmware (firmware.c) ---- */

/* Leave in memory what firmware leaves: vectors and the ROM behind them, BIOS data, ACPI, MP
 * and SMBIOS tables; l->rsdp. Before the image: that may lie over the data. Return: 0, or
 * -errno. */
struct firmware {
    unsigned cpus;
    bool hpet;
    unsigned pci_slots;                /* in use, with the bridge's; 0: no PCI */
    const struct machine_nodes *nodes; /* NULL: none */
};
int firmware_put(struct load *l, const struct firmware *f);

/* Its parts. The BIOS data area as it lies at BDA_BASE, and the extended one at EBDA_BASE. */
void bios_data_build(uint8_t bda[BDA_SIZE], uint8_t ebda[EBDA_SIZE]);

/* Every ACPI table as it lies at ACPI_BASE (at most 64 KiB). The RSDP comes first.
 * Return: bytes used, or 0 when they do not fit. */
size_t acpi_build(uint8_t *buf, size_t size, const struct firmware *f);
/* The MP tables and SMBIOS's, as they lie at `at`. Return: as acpi_build. */
size_t mp_table_build(uint8_t *buf, size_t size, pn_gpa at, const struct firmware *f);
size_t smbios_build(uint8_t *buf, size_t size, pn_gpa at, uint64_t ram,
                    const struct firmware *f);
