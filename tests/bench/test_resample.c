/* SPDX-License-Identifier: MIT */
/* Medians, bootstrap intervals and plans. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness/plan.h"
#include "bench/harness/resample.h"
#include "tests/suite.h"

START_TEST(the_median_of_an_even_number_is_between_the_middle_two) {
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2};
    ck_assert_double_eq(resample_median(odd, 3), 2);
    ck_assert_double_eq(resample_median(even, 4), 2.5);
}
END_TEST

START_TEST(an_interval_holds_the_median_and_is_the_same_each_time) {
    double one[] = {7}, v[] = {10, 11, 12, 13, 100};
    struct interval i = resample_one(one, 1);
    ck_assert(i.median == 7 && i.low == 7 && i.high == 7);
    i = resample_one(v, 5);
    ck_assert_double_eq(i.median, 12);
    ck_assert(i.low >= 10 && i.low <= 12 && i.high >= 12 && i.high <= 100);
    struct interval again = resample_one(v, 5);
    ck_assert(again.low == i.low && again.high == i.high);
}
END_TEST

/* Of 1000 pairs drawn from one distribution, few may differ. */
START_TEST(few_pairs_of_one_distribution_differ) {
    unsigned differs = 0, seed = 1;
    for (int trial = 0; trial < 1000; trial++) {
        double a[8], b[8];
        for (int i = 0; i < 8; i++) {
            a[i] = 100 + rand_r(&seed) % 1000;
            b[i] = 100 + rand_r(&seed) % 1000;
        }
        struct interval r = resample_ratio(a, 8, b, 8);
        differs += r.low > 1 || r.high < 1;
    }
    ck_assert_uint_lt(differs, 80);
}
END_TEST

START_TEST(three_samples_each_are_too_few_and_four_are_enough) {
    ck_assert(!resample_enough(1, 1));
    ck_assert(!resample_enough(3, 3)); /* 2 of 20 */
    ck_assert(resample_enough(4, 4));  /* 2 of 70 */
    ck_assert(resample_enough(1000, 1000));
}
END_TEST

START_TEST(each_point_is_in_one_shard) {
    static struct plan whole, part;
    char text[200];
    struct err e = {text, sizeof(text)};
    ck_assert_int_eq(plan_add_all(&whole, false, &e), 0);
    ck_assert_uint_gt(whole.units, 20);
    bool seen[PLAN_UNITS_MAX] = {false};
    for (unsigned i = 1; i <= 7; i++) {
        memset(&part, 0, sizeof(part));
        ck_assert_int_eq(plan_add_all(&part, false, &e), 0);
        plan_shard(&part, i, 7);
        for (unsigned u = 0; u < part.units; u++) {
            ck_assert(!seen[part.unit[u].index]);
            seen[part.unit[u].index] = true;
            ck_assert_str_eq(part.unit[u].params, whole.unit[part.unit[u].index].params);
        }
    }
    for (unsigned u = 0; u < whole.units; u++)
        ck_assert(seen[u]);
    memset(&part, 0, sizeof(part));
    ck_assert_int_eq(plan_add_all(&part, true, &e), 0);
}
END_TEST

START_TEST(a_point_names_every_parameter) {
    static struct plan p;
    char text[200];
    struct err e = {text, sizeof(text)};
    memset(&p, 0, sizeof(p));
    ck_assert_int_eq(plan_add(&p, "chase:bytes=64K,steps=7", false, &e), 0);
    ck_assert_str_eq(p.unit[0].label, "bytes=64K steps=7");
    ck_assert_ptr_nonnull(strstr(p.unit[0].params, "bytes=65536"));
    ck_assert_ptr_nonnull(strstr(p.unit[0].params, "page=4K"));
    ck_assert_int_eq(plan_add(&p, "chase:bytes=65536,steps=7", false, &e), -EINVAL);
    ck_assert_int_eq(plan_add(&p, "chase", false, &e), 0);
    ck_assert_str_eq(p.unit[1].axis, "bytes");
    ck_assert_double_eq(p.unit[1].value, 65536);
    ck_assert_int_eq(plan_add(&p, "chases", false, &e), -EINVAL);
    ck_assert_int_eq(plan_add(&p, "chase:bytes", false, &e), -EINVAL);
    ck_assert_int_eq(plan_add(&p, "chase:=", false, &e), -EINVAL);
}
END_TEST

SUITE("bench", .timeout = 60,
      .tests = {the_median_of_an_even_number_is_between_the_middle_two,
                an_interval_holds_the_median_and_is_the_same_each_time,
                few_pairs_of_one_distribution_differ,
                three_samples_each_are_too_few_and_four_are_enough,
                each_point_is_in_one_shard, a_point_names_every_parameter})
