/* SPDX-License-Identifier: MIT */
/* pc-testdev as kvm-unit-tests use it. */
#include "fixture.h"
#include "tests/suite.h"

static struct fx f;
static struct testdev *t;

static void setup(void) {
    fx_init(&f);
    t = testdev_create(&f.env);
    ck_assert_ptr_nonnull(t);
}

static void teardown(void) {
    fx_done(&f);
}

START_TEST(the_echo_port_reads_back) {
    out32(&f, 0xe0, 0x12345678);
    ck_assert_uint_eq(in32(&f, 0xe0), 0x12345678);
    ck_assert_uint_eq(in8(&f, 0xe1), 0x56);
    out8(&f, 0xe2, 0xab);
    out16(&f, 0xe0, 0xcdef);
    ck_assert_uint_eq(in32(&f, 0xe0), 0x12abcdef);
    ck_assert_uint_eq(in32(&f, 0xe8), 0x12abcdef); /* byte by byte, the same memory */
    out32(&f, 0xe8, 0x01020304);
    ck_assert_uint_eq(in32(&f, 0xe0), 0x01020304);
    ck_assert_uint_eq(in32(&f, 0xe2), 0xffff0102); /* across into the flush port */
}
END_TEST

START_TEST(the_flush_port_reads_ones) {
    out32(&f, 0xe4, 0xfffff000);
    out8(&f, 0xe4, 1);
    ck_assert_uint_eq(in32(&f, 0xe4), 0xffffffff);
}
END_TEST

START_TEST(each_line_port_drives_its_line) {
    for (unsigned n = 0; n < 24; n++) {
        out8(&f, (uint16_t)(0x2000 + n), 0x80);
        ck_assert_int_eq(f.level[n], 1);
        out8(&f, (uint16_t)(0x2000 + n), 0);
        ck_assert_int_eq(f.level[n], 0);
    }
    out8(&f, 0x2018, 1);
    ck_assert_uint_eq(in8(&f, 0x2000), 0xff);
}
END_TEST

START_TEST(the_test_memory_reads_back) {
    wr32(&f, 0xff000000, 0xdeadbeef);
    ck_assert_uint_eq(rd32(&f, 0xff000000), 0xdeadbeef);
    dev_bus_mmio_write(f.bus, 0xff00fff8, 8, 0x1122334455667788);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0xff00fff8, 8), 0x1122334455667788);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0xff00fffc, 8), 0xffffffff11223344);
    dev_bus_mmio_write(f.bus, 0xff00ffff, 8, 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0xff00ffff, 1), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0xff010000, 1), 0xff);
}
END_TEST

SUITE("testdev", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {the_echo_port_reads_back, the_flush_port_reads_ones,
                each_line_port_drives_its_line, the_test_memory_reads_back})
