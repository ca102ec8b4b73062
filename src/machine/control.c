/* SPDX-License-Identifier: MIT */
/* What is done to a machine that stands; machine_run.c makes it stand and go. */
#include "machine/control.h"

#include <errno.h>
#include <string.h>

#include "machine/history.h"
#include "machine/state.h"

#define ENTRY_PRESENT 1u
#define ENTRY_LARGE   0x80u
#define ADDR_MASK     0x000ffffffffff000ull

/* ---- Questions ---- */

void machine_ask(struct machine *m) {
    atomic_store(&m->asked, true);
    if (machine_has_threads(m))
        pthread_cond_signal(&m->wake);
}

void machine_press_power(struct machine *m) {
    machine_history_restart(m);
    acpi_pm_press_power(m->pm);
}

bool machine_is_over(const struct machine *m) {
    return m->ended || atomic_load(&m->quit);
}

bool machine_quits(const struct machine *m) {
    return atomic_load(&m->quit);
}

unsigned machine_cpus(const struct machine *m) {
    return m->cfg.cpus;
}

int machine_get_state(struct machine *m, unsigned cpu, struct pn_cpu_state *s) {
    return m->ops->get_state(m->engine, cpu, s);
}

int machine_set_state(struct machine *m, unsigned cpu, const struct pn_cpu_state *s) {
    machine_history_restart(m);
    return m->ops->set_state(m->engine, cpu, s);
}

/* ---- Memory ---- */

static bool read_entry(struct machine *m, pn_gpa gpa, unsigned size, uint64_t *entry) {
    *entry = 0;
    return m->ops->read_phys(m->engine, gpa, entry, size) == size &&
           *entry & ENTRY_PRESENT;
}

/* SDM volume 3, "32-Bit Paging": 10 bits a level; bits 20..13 of a 4 MiB page's entry are
 * bits 39..32 of its address. */
static bool walk_32(struct machine *m, const struct pn_cpu_state *s, uint32_t gva,
                    pn_gpa *gpa) {
    uint64_t e;
    if (!read_entry(m, (s->cr3 & 0xfffff000) + (gva >> 22) * 4ull, 4, &e))
        return false;
    if (e & ENTRY_LARGE && s->cr4 & CR4_PSE) {
        *gpa = (e & 0xffc00000) | (e >> 13 & 0xff) << 32 | (gva & 0x3fffff);
        return true;
    }
    if (!read_entry(m, (e & 0xfffff000) + (gva >> 12 & 1023) * 4ull, 4, &e))
        return false;
    *gpa = (e & 0xfffff000) | (gva & 0xfff);
    return true;
}

/* PAE, 4-level and 5-level paging: 9 bits a level, from the table at `table`. */
static bool walk_64(struct machine *m, unsigned level, uint64_t table, pn_gva gva,
                    pn_gpa *gpa) {
    for (;; level--) {
        unsigned shift = 12 + 9 * (level - 1);
        uint64_t e, offset = gva & ((1ull << shift) - 1);
        if (!read_entry(m, table + (gva >> shift & 511) * 8, 8, &e))
            return false;
        e &= ADDR_MASK | ENTRY_LARGE;
        if (level == 1 || (level <= 3 && e & ENTRY_LARGE)) {
            *gpa = (e & ADDR_MASK & ~((1ull << shift) - 1)) | offset;
            return true;
        }
        table = e & ADDR_MASK;
    }
}

bool machine_translate(struct machine *m, const struct pn_cpu_state *s, pn_gva gva,
                       pn_gpa *gpa) {
    const uint64_t pdpte[4] = {s->pdpte0, s->pdpte1, s->pdpte2, s->pdpte3};
    if (s->efer & EFER_LMA) {
        unsigned levels = s->cr4 & CR4_LA57 ? 5 : 4, unused = 64 - 12 - 9 * levels;
        if ((pn_gva)((int64_t)(gva << unused) >> unused) != gva)
            return false;
        return walk_64(m, levels, s->cr3 & ADDR_MASK, gva, gpa);
    }
    if (gva > UINT32_MAX)
        return false;
    *gpa = gva;
    if (!(s->cr0 & CR0_PG))
        return true;
    if (!(s->cr4 & CR4_PAE))
        return walk_32(m, s, (uint32_t)gva, gpa);
    uint64_t top = pdpte[gva >> 30];
    return top & ENTRY_PRESENT && walk_64(m, 2, top & ADDR_MASK, gva, gpa);
}

/* Bytes up to the end of addr's page; *gpa: where they are. 0: not mapped. */
static size_t piece(struct machine *m, const struct pn_cpu_state *s, uint64_t addr,
                    size_t size, pn_gpa *gpa) {
    size_t room = PN_PAGE_SIZE - (addr & (PN_PAGE_SIZE - 1));
    *gpa = addr;
    if (s && !machine_translate(m, s, addr, gpa))
        return 0;
    return size < room ? size : room;
}

size_t machine_read(struct machine *m, const struct pn_cpu_state *s, uint64_t addr,
                    void *buf, size_t size) {
    size_t done = 0, n = 1, got = 1;
    while (done < size && n && got == n) {
        pn_gpa gpa;
        n = piece(m, s, addr + done, size - done, &gpa);
        got = n ? m->ops->read_phys(m->engine, gpa, (char *)buf + done, n) : 0;
        done += got;
    }
    return done;
}

size_t machine_write(struct machine *m, const struct pn_cpu_state *s, uint64_t addr,
                     const void *buf, size_t size) {
    size_t done = 0, n = 1, got = 1;
    machine_history_restart(m);
    while (done < size && n && got == n) {
        pn_gpa gpa;
        n = piece(m, s, addr + done, size - done, &gpa);
        got = n ? m->ops->write_phys(m->engine, gpa, (const char *)buf + done, n) : 0;
        done += got;
    }
    return done;
}

enum machine_doing machine_doing(const struct machine *m, uint64_t pc,
                                 struct pn_where *where) {
    if (!m->running && !m->waits)
        return MACHINE_SERVES;
    m->ops->where(m->engine, pc, where);
    return m->running ? MACHINE_RUNS : MACHINE_WAITS;
}

/* ---- Where it stops ---- */

/* Is there no room for one more? `most`: of its kind. */
static bool full(const struct machine *m, unsigned count, unsigned most) {
    const struct pn_debug *d = &m->debug.wanted;
    unsigned slots = m->ops->debug_slots;
    return count == most || (slots && d->break_count + d->watch_count >= slots);
}

static bool fits(const struct machine *m, const struct pn_watch *w) {
    if (!w->size || w->size > PN_WATCH_BYTES)
        return false;
    bool whole = !(w->size & (w->size - 1)) && !(w->gva & (w->size - 1));
    return !m->ops->debug_slots || (whole && w->size <= 8);
}

int machine_break(struct machine *m, pn_gva rip, bool on) {
    struct pn_debug *d = &m->debug.wanted;
    unsigned i = 0, n = d->break_count;
    if (!m->ops->set_debug)
        return -ENOTSUP;
    while (i < n && d->breaks[i] < rip)
        i++;
    bool there = i < n && d->breaks[i] == rip;
    if (there == on)
        return 0;
    if (on && full(m, n, PN_BREAKS_MAX))
        return -ENOSPC;
    if (on)
        memmove(d->breaks + i + 1, d->breaks + i, (n - i) * sizeof(d->breaks[0]));
    else
        memmove(d->breaks + i, d->breaks + i + 1, (n - i - 1) * sizeof(d->breaks[0]));
    if (on)
        d->breaks[i] = rip;
    d->break_count = on ? n + 1 : n - 1;
    return 0;
}

int machine_watch(struct machine *m, const struct pn_watch *w, bool on) {
    struct pn_debug *d = &m->debug.wanted;
    unsigned i = 0;
    if (!m->ops->set_debug)
        return -ENOTSUP;
    if (!fits(m, w))
        return -EINVAL;
    while (i < d->watch_count &&
           (d->watches[i].gva != w->gva || d->watches[i].size != w->size ||
            d->watches[i].access != w->access))
        i++;
    bool there = i < d->watch_count;
    if (there == on)
        return 0;
    if (on && full(m, d->watch_count, PN_WATCHES_MAX))
        return -ENOSPC;
    if (on)
        d->watches[d->watch_count++] = *w;
    else
        d->watches[i] = d->watches[--d->watch_count];
    return 0;
}

void machine_break_none(struct machine *m) {
    m->debug.wanted.break_count = m->debug.wanted.watch_count = 0;
}

int machine_step(struct machine *m, unsigned cpu) {
    if (!m->ops->set_debug || cpu >= m->cfg.cpus)
        return -ENOTSUP;
    m->debug.step = (int)cpu;
    return 0;
}

void machine_step_any(struct machine *m) {
    m->debug.step = STEP_ANY;
}

void machine_until(struct machine *m, uint64_t insns) {
    m->debug.until = insns;
}

struct machine_place machine_place(struct machine *m) {
    struct machine_place p = {.insns = machine_insns(m)};
    const struct pn_engine_ops *ops;
    struct pn_engine *e;
    for (unsigned i = 0; (e = machine_engine_at(m, i, &ops)); i++)
        for (unsigned cpu = 0; cpu < m->cfg.cpus; cpu++) {
            const uint64_t *v = ops->stats(e, cpu)->v;
            p.events += v[PN_STAT_exceptions] + v[PN_STAT_irq_injections] +
                        v[PN_STAT_nmi_injections];
        }
    return p;
}

static bool same(const struct pn_debug *a, const struct pn_debug *b) {
    return a->break_count == b->break_count && a->watch_count == b->watch_count &&
           !memcmp(a->breaks, b->breaks, a->break_count * sizeof(a->breaks[0])) &&
           !memcmp(a->watches, b->watches, a->watch_count * sizeof(a->watches[0]));
}

/* The engine keeps a pointer to what it was given, so a change goes into another copy. */
int machine_debug_apply(struct machine *m, struct err *e) {
    if (!m->ops->set_debug)
        return 0;
    struct pn_debug *d = &m->debug.given[m->debug.turn];
    if (!same(d, &m->debug.wanted)) {
        m->debug.turn ^= 1;
        d = &m->debug.given[m->debug.turn];
        *d = m->debug.wanted;
    }
    for (unsigned i = 0; i < m->cfg.cpus; i++) {
        bool step = m->debug.step == (int)i || m->debug.step == STEP_ANY;
        int rc = m->ops->set_debug(m->engine, i, d, step);
        if (rc)
            return err_sys(e, rc, "breakpoints under %s", m->ops->name);
    }
    return 0;
}
