/* SPDX-License-Identifier: MIT */
/* fw_cfg: selector and data, DMA, the directory, limits. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fixture.h"
#include "tests/suite.h"

static struct fx f;
static struct fw_cfg *w;

static void setup(void) {
    fx_init(&f);
    w = fw_cfg_create(&f.env);
    ck_assert_ptr_nonnull(w);
}

static void teardown(void) {
    fx_done(&f);
}

static void fetch(uint16_t key, void *buf, size_t size) {
    uint8_t *p = buf;

    out16(&f, 0x510, key);
    while (size--)
        *p++ = in8(&f, 0x511);
}

static void be(uint8_t *p, unsigned size, uint64_t v) {
    for (unsigned n = 0; n < size; n++)
        p[n] = (uint8_t)(v >> (size - 1 - n) * 8);
}

static uint64_t get_be(const uint8_t *p, unsigned size) {
    uint64_t v = 0;

    while (size--)
        v = v << 8 | *p++;
    return v;
}

/* Run a DMA command with its structure at `at`. Return: the control field after it. */
static uint32_t dma(pn_gpa at, uint32_t control, uint32_t length, uint64_t addr) {
    uint8_t raw[8];

    if (at + 16 <= FX_MEM) {
        be(f.mem + at, 4, control);
        be(f.mem + at + 4, 4, length);
        be(f.mem + at + 8, 8, addr);
    }
    be(raw, 8, at);
    uint32_t high, low;

    memcpy(&high, raw, 4);
    memcpy(&low, raw + 4, 4);
    out32(&f, 0x514, high);
    out32(&f, 0x518, low);
    return at + 16 <= FX_MEM ? (uint32_t)get_be(f.mem + at, 4) : 0;
}

START_TEST(the_data_port_reads_the_selected_item) {
    uint8_t buf[16];

    fetch(0, buf, 6);
    ck_assert_mem_eq(buf, "QEMU\0\0", 6); /* zeros after the end */
    fetch(1, buf, 4);
    ck_assert_uint_eq(buf[0], 3);
    uint16_t cpus = 4;

    ck_assert_int_eq(fw_cfg_add(w, 5, &cpus, 2), 0);
    ck_assert_int_eq(fw_cfg_add(w, 5, &cpus, 2), -EEXIST);
    fetch(5, buf, 3);
    ck_assert_mem_eq(buf, "\4\0\0", 3);
    fetch(0x4005, buf, 1); /* the old write channel: the same item, read-only */
    ck_assert_uint_eq(buf[0], 4);
    out8(&f, 0x511, 9);
    fetch(5, buf, 1);
    ck_assert_uint_eq(buf[0], 4);
    fetch(0x3333, buf, 4);
    ck_assert_mem_eq(buf, "\0\0\0\0", 4);
    ck_assert_int_eq(fw_cfg_add(w, 0x8000, "arch", 4), 0);
    fetch(0x8000, buf, 4);
    ck_assert_mem_eq(buf, "arch", 4);
    ck_assert_int_eq(fw_cfg_add(w, 0x15, NULL, 0), 0);
    fetch(0x15, buf, 1);
    ck_assert_uint_eq(buf[0], 0);
    out8(&f, 0x510, 0); /* a byte selects nothing */
    ck_assert_uint_eq(in32(&f, 0x510) & 0xffff00ff, 0xffff00ff);
    ck_assert_uint_eq(in32(&f, 0x514), 0x554d4551);
    ck_assert_uint_eq(in32(&f, 0x518), 0x47464320);
}
END_TEST

START_TEST(the_directory_lists_the_files_that_were_taken) {
    uint8_t buf[4 + 64 * 2];

    fetch(0x19, buf, 4);
    ck_assert_uint_eq(get_be(buf, 4), 0);
    ck_assert_int_eq(fw_cfg_add_file(w, "etc/one", "hello", 5), 0);
    ck_assert_int_eq(fw_cfg_add_file(w, "opt/two", "hi", 2), 0);
    ck_assert_int_eq(fw_cfg_add_file(w, "opt/two", "hi", 2), -EINVAL);
    ck_assert_int_eq(fw_cfg_add_file(w, "", "hi", 2), -EINVAL);
    char name[57];

    memset(name, 'x', sizeof name);
    name[56] = 0;
    ck_assert_int_eq(fw_cfg_add_file(w, name, "hi", 2), -EINVAL);
    fetch(0x19, buf, sizeof buf);
    ck_assert_uint_eq(get_be(buf, 4), 2);
    ck_assert_uint_eq(get_be(buf + 4, 4), 5);
    ck_assert_uint_eq(get_be(buf + 8, 2), 0x20);
    ck_assert_str_eq((char *)buf + 12, "etc/one");
    ck_assert_uint_eq(get_be(buf + 68, 4), 2);
    ck_assert_uint_eq(get_be(buf + 72, 2), 0x21);
    ck_assert_str_eq((char *)buf + 76, "opt/two");
    fetch(0x21, buf, 2);
    ck_assert_mem_eq(buf, "hi", 2);
}
END_TEST

START_TEST(a_full_directory_takes_no_more_files) {
    char name[57];
    int rc = 0;

    for (unsigned n = 0; n < 200 && !rc; n++) {
        snprintf(name, sizeof name, "f%u", n);
        rc = fw_cfg_add_file(w, name, "x", 1);
    }
    ck_assert_int_eq(rc, -ENOSPC);
}
END_TEST

START_TEST(a_dma_command_ends_with_0_or_the_error_bit) {
    fw_cfg_add(w, 0x30, "0123456789", 10);
    memset(f.mem, 0xee, sizeof f.mem);
    ck_assert_uint_eq(dma(0x100, 0x30u << 16 | 8 | 2, 4, 0x200), 0); /* select, read */
    ck_assert_mem_eq(f.mem + 0x200, "0123\xee", 5);
    ck_assert_uint_eq(dma(0x100, 4, 2, 0), 0); /* skip */
    ck_assert_uint_eq(dma(0x100, 2, 8, 0x200), 0);
    ck_assert_mem_eq(f.mem + 0x200, "6789\0\0\0\0\xee", 9);
    ck_assert_uint_eq(dma(0x100, 4, UINT32_MAX, 0), 0);
    ck_assert_uint_eq(dma(0x100, 8 | 0x30u << 16, 0, 0), 0);
    ck_assert_uint_eq(in8(&f, 0x511), '0');         /* ports and DMA share the offset */
    ck_assert_uint_eq(dma(0x100, 16, 1, 0x200), 1); /* no writing */
    ck_assert_uint_eq(dma(0x100, 2, 4, FX_MEM - 2), 1); /* leaves memory */
    ck_assert_uint_eq(dma(0x100, 2, 4, UINT64_MAX - 1), 1);
    ck_assert_uint_eq(dma(0x100, 2, UINT32_MAX, 0x1000), 1); /* bounded */
    ck_assert_uint_eq(dma(0x100, 0x7777u << 16 | 8 | 2, 16, 0x200), 0);
    ck_assert_uint_eq(f.mem[0x20f], 0); /* an absent item reads as zeros */
    dma(FX_MEM - 8, 2, 4, 0x200);       /* the structure itself leaves memory */
    dma(UINT64_MAX - 4, 2, 4, 0x200);
    ck_assert_uint_eq(dma(0x200, 8 | 2 | 0x30u << 16, 10, 0x200), 0); /* over itself */
}
END_TEST

static size_t endless(void *opaque, pn_gpa gpa, const void *buf, size_t size) {
    (void)opaque;
    (void)gpa;
    (void)buf;
    f.code += (unsigned)size;
    return size;
}

START_TEST(one_dma_command_cannot_write_4_gib) {
    fx_done(&f);
    fx_init(&f);
    f.env.host.write_phys = endless;
    w = fw_cfg_create(&f.env);
    dma(0x100, 8 | 2, 0x10004, 0x200);
    ck_assert_uint_eq(f.code, 0x10004 + 4);
    f.code = 0;
    dma(0x100, 8 | 2, UINT32_MAX, 0x200);
    ck_assert_uint_eq(f.code, 4 + 4);
}
END_TEST

START_TEST(dma_without_guest_memory_is_harmless) {
    fx_done(&f);
    fx_init(&f);
    f.env.host.read_phys = NULL;
    f.env.host.write_phys = NULL;
    w = fw_cfg_create(&f.env);
    dma(0x100, 2, 4, 0x200);
}
END_TEST

SUITE("fw_cfg", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {the_data_port_reads_the_selected_item,
                the_directory_lists_the_files_that_were_taken,
                a_full_directory_takes_no_more_files,
                a_dma_command_ends_with_0_or_the_error_bit,
                one_dma_command_cannot_write_4_gib, dma_without_guest_memory_is_harmless})
