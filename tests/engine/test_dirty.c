/* SPDX-License-Identifier: MIT */
/* One tracker, any number of consumers: each gets every page that was written since its last
 * commit, whoever harvests, fails or comes and goes when. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "penumbra/engine.h"
#include "tests/suite.h"

#define PAGES 200u

/* An engine that has nothing but a log of two slots. */
struct pn_engine {
    uint64_t dirty[2][(PAGES + 63) / 64];
    int error;
};

static void write_page(struct pn_engine *e, unsigned slot, unsigned page) {
    e->dirty[slot][page / 64] |= 1ull << page % 64;
}

static long harvest(struct pn_engine *e, uint32_t slot, uint64_t *bitmap, size_t words) {
    long pages = 0;
    if (e->error && slot == 1)
        return e->error;
    ck_assert_uint_ge(words, sizeof(e->dirty[slot]) / 8);
    for (size_t w = 0; w < sizeof(e->dirty[slot]) / 8; w++) {
        bitmap[w] = e->dirty[slot][w];
        pages += __builtin_popcountll(bitmap[w]);
        e->dirty[slot][w] = 0;
    }
    return pages;
}

static const struct pn_engine_ops ops = {.name = "log", .dirty_harvest = harvest};
static struct pn_engine engine;
static struct pn_dirty_log *dirty;

static void setup(void) {
    const struct pn_memslot slots[2] = {
        {.id = 0, .size = PAGES * PN_PAGE_SIZE, .hva = &engine},
        {.id = 1, .size = PAGES * PN_PAGE_SIZE, .hva = &engine}};
    memset(&engine, 0, sizeof(engine));
    ck_assert_int_eq(pn_dirty_open(&ops, &engine, PN_TRACKER_WP, slots, 2, &dirty), 0);
}

static void teardown(void) {
    pn_dirty_close(dirty);
}

static struct pn_dirty_consumer *consumer(void) {
    struct pn_dirty_consumer *c = NULL;
    ck_assert_int_eq(pn_dirty_attach(dirty, &c), 0);
    return c;
}

static bool has(const struct pn_dirty_consumer *c, unsigned slot, unsigned page) {
    return pn_dirty_bitmap(c, slot)[page / 64] >> page % 64 & 1;
}

/* Harvest and commit. */
static long take(struct pn_dirty_consumer *c) {
    long pages = pn_dirty_harvest(c);
    pn_dirty_commit(c);
    return pages;
}

START_TEST(a_consumer_gets_each_page_once) {
    struct pn_dirty_consumer *a = consumer();
    write_page(&engine, 0, 3);
    write_page(&engine, 1, 199);
    ck_assert_int_eq(pn_dirty_harvest(a), 2);
    ck_assert(has(a, 0, 3) && has(a, 1, 199) && !has(a, 0, 199));
    pn_dirty_commit(a);
    ck_assert_int_eq(pn_dirty_harvest(a), 0);
    ck_assert(!has(a, 0, 3));
}
END_TEST

/* What one consumer has taken is kept for the other. */
START_TEST(what_one_consumer_takes_is_kept_for_the_other) {
    struct pn_dirty_consumer *a = consumer(), *b = consumer();
    write_page(&engine, 0, 1);
    ck_assert_int_eq(take(a), 1);
    write_page(&engine, 0, 2);
    ck_assert_int_eq(pn_dirty_harvest(a), 1);
    ck_assert(!has(a, 0, 1) && has(a, 0, 2));
    pn_dirty_commit(a);
    write_page(&engine, 0, 2);
    write_page(&engine, 1, 7);
    ck_assert_int_eq(pn_dirty_harvest(b), 3);
    ck_assert(has(b, 0, 1) && has(b, 0, 2) && has(b, 1, 7));
    pn_dirty_commit(b);
    ck_assert_int_eq(take(a), 2);
    ck_assert_int_eq(take(b), 0);
}
END_TEST

/* The save has failed, say: the next harvest has its pages, and those written meanwhile. */
START_TEST(a_harvest_that_is_not_committed_gives_its_pages_back) {
    struct pn_dirty_consumer *a = consumer(), *b = consumer();
    write_page(&engine, 0, 1);
    ck_assert_int_eq(pn_dirty_harvest(a), 1);
    write_page(&engine, 1, 2);
    ck_assert_int_eq(pn_dirty_harvest(a), 2);
    ck_assert(has(a, 0, 1) && has(a, 1, 2));
    write_page(&engine, 0, 3);
    pn_dirty_commit(a); /* of what was harvested, not of what came after it */
    ck_assert_int_eq(take(a), 1);
    ck_assert_int_eq(take(b), 3);
}
END_TEST

/* One who comes later gets what is written from then on, and nobody else loses anything. */
START_TEST(a_late_consumer_gets_only_what_is_written_from_then_on) {
    struct pn_dirty_consumer *a = consumer();
    write_page(&engine, 0, 1);
    struct pn_dirty_consumer *b = consumer();
    write_page(&engine, 0, 2);
    ck_assert_int_eq(pn_dirty_harvest(b), 1);
    ck_assert(has(b, 0, 2) && !has(b, 0, 1));
    pn_dirty_detach(b);
    ck_assert_int_eq(take(a), 2);
    b = consumer();
    ck_assert_int_eq(take(b), 0);
}
END_TEST

/* The loader wrote before anybody asked. */
START_TEST(the_first_consumer_gets_what_was_written_before_it) {
    write_page(&engine, 1, 5);
    ck_assert_int_eq(take(consumer()), 1);
}
END_TEST

/* The second slot fails after the first has given its pages. */
START_TEST(a_failing_engine_loses_no_page_of_any_consumer) {
    struct pn_dirty_consumer *a = consumer(), *b = consumer(), *c = NULL;
    write_page(&engine, 0, 1);
    write_page(&engine, 1, 2);
    engine.error = -EIO;
    ck_assert_int_eq(pn_dirty_harvest(a), -EIO);
    ck_assert_int_eq(pn_dirty_attach(dirty, &c), -EIO);
    engine.error = 0;
    ck_assert_int_eq(take(a), 2);
    ck_assert_int_eq(take(b), 2);
}
END_TEST

/* What its log had is not lost with it; an engine that has no such slot is not asked. */
START_TEST(a_slot_that_goes_leaves_its_pages) {
    struct pn_dirty_consumer *a = consumer(), *b = consumer();
    write_page(&engine, 1, 4);
    ck_assert_int_eq(pn_dirty_slot_gone(dirty, 1), 0);
    ck_assert_int_eq(pn_dirty_slot_gone(dirty, 1), 0);
    engine.error = -ENOENT;
    pn_dirty_mark(dirty, 1, 199);
    ck_assert_int_eq(pn_dirty_harvest(a), 2);
    ck_assert(has(a, 1, 4) && has(a, 1, 199));
    ck_assert_int_eq(pn_dirty_slot_back(dirty, 1, &engine), 0);
    ck_assert_int_eq(pn_dirty_harvest(b), -ENOENT);
    engine.error = 0;
    write_page(&engine, 1, 5);
    ck_assert_int_eq(take(b), 3);
}
END_TEST

/* Random writes, harvests, failures, commits: every consumer's pages are what was written
 * since its last commit. */
START_TEST(random_harvests_give_what_was_written_since) {
    enum { N = 20 };
    static uint8_t want[N][2][PAGES];
    struct pn_dirty_consumer *c[N];
    memset(want, 0, sizeof(want));
    srand(1);
    for (unsigned i = 0; i < N; i++)
        c[i] = consumer();
    for (unsigned step = 0; step < 20000; step++) {
        unsigned slot = (unsigned)rand() % 2, page = (unsigned)rand() % PAGES;
        if (rand() % 20) {
            write_page(&engine, slot, page);
            for (unsigned i = 0; i < N; i++)
                want[i][slot][page] = 1;
            continue;
        }
        unsigned i = (unsigned)rand() % N;
        long pages = 0;
        engine.error = rand() % 4 ? 0 : -EIO;
        long got = pn_dirty_harvest(c[i]);
        ck_assert_int_eq(got < 0, engine.error < 0);
        for (slot = 0; got >= 0 && slot < 2; slot++)
            for (page = 0; page < PAGES; page++) {
                ck_assert_int_eq(has(c[i], slot, page), want[i][slot][page]);
                pages += want[i][slot][page];
            }
        if (got < 0)
            continue;
        ck_assert_int_eq(got, pages);
        if (rand() % 2) {
            pn_dirty_commit(c[i]);
            memset(want[i], 0, sizeof(want[i]));
        }
    }
}
END_TEST

/* The list says of each tracker which engines have it, and has no other line. */
START_TEST(the_list_names_trackers_and_their_engines) {
    char *text = NULL, line[32];
    size_t size = 0, lines = 0;
    FILE *out = open_memstream(&text, &size);
    pn_dirty_print(out);
    fclose(out);
    for (unsigned t = PN_TRACKER_OFF + 1; t < PN_TRACKERS; t++) {
        snprintf(line, sizeof(line), "%-12s ", pn_dirty_name(t));
        const char *at = strstr(text, line);
        ck_assert_ptr_nonnull(at);
        char *row = strndup(at, strcspn(at, "\n"));
        const char *engines = strstr(row, ": under ");
        ck_assert_ptr_nonnull(engines);
        for (unsigned i = 0; pn_engine_at(i); i++)
            ck_assert_int_eq(pn_engine_at(i)->has_tracker(t),
                             strstr(engines, pn_engine_at(i)->name) != NULL);
        free(row);
    }
    for (const char *p = text; *p; p++)
        lines += *p == '\n';
    ck_assert_uint_eq(lines, PN_TRACKERS - PN_TRACKER_OFF - 1);
    ck_assert_ptr_null(pn_dirty_name(PN_TRACKERS));
    free(text);
}
END_TEST

/* Every harvest has all of its pages, and so has the first one of each after it is back. */
START_TEST(a_slot_that_is_off_counts_as_written) {
    struct pn_dirty_consumer *a = consumer(), *b = consumer();
    write_page(&engine, 0, 3);
    ck_assert_int_eq(pn_dirty_slot_off(dirty, 1), 0);
    ck_assert(!pn_dirty_slot_watched(dirty, 1) && pn_dirty_slot_watched(dirty, 0));
    ck_assert_int_eq(take(a), PAGES + 1);
    ck_assert_int_eq(take(a), PAGES);
    pn_dirty_slot_on(dirty, 1);
    write_page(&engine, 1, 7);
    ck_assert_int_eq(pn_dirty_harvest(a), PAGES);
    ck_assert(has(a, 1, 0) && has(a, 1, PAGES - 1) && !has(a, 0, 3));
    pn_dirty_commit(a);
    ck_assert_int_eq(take(a), 0);
    ck_assert_int_eq(take(b), PAGES + 1);
    write_page(&engine, 1, 9);
    ck_assert_int_eq(take(a), 1);
    ck_assert_int_eq(take(b), 1);
}
END_TEST

SUITE("dirty", .setup = setup, .teardown = teardown,
      .tests = {a_consumer_gets_each_page_once,
                what_one_consumer_takes_is_kept_for_the_other,
                a_harvest_that_is_not_committed_gives_its_pages_back,
                a_late_consumer_gets_only_what_is_written_from_then_on,
                the_first_consumer_gets_what_was_written_before_it,
                a_failing_engine_loses_no_page_of_any_consumer,
                a_slot_that_goes_leaves_its_pages, a_slot_that_is_off_counts_as_written,
                random_harvests_give_what_was_written_since,
                the_list_names_trackers_and_their_engines})
