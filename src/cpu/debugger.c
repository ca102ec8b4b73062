/* SPDX-License-Identifier: MIT */
/*
 * Where a debugger stops the CPU. Guest memory and the guest's debug registers hold nothing
 * of it.
 *
 * Invariants
 * 1. A breakpoint's address is in `split`. No block has an instruction there but as its
 *    first, and such a block is a trap: however control comes to it, the dispatcher sees
 *    the arrival. Chains and jump caches are what they are without a debugger, and so are
 *    the fetches: who runs the rest of a block after a stop runs a part of it.
 * 2. A stop takes no time and delivers nothing: the run that follows begins as the one
 *    that ended would have gone on.
 * 3. While a watchpoint is set no TLB answers such an access to its page: the access takes
 *    the slow path, which shows it to debug_watch. All others are as fast as without.
 * This file is compiled without vector registers: in the dispatcher they are the guest's.
 */
#include "cpu/system.h"
#include "cpu/xlat.h"

static bool contains(const uint64_t *sorted, unsigned count, uint64_t value) {
    unsigned lo = 0, hi = count;
    while (lo < hi) {
        unsigned mid = (lo + hi) / 2;
        if (sorted[mid] < value)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo < count && sorted[lo] == value;
}

bool debug_splits(const struct cpu *cpu, uint64_t rip) {
    return contains(cpu->debug.split, cpu->debug.split_count, rip);
}

static void stop_here(struct cpu *cpu, enum pn_debug_why why) {
    cpu->debug.stop = (struct pn_debug_stop){.why = why, .gva = cpu->rip};
    cpu->debug.pass = true;
    cpu->debug.pass_rip = cpu->rip;
    cpu->debug.pass_at = cpu_insns(cpu);
}

bool debug_breaks(struct cpu *cpu) {
    const struct pn_debug *d = cpu->debug.set;
    if (!contains(d->breaks, d->break_count, cpu->rip))
        return false;
    if (cpu->debug.pass && cpu->debug.pass_rip == cpu->rip &&
        cpu->debug.pass_at == cpu_insns(cpu))
        return false;
    stop_here(cpu, PN_DEBUG_BREAK);
    return true;
}

/* Events delivered so far. */
static uint64_t events(const struct cpu *cpu) {
    const uint64_t *v = cpu->stats->v;
    return v[PN_STAT_exceptions] + v[PN_STAT_irq_injections] + v[PN_STAT_nmi_injections];
}

/* A repeated string instruction may have done a part of its work. */
void debug_stepped(struct cpu *cpu) {
    bool done =
        cpu_insns(cpu) != cpu->debug.from_at || events(cpu) != cpu->debug.from_events;
    if (cpu->debug.hit.why)
        debug_settle(cpu);
    if (done && !cpu->debug.stop.why)
        stop_here(cpu, PN_DEBUG_STEP);
}

/* ---- Watchpoints ---- */

static void hit(struct cpu *cpu, const struct pn_watch *w) {
    cpu->debug.hit = (struct pn_debug_stop){PN_DEBUG_WATCH, w->gva, w->access};
    cpu->debug.hit_at = cpu_insns(cpu);
    cpu->debug.hit_events = events(cpu);
}

void debug_watch(struct cpu *cpu, uint64_t address, unsigned size, bool write) {
    const struct pn_debug *d = cpu->debug.set;
    unsigned access = write ? PN_WATCH_WRITE : PN_WATCH_READ;
    for (unsigned i = 0; i < d->watch_count; i++) {
        const struct pn_watch *w = &d->watches[i];
        if (w->access & access && (address - w->gva < w->size || w->gva - address < size))
            hit(cpu, w);
    }
}

void debug_settle(struct cpu *cpu) {
    if (cpu_insns(cpu) == cpu->debug.hit_at && events(cpu) == cpu->debug.hit_events)
        return;
    if (!cpu->debug.stop.why)
        cpu->debug.stop = cpu->debug.hit;
    cpu->debug.hit.why = PN_DEBUG_NONE;
}

/* Does w have a byte in the page of lin? */
static bool in_page(const struct pn_watch *w, pn_gva lin) {
    pn_gva page = lin & PN_PAGE_MASK;
    return page - (w->gva & PN_PAGE_MASK) <=
           ((w->gva + w->size - 1) & PN_PAGE_MASK) - (w->gva & PN_PAGE_MASK);
}

unsigned debug_watches(const struct cpu *cpu, pn_gva lin) {
    const struct pn_debug *d = cpu->debug.set;
    unsigned access = 0;
    for (unsigned i = 0; i < d->watch_count; i++)
        if (in_page(&d->watches[i], lin))
            access |= d->watches[i].access;
    return access;
}

void debug_keep_back(struct cpu *cpu, pn_gva lin) {
    unsigned access = debug_watched(cpu, lin);
    if (access)
        pn_mmu_keep_back(cpu->vmmu, lin, access & PN_WATCH_READ);
}

/* What the TLBs have been filled with before. */
static void keep_back_all(struct cpu *cpu) {
    const struct pn_debug *d = cpu->debug.set;
    for (unsigned i = 0; i < d->watch_count; i++) {
        debug_keep_back(cpu, d->watches[i].gva);
        debug_keep_back(cpu, d->watches[i].gva + d->watches[i].size - 1);
    }
}

/* ---- Around a run ---- */

void debug_begin(struct cpu *cpu) {
    cpu->debug.stop.why = PN_DEBUG_NONE;
    cpu->debug.from_at = cpu_insns(cpu);
    cpu->debug.from_events = events(cpu);
    if (cpu->debug.pass)
        cpu->debug.pass_at = cpu_insns(cpu); /* time may have been skipped */
}

void debug_end(struct cpu *cpu) {
    cpu->debug.pass = cpu->debug.pass && cpu->debug.pass_at == cpu_insns(cpu);
}

static void add_split(struct cpu *cpu, uint64_t rip) {
    unsigned n = cpu->debug.split_count;
    for (; n && cpu->debug.split[n - 1] > rip; n--)
        cpu->debug.split[n] = cpu->debug.split[n - 1];
    cpu->debug.split[n] = rip;
    cpu->debug.split_count++;
}

/* A debugger takes its breakpoints out at each stop and puts them in again: what was
 * split stays split, while there is room. */
static void split(struct cpu *cpu, const struct pn_debug *d) {
    bool room = cpu->debug.split_count + d->break_count <= CPU_SPLITS_MAX;
    if (!room)
        cpu->debug.split_count = 0;
    for (unsigned i = 0; i < d->break_count; i++) {
        if (debug_splits(cpu, d->breaks[i]))
            continue;
        add_split(cpu, d->breaks[i]);
        blocks_split(cpu->xlat, d->breaks[i]);
    }
}

void cpu_set_debug(struct cpu *cpu, const struct pn_debug *set, bool step) {
    cpu->debug.step = step;
    if (set && !set->break_count && !set->watch_count)
        set = NULL;
    if (set == cpu->debug.set)
        return;
    cpu->debug.hit.why = PN_DEBUG_NONE;
    cpu->debug.set = set;
    if (set) {
        split(cpu, set);
        keep_back_all(cpu);
    }
}
