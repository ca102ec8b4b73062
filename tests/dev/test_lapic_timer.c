/* SPDX-License-Identifier: MIT */
/* The local APIC timer: exact times in every mode, mode changes, skips. */
#include "fixture.h"
#include "tests/suite.h"

#define LAPIC    0xfee00000u
#define GHZ      1000000000u
#define VECTOR   0xee
#define ONESHOT  0u
#define PERIODIC 0x20000u
#define DEADLINE 0x40000u
#define TDL      0x6e0u

static struct fx f;

static void start(uint64_t hz) {
    fx_init(&f);
    fx_intc(&f, hz);
    wr32(&f, LAPIC + 0xf0, 0x1ff);
    wr32(&f, LAPIC + 0x3e0, 0xb); /* by 1 */
}

static void setup(void) {
    start(GHZ);
}

static void teardown(void) {
    fx_done(&f);
}

static void lvt(uint32_t mode) {
    wr32(&f, LAPIC + 0x320, mode | VECTOR);
}

static void initial(uint32_t count) {
    wr32(&f, LAPIC + 0x380, count);
}

static uint32_t current(void) {
    return rd32(&f, LAPIC + 0x390);
}

static bool fired(void) {
    bool yes = intc_peek(f.intc, 0) == VECTOR;

    if (yes) {
        ck_assert_int_eq(intc_ack(f.intc, 0), VECTOR);
        wr32(&f, LAPIC + 0xb0, 0);
    }
    return yes;
}

START_TEST(a_one_shot_timer_fires_once_at_its_time) {
    fx_to(&f, 777);
    lvt(ONESHOT);
    initial(1000);
    ck_assert_uint_eq(clock_next(&f.clock), 1777);
    fx_to(&f, 1000);
    ck_assert_uint_eq(current(), 777);
    fx_to(&f, 1776);
    ck_assert_uint_eq(current(), 1);
    ck_assert(!fired());
    fx_to(&f, 1777);
    ck_assert_uint_eq(current(), 0);
    ck_assert(fired());
    fx_to(&f, 100000);
    ck_assert_uint_eq(current(), 0);
    ck_assert(!fired());
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    initial(50);
    initial(0); /* stops */
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}
END_TEST

START_TEST(the_divider_scales_the_count) {
    static const struct {
        uint8_t reg;
        unsigned by;
    } t[] = {{0, 2}, {1, 4}, {2, 8}, {3, 16}, {8, 32}, {9, 64}, {0xa, 128}, {0xb, 1}};

    lvt(ONESHOT);
    for (unsigned n = 0; n < 8; n++) {
        wr32(&f, LAPIC + 0x3e0, t[n].reg);
        initial(10);
        ck_assert_uint_eq(clock_next(&f.clock), f.now + 10 * t[n].by);
        fx_by(&f, 10 * t[n].by);
        ck_assert(fired());
    }
    wr32(&f, LAPIC + 0x3e0, 0xb);
    initial(100);
    fx_by(&f, 40);
    wr32(&f, LAPIC + 0x3e0, 0); /* 60 left, now by 2 */
    ck_assert_uint_eq(current(), 60);
    ck_assert_uint_eq(clock_next(&f.clock), f.now + 120);
}
END_TEST

START_TEST(a_periodic_timer_fires_each_period_in_step) {
    lvt(PERIODIC);
    initial(300);
    for (unsigned n = 1; n < 6; n++) {
        fx_to(&f, n * 300 - 1);
        ck_assert_uint_eq(current(), 1);
        ck_assert(!fired());
        fx_to(&f, n * 300);
        ck_assert_uint_eq(current(), 300);
        ck_assert(fired());
    }
    fx_jump(&f, 1000000000ull * 300 + 7); /* a skip over many: one interrupt, in step */
    ck_assert(fired());
    ck_assert_uint_eq(clock_next(&f.clock), 1000000001ull * 300);
    lvt(PERIODIC | 0x10000); /* masked: counts on, silent */
    fx_by(&f, 1000);
    ck_assert(!fired());
    ck_assert_uint_ne(current(), 0);
}
END_TEST

START_TEST(a_periodic_timer_of_an_odd_rate_does_not_drift) {
    fx_done(&f);
    start(24000000); /* 41.67 ns */
    lvt(PERIODIC);
    initial(7);
    for (uint64_t n = 1; n < 2000; n++) { /* no drift */
        uint64_t at = (n * 7 * 1000000000 + 23999999) / 24000000;

        ck_assert_uint_eq(clock_next(&f.clock), at);
        fx_to(&f, at);
        ck_assert(fired());
        ck_assert_uint_eq(current(), 7);
    }
}
END_TEST

/* The sequence of kvm-unit-tests' apic test, "apic change mode". */
START_TEST(a_change_of_mode_keeps_the_count) {
    lvt(ONESHOT);
    initial(1000);
    fx_by(&f, 600);
    lvt(PERIODIC);
    ck_assert_uint_eq(current(), 400); /* goes on */
    fx_by(&f, 400);
    ck_assert(fired());
    ck_assert_uint_eq(current(), 1000); /* reloaded */
    fx_by(&f, 700);
    lvt(ONESHOT);
    ck_assert_uint_eq(current(), 300);
    fx_by(&f, 300);
    ck_assert(fired());
    ck_assert_uint_eq(current(), 0);
    lvt(PERIODIC);
    ck_assert_uint_eq(current(), 0); /* stays */
    fx_by(&f, 5000);
    ck_assert(!fired());
    ck_assert_uint_eq(rd32(&f, LAPIC + 0x380), 1000);
}
END_TEST

START_TEST(an_expiry_that_the_clock_has_not_run_is_not_lost) {
    lvt(ONESHOT);
    initial(100);
    f.now = 150; /* the machine has not run the clock yet */
    lvt(PERIODIC);
    ck_assert(fired());
}
END_TEST

START_TEST(the_tsc_deadline_fires_when_the_tsc_reaches_it) {
    uint64_t v;

    f.tsc_offset = 5000;
    lvt(ONESHOT);
    intc_msr_write(f.intc, 0, TDL, 9000); /* not in this mode: ignored */
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    lvt(DEADLINE);
    initial(100); /* nor this in that mode */
    ck_assert_uint_eq(current(), 0);
    ck_assert_int_eq(intc_msr_write(f.intc, 0, TDL, 9000), 0);
    ck_assert_uint_eq(clock_next(&f.clock), 4000);
    ck_assert_int_eq(intc_msr_read(f.intc, 0, TDL, &v), 0);
    ck_assert_uint_eq(v, 9000);
    fx_to(&f, 3999);
    ck_assert(!fired());
    fx_to(&f, 4000);
    ck_assert(fired());
    intc_msr_read(f.intc, 0, TDL, &v);
    ck_assert_uint_eq(v, 0);
    intc_msr_write(f.intc, 0, TDL, 9000); /* in the past: at once */
    ck_assert(fired());
    intc_msr_write(f.intc, 0, TDL, 20000);
    intc_msr_write(f.intc, 0, TDL, 0); /* disarmed */
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    intc_msr_write(f.intc, 0, TDL, 20000);
    lvt(ONESHOT); /* leaving the mode disarms */
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    lvt(DEADLINE);
    intc_msr_read(f.intc, 0, TDL, &v);
    ck_assert_uint_eq(v, 0);
    intc_msr_write(f.intc, 0, TDL, UINT64_MAX); /* further than the clock goes */
    fx_by(&f, 1000);
    ck_assert(!fired());
}
END_TEST

START_TEST(a_tsc_that_is_set_back_delays_the_deadline) {
    lvt(DEADLINE);
    intc_msr_write(f.intc, 0, TDL, 1000);
    f.tsc_offset = -500;
    fx_to(&f, 1000);
    ck_assert(!fired()); /* TSC is 500 only */
    fx_to(&f, 1500);
    ck_assert(fired());
}
END_TEST

START_TEST(extreme_counts_and_times_do_not_overflow) {
    wr32(&f, LAPIC + 0x3e0, 0xa);
    lvt(PERIODIC);
    initial(UINT32_MAX);
    ck_assert_uint_eq(clock_next(&f.clock), 128ull * UINT32_MAX);
    fx_jump(&f, UINT64_MAX / 32);
    ck_assert(fired());
    ck_assert_uint_gt(clock_next(&f.clock), f.now);
    wr32(&f, LAPIC + 0x3e0, 0xb);
    initial(1);
    for (unsigned n = 0; n < 100; n++) {
        ck_assert_uint_eq(clock_next(&f.clock), f.now + 1);
        fx_by(&f, 1);
        ck_assert(fired());
    }
    fx_jump(&f, UINT64_MAX - 1); /* beyond the horizon: nothing is armed any more */
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
    initial(1);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}
END_TEST

SUITE("lapic_timer", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {a_one_shot_timer_fires_once_at_its_time, the_divider_scales_the_count,
                a_periodic_timer_fires_each_period_in_step,
                a_periodic_timer_of_an_odd_rate_does_not_drift,
                a_change_of_mode_keeps_the_count,
                an_expiry_that_the_clock_has_not_run_is_not_lost,
                the_tsc_deadline_fires_when_the_tsc_reaches_it,
                a_tsc_that_is_set_back_delays_the_deadline,
                extreme_counts_and_times_do_not_overflow})
