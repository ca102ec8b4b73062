/* SPDX-License-Identifier: MIT */
/* FERR#, gsi 13 and port 0xf0 (Intel 82371AB data sheet, "Coprocessor Error Register"). */
#include "fixture.h"
#include "tests/suite.h"

#define IRQ 13u

static struct fx f;
static struct ferr *p;

static void setup(void) {
    fx_init(&f);
    p = ferr_create(&f.env);
    ck_assert_ptr_nonnull(p);
}

static void teardown(void) {
    fx_done(&f);
}

START_TEST(ferr_interrupts_until_the_guest_writes_port_f0) {
    ck_assert_uint_eq(in8(&f, 0xf0), 0xff);
    ferr_set(p, true);
    ck_assert_int_eq(f.level[IRQ], 1);
    ferr_set(p, false); /* the exception goes, the interrupt stays */
    ck_assert_int_eq(f.level[IRQ], 1);
    out8(&f, 0xf0, 0);
    ck_assert_int_eq(f.level[IRQ], 0);
    ferr_set(p, true);
    ck_assert_uint_eq(f.rises[IRQ], 2);
}
END_TEST

START_TEST(while_ferr_lasts_port_f0_keeps_it_quiet) {
    ferr_set(p, true);
    ferr_set(p, true); /* told by each instruction that waits */
    ck_assert_uint_eq(f.rises[IRQ], 1);
    out8(&f, 0xf0, 0xff);
    ferr_set(p, true);
    ck_assert_int_eq(f.level[IRQ], 0);
    ferr_set(p, false);
    ferr_set(p, true); /* the next one */
    ck_assert_uint_eq(f.rises[IRQ], 2);
}
END_TEST

START_TEST(a_state_of_flags_alone_is_taken) {
    ferr_set(p, true);
    uint8_t state[2];
    dev_save(p, state);
    ck_assert_uint_eq(state[0] & state[1], 1);
    state[0] = 0;
    ck_assert_int_eq(dev_load(p, state), 0);
    state[1] = 2;
    ck_assert_int_lt(dev_load(p, state), 0);
    state[1] = 1, state[0] = 2;
    ck_assert_int_lt(dev_load(p, state), 0);
}
END_TEST

SUITE("ferr", .setup = setup, .teardown = teardown,
      .tests = {ferr_interrupts_until_the_guest_writes_port_f0,
                while_ferr_lasts_port_f0_keeps_it_quiet, a_state_of_flags_alone_is_taken})
