/* SPDX-License-Identifier: MIT */
/* ACPI PM block: timer, its overflow, power button, SCI, soft-off. */
#include "fixture.h"
#include "tests/suite.h"

#define HZ 3579545ull

static struct fx f;
static struct acpi_pm *a;

static void setup(void) {
    fx_init(&f);
    a = acpi_pm_create(&f.env);
    ck_assert_ptr_nonnull(a);
}

static void teardown(void) {
    fx_done(&f);
    ck_assert_uint_eq(clock_next(&f.clock), CLOCK_NEVER);
}

static uint16_t get16(unsigned off) {
    return (uint16_t)dev_bus_pio_read(f.bus, (uint16_t)(ACPI_PM_BASE + off), 2);
}

static void put16(unsigned off, uint16_t v) {
    out16(&f, (uint16_t)(ACPI_PM_BASE + off), v);
}

static uint32_t timer(void) {
    return in32(&f, ACPI_PM_BASE + ACPI_PM_TMR);
}

START_TEST(the_timer_counts_24_bits_at_3579545_hz) {
    ck_assert_uint_eq(timer(), 0);
    fx_to(&f, 1000000000);
    ck_assert_uint_eq(timer(), HZ);
    fx_to(&f, 5000000000);
    ck_assert_uint_eq(timer(), 5 * HZ & 0xffffff);
    ck_assert_uint_eq(in8(&f, ACPI_PM_BASE + 9), 5 * HZ >> 8 & 0xff);
    out32(&f, ACPI_PM_BASE + 8, 0); /* read-only */
    ck_assert_uint_eq(timer(), 5 * HZ & 0xffffff);
}
END_TEST

START_TEST(each_half_period_of_the_timer_sets_its_status) {
    uint64_t half = ((1ull << 23) * 1000000000 + HZ - 1) / HZ;

    put16(2, 1);
    ck_assert_uint_eq(clock_next(&f.clock), half);
    fx_to(&f, half - 1);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 0);
    fx_to(&f, half);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 1);
    ck_assert_uint_eq(get16(0), 1);
    put16(0, 1);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 0);
    ck_assert_uint_eq(clock_next(&f.clock), ((2ull << 23) * 1000000000 + HZ - 1) / HZ);
    put16(2, 0);
    fx_by(&f, 10000000000);
    ck_assert_uint_eq(get16(0), 1); /* the status comes without the enable, too */
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 0);
    put16(2, 1);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 1);
}
END_TEST

START_TEST(the_power_button_raises_the_sci_until_its_status_is_cleared) {
    acpi_pm_press_power(a);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 0);
    put16(2, 0x100);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 1);
    out8(&f, ACPI_PM_BASE + 0, 0xff); /* the other byte */
    ck_assert_uint_eq(get16(0), 0x100);
    out8(&f, ACPI_PM_BASE + 1, 0x01);
    ck_assert_uint_eq(get16(0), 0);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 0);
}
END_TEST

START_TEST(the_enable_register_keeps_only_bits_that_exist) {
    put16(2, 0xffff);
    ck_assert_uint_eq(get16(2), 0x0721);
}
END_TEST

START_TEST(only_s5_with_slp_en_powers_off) {
    ck_assert_uint_eq(get16(4), 1); /* SCI_EN */
    put16(4, 0x0800 | 0x2000);      /* a state that is not here */
    ck_assert_uint_eq(f.poweroffs, 0);
    put16(4, ACPI_PM_S5_TYP << 10);
    ck_assert_uint_eq(f.poweroffs, 0); /* no SLP_EN */
    ck_assert_uint_eq(get16(4), ACPI_PM_S5_TYP << 10 | 1);
    put16(4, ACPI_PM_S5_TYP << 10 | 0x2000);
    ck_assert_uint_eq(f.poweroffs, 1);
    ck_assert_uint_eq(get16(4), ACPI_PM_S5_TYP << 10 | 1); /* SLP_EN reads 0 */
    put16(4, 0x2000);                                      /* QEMU's S5 */
    ck_assert_uint_eq(f.poweroffs, 2);
}
END_TEST

static void sleep_in_s3(void) {
    unsigned before = f.sleeps;
    put16(4, ACPI_PM_S3_TYP << 10 | 0x2000);
    ck_assert_uint_eq(f.sleeps, before + 1);
    ck_assert_uint_eq(f.poweroffs, 0);
}

START_TEST(an_enabled_alarm_ends_s3) {
    sleep_in_s3();
    acpi_pm_alarm(a); /* not enabled */
    ck_assert_uint_eq(f.wakes, 0);
    ck_assert_uint_eq(get16(0), 0x400);
    put16(2, 0x400);
    ck_assert_uint_eq(f.wakes, 1);
    ck_assert_uint_eq(get16(0), 0x8400); /* WAK, RTC */
    put16(0, 0x8400);
    acpi_pm_alarm(a); /* awake: an SCI, no more */
    ck_assert_uint_eq(f.wakes, 1);
    ck_assert_uint_eq(get16(0), 0x400);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 1);
}
END_TEST

START_TEST(the_power_button_ends_s3_without_being_enabled) {
    sleep_in_s3();
    acpi_pm_press_power(a);
    ck_assert_uint_eq(f.wakes, 1);
    ck_assert_uint_eq(get16(0), 0x8100);
}
END_TEST

START_TEST(s3_ends_at_once_where_an_enabled_alarm_waits) {
    put16(2, 0x400);
    acpi_pm_alarm(a);
    sleep_in_s3();
    ck_assert_uint_eq(f.wakes, 1);
}
END_TEST

START_TEST(the_block_and_its_line_come_through_s3) {
    put16(2, 0x100);
    sleep_in_s3();
    acpi_pm_press_power(a);
    f.level[ACPI_SCI_GSI] = 0;
    dev_bus_sleep(f.bus);
    ck_assert_int_eq(f.level[ACPI_SCI_GSI], 1);
    ck_assert_uint_eq(get16(2), 0x100);
}
END_TEST

SUITE("acpi_pm", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {the_timer_counts_24_bits_at_3579545_hz,
                each_half_period_of_the_timer_sets_its_status,
                the_power_button_raises_the_sci_until_its_status_is_cleared,
                the_enable_register_keeps_only_bits_that_exist,
                only_s5_with_slp_en_powers_off, an_enabled_alarm_ends_s3,
                the_power_button_ends_s3_without_being_enabled,
                s3_ends_at_once_where_an_enabled_alarm_waits,
                the_block_and_its_line_come_through_s3})
