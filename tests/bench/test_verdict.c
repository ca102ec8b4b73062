/* SPDX-License-Identifier: MIT */
/* Who wins, and what for: from results as a file has them. */
#include <stdlib.h>
#include <string.h>

#include "bench/harness/verdict.h"
#include "penumbra/model.h"
#include "tests/suite.h"

/* A result of the first point: what is paid for walks, for shadow faults, for exits and for instructions. */
static json_t *result(const char *mmu, double walks, double faults, double exits,
                      double insns) {
    return json_pack("{s:i, s:s, s:s, s:s, s:n, s:i, s:{s:i}, s:{s:f, s:{s:f, s:f, s:f, "
                     "s:f}, s:{s:i}, "
                     "s:{s:i, s:i}}}",
                     "index", 0, "workload", "gcc", "label", "n=1", "mmu", mmu, "error",
                     "ops", 2, "counters", "sp_created", 7, "modelled", "cycles",
                     walks + faults + exits + insns, "cycles_by_cost", "guest_ref_l1",
                     walks, "shadow_fault", faults, "exit", exits, "insn", insns, "walks",
                     "references", 1234567, "vm_exits", "all", 40, "fault", 30);
}

static void reason_of(json_t *a, json_t *b, char *text, size_t size) {
    json_t *results = json_pack("[o, o]", a, b);
    struct verdict v;
    ck_assert(verdict_find(results, 0, &v));
    verdict_reason(&v, text, size);
    json_decref(results);
}

START_TEST(the_cheapest_wins_by_cycles_of_an_operation) {
    json_t *results =
        json_pack("[o, o]", result("shadow", 0, 0, 0, 300), result("tdp", 0, 0, 0, 200));
    struct verdict v;
    char text[128];
    ck_assert(verdict_find(results, 0, &v));
    ck_assert_double_eq(verdict_per_op(v.best), 100);
    verdict_text(&v, text, sizeof(text));
    ck_assert_str_eq(text, "tdp wins, shadow takes 1.50 times as many cycles");
    json_decref(results);
}
END_TEST

START_TEST(two_within_half_a_percent_are_equal_for_no_reason) {
    json_t *results = json_pack("[o, o]", result("shadow", 1, 0, 0, 1000),
                                result("tdp", 0, 0, 0, 1000));
    struct verdict v;
    char text[128];
    ck_assert(verdict_find(results, 0, &v));
    verdict_text(&v, text, sizeof(text));
    ck_assert_str_eq(text, "tdp and shadow are equal");
    verdict_reason(&v, text, sizeof(text));
    ck_assert_str_eq(text, "");
    json_decref(results);
}
END_TEST

START_TEST(the_reason_is_the_largest_difference_and_what_goes_the_other_way_is_named) {
    char text[512];
    reason_of(result("shadow", 10, 50, 0, 100), result("tdp", 200, 0, 0, 100), text,
              sizeof(text));
    ck_assert_str_eq(text, "tdp pays more for walks of page tables (table entries read: "
                           "1.2M, shadow 1.2M), shadow for page faults, and writes to "
                           "page tables, that leave the guest (exits: 30, tdp 30)");
    reason_of(result("shadow", 10, 5, 0, 100), result("tdp", 200, 0, 0, 100), text,
              sizeof(text));
    ck_assert_ptr_null(strstr(text, "shadow for"));
}
END_TEST

/* 30 of 40 exits are for faults: three quarters of what exits cost. */
START_TEST(an_exit_is_put_down_to_what_it_was_for) {
    char text[512];
    reason_of(result("shadow", 0, 0, 400, 100), result("tdp", 250, 0, 0, 100), text,
              sizeof(text));
    ck_assert_ptr_nonnull(strstr(text, "shadow pays more for page faults"));
}
END_TEST

/* A cost that no cause names would be the rest's. */
START_TEST(every_point_has_a_sentence) {
    json_t *results =
        json_pack("[o, o]", result("shadow", 0, 0, 0, 300), result("tdp", 0, 0, 0, 200));
    json_t *all = verdict_sentences(results);
    ck_assert_uint_eq(json_array_size(all), 1);
    const char *text = json_string_value(json_array_get(all, 0));
    ck_assert_ptr_nonnull(strstr(text,
                                 "gcc n=1: tdp wins, shadow takes 1.50 times as many "
                                 "cycles, because shadow pays more for the rest ("));
    json_decref(all);
    json_decref(results);
}
END_TEST

SUITE("verdict",
      .tests = {the_cheapest_wins_by_cycles_of_an_operation,
                two_within_half_a_percent_are_equal_for_no_reason,
                the_reason_is_the_largest_difference_and_what_goes_the_other_way_is_named,
                an_exit_is_put_down_to_what_it_was_for, every_point_has_a_sentence})
