/* SPDX-License-Identifier: MIT */
/* The image of a Linux kernel and where its members are; reading. See linux.h. */
#include "inspect/linux.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "inspect/linux_internal.h"
#include "inspect/symbols_internal.h"
#include "machine/machine.h"

#define FILE_MAX   (1ull << 30)
#define OFFSET_MAX (1u << 20) /* no structure of the kernel's is as large */

/* ---- The image ---- */

static const struct {
    const char *of, *path;
    size_t at; /* in struct linux_image */
    uint32_t need;
    bool optional;
} members[] = {
#define MEMBER(name, of, path, need)                                                     \
    {of, path, offsetof(struct linux_image, name), need, false},
#define OPTIONAL(name, of, path, need)                                                   \
    {of, path, offsetof(struct linux_image, name), need, true},
#include "inspect/linux_members.inc"
};

static const struct {
    const char *name;
    bool needed;
} wanted[] = {
#define SYMBOL(name, needed) {#name, needed},
#include "inspect/linux_symbols.inc"
};

static int find_all(struct linux_image *image, const char *name, struct err *e) {
    for (unsigned i = 0; i < LINUX_SYMBOLS; i++) {
        bool found = symbols_value(image->symbols, wanted[i].name, &image->symbol[i]);
        if (!found && wanted[i].needed)
            return err_set(e, -EINVAL, "%s: no Linux kernel: it has no symbol %s", name,
                           wanted[i].name);
        if (!found)
            image->symbol[i] = LINUX_ABSENT;
    }
    for (size_t i = 0; i < sizeof(members) / sizeof(members[0]); i++) {
        struct types_member *m = (void *)((char *)image + members[i].at);
        bool found = types_find(image->types, members[i].of, members[i].path, m) &&
                     m->size >= members[i].need && m->offset <= OFFSET_MAX;
        if (!found && !members[i].optional)
            return err_set(e, -EINVAL, "%s: struct %s of this kernel has no %s", name,
                           members[i].of, members[i].path);
        if (!found)
            *m = (struct types_member){0, 0};
    }
    return 0;
}

int linux_image_create(struct symbols *symbols, struct types *types, const char *name,
                       struct linux_image **out, struct err *e) {
    struct linux_image *image = calloc(1, sizeof(*image));
    if (!image) {
        symbols_free(symbols);
        types_free(types);
        return err_set(e, -ENOMEM, "%s: out of memory", name);
    }
    image->symbols = symbols;
    image->types = types;
    int rc = find_all(image, name, e);
    if (rc)
        linux_image_free(image);
    else
        *out = image;
    return rc;
}

static int parse(const uint8_t *elf, size_t size, const char *name,
                 struct linux_image **out, struct err *e) {
    struct symbols *symbols = NULL;
    struct types *types = NULL;
    const uint8_t *btf;
    size_t btf_size;
    if (!symbols_elf_section(elf, size, ".BTF", &btf, &btf_size))
        return err_set(e, -EINVAL, "%s: no Linux kernel with types (BTF) in it", name);
    int rc = symbols_parse(elf, size, name, &symbols, e);
    if (!rc)
        rc = types_parse(btf, btf_size, name, &types, e);
    if (!rc)
        return linux_image_create(symbols, types, name, out, e);
    symbols_free(symbols);
    return rc;
}

int linux_image_load(const char *path, struct linux_image **out, struct err *e) {
    void *file, *kernel = NULL;
    size_t size;
    int rc = file_read(path, FILE_MAX, &file, &size, e);
    if (rc)
        return rc;
    if (!symbols_is_elf(file, size)) {
        rc = machine_unpack_kernel(file, size, path, &kernel, &size, e);
        free(file);
        file = kernel;
    }
    if (!rc)
        rc = parse(file, size, path, out, e);
    free(file);
    return rc;
}

void linux_image_free(struct linux_image *image) {
    if (!image)
        return;
    symbols_free(image->symbols);
    types_free(image->types);
    free(image);
}

/* ---- Memory ---- */

bool linux_is_kernel(uint64_t address) {
    return address >> 63;
}

bool linux_read(const struct linux_guest *g, uint64_t at, void *buf, size_t size) {
    return linux_is_kernel(at) && g->read(g->opaque, at, buf, size) == size;
}

bool linux_u64(const struct linux_guest *g, uint64_t at, const struct types_member *m,
               uint64_t *value) {
    return linux_read(g, at + m->offset, value, sizeof(*value));
}

bool linux_u32(const struct linux_guest *g, uint64_t at, const struct types_member *m,
               uint32_t *value) {
    return linux_read(g, at + m->offset, value, sizeof(*value));
}

bool linux_symbol(const struct linux_guest *g, enum linux_symbol s, uint64_t *gva) {
    uint64_t linked = g->image->symbol[s];
    *gva = linked >= LINUX_KERNEL_MAP ? linked + g->moved : linked;
    return linked != LINUX_ABSENT;
}

uint64_t linux_value(const struct linux_guest *g, enum linux_symbol s, uint64_t other) {
    uint64_t at, value;
    bool known = linux_symbol(g, s, &at) && linux_read(g, at, &value, sizeof(value));
    return known ? value : other;
}

bool linux_name(const struct linux_guest *g, uint64_t at, char *buf, size_t size) {
    size_t n = 0;
    /* A name may end short of a page that is not mapped. */
    while (n < size - 1) {
        size_t room = 4096 - ((at + n) & 4095), want = size - 1 - n;
        want = want < room ? want : room;
        if (!linux_read(g, at + n, buf + n, want))
            break;
        size_t length = strnlen(buf + n, want);
        n += length;
        if (length < want)
            break;
    }
    buf[n] = 0;
    for (size_t i = 0; i < n; i++)
        if (buf[i] < ' ' || buf[i] > '~')
            buf[i] = '?';
    return n > 0;
}

bool linux_is_there(const struct linux_guest *g) {
    struct linux_task t;
    uint64_t at;
    return linux_symbol(g, LINUX_init_task, &at) && linux_task_read(g, at, &t) &&
           !t.pid && !strncmp(t.comm, "swapper", 7);
}

bool linux_same_space(uint64_t own, uint64_t cr3) {
    uint64_t space = cr3 & LINUX_CR3_PAGE;
    return own && (space == own || space == (own | LINUX_CR3_USER));
}
