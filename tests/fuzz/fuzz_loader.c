/* SPDX-License-Identifier: MIT */
/*
 * Every loader on any bytes. The first bytes choose format, memory size and what stands
 * beside the kernel; the rest is the image. Nothing may be written outside RAM, nothing
 * may leak, and a failure has one line of text.
 *
 *     0 format, 1 memory: 2 MiB << (n % 8), 2 bit 0 initrd, bit 1 la57, bit 2 nokaslr,
 *     bit 3 wrap the rest as the payload of a bzImage, 3 flat bits and address
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "machine/internal.h"

#define HEAD 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct ram {
    uint64_t size;
    uint8_t *base;
};

static int write_ram(void *opaque, pn_gpa gpa, const void *data, size_t size) {
    struct ram *r = opaque;
    if (gpa > r->size || size > r->size - gpa)
        abort(); /* load_put has checked: this is the finding */
    memcpy(r->base + gpa, data, size);
    return 0;
}

/* The bytes behind a good setup header, so that unpacking is reached. */
static uint8_t *wrap(const uint8_t *data, size_t size, size_t *out_size) {
    const size_t at = 2 * 512 + 0x200;
    uint8_t *p = calloc(1, at + size);
    uint32_t word;
    if (!p)
        abort();
    p[0x1f1] = 1;
    p[0x1fe] = 0x55, p[0x1ff] = 0xaa;
    p[0x201] = 0x66;
    memcpy(p + 0x202, "HdrS\x0f\x02", 6);
    word = 0x7fffffff, memcpy(p + 0x22c, &word, 4);
    word = 0x200000, memcpy(p + 0x230, &word, 4);
    p[0x234] = 1;
    p[0x236] = 0x7f;
    word = 2047, memcpy(p + 0x238, &word, 4);
    word = 0x200, memcpy(p + 0x248, &word, 4);
    word = (uint32_t)size, memcpy(p + 0x24c, &word, 4);
    word = 0x1000000, memcpy(p + 0x258, &word, 4);
    memcpy(p + at, data, size);
    *out_size = at + size;
    return p;
}

static uint8_t *plain(const uint8_t *data, size_t size) {
    uint8_t *p = malloc(size ? size : 1);
    if (!p)
        abort();
    memcpy(p, data, size);
    return p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const unsigned bits[] = {16, 32, 64, 7};
    char text[256] = "";
    struct err err = {text, sizeof(text)};
    if (size < HEAD)
        return 0;
    struct ram ram = {.size = (2ull << 20) << (data[1] % 8)};
    struct load l = {
        .ram = ram.size,
        .write = write_ram,
        .opaque = &ram,
        .name = "fuzz",
        .append = data[2] & 4 ? "nokaslr" : "quiet",
        .initrd_name = "initrd",
        .initrd = data[2] & 1 ? data : NULL,
        .initrd_size = data[2] & 1 ? size : 0,
        .format = (enum machine_format)(data[0] % (FMT_FLAT + 1)),
        .flat_bits = bits[data[3] & 3],
        .flat_addr = (uint64_t)(data[3] >> 2) << 14,
        .seed = data[3],
        .cpu_la57 = data[2] & 2,
        .rsdp = ACPI_BASE,
        .err = &err,
        .image_size = size - HEAD,
    };
    ram.base = mmap(NULL, ram.size, PROT_READ | PROT_WRITE,
                    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (ram.base == MAP_FAILED)
        abort();
    l.image = data[2] & 8 ? wrap(data + HEAD, size - HEAD, &l.image_size)
                          : plain(data + HEAD, size - HEAD);
    int rc = load_image(&l);
    if (rc > 0 || (rc < 0 && !text[0]) || strchr(text, '\n'))
        abort();
    free(l.image);
    munmap(ram.base, ram.size);
    return 0;
}
