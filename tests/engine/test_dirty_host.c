/* SPDX-License-Identifier: MIT */
/*
 * The host's trackers while somebody writes: what a page holds after a harvest is in one of the next
 * two, if it is other than after the harvest before.
 */
#include "engine/dirty_host.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#include "penumbra/mmu.h"
#include "tests/suite.h"

#define PAGES    16u
#define HARVESTS 20000u

static uint8_t *memory;
static bool stop;

static uint64_t *counter(unsigned page) {
    return (uint64_t *)(void *)(memory + page * PN_PAGE_SIZE);
}

static void *writes(void *opaque) {
    for (unsigned i = 0; !__atomic_load_n(&stop, __ATOMIC_RELAXED); i++)
        __atomic_fetch_add(counter(i * 7 % PAGES), 1, __ATOMIC_RELAXED);
    return NULL;
}

/* Return: harvests that lost a page. */
static unsigned watch(struct host_tracker *t, struct host_range *r) {
    uint64_t was[PAGES] = {0}, owed = 0, seen;
    unsigned lost = 0;
    for (unsigned n = 0; n < HARVESTS; n++) {
        seen = 0;
        ck_assert_int_ge(host_tracker_harvest(t, r, &seen), 0);
        lost += (owed & ~seen) != 0;
        owed = 0;
        for (unsigned p = 0; p < PAGES; p++) {
            uint64_t now = __atomic_load_n(counter(p), __ATOMIC_RELAXED);
            if (now != was[p] && !(seen >> p & 1))
                owed |= 1ull << p; /* written behind the harvest: in the next one */
            was[p] = now;
        }
    }
    return lost;
}

START_TEST(no_write_is_lost_between_two_harvests) {
    static const enum pn_dirty_tracker trackers[] = {PN_TRACKER_UFFD, PN_TRACKER_SCAN,
                                                     PN_TRACKER_RW_SCAN};
    struct host_tracker *t = NULL;
    struct host_range *r = NULL;
    pthread_t writer;
    int rc = host_tracker_open(trackers[_i], &t);
    if (rc == -ENOSYS || rc == -EPERM)
        return; /* this host's kernel has it not, or not for us */
    ck_assert_int_eq(rc, 0);
    memory = mmap(NULL, PAGES * PN_PAGE_SIZE, PROT_READ | PROT_WRITE,
                  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    ck_assert(memory != MAP_FAILED);
    ck_assert_int_eq(host_tracker_watch(t, memory, PAGES * PN_PAGE_SIZE, &r), 0);
    stop = false;
    ck_assert_int_eq(pthread_create(&writer, NULL, writes, NULL), 0);
    ck_assert_uint_eq(watch(t, r), 0);
    __atomic_store_n(&stop, true, __ATOMIC_RELAXED);
    ck_assert_int_eq(pthread_join(writer, NULL), 0);
    host_tracker_close(t);
    munmap(memory, PAGES * PN_PAGE_SIZE);
}
END_TEST

SUITE("dirty_host", .loops = {{no_write_is_lost_between_two_harvests, 3}})
