/* SPDX-License-Identifier: MIT */
/* HPET (IA-PC HPET Specification 1.0a): counter, comparators, periods, routes. */
#include "fixture.h"
#include "tests/suite.h"

#include <stdlib.h>

#define CONFIG    0x10u
#define STATUS    0x20u
#define COUNT     0xf0u
#define TIMER(n)  (0x100u + 0x20u * (n))
#define CMP(n)    (TIMER(n) + 8)
#define LEVEL     0x2u
#define INTERRUPT 0x4u
#define PERIODIC  0x8u
#define SET_VALUE 0x40u
#define BITS32    0x100u
#define ROUTE(g)  ((uint64_t)(g) << 9)

static struct fx f;
static struct hpet *h;
static unsigned legacy_on, legacy_calls;

static void legacy(void *opaque, bool on) {
    legacy_on = on;
    legacy_calls++;
}

static const struct hpet_config config = {.legacy = legacy};

static void setup(void) {
    fx_init(&f);
    legacy_on = legacy_calls = 0;
    h = hpet_create(&f.env, &config);
    ck_assert_ptr_nonnull(h);
}

static void teardown(void) {
    fx_done(&f);
}

static uint64_t get(unsigned reg) {
    return dev_bus_mmio_read(f.bus, HPET_BASE + reg, 8);
}

static void put(unsigned reg, uint64_t value) {
    dev_bus_mmio_write(f.bus, HPET_BASE + reg, 8, value);
}

START_TEST(the_counter_counts_each_10_ns_while_it_is_enabled) {
    ck_assert_uint_eq(get(0) >> 32, 10000000); /* fs */
    ck_assert_uint_eq(get(0) & 0xffffffff, HPET_BLOCK_ID);
    fx_to(&f, 1000);
    ck_assert_uint_eq(get(COUNT), 0);
    put(COUNT, 0xfffffff0);
    put(CONFIG, 1);
    fx_by(&f, 1000);
    ck_assert_uint_eq(get(COUNT), 0x100000054);
    ck_assert_uint_eq(rd32(&f, HPET_BASE + COUNT), 0x54);
    ck_assert_uint_eq(rd32(&f, HPET_BASE + COUNT + 4), 1);
    put(CONFIG, 0);
    fx_by(&f, 1000);
    ck_assert_uint_eq(get(COUNT), 0x100000054);
    put(TIMER(0), ROUTE(20));
    put(TIMER(0), ROUTE(5)); /* it cannot be there */
    ck_assert_uint_eq(get(TIMER(0)) & 0xffff, ROUTE(20) | 0x30);
    put(0, 0); /* read-only */
    ck_assert_uint_eq(get(0) & 0xffffffff, HPET_BLOCK_ID);
}
END_TEST

START_TEST(a_comparator_raises_its_line_once) {
    put(TIMER(2), INTERRUPT | ROUTE(21));
    put(CMP(2), 500);
    put(CONFIG, 1);
    fx_to(&f, 4999);
    ck_assert_uint_eq(f.rises[21], 0);
    fx_to(&f, 5000);
    ck_assert_uint_eq(f.rises[21], 1);
    ck_assert_uint_eq(get(STATUS), 0); /* an edge leaves none */
    fx_jump(&f, 100000000000);
    ck_assert_uint_eq(f.rises[21], 1);
    put(CMP(2), 100); /* in the past: the counter does not come by again */
    fx_by(&f, 100000000000);
    ck_assert_uint_eq(f.rises[21], 1);
    put(CMP(2), get(COUNT));
    fx_by(&f, 10);
    ck_assert_uint_eq(f.rises[21], 2);
}
END_TEST

START_TEST(a_timer_of_32_bits_meets_its_comparator_at_each_round) {
    put(TIMER(2), INTERRUPT | BITS32 | ROUTE(21));
    put(CMP(2), 0x700000064);
    ck_assert_uint_eq(get(CMP(2)), 100);
    put(CONFIG, 1);
    fx_to(&f, 1000);
    ck_assert_uint_eq(f.rises[21], 1);
    fx_to(&f, 1000 + (10ull << 32) - 1);
    ck_assert_uint_eq(f.rises[21], 1);
    fx_to(&f, 1000 + (10ull << 32));
    ck_assert_uint_eq(f.rises[21], 2);
}
END_TEST

START_TEST(a_level_stays_until_its_status_is_cleared) {
    put(TIMER(2), LEVEL | INTERRUPT | ROUTE(20));
    put(CMP(2), 10);
    put(CONFIG, 1);
    fx_to(&f, 100);
    ck_assert_int_eq(f.level[20], 1);
    ck_assert_uint_eq(get(STATUS), 4);
    put(STATUS, 3);
    ck_assert_int_eq(f.level[20], 1);
    put(STATUS, 4);
    ck_assert_int_eq(f.level[20], 0);
    put(TIMER(2), LEVEL | ROUTE(20)); /* the status comes without the interrupt, too */
    put(CMP(2), 200);
    fx_to(&f, 2000);
    ck_assert_uint_eq(get(STATUS), 4);
    ck_assert_int_eq(f.level[20], 0);
    put(TIMER(2), LEVEL | INTERRUPT | ROUTE(20));
    ck_assert_int_eq(f.level[20], 1);
}
END_TEST

/* As Linux sets one up: the first write is the comparator, the second the period. */
START_TEST(a_periodic_timer_adds_its_period) {
    put(TIMER(0), INTERRUPT | PERIODIC | SET_VALUE | BITS32);
    ck_assert_uint_eq(get(TIMER(0)) & 0x30, 0x30);
    wr32(&f, HPET_BASE + CMP(0), 1000);
    wr32(&f, HPET_BASE + CMP(0), 100);
    put(CONFIG, 3);
    fx_to(&f, 10000);
    ck_assert_uint_eq(f.rises[0], 1);
    fx_to(&f, 15000);
    ck_assert_uint_eq(f.rises[0], 6);
    ck_assert_uint_eq(get(CMP(0)), 1600);
    fx_jump(&f, 1000000); /* many at once are one */
    ck_assert_uint_eq(f.rises[0], 7);
    ck_assert_uint_eq(get(CMP(0)), 100100);
    fx_by(&f, 1000);
    ck_assert_uint_eq(f.rises[0], 8);
}
END_TEST

START_TEST(legacy_replacement_takes_the_lines_of_pit_and_rtc) {
    put(TIMER(0), INTERRUPT | ROUTE(20));
    put(TIMER(1), INTERRUPT | ROUTE(20));
    put(CMP(0), 10);
    put(CMP(1), 20);
    put(CONFIG, 3);
    ck_assert_uint_eq(legacy_on, 1);
    ck_assert_uint_eq(legacy_calls, 1);
    fx_to(&f, 1000);
    ck_assert_uint_eq(f.rises[HPET_PIT_GSI], 1);
    ck_assert_uint_eq(f.rises[HPET_RTC_GSI], 1);
    ck_assert_uint_eq(f.rises[20], 0);
    put(CONFIG, 1);
    ck_assert_uint_eq(legacy_on, 0);
    put(CMP(0), 200);
    fx_to(&f, 3000);
    ck_assert_uint_eq(f.rises[20], 1);
}
END_TEST

START_TEST(any_writes_leave_it_safe) {
    srand(1);
    for (unsigned i = 0; i < 20000; i++) {
        unsigned reg = (unsigned)rand() % HPET_SIZE, size = 1u << rand() % 4;
        uint64_t value = (uint64_t)rand() << (rand() % 3 * 16) ^ (uint64_t)rand();
        dev_bus_mmio_write(f.bus, HPET_BASE + reg, size, value);
        (void)dev_bus_mmio_read(f.bus, HPET_BASE + reg, size);
        fx_jump(&f, f.now + (uint64_t)(rand() % 1000));
        ck_assert_uint_ge(clock_next(&f.clock), f.now);
    }
}
END_TEST

START_TEST(a_copy_goes_on_and_states_that_cannot_be_are_refused) {
    uint64_t state[64] = {0};
    ck_assert_uint_le(((struct device *)h)->class->state_size, sizeof(state));
    put(TIMER(0), INTERRUPT | PERIODIC | SET_VALUE);
    put(CMP(0), 1000);
    put(CONFIG, 3);
    dev_save(h, state);
    put(CONFIG, 0);
    ck_assert_int_eq(dev_load(h, state), 0);
    ck_assert_uint_eq(legacy_on, 1);
    fx_to(&f, 10000);
    ck_assert_uint_eq(f.rises[0], 1);
    state[0] |= 4; /* the configuration */
    ck_assert_int_lt(dev_load(h, state), 0);
    state[0] = 3;
    state[3] = UINT64_MAX; /* since: in the future */
    ck_assert_int_lt(dev_load(h, state), 0);
}
END_TEST

/* As the host's: it goes on between two looks. */
static uint64_t goes_on(void *opaque) {
    struct fx *fx = opaque;
    return fx->now += 15;
}

/* However late the clock's timer is: the next period is not missed while this one is dealt with. */
START_TEST(a_clock_that_goes_on_loses_no_period) {
    f.clock.now = goes_on;
    for (unsigned late = 0; late < 300; late++) {
        put(CONFIG, 0);
        put(COUNT, 0);
        put(TIMER(0), INTERRUPT | PERIODIC | SET_VALUE | BITS32 | ROUTE(20));
        put(CMP(0), 1000);
        put(CMP(0), 1000);
        put(CONFIG, 1);
        f.now = clock_next(&f.clock) + 10000 - late;
        clock_run(&f.clock);
        ck_assert_uint_le(clock_next(&f.clock), f.now + 10000);
        unsigned before = f.rises[20];
        f.now = clock_next(&f.clock);
        clock_run(&f.clock);
        ck_assert_uint_eq(f.rises[20], before + 1);
    }
}
END_TEST

SUITE("dev.hpet", .setup = setup, .teardown = teardown,
      .tests = {
          the_counter_counts_each_10_ns_while_it_is_enabled,
          a_comparator_raises_its_line_once,
          a_timer_of_32_bits_meets_its_comparator_at_each_round,
          a_level_stays_until_its_status_is_cleared, a_periodic_timer_adds_its_period,
          legacy_replacement_takes_the_lines_of_pit_and_rtc, any_writes_leave_it_safe,
          a_copy_goes_on_and_states_that_cannot_be_are_refused,
          a_clock_that_goes_on_loses_no_period})
