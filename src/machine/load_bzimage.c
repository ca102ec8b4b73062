/* SPDX-License-Identifier: MIT */
/*
 * bzImage, entered by the 64-bit boot protocol, or by the 32-bit one where the header offers
 * no other (Documentation/arch/x86/boot.rst).
 *
 * Linux packs its vmlinux. It is unpacked on the host, placed and entered. What the kernel's own
 * decompressor would do is done here: choosing the KASLR slots, relocation, five-level
 * paging. An image without a packed kernel is not Linux (memtest86+): it is put as it is at
 * its preferred address, and entered at the entry that its header offers.
 *
 * Invariant: the same image, memory size, command line and seed give the same placement.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/pages.h"
#include "base/size.h"
#include "machine/internal.h"

/* The setup header, by its offset in the file. */
enum {
    H_SETUP_SECTS = 0x1f1,
    H_JUMP = 0x201,
    H_VERSION = 0x206,
    H_LOADFLAGS = 0x211,
    H_CODE32_START = 0x214,
    H_INITRD_MAX = 0x22c,
    H_ALIGNMENT = 0x230,
    H_RELOCATABLE = 0x234,
    H_XLOADFLAGS = 0x236,
    H_CMDLINE_SIZE = 0x238,
    H_PAYLOAD_OFFSET = 0x248,
    H_PAYLOAD_LENGTH = 0x24c,
    H_PREF_ADDRESS = 0x258,
    H_INIT_SIZE = 0x260,
    H_END = 0x264, /* of what is read here */
};
#define LOADFLAGS_HIGH     1u
#define LOADFLAGS_KASLR    2u
#define XLF_KERNEL_64      1u
#define XLF_5LEVEL_ENABLED 0x40u
#define ENTRY_64           0x200u /* the 64-bit entry, from the start of the loaded part */
/* How far a kernel can be moved: Linux's constant of that name, for both sizes of words
 * (arch/x86/include/asm/page_64_types.h, arch/x86/include/asm/page_32_types.h). */
#define KERNEL_IMAGE_SIZE   (1ull << 30)
#define KERNEL_IMAGE_SIZE32 (512ull << 20)

struct bzimage {
    uint16_t version, xloadflags;
    bool relocatable;
    bool is64; /* it has a 64-bit entry point */
    uint32_t initrd_max, cmdline_size, init_size;
    uint64_t align, pref;
    const uint8_t *code; /* behind the setup sectors: what is loaded */
    size_t code_size;
    const uint8_t *payload; /* a part of it, of 0 bytes when nothing is packed */
    size_t payload_size;
};

static uint64_t field(const uint8_t *image, unsigned offset, unsigned size) {
    uint64_t v = 0;
    memcpy(&v, image + offset, size);
    return v;
}

/* The fields that say where it may lie. */
static int check_addresses(struct load *l, struct bzimage *b) {
    const uint8_t *p = l->image;
    b->align = field(p, H_ALIGNMENT, 4);
    b->pref = field(p, H_PREF_ADDRESS, 8);
    b->init_size = (uint32_t)field(p, H_INIT_SIZE, 4);
    if (b->align < PN_PAGE_SIZE || b->align & (b->align - 1) ||
        b->pref & (b->align - 1) || b->pref < 0x100000 || b->pref >= LOW_RAM_MAX)
        return err_set(l->err, -EINVAL, "%s: damaged: impossible load address", l->name);
    return 0;
}

static int find_code(struct load *l, struct bzimage *b) {
    const uint8_t *p = l->image;
    uint64_t sects = p[H_SETUP_SECTS] ? p[H_SETUP_SECTS] : 4;
    uint64_t code = (sects + 1) * 512, start = code + field(p, H_PAYLOAD_OFFSET, 4);
    uint64_t length = field(p, H_PAYLOAD_LENGTH, 4);
    if (start >= l->image_size || length > l->image_size - start)
        return err_set(l->err, -EINVAL,
                       "%s: truncated: %zu bytes, its header says %" PRIu64, l->name,
                       l->image_size, start + (length ? length : 1));
    b->code = p + code;
    b->code_size = l->image_size - code;
    b->payload = p + start;
    b->payload_size = length;
    return 0;
}

static int check_header(struct load *l, struct bzimage *b) {
    const uint8_t *p = l->image;
    if (l->image_size < H_END)
        return err_set(l->err, -EINVAL, "%s: truncated: no whole setup header", l->name);
    if (p[0x1fe] != 0x55 || p[0x1ff] != 0xaa || memcmp(p + 0x202, "HdrS", 4) != 0)
        return err_set(l->err, -EINVAL, "%s: not a bzImage", l->name);
    b->version = (uint16_t)field(p, H_VERSION, 2);
    if (b->version < 0x20a)
        return err_set(l->err, -EINVAL,
                       "%s: boot protocol %u.%02u: too old (2.10 says where it may lie)",
                       l->name, b->version >> 8, b->version & 0xffu);
    if (!(p[H_LOADFLAGS] & LOADFLAGS_HIGH))
        return err_set(l->err, -EINVAL, "%s: a zImage, which lies below 1 MiB", l->name);
    b->xloadflags = b->version < 0x20c ? 0 : (uint16_t)field(p, H_XLOADFLAGS, 2);
    b->is64 = b->xloadflags & XLF_KERNEL_64;
    b->initrd_max = (uint32_t)field(p, H_INITRD_MAX, 4);
    b->relocatable = p[H_RELOCATABLE] != 0;
    b->cmdline_size = (uint32_t)field(p, H_CMDLINE_SIZE, 4);
    int rc = check_addresses(l, b);
    return rc ? rc : find_code(l, b);
}

/* A word of the command line, as the kernel's cmdline_find_option_bool. */
static bool has_word(const char *line, const char *word) {
    size_t n = strlen(word);
    for (const char *p = line; p && (p = strstr(p, word)); p += n)
        if ((p == line || p[-1] == ' ') && (p[n] == '\0' || p[n] == ' '))
            return true;
    return false;
}

static uint64_t mix(uint64_t x) {
    x += 0x9e3779b97f4a7c15ull;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ull;
    x = (x ^ x >> 27) * 0x94d049bb133111ebull;
    return x ^ x >> 31;
}

/* One of the aligned places from `low` such that size ends by `high`; low if none. */
static uint64_t pick_slot(uint64_t low, uint64_t high, uint64_t size, uint64_t align,
                          uint64_t random) {
    if (high < low || high - low < size)
        return low;
    return low + random % ((high - low - size) / align + 1) * align;
}

struct placement {
    uint64_t phys, delta; /* where it lies; how far it moves in virtual memory */
    uint64_t size;        /* from phys: what the kernel needs before it reads the e820 */
    bool kaslr;
};

/* The kernel's span by its own header and by its segments, whichever is larger. */
static int kernel_span(struct load *l, const struct bzimage *b, const struct elf *elf,
                       uint64_t *size) {
    char text[2][SIZE_TEXT_MAX];
    if (elf->is64 != b->is64 || elf->low < b->pref ||
        elf->high - b->pref > KERNEL_IMAGE_SIZE)
        return err_set(l->err, -EINVAL, "%s: damaged: the kernel in it has odd addresses",
                       l->name);
    *size = elf->high - b->pref;
    if (b->init_size > *size)
        *size = b->init_size;
    if (b->pref + *size > load_low_ram(l))
        return err_set(l->err, -EINVAL,
                       "%s: the kernel does not fit in -m %s: it needs %s", l->name,
                       size_text(l->ram, text[0]),
                       size_text((b->pref + *size + 0xfffff) & ~0xfffffull, text[1]));
    return 0;
}

/* A 32-bit kernel moves as far in virtual memory as in physical memory. */
static void pick_slots(const struct load *l, const struct bzimage *b, uint64_t top,
                       struct placement *at) {
    uint64_t limit = b->is64 ? KERNEL_IMAGE_SIZE : KERNEL_IMAGE_SIZE32;
    if (!b->is64 && top > limit)
        top = limit;
    at->phys = pick_slot(b->pref, top, at->size, b->align, mix(l->seed));
    at->delta = at->phys - b->pref;
    if (b->is64)
        at->delta =
            pick_slot(b->pref, limit, at->size, b->align, mix(l->seed ^ 1)) - b->pref;
}

/* at->size is known. initrd: where it is, or 0. */
static void choose_place(const struct load *l, const struct bzimage *b, bool relocs,
                         uint64_t initrd, struct placement *at) {
    at->phys = b->pref;
    at->delta = 0;
    at->kaslr = !has_word(l->append, "nokaslr") && b->relocatable && relocs;
    if (!at->kaslr)
        return;
    uint64_t top = load_low_ram(l);
    if (initrd >= b->pref + at->size)
        top = initrd;
    pick_slots(l, b, top, at);
}

/* The initrd goes first, as high as it may; the kernel's slots lie below it. */
static int place_kernel(struct load *l, const struct bzimage *b, const struct elf *elf,
                        struct placement *at, uint64_t *initrd) {
    int rc = kernel_span(l, b, elf, &at->size);
    if (rc == 0)
        rc = load_put_initrd(l, (uint64_t)b->initrd_max + 1, b->pref, b->pref + at->size,
                             initrd);
    if (rc == 0)
        choose_place(l, b, relocs_present(elf), *initrd, at);
    return rc;
}

static int put_zero_page(struct load *l, const struct bzimage *b,
                         const uint8_t header[BOOT_PARAMS_SIZE], bool kaslr,
                         uint64_t initrd) {
    uint8_t bp[BOOT_PARAMS_SIZE];
    memcpy(bp, header, sizeof(bp));
    bp[H_LOADFLAGS] &= (uint8_t)~LOADFLAGS_KASLR;
    if (kaslr)
        bp[H_LOADFLAGS] |= LOADFLAGS_KASLR;
    return linux_put_boot_params(l, bp, initrd, b->cmdline_size);
}

/* The setup header ends where the jump at its start leads to. */
static void copy_header(const struct load *l, uint8_t bp[BOOT_PARAMS_SIZE]) {
    const uint8_t *p = l->image;
    size_t end = 0x202u + p[H_JUMP];
    if (end > 0x290) /* the room that struct boot_params has for it */
        end = 0x290;
    if (end > l->image_size)
        end = l->image_size;
    memset(bp, 0, BOOT_PARAMS_SIZE);
    memcpy(bp + SETUP_HEADER, p + SETUP_HEADER, end - SETUP_HEADER);
}

static void enter(struct load *l, const struct bzimage *b, uint64_t rip) {
    l->entry = (struct entry){.mode = b->is64 ? ENTRY_LONG : ENTRY_PROTECTED,
                              .rip = rip,
                              .rsi = BOOT_INFO,
                              .la57 = l->cpu_la57 && b->xloadflags & XLF_5LEVEL_ENABLED &&
                                      !has_word(l->append, "no5lvl")};
    entry_put_tables(l);
}

/* ---- Where it is unpacked ---- */

/* A kernel file and what it unpacks to are far larger than all else that we hold. So it is
 * unpacked in guest memory, where neither the kernel nor the initrd is to lie. */
struct unpacked {
    struct payload packed;
    uint8_t *data;
    pn_gpa gpa; /* where it is in guest memory; 0: in memory of its own */
};
#define ROOM_ALIGN ((uint64_t)2 << 20) /* huge pages */

struct layout {
    uint64_t kernel, kernel_end, initrd, initrd_end;
};

/* What lies where, for a kernel of that size. */
static struct layout layout(const struct load *l, const struct bzimage *b, uint64_t size,
                            bool relocs) {
    struct placement at = {.size = size};
    uint64_t initrd =
        load_initrd_place(l, (uint64_t)b->initrd_max + 1, b->pref, b->pref + size);
    choose_place(l, b, relocs, initrd, &at);
    return (struct layout){at.phys, at.phys + size, initrd,
                           initrd ? initrd + l->initrd_size : 0};
}

static bool is_free(const struct load *l, const struct layout *y, uint64_t from,
                    uint64_t size) {
    return from >= 0x100000 && size <= load_low_ram(l) &&
           from <= load_low_ram(l) - size &&
           (from >= y->kernel_end || from + size <= y->kernel) &&
           (from >= y->initrd_end || from + size <= y->initrd || !y->initrd);
}

/* Room below the kernel or above it. The kernel's size is taken from its header here. */
static void borrow(struct load *l, const struct bzimage *b, struct unpacked *u) {
    size_t size = u->packed.size;
    if (!l->borrow_ram || !size || size > load_low_ram(l))
        return;
    struct layout y = layout(l, b, b->init_size, true);
    uint64_t at = y.kernel > size ? (y.kernel - size) & ~(ROOM_ALIGN - 1) : 0;
    if (!is_free(l, &y, at, size))
        at = (y.kernel_end + ROOM_ALIGN - 1) & ~(ROOM_ALIGN - 1);
    if (is_free(l, &y, at, size))
        u->data = l->borrow_ram(l->opaque, at, size);
    u->gpa = u->data ? at : 0;
}

static void let_go(struct load *l, struct unpacked *u) {
    if (u->gpa)
        l->return_ram(l->opaque, u->gpa, u->packed.size);
    else
        free(u->data);
    u->data = NULL;
    u->gpa = 0;
}

static int take_room(struct load *l, const struct bzimage *b, struct unpacked *u) {
    borrow(l, b, u);
    if (!u->data)
        u->data = pages_alloc(u->packed.size);
    return u->data ? 0
                   : err_set(l->err, -ENOMEM, "%s: out of memory to unpack it", l->name);
}

/* The kernel is larger than its header says, or has no relocations: it comes to lie elsewhere.
 * Where that is over what is unpacked, move that to memory of its own. */
static int keep_apart(struct load *l, const struct bzimage *b, struct elf *elf,
                      struct unpacked *u) {
    uint64_t size;
    int rc = kernel_span(l, b, elf, &size);
    if (rc)
        return rc;
    struct layout y = layout(l, b, size, relocs_present(elf));
    if (!u->gpa || is_free(l, &y, u->gpa, u->packed.size))
        return 0;
    uint8_t *own = pages_alloc(u->packed.size);
    if (!own)
        return err_set(l->err, -ENOMEM, "%s: out of memory to unpack it", l->name);
    memcpy(own, u->data, u->packed.size);
    let_go(l, u);
    elf->data = u->data = own;
    return 0;
}

static int load_unpacked(struct load *l, const struct bzimage *b,
                         const uint8_t header[BOOT_PARAMS_SIZE], struct unpacked *u) {
    struct elf elf;
    struct placement at = {0};
    uint64_t initrd = 0;
    int rc = elf_parse(u->data, u->packed.size, l->name, &elf, l->err);
    if (rc == 0)
        rc = keep_apart(l, b, &elf, u);
    if (rc == 0)
        rc = place_kernel(l, b, &elf, &at, &initrd);
    if (rc == 0 && at.delta)
        rc = relocate_kernel(u->data, &elf, at.delta, l);
    if (rc == 0)
        rc = elf_load(l, &elf, at.phys - b->pref);
    if (rc == 0)
        rc = put_zero_page(l, b, header, at.kaslr, initrd);
    if (rc)
        return rc;
    l->moved = at.delta;
    enter(l, b, elf_entry_phys(&elf) + (at.phys - b->pref));
    return 0;
}

static struct payload payload_of(const struct bzimage *b, const char *name) {
    return (struct payload){.in = b->payload, .in_size = b->payload_size, .name = name};
}

static int load_packed(struct load *l, const struct bzimage *b,
                       const uint8_t header[BOOT_PARAMS_SIZE]) {
    struct unpacked u = {.packed = payload_of(b, l->name)};
    uint64_t max = load_low_ram(l) < UNPACKED_MAX ? load_low_ram(l) : UNPACKED_MAX;
    int rc = unpack_look(&u.packed, max, l->err);
    if (rc == 0)
        rc = take_room(l, b, &u);
    if (rc == 0)
        rc = unpack_to(&u.packed, u.data, l->err);
    if (rc == 0) {
        free(l->image); /* both at once would be the peak of our memory */
        l->image = NULL;
        rc = load_unpacked(l, b, header, &u);
    }
    let_go(l, &u);
    return rc;
}

/* Nothing is packed in it: the code itself, at its preferred address. */
static int load_code(struct load *l, const struct bzimage *b,
                     uint8_t header[BOOT_PARAMS_SIZE]) {
    uint64_t size = b->code_size > b->init_size ? b->code_size : b->init_size, initrd;
    uint32_t start = (uint32_t)b->pref;
    int rc = load_check(l, "the program", b->pref, size);
    if (rc == 0)
        rc = load_put_initrd(l, (uint64_t)b->initrd_max + 1, b->pref, b->pref + size,
                             &initrd);
    if (rc == 0)
        rc = load_put(l, "the program", b->pref, b->code, b->code_size);
    memcpy(header + H_CODE32_START, &start, sizeof(start)); /* 2.05: where it lies */
    if (rc == 0)
        rc = put_zero_page(l, b, header, false, initrd);
    if (rc)
        return rc;
    enter(l, b, b->pref + (b->is64 ? ENTRY_64 : 0));
    return 0;
}

int load_bzimage(struct load *l) {
    struct bzimage b = {0};
    uint8_t header[BOOT_PARAMS_SIZE];
    int rc = check_header(l, &b);
    if (rc)
        return rc;
    copy_header(l, header);
    l->is_linux = b.payload_size != 0;
    return b.payload_size ? load_packed(l, &b, header) : load_code(l, &b, header);
}

int machine_unpack_kernel(const void *image, size_t size, const char *name, void **out,
                          size_t *out_size, struct err *e) {
    struct load l = {
        .image = (void *)(uintptr_t)image, .image_size = size, .name = name, .err = e};
    struct bzimage b = {0};
    int rc = check_header(&l, &b);
    struct payload packed = payload_of(&b, name);
    uint8_t *kernel;
    if (!rc)
        rc = unpack_payload(&packed, UNPACKED_MAX, &kernel, e);
    if (!rc) {
        *out = kernel;
        *out_size = packed.size;
    }
    return rc;
}
