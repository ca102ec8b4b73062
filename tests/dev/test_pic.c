/* SPDX-License-Identifier: MIT */
/* 8259 pair: initialisation, priorities, every EOI and rotation, special modes, polling,
 * levels, the cascade, spurious interrupts. Seen through ports and intc_peek/ack. */
#include "fixture.h"
#include "tests/suite.h"

static struct fx f;

static void init_pic(uint8_t icw4_master, uint8_t icw4_slave) {
    out8(&f, 0x20, 0x11);
    out8(&f, 0x21, 0x20);
    out8(&f, 0x21, 0x04);
    out8(&f, 0x21, icw4_master);
    out8(&f, 0xa0, 0x11);
    out8(&f, 0xa1, 0x28);
    out8(&f, 0xa1, 0x02);
    out8(&f, 0xa1, icw4_slave);
}

static void setup(void) {
    fx_init(&f);
    fx_intc(&f, 1000000000);
    init_pic(1, 1);
}

static void teardown(void) {
    fx_done(&f);
}

static void line(unsigned gsi, int level) {
    f.line.set(f.line.opaque, gsi, level);
}

static void pulse(unsigned gsi) {
    line(gsi, 1);
    line(gsi, 0);
}

static int peek(void) {
    return intc_peek(f.intc, 0);
}

static int ack(void) {
    return intc_ack(f.intc, 0);
}

START_TEST(icw1_clears_the_mask) {
    ck_assert_int_eq(peek(), -1);
    ck_assert_uint_eq(in8(&f, 0x21), 0);
    out8(&f, 0x21, 0xfb);
    ck_assert_uint_eq(in8(&f, 0x21), 0xfb);
    out8(&f, 0x20, 0x11); /* ICW1 clears the mask */
    out8(&f, 0x21, 0x40);
    out8(&f, 0x21, 0x04);
    out8(&f, 0x21, 0x01);
    ck_assert_uint_eq(in8(&f, 0x21), 0);
    pulse(3);
    ck_assert_int_eq(peek(), 0x43);
}
END_TEST

START_TEST(only_a_higher_input_nests) {
    pulse(5);
    ck_assert_uint_gt(f.kicks[0], 0);
    pulse(3);
    ck_assert_int_eq(ack(), 0x23);
    ck_assert_int_eq(peek(), -1); /* 5 waits for 3 */
    pulse(1);
    ck_assert_int_eq(ack(), 0x21); /* 1 nests */
    out8(&f, 0x20, 0x0b);
    ck_assert_uint_eq(in8(&f, 0x20), 0x0a); /* ISR */
    out8(&f, 0x20, 0x0a);
    ck_assert_uint_eq(in8(&f, 0x20), 0x20); /* IRR */
    out8(&f, 0x20, 0x20);                   /* EOI of 1 */
    ck_assert_int_eq(peek(), -1);
    unsigned kicks = f.kicks[0];

    out8(&f, 0x20, 0x20); /* EOI of 3 */
    ck_assert_uint_gt(f.kicks[0], kicks);
    ck_assert_int_eq(ack(), 0x25);
    out8(&f, 0x20, 0x65); /* specific EOI of 5 */
    out8(&f, 0x20, 0x0b);
    ck_assert_uint_eq(in8(&f, 0x20), 0);
}
END_TEST

START_TEST(a_mask_withdraws_a_request_without_losing_its_edge) {
    out8(&f, 0x21, 0xff);
    pulse(4);
    ck_assert_int_eq(peek(), -1);
    out8(&f, 0x21, 0xef);
    ck_assert_int_eq(peek(), 0x24); /* the edge was kept */
    unsigned kicks = f.kicks[0];

    out8(&f, 0x21, 0xff);
    ck_assert_int_eq(peek(), -1);
    ck_assert_uint_gt(f.kicks[0], kicks); /* told of the withdrawal */
}
END_TEST

START_TEST(an_interrupt_of_the_slave_takes_two_eois) {
    pulse(12);
    pulse(8);
    ck_assert_int_eq(ack(), 0x28);
    ck_assert_int_eq(peek(), -1);
    out8(&f, 0xa0, 0x20);
    ck_assert_int_eq(peek(), -1); /* the master's cascade is still in service */
    out8(&f, 0x20, 0x62);
    ck_assert_int_eq(ack(), 0x2c);
    pulse(2); /* the cascade's own input does not exist */
    out8(&f, 0xa0, 0x20);
    out8(&f, 0x20, 0x20);
    ck_assert_int_eq(peek(), -1);
}
END_TEST

START_TEST(special_fully_nested_mode_lets_a_higher_slave_input_through) {
    init_pic(0x11, 1);
    pulse(12);
    ck_assert_int_eq(ack(), 0x2c);
    pulse(9); /* higher on the slave: passes through the busy cascade */
    ck_assert_int_eq(ack(), 0x29);
}
END_TEST

START_TEST(a_level_is_requested_as_long_as_it_lasts) {
    out8(&f, 0x4d1, 0xff);
    ck_assert_uint_eq(in8(&f, 0x4d1), 0xde);
    out8(&f, 0x4d0, 0xff);
    ck_assert_uint_eq(in8(&f, 0x4d0), 0xf8);
    line(10, 1);
    ck_assert_int_eq(ack(), 0x2a);
    out8(&f, 0xa0, 0x20);
    out8(&f, 0x20, 0x20);
    ck_assert_int_eq(ack(), 0x2a); /* still asserted */
    line(10, 0);
    out8(&f, 0xa0, 0x20);
    out8(&f, 0x20, 0x20);
    ck_assert_int_eq(peek(), -1);
    line(10, 1);
    line(10, 0); /* a level that goes away is gone */
    ck_assert_int_eq(peek(), -1);
}
END_TEST

START_TEST(rotation_moves_the_lowest_priority) {
    out8(&f, 0x20, 0xc3); /* 3 is the lowest, 4 the highest */
    pulse(3);
    pulse(4);
    pulse(1);
    ck_assert_int_eq(ack(), 0x24);
    out8(&f, 0x20, 0xa0); /* rotate on EOI: 4 the lowest, 5 the highest */
    pulse(5);
    pulse(4);
    ck_assert_int_eq(ack(), 0x25);
    out8(&f, 0x20, 0xe5); /* rotate on specific EOI: 6 the highest */
    ck_assert_int_eq(ack(), 0x21);
    out8(&f, 0x20, 0x20);
    ck_assert_int_eq(ack(), 0x23);
    out8(&f, 0x20, 0x20);
    ck_assert_int_eq(ack(), 0x24);
}
END_TEST

START_TEST(automatic_eoi_leaves_nothing_in_service) {
    init_pic(3, 1);
    pulse(3);
    ck_assert_int_eq(ack(), 0x23);
    pulse(5);
    ck_assert_int_eq(ack(), 0x25); /* nothing in service */
    out8(&f, 0x20, 0x80);          /* rotate in automatic EOI mode */
    pulse(3);
    ck_assert_int_eq(ack(), 0x23);
    pulse(3);
    pulse(4);
    ck_assert_int_eq(ack(), 0x24);
    out8(&f, 0x20, 0x00);
    ck_assert_int_eq(ack(), 0x23);
}
END_TEST

START_TEST(special_mask_mode_lets_lower_inputs_pass_a_masked_one) {
    pulse(3);
    ck_assert_int_eq(ack(), 0x23);
    out8(&f, 0x21, 0x08);
    out8(&f, 0x20, 0x68); /* special mask mode: a masked, busy 3 blocks nobody */
    pulse(6);
    ck_assert_int_eq(ack(), 0x26);
    out8(&f, 0x20, 0x20); /* non-specific EOI finds 6, not the masked 3 */
    out8(&f, 0x20, 0x0b);
    ck_assert_uint_eq(in8(&f, 0x20), 0x08);
    out8(&f, 0x20, 0x48); /* off again */
    pulse(6);
    ck_assert_int_eq(peek(), -1);
}
END_TEST

START_TEST(a_poll_acknowledges_the_request) {
    out8(&f, 0x20, 0x0c);
    ck_assert_uint_eq(in8(&f, 0x20), 0);
    pulse(6);
    out8(&f, 0x20, 0x0c);
    ck_assert_uint_eq(in8(&f, 0x20), 0x86);
    ck_assert_int_eq(peek(), -1);
    ck_assert_uint_eq(in8(&f, 0x20), 0); /* IRR again */
}
END_TEST

START_TEST(unknown_cpus_and_lines_give_no_interrupt) {
    ck_assert_int_eq(ack(), -1);
    ck_assert_int_eq(intc_ack(f.intc, 99), -1);
    ck_assert_int_eq(intc_peek(f.intc, 99), -1);
    line(31, 1); /* gsis that do not exist */
    line(24, 1);
    line(UINT32_MAX, 1);
    ck_assert_int_eq(peek(), -1);
}
END_TEST

START_TEST(a_single_8259_is_set_up_without_icw4) {
    out8(&f, 0x20, 0x12); /* single, no ICW4 */
    out8(&f, 0x21, 0x50);
    out8(&f, 0x21, 0x7f); /* already OCW1 */
    ck_assert_uint_eq(in8(&f, 0x21), 0x7f);
    pulse(7);
    ck_assert_int_eq(peek(), 0x57);
}
END_TEST

SUITE("pic", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {icw1_clears_the_mask, only_a_higher_input_nests,
                a_mask_withdraws_a_request_without_losing_its_edge,
                an_interrupt_of_the_slave_takes_two_eois,
                special_fully_nested_mode_lets_a_higher_slave_input_through,
                a_level_is_requested_as_long_as_it_lasts,
                rotation_moves_the_lowest_priority,
                automatic_eoi_leaves_nothing_in_service,
                special_mask_mode_lets_lower_inputs_pass_a_masked_one,
                a_poll_acknowledges_the_request, unknown_cpus_and_lines_give_no_interrupt,
                a_single_8259_is_set_up_without_icw4})
