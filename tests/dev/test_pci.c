/* SPDX-License-Identifier: MIT */
/* PCI: configuration space by ports and by memory, the BAR, capabilities, reset. */
#include "driver.h"
#include "tests/suite.h"

#include <stdlib.h>
#include <string.h>

#define SLOT  3u
#define MOVED 0xd0000000u

static struct fx fx;
static struct pci_host *host;

static void setup(void) {
    fx_init(&fx);
    struct misc *misc = misc_create(&fx.env);
    host = pci_host_create(&fx.env);
    ck_assert(misc && host);
    misc_set_pci(misc, host);
    const struct virtio_rng_config c = {.virtio = {.host = host, .slot = SLOT}};
    ck_assert_ptr_nonnull(virtio_rng_create(&fx.env, &c));
}

static void teardown(void) {
    fx_done(&fx);
}

static uint32_t by_port(unsigned slot, unsigned at) {
    out32(&fx, 0xcf8, 0x80000000u | slot << 11 | at);
    return in32(&fx, 0xcfc);
}

static uint32_t get(unsigned at) {
    return rd32(&fx, drv_config(SLOT, at));
}

static void set(unsigned at, uint32_t value) {
    wr32(&fx, drv_config(SLOT, at), value);
}

static uint32_t queues_at(uint64_t bar) {
    return (uint32_t)dev_bus_mmio_read(fx.bus, bar + 0x12, 2);
}

START_TEST(ports_and_memory_show_the_same_functions) {
    ck_assert_uint_eq(by_port(0, 0), 0x00081b36);
    ck_assert_uint_eq(by_port(SLOT, 0), 0x10441af4);
    for (unsigned at = 0; at < 256; at += 4)
        ck_assert_uint_eq(by_port(SLOT, at), get(at));
    ck_assert_uint_eq(by_port(SLOT + 1, 0), 0xffffffff);
    ck_assert_uint_eq(by_port(SLOT, 0x100), 0xffffffff); /* function 1 */
    ck_assert_uint_eq(rd32(&fx, drv_config(SLOT, 0x100)), 0);
    out32(&fx, 0xcf8, SLOT << 11);
    ck_assert_uint_eq(in32(&fx, 0xcfc), 0xffffffff);
    out32(&fx, 0xcf8, 0x80000000u | SLOT << 11);
    ck_assert_uint_eq(in8(&fx, 0xcfe), 0x44);
    out8(&fx, 0xcf9, 6); /* the reset register is still there */
    ck_assert_uint_eq(fx.resets, 1);
}
END_TEST

START_TEST(the_bar_tells_its_size_and_moves) {
    uint64_t was = get(0x10);
    ck_assert_uint_eq(was, PCI_WINDOW_BASE + SLOT * 0x100000);
    ck_assert_uint_eq(queues_at(was), 1);
    set(4, 0);
    ck_assert_uint_eq(queues_at(was), 0xffff);
    set(0x10, 0xffffffff);
    ck_assert_uint_eq(get(0x10), ~(VIRTIO_BAR_SIZE - 1));
    set(0x10, MOVED);
    set(4, 2);
    ck_assert_uint_eq(queues_at(MOVED), 1);
    ck_assert_uint_eq(queues_at(was), 0xffff);
    set(0x10, PCI_ECAM_BASE); /* there is something else */
    ck_assert_uint_eq(rd32(&fx, PCI_ECAM_BASE), 0x00081b36);
    set(0x10, (uint32_t)was);
    ck_assert_uint_eq(queues_at(was), 1);
}
END_TEST

START_TEST(the_capabilities_end_and_have_what_a_driver_looks_for) {
    unsigned at = get(0x34) & 0xff, vendor = 0, msi = 0, msix = 0;
    unsigned af = 0, seen = 0;
    for (; at && seen < 32; at = get(at) >> 8 & 0xff, seen++) {
        vendor += (get(at) & 0xff) == 9;
        msi += (get(at) & 0xff) == 5;
        msix += (get(at) & 0xff) == 0x11;
        af += (get(at) & 0xff) == 0x13;
    }
    ck_assert_uint_eq(at, 0);
    ck_assert_uint_eq(vendor, 4); /* no configuration of its own */
    ck_assert_uint_eq(msi, 1);
    ck_assert_uint_eq(msix, 1);
    ck_assert_uint_eq(af, 1);
}
END_TEST

START_TEST(a_function_level_reset_is_power_on) {
    unsigned at = get(0x34) & 0xff;
    while ((get(at) & 0xff) != 0x13)
        at = get(at) >> 8 & 0xff;
    set(0x10, MOVED);
    set(4, 6);
    dev_bus_mmio_write(fx.bus, MOVED + DRV_STATUS, 1, 3);
    dev_bus_mmio_write(fx.bus, drv_config(SLOT, at + 4), 1, 1);
    ck_assert_uint_eq(get(0x10), PCI_WINDOW_BASE + SLOT * 0x100000);
    ck_assert_uint_eq(get(4) & 0xffff, 2);
    ck_assert_uint_eq(dev_bus_mmio_read(fx.bus, get(0x10) + DRV_STATUS, 1), 0);
}
END_TEST

START_TEST(a_state_with_other_fixed_bits_is_refused) {
    struct device *d = *dev_bus_devices(fx.bus);
    struct virtio_state *s = malloc(d->class->state_size);
    for (unsigned at = 0; at < 4; at++) {
        dev_save(d, s);
        ck_assert_int_eq(dev_load(d, s), 0);
        s->pci.config[at] ^= 1;
        ck_assert_int_ne(dev_load(d, s), 0);
    }
    dev_save(d, s);
    s->pci.at = MOVED; /* not where its BAR says */
    ck_assert_int_ne(dev_load(d, s), 0);
    free(s);
}
END_TEST

START_TEST(the_window_in_configuration_space_reaches_the_registers) {
    unsigned at = get(0x34) & 0xff;
    while ((get(at) & 0xff) != 9 || get(at) >> 24 != 5)
        at = get(at) >> 8 & 0xff;
    set(at + 8, 0x12);
    set(at + 12, 2);
    ck_assert_uint_eq(get(at + 16) & 0xffff, 1); /* queues */
    set(at + 8, DRV_STATUS);
    set(at + 12, 1);
    set(at + 16, 3);
    ck_assert_uint_eq(dev_bus_mmio_read(fx.bus, get(0x10) + DRV_STATUS, 1), 3);
    set(at + 8, VIRTIO_BAR_SIZE); /* beyond: nothing happens */
    set(at + 16, 0);
    ck_assert_uint_eq(dev_bus_mmio_read(fx.bus, get(0x10) + DRV_STATUS, 1), 3);
}
END_TEST

SUITE("pci", .setup = setup, .teardown = teardown,
      .tests = {
          ports_and_memory_show_the_same_functions, the_bar_tells_its_size_and_moves,
          the_capabilities_end_and_have_what_a_driver_looks_for,
          a_function_level_reset_is_power_on, a_state_with_other_fixed_bits_is_refused,
          the_window_in_configuration_space_reaches_the_registers})
