/* SPDX-License-Identifier: MIT */
/*
 * A guest that does everything to its tables at random, in every paging mode, while
 * slots, dirty logs, roles and caches change under it. After each step the MMU must
 * answer as a direct walk of the guest's tables does (once the guest has executed the
 * invalidations that the architecture asks for), the audit must hold, and no written page
 * may be missing from the dirty log.
 *
 * Forty-eight pages are tables, each with a home level; any page may also be mapped as
 * data or as a table of another level, so recursive maps arise by themselves. Eight of
 * them lie in memory that the guest also maps by large pages.
 *
 * With `nested` the guest is a hypervisor, too (nest.h): its vCPUs go from world to world,
 * and most of these have nested tables below theirs, which are edited like the others.
 *
 * A strict guest invalidates before it uses what it changed. Whatever it sees then
 * follows from its own doings alone, whichever MMU it has (test_lockstep.c).
 */
#pragma once

#include <check.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <xxhash.h>

#include "fixture.h"
#include "gpte.h"

#define VCPUS  2
#define PCIDS  3
#define POOL   16 /* first table page */
#define TABLES 48
#define JUMPS  64
#define HOT    32
#define WORLDS 4 /* 0: its own */

struct cpu {
    struct pn_mmu_vcpu *v;
    struct pn_tlb_view view;
    struct pn_stats stats;
    struct pn_paging p;
    unsigned world;            /* its ASID */
    pn_gpa ncr3;               /* 0: no nested tables */
    bool stale[WORLDS][PCIDS]; /* the guest owes this PCID an invalidation */
    bool old[WORLDS];          /* and its hypervisor owes one for nested tables */
    struct {
        pn_gva gva;
        pn_gpa gpa;
        uint64_t gen;
        enum pn_tlb_mode mode;
    } jump[JUMPS]; /* a jump cache, as the translator keeps one */
};

struct world {
    struct pn_mmu *mmu;
    struct cpu cpu[VCPUS];
    unsigned cpus;
    unsigned levels; /* the format that tables are written in */
    bool nested;
    unsigned nlevels; /* and that of nested ones */
    bool nept;        /* which are EPT: */
    bool nad, nmbec;  /* with A and D; with a right of its own to execute users' code */
    uint64_t rng;
    uint64_t step, seed;
    uint8_t maxphyaddr;
    bool tracked[64];
    bool strict;          /* see above */
    uint64_t told;        /* digest of what on_track was told */
    uint64_t taken;       /* and of the dirty bitmaps */
    pn_gva hot[HOT];      /* addresses that were mapped a moment ago */
    pn_gva alias[TABLES]; /* and those that led to a table page */
    struct {
        struct pn_memslot s;
        uint8_t *mem;
        bool in;
        XXH64_hash_t *hash; /* of each page at the last harvest; with LOG_DIRTY */
    } slot[4];
};

#define FAIL(w, ...)                                                                     \
    do {                                                                                 \
        fprintf(stderr, "seed %llu step %llu: ", (unsigned long long)(w)->seed,          \
                (unsigned long long)(w)->step);                                          \
        fprintf(stderr, __VA_ARGS__);                                                    \
        fputc('\n', stderr);                                                             \
        abort();                                                                         \
    } while (0)

static uint64_t below(struct world *w, uint64_t n) {
    return (rnd(&w->rng) >> 20) % n;
}
static bool chance(struct world *w, unsigned percent) {
    return below(w, 100) < percent;
}

/* ---- Slots and the dirty oracle ---- */

static void rehash(struct world *w, unsigned i) {
    uint64_t pages = w->slot[i].s.size / PN_PAGE_SIZE;
    for (uint64_t k = 0; k < pages; k++)
        w->slot[i].hash[k] = XXH3_64bits(w->slot[i].mem + k * PN_PAGE_SIZE, PN_PAGE_SIZE);
}

static void slot_put(struct world *w, unsigned i) {
    struct pn_memslot s = w->slot[i].s;
    int rc = pn_mmu_slot_set(w->mmu, &s);
    if (rc)
        FAIL(w, "slot %u: %d", i, rc);
    w->slot[i].in = true;
}

static void slots_init(struct world *w) {
    /* gpa, pages, offset of the host address from 2 MiB alignment */
    static const struct {
        pn_gpa gpa;
        unsigned pages, flags;
    } layout[4] = {{0, 128, 0},
                   {0x400000, 1024, 0},
                   {0x900000, 16, PN_SLOT_READONLY},
                   {0xffff0000, 40, 0}};
    for (unsigned i = 0; i < 4; i++) {
        uint64_t size = layout[i].pages * (uint64_t)PN_PAGE_SIZE;
        w->slot[i].mem = aligned_alloc(0x200000, (size + 0x1fffff) & ~0x1fffffull);
        memset(w->slot[i].mem, 0, size);
        w->slot[i].hash = calloc(layout[i].pages, sizeof(XXH64_hash_t));
        w->slot[i].s = (struct pn_memslot){.id = i,
                                           .flags = layout[i].flags,
                                           .gpa = layout[i].gpa,
                                           .size = size,
                                           .hva = w->slot[i].mem};
        slot_put(w, i);
    }
}

static void harvest(struct world *w, unsigned i) {
    uint64_t bitmap[16];
    if (!w->slot[i].in || !(w->slot[i].s.flags & PN_SLOT_LOG_DIRTY))
        return;
    if (pn_mmu_dirty_harvest(w->mmu, i, bitmap, 16) < 0)
        FAIL(w, "harvest of slot %u", i);
    for (uint64_t k = 0; k < w->slot[i].s.size / PN_PAGE_SIZE; k++) {
        XXH64_hash_t h = XXH3_64bits(w->slot[i].mem + k * PN_PAGE_SIZE, PN_PAGE_SIZE);
        if (h != w->slot[i].hash[k] && !(bitmap[k / 64] >> (k % 64) & 1))
            FAIL(w, "slot %u page %llu was written and is not in the log", i,
                 (unsigned long long)k);
        w->slot[i].hash[k] = h;
    }
    w->taken = w->taken * 31 + XXH3_64bits(bitmap, w->slot[i].s.size / PN_PAGE_SIZE / 8);
}

static void owe_all(struct world *w) {
    for (unsigned c = 0; c < w->cpus; c++)
        memset(w->cpu[c].stale, true, sizeof(w->cpu[c].stale));
}

static void slot_step(struct world *w) {
    unsigned i = (unsigned)below(w, 4);
    struct pn_memslot s = w->slot[i].s;
    if (!w->slot[i].in) {
        slot_put(w, i);
        if (s.flags & PN_SLOT_LOG_DIRTY)
            rehash(w, i);
        return;
    }
    switch (below(w, 4)) {
    case 0:
        if (i == 0 && !chance(w, 20))
            return;
        s.size = 0;
        pn_mmu_slot_set(w->mmu, &s);
        w->slot[i].in = false;
        break;
    case 1: /* move by some pages, or back */
        if (i == 0)
            return;
        if (w->slot[i].s.flags & PN_SLOT_LOG_DIRTY)
            harvest(w, i);
        w->slot[i].s.gpa ^= i == 1 ? 0x2000000 : 0x10000000;
        slot_put(w, i);
        break;
    default:
        w->slot[i].s.flags ^= PN_SLOT_LOG_DIRTY;
        if (w->slot[i].s.flags & PN_SLOT_LOG_DIRTY)
            rehash(w, i);
        slot_put(w, i);
    }
}

/* Absent slots come back after a while, moved ones go home. */
static void slots_settle(struct world *w) {
    static const pn_gpa at[4] = {0, 0x400000, 0x900000, 0xffff0000};
    for (unsigned i = 0; i < 4; i++)
        if (!w->slot[i].in || w->slot[i].s.gpa != at[i]) {
            if (w->slot[i].in && w->slot[i].s.flags & PN_SLOT_LOG_DIRTY)
                harvest(w, i);
            w->slot[i].s.gpa = at[i];
            slot_put(w, i);
            if (w->slot[i].s.flags & PN_SLOT_LOG_DIRTY)
                rehash(w, i);
        }
}

/* ---- Tables ---- */

static pn_gfn table_gfn(unsigned k) {
    return k < TABLES - 8 ? POOL + k : 0x410 + (k - (TABLES - 8));
}

/* Return: which table page gfn is, or TABLES. */
static unsigned table_of(pn_gfn gfn) {
    for (unsigned k = 0; k < TABLES; k++)
        if (table_gfn(k) == gfn)
            return k;
    return TABLES;
}

/* Nested tables: twelve pages here, eight in memory that moves. */
#define NTABLES 20
static pn_gfn ntable_gfn(unsigned k) {
    return k < 12 ? 2 + k : 0x440 + (k - 12);
}

/* Would a page that is a table of both kinds have A and D in two places? */
static bool apart(const struct world *w) {
    return (w->levels == 2) != (w->nlevels == 2) || w->nlevels == 3 || w->nept;
}

/* Home level of table page k, in the current format. */
static unsigned home(const struct world *w, unsigned k) {
    unsigned top = w->levels < 2 ? 4 : w->levels;
    unsigned level = k < 4 ? 5 : k < 8 ? 4 : k < 14 ? 3 : k < 24 ? 2 : 1;
    return level > top ? top : level;
}

/* A page whose home level is `level`. */
static pn_gfn page_of_level(struct world *w, unsigned level) {
    for (unsigned i = 0; i < 40; i++) {
        unsigned k = (unsigned)below(w, TABLES);
        if (home(w, k) == level)
            return table_gfn(k);
    }
    return table_gfn(0);
}

static pn_gfn data_gfn(struct world *w) {
    unsigned k = (unsigned)below(w, 100);
    if (w->nested && !apart(w) && chance(w, 8))
        return ntable_gfn((unsigned)below(w, NTABLES));
    if (k < 30)
        return table_gfn((unsigned)below(w, TABLES));
    if (k < 55)
        return 64 + below(w, 64);
    if (k < 80)
        return 0x400 + below(w, 48);
    if (k < 85)
        return 0x900 + below(w, 16);
    if (k < 93)
        /* Above 4 GiB nested tables of EPT's may lead to themselves (nest.h). */
        return 0xffff0 + below(w, w->nested && apart(w) ? 16 : 40);
    return k < 97 ? 0x5000 + below(w, 8)
                  : (1ull << (w->maxphyaddr - 12)) - 1 - below(w, 2);
}

/* Upper levels rarely deny, or nothing below them would ever be reached. */
static uint64_t flags_of(struct world *w, unsigned level) {
    bool upper = level > 1;
    uint64_t f = chance(w, upper ? 98 : 94) ? P : 0;
    f |= chance(w, upper ? 94 : 75) ? W : 0;
    f |= chance(w, upper ? 90 : 65) ? U : 0;
    f |= chance(w, 70) ? A : 0;
    f |= chance(w, 50) ? D : 0;
    f |= chance(w, 20) ? G : 0;
    if (w->levels >= 3) {
        f |= chance(w, upper ? 4 : 15) ? NX : 0;
        if (w->levels >= 4 && chance(w, 20))
            f |= below(w, 16) << 59;
    }
    return f;
}

static uint64_t gpte_of(struct world *w, unsigned level) {
    uint64_t f = flags_of(w, level), limit = w->levels == 2 ? 0xfffff : ~0ull;
    if (w->levels == 3 && f & (15ull << 59) && chance(w, 98))
        f &= ~(15ull << 59);
    if (level == 1)
        return f | (data_gfn(w) & limit) << 12;
    if (level <= 3 && chance(w, level == 2 ? 25 : 4)) {
        static const pn_gfn base[] = {0, 0x400, 0x600, 0x800, 0x5000, 0x40000};
        pn_gfn gfn = base[below(w, 6)];
        if (level == 3 || w->levels == 2)
            gfn &= level == 3 ? ~0x3ffffull : ~0x3ffull;
        f |= PS;
        if (chance(w, 2))
            f |= 1ull << 13;
        return f | gfn << 12;
    }
    if (chance(w, 3))
        return f | (data_gfn(w) & limit) << 12;
    if (chance(w, 4))
        return f | table_gfn((unsigned)below(w, TABLES)) << 12;
    if (chance(w, 1))
        f |= PS;
    return f | page_of_level(w, level - 1) << 12;
}

static unsigned index_of(struct world *w, unsigned level) {
    if (w->levels == 2) {
        static const unsigned group[] = {0, 510, 1018, 256};
        return group[below(w, level == 1 ? 3 : 4)] + (unsigned)below(w, 6);
    }
    if (level == 1)
        return (unsigned)below(w, 12) + (chance(w, 20) ? 500 : 0);
    static const unsigned upper[] = {0, 1, 256, 511};
    return upper[below(w, 4)];
}

static pn_gva any_gva(struct world *w) {
    if (chance(w, 50))
        return w->hot[below(w, HOT)] &
               (w->levels < 4 && chance(w, 95) ? 0xffffffff : ~0ull);
    uint64_t gva = below(w, 4) ? 0 : below(w, 0x1000);
    if (w->levels == 2)
        return gva | (uint64_t)index_of(w, 2) << 22 | (uint64_t)index_of(w, 1) << 12;
    if (w->levels == 0)
        return gva | (data_gfn(w) & 0xfffff) << 12;
    for (unsigned level = 1; level <= 5; level++) {
        uint64_t i = index_of(w, level);
        if (level == 3 && w->levels == 3)
            i &= 3;
        if (level <= w->levels)
            gva |= i << (12 + 9 * (level - 1));
    }
    if (w->levels >= 4) {
        unsigned top = 12 + 9 * w->levels - 1;
        if (gva >> top & 1)
            gva |= ~0ull << top;
    }
    return gva;
}

/* ---- The CPU's accesses ---- */

struct seen {
    enum pn_answer answer;
    struct pn_xlate x;
    bool hit; /* answered by the TLB */
};

static struct seen cpu_access(struct cpu *c, pn_gva gva, enum pn_access access,
                              enum pn_tlb_mode mode) {
    struct seen s = {.answer = PN_MAPPED};
    const struct pn_tlb_entry *e = &c->view.tlb[mode][gva >> 12 & (PN_TLB_ENTRIES - 1)];
    if ((e->tag[access] ^ gva) <= 4096 - 1) {
        s.hit = true;
        pn_tlb_used(&c->view, e);
        s.x.hva = (uint8_t *)e->hva + (gva & 0xfff);
        return s;
    }
    s.answer = pn_answer(pn_mmu_translate(c->v, gva, access, mode, &s.x));
    return s;
}

static unsigned pcid_of(const struct cpu *c) {
    return c->p.cr4 & CR4_PCIDE ? c->p.cr3 & 0xfff : 0;
}

/* What the guest owes for what it is about to use. */
static bool *stale_of(struct cpu *c) {
    return &c->stale[c->world][pcid_of(c)];
}
static bool is_exact(struct cpu *c) {
    return !*stale_of(c) && !(c->ncr3 && c->old[c->world]);
}

/* An access that succeeded has left A in every gpte on its way, and a store D. */
static void check_marks(struct world *w, struct cpu *c, pn_gva gva, enum pn_access access,
                        enum pn_tlb_mode mode) {
    struct walk wk;
    if (!c->v->walk.levels)
        return;
    if (stage_walk(c->v, &c->v->walk, gva, access, mode, WALK_PROBE, &wk) < 0)
        FAIL(w, "gva %#llx: the access took its own rights", (unsigned long long)gva);
    unsigned top = c->v->walk.levels == 3 ? 2 : c->v->walk.levels;
    for (unsigned level = wk.level; level <= top; level++) {
        const struct pn_memslot *s = pn_mmu_slot_find(w->mmu, wk.slot_gpa[level]);
        uint64_t want = A | (access == PN_WRITE && level == wk.level ? D : 0);
        if (s && !(s->flags & PN_SLOT_READONLY) && want & ~wk.gpte[level])
            FAIL(w, "gva %#llx access %u: level %u gpte %#llx lacks A or D",
                 (unsigned long long)gva, access, level,
                 (unsigned long long)wk.gpte[level]);
    }
}

/* EPT without A and D lets a walk read tables that it may not write. The direct walk sets no marks;
 * did this one fail to, in a table where EPT denies it? */
static bool marks_in_vain(const struct world *w, const struct cpu *c,
                          const struct pn_fault *f) {
    struct walk wk = {.fixes = 0};
    return w->nept && !w->nad && c->ncr3 && f->vector == PN_VEC_NPF &&
           f->error & PN_NPF_TABLE && f->error & PN_PF_WRITE &&
           stage_walk(c->v, &c->v->second, f->address, PN_WRITE, PN_TLB_USER, WALK_PROBE,
                      &wk) < 0;
}

/* The answer must be the one of a direct walk made just before. */
static void check_access(struct world *w, struct cpu *c, pn_gva gva,
                         enum pn_access access, enum pn_tlb_mode mode, bool exact) {
    struct pn_xlate want;
    enum pn_answer expect = pn_mmu_probe(c->v, gva, access, mode, &want);
    unsigned j = (unsigned)(gva >> 12 ^ gva >> 21) % JUMPS;
    if (exact && access == PN_FETCH && c->jump[j].gen == c->view.fetch_gen &&
        c->jump[j].gva == gva && c->jump[j].mode == mode &&
        (expect != PN_MAPPED || want.gpa != c->jump[j].gpa))
        FAIL(w, "fetch_gen kept a stale jump to gva %#llx", (unsigned long long)gva);
    struct seen s = cpu_access(c, gva, access, mode);
    if (w->strict ? expect == PN_MAPPED : s.answer == PN_MAPPED && !s.hit) {
        unsigned t = table_of((w->strict ? want.gpa : s.x.gpa) >> 12);
        w->hot[below(w, HOT)] = gva;
        if (t < TABLES && chance(w, 30))
            w->alias[t] = gva;
    }
    if (w->strict && s.answer == PN_TRACKED) /* a write of what is there */
        pn_mmu_write_phys(w->mmu, s.x.gpa, want.hva, 1);
    if (access == PN_FETCH && s.answer == PN_MAPPED && exact) {
        c->jump[j].gva = gva;
        c->jump[j].gpa = want.gpa;
        c->jump[j].gen = c->view.fetch_gen;
        c->jump[j].mode = mode;
    }
    if (!exact)
        return;
    enum pn_answer got = s.answer == PN_TRACKED ? PN_MAPPED : s.answer;
    if (got == PN_GUEST_PF && marks_in_vain(w, c, &s.x.fault))
        return;
    if (got != expect)
        FAIL(w, "gva %#llx access %u mode %u: answer %u%s, walk says %u (error %#x)",
             (unsigned long long)gva, access, mode, s.answer, s.hit ? " (TLB)" : "",
             expect, want.fault.error);
    if (expect == PN_GUEST_PF) {
        bool nested = c->ncr3 && want.fault.vector == PN_VEC_NPF;
        if (s.x.fault.error != want.fault.error || !s.x.fault.has_error ||
            s.x.fault.address != (nested ? want.fault.address : gva) ||
            s.x.fault.vector != (nested ? PN_VEC_NPF : 14))
            FAIL(w, "gva %#llx: fault %u %#x, walk says %u %#x", (unsigned long long)gva,
                 s.x.fault.vector, s.x.fault.error, want.fault.vector, want.fault.error);
        return;
    }
    check_marks(w, c, gva, access, mode);
    if (!s.hit && s.x.gpa != want.gpa)
        FAIL(w, "gva %#llx: gpa %#llx, walk says %#llx", (unsigned long long)gva,
             (unsigned long long)s.x.gpa, (unsigned long long)want.gpa);
    if (expect == PN_MAPPED && s.x.hva != want.hva)
        FAIL(w, "gva %#llx access %u mode %u: another host address%s",
             (unsigned long long)gva, access, mode, s.hit ? " (TLB)" : "");
}

static void check_all(struct world *w, struct cpu *c, pn_gva gva, bool exact) {
    unsigned first = (unsigned)below(w, 9);
    for (unsigned k = 0; k < 9; k++)
        check_access(w, c, gva, (first + k) % 3, (first + k) / 3 % 3, exact);
}

/* Store as translated code would: through the TLB, or by what the miss says. */
static bool cpu_store(struct world *w, struct cpu *c, pn_gva gva, const void *value,
                      unsigned size, enum pn_tlb_mode mode) {
    struct seen s = cpu_access(c, gva, PN_WRITE, mode);
    /* Now and then it is a store that fills no tables. */
    if (s.answer == PN_TRACKED && gva % 40 == 0 && pn_mmu_unprotect(c->v, s.x.gpa))
        s = cpu_access(c, gva, PN_WRITE, mode);
    if (s.answer == PN_MAPPED) {
        memcpy(s.x.hva, value, size);
        return true;
    }
    if (s.answer != PN_TRACKED)
        return false;
    if (pn_mmu_write_phys(w->mmu, s.x.gpa, value, size) != size)
        FAIL(w, "tracked write to %#llx was refused", (unsigned long long)s.x.gpa);
    return true;
}

#include "nest.h"

/* ---- Steps ---- */

/* Write a gpte, through some mapping of its page if one is found. */
static void write_gpte(struct world *w, struct cpu *c, pn_gpa gpa, uint64_t value) {
    unsigned size = w->levels == 2 ? 4 : 8, t = table_of(gpa >> 12);
    struct pn_xlate x;
    owe_all(w);
    if (w->nested && ntable_of(gpa >> 12) < NTABLES)
        own_all(w);
    for (unsigned i = 0; i < 12; i++) {
        pn_gva gva = !i && t < TABLES ? w->alias[t] : any_gva(w);
        gva = (gva & PN_PAGE_MASK) | (gpa & 0xfff);
        if (pn_mmu_probe(c->v, gva, PN_WRITE, PN_TLB_SUPER_AC, &x) == PN_MAPPED &&
            x.gpa == gpa) {
            cpu_store(w, c, gva, &value, size, PN_TLB_SUPER_AC);
            return;
        }
    }
    pn_mmu_write_phys(w->mmu, gpa, &value, size);
}

static void edit_step(struct world *w, struct cpu *c) {
    unsigned t = (unsigned)below(w, TABLES), level = home(w, t);
    pn_gpa gpa = table_gfn(t) << 12 | index_of(w, level) * (w->levels == 2 ? 4 : 8);
    uint64_t value = gpte_of(w, level);
    if (chance(w, 50)) { /* only some bits of what is there */
        uint64_t old = 0;
        pn_mmu_read_phys(w->mmu, gpa, &old, w->levels == 2 ? 4 : 8);
        static const uint64_t bit[] = {P,     W,  U,  A,          D,
                                       A | D, PS, NX, 1ull << 59, 1ull << 60};
        value = old ^ bit[below(w, w->levels == 2 ? 7 : w->levels == 3 ? 8 : 10)];
    }
    write_gpte(w, c, gpa, value);
}

/* Edit the leaf gpte of one gva, invalidate it, look. */
static void invlpg_step(struct world *w, struct cpu *c) {
    struct walk wk;
    pn_gva gva = any_gva(w);
    int rc =
        stage_walk(c->v, &c->v->walk, gva, PN_READ, PN_TLB_SUPER_AC, WALK_PROBE, &wk);
    if (c->v->walk.levels && wk.level < 3 &&
        (rc == 0 || (wk.level == 1 && wk.end != WALK_BELOW)))
        write_gpte(w, c, wk.slot_gpa[wk.level], gpte_of(w, wk.level));
    if (c->p.cr4 & CR4_PCIDE && chance(w, 50))
        pn_mmu_invpcid(c->v, 0, (uint16_t)pcid_of(c), gva);
    else
        pn_mmu_invlpg(c->v, gva);
    check_all(w, c, gva, !(c->ncr3 && c->old[c->world]));
}

static void odd_write(struct world *w, struct cpu *c) {
    uint8_t junk[64];
    for (unsigned i = 0; i < sizeof(junk); i++)
        junk[i] = chance(w, 90) ? 0x63 : (uint8_t)rnd(&w->rng);
    pn_gpa gpa =
        table_gfn((unsigned)below(w, TABLES)) << 12 | index_of(w, 1) * 8 | below(w, 8);
    unsigned size = 1 + (unsigned)below(w, sizeof(junk));
    if ((gpa & 0xfff) + size > 4096)
        size = 4096 - (gpa & 0xfff);
    owe_all(w);
    pn_mmu_write_phys(w->mmu, gpa, junk, size);
}

static void store_step(struct world *w, struct cpu *c) {
    pn_gva gva = any_gva(w) & ~7ull;
    struct pn_xlate x;
    enum pn_tlb_mode mode = below(w, 3);
    enum pn_answer o = pn_mmu_probe(c->v, gva, PN_WRITE, mode, &x);
    uint64_t value = rnd(&w->rng);
    if (!is_exact(c))
        return;
    unsigned t = o == PN_MAPPED ? table_of(x.gpa >> 12) : TABLES;
    if (t < TABLES)
        value = gpte_of(w, home(w, t));
    /* A large gpte that lost its PS makes a table of a frame beyond the pool. */
    if (t < TABLES || (o == PN_MAPPED && (x.gpa >> 12 >= 64 || w->nested)))
        owe_all(w);
    if (w->nested && o == PN_MAPPED)
        value = nest_stored(w, x.gpa, value);
    if (cpu_store(w, c, gva, &value, w->levels == 2 ? 4 : 8, mode) == (o == PN_MAPPED))
        return;
    struct seen s = cpu_access(c, gva, PN_WRITE, mode);
    if (o != PN_MAPPED || s.answer != PN_GUEST_PF || !marks_in_vain(w, c, &s.x.fault))
        FAIL(w, "store to gva %#llx", (unsigned long long)gva);
}

static void new_pdptes(struct world *w, struct cpu *c) {
    for (unsigned i = 0; i < 4; i++)
        c->p.pdpte[i] = chance(w, 85) ? page_of_level(w, 2) << 12 | P : 0;
}

static void cr3_step(struct world *w, struct cpu *c) {
    bool pcide = c->p.cr4 & CR4_PCIDE, noflush = chance(w, 40);
    unsigned top = w->levels == 3 ? 3 : w->levels;
    uint64_t cr3 = (uint64_t)(w->levels ? page_of_level(w, top) : 0) << 12;
    if (pcide)
        cr3 |= below(w, PCIDS);
    if (w->levels == 3 && chance(w, 50))
        new_pdptes(w, c);
    c->p.cr3 = cr3;
    pn_mmu_set_cr3(c->v, cr3, noflush, c->p.pdpte);
    if (!pcide || !noflush)
        *stale_of(c) = false;
}

static void invpcid_step(struct world *w, struct cpu *c) {
    unsigned type = 1 + (unsigned)below(w, 3);
    uint16_t pcid = c->p.cr4 & CR4_PCIDE ? (uint16_t)below(w, PCIDS) : 0;
    pn_mmu_invpcid(c->v, type, pcid, 0);
    for (unsigned k = 0; k < PCIDS; k++)
        if (type >= 2 || k == pcid)
            c->stale[c->world][k] = false;
}

static struct pn_paging random_paging(struct world *w, const struct cpu *c) {
    struct pn_paging p = fixture_paging(w->levels, c->p.cr3);
    p.cr0 &= ~(chance(w, 40) ? 1ull << 16 : 0);
    if (w->levels == 2 && chance(w, 15))
        p.cr4 &= ~CR4_PSE;
    if (w->levels >= 3 && chance(w, 8))
        p.efer &= ~(1ull << 11);
    static const unsigned bits[] = {20, 21, 22, 24, 7};
    for (unsigned i = 0; i < 5; i++)
        p.cr4 |= chance(w, 40) ? 1ull << bits[i] : 0;
    if (w->levels >= 4 && chance(w, 70))
        p.cr4 |= CR4_PCIDE;
    else
        p.cr3 &= PN_PAGE_MASK;
    memcpy(p.pdpte, c->p.pdpte, sizeof(p.pdpte));
    p.pkru = c->p.pkru;
    p.pkrs = c->p.pkrs;
    return p;
}

static void take_paging(struct world *w, struct cpu *c) {
    struct pn_paging p = random_paging(w, c);
    /* Control registers written with what they hold flush nothing. */
    if (p.cr0 != c->p.cr0 || p.cr3 != c->p.cr3 || p.cr4 != c->p.cr4 ||
        p.efer != c->p.efer || memcmp(p.pdpte, c->p.pdpte, sizeof(p.pdpte)))
        memset(c->stale[c->world], 0, sizeof(c->stale[0]));
    c->p = p;
    pn_mmu_set_paging(c->v, &p);
}

static void pkr_step(struct world *w, struct cpu *c) {
    c->p.pkru = chance(w, 30) ? 0 : (uint32_t)rnd(&w->rng) & (uint32_t)rnd(&w->rng);
    c->p.pkrs = chance(w, 30) ? 0 : (uint32_t)rnd(&w->rng) & (uint32_t)rnd(&w->rng);
    pn_mmu_set_pkr(c->v, c->p.pkru, c->p.pkrs);
}

/* All vCPUs go to another paging mode, with tables in its format. */
static void mode_step(struct world *w) {
    static const unsigned modes[] = {0, 2, 2, 3, 3, 4, 4, 4, 5, 5};
    w->levels = modes[below(w, 10)];
    if (w->nested)
        nest_choose(w);
    for (unsigned i = 0; i < TABLES && w->levels; i++) {
        static const uint8_t none[PN_PAGE_SIZE];
        if (w->nested && w->nept) /* no entry leads to nested tables */
            pn_mmu_write_phys(w->mmu, table_gfn(i) << 12, none, sizeof(none));
        unsigned level = home(w, i), size = w->levels == 2 ? 4 : 8;
        for (unsigned k = 0; k < 40; k++) {
            uint64_t v = gpte_of(w, level);
            pn_mmu_write_phys(w->mmu, table_gfn(i) << 12 | index_of(w, level) * size, &v,
                              size);
        }
    }
    for (unsigned i = 0; i < w->cpus; i++) {
        struct cpu *c = &w->cpu[i];
        c->p.cr3 = w->levels ? page_of_level(w, w->levels) << 12 : 0;
        new_pdptes(w, c);
        take_paging(w, c);
    }
    if (w->nested)
        nest_mode(w);
}

static void track_step(struct world *w) {
    unsigned gfn = POOL + (unsigned)below(w, 64 - POOL);
    bool *t = &w->tracked[gfn];
    if (*t)
        pn_mmu_track_remove(w->mmu, gfn);
    else if (pn_mmu_track_add(w->mmu, gfn) < 0)
        return;
    *t = !*t;
}

static void on_track(void *opaque, pn_gpa gpa, size_t size) {
    struct world *w = opaque;
    if (gpa >> 12 >= 64 || !w->tracked[gpa >> 12])
        FAIL(w, "told of a write to %#llx, which is not tracked",
             (unsigned long long)gpa);
    w->told = (w->told * 31 + gpa) * 31 + size;
}

static void settle(struct world *w, struct cpu *c) {
    if (c->ncr3 && c->old[c->world])
        nest_flush(w, c);
    if (*stale_of(c)) {
        if (w->levels >= 2 && w->levels != 3 && chance(w, 40))
            c->p.cr3 = page_of_level(w, w->levels) << 12 | pcid_of(c);
        pn_mmu_set_cr3(c->v, c->p.cr3, false, c->p.pdpte);
        *stale_of(c) = false;
    }
}

static void one_step(struct world *w) {
    struct cpu *c = &w->cpu[below(w, w->cpus)];
    unsigned k = (unsigned)below(w, 1000);
    if (w->strict)
        settle(w, c);
    if (k < 200)
        edit_step(w, c);
    else if (k < 260)
        invlpg_step(w, c);
    else if (k < 270)
        odd_write(w, c);
    else if (k < 470)
        store_step(w, c);
    else if (k < 540)
        cr3_step(w, c);
    else if (k < 560)
        invpcid_step(w, c);
    else if (k < 580)
        take_paging(w, c);
    else if (k < 582)
        mode_step(w);
    else if (k < 592)
        slot_step(w);
    else if (k < 602)
        harvest(w, (unsigned)below(w, 4));
    else if (k < 604)
        pn_mmu_zap_all(w->mmu);
    else if (k < 614)
        pn_mmu_drop_tlb(c->v);
    else if (k < 630)
        pkr_step(w, c);
    else if (k < 650)
        track_step(w);
    else if (k < 800 && w->nested)
        nest_step(w, c);
    if (chance(w, 3))
        slots_settle(w);
    if (chance(w, 60) || w->strict)
        settle(w, c);
    bool exact = is_exact(c);
    for (unsigned i = 0; i < 2; i++)
        check_access(w, c, any_gva(w), below(w, 3), below(w, 3), exact);
    if (chance(w, 10))
        check_all(w, c, any_gva(w), exact);
}

static void check_counters(struct world *w) {
    for (unsigned i = 0; i < w->cpus; i++) {
        const uint64_t *v = w->cpu[i].stats.v;
        if (v[PN_STAT_pf_taken] != v[PN_STAT_pf_fixed] + v[PN_STAT_pf_guest] +
                                       v[PN_STAT_pf_mmio] + v[PN_STAT_pf_tracked] +
                                       v[PN_STAT_pf_dirty_log] + v[PN_STAT_pf_nested])
            FAIL(w, "a fault has two outcomes or none");
    }
}

/* PN_SEED=n asks for one seed, of any number: of a loop of `runs` one makes it. Return: this one is
 * to be made, as *run. */
static bool run_is_wanted(unsigned *run, unsigned runs) {
    const char *only = getenv("PN_SEED");
    unsigned wanted = only ? (unsigned)strtoul(only, NULL, 0) - 1 : *run;
    bool is = wanted % runs == *run;
    *run = wanted;
    return is;
}

/* The MMU, its vCPUs, memory and first tables. seed, cpus, maxphyaddr and strict are set.
 */
static void world_begin(struct world *w, struct pn_mmu_config *cfg) {
    w->rng = w->seed * 0x9e3779b97f4a7c15ull;
    cfg->on_track = on_track;
    cfg->opaque = w;
    cfg->maxphyaddr = w->maxphyaddr;
    ck_assert_int_eq(pn_mmu_create(cfg, &w->mmu), 0);
    w->mmu->many = w->seed % 3 ? 2 : DIRTY_MANY; /* the slots are small */
    for (unsigned i = 0; i < w->cpus; i++)
        ck_assert_int_eq(pn_mmu_vcpu_create(w->mmu, &w->cpu[i].view, &w->cpu[i].stats,
                                            NULL, &w->cpu[i].v),
                         0);
    slots_init(w);
    mode_step(w);
}

static void world_end(struct world *w) {
    for (unsigned i = 0; i < 4; i++)
        harvest(w, i);
    check_counters(w);
    for (unsigned i = 0; getenv("PN_STATS") && i < PN_STAT_COUNT; i++)
        if (w->cpu[0].stats.v[i])
            fprintf(stderr, "%llu %s %llu\n", (unsigned long long)w->seed,
                    pn_stat_name(i), (unsigned long long)w->cpu[0].stats.v[i]);
    pn_mmu_destroy(w->mmu);
    for (unsigned i = 0; i < 4; i++) {
        free(w->slot[i].mem);
        free(w->slot[i].hash);
    }
}
