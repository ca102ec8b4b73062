/* SPDX-License-Identifier: MIT */
/* 8254: every mode with exact times, access modes, latches, read-back, BCD, port 0x61. */
#include "fixture.h"
#include "tests/suite.h"

#define HZ 1193182ull

static struct fx f;
static struct pit *p;

static void setup(void) {
    fx_init(&f);
    p = pit_create(&f.env);
    ck_assert_ptr_nonnull(p);
}

static void teardown(void) {
    fx_done(&f);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}

/* First ns of PIT tick k. */
static uint64_t at(uint64_t k) {
    return (k * 1000000000 + HZ - 1) / HZ;
}

static void to(uint64_t k) {
    fx_to(&f, at(k));
}

static void mode(unsigned ch, unsigned m) {
    out8(&f, 0x43, (uint8_t)(ch << 6 | 0x30 | m << 1));
}

static void count(unsigned ch, uint16_t n) {
    out8(&f, (uint16_t)(0x40 + ch), (uint8_t)n);
    out8(&f, (uint16_t)(0x40 + ch), (uint8_t)(n >> 8));
}

static uint16_t value(unsigned ch) {
    uint8_t low;

    out8(&f, 0x43, (uint8_t)(ch << 6));
    low = in8(&f, (uint16_t)(0x40 + ch));
    return (uint16_t)(low | in8(&f, (uint16_t)(0x40 + ch)) << 8);
}

static uint8_t status(unsigned ch) {
    out8(&f, 0x43, (uint8_t)(0xe0 | 2u << ch));
    return in8(&f, (uint16_t)(0x40 + ch));
}

static bool out2(void) {
    return in8(&f, 0x61) & 0x20;
}

START_TEST(mode_0_rises_once_at_the_end_of_the_count) {
    mode(0, 0);
    ck_assert_int_eq(f.level[0], 0);
    ck_assert_uint_eq(status(0), 0x70); /* out low, null count */
    count(0, 1000);
    ck_assert_uint_eq(status(0), 0x30);
    ck_assert_uint_eq(value(0), 1000);
    ck_assert_uint_eq(clock_next(&f.clock), at(1000));
    to(400);
    ck_assert_uint_eq(value(0), 600);
    fx_to(&f, at(1000) - 1);
    ck_assert_int_eq(f.level[0], 0);
    to(1000);
    ck_assert_int_eq(f.level[0], 1);
    ck_assert_uint_eq(value(0), 0);
    ck_assert_uint_eq(status(0), 0xb0);
    to(1001);
    ck_assert_uint_eq(value(0), 0xffff); /* wraps */
    to(1000 + 65536 + 5);
    ck_assert_uint_eq(value(0), 0xfffb);
    ck_assert_uint_eq(f.rises[0], 1);
    out8(&f, 0x40, 100); /* the first byte stops it */
    ck_assert_int_eq(f.level[0], 0);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    out8(&f, 0x40, 0);
    ck_assert_uint_eq(clock_next(&f.clock), at(66541 + 100));
}
END_TEST

START_TEST(mode_2_rises_at_the_end_of_each_period) {
    mode(0, 2);
    count(0, 1193); /* as Linux: HZ = 1000 */
    unsigned rises = f.rises[0];

    ck_assert_int_eq(f.level[0], 1);
    for (unsigned n = 1; n <= 50; n++) {
        ck_assert_uint_eq(clock_next(&f.clock), at(n * 1193));
        to(n * 1193 - 1);
        ck_assert_uint_eq(f.rises[0], rises + n - 1);
        ck_assert_uint_eq(value(0), 1);
        ck_assert_uint_eq(status(0) & 0x80, 0); /* low in the last tick */
        to(n * 1193);
        ck_assert_uint_eq(f.rises[0], rises + n);
        ck_assert_uint_eq(value(0), 1193);
        ck_assert_uint_eq(status(0) & 0x80, 0x80);
    }
    fx_jump(&f, at(1193ull * 1000000) + 5); /* a skip: one edge, then in step */
    ck_assert_uint_eq(f.rises[0], rises + 51);
    ck_assert_uint_eq(clock_next(&f.clock), at(1193ull * 1000001));
    mode(0, 0);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}
END_TEST

START_TEST(a_new_count_of_mode_2_takes_over_at_the_end_of_the_period) {
    mode(0, 2);
    count(0, 1000);
    to(300);
    count(0, 400); /* takes over at the end of the period */
    ck_assert_uint_eq(value(0), 700);
    ck_assert_uint_eq(status(0) & 0x40, 0x40);
    ck_assert_uint_eq(clock_next(&f.clock), at(1000));
    to(1000);
    ck_assert_uint_eq(value(0), 400);
    ck_assert_uint_eq(status(0) & 0x40, 0);
    ck_assert_uint_eq(clock_next(&f.clock), at(1400));
}
END_TEST

START_TEST(mode_3_makes_a_square_wave) {
    mode(2, 3);
    out8(&f, 0x61, 1);
    count(2, 10);
    for (unsigned d = 0; d < 40; d++) {
        to(d);
        ck_assert_uint_eq(value(2), 10 - d % 5 * 2);
        ck_assert_int_eq(out2(), d % 10 < 5);
    }
    mode(2, 3); /* odd: high one tick longer */
    uint64_t t = 40;

    to(t);
    count(2, 7);
    for (unsigned d = 0; d < 28; d++) {
        to(t + d);
        ck_assert_int_eq(out2(), d % 7 < 4);
        ck_assert_uint_eq(value(2) & 1, 0);
    }
    mode(0, 7); /* 6 and 7 are 2 and 3 */
    ck_assert_uint_eq(status(0) & 0x0e, 0x06);
    unsigned rises = f.rises[0];

    count(0, 100);
    fx_by(&f, at(1000));
    ck_assert_uint_ge(f.rises[0], rises + 9);
}
END_TEST

/* Intel 8254 data sheet, "Mode 3: Square Wave Mode": a count that is written while another
 * one counts is loaded at the end of the current half cycle. */
START_TEST(a_new_count_of_mode_3_takes_over_at_the_end_of_the_half) {
    mode(2, 3);
    out8(&f, 0x61, 1);
    count(2, 10);
    to(2);
    count(2, 6);
    ck_assert_uint_eq(value(2), 6); /* 10 - 2 * 2 */
    ck_assert_uint_eq(status(2) & 0x40, 0x40);
    to(4);
    ck_assert(out2());
    for (unsigned d = 5; d < 11; d++) { /* low for 3, high for 3 */
        to(d);
        ck_assert_int_eq(out2(), d >= 8);
        ck_assert_uint_eq(value(2), 6 - (d - 5) % 3 * 2);
        ck_assert_uint_eq(status(2) & 0x40, 0);
    }
    to(12);
    ck_assert(!out2());
    count(2, 9); /* in the low half: from the rise on */
    for (unsigned d = 12; d < 40; d++) {
        to(d);
        ck_assert_int_eq(out2(), d >= 14 && (d - 14) % 9 < 5);
    }
    count(2, 8); /* from 41 on: high for 4 */
    to(43);
    count(2, 3); /* low for 1, high for 2 */
    for (unsigned d = 43; d < 60; d++) {
        to(d);
        ck_assert_int_eq(out2(), d < 45 || (d - 45) % 3 != 0);
    }
}
END_TEST

START_TEST(the_rise_of_mode_3_follows_a_count_that_waits) {
    mode(0, 3);
    count(0, 1000);
    unsigned rises = f.rises[0];
    to(100);
    count(0, 100);
    ck_assert_uint_eq(clock_next(&f.clock), at(550)); /* low from 500 on */
    to(549);
    ck_assert_uint_eq(f.rises[0], rises);
    to(550);
    ck_assert_uint_eq(f.rises[0], rises + 1);
    ck_assert_uint_eq(clock_next(&f.clock), at(650));
    to(610);
    count(0, 1000); /* in the low half, which ends at 650 */
    ck_assert_uint_eq(clock_next(&f.clock), at(650));
    to(650);
    ck_assert_uint_eq(clock_next(&f.clock), at(1650));
    to(700);
    count(0, 10);
    fx_jump(&f, at(1000000) + 5); /* over the change: in step with it */
    ck_assert_uint_eq(clock_next(&f.clock), at(1000005));
}
END_TEST

/* The same data sheet, "Gate Pin Operations Summary": low disables counting, and the edge
 * loads what was written last. */
START_TEST(a_count_that_waits_while_the_gate_is_low_takes_over_at_its_edge) {
    for (unsigned m = 2; m <= 3; m++) {
        uint64_t t = m * 100000;
        to(t);
        mode(2, m);
        out8(&f, 0x61, 1);
        count(2, 1000);
        to(t + 300);
        out8(&f, 0x61, 0);
        unsigned stands = m == 2 ? 700 : 400;
        count(2, 500);
        ck_assert_uint_eq(value(2), stands);
        ck_assert_uint_eq(status(2) & 0x40, 0x40);
        to(t + 5000);
        ck_assert_uint_eq(value(2), stands);
        out8(&f, 0x61, 1);
        ck_assert_uint_eq(value(2), 500);
        ck_assert_uint_eq(status(2) & 0x40, 0);
        count(2, 200); /* with the gate up; it falls before the period ends */
        to(t + 5010);
        out8(&f, 0x61, 0);
        to(t + 9000);
        ck_assert_uint_eq(value(2), m == 2 ? 490 : 480);
        out8(&f, 0x61, 1);
        ck_assert_uint_eq(value(2), 200);
        out8(&f, 0x61, 0);
    }
}
END_TEST

START_TEST(modes_1_and_5_load_at_the_edge_and_not_before) {
    for (unsigned m = 1; m <= 5; m += 4) {
        mode(2, m);
        out8(&f, 0x61, 1); /* no count yet: no trigger */
        count(2, 100);
        fx_by(&f, at(1000));
        ck_assert(out2());
        ck_assert_uint_eq(status(2) & 0x40, 0x40);
        out8(&f, 0x61, 0);
        out8(&f, 0x61, 1);
        ck_assert_uint_eq(status(2) & 0x40, 0);
        ck_assert_uint_eq(value(2), 100);
        out8(&f, 0x61, 0);
    }
}
END_TEST

START_TEST(a_low_gate_stops_the_count) {
    mode(2, 0);
    count(2, 1000);
    ck_assert_uint_eq(value(2), 1000); /* gate low */
    to(100);
    ck_assert_uint_eq(value(2), 1000);
    out8(&f, 0x61, 1);
    to(400);
    ck_assert_uint_eq(value(2), 700);
    out8(&f, 0x61, 0);
    to(900);
    ck_assert_uint_eq(value(2), 700);
    ck_assert(!out2());
    out8(&f, 0x61, 1);
    to(1599);
    ck_assert(!out2());
    to(1600);
    ck_assert(out2());
    mode(2, 2); /* modes 2, 3: stops with output high, the edge reloads */
    count(2, 1000);
    to(1900);
    ck_assert_uint_eq(value(2), 700);
    out8(&f, 0x61, 0);
    ck_assert(out2());
    to(2000);
    out8(&f, 0x61, 1);
    ck_assert_uint_eq(value(2), 1000);
}
END_TEST

START_TEST(each_rise_of_the_gate_starts_mode_1) {
    mode(2, 1);
    ck_assert(out2());
    count(2, 100);
    to(50);
    ck_assert(out2()); /* waits for the gate */
    out8(&f, 0x61, 1);
    ck_assert(!out2());
    to(149);
    ck_assert(!out2());
    to(150);
    ck_assert(out2());
    out8(&f, 0x61, 0); /* the level does nothing, the edge restarts */
    to(200);
    out8(&f, 0x61, 1);
    to(250);
    out8(&f, 0x61, 0);
    out8(&f, 0x61, 1);
    count(2, 10); /* counts from the next edge on */
    to(349);
    ck_assert(!out2());
    to(350);
    ck_assert(out2());
    out8(&f, 0x61, 0);
    out8(&f, 0x61, 1);
    ck_assert(!out2());
    to(360);
    ck_assert(out2());
}
END_TEST

START_TEST(modes_4_and_5_are_low_for_one_tick) {
    mode(0, 4);
    count(0, 100);
    unsigned rises = f.rises[0];

    ck_assert_uint_eq(clock_next(&f.clock), at(101));
    to(99);
    ck_assert_uint_eq(status(0) & 0x80, 0x80);
    to(100);
    ck_assert_uint_eq(status(0) & 0x80, 0);
    to(101);
    ck_assert_uint_eq(status(0) & 0x80, 0x80);
    ck_assert_uint_eq(f.rises[0], rises + 1);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER); /* once */
    mode(2, 5);
    count(2, 20);
    to(200);
    ck_assert(out2());
    out8(&f, 0x61, 1);
    to(219);
    ck_assert(out2());
    to(220);
    ck_assert(!out2());
    to(221);
    ck_assert(out2());
}
END_TEST

START_TEST(a_count_is_read_as_its_access_mode_says) {
    out8(&f, 0x43, 0x14); /* channel 0, low byte, mode 2 */
    out8(&f, 0x40, 200);
    ck_assert_uint_eq(in8(&f, 0x40), 200);
    ck_assert_uint_eq(in8(&f, 0x40), 200);
    out8(&f, 0x43, 0x00);
    to(50);
    ck_assert_uint_eq(in8(&f, 0x40), 200); /* latched */
    ck_assert_uint_eq(in8(&f, 0x40), 150);
    out8(&f, 0x43, 0x24); /* high byte */
    out8(&f, 0x40, 0x12);
    ck_assert_uint_eq(in8(&f, 0x40), 0x12);
    out8(&f, 0x43, 0x34); /* both, unlatched */
    count(0, 0x1234);
    ck_assert_uint_eq(in8(&f, 0x40), 0x34);
    ck_assert_uint_eq(in8(&f, 0x40), 0x12);
    ck_assert_uint_eq(in8(&f, 0x43), 0xff);
}
END_TEST

START_TEST(a_latch_of_the_read_back_command_holds_until_it_is_read) {
    mode(0, 2);
    count(0, 5000);
    mode(2, 0);
    out8(&f, 0x61, 1);
    count(2, 3000);
    to(1000);
    out8(&f, 0x43, 0xca); /* count and status of 0 and 2 */
    to(2000);
    out8(&f, 0x43, 0xca); /* does not overwrite what was not read */
    ck_assert_uint_eq(in8(&f, 0x40), 0xb4);
    ck_assert_uint_eq(in8(&f, 0x40), 4000 & 0xff);
    ck_assert_uint_eq(in8(&f, 0x40), 4000 >> 8);
    ck_assert_uint_eq(in8(&f, 0x42), 0x30);
    ck_assert_uint_eq(in8(&f, 0x42), 2000 & 0xff);
    ck_assert_uint_eq(in8(&f, 0x42), 2000 >> 8);
    ck_assert_uint_eq(value(0), 3000);
    out8(&f, 0x43, 0xd8); /* count of 2 only */
    ck_assert_uint_eq(in8(&f, 0x42), 1000 & 0xff);
    ck_assert_uint_eq(in8(&f, 0x42), 1000 >> 8);
}
END_TEST

START_TEST(a_bcd_count_has_four_decimal_digits) {
    out8(&f, 0x43, 0x35); /* channel 0, mode 2, BCD */
    count(0, 0x1000);
    to(1);
    ck_assert_uint_eq(value(0), 0x0999);
    ck_assert_uint_eq(clock_next(&f.clock), at(1000));
    out8(&f, 0x43, 0x35);
    count(0, 0); /* 10000 */
    ck_assert_uint_eq(clock_next(&f.clock), at(10001));
    out8(&f, 0x43, 0x31);
    count(0, 0xffff); /* no BCD number */
    value(0);
}
END_TEST

START_TEST(a_count_of_0_is_the_longest) {
    to(1);
    mode(0, 2);
    count(0, 0); /* 65536 */
    ck_assert_uint_eq(clock_next(&f.clock), at(65537));
    ck_assert_uint_eq(value(0), 0);
}
END_TEST

START_TEST(a_count_of_1_is_taken_as_2) {
    to(1);
    mode(0, 2);
    count(0, 1); /* illegal: as 2 */
    ck_assert_uint_eq(clock_next(&f.clock), at(3));
    fx_jump(&f, UINT64_MAX - 1);
    value(0);
}
END_TEST

START_TEST(port_61_toggles_its_refresh_bit_each_15_us) {
    unsigned toggles = 0, last = 0;

    out8(&f, 0x61, 0xff);
    ck_assert_uint_eq(in8(&f, 0x61) & 0x0f, 3);
    for (unsigned n = 0; n < 1000; n++) {
        fx_by(&f, 1000);
        unsigned bit = in8(&f, 0x61) & 0x10;

        toggles += bit != last;
        last = bit;
    }
    ck_assert_uint_eq(toggles, 66); /* 1 ms of 15 us each */
}
END_TEST

SUITE("pit", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {mode_0_rises_once_at_the_end_of_the_count,
                mode_2_rises_at_the_end_of_each_period,
                a_new_count_of_mode_2_takes_over_at_the_end_of_the_period,
                mode_3_makes_a_square_wave,
                a_new_count_of_mode_3_takes_over_at_the_end_of_the_half,
                the_rise_of_mode_3_follows_a_count_that_waits,
                a_count_that_waits_while_the_gate_is_low_takes_over_at_its_edge,
                modes_1_and_5_load_at_the_edge_and_not_before, a_low_gate_stops_the_count,
                each_rise_of_the_gate_starts_mode_1, modes_4_and_5_are_low_for_one_tick,
                a_count_is_read_as_its_access_mode_says,
                a_latch_of_the_read_back_command_holds_until_it_is_read,
                a_bcd_count_has_four_decimal_digits, a_count_of_0_is_the_longest,
                a_count_of_1_is_taken_as_2, port_61_toggles_its_refresh_bit_each_15_us})
