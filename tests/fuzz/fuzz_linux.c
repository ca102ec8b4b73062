/* SPDX-License-Identifier: MIT */
/*
 * Fuzzes the look at a Linux guest: its memory says what it likes, and every question ends, with
 * text that can be printed. Each address of the kernel's half is somewhere in the input, so its
 * pointers lead to something.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/inspect/linux_image.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct memory {
    const uint8_t *data;
    size_t size;
    unsigned asked; /* for tasks and mappings so far */
};

static size_t read_guest(void *opaque, uint64_t gva, void *buf, size_t size) {
    const struct memory *m = opaque;
    for (size_t i = 0; i < size; i++)
        ((uint8_t *)buf)[i] = m->data[(gva + i) % m->size];
    return gva % 61 ? size : 0; /* some is not mapped */
}

static bool where(void *opaque, uint64_t gva, uint64_t *gpa) {
    *gpa = gva & 0xfffff000;
    return gva % 5;
}

static void check(const char *text, size_t room) {
    size_t n = strnlen(text, room);
    if (n == room)
        abort();
    for (size_t i = 0; i < n; i++)
        if (text[i] < ' ' || text[i] > '~')
            abort();
}

static bool task(void *opaque, const struct linux_task *t) {
    struct memory *m = opaque;
    check(t->comm, LINUX_COMM);
    check(t->leader, LINUX_COMM);
    return m->asked++ < 64;
}

struct asker {
    struct memory *memory;
    const struct linux_guest *guest;
};

static bool vma(void *opaque, const struct linux_vma *v) {
    struct asker *a = opaque;
    char path[LINUX_PATH];
    check(v->name, LINUX_NAME);
    if (v->end <= v->start)
        abort();
    if (linux_vma_path(a->guest, v, path))
        check(path, LINUX_PATH);
    return a->memory->asked++ < 128;
}

static bool module(void *opaque, const struct linux_module *m) {
    struct memory *memory = opaque;
    check(m->name, sizeof(m->name));
    for (unsigned i = 0; i < LINUX_TEXTS; i++)
        if (m->text[i].to < m->text[i].from)
            abort();
    return memory->asked++ < 192;
}

/* The modules' functions, by the structures of both kinds. */
static void ask_modules(struct linux_guest *g, const uint8_t *data, size_t size) {
    struct linux_functions *functions = linux_functions_create();
    struct linux_function f;
    if (!functions)
        abort();
    linux_modules(g, module, g->opaque);
    for (unsigned i = 0; i + 8 <= size && i < 64; i += 8) {
        uint64_t address;
        memcpy(&address, data + i, 8);
        if (!linux_function_at(functions, g, address, &f))
            continue;
        check(f.name, sizeof(f.name));
        check(f.module, sizeof(f.module));
        if (address < f.of.from || address >= f.of.to || address < f.text.from ||
            address >= f.text.to)
            abort();
    }
    linux_functions_destroy(functions);
}

static struct linux_image *image, *old;

static void clean_up(void) {
    linux_image_free(image);
    linux_image_free(old);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct memory m = {data, size, 0};
    struct linux_guest g = {.cpus = 2,
                            .five_levels = size & 1,
                            .read = read_guest,
                            .where = where,
                            .opaque = &m};
    struct linux_region r;
    struct linux_task t;
    if (size < 8)
        return 0;
    if (!image) {
        image = image_create_of(false);
        old = image_create_of(true);
        atexit(clean_up);
    }
    g.image = old;
    ask_modules(&g, data, size);
    g.image = image;
    ask_modules(&g, data, size);
    struct asker a = {&m, &g};
    linux_is_there(&g);
    linux_tasks(&g, task, &m);
    bool runs = linux_current(&g, data[0], &t);
    if (runs)
        linux_vmas(&g, t.mm, vma, &a);
    for (unsigned i = 0; i + 8 <= size && i < 256; i += 8) {
        uint64_t address;
        memcpy(&address, data + i, 8);
        if (linux_region_of(&g, runs ? &t : NULL, runs ? t.cr3 : 0, address, &r)) {
            check(r.name, LINUX_NAME);
            if (address < r.from || address > r.to)
                abort();
        }
        if (linux_vma_at(&g, address | 1ull << 63, address, &(struct linux_vma){0}) ==
                LINUX_FOUND &&
            address >> 56)
            abort();
    }
    return 0;
}
