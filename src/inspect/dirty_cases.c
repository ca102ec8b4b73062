/* SPDX-License-Identifier: MIT */
/* The cases of dirty_cases.inc, one function each. */
#include <stdio.h>
#include <string.h>

#include "inspect/dirty_rig.h"

#define ROUNDS 3u

/* One step after the other, until one fails. */
#define STEP(call)                                                                       \
    do {                                                                                 \
        int rc_ = (call);                                                                \
        if (rc_)                                                                         \
            return rc_;                                                                  \
    } while (0)

/* What most cases begin with: a guest whose log is on, and one consumer. */
static int begin(struct rig *r, enum rig_memory memory) {
    STEP(rig_open(r, memory));
    STEP(rig_log(r));
    STEP(rig_attach(r, 0));
    return rig_harvest(r, 0, true);
}

/* Pages here and there, in every slot. */
static int some(struct rig *r) {
    STEP(rig_write(r, 0, 600, 5, 7));
    STEP(rig_write(r, 0, 1100, 3, 100));
    STEP(rig_write(r, 1, 3, 4, 17));
    return rig_write(r, 2, 10, 20, 25);
}

static int case_quiet(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(some(r));
    for (unsigned i = 0; i < ROUNDS; i++)
        STEP(rig_harvest(r, 0, true));
    return 0;
}

static int case_again(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    for (unsigned i = 0; i < ROUNDS; i++) {
        STEP(some(r));
        STEP(rig_harvest(r, 0, true));
    }
    return 0;
}

static int case_slots(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_write(r, 0, 512, 4, 1)); /* its last 1000 pages are clean */
    STEP(rig_write(r, 1, 0, 3, 2));
    STEP(rig_harvest(r, 0, true));
    STEP(rig_write(r, 2, 540, 9, 1)); /* slot 1 is clean */
    return rig_harvest(r, 0, true);
}

static int case_ends(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    for (unsigned slot = 0; slot < RIG_SLOTS; slot++) {
        STEP(rig_write(r, slot, slot ? 0 : 1, 1, 1));
        STEP(rig_write(r, slot, rig_pages(r, slot) - 1, 1, 1));
    }
    STEP(rig_harvest(r, 0, true));
    for (unsigned slot = 0; slot < RIG_SLOTS; slot++)
        STEP(rig_write(r, slot, rig_pages(r, slot) - 2, 2, 1));
    return rig_harvest(r, 0, true);
}

static int case_crossing(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_cross(r, 0, 513, 20)); /* small mappings, then large ones */
    STEP(rig_cross(r, 0, 1200, 20));
    STEP(rig_cross(r, 2, 512, 1)); /* two large mappings */
    STEP(rig_harvest(r, 0, true));
    STEP(rig_string(r, 0, 1022 * PN_PAGE_SIZE + 5, 6 * PN_PAGE_SIZE));
    STEP(rig_string(r, 1, 9 * PN_PAGE_SIZE - 1, 2));
    return rig_harvest(r, 0, true);
}

static int case_every(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    for (unsigned i = 0; i < ROUNDS; i++) {
        STEP(rig_write(r, 0, 512, (unsigned)rig_pages(r, 0) - 512, 1));
        STEP(rig_write(r, 1, 0, (unsigned)rig_pages(r, 1), 1));
        STEP(rig_write(r, 2, 0, (unsigned)rig_pages(r, 2), 1));
        STEP(rig_harvest(r, 0, true));
    }
    return 0;
}

static int case_large(struct rig *r) {
    STEP(rig_open(r, RIG_HUGE));
    STEP(rig_write(r, 0, 1024, 1, 1)); /* mapped for stores, without a log */
    STEP(rig_read(r, 2, 0, 1, 1));     /* and for loads */
    STEP(rig_log(r));
    STEP(rig_attach(r, 0));
    for (unsigned i = 0; i < ROUNDS; i++) {
        STEP(rig_read(r, 0, 1024, 1, 1));
        STEP(rig_write(r, 0, 1025 + i, 1, 1));
        STEP(rig_write(r, 2, 3 * i, 2, 250));
        STEP(rig_harvest(r, 0, true));
    }
    return 0;
}

static int case_tables(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_read(r, 0, 700, 30, 2)); /* accessed */
    STEP(rig_harvest(r, 0, true));
    STEP(rig_write(r, 0, 700, 10, 2)); /* dirty */
    STEP(rig_read(r, 2, 0, 2, 512));
    STEP(rig_harvest(r, 0, true));
    STEP(rig_read(r, 0, 700, 30, 2)); /* all of them are set */
    return rig_harvest(r, 0, true);
}

static int case_consumers(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_write(r, 0, 600, 5, 3));
    STEP(rig_attach(r, 1));
    STEP(rig_write(r, 1, 0, 5, 3));
    STEP(rig_harvest(r, 0, true));
    STEP(rig_write(r, 2, 0, 5, 3));
    STEP(rig_harvest(r, 1, true));
    STEP(rig_harvest(r, 1, true));
    STEP(rig_write(r, 2, 100, 5, 3));
    STEP(rig_harvest(r, 0, true));
    return rig_harvest(r, 1, true);
}

static int case_failed(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(some(r));
    STEP(rig_harvest(r, 0, false));
    STEP(rig_write(r, 1, 40, 3, 1));
    STEP(rig_harvest(r, 0, false));
    STEP(rig_harvest(r, 0, true));
    return rig_harvest(r, 0, true);
}

static int case_device(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_device(r, 0, 3));
    STEP(rig_device(r, 2, 548));
    STEP(rig_write(r, 2, 547, 1, 1));
    STEP(rig_harvest(r, 0, true));
    STEP(rig_write(r, 2, 548, 1, 1));
    STEP(rig_device(r, 2, 548)); /* the guest's page, and one that it never had */
    STEP(rig_device(r, 1, 69));
    STEP(rig_harvest(r, 0, true));
    STEP(rig_device(r, 1, 69)); /* the last round */
    return rig_harvest(r, 0, true);
}

static int case_past(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_past(r, 1, 69));
    STEP(rig_past(r, 2, 0));
    STEP(rig_write(r, 2, 1, 1, 1));
    STEP(rig_harvest(r, 0, true));
    STEP(rig_past(r, 2, 1));
    return rig_harvest(r, 0, true);
}

static int case_late(struct rig *r) {
    STEP(rig_open(r, RIG_SMALL));
    STEP(some(r));
    STEP(rig_log(r));
    STEP(rig_attach(r, 0));
    STEP(some(r)); /* by the same translations */
    STEP(rig_harvest(r, 0, true));
    STEP(rig_write(r, 0, 600, 2, 7));
    return rig_harvest(r, 0, true);
}

static int case_memslot(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_write(r, 2, 5, 10, 11));
    STEP(rig_slot_gone(r, 2));
    STEP(rig_write(r, 1, 5, 3, 11));
    STEP(rig_harvest(r, 0, true));
    STEP(rig_slot_back(r, 2));
    STEP(rig_write(r, 2, 5, 5, 11));
    STEP(rig_write(r, 2, 500, 1, 1));
    STEP(rig_harvest(r, 0, true));
    return rig_harvest(r, 0, true);
}

static int case_restored(struct rig *r) {
    STEP(rig_open(r, RIG_SMALL));
    STEP(some(r));
    STEP(rig_restore(r, RIG_PRIVATE));
    STEP(rig_log(r));
    STEP(rig_attach(r, 0));
    for (unsigned i = 0; i < ROUNDS; i++) {
        STEP(rig_write(r, 0, 620 + i, 3, 7)); /* some were written before, others not */
        STEP(rig_read(r, 0, 800, 10, 1));
        STEP(rig_write(r, 2, 20 + i, 3, 25));
        STEP(rig_harvest(r, 0, true));
    }
    return 0;
}

static int huge_rounds(struct rig *r) {
    STEP(begin(r, RIG_HUGE));
    for (unsigned i = 0; i < ROUNDS; i++) {
        STEP(rig_write(r, 0, 1024 + i * 16, 1, 1));
        STEP(rig_write(r, 2, 33 * i, 2, 100));
        STEP(rig_harvest(r, 0, true));
    }
    return 0;
}

/* Does that file of the host's have one of these words in brackets? */
static bool chosen(const char *path, const char *words) {
    char text[128] = "", *open, *close;
    FILE *f = fopen(path, "re");
    if (f) {
        if (!fgets(text, sizeof(text), f))
            text[0] = 0;
        fclose(f);
    }
    open = strchr(text, '[');
    close = open ? strchr(open, ']') : NULL;
    if (!close)
        return false;
    *close = 0;
    return strstr(words, open + 1);
}

#define THP "/sys/kernel/mm/transparent_hugepage/"

static int case_huge(struct rig *r) {
    if (!chosen(THP "enabled", "always madvise"))
        return rig_skip(r, THP "enabled is neither always nor madvise");
    return huge_rounds(r);
}

static int case_folios(struct rig *r) {
    bool thp = chosen(THP "enabled", "always madvise");
    if (!chosen(THP "hugepages-64kB/enabled",
                thp ? "always madvise inherit" : "always madvise"))
        return rig_skip(r, THP "hugepages-64kB/enabled is not madvise, or not there");
    return huge_rounds(r);
}

static int case_swap(struct rig *r) {
    STEP(begin(r, RIG_SMALL));
    STEP(rig_write(r, 0, 512, 1000, 1));
    STEP(rig_harvest(r, 0, true));
    if (!rig_page_out(r))
        return rig_skip(r, "the host swaps no page out (is there swap?)");
    STEP(rig_write(r, 0, 520, 5, 3)); /* from swap */
    STEP(rig_read(r, 0, 900, 5, 3));
    rig_page_out(r); /* written, then in swap again */
    STEP(rig_harvest(r, 0, true));
    rig_page_out(r);
    STEP(rig_write(r, 0, 521, 5, 3));
    return rig_harvest(r, 0, true);
}

/* ---- The list ---- */

static const struct {
    const char *name, *what, *bug;
    int (*run)(struct rig *r);
} cases[DIRTY_CASES] = {
#define DIRTY_CASE(name, what, bug) {#name, what, bug, case_##name},
#include "inspect/dirty_cases.inc"
};

const char *dirty_case_name(unsigned i) {
    return i < DIRTY_CASES ? cases[i].name : NULL;
}

const char *dirty_case_what(unsigned i) {
    return i < DIRTY_CASES ? cases[i].what : NULL;
}

const char *dirty_case_bug(unsigned i) {
    return i < DIRTY_CASES ? cases[i].bug : NULL;
}

bool dirty_claims(enum pn_dirty_tracker tracker) {
    return tracker != PN_TRACKER_MINCORE;
}

int dirty_check(const struct pn_engine_ops *ops, enum pn_dirty_tracker tracker,
                enum dirty_case which, struct dirty_score *score, struct err *e) {
    struct rig r = {.ops = ops, .tracker = tracker, .score = score, .e = e};
    memset(score, 0, sizeof(*score));
    int rc = cases[which].run(&r);
    rig_close(&r);
    return rc;
}
