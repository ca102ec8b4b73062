/* SPDX-License-Identifier: MIT */
/*
 * Multiboot 2 (GNU Multiboot2 Specification 2.0): a header of tags in the first 32 KiB, the
 * image an ELF or placed by the header's address tag; entered in protected mode with EAX =
 * 0x36d76289, EBX = the information: tags again.
 *
 * Invariant: a tag of the header is looked at only where it lies in the image as a whole,
 * and the tags of the information stay below the first stack.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "machine/internal.h"

#define LOADER_MAGIC 0x36d76289u
#define ARCH_I386    0u
#define OPTIONAL     1u /* of a header tag's flags */

/* Tags of the header. */
enum {
    HEAD_END,
    HEAD_REQUEST, /* types of information, u32 each */
    HEAD_ADDRESS, /* header_addr, load_addr, load_end, bss_end */
    HEAD_ENTRY,   /* entry */
    HEAD_CONSOLE, /* a wish: there is the serial port alone */
    HEAD_FRAMEBUFFER,
    HEAD_ALIGN,
    HEAD_RELOCATABLE = 10, /* may be elsewhere than where it is linked, and is not */
};
#define HEAD_KNOWN                                                                       \
    (1u << HEAD_REQUEST | 1u << HEAD_ADDRESS | 1u << HEAD_ENTRY | 1u << HEAD_CONSOLE |   \
     1u << HEAD_FRAMEBUFFER | 1u << HEAD_ALIGN | 1u << HEAD_RELOCATABLE)

/* Tags of the information. Those that are asked for and not here are of what the machine
 * has not: they are left out, as boot loaders do. */
enum {
    INFO_END = 0,
    INFO_CMDLINE = 1,
    INFO_LOADER = 2,
    INFO_MODULE = 3,
    INFO_MEMORY = 4,
    INFO_MMAP = 6,
    INFO_ELF_SECTIONS = 9, /* an ELF has them, but they are not loaded */
    INFO_RSDP_OLD = 14,
    INFO_RSDP = 15,
    INFO_TYPES = 22,
};

struct header {
    size_t at, size;
    bool has_address, has_entry;
    uint32_t address[4]; /* as HEAD_ADDRESS */
    uint32_t entry;
};

struct head_tag {
    uint16_t type, flags;
    uint32_t size;
};

static uint32_t get32(const struct load *l, size_t at) {
    uint32_t v;
    memcpy(&v, (const uint8_t *)l->image + at, sizeof(v));
    return v;
}

static int check_request(struct load *l, uint32_t type) {
    if (type < INFO_TYPES && type != INFO_ELF_SECTIONS)
        return 0;
    return err_set(l->err, -EINVAL,
                   "%s: asks for Multiboot 2 information of type %" PRIu32
                   ", which is not known here",
                   l->name, type);
}

/* One tag, all of which is in the image. */
static int take_tag(struct load *l, struct header *h, size_t at,
                    const struct head_tag *tag) {
    size_t body = at + sizeof(*tag), size = tag->size - sizeof(*tag);
    if (tag->type > 31 || !(HEAD_KNOWN >> tag->type & 1))
        return tag->flags & OPTIONAL
                   ? 0
                   : err_set(l->err, -EINVAL,
                             "%s: Multiboot 2 header tag %u is not known here", l->name,
                             tag->type);
    if (tag->type == HEAD_ADDRESS && size >= sizeof(h->address)) {
        h->has_address = true;
        memcpy(h->address, (const uint8_t *)l->image + body, sizeof(h->address));
    } else if (tag->type == HEAD_ENTRY && size >= 4) {
        h->has_entry = true;
        h->entry = get32(l, body);
    }
    int rc = 0;
    if (tag->type == HEAD_REQUEST && !(tag->flags & OPTIONAL))
        for (size_t i = 0; rc == 0 && i + 4 <= size; i += 4)
            rc = check_request(l, get32(l, body + i));
    return rc;
}

static int read_header(struct load *l, struct header *h) {
    h->at = load_find_multiboot2(l->image, l->image_size);
    if (h->at == SIZE_MAX)
        return err_set(l->err, -EINVAL, "%s: no Multiboot 2 header", l->name);
    if (get32(l, h->at + 4) != ARCH_I386)
        return err_set(l->err, -EINVAL, "%s: a Multiboot 2 header of another processor",
                       l->name);
    h->size = get32(l, h->at + 8);
    size_t left = l->image_size - h->at;
    for (size_t at = 16; h->size <= left && at + sizeof(struct head_tag) <= h->size;) {
        struct head_tag tag;
        memcpy(&tag, (const uint8_t *)l->image + h->at + at, sizeof(tag));
        if (tag.type == HEAD_END && tag.size == sizeof(tag))
            return 0;
        if (tag.size < sizeof(tag) || tag.size > h->size - at)
            break;
        int rc = take_tag(l, h, h->at + at, &tag);
        if (rc)
            return rc;
        at += ((size_t)tag.size + 7) & ~(size_t)7;
    }
    return err_set(l->err, -EINVAL, "%s: truncated: no end of its Multiboot 2 header",
                   l->name);
}

/* ---- The information ---- */

#define INFO_MAX (BOOT_STRINGS - BOOT_INFO)

struct info {
    uint8_t data[INFO_MAX];
    size_t used;
    bool full;
};

/* Return: the tag's body, zeros, or NULL when there is no room. */
static uint8_t *add_tag(struct info *i, uint32_t type, size_t size) {
    size_t whole = (8 + size + 7) & ~(size_t)7;
    if (i->full || size > INFO_MAX || whole > INFO_MAX - i->used) {
        i->full = true;
        return NULL;
    }
    uint8_t *p = i->data + i->used;
    uint32_t head[2] = {type, (uint32_t)(8 + size)};
    memcpy(p, head, sizeof(head));
    i->used += whole;
    return p + 8;
}

static void add_bytes(struct info *i, uint32_t type, const void *data, size_t size) {
    uint8_t *p = add_tag(i, type, size);
    if (p)
        memcpy(p, data, size);
}

/* `head`, and then the text of an image: "name arguments", or its name alone. */
static void add_text(struct info *i, uint32_t type, const void *head, size_t head_size,
                     const char *name, const char *args) {
    size_t n = strlen(name), a = strlen(args), space = a != 0;
    uint8_t *p = add_tag(i, type, head_size + n + space + a + 1);
    if (!p)
        return;
    memcpy(p, head, head_size);
    memcpy(p + head_size, name, n);
    memcpy(p + head_size + n, " ", space);
    memcpy(p + head_size + n + space, args, a);
}

static void add_module(struct info *i, const struct load_module *m) {
    uint32_t span[2] = {(uint32_t)m->gpa, (uint32_t)(m->gpa + m->size)};
    add_text(i, INFO_MODULE, span, sizeof(span), m->name, m->args);
}

static void add_memory(struct info *i, const struct load *l) {
    struct e820_entry map[E820_MAX];
    unsigned n = load_e820(l, map);
    uint32_t basic[2] = {EBDA_BASE >> 10, (uint32_t)((load_low_ram(l) - 0x100000) >> 10)};
    add_bytes(i, INFO_MEMORY, basic, sizeof(basic));
    struct {
        uint32_t entry_size, version;
        struct {
            uint64_t addr, size;
            uint32_t type, reserved;
        } entry[E820_MAX];
    } mmap = {.entry_size = sizeof(mmap.entry[0])};
    for (unsigned k = 0; k < n; k++) {
        mmap.entry[k].addr = map[k].addr;
        mmap.entry[k].size = map[k].size;
        mmap.entry[k].type = map[k].type;
    }
    add_bytes(i, INFO_MMAP, &mmap, 8 + n * sizeof(mmap.entry[0]));
}

/* Texts begin with the file's name, as with Multiboot 1: of what a loader that is not GRUB
 * passes, Xen takes the first word away (cmdline_cook() in its arch/x86/setup.c). */
static int put_info(struct load *l, const struct load_module *modules, unsigned count) {
    static const char loader[] = "penumbra";
    const char *append = l->append ? l->append : "";
    struct info *i = calloc(1, sizeof(*i));
    if (!i)
        return err_set(l->err, -ENOMEM, "out of memory");
    i->used = 8;
    add_text(i, INFO_CMDLINE, "", 0, l->name, append);
    add_bytes(i, INFO_LOADER, loader, sizeof(loader));
    for (unsigned k = 0; k < count; k++)
        add_module(i, &modules[k]);
    add_memory(i, l);
    if (l->rsdp) {
        add_bytes(i, INFO_RSDP_OLD, l->rsdp_bytes, 20); /* as in ACPI 1.0 */
        add_bytes(i, INFO_RSDP, l->rsdp_bytes, RSDP_SIZE);
    }
    add_tag(i, INFO_END, 0);
    uint32_t total = (uint32_t)i->used;
    memcpy(i->data, &total, sizeof(total));
    int rc = 0;
    if (i->full)
        rc = err_set(l->err, -EINVAL,
                     "--append and --module: their texts take more than %u bytes",
                     (unsigned)INFO_MAX);
    else
        load_put_boot(l, BOOT_INFO, i->data, i->used);
    free(i);
    return rc;
}

static int load_elf_image(struct load *l, uint64_t *low, uint64_t *high,
                          uint64_t *entry) {
    struct elf elf;
    int rc = elf_parse(l->image, l->image_size, l->name, &elf, l->err);
    if (rc == 0)
        rc = elf_load(l, &elf, 0);
    if (rc)
        return rc;
    *low = elf.low, *high = elf.high, *entry = elf_entry_phys(&elf);
    return 0;
}

int load_multiboot2(struct load *l) {
    struct header h = {0};
    struct load_module modules[LOAD_MODULES_MAX];
    unsigned count = 0;
    uint64_t low = 0, high = 0, entry = 0;
    int rc = read_header(l, &h);
    if (rc)
        return rc;
    if (h.has_address && !h.has_entry)
        return err_set(l->err, -EINVAL,
                       "%s: a Multiboot 2 header with addresses, but no entry", l->name);
    if (h.has_address) /* load_addr -1: the file from its beginning on */
        rc = load_by_addresses(l, "Multiboot 2", h.at, h.address[0],
                               h.address[1] == UINT32_MAX ? h.address[0] - (uint32_t)h.at
                                                          : h.address[1],
                               h.address[2], h.address[3], &low, &high);
    else
        rc = load_elf_image(l, &low, &high, &entry);
    if (h.has_entry)
        entry = h.entry;
    if (rc == 0)
        rc = load_put_modules(l, false, low, high, modules, &count);
    if (rc == 0)
        rc = put_info(l, modules, count);
    if (rc)
        return rc;
    if (entry > UINT32_MAX)
        return err_set(l->err, -EINVAL, "%s: its entry point lies beyond 4 GiB", l->name);
    l->entry = (struct entry){
        .mode = ENTRY_PROTECTED, .rip = entry, .rax = LOADER_MAGIC, .rbx = BOOT_INFO};
    entry_put_tables(l);
    return 0;
}
