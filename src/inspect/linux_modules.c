/* SPDX-License-Identifier: MIT */
/*
 * Modules of a Linux guest, and the functions in them (kernel/module/ of the kernel): a list of
 * struct module, each with the ranges of its text and with its own symbols, an ELF table. While
 * a module begins, kallsyms points to symbols of its init text, too.
 *
 * Invariants
 * 1. The list is followed for MODULES_MAX steps at most.
 * 2. A module has SYMBOLS_MOST symbols at most, and a cache reads SYMBOLS_ALL in its life, however
 *    often the guest changes what it has.
 * 3. A name from the cache is one that the module's head, read again, still leads to.
 */
#include <elf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "inspect/linux_internal.h"
#include "inspect/symbols_internal.h"

#define MODULES_MAX  4096u
#define SYMBOLS_MOST (1u << 16)
#define SYMBOLS_ALL  (1u << 22)
#define TEXT_MOST    (1ull << 30) /* all modules lie in one GiB */
#define CHUNK        64u          /* symbols read at once */

/* Of enum mod_mem_type, from 6.4 on. */
enum { MEM_TEXT = 0, MEM_INIT_TEXT = 4 };

static bool has_layout(const struct linux_image *k) {
    return k->module_core_base.size && k->module_core_text.size &&
           k->module_init_base.size && k->module_init_text.size;
}

static bool has_mem(const struct linux_image *k) {
    return k->module_mem.size && k->memory.size && k->memory_base.size &&
           k->memory_size.size &&
           k->module_mem.size / k->memory.size > (unsigned)MEM_INIT_TEXT;
}

bool linux_has_modules(const struct linux_image *k) {
    return k->symbol[LINUX_modules] != LINUX_ABSENT && k->module_next.size &&
           k->module_name.size && k->module_kallsyms.size && k->kallsyms_symtab.size &&
           k->kallsyms_count.size && k->kallsyms_strtab.size &&
           (has_layout(k) || has_mem(k));
}

/* A range of text; one that cannot be is none. */
static bool read_text(const struct linux_guest *g, uint64_t at,
                      const struct types_member *base, const struct types_member *size,
                      struct linux_text *t) {
    uint32_t bytes;
    *t = (struct linux_text){0, 0};
    if (!linux_u64(g, at, base, &t->from) || !linux_u32(g, at, size, &bytes))
        return false;
    if (!linux_is_kernel(t->from) || bytes > TEXT_MOST || t->from + bytes < t->from)
        bytes = 0;
    t->to = t->from + bytes;
    return true;
}

/* The module whose struct module is at `at`. */
static bool module_read(const struct linux_guest *g, uint64_t at,
                        struct linux_module *m) {
    const struct linux_image *k = g->image;
    size_t room = k->module_name.size + 1u;
    memset(m, 0, sizeof(*m));
    m->at = at;
    room = room < sizeof(m->name) ? room : sizeof(m->name);
    if (!linux_name(g, at + k->module_name.offset, m->name, room) ||
        !linux_u64(g, at, &k->module_kallsyms, &m->kallsyms))
        return false;
    if (has_layout(k))
        return read_text(g, at, &k->module_core_base, &k->module_core_text,
                         &m->text[0]) &&
               read_text(g, at, &k->module_init_base, &k->module_init_text, &m->text[1]);
    uint64_t mem = at + k->module_mem.offset;
    uint64_t init = mem + (uint64_t)MEM_INIT_TEXT * k->memory.size;
    return read_text(g, mem, &k->memory_base, &k->memory_size, &m->text[0]) &&
           read_text(g, init, &k->memory_base, &k->memory_size, &m->text[1]);
}

bool linux_modules(const struct linux_guest *g, linux_module_fn fn, void *opaque) {
    struct linux_module m;
    uint64_t head, at;
    if (!linux_has_modules(g->image) || !linux_symbol(g, LINUX_modules, &head) ||
        !linux_read(g, head, &at, sizeof(at)))
        return false;
    for (unsigned steps = 0; at != head; steps++)
        if (steps >= MODULES_MAX ||
            !module_read(g, at - g->image->module_next.offset, &m) || !fn(opaque, &m) ||
            !linux_read(g, at, &at, sizeof(at)))
            return false;
    return true;
}

static bool in_text(const struct linux_module *m, uint64_t address) {
    for (unsigned i = 0; i < LINUX_TEXTS; i++)
        if (address >= m->text[i].from && address < m->text[i].to)
            return true;
    return false;
}

/* ---- Its symbols ---- */

/* One of the table into s, where it is of the module's text. Return: 0, or -ENOMEM. */
static int add_symbol(const struct linux_guest *g, const struct linux_module *m,
                      uint64_t strings, const Elf64_Sym *y, struct symbols *s) {
    char name[LINUX_FUNCTION];
    unsigned type = ELF64_ST_TYPE(y->st_info);
    uint64_t end;
    if (y->st_shndx == SHN_UNDEF || (type != STT_FUNC && type != STT_NOTYPE) ||
        !in_text(m, y->st_value) ||
        !linux_name(g, strings + y->st_name, name, sizeof(name)) ||
        strchr(".$", name[0])) /* marks of the compiler, no functions */
        return 0;
    if (__builtin_add_overflow(y->st_value, y->st_size, &end) || !in_text(m, end - 1))
        end = 0;
    return symbols_add(s,
                       &(struct symbol){.from = y->st_value,
                                        .to = y->st_size ? end : 0,
                                        .function = true,
                                        .weak = ELF64_ST_BIND(y->st_info) == STB_WEAK},
                       name, strlen(name));
}

/* Where a range of text ends, the function before ends. */
static int add_ends(const struct linux_module *m, struct symbols *s) {
    int rc = 0;
    for (unsigned i = 0; i < LINUX_TEXTS && !rc; i++)
        if (m->text[i].to > m->text[i].from)
            rc = symbols_add(s, &(struct symbol){.from = m->text[i].to}, "end", 3);
    return rc;
}

static int read_symbols(const struct linux_guest *g, const struct linux_module *m,
                        uint64_t table, uint64_t strings, uint32_t count,
                        struct symbols *s) {
    Elf64_Sym chunk[CHUNK];
    int rc = add_ends(m, s);
    for (uint32_t i = 0; i < count && !rc; i += CHUNK) {
        uint32_t n = count - i < CHUNK ? count - i : CHUNK;
        if (!linux_read(g, table + (uint64_t)i * sizeof(chunk[0]), chunk,
                        n * sizeof(chunk[0])))
            return -EFAULT;
        for (uint32_t j = 0; j < n && !rc; j++)
            rc = add_symbol(g, m, strings, &chunk[j], s);
    }
    return rc;
}

int linux_module_symbols(const struct linux_guest *g, const struct linux_module *m,
                         uint32_t most, struct symbols **out) {
    const struct linux_image *k = g->image;
    struct err unsaid = {NULL, 0};
    uint64_t table, strings;
    uint32_t count;
    *out = NULL;
    if (!linux_u64(g, m->kallsyms, &k->kallsyms_symtab, &table) ||
        !linux_u64(g, m->kallsyms, &k->kallsyms_strtab, &strings) ||
        !linux_u32(g, m->kallsyms, &k->kallsyms_count, &count) || count > SYMBOLS_MOST ||
        count > most)
        return -EFAULT;
    struct symbols *s = calloc(1, sizeof(*s));
    int rc = s ? read_symbols(g, m, table, strings, count, s) : -ENOMEM;
    if (!rc)
        rc = symbols_finish(s, m->name, &unsaid);
    if (rc)
        symbols_free(s);
    else
        *out = s;
    return rc ? rc : (int)count;
}

/* ---- A function, quickly ---- */

#define CACHED 32u

struct linux_functions {
    struct {
        struct linux_module module; /* at 0: free */
        struct symbols *symbols;    /* NULL: it has none that can be read */
    } cached[CACHED];
    unsigned next;     /* that will be another's */
    uint32_t may_read; /* symbols, from now on */
};

struct linux_functions *linux_functions_create(void) {
    struct linux_functions *f = calloc(1, sizeof(*f));
    if (f)
        f->may_read = SYMBOLS_ALL;
    return f;
}

void linux_functions_destroy(struct linux_functions *f) {
    for (unsigned i = 0; f && i < CACHED; i++)
        symbols_free(f->cached[i].symbols);
    free(f);
}

struct search {
    uint64_t address;
    struct linux_module found;
};

static bool is_it(void *opaque, const struct linux_module *m) {
    struct search *s = opaque;
    if (!in_text(m, s->address))
        return true;
    s->found = *m;
    return false;
}

/* The place of the module that has the address, and whose symbols have been read. Return: CACHED:
 * none has it. */
static unsigned place_of(struct linux_functions *f, const struct linux_guest *g,
                         uint64_t address) {
    struct linux_module now;
    struct search s = {.address = address};
    for (unsigned i = 0; i < CACHED; i++)
        if (f->cached[i].module.at && in_text(&f->cached[i].module, address) &&
            module_read(g, f->cached[i].module.at, &now) &&
            !memcmp(&now, &f->cached[i].module, sizeof(now)))
            return i;
    linux_modules(g, is_it, &s);
    if (!s.found.at)
        return CACHED;
    unsigned at = f->next++ % CACHED;
    symbols_free(f->cached[at].symbols);
    f->cached[at].symbols = NULL;
    f->cached[at].module = s.found;
    int read = linux_module_symbols(g, &s.found, f->may_read, &f->cached[at].symbols);
    f->may_read -= read > 0 ? (uint32_t)read : 0;
    return at;
}

bool linux_function_at(struct linux_functions *f, const struct linux_guest *g,
                       uint64_t address, struct linux_function *out) {
    unsigned at = linux_is_kernel(address) ? place_of(f, g, address) : CACHED;
    memset(out, 0, sizeof(*out));
    if (at == CACHED)
        return false;
    const struct linux_module *m = &f->cached[at].module;
    const struct symbols *s = f->cached[at].symbols;
    uint32_t number = s ? symbols_at(s, address) : SYMBOLS_NONE;
    const struct linux_text *t =
        &m->text[address < m->text[0].from || address >= m->text[0].to];
    snprintf(out->module, sizeof(out->module), "%s", m->name);
    out->text = *t;
    out->of = (struct linux_text){address, address + 1};
    snprintf(out->name, sizeof(out->name), "%s",
             number == SYMBOLS_NONE ? "?" : symbols_name(s, number));
    if (number != SYMBOLS_NONE)
        symbols_range(s, number, &out->of.from, &out->of.to);
    return true;
}
