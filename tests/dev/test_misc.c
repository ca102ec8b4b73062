/* SPDX-License-Identifier: MIT */
/* Reset ports, debug exit, POST, absent PCI, and the 8042. */
#include "fixture.h"
#include "tests/suite.h"

static struct fx f;
static struct misc *m;

static void setup(void) {
    fx_init(&f);
    m = misc_create(&f.env);
    ck_assert_ptr_nonnull(m);
}

static void teardown(void) {
    fx_done(&f);
}

START_TEST(a_probe_for_pci_finds_nothing) {
    out8(&f, 0xcfb, 1); /* Linux' probe of configuration mechanism 1 */
    out32(&f, 0xcf8, 0x80000000);
    ck_assert_uint_eq(in32(&f, 0xcf8), 0xffffffff);
    ck_assert_uint_eq(in32(&f, 0xcfc), 0xffffffff);
    out8(&f, 0xcfb, 0); /* and 2 */
    out8(&f, 0xcf8, 0);
    out8(&f, 0xcfa, 0);
    ck_assert_uint_eq(in8(&f, 0xcf8), 0xff);
    ck_assert_uint_eq(f.resets, 0);
}
END_TEST

START_TEST(each_rise_of_the_reset_bit_resets) {
    ck_assert_uint_eq(in8(&f, 0xcf9), 0);
    out8(&f, 0xcf9, 0x02);
    ck_assert_uint_eq(f.resets, 0);
    out8(&f, 0xcf9, 0x06);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0xcf9, 0x06); /* no new edge */
    ck_assert_uint_eq(f.resets, 1);
    out32(&f, 0xcf8, 0xffffffff);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0xcf9, 0x00);
    out8(&f, 0xcf9, 0x0e);
    ck_assert_uint_eq(f.resets, 2);
}
END_TEST

static uint8_t ask(uint8_t command) {
    out8(&f, 0x64, command);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x03, 0x01);
    uint8_t v = in8(&f, 0x60);

    ck_assert_uint_eq(in8(&f, 0x64) & 0x01, 0);
    return v;
}

/* Under --mmu kvm nothing could mask it, so that no engine does. */
START_TEST(address_line_20_is_on_whatever_is_asked) {
    ck_assert_uint_eq(in8(&f, 0x92), 0x02);
    out8(&f, 0x92, 0x00);
    ck_assert_uint_eq(in8(&f, 0x92), 0x02);
    ck_assert_uint_eq(ask(0xd0) & 2, 2);
    out8(&f, 0x64, 0xdd); /* off */
    ck_assert_uint_eq(ask(0xd0) & 2, 2);
    out8(&f, 0x64, 0xd1);
    out8(&f, 0x60, 0x01); /* the output port: no reset, A20 off */
    ck_assert_uint_eq(ask(0xd0) & 3, 3);
    ck_assert_uint_eq(in8(&f, 0x92), 0x02);
    ck_assert_uint_eq(f.resets, 0);
}
END_TEST

START_TEST(a_rise_of_bit_0_of_port_92_resets) {
    out8(&f, 0x92, 0x03);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0x92, 0x03);
    ck_assert_uint_eq(f.resets, 1);
}
END_TEST

START_TEST(the_debug_exit_port_exits_with_twice_its_value_plus_1) {
    out8(&f, 0xf4, 0x10);
    ck_assert_uint_eq(f.exits, 1);
    ck_assert_uint_eq(f.code, 0x21);
    out32(&f, 0xf4, 0);
    ck_assert_uint_eq(f.code, 1);
    out32(&f, 0xf4, 0xffffffff);
    ck_assert_uint_eq(f.code, 0xffffffff);
    out8(&f, 0xf5, 7);
    ck_assert_uint_eq(f.exits, 3);
    ck_assert_uint_eq(in32(&f, 0xf4), 0xffffffff);
}
END_TEST

START_TEST(a_panic_is_reported_and_a_crash_kernel_is_none) {
    ck_assert_uint_eq(in8(&f, 0x505), 3);
    out8(&f, 0x505, 2);
    ck_assert_uint_eq(f.panics, 0);
    out8(&f, 0x505, 1);
    ck_assert_uint_eq(f.panics, 1);
}
END_TEST

START_TEST(the_post_port_reads_back) {
    out8(&f, 0x80, 0x42);
    ck_assert_uint_eq(in8(&f, 0x80), 0x42);
}
END_TEST

START_TEST(the_8042_answers_its_commands) {
    ck_assert_uint_eq(in8(&f, 0x64), 0x14);
    ck_assert_uint_eq(ask(0xaa), 0x55);
    ck_assert_uint_eq(ask(0xab), 0x00);
    ck_assert_uint_eq(ask(0xa9), 0x01); /* no mouse port */
    ck_assert_uint_eq(ask(0x20), 0x34);
    out8(&f, 0x64, 0x60);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x08, 0x08);
    out8(&f, 0x60, 0x47);
    ck_assert_uint_eq(ask(0x20), 0x47);
    out8(&f, 0x64, 0xad);
    ck_assert_uint_eq(ask(0x20), 0x57);
    out8(&f, 0x64, 0xae);
    out8(&f, 0x64, 0xa7);
    ck_assert_uint_eq(ask(0x20), 0x67);
    for (unsigned n = 1; n < 32; n++) {
        out8(&f, 0x64, (uint8_t)(0x60 + n));
        out8(&f, 0x60, (uint8_t)n);
    }
    for (unsigned n = 1; n < 32; n++)
        ck_assert_uint_eq(ask((uint8_t)(0x20 + n)), n);
    ck_assert_uint_eq(ask(0xd0) & 3, 3);
    ck_assert_uint_eq(f.resets, 0);
}
END_TEST

START_TEST(the_8042_resets_by_a_pulse_or_its_output_port) {
    out8(&f, 0x64, 0xff);
    ck_assert_uint_eq(f.resets, 0);
    out8(&f, 0x64, 0xfe); /* Linux' way */
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0x64, 0xd1);
    out8(&f, 0x60, 0xdf);
    ck_assert_uint_eq(f.resets, 1);
    out8(&f, 0x64, 0xd1);
    out8(&f, 0x60, 0xde);
    ck_assert_uint_eq(f.resets, 2);
}
END_TEST

START_TEST(no_keyboard_or_mouse_answers_behind_the_8042) {
    out8(&f, 0x64, 0x60);
    out8(&f, 0x60, 0x44); /* interrupt off */
    out8(&f, 0x60, 0xf2);
    ck_assert_int_eq(f.level[1], 0);
    in8(&f, 0x60);
    out8(&f, 0x64, 0x60);
    out8(&f, 0x60, 0x45); /* interrupt on */
    out8(&f, 0x60, 0xf2); /* who is there? */
    ck_assert_int_eq(f.level[1], 1);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x41, 0x41);
    ck_assert_uint_eq(in8(&f, 0x60), 0xfe);
    ck_assert_int_eq(f.level[1], 0);
    out8(&f, 0x64, 0xd4);
    out8(&f, 0x60, 0xf2);
    ck_assert_int_eq(f.level[1], 0);
    ck_assert_uint_eq(in8(&f, 0x64) & 0x61, 0x61);
    out8(&f, 0x64, 0xd3); /* the loop test of Linux' i8042_check_aux */
    out8(&f, 0x60, 0x5a);
    ck_assert_uint_ne(in8(&f, 0x60), 0x5a);
    out8(&f, 0x64, 0xd2);
    out8(&f, 0x60, 0x77);
    ck_assert_int_eq(f.level[1], 1);
    ck_assert_uint_eq(in8(&f, 0x60), 0x77);
}
END_TEST

SUITE("misc", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {
          a_probe_for_pci_finds_nothing, each_rise_of_the_reset_bit_resets,
          address_line_20_is_on_whatever_is_asked, a_rise_of_bit_0_of_port_92_resets,
          the_debug_exit_port_exits_with_twice_its_value_plus_1,
          a_panic_is_reported_and_a_crash_kernel_is_none, the_post_port_reads_back,
          the_8042_answers_its_commands, the_8042_resets_by_a_pulse_or_its_output_port,
          no_keyboard_or_mouse_answers_behind_the_8042})
