/* SPDX-License-Identifier: MIT */
/*
 * Symbols by address and by name, and files that are text.
 *
 * Invariant: after symbols_finish(), symbols are sorted by address, and of those at one address
 * the one that names it comes first: a function, not weak, with the fewest underscores
 * before it. to > from in all but the last one.
 */
#include "inspect/symbols.h"

#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "inspect/symbols_internal.h"
#include "machine/machine.h"

#define FILE_MAX    (1ull << 30)
#define NAMES_MAX   (1u << 30)
#define SYMBOLS_MAX (1u << 26)

static int grow(void **array, size_t *room, size_t need, size_t size) {
    if (need <= *room)
        return 0;
    size_t more = *room ? *room * 2 : 1024;
    if (more < need)
        more = need;
    void *p = realloc(*array, more * size);
    if (!p)
        return -ENOMEM;
    *array = p;
    *room = more;
    return 0;
}

int symbols_add(struct symbols *s, const struct symbol *what, const char *name,
                size_t length) {
    if (!length)
        return 0;
    if (s->count == SYMBOLS_MAX || s->used + length + 1 > NAMES_MAX ||
        grow((void **)&s->symbol, &s->room, s->count + 1, sizeof(*s->symbol)) ||
        grow((void **)&s->names, &s->names_room, s->used + length + 1, 1))
        return -ENOMEM;
    s->symbol[s->count] = *what;
    s->symbol[s->count++].name = (uint32_t)s->used;
    for (size_t i = 0; i < length; i++)
        s->names[s->used + i] = isgraph((unsigned char)name[i]) ? name[i] : '?';
    s->names[s->used + length] = 0;
    s->used += length + 1;
    return 0;
}

/* ---- Order ---- */

static int by_address(const void *x, const void *y, void *names) {
    const struct symbol *a = x, *b = y;
    const char *na = (const char *)names + a->name, *nb = (const char *)names + b->name;
    if (a->from != b->from)
        return a->from < b->from ? -1 : 1;
    if (a->function != b->function)
        return a->function ? -1 : 1;
    if (a->weak != b->weak)
        return a->weak ? 1 : -1;
    size_t ua = strspn(na, "_"), ub = strspn(nb, "_");
    return ua != ub ? (ua < ub ? -1 : 1) : strcmp(na, nb);
}

/* Ends that nobody told are where the next symbol begins. */
int symbols_finish(struct symbols *s, const char *name, struct err *e) {
    bool some = false;
    for (size_t i = 0; i < s->count; i++)
        some |= s->symbol[i].function && s->symbol[i].from;
    if (!some)
        return err_set(e, -EINVAL, "%s: no addresses of functions in it", name);
    qsort_r(s->symbol, s->count, sizeof(*s->symbol), by_address, s->names);
    uint64_t next = UINT64_MAX;
    for (size_t i = s->count; i--;) {
        struct symbol *y = &s->symbol[i];
        if (i + 1 < s->count && s->symbol[i + 1].from != y->from)
            next = s->symbol[i + 1].from;
        if (y->to <= y->from || y->to > next)
            y->to = next;
    }
    return 0;
}

size_t symbols_count(const struct symbols *s) {
    return s->count;
}

uint32_t symbols_at(const struct symbols *s, uint64_t address) {
    size_t low = 0, high = s->count; /* symbols before low begin at or below address */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (s->symbol[middle].from <= address)
            low = middle + 1;
        else
            high = middle;
    }
    if (!low)
        return SYMBOLS_NONE;
    while (--low && s->symbol[low - 1].from == s->symbol[low].from)
        ;
    const struct symbol *y = &s->symbol[low];
    return y->function && address < y->to ? (uint32_t)low : SYMBOLS_NONE;
}

uint32_t symbols_named(const struct symbols *s, const char *name) {
    for (size_t i = 0; i < s->count; i++)
        if (s->symbol[i].function && !strcmp(s->names + s->symbol[i].name, name))
            return (uint32_t)i;
    return SYMBOLS_NONE;
}

bool symbols_value(const struct symbols *s, const char *name, uint64_t *address) {
    for (size_t i = 0; i < s->count; i++)
        if (!strcmp(s->names + s->symbol[i].name, name)) {
            *address = s->symbol[i].from;
            return true;
        }
    return false;
}

const char *symbols_name(const struct symbols *s, uint32_t number) {
    return s->names + s->symbol[number].name;
}

void symbols_range(const struct symbols *s, uint32_t number, uint64_t *from,
                   uint64_t *to) {
    *from = s->symbol[number].from;
    *to = s->symbol[number].to;
}

/* ---- Text ---- */

/* "ADDRESS TYPE NAME" and what may follow it; an undefined symbol has no address. Return:
 * 0, or -errno. */
static int add_line(struct symbols *s, const char *line, size_t length) {
    uint64_t address = 0;
    size_t i = 0, digits = 0;
    while (i < length && isblank((unsigned char)line[i]))
        i++;
    bool blank = i > 0;
    for (; i < length && isxdigit((unsigned char)line[i]); i++, digits++) {
        unsigned char c = (unsigned char)line[i];
        address = address << 4 | (unsigned)(isdigit(c) ? c - '0' : (c | 0x20) - 'a' + 10);
    }
    if (i == length || (blank && !digits)) /* an empty line, or an undefined symbol */
        return digits ? -EINVAL : 0;
    if (!digits || digits > 16 || length - i < 4 || line[i] != ' ' || line[i + 2] != ' ')
        return -EINVAL;
    char type = line[i + 1];
    const char *name = line + i + 3;
    size_t n = 0;
    while (n < length - i - 3 && isgraph((unsigned char)name[n]))
        n++;
    return symbols_add(s,
                       &(struct symbol){.from = address,
                                        .function = strchr("tTwWi", type) != NULL,
                                        .weak = type == 'w' || type == 'W'},
                       name, n);
}

static int add_text(struct symbols *s, const char *text, size_t size, const char *file,
                    struct err *e) {
    unsigned number = 1;
    for (size_t at = 0; at < size; number++) {
        const char *end = memchr(text + at, '\n', size - at);
        size_t length = end ? (size_t)(end - (text + at)) : size - at;
        int rc = add_line(s, text + at, length);
        if (rc == -EINVAL)
            return err_set(e, rc,
                           "%s: no symbols: line %u is not ADDRESS TYPE NAME, and it is "
                           "neither an ELF nor a bzImage",
                           file, number);
        if (rc)
            return rc;
        at += length + 1;
    }
    return 0;
}

/* ---- Files ---- */

bool symbols_is_elf(const uint8_t *data, size_t size) {
    return size >= SELFMAG && !memcmp(data, ELFMAG, SELFMAG);
}

/* The setup header's magic (Documentation/arch/x86/boot.rst). */
static bool is_bzimage(const uint8_t *data, size_t size) {
    return size > 0x206 && !memcmp(data + 0x202, "HdrS", 4);
}

static int add_elf(struct symbols *s, const uint8_t *data, size_t size) {
    int rc = symbols_add_elf(s, data, size);
    return rc || s->count ? rc : symbols_add_kallsyms(s, data, size);
}

static int add_bzimage(struct symbols *s, const uint8_t *data, size_t size,
                       const char *name, struct err *e) {
    void *kernel;
    size_t kernel_size;
    int rc = machine_unpack_kernel(data, size, name, &kernel, &kernel_size, e);
    if (rc)
        return rc;
    rc = symbols_add_kallsyms(s, kernel, kernel_size);
    free(kernel);
    return rc;
}

int symbols_parse(const void *data, size_t size, const char *name, struct symbols **out,
                  struct err *e) {
    struct symbols *s = calloc(1, sizeof(*s));
    int rc = -ENOMEM;
    if (s && symbols_is_elf(data, size))
        rc = add_elf(s, data, size);
    else if (s && is_bzimage(data, size))
        rc = add_bzimage(s, data, size, name, e);
    else if (s)
        rc = add_text(s, data, size, name, e);
    if (rc == -ENOMEM)
        err_set(e, rc, "%s: out of memory for its symbols", name);
    if (!rc)
        rc = symbols_finish(s, name, e);
    if (rc)
        symbols_free(s);
    else
        *out = s;
    return rc;
}

int symbols_load(const char *path, struct symbols **out, struct err *e) {
    void *data;
    size_t size;
    int rc = file_read(path, FILE_MAX, &data, &size, e);
    if (rc)
        return rc;
    rc = symbols_parse(data, size, path, out, e);
    free(data);
    return rc;
}

void symbols_free(struct symbols *s) {
    if (!s)
        return;
    free(s->symbol);
    free(s->names);
    free(s);
}
