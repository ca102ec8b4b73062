/* SPDX-License-Identifier: MIT */
/* The mark port: 32-bit accesses are marks and answers, others nothing. */
#include "fixture.h"
#include "penumbra/mark.h"
#include "tests/suite.h"

static struct fx f;
static struct mark *m;
static unsigned told;
static uint32_t last;

static uint32_t tell(void *opaque, uint32_t value) {
    ck_assert_ptr_eq(opaque, &f);
    told++;
    last = value;
    return value ^ 0xffu;
}

static void setup(void) {
    fx_init(&f);
    told = 0;
    m = mark_create(&f.env, tell, &f);
    ck_assert_ptr_nonnull(m);
}

static void teardown(void) {
    fx_done(&f);
}

START_TEST(each_32_bit_value_is_a_mark_with_an_answer) {
    ck_assert_uint_eq(in32(&f, PN_MARK_PORT), PN_MARK_NONE);
    for (uint32_t v = 1; v; v <<= 1) {
        out32(&f, PN_MARK_PORT, v);
        ck_assert_uint_eq(last, v);
        ck_assert_uint_eq(in32(&f, PN_MARK_PORT), v ^ 0xffu);
    }
    ck_assert_uint_eq(told, 32);
}
END_TEST

START_TEST(narrow_accesses_are_nothing) {
    for (uint16_t i = 0; i < 4; i++) {
        out8(&f, (uint16_t)(PN_MARK_PORT + i), 1);
        ck_assert_uint_eq(in8(&f, (uint16_t)(PN_MARK_PORT + i)), 0xff);
    }
    out16(&f, PN_MARK_PORT, 1);
    out16(&f, PN_MARK_PORT + 2, 1);
    out32(&f, PN_MARK_PORT + 1, 1);
    out32(&f, PN_MARK_PORT - 1, 1);
    ck_assert_uint_eq(told, 0);
    ck_assert_uint_eq(in32(&f, PN_MARK_PORT), PN_MARK_NONE);
}
END_TEST

START_TEST(a_value_comes_apart_again) {
    uint32_t v = PN_MARK_VALUE(PN_MARK_ROUND, 0x1234567);
    ck_assert_uint_eq(PN_MARK_KIND(v), PN_MARK_ROUND);
    ck_assert_uint_eq(PN_MARK_ARG(v), 0x234567);
}
END_TEST

SUITE("mark", .setup = setup, .teardown = teardown, .timeout = 60,
      .tests = {each_32_bit_value_is_a_mark_with_an_answer, narrow_accesses_are_nothing,
                a_value_comes_apart_again})
