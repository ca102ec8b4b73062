/* SPDX-License-Identifier: MIT */
/* The caches of the TLB model alone: short sequences whose hits are counted by hand. */
#include "fixture.h"
#include "mmu/model/assoc.h"
#include "tests/suite.h"

static struct assoc c;

static void cache(uint32_t entries, uint32_t ways, enum pn_replacement how) {
    struct pn_tlb_array g = {.entries = entries, .ways = ways, .replace = (uint8_t)how};
    ck_assert_ptr_null(pn_tlb_array_problem(&g));
    ck_assert_int_eq(assoc_init(&c, &g), 0);
}

/* Use page n of ctx 0, filled on a miss. Return: it was there. */
static bool use(uint64_t n) {
    struct assoc_entry *e = assoc_find(&c, n << 2, 0);
    if (e)
        assoc_use(&c, e);
    else
        assoc_insert(&c, n << 2, 0);
    return e;
}

/* Pages as digits; upper-case H or . for each: hit or miss. */
static void sequence(const char *pages, const char *want) {
    for (unsigned i = 0; pages[i]; i++)
        ck_assert_msg(use((uint64_t)(pages[i] - '0')) == (want[i] == 'H'),
                      "%s, %s: access %u", pages, want, i);
    assoc_fini(&c);
}

START_TEST(lru_evicts_the_least_recently_used) {
    cache(4, 4, PN_REPLACE_LRU);
    sequence("012301402340", "....HH.H..HH"); /* 4 puts out 2, then 2 3, 3 1 */
    cache(4, 2, PN_REPLACE_LRU);              /* sets of even and of odd pages */
    sequence("020406135371", "..H.H....H..");
    cache(4, 1, PN_REPLACE_LRU);
    sequence("0400123", "...H..."); /* 0 and 4 share a set */
}
END_TEST

START_TEST(fifo_evicts_the_oldest) {
    cache(4, 4, PN_REPLACE_FIFO);
    sequence("01230401", "....H..."); /* use does not keep 0 */
}
END_TEST

/* After 0 1 2 3 the tree points at way 0; a use of 0 turns it to the other half, and
 * there to the way not used last: 2. */
START_TEST(plru_follows_its_tree) {
    cache(4, 4, PN_REPLACE_PLRU);
    sequence("0123042", "....H..");
    cache(4, 4, PN_REPLACE_PLRU);
    sequence("012304130", "....H.HHH"); /* 4 came in 2's place */
    cache(2, 2, PN_REPLACE_PLRU);       /* two ways: as LRU */
    sequence("0102010", "..H.H.H");
}
END_TEST

START_TEST(last_use_changes_nothing) {
    for (int how = 0; how < PN_REPLACE_COUNT; how++) {
        cache(8, 4, how);
        for (uint64_t n = 0; n < 40; n += 3) {
            use(n);
            struct assoc_set before = c.set[assoc_set_of(&c, n << 2)];
            ck_assert(!assoc_use(&c, assoc_find(&c, n << 2, 0)));
            ck_assert_mem_eq(&before, &c.set[assoc_set_of(&c, n << 2)], sizeof(before));
        }
        assoc_fini(&c);
    }
}
END_TEST

START_TEST(an_unbounded_cache_evicts_nothing) {
    cache(PN_ARRAY_UNBOUNDED, 0, 0);
    for (uint64_t n = 0; n < 5000; n++)
        ck_assert(!use(n * 77));
    for (uint64_t n = 0; n < 5000; n++)
        ck_assert(use(n * 77));
    for (uint64_t n = 0; n < 5000; n += 2)
        assoc_drop(&c, n * 77 << 2, ASSOC_ANY, true);
    for (uint64_t n = 0; n < 5000; n++)
        ck_assert(use(n * 77) == (n % 2 == 1));
    assoc_flush(&c, ASSOC_ANY, true);
    ck_assert(!use(77));
    assoc_fini(&c);
}
END_TEST

static void owners(void) {
    struct assoc_entry *e;
    assoc_insert(&c, 4, 1);
    assoc_insert(&c, 4, 2);
    e = assoc_insert(&c, 8, 1);
    e->global = true;
    ck_assert_ptr_ne(assoc_find(&c, 4, 1), assoc_find(&c, 4, 2));
    ck_assert_ptr_null(assoc_find(&c, 4, 3));
    ck_assert_ptr_nonnull(assoc_find(&c, 8, 3));
    assoc_flush(&c, 1, false);
    ck_assert_ptr_null(assoc_find(&c, 4, 1));
    ck_assert_ptr_nonnull(assoc_find(&c, 4, 2));
    ck_assert_ptr_nonnull(assoc_find(&c, 8, 1));
    assoc_drop(&c, 8, 2, false);
    ck_assert_ptr_nonnull(assoc_find(&c, 8, 1));
    assoc_drop(&c, 8, 2, true);
    ck_assert_ptr_null(assoc_find(&c, 8, 1));
    assoc_flush(&c, ASSOC_ANY, true);
    ck_assert_ptr_null(assoc_find(&c, 4, 2));
    assoc_fini(&c);
}

START_TEST(tags_keep_owners_apart) {
    cache(4, 4, PN_REPLACE_LRU);
    owners();
    cache(PN_ARRAY_UNBOUNDED, 0, 0);
    owners();
}
END_TEST

START_TEST(a_cache_of_no_entries_misses_always) {
    cache(0, 0, 0);
    ck_assert(!use(1) && !use(1));
    assoc_flush(&c, ASSOC_ANY, true);
    assoc_drop(&c, 4, 0, true);
    assoc_fini(&c);
}
END_TEST

START_TEST(sets_are_a_power_of_two) {
    static const struct {
        uint32_t entries, ways;
        uint8_t replace;
        bool good;
    } g[] = {
        {0, 0, 0, true},
        {64, 4, 0, true},
        {1536, 12, 0, true},
        {64, 64, 1, true},
        {65536, 4, 2, true},
        {PN_ARRAY_UNBOUNDED, 0, 0, true},
        {64, 0, 0, false},
        {65, 4, 0, false},
        {96, 4, 0, false},
        {1536, 12, 1, false},
        {128, 128, 0, false},
        {131072, 4, 0, false},
        {64, 4, PN_REPLACE_COUNT, false},
        {0xfffffffe, 1, 0, false},
    };
    for (size_t i = 0; i < sizeof(g) / sizeof(g[0]); i++) {
        struct pn_tlb_array a = {g[i].entries, g[i].ways, g[i].replace, 0};
        ck_assert_msg(!pn_tlb_array_problem(&a) == g[i].good, "%u entries, %u ways",
                      a.entries, a.ways);
    }
}
END_TEST

SUITE("model_cache", .timeout = 120,
      .tests = {lru_evicts_the_least_recently_used, fifo_evicts_the_oldest,
                plru_follows_its_tree, last_use_changes_nothing,
                an_unbounded_cache_evicts_nothing, tags_keep_owners_apart,
                a_cache_of_no_entries_misses_always, sets_are_a_power_of_two})
