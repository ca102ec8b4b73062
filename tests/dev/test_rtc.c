/* SPDX-License-Identifier: MIT */
/* RTC: the calendar against the C library, formats, setting, interrupts, NVRAM. */
#include <time.h>

#include "fixture.h"
#include "tests/suite.h"

#define IRQ 8u
#define SEC 1000000000ull

static struct fx f;
static struct rtc *r;

static void start(int64_t epoch) {
    fx_init(&f);
    r = rtc_create(&f.env, epoch, 3ull << 30, 5ull << 30);
    ck_assert_ptr_nonnull(r);
}

static void teardown(void) {
    fx_done(&f);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}

static uint8_t get(unsigned reg) {
    out8(&f, 0x70, (uint8_t)reg);
    return in8(&f, 0x71);
}

static void put(unsigned reg, uint8_t value) {
    out8(&f, 0x70, (uint8_t)reg);
    out8(&f, 0x71, value);
}

static unsigned bcd(unsigned v) {
    return v / 10 << 4 | v % 10;
}

static void check_time(int64_t epoch) {
    time_t t = epoch;
    struct tm tm;

    gmtime_r(&t, &tm);
    ck_assert_uint_eq(get(0), bcd((unsigned)tm.tm_sec));
    ck_assert_uint_eq(get(2), bcd((unsigned)tm.tm_min));
    ck_assert_uint_eq(get(4), bcd((unsigned)tm.tm_hour));
    ck_assert_uint_eq(get(6), (unsigned)tm.tm_wday + 1);
    ck_assert_uint_eq(get(7), bcd((unsigned)tm.tm_mday));
    ck_assert_uint_eq(get(8), bcd((unsigned)tm.tm_mon + 1));
    ck_assert_uint_eq(get(9), bcd((unsigned)tm.tm_year % 100));
    ck_assert_uint_eq(get(0x32), bcd((unsigned)(tm.tm_year + 1900) / 100));
}

START_TEST(the_calendar_agrees_with_the_c_library) {
    /* Every day for 450 years, at changing times of day. */
    for (int64_t t = 0; t < 450 * 365 * 86400ll; t += 86400 + 3601 * 11) {
        start(t);
        check_time(t);
        teardown();
    }
    static const int64_t edge[] = {951782399,  951782400,   951868800,   1709164800,
                                   4107542400, 13574563200, 253402300799};

    for (unsigned n = 0; n < sizeof edge / sizeof *edge; n++) {
        start(edge[n]);
        check_time(edge[n]);
        teardown();
    }
    start(INT64_MIN);
    check_time(0);
    teardown();
    start(INT64_MAX);
    check_time(253402300799);
    fx_jump(&f, UINT64_MAX - 1);
    check_time(253402300799);
}
END_TEST

START_TEST(the_time_runs_on_from_where_it_is_set) {
    start(1700000000);
    ck_assert_uint_eq(get(0x0a), 0x26);
    ck_assert_uint_eq(get(0x0b), 0x02);
    ck_assert_uint_eq(get(0x0d), 0x80);
    fx_to(&f, 59 * SEC + 5);
    check_time(1700000059);
    /* 1999-12-31 23:59:58, with SET held, as Linux' hwclock does. */
    put(0x0b, 0x82);
    put(0, 0x58);
    put(2, 0x59);
    put(4, 0x23);
    put(6, 0x06); /* a Friday */
    put(7, 0x31);
    put(8, 0x12);
    put(9, 0x99);
    put(0x32, 0x19);
    fx_by(&f, 5 * SEC);
    ck_assert_uint_eq(get(0), 0x58); /* held */
    put(0x0b, 0x02);
    check_time(946684798);
    fx_by(&f, 2 * SEC);
    check_time(946684800);
    put(2, 0x30); /* without SET: at once */
    check_time(946684800 + 1800);
    fx_by(&f, SEC / 2);
    put(2, 0x31); /* the second goes on where it was */
    fx_by(&f, SEC / 2);
    check_time(946684800 + 1861);
}
END_TEST

/* Motorola MC146818 data sheet: the day of the week is a counter of its own. */
START_TEST(the_day_of_the_week_is_what_was_set_and_days_later) {
    start(1700000000); /* a Tuesday */
    ck_assert_uint_eq(get(6), 3);
    put(6, 7);
    ck_assert_uint_eq(get(6), 7);
    put(7, 0x01); /* the date does not move it */
    ck_assert_uint_eq(get(6), 7);
    put(9, 0x44);
    ck_assert_uint_eq(get(6), 7);
    fx_by(&f, 86400 * SEC);
    ck_assert_uint_eq(get(6), 1);
    fx_by(&f, 6 * 86400 * SEC);
    ck_assert_uint_eq(get(6), 7);
    put(0x0b, 0x82); /* held by SET */
    put(6, 4);
    fx_by(&f, 3 * 86400 * SEC);
    ck_assert_uint_eq(get(6), 4);
    put(0x0b, 0x02);
    fx_by(&f, 86400 * SEC);
    ck_assert_uint_eq(get(6), 5);
    put(6, 0xff); /* no day: the last */
    ck_assert_uint_eq(get(6), 7);
}
END_TEST

START_TEST(the_first_update_comes_half_a_second_after_a_divider_reset) {
    start(1000);
    put(0x0b, 0x82);
    put(0x0a, 0x76);
    put(0, 0x20);
    put(0x0b, 0x02);
    fx_by(&f, 10 * SEC);
    ck_assert_uint_eq(get(0), 0x20); /* still held by the divider */
    put(0x0a, 0x26);
    fx_by(&f, SEC / 2 - 1);
    ck_assert_uint_eq(get(0), 0x20);
    fx_by(&f, 1); /* half a second to the first update */
    ck_assert_uint_eq(get(0), 0x21);
}
END_TEST

START_TEST(the_time_reads_in_bcd_or_binary_of_12_or_24_hours) {
    start(13 * 3600 + 45 * 60 + 36);
    put(0x0b, 0x06); /* binary, 24 h */
    ck_assert_uint_eq(get(0), 36);
    ck_assert_uint_eq(get(2), 45);
    ck_assert_uint_eq(get(4), 13);
    ck_assert_uint_eq(get(9), 70);
    ck_assert_uint_eq(get(0x32), 19);
    put(0x0b, 0x04); /* binary, 12 h */
    ck_assert_uint_eq(get(4), 0x81);
    put(0x0b, 0x00); /* BCD, 12 h */
    ck_assert_uint_eq(get(4), 0x81);
    put(4, 0x92); /* 12 pm */
    put(0x0b, 0x02);
    ck_assert_uint_eq(get(4), 0x12);
    put(0x0b, 0x00);
    put(4, 0x12); /* 12 am */
    put(0x0b, 0x02);
    ck_assert_uint_eq(get(4), 0x00);
}
END_TEST

START_TEST(no_value_of_a_register_does_harm) {
    start(0);
    for (unsigned mode = 0; mode < 256; mode++) {
        put(0x0b, (uint8_t)mode);
        for (unsigned reg = 0; reg < 128; reg++)
            put(reg == 0x0b ? 0 : reg, (uint8_t)(reg * mode + 0xee));
        fx_by(&f, SEC);
        for (unsigned reg = 0; reg < 256; reg++)
            get(reg);
    }
    put(0x0b, 0);
}
END_TEST

START_TEST(uip_is_set_244_us_before_an_update) {
    start(0);
    ck_assert_uint_eq(get(0x0a) & 0x80, 0);
    fx_to(&f, SEC - 244142);
    ck_assert_uint_eq(get(0x0a) & 0x80, 0);
    fx_to(&f, SEC - 244141);
    ck_assert_uint_eq(get(0x0a) & 0x80, 0x80);
    fx_to(&f, SEC);
    ck_assert_uint_eq(get(0x0a) & 0x80, 0);
    put(0x0a, 0xff & ~0x70); /* UIP cannot be written */
    ck_assert_uint_eq(get(0x0a), 0x0f);
}
END_TEST

START_TEST(the_update_interrupt_comes_each_second) {
    start(0);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER); /* nothing asked for */
    fx_to(&f, SEC / 2);
    put(0x0b, 0x12);
    ck_assert_uint_eq(clock_next(&f.clock), SEC);
    fx_to(&f, SEC);
    ck_assert_int_eq(f.level[IRQ], 1);
    ck_assert_uint_eq(get(0x0c) & 0x90, 0x90);
    ck_assert_int_eq(f.level[IRQ], 0);
    ck_assert_uint_eq(get(0x0c), 0);
    fx_jump(&f, 10 * SEC + 1);
    ck_assert_uint_eq(f.rises[IRQ], 2);
    ck_assert_uint_eq(clock_next(&f.clock), 11 * SEC);
    put(0x0b, 0x92); /* SET clears UIE */
    ck_assert_uint_eq(get(0x0b), 0x82);
}
END_TEST

START_TEST(the_periodic_interrupt_comes_at_its_rate_without_drift) {
    start(0);
    put(0x0a, 0x26); /* 1024 Hz */
    put(0x0b, 0x42);
    for (uint64_t n = 1; n < 3000; n++) {
        uint64_t at = (n * 32 * SEC + 32767) / 32768;

        ck_assert_uint_eq(clock_next(&f.clock), at);
        fx_to(&f, at);
        ck_assert_uint_eq(f.rises[IRQ], n);
        ck_assert_uint_eq(get(0x0c) & 0xc0, 0xc0);
    }
    put(0x0a, 0x20); /* no rate */
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    put(0x0a, 0x21); /* 256 Hz, as rate 8 */
    put(0x0b, 0x42);
    uint64_t next = clock_next(&f.clock);

    fx_to(&f, next);
    get(0x0c);
    ck_assert_uint_eq(clock_next(&f.clock) - next, SEC / 256);
    put(0x0b, 0x02); /* polled: the flag comes without the interrupt */
    fx_by(&f, SEC);
    ck_assert_uint_eq(get(0x0c) & 0xc0, 0x40);
}
END_TEST

START_TEST(an_alarm_comes_at_its_time_of_day) {
    start(86400 * 100 + 23 * 3600 + 59 * 60 + 50);
    put(1, 0x05);
    put(3, 0x00);
    put(5, 0x00);
    put(0x0b, 0x22);
    ck_assert_uint_eq(clock_next(&f.clock), 15 * SEC); /* over midnight */
    fx_to(&f, 15 * SEC - 1);
    ck_assert_int_eq(f.level[IRQ], 0);
    fx_to(&f, 15 * SEC);
    ck_assert_int_eq(f.level[IRQ], 1);
    ck_assert_uint_eq(f.alarms, 1); /* the machine is told */
    ck_assert_uint_eq(get(0x0c) & 0xa0, 0xa0);
    ck_assert_uint_eq(clock_next(&f.clock), (15 + 86400) * SEC);
    put(4, 0x12); /* the clock is set: the alarm follows */
    ck_assert_uint_eq(clock_next(&f.clock), (15 + 12 * 3600) * SEC);
    put(1, 0x61); /* never */
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}
END_TEST

START_TEST(a_wildcard_matches_every_value_of_its_field) {
    start(0);
    put(0x0b, 0x22);
    put(1, 0xc0); /* every second */
    put(3, 0xff);
    put(5, 0xff);
    for (unsigned n = 1; n < 5; n++) {
        ck_assert_uint_eq(clock_next(&f.clock), n * SEC);
        fx_to(&f, n * SEC);
        get(0x0c);
    }
    put(1, 0x00); /* every minute */
    ck_assert_uint_eq(clock_next(&f.clock), 60 * SEC);
    put(3, 0x30); /* half past each hour */
    ck_assert_uint_eq(clock_next(&f.clock), 1800 * SEC);
    put(5, 0x17);
    ck_assert_uint_eq(clock_next(&f.clock), (17 * 3600 + 1800) * SEC);
    put(3, 0xc0);
    ck_assert_uint_eq(clock_next(&f.clock), 17 * 3600 * SEC);
    put(1, 0xc0);
    ck_assert_uint_eq(clock_next(&f.clock), 17 * 3600 * SEC);
    fx_jump(&f, 20 * 3600 * SEC); /* the alarm is not lost in a skip */
    ck_assert_uint_eq(get(0x0c) & 0xa0, 0xa0);
}
END_TEST

START_TEST(the_cmos_tells_the_size_of_memory) {
    start(0);
    ck_assert_uint_eq(get(0x15) | get(0x16) << 8, 640);
    ck_assert_uint_eq(get(0x17) | get(0x18) << 8, 0xffff);
    ck_assert_uint_eq(get(0x34) | get(0x35) << 8, (3u << 30) / 65536 - 256);
    ck_assert_uint_eq(get(0x5b) | get(0x5c) << 8 | get(0x5d) << 16,
                      (unsigned)((5ull << 30) / 65536));
}
END_TEST

START_TEST(the_cmos_keeps_what_is_written) {
    start(0);
    put(0x0f, 0x0a);
    put(0x7f, 0x55);
    put(0xff, 0x66); /* bit 7 is the NMI mask: the same register */
    ck_assert_uint_eq(get(0x0f), 0x0a);
    ck_assert_uint_eq(get(0x7f), 0x66);
    ck_assert_uint_eq(in8(&f, 0x70), 0xff);
    put(0x0d, 0);
    ck_assert_uint_eq(get(0x0d), 0x80);
}
END_TEST

SUITE("rtc", .teardown = teardown, .timeout = 60,
      .tests = {the_calendar_agrees_with_the_c_library,
                the_day_of_the_week_is_what_was_set_and_days_later,
                the_time_runs_on_from_where_it_is_set,
                the_first_update_comes_half_a_second_after_a_divider_reset,
                the_time_reads_in_bcd_or_binary_of_12_or_24_hours,
                no_value_of_a_register_does_harm, uip_is_set_244_us_before_an_update,
                the_update_interrupt_comes_each_second,
                the_periodic_interrupt_comes_at_its_rate_without_drift,
                an_alarm_comes_at_its_time_of_day,
                a_wildcard_matches_every_value_of_its_field,
                the_cmos_tells_the_size_of_memory, the_cmos_keeps_what_is_written})
