/* SPDX-License-Identifier: MIT */
/*
 * One tracker, any number of consumers (penumbra/dirty.h).
 *
 *     tracker --collect--> pending of every consumer --harvest--> taken of one --commit--> 0
 *
 * Invariants
 * 1. `pending` and `taken` of a consumer together hold what the tracker gave since that
 *    consumer's last commit; `taken` is its last harvest, of `pages` pages.
 * 2. `pending` has no bit unless `waits`.
 *
 * A bitmap of 16 GiB has half a megabyte, and most of it is often 0: a harvest passes over it
 * once, and does something for words that are not.
 */
#include "penumbra/dirty.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "engine/dirty_host.h"
#include "penumbra/engine.h"

static const struct {
    const char *name, *doc;
} trackers[PN_TRACKERS] = {
#define PN_TRACKER(id, name, doc) [PN_TRACKER_##id] = {name, doc},
#include "penumbra/trackers.inc"
};

const char *pn_dirty_name(unsigned tracker) {
    return tracker < PN_TRACKERS ? trackers[tracker].name : NULL;
}

void pn_dirty_print(FILE *out) {
    const struct pn_engine_ops *ops;
    for (int t = PN_TRACKER_OFF + 1; t < PN_TRACKERS; t++) {
        const char *between = ": under ";
        fprintf(out, "%-12s %s", trackers[t].name, trackers[t].doc);
        for (unsigned i = 0; (ops = pn_engine_at(i)); i++)
            if (ops->has_tracker(t)) {
                fprintf(out, "%s%s", between, ops->name);
                between = ", ";
            }
        fputc('\n', out);
    }
}

struct log_slot {
    uint32_t id;
    uint64_t size;
    struct host_range *range; /* by the host: NULL: not yet */
    bool gone;
    bool off;         /* nobody finds its written pages: all of them count as written */
    size_t words, at; /* of its part of a bitmap over all slots */
};

struct pn_dirty_consumer {
    struct pn_dirty_log *log;
    struct pn_dirty_consumer *next;
    bool waits; /* others have harvested since its own harvest */
    long pages;
    uint64_t *taken;
    uint64_t pending[];
};

struct pn_dirty_log {
    const struct pn_engine_ops *ops;
    struct pn_engine *engine;
    struct host_tracker *host; /* NULL: the engine's tracker */
    struct pn_dirty_consumer *consumers;
    uint64_t *given; /* by the tracker, of one slot */
    bool
        alone; /* there is one consumer, and its `taken` is empty: the tracker writes there */
    size_t words; /* of all slots */
    unsigned count;
    struct log_slot slot[];
};

void pn_dirty_close(struct pn_dirty_log *log) {
    while (log && log->consumers)
        pn_dirty_detach(log->consumers);
    if (log) {
        host_tracker_close(log->host);
        free(log->given);
    }
    free(log);
}

bool pn_dirty_by_host(enum pn_dirty_tracker tracker) {
    return host_tracker_has(tracker);
}

bool pn_dirty_stops(enum pn_dirty_tracker tracker) {
    return tracker == PN_TRACKER_RING || tracker == PN_TRACKER_SOFT;
}

static int watch(struct pn_dirty_log *log, struct log_slot *s, void *hva) {
    return log->host && hva && !s->range
               ? host_tracker_watch(log->host, hva, s->size, &s->range)
               : 0;
}

static int begin(struct pn_dirty_log *log, enum pn_dirty_tracker tracker,
                 const struct pn_memslot *slots, size_t words_most) {
    log->given = malloc((words_most + 1) * sizeof(uint64_t));
    int rc = log->given ? 0 : -ENOMEM;
    if (rc == 0 && pn_dirty_by_host(tracker))
        rc = host_tracker_open(tracker, &log->host);
    for (unsigned i = 0; rc == 0 && i < log->count; i++)
        rc = watch(log, &log->slot[i], slots[i].hva);
    return rc;
}

int pn_dirty_open(const struct pn_engine_ops *ops, struct pn_engine *engine,
                  enum pn_dirty_tracker tracker, const struct pn_memslot *slots,
                  unsigned count, struct pn_dirty_log **out) {
    struct pn_dirty_log *log = calloc(1, sizeof(*log) + count * sizeof(log->slot[0]));
    size_t most = 0;
    if (!log)
        return -ENOMEM;
    log->ops = ops;
    log->engine = engine;
    for (; log->count < count; log->count++) {
        struct log_slot *s = &log->slot[log->count];
        s->id = slots[log->count].id;
        s->size = slots[log->count].size;
        s->gone = !slots[log->count].hva;
        s->words = (slots[log->count].size / PN_PAGE_SIZE + 63) / 64;
        s->at = log->words;
        log->words += s->words;
        most = s->words > most ? s->words : most;
    }
    int rc = begin(log, tracker, slots, most);
    if (rc)
        pn_dirty_close(log);
    else
        *out = log;
    return rc;
}

static long count(const uint64_t *bitmap, size_t words) {
    long pages = 0;
    for (size_t w = 0; w < words; w++)
        pages += __builtin_popcountll(bitmap[w]);
    return pages;
}

static void take(struct pn_dirty_consumer *c, size_t at, const uint64_t *from,
                 size_t words) {
    uint64_t *taken = c->taken + at;
    for (size_t w = 0; w < words; w++) {
        uint64_t news = from[w] & ~taken[w];
        if (news) {
            c->pages += __builtin_popcountll(news);
            taken[w] |= news;
        }
    }
}

static void keep(struct pn_dirty_consumer *c, size_t at, const uint64_t *from,
                 size_t words) {
    c->waits = true;
    for (size_t w = 0; w < words; w++)
        c->pending[at + w] |= from[w];
}

static long every_page(const struct log_slot *s, uint64_t *bitmap) {
    uint64_t pages = s->size / PN_PAGE_SIZE;
    memset(bitmap, 0xff, s->words * sizeof(uint64_t));
    if (pages % 64)
        bitmap[s->words - 1] = (1ull << pages % 64) - 1;
    return (long)pages;
}

static long ask(struct pn_dirty_log *log, const struct log_slot *s, uint64_t *bitmap) {
    if (s->off)
        return every_page(s, bitmap);
    return log->host ? host_tracker_harvest(log->host, s->range, bitmap)
                     : log->ops->dirty_harvest(log->engine, s->id, bitmap, s->words);
}

/* What the slot's log has goes to every consumer, and into the harvest of one of them; what it
 * gave before it failed, too. harvests: NULL: nobody's. Return: 0 or -errno. */
static int collect_slot(struct pn_dirty_log *log, const struct log_slot *s,
                        struct pn_dirty_consumer *harvests) {
    uint64_t *alone = harvests && log->alone ? harvests->taken + s->at : NULL;
    if (alone) {
        long pages = ask(log, s, alone);
        harvests->pages += pages > 0 ? pages : 0;
        return pages < 0 ? (int)pages : 0;
    }
    /* The engine's slot may be smaller now than the log's. */
    memset(log->given, 0, s->words * sizeof(uint64_t));
    long pages = ask(log, s, log->given);
    for (struct pn_dirty_consumer *c = log->consumers; pages > 0 && c; c = c->next)
        (c == harvests ? take : keep)(c, s->at, log->given, s->words);
    return pages < 0 ? (int)pages : 0;
}

/* A slot that fails keeps its own; what the others gave has arrived. */
static int collect(struct pn_dirty_log *log, struct pn_dirty_consumer *harvests) {
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < log->count; i++)
        if (!log->slot[i].gone)
            rc = collect_slot(log, &log->slot[i], harvests);
    return rc;
}

int pn_dirty_slot_gone(struct pn_dirty_log *log, unsigned slot_index) {
    struct log_slot *s = &log->slot[slot_index];
    int rc = s->gone ? 0 : collect_slot(log, s, NULL);
    s->gone |= rc == 0 && !log->host; /* the host watches the memory all the same */
    return rc;
}

int pn_dirty_slot_back(struct pn_dirty_log *log, unsigned slot_index, void *hva) {
    int rc = watch(log, &log->slot[slot_index], hva);
    log->slot[slot_index].gone &= rc != 0;
    return rc;
}

int pn_dirty_slot_off(struct pn_dirty_log *log, unsigned slot_index) {
    struct log_slot *s = &log->slot[slot_index];
    int rc = s->gone || s->off ? 0 : collect_slot(log, s, NULL);
    s->off |= rc == 0;
    return rc;
}

void pn_dirty_slot_on(struct pn_dirty_log *log, unsigned slot_index) {
    struct log_slot *s = &log->slot[slot_index];
    if (s->off && !s->gone)
        collect_slot(log, s, NULL); /* of a slot that is off: cannot fail */
    s->off = false;
}

bool pn_dirty_slot_watched(const struct pn_dirty_log *log, unsigned slot_index) {
    return !log->slot[slot_index].off;
}

void pn_dirty_mark(struct pn_dirty_log *log, unsigned slot_index, uint64_t page) {
    size_t at = log->slot[slot_index].at + page / 64;
    for (struct pn_dirty_consumer *c = log->consumers; c; c = c->next) {
        c->pending[at] |= 1ull << page % 64;
        c->waits = true;
    }
}

int pn_dirty_attach(struct pn_dirty_log *log, struct pn_dirty_consumer **out) {
    int rc = log->consumers ? collect(log, NULL) : 0;
    if (rc)
        return rc;
    struct pn_dirty_consumer *c =
        calloc(1, sizeof(*c) + 2 * log->words * sizeof(uint64_t));
    if (!c)
        return -ENOMEM;
    c->log = log;
    c->taken = c->pending + log->words;
    c->next = log->consumers;
    log->consumers = *out = c;
    return 0;
}

void pn_dirty_detach(struct pn_dirty_consumer *c) {
    if (!c)
        return;
    struct pn_dirty_consumer **at = &c->log->consumers;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    free(c);
}

long pn_dirty_harvest(struct pn_dirty_consumer *c) {
    c->log->alone = !c->next && c->log->consumers == c && !c->pages;
    int rc = collect(c->log, c);
    c->log->alone = false;
    if (rc) { /* what has arrived is in the next harvest, whatever is committed before it */
        keep(c, 0, c->taken, c->log->words);
        c->pages = count(c->taken, c->log->words);
        return rc;
    }
    if (c->waits) {
        take(c, 0, c->pending, c->log->words);
        memset(c->pending, 0, c->log->words * sizeof(uint64_t));
        c->waits = false;
    }
    return c->pages;
}

void pn_dirty_commit(struct pn_dirty_consumer *c) {
    if (c->pages)
        memset(c->taken, 0, c->log->words * sizeof(uint64_t));
    c->pages = 0;
}

const uint64_t *pn_dirty_bitmap(const struct pn_dirty_consumer *c, unsigned slot_index) {
    return c->taken + c->log->slot[slot_index].at;
}
