/* SPDX-License-Identifier: MIT */
/* Guest memory without a machine: see fixture.h. */
#include "fixture.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

static uint8_t *map(uint64_t size) {
    if (!size)
        return NULL;
    void *p = mmap(NULL, size, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        abort();
    return p;
}

static uint8_t *span(struct fixture *f, pn_gpa gpa, uint64_t size) {
    if (gpa <= f->low_size && size <= f->low_size - gpa)
        return f->low + gpa;
    if (gpa < HIGH_RAM_BASE)
        return NULL;
    gpa -= HIGH_RAM_BASE;
    return gpa <= f->high_size && size <= f->high_size - gpa ? f->high + gpa : NULL;
}

static int write_ram(void *opaque, pn_gpa gpa, const void *data, size_t size) {
    struct fixture *f = opaque;
    uint8_t *p = span(f, gpa, size);
    if (!p) {
        f->strayed = true;
        return -EFAULT;
    }
    memcpy(p, data, size);
    return 0;
}

void fixture_init(struct fixture *f, uint64_t ram) {
    memset(f, 0, sizeof(*f));
    f->err = (struct err){f->text, sizeof(f->text)};
    f->low_size = ram < LOW_RAM_MAX ? ram : LOW_RAM_MAX;
    f->high_size = ram - f->low_size;
    f->low = map(f->low_size);
    f->high = map(f->high_size);
    f->l = (struct load){.ram = ram,
                         .write = write_ram,
                         .opaque = f,
                         .name = "kernel",
                         .append = "",
                         .initrd_name = "initrd",
                         .rsdp = ACPI_BASE,
                         .err = &f->err};
}

static uint8_t *borrow_ram(void *opaque, pn_gpa gpa, size_t size) {
    struct fixture *f = opaque;
    f->borrowed++;
    f->lent += size;
    return span(f, gpa, size);
}

static void return_ram(void *opaque, pn_gpa gpa, size_t size) {
    struct fixture *f = opaque;
    f->lent -= size;
    memset(span(f, gpa, size), 0, size);
}

void fixture_lend(struct fixture *f) {
    f->l.borrow_ram = borrow_ram;
    f->l.return_ram = return_ram;
}

void fixture_free(struct fixture *f) {
    munmap(f->low, f->low_size);
    if (f->high)
        munmap(f->high, f->high_size);
    free(f->l.image);
}

int fixture_load(struct fixture *f, const void *image, size_t size) {
    free(f->l.image);
    f->l.image = malloc(size ? size : 1);
    if (!f->l.image)
        abort();
    memcpy(f->l.image, image, size);
    f->l.image_size = size;
    return load_image(&f->l);
}

uint8_t *fixture_at(struct fixture *f, pn_gpa gpa) {
    return span(f, gpa, 1);
}

uint64_t fixture_u64(struct fixture *f, pn_gpa gpa) {
    uint64_t v = 0;
    memcpy(&v, span(f, gpa, 8), 8);
    return v;
}

uint32_t fixture_u32(struct fixture *f, pn_gpa gpa) {
    uint32_t v = 0;
    memcpy(&v, span(f, gpa, 4), 4);
    return v;
}
