/* SPDX-License-Identifier: MIT */
/* The corpus of `penumbra dirty check` finds what it was written for: each tracker here is a good one
 * with one bug of those that hypervisors had. */
#include <string.h>

#include "inspect/dirty_check.h"
#include "tests/suite.h"

#define SLOT_2_WORDS 9u /* 549 pages */

static const struct pn_engine_ops *good;
static struct pn_engine_ops bad;
static uint64_t ever[3][32]; /* by slot: named in some harvest */

static void setup(void) {
    good = pn_engine_find("shadow");
    bad = *good;
    memset(ever, 0, sizeof(ever));
}

static struct dirty_score play(enum dirty_case which) {
    char text[256] = "";
    struct err e = {text, sizeof(text)};
    struct dirty_score s;
    ck_assert_msg(dirty_check(&bad, PN_TRACKER_WP, which, &s, &e) == 0, "%s", text);
    ck_assert(!s.skipped);
    return s;
}

static void it_is_found(enum dirty_case which) {
    struct dirty_score s = play(which);
    ck_assert_msg(s.missed > 0, "%s: nothing is missed", dirty_case_name(which));
}

START_TEST(a_good_tracker_misses_nothing_and_names_nothing_else) {
    for (unsigned i = 0; i < DIRTY_CASES; i++) {
        char text[256] = "";
        struct err e = {text, sizeof(text)};
        struct dirty_score s;
        ck_assert_msg(dirty_check(good, PN_TRACKER_WP, i, &s, &e) == 0, "%s", text);
        ck_assert_uint_eq(s.missed, 0);
        ck_assert_uint_eq(s.unwritten, 0);
        ck_assert(s.skipped || s.changed > 0);
        ck_assert_uint_eq(s.named, s.changed);
    }
}
END_TEST

/* Slot 1's pages one word further: where slot 2's are. */
static long shifted(struct pn_engine *e, uint32_t slot, uint64_t *bitmap, size_t words) {
    long pages = good->dirty_harvest(e, slot, bitmap, words);
    if (slot == 1) {
        bitmap[1] = bitmap[0];
        bitmap[0] = 0;
    }
    return pages;
}

START_TEST(pages_at_wrong_offsets_are_found) {
    bad.dirty_harvest = shifted;
    it_is_found(DIRTY_CASE_slots);
    ck_assert_uint_gt(play(DIRTY_CASE_slots).unwritten, 0);
}
END_TEST

static long without_last_word(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                              size_t words) {
    long pages = good->dirty_harvest(e, slot, bitmap, words);
    if (slot == 2)
        bitmap[SLOT_2_WORDS - 1] = 0;
    return pages;
}

START_TEST(the_lost_end_of_a_slot_is_found) {
    bad.dirty_harvest = without_last_word;
    it_is_found(DIRTY_CASE_ends);
    it_is_found(DIRTY_CASE_every);
}
END_TEST

/* Each page is named once, and then never again. */
static long once(struct pn_engine *e, uint32_t slot, uint64_t *bitmap, size_t words) {
    long pages = good->dirty_harvest(e, slot, bitmap, words);
    for (size_t w = 0; w < words && w < 32; w++) {
        uint64_t now = bitmap[w];
        bitmap[w] &= ~ever[slot][w];
        ever[slot][w] |= now;
    }
    return pages;
}

START_TEST(pages_that_are_not_armed_again_are_found) {
    bad.dirty_harvest = once;
    it_is_found(DIRTY_CASE_again);
    it_is_found(DIRTY_CASE_large);
    it_is_found(DIRTY_CASE_restored);
}
END_TEST

/* Every page that was ever named is named again. */
static long cumulative(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                       size_t words) {
    long pages = good->dirty_harvest(e, slot, bitmap, words);
    for (size_t w = 0; w < words && w < 32; w++)
        bitmap[w] = ever[slot][w] |= bitmap[w];
    return pages + 1; /* more than none */
}

START_TEST(a_log_that_only_grows_names_pages_that_nobody_wrote) {
    bad.dirty_harvest = cumulative;
    struct dirty_score s = play(DIRTY_CASE_quiet);
    ck_assert_uint_eq(s.missed, 0);
    ck_assert_uint_gt(s.unwritten, 0);
}
END_TEST

/* A device that writes memory as if there were no log: one past the engine that tells nobody. */
static long no_devices_page(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                            size_t words) {
    long pages = good->dirty_harvest(e, slot, bitmap, words);
    if (slot == 1)
        bitmap[1] &= ~(UINT64_C(1) << 5); /* page 69, which only devices write */
    return pages;
}

START_TEST(the_page_of_a_device_is_found) {
    bad.dirty_harvest = no_devices_page;
    it_is_found(DIRTY_CASE_device);
}
END_TEST

/* The page in which a store ends: of each run of pages, only the first. */
static long first_of_run(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                         size_t words) {
    long pages = good->dirty_harvest(e, slot, bitmap, words);
    for (size_t w = 0; w < words; w++)
        bitmap[w] &= ~(bitmap[w] << 1);
    return pages;
}

START_TEST(the_second_page_of_a_store_is_found) {
    bad.dirty_harvest = first_of_run;
    it_is_found(DIRTY_CASE_crossing);
}
END_TEST

/* The pages of the guest's tables, which only walks write. */
static long without_tables(struct pn_engine *e, uint32_t slot, uint64_t *bitmap,
                           size_t words) {
    long pages = good->dirty_harvest(e, slot, bitmap, words);
    if (slot == 0)
        bitmap[2] = 0; /* 0x80000 to 0xbffff */
    return pages;
}

START_TEST(pages_that_walks_write_are_found) {
    bad.dirty_harvest = without_tables;
    it_is_found(DIRTY_CASE_tables);
}
END_TEST

SUITE("dirty check", .setup = setup,
      .tests = {a_good_tracker_misses_nothing_and_names_nothing_else,
                pages_at_wrong_offsets_are_found, the_lost_end_of_a_slot_is_found,
                pages_that_are_not_armed_again_are_found,
                a_log_that_only_grows_names_pages_that_nobody_wrote,
                the_page_of_a_device_is_found, the_second_page_of_a_store_is_found,
                pages_that_walks_write_are_found})
