/* SPDX-License-Identifier: MIT */
/*
 * --dirty-log: harvests at intervals, at the guest's marks (PN_MARK_ROUND) and at the
 * end, one consumer of the engine's log; and --dirty-verify, the oracle that looks at the
 * memory itself.
 *
 * Invariants
 * 1. A verified harvest happens while no vCPU runs; `hash` then holds XXH3 of every page
 *    as it was at the harvest before. A page whose hash changed and that is not in the
 *    harvest was missed.
 * 2. A harvest of a tracker that needs it (pn_dirty_stops) happens while no vCPU runs.
 * 3. The window's memory outlives its slot, and so do its pages in the log.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>

#include "machine/state.h"

#define HARVESTS_MAX 1000000u
#define BASES_MAX    64u /* then the one is forgotten that was used longest ago */

struct machine_base {
    struct machine_dirty *dirty;
    struct machine_base *older; /* in use */
    struct pn_dirty_consumer *since;
    uint64_t digest;
};

struct machine_dirty {
    struct pn_dirty_log *log;
    struct pn_dirty_consumer *report;
    unsigned slots, window; /* the window's is the last; slots: there can be none */
    struct pn_memslot slot[MACHINE_SLOTS_MAX]; /* the window's hva is NULL at first */
    uint64_t *hash[MACHINE_SLOTS_MAX];         /* NULL: no verification */
    struct clock_timer timer;
    struct machine_harvest *harvest;
    unsigned count, capacity;
    struct machine_base *bases; /* who was used last first */
};

/* ---- The pages as text: "100-1ff 205", frame numbers in hexadecimal ---- */

static void print_run(FILE *out, uint64_t first, uint64_t last) {
    if (!first)
        return;
    fprintf(out, "%llx", (unsigned long long)first - 1);
    if (last != first)
        fprintf(out, "-%llx", (unsigned long long)last - 1);
    fputc(' ', out);
}

/* Return: malloced text, or NULL. Frames are kept one higher: 0 is "none". */
static char *pages_text(const struct machine_dirty *d) {
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    uint64_t first = 0, last = 0;
    for (unsigned s = 0; out && s < d->slots; s++) {
        const uint64_t *bitmap = pn_dirty_bitmap(d->report, s);
        uint64_t gfn = d->slot[s].gpa / PN_PAGE_SIZE + 1,
                 pages = d->slot[s].size / PN_PAGE_SIZE;
        for (uint64_t p = 0; p < pages; p++) {
            if (!(bitmap[p / 64] >> p % 64 & 1))
                continue;
            if (gfn + p != last + 1 || !first) {
                print_run(out, first, last);
                first = gfn + p;
            }
            last = gfn + p;
        }
    }
    if (!out)
        return NULL;
    print_run(out, first, last);
    if (fclose(out)) {
        free(text);
        return NULL;
    }
    if (size)
        text[size - 1] = 0;
    return text;
}

/* ---- Verification ---- */

static int start_hashes(struct machine_dirty *d) {
    static const uint8_t zeros[PN_PAGE_SIZE];
    uint64_t zero = XXH3_64bits(zeros, sizeof(zeros));
    for (unsigned s = 0; s < d->slots; s++) {
        uint64_t pages = d->slot[s].size / PN_PAGE_SIZE;
        d->hash[s] = malloc(pages * sizeof(uint64_t));
        if (!d->hash[s])
            return -ENOMEM;
        for (uint64_t p = 0; p < pages; p++)
            d->hash[s][p] = zero; /* guest memory begins as zeros */
    }
    return 0;
}

/* Hash every page and compare with what the harvest says. */
static void verify(struct machine_dirty *d, struct machine_harvest *h) {
    for (unsigned s = 0; s < d->slots; s++) {
        const uint64_t *bitmap = pn_dirty_bitmap(d->report, s);
        const uint8_t *page = d->slot[s].hva;
        uint64_t pages = d->slot[s].size / PN_PAGE_SIZE;
        for (uint64_t p = 0; page && p < pages; p++, page += PN_PAGE_SIZE) {
            uint64_t hash = XXH3_64bits(page, PN_PAGE_SIZE);
            bool changed = hash != d->hash[s][p], logged = bitmap[p / 64] >> p % 64 & 1;
            d->hash[s][p] = hash;
            if (changed && !logged) {
                if (!h->missed)
                    h->missed_gpa = d->slot[s].gpa + p * PN_PAGE_SIZE;
                h->missed++;
            }
            h->same += logged && !changed;
        }
    }
}

/* ---- Harvests ---- */

static struct machine_harvest *append(struct machine_dirty *d) {
    if (d->count == HARVESTS_MAX)
        return NULL;
    if (d->count == d->capacity) {
        unsigned capacity = d->capacity ? d->capacity * 2 : 64;
        void *grown = realloc(d->harvest, capacity * sizeof(*d->harvest));
        if (!grown)
            return NULL;
        d->harvest = grown;
        d->capacity = capacity;
    }
    struct machine_harvest *h = &d->harvest[d->count++];
    memset(h, 0, sizeof(*h));
    return h;
}

static int harvest(struct machine *m, const char *by, uint32_t round) {
    struct machine_dirty *d = m->dirty;
    struct machine_harvest *h = append(d);
    if (!h)
        return -ENOMEM;
    h->by = by;
    h->round = round;
    h->at_ns = clock_now(&m->clock);
    h->verified = d->hash[0] != NULL;
    uint64_t start = host_ns();
    long pages = pn_dirty_harvest(d->report);
    h->host_ns = host_ns() - start;
    if (pages < 0)
        return (int)pages;
    h->pages = (uint64_t)pages;
    if (m->cfg.dirty_pages)
        h->gfns = pages_text(d);
    if (h->verified)
        verify(d, h);
    pn_dirty_commit(d->report);
    return 0;
}

void machine_dirty_harvest(struct machine *m, const char *by, uint32_t round) {
    struct machine_dirty *d = m->dirty;
    if (!d || m->ended)
        return;
    bool stop = d->hash[0] || pn_dirty_stops(m->cfg.dirty);
    int rc = stop ? machine_stop_world(m) : 0;
    if (rc == 0)
        rc = harvest(m, by, round);
    if (stop)
        machine_start_world(m);
    if (rc)
        machine_fail(m, "dirty log, harvest %u: %s", d->count, strerror(-rc));
}

static void on_timer(void *opaque) {
    struct machine *m = opaque;
    machine_dirty_harvest(m, "time", 0);
    clock_arm(&m->clock, &m->dirty->timer, clock_now(&m->clock) + m->cfg.dirty_every_ns);
}

/* ---- What snapshots stand on ---- */

/* So that slot 1 of RAM follows slot 0 in a bitmap. */
_Static_assert(LOW_RAM_MAX / PN_PAGE_SIZE % 64 == 0, "whole words");

int machine_base_begin(struct machine *m, struct machine_base **out) {
    *out = NULL;
    if (!m->dirty)
        return 0;
    struct machine_base *b = calloc(1, sizeof(*b));
    if (!b)
        return -ENOMEM;
    b->dirty = m->dirty;
    int rc = pn_dirty_attach(m->dirty->log, &b->since);
    if (rc)
        free(b);
    else
        *out = b;
    return rc;
}

void machine_base_drop(struct machine_base *b) {
    if (b)
        pn_dirty_detach(b->since);
    free(b);
}

void machine_base_keep(struct machine *m, struct machine_base *b, uint64_t digest) {
    unsigned n = 1;
    if (!b)
        return;
    b->digest = digest;
    b->older = m->dirty->bases;
    m->dirty->bases = b;
    for (; b->older; b = b->older)
        if (n++ == BASES_MAX) {
            machine_base_drop(b->older);
            b->older = NULL;
            break;
        }
}

struct machine_base *machine_base_find(struct machine *m, uint64_t digest) {
    struct machine_base **at = m->dirty ? &m->dirty->bases : NULL;
    while (at && *at && (*at)->digest != digest)
        at = &(*at)->older;
    struct machine_base *b = at ? *at : NULL;
    if (b) {
        *at = b->older;
        b->older = m->dirty->bases;
        m->dirty->bases = b;
    }
    return b;
}

int machine_base_changed(struct machine_base *b, const uint64_t **ram,
                         const uint64_t **window) {
    long pages = pn_dirty_harvest(b->since); /* never committed: it stays a base */
    if (pages < 0)
        return (int)pages;
    *ram = pn_dirty_bitmap(b->since, 0);
    *window = b->dirty->window < b->dirty->slots
                  ? pn_dirty_bitmap(b->since, b->dirty->window)
                  : NULL;
    return 0;
}

void machine_base_taken(struct machine_base *b) {
    pn_dirty_commit(b->since);
}

void machine_base_again(struct machine_base *b) {
    if (pn_dirty_harvest(b->since) >= 0)
        pn_dirty_commit(b->since);
}

/* ---- Life ---- */

int machine_dirty_create(struct machine *m, const struct pn_memslot *slots,
                         unsigned count, struct err *e) {
    if (m->cfg.dirty == PN_TRACKER_OFF)
        return 0;
    struct machine_dirty *d = m->dirty = calloc(1, sizeof(*d));
    if (!d)
        return err_set(e, -ENOMEM, "out of memory");
    memcpy(d->slot, slots, count * sizeof(*slots));
    d->slots = d->window = count;
    if (m->cfg.window)
        d->slot[d->slots++] = window_largest(m);
    clock_timer_init(&d->timer, on_timer, m);
    int rc = pn_dirty_open(m->ops, m->engine, m->cfg.dirty, d->slot, d->slots, &d->log);
    if (rc == -ENOSYS || rc == -EPERM)
        return err_set(e, rc, "--dirty-log %s: this host's kernel %s",
                       pn_dirty_name(m->cfg.dirty),
                       rc == -ENOSYS ? "has it not"
                                     : "does not permit it: be root, or set "
                                       "vm.unprivileged_userfaultfd");
    if (rc == 0)
        rc = pn_dirty_attach(d->log, &d->report);
    if (rc == 0 && m->cfg.dirty_verify)
        rc = start_hashes(d);
    return rc ? err_sys(e, rc, "dirty log") : 0;
}

int machine_dirty_switch(struct machine *m, enum pn_dirty_tracker tracker,
                         struct err *e) {
    const char *name = pn_dirty_name(tracker);
    if (!m->dirty)
        return err_set(e, -EINVAL,
                       "this run has no dirty log: begin it with --dirty-log");
    if (pn_dirty_by_host(tracker) || pn_dirty_by_host(m->cfg.dirty) ||
        !m->ops->set_tracker || m->cfg.recorder)
        return err_set(
            e, -ENOTSUP,
            "from %s to %s: trackers change under shadow and tdp alone, between "
            "their own, and not with --record",
            pn_dirty_name(m->cfg.dirty), name);
    if (!m->ops->has_tracker(tracker))
        return err_set(e, -EINVAL, "%s: not under --mmu %s", name, m->ops->name);
    int rc = m->ops->set_tracker(m->engine, tracker);
    m->cfg.dirty = rc == 0 ? tracker : PN_TRACKER_WP;
    return rc ? err_sys(e, rc, "%s: it is wp now", name) : 0;
}

bool machine_dirty_slot_at(const struct machine *m, unsigned slot, struct pn_memslot *out,
                           enum pn_dirty_tracker *by) {
    if (!m->dirty || slot >= m->dirty->window)
        return false;
    *out = m->dirty->slot[slot];
    *by = pn_dirty_slot_watched(m->dirty->log, slot) ? m->cfg.dirty : PN_TRACKER_OFF;
    return true;
}

static int may_switch_slot(const struct machine *m, unsigned slot, struct err *e) {
    const struct machine_dirty *d = m->dirty;
    if (!d)
        return err_set(e, -EINVAL,
                       "this run has no dirty log: begin it with --dirty-log");
    if (pn_dirty_by_host(m->cfg.dirty) || m->cfg.recorder || m->cfg.firmware)
        return err_set(e, -ENOTSUP,
                       "slots are switched for trackers of the engine alone, not with "
                       "firmware and not with --record");
    if (slot >= d->window)
        return err_set(e, -ENOENT, "slot %u: 'dirty log' lists those of RAM", slot);
    return 0;
}

int machine_dirty_slot(struct machine *m, unsigned slot, bool on, struct err *e) {
    struct machine_dirty *d = m->dirty;
    int rc = may_switch_slot(m, slot, e);
    if (rc || on == pn_dirty_slot_watched(d->log, slot))
        return rc;
    struct pn_memslot want = d->slot[slot];
    want.flags = on ? want.flags | PN_SLOT_LOG_DIRTY : want.flags & ~PN_SLOT_LOG_DIRTY;
    rc = on ? 0 : pn_dirty_slot_off(d->log, slot);
    if (rc == 0) {
        rc = m->ops->set_slot(m->engine, &want);
        if (on ==
            (rc == 0)) /* it is logged: what was written before is in its next harvest */
            pn_dirty_slot_on(d->log, slot);
    }
    if (rc == 0)
        d->slot[slot] = want;
    return rc ? err_sys(e, rc, "slot %u", slot) : 0;
}

void machine_dirty_mark_window(struct machine *m, uint64_t page) {
    if (m->dirty)
        pn_dirty_mark(m->dirty->log, m->dirty->window, page);
}

void machine_dirty_mark_ram(struct machine *m, uint64_t page) {
    const uint64_t low = LOW_RAM_MAX / PN_PAGE_SIZE;
    if (m->dirty)
        pn_dirty_mark(m->dirty->log, page >= low, page >= low ? page - low : page);
}

int machine_dirty_window(struct machine *m, const struct pn_memslot *slot) {
    struct machine_dirty *d = m->dirty;
    if (!d)
        return m->ops->set_slot(m->engine, slot);
    int rc = machine_stop_world(m);
    if (rc == 0 && !slot->size)
        rc = pn_dirty_slot_gone(d->log, d->window);
    if (rc == 0)
        rc = m->ops->set_slot(m->engine, slot);
    if (rc == 0 && slot->size) {
        d->slot[d->window].gpa = slot->gpa;
        d->slot[d->window].hva = slot->hva;
        rc = pn_dirty_slot_back(d->log, d->window, slot->hva);
    }
    machine_start_world(m);
    return rc;
}

void machine_dirty_begin(struct machine *m) {
    if (m->dirty && m->cfg.dirty_every_ns)
        clock_arm(&m->clock, &m->dirty->timer,
                  clock_now(&m->clock) + m->cfg.dirty_every_ns);
}

int machine_dirty_finish(struct machine *m, struct err *e) {
    if (!m->dirty || m->leaked)
        return 0;
    clock_cancel(&m->clock, &m->dirty->timer);
    int rc = harvest(m, "end", 0);
    return rc ? err_sys(e, rc, "dirty log, last harvest") : 0;
}

void machine_dirty_destroy(struct machine *m) {
    struct machine_dirty *d = m->dirty;
    if (!d)
        return;
    clock_cancel(&m->clock, &d->timer);
    while (d->bases) {
        struct machine_base *b = d->bases;
        d->bases = b->older;
        machine_base_drop(b);
    }
    pn_dirty_close(d->log);
    for (unsigned s = 0; s < d->slots; s++)
        free(d->hash[s]);
    for (unsigned i = 0; i < d->count; i++)
        free(d->harvest[i].gfns);
    free(d->harvest);
    free(d);
    m->dirty = NULL;
}

const struct machine_harvest *machine_harvests(const struct machine *m, unsigned *count) {
    *count = m->dirty ? m->dirty->count : 0;
    return m->dirty ? m->dirty->harvest : NULL;
}
