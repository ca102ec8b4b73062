/* SPDX-License-Identifier: MIT */
/* One tracker, several consumers: each gets every page once, whoever harvests when. */
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
    if (e->error)
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
    const struct pn_memslot slots[2] = {{.id = 0, .size = PAGES * PN_PAGE_SIZE},
                                        {.id = 1, .size = PAGES * PN_PAGE_SIZE}};
    memset(&engine, 0, sizeof(engine));
    ck_assert_int_eq(pn_dirty_open(&ops, &engine, slots, 2, &dirty), 0);
}

static void teardown(void) {
    pn_dirty_close(dirty);
}

static bool has(unsigned slot, unsigned page) {
    return pn_dirty_bitmap(dirty, slot)[page / 64] >> page % 64 & 1;
}

START_TEST(a_consumer_gets_each_page_once) {
    int a = pn_dirty_attach(dirty);
    write_page(&engine, 0, 3);
    write_page(&engine, 1, 199);
    ck_assert_int_eq(pn_dirty_harvest(dirty, a), 2);
    ck_assert(has(0, 3) && has(1, 199) && !has(0, 199));
    ck_assert_int_eq(pn_dirty_harvest(dirty, a), 0);
    ck_assert(!has(0, 3));
}
END_TEST

/* What one consumer has taken is kept for the other. */
START_TEST(what_one_consumer_takes_is_kept_for_the_other) {
    int a = pn_dirty_attach(dirty), b = pn_dirty_attach(dirty);
    ck_assert_int_ne(a, b);
    write_page(&engine, 0, 1);
    ck_assert_int_eq(pn_dirty_harvest(dirty, a), 1);
    write_page(&engine, 0, 2);
    ck_assert_int_eq(pn_dirty_harvest(dirty, a), 1);
    ck_assert(!has(0, 1) && has(0, 2));
    write_page(&engine, 0, 2);
    write_page(&engine, 1, 7);
    ck_assert_int_eq(pn_dirty_harvest(dirty, b), 3);
    ck_assert(has(0, 1) && has(0, 2) && has(1, 7));
    ck_assert_int_eq(pn_dirty_harvest(dirty, a), 2);
    ck_assert_int_eq(pn_dirty_harvest(dirty, b), 0);
}
END_TEST

/* One who comes later gets what no harvest has taken, and nothing of before. */
START_TEST(a_late_consumer_gets_what_no_harvest_has_taken) {
    int a = pn_dirty_attach(dirty);
    write_page(&engine, 0, 1);
    ck_assert_int_eq(pn_dirty_harvest(dirty, a), 1);
    write_page(&engine, 0, 2);
    int b = pn_dirty_attach(dirty);
    ck_assert_int_eq(pn_dirty_harvest(dirty, b), 1);
    ck_assert(has(0, 2) && !has(0, 1));
    pn_dirty_detach(dirty, b);
    write_page(&engine, 0, 3);
    ck_assert_int_eq(pn_dirty_harvest(dirty, a), 2);
    b = pn_dirty_attach(dirty);
    ck_assert_int_eq(pn_dirty_harvest(dirty, b), 0);
}
END_TEST

START_TEST(too_many_consumers_and_a_failing_engine_are_errors) {
    for (unsigned i = 0; i < PN_DIRTY_CONSUMERS_MAX; i++)
        ck_assert_int_ge(pn_dirty_attach(dirty), 0);
    ck_assert_int_eq(pn_dirty_attach(dirty), -ENOSPC);
    engine.error = -EIO;
    ck_assert_int_eq(pn_dirty_harvest(dirty, 0), -EIO);
}
END_TEST

/* Random writes and harvests: every consumer's pages are what was written since. */
START_TEST(random_harvests_give_what_was_written_since) {
    enum { N = 3 };
    uint8_t want[N][2][PAGES] = {0};
    int c[N];
    srand(1);
    for (unsigned i = 0; i < N; i++)
        c[i] = pn_dirty_attach(dirty);
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
        long got = pn_dirty_harvest(dirty, c[i]);
        for (slot = 0; slot < 2; slot++)
            for (page = 0; page < PAGES; page++) {
                ck_assert_int_eq(has(slot, page), want[i][slot][page]);
                pages += want[i][slot][page];
            }
        ck_assert_int_eq(got, pages);
        memset(want[i], 0, sizeof(want[i]));
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
        snprintf(line, sizeof(line), "%-8s ", pn_dirty_name(t));
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

SUITE("dirty", .setup = setup, .teardown = teardown,
      .tests = {a_consumer_gets_each_page_once,
                what_one_consumer_takes_is_kept_for_the_other,
                a_late_consumer_gets_what_no_harvest_has_taken,
                too_many_consumers_and_a_failing_engine_are_errors,
                random_harvests_give_what_was_written_since,
                the_list_names_trackers_and_their_engines})
