/* SPDX-License-Identifier: MIT */
/* What compare says of two results, and what its gate does. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "bench/harness/comparison.h"
#include "bench/harness/rank.h"
#include "tests/suite.h"

static json_t *model(const char *name, int entries) {
    return json_pack("{s:s, s:s, s:{s:s, s:i}}", "name", name, "xxh3", "0", "profile",
                     "name", name, "entries", entries);
}

static json_t *document(int entries) {
    return json_pack("{s:{s:o, s:n}, s:[]}", "settings", "tlb", model("mine", entries),
                     "cost_profile", "results");
}

/* A result of n samples; counter below 0: it counts none. Return: it, in doc. */
static json_t *add(json_t *doc, const char *params, const char *mmu, const double *v,
                   size_t n, int counter, double cycles) {
    json_t *samples = json_array(), *counters = json_object();
    for (size_t i = 0; i < n; i++)
        json_array_append_new(samples, json_integer((json_int_t)(v[i] * 1000)));
    if (counter >= 0)
        json_object_set_new(counters, "pf_taken", json_integer(counter));
    json_t *r = json_pack(
        "{s:s, s:s, s:s, s:s, s:s, s:n, s:s, s:n, s:{s:o}, s:i, s:s, s:o, s:{s:f}}",
        "workload", "remap", "params", params, "label", "", "mmu", mmu, "engine", mmu,
        "mmu_options", "kind", "simulated", "error", "time_ns", "samples", samples, "ops",
        7, "checksum", "ab", "counters", counters, "modelled", "cycles", cycles);
    ck_assert_ptr_nonnull(r);
    json_array_append_new(json_object_get(doc, "results"), r);
    return r;
}

/* Compare, and drop the documents. */
static json_t *compare(json_t *a, json_t *b, double limit, bool exact) {
    static const char *const path[] = {"a", "b"};
    const struct comparison_config cfg = {path, 1, limit, exact};
    json_t *c = comparison_make(a, b, &cfg);
    ck_assert_ptr_nonnull(c);
    json_decref(a);
    json_decref(b);
    return c;
}

static const char *text(const json_t *c, const char *member) {
    return json_string_value(json_object_get(c, member));
}

static void verdict_is(json_t *c, const char *want, const char *reason) {
    const char *have = text(c, "verdict");
    const char *why = json_string_value(json_array_get(json_object_get(c, "reasons"), 0));
    ck_assert_msg(have && !strcmp(have, want), "verdict %s", have ? have : "null");
    if (reason)
        ck_assert_msg(why && strstr(why, reason), "reason %s", why ? why : "none");
    json_decref(c);
}

static const double steady[] = {100, 101, 102, 103, 104, 105, 106, 107};
static const double longer[] = {130, 131, 132, 133, 134, 135, 136, 137};

/* One pair: n samples of each, modelled cycles and a counter. */
static json_t *one_pair(const double *b, size_t n, int counter, double cycles,
                        double limit, bool exact) {
    json_t *x = document(64), *y = document(64);
    add(x, "pages=8", "shadow", steady, n, 5, 1000);
    add(y, "pages=8", "shadow", b, n, counter, cycles);
    return compare(x, y, limit, exact);
}

START_TEST(a_time_beyond_the_limit_crosses_the_gate) {
    verdict_is(one_pair(steady, 8, 5, 1000, 10, false), "passed", NULL);
    verdict_is(one_pair(longer, 8, 5, 1000, 10, false), "crossed", NULL);
    /* 30% is real, but is no more than 30%. */
    verdict_is(one_pair(longer, 8, 5, 1000, 30, false), "passed", NULL);
}
END_TEST

START_TEST(without_a_gate_there_is_no_verdict) {
    json_t *c = one_pair(longer, 8, 6, 2000, -1, false);
    const json_t *pair = json_array_get(json_object_get(c, "pairs"), 0);
    ck_assert(json_is_null(json_object_get(c, "verdict")));
    ck_assert_str_eq(text(json_object_get(pair, "time"), "verdict"), "slower");
    json_decref(c);
}
END_TEST

START_TEST(a_gate_that_compared_nothing_does_not_pass) {
    verdict_is(compare(document(64), document(64), 10, false), "untold", "nothing");
    verdict_is(compare(document(64), document(64), -1, true), "untold", "nothing");
}
END_TEST

START_TEST(a_gate_with_too_few_samples_does_not_pass) {
    verdict_is(one_pair(steady, 2, 5, 1000, 10, false), "untold", "need");
    verdict_is(one_pair(steady, 3, 5, 1000, 10, false), "passed", NULL); /* 1 of 20 */
    /* More pairs at once need more samples: 1 of 70 is no 40th part of one in twenty. */
    json_t *x = document(64), *y = document(64);
    for (unsigned i = 0; i < 40; i++) {
        char params[16];
        snprintf(params, sizeof(params), "pages=%u", i + 2);
        add(x, params, "shadow", steady, 4, 5, 1000);
        add(y, params, "shadow", steady, 4, 5, 1000);
    }
    verdict_is(compare(x, y, 10, false), "untold", "a limit needs 6 of each");
}
END_TEST

START_TEST(a_point_without_a_partner_does_not_pass_and_is_explained) {
    json_t *x = document(64), *y = document(64);
    add(x, "pages=8 batch=1", "shadow", steady, 8, 5, 1000);
    add(y, "pages=8 batch=1", "shadow", steady, 8, 5, 1000);
    add(x, "pages=8 batch=2", "shadow", steady, 8, 5, 1000);
    add(y, "pages=9 batch=2", "shadow", steady, 8, 5, 1000);
    json_t *c = compare(x, y, 10, false);
    const json_t *alone = json_object_get(c, "unpaired");
    ck_assert_uint_eq(json_array_size(alone), 2);
    ck_assert_str_eq(text(json_array_get(alone, 0), "in"), "A");
    ck_assert_str_eq(text(json_array_get(alone, 0), "why"), "B has pages=9 (A: 8)");
    verdict_is(c, "untold", "2 results have no partner");
}
END_TEST

START_TEST(a_point_under_another_mmu_is_explained) {
    json_t *x = document(64), *y = document(64);
    add(x, "pages=8", "shadow", steady, 8, 5, 1000);
    add(y, "pages=8", "tdp", steady, 8, 5, 1000);
    json_t *c = compare(x, y, -1, true);
    ck_assert_str_eq(text(json_array_get(json_object_get(c, "unpaired"), 0), "why"),
                     "B has --mmu tdp (A: shadow)");
    verdict_is(c, "untold", "nothing");
}
END_TEST

/* Both call their model "mine". */
START_TEST(models_are_compared_by_their_content) {
    json_t *x = document(64), *y = document(16);
    add(x, "pages=8", "shadow", steady, 8, 5, 1000);
    add(y, "pages=8", "shadow", steady, 8, 5, 2000);
    json_t *c = compare(x, y, 10, false);
    const json_t *pair = json_array_get(json_object_get(c, "pairs"), 0);
    ck_assert(json_is_null(json_object_get(pair, "cycles")));
    verdict_is(c, "untold", "models");
    x = document(64);
    y = document(64);
    json_object_set_new(json_object_get(y, "settings"), "tlb", model("other", 64));
    json_object_set_new(
        json_object_get(json_object_get(json_object_get(y, "settings"), "tlb"),
                        "profile"),
        "name", json_string("other"));
    add(x, "pages=8", "shadow", steady, 8, 5, 1000);
    add(y, "pages=8", "shadow", steady, 8, 5, 2000);
    verdict_is(compare(x, y, 10, false), "crossed", NULL);
}
END_TEST

START_TEST(exact_figures_need_one_run_and_must_be_equal) {
    verdict_is(one_pair(longer, 1, 5, 1000, -1, true), "passed", NULL);
    verdict_is(one_pair(steady, 1, 6, 1000, -1, true), "crossed", NULL);
    verdict_is(one_pair(steady, 1, 5, 1001, -1, true), "crossed", NULL);
    /* A counter that one version lacks is no difference. */
    verdict_is(one_pair(steady, 1, -1, 1000, -1, true), "passed", NULL);
    json_t *c = one_pair(steady, 1, 6, 1000, -1, true);
    const json_t *pair = json_array_get(json_object_get(c, "pairs"), 0);
    ck_assert_str_eq(
        text(json_array_get(json_object_get(pair, "differences"), 0), "figure"),
        "counters.pf_taken");
    json_decref(c);
}
END_TEST

START_TEST(exact_with_a_limit_is_a_limit_of_modelled_cycles) {
    verdict_is(one_pair(steady, 1, 6, 1040, 5, true), "passed", NULL);
    verdict_is(one_pair(steady, 1, 5, 1060, 5, true), "crossed", NULL);
    verdict_is(one_pair(steady, 1, 5, 900, 5, true), "passed", NULL);
}
END_TEST

/* ---- Chance ---- */

static unsigned seed;

static double noise(void) {
    double u = rand_r(&seed) / (RAND_MAX + 1.0);
    return 100 * (1 + 0.3 * u * u) * (rand_r(&seed) % 6 ? 1 : 1.4);
}

/* 22 pairs of equal programs, and a limit of 0: of 300 gates at most as many fail as one in
 * twenty may. To judge each pair alone would fail more than a third. */
START_TEST(a_gate_fails_by_chance_once_in_twenty_times) {
    unsigned crossed = 0, alone = 0;
    seed = 3;
    for (unsigned t = 0; t < 300; t++) {
        json_t *x = document(64), *y = document(64);
        for (unsigned i = 0; i < 22; i++) {
            char params[16];
            double v[8];
            snprintf(params, sizeof(params), "pages=%u", i + 2);
            for (unsigned s = 0; s < 16; s++) {
                v[s % 8] = noise();
                if (s % 8 == 7)
                    add(s > 8 ? y : x, params, "shadow", v, 8, 5, 1000);
            }
        }
        json_t *c = compare(x, y, 0, false);
        crossed += !strcmp(text(c, "verdict"), "crossed");
        alone += json_integer_value(
                     json_object_get(json_object_get(c, "counts"), "slower")) > 0;
        json_decref(c);
    }
    ck_assert_uint_le(crossed, 15 + 3 * 4); /* and three standard deviations */
    ck_assert_uint_gt(alone, 100);
}
END_TEST

SUITE("comparison", .timeout = 120,
      .tests = {
          a_time_beyond_the_limit_crosses_the_gate, without_a_gate_there_is_no_verdict,
          a_gate_that_compared_nothing_does_not_pass,
          a_gate_with_too_few_samples_does_not_pass,
          a_point_without_a_partner_does_not_pass_and_is_explained,
          a_point_under_another_mmu_is_explained, models_are_compared_by_their_content,
          exact_figures_need_one_run_and_must_be_equal,
          exact_with_a_limit_is_a_limit_of_modelled_cycles,
          a_gate_fails_by_chance_once_in_twenty_times})
