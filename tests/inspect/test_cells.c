/* SPDX-License-Identifier: MIT */
/* Cells of faults: few are exact; many become coarser, and none is lost. */
#include <stdlib.h>

#include "inspect/faults.h"
#include "tests/suite.h"

static struct fault_cells *c;

static void setup(void) {
    c = fault_cells_create(1000);
    ck_assert_ptr_nonnull(c);
}

static void teardown(void) {
    free(c);
}

static uint64_t all(void) {
    uint64_t n = c->beyond;
    for (size_t i = 0; i < c->count; i++)
        n += c->cell[i].count;
    return n;
}

START_TEST(few_are_exact_and_stand_in_order_of_time) {
    fault_cells_add(c, 1003, 0x7000, 5, 1, 0x1000, 0);
    fault_cells_add(c, 1001, 0x9000, 5, 1, 0x1000, 0);
    fault_cells_add(c, 1003, 0x7fff, 5, 1, 0x1000, 0);
    fault_cells_add(c, 1003, 0x7000, 5, UINT64_MAX, 0x1000, 0);
    fault_cells_add(c, 900, FAULT_UNKNOWN, FAULT_USER, 2, FAULT_UNKNOWN, 0);
    fault_cells_finish(c);
    ck_assert_uint_eq(c->count, 4);
    ck_assert_uint_eq(c->width, 1);
    ck_assert_uint_eq(c->page_shift, 12);
    ck_assert_uint_eq(c->cell[0].time, 0);
    ck_assert_uint_eq(c->cell[0].page, FAULT_UNKNOWN);
    ck_assert_uint_eq(c->cell[1].time, 1);
    ck_assert_uint_eq(c->cell[1].page, 9);
    ck_assert_uint_eq(c->cell[2].time, 3);
    ck_assert_uint_eq(c->cell[2].count, 2);
    ck_assert_uint_eq(c->cell[3].outcome, UINT32_MAX);
}
END_TEST

START_TEST(a_long_time_has_parts_that_are_longer) {
    for (uint64_t t = 0; t < 1000000; t += 100)
        fault_cells_add(c, 1000 + t, 0x1000, 1, 1, 0, 0);
    fault_cells_finish(c);
    ck_assert_uint_eq(c->width, 2048);
    ck_assert_uint_eq(c->count, 1000000 / 2048 + 1);
    ck_assert_uint_eq(all(), 10000);
}
END_TEST

START_TEST(many_pages_become_larger_ones) {
    for (uint64_t i = 0; i < 1000000; i++)
        fault_cells_add(c, 1000 + i, i << 12, 1, 1, 0, 0);
    fault_cells_finish(c);
    ck_assert_uint_gt(c->page_shift, 12);
    ck_assert_uint_gt(c->count, CELLS_MAX / 8);
    ck_assert_uint_eq(c->beyond, 0);
    ck_assert_uint_eq(all(), 1000000);
}
END_TEST

START_TEST(functions_without_end_are_counted_as_beyond) {
    for (uint64_t i = 0; i < CELLS_MAX + 100; i++)
        fault_cells_add(c, 1000, 0x1000, i, 1, 0, 0);
    ck_assert_uint_eq(c->beyond, 100);
    ck_assert_uint_eq(all(), CELLS_MAX + 100);
}
END_TEST

START_TEST(times_and_pages_at_their_ends_do_no_harm) {
    uint64_t x = 1;
    for (uint64_t i = 0; i < 200000; i++) {
        x = x * 6364136223846793005u + 1442695040888963407u;
        fault_cells_add(c, i & 1 ? x : UINT64_MAX, x * x, x >> 40, x >> 60, x << 3, 0);
    }
    fault_cells_finish(c);
    ck_assert_uint_eq(all(), 200000);
}
END_TEST

SUITE("cells", .setup = setup, .teardown = teardown, .timeout = 120,
      .tests = {few_are_exact_and_stand_in_order_of_time,
                a_long_time_has_parts_that_are_longer, many_pages_become_larger_ones,
                functions_without_end_are_counted_as_beyond,
                times_and_pages_at_their_ends_do_no_harm})
