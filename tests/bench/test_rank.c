/* SPDX-License-Identifier: MIT */
/* Medians, intervals, rank sums; plans. */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness/plan.h"
#include "bench/harness/rank.h"
#include "tests/suite.h"

START_TEST(the_median_of_an_even_number_is_between_the_middle_two) {
    double odd[] = {3, 1, 2}, even[] = {4, 1, 3, 2};
    ck_assert_double_eq(rank_median(odd, 3), 2);
    ck_assert_double_eq(rank_median(even, 4), 2.5);
}
END_TEST

START_TEST(the_interval_of_a_median_needs_six_values) {
    double v[] = {10, 11, 12, 13, 14, 100, 9, 8, 7};
    ck_assert(!rank_one(v, 1).known && !rank_one(v, 5).known); /* 2 of 32 */
    struct interval i = rank_one(v, 6);                        /* 2 of 64 */
    ck_assert(i.known && i.low == 10 && i.high == 100);
    i = rank_one(v, 9); /* the second and the eighth: 20 of 512 */
    ck_assert(i.known && i.low == 8 && i.median == 11 && i.high == 14);
}
END_TEST

START_TEST(the_interval_of_a_ratio_needs_four_values_each) {
    const double a[] = {10, 11, 12, 13}, b[] = {20, 22, 24, 26};
    struct interval i;
    ck_assert_int_eq(rank_ratio(a, 3, b, 3, &i), 0); /* 2 of 20 */
    ck_assert(!i.known);
    ck_assert_int_eq(rank_ratio(a, 4, b, 4, &i), 0); /* 2 of 70 */
    ck_assert(i.known && i.low == 20.0 / 13 && i.high == 2.6);
    ck_assert(i.median > 1.9 && i.median < 2.1);
}
END_TEST

/* Tables of the Mann-Whitney statistic have these: of all orders of m and n values, those
 * with at most u pairs the wrong way round. */
START_TEST(rank_sums_are_as_rare_as_the_tables_say) {
    const double low[] = {1, 2, 3, 4, 5, 6, 7, 8},
                 high[] = {9, 10, 11, 12, 13, 14, 15, 16};
    const double mixed[] = {9, 10, 11, 12, 4.5}; /* a's 5 is above it */
    ck_assert_double_eq_tol(rank_above(low, 5, high, 5, 1), 1.0 / 252, 1e-12);
    ck_assert_double_eq_tol(rank_above(low, 5, mixed, 5, 1), 2.0 / 252, 1e-12);
    ck_assert_double_eq_tol(rank_above_least(8, 8), 1.0 / 12870, 1e-12);
    ck_assert_double_eq_tol(rank_above(high, 5, low, 5, 1), 1, 1e-12);
    ck_assert_double_eq(rank_above(low, 5, low, 5, 100), 1);
    /* Where it becomes a normal distribution it hardly jumps. */
    double a[26], b[26];
    for (unsigned i = 0; i < 26; i++) {
        a[i] = i + 1;
        b[i] = i + 4.5;
    }
    double exact = rank_above(a, 25, b, 25, 1), normal = rank_above(a, 25, b, 26, 1);
    ck_assert(exact > normal && exact < 1.5 * normal);
}
END_TEST

/* ---- Runs whose speed depends on the place of their process ---- */

static unsigned seed;

static double uniform(void) {
    return rand_r(&seed) / (RAND_MAX + 1.0);
}

/* One process in six has an unlucky place, which costs it 40%: what was measured
 * (bench/FINDINGS.md). */
static double place(void) {
    return uniform() < 1.0 / 6 ? 1.4 : 1;
}

/* A run with some noise, and now and then a disturbance. */
static double time_of(double place) {
    double t = 100 * place * (1 + 0.05 * (uniform() + uniform() - 1));
    return uniform() < 0.05 ? t * 2 : t;
}

#define TRIALS 2000
static void sample(double *v, size_t n, bool own_process) {
    double one = place();
    for (size_t i = 0; i < n; i++)
        v[i] = time_of(own_process ? place() : one);
}

/* Of TRIALS comparisons of a program with itself, those that find it changed. */
static unsigned false_alarms(size_t n, bool own_process) {
    double a[RANK_MAX], b[RANK_MAX];
    unsigned found = 0;
    seed = 1;
    for (unsigned i = 0; i < TRIALS; i++) {
        struct interval r;
        sample(a, n, own_process);
        sample(b, n, own_process);
        ck_assert_int_eq(rank_ratio(a, n, b, n, &r), 0);
        found += r.low > 1 || r.high < 1;
    }
    return found;
}

START_TEST(one_pair_in_twenty_differs_by_chance_where_each_run_has_a_process) {
    const size_t sizes[] = {4, 5, 7, 12, 30};
    /* 5%, and three standard deviations of a binomial distribution */
    const double most = TRIALS * 0.05 + 3 * sqrt(TRIALS * 0.05 * 0.95);
    for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned found = false_alarms(sizes[i], true);
        ck_assert_msg(found <= most, "n=%zu: %u of %u", sizes[i], found, TRIALS);
        ck_assert_msg(found > 0, "n=%zu: no difference is ever found", sizes[i]);
    }
}
END_TEST

/* Why: with all runs of a side in one process the same data give several times as many. */
START_TEST(one_pair_in_four_differs_where_all_runs_have_one_process) {
    ck_assert_uint_gt(false_alarms(7, false), TRIALS / 5);
}
END_TEST

START_TEST(a_difference_of_a_third_is_mostly_found) {
    double a[12], b[12];
    unsigned found = 0;
    seed = 2;
    for (unsigned t = 0; t < 500; t++) {
        struct interval r;
        sample(a, 12, true);
        sample(b, 12, true);
        for (unsigned i = 0; i < 12; i++)
            b[i] *= 4.0 / 3;
        ck_assert_int_eq(rank_ratio(a, 12, b, 12, &r), 0);
        found += r.low > 1;
    }
    ck_assert_uint_gt(found, 375);
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

/* As options have them; the guest, which reads digits, gets digits. */
START_TEST(a_number_of_a_point_may_have_an_exponent) {
    static struct plan p;
    char text[200];
    struct err e = {text, sizeof(text)};
    memset(&p, 0, sizeof(p));
    ck_assert_int_eq(plan_add(&p, "chase:bytes=0x10000,steps=1e8", false, &e), 0);
    ck_assert_ptr_nonnull(strstr(p.unit[0].params, "bytes=65536"));
    ck_assert_ptr_nonnull(strstr(p.unit[0].params, "steps=100000000"));
    ck_assert_int_eq(plan_add(&p, "chase:steps=100000000,bytes=64K", false, &e), -EINVAL);
    ck_assert_int_eq(plan_add(&p, "linux.fork:n=2e2", false, &e), 0);
    ck_assert_ptr_nonnull(strstr(p.unit[1].params, "n=200"));
    static const char *const bad[] = {"chase:steps=1e",   "chase:steps=1e30",
                                      "chase:steps=-1e3", "chase:steps=1.55e1",
                                      "chase:steps=1e3K", "linux.fork:n=0e5"};
    for (unsigned i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
        ck_assert_msg(plan_add(&p, bad[i], false, &e) == -EINVAL, "%s", bad[i]);
}
END_TEST

SUITE("bench", .timeout = 60,
      .tests = {the_median_of_an_even_number_is_between_the_middle_two,
                the_interval_of_a_median_needs_six_values,
                the_interval_of_a_ratio_needs_four_values_each,
                rank_sums_are_as_rare_as_the_tables_say,
                one_pair_in_twenty_differs_by_chance_where_each_run_has_a_process,
                one_pair_in_four_differs_where_all_runs_have_one_process,
                a_difference_of_a_third_is_mostly_found, each_point_is_in_one_shard,
                a_point_names_every_parameter, a_number_of_a_point_may_have_an_exponent})
