/* SPDX-License-Identifier: MIT */
/*
 * Where a virtio device has bells (dev_host.put_bell): at the notification of each queue that is
 * enabled, wherever the BAR is, and nowhere else. What a bell says late changes nothing.
 */
#include "driver.h"
#include "tests/suite.h"

#include <stdlib.h>
#include <string.h>

#define SLOT   2u
#define MOVED  0xd0000000u
#define NOTIFY 0x3000u
#define DATA   DRV_BUFFERS
#define BELLS  8u

static struct fx fx;
static struct drv d;
static struct dev_bell *bell[BELLS];
static unsigned bells;
static uint64_t served;

static void put_bell(void *opaque, struct dev_bell *b, pn_gpa at) {
    ck_assert_ptr_eq(opaque, &fx);
    ck_assert_uint_ne(b->at, at); /* no news is not told */
    b->at = at;
    for (unsigned i = 0; i < bells; i++)
        if (bell[i] == b)
            return;
    ck_assert_uint_lt(bells, BELLS);
    bell[bells++] = b;
}

static unsigned placed(void) {
    unsigned n = 0;
    for (unsigned i = 0; i < bells; i++)
        n += bell[i]->at != DEV_NOWHERE;
    return n;
}

static bool real_time(void *opaque) {
    return true;
}

static void fill(void *buf, size_t size) {
    memset(buf, 0x5a, size);
    served += size;
}

static void setup(void) {
    bells = 0;
    served = 0;
    fx_init(&fx);
    fx.env.host.put_bell = put_bell;
    fx.env.host.real_time = real_time;
    struct pci_host *host = pci_host_create(&fx.env);
    const struct virtio_rng_config c = {.virtio = {.host = host, .slot = SLOT},
                                        .fill = fill};
    ck_assert_ptr_nonnull(virtio_rng_create(&fx.env, &c));
}

static void teardown(void) {
    fx_done(&fx);
}

static void begin(void) {
    drv_begin(&d, &fx, SLOT, 0, DRV_PACKED_BIT | DRV_EVENT_BIT);
}

static void config(unsigned at, unsigned size, uint32_t value) {
    dev_bus_mmio_write(fx.bus, drv_config(SLOT, at), size, value);
}

static void flr(void) {
    unsigned at = rd32(&fx, drv_config(SLOT, 0x34)) & 0xff;
    while ((rd32(&fx, drv_config(SLOT, at)) & 0xff) != 0x13)
        at = rd32(&fx, drv_config(SLOT, at)) >> 8 & 0xff;
    config(at + 4, 1, 1);
}

START_TEST(a_queue_has_one_from_its_enabling_to_the_reset) {
    ck_assert_uint_eq(placed(), 0);
    begin();
    ck_assert_uint_eq(placed(), 1);
    ck_assert_uint_eq(bell[0]->at, d.bar + NOTIFY);
    dev_bus_mmio_write(fx.bus, d.bar + DRV_STATUS, 1, 0);
    ck_assert_uint_eq(placed(), 0);
    begin();
    flr();
    ck_assert_uint_eq(placed(), 0);
}
END_TEST

START_TEST(it_goes_where_the_bar_goes) {
    begin();
    config(0x10, 4, MOVED);
    ck_assert_uint_eq(bell[0]->at, MOVED + NOTIFY);
    config(4, 2, 4); /* no memory space */
    ck_assert_uint_eq(placed(), 0);
    config(4, 2, 6);
    ck_assert_uint_eq(bell[0]->at, MOVED + NOTIFY);
    config(0x10, 4, PCI_ECAM_BASE); /* there is something else */
    ck_assert_uint_eq(placed(), 0);
    config(0x10, 4, (uint32_t)d.bar);
    ck_assert_uint_eq(bell[0]->at, d.bar + NOTIFY);
}
END_TEST

START_TEST(it_serves_the_queue_and_late_does_nothing) {
    const struct drv_segment s = {DATA, 16, DRV_WRITE};
    begin();
    drv_give(&d, &s, 1); /* by the bus: that goes on */
    ck_assert_int_eq(drv_take(&d), 16);
    ck_assert_uint_eq(served, 16);
    memset(fx.mem + d.driver + 4, 0, 2);
    d.next++;
    memcpy(fx.mem + d.driver + 2, &d.next, 2);
    bell[0]->rung(bell[0]);
    ck_assert_uint_eq(served, 32);
    bell[0]->rung(bell[0]); /* nothing is there */
    ck_assert_uint_eq(served, 32);
    d.next++;
    memcpy(fx.mem + d.driver + 2, &d.next, 2);
    config(4, 2, 2); /* no bus master any more */
    bell[0]->rung(bell[0]);
    flr();
    bell[0]->rung(bell[0]);
    ck_assert_uint_eq(served, 32);
    begin(); /* a new driver, whose ring is empty */
    bell[0]->rung(bell[0]);
    ck_assert_uint_eq(served, 32);
}
END_TEST

START_TEST(a_state_that_is_loaded_brings_them) {
    begin();
    struct device *dev = *dev_bus_devices(fx.bus);
    void *state = malloc(dev->class->state_size);
    dev_save(dev, state);
    flr();
    ck_assert_uint_eq(placed(), 0);
    ck_assert_int_eq(dev_load(dev, state), 0);
    ck_assert_uint_eq(bell[0]->at, d.bar + NOTIFY);
    free(state);
}
END_TEST

SUITE("virtio_bell", .setup = setup, .teardown = teardown,
      .tests = {a_queue_has_one_from_its_enabling_to_the_reset,
                it_goes_where_the_bar_goes, it_serves_the_queue_and_late_does_nothing,
                a_state_that_is_loaded_brings_them})
