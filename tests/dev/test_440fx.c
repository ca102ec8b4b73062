/* SPDX-License-Identifier: MIT */
/* What firmware looks for: the i440FX with its PAM registers, the chips behind it, the debug port. */
#include "driver.h"
#include "tests/suite.h"

#include <stdlib.h>
#include <string.h>

static struct fx fx;
static uint8_t pam[PCI_PAM_SIZE];
static unsigned moves;
static uint8_t said[4];
static unsigned saids;

static void moved(void *opaque, const uint8_t now[PCI_PAM_SIZE]) {
    memcpy(pam, now, sizeof(pam));
    moves++;
}

static void say(void *opaque, uint8_t byte) {
    said[saids++ % sizeof(said)] = byte;
}

static void setup(void) {
    const struct pci_pam to = {.moved = moved};
    fx_init(&fx);
    struct misc *misc = misc_create(&fx.env);
    struct pci_host *host = pci_host_create_440fx(&fx.env, &to);
    ck_assert(misc && host && piix4_create(&fx.env, host));
    misc_set_pci(misc, host);
    moves = saids = 0;
}

static void teardown(void) {
    fx_done(&fx);
}

static uint32_t get(unsigned slot, unsigned function, unsigned at) {
    out32(&fx, 0xcf8, 0x80000000u | slot << 11 | function << 8 | at);
    return in32(&fx, 0xcfc);
}

static void set(unsigned slot, unsigned function, unsigned at, uint32_t value) {
    out32(&fx, 0xcf8, 0x80000000u | slot << 11 | function << 8 | at);
    out32(&fx, 0xcfc, value);
}

START_TEST(firmware_finds_qemus_ids) {
    ck_assert_uint_eq(get(0, 0, 0), 0x12378086);
    ck_assert_uint_eq(get(0, 0, 0x2c), 0x11001af4);
    ck_assert_uint_eq(get(1, 0, 0), 0x70008086);
    ck_assert_uint_eq(get(1, 3, 0), 0x71138086);
    ck_assert_uint_eq(get(1, 0, 0x0c) >> 16, 0x80); /* it has other functions */
    ck_assert_uint_eq(get(1, 3, 0x0c) >> 16, 0);
    ck_assert_uint_eq(get(1, 1, 0), 0xffffffff);
    ck_assert_uint_eq(get(1, 2, 0), 0xffffffff);
    ck_assert_uint_eq(get(2, 0, 0), 0xffffffff);
    ck_assert_uint_eq(rd32(&fx, PCI_ECAM_BASE + (1 << 15) + (3 << 12)), 0x71138086);
}
END_TEST

START_TEST(the_pm_block_stays_where_it_is) {
    set(1, 3, 0x40, 0xb001);
    ck_assert_uint_eq(get(1, 3, 0x40), ACPI_PM_BASE | 1);
    set(1, 3, 0x80, 0);
    ck_assert_uint_eq(get(1, 3, 0x80) & 1, 1);
    ck_assert_uint_eq(get(1, 3, 0x58) >> 25 & 1, 1); /* SMIs are somebody else's */
    set(1, 0, 0x60, 0x0b0b0a0a);
    ck_assert_uint_eq(get(1, 0, 0x60), 0x0b0b0a0a);
}
END_TEST

START_TEST(pam_has_its_bits_and_tells_of_each_write) {
    ck_assert_uint_eq(moves, 0);
    set(0, 0, 0x58, 0xffffffff);
    ck_assert_uint_eq(moves, 1);
    ck_assert_uint_eq(get(0, 0, 0x58), 0x33333000);
    set(0, 0, 0x5c, 0xffffffff);
    static const uint8_t all[] = {0x30, 0x33, 0x33, 0x33, 0x33, 0x33, 0x33};
    ck_assert_mem_eq(pam, all, sizeof(all));
    set(0, 0, 0x54, 0xffffffff);
    set(0, 0, 0x60, 0xffffffff);
    ck_assert_uint_eq(moves, 2);
    ck_assert_uint_eq(get(0, 0, 0x60), 0);
}
END_TEST

START_TEST(pam_outlives_sleep_and_a_saved_state_tells_it) {
    set(0, 0, 0x58, 0x31323000);
    dev_bus_sleep(fx.bus);
    ck_assert_uint_eq(get(0, 0, 0x58), 0x31323000);
    struct device *d = *dev_bus_devices(fx.bus);
    while (strcmp(d->class->name, "pci_host") != 0)
        d = d->next;
    uint8_t *s = malloc(d->class->state_size);
    dev_save(d, s);
    set(0, 0, 0x58, 0);
    ck_assert_uint_eq(pam[1], 0);
    ck_assert_int_eq(dev_load(d, s), 0);
    ck_assert_uint_eq(pam[1], 0x32);
    free(s);
}
END_TEST

START_TEST(the_debug_port_is_there_for_who_looks) {
    const struct debugcon_config con = {.out = say};
    ck_assert_uint_eq(in8(&fx, 0x402), 0xff);
    ck_assert_ptr_nonnull(debugcon_create(&fx.env, &con));
    ck_assert_uint_eq(in8(&fx, 0x402), 0xe9);
    out8(&fx, 0x402, 'a');
    out8(&fx, 0x402, 'b');
    ck_assert_uint_eq(saids, 2);
    ck_assert_mem_eq(said, "ab", 2);
}
END_TEST

START_TEST(a_debug_port_that_nobody_looks_at_says_so) {
    const struct debugcon_config con = {.out = NULL};
    ck_assert_ptr_nonnull(debugcon_create(&fx.env, &con));
    ck_assert_uint_eq(in8(&fx, 0x402), 0xff);
    out8(&fx, 0x402, 'a');
    ck_assert_uint_eq(saids, 0);
}
END_TEST

SUITE("440fx", .setup = setup, .teardown = teardown,
      .tests = {firmware_finds_qemus_ids, the_pm_block_stays_where_it_is,
                pam_has_its_bits_and_tells_of_each_write,
                pam_outlives_sleep_and_a_saved_state_tells_it,
                the_debug_port_is_there_for_who_looks,
                a_debug_port_that_nobody_looks_at_says_so})
