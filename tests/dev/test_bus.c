/* SPDX-License-Identifier: MIT */
/* Dispatch, splitting, widening, absent devices, overlaps and moves. */
#include <errno.h>
#include <string.h>

#include "fixture.h"
#include "tests/suite.h"

static struct fx f;

static void setup(void) {
    fx_init(&f);
}

static void teardown(void) {
    fx_done(&f);
}

struct mem {
    uint8_t byte[32];
    unsigned calls, last_size;
    uint64_t last_offset, size;
};

static uint64_t mem_read(void *dev, uint64_t offset, unsigned size) {
    struct mem *m = dev;
    uint64_t v = 0;

    ck_assert_uint_le(offset + size, m->size);
    memcpy(&v, m->byte + offset, size);
    m->calls++;
    m->last_size = size;
    m->last_offset = offset;
    return v | (size < 8 ? ~0ull << size * 8 : 0); /* junk above is cut off */
}

static void mem_write(void *dev, uint64_t offset, unsigned size, uint64_t value) {
    struct mem *m = dev;

    ck_assert_uint_le(offset + size, m->size);
    if (size < 8)
        ck_assert_uint_eq(value >> size * 8, 0);
    memcpy(m->byte + offset, &value, size);
    m->calls++;
    m->last_size = size;
    m->last_offset = offset;
}

static const struct dev_ops byte_ops = {"b", 1, 1, mem_read, mem_write};
static const struct dev_ops any_ops = {"any", 1, 8, mem_read, mem_write};
static const struct dev_ops dword_ops = {"d", 4, 4, mem_read, mem_write};
static const struct dev_ops bad_ops = {"bad", 4, 2, mem_read, mem_write};

START_TEST(an_access_that_nobody_claims_reads_ones) {
    ck_assert_uint_eq(dev_bus_pio_read(f.bus, 0x123, 1), 0xff);
    ck_assert_uint_eq(dev_bus_pio_read(f.bus, 0xffff, 4), 0xffffffffu);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, UINT64_MAX, 8), UINT64_MAX);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0, 2), 0xffff);
    dev_bus_pio_write(f.bus, 0xffff, 4, 1);
    dev_bus_mmio_write(f.bus, UINT64_MAX, 8, 1);
    for (unsigned size = 0; size < 40; size += 3) { /* sizes that no CPU has */
        dev_bus_pio_read(f.bus, 0xfffe, size);
        dev_bus_pio_write(f.bus, 0xfffe, size, 0);
        dev_bus_mmio_read(f.bus, UINT64_MAX - 1, size);
    }
}
END_TEST

START_TEST(an_access_across_devices_is_split) {
    struct mem a = {.size = 2}, b = {.size = 4};

    ck_assert_int_ge(dev_bus_add_pio(f.bus, 0x10, 2, &byte_ops, &a), 0);
    ck_assert_int_ge(dev_bus_add_pio(f.bus, 0x12, 4, &any_ops, &b), 0);
    dev_bus_pio_write(f.bus, 0x10, 4, 0x44332211);
    ck_assert_uint_eq(a.calls, 2);
    ck_assert_uint_eq(b.calls, 1);
    ck_assert_uint_eq(b.last_size, 2);
    ck_assert_uint_eq(dev_bus_pio_read(f.bus, 0x10, 4), 0x44332211);
    ck_assert_uint_eq(dev_bus_pio_read(f.bus, 0x0f, 4), 0x332211ff);
    ck_assert_uint_eq(dev_bus_pio_read(f.bus, 0x14, 4), 0xffff0000);
}
END_TEST

START_TEST(a_narrow_read_is_widened_to_the_units_of_its_device) {
    struct mem d = {.size = 16, .byte = {1, 2, 3, 4, 5, 6, 7, 8}};

    ck_assert_int_ge(dev_bus_add_mmio(f.bus, 0x1000, 16, &dword_ops, &d), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1001, 1), 2);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1006, 2), 0x0807);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1000, 8), 0x0807060504030201);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1003, 2), 0x0504); /* of two units */
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1001, 3), 0x040302);
    ck_assert_uint_eq(d.last_size, 4);
}
END_TEST

START_TEST(a_write_narrower_than_a_unit_is_dropped) {
    struct mem d = {.size = 16};

    ck_assert_int_ge(dev_bus_add_mmio(f.bus, 0x1000, 16, &dword_ops, &d), 0);
    d.calls = 0;
    dev_bus_mmio_write(f.bus, 0x1000, 2, 0xffff); /* too narrow: dropped */
    ck_assert_uint_eq(d.calls, 0);
    dev_bus_mmio_write(f.bus, 0x1000, 8, 0x1122334455667788);
    ck_assert_uint_eq(d.calls, 2);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1000, 8), 0x1122334455667788);
}
END_TEST

START_TEST(ranges_that_overlap_or_cannot_be_are_refused) {
    struct mem m = {.size = 16};

    ck_assert_int_ge(dev_bus_add_pio(f.bus, 0x10, 4, &byte_ops, &m), 0);
    ck_assert_int_eq(dev_bus_add_pio(f.bus, 0x13, 1, &byte_ops, &m), -EEXIST);
    ck_assert_int_eq(dev_bus_add_pio(f.bus, 0x0e, 3, &byte_ops, &m), -EEXIST);
    ck_assert_int_ge(dev_bus_add_pio(f.bus, 0x14, 1, &byte_ops, &m), 0);
    ck_assert_int_eq(dev_bus_add_pio(f.bus, 0xfff0, 17, &byte_ops, &m), -EINVAL);
    ck_assert_int_eq(dev_bus_add_pio(f.bus, 0x20, 0, &byte_ops, &m), -EINVAL);
    ck_assert_int_eq(dev_bus_add_pio(f.bus, 0x20, 1, &bad_ops, &m), -EINVAL);
    ck_assert_int_eq(dev_bus_add_mmio(f.bus, ~0ull << 3, 16, &any_ops, &m), -EINVAL);
    ck_assert_int_ge(dev_bus_add_pio(f.bus, 0xfff0, 16, &byte_ops, &m), 0);
}
END_TEST

START_TEST(a_range_moves_by_its_handle) {
    struct mem a = {.size = 16, .byte = {0xaa}}, b = {.size = 16, .byte = {0xbb}};

    int first = dev_bus_add_mmio(f.bus, 0x1000, 16, &any_ops, &a);
    ck_assert_int_ge(dev_bus_add_mmio(f.bus, 0x2000, 16, &any_ops, &b), 0);
    ck_assert_int_eq(dev_bus_move(f.bus, first, 0x3000), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1000, 1), 0xff);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x3000, 1), 0xaa);
    ck_assert_int_eq(dev_bus_move(f.bus, first, 0x2008), -EEXIST);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x3000, 1), 0xff); /* nowhere */
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x2000, 1), 0xbb);
    ck_assert_int_eq(dev_bus_move(f.bus, first, UINT64_MAX - 3), -EINVAL);
    ck_assert_int_eq(dev_bus_move(f.bus, first, 0x2010), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x2010, 1), 0xaa);
}
END_TEST

/* As the BARs of a PCI device do: each on its own, ports too, and back to nowhere. */
START_TEST(two_ranges_of_one_device_move_apart) {
    struct mem m = {.size = 16, .byte = {0xaa}};

    int mmio = dev_bus_add_mmio(f.bus, DEV_NOWHERE, 16, &any_ops, &m);
    int other = dev_bus_add_mmio(f.bus, DEV_NOWHERE, 16, &any_ops, &m);
    int pio = dev_bus_add_pio(f.bus, DEV_NOWHERE, 4, &byte_ops, &m);
    ck_assert_int_eq(dev_bus_move(f.bus, other, 0x2000), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1000, 1), 0xff);
    ck_assert_int_eq(dev_bus_move(f.bus, mmio, 0x1000), 0);
    ck_assert_int_eq(dev_bus_move(f.bus, pio, 0xc000), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1000, 1), 0xaa);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x2000, 1), 0xaa);
    ck_assert_uint_eq(dev_bus_pio_read(f.bus, 0xc000, 1), 0xaa);
    ck_assert_int_eq(dev_bus_move(f.bus, mmio, DEV_NOWHERE), 0);
    ck_assert_int_eq(dev_bus_move(f.bus, pio, 0xfffe), -EINVAL);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1000, 1), 0xff);
    ck_assert_uint_eq(dev_bus_pio_read(f.bus, 0xc000, 1), 0xff);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x2000, 1), 0xaa);
}
END_TEST

START_TEST(a_handle_outlives_the_removal_of_another_device) {
    struct mem a = {.size = 16, .byte = {0xaa}}, b = {.size = 16, .byte = {0xbb}};

    int first = dev_bus_add_mmio(f.bus, 0x1000, 16, &any_ops, &a);
    int second = dev_bus_add_mmio(f.bus, 0x2000, 16, &any_ops, &b);
    dev_bus_remove(f.bus, &a);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1000, 1), 0xff);
    ck_assert_int_eq(dev_bus_move(f.bus, second, 0x1008), 0);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x1008, 1), 0xbb);
    ck_assert_int_eq(dev_bus_move(f.bus, first, 0x5000), -ENOENT);
    ck_assert_int_eq(dev_bus_move(f.bus, 7, 0x5000), -ENOENT);
    ck_assert_int_eq(dev_bus_move(f.bus, -EEXIST, 0x5000), -ENOENT);
    ck_assert_int_eq(dev_bus_add_mmio(f.bus, 0x3000, 16, &any_ops, &a), first);
    ck_assert_uint_eq(dev_bus_mmio_read(f.bus, 0x3000, 1), 0xaa);
}
END_TEST

SUITE("bus", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {an_access_that_nobody_claims_reads_ones,
                an_access_across_devices_is_split,
                a_narrow_read_is_widened_to_the_units_of_its_device,
                a_write_narrower_than_a_unit_is_dropped,
                ranges_that_overlap_or_cannot_be_are_refused, a_range_moves_by_its_handle,
                two_ranges_of_one_device_move_apart,
                a_handle_outlives_the_removal_of_another_device})
